//! What changes something: only from our own forms, and never on a page that only shows.

use std::{sync::Arc, time::Duration};

use axum::{Extension, extract::State, response::Response};
use http::{HeaderMap, StatusCode};

use super::{
    asked_for,
    fields::{Fields, Sent},
    files::Place,
    refused, shown, trouble,
};
use crate::{
    App,
    auth::Who,
    model::{Action, Answer, ErrorKind, SourceError},
    view::{self, Here, runs::named},
};

/// A folder may hold very many files.
const RESTORE_PATIENCE: Duration = Duration::from_secs(600);
const ACT_PATIENCE: Duration = Duration::from_secs(60);

/// Why it is not done, if it is not.
fn stopped(app: &App, who: &Who, headers: &HeaderMap, word: &str) -> Option<Response> {
    if !app.auth.is_from_our_page(headers) || !app.auth.is_word(who, word) {
        let said = "This did not come from a page of ours, or from one that is too old. Nothing was done: load the page again.";
        return Some(refused(StatusCode::FORBIDDEN, said));
    }
    app.settings.read_only.then(|| refused(StatusCode::FORBIDDEN, "This page only shows. Nothing was done."))
}

/// Goes on to its end whatever becomes of the browser.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = Answer<T>> + Send + 'static) -> Answer<T> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(SourceError::new(ErrorKind::Failed, error.to_string())))
}

pub(crate) async fn restore(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Sent(form): Sent,
) -> Response {
    if let Some(response) = stopped(&app, &who, &headers, form.get("word")) {
        return response;
    }
    let place = Place::of(&form);
    let (snapshot, path) = match place.read() {
        Ok((snapshot, path)) => (snapshot.to_owned(), path),
        Err(error) => return trouble(&app, &who, Here::Snapshots, &error),
    };
    let work = {
        let (app, snapshot, path) = (app.clone(), snapshot.clone(), path.clone());
        to_its_end(async move { app.source.restore(&snapshot, &path).await })
    };
    match asked_for(RESTORE_PATIENCE, work).await {
        Ok(at) => {
            tracing::info!(by = who.name().unwrap_or("token"), %snapshot, "brought back from the page");
            shown(view::snapshots::restored(&app.frame(&who, Here::Snapshots), &snapshot, &path, &at))
        }
        Err(error) => trouble(&app, &who, Here::Snapshots, &error),
    }
}

/// What is asked for, its title, and where to go back to.
fn meant(form: &Fields) -> Option<(Action, String, &'static str, Here)> {
    let get = |name: &str| form.get(name).to_owned();
    Some(match form.get("do") {
        "run-now" => {
            let title = format!("Started: {}", named(form.get("kind"), form.get("subject")));
            (Action::RunNow { kind: get("kind"), subject: get("subject") }, title, "/runs", Here::Runs)
        }
        "flush" => (Action::Flush, "Sent to the bucket".into(), "/runs", Here::Runs),
        "hush" => {
            let days = form.get("days").parse().ok().filter(|days| (1..=90).contains(days))?;
            let hush = Action::Hush { key: get("key"), subject: get("subject"), days };
            (hush, "Hushed".into(), "/findings", Here::Findings)
        }
        "alert-test" => (Action::AlertTest, "Test messages".into(), "/findings", Here::Findings),
        _ => return None,
    })
}

pub(crate) async fn act(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Sent(form): Sent,
) -> Response {
    if let Some(response) = stopped(&app, &who, &headers, form.get("word")) {
        return response;
    }
    let Some((action, title, back, here)) = meant(&form) else {
        let unknown = SourceError::new(ErrorKind::Refused, "this page can't do that").next("load the page again");
        return trouble(&app, &who, Here::Overview, &unknown);
    };
    tracing::info!(by = who.name().unwrap_or("token"), ?action, "asked for on the page");
    let work = {
        let app = app.clone();
        to_its_end(async move { app.source.act(action).await })
    };
    match asked_for(ACT_PATIENCE, work).await {
        Ok(said) => shown(view::findings::done(&app.frame(&who, here), &title, &said, back)),
        Err(error) => trouble(&app, &who, here, &error),
    }
}
