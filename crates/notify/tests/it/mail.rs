//! A mail server with TLS, as strict as a real one about what it is told.

use std::sync::{Arc, Mutex};

use haven_notify::SendError;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::fake::{channel, http, message};

struct Post {
    port: u16,
    ca: tempfile::NamedTempFile,
    mails: Arc<Mutex<Vec<String>>>,
}

/// Takes mails after a login; `refuse` is its answer to `RCPT`.
async fn post(tls: bool, refuse: &'static str) -> Post {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mails = Arc::<Mutex<Vec<String>>>::default();
    let kept = mails.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, kept) = (acceptor.clone(), kept.clone());
            tokio::spawn(async move {
                if tls {
                    let stream = acceptor.accept(stream).await.ok()?;
                    talk(stream, refuse, kept).await
                } else {
                    talk(stream, refuse, kept).await
                }
            });
        }
    });
    Post { port, ca, mails }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, refuse: &str, kept: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 here\r\n").await.ok()?;
    stream.flush().await.ok()?;
    let mut allowed = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let word = line.split_whitespace().next().unwrap_or_default().to_uppercase();
        let answer = match word.as_str() {
            "EHLO" => "250-here\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN\r\n".to_owned(),
            // "\0photos\0pass word"
            "AUTH" if line.trim() == "AUTH PLAIN AHBob3RvcwBwYXNzIHdvcmQ=" => {
                allowed = true;
                "235 welcome\r\n".into()
            }
            "AUTH" => "535 5.7.8 wrong password\r\n".into(),
            "MAIL" if !allowed => "530 5.7.0 log in first\r\n".into(),
            "RCPT" if !refuse.is_empty() => format!("{refuse}\r\n"),
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                stream.flush().await.ok()?;
                let mut mail = String::new();
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.ok()?;
                    if line == ".\r\n" {
                        break;
                    }
                    mail += &line;
                }
                kept.lock().unwrap().push(mail);
                "250 2.0.0 queued as 4F2\r\n".into()
            }
            _ => "250 fine\r\n".into(),
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
    }
}

fn mail_channel(post: &Post, password: &str) -> haven_notify::Channel {
    let table = format!(
        r#"{{"kind": "email", "server": "localhost", "port": {}, "user": "photos", "password": SECRET,
            "from": "Haven <haven@example.org>", "to": ["anna@example.org"], "ca_file": {:?}}}"#,
        post.port,
        post.ca.path()
    );
    channel("mail", &table, password)
}

#[tokio::test]
async fn a_mail_goes_over_tls_with_the_log_attached_and_keeps_its_id() {
    let post = post(true, "").await;
    let log = "größe_*\n".repeat(60) + "error: last";
    let mail = mail_channel(&post, "pass word\n");
    let patient = haven_notify::Http::new(None, haven_notify::Limits::default()).unwrap();
    let receipt = mail.send(&patient, &message("a1", &log)).await.unwrap();
    mail.send(&patient, &message("a1", &log)).await.unwrap();
    assert!(receipt.number.contains("queued as 4F2"), "{receipt:?}");
    let mails = post.mails.lock().unwrap().clone();
    assert_eq!(mails.len(), 2);
    for text in mails {
        assert!(text.contains("Message-ID: <a1@haven.mini>"), "{text}");
        assert!(text.contains("filename=\"log.txt\"") && text.contains("To: anna@example.org"), "{text}");
    }
}

#[tokio::test]
async fn a_mail_servers_no_is_final_and_its_not_now_is_not() {
    let patient = haven_notify::Http::new(None, haven_notify::Limits::default()).unwrap();
    for (refuse, password, never) in [
        ("550 5.1.1 nobody here", "pass word", true),
        ("450 4.2.0 greylisted", "pass word", false),
        ("", "wrong", true),
    ] {
        let post = post(true, refuse).await;
        let error = mail_channel(&post, password).send(&patient, &message("a", "")).await.unwrap_err();
        assert_eq!(matches!(error, SendError::Never { .. }), never, "{refuse}: {error:?}");
        assert!(!error.to_string().contains("pass word"), "{error}");
    }
}

#[tokio::test]
async fn a_password_is_never_said_in_the_clear() {
    let post = post(false, "").await;
    let error = mail_channel(&post, "pass word").send(&http(), &message("a", "")).await.unwrap_err();
    assert!(matches!(error, SendError::Later { .. } | SendError::Never { .. }));
    let table = r#"{"kind": "email", "server": "mail.example.org", "tls": "none", "from": "a@b.c", "to": ["a@b.c"]}"#;
    let error = channel("mail", table, "").send(&http(), &message("a", "")).await.unwrap_err();
    assert!(matches!(&error, SendError::Never { why } if why.contains("without TLS")), "{error:?}");
    assert!(post.mails.lock().unwrap().is_empty());
}
