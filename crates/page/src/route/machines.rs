//! What other programs ask for.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

use super::asked;
use crate::{App, auth, metrics};

/// Whether the keeper is alive, and nothing else.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    let alive = tokio::time::timeout(std::time::Duration::from_secs(5), app.source.alive()).await;
    if alive == Ok(true) {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ok\n").into_response()
    }
}

pub(crate) async fn metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    if !may_know(&app, &request) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response();
    }
    drop(request);
    match asked(metrics::gathered(app.source.as_ref())).await {
        Ok(all) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&all)).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// Whoever has the token may call us by any name; a browser may not.
fn may_know(app: &App, request: &Request) -> bool {
    let person = || app.auth.who(auth::peer(request.extensions()), request.headers()).is_some();
    app.auth.may_scrape(request.headers()) || (app.auth.is_our_name(request.headers()) && person())
}
