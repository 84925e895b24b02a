//! Who asks.

use std::fs;

use fuser::Request;
use haven_fs::Caller;

/// A [`Caller`] that can be kept while a request waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who {
    uid: u32,
    gid: u32,
    pid: u32,
    umask: u32,
}

impl Who {
    /// `umask` where the call has one, else 0.
    pub fn of(request: &Request, umask: u32) -> Self {
        Self { uid: request.uid(), gid: request.gid(), pid: request.pid(), umask }
    }

    pub fn ask<T>(self, call: impl FnOnce(&Caller<'_>) -> T) -> T {
        let in_group = |gid| gid == self.gid || supplementary_groups(self.pid).contains(&gid);
        call(&Caller { uid: self.uid, gid: self.gid, umask: self.umask, in_group: &in_group })
    }

    /// Whether a change of content takes setuid and setgid bits away. The kernel tells (`FATTR_KILL_SUIDGID`: the
    /// caller lacks `CAP_FSETID`) but fuser 0.18 does not pass it on; who is not root lacks it, all but always.
    pub fn kills_privileges(self) -> bool {
        self.uid != 0
    }
}

/// FUSE carries one group of the caller; the others are in proc(5). None if the caller is in another pid namespace.
fn supplementary_groups(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}
