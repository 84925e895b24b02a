//! Where a server is.

use http::Uri;

use crate::Error;

/// The parts of a server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub https: bool,
    pub host: String,
    pub port: u16,
    /// As the header `host` has it: with the port where it is not the scheme's own.
    pub authority: String,
    /// Before each path: `/api`, behind what a proxy puts in front.
    pub prefix: String,
}

impl Address {
    /// Reads `https://photos.example.org`, `…:2283`, `…/api`, `…/immich/api`; `http://` is put before a bare host.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Address { address: text.to_owned(), why: why.to_owned() };
        let trimmed = text.trim();
        let whole = if trimmed.contains("://") { trimmed.to_owned() } else { format!("http://{trimmed}") };
        let uri: Uri = whole.parse().map_err(|_| wrong("it is not a URL"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it holds a user name; a server is asked with an API key"));
        }
        if authority.host().is_empty() {
            return Err(wrong("it names no host"));
        }
        if uri.query().is_some() {
            return Err(wrong("it holds a question mark"));
        }
        let path = uri.path().trim_end_matches('/');
        let prefix = if path.ends_with("/api") { path.to_owned() } else { format!("{path}/api") };
        Ok(Self {
            https,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            prefix,
        })
    }

    /// As people write it.
    pub(crate) fn shown(&self) -> String {
        format!("{}://{}{}", if self.https { "https" } else { "http" }, self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_people_write_it() {
        let shown = |text: &str| Address::parse(text).map(|a| a.shown()).ok();
        assert_eq!(shown("https://photos.example.org").as_deref(), Some("https://photos.example.org/api"));
        assert_eq!(shown("photos.lan:2283/").as_deref(), Some("http://photos.lan:2283/api"));
        assert_eq!(shown("http://nas/immich/api/").as_deref(), Some("http://nas/immich/api"));
        assert_eq!(shown("http://[::1]:2283").as_deref(), Some("http://[::1]:2283/api"));
        for wrong in ["", "ftp://nas", "http://", "http://me:secret@nas", "http://nas/?key=1"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
