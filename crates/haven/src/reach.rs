//! How a command reaches a library: through the process of its mount where it is mounted on this machine, else by
//! opening it itself.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use haven_format::Keys;
use haven_mount::control::{Found, Locator, Request, SOCKET, find};
use haven_store::DynStore;
use haven_vault::disk::{DiskError, LocalDisk};
use serde_json::Value;

use crate::{
    cli::{Context, ask},
    config::Config,
    library,
    past::Library,
    report::{self, Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    standing, wire,
};

/// Which library, for commands that work on one whether it is mounted or not.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// A mount point, or the URL of a library [default: mount.point, then library.url in haven.toml]
    #[arg(long, short = 'L', value_name = "MOUNTPOINT|URL", env = "HAVEN_LIBRARY", hide_env = true)]
    pub library: Option<String>,
    /// The cache directory, where the library is not mounted [default: by library, below ~/.cache/haven]
    #[arg(long, value_name = "DIR", env = "HAVEN_CACHE", hide_env = true)]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Where it is.
enum Place {
    Mounted(Locator),
    Url(String),
}

impl Which {
    fn place(&self, config: &Config) -> Result<Place, Trouble> {
        let mounted = |path: &Path| match find(path) {
            Ok(Found::Mount { at, .. }) => Some(Place::Mounted(at)),
            _ => None,
        };
        match &self.library {
            Some(url) if url.contains("://") || url.starts_with("memory:") => Ok(Place::Url(url.clone())),
            Some(path) => Ok(mounted(Path::new(path)).unwrap_or_else(|| Place::Url(super::cli::absolute(path)))),
            None => config
                .mount
                .point
                .as_deref()
                .and_then(mounted)
                .or_else(|| config.library.url.clone().map(|url| Place::Url(super::cli::absolute(&url))))
                .ok_or_else(|| {
                    Trouble::new(Code::Usage, "no library was named")
                        .meaning(UNTOUCHED)
                        .next("name its mount point or URL with --library, or set library.url in haven.toml")
                }),
        }
    }

    /// The mount point the library is mounted at, where a command needs one.
    pub fn mount_point(&self, config: &Config) -> Result<PathBuf, Trouble> {
        let named = self.library.as_ref().filter(|name| !name.contains("://")).map(PathBuf::from);
        let path = named.or_else(|| config.mount.point.clone()).unwrap_or_else(|| PathBuf::from("."));
        match find(&path) {
            Ok(Found::Mount { point, .. }) => Ok(point),
            _ => Err(ask::not_mounted(&path)),
        }
    }

    /// Has the library answer a request.
    pub fn ask(&self, context: &Context, request: &Request, doing: &'static str) -> Result<Value, Trouble> {
        match self.place(&context.config)? {
            Place::Mounted(at) => ask::ask(&at, request, doing),
            Place::Url(url) => wire::runtime()?.block_on(self.open_and_ask(context, &url, request, doing)),
        }
    }

    async fn open_and_ask(
        &self,
        context: &Context,
        url: &str,
        request: &Request,
        doing: &'static str,
    ) -> Result<Value, Trouble> {
        let mut config = context.config.clone();
        let stack = library::open_store(url, &config.store)?;
        let found = library::find(&stack.store).await?;
        let keys = found.unlock(&self.key.source(&config.key).read()?)?.keys().clone();
        let cache = wire::cache_directory(&config, self.cache.as_deref(), keys.library())?;
        let disk = match LocalDisk::open(&cache) {
            Ok(disk) => Arc::new(disk),
            // Mounted on this machine, at a place that nobody has named.
            Err(DiskError::InUse { .. }) => return ask_through(&cache, url, request, doing),
            Err(_) => wire::local_disk(&cache)?,
        };
        config.mount.read_only = !Library::writes(request);
        let store = standing::store_for(&stack, &keys, &config, !config.mount.read_only).await?;
        if request.verb == "check" && request.flag("repair") {
            mend_log(&store, &keys, request, &config).await?;
        }
        let world = haven_vault::World { store, ..wire::world(&stack, disk) };
        let vault = wire::vault(world, &keys, wire::vault_options(&config)).await?;
        // A check must go on where the very first records are damaged.
        let fs = match wire::file_system(&vault, &keys, &config).await {
            Ok(fs) => Some(fs),
            Err(_) if request.verb == "check" => None,
            Err(error) => {
                _ = vault.close(false).await;
                return Err(wire::fs_trouble(&error));
            }
        };
        let bar = ask::progress_bar(doing);
        let answer = Library { vault: vault.clone(), fs, config: Arc::new(config) }.answer(request).await;
        bar.finish_and_clear();
        let closed = vault.close(true).await;
        let answer = answer.map_err(|refusal| ask::refused(&refusal))?;
        closed.map_err(|error| wire::vault_trouble("the library can't be closed", &error))?;
        Ok(answer)
    }
}

/// Without its log a library can't be opened for being mended: that comes first.
async fn mend_log(store: &DynStore, keys: &Keys, request: &Request, config: &Config) -> Result<(), Trouble> {
    let mut copies = Vec::new();
    for url in request.with.get("copies").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        copies.push((url.to_owned(), library::open_store(url, &config.store)?.store));
    }
    let mended = haven_vault::check::mend_log(store, keys, &copies)
        .await
        .map_err(|error| wire::vault_trouble("the log can't be looked at", &error))?;
    for (name, copy) in mended {
        report::note(format!("{name} was damaged; put back from {copy}"));
    }
    Ok(())
}

/// Asks the process that uses this cache directory.
fn ask_through(cache: &Path, url: &str, request: &Request, doing: &'static str) -> Result<Value, Trouble> {
    let at = Locator {
        pid: 0,
        socket: cache.join(SOCKET),
        url: url.to_owned(),
        cache: cache.to_owned(),
        version: String::new(),
    };
    ask::ask(&at, request, doing)
}
