//! Drills: whether it was proven that the photos come back, and how long ago.

use super::{Finding, Limits, is_ahead, long};
use crate::state::{Drill, Sight, State};

pub fn drills(state: &State, limits: &Limits) -> Vec<Finding> {
    if !state.has_points() {
        return Vec::new();
    }
    let mut out = Vec::new();
    for Drill { copy, level, why, .. } in state.failed_drills() {
        out.push(
            Finding::critical("drill-failed", copy, format!("the last drill of {copy} at level {level} failed: {why}"))
                .means("not everything would come back from there; what is not named was proven")
                .next("haven drill list    shows the reports")
                .next(format!("haven drill --level {level} --copy {copy}    after it was mended")),
        );
    }
    let thorough = |drill: &&Drill| drill.ok && drill.level >= 1 && !is_ahead(drill.at, state.now);
    let newest = state.drills.iter().filter(thorough).map(|drill| drill.at).max();
    let since = newest.or_else(|| first_expected(state));
    let unseen = state.unseen(&Sight::Drills);
    let old = since.map(|since| state.now - since).filter(|age| *age > limits.drill_age);
    if let Some(age) = old.filter(|_| !may_be_fresh(state, limits)) {
        let title = match newest {
            Some(_) => format!("the last drill that read every photo is {} old", long(age)),
            None if unseen.is_some() => "no drill that can be looked at has read every photo".to_owned(),
            None => "no drill has read every photo yet".to_owned(),
        };
        out.push(
            Finding::warning("drill-old", "", title)
                .means("backups that nobody tries are hopes: nobody has proven since that the photos come back")
                .next("haven drill --level 1")
                .next("schedule.drill_1 in haven.toml says when it is done"),
        );
    }
    out
}

/// Whether a report that can't be looked at may be the one that is due.
pub(crate) fn may_be_fresh(state: &State, limits: &Limits) -> bool {
    let fresh = |at| state.now - at <= limits.drill_age;
    state.unseen(&Sight::Drills).is_some_and(|one| one.newest.is_none_or(fresh))
}

/// Since when there could have been one.
fn first_expected(state: &State) -> Option<i64> {
    state.points.iter().filter_map(|points| points.scheduled_since).min()
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{DAY, NOW, ids, well},
        *,
    };
    use crate::{score::score, state::Points};

    fn state(drills: Vec<Drill>) -> State {
        let points = Points {
            application: "immich".into(),
            newest: Some(NOW),
            interval: Some(DAY),
            scheduled_since: Some(NOW - 40 * DAY),
            ..Points::default()
        };
        State { points: vec![points], drills, ..well() }
    }

    fn drill(level: u8, days: i64, ok: bool) -> Drill {
        Drill { copy: "library".into(), level, at: NOW - days * DAY, ok, why: String::new() }
    }

    #[test]
    fn a_drill_that_read_everything_holds_for_thirty_five_days() {
        assert!(ids(&state(vec![drill(1, 34, true), drill(0, 1, true)])).is_empty());
        assert_eq!(ids(&state(vec![drill(2, 36, true), drill(0, 1, true)])), ["drill-old"]);
        assert_eq!(ids(&state(Vec::new())), ["drill-old"], "never, in forty days");
        let mut young = state(Vec::new());
        young.points[0].scheduled_since = Some(NOW - DAY);
        assert!(ids(&young).is_empty());
        assert!(ids(&State { points: Vec::new(), ..state(Vec::new()) }).is_empty(), "nothing to try");
    }

    #[test]
    fn a_failed_drill_is_answered_by_a_good_one_that_tries_as_much_and_by_no_other() {
        let failed = ["drill-failed:library"];
        assert_eq!(ids(&state(vec![drill(1, 5, true), drill(0, 1, false)])), failed);
        assert!(ids(&state(vec![drill(1, 5, false), drill(1, 1, true)])).is_empty());
        assert!(ids(&state(vec![drill(0, 5, false), drill(1, 1, true)])).is_empty(), "a higher level tries more");
        let nightly = |level| state(vec![drill(1, 9, true), drill(level, 5, false), drill(0, 1, true)]);
        assert_eq!(
            (ids(&nightly(1)), ids(&nightly(2))),
            (failed.map(String::from).into(), failed.map(String::from).into())
        );
        let weekly = state(vec![drill(2, 5, false), drill(1, 1, true)]);
        assert_eq!(ids(&weekly), failed, "the database was not restored");
        let shown = score(&weekly, &Limits::default());
        assert!(!shown.digits[4].met && shown.digits[4].why.contains("level 2"), "{shown:?}");
        let both = vec![drill(1, 5, false), drill(2, 9, false), drill(0, 1, false), drill(1, 20, true)];
        let told = crate::findings::findings(&state(both), &Limits::default());
        assert!(told.len() == 1 && told[0].next[1].contains("--level 2"), "one answers all three: {told:?}");
        let mut other = state(vec![drill(1, 5, false), drill(2, 1, true)]);
        other.drills[1].copy = "far".into();
        assert_eq!(ids(&other), failed, "another copy answers nothing");
    }
}
