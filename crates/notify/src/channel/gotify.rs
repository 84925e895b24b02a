//! Gotify (gotify.net/api-docs, `POST /message`).

use serde_json::json;

use super::{SendError, Taken, id_of, join, secret};
use crate::{
    http::Http,
    message::{Message, Severity},
    settings::GotifySettings,
    text::cut_bytes,
};

/// Gotify sets no limit; a phone does.
const TEXT_MAX: usize = 16_000;

pub async fn send(http: &Http, settings: &GotifySettings, message: &Message) -> Taken {
    let token = secret("token", &settings.token)?;
    let words = [message.body.as_str(), message.log.trim_end()].join("\n");
    let value = json!({
        "title": format!("{} ({})", message.title, message.host),
        "message": cut_bytes(words.trim(), TEXT_MAX),
        "priority": match message.severity { Severity::Info => 2, Severity::Warning => 5, Severity::Critical => 8 },
    });
    let headers = [("x-gotify-key", token.expose().to_owned())];
    let answer = http.post_json(&join(&settings.url, "message"), &headers, &value).await?;
    if !answer.status.is_success() {
        return Err(answer.refused().without(token.expose()));
    }
    match id_of(&answer.json()) {
        id if id.is_empty() => Err(SendError::later("what answered is no Gotify server: there is no id in its answer")),
        id => Ok((id, None)),
    }
}
