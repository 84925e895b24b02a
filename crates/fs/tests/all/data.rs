//! Bytes: writing, reading, closing, holes.

use haven_fs::{Options, SetAttr, WriteFlags};

use crate::common::*;

fn size(n: u64) -> SetAttr {
    SetAttr { size: Some(n), ..Default::default() }
}

#[test]
fn closed_files_survive_a_kill_and_open_ones_show_no_size_without_data() {
    let mut t = start();
    let data = noise(1, 300_000);
    let closed = t.file(ROOT, "closed", &data);
    let (open, handle) = t.create(ROOT, "open");
    t.write(open.ino, handle, 0, &data);
    assert_eq!(t.attr(open.ino).size, 300_000);
    t.killed();
    assert_eq!(t.content(closed), data);
    assert_eq!(t.attr(open.ino).size, 0);
    t.sound();
}

#[test]
fn a_file_that_stays_open_is_stored_after_two_ticks_and_read_back_whole() {
    let mut t = start();
    let (open, handle) = t.create(ROOT, "log");
    t.write(open.ino, handle, 0, b"one ");
    t.fs.tick().unwrap();
    t.fs.tick().unwrap();
    t.write(open.ino, handle, 4, b"two");
    t.killed();
    assert_eq!(t.content(open.ino), b"one ");
    t.sound();
}

#[test]
fn the_same_content_has_the_same_chunks_however_slowly_it_was_written() {
    let data = noise(2, 9_500_000);
    let chunks = |pause: usize| {
        let t = start();
        let (open, handle) = t.create(ROOT, "f");
        for (n, part) in data.chunks(100_000).enumerate() {
            t.write(open.ino, handle, n as u64 * 100_000, part);
            if n % pause == pause - 1 {
                t.fs.fsync(open.ino, handle, false).unwrap();
            }
        }
        t.close(open.ino, handle);
        assert_eq!(t.content(open.ino), data);
        t.sound();
        extents(&t, open.ino)
    };
    let fast = chunks(1000);
    assert!(fast.len() > 4);
    assert_eq!(chunks(3), fast);
    assert_eq!(chunks(1), fast);
}

fn extents(t: &Try, ino: haven_format::Ino) -> Vec<(u64, Vec<u8>)> {
    use haven_format::record::{Extent, extent_offset, extents};
    use prost::Message;
    let records = t.vault.live().scan(extents(ino, 0), 100_000).unwrap();
    records.into_iter().map(|(k, v)| (extent_offset(&k).unwrap(), Extent::decode(v).unwrap().chunk.to_vec())).collect()
}

#[test]
fn many_small_appends_leave_few_extents() {
    let t = start();
    let ino = t.file(ROOT, "log", b"");
    let mut all = Vec::new();
    for n in 0..500 {
        let line = noise(n, 100);
        let handle = t.fs.open(ino, libc::O_WRONLY).unwrap();
        t.write(ino, handle, all.len() as u64, &line);
        if n % 3 == 0 {
            t.fs.fsync(ino, handle, true).unwrap();
        }
        t.close(ino, handle);
        all.extend_from_slice(&line);
    }
    assert_eq!(t.content(ino), all);
    assert!(extents(&t, ino).len() < 20, "{}", extents(&t, ino).len());
    t.sound();
}

#[test]
fn a_small_write_into_a_large_file_keeps_its_other_chunks() {
    let t = start();
    let mut data = noise(3, 6 << 20);
    let ino = t.file(ROOT, "db", &data);
    let before = extents(&t, ino);
    let handle = t.fs.open(ino, libc::O_RDWR).unwrap();
    for at in [100, 3 << 20, (6 << 20) - 50] {
        let patch = noise(at as u64, 4096);
        t.write(ino, handle, at as u64, &patch);
        let end = data.len().max(at + 4096);
        data.resize(end, 0);
        data[at..at + 4096].copy_from_slice(&patch);
    }
    t.close(ino, handle);
    assert_eq!(t.content(ino), data);
    let after = extents(&t, ino);
    let kept = before.iter().filter(|(_, chunk)| after.iter().any(|(_, other)| other == chunk)).count();
    assert_eq!(kept, before.len());
    t.sound();
}

#[test]
fn what_one_handle_rewrites_another_reads_at_once() {
    let t = start();
    let data = noise(4, 2 << 20);
    let (file, writer) = t.create(ROOT, "video.mp4");
    t.write(file.ino, writer, 0, &data);
    let reader = t.fs.open(file.ino, libc::O_RDONLY).unwrap();
    assert_eq!(t.fs.read(file.ino, reader, 1000, 4096).unwrap(), &data[1000..5096]);
    t.write(file.ino, writer, 1024, &[9; 16]);
    assert_eq!(t.fs.read(file.ino, reader, 1024, 16).unwrap(), &[9; 16][..]);
    t.fs.fsync(file.ino, writer, true).unwrap();
    t.write(file.ino, writer, 1024, &[7; 16]);
    assert_eq!(t.fs.read(file.ino, reader, 1020, 24).unwrap()[4..20], [7; 16]);
    t.sound();
}

#[test]
fn holes_read_as_zeros_and_are_found() {
    let t = start();
    let (file, handle) = t.create(ROOT, "sparse");
    let ino = file.ino;
    t.write(ino, handle, 1 << 20, b"data");
    for round in 0..2 {
        assert_eq!(t.fs.read(ino, handle, 0, 100).unwrap(), &[0; 100][..]);
        assert_eq!(t.fs.lseek(ino, handle, 0, libc::SEEK_DATA).unwrap(), 1 << 20, "{round}");
        assert_eq!(t.fs.lseek(ino, handle, 0, libc::SEEK_HOLE).unwrap(), 0);
        assert_eq!(t.fs.lseek(ino, handle, 1 << 20, libc::SEEK_HOLE).unwrap(), (1 << 20) + 4);
        assert_eq!(errno(t.fs.lseek(ino, handle, (1 << 20) + 4, libc::SEEK_DATA)), libc::ENXIO);
        assert!(t.attr(ino).blocks < 10);
        t.fs.fsync(ino, handle, false).unwrap();
    }
    t.sound();
}

#[test]
fn cutting_off_and_growing_again_shows_zeros() {
    let t = start();
    let ino = t.file(ROOT, "f", &[1; 10_000]);
    t.fs.setattr(&ME, ino, &size(5_000), None).unwrap();
    t.fs.setattr(&ME, ino, &size(8_000), None).unwrap();
    let content = t.content(ino);
    assert_eq!((&content[..5_000], &content[5_000..]), (&[1; 5_000][..], &[0; 3_000][..]));
    assert_eq!(errno(t.fs.setattr(&ME, ino, &size((16 << 40) + 1), None)), libc::EFBIG);
    t.fs.setattr(&ME, ino, &size(16 << 40), None).unwrap();
    assert_eq!(t.attr(ino).size, 16 << 40);
    t.sound();
}

#[test]
fn cutting_off_while_bytes_are_in_memory_keeps_the_promise_about_sizes() {
    let mut t = start();
    let (file, handle) = t.create(ROOT, "f");
    t.write(file.ino, handle, 0, &[1; 10_000]);
    t.fs.setattr(&ME, file.ino, &size(4_000), Some(handle)).unwrap();
    assert_eq!(t.attr(file.ino).size, 4_000);
    let before = (t.vault.clone(), t.clock.clone());
    assert_eq!(t.content(file.ino), [1; 4_000]);
    t.killed();
    assert_eq!(t.attr(file.ino).size, 0, "nothing was stored");
    drop(before);
    t.sound();
}

#[test]
fn punched_zeroed_and_promised_ranges() {
    let t = start();
    let mut data = noise(5, 3 << 20);
    let ino = t.file(ROOT, "f", &data);
    let handle = t.fs.open(ino, libc::O_RDWR).unwrap();
    let (keep, punch, zero) = (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_PUNCH_HOLE, libc::FALLOC_FL_ZERO_RANGE);
    let blocks = t.attr(ino).blocks;
    t.fs.fallocate(ino, handle, 1000, 1 << 20, punch | keep).unwrap();
    data[1000..1000 + (1 << 20)].fill(0);
    assert!(t.attr(ino).blocks < blocks);
    assert_eq!(t.fs.lseek(ino, handle, 1000, libc::SEEK_DATA).unwrap(), 1000 + (1 << 20));
    t.fs.fallocate(ino, handle, 2 << 20, 5000, zero).unwrap();
    data[2 << 20..(2 << 20) + 5000].fill(0);
    t.fs.fallocate(ino, handle, 0, 4 << 20, 0).unwrap();
    data.resize(4 << 20, 0);
    assert_eq!(t.attr(ino).blocks, (4 << 20) / 512);
    t.fs.fallocate(ino, handle, 8 << 20, 4096, keep).unwrap();
    assert_eq!(t.attr(ino).size, 4 << 20);
    assert_eq!(t.content(ino), data);
    assert_eq!(errno(t.fs.fallocate(ino, handle, 0, 10, punch)), libc::EOPNOTSUPP);
    assert_eq!(errno(t.fs.fallocate(ino, handle, 0, 4096, libc::FALLOC_FL_COLLAPSE_RANGE)), libc::EOPNOTSUPP);
    t.sound();
}

#[test]
fn a_copied_range_shares_its_chunks() {
    let t = start();
    let data = noise(6, 5 << 20);
    let (source, from) = t.create(ROOT, "a");
    t.write(source.ino, from, 0, &data);
    let (target, to) = t.create(ROOT, "b");
    let copied = t.fs.copy_file_range((source.ino, from, 0), (target.ino, to, 0), u64::from(u32::MAX)).unwrap();
    assert_eq!(copied, 5 << 20);
    assert_eq!(t.content(target.ino), data);
    assert_eq!(extents(&t, target.ino), extents(&t, source.ino));
    assert_eq!(t.fs.copy_file_range((source.ino, from, 100), (target.ino, to, 777), 5_000).unwrap(), 5_000);
    assert_eq!(t.content(target.ino)[777..5_777], data[100..5_100]);
    assert_eq!(errno(t.fs.copy_file_range((target.ino, to, 0), (target.ino, to, 10), 20)), libc::EINVAL);
    assert_eq!(t.fs.copy_file_range((source.ino, from, 6 << 20), (target.ino, to, 0), 20).unwrap(), 0);
    t.sound();
}

#[test]
fn memory_stays_below_its_limit_whatever_is_written() {
    let t = start_with(Options { dirty_limit: 1 << 20, ..Options::default() });
    let files: Vec<_> = (0..40).map(|n| t.create(ROOT, &format!("f{n}"))).collect();
    for round in 0..10u64 {
        for (n, (attr, handle)) in files.iter().enumerate() {
            t.write(attr.ino, *handle, round * 20_000, &noise(n as u64 * 100 + round, 20_000));
        }
    }
    for (n, (attr, _)) in files.iter().enumerate() {
        let all: Vec<u8> = (0..10).flat_map(|round| noise(n as u64 * 100 + round, 20_000)).collect();
        assert_eq!(t.content(attr.ino), all);
    }
    t.sound();
}

#[test]
fn reading_and_writing_behind_the_end() {
    let t = start();
    let (file, handle) = t.create(ROOT, "f");
    assert!(t.fs.read(file.ino, handle, 0, 10).unwrap().is_empty());
    assert!(t.fs.read(file.ino, handle, u64::MAX - 5, 10).unwrap().is_empty());
    assert_eq!(errno(t.fs.write(file.ino, handle, (16 << 40) - 1, b"ab", WriteFlags::default())), libc::EFBIG);
    t.write(file.ino, handle, (16 << 40) - 1, b"a");
    t.close(file.ino, handle);
    assert_eq!(t.attr(file.ino).size, 16 << 40);
    t.sound();
}

#[test]
fn bytes_in_memory_take_space_only_where_the_file_had_none() {
    let t = start();
    let ino = t.file(ROOT, "a", &noise(1, 1_000_000));
    let stored = t.attr(ino).blocks;
    let handle = t.fs.open(ino, libc::O_RDWR).unwrap();
    t.write(ino, handle, 100_000, &noise(2, 300_000));
    assert_eq!(t.attr(ino).blocks, stored, "these were there");
    t.write(ino, handle, 900_000, &noise(3, 200_000));
    assert_eq!(t.attr(ino).blocks, 1_100_000u64.div_ceil(512));
    t.fs.setattr(&ME, ino, &size(9_000_000), None).unwrap();
    t.write(ino, handle, 5_000_000, &noise(4, 50_000));
    t.fs.fsync(ino, handle, false).unwrap();
    t.write(ino, handle, 4_990_000, &noise(5, 20_000));
    let told = t.attr(ino).blocks;
    assert_eq!(told, 1_160_000u64.div_ceil(512), "half of it lies over a hole");
    t.close(ino, handle);
    assert_eq!(t.attr(ino).blocks, told, "the kernel may remember it");
    t.sound();
}

#[test]
fn an_unlinked_file_is_whole_until_the_kernel_forgets_it() {
    let t = start();
    let (a, handle) = t.create(ROOT, "a");
    t.write(a.ino, handle, 0, b"light");
    t.fs.unlink(ROOT, b"a").unwrap();
    t.close(a.ino, handle);
    assert_eq!(t.content(a.ino), b"light", "by a descriptor that is no handle");
    t.fs.forget(a.ino, 1);
    assert_eq!(errno(t.fs.getattr(a.ino, None)), libc::ENOENT);
    assert_eq!(errno(t.fs.file_state(a.ino)), libc::ENOENT);
    t.fs.tick().unwrap();
    t.sound();
}
