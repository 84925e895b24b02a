//! `haven schedule`: when the keeper does what.

use haven_keeper::plan::Plan;
use haven_store::human;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::Context;
use crate::{
    keeper::{jobs, ledger, seconds},
    report::Trouble,
    words,
};

/// Tell when the keeper does what: the next five times of each job
///
/// The schedules stand in haven.toml, [schedule]. Times are told in the time zone that they are meant in, with the
/// delay that each job has so that not all machines ask a store at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  haven schedule\n  haven schedule --json")]
pub struct Args {
    /// So many times of each
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    times: u16,
}

/// `Europe/Berlin`, or what the offset is.
fn name(zone: &TimeZone) -> String {
    zone.iana_name()
        .map_or_else(|| Timestamp::now().to_zoned(zone.clone()).strftime("%Z (%:z)").to_string(), str::to_owned)
}

pub fn run(context: &Context, args: &Args) -> Result<(), Trouble> {
    let config = &context.config;
    let s = &config.schedule;
    let usual = s.zone();
    let now = seconds();
    let ledger = ledger(config)?;
    let (plan, _) = Plan::new(s.rules(), jobs(config), now, |_| None);
    let mut values = Vec::new();
    let mut text = format!("time zone {}\n", name(&usual));
    for job in plan.jobs() {
        let zone = job.schedule.zone(&usual);
        let shown = |at: &i64| {
            Timestamp::from_second(*at)
                .unwrap_or_default()
                .to_zoned(zone.clone())
                .strftime("%a %Y-%m-%d %H:%M:%S %:z")
                .to_string()
        };
        let times = plan.upcoming(job, now, args.times.into());
        let last = ledger.as_ref().and_then(|ledger| {
            let done = [haven_keeper::ledger::Verdict::Ok, haven_keeper::ledger::Verdict::Warned];
            ledger.last(&job.kind, &job.name, &done).ok()?
        });
        let last = last.map(|run| run.started / 1000);
        let own = if name(zone) == name(&usual) { String::new() } else { format!(" in {}", name(zone)) };
        text += &format!("\n{}  ({}{own})\n", job.key(), job.schedule);
        text += &format!("  last done  {}\n", last.map_or("never".to_owned(), |at| shown(&at)));
        for at in &times {
            text += &format!("  {}\n", shown(at));
        }
        values.push(json!({
            "kind": job.kind, "name": job.name, "schedule": job.schedule.to_string(), "time_zone": name(zone),
            "next": times, "next_shown": times.iter().map(shown).collect::<Vec<_>>(), "last_done": last,
        }));
    }
    if plan.jobs().is_empty() {
        text += "nothing is scheduled\n";
    }
    if !s.quiet.is_empty() {
        text += "\nNothing large is begun in quiet hours (schedule.quiet): what is due then waits for their end.\n";
    }
    if let Some(rate) = s.rate_now() {
        text += &format!(
            "\nAt this hour the mount sends no more than {} a second, and so does each run that begins now (schedule.bandwidth).\n",
            words::bytes(rate)
        );
    }
    let value = json!({
        "time_zone": name(&usual), "jobs": values, "jitter": human::show_duration(s.jitter),
    });
    context.answer(&value, &text)
}
