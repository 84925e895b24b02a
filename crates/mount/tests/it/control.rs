//! Commands speaking with a mount's process.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    sync::Arc,
};

use haven_mount::{
    MountOptions,
    control::{Client, ClientError, Control, Found, Locator, Progress, Refusal, Request, SOCKET, Server, find},
    mounted_at,
};
use serde_json::{Value, json};

use crate::support::{Mounted, Point, Serving, fuse_here, runtime, wait_until};

struct Counting;

#[async_trait::async_trait]
impl Control for Counting {
    async fn answer(&self, request: Request, progress: &Progress) -> Result<Value, Refusal> {
        match request.verb.as_str() {
            "count" => {
                for i in 0..3 {
                    progress.tell(json!({ "at": i }));
                    tokio::task::yield_now().await;
                }
                Ok(json!({ "fast": request.flag("fast") }))
            }
            other => Err(Refusal::unknown(other)),
        }
    }
}

fn locator(cache: &Path) -> Locator {
    Locator {
        pid: std::process::id(),
        socket: cache.join(SOCKET),
        url: "memory:".into(),
        cache: cache.into(),
        version: "0".into(),
    }
}

#[test]
fn requests_are_answered_with_progress_and_an_end_whatever_the_length_of_the_path() {
    let runtime = runtime();
    let _on = runtime.enter();
    let short = tempfile::tempdir().unwrap();
    let long = short.path().join("x".repeat(120));
    fs::create_dir(&long).unwrap();
    for cache in [short.path(), &long] {
        let server = Server::start(cache, Arc::new(Counting)).unwrap();
        assert_eq!(fs::metadata(server.socket()).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = Client::connect(&locator(cache)).unwrap();
        let mut told = Vec::new();
        let done = client.ask(&Request::new("count").with("fast", true), |v| told.push(v)).unwrap();
        assert_eq!(done, json!({ "fast": true }));
        assert_eq!(told, [json!({ "at": 0 }), json!({ "at": 1 }), json!({ "at": 2 })]);
        // The same connection, once more.
        match client.ask(&Request::new("dance"), |_| ()) {
            Err(ClientError::Refused(why)) => assert_eq!(why.code, "unknown"),
            other => panic!("{other:?}"),
        }
        drop(server);
        assert!(!cache.join(SOCKET).exists());
        assert!(matches!(Client::connect(&locator(cache)), Err(ClientError::Connect { .. })));
    }
}

#[test]
fn nonsense_is_refused_and_does_not_harm_the_next_request() {
    let runtime = runtime();
    let _on = runtime.enter();
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(cache.path(), Arc::new(Counting)).unwrap();
    let mut stream = BufReader::new(UnixStream::connect(server.socket()).unwrap());
    let mut ask = |bytes: &[u8]| {
        stream.get_mut().write_all(bytes).unwrap();
        let mut line = String::new();
        while !line.contains("refused") && !line.contains("done") {
            line.clear();
            assert_ne!(stream.read_line(&mut line).unwrap(), 0);
        }
        line
    };
    assert!(ask(b"not json\n").contains("invalid"));
    assert!(ask(b"{\"no\": \"verb\"}\n").contains("invalid"));
    assert!(ask(b"{\"do\": \"count\"}\n").contains("done"));
    assert!(ask(&[b'x'; 70_000]).contains("too long"));
}

#[test]
fn a_mount_tells_where_its_process_is_and_stores_nothing_for_it() {
    if !fuse_here() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let here = locator(cache.path());
    let m = Mounted::with(&MountOptions { control: Some(here.clone()), ..MountOptions::new("memory:") });
    fs::create_dir(m.path("deep")).unwrap();
    let found = Found::Mount { point: m.point.path(), at: here };
    assert_eq!(find(&m.point.path()).unwrap(), found);
    assert_eq!(find(&m.path("deep")).unwrap(), found);
    let mut names = [0; 64];
    assert_eq!(rustix::fs::listxattr(m.point.path(), &mut names), Ok(0));
    assert_eq!(find(cache.path()).unwrap(), Found::Nothing);
    assert!(matches!(find(&cache.path().join("missing")), Err(ClientError::Look { .. })));
}

#[test]
fn an_umount_request_is_refused_while_busy_and_its_connection_ends_with_the_process() {
    if !fuse_here() {
        return;
    }
    let (point, cache) = (Point::new(), tempfile::tempdir().unwrap());
    let mut child = Serving::start(&["--cache", cache.path().to_str().unwrap()], &point.path());
    wait_until("the socket", || cache.path().join(SOCKET).exists());
    let Found::Mount { at, .. } = find(&point.path()).unwrap() else { panic!("not found") };
    assert_eq!(at.pid, child.0.id());
    let mut client = Client::connect(&at).unwrap();
    let status = client.ask(&Request::new("status"), |_| ()).unwrap();
    assert_eq!(status["waiting"], 0);

    let file = fs::File::create(point.path().join("open")).unwrap();
    match client.ask(&Request::new("umount"), |_| ()) {
        Err(ClientError::Refused(why)) => assert!(why.message.contains("in use"), "{why}"),
        other => panic!("{other:?}"),
    }
    drop(file);
    client.ask(&Request::new("umount"), |_| ()).unwrap();
    client.wait_for_end().unwrap();
    assert!(child.0.wait().unwrap().success());
    assert_eq!(mounted_at(&point.path()).unwrap(), None);
}
