//! What a copy of a file has beside its content.

use std::{ffi::OsStr, fs::Metadata, io, os::unix::ffi::OsStrExt, os::unix::fs::MetadataExt, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Mode, Timespec, Timestamps, XattrFlags},
    io::Errno,
};

/// Run as the file's owner or group; of a folder, what is made in it is its group's.
const SPECIAL: Mode = Mode::SUID.union(Mode::SGID);

/// Owner, mode, extended attributes and times as they were. An ordinary user restores as themselves; an attribute that
/// the target's file system has no room for is left out, and so are the set-user-ID and set-group-ID bits where this process
/// may not set them: a service is kept from it (RestrictSUIDSGID=), and a drill by the keeper has not failed for that.
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
            Err(Errno::OPNOTSUPP) => {}
            other => other?,
        }
    }
    if !about.file_type().is_symlink() {
        permit(Mode::from_raw_mode(about.mode()), |mode| rustix::fs::chmodat(CWD, target, mode, AtFlags::empty()))?;
    }
    let time = |seconds: i64, nanos: i64| Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    let times = Timestamps {
        last_access: time(about.atime(), about.atime_nsec()),
        last_modification: time(about.mtime(), about.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn permit(mode: Mode, set: impl Fn(Mode) -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    match set(mode) {
        Err(Errno::PERM) if mode.intersects(SPECIAL) => set(mode.difference(SPECIAL)),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_that_a_service_may_not_set_are_left_out_and_nothing_else_is() {
        let last = std::cell::Cell::new(Mode::empty());
        let service = |mode: Mode| {
            last.set(mode);
            if mode.intersects(SPECIAL) { Err(Errno::PERM) } else { Ok(()) }
        };
        assert_eq!((permit(Mode::from_raw_mode(0o43775), service), last.get()), (Ok(()), Mode::from_raw_mode(0o1775)));
        let anybody = |mode| {
            last.set(mode);
            Ok(())
        };
        assert_eq!((permit(Mode::from_raw_mode(0o2775), anybody), last.get()), (Ok(()), Mode::from_raw_mode(0o2775)));
        assert_eq!(permit(Mode::from_raw_mode(0o755), |_| Err(Errno::PERM)), Err(Errno::PERM));
        assert_eq!(permit(Mode::from_raw_mode(0o2755), |_| Err(Errno::ROFS)), Err(Errno::ROFS));
    }
}
