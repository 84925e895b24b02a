//! Recovery points, replicas, third copies: how old they are, and what they share.

use std::collections::BTreeMap;

use super::{Finding, Limits, Severity, is_ahead, late, long};
use crate::state::{Points, Replica, Sight, State, Unseen};

pub fn points(state: &State, limits: &Limits) -> Vec<Finding> {
    let mut out = Vec::new();
    for points in &state.points {
        let name = &points.application;
        let run = format!("haven backup run {name}    takes one now, or says why not");
        let unseen = state.unseen(&Sight::Points(name.clone()));
        let newest = points.newest.filter(|at| !is_ahead(*at, state.now));
        let overdue = late(state.now, newest, points.scheduled_since, points.interval, points.expected, limits.late);
        if let Some(age) = overdue.filter(|_| !may_be_fresh(state, limits, points, unseen)) {
            let every = long(points.interval.unwrap_or_default());
            let title = match newest {
                Some(_) => {
                    format!("the newest recovery point of {name} is {} old; one was due every {every}", long(age))
                }
                None if points.newest.is_some() => {
                    format!(
                        "the newest recovery point of {name} is of a time to come: a clock stood wrong, or does here"
                    )
                }
                None if points.broken > 0 || unseen.is_some() => {
                    format!(
                        "no recovery point of {name} is known to be complete, {} after the first was due",
                        long(age)
                    )
                }
                None => format!("there is no recovery point of {name} yet, {} after the first was due", long(age)),
            };
            out.push(
                Finding::critical("point-old", name.clone(), title)
                    .means("what was changed since can't be brought back with its database: photos may come back without their albums and faces")
                    .next(run)
                    .next("haven runs --kind backup    shows how the last runs went"),
            );
        } else if points.newest.is_none() && points.interval.is_none() && unseen.is_none() {
            out.push(
                Finding::warning("point-none", name.clone(), format!("no recovery points of {name} are taken"))
                    .means("its database and its files can't be brought back as they were at one instant")
                    .next(run)
                    .next("schedule.backup = \"daily 00:30\" in haven.toml"),
            );
        }
        if points.broken > 0 {
            out.push(
                Finding::warning(
                    "point-broken",
                    name.clone(),
                    format!("{} recovery points of {name} are not complete", points.broken),
                )
                .means("they don't bring everything back; others do")
                .next("haven backup list    tells which and why")
                .next("haven backup remove NAME"),
            );
        }
    }
    out
}

/// Whether a point that can't be looked at may be the one that is due: then nothing is said of its age.
fn may_be_fresh(state: &State, limits: &Limits, points: &Points, unseen: Option<&Unseen>) -> bool {
    let fresh = |at| late(state.now, Some(at), None, points.interval, None, limits.late).is_none();
    unseen.is_some_and(|one| one.newest.is_none_or(fresh))
}

/// How far a replica may be behind, seconds, where neither a schedule nor a goal says anything: somebody else, or a program
/// beside the keeper, brings it up to date, and may have stopped.
const UNSCHEDULED: i64 = 2 * 86_400;

pub fn replicas(state: &State, limits: &Limits) -> Vec<Finding> {
    let mut out = Vec::new();
    for replica in &state.replicas {
        let name = &replica.name;
        if state.unseen(&Sight::Replica(name.clone())).is_some() {
            continue;
        }
        let Replica { up_to_date, scheduled_since, interval, expected, .. } = *replica;
        let by_schedule = late(state.now, up_to_date, scheduled_since, interval, expected, limits.late);
        let alone = interval.is_none() && replica.lag_max.is_none();
        let by_goal = replica.lag_max.or(alone.then_some(UNSCHEDULED)).and_then(|most| {
            let age = state.now - replica.up_to_date?;
            (age > most).then_some(age)
        });
        if let Some(age) = by_schedule.or(by_goal) {
            let severity = if alone { Severity::Warning } else { Severity::Critical };
            let title = match replica.up_to_date {
                Some(_) => format!("the replica {name} is {} behind", long(age)),
                None => format!("the replica {name} has never been complete"),
            };
            let mut finding = Finding::new("replica-lag", name.clone(), severity, title)
                .means(format!(
                    "if the library were lost now, photos of the last {} would not be in this copy",
                    long(age)
                ))
                .next(format!("haven replica sync {name}    brings it up to date, or says why not"));
            if alone {
                finding = finding
                    .next(
                        "schedule.replica in haven.toml    has the keeper do it; if something else should, see to that",
                    )
                    .next("health.replica_lag in haven.toml    says from when on this is told");
            }
            if let Some(trouble) = &replica.trouble {
                finding = finding.next(format!("what it said last: {trouble}"));
            }
            out.push(finding);
        }
        out.extend(unread(state, replica));
    }
    out
}

/// A part of a round's time that it may be late: rounds end with a run, and runs end with other things.
const ROUND_SLACK: i64 = 4;

/// For how long not every byte of a replica was read back, where that is longer than its settings say. A round that met
/// damage counts for nothing.
pub(crate) fn unread_for(state: &State, replica: &Replica) -> Option<i64> {
    let within = replica.verify_within?;
    let age = state.now - replica.verified.or(replica.round_began)?;
    (age > within + within / ROUND_SLACK + replica.interval.unwrap_or_default()).then_some(age)
}

fn unread(state: &State, replica: &Replica) -> Option<Finding> {
    let (name, age) = (&replica.name, long(unread_for(state, replica)?));
    let within = long(replica.verify_within.unwrap_or_default());
    let title = match replica.verified {
        Some(_) => {
            format!("every byte of the replica {name} was last read back {age} ago; it should be within {within}")
        }
        None => {
            format!("not every byte of the replica {name} was read back yet, in {age}; it should be within {within}")
        }
    };
    Some(
        Finding::warning("replica-unread", name.clone(), title)
            .means("what has rotted there since is not known, and would be found when it is needed")
            .next(format!("haven replica sync {name}    reads on, and mends from the library what it finds damaged"))
            .next(format!("haven replica verify {name} --read-data --repair    reads all of it now"))
            .next("haven runs --kind replica    shows whether its runs come to their end"),
    )
}

pub fn third(state: &State, limits: &Limits) -> Vec<Finding> {
    let mut out = Vec::new();
    for copy in &state.copies {
        let name = &copy.name;
        let overdue = late(state.now, copy.last_good, copy.scheduled_since, copy.interval, copy.expected, limits.late);
        if let Some(age) = overdue.filter(|_| state.unseen(&Sight::Copy(name.clone())).is_none()) {
            let title = match copy.last_good {
                Some(_) => format!("the newest archive of the copy {name} is {} old", long(age)),
                None => format!("the copy {name} has no archive yet"),
            };
            out.push(
                Finding::critical("copy-old", name.clone(), title)
                    .means("the copy that does not depend on Haven is behind by that much")
                    .next(format!("haven copy run {name}    makes one now, or says why not")),
            );
        }
        if copy.vanished > 0 {
            out.push(
                Finding::critical(
                    "copy-vanished",
                    name.clone(),
                    format!("{} archives have vanished from the copy {name}", copy.vanished),
                )
                .means("somebody who is not Haven deleted them: a mistake, or a thief who wants no copy to be left")
                .next(format!("haven copy list {name}    names them"))
                .next(format!("haven copy check {name} --accept-missing    if it was you")),
            );
        }
    }
    out
}

/// What fails together.
pub fn domains(state: &State, _: &Limits) -> Vec<Finding> {
    let mut by: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, place) in state.places().into_iter().filter(|(_, place)| !place.domain.is_empty()) {
        by.entry(&place.domain).or_default().push(name);
    }
    let shared = by.into_iter().filter(|(_, names)| names.len() > 1);
    shared
        .map(|(domain, names)| {
            let (first, others) = names.split_first().map_or(("", [].as_slice()), |(first, rest)| (first.as_str(), rest));
            Finding::warning("shared-fate", others.join(","), format!("{} and {first} share {domain}", others.join(" and ")))
                .means("whatever takes the one away (a broken disk, a lost account) takes the other, too: two copies, and one fate")
                .next("haven replica add NAME URL    on another disk, or with another provider")
        })
        .collect()
}

pub fn brakes(state: &State, _: &Limits) -> Vec<Finding> {
    let one = |brake: &crate::state::Brake| {
        let library = brake.of == "library";
        let what =
            if library { "the library's garbage".to_owned() } else { format!("deletions on the replica {}", brake.of) };
        let finding = Finding::critical("brake", brake.of.clone(), format!("{what}: held back ({})", brake.why))
            .means("far more than usual would be deleted: a mistake and an attack look like this. Nothing was deleted");
        if library {
            finding.next("haven gc --dry-run    tells what would go").next("haven gc --release    if it was meant")
        } else {
            finding
                .next(format!("haven replica sync {} --release-brake --dry-run    tells what would go", brake.of))
                .next(format!("haven replica sync {} --release-brake    if it was meant", brake.of))
        }
    };
    state.brakes.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DAY, HOUR, NOW, ids, place, well};
    use crate::state::{Brake, Expected, Points, Replica, State, ThirdCopy};

    fn points(newest: Option<i64>) -> State {
        let one = Points {
            application: "immich".into(),
            newest,
            interval: Some(DAY),
            scheduled_since: Some(NOW - 2 * DAY),
            ..Points::default()
        };
        State { points: vec![one], ..well() }
    }

    #[test]
    fn a_point_is_old_at_one_and_a_half_intervals() {
        assert!(ids(&points(Some(NOW - 35 * HOUR))).is_empty());
        assert_eq!(ids(&points(Some(NOW - 37 * HOUR))), ["point-old:immich"]);
        assert_eq!(ids(&points(None)), ["point-old:immich"], "two days without a first one");
        let mut fresh = points(None);
        fresh.points[0].scheduled_since = Some(NOW - HOUR);
        assert!(ids(&fresh).is_empty(), "the first is not due yet");
        // One of a time to come is no sign that backups go on.
        assert!(ids(&points(Some(NOW + 100))).is_empty());
        assert!(ids(&points(Some(NOW + 300 * DAY))).contains(&"point-old:immich".to_owned()));
        fresh.points[0].interval = None;
        assert_eq!(ids(&fresh), ["point-none:immich"]);
        fresh.points[0].broken = 1;
        assert!(ids(&fresh).contains(&"point-broken:immich".to_owned()));
    }

    #[test]
    fn a_replica_is_late_by_its_schedule_or_by_its_goal() {
        let replica = |behind, lag_max| Replica {
            name: "far".into(),
            place: place("s3://far/x", "far", true),
            up_to_date: Some(NOW - behind),
            interval: Some(HOUR),
            lag_max,
            ..Replica::default()
        };
        let state = |one| State { replicas: vec![one], ..well() };
        assert!(ids(&state(replica(80 * 60, None))).is_empty());
        assert_eq!(ids(&state(replica(100 * 60, None))), ["replica-lag:far"]);
        assert_eq!(ids(&state(replica(80 * 60, Some(600)))), ["replica-lag:far"]);
    }

    #[test]
    fn a_replica_that_nobody_has_scheduled_is_not_forgotten() {
        let replica = |behind, lag_max| Replica {
            name: "far".into(),
            place: place("s3://far/x", "far", true),
            up_to_date: Some(NOW - behind),
            lag_max,
            ..Replica::default()
        };
        let state = |one| State { replicas: vec![one], ..well() };
        assert!(ids(&state(replica(47 * HOUR, None))).is_empty());
        let told = |one| super::replicas(&state(one), &super::Limits::default()).remove(0).severity;
        assert_eq!(told(replica(49 * HOUR, None)), super::Severity::Warning);
        assert_eq!(told(replica(2 * HOUR, Some(HOUR))), super::Severity::Critical, "its owner has said so");
        assert!(ids(&state(replica(49 * HOUR, Some(40 * DAY)))).is_empty(), "a disk that is plugged in each month");
    }

    #[test]
    fn a_replica_that_rests_by_night_is_late_when_its_morning_is_over() {
        let replica = |at| Replica {
            name: "far".into(),
            place: place("s3://far/x", "far", true),
            up_to_date: Some(NOW - 10 * HOUR),
            interval: Some(HOUR),
            expected: Some(Expected { at, before: 10 * HOUR, gap: HOUR }),
            ..Replica::default()
        };
        let state = |one| State { replicas: vec![one], ..well() };
        assert!(ids(&state(replica(NOW + 10))).is_empty(), "nothing was planned since");
        assert!(ids(&state(replica(NOW - 29 * 60))).is_empty(), "it is at work");
        assert_eq!(ids(&state(replica(NOW - 31 * 60))), ["replica-lag:far"]);
    }

    #[test]
    fn a_replica_that_was_made_just_before_its_time_is_made_again_a_turn_later() {
        let replica = |ago| Replica {
            name: "far".into(),
            place: place("s3://far/x", "far", true),
            up_to_date: Some(NOW - ago),
            interval: Some(HOUR),
            expected: Some(Expected { at: NOW - ago + 180, before: HOUR, gap: HOUR }),
            ..Replica::default()
        };
        let state = |one| State { replicas: vec![one], ..well() };
        assert!(ids(&state(replica(80 * 60))).is_empty());
        assert_eq!(ids(&state(replica(100 * 60))), ["replica-lag:far"]);
    }

    #[test]
    fn a_replica_that_was_not_read_back_in_time_is_told() {
        let replica = |verified: Option<i64>, began: Option<i64>| Replica {
            name: "far".into(),
            place: place("s3://far/x", "far", true),
            up_to_date: Some(NOW),
            interval: Some(DAY),
            verified: verified.map(|days| NOW - days * DAY),
            round_began: began.map(|days| NOW - days * DAY),
            verify_within: Some(30 * DAY),
            ..Replica::default()
        };
        let state = |one| State { replicas: vec![one], ..well() };
        for (verified, began, told) in [
            (Some(38), Some(5), false),
            (Some(39), Some(5), true),
            (None, Some(38), false),
            (None, Some(39), true),
            // No run has told yet: an upgrade is no alarm.
            (None, None, false),
        ] {
            let all = ids(&state(replica(verified, began)));
            assert_eq!(all.contains(&"replica-unread:far".to_owned()), told, "{verified:?} {began:?}: {all:?}");
        }
        let unsaid = Replica { verify_within: None, ..replica(Some(400), None) };
        assert!(ids(&state(unsaid)).is_empty());
    }

    #[test]
    fn an_old_copy_and_vanished_archives_are_told() {
        let copy = ThirdCopy {
            name: "home".into(),
            format: "borg".into(),
            place: place("ssh://nas/./x", "nas", true),
            last_good: Some(NOW - 3 * DAY),
            interval: Some(DAY),
            vanished: 2,
            ..ThirdCopy::default()
        };
        assert_eq!(ids(&State { copies: vec![copy], ..well() }), ["copy-old:home", "copy-vanished:home"]);
    }

    #[test]
    fn copies_that_fail_together_are_told_once_for_all_of_them() {
        let replica = |name: &str, domain: &str| Replica {
            name: name.into(),
            place: place(name, domain, false),
            up_to_date: Some(NOW),
            ..Replica::default()
        };
        let state = |all| State { replicas: all, ..well() };
        assert!(ids(&state(vec![replica("a", "disk 8:1"), replica("b", "disk 8:2")])).is_empty());
        assert_eq!(
            ids(&state(vec![replica("a", "s3.example.org"), replica("b", "s3.example.org")])),
            ["shared-fate:a,b"]
        );
        let mut never = replica("a", "s3.example.org");
        never.up_to_date = None;
        assert!(ids(&state(vec![never])).is_empty(), "what was never made shares nothing");
    }

    #[test]
    fn a_brake_is_told_with_what_releases_it() {
        let brakes =
            vec![Brake { of: "library".into(), why: "30 %".into() }, Brake { of: "far".into(), why: "x".into() }];
        assert_eq!(ids(&State { brakes, ..well() }), ["brake:far", "brake:library"]);
    }
}
