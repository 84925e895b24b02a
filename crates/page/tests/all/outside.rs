//! Who was not let in learns nothing and does nothing.

use axum::body::Body;
use haven_page::{Proxy, WRONG_MAX};
use http::{Request, StatusCode};

use crate::web::{TOKEN, Web};

const SECRETS: [&str; 6] =
    ["photos/haven", "replica-lag", "IMG_0001", "immich-newest", "Your photos", "nas.example.org"];

#[tokio::test]
async fn without_a_token_nothing_is_served_but_the_login() {
    let web = Web::with(|_| {});
    let pages = [
        "/",
        "/findings",
        "/copies",
        "/runs",
        "/runs/1000",
        "/growth",
        "/snapshots",
        "/drills",
        "/nowhere",
        "/browse?snapshot=immich-newest",
        "/download?snapshot=immich-newest&path=notes.txt",
    ];
    for page in pages {
        let got = web.get(page).await;
        assert_eq!(got.status, StatusCode::SEE_OTHER, "{page}");
        assert!(got.header("location").starts_with("/login"), "{page}");
        assert!(got.text.is_empty(), "{page}: {}", got.text);
    }
    for path in ["/events?page=/", "/metrics", "/assets/page.js"] {
        let got = web.get(path).await;
        assert_eq!((got.status, got.text.as_str()), (StatusCode::UNAUTHORIZED, ""), "{path}");
    }
    for path in ["/restore", "/act", "/logout", "/nowhere"] {
        let got = web.post(path, "do=flush&snapshot=immich-newest&path=notes.txt").await;
        assert_eq!((got.status, got.text.as_str()), (StatusCode::UNAUTHORIZED, ""), "{path}");
    }
    assert!(web.source.acted.lock().is_empty() && web.source.restored.lock().is_empty());
    for path in ["/login", "/assets/page.css", "/assets/icon.svg", "/healthz"] {
        let got = web.get(path).await;
        assert_eq!(got.status, StatusCode::OK, "{path}");
        assert!(SECRETS.iter().all(|secret| !got.text.contains(secret)), "{path}");
    }
    assert_eq!(web.get("/login?next=/runs").await.text.matches("value=\"/runs\"").count(), 1);
    assert!(!web.get("/login?next=https://evil.example").await.text.contains("evil"));
}

#[tokio::test]
async fn health_tells_ok_or_not_and_nothing_else() {
    let web = Web::with(|_| {});
    assert_eq!(web.get("/healthz").await.text, "ok\n");
    web.source.alive.store(false, std::sync::atomic::Ordering::Relaxed);
    let got = web.get("/healthz").await;
    assert_eq!((got.status, got.text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "not ok\n"));
}

#[tokio::test]
async fn wrong_tokens_are_refused_and_then_made_to_wait() {
    let mut web = Web::with(|_| {});
    for _ in 0..WRONG_MAX {
        let got = web.post("/login", "token=a+token+of+some+lengtH").await;
        assert_eq!(got.status, StatusCode::UNAUTHORIZED);
        assert!(got.headers.get("set-cookie").is_none() && got.text.contains("That is not the token"));
    }
    let got = web.post("/login", &format!("token={}", TOKEN.replace(' ', "+"))).await;
    assert_eq!(got.status, StatusCode::TOO_MANY_REQUESTS, "even the right one");
    assert!(got.header("retry-after").parse::<u64>().is_ok_and(|seconds| (1..=60).contains(&seconds)));
    web.peer = ([192, 0, 2, 7], 1).into();
    web.login().await;
    assert_eq!(web.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_login_from_another_page_is_none() {
    let web = Web::with(|_| {});
    for origin in ["", "null", "http://evil.example", "http://127.0.0.1:8471"] {
        let got = web.post_from(origin, "/login", &format!("token={}", TOKEN.replace(' ', "+"))).await;
        assert_eq!(got.status, StatusCode::FORBIDDEN, "{origin:?}");
        assert!(got.headers.get("set-cookie").is_none());
    }
}

#[tokio::test]
async fn another_name_for_this_machine_is_refused() {
    let web = Web::inside().await;
    let request = Request::get("/").header("host", "evil.example").body(Body::empty()).expect("a request");
    assert_eq!(web.send(request).await.status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn a_proxy_names_people_from_its_own_address_alone() {
    let mut web = Web::with(|settings| {
        settings.token = None;
        let header = Some(http::HeaderName::from_static("remote-user"));
        settings.proxy = Some(Proxy { header, from: vec!["127.0.0.1".parse().expect("an address")] });
    });
    let named = || Request::get("/").header("remote-user", "anna").body(Body::empty()).expect("a request");
    let got = web.send(named()).await;
    assert!(got.status == StatusCode::OK && got.text.contains("Here as anna"), "{}", got.text);
    assert_eq!(web.get("/login").await.status, StatusCode::FORBIDDEN, "there is no token to ask for");
    web.peer = ([192, 0, 2, 7], 1).into();
    assert_eq!(web.send(named()).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn metrics_have_a_token_of_their_own() {
    let web = Web::with(|settings| settings.metrics_token = haven_page::Token::new("a token for prometheus").ok());
    let with = |text: &str| {
        Request::get("/metrics")
            .header("authorization", text)
            .header("host", "haven:8470")
            .body(Body::empty())
            .expect("a request")
    };
    let got = web.send(with("Bearer a token for prometheus")).await;
    assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8"));
    for text in ["Bearer wrong, wrong, wrong", "Bearer ", "Basic a token for prometheus", &format!("Bearer {TOKEN}")] {
        assert_eq!(web.send(with(text)).await.status, StatusCode::UNAUTHORIZED, "{text}");
    }
    // It opens nothing else.
    let request = Request::get("/").header("authorization", "Bearer a token for prometheus");
    assert_eq!(web.send(request.body(Body::empty()).expect("a request")).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn every_answer_forbids_what_is_not_needed() {
    let web = Web::inside().await;
    for path in
        ["/", "/login", "/nowhere", "/assets/page.css", "/healthz", "/download?snapshot=immich-newest&path=notes.txt"]
    {
        let got = web.get(path).await;
        let policy = got.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(got.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(got.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(got.header("referrer-policy"), "same-origin", "{path}");
    }
    assert_eq!(web.get("/").await.header("cache-control"), "no-store");
}
