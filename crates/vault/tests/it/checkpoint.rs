//! Checkpoints while something they would like to read is gone.

use std::{sync::Arc, time::Duration};

use haven_store::{DynStore, ObjectName, PutMode};
use haven_testkit::seed::in_virtual_time;
use haven_vault::{Options, Vault, collect::CollectOptions, disk::Disk};

use crate::{
    behaviour::{Machine, bucket, get, noise, replace, set},
    worlds::patiently,
};

/// Nothing but checkpoints writes shards.
fn options() -> Options {
    Options { collect: CollectOptions { every: None, ..CollectOptions::default() }, ..Options::default() }
}

async fn shards(bucket: &DynStore) -> Vec<ObjectName> {
    bucket.list("m/", None, 10_000).await.unwrap().objects.into_iter().map(|object| object.name).collect()
}

/// Two records with room for others between, in one shard of the first root.
async fn library(bucket: &DynStore) -> ObjectName {
    let writer = Machine::new(bucket, 1).open(options()).await.unwrap();
    set(&writer, "a", &noise(1, 3000)).await.unwrap();
    set(&writer, "z", &noise(2, 3000)).await.unwrap();
    writer.checkpoint().await.unwrap();
    writer.close(true).await.unwrap();
    let [only] = &shards(bucket).await[..] else { panic!("one space, one shard") };
    only.clone()
}

#[test]
fn a_damaged_shard_stops_no_checkpoint_and_is_told_and_merged_once_it_is_whole_again() {
    in_virtual_time(async {
        let bucket = bucket();
        let shard = library(&bucket).await;
        let whole = bucket.get(&shard).await.unwrap();
        replace(&bucket, shard.as_str(), |body| body[30] ^= 1).await;

        let vault = Machine::new(&bucket, 2).open(options()).await.unwrap();
        for n in 0..20 {
            set(&vault, &format!("m{n}"), &noise(n, 1000)).await.unwrap();
            vault.checkpoint().await.unwrap();
        }
        assert_eq!(vault.status().damage.first().map(|(object, _)| object.as_str()), Some(shard.as_str()));
        let before = shards(&bucket).await.len();
        set(&vault, "more", b"the task makes this one").await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        // Its own, and the one that it is merged to with those before it.
        assert!(shards(&bucket).await.len() <= before + 2, "it does not write the same again and again");
        for n in 0..20 {
            assert_eq!(get(&vault, &format!("m{n}")).await.unwrap(), noise(n, 1000));
        }

        bucket.put(&shard, whole, PutMode::Always).await.unwrap();
        set(&vault, "last", &noise(3, 30_000)).await.unwrap();
        vault.checkpoint().await.unwrap();
        bucket.delete(&shard).await.unwrap();
        vault.close(true).await.unwrap();
        let reader = Machine::new(&bucket, 3).open(Options { read_only: true, ..options() }).await.unwrap();
        for (name, value) in [("a", noise(1, 3000)), ("m7", noise(7, 1000)), ("z", noise(2, 3000))] {
            assert_eq!(get(&reader, name).await.unwrap(), value, "{name}: what was damaged is merged");
        }
    });
}

async fn snapshot(vault: &Arc<Vault>, name: &str) {
    patiently(vault, || vault.take_snapshot(name.as_bytes(), "", "a test")).await.unwrap();
}

/// Where snapshots are on record can't be read, and one is taken all the same.
#[test]
fn a_lost_record_of_snapshots_stops_no_checkpoint() {
    in_virtual_time(async {
        let bucket = bucket();
        let writer = Machine::new(&bucket, 1).open(options()).await.unwrap();
        for name in ["a", "z"] {
            snapshot(&writer, name).await;
            writer.checkpoint().await.unwrap();
        }
        writer.close(true).await.unwrap();
        let machine = Machine::new(&bucket, 2);
        let vault = machine.open(options()).await.unwrap();
        // Its name is compared with none that is lost.
        snapshot(&vault, "zz").await;
        for shard in shards(&bucket).await {
            bucket.delete(&shard).await.unwrap();
        }
        vault.close(false).await.unwrap();
        for name in machine.disk.list("shards").unwrap() {
            machine.disk.remove(&format!("shards/{name}")).unwrap();
        }
        let vault = machine.open(options()).await.unwrap();
        set(&vault, "x", b"x").await.unwrap();
        vault.checkpoint().await.unwrap();
        assert!(!vault.status().damage.is_empty());
        assert_eq!(vault.status().root_lsn, vault.status().lsn);
    });
}
