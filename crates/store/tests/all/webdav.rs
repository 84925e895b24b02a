//! The WebDAV adapter against Apache, and where they are installed against nginx and rclone.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use haven_store::{
    DynStore, PutMode, Store, StoreError, StoreOptions, open, open_bare,
    secret::SecretConfig,
    suite::{Honours, conformance},
    webdav::WebDavConfig,
};
use haven_testkit::relay::Cutter;

use crate::{
    name,
    started::{Started, Tmpfs},
};

struct Scene {
    server: Started,
}

impl Scene {
    fn new() -> Self {
        Self { server: Started::new("webdav", &[]) }
    }

    fn of(kind: &str) -> Self {
        Self { server: Started::new("webdav", &[kind]) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.server.path(name)
    }

    fn options(&self) -> StoreOptions {
        let password = SecretConfig { file: Some(self.file("password")), ..SecretConfig::default() };
        with(WebDavConfig { password, ..WebDavConfig::default() })
    }

    fn url(&self, path: &str) -> String {
        url(self.server.port, path)
    }

    fn store(&self) -> DynStore {
        open_bare(&self.url(""), &self.options()).expect("the store opens")
    }

    /// Names of files in `~tmp`.
    fn temporary(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.file("data/~tmp")) else { return Vec::new() };
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// Waits for the removal of what a put has left, which nobody waits for.
    async fn settled(&self) {
        for _ in 0..500 {
            if self.temporary().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("left: {:?}", self.temporary());
    }
}

fn with(webdav: WebDavConfig) -> StoreOptions {
    StoreOptions { webdav, ..StoreOptions::default() }
}

fn url(port: u16, path: &str) -> String {
    format!("webdav://haven@127.0.0.1:{port}/dav{path}")
}

async fn put(store: &dyn Store, text: &str, body: &'static str) -> Result<(), StoreError> {
    store.put(&name(text), body.into(), PutMode::IfAbsent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_conforms_and_is_left_empty() {
    let scene = Scene::new();
    conformance(scene.store(), Honours::WEBDAV).await;
    scene.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_below_a_strange_path_behind_every_decorator() {
    let scene = Scene::new();
    let options = StoreOptions { create: true, ..scene.options() };
    let store = open(&scene.url("/a%20b/%C3%BC%2B%25/c"), &options).expect("the store opens");
    conformance(store, Honours::WEBDAV).await;
    assert!(scene.file("data/a b/ü+%/c/~tmp").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx with dav-ext: scripts/test-stores.sh"]
async fn nginx_conforms() {
    let scene = Scene::of("nginx");
    conformance(scene.store(), Honours::WEBDAV).await;
    scene.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rclone: scripts/test-stores.sh"]
async fn rclone_conforms() {
    let scene = Scene::of("rclone");
    conformance(scene.store(), Honours::WEBDAV).await;
    scene.settled().await;
}

#[tokio::test]
async fn objects_are_files_as_a_directory_store_has_them() {
    let scene = Scene::new();
    put(&*scene.store(), "p/3f/3fa9", "body").await.expect("a put");
    assert_eq!(fs::read(scene.file("data/p/3f/3fa9")).expect("the file"), b"body");
    fs::write(scene.file("data/p/with space & <>"), "x").expect("a strange file");
    fs::create_dir(scene.file("data/p/folder")).expect("a folder");
    let listed = scene.store().list("", None, 10).await.expect("a listing");
    assert_eq!(listed.objects.len(), 1, "{listed:?}");
    for missing in ["p", "p/folder", "p/nothing"] {
        let error = scene.store().get(&name(missing)).await.expect_err("no object");
        assert!(matches!(error, StoreError::NotFound { .. }), "{missing}: {error:?}");
    }
}

#[tokio::test]
async fn a_collection_is_never_replaced_copied_or_deleted_with_what_is_in_it() {
    let scene = Scene::new();
    let store = scene.store();
    put(&*store, "p/a", "kept").await.expect("a put");
    for mode in [PutMode::Always, PutMode::IfAbsent] {
        let onto = store.put(&name("p"), "x".into(), mode).await;
        assert!(matches!(onto, Err(StoreError::Unsupported { .. })), "{onto:?}");
    }
    store.delete(&name("p")).await.expect("there is no such object");
    let copied = store.copy(&name("p"), &name("q")).await;
    assert!(matches!(copied, Err(StoreError::NotFound { .. })), "{copied:?}");
    assert_eq!(store.get(&name("p/a")).await.expect("it is still there"), "kept");
    scene.settled().await;
}

#[tokio::test]
async fn a_missing_root_is_no_bucket_and_is_made_only_when_asked_for() {
    let scene = Scene::new();
    let url = scene.url("/not/yet");
    let store = open_bare(&url, &scene.options()).expect("it opens");
    let results = [
        put(&*store, "a/b", "x").await,
        store.get(&name("a/b")).await.map(drop),
        store.head(&name("a")).await.map(drop),
        store.delete(&name("a")).await,
        store.list("", None, 10).await.map(drop),
        store.list("a/b/", None, 10).await.map(drop),
    ];
    for result in results {
        assert!(matches!(result, Err(StoreError::NoBucket { .. })), "{result:?}");
    }
    assert!(!scene.file("data/not").exists());
    let made = open_bare(&url, &StoreOptions { create: true, ..scene.options() }).expect("it opens");
    put(&*made, "a/b", "x").await.expect("a put");
    assert!(scene.file("data/not/yet/a/b").is_file());
}

#[tokio::test]
async fn a_collection_removed_by_a_stranger_is_made_again() {
    let scene = Scene::new();
    let store = scene.store();
    put(&*store, "a/b/c", "x").await.expect("a put");
    fs::remove_dir_all(scene.file("data/a")).expect("it goes");
    put(&*store, "a/b/d", "x").await.expect("a put");
    fs::remove_dir_all(scene.file("data/~tmp")).expect("it goes");
    put(&*store, "a/b/e", "x").await.expect("a put");
    assert_eq!(store.list("a/", None, 10).await.expect("a listing").objects.len(), 2);
}

#[tokio::test]
async fn leftovers_of_dead_puts_are_swept() {
    let scene = Scene::new();
    put(&*scene.store(), "first", "x").await.expect("a put");
    let (old, young) = (scene.file("data/~tmp/1-old"), scene.file("data/~tmp/2-young"));
    let long_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
    fs::File::create(&old).expect("a leftover").set_modified(long_ago).expect("it ages");
    fs::File::create(&young).expect("one that may be alive");
    put(&*scene.store(), "a", "x").await.expect("a put");
    assert_eq!(scene.temporary(), ["2-young"]);
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it_and_a_changed_one_is_read_again() {
    let scene = Scene::new();
    let right = fs::read_to_string(scene.file("password")).expect("the password");
    let file = scene.file("mine");
    fs::write(&file, &right).expect("it is written");
    let password = SecretConfig { file: Some(file.clone()), ..SecretConfig::default() };
    let config = WebDavConfig { password, ..WebDavConfig::default() };
    let store = open_bare(&scene.url(""), &with(config.clone())).expect("it opens");
    put(&*store, "a", "x").await.expect("the right password");

    fs::write(&file, "hunter2").expect("it is written");
    put(&*store, "b", "x").await.expect("it is held");
    let other = open_bare(&scene.url(""), &with(config)).expect("it opens");
    let error = other.get(&name("a")).await.expect_err("a wrong password");
    assert!(matches!(error, StoreError::Unauthorized { .. }), "{error:?}");
    assert!(!format!("{error:?} {other:?}").contains("hunter2"), "{error:?}");
    fs::write(&file, &right).expect("it is written");
    assert_eq!(other.get(&name("a")).await.expect("the password was read again"), "x");

    // Nobody at all, and a token where a password is wanted.
    for token in [None, Some("echo hunter3".to_owned())] {
        let token = SecretConfig { command: token, ..SecretConfig::default() };
        let url = scene.url("").replace("haven@", "");
        let store = open_bare(&url, &with(WebDavConfig { token, ..WebDavConfig::default() })).expect("it opens");
        let error = store.get(&name("a")).await.expect_err("no password");
        assert!(matches!(&error, StoreError::Unauthorized { detail } if !detail.contains("hunter3")), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_a_put_leaves_nothing_visible() {
    let scene = Scene::new();
    let cutter = Cutter::start(([127, 0, 0, 1], scene.server.port).into()).await.expect("a relay");
    // Apache wants destinations of its own port, which a relay has not: nothing is put through it to the end.
    let direct = scene.store();
    let through = open_bare(&url(cutter.port(), ""), &scene.options()).expect("it opens");
    let body = vec![7_u8; 3 << 20];
    for (round, bytes) in [100, 1 << 20, (3 << 20) - 1000].into_iter().enumerate() {
        cutter.cut_after(bytes);
        let name = name(&format!("p/{round}"));
        let cut = through.put(&name, body.clone().into(), PutMode::IfAbsent).await;
        assert_eq!(cutter.cuts(), round as u64 + 1, "{cut:?}");
        assert!(matches!(cut, Err(StoreError::Unavailable { .. })), "{cut:?}");
        let absent = direct.get(&name).await;
        assert!(matches!(absent, Err(StoreError::NotFound { .. })), "{absent:?}");
        direct.put(&name, body.clone().into(), PutMode::IfAbsent).await.expect("the next try");
    }
    cutter.cut_after(100);
    let whole = open(&url(cutter.port(), ""), &scene.options()).expect("it opens");
    assert!(whole.get(&name("p/0")).await.expect("a get, in the end") == body);
}

#[tokio::test]
async fn a_dropped_put_leaves_no_leftover() {
    let scene = Scene::new();
    let store = scene.store();
    put(&*store, "first", "x").await.expect("a put");
    let body = bytes::Bytes::from(vec![7_u8; 8 << 20]);
    for delay in 0..20_u64 {
        let dropped = name("dropped");
        let work = store.put(&dropped, body.clone(), PutMode::Always);
        let _ = tokio::time::timeout(Duration::from_millis(delay), work).await;
    }
    scene.settled().await;
    match store.get(&name("dropped")).await {
        Ok(found) => assert!(found == body, "half an object is visible"),
        Err(error) => assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_restarted_is_used_again() {
    let scene = Scene::new();
    let store = open(&scene.url(""), &scene.options()).expect("it opens");
    put(&*store, "a", "x").await.expect("a put");
    scene.server.stop();
    let error = scene.store().get(&name("a")).await.expect_err("nobody is there");
    assert!(matches!(&error, StoreError::Unavailable { detail, .. } if detail.contains("refused")), "{error:?}");
    let waiting = tokio::spawn(async move { store.get(&name("a")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    scene.server.start_again();
    assert_eq!(waiting.await.expect("no panic").expect("it is back"), "x");
}

#[tokio::test]
async fn a_full_disk_is_told_as_such() {
    let scene = Scene::new();
    let Some(_disk) = Tmpfs::mount(&scene.file("data"), "4m") else { return };
    let store = scene.store();
    let body = bytes::Bytes::from(vec![7_u8; 3 << 20]);
    store.put(&name("a"), body.clone(), PutMode::Always).await.expect("there is room for one");
    let error = store.put(&name("b"), body.clone(), PutMode::Always).await.expect_err("and none for two");
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    store.delete(&name("a")).await.expect("a delete");
    scene.settled().await;
    store.put(&name("b"), body, PutMode::Always).await.expect("there is room again");
}

#[tokio::test]
async fn what_the_server_may_not_do_is_denied() {
    let scene = Scene::new();
    put(&*scene.store(), "a", "x").await.expect("a put");
    let closed = scene.file("data/closed");
    fs::create_dir(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).expect("it is closed");
    let error = put(&*scene.store(), "closed/b", "x").await.expect_err("it may not");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
}

/// Answers every request with this, and closes.
fn always(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[tokio::test]
async fn what_does_not_speak_webdav_is_never_believed() {
    let scene = Scene::new();
    for (answer, expected) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlogin", "NoBucket"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlogin", "Garbled"),
        ("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "Unsupported"),
        ("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "Unavailable"),
    ] {
        let store = open_bare(&url(always(answer), ""), &scene.options()).expect("it opens");
        let errors = [
            store.head(&name("a")).await.map(drop).expect_err("a head"),
            store.list("", None, 1).await.map(drop).expect_err("a listing"),
            store.delete(&name("a")).await.expect_err("a delete"),
        ];
        for error in errors {
            assert!(format!("{error:?}").starts_with(expected), "{expected}: {error:?}");
        }
        let copied = store.copy(&name("a"), &name("b")).await;
        assert!(put(&*store, "a", "x").await.is_err() && copied.is_err(), "{answer:?}: {copied:?}");
    }
}

#[tokio::test]
async fn a_range_that_is_ignored_is_cut_here() {
    let scene = Scene::new();
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789";
    let store = open_bare(&url(always(whole), ""), &scene.options()).expect("it opens");
    assert_eq!(store.get_range(&name("a"), 3..6).await.expect("a part"), "345");
    assert_eq!(store.get_range(&name("a"), 8..20).await.expect("a part"), "89");
    let other =
        "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-2/10\r\nContent-Length: 3\r\nConnection: close\r\n\r\n012";
    let store = open_bare(&url(always(other), ""), &scene.options()).expect("it opens");
    let error = store.get_range(&name("a"), 3..6).await.expect_err("another part");
    assert!(matches!(error, StoreError::Garbled { .. }), "{error:?}");
}

#[tokio::test]
async fn half_of_the_settings_is_refused_at_once() {
    let missing = open_bare("webdav://haven@127.0.0.1/dav", &StoreOptions::default());
    assert!(missing.is_err_and(|error| error.to_string().contains("no password")));
    let secret = open_bare("webdavs://me:hunter2@host/dav", &StoreOptions::default());
    assert!(secret.is_err_and(|error| !error.to_string().contains("hunter2")));
    let ca_file = Some(Path::new("/nowhere").to_owned());
    let authority = open_bare("webdavs://host/dav", &with(WebDavConfig { ca_file, ..WebDavConfig::default() }));
    assert!(authority.is_err_and(|error| error.to_string().contains("/nowhere")));
}
