//! The settings of a WebDAV store, and what URL, settings and environment make of them together.

use std::path::PathBuf;

use data_encoding::BASE64;
use http::{
    HeaderValue,
    uri::{Authority, Scheme},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    open::OpenError,
    secret::{Environment, SecretConfig, SecretSource},
    url::{Remote, bracketed, encode},
};

/// The settings of a WebDAV store: the table `[store.webdav]` of haven.toml.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebDavConfig {
    /// Who logs in with the password; what the URL says goes before.
    pub user: Option<String>,
    /// The password; else `HAVEN_WEBDAV_PASSWORD`.
    pub password: SecretConfig,
    /// A token that is sent instead of user and password (`Bearer`); else `HAVEN_WEBDAV_TOKEN`.
    pub token: SecretConfig,
    /// Certificates (PEM) to trust beside the system's: for a private CA.
    pub ca_file: Option<PathBuf>,
}

/// Where requests go, and who asks.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub scheme: Scheme,
    pub authority: Authority,
    /// The path of the root collection, encoded, with a slash at its end.
    pub base: String,
    pub identity: Option<Identity>,
    url: String,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) enum Identity {
    Basic { user: String, password: SecretSource },
    Bearer(SecretSource),
}

impl Identity {
    /// The header `authorization`. The error says what was missing, and never what was there.
    pub(super) async fn header(&self) -> Result<HeaderValue, String> {
        let text = match self {
            Self::Basic { user, password } => {
                let password = password.read("the password").await?;
                let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
                Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())))
            }
            Self::Bearer(token) => Zeroizing::new(format!("Bearer {}", token.read("the token").await?.expose())),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| "the token can't be part of a request".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Target {
    pub(super) fn resolve(
        remote: Remote,
        https: bool,
        config: &WebDavConfig,
        env: Environment<'_>,
    ) -> Result<Self, OpenError> {
        let refuse = |setting: &str, why: String| OpenError::Setting { setting: format!("webdav.{setting}"), why };
        let secret = |config, variable, setting: &str| {
            SecretSource::choose(config, variable, env).map_err(|why| refuse(setting, why))
        };
        let token = secret(&config.token, "HAVEN_WEBDAV_TOKEN", "token")?;
        let password = secret(&config.password, "HAVEN_WEBDAV_PASSWORD", "password")?;
        let user = remote.user.clone().or_else(|| config.user.clone());
        let identity = match (token, user, password) {
            (Some(_), _, Some(_)) => return Err(refuse("token", "there is a password as well: which is it?".into())),
            (Some(token), _, None) => Some(Identity::Bearer(token)),
            (None, Some(user), Some(_)) if user.contains(':') => {
                return Err(refuse("user", format!("{user:?} has a colon in it, which no user of HTTP has")));
            }
            (None, Some(user), Some(password)) => Some(Identity::Basic { user, password }),
            (None, None, Some(_)) => return Err(refuse("user", "there is a password, and nobody whose it is".into())),
            (None, Some(_), None) => return Err(refuse("password", "there is a user, and no password".into())),
            (None, None, None) => None,
        };
        let scheme = if https { Scheme::HTTPS } else { Scheme::HTTP };
        let host = bracketed(&remote.host);
        let place = remote.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let url = format!("webdav{}://{place}{}", if https { "s" } else { "" }, remote.path);
        let authority = place
            .parse()
            .map_err(|error| OpenError::Url { url: url.clone(), why: format!("its host is not usable: {error}") })?;
        let base = format!("{}/", encode(&remote.path, true));
        if !https && identity.is_some() && !is_this_machine(&remote.host) {
            tracing::warn!(store = %url, "user and password go over the network in the clear; use webdavs:// if you can");
        }
        Ok(Self { scheme, authority, base, identity, url })
    }

    /// The URL, which has no secrets.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The path of what is called `name` below the root, encoded. Collections end with a slash.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{}", self.base, encode(name, true))
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: &str, config: &WebDavConfig, env: &[(&str, &str)]) -> Result<Target, OpenError> {
        let env = |key: &str| env.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned());
        let (scheme, rest) = url.split_once("://").expect("a scheme");
        Target::resolve(Remote::parse(url, rest)?, scheme == "webdavs", config, &env)
    }

    #[tokio::test]
    async fn the_url_names_a_place_and_perhaps_a_user() {
        let env = [("HAVEN_WEBDAV_PASSWORD", "open sesame")];
        let target = resolve("webdavs://Aladdin@host:8443/d%20v/x/", &WebDavConfig::default(), &env).expect("a target");
        assert_eq!((target.scheme.as_str(), target.authority.as_str()), ("https", "host:8443"));
        assert_eq!((target.base.as_str(), target.path("p/a").as_str()), ("/d%20v/x/", "/d%20v/x/p/a"));
        assert_eq!(target.url(), "webdavs://host:8443/d v/x");
        // The example of RFC 7617.
        let header = target.identity.expect("a user").header().await.expect("a header");
        assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let bare = resolve("webdav://[::1]", &WebDavConfig::default(), &[]).expect("a target");
        assert_eq!((bare.authority.as_str(), bare.base.as_str(), bare.identity.is_none()), ("[::1]", "/", true));
    }

    #[tokio::test]
    async fn a_token_stands_alone() {
        let env = [("HAVEN_WEBDAV_TOKEN", "t0ken")];
        let target = resolve("webdavs://host/", &WebDavConfig::default(), &env).expect("a target");
        assert_eq!(target.identity.expect("a token").header().await.expect("a header"), "Bearer t0ken");
        let both = [("HAVEN_WEBDAV_TOKEN", "t"), ("HAVEN_WEBDAV_PASSWORD", "p")];
        assert!(resolve("webdavs://me@host/", &WebDavConfig::default(), &both).is_err());
    }

    #[test]
    fn half_an_identity_is_refused() {
        let password = [("HAVEN_WEBDAV_PASSWORD", "p")];
        assert!(resolve("webdavs://host/", &WebDavConfig::default(), &password).is_err());
        assert!(resolve("webdavs://me@host/", &WebDavConfig::default(), &[]).is_err());
        let user = WebDavConfig { user: Some("me".into()), ..WebDavConfig::default() };
        assert!(resolve("webdavs://host/", &user, &password).is_ok());
    }
}
