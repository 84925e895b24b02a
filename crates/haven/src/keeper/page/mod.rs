//! The status page: served by the keeper, from what the keeper knows.

mod browse;
mod copies;
mod source;

use std::{
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use haven_notify::Credential;
use haven_page::{Page, Proxy, Settings, Token};
use tokio::net::TcpListener;

use super::{Keeper, settings::PageConfig};

/// How often the numbers that move are looked at.
const STEP: Duration = Duration::from_secs(1);
/// How long to wait before another try to listen: the address of an ended process is free after a while.
const AGAIN: Duration = Duration::from_secs(10);

/// Counts at some moment, for what happened since.
#[derive(Debug, Clone, Copy)]
struct Counts {
    at: Instant,
    up: u64,
    down: u64,
    read: u64,
    written: u64,
    requests: u64,
}

/// What the page is made of beside the keeper.
pub(super) struct Served {
    keeper: Arc<Keeper>,
    flow: std::sync::Mutex<haven_page::Throughput>,
    numbers: tokio::sync::broadcast::Sender<()>,
    began: i64,
}

impl Keeper {
    /// Serves the page until the keeper ends. What is wrong with it is told, and takes nothing else along.
    pub(super) async fn keep_page(self: Arc<Self>) {
        let config = self.config();
        if config.page.listen == "off" {
            return;
        }
        let settings = match settings(&config.page, &self.rooms.root().join("page-token"), config.schedule.zone()) {
            Ok(settings) => settings,
            Err(why) => {
                tracing::error!(why, "there is no status page: see [page] in haven.toml");
                return;
            }
        };
        let listen = settings.listen;
        let served = Arc::new(Served {
            keeper: self.clone(),
            flow: std::sync::Mutex::default(),
            numbers: tokio::sync::broadcast::Sender::new(16),
            began: super::seconds(),
        });
        let flow = served.clone().watch_flow();
        let page = match Page::new(settings, served) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "there is no status page: see [page] in haven.toml");
                return;
            }
        };
        let listener = loop {
            match TcpListener::bind(listen).await {
                Ok(listener) => break listener,
                Err(error) => {
                    tracing::warn!(%error, %listen, "the status page can't be served there; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        let at = listener.local_addr().unwrap_or(listen);
        tracing::info!("the status page is at http://{at}");
        let mut stopping = self.stopping.subscribe();
        let serve = page.serve(listener, async move {
            _ = stopping.wait_for(|stopping| *stopping).await;
        });
        // They end together: a page whose numbers stand still would be believed.
        tokio::select! {
            () = serve => {}
            () = flow => {}
        }
    }
}

impl Served {
    async fn watch_flow(self: Arc<Self>) {
        let mut before: Option<Counts> = None;
        loop {
            tokio::time::sleep(STEP).await;
            let Some(now) = self.counts() else { continue };
            if let Some(before) = before {
                let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
                let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
                let flow = haven_page::Throughput {
                    up: rate(now.up, before.up),
                    down: rate(now.down, before.down),
                    read: rate(now.read, before.read),
                    written: rate(now.written, before.written),
                    requests: rate(now.requests, before.requests),
                };
                *super::locked(&self.flow) = flow;
                _ = self.numbers.send(());
            }
            before = Some(now);
        }
    }

    fn counts(&self) -> Option<Counts> {
        let inside = self.keeper.inside()?;
        let (meter, mount) = (inside.stack().meter.snapshot(), inside.kernel());
        Some(Counts {
            at: Instant::now(),
            up: meter.bytes_out(),
            down: meter.bytes_in(),
            read: mount.read_bytes,
            written: mount.written_bytes,
            requests: meter.requests(),
        })
    }
}

fn token(credential: &Credential) -> Result<Option<Token>, String> {
    if !credential.is_set() {
        return Ok(None);
    }
    let secret = credential.read()?;
    Token::new(secret.expose()).map(Some).map_err(|error| error.to_string())
}

fn settings(config: &PageConfig, made: &Path, zone: jiff::tz::TimeZone) -> Result<Settings, String> {
    let listen: SocketAddr =
        config.listen.parse().map_err(|_| format!("page.listen is no address: {}", config.listen))?;
    let header = config.proxy_header.as_deref().map(str::parse::<haven_page::HeaderName>).transpose();
    let header = header.map_err(|error| format!("page.proxy_header: {error}"))?;
    let from = config
        .proxy_from
        .iter()
        .map(|text| text.parse::<haven_page::Network>().map_err(|error| format!("page.proxy_from: {error}")))
        .collect::<Result<Vec<_>, _>>()?;
    // Without a header it lets nobody in, and still says for whom it asks.
    let lets_in = header.is_some();
    let proxy = (lets_in || !from.is_empty()).then_some(Proxy { header, from });
    let token = match token(&config.token)? {
        Some(token) => Some(token),
        None if lets_in => None,
        None => Some(own_token(made).map_err(|error| format!("{} can't be read or written: {error}", made.display()))?),
    };
    Ok(Settings {
        listen,
        url: config.url.as_deref().map(str::parse).transpose().map_err(|_| "page.url is no URL".to_owned())?,
        proxy,
        metrics_token: self::token(&config.metrics_token)?,
        read_only: config.read_only,
        session: config.session,
        zone,
        ..Settings::new(token)
    })
}

/// The token that was made at the first start.
fn own_token(path: &Path) -> Result<Token, String> {
    use std::os::unix::fs::OpenOptionsExt;
    if !path.exists() {
        let text = data_encoding::HEXLOWER.encode(&rand::random::<[u8; 16]>());
        let file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
        file.and_then(|mut file| writeln!(file, "{text}")).map_err(|error| error.to_string())?;
        tracing::info!(path = %path.display(), "what opens the status page is in this file");
    }
    Token::read(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page-token");
        let config = Config::from_text("", "").unwrap().page;
        let made = settings(&config, &path, jiff::tz::TimeZone::UTC).unwrap();
        assert!(made.listen.ip().is_loopback());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            made.token.unwrap().is(&text)
                && settings(&config, &path, jiff::tz::TimeZone::UTC).unwrap().token.unwrap().is(&text)
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_meant_is_told_by_its_name() {
        let of = |text: &str| {
            let config = Config::from_text(&format!("[page]\n{text}"), "").unwrap().page;
            settings(&config, Path::new("/nowhere/x"), jiff::tz::TimeZone::UTC).map(drop).unwrap_err()
        };
        assert!(of("listen = 'everywhere'").contains("page.listen"));
        assert!(of("proxy_header = 'a b'").contains("page.proxy_header"));
        assert!(of("proxy_header = 'x'\nproxy_from = ['here']").contains("page.proxy_from"));
        assert!(of("").contains("/nowhere/x"));
    }
}
