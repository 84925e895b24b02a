//! Detaching: by umount2(2) where that is allowed, through fusermount3 elsewhere; and who is in the way.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::mount::{UnmountFlags, unmount};

use crate::{
    error::{Holder, UnmountError},
    mounts::{has, mounted_at},
};

/// How often to try again where nobody is seen to be in the way: it is a process just starting or ending.
const PASSING: (u32, Duration) = (10, Duration::from_millis(20));

/// Takes the topmost mount off `point` (absolute, resolved). With `lazy` it vanishes from the tree at once and ends
/// when the last open file in it is closed; without, open files make it fail and nothing changes.
pub fn detach(point: &Path, lazy: bool) -> Result<(), UnmountError> {
    for _ in 0..PASSING.0 {
        match detach_once(point, lazy) {
            Err(UnmountError::Busy { holders, .. }) if holders.is_empty() => thread::sleep(PASSING.1),
            result => return result,
        }
    }
    detach_once(point, lazy)
}

fn detach_once(point: &Path, lazy: bool) -> Result<(), UnmountError> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match unmount(point, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(UnmountError::Busy { point: point.into(), holders: holders(point) }),
        Err(rustix::io::Errno::INVAL) => Err(UnmountError::NotMounted { point: point.into() }),
        Err(rustix::io::Errno::PERM) => detach_by_helper(point, lazy),
        Err(e) => Err(UnmountError::Refused { point: point.into(), source: e.into() }),
    }
}

fn detach_by_helper(point: &Path, lazy: bool) -> Result<(), UnmountError> {
    let done = Command::new("fusermount3")
        .args(if lazy { &["-u", "-z", "--"][..] } else { &["-u", "--"] })
        .arg(point)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => UnmountError::NoHelper,
            _ => UnmountError::Refused { point: point.into(), source: e },
        })?;
    if done.status.success() {
        return Ok(());
    }
    let says = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    match mounted_at(point) {
        Ok(None) => Err(UnmountError::NotMounted { point: point.into() }),
        // fusermount3 has one exit code for everything, and translates nothing.
        _ if says.contains("busy") => Err(UnmountError::Busy { point: point.into(), holders: holders(point) }),
        _ => Err(UnmountError::HelperRefused { says }),
    }
}

/// The processes through which other mount namespaces still have the file system of this device (`0:52`), as far as this
/// user may see: containers and sandboxed services that were started while it was mounted. Of each namespace the eldest.
pub fn clones(device: &str) -> Vec<Holder> {
    let mut pids: Vec<u32> = match fs::read_dir("/proc") {
        Ok(processes) => processes.flatten().filter_map(|one| one.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => return Vec::new(),
    };
    pids.sort_unstable();
    let mut seen: HashSet<PathBuf> = HashSet::new();
    let mut holders = Vec::new();
    for pid in pids {
        // Many processes share a namespace, and a table may be long.
        let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
        if seen.insert(namespace) && has(&PathBuf::from(format!("/proc/{pid}/mountinfo")), device).unwrap_or(false) {
            holders.push(Holder { pid, name: name_of(pid) });
        }
    }
    holders
}

fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The processes that have something under `point` open, mapped, or as their working directory, as far as this user
/// may see.
pub fn holders(point: &Path) -> Vec<Holder> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|p| p.file_name().to_str()?.parse().ok())
        .filter(|pid| holds(*pid, point))
        .map(|pid| Holder { pid, name: name_of(pid) })
        .collect()
}

fn holds(pid: u32, point: &Path) -> bool {
    let leads_there = |link: &Path| fs::read_link(link).is_ok_and(|to| to.starts_with(point));
    let within = |dir: &str| {
        fs::read_dir(format!("/proc/{pid}/{dir}")).is_ok_and(|links| links.flatten().any(|l| leads_there(&l.path())))
    };
    ["cwd", "root", "exe"].iter().any(|l| leads_there(Path::new(&format!("/proc/{pid}/{l}"))))
        || within("fd")
        || within("map_files")
}
