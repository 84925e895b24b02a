//! `haven copy prune` and `delete`: what goes, by our own rules, archive by archive.

use haven_format::retention::Rules;
use haven_offsite::{Archive, Judged, plan};
use jiff::tz::TimeZone;
use serde_json::json;

use super::{
    Context, Opened,
    look::moment,
    state::{Lock, Remembered},
};
use crate::{
    report::{Code, Trouble, UNTOUCHED},
    words,
};

/// Delete archives that no rule keeps: the rules of `borg prune`, the same for both formats
///
/// Only archives whose names begin with `prefix` (haven.toml) are looked at. Leftovers of runs that did not end well go
/// once something whole of the same application is newer. The space comes free at once.
#[derive(Debug, clap::Args)]
pub struct PruneArgs {
    name: String,
    /// "within 1d, hourly 24, daily 7, weekly 4, monthly -1" [default: keep in haven.toml]
    rules: Option<String>,
    /// Only tell what would go, and why
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Delete archives by name
///
/// Where a leftover has the name of a whole one, each is named by its id, which `haven copy list --json` tells.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    name: String,
    #[arg(required = true)]
    archives: Vec<String>,
    /// Only tell what would go
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// The rules that are given, else those of haven.toml.
pub fn rules(opened: &Opened, given: Option<&str>) -> Result<Rules, Trouble> {
    let text = given.or(opened.config.keep.as_deref()).ok_or_else(|| {
        Trouble::new(Code::Usage, "no rules were given").meaning(UNTOUCHED).next(format!(
            "haven copy prune {} 'within 1d, daily 7, weekly 4, monthly -1', or set copy.keep in haven.toml",
            opened.name
        ))
    })?;
    text.parse().map_err(|error: haven_format::retention::RulesError| {
        Trouble::new(Code::Usage, format!("the rules {text:?} can't be meant")).caused_by(&error).meaning(UNTOUCHED)
    })
}

/// What the rules make of what is there.
pub fn judged(opened: &Opened, rules: &Rules) -> Result<Vec<Judged>, Trouble> {
    let archives = opened.copy.list().map_err(|error| opened.trouble(&error))?;
    let judged = plan(&archives, &opened.config.prefix, rules, words::now().seconds, &TimeZone::system());
    let mut whole = judged.iter().filter(|one| !one.archive.leftover).peekable();
    if whole.peek().is_some() && !whole.any(|one| one.keep) {
        return Err(Trouble::new(Code::Held, format!("copy {}: these rules keep nothing at all", opened.name))
            .meaning(UNTOUCHED)
            .next("give rules that keep something: 'last 1'"));
    }
    Ok(judged)
}

/// Deletes archives and makes their space free.
pub async fn let_go(opened: &Opened, archives: &[Archive]) -> Result<(), Trouble> {
    if archives.is_empty() {
        return Ok(());
    }
    let mut known = Remembered::read(opened)?;
    // A leftover was never known: what has its name is the whole one, which stays.
    known.archives.retain(|name, _| !archives.iter().any(|archive| !archive.leftover && archive.name == *name));
    // Before: what is deleted half way is not missed.
    known.write(opened)?;
    let ids: Vec<String> = archives.iter().map(|archive| archive.id.clone()).collect();
    opened
        .work("deleting", move |copy, watch| {
            copy.delete(&ids, watch)?;
            copy.compact(watch)
        })
        .await
}

pub async fn prune(context: &Context, args: PruneArgs) -> Result<(), Trouble> {
    let opened = Opened::new(context, &args.name, None)?;
    let rules = rules(&opened, args.rules.as_deref())?;
    let _lock = Lock::take(&opened)?;
    let judged = judged(&opened, &rules)?;
    let goes: Vec<Archive> = judged.iter().filter(|one| !one.keep).map(|one| one.archive.clone()).collect();
    if !args.dry_run {
        let_go(&opened, &goes).await?;
    }
    let word = if args.dry_run { "would go" } else { "deleted" };
    let row = |one: &Judged| {
        let Archive { name, taken, .. } = &one.archive;
        [if one.keep { "keeps" } else { word }.to_owned(), name.clone(), moment(*taken), one.why.clone()]
    };
    let rows: Vec<_> = judged.iter().map(row).collect();
    let value = json!({ "name": args.name, "dry_run": args.dry_run, "archives": judged });
    context.answer(&value, &words::table(["", "ARCHIVE", "OF", "WHY"], &rows))
}

pub async fn delete(context: &Context, args: DeleteArgs) -> Result<(), Trouble> {
    let opened = Opened::new(context, &args.name, None)?;
    let _lock = Lock::take(&opened)?;
    let archives = opened.copy.list().map_err(|error| opened.trouble(&error))?;
    let mut goes = Vec::new();
    for name in &args.archives {
        let called: Vec<&Archive> = archives.iter().filter(|one| one.name == *name || one.id == *name).collect();
        match called[..] {
            [one] => goes.push(one.clone()),
            [] => {
                return Err(Trouble::new(Code::NoCopy, format!("copy {}: there is no archive {name}", args.name))
                    .meaning(UNTOUCHED)
                    .next(format!("haven copy list {}", args.name)));
            }
            _ => {
                let what = format!("copy {}: {} archives are called {name}", args.name, called.len());
                let state = |one: &Archive| if one.leftover { "a leftover" } else { "whole" };
                let trouble = called.iter().fold(Trouble::new(Code::Usage, what), |trouble, one| {
                    trouble.because(format!("{} is {}", one.id, state(one)))
                });
                return Err(trouble.meaning(UNTOUCHED).next("name the one that is meant by its id"));
            }
        }
    }
    if !args.dry_run {
        let_go(&opened, &goes).await?;
    }
    let word = if args.dry_run { "would delete" } else { "deleted" };
    let text: String = args.archives.iter().map(|name| format!("{word} {name}\n")).collect();
    context.answer(&json!({ "name": args.name, "dry_run": args.dry_run, "archives": args.archives }), &text)
}
