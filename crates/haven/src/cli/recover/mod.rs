//! `haven recover`: a recovery point comes back.

mod plan;
mod some;

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Instant,
};

use haven_mount::control::{Found, find};
use haven_point::{Point, check, manifest::Kind, pg::Reach};
use haven_recover::{
    Error,
    database::{Goal, Restored},
    drill::Known,
    lay::{self, Laid},
    sentinels,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{Context, ask};
use crate::{
    media::Media,
    origin::{Open, Origin, Pick},
    points,
    report::{self, Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    wire, words,
};

/// Says in a folder what is being brought back to it, so that the same command goes on.
const MARK: &str = ".haven-recover.json";

/// Bring a recovery point back: Immich's files, its database, or single photos
///
/// The files go to DIR, which becomes what Immich's UPLOAD_LOCATION names: a folder of a mounted library (then they are
/// shared there, not copied), or any other. The database is made under a new name, filled, counted, and only then renamed;
/// what was called so before is renamed aside and kept. Afterwards every photo the database knows is read back and
/// compared by SHA-1. From a copy in Borg's or restic's format several programs at once bring the files straight to where
/// they belong. Interrupted, the same command goes on. Stop Immich first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven recover --dry-run --to /mnt/photos/immich --database immich\n  haven recover --to /mnt/photos/immich --aside --database 'postgresql:///immich?host=/run/postgresql'\n  haven recover --from far --point immich-20261123T044629Z --to /srv/scratch --database scratch\n  haven recover --from home --to /mnt/photos/immich --database immich   from Borg, over SSH\n  haven recover --from s3://photos-copy/haven --to /srv/immich          files alone, from a bare machine\n  haven recover --album Holidays --user anna@example.org --to /tmp/back     single photos with their rows\n\nExit codes: 0 everything came back and matches; 6 something is damaged or missing; 7 no such point, or something is in the way"
)]
pub struct Args {
    /// The library, a replica or a copy in Borg's or restic's format by its name in haven.toml, the URL of a library, or a folder that a copy was brought back to [default: the library]
    #[arg(long, value_name = "WHERE")]
    from: Option<String>,
    /// Of a copy in Borg's or restic's format: this archive [default: the newest that holds the point]
    #[arg(long, value_name = "ARCHIVE", requires = "from")]
    archive: Option<String>,
    /// The point [default: the newest complete one]
    #[arg(long, value_name = "NAME")]
    point: Option<String>,
    /// The newest point of this application
    #[arg(long, value_name = "NAME", conflicts_with = "point")]
    of: Option<String>,
    /// Where the files are to be; without it only the database comes back
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Rename what is in DIR aside, and keep it
    #[arg(long)]
    aside: bool,
    /// Where the database is to be, as libpq has it: a URL, "dbname=immich host=db", or a name
    #[arg(long, value_name = "DATABASE")]
    database: Option<String>,
    /// What goes before PostgreSQL's programs, where the server is in a container: "docker exec -i immich_postgres"
    #[arg(long, value_name = "COMMAND")]
    within: Option<String>,
    /// The directory of PostgreSQL's programs [default: Debian's for the server's version, else those of PATH]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Whose the database is to be [default: its owner's when it was dumped]
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Also bring back other roles, and what each may do
    #[arg(long)]
    roles: bool,
    /// Only this asset, by its id; may be given several times, as the three that follow
    #[arg(long, value_name = "ID")]
    asset: Vec<String>,
    /// Only this album, by its name or id
    #[arg(long, value_name = "ALBUM")]
    album: Vec<String>,
    /// Only what is this user's, by name, e-mail address or id
    #[arg(long, value_name = "USER")]
    user: Vec<String>,
    /// Only this file or folder of Immich's
    #[arg(long, value_name = "PATH")]
    path: Vec<String>,
    /// Files at once
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Only tell what would be done, how long it would take, and how many bytes it would move
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    key: KeyArgs,
}

/// What came back.
#[derive(Debug, Serialize)]
struct Recovered {
    point: String,
    taken: Timestamp,
    from: String,
    to: Option<PathBuf>,
    set_aside: Option<PathBuf>,
    files: Option<Laid>,
    sentinels: Vec<String>,
    database: Option<Restored>,
    checked: Option<check::Report>,
    seconds_to_first_photo: Option<f64>,
    seconds: f64,
}

/// A database as flags name it, and PostgreSQL's programs for it.
pub fn reach(database: &str, programs: Option<&Path>, within: Option<&str>) -> Reach {
    let within = within.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    Reach { database: database.to_owned(), programs: programs.map(Path::to_owned), within }
}

impl Args {
    fn reach(&self) -> Option<Reach> {
        Some(reach(self.database.as_deref()?, self.programs.as_deref(), self.within.as_deref()))
    }

    fn pick(&self) -> Pick<'_> {
        Pick { point: self.point.as_deref(), of: self.of.as_deref(), older: None }
    }

    fn goal(&self) -> Option<Goal> {
        Some(Goal { reach: self.reach()?, role: self.role.clone(), rights: self.roles, jobs: 2 })
    }

    /// What can be seen to be wrong before anything is opened.
    fn look(&self, context: &Context) -> Result<(), Trouble> {
        let usage = |what: &str| Trouble::new(Code::Usage, what).meaning(UNTOUCHED);
        if self.to.is_none() && self.database.is_none() {
            return Err(usage("neither --to nor --database says where anything is to come back")
                .next("haven recover --dry-run --to DIR --database NAME    tells what would happen"));
        }
        if self.reach().is_some_and(|reach| reach.has_password()) {
            return Err(usage("the database has a password in it")
                .because("every user of this machine would see it in the list of processes")
                .next("put it into ~/.pgpass, or the file that PGPASSFILE names"));
        }
        let Some(to) = &self.to else { return Ok(()) };
        refuse_bare(context, to)
    }
}

/// A folder below a mount point at which nothing is mounted would be hidden by the next mount, and Immich would find
/// its sentinels where there is no library.
fn refuse_bare(context: &Context, to: &Path) -> Result<(), Trouble> {
    let to = std::path::absolute(to).unwrap_or_else(|_| to.to_owned());
    let Some(point) = context.config.mount.point.as_deref().filter(|point| to.starts_with(point)) else {
        return Ok(());
    };
    match find(point) {
        Ok(Found::Mount { .. }) => Ok(()),
        _ => Err(Trouble::new(
            Code::NotMounted,
            format!("{} is below {}, where nothing is mounted", to.display(), point.display()),
        )
        .meaning("nothing was changed: the next mount would hide what came back there")
        .next(format!("haven mount URL {}    first", point.display()))
        .next("or name another directory")),
    }
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    args.look(context)?;
    let runtime = wire::runtime()?;
    let origin = Origin::named(context, args.from.as_deref(), true)?.with_archive(args.archive.as_deref())?;
    let opened = origin.open(context, &runtime, &args.key, args.pick());
    let opened = opened.map_err(|trouble| origin.unopened(&context.config, trouble, "haven recover"))?;
    let outcome = work(context, &args, &origin, &opened);
    drop(opened);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

fn work(context: &Context, args: &Args, origin: &Origin, opened: &Open) -> Result<(), Trouble> {
    let point = opened.point(args.pick()).map_err(|error| {
        // Whoever is here has lost something: a new point is the last thing that helps.
        let trouble = origin.lacks(opened, args.pick(), &error);
        match origin.others(&context.config).as_slice() {
            others @ [first, ..] if trouble.code == Code::NoPoint => {
                trouble.next(format!("haven recover --from {first}    looks into another copy: {}", others.join(", ")))
            }
            _ => trouble,
        }
    })?;
    let media = opened.media(&point);
    let wishes = some::wishes(args);
    if !wishes.is_empty() {
        return some::run(context, args, &point, &media.ok_or_else(|| no_files(&point))?, &wishes);
    }
    if args.dry_run {
        return plan::tell(context, args, origin, &point, media.as_ref());
    }
    let begun = Instant::now();
    if !context.json && std::io::stderr().is_terminal() {
        report::note(format!("{} from {}", point.name(), origin.name));
    }
    point.verify_parts().map_err(|error| points::trouble(&error))?;
    // What the server lacks is found out before hours of copying.
    let goal = args.goal();
    let database = point.manifest.database.as_ref();
    let wanted = match (&goal, database) {
        (Some(goal), Some(database)) => {
            let ground = goal.look(database).map_err(|error| trouble(&error))?;
            ground.fit(database).map_err(|error| trouble(&error))?;
            Some((goal, database))
        }
        (Some(_), None) => {
            return Err(Trouble::new(Code::Usage, format!("{} has no database", point.name())).meaning(UNTOUCHED));
        }
        (None, _) => None,
    };
    let mut done = Recovered {
        point: point.name().to_owned(),
        taken: point.manifest.taken,
        from: origin.name.clone(),
        to: args.to.clone(),
        set_aside: None,
        files: None,
        sentinels: Vec::new(),
        database: None,
        checked: None,
        seconds_to_first_photo: None,
        seconds: 0.0,
    };
    // While it is held, a signal waits until what is at work has ended.
    let stop = opened.stop();
    if let Some(to) = &args.to {
        let media = media.as_ref().ok_or_else(|| no_files(&point))?;
        files(args, &point, media, to, &stop, begun, &mut done)?;
    }
    if let Some((goal, database)) = wanted {
        let bar = ask::progress_bar("database");
        let dump = point.dump().unwrap_or_default();
        let roles = point.roles();
        let restored =
            goal.restore(database, &dump, roles.as_deref(), &stop, &mut |doing| bar.set_message(doing.to_owned()));
        bar.finish_and_clear();
        done.database = Some(restored.map_err(|error| trouble(&error))?);
    }
    drop(stop);
    if let Some(to) = args.to.as_ref().filter(|_| point.manifest.kind == Kind::Immich) {
        done.checked = Some(checked(args, &point, to)?);
    }
    if let Some(to) = &args.to {
        _ = fs::remove_file(to.join(MARK));
    }
    done.seconds = begun.elapsed().as_secs_f64();
    answer(context, &point, &done)
}

/// Runs with as many threads as files are wanted at once.
pub fn pooled<T: Send>(threads: u16, work: impl FnOnce() -> T + Send) -> Result<T, Trouble> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build();
    let pool = pool.map_err(|error| Trouble::new(Code::Local, "threads can't be started").caused_by(&error))?;
    Ok(pool.install(work))
}

fn no_files(point: &Point) -> Trouble {
    Trouble::new(Code::NoLibrary, format!("the files of {} are not there", point.name()))
        .because("a newer point stands in this folder: the files are that one's")
        .meaning(UNTOUCHED)
}

fn files(
    args: &Args,
    point: &Point,
    media: &Media,
    to: &Path,
    stop: &AtomicBool,
    begun: Instant,
    done: &mut Recovered,
) -> Result<(), Trouble> {
    let bar = ask::progress_bar("files");
    bar.set_message("looking through them");
    done.set_aside = make_way(args, point, to)?;
    fs::create_dir_all(to)
        .and_then(|()| fs::write(to.join(MARK), json!({ "point": point.name() }).to_string()))
        .map_err(|error| trouble(&Error::Write { path: to.into(), source: error }))?;
    let told = |progress: lay::Progress| {
        bar.set_message(format!(
            "{} of {}, {} of {}",
            progress.files,
            words::count(progress.files_total as usize, "file"),
            words::bytes(progress.bytes),
            words::bytes(progress.bytes_total)
        ));
    };
    let before = begun.elapsed();
    let laid = media.bring(None, to, args.parallel, stop, &told);
    bar.finish_and_clear();
    let laid = laid?;
    done.seconds_to_first_photo = laid.first.map(|first| (before + first).as_secs_f64());
    done.files = Some(laid);
    if let Some(immich) = &point.manifest.immich {
        done.sentinels = sentinels::put_back(to, immich).map_err(|error| trouble(&error))?;
    }
    Ok(())
}

/// Whether a path below Immich's folder is that of an original.
pub fn is_photo(path: &Path) -> bool {
    let original = path.starts_with("upload") || path.starts_with("library");
    original && path.file_name().is_some_and(|name| name != ".immich")
}

/// What is at the target: nothing, what this command has begun, or something to be renamed aside.
fn make_way(args: &Args, point: &Point, to: &Path) -> Result<Option<PathBuf>, Trouble> {
    if !lay::occupied(to).map_err(|error| trouble(&error))? {
        return Ok(None);
    }
    let begun = fs::read(to.join(MARK)).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    match begun {
        Some(mark) if mark["point"] == point.name() => return Ok(None),
        _ if args.aside => {}
        _ => {
            return Err(Trouble::new(Code::Occupied, format!("{} is not empty", to.display()))
                .meaning("nothing was changed: files there might be replaced")
                .next("--aside    renames what is there, and keeps it")
                .next("or name an empty directory, or one that does not exist"));
        }
    }
    let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = to.with_file_name(format!("{name}.before-{}", Timestamp::now().strftime("%Y%m%dT%H%M%S")));
    fs::rename(to, &aside).map_err(|error| {
        Trouble::new(Code::Local, format!("{} can't be renamed aside", to.display()))
            .caused_by(&error)
            .meaning(UNTOUCHED)
            .next("it may be a mount point, or in use: name a folder in it")
    })?;
    Ok(Some(aside))
}

fn checked(args: &Args, point: &Point, to: &Path) -> Result<check::Report, Trouble> {
    let bar = ask::progress_bar("checking");
    let dump = point.dump().unwrap_or_default();
    let known = Known::read(&point.manifest, &dump).map_err(|error| trouble(&error))?;
    let told = |progress: check::Progress| {
        bar.set_message(format!("{} of {} assets, {}", progress.assets, progress.of, words::bytes(progress.bytes)));
    };
    let report = Media::Folder(to.to_owned()).check(&known, args.parallel, &told);
    bar.finish_and_clear();
    report
}

fn answer(context: &Context, point: &Point, done: &Recovered) -> Result<(), Trouble> {
    let mut out = format!("{}: back in {:.1} s\n", done.point, done.seconds);
    if let (Some(to), Some(files)) = (&done.to, &done.files) {
        out += &format!(
            "  files     {}, {}, in {}\n",
            words::count(files.files as usize, "file"),
            words::bytes(files.bytes),
            to.display()
        );
        if files.kept > 0 {
            out += &format!("            {} were there already\n", files.kept);
        }
    }
    if let Some(aside) = &done.set_aside {
        out += &format!("  before    what was there is now {}\n", aside.display());
    }
    if !done.sentinels.is_empty() {
        out += &format!("  .immich   put back in {}\n", done.sentinels.join(", "));
    }
    if let Some(database) = &done.database {
        out += &format!(
            "  database  {}: {} in {}, as many as were counted\n",
            database.database,
            words::count(database.rows as usize, "row"),
            words::count(database.tables, "table")
        );
        if let Some(old) = &database.set_aside {
            out += &format!("            the one before is now called {old}\n");
        }
        if database.maintenance_cleared {
            out += "            it was in maintenance mode, and is not any more\n";
        }
        database.warnings.iter().for_each(report::warn);
    }
    let bad = done.checked.as_ref().map_or(0, |report| report.broken.len());
    if let Some(checked) = &done.checked {
        out += &format!(
            "  checked   {} of {} by SHA-1, {}\n",
            checked.assets - (bad as u64).min(checked.assets),
            words::count(checked.assets as usize, "asset"),
            words::bytes(checked.bytes)
        );
    }
    out += &next(point, done);
    context.answer(&done, &out)?;
    let failed = done.files.as_ref().map_or(0, |files| files.failed.len());
    if bad + failed == 0 {
        return Ok(());
    }
    let mut trouble =
        Trouble::new(Code::Damaged, format!("not everything came back: {}", words::count(bad.max(failed), "file")))
            .meaning("everything else is there; the point is as it was")
            .next("haven recover --from REPLICA --asset ID --to DIR    brings single photos from another copy");
    for broken in done.checked.iter().flat_map(|report| &report.broken).take(5) {
        let told = haven_recover::proof::BrokenAsset::from(broken);
        trouble = trouble.because(format!("{} {}: {}", told.id, told.path, told.why));
    }
    Err(trouble)
}

/// What is left to do.
fn next(point: &Point, done: &Recovered) -> String {
    let Some(immich) = &point.manifest.immich else { return String::new() };
    let mut out = String::new();
    if let Some(to) = &done.to {
        out += &format!("  next      UPLOAD_LOCATION={} in Immich's .env", to.display());
        if !immich.media_location.is_empty() {
            out += &format!(" (its media location was {})", immich.media_location);
        }
        out += "\n";
    }
    if done.database.is_some() && !immich.version.is_empty() {
        out +=
            &format!("  next      start Immich {} or newer; an older one can't read this database\n", immich.version);
    }
    out + "  next      in Administration, Jobs: \"missing\" of thumbnails, metadata, sidecars and videos\n"
}

/// The way back's trouble in words.
pub fn trouble(error: &Error) -> Trouble {
    let (code, next) = match error {
        Error::Point(error) => return points::trouble(error),
        Error::Read { .. } => {
            (Code::Local, "see to what the message names, then run the same command again".to_owned())
        }
        Error::Write { .. } => {
            (Code::Local, "make room or rights there, then run the same command again: it goes on".to_owned())
        }
        Error::Dump(_) => (Code::Damaged, "haven backup list    tells which other points there are".to_owned()),
        Error::Postgres(haven_point::pg::PgError::Stopped) => (Code::Unfinished, "the same command goes on".to_owned()),
        Error::Postgres(_) => (Code::Local, "see to the server, then run the same command again".to_owned()),
        Error::Unfit { next, .. } => (Code::Occupied, next.clone()),
        Error::Differs { database, .. } => (
            Code::Damaged,
            format!("{database} stays for a look: drop it when you have seen enough, and try another point"),
        ),
        Error::Nothing(_) => (Code::NoLibrary, "haven backup show    tells what a point holds".to_owned()),
    };
    Trouble::new(code, error.to_string()).caused_by(error).meaning("what was there before is untouched").next(next)
}
