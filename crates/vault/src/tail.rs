//! What this machine has committed and the bucket does not have, from its journal and its staged packs.
//!
//! It is taken as far as its chunks are whole, and joined to what the bucket has only where that is its own beginning.

use std::collections::{HashMap, HashSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use haven_format::{
    PackId,
    pack::PackedChunk,
    record::{self, ChunkPlace, Tx},
};
use haven_store::StoreError;
use prost::Message;

use crate::{
    Result, VaultError,
    claim::object,
    journal::{Replay, Session, What},
    load::{self, Loaded},
    local,
    packs::{FinishedPack, Packs, Remembered},
    vault::Options,
    world::World,
};

/// What this machine has committed and the bucket does not have.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    pub(crate) txs: Vec<Tx>,
    /// Staged packs by what the whole journal says of them.
    packs: HashMap<PackId, Remembered>,
    /// Which change put which chunk, in order: change, pack, index among the pack's chunks.
    puts: Vec<(u64, PackId, usize)>,
    /// The last session, and the last segment it knew to be in the bucket.
    pub(crate) known: Session,
    /// All sessions, by epoch and nonce.
    sessions: HashSet<(u64, Vec<u8>)>,
    /// The newest change this machine has seen acknowledged.
    last_sent: u64,
}

impl Tail {
    pub(crate) fn read(replay: Replay) -> Result<Self> {
        let mut tail = Self::default();
        let mut next = None;
        let mut lost = false;
        // What a later run tells again. Until all of it is there, what stood before counts.
        let mut again: Option<(u64, Vec<Tx>)> = None;
        for record in replay.records {
            match &record {
                What::Session(session) if session.retold.is_some() => lost = false,
                // The end of a file was lost and the file after it was not: what comes now was never synced either.
                What::Tx(tx) => lost |= next.is_some_and(|next| tx.seq > next),
                _ => {}
            }
            match record {
                _ if lost => {}
                What::Session(session) => {
                    // Each file begins with it.
                    if tail.sessions.insert((session.epoch, session.nonce.clone())) {
                        next = None;
                        again = session.retold.map(|count| (count, Vec::new()));
                        tail.last_sent = tail.last_sent.max(session.tx);
                        tail.known = session;
                    }
                }
                What::Sent(sent) => {
                    tail.last_sent = tail.last_sent.max(sent.tx);
                    tail.known.segment = sent.segment;
                }
                What::Tx(tx) => {
                    next = Some(tx.seq + 1);
                    match &mut again {
                        Some((_, txs)) => txs.push(tx),
                        None => {
                            // A machine that went on after a torn tail writes the same numbers anew: the later ones count.
                            while tail.txs.last().is_some_and(|last| last.seq >= tx.seq) {
                                tail.txs.pop();
                            }
                            tail.txs.push(tx);
                        }
                    }
                }
                What::Tail(bytes) => {
                    if let Some(pack) = bytes.pack_id() {
                        tail.packs.entry(pack).or_default().tails.push(bytes);
                    }
                }
                What::Covered(covered) => {
                    if let Some(pack) = covered.pack_id() {
                        let known = &mut tail.packs.entry(pack).or_default().covered;
                        *known = covered.until.max(*known);
                    }
                }
            }
            if let Some((_, txs)) = again.take_if(|(count, txs)| txs.len() as u64 == *count) {
                tail.txs = txs;
            }
        }
        for tx in std::mem::take(&mut tail.txs) {
            tail.remember_puts(&tx)?;
            tail.txs.push(tx);
        }
        Ok(tail)
    }

    /// Whether what is unsent continues what the bucket has.
    pub(crate) fn check_joins(&self, loaded: &Loaded, options: &Options) -> Result<()> {
        let head = loaded.head.seq.0;
        if self.last_sent > head && !options.accept_rollback {
            return Err(VaultError::Refused(format!(
                "the store has gone back in time: this machine has seen change {} acknowledged, and the bucket ends with \
                 change {head}. Nothing was changed. Look for a restored or replaced bucket; to go on from the older state \
                 all the same, mount with --accept-rollback",
                self.last_sent
            )));
        }
        let ours = |segment: &str| {
            let writer = haven_format::layout::parse_segment(segment);
            writer.is_some_and(|(_, epoch, nonce)| self.sessions.contains(&(epoch.0, nonce.0.to_vec())))
        };
        // The same number may be another machine's change: what was not acknowledged must stand in a segment of ours. All of
        // it does where the newest is, for our sessions follow what others wrote.
        let landed = |seq: u64| loaded.ends.iter().find(|end| end.seq.0 >= seq).is_some_and(|end| ours(&end.segment));
        let fresh = |seq: &u64| *seq > head || *seq > self.last_sent && !landed(*seq);
        let fresh: Vec<u64> = self.txs.iter().map(|tx| tx.seq).filter(fresh).collect();
        let Some(first) = fresh.first() else { return Ok(()) };
        let continues = *first == head + 1 && fresh.windows(2).all(|pair| pair[1] == pair[0] + 1);
        if (ours(&loaded.head.segment) || self.known.segment == loaded.head.segment) && continues {
            return Ok(());
        }
        Err(VaultError::Diverged { changes: fresh.len() })
    }

    /// Packs with chunks of changes that this machine has not seen acknowledged.
    pub(crate) fn unsent_packs(&self) -> HashSet<PackId> {
        self.puts.iter().filter(|(seq, ..)| *seq > self.last_sent).map(|(_, pack, _)| *pack).collect()
    }

    fn remember_puts(&mut self, tx: &Tx) -> Result<()> {
        for op in &tx.ops {
            let Some((chunk, value)) = record::key_chunk(&op.key).zip(op.value.clone()) else { continue };
            let place = ChunkPlace::decode(value).map_err(|error| load::damaged("the journal", error))?;
            let pack = place.pack_id().map_err(|error| load::damaged("the journal", error))?;
            let known = self.packs.entry(pack).or_default();
            self.puts.push((tx.seq, pack, known.chunks.len()));
            known.chunks.push(PackedChunk {
                id: chunk.0.to_vec(),
                offset: place.offset,
                len: place.len,
                plain_len: place.plain_len,
            });
        }
        Ok(())
    }
}

/// Makes the staged packs whole again, and cuts the tail before the first change whose chunks are not there.
/// Also tells which packs of it the bucket has already: that they are on record may have been cut off.
pub(crate) async fn recover_staging(
    world: &World,
    packs: &Packs,
    mut tail: Tail,
    options: &Options,
) -> Result<(Tail, Vec<FinishedPack>)> {
    if options.salvage {
        return show_staging(world, packs, tail).await;
    }
    if options.read_only {
        return Ok((tail, Vec::new()));
    }
    let staged: HashSet<PackId> = packs.staged()?.into_iter().collect();
    let clean: HashSet<String> = world.disk.list("packs").map_err(local)?.into_iter().collect();
    let first_unsent = tail.txs.first().map_or(u64::MAX, |tx| tx.seq);
    let mut needed: HashMap<PackId, u64> = HashMap::new();
    for (seq, pack, _) in tail.puts.iter().filter(|(seq, ..)| *seq >= first_unsent) {
        needed.entry(*pack).or_insert(*seq);
    }
    // In a fixed order: a simulation must see the same requests each time.
    let mut ids: Vec<PackId> = staged.iter().chain(needed.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    // A pack that the bucket has is never sent again: what is left of it here may be torn.
    let in_bucket = found_in_bucket(world, &ids).await?;
    let mut recovered = Vec::new();
    let mut cut = u64::MAX;
    for id in ids {
        if in_bucket.contains_key(&id) {
            if staged.contains(&id) {
                packs.discard_staged(id)?;
            }
            continue;
        }
        if !staged.contains(&id) && clean.contains(&id.to_string()) {
            // It was sent, to a bucket that has gone back in time since: this is all there is.
            packs.stage_again(id)?;
        }
        let known = tail.packs.entry(id).or_default();
        // The journal speaks of the file it was written beside. A copy of what was sent may have holes, and one that is not
        // here has nothing; and so may what an earlier try to go on from an older state has left.
        let same = staged.contains(&id) && !options.accept_rollback;
        let missing = packs.recover(id, known, if same { known.covered } else { 0 })?;
        recovered.push(id);
        if let Some(missing) = missing {
            let bad = tail.puts.iter().filter(|(_, pack, index)| *pack == id && *index >= missing).map(|put| put.0);
            cut = cut.min(bad.min().unwrap_or(u64::MAX));
        }
    }
    tail.txs.retain(|tx| tx.seq < cut);
    let counts: HashSet<(PackId, usize)> =
        tail.puts.iter().filter(|(seq, ..)| *seq < cut).map(|(_, pack, index)| (*pack, *index)).collect();
    for id in recovered {
        let known = &tail.packs[&id];
        let whole = known.chunks.iter().enumerate().filter(|(index, _)| counts.contains(&(id, *index)));
        let mut chunks: Vec<PackedChunk> = whole.map(|(_, chunk)| chunk.clone()).collect();
        chunks.sort_by_key(|chunk| chunk.offset);
        packs.finish_recovered(id, chunks)?;
    }
    world.disk.sync_folder("staging").map_err(local)?;
    let chunks = |id: PackId| counts.iter().filter(|(pack, _)| *pack == id).count() as u32;
    let mut landed: Vec<_> =
        in_bucket.iter().map(|(id, bytes)| FinishedPack { id: *id, bytes: *bytes, chunks: chunks(*id) }).collect();
    landed.retain(|pack| pack.chunks > 0);
    landed.sort_by_key(|pack| pack.id);
    Ok((tail, landed))
}

/// For who only saves what is here: nothing of it is removed or cut off. What can't be read is told where it is read.
async fn show_staging(world: &World, packs: &Packs, mut tail: Tail) -> Result<(Tail, Vec<FinishedPack>)> {
    let mut staged = packs.staged()?;
    staged.sort_unstable();
    // What is left here of a pack that the bucket has may be torn.
    let in_bucket = found_in_bucket(world, &staged).await?;
    for id in staged.into_iter().filter(|id| !in_bucket.contains_key(id)) {
        packs.show(id, tail.packs.entry(id).or_default())?;
    }
    Ok((tail, Vec::new()))
}

/// Those of the packs that the bucket has, and how long they are.
async fn found_in_bucket(world: &World, ids: &[PackId]) -> Result<HashMap<PackId, u64>> {
    let look = |id: PackId| async move {
        match world.store.head(&object(&haven_format::layout::pack(id))).await {
            Ok(meta) => Ok(Some((id, meta.bytes))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(VaultError::from(error)),
        }
    };
    let found: Vec<Option<(PackId, u64)>> =
        stream::iter(ids.iter().copied().map(look)).buffered(16).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(records: Vec<What>) -> Vec<u64> {
        Tail::read(Replay { records, torn: false }).unwrap().txs.iter().map(|tx| tx.seq).collect()
    }

    fn tx(seq: u64) -> What {
        What::Tx(Tx { seq, ..Tx::default() })
    }

    #[test]
    fn reading_ends_where_the_end_of_a_file_was_lost_and_the_file_after_it_was_not() {
        assert_eq!(read(vec![tx(7), tx(8), tx(10), tx(11)]), [7, 8]);
        assert_eq!(read(vec![tx(7), tx(8), tx(8), tx(9)]), [7, 8, 9], "a machine that went on after a torn tail");
        let session = |epoch| What::Session(Session { epoch, tx: 20, ..Session::default() });
        assert_eq!(read(vec![session(1), tx(7), session(3), tx(21)]), [7, 21], "another machine wrote meanwhile");
        assert_eq!(read(vec![session(1), tx(7), session(1), tx(9)]), [7], "the same session, told again");
    }

    #[test]
    fn what_a_later_run_tells_again_counts_when_all_of_it_is_there() {
        let run = |epoch, count| What::Session(Session { epoch, retold: Some(count), ..Session::default() });
        let old = || vec![run(1, 0), tx(7), tx(8), tx(9)];
        let then = |more: Vec<What>| read(old().into_iter().chain(more).collect());
        assert_eq!(then(vec![run(2, 3), tx(7), tx(8)]), [7, 8, 9], "it was killed before it had told all");
        assert_eq!(then(vec![run(2, 3), tx(7), run(3, 3), tx(7), tx(8), tx(9), tx(10)]), [7, 8, 9, 10]);
        assert_eq!(
            then(vec![run(2, 2), tx(7), tx(8), tx(9)]),
            [7, 8, 9],
            "8 was the last that was whole; 9 is another"
        );
        assert_eq!(then(vec![run(2, 2), tx(7), tx(8)]), [7, 8]);
        assert_eq!(then(vec![run(2, 0)]), [0; 0], "nothing was whole");
        assert_eq!(then(vec![tx(11), run(2, 3), tx(7), tx(8), tx(9), tx(10)]), [7, 8, 9, 10], "after a lost end");
    }
}
