//! At every instant the replica is a state that the library had: filmed put by put, and cut off at every request.

use std::sync::Arc;

use haven_replica::{Options, Run};
use haven_store::memory::Memory;
use haven_testkit::{
    faults::{Fault, Faults, Order},
    seed::{each_world, in_virtual_time},
};

use crate::common::{Filmed, Photos, Source, check_complete, photos_in, replicator};

/// Which of `states`, from number `from` on, the copy holds.
async fn state_of(copy: &Arc<Memory>, source: &Source, states: &[Photos], from: usize, when: &str) -> usize {
    let photos = photos_in(copy, &source.keys).await.unwrap_or_else(|why| panic!("{when}: {why}"));
    let found = states.iter().enumerate().skip(from).find(|(_, state)| **state == photos);
    found.unwrap_or_else(|| panic!("{when}: {} photos are no state from {from} on", photos.len())).0
}

#[test]
fn a_replica_filmed_put_by_put_is_a_library_in_every_frame() {
    each_world(12, |seed| async move {
        let mut source = Source::new(seed).await;
        let copy = Arc::new(Memory::labelled("replica"));
        let mut at = 0;
        for round in 0..6 {
            source.live(25).await;
            if round == 3 {
                source.another_machine().await;
                source.live(10).await;
            }
            if round % 2 == 1 {
                source.collect().await;
            }
            let filmed = Filmed::new(&copy);
            let options = Options { grace: std::time::Duration::ZERO, brake_floor: u64::MAX, ..Options::default() };
            let mut one = replicator(&source, source.store(), filmed.clone(), options);
            let summary = one.sync(Run::default()).await.unwrap();
            one.finish().await.unwrap();
            assert_eq!(summary.damaged, [], "seed {seed}, round {round}");
            let film = std::mem::take(&mut *filmed.film.lock());
            for (what, frame) in film {
                let when = format!("seed {seed}, round {round}, after {what}");
                at = state_of(&Arc::new(frame), &source, &source.states, at, &when).await;
            }
            check_complete(&copy, &source, "at the end").await;
        }
    });
}

#[test]
fn cut_off_at_any_request_it_is_a_library_and_the_next_run_ends_where_the_source_ends() {
    in_virtual_time(async {
        let mut source = Source::new(1).await;
        source.live(30).await;
        let base = Arc::new(Memory::labelled("replica"));
        replicator(&source, source.store(), base.clone(), Options::default()).sync(Run::default()).await.unwrap();
        source.live(20).await;
        source.collect().await;
        source.live(15).await;
        for side in ["source", "replica"] {
            for fault in [Fault::FailBefore, Fault::FailAfter] {
                cut_everywhere(&source, &base, side, &fault).await;
            }
        }
    });
}

async fn cut_everywhere(source: &Source, base: &Arc<Memory>, side: &str, fault: &Fault) {
    for requests in 0.. {
        let copy = Arc::new(base.fork());
        let faulty = if side == "source" { source.store() } else { copy.clone() };
        let (faults, handle) = Faults::new(faulty, 1);
        handle.order(Order::next(fault.clone()).after(requests).times(u64::MAX));
        let faults = Arc::new(faults);
        let options = Options { grace: std::time::Duration::ZERO, brake_floor: u64::MAX, ..Options::default() };
        let cut = if side == "source" {
            replicator(source, faults, copy.clone(), options.clone()).sync(Run::default()).await
        } else {
            replicator(source, source.store(), faults, options.clone()).sync(Run::default()).await
        };
        let when = format!("{side} cut at request {requests} ({fault:?})");
        state_of(&copy, source, &source.states, 0, &when).await;
        let mut again = replicator(source, source.store(), copy.clone(), options);
        let summary = again.sync(Run::default()).await.unwrap_or_else(|error| panic!("{when}: {error}"));
        again.finish().await.unwrap();
        assert_eq!(summary.damaged, [], "{when}");
        check_complete(&copy, source, &when).await;
        if cut.is_ok() && handle.incidents().is_empty() {
            assert!(requests > 20, "the {side} was asked only {requests} times");
            return;
        }
    }
}
