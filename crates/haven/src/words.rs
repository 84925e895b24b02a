//! Numbers and moments as people read them.

use std::time::Duration;

use haven_format::record::Time;
use jiff::{Timestamp, tz::TimeZone};

/// `12.3 GB`: thousands, as disks and bills count.
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// An error and its causes in one line: `the manifest can't be read: no such file`.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !out.contains(&text) {
            out = format!("{out}: {text}");
        }
        cause = error.source();
    }
    out
}

/// `1 key`, `2 keys`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `2 h 47 min`, for what is known no better.
pub fn about(time: Duration) -> String {
    let minutes = (time.as_secs_f64() / 60.0).round() as u64;
    match minutes {
        0 => "less than a minute".to_owned(),
        1..60 => format!("{minutes} min"),
        60..2880 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} days", (minutes + 720) / 1440),
    }
}

/// `2026-11-23 04:46:29 +01:00`, in this machine's time zone.
pub fn moment(time: Time) -> String {
    match stamp(time) {
        Some(stamp) => stamp.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
        None => "unknown".into(),
    }
}

/// When a protection ends, seconds since the Unix epoch: a moment, or `for ever` where that is beyond every calendar.
pub fn ends(until: i64) -> String {
    let time = Time { seconds: until, nanos: 0 };
    stamp(time).map_or_else(|| "for ever".into(), |_| moment(time))
}

/// `until 2027-01-31 …`, or `for ever`.
pub fn lasts(until: i64) -> String {
    let time = Time { seconds: until, nanos: 0 };
    stamp(time).map_or_else(|| "for ever".into(), |_| format!("until {}", moment(time)))
}

/// `23 November 2026`.
pub fn day(time: Time) -> String {
    match stamp(time) {
        Some(stamp) => stamp.to_zoned(TimeZone::system()).strftime("%-d %B %Y").to_string(),
        None => "unknown".into(),
    }
}

/// `2026-11-23T04:46:29Z`, for scripts.
pub fn iso(time: Time) -> String {
    stamp(time).map(|stamp| stamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

fn stamp(time: Time) -> Option<Timestamp> {
    Timestamp::from_second(time.seconds).ok()
}

/// The machine's clock.
pub fn now() -> Time {
    let now = Timestamp::now();
    Time { seconds: now.as_second(), nanos: now.subsec_nanosecond().unsigned_abs() }
}

/// Rows under a head, columns two blanks apart, without blanks at the ends of lines.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; N]| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().fold(line(&head.map(str::to_owned)), |out, row| out + &line(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_four_figures_at_most() {
        let shown = [0, 999, 1000, 999_949, 999_950, 1_500_000_000].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "1.5 GB"]);
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let rows = [["1".into(), "a long label".into(), "x".into()], ["22".into(), "b".into(), String::new()]];
        insta::assert_snapshot!(table(["ID", "LABEL", "KIND"], &rows), @r"
        ID  LABEL         KIND
        1   a long label  x
        22  b
        ");
    }
}
