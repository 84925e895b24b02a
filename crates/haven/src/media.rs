//! The application's folder of a recovery point, wherever it lies: in a folder, or in an archive of Borg's or restic's that
//! is read without being unpacked.

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use aws_lc_rs::digest::{Context as Hash, SHA1_FOR_LEGACY_USE_ONLY};
use haven_offsite::{Cancel, Entry, Sort, Streamed, Wanted, Watch};
use haven_point::{
    Folder,
    check::{self, Files, Progress},
    immich::Sha1,
};
use haven_recover::{
    drill::Known,
    lay::{self, Inventory, Laid},
};
use rayon::prelude::*;

use crate::{
    cli::{
        copy::Opened,
        recover::{is_photo, pooled, trouble},
    },
    copies::Format,
    report::{Code, Trouble},
};

/// An archive that holds a point.
pub struct Held {
    pub copy: Opened,
    pub archive: haven_offsite::Archive,
    /// All that is in it.
    pub entries: Arc<Vec<Entry>>,
    /// Ends what the program does.
    pub cancel: Cancel,
}

/// Where the files are.
#[derive(Clone)]
pub enum Media {
    Folder(PathBuf),
    Archive { held: Arc<Held>, below: Arc<Listed>, root: String },
}

/// What lies in a folder of an archive, by its path there.
#[derive(Default)]
pub struct Listed {
    files: HashMap<String, u64>,
    /// Further names of a file, and its first.
    links: HashMap<String, String>,
    folders: u64,
    pub bytes: u64,
    /// What lies in it itself.
    tops: BTreeSet<String>,
}

/// Where Haven keeps what is its own, in the root of a library.
const OWN: &str = ".haven";

impl Listed {
    fn of(entries: &[Entry], root: &str) -> Self {
        let mut found = Self::default();
        let below = |path: &[u8]| {
            let path = String::from_utf8_lossy(path).into_owned();
            let rest = if root.is_empty() { Some(path.as_str()) } else { path.strip_prefix(root) };
            let rest = rest.map(|rest| rest.strip_prefix('/').map_or((rest, root.is_empty()), |rest| (rest, true)));
            rest.filter(|(rest, whole)| *whole && !rest.is_empty()).map(|(rest, _)| rest.to_owned())
        };
        let own = |path: &str| root.is_empty() && (path == OWN || path.starts_with(".haven/"));
        for entry in entries {
            let Some(path) = below(&entry.path).filter(|path| !own(path)) else { continue };
            if let Some(top) = path.split('/').next() {
                found.tops.insert(top.to_owned());
            }
            match entry.sort {
                Sort::Directory => found.folders += 1,
                Sort::Link => {
                    if let Some(first) = below(&entry.target) {
                        found.links.insert(path, first);
                    }
                }
                Sort::File => {
                    found.bytes += entry.size;
                    found.files.insert(path, entry.size);
                }
                Sort::Other => {}
            }
        }
        found
    }

    fn first<'a>(&'a self, path: &'a str) -> &'a str {
        self.links.get(path).map_or(path, String::as_str)
    }
}

impl Files for Listed {
    fn sha1(&self, _: &str) -> io::Result<Option<(u64, Sha1)>> {
        Err(io::Error::other("it was not read"))
    }

    fn length(&self, path: &str) -> io::Result<Option<u64>> {
        Ok(self.files.get(self.first(path)).copied())
    }

    fn walk(&self, each: &mut dyn FnMut(&str, u64)) -> io::Result<()> {
        self.files.iter().for_each(|(path, bytes)| each(path, *bytes));
        self.links.keys().for_each(|path| each(path, 0));
        Ok(())
    }
}

/// What reading it has shown.
struct Summed<'a> {
    listed: &'a Listed,
    sums: HashMap<String, (u64, Sha1)>,
    failed: HashMap<String, String>,
}

impl Files for Summed<'_> {
    fn sha1(&self, path: &str) -> io::Result<Option<(u64, Sha1)>> {
        let path = self.listed.first(path);
        match (self.sums.get(path), self.failed.get(path)) {
            (Some(sum), _) => Ok(Some(*sum)),
            (None, Some(why)) => Err(io::Error::other(why.clone())),
            // In the list, and not in what came: that is no file that is missing.
            (None, None) if self.listed.files.contains_key(path) => Err(io::Error::other("it did not come")),
            (None, None) => Ok(None),
        }
    }

    fn length(&self, path: &str) -> io::Result<Option<u64>> {
        self.listed.length(path)
    }

    fn walk(&self, each: &mut dyn FnMut(&str, u64)) -> io::Result<()> {
        self.listed.walk(each)
    }
}

/// Reads to the end.
fn sha1_of(from: &mut dyn Read, read: &AtomicU64) -> io::Result<(u64, Sha1)> {
    let (mut hash, mut piece, mut bytes) = (Hash::new(&SHA1_FOR_LEGACY_USE_ONLY), vec![0; 1 << 18], 0);
    loop {
        match from.read(&mut piece)? {
            0 => break,
            count => {
                hash.update(&piece[..count]);
                bytes += count as u64;
                read.fetch_add(count as u64, Ordering::Relaxed);
            }
        }
    }
    let mut sha1 = [0; 20];
    sha1.copy_from_slice(hash.finish().as_ref());
    Ok((bytes, sha1))
}

impl Media {
    /// The folder `root` in an archive.
    pub fn archive(held: &Arc<Held>, root: &str) -> Self {
        let below = Arc::new(Listed::of(&held.entries, root));
        Self::Archive { held: held.clone(), below, root: root.to_owned() }
    }

    /// Names and lengths, for whoever needs no bytes.
    pub fn files(&self) -> Box<dyn Files + '_> {
        match self {
            Self::Folder(path) => Box::new(Folder(path.clone())),
            Self::Archive { below, .. } => Box::new(&**below),
        }
    }

    /// How many files, and their bytes.
    pub fn size(&self) -> Result<(u64, u64), Trouble> {
        match self {
            Self::Folder(path) => {
                let inventory = Inventory::of(path, &|_| true).map_err(|error| trouble(&error))?;
                Ok((inventory.files(), inventory.bytes))
            }
            Self::Archive { below, .. } => Ok(((below.files.len() + below.links.len()) as u64, below.bytes)),
        }
    }

    /// Copies it to `to`: all of it, or the files named. What is there already with the same length and time stays.
    pub fn bring(
        &self,
        only: Option<&BTreeSet<PathBuf>>,
        to: &Path,
        parallel: u16,
        stop: &AtomicBool,
        told: &(dyn Fn(lay::Progress) + Sync),
    ) -> Result<Laid, Trouble> {
        let (held, below, root) = match self {
            Self::Archive { held, below, root } => (held, below, root),
            Self::Folder(from) => {
                let inventory = match only {
                    Some(only) => Inventory::only(from, only),
                    None => Inventory::of(from, &|_| true),
                };
                let inventory = inventory.map_err(|error| trouble(&error))?;
                let laid = pooled(parallel, || lay::lay(from, &inventory, to, stop, &is_photo, told))?;
                return laid.map_err(|error| trouble(&error));
            }
        };
        let paths = match only {
            Some(only) => only.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            // What is Haven's own is not the application's.
            None if root.is_empty() => below.tops.iter().cloned().collect(),
            None => Vec::new(),
        };
        let (files_total, bytes_total) = match only {
            Some(only) => (only.len() as u64, only.iter().filter_map(|p| below.files.get(&*p.to_string_lossy())).sum()),
            None => (below.files.len() as u64, below.bytes),
        };
        std::fs::create_dir_all(to)
            .map_err(|source| trouble(&haven_recover::Error::Write { path: to.into(), source }))?;
        let (begun, mut first) = (Instant::now(), None);
        let mut progress = |progress: &haven_offsite::Progress| {
            if progress.files > 0 {
                first.get_or_insert_with(|| begun.elapsed());
            }
            told(lay::Progress { files: progress.files, files_total, bytes: progress.bytes, bytes_total });
        };
        let wanted = held.wanted(paths, root, parallel);
        let count = held
            .copy
            .copy
            .go_on(&wanted, to, &mut Watch { cancel: held.cancel.clone(), progress: &mut progress })
            .map_err(|error| held.copy.trouble(&error))?;
        let folders = if only.is_some() { 0 } else { below.folders };
        // Nothing is told of what was there already.
        let first = first.or_else(|| (count.files > 0).then(|| begun.elapsed()));
        Ok(Laid { files: count.files, bytes: count.bytes, folders, kept: count.kept, first, ..Laid::default() })
    }

    /// Reads what `known` promises, and compares it. Nothing is written.
    pub fn check(
        &self,
        known: &Known,
        parallel: u16,
        told: &(dyn Fn(Progress) + Sync),
    ) -> Result<check::Report, Trouble> {
        let (held, below, root) = match self {
            Self::Archive { held, below, root } => (held, below, root),
            Self::Folder(path) => {
                let checked = pooled(parallel, || known.check(&Folder(path.clone()), told))?;
                return checked.map_err(|source| trouble(&haven_recover::Error::Read { path: path.clone(), source }));
            }
        };
        let places = known.promised().flat_map(|asset| known.places(asset)).map(|place| below.first(place));
        let wanted: BTreeSet<&str> = places.filter(|place| below.files.contains_key(*place)).collect();
        let of = known.promised().count() as u64;
        let (done, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let sums = Mutex::new(HashMap::new());
        let each = |path: &[u8], from: &mut dyn Read| -> io::Result<()> {
            let path = String::from_utf8_lossy(path);
            if !wanted.contains(&*path) {
                return Ok(());
            }
            let sum = sha1_of(from, &bytes)?;
            sums.lock().unwrap_or_else(PoisonError::into_inner).insert(path.into_owned(), sum);
            let assets = done.fetch_add(1, Ordering::Relaxed) + 1;
            told(Progress { assets, of, bytes: bytes.load(Ordering::Relaxed) });
            Ok(())
        };
        // restic hands out whole folders, or each file at the price of a start.
        let few = wanted.len() * 4 < below.files.len() && wanted.len() < 2000;
        let whole = held.copy.config.format == Format::Restic && !few;
        let streamed = if wanted.is_empty() {
            Streamed::default()
        } else {
            let paths = if whole { Vec::new() } else { wanted.iter().map(|path| (*path).to_owned()).collect() };
            held.stream(paths, root, parallel, &each)?
        };
        let failed = streamed.failed.into_iter();
        let failed = failed.map(|(path, why)| (String::from_utf8_lossy(&path).into_owned(), why)).collect();
        let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        let summed = Summed { listed: below, sums, failed };
        known.check(&summed, &|_| ()).map_err(|error| Trouble::new(Code::Bug, error.to_string()))
    }

    /// Reads every byte, for whoever has nothing to compare it with: files, and bytes.
    pub fn read_all(&self, parallel: u16, told: &(dyn Fn(u64) + Sync)) -> Result<(u64, u64), Trouble> {
        let bytes = AtomicU64::new(0);
        let drain = |from: &mut dyn Read| -> io::Result<u64> {
            let count = io::copy(from, &mut io::sink())?;
            told(bytes.fetch_add(count, Ordering::Relaxed) + count);
            Ok(count)
        };
        match self {
            Self::Folder(folder) => {
                let inventory = Inventory::of(folder, &|_| true).map_err(|error| trouble(&error))?;
                let read = pooled(parallel, || {
                    inventory.paths().par_iter().try_for_each(|below| {
                        let path = folder.join(below);
                        let read = || match std::fs::symlink_metadata(&path)?.is_file() {
                            true => drain(&mut std::fs::File::open(&path)?).map(drop),
                            false => Ok(()),
                        };
                        read().map_err(|source| haven_recover::Error::Read { path: path.clone(), source })
                    })
                })?;
                read.map_err(|error| trouble(&error))?;
                Ok((inventory.files(), bytes.into_inner()))
            }
            Self::Archive { held, below, root } => {
                let paths = if root.is_empty() { below.tops.iter().cloned().collect() } else { Vec::new() };
                let streamed = held.stream(paths, root, parallel, &|_, from| drain(from).map(drop))?;
                match streamed.failed.first() {
                    None => Ok((streamed.files, streamed.bytes)),
                    Some((path, why)) => Err(Trouble::new(
                        Code::Damaged,
                        format!("{} can't be read: {why}", String::from_utf8_lossy(path)),
                    )),
                }
            }
        }
    }
}

impl Held {
    fn wanted(&self, paths: Vec<String>, root: &str, parallel: u16) -> Wanted {
        // Each is a program of its own, with its own memory.
        let parallel = usize::from(parallel).min(self.copy.config.parallel).clamp(1, 64);
        Wanted { archive: self.archive.name.clone(), paths, root: root.to_owned(), parallel }
    }

    pub fn stream(
        &self,
        paths: Vec<String>,
        root: &str,
        parallel: u16,
        each: &haven_offsite::Each,
    ) -> Result<Streamed, Trouble> {
        let mut unseen = |_: &haven_offsite::Progress| {};
        let mut watch = Watch { cancel: self.cancel.clone(), progress: &mut unseen };
        let streamed = self.copy.copy.stream(&self.wanted(paths, root, parallel), each, &mut watch);
        streamed.map_err(|error| self.copy.trouble(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, sort: Sort, size: u64, target: &str) -> Entry {
        Entry { path: path.into(), sort, size, modified: None, target: target.into() }
    }

    #[test]
    fn a_folder_of_an_archive_is_what_lies_below_it_and_nothing_of_havens() {
        let entries = [
            entry("immich", Sort::Directory, 0, ""),
            entry("immich/upload/a.jpg", Sort::File, 3, ""),
            entry("immich/upload/b.jpg", Sort::Link, 0, "immich/upload/a.jpg"),
            entry("immich2/c.jpg", Sort::File, 5, ""),
            entry(".haven/points/x/manifest.json", Sort::File, 7, ""),
        ];
        let below = Listed::of(&entries, "immich");
        assert_eq!((below.files.len(), below.bytes), (1, 3));
        assert_eq!(below.length("upload/b.jpg").unwrap(), Some(3));
        let all = Listed::of(&entries, "");
        assert_eq!(
            (all.bytes, all.tops.iter().map(String::as_str).collect::<Vec<_>>()),
            (8, vec!["immich", "immich2"])
        );
    }
}
