//! `haven flush`: the barrier.

use std::path::PathBuf;

use haven_mount::control::Request;

use super::{
    Context,
    ask::{ask, living},
};
use crate::report::Trouble;

/// Wait until everything written so far is in the bucket
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cp -a DCIM /mnt/photos/ && haven flush /mnt/photos && echo safe")]
pub struct Args {
    /// The mount point, or anything in it
    #[arg(value_name = "MOUNTPOINT")]
    point: PathBuf,
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let at = living(&args.point)?;
    let answer = ask(&at, &Request::new("flush"), "uploading")?;
    context.answer(&answer, "")
}
