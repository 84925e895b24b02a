//! The process that serves a mount: what it tells, what it is asked, and how it ends.
//!
//! Verbs of the control socket (see [`haven_mount::control`]):
//! ```text
//!     {"do": "status"}                                 what there is to know
//!     {"do": "flush"}                                  done when everything before it is in the bucket
//!     {"do": "umount", "detach": bool, "lazy": bool}   done when everything is in the bucket; at once with detach
//!     {"do": "stat"}                                   sums over the library and its objects; lists the bucket
//!     {"do": "snapshot hold"}                          see [`crate::past::hold`]
//!     {"do": "snapshot …"}, {"do": "gc"}                see [`crate::past`]
//! ```

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use haven_fs::Fs;
use haven_mount::{
    Ending, HELD_AFTER, Holder, Host, Session, Signals, State, UnmountError,
    background::{Background, PidFile},
    control::{Control, Locator, Progress, Refusal, Request, SOCKET, Server},
    mount, serve,
};
use haven_store::Stack;
use haven_vault::{Vault, VaultError, collect::Heap};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    cli::stat,
    config::Config,
    manager,
    past::{self, Library},
    report::{self, Code, Trouble},
    silence::{self, Silence},
    standing::{self, Restoring},
    wire, words,
};

/// How often progress is told.
const STEP: Duration = Duration::from_millis(200);
/// How often a service manager hears how far a stop is, and how often the log.
const STOP_STEP: Duration = Duration::from_secs(1);
const STOP_LOG_STEP: Duration = Duration::from_secs(5);
/// How often it is looked how far a restore is: a request for each thousand packs.
const RESTORE_STEP: Duration = Duration::from_secs(300);

/// What lives beside a mount in its process: the keeper.
#[async_trait::async_trait]
pub trait Companion: Send + Sync {
    /// The mount stands.
    fn mounted(&self, inside: Inside);

    /// SIGHUP came.
    fn reload(&self);

    /// Told to stop: returns when nothing of it uses the mount any more.
    async fn wind_down(&self);
}

/// A mount as its companion sees it.
#[derive(Clone)]
pub struct Inside(Arc<Commands>);

impl Inside {
    /// What `haven status --json` tells.
    pub fn status(&self) -> Value {
        self.0.status()
    }

    /// Everything written so far is in the bucket when this returns.
    pub async fn flush(&self) -> Result<(), Refusal> {
        self.0.flush().await
    }

    /// Answers what commands ask of the library.
    pub fn library(&self) -> Library {
        self.0.library()
    }

    /// What was known to be damaged before the library was mounted, and how.
    pub fn remember_damage(&self, known: Vec<(String, String)>) {
        self.0.served.vault.remember_damage(known);
    }

    pub fn stack(&self) -> &Stack {
        &self.0.served.stack
    }

    pub fn keys(&self) -> &haven_format::Keys {
        &self.0.served.keys
    }

    pub fn point(&self) -> &std::path::Path {
        self.0.session.point()
    }

    /// What the kernel has asked of the mount so far.
    pub fn kernel(&self) -> haven_mount::Snapshot {
        self.0.session.metrics().snapshot()
    }
}

/// Everything a mount is made of.
pub struct Mounting {
    pub config: Config,
    pub url: String,
    pub point: PathBuf,
    pub cache: PathBuf,
    pub stack: Stack,
    /// It is still being restored.
    pub restoring: Option<Restoring>,
    pub vault: Arc<Vault>,
    pub keys: haven_format::Keys,
    pub allow_non_empty: bool,
    /// The state to show, where it is not the newest.
    pub at: Option<haven_vault::View>,
    pub beside: Option<Arc<dyn Companion>>,
}

/// How far a restore is.
#[derive(Debug, Clone, Serialize)]
struct Restore {
    /// The URL, without secrets, of the copy that what is not here yet is read from.
    of: String,
    /// Packs that are here, and all that are needed; none: that was not found out yet.
    here: Option<Heap>,
    needed: Option<Heap>,
}

/// What the commands and the signals have in common.
struct Served {
    config: Arc<Config>,
    url: String,
    cache: PathBuf,
    stack: Stack,
    restoring: Option<Restoring>,
    /// How far that is; none: it has come to its end, or there was none.
    restore: watch::Sender<Option<Restore>>,
    vault: Arc<Vault>,
    fs: Arc<Fs>,
    keys: haven_format::Keys,
    beside: Option<Arc<dyn Companion>>,
    since: Instant,
    silence: watch::Sender<Silence>,
    state: watch::Sender<&'static str>,
    /// How it ended, when it has.
    outcome: watch::Sender<Option<Result<(), Refusal>>>,
}

impl Mounting {
    /// Mounts, and serves until the mount has ended. In the background the first process is told when it stands.
    pub async fn serve(self, background: &mut Option<Background>, log: Option<PathBuf>) -> Result<(), Trouble> {
        let signals = Signals::take().map_err(|error| local("signals can't be taken", &error))?;
        let mut options = wire::mount_options(&self.config, &self.url);
        options.allow_non_empty = self.allow_non_empty;
        options.control = Some(Locator {
            pid: std::process::id(),
            socket: self.cache.join(SOCKET),
            url: self.url.clone(),
            cache: self.cache.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
        });
        let fs = match wire::file_system_at(&self.vault, &self.keys, &self.config, self.at.clone()).await {
            Ok(fs) => fs,
            Err(error) => return self.give_up(wire::fs_trouble(&error)).await,
        };
        let runtime = tokio::runtime::Handle::current();
        let mounted = tokio::task::block_in_place(|| mount(fs.clone(), &self.point, &options, runtime));
        let session = match mounted {
            Ok(session) => session,
            Err(error) => return self.give_up(wire::mount_trouble(&error)).await,
        };
        let served = Arc::new(Served {
            config: Arc::new(self.config.clone()),
            url: self.url.clone(),
            cache: self.cache.clone(),
            stack: self.stack.clone(),
            restoring: self.restoring.clone(),
            restore: watch::Sender::new(self.restoring.as_ref().map(|restoring| Restore {
                of: restoring.of.clone(),
                here: None,
                needed: None,
            })),
            vault: self.vault.clone(),
            fs,
            keys: self.keys.clone(),
            beside: self.beside.clone(),
            since: Instant::now(),
            silence: watch::Sender::new(Silence::new(Instant::now())),
            state: watch::Sender::new("starting"),
            outcome: watch::Sender::new(None),
        });
        let commands = Arc::new(Commands { served: served.clone(), session: session.clone() });
        let beside = Server::start(&self.cache, commands.clone())
            .and_then(|server| Ok((server, PidFile::write(&self.cache.join("pid"))?)));
        let beside = match beside {
            Ok(beside) => beside,
            Err(error) => {
                _ = session.unmount(true);
                return self.give_up(local("commands can't be heard", &error)).await;
            }
        };
        manager::tell("READY=1\nSTATUS=mounted");
        if let Some(background) = background.take() {
            background
                .ready(session.point(), log.as_deref())
                .map_err(|error| local("the first process can't be told", &error))?;
        }
        tracing::info!(point = %session.point().display(), store = self.stack.store.describe(), "mounted");
        if let Some(companion) = &self.beside {
            companion.mounted(Inside(commands));
        }
        let ending = tokio::select! {
            ending = serve(&session, &*served, signals) => ending,
            never = served.listen() => match never {},
            never = served.tell_stop() => match never {},
            never = served.follow_restore() => match never {},
        };
        // Whoever unmounted it by a command did not wait for it.
        if let Some(companion) = &self.beside {
            companion.wind_down().await;
        }
        served.told(&ending);
        // What is unsent waits on this machine's disk; a drained vault has nothing left to do.
        let closed = self.vault.close(false).await;
        let outcome = served.conclude(&ending, closed);
        // Whoever asked for this end hears how it was before the socket goes.
        let (server, _pid_file) = beside;
        server.finish().await;
        outcome
    }

    /// A mount that did not come about leaves the library to others.
    async fn give_up(self, trouble: Trouble) -> Result<(), Trouble> {
        _ = self.vault.close(false).await;
        Err(trouble)
    }
}

fn local(what: &str, error: &dyn std::error::Error) -> Trouble {
    Trouble::new(Code::Local, what).caused_by(error)
}

impl Served {
    fn told(&self, ending: &Ending) {
        let outcome = match ending {
            Ending::Complete | Ending::Detached => Ok(()),
            Ending::Interrupted => {
                Err(Refusal::new("unfinished", "a second signal ended it; what was accepted is on this machine's disk"))
            }
            Ending::Failed(why) => Err(self.failed(why)),
        };
        self.outcome.send_replace(Some(outcome));
    }

    fn failed(&self, why: &str) -> Refusal {
        let code = if self.vault.status().fenced { "fenced" } else { "unfinished" };
        Refusal::new(code, why)
    }

    fn conclude(&self, ending: &Ending, closed: Result<(), VaultError>) -> Result<(), Trouble> {
        let safe =
            format!("what was accepted is safe in {} and goes to the bucket at the next mount", self.cache.display());
        let unsent = self.vault.status().unsent_changes;
        match ending {
            Ending::Failed(why) => {
                let refusal = self.failed(why);
                return Err(unfinished(&refusal).meaning(if refusal.code == "fenced" {
                    format!("{unsent} changes are safe in {}, not in the bucket", self.cache.display())
                } else {
                    safe
                }));
            }
            Ending::Interrupted => {
                return Err(Trouble::new(Code::Unfinished, "a second signal ended the mount").meaning(safe));
            }
            Ending::Detached if unsent > 0 => report::note(safe),
            Ending::Detached | Ending::Complete => {}
        }
        closed.map_err(|error| wire::vault_trouble("the library can't be closed", &error))
    }

    /// What is still to do, for progress.
    fn remaining(&self) -> Value {
        let status = self.vault.status();
        json!({
            "state": *self.state.borrow(),
            "unsent_changes": status.unsent_changes,
            "pending_bytes": status.pending_bytes,
            "uploaded_bytes": status.uploaded_bytes,
            "trouble": self.trouble(),
            "checking": self.vault.checking(),
        })
    }

    /// Listens whether the store still answers.
    async fn listen(&self) -> Infallible {
        loop {
            tokio::time::sleep(silence::STEP).await;
            self.silence.send_modify(|silence| silence.listen(&self.stack.meter.snapshot(), Instant::now()));
        }
    }

    /// Looks now and then how far the restore is that this library comes from, until it has come to its end.
    async fn follow_restore(&self) -> Infallible {
        while self.restore.borrow().is_some() {
            match standing::held(&self.stack, &self.keys).await {
                Ok(held) if standing::is_restoring(held.as_ref()) => match self.vault.packs_here().await {
                    Ok((here, needed)) => self.restore.send_modify(|restore| {
                        if let Some(restore) = restore {
                            (restore.here, restore.needed) = (Some(here), Some(needed));
                        }
                    }),
                    Err(error) => tracing::debug!(%error, "how far the restore is can't be told"),
                },
                Ok(_) => {
                    tracing::info!("everything has come from where the library was restored from");
                    self.restore.send_replace(None);
                }
                // What was known before is told.
                Err(trouble) => tracing::debug!(what = trouble.what, "how far the restore is can't be told"),
            }
            tokio::time::sleep(RESTORE_STEP).await;
        }
        std::future::pending().await
    }

    /// Tells how far a stop is, and that it needs more time.
    async fn tell_stop(&self) -> Infallible {
        let mut logged = Instant::now();
        loop {
            tokio::time::sleep(STOP_STEP).await;
            let state = *self.state.borrow();
            if ["starting", "serving"].contains(&state) {
                continue;
            }
            let text = format!("{state}: {}", remaining_words(&self.remaining()));
            manager::busy(&text);
            // Whoever watches the process hears that the stop goes on.
            manager::tell("WATCHDOG=1");
            if logged.elapsed() >= STOP_LOG_STEP {
                logged = Instant::now();
                tracing::info!("{text}");
            }
        }
    }

    /// What is wrong with the store just now: as it says itself, as the vault has noticed, or that it says nothing.
    fn trouble(&self) -> Option<String> {
        let store = self.stack.trouble.borrow().as_ref().map(|trouble| trouble.last.to_string());
        self.vault.status().trouble.or(store).or_else(|| self.silence.borrow().told(Instant::now()))
    }

    /// Everything that the kernel has handed over so far is in the bucket when this returns.
    async fn flush(&self) -> Result<(), Refusal> {
        let failed = |error: &dyn std::error::Error| self.failed(&error.to_string());
        loop {
            let fs = self.fs.clone();
            let flushed = tokio::task::spawn_blocking(move || fs.flush_all()).await.map_err(|error| failed(&error))?;
            match flushed {
                Ok(()) => break,
                Err(error) => match error.need() {
                    Some(need) => self.fs.settle(need).await.map_err(|error| failed(&error))?,
                    None => return Err(failed(&error)),
                },
            }
        }
        self.vault.sync_bucket(self.vault.head()).await.map_err(|error| failed(&error))
    }
}

/// A refusal of the mount's process as trouble of a command.
pub fn unfinished(refusal: &Refusal) -> Trouble {
    match refusal.code.as_str() {
        "fenced" => Trouble::new(Code::Fenced, "this machine may no longer write to the library")
            .because(&refusal.message)
            .next("haven claims    tells who writes now; haven salvage saves what was not sent"),
        _ => Trouble::new(Code::Unfinished, "not everything is in the bucket").because(&refusal.message),
    }
}

#[async_trait::async_trait]
impl Host for Served {
    fn reload(&self) {
        if let Some(companion) = &self.beside {
            companion.reload();
        }
    }

    async fn wind_down(&self) {
        if let Some(companion) = &self.beside {
            self.state.send_replace("ending what is at work");
            manager::tell("STOPPING=1\nSTATUS=ending what is at work");
            companion.wind_down().await;
        }
    }

    fn state(&self, state: State) {
        let word = match state {
            State::Serving => "serving",
            State::Unmounting => "unmounting",
            State::WaitingForOpenFiles => "waiting for open files",
            State::Finishing => "finishing",
            State::Draining => "uploading",
        };
        self.state.send_replace(word);
        if state != State::Serving {
            manager::tell(&format!("STOPPING=1\nSTATUS={word}"));
            tracing::info!(state = word);
        }
    }

    async fn drain(&self) -> Result<(), String> {
        self.vault.close(true).await.map_err(|error| error.to_string())?;
        let status = self.vault.status();
        match status.stopped.filter(|_| status.fenced && status.unsent_changes > 0) {
            Some(why) => Err(format!(
                "{why}; {} made here were not sent",
                words::count(status.unsent_changes as usize, "change")
            )),
            None => Ok(()),
        }
    }
}

pub struct Commands {
    served: Arc<Served>,
    session: Session,
}

impl Commands {
    fn status(&self) -> Value {
        let served = &self.served;
        let meter = served.stack.meter.snapshot();
        let mut value = json!({
            "mounted": true,
            "point": self.session.point(),
            "url": served.url,
            "cache": served.cache,
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "state": *served.state.borrow(),
            "up_seconds": served.since.elapsed().as_secs(),
            "waiting_requests": self.session.waiting(),
            "requests": meter.requests(),
            "request_errors": meter.errors(),
            "requests_by_verb": meter.verbs,
            "kernel": self.session.metrics().snapshot(),
            "restoring": *served.restore.borrow(),
        });
        if let (Value::Object(all), Ok(Value::Object(vault))) =
            (&mut value, serde_json::to_value(served.vault.status()))
        {
            all.extend(vault);
            all.insert("trouble".into(), json!(served.trouble()));
            // What is not on this machine is not worth waiting for here.
            let collected =
                served.vault.collection().ok().flatten().map(|last| haven_vault::collect::Collected::from(&last));
            all.insert("garbage".into(), json!(collected));
            let snapshots = served.vault.snapshots().map_or(0, |snapshots| snapshots.len());
            all.insert("snapshots".into(), json!(snapshots));
        }
        value
    }

    fn library(&self) -> Library {
        let served = &self.served;
        let restoring = served.restore.borrow().is_some();
        Library {
            vault: served.vault.clone(),
            fs: Some(served.fs.clone()),
            mounted: Some(self.session.clone()),
            config: served.config.clone(),
            // When all has come, what is missing is lost, and not still to come.
            behind: served.restoring.as_ref().filter(|_| restoring).map(|restoring| restoring.behind.clone()),
        }
    }

    /// Everything written so far is in the bucket when this returns.
    async fn flush(&self) -> Result<(), Refusal> {
        past::gather(&self.session).await?;
        self.served.flush().await
    }

    async fn umount(&self, request: &Request, progress: &Progress) -> Result<Value, Refusal> {
        let detach = request.flag("detach");
        if detach {
            self.session.skip_drain();
        }
        match self.session.unmount(detach || request.flag("lazy")) {
            Ok(()) | Err(UnmountError::NotMounted { .. }) => {}
            Err(error @ UnmountError::Busy { .. }) => return Err(Refusal::new("busy", error.to_string())),
            Err(error) => return Err(Refusal::new("refused", error.to_string())),
        }
        if detach && tokio::time::timeout(HELD_AFTER, self.session.ended()).await.is_err() {
            // This process goes on for whoever has it open; nobody waits for that who said so.
            let mut value = self.served.remaining();
            value["held_by"] = json!(self.holders().await);
            return Ok(value);
        }
        let mut outcome = self.served.outcome.subscribe();
        let ended = async move { outcome.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone()) };
        match self.while_held(progress, ended).await {
            Some(Err(refusal)) => Err(refusal),
            _ => Ok(self.served.remaining()),
        }
    }

    async fn holders(&self) -> Vec<Holder> {
        let session = self.session.clone();
        tokio::task::spawn_blocking(move || session.clones()).await.unwrap_or_default()
    }

    /// As [`Self::while_telling`]; and where the mount does not end although it is off its mount point, tells whom it waits
    /// for: `held_by`, empty where this process may not see it.
    async fn while_held<T>(&self, progress: &Progress, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut look = Instant::now() + HELD_AFTER;
        let mut held = None;
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(STEP) => {}
            }
            if !self.session.is_alive() {
                held = None;
            } else if Instant::now() >= look {
                held = Some(self.holders().await);
                look = Instant::now() + HELD_AFTER;
            }
            let mut value = self.served.remaining();
            if let Some(held) = &held {
                value["held_by"] = json!(held);
            }
            progress.tell(value);
        }
    }

    /// Awaits `work` and tells how far things are meanwhile.
    async fn while_telling<T>(&self, progress: &Progress, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(STEP) => progress.tell(self.served.remaining()),
            }
        }
    }
}

#[async_trait::async_trait]
impl Control for Commands {
    async fn answer(&self, request: Request, progress: &Progress) -> Result<Value, Refusal> {
        match request.verb.as_str() {
            "status" => Ok(self.status()),
            "flush" => self.while_telling(progress, self.flush()).await.map(|()| self.served.remaining()),
            "umount" => self.umount(&request, progress).await,
            "stat" => {
                let sums = self.served.vault.status().sums;
                let gathered = stat::gather(&self.served.stack.store, &self.served.url, sums).await;
                let value = gathered.map_err(|error| Refusal::new("store", error.to_string()))?;
                serde_json::to_value(value).map_err(|error| Refusal::new("bug", error.to_string()))
            }
            "snapshot hold" => self.library().hold(&request).await,
            _ if Library::knows(&request) => {
                let library = self.library();
                self.while_telling(progress, library.answer(&request)).await
            }
            other => Err(Refusal::unknown(other)),
        }
    }
}

/// A short text on what is still to do, for progress on a terminal.
pub fn remaining_words(value: &Value) -> String {
    let number = |name: &str| value[name].as_u64().unwrap_or_default();
    if let (Some(done), Some(all)) = (value["checking"][0].as_u64(), value["checking"][1].as_u64()) {
        return format!("{done} of {}", words::count(all as usize, "pack"));
    }
    let mut text = format!(
        "{} and {} to go",
        words::bytes(number("pending_bytes")),
        words::count(number("unsent_changes") as usize, "change")
    );
    if let Some(trouble) = value["trouble"].as_str() {
        text += &format!("; {trouble}");
    }
    text
}
