//! The same calls on the model and on the real file system.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use haven_format::{Ino, TxSeq};

use super::{Content, Id, Kind, Model, Step, TOP, Tree, step::Verb, tree::settled};
use crate::{Attr, Caller, Fs, FsError, Handle, SetAttr, WriteFlags};

/// Handles that are open at once, at most.
const HANDLES: usize = 8;
/// Calls of the trace that are kept.
const TRACE: usize = 400;

const WHO: Caller<'static> = Caller::ROOT;

/// What a driver knows between two steps, to go back to.
#[derive(Debug, Clone)]
pub struct Moment {
    model: Model,
    inos: BTreeMap<Id, Ino>,
}

impl Moment {
    /// What a reader sees, had the machine died then.
    pub fn tree(&self) -> Tree {
        self.model.tree()
    }
}

/// Makes steps on both, and compares.
pub struct Driver {
    pub fs: Arc<Fs>,
    pub model: Model,
    inos: BTreeMap<Id, Ino>,
    lookups: BTreeMap<Id, u64>,
    handles: Vec<(Id, Handle)>,
    /// The calls made, for whoever reads about a failure.
    pub trace: Vec<String>,
    /// The newest commit that an fsync has promised to keep.
    pub synced: TxSeq,
}

type Outcome<T = ()> = Result<T, String>;

impl Driver {
    /// Over a new, empty library.
    pub fn new(fs: Arc<Fs>) -> Self {
        let inos = BTreeMap::from([(TOP, Ino::ROOT)]);
        let (lookups, handles, trace) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { fs, model: Model::new(), inos, lookups, handles, trace, synced: TxSeq(0) }
    }

    pub fn moment(&self) -> Moment {
        Moment { model: self.model.clone(), inos: self.inos.clone() }
    }

    /// Goes back; the real one is what [`Driver::resume`] is given next.
    pub fn restore(&mut self, moment: Moment) {
        (self.model, self.inos) = (moment.model, moment.inos);
    }

    /// One step on both; an error says how they differ.
    pub async fn step(&mut self, step: &Step) -> Outcome {
        let result = self.dispatch(step).await;
        self.sweep();
        result
    }

    /// Hands everything in memory to the vault, as an orderly end does.
    pub async fn store_all(&mut self) -> Outcome {
        let fs = self.fs.clone();
        settled!(fs, fs.flush_all()).map_err(|error| format!("flush_all: {error}"))?;
        let ids: Vec<_> = self.model.nodes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.model.saved(id));
        Ok(())
    }

    /// Compares everything a reader sees; open files are read as they are.
    pub async fn compare(&mut self) -> Outcome {
        let found = Tree::read(&self.fs).await.map_err(|error| format!("reading the tree: {error}"))?;
        let mut expected = self.model.tree();
        for (path, facts) in &mut expected.0 {
            // Without a crash nothing is unsure.
            if let (Content::Unsure(_), Some(id)) = (&facts.content, self.at(path)) {
                facts.content = Content::Known(self.model.data(id).clone());
            }
        }
        self.verdict(&expected, &found)?;
        self.sound()
    }

    /// Goes on over a file system that was opened anew: `crashed` without a chance to store what was in memory.
    pub async fn resume(&mut self, fs: Arc<Fs>, crashed: bool) -> Outcome {
        self.trace.push(format!("resume(crashed: {crashed})"));
        self.fs = fs;
        self.handles.clear();
        self.lookups.clear();
        let found = Tree::read(&self.fs).await.map_err(|error| format!("reading the tree: {error}"))?;
        self.verdict(&self.model.tree(), &found)?;
        for (path, facts) in &found.0 {
            if let (Content::Known(bytes), Some(id)) = (&facts.content, self.at(path)) {
                self.model.data(id).clone_from(bytes);
                self.model.saved(id);
            }
        }
        settled!(self.fs, self.fs.tick()).map_err(|error| format!("tick: {error}"))?;
        self.sweep();
        self.sound()?;
        let expected = self.model.nodes.len() as u64;
        let inodes = self.fs.vault.totals().inodes;
        if inodes == expected { Ok(()) } else { Err(format!("{inodes} inodes, expected {expected}")) }
    }

    fn verdict(&self, expected: &Tree, found: &Tree) -> Outcome {
        expected.differs(found).map_or(Ok(()), Err)
    }

    fn sound(&self) -> Outcome {
        match self.fs.check() {
            Ok(faults) if faults.is_empty() => Ok(()),
            // Records may still be in the bucket; then there is nothing to say.
            Err(FsError::Need(_)) => Ok(()),
            other => Err(format!("check: {other:?}")),
        }
    }

    fn at(&mut self, path: &[u8]) -> Option<Id> {
        path.split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .try_fold(TOP, |at, name| self.model.find(at, name).ok())
    }

    /// Forgets nodes that nobody can reach.
    fn sweep(&mut self) {
        let (handles, lookups) = (&self.handles, &self.lookups);
        let gone = |id: &Id| !lookups.contains_key(id) && !handles.iter().any(|(open, _)| open == id);
        self.model.nodes.retain(|id, node| node.nlink > 0 || !gone(id));
        self.inos.retain(|id, _| self.model.nodes.contains_key(id));
    }

    fn same<T, U>(&self, call: &str, real: Result<T, FsError>, model: Result<U, i32>) -> Outcome<Option<(T, U)>> {
        match (real, model) {
            (Ok(real), Ok(model)) => Ok(Some((real, model))),
            (Err(error), Err(errno)) if error.errno() == errno => Ok(None),
            (Ok(_), Err(errno)) => Err(format!("{call}: succeeded, expected errno {errno}")),
            (Err(error), model) => Err(format!("{call}: {error}, expected {:?}", model.err().map_or(0, |errno| errno))),
        }
    }

    fn note(&mut self, call: String) -> String {
        if self.trace.len() == TRACE {
            self.trace.remove(0);
        }
        self.trace.push(call.clone());
        call
    }

    fn known(&mut self, attr: &Attr, id: Id) -> Outcome {
        *self.lookups.entry(id).or_default() += 1;
        let expected = *self.inos.entry(id).or_insert(attr.ino);
        let node = &self.model.nodes[&id];
        let size = match &node.kind {
            Kind::File { data, .. } => data.len() as u64,
            Kind::Link(target) => target.len() as u64,
            Kind::Directory { .. } => crate::DIRECTORY_SIZE,
            Kind::Other => 0,
        };
        let is = (attr.ino, attr.mode, attr.nlink, attr.uid, attr.size);
        let should = (expected, node.mode, node.nlink, node.uid, size);
        if is == should { Ok(()) } else { Err(format!("attributes {is:?}, expected {should:?}")) }
    }

    fn directory(&self, step: &Step, place: usize) -> (Id, Ino) {
        let directories = self.model.directories();
        let id = directories[step.pick(place, directories.len())];
        (id, self.inos[&id])
    }

    fn handle(&self, step: &Step, place: usize) -> Option<(Id, Ino, Handle)> {
        let &(id, handle) = self.handles.get(step.pick(place, self.handles.len()))?;
        Some((id, self.inos[&id], handle))
    }

    /// Any node, or any file, that a program can reach.
    fn any(&self, step: &Step, place: usize, file: bool) -> Option<(Id, Ino)> {
        let fits = |id: &&Id| !file || matches!(self.model.nodes[id].kind, Kind::File { .. });
        let open = |id: &Id| self.handles.iter().any(|(open, _)| open == id);
        let reached = |id: &&Id| self.model.nodes[id].nlink > 0 || open(id);
        let ids: Vec<_> = self.model.nodes.keys().filter(fits).filter(reached).copied().collect();
        let id = *ids.get(step.pick(place, ids.len()))?;
        Some((id, self.inos[&id]))
    }

    async fn dispatch(&mut self, step: &Step) -> Outcome {
        match step.verb() {
            Verb::Create | Verb::Mkdir | Verb::Symlink | Verb::Mknod | Verb::Nameless => self.make(step).await,
            Verb::Link | Verb::Unlink | Verb::Rmdir | Verb::Rename | Verb::Lookup => self.names(step).await,
            Verb::Write | Verb::Read | Verb::Seek | Verb::Truncate | Verb::Allocate | Verb::Copy => {
                self.bytes(step).await
            }
            Verb::Open | Verb::Close | Verb::Flush | Verb::Fsync | Verb::Tick | Verb::FlushAll => self.keep(step).await,
            _ => self.attributes(step).await,
        }
    }

    async fn make(&mut self, step: &Step) -> Outcome {
        let fs = self.fs.clone();
        let ((parent, ino), name) = (self.directory(step, 1), step.name(2));
        let bits = [0o644, 0o600, 0o755, 0o1777][step.pick(3, 4)];
        let call = self.note(format!("{:?}({parent}, {:?}, {bits:o})", step.verb(), name.escape_ascii().to_string()));
        let file = || Kind::File { data: Vec::new(), unsaved: None };
        let full = self.handles.len() >= HANDLES;
        match step.verb() {
            Verb::Create if !full => {
                let excl = if step.pick(4, 2) == 0 { libc::O_EXCL } else { 0 };
                let real = settled!(fs, fs.create(&WHO, ino, name, bits, excl));
                let mut model = self.model.make(parent, name, libc::S_IFREG | bits, file(), 0);
                if let (Err(libc::EEXIST), 0, Ok(there)) = (model, excl, self.model.find(parent, name)) {
                    model = if self.model.is_dir(there) { Err(libc::EISDIR) } else { Ok(there) };
                }
                if let Some(((attr, handle), id)) = self.same(&call, real, model)? {
                    self.known(&attr, id)?;
                    self.handles.push((id, handle));
                }
            }
            Verb::Nameless if !full => {
                let (attr, handle) =
                    settled!(fs, fs.tmpfile(&WHO, ino, bits, 0)).map_err(|e| format!("{call}: {e}"))?;
                let id = self.model.nameless(libc::S_IFREG | bits);
                self.known(&attr, id)?;
                self.handles.push((id, handle));
            }
            Verb::Create | Verb::Nameless => {}
            verb => {
                let target = step.bytes(4, step.pick(5, 200) + 1);
                let (real, mode, kind, rdev) = match verb {
                    Verb::Mkdir => {
                        let kind = Kind::Directory { entries: BTreeMap::new(), parent };
                        (settled!(fs, fs.mkdir(&WHO, ino, name, bits)), libc::S_IFDIR | bits, kind, 0)
                    }
                    Verb::Symlink => {
                        let real = settled!(fs, fs.symlink(&WHO, ino, name, &target));
                        (real, libc::S_IFLNK | 0o777, Kind::Link(target), 0)
                    }
                    _ => {
                        let (kind, rdev) =
                            [(libc::S_IFIFO, 0), (libc::S_IFCHR, 0x501), (libc::S_IFSOCK, 0)][step.pick(4, 3)];
                        let real = settled!(fs, fs.mknod(&WHO, ino, name, kind | bits, rdev));
                        (real, kind | bits, Kind::Other, rdev)
                    }
                };
                let model = self.model.make(parent, name, mode, kind, rdev);
                if let Some((attr, id)) = self.same(&call, real, model)? {
                    self.known(&attr, id)?;
                }
            }
        }
        Ok(())
    }

    async fn names(&mut self, step: &Step) -> Outcome {
        let fs = self.fs.clone();
        let ((parent, ino), name) = (self.directory(step, 1), step.name(2));
        let ((parent2, ino2), name2) = (self.directory(step, 3), step.name(4));
        let text = |name: &[u8]| name.escape_ascii().to_string();
        let call = format!("{:?}({parent}, {:?}, {parent2}, {:?})", step.verb(), text(name), text(name2));
        let call = self.note(call);
        match step.verb() {
            Verb::Link => {
                let Some((id, child)) = self.any(step, 5, false) else { return Ok(()) };
                let real = settled!(fs, fs.link(child, ino, name));
                let model = self.model.link(id, parent, name);
                if let Some((attr, ())) = self.same(&call, real, model)? {
                    self.known(&attr, id)?;
                }
            }
            Verb::Unlink => {
                let real = settled!(fs, fs.unlink(ino, name));
                let model = self.model.unlink(parent, name);
                self.same(&call, real, model)?;
            }
            Verb::Rmdir => {
                let real = settled!(fs, fs.rmdir(ino, name));
                let model = self.model.rmdir(parent, name);
                self.same(&call, real, model)?;
            }
            Verb::Rename => {
                let flags = [0, 0, libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE][step.pick(5, 4)];
                let real = settled!(fs, fs.rename(ino, name, ino2, name2, flags));
                let model = self.model.rename((parent, name), (parent2, name2), flags);
                self.same(&format!("{call} flags {flags}"), real, model)?;
            }
            _ => {
                let real = settled!(fs, fs.lookup(ino, name));
                let model = self.model.find(parent, name);
                if let Some((attr, id)) = self.same(&call, real, model)? {
                    self.known(&attr, id)?;
                }
            }
        }
        Ok(())
    }

    async fn bytes(&mut self, step: &Step) -> Outcome {
        let fs = self.fs.clone();
        let (offset, len) = (step.offset(2), step.length(3));
        if step.verb() == Verb::Truncate {
            let Some((id, ino)) = self.any(step, 1, true) else { return Ok(()) };
            let call = self.note(format!("truncate({id}, {offset})"));
            let set = SetAttr { size: Some(offset as u64), ..Default::default() };
            settled!(fs, fs.setattr(&WHO, ino, &set, None)).map_err(|error| format!("{call}: {error}"))?;
            self.model.truncate(id, offset);
            return Ok(());
        }
        let Some((id, ino, handle)) = self.handle(step, 1) else { return Ok(()) };
        let Kind::File { data, .. } = &self.model.nodes[&id].kind else { return Ok(()) };
        let size = data.len();
        let call = self.note(format!("{:?}({id}, {offset}, {len}, {})", step.verb(), step.0[4]));
        let tell = |error: FsError| format!("{call}: {error}");
        match step.verb() {
            Verb::Write => {
                // Half of all writes go on where the file ends, as most programs do.
                let offset = if step.pick(5, 2) == 0 { size } else { offset };
                let bytes = step.bytes(4, len);
                settled!(fs, fs.write(ino, handle, offset as u64, &bytes, WriteFlags::default())).map_err(tell)?;
                self.model.write(id, offset, &bytes);
            }
            Verb::Read => {
                let real = settled!(fs, fs.read(ino, handle, offset as u64, len)).map_err(tell)?;
                let expected = &self.model.data(id)[offset.min(size)..(offset + len).min(size)];
                if real != expected {
                    return Err(format!("{call}: {} bytes differ from {} expected", real.len(), expected.len()));
                }
            }
            Verb::Seek => self.seek(step, &call, (id, ino, handle), offset).await?,
            Verb::Allocate => {
                let (keep, punch) = (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_PUNCH_HOLE);
                let zero = libc::FALLOC_FL_ZERO_RANGE;
                let mode = [0, keep, punch | keep, zero, zero | keep][step.pick(4, 5)];
                settled!(fs, fs.fallocate(ino, handle, offset as u64, len as u64, mode)).map_err(tell)?;
                let grow = mode & keep == 0;
                if mode & !keep != 0 {
                    self.model.zero(id, offset..offset + len, grow);
                } else if grow && size < offset + len {
                    self.model.truncate(id, offset + len);
                }
                self.model.saved(id);
            }
            _ => self.copy(step, &call, (id, ino, handle), offset, len).await?,
        }
        Ok(())
    }

    async fn seek(&mut self, step: &Step, call: &str, of: (Id, Ino, Handle), offset: usize) -> Outcome {
        let (id, ino, handle) = of;
        let fs = self.fs.clone();
        let whence = [libc::SEEK_DATA, libc::SEEK_HOLE][step.pick(4, 2)];
        let real = settled!(fs, fs.lseek(ino, handle, offset as u64, whence));
        let data = self.model.data(id);
        let zero_from = |at: usize| data[at..].iter().all(|byte| *byte == 0);
        match real {
            Err(error) if error.errno() == libc::ENXIO && offset >= data.len() => Ok(()),
            Err(error) if error.errno() == libc::ENXIO && whence == libc::SEEK_DATA && zero_from(offset) => Ok(()),
            Ok(at) if whence == libc::SEEK_DATA => {
                let skipped = data.get(offset..at as usize);
                let zero = skipped.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
                if zero { Ok(()) } else { Err(format!("{call}: {at} skips data")) }
            }
            Ok(at) if at as usize <= data.len() && at as usize >= offset => Ok(()),
            other => Err(format!("{call}: {other:?} in {} bytes", data.len())),
        }
    }

    async fn copy(&mut self, step: &Step, call: &str, from: (Id, Ino, Handle), at: usize, len: usize) -> Outcome {
        let fs = self.fs.clone();
        let Some((to, to_ino, to_handle)) = self.handle(step, 4) else { return Ok(()) };
        let Kind::File { .. } = self.model.nodes[&to].kind else { return Ok(()) };
        let (id, ino, handle) = from;
        let to_at = step.offset(5);
        let real =
            settled!(fs, fs.copy_file_range((ino, handle, at as u64), (to_ino, to_handle, to_at as u64), len as u64));
        let size = self.model.data(id).len();
        let overlaps = id == to && at < to_at + len && to_at < at + len;
        let bytes = self.model.data(id)[at.min(size)..(at + len).min(size)].to_vec();
        let model = if overlaps { Err(libc::EINVAL) } else { Ok(bytes) };
        if let Some((copied, bytes)) = self.same(call, real, model)? {
            if copied != bytes.len() as u64 {
                return Err(format!("{call}: {copied} bytes copied, expected {}", bytes.len()));
            }
            if !bytes.is_empty() {
                self.model.write(to, to_at, &bytes);
            }
            self.model.saved(id);
            self.model.saved(to);
        }
        Ok(())
    }

    async fn keep(&mut self, step: &Step) -> Outcome {
        let fs = self.fs.clone();
        let call = self.note(format!("{:?}({})", step.verb(), step.0[1]));
        let tell = |error: FsError| format!("{call}: {error}");
        match step.verb() {
            Verb::Open => {
                let Some((id, ino)) = self.any(step, 1, true) else { return Ok(()) };
                if self.handles.len() < HANDLES {
                    let truncate = if step.pick(2, 4) == 3 { libc::O_TRUNC } else { 0 };
                    let handle = settled!(fs, fs.open(ino, libc::O_RDWR | truncate)).map_err(tell)?;
                    if truncate != 0 {
                        self.model.truncate(id, 0);
                    }
                    self.handles.push((id, handle));
                }
            }
            Verb::Tick => settled!(fs, fs.tick()).map_err(tell)?,
            Verb::FlushAll => self.store_all().await?,
            verb => {
                let Some((id, ino, handle)) = self.handle(step, 1) else { return Ok(()) };
                if verb == Verb::Fsync {
                    self.synced = settled!(fs, fs.fsync(ino, handle, step.pick(2, 2) == 0)).map_err(tell)?;
                } else {
                    settled!(fs, fs.flush(ino, handle)).map_err(tell)?;
                }
                if verb == Verb::Close {
                    fs.release(ino, handle).map_err(tell)?;
                    self.handles.retain(|(_, open)| *open != handle);
                }
                if self.model.nodes[&id].nlink > 0 || verb == Verb::Fsync {
                    self.model.saved(id);
                }
            }
        }
        Ok(())
    }

    async fn attributes(&mut self, step: &Step) -> Outcome {
        let fs = self.fs.clone();
        let Some((id, ino)) = self.any(step, 1, false) else { return Ok(()) };
        let name = [&b"user.a"[..], b"user.b", b"trusted.c", b"security.d"][step.pick(2, 4)];
        let call = self.note(format!("{:?}({id}, {})", step.verb(), step.0[2]));
        let tell = |error: FsError| format!("{call}: {error}");
        let plain = matches!(self.model.nodes[&id].kind, Kind::File { .. } | Kind::Directory { .. });
        let refused = !plain && name.starts_with(b"user.");
        match step.verb() {
            Verb::Chmod => {
                let bits = step.pick(2, 0o1000) as u32;
                let set = SetAttr { mode: Some(bits), ..Default::default() };
                settled!(fs, fs.setattr(&WHO, ino, &set, None)).map_err(tell)?;
                let node = self.model.node(id);
                node.mode = node.mode & libc::S_IFMT | bits;
            }
            Verb::Chown => {
                let set = SetAttr { uid: Some(step.0[2] % 3), ..Default::default() };
                settled!(fs, fs.setattr(&WHO, ino, &set, None)).map_err(tell)?;
                self.model.node(id).uid = step.0[2] % 3;
            }
            Verb::SetXattr => {
                let value = step.bytes(3, step.pick(4, 300));
                let flags = [0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE][step.pick(5, 4)];
                let real = settled!(fs, fs.setxattr(&WHO, ino, name, &value, flags));
                let there = self.model.nodes[&id].xattrs.contains_key(name);
                let model = match flags {
                    _ if refused => Err(libc::EPERM),
                    libc::XATTR_CREATE if there => Err(libc::EEXIST),
                    libc::XATTR_REPLACE if !there => Err(libc::ENODATA),
                    _ => Ok(()),
                };
                if self.same(&call, real, model)?.is_some() {
                    self.model.node(id).xattrs.insert(name.to_vec(), value);
                }
            }
            Verb::RemoveXattr => {
                let real = settled!(fs, fs.removexattr(&WHO, ino, name));
                let gone = self.model.node(id).xattrs.remove(name);
                let model = if refused { Err(libc::EPERM) } else { gone.map(drop).ok_or(libc::ENODATA) };
                self.same(&call, real, model)?;
            }
            Verb::Forget => {
                if let Some(count) = self.lookups.remove(&id) {
                    fs.forget(ino, count);
                }
            }
            _ => self.list(step, &call).await?,
        }
        Ok(())
    }

    /// Lists a directory in small pieces.
    async fn list(&mut self, step: &Step, call: &str) -> Outcome {
        let fs = self.fs.clone();
        let (id, ino) = self.directory(step, 1);
        let handle = settled!(fs, fs.opendir(ino)).map_err(|error| format!("{call}: {error}"))?;
        let (mut names, mut from) = (Vec::new(), 0);
        loop {
            let (mut room, start, before) = (1 + step.pick(3, 5), from, names.len());
            let mut take = |entry: &crate::Dirent| {
                if room > 0 {
                    (room, from) = (room - 1, entry.cookie);
                    names.push(entry.name.to_vec());
                }
                room > 0
            };
            settled!(fs, fs.readdir(ino, handle, start, false, &mut take))
                .map_err(|error| format!("{call}: {error}"))?;
            if names.len() == before {
                break;
            }
        }
        fs.releasedir(ino, handle).map_err(|error| format!("{call}: {error}"))?;
        names.retain(|name| !matches!(&name[..], b"." | b".."));
        names.sort();
        let expected: Vec<_> = self.model.entries(id).keys().cloned().collect();
        if names == expected {
            Ok(())
        } else {
            Err(format!("{call}: lists {} names, expected {}", names.len(), expected.len()))
        }
    }
}

impl Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("trace", &self.trace).finish_non_exhaustive()
    }
}
