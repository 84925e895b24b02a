//! Requests to a page without a network.

use std::{net::SocketAddr, sync::Arc};

use axum::body::Body;
use haven_page::{Page, Peer, Settings, Token};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::fake::Fake;

pub const TOKEN: &str = "a token of some length";
pub const ORIGIN: &str = "http://127.0.0.1:8470";

pub struct Web {
    pub source: Arc<Fake>,
    pub page: Page,
    pub cookie: Option<String>,
    pub peer: SocketAddr,
}

pub struct Got {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Web {
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(Token::new(TOKEN).ok());
        change(&mut settings);
        let source = Arc::new(Fake::new());
        let page = Page::new(settings, source.clone()).expect("settings that can be meant");
        Self { source, page, cookie: None, peer: ([127, 0, 0, 1], 40_000).into() }
    }

    pub async fn inside() -> Self {
        let mut web = Self::with(|_| {});
        web.login().await;
        web
    }

    pub async fn login(&mut self) {
        let got = self.post("/login", &format!("token={}", TOKEN.replace(' ', "+"))).await;
        assert_eq!(got.status, StatusCode::SEE_OTHER, "{}", got.text);
        self.cookie = got.header("set-cookie").split(';').next().map(str::to_owned);
    }

    pub async fn raw(&self, mut request: Request<Body>) -> Response<Body> {
        let headers = request.headers_mut();
        headers.entry(header::HOST).or_insert("127.0.0.1:8470".parse().expect("a host"));
        if let Some(cookie) = &self.cookie {
            headers.entry(header::COOKIE).or_insert(cookie.parse().expect("a cookie"));
        }
        request.extensions_mut().insert(Peer(self.peer));
        self.page.router().oneshot(request).await.expect("never fails")
    }

    pub async fn send(&self, request: Request<Body>) -> Got {
        let response = self.raw(request).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        Got { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    pub async fn get(&self, path: &str) -> Got {
        self.send(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    pub async fn post(&self, path: &str, form: &str) -> Got {
        self.post_from(ORIGIN, path, form).await
    }

    pub async fn post_from(&self, origin: &str, path: &str, form: &str) -> Got {
        let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if !origin.is_empty() {
            request = request.header(header::ORIGIN, origin);
        }
        self.send(request.body(Body::from(form.to_owned())).expect("a request")).await
    }

    /// The word that our forms have.
    pub async fn word(&self) -> String {
        let text = self.get("/findings").await.text;
        let after = text.split("name=\"word\" value=\"").nth(1).expect("a form");
        after.split('"').next().expect("a value").to_owned()
    }
}
