//! The probe tells what is so, of stores whose habits are known.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use haven_store::{
    DynStore, ListPage, ObjectMeta, ObjectName, PutMode, Store, StoreError, StoreOptions,
    memory::Memory,
    probe::{Finding, ProbeError, Report, Trait, probe, probe_url},
};
use haven_testkit::faults::{Faults, Rates, Weather};

fn not_honoured(report: &Report) -> Vec<Trait> {
    let lacks = |t: &Trait| report.findings.get(t) != Some(&Finding::Honoured);
    Trait::ALL.into_iter().filter(lacks).collect()
}

/// What only a bucket can be asked.
const OF_BUCKETS: [Trait; 6] = [
    Trait::WrongMd5Refused,
    Trait::WrongSha256Refused,
    Trait::WrongCrc32cRefused,
    Trait::VersionsKept,
    Trait::LockHolds,
    Trait::LockStays,
];

/// Accepts every condition and heeds none, as Garage does.
#[derive(Debug)]
struct Heedless(Memory);

#[async_trait]
impl Store for Heedless {
    fn describe(&self) -> String {
        "heedless".into()
    }
    async fn put(&self, name: &ObjectName, body: Bytes, _: PutMode) -> Result<(), StoreError> {
        self.0.put(name, body, PutMode::Always).await
    }
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.0.get(name).await
    }
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.0.get_range(name, range).await
    }
    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        self.0.head(name).await
    }
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.0.list(prefix, after, limit).await
    }
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.0.delete(name).await
    }
    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        self.0.copy(from, to).await
    }
}

#[tokio::test]
async fn memory_honours_all_and_is_left_as_it_was() {
    let memory = Arc::new(Memory::new());
    memory.plant("kept", "x");
    let report = probe(memory.clone()).await.expect("a report");
    assert_eq!(not_honoured(&report), OF_BUCKETS);
    assert!(report.conditional_create() && report.missing().is_empty());
    assert_eq!(memory.names(), ["kept"]);
}

#[tokio::test]
async fn a_directory_lacks_conditional_replace_alone() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let url = format!("file://{}", root.path().display());
    let report = probe_url(&url, &StoreOptions::default()).await.expect("a report");
    let lacks = not_honoured(&report);
    let conditions = [Trait::IfMatchRefusesWrong, Trait::IfMatchAcceptsRight];
    assert_eq!(lacks, [&conditions[..], &OF_BUCKETS].concat());
    assert!(report.conditional_create() && report.missing().is_empty());
    assert!(report.clock_skew_seconds.is_some_and(|skew| skew.abs() <= 2), "{report:?}");
}

#[tokio::test]
async fn a_condition_that_is_accepted_and_ignored_is_found_out() {
    let report = probe(Arc::new(Heedless(Memory::new()))).await.expect("a report");
    assert!(!report.conditional_create());
    let ignored = Finding::Ignored("it answers success, and replaces".into());
    assert_eq!(report.findings[&Trait::IfAbsentRefusesExisting], ignored);
    assert_eq!(report.findings[&Trait::IfMatchRefusesWrong], ignored);
    assert_eq!(report.findings[&Trait::IfAbsentOneWinnerOfARace], Finding::Ignored("8 of 8 won".into()));
    assert!(report.missing().is_empty(), "conditions are not needed");
}

#[tokio::test]
async fn a_late_listing_makes_a_store_unfit() {
    let (store, handle) = Faults::new(Arc::new(Memory::new()), 1);
    handle.set_rates(Rates { stale_list: 1.0, ..Rates::default() });
    let report = probe(Arc::new(store)).await.expect("a report");
    assert!(report.missing().contains(&Trait::ListAfterWrite), "{report}");
}

#[tokio::test]
async fn a_store_that_takes_nothing_gives_no_report() {
    let (store, handle) = Faults::new(Arc::new(Memory::new()), 1);
    handle.set_weather(Weather::ReadOnly);
    let store: DynStore = Arc::new(store);
    let refused = probe(store).await;
    assert!(matches!(refused, Err(ProbeError::Store { source: StoreError::Denied { .. }, .. })), "{refused:?}");
}

#[tokio::test]
async fn the_report_is_read_back_from_json_and_printed_as_a_table() {
    let report = probe(Arc::new(Memory::new())).await.expect("a report");
    let json = serde_json::to_string(&report).expect("it is written");
    assert_eq!(serde_json::from_str::<Report>(&json).expect("it is read"), report);
    let text = report.to_string();
    assert_eq!(text.lines().filter(|line| line.ends_with(" yes")).count(), 13, "{text}");
}
