//! What an answer means that is not the one that was hoped for.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{Error, address::Address, call::Call, error::Space};

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// How the server words an error; v1 and v2 give a list where there are several.
#[derive(Deserialize)]
struct Said {
    message: Option<Words>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    path: serde_json::Value,
    #[serde(default)]
    message: String,
}

impl Answer {
    /// The body of an answer that says yes, read.
    pub(crate) fn read<T: DeserializeOwned>(self, call: Call, address: &Address, sent: u64) -> Result<T, Error> {
        let answer = self.good(call, address, sent)?;
        answer.parse(call, address)
    }

    /// The answer, where it says yes.
    pub(crate) fn good(self, call: Call, address: &Address, sent: u64) -> Result<Self, Error> {
        if self.status.is_success() { Ok(self) } else { Err(self.trouble(call, address, sent)) }
    }

    fn parse<T: DeserializeOwned>(&self, call: Call, address: &Address) -> Result<T, Error> {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        if kind.starts_with("text/html") {
            let detail = format!("it answers with a web page ({})", excerpt(&self.body));
            return Err(Error::NotImmich { address: address.shown(), detail });
        }
        let mut json = serde_json::Deserializer::from_slice(&self.body);
        serde_path_to_error::deserialize(&mut json)
            .map_err(|error| Error::Garbled { call: call.does, detail: error.to_string() })
    }

    /// What an answer with another status than 2xx means. `sent` is the length of the request's body.
    fn trouble(&self, call: Call, address: &Address, sent: u64) -> Error {
        let said = self.said();
        let status = self.status.as_u16();
        let passing =
            |detail| Error::Passing { call: call.does, status: Some(status), detail, after: self.retry_after() };
        let lower = said.to_lowercase();
        match status {
            401 | 403 => Error::Key { call: call.does, permission: self.missing(&said, call), detail: said },
            413 => Error::TooLarge { bytes: sent, via: self.via() },
            507 => Error::Full { space: Space::Disk { available: None } },
            // Immich says "Quota has been exceeded!" with 400.
            400 | 402 if lower.contains("quota") => Error::Full { space: Space::Quota },
            500 if lower.contains("enospc") || lower.contains("no space left") => {
                Error::Full { space: Space::Disk { available: None } }
            }
            // 499 and 520 to 530 are what proxies say when they did not wait for the server, or did not find it.
            408 | 425 | 429 | 499 | 500..=599 => passing(match said.as_str() {
                "" => format!("the answer was {}", self.status),
                words => format!("the answer was {}: {words}", self.status),
            }),
            301 | 302 | 303 | 307 | 308 => {
                let to = self.headers.get(header::LOCATION).and_then(|v| v.to_str().ok()).unwrap_or("elsewhere");
                Error::NotImmich { address: address.shown(), detail: format!("it sends us to {to}: use that address") }
            }
            // Immich's own 404 is JSON; another server's is a page.
            404 | 405 if serde_json::from_slice::<Said>(&self.body).is_err() => Error::NotImmich {
                address: address.shown(),
                detail: format!("it answers {} to what Immich knows", self.status),
            },
            _ => Error::Refused { call: call.does, status, message: said },
        }
    }

    /// The server's words, or the first of a body that is not one of its own.
    fn said(&self) -> String {
        let Ok(said) = serde_json::from_slice::<Said>(&self.body) else { return excerpt(&self.body) };
        let mut words = match said.message {
            Some(Words::One(text)) => text,
            Some(Words::Many(texts)) => texts.join("; "),
            None => String::new(),
        };
        for fault in said.errors {
            let path = match &fault.path {
                serde_json::Value::Array(steps) => {
                    steps.iter().map(|s| s.to_string().trim_matches('"').to_owned()).collect::<Vec<_>>().join(".")
                }
                other => other.to_string().trim_matches('"').to_owned(),
            };
            words = format!("{words}; {path}: {}", fault.message);
        }
        words
    }

    /// The permission whose lack is the reason: the one the server names, or the one the call needs.
    fn missing(&self, said: &str, call: Call) -> Option<String> {
        if self.status == StatusCode::UNAUTHORIZED {
            return None;
        }
        let named = said.split_once("Missing required permission: ").map(|(_, name)| name.trim().to_owned());
        named.or_else(|| (!call.permission.is_empty()).then(|| call.permission.to_owned()))
    }

    /// Who set the limit, as far as it says so.
    fn via(&self) -> String {
        let server = self.headers.get(header::SERVER).and_then(|v| v.to_str().ok());
        match server.filter(|name| !name.is_empty()) {
            Some(name) => format!("a proxy in front of the server ({name})"),
            None => "a proxy in front of the server".into(),
        }
    }

    /// How long the server asks to be left alone: seconds, or a date.
    fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        if let Ok(seconds) = text.trim().parse() {
            return Some(Duration::from_secs(seconds));
        }
        let then = httpdate::parse_http_date(text).ok()?;
        Some(then.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

/// The first bytes of a body, fit to be shown.
fn excerpt(body: &[u8]) -> String {
    let first = String::from_utf8_lossy(&body[..body.len().min(200)]);
    first.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Advice, call};

    fn trouble(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Error {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header"));
        }
        let answer = Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: map,
            body: Bytes::from_static(body.as_bytes()),
        };
        let address = Address::parse("http://nas:2283").expect("an address");
        answer.good(call::UPLOAD, &address, 600_000_000).expect_err("trouble")
    }

    #[test]
    fn every_status_says_what_can_be_done() {
        let cases = [
            (500, "", Advice::Retry { after: None }),
            (524, "<html>", Advice::Retry { after: None }),
            (408, "", Advice::Retry { after: None }),
            (401, r#"{"message":"Invalid API key"}"#, Advice::FixKey),
            (413, "<html>413", Advice::TooLarge),
            (507, "", Advice::MakeRoom),
            (400, r#"{"message":"Quota has been exceeded!"}"#, Advice::MakeRoom),
            (500, r#"{"message":"ENOSPC: no space left on device, write"}"#, Advice::MakeRoom),
            (400, r#"{"message":"Unsupported file type x.txt"}"#, Advice::Refused),
            (404, "<html>", Advice::Stop),
            (301, "", Advice::Stop),
        ];
        for (status, body, advice) in cases {
            assert_eq!(trouble(status, &[], body).advice(), advice, "{status} {body}");
        }
        let asked = trouble(429, &[("retry-after", "7")], "");
        assert_eq!(asked.advice(), Advice::Retry { after: Some(Duration::from_secs(7)) });
    }

    #[test]
    fn the_missing_permission_and_the_proxy_are_named() {
        let named = trouble(403, &[], r#"{"message":"Missing required permission: asset.upload","statusCode":403}"#);
        assert!(named.to_string().contains("lacks the permission asset.upload"), "{named}");
        let unnamed = trouble(403, &[], "{}");
        assert!(unnamed.to_string().contains("asset.upload"), "{unnamed}");
        let large = trouble(413, &[("server", "nginx/1.24")], "");
        assert!(large.to_string().contains("nginx/1.24") && large.to_string().contains("600000000"), "{large}");
    }

    #[test]
    fn both_forms_of_a_refusal_are_read() {
        let old = trouble(400, &[], r#"{"message":["ids must be a UUID","x"],"error":"Bad Request","statusCode":400}"#);
        assert!(old.to_string().contains("ids must be a UUID; x"), "{old}");
        let new = trouble(
            400,
            &[],
            r#"{"message":"Validation failed","errors":[{"path":["ids",0],"message":"Invalid UUID"}]}"#,
        );
        assert!(new.to_string().contains("ids.0: Invalid UUID"), "{new}");
    }
}
