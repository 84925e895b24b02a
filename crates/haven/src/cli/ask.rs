//! How commands speak with the process of a mount, and show its progress.

use std::{io::IsTerminal, path::Path, time::Duration};

use haven_mount::control::{Client, ClientError, Found, Locator, Refusal, Request, find};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::{
    library::copy_trouble,
    report::{Code, Trouble, UNTOUCHED},
    served::{remaining_words, unfinished},
};

/// The process behind the mount that `path` lies in.
pub fn living(path: &Path) -> Result<Locator, Trouble> {
    match find(path).map_err(|error| trouble(&error))? {
        Found::Mount { at, .. } => Ok(at),
        Found::Dead { point, source } => Err(dead(&point, &source)),
        Found::Nothing => Err(not_mounted(path)),
    }
}

pub fn not_mounted(path: &Path) -> Trouble {
    Trouble::new(Code::NotMounted, format!("no library is mounted at {}", path.display()))
        .meaning(UNTOUCHED)
        .next(format!("haven mount URL {}", path.display()))
}

fn dead(point: &Path, source: &str) -> Trouble {
    Trouble::new(Code::NotMounted, format!("the mount at {} is dead: its process is gone", point.display()))
        .meaning(
            "nothing is lost: what was accepted is in its cache directory, and goes to the bucket at the next mount",
        )
        .next(format!("haven mount {source} {}    clears it away and mounts again", point.display()))
        .next(format!("haven umount {}    only clears it away", point.display()))
}

/// Asks the mount's process, showing on a terminal how far it is.
pub fn ask(at: &Locator, request: &Request, doing: &'static str) -> Result<Value, Trouble> {
    let mut client = Client::connect(at).map_err(|error| trouble(&error))?;
    let bar = progress_bar(doing);
    let answer = client.ask(request, |value| bar.set_message(remaining_words(&value)));
    bar.finish_and_clear();
    answer.map_err(|error| trouble(&error))
}

/// A line that moves, on terminals only.
pub fn progress_bar(doing: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_prefix(doing);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

pub fn trouble(error: &ClientError) -> Trouble {
    match error {
        ClientError::Refused(refusal) => refused(refusal),
        ClientError::Look { source, .. } => {
            Trouble::new(Code::Local, error.to_string()).because(source.to_string()).meaning(UNTOUCHED)
        }
        _ => Trouble::new(Code::Mount, error.to_string())
            .caused_by(error)
            .next("see its log: journalctl, or ~/.local/state/haven"),
    }
}

/// A refusal as trouble of a command.
pub fn refused(refusal: &Refusal) -> Trouble {
    match refusal.code.as_str() {
        "busy" => Trouble::new(Code::Mount, &refusal.message)
            .meaning("it is still mounted")
            .next("close what is open there, and try again")
            .next("haven umount --detach    takes it out of sight now, and ends when the last file is closed"),
        "copy" => copy_trouble(&refusal.message),
        "store" => Trouble::new(Code::Store, &refusal.message),
        "refused" => Trouble::new(Code::Usage, &refusal.message).meaning(UNTOUCHED),
        "damaged" => Trouble::new(Code::Damaged, &refusal.message).next("haven check"),
        "local" => Trouble::new(Code::Local, &refusal.message),
        "bug" => Trouble::new(Code::Bug, &refusal.message),
        "unknown" => {
            Trouble::new(Code::Usage, &refusal.message).next("unmount it and mount it again with this version")
        }
        _ => unfinished(refusal),
    }
}
