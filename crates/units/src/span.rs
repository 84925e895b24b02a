//! Spans of time as systemd.time(7) writes them.

use std::time::Duration;

/// `90`, `1min 30s`, `infinity`; none where it can't be meant.
pub fn parse(text: &str) -> Option<Span> {
    let text = text.trim();
    if text == "infinity" {
        return Some(Span::Infinite);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        seconds += number * unit(&rest[..letters])?;
        rest = rest[letters..].trim_start();
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok())?.map(Span::Finite)
}

/// How long something may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Span {
    Finite(Duration),
    Infinite,
}

impl Span {
    pub fn seconds(self) -> f64 {
        match self {
            Self::Finite(duration) => duration.as_secs_f64(),
            Self::Infinite => f64::INFINITY,
        }
    }
}

fn unit(letters: &str) -> Option<f64> {
    Some(match letters {
        "us" | "usec" | "µs" => 1e-6,
        "ms" | "msec" => 1e-3,
        "" | "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        "M" | "month" | "months" => 2_629_800.0,
        "y" | "year" | "years" => 31_557_600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_systemd_reads_them() {
        let seconds = |text| parse(text).map(Span::seconds);
        assert_eq!(seconds("90"), Some(90.0));
        assert_eq!(seconds("1min 30s"), Some(90.0));
        assert_eq!(seconds("2h30m"), Some(9000.0));
        assert_eq!(seconds("500ms"), Some(0.5));
        assert_eq!(seconds("0"), Some(0.0));
        assert_eq!(seconds("infinity"), Some(f64::INFINITY));
        assert_eq!((seconds(""), seconds("soon"), seconds("5 parsecs")), (None, None, None));
    }
}
