//! What could not be looked at: never taken for "there is none", and never for "all is well".

use super::{Finding, Limits, Severity};
use crate::state::{Sight, State, Unseen};

pub fn unseen(state: &State, limits: &Limits) -> Vec<Finding> {
    state.unseen.iter().map(|one| finding(state, limits, one)).collect()
}

fn finding(state: &State, limits: &Limits, one: &Unseen) -> Finding {
    // A store that is away for a moment is worth no message.
    let fresh = one.since.is_some_and(|since| state.now - since <= limits.store_patience);
    let severity = if fresh { Severity::Info } else { Severity::Warning };
    let title = format!("{} can't be looked at: {}", one.what.phrase(), one.why);
    let finding = Finding::new("unseen", one.what.to_string(), severity, title);
    match &one.what {
        Sight::Points(_) => finding
            .means("whether there is a fresh recovery point is not known: not that there is one, and not that there is none")
            .next("haven backup list    tells which can be read, and why others can't")
            .next("haven doctor    tries the bucket and the keys"),
        Sight::Drills => finding
            .means("what the newest drills have proven is not known")
            .next("haven drill list    tells which reports can be read and believed")
            .next("haven drill --level 1    makes a new one"),
        Sight::Replica(name) => finding
            .means("whether this replica is up to date is not known")
            .next(format!("haven replica status {name}    looks at the replica itself"))
            .next(format!("haven replica sync {name}    notes it anew")),
        Sight::Copy(name) => finding
            .means("how old the newest archive is, and whether some have vanished, is not known")
            .next(format!("haven copy list {name}    looks at the copy itself"))
            .next(format!("haven copy check {name} --accept-missing    if what was noted is damaged: notes what is there")),
        Sight::Place(_) => finding
            .means("a disk that dies, or a network share whose server is off, looks like this: what is there can't be reached now, and what was known of it may be over")
            .next("is the other machine on, and the disk plugged in?")
            .next("dmesg -T    says what the kernel knows of it"),
        Sight::Scrub => finding
            .means("whether the last look at the library's content found damage is not known")
            .next("haven check --read-data    looks now"),
        Sight::Brake => finding
            .means("whether deletions are held back is not known")
            .next("haven gc --dry-run    tells what would go"),
        Sight::Disk => finding
            .means("whether the disk of the cache fills up is not known")
            .next("df -h and dmesg -T    on this machine, for the directory that is named"),
        Sight::KeeperDisk => finding
            .means("whether what the keeper does can be noted for much longer is not known")
            .next("df -h and dmesg -T    on this machine, for schedule.directory in haven.toml"),
        Sight::Mount => finding
            .means("whether the library is mounted, and what waits to be sent, is not known")
            .next("haven status    asks the mount itself")
            .next("as root, if this user may not look there"),
        Sight::Keeper => finding
            .means("whether jobs are done on schedule is not known")
            .next("systemctl status haven    is the keeper at work?")
            .next("haven health    as root, or as the user that the keeper is"),
        Sight::Ledger => finding
            .means("how runs went, and how old replicas are, is not known; the photos and their copies are as they were")
            .next("haven health    as root, or as the user that the keeper is")
            .next("look at the disk of schedule.directory in haven.toml"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            findings,
            tests::{DAY, HOUR, NOW, ids, well},
        },
        *,
    };
    use crate::{
        score::score,
        state::{Drill, Points, Replica, ThirdCopy},
    };

    fn unseen(what: Sight, newest: Option<i64>) -> Unseen {
        Unseen { what, why: "no answer".into(), since: None, newest }
    }

    fn points(newest: Option<i64>) -> State {
        let one = Points {
            application: "immich".into(),
            newest,
            interval: Some(DAY),
            scheduled_since: Some(NOW - 30 * DAY),
            ..Points::default()
        };
        let drill = Drill { copy: "library".into(), level: 1, at: NOW - DAY, ok: true, why: String::new() };
        State { points: vec![one], drills: vec![drill], ..well() }
    }

    fn immich() -> Sight {
        Sight::Points("immich".into())
    }

    #[test]
    fn points_that_cannot_be_looked_at_are_not_none_and_not_old() {
        assert_eq!(ids(&points(None)), ["point-old:immich"]);
        let blind = |newest, unread| State { unseen: vec![unseen(immich(), unread)], ..points(newest) };
        for newest in [None, Some(NOW - 9 * DAY)] {
            let state = blind(newest, None);
            assert_eq!(ids(&state), ["unseen:recovery points of immich"], "{newest:?}");
            let told = findings(&state, &Limits::default()).remove(0);
            assert_eq!(told.title, "the recovery points of immich can't be looked at: no answer");
            assert_eq!(ids(&blind(newest, Some(NOW - HOUR))), ["unseen:recovery points of immich"], "it may be fresh");
            let old = blind(newest, Some(NOW - 20 * DAY));
            assert_eq!(ids(&old), ["point-old:immich", "unseen:recovery points of immich"], "an old one hides nothing");
            let title = findings(&old, &Limits::default()).remove(0).title;
            assert!(!title.contains("there is no recovery point"), "{title}");
        }
        let mut unscheduled = blind(None, Some(NOW - 20 * DAY));
        unscheduled.points[0].interval = None;
        assert_eq!(ids(&unscheduled), ["unseen:recovery points of immich"], "one is there");
        let another = State { unseen: vec![unseen(Sight::Points("papers".into()), None)], ..points(None) };
        assert!(ids(&another).contains(&"point-old:immich".to_owned()), "what is not seen of another hides nothing");
    }

    #[test]
    fn a_moment_is_told_softly_and_what_lasts_is_a_warning() {
        let severity = |since| {
            let one = Unseen { since, ..unseen(immich(), None) };
            findings(&State { unseen: vec![one], ..points(None) }, &Limits::default())[0].severity
        };
        assert_eq!(severity(Some(NOW - 10)), Severity::Info);
        assert_eq!(severity(Some(NOW - 301)), Severity::Warning);
        assert_eq!(severity(None), Severity::Warning, "nobody remembers since when");
    }

    #[test]
    fn drills_that_cannot_be_read_are_not_missing() {
        let mut state = points(Some(NOW));
        state.drills[0].at = NOW - 60 * DAY;
        assert_eq!(ids(&state), ["drill-old"]);
        state.unseen = vec![unseen(Sight::Drills, Some(NOW - DAY))];
        assert_eq!(ids(&state), ["unseen:drills"]);
        let why = |state: &State| score(state, &Limits::default()).digits[4].why.clone();
        assert_eq!(why(&state), "the drills can't be looked at: no answer");
        state.unseen[0].newest = Some(NOW - 50 * DAY);
        assert_eq!(ids(&state), ["drill-old", "unseen:drills"]);
        assert!(why(&state).contains("60 days old"), "{}", why(&state));
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_told_once_and_nothing_that_it_would_tell_is_none() {
        let replica = Replica {
            name: "far".into(),
            interval: Some(HOUR),
            scheduled_since: Some(NOW - DAY),
            ..Replica::default()
        };
        let mut state = State { replicas: vec![replica], ..well() };
        assert_eq!(ids(&state), ["replica-lag:far"]);
        state.unseen = vec![unseen(Sight::Ledger, None)];
        assert_eq!(ids(&state), ["unseen:ledger"]);
        state.unseen = vec![unseen(Sight::Replica("far".into()), None)];
        assert_eq!(ids(&state), ["unseen:replica far"]);
        let shown = score(&state, &Limits::default());
        assert!(shown.digits[0].why.contains("the replica far can't be looked at"), "{shown:?}");
    }

    #[test]
    fn a_copy_whose_archives_are_not_known_has_not_none() {
        let copy = ThirdCopy {
            name: "home".into(),
            interval: Some(DAY),
            scheduled_since: Some(NOW - 9 * DAY),
            ..ThirdCopy::default()
        };
        let mut state = State { copies: vec![copy], ..well() };
        assert_eq!(ids(&state), ["copy-old:home"]);
        state.unseen = vec![unseen(Sight::Copy("home".into()), None)];
        assert_eq!(ids(&state), ["unseen:copy home"]);
    }

    #[test]
    fn a_mount_that_cannot_be_looked_for_is_not_away() {
        let mut state = well();
        state.mount.answers = None;
        assert_eq!(ids(&state), ["not-mounted"]);
        state.unseen = vec![unseen(Sight::Mount, None)];
        assert_eq!(ids(&state), ["unseen:mount"]);
    }

    #[test]
    fn each_says_what_it_means_and_what_to_do() {
        let name = || "x".to_owned();
        let all = [
            Sight::Points(name()),
            Sight::Drills,
            Sight::Replica(name()),
            Sight::Copy(name()),
            Sight::Place(name()),
            Sight::Scrub,
            Sight::Brake,
            Sight::Disk,
            Sight::KeeperDisk,
            Sight::Mount,
            Sight::Keeper,
            Sight::Ledger,
        ];
        let state = State { unseen: all.map(|what| unseen(what, None)).to_vec(), ..well() };
        let told = super::unseen(&state, &Limits::default());
        assert!(told.iter().all(|one| !one.meaning.is_empty() && !one.next.is_empty()), "{told:?}");
        let mut subjects: Vec<_> = told.iter().map(Finding::id).collect();
        subjects.sort();
        subjects.dedup();
        assert_eq!(subjects.len(), told.len());
    }
}
