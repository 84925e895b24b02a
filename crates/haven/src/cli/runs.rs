//! `haven runs`: what the keeper did.

use haven_format::record::Time;
use haven_keeper::ledger::{Filter, Run};
use serde_json::json;

use super::Context;
use crate::{
    keeper::{ledger, millis},
    report::{Code, Trouble, UNTOUCHED},
    words,
};

/// List what the keeper did, newest first, or show one run with its whole log
#[derive(Debug, clap::Args)]
#[command(
    visible_alias = "ledger",
    after_help = "Examples:\n  haven runs                       the newest\n  haven runs --kind backup --all\n  haven runs 412                   one, with its log\n  haven runs --json"
)]
pub struct Args {
    /// The number of a run: show it with its log
    id: Option<i64>,
    /// Only of this kind: snapshot, backup, replica, copy, gc, scrub, drill-0, drill-1, drill-2, report
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only of this replica, copy or application
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// All that are remembered, not the newest 30
    #[arg(long)]
    all: bool,
}

pub fn run(context: &Context, args: &Args) -> Result<(), Trouble> {
    let broken = |error: haven_keeper::ledger::LedgerError| {
        Trouble::new(Code::Local, "the ledger can't be read").caused_by(&error).meaning(UNTOUCHED)
    };
    let ledger = ledger(&context.config)?;
    if let Some(id) = args.id {
        let run = ledger.as_ref().map(|ledger| ledger.run(id)).transpose().map_err(broken)?.flatten();
        let run = run.ok_or_else(|| {
            Trouble::new(Code::Usage, format!("there is no run {id}"))
                .meaning(UNTOUCHED)
                .next("haven runs    lists them")
        })?;
        let log = run.log.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let value = json!({ "run": run, "log": log });
        return context.answer(&value, &shown(&run, log.as_deref()));
    }
    let filter = Filter {
        kind: args.kind.clone(),
        name: args.name.clone(),
        limit: if args.all { 0 } else { 30 },
        ..Filter::default()
    };
    let runs = ledger.as_ref().map(|ledger| ledger.runs(&filter)).transpose().map_err(broken)?.unwrap_or_default();
    let row = |run: &Run| {
        [
            run.id.to_string(),
            moment(run.started),
            run.kind.clone(),
            run.name.clone(),
            took(run),
            run.bytes.map(words::bytes).unwrap_or_default(),
            run.verdict.word().to_owned(),
            run.said.clone(),
        ]
    };
    let text = if runs.is_empty() {
        "nothing was done yet; haven run is the keeper that does it\n".to_owned()
    } else {
        words::table(
            ["RUN", "BEGAN", "KIND", "NAME", "TOOK", "MOVED", "VERDICT", "SAID"],
            &runs.iter().map(row).collect::<Vec<_>>(),
        )
    };
    context.answer(&json!({ "runs": runs }), &text)
}

fn moment(millis: i64) -> String {
    words::moment(Time { seconds: millis.div_euclid(1000), nanos: 0 })
}

fn took(run: &Run) -> String {
    let millis = run.millis(millis());
    match millis {
        0..60_000 => format!("{:.1} s", millis as f64 / 1000.0),
        60_000..7_200_000 => format!("{} min", millis / 60_000),
        _ => format!("{:.1} h", millis as f64 / 3_600_000.0),
    }
}

fn shown(run: &Run, log: Option<&str>) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            out += &format!("{name:<9}{value}\n");
        }
    };
    row("run", run.id.to_string());
    row("job", if run.name.is_empty() { run.kind.clone() } else { format!("{} {}", run.kind, run.name) });
    row("due", run.planned.map(moment).unwrap_or_default());
    row("began", moment(run.started));
    row("ended", run.ended.map(moment).unwrap_or_default());
    row("took", took(run));
    row("moved", run.bytes.map(words::bytes).unwrap_or_default());
    row("verdict", run.verdict.word().to_owned());
    row("said", run.said.clone());
    row("tries", if run.tries > 0 { format!("{} before it", run.tries) } else { String::new() });
    row("log", run.log.as_ref().map(|path| path.display().to_string()).unwrap_or_default());
    match log {
        Some(log) => format!("{out}\n{log}"),
        None if run.tail.is_empty() => out,
        None => format!("{out}\n{}\n", run.tail),
    }
}
