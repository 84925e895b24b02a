//! Keys come and go in the library; what was taken away opens its copies no more.

use std::sync::Arc;

use haven_format::{
    Nonce,
    config::{LockedConfig, OpenConfig},
    keys::{Argon2Cost, Secret},
    layout,
    record::Time,
};
use haven_replica::{Options, RestoreOptions, Restorer, Run, Summary};
use haven_store::{DynStore, memory::Memory, meter::Verb};
use haven_testkit::{
    faults::{Fault, Faults, Order},
    seed::in_virtual_time,
};
use rand::Rng;

use crate::common::{Source, replicator, secret};

fn configs(store: &Memory) -> Vec<String> {
    store.names().into_iter().filter(|name| name.starts_with(layout::CONFIGS)).collect()
}

/// The configuration with another passphrase in the place of the first.
fn changed(source: &mut Source) -> OpenConfig {
    let name = configs(&source.bucket).pop().unwrap();
    let locked = LockedConfig::parse(&name, &source.bucket.peek(&name).unwrap()).unwrap();
    let mut open = locked.unlock(&secret()).unwrap();
    let cheap = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
    let new = Secret::passphrase("better").unwrap();
    let (slot, then) = (open.slot(), Time { seconds: 1_800_000_100, nanos: 0 });
    open.change(slot, &new, cheap, then, &mut |out| source.rng.fill(out)).unwrap();
    open
}

fn write(source: &Source, open: &OpenConfig) -> Vec<String> {
    let copies = [Nonce([1; 8]), Nonce([2; 8])].map(|nonce| {
        let (name, body) = open.seal(nonce);
        source.bucket.plant(&name, body);
        name
    });
    copies.to_vec()
}

async fn sync(source: &Source, to: DynStore, options: Options) -> Summary {
    let mut one = replicator(source, source.store(), to, options);
    let told = one.sync(Run::default()).await.unwrap();
    one.finish().await.unwrap();
    told
}

#[test]
fn a_key_that_was_taken_away_opens_the_replica_no_more_and_does_not_come_back() {
    in_virtual_time(async {
        let mut source = Source::new(41).await;
        source.live(10).await;
        let copy = Arc::new(Memory::labelled("replica"));
        sync(&source, copy.clone(), Options::default()).await;
        let old = configs(&copy);
        let open = changed(&mut source);
        let new = write(&source, &open);
        // The library may still have the old one: only keys were added, or nobody could delete it.
        assert_eq!(configs(&source.bucket).len(), 3);
        for _ in 0..2 {
            let told = sync(&source, copy.clone(), Options::default()).await;
            assert_eq!((configs(&copy), told.warnings), (new.clone(), vec![]));
        }
        // An old one that is played back in the library does not come to the replica.
        new.iter().for_each(|name| assert!(source.bucket.lose(name)));
        source.change().await;
        source.sent().await;
        let told = sync(&source, copy.clone(), Options::default()).await;
        assert_eq!(configs(&copy), new);
        assert!(told.warnings.iter().any(|text| text.contains("newer configuration than the source")), "{told:?}");
        assert!(!old.is_empty());
    });
}

#[test]
fn a_configuration_that_is_not_whole_in_the_replica_puts_no_other_out_of_force() {
    in_virtual_time(async {
        let mut source = Source::new(42).await;
        source.live(10).await;
        let copy = Arc::new(Memory::labelled("replica"));
        sync(&source, copy.clone(), Options::default()).await;
        let old = configs(&copy);
        // What looks like a newer one, and is none.
        let (name, mut body) = changed(&mut source).seal(Nonce([9; 8]));
        let last = body.len() - 20;
        body[last] ^= 1;
        source.bucket.plant(&name, body);
        let told = sync(&source, copy.clone(), Options::default()).await;
        assert_eq!((configs(&copy), told.damaged.len()), (old.clone(), 1));
        // Whom the newest one locks out keeps what opens for him.
        source.bucket.lose(&name);
        let open = changed(&mut source);
        let new = write(&source, &open);
        let kept = Options { keep_configs: true, ..Options::default() };
        let told = sync(&source, copy.clone(), kept).await;
        assert!(told.warnings.iter().any(|text| text.contains("that one is kept")), "{told:?}");
        assert_eq!(configs(&copy), [&old[..], &new].concat());
    });
}

#[test]
fn where_nothing_may_be_deleted_that_is_said_each_time() {
    in_virtual_time(async {
        let mut source = Source::new(43).await;
        source.live(10).await;
        let copy = Arc::new(Memory::labelled("replica"));
        sync(&source, copy.clone(), Options::default()).await;
        let open = changed(&mut source);
        write(&source, &open);
        for _ in 0..2 {
            let (adding, handle) = Faults::new(copy.clone(), 1);
            handle.order(Order::next(Fault::Denied).at(Verb::Delete).times(u64::MAX));
            let told = sync(&source, Arc::new(adding), Options::default()).await;
            assert!(told.warnings.iter().any(|text| text.contains("still lets into this replica")), "{told:?}");
        }
        assert_eq!(configs(&copy).len(), 3);
    });
}

#[test]
fn a_restored_library_has_the_configuration_in_force_alone() {
    in_virtual_time(async {
        let mut source = Source::new(44).await;
        source.live(10).await;
        let open = changed(&mut source);
        let new = write(&source, &open);
        let copy = Arc::new(source.bucket.fork());
        assert_eq!(configs(&copy).len(), 3);
        for damaged in [None, Some(&new[1])] {
            if let Some(name) = damaged {
                copy.plant(name, vec![1; 100]);
            }
            let to = Arc::new(Memory::labelled("to"));
            let options = RestoreOptions { of: "memory:copy".into(), parallel: 2, accept_damage: true };
            let mut one = Restorer::new(copy.clone(), to.clone(), &source.keys, source.world(), options, None);
            one.begin().await.unwrap();
            assert!(one.complete().await.unwrap().complete);
            let wanted = if damaged.is_some() { &new[..1] } else { &new[..] };
            assert_eq!(configs(&to), wanted);
        }
    });
}
