//! Looks at everything, and makes a [`State`] of it: from inside the mount's process, or by a command that asks it.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use haven_keeper::{
    findings::findings,
    ledger::{Filter, Growth, Ledger, Verdict},
    plan::{Job, Plan},
    score::{score, sentence},
    state::{
        Brake, Cache, Drill, JobState, LastRun, Mount, Points, Queue, Replica, Scrub, State, Store, Sums, ThirdCopy,
    },
};
use haven_mount::control::{Found, Request, find};
use haven_recover::proof;
use haven_store::retry::RetryConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{
    Keeper, Seen,
    facts::{self, CopyFacts, DrillFacts, ReplicaFacts},
    jobs, last_begun, locked, place, seconds,
    settings::Rooms,
};
use crate::{cli::ask, config::Config, served::Inside, wire};

/// How long the mount has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a look at the folders in the mount may take.
const FOLDERS_PATIENCE: Duration = Duration::from_secs(20);
/// Seconds: how often the folders of points and drills are listed, at least.
const FOLDERS_EVERY: i64 = 600;
/// Seconds that the disk and the requests are looked back at.
const DISK_BACK: i64 = 6 * 3600;
const REQUESTS_BACK: i64 = 600;
/// Seconds between two notes of how large the library is.
const GROWTH_EVERY: i64 = 3600;

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub struct Memory {
    disk: VecDeque<(i64, u64)>,
    requests: VecDeque<(i64, u64, u64)>,
    /// How far the bucket was, and since when.
    progress: Option<(u64, u64, i64)>,
    trouble_since: Option<i64>,
    folders: Option<(i64, i64, Folders)>,
    grown: Option<i64>,
    /// The mount did not answer at the last look.
    silent: bool,
}

/// What lies in the library about itself.
#[derive(Debug, Clone, Default)]
struct Folders {
    /// Application, seconds since the epoch; none: it is not complete.
    points: Vec<(String, Option<i64>)>,
    drills: DrillFacts,
}

/// Whether the mount answers: by a name that nobody has looked up before, so that the kernel must ask.
pub async fn mount_answers(point: PathBuf) -> Result<f64, String> {
    let begun = Instant::now();
    let name = format!(".haven-watch-{:08x}", rand::random::<u32>());
    let looked = tokio::task::spawn_blocking(move || std::fs::symlink_metadata(point.join(name)));
    match tokio::time::timeout(PATIENCE, looked).await {
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(Err(error))) if error.kind() == std::io::ErrorKind::NotFound => Ok(begun.elapsed().as_secs_f64()),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Ok(Ok(_))) => Ok(begun.elapsed().as_secs_f64()),
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
    let (status, answers) = match keeper.inside().filter(|_| !keeper.is_stopping()) {
        Some(inside) => {
            let status = inside.clone();
            let status = tokio::task::spawn_blocking(move || status.status()).await.unwrap_or_default();
            let answers = mount_answers(inside.point().to_owned()).await;
            // One slow answer on a busy machine is not worth waking anybody for.
            let twice = std::mem::replace(&mut memory.silent, answers.is_err());
            let answers = if twice { answers } else { answers.or(Ok(PATIENCE.as_secs_f64())) };
            (Some(status), Some(answers))
        }
        None => (None, None),
    };
    let folders = match keeper.inside().filter(|_| matches!(answers, Some(Ok(_)))) {
        Some(inside) => {
            let done = newest_end(&keeper.ledger);
            match &memory.folders {
                Some((at, known, folders)) if now - at < FOLDERS_EVERY && *known == done => Some(folders.clone()),
                _ => {
                    let (root, keys) = (inside.point().to_owned(), inside.keys().clone());
                    let listed = tokio::task::spawn_blocking(move || list(&root, Some(&keys)));
                    let listed = tokio::time::timeout(FOLDERS_PATIENCE, listed).await.ok().and_then(Result::ok);
                    memory.folders = listed.clone().map(|folders| (now, done, folders));
                    listed
                }
            }
        }
        None => None,
    };
    let skew = keeper.inside().and_then(|inside| inside.stack().skew_seconds());
    let mut state = collect(config, &keeper.ledger, status.as_ref(), folders.as_ref(), now);
    state.mount.answers = answers;
    state.store.skew = skew;
    state.expiries.clone_from(&locked(&keeper.expiries));
    remember(memory, &mut state, status.as_ref());
    {
        let plan = locked(&keeper.plan);
        let working = locked(&keeper.working);
        for job in &mut state.jobs {
            let key = if job.name.is_empty() { job.kind.clone() } else { format!("{} {}", job.kind, job.name) };
            job.next = plan.next(&key);
            job.running_since = working.get(&key).map(|working| working.since);
        }
    }
    note_growth(keeper, memory, &state);
    seen(config, state)
}

/// One look by a command, where no keeper is at work or its look is old.
pub fn look_from_outside(config: &Config) -> Seen {
    let now = seconds();
    let found = config.mount.point.as_deref().map(find);
    let (status, answers, root) = match found {
        Some(Ok(Found::Mount { point, at })) => match ask::ask(&at, &Request::new("status"), "looking") {
            Ok(status) => (Some(status), Some(Ok(0.0)), Some(point)),
            Err(trouble) => (None, Some(Err(trouble.what)), None),
        },
        Some(Ok(Found::Dead { .. })) => (None, Some(Err("its process is gone".to_owned())), None),
        _ => (None, None, None),
    };
    let rooms = Rooms::of(config);
    let ledger = Ledger::read(&rooms.ledger()).ok();
    let folders = root.map(|root| list(&root, None));
    let empty = tempfile::tempdir().ok();
    let ledger = ledger.or_else(|| empty.as_ref().and_then(|folder| Ledger::open(&folder.path().join("l")).ok()));
    let mut state = match &ledger {
        Some(ledger) => collect(config, ledger, status.as_ref(), folders.as_ref(), now),
        None => State { now, ..State::default() },
    };
    state.mount.answers = answers;
    state.keeper_absent = !jobs(config).is_empty();
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

fn seen(config: &Config, state: State) -> Seen {
    let limits = config.health.limits();
    let findings = findings(&state, &limits);
    let score = score(&state, &limits);
    let (sentence, colour) = sentence(&state, &findings, &score);
    Seen { pid: std::process::id(), state, findings, score: Some(score), sentence, colour: colour.to_owned() }
}

/// The end of the newest run: what it changed is to be looked at.
fn newest_end(ledger: &Ledger) -> i64 {
    let newest = ledger.runs(&Filter { limit: 10, ..Filter::default() }).unwrap_or_default();
    newest.iter().filter_map(|run| run.ended).max().unwrap_or_default()
}

fn list(root: &Path, keys: Option<&haven_format::Keys>) -> Folders {
    let points = haven_point::list(root).unwrap_or_default().into_iter().filter_map(|found| {
        let application = haven_point::application(&found.name)?.to_owned();
        Some((application, found.point.ok().map(|point| point.manifest.taken.as_second())))
    });
    let mut drills = DrillFacts::default();
    if let Some(keys) = keys {
        for read in proof::read_all(root, keys).unwrap_or_default() {
            if let proof::Read::Good { report, .. } = read {
                drills.take(&report);
            }
        }
    }
    Folders { points: points.collect(), drills }
}

/// What there is to know without looking back.
fn collect(config: &Config, ledger: &Ledger, status: Option<&Value>, folders: Option<&Folders>, now: i64) -> State {
    let none = Value::Null;
    let s = status.unwrap_or(&none);
    let number = |name: &str| s[name].as_u64().unwrap_or_default();
    let text = |name: &str| s[name].as_str().map(str::to_owned);
    let url = config.library.url.as_deref().map(crate::cli::absolute);
    let mut state = State {
        now,
        host: wire::host(),
        library: url.as_ref().map(|url| place::of_store(url, &config.store_of(url))),
        mount: Mount {
            point: config.mount.point.as_ref().map(|point| point.display().to_string()).unwrap_or_default(),
            answers: None,
            writable: s["writable"].as_bool().unwrap_or(true),
            stopped: text("stopped"),
            fenced: s["fenced"] == true,
            meant_read_only: config.mount.read_only,
        },
        queue: Queue {
            changes: number("unsent_changes"),
            bytes: number("pending_bytes"),
            since: s["unsent_since"].as_f64().map(|at| at as i64),
            stuck_since: None,
        },
        cache: cache(s),
        store: Store {
            trouble: text("trouble"),
            damage: serde_json::from_value(s["damage"].clone()).unwrap_or_default(),
            ..Store::default()
        },
        scrub: facts::read::<Option<Scrub>>(ledger, facts::SCRUB),
        sums: Sums { files: number("inodes"), file_bytes: number("file_bytes"), stored_bytes: number("pack_bytes") },
        ..State::default()
    };
    let brake = match s["garbage"]["brake"].as_str() {
        Some(why) => Some(Brake { of: "library".into(), why: why.to_owned() }),
        None if status.is_some() => None,
        None => facts::read::<Option<Brake>>(ledger, facts::GC),
    };
    state.brakes.extend(brake);
    for job in jobs(config) {
        let known = since(ledger, &job, now);
        state.jobs.push(job_state(ledger, config, &job, known, now));
    }
    let scheduled = |state: &State, kind: &str, name: &str| {
        let job = state.jobs.iter().find(|job| job.kind == kind && job.name == name);
        (job.and_then(|job| job.interval), job.and_then(|job| job.scheduled_since))
    };
    for app in &config.apps {
        let (interval, scheduled_since) = scheduled(&state, "backup", &app.name);
        let of = |points: &&(String, Option<i64>)| points.0 == app.name;
        let all: Vec<Option<i64>> = folders.iter().flat_map(|f| &f.points).filter(of).map(|(_, at)| *at).collect();
        // What is not mounted can't be listed; the last run tells when there was one.
        let by_run = || ledger.last("backup", &app.name, &[Verdict::Ok]).ok().flatten().map(|run| run.started / 1000);
        let at_work = ledger.running().is_ok_and(|running| running.iter().any(|run| run.kind == "backup"));
        state.points.push(Points {
            application: app.name.clone(),
            newest: all.iter().flatten().max().copied().or_else(|| folders.is_none().then(by_run).flatten()),
            count: all.iter().flatten().count(),
            interval,
            scheduled_since,
            broken: if at_work { 0 } else { all.iter().filter(|at| at.is_none()).count() },
        });
    }
    for (name, one) in &config.replicas {
        let (interval, scheduled_since) = scheduled(&state, "replica", name);
        let known: ReplicaFacts = facts::read(ledger, &facts::replica_key(name));
        if !known.brake.is_empty() {
            state.brakes.push(Brake { of: name.clone(), why: known.brake.clone() });
        }
        state.replicas.push(Replica {
            name: name.clone(),
            place: place::of_store(&one.own.url, &one.own.store),
            up_to_date: known.up_to_date,
            interval,
            scheduled_since,
            lag_max: config.health.replica_lag.and_then(|lag| i64::try_from(lag.as_secs()).ok()),
            verified: None,
            damaged: known.damaged,
            trouble: known.trouble,
        });
    }
    for (name, one) in &config.copies {
        let (interval, scheduled_since) = scheduled(&state, "copy", name);
        let known: CopyFacts = facts::read(ledger, &facts::copy_key(name));
        state.copies.push(ThirdCopy {
            name: name.clone(),
            format: one.format.word().to_owned(),
            place: place::of_copy(one),
            last_good: last_good(&one.directory(name)),
            interval,
            scheduled_since,
            vanished: known.vanished,
        });
    }
    let mut drills: DrillFacts = facts::read(ledger, facts::DRILLS);
    for (key, drill) in folders.iter().flat_map(|folders| &folders.drills.0) {
        if drills.0.get(key).is_none_or(|known| known.at < drill.at) {
            drills.0.insert(key.clone(), drill.clone());
        }
    }
    let copies = |drill: &Drill| drill.copy == "library" || config.replicas.contains_key(&drill.copy);
    state.drills = drills.0.into_values().filter(copies).collect();
    state
}

fn cache(status: &Value) -> Cache {
    let place = status["cache"].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| status[name].as_u64().unwrap_or_default();
    let disk = rustix::fs::statvfs(place.as_str()).ok().filter(|_| !place.is_empty());
    Cache {
        used: number("cache_used"),
        limit: number("cache_limit"),
        clean: number("cache_clean"),
        // As df has it: what is reserved for root is neither used nor free.
        disk_bytes: disk.as_ref().map_or(0, |disk| (disk.f_blocks - disk.f_bfree + disk.f_bavail) * disk.f_frsize),
        disk_free: disk.map_or(0, |disk| disk.f_bavail * disk.f_frsize),
        samples: Vec::new(),
        place,
    }
}

/// When the newest archive was made, as `haven copy` remembers it.
fn last_good(directory: &Path) -> Option<i64> {
    let text = std::fs::read_to_string(directory.join("archives.json")).ok()?;
    serde_json::from_str::<Value>(&text).ok()?["last_good"].as_i64()
}

/// Since when a job is scheduled as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Scheduled {
    schedule: String,
    since: i64,
}

fn since(ledger: &Ledger, job: &Job, now: i64) -> i64 {
    let key = format!("job {}", job.key());
    let known: Scheduled = facts::read(ledger, &key);
    if known.schedule == job.schedule.to_string() {
        return known.since;
    }
    let fresh = Scheduled { schedule: job.schedule.to_string(), since: now };
    if let Err(error) = facts::write(ledger, &key, &fresh) {
        tracing::debug!(%error, "since when a job is scheduled can't be noted");
    }
    now
}

fn job_state(ledger: &Ledger, config: &Config, job: &Job, since: i64, now: i64) -> JobState {
    let runs = ledger
        .runs(&Filter { kind: Some(job.kind.clone()), name: Some(job.name.clone()), limit: 50, ..Filter::default() })
        .unwrap_or_default();
    let ended: Vec<_> = runs.iter().filter(|run| !matches!(run.verdict, Verdict::Running | Verdict::Missed)).collect();
    let failures = ended.iter().take_while(|run| !run.verdict.is_done()).count();
    let zone = config.schedule.zone();
    let stamp = jiff::Timestamp::from_second(now).unwrap_or_default();
    JobState {
        kind: job.kind.clone(),
        name: job.name.clone(),
        schedule: job.schedule.to_string(),
        interval: job.schedule.interval(stamp, job.schedule.zone(&zone)),
        next: None,
        running_since: runs.iter().find(|run| run.verdict == Verdict::Running).map(|run| run.started / 1000),
        last: ended.first().map(|run| LastRun {
            id: run.id,
            started: run.started / 1000,
            verdict: run.verdict,
            said: run.said.clone(),
            tail: run.tail.clone(),
        }),
        last_done: ended.iter().find(|run| run.verdict.is_done()).map(|run| run.started / 1000),
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
        missed: runs.iter().find(|run| run.verdict == Verdict::Missed).and_then(|run| run.planned).map(|at| at / 1000),
        scheduled_since: Some(since),
    }
}

/// Looks back: what fills, what does not move, what goes on failing.
fn remember(memory: &mut Memory, state: &mut State, status: Option<&Value>) {
    let now = state.now;
    let Some(status) = status else { return };
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
    if state.sums.stored_bytes == 0 || memory.grown.is_some_and(|at| now - at < GROWTH_EVERY) {
        return;
    }
    memory.grown = Some(now);
    let Sums { files, file_bytes, stored_bytes } = state.sums;
    if let Err(error) = keeper.ledger.grown(&Growth { at: now, files, file_bytes, stored_bytes }) {
        tracing::warn!(%error, "how large the library is can't be noted");
    }
}
