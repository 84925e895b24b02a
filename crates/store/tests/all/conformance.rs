//! Every store and every decorator passes the one suite.

use std::sync::Arc;

use haven_store::{
    DynStore, Stack, StoreOptions,
    dir::Dir,
    limit::{Limit, LimitConfig},
    memory::Memory,
    meter::Meter,
    retry::{Retry, RetryConfig},
    suite::{Honours, conformance},
    timeout::{Timeout, TimeoutConfig},
};

fn memory() -> DynStore {
    Arc::new(Memory::new())
}

#[tokio::test]
async fn memory_conforms() {
    conformance(memory(), Honours::ALL).await;
}

#[tokio::test]
async fn a_directory_conforms_and_is_left_empty() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = Dir::open(root.path()).expect("it opens");
    conformance(Arc::new(dir), Honours::DIR).await;
    let left: Vec<_> = std::fs::read_dir(root.path().join("~tmp")).expect("the folder of puts under way").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn each_decorator_conforms() {
    let (meter, _) = Meter::new(memory());
    let (limit, _) = Limit::new(memory(), &LimitConfig { uploads_max: 2, ..LimitConfig::default() });
    let stores: [DynStore; 4] = [
        Arc::new(meter),
        Arc::new(limit),
        Arc::new(Retry::new(memory(), RetryConfig::default())),
        Arc::new(Timeout::new(memory(), TimeoutConfig::default())),
    ];
    for store in stores {
        conformance(store, Honours::ALL).await;
    }
}

#[tokio::test]
async fn the_whole_stack_conforms() {
    conformance(Stack::over(memory(), &StoreOptions::default()).store, Honours::ALL).await;
}
