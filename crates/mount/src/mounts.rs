//! What is mounted where, as the kernel tells it in `/proc/self/mountinfo` (proc(5)).

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// The type our mounts have in the kernel's table.
pub(crate) const FS_TYPE: &str = "fuse.haven";

/// One line of the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// `major:minor` of the file system, unique while it is mounted.
    pub device: String,
    pub point: PathBuf,
    pub fs_type: String,
    pub source: String,
}

impl Mounted {
    pub fn is_haven(&self) -> bool {
        self.fs_type == FS_TYPE
    }
}

/// The topmost mount exactly at `point`, which must be absolute and free of symlinks.
pub fn mounted_at(point: &Path) -> io::Result<Option<Mounted>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?).into_iter().rfind(|m| m.point == point))
}

/// Whether the table at `table` (`/proc/PID/mountinfo`) has a mount of this device.
pub(crate) fn has(table: &Path, device: &str) -> io::Result<bool> {
    Ok(parse(&fs::read(table)?).iter().any(|mounted| mounted.device == device))
}

/// The mount that `path` lies in, or none if the table does not tell.
pub fn mount_of(path: &Path) -> io::Result<Option<Mounted>> {
    let mut best: Option<Mounted> = None;
    for m in parse(&fs::read("/proc/self/mountinfo")?) {
        let deeper = best.as_ref().is_none_or(|b| m.point.as_os_str().len() >= b.point.as_os_str().len());
        if path.starts_with(&m.point) && deeper {
            best = Some(m);
        }
    }
    Ok(best)
}

/// `path` made absolute with its parents' symlinks resolved, without asking the last component anything: that one
/// may be a dead mount, where every question fails.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let is_link = absolute.symlink_metadata().is_ok_and(|m| m.file_type().is_symlink());
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) if !is_link => Ok(parent.canonicalize()?.join(name)),
        _ => absolute.canonicalize(),
    }
}

fn parse(table: &[u8]) -> Vec<Mounted> {
    table.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mounted> {
    let mut words = line.split(|b| *b == b' ');
    let device = words.nth(2)?;
    let point = words.nth(1)?;
    let mut after = words.skip_while(|w| *w != b"-").skip(1);
    let text = |w: &[u8]| String::from_utf8_lossy(&unescape(w)).into_owned();
    Some(Mounted {
        device: text(device),
        point: PathBuf::from(OsString::from_vec(unescape(point))),
        fs_type: text(after.next()?),
        source: text(after.next()?),
    })
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        let octal = |d: &u8| (b'0'..=b'7').contains(d);
        match tail {
            [a, b, c, after @ ..] if *first == b'\\' && octal(a) && octal(b) && octal(c) => {
                let value = u32::from(a - b'0') * 64 + u32::from(b - b'0') * 8 + u32::from(c - b'0');
                out.push(value as u8);
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 28 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n\
        40 28 0:52 / /srv/my\\040photos rw,nodev shared:9 master:1 - fuse.haven s3://bucket rw,user_id=0\n\
        41 40 0:53 / /srv/my\\040photos rw - tmpfs none rw\n";

    #[test]
    fn a_line_gives_device_point_type_and_source_whatever_lies_between() {
        let all = parse(TABLE);
        assert_eq!(all.len(), 3);
        assert_eq!(all[1].device, "0:52");
        assert_eq!(all[1].point, Path::new("/srv/my photos"));
        assert!(all[1].is_haven());
        assert_eq!(all[1].source, "s3://bucket");
        assert_eq!(all[2].fs_type, "tmpfs");
    }

    #[test]
    fn escapes_are_undone_and_other_backslashes_kept() {
        assert_eq!(unescape(b"a\\040b\\134c\\9"), b"a b\\c\\9");
    }
}
