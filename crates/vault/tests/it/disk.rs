//! The local disk: one that fails, one that is full, one that loses power.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use haven_format::TxSeq;
use haven_testkit::{
    faults::{Faults, Weather},
    seed::{each_world, in_virtual_time},
};
use haven_vault::{Need, Options, Vault, VaultError, World, disk::Disk};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    behaviour::{MIB, Machine, bucket, get, noise, set},
    disks::{Frail, Kill, Narrow},
    worlds::{keys, patiently},
};

/// Commits twice, with a sync between that works; the caller breaks the disk for the next.
async fn frail_vault(machine: &Machine, frail: &Frail) -> (Arc<Vault>, TxSeq, TxSeq) {
    let world = World { disk: Arc::new(frail.clone()), ..machine.world(machine.bucket.clone()) };
    let vault = Vault::open(world, keys(), Options::default()).await.unwrap();
    vault.put(&noise(1, 3000)).unwrap();
    let first = set(&vault, "a", b"1").await.unwrap();
    vault.sync(first).unwrap();
    vault.put(&noise(2, 3000)).unwrap();
    let second = set(&vault, "b", b"2").await.unwrap();
    (vault, first, second)
}

#[test]
fn after_a_sync_that_failed_none_is_called_a_success_and_the_bucket_still_gets_everything() {
    for late in [false, true] {
        after_a_sync_that_failed(late);
    }
}

fn after_a_sync_that_failed(late: bool) {
    in_virtual_time(async {
        let machine = Machine::new(&bucket(), 1);
        let frail = Frail::new(&machine.disk);
        let (vault, first, second) = frail_vault(&machine, &frail).await;
        frail.late.store(late, Ordering::Relaxed);
        frail.no_sync.store(true, Ordering::Relaxed);
        assert!(matches!(vault.sync(second), Err(VaultError::Local { .. })));
        frail.no_sync.store(false, Ordering::Relaxed);
        assert!(matches!(vault.sync(second), Err(VaultError::Local { .. })), "a success nobody can vouch for");
        vault.sync(first).unwrap();
        vault.sync_bucket(second).await.unwrap();
    });
}

#[test]
fn a_sync_for_which_the_journal_has_no_room_survives_a_power_cut() {
    in_virtual_time(async {
        let mut machine = Machine::new(&bucket(), 1);
        let frail = Frail::new(&machine.disk);
        let (vault, _, second) = frail_vault(&machine, &frail).await;
        frail.no_journal.store(true, Ordering::Relaxed);
        // The packs' own files are synced instead.
        vault.sync(second).unwrap();
        // Nothing that was not synced survives.
        machine.disk = machine.disk.power_cut(|_| 0);
        drop(vault);
        let again = machine.open(Options::default()).await.unwrap();
        assert!(again.head() >= second, "{} of {second}", again.head());
        assert_eq!(get(&again, "b").await.unwrap(), &b"2"[..]);
    });
}

#[test]
fn the_log_does_not_name_chunks_of_a_pack_that_could_not_be_finished() {
    in_virtual_time(async {
        let machine = Machine::new(&bucket(), 1);
        let frail = Frail::new(&machine.disk);
        let (vault, ..) = frail_vault(&machine, &frail).await;
        let photo = noise(3, 3000);
        let (id, _) = vault.put(&photo).unwrap();
        let last = set(&vault, "c", b"3").await.unwrap();
        frail.no_staging.store(true, Ordering::Relaxed);
        // One that can't be written ends the pack early; without one the log does it.
        for broken in [true, false] {
            assert!(!broken || vault.put(&noise(4, 3000)).is_err());
            let sent = tokio::time::timeout(Duration::from_secs(60), vault.sync_bucket(last)).await;
            assert!(sent.is_err(), "{sent:?}");
            assert!(vault.status().trouble.is_some());
        }
        frail.no_staging.store(false, Ordering::Relaxed);
        vault.sync_bucket(last).await.unwrap();
        let elsewhere = Machine::new(&machine.bucket, 2).open(Options::default()).await.unwrap();
        let place = patiently(&elsewhere, || elsewhere.kept(id)).await.unwrap().unwrap();
        assert_eq!(patiently(&elsewhere, || elsewhere.chunk(id, Some(&place))).await.unwrap(), photo);
    });
}

#[test]
fn packs_for_which_the_disk_has_no_room_leave_nothing_behind() {
    in_virtual_time(async {
        let machine = Machine::new(&bucket(), 1);
        let frail = Frail::new(&machine.disk);
        let (faults, handle) = Faults::new(machine.bucket.clone(), 1);
        let world = World { disk: Arc::new(frail.clone()), ..machine.world(Arc::new(faults)) };
        let vault = Vault::open(world, keys(), Options::default()).await.unwrap();
        handle.set_weather(Weather::Down);
        vault.put(&noise(1, MIB)).unwrap();
        let last = set(&vault, "a", b"1").await.unwrap();
        let used = vault.status().cache_used;
        // The begin of a chunk comes to the disk, then not even that of a pack; the one begun can't be finished.
        frail.no_staging.store(true, Ordering::Relaxed);
        (2..50).for_each(|n| assert!(vault.put(&noise(n, MIB)).is_err()));
        // Where there is room for a pack's begin and for no chunk.
        frail.no_staging.store(false, Ordering::Relaxed);
        *frail.room.lock() = Some(machine.disk.bytes() + 10_000);
        (50..100).for_each(|n| assert!(vault.put(&noise(n, MIB)).is_err()));
        assert_eq!(machine.disk.list("staging").unwrap().len(), 1);
        assert!(vault.status().cache_used <= used + 2 * MIB as u64, "{} of {used}", vault.status().cache_used);
        *frail.room.lock() = None;
        handle.set_weather(Weather::Fine);
        vault.sync_bucket(last).await.unwrap();
    });
}

#[test]
fn what_a_full_disk_has_cut_off_does_not_hide_what_comes_after() {
    in_virtual_time(async {
        let mut machine = Machine::new(&bucket(), 1);
        let frail = Frail::new(&machine.disk);
        let (faults, handle) = Faults::new(machine.bucket.clone(), 1);
        let world = World { disk: Arc::new(frail.clone()), ..machine.world(Arc::new(faults)) };
        let vault = Vault::open(world, keys(), Options::default()).await.unwrap();
        handle.set_weather(Weather::Down);
        let photo = |n: u64| noise(n, MIB / 2);
        for n in 0..31 {
            set(&vault, &format!("{n}"), &photo(n)).await.unwrap();
        }
        // The rest of it would stand beyond the end of what fills the file up.
        frail.no_journal.store(true, Ordering::Relaxed);
        let (long, patience) = (noise(99, 4 * MIB), Duration::from_secs(5));
        assert!(tokio::time::timeout(patience, set(&vault, "too long", &long)).await.is_err(), "it waits for room");
        frail.no_journal.store(false, Ordering::Relaxed);
        let mut last = TxSeq(0);
        for n in 31..40 {
            last = set(&vault, &format!("{n}"), &photo(n)).await.unwrap();
        }
        assert!(machine.disk.list("journal").unwrap().len() > 1);
        vault.sync(last).unwrap();
        machine.disk = machine.disk.killed();
        drop(vault);
        let again = machine.open(Options::default()).await.unwrap();
        assert_eq!(again.head(), last);
        assert_eq!(get(&again, "39").await.unwrap(), photo(39));
    });
}

/// Other things fill the disk too: the cache's limit is more than there is.
#[test]
fn on_a_disk_smaller_than_the_limit_the_cache_gives_way_and_then_writers_wait() {
    in_virtual_time(async {
        let machine = Machine::new(&bucket(), 1);
        let frail = Frail::new(&machine.disk);
        *frail.room.lock() = Some(100 << 20);
        let (faults, handle) = Faults::new(machine.bucket.clone(), 1);
        let world = World { disk: Arc::new(frail.clone()), ..machine.world(Arc::new(faults)) };
        let vault = Vault::open(world, keys(), Options { cache_limit: 1 << 30, ..Options::default() }).await.unwrap();
        let store = async |n: u64| {
            patiently(&vault, || vault.put(&noise(n, MIB))).await.unwrap();
            set(&vault, "photo", &n.to_be_bytes()).await.unwrap()
        };
        // Much more than it holds.
        for n in 0..200 {
            store(n).await;
        }
        handle.set_weather(Weather::Down);
        let mut n = 200;
        while tokio::time::timeout(Duration::from_secs(300), store(n)).await.is_ok() {
            n += 1;
            assert!(n < 320, "it has not got so much room");
        }
        let status = vault.status();
        let trouble = status.trouble.unwrap();
        assert!(trouble.contains("full"), "{trouble}");
        // What was tried in vain leaves nothing behind, on the disk or in the books.
        let staged = machine.disk.list("staging").unwrap().len();
        assert!(staged < 20, "{staged} packs");
        assert!(status.cache_used <= machine.disk.bytes() + (32 << 20), "{} counted", status.cache_used);
        handle.set_weather(Weather::Fine);
        let last = store(n).await;
        vault.sync_bucket(last).await.unwrap();
        vault.sync(last).unwrap();
    });
}

#[test]
fn who_waits_for_room_waits_on_where_the_disk_takes_nothing() {
    for journal in [true, false] {
        in_virtual_time(async {
            let machine = Machine::new(&bucket(), 1);
            let frail = Frail::new(&machine.disk);
            let world = World { disk: Arc::new(frail.clone()), ..machine.world(machine.bucket.clone()) };
            let limit = 256 << 20;
            let vault = Vault::open(world, keys(), Options { cache_limit: limit, ..Options::default() }).await.unwrap();
            // The open pack is all that could be sent, and nothing is committed.
            vault.put(&noise(1, MIB)).unwrap();
            let need = Need::Space { bytes: limit / 8 * 7 - vault.status().cache_used + 1 };
            let order = if journal { &frail.no_journal } else { &frail.no_staging };
            order.store(true, Ordering::Relaxed);
            let waited = tokio::time::timeout(Duration::from_secs(60), vault.settle(&need)).await;
            assert!(waited.is_err(), "{waited:?}");
            order.store(false, Ordering::Relaxed);
            tokio::time::timeout(Duration::from_secs(60), vault.settle(&need)).await.unwrap().unwrap();
        });
    }
}

#[test]
fn a_chunk_that_is_kept_is_no_failure_where_an_older_pack_can_not_be_finished() {
    in_virtual_time(async {
        let machine = Machine::new(&bucket(), 1);
        let frail = Frail::new(&machine.disk);
        let world = World { disk: Arc::new(frail.clone()), ..machine.world(machine.bucket.clone()) };
        let vault = Vault::open(world, keys(), Options::default()).await.unwrap();
        // One with a long footer, for which there is no room, and one with a short.
        (0..100).for_each(|n| drop(vault.put(&noise(n, 3000)).unwrap()));
        vault.put(&noise(100, MIB)).unwrap();
        *frail.room.lock() = Some(machine.disk.bytes() + 2000);
        assert!(matches!(vault.put(&noise(101, 900_000)), Err(VaultError::Need(_))));
        assert!(matches!(vault.put(&noise(102, 3000)), Err(VaultError::Need(_))));
        // This one fits, once room is looked for again.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let long = vec![7; 300_000];
        match vault.put(&long) {
            Err(VaultError::Need(need)) => vault.settle(&need).await.unwrap(),
            other => panic!("{other:?}"),
        }
        vault.put(&long).unwrap();
        *frail.room.lock() = None;
        let last = set(&vault, "a", b"1").await.unwrap();
        vault.sync_bucket(last).await.unwrap();
    });
}

#[test]
fn salvage_shows_all_that_can_be_read_and_removes_nothing() {
    in_virtual_time(async {
        let machine = Machine::new(&bucket(), 1);
        let (vault, store) = machine.open_faulty(Options::default()).await;
        store.set_weather(Weather::Down);
        let (small, large) = (noise(1, 3000), noise(2, MIB / 2));
        // Packs of their own; the first is lost.
        let (lost, place_lost) = vault.put(&small).unwrap();
        set(&vault, "small", b"1").await.unwrap();
        let names = machine.disk.list("staging").unwrap();
        let (kept, place_kept) = vault.put(&large).unwrap();
        let last = set(&vault, "large", b"2").await.unwrap();
        vault.sync(last).unwrap();
        vault.close(false).await.unwrap();
        machine.disk.remove(&format!("staging/{}", names[0])).unwrap();
        let listed = || {
            let mut all = ["staging", "journal"].map(|folder| machine.disk.list(folder).unwrap());
            all.iter_mut().for_each(|names| names.sort());
            all
        };
        let before = listed();
        let saved = machine.open(Options { salvage: true, ..Options::default() }).await.unwrap();
        assert_eq!(get(&saved, "large").await.unwrap(), &b"2"[..]);
        assert_eq!(patiently(&saved, || saved.chunk(kept, Some(&place_kept))).await.unwrap(), large);
        assert!(patiently(&saved, || saved.chunk(lost, Some(&place_lost))).await.is_err());
        saved.close(false).await.unwrap();
        assert_eq!(listed(), before);
    });
}

#[test]
fn a_mount_that_is_killed_while_it_tells_again_what_is_unsent_loses_nothing() {
    for writes in 1..5 {
        let mut machine = Machine::new(&bucket(), 1);
        let last = in_virtual_time(async {
            let (vault, store) = machine.open_faulty(Options::default()).await;
            store.set_weather(Weather::Down);
            let mut last = TxSeq(0);
            for n in 0..600 {
                last = set(&vault, &format!("{n}"), b"unsent").await.unwrap();
            }
            vault.sync(last).unwrap();
            last
        });
        machine.disk = machine.disk.killed();
        let frail = Frail::new(&machine.disk);
        let (faults, handle) = Faults::new(machine.bucket.clone(), 1);
        // No one sends anything any more.
        let then = Box::new(move || handle.set_weather(Weather::Down));
        *frail.kill.lock() = Some(Kill { writes, then, left: None });
        in_virtual_time(async {
            let world = World { disk: Arc::new(frail.clone()), ..machine.world(Arc::new(faults)) };
            let vault = Vault::open(world, keys(), Options::default()).await.unwrap();
            assert_eq!(vault.head(), last);
        });
        machine.disk = frail.kill.lock().take().unwrap().left.expect("there are that many writes");
        in_virtual_time(async {
            let again = machine.open(Options::default()).await.unwrap();
            assert_eq!(again.head(), last, "killed after {writes} writes");
            again.sync_bucket(last).await.unwrap();
        });
    }
}

#[test]
fn a_disk_that_takes_no_shards_stops_no_checkpoint_and_what_is_in_them_can_be_read() {
    in_virtual_time(async {
        let machine = Machine::new(&bucket(), 1);
        let frail = Frail::new(&machine.disk);
        let (vault, ..) = frail_vault(&machine, &frail).await;
        frail.no_shards.store(true, Ordering::Relaxed);
        for n in 0..10 {
            set(&vault, &format!("{n}"), &noise(n, 1000)).await.unwrap();
            vault.checkpoint().await.unwrap();
        }
        let shards = || async { machine.bucket.list("m/", None, 1000).await.unwrap().objects.len() };
        let before = shards().await;
        set(&vault, "more", b"the task makes this one").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1200)).await;
        assert!(shards().await <= before + 60, "it does not write the same again and again");
        for n in 0..10 {
            assert_eq!(get(&vault, &format!("{n}")).await.unwrap(), noise(n, 1000));
        }
        assert_eq!(machine.disk.list("shards").unwrap(), [""; 0]);
        let status = vault.status();
        assert!(status.damage.is_empty() && status.root_lsn > 0, "{status:?}");
    });
}

/// Nothing is in the bucket, and the journal goes over several files.
#[test]
fn a_power_cut_where_one_journal_file_follows_another_leaves_a_state_that_was_and_all_that_was_synced() {
    each_world(60, |seed| async move {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut machine = Machine::new(&bucket(), seed);
        let (vault, store) = machine.open_faulty(Options::default()).await;
        store.set_weather(Weather::Down);
        let photo = |n: u64| noise(n, MIB / 2);
        let (mut promised, mut last) = (TxSeq(0), TxSeq(0));
        // Often just when the first file is full, whose follower is not on the disk then.
        let synced = if rng.random_bool(0.5) { 32 } else { rng.random_range(1..92) };
        for n in 1..rng.random_range(50..92) {
            last = set(&vault, &format!("{n}"), &photo(n)).await.unwrap();
            assert_eq!(last, TxSeq(n));
            if n == synced {
                vault.sync(last).unwrap();
                promised = last;
            }
        }
        machine.disk = machine.disk.power_cut(|n| rng.random_range(0..n));
        drop(vault);
        let again = machine.open(Options::default()).await.unwrap();
        let TxSeq(head) = again.head();
        assert!((promised.0..=last.0).contains(&head), "promised {promised}, found {head} of {last}");
        for n in 1..=last.0 {
            assert_eq!(get(&again, &format!("{n}")).await, (n <= head).then(|| photo(n)), "{n} of {head}");
        }
        let next = set(&again, "next", b"after the power came back").await.unwrap();
        again.sync_bucket(next).await.unwrap();
    });
}

#[test]
fn a_cache_of_more_packs_than_a_process_may_open_files_is_used_and_survives_a_mount() {
    in_virtual_time(async {
        let packs = 400;
        let bucket = bucket();
        let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        let mut photos = Vec::new();
        for n in 0..packs {
            let photo = noise(n, 1000);
            photos.push((writer.put(&photo).unwrap(), photo));
            // Each is sent in a pack of its own.
            let seq = set(&writer, "n", &n.to_le_bytes()).await.unwrap();
            writer.sync_bucket(seq).await.unwrap();
        }
        writer.close(true).await.unwrap();

        let machine = Machine::new(&bucket, 2);
        let disk = Narrow { disk: machine.disk.clone(), open: Arc::default(), max: 300 };
        let open = || async {
            let (faults, handle) = haven_testkit::faults::Faults::new(bucket.clone(), 2);
            let world = World { disk: Arc::new(disk.clone()), ..machine.world(Arc::new(faults)) };
            (Vault::open(world, keys(), Options::default()).await.unwrap(), handle)
        };
        let (vault, _) = open().await;
        for ((id, place), photo) in &photos {
            assert_eq!(patiently(&vault, || vault.chunk(*id, Some(place))).await.unwrap(), *photo);
        }
        let cached = || machine.disk.list("packs").unwrap().len() as u64;
        assert_eq!(cached(), packs);
        let more = b"there are files left to write with";
        let (id, place) = patiently(&vault, || vault.put(more)).await.unwrap();
        let seq = set(&vault, "more", b"written").await.unwrap();
        vault.sync(seq).unwrap();
        vault.close(true).await.unwrap();
        drop(vault);
        assert_eq!(disk.open.load(Ordering::Relaxed), 0);

        let (vault, store) = open().await;
        assert_eq!(cached(), packs + 1, "what was cached is still there");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let before = store.requests();
        for ((id, place), photo) in &photos {
            assert_eq!(patiently(&vault, || vault.chunk(*id, Some(place))).await.unwrap(), *photo);
        }
        vault.chunk(id, Some(&place)).unwrap();
        assert_eq!(store.requests(), before);
    });
}
