//! How the page is served, and to whom.

use std::{net::SocketAddr, time::Duration};

use http::Uri;
use jiff::tz::TimeZone;

use crate::auth::{Network, Token};

/// A reverse proxy before the page.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The header in which it names the person whom it has let in, `Remote-User` say: no token is asked for then. The
    /// proxy must remove what a browser sends under that name.
    pub header: Option<http::HeaderName>,
    /// Where the proxy connects from. From elsewhere its headers, and `X-Forwarded-For`, say nothing.
    pub from: Vec<Network>,
}

#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen. Anything but loopback wants TLS before it.
    pub listen: SocketAddr,
    /// What the page is called from outside, where a proxy stands before it: `https://photos.example.org`. Cookies are
    /// then sent by TLS alone.
    pub url: Option<Uri>,
    pub token: Option<Token>,
    pub proxy: Option<Proxy>,
    /// What Prometheus shows (`Authorization: Bearer`). Without it `/metrics` wants a person who is logged in.
    pub metrics_token: Option<Token>,
    /// Look, and do nothing: restoring included.
    pub read_only: bool,
    /// How long a login lasts.
    pub session: Duration,
    /// The zone that times are told in.
    pub zone: TimeZone,
}

/// Why settings can't be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("nobody could come in: neither a token nor a proxy is set")]
    NoWayIn,
    #[error("a proxy's header is believed from nowhere: say which addresses it connects from")]
    ProxyFromNowhere,
    #[error("the page's own address {0} is no http:// or https:// URL without a path")]
    Url(String),
}

impl Settings {
    /// What holds where nothing is said: loopback, twelve hours, this machine's zone.
    pub fn new(token: Option<Token>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            url: None,
            token,
            proxy: None,
            metrics_token: None,
            read_only: false,
            session: Duration::from_secs(12 * 3600),
            zone: TimeZone::system(),
        }
    }

    pub fn check(&self) -> Result<(), SettingsError> {
        let named = self.proxy.as_ref().is_some_and(|proxy| proxy.header.is_some());
        if self.token.is_none() && !named {
            return Err(SettingsError::NoWayIn);
        }
        if self.proxy.as_ref().is_some_and(|proxy| proxy.from.is_empty()) {
            return Err(SettingsError::ProxyFromNowhere);
        }
        if let Some(url) = &self.url {
            let fit = matches!(url.scheme_str(), Some("http" | "https"))
                && url.authority().is_some()
                && matches!(url.path(), "" | "/");
            if !fit {
                return Err(SettingsError::Url(url.to_string()));
            }
        }
        Ok(())
    }

    /// Whether browsers reach the page by TLS.
    pub(crate) fn by_tls(&self) -> bool {
        self.url.as_ref().is_some_and(|url| url.scheme_str() == Some("https"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_nobody_or_everybody_could_enter_is_refused() {
        let token = Token::new("a token of some length").ok();
        assert_eq!(Settings::new(None).check(), Err(SettingsError::NoWayIn));
        assert_eq!(Settings::new(token.clone()).check(), Ok(()));
        let header = Some(http::HeaderName::from_static("remote-user"));
        let proxy = Settings { proxy: Some(Proxy { header, from: Vec::new() }), ..Settings::new(None) };
        assert_eq!(proxy.check(), Err(SettingsError::ProxyFromNowhere));
        for url in ["https://photos.example.org/haven", "photos.example.org", "/"] {
            let odd = Settings { url: url.parse().ok(), ..Settings::new(token.clone()) };
            assert!(matches!(odd.check(), Err(SettingsError::Url(_))), "{url}");
        }
    }

    #[test]
    fn it_listens_on_loopback_if_nobody_says_otherwise() {
        assert!(Settings::new(None).listen.ip().is_loopback());
    }
}
