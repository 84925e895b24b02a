//! Clean copies: what was fetched of packs that the bucket has, often with holes. Any of it may go at any time.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use haven_format::{FormatError, PackId, container::Part, pack};

use super::{LocalPack, Packs, clean_name};
use crate::{
    Result,
    budget::{Clean, Use, on_disk},
    disk::DynFile,
    files::too_many,
    local,
    ranges::Ranges,
};

impl Packs {
    /// Takes account of the clean copies an earlier run left. Which parts are there is found out as they are read:
    /// a hole does not open. What is to be kept never gives way.
    pub(crate) fn adopt_clean(&self, keep: impl Fn(PackId) -> bool) -> Result<()> {
        for name in self.world.disk.list("packs").map_err(local)? {
            let path = format!("packs/{name}");
            let Some(id) = PackId::from_hex(&name) else {
                self.world.disk.remove(&path).map_err(local)?;
                continue;
            };
            let measure = |file: DynFile| Ok((file.allocated()?, file.len()?));
            let (bytes, length) = match self.world.disk.open(&path).and_then(measure) {
                Ok(measured) => measured,
                Err(error) if too_many(&error) => return Err(local(error)),
                Err(_) => {
                    self.world.disk.remove(&path).map_err(local)?;
                    continue;
                }
            };
            let keep = keep(id);
            if keep {
                self.budget.overdraw(bytes);
            } else if !self.budget.take_free(bytes, Use::Data) {
                self.world.disk.remove(&path).map_err(local)?;
                continue;
            }
            let mut present = Ranges::default();
            present.add(0..length);
            if !keep {
                self.budget.clean(Clean::Pack(id), bytes);
            }
            self.insert(id, present, None);
        }
        Ok(())
    }

    /// The pack is gone from the bucket: a copy here is of no use.
    pub(crate) fn forget_clean(&self, id: PackId) {
        let clean = self.local.lock().get(&id).is_some_and(|local| local.held.lock().staged.is_none());
        if clean {
            self.drop_clean(id);
        }
    }

    /// Removes a clean copy's file.
    pub(crate) fn drop_clean(&self, id: PackId) {
        // Under the lock: a new copy of that name must lose neither its file nor its bytes' place in the books to the
        // removal of the old one.
        let mut packs = self.local.lock();
        packs.remove(&id).into_iter().for_each(|pack| self.files.shut(pack.ticket));
        let _ = self.world.disk.remove(&clean_name(id));
        self.budget.gone(Clean::Pack(id));
    }

    /// The file of `pack`. `None`: the copy has given way since it was looked up.
    fn file(&self, id: PackId, pack: &Arc<LocalPack>) -> io::Result<Option<DynFile>> {
        if let Some(file) = &pack.held.lock().staged {
            return Ok(Some(file.clone()));
        }
        if let Some(file) = self.files.get(pack.ticket) {
            return Ok(Some(file));
        }
        let opened = self.world.disk.open(&clean_name(id));
        // Asked for afterwards: as long as the copy is on record, what has its name is its file. What another copy has put
        // there is other bytes, with holes elsewhere.
        let packs = self.local.lock();
        if !packs.get(&id).is_some_and(|now| Arc::ptr_eq(now, pack)) {
            return Ok(None);
        }
        if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // Somebody has emptied the folder.
            drop(packs);
            self.drop_clean(id);
            return Ok(None);
        }
        let file = opened?;
        self.files.keep(pack.ticket, file.clone());
        Ok(Some(file))
    }

    /// The plain bytes of the part of pack `id`, if they are on this machine and sound.
    pub(crate) fn read(&self, id: PackId, part: Part) -> Result<Bytes, Miss> {
        let local = self.local.lock().get(&id).cloned();
        let Some(local) = local else { return self.read_guest(id, part) };
        let clean = {
            let held = local.held.lock();
            if !held.present.covers(&part.range()) {
                drop(held);
                return self.read_guest(id, part);
            }
            held.staged.is_none()
        };
        let file = match self.file(id, &local) {
            Ok(Some(file)) => file,
            Ok(None) => return self.read_guest(id, part),
            Err(error) => {
                // It is fetched as if it had never been here: that works while no file can be opened.
                tracing::warn!(pack = %id, %error, "a cached pack can't be opened");
                local.held.lock().present.remove(&part.range());
                return self.read_guest(id, part);
            }
        };
        let sealed = file.read_at(u64::from(part.offset), part.len as usize);
        let opened = sealed.map_err(|_| FormatError::Seal).and_then(|sealed| local.opener.part_owned(part, sealed));
        match opened {
            Ok(plain) => {
                if clean {
                    self.budget.touch(Clean::Pack(id));
                }
                Ok(plain)
            }
            Err(_) if clean => {
                local.held.lock().present.remove(&part.range());
                Err(Miss::Unopened)
            }
            Err(error) => Err(Miss::Damaged(error)),
        }
    }

    fn read_guest(&self, id: PackId, part: Part) -> Result<Bytes, Miss> {
        let Some(sealed) = self.guests.get(id, &part.range()) else { return Err(Miss::Absent) };
        pack::opener(&self.keys, id).part(part, &sealed).map_err(|_| {
            self.guests.forget(id, &part.range());
            Miss::Unopened
        })
    }

    /// Which parts of the range are not on this machine.
    pub(crate) fn gaps(&self, id: PackId, range: &Range<u64>) -> Vec<Range<u64>> {
        let gaps = match self.local.lock().get(&id) {
            Some(local) => local.held.lock().present.gaps(range),
            None => vec![range.clone()],
        };
        if gaps.is_empty() || self.guests.hold(id, range) { vec![] } else { gaps }
    }

    /// Keeps bytes fetched from the bucket: on disk where there is room, else in memory for a while.
    pub(crate) fn keep(&self, id: PackId, offset: u64, bytes: Bytes) -> Result<()> {
        let range = offset..offset + bytes.len() as u64;
        // Whole blocks at both ends.
        let space = on_disk(range.end) - range.start / 4096 * 4096;
        if !self.keeps || self.reserve(space).is_err() {
            self.guests.keep(id, offset, bytes);
            return Ok(());
        }
        match self.write_clean(id, offset, &bytes, space) {
            Ok(Kept::Here) => {}
            Ok(Kept::Staged) => self.budget.release(space),
            Ok(Kept::Evicted) => {
                self.budget.release(space);
                self.guests.keep(id, offset, bytes);
            }
            Err(error) => {
                self.budget.release(space);
                self.guests.keep(id, offset, bytes);
                tracing::warn!(%error, "fetched bytes could not be kept in the cache");
            }
        }
        Ok(())
    }

    /// `space`: what was reserved for it.
    fn write_clean(&self, id: PackId, offset: u64, bytes: &Bytes, space: u64) -> Result<Kept> {
        let pack = {
            // Looked for and made under one lock: of two who bring parts of a pack, the second would empty the file.
            let mut packs = self.local.lock();
            match packs.get(&id) {
                Some(pack) => pack.clone(),
                None => {
                    let file = self.world.disk.create(&clean_name(id)).map_err(local)?;
                    let pack = self.local_pack(id, Ranges::default(), None);
                    self.files.keep(pack.ticket, file);
                    packs.insert(id, pack.clone());
                    pack
                }
            }
        };
        if pack.held.lock().staged.is_some() {
            return Ok(Kept::Staged);
        }
        let Some(file) = self.file(id, &pack).map_err(local)? else { return Ok(Kept::Evicted) };
        file.write_at(offset, bytes).map_err(local)?;
        pack.held.lock().present.add(offset..offset + bytes.len() as u64);
        let packs = self.local.lock();
        if !packs.get(&id).is_some_and(|now| Arc::ptr_eq(now, &pack)) {
            return Ok(Kept::Evicted);
        }
        self.budget.clean(Clean::Pack(id), space);
        Ok(Kept::Here)
    }
}

/// What became of fetched bytes.
enum Kept {
    /// Here, and counted.
    Here,
    /// The pack is a staged one: nothing to keep.
    Staged,
    /// The copy gave way while they were written.
    Evicted,
}

/// Why a part could not be read here.
#[derive(Debug)]
pub(crate) enum Miss {
    /// Not here: fetch it.
    Absent,
    /// A copy was here, did not open, and is forgotten: fetch it again.
    Unopened,
    /// It is only here, and bad.
    Damaged(FormatError),
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Barrier, thread, time::Duration};

    use haven_format::{Keys, LibraryId, MasterKey};
    use haven_store::memory::Memory;

    use super::*;
    use crate::{
        budget::Budget,
        disk::{Disk, DynFile, MemoryDisk},
        world::{Dice, SystemClock, World},
    };

    /// A disk that is slow to make a file: whoever looks meanwhile does not see it yet.
    #[derive(Debug)]
    struct SlowDisk(Arc<MemoryDisk>);

    impl Disk for SlowDisk {
        fn create(&self, name: &str) -> io::Result<DynFile> {
            #[allow(clippy::disallowed_methods, reason = "no runtime here, and threads that must meet")]
            thread::sleep(Duration::from_millis(20));
            self.0.create(name)
        }
        fn open(&self, name: &str) -> io::Result<DynFile> {
            self.0.open(name)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.remove(name)
        }
        fn list(&self, folder: &str) -> io::Result<Vec<String>> {
            self.0.list(folder)
        }
        fn sync_folder(&self, folder: &str) -> io::Result<()> {
            self.0.sync_folder(folder)
        }
    }

    fn packs(disk: Arc<dyn Disk>) -> Packs {
        let world = World {
            store: Arc::new(Memory::new()),
            disk,
            clock: Arc::new(SystemClock),
            dice: Arc::new(Dice::from_seed(1)),
            host: "here".into(),
            threads: true,
        };
        let keys = Keys::new(LibraryId([2; 16]), &MasterKey([7; 32]));
        Packs::new(world, keys, Arc::new(Budget::new(Budget::LIMIT_MIN)), true)
    }

    fn file_of(packs: &Packs, id: PackId) -> DynFile {
        let pack = packs.local.lock()[&id].clone();
        packs.file(id, &pack).unwrap().unwrap()
    }

    #[test]
    fn two_who_bring_parts_of_one_pack_both_leave_them() {
        let packs = packs(Arc::new(SlowDisk(MemoryDisk::new())));
        let (id, barrier) = (PackId([3; 16]), Barrier::new(2));
        thread::scope(|scope| {
            for (offset, byte) in [(0, 1), (4096, 2)] {
                let (packs, barrier) = (&packs, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    packs.keep(id, offset, vec![byte; 4096].into()).unwrap();
                });
            }
        });
        assert_eq!(packs.gaps(id, &(0..8192)), []);
        assert_eq!(file_of(&packs, id).read_at(0, 8192).unwrap(), [[1; 4096], [2; 4096]].concat());
    }

    #[test]
    fn who_reads_a_copy_that_gave_way_is_never_given_the_file_of_the_next() {
        let packs = packs(MemoryDisk::new());
        let id = PackId([3; 16]);
        packs.keep(id, 0, vec![1; 4096].into()).unwrap();
        let before = packs.local.lock()[&id].clone();
        let open = packs.file(id, &before).unwrap().unwrap();
        packs.drop_clean(id);
        packs.keep(id, 4096, vec![2; 4096].into()).unwrap();
        assert!(packs.file(id, &before).unwrap().is_none());
        assert_eq!(open.read_at(0, 4096).unwrap(), [1; 4096]);
        // It is read at the name, once it is not open any more.
        packs.files.shut(packs.local.lock()[&id].ticket);
        assert_eq!(file_of(&packs, id).read_at(4096, 4096).unwrap(), [2; 4096]);
    }

    #[test]
    fn a_copy_whose_file_somebody_has_removed_is_fetched_again() {
        let disk = MemoryDisk::new();
        let packs = packs(disk.clone());
        let (id, part) = (PackId([3; 16]), Part { offset: 0, len: 100 });
        packs.keep(id, 0, vec![1; 4096].into()).unwrap();
        packs.files.shut(packs.local.lock()[&id].ticket);
        disk.remove(&clean_name(id)).unwrap();
        assert!(matches!(packs.read(id, part), Err(Miss::Absent)));
        let gaps = packs.gaps(id, &(0..4096));
        assert!(gaps.len() == 1 && gaps[0] == (0..4096) && packs.budget.used().0 == 0, "{gaps:?}");
        packs.keep(id, 0, vec![2; 4096].into()).unwrap();
        assert_eq!(file_of(&packs, id).read_at(0, 4096).unwrap(), [2; 4096]);
    }

    #[test]
    fn a_copy_that_is_made_while_an_older_one_is_removed_is_counted() {
        let packs = packs(MemoryDisk::new());
        let id = PackId([3; 16]);
        for round in 0..2000 {
            packs.keep(id, 0, vec![1; 4096].into()).unwrap();
            let start = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    packs.drop_clean(id);
                });
                start.wait();
                packs.keep(id, 4096, vec![2; 4096].into()).unwrap();
            });
            let counted = packs.budget.used().0;
            let here = 8192 - packs.gaps(id, &(0..8192)).into_iter().map(|gap| gap.end - gap.start).sum::<u64>();
            assert_eq!(counted, here, "round {round}");
            packs.drop_clean(id);
            assert_eq!(packs.budget.used().0, 0, "round {round}");
        }
    }
}
