//! The machine: its disk, its clock, and what runs out.

use super::{Finding, Limits, Severity, is_ahead, long, size};
use crate::state::{Cache, Diary, State};

pub fn cache(state: &State, limits: &Limits) -> Vec<Finding> {
    let cache = &state.cache;
    if cache.disk_bytes == 0 {
        return Vec::new();
    }
    let used = 1.0 - cache.disk_free as f64 / cache.disk_bytes as f64;
    let full_in = full_in(cache, state.now);
    let soon = full_in.filter(|left| *left < limits.disk_forecast);
    // The cache may still take what its limit leaves: a disk that has no room for that is full before its time.
    if used < limits.disk_full && soon.is_none() {
        return Vec::new();
    }
    let severity =
        if used > 0.95 || soon.is_some_and(|left| left < 3600) { Severity::Critical } else { Severity::Warning };
    let forecast = match soon {
        Some(left) => format!("; it is full in {} if it goes on like this", long(left)),
        None => String::new(),
    };
    let title =
        format!("the disk of the cache is {:.0} % full, {} are free{forecast}", used * 100.0, size(cache.disk_free));
    vec![
        Finding::new("cache-disk", "", severity, title)
            .means("when it is full, new photos have no place to wait for the bucket, and writers wait; nothing that was accepted is lost")
            .next(format!("make room on the disk of {}", cache.place))
            .next("or give the cache less: cache.size in haven.toml, or another disk: cache.directory"),
    ]
}

/// What the keeper remembers by: where it can't write, it goes on, and somebody must know.
pub fn diary(state: &State, limits: &Limits) -> Vec<Finding> {
    let Diary { disk, unwritten, aside } = &state.diary;
    let mut out = Vec::new();
    let full = |used: f64| used >= limits.disk_full;
    let used = |disk: &crate::state::Disk| 1.0 - disk.free as f64 / disk.bytes as f64;
    if let Some(disk) = disk.as_ref().filter(|disk| disk.bytes > 0 && full(used(disk))) {
        let severity = if used(disk) > 0.95 { Severity::Critical } else { Severity::Warning };
        let (share, free) = (used(disk) * 100.0, size(disk.free));
        let title = format!("the disk of the keeper's directory is {share:.0} % full, {free} are free");
        out.push(
            Finding::new("keeper-disk", "", severity, title)
                .means("when it is full, the mount and the jobs go on, but what is done is not noted, and a message that can't be delivered at once is lost when the keeper ends")
                .next(format!("make room on the disk of {}", disk.place))
                .next("or name another directory: schedule.directory in haven.toml, then systemctl restart haven"),
        );
    }
    if let Some(why) = unwritten {
        out.push(
            Finding::warning("ledger-unwritten", "", format!("the keeper can't note what it does: {why}"))
                .means("the mount and the jobs go on, and people are told; what was done meanwhile is forgotten when the keeper ends, and jobs and copies may be called late that are not")
                .next("df -h and dmesg -T    on this machine, for schedule.directory in haven.toml: is it full, does it die?")
                .next("systemctl restart haven    when that is mended, if this does not go away by itself"),
        );
    }
    if let Some(aside) = aside {
        let ago = long(state.now - aside.at);
        out.push(
            Finding::warning("ledger-damaged", "", format!("the keeper's ledger was damaged, and a new one was begun {ago} ago"))
                .means("which jobs were done before is not known any more; the library, its copies and the reports of drills are what they were. A disk that damages one file may damage others")
                .next("dmesg -T and smartctl -a    on this machine: does the disk die?")
                .next(format!("{} is what was damaged ({}): when it is deleted, this is over", aside.path, aside.why)),
        );
    }
    out
}

/// Bytes that a cache may take beside what it counts.
const BESIDE_CACHE: u64 = 128 << 20;

/// Seconds until the disk is full, by the straight line through what was free lately; none: it does not fill.
pub fn full_in(cache: &Cache, now: i64) -> Option<i64> {
    let samples: Vec<_> = cache.samples.iter().filter(|(at, _)| *at <= now).collect();
    let (first, last) = (samples.first()?, samples.last()?);
    // Less than ten minutes of watching says nothing of a day.
    if last.0 - first.0 < 600 || samples.len() < 3 {
        return None;
    }
    let count = samples.len() as f64;
    let mean_at = samples.iter().map(|(at, _)| (at - first.0) as f64).sum::<f64>() / count;
    let mean_free = samples.iter().map(|(_, free)| *free as f64).sum::<f64>() / count;
    let (mut up, mut down) = (0.0, 0.0);
    for (at, free) in &samples {
        let off = (at - first.0) as f64 - mean_at;
        up += off * (*free as f64 - mean_free);
        down += off * off;
    }
    let slope = up / down;
    let fell = first.1.saturating_sub(cache.disk_free);
    // A cache below its limit fills up on purpose, and then stops: what it may have taken meanwhile is no leak. Its journal and
    // the disk's own blocks come to somewhat more than it counts.
    let own = cache.used < cache.limit
        && fell <= cache.used + cache.used / 8 + BESIDE_CACHE
        && cache.limit - cache.used < cache.disk_free;
    if slope > -1.0 || own {
        return None;
    }
    let left = cache.disk_free as f64 / -slope;
    Some(left as i64)
}

pub fn clock(state: &State, limits: &Limits) -> Vec<Finding> {
    let Some(skew) = state.store.skew.filter(|skew| skew.abs() > limits.clock_skew) else { return Vec::new() };
    let word = if skew > 0 { "behind" } else { "ahead of" };
    vec![
        Finding::warning("clock-skew", "", format!("this machine's clock is {} {word} the store's", long(skew.abs())))
            .means("stores refuse requests when it is a quarter of an hour; retention and grace times are reckoned by this clock")
            .next("timedatectl set-ntp true    and timedatectl timesync-status"),
    ]
}

/// What is known to have happened later than now.
pub fn future(state: &State, _: &Limits) -> Vec<Finding> {
    let points = state.points.iter().filter_map(|one| one.newest);
    let replicas = state.replicas.iter().filter_map(|one| one.up_to_date);
    let copies = state.copies.iter().filter_map(|one| one.last_good);
    let drills = state.drills.iter().map(|one| one.at);
    let jobs = state.jobs.iter().flat_map(|one| [one.ahead, one.scheduled_since]).flatten();
    let all = points.chain(replicas).chain(copies).chain(drills).chain(jobs);
    let Some(latest) = all.filter(|at| is_ahead(*at, state.now)).max() else { return Vec::new() };
    let title = format!(
        "this machine's clock was set back, or is behind: something is known to have happened {} from now",
        long(latest - state.now)
    );
    vec![
        Finding::warning("clock-back", "", title)
            .means("how old the newest points, copies and runs are is not known before that time has come, or before they are made anew; jobs are done by the clock as it is now")
            .next("timedatectl    tells what this machine takes the time for")
            .next("haven runs    shows what was done when; if the clock is right now, nothing is to be done"),
    ]
}

pub fn expiry(state: &State, limits: &Limits) -> Vec<Finding> {
    let near = state.expiries.iter().filter(|one| one.at - state.now < limits.expiry);
    near.map(|one| {
        let left = one.at - state.now;
        let severity = if left < 3 * 86_400 { Severity::Critical } else { Severity::Warning };
        let when =
            if left < 0 { format!("ran out {} ago", long(-left)) } else { format!("runs out in {}", long(left)) };
        Finding::new("expiry", one.subject.clone(), severity, format!("{} {when}", one.what))
            .means("from then on that server can't be reached: what goes there (photos, a copy of them, or mail to you) waits")
            .next("renew it, or ask who does")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{DAY, HOUR, NOW, ids, well},
        *,
    };
    use crate::{
        score::score,
        state::{Aside, Disk, Drill, Expiry, Points, Replica},
    };

    const GB: u64 = 1_000_000_000;

    fn disk(free: u64) -> Cache {
        Cache {
            place: "/var/cache/haven".into(),
            used: 10 * GB,
            limit: 10 * GB,
            disk_bytes: 100 * GB,
            disk_free: free,
            ..Cache::default()
        }
    }

    #[test]
    fn a_disk_is_told_of_from_eighty_percent_on() {
        let mut state = well();
        state.cache = disk(21 * GB);
        assert!(ids(&state).is_empty());
        state.cache = disk(19 * GB);
        assert_eq!(ids(&state), ["cache-disk"]);
        let severity = |state: &State| findings(state)[0].severity;
        assert_eq!(severity(&state), Severity::Warning);
        state.cache = disk(2 * GB);
        assert_eq!(severity(&state), Severity::Critical);
    }

    fn findings(state: &State) -> Vec<Finding> {
        super::super::findings(state, &Limits::default())
    }

    #[test]
    fn a_keeper_that_cannot_remember_is_told_of() {
        let mut state = well();
        let own = |free| Some(Disk { place: "/var/lib/haven".into(), bytes: 100 * GB, free });
        state.diary.disk = own(21 * GB);
        assert!(ids(&state).is_empty());
        state.diary.disk = own(19 * GB);
        assert_eq!((ids(&state), findings(&state)[0].severity), (vec!["keeper-disk".to_owned()], Severity::Warning));
        state.diary.disk = own(2 * GB);
        assert_eq!(findings(&state)[0].severity, Severity::Critical);
        state.diary = Diary {
            unwritten: Some("database or disk is full".into()),
            aside: Some(Aside { at: NOW - 2 * DAY, path: "/var/lib/haven/x".into(), why: "torn".into() }),
            ..Diary::default()
        };
        assert_eq!(ids(&state), ["ledger-damaged", "ledger-unwritten"]);
    }

    #[test]
    fn a_disk_that_fills_within_a_day_is_told_of_although_there_is_room() {
        let mut state = well();
        state.cache = disk(50 * GB);
        // 5 GB an hour: full in ten hours.
        state.cache.samples = (0..=4).map(|n| (NOW - (4 - n) * HOUR, (70 - 5 * n as u64) * GB)).collect();
        let told = findings(&state);
        assert!(told.len() == 1 && told[0].title.contains("full in 10 hours"), "{told:?}");
        // A tenth of that: days away.
        state.cache.samples = (0..=4).map(|n| (NOW - (4 - n) * HOUR, 52 * GB - n as u64 * GB / 2)).collect();
        assert!(findings(&state).is_empty());
        // Too short a look.
        state.cache.samples = (0..=4).map(|n| (NOW - (4 - n) * 60, (70 - 5 * n as u64) * GB)).collect();
        assert!(findings(&state).is_empty());
    }

    #[test]
    fn a_cache_that_grows_to_its_limit_is_no_disk_that_fills() {
        let mut state = well();
        state.cache = Cache { used: 20 * GB, limit: 30 * GB, ..disk(50 * GB) };
        state.cache.samples = (0..=4).map(|n| (NOW - (4 - n) * HOUR, (70 - 5 * n as u64) * GB)).collect();
        assert!(findings(&state).is_empty());
        // With its journal.
        state.cache.used = 18 * GB;
        assert!(findings(&state).is_empty());
        // Something else fills it beside.
        state.cache.used = 12 * GB;
        assert_eq!(ids(&state), ["cache-disk"]);
    }

    #[test]
    fn a_clock_that_is_off_by_more_than_a_minute_is_told() {
        let mut state = well();
        state.store.skew = Some(59);
        assert!(ids(&state).is_empty());
        state.store.skew = Some(-300);
        assert_eq!(ids(&state), ["clock-skew"]);
        assert!(findings(&state)[0].title.contains("5 minutes ahead"));
    }

    #[test]
    fn what_happened_later_than_now_is_told_and_is_neither_fresh_nor_late() {
        let mut state = well();
        let replica = |at| Replica {
            name: "far".into(),
            up_to_date: Some(at),
            interval: Some(HOUR),
            scheduled_since: Some(NOW - DAY),
            ..Replica::default()
        };
        state.replicas = vec![replica(NOW + 60)];
        assert!(ids(&state).is_empty(), "clocks differ by a little");
        state.replicas = vec![replica(NOW + 3 * DAY)];
        assert_eq!(ids(&state), ["clock-back"]);
        assert!(findings(&state)[0].title.ends_with("3 days from now"), "{:?}", findings(&state));
        let drill = Drill { copy: "library".into(), level: 1, at: NOW + DAY, ok: true, why: String::new() };
        let points = Points {
            application: "immich".into(),
            newest: Some(NOW),
            interval: Some(DAY),
            scheduled_since: Some(NOW - 60 * DAY),
            ..Points::default()
        };
        state = State { drills: vec![drill], points: vec![points], ..well() };
        assert_eq!(ids(&state), ["clock-back", "drill-old"], "a drill that is to come proves nothing");
        assert!(!score(&state, &Limits::default()).digits[4].met);
    }

    #[test]
    fn what_runs_out_within_three_weeks_is_told() {
        let mut state = well();
        let one = |at| vec![Expiry { what: "the certificate of x".into(), subject: "x".into(), at }];
        state.expiries = one(NOW + 30 * DAY);
        assert!(ids(&state).is_empty());
        state.expiries = one(NOW + 20 * DAY);
        assert_eq!(ids(&state), ["expiry:x"]);
        state.expiries = one(NOW - DAY);
        assert!(findings(&state)[0].title.contains("ran out 24 hours ago"));
    }
}
