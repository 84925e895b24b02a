//! Single behaviours, each in virtual time over a store and a disk in memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use haven_format::{Ino, TxSeq, record};
use haven_store::{DynStore, ObjectName, PutMode, StoreError, memory::Memory};
use haven_testkit::{
    faults::{FaultHandle, Faults, Weather},
    seed::in_virtual_time,
};
use haven_vault::{
    Change, Options, Vault, VaultError, World,
    collect::CollectRun,
    disk::{Disk, MemoryDisk},
    world::Dice,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::worlds::{TurnedClock, keys, patiently};

pub(crate) const MIB: usize = 1 << 20;

pub(crate) struct Machine {
    pub(crate) bucket: DynStore,
    pub(crate) disk: Arc<MemoryDisk>,
    seed: u64,
}

impl Machine {
    pub(crate) fn new(bucket: &DynStore, seed: u64) -> Self {
        Self { bucket: bucket.clone(), disk: MemoryDisk::new(), seed }
    }

    pub(crate) fn world(&self, store: DynStore) -> World {
        World {
            store,
            disk: self.disk.clone(),
            clock: Arc::new(TurnedClock(tokio::time::Instant::now(), 1_800_000_000)),
            dice: Arc::new(Dice::from_seed(self.seed)),
            host: format!("machine-{}", self.seed),
            threads: false,
        }
    }

    pub(crate) async fn open(&self, options: Options) -> Result<Arc<Vault>, VaultError> {
        Vault::open(self.world(self.bucket.clone()), keys(), options).await
    }

    /// Through a store that can be told to misbehave.
    pub(crate) async fn open_faulty(&self, options: Options) -> (Arc<Vault>, FaultHandle) {
        let (faults, handle) = Faults::new(self.bucket.clone(), self.seed);
        (Vault::open(self.world(Arc::new(faults)), keys(), options).await.unwrap(), handle)
    }
}

pub(crate) fn bucket() -> DynStore {
    Arc::new(Memory::new())
}

pub(crate) fn noise(seed: u64, length: usize) -> Bytes {
    let mut out = vec![0; length];
    ChaCha8Rng::seed_from_u64(seed).fill(&mut out[..]);
    out.into()
}

pub(crate) fn op(name: &str, value: Option<&[u8]>) -> record::Op {
    let key = record::xattr_key(haven_format::Ino(99), name.as_bytes());
    record::Op { key, value: value.map(Bytes::copy_from_slice) }
}

pub(crate) async fn set(vault: &Arc<Vault>, name: &str, value: &[u8]) -> Result<TxSeq, VaultError> {
    patiently(vault, || vault.commit(vec![op(name, Some(value))], Change::default())).await
}

pub(crate) async fn get(vault: &Arc<Vault>, name: &str) -> Option<Bytes> {
    let key = record::xattr_key(haven_format::Ino(99), name.as_bytes());
    patiently(vault, || vault.live().get(&key)).await.unwrap()
}

#[test]
fn a_reader_follows_the_writer_and_writes_nothing() {
    in_virtual_time(async {
        let bucket = bucket();
        let (writing, reading) = (Machine::new(&bucket, 1), Machine::new(&bucket, 2));
        let writer = writing.open(Options::default()).await.unwrap();
        set(&writer, "one", b"1").await.unwrap();
        writer.sync_bucket(writer.head()).await.unwrap();
        let reader = reading.open(Options { read_only: true, ..Options::default() }).await.unwrap();
        let objects = bucket.list("", None, 1000).await.unwrap().objects.len();
        for round in 0..30u8 {
            let seq = set(&writer, "one", &[round]).await.unwrap();
            set(&writer, &format!("more {round}"), &[0; 1000]).await.unwrap();
            writer.sync_bucket(seq).await.unwrap();
            if round % 7 == 0 {
                writer.checkpoint().await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(get(&reader, "one").await.unwrap(), &[round][..]);
        }
        assert!(matches!(reader.commit(vec![], Change::default()), Err(VaultError::ReadOnly { .. })));
        assert!(!writer.status().fenced);
        assert!(bucket.list("", None, 1000).await.unwrap().objects.len() > objects);
        assert_eq!(bucket.list("e/", None, 1000).await.unwrap().objects.len(), 1, "the reader made no claim");
    });
}

#[test]
fn a_reader_tells_what_would_be_collected_and_takes_the_right_to_write_from_nobody() {
    in_virtual_time(async {
        let bucket = bucket();
        let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        writer.put(&noise(1, MIB)).unwrap();
        set(&writer, "x", b"x").await.unwrap();
        let dry = CollectRun { dry: true, release: true };
        let inside = writer.collect(dry).await.unwrap();
        writer.sync_bucket(writer.head()).await.unwrap();
        let reader = Machine::new(&bucket, 2).open(Options { read_only: true, ..Options::default() }).await.unwrap();
        let outside = reader.collect(dry).await.unwrap();
        assert_eq!((outside.chunks, outside.live_bytes), (inside.chunks, inside.live_bytes));
        assert!(inside.as_of.is_none() && outside.as_of.is_some(), "{outside:?}");
        assert!(matches!(reader.collect(CollectRun::default()).await, Err(VaultError::ReadOnly { .. })));
        assert_eq!(bucket.list("e/", None, 1000).await.unwrap().objects.len(), 1, "the reader made no claim");
        let seq = set(&writer, "y", b"y").await.unwrap();
        writer.sync_bucket(seq).await.unwrap();
        assert!(!writer.status().fenced);
    });
}

#[test]
fn a_dead_network_stops_nobody_until_the_cache_is_full_and_then_they_wait() {
    in_virtual_time(async {
        let bucket = bucket();
        let machine = Machine::new(&bucket, 1);
        let limit = 256 * MIB as u64;
        let (vault, handle) = machine.open_faulty(Options { cache_limit: limit, ..Options::default() }).await;
        handle.set_weather(Weather::Down);
        let mut stored = Vec::new();
        loop {
            let photo = noise(stored.len() as u64, 3 * MIB);
            match vault.put(&photo) {
                Ok(at) => stored.push((photo, at)),
                Err(VaultError::Need(need)) => {
                    let waited = tokio::time::timeout(Duration::from_secs(600), vault.settle(&need)).await;
                    match waited {
                        Ok(room) => room.unwrap(),
                        Err(_) => break,
                    }
                }
                Err(error) => panic!("{error}"),
            }
            set(&vault, &format!("{}", stored.len()), b"photo").await.unwrap();
            assert!(machine.disk.bytes() <= limit);
        }
        assert!(stored.len() > 50, "only {} photos went into the cache", stored.len());
        let photo = noise(stored.len() as u64, 3 * MIB);
        let Err(VaultError::Need(need)) = vault.put(&photo) else { panic!("there is room after all") };
        let waits = vault.settle(&need);
        handle.set_weather(Weather::Fine);
        tokio::time::timeout(Duration::from_secs(600), waits).await.expect("room after the outage").unwrap();
        vault.sync_bucket(vault.head()).await.unwrap();
        assert_eq!(vault.status().pending_packs, 0);
        for (photo, (id, place)) in &stored {
            assert_eq!(patiently(&vault, || vault.chunk(*id, Some(place))).await.unwrap(), *photo);
            assert!(machine.disk.bytes() <= limit, "reading back keeps the limit");
        }
    });
}

#[test]
fn hard_times_at_the_bucket_are_waited_out() {
    for weather in [Weather::NoBucket, Weather::BadKey, Weather::ReadOnly, Weather::Full] {
        in_virtual_time(async {
            let (vault, handle) = Machine::new(&bucket(), 1).open_faulty(Options::default()).await;
            handle.set_weather(weather);
            let (photo, seq) = (noise(1, 5000), set(&vault, "a", b"1").await.unwrap());
            let (id, place) = vault.put(&photo).unwrap();
            let waiting = tokio::time::timeout(Duration::from_secs(900), vault.sync_bucket(seq)).await;
            assert!(waiting.is_err(), "{weather:?}: nothing was acknowledged");
            let status = vault.status();
            assert!(status.trouble.is_some() && status.recovery_point_seconds > 800.0, "{weather:?}: {status:?}");
            assert_eq!(vault.chunk(id, Some(&place)).unwrap(), photo);
            handle.set_weather(Weather::Fine);
            vault.sync_bucket(seq).await.unwrap();
            assert_eq!(vault.status().trouble, None);
        });
    }
}

#[test]
fn a_reader_waits_an_outage_out_and_tells_of_it_until_it_is_over() {
    in_virtual_time(async {
        let bucket = bucket();
        let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        let photo = noise(1, 2 * MIB);
        let (id, place) = writer.put(&photo).unwrap();
        set(&writer, "x", b"x").await.unwrap();
        writer.close(true).await.unwrap();

        let hour = Duration::from_secs(3600);
        let options = Options { read_only: true, follow_every: 10 * hour, ..Options::default() };
        let (reader, handle) = Machine::new(&bucket, 2).open_faulty(options).await;
        handle.set_weather(Weather::NoBucket);
        let ends = async {
            tokio::time::sleep(hour).await;
            assert!(reader.status().trouble.is_some());
            handle.set_weather(Weather::Fine);
        };
        let (read, ()) = futures::join!(patiently(&reader, || reader.chunk(id, Some(&place))), ends);
        assert_eq!(read.unwrap(), photo);
        assert_eq!(reader.status().trouble, None);

        // Nobody reads, and the writer has nothing new: looking for that must tell.
        let options = Options { read_only: true, ..Options::default() };
        let (reader, handle) = Machine::new(&bucket, 3).open_faulty(options).await;
        for (weather, troubled) in [(Weather::NoBucket, true), (Weather::Fine, false)] {
            handle.set_weather(weather);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(reader.status().trouble.is_some(), troubled, "{weather:?}");
        }
    });
}

pub(crate) async fn replace(bucket: &DynStore, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let name = ObjectName::new(name).unwrap();
    let mut body = bucket.get(&name).await.unwrap().to_vec();
    change(&mut body);
    bucket.put(&name, body.into(), PutMode::Always).await.unwrap();
}

#[test]
fn a_damaged_pack_is_named_and_the_rest_can_be_read() {
    in_virtual_time(async {
        let bucket = bucket();
        let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        let photos: Vec<Bytes> = (0..5).map(|n| noise(n, 2 * MIB)).collect();
        let places: Vec<_> = photos.iter().map(|photo| writer.put(photo).unwrap()).collect();
        set(&writer, "x", b"x").await.unwrap();
        writer.close(true).await.unwrap();
        let (_, place) = &places[2];
        let object = haven_format::layout::pack(place.pack_id().unwrap());
        let middle = (place.offset + place.len / 2) as usize;
        replace(&bucket, &object, |body| body[middle] ^= 1).await;

        let reader = Machine::new(&bucket, 2).open(Options::default()).await.unwrap();
        for (n, ((id, place), photo)) in places.iter().zip(&photos).enumerate() {
            match patiently(&reader, || reader.chunk(*id, Some(place))).await {
                Ok(read) => assert!(n != 2 && read == photo),
                Err(VaultError::Damaged { object: named, .. }) => assert!(n == 2 && named == object),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(reader.status().damage.len(), 1);
        let gone = ObjectName::new(&object).unwrap();
        bucket.delete(&gone).await.unwrap();
        let other = Machine::new(&bucket, 3).open(Options::default()).await.unwrap();
        let (id, place) = &places[0];
        let lost = patiently(&other, || other.chunk(*id, Some(place))).await.unwrap_err();
        assert!(matches!(&lost, VaultError::Damaged { object: named, .. } if *named == object), "{lost}");
    });
}

/// Why it can't be had, after a few tries at most: what is damaged in the bucket must not be asked for for ever.
async fn refused<T>(vault: &Arc<Vault>, call: impl Fn() -> Result<T, VaultError>) -> VaultError {
    for _ in 0..5 {
        match call() {
            Err(VaultError::Need(need)) => match vault.settle(&need).await {
                Ok(()) => {}
                Err(error) => return error,
            },
            Err(error) => return error,
            Ok(_) => panic!("it was read"),
        }
    }
    panic!("it is asked for for ever")
}

#[test]
fn a_cut_pack_is_damaged_however_often_it_is_read() {
    in_virtual_time(async {
        let bucket = bucket();
        let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        let photos: Vec<_> = (0..3).map(|n| writer.put(&noise(n, 100_000)).unwrap()).collect();
        set(&writer, "x", b"x").await.unwrap();
        writer.close(true).await.unwrap();
        let object = haven_format::layout::pack(photos[0].1.pack_id().unwrap());
        let middle = (photos[1].1.offset + photos[1].1.len / 2) as usize;
        replace(&bucket, &object, |body| body.truncate(middle)).await;

        let reader = Machine::new(&bucket, 2).open(Options::default()).await.unwrap();
        for _ in 0..3 {
            let (id, place) = &photos[0];
            patiently(&reader, || reader.chunk(*id, Some(place))).await.unwrap();
            // The second crosses the end, the third lies behind it.
            for (id, place) in &photos[1..] {
                let error = refused(&reader, || reader.chunk(*id, Some(place))).await;
                assert!(matches!(&error, VaultError::Damaged { object: named, .. } if *named == object), "{error}");
            }
        }
    });
}

#[test]
fn a_shard_that_is_damaged_in_the_bucket_is_not_fetched_for_ever() {
    in_virtual_time(async {
        let bucket = bucket();
        let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        set(&writer, "x", b"x").await.unwrap();
        writer.checkpoint().await.unwrap();
        writer.close(true).await.unwrap();
        let shards = bucket.list(haven_format::layout::SHARDS, None, 10).await.unwrap().objects;
        assert_eq!(shards.len(), 1);
        // Its first block begins behind the head; the end is whole.
        replace(&bucket, shards[0].name.as_str(), |body| body[30] ^= 1).await;

        let reader = Machine::new(&bucket, 2).open(Options { read_only: true, ..Options::default() }).await.unwrap();
        for _ in 0..2 {
            let key = op("x", None).key;
            let error = refused(&reader, || reader.live().get(&key)).await;
            assert!(matches!(error, VaultError::Damaged { .. }), "{error}");
        }
    });
}

#[test]
fn a_bit_that_flips_in_the_cache_is_fetched_again() {
    in_virtual_time(async {
        let bucket = bucket();
        let machine = Machine::new(&bucket, 1);
        let vault = machine.open(Options::default()).await.unwrap();
        let photo = noise(1, 2 * MIB);
        let (id, place) = vault.put(&photo).unwrap();
        set(&vault, "x", b"x").await.unwrap();
        vault.close(true).await.unwrap();
        let name = format!("packs/{}", place.pack_id().unwrap());
        machine.disk.flip(&name, place.offset as usize + 1000);
        let again = machine.open(Options::default()).await.unwrap();
        assert_eq!(patiently(&again, || again.chunk(id, Some(&place))).await.unwrap(), photo);
        assert!(again.status().damage.is_empty());
    });
}

#[test]
fn a_hole_in_the_log_stops_writers_and_shows_readers_what_hangs_together() {
    in_virtual_time(async {
        let bucket = bucket();
        let vault = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        for n in 0..5u8 {
            let seq = set(&vault, "n", &[n]).await.unwrap();
            vault.sync_bucket(seq).await.unwrap();
        }
        vault.close(false).await.unwrap();
        let log = bucket.list("l/", None, 1000).await.unwrap().objects;
        bucket.delete(&log[2].name).await.unwrap();
        let refused = Machine::new(&bucket, 2).open(Options::default()).await.unwrap_err();
        assert!(refused.to_string().contains("gap"), "{refused}");
        let reader = Machine::new(&bucket, 3).open(Options { read_only: true, ..Options::default() }).await.unwrap();
        assert_eq!(get(&reader, "n").await.unwrap(), &[1][..]);
    });
}

#[test]
fn a_cache_of_another_library_or_with_no_room_is_refused() {
    in_virtual_time(async {
        let machine = Machine::new(&bucket(), 1);
        machine.disk.create("library").unwrap().write_at(0, b"ffffffffffffffffffffffffffffffff").unwrap();
        let refused = machine.open(Options::default()).await.unwrap_err();
        assert!(refused.to_string().contains("another library"), "{refused}");
        let small = Options { cache_limit: 1 << 20, ..Options::default() };
        assert!(matches!(Machine::new(&bucket(), 2).open(small).await, Err(VaultError::Refused(_))));
    });
}

#[test]
fn many_checkpoints_leave_few_runs_and_every_record() {
    in_virtual_time(async {
        let bucket = bucket();
        let machine = Machine::new(&bucket, 1);
        let vault = machine.open(Options::default()).await.unwrap();
        let key = |n: u64| record::inode_key(Ino(n * 7919 % 5000));
        let mut model = std::collections::BTreeMap::new();
        for round in 0..40u64 {
            let ops = (0..200).map(|n| {
                let n = round * 200 + n;
                let value = (n % 5 != 0).then(|| noise(n, 40));
                model.insert(key(n), value.clone());
                record::Op { key: key(n), value }
            });
            vault.commit(ops.collect(), Change::default()).unwrap();
            vault.checkpoint().await.unwrap();
        }
        let all = record::inodes_from(Ino(0));
        let expected: Vec<_> = model.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        assert_eq!(vault.live().scan(all.clone(), usize::MAX).unwrap(), expected);
        vault.close(true).await.unwrap();
        let fresh = Machine::new(&bucket, 2).open(Options { read_only: true, ..Options::default() }).await.unwrap();
        assert_eq!(patiently(&fresh, || fresh.live().scan(all.clone(), usize::MAX)).await.unwrap(), expected);
        let last = patiently(&fresh, || fresh.live().last(all.clone())).await.unwrap();
        assert_eq!(last.as_ref(), expected.last());
    });
}

#[test]
fn an_idle_library_costs_no_request() {
    in_virtual_time(async {
        let (vault, handle) = Machine::new(&bucket(), 1).open_faulty(Options::default()).await;
        let seq = set(&vault, "x", b"x").await.unwrap();
        vault.sync_bucket(seq).await.unwrap();
        // Once a checkpoint and a look for garbage have followed the change.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let before = handle.requests();
        tokio::time::sleep(Duration::from_secs(36 * 3600)).await;
        assert_eq!(handle.requests(), before);
    });
}

#[test]
fn bytes_that_are_there_already_are_not_stored_again() {
    in_virtual_time(async {
        let bucket = bucket();
        let vault = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        let photo = noise(1, MIB);
        let first = vault.put(&photo).unwrap();
        set(&vault, "a", b"1").await.unwrap();
        vault.close(true).await.unwrap();
        let other = Machine::new(&bucket, 2).open(Options::default()).await.unwrap();
        assert_eq!(patiently(&other, || other.put(&photo)).await.unwrap(), first);
        assert_eq!(other.status().dedup_bytes, photo.len() as u64);
        let missing = ObjectName::new("p/00/none").unwrap();
        assert!(matches!(bucket.get(&missing).await, Err(StoreError::NotFound { .. })));
    });
}

#[test]
fn chunks_are_fetched_ahead_also_for_threads_that_know_no_runtime() {
    in_virtual_time(async {
        let bucket = bucket();
        let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        let photo = noise(1, 2 * MIB);
        let (id, place) = writer.put(&photo).unwrap();
        set(&writer, "x", b"x").await.unwrap();
        writer.close(true).await.unwrap();
        let reader = Machine::new(&bucket, 2).open(Options::default()).await.unwrap();
        assert!(matches!(reader.chunk(id, Some(&place)), Err(VaultError::Need(_))));
        let (elsewhere, wanted) = (reader.clone(), [(id, place.clone())]);
        #[allow(clippy::disallowed_methods)] // A thread of the kernel's kind.
        std::thread::spawn(move || elsewhere.prefetch(&wanted)).join().expect("no runtime is needed");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(reader.chunk(id, Some(&place)).unwrap(), photo);
    });
}
