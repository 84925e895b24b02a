//! The time of day in `OnCalendar=` (systemd.time(7)): enough to say when something really fires, and whether that can
//! have been meant. Days are not looked at.

/// One component of a time, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    written: String,
    values: Vec<u32>,
}

/// When in the day an expression fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayTimes {
    hour: Part,
    minute: Part,
    second: Part,
    /// Whether seconds were written.
    three: bool,
}

impl DayTimes {
    /// None where it is no expression this reads; systemd itself may.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let word = match text.to_ascii_lowercase().as_str() {
            "minutely" => Some("*:*:00"),
            "hourly" => Some("*:00:00"),
            "daily" | "weekly" | "monthly" | "quarterly" | "semiannually" | "yearly" | "annually" | "biannually" => {
                Some("00:00:00")
            }
            _ => None,
        };
        let time = word.or_else(|| text.split_whitespace().find(|part| part.contains(':'))).unwrap_or("00:00:00");
        let parts: Vec<&str> = time.split(':').collect();
        let (hour, minute, second, three) = match parts[..] {
            [hour, minute] => (hour, minute, "00", false),
            [hour, minute, second] => (hour, minute, second, word.is_none() && time != "00:00:00"),
            _ => return None,
        };
        let part = |text, below| Part::parse(text, below);
        Some(Self { hour: part(hour, 24)?, minute: part(minute, 60)?, second: part(second, 60)?, three })
    }

    /// Every time of day it fires at, in seconds after midnight.
    pub fn seconds(&self) -> Vec<u32> {
        let mut all = Vec::new();
        for hour in &self.hour.values {
            for minute in &self.minute.values {
                all.extend(self.second.values.iter().map(|second| hour * 3600 + minute * 60 + second));
            }
        }
        all
    }

    /// `00:03:00`, the only time of day it fires at.
    pub fn only(&self) -> Option<String> {
        match self.seconds()[..] {
            [one] => Some(clock(one)),
            _ => None,
        }
    }

    /// What was probably meant, where the parts were written one place too far to the right: nobody means three
    /// minutes after midnight by `0:03:00`, or thirty seconds by `0:00:30`.
    pub fn meant(&self) -> Option<String> {
        let [at] = self.seconds()[..] else { return None };
        let (hour, minute, second) = (at / 3600, at / 60 % 60, at % 60);
        if !self.three || hour != 0 {
            return None;
        }
        match (minute, second) {
            (1..=23, 0) if self.hour.written == "0" => Some(format!("{minute:02}:00:00")),
            (0, 1..) => Some(format!("00:{second:02}:00")),
            _ => None,
        }
    }
}

impl Part {
    fn parse(text: &str, below: u32) -> Option<Self> {
        let mut values = Vec::new();
        for piece in text.split(',') {
            let (range, step) = match piece.split_once('/') {
                Some((range, step)) => (range, step.parse::<u32>().ok().filter(|&step| step > 0)?),
                None => (piece, 0),
            };
            let number = |text: &str| text.split('.').next()?.parse::<u32>().ok().filter(|&value| value < below);
            let (from, to) = match (range, range.split_once("..")) {
                ("*", _) => (0, below - 1),
                (_, Some((from, to))) => (number(from)?, number(to)?),
                (one, None) if step > 0 => (number(one)?, below - 1),
                (one, None) => (number(one)?, number(one)?),
            };
            values.extend((from..=to).step_by(step.max(1) as usize));
        }
        Some(Self { written: text.to_owned(), values })
    }
}

/// `00:03:00`.
pub fn clock(seconds: u32) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// Hours and minutes that a text written for people speaks of ("3 AM", "at 03:00", "half past midnight").
pub fn spoken(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric() && c != ':').collect();
    if lower.contains("half past midnight") {
        return Some(30 * 60);
    }
    for (n, word) in words.iter().enumerate() {
        let (number, half) = match (word.strip_suffix("am"), word.strip_suffix("pm")) {
            (Some(number), _) if !number.is_empty() => (number, "am"),
            (_, Some(number)) if !number.is_empty() => (number, "pm"),
            _ => (*word, words.get(n + 1).copied().filter(|next| ["am", "pm"].contains(next)).unwrap_or("")),
        };
        let (hour, minute) = number.split_once(':').unwrap_or((number, "0"));
        let (Ok(hour), Ok(minute)) = (hour.parse::<u32>(), minute.parse::<u32>()) else { continue };
        match half {
            "" => {}
            _ if hour == 0 || hour > 12 || minute > 59 => {}
            half => return Some(((hour % 12) + if half == "pm" { 12 } else { 0 }) * 3600 + minute * 60),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_three_timers_fire_when_nobody_meant_them_to() {
        let read = |text| DayTimes::parse(text).map(|times| (times.only().unwrap(), times.meant()));
        assert_eq!(read("*-*-* 0:03:00"), Some(("00:03:00".into(), Some("03:00:00".into()))));
        assert_eq!(read("*-*-* 0:00:30"), Some(("00:00:30".into(), Some("00:30:00".into()))));
        assert_eq!(read("0:00:05"), Some(("00:00:05".into(), Some("00:05:00".into()))));
    }

    #[test]
    fn what_can_be_meant_is_let_be() {
        for text in [
            "daily",
            "*-*-* 03:00:00",
            "Mon..Fri 00:30",
            "00:05:00",
            "00:05",
            "*:0/15",
            "hourly",
            "Sun 04:00 Europe/Berlin",
            "*-*-* 00/6:00:00",
            "2027-01-01",
            "0:00",
            "0:00:00",
        ] {
            assert_eq!(DayTimes::parse(text).unwrap().meant(), None, "{text}");
        }
        assert_eq!(DayTimes::parse("25:00"), None);
        assert_eq!(DayTimes::parse("1:2:3:4"), None);
    }

    #[test]
    fn lists_ranges_and_steps_are_followed() {
        assert_eq!(DayTimes::parse("0/6:30").unwrap().seconds(), [1800, 23_400, 45_000, 66_600]);
        assert_eq!(DayTimes::parse("1,3..4:00").unwrap().seconds(), [3600, 10_800, 14_400]);
        assert_eq!(DayTimes::parse("hourly").unwrap().seconds().len(), 24);
    }

    #[test]
    fn what_people_write_beside_it_is_understood() {
        assert_eq!(spoken("Restart Immich daily at 3 AM"), Some(10_800));
        assert_eq!(spoken("nightly, 11:30pm"), Some(84_600));
        assert_eq!(spoken("Mirror at half past midnight"), Some(1800));
        assert_eq!(spoken("the 3 copies of 2024"), None);
    }
}
