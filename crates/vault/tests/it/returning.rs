//! Machines that come back: after another has written, after a power cut or a kill, to a bucket that has gone back in time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use haven_format::TxSeq;
use haven_store::{DynStore, ObjectName};
use haven_testkit::{
    faults::{Faults, Rates, Weather},
    seed::in_virtual_time,
};
use haven_vault::{Change, Options, Vault, VaultError, World, disk::Disk};

use crate::{
    behaviour::{MIB, Machine, bucket, get, noise, op, set},
    disks::Frail,
    worlds::{keys, patiently},
};

#[test]
fn of_two_writers_the_older_is_told_it_lost_and_its_unsent_changes_can_be_saved() {
    // However much the other has written since.
    [1, 2, 3, 20].into_iter().for_each(the_older_of_two_writers);
}

fn the_older_of_two_writers(changes_since: usize) {
    in_virtual_time(async {
        let bucket = bucket();
        let (old, new) = (Machine::new(&bucket, 1), Machine::new(&bucket, 2));
        let first = old.open(Options::default()).await.unwrap();
        let sent = set(&first, "before", b"both know this").await.unwrap();
        first.sync_bucket(sent).await.unwrap();

        let second = new.open(Options::default()).await.unwrap();
        assert_eq!(get(&second, "before").await.unwrap(), &b"both know this"[..]);
        let photo = noise(1, 3000);
        let (id, place) = first.put(&photo).unwrap();
        let lost = first.commit(vec![op("only here", Some(b"unsent"))], Change::default()).unwrap();
        let refused = first.sync_bucket(lost).await.unwrap_err();
        assert!(matches!(&refused, VaultError::ReadOnly { why } if why.contains("machine-2")), "{refused}");
        assert!(first.status().fenced);
        assert!(matches!(set(&first, "more", b"x").await, Err(VaultError::ReadOnly { .. })));
        let mut after = TxSeq(0);
        for _ in 0..changes_since {
            after = set(&second, "after", b"the library goes on").await.unwrap();
        }
        second.sync_bucket(after).await.unwrap();
        if changes_since == 20 {
            second.checkpoint().await.unwrap();
        }
        first.close(false).await.unwrap();

        let refused = old.open(Options::default()).await.unwrap_err();
        assert!(refused.to_string().contains("haven salvage"), "{refused}");
        let saved = old.open(Options { salvage: true, ..Options::default() }).await.unwrap();
        assert_eq!(get(&saved, "only here").await.unwrap(), &b"unsent"[..]);
        assert_eq!(get(&saved, "after").await, None);
        assert_eq!(patiently(&saved, || saved.chunk(id, Some(&place))).await.unwrap(), photo);
        saved.close(false).await.unwrap();

        Vault::forget_unsent(&old.world(bucket.clone())).unwrap();
        let third = old.open(Options::default()).await.unwrap();
        assert_eq!(get(&third, "after").await.unwrap(), &b"the library goes on"[..]);
        assert_eq!(get(&third, "only here").await, None);
    });
}

#[test]
fn what_a_fenced_machine_alone_may_have_does_not_give_way() {
    in_virtual_time(async {
        let bucket = bucket();
        let (old, new) = (Machine::new(&bucket, 1), Machine::new(&bucket, 2));
        let (first, store) = old.open_faulty(Options::default()).await;
        new.open(Options::default()).await.unwrap();
        let slow = Duration::from_secs(10);
        store.set_rates(Rates { latency: (slow, slow), ..Rates::default() });
        // The segment arrives, and then it is seen that another writes; a pack is on its way.
        set(&first, "before", b"1").await.unwrap();
        tokio::time::sleep(Duration::from_secs(25)).await;
        (0..17).for_each(|n| drop(first.put(&noise(n, MIB)).unwrap()));
        set(&first, "only here", b"2").await.unwrap();
        assert!(first.stopped().is_none());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(first.status().fenced);
        assert_eq!((old.disk.list("packs").unwrap().len(), first.status().cache_clean), (1, 0));
        first.close(false).await.unwrap();
        drop(first);
        // Nor for who looks at what the other has made of it.
        let reader = old.open(Options { read_only: true, ..Options::default() }).await.unwrap();
        assert_eq!((old.disk.list("packs").unwrap().len(), reader.status().cache_clean), (1, 0));
    });
}

#[test]
fn what_is_written_after_all_claims_were_lost_ranks_above_what_it_builds_on() {
    in_virtual_time(async {
        let bucket = bucket();
        let write = async |machine: u64| {
            let vault = Machine::new(&bucket, machine).open(Options::default()).await.unwrap();
            let seq = set(&vault, "who", &[machine as u8]).await.unwrap();
            vault.sync_bucket(seq).await.unwrap();
            vault.close(false).await.unwrap();
        };
        for machine in 1..4 {
            write(machine).await;
        }
        for claim in bucket.list(haven_format::layout::CLAIMS, None, 100).await.unwrap().objects {
            bucket.delete(&claim.name).await.unwrap();
        }
        write(4).await;
        let reader = Machine::new(&bucket, 5).open(Options { read_only: true, ..Options::default() }).await.unwrap();
        assert_eq!(get(&reader, "who").await.unwrap(), &[4][..]);
    });
}

/// Another machine writes, and makes a root of it; then this one is opened again.
async fn comes_back_after_another(machine: &Machine) {
    let other = Machine::new(&machine.bucket, 2).open(Options::default()).await.unwrap();
    for _ in 0..5 {
        set(&other, "theirs", b"2").await.unwrap();
    }
    other.checkpoint().await.unwrap();
    other.close(true).await.unwrap();
    let again = machine.open(Options::default()).await.unwrap();
    assert_eq!(get(&again, "theirs").await.unwrap(), &b"2"[..]);
}

/// Nobody closes anything.
#[test]
fn a_machine_that_lost_power_when_all_was_in_the_bucket_may_come_back_after_another() {
    in_virtual_time(async {
        let mut machine = Machine::new(&bucket(), 1);
        let vault = machine.open(Options::default()).await.unwrap();
        let last = set(&vault, "mine", b"1").await.unwrap();
        vault.sync(last).unwrap();
        vault.sync_bucket(last).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let syncs = vault.status().syncs;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(vault.status().syncs, syncs, "an idle disk is left alone");
        // Nothing that was not synced survives.
        machine.disk = machine.disk.power_cut(|_| 0);
        drop(vault);
        comes_back_after_another(&machine).await;
    });
}

#[test]
fn a_machine_that_left_all_in_the_bucket_may_come_back_after_another() {
    in_virtual_time(async {
        let machine = Machine::new(&bucket(), 1);
        let frail = Frail::new(&machine.disk);
        let (faults, store) = Faults::new(machine.bucket.clone(), 1);
        let world = World { disk: Arc::new(frail.clone()), ..machine.world(Arc::new(faults)) };
        let vault = Vault::open(world, keys(), Options::default()).await.unwrap();
        store.set_rates(Rates { latency: (Duration::from_secs(10), Duration::from_secs(10)), ..Rates::default() });
        let last = set(&vault, "mine", b"1").await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        // The note of its arrival finds no room.
        frail.no_journal.store(true, Ordering::Relaxed);
        vault.sync_bucket(last).await.unwrap();
        frail.no_journal.store(false, Ordering::Relaxed);
        vault.close(true).await.unwrap();
        comes_back_after_another(&machine).await;
    });
}

/// The segment is in the bucket and the journal does not say so yet; and the file that told of the session is trimmed.
#[test]
fn a_kill_between_a_segment_and_its_note_is_no_other_history_however_long_the_session_is() {
    in_virtual_time(async {
        let mut machine = Machine::new(&bucket(), 1);
        let (vault, store) = machine.open_faulty(Options::default()).await;
        let first = machine.disk.list("journal").unwrap();
        let mut last = TxSeq(0);
        for n in 0..40 {
            last = set(&vault, &format!("{n}"), &noise(n, MIB / 2)).await.unwrap();
        }
        vault.sync_bucket(last).await.unwrap();
        while machine.disk.list("journal").unwrap().iter().any(|name| first.contains(name)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        store.set_rates(Rates { latency: (Duration::from_secs(10), Duration::from_secs(10)), ..Rates::default() });
        let sent = set(&vault, "sent", b"on its way").await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let unsent = set(&vault, "unsent", b"not yet").await.unwrap();
        let killed = machine.disk.killed();
        while vault.uploaded() < sent {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(vault.uploaded(), sent);
        drop(vault);
        machine.disk = killed;
        let again = machine.open(Options::default()).await.unwrap();
        assert_eq!(again.head(), unsent);
        assert_eq!(get(&again, "unsent").await.unwrap(), &b"not yet"[..]);
    });
}

/// A library with one change in its bucket, and the names of all that is there then.
async fn with_a_past(machine: &Machine) -> (Arc<Vault>, Vec<ObjectName>) {
    let vault = machine.open(Options::default()).await.unwrap();
    let seq = set(&vault, "old", b"1").await.unwrap();
    vault.sync_bucket(seq).await.unwrap();
    let there = machine.bucket.list("", None, 1000).await.unwrap().objects;
    (vault, there.into_iter().map(|object| object.name).collect())
}

/// The bucket is as it was then.
async fn go_back(bucket: &DynStore, then: &[ObjectName]) {
    for object in bucket.list("", None, 1000).await.unwrap().objects {
        if !then.contains(&object.name) {
            bucket.delete(&object.name).await.unwrap();
        }
    }
}

#[test]
fn a_bucket_gone_back_in_time_is_noticed_by_whoever_has_seen_newer() {
    in_virtual_time(async {
        let bucket = bucket();
        let machine = Machine::new(&bucket, 1);
        let (vault, old) = with_a_past(&machine).await;
        let photo = noise(1, 3000);
        let (id, _) = vault.put(&photo).unwrap();
        for n in 0..5 {
            let seq = set(&vault, "new", &[n]).await.unwrap();
            vault.sync_bucket(seq).await.unwrap();
        }
        vault.close(true).await.unwrap();
        go_back(&bucket, &old).await;
        let refused = machine.open(Options::default()).await.unwrap_err();
        assert!(refused.to_string().contains("gone back in time"), "{refused}");
        let accepted = machine.open(Options { accept_rollback: true, ..Options::default() }).await.unwrap();
        assert_eq!(get(&accepted, "old").await.unwrap(), &b"1"[..]);
        // What this machine still has of what the bucket has lost goes there again, bytes and all.
        assert_eq!(get(&accepted, "new").await.unwrap(), &[4][..]);
        accepted.sync_bucket(accepted.head()).await.unwrap();
        let elsewhere = Machine::new(&bucket, 2).open(Options::default()).await.unwrap();
        let place = patiently(&elsewhere, || elsewhere.kept(id)).await.unwrap().unwrap();
        assert_eq!(patiently(&elsewhere, || elsewhere.chunk(id, Some(&place))).await.unwrap(), photo);
    });
}

#[test]
fn of_what_a_bucket_gone_back_has_lost_nothing_is_sent_again_that_is_not_whole_here() {
    for (evicted, failed) in [(true, false), (true, true), (false, false), (false, true)] {
        what_is_not_whole_is_not_sent_again(evicted, failed);
    }
}

/// The copy here has given way, or has a hole behind its first photo; and a first mount may have failed.
fn what_is_not_whole_is_not_sent_again(evicted: bool, failed: bool) {
    in_virtual_time(async {
        let bucket = bucket();
        let machine = Machine::new(&bucket, 1);
        let (vault, old) = with_a_past(&machine).await;
        // One pack has both.
        vault.put(&noise(2, 3000)).unwrap();
        set(&vault, "whole", b"2").await.unwrap();
        let photo = noise(1, 3000);
        let (_, place) = vault.put(&photo).unwrap();
        let seq = set(&vault, "new", b"2").await.unwrap();
        // The journal says from now on that the disk has it.
        vault.sync(seq).unwrap();
        vault.sync_bucket(seq).await.unwrap();
        vault.close(true).await.unwrap();
        go_back(&bucket, &old).await;
        let copy = format!("packs/{}", place.pack_id().unwrap());
        if evicted {
            machine.disk.remove(&copy).unwrap();
        } else {
            let file = machine.disk.open(&copy).unwrap();
            file.punch(u64::from(place.offset), u64::from(place.len)).unwrap();
        }
        let accept = Options { accept_rollback: true, ..Options::default() };
        if failed {
            let (faults, handle) = Faults::new(bucket.clone(), 1);
            handle.set_weather(Weather::ReadOnly);
            Vault::open(machine.world(Arc::new(faults)), keys(), accept.clone()).await.unwrap_err();
        }
        let vault = machine.open(accept).await.unwrap();
        assert_eq!(get(&vault, "old").await.unwrap(), &b"1"[..]);
        assert_eq!(get(&vault, "whole").await.is_some(), !evicted);
        assert_eq!(get(&vault, "new").await, None, "its photo is not here");
        let (id, place) = vault.put(&photo).unwrap();
        let seq = set(&vault, "again", b"3").await.unwrap();
        vault.sync_bucket(seq).await.unwrap();
        let elsewhere = Machine::new(&bucket, 2).open(Options::default()).await.unwrap();
        assert_eq!(patiently(&elsewhere, || elsewhere.chunk(id, Some(&place))).await.unwrap(), photo);
    });
}
