//! Certificates that run out: of the servers that the library and its copies are reached at, and that mail goes out by.

use std::{path::PathBuf, sync::Arc, time::Duration};

use haven_keeper::state::Expiry;
use haven_notify::{ChannelSettings, MailTls};
use rustls::{
    CertificateError, DigitallySignedStruct, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{config::Config, copies::Format};

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

    fn called(&self) -> String {
        if self.port == 443 { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
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
    // rest:https://host/path, s3:https://host/bucket.
    let restic = config.copies.values().filter(|copy| copy.format == Format::Restic);
    let copies = restic.filter_map(|copy| Server::of(copy.repository.split_once(':')?.1, None));
    let mails = config.channels.values().filter_map(|channel| match &channel.settings {
        // What begins in the clear would have to be spoken with first.
        ChannelSettings::Email(mail) if mail.tls == MailTls::Implicit => {
            Some(Server { host: mail.server.clone(), port: mail.port.unwrap_or(465), ca_file: mail.ca_file.clone() })
        }
        _ => None,
    });
    let mut all: Vec<Server> = Vec::new();
    for server in library.into_iter().chain(replicas).chain(copies).chain(mails) {
        if !all.iter().any(|other| (&other.host, other.port) == (&server.host, server.port)) {
            all.push(server);
        }
    }
    all
}

/// When the certificates of all servers run out. Of one that can't be asked it is what was `known` before: that it does not
/// answer is told otherwise.
pub async fn look(config: &Config, known: &[Expiry]) -> Vec<Expiry> {
    look_at(servers(config), known).await
}

async fn look_at(servers: Vec<Server>, known: &[Expiry]) -> Vec<Expiry> {
    let mut all = Vec::new();
    for server in servers {
        match tokio::time::timeout(PATIENCE, ask(&server)).await {
            Ok(Ok(at)) => {
                let subject = server.called();
                all.push(Expiry { what: format!("the certificate of {subject}"), subject, at });
                continue;
            }
            Ok(Err(why)) => tracing::debug!(host = server.host, why, "its certificate can't be looked at"),
            Err(_) => tracing::debug!(host = server.host, "its certificate can't be looked at in time"),
        }
        all.extend(known.iter().find(|one| one.subject == server.called()).cloned());
    }
    all
}

/// Judges servers as all of Haven does, but accepts what has run out, to tell of it. Nothing but the handshake goes over such
/// a connection.
#[derive(Debug)]
struct WhateverTheTime(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for WhateverTheTime {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(shown, others, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Seconds since the epoch.
async fn ask(server: &Server) -> Result<i64, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let mut tls = haven_store::tls(true, server.ca_file.as_deref())?;
    let roots = haven_store::roots(server.ca_file.as_deref())?;
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls.crypto_provider().clone());
    let usual = usual.build().map_err(|error| words(&error))?;
    tls.dangerous().set_certificate_verifier(Arc::new(WhateverTheTime(usual)));
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

    #[test]
    fn servers_that_are_spoken_with_by_tls_are_asked_once_each() {
        let text = "[library]\nurl = 's3://photos/haven'\n[store.s3]\nendpoint = 'https://s3.example.org'\n\
                    [replica.far]\nurl = 'webdavs://me@dav.example.org/x'\n[replica.near]\nurl = '/srv/near'\n\
                    [copy.a]\nformat = 'restic'\nrepository = 'rest:https://me:word@nas.example.org:8000/x'\n\
                    [copy.b]\nformat = 'restic'\nrepository = 's3:https://s3.example.org/bucket'\n\
                    [copy.c]\nformat = 'restic'\nrepository = 'sftp:me@nas.example.org:/srv/x'\n\
                    [copy.d]\nrepository = 'ssh://me@nas.example.org/./x'\n\
                    [alert.mail]\nkind = 'email'\nserver = 'mail.example.org'\nfrom = 'a@b.c'\nto = ['a@b.c']\n\
                    [alert.other]\nkind = 'email'\nserver = 'other.example.org'\ntls = 'starttls'\nfrom = 'a@b.c'\n\
                    to = ['a@b.c']\n";
        let all: Vec<_> = servers(&Config::from_text(text, "").unwrap()).iter().map(Server::called).collect();
        assert_eq!(all, ["s3.example.org", "dav.example.org", "nas.example.org:8000", "mail.example.org:465"]);
    }

    /// A server that shows this certificate to one who asks, and trusts it.
    async fn serving(cert: &rcgen::Certificate, key: &rcgen::KeyPair, ca: PathBuf) -> Server {
        std::fs::write(&ca, cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = tokio::net::TcpListener::bind("localhost:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            _ = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        });
        Server { host: "localhost".into(), port, ca_file: Some(ca) }
    }

    #[tokio::test]
    async fn the_end_of_a_servers_certificate_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let server = serving(&made.cert, &made.signing_key, folder.path().join("ca.pem")).await;
        // rcgen's certificates last until the beginning of the year 4096.
        assert_eq!(ask(&server).await, Ok(67_090_118_400));
    }

    #[tokio::test]
    async fn a_certificate_that_has_run_out_is_read_and_one_that_cannot_be_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut wanted = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        wanted.not_after = rcgen::date_time_ymd(2001, 9, 9);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = wanted.self_signed(&key).unwrap();
        let server = serving(&made, &key, folder.path().join("ca.pem")).await;
        let told = look_at(vec![server.clone()], &[]).await;
        assert_eq!(told.iter().map(|one| one.at).collect::<Vec<_>>(), [999_993_600]);
        // The listener has answered once, and is gone.
        let known = look_at(vec![server.clone()], &told).await;
        assert_eq!(known, told);
        let other = Server { host: "127.0.0.1".into(), ..server };
        assert!(look_at(vec![other], &told).await.is_empty(), "of another nothing is known");
        let wrong = rcgen::generate_simple_self_signed(vec!["elsewhere".into()]).unwrap();
        let server = serving(&wrong.cert, &wrong.signing_key, folder.path().join("other.pem")).await;
        assert!(ask(&server).await.is_err(), "another name is another server");
    }
}
