//! Connections. Bounded in number, in the time that a request's head may take, and in the time that an end takes.

use std::{sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower_service::Service as _;

use crate::{Page, auth::Peer};

const CONNECTIONS_MAX: u32 = 256;
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// Downloads that take longer than this after the end was asked for are cut off.
const END_WITHIN: Duration = Duration::from_secs(5);
/// After an error that says that this machine has no more of something.
const PAUSE: Duration = Duration::from_millis(200);

pub async fn serve(page: &Page, listener: TcpListener, stop: impl Future<Output = ()> + Send) {
    let (router, places) = (page.router(), Arc::new(Semaphore::new(CONNECTIONS_MAX as usize)));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (page, router) = (page.clone(), router.clone());
                tokio::spawn(async move {
                    answer(&page, router, stream, Peer(peer)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the page was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    page.0.ending.send_replace(true);
    drop(listener);
    // All places are free again when every connection has ended.
    if tokio::time::timeout(END_WITHIN, places.acquire_many(CONNECTIONS_MAX)).await.is_err() {
        tracing::debug!("connections to the page were cut off");
    }
}

async fn answer(page: &Page, router: axum::Router, stream: TcpStream, peer: Peer) {
    let mut ending = page.0.ending.subscribe();
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        // A router is always ready.
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let told = async { _ = ending.wait_for(|ending| *ending).await };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the page ended early");
    }
}
