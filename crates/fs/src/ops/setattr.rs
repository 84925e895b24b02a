//! Changing what `stat` tells, the length included.

use std::{ops::Range, sync::atomic::Ordering};

use haven_format::{Ino, record, record::Inode};

use crate::{
    Attr, Caller, Fs, FsError, Handle, Result, SIZE_MAX, SetAttr, SetTime, acl,
    acl::Acl,
    content::{Edit, windows},
    handle::Node,
    meta::{Stage, is_dir, is_file},
};

const MARKS: u32 = libc::S_ISUID | libc::S_ISGID;

/// Capabilities of a program, which go with the set-user-ID bit.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

impl Fs {
    pub fn setattr(&self, caller: &Caller, ino: Ino, set: &SetAttr, _handle: Option<Handle>) -> Result<Attr> {
        self.writable_at(ino)?;
        let node = self.nodes.hold(ino);
        if let Some(size) = set.size {
            self.may_resize(ino, size)?;
            self.trim_far(&node, size)?;
        }
        self.apply(caller, &node, set)?;
        drop(node);
        self.attr(ino)
    }

    fn apply(&self, caller: &Caller, node: &Node, set: &SetAttr) -> Result<()> {
        let (_open, mut state) = self.write_state(node);
        let _change = self.change.lock();
        let mut stage = self.stage();
        let view = stage.view.clone();
        let now = stage.now;
        let time = |set: SetTime| match set {
            SetTime::Now => now,
            SetTime::To(time) => time,
        };
        if set.uid.is_some() || set.gid.is_some() || set.size.is_some() {
            let kill = set.size.is_none() || set.kill_privileges || caller.uid != 0;
            strip(&mut stage, node.ino, kill)?;
        }
        let inode = stage.inode(node.ino)?;
        inode.ctime = now;
        inode.uid = set.uid.unwrap_or(inode.uid);
        inode.gid = set.gid.unwrap_or(inode.gid);
        if let Some(atime) = set.atime {
            inode.atime = time(atime);
        }
        if let Some(mtime) = set.mtime.or(set.size.map(|_| SetTime::Now)) {
            inode.mtime = time(mtime);
        }
        if let Some(mode) = set.mode {
            chmod(&mut stage, caller, node.ino, mode)?;
        }
        if let Some(size) = set.size {
            let mut edit = Edit::new(&view, node.ino);
            edit.clear(size..u64::MAX)?;
            edit.stage(&mut stage)?;
            let inode = stage.inode(node.ino)?;
            // What is written and not yet stored may lie below: then the record must not claim the length yet.
            inode.size = if state.changed { inode.size.min(size) } else { size };
        }
        self.commit(stage)?;
        self.marks.fetch_add(u64::from(set.mode.is_some_and(|mode| mode & MARKS != 0)), Ordering::AcqRel);
        if set.atime.is_some() {
            self.atimes.lock().remove(&node.ino);
        }
        state.ctime = None;
        if set.mtime.is_some() || set.size.is_some() {
            state.mtime = None;
        }
        if let Some(size) = set.size {
            state.runs.truncate(size);
            state.size = state.changed.then_some(size);
            self.count(node, &mut state);
        }
        Ok(())
    }

    fn may_resize(&self, ino: Ino, size: u64) -> Result<()> {
        let inode = crate::meta::inode(&self.vault.live(), ino)?;
        match inode.mode {
            mode if is_dir(mode) => Err(FsError::IsDirectory),
            mode if !is_file(mode) => Err(FsError::Invalid("only regular files have a length")),
            _ if size > SIZE_MAX => Err(FsError::TooLarge),
            _ => Ok(()),
        }
    }

    /// Where so much is to be cut off that one commit would be too large: cuts from the end until the rest is not.
    fn trim_far(&self, node: &Node, size: u64) -> Result<()> {
        let parts = windows(&self.vault.live(), node.ino, size..u64::MAX)?;
        for part in parts.into_iter().skip(1).rev() {
            self.trim(node, part)?;
        }
        Ok(())
    }

    fn trim(&self, node: &Node, part: Range<u64>) -> Result<()> {
        let (_open, mut state) = self.write_state(node);
        let _change = self.change.lock();
        let mut stage = self.stage();
        let view = stage.view.clone();
        let mut edit = Edit::new(&view, node.ino);
        edit.clear(part.start..u64::MAX)?;
        edit.stage(&mut stage)?;
        let inode = stage.inode(node.ino)?;
        inode.size = inode.size.min(part.start);
        self.commit(stage)?;
        state.runs.truncate(part.start);
        state.size = state.size.map(|size| size.min(part.start));
        self.count(node, &mut state);
        Ok(())
    }

    /// Before bytes of a file change: the capabilities go, and with `kill` the set-user-ID bits.
    pub(crate) fn drop_privileges(&self, node: &Node, kill: bool) -> Result<()> {
        let marks = self.marks.load(Ordering::Acquire);
        if node.unprivileged.load(Ordering::Relaxed) == marks {
            return Ok(());
        }
        let view = self.vault.live();
        let inode = crate::meta::inode(&view, node.ino)?;
        if inode.mode & MARKS != 0 || inode.xattrs > 0 {
            let change = self.change.lock();
            let mut stage = self.stage();
            let was = stage.inode(node.ino)?.mode;
            let stripped = strip(&mut stage, node.ino, kill)?;
            let mode = stage.inode(node.ino)?.mode;
            if stripped {
                self.commit(stage)?;
            }
            drop(change);
            if mode != was
                && let Some(tell) = self.unmarked.get()
            {
                tell(node.ino);
            }
            if mode & MARKS != 0 {
                return Ok(());
            }
        }
        node.unprivileged.store(marks, Ordering::Relaxed);
        Ok(())
    }
}

/// Takes the capabilities, and with `kill` the set-user-ID bit and the set-group-ID bit of what a group may execute.
/// Says whether there was anything.
fn strip(stage: &mut Stage, ino: Ino, kill: bool) -> Result<bool> {
    let now = stage.now;
    let capability = record::xattr_key(ino, CAPABILITY);
    let has = stage.inode(ino)?.xattrs > 0 && stage.view.get(&capability)?.is_some();
    let inode = stage.inode(ino)?;
    let mode = if kill && !is_dir(inode.mode) { without_marks(inode) } else { inode.mode };
    let stripped = has || mode != inode.mode;
    if stripped {
        inode.mode = mode;
        inode.ctime = now;
        inode.xattrs -= u32::from(has);
    }
    if has {
        stage.remove(capability);
    }
    Ok(stripped)
}

fn without_marks(inode: &Inode) -> u32 {
    let group = if inode.mode & libc::S_IXGRP != 0 { libc::S_ISGID } else { 0 };
    inode.mode & !(libc::S_ISUID | group)
}

fn chmod(stage: &mut Stage, caller: &Caller, ino: Ino, mode: u32) -> Result<()> {
    let inode = stage.inode(ino)?;
    let mut mode = inode.mode & libc::S_IFMT | mode & 0o7777;
    if mode & libc::S_ISGID != 0 && caller.uid != 0 && inode.gid != caller.gid && !(caller.in_group)(inode.gid) {
        mode &= !libc::S_ISGID;
    }
    inode.mode = mode;
    let key = record::xattr_key(ino, acl::ACCESS);
    if inode.xattrs > 0
        && let Some(mut list) = stage.view.get(&key)?.and_then(|value| Acl::parse(&value))
    {
        list.chmod(mode);
        stage.set(key, list.to_bytes());
    }
    Ok(())
}
