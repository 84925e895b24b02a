//! A stand-in for any service that speaks HTTP: it keeps what it was told and answers as a test says.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use haven_notify::{Channel, ChannelSettings, Http, Limits, Message, Severity};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[derive(Debug, Clone)]
pub struct Heard {
    pub line: String,
    pub headers: String,
    pub body: String,
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v))
    }
}

pub enum Answer {
    Say(u16, &'static str, String),
    /// Takes the request and never answers.
    Hang,
    /// Takes the request and hangs up.
    Drop,
}

pub fn say(status: u16, body: impl Into<String>) -> Answer {
    Answer::Say(status, "", body.into())
}

type Play = Arc<Mutex<dyn FnMut(&Heard) -> Answer + Send>>;

pub struct Fake {
    pub url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Fake {
    pub async fn start(play: impl FnMut(&Heard) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let play: Play = Arc::new(Mutex::new(play));
        let kept = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, play.clone(), kept.clone()));
            }
        });
        Self { url, heard }
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, play: Play, kept: Arc<Mutex<Vec<Heard>>>) -> Option<()> {
    let mut bytes = Vec::new();
    let head = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let (line, headers) = text.split_once("\r\n").unwrap_or((&text, ""));
    let mut heard = Heard { line: line.into(), headers: headers.into(), body: String::new() };
    let length: usize = heard.header("content-length").map_or(0, |text| text.parse().unwrap());
    while bytes.len() < head + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    heard.body = String::from_utf8_lossy(&bytes[head + 4..]).into_owned();
    let answer = (play.lock().unwrap())(&heard);
    kept.lock().unwrap().push(heard);
    match answer {
        Answer::Say(status, headers, body) => {
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len());
            stream.write_all(text.as_bytes()).await.ok()?;
        }
        Answer::Hang => tokio::time::sleep(Duration::from_secs(600)).await,
        Answer::Drop => {}
    }
    Some(())
}

pub fn message(id: &str, log: &str) -> Message {
    Message {
        id: id.into(),
        severity: Severity::Critical,
        title: "the recovery_point is *old*".into(),
        body: "It was made 3 h ago.".into(),
        log: log.into(),
        host: "mini".into(),
        html: String::new(),
        weight: None,
    }
}

/// A channel from the text of its table; `SECRET` in it is a file that holds `secret`.
pub fn channel(name: &str, table: &str, secret: &str) -> Channel {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let path = std::env::temp_dir().join(format!(
        "haven-notify-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::write(&path, secret).unwrap();
    let table = table.replace("SECRET", &format!(r#"{{"file": {:?}}}"#, path));
    let settings: ChannelSettings = serde_json::from_str(&table).expect("the table is right");
    Channel { name: name.into(), settings }
}

pub fn http() -> Http {
    Http::new(None, Limits { connect: Duration::from_millis(500), total: Duration::from_millis(500) }).unwrap()
}
