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

/// Whether this thread has nothing left to do but to end: it may wait in a call of ours all the same, for the kernel gives a
/// call that has been read up only when it is answered. `false` where it can't be seen, as in another pid namespace.
pub(crate) fn is_ending(tid: u32) -> bool {
    let read = |name| fs::read_to_string(format!("/proc/{tid}/{name}")).unwrap_or_default();
    is_to_be_killed(&read("status")) || is_exiting(&read("stat"))
}

/// Whether SIGKILL waits for the thread, by proc_pid_status(5), which everybody may read of everybody: whatever ends a
/// process, a signal without a handler, exit_group(2) or execve(2), comes to its other threads as that.
fn is_to_be_killed(status: &str) -> bool {
    let pending = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    let bits = pending.filter_map(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.fold(0, |all, bits| all | bits) & (1 << (libc::SIGKILL - 1)) != 0
}

/// Whether a signal ends it and it closes its files on its way out, by the flags (the ninth field) of proc_pid_stat(5): the
/// signal has been taken by then. Who ends of its own accord waits until its files are stored. The name before the flags may
/// hold anything.
fn is_exiting(stat: &str) -> bool {
    /// `PF_EXITING` and `PF_SIGNALED` of the kernel's `include/linux/sched.h`.
    const KILLED: u64 = 0x4 | 0x400;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let flags = fields.split_whitespace().nth(6).and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & KILLED == KILLED)
}

/// FUSE carries one group of the caller; the others are in proc(5). None if the caller is in another pid namespace.
fn supplementary_groups(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_is_killed_is_known_and_who_lives_or_is_gone_is_not() {
        let mut sleeps = Command::new("sleep").arg("1000").spawn().unwrap();
        assert!(!is_ending(sleeps.id()));
        sleeps.kill().unwrap();
        // Not waited for: whether it has come to its end or not.
        assert!(is_ending(sleeps.id()));
        sleeps.wait().unwrap();
        assert!(!is_ending(sleeps.id()) && !is_ending(0) && !is_ending(std::process::id()));
    }

    #[test]
    fn what_the_kernel_writes_of_a_thread_is_read_right() {
        let status = |own: &str, shared: &str| format!("Name:\tdd\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\tffff\n");
        assert!(is_to_be_killed(&status("0000000000000100", "0000000000000000")));
        assert!(is_to_be_killed(&status("0000000000000000", "0000000000004100")));
        assert!(!is_to_be_killed(&status("0000000000004001", "0000000000040000")), "HUP, TERM and STOP");
        assert!(!is_to_be_killed(""));
        // `sleep`, alive, and a process called `) Z 4` that is killed.
        assert!(!is_exiting("2209 (sleep) S 2201 2209 2201 0 -1 4194304 98 0 0 0 0 0 0 0 20 0 1 0\n"));
        assert!(is_exiting("7 () Z 4) D 1 7 7 0 -1 4195588 98 0 0 0\n"));
        assert!(!is_exiting("7 (cat) D 1 7 7 0 -1 4194564 98 0 0 0\n"), "of its own accord");
        assert!(!is_exiting(""));
    }
}
