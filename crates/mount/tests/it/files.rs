//! What programs do with files, through the kernel.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink},
            process::CommandExt,
        },
    },
    process::Command,
    thread,
};

use haven_mount::{IOCTL_BARRIER, MountOptions};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FlockOperation, RenameFlags, Timespec, Timestamps, XattrFlags, copy_file_range,
    fallocate, fcntl_lock, flock, getxattr, getxattr_query, lgetxattr, listxattr, removexattr, renameat_with, setxattr,
    utimensat,
};
use rustix::io::Errno;

use crate::support::{Mounted, fuse_here, is_root};

#[test]
fn a_tree_of_every_kind_of_file_is_what_was_made() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    fs::create_dir_all(m.path("a/b")).unwrap();
    fs::write(m.path("a/b/photo.jpg"), b"light").unwrap();
    fs::hard_link(m.path("a/b/photo.jpg"), m.path("a/again.jpg")).unwrap();
    symlink("b/photo.jpg", m.path("a/link")).unwrap();
    fs::set_permissions(m.path("a/again.jpg"), fs::Permissions::from_mode(0o640)).unwrap();
    let photo = fs::metadata(m.path("a/b/photo.jpg")).unwrap();
    assert_eq!((photo.len(), photo.nlink(), photo.mode() & 0o7777), (5, 2, 0o640));
    assert_eq!(photo.ino(), fs::metadata(m.path("a/link")).unwrap().ino());
    assert_eq!(fs::read_link(m.path("a/link")).unwrap().as_os_str(), "b/photo.jpg");
    assert_eq!(fs::read(m.path("a/link")).unwrap(), b"light");
    // Subdirectories count: `.`, the name, and `..` of each child.
    assert_eq!(fs::metadata(m.path("a")).unwrap().nlink(), 3);
    assert_eq!(fs::remove_dir(m.path("a")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);

    fs::rename(m.path("a/b/photo.jpg"), m.path("a/moved.jpg")).unwrap();
    assert_eq!(fs::metadata(m.path("a/b/photo.jpg")).unwrap_err().kind(), ErrorKind::NotFound);
    fs::remove_file(m.path("a/again.jpg")).unwrap();
    assert_eq!(fs::metadata(m.path("a/moved.jpg")).unwrap().nlink(), 1);
    fs::remove_dir_all(m.path("a")).unwrap();
    assert_eq!(fs::read_dir(m.session.point()).unwrap().count(), 0);
}

#[test]
fn special_files_keep_their_kind() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let make = |name: &str, kind, dev| rustix::fs::mknodat(CWD, m.path(name), kind, 0o644.into(), dev);
    make("pipe", rustix::fs::FileType::Fifo, 0).unwrap();
    assert!(fs::metadata(m.path("pipe")).unwrap().file_type().is_fifo());
    let _socket = std::os::unix::net::UnixListener::bind(m.path("socket")).unwrap();
    assert!(fs::metadata(m.path("socket")).unwrap().file_type().is_socket());
    if is_root() {
        make("device", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(300, 70_000)).unwrap();
        let device = fs::metadata(m.path("device")).unwrap();
        assert!(device.file_type().is_char_device());
        assert_eq!(device.rdev(), rustix::fs::makedev(300, 70_000));
    }
}

#[test]
fn names_of_any_bytes_up_to_255_are_kept_and_longer_ones_refused() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe caf\xc3\xa9\n");
    fs::write(m.session.point().join(odd), b"x").unwrap();
    fs::write(m.path(&"n".repeat(255)), b"y").unwrap();
    let names: Vec<_> = fs::read_dir(m.session.point()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().any(|n| n == odd));
    assert!(names.iter().any(|n| n.len() == 255));
    let e = fs::write(m.path(&"n".repeat(256)), b"z").unwrap_err();
    assert_eq!(e.raw_os_error(), Some(libc::ENAMETOOLONG));
}

#[test]
fn times_are_kept_to_the_nanosecond_also_before_1970() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    fs::write(m.path("old"), b"x").unwrap();
    let at = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    for mtime in [at(1_700_000_000, 123_456_789), at(-1, 300_000_000), at(-86_400, 0), at(5_000_000_000, 1)] {
        let times = Timestamps { last_access: at(7, 8), last_modification: mtime };
        utimensat(CWD, m.path("old"), &times, AtFlags::empty()).unwrap();
        let meta = fs::metadata(m.path("old")).unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (mtime.tv_sec, mtime.tv_nsec));
        assert_eq!((meta.atime(), meta.atime_nsec()), (7, 8));
    }
}

#[test]
fn a_shared_map_and_the_file_are_the_same_bytes() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(m.path("mapped")).unwrap();
    file.set_len(3 << 20).unwrap();
    file.write_at(b"written", 4096).unwrap();
    // SAFETY: nobody truncates the file while the map lives.
    #[allow(unsafe_code)]
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file).unwrap() };
    assert_eq!(&map[4096..4103], b"written");
    map[(2 << 20)..][..6].copy_from_slice(b"mapped");
    let mut seen = [0; 6];
    file.read_exact_at(&mut seen, 2 << 20).unwrap();
    assert_eq!(&seen, b"mapped");
    file.write_at(b"later", 4096).unwrap();
    assert_eq!(&map[4096..4103], b"lateren");
    m.runtime.block_on(m.session.gather(std::time::Duration::from_secs(30))).unwrap();
    assert_eq!(&m.arrived("mapped")[(2 << 20)..][..6], b"mapped", "before anybody syncs or unmaps it");
    map.flush().unwrap();
    drop(map);
    drop(file);
    assert_eq!(&fs::read(m.path("mapped")).unwrap()[(2 << 20)..][..6], b"mapped");
}

#[test]
fn bytes_come_back_whatever_sizes_they_were_written_in() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let bytes: Vec<u8> = (0..9_000_001u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut file = File::create(m.path("big")).unwrap();
    for (piece, size) in bytes.chunks(300_007).zip([1, 4096, 70_001, 300_007].iter().cycle()) {
        piece.chunks(*size.max(&1000)).for_each(|p| file.write_all(p).unwrap());
    }
    file.sync_all().unwrap();
    drop(file);
    assert!(fs::read(m.path("big")).unwrap() == bytes);
    let mut file = OpenOptions::new().read(true).write(true).open(m.path("big")).unwrap();
    file.write_at(b"in place", 5_000_000).unwrap();
    file.seek(SeekFrom::Start(4_999_999)).unwrap();
    let mut around = [0; 10];
    file.read_exact(&mut around).unwrap();
    assert_eq!(around[0], bytes[4_999_999]);
    assert_eq!(&around[1..9], b"in place");
    assert_eq!(around[9], bytes[5_000_008]);
    file.set_len(10).unwrap();
    assert_eq!(fs::read(m.path("big")).unwrap(), &bytes[..10]);
}

#[test]
fn appending_truncating_and_unlinking_open_files_work_as_on_any_disk() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let mut log = OpenOptions::new().append(true).create(true).open(m.path("log")).unwrap();
    log.write_all(b"one ").unwrap();
    fs::OpenOptions::new().append(true).open(m.path("log")).unwrap().write_all(b"two ").unwrap();
    log.write_all(b"three").unwrap();
    assert_eq!(fs::read(m.path("log")).unwrap(), b"one two three");
    fs::write(m.path("log"), b"anew").unwrap();
    assert_eq!(fs::read(m.path("log")).unwrap(), b"anew");

    let mut held = File::open(m.path("log")).unwrap();
    fs::write(m.path("other"), b"other").unwrap();
    fs::rename(m.path("other"), m.path("log")).unwrap();
    let mut old = String::new();
    held.read_to_string(&mut old).unwrap();
    assert_eq!(old, "anew");
    assert_eq!(held.metadata().unwrap().nlink(), 0);
    assert_eq!(fs::read(m.path("log")).unwrap(), b"other");
}

#[test]
fn renames_exchange_or_refuse_to_replace_when_told_to() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    fs::write(m.path("a"), b"a").unwrap();
    fs::write(m.path("b"), b"b").unwrap();
    let rename = |flags| renameat_with(CWD, m.path("a"), CWD, m.path("b"), flags);
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EXIST));
    rename(RenameFlags::EXCHANGE).unwrap();
    assert_eq!((fs::read(m.path("a")).unwrap(), fs::read(m.path("b")).unwrap()), (b"b".to_vec(), b"a".to_vec()));
    assert_eq!(rename(RenameFlags::WHITEOUT), Err(Errno::INVAL));
    rename(RenameFlags::empty()).unwrap();
    assert_eq!(fs::read(m.path("b")).unwrap(), b"b");
}

#[test]
fn extended_attributes_have_the_sizes_and_errors_of_the_manual() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let file = m.path("file");
    fs::write(&file, b"x").unwrap();
    setxattr(&file, "user.mood", b"sunny", XattrFlags::CREATE).unwrap();
    assert_eq!(setxattr(&file, "user.mood", b"", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(setxattr(&file, "user.none", b"", XattrFlags::REPLACE), Err(Errno::NODATA));
    let mut value = [0; 16];
    assert_eq!(getxattr(&file, "user.mood", &mut value), Ok(5));
    assert_eq!(&value[..5], b"sunny");
    assert_eq!(getxattr_query(&file, "user.mood"), Ok(5));
    assert_eq!(getxattr(&file, "user.mood", &mut [0; 2]), Err(Errno::RANGE));
    assert_eq!(getxattr(&file, "user.none", &mut value), Err(Errno::NODATA));
    let mut names = [0; 64];
    let n = listxattr(&file, &mut names).unwrap();
    assert_eq!(&names[..n], b"user.mood\0");
    removexattr(&file, "user.mood").unwrap();
    assert_eq!(lgetxattr(&file, "user.mood", &mut value), Err(Errno::NODATA));
}

#[test]
fn locks_hold_between_open_files_and_between_processes() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let (a, b) = (File::create(m.path("lock")).unwrap(), File::open(m.path("lock")).unwrap());
    flock(&a, FlockOperation::LockExclusive).unwrap();
    assert_eq!(flock(&b, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    flock(&a, FlockOperation::Unlock).unwrap();
    flock(&b, FlockOperation::NonBlockingLockExclusive).unwrap();

    fcntl_lock(&a, FlockOperation::NonBlockingLockExclusive).unwrap();
    let try_it = "import fcntl, sys\nfcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)";
    let other = || Command::new("python3").args(["-c", try_it]).arg(m.path("lock")).output().unwrap();
    assert!(!other().status.success(), "the other process got a lock that we hold");
    fcntl_lock(&a, FlockOperation::Unlock).unwrap();
    let out = other();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn holes_are_seen_punched_and_read_as_zeros() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(m.path("sparse")).unwrap();
    file.write_at(&[7; 1 << 20], 8 << 20).unwrap();
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)), Ok(8 << 20));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(8 << 20)), Ok(9 << 20));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(9 << 20)), Err(Errno::NXIO));
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 8 << 20, 65_536).unwrap();
    let mut bytes = [1; 65_537];
    file.read_exact_at(&mut bytes, 8 << 20).unwrap();
    assert!(bytes[..65_536].iter().all(|b| *b == 0));
    assert_eq!(bytes[65_536], 7);
    fallocate(&file, FallocateFlags::empty(), 0, 20 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 20 << 20);
}

#[test]
fn a_range_copied_from_file_to_file_is_the_same_bytes() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    fs::write(m.path("from"), &bytes).unwrap();
    let (from, to) = (File::open(m.path("from")).unwrap(), File::create(m.path("to")).unwrap());
    let mut done = 0;
    while done < bytes.len() {
        let n = copy_file_range(&from, None, &to, None, bytes.len() - done).unwrap();
        assert_ne!(n, 0);
        done += n;
    }
    assert!(fs::read(m.path("to")).unwrap() == bytes);
}

#[test]
fn a_listing_under_change_shows_what_stays_exactly_once() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let dir = m.path("many");
    fs::create_dir(&dir).unwrap();
    for i in 0..10_000 {
        File::create(dir.join(format!("stays-{i:05}"))).unwrap();
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let mut i = 0u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                File::create(dir.join(format!("comes-{i}"))).unwrap();
                if i >= 50 {
                    fs::remove_file(dir.join(format!("comes-{}", i - 50))).unwrap();
                }
                i += 1;
            }
        });
        for _ in 0..5 {
            let mut seen = BTreeMap::<_, u32>::new();
            for entry in fs::read_dir(&dir).unwrap() {
                *seen.entry(entry.unwrap().file_name().into_string().unwrap()).or_default() += 1;
            }
            assert!(seen.values().all(|n| *n == 1), "shown twice");
            let stays = seen.keys().filter(|n| n.starts_with("stays-")).count();
            assert_eq!(stays, 10_000);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        changes.join().unwrap();
    });
}

#[test]
fn several_threads_work_in_one_directory() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    thread::scope(|scope| {
        for t in 0..4u8 {
            let m = &m;
            scope.spawn(move || {
                for i in 0..100usize {
                    let (temporary, name) = (m.path(&format!("{t}-{i}.tmp")), m.path(&format!("{t}-{i}")));
                    fs::write(&temporary, vec![t; i * 977]).unwrap();
                    fs::rename(&temporary, &name).unwrap();
                    assert_eq!(fs::read(&name).unwrap(), vec![t; i * 977]);
                }
            });
        }
    });
    assert_eq!(fs::read_dir(m.session.point()).unwrap().count(), 400);
    let told = m.session.metrics().snapshot();
    let count = |name| told.ops.iter().find(|op| op.name == name).map_or(0, |op| op.count);
    assert_eq!((count("create"), count("rename")), (400, 400));
    assert_eq!((told.panics, told.written_bytes), (0, 4 * (0..100).sum::<u64>() * 977));
}

#[test]
fn the_barrier_answers_on_the_root_and_nowhere_else() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::with(&MountOptions { writeback_cache: true, ..MountOptions::new("memory:") });
    fs::write(m.path("file"), b"x").unwrap();
    let barrier = |file: File| {
        // SAFETY: the request carries no argument.
        #[allow(unsafe_code)]
        match unsafe { libc::ioctl(file.as_raw_fd(), u64::from(IOCTL_BARRIER) as _) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().raw_os_error()),
        }
    };
    let mut open = File::create(m.path("open")).unwrap();
    open.write_all(b"light").unwrap();
    barrier(File::open(m.session.point()).unwrap()).unwrap();
    assert_eq!(m.arrived("open"), b"light", "also what the kernel had gathered");
    assert_eq!(barrier(File::open(m.path("file")).unwrap()), Err(Some(libc::ENOTTY)));
}

#[test]
fn what_the_kernel_gathered_is_handed_over_when_it_is_asked_for() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::with(&MountOptions { writeback_cache: true, ..MountOptions::new("memory:") });
    let mut open = File::create(m.path("open")).unwrap();
    open.write_all(b"light").unwrap();
    m.runtime.block_on(m.session.gather(std::time::Duration::from_secs(30))).unwrap();
    assert_eq!(m.arrived("open"), b"light");
    // It looks at the threads of this name.
    let names =
        fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| fs::read_to_string(task.path().join("comm")));
    assert!(names.flatten().any(|name| name.starts_with("fuser-")));
    drop(open);
    // Taken off its mount point there is nothing to ask for, and what is there now is not asked.
    m.session.unmount(true).unwrap();
    m.runtime.block_on(m.session.gather(std::time::Duration::from_secs(30))).unwrap();
}

#[test]
fn an_unlinked_file_is_opened_again_through_a_path_descriptor() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    let mut file = File::create(m.path("gone")).unwrap();
    file.write_all(b"light").unwrap();
    let path = rustix::fs::open(m.path("gone"), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    fs::remove_file(m.path("gone")).unwrap();
    drop(file);
    assert_eq!(fs::read(format!("/proc/self/fd/{}", path.as_raw_fd())).unwrap(), b"light");
}

#[test]
fn files_and_directories_can_be_synced() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::new();
    for fsync in [haven_mount::Fsync::Disk, haven_mount::Fsync::Bucket] {
        let m = Mounted::with(&MountOptions { fsync, ..MountOptions::new("memory:") });
        let mut file = File::create(m.path("file")).unwrap();
        file.write_all(b"x").unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        File::open(m.session.point()).unwrap().sync_all().unwrap();
        drop(file);
    }
    let space = rustix::fs::statvfs(m.session.point()).unwrap();
    assert!(space.f_blocks > 0 && space.f_bavail > 0 && space.f_namemax == 255);
}

#[test]
fn who_is_not_root_cannot_keep_a_setuid_bit_by_writing() {
    if !fuse_here() || !is_root() {
        return;
    }
    let m = Mounted::with(&MountOptions { allow_other: true, ..MountOptions::new("memory:") });
    let path = m.path("tool");
    let bits = || fs::metadata(&path).unwrap().mode() & 0o7777;
    let as_nobody = |script: &str| {
        let status = Command::new("sh").args(["-c", script]).arg("sh").arg(&path).uid(65_534).gid(65_534).status();
        assert!(status.unwrap().success(), "{script}");
    };
    for script in ["echo more >> \"$1\"", ": > \"$1\"", "truncate -s 3 \"$1\""] {
        fs::write(&path, b"x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
        as_nobody(script);
        assert_eq!(bits(), 0o777, "{script}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"root may").unwrap();
    assert_eq!(bits(), 0o6777);
}

#[test]
fn what_was_written_to_is_not_executed_with_the_setuid_bit_it_had() {
    if !fuse_here() || !is_root() {
        return;
    }
    let m = Mounted::with(&MountOptions { allow_other: true, ..MountOptions::new("memory:") });
    let path = m.path("id");
    fs::copy("/usr/bin/id", &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4777)).unwrap();
    let who = || {
        let out = Command::new(&path).arg("-u").uid(65_534).gid(65_534).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(who(), "0", "as the bit says");
    let append = "printf x >> \"$1\"";
    let status = Command::new("sh").args(["-c", append, "sh"]).arg(&path).uid(65_534).gid(65_534).status();
    assert!(status.unwrap().success());
    assert_eq!(who(), "65534");
}

#[test]
fn a_mount_for_reading_refuses_every_change() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::with(&MountOptions { read_only: true, ..MountOptions::new("memory:") });
    assert_eq!(fs::write(m.path("file"), b"x").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::read_dir(m.session.point()).unwrap().count(), 0);
}
