//! Snapshots: what they show, what can't be done to them, and which instant they are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use haven_format::Ino;
use haven_fs::{FsError, SNAPSHOTS_NAME, SetAttr, WriteFlags, is_past, shown_ino};

use crate::common::*;

fn folder(t: &Try) -> Ino {
    t.ino(ROOT, ".snapshots").unwrap()
}

fn root_of(t: &Try, name: &str) -> Ino {
    t.ino(folder(t), name).unwrap()
}

fn snapshot(t: &Try, name: &str) {
    t.fs.snapshot(name.as_bytes(), "", "a test").unwrap();
}

#[test]
fn a_snapshot_shows_what_was_and_nothing_that_came_after() {
    let t = start();
    let data = noise(1, 3_000_000);
    let dir = t.mkdir(ROOT, "2019");
    let ino = t.file(dir, "a.jpg", &data);
    t.fs.setxattr(&ME, ino, b"user.note", b"old", 0).unwrap();
    let (open, handle) = t.create(dir, "open");
    t.write(open.ino, handle, 0, b"not yet closed");
    snapshot(&t, "before");
    t.write(open.ino, handle, 0, b"NOT");
    t.fs.unlink(dir, b"a.jpg").unwrap();
    t.fs.mkdir(&ME, dir, b"new", 0o755).unwrap();
    snapshot(&t, "after");
    assert_eq!(t.names(folder(&t)), [".", "..", "after", "before"]);
    let then = t.ino(root_of(&t, "before"), "2019").unwrap();
    assert_eq!(t.names(then), [".", "..", "a.jpg", "open"]);
    let old = t.ino(then, "a.jpg").unwrap();
    assert_eq!(t.content(old), data);
    assert_eq!(t.content(t.ino(then, "open").unwrap()), b"not yet closed");
    assert_eq!(t.fs.getxattr(old, b"user.note").unwrap(), "old");
    assert_eq!(t.fs.listxattr(old).unwrap(), b"user.note\0");
    let now = t.ino(root_of(&t, "after"), "2019").unwrap();
    assert_eq!(t.names(now), [".", "..", "new", "open"]);
    assert_eq!(t.content(t.ino(now, "open").unwrap()), b"NOT yet closed");
    assert_eq!(t.ino(then, "..").unwrap(), root_of(&t, "before"));
    assert_eq!(t.ino(root_of(&t, "before"), "..").unwrap(), folder(&t));
    assert_eq!(t.ino(folder(&t), "..").unwrap(), ROOT);
    t.sound();
}

#[test]
fn the_folder_is_found_but_not_listed_unless_asked_for() {
    let t = start();
    assert!(!t.names(ROOT).contains(&".snapshots".into()));
    assert_eq!(t.names(folder(&t)), [".", ".."]);
    let t = start_with(haven_fs::Options { list_snapshots: true, ..Default::default() });
    assert!(t.names(ROOT).contains(&".snapshots".into()));
}

#[test]
fn inode_numbers_are_the_same_in_all_snapshots_and_never_those_of_now() {
    let t = start();
    let ino = t.file(ROOT, "a", b"x");
    snapshot(&t, "one");
    snapshot(&t, "two");
    let (one, two) = (t.ino(root_of(&t, "one"), "a").unwrap(), t.ino(root_of(&t, "two"), "a").unwrap());
    assert!(one != two && is_past(one) && !is_past(ino));
    assert_eq!(shown_ino(one), shown_ino(two));
    assert_ne!(shown_ino(one), shown_ino(ino));
    assert_eq!(t.attr(one).ctime, t.attr(two).ctime);
}

#[test]
fn nothing_of_the_past_can_be_changed() {
    let t = start();
    let dir = t.mkdir(ROOT, "d");
    t.file(dir, "a", b"old");
    snapshot(&t, "s");
    let past = t.ino(root_of(&t, "s"), "d").unwrap();
    let file = t.ino(past, "a").unwrap();
    let read_only =
        |result: Result<(), FsError>| assert!(matches!(result, Err(FsError::ReadOnly { .. })), "{result:?}");
    read_only(t.fs.unlink(past, b"a"));
    read_only(t.fs.mkdir(&ME, past, b"x", 0o755).map(drop));
    read_only(t.fs.create(&ME, past, b"x", 0o644, 0).map(drop));
    read_only(t.fs.rename(past, b"a", dir, b"b", 0));
    read_only(t.fs.rename(dir, b"a", past, b"b", 0));
    read_only(t.fs.link(file, dir, b"b").map(drop));
    read_only(t.fs.open(file, libc::O_RDWR).map(drop));
    read_only(t.fs.setattr(&ME, file, &SetAttr { mode: Some(0), ..Default::default() }, None).map(drop));
    read_only(t.fs.setxattr(&ME, file, b"user.x", b"", 0));
    read_only(t.fs.removexattr(&ME, file, b"user.x"));
    let handle = t.fs.open(file, libc::O_RDONLY).unwrap();
    read_only(t.fs.write(file, handle, 0, b"new", WriteFlags::default()).map(drop));
    read_only(t.fs.fallocate(file, handle, 0, 10, 0));
    read_only(t.fs.rmdir(ROOT, SNAPSHOTS_NAME));
    read_only(t.fs.mkdir(&ME, folder(&t), b"x", 0o755).map(drop));
    assert_eq!(t.fs.mkdir(&ME, ROOT, SNAPSHOTS_NAME, 0o755).map(drop).unwrap_err().errno(), libc::EEXIST);
    t.sound();
}

#[test]
fn a_file_of_the_past_comes_back_by_sharing_its_chunks() {
    let t = start();
    let data = noise(5, 5_000_000);
    t.file(ROOT, "a", &data);
    snapshot(&t, "s");
    t.fs.unlink(ROOT, b"a").unwrap();
    let before = t.vault.totals();
    let from = t.ino(root_of(&t, "s"), "a").unwrap();
    let source = t.fs.open(from, libc::O_RDONLY).unwrap();
    let (to, target) = t.create(ROOT, "a");
    assert_eq!(t.fs.copy_file_range((from, source, 0), (to.ino, target, 0), 6_000_000).unwrap(), 5_000_000);
    t.close(to.ino, target);
    assert_eq!(t.content(to.ino), data);
    assert_eq!(t.vault.totals().chunks, before.chunks);
    t.sound();
}

#[test]
fn a_snapshot_can_be_renamed_protected_and_removed() {
    let t = start();
    t.file(ROOT, "a", b"1");
    snapshot(&t, "s");
    assert!(t.fs.snapshot(b"s", "", "").is_err());
    assert!(t.fs.snapshot(b"a/b", "", "").is_err());
    let root = root_of(&t, "s");
    t.vault.rename_snapshot(b"s", b"kept").unwrap();
    assert!(t.ino(folder(&t), "s").is_err());
    assert_eq!(root_of(&t, "kept"), root);
    t.vault.protect_snapshot(b"kept", i64::MAX, false).unwrap();
    assert!(t.vault.remove_snapshot(b"kept").is_err());
    assert!(t.vault.protect_snapshot(b"kept", 0, false).is_err());
    t.vault.protect_snapshot(b"kept", 0, true).unwrap();
    t.vault.remove_snapshot(b"kept").unwrap();
    assert_eq!(t.names(folder(&t)), [".", ".."]);
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Two files are written in turn, and a third is renamed after both. Whatever a snapshot shows of the later must have
/// the earlier with it.
#[test]
fn a_snapshot_is_one_instant() {
    let t = start();
    let (a, in_a) = t.create(ROOT, "a");
    let (b, in_b) = t.create(ROOT, "b");
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..u64::MAX {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                t.write(a.ino, in_a, round * 8, &round.to_be_bytes());
                t.write(b.ino, in_b, round * 8, &round.to_be_bytes());
                begun.store(true, Ordering::SeqCst);
                if round % 50 == 0 {
                    t.fs.mkdir(&ME, ROOT, format!("{round}").as_bytes(), 0o755).unwrap();
                }
            }
        });
        // Whatever fails below, the writer must end.
        let _stop = Stop(&done);
        // On a busy machine twelve snapshots are sooner taken than a thread is started.
        while !begun.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let mut seen = 0;
        for n in 0..12 {
            snapshot(&t, &format!("s{n}"));
            let root = root_of(&t, &format!("s{n}"));
            let (a, b) = (t.content(t.ino(root, "a").unwrap()), t.content(t.ino(root, "b").unwrap()));
            assert!(a.len() == b.len() || a.len() == b.len() + 8, "{} {}", a.len(), b.len());
            let marks = t.names(root).iter().filter_map(|name| name.parse::<u64>().ok()).max();
            assert!(marks.is_none_or(|mark| b.len() as u64 > mark * 8), "{marks:?} {}", b.len());
            seen = a.len();
            std::thread::yield_now();
        }
        assert!(seen > 0);
    });
}

#[test]
fn nothing_can_be_changed_while_something_is_done_elsewhere_at_the_instant_of_a_snapshot() {
    let t = start();
    let ino = t.file(ROOT, "a", b"old");
    t.file(ROOT, "doomed", b"x");
    let handle = t.fs.open(ino, libc::O_RDWR).unwrap();
    let (held, changed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let changes: [&(dyn Fn() + Sync); 4] = [
        &|| t.write(ino, handle, 0, b"new"),
        &|| {
            t.mkdir(ROOT, "later");
        },
        &|| t.fs.unlink(ROOT, b"doomed").unwrap(),
        &|| t.fs.rename(ROOT, b"a", ROOT, b"b", 0).unwrap(),
    ];
    let (seen, frozen) = std::thread::scope(|scope| {
        for change in changes {
            let (held, changed) = (&held, &changed);
            scope.spawn(move || {
                while !held.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                change();
                changed.fetch_add(1, Ordering::SeqCst);
            });
        }
        let meanwhile = || {
            held.store(true, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(100));
            Ok(changed.load(Ordering::SeqCst))
        };
        let (_, seen, frozen) = t.fs.snapshot_with(b"s", "", "a test", meanwhile).unwrap();
        (seen, frozen)
    });
    assert_eq!((seen, changed.load(Ordering::SeqCst)), (0, 4));
    assert!(frozen.as_millis() >= 100);
    let then = root_of(&t, "s");
    assert_eq!(t.names(then), [".", "..", "a", "doomed"]);
    assert_eq!(t.content(t.ino(then, "a").unwrap()), b"old");
    assert_eq!(t.names(ROOT), [".", "..", "b", "later"]);
    t.close(ino, handle);
    assert_eq!(t.content(ino), b"new");
    t.sound();
}

#[test]
fn when_the_other_part_fails_there_is_no_snapshot_and_all_goes_on() {
    let t = start();
    t.file(ROOT, "a", b"x");
    let failed = t.fs.snapshot_with(b"s", "", "a test", || Err::<(), _>(FsError::Invalid("elsewhere")));
    assert!(matches!(failed, Err(FsError::Invalid("elsewhere"))));
    assert!(t.ino(folder(&t), "s").is_err());
    t.file(ROOT, "b", b"y");
    t.fs.snapshot_with(b"s", "", "a test", || Ok(())).unwrap();
    assert_eq!(t.names(root_of(&t, "s")), [".", "..", "a", "b"]);
}
