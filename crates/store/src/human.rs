//! Durations and byte counts as people write them in a settings file: `"30s"`, `"10min"`, `"64KiB"`.
//!
//! For serde: `#[serde(with = "haven_store::human::duration")]` and `…::bytes`.

use std::time::Duration;

/// What stands for a duration without end ([`Duration::MAX`]).
const FOREVER: &str = "forever";

/// Reads `500ms`, `30s`, `10min`, `2h`, `7d`, `forever`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.trim() == FOREVER {
        return Ok(Duration::MAX);
    }
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "min" | "m" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86_400.0,
        _ => {
            return Err(format!("{text:?} is not a duration (write \"500ms\", \"30s\", \"10min\", \"2h\" or \"7d\")"));
        }
    };
    Duration::try_from_secs_f64(seconds).map_err(|e| format!("{text:?} is not a duration: {e}"))
}

/// Reads `4096`, `64KiB`, `10MB`, `30GB`, `1TiB`: kB, MB, GB, TB count in thousands, KiB … in 1024s.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1_u64,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000_u64.pow(2),
        "g" | "gb" => 1000_u64.pow(3),
        "t" | "tb" => 1000_u64.pow(4),
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => {
            return Err(format!("{text:?} is not a size (write \"64KiB\", \"10MB\", \"30GB\" or \"1TiB\")"));
        }
    };
    let bytes = number * factor as f64;
    if bytes < 9e18 { Ok(bytes as u64) } else { Err(format!("{text:?} is too large")) }
}

/// Writes a duration in its largest unit that divides it.
pub fn show_duration(duration: Duration) -> String {
    if duration == Duration::MAX {
        return FOREVER.into();
    }
    let millis = duration.as_millis();
    for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)] {
        if millis >= factor && millis.is_multiple_of(factor) {
            return format!("{}{unit}", millis / factor);
        }
    }
    format!("{millis}ms")
}

/// Writes a byte count in its largest unit that divides it.
pub fn show_bytes(bytes: u64) -> String {
    let units = [
        ("TiB", 1 << 40),
        ("TB", 1000_u64.pow(4)),
        ("GiB", 1 << 30),
        ("GB", 1000_u64.pow(3)),
        ("MiB", 1 << 20),
        ("MB", 1000_u64.pow(2)),
        ("KiB", 1 << 10),
        ("kB", 1000),
    ];
    for (unit, factor) in units {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}

fn split(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().map_err(|_| format!("{text:?} does not begin with a number"))?;
    Ok((number, text[end..].trim()))
}

/// serde for a `Duration` written as text.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::show_duration(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_duration(&text).map_err(D::Error::custom)
    }
}

/// serde for a byte count, written as text or as a bare number.
pub mod bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }

    pub fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::show_bytes(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        match Written::deserialize(from)? {
            Written::Number(bytes) => Ok(bytes),
            Written::Text(text) => super::parse_bytes(&text).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        for millis in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_000, 7 * 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
        assert_eq!(parse_duration(&show_duration(Duration::MAX)), Ok(Duration::MAX));
        for bytes in [0, 1, 1000, 1024, 65_536, 30_000_000_000, 1 << 40, 12_345] {
            assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn units_of_thousands_and_of_1024_differ() {
        assert_eq!(parse_bytes("1.5 GB"), Ok(1_500_000_000));
        assert_eq!(parse_bytes("1GiB"), Ok(1 << 30));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "10", "-1s", "5 parsecs"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        for text in ["", "MB", "-5", "1 XB", "99999999TiB"] {
            assert!(parse_bytes(text).is_err(), "{text:?}");
        }
    }
}
