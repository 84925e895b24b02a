//! Owners, modes, attributes, lists, times that are set.

use haven_format::{Ino, record::Time};
use haven_fs::{Atime, Caller, Options, STATE_ATTRIBUTE, SetAttr, SetTime, WriteFlags};

use crate::common::*;

fn mode(bits: u32) -> SetAttr {
    SetAttr { mode: Some(bits), ..Default::default() }
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0];
    for (tag, perm, id) in entries {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&perm.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    out
}

const NONE: u32 = u32::MAX;
const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

#[test]
fn the_umask_holds_and_setgid_directories_give_their_group() {
    let t = start();
    let f = t.fs.mknod(&ME, ROOT, b"f", libc::S_IFREG | 0o666, 0).unwrap();
    assert_eq!((f.mode & 0o7777, f.uid, f.gid), (0o644, 1000, 1000));
    let d = t.mkdir(ROOT, "d");
    t.fs.setattr(&Caller::ROOT, d, &SetAttr { gid: Some(50), ..mode(0o2775) }, None).unwrap();
    let sub = t.fs.mkdir(&ME, d, b"sub", 0o755).unwrap();
    assert_eq!((sub.mode & 0o7777, sub.gid), (0o2755, 50));
    let file = t.fs.mknod(&ME, d, b"f", libc::S_IFREG | 0o2775, 0).unwrap();
    assert_eq!((file.mode & 0o7777, file.gid), (0o755, 50));
}

#[test]
fn privileges_go_when_content_or_owner_change() {
    let t = start();
    let ino = t.file(ROOT, "f", b"x");
    let bits = |t: &Try| t.attr(ino).mode & 0o7777;
    let arm = |t: &Try| {
        t.fs.setattr(&Caller::ROOT, ino, &mode(0o6775), None).unwrap();
        t.fs.setxattr(&Caller::ROOT, ino, b"security.capability", b"cap", 0).unwrap();
    };
    let handle = t.fs.open(ino, libc::O_RDWR).unwrap();
    t.write(ino, handle, 0, b"y");
    arm(&t);
    t.fs.write(ino, handle, 0, b"z", WriteFlags { kill_privileges: true }).unwrap();
    assert_eq!(bits(&t), 0o775);
    assert_eq!(errno(t.fs.getxattr(ino, b"security.capability")), libc::ENODATA);
    arm(&t);
    t.write(ino, handle, 0, b"root may");
    assert_eq!(bits(&t), 0o6775);
    assert_eq!(errno(t.fs.getxattr(ino, b"security.capability")), libc::ENODATA);
    t.fs.setattr(&ME, ino, &SetAttr { size: Some(1), ..Default::default() }, None).unwrap();
    assert_eq!(bits(&t), 0o775);
    arm(&t);
    t.fs.setattr(&Caller::ROOT, ino, &SetAttr { uid: Some(7), ..Default::default() }, None).unwrap();
    assert_eq!((bits(&t), t.attr(ino).uid), (0o775, 7));
    assert_eq!(errno(t.fs.getxattr(ino, b"security.capability")), libc::ENODATA);
    t.fs.setattr(&Caller::ROOT, ino, &SetAttr { gid: Some(9), ..mode(0o2755) }, None).unwrap();
    t.fs.setattr(&ME, ino, &mode(0o2755), None).unwrap();
    assert_eq!(bits(&t), 0o755, "not of the group");
    t.fs.setattr(&Caller::ROOT, ino, &mode(0o2745), None).unwrap();
    t.fs.setattr(&Caller::ROOT, ino, &SetAttr { uid: Some(8), ..Default::default() }, None).unwrap();
    assert_eq!(bits(&t), 0o2745, "a lock mark, not a privilege");
    t.sound();
}

#[test]
fn times_are_set_to_the_nanosecond_and_stay_though_bytes_follow_later() {
    let mut t = start();
    let (file, handle) = t.create(ROOT, "f");
    t.write(file.ino, handle, 0, b"restored");
    let past = Time { seconds: -5, nanos: 123_456_789 };
    let set = SetAttr { atime: Some(SetTime::To(past)), mtime: Some(SetTime::To(past)), ..Default::default() };
    let attr = t.fs.setattr(&ME, file.ino, &set, Some(handle)).unwrap();
    assert_eq!((attr.atime, attr.mtime), (past, past));
    t.close(file.ino, handle);
    t.killed();
    assert_eq!((t.attr(file.ino).atime, t.attr(file.ino).mtime), (past, past));
    assert!(t.attr(file.ino).ctime > past);
    t.fs.setattr(&ME, file.ino, &SetAttr { mtime: Some(SetTime::Now), ..Default::default() }, None).unwrap();
    assert!(t.attr(file.ino).mtime.seconds > 0);
}

#[test]
fn attributes_follow_xattr_7() {
    let t = start();
    let ino = t.file(ROOT, "f", b"");
    let set = |name: &[u8], value: &[u8], flags| t.fs.setxattr(&ME, ino, name, value, flags);
    set(b"user.a", b"1", libc::XATTR_CREATE).unwrap();
    assert_eq!(errno(set(b"user.a", b"2", libc::XATTR_CREATE)), libc::EEXIST);
    assert_eq!(errno(set(b"user.b", b"2", libc::XATTR_REPLACE)), libc::ENODATA);
    set(b"user.a", b"", libc::XATTR_REPLACE).unwrap();
    assert_eq!(t.fs.getxattr(ino, b"user.a").unwrap(), &b""[..]);
    set(b"trusted.b", &[0; 65536], 0).unwrap();
    assert_eq!(errno(set(b"user.c", &[0; 65537], 0)), libc::E2BIG);
    assert_eq!(errno(set(b"other.c", b"", 0)), libc::EOPNOTSUPP);
    assert_eq!(errno(set(&[b'u'; 256], b"", 0)), libc::ERANGE);
    assert_eq!(t.fs.listxattr(ino).unwrap(), b"trusted.b\0user.a\0");
    t.fs.removexattr(&ME, ino, b"user.a").unwrap();
    assert_eq!(errno(t.fs.removexattr(&ME, ino, b"user.a")), libc::ENODATA);
    assert_eq!(errno(t.fs.getxattr(ino, b"user.a")), libc::ENODATA);
    let link = t.fs.symlink(&ME, ROOT, b"l", b"f").unwrap().ino;
    assert_eq!(errno(t.fs.setxattr(&ME, link, b"user.a", b"", 0)), libc::EPERM);
    t.fs.setxattr(&Caller::ROOT, link, b"trusted.a", b"", 0).unwrap();
    let mut added = 0;
    let full = loop {
        match t.fs.setxattr(&ME, ino, format!("user.{added:0250}").as_bytes(), b"", 0) {
            Ok(()) => added += 1,
            Err(error) => break error.errno(),
        }
    };
    assert_eq!(full, libc::E2BIG);
    assert!(added > 250 && t.fs.listxattr(ino).unwrap().len() <= 65536);
    t.sound();
}

#[test]
fn an_access_list_and_the_mode_say_the_same() {
    let t = start();
    let ino = t.file(ROOT, "f", b"");
    let list = acl(&[(1, 6, NONE), (2, 7, 1001), (4, 4, NONE), (16, 5, NONE), (32, 0, NONE)]);
    t.fs.setxattr(&ME, ino, ACCESS, &list, 0).unwrap();
    assert_eq!(t.attr(ino).mode & 0o777, 0o650);
    assert_eq!(t.fs.getxattr(ino, ACCESS).unwrap(), list);
    t.fs.setattr(&ME, ino, &mode(0o421), None).unwrap();
    let changed = acl(&[(1, 4, NONE), (2, 7, 1001), (4, 4, NONE), (16, 2, NONE), (32, 1, NONE)]);
    assert_eq!(t.fs.getxattr(ino, ACCESS).unwrap(), changed);
    let plain = acl(&[(1, 7, NONE), (4, 5, NONE), (32, 5, NONE)]);
    t.fs.setxattr(&ME, ino, ACCESS, &plain, 0).unwrap();
    assert_eq!(t.attr(ino).mode & 0o777, 0o755);
    assert_eq!(errno(t.fs.getxattr(ino, ACCESS)), libc::ENODATA);
    assert_eq!(errno(t.fs.setxattr(&ME, ino, ACCESS, b"nonsense", 0)), libc::EINVAL);
    assert_eq!(errno(t.fs.setxattr(&ME, ino, DEFAULT, &plain, 0)), libc::EACCES);
    t.sound();
}

#[test]
fn a_default_list_is_inherited_in_place_of_the_umask() {
    let t = start();
    let d = t.mkdir(ROOT, "d");
    let list = acl(&[(1, 7, NONE), (2, 6, 1001), (4, 5, NONE), (16, 7, NONE), (32, 4, NONE)]);
    t.fs.setxattr(&ME, d, DEFAULT, &list, 0).unwrap();
    let f = t.fs.mknod(&ME, d, b"f", libc::S_IFREG | 0o666, 0).unwrap();
    assert_eq!(f.mode & 0o777, 0o664);
    let inherited = acl(&[(1, 6, NONE), (2, 6, 1001), (4, 5, NONE), (16, 6, NONE), (32, 4, NONE)]);
    assert_eq!(t.fs.getxattr(f.ino, ACCESS).unwrap(), inherited);
    let sub = t.fs.mkdir(&ME, d, b"sub", 0o777).unwrap();
    assert_eq!(t.fs.getxattr(sub.ino, DEFAULT).unwrap(), list);
    assert_eq!(sub.mode & 0o777, 0o774);
    t.fs.removexattr(&ME, d, DEFAULT).unwrap();
    assert_eq!(t.fs.mknod(&ME, d, b"g", libc::S_IFREG | 0o666, 0).unwrap().mode & 0o777, 0o644);
    t.sound();
}

#[test]
fn access_times_follow_relatime_where_wanted() {
    for (atime, moves) in [(Atime::Off, false), (Atime::Relative, true)] {
        let mut t = start_with(Options { atime, ..Options::default() });
        let ino = t.file(ROOT, "f", b"x");
        let before = t.attr(ino).atime;
        t.content(ino);
        let first = t.attr(ino).atime;
        assert_eq!(first > before, moves);
        t.content(ino);
        assert_eq!(t.attr(ino).atime, first, "it is newer than the last change already");
        t.fs.tick().unwrap();
        t.killed();
        assert_eq!(t.attr(ino).atime, first);
    }
}

#[test]
fn a_read_only_file_system_changes_nothing() {
    let mut t = start();
    let ino = t.file(ROOT, "f", b"x");
    t.fs.unlink(ROOT, b"f").unwrap();
    t.fs.mkdir(&ME, ROOT, b"d", 0o755).unwrap();
    t.options.read_only = true;
    t.killed();
    let head = t.vault.head();
    assert_eq!(errno(t.fs.mkdir(&ME, ROOT, b"e", 0o755)), libc::EROFS);
    assert_eq!(errno(t.fs.rmdir(ROOT, b"d")), libc::EROFS);
    assert_eq!(errno(t.fs.rename(ROOT, b"d", ROOT, b"e", 0)), libc::EROFS);
    assert_eq!(errno(t.fs.setattr(&ME, ROOT, &mode(0o700), None)), libc::EROFS);
    assert_eq!(errno(t.fs.setxattr(&ME, ROOT, b"user.a", b"", 0)), libc::EROFS);
    assert_eq!(errno(t.fs.open(ino, libc::O_RDWR)), libc::EROFS);
    assert_eq!(t.content(ino), b"x");
    t.fs.tick().unwrap();
    assert_eq!(t.vault.head(), head);
}

#[test]
fn statfs_tells_the_quota_and_what_is_used() {
    let t = start_with(Options { quota: Some(1 << 30), ..Options::default() });
    t.file(ROOT, "f", &noise(1, 1 << 20));
    let stat = t.fs.statfs().unwrap();
    assert_eq!(u64::from(stat.block) * stat.blocks, 1 << 30);
    assert_eq!(u64::from(stat.block) * (stat.blocks - stat.blocks_free), 1 << 20);
    let endless = start().fs.statfs().unwrap();
    assert!(endless.blocks_free > 1 << 30 && endless.inodes_free > 1 << 30);
    assert_eq!(t.attr(Ino::ROOT).uid, 0);
}

#[test]
fn a_file_tells_where_its_newest_bytes_are() {
    let t = start();
    let state = |ino| String::from_utf8(t.fs.getxattr(ino, STATE_ATTRIBUTE).unwrap().to_vec()).unwrap();
    let (file, handle) = t.create(ROOT, "f");
    t.write(file.ino, handle, 0, b"x");
    assert_eq!(state(file.ino), "memory");
    t.close(file.ino, handle);
    // A vault in memory has no bucket to wait for.
    assert_eq!(state(file.ino), "bucket 2027-01-15T08:00:00Z");
    assert_eq!(t.fs.listxattr(file.ino).unwrap(), b"");
    assert_eq!(errno(t.fs.setxattr(&ME, file.ino, STATE_ATTRIBUTE, b"bucket", 0)), libc::EPERM);
    assert_eq!(errno(t.fs.removexattr(&ME, file.ino, STATE_ATTRIBUTE)), libc::EPERM);
}
