//! From memory into the vault: written bytes become chunks, and extents that refer to them.
//!
//! Content gets the same cuts however it was written, as long as it was written in one go: the end of a file that may
//! still grow stays in memory even when it has been stored for safety, and is cut once more when the file is closed.

use std::borrow::Cow;

use bytes::Bytes;
use haven_format::{
    chunk::{self, WHOLE_MAX},
    record::Extent,
};
use parking_lot::RwLockUpgradableReadGuard;

use super::{Edit, extents, runs::Run};
use crate::{
    Fs, Result,
    content::runs::Group,
    handle::{Node, State},
};

/// What becomes of the bytes in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// They are stored, and the end of the file stays in memory too: it is likely to grow.
    Keep,
    /// They are stored and dropped.
    Drop,
    /// Of the only run there is, which begins here, whole chunks are stored and dropped; its end stays as it is.
    Ahead(u64),
}

/// What happens to one group of runs.
struct Plan {
    group: Group,
    /// From here on it is stored (file offset).
    from: u64,
    /// Up to here.
    to: u64,
    extents: Vec<(u64, Extent)>,
}

impl Fs {
    /// Stores what is in memory of `node`. On an error nothing has changed.
    pub(crate) fn store(&self, node: &Node, how: How) -> Result<()> {
        let state = node.state.upgradable_read();
        if !state.changed && (how == How::Keep || state.runs.is_empty()) {
            return Ok(());
        }
        // Readers go on while chunks are made; writers of this file wait.
        let plans = self.plan(node, &state, how)?;
        if matches!(how, How::Ahead(_)) && plans.iter().all(|plan| plan.extents.is_empty()) {
            return Ok(());
        }
        let mut state = RwLockUpgradableReadGuard::upgrade(state);
        if state.changed || plans.iter().any(|plan| !plan.extents.is_empty()) {
            self.commit_content(node, &state, &plans, how)?;
        }
        settle_runs(&mut state, plans, how);
        if !matches!(how, How::Ahead(_)) {
            (state.size, state.mtime, state.ctime, state.changed) = (None, None, None, false);
        }
        self.count(node, &mut state);
        Ok(())
    }

    fn plan(&self, node: &Node, state: &State, how: How) -> Result<Vec<Plan>> {
        let size = state.size.unwrap_or(0);
        let mut plans = Vec::new();
        for group in state.runs.groups() {
            let tail = group.range.end >= size;
            let plan = match how {
                How::Ahead(start) if group.range.contains(&start) => self.plan_ahead(state, group, start)?,
                How::Ahead(_) => continue,
                How::Keep if tail => self.plan_tail(state, group)?,
                _ => self.plan_all(node, state, group)?,
            };
            plans.push(plan);
        }
        Ok(plans)
    }

    /// All whole chunks of one run that goes on; the end that may still change is left.
    fn plan_ahead(&self, state: &State, group: Group, start: u64) -> Result<Plan> {
        let data = state.runs.get(start).map_or(&[][..], |run| &run.data);
        let mut plan = Plan { group, from: start, to: start, extents: Vec::new() };
        self.put_all(&mut plan, start, data, false)?;
        plan.group.runs = vec![start];
        Ok(plan)
    }

    /// The end of a file, which stays in memory: either all of it again in one piece, or, as long as little was
    /// added since that was last done, only what was added.
    fn plan_tail(&self, state: &State, group: Group) -> Result<Plan> {
        let (clean, whole) = match group.runs[..] {
            [start] => state.runs.get(start).map_or((0, 0), |run| (run.clean, run.whole)),
            _ => (0, 0),
        };
        let data = gather(state, &group);
        if clean == data.len() {
            let to = group.range.end;
            return Ok(Plan { group, from: to, to, extents: Vec::new() });
        }
        let skip = if clean > 0 && data.len() < 2 * whole { clean } else { 0 };
        let from = group.range.start + skip as u64;
        let mut plan = Plan { group, from, to: from, extents: Vec::new() };
        self.put_all(&mut plan, from, &data[skip..], true)?;
        Ok(plan)
    }

    /// A whole group, together with small neighbours.
    fn plan_all(&self, node: &Node, state: &State, group: Group) -> Result<Plan> {
        let stored = match group.runs[..] {
            [start] => state.runs.get(start).is_some_and(|run| run.whole == run.data.len()),
            _ => false,
        };
        let data = gather(state, &group);
        let length = data.len();
        let (from, data) = self.with_neighbours(node, state, &group, data);
        if stored && data.len() == length {
            let to = group.range.end;
            return Ok(Plan { group, from: to, to, extents: Vec::new() });
        }
        let mut plan = Plan { group, from, to: from, extents: Vec::new() };
        self.put_all(&mut plan, from, &data, true)?;
        Ok(plan)
    }

    fn put_all(&self, plan: &mut Plan, offset: u64, data: &[u8], last: bool) -> Result<()> {
        let mut at = 0;
        let mut rest = data;
        let mut take = |len| rest.split_off(..len).expect("cuts lie within the data");
        let chunks: Vec<&[u8]> = chunk::cut(data, offset == 0, last).into_iter().map(&mut take).collect();
        for ((id, place), len) in self.vault.put_all(&chunks)?.into_iter().zip(chunks.iter().map(|chunk| chunk.len())) {
            let chunk = Bytes::copy_from_slice(&id.0);
            let extent = Extent { len: len as u64, chunk, skip: 0, place: Some(place) };
            plan.extents.push((offset + at as u64, extent));
            at += len;
        }
        plan.to = offset + at as u64;
        Ok(())
    }

    /// Takes extents right before and after in, as long as none is much longer than what there is already: many
    /// small writes thus leave few extents, at the cost of writing each byte a logarithmic number of times.
    /// Only what is at hand is taken.
    fn with_neighbours<'a>(
        &self,
        node: &Node,
        state: &State,
        group: &Group,
        mut data: Cow<'a, [u8]>,
    ) -> (u64, Cow<'a, [u8]>) {
        let view = self.vault.live();
        let (mut from, mut to) = (group.range.start, group.range.end);
        let alone = |range: std::ops::Range<u64>| state.runs.overlapping(range).next().is_none();
        let fits = |extent: &Extent, have: usize| {
            extent.chunk_id().is_some() && extent.len <= 2 * have as u64 && have as u64 + extent.len <= WHOLE_MAX as u64
        };
        while let Ok(Some((offset, extent))) = extents::last_before(&view, node.ino, from)
            && offset + extent.len == from
            && fits(&extent, data.len())
            && alone(offset..from)
            && let Ok(bytes) = self.load(&extent)
        {
            data.to_mut().splice(..0, bytes.iter().copied());
            from = offset;
        }
        while let Ok(Some((offset, extent))) = extents::next_extent(&view, node.ino, to)
            && offset == to
            && fits(&extent, data.len())
            && alone(to..to + extent.len)
            && let Ok(bytes) = self.load(&extent)
        {
            data.to_mut().extend_from_slice(&bytes);
            to += extent.len;
        }
        (from, data)
    }

    /// One commit: extents, size and times together.
    fn commit_content(&self, node: &Node, state: &State, plans: &[Plan], how: How) -> Result<()> {
        let _change = self.change.lock();
        let mut stage = self.stage();
        let view = stage.view.clone();
        let mut edit = Edit::new(&view, node.ino);
        for plan in plans {
            edit.clear(plan.from..plan.to)?;
            for (offset, extent) in &plan.extents {
                edit.set(*offset, extent.clone());
            }
        }
        edit.stage(&mut stage)?;
        let inode = stage.inode(node.ino)?;
        if let Some(size) = state.size {
            let stored = plans.iter().map(|plan| plan.to).max().unwrap_or(0);
            inode.size = if matches!(how, How::Ahead(_)) { inode.size.max(stored.min(size)) } else { size };
        }
        if let Some(mtime) = state.mtime {
            inode.mtime = mtime;
        }
        if let Some(ctime) = state.ctime {
            inode.ctime = inode.ctime.max(ctime);
        }
        self.commit(stage)?;
        Ok(())
    }
}

fn gather<'a>(state: &'a State, group: &Group) -> Cow<'a, [u8]> {
    let data = |start: &u64| state.runs.get(*start).map_or(&[][..], |run| &run.data);
    match &group.runs[..] {
        [start] => Cow::Borrowed(data(start)),
        starts => {
            let mut all = Vec::with_capacity((group.range.end - group.range.start) as usize);
            starts.iter().for_each(|start| all.extend_from_slice(data(start)));
            Cow::Owned(all)
        }
    }
}

/// What stays in memory once the plans are committed.
fn settle_runs(state: &mut State, plans: Vec<Plan>, how: How) {
    let size = state.size.unwrap_or(0);
    for plan in plans {
        let start = plan.group.range.start;
        match how {
            How::Ahead(start) => {
                if let Some(mut run) = state.runs.take(start) {
                    run.data.drain(..(plan.to - start) as usize);
                    state.runs.put(plan.to, Run { data: run.data, clean: 0, whole: 0 });
                }
            }
            How::Keep if plan.group.range.end >= size => {
                let mut taken = plan.group.runs.iter().filter_map(|start| state.runs.take(*start));
                let Some(mut run) = taken.next() else { continue };
                taken.for_each(|next| run.data.extend_from_slice(&next.data));
                run.clean = run.data.len();
                if plan.from == start {
                    run.whole = run.data.len();
                }
                state.runs.put(start, run);
            }
            _ => plan.group.runs.iter().for_each(|start| drop(state.runs.take(*start))),
        }
    }
}
