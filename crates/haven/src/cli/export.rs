//! `haven export`: the library as plain files.

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use haven_format::{Ino, LibraryId, layout};
use haven_fs::Fs;
use haven_vault::Vault;

use super::{Context, UrlArg, mount::past_view};
use crate::{
    export::{Archive, ExportError, Failure, Folder, Summary, Target, export, is_export, list_names, settled},
    library,
    report::{self, Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    wire, words,
};

/// How many names of trouble are told one by one.
const TOLD_MAX: usize = 50;
/// Bytes of what is fetched that are kept for a while.
const CACHE: u64 = 2 << 30;
/// Longer than any export takes.
const STILL: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Write the whole library as plain files, with times, owners, attributes and a list of checksums
///
/// Into a directory, a tar file, or as a tar to standard output. Nothing is mounted, and the library is not written to: it
/// may be in use. SHA256SUMS lists every file's checksum, for `sha256sum -c`. What can't be read is named at the end, and
/// the exit code is 6; everything else is there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven export s3://photos/haven --to /mnt/disk/photos\n  haven export s3://photos/haven --to /mnt/disk/photos --resume\n  haven export s3://photos/haven --at before-the-move --to photos.tar\n  haven export s3://photos/haven --to - | ssh home 'tar x -C /photos --xattrs'"
)]
pub struct Args {
    #[command(flatten)]
    url: UrlArg,
    /// A directory, empty or to be made; a file whose name ends in .tar; or - for a tar to standard output
    #[arg(long, value_name = "DIR|FILE.tar|-")]
    to: PathBuf,
    /// Not the newest state, but as it was: a snapshot's name, or a time such as "2026-11-23 04:46"
    #[arg(long, value_name = "SNAPSHOT|TIME")]
    at: Option<String>,
    /// Go on with an export of this library to that directory: what it has listed and is still right is not fetched again
    #[arg(long)]
    resume: bool,
    /// Keep what is fetched in this directory for a while, not in the system's for temporary files
    #[arg(long, value_name = "DIR", env = "HAVEN_CACHE", hide_env = true)]
    cache: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArgs,
}

/// What `--to` means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum To {
    Folder(PathBuf),
    Tar(PathBuf),
    Stream,
}

impl To {
    fn new(to: &Path) -> Self {
        match to {
            _ if to.as_os_str() == "-" => Self::Stream,
            _ if to.extension().is_some_and(|end| end == "tar") && !to.is_dir() => Self::Tar(to.to_owned()),
            _ => Self::Folder(to.to_owned()),
        }
    }

    /// Looks before anything is fetched.
    fn prepare(&self, resume: bool) -> Result<(), Trouble> {
        let usage = |what: &str| Trouble::new(Code::Usage, what).meaning(UNTOUCHED);
        match self {
            Self::Folder(to) => prepare(to, resume),
            _ if resume => Err(usage("only an export to a directory can be resumed")),
            Self::Tar(to) if to.exists() => {
                Err(Trouble::new(Code::Occupied, format!("{} is there already", to.display()))
                    .meaning("nothing was written: it might be replaced")
                    .next("name a file that does not exist"))
            }
            Self::Stream if std::io::stdout().is_terminal() => {
                Err(usage("a terminal is no place for a tar").next("haven export URL --to - | tar t"))
            }
            _ => Ok(()),
        }
    }

    fn open(&self, list: &str, library: LibraryId) -> Result<Target, ExportError> {
        Ok(match self {
            Self::Folder(to) => Target::Folder(Folder::open(to, list, &library.to_string())?),
            Self::Tar(to) => Target::Archive(Archive::create(to, list)?),
            Self::Stream => Target::Archive(Archive::stream(Box::new(std::io::stdout()), list)?),
        })
    }
}

fn prepare(to: &Path, resume: bool) -> Result<(), Trouble> {
    let failed = |error: &std::io::Error| {
        Trouble::new(Code::Local, format!("{} can't be used", to.display()))
            .caused_by(error)
            .meaning(UNTOUCHED)
            .next("name a directory that this user may write to")
    };
    fs::create_dir_all(to).map_err(|error| failed(&error))?;
    let mut entries = fs::read_dir(to).map_err(|error| failed(&error))?;
    if entries.next().is_none() || (resume && is_export(to)) {
        return Ok(());
    }
    let trouble = Trouble::new(Code::Occupied, format!("{} is not empty", to.display()))
        .meaning("nothing was written: files there might be replaced")
        .next("name an empty directory, or one that does not exist");
    Err(match resume {
        true => trouble.because("no export has left it: it has no SHA256SUMS and no SHA256SUMS.part"),
        false => trouble.next("haven export … --resume    goes on with an export that was interrupted"),
    })
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let to = To::new(&args.to);
    to.prepare(args.resume)?;
    let runtime = wire::runtime()?;
    let summary = runtime.block_on(work(context, &args, &to));
    runtime.shutdown_timeout(Duration::from_secs(1));
    let summary = summary?;
    let text = told(&summary, &args.to);
    match to {
        // Standard output is the tar.
        To::Stream if context.json => report::note(serde_json::to_string(&summary).expect("plain values")),
        To::Stream => text.lines().for_each(report::note),
        _ => context.answer(&summary, &text)?,
    }
    if let Some(lost) = summary.passed_over.iter().find(|object| object.starts_with(layout::SEGMENTS)) {
        return Err(Trouble::new(Code::Damaged, "this is not the newest state: the log is damaged or has a gap")
            .because(lost.clone())
            .meaning("what is before that is there; the library is as it was")
            .next("put that object back from a replica, a backup, or the store's own versioning"));
    }
    if summary.failed.is_empty() {
        return Ok(());
    }
    Err(Trouble::new(
        Code::Damaged,
        format!("{} could not be exported whole", words::count(summary.failed.len(), "name")),
    )
    .meaning("everything else is there, and the library is as it was")
    .next("haven-rescue URL DIR    may still find what is lost, in older states and packs"))
}

async fn work(context: &Context, args: &Args, to: &To) -> Result<Summary, Trouble> {
    let started = Instant::now();
    let stack = library::open_place(&args.url.place(&context.config)?)?;
    let open = library::find(&stack.store).await?.unlock(&args.key.source(&context.config.key).read()?)?;
    let temporary = tempfile::Builder::new().prefix("haven-export").tempdir();
    let temporary = temporary.map_err(|error| {
        Trouble::new(Code::Local, "there is no room for temporary files")
            .caused_by(&error)
            .next("name some: --cache DIR")
    })?;
    let world = wire::world(&stack, wire::local_disk(args.cache.as_deref().unwrap_or(temporary.path()))?);
    let mut config = context.config.clone();
    config.mount.read_only = true;
    config.mount.list_snapshots = false;
    config.cache.size = CACHE;
    // One state from the beginning to the end, whatever is written meanwhile.
    let options = haven_vault::Options { follow_every: STILL, ..wire::vault_options(&config) };
    let vault = wire::vault(world, open.keys(), options).await?;
    // Found on the way to the state itself; what is found later is told of files. The newest shards may have been looked
    // at by now too, or not yet: whether they matter to the state that is wanted, its files tell.
    let mut passed_over = vault.status().damage;
    passed_over.retain(|(object, _)| !object.starts_with(layout::SHARDS));
    let outcome = async {
        let at = match &args.at {
            Some(text) => Some(past_view(&vault, text).await?),
            None => None,
        };
        let fs = wire::file_system_at(&vault, open.keys(), &config, at).await;
        let fs = fs.map_err(|error| wire::fs_trouble(&error))?;
        let list = free_name(&fs).await;
        let target = to.open(&list, open.library()).map_err(|error| failed(&error))?;
        let bar = super::ask::progress_bar("exporting");
        let all = vault.status().sums.file_bytes;
        let summary = export(&fs, target, |so_far| bar.set_message(progress(so_far, all, &vault))).await;
        bar.finish_and_clear();
        let passed_over = passed_over.into_iter().map(|(object, how)| format!("{object}: {how}")).collect();
        summary.map(|summary| Summary { passed_over, ..summary }).map_err(|error| failed(&error))
    }
    .await;
    _ = vault.close(false).await;
    outcome.map(|summary| Summary { seconds: started.elapsed().as_secs_f64(), ..summary })
}

/// A name for the list of checksums that nothing in the library's root directory has.
async fn free_name(fs: &Fs) -> String {
    for name in list_names() {
        let found = settled(fs, || fs.lookup(Ino::ROOT, name.as_bytes())).await;
        if found.is_err() {
            return name;
        }
    }
    unreachable!("numbers don't end")
}

fn progress(so_far: &Summary, all: u64, vault: &Arc<Vault>) -> String {
    let mut text = format!(
        "{} of about {}, {}",
        words::bytes(so_far.bytes),
        words::bytes(all),
        words::count(so_far.files as usize, "file")
    );
    if !so_far.failed.is_empty() {
        text += &format!(", {} failed", so_far.failed.len());
    }
    match vault.status().trouble {
        Some(trouble) => format!("{text}; waiting: {trouble}"),
        None => text,
    }
}

fn told(summary: &Summary, to: &Path) -> String {
    let mut text = format!(
        "{} with {}, {}, {} and {} in {}: {:.0} s, {}/s\n",
        words::count(summary.files as usize, "file"),
        words::bytes(summary.bytes),
        words::count(summary.folders as usize, "folder"),
        words::count(summary.symlinks as usize, "symbolic link"),
        words::count(summary.hard_links as usize, "hard link"),
        to.display(),
        summary.seconds,
        words::bytes((summary.bytes as f64 / summary.seconds.max(0.001)) as u64),
    );
    if summary.kept > 0 {
        text += &format!("{} were there already and are right\n", words::count(summary.kept as usize, "file"));
    }
    for object in &summary.passed_over {
        text += &format!("passed over: {object}\n");
    }
    for (what, list) in [("not whole", &summary.failed), ("incomplete", &summary.incomplete)] {
        for Failure { path, why } in list.iter().take(TOLD_MAX) {
            text += &format!("{what}: {}: {why}\n", path.display());
        }
        if list.len() > TOLD_MAX {
            text += &format!("{what}: and {} more; --json tells all\n", list.len() - TOLD_MAX);
        }
    }
    text
}

fn failed(error: &ExportError) -> Trouble {
    if let ExportError::OtherLibrary { path, .. } = error {
        let directory = path.parent().unwrap_or(path);
        return Trouble::new(Code::Occupied, format!("{} holds another library", directory.display()))
            .because(error.to_string())
            .meaning("nothing was written: files there might be replaced")
            .next("name an empty directory, or one that does not exist");
    }
    Trouble::new(Code::Local, "not everything could be exported")
        .because(error.to_string())
        .meaning("what was written until then is whole, and the library is as it was")
        .next("make room, and go on with --resume, if it goes to a directory")
}
