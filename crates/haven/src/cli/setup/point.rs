//! The bare mount point: nobody may write there while nothing is mounted.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use haven_mount::control::{Found, find};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::report::{Code, Trouble};

/// What was made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarded {
    /// Mode 0000, and nothing can be made in it even by root.
    Immutable,
    /// Mode 0000: root can still write there. The file system below knows no attributes.
    Mode,
    /// Something is mounted there; the directory below can't be seen.
    Mounted,
}

impl Guarded {
    pub fn words(self) -> &'static str {
        match self {
            Self::Immutable => "nobody can write there while nothing is mounted (mode 0000, chattr +i)",
            Self::Mode => {
                "only root can write there while nothing is mounted (mode 0000; the file system has no attribute +i)"
            }
            Self::Mounted => {
                "is mounted just now: run this once while it is not, so that the bare directory is guarded"
            }
        }
    }
}

/// Makes the directory if it is missing, and takes everybody's right to write there.
pub fn guard(point: &Path) -> Result<Guarded, Trouble> {
    if !matches!(find(point), Ok(Found::Nothing)) && point.exists() || is_mounted(point) {
        return Ok(Guarded::Mounted);
    }
    let failed = |what: &str, error: &std::io::Error| {
        Trouble::new(Code::Local, format!("the mount point {} can't be {what}", point.display()))
            .caused_by(error)
            .meaning("the units are written; the bare directory can still be written to by mistake")
            .next("run this as root")
    };
    fs::create_dir_all(point).map_err(|error| failed("made", &error))?;
    let left: Vec<PathBuf> =
        fs::read_dir(point).map_err(|error| failed("read", &error))?.flatten().map(|entry| entry.path()).collect();
    if let Some(first) = left.first() {
        return Err(Trouble::new(Code::Mount, format!("{} is not empty, and nothing is mounted there", point.display()))
            .because(format!("there is {}", first.display()))
            .meaning("something wrote there while the library was not mounted: these files are in no bucket and no backup")
            .next(format!("mount the library elsewhere (haven mount URL /mnt/check) and compare; move what it lacks into it, then empty {}", point.display())));
    }
    let directory = fs::File::open(point).map_err(|error| failed("opened", &error))?;
    let flags = ioctl_getflags(&directory);
    // What cannot be changed any more has its mode already.
    if !flags.as_ref().is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE)) {
        fs::set_permissions(point, fs::Permissions::from_mode(0o000)).map_err(|error| failed("closed", &error))?;
    }
    let set = flags.and_then(|flags| ioctl_setflags(&directory, flags | IFlags::IMMUTABLE));
    Ok(if set.is_ok() { Guarded::Immutable } else { Guarded::Mode })
}

/// Whether any file system begins there.
fn is_mounted(point: &Path) -> bool {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Ok(real) = haven_mount::resolve(point) else { return false };
    // Blanks in paths are written as octal numbers there.
    let written = real.display().to_string().replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011");
    text.lines().any(|line| line.split(' ').nth(4) == Some(written.as_str()))
}
