//! Names: making, linking, moving, removing, listing.

use haven_format::Ino;
use haven_fs::Caller;

use crate::common::*;

const NOREPLACE: u32 = libc::RENAME_NOREPLACE;
const EXCHANGE: u32 = libc::RENAME_EXCHANGE;

#[test]
fn directories_count_their_links_and_refuse_to_go_while_full() {
    let t = start();
    let a = t.mkdir(ROOT, "a");
    let b = t.mkdir(a, "b");
    assert_eq!((t.attr(ROOT).nlink, t.attr(a).nlink, t.attr(b).nlink), (3, 3, 2));
    assert_eq!(errno(t.fs.rmdir(ROOT, b"a")), libc::ENOTEMPTY);
    assert_eq!(errno(t.fs.unlink(a, b"b")), libc::EISDIR);
    t.file(a, "f", b"");
    assert_eq!(errno(t.fs.rmdir(a, b"f")), libc::ENOTDIR);
    t.fs.rmdir(a, b"b").unwrap();
    assert_eq!(t.attr(a).nlink, 2);
    assert_eq!(errno(t.fs.mkdir(&ME, b, b"late", 0o755)), libc::ENOENT);
    t.sound();
}

#[test]
fn a_name_has_255_bytes_of_any_kind() {
    let t = start();
    let long = [0xff; 255];
    t.fs.mkdir(&ME, ROOT, &long, 0o755).unwrap();
    assert!(t.fs.lookup(ROOT, &long).is_ok());
    assert_eq!(errno(t.fs.mkdir(&ME, ROOT, &[b'x'; 256], 0o755)), libc::ENAMETOOLONG);
    assert_eq!(errno(t.fs.lookup(ROOT, &[b'x'; 256])), libc::ENAMETOOLONG);
    assert_eq!(errno(t.fs.mkdir(&ME, ROOT, b"a/b", 0o755)), libc::EINVAL);
    assert_eq!(errno(t.fs.mkdir(&ME, ROOT, b"..", 0o755)), libc::EEXIST);
}

#[test]
fn rename_over_an_open_file_keeps_its_old_bytes_readable() {
    let t = start();
    let old = t.file(ROOT, "target", b"old");
    let handle = t.fs.open(old, libc::O_RDONLY).unwrap();
    t.file(ROOT, "new", b"new bytes");
    t.fs.rename(ROOT, b"new", ROOT, b"target", 0).unwrap();
    assert_eq!(t.content(t.ino(ROOT, "target").unwrap()), b"new bytes");
    assert_eq!(t.fs.read(old, handle, 0, 10).unwrap(), &b"old"[..]);
    assert_eq!(t.attr(old).nlink, 0);
    t.fs.release(old, handle).unwrap();
    t.fs.forget(old, 1);
    assert_eq!(errno(t.fs.getattr(old, None)), libc::ENOENT);
    t.sound();
}

#[test]
fn rename_in_all_its_kinds() {
    let t = start();
    let (a, b) = (t.mkdir(ROOT, "a"), t.mkdir(ROOT, "b"));
    let sub = t.mkdir(a, "sub");
    t.file(b, "f", b"f");
    assert_eq!(errno(t.fs.rename(ROOT, b"a", sub, b"x", 0)), libc::EINVAL);
    assert_eq!(errno(t.fs.rename(ROOT, b"a", a, b"x", 0)), libc::EINVAL);
    assert_eq!(errno(t.fs.rename(a, b"sub", ROOT, b"b", 0)), libc::ENOTEMPTY);
    assert_eq!(errno(t.fs.rename(a, b"sub", b, b"f", 0)), libc::ENOTDIR);
    assert_eq!(errno(t.fs.rename(b, b"f", a, b"sub", 0)), libc::EISDIR);
    assert_eq!(errno(t.fs.rename(b, b"f", ROOT, b"b", NOREPLACE)), libc::EEXIST);
    assert_eq!(errno(t.fs.rename(b, b"f", ROOT, b"none", EXCHANGE)), libc::ENOENT);
    assert_eq!(errno(t.fs.rename(b, b"f", ROOT, b"none", libc::RENAME_WHITEOUT)), libc::EINVAL);
    assert_eq!(errno(t.fs.rename(b, b"none", ROOT, b"x", 0)), libc::ENOENT);
    t.fs.rename(a, b"sub", b, b"f", EXCHANGE).unwrap();
    assert_eq!((t.attr(a).nlink, t.attr(b).nlink), (2, 3));
    assert_eq!(t.ino(sub, "..").unwrap(), b);
    assert_eq!(
        (t.names(a), t.names(b)),
        (vec![".".into(), "..".into(), "sub".into()], vec![".".into(), "..".into(), "f".to_string()])
    );
    t.mkdir(a, "empty");
    t.fs.rename(b, b"f", a, b"empty", 0).unwrap();
    assert_eq!((t.attr(a).nlink, t.attr(b).nlink), (3, 2));
    t.sound();
}

#[test]
fn two_names_of_one_file_rename_onto_each_other_without_effect() {
    let t = start();
    let f = t.file(ROOT, "f", b"1");
    t.fs.link(f, ROOT, b"g").unwrap();
    t.fs.rename(ROOT, b"f", ROOT, b"g", 0).unwrap();
    assert_eq!((t.ino(ROOT, "f").unwrap(), t.ino(ROOT, "g").unwrap(), t.attr(f).nlink), (f, f, 2));
    t.fs.unlink(ROOT, b"f").unwrap();
    assert_eq!(t.attr(f).nlink, 1);
    let d = t.mkdir(ROOT, "d");
    assert_eq!(errno(t.fs.link(d, ROOT, b"h")), libc::EPERM);
    t.sound();
}

#[test]
fn an_unlinked_file_lives_while_it_is_open_and_goes_after_a_kill() {
    let mut t = start();
    let (file, handle) = t.create(ROOT, "tmp");
    t.write(file.ino, handle, 0, &noise(1, 100_000));
    t.fs.fsync(file.ino, handle, false).unwrap();
    t.fs.unlink(ROOT, b"tmp").unwrap();
    t.write(file.ino, handle, 100_000, b"more");
    assert_eq!(t.fs.read(file.ino, handle, 99_999, 10).unwrap().len(), 5);
    t.killed();
    t.sound();
    assert!(t.fs.getattr(file.ino, None).is_ok(), "not yet removed");
    t.fs.tick().unwrap();
    assert_eq!(errno(t.fs.getattr(file.ino, None)), libc::ENOENT);
    assert_eq!(t.vault.totals().inodes, 1);
    assert_eq!(t.vault.totals().file_bytes, 0);
    t.sound();
}

#[test]
fn a_file_without_a_name_can_be_given_one() {
    let mut t = start();
    let (file, handle) = t.fs.tmpfile(&ME, ROOT, 0o600, libc::O_RDWR).unwrap();
    t.write(file.ino, handle, 0, b"late");
    assert_eq!(file.nlink, 0);
    t.sound();
    assert_eq!(t.fs.link(file.ino, ROOT, b"named").unwrap().nlink, 1);
    t.close(file.ino, handle);
    t.fs.forget(file.ino, 2);
    t.killed();
    t.fs.tick().unwrap();
    assert_eq!(t.content(t.ino(ROOT, "named").unwrap()), b"late");
    t.sound();
}

#[test]
fn listing_goes_on_from_any_entry_while_others_come_and_go() {
    let t = start();
    let d = t.mkdir(ROOT, "d");
    for n in 0..500 {
        t.fs.mknod(&ME, d, format!("keep{n}").as_bytes(), libc::S_IFREG | 0o644, 0).unwrap();
        t.fs.mknod(&ME, d, format!("go{n}").as_bytes(), libc::S_IFREG | 0o644, 0).unwrap();
    }
    let handle = t.fs.opendir(d).unwrap();
    let (mut seen, mut from, mut round) = (Vec::new(), 0, 0);
    loop {
        let mut room = 37;
        let (before, start) = (seen.len(), from);
        let mut take = |entry: &haven_fs::Dirent| {
            if room == 0 {
                return false;
            }
            room -= 1;
            from = entry.cookie;
            assert_eq!(entry.attr.is_some(), entry.name.len() > 2);
            seen.push(entry.name.to_vec());
            true
        };
        t.fs.readdir(d, handle, start, true, &mut take).unwrap();
        if seen.len() == before {
            break;
        }
        for n in round * 25..(round + 1) * 25 {
            let _ = t.fs.unlink(d, format!("go{n}").as_bytes());
            let _ = t.fs.mknod(&ME, d, format!("new{n}").as_bytes(), libc::S_IFREG, 0);
        }
        round += 1;
    }
    let mut kept: Vec<_> = seen.iter().filter(|name| name.starts_with(b"keep")).collect();
    kept.sort();
    kept.dedup();
    assert_eq!(kept.len(), 500);
    let total = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), total, "an entry was told twice");
    t.sound();
}

#[test]
fn times_move_as_posix_demands() {
    let t = start();
    let d = t.mkdir(ROOT, "d");
    let f = t.file(d, "f", b"1");
    let (d0, f0) = (t.attr(d), t.attr(f));
    t.fs.link(f, ROOT, b"g").unwrap();
    let f1 = t.attr(f);
    assert!(f1.ctime > f0.ctime && f1.mtime == f0.mtime);
    assert_eq!(t.attr(d), d0);
    t.fs.rename(d, b"f", d, b"h", 0).unwrap();
    let (d1, f2) = (t.attr(d), t.attr(f));
    assert!(d1.mtime > d0.mtime && d1.ctime > d0.ctime && f2.ctime > f1.ctime);
    t.fs.unlink(d, b"h").unwrap();
    assert!(t.attr(d).mtime > d1.mtime && t.attr(f).ctime > f2.ctime);
    let handle = t.fs.open(f, libc::O_RDWR).unwrap();
    let before = t.attr(f);
    t.write(f, handle, 0, b"2");
    let written = t.attr(f);
    assert!(written.mtime > before.mtime && written.ctime > before.ctime);
    t.clock.forward(1000);
    t.close(f, handle);
    assert_eq!((t.attr(f).mtime, t.attr(f).ctime), (written.mtime, written.ctime));
}

#[test]
fn links_and_special_files_keep_what_they_are() {
    let t = start();
    let link = t.fs.symlink(&ME, ROOT, b"link", b"some/where").unwrap();
    assert_eq!(t.fs.readlink(link.ino).unwrap(), &b"some/where"[..]);
    assert_eq!((link.size, link.mode), (10, libc::S_IFLNK | 0o777));
    assert_eq!(errno(t.fs.symlink(&ME, ROOT, b"x", &[b'x'; 4096])), libc::ENAMETOOLONG);
    let device = t.fs.mknod(&Caller::ROOT, ROOT, b"null", libc::S_IFCHR | 0o666, 0x103).unwrap();
    assert_eq!((device.rdev, device.mode), (0x103, libc::S_IFCHR | 0o666));
    assert_eq!(errno(t.fs.readlink(device.ino)), libc::EINVAL);
    assert_eq!(errno(t.fs.lookup(device.ino, b"x")), libc::ENOTDIR);
    assert_eq!(errno(t.fs.mknod(&ME, ROOT, b"d", libc::S_IFDIR, 0)), libc::EINVAL);
    t.sound();
}

#[test]
fn inode_numbers_are_not_used_again() {
    let t = start();
    let mut last = Ino(0);
    for _ in 0..20 {
        let ino = t.file(ROOT, "f", b"x");
        assert!(ino > last);
        last = ino;
        t.fs.unlink(ROOT, b"f").unwrap();
        t.fs.forget(ino, 1);
    }
    assert_eq!(t.vault.totals().inodes, 1);
}

#[test]
fn a_file_moved_into_place_while_open_is_there_whole_after_a_kill() {
    let mut t = start();
    let old = t.file(ROOT, "photo.xmp", b"what was there");
    let (new, handle) = t.create(ROOT, "photo.xmp_tmp");
    t.write(new.ino, handle, 0, b"rating: 5");
    t.fs.rename(ROOT, b"photo.xmp_tmp", ROOT, b"photo.xmp", 0).unwrap();
    t.killed();
    assert_eq!(t.ino(ROOT, "photo.xmp").unwrap(), new.ino);
    assert_eq!(t.content(new.ino), b"rating: 5");
    assert_ne!(old, new.ino);
    t.sound();
}

#[test]
fn files_that_change_places_while_open_are_both_there_whole_after_a_kill() {
    let mut t = start();
    let ((a, one), (b, two)) = (t.create(ROOT, "a"), t.create(ROOT, "b"));
    t.write(a.ino, one, 0, b"first a");
    t.write(b.ino, two, 0, b"first b");
    t.fs.rename(ROOT, b"a", ROOT, b"b", libc::RENAME_EXCHANGE).unwrap();
    t.killed();
    assert_eq!(t.content(t.ino(ROOT, "a").unwrap()), b"first b");
    assert_eq!(t.content(t.ino(ROOT, "b").unwrap()), b"first a");
}

#[test]
fn a_file_that_gets_a_name_while_open_is_there_whole_after_a_kill() {
    let mut t = start();
    let (a, handle) = t.create(ROOT, "a");
    t.write(a.ino, handle, 0, b"light");
    // As a file made without a name gets its first one.
    t.fs.unlink(ROOT, b"a").unwrap();
    t.fs.link(a.ino, ROOT, b"photo").unwrap();
    t.killed();
    assert_eq!(t.content(t.ino(ROOT, "photo").unwrap()), b"light");
    t.sound();
}
