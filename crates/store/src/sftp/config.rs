//! The settings of an SFTP store, and what URL, settings and environment make of them together.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    open::OpenError,
    secret::{Environment, SecretConfig, SecretSource},
    url::{Remote, bracketed},
};

/// What a server that is asked for no other number of connections surely allows.
const CONNECTIONS_MAX: usize = 16;

/// The settings of an SFTP store: the table `[store.sftp]` of haven.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftpConfig {
    /// The private key to log in with. With none of key, password and agent set: what the agent of
    /// `SSH_AUTH_SOCK` holds, then `id_ed25519`, `id_ecdsa` and `id_rsa` in `~/.ssh`.
    pub key_file: Option<PathBuf>,
    /// The passphrase of the private key, if it has one; else `HAVEN_SFTP_KEY_PASSPHRASE`.
    pub key_passphrase: SecretConfig,
    /// The password to log in with; else `HAVEN_SFTP_PASSWORD`.
    pub password: SecretConfig,
    /// The socket of the ssh-agent whose keys to log in with.
    pub agent: Option<PathBuf>,
    /// Where the keys of servers are; absent: `~/.ssh/known_hosts`, then `/etc/ssh/ssh_known_hosts`.
    pub known_hosts: Option<PathBuf>,
    /// The fingerprint of the server's key, `SHA256:…`. Then no file of known hosts is looked at.
    pub fingerprint: Option<String>,
    /// The most connections at once.
    pub connections: usize,
}

impl Default for SftpConfig {
    fn default() -> Self {
        Self {
            key_file: None,
            key_passphrase: SecretConfig::default(),
            password: SecretConfig::default(),
            agent: None,
            known_hosts: None,
            fingerprint: None,
            connections: 2,
        }
    }
}

/// Where to connect to, and how to log in.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub user: String,
    pub host: String,
    pub port: u16,
    /// `.` or a path without a slash at its end; empty for the server's root.
    pub root: String,
    /// Whom the server has to be.
    pub identity: Identity,
    pub proofs: Vec<Proof>,
    pub connections: usize,
}

/// How the server's key is checked.
#[derive(Debug, Clone)]
pub(super) enum Identity {
    /// Its SHA-256 fingerprint, with its prefix.
    Fingerprint(String),
    /// Files of known hosts; a line to be added goes into the first.
    KnownHosts(Vec<PathBuf>),
}

/// One way to log in.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    Agent(PathBuf),
    Key { path: PathBuf, passphrase: Option<SecretSource> },
    Password(SecretSource),
}

impl Target {
    pub(super) fn resolve(remote: Remote, config: &SftpConfig, env: Environment<'_>) -> Result<Self, OpenError> {
        let refuse = |setting: &str, why: String| OpenError::Setting { setting: format!("sftp.{setting}"), why };
        let Some(user) = remote.user.or_else(|| env("USER")).or_else(|| env("LOGNAME")) else {
            return Err(OpenError::Url {
                url: format!("sftp://{}{}", remote.host, remote.path),
                why: "the user is missing: sftp://user@host/path".into(),
            });
        };
        let root = match remote.path.strip_prefix("/~") {
            Some("") => ".".to_owned(),
            Some(relative) if relative.starts_with('/') => relative[1..].to_owned(),
            _ => remote.path,
        };
        if !(1..=CONNECTIONS_MAX).contains(&config.connections) {
            return Err(refuse("connections", format!("it is a number from 1 to {CONNECTIONS_MAX}")));
        }
        let home = env("HOME").map(|home| PathBuf::from(home).join(".ssh"));
        let identity = match (&config.fingerprint, &config.known_hosts) {
            (Some(pinned), _) if !pinned.starts_with("SHA256:") || pinned.len() != 50 => {
                return Err(refuse("fingerprint", "it begins with SHA256: and has 43 characters more".into()));
            }
            (Some(pinned), _) => Identity::Fingerprint(pinned.clone()),
            (None, Some(path)) => Identity::KnownHosts(vec![path.clone()]),
            (None, None) => {
                let own = home.iter().map(|home| home.join("known_hosts"));
                Identity::KnownHosts(own.chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]).collect())
            }
        };
        let secret = |config, variable, setting: &str| {
            SecretSource::choose(config, variable, env).map_err(|why| refuse(setting, why))
        };
        let passphrase = secret(&config.key_passphrase, "HAVEN_SFTP_KEY_PASSPHRASE", "key_passphrase")?;
        let password = secret(&config.password, "HAVEN_SFTP_PASSWORD", "password")?;
        let key = |path| Proof::Key { path, passphrase: passphrase.clone() };
        // What was asked for by name is used alone: servers count refused tries.
        let named = [config.key_file.clone().map(key), config.agent.clone().map(Proof::Agent)];
        let mut proofs: Vec<Proof> = named.into_iter().flatten().chain(password.map(Proof::Password)).collect();
        if proofs.is_empty() {
            proofs.extend(env("SSH_AUTH_SOCK").map(|socket| Proof::Agent(socket.into())));
            let usual = home.iter().flat_map(|home| ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| home.join(name)));
            proofs.extend(usual.map(key));
        }
        Ok(Self {
            user,
            host: remote.host,
            port: remote.port.unwrap_or(22),
            root,
            identity,
            proofs,
            connections: config.connections,
        })
    }

    /// The URL, which has no secrets.
    pub(super) fn url(&self) -> String {
        let host = bracketed(&self.host);
        let port = if self.port == 22 { String::new() } else { format!(":{}", self.port) };
        let path = match self.root.as_str() {
            "." => "/~".to_owned(),
            root if root.starts_with('/') || root.is_empty() => root.to_owned(),
            relative => format!("/~/{relative}"),
        };
        format!("sftp://{}@{host}{port}{path}", self.user)
    }

    /// The path of what is called `name` below the root.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    /// The path of the root itself.
    pub(super) fn root_path(&self) -> &str {
        if self.root.is_empty() { "/" } else { &self.root }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: &str, config: &SftpConfig, env: &[(&str, &str)]) -> Result<Target, OpenError> {
        let env = |key: &str| env.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned());
        Target::resolve(Remote::parse(url, url.trim_start_matches("sftp://"))?, config, &env)
    }

    #[test]
    fn a_path_is_absolute_or_below_the_users_home() {
        for (url, root) in [
            ("sftp://me@nas/srv/photos", "/srv/photos"),
            ("sftp://me@nas:2222/~/photos/a", "photos/a"),
            ("sftp://me@[::1]/~", "."),
            ("sftp://me@nas", ""),
        ] {
            let target = resolve(url, &SftpConfig::default(), &[]).expect("it resolves");
            assert_eq!((target.root.as_str(), target.url().as_str()), (root, url));
        }
        assert!(resolve("sftp://nas/x", &SftpConfig::default(), &[]).is_err());
        let mine = resolve("sftp://nas/x", &SftpConfig::default(), &[("USER", "me")]).expect("it resolves");
        assert_eq!(mine.url(), "sftp://me@nas/x");
    }

    #[test]
    fn what_was_asked_for_by_name_is_used_alone() {
        let env = [("HOME", "/home/me"), ("SSH_AUTH_SOCK", "/agent")];
        let usual = resolve("sftp://me@nas/x", &SftpConfig::default(), &env).expect("it resolves");
        assert!(matches!(
            &usual.proofs[..],
            [Proof::Agent(_), Proof::Key { .. }, Proof::Key { .. }, Proof::Key { .. }]
        ));
        let config = SftpConfig { key_file: Some("/k".into()), ..SftpConfig::default() };
        let named = resolve("sftp://me@nas/x", &config, &env).expect("it resolves");
        assert!(matches!(&named.proofs[..], [Proof::Key { path, .. }] if path.as_os_str() == "/k"));
        let password = [("HAVEN_SFTP_PASSWORD", "x"), ("HOME", "/home/me")];
        let password = resolve("sftp://me@nas/x", &SftpConfig::default(), &password).expect("it resolves");
        assert!(matches!(&password.proofs[..], [Proof::Password(_)]));
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for config in [
            SftpConfig { fingerprint: Some("MD5:aa".into()), ..SftpConfig::default() },
            SftpConfig { connections: 0, ..SftpConfig::default() },
            SftpConfig { connections: 99, ..SftpConfig::default() },
        ] {
            let refused = resolve("sftp://me@nas/x", &config, &[]);
            assert!(matches!(refused, Err(OpenError::Setting { .. })), "{config:?}");
        }
    }
}
