//! Numbers and times as people read them.

use jiff::{Timestamp, tz::TimeZone};
use maud::{Markup, html};

use crate::model::Time;

/// `12.3 GB`: thousands, as disks and bills count.
pub fn bytes(count: u64) -> String {
    scaled(count as f64, "B")
}

/// `3.4 MB/s`.
pub fn rate(bytes_a_second: f64) -> String {
    scaled(bytes_a_second.max(0.0), "B/s")
}

fn scaled(mut value: f64, unit: &str) -> String {
    let mut scale = 0;
    let scales = ["", "k", "M", "G", "T", "P", "E"];
    while value >= 999.95 && scale + 1 < scales.len() {
        value /= 1000.0;
        scale += 1;
    }
    if scale == 0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {}{unit}", scales[scale]) }
}

/// `1 key`, `2 keys`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `1 234 567`, with narrow blanks that don't break.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// `0.4 s`, `12 s`, `5 min`, `3 h`, `2 days`: the largest unit that says enough.
pub fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 119.5 => format!("{s:.0} s"),
        s if s < 7170.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_000.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

/// What times are told by.
#[derive(Debug, Clone)]
pub struct Tell {
    pub zone: TimeZone,
    pub now: Time,
}

impl Tell {
    pub fn new(zone: &TimeZone) -> Self {
        Self { zone: zone.clone(), now: Timestamp::now().as_second() }
    }

    fn format(&self, time: Time, how: &str) -> String {
        Timestamp::from_second(time)
            .map(|stamp| stamp.to_zoned(self.zone.clone()).strftime(how).to_string())
            .unwrap_or_else(|_| "never".into())
    }

    /// `2026-11-23 04:46`.
    pub fn moment(&self, time: Time) -> String {
        self.format(time, "%Y-%m-%d %H:%M")
    }

    /// `23 Nov`.
    pub fn day(&self, time: Time) -> String {
        self.format(time, "%-d %b")
    }

    /// `04:46`.
    pub fn clock(&self, time: Time) -> String {
        self.format(time, "%H:%M")
    }

    /// `3 h ago`, `in 20 min`.
    pub fn ago(&self, time: Time) -> String {
        let past = self.now - time;
        match past {
            -59..60 => "just now".into(),
            60.. => format!("{} ago", span(past as f64)),
            _ => format!("in {}", span(-past as f64)),
        }
    }

    /// A time as an element: how long ago, and the moment itself.
    pub fn when(&self, time: Time) -> Markup {
        html! { time datetime=(self.format(time, "%Y-%m-%dT%H:%M:%S%:z")) { (self.moment(time)) } " (" (self.ago(time)) ")" }
    }

    /// The moment alone as an element.
    pub fn at(&self, time: Time) -> Markup {
        html! { time datetime=(self.format(time, "%Y-%m-%dT%H:%M:%S%:z")) { (self.moment(time)) } }
    }

    /// The zone's name.
    pub fn zone_name(&self) -> String {
        let offset = || self.format(self.now, "UTC%:z");
        self.zone.iana_name().map_or_else(offset, str::to_owned)
    }
}

/// At most so many characters, with a sign where some are missing.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// As a part of an address.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_lie_about_their_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(999_950), "1.0 MB");
        assert_eq!(bytes(1_500_000_000_000), "1.5 TB");
        assert_eq!(rate(-1.0), "0 B/s");
        assert_eq!(rate(2_340_000.0), "2.3 MB/s");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!((span(0.42), span(90.0), span(3600.0), span(200_000.0)), tuple("0.4 s", "90 s", "60 min", "2 days"));
    }

    fn tuple(a: &str, b: &str, c: &str, d: &str) -> (String, String, String, String) {
        (a.into(), b.into(), c.into(), d.into())
    }

    #[test]
    fn times_are_told_in_the_zone_with_their_distance() {
        let tell = Tell { zone: TimeZone::fixed(jiff::tz::offset(1)), now: 1_795_409_189 };
        assert_eq!(tell.moment(1_795_409_189), "2026-11-23 05:46");
        assert_eq!(tell.ago(tell.now - 3 * 3600), "3 h ago");
        assert_eq!(tell.ago(tell.now + 1200), "in 20 min");
        assert_eq!(tell.ago(tell.now + 3), "just now");
        assert!(tell.when(tell.now).into_string().contains("datetime=\"2026-11-23T05:46:29+01:00\""));
        assert_eq!(tell.zone_name(), "UTC+01:00");
    }

    #[test]
    fn addresses_and_cuts() {
        assert_eq!(encoded("a b/ü&?"), "a%20b%2F%C3%BC%26%3F");
        assert_eq!(cut("straße und mehr", 7), "straße…");
        assert_eq!(cut("kurz", 7), "kurz");
    }
}
