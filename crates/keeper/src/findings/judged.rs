//! Whether it can be told now that something is over. What is not seen may merely be out of sight: nobody is told then that
//! it has recovered.

use super::{Limits, library::PACE};
use crate::state::{Cache, JobState, Sight, State};

/// Seconds without which nothing can be said of failing requests, or of a disk that fills.
const LOOK_BACK: i64 = 660;

/// Whether the finding called `id` would be here, were it so.
pub fn is_judged(state: &State, limits: &Limits, id: &str) -> bool {
    let (key, subject) = id.split_once(':').unwrap_or((id, ""));
    // What the mount's process tells, or its memory of it.
    let watched = |seconds: i64| !state.blind.numbers && state.blind.watched.is_none_or(|watched| watched > seconds);
    let inside = match key {
        "read-only" | "fenced" | "restore-unfinished" => watched(-1),
        "bucket-errors" => watched(LOOK_BACK),
        "cache-disk" => watched(LOOK_BACK) || watched(-1) && is_half_empty(&state.cache, limits),
        "queue-stuck" | "queue-behind" => {
            let back = if key == "queue-stuck" { limits.queue_stuck } else { PACE };
            watched(back) || watched(-1) && (state.queue.changes, state.queue.bytes) == (0, 0)
        }
        "bucket-trouble" => watched(limits.store_patience),
        "clock-skew" => state.store.skew.is_some(),
        "mass-change" => watched(-1) && state.day_ago.is_some(),
        // Another machine's reports, and points that are not whole, are in the library alone; and while one is made it is
        // not whole, and nothing is said.
        "point-broken" => {
            let at_work = |job: &JobState| job.kind == "backup" && job.running_since.is_some();
            !state.blind.folders && !state.jobs.iter().any(at_work)
        }
        "drill-failed" | "drill-old" => !state.blind.folders,
        // Its last run is of a time to come, and passed over.
        "job-failed" => {
            let newer = |job: &JobState, ahead| job.last.as_ref().is_some_and(|last| last.id > ahead);
            let hidden = |job: &JobState| job.ahead_run.is_some_and(|ahead| !newer(job, ahead));
            !state.jobs.iter().any(|job| hidden(job) && job.called() == subject)
        }
        _ => true,
    };
    inside && !state.unseen.iter().any(|one| hides(&one.what, key, subject))
}

/// Whether the disk is so far from full that no forecast matters.
fn is_half_empty(cache: &Cache, limits: &Limits) -> bool {
    cache.disk_bytes > 0 && 1.0 - cache.disk_free as f64 / (cache.disk_bytes as f64) < limits.disk_full / 2.0
}

/// Whether what can't be looked at would tell of it.
fn hides(what: &Sight, key: &str, subject: &str) -> bool {
    let about = |name: &str, keys: &[&str]| subject == name && keys.contains(&key);
    match what {
        Sight::Points(name) => about(name, &["point-old", "point-none", "point-broken"]),
        Sight::Drills => ["drill-old", "drill-failed"].contains(&key),
        Sight::Replica(name) => {
            key == "shared-fate" || about(name, &["replica-lag", "replica-unread", "damaged", "brake"])
        }
        Sight::Copy(name) => key == "shared-fate" || about(name, &["copy-old", "copy-vanished"]),
        Sight::Place(_) => key == "shared-fate",
        Sight::Scrub => about("library", &["damaged"]),
        Sight::Brake => about("library", &["brake"]),
        Sight::Disk => key == "cache-disk",
        Sight::KeeperDisk => key == "keeper-disk",
        Sight::Mount => {
            ["not-mounted", "not-answering", "read-only", "fenced"].contains(&key)
                || about("library", &["damaged", "restore-unfinished"])
        }
        Sight::Keeper => key == "keeper-absent",
        Sight::Ledger => {
            let kinds = ["point-", "replica-", "copy-", "drill-", "job-"];
            kinds.iter().any(|kind| key.starts_with(kind))
                || ["damaged", "brake", "shared-fate", "clock-back", "expiry", "mass-change"].contains(&key)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::well, *};
    use crate::{
        ledger::Verdict,
        state::{Blind, LastRun, Unseen},
    };

    fn unjudged<'a>(state: &State, ids: &[&'a str]) -> Vec<&'a str> {
        ids.iter().copied().filter(|id| !is_judged(state, &Limits::default(), id)).collect()
    }

    const RESTORE: &str = "restore-unfinished:library";
    const INSIDE: [&str; 6] = ["bucket-errors", "bucket-trouble", "cache-disk", "fenced", "queue-stuck", "read-only"];

    #[test]
    fn what_only_the_mount_can_tell_is_not_over_while_it_tells_nothing() {
        let mut state = well();
        assert_eq!(
            unjudged(&State { blind: Blind { numbers: true, ..Blind::default() }, ..well() }, &[RESTORE]),
            [RESTORE]
        );
        let others = ["not-mounted", "replica-lag:far", "job-failed:gc", "damaged:library", "point-broken:immich"];
        assert!(unjudged(&state, &INSIDE).is_empty() && unjudged(&state, &others).is_empty());
        state.blind.numbers = true;
        assert_eq!(unjudged(&state, &INSIDE), INSIDE);
        assert!(unjudged(&state, &others).is_empty());
        state.blind.folders = true;
        assert_eq!(unjudged(&state, &others), ["point-broken:immich"]);
        assert_eq!(unjudged(&state, &["clock-skew"]), ["clock-skew"], "the store has not told its time yet");
        assert_eq!(unjudged(&state, &["mass-change"]), ["mass-change"], "and nobody knows what was a day ago");
    }

    #[test]
    fn what_is_passed_over_for_a_while_is_not_over() {
        let mut state = well();
        let ids = ["point-broken:immich", "job-failed:backup immich", "job-failed:gc"];
        assert!(unjudged(&state, &ids).is_empty());
        let job = JobState { kind: "backup".into(), name: "immich".into(), ..JobState::default() };
        state.jobs = vec![JobState { running_since: Some(state.now - 900), ..job.clone() }];
        assert_eq!(unjudged(&state, &ids), ids[..1]);
        let last =
            |id| Some(LastRun { id, started: 1, verdict: Verdict::Ok, said: String::new(), tail: String::new() });
        let hidden = JobState { ahead_run: Some(7), last: last(6), ..job };
        state.jobs = vec![hidden.clone()];
        assert_eq!(unjudged(&state, &ids), ids[1..2]);
        state.jobs = vec![JobState { last: last(8), ..hidden }];
        assert!(unjudged(&state, &ids).is_empty(), "one has ended since");
    }

    #[test]
    fn what_looks_back_is_not_over_before_it_can_look_back_so_far() {
        let mut state = well();
        // Nothing is said of them that is so at a glance.
        (state.queue.changes, state.cache.disk_bytes, state.cache.disk_free) = (1, 100, 55);
        let after = |state: &mut State, watched| {
            state.blind = Blind { watched: Some(watched), ..Blind::default() };
            unjudged(state, &INSIDE)
        };
        assert_eq!(after(&mut state, 0), ["bucket-errors", "bucket-trouble", "cache-disk", "queue-stuck"]);
        assert_eq!(after(&mut state, 301), ["bucket-errors", "cache-disk", "queue-stuck"]);
        assert_eq!(after(&mut state, 899), ["queue-stuck"]);
        assert!(after(&mut state, 901).is_empty());
        assert_eq!(unjudged(&state, &["queue-behind"]), ["queue-behind"], "its pace is not known yet");
        (state.queue.changes, state.cache.disk_free) = (0, 65);
        assert_eq!(after(&mut state, 0), ["bucket-errors", "bucket-trouble"], "nothing waits, and there is much room");
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_over() {
        let mut state = well();
        let all = [
            "point-old:immich",
            "point-old:papers",
            "drill-old",
            "replica-lag:far",
            "replica-lag:near",
            "copy-old:home",
            "damaged:library",
            "damaged:far",
            "shared-fate:far",
            "brake:library",
            "job-failed:gc",
            "not-mounted",
        ];
        let mut without = |what| {
            state.unseen = vec![Unseen { what, why: "no answer".into(), since: None, newest: None }];
            unjudged(&state, &all)
        };
        assert_eq!(without(Sight::Points("immich".into())), ["point-old:immich"]);
        assert_eq!(without(Sight::Replica("far".into())), ["replica-lag:far", "damaged:far", "shared-fate:far"]);
        assert_eq!(without(Sight::Place("the replica far".into())), ["shared-fate:far"], "how old it is, is noted");
        assert_eq!(without(Sight::Scrub), ["damaged:library"]);
        assert_eq!(without(Sight::Mount), ["damaged:library", "not-mounted"]);
        assert_eq!(without(Sight::Ledger), all[..11]);
    }
}
