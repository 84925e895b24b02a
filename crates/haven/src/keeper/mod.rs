//! The keeper: does on schedule what a careful person would do, watches what did not happen, and tells people.
//!
//! ```text
//!     haven run ── mount (this process) ──────────── programs
//!        │
//!        ├─ plan ──due──▶ child of this binary ──▶ ledger        a job each, never two of one kind
//!        ├─ watch ──────▶ State ──▶ findings, score ──▶ state.json, page, metrics
//!        └─ tell ───────▶ outbox ──▶ channels; dead-man's switch
//! ```
//! Promises: nothing that a job does can take the mount along; what was due while nobody was here is done once; a message
//! that was put into the outbox is told or still there; while one of the keeper's own parts does not do its work, the
//! dead-man's switch does not hear that all is well.

mod alive;
mod child;
mod collect;
mod diary;
mod expiry;
mod facts;
mod folders;
mod jobs;
mod judge;
mod locks;
mod notes;
mod owed;
mod page;
mod place;
mod places;
pub mod settings;
mod tell;
pub mod unit;
mod watch;
mod work;

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use haven_keeper::{
    findings::{Finding, is_judged},
    ledger::{Ledger, Verdict},
    plan::{Job, Plan},
    score::Score,
    state::State,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast, watch as channel};

pub use child::{give, settle_in};
pub use jobs::jobs;
pub use tell::{Teller, deliver_here, http, switches};
pub use watch::look_from_outside;

use crate::{
    config::Config,
    manager,
    report::{Code, Trouble, UNTOUCHED},
    served::{Companion, Inside},
};
use settings::Rooms;

/// How long jobs have to end when the keeper is told to.
const WIND_DOWN: Duration = Duration::from_secs(25);
/// The longest sleep: clocks are set, and machines are woken.
const SLEEP_MAX: Duration = Duration::from_secs(20);
/// How often certificates are looked at.
const EXPIRIES_EVERY: Duration = Duration::from_secs(6 * 3600);
/// How long after its start the keeper looks whether a lock is to be tried, and how often from then on.
const LOCKS_AFTER: Duration = Duration::from_secs(120);
const LOCKS_EVERY: Duration = Duration::from_secs(3600);
/// Everything that was seen at one look.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The keeper that saw it.
    pub pid: u32,
    pub state: State,
    pub findings: Vec<Finding>,
    pub score: Option<Score>,
    pub sentence: String,
    /// `ok`, `warning` or `critical`.
    pub colour: String,
}

/// Something has changed that others may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Runs,
    Health,
}

/// A job that is at work.
#[derive(Debug, Clone)]
struct Working {
    pid: Option<u32>,
    since: i64,
}

pub struct Keeper {
    pub rooms: Rooms,
    pub ledger: Ledger,
    pub teller: Teller,
    config: RwLock<Arc<Config>>,
    plan: Mutex<Plan>,
    working: Mutex<BTreeMap<String, Working>>,
    inside: OnceLock<Inside>,
    seen: channel::Sender<Arc<Seen>>,
    /// What runs out, as it was last asked for.
    expiries: Mutex<Vec<haven_keeper::state::Expiry>>,
    events: broadcast::Sender<Event>,
    /// Something may be due.
    due: Notify,
    /// A look is wanted.
    look: Notify,
    stopping: channel::Sender<bool>,
    begun: Instant,
    /// When a look at everything, and a round of telling, last came to its end.
    looked: Mutex<Instant>,
    told: Mutex<Instant>,
    /// When a part last broke off.
    broke: Mutex<Option<Instant>>,
    /// Why what is done is remembered in memory alone.
    unwritten: Option<String>,
    /// Runs that an earlier keeper was at, whose end could not be noted yet.
    unclosed: Mutex<Vec<work::Unclosed>>,
    runtime: tokio::runtime::Handle,
    own: std::sync::Weak<Self>,
    _lock: File,
}

pub fn seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}

pub fn millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn cannot(path: &std::path::Path, error: &dyn std::error::Error) -> Trouble {
    Trouble::new(Code::Local, format!("the keeper's directory {} can't be used", path.display()))
        .caused_by(error)
        .meaning(UNTOUCHED)
        .next("make room there, or name another: schedule.directory in haven.toml")
}

/// The right to be the keeper of a library on this machine; none: somebody else is.
pub fn lock(rooms: &Rooms) -> Result<Option<File>, Trouble> {
    let folder = rooms.root();
    std::fs::create_dir_all(folder).map_err(|error| cannot(folder, &error))?;
    // On a disk that can only be read any more there is one already, which can be locked all the same.
    let file = File::options().create(true).append(true).open(rooms.lock());
    let file =
        file.or_else(|error| File::open(rooms.lock()).map_err(|_| error)).map_err(|error| cannot(folder, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(cannot(folder, &error)),
    }
}

impl Keeper {
    /// To be called on a runtime. Closes what an earlier keeper was at when it was killed. That its own disk is full or
    /// damaged keeps nothing from being mounted.
    pub fn new(config: &Config) -> Result<Arc<Self>, Trouble> {
        let rooms = Rooms::of(config);
        let held = lock(&rooms)?.ok_or_else(|| {
            Trouble::new(Code::Occupied, "another keeper of this library is at work on this machine")
                .meaning(UNTOUCHED)
                .next("haven health    tells how it is; systemctl status haven")
        })?;
        let diary::Opened { ledger, unwritten } =
            diary::open(&rooms.ledger()).map_err(|error| cannot(rooms.root(), &error))?;
        let unclosed = work::close_what_was_killed(&ledger).unwrap_or_else(|error| {
            tracing::error!(%error, "what was at work when the keeper was killed can't be read");
            Vec::new()
        });
        let teller = Teller::new(&rooms, config)?;
        let (plan, missed) =
            Plan::new(config.schedule.rules(), jobs(config), seconds(), |job| last_begun(&ledger, job));
        // What an earlier keeper has read: a server may not answer now.
        let expiries = facts::read(&ledger, facts::EXPIRIES).unwrap_or_default();
        let keeper = Arc::new_cyclic(|own| Self {
            rooms,
            ledger,
            teller,
            config: RwLock::new(Arc::new(config.clone())),
            plan: Mutex::new(plan),
            working: Mutex::default(),
            inside: OnceLock::new(),
            seen: channel::Sender::new(Arc::default()),
            expiries: Mutex::new(expiries),
            events: broadcast::Sender::new(64),
            due: Notify::new(),
            look: Notify::new(),
            stopping: channel::Sender::new(false),
            begun: Instant::now(),
            looked: Mutex::new(Instant::now()),
            told: Mutex::new(Instant::now()),
            broke: Mutex::default(),
            unwritten,
            unclosed: Mutex::new(unclosed),
            runtime: tokio::runtime::Handle::current(),
            own: own.clone(),
            _lock: held,
        });
        keeper.note_missed(&missed);
        Ok(keeper)
    }

    fn note_missed(&self, missed: &[haven_keeper::plan::Missed]) {
        for one in missed {
            let (kind, name) = (&one.job.kind, &one.job.name);
            let begun = self.ledger.last(kind, name, &[Verdict::Killed, Verdict::Failed]).unwrap_or_else(|error| {
                tracing::error!(%error, "the ledger can't be read");
                None
            });
            if begun.is_some_and(|run| run.planned == Some(one.due * 1000)) {
                // Begun, and cut off or failed: it is tried again.
                continue;
            }
            let times =
                if one.count > 1 { format!("{} times passed", one.count) } else { "its time passed".to_owned() };
            let said = format!("{times} while the keeper was not at work; it is done now");
            tracing::info!(job = one.job.key(), "{said}");
            if let Err(error) = self.ledger.missed(kind, name, one.due * 1000, &said) {
                tracing::error!(%error, "a missed run can't be noted");
            }
        }
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn inside(&self) -> Option<&Inside> {
        self.inside.get()
    }

    pub fn seen(&self) -> Arc<Seen> {
        self.seen.borrow().clone()
    }

    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    pub fn was_mounted(&self) -> bool {
        self.inside.get().is_some()
    }

    /// The jobs with their next time.
    pub fn upcoming(&self) -> Vec<(Job, Option<i64>)> {
        let plan = locked(&self.plan);
        plan.jobs().iter().map(|job| (job.clone(), plan.next(&job.key()))).collect()
    }

    /// Somebody wants a job done now. False: there is no such job, or it is at work.
    pub fn ask(&self, key: &str) -> bool {
        let asked = locked(&self.plan).ask(key, seconds());
        self.due.notify_one();
        asked
    }

    fn own(&self) -> Option<Arc<Self>> {
        self.own.upgrade()
    }

    /// What goes on from the first moment: looking, and telling.
    pub fn begin(self: &Arc<Self>) {
        self.keep("telling", alive::AGAIN, Self::keep_telling);
        self.keep("looking", alive::AGAIN, Self::keep_looking);
        self.keep("heartbeat", alive::AGAIN, Self::keep_alive);
        self.keep("certificates", alive::AGAIN, Self::keep_asking);
        self.keep("locks", alive::AGAIN, Self::keep_trying_locks);
        self.keep("page", alive::AGAIN, Self::keep_page);
    }

    /// Certificates change rarely.
    async fn keep_asking(self: Arc<Self>) {
        loop {
            let known = locked(&self.expiries).clone();
            let found = expiry::look(&self.config(), &known).await;
            if found != known
                && let Err(error) = facts::write(&self.ledger, facts::EXPIRIES, &found)
            {
                tracing::warn!(%error, "what runs out can't be noted");
            }
            *locked(&self.expiries) = found;
            tokio::time::sleep(EXPIRIES_EVERY).await;
        }
    }

    async fn keep_trying_locks(self: Arc<Self>) {
        let mut wait = LOCKS_AFTER;
        loop {
            tokio::time::sleep(wait).await;
            if self.was_mounted() && !self.is_stopping() {
                locks::look(&self.config(), &self.ledger, seconds()).await;
            }
            wait = LOCKS_EVERY;
        }
    }

    async fn keep_telling(self: Arc<Self>) {
        loop {
            self.teller.deliver().await;
            *locked(&self.told) = Instant::now();
            tokio::select! {
                () = self.teller.wanted() => {}
                () = tokio::time::sleep(Duration::from_secs(2)) => {}
            }
        }
    }

    async fn keep_looking(self: Arc<Self>) {
        let mut memory = watch::Memory::default();
        loop {
            self.look_once(&mut memory).await;
            *locked(&self.looked) = Instant::now();
            let every = self.config().health.every;
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.look.notified() => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// One look at everything, and what follows from it.
    async fn look_once(self: &Arc<Self>, memory: &mut watch::Memory) {
        let config = self.config();
        let seen = watch::look(self, &config, memory).await;
        // Where the keeper's own disk does not answer, nobody else is held up by it.
        tokio::task::block_in_place(|| self.conclude(&config, seen));
    }

    /// Notes what was seen, and tells people.
    fn conclude(&self, config: &Config, mut seen: Seen) {
        locked(&self.unclosed).retain(|run| run.close(&self.ledger).is_err());
        let keys: Vec<String> = seen.findings.iter().map(Finding::id).collect();
        match self.ledger.since(&keys, seen.state.now) {
            Ok(since) => seen.findings.iter_mut().zip(since).for_each(|(finding, at)| finding.since = at),
            Err(error) => tracing::error!(%error, "the ledger can't be written"),
        }
        let before = self.seen();
        let changed = before.findings != seen.findings || before.score != seen.score;
        if let Ok(text) = serde_json::to_string(&seen)
            && let Err(error) = crate::settings_file::replace(&self.rooms.state(), &text)
        {
            tracing::warn!(%error, "what was seen can't be written down");
        }
        // A keeper that has just begun may be about to mount.
        let patient = self.begun.elapsed() < config.health.store_patience && !self.was_mounted();
        if !self.is_stopping() && !patient {
            let limits = config.health.limits();
            let judged = |id: &str| is_judged(&seen.state, &limits, id);
            self.teller.tell_findings(config, &self.ledger, &seen.findings, judged);
        }
        if self.was_mounted() && !self.is_stopping() {
            manager::status(&seen.sentence);
            self.limit_bandwidth(config);
        }
        self.seen.send_replace(Arc::new(seen));
        if changed {
            _ = self.events.send(Event::Health);
        }
    }

    fn limit_bandwidth(&self, config: &Config) {
        let Some(inside) = self.inside() else { return };
        let rate = config.schedule.rate_now().unwrap_or(config.store.limit.upload_rate_max);
        inside.stack().limits.set_upload_rate(rate);
    }

    fn reloaded(&self) -> Result<(), Trouble> {
        let known = self.config();
        let mut fresh = Config::load(known.from.clone())?;
        // These want a restart.
        fresh.library = known.library.clone();
        fresh.mount = known.mount.clone();
        fresh.schedule.directory.clone_from(&known.schedule.directory);
        let missed = {
            let mut plan = locked(&self.plan);
            plan.use_rules(fresh.schedule.rules());
            plan.use_jobs(jobs(&fresh), seconds(), |job| last_begun(&self.ledger, job))
        };
        self.note_missed(&missed);
        self.teller.use_config(&fresh);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        self.due.notify_one();
        self.look.notify_one();
        Ok(())
    }
}

/// When a job was last begun so that it need not be made up for, seconds since the epoch.
fn last_begun(ledger: &Ledger, job: &Job) -> Option<i64> {
    let over = [Verdict::Ok, Verdict::Warned, Verdict::Failed, Verdict::Killed];
    let newest = ledger.last(&job.kind, &job.name, &over).unwrap_or_else(|error| {
        // It waits for its next time then; that the ledger can't be read is a finding of its own.
        tracing::error!(%error, job = job.key(), "the ledger can't be read");
        None
    })?;
    let owed = match newest.verdict {
        Verdict::Killed => true,
        Verdict::Failed => facts::read::<Option<i64>>(ledger, &facts::again_key(&job.key()))
            .inspect_err(
                |error| tracing::warn!(%error, job = job.key(), "whether it is to be tried again can't be read"),
            )
            .is_ok_and(|again| again == Some(newest.id)),
        _ => false,
    };
    // What was cut off, or failed and would have been tried again, is still to be done.
    Some(if owed { newest.planned.unwrap_or(newest.started) / 1000 - 1 } else { newest.started / 1000 })
}

#[async_trait::async_trait]
impl Companion for Keeper {
    fn mounted(&self, inside: Inside) {
        match facts::read::<BTreeMap<String, String>>(&self.ledger, facts::DAMAGE) {
            Ok(known) => inside.remember_damage(known.into_iter().collect()),
            Err(error) => tracing::error!(%error, "what was known to be damaged can't be read"),
        }
        if self.inside.set(inside).is_err() {
            return;
        }
        let Some(own) = self.own() else { return };
        self.look.notify_one();
        own.keep("jobs", alive::AGAIN, Self::keep_working);
    }

    fn reload(&self) {
        match self.reloaded() {
            Ok(()) => tracing::info!(
                "the settings were read again; where the library is, and how it is mounted, stays as it was"
            ),
            Err(trouble) => {
                tracing::error!(what = trouble.what, "the settings can't be read again; what held before holds");
                self.teller.tell_reload(&self.config(), &trouble);
            }
        }
    }

    async fn wind_down(&self) {
        if self.stopping.send_replace(true) {
            return;
        }
        self.end_jobs().await;
    }
}

/// The newest look of the keeper that is at work, if it is fresh; none: no keeper is at work.
///
/// # Errors
/// Why that can't be told, in a line.
pub fn newest_look(config: &Config) -> Result<Option<Seen>, String> {
    let path = Rooms::of(config).state();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{} can't be read: {error}", path.display())),
    };
    let seen: Seen = serde_json::from_str(&text)
        .map_err(|error| format!("{} is damaged, or of another version of Haven: {error}", path.display()))?;
    let old = config.health.every.as_secs() * 3 + 60;
    let fresh = seconds() - seen.state.now <= i64::try_from(old).unwrap_or(i64::MAX);
    Ok((fresh && child::started(seen.pid).is_some()).then_some(seen))
}

/// What the keeper saw last; where none is at work, or that can't be read, what is seen now. Whether the keeper saw it.
pub fn look_now_or_then(config: &Config) -> (Seen, bool) {
    match newest_look(config) {
        Ok(Some(seen)) => (seen, true),
        Ok(None) | Err(_) => (look_from_outside(config), false),
    }
}

/// The ledger for reading; none: there is none yet.
pub fn ledger(config: &Config) -> Result<Option<Ledger>, Trouble> {
    let path: PathBuf = Rooms::of(config).ledger();
    match Ledger::read(&path) {
        Ok(ledger) => Ok(Some(ledger)),
        Err(haven_keeper::ledger::LedgerError::Missing { .. }) => Ok(None),
        Err(error @ haven_keeper::ledger::LedgerError::Newer { .. }) => {
            Err(Trouble::new(Code::Newer, error.to_string()).meaning(UNTOUCHED).next("install the newer Haven here"))
        }
        Err(error) => Err(cannot(&path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use haven_keeper::ledger::{Begin, End};

    use super::*;

    #[tokio::test]
    async fn a_keeper_whose_ledger_is_rubbish_is_at_work_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[library]\nurl = '/srv/x'\n[schedule]\ndirectory = {:?}\n", folder.path());
        let config = Config::from_text(&text, "").unwrap();
        std::fs::write(Rooms::of(&config).ledger(), "rubbish, and long enough to be looked at as a database").unwrap();
        let keeper = Keeper::new(&config).unwrap();
        assert!(keeper.unwritten.is_none() && diary::aside(&keeper.ledger).is_some());
    }

    #[test]
    fn what_failed_and_would_have_been_tried_again_is_still_to_be_done_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("l")).unwrap();
        let job = Job {
            kind: "backup".into(),
            name: "immich".into(),
            schedule: "daily 00:00".parse().unwrap(),
            heavy: false,
            after: Vec::new(),
        };
        let run = |planned: i64, verdict, again| {
            let begin = Begin {
                kind: "backup",
                name: "immich",
                planned: Some(planned * 1000),
                started: (planned + 30) * 1000,
                ..Begin::default()
            };
            let id = ledger.begin(&begin).unwrap();
            if again {
                facts::write(&ledger, &facts::again_key(&job.key()), &Some(id)).unwrap();
            }
            let ended = (planned + 60) * 1000;
            ledger.end(id, &End { ended, verdict, exit: None, bytes: None, said: "", tail: "" }).unwrap();
            last_begun(&ledger, &job)
        };
        assert_eq!(run(1000, Verdict::Ok, false), Some(1030));
        assert_eq!(run(2000, Verdict::Failed, true), Some(1999));
        assert_eq!(run(3000, Verdict::Failed, false), Some(3030), "another try would end no better");
        assert_eq!(run(4000, Verdict::Killed, false), Some(3999), "although one has failed before");
        assert_eq!(run(5000, Verdict::Warned, false), Some(5030));
        // And so does the plan.
        run(86_400, Verdict::Failed, true);
        let rules = haven_keeper::plan::Rules {
            zone: jiff::tz::TimeZone::UTC,
            machine: String::new(),
            jitter: 0,
            quiet: Vec::new(),
            retry: 60,
        };
        let (mut plan, missed) = Plan::new(rules, vec![job.clone()], 90_000, |job| last_begun(&ledger, job));
        assert_eq!((missed.len(), plan.due(90_000).len()), (1, 1));
    }
}
