//! A store that says nothing, not even no: packets vanish, and requests wait long before they count as lost.

use std::time::{Duration, Instant};

use haven_store::meter::MeterSnapshot;

/// From here on silence is worth telling. A healthy store is never this slow with all of its answers at once; a slow
/// line full of large packs may be, and then what is told is still true.
const LONG: Duration = Duration::from_secs(10);
/// How often to listen.
pub const STEP: Duration = Duration::from_secs(1);

/// Since when requests have been under way and none has come back.
#[derive(Debug)]
pub struct Silence {
    ended: u64,
    since: Instant,
}

impl Silence {
    pub fn new(now: Instant) -> Self {
        Self { ended: 0, since: now }
    }

    /// Takes the counts of `now` in.
    pub fn listen(&mut self, meter: &MeterSnapshot, now: Instant) {
        let under_way: u64 = meter.verbs.iter().map(|verb| verb.in_flight).sum();
        let ended = meter.requests() - under_way;
        if ended != self.ended || under_way == 0 {
            (self.ended, self.since) = (ended, now);
        }
    }

    /// What to tell people, if it has lasted long.
    pub fn told(&self, now: Instant) -> Option<String> {
        let long = now.saturating_duration_since(self.since);
        (long >= LONG).then(|| format!("the store has answered nothing for {} s; still waiting", long.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use haven_store::meter::{Verb, VerbSnapshot};

    use super::*;

    fn counts(requests: u64, in_flight: u64) -> MeterSnapshot {
        let verb = VerbSnapshot {
            verb: Verb::Put,
            requests,
            in_flight,
            abandoned: 0,
            answers: 0,
            errors_retry: 0,
            errors_setting: 0,
            bytes_in: 0,
            bytes_out: 0,
            micros: 0,
            micros_max: 0,
            latency_classes: Vec::new(),
        };
        MeterSnapshot { verbs: vec![verb] }
    }

    #[test]
    fn requests_that_nobody_answers_are_told_of_after_ten_seconds_and_an_answer_ends_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::new(start);
        silence.listen(&counts(5, 2), at(3));
        silence.listen(&counts(7, 4), at(12));
        assert_eq!(silence.told(at(12)), None);
        silence.listen(&counts(7, 4), at(20));
        assert_eq!(
            silence.told(at(20)).as_deref(),
            Some("the store has answered nothing for 17 s; still waiting"),
            "two more requests are no answer"
        );
        silence.listen(&counts(7, 3), at(21));
        assert_eq!(silence.told(at(21)), None);
    }

    #[test]
    fn an_idle_store_is_not_silent() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        for hour in 1..5 {
            let now = start + Duration::from_secs(3600 * hour);
            silence.listen(&counts(9, 0), now);
            assert_eq!(silence.told(now), None);
        }
    }
}
