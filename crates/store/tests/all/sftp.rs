//! The SFTP adapter against OpenSSH's server, whole and with extensions taken away.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use haven_store::{
    Advice, DynStore, PutMode, Store, StoreError, StoreOptions, open, open_bare,
    secret::SecretConfig,
    sftp::SftpConfig,
    suite::{Honours, conformance},
};
use haven_testkit::relay::Cutter;
use russh::MethodKind;

use crate::{
    name,
    ssh_peer::SshPeer,
    started::{Started, Tmpfs},
};

struct Scene {
    server: Started,
}

impl Scene {
    fn new() -> Self {
        Self::with_flags(&[])
    }

    /// With flags for the SFTP server: `-P` takes requests and extensions away.
    fn with_flags(flags: &[&str]) -> Self {
        Self { server: Started::new("sftp", flags) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.server.path(name)
    }

    fn config(&self) -> SftpConfig {
        SftpConfig {
            key_file: Some(self.file("client_key")),
            known_hosts: Some(self.file("known_hosts")),
            ..SftpConfig::default()
        }
    }

    fn url(&self, port: u16, path: &Path) -> String {
        let user = Command::new("id").arg("-un").output().expect("id").stdout;
        format!("sftp://{}@127.0.0.1:{port}{}", String::from_utf8_lossy(&user).trim(), path.display())
    }

    fn store(&self) -> DynStore {
        self.store_with(self.config())
    }

    fn store_with(&self, sftp: SftpConfig) -> DynStore {
        self.store_at(self.server.port, &self.file("data"), sftp)
    }

    fn store_at(&self, port: u16, path: &Path, sftp: SftpConfig) -> DynStore {
        open_bare(&self.url(port, path), &options(sftp)).expect("the store opens")
    }

    /// Names of files in `~tmp`.
    fn temporary(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.file("data/~tmp")) else { return Vec::new() };
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// The fingerprint of the server's key as ssh-keygen tells it.
    fn fingerprint(&self) -> String {
        let told = Command::new("ssh-keygen").arg("-lf").arg(self.file("host_key.pub")).output().expect("ssh-keygen");
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        told.split(' ').nth(1).expect("a fingerprint").to_owned()
    }
}

fn options(sftp: SftpConfig) -> StoreOptions {
    StoreOptions { sftp, ..StoreOptions::default() }
}

fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "ssh-keygen made no {kind} key");
}

async fn put(store: &dyn Store, text: &str, body: &'static str) -> Result<(), StoreError> {
    store.put(&name(text), body.into(), PutMode::IfAbsent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_conforms_and_is_left_empty() {
    let scene = Scene::new();
    conformance(scene.store(), Honours::DIR).await;
    assert!(scene.temporary().is_empty(), "{:?}", scene.temporary());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_over_one_connection_behind_every_decorator_below_the_users_home() {
    let scene = Scene::new();
    let config = SftpConfig { connections: 1, ..scene.config() };
    let home = PathBuf::from(std::env::var("HOME").expect("a home"));
    let folder = tempfile::tempdir_in(&home).expect("a folder below the user's home");
    let relative = folder.path().file_name().expect("its name");
    let path = Path::new("/~").join(relative);
    let store = open(&scene.url(scene.server.port, &path), &options(config)).expect("it opens");
    conformance(store, Honours::DIR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_where_extensions_are_missing() {
    for (missing, honours) in [
        ("limits", Honours::DIR),
        ("posix-rename,copy-data", Honours::PLAIN_SFTP),
        ("fsync,hardlink,posix-rename,copy-data,statvfs,limits", Honours::PLAIN_SFTP),
    ] {
        let scene = Scene::with_flags(&["-P", missing]);
        conformance(scene.store(), honours).await;
        assert!(scene.temporary().is_empty(), "{missing}: {:?}", scene.temporary());
    }
}

#[tokio::test]
async fn objects_are_files_as_a_directory_store_has_them() {
    let scene = Scene::new();
    put(&*scene.store(), "p/3f/3fa9", "body").await.expect("a put");
    assert_eq!(fs::read(scene.file("data/p/3f/3fa9")).expect("the file"), b"body");
    let there = open_bare(&scene.file("data").display().to_string(), &StoreOptions::default()).expect("it opens");
    assert_eq!(there.get(&name("p/3f/3fa9")).await.expect("a get"), "body");
    fs::write(scene.file("data/p/with space"), "x").expect("a strange file");
    std::os::unix::fs::symlink("3f/3fa9", scene.file("data/p/link")).expect("a link");
    fs::create_dir(scene.file("data/p/folder")).expect("a folder");
    let listed = scene.store().list("", None, 10).await.expect("a listing");
    assert_eq!(listed.objects.len(), 1, "{listed:?}");
    assert!(matches!(scene.store().get(&name("p/folder")).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_missing_root_is_no_bucket_and_is_made_only_when_asked_for() {
    let scene = Scene::new();
    let root = scene.file("data/not/yet");
    let store = scene.store_at(scene.server.port, &root, scene.config());
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
    assert!(!root.exists());
    let made = StoreOptions { create: true, ..options(scene.config()) };
    let made = open_bare(&scene.url(scene.server.port, &root), &made).expect("it opens");
    put(&*made, "a/b", "x").await.expect("a put");
    assert!(root.join("a/b").is_file());
    // Gone again, and not made again by a put.
    fs::remove_dir_all(&root).expect("it goes");
    let gone = put(&*store, "a/c", "x").await;
    assert!(matches!(gone, Err(StoreError::NoBucket { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_folder_removed_by_a_stranger_is_made_again() {
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
    fs::create_dir(scene.file("data/~tmp")).expect("the folder of puts");
    let (old, young) = (scene.file("data/~tmp/1-old"), scene.file("data/~tmp/2-young"));
    let long_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
    fs::File::create(&old).expect("a leftover").set_modified(long_ago).expect("it ages");
    fs::File::create(&young).expect("one that may be alive");
    put(&*scene.store(), "a", "x").await.expect("a put");
    assert_eq!(scene.temporary(), ["2-young"]);
}

#[tokio::test]
async fn a_server_that_is_not_known_is_refused_with_the_line_to_add() {
    let scene = Scene::new();
    let known = fs::read_to_string(scene.file("known_hosts")).expect("the known hosts");
    let empty = SftpConfig { known_hosts: Some(scene.file("none")), ..scene.config() };
    let error = put(&*scene.store_with(empty.clone()), "a", "x").await.expect_err("nobody knows it");
    let StoreError::Untrusted { detail } = &error else { panic!("{error:?}") };
    assert!(detail.contains(&scene.fingerprint()), "{detail}");
    assert_eq!(error.advice(), Advice::Setting);
    let line = detail.rsplit_once("none: ").expect("a line to add").1;
    assert_eq!(line, known.trim());
    fs::write(scene.file("none"), line).expect("it is added");
    put(&*scene.store_with(empty), "a", "x").await.expect("now it is known");
}

#[tokio::test]
async fn a_server_whose_key_has_changed_is_refused() {
    let scene = Scene::new();
    let store = scene.store();
    put(&*store, "a", "x").await.expect("a put");
    scene.server.stop();
    for file in ["host_key", "host_key.pub"] {
        fs::remove_file(scene.file(file)).expect("the key goes");
    }
    keygen(&scene.file("host_key"), "ed25519", "");
    scene.server.start_again();
    let error = eventually_settled(&*store).await;
    assert!(matches!(&error, StoreError::Untrusted { detail } if detail.contains("HAS CHANGED")), "{error:?}");
    let pinned = SftpConfig { fingerprint: Some(scene.fingerprint()), known_hosts: None, ..scene.config() };
    put(&*scene.store_with(pinned.clone()), "b", "x").await.expect("the new key is pinned");
    let other = SftpConfig { fingerprint: Some(format!("SHA256:{}", "x".repeat(43))), ..pinned };
    let error = put(&*scene.store_with(other), "c", "x").await.expect_err("another key is pinned");
    assert!(matches!(&error, StoreError::Untrusted { .. }), "{error:?}");
    assert!(!scene.file("data/c").exists());
}

/// The first error of a get that is not about a cut connection.
async fn eventually_settled(store: &dyn Store) -> StoreError {
    loop {
        match store.get(&name("a")).await {
            Err(StoreError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return error,
            Ok(_) => panic!("a get succeeded"),
        }
    }
}

#[tokio::test]
async fn a_server_whose_only_known_key_is_not_its_first_is_asked_for_that_one() {
    let scene = Scene::new();
    scene.server.stop();
    keygen(&scene.file("host_ecdsa"), "ecdsa", "");
    let config = fs::read_to_string(scene.file("sshd_config")).expect("the settings");
    let both = format!("{config}\nHostKey {}\n", scene.file("host_ecdsa").display());
    fs::write(scene.file("sshd_config"), both).expect("they are written");
    scene.server.start_again();
    let key = fs::read_to_string(scene.file("host_ecdsa.pub")).expect("the key");
    fs::write(scene.file("known_hosts"), format!("[127.0.0.1]:{} {key}", scene.server.port)).expect("it is written");
    put(&*scene.store(), "a", "x").await.expect("the ECDSA key is known");
}

#[tokio::test]
async fn every_kind_of_key_logs_in() {
    let scene = Scene::new();
    let passphrase = scene.file("passphrase");
    fs::write(&passphrase, "hunter2\n").expect("the passphrase");
    let mut authorized = String::new();
    for (kind, secret) in [("rsa", ""), ("ecdsa", ""), ("ed25519", "hunter2")] {
        keygen(&scene.file(kind), kind, secret);
        authorized += &fs::read_to_string(scene.file(&format!("{kind}.pub"))).expect("the key");
    }
    fs::write(scene.file("authorized_keys"), authorized).expect("they are allowed");
    for kind in ["rsa", "ecdsa"] {
        let config = SftpConfig { key_file: Some(scene.file(kind)), ..scene.config() };
        put(&*scene.store_with(config), kind, "x").await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
    let locked = SftpConfig { key_file: Some(scene.file("ed25519")), ..scene.config() };
    let error = put(&*scene.store_with(locked.clone()), "c", "x").await.expect_err("it has a passphrase");
    assert!(matches!(&error, StoreError::Unauthorized { detail } if detail.contains("key_passphrase")), "{error}");
    let key_passphrase = SecretConfig { file: Some(passphrase), ..SecretConfig::default() };
    put(&*scene.store_with(SftpConfig { key_passphrase, ..locked }), "d", "x").await.expect("it is unlocked");
}

/// An ssh-agent, ended when this is dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[tokio::test]
async fn a_key_of_an_agent_logs_in() {
    let scene = Scene::new();
    let socket = scene.file("agent");
    let mut agent = Command::new("ssh-agent");
    let agent = agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().expect("an agent");
    let _agent = Agent(agent);
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let config = SftpConfig { key_file: None, agent: Some(socket.clone()), ..scene.config() };
    let error = put(&*scene.store_with(config.clone()), "a", "x").await.expect_err("the agent holds no key");
    assert!(matches!(&error, StoreError::Unauthorized { detail } if detail.contains("holds no key")), "{error}");
    keygen(&scene.file("rsa"), "rsa", "");
    let keys = ["client_key.pub", "rsa.pub"].map(|key| fs::read_to_string(scene.file(key)).expect("a key"));
    for (key, allowed) in [("rsa", &keys[1]), ("client_key", &keys[0])] {
        fs::write(scene.file("authorized_keys"), allowed).expect("it is allowed");
        let added = Command::new("ssh-add").arg("-q").arg(scene.file(key)).env("SSH_AUTH_SOCK", &socket).output();
        assert!(added.as_ref().is_ok_and(|o| o.status.success()), "{added:?}");
        put(&*scene.store_with(config.clone()), key, "x").await.unwrap_or_else(|error| panic!("{key}: {error}"));
    }
}

#[tokio::test]
async fn a_wrong_key_or_password_is_told_without_the_secret_and_not_tried_again_at_once() {
    let scene = Scene::new();
    keygen(&scene.file("stranger"), "ed25519", "");
    let stranger = SftpConfig { key_file: Some(scene.file("stranger")), ..scene.config() };
    let store = scene.store_with(stranger);
    for _ in 0..5 {
        let error = put(&*store, "a", "x").await.expect_err("nobody knows that key");
        assert!(matches!(&error, StoreError::Unauthorized { detail } if detail.contains("publickey")), "{error}");
    }
    // The server writes down each connection that ends without a login.
    let log = || fs::read_to_string(scene.file("log")).expect("the log");
    let refused = || log().matches("authenticating user").count();
    for _ in 0..250 {
        if refused() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(refused(), 1, "{}", log());

    let password = SecretConfig { command: Some("echo hunter2".into()), ..SecretConfig::default() };
    let config = SftpConfig { key_file: None, password, ..scene.config() };
    let error = put(&*scene.store_with(config), "a", "x").await.expect_err("a wrong password");
    assert!(matches!(error, StoreError::Unauthorized { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    let none = SftpConfig { key_file: Some(scene.file("absent")), ..scene.config() };
    let error = put(&*scene.store_with(none), "a", "x").await.expect_err("no key");
    assert!(error.to_string().contains("there is no key"), "{error}");
}

#[tokio::test]
async fn the_right_password_is_accepted_by_either_way_of_asking() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let host_key = folder.path().join("host_key");
    keygen(&host_key, "ed25519", "");
    for way in [MethodKind::Password, MethodKind::KeyboardInteractive] {
        let peer = SshPeer::start("hunter2", way, &host_key).await;
        let key = fs::read_to_string(folder.path().join("host_key.pub")).expect("the key");
        let known = folder.path().join("known_hosts");
        fs::write(&known, format!("[127.0.0.1]:{} {key}", peer.address.port())).expect("it is written");
        let login = |password: &str| {
            let command = Some(format!("echo {password}"));
            let password = SecretConfig { command, ..SecretConfig::default() };
            let config = SftpConfig { password, known_hosts: Some(known.clone()), ..SftpConfig::default() };
            open_bare(&format!("sftp://me@{}/x", peer.address), &options(config)).expect("it opens")
        };
        let wrong = login("hunter3").get(&name("a")).await.expect_err("a wrong password");
        assert!(matches!(wrong, StoreError::Unauthorized { .. }), "{way:?}: {wrong:?}");
        // That server offers nothing else.
        let right = login("hunter2").get(&name("a")).await.expect_err("there is no SFTP");
        assert!(matches!(right, StoreError::Unsupported { .. }), "{way:?}: {right:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_a_put_leaves_nothing_visible_and_is_made_again() {
    let scene = Scene::new();
    let cutter = Cutter::start(([127, 0, 0, 1], scene.server.port).into()).await.expect("a relay");
    let config = SftpConfig { fingerprint: Some(scene.fingerprint()), known_hosts: None, ..scene.config() };
    let store = scene.store_at(cutter.port(), &scene.file("data"), config.clone());
    let body = vec![7_u8; 3 << 20];
    put(&*store, "before", "x").await.expect("a put");
    // Early, in the middle, and in what follows the last byte of the body.
    for (round, bytes) in [100, 1 << 20, (3 << 20) - 1000, (3 << 20) + 1500, (3 << 20) + 2500].into_iter().enumerate() {
        cutter.cut_after(bytes);
        let name = name(&format!("p/{round}"));
        let cut = store.put(&name, body.clone().into(), PutMode::IfAbsent).await;
        assert_eq!(cutter.cuts(), round as u64 + 1, "{cut:?}");
        match scene.store().get(&name).await {
            Ok(found) => assert!(found == body, "half an object is visible"),
            Err(error) => assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}"),
        }
        assert!(matches!(cut, Ok(()) | Err(StoreError::Unavailable { .. })), "{cut:?}");
        store.put(&name, body.clone().into(), PutMode::Always).await.expect("the connection is made again");
        assert!(store.get(&name).await.expect("a get") == body);
    }
    // Behind the decorators nobody notices.
    let patient = open(&scene.url(cutter.port(), &scene.file("data")), &options(config)).expect("it opens");
    cutter.cut_after(1 << 20);
    patient.put(&name("p/patient"), body.clone().into(), PutMode::IfAbsent).await.expect("a put, in the end");
    cutter.cut();
    assert!(patient.get(&name("p/patient")).await.expect("a get") == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_put_leaves_no_open_file_and_no_leftover() {
    let scene = Scene::new();
    let store = scene.store_with(SftpConfig { connections: 1, ..scene.config() });
    put(&*store, "first", "x").await.expect("a put");
    let body = bytes::Bytes::from(vec![7_u8; 8 << 20]);
    for delay in 0..40_u64 {
        let dropped = name("dropped");
        let work = store.put(&dropped, body.clone(), PutMode::Always);
        let _ = tokio::time::timeout(Duration::from_micros(delay * 250), work).await;
    }
    // Answered after everything that was said before.
    store.head(&name("first")).await.expect("a head");
    assert!(scene.temporary().is_empty(), "{:?}", scene.temporary());
    match store.get(&name("dropped")).await {
        Ok(found) => assert!(found == body, "half an object is visible"),
        Err(error) => assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}"),
    }
    assert_eq!(open_files_below(&scene.file("data")), Vec::<PathBuf>::new());
}

/// Files below `folder` that any process holds open.
fn open_files_below(folder: &Path) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let handles = processes.filter_map(|process| fs::read_dir(process.path().join("fd")).ok()).flatten().flatten();
    handles.filter_map(|handle| fs::read_link(handle.path()).ok()).filter(|file| file.starts_with(folder)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_restarted_is_used_again() {
    let scene = Scene::new();
    let store = open(&scene.url(scene.server.port, &scene.file("data")), &options(scene.config())).expect("it opens");
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
async fn a_full_disk_is_told_as_such_and_frees_what_was_begun() {
    let scene = Scene::new();
    let Some(_disk) = Tmpfs::mount(&scene.file("data"), "4m") else { return };
    let store = scene.store();
    let body = bytes::Bytes::from(vec![7_u8; 3 << 20]);
    store.put(&name("a"), body.clone(), PutMode::Always).await.expect("there is room for one");
    let error = store.put(&name("b"), body.clone(), PutMode::Always).await.expect_err("and none for two");
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    store.delete(&name("a")).await.expect("a delete");
    assert!(scene.temporary().is_empty(), "{:?}", scene.temporary());
    store.put(&name("b"), body, PutMode::Always).await.expect("there is room again");
}

#[tokio::test]
async fn what_the_user_may_not_do_is_denied() {
    let read_only = Scene::with_flags(&["-R"]);
    fs::write(read_only.file("data/a"), "x").expect("a file");
    let store = read_only.store();
    assert_eq!(store.get(&name("a")).await.expect("it may be read"), "x");
    for result in [put(&*store, "b", "x").await, store.delete(&name("a")).await] {
        assert!(matches!(result, Err(StoreError::Denied { .. })), "{result:?}");
    }
}
