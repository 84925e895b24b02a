//! Single assets, albums, users or folders, to a directory with the rows that belong to them.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::atomic::AtomicBool};

use haven_point::{Point, immich::Beside};
use haven_recover::{
    Error,
    drill::Known,
    lay,
    pick::{self, Wish},
    proof::BrokenAsset,
};
use serde_json::json;

use super::{Args, trouble};
use crate::{
    cli::Context,
    media::Media,
    report::{Code, Trouble, UNTOUCHED},
    words,
};

/// What the database says of them.
const ROWS: &str = "rows.json";
/// How many of those that did not come are named.
const NAMED_MAX: usize = 5;

pub fn wishes(args: &Args) -> Vec<Wish> {
    let assets = args.asset.iter().cloned().map(Wish::Asset);
    let albums = args.album.iter().cloned().map(Wish::Album);
    let users = args.user.iter().cloned().map(Wish::User);
    let paths = args.path.iter().cloned().map(Wish::Path);
    assets.chain(albums).chain(users).chain(paths).collect()
}

pub fn run(context: &Context, args: &Args, point: &Point, media: &Media, wishes: &[Wish]) -> Result<(), Trouble> {
    let usage = |what: &str| Trouble::new(Code::Usage, what).meaning(UNTOUCHED);
    let Some(to) = &args.to else { return Err(usage("--to says where the photos are to come back")) };
    if args.database.is_some() {
        return Err(usage("single photos come back to a directory, not to a database")
            .next(format!("their rows come along, in {ROWS}")));
    }
    let dump = point.dump().ok_or_else(|| usage("the point has no database that could say which photos these are"))?;
    let known = Known::read(&point.manifest, &dump).map_err(|error| trouble(&error))?;
    let files = media.files();
    let chosen =
        pick::choose(&dump, &known.catalogue, &known.paths, &*files, wishes).map_err(|error| trouble(&error))?;
    if !args.dry_run && lay::occupied(to).map_err(|error| trouble(&error))? {
        return Err(Trouble::new(Code::Occupied, format!("{} is not empty", to.display()))
            .meaning(UNTOUCHED)
            .next("name an empty directory, or one that does not exist"));
    }
    let wanted: BTreeSet<PathBuf> = chosen.files.iter().map(PathBuf::from).collect();
    let mut bytes = 0;
    for path in &chosen.files {
        let length = files.length(path).map_err(|source| trouble(&Error::Read { path: path.into(), source }))?;
        bytes += length.unwrap_or_default();
    }
    let verb = if args.dry_run { "would bring back" } else { "brought back" };
    let mut value = json!({ "point": point.name(), "to": to, "dry_run": args.dry_run, "assets": chosen.assets,
                            "files": wanted.len(), "bytes": bytes, "missing": chosen.missing,
                            "unpromised": chosen.unpromised });
    let mut text = format!(
        "{verb} {}, {}, {}, {} {}\n",
        words::count(chosen.assets.len(), "asset"),
        words::count(wanted.len(), "file"),
        words::bytes(bytes),
        if args.dry_run { "to" } else { "with their rows, to" },
        to.display()
    );
    text += &named("missing", "that the database knows, and that this point lacks", &chosen.missing);
    text += &named("elsewhere", "in no point: of external libraries, or being deleted", &chosen.unpromised);
    if args.dry_run {
        context.answer(&value, &text)?;
        if chosen.missing.is_empty() {
            return Ok(());
        }
        let bad = bad(format!("{} would not come back", words::count(chosen.missing.len(), "file"))).meaning(UNTOUCHED);
        return Err(chosen.missing.iter().take(NAMED_MAX).fold(bad, |bad, name| bad.because(name)));
    }
    let laid = media.bring(Some(&wanted), to, args.parallel, &AtomicBool::new(false), &|_| ())?;
    let rows = serde_json::to_vec_pretty(&chosen.rows).unwrap_or_default();
    let path = to.join(ROWS);
    fs::write(&path, rows).map_err(|source| trouble(&Error::Write { path, source }))?;
    // Compared with what the database says of them, as everything that comes back is.
    let mut known = known;
    known.catalogue.assets.retain(|asset| chosen.assets.contains(&asset.id));
    known.catalogue.beside.retain(|(id, kind, _)| *kind == Beside::Sidecar && chosen.assets.contains(id));
    let checked = Media::Folder(to.clone()).check(&known, args.parallel, &|_| ())?;
    value["failed"] = json!(laid.failed);
    value["broken"] = json!(checked.broken);
    context.answer(&value, &text)?;
    if laid.failed.is_empty() && checked.good() {
        return Ok(());
    }
    let count = checked.broken.len().max(laid.failed.len());
    let mut bad = bad(format!("{} did not come back right", words::count(count, "file")))
        .meaning("the others are there, and match; the point is as it was");
    for told in checked.broken.iter().take(NAMED_MAX).map(BrokenAsset::from) {
        bad = bad.because(format!("{} {}: {}", told.id, told.path, told.why));
    }
    // Those that are no row's are told by nobody else.
    let unread = laid.failed.iter().filter(|_| checked.good());
    Err(unread.take(NAMED_MAX).fold(bad, |bad, (name, why)| bad.because(format!("{name}: {why}"))))
}

fn bad(what: String) -> Trouble {
    Trouble::new(Code::Damaged, what)
        .next("haven recover --from REPLICA    looks in another copy; --point NAME in another point")
}

/// The first of those that did not come, and how many they are.
fn named(which: &str, what: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let mut out = format!("  {which:<9} {} {what}\n", words::count(names.len(), "file"));
    names.iter().take(NAMED_MAX).for_each(|name| out += &format!("            {name}\n"));
    if names.len() > NAMED_MAX {
        out += &format!("            and {} more: --json names all\n", names.len() - NAMED_MAX);
    }
    out
}
