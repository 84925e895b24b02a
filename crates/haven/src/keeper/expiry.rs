//! Certificates that run out: of the servers that the library and its copies are reached at.

use std::{path::PathBuf, sync::Arc, time::Duration};

use haven_keeper::state::Expiry;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Config;

/// A server has so long to show its certificate.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server that is spoken with by TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    ca_file: Option<PathBuf>,
}

impl Server {
    fn of(url: &str, ca_file: Option<PathBuf>) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        if !matches!(scheme, "https" | "webdavs") {
            return None;
        }
        let place = rest.split('/').next()?;
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        let (host, port) = match place.rsplit_once(':').filter(|_| !place.ends_with(']')) {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (place, 443),
        };
        Some(Self { host: host.trim_matches(['[', ']']).to_owned(), port, ca_file })
    }
}

fn servers(config: &Config) -> Vec<Server> {
    let of = |url: &str, options: &haven_store::StoreOptions| {
        if url.starts_with("s3://") {
            let endpoint = options.s3.endpoint.clone().or_else(|| std::env::var("AWS_ENDPOINT_URL").ok())?;
            return Server::of(&endpoint, options.s3.ca_file.clone());
        }
        Server::of(url, options.webdav.ca_file.clone())
    };
    let library = config.library.url.as_deref().and_then(|url| of(url, &config.store));
    let replicas = config.replicas.values().filter_map(|one| of(&one.own.url, &one.own.store));
    let mut all: Vec<Server> = library.into_iter().chain(replicas).collect();
    all.dedup();
    all
}

/// When the certificates of all servers run out. One that can't be asked is left out: that it does not answer is told
/// otherwise.
pub async fn look(config: &Config) -> Vec<Expiry> {
    let mut all = Vec::new();
    for server in servers(config) {
        match tokio::time::timeout(PATIENCE, ask(&server)).await {
            Ok(Ok(at)) => all.push(Expiry {
                what: format!("the certificate of {}", server.host),
                subject: server.host.clone(),
                at,
            }),
            Ok(Err(why)) => tracing::debug!(host = server.host, why, "its certificate can't be looked at"),
            Err(_) => tracing::debug!(host = server.host, "its certificate can't be looked at in time"),
        }
    }
    all
}

/// Seconds since the epoch.
async fn ask(server: &Server) -> Result<i64, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let tls = haven_store::tls(true, server.ca_file.as_deref())?;
    let name = ServerName::try_from(server.host.clone()).map_err(|error| words(&error))?;
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await.map_err(|error| words(&error))?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.map_err(|error| words(&error))?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|all| all.first()).ok_or("it shows none")?;
    not_after(shown).ok_or_else(|| "its certificate can't be read".to_owned())
}

/// The end of a certificate's validity (RFC 5280, section 4.1), seconds since the epoch. A walk over five DER elements: the
/// crates that read all of a certificate bring a dozen others, for this one date. The handshake has judged the rest.
fn not_after(certificate: &[u8]) -> Option<i64> {
    /// The tag, the content, and what follows.
    fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
        let (&tag, rest) = der.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        Some((tag, content, rest))
    }
    let (_, signed, _) = element(certificate)?;
    let (_, mut fields, _) = element(signed)?;
    // A version may stand before the number; the algorithm and the issuer stand behind it.
    let skip = if element(fields)?.0 == 0xa0 { 4 } else { 3 };
    for _ in 0..skip {
        (_, _, fields) = element(fields)?;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, rest) = element(validity)?;
    let (tag, end, _) = element(rest)?;
    let text = std::str::from_utf8(end).ok()?;
    // UTCTime has two digits of the year: 50 and above are of the last century.
    let long = match tag {
        0x17 => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        0x18 => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &long).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_in_urls() {
        let of = |url: &str| Server::of(url, None).map(|server| (server.host, server.port));
        assert_eq!(of("https://s3.example.org:9000"), Some(("s3.example.org".into(), 9000)));
        assert_eq!(of("webdavs://me@dav.example.org/x/y"), Some(("dav.example.org".into(), 443)));
        assert_eq!(of("https://[::1]:8443/"), Some(("::1".into(), 8443)));
        assert_eq!((of("http://s3.example.org"), of("/srv/x")), (None, None));
    }

    #[tokio::test]
    async fn the_end_of_a_servers_certificate_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = tokio::net::TcpListener::bind("localhost:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            _ = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        });
        let server = Server { host: "localhost".into(), port, ca_file: Some(ca) };
        // rcgen's certificates last until the beginning of the year 4096.
        assert_eq!(ask(&server).await, Ok(67_090_118_400));
    }
}
