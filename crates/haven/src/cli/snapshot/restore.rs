//! Files come back out of a snapshot through the mount: the kernel is asked to copy, and the file system shares.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use haven_mount::control::Request;
use rustix::{fs::CWD, io::Errno};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{Context, ask},
    config,
    past::Shown,
    reach::Which,
    report::{Code, Trouble, UNTOUCHED},
    words,
};

#[derive(Debug, clap::Args)]
pub struct Restore {
    /// The file or folder, relative to the library's root, or as a path in the mount
    path: PathBuf,
    /// The snapshot to restore from
    #[arg(long, value_name = "NAME")]
    from: String,
    /// Into this folder; where that is not in the mount the content is copied [default: where it was]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Put it in place of what is there now
    #[arg(long)]
    overwrite: bool,
    /// Only tell what would be restored
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    which: Which,
}

/// What was brought back.
#[derive(Debug, Default, Serialize)]
struct Restored {
    to: PathBuf,
    files: u64,
    bytes: u64,
    #[serde(skip)]
    links: HashMap<u64, PathBuf>,
    #[serde(skip)]
    dry: bool,
}

/// What could not be done, and with which path.
struct Failed(PathBuf, io::Error);

fn at(path: &Path) -> impl FnOnce(io::Error) -> Failed + '_ {
    |error| Failed(path.to_owned(), error)
}

pub fn run(context: &Context, args: &Restore) -> Result<(), Trouble> {
    let point = args.which.mount_point(&context.config)?;
    let inside = relative(&point, &args.path)?;
    let snapshot = point.join(".snapshots").join(&args.from);
    if fs::symlink_metadata(&snapshot).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Err(no_snapshot(&point, &args.from));
    }
    let source = snapshot.join(&inside);
    let about = fs::symlink_metadata(&source).map_err(|error| {
        Trouble::new(Code::Usage, format!("{} is not in the snapshot {}", inside.display(), args.from))
            .because(error.to_string())
            .meaning(UNTOUCHED)
            .next(format!("ls {}    shows what is", snapshot.display()))
    })?;
    let target = match (&args.to, inside.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        (Some(folder), None) => folder.clone(),
        (None, Some(_)) => point.join(&inside),
        (None, None) => point.clone(),
    };
    let occupied = match inside.file_name() {
        Some(_) => fs::symlink_metadata(&target).is_ok().then_some("is there already"),
        // The root itself, or what stands for it, is always there: what counts is what it holds.
        None => holds_something(&target).then_some("is not empty"),
    };
    if let Some(how) = occupied.filter(|_| !args.overwrite) {
        return Err(Trouble::new(Code::Occupied, format!("{} {how}", target.display()))
            .meaning(UNTOUCHED)
            .next("--to DIR restores it beside, --overwrite in its place"));
    }
    let mut restored = Restored { to: target.clone(), dry: args.dry_run, ..Restored::default() };
    restored.put(&source, &about, &target).map_err(|Failed(path, error)| {
        Trouble::new(Code::Local, format!("{} can't be restored", path.display()))
            .because(error.to_string())
            .meaning("the snapshot is as it was; what was restored before this is there")
            .next("mend what the message names, then restore again with --overwrite")
    })?;
    let verb = if args.dry_run { "would restore" } else { "restored" };
    let text = format!(
        "{verb} {}, {}, as {}\n",
        words::count(restored.files as usize, "file"),
        words::bytes(restored.bytes),
        target.display()
    );
    context.answer(&restored, &text)
}

/// A name with a slip in it is answered with the one that was meant.
fn no_snapshot(point: &Path, name: &str) -> Trouble {
    let trouble = Trouble::new(Code::Usage, format!("there is no snapshot called {name}")).meaning(UNTOUCHED);
    let listed = ask::living(point).and_then(|at| ask::ask(&at, &Request::new("snapshot list"), "reading"));
    let shown = listed.ok().and_then(|answer| Vec::<Shown>::deserialize(answer).ok()).unwrap_or_default();
    let names: Vec<String> = shown.into_iter().map(|shown| shown.name).collect();
    let trouble = match config::nearest(name, &names) {
        Some(near) => trouble.next(format!("is it {near}?")),
        None => trouble,
    };
    trouble.next("haven snapshot list    tells which there are")
}

/// Whether a restore of the root into this folder could replace anything.
fn holds_something(folder: &Path) -> bool {
    match fs::read_dir(folder) {
        Ok(mut entries) => entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != ".snapshots")),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The path below the mount point.
fn relative(point: &Path, path: &Path) -> Result<PathBuf, Trouble> {
    let path = path.strip_prefix(point).unwrap_or(path);
    let plain = |part: Component<'_>| match part {
        Component::Normal(name) => Some(Some(name.to_owned())),
        Component::CurDir | Component::RootDir => Some(None),
        Component::ParentDir | Component::Prefix(_) => None,
    };
    let parts: Option<Vec<Option<OsString>>> = path.components().map(plain).collect();
    parts.map(|parts| parts.into_iter().flatten().collect()).ok_or_else(|| {
        Trouble::new(Code::Usage, format!("{} leads out of the library", path.display())).meaning(UNTOUCHED)
    })
}

impl Restored {
    fn put(&mut self, source: &Path, about: &Metadata, target: &Path) -> Result<(), Failed> {
        let kind = about.file_type();
        if kind.is_dir() {
            return self.put_folder(source, about, target);
        }
        self.files += 1;
        self.bytes += if kind.is_file() { about.len() } else { 0 };
        if self.dry {
            return Ok(());
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        if about.nlink() > 1
            && let Some(first) = self.links.get(&about.ino())
        {
            _ = fs::remove_file(target);
            return fs::hard_link(first, target).map_err(at(target));
        }
        // Under another name until it is whole.
        let half = half_name(target);
        _ = fs::remove_file(&half);
        let whole = Self::fill(source, about, &half).and_then(|()| fs::rename(&half, target).map_err(at(target)));
        if whole.is_err() {
            _ = fs::remove_file(&half);
        }
        whole?;
        if about.nlink() > 1 {
            self.links.insert(about.ino(), target.to_owned());
        }
        Ok(())
    }

    /// Makes what is not there yet: a file, a link or something of that kind.
    fn fill(source: &Path, about: &Metadata, half: &Path) -> Result<(), Failed> {
        let kind = about.file_type();
        if kind.is_file() {
            share(source, half).map_err(at(source))?;
        } else if kind.is_symlink() {
            let to = fs::read_link(source).map_err(at(source))?;
            symlink(to, half).map_err(at(half))?;
        } else if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            let (kind, mode) =
                (rustix::fs::FileType::from_raw_mode(about.mode()), rustix::fs::Mode::from_raw_mode(about.mode()));
            rustix::fs::mknodat(CWD, half, kind, mode, about.rdev()).map_err(|e| at(half)(e.into()))?;
        }
        dress(source, about, half)
    }

    fn put_folder(&mut self, source: &Path, about: &Metadata, target: &Path) -> Result<(), Failed> {
        if !self.dry {
            fs::create_dir_all(target).map_err(at(target))?;
        }
        for entry in fs::read_dir(source).map_err(at(source))? {
            let from = entry.map_err(at(source))?.path();
            let about = fs::symlink_metadata(&from).map_err(at(&from))?;
            let name = from.file_name().unwrap_or_default();
            self.put(&from, &about, &target.join(name))?;
        }
        if self.dry { Ok(()) } else { dress(source, about, target) }
    }
}

fn half_name(target: &Path) -> PathBuf {
    let mut name = OsString::from(".haven-restore-");
    name.push(std::process::id().to_string());
    target.with_file_name(name)
}

/// Copies the content by having the file system share it, where it is the same one.
fn share(source: &Path, target: &Path) -> io::Result<()> {
    let mut from = File::open(source)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let size = from.metadata()?.len();
    let (mut read, mut written) = (0, 0);
    while read < size {
        let wanted = usize::try_from(size - read).unwrap_or(usize::MAX).min(1 << 30);
        let copied = match rustix::fs::copy_file_range(&from, Some(&mut read), &to, Some(&mut written), wanted) {
            // Another file system shares nothing with us.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if written == 0 => {
                let copied = io::copy(&mut from, &mut to)?;
                to.sync_all()?;
                return if copied == size { Ok(()) } else { Err(ends_early()) };
            }
            copied => copied?,
        };
        if copied == 0 {
            return Err(ends_early());
        }
    }
    Ok(())
}

fn ends_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the snapshot's file ends early")
}

fn dress(source: &Path, about: &Metadata, target: &Path) -> Result<(), Failed> {
    haven_recover::dress::dress(source, about, target).map_err(at(target))
}
