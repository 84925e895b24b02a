//! Each service as its documents say it behaves, and as it misbehaves.

use std::time::Duration;

use haven_notify::{ChannelSettings, Ping, SendError, Switch};
use serde_json::{Value, json};

use crate::fake::{Answer, Fake, Heard, channel, http, message, say};

const TOKEN: &str = "12:to-ken";

/// Telegram's real limits: what they refuse, this refuses.
fn telegram(heard: &Heard) -> Answer {
    let bad = |why: &str| say(400, json!({ "ok": false, "error_code": 400, "description": why }).to_string());
    if heard.line.contains("/sendDocument") {
        return say(200, json!({ "ok": true, "result": { "message_id": 8 } }).to_string());
    }
    let body = heard.json();
    let text: Vec<u16> = body["text"].as_str().unwrap().encode_utf16().collect();
    if text.len() > 4096 {
        return bad("Bad Request: message is too long");
    }
    if body.get("parse_mode").is_some() {
        return bad("Bad Request: can't parse entities");
    }
    for entity in body["entities"].as_array().unwrap() {
        let (from, length) = (entity["offset"].as_u64().unwrap(), entity["length"].as_u64().unwrap());
        if (from + length) as usize > text.len() {
            return bad("Bad Request: entity out of bounds");
        }
    }
    say(200, json!({ "ok": true, "result": { "message_id": 7 } }).to_string())
}

fn telegram_at(url: &str) -> haven_notify::Channel {
    channel("phone", &format!(r#"{{"kind": "telegram", "chat": "42", "url": "{url}", "token": SECRET}}"#), TOKEN)
}

#[tokio::test]
async fn telegram_takes_what_markdown_would_have_broken_and_gives_a_number() {
    let fake = Fake::start(telegram).await;
    let receipt = telegram_at(&fake.url).send(&http(), &message("a", "a_b *c `d\n[x](")).await.unwrap();
    assert_eq!((receipt.channel.as_str(), receipt.number.as_str(), receipt.remark), ("phone", "7", None));
    let heard = fake.heard();
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].line, "POST /bot12:to-ken/sendMessage HTTP/1.1");
}

#[tokio::test]
async fn a_log_too_long_for_telegram_is_cut_and_follows_whole_as_a_document() {
    let fake = Fake::start(telegram).await;
    let log = "📷 frame\n".repeat(1000) + "error: the end";
    telegram_at(&fake.url).send(&http(), &message("a", &log)).await.unwrap();
    let heard = fake.heard();
    assert!(heard[0].json()["text"].as_str().unwrap().ends_with("error: the end"));
    assert!(heard[1].line.contains("/sendDocument") && heard[1].body.contains(&log));
}

#[tokio::test]
async fn telegrams_refusals_are_told_apart_and_never_show_the_token() {
    let cases = [
        (
            429,
            json!({ "ok": false, "error_code": 429, "description": "Too Many Requests", "parameters": { "retry_after": 7 } }),
            Some(7),
        ),
        (502, json!({}), None),
        (200, json!({}), None),
        (200, json!({ "ok": false, "error_code": 500, "description": "12:to-ken broke" }), None),
    ];
    for (status, body, after) in cases {
        let fake = Fake::start(move |_| say(status, body.to_string())).await;
        match telegram_at(&fake.url).send(&http(), &message("a", "")).await {
            Err(SendError::Later { why, after: told }) => {
                assert_eq!(told, after.map(Duration::from_secs), "{status}");
                assert!(!why.contains("to-ken"), "{why}");
            }
            other => panic!("{status}: {other:?}"),
        }
    }
    let fake = Fake::start(|_| say(401, r#"{"ok": false, "error_code": 401, "description": "Unauthorized"}"#)).await;
    let error = telegram_at(&fake.url).send(&http(), &message("a", "")).await.unwrap_err();
    assert!(matches!(&error, SendError::Never { why } if why.contains("token")), "{error:?}");
}

#[tokio::test]
async fn what_telegram_cannot_parse_is_sent_once_more_without_entities() {
    let fake = Fake::start(|heard| {
        if heard.json()["entities"] == json!([]) {
            say(200, r#"{"ok": true, "result": {"message_id": 9}}"#)
        } else {
            say(400, r#"{"ok": false, "error_code": 400, "description": "Bad Request: can't parse entities: x"}"#)
        }
    })
    .await;
    assert_eq!(telegram_at(&fake.url).send(&http(), &message("a", "log")).await.unwrap().number, "9");
}

#[tokio::test]
async fn a_server_that_hangs_hangs_up_or_is_not_there_is_for_later() {
    let hanging = Fake::start(|_| Answer::Hang).await;
    let dropping = Fake::start(|_| Answer::Drop).await;
    for url in [hanging.url.as_str(), dropping.url.as_str(), "http://127.0.0.1:1"] {
        let error = telegram_at(url).send(&http(), &message("a", "")).await.unwrap_err();
        assert!(matches!(&error, SendError::Later { why, .. } if !why.contains("to-ken")), "{error:?}");
    }
}

#[tokio::test]
async fn ntfy_gets_json_and_a_long_log_as_an_attachment() {
    let fake = Fake::start(|heard| match heard.line.starts_with("PUT") {
        true => say(200, r#"{"id": "second"}"#),
        false if heard.json()["message"].as_str().unwrap().len() > 4096 => say(413, "too large"),
        false => say(200, r#"{"id": "xE73"}"#),
    })
    .await;
    let table = format!(r#"{{"kind": "ntfy", "url": "{}/", "topic": "photos", "token": SECRET}}"#, fake.url);
    let log = "größe\n".repeat(2000);
    let receipt = channel("n", &table, "tk_x").send(&http(), &message("a", &log)).await.unwrap();
    assert_eq!((receipt.number.as_str(), receipt.remark), ("xE73", None));
    let heard = fake.heard();
    assert_eq!(heard[0].header("authorization"), Some("Bearer tk_x"));
    assert_eq!(heard[0].json()["priority"], 5);
    assert!(heard[1].line.starts_with("PUT /photos ") && heard[1].body == log);
}

#[tokio::test]
async fn discord_is_asked_whether_it_made_the_message_and_its_limits_are_kept() {
    let fake = Fake::start(|heard| {
        let payload: Value = match heard.header("content-type").unwrap().starts_with("multipart") {
            false => heard.json(),
            true => {
                let from = heard.body.find("\r\n\r\n").unwrap() + 4;
                serde_json::from_str(heard.body[from..].lines().next().unwrap()).unwrap()
            }
        };
        match payload["content"].as_str().unwrap().chars().count() {
            1..=2000 => say(200, r#"{"id": "110"}"#),
            _ => say(400, r#"{"content": ["Must be 2000 or fewer in length."]}"#),
        }
    })
    .await;
    let discord = channel("d", r#"{"kind": "discord", "hook": SECRET}"#, &format!("{}/api/webhooks/1/x", fake.url));
    assert_eq!(discord.send(&http(), &message("a", "short")).await.unwrap().number, "110");
    assert_eq!(discord.send(&http(), &message("b", &"```` line\n".repeat(900))).await.unwrap().number, "110");
    assert!(fake.heard()[0].line.contains("?wait=true"));
    assert!(fake.heard()[1].body.contains("filename=\"log.txt\""));
    let busy = Fake::start(|_| say(429, r#"{"message": "slow", "retry_after": 0.65}"#)).await;
    let discord = channel("d", r#"{"kind": "discord", "hook": SECRET}"#, &format!("{}/api/webhooks/1/x", busy.url));
    let error = discord.send(&http(), &message("a", "")).await.unwrap_err();
    assert!(matches!(error, SendError::Later { after: Some(after), .. } if after == Duration::from_millis(650)));
}

#[tokio::test]
async fn slack_and_gotify_get_what_they_want() {
    let slack = Fake::start(|_| say(200, "ok")).await;
    let hook = channel("s", r#"{"kind": "slack", "hook": SECRET}"#, &format!("{}/services/T/B/x", slack.url));
    hook.send(&http(), &message("a", "<&> log")).await.unwrap();
    assert!(slack.heard()[0].json()["text"].as_str().unwrap().contains("&lt;&amp;&gt; log"));
    let gotify = Fake::start(|heard| match heard.header("x-gotify-key") {
        Some("AxY") => say(200, r#"{"id": 25}"#),
        _ => say(401, r#"{"error": "Unauthorized"}"#),
    })
    .await;
    let table = format!(r#"{{"kind": "gotify", "url": "{}", "token": SECRET}}"#, gotify.url);
    assert_eq!(channel("g", &table, "AxY").send(&http(), &message("a", "")).await.unwrap().number, "25");
    let refused = channel("g", &table, "other").send(&http(), &message("a", "")).await.unwrap_err();
    assert!(matches!(refused, SendError::Never { .. }));
}

#[tokio::test]
async fn a_webhook_can_be_verified_by_its_receiver() {
    use aws_lc_rs::hmac;
    let fake = Fake::start(|_| say(204, "")).await;
    let table = format!(r#"{{"kind": "webhook", "url": "{}/hook", "key": SECRET}}"#, fake.url);
    channel("w", &table, "key").send(&http(), &message("a1", "log")).await.unwrap();
    let heard = &fake.heard()[0];
    let signed = format!("{}.{}", heard.header("x-haven-timestamp").unwrap(), heard.body);
    let hex = heard.header("x-haven-signature").unwrap().strip_prefix("sha256=").unwrap();
    let tag: Vec<u8> = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, b"key"), signed.as_bytes(), &tag).expect("the signature is right");
    assert_eq!((heard.json()["id"].as_str(), heard.header("x-haven-id")), (Some("a1"), Some("a1")));
    let moved = Fake::start(|_| Answer::Say(302, "location: http://127.0.0.1:1/\r\n", String::new())).await;
    let table = format!(r#"{{"kind": "webhook", "url": "{}"}}"#, moved.url);
    assert!(matches!(channel("w", &table, "").send(&http(), &message("a", "")).await, Err(SendError::Never { .. })));
}

#[tokio::test]
async fn a_dead_mans_switch_hears_of_starts_and_ends() {
    let fake = Fake::start(|_| say(200, "OK")).await;
    let table = format!(r#"{{"kind": "healthchecks", "url": "{}", "checks": SECRET}}"#, fake.url);
    let ChannelSettings::Healthchecks(settings) = channel("h", &table, "pingkey").settings else { panic!() };
    let switch = Switch { settings, http: http() };
    switch.ping("scrub", Ping::Start, Some("f00-1"), "").await.unwrap();
    switch.ping("scrub", Ping::Exit(6), Some("f00-1"), &"x".repeat(30_000)).await.unwrap();
    switch.ping("alive", Ping::Success, None, "").await.unwrap();
    let heard = fake.heard();
    assert_eq!(heard[0].line, "POST /pingkey/haven-scrub/start?rid=f00-1&create=1 HTTP/1.1");
    assert_eq!(heard[1].line, "POST /pingkey/haven-scrub/6?rid=f00-1&create=1 HTTP/1.1");
    assert!(heard[1].body.len() <= 10_000);
    assert_eq!(heard[2].line, "POST /pingkey/haven-alive?create=1 HTTP/1.1");
    let unknown = Fake::start(|_| say(404, "not found")).await;
    let table = format!(r#"{{"kind": "healthchecks", "url": "{}", "checks": SECRET}}"#, unknown.url);
    let ChannelSettings::Healthchecks(settings) = channel("h", &table, "pingkey").settings else { panic!() };
    let error = Switch { settings, http: http() }.ping("scrub", Ping::Fail, None, "").await.unwrap_err();
    assert!(matches!(&error, SendError::Never { why } if !why.contains("pingkey")), "{error:?}");
}

#[test]
fn a_setting_that_a_kind_does_not_have_is_refused_by_name() {
    let wrong = serde_json::from_str::<ChannelSettings>(r#"{"kind": "gotify", "url": "x", "token": {}, "chat": "1"}"#);
    assert!(wrong.unwrap_err().to_string().contains("chat"));
}
