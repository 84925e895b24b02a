//! An incoming webhook of Slack (docs.slack.dev, "Sending messages using incoming webhooks"), and of what speaks like it.

use serde_json::json;

use super::{SendError, Taken, discord::fenced, secret};
use crate::{http::Http, message::Message, settings::HookSettings, text::cut_bytes};

/// Slack advises 4,000 characters a message.
const TEXT_MAX: usize = 3800;

pub async fn send(http: &Http, settings: &HookSettings, message: &Message) -> Taken {
    let hook = secret("hook", &settings.hook)?;
    let words = cut_bytes(&message.plain(), TEXT_MAX / 2);
    let log = message.log.trim_end();
    let cut = cut_bytes(log, TEXT_MAX - words.len());
    let text = if log.is_empty() { words } else { words + &fenced(&cut) };
    // The three characters that mean something to Slack.
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let value = json!({ "text": text, "unfurl_links": false });
    let answer = http.post_json(hook.expose(), &[], &value).await.map_err(|error| error.without(hook.expose()))?;
    if answer.status.is_success() {
        let remark = (cut.len() < log.len()).then(|| "the log was cut: webhooks take no files".to_owned());
        return Ok((String::new(), remark));
    }
    let refused = match answer.refused() {
        SendError::Never { why } if answer.status.as_u16() == 404 => {
            SendError::never(format!("{why}: Slack does not know this webhook"))
        }
        other => other,
    };
    Err(refused.without(hook.expose()))
}
