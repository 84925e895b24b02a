//! `haven-rescue`: the reader as a program.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Parser, Subcommand};
use haven_format::{keys::Secret, record::Snapshot};
use haven_rescue::{Library, Restored, State, Status, audit, restore, snapshots, verify};
use haven_store::StoreOptions;
use serde_json::json;
use zeroize::Zeroizing;

/// Read a whole Haven library back into a directory, with nothing but the store and a key
///
/// A last resort, and a second opinion: it shares no code with `haven` but the format and the store. Exit code 0 when
/// everything is whole, 6 when something was damaged or could not be made (all else is there), 1 when nothing could be
/// done, or the disk is full or fails.
#[derive(Debug, Parser)]
#[command(
    name = "haven-rescue",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    extract: Extract,
}

#[derive(Debug, clap::Args)]
struct Extract {
    /// s3://bucket/prefix, sftp:// or webdavs://user@host/path, or file:///path
    #[arg(required = true)]
    url: Option<String>,
    /// An empty or new directory
    #[arg(required_unless_present_any = ["list_snapshots", "verify"])]
    directory: Option<PathBuf>,
    /// Not the newest state, but that of this snapshot
    #[arg(long, value_name = "NAME")]
    snapshot: Option<String>,
    /// Only tell which snapshots there are
    #[arg(long, conflicts_with_all = ["directory", "snapshot", "verify"])]
    list_snapshots: bool,
    /// Only read every chunk that a file of the newest state or of a snapshot needs, and name the files that are damaged
    #[arg(long, conflicts_with = "directory")]
    verify: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    key: Key,
}

#[derive(Debug, Subcommand)]
enum Command {
    Audit(AuditArgs),
}

/// List every object in the store: who needs it, since when it is dead, or that nobody knows it
///
/// By the rules of FORMAT.md alone, and slowly: every state that counts is read whole. Exit code 0 when all that is
/// needed is there and everything could be read, else 6.
#[derive(Debug, clap::Args)]
struct AuditArgs {
    /// s3://bucket/prefix, sftp:// or webdavs://user@host/path, or file:///path
    url: String,
    /// How long what is dead stays
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = haven_store::human::parse_duration)]
    grace: Duration,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    key: Key,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Key {
    /// The passphrase is in this file; a newline at its end does not count
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// This file is a key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The 24 words of the recovery key are in this file
    #[arg(long, value_name = "FILE")]
    recovery_words: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error>;

impl Key {
    fn read(&self) -> Result<Secret, Failure> {
        let content =
            |path: &PathBuf| std::fs::read(path).map(Zeroizing::new).map_err(|e| format!("{}: {e}", path.display()));
        if let Some(path) = &self.key_file {
            return Ok(Secret::key_file(&content(path)?)?);
        }
        if let Some(path) = &self.recovery_words {
            return Ok(Secret::recovery(&String::from_utf8_lossy(&content(path)?))?);
        }
        let path = self.passphrase_file.as_ref().ok_or("no key was named")?;
        let mut bytes = content(path)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Ok(Secret::passphrase(bytes.to_vec())?)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| match &args.command {
        Some(Command::Audit(args)) => runtime.block_on(look_over(args)),
        None => runtime.block_on(extract(&args.extract)),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(6),
        Err(error) => {
            eprintln!("haven-rescue: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn open(url: &str, key: &Key) -> Result<Library, Failure> {
    let secret = key.read()?;
    Ok(Library::open(haven_store::open(url, &StoreOptions::default())?, &secret).await?)
}

/// True when everything was whole.
async fn extract(args: &Extract) -> Result<bool, Failure> {
    let mut library = open(args.url.as_deref().unwrap_or_default(), &args.key).await?;
    let newest = library.newest().await?;
    eprintln!("haven-rescue: {} records, after change {}", newest.records.len(), newest.tx);
    let snapshots = snapshots(&newest.records);
    if args.list_snapshots {
        list(&snapshots, args.json)?;
        return Ok(tell(args.json, &library.passed_over, &[]));
    }
    let chosen: Vec<_> = match &args.snapshot {
        None => snapshots,
        Some(name) => snapshots.into_iter().filter(|(found, _)| found == name).collect(),
    };
    if let (Some(name), []) = (&args.snapshot, &chosen[..]) {
        return Err(format!("there is no snapshot called {name}; --list-snapshots tells which there are").into());
    }
    let Some(directory) = &args.directory else {
        return verified(&mut library, &newest, &chosen, args.json).await;
    };
    empty(directory)?;
    let restored = match chosen.first().filter(|_| args.snapshot.is_some()) {
        None => restore(&mut library, &newest.records, &newest.records, directory).await?,
        Some((_, snapshot)) => {
            let state = library.past(snapshot).await?;
            restore(&mut library, &state.records, &newest.records, directory).await?
        }
    };
    let whole = tell(args.json, &library.passed_over, &restored.damaged);
    let Restored { files, bytes, folders, links, .. } = restored;
    if args.json {
        let passed_over = &library.passed_over;
        let damaged = &restored.damaged;
        print(&json!({ "files": files, "bytes": bytes, "folders": folders, "links": links, "damaged": damaged,
            "passed_over": passed_over }))?;
    } else {
        println!("{files} files with {bytes} bytes, {folders} folders, {links} links");
    }
    Ok(whole)
}

/// Says what was wrong, unless the answer in JSON does; true when nothing was.
fn tell(json: bool, passed_over: &[String], damaged: &[(PathBuf, String)]) -> bool {
    let lines = passed_over.iter().map(|told| format!("passed over: {told}"));
    for line in lines.chain(damaged.iter().map(|(path, why)| format!("damaged: {}: {why}", path.display()))) {
        if json { eprintln!("{line}") } else { println!("{line}") }
    }
    passed_over.is_empty() && damaged.is_empty()
}

fn empty(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let mut there = std::fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    if there.next().is_some() { Err(format!("{} is not empty", directory.display()).into()) } else { Ok(()) }
}

fn list(snapshots: &[(String, Snapshot)], json: bool) -> Result<(), Failure> {
    if json {
        let row = |(name, s): &(String, Snapshot)| {
            json!({ "name": name, "taken": s.taken.seconds, "change": s.seq, "root": s.root, "note": s.note,
                "host": s.host, "by": s.by, "protected_until": s.protected_until })
        };
        return print(&snapshots.iter().map(row).collect::<Vec<_>>());
    }
    for (name, snapshot) in snapshots {
        let taken = jiff::Timestamp::from_second(snapshot.taken.seconds).map_or("?".to_owned(), |t| t.to_string());
        let note = if snapshot.note.is_empty() { String::new() } else { format!("  ({})", snapshot.note) };
        println!("{taken}  {name}{note}");
    }
    Ok(())
}

async fn verified(
    library: &mut Library,
    newest: &State,
    snapshots: &[(String, Snapshot)],
    json: bool,
) -> Result<bool, Failure> {
    let verified = verify(library, newest, snapshots).await?;
    let whole = tell(json, &library.passed_over, &verified.damaged);
    if json {
        print(&verified)?;
    } else {
        let (chunks, bytes, damaged) = (verified.chunks, verified.bytes, verified.damaged_chunks.len());
        println!("{chunks} chunks with {bytes} bytes are what they should be, {damaged} are not");
    }
    Ok(whole && verified.damaged_chunks.is_empty())
}

async fn look_over(args: &AuditArgs) -> Result<bool, Failure> {
    let mut library = open(&args.url, &args.key).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().try_into()?;
    let grace = args.grace.as_secs().try_into().unwrap_or(i64::MAX);
    let audit = audit(&mut library, grace, now).await?;
    if args.json {
        print(&audit)?;
        return Ok(audit.missing.is_empty() && tell(args.json, &audit.passed_over, &[]));
    }
    for object in &audit.objects {
        let mut about = object.by.iter().cloned().collect::<Vec<_>>().join(", ");
        if let (Some(since), Some(due)) = (object.dead_since, object.due) {
            about += &format!(" [dead since {}, may go from {}]", date(since), date(due));
        }
        println!("{:<10} {:>12}  {}  {about}", word(object.status), object.bytes, object.name);
    }
    for needed in &audit.missing {
        let by = needed.by.iter().cloned().collect::<Vec<_>>().join(", ");
        println!("{:<10} {:>12}  {}  {by}", "MISSING", "", needed.name);
    }
    for (status, sum) in &audit.totals {
        println!("total {:<10} {:>8} objects {:>16} bytes", word(*status), sum.objects, sum.bytes);
    }
    println!("live chunks in packs {:>27} bytes", audit.live_bytes);
    Ok(tell(args.json, &audit.passed_over, &[]) && audit.missing.is_empty())
}

fn word(status: Status) -> String {
    serde_json::to_value(status).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn print(value: &impl serde::Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
