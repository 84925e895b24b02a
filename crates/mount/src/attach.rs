//! Attaching: /dev/fuse is opened and bound to a directory, by mount(2) where that is allowed and through the setuid
//! program fusermount3 elsewhere.
//!
//! `fuser` could do this, but folds the kernel's errors into text, and its own unmount asks the path again after the
//! mount has ended: by then a newer mount may be there. So the mount table is ours alone to change.

use std::{
    ffi::CString,
    fs::OpenOptions,
    io::{self, IoSliceMut, Read},
    mem::MaybeUninit,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
};

use rustix::{
    mount::{MountFlags, mount},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
        socketpair,
    },
    process::{getegid, geteuid},
};

use crate::{error::MountError, options::MountOptions};

const DEVICE: &str = "/dev/fuse";

/// Mounts on `point` (see [`crate::point::prepare`]) and returns the kernel's end of it.
pub(crate) fn attach(point: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let device = open_device()?;
    match attach_by_syscall(&device, point, options) {
        Ok(()) => Ok(device),
        Err(rustix::io::Errno::PERM) => attach_by_helper(point, options),
        Err(e) => Err(MountError::Refused { point: point.into(), source: e.into() }),
    }
}

fn open_device() -> Result<OwnedFd, MountError> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.map(OwnedFd::from).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => MountError::NoDevice,
        _ => MountError::DeviceDenied { source },
    })
}

fn attach_by_syscall(device: &OwnedFd, point: &Path, options: &MountOptions) -> rustix::io::Result<()> {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::NODEV | MountFlags::NOSUID, !options.suid_and_dev);
    flags.set(MountFlags::RDONLY, options.read_only);
    flags.set(MountFlags::NOATIME, options.no_atime);
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,subtype=haven",
        device.as_raw_fd(),
        geteuid().as_raw(),
        getegid().as_raw()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).map_err(|_| rustix::io::Errno::INVAL)?;
    mount(options.source.as_str(), point, "fuse", flags, Some(data.as_c_str()))
}

fn attach_by_helper(point: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let refused = |e: io::Error| MountError::HelperRefused { says: e.to_string() };
    // The helper's end must survive its exec, so neither end is close-on-exec from the start.
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)
        .map_err(|e| refused(e.into()))?;
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC).map_err(|e| refused(e.into()))?;
    let mut child = Command::new("fusermount3")
        .arg("-o")
        .arg(helper_options(options))
        .arg("--")
        .arg(point)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| if e.kind() == io::ErrorKind::NotFound { MountError::NoHelper } else { refused(e) })?;
    drop(theirs);
    let received = receive_fd(&ours);
    let mut says = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut says).map_err(refused)?;
    }
    let status = child.wait().map_err(refused)?;
    match received {
        Ok(Some(device)) => Ok(device),
        Ok(None) => Err(MountError::HelperRefused { says: reason(says.trim(), status) }),
        Err(e) => Err(refused(e.into())),
    }
}

fn reason(says: &str, status: std::process::ExitStatus) -> String {
    if says.is_empty() { status.to_string() } else { says.trim_start_matches("fusermount3: ").to_owned() }
}

fn helper_options(options: &MountOptions) -> String {
    // fusermount3 splits at commas; a backslash keeps one.
    let source = options.source.replace('\\', "\\\\").replace(',', "\\,");
    let mut out = format!("default_permissions,subtype=haven,fsname={source}");
    for (wanted, word) in
        [(options.read_only, "ro"), (options.no_atime, "noatime"), (options.allow_other, "allow_other")]
    {
        if wanted {
            out.push(',');
            out.push_str(word);
        }
    }
    out
}

/// None when the other side closed without sending one.
fn receive_fd(socket: &OwnedFd) -> rustix::io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}
