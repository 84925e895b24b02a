//! What every store must show, the decorated ones too.
//!
//! [`conformance`] runs all cases under a prefix of its own and removes what it made. A case that
//! fails panics with its name. What a kind of store is known not to honour is named in [`Honours`],
//! and then the suite checks nothing about it.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::port::{Advice, DynStore, ListPage, ObjectName, PutMode, StoreError};

/// What a store does beyond the least that Haven needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Honours {
    /// `PutMode::IfAbsent` never replaces.
    pub if_absent: bool,
    /// `PutMode::IfMatch` replaces exactly when the ETag is right.
    pub if_match: bool,
    /// An object `a` can stand beside an object `a/b`.
    pub nested: bool,
    /// A replaced object is never absent in between.
    pub replaces_at_once: bool,
}

impl Honours {
    /// Everything: S3 itself, Ceph's gateway (16.2), memory.
    pub const ALL: Self = Self { if_absent: true, if_match: true, nested: true, replaces_at_once: true };
    /// A directory: no conditional replace, and a file is no folder.
    pub const DIR: Self = Self { if_match: false, nested: false, ..Self::ALL };
    /// A directory whose server can't replace a file in one step: SFTP without OpenSSH's extensions.
    pub const PLAIN_SFTP: Self = Self { replaces_at_once: false, ..Self::DIR };
    /// A collection: servers look whether there is something, and then delete, and then move.
    pub const WEBDAV: Self = Self { if_absent: false, ..Self::PLAIN_SFTP };
    /// Garage 2.5 accepts conditions and ignores them.
    pub const GARAGE: Self = Self { if_absent: false, if_match: false, ..Self::ALL };
}

/// One case of the suite, under a prefix of its own.
#[derive(Debug, Clone)]
pub struct Bench {
    pub store: DynStore,
    pub honours: Honours,
    prefix: String,
}

type CaseFuture = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// A named case.
pub struct Case {
    pub name: &'static str,
    run: fn(Bench) -> CaseFuture,
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// All cases, in the order they run.
        pub const CASES: &[Case] = &[$(Case { name: stringify!($name), run: |bench| Box::pin($name(bench)) }),*];
    };
}

cases![
    what_was_put_is_read_back,
    what_is_absent_is_not_found,
    an_empty_object_is_an_object,
    a_large_object_comes_back_whole,
    ranges_are_cut_at_the_end,
    put_always_replaces,
    if_absent_never_replaces,
    of_racing_creates_one_wins,
    if_match_replaces_only_what_it_names,
    a_deleted_object_is_gone_and_deleting_is_idempotent,
    a_copy_is_an_object_of_its_own,
    head_tells_the_length,
    a_listing_is_in_byte_order,
    a_prefix_is_a_plain_string,
    a_listing_continues_after_any_name,
    a_listing_pages_through_many_names,
    an_object_beside_a_folder_of_its_name,
    many_puts_at_once_all_arrive,
    readers_never_see_half_an_object,
];

/// Runs every case; panics at the first that fails, with its name.
pub async fn conformance(store: DynStore, honours: Honours) {
    for case in CASES {
        run_case(case, store.clone(), honours).await;
    }
}

/// Runs one case under a fresh prefix and removes what it made.
pub async fn run_case(case: &Case, store: DynStore, honours: Honours) {
    let prefix = format!("suite-{:016x}", rand::random::<u64>());
    let bench = Bench { store, honours, prefix };
    let outcome = (case.run)(bench.clone()).await;
    let tidied = bench.tidy().await;
    if let Err(error) = outcome.and(tidied) {
        panic!("{} does not pass {}: {error} ({error:?})", bench.store.describe(), case.name);
    }
}

impl Bench {
    fn name(&self, rest: &str) -> ObjectName {
        ObjectName::new(format!("{}/{rest}", self.prefix)).expect("the suite's names are valid")
    }

    async fn put(&self, rest: &str, body: impl Into<Bytes>) -> Result<(), StoreError> {
        self.store.put(&self.name(rest), body.into(), PutMode::Always).await
    }

    async fn get(&self, rest: &str) -> Result<Bytes, StoreError> {
        self.store.get(&self.name(rest)).await
    }

    /// One page; names without the case's prefix.
    async fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let whole = |rest: &str| format!("{}/{rest}", self.prefix);
        let after = after.map(whole);
        self.store.list(&whole(prefix), after.as_deref(), limit).await
    }

    fn names(&self, page: &ListPage) -> Vec<String> {
        page.objects.iter().map(|o| self.rest(&o.name)).collect()
    }

    fn rest(&self, name: &ObjectName) -> String {
        let rest = name.as_str().strip_prefix(&self.prefix).and_then(|r| r.strip_prefix('/'));
        rest.unwrap_or_else(|| panic!("{name} was listed, which has another prefix")).to_owned()
    }

    async fn tidy(&self) -> Result<(), StoreError> {
        let prefix = format!("{}/", self.prefix);
        loop {
            let page = self.store.list(&prefix, None, 1000).await?;
            stream::iter(&page.objects)
                .map(Ok)
                .try_for_each_concurrent(16, |object| self.store.delete(&object.name))
                .await?;
            if !page.more {
                return Ok(());
            }
        }
    }
}

/// Bytes that repeat nowhere near.
fn pattern(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut body = Vec::with_capacity(length + 8);
    while body.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body.truncate(length);
    body.into()
}

fn is_not_found<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::NotFound { .. }))
}

async fn what_was_put_is_read_back(b: Bench) -> Result<(), StoreError> {
    for (name, body) in [("one", pattern(1, 1)), ("a/b/c/deep", pattern(70_000, 2)), ("x-Y_z.0", pattern(4096, 3))] {
        b.put(name, body.clone()).await?;
        assert_eq!(b.get(name).await?, body, "{name}");
    }
    Ok(())
}

async fn what_is_absent_is_not_found(b: Bench) -> Result<(), StoreError> {
    for name in ["nothing", "no/such/folder", "there/is"] {
        assert!(is_not_found(b.get(name).await), "get {name}");
        assert!(is_not_found(b.store.get_range(&b.name(name), 0..10).await), "get_range {name}");
        assert!(is_not_found(b.store.head(&b.name(name)).await), "head {name}");
        assert!(is_not_found(b.store.copy(&b.name(name), &b.name("to")).await), "copy {name}");
        b.put("there/is/something", "x").await?;
    }
    assert!(b.page("nothing", None, 10).await?.objects.is_empty());
    Ok(())
}

async fn an_empty_object_is_an_object(b: Bench) -> Result<(), StoreError> {
    b.put("empty", "").await?;
    assert!(b.get("empty").await?.is_empty());
    assert_eq!(b.store.head(&b.name("empty")).await?.bytes, 0);
    assert!(b.store.get_range(&b.name("empty"), 0..10).await?.is_empty());
    assert_eq!(b.names(&b.page("", None, 10).await?), ["empty"]);
    Ok(())
}

async fn a_large_object_comes_back_whole(b: Bench) -> Result<(), StoreError> {
    let body = pattern((33 << 20) + 7, 4);
    b.put("large", body.clone()).await?;
    assert!(b.get("large").await? == body, "33 MiB came back altered");
    let part = b.store.get_range(&b.name("large"), 20_000_000..21_000_000).await?;
    assert!(part == body.slice(20_000_000..21_000_000), "a range of 33 MiB came back altered");
    Ok(())
}

async fn ranges_are_cut_at_the_end(b: Bench) -> Result<(), StoreError> {
    let body = pattern(10_000, 5);
    b.put("ranged", body.clone()).await?;
    let name = b.name("ranged");
    for (start, end) in [(0, 1), (0, 10_000), (1, 9_999), (5_000, 5_001), (9_999, 10_000)] {
        let part = b.store.get_range(&name, start as u64..end as u64).await?;
        assert_eq!(part, body.slice(start..end), "{start}..{end}");
    }
    for (start, end, length) in [(9_990, 20_000, 10), (0, u64::MAX, 10_000), (10_000, 10_001, 0), (1 << 40, 1 << 41, 0)]
    {
        let part = b.store.get_range(&name, start..end).await?;
        assert_eq!(part.len(), length, "{start}..{end} of 10000 bytes");
    }
    assert!(b.store.get_range(&name, 7..7).await?.is_empty(), "an empty range");
    Ok(())
}

async fn put_always_replaces(b: Bench) -> Result<(), StoreError> {
    for round in 0..5_u64 {
        let body = pattern(100 - round as usize, round);
        b.put("again", body.clone()).await?;
        assert_eq!(b.get("again").await?, body, "round {round}");
    }
    assert_eq!(b.store.head(&b.name("again")).await?.bytes, 96);
    Ok(())
}

async fn if_absent_never_replaces(b: Bench) -> Result<(), StoreError> {
    let name = b.name("once");
    b.store.put(&name, "first".into(), PutMode::IfAbsent).await?;
    assert_eq!(b.get("once").await?, "first");
    if b.honours.if_absent {
        let second = b.store.put(&name, "second".into(), PutMode::IfAbsent).await;
        assert!(matches!(second, Err(StoreError::Exists { .. })), "{second:?}");
        assert_eq!(b.get("once").await?, "first");
    }
    b.store.delete(&name).await?;
    b.store.put(&name, "third".into(), PutMode::IfAbsent).await?;
    assert_eq!(b.get("once").await?, "third");
    Ok(())
}

async fn of_racing_creates_one_wins(b: Bench) -> Result<(), StoreError> {
    if !b.honours.if_absent {
        return Ok(());
    }
    for round in 0..5 {
        let name = b.name(&format!("race/{round}"));
        let racers = (0..8_u64).map(|racer| {
            let (store, name) = (b.store.clone(), name.clone());
            async move { store.put(&name, pattern(2000, racer), PutMode::IfAbsent).await }
        });
        let results = futures::future::join_all(racers).await;
        let winners: Vec<u64> = (0..8_u64).zip(&results).filter(|(_, r)| r.is_ok()).map(|(racer, _)| racer).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        for result in &results {
            assert!(matches!(result, Ok(()) | Err(StoreError::Exists { .. })), "{result:?}");
        }
        assert_eq!(b.store.get(&name).await?, pattern(2000, winners[0]));
    }
    Ok(())
}

async fn if_match_replaces_only_what_it_names(b: Bench) -> Result<(), StoreError> {
    if !b.honours.if_match {
        return Ok(());
    }
    let name = b.name("swap");
    b.put("swap", "first").await?;
    let Some(etag) = b.store.head(&name).await?.etag else {
        panic!("a store that honours IfMatch has no ETag");
    };
    b.store.put(&name, "second".into(), PutMode::IfMatch(etag.clone())).await?;
    let late = b.store.put(&name, "third".into(), PutMode::IfMatch(etag)).await;
    assert!(matches!(late, Err(StoreError::Changed { .. })), "{late:?}");
    assert_eq!(b.get("swap").await?, "second");
    Ok(())
}

async fn a_deleted_object_is_gone_and_deleting_is_idempotent(b: Bench) -> Result<(), StoreError> {
    b.put("d/gone", "x").await?;
    b.put("d/stays", "y").await?;
    for _ in 0..2 {
        b.store.delete(&b.name("d/gone")).await?;
        assert!(is_not_found(b.get("d/gone").await));
    }
    b.store.delete(&b.name("never/was/there")).await?;
    b.store.delete(&b.name("d/stays/not")).await?;
    assert_eq!(b.names(&b.page("d/", None, 10).await?), ["d/stays"]);
    Ok(())
}

async fn a_copy_is_an_object_of_its_own(b: Bench) -> Result<(), StoreError> {
    let body = pattern(300_000, 6);
    b.put("from", body.clone()).await?;
    b.put("to/old", "old").await?;
    b.store.copy(&b.name("from"), &b.name("to/new")).await?;
    b.store.copy(&b.name("from"), &b.name("to/old")).await?;
    b.store.delete(&b.name("from")).await?;
    assert_eq!(b.get("to/new").await?, body);
    assert_eq!(b.get("to/old").await?, body);
    Ok(())
}

async fn head_tells_the_length(b: Bench) -> Result<(), StoreError> {
    b.put("h/measured", pattern(12_345, 7)).await?;
    let meta = b.store.head(&b.name("h/measured")).await?;
    assert_eq!((meta.name, meta.bytes), (b.name("h/measured"), 12_345));
    let page = b.page("h/", None, 10).await?;
    assert_eq!(page.objects.len(), 1);
    assert_eq!(page.objects[0].bytes, 12_345);
    assert_eq!(page.objects[0].etag, meta.etag, "head and list tell different ETags");
    Ok(())
}

/// Names whose order differs between bytes, folders and alphabets.
const TRICKY: [&str; 12] = ["A", "B/a", "a-1", "a-2/x", "a.b", "a/0", "a/b-c", "a/b/c", "a/b0", "a0", "a_", "b/0/0/0"];

async fn put_tricky(b: &Bench) -> Result<(), StoreError> {
    for name in TRICKY.iter().rev() {
        b.put(name, *name).await?;
    }
    Ok(())
}

async fn a_listing_is_in_byte_order(b: Bench) -> Result<(), StoreError> {
    put_tricky(&b).await?;
    let page = b.page("", None, 1000).await?;
    assert_eq!(b.names(&page), TRICKY);
    assert!(!page.more);
    Ok(())
}

async fn a_prefix_is_a_plain_string(b: Bench) -> Result<(), StoreError> {
    put_tricky(&b).await?;
    for prefix in ["a", "a/", "a/b", "a/b/", "a-", "b/0/0/0", "B", "z", "a/b/c/d", "b/0/0/0/"] {
        let expected: Vec<&str> = TRICKY.iter().copied().filter(|n| n.starts_with(prefix)).collect();
        assert_eq!(b.names(&b.page(prefix, None, 1000).await?), expected, "prefix {prefix:?}");
    }
    Ok(())
}

async fn a_listing_continues_after_any_name(b: Bench) -> Result<(), StoreError> {
    put_tricky(&b).await?;
    for after in ["0", "A", "B", "a", "a-1", "a-2", "a/", "a/b", "a/b/", "a/b/c", "a/b/d", "b", "b/0/0/0", "c"] {
        for prefix in ["", "a", "a/b"] {
            let expected: Vec<&str> = TRICKY.iter().copied().filter(|n| n.starts_with(prefix) && *n > after).collect();
            let page = b.page(prefix, Some(after), 1000).await?;
            assert_eq!(b.names(&page), expected, "prefix {prefix:?} after {after:?}");
        }
    }
    Ok(())
}

async fn a_listing_pages_through_many_names(b: Bench) -> Result<(), StoreError> {
    let names: Vec<String> = (0..1203).map(|i| format!("p/{:02x}/{i:05}", i * 7 % 13)).collect();
    stream::iter(&names).map(Ok).try_for_each_concurrent(16, |name| b.put(name, name.clone())).await?;
    let mut sorted = names.clone();
    sorted.sort_unstable();
    for limit in [100, 1203, 5000] {
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = b.page("p/", after.as_deref(), limit).await?;
            assert!(page.objects.len() <= limit, "{} objects on a page of {limit}", page.objects.len());
            seen.extend(b.names(&page));
            after = seen.last().cloned();
            if !page.more {
                break;
            }
            assert!(!page.objects.is_empty(), "an empty page that says more follows");
        }
        assert!(seen == sorted, "paging by {limit} lost, doubled or misplaced names");
    }
    Ok(())
}

async fn an_object_beside_a_folder_of_its_name(b: Bench) -> Result<(), StoreError> {
    b.put("n", "object").await?;
    let below = b.put("n/below", "below").await;
    if b.honours.nested {
        below?;
        assert_eq!(b.names(&b.page("n", None, 10).await?), ["n", "n/below"]);
        assert_eq!(b.get("n/below").await?, "below");
    } else {
        assert!(matches!(below, Err(StoreError::Unsupported { .. })), "{below:?}");
        assert!(is_not_found(b.get("n/below").await));
    }
    assert_eq!(b.get("n").await?, "object");
    Ok(())
}

async fn many_puts_at_once_all_arrive(b: Bench) -> Result<(), StoreError> {
    let names: Vec<String> = (0..64).map(|i| format!("c/{}/{i:03}", i % 5)).collect();
    stream::iter(&names)
        .enumerate()
        .map(Ok)
        .try_for_each_concurrent(None, |(i, name)| b.put(name, pattern(5000 + i, i as u64)))
        .await?;
    for (i, name) in names.iter().enumerate() {
        assert_eq!(b.get(name).await?, pattern(5000 + i, i as u64), "{name}");
    }
    assert_eq!(b.page("c/", None, 1000).await?.objects.len(), 64);
    Ok(())
}

async fn readers_never_see_half_an_object(b: Bench) -> Result<(), StoreError> {
    let bodies = [pattern(3 << 20, 8), pattern(2 << 20, 9)];
    b.put("whole", bodies[0].clone()).await?;
    let writes = async {
        for round in 1..8 {
            b.put("whole", bodies[round % 2].clone()).await?;
        }
        Ok::<_, StoreError>(())
    };
    let reads = async {
        for _ in 0..16 {
            let found = match b.get("whole").await {
                // Garage breaks an answer off whose object is replaced meanwhile; that is no half object.
                Err(error) if error.advice() == Advice::Retry => continue,
                Err(StoreError::NotFound { .. }) if !b.honours.replaces_at_once => continue,
                found => found?,
            };
            assert!(bodies.contains(&found), "a reader saw {} bytes that nobody wrote", found.len());
        }
        Ok(())
    };
    futures::try_join!(writes, reads)?;
    Ok(())
}
