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
    replicas::Place,
    report::{self, Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    standing,
    whose::{self, Wanted},
    wire,
};

/// Which library, for commands that work on one whether it is mounted or not.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// A mount point, the URL of a library, or a replica's name [default: mount.point, then library.url in haven.toml]
    #[arg(long, short = 'L', value_name = "MOUNTPOINT|URL", env = "HAVEN_LIBRARY", hide_env = true)]
    pub library: Option<String>,
    /// The cache directory, where the library is not mounted [default: by library, below ~/.cache/haven]
    #[arg(long, value_name = "DIR", env = "HAVEN_CACHE", hide_env = true)]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub key: KeyArgs,
}

/// How it is reached.
enum Way {
    Mounted(Locator),
    Store(Box<Place>),
}

impl Which {
    fn way(&self, config: &Config) -> Result<Way, Trouble> {
        let mounted = |path: &Path| match find(path) {
            Ok(Found::Mount { at, .. }) => Some(Way::Mounted(at)),
            _ => None,
        };
        let store = |named: &str| Way::Store(Box::new(config.place(named)));
        match &self.library {
            Some(url) if url.contains("://") || url.starts_with("memory:") => Ok(store(url)),
            Some(named) => Ok(mounted(Path::new(named)).unwrap_or_else(|| store(named))),
            None => config
                .mount
                .point
                .as_deref()
                .and_then(mounted)
                .or_else(|| config.library.url.as_deref().map(store))
                .ok_or_else(|| {
                    Trouble::new(Code::Usage, "no library was named")
                        .meaning(UNTOUCHED)
                        .next("name its mount point or URL with --library, or set library.url in haven.toml")
                }),
        }
    }

    /// The replica that was named, if it is one.
    pub fn replica<'a>(&self, config: &'a Config) -> Option<&'a str> {
        let named = self.library.as_deref()?;
        config.replicas.get_key_value(named).map(|(name, _)| name.as_str()).or_else(|| {
            let (name, _) = config.replica_at(&config.place(named).url)?;
            Some(name)
        })
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
        match self.way(&context.config)? {
            Way::Mounted(at) => ask::ask(&at, request, doing),
            Way::Store(place) => wire::runtime()?.block_on(self.open_and_ask(context, &place, request, doing)),
        }
    }

    async fn open_and_ask(
        &self,
        context: &Context,
        place: &Place,
        request: &Request,
        doing: &'static str,
    ) -> Result<Value, Trouble> {
        let mut config = context.config.clone();
        let stack = library::open_place(place)?;
        let found = library::find(&stack.store).await?;
        let keys = found.unlock(&self.key.source(&config.key).read()?)?.keys().clone();
        let write = Library::writes(request);
        config.mount.read_only = !write;
        let held = standing::held(&stack, &keys).await?;
        let opened = standing::opened(&stack, held.as_ref(), &config, Library::is_change(request))?;
        let (store, behind) = (opened.store, opened.restoring.map(|restoring| restoring.behind));
        let copy = standing::is_copy(held.as_ref());
        let wanted = Wanted { url: &place.url, store: &stack.store, library: keys.library(), copy, write };
        let cache = wanted.cache(&config, self.cache.as_deref())?;
        let disk = match LocalDisk::open(&cache) {
            Ok(disk) => Arc::new(disk),
            // Mounted on this machine, at a place that nobody has named.
            Err(DiskError::InUse { .. }) => return ask_through(&cache, &place.url, request, doing),
            Err(_) => wire::local_disk(&cache)?,
        };
        whose::remember_first(&cache, &place.url, &stack.store)?;
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
        let library = Library { vault: vault.clone(), fs, mounted: None, config: Arc::new(config), behind };
        let answer = library.answer(request).await;
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
        let copy = library::copy_at(url, keys.library(), config).await.map_err(library::copy_trouble)?;
        copies.push((url.to_owned(), copy));
    }
    let (mended, unasked) = haven_vault::check::mend_log(store, keys, &copies)
        .await
        .map_err(|error| wire::vault_trouble("the log can't be looked at", &error))?;
    for (name, copy) in mended {
        report::note(format!("{name} was damaged; put back from {copy}"));
    }
    unasked.map_or(Ok(()), |error| Err(wire::vault_trouble("the log can't be mended", &error)))
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
