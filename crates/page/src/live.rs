//! Pages that stay up to date: server-sent events, each a part of the page anew, sent when it has changed.
//!
//! `GET /events?page=PATH-AND-QUERY`: the parts of that page. A browser that has lost the connection comes back by
//! itself and is sent every part once.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{StatusCode, Uri, header};
use serde_json::json;

use crate::{
    App,
    auth::Who,
    model::{Answer, Event},
    route::{
        asked,
        fields::{Asked, Fields},
        look::Wanted,
    },
    view::{self, Here},
};

/// Not oftener than this.
const STEP: Duration = Duration::from_secs(1);
/// And all parts at least so often: `3 min ago` grows old.
const AT_LEAST: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What of which page.
struct Parts {
    here: Here,
    names: &'static [&'static str],
    wanted: Wanted,
}

impl Parts {
    fn of(page: &str) -> Option<Self> {
        let uri: Uri = page.parse().ok()?;
        let (here, names): (_, &[&str]) = match uri.path() {
            "/" => (Here::Overview, &view::overview::PARTS),
            "/findings" => (Here::Findings, &view::findings::PARTS),
            "/copies" => (Here::Copies, &view::copies::PARTS),
            "/runs" => (Here::Runs, &view::runs::PARTS),
            _ => return None,
        };
        let wanted = Wanted::of(&Fields::parse(uri.query().unwrap_or_default().as_bytes()));
        Some(Self { here, names, wanted })
    }

    /// Which of them an event may have changed.
    fn touched(&self, event: Event) -> impl Iterator<Item = &'static str> {
        let names: &[&str] = match event {
            Event::Numbers => &["now"],
            Event::Runs => &["now", "recent", "timeline"],
            Event::Health => &["safe", "findings", "copies", "all-findings", "all-copies"],
            Event::Snapshots | Event::Drills => &["recent", "copies", "all-copies"],
        };
        self.names.iter().copied().filter(move |name| names.contains(name))
    }

    async fn drawn(&self, app: &App, who: &Who, names: &[&'static str]) -> Answer<Vec<(&'static str, String)>> {
        let frame = app.frame(who, self.here);
        if self.here == Here::Runs {
            let runs = app.source.runs(self.wanted.filter(frame.tell.now)).await?;
            let length = view::runs::seconds_of(&self.wanted.span);
            return Ok(vec![("timeline", view::runs::part(&runs, length, &frame.tell).into_string())]);
        }
        let overview = app.source.overview().await?;
        let part = |name: &&'static str| {
            let markup = match *name {
                "all-findings" => Some(view::findings::part(&frame, &overview)),
                "all-copies" => Some(view::copies::part(&frame, &overview)),
                other => view::overview::part(other, &overview, &frame.tell),
            };
            markup.map(|markup| (*name, markup.into_string()))
        };
        Ok(names.iter().filter_map(part).collect())
    }
}

pub(crate) async fn events(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    Asked(fields): Asked,
) -> Response {
    let Some(parts) = Parts::of(fields.get("page")) else { return StatusCode::NOT_FOUND.into_response() };
    let Ok(place) = app.live.clone().try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let mut ending = app.ending.subscribe();
    let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(16);
    tokio::spawn(async move {
        let follow = follow(&app, &who, &parts, &send);
        tokio::select! {
            () = follow => {}
            () = send.closed() => {}
            _ = ending.wait_for(|ending| *ending) => {}
        }
        drop(place);
    });
    let stream = stream::unfold(receive, |mut receive| async move {
        match tokio::time::timeout(KEEP_ALIVE, receive.recv()).await {
            Ok(event) => Some((Ok::<_, Infallible>(event?), receive)),
            // A comment: whoever stands between sees that the connection is alive.
            Err(_) => Some((Ok(Bytes::from_static(b":\n\n")), receive)),
        }
    });
    // Proxies must not gather what should arrive at once.
    let headers = [(header::CONTENT_TYPE.as_str(), "text/event-stream"), ("x-accel-buffering", "no")];
    (headers, Body::from_stream(stream)).into_response()
}

/// An event as browsers read it; `data` has no line ends.
fn event(name: &str, data: &str) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// Sends what changes, until nobody listens or the session has ended.
async fn follow(app: &App, who: &Who, parts: &Parts, send: &tokio::sync::mpsc::Sender<Bytes>) {
    let mut told: HashMap<&'static str, String> = HashMap::new();
    let mut events = app.source.events();
    let mut names: Vec<&'static str> = parts.names.to_vec();
    // And how long a browser waits before it comes back, milliseconds.
    let hello = [Bytes::from_static(b"retry: 2000\n"), event("hello", "live")].concat();
    if send.send(hello.into()).await.is_err() {
        return;
    }
    loop {
        let drawn = if names.is_empty() { Ok(Vec::new()) } else { asked(parts.drawn(app, who, &names)).await };
        match drawn {
            Ok(drawn) => {
                for (name, html) in drawn {
                    if told.get(name) == Some(&html) {
                        continue;
                    }
                    let part = json!({ "part": name, "html": html }).to_string();
                    if send.send(event("part", &part)).await.is_err() {
                        return;
                    }
                    told.insert(name, html);
                }
            }
            Err(error) => tracing::debug!(%error, "a page could not be kept up to date"),
        }
        tokio::time::sleep(STEP).await;
        names = next(&mut events, parts).await;
        if !app.auth.still_in(who) {
            _ = send.send(event("over", "logged out")).await;
            return;
        }
    }
}

/// Waits for something to change; which parts.
async fn next(events: &mut crate::model::EventStream, parts: &Parts) -> Vec<&'static str> {
    let first = tokio::time::timeout(AT_LEAST, events.next()).await;
    let mut names: Vec<&'static str> = match first {
        Ok(Some(event)) => parts.touched(event).collect(),
        // The source tells nothing any more: look all the same.
        Ok(None) => {
            tokio::time::sleep(AT_LEAST).await;
            parts.names.to_vec()
        }
        Err(_) => parts.names.to_vec(),
    };
    // What else is there already comes along.
    while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
        names.extend(parts.touched(event));
    }
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_with_live_parts_are_followed() {
        assert!(Parts::of("/").is_some_and(|parts| parts.names.contains(&"safe")));
        let runs = Parts::of("/runs?kind=drill&span=day").expect("a page");
        assert_eq!((runs.wanted.kind.as_str(), runs.wanted.span.as_str()), ("drill", "day"));
        for page in ["", "/growth", "/login", "//", "x y"] {
            assert!(Parts::of(page).is_none(), "{page:?}");
        }
    }

    #[test]
    fn every_part_is_touched_by_some_event() {
        let all = [Event::Numbers, Event::Runs, Event::Health, Event::Snapshots, Event::Drills];
        for page in ["/", "/findings", "/copies", "/runs"] {
            let parts = Parts::of(page).expect("a page");
            for name in parts.names {
                assert!(all.iter().any(|event| parts.touched(*event).any(|touched| touched == *name)), "{page} {name}");
            }
        }
    }
}
