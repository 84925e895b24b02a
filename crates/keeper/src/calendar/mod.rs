//! When things are done: systemd's calendar words, plain ones, and `every 15m`.
//!
//! ```text
//!     Mon..Fri 02:30        *-*-* 03:00:00 Europe/Berlin        daily        off
//!     daily 00:30           weekly sun 04:00       monthly 1 05:00       every 15m
//! ```

mod expr;
mod hours;

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, tz::TimeZone};

pub use expr::Expr;
pub use hours::{Bandwidth, Hours, HoursError};

/// A text that can't be a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no schedule: {why}")]
pub struct ScheduleError {
    text: String,
    why: String,
}

#[derive(Debug, Clone)]
enum When {
    Never,
    /// Seconds; at multiples of it since the epoch, so that a restart changes nothing.
    Every(i64),
    Calendar(Box<Expr>, Option<TimeZone>),
}

/// When a job is done.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    when: When,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let when = read(text).map_err(|why| ScheduleError { text: text.to_owned(), why })?;
        Ok(Self { text: text.trim().to_owned(), when })
    }
}

fn read(text: &str) -> Result<When, String> {
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    match words.first().map(|word| word.to_ascii_lowercase()).as_deref() {
        None => return Err("it is empty".into()),
        Some("off" | "never") if words.len() == 1 => return Ok(When::Never),
        Some("every") => return every(&words[1..].join(" ")).map(When::Every),
        _ => {}
    }
    let zone = match words.last().filter(|_| words.len() > 1).and_then(|last| zone(last)) {
        Some(zone) => {
            words.pop();
            Some(zone?)
        }
        None => None,
    };
    let plain = plain(&words);
    let expr = Expr::parse(plain.as_deref().unwrap_or(&words.join(" ")))?;
    Ok(When::Calendar(Box::new(expr), zone))
}

/// None: the word is something else.
fn zone(word: &str) -> Option<Result<TimeZone, String>> {
    if word.eq_ignore_ascii_case("utc") {
        return Some(Ok(TimeZone::UTC));
    }
    let like = word.contains('/') && word.chars().all(|c| c.is_ascii_alphabetic() || "/_+-0123456789".contains(c));
    let like = like && word.starts_with(|c: char| c.is_ascii_alphabetic());
    like.then(|| TimeZone::get(word).map_err(|_| format!("there is no time zone {word}")))
}

/// `15m`, `1h30m`, `2 hours`: seconds.
fn every(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no span of time: 15m, 1h, 2 days");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    match duration.as_secs() {
        ..1 => Err("it is less than a second".into()),
        seconds => Ok(seconds),
    }
}

/// Plain words as systemd's; none: they are systemd's already.
fn plain(words: &[String]) -> Option<String> {
    let lower: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
    let words: Vec<&str> = lower.iter().map(String::as_str).filter(|word| *word != "at" && *word != "on").collect();
    let is_time = |word: &str| word.contains(':') && word.starts_with(|c: char| c.is_ascii_digit());
    match words[..] {
        ["daily", time] if is_time(time) => Some(format!("*-*-* {time}")),
        ["weekdays", time] if is_time(time) => Some(format!("Mon..Fri *-*-* {time}")),
        ["weekly", day] if expr::weekday(day).is_some() => Some(format!("{day} *-*-* 00:00:00")),
        ["weekly", day, time] if expr::weekday(day).is_some() && is_time(time) => Some(format!("{day} *-*-* {time}")),
        ["monthly", day] if day.parse::<u8>().is_ok() => Some(format!("*-*-{day} 00:00:00")),
        ["monthly", "last", time] if is_time(time) => Some(format!("*-*~01 {time}")),
        ["monthly", day, time] if day.parse::<u8>().is_ok() && is_time(time) => Some(format!("*-*-{day} {time}")),
        _ => None,
    }
}

impl Schedule {
    pub fn never() -> Self {
        Self { text: "off".into(), when: When::Never }
    }

    pub fn is_never(&self) -> bool {
        matches!(self.when, When::Never)
    }

    /// The first time after `after`. `zone` counts where the schedule names none.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.when {
            When::Never => None,
            When::Every(seconds) => {
                Timestamp::from_second((after.as_second().div_euclid(*seconds) + 1).checked_mul(*seconds)?).ok()
            }
            When::Calendar(expr, own) => expr.next_after(after, own.as_ref().unwrap_or(zone)),
        }
    }

    /// The next `count` times after `after`.
    pub fn upcoming(&self, after: Timestamp, zone: &TimeZone, count: usize) -> Vec<Timestamp> {
        let mut at = after;
        std::iter::from_fn(|| {
            at = self.next_after(at, zone)?;
            Some(at)
        })
        .take(count)
        .collect()
    }

    /// The last time at or before `before`, if there was one within the last 400 days.
    pub fn last_before(&self, before: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // Wider and wider, so that dense schedules are not walked through for a year.
        for hours in [1_i64, 26, 24 * 8, 24 * 32, 24 * 400] {
            let mut at = before.checked_sub(SignedDuration::from_hours(hours)).ok()?;
            let mut last = None;
            while let Some(next) = self.next_after(at, zone).filter(|next| *next <= before) {
                (last, at) = (Some(next), next);
            }
            if last.is_some() {
                return last;
            }
        }
        None
    }

    /// The longest time between two runs among the next ten, seconds: what "its interval" is in a sentence, and what a jitter
    /// is measured by. Whether something is late is asked of the plan.
    pub fn interval(&self, now: Timestamp, zone: &TimeZone) -> Option<i64> {
        let times = self.upcoming(now, zone, 11);
        times.windows(2).map(|two| two[1].as_second() - two[0].as_second()).max()
    }

    /// The time zone it is meant in.
    pub fn zone<'a>(&'a self, usual: &'a TimeZone) -> &'a TimeZone {
        match &self.when {
            When::Calendar(_, Some(own)) => own,
            _ => usual,
        }
    }
}

/// How long a job waits after its time, seconds: the same each time, another for each job and machine, so that not all
/// the world asks one store at once. Never more than a tenth of the interval.
pub fn jitter(job: &str, machine: &str, most: i64, interval: Option<i64>) -> i64 {
    let most = interval.map_or(most, |interval| most.min(interval / 10));
    if most < 1 {
        return 0;
    }
    // FNV-1a: needs to be the same on every machine and version, and nothing more.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in job.bytes().chain([0]).chain(machine.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    i64::try_from((hash ^ (hash >> 32)) % most.unsigned_abs()).unwrap_or_default()
}

impl<'de> serde::Deserialize<'de> for Schedule {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> serde::Deserialize<'de> for Hours {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}
