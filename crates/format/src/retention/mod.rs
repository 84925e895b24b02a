//! Which of many dated things stay: one engine for all that is ever kept. Names and meaning are those of `borg prune`,
//! 1.x.
//! ```text
//!     within ─▶ last ─▶ minutely ─▶ hourly ─▶ daily ─▶ weekly ─▶ monthly ─▶ yearly      each looks from the newest back
//! ```
//! - A period's newest item stands for the period; a period without items does not count.
//! - What one rule keeps, no later one counts: `daily 7, weekly 4` is seven days and then four weeks that they don't
//!   cover. Its period is taken all the same.
//! - A rule that ends below its number keeps the oldest item too: a young history reaches back as far as it can.
//! - Periods are those of the clock on the wall, in the owner's time zone; an hour that a clock lives through twice is
//!   one hour. `within` counts real hours back from now: days of 24, months of 31 days, years of 365.
//! - What is protected stays in any case, and changes nothing for the others.

mod rules;

use std::{collections::HashMap, fmt};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

pub use rules::{Rules, RulesError, Span};

use crate::record::Time;

/// A rule by its name. They apply in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    Within,
    /// A period of a second: in practice, the newest ones. `borg` calls it both `last` and `secondly`.
    Last,
    Minutely,
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

impl Rule {
    /// Those that count periods.
    pub const PERIODIC: [Self; 7] =
        [Self::Last, Self::Minutely, Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    pub fn name(self) -> &'static str {
        match self {
            Self::Within => "within",
            Self::Last => "last",
            Self::Minutely => "minutely",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }

    /// The period that a moment falls into, by the clock on the wall. Only ever compared within one rule.
    fn period(self, at: DateTime) -> [i16; 6] {
        let (year, month, day) = (at.year(), at.month().into(), at.day().into());
        let (hour, minute) = (at.hour().into(), at.minute().into());
        match self {
            Self::Within | Self::Last => [year, month, day, hour, minute, at.second().into()],
            Self::Minutely => [year, month, day, hour, minute, 0],
            Self::Hourly => [year, month, day, hour, 0, 0],
            Self::Daily => [year, month, day, 0, 0, 0],
            // Monday to Sunday; the year is the one that has the week's Thursday.
            Self::Weekly => {
                let week = at.date().iso_week_date();
                [week.year(), week.week().into(), 0, 0, 0, 0]
            }
            Self::Monthly => [year, month, 0, 0, 0, 0],
            Self::Yearly => [year, 0, 0, 0, 0, 0],
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something that is kept or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// Decides between items of one moment: the greatest is the newest.
    pub name: &'a [u8],
    /// When it was taken.
    pub taken: Time,
    /// Seconds since the Unix epoch until which it stays in any case; 0: it is not protected.
    pub protected_until: i64,
}

/// What becomes of an item, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The `ordinal`th, from 1, that `rule` keeps. `oldest`: not for its period, but because the rule ran out of items.
    Kept { rule: Rule, ordinal: usize, oldest: bool },
    /// No rule keeps it, but somebody asked for it to stay until then (seconds since the Unix epoch).
    Protected { until: i64 },
    /// It goes: the item at this index stands for its period in `rule`, the last rule that reaches so far back.
    StoodFor { rule: Rule, by: usize },
    /// It goes: it is older than all that any rule keeps, of which `rule` is the last.
    Beyond { rule: Rule },
}

impl Fate {
    pub fn stays(&self) -> bool {
        matches!(self, Self::Kept { .. } | Self::Protected { .. })
    }
}

/// For people: `daily #3`, `yearly[oldest] #2`, `another stands for it in its week`.
impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Kept { rule, ordinal, oldest } => {
                write!(f, "{rule}{} #{ordinal}", if oldest { "[oldest]" } else { "" })
            }
            Self::Protected { .. } => f.write_str("protected"),
            Self::StoodFor { rule, .. } => {
                let period = match rule {
                    Rule::Within | Rule::Last => "second",
                    Rule::Minutely => "minute",
                    Rule::Hourly => "hour",
                    Rule::Daily => "day",
                    Rule::Weekly => "week",
                    Rule::Monthly => "month",
                    Rule::Yearly => "year",
                };
                write!(f, "another stands for its {period}")
            }
            Self::Beyond { rule } => write!(f, "older than {rule} reaches"),
        }
    }
}

/// What becomes of each of `items`, in their order, when `rules` are applied at `now` by the clocks of `zone`.
///
/// The order of `items` means nothing. Applied again to what stays, at the same moment, everything stays.
pub fn judge(items: &[Item], rules: &Rules, now: Time, zone: &TimeZone) -> Vec<Fate> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse((items[at].taken, items[at].name)));
    let mut kept = HashMap::new();
    let mut why = vec![Fate::Beyond { rule: Rule::Within }; items.len()];
    if let Some(span) = rules.within() {
        let from = Time { seconds: now.seconds.saturating_sub(span.seconds()), nanos: now.nanos };
        for (ordinal, &at) in (1..).zip(order.iter().take_while(|&&at| items[at].taken > from)) {
            kept.insert(at, Fate::Kept { rule: Rule::Within, ordinal, oldest: false });
        }
    }
    let clocks: Vec<DateTime> = items.iter().map(|item| on_the_wall(item.taken, zone)).collect();
    for (rule, most) in rules.periodic() {
        split(rule, most, &order, &clocks, &mut kept, &mut why);
    }
    for (&at, &fate) in &kept {
        why[at] = fate;
    }
    for (item, fate) in items.iter().zip(&mut why) {
        if !fate.stays() && item.protected_until > now.seconds {
            *fate = Fate::Protected { until: item.protected_until };
        }
    }
    why
}

/// Applies one rule to all items, `order` being from the newest on; `most` is `None` for all there are.
fn split(
    rule: Rule,
    most: Option<usize>,
    order: &[usize],
    clocks: &[DateTime],
    kept: &mut HashMap<usize, Fate>,
    why: &mut [Fate],
) {
    let mut stands: Option<([i16; 6], usize)> = None;
    let mut count = 0;
    for &at in order {
        // All from here on are beyond, this one too.
        if most == Some(count) {
            if let Fate::Beyond { .. } = why[at] {
                why[at] = Fate::Beyond { rule };
            }
            continue;
        }
        let period = rule.period(clocks[at]);
        match stands {
            Some((last, by)) if last == period => why[at] = Fate::StoodFor { rule, by },
            _ => {
                stands = Some((period, at));
                kept.entry(at).or_insert_with(|| {
                    count += 1;
                    Fate::Kept { rule, ordinal: count, oldest: false }
                });
            }
        }
    }
    if let Some(oldest) = order.last().filter(|_| most.is_some_and(|most| count < most)) {
        kept.entry(*oldest).or_insert(Fate::Kept { rule, ordinal: count + 1, oldest: true });
    }
}

/// Moments that no calendar reaches count as its first or last.
fn on_the_wall(time: Time, zone: &TimeZone) -> DateTime {
    let end = if time.seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    zone.to_datetime(Timestamp::from_second(time.seconds).unwrap_or(end))
}

#[cfg(test)]
mod tests;
