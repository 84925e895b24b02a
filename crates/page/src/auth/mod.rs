//! Who may see the page, and who may do something.
//!
//! A person comes in by the token, or is named by a reverse proxy. Every request that does something must also come
//! from a page of ours: by its `Origin`, and by a word that only our own forms have.

mod network;
mod session;
mod token;
mod tries;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};

use crate::settings::Settings;

pub use network::{Network, NoNetwork};
pub(crate) use token::sha256;
pub use token::{Token, TokenError};
pub use tries::{WRONG_MAX, WRONG_MAX_ALL};

/// Where a connection comes from. The server puts it into each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Somebody who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Session(String),
    Proxy(String),
}

impl Who {
    /// The name a proxy gave.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Session(_) => None,
            Self::Proxy(name) => Some(name),
        }
    }
}

pub(crate) enum Login {
    In(HeaderValue),
    Wrong,
    Wait(Duration),
}

pub(crate) struct Auth {
    settings: Settings,
    sessions: session::Sessions,
    tries: tries::Tries,
    key: hmac::Key,
}

impl Auth {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            sessions: session::Sessions::new(settings.session),
            tries: tries::Tries::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &session::random()),
        }
    }

    /// A `__Host-` cookie can't be set by a neighbouring host, and wants TLS.
    fn cookie_name(&self) -> &'static str {
        if self.settings.by_tls() { "__Host-haven" } else { "haven" }
    }

    fn cookie(&self, value: &str, seconds: u64) -> HeaderValue {
        let secure = if self.settings.by_tls() { "; Secure" } else { "" };
        let text =
            format!("{}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}", self.cookie_name());
        HeaderValue::from_str(&text).expect("letters, digits and signs")
    }

    fn by_proxy(&self, peer: IpAddr) -> bool {
        self.settings.proxy.as_ref().is_some_and(|proxy| proxy.from.iter().any(|network| network.holds(peer)))
    }

    /// Who is behind a request, if anybody was let in.
    pub(crate) fn who(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Who> {
        self.named_by_proxy(peer, headers).or_else(|| {
            let id = self.session_of(headers)?;
            Some(Who::Session(id))
        })
    }

    fn named_by_proxy(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Who> {
        let name = self.settings.proxy.as_ref()?.header.as_ref().filter(|_| self.by_proxy(peer))?;
        // Two names: one of them is not the proxy's.
        let mut values = headers.get_all(name).iter();
        let (value, more) = (values.next()?.to_str().ok()?.trim(), values.next());
        (!value.is_empty() && more.is_none()).then(|| Who::Proxy(value.to_owned()))
    }

    fn session_of(&self, headers: &HeaderMap) -> Option<String> {
        self.settings.token.as_ref()?;
        let now = Instant::now();
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let ours = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut ids = ours.filter(|(name, _)| *name == self.cookie_name()).map(|(_, id)| id);
        ids.find(|id| self.sessions.holds(id, now)).map(str::to_owned)
    }

    /// The browser's address, as far as it is known.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let forwarded = headers.get_all("x-forwarded-for").iter().next_back();
        let last = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        last.filter(|_| self.by_proxy(peer)).unwrap_or(peer)
    }

    pub(crate) fn login(&self, from: IpAddr, offered: &str) -> Login {
        let now = Instant::now();
        if let Some(wait) = self.tries.wait(from, now) {
            return Login::Wait(wait);
        }
        if !self.settings.token.as_ref().is_some_and(|token| token.is(offered)) {
            self.tries.was_wrong(from, now);
            tracing::warn!(%from, "somebody tried to log in with a wrong token");
            return Login::Wrong;
        }
        self.tries.was_right(from);
        let id = self.sessions.open(now);
        Login::In(self.cookie(id.as_str(), self.sessions.lasts().as_secs()))
    }

    /// Ends the session; the cookie that ends it in the browser.
    pub(crate) fn logout(&self, who: &Who) -> HeaderValue {
        if let Who::Session(id) = who {
            self.sessions.close(id);
        }
        self.cookie("", 0)
    }

    /// Whether who was let in still is: a session may have ended since.
    pub(crate) fn still_in(&self, who: &Who) -> bool {
        match who {
            Who::Session(id) => self.sessions.holds(id, Instant::now()),
            Who::Proxy(_) => true,
        }
    }

    /// The word that our forms have. It belongs to one session, or to one person whom a proxy names.
    pub(crate) fn word(&self, who: &Who) -> String {
        BASE64URL_NOPAD.encode(hmac::sign(&self.key, &spelled(who)).as_ref())
    }

    pub(crate) fn is_word(&self, who: &Who, offered: &str) -> bool {
        let bytes = BASE64URL_NOPAD.decode(offered.as_bytes());
        bytes.is_ok_and(|bytes| hmac::verify(&self.key, &spelled(who), &bytes).is_ok())
    }

    /// Whether the token of `Authorization: Bearer` is the one for metrics.
    pub(crate) fn may_scrape(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.settings.metrics_token else { return false };
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        sent.and_then(|text| text.split_once(' '))
            .is_some_and(|(scheme, offered)| scheme.eq_ignore_ascii_case("bearer") && token.is(offered))
    }

    /// Whether a page of ours sent this. A browser always says so where it matters.
    pub(crate) fn is_from_our_page(&self, headers: &HeaderMap) -> bool {
        let cross = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
        let Some(origin) = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok()) else { return false };
        let Ok(origin) = origin.parse::<Uri>() else { return false };
        let (Some(scheme), Some(authority)) = (origin.scheme_str(), origin.authority()) else { return false };
        let outside = self
            .settings
            .url
            .as_ref()
            .is_some_and(|url| url.scheme_str() == Some(scheme) && url.authority() == Some(authority));
        let here = !self.settings.by_tls() && host(headers).is_some_and(|host| host == *authority);
        !cross && (outside || here)
    }

    /// Whether the page is called by a name that it has. Another one means that somebody's web page points its own name
    /// at this machine.
    pub(crate) fn is_our_name(&self, headers: &HeaderMap) -> bool {
        let Some(authority) = host(headers) else { return false };
        let name = authority.host();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let ours = self.settings.url.as_ref().and_then(Uri::host);
        bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || ours.is_some_and(|ours| ours.eq_ignore_ascii_case(name))
    }
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

fn spelled(who: &Who) -> Vec<u8> {
    let (kind, id) = match who {
        Who::Session(id) => ("session", id),
        Who::Proxy(name) => ("proxy", name),
    };
    format!("{kind}\0{id}").into_bytes()
}

/// The address in a request; nobody's where the server did not say.
pub(crate) fn peer(extensions: &http::Extensions) -> IpAddr {
    extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip())
}

/// Where to go after logging in: a path of ours, or the first page.
pub(crate) fn local(next: &str) -> &str {
    let plain = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains('\\')
        && !next.chars().any(char::is_control)
        && !next.starts_with("/login");
    if plain { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Proxy;

    fn auth(change: impl FnOnce(&mut Settings)) -> Auth {
        let mut settings = Settings::new(Token::new("a token of some length").ok());
        change(&mut settings);
        Auth::new(&settings)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn after_the_login_one_stays_on_this_page() {
        assert_eq!(local("/snapshots?page=2"), "/snapshots?page=2");
        for text in ["//evil.example", "https://evil.example", "/\\evil.example", "/\nx", "", "/login?next=/login"] {
            assert_eq!(local(text), "/", "{text:?}");
        }
    }

    #[test]
    fn a_proxys_word_counts_only_from_its_address() {
        let auth = auth(|settings| {
            settings.token = None;
            let header = Some(http::HeaderName::from_static("remote-user"));
            settings.proxy = Some(Proxy { header, from: vec!["127.0.0.1".parse().expect("an address")] });
        });
        let (near, far) = ("127.0.0.1".parse().expect("an address"), "192.0.2.1".parse().expect("an address"));
        let named = headers(&[("remote-user", "anna")]);
        assert_eq!(auth.who(near, &named), Some(Who::Proxy("anna".into())));
        assert_eq!(auth.who(far, &named), None);
        assert_eq!(auth.who(near, &headers(&[("remote-user", " ")])), None);
        let mut twice = named.clone();
        twice.append("remote-user", HeaderValue::from_static("root"));
        assert_eq!(auth.who(near, &twice), None, "one of the two is not the proxy's");
        let forwarded = headers(&[("x-forwarded-for", "203.0.113.9, 198.51.100.7")]);
        assert_eq!(auth.client(near, &forwarded).to_string(), "198.51.100.7");
        assert_eq!(auth.client(far, &forwarded), far);
    }

    #[test]
    fn forms_of_other_pages_do_nothing() {
        let auth = auth(|settings| settings.url = "https://photos.example.org".parse().ok());
        let from = |pairs: &[(&'static str, &str)]| auth.is_from_our_page(&headers(pairs));
        assert!(from(&[("origin", "https://photos.example.org"), ("host", "photos.example.org")]));
        assert!(from(&[("origin", "https://photos.example.org"), ("sec-fetch-site", "same-origin")]));
        assert!(!from(&[("host", "photos.example.org")]), "nothing says where it comes from");
        assert!(!from(&[("origin", "null"), ("host", "photos.example.org")]));
        assert!(!from(&[("origin", "http://photos.example.org"), ("host", "photos.example.org")]));
        assert!(!from(&[("origin", "https://photos.example.org.evil.example")]));
        assert!(!from(&[("origin", "https://photos.example.org"), ("sec-fetch-site", "cross-site")]));
        let (one, other) = (Who::Session("a".into()), Who::Proxy("a".into()));
        assert!(auth.is_word(&one, &auth.word(&one)) && !auth.is_word(&other, &auth.word(&one)));
        assert!(!auth.is_word(&one, "") && !auth.is_word(&one, "ä"));
    }

    #[test]
    fn names_that_somebody_points_here_are_refused() {
        let auth = auth(|settings| settings.url = "https://photos.example.org".parse().ok());
        for host in ["photos.example.org", "127.0.0.1:8470", "[::1]:8470", "localhost:8470", "192.168.1.5"] {
            assert!(auth.is_our_name(&headers(&[("host", host)])), "{host}");
        }
        for host in ["evil.example", "photos.example.org.evil.example", ""] {
            assert!(!auth.is_our_name(&headers(&[("host", host)])), "{host}");
        }
    }

    #[test]
    fn cookies_are_for_this_page_alone() {
        let plain = auth(|_| {});
        let Login::In(cookie) = plain.login([127, 0, 0, 1].into(), "a token of some length") else {
            panic!("the token is right")
        };
        let text = cookie.to_str().expect("text").to_owned();
        assert!(text.starts_with("haven=") && text.contains("HttpOnly; SameSite=Strict; Max-Age=43200"), "{text}");
        let sent = headers(&[("cookie", &format!("a=b; {}; c=d", text.split(';').next().expect("a pair")))]);
        let who = plain.who([127, 0, 0, 1].into(), &sent).expect("in");
        plain.logout(&who);
        assert_eq!(plain.who([127, 0, 0, 1].into(), &sent), None);
        let tls = auth(|settings| settings.url = "https://photos.example.org".parse().ok());
        let Login::In(cookie) = tls.login([127, 0, 0, 1].into(), "a token of some length") else {
            panic!("the token is right")
        };
        let text = cookie.to_str().expect("text");
        assert!(text.starts_with("__Host-haven=") && text.ends_with("; Secure"), "{text}");
    }
}
