//! `haven import plan`, and what every import begins with: reading and matching, without a server.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use haven_import::{
    Indexed, Input, Journal, Options, Progress, exports,
    report::{self as journal_report, Summary},
};
use serde_json::json;

use super::{
    flags::{GoogleArgs, StateArgs, WhatArgs},
    told, trouble,
    watch::Watch,
};
use crate::{
    cli::Context,
    report::{self, Code, Trouble, UNTOUCHED},
    wire,
};

/// What is in a Takeout, and what would be done with it; no server is needed
///
/// Tells parts and gaps, how many files there are of what, by which rules sidecars were found, with examples, albums, and
/// what would not be brought over and why. What was read is kept for the import.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  haven import plan takeout-*.zip\n  haven import plan ~/takeout --json")]
pub struct PlanArgs {
    /// Parts (.zip, .tgz, .tar), folders that hold them, unpacked Takeouts
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    google: GoogleArgs,
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    state: StateArgs,
}

pub fn plan(context: &Context, args: PlanArgs) -> Result<(), Trouble> {
    let inputs = haven_import::takeouts(&args.paths).map_err(|error| trouble::input(&error))?;
    let options = args.google.options(args.what.options());
    let journal = args.state.path(args.paths.first().map(PathBuf::as_path));
    let prepared = prepare(&journal, &inputs, &options)?;
    tell(context, &prepared, true)
}

/// A Takeout that was read and matched.
pub struct Prepared {
    pub journal: Arc<Journal>,
    pub progress: Arc<Progress>,
    pub indexed: Indexed,
    pub gaps: Vec<String>,
    pub summary: Summary,
}

pub fn prepare(path: &Path, inputs: &[Input], options: &Options) -> Result<Prepared, Trouble> {
    let journal = Journal::open(path).map_err(|error| trouble::journal(&error))?;
    let progress = Arc::new(Progress::default());
    let gaps = gaps(inputs);
    for gap in &gaps {
        report::warn(gap);
    }
    let runtime = wire::runtime()?;
    let indexed = {
        let _in = runtime.enter();
        let _shown = Watch::start(progress.clone(), false);
        let indexed = haven_import::index(&journal, inputs, &progress).map_err(trouble::index)?;
        progress.begin("match", 0, 0);
        haven_import::plan(&journal, options).map_err(|error| trouble::journal(&error))?;
        indexed
    };
    for part in &indexed.trouble {
        report::warn(format!("{}: {}", part.path.display(), part.what));
    }
    for path in &indexed.twice {
        report::warn(format!("{} is the same part as another one, and is passed over", path.display()));
    }
    let summary = journal_report::summary(&journal).map_err(trouble::report)?;
    Ok(Prepared { journal: Arc::new(journal), progress, indexed, gaps, summary })
}

/// Exports with gaps in the numbers of their parts.
fn gaps(inputs: &[Input]) -> Vec<String> {
    let gap = |export: haven_import::Export| {
        let missing = export.missing();
        let numbers: Vec<String> = missing.iter().map(u32::to_string).collect();
        let last = export.seen.last().copied().unwrap_or_default();
        (!missing.is_empty()).then(|| {
            format!(
                "export {}: parts {} are missing (the last one seen is {last}; whether it is the last there is can't be known)",
                export.export,
                numbers.join(", ")
            )
        })
    };
    exports(inputs).into_iter().filter_map(gap).collect()
}

/// Stops before anything is sent, where parts are missing and photos would lose their sidecars by it.
pub fn gate(prepared: &Prepared, allowed: bool) -> Result<(), Trouble> {
    let lost = !prepared.gaps.is_empty() && prepared.summary.unmatched > 0;
    if allowed || prepared.indexed.trouble.is_empty() && !lost {
        return Ok(());
    }
    let mut trouble = Trouble::new(Code::Held, "parts of this Takeout are missing or can't be read");
    for why in told::parts(&prepared.gaps, &prepared.indexed.trouble) {
        trouble = trouble.because(why);
    }
    Err(trouble
        .meaning(format!(
            "{UNTOUCHED}; {} photos have no sidecar, perhaps because it lies in such a part",
            prepared.summary.unmatched
        ))
        .next("download those parts again from takeout.google.com and run this with all of them")
        .next("or bring over what is there: --allow-missing-parts"))
}

/// Answers with what is planned or was done.
pub fn tell(context: &Context, prepared: &Prepared, long: bool) -> Result<(), Trouble> {
    let summary = journal_report::summary(&prepared.journal).map_err(trouble::report)?;
    let trouble = told::parts(&prepared.gaps, &prepared.indexed.trouble);
    let value = json!({ "parts": prepared.indexed.parts.len(), "part_trouble": trouble, "summary": summary });
    context.answer(&value, &told::summary(&summary, long))
}
