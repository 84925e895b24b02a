//! The status page: are the photos safe, where are they, what happens, and bringing a file back.
//!
//! ```text
//! browser ──▶ secure (headers, names) ──▶ auth (token, proxy) ──▶ route ──▶ Source (whoever knows)
//!    ▲                                                              │
//!    └────────────── view: values to HTML and SVG ◀─────────────────┘      live: the same parts again, as they change
//! ```
//! Promises: nothing but the login, its style, and `/healthz` is served to somebody who was not let in; nothing is done
//! without a word that only our own forms have; what comes from the library is text, never markup. The pages work
//! without scripts; with them they stay up to date.

mod assets;
mod auth;
mod live;
pub mod metrics;
mod model;
mod path;
mod route;
mod secure;
mod serve;
mod settings;
mod view;

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

pub use auth::{Network, NoNetwork, Peer, Token, TokenError, WRONG_MAX, WRONG_MAX_ALL};
pub use http::{HeaderName, Uri};
pub use model::*;
pub use path::{Inside, NotInside};
pub use settings::{Proxy, Settings, SettingsError};

/// Pages that are kept up to date at once. More work all the same, and say that they are not live.
const LIVE_MAX: usize = 32;

/// What every request needs.
pub(crate) struct App {
    settings: Settings,
    source: Arc<dyn Source>,
    auth: auth::Auth,
    live: Arc<Semaphore>,
    /// Turns true when the page is to end: live connections would keep it for ever.
    ending: watch::Sender<bool>,
}

/// A page over a source, ready to be served.
#[derive(Clone)]
pub struct Page(Arc<App>);

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Page").field(&self.0.settings.listen).finish()
    }
}

impl Page {
    pub fn new(settings: Settings, source: Arc<dyn Source>) -> Result<Self, SettingsError> {
        settings.check()?;
        let auth = auth::Auth::new(&settings);
        let live = Arc::new(Semaphore::new(LIVE_MAX));
        Ok(Self(Arc::new(App { settings, source, auth, live, ending: watch::Sender::new(false) })))
    }

    /// All of it. Each request should have a [`Peer`] among its extensions.
    pub fn router(&self) -> axum::Router {
        route::router(self.0.clone())
    }

    /// Serves it until `stop`, then lets what is being answered end.
    pub async fn serve(&self, listener: tokio::net::TcpListener, stop: impl Future<Output = ()> + Send) {
        serve::serve(self, listener, stop).await;
    }
}
