//! The journal: transactions on this machine's disk, in order, until the bucket has them.
//! ```text
//!     file  = head, 8 bytes ‖ frame ‖ frame ‖ …          named journal/<number>
//!     frame = length of the seal, u32 LE ‖ sealed record  (index in the seal: the frame's offset)
//! ```
//! Promises: a record is in the file when `append` returns (a killed process loses nothing) and on the disk when what
//! `to_sync` names is synced (a power cut loses nothing). Reading stops at the first frame that does not open, and
//! before a transaction that does not follow the last, and goes on where a later run begins, which has read as far: what
//! was never synced may be torn, what was is whole.
//!
//! A run tells what is unsent again in files of its own and then removes the older ones. Until all of it is told, the older
//! ones count: it may be killed, or find no room.
//!
//! A full file is left without a sync, for whoever commits next waits for that: the next sync takes it along. Not one of
//! which no transaction is on the disk yet: with the file before it trimmed, nothing would tell what of it was lost.
//!
//! Small pack tails are written here too, so that an fsync of a small file waits for one file, not for two.

use std::sync::Arc;

use bytes::Bytes;
use haven_format::{
    Keys, PackId, TxSeq,
    crypto::ObjectKey,
    envelope::{HEAD_LEN, Kind},
    record::Tx,
};
use prost::Message;

use crate::{
    Result, VaultError,
    budget::{Budget, Use, on_disk},
    disk::DynFile,
    local, unsynced,
    world::World,
};

/// A file is followed by a new one when it is this long.
const FILE_BYTES: u64 = 16 << 20;

/// What the journal holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(oneof = "What", tags = "1, 2, 3, 4, 5")]
    pub(crate) what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum What {
    #[prost(message, tag = "1")]
    Tx(Tx),
    /// Bytes of a staged pack that may not be on the disk in the pack's own file.
    #[prost(message, tag = "2")]
    Tail(Tail),
    /// Bytes of a staged pack up to here are on the disk.
    #[prost(message, tag = "3")]
    Covered(Covered),
    /// Who writes from here on, and where in the log they began.
    #[prost(message, tag = "4")]
    Session(Session),
    /// The bucket has acknowledged everything up to here.
    #[prost(message, tag = "5")]
    Sent(Sent),
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Tail {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) pack: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(crate) offset: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) bytes: Bytes,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Covered {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) pack: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(crate) until: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Session {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) nonce: Vec<u8>,
    /// The last log segment it knew; empty for none.
    #[prost(string, tag = "3")]
    pub(crate) segment: String,
    /// The last transaction in that segment.
    #[prost(uint64, tag = "4")]
    pub(crate) tx: u64,
    /// How many transactions of earlier runs are told again right after: once they all are, these alone count. Absent where
    /// a later file of the run begins, and in journals that were written before this was told.
    #[prost(uint64, optional, tag = "5")]
    pub(crate) retold: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Sent {
    #[prost(string, tag = "1")]
    pub(crate) segment: String,
    #[prost(uint64, tag = "2")]
    pub(crate) tx: u64,
}

/// One journal file, oldest transactions first.
#[derive(Debug)]
struct Closed {
    name: String,
    last: TxSeq,
    bytes: u64,
}

#[derive(Debug)]
struct Current {
    name: String,
    file: DynFile,
    key: ObjectKey,
    offset: u64,
    last: TxSeq,
    /// A transaction in it survives a power cut: what comes after a lost end is known by its number.
    anchored: bool,
    /// A write that failed may have left something behind its end.
    littered: bool,
}

/// Appends records. All calls are made under the vault's commit lock; syncing and removing files is not.
#[derive(Debug)]
pub(crate) struct Journal {
    world: World,
    keys: Keys,
    budget: Arc<Budget>,
    current: Option<Current>,
    closed: Vec<Closed>,
    /// Who writes, and the last segment noted: told at the head of each file, for the one before it may be trimmed.
    session: Option<Session>,
    /// Files before the current one that were not synced since they were written to, oldest first.
    unsynced: Vec<DynFile>,
    /// Files were made since the folder was synced.
    unnamed: bool,
    /// How many notes of what the bucket has were written, and how many of them are on the disk.
    notes: u64,
    synced_notes: u64,
    /// It takes the place of files that go as soon as it is whole: the limit does not hold for it.
    replacing: bool,
    next_number: u64,
    buffer: Vec<u8>,
}

/// What to sync so that everything appended so far survives a power cut: the files in this order, then the folder.
#[derive(Debug, Default)]
pub(crate) struct ToSync {
    /// Full ones, oldest first.
    older: Vec<DynFile>,
    current: Option<DynFile>,
    /// There is a transaction in the current one.
    anchors: bool,
    folder: bool,
    notes: u64,
    /// The number of the next file to be made, as it was then.
    next_number: u64,
}

impl ToSync {
    pub(crate) fn sync(&self, world: &World) -> Result<()> {
        for file in self.older.iter().chain(&self.current) {
            file.sync().map_err(unsynced)?;
        }
        if self.folder {
            world.disk.sync_folder("journal").map_err(unsynced)?;
        }
        Ok(())
    }
}

/// Files that are not needed any more, oldest first.
#[derive(Debug)]
pub(crate) struct Done(Vec<Closed>);

impl Done {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes them, oldest first, so that no gap ever shows. After an error those that are left are still here.
    pub(crate) fn remove(&mut self, world: &World, budget: &Budget) -> Result<()> {
        while let Some(file) = self.0.first() {
            world.disk.remove(&object_name(&file.name)).map_err(local)?;
            budget.release(file.bytes);
            self.0.remove(0);
        }
        Ok(())
    }
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) records: Vec<What>,
    /// Whether reading stopped before the end of a file.
    pub(crate) torn: bool,
}

fn object_name(name: &str) -> String {
    format!("journal/{name}")
}

impl Journal {
    /// One that has not been written to and does not look at what is there.
    pub(crate) fn empty(world: World, keys: Keys, budget: Arc<Budget>) -> Self {
        let (closed, unsynced, buffer) = (Vec::new(), Vec::new(), Vec::new());
        let (current, session) = (None, None);
        let (unnamed, replacing, next_number) = (false, false, 1);
        let (notes, synced_notes) = (0, 0);
        Self {
            world,
            keys,
            budget,
            current,
            closed,
            session,
            unsynced,
            unnamed,
            notes,
            synced_notes,
            replacing,
            next_number,
            buffer,
        }
    }

    /// Reads what is there, oldest first. New records go to a new file; old files stay until [`Journal::restart`].
    pub(crate) fn open(world: World, keys: Keys, budget: Arc<Budget>) -> Result<(Self, Replay)> {
        let mut names = world.disk.list("journal").map_err(local)?;
        names.sort();
        let mut journal = Self::empty(world, keys, budget);
        let mut replay = Replay::default();
        for name in names {
            let number = u64::from_str_radix(&name, 16).unwrap_or(0);
            journal.next_number = journal.next_number.max(number + 1);
            journal.read(name, &mut replay)?;
        }
        Ok((journal, replay))
    }

    fn read(&mut self, name: String, replay: &mut Replay) -> Result<()> {
        let path = object_name(&name);
        let file = self.world.disk.open(&path).map_err(local)?;
        let length = file.len().map_err(local)?;
        let bytes = file.read_at(0, length as usize).map_err(local)?;
        // A run that was over its limit may have been given a smaller one: the journal stays all the same.
        let reserved = on_disk(length);
        if !self.budget.make_room(reserved, Use::Metadata) {
            return Err(VaultError::Local { detail: "the journal is larger than the cache limit".into(), full: true });
        }
        let mut last = TxSeq(0);
        let mut at = HEAD_LEN;
        let key = self.keys.object(&path);
        let mut next = || read_frame(&key, &bytes, &mut at);
        let headed = Kind::Journal.check_head(&bytes).is_ok();
        let first = if headed { next() } else { None };
        let later_run = matches!(&first, Some(What::Session(session)) if session.retold.is_some());
        if !replay.torn || later_run {
            let rest = std::iter::from_fn(|| first.is_some().then(&mut next).flatten());
            for record in first.clone().into_iter().chain(rest) {
                if let What::Tx(tx) = &record {
                    last = TxSeq(tx.seq);
                }
                replay.records.push(record);
            }
            replay.torn = length > 0 && !(headed && at == bytes.len());
        }
        self.closed.push(Closed { name, last, bytes: reserved });
        Ok(())
    }

    /// Writes records as one write. They are read back all or, after a power cut, a prefix of them.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<()> {
        if self.current.as_ref().is_none_or(|current| current.offset >= FILE_BYTES) {
            self.rotate()?;
        }
        let current = self.current.as_mut().expect("rotate opens a file");
        self.buffer.clear();
        let mut last = current.last;
        let session = self.session.as_ref().filter(|_| current.offset == HEAD_LEN as u64);
        let session = session.map(|session| Record::from(What::Session(session.clone())));
        for record in session.iter().chain(records) {
            let start = self.buffer.len();
            self.buffer.extend_from_slice(&[0; 4]);
            let index = current.offset + start as u64;
            current.key.seal(index, self.world.dice.roll(), &record.encode_to_vec(), &mut self.buffer);
            let length = (self.buffer.len() - start - 4) as u32;
            self.buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
            if let Some(What::Tx(tx)) = &record.what {
                last = TxSeq(tx.seq);
            }
        }
        // The last record may be larger than what is left of the file's reservation.
        let grown = on_disk(current.offset + self.buffer.len() as u64).saturating_sub(FILE_BYTES);
        let grown = grown - on_disk(current.offset).saturating_sub(FILE_BYTES);
        if grown > 0 {
            make_room(&self.budget, grown, self.replacing)?;
        }
        if let Err(error) = current.file.write_at(current.offset, &self.buffer) {
            current.littered = true;
            _ = current.clear();
            self.budget.release(grown);
            return Err(local(error));
        }
        current.offset += self.buffer.len() as u64;
        current.last = last;
        records.iter().filter_map(|record| record.what.as_ref()).for_each(|what| self.remember(what));
        Ok(())
    }

    /// What the next file is to begin with.
    fn remember(&mut self, what: &What) {
        self.notes += u64::from(matches!(what, What::Sent(_)));
        match (what, &mut self.session) {
            (What::Session(session), _) => self.session = Some(Session { retold: None, ..session.clone() }),
            (What::Sent(sent), Some(session)) => (session.segment, session.tx) = (sent.segment.clone(), sent.tx),
            _ => {}
        }
    }

    /// Begins anew with these records: what was read before is removed once they are on the disk.
    pub(crate) fn restart(&mut self, records: &[Record]) -> Result<()> {
        let old = std::mem::take(&mut self.closed);
        self.replacing = true;
        let written = records.chunks(256).try_for_each(|some| self.append(some)).and_then(|()| self.sync());
        self.replacing = false;
        if written.is_err() {
            // Of no use to the next run, which finds the older ones; but the next that can't be written would add to it.
            let begun = std::mem::replace(&mut self.closed, old).into_iter().map(|file| file.name);
            let begun = begun.chain(self.current.take().map(|current| current.name));
            begun.for_each(|name| drop(self.world.disk.remove(&object_name(&name))));
            return written;
        }
        Done(old).remove(&self.world, &self.budget)?;
        self.world.disk.sync_folder("journal").map_err(local)
    }

    fn rotate(&mut self) -> Result<()> {
        if self.current.as_ref().is_some_and(|current| !current.anchored) {
            self.sync()?;
        }
        if let Some(current) = &mut self.current {
            current.clear().map_err(local)?;
        }
        make_room(&self.budget, FILE_BYTES, self.replacing)?;
        let name = format!("{:016x}", self.next_number);
        let path = object_name(&name);
        let begin = || {
            let file = self.world.disk.create(&path)?;
            file.write_at(0, &Kind::Journal.head())?;
            Ok(file)
        };
        let file = begin().map_err(|error| {
            self.budget.release(FILE_BYTES);
            local(error)
        })?;
        self.next_number += 1;
        self.unnamed = true;
        let key = self.keys.object(&path);
        let next =
            Current { name, file, key, offset: HEAD_LEN as u64, last: TxSeq(0), anchored: false, littered: false };
        if let Some(old) = self.current.replace(next) {
            let last = if old.last == TxSeq(0) { self.closed.last().map_or(TxSeq(0), |c| c.last) } else { old.last };
            self.closed.push(Closed { name: old.name, last, bytes: FILE_BYTES.max(on_disk(old.offset)) });
            self.unsynced.push(old.file);
        }
        Ok(())
    }

    pub(crate) fn to_sync(&self) -> ToSync {
        ToSync {
            older: self.unsynced.clone(),
            current: self.current.as_ref().map(|current| current.file.clone()),
            anchors: self.current.as_ref().is_some_and(|current| current.last > TxSeq(0)),
            folder: self.unnamed,
            notes: self.notes,
            next_number: self.next_number,
        }
    }

    /// For those who wait for it with the commit lock.
    fn sync(&mut self) -> Result<()> {
        let due = self.to_sync();
        due.sync(&self.world)?;
        self.synced(&due);
        Ok(())
    }

    /// What [`Journal::to_sync`] told has been synced. What was the current file then may have grown, and be full by now: it
    /// is synced once more.
    pub(crate) fn synced(&mut self, done: &ToSync) {
        self.unsynced.retain(|file| !done.older.iter().any(|other| Arc::ptr_eq(file, other)));
        self.unnamed &= self.next_number != done.next_number;
        self.synced_notes = done.notes.max(self.synced_notes);
        // Nothing was made since: it is the same file.
        if let Some(current) = self.current.as_mut().filter(|_| self.next_number == done.next_number) {
            current.anchored |= done.anchors;
        }
    }

    /// Whether a power cut could take a note of what the bucket has.
    pub(crate) fn has_unsynced_note(&self) -> bool {
        self.notes > self.synced_notes
    }

    /// Takes out the files whose transactions are all in the bucket. Whoever calls removes them once the bytes of packs
    /// that they may hold are on the disk elsewhere.
    pub(crate) fn take_done(&mut self, sent: TxSeq) -> Done {
        let done = self.closed.iter().take_while(|file| file.last <= sent).count();
        Done(self.closed.drain(..done).collect())
    }

    /// What could not be removed is tried again with the next.
    pub(crate) fn put_back(&mut self, done: Done) {
        self.closed.splice(..0, done.0);
    }
}

fn make_room(budget: &Budget, bytes: u64, replacing: bool) -> Result<()> {
    match budget.make_room(bytes, Use::Metadata) {
        true => Ok(()),
        false if replacing => {
            budget.overdraw(bytes);
            Ok(())
        }
        false => Err(crate::Need::Log.into()),
    }
}

impl Current {
    /// Cuts off what a write that failed has left behind the end: it would hide the files after this one.
    fn clear(&mut self) -> std::io::Result<()> {
        if self.littered {
            self.file.truncate(self.offset)?;
            self.littered = false;
        }
        Ok(())
    }
}

fn read_frame(key: &ObjectKey, bytes: &[u8], at: &mut usize) -> Option<What> {
    let length = u32::from_le_bytes(bytes.get(*at..*at + 4)?.try_into().ok()?) as usize;
    let sealed = bytes.get(*at + 4..(*at + 4).checked_add(length)?)?;
    let record = Record::decode(&*key.open(*at as u64, sealed).ok()?).ok()?;
    *at += 4 + length;
    record.what
}

impl From<What> for Record {
    fn from(what: What) -> Self {
        Self { what: Some(what) }
    }
}

impl Tail {
    pub(crate) fn pack_id(&self) -> Option<PackId> {
        PackId::from_slice(&self.pack)
    }
}

impl Covered {
    pub(crate) fn pack_id(&self) -> Option<PackId> {
        PackId::from_slice(&self.pack)
    }
}

#[cfg(test)]
mod tests {
    use haven_format::{LibraryId, crypto::MasterKey};
    use haven_store::memory::Memory;

    use super::*;
    use crate::{disk::MemoryDisk, world::Dice};

    fn keys() -> Keys {
        Keys::new(LibraryId([7; 16]), &MasterKey([8; 32]))
    }

    fn world() -> (Arc<MemoryDisk>, World) {
        let disk = MemoryDisk::new();
        let world = World {
            store: Arc::new(Memory::new()),
            disk: disk.clone(),
            clock: Arc::new(crate::world::SystemClock),
            dice: Arc::new(Dice::from_seed(1)),
            host: "here".into(),
            threads: false,
        };
        (disk, world)
    }

    /// Two of them fill a file.
    fn large(seq: u64) -> [Record; 1] {
        let ops = vec![haven_format::record::Op { key: vec![1].into(), value: Some(vec![0; 10 << 20].into()) }];
        [Record::from(What::Tx(Tx { seq, ops, ..Tx::default() }))]
    }

    #[test]
    fn a_file_that_filled_up_while_it_was_synced_is_synced_again() {
        let (disk, world) = world();
        let mut journal = Journal::empty(world.clone(), keys(), Arc::new(Budget::new(Budget::LIMIT_MIN)));
        journal.append(&large(1)).unwrap();
        let first = journal.to_sync();
        // Meanwhile others commit, and a new file is begun.
        first.sync(&world).unwrap();
        journal.append(&large(2)).unwrap();
        journal.append(&large(3)).unwrap();
        journal.synced(&first);
        let second = journal.to_sync();
        assert_eq!((second.older.len(), second.folder), (1, true));
        second.sync(&world).unwrap();
        journal.synced(&second);
        let left = journal.to_sync();
        assert_eq!((left.older.len(), left.folder), (0, false));
        let after = disk.power_cut(|_| 0);
        let world = World { disk: after, ..world };
        let (_, replay) = Journal::open(world, keys(), Arc::new(Budget::new(Budget::LIMIT_MIN))).unwrap();
        assert_eq!((replay.records.len(), replay.torn), (3, false));
    }

    #[test]
    fn a_file_of_which_nothing_is_on_the_disk_is_not_left_behind() {
        let (disk, world) = world();
        let mut journal = Journal::empty(world.clone(), keys(), Arc::new(Budget::new(Budget::LIMIT_MIN)));
        // Three files without a sync: the second is synced before the third is begun, with its name.
        for seq in 1..=5 {
            journal.append(&large(seq)).unwrap();
        }
        journal.take_done(TxSeq(2)).remove(&world, &journal.budget).unwrap();
        let world = World { disk: disk.power_cut(|_| 0), ..world };
        let (_, replay) = Journal::open(world, keys(), Arc::new(Budget::new(Budget::LIMIT_MIN))).unwrap();
        let seqs: Vec<u64> =
            replay.records.iter().map(|what| if let What::Tx(tx) = what { tx.seq } else { 0 }).collect();
        assert_eq!(seqs, [3, 4], "a beginning of what followed the removed file");
    }

    #[test]
    fn what_takes_the_place_of_older_files_needs_no_room_of_its_own() {
        let (_, world) = world();
        let budget = Arc::new(Budget::new(Budget::LIMIT_MIN));
        let mut journal = Journal::empty(world.clone(), keys(), budget.clone());
        journal.append(&large(1)).unwrap();
        let budget = Arc::new(Budget::new(Budget::LIMIT_MIN));
        let (mut journal, replay) = Journal::open(world.clone(), keys(), budget.clone()).unwrap();
        assert_eq!(replay.records.len(), 1);
        while budget.make_room(1 << 20, Use::Metadata) {}
        let used = budget.used().0;
        journal.restart(&large(1)).unwrap();
        assert!(budget.used().0 <= used + FILE_BYTES, "{} of {used}", budget.used().0);
        assert!(matches!(journal.append(&large(2)).and_then(|()| journal.append(&large(3))), Err(VaultError::Need(_))));
        assert_eq!(world.disk.list("journal").unwrap().len(), 1);
    }
}
