//! How mounts end.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use haven_mount::{
    Ended, Ending, Host, MountOptions, Signals, State, UnmountError,
    control::{Found, find},
    detach, mounted_at, serve,
};
use rustix::process::Signal;

use crate::support::{Mounted, Point, Serving, fuse_here, is_root, memory, wait_until};

#[test]
fn an_unmounted_library_is_gone_from_the_tree() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    fs::write(m.path("file"), b"x").unwrap();
    m.session.unmount(false).unwrap();
    assert_eq!(m.session.wait(), Ended::Unmounted);
    assert!(!m.session.is_alive());
    assert_eq!(fs::read_dir(m.point.path()).unwrap().count(), 0);
    assert!(matches!(m.session.unmount(false), Err(UnmountError::NotMounted { .. })));
}

#[test]
fn a_busy_mount_stays_and_tells_who_is_in_the_way() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let file = File::create(m.path("open")).unwrap();
    match m.session.unmount(false) {
        Err(UnmountError::Busy { holders, .. }) => assert!(holders.iter().any(|h| h.pid == std::process::id())),
        other => panic!("{other:?}"),
    }
    fs::write(m.path("still"), b"here").unwrap();
    drop(file);
    m.session.unmount(false).unwrap();
}

#[test]
fn a_lazily_detached_mount_serves_its_open_files_to_their_end() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let mut file = File::options().read(true).write(true).create_new(true).open(m.path("open")).unwrap();
    m.session.unmount(true).unwrap();
    assert_eq!(fs::read_dir(m.point.path()).unwrap().count(), 0);
    assert!(m.session.is_alive());
    file.write_all(b"still written").unwrap();
    let mut bytes = [0; 5];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"still");
    drop(file);
    assert_eq!(m.session.wait(), Ended::Unmounted);
}

#[test]
fn an_unmount_from_outside_ends_the_session_as_well() {
    if !fuse_here() {
        return;
    }
    for program in [&["umount"][..], &["fusermount3", "-u"]] {
        if program[0] == "umount" && !is_root() {
            continue;
        }
        let m = Mounted::new();
        let status = Command::new(program[0]).args(&program[1..]).arg(m.point.path()).status().unwrap();
        assert!(status.success());
        assert_eq!(m.session.wait(), Ended::Unmounted);
    }
}

struct Uploads(std::sync::Mutex<Vec<State>>, Result<(), String>);

#[async_trait::async_trait]
impl Host for Uploads {
    fn state(&self, state: State) {
        self.0.lock().unwrap().push(state);
    }

    async fn drain(&self) -> Result<(), String> {
        self.1.clone()
    }
}

#[test]
fn serving_ends_with_the_uploads_or_with_the_reason_why_not() {
    if !fuse_here() {
        return;
    }
    for (drained, skip, wanted) in [
        (Ok(()), false, Ending::Complete),
        (Err("away".to_owned()), false, Ending::Failed("away".into())),
        (Err("away".to_owned()), true, Ending::Detached),
    ] {
        let m = Mounted::new();
        let host = Uploads(std::sync::Mutex::default(), drained);
        if skip {
            m.session.skip_drain();
        }
        let ending = m.runtime.block_on(async {
            let signals = Signals::take().unwrap();
            let ender = m.session.clone();
            tokio::spawn(async move { ender.unmount(false) });
            serve(&m.session, &host, signals).await
        });
        assert_eq!(ending, wanted);
        let states = host.0.lock().unwrap();
        assert_eq!(*states, [State::Serving, State::Finishing, State::Draining]);
    }
}

#[test]
fn a_signal_unmounts_and_ends_the_process_in_peace() {
    if !fuse_here() {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let point = Point::new();
        let mut child = Serving::start(&[], &point.path());
        wait_until("the child answers", || fs::write(point.path().join("file"), b"x").is_ok());
        child.signal(Signal::HUP);
        child.signal(signal);
        assert!(child.0.wait().unwrap().success());
        assert_eq!(mounted_at(&point.path()).unwrap(), None);
        assert_eq!(fs::read_dir(point.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_second_signal_does_not_wait_for_open_files() {
    if !fuse_here() {
        return;
    }
    let point = Point::new();
    let mut child = Serving::start(&[], &point.path());
    let mut file = File::create(point.path().join("open")).unwrap();
    file.write_all(b"x").unwrap();
    child.signal(Signal::TERM);
    wait_until("the mount is detached", || mounted_at(&point.path()).unwrap().is_none());
    file.write_all(b"y").unwrap();
    assert!(child.0.try_wait().unwrap().is_none());
    child.signal(Signal::TERM);
    assert!(child.0.wait().unwrap().success());
    assert!(file.write_all(b"z").is_err());
}

#[test]
fn files_that_stay_open_can_be_cut_off() {
    if !fuse_here() || !is_root() {
        return;
    }
    let m = Mounted::new();
    let mut file = File::create(m.path("open")).unwrap();
    file.write_all(b"x").unwrap();
    m.session.unmount(true).unwrap();
    assert!(m.session.is_alive());
    assert!(m.session.abort());
    assert_eq!(m.session.wait(), Ended::Unmounted);
    assert_eq!(file.write_all(b"y").unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
}

#[test]
fn a_killed_process_leaves_a_dead_mount_that_the_next_one_clears_away() {
    if !fuse_here() {
        return;
    }
    let point = Point::new();
    let mut child = Serving::start(&[], &point.path());
    wait_until("the child answers", || fs::write(point.path().join("file"), b"x").is_ok());
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert_eq!(fs::metadata(point.path()).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    let dead = Found::Dead { point: point.path(), source: "memory:".into() };
    assert_eq!(find(&point.path()).unwrap(), dead);
    assert_eq!(find(&point.path().join("file")).unwrap(), dead);

    let m = Mounted::at(point, &MountOptions::new("memory:")).unwrap();
    fs::write(m.path("file"), b"y").unwrap();
    m.session.unmount(false).unwrap();
    m.session.wait();
    assert_eq!(mounted_at(&m.point.path()).unwrap(), None);
}

#[test]
fn a_dead_mount_can_be_detached_by_command() {
    if !fuse_here() {
        return;
    }
    let point = Point::new();
    let mut child = Serving::start(&[], &point.path());
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    detach(&point.path(), true).unwrap();
    assert_eq!(find(&point.path()).unwrap(), Found::Nothing);
    assert!(matches!(detach(&point.path(), false), Err(UnmountError::NotMounted { .. })));
}

#[test]
fn in_the_background_success_means_that_the_mount_answers() {
    if !fuse_here() {
        return;
    }
    let (point, cache) = (Point::new(), tempfile::tempdir().unwrap());
    let background = ["--background", "--cache", cache.path().to_str().unwrap()];
    let status = memory(&background, &point.path()).stdin(Stdio::null()).status().unwrap();
    assert!(status.success());
    fs::write(point.path().join("file"), b"x").unwrap();
    let pid = fs::read_to_string(cache.path().join("pid")).unwrap();
    assert_ne!(pid.trim(), std::process::id().to_string());

    let again = memory(&background, &point.path()).stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("mounted already"));

    detach(&point.path(), false).unwrap();
    wait_until("the process ends", || !cache.path().join("pid").exists());
}

#[test]
fn an_ordinary_user_mounts_and_unmounts_through_fusermount3() {
    if !fuse_here() || !is_root() {
        return;
    }
    let point = Point::new();
    std::os::unix::fs::chown(point.path(), Some(65_534), Some(65_534)).unwrap();
    let mut child = memory(&[], &point.path());
    // /dev/fuse may be root's alone here; that has its own error, which is as good a proof of who opened it.
    let mut child = child.uid(65_534).gid(65_534).stderr(Stdio::piped()).spawn().unwrap();
    let mut ended = None;
    wait_until("the user's mount, or its refusal", || {
        ended = child.try_wait().unwrap();
        ended.is_some() || mounted_at(&point.path()).unwrap().is_some()
    });
    let mut serving = Serving(child);
    if ended.is_some() {
        let mut says = String::new();
        serving.0.stderr.take().unwrap().read_to_string(&mut says).unwrap();
        assert!(says.contains("/dev/fuse"), "{says}");
        return;
    }
    assert_eq!(fs::metadata(point.path()).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    serving.signal(Signal::TERM);
    assert!(serving.0.wait().unwrap().success());
    assert_eq!(mounted_at(&point.path()).unwrap(), None);
}
