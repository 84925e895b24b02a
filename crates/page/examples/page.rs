//! The page over a library that was made up: for looking at it, and for the tests in a real browser.
//!
//! `cargo run -p haven-page --example page -- ADDRESS TOKEN [read-only]`. Lines on the standard input change things:
//! `red`, `yellow`, `green`, `unknown`, `run`, `restored` (prints what was brought back), `acted`.

#[allow(dead_code, reason = "tests use more of it")]
#[path = "../tests/all/fake.rs"]
mod fake;

use std::{sync::Arc, time::Duration};

use haven_page::{Page, Run, Settings, Token, Verdict};
use tokio::{net::TcpListener, sync::mpsc};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:8470".into()).parse()?;
    let token = Token::new(&args.next().unwrap_or_else(|| "a token for looking at it".into()))?;
    let read_only = args.next().is_some_and(|word| word == "read-only");
    let metrics_token = Some(Token::new("a token for prometheus")?);
    let source = Arc::new(fake::Fake::new());
    let settings = Settings { listen, read_only, metrics_token, ..Settings::new(Some(token)) };
    let page = Page::new(settings, source.clone())?;
    let listener = TcpListener::bind(listen).await?;
    println!("http://{}/", listener.local_addr()?);
    let ticking = source.clone();
    tokio::spawn(async move {
        for n in 0.. {
            ticking.tick(n);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    // Ends with its standard input.
    page.serve(listener, commands(&source)).await;
    Ok(())
}

async fn commands(source: &fake::Fake) {
    let (send, mut lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut id = 2000;
    while let Some(line) = lines.recv().await {
        match line.trim() {
            "run" => {
                id += 1;
                source.ran(Run {
                    id,
                    kind: "snapshot".into(),
                    subject: String::new(),
                    started: fake::now(),
                    seconds: 0.2,
                    verdict: Verdict::Good,
                    said: format!("made by hand, number {id}"),
                    bytes: None,
                });
            }
            "restored" => println!("{:?}", source.restored.lock()),
            "acted" => println!("{:?}", source.acted.lock()),
            word => source.turn(word),
        }
    }
}
