//! The copies as the page shows them: the library, its replicas, and those in foreign formats.

use haven_keeper::{
    findings::{Finding, Severity, long},
    state::{Sight, State},
};
use haven_page::{Colour, Copy, CopyKind};

/// The worst that is said of a copy.
fn colour_of(findings: &[Finding], name: &str) -> Colour {
    let own = findings.iter().filter(|one| one.subject.split(',').any(|subject| subject == name));
    match own.map(|one| one.severity).max() {
        Some(Severity::Critical) => Colour::Red,
        Some(Severity::Warning) => Colour::Yellow,
        _ => Colour::Green,
    }
}

/// What is said of a copy of which nothing is known.
const UNSEEN: &str = "can't be looked at";

pub(super) fn copies(state: &State, findings: &[Finding]) -> Vec<Copy> {
    let now = state.now;
    let proven = |name: &str| {
        let own = state.drills.iter().filter(|drill| drill.copy == name && drill.ok && drill.level >= 1);
        own.max_by_key(|drill| drill.at).map(|drill| (drill.at, format!("drill level {}", drill.level)))
    };
    let ago = |at: Option<i64>| at.map_or("never made".to_owned(), |at| format!("{} ago", long(now - at)));
    let unseen = |what: Sight| state.unseen(&what).is_some();
    let proof_unseen = unseen(Sight::Drills);
    let mut all = Vec::new();
    if let Some(place) = &state.library {
        // Of one that does not answer the queue is not known: it is not empty.
        let waits = matches!(state.mount.answers, Some(Ok(_))).then_some(state.queue.changes);
        let drill = proven("library");
        all.push(Copy {
            name: "library".into(),
            kind: CopyKind::Library,
            place: place.url.clone(),
            colour: if state.mount.answers.is_some() { colour_of(findings, "library") } else { Colour::Red },
            said: match (&state.mount.answers, waits) {
                (None, _) => "not mounted".into(),
                (_, None) => "mounted, and does not answer".into(),
                _ if state.restoring.is_some() => "still being restored".into(),
                (_, Some(0)) => "everything is in the bucket".into(),
                (_, Some(1)) => "1 change on its way".into(),
                (_, Some(some)) => format!("{some} changes on their way"),
            },
            lag: waits.map(|_| state.queue.since.map_or(0, |since| (now - since).max(0).unsigned_abs())),
            verified: None,
            proven: drill.as_ref().map(|(at, _)| *at),
            proven_by: drill.map(|(_, by)| by).unwrap_or_default(),
            proof_unseen,
            synced: None,
            bytes: Some(state.sums.stored_bytes).filter(|bytes| *bytes > 0),
            locked: place.hold.is_fast(),
        });
    }
    for one in &state.replicas {
        // Whatever was later: a drill from it, or the end of a round in which every byte of it was read back.
        let read = one.verified.map(|at| (at, "every byte read".to_owned()));
        let proof = proven(&one.name).max(read);
        all.push(Copy {
            name: one.name.clone(),
            kind: CopyKind::Replica,
            place: one.place.url.clone(),
            colour: match (unseen(Sight::Replica(one.name.clone())), one.up_to_date) {
                (true, _) => Colour::Unknown,
                (false, None) => Colour::Yellow,
                (false, Some(_)) => colour_of(findings, &one.name),
            },
            said: match one.up_to_date {
                Some(_) => format!("up to date {}", ago(one.up_to_date)),
                None if unseen(Sight::Replica(one.name.clone())) => UNSEEN.into(),
                None => "never complete yet".into(),
            },
            lag: one.up_to_date.map(|at| (now - at).max(0).unsigned_abs()),
            verified: one.verified,
            proven: proof.as_ref().map(|(at, _)| *at),
            proven_by: proof.map(|(_, by)| by).unwrap_or_default(),
            proof_unseen,
            synced: one.up_to_date,
            bytes: None,
            locked: one.place.hold.is_fast(),
        });
    }
    for one in &state.copies {
        let drill = proven(&one.name);
        all.push(Copy {
            name: one.name.clone(),
            kind: CopyKind::Third,
            place: format!("{} {}", one.format, one.place.url),
            colour: match (unseen(Sight::Copy(one.name.clone())), one.last_good) {
                (true, _) => Colour::Unknown,
                (false, None) => Colour::Yellow,
                (false, Some(_)) => colour_of(findings, &one.name),
            },
            said: match one.last_good {
                Some(_) => format!("newest archive {}", ago(one.last_good)),
                None if unseen(Sight::Copy(one.name.clone())) => UNSEEN.into(),
                None => "no archive yet".into(),
            },
            lag: one.last_good.map(|at| (now - at).max(0).unsigned_abs()),
            verified: None,
            proven: drill.as_ref().map(|(at, _)| *at),
            proven_by: drill.map(|(_, by)| by).unwrap_or_default(),
            proof_unseen,
            synced: one.last_good,
            bytes: None,
            locked: one.place.hold.is_fast(),
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use haven_keeper::state::{Drill, Place, Replica, ThirdCopy, Unseen};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn replica(verified: Option<i64>) -> State {
        let place = Place { url: "s3://far/x".into(), ..Place::default() };
        let one = Replica { name: "far".into(), place, up_to_date: Some(NOW), verified, ..Replica::default() };
        let drill = Drill { copy: "far".into(), level: 1, at: NOW - 500, ok: true, why: String::new() };
        State { now: NOW, replicas: vec![one], drills: vec![drill], ..State::default() }
    }

    #[test]
    fn the_last_proof_of_a_replica_is_a_drill_or_the_end_of_a_round() {
        let shown = |verified| {
            let copy = copies(&replica(verified), &[]).remove(0);
            (copy.proven, copy.proven_by, copy.verified)
        };
        assert_eq!(shown(None), (Some(NOW - 500), "drill level 1".into(), None));
        assert_eq!(shown(Some(NOW - 900)), (Some(NOW - 500), "drill level 1".into(), Some(NOW - 900)));
        assert_eq!(shown(Some(NOW - 100)), (Some(NOW - 100), "every byte read".into(), Some(NOW - 100)));
    }

    #[test]
    fn of_a_library_that_does_not_answer_nobody_is_told_that_all_is_in_the_bucket() {
        let mut state = State { library: Some(Place::default()), ..State::default() };
        let shown = |state: &State| {
            let copy = copies(state, &[]).remove(0);
            (copy.said, copy.lag)
        };
        assert_eq!(shown(&state), ("not mounted".into(), None));
        state.mount.answers = Some(Err("no answer within 10 s".into()));
        assert_eq!(shown(&state), ("mounted, and does not answer".into(), None));
        state.mount.answers = Some(Ok(0.1));
        assert_eq!(shown(&state), ("everything is in the bucket".into(), Some(0)));
        state.restoring = Some(haven_keeper::state::Restoring::default());
        assert_eq!(shown(&state).0, "still being restored");
        state.restoring = None;
        (state.now, state.queue.since, state.queue.changes) = (NOW, Some(NOW - 7), 1);
        assert_eq!(shown(&state), ("1 change on its way".into(), Some(7)));
    }

    #[test]
    fn a_drill_of_a_third_copy_is_its_proof() {
        let drill = |level, at, ok| Drill { copy: "home".into(), level, at, ok, why: String::new() };
        let one = ThirdCopy { name: "home".into(), format: "borg".into(), ..ThirdCopy::default() };
        let mut state =
            State { now: NOW, copies: vec![one], drills: vec![drill(0, NOW - 10, true)], ..State::default() };
        let shown = |state: &State| {
            let copy = copies(state, &[]).remove(0);
            (copy.proven, copy.proven_by)
        };
        assert_eq!(shown(&state), (None, String::new()), "one in a hundred photos is no proof");
        state.drills.extend([drill(1, NOW - 900, true), drill(2, NOW - 800, true), drill(2, NOW - 50, false)]);
        assert_eq!(shown(&state), (Some(NOW - 800), "drill level 2".into()));
    }

    #[test]
    fn a_replica_of_which_nothing_is_known_is_not_called_incomplete() {
        let mut state = replica(None);
        state.replicas[0].up_to_date = None;
        let said = |state: &State| copies(state, &[]).remove(0).said;
        assert_eq!(said(&state), "never complete yet");
        let unseen = |what| Unseen { what, why: "torn".into(), since: None, newest: None };
        state.unseen = vec![unseen(Sight::Replica("far".into())), unseen(Sight::Drills)];
        let copy = copies(&state, &[]).remove(0);
        assert_eq!((copy.said.as_str(), copy.colour, copy.proof_unseen), ("can't be looked at", Colour::Unknown, true));
    }
}
