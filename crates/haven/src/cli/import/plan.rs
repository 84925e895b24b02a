//! `haven import plan`, and what every import begins with: reading and matching, without a server.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use haven_import::{
    Cap, CompareError, Compared, CopiesRead, Export, Indexed, Journal, Options, Progress, ServerFacts, Takeouts,
    exports,
    report::{self as journal_report, Summary},
    server::{Server, ServerError},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    flags::{GoogleArgs, StateArgs, WhatArgs},
    server::{self, WhereArgs},
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
/// Tells parts and gaps, how many files there are of what, by which rules sidecars were found, with examples, which pairs are
/// doubtful, names that lie about what a file is, albums, what would not be brought over and why, and how long it will take.
/// What was read is kept for the import. With a server it tells who answers there, how much room there is, which files a
/// proxy would not let through, and what is there already.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven import plan takeout-*.zip\n  haven import plan ~/takeout --json\n  haven import plan ~/takeout --server http://nas:2283 --api-key-file key --read-media"
)]
pub struct PlanArgs {
    /// Parts (.zip, .tgz, .tar), folders that hold them and perhaps unpacked ones, unpacked Takeouts
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    google: GoogleArgs,
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    place: WhereArgs,
    /// With a server: read every photo, to know which the server has. The import need not read those again
    #[arg(long, requires = "server", help_heading = "Server")]
    read_media: bool,
    #[command(flatten)]
    state: StateArgs,
}

pub fn plan(context: &Context, args: PlanArgs) -> Result<(), Trouble> {
    let found = haven_import::takeouts(&args.paths).map_err(|error| trouble::input(&error))?;
    let options = args.google.options(args.what.options());
    let journal = args.state.path(args.paths.first().map(PathBuf::as_path));
    let prepared = prepare(&journal, &found, &options, args.what.verify_copies)?;
    let Some(address) = &args.place.server else { return foretell(context, &prepared, None) };
    let runtime = wire::runtime()?;
    let seen = runtime.block_on(look(&args, &prepared, &options, address))?;
    foretell(context, &prepared, Some(seen))
}

/// Answers with what would be done, after a look into every file that was not looked into yet.
pub fn foretell(context: &Context, prepared: &Prepared, seen: Option<Seen>) -> Result<(), Trouble> {
    let runtime = wire::runtime()?;
    let looked = {
        let _in = runtime.enter();
        let _shown = Watch::start(prepared.progress.clone());
        runtime.block_on(haven_import::peek(&prepared.journal, &prepared.indexed.parts, &prepared.progress))
    };
    looked.map_err(|error| trouble::journal(&error))?;
    let cap = seen.as_ref().map(|seen| seen.cap);
    let outlook = haven_import::outlook(&prepared.journal, cap).map_err(|error| trouble::journal(&error))?;
    let (mut value, mut text) = answer(prepared, true)?;
    text += &told::outlook(&outlook);
    value["outlook"] = json!(outlook);
    if let Some(seen) = seen {
        text += &told::server(&seen.server, seen.cap, &seen.compared);
        value["server"] = json!(seen);
    }
    context.answer(&value, &text)?;
    match prepared.indexed.trouble.first() {
        Some(part) if prepared.summary.entries == 0 => {
            Err(Trouble::new(Code::Held, format!("nothing of this Takeout can be read: {}", part.path.display()))
                .because(part.what.clone())
                .meaning(UNTOUCHED)
                .next("download it again from takeout.google.com"))
        }
        _ => Ok(()),
    }
}

/// What a server adds to a plan.
#[derive(Serialize)]
pub struct Seen {
    server: ServerFacts,
    cap: Option<Cap>,
    compared: Compared,
}

async fn look(args: &PlanArgs, prepared: &Prepared, options: &Options, address: &str) -> Result<Seen, Trouble> {
    let strange = |error: ServerError| trouble::server(&error, address);
    let opened = server::open(&args.place, args.place.api_key_file.as_deref(), address).await?;
    let server = opened.map_err(strange)?;
    // By its full name: the client has a method of that name of its own.
    let about = Server::about(&server).await.map_err(strange)?;
    let _shown = Watch::start(prepared.progress.clone());
    let told = |error| match error {
        CompareError::Server(error) => strange(error),
        CompareError::Journal(error) => trouble::journal(&error),
    };
    let cap = haven_import::cap(&prepared.journal, &server).await.map_err(told)?;
    let parts = &prepared.indexed.parts;
    let (journal, progress) = (&prepared.journal, &prepared.progress);
    let compared = haven_import::compare(journal, &server, parts, args.read_media, progress).await.map_err(told)?;
    Ok(Seen { server: ServerFacts::of(&about, options), cap, compared })
}

/// A Takeout that was read and matched.
pub struct Prepared {
    pub journal: Arc<Journal>,
    pub progress: Arc<Progress>,
    pub indexed: Indexed,
    pub gaps: Vec<String>,
    /// How far each export was seen.
    pub last_parts: Vec<String>,
    pub summary: Summary,
}

/// Reads and matches. `copies`: every copy is read too.
pub fn prepare(path: &Path, found: &Takeouts, options: &Options, copies: bool) -> Result<Prepared, Trouble> {
    let journal = Arc::new(Journal::open(path).map_err(|error| trouble::journal(&error))?);
    let progress = Arc::new(Progress::default());
    let inputs = &found.inputs;
    let exports = exports(&journal, inputs).map_err(|error| trouble::journal(&error))?;
    let gaps: Vec<String> = exports.iter().filter_map(gap).collect();
    for gap in &gaps {
        report::warn(gap);
    }
    let runtime = wire::runtime()?;
    let indexed = {
        let _in = runtime.enter();
        let _shown = Watch::start(progress.clone());
        let indexed = haven_import::index(&journal, inputs, &progress).map_err(trouble::index)?;
        if copies {
            let read = runtime.block_on(haven_import::read_copies(&journal, &indexed.parts, &progress));
            tell_copies(&read.map_err(|error| trouble::journal(&error))?);
        }
        progress.begin("match", 0, 0);
        let lacking = !gaps.is_empty() || !indexed.trouble.is_empty();
        let plan = || haven_import::plan(&journal, options, lacking).map_err(|error| trouble::journal(&error));
        plan()?;
        // Films whose names leave open whose halves they are.
        if haven_import::settle(&journal, &indexed.parts).map_err(|error| trouble::journal(&error))? {
            plan()?;
        }
        indexed
    };
    for part in &indexed.trouble {
        report::warn(format!("{}: {}", part.path.display(), part.what));
    }
    tell_passed_over(&found.passed_over, path);
    for path in &indexed.twice {
        report::warn(format!("{} is the same part as another one, and is passed over", path.display()));
    }
    for part in haven_import::homeless(&journal).map_err(|error| trouble::journal(&error))? {
        report::warn(format!(
            "{part}: its name does not tell which of several exports it is a part of, and it is taken for one of its own: give it \
             the name it was downloaded under, or import each export by itself"
        ));
    }
    let summary = journal_report::summary(&journal).map_err(trouble::report)?;
    let last_parts = exports.iter().filter_map(last_part).collect();
    Ok(Prepared { journal, progress, indexed, gaps, last_parts, summary })
}

/// How many of those that are not looked at are named.
const PASSED_OVER_TOLD: usize = 10;

/// Tells what lies beside archives and is not looked at; hidden files and the journal are no news.
fn tell_passed_over(passed_over: &[PathBuf], journal: &Path) {
    let own = journal.file_name().unwrap_or_default().to_string_lossy();
    let told: Vec<String> = passed_over
        .iter()
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with('.') && !name.starts_with(&*own)
        })
        .map(|path| path.display().to_string())
        .collect();
    if told.is_empty() {
        return;
    }
    let more = told.len().saturating_sub(PASSED_OVER_TOLD);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    report::note(format!(
        "beside the archives lies what is neither an archive nor an unpacked Takeout, and is not looked at: {}{more}",
        told[..told.len().min(PASSED_OVER_TOLD)].join(", ")
    ));
}

fn tell_copies(read: &CopiesRead) {
    report::note(format!("{} copies were read; {} are not what they seemed", read.read, read.different.len()));
    for path in &read.different {
        report::warn(format!(
            "{path} has the name, length and CRC-32 of another file, and is another one: both are brought"
        ));
    }
    for (path, why) in &read.unread {
        report::warn(format!("{path} can't be read: {why}"));
    }
}

/// An export, and in newer names the group of its products, each of which has numbers of its own.
fn name(export: &Export) -> String {
    let group = export.product.map(|product| format!("-{product}"));
    format!("export {}{}", export.export, group.unwrap_or_default())
}

/// The gap in the numbers of an export's parts.
fn gap(export: &Export) -> Option<String> {
    let numbers: Vec<String> = export.missing().iter().map(u32::to_string).collect();
    (!numbers.is_empty()).then(|| format!("{}: parts {} are missing", name(export), numbers.join(", ")))
}

/// No name tells how many parts there are: that the last one is here nobody can say.
fn last_part(export: &Export) -> Option<String> {
    let last = export.seen.last()?;
    Some(format!("{}: the last part seen is {last}; whether it is the last there is can't be known", name(export)))
}

/// Stops before anything is sent, where parts are missing and photos would lose their sidecars by it.
pub fn gate(prepared: &Prepared, allowed: bool) -> Result<(), Trouble> {
    let lost = !prepared.gaps.is_empty() && prepared.summary.unmatched > 0;
    if allowed || prepared.indexed.trouble.is_empty() && !lost {
        return Ok(());
    }
    let mut trouble = Trouble::new(Code::Held, "parts of this Takeout are missing or can't be read");
    for why in told::parts(&prepared.gaps, &prepared.indexed.trouble).iter().chain(&prepared.last_parts) {
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

/// Answers with what was done.
pub fn tell(context: &Context, prepared: &Prepared) -> Result<(), Trouble> {
    let (value, text) = answer(prepared, false)?;
    context.answer(&value, &text)
}

fn answer(prepared: &Prepared, long: bool) -> Result<(Value, String), Trouble> {
    let summary = journal_report::summary(&prepared.journal).map_err(trouble::report)?;
    let trouble = told::parts(&prepared.gaps, &prepared.indexed.trouble);
    let text = told::summary(&summary, long) + &told::part_lines(&trouble, &prepared.last_parts);
    let value = json!({
        "parts": prepared.indexed.parts.len(),
        "part_trouble": trouble,
        "last_parts": prepared.last_parts,
        "summary": summary,
    });
    Ok((value, text))
}
