//! `haven umount`: the end of a mount, when all is uploaded.

use std::path::PathBuf;

use haven_mount::{
    Holder, UnmountError,
    control::{Client, ClientError, Found, Request, find},
    detach,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Context,
    ask::{not_mounted, progress_bar, trouble},
};
use crate::{
    report::{self, Code, Trouble},
    served::remaining_words,
};

/// Unmount, and wait until everything is in the bucket
///
/// Where another mount namespace still has the mount (a container that was started while it was there), it says which
/// process that is, and waits. With --detach it returns at once: what is not uploaded yet stays safe in the cache directory
/// and is uploaded at the next mount.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haven umount /mnt/photos")]
pub struct Args {
    /// The mount point
    #[arg(value_name = "MOUNTPOINT")]
    point: PathBuf,
    /// Don't wait: not for uploads, not for files that are still open
    #[arg(long)]
    detach: bool,
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let (point, at) = match find(&args.point).map_err(|error| trouble(&error))? {
        Found::Mount { point, at } => (point, at),
        Found::Dead { point, .. } => {
            detach(&point, true).map_err(|error| refused(&error))?;
            report::note(
                "its process was gone; what it had accepted is in its cache directory, and goes to the bucket at the next mount",
            );
            return context.answer(&serde_json::json!({ "unmounted": point, "dead": true }), "");
        }
        Found::Nothing => return Err(not_mounted(&args.point)),
    };
    if haven_mount::resolve(&args.point).is_ok_and(|asked| asked != point) {
        return Err(Trouble::new(Code::Usage, format!("{} is not a mount point", args.point.display()))
            .because(format!("it lies in the mount at {}", point.display()))
            .next(format!("haven umount {}", point.display())));
    }
    let mut client = Client::connect(&at).map_err(|error| trouble(&error))?;
    let bar = progress_bar("uploading");
    let request = Request::new("umount").with("detach", args.detach);
    let mut told = None;
    let answer = client.ask(&request, |value| {
        bar.set_message(remaining_words(&value));
        let held = held_by(&value);
        if let Some(holders) = held.filter(|held| told.as_ref() != Some(held)) {
            bar.suspend(|| report::note(waiting_for(&holders)));
            told = Some(holders);
        }
    });
    let refused = matches!(&answer, Err(ClientError::Refused(why)) if why.code == "busy" || why.code == "refused");
    // Else it is on its way out, whatever came of the uploads: this command is over when its process is.
    let held = answer.as_ref().ok().and_then(held_by);
    let ended = if refused || held.is_some() { Ok(()) } else { client.wait_for_end() };
    bar.finish_and_clear();
    if let Some(holders) = held {
        report::note(waiting_for(&holders));
    }
    let answer = answer.map_err(|error| trouble(&error))?;
    ended.map_err(|error| trouble(&error))?;
    context.answer(&serde_json::json!({ "unmounted": point, "left": answer }), "")
}

/// Who keeps the process of a mount that is off its mount point.
fn held_by(value: &Value) -> Option<Vec<Holder>> {
    Option::deserialize(&value["held_by"]).ok().flatten()
}

/// Whom an end waits for that does not come.
fn waiting_for(holders: &[Holder]) -> String {
    let whom = if holders.is_empty() {
        "a file in it is still open, or another mount namespace has it that can't be seen from here".to_owned()
    } else {
        let who = Holder::listed(holders);
        format!("another mount namespace (a container, a sandboxed service) still has it: {who}; end or restart that")
    };
    format!("it is out of sight, and its process waits: {whom}")
}

fn refused(error: &UnmountError) -> Trouble {
    Trouble::new(Code::Mount, error.to_string()).caused_by(error).next("run as the user who mounted it, or as root")
}
