//! Looks at everything, and makes a [`State`] of it: from inside the mount's process, or by a command that asks it.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

use haven_keeper::{
    findings::findings,
    ledger::{Growth, Ledger, LedgerError},
    plan::Plan,
    score::{score, sentence},
    state::{Blind, Length, Sight, State, Sums, Unseen},
};
use haven_mount::control::{ClientError, Found, Request, find};
use haven_store::retry::RetryConfig;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{
    Keeper, Seen,
    collect::{Sought, collect, mounts_damage, own_disk},
    facts,
    folders::{self, Folders},
    jobs, last_begun, locked, newest_look,
    notes::Notes,
    owed::Owed,
    places::{Eyes, Places},
    seconds,
    settings::Rooms,
};
use crate::{cli::ask, config::Config, served::Inside, words::causes};

/// How long the mount has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a look at the folders in the mount may take.
const FOLDERS_PATIENCE: Duration = Duration::from_secs(20);
/// How often the folders of points and drills are listed, at least.
const FOLDERS_EVERY: Duration = Duration::from_secs(600);
/// The same where not all of it could be looked at.
const FOLDERS_AGAIN: Duration = Duration::from_secs(30);
/// Seconds that the disk, the queue and the requests are looked back at.
const DISK_BACK: i64 = 6 * 3600;
const QUEUE_BACK: i64 = 6 * 3600;
const REQUESTS_BACK: i64 = 600;
/// Seconds between two notes of how large the library is.
const GROWTH_EVERY: i64 = 3600;

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub struct Memory {
    disk: VecDeque<(i64, u64)>,
    requests: VecDeque<(i64, u64, u64)>,
    queue: VecDeque<Length>,
    /// How far the bucket was, and since when.
    progress: Option<(u64, u64, i64)>,
    trouble_since: Option<i64>,
    folders: Option<Listed>,
    /// Where the cache is.
    cache: String,
    /// Since when something can't be looked at.
    unseen: BTreeMap<Sight, i64>,
    grown: Option<i64>,
    /// The mount did not answer at the last look.
    silent: bool,
    /// Since when the mount's numbers have been looked at.
    watched: Option<Instant>,
    /// What may not come back, and is not asked for twice.
    knock: Knock,
    numbers: Owed<Value>,
    listing: Owed<(Vec<String>, Folders)>,
    eyes: Eyes,
    notes: Notes,
}

/// What was listed when.
#[derive(Debug)]
struct Listed {
    at: Instant,
    /// How many runs had ended then: what one changed is to be looked at.
    done: i64,
    applications: Vec<String>,
    folders: Folders,
}

/// Whether the mount answers: by a name that nobody has looked up before, so that the kernel must ask.
#[derive(Debug, Default)]
pub struct Knock(Owed<Result<(), String>>);

impl Knock {
    /// How long that took, in seconds.
    pub async fn at(&mut self, point: PathBuf) -> Result<f64, String> {
        let begun = Instant::now();
        let name = format!(".haven-watch-{:08x}", rand::random::<u32>());
        let look = move || match std::fs::symlink_metadata(point.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        };
        self.0.get(PATIENCE, look).await??;
        Ok(begun.elapsed().as_secs_f64())
    }
}

/// How often the store is asked for the watchdog's sake: stores charge for requests.
const PROBE_EVERY: Duration = Duration::from_secs(300);

/// Longer than any request may take: one that has not come back by then never will.
const PROBE_PATIENCE: Duration = Duration::from_secs(180);

/// Asks the store now and then, and never waits for the answer: a store that is down is no reason to take the mount down
/// too, a client that hangs is.
#[derive(Debug, Default)]
pub struct Probe {
    under_way: Option<(Instant, JoinHandle<()>)>,
    came_back: Option<Instant>,
}

impl Probe {
    /// Whether requests come back, with whatever answer.
    pub fn ask(&mut self, inside: &Inside) -> Result<(), String> {
        if self.under_way.as_ref().is_some_and(|(_, asked)| asked.is_finished()) {
            (self.under_way, self.came_back) = (None, Some(Instant::now()));
        }
        match &self.under_way {
            Some((begun, _)) if begun.elapsed() > PROBE_PATIENCE => {
                return Err("a request to the store did not come back".into());
            }
            Some(_) => {}
            None if self.came_back.is_none_or(|at| at.elapsed() > PROBE_EVERY) => {
                let retry = RetryConfig { patience: Duration::ZERO, ..RetryConfig::default() };
                let impatient = inside.stack().with_patience(retry);
                let asked = tokio::spawn(async move { _ = impatient.list("cfg/", None, 1).await });
                self.under_way = Some((Instant::now(), asked));
            }
            None => {}
        }
        Ok(())
    }
}

/// One look from inside.
pub async fn look(keeper: &Keeper, config: &Config, memory: &mut Memory) -> Seen {
    let now = seconds();
    let mut sought = Sought::default();
    let (status, answers) = match keeper.inside().filter(|_| !keeper.is_stopping()) {
        Some(inside) => {
            let asked = inside.clone();
            let status = memory.numbers.get(PATIENCE, move || asked.status()).await;
            let status = status.inspect_err(|why| sought.miss(Sight::Mount, why)).ok();
            let answers = memory.knock.at(inside.point().to_owned()).await;
            // One slow answer on a busy machine is not worth waking anybody for.
            let twice = std::mem::replace(&mut memory.silent, answers.is_err());
            let answers = if twice { answers } else { answers.or(Ok(PATIENCE.as_secs_f64())) };
            (status, Some(answers))
        }
        None => (None, None),
    };
    let folders = match keeper.inside().filter(|_| matches!(answers, Some(Ok(_)))) {
        Some(inside) => Some(listed(keeper, config, memory, inside).await),
        None => None,
    };
    let skew = keeper.inside().and_then(|inside| inside.stack().skew_seconds());
    let places = memory.eyes.look(config).await;
    let notes = match keeper.inside().filter(|_| !keeper.is_stopping()) {
        Some(inside) => memory.notes.read(config, inside.keys()).await,
        None => Vec::new(),
    };
    // What the bucket has is known to who writes there, and to who follows it; not to one that was fenced. The mount was asked
    // before the replicas were.
    let knows = status.as_ref().filter(|status| status["writable"] == true || config.mount.read_only);
    if let Some(uploaded) = knows.and_then(|status| status["uploaded"].as_u64()).filter(|uploaded| *uploaded > 0) {
        memory.notes.mark(now, uploaded);
    }
    // Where the keeper's own disk does not answer, nobody else is held up by it.
    let mut state = tokio::task::block_in_place(|| {
        // It was told what is known from before when it was mounted.
        if let Some(Ok(damage)) = status.as_ref().map(mounts_damage)
            && let Err(error) = facts::keep_damage(&keeper.ledger, &damage)
        {
            tracing::warn!(%error, "what is damaged can't be noted");
        }
        for (name, note) in &notes {
            let had = memory.notes.had(note);
            if let Err(error) = facts::keep_note(&keeper.ledger, name, note, had, now) {
                tracing::warn!(%error, "what a replica says of itself can't be noted");
            }
        }
        miss_replicas(config, &keeper.ledger, &memory.notes, &mut sought);
        let mut state = collect(config, &keeper.ledger, status.as_ref(), folders.as_ref(), &places, sought, now);
        let write = || keeper.ledger.set_note(facts::WRITTEN, &now.to_string()).err();
        state.diary.unwritten = keeper.unwritten.clone().or_else(|| write().map(|error| causes(&error)));
        if !state.cache.place.is_empty() {
            memory.cache.clone_from(&state.cache.place);
        }
        look_at_own_disk(config, &memory.cache, &mut state);
        state
    });
    if status.is_some() {
        memory.watched.get_or_insert_with(Instant::now);
    }
    state.blind = Blind {
        numbers: status.is_none(),
        folders: folders.is_none(),
        watched: Some(memory.watched.map_or(0, |since| i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX))),
    };
    state.mount.answers = answers;
    state.store.skew = skew;
    state.expiries.clone_from(&locked(&keeper.expiries));
    remember(memory, &mut state, status.as_ref());
    remember_unseen(memory, &mut state);
    {
        let plan = locked(&keeper.plan);
        let working = locked(&keeper.working);
        for job in &mut state.jobs {
            let key = if job.name.is_empty() { job.kind.clone() } else { format!("{} {}", job.kind, job.name) };
            job.next = plan.next(&key);
            job.running_since = working.get(&key).map(|working| working.since);
        }
    }
    tokio::task::block_in_place(|| note_growth(keeper, memory, &state));
    seen(config, state)
}

/// What lies in the library, listed anew where that is due.
async fn listed(keeper: &Keeper, config: &Config, memory: &mut Memory, inside: &Inside) -> Folders {
    let applications = applications(config);
    let done = tokio::task::block_in_place(|| keeper.ledger.ends()).unwrap_or_default();
    if let Some(listed) = &memory.folders {
        let every = if listed.folders.unseen.is_empty() { FOLDERS_EVERY } else { FOLDERS_AGAIN };
        if listed.at.elapsed() < every && listed.done == done && listed.applications == applications {
            return listed.folders.clone();
        }
    }
    let (root, keys, wanted) = (inside.point().to_owned(), inside.keys().clone(), applications.clone());
    let look = move || {
        let folders = folders::list(&root, Some(&keys), &wanted);
        (wanted, folders)
    };
    let folders = match memory.listing.get(FOLDERS_PATIENCE, look).await {
        Ok((of, folders)) if of == applications => folders,
        // An answer that was owed since before the settings were read again.
        Ok(_) => Folders::none("it is looked at anew", &applications),
        Err(why) => Folders::none(&why, &applications),
    };
    memory.folders = Some(Listed { at: Instant::now(), done, applications, folders: folders.clone() });
    folders
}

/// `cache`: a directory on the cache's disk, which is told of as that.
fn look_at_own_disk(config: &Config, cache: &str, state: &mut State) {
    match own_disk(&config.keeper_directory(), cache) {
        Ok(disk) => state.diary.disk = disk,
        Err(error) => {
            state.unseen.push(Unseen { what: Sight::KeeperDisk, why: causes(&error), since: None, newest: None });
        }
    }
}

/// Replicas that nobody here brings up to date, and that can't be asked either: of those nothing is known at all.
fn miss_replicas(config: &Config, ledger: &Ledger, notes: &Notes, sought: &mut Sought) {
    if !config.schedule.replica.is_never() {
        return;
    }
    for (name, why) in &notes.missed {
        let known = facts::read::<facts::ReplicaFacts>(ledger, &facts::replica_key(name));
        if known.is_ok_and(|known| known.up_to_date.is_none()) {
            sought.miss(Sight::Replica(name.clone()), why);
        }
    }
}

fn applications(config: &Config) -> Vec<String> {
    config.apps.iter().map(|app| app.name.clone()).collect()
}

/// One look by a command, where no keeper is at work or its look is old.
pub fn look_from_outside(config: &Config) -> Seen {
    let now = seconds();
    let mut sought = Sought::default();
    let found = config.mount.point.as_deref().map(find);
    let (status, answers, root) = match found {
        Some(Ok(Found::Mount { point, at })) => match ask::ask(&at, &Request::new("status"), "looking") {
            Ok(status) => (Some(status), Some(Ok(0.0)), Some(point)),
            Err(trouble) => (None, Some(Err(trouble.what)), None),
        },
        Some(Ok(Found::Dead { .. })) => (None, Some(Err("its process is gone".to_owned())), None),
        Some(Err(error)) if !is_gone(&error) => {
            sought.miss(Sight::Mount, causes(&error));
            (None, None, None)
        }
        Some(Ok(Found::Nothing) | Err(_)) | None => (None, None, None),
    };
    let rooms = Rooms::of(config);
    let ledger = match Ledger::read(&rooms.ledger()) {
        Ok(ledger) => Some(ledger),
        Err(LedgerError::Missing { .. }) => None,
        Err(error) => {
            sought.miss(Sight::Ledger, causes(&error));
            None
        }
    };
    let absent = match newest_look(config) {
        Ok(newest) => newest.is_none(),
        Err(why) => {
            sought.miss(Sight::Keeper, why);
            false
        }
    };
    let folders = root.map(|root| folders::list(&root, None, &applications(config)));
    let empty = tempfile::tempdir().ok();
    let ledger = ledger.or_else(|| empty.as_ref().and_then(|folder| Ledger::open(&folder.path().join("l")).ok()));
    let mut state = match &ledger {
        Some(ledger) => collect(config, ledger, status.as_ref(), folders.as_ref(), &Places::now(config), sought, now),
        None => State { now, unseen: sought.into_unseen(), ..State::default() },
    };
    let cache = state.cache.place.clone();
    look_at_own_disk(config, &cache, &mut state);
    state.mount.answers = answers;
    state.keeper_absent = absent && !jobs(config).is_empty();
    if let Some(ledger) = &ledger {
        let (plan, _) = Plan::new(config.schedule.rules(), jobs(config), now, |job| last_begun(ledger, job));
        for job in &mut state.jobs {
            let key = if job.name.is_empty() { job.kind.clone() } else { format!("{} {}", job.kind, job.name) };
            job.next = plan.next(&key);
        }
    }
    let mut seen = seen(config, state);
    for finding in &mut seen.findings {
        finding.since = ledger.as_ref().and_then(|ledger| ledger.known_since(&finding.id()).ok()?).unwrap_or(now);
    }
    seen
}

/// Whether there is no such path: then nothing is mounted there.
fn is_gone(error: &ClientError) -> bool {
    matches!(error, ClientError::Look { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

fn seen(config: &Config, state: State) -> Seen {
    let limits = config.health.limits();
    let findings = findings(&state, &limits);
    let score = score(&state, &limits);
    let (sentence, colour) = sentence(&state, &findings, &score);
    Seen { pid: std::process::id(), state, findings, score: Some(score), sentence, colour: colour.to_owned() }
}

/// Since when what can't be looked at can't be.
fn remember_unseen(memory: &mut Memory, state: &mut State) {
    memory.unseen.retain(|what, _| state.unseen.iter().any(|one| one.what == *what));
    for one in &mut state.unseen {
        let since = *memory.unseen.entry(one.what.clone()).or_insert(state.now);
        one.since.get_or_insert(since);
    }
}

/// Looks back: what fills, what does not move, what goes on failing.
fn remember(memory: &mut Memory, state: &mut State, status: Option<&Value>) {
    let now = state.now;
    let Some(status) = status else { return };
    if memory.requests.back().is_some_and(|(at, _, _)| *at > now) {
        // The clock was set back: what was seen by the other time can't be compared.
        (memory.disk, memory.requests, memory.queue, memory.progress) = Default::default();
        memory.trouble_since = memory.trouble_since.map(|since| since.min(now));
    }
    if state.cache.disk_bytes > 0 {
        // One sample in half a minute is plenty.
        if memory.disk.back().is_none_or(|(at, _)| now - at >= 30) {
            memory.disk.push_back((now, state.cache.disk_free));
        }
        while memory.disk.front().is_some_and(|(at, _)| now - at > DISK_BACK) {
            memory.disk.pop_front();
        }
        state.cache.samples = memory.disk.iter().copied().collect();
    }
    let number = |name: &str| status[name].as_u64().unwrap_or_default();
    let (requests, errors) = (number("requests"), number("request_errors"));
    memory.requests.push_back((now, requests, errors));
    while memory.requests.front().is_some_and(|(at, _, _)| now - at > REQUESTS_BACK) {
        memory.requests.pop_front();
    }
    if let Some((_, first_requests, first_errors)) = memory.requests.front() {
        state.store.requests = requests.saturating_sub(*first_requests);
        state.store.errors = errors.saturating_sub(*first_errors);
    }
    if state.queue.changes == 0 {
        memory.queue.clear();
    } else if memory.queue.back().is_none_or(|last| now - last.at >= 30) {
        memory.queue.push_back(Length { at: now, changes: state.queue.changes, bytes: state.queue.bytes });
    }
    while memory.queue.front().is_some_and(|first| now - first.at > QUEUE_BACK) {
        memory.queue.pop_front();
    }
    state.queue.before = memory.queue.front().copied();
    let (done, sent) = (number("uploaded"), number("uploaded_bytes"));
    let moved = memory.progress.is_none_or(|(known, bytes, _)| (known, bytes) != (done, sent));
    if moved || state.queue.changes == 0 {
        memory.progress = Some((done, sent, now));
    }
    state.queue.stuck_since =
        memory.progress.filter(|_| state.queue.changes > 0).map(|(_, _, at)| at).filter(|at| *at < now);
    memory.trouble_since = state.store.trouble.as_ref().map(|_| memory.trouble_since.unwrap_or(now));
    state.store.trouble_since = memory.trouble_since;
}

fn note_growth(keeper: &Keeper, memory: &mut Memory, state: &State) {
    let now = state.now;
    if state.sums.stored_bytes == 0 || memory.grown.is_some_and(|at| (0..GROWTH_EVERY).contains(&(now - at))) {
        return;
    }
    memory.grown = Some(now);
    let Sums { files, file_bytes, stored_bytes, .. } = state.sums;
    let grown = keeper.ledger.grown(&Growth { at: now, files, file_bytes, stored_bytes });
    if let Err(error) = grown.and_then(|()| facts::keep_sums(&keeper.ledger, now, state.sums)) {
        tracing::warn!(%error, "how large the library is can't be noted");
    }
}
