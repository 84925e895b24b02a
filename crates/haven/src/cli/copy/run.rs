//! `haven copy run`: an archive of a recovery point, if the library has any, else of a snapshot. Where several applications
//! have points each gets an archive of its newest: what two have at two instants is in no one snapshot.
//!
//! A point is two snapshots: NAME, the files at the instant, and NAME+dump, taken when the dump was in the library. They
//! are shown as one: the files of the first, and over its folder `.haven` that of the second.
//!
//! The snapshot is shown to the program at one place each time, so that it knows unchanged files again by their path,
//! inode and times. Only root can do that; else the snapshot has one name each time, which does the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use haven_mount::control::{Found, Locator, Request, find};
use haven_offsite::{Archive, Source};
use haven_point::Point;
use haven_store::human;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Context, Opened, keep,
    look::{moment, whole},
    state::{Lock, Remembered, vanished},
};
use crate::{
    cli::ask,
    past::Shown,
    report::{self, Code, Trouble, UNTOUCHED},
    words,
};

/// Make an archive of the newest recovery point, of the library as it is now, or of a snapshot
///
/// The library is mounted on this machine, and in use. If it has recovery points, the newest is copied (of each
/// application, where there are several), files and database together; else a snapshot is taken, copied, and removed again. The archive has its name only when everything is in it; when a file could not be read, or the connection was lost, the run ends
/// with an error that says so, and what was sent already is not sent again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven copy run                            all copies, one after the other\n  haven copy run home --prune               and delete what the rules in haven.toml don't keep\n  haven copy run home --snapshot before-the-cleanup\n  haven copy run far --limit 5MB\n\nExit codes: 0 the archive is whole; 4 the repository can't be reached, or is full; 10 not everything could be read,\nor archives have vanished"
)]
pub struct RunArgs {
    /// Which copies [default: all]
    names: Vec<String>,
    /// Copy this snapshot or recovery point
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// Copy the library as it is now, although it has recovery points
    #[arg(long, conflicts_with = "snapshot")]
    now: bool,
    /// Afterwards delete archives that no rule of haven.toml keeps
    #[arg(long)]
    prune: bool,
    /// Send no more bytes a second than this: 20MB
    #[arg(long, value_name = "SIZE", value_parser = human::parse_bytes)]
    limit: Option<u64>,
    /// Only look whether everything is ready, and tell what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// The mount point of the library [default: library of the copy, then mount.point in haven.toml]
    #[arg(long, short = 'L', value_name = "MOUNTPOINT")]
    library: Option<PathBuf>,
}

pub async fn run(context: &Context, args: RunArgs) -> Result<(), Trouble> {
    let names = match args.names.is_empty() {
        true => context.config.copies.keys().cloned().collect(),
        false => args.names.clone(),
    };
    if names.is_empty() {
        return Err(Trouble::new(Code::Usage, "there are no copies to make")
            .meaning(UNTOUCHED)
            .next("haven copy add NAME REPOSITORY    names one"));
    }
    // One that fails keeps no other from being made. The first trouble is this command's, the others are told before.
    let mut first = None;
    for name in &names {
        match one(context, &args, name).await {
            Ok(()) => {}
            Err(trouble) if trouble.code == Code::Unfinished => return Err(trouble),
            Err(trouble) if first.is_none() => first = Some(trouble),
            Err(trouble) => trouble.tell(context.json),
        }
    }
    first.map_or(Ok(()), Err)
}

/// Where the library is mounted, and who answers for it.
fn mount_point(context: &Context, args: &RunArgs, opened: &Opened) -> Result<(PathBuf, Locator), Trouble> {
    let named = args.library.clone().or_else(|| opened.config.library.clone());
    let path = named.or_else(|| context.config.mount.point.clone()).ok_or_else(|| {
        Trouble::new(Code::Usage, "no mounted library was named")
            .meaning(UNTOUCHED)
            .next("name its mount point with --library, as library of the copy, or as mount.point in haven.toml")
    })?;
    match find(&path) {
        Ok(Found::Mount { point, at }) => Ok((point, at)),
        _ => Err(ask::not_mounted(&path)),
    }
}

/// A snapshot to copy. One that was taken for this goes when this goes.
struct Taken {
    at: Locator,
    name: String,
    seconds: i64,
    ours: bool,
    /// The folder to show over its `.haven`: it is a recovery point.
    dump: Option<PathBuf>,
    /// The application it is a point of, where several have points.
    of: Option<String>,
}

/// Where Haven keeps what is its own.
const OWN: &str = ".haven";

/// Complete recovery points, and where each has its dump so that nobody can change it.
fn dumps(root: &Path) -> Result<BTreeMap<String, PathBuf>, Trouble> {
    let all = haven_point::list(root).map_err(|error| crate::points::trouble(&error))?;
    let mut points = Vec::new();
    for found in all {
        match found.point {
            Ok(point) => points.push(point),
            // It may be the newest: an older one in its place, or none, is not what was asked for.
            Err(error) if error.is_unread() => return Err(crate::points::trouble(&error)),
            Err(_) => {}
        }
    }
    let points = points.into_iter().filter(|point| point.sealed);
    // Its folder is .haven/points/NAME in the snapshot that seals it.
    let one = |point: Point| Some((point.name().to_owned(), point.folder.parent()?.parent()?.to_owned()));
    Ok(points.filter_map(one).filter(|(name, _)| root.join(".snapshots").join(name).join(OWN).is_dir()).collect())
}

impl Taken {
    /// What is to be copied, oldest first.
    fn all(at: Locator, root: &Path, copy: &str, args: &RunArgs) -> Result<Vec<Self>, Trouble> {
        let bad = |_| Trouble::new(Code::Bug, "the mount's process answered something else");
        let list = ask::ask(&at, &Request::new("snapshot list").with("unique", false), "looking")?;
        let known: Vec<Shown> = serde_json::from_value(list).map_err(bad)?;
        let dumps = dumps(root)?;
        let applications: BTreeSet<&str> = dumps.keys().filter_map(|name| haven_point::application(name)).collect();
        let there = |shown: &Shown| {
            let dump = dumps.get(&shown.name).cloned();
            let of = dump.as_ref().filter(|_| applications.len() > 1).and(haven_point::application(&shown.name));
            let of = of.map(str::to_owned);
            Self { at: at.clone(), name: shown.name.clone(), seconds: shown.taken_seconds, ours: false, dump, of }
        };
        if let Some(name) = &args.snapshot {
            let shown = known.iter().find(|shown| shown.name == *name).ok_or_else(|| {
                Trouble::new(Code::Usage, format!("there is no snapshot {name}"))
                    .meaning(UNTOUCHED)
                    .next("haven snapshot list    shows the names")
            })?;
            return Ok(vec![there(shown)]);
        }
        let points = known.iter().filter(|shown| !args.now && dumps.contains_key(&shown.name));
        let now = Timestamp::now();
        // One of a time to come would be the newest until then.
        let rank = |shown: &Shown| {
            let taken = Timestamp::from_second(shown.taken_seconds);
            (taken.is_ok_and(|taken| !haven_point::is_ahead(taken, now)), shown.taken_seconds)
        };
        let mut newest: BTreeMap<Option<&str>, &Shown> = BTreeMap::new();
        for point in points {
            let best = newest.entry(haven_point::application(&point.name)).or_insert(point);
            if rank(point) >= rank(best) {
                *best = point;
            }
        }
        if !newest.is_empty() {
            let mut all: Vec<Self> = newest.into_values().map(there).collect();
            all.sort_by_key(|one| one.seconds);
            return Ok(all);
        }
        let name = format!("copy-{copy}");
        if known.iter().any(|one| one.name == name) {
            // A run was killed: this one holds the lock, so nobody needs it.
            remove(&at, &name)?;
        }
        let request = Request::new("snapshot create")
            .with("name", name.clone())
            .with("note", format!("being copied to {copy}"))
            .with("by", "haven copy");
        let shown: Shown = serde_json::from_value(ask::ask(&at, &request, "taking a snapshot")?).map_err(bad)?;
        Ok(vec![Self { at, name, seconds: shown.taken_seconds, ours: true, dump: None, of: None }])
    }
}

fn remove(at: &Locator, name: &str) -> Result<Value, Trouble> {
    let request = Request::new("snapshot remove").with("names", vec![name.to_owned()]).with("dry", false);
    ask::ask(at, &request, "removing")
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.ours
            && let Err(trouble) = remove(&self.at, &self.name)
        {
            report::warn(format!("the snapshot {} stays: {}; the next run removes it", self.name, trouble.what));
        }
    }
}

async fn one(context: &Context, args: &RunArgs, name: &str) -> Result<(), Trouble> {
    let opened = Opened::new(context, name, args.limit)?;
    let (point, at) = mount_point(context, args, &opened)?;
    let rules = match args.prune {
        true => Some(keep::rules(&opened, None)?),
        false => None,
    };
    let _lock = Lock::take(&opened)?;
    if args.dry_run {
        return ready(context, args, &opened, &point);
    }
    let all = Taken::all(at, &point, name, args)?;
    let several = all.len() > 1;
    let (mut made, mut first): (Vec<Done>, Option<Trouble>) = (Vec::new(), None);
    for taken in all {
        match archive(&opened, &point, taken).await {
            Ok(archive) => made.push(archive),
            // One that fails keeps no other from being made, and one that is there already is no failure beside others.
            Err(trouble) if several && trouble.code != Code::Unfinished => match &first {
                None => first = Some(trouble),
                Some(before) if before.code == Code::Occupied => first = Some(trouble),
                Some(_) => trouble.tell(context.json),
            },
            Err(trouble) => return Err(trouble),
        }
    }
    let trouble = match first {
        Some(trouble) if made.is_empty() => return Err(trouble),
        first => first.filter(|trouble| trouble.code != Code::Occupied),
    };
    let archives = opened.copy.list().map_err(|error| opened.trouble(&error))?;
    let missing = Remembered::read(&opened)?.missing(&archives);
    let mut deleted = Vec::new();
    // Not while archives are missed: a person looks first.
    if let Some(rules) = rules.filter(|_| missing.is_empty() && trouble.is_none()) {
        let judged = keep::judged(&opened, &rules)?;
        let goes: Vec<_> = judged.into_iter().filter(|one| !one.keep).map(|one| one.archive).collect();
        keep::let_go(&opened, &goes).await?;
        deleted.extend(goes.into_iter().map(|archive| archive.name));
    }
    if let Some(last) = made.last_mut().filter(|_| !deleted.is_empty()) {
        last.told += &format!("{name}: {} deleted\n", words::count(deleted.len(), "archive"));
    }
    for done in &mut made {
        done.value["missing"] = json!(missing);
        done.value["deleted"] = json!(deleted);
        context.line(&done.value, &done.told)?;
        if !context.json {
            done.warnings.iter().for_each(report::warn);
        }
    }
    if missing.is_empty() {
        return trouble.map_or(Ok(()), Err);
    }
    if let Some(trouble) = trouble {
        trouble.tell(context.json);
    }
    // Those just made are no comfort for those that are gone.
    let new = |archive: &Archive| made.iter().any(|done| done.archive == archive.name);
    let others = archives.iter().filter(|one| !new(one)).cloned().collect::<Vec<_>>();
    Err(vanished(name, &missing, whole(&others)))
}

/// An archive that was made, and what is told of it.
struct Done {
    archive: String,
    value: Value,
    told: String,
    warnings: Vec<String>,
}

async fn archive(opened: &Opened, point: &Path, taken: Taken) -> Result<Done, Trouble> {
    let name = &opened.name;
    let root = rustix::process::geteuid().is_root();
    if taken.dump.is_some() && !root {
        return Err(Trouble::new(Code::Local, "only root can show a recovery point's files and its dump as one")
            .meaning(UNTOUCHED)
            .next("run it as root, or copy the files alone: --now"));
    }
    let source = Source {
        directory: point.join(".snapshots").join(&taken.name),
        shown_at: root.then(|| opened.config.directory(name).join("library")),
        over: taken.dump.clone().map(|dump| (dump, OWN.into())),
        taken: taken.seconds,
        note: if taken.ours { String::new() } else { taken.name.clone() },
    };
    let of = taken.of.as_ref().map(|of| format!("{of}-")).unwrap_or_default();
    let archive = format!("{}{of}{}", opened.config.prefix, stamp(taken.seconds));
    let mut known = Remembered::read(opened)?;
    let (there, wish) = (source.clone(), archive.clone());
    let made = opened
        .work("copying", move |copy, watch| {
            if copy.list()?.iter().any(|one| one.name == wish && !one.leftover) {
                let what = format!("this state of the library is there already, as {wish}");
                return Err(haven_offsite::Error::new(haven_offsite::Kind::Exists, what));
            }
            copy.create(&there, &wish, watch)
        })
        .await?;
    let of = (!taken.ours).then(|| taken.name.clone());
    drop(taken);
    known.archives.insert(archive.clone(), source.taken);
    known.last_good = Some(words::now().seconds);
    known.write(opened)?;
    let mut value = serde_json::to_value(&made).unwrap_or_default();
    value["name"] = name.as_str().into();
    value["taken"] = source.taken.into();
    value["snapshot"] = json!(of);
    let told = format!(
        "{name}: {archive} is whole: {}, {}; {} new, in {:.1} s\n",
        words::count(made.files as usize, "file"),
        words::bytes(made.original_bytes),
        words::bytes(made.new_bytes),
        made.seconds,
    );
    Ok(Done { archive, value, told, warnings: made.warnings })
}

/// `2026-11-26T21:28:25Z`.
fn stamp(seconds: i64) -> String {
    words::iso(haven_format::record::Time { seconds, nanos: 0 })
}

/// Tells what would be done, and finds what would stand in its way.
fn ready(context: &Context, args: &RunArgs, opened: &Opened, point: &Path) -> Result<(), Trouble> {
    let archives = opened.copy.list().map_err(|error| opened.trouble(&error))?;
    let newest = archives.iter().rfind(|one| !one.leftover && !one.foreign);
    let of = match (&args.snapshot, args.now) {
        (Some(name), _) => format!("the snapshot {name}"),
        (None, true) => "a snapshot taken now".to_owned(),
        (None, false) => "the newest recovery point of each application, or a snapshot taken now,".to_owned(),
    };
    let last = newest.map_or("nothing yet".into(), |one| format!("{} (of {})", one.name, moment(one.taken)));
    let told = format!(
        "{}: would copy {of} of {} to {}; the newest archive there: {last}\n",
        opened.name,
        point.display(),
        opened.config.repository,
    );
    let value = json!({
        "name": opened.name,
        "dry_run": true,
        "library": point,
        "repository": opened.config.repository,
        "newest": newest,
    });
    context.line(&value, &told)
}
