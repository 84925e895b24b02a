//! What the retention engine makes of a list: for `scripts/show/retention`, which puts it beside the real `borg prune`.
//!
//!     retention NOW ZONE RULES <items        NOW in seconds since 1970; items: seconds, a tab, a name
//!
//! A line for each item: its name, a tab, and what keeps it (`daily #3`) or `-`.

use std::io::{BufWriter, Write, stdin, stdout};

use haven_format::{
    record::Time,
    retention::{Fate, Item, Rules, judge},
};
use jiff::tz::TimeZone;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [now, zone, rules] = &args[..] else { return Err("retention NOW ZONE RULES <items".into()) };
    let (now, zone) = (Time { seconds: now.parse()?, nanos: 0 }, TimeZone::get(zone)?);
    let mut list = Vec::new();
    for line in stdin().lines() {
        let line = line?;
        let (seconds, name) = line.split_once('\t').ok_or("an item is seconds, a tab, a name")?;
        list.push((Time { seconds: seconds.parse()?, nanos: 0 }, name.to_owned()));
    }
    let items: Vec<Item> =
        list.iter().map(|(taken, name)| Item { name: name.as_bytes(), taken: *taken, protected_until: 0 }).collect();
    let mut out = BufWriter::new(stdout());
    for ((_, name), fate) in list.iter().zip(judge(&items, &rules.parse::<Rules>()?, now, &zone)) {
        match fate {
            Fate::Kept { .. } => writeln!(out, "{name}\t{fate}")?,
            _ => writeln!(out, "{name}\t-")?,
        }
    }
    Ok(out.flush()?)
}
