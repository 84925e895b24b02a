//! `haven umount`: the end of a mount, when all is uploaded.

use std::path::PathBuf;

use haven_mount::{
    UnmountError,
    control::{Client, ClientError, Found, Request, find},
    detach,
};

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
/// With --detach it returns at once: what is not uploaded yet stays safe in the cache directory and is uploaded at the
/// next mount.
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
    let answer = client.ask(&request, |value| bar.set_message(remaining_words(&value)));
    let refused = matches!(&answer, Err(ClientError::Refused(why)) if why.code == "busy" || why.code == "refused");
    // Else it is on its way out, whatever came of the uploads: this command is over when its process is.
    let ended = if refused { Ok(()) } else { client.wait_for_end() };
    bar.finish_and_clear();
    let answer = answer.map_err(|error| trouble(&error))?;
    ended.map_err(|error| trouble(&error))?;
    context.answer(&serde_json::json!({ "unmounted": point, "left": answer }), "")
}

fn refused(error: &UnmountError) -> Trouble {
    Trouble::new(Code::Mount, error.to_string()).caused_by(error).next("run as the user who mounted it, or as root")
}
