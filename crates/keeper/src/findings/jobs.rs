//! Jobs that failed, and jobs that did not happen.

use super::{Finding, Limits, Severity, is_ahead, is_over, long};
use crate::{
    ledger::Verdict,
    state::{Expected, JobState, State},
};

pub fn jobs(state: &State, limits: &Limits) -> Vec<Finding> {
    state.jobs.iter().flat_map(|job| [failed(job), missed(state, job, limits)]).flatten().collect()
}

pub fn keeper(state: &State, _: &Limits) -> Vec<Finding> {
    if !state.keeper_absent {
        return Vec::new();
    }
    vec![
        Finding::critical("keeper-absent", "", "the keeper is not at work")
            .means("nothing is backed up, copied or tried on schedule, and nobody is told when something is wrong")
            .next("systemctl start haven    or haven run"),
    ]
}

fn failed(job: &JobState) -> Option<Finding> {
    let last = job.last.as_ref()?;
    let severity = match last.verdict {
        Verdict::Failed => Severity::Warning,
        // One that was killed is tried again first.
        Verdict::Killed if job.failures >= 2 => Severity::Warning,
        Verdict::Warned => Severity::Warning,
        _ => return None,
    };
    let times = if job.failures > 1 { format!(", {} times now", job.failures) } else { String::new() };
    let word = match last.verdict {
        Verdict::Warned => "wants to be looked at",
        Verdict::Killed => "was killed",
        _ => "failed",
    };
    let means = match (job.kind.as_str(), last.verdict) {
        ("backup", Verdict::Warned) => {
            "the recovery point is there, and counts; something else that was asked for is not"
        }
        _ => meaning(job),
    };
    let mut finding =
        Finding::new("job-failed", job.called(), severity, format!("{} {word}{times}: {}", job.called(), last.said))
            .means(means)
            .next(format!("haven runs {}    shows its log", last.id));
    if last.verdict != Verdict::Warned {
        finding = finding.next("it is tried again by itself");
    }
    finding.log.clone_from(&last.tail);
    Some(finding)
}

fn meaning(job: &JobState) -> &'static str {
    match job.kind.as_str() {
        "backup" => "there is no new recovery point; the older ones are as they were",
        "replica" => "this replica stays where it was, and is whole; the library is not touched by it",
        "copy" => "there is no new archive of that copy; the older ones are as they were",
        "scrub" => "the library was not looked through, or not everything in it was right",
        "snapshot" => "there is no new snapshot; the older ones are as they were",
        "gc" => "what nobody needs stays and is paid for; nothing that is needed is touched",
        "report" => "the monthly report was not sent",
        _ => "it was not proven this time that everything comes back",
    }
}

fn missed(state: &State, job: &JobState, limits: &Limits) -> Option<Finding> {
    let interval = job.interval?;
    // What is at work, or fails, is told as that.
    if job.running_since.is_some_and(|since| state.now - since < interval.max(3600)) || job.failures > 0 {
        return None;
    }
    let begun = [job.last.as_ref().map(|last| last.started), job.last_done, job.scheduled_since];
    let begun = begun.into_iter().flatten().filter(|at| !is_ahead(*at, state.now)).max()?;
    let age = state.now - begun;
    let expected = job.expected.unwrap_or(Expected { at: begun + interval, before: interval, gap: interval });
    if !is_over(state.now - 60, begun, expected, limits.late.max(1.0)) {
        return None;
    }
    let when = if job.last.is_some() { format!("{} ago", long(age)) } else { "never".to_owned() };
    Some(
        Finding::warning(
            "job-missed",
            job.called(),
            format!("{} is due every {} and was last begun: {when}", job.called(), long(interval)),
        )
        .means(meaning(job))
        .next("systemctl status haven    is the keeper at work?")
        .next("haven schedule    tells when it is due"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DAY, HOUR, NOW, ids, well};
    use super::*;
    use crate::state::LastRun;

    fn job(verdict: Verdict, ago: i64) -> JobState {
        JobState {
            kind: "replica".into(),
            name: "far".into(),
            schedule: "hourly".into(),
            interval: Some(HOUR),
            next: Some(NOW + HOUR),
            running_since: None,
            last: Some(LastRun { id: 7, started: NOW - ago, verdict, said: "no".into(), tail: "line".into() }),
            last_done: None,
            failures: u32::from(!verdict.is_done()),
            missed: None,
            scheduled_since: Some(NOW - 10 * DAY),
            expected: None,
            ahead: None,
            ahead_run: None,
        }
    }

    fn state(job: JobState) -> State {
        State { jobs: vec![job], ..well() }
    }

    #[test]
    fn a_failed_run_is_told_with_its_log_and_a_killed_one_when_it_was_killed_again() {
        assert!(ids(&state(job(Verdict::Ok, 60))).is_empty());
        assert_eq!(ids(&state(job(Verdict::Failed, 60))), ["job-failed:replica far"]);
        assert_eq!(ids(&state(job(Verdict::Warned, 60))), ["job-failed:replica far"]);
        assert!(ids(&state(job(Verdict::Killed, 60))).is_empty());
        assert_eq!(ids(&state(JobState { failures: 2, ..job(Verdict::Killed, 60) })), ["job-failed:replica far"]);
        let told = jobs(&state(job(Verdict::Failed, 60)), &Limits::default());
        assert_eq!((told[0].log.as_str(), told[0].title.as_str()), ("line", "replica far failed: no"));
    }

    #[test]
    fn a_backup_that_wants_to_be_looked_at_is_not_called_none() {
        let means = |verdict| {
            let backup = JobState { kind: "backup".into(), name: "immich".into(), ..job(verdict, 60) };
            jobs(&state(backup), &Limits::default()).remove(0).meaning
        };
        assert!(means(Verdict::Failed).starts_with("there is no new recovery point"));
        assert!(means(Verdict::Warned).starts_with("the recovery point is there, and counts"));
    }

    #[test]
    fn nobody_at_work_is_told() {
        assert_eq!(ids(&State { keeper_absent: true, ..well() }), ["keeper-absent"]);
    }

    #[test]
    fn a_run_that_is_to_come_makes_no_job_punctual() {
        let ahead = job(Verdict::Ok, -3 * DAY);
        assert_eq!(ids(&state(ahead)), ["job-missed:replica far"], "ten days without any other");
        let before = JobState { ahead: Some(NOW + 3 * DAY), ..job(Verdict::Ok, 60) };
        assert_eq!(ids(&state(before)), ["clock-back"]);
    }

    #[test]
    fn a_job_that_did_not_happen_is_told() {
        assert!(ids(&state(job(Verdict::Ok, 80 * 60))).is_empty());
        assert_eq!(ids(&state(job(Verdict::Ok, 100 * 60))), ["job-missed:replica far"]);
        let never = JobState { last: None, ..job(Verdict::Ok, 0) };
        assert_eq!(ids(&state(never.clone())), ["job-missed:replica far"]);
        assert!(ids(&state(JobState { scheduled_since: Some(NOW - HOUR), ..never.clone() })).is_empty());
        assert!(ids(&state(JobState { running_since: Some(NOW - 60), ..never })).is_empty());
        let hourly = |at| Some(Expected { at, before: HOUR, gap: HOUR });
        let rests = |at| JobState { expected: hourly(at), ..job(Verdict::Ok, 10 * HOUR) };
        assert!(ids(&state(rests(NOW + 60))).is_empty(), "by night nothing is due");
        assert_eq!(ids(&state(rests(NOW - 32 * 60))), ["job-missed:replica far"]);
        // Begun three minutes before its time, and at work when that came.
        let caught_up = |ago| JobState { expected: hourly(NOW - ago + 180), ..job(Verdict::Ok, ago) };
        assert!(ids(&state(caught_up(80 * 60))).is_empty());
        assert_eq!(ids(&state(caught_up(100 * 60))), ["job-missed:replica far"]);
    }
}
