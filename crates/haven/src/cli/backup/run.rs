use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use haven_point::pg::{PgError, Session, Shape, Stop};
use serde_json::{Value, json};

use crate::{
    cli::{Context, ask},
    points::{
        Alone, Home,
        config::App,
        run::{Failed, Run as Work, Taken},
    },
    reach::Which,
    report::{self, Code, Trouble, UNTOUCHED},
    words,
};

/// Take a recovery point
///
/// It is there whole or not at all: complete with exit code 0; also with 9 (it is not in the bucket yet) and 10 (the copy of
/// its dump beside failed); with any other there is none from this run. --json gives a line for each application.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// What to back up: NAME of a table [backup.NAME] in haven.toml [default: the only one there]
    application: Option<String>,
    /// All that haven.toml names, one after the other
    #[arg(long, conflicts_with = "application")]
    all: bool,
    /// Don't wait until the point is in the bucket
    #[arg(long)]
    no_wait: bool,
    /// Only look whether everything is there that it needs
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    which: Which,
}

pub fn run(context: &Context, args: &Run) -> Result<(), Trouble> {
    let apps: Vec<&App> = if args.all && !context.config.apps.is_empty() {
        context.config.apps.iter().collect()
    } else {
        vec![context.config.app(args.application.as_deref())?]
    };
    let home = Home::of(context, &args.which)?;
    let stop = Arc::new(Stop::new(false));
    if !args.dry_run {
        heed_signals(&stop);
    }
    let mut first = None;
    for app in &apps {
        let done = if args.dry_run { look(context, &home, app) } else { take(context, args, &home, app, &stop) };
        if let Err(trouble) = done {
            if stop.load(Ordering::Relaxed) {
                return Err(trouble);
            }
            // The others are taken all the same.
            match first {
                None if apps.len() == 1 => return Err(trouble),
                None => first = Some(trouble),
                Some(_) => trouble.tell(context.json),
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// The first signal ends the run in good order.
fn heed_signals(stop: &Arc<AtomicBool>) {
    let stop = stop.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut end), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            tokio::select! { _ = end.recv() => {}, _ = interrupt.recv() => {} }
            stop.store(true, Ordering::Relaxed);
        });
    });
}

fn take(context: &Context, args: &Run, home: &Home, app: &App, stop: &Arc<Stop>) -> Result<(), Trouble> {
    let _alone = Alone::with(&home.at.cache, &app.name)?;
    let bar = ask::progress_bar("backup");
    let work = Work { home, app, stop: stop.clone(), bar: bar.clone(), wait: !args.no_wait };
    let taken = work.take();
    bar.finish_and_clear();
    let taken = taken.map_err(|(failed, tries)| failure(home, app, &failed, tries))?;
    for warning in &taken.warnings {
        report::warn(warning);
    }
    context.line(&taken, &told(&taken))?;
    if let Some(why) = &taken.not_beside {
        return Err(Trouble::new(Code::Incomplete, format!("{} is complete, but not copied beside", taken.point))
            .because(why)
            .meaning("the recovery point is in the library, and counts; the directory that beside names has no copy of its dump")
            .next("mend what is in the way; the next run makes a copy of its own dump"));
    }
    if taken.in_bucket == Some(false) {
        return Err(Trouble::new(Code::Unfinished, format!("{} is complete, but not yet in the bucket", taken.point))
            .meaning("it is safe on this machine's disk, and goes to the bucket by itself")
            .next("haven status    tells what hinders it"));
    }
    Ok(())
}

fn told(taken: &Taken) -> String {
    let mut out = format!(
        "{}: complete; {}, {}; files could not be changed for {:.1} ms\n",
        taken.point,
        words::count(taken.files as usize, "file"),
        words::bytes(taken.file_bytes),
        taken.frozen_ms
    );
    if taken.rows > 0 || taken.dump_bytes > 0 {
        let assets =
            taken.assets.map(|assets| format!(", {}", words::count(assets as usize, "asset"))).unwrap_or_default();
        out += &format!(
            "  database: {}{assets}, {} in the dump, counted there and in the database\n",
            words::count(taken.rows as usize, "row"),
            words::bytes(taken.dump_bytes)
        );
    }
    if let Some(beside) = &taken.beside {
        out += &format!("  beside:   {}\n", beside.display());
    }
    if taken.in_bucket == Some(true) {
        out += "  bucket:   all of it is there\n";
    }
    for cleared in &taken.cleared {
        out += &format!("  cleared away what a killed run had left: {cleared}\n");
    }
    out
}

/// Why there is no point, what that means, and what to do.
fn failure(home: &Home, app: &App, failed: &Failed, tries: u32) -> Trouble {
    let code = match failed {
        Failed::Settings(_) => Code::Usage,
        Failed::Stopped => Code::Unfinished,
        _ => Code::Point,
    };
    let often = if tries > 1 { format!(", {tries} times") } else { String::new() };
    let mut trouble = Trouble::new(code, format!("no recovery point of {} came of it{often}", app.name));
    trouble = trouble.because(failed.to_string());
    let mut cause = failed.source();
    while let Some(error) = cause {
        trouble = trouble.caused_by(error);
        cause = error.source();
    }
    trouble = trouble.meaning(format!("nothing half-finished was kept; {}", home.newest(&app.name)));
    match failed {
        Failed::Pg(PgError::Ended { .. } | PgError::Run { .. }) => trouble.next(format!(
            "haven backup run {} --dry-run    tries the connection; see database, programs and within in haven.toml",
            app.name
        )),
        Failed::Pg(PgError::TooOld { server, .. }) => trouble
            .next(format!("install postgresql-client-{server}, or name its directory as programs in haven.toml"))
            .next("where the server is in a container: within = [\"docker\", \"exec\", \"-i\", \"CONTAINER\"]"),
        Failed::Moved(_) | Failed::Pg(PgError::Busy { .. }) => {
            trouble.next("wait until the application has finished its migration, and try again")
        }
        Failed::Quiesce(_) => trouble.next(format!(
            "look whether {} runs; haven backup resume {} starts what is still stopped",
            app.name, app.name
        )),
        Failed::Stopped => trouble.next(format!("haven backup run {}", app.name)),
        _ => trouble,
    }
}

/// What a run would do, as far as it can be known before.
fn look(context: &Context, home: &Home, app: &App) -> Result<(), Trouble> {
    let folder = home.root.join(&app.own.folder);
    if !folder.is_dir() {
        return Err(Trouble::new(Code::Usage, format!("there is no folder {} in the library", app.own.folder))
            .meaning(UNTOUCHED)
            .next(format!("correct folder in [backup.{}]: it is relative to {}", app.name, home.root.display())));
    }
    let mut value = json!({
        "application": app.name, "kind": app.own.kind, "folder": folder, "quiesce": app.common.quiesce.word(),
        "beside": app.own.beside, "would": "take a recovery point",
    });
    let mut text = format!("would take a recovery point of {}\n  files:    {}\n", app.name, folder.display());
    if let Some(reach) = app.reach() {
        let asked = (|| {
            let mut session = Session::open(&reach, app.common.lock_wait)?;
            Ok((haven_point::pg::Facts::of(&mut session)?, Shape::of(&mut session)?))
        })();
        let (facts, shape) = asked.map_err(|error: PgError| failure(home, app, &error.into(), 0).meaning(UNTOUCHED))?;
        text += &format!(
            "  database: {}, PostgreSQL {}, {}, {}\n",
            facts.name,
            facts.server,
            words::count(shape.tables.len(), "table"),
            words::bytes(facts.bytes)
        );
        value["database"] = json!({
            "name": facts.name, "server": facts.server, "tables": shape.tables.len(), "bytes": facts.bytes,
            "extensions": facts.extensions,
        });
    }
    let how = match app.common.quiesce.word() {
        "freeze" => "only the file system, for some milliseconds; it keeps running".to_owned(),
        other => format!("by {other}: it stops for some seconds, not for the dump"),
    };
    text += &format!("  stands still: {how}\n");
    if let Some(beside) = &app.own.beside {
        text += &format!("  beside:   a copy of the dump in {}\n", beside.display());
    }
    let newest = home.newest(&app.name);
    value["newest"] = Value::String(newest.clone());
    context.line(&value, &format!("{text}  {newest}\n"))
}
