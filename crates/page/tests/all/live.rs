//! Pages that stay up to date, over a real connection.

use std::time::Duration;

use http::StatusCode;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

use crate::web::Web;

const PATIENCE: Duration = Duration::from_secs(20);

/// Lines of `/events` of the first page.
async fn listening(web: &Web, port: u16) -> tokio::io::Lines<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    let cookie = web.cookie.as_deref().expect("a session");
    let request = format!("GET /events?page=%2F HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request");
    BufReader::new(stream).lines()
}

async fn until(lines: &mut tokio::io::Lines<BufReader<TcpStream>>, wanted: &str) -> String {
    let found = async {
        while let Some(line) = lines.next_line().await.expect("a line") {
            if line.contains(wanted) {
                return line;
            }
        }
        panic!("ended before {wanted:?}")
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{wanted:?} did not come"))
}

#[tokio::test]
async fn what_changes_is_sent_once_and_ends_with_the_page() {
    let web = Web::inside().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (stop, stopped) = oneshot::channel::<()>();
    let page = web.page.clone();
    let serving = tokio::spawn(async move { page.serve(listener, async { _ = stopped.await }).await });
    let mut lines = listening(&web, port).await;
    assert!(until(&mut lines, "HTTP/1.1").await.contains("200"));
    until(&mut lines, "content-type: text/event-stream").await;
    until(&mut lines, "event: hello").await;
    let first = until(&mut lines, "\"part\":\"safe\"").await;
    assert!(first.contains("one copy is behind"), "{first}");
    web.source.turn("red");
    let safe = until(&mut lines, "\"part\":\"safe\"").await;
    assert!(safe.contains("The bucket has refused every upload"), "{safe}");
    web.source.tick(7);
    let now = until(&mut lines, "\"part\":\"now\"").await;
    assert!(now.contains("7.0 MB"), "{now}");
    stop.send(()).expect("it serves");
    timeout(PATIENCE, serving).await.expect("live connections don't keep it").expect("it ends");
}

#[tokio::test]
async fn a_stream_ends_with_its_session() {
    let web = Web::inside().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let page = web.page.clone();
    let serving = tokio::spawn(async move { page.serve(listener, std::future::pending()).await });
    let mut lines = listening(&web, port).await;
    until(&mut lines, "event: hello").await;
    let word = web.word().await;
    web.post("/logout", &format!("word={word}")).await;
    web.source.tick(3);
    until(&mut lines, "event: over").await;
    serving.abort();
}

#[tokio::test]
async fn only_so_many_listen_and_others_are_told() {
    let web = Web::inside().await;
    let mut open = Vec::new();
    for _ in 0..32 {
        let request = http::Request::get("/events?page=%2F").body(axum::body::Body::empty()).expect("a request");
        let response = web.raw(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        open.push(response);
    }
    assert_eq!(web.get("/events?page=%2F").await.status, StatusCode::SERVICE_UNAVAILABLE);
    drop(open);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let request = http::Request::get("/events?page=%2F").body(axum::body::Body::empty()).expect("a request");
    assert_eq!(web.raw(request).await.status(), StatusCode::OK, "places are given back");
    assert_eq!(web.get("/events?page=%2Fgrowth").await.status, StatusCode::NOT_FOUND);
}
