//! The fake server as a program, for scripts. Speaks at `/api`; `/_fake/state`, `/_fake/violations`, `/_fake/counts` tell,
//! and `/_fake/orders` (a JSON body) and `/_fake/reset` order.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use haven_immich_fake::{Fake, Options, Orders};

/// A server that speaks Immich's API, for tests
#[derive(Parser)]
struct Arguments {
    /// Of the loopback; 0 is any free one, printed on the first line
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// As the server tells it: 1.135.3, 2.7.5, 3.1.0
    #[arg(long, default_value = "3.1.0", value_parser = version)]
    version: (u32, u32, u32),
    /// Throws files away as they come, and checks no form
    #[arg(long)]
    null: bool,
    /// Found at the start, kept at the end (SIGTERM, SIGINT)
    #[arg(long)]
    state: Option<PathBuf>,
    /// Misbehaviour, in JSON: {"slow_ms": 20, "early": "close", "lose_every": 7}
    #[arg(long, default_value = "{}")]
    orders: String,
    /// Is gone (connections refused) for that many seconds …
    #[arg(long, default_value_t = 0)]
    gone_s: u64,
    /// … after that many
    #[arg(long, default_value_t = 0)]
    gone_after_s: u64,
}

fn version(text: &str) -> Result<(u32, u32, u32), String> {
    let numbers: Vec<u32> = text.trim_start_matches('v').split('.').filter_map(|n| n.parse().ok()).collect();
    let [major, minor, patch] = numbers[..] else { return Err("three numbers: 3.1.0".into()) };
    Ok((major, minor, patch))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let orders: Orders = serde_json::from_str(&arguments.orders)?;
    let state = arguments.state.clone();
    let options = Options {
        port: arguments.port,
        version: arguments.version,
        null: arguments.null,
        state: arguments.state,
        ..Options::default()
    };
    let fake = Fake::start(options).await?;
    fake.order(orders);
    println!("{}", fake.address());
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let absence = async {
        if arguments.gone_s > 0 {
            tokio::time::sleep(Duration::from_secs(arguments.gone_after_s)).await;
            fake.go();
            tokio::time::sleep(Duration::from_secs(arguments.gone_s)).await;
            fake.come_back();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = absence => {}
    }
    if let Some(state) = state {
        fake.save(&state)?;
    }
    Ok(())
}
