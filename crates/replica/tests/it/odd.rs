//! Sources from which nothing is taken.

use std::sync::Arc;

use haven_format::{layout, standing::Role};
use haven_replica::{Oddity, Options, ReplicaError, Run};
use haven_store::memory::Memory;
use haven_testkit::seed::in_virtual_time;

use crate::common::{DAY, Source, replicator};

/// A library and its replica.
async fn pair(seed: u64) -> (Source, Arc<Memory>) {
    let mut source = Source::new(seed).await;
    source.live(30).await;
    source.collect().await;
    source.live(10).await;
    let copy = Arc::new(Memory::labelled("replica"));
    let mut one = replicator(&source, source.store(), copy.clone(), Options::default());
    one.sync(Run::default()).await.unwrap();
    one.finish().await.unwrap();
    (source, copy)
}

/// What a run from `from` says; and that it changed nothing, neither by a process that has just begun nor a day later.
async fn refused(source: &Source, from: &Arc<Memory>, copy: &Arc<Memory>) -> Oddity {
    let before: Vec<_> = copy.names().into_iter().map(|name| (copy.peek(&name), name)).collect();
    let mut last = None;
    for _ in 0..2 {
        let mut one = replicator(source, from.clone(), copy.clone(), Options::default());
        match one.sync(Run::default()).await {
            Err(ReplicaError::Odd(oddity)) => last = Some(*oddity),
            other => panic!("it is taken for a library: {other:?}"),
        }
        let after: Vec<_> = copy.names().into_iter().map(|name| (copy.peek(&name), name)).collect();
        assert!(after == before, "the replica was changed");
        source.clock.turn(2 * DAY);
    }
    last.unwrap()
}

#[test]
fn a_source_that_was_wiped() {
    in_virtual_time(async {
        let (source, copy) = pair(1).await;
        assert_eq!(refused(&source, &Arc::new(Memory::new()), &copy).await, Oddity::Empty);
        let rest = Arc::new(Memory::new());
        rest.plant("p/00/readme", &b"pay here"[..]);
        let told = refused(&source, &rest, &copy).await;
        assert_eq!(told, Oddity::NoConfig { example: "p/00/readme".into() });
        let only_config = Arc::new(source.bucket.fork());
        for name in only_config.names().iter().filter(|name| !name.starts_with(layout::CONFIGS)) {
            only_config.lose(name);
        }
        assert!(matches!(refused(&source, &only_config, &copy).await, Oddity::RolledBack { .. }));
    });
}

#[test]
fn a_source_filled_with_rubbish_under_the_right_names() {
    in_virtual_time(async {
        let (source, copy) = pair(2).await;
        for kept in [&["cfg/"][..], &["cfg/", "p/", "m/"], &["cfg/", "r/"], &[]] {
            let rubbish = Arc::new(source.bucket.fork());
            for name in rubbish.names().iter().filter(|name| !kept.iter().any(|prefix| name.starts_with(prefix))) {
                let length = rubbish.peek(name).unwrap().len();
                rubbish.plant(name, vec![0xa5; length]);
            }
            let told = refused(&source, &rubbish, &copy).await;
            assert!(matches!(told, Oddity::Garbage { .. }), "all but {kept:?}: {told:?}");
        }
    });
}

#[test]
fn a_source_that_has_gone_back_to_an_older_state() {
    in_virtual_time(async {
        let mut source = Source::new(3).await;
        source.live(40).await;
        let older = Arc::new(source.bucket.fork());
        for _ in 0..3 {
            source.change().await;
            source.sent().await;
        }
        let copy = Arc::new(Memory::labelled("replica"));
        let mut one = replicator(&source, source.store(), copy.clone(), Options::default());
        one.sync(Run::default()).await.unwrap();
        let Oddity::RolledBack { theirs, ours } = refused(&source, &older, &copy).await else { panic!() };
        assert!(theirs.tx < ours.tx);

        let without_end = Arc::new(source.bucket.fork());
        let end = without_end.names().into_iter().rfind(|name| name.starts_with(layout::SEGMENTS)).unwrap();
        without_end.lose(&end);
        assert!(matches!(refused(&source, &without_end, &copy).await, Oddity::RolledBack { .. }));

        // And goes on from there, by a machine that has never seen the newer state.
        source.bucket = older;
        source.another_machine().await;
        source.states.truncate(1);
        for steps in [3, 60] {
            source.live(steps).await;
            let told = refused(&source, &source.bucket, &copy).await;
            assert!(matches!(told, Oddity::OtherHistory { .. } | Oddity::RolledBack { .. }), "{told:?}");
        }
        source.collect().await;
        let told = refused(&source, &source.bucket, &copy).await;
        assert!(matches!(told, Oddity::OtherHistory { .. } | Oddity::RolledBack { .. }), "{told:?}");
    });
}

#[test]
fn another_library() {
    in_virtual_time(async {
        let (source, copy) = pair(4).await;
        let mut other = Source::new(5).await;
        other.live(50).await;
        let told = refused(&source, &other.bucket, &copy).await;
        assert_eq!(told, Oddity::OtherLibrary { found: other.keys.library() });
    });
}

#[test]
fn places_that_are_no_replicas_are_not_written_to() {
    in_virtual_time(async {
        let (source, copy) = pair(6).await;
        let mut full = replicator(&source, source.store(), source.bucket.clone(), Options::default());
        assert!(matches!(full.sync(Run::default()).await, Err(ReplicaError::Occupied { .. })));
        let strange = Arc::new(Memory::new());
        strange.plant("holiday.jpg", &b"jpeg"[..]);
        let mut one = replicator(&source, source.store(), strange.clone(), Options::default());
        assert!(matches!(one.sync(Run::default()).await, Err(ReplicaError::Occupied { .. })));
        assert_eq!(strange.count(), 1);

        let mut other = Source::new(7).await;
        other.live(10).await;
        let mut one = replicator(&other, other.store(), copy.clone(), Options::default());
        assert!(matches!(one.sync(Run::default()).await, Err(ReplicaError::Strange { .. })));
        assert!(matches!(Role::try_from(1), Ok(Role::Replica)));
    });
}
