//! The S3 adapter against a server in this process that has the habits and faults of real ones.

use std::{path::PathBuf, sync::Arc, time::Duration};

use haven_store::{
    Advice, DynStore, PutMode, Store, StoreError, StoreOptions,
    memory::Memory,
    open, open_bare,
    retry::{Retry, RetryConfig},
    s3::{Checksum, CredentialConfig, LockMode, Payload, Retention, S3Config},
    suite::{Honours, conformance},
};
use haven_testkit::{
    faults::{Fault, FaultHandle, Faults, Order},
    server::{Authority, Habits, S3Server, WireFault},
};

use crate::name;

struct Scene {
    memory: Arc<Memory>,
    faults: FaultHandle,
    server: S3Server,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        Self::with_authority(None).await
    }

    async fn with_authority(authority: Option<&Authority>) -> Self {
        let memory = Arc::new(Memory::new());
        let (faulty, faults) = Faults::new(memory.clone(), 1);
        let store: DynStore = Arc::new(faulty);
        let server = match authority {
            None => S3Server::start(store, "bucket").await,
            Some(authority) => S3Server::start_tls(store, "bucket", authority).await,
        };
        let folder = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(folder.path().join("key"), "KEY hunter2").expect("the key is written");
        Self { memory, faults, server: server.expect("the server starts"), folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> S3Config {
        S3Config {
            region: Some("somewhere".into()),
            credentials: CredentialConfig { file: Some(self.file("key")), ..CredentialConfig::default() },
            ..S3Config::default()
        }
    }

    fn store(&self) -> DynStore {
        self.store_with(self.config())
    }

    fn store_with(&self, s3: S3Config) -> DynStore {
        open_bare(&self.server.url(""), &StoreOptions { s3, ..StoreOptions::default() }).expect("the store opens")
    }
}

fn patient(store: DynStore) -> Retry {
    let pause_first = Duration::from_millis(1);
    let setting_interval = Duration::from_millis(5);
    Retry::new(store, RetryConfig { pause_first, setting_interval, seed: Some(1), ..RetryConfig::for_ever() })
}

#[tokio::test]
async fn it_conforms_with_and_without_signed_bodies() {
    let scene = Scene::new().await;
    conformance(scene.store(), Honours::ALL).await;
    conformance(scene.store_with(S3Config { payload: Payload::Signed, ..scene.config() }), Honours::ALL).await;
    assert_eq!(scene.memory.count(), 0);
}

#[tokio::test]
async fn it_conforms_on_servers_with_odd_habits() {
    let odd: [fn(&mut Habits); 6] = [
        |h| h.page_max = 3,
        |h| (h.page_max, h.ignores_start_after) = (50, true),
        |h| (h.page_max, h.gives_no_token) = (20, true),
        |h| h.ignores_ranges = true,
        |h| h.unquoted_etags = true,
        |h| h.region = Some("elsewhere".into()),
    ];
    for habit in odd {
        let scene = Scene::new().await;
        scene.server.habits(habit);
        conformance(scene.store(), Honours::ALL).await;
    }
}

#[tokio::test]
async fn it_conforms_over_tls_with_a_private_authority() {
    let authority = Authority::new().expect("an authority");
    let scene = Scene::with_authority(Some(&authority)).await;
    authority.write_pem(&scene.file("ca.pem")).expect("its certificate is written");
    conformance(scene.store_with(S3Config { ca_file: Some(scene.file("ca.pem")), ..scene.config() }), Honours::ALL)
        .await;

    let stranger = scene.store().get(&name("a")).await.expect_err("nobody trusts that authority");
    assert_eq!(stranger.advice(), Advice::Retry);
    assert!(stranger.to_string().contains("ca_file"), "{stranger}");

    std::fs::write(scene.file("ca.pem"), "no certificate").expect("it is written");
    let config = S3Config { ca_file: Some(scene.file("ca.pem")), ..scene.config() };
    let refused = open_bare(&scene.server.url(""), &StoreOptions { s3: config, ..StoreOptions::default() });
    assert!(refused.expect_err("no certificate").to_string().contains("holds no certificate"));
}

#[tokio::test]
async fn no_header_goes_out_that_older_servers_refuse() {
    let scene = Scene::new().await;
    let store = scene.store();
    store.put(&name("a"), "body".into(), PutMode::IfAbsent).await.expect("a put");
    store.get_range(&name("a"), 0..2).await.expect("a get");
    store.copy(&name("a"), &name("b")).await.expect("a copy");
    let known = [
        "authorization",
        "content-length",
        "host",
        "if-none-match",
        "range",
        "user-agent",
        "x-amz-content-sha256",
        "x-amz-copy-source",
        "x-amz-date",
    ];
    for seen in scene.server.seen() {
        for (header, _) in &seen.headers {
            assert!(known.contains(&header.as_str()), "{header} in {} {}", seen.method, seen.target);
        }
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_never_taken_for_whole() {
    let scene = Scene::new().await;
    let store = scene.store();
    let body = vec![7_u8; 300_000];
    scene.memory.plant("a", body.clone());
    for _ in 0..5 {
        scene.server.order([WireFault::CutBody]);
        let cut = store.get(&name("a")).await;
        assert!(cut.as_ref().is_err_and(|e| e.advice() == Advice::Retry), "{cut:?}");
        scene.server.order([WireFault::CutBody]);
        let cut = store.get_range(&name("a"), 10..200_000).await;
        assert!(cut.as_ref().is_err_and(|e| e.advice() == Advice::Retry), "{cut:?}");
        scene.server.order([WireFault::CutBody]);
        let cut = store.list("", None, 10).await;
        assert!(cut.as_ref().is_err_and(|e| e.advice() == Advice::Retry), "{cut:?}");
    }
    assert_eq!(store.get(&name("a")).await.expect("whole"), body);
}

#[tokio::test]
async fn a_create_whose_answer_the_connection_lost_is_a_success() {
    let scene = Scene::new().await;
    let retry = patient(scene.store());
    scene.server.order([WireFault::LoseAnswer]);
    retry.put(&name("a"), "ours".into(), PutMode::IfAbsent).await.expect("it was ours");
    assert_eq!(scene.memory.peek("a").as_deref(), Some(&b"ours"[..]));
    scene.memory.plant("b", "theirs");
    scene.server.order([WireFault::Reset]);
    let lost = retry.put(&name("b"), "ours".into(), PutMode::IfAbsent).await;
    assert!(matches!(lost, Err(StoreError::Exists { .. })), "{lost:?}");
}

#[tokio::test]
async fn a_store_that_knows_no_conditions_is_asked_whether_the_name_is_there() {
    let scene = Scene::new().await;
    scene.server.habits(|h| h.refuses_conditions = true);
    let store = scene.store();
    store.put(&name("a"), "ours".into(), PutMode::IfAbsent).await.expect("nobody had that name");
    let again = store.put(&name("a"), "theirs".into(), PutMode::IfAbsent).await;
    assert!(matches!(again, Err(StoreError::Exists { .. })), "{again:?}");
    assert_eq!(scene.memory.peek("a").as_deref(), Some(&b"ours"[..]));
    // That it can't be asked is never taken for absence.
    scene.server.order([WireFault::Refuse(501, "NotImplemented"), WireFault::Refuse(403, "AccessDenied")]);
    let refused = store.put(&name("b"), "ours".into(), PutMode::IfAbsent).await;
    assert!(matches!(refused, Err(StoreError::Denied { .. })), "{refused:?}");
    scene.server.order([WireFault::Refuse(501, "NotImplemented"), WireFault::NotS3(404)]);
    let refused = store.put(&name("b"), "ours".into(), PutMode::IfAbsent).await;
    assert!(matches!(refused, Err(StoreError::Garbled { .. })), "{refused:?}");
    assert_eq!(scene.memory.count(), 1);
    // What the store does not do at all is told as before.
    scene.server.order([WireFault::Refuse(501, "NotImplemented"), WireFault::Refuse(404, "NoSuchKey")]);
    scene.server.order([WireFault::Refuse(501, "NotImplemented")]);
    let refused = store.put(&name("b"), "ours".into(), PutMode::IfAbsent).await;
    assert!(matches!(refused, Err(StoreError::Unsupported { .. })), "{refused:?}");

    let retry = patient(scene.store());
    scene.server.order([WireFault::Refuse(501, "NotImplemented"), WireFault::Refuse(404, "NoSuchKey")]);
    scene.server.order([WireFault::LoseAnswer]);
    retry.put(&name("c"), "ours".into(), PutMode::IfAbsent).await.expect("it was ours");
    let scene = Scene::new().await;
    scene.server.habits(|h| h.refuses_conditions = true);
    conformance(scene.store(), Honours::GARAGE).await;
}

#[tokio::test]
async fn stray_refusals_are_waited_out_and_never_taken_for_absence() {
    let scene = Scene::new().await;
    scene.memory.plant("a", "body");
    let store = scene.store();
    scene.server.order([WireFault::Refuse(404, "NoSuchBucket")]);
    assert_eq!(store.head(&name("a")).await.expect("it is there").bytes, 4);
    scene.server.order([WireFault::Refuse(404, "NoSuchBucket"); 2]);
    assert!(matches!(store.head(&name("a")).await, Err(StoreError::NoBucket { .. })));
    scene.server.order([WireFault::NotS3(404)]);
    assert!(matches!(store.get(&name("a")).await, Err(StoreError::Garbled { .. })));

    let retry = patient(store);
    scene.server.order([
        WireFault::Refuse(404, "NoSuchBucket"),
        WireFault::Refuse(403, "AccessDenied"),
        WireFault::NotS3(404),
        WireFault::NotS3(502),
        WireFault::Refuse(503, "SlowDown"),
        WireFault::Reset,
    ]);
    assert_eq!(retry.get(&name("a")).await.expect("patience"), "body");
}

#[tokio::test]
async fn a_rotated_key_is_read_again_without_an_error() {
    let scene = Scene::new().await;
    scene.memory.plant("a", "body");
    let store = scene.store();
    scene.server.habits(|h| h.key_id = Some("KEY".into()));
    store.get(&name("a")).await.expect("the first key");
    scene.server.habits(|h| h.key_id = Some("NEXT".into()));
    let refused = store.get(&name("a")).await;
    assert!(matches!(refused, Err(StoreError::Unauthorized { .. })), "{refused:?}");
    std::fs::write(scene.file("key"), "NEXT hunter3").expect("the key is written");
    store.get(&name("a")).await.expect("the next key");
}

#[tokio::test]
async fn a_key_about_to_expire_is_asked_for_before_each_request() {
    let scene = Scene::new().await;
    let count = scene.file("count");
    let printed = r#"{\"AccessKeyId\":\"K\",\"SecretAccessKey\":\"hunter2\",\"Expiration\":\"2015-10-21T07:28:00Z\"}"#;
    let command = format!("echo x >>{}; echo \"{printed}\"", count.display());
    let credentials = CredentialConfig { command: Some(command), ..CredentialConfig::default() };
    let store = scene.store_with(S3Config { credentials, ..scene.config() });
    for _ in 0..3 {
        store.list("", None, 1).await.expect("a listing");
    }
    assert_eq!(std::fs::read_to_string(&count).expect("the count").lines().count(), 3);
}

#[tokio::test]
async fn a_key_that_can_not_be_had_is_told_without_the_secret() {
    let scene = Scene::new().await;
    std::fs::write(scene.file("key"), "hunter2").expect("half a key");
    let store = scene.store();
    let error = store.list("", None, 1).await.expect_err("half a key");
    assert!(matches!(error, StoreError::Unauthorized { .. }), "{error:?}");
    for shown in [error.to_string(), format!("{error:?} {store:?} {:?}", scene.config())] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn the_region_that_a_server_names_is_signed_for_from_then_on() {
    let scene = Scene::new().await;
    scene.server.habits(|h| h.region = Some("garage".into()));
    let store = scene.store();
    store.list("", None, 1).await.expect("a listing");
    store.list("", None, 1).await.expect("a listing");
    assert_eq!(scene.server.seen().len(), 3, "one refusal and two listings");
}

#[tokio::test]
async fn a_wrong_clock_is_named_as_such() {
    let scene = Scene::new().await;
    scene.server.habits(|h| h.clock_seconds = 3 * 3600);
    let error = scene.store().list("", None, 1).await.expect_err("three hours");
    assert!(matches!(error, StoreError::Unauthorized { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("clock is 3 h behind") || text.contains("clock is 2 h behind"), "{text}");
}

#[tokio::test]
async fn a_store_that_asks_for_time_gets_it() {
    let scene = Scene::new().await;
    scene.faults.order(Order::next(Fault::Busy(Duration::from_secs(9))));
    let error = scene.store().list("", None, 1).await.expect_err("busy");
    assert!(matches!(&error, StoreError::Unavailable { after: Some(after), .. } if after.as_secs() == 9), "{error:?}");
}

#[tokio::test]
async fn a_copy_that_fails_with_status_200_has_failed() {
    let scene = Scene::new().await;
    scene.memory.plant("a", "body");
    scene.server.order([WireFault::Refuse(200, "InternalError")]);
    let failed = scene.store().copy(&name("a"), &name("b")).await;
    assert!(failed.as_ref().is_err_and(|e| e.advice() == Advice::Retry), "{failed:?}");
}

#[tokio::test]
async fn nobody_there_is_told_as_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let scene = Scene::new().await;
    let config = StoreOptions { s3: scene.config(), ..StoreOptions::default() };
    let store = open_bare(&format!("s3://b?endpoint=http://{address}"), &config).expect("it opens");
    let error = store.get(&name("a")).await.expect_err("nobody is there");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn plain_http_to_a_tls_port_and_the_reverse_are_told_as_unavailable() {
    let authority = Authority::new().expect("an authority");
    let (tls, plain) = (Scene::with_authority(Some(&authority)).await, Scene::new().await);
    let crossed = [tls.server.endpoint().replace("https", "http"), plain.server.endpoint().replace("http", "https")];
    for endpoint in crossed {
        let options = StoreOptions { s3: plain.config(), ..StoreOptions::default() };
        let store = open_bare(&format!("s3://bucket?endpoint={endpoint}"), &options).expect("it opens");
        let error = store.get(&name("a")).await.expect_err("they don't understand each other");
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_probe_sees_what_a_server_ignores() {
    use haven_store::probe::{Finding, Trait, probe_url};
    let scene = Scene::new().await;
    scene.server.habits(|h| (h.ignores_conditions, h.clock_seconds) = (true, 120));
    let options = StoreOptions { s3: scene.config(), ..StoreOptions::default() };
    let report = probe_url(&scene.server.url(""), &options).await.expect("a report");
    assert!(!report.conditional_create() && report.missing().is_empty(), "{report}");
    assert_eq!(report.findings[&Trait::WrongMd5Refused], Finding::Honoured);
    assert_eq!(report.findings[&Trait::WrongSha256Refused], Finding::Ignored("it takes the body".into()));
    assert_eq!(report.findings[&Trait::WrongCrc32cRefused], Finding::Honoured);
    assert_eq!(report.findings[&Trait::VersionsKept], Finding::Ignored("versioning is not on".into()));
    let unlocked = Finding::Ignored("it takes the lock, and has no versions to lock".into());
    assert_eq!(report.findings[&Trait::LockHolds], unlocked);
    assert!(report.clock_skew_seconds.is_some_and(|skew| (119..=121).contains(&skew)), "{report}");
    assert_eq!(scene.memory.count(), 0);
}

#[tokio::test]
async fn the_probe_tells_what_a_lock_is_worth_and_leaves_nothing() {
    use haven_store::probe::{Finding, Report, Trait, probe_url};
    let probed = async |config: S3Config, habits: fn(&mut Habits)| -> Report {
        let scene = Scene::new().await;
        scene.server.habits(habits);
        let s3 = S3Config { credentials: scene.config().credentials, ..config };
        let options = StoreOptions { s3, ..StoreOptions::default() };
        let report = probe_url(&scene.server.url(""), &options).await.expect("a report");
        assert_eq!((scene.memory.count(), scene.server.versions()), (0, 0), "{report}");
        report
    };
    let found = |report: &Report, wanted: Trait| report.findings[&wanted].clone();
    let governance = S3Config::default();

    let without = probed(governance.clone(), |h| h.keeps_versions = true).await;
    assert_eq!(found(&without, Trait::VersionsKept), Finding::Honoured);
    assert!(matches!(found(&without, Trait::LockHolds), Finding::Ignored(why) if why.starts_with("it takes no lock")));

    let lifted = probed(governance, |h| (h.keeps_versions, h.holds_locks) = (true, true)).await;
    assert_eq!(found(&lifted, Trait::LockHolds), Finding::Honoured);
    assert!(matches!(found(&lifted, Trait::LockStays), Finding::Ignored(_)));

    // What the probe writes besides is not locked for as long as photos are.
    let lock = Some(Retention(Duration::from_secs(30 * 86_400)));
    let compliance = S3Config { lock, lock_mode: LockMode::Compliance, ..S3Config::default() };
    let begun = std::time::Instant::now();
    let kept = probed(compliance, |h| (h.keeps_versions, h.holds_locks) = (true, true)).await;
    assert_eq!([Trait::LockHolds, Trait::LockStays].map(|t| found(&kept, t)), [Finding::Honoured, Finding::Honoured]);
    assert!(begun.elapsed() > Duration::from_secs(9), "a lock of ten seconds was over sooner");
}

#[tokio::test]
async fn what_a_lock_is_worth_is_tried_with_little_and_nothing_is_left() {
    use haven_store::probe::{Finding, probe_locks};
    let tried = async |lock_mode: LockMode, habits: fn(&mut Habits)| -> Finding {
        let scene = Scene::new().await;
        scene.server.habits(habits);
        let lock = Some(Retention(Duration::from_secs(30 * 86_400)));
        let options = StoreOptions { s3: S3Config { lock, lock_mode, ..scene.config() }, ..StoreOptions::default() };
        let found = probe_locks(&scene.server.url(""), &options).await.expect("a finding");
        assert_eq!((scene.memory.count(), scene.server.versions()), (0, 0), "{found:?}");
        found
    };
    let ignored = |found: Finding, how: &str| matches!(&found, Finding::Ignored(why) if why.starts_with(how));
    assert!(ignored(tried(LockMode::Governance, |_| {}).await, "it takes the lock, and has no versions to lock"));
    assert!(ignored(tried(LockMode::Governance, |h| h.keeps_versions = true).await, "it takes no lock"));
    let both: fn(&mut Habits) = |h| (h.keeps_versions, h.holds_locks) = (true, true);
    assert!(ignored(tried(LockMode::Governance, both).await, "it may"), "this key can lift it");
    assert_eq!(tried(LockMode::Compliance, both).await, Finding::Honoured);
}

#[tokio::test]
async fn new_objects_are_locked_and_summed_as_the_settings_say() {
    let scene = Scene::new().await;
    scene.server.habits(|h| (h.keeps_versions, h.holds_locks) = (true, true));
    // In thirty days, also when midnight is near.
    let days = ["30 days", "30 days 1 minute"].map(|later| {
        let printed = std::process::Command::new("date").args(["-u", "-d", later, "+%F"]).output().expect("date");
        String::from_utf8_lossy(&printed.stdout).trim().to_owned()
    });
    let lock = Some(Retention(Duration::from_secs(30 * 86_400)));
    let locked = S3Config { lock, storage_class: Some("COLD".into()), ..scene.config() };
    let store = scene.store_with(locked);
    store.put(&name("a"), "body".into(), PutMode::IfAbsent).await.expect("a put");
    store.copy(&name("a"), &name("b")).await.expect("a copy");
    for seen in scene.server.seen() {
        assert_eq!(seen.header("x-amz-object-lock-mode"), Some("GOVERNANCE"));
        let until = seen.header("x-amz-object-lock-retain-until-date").expect("a date").to_owned();
        assert!(days.contains(&until.split('T').next().expect("a day").to_owned()) && until.ends_with('Z'), "{until}");
        assert_eq!(seen.header("x-amz-storage-class"), Some("COLD"));
    }
    assert_eq!(scene.server.seen()[0].header("content-md5"), Some("hBotaJrYa9FhFEdFPCLG/A=="));

    for (checksum, header) in [
        (Checksum::Md5, "content-md5"),
        (Checksum::Crc32c, "x-amz-checksum-crc32c"),
        (Checksum::Sha256, "x-amz-checksum-sha256"),
    ] {
        let store = scene.store_with(S3Config { checksum, ..scene.config() });
        store.put(&name("c"), vec![7; 400_000].into(), PutMode::Always).await.expect("the right sum");
        assert!(scene.server.seen().last().expect("a request").header(header).is_some(), "{checksum:?}");
        conformance(store, Honours::ALL).await;
    }
}

#[tokio::test]
async fn an_object_goes_from_bucket_to_bucket_without_passing_through() {
    let scene = Scene::new().await;
    let other = Arc::new(Memory::new());
    scene.server.add_bucket("other", other.clone());
    scene.memory.plant("lib/p/1", "body");
    let options = |s3| StoreOptions { s3, ..StoreOptions::default() };
    let source = open(&scene.server.url("lib"), &options(scene.config())).expect("the source");
    let target = open(&scene.server.url_of("other", "x/y"), &options(scene.config())).expect("the target");
    let place = source.locate().expect("a place");
    assert!(target.copies_from(&place));
    target.copy_from(&place, &name("p/1")).await.expect("a copy");
    assert_eq!(other.peek("x/y/p/1").as_deref(), Some(&b"body"[..]));
    let missing = target.copy_from(&place, &name("p/2")).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
    assert!(scene.server.seen().iter().all(|seen| seen.method == "PUT"), "a body passed through here");

    // Another endpoint, another key, another kind: nobody tries.
    let elsewhere = Scene::new().await;
    let options_of = options(scene.config());
    let foreign = open(&elsewhere.server.url("x"), &options_of).expect("it opens");
    std::fs::write(scene.file("other-key"), "OTHER hunter2").expect("the key is written");
    let credentials = CredentialConfig { file: Some(scene.file("other-key")), ..CredentialConfig::default() };
    let keyed = open(&scene.server.url("x"), &options(S3Config { credentials, ..scene.config() })).expect("it opens");
    for store in [foreign, keyed, Arc::new(Memory::new())] {
        assert!(!store.copies_from(&place), "{store:?}");
        let refused = store.copy_from(&place, &name("p/1")).await;
        assert!(matches!(refused, Err(StoreError::Unsupported { .. })), "{refused:?}");
    }
    assert!(!format!("{place:?}").contains("hunter2"), "{place:?}");
}
