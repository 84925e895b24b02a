//! Where the keys come from, and when they are read again.
//!
//! A source gives text in any of these forms: the JSON of AWS's `credential_process`; `KEY=VALUE`
//! or ini lines with AWS's names; or just the key id and the secret, parted by white space.
//!
//! Credentials are read at the first request, again a minute before they expire, and again when the
//! store refuses them: a rotated key or a fresh session token takes effect without a restart.

use std::{path::PathBuf, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{
    calendar,
    secret::{self, Environment, Secret},
};

/// Credentials are read anew when they have less than this left.
const EXPIRY_MARGIN_SECONDS: i64 = 60;
/// What errors call them.
const WHAT: &str = "the credentials";

/// Where the keys come from. At most one may be set; if none is, the environment
/// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`) and then the AWS profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialConfig {
    /// A profile of AWS's own files (`~/.aws/credentials`, or `AWS_SHARED_CREDENTIALS_FILE`).
    pub profile: Option<String>,
    /// A file that holds the key.
    pub file: Option<PathBuf>,
    /// The name of a systemd credential (`LoadCredential=`), found in `$CREDENTIALS_DIRECTORY`.
    pub systemd: Option<String>,
    /// A shell command that prints the key.
    pub command: Option<String>,
}

/// A key to sign with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub key_id: String,
    pub secret: Secret,
    pub token: Option<Secret>,
    /// Seconds since the epoch.
    pub expires: Option<i64>,
}

impl Credentials {
    pub(super) fn is_stale(&self, now: i64) -> bool {
        self.expires.is_some_and(|at| at - EXPIRY_MARGIN_SECONDS <= now)
    }
}

/// One place to look, decided when the store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Fixed(Credentials),
    File(PathBuf),
    Command(String),
    Profile { name: String, files: Vec<PathBuf> },
}

impl Source {
    /// Decides where to look. The error names the setting and what is wrong with it.
    pub(super) fn choose(config: &CredentialConfig, env: Environment<'_>) -> Result<Self, (String, String)> {
        let given =
            [config.profile.is_some(), config.file.is_some(), config.systemd.is_some(), config.command.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            let why = "only one of profile, file, systemd and command can be the source";
            return Err(("credentials".into(), why.into()));
        }
        if let Some(path) = &config.file {
            return Ok(Self::File(path.clone()));
        }
        if let Some(command) = &config.command {
            return Ok(Self::Command(command.clone()));
        }
        if let Some(name) = &config.systemd {
            let path = secret::systemd_credential(name, env);
            return path.map(Self::File).map_err(|why| ("credentials.systemd".into(), why));
        }
        if config.profile.is_none()
            && let (Some(key_id), Some(secret)) = (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"))
        {
            return Ok(Self::Fixed(Credentials {
                key_id,
                secret: Secret::new(secret),
                token: env("AWS_SESSION_TOKEN").map(Secret::new),
                expires: None,
            }));
        }
        let name = config.profile.clone().or_else(|| env("AWS_PROFILE")).unwrap_or_else(|| "default".into());
        Ok(Self::Profile { name, files: profile_files(env) })
    }

    /// Reads the credentials. The error says what was missing, and never what was there.
    pub(super) async fn read(&self) -> Result<Credentials, String> {
        match self {
            Self::Fixed(credentials) => Ok(credentials.clone()),
            Self::File(path) => {
                let text = secret::read_file(path, WHAT).await?;
                parse(&text).ok_or_else(|| format!("{} holds no key id and secret", path.display()))
            }
            Self::Command(command) => run(command).await,
            Self::Profile { name, files } => {
                for path in files {
                    let Ok(text) = secret::read_file(path, WHAT).await else {
                        continue;
                    };
                    let section = profile_section(&text, name);
                    if let Some(credentials) = parse(&section) {
                        return Ok(credentials);
                    }
                    if let Some(command) = setting(&section, "credential_process") {
                        return run(&command).await;
                    }
                }
                Err(format!(
                    "no credentials: neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY nor the AWS profile \"{name}\" are there"
                ))
            }
        }
    }
}

/// AWS's own files, in the order they are looked through.
pub(super) fn profile_files(env: Environment<'_>) -> Vec<PathBuf> {
    let home = env("HOME").map(PathBuf::from);
    let place = |key, name: &str| {
        env(key).map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(".aws").join(name)))
    };
    let files = [place("AWS_SHARED_CREDENTIALS_FILE", "credentials"), place("AWS_CONFIG_FILE", "config")];
    files.into_iter().flatten().collect()
}

/// The lines of `[name]` or `[profile name]`.
pub(super) fn profile_section(text: &str, name: &str) -> String {
    let mut inside = false;
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let head = head.trim();
            inside = head == name || head.strip_prefix("profile").is_some_and(|rest| rest.trim() == name);
        } else if inside {
            section.push_str(line);
            section.push('\n');
        }
    }
    section
}

/// The value of `key = value` among lines, whatever the case of the key.
pub(super) fn setting(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.trim().eq_ignore_ascii_case(key) && !value.is_empty()).then(|| value.to_owned())
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

fn parse(text: &str) -> Option<Credentials> {
    if text.trim_start().starts_with('{') {
        let printed: Printed = serde_json::from_str(text).ok()?;
        return Some(Credentials {
            key_id: printed.access_key_id,
            secret: Secret::new(printed.secret_access_key),
            token: printed.session_token.map(Secret::new),
            expires: printed.expiration.and_then(|at| calendar::parse_iso(&at)),
        });
    }
    if let (Some(key_id), Some(secret)) = (setting(text, "aws_access_key_id"), setting(text, "aws_secret_access_key")) {
        let token = setting(text, "aws_session_token").map(Secret::new);
        return Some(Credentials { key_id, secret: Secret::new(secret), token, expires: None });
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [key_id, secret] if !key_id.contains('=') => {
            Some(Credentials { key_id: key_id.to_owned(), secret: Secret::new(secret), token: None, expires: None })
        }
        _ => None,
    }
}

async fn run(command: &str) -> Result<Credentials, String> {
    let text = secret::run(command, WHAT).await?;
    parse(&text).ok_or_else(|| "the command for the credentials printed no key id and secret".into())
}

/// Seconds since the epoch by this machine's clock.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_environment(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn every_form_is_read() {
        let forms = [
            "KEY SECRET\n",
            "KEY\nSECRET\n",
            "AWS_ACCESS_KEY_ID=KEY\nexport AWS_SECRET_ACCESS_KEY='SECRET'\n",
            "aws_access_key_id = KEY\naws_secret_access_key = SECRET\n",
            r#"{"Version": 1, "AccessKeyId": "KEY", "SecretAccessKey": "SECRET"}"#,
        ];
        for form in forms {
            let read = parse(form).unwrap_or_else(|| panic!("{form} was not read"));
            assert_eq!((read.key_id.as_str(), read.secret.expose()), ("KEY", "SECRET"), "{form}");
        }
        for form in ["", "KEY", "A B C", "{}", "aws_access_key_id = KEY"] {
            assert!(parse(form).is_none(), "{form}");
        }
    }

    #[test]
    fn an_expiry_makes_credentials_stale_a_minute_before() {
        let text =
            r#"{"AccessKeyId":"K","SecretAccessKey":"S","SessionToken":"T","Expiration":"2015-10-21T07:28:00Z"}"#;
        let read = parse(text).expect("it is read");
        assert_eq!(read.token.as_ref().map(Secret::expose), Some("T"));
        assert!(!read.is_stale(1_445_412_480 - 61));
        assert!(read.is_stale(1_445_412_480 - 60));
    }

    #[test]
    fn a_profile_is_found_under_either_spelling() {
        let text = "[default]\nregion = a\n[profile photos]\nregion = b\n[photos2]\nregion = c\n";
        for (name, region) in [("default", "a"), ("photos", "b"), ("photos2", "c")] {
            assert_eq!(setting(&profile_section(text, name), "region").as_deref(), Some(region));
        }
        assert!(profile_section(text, "absent").is_empty());
    }

    #[test]
    fn two_sources_are_refused() {
        let config =
            CredentialConfig { file: Some("/k".into()), command: Some("true".into()), ..CredentialConfig::default() };
        let (setting, _) = Source::choose(&config, &no_environment).expect_err("two sources");
        assert_eq!(setting, "credentials");
    }

    #[tokio::test]
    async fn a_command_prints_a_key_or_is_told_off() {
        let read = Source::Command("echo KEY SECRET".into()).read().await.expect("it prints a key");
        assert_eq!(read.key_id, "KEY");
        let failed = Source::Command("echo hunter2; exit 3".into()).read().await.expect_err("it fails");
        assert!(failed.contains("exit status: 3") && !failed.contains("hunter2"), "{failed}");
        let empty = Source::Command("echo hunter2".into()).read().await.expect_err("that is no key");
        assert!(!empty.contains("hunter2"), "{empty}");
    }
}
