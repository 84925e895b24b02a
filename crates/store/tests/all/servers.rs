//! Real servers: `scripts/test-stores.sh` starts them and runs these.
//!
//! Expects `HAVEN_TEST_S3_URL` (a bucket that may be filled), `HAVEN_TEST_S3_HONOURS` (`all`, `garage`
//! or `ceph`), AWS's variables for the key, and
//! `HAVEN_TEST_S3_READER`, the `id secret` of one that may read only; `HAVEN_TEST_S3_OTHER`, another bucket
//! of the same owner; and `HAVEN_TEST_S3_LOCKED`, one made with Object Lock, unless the server has none.

use haven_store::{
    DynStore, PutMode, StoreError, StoreOptions, open, open_bare,
    s3::{Checksum, CredentialConfig, LockMode, Payload, Retention, S3Config},
    suite::{Honours, conformance},
};

use crate::name;

fn url() -> String {
    std::env::var("HAVEN_TEST_S3_URL").expect("HAVEN_TEST_S3_URL names a bucket; see scripts/test-stores.sh")
}

fn honours() -> Honours {
    match std::env::var("HAVEN_TEST_S3_HONOURS").as_deref() {
        Ok("garage") => Honours::GARAGE,
        Ok("ceph" | "all") => Honours::ALL,
        other => panic!("HAVEN_TEST_S3_HONOURS is all, garage or ceph, not {other:?}"),
    }
}

fn with_prefix(prefix: &str) -> String {
    let url = url();
    let (place, query) = url.split_once('?').unwrap_or((&url, ""));
    format!("{place}/{prefix}?{query}")
}

fn bare(url: &str, s3: S3Config) -> DynStore {
    open_bare(url, &StoreOptions { s3, ..StoreOptions::default() }).expect("the store opens")
}

#[tokio::test]
#[ignore = "needs a server: scripts/test-stores.sh"]
async fn the_server_conforms() {
    conformance(bare(&url(), S3Config::default()), honours()).await;
}

#[tokio::test]
#[ignore = "needs a server: scripts/test-stores.sh"]
async fn the_server_conforms_below_a_prefix_with_signed_bodies_and_small_pages() {
    let checksum = Checksum::Md5;
    let s3 = S3Config { payload: Payload::Signed, checksum, list_page_max: Some(7), ..S3Config::default() };
    conformance(bare(&with_prefix("a b/ü+"), s3), honours()).await;
}

#[tokio::test]
#[ignore = "needs a server: scripts/test-stores.sh"]
async fn the_server_conforms_behind_every_decorator() {
    conformance(open(&with_prefix("stack"), &StoreOptions::default()).expect("the store opens"), honours()).await;
}

#[tokio::test]
#[ignore = "needs a server: scripts/test-stores.sh"]
async fn the_probe_finds_what_the_suite_was_told() {
    use haven_store::probe::{Finding, Trait, probe_url};
    let report = probe_url(&with_prefix("probed"), &StoreOptions::default()).await.expect("a report");
    println!("{report}");
    let honoured = |t: Trait| report.findings[&t] == Finding::Honoured;
    assert_eq!(report.missing(), [], "{report}");
    assert_eq!(report.conditional_create(), honours().if_absent, "{report}");
    let swaps = honoured(Trait::IfMatchRefusesWrong) && honoured(Trait::IfMatchAcceptsRight);
    assert_eq!(swaps, honours().if_match, "{report}");
    let left = bare(&with_prefix("probed"), S3Config::default()).list("", None, 10).await.expect("a listing");
    assert!(left.objects.is_empty(), "the probe left {left:?}");
}

#[tokio::test]
#[ignore = "needs a server: scripts/test-stores.sh"]
async fn an_object_goes_from_bucket_to_bucket() {
    let other = std::env::var("HAVEN_TEST_S3_OTHER").expect("HAVEN_TEST_S3_OTHER names another bucket");
    let source = bare(&with_prefix("from here"), S3Config::default());
    let target = bare(&format!("{other}/to/there"), S3Config::default());
    let place = source.locate().expect("a place");
    assert!(target.copies_from(&place));
    let body = vec![7_u8; 9 << 20];
    source.put(&name("p/1"), body.clone().into(), PutMode::Always).await.expect("a put");
    target.copy_from(&place, &name("p/1")).await.expect("a copy");
    assert!(target.get(&name("p/1")).await.expect("a get") == body);
    let missing = target.copy_from(&place, &name("p/2")).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
    for store in [source, target] {
        store.delete(&name("p/1")).await.expect("a delete");
    }
}

#[tokio::test]
#[ignore = "needs a server: scripts/test-stores.sh"]
async fn a_lock_is_worth_what_the_probe_says() {
    use haven_store::probe::{Finding, Trait, probe_url};
    let found = async |url: &str, lock_mode| {
        let s3 = S3Config { lock_mode, ..S3Config::default() };
        let options = StoreOptions { s3, ..StoreOptions::default() };
        let report = probe_url(url, &options).await.expect("a report");
        println!("{report}");
        [Trait::VersionsKept, Trait::LockHolds, Trait::LockStays].map(|t| report.findings[&t] == Finding::Honoured)
    };
    assert_eq!(found(&with_prefix("plain"), LockMode::Governance).await, [false; 3]);
    let Ok(locked) = std::env::var("HAVEN_TEST_S3_LOCKED") else { return };
    assert_eq!(found(&format!("{locked}/a"), LockMode::Governance).await, [true, true, false]);
    assert_eq!(found(&format!("{locked}/b"), LockMode::Compliance).await, [true; 3]);

    // Objects put with a lock are really locked, and can still be hidden, which is what a delete does there.
    let lock = Some(Retention(std::time::Duration::from_secs(5)));
    let options = S3Config { lock, lock_mode: LockMode::Compliance, ..S3Config::default() };
    let store = bare(&format!("{locked}/c"), options);
    store.put(&name("a"), "body".into(), PutMode::Always).await.expect("a put with a lock");
    store.copy(&name("a"), &name("b")).await.expect("a copy with a lock");
    for object in ["a", "b"] {
        store.delete(&name(object)).await.expect("a mark of deletion");
    }
    assert!(store.list("", None, 10).await.expect("a listing").objects.is_empty());
}

#[tokio::test]
#[ignore = "needs a server: scripts/test-stores.sh"]
async fn a_server_refuses_in_words_that_are_understood() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let with_key = |file: &str, key: &str| {
        let path = folder.path().join(file);
        std::fs::write(&path, key).expect("the key is written");
        let credentials = CredentialConfig { file: Some(path), ..CredentialConfig::default() };
        S3Config { credentials, ..S3Config::default() }
    };
    let owner = bare(&url(), S3Config::default());
    owner.put(&name("words/kept"), "body".into(), PutMode::Always).await.expect("a put");

    let missing = bare(&url().replace("s3://haven", "s3://nobody-has-made-this"), S3Config::default());
    let error = missing.get(&name("a")).await.expect_err("no such bucket");
    assert!(matches!(error, StoreError::NoBucket { .. }), "{error:?}");

    let key = std::env::var("AWS_ACCESS_KEY_ID").expect("a key");
    for (file, wrong) in [("secret", format!("{key} wrongsecret")), ("id", "GKwrong0000 wrongsecret".to_owned())] {
        let error = bare(&url(), with_key(file, &wrong)).get(&name("words/kept")).await.expect_err("a wrong key");
        assert!(matches!(error, StoreError::Unauthorized { .. }), "{file}: {error:?}");
    }

    let reader = std::env::var("HAVEN_TEST_S3_READER").expect("a key for reading, as `id secret`");
    let reader = bare(&url(), with_key("reader", &reader));
    assert_eq!(reader.get(&name("words/kept")).await.expect("it may read"), "body");
    assert_eq!(reader.list("words/", None, 10).await.expect("and list").objects.len(), 1);
    let error = reader.put(&name("words/new"), "x".into(), PutMode::Always).await.expect_err("but not write");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(matches!(reader.get(&name("words/absent")).await, Err(StoreError::NotFound { .. })));
    owner.delete(&name("words/kept")).await.expect("a delete");
}
