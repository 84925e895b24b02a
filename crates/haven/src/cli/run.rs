//! `haven run`: the keeper.

use std::time::Duration;

use super::{
    Context, mount,
    mount::{How, Plan},
};
use crate::{
    config::Config,
    keeper::{self, Keeper},
    manager,
    report::{self, Code, Trouble},
    secret::{KeyArgs, Source},
    wire,
};

/// How long an end waits for people to be told.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Longer than any mount lasts.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How long to wait between two looks for the store.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(20)];

/// Mount the library, and do everything on schedule: snapshots, recovery points, copies, scrubs, drills, alerts
///
/// One process that a service manager starts at boot (haven setup systemd) or that you start yourself. It waits for the
/// network, mounts as `haven mount --foreground` does, runs each job of [schedule] in haven.toml as a child of its own,
/// keeps a ledger of them, looks at everything once a minute, and tells whoever [alert] names. SIGHUP reads the settings
/// again; SIGTERM ends the jobs, takes the mount off, uploads what is left, and says how far it is. Killed outright,
/// nothing that was accepted is lost: the next start goes on.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven run                          the library and the mount point that haven.toml names\n  haven schedule                     when it does what\n  haven health                       how things are\n  haven runs                         what it did\n  systemctl reload haven             after a change of haven.toml"
)]
pub struct Args {
    #[command(flatten)]
    key: KeyArgs,
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let mut config = context.config.clone();
    let source = args.key.source(&config.key);
    let (place, point) = mount::places(&config, None, None)?;
    config.library.url = Some(place.url.clone());
    config.mount.point = Some(point.clone());
    let secret = source.read()?;
    mount::begin_log(&config);
    keeper::give(for_children(&source));
    let how = How { foreground: true, ..How::default() };
    let plan = Plan { place, point, how, source };
    let runtime = wire::runtime()?;
    let outcome = runtime.block_on(keep(config, plan, &secret));
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

/// How jobs that open a store by themselves unlock it, where a flag of this command said how.
fn for_children(source: &Source) -> Vec<(&'static str, std::ffi::OsString)> {
    let whole = |path: &std::path::Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into_os_string();
    match source {
        Source::PassphraseFile(path) => vec![("HAVEN_PASSPHRASE_FILE", whole(path))],
        Source::KeyFile(path) => vec![("HAVEN_KEY_FILE", whole(path))],
        Source::PassphraseCommand(command) => vec![("HAVEN_PASSPHRASE_COMMAND", command.into())],
        Source::Environment => Vec::new(),
        Source::RecoveryWords(_) | Source::Terminal => {
            report::warn(
                "replicas and drills need the passphrase too, and nobody can be asked then: name a passphrase_file in haven.toml",
            );
            Vec::new()
        }
    }
}

async fn keep(config: Config, plan: Plan, secret: &haven_format::keys::Secret) -> Result<(), Trouble> {
    let keeper = Keeper::new(&config)?;
    keeper.begin();
    let mut mounted = config.clone();
    if !config.schedule.gc.is_never() {
        // The keeper does it at its own time.
        mounted.gc.every = NEVER;
    }
    let mut stop = stop_signal()?;
    let mut tries = 0;
    loop {
        manager::busy("opening the library");
        let mut background = None;
        let serving = mount::serve(mounted.clone(), plan.clone(), secret, &mut background, Some(keeper.clone()));
        let outcome = if keeper.was_mounted() {
            serving.await
        } else {
            tokio::select! {
                biased;
                outcome = serving => outcome,
                // Once it is mounted it takes signals itself, and ends in good order.
                () = before_mounted(&keeper, &mut stop) => return Ok(()),
            }
        };
        let trouble = match outcome {
            Err(trouble) if trouble.code == Code::Store && !keeper.was_mounted() => trouble,
            other => {
                // What can't be told by then is told at the next start.
                _ = tokio::time::timeout(LAST_WORDS, keeper.teller.deliver()).await;
                return other;
            }
        };
        let why = std::iter::once(trouble.what.as_str()).chain(trouble.because.iter().map(String::as_str));
        let text = format!("waiting for the store: {}", why.collect::<Vec<_>>().join(": "));
        tracing::warn!("{text}");
        manager::busy(&text);
        let pause = PAUSES[tries.min(PAUSES.len() - 1)];
        tries += 1;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.come() => return Ok(()),
        }
    }
}

/// Returns when told to stop before there is a mount; never once there is one.
async fn before_mounted(keeper: &Keeper, stop: &mut Stop) {
    loop {
        stop.come().await;
        if !keeper.was_mounted() {
            tracing::info!("told to stop before the library was mounted");
            return;
        }
        std::future::pending::<()>().await;
    }
}

struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn stop_signal() -> Result<Stop, Trouble> {
    use tokio::signal::unix::{SignalKind, signal};
    let taken =
        |kind| signal(kind).map_err(|error| Trouble::new(Code::Local, "signals can't be taken").caused_by(&error));
    Ok(Stop { terminate: taken(SignalKind::terminate())?, interrupt: taken(SignalKind::interrupt())? })
}
