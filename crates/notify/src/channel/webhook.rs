//! JSON to any URL. The body is the [`Message`] with a time. Where a key is set,
//! `x-haven-signature: sha256=HEX` is HMAC-SHA256 over `x-haven-timestamp`, a dot, and the body; so a receiver can refuse
//! what is forged or old. `x-haven-id` is the same for each try of one message.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use http::Method;
use serde_json::json;

use super::{Taken, id_of, secret};
use crate::{http::Http, message::Message, settings::WebhookSettings};

pub async fn send(http: &Http, settings: &WebhookSettings, message: &Message) -> Taken {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut value = json!(message);
    value["time"] = json!(time);
    let body = value.to_string();
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("x-haven-id", message.id.clone()),
        ("x-haven-timestamp", time.to_string()),
    ];
    if settings.key.is_set() {
        let key = secret("key", &settings.key)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
        let tag = hmac::sign(&key, format!("{time}.{body}").as_bytes());
        headers.push(("x-haven-signature", format!("sha256={}", HEXLOWER.encode(tag.as_ref()))));
    }
    let answer = http.send(Method::POST, &settings.url, &headers, body).await?;
    if answer.status.is_success() { Ok((id_of(&answer.json()), None)) } else { Err(answer.refused()) }
}
