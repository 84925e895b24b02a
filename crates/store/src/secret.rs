//! A text that is never shown, and where such texts come from.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How long a command may take to print a secret.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a variable of the environment.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment; empty is absent. A home there is also where nobody says so: a service of systemd has no
/// HOME, and is to find the keys that a person at a shell has.
pub(crate) fn environment(key: &str) -> Option<String> {
    with_home(key, std::env::var(key).ok(), std::env::home_dir)
}

fn with_home(key: &str, said: Option<String>, home: impl FnOnce() -> Option<PathBuf>) -> Option<String> {
    let home = || home().filter(|_| key == "HOME")?.into_os_string().into_string().ok();
    said.filter(|value| !value.is_empty()).or_else(home)
}

/// A secret: `Debug` and logs show nothing of it, and its memory is cleared when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself; for whoever signs or seals with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where a password comes from. At most one may be set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretConfig {
    /// A file whose first line it is.
    pub file: Option<PathBuf>,
    /// The name of a systemd credential (`LoadCredential=`), found in `$CREDENTIALS_DIRECTORY`.
    pub systemd: Option<String>,
    /// A shell command that prints it as its first line.
    pub command: Option<String>,
}

/// One place to look, decided when a store is opened. It is read again for each use, so that a changed
/// password takes effect without a restart.
#[derive(Debug, Clone)]
pub(crate) enum SecretSource {
    Fixed(Secret),
    File(PathBuf),
    Command(String),
}

impl SecretSource {
    /// Decides where to look; `variable` of the environment comes last. The error says what is wrong.
    pub(crate) fn choose(config: &SecretConfig, variable: &str, env: Environment<'_>) -> Result<Option<Self>, String> {
        match (&config.file, &config.systemd, &config.command) {
            (None, None, None) => Ok(env(variable).map(|value| Self::Fixed(Secret::new(value)))),
            (Some(path), None, None) => Ok(Some(Self::File(path.clone()))),
            (None, Some(name), None) => Ok(Some(Self::File(systemd_credential(name, env)?))),
            (None, None, Some(command)) => Ok(Some(Self::Command(command.clone()))),
            _ => Err("only one of file, systemd and command can be the source".into()),
        }
    }

    /// The secret, called `what` in errors, which never show what was there.
    pub(crate) async fn read(&self, what: &str) -> Result<Secret, String> {
        let text = match self {
            Self::Fixed(secret) => return Ok(secret.clone()),
            Self::File(path) => read_file(path, what).await?,
            Self::Command(command) => run(command, what).await?,
        };
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(Secret::new(line)),
            _ => Err(format!("{what} is empty")),
        }
    }
}

/// Where systemd has put a credential.
pub(crate) fn systemd_credential(name: &str, env: Environment<'_>) -> Result<PathBuf, String> {
    let folder = env("CREDENTIALS_DIRECTORY")
        .ok_or("CREDENTIALS_DIRECTORY is not set: this is no systemd service, or it has no LoadCredential=")?;
    Ok(Path::new(&folder).join(name))
}

pub(crate) async fn read_file(path: &Path, what: &str) -> Result<Zeroizing<String>, String> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(owned)).await;
    let read = read.map_err(std::io::Error::other).flatten().map(Zeroizing::new);
    read.map_err(|error| format!("{what} in {} can't be read: {error}", path.display()))
}

/// What a shell command prints.
pub(crate) async fn run(command: &str, what: &str) -> Result<Zeroizing<String>, String> {
    let mut child = tokio::process::Command::new("/bin/sh");
    child.arg("-c").arg(command).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_TIMEOUT, child.output()).await;
    let output = output
        .map_err(|_| format!("the command for {what} did not end within {} s", COMMAND_TIMEOUT.as_secs()))?
        .map_err(|error| format!("the command for {what} can't be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("the command for {what} failed ({})", output.status));
    }
    let printed = Zeroizing::new(output.stdout);
    Ok(Zeroizing::new(String::from_utf8_lossy(&printed).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_a_home_though_nobody_tells_it() {
        let home = || Some(PathBuf::from("/root"));
        assert_eq!(with_home("HOME", None, home).as_deref(), Some("/root"));
        assert_eq!(with_home("HOME", Some("/home/me".into()), home).as_deref(), Some("/home/me"));
        assert_eq!(with_home("SSH_AUTH_SOCK", None, home), None);
        assert_eq!(with_home("SSH_AUTH_SOCK", Some(String::new()), home), None);
    }

    #[tokio::test]
    async fn a_secret_is_the_first_line_of_its_source() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("password");
        std::fs::write(&path, "pass word\nnot this\n").expect("it is written");
        let env = |key: &str| (key == "CREDENTIALS_DIRECTORY").then(|| folder.path().display().to_string());
        let configs = [
            SecretConfig { file: Some(path), ..SecretConfig::default() },
            SecretConfig { systemd: Some("password".into()), ..SecretConfig::default() },
            SecretConfig { command: Some("echo 'pass word'; echo more".into()), ..SecretConfig::default() },
        ];
        for config in configs {
            let source = SecretSource::choose(&config, "X", &env).expect("one source").expect("a source");
            assert_eq!(source.read("the password").await.expect("it is read").expose(), "pass word");
        }
    }

    #[tokio::test]
    async fn the_environment_comes_last_and_two_sources_are_refused() {
        let env = |key: &str| (key == "X").then(|| "from env".to_owned());
        let none = SecretConfig::default();
        let found = SecretSource::choose(&none, "X", &env).expect("no fault").expect("a source");
        assert_eq!(found.read("it").await.expect("it is read").expose(), "from env");
        assert!(SecretSource::choose(&none, "Y", &env).expect("no fault").is_none());
        let two = SecretConfig { file: Some("/f".into()), command: Some("true".into()), systemd: None };
        assert!(SecretSource::choose(&two, "X", &env).is_err());
        let silent = SecretSource::Command("true".into()).read("the password").await.expect_err("nothing printed");
        assert_eq!(silent, "the password is empty");
    }

    #[test]
    fn nothing_of_it_is_shown() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "(secret)");
    }
}
