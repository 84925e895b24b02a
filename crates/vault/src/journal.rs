//! The journal: transactions on this machine's disk, in order, until the bucket has them.
//! ```text
//!     file  = head, 8 bytes ‖ frame ‖ frame ‖ …          named journal/<number>
//!     frame = length of the seal, u32 LE ‖ sealed record  (index in the seal: the frame's offset)
//! ```
//! Promises: a record is in the file when `append` returns (a killed process loses nothing) and on the disk after
//! `sync` (a power cut loses nothing). Reading stops at the first frame that does not open: what was never synced
//! may be torn, what was is whole.
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
    local,
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
}

/// Appends records. All calls are made under the vault's commit lock but `file_to_sync`'s result.
#[derive(Debug)]
pub(crate) struct Journal {
    world: World,
    keys: Keys,
    budget: Arc<Budget>,
    current: Option<Current>,
    closed: Vec<Closed>,
    next_number: u64,
    buffer: Vec<u8>,
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
        Self { world, keys, budget, current: None, closed: Vec::new(), next_number: 1, buffer: Vec::new() }
    }

    /// Reads what is there, oldest first. New records go to a new file; old files stay until [`Journal::trim`].
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
        if Kind::Journal.check_head(&bytes).is_ok() && !replay.torn {
            let key = self.keys.object(&path);
            let mut at = HEAD_LEN;
            while let Some(record) = read_frame(&key, &bytes, &mut at) {
                if let What::Tx(tx) = &record {
                    last = TxSeq(tx.seq);
                }
                replay.records.push(record);
            }
            replay.torn = at < bytes.len();
        } else if length > 0 {
            replay.torn = true;
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
        for record in records {
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
        let before = on_disk(current.offset).saturating_sub(FILE_BYTES);
        if grown > before && !self.budget.make_room(grown - before, Use::Metadata) {
            return Err(crate::Need::Log.into());
        }
        current.file.write_at(current.offset, &self.buffer).map_err(local)?;
        current.offset += self.buffer.len() as u64;
        current.last = last;
        Ok(())
    }

    /// Begins anew with these records: what was read before is removed once they are on the disk.
    pub(crate) fn restart(&mut self, records: &[Record]) -> Result<()> {
        let old = std::mem::take(&mut self.closed);
        for some in records.chunks(256) {
            self.append(some)?;
        }
        if let Some(file) = self.file_to_sync() {
            file.sync().map_err(local)?;
        }
        for file in old {
            self.world.disk.remove(&object_name(&file.name)).map_err(local)?;
            self.budget.release(file.bytes);
        }
        self.world.disk.sync_folder("journal").map_err(local)
    }

    /// Whether the next append will begin a new file.
    pub(crate) fn is_full(&self) -> bool {
        self.current.as_ref().is_none_or(|current| current.offset >= FILE_BYTES)
    }

    fn rotate(&mut self) -> Result<()> {
        // What is in the old file must not be less durable than what comes after it.
        if let Some(old) = &self.current {
            old.file.sync().map_err(local)?;
        }
        if !self.budget.make_room(FILE_BYTES, Use::Metadata) {
            return Err(crate::Need::Log.into());
        }
        let name = format!("{:016x}", self.next_number);
        let path = object_name(&name);
        let begin = || {
            let file = self.world.disk.create(&path)?;
            file.write_at(0, &Kind::Journal.head())?;
            self.world.disk.sync_folder("journal")?;
            Ok(file)
        };
        let file = begin().map_err(|error| {
            self.budget.release(FILE_BYTES);
            local(error)
        })?;
        self.next_number += 1;
        let key = self.keys.object(&path);
        let next = Current { name, file, key, offset: HEAD_LEN as u64, last: TxSeq(0) };
        if let Some(old) = self.current.replace(next) {
            let last = if old.last == TxSeq(0) { self.closed.last().map_or(TxSeq(0), |c| c.last) } else { old.last };
            self.closed.push(Closed { name: old.name, last, bytes: FILE_BYTES.max(on_disk(old.offset)) });
        }
        Ok(())
    }

    /// Syncing this makes everything appended so far durable.
    pub(crate) fn file_to_sync(&self) -> Option<DynFile> {
        self.current.as_ref().map(|current| current.file.clone())
    }

    /// Removes files whose transactions are all in the bucket. Oldest first, so that no gap ever shows.
    pub(crate) fn trim(&mut self, sent: TxSeq) -> Result<()> {
        let done = self.closed.iter().take_while(|file| file.last <= sent).count();
        for file in self.closed.drain(..done) {
            self.world.disk.remove(&object_name(&file.name)).map_err(local)?;
            self.budget.release(file.bytes);
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
