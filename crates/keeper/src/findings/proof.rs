//! Drills: whether it was proven that the photos come back, and how long ago.

use super::{Finding, Limits, long};
use crate::state::{Drill, Sight, State};

pub fn drills(state: &State, limits: &Limits) -> Vec<Finding> {
    if !state.has_points() {
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut copies: Vec<&str> = state.drills.iter().map(|drill| drill.copy.as_str()).collect();
    copies.sort_unstable();
    copies.dedup();
    for copy in copies {
        let newest = state.drills.iter().filter(|drill| drill.copy == copy).max_by_key(|drill| drill.at);
        if let Some(drill) = newest.filter(|drill| !drill.ok) {
            out.push(
                Finding::critical(
                    "drill-failed",
                    copy,
                    format!("the last drill of {copy} (level {}) failed: {}", drill.level, drill.why),
                )
                .means("not everything would come back from there; what is not named was proven")
                .next("haven drill list    shows the reports")
                .next(format!("haven drill --level {} --copy {copy}    after it was mended", drill.level)),
            );
        }
    }
    let thorough = |drill: &&Drill| drill.ok && drill.level >= 1;
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
    use super::super::tests::{DAY, NOW, ids, well};
    use crate::state::{Drill, Points, State};

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
    fn the_newest_drill_of_each_copy_counts() {
        assert_eq!(ids(&state(vec![drill(1, 5, true), drill(0, 1, false)])), ["drill-failed:library"]);
        assert!(ids(&state(vec![drill(1, 5, false), drill(1, 1, true)])).is_empty());
    }
}
