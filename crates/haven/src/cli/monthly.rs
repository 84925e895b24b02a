//! `haven report`: what was kept, how it grew, what ran, what was proven.

use haven_keeper::{
    ledger::Filter,
    report::{Report, Written},
};
use haven_notify::{ChannelSettings, Delivery, Letter, Message, Outbox, Severity};
use serde_json::json;

use super::Context;
use crate::{
    config::Config,
    keeper::{cannot, ledger, look_now_or_then, millis, settings::Rooms},
    report::{Code, Trouble, UNTOUCHED},
    wire,
};

/// Print the monthly report: what was kept, how it grew, what ran, what was proven, what is amiss
///
/// The keeper sends it once a month (schedule.report) by every mail channel of [alert], else by whatever people are told by.
#[derive(Debug, clap::Args)]
#[command(
    name = "report",
    after_help = "Examples:\n  haven report\n  haven report --days 7\n  haven report --html > report.html\n  haven report --send"
)]
pub struct Args {
    /// So many days back
    #[arg(long, value_name = "NUMBER", default_value_t = 31, value_parser = clap::value_parser!(u16).range(1..=400))]
    days: u16,
    /// As HTML
    #[arg(long, conflicts_with = "json")]
    html: bool,
    /// Send it
    #[arg(long)]
    send: bool,
}

pub fn run(context: &Context, args: &Args) -> Result<(), Trouble> {
    let written = write(&context.config, args.days)?;
    if args.send {
        let to = send(&context.config, &written)?;
        let said = format!("on its way to {}", to.join(", "));
        return context.answer(&json!({ "said": said, "to": to, "title": written.title }), &format!("{said}\n"));
    }
    let value = json!({ "title": written.title, "text": written.text, "html": written.html });
    context.answer(&value, if args.html { &written.html } else { &written.text })
}

fn write(config: &Config, days: u16) -> Result<Written, Trouble> {
    let (seen, _) = look_now_or_then(config);
    let (to, from) = (seen.state.now, seen.state.now - i64::from(days) * 86_400);
    let ledger = ledger(config)?;
    let broken = |error: haven_keeper::ledger::LedgerError| {
        Trouble::new(Code::Local, "the ledger can't be read").caused_by(&error).meaning(UNTOUCHED)
    };
    let (runs, growth) = match &ledger {
        Some(ledger) => (
            ledger.runs(&Filter { since: Some(from * 1000), ..Filter::default() }).map_err(broken)?,
            ledger.growth(from).map_err(broken)?,
        ),
        None => (Vec::new(), Vec::new()),
    };
    let zone = config.schedule.zone();
    let score = seen.score.clone().unwrap_or_else(|| haven_keeper::score::score(&seen.state, &config.health.limits()));
    let report = Report {
        from,
        to,
        zone: &zone,
        state: &seen.state,
        sentence: &seen.sentence,
        score: &score,
        findings: &seen.findings,
        runs: &runs,
        growth: &growth,
    };
    Ok(report.write())
}

/// Puts it into the outbox; to whom it goes.
fn send(config: &Config, written: &Written) -> Result<Vec<String>, Trouble> {
    let rooms = Rooms::of(config);
    let mails: Vec<String> = config
        .channels
        .iter()
        .filter(|(_, channel)| matches!(channel.settings, ChannelSettings::Email(_)))
        .map(|(name, _)| name.clone())
        .collect();
    let people: Vec<String> = config.route().to.into_iter().map(|(name, _)| name).collect();
    let to = if mails.is_empty() { people } else { mails };
    if to.is_empty() {
        return Err(Trouble::new(Code::Usage, "there is nobody to send it to")
            .meaning(UNTOUCHED)
            .next("set a table [alert.NAME] with kind = \"email\" in haven.toml"));
    }
    let now = millis();
    let message = Message {
        id: format!("report-{now}"),
        severity: Severity::Info,
        title: written.title.clone(),
        body: written.text.clone(),
        log: String::new(),
        host: wire::host(),
        html: written.html.clone(),
        weight: None,
    };
    let deliveries = to.iter().map(|name| Delivery::new(vec![name.clone()], now)).collect();
    let letter = Letter { message, created: now, deliveries, given_up: false };
    let outbox = Outbox::open(&rooms.outbox()).map_err(|error| cannot(rooms.root(), &error))?;
    outbox.put(&letter).map_err(|error| cannot(rooms.root(), &error))?;
    // Where no keeper is at work, it is sent now.
    let patience = std::time::Duration::from_secs(60);
    wire::runtime()?.block_on(crate::keeper::deliver_here(config, &rooms, &letter.message.id, patience))?;
    Ok(to)
}
