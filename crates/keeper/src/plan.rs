//! What is to be done now: which jobs are due, which were missed, which are tried again, and which must wait for others.
//! Pure: times come in, decisions go out.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};

use crate::{
    calendar::{Hours, Schedule, jitter},
    ledger::Verdict,
    state::Expected,
};

/// Something that is done again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// `backup`: never two of one kind at once.
    pub kind: String,
    /// Of what; may be empty.
    pub name: String,
    pub schedule: Schedule,
    /// Moves much: not begun in quiet hours, and not two of these at once.
    pub heavy: bool,
    /// Kinds that it waits for, if they are at work or due: a copy wants the newest point.
    pub after: Vec<String>,
}

impl Job {
    /// `replica near`.
    pub fn key(&self) -> String {
        if self.name.is_empty() { self.kind.clone() } else { format!("{} {}", self.kind, self.name) }
    }
}

/// How a keeper plans.
#[derive(Debug, Clone)]
pub struct Rules {
    pub zone: TimeZone,
    pub machine: String,
    /// Seconds.
    pub jitter: i64,
    pub quiet: Vec<Hours>,
    /// The first pause before a run that failed is tried again, seconds; each further one is four times as long, up to an
    /// hour.
    pub retry: i64,
}

const RETRY_MAX: i64 = 3600;
/// Seconds that a clock may be set back without anything being reckoned anew.
const SET_BACK: i64 = 60;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// The time it is or was due, which has not been done yet; seconds since the epoch.
    due: i64,
    /// Failures for that time so far.
    tries: u32,
    /// Not before: jitter, a pause after a failure.
    not_before: i64,
    running: bool,
    asked: bool,
}

/// A job to begin now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub key: String,
    /// When it was due, seconds since the epoch; none: somebody asked for it.
    pub planned: Option<i64>,
    pub tries: u32,
}

/// All jobs, and where they stand.
#[derive(Debug, Clone)]
pub struct Plan {
    rules: Rules,
    jobs: Vec<Job>,
    standing: BTreeMap<String, Standing>,
    /// When it was last asked what is due.
    asked_at: Option<i64>,
}

/// A time that passed while nobody was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    pub job: Job,
    /// Seconds since the epoch: the last of them.
    pub due: i64,
    pub count: usize,
}

impl Rules {
    /// When a job due at `due` is begun.
    fn delayed(&self, job: &Job, due: i64) -> i64 {
        let zone = job.schedule.zone(&self.zone);
        let interval = Timestamp::from_second(due).ok().and_then(|due| job.schedule.interval(due, zone));
        due + jitter(&job.key(), &self.machine, self.jitter, interval)
    }

    /// A heavy job due in quiet hours waits for their end.
    fn after_quiet(&self, job: &Job, at: i64) -> i64 {
        if !job.heavy {
            return at;
        }
        let mut at = at;
        // Hours may follow one another.
        for _ in 0..self.quiet.len() {
            let Ok(stamp) = Timestamp::from_second(at) else { return at };
            let time = self.zone.to_datetime(stamp).time();
            let Some(hours) = self.quiet.iter().find(|hours| hours.has(time)) else { break };
            at += hours.left(time);
        }
        at
    }

    /// When a job is begun that was begun at `last` before, and how long it is from its last time to then, and from then to its
    /// next: schedules are not even, by night and by weekend.
    pub fn expected(&self, job: &Job, last: i64) -> Option<Expected> {
        let zone = job.schedule.zone(&self.zone);
        let last = Timestamp::from_second(last).ok()?;
        let first = job.schedule.next_after(last, zone)?;
        let second = job.schedule.next_after(first, zone);
        // The last that there will ever be has a day.
        let gap = second.map_or(86_400, |second| second.as_second() - first.as_second());
        let before = job.schedule.last_before(last, zone).map_or(gap, |before| first.as_second() - before.as_second());
        Some(Expected { at: self.after_quiet(job, self.delayed(job, first.as_second())), before, gap })
    }
}

impl Plan {
    /// `last` tells when a job was last begun, seconds since the epoch: what was due since then was missed, and is done
    /// once, now. A job that was never begun waits for its first time.
    pub fn new(rules: Rules, jobs: Vec<Job>, now: i64, last: impl Fn(&Job) -> Option<i64>) -> (Self, Vec<Missed>) {
        let mut plan = Self { rules, jobs: Vec::new(), standing: BTreeMap::new(), asked_at: Some(now) };
        let missed = plan.use_jobs(jobs, now, last);
        (plan, missed)
    }

    pub fn use_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// From now on these are the jobs. Those that are the same as before stand where they stood.
    pub fn use_jobs(&mut self, jobs: Vec<Job>, now: i64, last: impl Fn(&Job) -> Option<i64>) -> Vec<Missed> {
        let mut missed = Vec::new();
        let mut standing = BTreeMap::new();
        for job in &jobs {
            let key = job.key();
            if let (Some(old), Some(before)) =
                (self.standing.get(&key), self.jobs.iter().find(|other| other.key() == key))
                && (before.schedule == job.schedule || old.running)
            {
                standing.insert(key, *old);
                continue;
            }
            let Some(next) = self.next_due(job, now) else { continue };
            let mut stands =
                Standing { due: next, tries: 0, not_before: self.delayed(job, next), running: false, asked: false };
            if let Some(begun) = last(job) {
                let zone = job.schedule.zone(&self.rules.zone);
                let due = Timestamp::from_second(now).ok().and_then(|now| job.schedule.last_before(now, zone));
                if let Some(due) = due.map(Timestamp::as_second).filter(|due| *due > begun) {
                    let count = self.count_between(job, begun, now);
                    missed.push(Missed { job: job.clone(), due, count });
                    stands = Standing { due, tries: 0, not_before: now, running: false, asked: false };
                }
            }
            standing.insert(key, stands);
        }
        self.jobs = jobs;
        self.standing = standing;
        missed
    }

    fn count_between(&self, job: &Job, from: i64, to: i64) -> usize {
        let zone = job.schedule.zone(&self.rules.zone);
        let Ok(from) = Timestamp::from_second(from) else { return 1 };
        // Nobody wants to know more exactly.
        job.schedule.upcoming(from, zone, 1000).iter().take_while(|at| at.as_second() <= to).count()
    }

    fn next_due(&self, job: &Job, now: i64) -> Option<i64> {
        let zone = job.schedule.zone(&self.rules.zone);
        Some(job.schedule.next_after(Timestamp::from_second(now).ok()?, zone)?.as_second())
    }

    fn delayed(&self, job: &Job, due: i64) -> i64 {
        self.rules.delayed(job, due)
    }

    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    pub fn job(&self, key: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.key() == key)
    }

    pub fn is_running(&self, key: &str) -> bool {
        self.standing.get(key).is_some_and(|stands| stands.running)
    }

    /// The next times of a job with its jitter, seconds since the epoch.
    pub fn upcoming(&self, job: &Job, now: i64, count: usize) -> Vec<i64> {
        let zone = job.schedule.zone(&self.rules.zone);
        let Ok(now) = Timestamp::from_second(now) else { return Vec::new() };
        job.schedule.upcoming(now, zone, count).iter().map(|at| self.delayed(job, at.as_second())).collect()
    }

    /// When a job is begun next, as things are.
    pub fn next(&self, key: &str) -> Option<i64> {
        let job = self.job(key)?;
        let stands = self.standing.get(key)?;
        Some(self.after_quiet(job, stands.not_before.max(stands.due)))
    }

    /// Somebody wants it now. False: there is no such job, or it is at work.
    pub fn ask(&mut self, key: &str, now: i64) -> bool {
        if self.job(key).is_none() {
            return false;
        }
        let stands = self.standing.entry(key.to_owned()).or_insert(Standing {
            due: now,
            tries: 0,
            not_before: now,
            running: false,
            asked: false,
        });
        if stands.running {
            return false;
        }
        stands.asked = true;
        true
    }

    fn after_quiet(&self, job: &Job, at: i64) -> i64 {
        self.rules.after_quiet(job, at)
    }

    /// The clock may have been set back: what was reckoned by the other time would not be due for as long as that.
    fn mind_the_clock(&mut self, now: i64) {
        let Some(before) = self.asked_at.replace(now).filter(|before| now < before - SET_BACK) else { return };
        for job in &self.jobs {
            let key = job.key();
            let next = self.next_due(job, now);
            let Some(stands) = self.standing.get(&key).filter(|stands| !stands.running) else { continue };
            let fresh = if stands.due <= before {
                // It is owed, and waits as long as it would have.
                let due = stands.due.min(now);
                Standing { due, not_before: now + (stands.not_before - before).max(0), ..*stands }
            } else {
                let Some(next) = next else { continue };
                Standing { due: next, not_before: self.delayed(job, next), ..*stands }
            };
            self.standing.insert(key, fresh);
        }
    }

    /// What is to be begun at `now`. Each of them counts as running from here on.
    pub fn due(&mut self, now: i64) -> Vec<Start> {
        self.mind_the_clock(now);
        let mut out = Vec::new();
        let mut ready: Vec<(bool, i64, usize)> = Vec::new();
        for (at, job) in self.jobs.iter().enumerate() {
            let Some(stands) = self.standing.get(&job.key()).filter(|stands| !stands.running) else { continue };
            let time = self.after_quiet(job, stands.not_before.max(stands.due));
            if stands.asked || time <= now {
                ready.push((!stands.asked, stands.due, at));
            }
        }
        ready.sort_unstable();
        for (_, _, at) in &ready {
            let job = &self.jobs[*at];
            let busy = |job: &Job| self.is_running(&job.key());
            let in_the_way = self.jobs.iter().any(|other| {
                busy(other)
                    && (other.kind == job.kind
                        || (other.heavy && job.heavy)
                        // What waits for others holds them up in nothing: a copy may take a day.
                        || job.after.contains(&other.kind))
            });
            let waits = ready
                .iter()
                .any(|(_, _, other)| job.after.contains(&self.jobs[*other].kind) && !busy(&self.jobs[*other]));
            if in_the_way || waits {
                continue;
            }
            let key = job.key();
            if let Some(stands) = self.standing.get_mut(&key) {
                stands.running = true;
                let planned = (stands.due <= now).then_some(stands.due);
                out.push(Start { key, planned, tries: stands.tries });
            }
        }
        out
    }

    /// A run has ended. One that did not do what it should is tried again after a pause, until its next time comes.
    pub fn ended(&mut self, key: &str, now: i64, verdict: Verdict, again: bool) {
        let Some(job) = self.job(key).cloned() else {
            self.standing.remove(key);
            return;
        };
        let Some(next) = self.next_due(&job, now) else {
            self.standing.remove(key);
            return;
        };
        let not_before = self.delayed(&job, next);
        let retry = self.rules.retry;
        let Some(stands) = self.standing.get_mut(key) else { return };
        let tries = stands.tries;
        let pause = retry.saturating_mul(4_i64.saturating_pow(tries.min(8))).min(RETRY_MAX);
        let due_was_now = stands.due <= now;
        *stands = if verdict.is_done() || !again || now + pause >= next {
            let tries = if verdict.is_done() { 0 } else { tries.saturating_add(1) };
            // What is tried at its usual time does not count as a pause.
            Standing { due: next, tries: if again { tries } else { 0 }, not_before, running: false, asked: false }
        } else {
            let due = if due_was_now { stands.due } else { now };
            Standing { due, tries: tries + 1, not_before: now + pause, running: false, asked: false }
        };
    }

    /// When [`Plan::due`] may have something next.
    pub fn wake(&self) -> Option<i64> {
        self.jobs.iter().filter(|job| !self.is_running(&job.key())).filter_map(|job| self.next(&job.key())).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules { zone: TimeZone::UTC, machine: "mini".into(), jitter: 0, quiet: Vec::new(), retry: 60 }
    }

    fn job(kind: &str, name: &str, schedule: &str) -> Job {
        let heavy = ["copy", "scrub"].contains(&kind);
        let after = if kind == "copy" { vec!["backup".into()] } else { Vec::new() };
        Job { kind: kind.into(), name: name.into(), schedule: schedule.parse().unwrap(), heavy, after }
    }

    fn keys(starts: &[Start]) -> Vec<&str> {
        starts.iter().map(|start| start.key.as_str()).collect()
    }

    const HOUR: i64 = 3600;

    #[test]
    fn a_job_runs_at_its_time_once_and_never_twice_at_once() {
        let (mut plan, missed) = Plan::new(rules(), vec![job("gc", "", "hourly")], 10, |_| None);
        assert!(missed.is_empty());
        assert!(plan.due(HOUR - 1).is_empty());
        assert_eq!(plan.due(HOUR), [Start { key: "gc".into(), planned: Some(HOUR), tries: 0 }]);
        assert!(plan.due(3 * HOUR).is_empty(), "it is still at work");
        plan.ended("gc", 3 * HOUR + 5, Verdict::Ok, true);
        assert!(plan.due(3 * HOUR + 6).is_empty(), "the times that passed meanwhile are not made up for");
        assert_eq!(keys(&plan.due(4 * HOUR)), ["gc"]);
    }

    #[test]
    fn a_job_is_expected_when_the_plan_begins_it_and_not_after_an_average() {
        let day = 24 * HOUR;
        let expected = |rules: &Rules, job: &Job, last| {
            let Expected { at, gap, .. } = rules.expected(job, last).unwrap();
            (at, gap)
        };
        let hourly = job("replica", "far", "*-*-* 08..22:00:00");
        assert_eq!(expected(&rules(), &hourly, 12 * HOUR + 9), (13 * HOUR, HOUR));
        assert_eq!(expected(&rules(), &hourly, 22 * HOUR + 9), (day + 8 * HOUR, HOUR), "nothing by night");
        // 1970 began on a Thursday.
        let weekdays = job("copy", "home", "weekdays 23:00");
        assert_eq!(expected(&rules(), &weekdays, day + 23 * HOUR + 9), (4 * day + 23 * HOUR, day), "nor by weekend");
        let quiet = Rules { quiet: vec!["22:00..06:00".parse().unwrap()], ..rules() };
        assert_eq!(
            expected(&quiet, &weekdays, 23 * HOUR + 9).0,
            2 * day + 6 * HOUR,
            "what is heavy waits for the morning"
        );
        assert_eq!(expected(&quiet, &hourly, 12 * HOUR + 9).0, 13 * HOUR);
        assert_eq!(rules().expected(&job("gc", "", "off"), 0), None);
        let before = |last| rules().expected(&hourly, day + last).unwrap().before;
        assert_eq!((before(12 * HOUR + 9), before(22 * HOUR + 9)), (HOUR, 10 * HOUR));
    }

    #[test]
    fn a_clock_that_was_set_back_stops_no_job() {
        let day = 24 * HOUR;
        let jobs = vec![job("gc", "", "hourly"), job("scrub", "", "daily 00:00"), job("replica", "far", "hourly")];
        let (mut plan, _) = Plan::new(rules(), jobs, 10 * day + 10, |_| None);
        assert_eq!(plan.due(10 * day + HOUR).len(), 2);
        plan.ended("gc", 10 * day + HOUR + 5, Verdict::Ok, true);
        plan.ended("replica far", 10 * day + HOUR + 5, Verdict::Failed, true);
        assert!(plan.due(10 * day + HOUR + 10).is_empty());
        // It had been a week ahead.
        let now = 3 * day + HOUR + 7;
        assert!(plan.due(now).is_empty());
        assert_eq!(plan.next("gc"), Some(3 * day + 2 * HOUR));
        assert_eq!(plan.next("scrub"), Some(4 * day));
        assert_eq!(plan.next("replica far"), Some(now + 55), "the rest of its pause");
        assert_eq!(keys(&plan.due(now + 55)), ["replica far"]);
        assert_eq!(keys(&plan.due(3 * day + 2 * HOUR)), ["gc"], "what is at work is left alone");
        let before = plan.next("scrub");
        plan.due(3 * day + 2 * HOUR - 30);
        assert_eq!(plan.next("scrub"), before, "half a minute is no matter");
    }

    #[test]
    fn what_was_missed_is_told_and_done_once_at_the_next_start() {
        let jobs = vec![job("backup", "immich", "hourly"), job("gc", "", "daily 00:00"), job("scrub", "", "hourly")];
        let last = |job: &Job| match job.kind.as_str() {
            "backup" => Some(HOUR),
            "gc" => Some(10),
            _ => None,
        };
        let (mut plan, missed) = Plan::new(rules(), jobs, 5 * HOUR + 7, last);
        assert_eq!(missed.len(), 1);
        assert_eq!((missed[0].job.key().as_str(), missed[0].due, missed[0].count), ("backup immich", 5 * HOUR, 4));
        assert_eq!(plan.due(5 * HOUR + 7), [Start { key: "backup immich".into(), planned: Some(5 * HOUR), tries: 0 }]);
        plan.ended("backup immich", 5 * HOUR + 20, Verdict::Ok, true);
        assert_eq!(plan.next("backup immich"), Some(6 * HOUR));
    }

    #[test]
    fn a_failure_is_tried_again_with_longer_and_longer_pauses_until_the_next_time() {
        let (mut plan, _) = Plan::new(rules(), vec![job("replica", "far", "daily 00:00")], 10, |_| None);
        let day = 24 * HOUR;
        let mut now = day;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert_eq!(plan.due(now).len(), 1);
            plan.ended("replica far", now, Verdict::Failed, true);
            let next = plan.next("replica far").unwrap();
            pauses.push(next - now);
            now = next;
        }
        assert_eq!(pauses, [60, 240, 960, 3600, 3600, 3600]);
        assert_eq!(plan.due(now), [Start { key: "replica far".into(), planned: Some(day), tries: 6 }]);
        plan.ended("replica far", now, Verdict::Ok, true);
        assert_eq!(plan.next("replica far"), Some(2 * day));
        assert_eq!(plan.due(2 * day)[0].tries, 0);
        plan.ended("replica far", 2 * day, Verdict::Failed, false);
        assert_eq!(plan.next("replica far"), Some(3 * day), "what can't end better is not tried again");
    }

    #[test]
    fn one_kind_at_once_one_heavy_job_at_once_and_copies_after_points() {
        let jobs = vec![
            job("copy", "home", "hourly"),
            job("copy", "far", "hourly"),
            job("scrub", "", "hourly"),
            job("backup", "immich", "hourly"),
            job("replica", "near", "hourly"),
        ];
        let (mut plan, _) = Plan::new(rules(), jobs, 10, |_| None);
        let mut begun = Vec::new();
        for round in 0..5 {
            let now = HOUR + round;
            let starts = plan.due(now);
            begun.push(keys(&starts).join(","));
            for start in &starts {
                plan.ended(&start.key, now, Verdict::Ok, true);
            }
        }
        assert_eq!(begun, ["scrub,backup immich,replica near", "copy home", "copy far", "", ""]);
    }

    #[test]
    fn heavy_jobs_wait_for_the_end_of_quiet_hours_and_who_asks_does_not() {
        let quiet = Rules { quiet: vec!["22:00..06:00".parse().unwrap(), "06:00..07:00".parse().unwrap()], ..rules() };
        let jobs = vec![job("scrub", "", "daily 23:00"), job("gc", "", "daily 23:00")];
        let (mut plan, _) = Plan::new(quiet, jobs, 10, |_| None);
        assert_eq!(plan.next("scrub"), Some(31 * HOUR));
        assert_eq!(keys(&plan.due(23 * HOUR)), ["gc"]);
        assert!(plan.ask("scrub", 23 * HOUR) && !plan.ask("none", 0) && !plan.ask("gc", 0));
        assert_eq!(plan.due(23 * HOUR), [Start { key: "scrub".into(), planned: Some(23 * HOUR), tries: 0 }]);
    }

    #[test]
    fn changed_settings_leave_what_is_the_same_as_it_stood() {
        let (mut plan, _) = Plan::new(rules(), vec![job("gc", "", "hourly"), job("scrub", "", "hourly")], 10, |_| None);
        assert_eq!(plan.due(HOUR).len(), 2);
        let missed =
            plan.use_jobs(vec![job("gc", "", "daily 05:00"), job("backup", "a", "hourly")], HOUR + 5, |_| None);
        assert!(missed.is_empty());
        assert!(plan.is_running("gc"), "it is at work whatever the settings say");
        plan.ended("gc", HOUR + 9, Verdict::Ok, true);
        plan.ended("scrub", HOUR + 9, Verdict::Ok, true);
        assert_eq!(
            (plan.next("gc"), plan.next("backup a"), plan.next("scrub")),
            (Some(5 * HOUR), Some(2 * HOUR), None)
        );
        assert_eq!(plan.wake(), Some(2 * HOUR));
    }

    #[test]
    fn jitter_is_the_same_each_time_and_bounded() {
        let jittery = Rules { jitter: 600, ..rules() };
        let one = job("replica", "near", "daily 03:00");
        let (plan, _) = Plan::new(jittery, vec![one.clone(), job("gc", "", "every 1m")], 10, |_| None);
        let times = plan.upcoming(&one, 10, 3);
        let late = times[0] - 3 * HOUR;
        assert!((1..600).contains(&late), "{late}");
        assert_eq!(times[1] - times[0], 24 * HOUR);
        assert!(plan.next("gc").unwrap() < 60 + 6, "never more than a tenth of the interval");
    }
}
