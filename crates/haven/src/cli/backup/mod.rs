//! `haven backup`: recovery points.

mod check;
mod export;
mod look;
mod run;
mod tidy;

use super::Context;
use crate::{reach::Which, report::Trouble};

/// Take, list, check and remove recovery points: files and database at one instant
///
/// A recovery point is a snapshot of the library, a dump of the application's database that shows the very same
/// instant, and a manifest that says what belongs together and what was counted. The application keeps running; the file
/// system stands still for some milliseconds. What is backed up stands in haven.toml, in a table [backup.NAME].
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven backup run --dry-run            is all there that it needs?\n  haven backup run                      takes a point of the only application there is\n  haven backup run immich --json        for a timer's log\n  haven backup list\n  haven backup check                    has every photo of the newest point its file, byte for byte?\n  haven backup check immich-20261123T044629Z\n  haven backup prune 'within 1d, daily 7, weekly 4, monthly -1' --dry-run\n  haven backup protect immich-20261123T044629Z --until 1y"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(run::Run),
    /// List the points, oldest first; what is not complete is told as such
    List {
        /// Only those of one application
        application: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Tell all that is known about one
    Show {
        /// The point [default: the newest]
        point: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    Check(check::Check),
    Export(export::Export),
    /// Remove those that no rule keeps: the rules of `borg prune`
    Prune {
        /// "within 1d, hourly 24, daily 7, weekly 4, monthly -1" [default: keep in haven.toml]
        rules: Option<String>,
        /// The application [default: the only one in haven.toml]
        #[arg(long, value_name = "NAME")]
        of: Option<String>,
        /// Only tell what would be removed, and why
        #[arg(long, short = 'n')]
        dry_run: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Remove some
    Remove {
        #[arg(required = true)]
        points: Vec<String>,
        /// Only tell what would be removed
        #[arg(long, short = 'n')]
        dry_run: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Let nothing remove one before a day
    Protect {
        point: String,
        /// 2027-01-31, or 30d, 6m, 2y from now; "never" takes the protection away
        #[arg(long, value_name = "DATE|SPAN")]
        until: String,
        /// Even if it was protected for longer
        #[arg(long)]
        shorten: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Start again what a run that was killed has left stopped (the next run does it, too)
    Resume {
        /// The application [default: the only one in haven.toml]
        application: Option<String>,
        #[command(flatten)]
        which: Which,
    },
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    match args.command {
        Command::Run(args) => run::run(context, &args),
        Command::List { application, which } => look::list(context, &which, application.as_deref()),
        Command::Show { point, which } => look::show(context, &which, point.as_deref()),
        Command::Check(args) => check::run(context, &args),
        Command::Export(args) => export::run(context, &args),
        Command::Prune { rules, of, dry_run, which } => tidy::prune(context, &which, rules, of.as_deref(), dry_run),
        Command::Remove { points, dry_run, which } => tidy::remove(context, &which, &points, dry_run),
        Command::Protect { point, until, shorten, which } => tidy::protect(context, &which, &point, &until, shorten),
        Command::Resume { application, which } => tidy::resume(context, &which, application.as_deref()),
    }
}
