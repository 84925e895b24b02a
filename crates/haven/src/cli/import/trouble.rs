//! How trouble of an import is told.

use haven_import::{IndexError, InputError, JournalError, Stop, report::ReportError, server::ServerError};

use super::flags::JOURNAL;
use crate::report::{Code, Trouble, UNTOUCHED};

const AGAIN: &str = "run the same command again: it goes on where it was";
const KEPT: &str = "what was brought over stays, and is noted in the journal";

pub fn input(error: &InputError) -> Trouble {
    Trouble::new(Code::Usage, error.to_string())
        .meaning(UNTOUCHED)
        .next("name the zip parts, a folder that holds them, or an unpacked Takeout: haven import plan takeout-*.zip")
}

pub fn index(error: IndexError) -> Trouble {
    match error {
        IndexError::Journal(error) => journal(&error),
        other => Trouble::new(Code::Local, other.to_string()).caused_by(&other).meaning(UNTOUCHED),
    }
}

pub fn journal(error: &JournalError) -> Trouble {
    let trouble = Trouble::new(Code::Local, error.to_string()).meaning(KEPT);
    match error {
        JournalError::InUse(_) => trouble.next("wait for the other import, or end it"),
        JournalError::Full => trouble.next("make room, or put the journal elsewhere: --state FILE").next(AGAIN),
        JournalError::Missing(_) => Trouble::new(Code::Usage, error.to_string())
            .because(format!(
                "an import keeps its journal beside the first part or folder it was given, as {JOURNAL}, unless --state said otherwise"
            ))
            .meaning(UNTOUCHED)
            .next(format!("name the journal of the import: --state DIR/{JOURNAL}"))
            .next("haven import report also takes the folder of the parts: haven import report DIR"),
        JournalError::Version(..) => {
            trouble.next("end the import with the Haven that began it, or begin anew: --state OTHER")
        }
        JournalError::Io(..) | JournalError::Sqlite(_) => {
            trouble.next("put the journal where it can be written: --state FILE")
        }
    }
}

pub fn report(error: ReportError) -> Trouble {
    match error {
        ReportError::Journal(error) => journal(&error),
        other => Trouble::new(Code::Bug, "not every file is accounted for").caused_by(&other).meaning(KEPT),
    }
}

/// A server that can't be spoken with in the beginning.
pub fn server(error: &ServerError, address: &str) -> Trouble {
    let stop = match error {
        ServerError::Unauthorized(what) => Stop::Unauthorized(what.clone()),
        ServerError::Gone(what) => Stop::Gone(what.clone()),
        ServerError::Forbidden { what, permission } => {
            Stop::Forbidden { what: what.clone(), permission: permission.clone() }
        }
        other => Stop::Strange(other.to_string()),
    };
    stopped(&stop, address)
}

pub fn stopped(stop: &Stop, address: &str) -> Trouble {
    let trouble = |code, what: String| Trouble::new(code, what).because(stop.to_string()).meaning(KEPT);
    match stop {
        Stop::Cancelled => Trouble::new(Code::Unfinished, "the import was interrupted").meaning(KEPT).next(AGAIN),
        Stop::Unauthorized(_) => trouble(Code::WrongSecret, format!("{address} does not accept the API key"))
            .next("make a new key in Immich (account settings, API keys) and put it into the key file"),
        Stop::Forbidden { .. } | Stop::Permissions(_) => {
            trouble(Code::WrongSecret, "the API key may not do what an import needs".to_owned())
                .next("give the key these permissions in Immich, or all: asset.upload, asset.read, asset.update, album.create, album.read, albumAsset.create, tag.create, tag.asset, stack.create, user.read, server.about; asset.delete for --include-trashed and --restore")
                .next(AGAIN)
        }
        Stop::Full(_) => trouble(Code::Store, "the server has no room left".to_owned())
            .next("make room on the server or raise the user's quota")
            .next(AGAIN),
        Stop::Gone(_) => trouble(Code::Store, format!("{address} does not answer"))
            .next("is the address right, and does Immich run? http://HOST:2283 is its own port")
            .next(AGAIN),
        Stop::Strange(_) => trouble(Code::Store, format!("{address} is not understood"))
            .next("the address is Immich's own, with its port: http://HOST:2283; versions 1.135 to 3 are known"),
        Stop::Errors(_) => trouble(Code::Held, "too many files failed".to_owned())
            .next("haven import report    tells which and why").next(AGAIN),
        Stop::OtherServer(_) => trouble(Code::Usage, "this journal is of another import".to_owned())
            .next("give this import a journal of its own: --state FILE"),
        Stop::Journal(error) => journal(error),
    }
}
