//! `haven copy restore`.

use std::{fs, path::PathBuf, time::Instant};

use haven_offsite::{Archive, Wanted, choose, count};
use haven_store::human;
use serde_json::json;

use super::{Context, Opened, look::moment};
use crate::{
    report::{self, Code, Trouble, UNTOUCHED},
    words,
};

/// Bring an archive back, whole or in part, into a directory or a mounted library
///
/// Everything lands in DIR as it lay in the library: there is no path before it. Afterwards every file is looked at
/// again: all are there, each as long as it should be.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven copy restore home --to /mnt/photos/back\n  haven copy restore home 2019/07 2020 --to /tmp/look\n  haven copy restore home --archive media-2024-05-01 --root mnt/s3ql/mnt/s3ql/immich --to /mnt/photos/immich\n\nExit codes: 0 everything came back; 7 no such archive or path; 10 something did not come back"
)]
pub struct RestoreArgs {
    name: String,
    /// Only what lies below these [default: everything]
    paths: Vec<String>,
    /// Where to
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// This archive [default: the newest that is whole]
    #[arg(long, value_name = "ARCHIVE")]
    archive: Option<String>,
    /// This folder of the archive becomes DIR: older archives have the path of a machine before the library
    #[arg(long, value_name = "FOLDER", default_value = "", hide_default_value = true)]
    root: String,
    /// Although DIR is not empty: files of the same names are replaced
    #[arg(long)]
    overwrite: bool,
    /// Borg: so many at once [default: parallel in haven.toml]
    #[arg(long, value_name = "NUMBER")]
    parallel: Option<usize>,
    /// Fetch no more bytes a second than this: 20MB
    #[arg(long, value_name = "SIZE", value_parser = human::parse_bytes)]
    limit: Option<u64>,
    /// Only tell what would come back
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// The archive that is meant: the one named, or the newest whole one, of ours if there are any.
pub fn chosen(opened: &Opened, named: Option<&str>) -> Result<Archive, Trouble> {
    let archives = opened.copy.list().map_err(|error| opened.trouble(&error))?;
    let whole = || archives.iter().filter(|archive| !archive.leftover);
    let ours = |archive: &&Archive| !archive.foreign && archive.name.starts_with(&opened.config.prefix);
    let found = match named {
        Some(name) => archives.iter().find(|archive| archive.name == name),
        None => whole().rfind(ours).or_else(|| whole().next_back()),
    };
    found.cloned().ok_or_else(|| {
        let what = match named {
            Some(name) => format!("copy {}: there is no archive {name}", opened.name),
            None => format!("copy {}: there is no archive that is whole", opened.name),
        };
        Trouble::new(Code::NoCopy, what)
            .meaning(UNTOUCHED)
            .next(format!("haven copy list {}    tells which there are", opened.name))
    })
}

pub async fn run(context: &Context, args: RestoreArgs) -> Result<(), Trouble> {
    let opened = Opened::new(context, &args.name, args.limit)?;
    let to = std::path::absolute(&args.to).unwrap_or(args.to.clone());
    let entries = fs::read_dir(&to).map(|mut entries| entries.next().is_some());
    match entries {
        Ok(true) if !args.overwrite && !args.dry_run => {
            return Err(Trouble::new(Code::Occupied, format!("{} is not empty", to.display()))
                .meaning(UNTOUCHED)
                .next("name a directory that does not exist yet, or is empty")
                .next("--overwrite    replaces files of the same names there"));
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Trouble::new(Code::Local, format!("{} can't be restored to", to.display()))
                .caused_by(&error)
                .meaning(UNTOUCHED));
        }
        _ => {}
    }
    let archive = chosen(&opened, args.archive.as_deref())?;
    if archive.leftover {
        report::warn(format!("{} was left by a run that did not end well: it is not whole", archive.name));
    }
    let wanted = Wanted {
        archive: archive.name.clone(),
        paths: args.paths.clone(),
        root: args.root.clone(),
        parallel: args.parallel.unwrap_or(opened.config.parallel).clamp(1, 64),
    };
    if args.dry_run {
        let copy = opened.copy.clone();
        let entries = copy.entries(&archive.name).and_then(|entries| choose(&entries, &wanted));
        let count = count(&entries.map_err(|error| opened.trouble(&error))?);
        let told = format!(
            "would restore {}, {}, of {} ({}) to {}\n",
            words::count(count.files as usize, "file"),
            words::bytes(count.bytes),
            archive.name,
            moment(archive.taken),
            to.display(),
        );
        let value = json!({ "name": args.name, "archive": archive, "to": to, "dry_run": true, "files": count.files, "bytes": count.bytes });
        return context.answer(&value, &told);
    }
    let begun = Instant::now();
    let target = to.clone();
    let count = opened.work("restoring", move |copy, watch| copy.restore(&wanted, &target, watch)).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let rate = count.bytes as f64 / 1e6 / seconds.max(1e-9);
    let told = format!(
        "restored {}, {}, of {} ({}) to {} in {seconds:.1} s, {rate:.0} MB/s\n",
        words::count(count.files as usize, "file"),
        words::bytes(count.bytes),
        archive.name,
        moment(archive.taken),
        to.display(),
    );
    let value = json!({
        "name": args.name,
        "archive": archive,
        "to": to,
        "files": count.files,
        "bytes": count.bytes,
        "seconds": seconds,
        "mb_per_second": rate,
    });
    context.answer(&value, &told)
}
