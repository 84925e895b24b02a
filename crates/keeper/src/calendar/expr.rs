//! systemd's calendar events (systemd.time(7)): `Mon..Fri *-*-* 02:30:00`, `*-02~03`, `*:0/15`, `daily`.
//!
//! Whole seconds only. Where the clock is put forward over a time, systemd passes the day over; here the run happens when
//! the gap ends, because a missed night is worse than a late one. Where the clock is put back, a time of day happens
//! once, unless the hour is `*`.

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, TimeZone},
};

/// systemd looks no further.
const YEAR_LAST: i16 = 2199;
const YEAR_FIRST: i16 = 1970;

/// One piece of a component: `3`, `3..9`, `3/2`, `3..9/2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    from: u32,
    to: Option<u32>,
    step: Option<u32>,
}

/// Which values of a component are meant; none: all.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part(Option<Vec<Piece>>);

/// A calendar event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expr {
    /// Bit 0 is Monday.
    weekdays: u8,
    year: Part,
    month: Part,
    day: Part,
    /// Days are counted from the end of the month.
    from_end: bool,
    hour: Part,
    minute: Part,
    second: Part,
}

impl Part {
    fn parse(text: &str, what: &str, least: u32, most: u32) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self(None));
        }
        let number = |text: &str| -> Result<u32, String> {
            let value: u32 = text.parse().map_err(|_| format!("{text:?} is no {what}"))?;
            if (least..=most).contains(&value) {
                Ok(value)
            } else {
                Err(format!("a {what} is {least} to {most}, not {value}"))
            }
        };
        let piece = |text: &str| -> Result<Piece, String> {
            let (range, step) = match text.split_once('/') {
                Some((range, step)) => {
                    let step: u32 = step.parse().map_err(|_| format!("{step:?} is no step"))?;
                    (range, Some(if step == 0 { return Err("a step is at least 1".into()) } else { step }))
                }
                None => (text, None),
            };
            match (range, range.split_once("..")) {
                ("*", _) => Ok(Piece { from: least, to: None, step: Some(step.unwrap_or(1)) }),
                (_, Some((from, to))) => {
                    let (from, to) = (number(from)?, number(to)?);
                    if from > to {
                        return Err(format!("{range:?} ends before it begins"));
                    }
                    // The last that is meant: from which end one counts then makes no difference.
                    let to = step.map_or(to, |step| from + (to - from) / step * step);
                    Ok(Piece { from, to: Some(to), step })
                }
                (one, None) => Ok(Piece { from: number(one)?, to: None, step }),
            }
        };
        text.split(',').map(piece).collect::<Result<_, _>>().map(|pieces| Self(Some(pieces)))
    }

    fn has(&self, value: u32) -> bool {
        let Some(pieces) = &self.0 else { return true };
        pieces.iter().any(|piece| match (piece.to, piece.step) {
            (None, None) => value == piece.from,
            (to, step) => {
                value >= piece.from
                    && to.is_none_or(|to| value <= to)
                    && (value - piece.from).is_multiple_of(step.unwrap_or(1))
            }
        })
    }

    /// Whether the day is meant in a month of `length` days, counted from its end.
    fn has_from_end(&self, day: u32, length: u32) -> bool {
        let Some(pieces) = &self.0 else { return true };
        let at = |from_end: u32| length.checked_sub(from_end - 1);
        pieces.iter().any(|piece| {
            let Some(start) = at(piece.from) else { return false };
            match (piece.to, piece.step) {
                (None, None) => day == start,
                (None, Some(step)) => day >= start && (day - start).is_multiple_of(step),
                // A range is turned round: its last is the earlier day.
                (Some(to), step) => {
                    let Some(first) = at(to) else { return false };
                    (first..=start).contains(&day) && (day - first).is_multiple_of(step.unwrap_or(1))
                }
            }
        })
    }

    fn first_from(&self, least: u32, most: u32) -> Option<u32> {
        (least..=most).find(|value| self.has(*value))
    }
}

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// 0 is Monday.
pub(super) fn weekday(text: &str) -> Option<u8> {
    let low = text.to_ascii_lowercase();
    let at = DAYS.iter().position(|day| *day == low || day[..3] == low)?;
    u8::try_from(at).ok()
}

fn weekdays(text: &str) -> Option<u8> {
    let mut days = 0;
    for piece in text.split(',').filter(|piece| !piece.is_empty()) {
        let (from, to) = match piece.split_once("..").or_else(|| piece.split_once('-')) {
            Some((from, to)) => (weekday(from)?, weekday(to)?),
            None => (weekday(piece)?, weekday(piece)?),
        };
        let mut day = from;
        loop {
            days |= 1 << day;
            if day == to {
                break;
            }
            day = (day + 1) % 7;
        }
    }
    (days != 0).then_some(days)
}

impl Expr {
    /// Reads an event without its time zone.
    pub fn parse(text: &str) -> Result<Self, String> {
        let low = text.trim().to_ascii_lowercase();
        let whole = match low.as_str() {
            "minutely" => "*-*-* *:*:00",
            "hourly" => "*-*-* *:00:00",
            "daily" => "*-*-* 00:00:00",
            "weekly" => "Mon *-*-* 00:00:00",
            "monthly" => "*-*-01 00:00:00",
            "quarterly" => "*-01,04,07,10-01 00:00:00",
            "semiannually" | "semi-annually" | "biannually" | "bi-annually" => "*-01,07-01 00:00:00",
            "yearly" | "annually" | "anually" => "*-01-01 00:00:00",
            other => other,
        };
        let mut words: Vec<&str> = whole.split_whitespace().collect();
        if words.is_empty() {
            return Err("it is empty".into());
        }
        let days = weekdays(words[0]);
        if days.is_some() {
            words.remove(0);
        }
        let (date, time) = match words[..] {
            [] => ("*-*-*", "00:00:00"),
            [one] if one.contains(':') => ("*-*-*", one),
            [one] => (one, "00:00:00"),
            [date, time] => (date, time),
            _ => return Err("it has more words than a day, a date and a time".into()),
        };
        let (year, month, day, from_end) = Self::date(date)?;
        let parts: Vec<&str> = time.split(':').collect();
        let (hour, minute, second) = match parts[..] {
            [hour, minute] => (hour, minute, "00"),
            [hour, minute, second] => (hour, minute, second),
            _ => return Err(format!("{time:?} is no time of day")),
        };
        let expr = Self {
            weekdays: days.unwrap_or(0x7f),
            year,
            month,
            day,
            from_end,
            hour: Part::parse(hour, "hour", 0, 23)?,
            minute: Part::parse(minute, "minute", 0, 59)?,
            second: Part::parse(second, "second", 0, 59)?,
        };
        Ok(expr)
    }

    fn date(text: &str) -> Result<(Part, Part, Part, bool), String> {
        let from_end = text.contains('~');
        let plain = text.replacen('~', "-", 1);
        let parts: Vec<&str> = plain.split('-').collect();
        let (year, month, day) = match parts[..] {
            [month, day] => ("*", month, day),
            [year, month, day] => (year, month, day),
            _ => return Err(format!("{text:?} is no date")),
        };
        if from_end && !text.rsplit(['-', '~']).next().is_some_and(|last| text.ends_with(&format!("~{last}"))) {
            return Err(format!("{text:?}: ~ stands before the day"));
        }
        let year: Vec<String> = year.split(',').map(long_year).collect();
        Ok((
            Part::parse(&year.join(","), "year", YEAR_FIRST as u32, YEAR_LAST as u32)?,
            Part::parse(month, "month", 1, 12)?,
            Part::parse(day, "day", 1, 31)?,
            from_end,
        ))
    }

    fn has_date(&self, date: Date) -> bool {
        let day = u32::from(date.day().unsigned_abs());
        let length = u32::from(date.days_in_month().unsigned_abs());
        let weekday = date.weekday().to_monday_zero_offset();
        self.weekdays & (1 << weekday) != 0
            && if self.from_end { self.day.has_from_end(day, length) } else { self.day.has(day) }
    }

    /// The first time of day that is meant, at `from` or after.
    fn time_from(&self, from: Time) -> Option<Time> {
        let number = |part: i8| u32::from(part.unsigned_abs());
        let (h, m, s) = (number(from.hour()), number(from.minute()), number(from.second()));
        let time = |h: u32, m: u32, s: u32| Time::new(h as i8, m as i8, s as i8, 0).ok();
        let (first_minute, first_second) = (self.minute.first_from(0, 59)?, self.second.first_from(0, 59)?);
        if self.hour.has(h) {
            if self.minute.has(m)
                && let Some(second) = self.second.first_from(s, 59)
            {
                return time(h, m, second);
            }
            if let Some(minute) = self.minute.first_from(m + 1, 59) {
                return time(h, minute, first_second);
            }
        }
        time(self.hour.first_from(h + 1, 23)?, first_minute, first_second)
    }

    /// The first time that is meant, at `from` or after, by a clock that is never put forward or back.
    fn civil_from(&self, from: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut least = from.time();
        while date.year() <= YEAR_LAST {
            if !self.year.has(u32::try_from(date.year()).unwrap_or_default()) {
                date = Date::new(date.year() + 1, 1, 1).ok()?;
                least = Time::midnight();
                continue;
            }
            if !self.month.has(u32::from(date.month().unsigned_abs())) {
                date = date.last_of_month().tomorrow().ok()?;
                least = Time::midnight();
                continue;
            }
            if self.has_date(date)
                && let Some(time) = self.time_from(least)
            {
                return Some(date.to_datetime(time));
            }
            date = date.tomorrow().ok()?;
            least = Time::midnight();
        }
        None
    }

    /// The first instant that is meant, after `after`.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        const AROUND: i64 = 4 * 3600;
        let shifted = |by: i64| Timestamp::from_second(after.as_second() + by).ok().map(|at| zone.to_offset(at));
        // Civil times run on evenly, unless the clock is changed near here.
        let back = if shifted(-AROUND) == shifted(AROUND) { 0 } else { AROUND };
        let mut from = zone.to_datetime(Timestamp::from_second(after.as_second() - back).ok()?);
        let mut best: Option<Timestamp> = None;
        loop {
            let civil = self.civil_from(from)?;
            let instants = self.instants(civil, zone);
            for at in &instants {
                if *at > after && best.is_none_or(|best| *at < best) {
                    best = Some(*at);
                }
            }
            let first = instants.first().copied();
            if let (Some(best), Some(first)) = (best, first)
                && (back == 0 || first.as_second() > best.as_second() + AROUND)
            {
                return Some(best);
            }
            from = civil.checked_add(jiff::SignedDuration::from_secs(1)).ok()?;
        }
    }

    fn instants(&self, civil: DateTime, zone: &TimeZone) -> Vec<Timestamp> {
        let ambiguous = zone.to_ambiguous_timestamp(civil);
        match ambiguous.offset() {
            AmbiguousOffset::Fold { .. } if self.hour.0.is_none() => {
                [ambiguous.earlier(), ambiguous.later()].into_iter().flatten().collect()
            }
            _ => ambiguous.compatible().into_iter().collect(),
        }
    }
}

/// Two digits are of this century or the last one, as systemd has it.
fn long_year(piece: &str) -> String {
    let long = |text: &str| match text.parse::<u32>() {
        Ok(year) if text.len() == 2 => (year + if year < 70 { 2000 } else { 1900 }).to_string(),
        _ => text.to_owned(),
    };
    let (range, step) =
        piece.split_once('/').map_or((piece, String::new()), |(range, step)| (range, format!("/{step}")));
    match range.split_once("..") {
        Some((from, to)) => format!("{}..{}{step}", long(from), long(to)),
        None => format!("{}{step}", long(range)),
    }
}
