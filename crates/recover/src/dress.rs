//! What a copy of a file has beside its content.

use std::{ffi::OsStr, fs::Metadata, io, os::unix::ffi::OsStrExt, os::unix::fs::MetadataExt, path::Path};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

/// Owner, mode, extended attributes and times as they were. An ordinary user restores as themselves; an attribute that
/// the target's file system has no room for is left out.
pub fn dress(source: &Path, about: &Metadata, target: &Path) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let owner = (Some(rustix::fs::Uid::from_raw(about.uid())), Some(rustix::fs::Gid::from_raw(about.gid())));
        rustix::fs::chownat(CWD, target, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let mut names = vec![0; 64 << 10];
    let found = rustix::fs::llistxattr(source, names.as_mut_slice()).unwrap_or(0);
    for name in names[..found].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let name = OsStr::from_bytes(name);
        let length = rustix::fs::lgetxattr(source, name, value.as_mut_slice())?;
        match rustix::fs::lsetxattr(target, name, &value[..length], XattrFlags::empty()) {
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            other => other?,
        }
    }
    if !about.file_type().is_symlink() {
        let mode = rustix::fs::Mode::from_raw_mode(about.mode());
        rustix::fs::chmodat(CWD, target, mode, AtFlags::empty())?;
    }
    let time = |seconds: i64, nanos: i64| Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    let times = Timestamps {
        last_access: time(about.atime(), about.atime_nsec()),
        last_modification: time(about.mtime(), about.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
