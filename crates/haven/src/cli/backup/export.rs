//! `haven backup export`: the way out. Nothing of Haven is needed to use what it writes.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use aws_lc_rs::digest::{Context as Hash, SHA256};
use haven_point::{Point, manifest::Database};
use haven_recover::{
    Error,
    lay::{self, Inventory},
    sql::to_sql,
};
use rayon::prelude::*;
use serde_json::json;

use crate::{
    cli::{
        Context, ask,
        recover::{pooled, reach, trouble},
    },
    export::{Sum, line},
    media::Media,
    origin::{Origin, Pick},
    points,
    report::{self, Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    wire, words,
};

/// Write a point as plain files, SQL and a list of checksums
///
/// DIR gets files/ (the application's folder at the instant), database.sql (for psql), database.dump (for pg_restore),
/// roles.sql, manifest.json, and SHA256SUMS over all of them, for `sha256sum -c`. Writing database.sql needs PostgreSQL's
/// pg_restore, on this machine or in a container, and no server. Without it all the rest is written, and exit code 8 says so.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The point [default: the newest complete one]
    point: Option<String>,
    /// The newest of this application
    #[arg(long, value_name = "NAME", conflicts_with = "point")]
    of: Option<String>,
    /// An empty directory, or one to be made
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Go on with an export to that directory: files that are there, with the same length and time, are not copied again
    #[arg(long)]
    resume: bool,
    /// A replica or a copy by its name in haven.toml, the URL of a library, or a folder that a copy was brought back to [default: the library]
    #[arg(long, value_name = "WHERE")]
    from: Option<String>,
    /// The directory of PostgreSQL's programs [default: Debian's for the dump's version, else those of PATH]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// What goes before pg_restore, where it is in a container: "docker exec -i immich_postgres"
    #[arg(long, value_name = "COMMAND")]
    within: Option<String>,
    /// Files at once
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    #[command(flatten)]
    key: KeyArgs,
}

const SUMS: &str = "SHA256SUMS";
const SQL: &str = "database.sql";
/// A dump may have been taken in Immich's maintenance mode; what comes back must serve.
const SERVES: &str =
    r#"UPDATE public.system_metadata SET value = '{"isMaintenanceMode": false}' WHERE key = 'maintenance-mode';"#;

pub fn run(context: &Context, args: &Export) -> Result<(), Trouble> {
    if !args.resume && lay::occupied(&args.to).map_err(|error| trouble(&error))? {
        return Err(Trouble::new(Code::Occupied, format!("{} is not empty", args.to.display()))
            .meaning(UNTOUCHED)
            .next("name an empty directory, or one that does not exist")
            .next("--resume    goes on with an export that was interrupted"));
    }
    let runtime = wire::runtime()?;
    let origin = Origin::named(context, args.from.as_deref(), true)?;
    let pick = Pick { point: args.point.as_deref(), of: args.of.as_deref(), older: None };
    let opened = origin.open(context, &runtime, &args.key, pick);
    let opened = opened.map_err(|trouble| origin.unopened(&context.config, trouble, "haven backup export"))?;
    let point = opened.point(pick).map_err(|error| origin.lacks(&opened, pick, &error));
    let outcome = point.and_then(|point| write(context, args, &point, opened.media(&point)));
    drop(opened);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

fn write(context: &Context, args: &Export, point: &Point, media: Option<Media>) -> Result<(), Trouble> {
    point.verify_parts().map_err(|error| points::trouble(&error))?;
    let media = media.ok_or_else(|| {
        Trouble::new(Code::NoLibrary, format!("the files of {} are not there", point.name())).meaning(UNTOUCHED)
    })?;
    let cannot = |path: &Path, source| trouble(&Error::Write { path: path.to_owned(), source });
    fs::create_dir_all(&args.to).map_err(|source| cannot(&args.to, source))?;
    let mut own = vec!["manifest.json".to_owned()];
    own.extend(point.manifest.parts().map(|part| part.file.clone()));
    for name in &own {
        let to = args.to.join(name);
        fs::copy(point.folder.join(name), &to).map_err(|source| cannot(&to, source))?;
    }
    let bar = ask::progress_bar("exporting");
    let told = |progress: lay::Progress| {
        bar.set_message(format!("{} of {}", words::bytes(progress.bytes), words::bytes(progress.bytes_total)));
    };
    let files = args.to.join("files");
    let laid = media.bring(None, &files, args.parallel, &AtomicBool::new(false), &told)?;
    // The photos are there by now, whatever this machine lacks for the rest.
    let mut unmade = None;
    if let (Some(database), Some(dump)) = (&point.manifest.database, point.dump()) {
        bar.set_message(SQL);
        let to = args.to.join(SQL);
        let reach = reach("", args.programs.as_deref(), args.within.as_deref());
        match to_sql(&reach, database, &dump, &to, &AtomicBool::new(false)) {
            Ok(()) => {
                if is_stopped(point) {
                    without_maintenance(&to).map_err(|source| cannot(&to, source))?;
                }
                own.push(SQL.to_owned());
            }
            Err(error) => {
                // Half of it must not be taken for all of it.
                _ = fs::remove_file(&to);
                unmade = Some(no_sql(context, point, database, &error));
            }
        }
    }
    let inventory = Inventory::of(&files, &|_| true).map_err(|error| trouble(&error))?;
    bar.set_message("checksums");
    let mut names: Vec<PathBuf> = own.iter().map(PathBuf::from).collect();
    let failed: Vec<&str> = laid.failed.iter().map(|(name, _)| name.as_str()).collect();
    let written = inventory.names().into_iter().filter(|path| !failed.contains(&path.to_string_lossy().as_ref()));
    names.extend(written.map(|path| Path::new("files").join(path)));
    let sums = pooled(args.parallel, || sums(&args.to, &names))?;
    let sums = sums.map_err(|error| trouble(&error))?;
    bar.finish_and_clear();
    fs::write(args.to.join(SUMS), sums).map_err(|source| cannot(&args.to, source))?;
    let value = json!({ "point": point.name(), "to": args.to, "files": laid.files, "bytes": laid.bytes, "beside": own, "failed": laid.failed });
    let text = format!(
        "{}: {} with {}, and {}, in {}\n",
        point.name(),
        words::count(laid.files as usize, "file"),
        words::bytes(laid.bytes),
        own.join(", "),
        args.to.display()
    );
    context.answer(&value, &text)?;
    let Some((name, why)) = laid.failed.first() else { return unmade.map_or(Ok(()), Err) };
    if let Some(unmade) = unmade {
        report::warn(format!("{}: {}", unmade.what, unmade.because.join("; ")));
    }
    let what = format!("{} could not be written", words::count(laid.failed.len(), "file"));
    Err(Trouble::new(Code::Damaged, what)
        .because(format!("{name}: {why}"))
        .meaning("everything else is there, and the point is as it was")
        .next("--from REPLICA    writes it from another copy"))
}

/// The dump is there as it is, and what makes SQL of it is not.
fn no_sql(context: &Context, point: &Point, database: &Database, error: &Error) -> Trouble {
    let (dump, of) = (&database.dump.file, &point.manifest.application);
    let within = context.config.apps.iter().find(|app| app.name == *of).map(|app| app.own.within.join(" "));
    let within = within.filter(|within| !within.is_empty()).unwrap_or_else(|| "docker exec -i immich_postgres".into());
    let trouble = Trouble::new(Code::Unfit, format!("{SQL} could not be made"))
        .caused_by(error)
        .meaning(format!("everything else is there, files and checksums; {dump} holds the whole database"))
        .next(
            "apt install postgresql-client, or name its directory: --programs DIR; then the same command with --resume",
        )
        .next(format!("--resume --within '{within}'    runs pg_restore where the server is"))
        .next(format!(
            "pg_restore --no-owner -f {SQL} {dump}    anywhere else that has PostgreSQL {} or newer",
            database.major()
        ));
    if is_stopped(point) {
        return trouble
            .next(format!("it was dumped in Immich's maintenance mode; after its SQL run this, too: {SERVES}"));
    }
    trouble
}

fn is_stopped(point: &Point) -> bool {
    point.manifest.immich.as_ref().is_some_and(|immich| immich.maintenance)
}

/// Who restores it by hand must not come up in the maintenance mode that it was dumped in.
fn without_maintenance(sql: &Path) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).open(sql)?;
    writeln!(file, "\n-- Dumped in Immich's maintenance mode; what comes back must serve.\n{SERVES}")
}

/// The list of checksums, of what is plain files.
fn sums(root: &Path, names: &[PathBuf]) -> Result<Vec<u8>, Error> {
    let one = |name: &PathBuf| -> Result<Vec<u8>, Error> {
        let path = root.join(name);
        let read = || -> std::io::Result<Vec<u8>> {
            if !fs::symlink_metadata(&path)?.is_file() {
                return Ok(Vec::new());
            }
            let (mut file, mut hash, mut piece) = (fs::File::open(&path)?, Hash::new(&SHA256), vec![0; 1 << 20]);
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(line(Sum::of(&hash.finish()), name)),
                    count => hash.update(&piece[..count]),
                }
            }
        };
        read().map_err(|source| Error::Read { path: path.clone(), source })
    };
    let lines: Vec<Vec<u8>> = names.par_iter().map(one).collect::<Result<_, _>>()?;
    Ok(lines.concat())
}
