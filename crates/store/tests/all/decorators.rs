//! What retry, limit, meter and timeout do, in virtual time and against ordered faults.

use std::{sync::Arc, time::Duration};

use haven_store::{
    DynStore, PutMode, Stack, Store, StoreError, StoreOptions,
    limit::{Limit, LimitConfig},
    memory::Memory,
    meter::{Meter, Verb},
    retry::{Retry, RetryConfig},
    suite::{Honours, conformance},
    timeout::{Timeout, TimeoutConfig},
};
use haven_testkit::{
    faults::{Fault, FaultHandle, Faults, Order, Rates, Weather},
    seed::{each_world, in_virtual_time},
};
use tokio::time::Instant;

use crate::name;

fn faulty(seed: u64) -> (Arc<Memory>, DynStore, FaultHandle) {
    let memory = Arc::new(Memory::new());
    let (store, handle) = Faults::new(memory.clone(), seed);
    (memory, Arc::new(store), handle)
}

fn seeded(config: RetryConfig) -> RetryConfig {
    RetryConfig { seed: Some(1), ..config }
}

async fn put(store: &dyn Store, text: &str, mode: PutMode) -> Result<(), StoreError> {
    store.put(&name(text), "body".into(), mode).await
}

#[test]
fn a_rough_network_is_not_noticed_behind_retry() {
    each_world(20, |seed| async move {
        let (_, store, handle) = faulty(seed);
        handle.set_rates(Rates { fail_after: 0.2, no_bucket: 0.05, denied: 0.05, ..Rates::rough(0.3) });
        let retry = Retry::new(store, seeded(RetryConfig::for_ever()));
        conformance(Arc::new(retry), Honours::ALL).await;
        assert!(handle.incidents().len() > 100);
    });
}

#[test]
fn a_create_whose_answer_was_lost_is_a_success() {
    in_virtual_time(async {
        let (memory, store, handle) = faulty(1);
        let retry = Retry::new(store, seeded(RetryConfig::default()));
        handle.order(Order::next(Fault::FailAfter).at(Verb::Put));
        put(&retry, "ours", PutMode::IfAbsent).await.expect("our own object is no stranger");

        memory.plant("theirs", "another body");
        handle.order(Order::next(Fault::FailBefore).at(Verb::Put));
        let lost = put(&retry, "theirs", PutMode::IfAbsent).await;
        assert!(matches!(lost, Err(StoreError::Exists { .. })), "{lost:?}");
        assert_eq!(memory.peek("theirs").as_deref(), Some(&b"another body"[..]));
    });
}

#[test]
fn an_equal_object_that_was_there_before_the_first_try_is_a_stranger() {
    in_virtual_time(async {
        let (memory, store, _) = faulty(1);
        memory.plant("a", "body");
        let retry = Retry::new(store, seeded(RetryConfig::default()));
        assert!(matches!(put(&retry, "a", PutMode::IfAbsent).await, Err(StoreError::Exists { .. })));
    });
}

#[test]
fn a_lost_answer_to_a_conditional_replace_is_a_success() {
    in_virtual_time(async {
        let (memory, store, handle) = faulty(1);
        memory.plant("a", "before");
        let retry = Retry::new(store, seeded(RetryConfig::default()));
        let etag = retry.head(&name("a")).await.expect("a head").etag.expect("an ETag");
        handle.order(Order::next(Fault::FailAfter).at(Verb::Put));
        put(&retry, "a", PutMode::IfMatch(etag)).await.expect("it was ours");
    });
}

#[test]
fn patience_ends_and_the_last_error_is_told() {
    in_virtual_time(async {
        let (_, store, handle) = faulty(1);
        handle.set_down(true);
        let patience = Duration::from_secs(300);
        let retry = Retry::new(store, seeded(RetryConfig { patience, ..RetryConfig::default() }));
        let begun = Instant::now();
        let error = retry.get(&name("a")).await.expect_err("it is down");
        assert!(matches!(error, StoreError::Unavailable { .. }));
        let waited = begun.elapsed();
        assert!(waited <= patience && waited > patience / 2, "{waited:?}");
    });
}

#[test]
fn what_a_person_must_mend_is_told_at_once_unless_patient() {
    in_virtual_time(async {
        let (memory, store, handle) = faulty(1);
        memory.plant("a", "body");
        handle.set_weather(Weather::BadKey);
        let hasty = Retry::new(store.clone(), seeded(RetryConfig::default()));
        let begun = Instant::now();
        assert!(matches!(hasty.get(&name("a")).await, Err(StoreError::Unauthorized { .. })));
        assert_eq!(begun.elapsed(), Duration::ZERO);

        let patient = Arc::new(Retry::new(store, seeded(RetryConfig::for_ever())));
        let reading = tokio::spawn({
            let patient = patient.clone();
            async move { patient.get(&name("a")).await }
        });
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        assert!(!reading.is_finished());
        handle.calm();
        assert_eq!(reading.await.expect("no panic").expect("the key works again"), "body");
    });
}

#[test]
fn answers_are_not_asked_for_twice() {
    in_virtual_time(async {
        let (_, store, handle) = faulty(1);
        let retry = Retry::new(store, seeded(RetryConfig::for_ever()));
        assert!(matches!(retry.get(&name("absent")).await, Err(StoreError::NotFound { .. })));
        assert_eq!(handle.requests(), 1);
    });
}

#[test]
fn the_time_a_busy_store_asks_for_is_honoured() {
    in_virtual_time(async {
        let (memory, store, handle) = faulty(1);
        memory.plant("a", "body");
        handle.order(Order::next(Fault::Busy(Duration::from_secs(7))));
        let retry = Retry::new(store, seeded(RetryConfig::default()));
        let begun = Instant::now();
        retry.get(&name("a")).await.expect("the second try");
        assert!(begun.elapsed() >= Duration::from_secs(7), "{:?}", begun.elapsed());
    });
}

#[test]
fn trouble_begins_with_the_first_failure_and_ends_with_an_answer() {
    in_virtual_time(async {
        let (memory, store, handle) = faulty(1);
        memory.plant("a", "body");
        let retry =
            Retry::new(store, seeded(RetryConfig { patience: Duration::from_secs(10), ..RetryConfig::default() }));
        let trouble = retry.trouble();
        assert!(trouble.borrow().is_none());
        handle.set_down(true);
        let begun = Instant::now();
        retry.get(&name("a")).await.expect_err("it is down");
        let told = trouble.borrow().clone().expect("there is trouble");
        assert_eq!(told.since, begun);
        assert!(told.failures >= 2, "{told:?}");
        handle.calm();
        retry.get(&name("a")).await.expect("it is up");
        assert!(trouble.borrow().is_none());
    });
}

#[test]
fn a_request_without_an_answer_times_out_later_with_a_larger_body() {
    in_virtual_time(async {
        let (_, store, handle) = faulty(1);
        handle.set_weather(Weather::Hanging);
        let config = TimeoutConfig { base: Duration::from_secs(10), rate_min: 1000, whole_bytes: 50_000 };
        let timeout = Timeout::new(store, config);
        let begun = Instant::now();
        timeout.head(&name("a")).await.expect_err("it hangs");
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        let begun = Instant::now();
        let body = vec![0_u8; 20_000].into();
        timeout.put(&name("a"), body, PutMode::Always).await.expect_err("it hangs");
        assert_eq!(begun.elapsed(), Duration::from_secs(30));
    });
}

#[test]
fn no_more_than_the_limit_of_each_class_run_at_once() {
    in_virtual_time(async {
        let (memory, store, handle) = faulty(1);
        memory.plant("a", "body");
        let second = Duration::from_secs(1);
        handle.set_rates(Rates { latency: (second, second), ..Rates::default() });
        let (meter, reader) = Meter::new(store);
        let config = LimitConfig { uploads_max: 2, downloads_max: 5, ..LimitConfig::default() };
        let (limit, _) = Limit::new(Arc::new(meter), &config);
        let puts = futures::future::join_all((0..6).map(|_| put(&limit, "b", PutMode::Always)));
        let read = name("a");
        let gets = futures::future::join_all((0..10).map(|_| limit.get(&read)));
        let watch = async {
            tokio::time::sleep(second / 2).await;
            let now = reader.snapshot();
            [Verb::Put, Verb::Get].map(|verb| now.verb(verb).map(|v| v.in_flight))
        };
        let begun = Instant::now();
        let (_, _, in_flight) = futures::join!(puts, gets, watch);
        assert_eq!(in_flight, [Some(2), Some(5)]);
        assert_eq!(begun.elapsed(), second * 3);
    });
}

#[test]
fn bodies_keep_to_the_rate_on_average_and_large_ones_pass() {
    in_virtual_time(async {
        let (_, store, _) = faulty(1);
        let config = LimitConfig { upload_rate_max: 1_000_000, download_rate_max: 500_000, ..LimitConfig::default() };
        let (limit, handle) = Limit::new(store, &config);
        let body = bytes::Bytes::from(vec![0_u8; 3_000_000]);
        let begun = Instant::now();
        for _ in 0..10 {
            limit.put(&name("a"), body.clone(), PutMode::Always).await.expect("a put");
        }
        let took = begun.elapsed().as_secs_f64();
        // 30 MB at 1 MB/s; one second's tokens are there at the start, and the last body's debt is left.
        assert!((26.0..=30.0).contains(&took), "{took} s");

        let begun = Instant::now();
        for _ in 0..3 {
            limit.get(&name("a")).await.expect("a get");
        }
        let took = begun.elapsed().as_secs_f64();
        assert!((11.0..=18.0).contains(&took), "{took} s");

        handle.set_upload_rate(0);
        let begun = Instant::now();
        limit.put(&name("a"), body, PutMode::Always).await.expect("a put");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    });
}

#[test]
fn the_meter_tells_requests_errors_bytes_and_time_by_verb() {
    in_virtual_time(async {
        let (_, store, handle) = faulty(1);
        let (meter, reader) = Meter::new(store);
        put(&meter, "a", PutMode::Always).await.expect("a put");
        handle.order(Order::next(Fault::Slow(Duration::from_millis(30))));
        meter.get(&name("a")).await.expect("a get");
        meter.get(&name("absent")).await.expect_err("absent");
        handle.order(Order::next(Fault::FailBefore));
        meter.get(&name("a")).await.expect_err("failed");
        handle.order(Order::next(Fault::Denied));
        meter.get(&name("a")).await.expect_err("denied");
        handle.order(Order::next(Fault::Hang));
        let _ = tokio::time::timeout(Duration::from_secs(1), meter.get(&name("a"))).await;

        let now = reader.snapshot();
        let puts = now.verb(Verb::Put).expect("puts");
        assert_eq!((puts.requests, puts.bytes_out, puts.errors_retry), (1, 4, 0));
        let gets = now.verb(Verb::Get).expect("gets");
        assert_eq!((gets.requests, gets.bytes_in, gets.abandoned, gets.in_flight), (5, 4, 1, 0));
        assert_eq!((gets.answers, gets.errors_retry, gets.errors_setting), (1, 1, 1));
        assert_eq!((gets.latency_classes.iter().sum::<u64>(), gets.micros_max), (4, 30_000));
        assert_eq!(gets.latency(1.0), Some(Duration::from_millis(30)));
        assert_eq!(gets.latency(0.5), Some(Duration::from_micros(100)));
        assert_eq!((now.requests(), now.errors()), (6, 2));
        let json = serde_json::to_value(&now).expect("it is written");
        assert_eq!(json["verbs"][1]["verb"], "get");
    });
}

#[test]
fn the_stack_counts_tries_and_tells_trouble() {
    in_virtual_time(async {
        let (_, store, handle) = faulty(1);
        let stack = Stack::over(store, &StoreOptions::default());
        handle.order(Order::next(Fault::FailBefore).times(3));
        put(&*stack.store, "a", PutMode::Always).await.expect("the fourth try");
        let puts = stack.meter.snapshot().verb(Verb::Put).expect("puts").clone();
        assert_eq!((puts.requests, puts.errors_retry), (4, 3));
        assert!(stack.trouble.borrow().is_none());
    });
}

#[test]
fn two_patiences_share_one_stack() {
    in_virtual_time(async {
        let (memory, store, handle) = faulty(1);
        memory.plant("a", "body");
        let stack = Stack::over(store, &StoreOptions::default());
        let patient = stack.with_patience(seeded(RetryConfig::for_ever()));
        handle.set_down(true);
        stack.store.get(&name("a")).await.expect_err("a minute is over");
        assert!(stack.trouble.borrow().is_some());
        let waiting = tokio::spawn(async move { patient.get(&name("a")).await });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        handle.calm();
        waiting.await.expect("no panic").expect("it is up again");
        assert!(stack.trouble.borrow().is_none(), "one trouble for both");
    });
}
