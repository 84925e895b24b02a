//! `haven copy list`, `info` and `check`.

use haven_format::record::Time;
use haven_offsite::{Archive, Depth, Error, Hit, Kind};
use serde_json::json;

use super::{
    Context, Opened,
    state::{Remembered, vanished},
};
use crate::{
    report::{self, Trouble},
    words,
};

/// List the copies that haven.toml names, or the archives of one
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// The copy whose archives are listed
    name: Option<String>,
}

/// Tell all about a repository: how it is sealed, what it holds, how big it is
#[derive(Debug, clap::Args)]
pub struct InfoArgs {
    name: String,
}

/// Look for damage in a repository, and for archives that have vanished
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven copy check home                     is everything there, does it hang together?\n  haven copy check home --read-data         also fetches and verifies every byte: long\n\nExit codes: 0 all is well; 6 the repository is damaged; 10 archives have vanished"
)]
pub struct CheckArgs {
    name: String,
    /// Also read every byte, decrypt it and compare it with its hash
    #[arg(long)]
    read_data: bool,
    /// Archives that have vanished were meant to: don't miss them any more
    #[arg(long)]
    accept_missing: bool,
}

/// What an archive is, in a word.
pub fn sort(archive: &Archive) -> &'static str {
    match (archive.leftover, archive.foreign) {
        (true, _) => "leftover",
        (_, true) => "of others",
        _ => "whole",
    }
}

pub fn moment(seconds: i64) -> String {
    words::moment(Time { seconds, nanos: 0 })
}

pub fn list(context: &Context, args: ListArgs) -> Result<(), Trouble> {
    let Some(name) = args.name else { return list_copies(context) };
    let opened = Opened::new(context, &name, None)?;
    let archives = opened.copy.list().map_err(|error| opened.trouble(&error))?;
    let row = |archive: &Archive| {
        [archive.name.clone(), moment(archive.taken), sort(archive).to_owned(), archive.note.clone()]
    };
    let rows: Vec<_> = archives.iter().map(row).collect();
    let text = match rows.is_empty() {
        true => format!("there are no archives; haven copy run {name} makes one\n"),
        false => words::table(["ARCHIVE", "OF", "KIND", "NOTE"], &rows),
    };
    context.answer(&json!({ "name": name, "archives": archives }), &text)?;
    let missing = Remembered::read(&opened)?.missing(&archives);
    if missing.is_empty() { Ok(()) } else { Err(vanished(&name, &missing, whole(&archives))) }
}

/// How many archives are copies of something.
pub fn whole(archives: &[Archive]) -> usize {
    archives.iter().filter(|archive| !archive.leftover).count()
}

fn list_copies(context: &Context) -> Result<(), Trouble> {
    let mut rows = Vec::new();
    let mut shown = Vec::new();
    for (name, config) in &context.config.copies {
        let known = Remembered::at(&config.directory(name));
        let last = match &known {
            Ok(known) => known.last_good.map_or_else(|| "never".into(), moment),
            Err(_) => "can't be told".into(),
        };
        let (last_good, trouble) = known.map_or_else(|why| (None, Some(why)), |known| (known.last_good, None));
        let keep = config.keep.clone().unwrap_or_default();
        shown.push(json!({
            "name": name,
            "format": config.format,
            "repository": config.repository,
            "keep": config.keep,
            "last_good": last_good,
            "trouble": trouble,
        }));
        rows.push([name.clone(), config.format.word().to_owned(), config.repository.clone(), last, keep]);
    }
    let text = match rows.is_empty() {
        true => "there are no copies; haven copy add NAME REPOSITORY names one\n".to_owned(),
        false => words::table(["NAME", "FORMAT", "REPOSITORY", "LAST GOOD RUN", "KEEP"], &rows),
    };
    context.answer(&json!({ "copies": shown }), &text)
}

pub fn info(context: &Context, args: InfoArgs) -> Result<(), Trouble> {
    let opened = Opened::new(context, &args.name, None)?;
    let about = opened.copy.info().map_err(|error| opened.trouble(&error))?;
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            out += &format!("{name:<12}{value}\n");
        }
    };
    row("repository", about.location.clone());
    row("id", about.id.clone());
    row("program", format!("{} {}", opened.config.format.word(), about.version));
    row("encryption", about.encryption.clone());
    row("archives", about.archives.to_string());
    if about.leftovers > 0 {
        row("leftovers", about.leftovers.to_string());
    }
    if about.original_bytes > 0 {
        row("files", format!("{}, all archives together", words::bytes(about.original_bytes)));
    }
    row("stored", words::bytes(about.stored_bytes));
    context.answer(&about, &out)?;
    if !context.json {
        about.warnings.iter().for_each(report::warn);
    }
    Ok(())
}

/// Tells what a damaged repository can't give back.
fn damaged(context: &Context, opened: &Opened, read_data: bool, error: &Error) -> Result<(), Trouble> {
    let trouble = opened.trouble(error);
    if error.hit.is_empty() {
        return Err(trouble);
    }
    let line = |hit: &Hit| {
        let what = if hit.path.is_empty() { "a folder that can't be told" } else { hit.path.as_str() };
        let more = hit.archives.len().saturating_sub(1);
        let others = if more > 0 { format!(" and {}", words::count(more, "other")) } else { String::new() };
        format!("damaged   {what}, in {}{others}\n", hit.archives.last().map_or("", String::as_str))
    };
    let text: String = error.hit.iter().map(line).collect();
    let value = json!({ "name": opened.name, "read_data": read_data, "damaged": error.hit });
    context.answer(&value, &text)?;
    let folders = error.hit.iter().filter(|hit| hit.path.is_empty() || hit.path.ends_with('/')).count();
    let files = words::count(error.hit.len() - folders, "file");
    let all = if folders == 0 { files } else { format!("{files} and all of {}", words::count(folders, "folder")) };
    Err(trouble
        .because(format!("{all} can't come back whole from the archives that are named with them"))
        .next("haven explain PHOTO    tells which other copies have one of them"))
}

pub async fn check(context: &Context, args: CheckArgs) -> Result<(), Trouble> {
    let opened = Opened::new(context, &args.name, None)?;
    let depth = if args.read_data { Depth::Data } else { Depth::Structure };
    let checked = opened.work("checking", move |copy, watch| match copy.check(depth, watch) {
        // What is hit is an answer.
        Err(error) if error.kind == Kind::Damaged => Ok(Err(error)),
        outcome => outcome.map(Ok),
    });
    if let Err(error) = checked.await? {
        return damaged(context, &opened, args.read_data, &error);
    }
    let archives = opened.copy.list().map_err(|error| opened.trouble(&error))?;
    let mut known = match Remembered::read(&opened) {
        Err(_) if args.accept_missing => Remembered::anew(&opened, &archives),
        known => known?,
    };
    let missing = known.missing(&archives);
    if args.accept_missing {
        known.archives.retain(|name, _| !missing.contains(name));
        known.write(&opened)?;
    }
    let leftovers = archives.len() - whole(&archives);
    let told = format!(
        "no damage was found{}; {}{}\n",
        if args.read_data { ", and every byte was read" } else { "" },
        words::count(whole(&archives), "archive"),
        if leftovers > 0 { format!(", {}", words::count(leftovers, "leftover")) } else { String::new() },
    );
    let value = json!({
        "name": args.name,
        "read_data": args.read_data,
        "archives": whole(&archives),
        "leftovers": leftovers,
        "missing": missing,
    });
    context.answer(&value, &told)?;
    if missing.is_empty() || args.accept_missing {
        Ok(())
    } else {
        Err(vanished(&args.name, &missing, whole(&archives)))
    }
}
