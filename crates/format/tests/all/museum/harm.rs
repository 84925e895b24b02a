//! What happened to each exhibit.

use super::*;

/// Names of objects in it.
fn segment(lsn: u64) -> String {
    let (epoch, nonce) = if lsn > 5 { (2, SECOND) } else { (1, FIRST) };
    layout::segment(Lsn(lsn), Epoch(epoch), nonce)
}

fn root(seq: u64) -> String {
    layout::root(RootSeq(seq), Epoch(1), FIRST)
}

fn shard(number: u8) -> String {
    layout::shard(ShardId([0xb0 + number; 16]))
}

fn config(copy: u8) -> String {
    layout::config(1, Nonce([0xd0 + copy; 8]))
}

/// The shards of the newest root: inodes, and the rest.
const NEWEST_INODES: u8 = 4;
const NEWEST_INDEX: u8 = 5;

fn flip(objects: &mut Objects, name: &str, at: usize) {
    objects.get_mut(name).unwrap()[at] ^= 1;
}

fn cut(objects: &mut Objects, name: &str) {
    let object = objects.get_mut(name).unwrap();
    object.truncate(object.len() / 2);
}

fn lose(objects: &mut Objects, name: &str) {
    objects.remove(name).unwrap();
}

fn lose_all(objects: &mut Objects, prefix: &str) {
    objects.retain(|name, _| !name.starts_with(prefix));
}

fn exchange(objects: &mut Objects, one: &str, other: &str) {
    let (a, b) = (objects.remove(one).unwrap(), objects.remove(other).unwrap());
    objects.extend([(one.to_owned(), b), (other.to_owned(), a)]);
}

/// What happened to each.
pub type Harm = fn(&mut Objects);

pub const EXHIBITS: &[(&str, Harm)] = &[
    ("pack-missing", |o| lose(o, &layout::pack(ALBUM))),
    ("pack-missing-that-the-newest-segments-need", |o| lose(o, &layout::pack(NEWEST))),
    ("pack-missing-that-only-a-snapshot-needs", |o| lose(o, &layout::pack(REPACKED))),
    ("pack-cut", |o| cut(o, &layout::pack(ALBUM))),
    ("pack-with-a-flipped-byte-in-a-chunk", |o| flip(o, &layout::pack(ALBUM), 100)),
    ("pack-with-a-flipped-byte-in-its-footer", |o| {
        let end = o[&layout::pack(ALBUM)].len() - 30;
        flip(o, &layout::pack(ALBUM), end);
    }),
    ("packs-exchanged", |o| exchange(o, &layout::pack(ALBUM), &layout::pack(NEWEST))),
    ("pack-of-another-library", |o| {
        let mut other = Maker::new("another library");
        other.pack(ALBUM, &[noise("first half", 3000), noise("second half", 2000), noise("text", 1900)]);
        o.extend(other.objects.remove_entry(&layout::pack(ALBUM)));
    }),
    ("shard-with-a-flipped-byte", |o| flip(o, &shard(NEWEST_INODES), 60)),
    ("shard-missing", |o| lose(o, &shard(NEWEST_INDEX))),
    ("shard-missing-and-the-log-before-it", |o| {
        // Nothing says any more what stood in it but older roots.
        lose(o, &shard(NEWEST_INODES));
        (1..=5).for_each(|lsn| lose(o, &segment(lsn)));
    }),
    ("chunk-index-lost", |o| {
        lose(o, &shard(NEWEST_INDEX));
        (1..=5).for_each(|lsn| lose(o, &segment(lsn)));
        [root(1), root(2)].iter().for_each(|name| lose(o, name));
    }),
    ("newest-root-damaged", |o| flip(o, &root(3), 40)),
    ("newest-root-missing", |o| lose(o, &root(3))),
    ("all-roots-damaged", |o| [1, 2, 3].iter().for_each(|seq| flip(o, &root(*seq), 40))),
    ("all-roots-missing", |o| lose_all(o, layout::ROOTS)),
    ("all-roots-missing-and-the-log-before-them", |o| {
        lose_all(o, layout::ROOTS);
        (1..=5).for_each(|lsn| lose(o, &segment(lsn)));
    }),
    ("root-of-a-snapshot-missing", |o| lose(o, &root(1))),
    ("newest-segment-cut", |o| cut(o, &segment(7))),
    ("newest-segment-with-a-flipped-byte", |o| flip(o, &segment(7), 40)),
    ("newest-writers-segments-damaged", |o| [6, 7].iter().for_each(|lsn| flip(o, &segment(*lsn), 40))),
    ("segment-missing-in-the-middle", |o| lose(o, &segment(6))),
    ("segment-damaged-in-the-middle", |o| flip(o, &segment(6), 40)),
    ("segment-damaged-before-the-newest-root", |o| flip(o, &segment(4), 40)),
    ("log-missing", |o| lose_all(o, layout::SEGMENTS)),
    ("rolled-back", |o| {
        [segment(6), segment(7), layout::segment(Lsn(6), Epoch(1), FIRST)].iter().for_each(|name| lose(o, name));
    }),
    ("configuration-with-one-copy-damaged", |o| flip(o, &config(2), 60)),
    ("configuration-with-all-copies-damaged", |o| [1, 2].iter().for_each(|copy| flip(o, &config(*copy), 60))),
    ("configuration-missing", |o| lose_all(o, layout::CONFIGS)),
    ("configuration-of-a-newer-format", |o| {
        for copy in [1, 2] {
            let object = o.get_mut(&config(copy)).unwrap();
            object[7] = 2;
            let end = object.len() - 8;
            let check = blake3::hash(&object[..end]);
            object[end..].copy_from_slice(&check.as_bytes()[..8]);
        }
    }),
    ("root-of-a-newer-format", |o| o.get_mut(&root(3)).unwrap()[7] = 2),
    ("objects-under-wrong-names", |o| {
        exchange(o, &root(3), &root(2));
        let copy = o[&segment(7)].clone();
        o.insert(layout::segment(Lsn(9), Epoch(2), SECOND), copy);
    }),
    ("objects-empty", |o| {
        let claim = layout::claim(Epoch(2), SECOND);
        let lease = layout::lease(FAR, FIRST);
        for name in [root(3), segment(7), claim, lease, layout::standing(1, SECOND), shard(1)] {
            o.insert(name, Vec::new());
        }
    }),
    ("claims-twice-with-one-epoch", |o| {
        let mut maker = Maker::new("museum");
        maker.nonces = 5000;
        maker.last = (7, segment(7), Vec::new());
        maker.claim(3, FIRST);
        maker.claim(3, SECOND);
        o.extend(maker.objects.into_iter().filter(|(name, _)| name.starts_with(layout::CLAIMS)));
    }),
    ("claims-missing", |o| lose_all(o, layout::CLAIMS)),
    ("leases-standings-and-claims-damaged", |o| {
        for (name, object) in o.iter_mut() {
            if [layout::LEASES, layout::STANDINGS, layout::CLAIMS].iter().any(|prefix| name.starts_with(prefix)) {
                object[20] ^= 1;
            }
        }
    }),
    ("foreign-objects", |o| {
        for name in [
            "README.txt",
            "p/a1/not-a-pack",
            "p/zz/a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
            "m/short",
            "l/0000000000000009",
            "l/ffffffffffffffff-ffffffffffffffff-nothexadecimal..",
            "r/0000000000000000-0000000000000001-xyz",
            "cfg/0000000000000009",
            "e/zzzzzzzzzzzzzzzz-c1c1c1c1c1c1c1c1",
            "photos/2026/IMG_0001.JPG",
        ] {
            o.insert(name.into(), b"not of the library\n".to_vec());
        }
    }),
    ("stray-temporary-files", |o| {
        let half = o[&layout::pack(NEWEST)][..1000].to_vec();
        for name in ["~tmp/1234-7-p", "p/a5/.a5a5a5a5.part", "m/tmp~1", ".DS_Store"] {
            o.insert(name.into(), half.clone());
        }
    }),
];
