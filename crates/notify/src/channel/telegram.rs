//! Telegram's Bot API (core.telegram.org/bots/api, `sendMessage` and `sendDocument`).
//!
//! No `parse_mode`: an odd `_` or `*` in a log would make Telegram refuse the message. What is bold or a log is said by
//! `entities`, whose offsets count UTF-16 units, as does the limit of 4096 a message.

use http::Method;
use serde_json::{Value, json};

use super::{SendError, Taken, join, secret};
use crate::{
    http::{Answer, Form, Http},
    message::Message,
    settings::TelegramSettings,
    text::cut_utf16,
};

/// The longest text, UTF-16 units.
const TEXT_MAX: usize = 4096;
/// The longest part of it that is not log.
const WORDS_MAX: usize = 2048;

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// The text, its entities, and whether the log had to be cut.
fn render(message: &Message) -> (String, Value, bool) {
    let head = cut_utf16(&message.head(), 512);
    let body = cut_utf16(&message.body, WORDS_MAX - 513);
    let words = if body.is_empty() { head.clone() } else { format!("{head}\n{body}") };
    let mut entities = vec![json!({ "type": "bold", "offset": 0, "length": units(&head) })];
    let log = message.log.trim_end();
    if log.is_empty() {
        return (words, json!(entities), false);
    }
    let offset = units(&words) + 1;
    let cut = cut_utf16(log, TEXT_MAX - offset);
    entities.push(json!({ "type": "pre", "offset": offset, "length": units(&cut) }));
    let was_cut = cut != log;
    (format!("{words}\n{cut}"), json!(entities), was_cut)
}

pub async fn send(http: &Http, settings: &TelegramSettings, message: &Message) -> Taken {
    let token = secret("token", &settings.token)?;
    let method = |name: &str| join(&settings.url, &format!("bot{}/{name}", token.expose()));
    let clean = |error: SendError| error.without(token.expose());
    let (text, entities, was_cut) = render(message);
    let mut request = json!({
        "chat_id": settings.chat,
        "text": text,
        "entities": entities,
        "link_preview_options": { "is_disabled": true },
    });
    let mut answer = http.post_json(&method("sendMessage"), &[], &request).await.map_err(clean)?;
    if answer.status.as_u16() == 400 && answer.json()["description"].as_str().is_some_and(|why| why.contains("entit")) {
        // Better plain than not at all.
        request["entities"] = json!([]);
        answer = http.post_json(&method("sendMessage"), &[], &request).await.map_err(clean)?;
    }
    let number = accepted(&answer).map_err(clean)?;
    let remark = if was_cut {
        let (kind, body) =
            Form::new(&message.id).field("chat_id", &settings.chat).file("document", "log.txt", &message.log).finish();
        let sent = http.send(Method::POST, &method("sendDocument"), &[("content-type", kind)], body).await;
        let sent = sent.and_then(|answer| accepted(&answer)).map_err(clean);
        sent.err().map(|why| format!("the whole log was not attached: {why}"))
    } else {
        None
    };
    Ok((number, remark))
}

/// The message's number, which only `"ok": true` brings: a status alone proves nothing.
fn accepted(answer: &Answer) -> Result<String, SendError> {
    let value = answer.json();
    if value["ok"] == true {
        return Ok(value["result"]["message_id"].to_string());
    }
    let Some(why) = value["description"].as_str() else {
        return Err(match answer.refused() {
            // Something between us and Telegram answered with a success of its own.
            SendError::Never { why } if answer.status.is_success() => SendError::later(why),
            other => other,
        });
    };
    if let Some(seconds) = value["parameters"]["retry_after"].as_f64() {
        return Err(SendError::Later { why: why.into(), after: std::time::Duration::try_from_secs_f64(seconds).ok() });
    }
    if let Some(chat) = value["parameters"]["migrate_to_chat_id"].as_i64() {
        return Err(SendError::never(format!("{why}: the chat is now {chat}; write that into the settings")));
    }
    match value["error_code"].as_u64().unwrap_or_else(|| answer.status.as_u16().into()) {
        429 | 500.. => Err(SendError::Later { why: why.into(), after: answer.retry_after() }),
        401 | 404 => Err(SendError::never(format!("{why}: Telegram does not know this bot's token"))),
        _ => Err(SendError::never(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Severity;

    fn message(title: &str, body: &str, log: &str) -> Message {
        Message {
            id: "a1".into(),
            severity: Severity::Critical,
            title: title.into(),
            body: body.into(),
            log: log.into(),
            host: "mini".into(),
            html: String::new(),
            weight: None,
        }
    }

    fn part(text: &str, entity: &Value) -> String {
        let all: Vec<u16> = text.encode_utf16().collect();
        let from = entity["offset"].as_u64().unwrap() as usize;
        String::from_utf16(&all[from..from + entity["length"].as_u64().unwrap() as usize]).unwrap()
    }

    #[test]
    fn entities_point_at_the_log_in_utf16_units() {
        let (text, entities, cut) = render(&message("📷 odd_title*", "do `this`", "a_b *c* `d` 📷\nlast"));
        assert_eq!(part(&text, &entities[0]), "✖ 📷 odd_title* (mini)");
        assert_eq!(part(&text, &entities[1]), "a_b *c* `d` 📷\nlast");
        assert_eq!((entities[1]["type"].as_str(), cut), (Some("pre"), false));
    }

    #[test]
    fn the_longest_message_has_4096_units_and_ends_with_the_last_line() {
        let log = (0..400).map(|n| format!("📷 node stack frame {n}\n")).collect::<String>() + "Error: at last";
        let (text, entities, cut) = render(&message(&"t".repeat(900), &"b".repeat(5000), &log));
        assert!(units(&text) <= TEXT_MAX && units(&text) > TEXT_MAX - 40, "{}", units(&text));
        assert!(cut && text.ends_with("Error: at last"));
        assert!(part(&text, &entities[1]).ends_with("Error: at last"));
    }
}
