//! A faulty store does the harm that was ordered, and no other.

use std::{sync::Arc, time::Duration};

use haven_store::{ObjectName, PutMode, Store, StoreError, memory::Memory, meter::Verb};
use haven_testkit::{
    faults::{Fault, FaultHandle, Faults, Order, Rates, Weather},
    seed::in_virtual_time,
};

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).expect("a valid name")
}

fn faulty(seed: u64) -> (Arc<Memory>, Faults, FaultHandle) {
    let memory = Arc::new(Memory::new());
    let (store, handle) = Faults::new(memory.clone(), seed);
    (memory, store, handle)
}

async fn put(store: &Faults, text: &str) -> Result<(), StoreError> {
    store.put(&name(text), "0123456789".into(), PutMode::Always).await
}

#[test]
fn without_orders_it_is_as_good_as_its_store() {
    use haven_store::suite::{Honours, conformance};
    let (_, store, handle) = faulty(1);
    in_virtual_time(conformance(Arc::new(store), Honours::ALL));
    assert!(handle.requests() > 1000);
    assert!(handle.incidents().is_empty());
}

#[test]
fn a_fault_before_has_no_effect_and_a_lost_answer_has_it_whole() {
    in_virtual_time(async {
        let (memory, store, handle) = faulty(1);
        for fault in [Fault::FailBefore, Fault::NoBucket, Fault::Denied, Fault::Full, Fault::Unauthorized] {
            handle.order(Order::next(fault));
            assert!(put(&store, "before").await.is_err());
            assert!(memory.peek("before").is_none());
        }
        handle.order(Order::next(Fault::FailAfter));
        assert!(matches!(put(&store, "after").await, Err(StoreError::Unavailable { .. })));
        assert!(memory.peek("after").is_some());
    });
}

#[test]
fn an_order_waits_for_its_verb_name_and_turn() {
    in_virtual_time(async {
        let (_, store, handle) = faulty(1);
        handle.order(Order::next(Fault::FailBefore).at(Verb::Put).on("l/").after(1).times(2));
        put(&store, "p/1").await.expect("another name");
        put(&store, "l/1").await.expect("the first passes");
        store.get(&name("l/1")).await.expect("another verb");
        put(&store, "l/2").await.expect_err("the second does not");
        put(&store, "l/2").await.expect_err("nor the third");
        put(&store, "l/2").await.expect("then it is used up");
        assert_eq!(handle.waiting(), 0);
        assert_eq!(handle.counts().into_iter().collect::<Vec<_>>(), [("fail_before", 2)]);
        assert_eq!(handle.incidents()[0].request, 4);
    });
}

#[test]
fn damage_is_in_the_answer_and_not_in_the_object() {
    in_virtual_time(async {
        let (memory, store, handle) = faulty(1);
        put(&store, "a").await.expect("a put");
        handle.order(Order::next(Fault::FlipByte));
        handle.order(Order::next(Fault::CutShort));
        handle.order(Order::next(Fault::Vanished));
        let flipped = store.get(&name("a")).await.expect("an answer");
        let differ = flipped.iter().zip(b"0123456789").filter(|(a, b)| a != b).count();
        assert_eq!((flipped.len(), differ), (10, 1));
        assert!(store.get_range(&name("a"), 0..10).await.expect("an answer").len() < 10);
        assert!(matches!(store.head(&name("a")).await, Err(StoreError::NotFound { .. })));
        assert_eq!(memory.peek("a").as_deref(), Some(&b"0123456789"[..]));
    });
}

#[test]
fn a_stale_listing_lacks_the_newest_names() {
    in_virtual_time(async {
        let (memory, store, handle) = faulty(1);
        memory.plant("old", "x");
        put(&store, "new").await.expect("a put");
        handle.order(Order::next(Fault::StaleList));
        let listed = |page: haven_store::ListPage| page.objects.len();
        assert_eq!(listed(store.list("", None, 10).await.expect("a stale listing")), 1);
        assert_eq!(listed(store.list("", None, 10).await.expect("a true one")), 2);
    });
}

#[test]
fn weather_lasts_until_it_changes() {
    in_virtual_time(async {
        let (_, store, handle) = faulty(1);
        put(&store, "a").await.expect("a put");
        handle.set_down(true);
        for _ in 0..3 {
            assert!(matches!(store.get(&name("a")).await, Err(StoreError::Unavailable { .. })));
        }
        handle.set_weather(Weather::ReadOnly);
        store.get(&name("a")).await.expect("reads go on");
        assert!(matches!(put(&store, "b").await, Err(StoreError::Denied { .. })));
        handle.set_weather(Weather::Hanging);
        let hung = tokio::time::timeout(Duration::from_secs(3600), store.get(&name("a"))).await;
        assert!(hung.is_err(), "it answered");
        handle.calm();
        put(&store, "b").await.expect("fine again");
    });
}

#[test]
fn the_same_seed_gives_the_same_faults() {
    let play = |seed| {
        in_virtual_time(async {
            let (_, store, handle) = faulty(seed);
            handle.set_rates(Rates { vanished: 0.1, ..Rates::rough(0.4) });
            for round in 0..200 {
                let _ = put(&store, &format!("n/{}", round % 7)).await;
                let _ = store.get(&name("n/3")).await;
            }
            handle.incidents()
        })
    };
    let (one, again, other) = (play(7), play(7), play(8));
    assert!(one.len() > 50, "only {} faults", one.len());
    assert_eq!(one, again);
    assert_ne!(one, other);
}
