//! What a store's refusal means. Sources: "Error responses" in the Amazon S3 API Reference, and
//! what Garage 2.5 and Ceph's gateway were seen to answer.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::xml::{self, ErrorDocument};
use crate::{
    port::{PutMode, StoreError},
    web,
};

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    document: Option<ErrorDocument>,
    /// The first bytes of a body that is not S3's.
    excerpt: String,
    after: Option<Duration>,
    /// The store's clock, seconds since the epoch.
    date: Option<i64>,
    region: Option<String>,
}

/// What the request was about, for the words of an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// The object's name; empty for a listing.
    pub name: &'a str,
    pub bucket: &'a str,
    pub condition: Option<&'a PutMode>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let document = xml::parse_error(body);
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        Self {
            status,
            excerpt: web::excerpt(body),
            after: web::retry_after(headers),
            date: web::date(headers),
            region: document
                .as_ref()
                .and_then(|d| d.region.clone())
                .or_else(|| text("x-amz-bucket-region").map(str::to_owned)),
            document,
        }
    }

    /// S3's code; where a server has only its own words for what S3 has a code for, that code.
    fn code(&self) -> &str {
        let Some(document) = &self.document else {
            return "";
        };
        let says = |words: &str| document.message.contains(words);
        // Garage 2.5's words.
        match document.code.as_str() {
            "AccessDenied" if says("Invalid signature") => "SignatureDoesNotMatch",
            "AccessDenied" if says("No such key") => "InvalidAccessKeyId",
            "InvalidRequest" if says("Date is too old") => "RequestTimeTooSkewed",
            code => code,
        }
    }

    /// The region to sign for instead, if that is what is wrong.
    pub(super) fn other_region(&self, ours: &str) -> Option<&str> {
        let wrong = matches!(self.code(), "AuthorizationHeaderMalformed" | "IncorrectEndpoint");
        self.region.as_deref().filter(|theirs| wrong && *theirs != ours && !theirs.is_empty())
    }

    /// Whether other credentials could help.
    pub(super) fn blames_credentials(&self) -> bool {
        matches!(
            self.code(),
            "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "InvalidClientTokenId"
                | "AccessDenied"
        )
    }

    pub(super) fn into_error(self, about: About<'_>, now: i64) -> StoreError {
        let detail = self.detail();
        let name = about.name.to_owned();
        match (self.status.as_u16(), self.code()) {
            (_, "NoSuchBucket") => StoreError::NoBucket { location: about.bucket.to_owned() },
            (404, "NoSuchKey" | "NoSuchVersion") => match about.condition {
                Some(PutMode::IfMatch(_)) => StoreError::Changed { name },
                _ => StoreError::NotFound { name },
            },
            (412 | 304, _) => match about.condition {
                Some(PutMode::IfAbsent) => StoreError::Exists { name },
                _ => StoreError::Changed { name },
            },
            (_, "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture") => {
                StoreError::Unauthorized { detail: format!("{}; {detail}", clock(self.date, now)) }
            }
            (
                _,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "InvalidClientTokenId"
                | "AuthorizationHeaderMalformed"
                | "InvalidSecurity"
                | "NotSignedUp",
            )
            | (401, _) => StoreError::Unauthorized { detail },
            (_, "QuotaExceeded" | "StorageQuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage") | (507, _) => {
                StoreError::Full { detail }
            }
            (301 | 302 | 307 | 308, _) => {
                let region = self.region.as_deref().unwrap_or("another region");
                StoreError::Unsupported { detail: format!("the bucket is in {region}; {detail}") }
            }
            (501, _) | (400, "NotImplemented") => StoreError::Unsupported { detail },
            (400, "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody") => {
                StoreError::Garbled { detail }
            }
            (408 | 409 | 429 | 500 | 502 | 503 | 504, _) | (400, "RequestTimeout") => {
                StoreError::Unavailable { detail, after: self.after }
            }
            // 404, 403 and 400 without S3's own words come from something in between.
            (_, "") => StoreError::Garbled { detail },
            (403, _) | (405, _) => StoreError::Denied { detail },
            (500..=599, _) => StoreError::Unavailable { detail, after: self.after },
            (404, _) => StoreError::Garbled { detail },
            _ => StoreError::Unsupported { detail },
        }
    }

    fn detail(&self) -> String {
        match &self.document {
            Some(error) if error.message.is_empty() || error.message == error.code => {
                format!("{}: {}", self.status.as_u16(), error.code)
            }
            Some(error) => format!("{}: {}: {}", self.status.as_u16(), error.code, error.message),
            None if self.excerpt.is_empty() => format!("status {}", self.status),
            None => format!("status {}, not in S3's words: {:?}", self.status, self.excerpt),
        }
    }
}

fn clock(store: Option<i64>, now: i64) -> String {
    let Some(store) = store else {
        return "this machine's clock is off".into();
    };
    let (off, side) = if now < store { (store - now, "behind") } else { (now - store, "ahead of") };
    let span = match off {
        0..120 => format!("{off} s"),
        120..7200 => format!("{} min", off / 60),
        7200..172_800 => format!("{} h", off / 3600),
        _ => format!("{} days", off / 86_400),
    };
    format!("this machine's clock is {span} {side} the store's")
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use crate::port::Advice;

    fn refused(status: u16, code: &str, condition: Option<&PutMode>) -> StoreError {
        let body = if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") };
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, "Wed, 21 Oct 2015 07:28:00 GMT".parse().expect("a header"));
        headers.insert("retry-after", "4".parse().expect("a header"));
        let status = StatusCode::from_u16(status).expect("a status");
        let refusal = Refusal::new(status, &headers, body.as_bytes());
        refusal.into_error(About { name: "p/1", bucket: "b", condition }, 1_445_412_480 - 7200)
    }

    #[test]
    fn a_404_is_absence_only_in_the_stores_own_words() {
        assert!(matches!(refused(404, "NoSuchKey", None), StoreError::NotFound { .. }));
        assert!(matches!(refused(404, "NoSuchBucket", None), StoreError::NoBucket { .. }));
        assert!(matches!(refused(404, "", None), StoreError::Garbled { .. }));
        assert!(matches!(refused(403, "", None), StoreError::Garbled { .. }));
    }

    #[test]
    fn a_failed_condition_says_which() {
        let etag = PutMode::IfMatch("e".into());
        assert!(matches!(refused(412, "PreconditionFailed", Some(&PutMode::IfAbsent)), StoreError::Exists { .. }));
        assert!(matches!(refused(412, "PreconditionFailed", Some(&etag)), StoreError::Changed { .. }));
        assert!(matches!(refused(404, "NoSuchKey", Some(&etag)), StoreError::Changed { .. }));
        let duel = refused(409, "ConditionalRequestConflict", Some(&PutMode::IfAbsent));
        assert_eq!(duel.advice(), Advice::Retry);
    }

    #[test]
    fn garages_own_words_are_understood() {
        let words = [
            ("AccessDenied", "Forbidden: Invalid signature", "not accept the credentials"),
            ("AccessDenied", "Forbidden: No such key: GK1", "not accept the credentials"),
            ("InvalidRequest", "Bad request: Date is too old", "this machine's clock"),
            ("AccessDenied", "Forbidden: Operation is not allowed for this key.", "refuses access"),
        ];
        for (code, message, expected) in words {
            let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
            let refusal = Refusal::new(StatusCode::FORBIDDEN, &HeaderMap::new(), body.as_bytes());
            let error = refusal.into_error(About { name: "p/1", bucket: "b", condition: None }, 0).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_wrong_clock_is_told_with_its_distance() {
        let error = refused(403, "RequestTimeTooSkewed", None).to_string();
        assert!(error.contains("2 h behind the store's"), "{error}");
    }

    #[test]
    fn a_busy_store_is_asked_again_when_it_says() {
        let error = refused(503, "SlowDown", None);
        assert!(
            matches!(&error, StoreError::Unavailable { after: Some(after), .. } if after.as_secs() == 4),
            "{error:?}"
        );
    }

    #[test]
    fn each_code_leads_to_what_its_owner_can_do() {
        for code in ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"] {
            assert!(matches!(refused(403, code, None), StoreError::Unauthorized { .. }), "{code}");
        }
        assert!(matches!(refused(403, "AccessDenied", None), StoreError::Denied { .. }));
        assert!(matches!(refused(403, "QuotaExceeded", None), StoreError::Full { .. }));
        assert!(matches!(refused(507, "", None), StoreError::Full { .. }));
        assert!(matches!(refused(501, "NotImplemented", None), StoreError::Unsupported { .. }));
        assert!(matches!(refused(301, "PermanentRedirect", None), StoreError::Unsupported { .. }));
        assert_eq!(refused(400, "BadDigest", None).advice(), Advice::Retry);
        assert_eq!(refused(500, "", None).advice(), Advice::Retry);
    }
}
