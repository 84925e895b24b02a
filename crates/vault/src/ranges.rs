//! Which byte ranges of something are there.

use std::{collections::BTreeMap, ops::Range};

/// Disjoint, non-adjacent ranges.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(crate) fn add(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        let touching: Vec<u64> =
            self.0.range(..=end).rev().take_while(|(_, e)| **e >= start).map(|(s, _)| *s).collect();
        for other in touching {
            let other_end = self.0.remove(&other).expect("just seen");
            start = start.min(other);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
    }

    pub(crate) fn covers(&self, range: &Range<u64>) -> bool {
        self.0.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }

    pub(crate) fn remove(&mut self, range: &Range<u64>) {
        let touching: Vec<(u64, u64)> =
            self.0.range(..range.end).rev().take_while(|(_, e)| **e > range.start).map(|(s, e)| (*s, *e)).collect();
        for (start, end) in touching {
            self.0.remove(&start);
            if start < range.start {
                self.0.insert(start, range.start);
            }
            if end > range.end {
                self.0.insert(range.end, end);
            }
        }
    }

    /// The parts of `range` that are missing, in order.
    pub(crate) fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut missing = Ranges::default();
        missing.add(range.clone());
        self.0.iter().for_each(|(start, end)| missing.remove(&(*start..*end)));
        missing.0.into_iter().map(|(start, end)| start..end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_split_and_tell_their_gaps() {
        let mut ranges = Ranges::default();
        ranges.add(10..20);
        ranges.add(30..40);
        ranges.add(20..25);
        assert!(ranges.covers(&(10..25)) && !ranges.covers(&(10..26)));
        assert_eq!(ranges.gaps(&(0..50)), [0..10, 25..30, 40..50]);
        ranges.remove(&(15..35));
        assert_eq!(ranges.gaps(&(10..45)), [15..35, 40..45]);
    }
}
