//! Plain files in a directory.
//!
//! The list of checksums grows as files are finished, under a name of its own; at the end it takes the place of the one
//! before. So an interrupted export knows what it had finished, and by `resume` that is looked at and not fetched again.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use haven_format::record::Time;
use haven_fs::Fs;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags},
    io::Errno,
};

use super::{
    ExportError, Summary,
    source::{Content, Item, Stream, What, Whole},
    sums::{self, Sum},
};

/// Files already there, by what an earlier export said of them.
#[derive(Debug, Clone)]
pub struct Known {
    top: PathBuf,
    sums: Arc<HashMap<PathBuf, Sum>>,
}

impl Known {
    /// The sum of the file if it is there as it should be: length, time, and every byte of it read again.
    pub async fn has(self, item: &Item) -> Option<Sum> {
        let wanted = *self.sums.get(&item.path)?;
        let (path, attr) = (self.top.join(&item.path), item.attr);
        let look = move || {
            let about = fs::symlink_metadata(&path).ok()?;
            let time = (attr.mtime.seconds, i64::from(attr.mtime.nanos));
            let same = about.is_file() && about.len() == attr.size && (about.mtime(), about.mtime_nsec()) == time;
            (same && sum_of(&path).ok()? == wanted).then_some(wanted)
        };
        tokio::task::spawn_blocking(look).await.ok()?
    }
}

fn sum_of(path: &Path) -> io::Result<Sum> {
    let mut file = File::open(path)?;
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sum::of(&hash.finish())),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// A directory that files are written to.
pub struct Folder {
    top: PathBuf,
    /// The list of checksums, when it is whole.
    list_path: PathBuf,
    list: BufWriter<File>,
    known: Known,
    /// To get their times when nothing is made in them any more.
    folders: Vec<Item>,
    /// Sums of files with several names.
    linked: HashMap<PathBuf, Sum>,
}

/// Where the list stands until it is whole.
fn unfinished(list: &Path) -> PathBuf {
    let mut name = list.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Extended attribute of the list: the id of the library that was exported. Not every disk has attributes.
const LIBRARY: &str = "user.haven.library";
/// More names for the list than any library takes.
const NAMES_MAX: usize = 16;

/// Whether an export has written to this directory: it leaves its list, whole or not.
pub fn is_export(top: &Path) -> bool {
    let is_file = |path: PathBuf| fs::symlink_metadata(path).is_ok_and(|about| about.is_file());
    let mut lists = sums::list_names().take(NAMES_MAX).map(|name| top.join(name));
    lists.any(|list| is_file(unfinished(&list)) || is_file(list))
}

/// Says in a list of which library it is; where the disk can't keep that, nothing is said.
fn mark(list: &File, library: &str) {
    _ = rustix::fs::fsetxattr(list, LIBRARY, library.as_bytes(), XattrFlags::empty());
}

/// Refuses a list that says it is of another library.
fn refuse_other(list: &Path, library: &str) -> Result<(), ExportError> {
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(list, LIBRARY, &mut value[..]).unwrap_or(0);
    let marked = String::from_utf8_lossy(&value[..length]);
    if marked.is_empty() || marked == library {
        return Ok(());
    }
    Err(ExportError::OtherLibrary { path: list.to_owned(), library: marked.into_owned() })
}

impl Folder {
    /// `top` is there; it is empty, or left by an export to be resumed. `list` is the name of the list of checksums, and
    /// `library` the id of what is exported.
    pub fn open(top: &Path, list: &str, library: &str) -> Result<Self, ExportError> {
        let list_path = top.join(list);
        let part = unfinished(&list_path);
        for list in [&list_path, &part] {
            refuse_other(list, library)?;
        }
        let work = || {
            let mut sums = HashMap::new();
            for path in [&list_path, &part] {
                match fs::read(path) {
                    Ok(list) => sums.extend(sums::read(&list)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            if part.exists() {
                // Both as one, or another interruption would lose what this list said.
                let joined: Vec<u8> = sums.iter().flat_map(|(path, sum)| sums::line(*sum, path)).collect();
                let new = top.join(format!("{list}.new"));
                let mut file = File::create(&new)?;
                file.write_all(&joined)?;
                mark(&file, library);
                fs::rename(&new, &list_path)?;
            }
            let file = File::create(&part)?;
            mark(&file, library);
            Ok((sums, BufWriter::new(file)))
        };
        let (sums, list) = work().map_err(|source| ExportError::Write { path: list_path.clone(), source })?;
        let known = Known { top: top.to_owned(), sums: Arc::new(sums) };
        Ok(Self { top: top.to_owned(), list_path, list, known, folders: Vec::new(), linked: HashMap::new() })
    }

    pub fn known(&self) -> Known {
        self.known.clone()
    }

    /// Makes one item.
    pub async fn put(&mut self, fs: &Fs, item: Item, content: Content, out: &mut Summary) -> Result<(), ExportError> {
        item.trouble.iter().for_each(|why| out.failed(&item.path, why));
        let path = self.top.join(&item.path);
        match &item.what {
            What::Unreadable => {}
            What::Folder => {
                if self.made(&item, make_folder(&path), out)? {
                    out.folders += 1;
                    self.folders.push(item);
                }
            }
            What::File => self.file(fs, &item, &path, content, out).await?,
            What::Symlink(target) => {
                let done = gone(&path).and_then(|()| symlink(OsStr::from_bytes(target), &path));
                if self.made(&item, done, out)? {
                    out.symlinks += 1;
                    attributes(&path, &item, out);
                }
            }
            What::HardLink(first) => {
                let done = gone(&path).and_then(|()| fs::hard_link(self.top.join(first), &path));
                if self.made(&item, done, out)? {
                    out.hard_links += 1;
                    if let Some(sum) = self.linked.get(first).copied() {
                        self.note(sum, &item.path)?;
                    }
                }
            }
            What::Special => {
                let (kind, mode) =
                    (FileType::from_raw_mode(item.attr.mode), Mode::from_raw_mode(item.attr.mode & 0o7777));
                let make = |()| Ok(rustix::fs::mknodat(CWD, &path, kind, mode, item.attr.rdev.into())?);
                if self.made(&item, gone(&path).and_then(make), out)? {
                    out.special += 1;
                    attributes(&path, &item, out);
                }
            }
        }
        Ok(())
    }

    /// Whether it worked. What fails for this name alone is noted; a full or dead disk ends the export.
    fn made(&self, item: &Item, done: io::Result<()>, out: &mut Summary) -> Result<bool, ExportError> {
        let Err(source) = done else { return Ok(true) };
        let hopeless = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO];
        if Errno::from_io_error(&source).is_some_and(|errno| hopeless.contains(&errno)) {
            return Err(ExportError::Write { path: self.top.join(&item.path), source });
        }
        out.failed(&item.path, format!("it can't be made here: {source}"));
        Ok(false)
    }

    async fn file(
        &mut self,
        fs: &Fs,
        item: &Item,
        path: &Path,
        content: Content,
        out: &mut Summary,
    ) -> Result<(), ExportError> {
        let (sum, trouble) = match content {
            Content::There(sum) => {
                out.kept += 1;
                (sum, None)
            }
            Content::Failed(why) => {
                out.failed(&item.path, why);
                return Ok(());
            }
            Content::Whole(Whole { data, sum, trouble }) => {
                let write = || {
                    let file = create(path, item.attr.size)?;
                    data.iter().try_for_each(|(offset, bytes)| file.write_all_at(bytes, *offset))
                };
                if !self.made(item, write(), out)? {
                    return Ok(());
                }
                (sum, trouble)
            }
            Content::Large | Content::Nothing => {
                let mut stream = match Stream::open(fs, item).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        out.failed(&item.path, error);
                        return Ok(());
                    }
                };
                let file = create(path, item.attr.size);
                while let (Ok(file), Some((offset, bytes))) = (&file, stream.next().await) {
                    if !self.made(item, file.write_all_at(&bytes, offset), out)? {
                        return Ok(());
                    }
                }
                let closed = stream.close();
                if !self.made(item, file.map(drop), out)? {
                    return Ok(());
                }
                closed
            }
        };
        attributes(path, item, out);
        (out.files, out.bytes) = (out.files + 1, out.bytes + item.attr.size);
        if let Some(why) = trouble {
            out.failed(&item.path, why);
            return Ok(());
        }
        if item.attr.nlink > 1 {
            self.linked.insert(item.path.clone(), sum);
        }
        self.note(sum, &item.path)
    }

    fn note(&mut self, sum: Sum, path: &Path) -> Result<(), ExportError> {
        let written = self.list.write_all(&sums::line(sum, path));
        written.map_err(|source| ExportError::Write { path: self.list_path.clone(), source })
    }

    /// Gives folders their times, ends the list, and has the disk keep it all.
    pub fn finish(mut self, out: &mut Summary) -> Result<(), ExportError> {
        let mut end = || {
            self.list.flush()?;
            rustix::fs::syncfs(self.list.get_ref())?;
            fs::rename(unfinished(&self.list_path), &self.list_path)
        };
        end().map_err(|source| ExportError::Write { path: self.list_path.clone(), source })?;
        // Innermost first: making something inside changes a folder's time.
        while let Some(folder) = self.folders.pop() {
            attributes(&self.top.join(&folder.path), &folder, out);
        }
        let synced = rustix::fs::syncfs(self.list.get_ref());
        synced.map_err(|error| ExportError::Write { path: self.top, source: error.into() })
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(path)?.is_dir() => Ok(()),
        other => other,
    }
}

/// Removes what an earlier export has left under this name: never writes into it, since it may have other names.
fn gone(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn create(path: &Path, size: u64) -> io::Result<File> {
    gone(path)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_len(size)?;
    Ok(file)
}

/// Owner, extended attributes, mode, times: what this user and this disk can keep is kept, the rest is told.
fn attributes(path: &Path, item: &Item, out: &mut Summary) {
    let mut told = |what: &str, error: io::Error| out.incomplete(&item.path, format!("{what}: {error}"));
    let attr = &item.attr;
    let link = matches!(item.what, What::Symlink(_));
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Some(attr.uid), Some(attr.gid));
        let done = if link { lchown(path, uid, gid) } else { chown(path, uid, gid) };
        done.unwrap_or_else(|error| told("its owner", error));
    }
    for (name, value) in &item.xattrs {
        let name = OsStr::from_bytes(name);
        let set = rustix::fs::lsetxattr(path, name, value, XattrFlags::empty());
        set.unwrap_or_else(|error| told(&format!("its attribute {}", name.to_string_lossy()), error.into()));
    }
    if !link {
        let set = fs::set_permissions(path, fs::Permissions::from_mode(attr.mode & 0o7777));
        set.unwrap_or_else(|error| told("its mode", error));
    }
    let times = Timestamps { last_access: timespec(attr.atime), last_modification: timespec(attr.mtime) };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .unwrap_or_else(|error| told("its times", error.into()));
}

fn timespec(time: Time) -> Timespec {
    let nanos = if time.nanos < 1_000_000_000 { time.nanos.into() } else { UTIME_OMIT };
    Timespec { tv_sec: time.seconds, tv_nsec: nanos }
}
