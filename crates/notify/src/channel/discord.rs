//! A webhook of Discord (discord.com/developers/docs/resources/webhook, "Execute Webhook").

use http::Method;
use serde_json::json;

use super::{SendError, Taken, id_of, secret};
use crate::{
    http::{Form, Http},
    message::Message,
    settings::HookSettings,
    text::cut_utf16,
};

/// The longest content, characters; counted in UTF-16 units to be on the safe side.
const TEXT_MAX: usize = 2000;

/// A log as a block. A fence in it would end it, so its backticks become letters that look alike.
pub(super) fn fenced(log: &str) -> String {
    format!("\n```\n{}\n```", log.replace('`', "\u{2cb}"))
}

pub async fn send(http: &Http, settings: &HookSettings, message: &Message) -> Taken {
    let hook = secret("hook", &settings.hook)?;
    let clean = |error: SendError| error.without(hook.expose());
    let words = cut_utf16(&message.plain(), TEXT_MAX / 2);
    let log = message.log.trim_end();
    let room = TEXT_MAX.saturating_sub(words.encode_utf16().count() + fenced("").encode_utf16().count());
    let cut = cut_utf16(log, room);
    let content = if log.is_empty() { words } else { words + &fenced(&cut) };
    let payload = json!({ "content": content, "allowed_mentions": { "parse": [] } });
    let joint = if hook.expose().contains('?') { '&' } else { '?' };
    // With `wait` the answer tells that the message was made, not just that it was heard.
    let url = format!("{}{joint}wait=true", hook.expose());
    let answer = if cut.len() < log.len() {
        let form = Form::new(&message.id).field("payload_json", &payload.to_string());
        let (kind, body) = form.file("files[0]", "log.txt", log).finish();
        http.send(Method::POST, &url, &[("content-type", kind)], body).await
    } else {
        http.post_json(&url, &[], &payload).await
    };
    let answer = answer.map_err(clean)?;
    if answer.status.is_success() {
        return Ok((id_of(&answer.json()), None));
    }
    let after = answer.json()["retry_after"].as_f64();
    let refused = match (answer.refused(), after) {
        (SendError::Later { why, .. }, Some(seconds)) => {
            SendError::Later { why, after: std::time::Duration::try_from_secs_f64(seconds).ok() }
        }
        (other, _) => other,
    };
    Err(clean(refused))
}
