//! Schedules: what they mean, on days on which clocks are changed too, and beside systemd itself.

use std::process::Command;

use haven_keeper::calendar::{Bandwidth, Hours, Schedule, jitter};
use jiff::{Timestamp, civil::time, tz::TimeZone};
use proptest::prelude::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn stamp(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The next times, in their zone.
fn next(schedule: &str, after: &str, zone: &TimeZone, count: usize) -> Vec<String> {
    let schedule: Schedule = schedule.parse().unwrap();
    let shown = |at: &Timestamp| at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string();
    schedule.upcoming(stamp(after), zone, count).iter().map(shown).collect()
}

fn refused(text: &str) -> String {
    text.parse::<Schedule>().expect_err(text).to_string()
}

#[test]
fn plain_words_mean_what_they_say() {
    let at = |text| next(text, "2026-11-27T01:00:00Z", &TimeZone::UTC, 2);
    assert_eq!(at("daily 00:30"), ["Sat 2026-11-28 00:30:00 +00:00", "Sun 2026-11-29 00:30:00 +00:00"]);
    assert_eq!(at("every 15m"), ["Fri 2026-11-27 01:15:00 +00:00", "Fri 2026-11-27 01:30:00 +00:00"]);
    assert_eq!(at("every 90 min")[0], "Fri 2026-11-27 01:30:00 +00:00");
    assert_eq!(at("weekly sun 04:00"), ["Sun 2026-11-29 04:00:00 +00:00", "Sun 2026-12-06 04:00:00 +00:00"]);
    assert_eq!(at("monthly 1 05:00"), ["Tue 2026-12-01 05:00:00 +00:00", "Fri 2027-01-01 05:00:00 +00:00"]);
    assert_eq!(at("monthly 31"), ["Thu 2026-12-31 00:00:00 +00:00", "Sun 2027-01-31 00:00:00 +00:00"]);
    assert_eq!(at("monthly last 23:00")[0], "Mon 2026-11-30 23:00:00 +00:00");
    assert_eq!(at("weekdays 07:00"), ["Fri 2026-11-27 07:00:00 +00:00", "Mon 2026-11-30 07:00:00 +00:00"]);
    assert_eq!(at("off"), Vec::<String>::new());
    assert_eq!(at("daily at 03:00")[0], "Fri 2026-11-27 03:00:00 +00:00");
}

#[test]
fn systemds_words_mean_what_they_mean_there() {
    let at = |text| next(text, "2026-11-27T01:00:00Z", &TimeZone::UTC, 2);
    assert_eq!(at("*-*-* 0:03:00")[0], "Sat 2026-11-28 00:03:00 +00:00", "three minutes after midnight, not 3 o'clock");
    assert_eq!(at("Mon..Fri 02:30"), ["Fri 2026-11-27 02:30:00 +00:00", "Mon 2026-11-30 02:30:00 +00:00"]);
    assert_eq!(at("Sat,Sun 10,14:00"), ["Sat 2026-11-28 10:00:00 +00:00", "Sat 2026-11-28 14:00:00 +00:00"]);
    assert_eq!(at("*:0/20"), ["Fri 2026-11-27 01:20:00 +00:00", "Fri 2026-11-27 01:40:00 +00:00"]);
    assert_eq!(at("*-02-29"), ["Tue 2028-02-29 00:00:00 +00:00", "Sun 2032-02-29 00:00:00 +00:00"]);
    assert_eq!(at("*-02~01")[0], "Sun 2027-02-28 00:00:00 +00:00", "the last day of February");
    assert_eq!(at("Mon *-05~07/1")[0], "Mon 2027-05-31 00:00:00 +00:00", "the last Monday in May");
    assert_eq!(at("quarterly")[0], "Fri 2027-01-01 00:00:00 +00:00");
    assert_eq!(at("2026-12-24 18:00"), ["Thu 2026-12-24 18:00:00 +00:00"]);
    assert_eq!(at("2020-01-01"), Vec::<String>::new(), "long gone");
    assert_eq!(at("daily UTC")[0], "Sat 2026-11-28 00:00:00 +00:00");
}

#[test]
fn a_time_zone_that_is_named_counts() {
    let utc = TimeZone::UTC;
    assert_eq!(next("daily 03:00 Europe/Berlin", "2026-07-01T00:00:00Z", &utc, 1), ["Wed 2026-07-01 01:00:00 +00:00"]);
    assert_eq!(
        next("*-*-* 03:00 America/New_York", "2026-01-01T00:00:00Z", &utc, 1),
        ["Thu 2026-01-01 08:00:00 +00:00"]
    );
}

#[test]
fn what_the_clock_leaps_over_is_done_when_the_gap_ends_and_nothing_is_done_twice() {
    let berlin = zone("Europe/Berlin");
    // On 29 March 2026 it goes from 02:00 to 03:00, on 25 October from 03:00 back to 02:00.
    assert_eq!(
        next("daily 02:30", "2026-03-27T22:00:00Z", &berlin, 3),
        ["Sat 2026-03-28 02:30:00 +01:00", "Sun 2026-03-29 03:30:00 +02:00", "Mon 2026-03-30 02:30:00 +02:00"]
    );
    assert_eq!(
        next("daily 02:30", "2026-10-24T22:30:00Z", &berlin, 2),
        ["Sun 2026-10-25 02:30:00 +02:00", "Mon 2026-10-26 02:30:00 +01:00"]
    );
    assert_eq!(
        next("hourly", "2026-10-24T23:30:00Z", &berlin, 4),
        [
            "Sun 2026-10-25 02:00:00 +02:00",
            "Sun 2026-10-25 02:00:00 +01:00",
            "Sun 2026-10-25 03:00:00 +01:00",
            "Sun 2026-10-25 04:00:00 +01:00"
        ]
    );
    assert_eq!(
        next("hourly", "2026-03-28T23:30:00Z", &berlin, 3),
        ["Sun 2026-03-29 01:00:00 +01:00", "Sun 2026-03-29 03:00:00 +02:00", "Sun 2026-03-29 04:00:00 +02:00"]
    );
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_reason() {
    assert!(refused("").contains("empty"));
    assert!(refused("25:00").contains("0 to 23"));
    assert!(refused("daily 00:61").contains("minute"));
    assert!(refused("every soon").contains("span of time"));
    assert!(refused("every 0s").contains("less than a second"));
    assert!(refused("daily 03:00 Mars/Olympus").contains("no time zone"));
    assert!(refused("Mon..Fri 02:30 05:30").contains("no date"));
    assert!(refused("*-13-01").contains("month"));
    assert!(refused("*:0/0").contains("step"));
    assert!(refused("sometimes").contains("no date"));
    assert!(refused("*-*-*~05:00").contains("no schedule"));
}

#[test]
fn intervals_and_the_last_time_are_known() {
    let utc = TimeZone::UTC;
    let now = stamp("2026-11-27T01:00:00Z");
    let interval = |text: &str| text.parse::<Schedule>().unwrap().interval(now, &utc);
    assert_eq!(interval("every 15m"), Some(900));
    assert_eq!(interval("Mon..Fri 02:30"), Some(3 * 86_400), "the weekend");
    assert_eq!(interval("monthly 1"), Some(31 * 86_400));
    assert_eq!((interval("off"), interval("2030-01-01")), (None, None));
    let last = |text: &str| text.parse::<Schedule>().unwrap().last_before(now, &utc).map(|at| at.to_string());
    assert_eq!(last("every 15m").as_deref(), Some("2026-11-27T01:00:00Z"));
    assert_eq!(last("daily 02:00").as_deref(), Some("2026-11-26T02:00:00Z"));
    assert_eq!(last("yearly").as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(last("2020-01-01"), None);
}

#[test]
fn hours_and_rates_are_read() {
    let hours: Hours = "22:00..06:30".parse().unwrap();
    assert!(hours.has(time(23, 0, 0, 0)) && hours.has(time(6, 29, 59, 0)) && !hours.has(time(6, 30, 0, 0)));
    assert_eq!(hours.left(time(23, 30, 0, 0)), 7 * 3600);
    assert!(
        "8-9".parse::<Hours>().is_err()
            && "08:00..08:00".parse::<Hours>().is_err()
            && "25..26".parse::<Hours>().is_err()
    );
    let size = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let all = ["08:00..22:00 1000", "12:00..13:00 10"].map(|text| Bandwidth::parse(text, size).unwrap());
    assert_eq!(Bandwidth::at(&all, time(9, 0, 0, 0)), Some(1000));
    assert_eq!(Bandwidth::at(&all, time(12, 30, 0, 0)), Some(10));
    assert_eq!(Bandwidth::at(&all, time(23, 0, 0, 0)), None);
    assert!(Bandwidth::parse("08:00..09:00 0", size).is_err() && Bandwidth::parse("08:00..09:00", size).is_err());
}

#[test]
fn jitter_differs_from_job_to_job_and_not_from_time_to_time() {
    let all: std::collections::BTreeSet<i64> =
        (0..20).map(|n| jitter(&format!("replica {n}"), "mini", 600, Some(86_400))).collect();
    assert!(all.len() > 15 && all.iter().all(|late| (0..600).contains(late)), "{all:?}");
    assert_eq!(jitter("gc", "a", 600, None), jitter("gc", "a", 600, None));
    assert_ne!(jitter("gc", "a", 600, None), jitter("gc", "b", 600, None));
    assert!(jitter("gc", "a", 600, Some(60)) < 6);
}

/// What systemd says are the next times; none: the program is not there, or refuses it.
fn systemd(spec: &str, after: &str, count: usize) -> Option<Vec<String>> {
    let done = Command::new("systemd-analyze")
        .args(["calendar", &format!("--iterations={count}"), &format!("--base-time={after}"), spec])
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    if !done.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let of = |line: &str| {
        let (label, at) = line.split_once(": ")?;
        let label = label.trim();
        (label == "Next elapse" || label.starts_with("Iter") || label.starts_with("Iteration"))
            .then(|| at.trim().to_owned())
    };
    Some(text.lines().filter_map(of).filter(|at| at != "never").collect())
}

fn is_there() -> bool {
    Command::new("systemd-analyze").arg("--version").output().is_ok_and(|done| done.status.success())
}

#[test]
fn systemd_says_the_same() {
    if !is_there() {
        return;
    }
    let specs = [
        "daily",
        "weekly",
        "monthly",
        "yearly",
        "quarterly",
        "semiannually",
        "hourly",
        "minutely",
        "*-*-* 03:00:00",
        "Mon..Fri 02:30",
        "Sat,Sun 10:00,14:30",
        "*:0/15",
        "*-*-1..7 04:00",
        "Sun *-*-1..7 04:00",
        "*-02~03",
        "*-*~01",
        "*-*~1..3 05:00",
        "Mon *-05~07/1",
        "*-1/3-15 12:00",
        "00/6:05",
        "*:*:0/30",
        "2027-01-01",
        "2026..2028-02-29",
        "12,14,13,12:20,10,30",
        "Wed..Sat,Tue 12-10-15 1:2:3",
        "*-4-1,15 08..18/5:30",
        "Fri *-*-13 23:59:59",
        "Thu,Fri 2026-*-1,5 11:12:13",
        "03-05 08:05:40",
    ];
    for spec in specs {
        let theirs = systemd(spec, "2026-11-27 01:00:00 UTC", 5).unwrap_or_else(|| panic!("{spec} is refused"));
        let schedule: Schedule = spec.parse().unwrap_or_else(|error| panic!("{error}"));
        let ours: Vec<String> = schedule
            .upcoming(stamp("2026-11-27T01:00:00Z"), &TimeZone::UTC, 5)
            .iter()
            .map(|at| at.to_zoned(TimeZone::UTC).strftime("%a %Y-%m-%d %H:%M:%S UTC").to_string())
            .collect();
        assert_eq!(ours, theirs, "{spec}");
    }
}

fn list(values: std::ops::Range<u32>) -> impl Strategy<Value = String> {
    let (from, to) = (values.start, values.end);
    prop_oneof![
        Just("*".to_owned()),
        (from..to).prop_map(|one| one.to_string()),
        (from..to, from..to).prop_map(|(a, b)| format!("{}..{}", a.min(b), a.max(b))),
        (from..to, 1..10_u32).prop_map(|(a, step)| format!("{a}/{step}")),
        (from..to, from..to, 1..7_u32).prop_map(|(a, b, step)| format!("{}..{}/{step}", a.min(b), a.max(b))),
        proptest::collection::vec(from..to, 1..4).prop_map(|all| all
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(",")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn systemd_says_the_same_of_any_expression(
        month in list(1..13), day in list(1..29), hour in list(0..24), minute in list(0..60), end in any::<bool>(),
        seconds in 1_700_000_000_i64..1_900_000_000,
    ) {
        if is_there() {
            let spec = format!("*-{month}{}{day} {hour}:{minute}:00", if end { '~' } else { '-' });
            let after = Timestamp::from_second(seconds).unwrap();
            let shown = after.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
            if let Some(theirs) = systemd(&spec, &shown, 3) {
                let schedule: Schedule = spec.parse().unwrap();
                let ours: Vec<String> = schedule.upcoming(after, &TimeZone::UTC, 3).iter()
                    .map(|at| at.to_zoned(TimeZone::UTC).strftime("%a %Y-%m-%d %H:%M:%S UTC").to_string()).collect();
                prop_assert_eq!(ours, theirs, "{} after {}", spec, shown);
            }
        }
    }
}

proptest! {
    #[test]
    fn times_go_up_and_each_is_what_was_asked_for(hour in 0_u32..24, minute in 0_u32..60, seconds in 1_700_000_000_i64..1_900_000_000) {
        let berlin = zone("Europe/Berlin");
        let schedule: Schedule = format!("daily {hour:02}:{minute:02}").parse().unwrap();
        let times = schedule.upcoming(Timestamp::from_second(seconds).unwrap(), &berlin, 10);
        prop_assert_eq!(times.len(), 10);
        for two in times.windows(2) {
            let hours = (two[1].as_second() - two[0].as_second()) as f64 / 3600.0;
            prop_assert!((23.0..=25.0).contains(&hours), "one a day: {}", hours);
        }
        let at = times[0].to_zoned(berlin);
        let leapt = at.date().month() == 3 && at.hour() == 3;
        prop_assert!(leapt || (u32::from(at.hour().unsigned_abs()), u32::from(at.minute().unsigned_abs())) == (hour, minute));
    }
}
