//! What there is to know without looking back, as a [`State`]: from settings, ledger, the mount's numbers and what lies in
//! the library. What can't be had stands in [`State::unseen`], and nothing is concluded from the default in its place.

use std::{collections::BTreeMap, path::Path};

use haven_keeper::{
    findings::{AHEAD, is_ahead},
    ledger::{Filter, Ledger, LedgerError, Run, Verdict},
    plan::Job,
    state::{
        Amount, Brake, Cache, Diary, Disk, Drill, Hold, JobState, LastRun, Mount, Place, Points, Queue, Replica,
        Restoring, Scrub, Sight, State, Store, Sums, ThirdCopy, Unseen,
    },
};
use haven_store::StoreOptions;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    diary,
    facts::{self, CopyFacts, DrillFacts, ReplicaFacts, Unread},
    folders::{Folders, Seen},
    jobs, locks, place,
    places::{self, Places},
};
use crate::{cli::copy::Remembered, config::Config, wire, words::causes};

/// What could not be had on the way.
#[derive(Debug, Default)]
pub struct Sought(Vec<Unseen>);

impl Sought {
    /// `what` can't be looked at.
    pub fn miss(&mut self, what: Sight, why: impl Into<String>) {
        self.miss_newer(what, why, None, None);
    }

    fn miss_newer(&mut self, what: Sight, why: impl Into<String>, since: Option<i64>, newest: Option<i64>) {
        if !self.0.iter().any(|one| one.what == what) {
            self.0.push(Unseen { what, why: why.into(), since, newest });
        }
    }

    pub fn into_unseen(self) -> Vec<Unseen> {
        self.0
    }

    /// What the ledger tells, or nothing.
    fn told<T: Default>(&mut self, got: Result<T, LedgerError>) -> T {
        got.unwrap_or_else(|error| {
            self.miss(Sight::Ledger, causes(&error));
            T::default()
        })
    }

    /// What was noted of `what`, or nothing.
    fn noted<T: Default>(&mut self, what: Sight, got: Result<T, Unread>) -> T {
        match got {
            Ok(value) => value,
            Err(Unread::Ledger(error)) => self.told(Err(error)),
            Err(torn) => {
                self.miss(what, causes(&torn));
                T::default()
            }
        }
    }
}

/// `status`: the mount's numbers. `folders`: what lies in the library; none: it is not mounted, or does not answer. `places`:
/// where everything is. `sought`: what could not be had before.
pub fn collect(
    config: &Config,
    ledger: &Ledger,
    status: Option<&Value>,
    folders: Option<&Folders>,
    places: &Places,
    mut sought: Sought,
    now: i64,
) -> State {
    let none = Value::Null;
    let s = status.unwrap_or(&none);
    let number = |name: &str| s[name].as_u64().unwrap_or_default();
    let text = |name: &str| s[name].as_str().map(str::to_owned);
    for (of, why) in &places.missed {
        sought.miss(Sight::Place(of.clone()), why);
    }
    let url = config.library.url.as_deref().map(crate::cli::absolute);
    let mut state = State {
        now,
        host: wire::host(),
        restoring: restoring(config, places, s),
        library: url
            .map(|url| held(places.get(places::LIBRARY), &url, &config.store_of(&url), ledger, &mut sought, now)),
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
            before: None,
        },
        cache: cache(s, &mut sought),
        store: Store { trouble: text("trouble"), damage: damage(s, ledger, &mut sought), ..Store::default() },
        scrub: sought.noted::<Option<Scrub>>(Sight::Scrub, facts::read(ledger, facts::SCRUB)),
        sums: Sums {
            files: number("inodes"),
            file_bytes: number("file_bytes"),
            stored_bytes: number("pack_bytes"),
            content_bytes: number("chunk_bytes"),
        },
        ..State::default()
    };
    if status.is_some() {
        // What is damaged there is noted anew within the hour, and is no reason to call anything else unseen.
        state.day_ago = facts::day_ago(ledger, now).unwrap_or_default();
    }
    // In here it is looked for alone: whether it can be written, whoever writes it knows.
    state.diary = Diary { aside: diary::aside(ledger), ..Diary::default() };
    let brake = match s["garbage"]["brake"].as_str() {
        Some(why) => Some(Brake { of: "library".into(), why: why.to_owned() }),
        None if s["garbage"].is_object() => None,
        // The mount does not know of it: nobody asks it, or its records can't be read just now.
        None => sought.noted::<Option<Brake>>(Sight::Brake, facts::read(ledger, facts::GC)),
    };
    state.brakes.extend(brake);
    for job in jobs(config) {
        let known = sought.told(since(ledger, &job, now).map(Some));
        let of = Filter { kind: Some(job.kind.clone()), name: Some(job.name.clone()), ..Filter::default() };
        // The clock was set back since: what was before that counts, however much there is of the other time.
        let turn = Some((now + AHEAD + 1) * 1000);
        let runs = sought.told(ledger.runs(&Filter { before: turn, limit: 50, ..of.clone() }));
        let ahead = sought.told(ledger.runs(&Filter { since: turn, limit: 1, ..of }));
        let (ahead, ahead_run) = ahead.first().map(|run| (run.started / 1000, run.id)).unzip();
        state.jobs.push(JobState { ahead, ahead_run, ..job_state(&runs, config, &job, known, now) });
    }
    let scheduled = |state: &State, kind: &str, name: &str| {
        let job = state.jobs.iter().find(|job| job.kind == kind && job.name == name);
        (job.and_then(|job| job.interval), job.and_then(|job| job.scheduled_since))
    };
    let (rules, all) = (config.schedule.rules(), jobs(config));
    // When the next is to be, after the last or since there are to be any.
    let expected = |kind: &str, name: &str, last: Option<i64>| {
        rules.expected(all.iter().find(|job| job.kind == kind && job.name == name)?, last?)
    };
    // Where that is not known, nothing is called broken that may be in the making.
    let running = sought.told(ledger.running().map(Some));
    let at_work = running.is_none_or(|all| all.iter().any(|run| run.kind == "backup"));
    for app in &config.apps {
        let (interval, scheduled_since) = scheduled(&state, "backup", &app.name);
        let listed = folders.and_then(|folders| folders.points.get(&app.name)).copied();
        // What can't be listed just now: the last run tells when there was one.
        let by_run = match listed {
            Some(_) => None,
            None => sought
                .told(ledger.last("backup", &app.name, &[Verdict::Ok, Verdict::Warned]))
                .map(|run| run.started / 1000),
        };
        if folders.is_none() && by_run.is_none() {
            sought.miss(Sight::Points(app.name.clone()), AWAY);
        }
        let seen = listed.unwrap_or(Seen { newest: by_run, ..Seen::default() });
        state.points.push(Points {
            application: app.name.clone(),
            newest: seen.newest,
            count: seen.count,
            interval,
            scheduled_since,
            // What is of a time to come says nothing of when the next is due.
            expected: expected("backup", &app.name, seen.newest.filter(|at| !is_ahead(*at, now)).or(scheduled_since)),
            broken: if at_work { 0 } else { seen.broken },
        });
    }
    for (name, one) in &config.replicas {
        let (interval, scheduled_since) = scheduled(&state, "replica", name);
        let note = facts::read(ledger, &facts::replica_key(name));
        let known: ReplicaFacts = sought.noted(Sight::Replica(name.clone()), note);
        if !known.brake.is_empty() {
            state.brakes.push(Brake { of: name.clone(), why: known.brake.clone() });
        }
        state.replicas.push(Replica {
            name: name.clone(),
            place: held(places.get(&places::of_replica(name)), &one.own.url, &one.own.store, ledger, &mut sought, now),
            up_to_date: known.up_to_date,
            interval,
            scheduled_since,
            expected: expected("replica", name, known.up_to_date.or(scheduled_since)),
            lag_max: config.health.replica_lag.and_then(|lag| i64::try_from(lag.as_secs()).ok()),
            verified: known.read_back.and_then(|read| read.verified),
            round_began: known.read_back.and_then(|read| read.round_began),
            verify_within: i64::try_from(one.common.verify_within.as_secs()).ok(),
            damaged: known.damaged,
            trouble: known.trouble,
        });
    }
    for (name, one) in &config.copies {
        let (interval, scheduled_since) = scheduled(&state, "copy", name);
        let note = facts::read(ledger, &facts::copy_key(name));
        let known: CopyFacts = sought.noted(Sight::Copy(name.clone()), note);
        let archives = Remembered::at(&one.directory(name)).unwrap_or_else(|why| {
            sought.miss(Sight::Copy(name.clone()), why);
            Remembered::default()
        });
        state.copies.push(ThirdCopy {
            name: name.clone(),
            format: one.format.word().to_owned(),
            place: places.get(&places::of_copy(name)),
            last_good: archives.last_good,
            interval,
            scheduled_since,
            expected: expected("copy", name, archives.last_good.or(scheduled_since)),
            vanished: known.vanished,
        });
    }
    let mut drills: DrillFacts = sought.noted(Sight::Drills, facts::read(ledger, facts::DRILLS));
    for (key, drill) in folders.iter().flat_map(|folders| &folders.drills.0) {
        drills.take_one(key.clone(), drill.clone(), now);
    }
    // Of what haven.toml names: not of a folder that a copy was brought back to once.
    let named = |drill: &Drill| {
        drill.copy == "library" || config.replicas.contains_key(&drill.copy) || config.copies.contains_key(&drill.copy)
    };
    state.drills = drills.of_all(&config.apps).into_iter().filter(named).collect();
    let thorough = state.drills.iter().filter(|drill| drill.level >= 1).map(|drill| drill.at).max();
    match folders {
        None if thorough.is_none() && !config.apps.is_empty() => sought.miss(Sight::Drills, AWAY),
        // That is how it is when nobody asks for the key, and no trouble: as fresh as can be.
        Some(Folders { unsigned: Some(at), .. }) if thorough.is_none_or(|known| *at > known) => {
            let why = "their seals can't be judged without the library's key, which is not asked for here";
            sought.miss_newer(Sight::Drills, why, Some(now), Some(*at));
        }
        _ => {}
    }
    let listed = folders.iter().flat_map(|folders| folders.unseen.iter().cloned());
    state.unseen = listed.collect();
    for one in sought.0 {
        if !state.unseen.iter().any(|known| known.what == one.what) {
            state.unseen.push(one);
        }
    }
    state
}

/// Why nothing in the library was looked at.
const AWAY: &str = "the library is not mounted, or does not answer";

/// What the library is still being restored from, as its mount tells.
fn restoring(config: &Config, places: &Places, status: &Value) -> Option<Restoring> {
    let told = &status["restoring"];
    let of = told["of"].as_str()?;
    let amount = |name: &str| Amount::deserialize(&told[name]).ok();
    let from = places.of_url(of).unwrap_or_else(|| place::of_store(of, &config.store_of(of)));
    Some(Restoring { from, here: amount("here"), needed: amount("needed") })
}

/// The place of a library or a replica, and what its lock is known to be worth.
fn held(place: Place, url: &str, options: &StoreOptions, ledger: &Ledger, sought: &mut Sought, now: i64) -> Place {
    let hold = match locks::known(ledger, url, options, now) {
        Ok(hold) => hold,
        Err(Unread::Ledger(error)) => {
            sought.told::<()>(Err(error));
            Hold::Unknown
        }
        // It is tried again.
        Err(Unread::Torn(_)) => Hold::Unknown,
    };
    Place { hold, ..place }
}

/// What the mount has found damaged, and what is known from before it was mounted.
fn damage(status: &Value, ledger: &Ledger, sought: &mut Sought) -> Vec<(String, String)> {
    let mut all: BTreeMap<String, String> = sought.noted(Sight::Scrub, facts::read(ledger, facts::DAMAGE));
    all.extend(mounts_damage(status).unwrap_or_else(|error| {
        sought
            .miss(Sight::Mount, format!("its process says something else than this version of Haven expects: {error}"));
        BTreeMap::new()
    }));
    all.into_iter().collect()
}

/// What a mount that is asked says of damage.
pub fn mounts_damage(status: &Value) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let told = Option::<Vec<(String, String)>>::deserialize(&status["damage"])?;
    Ok(told.into_iter().flatten().collect())
}

fn cache(status: &Value, sought: &mut Sought) -> Cache {
    let place = status["cache"].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| status[name].as_u64().unwrap_or_default();
    let asked = (!place.is_empty()).then(|| rustix::fs::statvfs(place.as_str()));
    let disk = asked.and_then(|disk| {
        disk.inspect_err(|error| {
            sought.miss(Sight::Disk, format!("{place}: {}", std::io::Error::from(*error)));
        })
        .ok()
    });
    Cache {
        used: number("cache_used"),
        limit: number("cache_limit"),
        clean: number("cache_clean"),
        disk_bytes: disk.as_ref().map_or(0, room),
        disk_free: disk.map_or(0, |disk| disk.f_bavail * disk.f_frsize),
        samples: Vec::new(),
        place,
    }
}

/// The disk of the keeper's directory; none where that is told of as the cache's, or where there is no directory.
pub fn own_disk(root: &Path, cache: &str) -> std::io::Result<Option<Disk>> {
    use std::io::ErrorKind::{NotFound, PermissionDenied};
    use std::os::unix::fs::MetadataExt;
    let device = match root.metadata() {
        Ok(about) => about.dev(),
        // Who may not look there is told so of the ledger.
        Err(error) if [NotFound, PermissionDenied].contains(&error.kind()) => return Ok(None),
        Err(error) => return Err(error),
    };
    if Path::new(cache).metadata().is_ok_and(|about| about.dev() == device) {
        return Ok(None);
    }
    let disk = rustix::fs::statvfs(root)?;
    Ok(Some(Disk { place: root.display().to_string(), bytes: room(&disk), free: disk.f_bavail * disk.f_frsize }))
}

/// As df has it: what is reserved for root is neither used nor free.
fn room(disk: &rustix::fs::StatVfs) -> u64 {
    (disk.f_blocks - disk.f_bfree + disk.f_bavail) * disk.f_frsize
}

/// Since when a job is scheduled as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Scheduled {
    schedule: String,
    since: i64,
}

fn since(ledger: &Ledger, job: &Job, now: i64) -> Result<i64, LedgerError> {
    let key = format!("job {}", job.key());
    let known: Scheduled = match facts::read(ledger, &key) {
        Ok(known) => known,
        Err(Unread::Ledger(error)) => return Err(error),
        // It is written anew: nothing is late before its time.
        Err(Unread::Torn(_)) => Scheduled::default(),
    };
    if known.schedule == job.schedule.to_string() && !is_ahead(known.since, now) {
        return Ok(known.since);
    }
    let fresh = Scheduled { schedule: job.schedule.to_string(), since: now };
    if let Err(error) = facts::write(ledger, &key, &fresh) {
        tracing::debug!(%error, "since when a job is scheduled can't be noted");
    }
    Ok(now)
}

/// `runs`: newest first, none of a time to come.
fn job_state(runs: &[Run], config: &Config, job: &Job, since: Option<i64>, now: i64) -> JobState {
    let over = |run: &&Run| !matches!(run.verdict, Verdict::Running | Verdict::Missed);
    let ended: Vec<_> = runs.iter().filter(over).collect();
    let failures = ended.iter().take_while(|run| !run.verdict.is_done()).count();
    let zone = config.schedule.zone();
    let last_done = ended.iter().find(|run| run.verdict.is_done()).map(|run| run.started / 1000);
    let begun = ended.first().map(|run| run.started / 1000).max(since);
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
        last_done,
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
        missed: runs.iter().find(|run| run.verdict == Verdict::Missed).and_then(|run| run.planned).map(|at| at / 1000),
        scheduled_since: since,
        expected: begun.and_then(|begun| config.schedule.rules().expected(job, begun)),
        ahead: None,
        ahead_run: None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use haven_keeper::{findings::findings, ledger::Begin};

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    /// Settings with something of everything, all of it due since long, and a ledger.
    fn place() -> (tempfile::TempDir, Config, Ledger) {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[schedule]\ndirectory = {0:?}\nbackup = 'daily 00:30'\nreplica = 'hourly'\ncopy = 'daily 01:00'\n\
             [backup.immich]\nkind = 'immich'\nfolder = 'immich'\ndatabase = 'postgres:///immich'\n\
             [replica.far]\nurl = '{1}/far'\n[copy]\ndirectory = {1:?}\n[copy.home]\nrepository = '{1}/borg'\n",
            folder.path().join("keeper").display().to_string(),
            folder.path().display().to_string(),
        );
        let config = Config::from_text(&text, "").unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger")).unwrap();
        for job in jobs(&config) {
            let scheduled = Scheduled { schedule: job.schedule.to_string(), since: NOW - 60 * DAY };
            facts::write(&ledger, &format!("job {}", job.key()), &scheduled).unwrap();
        }
        (folder, config, ledger)
    }

    fn look(config: &Config, ledger: &Ledger, folders: Option<&Folders>) -> State {
        collect(config, ledger, None, folders, &Places::now(config), Sought::default(), NOW)
    }

    /// What is said of points, drills, replicas, copies, and of what was not seen.
    fn told(config: &Config, state: &State) -> Vec<String> {
        let all = findings(state, &config.health.limits()).into_iter().map(|finding| finding.id());
        let jobs = ["job-missed", "keeper-absent", "not-mounted", "shared-fate", "cache-disk", "keeper-disk"];
        all.filter(|id| !jobs.iter().any(|job| id.starts_with(job))).collect()
    }

    fn empty() -> Folders {
        let mut folders = Folders::default();
        folders.points.insert("immich".into(), Seen::default());
        folders
    }

    #[test]
    fn what_is_not_there_is_told_as_missing() {
        let (_folder, config, ledger) = place();
        let state = look(&config, &ledger, Some(&empty()));
        assert_eq!(
            told(&config, &state),
            ["copy-old:home", "point-old:immich", "replica-lag:far", "drill-old"],
            "{:?}",
            state.unseen
        );
    }

    #[test]
    fn what_cannot_be_looked_at_is_told_as_that_and_never_as_missing() {
        let (folder, config, ledger) = place();
        ledger.set_note(&facts::replica_key("far"), "{torn").unwrap();
        ledger.set_note(facts::SCRUB, "{torn").unwrap();
        let copy = config.copies["home"].directory("home");
        fs::create_dir_all(copy.join("archives.json")).unwrap();
        let away = Folders::none("no answer within 20 s", &["immich".to_owned()]);
        let state = look(&config, &ledger, Some(&away));
        assert_eq!(
            told(&config, &state),
            [
                "unseen:copy home",
                "unseen:drills",
                "unseen:recovery points of immich",
                "unseen:replica far",
                "unseen:what the last scrub found"
            ],
            "{:?}",
            state.unseen
        );
        // The ledger knows of a run that ended well: a point was there then, and is not called old now.
        ended(&ledger, "backup", "immich", NOW - 9 * DAY, Verdict::Ok);
        let state = look(&config, &ledger, Some(&away));
        assert_eq!(state.points[0].newest, Some(NOW - 9 * DAY));
        assert!(!told(&config, &state).contains(&"point-old:immich".to_owned()));
        drop(folder);
    }

    fn ended(ledger: &Ledger, kind: &'static str, name: &'static str, started: i64, verdict: Verdict) {
        let id = ledger.begin(&Begin { kind, name, started: started * 1000, ..Begin::default() }).unwrap();
        let end = haven_keeper::ledger::End {
            ended: started * 1000,
            verdict,
            exit: Some(0),
            bytes: None,
            said: "",
            tail: "",
        };
        ledger.end(id, &end).unwrap();
    }

    #[test]
    fn what_is_of_a_time_to_come_hides_nothing_that_is_of_now() {
        let (_folder, config, ledger) = place();
        let mut folders = empty();
        folders.points.insert("immich".into(), Seen { newest: Some(NOW + 1000 * DAY), count: 1, ..Seen::default() });
        let state = look(&config, &ledger, Some(&folders));
        assert!(told(&config, &state).contains(&"point-old:immich".to_owned()), "none is known that was ever taken");
        // The clock was wrong for sixty runs of an hourly job, and two have failed since.
        (0..60).for_each(|hour| ended(&ledger, "replica", "far", NOW + 100 * DAY + hour * 3600, Verdict::Ok));
        (0..2).for_each(|hour| ended(&ledger, "replica", "far", NOW - (hour + 1) * 3600, Verdict::Failed));
        let state = look(&config, &ledger, Some(&folders));
        let job = state.jobs.iter().find(|job| job.kind == "replica").unwrap();
        assert_eq!((job.failures, job.ahead), (2, Some(NOW + 100 * DAY + 59 * 3600)));
        assert!(told(&config, &state).contains(&"job-failed:replica far".to_owned()));
    }

    #[test]
    fn what_is_not_planned_by_night_is_not_late_by_night() {
        let text = "[schedule]\nreplica = '*-*-* 08..22:00:00 UTC'\n[replica.far]\nurl = '/srv/far'\n";
        let config = Config::from_text(text, "").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger")).unwrap();
        // NOW is 08:00 of a day.
        let midnight = NOW - 8 * 3600;
        let last = midnight - 2 * 3600;
        let schedule = config.schedule.replica.to_string();
        facts::write(&ledger, "job replica far", &Scheduled { schedule, since: last - 60 * DAY }).unwrap();
        let known = ReplicaFacts { up_to_date: Some(last + 5), ..ReplicaFacts::default() };
        facts::write(&ledger, &facts::replica_key("far"), &known).unwrap();
        ended(&ledger, "replica", "far", last, Verdict::Ok);
        let late = |now: i64| {
            let state = collect(&config, &ledger, None, None, &Places::now(&config), Sought::default(), now);
            let all = findings(&state, &config.health.limits()).into_iter().map(|finding| finding.id());
            all.filter(|id| id.contains("far")).collect::<Vec<_>>()
        };
        for minutes in [-15, 60, 8 * 60 - 1, 8 * 60 + 1, 8 * 60 + 29] {
            assert!(late(midnight + minutes * 60).is_empty(), "{minutes} minutes after midnight");
        }
        assert_eq!(late(midnight + (9 * 60 + 5) * 60), ["replica-lag:far", "job-missed:replica far"]);
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_said_once() {
        let (folder, config, ledger) = place();
        let path = folder.path().join("ledger");
        drop(ledger);
        let whole = fs::read(&path).unwrap();
        // The header stays: it opens, and nothing in it can be read.
        let torn: Vec<u8> = whole.iter().enumerate().map(|(at, byte)| if at < 100 { *byte } else { 0xff }).collect();
        fs::write(&path, torn).unwrap();
        let ledger = Ledger::read(&path).unwrap();
        let state = look(&config, &ledger, None);
        assert_eq!(
            told(&config, &state),
            ["unseen:drills", "unseen:ledger", "unseen:recovery points of immich"],
            "{:?}",
            state.unseen
        );
    }

    #[test]
    fn a_drill_whose_seal_nobody_can_judge_here_is_not_none() {
        let (_folder, config, ledger) = place();
        let mut folders = empty();
        folders.unsigned = Some(NOW - DAY);
        let state = look(&config, &ledger, Some(&folders));
        assert!(!told(&config, &state).contains(&"drill-old".to_owned()), "{:?}", state.unseen);
        folders.unsigned = Some(NOW - 50 * DAY);
        let state = look(&config, &ledger, Some(&folders));
        assert!(told(&config, &state).contains(&"drill-old".to_owned()), "{:?}", state.unseen);
    }

    #[test]
    fn drills_of_everything_that_is_set_up_count_and_of_nothing_else() {
        let (_folder, config, ledger) = place();
        let mut facts = DrillFacts::default();
        for copy in ["library", "far", "home", "/mnt/brought-back"] {
            let drill = Drill { copy: copy.into(), level: 1, at: NOW - DAY, ok: copy != "home", why: "gone".into() };
            facts.0.insert(format!("1 {copy}"), drill);
        }
        facts::write(&ledger, facts::DRILLS, &facts).unwrap();
        let state = look(&config, &ledger, Some(&empty()));
        let copies: Vec<&str> = state.drills.iter().map(|drill| drill.copy.as_str()).collect();
        assert_eq!(copies, ["far", "home", "library"]);
        assert!(told(&config, &state).contains(&"drill-failed:home".to_owned()));
    }
}
