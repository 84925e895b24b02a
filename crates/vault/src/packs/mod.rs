//! Packs on this machine: those being filled or waiting for upload (`staging/`), and copies of what the bucket has
//! (`packs/`, often with holes where nothing was fetched).
//! ```text
//!     put ──▶ open pack ──full, or the log wants it──▶ finished ──uploaded──▶ clean copy ──▶ evicted
//! ```
//! A file under `staging/` is never removed before the bucket has it. A clean copy may go at any time.

mod clean;
mod guests;

use std::{collections::HashMap, io, sync::Arc};

use bytes::Bytes;
use haven_format::{
    ChunkId, Keys, PackId,
    codec::Payload,
    container::{Opener, Sealer},
    layout,
    pack::{self, PackFooter, PackedChunk},
    record::{ChunkPlace, PackInfo},
};
use parking_lot::Mutex;
use prost::Message;

pub(crate) use clean::Miss;
use guests::Guests;

use crate::{
    Need, Result, VaultError,
    budget::{Budget, Clean, Use, on_disk},
    disk::DynFile,
    files::{OpenFiles, Ticket},
    journal::{Covered, Record, Tail, What},
    local,
    ranges::Ranges,
    unsynced,
    world::World,
};

/// A pack is finished when it is this long.
pub(crate) const PACK_BYTES: u32 = 16 << 20;
/// Chunks below this go to packs of their own, so that thumbnails lie together.
const SMALL_CHUNK: usize = 256 << 10;
/// Space is reserved in steps of this.
const GRANT: u64 = 1 << 20;
/// An unsynced tail up to this long goes to the journal instead of having the pack's file synced.
const TAIL_MAX: u64 = 128 << 10;
/// A pack's file is synced for itself after this much of it went to the journal.
const TAILS_MAX: u64 = 2 << 20;

/// A pack file that may have unsynced bytes. Shared by the writer and whoever syncs.
#[derive(Debug)]
struct StagedFile {
    id: PackId,
    file: DynFile,
    marks: Mutex<Marks>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    written: u64,
    /// Bytes below this survive a power cut, in the file or through the journal.
    covered: u64,
    /// How much of it only the journal has.
    tails: u64,
    /// Whether the file's name survives a power cut.
    named: bool,
}

/// A pack being filled.
#[derive(Debug)]
struct OpenPack {
    staged: Arc<StagedFile>,
    sealer: Sealer,
    footer: PackFooter,
    granted: u64,
}

/// A finished pack that the bucket does not have yet.
#[derive(Debug, Clone)]
pub(crate) struct FinishedPack {
    pub(crate) id: PackId,
    pub(crate) bytes: u64,
    pub(crate) chunks: u32,
}

/// Any pack with bytes on this machine.
#[derive(Debug)]
struct LocalPack {
    ticket: Ticket,
    opener: Opener,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    present: Ranges,
    /// Its file, while the bucket may not have it. A clean copy's is opened when it is wanted.
    staged: Option<DynFile>,
}

#[derive(Debug)]
pub(crate) struct Packs {
    world: World,
    keys: Keys,
    budget: Arc<Budget>,
    small: Mutex<Option<OpenPack>>,
    large: Mutex<Option<OpenPack>>,
    local: Mutex<HashMap<PackId, Arc<LocalPack>>>,
    /// Of clean copies. One is kept open only under the lock of `local`, while the copy is in it.
    files: OpenFiles,
    /// Files that may have something to sync.
    unsynced: Mutex<Vec<Arc<StagedFile>>>,
    /// They get no more chunks, and end there. Kept until the footer is written: what is committed may name their chunks.
    ended: Mutex<Vec<(OpenPack, u32)>>,
    /// Finished, in order, not yet handed to the uploader.
    finished: Mutex<Vec<FinishedPack>>,
    /// Fetched while the cache had no room: kept in memory for the call that wanted it. All of it, where `keeps` is not set.
    guests: Guests,
    /// What is fetched of clean packs is kept in the cache.
    keeps: bool,
}

/// Bytes of guests that wait for the call that wanted them.
const GUESTS_MAX: usize = 16 << 20;
/// Where they are all there is: several readers, and what was fetched ahead of each.
const ALL_GUESTS_MAX: usize = 128 << 20;

fn staging_name(id: PackId) -> String {
    format!("staging/{id}")
}

fn clean_name(id: PackId) -> String {
    format!("packs/{id}")
}

/// What a recovered journal knows of a staged pack.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    pub(crate) chunks: Vec<PackedChunk>,
    pub(crate) covered: u64,
    pub(crate) tails: Vec<Tail>,
}

impl Packs {
    /// `keeps`: what is fetched is kept in the cache; else in memory for a while.
    pub(crate) fn new(world: World, keys: Keys, budget: Arc<Budget>, keeps: bool) -> Self {
        Self {
            world,
            keys,
            budget,
            small: Mutex::default(),
            large: Mutex::default(),
            local: Mutex::default(),
            files: OpenFiles::new(),
            unsynced: Mutex::default(),
            ended: Mutex::default(),
            finished: Mutex::default(),
            guests: Guests::new(if keeps { GUESTS_MAX } else { ALL_GUESTS_MAX }),
            keeps,
        }
    }

    fn insert(&self, id: PackId, present: Ranges, staged: Option<DynFile>) {
        let pack = self.local_pack(id, present, staged);
        self.local.lock().insert(id, pack);
    }

    fn local_pack(&self, id: PackId, present: Ranges, staged: Option<DynFile>) -> Arc<LocalPack> {
        let held = Mutex::new(Held { present, staged });
        Arc::new(LocalPack { ticket: self.files.ticket(), opener: pack::opener(&self.keys, id), held })
    }

    /// Names of staged packs an earlier run left.
    pub(crate) fn staged(&self) -> Result<Vec<PackId>> {
        let names = self.world.disk.list("staging").map_err(local)?;
        Ok(names.iter().filter_map(|name| PackId::from_hex(name)).collect())
    }

    /// Removes a staged pack left by an earlier run that the bucket has.
    pub(crate) fn discard_staged(&self, id: PackId) -> Result<()> {
        self.world.disk.remove(&staging_name(id)).map_err(local)
    }

    /// Takes a copy of what the bucket had for a pack that is to be sent.
    pub(crate) fn stage_again(&self, id: PackId) -> Result<()> {
        self.world.disk.rename(&clean_name(id), &staging_name(id)).map_err(local)
    }

    /// Opens a staged pack left by an earlier run: puts back what the journal kept of it and says from which of
    /// the remembered chunks on (in the order given) bytes are missing. `None`: all are there. Bytes below `covered` need no
    /// look.
    pub(crate) fn recover(&self, id: PackId, known: &Remembered, covered: u64) -> Result<Option<usize>> {
        let name = staging_name(id);
        let file = match self.world.disk.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.world.disk.create(&name),
            other => other,
        };
        let file = file.map_err(local)?;
        for tail in &known.tails {
            file.write_at(tail.offset, &tail.bytes).map_err(local)?;
        }
        let bytes = on_disk(file.len().map_err(local)?);
        self.reserve_anyway(bytes)?;
        let opener = pack::opener(&self.keys, id);
        let whole = |chunk: &PackedChunk| {
            let part = chunk.part();
            part.range().end <= covered
                || file
                    .read_at(u64::from(part.offset), part.len as usize)
                    .is_ok_and(|sealed| opener.part(part, &sealed).is_ok())
        };
        Ok(known.chunks.iter().position(|chunk| !whole(chunk)))
    }

    /// Opens a staged pack left by an earlier run for reading alone.
    pub(crate) fn show(&self, id: PackId, known: &Remembered) -> Result<()> {
        let file = self.world.disk.open(&staging_name(id)).map_err(local)?;
        for tail in &known.tails {
            file.write_at(tail.offset, &tail.bytes).map_err(local)?;
        }
        let length = file.len().map_err(local)?;
        self.budget.overdraw(on_disk(length));
        let mut present = Ranges::default();
        present.add(0..length);
        self.insert(id, present, Some(file));
        Ok(())
    }

    /// The log has not taken them up yet, and never will: they stay, if need be beyond the limit.
    pub(crate) fn hold(&self, ids: &[PackId]) {
        ids.iter().for_each(|id| self.budget.hold(Clean::Pack(*id)));
    }

    /// What is on the disk already counts, whatever the limit says now.
    fn reserve_anyway(&self, bytes: u64) -> Result<()> {
        if self.budget.make_room(bytes, Use::Metadata) {
            Ok(())
        } else {
            Err(VaultError::Local { detail: "unsent data is larger than the cache limit".into(), full: true })
        }
    }

    /// Finishes a recovered pack with the chunks that count. Nothing counts: the file is removed.
    pub(crate) fn finish_recovered(&self, id: PackId, chunks: Vec<PackedChunk>) -> Result<()> {
        let name = staging_name(id);
        let file = self.world.disk.open(&name).map_err(local)?;
        let before = on_disk(file.len().map_err(local)?);
        if chunks.is_empty() {
            self.world.disk.remove(&name).map_err(local)?;
            self.budget.release(before);
            return Ok(());
        }
        let end = chunks.iter().map(|chunk| chunk.offset + chunk.len).max().unwrap_or_default();
        let count = chunks.len() as u32;
        let sealer = Sealer::resume(&self.keys, &layout::pack(id), haven_format::envelope::Kind::Pack, end);
        let mut out = Vec::new();
        let bytes = sealer.finish(self.world.dice.roll(), &PackFooter { chunks }.encode_to_vec(), &mut out);
        if on_disk(bytes) > before {
            self.reserve_anyway(on_disk(bytes) - before)?;
        } else {
            self.budget.release(before - on_disk(bytes));
        }
        let head = haven_format::envelope::Kind::Pack.head();
        file.write_at(0, &head)
            .and_then(|()| file.truncate(u64::from(end)))
            .and_then(|()| file.write_at(u64::from(end), &out))
            .and_then(|()| file.sync())
            .map_err(local)?;
        let mut present = Ranges::default();
        present.add(0..bytes);
        self.insert(id, present, Some(file));
        self.finished.lock().push(FinishedPack { id, bytes, chunks: count });
        Ok(())
    }

    /// Appends a chunk to the open pack of its kind.
    pub(crate) fn append(&self, id: ChunkId, plain_len: usize, payload: &Payload<'_>) -> Result<ChunkPlace> {
        let slot = if plain_len < SMALL_CHUNK { &self.small } else { &self.large };
        let mut slot = slot.lock();
        if slot.is_none() {
            *slot = Some(self.begin()?);
        }
        let open = slot.as_mut().expect("just begun");
        // The seal, and this chunk's line in the footer.
        let needed =
            u64::from(open.sealer.offset()) + payload.bytes() as u64 + (open.footer.chunks.len() as u64 + 4) * 64;
        while needed > open.granted {
            let grant = (needed - open.granted).div_ceil(GRANT) * GRANT;
            self.reserve(grant)?;
            open.granted += grant;
        }
        let mut sealed = Vec::with_capacity(payload.bytes() + 64);
        let before = open.sealer.offset();
        let part = open.sealer.append_payload(self.world.dice.roll(), payload, &mut sealed);
        if let Err(error) = open.staged.file.write_at(u64::from(before), &sealed) {
            // The sealer has moved on: end this pack here, with what is whole in it. At once, where that can be: the call is
            // tried again and again while there is no room, and each try would leave one more.
            let broken = slot.take().expect("still there");
            _ = broken.staged.file.truncate(u64::from(before));
            self.ended.lock().push((broken, before));
            _ = self.finish_ended();
            return Err(local(error));
        }
        open.staged.marks.lock().written = part.range().end;
        let chunk = PackedChunk { id: id.0.to_vec(), offset: part.offset, len: part.len, plain_len: plain_len as u32 };
        open.footer.chunks.push(chunk);
        if let Some(local) = self.local.lock().get(&open.staged.id) {
            local.held.lock().present.add(part.range());
        }
        let place = ChunkPlace::new(open.staged.id, part, plain_len as u32);
        if open.sealer.offset() >= PACK_BYTES {
            let full = slot.take().expect("still there");
            self.end(full);
            // The chunk is kept, whatever becomes of this.
            _ = self.finish_ended();
        }
        Ok(place)
    }

    fn begin(&self) -> Result<OpenPack> {
        self.reserve(GRANT)?;
        let id = PackId(self.world.dice.roll());
        let (sealer, head) = pack::begin(&self.keys, id);
        let name = staging_name(id);
        let made = self.world.disk.create(&name).and_then(|file| file.write_at(0, &head).map(|()| file));
        let file = made.map_err(|error| {
            _ = self.world.disk.remove(&name);
            self.budget.release(GRANT);
            local(error)
        })?;
        let marks = Mutex::new(Marks { written: head.len() as u64, ..Marks::default() });
        let staged = Arc::new(StagedFile { id, file: file.clone(), marks });
        self.unsynced.lock().push(staged.clone());
        self.insert(id, Ranges::default(), Some(file));
        Ok(OpenPack { staged, sealer, footer: PackFooter::default(), granted: GRANT })
    }

    fn end(&self, open: OpenPack) {
        let at = open.sealer.offset();
        self.ended.lock().push((open, at));
    }

    /// Finishes the packs that have ended. One that can't be finished now keeps back no other, and is tried again by the
    /// next call.
    fn finish_ended(&self) -> Result<()> {
        let mut outcome = Ok(());
        self.ended.lock().retain(|(open, at)| {
            let finished = self.finish(open, *at);
            let stays = finished.is_err();
            if outcome.is_ok() {
                outcome = finished;
            }
            stays
        });
        outcome
    }

    fn finish(&self, open: &OpenPack, end: u32) -> Result<()> {
        let OpenPack { staged, footer, granted, .. } = open;
        if footer.chunks.is_empty() {
            self.world.disk.remove(&staging_name(staged.id)).map_err(local)?;
            self.local.lock().remove(&staged.id);
            self.unsynced.lock().retain(|other| other.id != staged.id);
            self.budget.release(*granted);
            return Ok(());
        }
        let chunks = footer.chunks.len() as u32;
        let sealer = Sealer::resume(&self.keys, &layout::pack(staged.id), haven_format::envelope::Kind::Pack, end);
        let mut out = Vec::new();
        let bytes = sealer.finish(self.world.dice.roll(), &footer.encode_to_vec(), &mut out);
        staged.file.write_at(u64::from(end), &out).map_err(local)?;
        staged.marks.lock().written = bytes;
        let kept = on_disk(bytes);
        if kept > *granted {
            self.reserve_anyway(kept - granted)?;
        } else {
            self.budget.release(granted - kept);
        }
        self.finished.lock().push(FinishedPack { id: staged.id, bytes, chunks });
        Ok(())
    }

    /// Finishes the open packs and takes all finished ones, for upload.
    pub(crate) fn take_finished(&self, close_open: bool) -> Result<Vec<FinishedPack>> {
        if close_open {
            for slot in [&self.small, &self.large] {
                if let Some(open) = slot.lock().take() {
                    self.end(open);
                }
            }
        }
        self.finish_ended()?;
        Ok(std::mem::take(&mut *self.finished.lock()))
    }

    pub(crate) fn has_finished(&self) -> bool {
        !self.finished.lock().is_empty()
    }

    /// They could not be handed on after all.
    pub(crate) fn put_back(&self, packs: Vec<FinishedPack>) {
        self.finished.lock().splice(0..0, packs);
    }

    fn reserve(&self, bytes: u64) -> Result<()> {
        if self.budget.make_room(bytes, Use::Data) { Ok(()) } else { Err(Need::Space { bytes }.into()) }
    }

    /// Whether the bucket may not have it yet.
    pub(crate) fn is_staged(&self, id: PackId) -> bool {
        self.local.lock().get(&id).is_some_and(|local| local.held.lock().staged.is_some())
    }

    /// The bucket has it: the file becomes a clean copy.
    pub(crate) fn uploaded(&self, pack: &FinishedPack) -> Result<()> {
        let id = pack.id;
        self.world.disk.rename(&staging_name(id), &clean_name(id)).map_err(local)?;
        if let Some(local) = self.local.lock().get(&id) {
            let mut held = local.held.lock();
            held.present.add(0..pack.bytes);
            held.staged.take().into_iter().for_each(|file| self.files.keep(local.ticket, file));
        }
        self.unsynced.lock().retain(|staged| staged.id != id);
        self.budget.clean(Clean::Pack(id), on_disk(pack.bytes));
        Ok(())
    }

    /// The whole of a finished pack, to be uploaded.
    pub(crate) fn read_staged(&self, pack: &FinishedPack) -> Result<Bytes> {
        let file = self.world.disk.open(&staging_name(pack.id)).map_err(local)?;
        Ok(file.read_at(0, pack.bytes as usize).map_err(local)?.into())
    }

    /// Makes staged bytes survive a power cut: syncs files, or returns records for the journal that hold the bytes.
    pub(crate) fn secure(&self) -> Result<Vec<Record>> {
        let files = self.unsynced.lock().clone();
        let mut records = Vec::new();
        let mut name_needed = false;
        let mut done = Vec::new();
        for staged in &files {
            let marks = *staged.marks.lock();
            let tail = marks.written - marks.covered;
            if tail == 0 && marks.tails == 0 {
                continue;
            }
            let by_journal = marks.named && tail <= TAIL_MAX && marks.tails + tail <= TAILS_MAX;
            let mut next = Marks { covered: marks.written, named: true, ..marks };
            if by_journal && tail > 0 {
                let bytes = staged.file.read_at(marks.covered, tail as usize).map_err(local)?.into();
                records.push(What::Tail(Tail { pack: staged.id.0.to_vec(), offset: marks.covered, bytes }).into());
                next.tails += tail;
            } else if !by_journal {
                staged.file.sync().map_err(unsynced)?;
                name_needed |= !marks.named;
                next.tails = 0;
                records.push(What::Covered(Covered { pack: staged.id.0.to_vec(), until: marks.written }).into());
            }
            done.push((staged, next));
        }
        if name_needed {
            self.world.disk.sync_folder("staging").map_err(unsynced)?;
        }
        for (staged, next) in done {
            let mut marks = staged.marks.lock();
            *marks = Marks { written: marks.written, ..next };
        }
        Ok(records)
    }

    /// Syncs every staged file, so that the journal need not hold any of their bytes.
    pub(crate) fn secure_files(&self) -> Result<()> {
        let files = self.unsynced.lock().clone();
        for staged in &files {
            let written = staged.marks.lock().written;
            staged.file.sync().map_err(unsynced)?;
            let mut marks = staged.marks.lock();
            *marks = Marks { written: marks.written, covered: written, tails: 0, named: true };
        }
        if files.is_empty() { Ok(()) } else { self.world.disk.sync_folder("staging").map_err(unsynced) }
    }
}

impl FinishedPack {
    pub(crate) fn info(&self, made: i64) -> PackInfo {
        PackInfo { bytes: self.bytes, chunks: self.chunks, made }
    }
}
