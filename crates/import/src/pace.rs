//! How fast an import goes, how long it will take, and what it waits for: reckoned from what [`Progress`] counts.

use std::{
    collections::VecDeque,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use crate::progress::Progress;

/// How far back is looked: files differ, and less would tell of the last ones only.
const BACK: Duration = Duration::from_secs(60);
/// Between two looks that are kept.
const STEP: Duration = Duration::from_secs(1);
/// Before that a rate is chance.
const LEAST: Duration = Duration::from_secs(3);
/// What the best rate loses with each look: after ten minutes half of it is forgotten.
const FORGOTTEN: f64 = 0.998_84;

/// What the time that is left hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The bytes: disk and line carry no more.
    Bytes,
    /// The files: each costs the server some time, however small it is.
    Files,
}

/// What requests waited for most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    Disk,
    Network,
    Server,
}

/// What is to be shown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Seen {
    /// Of the last minute; 0 while nothing is known.
    pub bytes_per_second: f64,
    pub files_per_second: f64,
    /// None while nothing is known.
    pub left: Option<Left>,
    /// None where nothing waits.
    pub waits_for: Option<WaitsFor>,
}

/// How long it will take. Bytes and files are reckoned apart, each at the best rate that was met lately: small photos tell
/// nothing of the line, and long videos nothing of how many files the server takes. The longer of the two binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub bound: Bound,
    pub by_bytes: Duration,
    pub by_files: Duration,
}

impl Left {
    pub(crate) fn of(by_bytes: Duration, by_files: Duration) -> Self {
        Self { bound: if by_bytes >= by_files { Bound::Bytes } else { Bound::Files }, by_bytes, by_files }
    }

    /// The one that binds.
    pub fn time(self) -> Duration {
        self.by_bytes.max(self.by_files)
    }
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    files: u64,
    bytes: u64,
    /// Disk, network, server; nanoseconds.
    waited: [u64; 3],
}

impl Look {
    fn at(at: Instant, progress: &Progress) -> Self {
        let waited = [&progress.disk_nanos, &progress.network_nanos, &progress.server_nanos];
        Self {
            at,
            files: progress.files.load(Relaxed),
            bytes: progress.bytes.load(Relaxed),
            waited: waited.map(|nanos| nanos.load(Relaxed)),
        }
    }
}

/// Looks at an import again and again.
#[derive(Debug, Default)]
pub struct Pace {
    phase: &'static str,
    looks: VecDeque<Look>,
    best_bytes: f64,
    best_files: f64,
}

impl Pace {
    /// Looks now; a phase that is new begins anew.
    pub fn look(&mut self, progress: &Progress, now: Instant) -> Seen {
        let look = Look::at(now, progress);
        if self.phase != progress.phase() {
            *self = Self { phase: progress.phase(), looks: [look].into(), ..Self::default() };
        }
        // A server that was away is no slow one: what was before is forgotten when it comes back.
        if progress.waiting().is_some() {
            self.looks = [look].into();
            return Seen::default();
        }
        let Some(first) = self.looks.front().copied() else { return Seen::default() };
        let took = now.duration_since(first.at);
        if took < LEAST {
            return Seen::default();
        }
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / took.as_secs_f64();
        let (bytes, files) = (rate(look.bytes, first.bytes), rate(look.files, first.files));
        if self.looks.back().is_none_or(|last| now.duration_since(last.at) >= STEP) {
            self.best_bytes = bytes.max(self.best_bytes * FORGOTTEN);
            self.best_files = files.max(self.best_files * FORGOTTEN);
            self.looks.push_back(look);
            while self.looks.get(1).is_some_and(|next| now.duration_since(next.at) >= BACK) {
                self.looks.pop_front();
            }
        }
        Seen {
            bytes_per_second: bytes,
            files_per_second: files,
            left: self.left(progress),
            waits_for: most_waited(first.waited, look.waited),
        }
    }

    fn left(&self, progress: &Progress) -> Option<Left> {
        let due = |total: u64, done: u64| total.saturating_sub(done);
        let bytes = due(progress.bytes_total.load(Relaxed), progress.bytes.load(Relaxed));
        let files = due(progress.files_total.load(Relaxed), progress.files.load(Relaxed));
        Some(Left::of(time(bytes, self.best_bytes)?, time(files, self.best_files)?))
    }
}

/// None where it would take for ever.
pub fn time(due: u64, per_second: f64) -> Option<Duration> {
    if due == 0 { Some(Duration::ZERO) } else { Duration::try_from_secs_f64(due as f64 / per_second).ok() }
}

fn most_waited(then: [u64; 3], now: [u64; 3]) -> Option<WaitsFor> {
    let all = [WaitsFor::Disk, WaitsFor::Network, WaitsFor::Server];
    let waited = all.into_iter().zip(now.into_iter().zip(then).map(|(now, then)| now.saturating_sub(then)));
    waited.max_by_key(|(_, nanos)| *nanos).filter(|(_, nanos)| *nanos > 0).map(|(what, _)| what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    /// After that many seconds, in which that much was done.
    fn after(
        pace: &mut Pace,
        progress: &Progress,
        start: Instant,
        seconds: std::ops::Range<u64>,
        each: (u64, u64),
    ) -> Seen {
        let mut seen = Seen::default();
        for second in seconds {
            progress.files.fetch_add(each.0, Relaxed);
            progress.bytes.fetch_add(each.1, Relaxed);
            seen = pace.look(progress, start + Duration::from_secs(second + 1));
        }
        seen
    }

    #[test]
    fn photos_are_reckoned_by_files_and_videos_by_bytes() {
        let (progress, mut pace, start) = (Progress::default(), Pace::default(), Instant::now());
        progress.begin("upload", 10_000, 100 * GB);
        assert_eq!(pace.look(&progress, start), Seen::default());
        // Photos of 1 MB: ten files a second.
        let seen = after(&mut pace, &progress, start, 0..30, (10, 10_000_000));
        assert_eq!((seen.files_per_second.round(), seen.bytes_per_second.round()), (10.0, 10_000_000.0));
        let left = seen.left.unwrap();
        // At 10 MB/s the bytes are what takes long.
        assert_eq!((left.bound, left.by_files.as_secs()), (Bound::Bytes, 970));
        assert_eq!(left.time().as_secs(), 9970);
        // Then videos: the line carries more than the photos showed, and that ten files a second go is not forgotten.
        let seen = after(&mut pace, &progress, start, 30..130, (1, 200_000_000));
        assert_eq!(seen.bytes_per_second.round(), 200_000_000.0);
        let left = seen.left.unwrap();
        assert_eq!(left.bound, Bound::Files, "{left:?}");
        assert!((390..410).contains(&left.by_bytes.as_secs()), "{left:?}");
        assert!((960..1200).contains(&left.by_files.as_secs()), "{left:?}");
    }

    #[test]
    fn what_is_waited_for_is_what_took_most_lately() {
        let (progress, mut pace, start) = (Progress::default(), Pace::default(), Instant::now());
        progress.begin("upload", 1000, GB);
        progress.disk_nanos.store(1 << 50, Relaxed);
        pace.look(&progress, start);
        assert_eq!(after(&mut pace, &progress, start, 0..10, (1, 1)).waits_for, None, "what was before is no matter");
        progress.server_nanos.fetch_add(5, Relaxed);
        progress.network_nanos.fetch_add(7, Relaxed);
        assert_eq!(after(&mut pace, &progress, start, 10..11, (1, 1)).waits_for, Some(WaitsFor::Network));
    }

    #[test]
    fn a_server_that_was_away_does_not_make_the_rest_slow() {
        let (progress, mut pace, start) = (Progress::default(), Pace::default(), Instant::now());
        progress.begin("upload", 1000, GB);
        pace.look(&progress, start);
        after(&mut pace, &progress, start, 0..10, (10, 1000));
        progress.set_waiting(Some("gone".to_owned()));
        assert_eq!(after(&mut pace, &progress, start, 10..7200, (0, 0)), Seen::default());
        progress.set_waiting(None);
        let seen = after(&mut pace, &progress, start, 7200..7210, (10, 1000));
        assert_eq!(seen.files_per_second.round(), 10.0);
    }

    #[test]
    fn nothing_done_is_no_time_at_all() {
        let (progress, mut pace, start) = (Progress::default(), Pace::default(), Instant::now());
        progress.begin("upload", 10, 10);
        pace.look(&progress, start);
        assert_eq!(after(&mut pace, &progress, start, 0..10, (0, 0)).left, None);
    }
}
