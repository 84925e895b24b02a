//! What a check finds, and what it may say is over.

use std::sync::Arc;

use bytes::Bytes;
use haven_format::layout;
use haven_store::{DynStore, ObjectName, PutMode};
use haven_testkit::seed::in_virtual_time;
use haven_vault::{
    Options, Vault,
    check::{CheckOptions, Checked},
};

use crate::behaviour::{MIB, Machine, bucket, noise, set};

fn quick() -> CheckOptions {
    CheckOptions::default()
}

fn all() -> CheckOptions {
    CheckOptions { read_data: true, ..CheckOptions::default() }
}

/// A sample that no pack is drawn for.
fn sample() -> CheckOptions {
    CheckOptions { sample: Some(0.0), ..all() }
}

async fn body(bucket: &DynStore, object: &str) -> Bytes {
    bucket.get(&ObjectName::new(object).unwrap()).await.unwrap()
}

async fn put(bucket: &DynStore, object: &str, body: Bytes) {
    bucket.put(&ObjectName::new(object).unwrap(), body, PutMode::Always).await.unwrap();
}

/// A bucket with a photo whose pack has a flipped bit: the pack's name, and what it was.
async fn damaged_pack() -> (DynStore, String, Bytes) {
    let bucket = bucket();
    let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
    let (_, place) = writer.put(&noise(1, MIB)).unwrap();
    set(&writer, "x", b"x").await.unwrap();
    writer.checkpoint().await.unwrap();
    writer.close(true).await.unwrap();
    let pack = layout::pack(place.pack_id().unwrap());
    let good = body(&bucket, &pack).await;
    let mut bad = good.to_vec();
    bad[(place.offset + place.len / 2) as usize] ^= 1;
    put(&bucket, &pack, bad.into()).await;
    (bucket, pack, good)
}

fn open(checked: &Checked) -> Vec<&str> {
    checked.open.iter().map(|(object, _)| object.as_str()).collect()
}

fn known(vault: &Arc<Vault>) -> Vec<String> {
    vault.status().damage.into_iter().map(|(object, _)| object).collect()
}

#[test]
fn damage_is_over_only_when_it_was_read_again_and_is_right() {
    in_virtual_time(async {
        let (bucket, pack, good) = damaged_pack().await;
        let vault = Machine::new(&bucket, 2).open(Options::default()).await.unwrap();
        assert!(open(&vault.check(&sample()).await.unwrap()).is_empty(), "it was not drawn, and nobody knew of it");
        assert_eq!(open(&vault.check(&all()).await.unwrap()), [pack.as_str()]);
        for options in [sample(), quick(), CheckOptions { resume: true, ..all() }, sample()] {
            let checked = vault.check(&options).await.unwrap();
            assert_eq!(open(&checked), [pack.as_str()], "{options:?}");
            assert_eq!(checked.faults.len(), 1, "what is known to be damaged is read again: {options:?}");
            assert_eq!(known(&vault), [pack.as_str()], "{options:?}");
        }
        put(&bucket, &pack, good).await;
        let checked = vault.check(&sample()).await.unwrap();
        assert!(checked.faults.is_empty() && checked.open.is_empty() && known(&vault).is_empty(), "{checked:?}");
        vault.close(true).await.unwrap();
    });
}

#[test]
fn what_is_still_to_come_from_the_copy_that_a_library_is_restored_from_is_no_damage() {
    in_virtual_time(async {
        let (bucket, pack, good) = damaged_pack().await;
        let copy = crate::behaviour::bucket();
        put(&copy, &pack, good.clone()).await;
        let name = ObjectName::new(&pack).unwrap();
        bucket.delete(&name).await.unwrap();
        let vault = Machine::new(&bucket, 2).open(Options::default()).await.unwrap();
        let behind = |options: CheckOptions| CheckOptions { behind: Some(copy.clone()), ..options };
        for options in [quick(), all(), CheckOptions { repair: true, ..all() }] {
            let checked = vault.check(&behind(options)).await.unwrap();
            assert!(checked.faults.is_empty() && checked.open.is_empty(), "{checked:?}");
            assert_eq!((checked.to_come.objects, checked.to_come.bytes), (1, good.len() as u64));
        }
        let (here, needed) = vault.packs_here().await.unwrap();
        assert_eq!((needed.objects - here.objects, needed.bytes - here.bytes), (1, good.len() as u64));
        copy.delete(&name).await.unwrap();
        let checked = vault.check(&behind(quick())).await.unwrap();
        assert_eq!((open(&checked), checked.to_come.objects), (vec![pack.as_str()], 0), "nobody has it");
        vault.close(true).await.unwrap();
    });
}

#[test]
fn damage_is_over_when_it_was_mended_or_no_record_names_it_any_more() {
    in_virtual_time(async {
        let (bucket, pack, good) = damaged_pack().await;
        let copy = crate::behaviour::bucket();
        put(&copy, &pack, good).await;
        let vault = Machine::new(&bucket, 2).open(Options::default()).await.unwrap();
        let gone = layout::pack(haven_format::PackId([7; 16]));
        let lost = haven_format::ChunkId([9; 32]).to_string();
        let before = [(pack.clone(), "so".to_owned()), (gone.clone(), "so".into()), (lost.clone(), "so".into())];
        vault.remember_damage(before);
        let checked = vault.check(&quick()).await.unwrap();
        assert_eq!(open(&checked), [lost.as_str(), pack.as_str()], "no record names {gone}");
        let mending = CheckOptions { repair: true, copies: vec![("copy".into(), copy)], ..quick() };
        let checked = vault.check(&mending).await.unwrap();
        assert_eq!(checked.faults[0].repaired_from.as_deref(), Some("copy"));
        assert_eq!(open(&checked), [lost.as_str()], "no object tells of it");
        assert!(vault.check(&all()).await.unwrap().open.is_empty(), "everything was read");
        assert!(known(&vault).is_empty());
        vault.close(true).await.unwrap();
    });
}

#[test]
fn damaged_records_end_no_alarm() {
    in_virtual_time(async {
        let (bucket, pack, _) = damaged_pack().await;
        let shards = bucket.list(layout::SHARDS, None, 10).await.unwrap().objects;
        let shard = shards[0].name.as_str();
        let mut bad = body(&bucket, shard).await.to_vec();
        bad[30] ^= 1;
        put(&bucket, shard, bad.into()).await;
        let vault = Machine::new(&bucket, 2).open(Options { read_only: true, ..Options::default() }).await.unwrap();
        vault.remember_damage([(pack.clone(), "so".into()), (shard.to_owned(), "so".into())]);
        let checked = vault.check(&quick()).await.unwrap();
        assert_eq!(open(&checked), [shard, pack.as_str()], "the list of packs can't be read");
        assert_eq!(known(&vault), [shard, pack.as_str()]);
        vault.close(false).await.unwrap();
    });
}

#[test]
fn a_damaged_segment_behind_the_root_is_told_of_while_it_is_there() {
    in_virtual_time(async {
        let bucket = bucket();
        let vault = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        let seq = set(&vault, "x", b"x").await.unwrap();
        vault.sync_bucket(seq).await.unwrap();
        let segment = bucket.list(layout::SEGMENTS, None, 10).await.unwrap().objects[0].name.clone();
        let good = body(&bucket, segment.as_str()).await;
        let mut bad = good.to_vec();
        bad[30] ^= 1;
        put(&bucket, segment.as_str(), bad.clone().into()).await;
        assert_eq!(open(&vault.check(&quick()).await.unwrap()), [segment.as_str()]);
        vault.checkpoint().await.unwrap();
        for options in [quick(), all()] {
            assert_eq!(open(&vault.check(&options).await.unwrap()), [segment.as_str()], "{options:?}");
        }
        put(&bucket, segment.as_str(), good).await;
        assert!(vault.check(&quick()).await.unwrap().open.is_empty(), "it was read, and is right");
        put(&bucket, segment.as_str(), bad.into()).await;
        assert_eq!(open(&vault.check(&all()).await.unwrap()), [segment.as_str()]);
        bucket.delete(&segment).await.unwrap();
        assert!(vault.check(&quick()).await.unwrap().open.is_empty(), "it is gone, as it should be");
    });
}
