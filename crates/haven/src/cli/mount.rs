//! `haven mount`: a library as a folder.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use haven_format::{LibraryId, keys::Secret, record::Time};
use haven_mount::{
    MountError,
    background::{self, Background, Started},
    control::{Found, find},
};
use haven_store::Stack;
use haven_vault::{Vault, VaultError, View};
use zeroize::Zeroizing;

use super::Context;
use crate::{
    config::{self, Config, Fsync},
    library,
    replicas::Place,
    report::{self, Code, Trouble, UNTOUCHED},
    secret::{KeyArgs, Source},
    served::{Companion, Mounting},
    standing,
    whose::{self, Wanted},
    wire, words,
};

/// Show a library as a folder
///
/// Returns when the folder is there; a process in the background serves it until `haven umount`. With --foreground it
/// is this process, which is what systemd and containers want.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven mount s3://photos/haven /mnt/photos --cache /var/cache/haven --cache-size 30GB\n  haven mount /mnt/photos                     the library that haven.toml names\n  haven mount s3://photos/haven /mnt/look --read-only"
)]
pub struct Args {
    /// The library: s3://bucket/prefix, sftp:// or webdavs://user@host/path, or file:///path [default: library.url in haven.toml] [env: HAVEN_LIBRARY]
    #[arg(value_name = "URL")]
    first: Option<String>,
    /// The folder, empty and there already [default: mount.point in haven.toml] [env: HAVEN_MOUNTPOINT]
    #[arg(value_name = "MOUNTPOINT")]
    second: Option<PathBuf>,
    #[command(flatten)]
    pub how: How,
    #[command(flatten)]
    key: KeyArgs,
}

/// How to mount. Shared with `haven up`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct How {
    /// The directory for local copies and what is not yet in the bucket [default: by library, below ~/.cache/haven]
    #[arg(long, value_name = "DIR", env = "HAVEN_CACHE", hide_env = true)]
    pub cache: Option<PathBuf>,
    /// How much the cache directory may ever take: 30GB, 512MiB [default: 10GB]
    #[arg(long, value_name = "SIZE", env = "HAVEN_CACHE_SIZE", hide_env = true, value_parser = size)]
    pub cache_size: Option<u64>,
    /// Never write, whatever happens; another machine may
    #[arg(long)]
    pub read_only: bool,
    /// Show the library as it was: a snapshot's name, or a time such as "2026-11-23 04:46". Read-only
    #[arg(long, value_name = "SNAPSHOT|TIME")]
    pub at: Option<String>,
    /// What fsync waits for [default: disk]
    #[arg(long, value_name = "WHERE")]
    pub fsync: Option<Fsync>,
    /// Let other users in, subject to the files' permissions
    #[arg(long)]
    pub allow_other: bool,
    /// Serve from this process, until it is told to stop
    #[arg(long)]
    pub foreground: bool,
    /// Mount over a folder that is not empty, hiding what is in it
    #[arg(long)]
    pub non_empty: bool,
    /// Accept a bucket that has gone back to an older state than this machine has seen
    #[arg(long)]
    pub accept_rollback: bool,
}

fn size(text: &str) -> Result<u64, String> {
    haven_store::human::parse_bytes(text)
}

impl How {
    /// Flags go over the settings.
    fn over(&self, config: &mut Config) {
        if let Some(size) = self.cache_size {
            config.cache.size = size;
        }
        if let Some(fsync) = self.fsync {
            config.mount.fsync = fsync;
        }
        config.mount.read_only |= self.read_only || self.at.is_some();
        config.mount.allow_other |= self.allow_other;
    }
}

/// What is to be mounted where, decided.
#[derive(Clone)]
pub struct Plan {
    pub place: Place,
    pub point: PathBuf,
    pub how: How,
    pub source: Source,
}

pub fn run(context: &Context, args: Args, background: &mut Option<Background>) -> Result<(), Trouble> {
    let source = args.key.source(&context.config.key);
    let (place, point) = places(&context.config, args.first, args.second)?;
    let plan = Plan { place, point, how: args.how, source };
    let Some(pid) = start(&context.config, plan, background)? else { return Ok(()) };
    context.answer(&serde_json::json!({ "pid": pid }), "")
}

/// One argument alone is the folder, if the library is named elsewhere.
pub fn places(config: &Config, first: Option<String>, second: Option<PathBuf>) -> Result<(Place, PathBuf), Trouble> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let configured =
        env("HAVEN_LIBRARY").map(|url| url.to_string_lossy().into_owned()).or_else(|| config.library.url.clone());
    let (url, point) = match (first, second) {
        (Some(only), None) if configured.is_some() && !only.contains("://") => (configured, Some(only.into())),
        (first, second) => (first.or(configured), second),
    };
    let point = point.or_else(|| env("HAVEN_MOUNTPOINT").map(PathBuf::from)).or_else(|| config.mount.point.clone());
    match (url, point) {
        (Some(url), Some(point)) => Ok((config.place(&url), point)),
        (None, _) => Err(Trouble::new(Code::Usage, "no library was named")
            .meaning(UNTOUCHED)
            .next("haven mount URL MOUNTPOINT, or set library.url in haven.toml")),
        (_, None) => Err(Trouble::new(Code::Usage, "no mount point was named")
            .meaning(UNTOUCHED)
            .next("haven mount URL MOUNTPOINT, or set mount.point in haven.toml")),
    }
}

/// Mounts: here with --foreground or when this process is the one in the background, else there. Returns the id of the
/// process in the background, or none when the mount has ended.
pub fn start(config: &Config, plan: Plan, background: &mut Option<Background>) -> Result<Option<u32>, Trouble> {
    let typed = match (&plan.source, &background) {
        (Source::Terminal, Some(first)) => Some(Zeroizing::new(first.secret().to_vec())),
        (Source::Terminal, None) => Some(plan.source.ask_passphrase()?),
        _ => None,
    };
    if !plan.how.foreground && background.is_none() {
        // What can be seen at once to be wrong is said before anything is started.
        check_point(&plan)?;
        return into_background(typed.as_deref().map_or(&[], Vec::as_slice));
    }
    let secret = match typed {
        Some(bytes) => plan.source.typed(bytes)?,
        None => plan.source.read()?,
    };
    begin_log(config);
    let mut config = config.clone();
    plan.how.over(&mut config);
    let runtime = wire::runtime()?;
    let outcome = runtime.block_on(serve(config, plan, &secret, background, None));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome.map(|()| None)
}

fn into_background(secret: &[u8]) -> Result<Option<u32>, Trouble> {
    match background::start(secret) {
        Ok(Started::Ready { pid }) => Ok(Some(pid)),
        // It has said why on this terminal; only its exit code is still to be handed on.
        Ok(Started::Failed { exit }) => std::process::exit(exit.into()),
        Err(error) => Err(Trouble::new(Code::Mount, "the mount did not come about")
            .caused_by(&error)
            .next("try again with --foreground, which shows everything")),
    }
}

/// Mounts in this process and serves until the mount has ended.
pub async fn serve(
    config: Config,
    plan: Plan,
    secret: &Secret,
    background: &mut Option<Background>,
    beside: Option<Arc<dyn Companion>>,
) -> Result<(), Trouble> {
    // Before anything is claimed: a mount that can't be must not take the library from another machine.
    check_point(&plan)?;
    let stack = library::open_place(&plan.place)?;
    let found = library::find(&stack.store).await?;
    let keys = found.unlock(secret)?.keys().clone();
    let held = standing::held(&stack, &keys).await?;
    let opened = standing::opened(&stack, held.as_ref(), &config, !config.mount.read_only)?;
    let cache = cache_for(&config, &plan, &stack, keys.library(), standing::is_copy(held.as_ref()))?;
    refuse_cache_inside(&cache, &plan.point)?;
    let disk = wire::local_disk(&cache)?;
    whose::remember(&cache, &plan.place.url, &stack.store, Some(&plan.point))?;
    let options = haven_vault::Options { accept_rollback: plan.how.accept_rollback, ..wire::vault_options(&config) };
    let world = haven_vault::World { store: opened.store, ..wire::world(&stack, disk) };
    let vault = wire::vault(world, &keys, options).await?;
    let at = match &plan.how.at {
        Some(text) => Some(past_view(&vault, text).await?),
        None => None,
    };
    let log = background.is_some().then(|| log_file(keys.library().to_string().as_str())).flatten();
    let mounting = Mounting {
        config,
        url: plan.place.url,
        point: plan.point,
        cache,
        stack,
        restoring: opened.restoring,
        vault,
        keys,
        allow_non_empty: plan.how.non_empty,
        at,
        beside,
    };
    mounting.serve(background, log).await
}

/// The state that `--at` means: a snapshot of that name, or the last state not younger than that time.
pub async fn past_view(vault: &Arc<Vault>, text: &str) -> Result<View, Trouble> {
    let cannot = |error: &VaultError| wire::vault_trouble("the library can't be shown as it was", error);
    if let Some(moment) = vault.state_of(text.as_bytes()).await.map_err(|error| cannot(&error))? {
        return Ok(moment.view);
    }
    let Some(seconds) = super::snapshot::moment(text) else {
        return Err(Trouble::new(Code::Usage, format!("{text:?} is no snapshot and no time"))
            .meaning(UNTOUCHED)
            .next("haven snapshot list    shows the names; a time is written 2026-11-23 04:46"));
    };
    let time = Time { seconds, nanos: 999_999_999 };
    let moment = vault.state_at(time).await.map_err(|error| cannot(&error))?;
    report::note(format!("showing the library as it was at {}", words::moment(moment.time)));
    Ok(moment.view)
}

/// What the mount itself would refuse, refused before a claim is made. A dead mount of ours is taken off.
fn check_point(plan: &Plan) -> Result<(), Trouble> {
    let point = plan.point.as_path();
    let refused = |error: MountError| Err(wire::mount_trouble(&error));
    match find(point) {
        Ok(Found::Mount { point: there, at }) if same_place(&there, point) => {
            return refused(MountError::AlreadyMounted { point: there, library: at.url });
        }
        // It still covers the folder, and its root may still answer from the kernel's memory as if it lived.
        Ok(Found::Dead { point: there, .. }) if same_place(&there, point) => {
            report::note(format!("clearing away a dead mount at {}", there.display()));
            haven_mount::detach(&there, true).map_err(|error| {
                Trouble::new(Code::Mount, format!("a dead mount is in the way at {}", there.display()))
                    .caused_by(&error)
                    .next(format!("umount --lazy {}    as root", there.display()))
            })?;
            return check_point(plan);
        }
        _ => {}
    }
    let mut entries = match fs::metadata(point) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refused(MountError::Missing { point: point.into() });
        }
        Ok(about) if !about.is_dir() => return refused(MountError::NotADirectory { point: point.into() }),
        _ => match fs::read_dir(point) {
            Ok(entries) => entries,
            Err(source) => return refused(MountError::Unreadable { point: point.into(), source }),
        },
    };
    match entries.next() {
        Some(Ok(entry)) if !plan.how.non_empty => refused(MountError::NotEmpty {
            point: point.into(),
            example: entry.file_name().to_string_lossy().into_owned(),
        }),
        _ => Ok(()),
    }
}

fn same_place(mounted: &Path, asked: &Path) -> bool {
    haven_mount::resolve(asked).is_ok_and(|asked| asked == mounted)
}

fn refuse_cache_inside(cache: &Path, point: &Path) -> Result<(), Trouble> {
    let point = haven_mount::resolve(point).unwrap_or_else(|_| point.to_owned());
    if !cache.starts_with(&point) {
        return Ok(());
    }
    Err(Trouble::new(Code::Usage, "the cache directory can't be inside the folder it serves")
        .because(format!("{} is below {}", cache.display(), point.display()))
        .meaning(UNTOUCHED)
        .next("name another: --cache DIR"))
}

/// For writing the usual one, whatever it was used for: what it holds and was not sent goes on from where the library is
/// now, or the vault says that it can't.
fn cache_for(config: &Config, plan: &Plan, stack: &Stack, library: LibraryId, copy: bool) -> Result<PathBuf, Trouble> {
    let flag = plan.how.cache.as_deref();
    if !config.mount.read_only {
        return wire::cache_directory(config, flag, library);
    }
    Wanted { url: &plan.place.url, store: &stack.store, library, copy, write: false }.cache(config, flag)
}

/// Where the process in the background writes its log.
fn log_file(library: &str) -> Option<PathBuf> {
    let directory = config::user_directory("XDG_STATE_HOME", ".local/state").unwrap_or_else(|| "/var/log/haven".into());
    if let Err(error) = fs::create_dir_all(&directory) {
        report::warn(format!("there will be no log: {} can't be made: {error}", directory.display()));
        return None;
    }
    Some(directory.join(format!("{library}.log")))
}

pub fn begin_log(config: &Config) {
    let level = std::env::var("HAVEN_LOG").unwrap_or_else(|_| config.log.level.clone());
    let filter = tracing_subscriber::EnvFilter::try_new(&level).unwrap_or_else(|error| {
        report::warn(format!("log.level {level:?} can't be meant ({error}); it is \"info\""));
        tracing_subscriber::EnvFilter::new("info")
    });
    let colour = report::colour(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colour).with_env_filter(filter).init();
}
