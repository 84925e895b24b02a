//! `relay LISTEN SERVER [UP_MS] [DOWN_MS]`: forwards TCP, each way that much later.
//!
//! Example, a store 40 ms away: `relay 127.0.0.1:13940 127.0.0.1:13900 20 20`. Prints the address it
//! listens on (port 0 takes a free one) and runs until it is ended.

use std::{process::ExitCode, time::Duration};

use haven_testkit::relay::{Delays, run};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let millis = |index: usize| words.get(index).map_or(Some(0.0), |word| word.parse::<f64>().ok());
    let parsed = match (words.first(), words.get(1).map(|w| w.parse()), millis(2), millis(3)) {
        (Some(listen), Some(Ok(server)), Some(up), Some(down)) if words.len() <= 4 => Some((listen, server, up, down)),
        _ => None,
    };
    let Some((listen, server, up, down)) = parsed else {
        eprintln!("usage: relay LISTEN SERVER [UP_MS] [DOWN_MS], addresses as 127.0.0.1:13900");
        return ExitCode::from(2);
    };
    let delays = Delays { up: Duration::from_secs_f64(up / 1000.0), down: Duration::from_secs_f64(down / 1000.0) };
    let listening = async {
        let listener = TcpListener::bind(listen).await?;
        println!("{}", listener.local_addr()?);
        run(listener, server, delays).await
    };
    if let Err(error) = listening.await {
        eprintln!("relay: {listen}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
