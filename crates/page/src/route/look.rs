//! Pages that only show.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};

use super::{
    asked,
    fields::{Asked, Fields},
    shown, trouble,
};
use crate::{
    App,
    auth::Who,
    model::{ErrorKind, RunFilter, SourceError},
    view::{self, Here},
};

/// Runs on a page: the newest.
const RUNS_MAX: usize = 500;

pub(crate) async fn overview(State(app): State<Arc<App>>, Extension(who): Extension<Who>) -> Response {
    match asked(app.source.overview()).await {
        Ok(overview) => shown(view::overview::page(&app.frame(&who, Here::Overview), &overview)),
        Err(error) => trouble(&app, &who, Here::Overview, &error),
    }
}

pub(crate) async fn findings(State(app): State<Arc<App>>, Extension(who): Extension<Who>) -> Response {
    match asked(app.source.overview()).await {
        Ok(overview) => shown(view::findings::page(&app.frame(&who, Here::Findings), &overview)),
        Err(error) => trouble(&app, &who, Here::Findings, &error),
    }
}

pub(crate) async fn copies(State(app): State<Arc<App>>, Extension(who): Extension<Who>) -> Response {
    match asked(app.source.overview()).await {
        Ok(overview) => shown(view::copies::page(&app.frame(&who, Here::Copies), &overview)),
        Err(error) => trouble(&app, &who, Here::Copies, &error),
    }
}

/// Which runs a page shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) kind: String,
    pub(crate) span: String,
}

impl Wanted {
    pub(crate) fn of(asked: &Fields) -> Self {
        Self { kind: asked.get("kind").to_owned(), span: asked.get("span").to_owned() }
    }

    pub(crate) fn filter(&self, now: i64) -> RunFilter {
        RunFilter {
            kind: (!self.kind.is_empty()).then(|| self.kind.clone()),
            since: Some(now - view::runs::seconds_of(&self.span)),
            before: None,
            limit: RUNS_MAX,
        }
    }
}

pub(crate) async fn runs(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    Asked(asked_for): Asked,
) -> Response {
    let wanted = Wanted::of(&asked_for);
    let frame = app.frame(&who, Here::Runs);
    let filter = wanted.filter(frame.tell.now);
    let everything = RunFilter { kind: None, ..filter.clone() };
    let gathered = asked(async {
        let runs = app.source.runs(filter.clone()).await?;
        let mut kinds: Vec<String> = app.source.runs(everything).await?.into_iter().map(|run| run.kind).collect();
        kinds.extend(filter.kind.clone());
        kinds.sort_unstable();
        kinds.dedup();
        Ok((app.source.overview().await?, runs, kinds))
    });
    match gathered.await {
        Ok((overview, runs, kinds)) => {
            let known = view::runs::SPANS.iter().any(|(word, ..)| *word == wanted.span);
            let span = if known { wanted.span.as_str() } else { "week" };
            shown(view::runs::page(&frame, &overview, &runs, &filter, span, &kinds))
        }
        Err(error) => trouble(&app, &who, Here::Runs, &error),
    }
}

pub(crate) async fn run(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    Path(id): Path<String>,
) -> Response {
    let Ok(id) = id.parse::<i64>() else {
        let missing = SourceError::new(ErrorKind::Missing, "there is no such run").meaning("");
        return trouble(&app, &who, Here::Runs, &missing);
    };
    let gathered = asked(async {
        let log = app.source.run_log(id).await?;
        let runs = app.source.runs(RunFilter { limit: RUNS_MAX, ..RunFilter::default() }).await?;
        Ok((runs.into_iter().find(|run| run.id == id), log))
    });
    match gathered.await {
        Ok((run, log)) => shown(view::runs::one(&app.frame(&who, Here::Runs), run.as_ref(), id, &log)),
        Err(error) => trouble(&app, &who, Here::Runs, &error),
    }
}

pub(crate) async fn growth(State(app): State<Arc<App>>, Extension(who): Extension<Who>) -> Response {
    match asked(app.source.growth()).await {
        Ok(points) => shown(view::growth::page(&app.frame(&who, Here::Growth), &points)),
        Err(error) => trouble(&app, &who, Here::Growth, &error),
    }
}

pub(crate) async fn drills(State(app): State<Arc<App>>, Extension(who): Extension<Who>) -> Response {
    match asked(app.source.drills()).await {
        Ok(drills) => shown(view::drills::page(&app.frame(&who, Here::Drills), &drills)),
        Err(error) => trouble(&app, &who, Here::Drills, &error),
    }
}
