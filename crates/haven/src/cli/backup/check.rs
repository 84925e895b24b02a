use std::{
    fs::File,
    io::BufReader,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use haven_point::{
    Folder, Point,
    check::{self, Report, Why},
    dump,
    immich::{self, Paths},
    manifest::Kind,
    open,
};
use serde_json::{Value, json};

use crate::{
    cli::{Context, ask},
    points::trouble,
    reach::Which,
    report::{self, Code, Trouble},
    words,
};

/// Check a point: has every photo that its database knows its file, byte for byte?
///
/// Reads the dump and the files of the snapshot; no database server is needed. Every row of Immich's table of assets is
/// compared by SHA-1 with its file, also those in the trash and those that were just being moved; sidecars must be
/// there. Thumbnails and the like that are missing are told: Immich makes them again. Files without a row are told and
/// never touched. Of other applications the dump is read, and its rows are counted.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The point [default: the newest complete one]
    point: Option<String>,
    /// The newest of this application
    #[arg(long, value_name = "NAME", conflicts_with = "point")]
    of: Option<String>,
    /// Look in this folder, into which a copy of a point was brought back, instead of in the library
    #[arg(long = "in", value_name = "DIR")]
    root: Option<PathBuf>,
    /// Files read at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// List everything, not the first few
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    which: Which,
}

pub fn run(context: &Context, args: &Check) -> Result<(), Trouble> {
    let root = match &args.root {
        Some(root) => root.clone(),
        None => args.which.mount_point(&context.config)?,
    };
    let point = open(&root, args.point.as_deref(), args.of.as_deref()).map_err(|error| trouble(&error))?;
    let bar = ask::progress_bar("checking");
    bar.set_message("the dump");
    point.verify_parts().map_err(|error| trouble(&error))?;
    if point.manifest.kind == Kind::Immich {
        let told = |progress: check::Progress| {
            bar.set_message(format!("{} of {} assets, {}", progress.assets, progress.of, words::bytes(progress.bytes)));
        };
        let report = of_immich(&point, args.threads.into(), &told)?;
        bar.finish_and_clear();
        answer(context, &point, &report, args.all)
    } else {
        let rows = rows(&point)?;
        bar.finish_and_clear();
        let text = format!(
            "{}: good; {} in the dump, as many as were counted\n",
            point.name(),
            words::count(rows as usize, "row")
        );
        context.answer(&json!({ "point": point.name(), "good": true, "rows": rows }), &text)
    }
}

fn unreadable(point: &Point, error: &dyn std::error::Error) -> Trouble {
    Trouble::new(Code::Damaged, format!("the dump of {} can't be read", point.name()))
        .caused_by(error)
        .meaning("this point does not bring the database back; others may")
        .next("haven backup list    tells which others there are")
}

/// The rows in the dump, which must be those that were counted.
fn rows(point: &Point) -> Result<u64, Trouble> {
    let (Some(path), Some(database)) = (point.dump(), &point.manifest.database) else { return Ok(0) };
    let file = File::open(&path).map_err(|error| unreadable(point, &error))?;
    let walked = dump::walk(BufReader::with_capacity(1 << 20, file), |_, _| Ok(()));
    let walked = walked.map_err(|error| unreadable(point, &error))?;
    same_rows(point, &database.rows, &walked)?;
    Ok(walked.rows.values().sum())
}

fn same_rows(
    point: &Point,
    counted: &std::collections::BTreeMap<String, u64>,
    walked: &dump::Walked,
) -> Result<(), Trouble> {
    let unlike = walked.rows.iter().find(|(name, rows)| counted.get(*name) != Some(rows));
    unlike.map_or(Ok(()), |(name, rows)| {
        let counted = counted.get(name).copied().unwrap_or_default();
        Err(Trouble::new(Code::Damaged, format!("the dump of {} is not what its manifest says", point.name()))
            .because(format!("{name} has {rows} rows in the dump, and {counted} in the manifest")))
    })
}

/// Compares all assets with their files.
fn of_immich(point: &Point, threads: usize, told: &(dyn Fn(check::Progress) + Sync)) -> Result<Report, Trouble> {
    let (Some(path), Some(media)) = (point.dump(), point.media()) else {
        return Err(Trouble::new(Code::NoLibrary, format!("the files of {} are not there", point.name()))
            .because("a newer point stands in this folder: the files are that one's"));
    };
    let file = File::open(&path).map_err(|error| unreadable(point, &error))?;
    let catalogue =
        immich::catalogue(BufReader::with_capacity(1 << 20, file)).map_err(|error| unreadable(point, &error))?;
    if let Some(database) = &point.manifest.database {
        same_rows(point, &database.rows, &catalogue.walked)?;
    }
    let location = point.manifest.immich.as_ref().map(|immich| immich.media_location.as_str());
    let paths = Paths::of(&catalogue, location);
    let local = |error: &dyn std::error::Error| {
        Trouble::new(Code::Local, format!("the files of {} can't be looked through", point.name())).caused_by(error)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| local(&error))?;
    let seen = AtomicU64::new(0);
    // A word for each of many small files would cost more than reading them.
    let sparse = |progress: check::Progress| {
        if progress.assets - seen.load(Ordering::Relaxed).min(progress.assets) >= 64 || progress.assets == progress.of {
            seen.store(progress.assets, Ordering::Relaxed);
            told(progress);
        }
    };
    pool.install(|| check::check(&catalogue, &paths, &Folder(media), &sparse)).map_err(|error| local(&error))
}

/// How many of each kind are listed unless all are asked for.
const SOME: usize = 20;

fn answer(context: &Context, point: &Point, report: &Report, all: bool) -> Result<(), Trouble> {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    if let Value::Object(members) = &mut value {
        members.insert("point".into(), json!(point.name()));
        members.insert("good".into(), json!(report.good()));
    }
    let most = if all { usize::MAX } else { SOME };
    let mut out = format!(
        "{}: {}\n  {} compared by SHA-1, {}",
        point.name(),
        if report.good() { "good" } else { "NOT GOOD" },
        words::count(report.assets as usize, "asset"),
        words::bytes(report.bytes)
    );
    for (count, what) in [
        (report.trashed, "in the trash"),
        (report.moving, "in the middle of a move"),
        (report.motion_parts, "moving parts of photos"),
    ] {
        out += &(if count > 0 { format!("; {count} {what}") } else { String::new() });
    }
    out += &format!(
        "\n  {} and {} are there\n",
        words::count(report.sidecars as usize, "sidecar"),
        words::count(report.profiles as usize, "profile picture")
    );
    if report.external + report.deleted > 0 {
        out +=
            &format!("  not looked for: {} of external libraries, {} being deleted\n", report.external, report.deleted);
    }
    let some = |out: &mut String, lines: &mut dyn Iterator<Item = String>, count: usize| {
        lines.take(most).for_each(|line| *out += &format!("    {line}\n"));
        if count > most {
            *out += &format!("    and {} more: --all lists them\n", count - most);
        }
    };
    if !report.regenerable.is_empty() {
        out += &format!(
            "  {} of {} thumbnails and the like are missing; Immich makes them again (Jobs, missing)\n",
            report.regenerable.len(),
            report.derived
        );
    }
    if !report.without_row.is_empty() {
        out += &format!(
            "  {} without a row, {}: nothing is wrong with a few, failed uploads leave them\n",
            words::count(report.without_row.len(), "file"),
            words::bytes(report.without_row_bytes)
        );
        some(&mut out, &mut report.without_row.iter().map(|stray| stray.path.clone()), report.without_row.len());
    }
    if !report.good() {
        out += &format!("  BROKEN: {}\n", words::count(report.broken.len(), "file"));
        let line = |broken: &check::Broken| {
            let why = match &broken.why {
                Why::Missing => "it is missing".to_owned(),
                Why::Differs { bytes, .. } => format!("it holds something else, {}", words::bytes(*bytes)),
                Why::Unreadable { error } => format!("it can't be read: {error}"),
                Why::Outside => "it is not in Immich's folder".to_owned(),
                Why::NoChecksum => "its row has no checksum".to_owned(),
            };
            format!("{}  {}: {why}", broken.id, broken.path)
        };
        some(&mut out, &mut report.broken.iter().map(line), report.broken.len());
    }
    context.answer(&value, &out)?;
    if report.good() {
        return Ok(());
    }
    let only_outside = report.broken.iter().all(|broken| broken.why == Why::Outside);
    let trouble = Trouble::new(
        Code::Point,
        format!("{} is not good: {}", point.name(), words::count(report.broken.len(), "broken file")),
    )
    .meaning("brought back as it is, these photos would be missing or wrong; others are as they should be");
    Err(if only_outside {
        trouble.next("media_location in haven.toml tells what the paths in the database begin with, where it does not say so itself")
    } else {
        report::note("haven snapshot diff, and the points before this one, tell since when");
        trouble
            .next("haven backup check POINT    of an older point, or haven check --repair where the store is damaged")
    })
}
