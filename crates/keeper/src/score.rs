//! The 3-2-1-1-0 score: three copies, on two kinds of storage, one elsewhere, one that this machine's keys can't delete,
//! zero errors.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    findings::{Limits, is_ahead, long, may_be_fresh, unread_for},
    state::{Scrub, Sight, State},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digit {
    /// `3`, `2`, `1`, `1`, `0`.
    pub digit: char,
    /// What it asks for.
    pub asks: String,
    pub met: bool,
    /// What there is, or what is missing.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    pub digits: Vec<Digit>,
}

impl Score {
    /// `3-2-1-?-0`: a digit that is missing is a question mark.
    pub fn shown(&self) -> String {
        let digit = |digit: &Digit| if digit.met { digit.digit.to_string() } else { "?".into() };
        self.digits.iter().map(digit).collect::<Vec<_>>().join("-")
    }

    pub fn met(&self) -> usize {
        self.digits.iter().filter(|digit| digit.met).count()
    }

    /// The digits that are missing, with what they ask for.
    pub fn missing(&self) -> Vec<&Digit> {
        self.digits.iter().filter(|digit| !digit.met).collect()
    }
}

/// What there is now.
pub fn score(state: &State, limits: &Limits) -> Score {
    let places = state.places();
    let names = |all: Vec<&String>| all.into_iter().cloned().collect::<Vec<_>>().join(", ");
    // What fails together.
    let fates: BTreeSet<&str> = places
        .iter()
        .map(|(name, place)| if place.domain.is_empty() { name.as_str() } else { place.domain.as_str() })
        .collect();
    let elsewhere: Vec<&String> = places.iter().filter(|(_, place)| place.elsewhere).map(|(name, _)| name).collect();
    let (fast, loose): (Vec<_>, Vec<_>) = places
        .iter()
        .filter_map(|(name, place)| Some((&place.hold, format!("{name}: {}", place.hold.told(state.now)?))))
        .partition(|(hold, _)| hold.is_fast() == Some(true));
    let told = |all: Vec<(_, String)>| all.into_iter().map(|(_, told)| told).collect::<Vec<_>>().join("; ");
    // What can't be looked at may be the copy that is missing.
    let unseen = unseen_copies(state);
    let digit = |digit, asks: &str, met, why: String| {
        let why = if met || unseen.is_empty() { why } else { format!("{why}; {unseen}") };
        Digit { digit, asks: asks.to_owned(), met, why }
    };
    let three = if places.len() >= 3 {
        names(places.iter().map(|(name, _)| name).collect())
    } else {
        format!("there are {}: {}", places.len(), names(places.iter().map(|(name, _)| name).collect()))
    };
    let (zero, why) = errors(state, limits);
    Score {
        digits: vec![
            digit('3', "three copies", places.len() >= 3, three),
            digit(
                '2',
                "two of them do not fail together",
                fates.len() >= 2,
                match fates.len() {
                    0 => "there is no copy".into(),
                    1 => format!("all of them are on {}", fates.iter().copied().collect::<String>()),
                    _ => fates.iter().copied().collect::<Vec<_>>().join(", "),
                },
            ),
            digit(
                '1',
                "one is elsewhere",
                !elsewhere.is_empty(),
                if elsewhere.is_empty() { "all are on this machine".into() } else { names(elsewhere) },
            ),
            digit(
                '1',
                "one keeps what was written last even from this machine's keys",
                !fast.is_empty(),
                match (fast.is_empty(), loose.is_empty()) {
                    (false, _) => told(fast),
                    (true, false) => told(loose),
                    (true, true) => {
                        "no copy is locked (store.s3.lock), and none on another machine can only be added to \
                                     (copy.NAME.append_only)"
                            .into()
                    }
                },
            ),
            Digit { digit: '0', asks: "no errors: what is there was tried, and comes back".into(), met: zero, why },
        ],
    }
}

fn unseen_copies(state: &State) -> String {
    let replicas = state.replicas.iter().map(|one| Sight::Replica(one.name.clone()));
    let copies = state.copies.iter().map(|one| Sight::Copy(one.name.clone()));
    let unseen = replicas.chain(copies).filter(|what| state.unseen(what).is_some());
    unseen.map(|what| format!("{} can't be looked at", what.phrase())).collect::<Vec<_>>().join("; ")
}

/// Zero unproven, zero damaged.
fn errors(state: &State, limits: &Limits) -> (bool, String) {
    let damaged = (state.store.damage.len() as u64).max(state.scrub.as_ref().map_or(0, Scrub::nameless))
        + state.replicas.iter().map(|one| one.damaged).sum::<u64>();
    if damaged > 0 {
        return (false, format!("{damaged} objects are damaged"));
    }
    if let Some(unseen) = state.unseen(&Sight::Scrub) {
        return (false, format!("{} can't be looked at: {}", unseen.what.phrase(), unseen.why));
    }
    let unread = state.replicas.iter().find_map(|one| Some((&one.name, unread_for(state, one)?)));
    if let Some((name, age)) = unread {
        return (false, format!("not every byte of the replica {name} was read back within {}", long(age)));
    }
    if let Some(drill) = state.failed_drills().first() {
        return (false, format!("the last drill of {} at level {} failed: {}", drill.copy, drill.level, drill.why));
    }
    let proven = state.drills.iter().filter(|drill| drill.ok && drill.level >= 1).map(|drill| drill.at);
    let proven = proven.filter(|at| !is_ahead(*at, state.now)).max();
    let age = proven.map(|at| state.now - at);
    if let Some(unseen) = state.unseen(&Sight::Drills)
        && age.is_none_or(|age| age > limits.drill_age)
        && may_be_fresh(state, limits)
    {
        return (false, format!("{} can't be looked at: {}", unseen.what.phrase(), unseen.why));
    }
    match age {
        Some(age) if age <= limits.drill_age => {
            (true, format!("every photo of the newest point then was read and right, {} ago", long(age)))
        }
        Some(age) => (false, format!("the last drill that read every photo is {} old", long(age))),
        None => (false, "no drill has read every photo yet (haven drill --level 1)".into()),
    }
}

/// Is it safe? One sentence, and whether it is well (`ok`), wants attention (`warning`), or is not (`critical`).
pub fn sentence(state: &State, findings: &[crate::findings::Finding], score: &Score) -> (String, &'static str) {
    use crate::findings::Severity;
    let worst = findings.iter().filter(|one| one.severity == Severity::Critical).count();
    let minor = findings.iter().filter(|one| one.severity == Severity::Warning).count();
    let copies = state.places().len();
    let count = match copies {
        0 => "nowhere but here".to_owned(),
        1 => "in one place".to_owned(),
        many => format!("in {many} places"),
    };
    match (worst, minor) {
        (0, 0) if score.met() == 5 => {
            (format!("Your photos are safe: {count}, and it was proven that they come back."), "ok")
        }
        (0, 0) => (
            format!("Your photos are {count}, and nothing is wrong; {} is missing to 3-2-1-1-0.", missing(score)),
            "ok",
        ),
        (0, some) => (
            format!(
                "Your photos are {count}; {some} thing{} to be looked at.",
                if some == 1 { " wants" } else { "s want" }
            ),
            "warning",
        ),
        (some, _) => (
            format!(
                "Your photos are less safe than they should be: {}{}.",
                findings.first().map(|one| one.title.clone()).unwrap_or_default(),
                if some > 1 { format!(", and {} more", some - 1) } else { String::new() }
            ),
            "critical",
        ),
    }
}

fn missing(score: &Score) -> String {
    score.missing().first().map(|digit| format!("\"{}: {}\"", digit.digit, digit.asks)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        findings::tests::{DAY, NOW, place, well},
        state::{Drill, Hold, Place, Replica, Scrub, State, ThirdCopy},
    };

    const LOCKED: Hold = Hold::Locked { seconds: 30 * DAY, tried: NOW - 3 * DAY };

    fn whole() -> State {
        let replica = Replica {
            name: "far".into(),
            place: Place { hold: LOCKED, ..place("s3://far/x", "other.example.org", true) },
            up_to_date: Some(NOW),
            ..Replica::default()
        };
        let copy = ThirdCopy {
            name: "home".into(),
            format: "borg".into(),
            place: place("/srv/borg", "disk 8:1", false),
            last_good: Some(NOW),
            ..ThirdCopy::default()
        };
        let drill = Drill { copy: "library".into(), level: 1, at: NOW - DAY, ok: true, why: String::new() };
        State { replicas: vec![replica], copies: vec![copy], drills: vec![drill], ..well() }
    }

    fn shown(state: &State) -> String {
        score(state, &Limits::default()).shown()
    }

    #[test]
    fn each_digit_can_be_missing_alone_and_is_named() {
        assert_eq!(shown(&whole()), "3-2-1-1-0");
        let mut two = whole();
        two.copies.clear();
        assert_eq!(shown(&two), "?-2-1-1-0");
        let mut unlocked = whole();
        unlocked.replicas[0].place.hold = Hold::Open;
        assert_eq!(shown(&unlocked), "3-2-1-?-0");
        let mut here = whole();
        here.library = Some(place("file:///a", "disk 8:1", false));
        here.replicas[0].place.elsewhere = false;
        assert_eq!(shown(&here), "3-2-?-1-0");
        here.replicas[0].place.domain = "disk 8:1".into();
        assert_eq!(shown(&here), "3-?-?-1-0");
        let mut untried = whole();
        untried.drills[0].at = NOW - 40 * DAY;
        assert_eq!(shown(&untried), "3-2-1-1-?");
        let missing = score(&untried, &Limits::default());
        assert!(missing.missing()[0].why.contains("40 days"), "{missing:?}");
    }

    #[test]
    fn a_lock_counts_when_it_was_tried_and_says_what_it_covers() {
        let told = |hold: Hold| {
            let mut state = whole();
            state.replicas[0].place.hold = hold;
            let digit = score(&state, &Limits::default()).digits.remove(3);
            (digit.met, digit.why)
        };
        let (met, why) = told(LOCKED);
        assert!(met && why.starts_with("far: what is written is locked for 30 days from then on"), "{why}");
        assert!(why.ends_with("what is older can be deleted (tried 3 days ago)"), "{why}");
        let (met, why) = told(Hold::Unknown);
        assert!(!met && why.starts_with("far: whether its lock holds is not known"), "{why}");
        let (met, why) = told(Hold::Broken { why: "it takes the lock, and deletes all the same".into() });
        assert!(!met && why.ends_with("does not hold: it takes the lock, and deletes all the same"), "{why}");
        let (met, why) = told(Hold::Said);
        assert!(met && why.contains("that is not tried"), "{why}");
    }

    #[test]
    fn damage_and_a_failed_drill_take_the_zero() {
        let mut damaged = whole();
        damaged.scrub = Some(Scrub { at: NOW, whole: false, faults: 1, files: 0, named: false });
        assert_eq!(shown(&damaged), "3-2-1-1-?");
        let mut failed = whole();
        failed.drills.push(Drill { copy: "far".into(), level: 0, at: NOW, ok: false, why: "gone".into() });
        assert_eq!(shown(&failed), "3-2-1-1-?");
        let mut unread = whole();
        unread.replicas[0].verify_within = Some(30 * DAY);
        unread.replicas[0].verified = Some(NOW - 10 * DAY);
        assert_eq!(shown(&unread), "3-2-1-1-0");
        unread.replicas[0].verified = Some(NOW - 40 * DAY);
        assert_eq!(shown(&unread), "3-2-1-1-?");
    }

    #[test]
    fn a_replica_that_was_never_made_is_no_copy() {
        let mut state = whole();
        state.replicas[0].up_to_date = None;
        assert_eq!(shown(&state), "?-2-1-?-0");
    }

    #[test]
    fn the_sentence_says_the_worst_first() {
        let limits = Limits::default();
        let told = |state: &State| {
            let found = crate::findings::findings(state, &limits);
            sentence(state, &found, &score(state, &limits))
        };
        assert_eq!(told(&whole()).1, "ok");
        assert!(told(&whole()).0.starts_with("Your photos are safe"));
        let mut late = whole();
        late.replicas[0].interval = Some(3600);
        late.replicas[0].up_to_date = Some(NOW - DAY);
        assert!(told(&late).1 == "critical" && told(&late).0.contains("replica far"), "{:?}", told(&late));
    }
}
