//! `haven import`: photos from elsewhere into a photo server.

mod flags;
mod go;
mod look;
mod plan;
mod server;
mod told;
mod trouble;
mod watch;

pub use server::key as api_key;

use super::Context;
use crate::report::Trouble;

/// Bring photos from elsewhere into Immich, and account for every file
///
/// A Google Takeout is read as it was downloaded: zip parts, .tgz or unpacked folders, all parts together, nothing is
/// unpacked. Each photo gets its sidecar's date, place, description and people, live photos stay pairs, albums are made
/// when every photo is known. Nothing on the server is deleted or replaced, photos are known by their content only.
/// It can be killed at any moment; the same command again goes on from there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven import plan takeout-*.zip                        what is in it? no server needed\n  haven import google-photos takeout-*.zip --server http://nas:2283 --api-key-file key\n  haven import folder ~/Pictures --server http://nas:2283 --api-key-file key --folder-as-album folder\n  haven import report --state haven-import.db            what became of every file?\n  haven import explain IMG_1234.jpg                      why this date, this sidecar?\n  haven import resume-jobs --server http://nas:2283 --admin-api-key-file key"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    GooglePhotos(go::TakeoutArgs),
    Folder(go::FolderArgs),
    Plan(plan::PlanArgs),
    Report(look::ReportArgs),
    Explain(look::ExplainArgs),
    ResumeJobs(go::ResumeArgs),
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    match args.command {
        Command::GooglePhotos(args) => go::takeout(context, args),
        Command::Folder(args) => go::folder(context, args),
        Command::Plan(args) => plan::plan(context, args),
        Command::Report(args) => look::report(context, &args),
        Command::Explain(args) => look::explain(context, &args),
        Command::ResumeJobs(args) => go::resume_jobs(context, &args),
    }
}
