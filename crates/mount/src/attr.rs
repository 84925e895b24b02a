//! Values of `fs` as `fuser` wants them, and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use haven_format::record::Time;
use haven_fs::{Attr, SetTime};

/// For a reply to a lookup, where the number is the one by which the kernel asks again.
pub(crate) fn file_attr(a: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(a.ino.0),
        size: a.size,
        blocks: a.blocks,
        atime: system_time(a.atime),
        mtime: system_time(a.mtime),
        ctime: system_time(a.ctime),
        crtime: system_time(a.btime),
        kind: file_type(a.mode >> 12),
        perm: (a.mode & 0o7777) as u16,
        nlink: a.nlink,
        uid: a.uid,
        gid: a.gid,
        rdev: a.rdev,
        blksize: a.blksize,
        flags: 0,
    }
}

/// For a reply to a getattr, where the number is the one that programs see.
pub(crate) fn shown_attr(a: &Attr) -> FileAttr {
    FileAttr { ino: INodeNo(haven_fs::shown_ino(a.ino).0), ..file_attr(a) }
}

/// What the kernel is told of a name that is not there: it remembers that.
pub(crate) fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// `kind` as `d_type` in dirent(3), which is the file type's part of a mode shifted down by twelve.
pub(crate) fn file_type(kind: u32) -> FileType {
    match kind << 12 {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn system_time(t: Time) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(t.nanos));
    let whole = Duration::from_secs(t.seconds.unsigned_abs());
    let second = if t.seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    second.and_then(|s| s.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

pub(crate) fn set_time(t: TimeOrNow) -> SetTime {
    match t {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(t) => SetTime::To(requested_time(t)),
    }
}

/// Before 1970 fuser 0.18 subtracts the nanoseconds that the kernel meant to be added: -1 s and 300 ms arrive as
/// 1.3 s before the epoch, not 0.7. Taking both numbers as they stand undoes that.
fn requested_time(t: SystemTime) -> Time {
    let (sign, d) = match t.duration_since(UNIX_EPOCH) {
        Ok(d) => (1, d),
        Err(e) => (-1, e.duration()),
    };
    Time { seconds: sign * i64::try_from(d.as_secs()).unwrap_or(i64::MAX), nanos: d.subsec_nanos() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_keep_their_nanoseconds() {
        let t = Time { seconds: -1, nanos: 300_000_000 };
        assert_eq!(UNIX_EPOCH.duration_since(system_time(t)).unwrap(), Duration::from_millis(700));
        // What fuser makes of the same two numbers.
        assert_eq!(requested_time(UNIX_EPOCH - Duration::new(1, 300_000_000)), t);
        let t = Time { seconds: 5, nanos: 7 };
        assert_eq!(requested_time(system_time(t)), t);
    }

    #[test]
    fn d_types_and_modes_name_the_same_kinds() {
        assert_eq!(file_type(u32::from(libc::DT_DIR)), FileType::Directory);
        assert_eq!(file_type(u32::from(libc::DT_SOCK)), FileType::Socket);
        assert_eq!(file_type((libc::S_IFBLK | 0o644) >> 12), FileType::BlockDevice);
    }
}
