//! Many callers at once.

use std::sync::Arc;

use haven_format::Ino;
use haven_fs::{Options, WriteFlags};

use crate::common::*;

#[test]
fn many_threads_in_the_same_folders_leave_sound_records() {
    let t = Arc::new(start_with(Options { dirty_limit: 200_000, write_out: 50_000, ..Options::default() }));
    let folders: Vec<Ino> = (0..3).map(|n| t.mkdir(ROOT, &format!("d{n}"))).collect();
    let shared = t.file(ROOT, "shared", &noise(0, 100_000));
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let (t, folders) = (t.clone(), folders.clone());
            scope.spawn(move || (0..400).for_each(|round| one_round(&t, &folders, shared, thread, round)));
        }
        scope.spawn(|| (0..60).for_each(|_| t.fs.tick().unwrap()));
    });
    t.fs.flush_all().unwrap();
    t.sound();
    assert_eq!(t.content(shared).len(), 100_000);
}

/// Makes, moves and removes names that others make, move and remove as well: only some of it can succeed.
fn one_round(t: &Try, folders: &[Ino], shared: Ino, thread: u64, round: u64) {
    let dice = u64::from_le_bytes(noise(thread * 1000 + round, 8).try_into().unwrap());
    let (from, to) = (folders[dice as usize % 3], folders[dice as usize / 3 % 3]);
    let (name, other) = (format!("f{}", dice / 9 % 5), format!("f{}", dice / 45 % 5));
    match dice / 1024 % 6 {
        0 | 1 => {
            if let Ok((attr, handle)) = t.fs.create(&ME, from, name.as_bytes(), 0o644, 0) {
                let data = noise(dice, 1 + dice as usize % 70_000);
                t.write(attr.ino, handle, 0, &data);
                assert!(t.attr(attr.ino).size >= data.len() as u64);
                t.close(attr.ino, handle);
                t.fs.forget(attr.ino, 1);
            }
        }
        2 => _ = t.fs.rename(from, name.as_bytes(), to, other.as_bytes(), 0),
        3 => _ = t.fs.rename(from, name.as_bytes(), to, other.as_bytes(), libc::RENAME_EXCHANGE),
        4 => _ = t.fs.unlink(from, name.as_bytes()),
        _ => {
            let handle = t.fs.open(shared, libc::O_RDWR).unwrap();
            let at = dice % 90_000;
            t.fs.write(shared, handle, at, &[thread as u8; 5000], WriteFlags::default()).unwrap();
            let seen = t.fs.read(shared, handle, at, 5000).unwrap();
            assert_eq!(seen.len(), 5000);
            t.close(shared, handle);
        }
    }
}
