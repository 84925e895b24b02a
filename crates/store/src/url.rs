//! What the URLs of remote stores have in common, and percent encoding.

use crate::open::OpenError;

/// The parts of `scheme://[user@]host[:port]/path`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remote {
    pub user: Option<String>,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: Option<u16>,
    /// Decoded; empty, or with a slash at its beginning and none at its end.
    pub path: String,
}

impl Remote {
    /// Reads what follows `scheme://` in `url`.
    pub(crate) fn parse(url: &str, rest: &str) -> Result<Self, OpenError> {
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let (user, place) = authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(user), place));
        if user.is_some_and(|user| user.contains(':')) {
            // The URL is shown in logs and lists of processes; don't repeat what may be a password.
            let scheme = url.split("://").next().unwrap_or_default();
            return Err(OpenError::Url {
                url: format!("{scheme}://…@{place}"),
                why: "a password doesn't belong in a URL; give it by file, command or environment".into(),
            });
        }
        let refuse = |why: &str| OpenError::Url { url: url.to_owned(), why: why.to_owned() };
        if rest.contains(['?', '#']) {
            return Err(refuse("it has a query or a fragment; write %3F and %23 for ? and # in a path"));
        }
        let (host, port) = match place.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("?"))),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(|port| port.parse().ok().filter(|port| *port > 0)).map(|p| p.ok_or("no port"));
        let port = port.transpose().map_err(|_| refuse("its port is no number from 1 to 65535"))?;
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:%".contains(&b)) {
            return Err(refuse("the host is missing, or is no host's name"));
        }
        let decoded = |text: &str| decode(text).ok_or_else(|| refuse("it is not well encoded"));
        let path = decoded(path)?;
        let path = path.trim_end_matches('/');
        if path.contains("//") || path.contains('\0') || path.split('/').any(|s| s == "." || s == "..") {
            return Err(refuse("a path has no empty and no dot segments"));
        }
        let user = user.map(decoded).transpose()?;
        if user.as_deref() == Some("") {
            return Err(refuse("the user is missing before the @"));
        }
        Ok(Self { user, host: host.to_owned(), port, path: path.to_owned() })
    }
}

/// A host as URLs write it: an IPv6 address stands in brackets.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Encodes `text` for a path (`keep_slash`) or a query value: everything but the unreserved characters
/// as `%XX`, which is what S3's signatures demand.
pub(crate) fn encode(text: &str, keep_slash: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slash && byte == b'/') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The reverse; `None` if that is no text.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Remote, OpenError> {
        Remote::parse(url, url.split_once("://").expect("a scheme").1)
    }

    #[test]
    fn a_url_is_taken_apart() {
        let remote = |user: Option<&str>, host: &str, port, path: &str| Remote {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        };
        let known = [
            ("sftp://me@nas/srv/photos/", remote(Some("me"), "nas", None, "/srv/photos")),
            ("sftp://nas:2222/a%20b", remote(None, "nas", Some(2222), "/a b")),
            ("sftp://u%40d@[::1]:22/~/x", remote(Some("u@d"), "::1", Some(22), "/~/x")),
            ("webdavs://[fe80::1]", remote(None, "fe80::1", None, "")),
            ("webdav://h/", remote(None, "h", None, "")),
        ];
        for (url, expected) in known {
            assert_eq!(parse(url).expect("it is a URL"), expected, "{url}");
        }
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for url in [
            "sftp://",
            "sftp:///path",
            "sftp://@h/",
            "sftp://h:0/",
            "sftp://h:x/",
            "sftp://[::1/x",
            "sftp://[::1]x/",
            "sftp://h/a/../b",
            "sftp://h//b",
            "sftp://h/a?b",
            "sftp://h/%",
            "sftp://a b/",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let error = parse("sftp://me:hunter2@nas/x").expect_err("a password");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn reserved_characters_are_encoded_byte_by_byte() {
        assert_eq!(encode("a/b c+é~", true), "a/b%20c%2B%C3%A9~");
        assert_eq!(encode("a/b", false), "a%2Fb");
        assert_eq!(decode("a%2Fb%20c%C3%A9").as_deref(), Some("a/b cé"));
        assert_eq!((decode("%4"), decode("%zz"), decode("%FF")), (None, None, None));
    }
}
