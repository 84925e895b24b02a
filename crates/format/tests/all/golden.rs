//! Today's reader opens the library that version 1 wrote, and finds in it what was put there.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use haven_format::{
    Epoch, Ino, Keys, Lsn, Nonce, RootSeq,
    claim::Claim,
    config::LockedConfig,
    keys::{Secret, SlotKind},
    layout, pack,
    record::{self, ChunkPlace, Entry, Extent, Inode, PackInfo, Snapshot},
    root::Root,
    segment::Segment,
    shard,
};
use prost::Message;

use crate::made::{self, at};

/// Every object of the golden bucket by name.
fn bucket() -> BTreeMap<String, Vec<u8>> {
    fn walk(top: &Path, here: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(here).expect("tests/golden/v1 is part of the source").map(Result::unwrap) {
            if entry.path().is_dir() {
                walk(top, &entry.path(), out);
            } else {
                let name = entry.path().strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                out.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    made::write_missing();
    let mut out = BTreeMap::new();
    walk(&made::directory(), &made::directory(), &mut out);
    out
}

fn keys(bucket: &BTreeMap<String, Vec<u8>>) -> Keys {
    let (name, object) = bucket.iter().rfind(|(name, _)| name.starts_with(layout::CONFIGS)).unwrap();
    let config = LockedConfig::parse(name, object).unwrap();
    config.unlock(&Secret::passphrase(made::PASSPHRASE).unwrap()).unwrap().keys().clone()
}

#[test]
fn the_bucket_has_an_object_of_each_kind() {
    let names: Vec<String> = bucket().into_keys().collect();
    assert_eq!(
        names,
        [
            "cfg/0000000000000001-d1d1d1d1d1d1d1d1",
            "cfg/0000000000000001-d2d2d2d2d2d2d2d2",
            "e/0000000000000001-c1c1c1c1c1c1c1c1",
            "e/0000000000000002-c2c2c2c2c2c2c2c2",
            "l/0000000000000001-0000000000000001-c1c1c1c1c1c1c1c1",
            "l/0000000000000002-0000000000000001-c1c1c1c1c1c1c1c1",
            "l/0000000000000003-0000000000000001-c1c1c1c1c1c1c1c1",
            "l/0000000000000003-0000000000000002-c2c2c2c2c2c2c2c2",
            "m/b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
            "p/a1/a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
            "r/fffffffffffffffe-0000000000000001-c1c1c1c1c1c1c1c1",
        ]
    );
}

#[test]
fn every_secret_still_opens_both_copies_of_the_configuration() {
    let bucket = bucket();
    let secrets =
        [Secret::passphrase(made::PASSPHRASE).unwrap(), made::key_file(), Secret::Recovery(made::recovery_key())];
    for (name, object) in bucket.iter().filter(|(name, _)| name.starts_with(layout::CONFIGS)) {
        let config = LockedConfig::parse(name, object).unwrap();
        let slots = &config.content().slots;
        assert_eq!(
            slots.iter().map(|slot| slot.label.as_str()).collect::<Vec<_>>(),
            ["passphrase", "machine", "paper"]
        );
        assert_eq!(
            slots.iter().map(|slot| slot.kind()).collect::<Vec<_>>(),
            [SlotKind::Passphrase, SlotKind::KeyFile, SlotKind::Recovery]
        );
        assert_eq!(config.content().created, at(0));
        for (n, secret) in secrets.iter().enumerate() {
            let open = config.unlock(secret).unwrap();
            assert_eq!((open.slot(), open.library()), (n as u32 + 1, config.library()));
        }
    }
}

#[test]
fn claims_tell_who_wrote_and_from_where() {
    let bucket = bucket();
    let keys = keys(&bucket);
    let name = layout::claim(Epoch(2), Nonce([0xc2; 8]));
    let claim = Claim::open(&keys, &name, &bucket[&name]).unwrap();
    assert_eq!((claim.epoch, claim.host.as_str(), claim.time, claim.lsn), (2, "host2", at(40), 2));
    assert_eq!(claim.segment, "l/0000000000000002-0000000000000001-c1c1c1c1c1c1c1c1");
    assert_eq!(claim.version, "0.1.0");
}

#[test]
fn a_pack_gives_back_its_chunks() {
    let bucket = bucket();
    let keys = keys(&bucket);
    let object = &bucket[&layout::pack(made::PACK)];
    let opener = pack::opener(&keys, made::PACK);
    let footer = pack::PackFooter::decode(opener.whole_footer(object).unwrap()).unwrap();
    let [first, second] = made::photo();
    assert_eq!(footer.chunks.len(), 3);
    for (chunk, wanted) in footer.chunks.iter().zip([first, second, made::sidecar()]) {
        let range = chunk.part().range();
        let plain = opener.part(chunk.part(), &object[range.start as usize..range.end as usize]).unwrap();
        assert_eq!(plain, wanted);
        pack::verify(&keys, chunk.chunk().unwrap(), &plain).unwrap();
    }
}

/// All records of the golden root, as its one shard has them.
fn shard_records(bucket: &BTreeMap<String, Vec<u8>>, keys: &Keys) -> Vec<(Bytes, Option<Bytes>)> {
    let object = &bucket[&layout::shard(made::SHARD)];
    let opener = shard::opener(keys, made::SHARD);
    let index = shard::index(opener.whole_footer(object).unwrap()).unwrap();
    let block = |block: &shard::BlockRef| {
        let range = block.part().range();
        let sealed = &object[range.start as usize..range.end as usize];
        shard::records(opener.part(block.part(), sealed).unwrap()).unwrap()
    };
    let records: Vec<_> = index.blocks.iter().flat_map(block).collect();
    assert!(records.iter().all(|(key, _)| shard::Bloom::of(key).may_be_in(&index.bloom)));
    records
}

#[test]
fn a_root_and_its_shard_hold_the_whole_tree() {
    let bucket = bucket();
    let keys = keys(&bucket);
    let name = layout::root(RootSeq(1), Epoch(1), Nonce([0xc1; 8]));
    let root = Root::open(&keys, &name, &bucket[&name]).unwrap();
    assert_eq!((root.lsn, root.tx, root.made, root.next_ino, root.totals), (1, 1, at(30), 20, made::totals()));
    assert_eq!(root.segment, layout::segment(Lsn(1), Epoch(1), Nonce([0xc1; 8])));
    assert_eq!(root.segment_hash, blake3::hash(&bucket[&root.segment]).as_bytes());
    let shard = &root.runs[0].shards[0];
    assert_eq!((root.runs.len(), root.runs[0].shards.len(), shard.shard_id().unwrap()), (1, 1, made::SHARD));
    assert_eq!(shard.hash, blake3::hash(&bucket[&layout::shard(made::SHARD)]).as_bytes());

    let records = shard_records(&bucket, &keys);
    assert_eq!((records.len() as u64, records[0].0.clone()), (shard.records, shard.first.clone()));
    assert_eq!(records.last().unwrap(), &(record::orphan_key(Ino(15)), None));
    let records: BTreeMap<Bytes, Bytes> = records.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();

    let names: Vec<Entry> =
        records.range(record::entries(Ino(16), 0..u64::MAX)).map(|(_, v)| Entry::decode(v.clone()).unwrap()).collect();
    let mut names: Vec<_> = names.iter().map(|entry| (&entry.name[..], entry.ino, entry.kind)).collect();
    names.sort_unstable();
    let wanted: [(&[u8], u64, u32); 3] =
        [(b"IMG_0001.JPG", 17, 8), (b"IMG_0001.JPG.xmp", 18, 8), ("Titelbild \u{fc}".as_bytes(), 19, 10)];
    assert_eq!(names, wanted);
    let picture = Inode::decode(records[&record::inode_key(Ino(17))].clone()).unwrap();
    assert_eq!(picture, made::inode(0o100644, 6000));
    let extents: Vec<(u64, u64)> = records
        .range(record::extents(Ino(17), 0))
        .map(|(key, value)| (record::extent_offset(key).unwrap(), Extent::decode(value.clone()).unwrap().len))
        .collect();
    assert_eq!(extents, [(0, 3000), (4000, 2000)]);
    assert_eq!(&records[&record::xattr_key(Ino(18), b"user.tag")][..], b"beach");
    let link = Inode::decode(records[&record::inode_key(Ino(19))].clone()).unwrap();
    assert_eq!(&link.target[..], b"IMG_0001.JPG");

    let chunk = keys.chunk_id(&made::sidecar());
    let place = ChunkPlace::decode(records[&record::chunk_key(chunk)].clone()).unwrap();
    assert_eq!((place.pack_id().unwrap(), place.plain_len), (made::PACK, made::sidecar().len() as u32));
    let info = PackInfo::decode(records[&record::pack_key(made::PACK)].clone()).unwrap();
    assert_eq!(info.bytes, bucket[&layout::pack(made::PACK)].len() as u64);
    let snapshot = Snapshot::decode(records[&record::snapshot_key(b"first")].clone()).unwrap();
    assert_eq!((snapshot.seq, snapshot.note.as_str(), snapshot.taken), (1, "before the move", at(6)));
}

#[test]
fn segments_follow_each_other_and_a_fork_shows() {
    let bucket = bucket();
    let keys = keys(&bucket);
    let open = |lsn, epoch, nonce| {
        let name = layout::segment(Lsn(lsn), Epoch(epoch), nonce);
        (Segment::open(&keys, &name, &bucket[&name]).unwrap(), name)
    };
    let (first, first_name) = open(1, 1, made::FIRST_WRITER);
    let (second, second_name) = open(2, 1, made::FIRST_WRITER);
    let (lost, _) = open(3, 1, made::FIRST_WRITER);
    let (kept, _) = open(3, 2, made::SECOND_WRITER);
    assert_eq!(first.pack_ids().unwrap(), [made::PACK]);
    assert_eq!((first.previous.as_str(), first.txs.len()), ("", 1));
    assert_eq!(
        (&second.previous, &second.previous_hash[..]),
        (&first_name, &blake3::hash(&bucket[&first_name]).as_bytes()[..])
    );
    for fork in [&lost, &kept] {
        assert_eq!(
            (&fork.previous, &fork.previous_hash[..]),
            (&second_name, &blake3::hash(&bucket[&second_name]).as_bytes()[..])
        );
    }
    let tag = |segment: &Segment| segment.txs[0].ops[0].value.clone().unwrap();
    assert_eq!((tag(&second), tag(&lost), tag(&kept)), ("mountains".into(), "never happened".into(), "sea".into()));
}
