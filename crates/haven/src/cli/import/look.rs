//! `haven import report` and `explain`: what became of every file, and why.

use std::{io::Write, path::PathBuf};

use haven_import::{Journal, near, raw, report as journal_report};
use serde::Serialize;

use super::{flags::StateArgs, told, trouble};
use crate::{
    cli::Context,
    report::{Code, Trouble, UNTOUCHED},
};

/// What became of every file
///
/// Every file is in exactly one place of this report, and the sum is that of the parts' own lists.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven import report --state haven-import.db\n  haven import report ~/takeout                         the journal beside the parts there\n  haven import report --entries files.jsonl             one line of JSON for each file"
)]
pub struct ReportArgs {
    /// Where the parts are
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Write one line of JSON for each file into FILE; - is standard output
    #[arg(long, value_name = "FILE")]
    entries: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
}

pub fn report(context: &Context, args: &ReportArgs) -> Result<(), Trouble> {
    let path = args.state.path(args.path.as_deref());
    let journal = Journal::look(&path).map_err(|error| trouble::journal(&error))?;
    if let Some(file) = &args.entries {
        write_entries(&journal, file)?;
        if file.as_os_str() == "-" {
            return Ok(());
        }
    }
    let summary = journal_report::summary(&journal).map_err(trouble::report)?;
    context.answer(&summary, &told::summary(&summary, true))
}

/// One line of JSON for each entry.
fn write_entries(journal: &Journal, file: &PathBuf) -> Result<(), Trouble> {
    let local = |error: std::io::Error| {
        Trouble::new(Code::Local, format!("{} can't be written", file.display())).caused_by(&error)
    };
    let mut out: Box<dyn Write> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdout().lock()),
        false => Box::new(std::io::BufWriter::new(std::fs::File::create(file).map_err(local)?)),
    };
    let mut failed = None;
    let told = journal_report::rows(journal, None, |row| {
        let line = serde_json::to_string(&row).expect("rows are plain values");
        if failed.is_none() {
            failed = writeln!(out, "{line}").err();
        }
    });
    told.map_err(|error| trouble::journal(&error))?;
    let ended = failed.map_or_else(|| out.flush(), Err);
    match ended {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(local(error)),
        _ => Ok(()),
    }
}

/// Why a file got this sidecar, this date, this place in the report
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven import explain IMG_1234.jpg --state haven-import.db\n  haven import explain 'Photos from 2019/IMG_1234.jpg' --sidecar"
)]
pub struct ExplainArgs {
    /// The file, by its name or its path in the Takeout
    #[arg(value_name = "PATH")]
    path: String,
    /// With its sidecar, as Google wrote it; the archives need not be here
    #[arg(long)]
    sidecar: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    row: journal_report::EntryRow,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nearest: Vec<near::Near>,
    /// The text of the sidecar, or of the file itself where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<String>,
}

pub fn explain(context: &Context, args: &ExplainArgs) -> Result<(), Trouble> {
    let path = args.state.path(None);
    let journal = Journal::look(&path).map_err(|error| trouble::journal(&error))?;
    let mut rows = vec![];
    journal_report::rows(&journal, Some(&args.path), |row| rows.push(row)).map_err(|error| trouble::journal(&error))?;
    if rows.is_empty() {
        return Err(Trouble::new(Code::Usage, format!("no file {} is in this import", args.path))
            .meaning(UNTOUCHED)
            .next("haven import report --entries -    lists all files"));
    }
    let mut explained = vec![];
    for row in rows {
        let media = row.sidecar.is_none() && !row.path.ends_with(".json");
        let nearest = if media { near::nearest(&journal, &row.path) } else { Ok(vec![]) };
        let sidecar = row.sidecar.as_deref().or(row.path.ends_with(".json").then_some(row.path.as_str()));
        let json = match sidecar.filter(|_| args.sidecar) {
            Some(path) => raw::of(&journal, path).map_err(|error| trouble::journal(&error))?,
            None => None,
        };
        explained.push(Explained { row, nearest: nearest.map_err(|error| trouble::journal(&error))?, json });
    }
    let text: String = explained.iter().map(told_one).collect();
    context.answer(&explained, &text)
}

fn told_one(explained: &Explained) -> String {
    let row = &explained.row;
    let mut out = format!("{}\n", row.path);
    let mut line = |label: &str, text: &str| out += &format!("  {label:<12}{text}\n");
    line("part", &row.part);
    line("bucket", row.bucket.word());
    let of = if row.bucket == journal_report::Bucket::Duplicate { "copy of" } else { "goes with" };
    let fields = [
        (of, row.of.as_deref()),
        ("sidecar", row.sidecar.as_deref()),
        ("found by", row.rule),
        ("sure", row.sure.map(|sure| if sure { "yes" } else { "no: it only may be" })),
        ("sent as", row.sent_as.as_deref()),
        ("date from", row.dated_by),
        ("asset", row.asset.as_deref()),
        ("because", row.why.as_deref()),
    ];
    for (label, text) in fields.into_iter().filter_map(|(label, text)| Some((label, text?))) {
        line(label, text);
    }
    if !explained.nearest.is_empty() {
        out += "  the nearest sidecars, and why they were not taken\n";
        for near in &explained.nearest {
            out += &format!("    {}: {}\n", near.sidecar, near.why_not);
        }
    }
    if let Some(json) = &explained.json {
        out += &format!("{}\n", json.trim_end());
    }
    out
}
