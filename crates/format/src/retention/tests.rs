use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{DateTime, date};
use proptest::prelude::*;

use super::*;

/// Central European time, without files of the system.
fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn rules(text: &str) -> Rules {
    text.parse().unwrap()
}

fn time(seconds: i64) -> Time {
    Time { seconds, nanos: 0 }
}

fn item(seconds: i64) -> Item<'static> {
    Item { name: b"", taken: time(seconds), protected_until: 0 }
}

fn local(at: DateTime) -> i64 {
    at.to_zoned(berlin()).unwrap().timestamp().as_second()
}

/// What is kept of items taken at these local times, each with the rule, newest first.
fn kept(taken: &[DateTime], text: &str, now: DateTime) -> Vec<String> {
    let items: Vec<_> = taken.iter().map(|at| item(local(*at))).collect();
    let fates = judge(&items, &rules(text), time(local(now)), &berlin());
    let mut kept: Vec<_> = taken.iter().zip(&fates).filter(|(_, fate)| fate.stays()).collect();
    kept.sort_by_key(|(at, _)| std::cmp::Reverse(**at));
    kept.into_iter().map(|(at, fate)| format!("{} {fate}", at.strftime("%m-%d %H:%M"))).collect()
}

/// One a day at noon, from the first day to the last.
fn daily(first: jiff::civil::Date, last: jiff::civil::Date) -> Vec<DateTime> {
    first.series(jiff::Span::new().days(1)).take_while(|day| *day <= last).map(|day| day.at(12, 0, 0, 0)).collect()
}

#[test]
fn a_year_of_days_by_days_months_and_years() {
    let days = daily(date(2025, 1, 1), date(2025, 12, 31));
    let kept = kept(&days, "daily 14, monthly 6, yearly 1", date(2026, 1, 1).at(0, 0, 0, 0));
    let mut wanted: Vec<String> = (0..14).map(|n| format!("12-{} 12:00 daily #{}", 31 - n, n + 1)).collect();
    // December is the days' already, and does not count; so is the year, which leaves the oldest.
    for (n, month) in ["11-30", "10-31", "09-30", "08-31", "07-31", "06-30"].iter().enumerate() {
        wanted.push(format!("{month} 12:00 monthly #{}", n + 1));
    }
    wanted.push("01-01 12:00 yearly[oldest] #1".into());
    assert_eq!(kept, wanted);
}

#[test]
fn what_within_keeps_is_not_counted_by_the_days_and_its_days_are_taken() {
    let taken: Vec<_> = [(20, 8), (20, 20), (21, 8), (21, 20), (22, 8), (22, 20), (23, 8)]
        .iter()
        .map(|(day, hour)| date(2026, 11, *day).at(*hour, 0, 0, 0))
        .collect();
    assert_eq!(
        kept(&taken, "within 1d, daily 2", date(2026, 11, 23).at(9, 0, 0, 0)),
        ["11-23 08:00 within #1", "11-22 20:00 within #2", "11-21 20:00 daily #1", "11-20 20:00 daily #2"]
    );
}

#[test]
fn an_item_as_old_as_within_reaches_goes_and_a_younger_one_stays() {
    let taken = [date(2026, 11, 22).at(9, 0, 0, 0), date(2026, 11, 22).at(9, 0, 1, 0)];
    let now = date(2026, 11, 23).at(9, 0, 0, 0);
    assert_eq!(kept(&taken, "within 1d", now).len(), 1);
    assert_eq!(kept(&taken, "within 25H", now).len(), 2);
}

#[test]
fn days_without_items_do_not_count() {
    let taken = [date(2026, 1, 5), date(2026, 3, 9), date(2026, 3, 10)].map(|day| day.at(12, 0, 0, 0));
    let kept = kept(&taken, "daily 3", date(2026, 11, 23).at(9, 0, 0, 0));
    assert_eq!(kept, ["03-10 12:00 daily #1", "03-09 12:00 daily #2", "01-05 12:00 daily #3"]);
}

#[test]
fn a_week_is_from_monday_to_sunday_over_the_turn_of_the_year() {
    // 2026-01-01 is a Thursday: that week is from Monday, December 29, to Sunday, January 4.
    let taken = daily(date(2025, 12, 27), date(2026, 1, 6));
    let kept = kept(&taken, "weekly -1", date(2026, 1, 7).at(0, 0, 0, 0));
    assert_eq!(kept, ["01-06 12:00 weekly #1", "01-04 12:00 weekly #2", "12-28 12:00 weekly #3"]);
}

#[test]
fn a_day_is_the_calendars_when_clocks_are_set() {
    // Both at 22:30 UTC, and both on October 25, which has 25 hours in Berlin.
    let ends = [1_792_881_000, 1_792_881_000 + 86_400];
    let of = |zone: &TimeZone| {
        let fates = judge(&ends.map(item), &rules("daily -1"), time(ends[1] + 9), zone);
        fates.iter().filter(|fate| fate.stays()).count()
    };
    assert_eq!((of(&berlin()), of(&TimeZone::UTC)), (1, 2));
    // 02:30 before the clocks are set back, and 02:10 after: one hour by the clock, two in truth.
    let hours = [1_792_888_200, 1_792_890_600].map(item);
    let fates = judge(&hours, &rules("hourly -1"), time(1_792_900_000), &berlin());
    assert_eq!(fates[0], Fate::StoodFor { rule: Rule::Hourly, by: 1 });
    // `within` counts real hours: 25 of them reach from midnight to midnight.
    let midnight = item(local(date(2026, 10, 25).at(0, 0, 0, 0)));
    let next = time(local(date(2026, 10, 26).at(0, 0, 0, 0)) - 1);
    assert!(!judge(&[midnight], &rules("within 24H"), next, &berlin())[0].stays());
    assert!(judge(&[midnight], &rules("within 25H"), next, &berlin())[0].stays());
}

#[test]
fn every_one_that_goes_is_told_why() {
    let taken = daily(date(2026, 1, 1), date(2026, 3, 31));
    let items: Vec<_> = taken.iter().map(|at| item(local(*at))).collect();
    let now = time(local(date(2026, 4, 1).at(0, 0, 0, 0)));
    let fates = judge(&items, &rules("daily 7, monthly 2"), now, &berlin());
    assert_eq!(fates[58], Fate::Kept { rule: Rule::Monthly, ordinal: 1, oldest: false });
    assert_eq!(fates[57], Fate::StoodFor { rule: Rule::Monthly, by: 58 });
    assert_eq!(fates[57].to_string(), "another stands for its month");
    assert_eq!(fates[0], Fate::Beyond { rule: Rule::Monthly });
    assert_eq!(fates[0].to_string(), "older than monthly reaches");
}

#[test]
fn the_protected_stay_and_change_nothing_for_others() {
    let taken = daily(date(2026, 1, 1), date(2026, 3, 31));
    let mut items: Vec<_> = taken.iter().map(|at| item(local(*at))).collect();
    let now = time(local(date(2026, 4, 1).at(0, 0, 0, 0)));
    let free = judge(&items, &rules("daily 7"), now, &berlin());
    for (at, until) in [(5, now.seconds + 1), (6, now.seconds), (89, i64::MAX)] {
        items[at].protected_until = until;
    }
    let held = judge(&items, &rules("daily 7"), now, &berlin());
    let different: Vec<_> = (0..items.len()).filter(|&at| free[at] != held[at]).collect();
    assert_eq!((different, held[5]), (vec![5], Fate::Protected { until: now.seconds + 1 }));
    assert_eq!(held[89].to_string(), "daily #1");
}

#[test]
fn rules_are_read_and_written() {
    let rules = rules("monthly -1, weekly 4,within 1d,  daily 7, yearly 0");
    assert_eq!(rules.to_string(), "within 1d, daily 7, weekly 4, monthly -1");
    assert_eq!("--keep-within=1d --keep-daily 7 --keep-weekly=4 --keep-monthly=-1".parse::<Rules>().unwrap(), rules);
    assert_eq!("keep last 3".parse::<Rules>(), "keep-secondly=3".parse());
    let json = serde_json::to_string(&rules).unwrap();
    assert_eq!(json, "\"within 1d, daily 7, weekly 4, monthly -1\"");
    assert_eq!(serde_json::from_str::<Rules>(&json).unwrap(), rules);
    for (text, seconds) in
        [("48H", 48 * 3600), ("1d", 86400), ("2w", 14 * 86400), ("6m", 186 * 86400), ("1y", 365 * 86400)]
    {
        assert_eq!(
            (text.parse::<Span>().unwrap().seconds(), text.parse::<Span>().unwrap().to_string()),
            (seconds, text.into())
        );
    }
}

#[test]
fn rules_that_mean_nothing_or_would_remove_everything_are_refused() {
    let refused = |text: &str| text.parse::<Rules>().unwrap_err().to_string();
    assert!(refused("").contains("would remove everything"));
    assert!(refused("daily 0, last 0").contains("would remove everything"));
    assert!(refused("daily 7, daily 8").contains("daily stands there twice"));
    assert!(refused("daily, weekly 4").contains("daily has no number"));
    assert!(refused("weekly").contains("weekly has no number"));
    assert!(refused("daily -2").contains("-1 for all"));
    assert!(refused("daily seven").contains("\"daily seven\""));
    assert!(refused("fortnightly 2").contains("\"fortnightly\" is no rule"));
    for span in ["1", "0d", "-1d", "d", "1M", "1 d", "99999999999y", "ä"] {
        assert!(span.parse::<Span>().is_err(), "{span}");
    }
}

#[test]
fn moments_no_calendar_reaches_are_judged_too() {
    let items = [i64::MIN, -1, i64::MAX].map(item);
    let fates = judge(&items, &rules("within 4000000000y, yearly 1"), time(i64::MIN), &berlin());
    assert!(fates.iter().all(Fate::stays), "{fates:?}");
}

/// Moments as they come: close together and far apart, around days when clocks are set, some twice.
fn moments() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![0i64..3, 0i64..4000, 0i64..100_000, 0i64..4_000_000];
    (1_790_000_000i64..1_800_000_000, prop::collection::vec(step, 0..60)).prop_map(|(mut at, steps)| {
        let back = |step| {
            at -= step;
            at
        };
        steps.into_iter().map(back).collect()
    })
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let count = || prop_oneof![3 => Just(0i64), 1 => Just(-1i64), 3 => 1i64..9];
    let within = prop_oneof![2 => Just(None), 1 => (1u32..300).prop_map(|hours| Some(format!("within {hours}H")))];
    (within, prop::collection::vec(count(), 7)).prop_filter_map("keeps nothing", |(within, counts)| {
        let counted = Rule::PERIODIC.iter().zip(counts).map(|(rule, count)| format!("{rule} {count}"));
        within.into_iter().chain(counted).collect::<Vec<_>>().join(", ").parse().ok()
    })
}

/// Of items with names of their own, since some are of one moment.
fn fates(names: &[String], moments: &[i64], rules: &Rules) -> Vec<Fate> {
    let named = |(name, at): (&String, &i64)| -> (Vec<u8>, Time) { (name.clone().into_bytes(), time(*at)) };
    let named: Vec<_> = names.iter().zip(moments).map(named).collect();
    let items: Vec<_> = named.iter().map(|(name, taken)| Item { name, taken: *taken, protected_until: 0 }).collect();
    judge(&items, rules, time(1_800_000_000), &berlin())
}

fn names(moments: &[i64]) -> Vec<String> {
    (0..moments.len()).map(|n| format!("{n:03}")).collect()
}

proptest! {
    #[test]
    fn pruning_twice_changes_nothing(moments in moments(), rules in any_rules()) {
        let names = names(&moments);
        let first = fates(&names, &moments, &rules);
        let stay: Vec<usize> = (0..moments.len()).filter(|&at| first[at].stays()).collect();
        let left: Vec<String> = stay.iter().map(|&at| names[at].clone()).collect();
        let again = fates(&left, &stay.iter().map(|&at| moments[at]).collect::<Vec<_>>(), &rules);
        prop_assert_eq!(again, stay.iter().map(|&at| first[at]).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_in_which_items_come_means_nothing(moments in moments(), rules in any_rules(), seed in any::<u64>()) {
        let names = names(&moments);
        let told = |order: &[usize]| {
            let taken: Vec<i64> = order.iter().map(|&at| moments[at]).collect();
            let named: Vec<String> = order.iter().map(|&at| names[at].clone()).collect();
            let fates = fates(&named, &taken, &rules);
            let tell = |(name, fate): (String, Fate)| {
                let by = if let Fate::StoodFor { by, .. } = fate { named[by].clone() } else { String::new() };
                (name, fate.to_string(), by)
            };
            named.clone().into_iter().zip(fates).map(tell).collect::<BTreeSet<_>>()
        };
        let order: Vec<usize> = (0..moments.len()).collect();
        let mut shuffled = order.clone();
        shuffled.sort_by_key(|at| (*at as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        prop_assert_eq!(told(&order), told(&shuffled));
    }

    #[test]
    fn older_items_change_nothing_for_newer_ones(moments in moments(), rules in any_rules(), older in 1usize..20) {
        let names = names(&moments);
        let all = fates(&names, &moments, &rules);
        // All are in order from the newest on, and equal moments are told apart by name: cut between moments.
        let cut = moments.len().saturating_sub(older);
        let cut = (cut..moments.len()).find(|&at| at == 0 || moments[at] < moments[at - 1]).unwrap_or(moments.len());
        let newer = fates(&names[..cut], &moments[..cut], &rules);
        for at in 0..cut {
            let oldest = matches!(newer[at], Fate::Kept { oldest: true, .. });
            prop_assert!(oldest || all[at] == newer[at], "{at}: {:?} became {:?}", newer[at], all[at]);
        }
    }

    /// Never fewer than asked for: each rule keeps its number of periods or all there are, and always the newest of one.
    #[test]
    fn each_rule_keeps_its_number_or_reaches_the_oldest(moments in moments(), rules in any_rules()) {
        let names = names(&moments);
        let all = fates(&names, &moments, &rules);
        for (rule, most) in rules.periodic() {
            let ordinals: BTreeSet<usize> = all
                .iter()
                .filter_map(|fate| match fate {
                    Fate::Kept { rule: by, ordinal, .. } if *by == rule => Some(*ordinal),
                    _ => None,
                })
                .collect();
            prop_assert!(ordinals.iter().copied().eq(1..=ordinals.len()), "{rule}: {ordinals:?}");
            let most = most.unwrap_or(usize::MAX);
            prop_assert!(ordinals.len() <= most);
            if ordinals.len() == most {
                continue;
            }
            // The newest of each period stays, for this rule or an earlier one; and so does the oldest of all.
            let mut newest: BTreeMap<[i16; 6], usize> = BTreeMap::new();
            for at in (0..moments.len()).rev() {
                let period = rule.period(on_the_wall(time(moments[at]), &berlin()));
                let best = newest.entry(period).or_insert(at);
                if (moments[at], &names[at]) > (moments[*best], &names[*best]) {
                    *best = at;
                }
            }
            prop_assert!(newest.values().all(|&at| all[at].stays()), "{rule}");
            if most != usize::MAX
                && let Some(oldest) = (0..moments.len()).min_by_key(|&at| (moments[at], &names[at]))
            {
                prop_assert!(all[oldest].stays());
            }
        }
        // Nothing goes without a newer one of its period, or a rule that was filled before it.
        for (at, fate) in all.iter().enumerate() {
            if let Fate::StoodFor { by, rule } = *fate {
                prop_assert!((moments[by], &names[by]) > (moments[at], &names[at]) && all[by].stays(), "{rule}");
            }
        }
    }
}
