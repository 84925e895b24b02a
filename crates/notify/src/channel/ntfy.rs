//! ntfy (docs.ntfy.sh/publish, "Publish as JSON"). As JSON because headers hold no umlauts.

use http::Method;
use serde_json::json;

use super::{SendError, Taken, id_of, join, secret};
use crate::{
    http::Http,
    message::{Message, Severity},
    settings::NtfySettings,
    text::cut_bytes,
};

/// Above 4096 bytes a server makes an attachment of the message, where it allows any.
const TEXT_MAX: usize = 4000;

pub async fn send(http: &Http, settings: &NtfySettings, message: &Message) -> Taken {
    let hidden = match (&settings.topic, settings.topic_secret.is_set()) {
        (None, _) => Some(secret("topic_secret", &settings.topic_secret)?),
        (Some(_), false) => None,
        (Some(_), true) => return Err(SendError::never("only one of topic and topic_secret can be set")),
    };
    let topic = hidden.as_ref().map(|topic| topic.expose()).or(settings.topic.as_deref()).unwrap_or_default();
    let mut headers = Vec::new();
    if settings.token.is_set() {
        headers.push(("authorization", format!("Bearer {}", secret("token", &settings.token)?.expose())));
    }
    let words = [message.body.as_str(), message.log.trim_end()].join("\n");
    let text = cut_bytes(words.trim(), TEXT_MAX);
    let value = json!({
        "topic": topic,
        "title": format!("{} ({})", message.title, message.host),
        "message": if text.is_empty() { &message.title } else { &text },
        "priority": match message.severity { Severity::Info => 2, Severity::Warning => 4, Severity::Critical => 5 },
        "tags": [match message.severity {
            Severity::Info => "white_check_mark",
            Severity::Warning => "warning",
            Severity::Critical => "rotating_light",
        }],
    });
    let answer = http.post_json(&join(&settings.url, ""), &headers, &value).await;
    let answer = answer.map_err(|error| error.without(topic))?;
    if !answer.status.is_success() {
        return Err(answer.refused().without(topic));
    }
    let number = id_of(&answer.json());
    if number.is_empty() {
        return Err(SendError::later("what answered is no ntfy server: there is no id in its answer"));
    }
    let remark = if text.len() < words.trim().len() {
        headers.push(("filename", "log.txt".into()));
        headers.push(("title", "the whole log".into()));
        let attached = http.send(Method::PUT, &join(&settings.url, topic), &headers, message.log.clone()).await;
        match attached {
            Ok(answer) if answer.status.is_success() => None,
            Ok(answer) => Some(answer.refused().without(topic)),
            Err(error) => Some(error.without(topic)),
        }
    } else {
        None
    };
    Ok((number, remark.map(|why| format!("the whole log was not attached: {why}"))))
}
