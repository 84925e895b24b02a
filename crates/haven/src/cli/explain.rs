//! `haven explain`: what is known of one photo's bytes.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use haven_point::{
    check::Files,
    immich::{Asset, Sha1},
};
use haven_recover::{drill::Known, proof};
use serde::Serialize;

use super::{Context, ask};
use crate::{
    cli::{
        drill::{keys_of, mounted},
        recover::trouble,
    },
    report::{Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    words,
};

/// What the library is called where its own store was looked at.
const STORE: &str = "library's store";

/// Tell what is known of one photo: where its bytes are, when they were last read back, in which points it stands
///
/// Only what was seen is told. In the library its file is read now, as the newest point that knows it has it, and compared
/// with its SHA-1. Of replicas, and of copies in Borg's and restic's formats, the signed reports of drills tell when this
/// photo's bytes were read there and matched; what no drill has seen is not known. The library must be mounted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven explain 6f0c1f7e-5d0e-4c7b-9a3f-0d5f2f9b8a11\n  haven explain /mnt/photos/immich/library/admin/2019/IMG_1.jpg --json\n\nExit codes: 0 all that is known is well; 6 a copy of it is broken; 7 no point knows it"
)]
pub struct Args {
    /// The asset's id, or its path: in the mount, below Immich's folder, or as the database has it
    #[arg(value_name = "ASSET|PATH")]
    what: String,
    /// How many points are looked through, from the newest on
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    points: usize,
    /// The mounted library [default: mount.point in haven.toml]
    #[arg(long, short = 'L', value_name = "MOUNTPOINT")]
    library: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Serialize)]
struct Held {
    name: String,
    kind: String,
    /// `matches`, `broken`, `missing` or `not known`.
    verdict: &'static str,
    /// When that was seen.
    seen: Option<jiff::Timestamp>,
    /// The drill that saw it.
    drill: Option<String>,
    why: Option<String>,
}

#[derive(Debug, Serialize)]
struct Explained {
    asset: String,
    path: String,
    sha1: Option<String>,
    points: Vec<String>,
    points_without: Vec<String>,
    points_looked_through: usize,
    points_all: usize,
    /// What is at its path at this moment: `the same`, `something else` or `nothing`. Photos are moved and deleted.
    now: &'static str,
    copies: Vec<Held>,
}

pub fn run(context: &Context, args: &Args) -> Result<(), Trouble> {
    let root = mounted(context, args.library.as_deref())
        .ok_or_else(|| ask::not_mounted(args.library.as_deref().unwrap_or(Path::new("."))))?;
    let mut all = haven_point::list(&root).map_err(|error| crate::points::trouble(&error))?;
    all.retain(|found| found.point.is_ok());
    let points_all = all.len();
    let mut found: Option<(Asset, Vec<String>, PathBuf)> = None;
    let (mut within, mut without) = (Vec::new(), Vec::new());
    for point in all.iter().rev().filter_map(|found| found.point.as_ref().ok()).take(args.points) {
        let Some(dump) = point.dump() else { continue };
        let Ok(known) = Known::read(&point.manifest, &dump) else { continue };
        let wanted = wanted(&args.what, &root, &point.manifest.files.folder);
        let same = |asset: &&Asset| match &found {
            // By its id from then on: paths change.
            Some((first, ..)) => asset.id == first.id,
            None => {
                asset.id == args.what || known.places(asset).any(|place| place == wanted) || asset.path == args.what
            }
        };
        match known.catalogue.assets.iter().find(same) {
            Some(asset) => {
                within.push(point.name().to_owned());
                if found.is_none() {
                    let places = known.places(asset).map(|place| Path::new(&point.manifest.files.folder).join(place));
                    let places = places.map(|place| place.display().to_string()).collect();
                    let files = point.files.clone().unwrap_or_else(|| root.clone());
                    found = Some((asset.clone(), places, files));
                }
            }
            None => without.push(point.name().to_owned()),
        }
    }
    let Some((asset, places, files)) = found else {
        return Err(Trouble::new(
            Code::NoLibrary,
            format!("none of the newest {} points knows {}", args.points, args.what),
        )
        .meaning(UNTOUCHED)
        .next("--points NUMBER looks through more; haven backup run takes a new one"));
    };
    let mut copies = vec![here(&files, &asset, &places)];
    copies.extend(elsewhere(context, args, &root, &asset)?);
    let explained = Explained {
        asset: asset.id.clone(),
        path: asset.path.clone(),
        sha1: asset.sha1.map(|sha1| HEXLOWER.encode(&sha1)),
        points_looked_through: within.len() + without.len(),
        points: within,
        points_without: without,
        points_all,
        now: now(&root, &asset, &places),
        copies,
    };
    context.answer(&explained, &told(&explained))?;
    let bad: Vec<&Held> =
        explained.copies.iter().filter(|copy| ["broken", "missing"].contains(&copy.verdict)).collect();
    let Some(first) = bad.first() else { return Ok(()) };
    let good = explained.copies.iter().filter(|copy| copy.verdict == "matches").map(|copy| copy.name.clone());
    let mut good: Vec<String> = good.collect();
    if good.len() > 1 {
        // No name that a command takes, where there is another.
        good.retain(|name| name != STORE);
    }
    let trouble = Trouble::new(Code::Damaged, format!("it is {} in {}", first.verdict, first.name));
    Err(if good.is_empty() {
        trouble.meaning("no copy is known to be right").next("haven drill --level 1    looks at all copies")
    } else {
        let from = good.join(", ");
        trouble
            .meaning(format!("it is right in {from}"))
            .next(format!("haven recover --from {} --asset {} --to DIR", good[0], explained.asset))
    })
}

/// A path as it is below Immich's folder.
fn wanted(what: &str, root: &Path, folder: &str) -> String {
    let path = Path::new(what);
    let inside = path.strip_prefix(root).unwrap_or(path);
    inside.strip_prefix(folder).unwrap_or(inside).display().to_string()
}

/// Read now, in the newest point that knows it.
fn here(root: &Path, asset: &Asset, places: &[String]) -> Held {
    let files = haven_point::Folder(root.to_owned());
    let mut copy = Held {
        name: "library".into(),
        kind: "library".into(),
        verdict: "missing",
        seen: Some(jiff::Timestamp::now()),
        drill: None,
        why: Some("its file is not in the newest point that knows it".into()),
    };
    for place in places {
        match (files.sha1(place), asset.sha1) {
            (Ok(Some((_, found))), Some(expected)) if found == expected => {
                return Held { verdict: "matches", why: None, ..copy };
            }
            (Ok(Some((_, found))), Some(_)) => {
                copy.verdict = "broken";
                copy.why = Some(format!("its file has the SHA-1 {}", HEXLOWER.encode(&found)));
            }
            (Ok(Some(_)), None) => {
                copy.verdict = "not known";
                copy.why = Some("its row has no SHA-1 to compare with".into());
            }
            (Err(error), _) => {
                copy.verdict = "broken";
                copy.why = Some(error.to_string());
            }
            (Ok(None), _) => {}
        }
    }
    copy
}

/// What is at its path just now.
fn now(root: &Path, asset: &Asset, places: &[String]) -> &'static str {
    let files = haven_point::Folder(root.to_owned());
    let mut found = "nothing";
    for place in places {
        match files.sha1(place) {
            Ok(Some((_, sha1))) if Some(sha1) == asset.sha1 => return "the same",
            Ok(None) => {}
            _ => found = "something else",
        }
    }
    found
}

/// What drills have seen in the other copies, the newest word of each.
fn elsewhere(context: &Context, args: &Args, root: &Path, asset: &Asset) -> Result<Vec<Held>, Trouble> {
    let keys = keys_of(context, root, &args.key)?;
    let drills = proof::read_all(root, &keys).map_err(|error| trouble(&error))?;
    let mut copies: Vec<Held> = Vec::new();
    let mut names: Vec<(String, String)> =
        context.config.replicas.keys().map(|name| (name.clone(), "replica".to_owned())).collect();
    names.extend(context.config.copies.iter().map(|(name, copy)| (name.clone(), copy.format.word().to_owned())));
    for read in &drills {
        if let proof::Read::Good { report, .. } = read
            && !names.iter().any(|(name, _)| *name == report.copy)
        {
            names.push((report.copy.clone(), report.kind.clone()));
        }
    }
    for (name, kind) in names {
        let mut copy = Held { name, kind, verdict: "not known", seen: None, drill: None, why: None };
        for read in drills.iter().rev() {
            let proof::Read::Good { name: drill, report } = read else { continue };
            if report.copy != copy.name {
                continue;
            }
            let bad = report.broken.iter().find(|broken| broken.id == asset.id && broken.what == "original");
            let good = asset.sha1.as_ref().and_then(|sha1: &Sha1| proof::proves(root, drill, report, sha1));
            let (verdict, why) = match (bad, good) {
                (Some(broken), _) => ("broken", Some(broken.why.clone())),
                (None, Some(true)) => ("matches", None),
                _ => continue,
            };
            copy.verdict = verdict;
            copy.why = why;
            copy.seen = Some(report.finished);
            copy.drill = Some(drill.clone());
            break;
        }
        // The library's own store was looked at too: that is another thing than its mount.
        if copy.name == "library" {
            STORE.clone_into(&mut copy.name);
        }
        copies.push(copy);
    }
    Ok(copies)
}

fn told(explained: &Explained) -> String {
    let mut out = format!("{}  {}\n", explained.asset, explained.path);
    out += &format!("  SHA-1     {}\n", explained.sha1.as_deref().unwrap_or("its row has none"));
    for copy in &explained.copies {
        let seen =
            copy.seen.map(|seen| words::moment(haven_format::record::Time { seconds: seen.as_second(), nanos: 0 }));
        out += &format!("  {:<15} {}", copy.name, copy.verdict);
        out += &seen.map(|seen| format!(", read back {seen}")).unwrap_or_default();
        out += &copy.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        out += &copy.drill.as_ref().map(|drill| format!(" (drill {drill})")).unwrap_or_default();
        out += "\n";
    }
    if explained.copies.iter().any(|copy| copy.verdict == "not known") {
        out += "            not known: no drill has read it there; haven drill --level 1 does\n";
    }
    out += &format!("  now       at its path there is {}\n", explained.now);
    out += &format!(
        "  points    in {} of the newest {} ({} in all)\n",
        explained.points.len(),
        explained.points_looked_through,
        explained.points_all
    );
    for point in explained.points.iter().take(10) {
        out += &format!("            {point}\n");
    }
    out
}
