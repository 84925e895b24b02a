//! From a target to a session: TCP, the server's identity, the login, the subsystem.

use std::{borrow::Cow, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use russh::{
    ChannelMsg, MethodKind, cipher,
    client::{self, AuthResult, DisconnectReason, Handle, KeyboardInteractiveAuthResponse},
    keys::{
        self, Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, agent::client::AgentClient,
    },
};
use tokio::net::TcpStream;

use super::{
    config::{Proof, Target},
    known_hosts::Known,
    session::{Failure, Obituary, Session},
};
use crate::{port::StoreError, secret::SecretSource};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long greeting, keys and login may take after that.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long bytes may stay unacknowledged before the kernel gives the connection up.
const UNACKNOWLEDGED_MILLIS: u32 = 30_000;
/// A silent server is asked for a sign of life this often, and given up after three without an answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How much a server may send ahead on one connection.
const WINDOW_BYTES: u32 = 8 << 20;
/// The most keys of an agent that are tried: servers hang up after six refusals.
const AGENT_KEYS_MAX: usize = 4;

/// With AES in hardware, which servers have, it takes a fraction of the time of ChaCha20.
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_192_CTR, cipher::AES_128_CTR];

/// Connects, checks, logs in, and asks for SFTP.
pub(super) async fn connect(target: &Target) -> Result<Session, StoreError> {
    let place = format!("{}:{}", target.host, target.port);
    let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((target.host.as_str(), target.port))).await;
    let tcp = match tcp {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => return Err(unavailable(format!("{place}: {error}"))),
        Err(_) => return Err(unavailable(format!("{place}: no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
    };
    let _ = tcp.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&tcp, UNACKNOWLEDGED_MILLIS);
    match tokio::time::timeout(LOGIN_TIMEOUT, log_in(target, tcp)).await {
        Ok(session) => session,
        Err(_) => Err(unavailable(format!("{place}: no login within {} s", LOGIN_TIMEOUT.as_secs()))),
    }
}

async fn log_in(target: &Target, tcp: TcpStream) -> Result<Session, StoreError> {
    let known = read_known(target).await?;
    let config = client::Config {
        client_id: russh::SshId::Standard(concat!("SSH-2.0-haven_", env!("CARGO_PKG_VERSION")).into()),
        window_size: WINDOW_BYTES,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        preferred: russh::Preferred { key: host_keys(&known), cipher: CIPHERS.into(), ..russh::Preferred::DEFAULT },
        ..client::Config::default()
    };
    let distrust = Arc::new(Mutex::new(None));
    let obituary = Obituary::default();
    let host = Host { target: target.clone(), known, distrust: distrust.clone(), obituary: obituary.clone() };
    let connected = client::connect_stream(Arc::new(config), tcp, host).await;
    if let Some(detail) = distrust.lock().take() {
        return Err(StoreError::Untrusted { detail });
    }
    let mut connection = connected.map_err(|error| broken(&obituary, &error))?;
    prove(target, &mut connection).await.map_err(|refused| match refused {
        Refused::Not(detail) => StoreError::Unauthorized { detail },
        Refused::Broken(error) => broken(&obituary, &error),
    })?;
    let channel = connection.channel_open_session().await.map_err(|error| broken(&obituary, &error))?;
    channel.request_subsystem(true, "sftp").await.map_err(|error| broken(&obituary, &error))?;
    let (mut from, to) = channel.split();
    loop {
        match from.wait().await {
            Some(ChannelMsg::Success) => break,
            Some(ChannelMsg::Failure) => {
                return Err(StoreError::Unsupported { detail: "the server offers this user no SFTP".into() });
            }
            Some(_) => {}
            None => return Err(unavailable("the server hung up when it was asked for SFTP".into())),
        }
    }
    Session::greet(from, to, connection, obituary).await.map_err(|failure| match failure {
        Failure::Garbled(what) => StoreError::Unsupported { detail: format!("the server speaks {what}") },
        failure => failure.into_error("the greeting"),
    })
}

fn unavailable(detail: String) -> StoreError {
    StoreError::Unavailable { detail, after: None }
}

fn broken(obituary: &Obituary, error: &russh::Error) -> StoreError {
    match error {
        russh::Error::NoCommonAlgo { kind, theirs, .. } => StoreError::Unsupported {
            detail: format!("the server offers no {kind:?} algorithm that is safe: {}", theirs.join(", ")),
        },
        error => unavailable(obituary.lock().clone().unwrap_or_else(|| error.to_string())),
    }
}

async fn read_known(target: &Target) -> Result<Known, StoreError> {
    let target = target.clone();
    let read = tokio::task::spawn_blocking(move || Known::read(&target)).await;
    read.map_err(|error| unavailable(error.to_string()))
}

/// The kinds of host keys, those first that we know of this host.
fn host_keys(known: &Known) -> Cow<'static, [Algorithm]> {
    let mut kinds = russh::Preferred::DEFAULT.key.into_owned();
    kinds.sort_by_key(|kind| !known.has(kind));
    kinds.into()
}

/// What we do when the server speaks first.
struct Host {
    target: Target,
    known: Known,
    /// Why the server is not trusted.
    distrust: Obituary,
    obituary: Obituary,
}

impl client::Handler for Host {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let verdict = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.known.check(&self.target, key),
            PublicKeyOrCertificate::Certificate(_) => Err("it has shown a certificate, which nobody asked for".into()),
        };
        *self.distrust.lock() = verdict.err();
        Ok(self.distrust.lock().is_none())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let told = match reason {
            DisconnectReason::ReceivedDisconnect(told) => format!("the server hung up: {}", told.message),
            DisconnectReason::Error(error) => {
                let told = error.to_string();
                self.obituary.lock().get_or_insert(format!("the connection was cut: {told}"));
                return Err(error);
            }
        };
        self.obituary.lock().get_or_insert(told);
        Ok(())
    }
}

/// Why there is no login.
enum Refused {
    Not(String),
    Broken(russh::Error),
}

impl From<russh::Error> for Refused {
    fn from(error: russh::Error) -> Self {
        Self::Broken(error)
    }
}

/// Tries the proofs in their order.
async fn prove(target: &Target, connection: &mut Handle<Host>) -> Result<(), Refused> {
    let user = target.user.as_str();
    let mut tried = Vec::new();
    for proof in &target.proofs {
        let result = match proof {
            Proof::Agent(socket) => with_agent(user, socket, connection, &mut tried).await?,
            Proof::Key { path, passphrase } => {
                with_key(user, path, passphrase.as_ref(), connection, &mut tried).await?
            }
            Proof::Password(source) => with_password(user, source, connection, &mut tried).await?,
        };
        if result {
            return Ok(());
        }
    }
    let tried = if tried.is_empty() { "there is no key and no password to try".to_owned() } else { tried.join("; ") };
    Err(Refused::Not(format!("user {user}: {tried}")))
}

/// Takes note of an answer; whether it is success.
fn accepted(answer: AuthResult, what: impl FnOnce() -> String, tried: &mut Vec<String>) -> bool {
    match answer {
        AuthResult::Success => true,
        AuthResult::Failure { partial_success: true, .. } => {
            tried.push(format!("{} was accepted, and more is demanded", what()));
            false
        }
        AuthResult::Failure { remaining_methods, .. } => {
            let methods: Vec<&str> = remaining_methods.iter().map(<&str>::from).collect();
            tried.push(format!("{} was refused (the server takes {})", what(), methods.join(", ")));
            false
        }
    }
}

async fn with_agent(
    user: &str,
    socket: &Path,
    connection: &mut Handle<Host>,
    tried: &mut Vec<String>,
) -> Result<bool, Refused> {
    let held = async {
        let mut agent = AgentClient::connect_uds(socket).await?;
        let identities = agent.request_identities().await?;
        Ok::<_, keys::Error>((agent, identities))
    };
    let (mut agent, identities) = match held.await {
        Ok(held) => held,
        Err(error) => {
            tried.push(format!("ssh-agent does not answer: {error}"));
            return Ok(false);
        }
    };
    if identities.is_empty() {
        tried.push("ssh-agent holds no key".into());
    }
    for identity in identities.iter().take(AGENT_KEYS_MAX) {
        let key = identity.public_key().into_owned();
        let hash = signature_hash(&key, connection).await?;
        let print = key.fingerprint(HashAlg::Sha256);
        match connection.authenticate_publickey_with(user, key, hash, &mut agent).await {
            Ok(answer) => {
                if accepted(answer, || format!("the key {print} of ssh-agent"), tried) {
                    return Ok(true);
                }
            }
            Err(error) => tried.push(format!("ssh-agent does not sign with {print}: {error}")),
        }
    }
    Ok(false)
}

async fn with_key(
    user: &str,
    path: &Path,
    passphrase: Option<&SecretSource>,
    connection: &mut Handle<Host>,
    tried: &mut Vec<String>,
) -> Result<bool, Refused> {
    let shown = path.display();
    let key = match read_key(path, passphrase).await {
        Ok(Some(key)) => key,
        Ok(None) => {
            tried.push(format!("there is no key {shown}"));
            return Ok(false);
        }
        Err(why) => {
            tried.push(why);
            return Ok(false);
        }
    };
    let hash = signature_hash(key.public_key(), connection).await?;
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    let answer = connection.authenticate_publickey(user, key).await?;
    Ok(accepted(answer, || format!("the key {shown}"), tried))
}

/// The key in a file; `None` if there is no such file.
async fn read_key(path: &Path, passphrase: Option<&SecretSource>) -> Result<Option<keys::PrivateKey>, String> {
    let owned = path.to_owned();
    let there = tokio::task::spawn_blocking(move || owned.exists()).await;
    if !there.unwrap_or(false) {
        return Ok(None);
    }
    let text = crate::secret::read_file(path, "the key").await?;
    let passphrase = match passphrase {
        Some(source) => Some(source.read("the passphrase of the key").await?),
        None => None,
    };
    let decoded = match keys::decode_secret_key(&text, None) {
        Err(keys::Error::KeyIsEncrypted) => match &passphrase {
            None => {
                return Err(format!(
                    "the key {} has a passphrase: hold it in ssh-agent, or set store.sftp.key_passphrase",
                    path.display()
                ));
            }
            Some(passphrase) => keys::decode_secret_key(&text, Some(passphrase.expose())),
        },
        decoded => decoded,
    };
    decoded.map(Some).map_err(|error| format!("the key {} can't be used: {error}", path.display()))
}

/// RSA keys sign with the best hash that the server knows; others have but one way.
async fn signature_hash(key: &PublicKey, connection: &Handle<Host>) -> Result<Option<HashAlg>, Refused> {
    if !matches!(key.algorithm(), Algorithm::Rsa { .. }) {
        return Ok(None);
    }
    // A server that does not say is taken for one of the last ten years.
    Ok(connection.best_supported_rsa_hash().await?.unwrap_or(Some(HashAlg::Sha512)))
}

async fn with_password(
    user: &str,
    source: &SecretSource,
    connection: &mut Handle<Host>,
    tried: &mut Vec<String>,
) -> Result<bool, Refused> {
    let password = match source.read("the password").await {
        Ok(password) => password,
        Err(why) => {
            tried.push(why);
            return Ok(false);
        }
    };
    let answer = connection.authenticate_password(user, password.expose()).await?;
    // Many servers know passwords only as the answer to a question.
    let asks = matches!(&answer, AuthResult::Failure { remaining_methods, .. }
        if remaining_methods.contains(&MethodKind::KeyboardInteractive)
        && !remaining_methods.contains(&MethodKind::Password));
    if !asks {
        return Ok(accepted(answer, || "the password".into(), tried));
    }
    let mut answer = connection.authenticate_keyboard_interactive_start(user, None).await?;
    loop {
        match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                let answer = AuthResult::Failure { remaining_methods, partial_success };
                return Ok(accepted(answer, || "the password".into(), tried));
            }
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                let responses = prompts.iter().map(|_| password.expose().to_owned()).collect();
                answer = connection.authenticate_keyboard_interactive_respond(responses).await?;
            }
        }
    }
}
