//! Which photos lie in one stack, and which of them on top: edited copies on their originals, the covers of bursts, JPEGs on
//! their raw files.
//!
//! An asset stands in one stack. So a photo that is edited, has a raw file and is one of a burst brings all of those into one:
//! what is on something and what is below it are joined until nothing more is.

use std::collections::{BTreeMap, HashMap};

use haven_takeout::series::{in_burst, of_raw};
use rusqlite::{Transaction, params};

use crate::options::Stacks;

/// What lies higher has a lower rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Edited = 0,
    Cover = 1,
    Plain = 2,
    Raw = 3,
}

/// Gathers what belongs together, directory by directory.
#[derive(Debug, Default)]
pub struct Piles {
    /// Of each content another one of its pile, or itself; and its rank.
    members: BTreeMap<i64, (i64, Rank)>,
}

impl Piles {
    /// A directory's plain photos: their names and contents.
    pub fn directory<'a>(&mut self, wanted: Stacks, photos: impl Iterator<Item = (&'a str, i64)>) {
        let mut bursts: HashMap<String, Vec<(i64, bool)>> = HashMap::new();
        let mut shots: HashMap<String, Vec<(i64, bool)>> = HashMap::new();
        for (name, content) in photos {
            if let Some(found) = in_burst(name).filter(|_| wanted.burst) {
                bursts.entry(found.burst).or_default().push((content, found.cover));
            }
            if let Some(found) = of_raw(name).filter(|_| wanted.raw) {
                shots.entry(found.shot).or_default().push((content, found.raw));
            }
        }
        for burst in bursts.into_values() {
            let all = burst.iter().map(|(content, cover)| (*content, if *cover { Rank::Cover } else { Rank::Plain }));
            self.join(all);
        }
        for shot in shots.into_values() {
            let jpegs = shot.iter().filter(|(_, raw)| !raw).count();
            // Of two JPEGs of one stem nobody knows whose the raw file is.
            if jpegs == 1 && shot.len() > 1 {
                self.join(shot.iter().map(|(content, raw)| (*content, if *raw { Rank::Raw } else { Rank::Plain })));
            }
        }
    }

    /// An edited copy and its original.
    pub fn edited(&mut self, top: i64, below: i64) {
        self.join([(top, Rank::Edited), (below, Rank::Plain)].into_iter());
    }

    fn join(&mut self, all: impl Iterator<Item = (i64, Rank)>) {
        let mut first = None;
        for (content, rank) in all {
            let known = self.members.entry(content).or_insert((content, rank));
            // Below everything is a raw file; above, what lies highest anywhere.
            known.1 = if rank == Rank::Raw { Rank::Raw } else { known.1.min(rank) };
            let (root, other) = (self.root(content), *first.get_or_insert(content));
            let other = self.root(other);
            if let Some(member) = self.members.get_mut(&root.max(other)) {
                member.0 = root.min(other);
            }
        }
    }

    fn root(&self, mut content: i64) -> i64 {
        while let Some((next, _)) = self.members.get(&content).filter(|(next, _)| *next != content) {
            content = *next;
        }
        content
    }

    /// Writes them down; what became of members of an earlier plan stays.
    pub fn write(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut sizes: HashMap<i64, usize> = HashMap::new();
        for content in self.members.keys() {
            *sizes.entry(self.root(*content)).or_default() += 1;
        }
        let mut insert = tx.prepare(
            "INSERT INTO stack(content, pile, rank) VALUES(?1, ?2, ?3)
             ON CONFLICT(content) DO UPDATE SET pile = excluded.pile, rank = excluded.rank",
        )?;
        for (content, (_, rank)) in &self.members {
            let pile = self.root(*content);
            if sizes[&pile] > 1 {
                insert.execute(params![content, pile, *rank as i64])?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Stacks = Stacks { edited: true, burst: true, raw: true };

    /// Piles as lists, the top first.
    fn lists(piles: &Piles) -> Vec<Vec<i64>> {
        let mut lists: BTreeMap<i64, Vec<(Rank, i64)>> = BTreeMap::new();
        for (content, (_, rank)) in &piles.members {
            lists.entry(piles.root(*content)).or_default().push((*rank, *content));
        }
        let sorted = lists.into_values().filter(|list| list.len() > 1).map(|mut list| {
            list.sort();
            list.into_iter().map(|(_, content)| content).collect()
        });
        sorted.collect()
    }

    #[test]
    fn what_belongs_together_is_one_pile_with_the_right_one_on_top() {
        let mut piles = Piles::default();
        let photos = [
            ("00001IMG_00001_BURST20190518123000123.jpg", 1),
            ("00002IMG_00002_BURST20190518123000123_COVER.jpg", 2),
            ("00003IMG_00003_BURST20190518123000123.jpg", 3),
            ("00003IMG_00003_BURST20190518123000123.dng", 4),
            ("DSC_1.NEF", 5),
            ("DSC_1.JPG", 6),
            ("DSC_2.NEF", 7),
            ("DSC_3.jpg", 8),
            ("DSC_3.jpeg", 9),
            ("DSC_3.NEF", 10),
            ("alone_BURST20190518123000999.jpg", 11),
        ];
        piles.directory(ALL, photos.into_iter());
        piles.edited(20, 6);
        piles.edited(21, 22);
        assert_eq!(lists(&piles), [vec![2, 1, 3, 4], vec![20, 6, 5], vec![21, 22]]);
        // The same in an album's folder is the same.
        piles.directory(ALL, photos.into_iter());
        assert_eq!(lists(&piles).len(), 3);
        let mut none = Piles::default();
        none.directory(Stacks::default(), photos.into_iter());
        assert_eq!(lists(&none), Vec::<Vec<i64>>::new());
    }
}
