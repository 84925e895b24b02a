//! Hours of the day: in which nothing large is begun, and in which less is sent.

use std::str::FromStr;

use jiff::civil::Time;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not meant: {why}")]
pub struct HoursError {
    text: String,
    why: String,
}

/// `08:00..22:30`; over midnight where the end is before the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Minutes after midnight.
    from: i32,
    to: i32,
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        let wrong = |why: &str| HoursError { text: text.to_owned(), why: why.to_owned() };
        let (from, to) = text.split_once("..").ok_or_else(|| wrong("hours are written 08:00..22:00"))?;
        let minutes = |text: &str| {
            let (hour, minute) = text.trim().split_once(':').unwrap_or((text.trim(), "0"));
            let (hour, minute) = (hour.parse::<i32>().ok()?, minute.parse::<i32>().ok()?);
            let fits = (0..=24).contains(&hour) && (0..60).contains(&minute) && hour * 60 + minute <= 24 * 60;
            fits.then_some(hour * 60 + minute)
        };
        match (minutes(from), minutes(to)) {
            (Some(from), Some(to)) if from != to => Ok(Self { from, to }),
            _ => Err(wrong("hours are written 08:00..22:00")),
        }
    }
}

impl Hours {
    pub fn has(&self, time: Time) -> bool {
        let at = i32::from(time.hour()) * 60 + i32::from(time.minute());
        if self.from < self.to { (self.from..self.to).contains(&at) } else { at >= self.from || at < self.to }
    }

    /// Seconds from `time` in them until they end.
    pub fn left(&self, time: Time) -> i64 {
        let at = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
        (i64::from(self.to) * 60 - at).rem_euclid(86_400)
    }
}

/// `08:00..22:00 2MB`: no more bytes a second in these hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    pub hours: Hours,
    /// Bytes a second.
    pub rate: u64,
}

impl Bandwidth {
    /// `size` reads a number of bytes as the settings write them.
    pub fn parse(text: &str, size: impl Fn(&str) -> Result<u64, String>) -> Result<Self, HoursError> {
        let wrong = |why: String| HoursError { text: text.to_owned(), why };
        let (hours, rate) = text
            .trim()
            .split_once(char::is_whitespace)
            .ok_or_else(|| wrong("it is written \"08:00..22:00 2MB\"".into()))?;
        let rate = size(rate.trim()).map_err(&wrong)?;
        if rate == 0 {
            return Err(wrong("a rate of 0 would stop everything".into()));
        }
        Ok(Self { hours: hours.parse()?, rate })
    }

    /// The tightest that holds at `time`.
    pub fn at(all: &[Self], time: Time) -> Option<u64> {
        all.iter().filter(|one| one.hours.has(time)).map(|one| one.rate).min()
    }
}
