//! States of the library: the newest, and those of snapshots.
//! ```text
//!     root ─▶ records ─▶ the log's changes over them, as far as it goes or up to the snapshot
//! ```
//! First a state is looked for that hangs together: the newest root that can be read whole, from which the log goes on
//! without a gap. Where there is none, the newest root that can be read in part, older roots filling its gaps.

use std::collections::BTreeMap;

use bytes::Bytes;
use haven_format::{
    claim::Claim,
    layout,
    record::{self, Key, Snapshot},
    root::{Root, ShardRef},
};
use prost::Message;

use crate::{Library, RescueError};

/// Records by key.
pub type Records = BTreeMap<Key, Bytes>;

/// A state of the library.
#[derive(Debug, Default)]
pub struct State {
    pub records: Records,
    /// The last transaction in it.
    pub tx: u64,
    /// The root it begins with.
    pub root: Option<String>,
    /// What it took from the log, in order.
    pub segments: Vec<String>,
}

/// The snapshots in a state, oldest first, by their names.
pub fn snapshots(records: &Records) -> Vec<(String, Snapshot)> {
    let read = |(key, value): (&Key, &Bytes)| {
        let name = String::from_utf8_lossy(record::key_snapshot(key)?).into_owned();
        Some((name, Snapshot::decode(value.clone()).ok()?))
    };
    let mut found: Vec<_> = records.range(record::snapshots()).filter_map(read).collect();
    found.sort_by_key(|(_, snapshot)| snapshot.seq);
    found
}

impl Library {
    /// The newest state.
    pub async fn newest(&mut self) -> Result<State, RescueError> {
        self.state(u64::MAX, None).await
    }

    /// The state that a snapshot holds. Chunks of its files are looked up in the newest state.
    pub async fn past(&mut self, snapshot: &Snapshot) -> Result<State, RescueError> {
        let state = self.state(snapshot.seq, Some(&snapshot.root).filter(|name| !name.is_empty())).await?;
        if state.tx != snapshot.seq {
            let (seq, reached) = (snapshot.seq, state.tx);
            self.tell(format!("the snapshot's state, after change {seq}, can't be reached: this is after {reached}"));
        }
        Ok(state)
    }

    /// The state after the transaction `limit`, or the newest before it. `known` is where it is said to be.
    async fn state(&mut self, limit: u64, known: Option<&String>) -> Result<State, RescueError> {
        let mut names = self.names(layout::ROOTS).await?;
        names.retain(|name| layout::parse_root(name).is_some());
        names.sort_by_key(|name| (Some(name) != known, std::cmp::Reverse(layout::parse_root(name))));
        let (mut found, mut roots) = (None, Vec::new());
        for name in names {
            let root = match self.root(&name).await {
                Ok(root) if root.tx > limit => continue,
                Ok(root) => root,
                Err(error) => {
                    self.tell(format!("root: {error}"));
                    continue;
                }
            };
            let whole = self.whole(&root).await;
            roots.push((name.clone(), root));
            match whole {
                Ok(records) => {
                    found = Some(State { records, root: Some(name), ..State::default() });
                    break;
                }
                Err(error) => self.tell(format!("root {name}: {error}")),
            }
        }
        let (mut state, mut lsn) = (State::default(), 0);
        if let (Some(found), Some((_, root))) = (found, roots.last()) {
            (state, lsn) = (State { tx: root.tx, ..found }, root.lsn);
        }
        let (state, hangs_together) = self.follow(state, lsn, limit).await?;
        let newest = roots.iter().map(|(_, root)| root.tx).max();
        if hangs_together || newest.is_some_and(|newest| newest <= state.tx) {
            return Ok(state);
        }
        self.pieces(roots, limit).await
    }

    /// All records of a root.
    async fn whole(&mut self, root: &Root) -> Result<Records, RescueError> {
        let history = self.history().await?;
        if history.get(&root.lsn).is_some_and(|segment| *segment != root.segment) {
            return Err(RescueError::Changed { name: root.segment.clone() });
        }
        let mut records = Records::new();
        // Oldest first, so that newer runs go over them.
        for reference in root.runs.iter().rev().flat_map(|run| &run.shards) {
            self.overlay(&mut records, reference).await?;
        }
        Ok(records)
    }

    async fn overlay(&self, records: &mut Records, reference: &ShardRef) -> Result<(), RescueError> {
        for (key, value) in self.shard(reference).await? {
            match value {
                Some(value) => _ = records.insert(key, value),
                None => _ = records.remove(&key),
            }
        }
        Ok(())
    }

    /// What can be read of the newest of `roots` and the log after it. Ranges of keys that are lost are filled from the
    /// roots before it: older, and better than nothing. Without any root, what the log still says.
    async fn pieces(&mut self, mut roots: Vec<(String, Root)>, limit: u64) -> Result<State, RescueError> {
        roots.sort_by_key(|(_, root)| root.tx);
        let mut state = State::default();
        let mut lsn = 0;
        for (name, root) in roots {
            let before = std::mem::take(&mut state.records);
            let mut lost = Vec::new();
            for reference in root.runs.iter().rev().flat_map(|run| &run.shards) {
                if let Err(error) = self.overlay(&mut state.records, reference).await {
                    self.tell(format!("root {name} is read in part: {error}"));
                    lost.push(reference.first.clone()..=reference.last.clone());
                }
            }
            for (key, value) in before {
                if lost.iter().any(|range| range.contains(&key)) {
                    state.records.entry(key).or_insert(value);
                }
            }
            (state.tx, state.root, lsn) = (root.tx, Some(name), root.lsn);
        }
        if state.root.is_none() {
            let history = self.history().await?;
            for name in history.values() {
                if let Some((first, _)) = self.segment(name).await.ok().and_then(|(segment, _)| segment.seqs()) {
                    self.tell(format!("no root can be read: what was changed before change {first} is lost"));
                    (state.tx, lsn) = (first.0 - 1, segment_before(name));
                    break;
                }
            }
        }
        Ok(self.follow(state, lsn, limit).await?.0)
    }

    /// Applies the log after position `lsn`; whether it goes on without a gap to its end, or to `limit`.
    async fn follow(&mut self, mut state: State, lsn: u64, limit: u64) -> Result<(State, bool), RescueError> {
        for (_, name) in self.history().await?.range(lsn + 1..) {
            if state.tx == limit {
                break;
            }
            let segment = match self.segment(name).await {
                Ok((segment, _)) => segment,
                Err(error) => {
                    self.tell(format!("the log ends before {error}"));
                    return Ok((state, false));
                }
            };
            if segment.txs.first().is_some_and(|tx| tx.seq > state.tx + 1) {
                let from = state.tx;
                self.tell(format!("the log ends before {name}: changes between {from} and it are missing"));
                return Ok((state, false));
            }
            for pack in segment.pack_ids().unwrap_or_default() {
                if !self.has(&layout::pack(pack)).await? {
                    let (pack, before) = (layout::pack(pack), state.tx);
                    self.tell(format!(
                        "{name} needs {pack}, which is not there: what is in it is damaged. (If this is a copy made in \
                         the wrong order: it is whole up to change {before}.)"
                    ));
                }
            }
            for tx in segment.txs.into_iter().filter(|tx| tx.seq <= limit) {
                if tx.seq <= state.tx {
                    continue;
                }
                state.tx = tx.seq;
                for op in tx.ops {
                    match op.value {
                        Some(value) => _ = state.records.insert(op.key, value),
                        None => _ = state.records.remove(&op.key),
                    }
                }
            }
            state.segments.push(name.clone());
        }
        let reached = limit == u64::MAX || state.tx == limit;
        Ok((state, reached))
    }

    /// The tip of the log and what it follows, by position. Where the tip can't be read, the next best.
    pub(crate) async fn history(&mut self) -> Result<BTreeMap<u64, String>, RescueError> {
        if self.history.is_none() {
            self.history = Some(self.find_history().await?);
        }
        Ok(self.history.clone().unwrap_or_default())
    }

    async fn find_history(&mut self) -> Result<BTreeMap<u64, String>, RescueError> {
        let names = self.names(layout::SEGMENTS).await?;
        let mut tips: Vec<_> = names
            .iter()
            .filter_map(|name| layout::parse_segment(name).map(|(lsn, epoch, _)| (epoch.0, lsn.0, name)))
            .collect();
        tips.sort_unstable();
        // Where a writer's segments can't be read, its claim tells which of those before are history.
        let mut unread: Option<(u64, u64)> = None;
        for (epoch, lsn, tip) in tips.into_iter().rev() {
            if let Some((newer, upto)) = unread
                && epoch < newer
                && lsn > upto
            {
                continue;
            }
            match self.chain(tip, lsn, &names).await {
                Ok(chain) => return Ok(chain),
                Err(error) => {
                    self.tell(error.to_string());
                    unread = Some((epoch, self.begins_after(epoch).await?));
                }
            }
        }
        Ok(BTreeMap::new())
    }

    /// `tip` and all before it. Fails if the tip itself can't be read.
    async fn chain(&mut self, tip: &str, lsn: u64, names: &[String]) -> Result<BTreeMap<u64, String>, RescueError> {
        let mut chain = BTreeMap::from([(lsn, tip.to_owned())]);
        let (segment, _) = self.segment(tip).await?;
        let mut follows = (segment.previous, segment.previous_hash);
        while let Some((lsn, ..)) = layout::parse_segment(&follows.0) {
            chain.insert(lsn.0, follows.0.clone());
            match self.segment(&follows.0).await {
                Ok((_, hash)) if hash != follows.1 => {
                    self.tell(RescueError::Changed { name: follows.0 }.to_string());
                    break;
                }
                Ok((segment, _)) => follows = (segment.previous, segment.previous_hash),
                // Older than the oldest root, and removed; or damaged, and perhaps in a root already.
                Err(error) => {
                    if names.contains(&follows.0) {
                        self.tell(error.to_string());
                    }
                    break;
                }
            }
        }
        Ok(chain)
    }

    /// The position that the writer of this epoch went on from: the last one, where its claim can't be read.
    async fn begins_after(&self, epoch: u64) -> Result<u64, RescueError> {
        let mut after = None;
        for name in self.names(layout::CLAIMS).await? {
            if layout::parse_claim(&name).is_some_and(|(claimed, _)| claimed.0 == epoch)
                && let Ok(claim) = Claim::open(self.keys(), &name, &self.get(&name).await?)
            {
                after = after.max(Some(claim.lsn));
            }
        }
        Ok(after.unwrap_or(u64::MAX))
    }
}

fn segment_before(name: &str) -> u64 {
    layout::parse_segment(name).map_or(0, |(lsn, ..)| lsn.0.saturating_sub(1))
}
