//! How many uploads run at once: more while that brings more, half where the server is too busy.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long throughput is looked at before the next decision.
const WINDOW: Duration = Duration::from_secs(3);
/// A file costs a server about as much as this many bytes, however small it is.
const FILE_BYTES: u64 = 1 << 20;

/// The limit of one kind of work.
#[derive(Debug)]
pub struct Lane {
    limit: AtomicUsize,
    most: usize,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    done: u64,
    /// Of the window before, per second.
    before: f64,
    grown: bool,
}

impl Lane {
    pub fn new(start: usize, most: usize) -> Self {
        let window = Window { since: Instant::now(), done: 0, before: 0.0, grown: false };
        Self { limit: AtomicUsize::new(start.min(most)), most, window: Mutex::new(window) }
    }

    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed).max(1)
    }

    /// A file of that length was taken.
    pub fn done(&self, bytes: u64) {
        let mut window = self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        window.done += bytes + FILE_BYTES;
        let took = window.since.elapsed();
        if took < WINDOW {
            return;
        }
        let rate = window.done as f64 / took.as_secs_f64();
        let limit = self.limit();
        if rate > window.before * 1.05 {
            self.limit.store((limit + 2).min(self.most), Relaxed);
            window.grown = true;
        } else if window.grown && rate < window.before * 0.9 {
            self.limit.store(limit.saturating_sub(2).max(1), Relaxed);
            window.grown = false;
        }
        *window = Window { since: Instant::now(), done: 0, before: rate, grown: window.grown };
    }

    /// The server is too busy.
    pub fn slow_down(&self) {
        self.limit.store((self.limit() / 2).max(1), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_halves_the_lane_and_one_request_stays() {
        let lane = Lane::new(8, 32);
        lane.slow_down();
        assert_eq!(lane.limit(), 4);
        (0..9).for_each(|_| lane.slow_down());
        assert_eq!(lane.limit(), 1);
    }
}
