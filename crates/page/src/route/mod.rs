//! Addresses, and what each answers.

mod act;
mod enter;
pub(crate) mod fields;
mod files;
pub(crate) mod look;
mod machines;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::{Method, StatusCode, header};
use maud::{Markup, html};

use crate::{
    App,
    auth::{self, Who},
    live,
    model::{Answer, ErrorKind, PATIENCE, SourceError},
    secure,
    view::{Frame, Here, Tell, frame, words::encoded},
};

/// No form of ours is longer, bytes.
const FORM_BYTES_MAX: usize = 16 << 10;

pub(crate) fn router(app: Arc<App>) -> Router {
    let inside = Router::new()
        .route("/", get(look::overview))
        .route("/findings", get(look::findings))
        .route("/copies", get(look::copies))
        .route("/runs", get(look::runs))
        .route("/runs/{id}", get(look::run))
        .route("/growth", get(look::growth))
        .route("/snapshots", get(files::snapshots))
        .route("/browse", get(files::browse))
        .route("/download", get(files::download))
        .route("/drills", get(look::drills))
        .route("/events", get(live::events))
        .route("/restore", post(act::restore))
        .route("/act", post(act::act))
        .route("/logout", post(enter::logout))
        .fallback(nothing)
        .layer(middleware::from_fn_with_state(app.clone(), guard));
    Router::new()
        .route("/login", get(enter::form).post(enter::login))
        .route("/assets/{name}", get(enter::asset))
        .route("/healthz", get(machines::health))
        .route("/metrics", get(machines::metrics))
        .merge(inside)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), secure::names))
        .layer(middleware::from_fn(secure::headers))
        .with_state(app)
}

/// Lets in who has come in. Who has not learns nothing, not even which addresses there are.
async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let Some(who) = app.auth.who(auth::peer(request.extensions()), request.headers()) else {
        let page = request.method() == Method::GET
            && request.uri().path() != "/events"
            && request.headers().get("sec-fetch-dest").is_none_or(|to| to == "document");
        if !page {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let wanted = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let to = if wanted == "/" { "/login".to_owned() } else { format!("/login?next={}", encoded(wanted)) };
        return Redirect::to(&to).into_response();
    };
    request.extensions_mut().insert(who);
    next.run(request).await
}

async fn nothing(State(app): State<Arc<App>>, Extension(who): Extension<Who>) -> Response {
    let missing =
        SourceError::new(ErrorKind::Missing, "there is no such page").meaning("").next("begin with the overview");
    trouble(&app, &who, Here::Overview, &missing)
}

impl App {
    pub(crate) fn frame(&self, who: &Who, here: Here) -> Frame {
        Frame {
            here,
            tell: Tell::new(&self.settings.zone),
            word: self.auth.word(who),
            person: who.name().map(str::to_owned),
            read_only: self.settings.read_only,
        }
    }
}

/// What a source answers, or that it takes too long.
pub(crate) async fn asked<T>(work: impl Future<Output = Answer<T>>) -> Answer<T> {
    asked_for(PATIENCE, work).await
}

pub(crate) async fn asked_for<T>(patience: Duration, work: impl Future<Output = Answer<T>>) -> Answer<T> {
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| {
        Err(SourceError::new(ErrorKind::Unavailable, "the library did not answer in time")
            .meaning("what was asked for may still be done; nothing is lost by waiting")
            .next("try again in a minute; the overview tells whether the store is in trouble"))
    })
}

pub(crate) fn shown(page: Markup) -> Response {
    with(StatusCode::OK, page)
}

pub(crate) fn with(status: StatusCode, page: Markup) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.into_string()).into_response()
}

/// Trouble as a page: what happened, what it means, what to do.
pub(crate) fn trouble(app: &App, who: &Who, here: Here, error: &SourceError) -> Response {
    let status = match error.kind {
        ErrorKind::Missing => StatusCode::NOT_FOUND,
        ErrorKind::Refused => StatusCode::CONFLICT,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let content = html! {
        h1 { "That did not work" }
        p class="said bad" role="alert" { (crate::view::signs::shape("bad")) " " (error.what) }
        @if !error.meaning.is_empty() { h2 { "What it means" } p { (error.meaning) } }
        @if !error.next.is_empty() { h2 { "What to do" } p { (error.next) } }
        p { a href="/" { "To the overview" } }
    };
    with(status, app.frame(who, here).page("That did not work", &[], &content))
}

/// A refusal to who is not on a page of ours.
pub(crate) fn refused(status: StatusCode, said: &str) -> Response {
    let content = html! {
        h1 { "Refused" }
        p role="alert" { (said) }
        p { a href="/" { "To the overview" } }
    };
    with(status, frame::bare("Refused", &content))
}
