//! How many short files are uploaded at once: more while that brings more, half where the server says that it is too busy, or
//! shows it by taking twice as long for each file and no more of them.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long throughput is looked at before the next decision.
const WINDOW: Duration = Duration::from_secs(3);
/// A file costs a server about as much as this many bytes, however small it is.
const FILE_BYTES: u64 = 1 << 20;
/// So many stay where only the time speaks: a few slow answers are no refusal, and one request at a time fills no line. What the
/// server refuses outright goes lower.
const CALM_LEAST: usize = 4;
/// More throughput than this is more, and no chance.
const MORE: f64 = 1.05;
/// What is under way when the server says no was sent before it did: its no is the same one.
const ONE_NO: Duration = Duration::from_secs(1);
/// Windows without a change after which more is tried: what bound the server may be over.
const TRY_AGAIN: u32 = 5;
/// How much of what was the shortest time is forgotten with each window: after two minutes twice as long is usual.
const FORGOTTEN: f64 = 1.02;

/// The limit of one kind of work.
#[derive(Debug)]
pub struct Lane {
    limit: AtomicUsize,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    /// Of the window: what files cost, and the time that they took together.
    cost: u64,
    took: Duration,
    /// Cost a second in the window before.
    before: f64,
    /// The shortest time for a unit of cost that was met lately, in seconds; none at first.
    calm: Option<f64>,
    /// The limit before it was raised in the window before.
    raised_from: Option<usize>,
    unchanged: u32,
    last_no: Option<Instant>,
}

impl Lane {
    pub fn new(start: usize, most: usize) -> Self {
        let state = State {
            since: Instant::now(),
            cost: 0,
            took: Duration::ZERO,
            before: 0.0,
            calm: None,
            raised_from: None,
            unchanged: 0,
            last_no: None,
        };
        Self { limit: AtomicUsize::new(start.min(most)), most, state: Mutex::new(state) }
    }

    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed).max(1)
    }

    /// A file of that length was taken, in that time.
    pub fn done(&self, bytes: u64, took: Duration) {
        self.done_at(Instant::now(), bytes, took);
    }

    fn done_at(&self, now: Instant, bytes: u64, took: Duration) {
        let mut state = self.state();
        state.cost += bytes + FILE_BYTES;
        state.took += took;
        let window = now.duration_since(state.since);
        if window < WINDOW {
            return;
        }
        let rate = state.cost as f64 / window.as_secs_f64();
        let each = state.took.as_secs_f64() / state.cost as f64;
        self.decide(&mut state, rate, each);
        state.calm = Some(state.calm.map_or(each, |calm| each.min(calm * FORGOTTEN)));
        (state.since, state.cost, state.took, state.before) = (now, 0, Duration::ZERO, rate);
    }

    fn decide(&self, state: &mut State, rate: f64, each: f64) {
        let limit = self.limit();
        let more = rate > state.before * MORE;
        let raised_from = state.raised_from.take();
        if !more && state.calm.is_some_and(|calm| each > 2.0 * calm) {
            self.limit.store((limit / 2).max(CALM_LEAST.min(limit)), Relaxed);
            state.unchanged = 0;
        } else if more {
            self.raise(state, limit);
        } else if let Some(from) = raised_from {
            // What did not bring more is taken back.
            self.limit.store(from, Relaxed);
            state.unchanged = 0;
        } else {
            state.unchanged += 1;
            if state.unchanged >= TRY_AGAIN {
                self.raise(state, limit);
            }
        }
    }

    /// By a quarter: less could not be told from chance.
    fn raise(&self, state: &mut State, limit: usize) {
        state.unchanged = 0;
        if limit < self.most {
            state.raised_from = Some(limit);
            self.limit.store((limit + (limit / 4).max(2)).min(self.most), Relaxed);
        }
    }

    /// The server is too busy: it said so.
    pub fn slow_down(&self) {
        self.slow_down_at(Instant::now());
    }

    fn slow_down_at(&self, now: Instant) {
        let mut state = self.state();
        if state.last_no.is_some_and(|last| now.duration_since(last) < ONE_NO) {
            return;
        }
        state.last_no = Some(now);
        state.raised_from = None;
        state.unchanged = 0;
        self.limit.store((self.limit() / 2).max(1), Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that does some files at once, each in the same time; more of them wait for one another.
    struct Server {
        at_once: usize,
        each: Duration,
    }

    /// Lets a lane work with a server for some windows. Returns the limits it had, and when it is then.
    fn work(lane: &Lane, mut now: Instant, server: &Server, windows: u32) -> (Vec<usize>, Instant) {
        let mut limits = vec![];
        for _ in 0..windows {
            let limit = lane.limit();
            let waits = (limit as f64 / server.at_once as f64).max(1.0);
            let busy = limit.min(server.at_once) as f64;
            let files = (WINDOW.as_secs_f64() / server.each.as_secs_f64() * busy) as u32;
            let start = now;
            for n in 1..=files {
                now = start + WINDOW.mul_f64(f64::from(n) / f64::from(files));
                lane.done_at(now, 2_000_000, server.each.mul_f64(waits));
            }
            limits.push(lane.limit());
        }
        (limits, now)
    }

    const EACH: Duration = Duration::from_millis(200);

    #[test]
    fn a_lane_grows_while_that_brings_more_and_stays_where_it_does_not() {
        let (lane, now) = (Lane::new(8, 32), Instant::now());
        let (limits, now) = work(&lane, now, &Server { at_once: 64, each: EACH }, 12);
        assert_eq!(*limits.last().unwrap(), 32, "{limits:?}");
        // One that does ten at once never gets many more for long.
        let lane = Lane::new(8, 32);
        let (limits, _) = work(&lane, now, &Server { at_once: 10, each: EACH }, 300);
        assert!(limits[20..].iter().all(|limit| (8..=16).contains(limit)), "{limits:?}");
        assert!(limits[20..].iter().any(|limit| *limit >= 10), "{limits:?}");
    }

    #[test]
    fn twice_the_time_for_no_more_files_halves_it_and_what_is_over_is_forgotten() {
        let (lane, now) = (Lane::new(8, 32), Instant::now());
        let (_, now) = work(&lane, now, &Server { at_once: 64, each: EACH }, 20);
        assert_eq!(lane.limit(), 32);
        let (limits, now) = work(&lane, now, &Server { at_once: 64, each: EACH * 3 }, 4);
        assert_eq!(limits[0], 16, "{limits:?}");
        assert_eq!(*limits.last().unwrap(), CALM_LEAST, "{limits:?}");
        let (limits, _) = work(&lane, now, &Server { at_once: 64, each: EACH * 3 }, 120);
        assert!(*limits.last().unwrap() >= 16, "as slow as it is now is usual: {limits:?}");
    }

    #[test]
    fn a_busy_server_halves_the_lane_once_for_all_that_is_under_way_and_one_request_stays() {
        let (lane, now) = (Lane::new(32, 32), Instant::now());
        (0..32).for_each(|ms| lane.slow_down_at(now + Duration::from_millis(ms)));
        assert_eq!(lane.limit(), 16);
        (2..20).for_each(|seconds| lane.slow_down_at(now + Duration::from_secs(seconds)));
        assert_eq!(lane.limit(), 1);
    }
}
