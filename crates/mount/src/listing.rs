//! Directory listings on their way to the kernel.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fuser::{Errno, FileAttr, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use haven_format::{Ino, record::Cookie};
use haven_fs::{Dirent, Fs, FsError, Handle, Result};

use crate::{
    attr::{file_attr, file_type, nothing},
    desk::{Asked, Desk},
};

/// Where entries go until there is no room for more.
pub(crate) trait Listing: Send + 'static {
    const PLUS: bool;
    /// False if there was no room.
    fn add(&mut self, entry: &Dirent) -> bool;
    fn finish(self, result: Result<(), Errno>);
}

pub(crate) struct Plain(pub ReplyDirectory);

impl Listing for Plain {
    const PLUS: bool = false;

    fn add(&mut self, e: &Dirent) -> bool {
        !self.0.add(INodeNo(haven_fs::shown_ino(e.ino).0), e.cookie, file_type(e.kind), OsStr::from_bytes(&e.name))
    }

    fn finish(self, result: Result<(), Errno>) {
        match result {
            Ok(()) => self.0.ok(),
            Err(e) => self.0.error(e),
        }
    }
}

pub(crate) struct Plus(pub ReplyDirectoryPlus, pub Duration);

impl Listing for Plus {
    const PLUS: bool = true;

    fn add(&mut self, e: &Dirent) -> bool {
        // `.` and `..` have no attributes of their own; the kernel takes number and kind, and looks no further.
        let bare = || FileAttr { ino: INodeNo(e.ino.0), kind: file_type(e.kind), ..nothing() };
        let attr = e.attr.as_ref().map_or_else(bare, file_attr);
        let name = OsStr::from_bytes(&e.name);
        // Of the past the number in the attributes is not the one to show: the kernel must ask for it.
        let ttl = if haven_fs::is_past(e.ino) { Duration::ZERO } else { self.1 };
        !self.0.add(attr.ino, e.cookie, name, &ttl, &attr, Generation(0))
    }

    fn finish(self, result: Result<(), Errno>) {
        match result {
            Ok(()) => self.0.ok(),
            Err(e) => self.0.error(e),
        }
    }
}

struct Filling<L> {
    listing: L,
    any: bool,
}

/// Lists what follows `from`. If something is missing in the middle, the kernel gets what there is and comes again.
pub(crate) fn list<L: Listing>(desk: &Desk, asked: Asked, at: (Ino, Handle, Cookie), listing: L) {
    let filling = Arc::new(Mutex::new(Some(Filling { listing, any: false })));
    let (ino, handle, from) = at;
    let fill = {
        let filling = filling.clone();
        move |fs: &Fs| -> Result<()> {
            let mut guard = filling.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(filling) = guard.as_mut() else { return Ok(()) };
            let done = fs.readdir(ino, handle, from, L::PLUS, &mut |entry| {
                let room = filling.listing.add(entry);
                filling.any |= room;
                room
            });
            if filling.any { Ok(()) } else { done }
        }
    };
    let finish = move |result: Result<(), Errno>| {
        let filling = filling.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(filling) = filling {
            filling.listing.finish(result);
        }
    };
    match desk.attempt(&asked, &fill) {
        Err(need @ FsError::Need(_)) => desk.later(asked, need, fill, finish),
        result => desk.done(&asked, result, finish),
    }
}
