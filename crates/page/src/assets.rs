//! Style, script and sign: a file each, compiled in.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::auth::sha256;

/// Names, kinds and contents; whether they are needed before the login.
const ALL: [(&str, &str, &str, bool); 3] = [
    ("page.css", "text/css; charset=utf-8", include_str!("../assets/page.css"), true),
    ("page.js", "text/javascript; charset=utf-8", include_str!("../assets/page.js"), false),
    ("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg"), true),
];

/// Changes with them, so that browsers may keep what they have.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let all: String = ALL.iter().map(|(_, _, text, _)| *text).collect();
    data_encoding::HEXLOWER.encode(&sha256(all.as_bytes())[..8])
});

pub(crate) fn address(name: &str) -> String {
    format!("/assets/{name}?v={}", *VERSION)
}

/// Whether somebody who is not logged in may have it.
pub(crate) fn is_open(name: &str) -> bool {
    ALL.iter().any(|(known, _, _, open)| *known == name && *open)
}

pub(crate) fn answer(name: &str) -> Response {
    let Some((_, kind, text, _)) = ALL.iter().find(|(known, ..)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    ([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "private, max-age=604800, immutable")], *text)
        .into_response()
}
