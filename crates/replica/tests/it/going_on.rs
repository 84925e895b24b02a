//! From a replica on: examined, restored elsewhere, put in the library's place.

use std::sync::Arc;

use haven_format::{layout, standing::Role};
use haven_replica::{
    Depth, Examined, Oddity, Options, PromoteOptions, ReplicaError, RestoreOptions, Restorer, Run, Side, behind,
    examine, mend, newest_standing, promote,
};
use haven_store::{DynStore, memory::Memory, meter::Verb};
use haven_testkit::{
    faults::{Fault, Faults, Order, Weather},
    seed::in_virtual_time,
};
use haven_vault::check::CheckOptions;

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

#[test]
fn a_replica_whose_log_and_roots_are_gone_stands_nowhere_whatever_it_has_noted() {
    in_virtual_time(async {
        let (source, copy) = pair(12).await;
        let says_what_it_holds = |name: &String| name.starts_with(layout::ROOTS) || name.starts_with(layout::SEGMENTS);
        copy.names().iter().filter(|name| says_what_it_holds(name)).for_each(|name| assert!(copy.lose(name)));
        let found = look(&copy, &source, Depth::Lengths).await;
        let named: Vec<_> = found.damaged.iter().map(|damage| damage.object.as_str()).collect();
        assert_eq!((found.position.segment.as_str(), named), ("", vec![layout::ROOTS]));
        let mut one = replicator(&source, source.store(), copy.clone(), Options::default());
        let told = one.sync(Run { dry_run: true, ..Run::default() }).await.unwrap();
        assert!(told.position.segment.is_empty() && !told.source.segment.is_empty(), "{told:?}");
        assert!(told.objects > 0);
        // The note still tells the replicator what it may not fall behind.
        let noted = newest_standing(&(copy.clone() as DynStore), &source.keys, Side::Replica).await.unwrap();
        assert_eq!(noted.position().segment, told.source.segment);
        let mut one = replicator(&source, source.store(), copy.clone(), Options::default());
        let told = one.sync(Run::default()).await.unwrap();
        assert_eq!(told.position.segment, told.source.segment);
        one.finish().await.unwrap();
        check_complete(&copy, &source, "brought again").await;
        // Where nothing was ever brought, nothing is gone.
        let begun = Arc::new(Memory::labelled("begun"));
        replicator(&source, source.store(), begun.clone(), Options::default()).establish().await.unwrap();
        let found = look(&begun, &source, Depth::Lengths).await;
        assert!(found.damaged.iter().all(|damage| damage.object != layout::ROOTS), "{:?}", found.damaged);
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
        // What an earlier check has called missing is read where it is, and right.
        let coming = |name: &&String| name.starts_with(layout::PACKS) && target.peek(name).is_none();
        let pack = copy.names().iter().find(coming).cloned().unwrap();
        source.vault.remember_damage([(pack, "it is not in the bucket".to_owned())]);
        let options = CheckOptions { behind: Some(copy.clone()), ..CheckOptions::default() };
        let checked = source.vault.check(&options).await.unwrap();
        assert!(checked.faults.is_empty() && checked.open.is_empty() && checked.to_come.objects > 0, "{checked:?}");
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
        let behind_by_one = promote(&new, Ok(&old), &source.keys, &source.world(), &promotion(false)).await;
        let Err(ReplicaError::WouldLose { changes, .. }) = behind_by_one else { panic!("{behind_by_one:?}") };
        assert!((1..4).contains(&changes));
        assert_eq!(role(&copy, &source).await, Some(Role::Replica));
        source.change().await;
        source.sent().await;
        sync(&source, &copy).await;
        let done = promote(&new, Ok(&old), &source.keys, &source.world(), &promotion(false)).await.unwrap();
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
            let refused = promote(&new, Ok(old), &source.keys, &source.world(), &promotion(false)).await;
            assert!(matches!(refused, Err(ReplicaError::Unasked { .. })), "{refused:?}");
        }
        let done = promote(&new, Ok(&down), &source.keys, &source.world(), &promotion(true)).await.unwrap();
        assert!(!done.fenced && done.old.is_none() && done.old_trouble.is_some());
        source.moved_to(copy.clone(), new.clone()).await;
        source.live(20).await;
        check_complete(&copy, &source, "promoted").await;
    });
}

#[test]
fn an_old_library_that_cannot_be_opened_or_claimed_is_no_hindrance_where_loss_is_accepted() {
    in_virtual_time(async {
        let (source, copy) = pair(7).await;
        let new: DynStore = copy.clone();
        let gone = || Err("there is no such directory".to_owned());
        let refused = promote(&new, gone(), &source.keys, &source.world(), &promotion(false)).await;
        assert!(matches!(refused, Err(ReplicaError::Unasked { .. })), "{refused:?}");
        assert_eq!(role(&copy, &source).await, Some(Role::Replica));
        let fork = Arc::new(copy.fork());
        let there: DynStore = fork.clone();
        let done = promote(&there, gone(), &source.keys, &source.world(), &promotion(true)).await.unwrap();
        assert_eq!(
            (done.fenced, done.old, done.old_trouble.as_deref()),
            (false, None, Some("there is no such directory"))
        );
        assert_eq!(role(&fork, &source).await, Some(Role::Library));

        let (faults, handle) = Faults::new(source.store(), 1);
        handle.order(Order::next(Fault::Denied).at(Verb::Put).times(u64::MAX));
        let read_only: DynStore = Arc::new(faults);
        let refused = promote(&new, Ok(&read_only), &source.keys, &source.world(), &promotion(false)).await;
        assert!(matches!(refused, Err(ReplicaError::Unasked { .. })), "{refused:?}");
        let done = promote(&new, Ok(&read_only), &source.keys, &source.world(), &promotion(true)).await.unwrap();
        assert_eq!((done.fenced, done.lost_changes), (false, 0));
        assert!(done.old.is_some() && done.old_trouble.unwrap().contains("claim can't be written"));
        assert_eq!(role(&copy, &source).await, Some(Role::Library));
    });
}

#[test]
fn a_replica_is_mended_from_another_copy_when_the_library_can_not_be_read() {
    in_virtual_time(async {
        let (source, copy) = pair(8).await;
        let other = Arc::new(copy.fork());
        let packs: Vec<_> = objects(&copy).into_keys().filter(|name| name.starts_with(layout::PACKS)).collect();
        packs.iter().for_each(|pack| assert!(copy.lose(pack)));
        let (down, handle) = Faults::new(source.store(), 1);
        handle.set_weather(Weather::Down);
        let copies = [("library".to_owned(), Arc::new(down) as DynStore), ("other".to_owned(), other as DynStore)];
        let damaged = look(&copy, &source, Depth::Lengths).await.damaged;
        assert!(!damaged.is_empty());
        let there: DynStore = copy.clone();
        let mended = mend(&there, &copies, &source.keys, &damaged).await.unwrap();
        assert_eq!((mended.objects.len(), mended.unread.len()), (damaged.len(), 1));
        assert!(mended.objects.iter().all(|(_, from)| from == "other") && mended.unread[0].0 == "library");
        check_complete(&copy, &source, "mended").await;
    });
}

#[test]
fn a_replicator_that_is_under_way_leaves_a_promoted_replica_alone() {
    in_virtual_time(async {
        for (seed, old_is_there) in [(9, false), (11, true)] {
            let (mut source, copy) = pair(seed).await;
            let new: DynStore = copy.clone();
            let mut running = replicator(&source, source.store(), copy.clone(), Options::default());
            let follow = Run { continuous: true, ..Run::default() };
            running.sync(follow).await.unwrap();
            let old = source.store();
            let old = if old_is_there { Ok(&old) } else { Err("gone".to_owned()) };
            promote(&new, old, &source.keys, &source.world(), &promotion(true)).await.unwrap();
            let promoted = objects(&copy);
            if !old_is_there {
                // The replicator still sees it, and somebody writes there.
                source.change().await;
                source.sent().await;
            }
            for _ in 0..2 {
                match running.sync(follow).await.unwrap_err() {
                    ReplicaError::Displaced { role, .. } => assert_eq!((role, old_is_there), (Role::Library, false)),
                    ReplicaError::Odd(oddity) => assert!(old_is_there, "{oddity}"),
                    error => panic!("{error}"),
                }
            }
            assert!(matches!(running.finish().await, Ok(()) | Err(ReplicaError::Displaced { .. })));
            assert_eq!(role(&copy, &source).await, Some(Role::Library));
            assert!(objects(&copy) == promoted, "nothing came from the old one");
        }
    });
}

#[test]
fn two_replicators_of_one_replica_do_no_harm() {
    in_virtual_time(async {
        let (mut source, copy) = pair(10).await;
        let mut running = replicator(&source, source.store(), copy.clone(), Options::default());
        for _ in 0..3 {
            source.change().await;
            source.sent().await;
            running.sync(Run { continuous: true, ..Run::default() }).await.unwrap();
            source.change().await;
            source.sent().await;
            sync(&source, &copy).await;
        }
        running.sync(Run::default()).await.unwrap();
        running.finish().await.unwrap();
        check_complete(&copy, &source, "twice followed").await;
        let standings = copy.names().into_iter().filter(|name| name.starts_with(layout::STANDINGS));
        assert_eq!((standings.count(), role(&copy, &source).await), (1, Some(Role::Replica)));
    });
}
