//! `haven import google-photos`, `folder` and `resume-jobs`: what speaks with a server.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use haven_immich::Immich;
use haven_import::{
    FolderAlbums, Journal, Options, Setup, Source, Takeouts, Waits, jobs, report as journal_report,
    server::{Server, ServerError},
};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{
    flags::{GoogleArgs, StateArgs, WhatArgs},
    plan::{Prepared, foretell, gate, prepare, tell},
    server::{self, ServerArgs},
    told, trouble,
    watch::Watch,
};
use crate::{
    cli::Context,
    report::{self, Code, Trouble, UNTOUCHED},
    wire,
};

/// Bring a Google Takeout into Immich
///
/// Name all parts of the export: a photo and its sidecar often lie in different ones. They are read where they are, and no
/// temporary file is written. Missing and damaged parts are told first. Photos that nothing is known of are brought too.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven import google-photos takeout-*.zip --server http://nas:2283 --api-key-file key\n  haven import google-photos ~/takeout -s http://nas:2283 -k key --session-tag --partner album=Ours\n  haven import google-photos takeout-*.tgz -s http://nas:2283 -k key --dry-run\n\nExit codes: 0 all is there; 10 it ended, and some files could not be brought over, parts can't be read, or parts are missing and\nneither --allow-missing-parts nor --no-wait says that this is meant; 9 interrupted;\n3 the API key is refused or lacks a permission; 4 the server can't be reached or has no room"
)]
pub struct TakeoutArgs {
    /// Parts (.zip, .tgz, .tar), folders that hold them and perhaps unpacked ones, unpacked Takeouts
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    google: GoogleArgs,
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    state: StateArgs,
    /// Only tell what would be done; nothing is sent
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Bring a folder of photos into Immich
///
/// XMP files beside photos go with them as they are. JSON sidecars of a Takeout are understood too, live photos stay
/// pairs, and folders can become albums.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven import folder ~/Pictures --server http://nas:2283 --api-key-file key\n  haven import folder ~/Pictures -s http://nas:2283 -k key --folder-as-album folder --tag import/2026\n  haven import folder ~/Pictures -s http://nas:2283 -k key --dry-run"
)]
pub struct FolderArgs {
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Make an album of each folder, named after it or after its whole path
    #[arg(long, value_name = "HOW", default_value = "none")]
    folder_as_album: FolderArg,
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    state: StateArgs,
    /// Only tell what would be done; nothing is sent
    #[arg(long, short = 'n')]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FolderArg {
    None,
    Folder,
    Path,
}

/// Resume background work of the server that an import paused and could not resume
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven import resume-jobs --server http://nas:2283 --admin-api-key-file key --state haven-import.db"
)]
pub struct ResumeArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    state: StateArgs,
}

pub fn takeout(context: &Context, args: TakeoutArgs) -> Result<(), Trouble> {
    let found = haven_import::takeouts(&args.paths).map_err(|error| trouble::input(&error))?;
    let options = args.google.options(args.what.options());
    let journal = args.state.path(args.paths.first().map(PathBuf::as_path));
    let prepared = prepare(&journal, &found, &options, args.what.verify_copies)?;
    let allowed = args.google.allow_missing_parts || options.no_wait;
    if let Err(held) = gate(&prepared, allowed) {
        if !args.dry_run {
            wire::runtime()?.block_on(give_back(&prepared.journal, &args.server));
        }
        return Err(held);
    }
    go(context, prepared, options, &args.server, args.dry_run, allowed)
}

pub fn folder(context: &Context, args: FolderArgs) -> Result<(), Trouble> {
    let input = haven_import::plain(&args.directory).map_err(|error| trouble::input(&error))?;
    let folder_albums = match args.folder_as_album {
        FolderArg::None => FolderAlbums::None,
        FolderArg::Folder => FolderAlbums::Folder,
        FolderArg::Path => FolderAlbums::Path,
    };
    let options = Options { source: Source::Folder, folder_albums, takeout_tag: false, ..args.what.options() };
    let found = Takeouts { inputs: vec![input], passed_over: vec![] };
    let prepared = prepare(&args.state.path(Some(&args.directory)), &found, &options, args.what.verify_copies)?;
    // A folder has no parts.
    go(context, prepared, options, &args.server, args.dry_run, true)
}

/// `allowed`: the owner has said that missing parts are meant. That parts are damaged nobody means.
fn go(
    context: &Context,
    prepared: Prepared,
    options: Options,
    server: &ServerArgs,
    dry: bool,
    allowed: bool,
) -> Result<(), Trouble> {
    if dry {
        return foretell(context, &prepared, None);
    }
    let runtime = wire::runtime()?;
    let ended = runtime.block_on(import(&prepared, options, server));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended?;
    tell(context, &prepared)?;
    let summary = journal_report::summary(&prepared.journal).map_err(trouble::report)?;
    // They were told before the first file was sent, which may be hours ago.
    let gaps: &[String] = if allowed { &[] } else { &prepared.gaps };
    let lacking = told::parts(gaps, &prepared.indexed.trouble);
    if summary.is_whole() && lacking.is_empty() {
        return Ok(());
    }
    let what = match () {
        () if summary.is_whole() => "parts of this Takeout are missing or can't be read",
        () if summary.is_brought() => "some stacks could not be made",
        () if summary.failed.is_empty() && !summary.waiting.is_empty() => "some files wait for their sidecars",
        () => "some files could not be brought over",
    };
    let mut trouble = lacking.iter().fold(Trouble::new(Code::Held, what), |trouble, why| trouble.because(why));
    let files = summary.failed.iter().chain(&summary.waiting).map(|why| format!("{}: {}", why.files, why.why));
    let stacks = summary.unstacked.iter().map(|one| format!("{} stacks: {}", one.stacks, one.why));
    for why in files.chain(stacks).take(5) {
        trouble = trouble.because(why);
    }
    trouble = trouble.meaning(match () {
        () if !lacking.is_empty() => {
            "what lies in those parts is not there; nothing was lost, the Takeout was only read"
        }
        () if summary.is_brought() => "the photos of those stacks are there, one beside the other",
        () => "all others are there; nothing was lost, the Takeout was only read",
    });
    if !lacking.is_empty() {
        trouble = trouble.next("download those parts again from takeout.google.com and run this with all of them");
    }
    if !gaps.is_empty() && prepared.indexed.trouble.is_empty() {
        trouble = trouble.next("or say that they are meant to be missing: --allow-missing-parts");
    }
    if !summary.is_whole() {
        trouble = trouble
            .next(format!("haven import report --state {}    tells which and why", prepared.journal.path().display()))
            .next("run the same command again: it tries only what is left");
    }
    Err(trouble)
}

async fn import(prepared: &Prepared, options: Options, args: &ServerArgs) -> Result<(), Trouble> {
    let address = args.place.server.clone().ok_or_else(|| {
        Trouble::new(Code::Usage, "no server was named")
            .meaning(UNTOUCHED)
            .next("--server http://HOST:2283 --api-key-file FILE, or haven import plan, which needs none")
    })?;
    let server: Arc<dyn Server> =
        Arc::new(open(&prepared.journal, args, args.place.api_key_file.as_deref(), &address).await?);
    if !args.pause_immich_jobs {
        give_back(&prepared.journal, args).await;
    }
    let admin: Option<Arc<dyn Server>> = match (args.pause_immich_jobs, &args.admin_api_key_file) {
        (false, _) => None,
        (true, None) => Some(server.clone()),
        (true, Some(file)) => Some(Arc::new(open(&prepared.journal, args, Some(file), &address).await?)),
    };
    let (cancel, cancelled) = watch::channel(false);
    tokio::spawn(async move {
        interrupted(!ignores_hangup()).await;
        // Whoever waits is told; where nobody waits any more it is over.
        _ = cancel.send(true);
        report::note(
            "stopping; what is under way is broken off. Press again to leave the server's background work as it is",
        );
        // A terminal that closes says so twice, and nobody sits there who means it.
        interrupted(false).await;
        std::process::exit(i32::from(Code::Unfinished.exit()));
    });
    let shown = Watch::start(prepared.progress.clone());
    let bar = shown.bar();
    let setup = Setup {
        journal: prepared.journal.clone(),
        server,
        admin,
        address: address.clone(),
        parts: prepared.indexed.parts.clone(),
        options,
        progress: prepared.progress.clone(),
        waits: Waits { away: args.wait, ..Waits::default() },
        cancelled,
        tasks_max: usize::from(args.concurrent_tasks),
        errors_max: args.on_errors.0,
        warn: Box::new(move |text| Watch::warn(bar.as_ref(), text)),
    };
    haven_import::run(setup).await.map_err(|stop| trouble::stopped(&stop, &address))
}

/// Resumes background work that an earlier run paused and left so, whatever this one does; or tells how that is done.
async fn give_back(journal: &Journal, args: &ServerArgs) {
    let leased = jobs::leased(journal).unwrap_or_default();
    if leased.is_empty() {
        return;
    }
    let resumed = async {
        let address = args.place.server.as_deref().ok_or("no server was named")?;
        let (admin, user) = both(args, address).await.map_err(|trouble| trouble.what)?.map_err(|e| e.to_string())?;
        jobs::resume(journal, &admin, user.as_ref().unwrap_or(&admin), address).await.map_err(|e| e.to_string())
    };
    match resumed.await {
        Ok(queues) => {
            report::note(format!("background work that an earlier run paused is resumed: {}", queues.join(", ")))
        }
        Err::<_, String>(why) => report::warn(format!(
            "background work that an earlier run paused is still paused ({}): {why}; haven import resume-jobs --server {} \
             --admin-api-key-file FILE --state {} resumes it",
            leased.join(", "),
            jobs::place(journal).ok().flatten().unwrap_or_else(|| "URL".to_owned()),
            journal.path().display()
        )),
    }
}

/// The server with the key that may resume its background work, and with the one of the import, where that is another.
async fn both(args: &ServerArgs, address: &str) -> Result<Result<(Immich, Option<Immich>), ServerError>, Trouble> {
    let (admin, user) = (args.admin_api_key_file.as_deref(), args.place.api_key_file.as_deref());
    let opened = match server::open(&args.place, admin.or(user), address).await? {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(error)),
    };
    if admin.is_none() || user.is_none() {
        return Ok(Ok((opened, None)));
    }
    // It is needed only where the address is another one.
    let user = server::open(&args.place, user, address).await.ok().and_then(Result::ok);
    Ok(Ok((opened, user)))
}

/// Opens the server. One that this import has been to before is waited for: it may be away for its nightly backup. Of another one
/// that does not answer the address may be wrong.
async fn open(journal: &Journal, args: &ServerArgs, file: Option<&Path>, address: &str) -> Result<Immich, Trouble> {
    let known = journal.meta("server").is_ok_and(|known| known.is_some_and(|known| known.starts_with(address)));
    let (since, mut pause, mut told) = (Instant::now(), Duration::from_secs(5), false);
    loop {
        match server::open(&args.place, file, address).await? {
            Ok(server) => return Ok(server),
            Err(error @ ServerError::Gone(_)) if known && since.elapsed() < args.wait => {
                if !std::mem::replace(&mut told, true) {
                    report::note(format!("waiting for the server, which this import has been to before: {error}"));
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(60));
            }
            Err(error) => return Err(trouble::server(&error, address)),
        }
    }
}

/// Returns when the process is asked to end; `hangup`: when its terminal closes too.
async fn interrupted(hangup: bool) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    let closed = async {
        match hangup.then(|| signal(SignalKind::hangup())) {
            Some(Ok(mut closed)) => closed.recv().await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        _ = closed => {}
    }
}

/// Was it started so that it outlives its terminal, as nohup does? A handler would undo that.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Hangup is the first of all signals.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

pub fn resume_jobs(context: &Context, args: &ResumeArgs) -> Result<(), Trouble> {
    let journal = Journal::look(&args.state.path(None)).map_err(|error| trouble::journal(&error))?;
    let address = args
        .server
        .place
        .server
        .clone()
        .ok_or_else(|| Trouble::new(Code::Usage, "no server was named").next("--server http://HOST:2283"))?;
    let resumed = wire::runtime()?.block_on(async {
        let (admin, user) = both(&args.server, &address).await?.map_err(|error| trouble::server(&error, &address))?;
        jobs::resume(&journal, &admin, user.as_ref().unwrap_or(&admin), &address).await.map_err(|error| {
            let mut trouble = Trouble::new(Code::Store, "background work could not be resumed").caused_by(&error);
            if let jobs::JobsError::Elsewhere(place) = &error {
                trouble = trouble
                    .next(format!("name the server as it was named then: --server {place}"))
                    .next("or give the import's own key, too, by which it is known: --api-key-file FILE");
            }
            trouble.next("resume the queues by hand: Immich, administration, jobs")
        })
    })?;
    let text = match resumed.len() {
        0 => "nothing is paused by this import\n".to_owned(),
        _ => format!("resumed: {}\n", resumed.join(", ")),
    };
    context.answer(&json!({ "resumed": resumed }), &text)
}
