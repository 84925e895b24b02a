//! Copies that have lost something of their newest state: what a restore makes of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use haven_format::{Keys, config::LockedConfig, keys::Secret, layout, root::Root, standing::Role};
use haven_replica::{
    Oddity, Options, ReplicaError, Replicator, RestoreOptions, Restored, Restorer, Run, Side, World, newest_standing,
};
use haven_rescue::Library as Rescue;
use haven_store::{DynStore, memory::Memory};
use haven_testkit::{
    museum::{PASSPHRASE, exhibits, lay_out},
    seed::in_virtual_time,
};

use crate::common::{Source, patiently, replicator};

fn secret() -> Secret {
    Secret::passphrase(PASSPHRASE).unwrap()
}

/// An exhibit of the museum, in memory.
fn exhibit(name: &str, test: &str) -> Arc<Memory> {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}-{name}", std::process::id()));
    lay_out(name, &place).unwrap();
    let memory = Arc::new(Memory::labelled("exhibit"));
    plant(&memory, &place, &place);
    fs::remove_dir_all(&place).unwrap();
    memory
}

fn plant(memory: &Memory, top: &Path, here: &Path) {
    for entry in fs::read_dir(here).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            plant(memory, top, &entry);
        } else if let Ok(body) = fs::read(&entry) {
            memory.plant(entry.strip_prefix(top).unwrap().to_str().unwrap(), body);
        }
    }
}

fn keys(copy: &Memory) -> Option<Keys> {
    let names = copy.names().into_iter().filter(|name| name.starts_with(layout::CONFIGS));
    let mut opened = names.filter_map(|name| LockedConfig::parse(&name, &copy.peek(&name)?).ok());
    opened.find_map(|config| config.unlock(&secret()).ok()).map(|open| open.keys().clone())
}

fn world() -> World {
    World {
        clock: Arc::new(|| haven_format::record::Time { seconds: 1_800_000_000, nanos: 0 }),
        dice: Arc::new(|out: &mut [u8]| out.fill(7)),
        host: "restorer".into(),
    }
}

fn restorer(copy: &Arc<Memory>, to: &Arc<Memory>, keys: &Keys, accept_damage: bool) -> Restorer {
    let (copy, to): (DynStore, DynStore) = (copy.clone(), to.clone());
    let options = RestoreOptions { of: "memory:copy".into(), parallel: 2, accept_damage };
    Restorer::new(copy, to, keys, world(), options, None)
}

async fn restored(copy: &Arc<Memory>, to: &Arc<Memory>, keys: &Keys) -> Result<Restored, ReplicaError> {
    let mut one = restorer(copy, to, keys, false);
    one.begin().await?;
    one.complete().await
}

/// The last change that the second reader finds, and whether it had to pass anything over.
async fn rescued(copy: &Arc<Memory>) -> (u64, bool) {
    let mut library = Rescue::open(copy.clone(), &secret()).await.unwrap();
    let tx = library.newest().await.unwrap().tx;
    (tx, library.passed_over.is_empty())
}

fn named(done: &Restored) -> Vec<&str> {
    done.damaged.iter().map(|damage| damage.object.as_str()).collect()
}

#[test]
fn what_is_called_complete_has_all_that_the_second_reader_finds_in_the_copy() {
    in_virtual_time(async {
        let (mut complete, mut lacking, mut refused) = (0, 0, 0);
        for name in exhibits().unwrap() {
            let copy = exhibit(&name, "complete");
            let Some(keys) = keys(&copy) else { continue };
            let to = Arc::new(Memory::labelled("to"));
            let done = match restored(&copy, &to, &keys).await {
                Ok(done) => done,
                Err(error) => {
                    assert!(to.names().is_empty(), "{name}: {error}: {:?}", to.names());
                    refused += 1;
                    continue;
                }
            };
            let (there, whole) = rescued(&to).await;
            assert!(whole || !done.complete, "{name}");
            assert_eq!(there, done.position.tx, "{name}");
            let (wanted, _) = rescued(&copy).await;
            assert!(there == wanted || !done.complete, "{name}: {there} of {wanted} and nothing said");
            assert_eq!(done.complete, done.damaged.is_empty(), "{name}");
            if done.complete { complete += 1 } else { lacking += 1 }
        }
        assert!(complete > 5 && lacking > 5 && refused > 0, "{complete} {lacking} {refused}");
    });
}

#[test]
fn a_copy_without_a_state_is_refused_and_nothing_is_begun() {
    in_virtual_time(async {
        let copy = exhibit("all-roots-missing-and-the-log-before-them", "refused");
        let to = Arc::new(Memory::labelled("to"));
        let error = restored(&copy, &to, &keys(&copy).unwrap()).await.unwrap_err();
        let ReplicaError::Odd(oddity) = error else { panic!("{error}") };
        let Oddity::Garbage { damaged } = *oddity else { panic!("{oddity}") };
        assert!(damaged.iter().any(|damage| damage.object.starts_with("l/0000000000000007-")), "{damaged:?}");
        assert!(to.names().is_empty(), "{:?}", to.names());
    });
}

#[test]
fn a_snapshot_that_is_lost_is_named_also_by_who_goes_on_with_it() {
    in_virtual_time(async {
        let copy = exhibit("root-of-a-snapshot-missing", "snapshot");
        let keys = keys(&copy).unwrap();
        let to = Arc::new(Memory::labelled("to"));
        for _ in 0..2 {
            let done = restored(&copy, &to, &keys).await.unwrap();
            assert_eq!(
                (done.complete, named(&done)),
                (false, vec!["r/fffffffffffffffe-0000000000000001-c1c1c1c1c1c1c1c1"])
            );
        }
        let mut one = restorer(&copy, &to, &keys, true);
        assert_eq!(one.begin().await.unwrap().damaged.len(), 1);
        assert!(one.complete().await.unwrap().complete);
        let held = newest_standing(&(to.clone() as DynStore), &keys, Side::Replica).await.unwrap();
        assert_eq!(held.standing.unwrap().role(), Role::Library);
    });
}

#[test]
fn where_a_shard_of_the_newest_root_is_damaged_an_older_root_leads_to_the_same_state() {
    in_virtual_time(async {
        let copy = exhibit("shard-with-a-flipped-byte", "shard");
        let keys = keys(&copy).unwrap();
        let to = Arc::new(Memory::labelled("to"));
        let done = restored(&copy, &to, &keys).await.unwrap();
        assert_eq!((done.position.tx, rescued(&to).await), (11, (11, true)));
        assert_eq!((done.complete, named(&done)), (false, vec!["m/b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4"]));
        // Once the copy is mended, nothing is lost any more.
        let whole = exhibit("whole", "shard").peek(done.damaged[0].object.as_str()).unwrap();
        copy.plant(&done.damaged[0].object, whole);
        let done = restored(&copy, &to, &keys).await.unwrap();
        assert!(done.complete, "{:?}", done.damaged);
        assert_eq!(rescued(&to).await, (11, true));
    });
}

#[test]
fn what_only_a_newest_root_with_a_damaged_shard_holds_is_missed_also_when_that_shard_is_there_again() {
    in_virtual_time(async {
        let mut source = Source::new(32).await;
        source.change().await;
        patiently(&source.vault, || source.vault.take_snapshot(b"early", "", "test")).await;
        source.checkpoint().await;
        for _ in 0..4 {
            source.change().await;
        }
        source.checkpoint().await;
        let whole = Arc::new(Memory::labelled("replica"));
        let mut one = replicator(&source, source.store(), whole.clone(), Options::default());
        one.sync(Run::default()).await.unwrap();
        one.finish().await.unwrap();
        let names = whole.names();
        let roots: Vec<_> = names.iter().filter(|name| name.starts_with(layout::ROOTS)).collect();
        let [newest, older] = roots[..] else { panic!("{roots:?}") };
        assert!(!names.iter().any(|name| name.starts_with(layout::SEGMENTS)), "no log leads from one to the other");
        let shards = |name: &str| -> BTreeSet<String> {
            let root = Root::open(&source.keys, name, &whole.peek(name).unwrap()).unwrap();
            let shards = root.runs.iter().flat_map(|run| &run.shards);
            shards.map(|shard| layout::shard(shard.shard_id().unwrap())).collect()
        };
        let own = &shards(newest) - &shards(older);
        assert!(!own.is_empty());
        for shard in &own {
            let copy = Arc::new(whole.fork());
            let body = copy.peek(shard).unwrap();
            copy.plant(shard, body.slice(1..));
            let to = Arc::new(Memory::labelled("to"));
            let done = restored(&copy, &to, &source.keys).await.unwrap();
            assert_eq!((done.complete, named(&done)), (false, vec![shard.as_str(), newest.as_str()]));
            copy.plant(shard, body);
            let done = restored(&copy, &to, &source.keys).await.unwrap();
            assert_eq!((done.complete, named(&done)), (false, vec![newest.as_str()]));
        }
    });
}

#[test]
fn changes_behind_a_damaged_segment_are_missed_in_the_new_library() {
    in_virtual_time(async {
        let mut source = Source::new(31).await;
        for _ in 0..4 {
            source.change().await;
            source.sent().await;
        }
        let copy = Arc::new(Memory::labelled("replica"));
        let mut one = replicator(&source, source.store(), copy.clone(), Options::default());
        one.sync(Run::default()).await.unwrap();
        one.finish().await.unwrap();
        let names = copy.names();
        let segments: Vec<_> = names.iter().filter(|name| name.starts_with(layout::SEGMENTS)).collect();
        let [.., before, damaged, behind] = segments[..] else { panic!("{segments:?}") };
        let mut body = copy.peek(damaged).unwrap().to_vec();
        body[40] ^= 1;
        copy.plant(damaged, body);
        let to = Arc::new(Memory::labelled("to"));
        for _ in 0..2 {
            let done = restored(&copy, &to, &source.keys).await.unwrap();
            assert_eq!((done.complete, named(&done)), (false, vec![damaged.as_str(), behind.as_str()]));
            assert_eq!(done.position.segment, *before);
        }
    });
}

#[test]
fn what_an_earlier_turn_wrote_beside_a_damaged_later_one_is_no_history() {
    in_virtual_time(async {
        let lost_both = ["l/0000000000000006-0000000000000002-c2c2c2c2c2c2c2c2"].as_slice();
        for (name, lose) in [
            ("segment-missing-in-the-middle", [].as_slice()),
            ("segment-damaged-in-the-middle", &[]),
            ("newest-writers-segments-damaged", &[]),
            // Nothing but its claim tells where the later turn began.
            ("newest-writers-segments-damaged", lost_both),
        ] {
            let copy = exhibit(name, "turns");
            lose.iter().for_each(|lost| assert!(copy.lose(lost)));
            assert_eq!(rescued(&copy).await.0, 8, "{name}");
            let keys = keys(&copy).unwrap();
            let to = Arc::new(Memory::labelled("to"));
            let done = restored(&copy, &to, &keys).await.unwrap();
            assert_eq!((done.complete, done.position.tx, rescued(&to).await), (false, 8, (8, true)), "{name}");
            let replica = Arc::new(Memory::labelled("replica"));
            let mut one = Replicator::new(copy.clone(), replica.clone(), &keys, world(), Options::default(), None);
            let told = one.sync(Run::default()).await.unwrap();
            assert!(!told.damaged.is_empty(), "{name}");
            assert_eq!((told.position.tx, rescued(&replica).await), (8, (8, true)), "{name}");
        }
    });
}
