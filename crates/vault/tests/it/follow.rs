//! Readers that stay for long.

use std::{sync::Arc, time::Duration};

use haven_testkit::{faults::Weather, seed::in_virtual_time};
use haven_vault::{Options, Vault, disk::Disk};

use crate::{
    behaviour::{MIB, Machine, bucket, get, noise, set},
    worlds::patiently,
};

const HOUR: Duration = Duration::from_secs(3600);

async fn snapshot(writer: &Arc<Vault>, name: &str) {
    patiently(writer, || writer.take_snapshot(name.as_bytes(), "", "a test")).await.unwrap();
}

/// Snapshots are taken all the while: the changes between two are few.
#[test]
fn a_reader_goes_over_to_newer_roots_before_what_only_an_old_one_needs_is_deleted() {
    in_virtual_time(async {
        let bucket = bucket();
        // Nobody is in a hurry, or the days would be long.
        let options = Options { sync_after: HOUR, follow_every: Duration::from_secs(60), ..Options::default() };
        let writer = Machine::new(&bucket, 1).open(options.clone()).await.unwrap();
        // What changes later lies between the two: a shard that nothing touches is never replaced.
        set(&writer, "a", b"the first").await.unwrap();
        set(&writer, "old", b"as old as the library").await.unwrap();
        writer.checkpoint().await.unwrap();
        let first = bucket.list("m/", None, 1000).await.unwrap().objects;
        let reading = Machine::new(&bucket, 2);
        let reader = reading.open(Options { read_only: true, ..options }).await.unwrap();
        for round in 0..9 * 8u8 {
            set(&writer, "new", &[round]).await.unwrap();
            writer.sync_bucket(writer.head()).await.unwrap();
            tokio::time::sleep(HOUR).await;
            if round > 0 {
                snapshot(&writer, &format!("{round}")).await;
            }
            tokio::time::sleep(2 * HOUR).await;
        }
        let left = bucket.list("m/", None, 10_000).await.unwrap().objects;
        assert!(first.iter().all(|shard| left.iter().all(|other| other.name != shard.name)), "it is deleted by now");
        // What this machine has kept is no help.
        for name in reading.disk.list("shards").unwrap() {
            reading.disk.remove(&format!("shards/{name}")).unwrap();
        }
        assert_eq!(get(&reader, "old").await.unwrap(), &b"as old as the library"[..]);
        assert_eq!(get(&reader, "new").await.unwrap(), &[71][..]);
        for name in ["1", "40", "71"] {
            let snapshot = patiently(&reader, || reader.snapshot(name.as_bytes())).await.unwrap().unwrap();
            let key = haven_format::record::xattr_key(haven_format::Ino(99), b"old");
            let old = patiently(&reader, || reader.view_of(&snapshot)?.get(&key)).await.unwrap();
            assert_eq!(old.unwrap(), &b"as old as the library"[..], "snapshot {name}");
        }
    });
}

#[test]
fn what_a_reader_remembers_is_bounded_while_snapshots_are_taken() {
    in_virtual_time(async {
        let bucket = bucket();
        let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        set(&writer, "x", b"x").await.unwrap();
        writer.checkpoint().await.unwrap();
        let reader = Machine::new(&bucket, 2).open(Options { read_only: true, ..Options::default() }).await.unwrap();
        for round in 0..14u64 {
            for n in 0..16 {
                set(&writer, &format!("{n}"), &noise(round, MIB / 2)).await.unwrap();
            }
            snapshot(&writer, &format!("{round}")).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            let remembered = reader.status().table_bytes as usize;
            assert!(remembered < 80 * MIB, "{remembered} bytes after {round}");
            assert_eq!(reader.head(), writer.head());
        }
        assert_eq!(get(&reader, "15").await.unwrap(), noise(13, MIB / 2));
    });
}

#[test]
fn a_reader_that_went_over_to_another_root_has_its_names_here_too() {
    in_virtual_time(async {
        let bucket = bucket();
        let options = Options { sync_after: HOUR, follow_every: Duration::from_secs(60), ..Options::default() };
        let writer = Machine::new(&bucket, 1).open(options.clone()).await.unwrap();
        set(&writer, "first", b"1").await.unwrap();
        writer.checkpoint().await.unwrap();
        let reading = Machine::new(&bucket, 2);
        let (reader, store) = reading.open_faulty(Options { read_only: true, ..options }).await;
        let old = reader.status().root_lsn;
        set(&writer, "second", b"2").await.unwrap();
        writer.checkpoint().await.unwrap();
        tokio::time::sleep(26 * HOUR).await;
        assert!(reader.status().root_lsn > old);
        store.set_weather(Weather::Down);
        for name in ["first", "second"] {
            let key = haven_format::record::xattr_key(haven_format::Ino(99), name.as_bytes());
            assert!(reader.live().get(&key).unwrap().is_some(), "{name}");
        }
    });
}
