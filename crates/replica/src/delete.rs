//! Deletions follow the library's own: its records say, sealed with its key, what it has deleted and when.
//!
//! They come later here, by the replica's own grace time, and never many in one day unless somebody lets them: what
//! looks like ransomware or a slip stops, and waits. Nothing is ever deleted because a listing lacks it.

use std::collections::{BTreeSet, HashSet, VecDeque};

use haven_format::{Lsn, layout};
use haven_store::{Advice, StoreError};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    Replicator, Side, Summary,
    error::{At, Result},
    lease,
    names::{Kind, object},
    needs::Needed,
    records::Records,
    run::Run,
    state::{Reader, State},
};

/// Deletions in flight at once.
const DELETES: usize = 16;
const DAY: i64 = 86_400;

/// What was deleted, and what will be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Deletions {
    /// Deleted in this run; or, of a dry run, due.
    pub objects: u64,
    pub bytes: u64,
    /// Deleted in the library, and kept here until the grace time is over or the brake is released.
    pub waiting_objects: u64,
    pub waiting_bytes: u64,
}

/// Objects that may go now, in the order in which they do.
#[derive(Debug, Default)]
struct Due {
    roots: Vec<(String, u64)>,
    segments: Vec<(String, u64)>,
    rest: Vec<(String, u64)>,
    waiting: (u64, u64),
    /// What goes, or went within the last day, and whose content is nowhere else: when it was due, and its bytes.
    losses: Vec<(i64, u64)>,
    /// Of those, the bytes that are no longer here.
    gone_already: u64,
}

impl Due {
    fn sum(&self) -> (u64, u64) {
        let all = || self.roots.iter().chain(&self.segments).chain(&self.rest);
        (all().count() as u64, all().map(|(_, bytes)| bytes).sum())
    }

    fn spare(&mut self, kept: &BTreeSet<String>) {
        for list in [&mut self.roots, &mut self.segments, &mut self.rest] {
            list.retain(|(name, _)| !kept.contains(name));
        }
    }

    /// The most bytes that are lost within one day. Deletions that were put off together count by when they were due.
    fn in_a_day(&self) -> u64 {
        let mut losses = self.losses.clone();
        losses.sort_unstable();
        let mut day: VecDeque<(i64, u64)> = VecDeque::new();
        let (mut sum, mut most) = (0, 0);
        for (when, bytes) in losses {
            day.push_back((when, bytes));
            sum += bytes;
            while day.front().is_some_and(|(first, _)| when - first >= DAY) {
                sum -= day.pop_front().map_or(0, |(_, bytes)| bytes);
            }
            most = most.max(sum);
        }
        most
    }
}

impl Replicator {
    /// Deletes what is due in the state whose records are given. `needed` is what that state needs.
    pub(crate) async fn delete_due(
        &mut self,
        state: &State,
        records: &Records,
        needed: &Needed,
        run: Run,
        summary: &mut Summary,
    ) -> Result<()> {
        let mut due = self.due(records);
        self.add_segments(&mut due, records, state).await?;
        (summary.deletions.waiting_objects, summary.deletions.waiting_bytes) = due.waiting;
        if due.sum().0 == 0 {
            return Ok(());
        }
        let Some(kept) = self.kept(state, needed).await? else {
            summary.warnings.push("nothing is deleted: a reader's lease names a state that can't be read".into());
            return Ok(());
        };
        due.spare(&kept);
        let (objects, bytes) = due.sum();
        if self.brake(&due, run) {
            summary.deletions.waiting_objects += objects;
            summary.deletions.waiting_bytes += bytes;
            return Ok(());
        }
        if run.dry_run {
            (summary.deletions.objects, summary.deletions.bytes) = (objects, bytes);
            return Ok(());
        }
        self.delete(std::mem::take(&mut due.roots), summary).await?;
        // With old roots gone, more of the log is of no use.
        self.add_segments(&mut due, records, state).await?;
        due.spare(&kept);
        self.delete(due.segments, summary).await?;
        self.delete(due.rest, summary).await?;
        if let Some(why) = &self.may_not_delete {
            summary.warnings.push(format!("what is due stays: these credentials may not delete ({why})"));
        }
        Ok(())
    }

    fn due(&self, records: &Records) -> Due {
        let now = self.world.now().seconds;
        let grace = i64::try_from(self.options.grace.as_secs()).unwrap_or(i64::MAX);
        let released = self.chart.released.map_or(i64::MIN, |time| time.seconds);
        let mut due = Due::default();
        self.carrier.inventory(|inventory| {
            let single = |name: &str| matches!(Kind::of(name), Some(Kind::Root | Kind::Shard | Kind::Pack));
            for (name, dead) in records.dead().filter(|(name, dead)| dead.gone != 0 && single(name)) {
                let when = dead.gone.saturating_add(grace);
                let there = inventory.get(name);
                if let Some(bytes) = there {
                    if when > now {
                        due.waiting = (due.waiting.0 + 1, due.waiting.1 + bytes);
                        continue;
                    }
                    let list = if Kind::of(name) == Some(Kind::Root) { &mut due.roots } else { &mut due.rest };
                    list.push((name.to_owned(), bytes));
                }
                let recently = when > now - DAY && when <= now && when > released;
                match there {
                    // Metadata is written anew all the time; what is in packs is not, but for what was moved.
                    _ if Kind::of(name) != Some(Kind::Pack) => {}
                    Some(bytes) => due.losses.push((when, dead.loss(bytes))),
                    None if recently => {
                        due.losses.push((when, dead.loss(dead.bytes)));
                        due.gone_already += dead.loss(dead.bytes);
                    }
                    None => {}
                }
            }
        });
        due
    }

    /// Segments below this position are needed neither by the library nor by the roots that are still here.
    async fn log_below(&self, records: &Records) -> Result<Lsn> {
        let log = records.dead().find(|(name, _)| *name == layout::SEGMENTS).map(|(_, dead)| dead);
        let Some(below) = log.filter(|dead| dead.gone != 0).map(|dead| Lsn(dead.below)) else { return Ok(Lsn(0)) };
        let snapshots: HashSet<String> = records.snapshots().map(|snapshot| snapshot.root).collect();
        let oldest = self.carrier.inventory(|inventory| {
            let kept = inventory.below(layout::ROOTS).filter(|name| !snapshots.contains(*name));
            kept.filter(|name| layout::parse_root(name).is_some()).last().map(str::to_owned)
        });
        let Some(oldest) = oldest else { return Ok(Lsn(0)) };
        let replica = Reader::new(self.replica.clone(), Side::Replica, &self.keys);
        // Kept as long as any root before which the log would be of use.
        let lsn = replica.bare_root(&oldest).await?.map_or(Lsn(0), |(root, _)| Lsn(root.lsn));
        Ok(below.min(lsn.next()))
    }

    async fn add_segments(&self, due: &mut Due, records: &Records, state: &State) -> Result<()> {
        let below = self.log_below(records).await?;
        let links: HashSet<&str> = state.links.iter().map(|link| link.name.as_str()).collect();
        due.segments = self.carrier.inventory(|inventory| {
            let old = |name: &&str| layout::parse_segment(name).is_some_and(|(lsn, ..)| lsn < below);
            let names = inventory.below(layout::SEGMENTS).filter(old).filter(|name| !links.contains(name));
            names.map(|name| (name.to_owned(), inventory.get(name).unwrap_or(0))).collect()
        });
        Ok(())
    }

    /// What stays whatever records say: all that the newest state, its snapshots, and readers' leases here need. `None`
    /// where a lease's state can't be told.
    async fn kept(&mut self, state: &State, needed: &Needed) -> Result<Option<BTreeSet<String>>> {
        let mut kept: BTreeSet<String> = needed.shards.keys().chain(needed.roots.keys()).cloned().collect();
        kept.extend(state.root.iter().map(|root| root.name.clone()));
        kept.extend(state.records().packs().map(|(id, _)| layout::pack(id)));
        kept.extend(state.links.iter().flat_map(|link| &link.packs).map(|id| layout::pack(*id)));
        let now = self.world.now().seconds;
        let (roots, all) =
            lease::leased(&self.replica, &self.keys, now).await.at(Side::Replica, "the list of leases can't be had")?;
        if !all {
            return Ok(None);
        }
        let mut replica = Reader::new(self.replica.clone(), Side::Replica, &self.keys);
        for name in roots {
            let Ok(root) = replica.root(&name).await? else { return Ok(None) };
            kept.extend(root.shards().filter_map(|shard| shard.shard_id().ok()).map(layout::shard));
            kept.extend(root.records.packs().map(|(id, _)| layout::pack(id)));
            kept.insert(name);
            self.keep_log_after(Lsn(root.root.lsn), &mut kept);
        }
        Ok(Some(kept))
    }

    fn keep_log_after(&self, lsn: Lsn, kept: &mut BTreeSet<String>) {
        self.carrier.inventory(|inventory| {
            let after = |name: &&str| layout::parse_segment(name).is_some_and(|(other, ..)| other > lsn);
            kept.extend(inventory.below(layout::SEGMENTS).filter(after).map(str::to_owned));
        });
    }

    /// Whether deletions are held back. Puts the brake on, or takes it off where that is asked for.
    fn brake(&mut self, due: &Due, run: Run) -> bool {
        if run.release_brake {
            if !run.dry_run {
                self.chart.brake = String::new();
                self.chart.released = Some(self.world.now());
            }
            return false;
        }
        if !self.chart.brake.is_empty() {
            return true;
        }
        let total = self.carrier.inventory(|inventory| inventory.bytes()) + due.gone_already;
        let going = due.in_a_day();
        let allowed = ((total as f64 * self.options.brake) as u64).max(self.options.brake_floor);
        if going <= allowed {
            return false;
        }
        self.chart.brake = format!("{going} of {total} bytes would go within a day, and {allowed} may");
        true
    }

    async fn delete(&mut self, mut list: Vec<(String, u64)>, summary: &mut Summary) -> Result<()> {
        let mut under_way: JoinSet<(String, u64, Result<(), StoreError>)> = JoinSet::new();
        loop {
            while under_way.len() < DELETES && self.may_not_delete.is_none() {
                let Some((name, bytes)) = list.pop() else { break };
                let replica = self.replica.clone();
                under_way.spawn(async move {
                    let done = replica.delete(&object(&name)).await;
                    (name, bytes, done)
                });
            }
            let Some(done) = under_way.join_next().await else { return Ok(()) };
            let Ok((name, bytes, done)) = done else { continue };
            match done {
                Ok(()) => {
                    self.carrier.inventory(|inventory| inventory.remove(&name));
                    summary.deletions.objects += 1;
                    summary.deletions.bytes += bytes;
                }
                Err(error) if error.advice() == Advice::Setting => self.may_not_delete = Some(error.to_string()),
                Err(error) => return Err(error).at(Side::Replica, format!("{name} can't be deleted")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_within_any_one_day_is_counted_together() {
        let hour = 3600;
        let losses = vec![(0, 5), (30 * hour, 1), (2 * hour, 5), (40 * hour, 1), (23 * hour, 5), (31 * hour, 7)];
        assert_eq!(Due { losses, ..Due::default() }.in_a_day(), 15);
        assert_eq!(Due::default().in_a_day(), 0);
    }
}
