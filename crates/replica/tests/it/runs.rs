//! What runs do and what they cost.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use haven_format::{layout, lease::Lease};
use haven_replica::{Options, ReplicaError, Run, Side, Summary, newest_standing};
use haven_store::{
    DynStore, ListPage, Location, ObjectMeta, ObjectName, PutMode, Store, StoreError,
    memory::Memory,
    meter::{Meter, MeterReader},
};
use haven_testkit::{
    faults::{Fault, Faults, Order, Weather},
    seed::in_virtual_time,
};

use crate::common::{Filmed, Source, check_complete, objects, photos_in, replicator};

async fn sync(source: &Source, from: DynStore, to: DynStore, options: Options) -> Summary {
    let mut one = replicator(source, from, to, options);
    let summary = one.sync(Run::default()).await.unwrap();
    one.finish().await.unwrap();
    summary
}

fn metered(store: DynStore) -> (DynStore, MeterReader) {
    let (meter, reader) = Meter::new(store);
    (Arc::new(meter), reader)
}

fn copy() -> Arc<Memory> {
    Arc::new(Memory::labelled("replica"))
}

#[test]
fn only_what_is_missing_travels_and_nothing_new_costs_few_requests() {
    in_virtual_time(async {
        let mut source = Source::new(1).await;
        source.live(60).await;
        let copy = copy();
        let first = sync(&source, source.store(), copy.clone(), Options::default()).await;
        assert_eq!(first.objects as usize, objects(&copy).len());
        assert_eq!(first.bytes, objects(&copy).values().map(|body| body.len() as u64).sum::<u64>());
        assert_eq!(first.position, first.source);

        let ((from, asked), (to, asked_there)) = (metered(source.store()), metered(copy.clone()));
        let idle = sync(&source, from, to, Options::default()).await;
        assert!(idle.idle());
        let requests = asked.snapshot().requests() + asked_there.snapshot().requests();
        assert!(requests <= 16, "{requests}");
        assert_eq!(asked_there.snapshot().bytes_out(), 0, "no idle writes");

        let before = objects(&copy).len();
        source.change().await;
        source.sent().await;
        let second = sync(&source, source.store(), copy.clone(), Options::default()).await;
        assert_eq!(objects(&copy).len() - before, second.objects as usize);
        assert!((1..4).contains(&second.objects), "{second:?}");
        check_complete(&copy, &source, "at the end").await;
    });
}

#[test]
fn nothing_new_costs_few_requests_where_a_root_has_just_taken_the_place_of_the_log() {
    in_virtual_time(async {
        let mut source = Source::new(8).await;
        source.live(60).await;
        source.checkpoint().await;
        let copy = copy();
        sync(&source, source.store(), copy.clone(), Options::default()).await;
        // The source still holds the log that led there; the replica never had it.
        let behind = |held: &Memory| objects(held).keys().filter(|name| name.starts_with("l/")).count();
        assert!(behind(&source.bucket) > behind(&copy));

        let ((from, asked), (to, asked_there)) = (metered(source.store()), metered(copy.clone()));
        assert!(sync(&source, from, to, Options::default()).await.idle());
        let requests = asked.snapshot().requests() + asked_there.snapshot().requests();
        assert!(requests <= 16, "{requests}");
        assert_eq!(asked_there.snapshot().bytes_out(), 0, "no idle writes");
    });
}

#[test]
fn followed_continuously_an_idle_library_costs_four_requests_a_look_and_no_write() {
    in_virtual_time(async {
        let mut source = Source::new(2).await;
        source.live(30).await;
        let copy = copy();
        let ((from, asked), (to, asked_there)) = (metered(source.store()), metered(copy.clone()));
        let mut one = replicator(&source, from, to, Options::default());
        let run = Run { continuous: true, ..Run::default() };
        for _ in 0..3 {
            one.sync(run).await.unwrap();
        }
        let before = (asked.snapshot().requests(), asked_there.snapshot().requests());
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(one.sync(run).await.unwrap().idle());
        }
        assert_eq!(asked.snapshot().requests() - before.0, 40);
        assert_eq!(asked_there.snapshot().requests() - before.1, 0);

        for _ in 0..20 {
            source.change().await;
            source.sent().await;
            let summary = one.sync(run).await.unwrap();
            assert_eq!((summary.position, summary.lag_seconds), (summary.source, 0.0));
            check_complete(&copy, &source, "at the end").await;
        }
        let noted = newest_standing(&(copy.clone() as DynStore), &source.keys, Side::Replica).await.unwrap();
        assert!(noted.standing.unwrap().seq < 5, "noted now and then, not for each segment");
        one.finish().await.unwrap();
        let noted = newest_standing(&(copy.clone() as DynStore), &source.keys, Side::Replica).await.unwrap();
        let tip = source.bucket.names().into_iter().rfind(|name| name.starts_with(layout::SEGMENTS));
        assert_eq!(Some(noted.position().segment), tip);
    });
}

#[test]
fn while_it_runs_a_lease_names_the_root_and_afterwards_it_is_gone() {
    in_virtual_time(async {
        let mut source = Source::new(3).await;
        source.live(30).await;
        let filmed = Filmed::new(&source.bucket);
        let summary = sync(&source, filmed.clone(), copy(), Options::default()).await;
        assert!(summary.warnings.is_empty());
        let film = std::mem::take(&mut *filmed.film.lock());
        let (put, frame) = &film[0];
        let name = put.strip_prefix("put ").unwrap();
        let lease = Lease::open(&source.keys, name, &frame.peek(name).unwrap()).unwrap();
        assert_eq!(lease.root, source.newest_root().name().unwrap());
        assert!(lease.until as i64 > source.clock_seconds() + 1800);
        assert!(source.bucket.names().iter().all(|name| !name.starts_with(layout::LEASES)));

        let (reading, handle) = Faults::new(source.store(), 1);
        handle.set_weather(Weather::ReadOnly);
        let replica = copy();
        let summary = sync(&source, Arc::new(reading), replica.clone(), Options::default()).await;
        assert!(summary.warnings[0].contains("no lease"), "{:?}", summary.warnings);
        check_complete(&replica, &source, "at the end").await;
    });
}

#[test]
fn a_damaged_object_is_never_copied_is_named_and_does_not_stop_the_rest() {
    in_virtual_time(async {
        let mut source = Source::new(4).await;
        source.live(60).await;
        source.checkpoint().await;
        let pack = source.bucket.names().into_iter().find(|name| name.starts_with(layout::PACKS)).unwrap();
        let right = source.bucket.peek(&pack).unwrap();
        let mut wrong = right.to_vec();
        wrong[right.len() / 3] ^= 4;
        source.bucket.plant(&pack, wrong);
        let copy = copy();
        let told = sync(&source, source.store(), copy.clone(), Options::default()).await;
        assert_eq!(told.damaged.iter().map(|damage| &damage.object).collect::<Vec<_>>(), [&pack]);
        assert_eq!(copy.peek(&pack), None);
        assert_eq!(told.position, told.source, "the log goes on: its newest root needs no segment with that pack");

        source.bucket.plant(&pack, right.clone());
        let told = sync(&source, source.store(), copy.clone(), Options::default()).await;
        // Nothing new, and yet incomplete: the next thorough run finds it.
        assert!(told.idle() || told.objects == 1);
        source.clock.turn(2 * crate::common::DAY);
        sync(&source, source.store(), copy.clone(), Options::default()).await;
        assert_eq!(copy.peek(&pack), Some(right));
        check_complete(&copy, &source, "at the end").await;
    });
}

#[test]
fn a_newest_root_whose_shard_is_damaged_is_left_out_and_the_log_goes_on_from_the_older_one() {
    in_virtual_time(async {
        let mut source = Source::new(5).await;
        source.live(30).await;
        source.checkpoint().await;
        let copy = copy();
        sync(&source, source.store(), copy.clone(), Options::default()).await;
        for _ in 0..5 {
            source.change().await;
        }
        source.checkpoint().await;
        source.change().await;
        source.sent().await;
        let root = source.newest_root();
        let shard = root.runs[0].shards.iter().find(|shard| shard.first[0] == 0x10).unwrap();
        let shard = layout::shard(shard.shard_id().unwrap());
        source.bucket.plant(&shard, &b"HAVENsh\x01 and nothing that is true"[..]);
        let told = sync(&source, source.store(), copy.clone(), Options::default()).await;
        assert!(told.damaged.iter().any(|damage| damage.object == shard), "{:?}", told.damaged);
        assert_eq!(copy.peek(&shard), None);
        assert_eq!(copy.peek(&root.name().unwrap()), None);
        assert_eq!(told.position, told.source);
        check_complete(&copy, &source, "at the end").await;
    });
}

#[test]
fn what_vanishes_while_it_is_copied_is_looked_for_in_the_newer_state() {
    in_virtual_time(async {
        let mut source = Source::new(6).await;
        source.live(40).await;
        source.checkpoint().await;
        let shard = layout::shard(source.newest_root().runs[0].shards[0].shard_id().unwrap());
        // Gone for this once, as if collected between look and copy.
        let (faults, handle) = Faults::new(source.store(), 1);
        let copy = copy();
        handle.order(Order::next(Fault::Vanished).on(&shard));
        let told = sync(&source, Arc::new(faults), copy.clone(), Options::default()).await;
        assert_eq!(handle.incidents().len(), 1);
        assert_eq!(told.damaged, []);
        check_complete(&copy, &source, "at the end").await;

        let pack = source.bucket.names().into_iter().find(|name| name.starts_with(layout::PACKS)).unwrap();
        source.bucket.lose(&pack);
        let told = sync(&source, source.store(), self::copy(), Options::default()).await;
        assert_eq!(told.damaged.len(), 1);
        assert!(told.damaged[0].to_string().contains("needed, and is not there"), "{:?}", told.damaged);
    });
}

#[test]
fn a_replica_of_a_replica_is_one_too() {
    in_virtual_time(async {
        let mut source = Source::new(7).await;
        let (near, far) = (copy(), copy());
        for _ in 0..5 {
            source.live(20).await;
            source.collect().await;
            sync(&source, source.store(), near.clone(), Options::default()).await;
            sync(&source, near.clone(), far.clone(), Options::default()).await;
            check_complete(&far, &source, "at the end").await;
        }
    });
}

#[test]
fn the_one_segment_too_many_of_a_machine_that_had_lost_is_no_other_history() {
    in_virtual_time(async {
        let mut source = Source::new(8).await;
        source.live(20).await;
        let old = source.vault.clone();
        // What the old machine wrote last is hidden from the new one while that takes over.
        let before = source.bucket.names();
        source.change().await;
        source.sent().await;
        let late: Vec<_> = source.bucket.names().into_iter().filter(|name| !before.contains(name)).collect();
        let hidden: Vec<_> = late.iter().map(|name| (name.clone(), source.bucket.peek(name).unwrap())).collect();
        let copy = copy();
        sync(&source, source.store(), copy.clone(), Options::default()).await;
        late.iter().for_each(|name| _ = source.bucket.lose(name));
        source.states.pop();
        source.another_machine().await;
        hidden.into_iter().for_each(|(name, body)| source.bucket.plant(&name, body));
        source.live(10).await;
        let told = sync(&source, source.store(), copy.clone(), Options::default()).await;
        assert_eq!(told.damaged, []);
        assert!(told.warnings[0].contains("beside the history"), "{:?}", told.warnings);
        check_complete(&copy, &source, "at the end").await;
        drop(old);
    });
}

#[test]
fn credentials_that_may_only_add_are_enough() {
    in_virtual_time(async {
        let mut source = Source::new(9).await;
        let memory = copy();
        for round in 0..4 {
            source.live(20).await;
            source.collect().await;
            let (adding, handle) = Faults::new(memory.clone(), 1);
            handle.order(Order::next(Fault::Denied).at(haven_store::meter::Verb::Delete).times(u64::MAX));
            let options = Options { grace: Duration::ZERO, brake_floor: u64::MAX, ..Options::default() };
            let told = sync(&source, source.store(), Arc::new(adding), options).await;
            assert_eq!((told.deletions.objects, told.damaged.len()), (0, 0));
            assert!(
                round == 0 || told.warnings.iter().any(|text| text.contains("may not delete")),
                "{:?}",
                told.warnings
            );
            check_complete(&memory, &source, "at the end").await;
        }
    });
}

#[test]
fn every_byte_is_read_back_in_time_and_what_is_damaged_is_mended_from_the_source() {
    in_virtual_time(async {
        let mut source = Source::new(10).await;
        source.live(80).await;
        source.checkpoint().await;
        source.change().await;
        source.sent().await;
        let copy = copy();
        sync(&source, source.store(), copy.clone(), Options::default()).await;
        let right = objects(&copy);
        let victims = ["p/", "m/", "l/", "e/", "cfg/", "r/"].map(|prefix| {
            let name = right.keys().find(|name| name.starts_with(prefix)).unwrap();
            let mut wrong = right[name].to_vec();
            let middle = wrong.len() / 2;
            wrong[middle] ^= 1;
            copy.plant(name, wrong);
            name.clone()
        });
        let lost = right.keys().rfind(|name| name.starts_with("p/")).unwrap();
        let mut one = replicator(&source, source.store(), copy.clone(), Options::default());
        let run = Run { continuous: true, ..Run::default() };
        one.sync(Run::default()).await.unwrap();
        let (mut mended, mut bytes, mut ended, mut verified) = (Vec::new(), 0, 0, None);
        for hour in 0..28 * 24 {
            source.clock.turn(3600);
            tokio::time::sleep(Duration::from_secs(3600)).await;
            let told = one.sync(run).await.unwrap_or_else(|error| panic!("hour {hour}: {error}"));
            assert_eq!(told.damaged, []);
            mended.extend(told.mended);
            bytes += told.read_back.bytes;
            ended += u32::from(told.read_back.round_ended);
            assert_eq!(told.read_back.verified.is_some(), ended > 0, "hour {hour}: told once a round has ended");
            assert!(told.read_back.round_began.is_some());
            verified = told.read_back.verified;
            if hour == 1 {
                copy.lose(lost);
            }
        }
        mended.sort();
        let mut expected: Vec<String> = victims.into_iter().chain([lost.clone()]).collect();
        expected.sort();
        assert_eq!(mended, expected);
        let wrong: Vec<_> = right.iter().filter(|(name, body)| copy.peek(name).as_ref() != Some(body)).collect();
        assert!(wrong.is_empty(), "{:?}", wrong.iter().map(|(name, _)| name).collect::<Vec<_>>());
        assert!(ended >= 1);
        assert!(bytes > copy.bytes() / 2);
        let noted = newest_standing(&(copy.clone() as DynStore), &source.keys, Side::Replica).await.unwrap();
        assert_eq!(noted.standing.unwrap().verified.map(|at| at.seconds), verified);
        let mut anew = replicator(&source, source.store(), copy.clone(), Options::default());
        let told = anew.sync(Run::default()).await.unwrap();
        assert_eq!(told.read_back.verified, verified, "a fresh process tells it, too, with nothing to do");
    });
}

#[test]
fn a_dry_run_tells_what_would_travel_and_changes_nothing() {
    in_virtual_time(async {
        let mut source = Source::new(11).await;
        source.live(40).await;
        let copy = copy();
        let dry = Run { dry_run: true, ..Run::default() };
        let told = replicator(&source, source.store(), copy.clone(), Options::default()).sync(dry).await.unwrap();
        assert_eq!((copy.count(), source.bucket.names().iter().any(|name| name.starts_with("w/"))), (0, false));
        let done = sync(&source, source.store(), copy.clone(), Options::default()).await;
        assert_eq!((told.objects, told.bytes > 0), (done.objects, true));
    });
}

#[test]
fn a_pack_that_only_the_chunk_index_tells_of_is_copied_too() {
    in_virtual_time(async {
        let mut source = Source::new(12).await;
        source.live(20).await;
        source.change().await;
        // The root stands where the chunks were committed; the record of their pack comes one transaction later.
        source.checkpoint().await;
        let root = source.newest_root();
        let frame = Arc::new(source.bucket.fork());
        for name in frame.names() {
            if layout::parse_segment(&name).is_some_and(|(lsn, ..)| lsn.0 > root.lsn) {
                frame.lose(&name);
            }
        }
        let copy = copy();
        let told = sync(&source, frame.clone(), copy.clone(), Options::default()).await;
        assert_eq!(told.damaged, []);
        assert_eq!(photos_in(&frame, &source.keys).await.unwrap(), photos_in(&copy, &source.keys).await.unwrap());
        check_complete(&copy, &source, "at the end").await;
    });
}

#[test]
fn what_is_none_of_ours_is_told_and_left_alone() {
    in_virtual_time(async {
        let mut source = Source::new(13).await;
        source.live(10).await;
        let copy = copy();
        sync(&source, source.store(), copy.clone(), Options::default()).await;
        copy.plant("p/holiday.jpg", &b"a stranger's"[..]);
        source.live(5).await;
        let told = sync(&source, source.store(), copy.clone(), Options::default()).await;
        assert_eq!(told.strange, Some((1, "p/holiday.jpg".to_owned())));
        assert!(copy.peek("p/holiday.jpg").is_some());
        assert!(copy.describe().contains("replica"));
    });
}

/// A bucket beside another at the same endpoint: gives MD5s, and fetches from there by itself.
#[derive(Debug)]
struct Neighbour {
    memory: Arc<Memory>,
    fetched: std::sync::atomic::AtomicUsize,
    /// Has another endpoint: nothing is fetched from there.
    apart: bool,
    /// Its digests are of the objects' names, and say nothing of what is in them.
    by_name: bool,
    /// Packs that it keeps as they are; a byte of each later one is lost on the way to its disk.
    keeps: std::sync::atomic::AtomicUsize,
}

impl Neighbour {
    fn new(memory: &Arc<Memory>) -> Arc<Self> {
        Arc::new(Self {
            memory: memory.clone(),
            fetched: Default::default(),
            apart: false,
            by_name: false,
            keeps: usize::MAX.into(),
        })
    }

    fn apart(memory: &Arc<Memory>, by_name: bool, keeps: usize) -> Arc<Self> {
        let fetched = Default::default();
        Arc::new(Self { memory: memory.clone(), fetched, apart: true, by_name, keeps: keeps.into() })
    }
}

#[async_trait::async_trait]
impl Store for Neighbour {
    fn describe(&self) -> String {
        self.memory.describe()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering::Relaxed;
        let mut kept = body.to_vec();
        if name.as_str().starts_with(layout::PACKS)
            && self.keeps.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_err()
        {
            kept[30] ^= 1;
        }
        self.memory.put(name, kept.into(), mode).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.memory.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, range: std::ops::Range<u64>) -> Result<Bytes, StoreError> {
        self.memory.get_range(name, range).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        let meta = self.memory.head(name).await?;
        let of = if self.by_name { name.to_string().into() } else { self.get(name).await? };
        let digest: [u8; 16] = md5::Digest::finalize(md5::Digest::chain_update(md5::Md5::default(), of)).into();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(ObjectMeta { etag: Some(format!("\"{hex}\"")), ..meta })
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.memory.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.memory.delete(name).await
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        self.memory.copy(from, to).await
    }

    fn locate(&self) -> Option<Location> {
        Some(Location::new("next door", self.memory.clone()))
    }

    fn copies_from(&self, source: &Location) -> bool {
        !self.apart && source.as_kind::<Arc<Memory>>().is_some()
    }

    async fn copy_from(&self, source: &Location, name: &ObjectName) -> Result<(), StoreError> {
        let body = source.as_kind::<Arc<Memory>>().unwrap().get(name).await?;
        self.fetched.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.memory.put(name, body, PutMode::Always).await
    }
}

#[test]
fn a_pack_that_the_replica_does_not_keep_is_found_at_once_whatever_the_digests_are_of() {
    in_virtual_time(async {
        let mut source = Source::new(15).await;
        source.live(40).await;
        source.checkpoint().await;
        let packs = |store: &Memory| -> Vec<_> {
            objects(store).into_iter().filter(|(name, _)| name.starts_with(layout::PACKS)).collect()
        };
        assert!(packs(&source.bucket).len() > 1);
        // The digests are of what is kept: all are compared. Of something else: the first of a run is read back.
        for (by_name, keeps) in [(false, 1), (true, 0)] {
            let copy = copy();
            let from = || Neighbour::apart(&source.bucket, by_name, usize::MAX);
            let to = |keeps| Neighbour::apart(&copy, by_name, keeps);
            sync(&source, from(), to(usize::MAX), Options::default()).await;
            for (name, _) in packs(&copy) {
                copy.delete(&ObjectName::new(name).unwrap()).await.unwrap();
            }
            let mut one = replicator(&source, from(), to(keeps), Options::default());
            let refused = one.sync(Run { release_brake: true, ..Run::default() }).await.unwrap_err();
            let lost = matches!(&refused, ReplicaError::NotKept { object, .. } if object.starts_with(layout::PACKS));
            assert!(lost, "{by_name}: {refused}");
            sync(&source, from(), to(usize::MAX), Options::default()).await;
            for (name, body) in packs(&copy) {
                assert!(source.bucket.peek(&name) == Some(body), "{by_name}: {name} was not kept, and is sent again");
            }
        }
    });
}

#[test]
fn stores_that_copy_by_themselves_do_so_for_packs_and_what_is_damaged_is_found_when_it_is_read_back() {
    in_virtual_time(async {
        let mut source = Source::new(14).await;
        source.live(40).await;
        source.checkpoint().await;
        let copy = copy();
        let ((from, asked), to) = (metered(Neighbour::new(&source.bucket)), Neighbour::new(&copy));
        sync(&source, from.clone(), to.clone(), Options::default()).await;
        let packs = objects(&copy).keys().filter(|name| name.starts_with(layout::PACKS)).count();
        assert_eq!(to.fetched.load(std::sync::atomic::Ordering::Relaxed), packs);
        assert!(asked.snapshot().bytes_in() < source.bucket.bytes() / 2);
        check_complete(&copy, &source, "copied by the stores").await;

        let pack = objects(&copy).into_keys().find(|name| name.starts_with(layout::PACKS)).unwrap();
        let right = source.bucket.peek(&pack).unwrap();
        let mut wrong = right.to_vec();
        wrong[30] ^= 1;
        for bucket in [&source.bucket, &copy] {
            bucket.plant(&pack, wrong.clone());
        }
        source.clock.turn(28 * crate::common::DAY);
        let told = sync(&source, from.clone(), to.clone(), Options::default()).await;
        assert_eq!(told.damaged.iter().map(|damage| &damage.object).collect::<Vec<_>>(), [&pack]);
        source.bucket.plant(&pack, right.clone());
        source.clock.turn(28 * crate::common::DAY);
        let told = sync(&source, from, to, Options::default()).await;
        assert_eq!(told.mended, std::slice::from_ref(&pack));
        assert_eq!(copy.peek(&pack), Some(right));
    });
}
