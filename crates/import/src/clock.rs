//! What one upload waits for: bytes of its source, somebody who takes them, or the answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};

use crate::{progress::Progress, server::Body};

/// Runs while an upload is under way, tries and pauses and all.
#[derive(Debug, Clone)]
pub struct Clock {
    began: Instant,
    at_source: Arc<AtomicU64>,
    sending: Arc<Mutex<Sending>>,
}

#[derive(Debug, Default)]
struct Sending {
    /// Of the try that is under way, while its body is not taken whole.
    since: Option<Instant>,
    took: Duration,
    /// When the last try began.
    tried: Option<Instant>,
}

impl Sending {
    fn end(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.took += now.duration_since(since);
        }
    }
}

impl Clock {
    pub fn start() -> Self {
        Self { began: Instant::now(), at_source: Arc::default(), sending: Arc::default() }
    }

    fn sending(&self) -> std::sync::MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The body of a try, watched.
    pub fn body(&self, mut body: Body) -> Body {
        {
            let mut sending = self.sending();
            sending.since = Some(Instant::now());
            sending.tried = sending.since;
        }
        let (clock, mut waiting) = (self.clone(), None);
        stream::poll_fn(move |cx| {
            let polled = body.poll_next_unpin(cx);
            match &polled {
                Poll::Pending => {
                    waiting.get_or_insert_with(Instant::now);
                }
                Poll::Ready(piece) => {
                    if let Some(since) = waiting.take() {
                        let nanos = Instant::now().duration_since(since).as_nanos() as u64;
                        clock.at_source.fetch_add(nanos, Relaxed);
                    }
                    if piece.is_none() {
                        clock.sending().end(Instant::now());
                    }
                }
            }
            polled
        })
        .boxed()
    }

    /// A try ended, perhaps before its body did.
    pub fn answered(&self) {
        self.sending().end(Instant::now());
    }

    /// Adds up. Returns how long the last try took, without what it waited for its source.
    pub fn stop(self, progress: &Progress) -> Duration {
        let took = self.began.elapsed();
        let source = Duration::from_nanos(self.at_source.load(Relaxed));
        let (sending, tried) = {
            let sending = self.sending();
            (sending.took, sending.tried)
        };
        for (nanos, time) in [
            (&progress.disk_nanos, source),
            (&progress.network_nanos, sending.saturating_sub(source)),
            (&progress.server_nanos, took.saturating_sub(sending)),
        ] {
            nanos.fetch_add(time.as_nanos() as u64, Relaxed);
        }
        tried.map_or(took, |tried| tried.elapsed()).saturating_sub(source)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn each_wait_is_noted_where_it_belongs() {
        let (progress, ms) = (Progress::default(), Duration::from_millis);
        let slow = stream::unfold(0, move |n| async move {
            if n == 1 {
                tokio::time::sleep(ms(60)).await;
            }
            (n < 2).then(|| (Ok(Bytes::from_static(b"x")), n + 1))
        });
        let clock = Clock::start();
        let mut body = clock.body(slow.boxed());
        while body.next().await.is_some() {
            // The taker is slow, too.
            tokio::time::sleep(ms(20)).await;
        }
        tokio::time::sleep(ms(150)).await;
        clock.answered();
        clock.stop(&progress);
        let waited = [&progress.disk_nanos, &progress.network_nanos, &progress.server_nanos];
        let [disk, network, server] = waited.map(|nanos| Duration::from_nanos(nanos.load(Relaxed)));
        assert!(disk >= ms(55) && network >= ms(35) && server >= ms(145), "{disk:?} {network:?} {server:?}");
        assert!(server > disk && disk < ms(145), "{disk:?} {network:?} {server:?}");
    }
}
