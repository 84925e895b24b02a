//! In and out.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use http::{Extensions, HeaderMap, StatusCode, header};

use super::{
    fields::{Asked, Sent},
    refused, with,
};
use crate::{
    App, assets,
    auth::{self, Login, Who},
    view::{
        frame,
        words::{count, span},
    },
};

pub(crate) async fn form(
    State(app): State<Arc<App>>,
    Asked(asked): Asked,
    headers: HeaderMap,
    origin: Origin,
) -> Response {
    let next = auth::local(asked.get("next"));
    if app.auth.who(auth::peer(&origin.0), &headers).is_some() {
        return Redirect::to(next).into_response();
    }
    if app.settings.token.is_none() {
        return refused(StatusCode::FORBIDDEN, "This page is reached through a proxy that says who you are.");
    }
    with(StatusCode::OK, frame::login(next, None))
}

pub(crate) async fn login(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    origin: Origin,
    Sent(offered): Sent,
) -> Response {
    if !app.auth.is_from_our_page(&headers) {
        return refused(StatusCode::FORBIDDEN, "This login did not come from this page.");
    }
    let next = auth::local(offered.get("next"));
    let from = app.auth.client(auth::peer(&origin.0), &headers);
    match app.auth.login(from, offered.get("token")) {
        Login::In(cookie) => (AppendHeaders([(header::SET_COOKIE, cookie)]), Redirect::to(next)).into_response(),
        Login::Wrong => with(StatusCode::UNAUTHORIZED, frame::login(next, Some("That is not the token."))),
        Login::Wait(wait) => {
            let seconds = wait.as_secs().max(1);
            let said = format!(
                "Too many wrong tokens: {} within a minute. The next try counts in {}.",
                count(auth::WRONG_MAX as u64, "try").replace("trys", "tries"),
                span(seconds as f64)
            );
            let page = with(StatusCode::TOO_MANY_REQUESTS, frame::login(next, Some(&said)));
            ([(header::RETRY_AFTER, seconds.to_string())], page).into_response()
        }
    }
}

pub(crate) async fn logout(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Sent(form): Sent,
) -> Response {
    if !app.auth.is_from_our_page(&headers) || !app.auth.is_word(&who, form.get("word")) {
        return refused(StatusCode::FORBIDDEN, "This did not come from a page of ours.");
    }
    (AppendHeaders([(header::SET_COOKIE, app.auth.logout(&who))]), Redirect::to("/login")).into_response()
}

pub(crate) async fn asset(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    origin: Origin,
) -> Response {
    let inside = app.auth.who(auth::peer(&origin.0), &headers).is_some();
    if inside || assets::is_open(&name) { assets::answer(&name) } else { StatusCode::UNAUTHORIZED.into_response() }
}

/// What the server knows of where a request comes from.
pub struct Origin(Extensions);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Origin {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.clone()))
    }
}
