//! `haven copy`: the library in formats that are not Haven's.

mod add;
mod keep;
mod look;
mod restore;
mod run;
mod state;

use std::sync::Arc;

use haven_offsite::{Archive, Cancel, Error, Kind, Progress, ThirdCopy, Watch};
use tokio::signal::unix::{SignalKind, signal};

pub use state::{ARCHIVES, Remembered};

use super::Context;
use crate::{
    copies::CopyConfig,
    report::{Code, Trouble},
    wire, words,
};

/// Keep copies of the library in Borg's or restic's format, prune, check and restore them
///
/// A mistake in Haven must not be in all copies: these are made by another program, in a format of its own, and that
/// program reads them back without Haven. Each copy is made of a snapshot, while the library is in use; files that have not
/// changed are not read again. An archive counts only when every file is in it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven copy add home ssh://backup@nas.example.org/./photos --passphrase-file /etc/haven/borg\n  haven copy init home\n  haven copy run home                                 from a timer, each night\n  haven copy list home\n  haven copy prune home 'within 1d, daily 7, weekly 4, monthly -1' --dry-run\n  haven copy check home --read-data\n  haven copy restore home --to /mnt/photos/back       into a mounted library, or anywhere\n\nExit codes: 0 done, and the copy is whole; 4 the repository can't be reached, or is full; 6 it is damaged; 7 no such\nrepository or archive, or it is locked; 10 not everything could be read, or archives have vanished"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Add(add::AddArgs),
    Init(add::InitArgs),
    #[command(visible_alias = "create")]
    Run(run::RunArgs),
    List(look::ListArgs),
    Info(look::InfoArgs),
    Check(look::CheckArgs),
    Prune(keep::PruneArgs),
    Delete(keep::DeleteArgs),
    #[command(visible_alias = "extract")]
    Restore(restore::RestoreArgs),
    Remove(add::RemoveArgs),
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let runtime = wire::runtime()?;
    runtime.block_on(async {
        match args.command {
            Command::Add(args) => add::add(context, args),
            Command::Init(args) => add::init(context, args).await,
            Command::Run(args) => run::run(context, args).await,
            Command::List(args) => look::list(context, args),
            Command::Info(args) => look::info(context, args),
            Command::Check(args) => look::check(context, args).await,
            Command::Prune(args) => keep::prune(context, args).await,
            Command::Delete(args) => keep::delete(context, args).await,
            Command::Restore(args) => restore::run(context, args).await,
            Command::Remove(args) => add::remove(context, args),
        }
    })
}

/// A copy, ready to be worked on.
#[derive(Clone)]
pub struct Opened {
    pub name: String,
    pub config: CopyConfig,
    pub copy: Arc<dyn ThirdCopy>,
}

impl Opened {
    /// `limit`: bytes a second, instead of the settings'.
    pub fn new(context: &Context, name: &str, limit: Option<u64>) -> Result<Self, Trouble> {
        let config = context.config.copy_called(name)?.clone();
        let copy = config.open(name, limit)?.into();
        Ok(Self { name: name.to_owned(), config, copy })
    }

    /// The application whose points an archive holds, where its name says so; empty, where it does not.
    pub fn series<'a>(&self, archive: &'a Archive) -> &'a str {
        haven_offsite::series(&archive.name, &self.config.prefix)
    }

    /// Whether its name does not say that it is another application's.
    pub fn may_be_of(&self, archive: &Archive, application: Option<&str>) -> bool {
        let whose = self.series(archive);
        whose.is_empty() || application.is_none_or(|wanted| wanted == whose)
    }

    pub fn trouble(&self, error: &Error) -> Trouble {
        trouble(&self.name, error)
    }

    /// Does something that takes its time, with a line that moves, until it is done or this process is asked to end.
    pub async fn work<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&dyn ThirdCopy, &mut Watch) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Trouble> {
        let signals = |kind| {
            signal(kind).map_err(|error| Trouble::new(Code::Local, "signals can't be waited for").caused_by(&error))
        };
        let (mut interrupt, mut terminate) = (signals(SignalKind::interrupt())?, signals(SignalKind::terminate())?);
        let bar = super::ask::progress_bar(doing);
        let moved = bar.clone();
        let cancel = Cancel::default();
        let (copy, inner) = (self.copy.clone(), cancel.clone());
        let mut working = tokio::task::spawn_blocking(move || {
            let mut progress = |progress: &Progress| moved.set_message(told(progress));
            work(&*copy, &mut Watch { cancel: inner, progress: &mut progress })
        });
        let outcome = loop {
            tokio::select! {
                outcome = &mut working => break outcome,
                _ = interrupt.recv() => cancel.cancel(),
                _ = terminate.recv() => cancel.cancel(),
            }
        };
        bar.finish_and_clear();
        let outcome = outcome.map_err(|error| Trouble::new(Code::Bug, "the work ended early").caused_by(&error))?;
        outcome.map_err(|error| self.trouble(&error))
    }
}

fn told(progress: &Progress) -> String {
    let mut parts = Vec::new();
    if progress.files > 0 {
        parts.push(words::count(progress.files as usize, "file"));
    }
    if progress.bytes > 0 {
        parts.push(words::bytes(progress.bytes));
    }
    if progress.new_bytes > 0 {
        parts.push(format!("{} new", words::bytes(progress.new_bytes)));
    }
    if let Some(percent) = progress.percent {
        parts.push(format!("{percent:.1} %"));
    }
    if parts.is_empty() {
        parts.push(progress.doing.clone());
    }
    parts.join(", ")
}

/// What is wrong with the copy `name`, in words.
pub fn trouble(name: &str, error: &Error) -> Trouble {
    let code = match error.kind {
        Kind::NoRepository | Kind::NoArchive => Code::NoCopy,
        Kind::Exists => Code::Occupied,
        Kind::Locked => Code::Locked,
        Kind::Passphrase => Code::WrongSecret,
        Kind::Connection | Kind::Refused | Kind::Full | Kind::Other => Code::Store,
        Kind::Incomplete | Kind::NotRestored => Code::Incomplete,
        Kind::Damaged => Code::Damaged,
        Kind::Cancelled => Code::Unfinished,
        Kind::Local | Kind::Program | Kind::Unshown => Code::Local,
    };
    let trouble = Trouble::new(code, format!("copy {name}: {}", error.what));
    let trouble = error.because.iter().fold(trouble, |trouble, why| trouble.because(why.clone()));
    trouble.meaning(error.meaning()).next(error.next(name))
}
