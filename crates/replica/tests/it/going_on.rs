//! From a replica on: examined, restored elsewhere, put in the library's place.

use std::sync::Arc;

use haven_format::{layout, standing::Role};
use haven_replica::{
    Depth, Examined, Oddity, Options, PromoteOptions, ReplicaError, RestoreOptions, Restorer, Run, Side, behind,
    examine, newest_standing, promote,
};
use haven_store::{DynStore, memory::Memory};
use haven_testkit::{
    faults::{Fault, Faults, Order, Weather},
    seed::in_virtual_time,
};

use crate::common::{Source, check_complete, objects, patiently, replicator};

async fn sync(source: &Source, copy: &Arc<Memory>) {
    let mut one = replicator(source, source.store(), copy.clone(), Options::default());
    one.sync(Run::default()).await.unwrap();
    one.finish().await.unwrap();
}

async fn pair(seed: u64) -> (Source, Arc<Memory>) {
    let mut source = Source::new(seed).await;
    source.live(60).await;
    source.collect().await;
    source.live(20).await;
    let copy = Arc::new(Memory::labelled("replica"));
    sync(&source, &copy).await;
    (source, copy)
}

async fn role(store: &Arc<Memory>, source: &Source) -> Option<Role> {
    let held = newest_standing(&(store.clone() as DynStore), &source.keys, Side::Replica).await.unwrap();
    held.standing.map(|standing| standing.role())
}

async fn look(copy: &Arc<Memory>, source: &Source, depth: Depth) -> Examined {
    examine(&(copy.clone() as DynStore), &source.keys, &source.world(), depth, 4, None).await.unwrap()
}

#[test]
fn each_kind_of_damage_is_found_at_the_depth_that_can_find_it() {
    in_virtual_time(async {
        let (source, copy) = pair(1).await;
        let whole = look(&copy, &source, Depth::Everything).await;
        assert_eq!((whole.damaged.len(), whole.objects_read), (0, whole.objects));
        assert!(whole.objects > 20);
        let sampled = look(&copy, &source, Depth::Sample(0.3)).await;
        assert!(sampled.bytes_read > whole.bytes / 10 && sampled.bytes_read < whole.bytes / 2);
        let packs: Vec<_> = objects(&copy).into_keys().filter(|name| name.starts_with(layout::PACKS)).collect();
        copy.lose(&packs[0]);
        copy.plant(&packs[1], copy.peek(&packs[1]).unwrap().slice(1..));
        let mut flipped = copy.peek(&packs[2]).unwrap().to_vec();
        flipped[20] ^= 1;
        copy.plant(&packs[2], flipped);
        let named = |found: Examined| found.damaged.into_iter().map(|damage| damage.object).collect::<Vec<_>>();
        assert_eq!(named(look(&copy, &source, Depth::Lengths).await), packs[..2]);
        assert_eq!(named(look(&copy, &source, Depth::Everything).await), packs[..3]);
    });
}

fn restorer(source: &Source, from: DynStore, to: DynStore) -> Restorer {
    let options = RestoreOptions { of: "memory:replica".into(), parallel: 4, accept_damage: false };
    Restorer::new(from, to, &source.keys, source.world(), options, None)
}

#[test]
fn a_library_that_is_being_restored_is_read_and_written_at_once() {
    in_virtual_time(async {
        let (mut source, copy) = pair(2).await;
        let target = Arc::new(Memory::labelled("target"));
        let mut one = restorer(&source, copy.clone(), target.clone());
        let begun = one.begin().await.unwrap();
        assert!(begun.bytes < copy.bytes() / 4, "metadata alone");
        assert_eq!(role(&target, &source).await, Some(Role::Restoring));

        let both = behind(target.clone(), copy.clone());
        source.moved_to(target.clone(), both.clone()).await;
        let snapshots = patiently(&source.vault, || source.vault.snapshots()).await;
        assert!(!snapshots.is_empty());
        source.live(30).await;
        source.collect().await;
        source.live(10).await;
        assert!(both.fetched() > 0);

        let done = one.complete().await.unwrap();
        assert!(done.complete && done.damaged.is_empty());
        assert_eq!(role(&target, &source).await, Some(Role::Library));
        check_complete(&target, &source, "restored").await;
        let none = Arc::new(Memory::new());
        source.moved_to(target.clone(), behind(target.clone(), none)).await;
        source.live(20).await;
        check_complete(&target, &source, "and used").await;
        assert!(copy.names().iter().all(|name| !name.starts_with(layout::LEASES)));
    });
}

#[test]
fn a_restore_cut_off_anywhere_goes_on_from_there() {
    in_virtual_time(async {
        let (source, copy) = pair(3).await;
        for requests in (0..).step_by(7) {
            let target = Arc::new(Memory::labelled("target"));
            let (faults, handle) = Faults::new(target.clone(), 1);
            handle.order(Order::next(Fault::FailAfter).after(requests).times(u64::MAX));
            let mut cut = restorer(&source, copy.clone(), Arc::new(faults));
            let ended = match cut.begin().await {
                Ok(_) => cut.complete().await.is_ok(),
                Err(_) => false,
            };
            let mut again = restorer(&source, copy.clone(), target.clone());
            if ended {
                assert!(requests > 100);
                return;
            }
            match again.begin().await {
                Ok(_) => assert!(again.complete().await.unwrap().complete),
                // Only the last word was lost.
                Err(ReplicaError::NotAReplica { role: Role::Library, .. }) => {}
                Err(error) => panic!("cut at {requests}: {error}"),
            }
            check_complete(&target, &source, &format!("cut at {requests}")).await;
            assert_eq!(role(&target, &source).await, Some(Role::Library));
        }
    });
}

#[test]
fn a_restore_from_a_copy_that_lacks_something_says_what_and_is_not_complete() {
    in_virtual_time(async {
        let (source, copy) = pair(4).await;
        let pack = objects(&copy).into_keys().find(|name| name.starts_with(layout::PACKS)).unwrap();
        let whole = copy.peek(&pack).unwrap();
        copy.lose(&pack);
        let target = Arc::new(Memory::labelled("target"));
        let mut one = restorer(&source, copy.clone(), target.clone());
        one.begin().await.unwrap();
        let done = one.complete().await.unwrap();
        assert_eq!((done.complete, done.damaged.len()), (false, 1));
        assert_eq!(done.damaged[0].object, pack);
        assert_eq!(role(&target, &source).await, Some(Role::Restoring));
        copy.plant(&pack, whole);
        assert!(one.complete().await.unwrap().complete);
        check_complete(&target, &source, "restored").await;

        let full = restorer(&source, copy.clone(), target.clone()).begin().await;
        assert!(matches!(full, Err(ReplicaError::NotAReplica { role: Role::Library, .. })));
    });
}

fn promotion(accept_loss: bool) -> PromoteOptions {
    PromoteOptions { url: "memory:replica".into(), accept_loss, version: "1".into() }
}

#[test]
fn a_promoted_replica_is_the_library_and_the_old_ones_writer_is_fenced_out() {
    in_virtual_time(async {
        let (mut source, copy) = pair(5).await;
        let (old, new): (DynStore, DynStore) = (source.store(), copy.clone());
        source.change().await;
        source.sent().await;
        let behind_by_one = promote(&new, &old, &source.keys, &source.world(), &promotion(false)).await;
        let Err(ReplicaError::WouldLose { changes, .. }) = behind_by_one else { panic!("{behind_by_one:?}") };
        assert!((1..4).contains(&changes));
        assert_eq!(role(&copy, &source).await, Some(Role::Replica));
        source.change().await;
        source.sent().await;
        sync(&source, &copy).await;
        let done = promote(&new, &old, &source.keys, &source.world(), &promotion(false)).await.unwrap();
        assert!(done.fenced && done.lost_changes == 0 && done.old.as_ref() == Some(&done.position), "{done:?}");
        assert_eq!(role(&copy, &source).await, Some(Role::Library));
        assert_eq!(role(&source.bucket, &source).await, Some(Role::Superseded));

        // The old machine notices before it is told that anything more is in the bucket.
        source.change().await;
        source.states.pop();
        assert!(source.vault.sync_bucket(source.vault.head()).await.is_err());
        let mut late = replicator(&source, old.clone(), new.clone(), Options::default());
        assert!(matches!(late.sync(Run::default()).await, Err(ReplicaError::NotAReplica { role: Role::Library, .. })));
        let fresh = Arc::new(Memory::new());
        let mut other = replicator(&source, old.clone(), fresh, Options::default());
        let Err(ReplicaError::Odd(oddity)) = other.sync(Run::default()).await else { panic!() };
        assert_eq!(*oddity, Oddity::Superseded { by: "memory:replica".into() });

        source.moved_to(copy.clone(), new.clone()).await;
        source.live(20).await;
        check_complete(&copy, &source, "promoted").await;
        let mut claims: Vec<_> = copy.names().iter().filter_map(|name| layout::parse_claim(name)).collect();
        claims.sort();
        assert!(claims.last().unwrap().0.0 > done.epoch);
    });
}

#[test]
fn where_the_old_library_cannot_be_asked_that_is_said_and_must_be_accepted() {
    in_virtual_time(async {
        let (mut source, copy) = pair(6).await;
        let new: DynStore = copy.clone();
        let (down, handle) = Faults::new(source.store(), 1);
        handle.set_weather(Weather::Down);
        let down: DynStore = Arc::new(down);
        let wiped: DynStore = Arc::new(Memory::new());
        for old in [&down, &wiped] {
            let refused = promote(&new, old, &source.keys, &source.world(), &promotion(false)).await;
            assert!(matches!(refused, Err(ReplicaError::Unasked { .. })), "{refused:?}");
        }
        let done = promote(&new, &down, &source.keys, &source.world(), &promotion(true)).await.unwrap();
        assert!(!done.fenced && done.old.is_none() && done.old_trouble.is_some());
        source.moved_to(copy.clone(), new.clone()).await;
        source.live(20).await;
        check_complete(&copy, &source, "promoted").await;
    });
}
