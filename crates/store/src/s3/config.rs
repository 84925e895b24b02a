//! The settings of an S3 store, and what URL, settings and environment make of them together.

use std::{path::PathBuf, time::Duration};

use http::uri::{Authority, Scheme};
use serde::{Deserialize, Serialize};

use super::credentials::{CredentialConfig, Source, profile_files, profile_section, setting};
use crate::{
    human,
    open::OpenError,
    secret::Environment,
    url::{decode, encode},
};

/// The settings of an S3 store: the table `[store.s3]` of haven.toml. What the URL says goes before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// `https://host[:port]`; absent: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, then AWS itself.
    pub endpoint: Option<String>,
    /// Absent: `AWS_REGION`, `AWS_DEFAULT_REGION`, the AWS profile, then `us-east-1`. A server that
    /// names another region in its refusal is believed.
    pub region: Option<String>,
    /// How the bucket is addressed.
    pub style: Style,
    /// Certificates (PEM) to trust beside the system's: for a private CA.
    pub ca_file: Option<PathBuf>,
    /// Whether the body's hash is part of the request's signature.
    pub payload: Payload,
    /// What a body is sent with so that the store can refuse one that was damaged on the way.
    pub checksum: Checksum,
    /// The storage class of new objects, as the store names it.
    pub storage_class: Option<String>,
    /// For how long nobody may delete or replace a new object's version: S3's Object Lock, on a bucket
    /// that was made with it.
    pub lock: Option<Retention>,
    /// Who may lift that lock before its time.
    pub lock_mode: LockMode,
    /// The most names asked for in one page of a listing.
    pub list_page_max: Option<u16>,
    /// Where the keys come from.
    pub credentials: CredentialConfig,
}

/// How the bucket is addressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// `path` where an endpoint is given, `virtual` for AWS.
    #[default]
    Auto,
    /// `https://host/bucket/key`: what most self-hosted stores need.
    Path,
    /// `https://bucket.host/key`.
    Virtual,
}

/// Whether the body's hash is part of the request's signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// No: four times less CPU. Objects are sealed, so damage on the way is found when read.
    #[default]
    Unsigned,
    /// Yes: the store refuses a body that was damaged on the way.
    Signed,
}

/// What a body is sent with so that the store can refuse one that was damaged on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// Nothing, which every store takes; but `Md5` where an object is locked, as AWS demands.
    #[default]
    None,
    /// `Content-MD5`: known to nearly every store, half a gigabyte a second.
    Md5,
    /// `x-amz-checksum-crc32c`: costs nothing, known to newer stores, ignored by older ones.
    Crc32c,
    /// `x-amz-checksum-sha256`.
    Sha256,
}

/// How long an object stays locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Retention(#[serde(with = "human::duration")] pub Duration);

/// Who may lift a lock before its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Who has the right to (`s3:BypassGovernanceRetention`) and says so.
    #[default]
    Governance,
    /// Nobody at all: what is paid for is paid until then.
    Compliance,
}

impl LockMode {
    /// As S3 writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// A longer lock is a slip of the pen.
const LOCK_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Where requests go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub scheme: Scheme,
    pub authority: Authority,
    /// What comes before the key in a path: `/bucket/` or `/`, encoded.
    pub base: String,
    pub bucket: String,
    /// What comes before each name in a key: empty, or with a slash at its end.
    pub prefix: String,
    pub region: String,
    pub endpoint: String,
}

/// The parts of `s3://bucket/prefix?endpoint=…&region=…&style=…`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct S3Url {
    bucket: String,
    prefix: String,
    endpoint: Option<String>,
    region: Option<String>,
    style: Option<Style>,
}

const QUERY_KEYS: [&str; 3] = ["endpoint", "region", "style"];

impl S3Url {
    /// Reads what follows `s3://`.
    pub(crate) fn parse(url: &str, rest: &str) -> Result<Self, OpenError> {
        let refuse = |why: &str| OpenError::Url { url: url.to_owned(), why: why.to_owned() };
        if rest.split('/').next().is_some_and(|host| host.contains('@')) {
            // The URL is shown in logs and lists of processes; don't repeat what may be a key.
            return Err(OpenError::Url {
                url: "s3://…@…".into(),
                why: "keys don't belong in a URL; give them by environment, profile, file or command".into(),
            });
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(refuse("the bucket is missing"));
        }
        if !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
            return Err(refuse("a bucket's name has letters, digits, dots, hyphens and underscores only"));
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix.split('/').any(|s| s == "." || s == "..") || prefix.starts_with('/') || prefix.contains("//") {
            return Err(refuse("a prefix has no empty and no dot segments"));
        }
        if prefix.len() > 500 {
            return Err(refuse("the prefix is longer than 500 bytes"));
        }
        let mut parts = Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), ..Self::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| refuse("its query is not well encoded"))?;
            match key {
                "endpoint" => parts.endpoint = Some(value),
                "region" => parts.region = Some(value),
                "style" => {
                    parts.style = Some(match value.as_str() {
                        "path" => Style::Path,
                        "virtual" => Style::Virtual,
                        "auto" => Style::Auto,
                        _ => return Err(refuse("style is path, virtual or auto")),
                    });
                }
                _ => return Err(refuse(&format!("{key:?} is not one of {}", QUERY_KEYS.join(", ")))),
            }
        }
        Ok(parts)
    }
}

impl Target {
    /// URL before settings before environment.
    pub(super) fn resolve(url: S3Url, config: &S3Config, env: Environment<'_>) -> Result<Self, OpenError> {
        let given = url
            .endpoint
            .or_else(|| config.endpoint.clone())
            .or_else(|| env("AWS_ENDPOINT_URL_S3"))
            .or_else(|| env("AWS_ENDPOINT_URL"));
        let region = url
            .region
            .or_else(|| config.region.clone())
            .or_else(|| env("AWS_REGION"))
            .or_else(|| env("AWS_DEFAULT_REGION"))
            .or_else(|| profile_region(config, env))
            .unwrap_or_else(|| "us-east-1".into());
        if config.lock.is_some_and(|Retention(lock)| lock.is_zero() || lock > LOCK_MAX) {
            return Err(bad("s3.lock", "it is a time such as \"30d\", at most 36500 days".into()));
        }
        let is_token = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if region.is_empty() || !is_token(&region) {
            return Err(bad("region", format!("{region:?} is no region's name")));
        }
        let custom = given.is_some();
        let endpoint = given.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let (scheme, host) = match endpoint.split_once("://") {
            Some(("http", host)) => (Scheme::HTTP, host),
            Some(("https", host)) => (Scheme::HTTPS, host),
            _ => return Err(bad("endpoint", format!("{endpoint:?} does not begin with https:// or http://"))),
        };
        let host = host.trim_end_matches('/').to_ascii_lowercase();
        if host.contains(['/', '?', '#', '@']) {
            return Err(bad("endpoint", format!("{endpoint:?} has more than a host and a port")));
        }
        let style = match url.style.unwrap_or(config.style) {
            Style::Auto if custom => Style::Path,
            Style::Auto => Style::Virtual,
            style => style,
        };
        let (place, base) = match style {
            Style::Virtual => (format!("{}.{host}", url.bucket), "/".to_owned()),
            Style::Path | Style::Auto => (host.clone(), format!("/{}/", url.bucket)),
        };
        let authority =
            place.parse().map_err(|error| bad("endpoint", format!("{endpoint:?} has no usable host: {error}")))?;
        let prefix = if url.prefix.is_empty() { String::new() } else { format!("{}/", url.prefix) };
        let endpoint = format!("{scheme}://{host}");
        Ok(Self { scheme, authority, base, bucket: url.bucket, prefix, region, endpoint })
    }

    /// The path of the bucket's URL.
    pub(super) fn bucket_path(&self) -> String {
        match self.base.trim_end_matches('/') {
            "" => "/".to_owned(),
            bucket => bucket.to_owned(),
        }
    }

    /// The path of a key's URL, encoded.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{}", self.base, encode(key, true))
    }
}

pub(super) fn source(config: &S3Config, env: Environment<'_>) -> Result<Source, OpenError> {
    Source::choose(&config.credentials, env).map_err(|(setting, why)| OpenError::Setting { setting, why })
}

fn bad(setting: &str, why: String) -> OpenError {
    OpenError::Setting { setting: setting.to_owned(), why }
}

fn profile_region(config: &S3Config, env: Environment<'_>) -> Option<String> {
    let name = config.credentials.profile.clone().or_else(|| env("AWS_PROFILE")).unwrap_or_else(|| "default".into());
    profile_files(env).iter().find_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        setting(&profile_section(&text, &name), "region")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, config: &S3Config, env: &[(&str, &str)]) -> Result<Target, OpenError> {
        let env = |key: &str| env.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned());
        Target::resolve(S3Url::parse(url, url.trim_start_matches("s3://"))?, config, &env)
    }

    #[test]
    fn url_goes_before_settings_and_settings_before_environment() {
        let env = [("AWS_REGION", "env"), ("AWS_ENDPOINT_URL", "http://env:1"), ("AWS_DEFAULT_REGION", "no")];
        let bare = target("s3://b/p/q/", &S3Config::default(), &env).expect("it resolves");
        assert_eq!(
            (bare.region.as_str(), bare.authority.as_str(), bare.path("x y").as_str()),
            ("env", "env:1", "/b/x%20y")
        );
        assert_eq!(bare.prefix, "p/q/");
        let config =
            S3Config { region: Some("set".into()), endpoint: Some("https://set".into()), ..S3Config::default() };
        let set = target("s3://b", &config, &env).expect("it resolves");
        assert_eq!((set.region.as_str(), set.authority.as_str(), set.prefix.as_str()), ("set", "set", ""));
        let url =
            target("s3://b?region=url&endpoint=http%3A%2F%2Furl:2&style=virtual", &config, &env).expect("it resolves");
        assert_eq!((url.region.as_str(), url.authority.as_str(), url.base.as_str()), ("url", "b.url:2", "/"));
    }

    #[test]
    fn aws_itself_is_addressed_by_virtual_host() {
        let aws = target("s3://b", &S3Config { region: Some("eu-west-1".into()), ..S3Config::default() }, &[]);
        let aws = aws.expect("it resolves");
        assert_eq!(aws.authority.as_str(), "b.s3.eu-west-1.amazonaws.com");
        assert_eq!(aws.scheme, Scheme::HTTPS);
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for url in [
            "s3://",
            "s3:///prefix",
            "s3://b?endpont=http://x",
            "s3://b?style=round",
            "s3://b?endpoint=ftp://x",
            "s3://b?endpoint=http://x/path",
            "s3://b/a/../c",
            "s3://b c",
        ] {
            assert!(target(url, &S3Config::default(), &[]).is_err(), "{url}");
        }
    }

    #[test]
    fn a_lock_without_end_or_of_no_time_is_refused() {
        for lock in [Duration::ZERO, Duration::MAX] {
            let config = S3Config { lock: Some(Retention(lock)), ..S3Config::default() };
            assert!(matches!(target("s3://b", &config, &[]), Err(OpenError::Setting { .. })), "{lock:?}");
        }
        let text = r#"{"lock": "30d", "lock_mode": "compliance", "checksum": "crc32c"}"#;
        let config: S3Config = serde_json::from_str(text).expect("settings");
        assert_eq!(config.lock, Some(Retention(Duration::from_secs(30 * 86_400))));
        assert!(target("s3://b", &config, &[]).is_ok());
    }

    #[test]
    fn a_key_in_the_url_is_refused_and_not_repeated() {
        let error = target("s3://AKIA:hunter2@b/p", &S3Config::default(), &[]).expect_err("a key");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
