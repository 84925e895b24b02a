//! `haven drill`: proof that the way back is open.

mod elsewhere;
mod machine;
mod one;

use std::path::{Path, PathBuf};

use haven_format::Keys;
use haven_mount::control::{Found, find};
use haven_point::pg::Reach;
use haven_recover::proof::{self, Report, Step};
use haven_store::human;
use jiff::Timestamp;
use serde_json::json;

use super::Context;
use crate::{
    library,
    origin::{Origin, Pick},
    points::config::DrillServer,
    report::{self, Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    wire, words,
};

/// Prove that the newest recovery point comes back, from each copy
///
/// The library, its replicas, and the copies in Borg's and restic's formats, one after the other. Level 0 opens the point as on a fresh machine, reads its dump, looks whether every photo's file is there, and reads back
/// one in a hundred. Level 1 reads every photo and compares it with its SHA-1, and writes nothing (of Borg and restic it reads
/// what they write to a pipe). Level 2 brings everything back: the files to a scratch directory, the database to a PostgreSQL that is started for it and ended again. Level 3
/// writes what a fresh machine needs to do it alone. Stores are opened so that nothing can be written to them. The report
/// is signed with a key of the library's and kept in it, in .haven/drills.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven drill                                    nightly: level 0 of the library and every copy\n  haven drill --level 1 --copy far               weekly\n  haven drill --level 2 --older --scratch /srv/scratch   monthly, and an older point, too\n  haven drill --level 2 --server application     into Immich's own server, beside its database\n  haven drill --level 2 --hook /usr/share/doc/haven/examples/drill-immich   and an Immich over it\n  haven drill --level 3 --to ./machine --program https://example.org/haven\n  haven drill list                               what was proven when\n\nExit codes: 0 everything is proven; 6 something is broken or missing, or a copy's newest point is\nolder than --max-age and another copy's is not; 4 a copy can't be reached; 11 all are older.\nWhat is no fault of a copy's is not recorded: 2 and 7 there is no such point,\n8 this machine can't do it"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// How thoroughly: 0 to 3
    #[arg(long, value_name = "LEVEL", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=3))]
    level: u8,
    /// Only this one: "library", the name of a replica or a copy in haven.toml, or the folder that a copy was brought back to; several times [default: all that haven.toml names]
    #[arg(long, value_name = "NAME")]
    copy: Vec<String>,
    /// The point [default: the newest complete one]
    #[arg(long, value_name = "NAME")]
    point: Option<String>,
    /// The newest point of this application
    #[arg(long, value_name = "NAME", conflicts_with = "point")]
    of: Option<String>,
    /// And one that is older, another each time
    #[arg(long, conflicts_with = "point")]
    older: bool,
    /// It is a fault when the newest point is older than this: 36h
    #[arg(long, value_name = "SPAN", value_parser = span)]
    max_age: Option<std::time::Duration>,
    /// Level 0: how much is read back
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    sample: f64,
    /// Level 2: where the files come back to for a while [default: the system's directory for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Level 2: bring the database back to this server, under a name of its own, instead of starting one
    #[arg(long, value_name = "DATABASE")]
    database: Option<String>,
    /// With --database: what goes before PostgreSQL's programs, where that server is in a container: "docker exec -i immich_postgres"
    #[arg(long, value_name = "COMMAND", requires = "database")]
    within: Option<String>,
    /// Level 2: the directory of PostgreSQL's programs [default: Debian's for the server's version, else those of PATH]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Level 2, without --database: start a server, or bring the database back to the application's own, beside it [default: drill_server in haven.toml]
    #[arg(long, value_name = "WHICH")]
    server: Option<DrillServer>,
    /// Level 2: then run this by /bin/sh; HAVEN_DRILL_FILES, HAVEN_DRILL_DATABASE, HAVEN_DRILL_DATABASE_NAME, HAVEN_DRILL_WITHIN, HAVEN_DRILL_PROGRAMS, HAVEN_DRILL_POINT, HAVEN_DRILL_IMMICH and HAVEN_DRILL_MEDIA_LOCATION say what came back
    #[arg(long, value_name = "COMMAND")]
    hook: Option<String>,
    /// Level 3: the directory for what a fresh machine needs
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Level 3: where a fresh machine fetches Haven from
    #[arg(long, value_name = "URL")]
    program: Option<String>,
    /// The mounted library that keeps the report [default: mount.point in haven.toml, where it is mounted]
    #[arg(long, short = 'L', value_name = "MOUNTPOINT")]
    library: Option<PathBuf>,
    /// Keep no report
    #[arg(long)]
    no_record: bool,
    /// Files at once
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the reports of drills in a mounted library, and whether their signatures are right
    List {
        /// The mounted library [default: mount.point in haven.toml]
        #[arg(long, short = 'L', value_name = "MOUNTPOINT")]
        library: Option<PathBuf>,
        #[command(flatten)]
        key: KeyArgs,
    },
}

fn span(text: &str) -> Result<std::time::Duration, String> {
    human::parse_duration(text)
}

/// `1%`, `0.05`.
fn share(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().map_err(|error| error.to_string());
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent)? / 100.0,
        None => number(text)?,
    };
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err("a share is more than 0, and 100% at most".into()) }
}

impl Args {
    /// The server that was named.
    fn named_server(&self) -> Option<Reach> {
        Some(super::recover::reach(self.database.as_deref()?, self.programs.as_deref(), self.within.as_deref()))
    }

    /// The server that stays and that a database of this application comes back to; `None`: one is started for it. Nobody's
    /// own is loaded without its owner having said so.
    fn server(&self, context: &Context, of: &str) -> Option<Reach> {
        self.named_server().or_else(|| {
            let app = context.config.apps.iter().find(|app| app.name == of)?;
            let theirs = self.server.unwrap_or(app.common.drill_server) == DrillServer::Application;
            let reach = app.reach().filter(|_| theirs)?;
            Some(Reach { programs: self.programs.clone().or(reach.programs), ..reach })
        })
    }
}

/// Where a library is mounted.
pub fn mounted(context: &Context, named: Option<&Path>) -> Option<PathBuf> {
    match find(named.or(context.config.mount.point.as_deref())?) {
        Ok(Found::Mount { point, .. }) => Some(point),
        _ => None,
    }
}

/// The keys of the library that is mounted at `root`, by its own store.
pub fn keys_of(context: &Context, root: &Path, key: &KeyArgs) -> Result<Keys, Trouble> {
    let Ok(Found::Mount { at, .. }) = find(root) else { return Err(super::ask::not_mounted(root)) };
    wire::runtime()?.block_on(async {
        let stack = library::open_store(&at.url, &context.config.store_of(&at.url))?;
        Ok(library::find(&stack.store).await?.unlock(&key.source(&context.config.key).read()?)?.keys().clone())
    })
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    if let Some(Command::List { library, key }) = &args.command {
        return list(context, library.as_deref(), key);
    }
    if args.level == 3 {
        return machine::write(context, &args);
    }
    let origins = match args.copy.is_empty() {
        true => Origin::all(context)?,
        false => args.copy.iter().map(|name| Origin::named(context, Some(name), false)).collect::<Result<_, _>>()?,
    };
    if args.named_server().is_some_and(|reach| reach.has_password()) {
        return Err(Trouble::new(Code::Usage, "the database has a password in it")
            .because("every user of this machine would see it in the list of processes")
            .meaning(UNTOUCHED)
            .next("put it into ~/.pgpass, or the file that PGPASSFILE names"));
    }
    haven_recover::scratch::clear(&[args.scratch.as_deref(), Some(std::env::temp_dir().as_path())]);
    let newest = Pick { point: args.point.as_deref(), of: args.of.as_deref(), older: None };
    let mut round = Round::default();
    for origin in &origins {
        if let Err(over) = round.drill(context, &args, origin, newest) {
            round.settle(context, &args)?;
            return Err(over);
        }
    }
    round.end(context, &args, newest)
}

/// What came of the copies.
#[derive(Default)]
struct Round {
    /// Told, and not proven.
    bad: Vec<one::Drilled>,
    /// Those that have no such point, which is told when all were looked at.
    lacking: Vec<one::Drilled>,
    /// Those whose newest point is older than it may be, and how old: the same.
    stale: Vec<(String, one::Drilled)>,
    /// Points that are not, and of which application.
    fresh: Vec<(String, Timestamp)>,
    /// What this machine could not do, and why.
    own: Vec<(String, Trouble)>,
    late: Option<String>,
    /// Some copy has such a point.
    somewhere: bool,
}

impl Round {
    /// A copy that is bad keeps none of the others from being looked at, nor does what this machine can't do.
    fn drill(&mut self, context: &Context, args: &Args, origin: &Origin, newest: Pick<'_>) -> Result<(), Trouble> {
        let Some(mut drilled) = self.one(context, args, origin, newest)? else { return Ok(()) };
        if drilled.lacks.is_some() {
            self.lacking.push(drilled);
            return Ok(());
        }
        self.somewhere |= drilled.report.point.is_some();
        let than = drilled.report.point.clone().filter(|_| args.older);
        if let Some(late) = drilled.late.take() {
            self.stale.push((late, drilled));
        } else {
            let (of, now) = (drilled.report.application().map(str::to_owned), Timestamp::now());
            let taken = drilled.report.taken.filter(|taken| !haven_point::is_ahead(*taken, now));
            self.fresh.extend(of.zip(taken));
            self.keep(context, args, drilled)?;
        }
        let Some(than) = than else { return Ok(()) };
        let older = Pick { older: Some(&than), of: args.of.as_deref(), ..Pick::default() };
        match self.one(context, args, origin, older)? {
            // That there is none is no fault of the copy's.
            Some(drilled) if drilled.lacks.is_some() => {
                report::note(format!("{} has no recovery point that is older than {than}", origin.name));
                Ok(())
            }
            Some(drilled) => self.keep(context, args, drilled),
            None => Ok(()),
        }
    }

    /// `None`: this machine can't.
    fn one(
        &mut self,
        context: &Context,
        args: &Args,
        origin: &Origin,
        pick: Pick<'_>,
    ) -> Result<Option<one::Drilled>, Trouble> {
        // Nothing more is fetched for a database that can't be restored here: the files are read where they are.
        let unfit = self.own.iter().any(|(_, own)| own.code == Code::Unfit);
        let level = if unfit { args.level.min(1) } else { args.level };
        if level < args.level {
            report::note(format!(
                "{} is drilled at level {level}: its database can't be restored here",
                origin.called()
            ));
        }
        match one::drill(context, args, origin, pick, level) {
            Ok(mut drilled) => {
                let undone = drilled.undone.take();
                self.own.extend(undone.map(|own| (format!("{} was not drilled to the end", origin.called()), own)));
                Ok(Some(drilled))
            }
            Err(one::NoDrill::Here(own)) => {
                self.own.push((format!("{} was not drilled", origin.called()), own));
                Ok(None)
            }
            Err(one::NoDrill::Over(trouble)) => Err(trouble),
        }
    }

    /// Keeps the report, and tells it.
    fn keep(&mut self, context: &Context, args: &Args, drilled: one::Drilled) -> Result<(), Trouble> {
        let kept = if args.no_record { Ok(None) } else { record(context, args, &drilled) };
        let kept = kept.unwrap_or_else(|trouble| {
            self.own.push((format!("the report of {} is not kept", drilled.report.copy), trouble));
            None
        });
        context.line(&json!({ "report": drilled.report, "kept": kept }), &told(&drilled.report, kept.as_deref()))?;
        if !drilled.report.ok {
            self.bad.push(drilled);
        }
        Ok(())
    }

    /// Keeps those that are too old. A copy is at fault when another one has a newer point.
    fn settle(&mut self, context: &Context, args: &Args) -> Result<(), Trouble> {
        for (late, mut drilled) in std::mem::take(&mut self.stale) {
            let report = &mut drilled.report;
            let newer = |(of, taken): &(String, Timestamp)| {
                report.application() == Some(of.as_str()) && report.taken.is_some_and(|ours| ours < *taken)
            };
            if self.fresh.iter().any(newer) {
                let said = format!("{late}; another copy has a newer one");
                report.steps.push(Step { name: "age".into(), ok: false, said, seconds: 0.0 });
                report.ok = false;
            } else {
                self.late.get_or_insert(late);
            }
            self.keep(context, args, drilled)?;
        }
        Ok(())
    }

    /// What is wrong with a copy is said before what is wrong here.
    fn end(mut self, context: &Context, args: &Args, newest: Pick<'_>) -> Result<(), Trouble> {
        self.settle(context, args)?;
        let lacking = std::mem::take(&mut self.lacking);
        // A copy is at fault when it lacks what another one has.
        let missing = self.somewhere || !lacking.is_empty() && at_home(context, args, newest);
        if !missing && self.bad.is_empty() && self.own.is_empty() && !lacking.is_empty() {
            return Err(nowhere(context, &lacking, newest));
        }
        for drilled in lacking {
            match &drilled.lacks {
                // Whether those that were not looked at have it is not known.
                Some(lacks) if !missing => report::note(&lacks.what),
                _ => self.keep(context, args, drilled)?,
            }
        }
        let found = if self.bad.is_empty() { self.late.map(too_old) } else { Some(not_proven(&self.bad)) };
        let mut own = self.own.into_iter();
        let ended = found.or_else(|| own.next().map(|(which, own)| own.because(which)));
        for (which, own) in own {
            report::warn(format!("{which}: {}", own.what));
        }
        ended.map_or(Ok(()), Err)
    }
}

fn too_old(late: String) -> Trouble {
    Trouble::new(Code::Point, "the newest recovery point is older than it may be")
        .because(late)
        .meaning("what was drilled was proven, and is recorded")
        .next("haven runs --kind backup    tells what became of those that should have come")
}

fn not_proven(bad: &[one::Drilled]) -> Trouble {
    let names: Vec<&str> = bad.iter().map(|drilled| drilled.report.copy.as_str()).collect();
    let first = &bad[0];
    // A copy that can't be reached is not the same as one that is broken.
    let code = if bad.iter().all(|drilled| drilled.unreached) { first.code } else { Code::Damaged };
    let mut trouble = Trouble::new(code, format!("not everything would come back from {}", names.join(", ")));
    for step in first.report.steps.iter().filter(|step| !step.ok).take(3) {
        trouble = trouble.because(format!("{}: {}", step.name, step.said));
    }
    for broken in first.report.broken.iter().take(5) {
        trouble = trouble.because(format!("{} {}: {}", broken.id, broken.path, broken.why));
    }
    trouble = trouble.meaning("nothing was changed; what is not named was proven");
    for next in bad.iter().flat_map(|drilled| &drilled.next) {
        if !trouble.next.contains(next) {
            trouble = trouble.next(next);
        }
    }
    // In a copy that can't even be opened there is nothing yet to explain or to mend.
    if bad.iter().all(|drilled| drilled.unreached) {
        return trouble;
    }
    trouble
        .next("haven explain ASSET    tells which other copies have it")
        .next("haven check --repair --copy REPLICA    mends what the store has damaged")
}

/// Whether the mounted library has such a point.
fn at_home(context: &Context, args: &Args, pick: Pick<'_>) -> bool {
    let Some(all) = mounted(context, args.library.as_deref()).and_then(|root| haven_point::list(&root).ok()) else {
        return false;
    };
    let fits = |name: &str| {
        pick.point.is_none_or(|point| point == name)
            && pick.of.is_none_or(|of| haven_point::application(name) == Some(of))
    };
    all.iter().any(|found| fits(&found.name))
}

/// There is nothing that could be drilled, which is no fault of anybody's.
fn nowhere(context: &Context, lacking: &[one::Drilled], pick: Pick<'_>) -> Trouble {
    let names: Vec<&str> = lacking.iter().map(|drilled| drilled.report.copy.as_str()).collect();
    let apps: Vec<String> = context.config.apps.iter().map(|app| app.name.clone()).collect();
    let unknown = pick.of.filter(|of| !apps.iter().any(|app| app == of));
    let code = if unknown.is_some() { Code::Usage } else { Code::NoPoint };
    let mut trouble = Trouble::new(
        code,
        match (pick.point, pick.of) {
            (Some(point), _) => format!("there is no recovery point called {point}"),
            (None, Some(of)) => format!("there is no recovery point of {of}"),
            (None, None) => "there is no recovery point yet".into(),
        },
    );
    trouble = trouble.because(format!("looked in {}", names.join(", ")));
    // What each has instead.
    for why in lacking.iter().flat_map(|drilled| &drilled.lacks).flat_map(|lacks| &lacks.because).take(1) {
        trouble = trouble.because(why.clone());
    }
    trouble = trouble.meaning("nothing was drilled, and nothing was recorded");
    match (pick.point, unknown) {
        (Some(_), _) => trouble.next("haven backup list    tells which there are"),
        (None, Some(of)) => match crate::config::nearest(of, &apps) {
            Some(near) => trouble.next(format!("is it {near}?")),
            None => trouble.next("haven backup list    tells what there are points of"),
        },
        (None, None) => trouble.next("haven backup run    takes one"),
    }
}

/// Keeps the report in the library, if it is mounted.
fn record(context: &Context, args: &Args, drilled: &one::Drilled) -> Result<Option<PathBuf>, Trouble> {
    let Some(root) = mounted(context, args.library.as_deref()) else {
        report::warn("no library is mounted here: the report is kept nowhere else");
        return Ok(None);
    };
    let keys = match &drilled.keys {
        Some(keys) => keys.clone(),
        None => keys_of(context, &root, &args.key)?,
    };
    let kept = proof::record(&root, &keys, &drilled.report, &drilled.proven);
    kept.map(Some).map_err(|error| super::recover::trouble(&error))
}

fn told(report: &Report, kept: Option<&Path>) -> String {
    let verdict = if report.ok { "proven" } else { "NOT PROVEN" };
    let mut out = format!("{}: {verdict} (level {}, {})\n", report.copy, report.level, report.kind);
    if let (Some(point), Some(age)) = (&report.point, report.age_seconds) {
        out += &format!(
            "  point     {point}, {} old\n",
            human::show_duration(std::time::Duration::from_secs(age.max(0) as u64))
        );
    }
    for step in &report.steps {
        let verdict = if step.ok { "" } else { "FAILED: " };
        out += &format!("  {:<9} {verdict}{} ({:.1} s)\n", step.name, step.said, step.seconds);
    }
    out += &format!(
        "  assets    {} of {} read and right, {}{}\n",
        report.proven,
        report.assets,
        words::bytes(report.bytes),
        match report.broken.len() {
            0 => String::new(),
            count => format!("; BROKEN: {count}"),
        }
    );
    for broken in report.broken.iter().take(20) {
        out += &format!("    {}  {}: {}\n", broken.id, broken.path, broken.why);
    }
    if report.broken.len() > 20 {
        out += &format!("    and {} more: --json tells all\n", report.broken.len() - 20);
    }
    if let Some(first) = report.seconds_to_first_photo {
        out += &format!("  time      first photo after {first:.1} s, all after {:.1} s\n", report.seconds_to_complete);
    }
    if let Some(kept) = kept {
        out += &format!("  report    {}\n", kept.display());
    }
    out
}

/// The row of a report of which nothing is known but its name.
fn untold(name: &str, verdict: String) -> [String; 6] {
    let none = || "-".to_owned();
    [name.to_owned(), none(), none(), none(), none(), verdict]
}

fn list(context: &Context, library: Option<&Path>, key: &KeyArgs) -> Result<(), Trouble> {
    let root = mounted(context, library).ok_or_else(|| super::ask::not_mounted(library.unwrap_or(Path::new("."))))?;
    let keys = keys_of(context, &root, key)?;
    let all = proof::read_all(&root, &keys).map_err(|error| super::recover::trouble(&error))?;
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for read in &all {
        match read {
            proof::Read::Good { name, report } => {
                let verdict = if report.ok { "proven" } else { "NOT PROVEN" };
                rows.push([
                    name.clone(),
                    report.level.to_string(),
                    report.copy.clone(),
                    report.point.clone().unwrap_or_else(|| "-".into()),
                    format!("{} of {}", report.proven, report.assets),
                    verdict.to_owned(),
                ]);
                values.push(json!({ "name": name, "signed": true, "report": report }));
            }
            proof::Read::Bad { name, why } => {
                rows.push(untold(name, format!("NOT BELIEVED: {why}")));
                values.push(json!({ "name": name, "signed": false, "why": why }));
            }
            proof::Read::Unread { name, why } => {
                rows.push(untold(name, format!("CAN'T BE READ: {why}")));
                values.push(json!({ "name": name, "signed": null, "why": why }));
            }
        }
    }
    let text = if rows.is_empty() {
        "there are no reports; haven drill makes one\n".to_owned()
    } else {
        words::table(["DRILL", "LEVEL", "COPY", "POINT", "ASSETS", "VERDICT"], &rows)
    };
    context.answer(&json!({ "drills": values }), &text)
}
