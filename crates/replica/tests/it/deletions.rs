//! Deletions that follow the library's own.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use haven_format::{
    Ino, Nonce, layout,
    lease::Lease,
    record::{self, Dead, Extent, Op},
};
use haven_replica::{Options, Run, Summary};
use haven_store::memory::Memory;
use haven_testkit::seed::in_virtual_time;
use prost::Message;
use rand::Rng;

use crate::common::{DAY, Source, check_complete, objects, patiently, replicator};

const GRACE: Duration = Duration::from_secs(10 * DAY as u64);

async fn sync(source: &Source, copy: &Arc<Memory>, run: Run) -> Summary {
    let options = Options { grace: GRACE, brake_floor: 0, ..Options::default() };
    let mut one = replicator(source, source.store(), copy.clone(), options);
    let summary = one.sync(run).await.unwrap();
    one.finish().await.unwrap();
    assert_eq!(summary.damaged, []);
    check_complete(copy, source, "after a run").await;
    summary
}

fn packs(store: &Memory) -> usize {
    store.names().iter().filter(|name| name.starts_with(layout::PACKS)).count()
}

/// A source whose garbage is collected each day, a little at a time, and its replica.
async fn days(seed: u64) -> (Source, Arc<Memory>) {
    let mut source = Source::new(seed).await;
    let copy = Arc::new(Memory::labelled("replica"));
    source.live(150).await;
    sync(&source, &copy, Run::default()).await;
    (source, copy)
}

#[test]
fn they_come_after_the_replicas_own_grace_and_leave_what_is_needed() {
    in_virtual_time(async {
        let (mut source, copy) = days(1).await;
        source.collect().await;
        let extra = |copy: &Memory| objects(copy).keys().filter(|name| source.bucket.peek(name).is_none()).count();
        let told = sync(&source, &copy, Run { release_brake: true, ..Run::default() }).await;
        assert_eq!(told.deletions.objects, 0, "nothing is due");
        assert!(told.deletions.waiting_objects > 3, "{:?}", told.deletions);
        assert!(extra(&copy) > 3);
        source.clock.turn(9 * DAY);
        assert_eq!(sync(&source, &copy, Run::default()).await.deletions.objects, 0);
        source.clock.turn(2 * DAY);
        let told = sync(&source, &copy, Run { release_brake: true, ..Run::default() }).await;
        assert!(told.deletions.objects > 3);
        assert_eq!(
            extra(&copy),
            0,
            "{:?}",
            objects(&copy).keys().filter(|n| source.bucket.peek(n).is_none()).collect::<Vec<_>>()
        );
    });
}

#[test]
fn too_much_in_one_day_stops_and_waits_until_it_is_released() {
    in_virtual_time(async {
        let (mut source, copy) = days(2).await;
        // Everything is removed, as ransomware or a slip would.
        let all: Vec<_> = source.photos().into_keys().collect();
        let gone = all.iter().map(|key| haven_format::record::Op { key: key.clone(), value: None }).collect();
        source.commit(gone).await;
        source.states.last_mut().unwrap().clear();
        for (name, _) in crate::common::patiently(&source.vault, || source.vault.snapshots()).await {
            crate::common::patiently(&source.vault, || source.vault.remove_snapshot(&name)).await;
        }
        source.sent().await;
        source.collect().await;
        assert_eq!(packs(&source.bucket), 0);
        let there = packs(&copy);
        source.clock.turn(11 * DAY);
        for _ in 0..3 {
            let told = sync(&source, &copy, Run::default()).await;
            assert!(told.brake.contains("would go within a day"), "{told:?}");
            assert_eq!((told.deletions.objects, packs(&copy)), (0, there));
            source.clock.turn(DAY);
        }
        let dry = Run { dry_run: true, release_brake: true, ..Run::default() };
        let told = sync(&source, &copy, dry).await;
        assert!(told.deletions.objects as usize > there);
        assert_eq!(packs(&copy), there);
        let told = sync(&source, &copy, Run { release_brake: true, ..Run::default() }).await;
        assert_eq!((told.brake.as_str(), packs(&copy)), ("", 0));
        // What was let go is not counted a second time.
        source.live(30).await;
        source.collect().await;
        sync(&source, &copy, Run::default()).await;
        assert_eq!(sync(&source, &copy, Run::default()).await.brake, "");
    });
}

#[test]
fn what_goes_with_packs_of_which_a_little_was_moved_is_counted() {
    in_virtual_time(async {
        let mut source = Source::new(5).await;
        let copy = Arc::new(Memory::labelled("replica"));
        // Of each ten photos that went into a pack together, nine are deleted later.
        let mut photos = crate::common::Photos::new();
        for pack in 0..6_u64 {
            let mut ops = Vec::new();
            for number in 0..10 {
                let mut bytes = vec![0; 20_000];
                source.rng.fill(&mut bytes[..]);
                let (id, place) = patiently(&source.vault, || source.vault.put(&bytes)).await;
                let chunk = Bytes::copy_from_slice(&id.0);
                let extent = Extent { len: bytes.len() as u64, chunk, skip: 0, place: Some(place) };
                let key = record::extent_key(Ino(1000 + 10 * pack + number), 0);
                ops.push(Op { key: key.clone(), value: Some(extent.encode_to_vec().into()) });
                photos.insert(key, bytes.into());
            }
            source.commit(ops).await;
            source.sent().await;
        }
        *source.states.last_mut().unwrap() = photos.clone();
        sync(&source, &copy, Run::default()).await;
        let (before, bytes) = (packs(&copy), copy.bytes());
        assert_eq!(before, 6);
        let gone: Vec<_> = photos.keys().enumerate().filter(|(n, _)| n % 10 != 0).map(|(_, key)| key.clone()).collect();
        source.commit(gone.iter().map(|key| Op { key: key.clone(), value: None }).collect()).await;
        source.states.last_mut().unwrap().retain(|key, _| !gone.contains(key));
        source.sent().await;
        source.collect().await;
        sync(&source, &copy, Run::default()).await;
        source.clock.turn(11 * DAY);
        let told = sync(&source, &copy, Run::default()).await;
        assert!(told.brake.contains("would go within a day"), "{told:?}");
        assert!(packs(&copy) > before && copy.bytes() > bytes);
        let told = sync(&source, &copy, Run { release_brake: true, ..Run::default() }).await;
        assert!(told.deletions.objects >= 6);
        assert!(copy.bytes() < bytes / 2);
    });
}

#[test]
fn packs_that_were_moved_as_they_were_too_small_do_not_pull_the_brake() {
    let moved = |lost| Dead { moved: true, lost, ..Dead::default() };
    assert_eq!((moved(Some(0)).loss(100), moved(Some(40)).loss(100), moved(Some(400)).loss(100)), (0, 40, 100));
    assert_eq!((moved(None).loss(100), Dead::default().loss(100)), (100, 100), "not known: all of it");
}

#[test]
fn nothing_goes_because_a_listing_lacks_it() {
    in_virtual_time(async {
        let (source, copy) = days(3).await;
        let before = objects(&copy);
        let root = source.newest_root();
        for name in source.bucket.names() {
            let old_log = layout::parse_segment(&name).is_some_and(|(lsn, ..)| lsn.0 <= root.lsn);
            let old_root = name.starts_with(layout::ROOTS) && name != root.name().unwrap();
            if old_log || old_root || name.starts_with(layout::CLAIMS) {
                source.bucket.lose(&name);
            }
        }
        source.clock.turn(100 * DAY);
        let options = Options { grace: Duration::ZERO, brake_floor: u64::MAX, ..Options::default() };
        let mut one = replicator(&source, source.store(), copy.clone(), options);
        let told = one.sync(Run { release_brake: true, ..Run::default() }).await.unwrap();
        assert_eq!(told.deletions, Default::default());
        assert!(objects(&copy) == before);
    });
}

#[test]
fn what_a_reader_has_leased_on_the_replica_stays() {
    in_virtual_time(async {
        let (mut source, copy) = days(4).await;
        for _ in 0..2 {
            source.checkpoint().await;
            source.sent().await;
        }
        sync(&source, &copy, Run::default()).await;
        let root = source.newest_root().name().unwrap();
        let before = Arc::new(copy.fork());
        source.live(30).await;
        source.collect().await;
        source.clock.turn(11 * DAY);
        let lease = Lease {
            until: (source.clock_seconds() + DAY) as u64,
            nonce: vec![1; Nonce::LEN],
            root: root.clone(),
            ..Lease::default()
        };
        copy.plant(&lease.name().unwrap(), lease.seal(&source.keys, [0; 12]).unwrap());
        let release = Run { release_brake: true, ..Run::default() };
        sync(&source, &copy, release).await;
        let needed = |name: &&String| !name.starts_with(layout::ROOTS) || **name == root;
        for name in objects(&before).keys().filter(needed).filter(|name| !name.starts_with("m/")) {
            let old_log = layout::parse_segment(name).is_some();
            assert!(old_log || copy.peek(name).is_some(), "{name} is gone");
        }
        source.clock.turn(2 * DAY);
        let told = sync(&source, &copy, release).await;
        assert!(told.deletions.objects > 0);
        assert_eq!(copy.peek(&root), None);
    });
}
