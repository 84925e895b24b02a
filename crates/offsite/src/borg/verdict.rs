//! What a run of borg comes to. Its 1 ("warning") stands for harmless talk and for a file that is missing from the
//! archive alike: only warnings that are known to be harmless are let pass.

use crate::{
    Error, Kind,
    program::{Said, Word, may_set_bits},
};

/// How warnings begin that say nothing of what is in an archive.
const HARMLESS: [&str; 3] =
    ["Remote: Warning: Permanently added", "Remote: ** ", "Remote: WARNING: connection is not using a post-quantum"];

/// What it says of a file that is whole, and whose permissions it may not set.
const UNDRESSED: &str = ": attrs: [Errno 1] Operation not permitted";

/// What Python and ssh call a connection that ended: borg has no name for each of them.
const CUT: [&str; 4] = ["BrokenPipeError", "Broken pipe", "ConnectionResetError", "closed by remote host"];

/// By the identifier that borg gives an error.
fn kind_of(id: &str) -> Option<Kind> {
    Some(match id {
        "LockTimeout" | "LockError" | "LockErrorT" | "LockFailed" => Kind::Locked,
        "PassphraseWrong" | "PasscommandFailure" | "NoPassphraseFailure" | "PasswordRetriesExceeded" => {
            Kind::Passphrase
        }
        "Repository.DoesNotExist" | "Repository.InvalidRepository" | "Repository.ParentPathDoesNotExist" => {
            Kind::NoRepository
        }
        "Repository.AlreadyExists" | "Archive.AlreadyExists" => Kind::Exists,
        "Archive.DoesNotExist" => Kind::NoArchive,
        "ConnectionClosed" | "ConnectionClosedWithHint" | "ConnectionBrokenWithHint" => Kind::Connection,
        "PathNotAllowed" => Kind::Refused,
        "Repository.InsufficientFreeSpaceError" => Kind::Full,
        "Repository.CheckNeeded" | "Repository.ObjectNotFound" | "IntegrityError" | "IntegrityErrorBase" => {
            Kind::Damaged
        }
        _ if id.ends_with("IntegrityError") || id.ends_with("InvalidError") => Kind::Damaged,
        _ => return None,
    })
}

fn sentence(kind: Kind, doing: &str) -> String {
    match kind {
        Kind::Locked => format!("{doing}: another run holds the repository's lock"),
        Kind::Passphrase => format!("{doing}: the passphrase does not open the repository"),
        Kind::NoRepository => format!("{doing}: there is no repository at this place"),
        Kind::Exists => format!("{doing}: there is one already"),
        Kind::NoArchive => format!("{doing}: there is no such archive or path"),
        Kind::Connection => format!("{doing}: the connection to the repository was refused or lost"),
        Kind::Refused => format!("{doing}: the other machine does not allow it"),
        Kind::Full => format!("{doing}: no space is left"),
        Kind::Damaged => format!("{doing}: the repository is damaged"),
        _ => format!("{doing}: borg did not succeed"),
    }
}

/// The last words, for people: errors if there are any. A trace of Python's is cut to its end.
fn last_words(words: &[Word]) -> Vec<String> {
    let grave: Vec<&Word> = words.iter().filter(|word| matches!(word.level.as_str(), "ERROR" | "CRITICAL")).collect();
    let told = if grave.is_empty() { words.iter().collect() } else { grave };
    let hints = words.iter().filter(|word| word.text.starts_with("Remote:"));
    let all = hints.chain(told).filter_map(|word| word.text.lines().rfind(|line| !line.trim().is_empty()));
    let mut out: Vec<String> = Vec::new();
    for line in all.map(str::trim) {
        if !out.iter().any(|have| have == line) {
            out.push(line.to_owned());
        }
    }
    out.split_off(out.len().saturating_sub(4))
}

/// `undressed`: permissions that could not be set are no fault of the archive's.
fn is_harmless(word: &Word, undressed: bool) -> bool {
    HARMLESS.iter().any(|known| word.text.starts_with(known)) || undressed && word.text.contains(UNDRESSED)
}

/// `Ok` with the warnings if nothing is amiss. `amiss` is what borg's warnings mean for this command.
pub fn judge(said: &Said, doing: &str, amiss: Kind) -> Result<Vec<String>, Error> {
    if said.cancelled {
        return Err(Error::new(Kind::Cancelled, format!("{doing}: it was asked to end")));
    }
    let warnings: Vec<&Word> = said.words.iter().filter(|word| word.level == "WARNING").collect();
    match said.status.code() {
        Some(0) => Ok(warnings.iter().map(|word| word.text.clone()).collect()),
        Some(1 | 100..=127) => {
            // A service may not set some of them: a drill by the keeper has not failed for that.
            let undressed = amiss == Kind::NotRestored && !may_set_bits();
            let grave: Vec<_> = warnings.iter().filter(|word| !is_harmless(word, undressed)).collect();
            if grave.is_empty() && !warnings.is_empty() {
                return Ok(warnings.iter().map(|word| word.text.clone()).collect());
            }
            let what = match amiss {
                Kind::Incomplete => format!("{doing}: not everything could be read"),
                kind => sentence(kind, doing),
            };
            let error = Error::new(amiss, what);
            let mut told: Vec<String> = grave.iter().take(5).map(|word| word.text.clone()).collect();
            if told.is_empty() {
                told = last_words(&said.words);
            }
            if grave.len() > told.len() {
                told.push(format!("and {} more", grave.len() - told.len()));
            }
            Err(told.into_iter().fold(error.because(said.end()), Error::because))
        }
        _ => Err(failed(said, doing)),
    }
}

fn failed(said: &Said, doing: &str) -> Error {
    let says = |text: &str| said.words.iter().any(|word| word.text.contains(text));
    let kind = if says("No space left on device") || says("Disk quota exceeded") {
        Kind::Full
    } else if CUT.iter().any(|text| says(text)) {
        Kind::Connection
    } else {
        said.words.iter().rev().find_map(|word| kind_of(&word.id)).unwrap_or(Kind::Other)
    };
    let error = Error::new(kind, sentence(kind, doing)).because(said.end());
    last_words(&said.words).into_iter().fold(error, Error::because)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

    use super::*;

    fn said(code: i32, words: &[(&str, &str, &str)]) -> Said {
        let word =
            |&(level, id, text): &(&str, &str, &str)| Word { level: level.into(), id: id.into(), text: text.into() };
        Said {
            program: "borg",
            status: ExitStatus::from_raw(code << 8),
            out: String::new(),
            words: words.iter().map(word).collect(),
            cancelled: false,
        }
    }

    #[test]
    fn a_warning_nobody_knows_means_that_the_archive_is_not_whole() {
        let known = ("WARNING", "", "Remote: Warning: Permanently added 'nas' to the list of known hosts.");
        let unknown = ("WARNING", "", "a.jpg: [Errno 5] Input/output error");
        let kind = |code, words: &[_]| judge(&said(code, words), "copying", Kind::Incomplete).map_err(|e| e.kind);
        assert!(kind(1, &[known]).is_ok());
        assert_eq!(kind(1, &[known, unknown]).unwrap_err(), Kind::Incomplete);
        assert_eq!(kind(1, &[]).unwrap_err(), Kind::Incomplete, "a 1 without a reason is no harmless one");
        assert_eq!(kind(107, &[unknown]).unwrap_err(), Kind::Incomplete);
        assert_eq!(kind(2, &[known]).unwrap_err(), Kind::Other);
        assert_eq!(kind(2, &[("ERROR", "LockTimeout", "no lock")]).unwrap_err(), Kind::Locked);
        assert_eq!(kind(73, &[("ERROR", "LockTimeout", "no lock")]).unwrap_err(), Kind::Locked);
        assert_eq!(kind(2, &[("ERROR", "", "OSError: [Errno 28] No space left on device")]).unwrap_err(), Kind::Full);
    }

    #[test]
    fn what_a_service_may_not_set_is_not_missing_from_an_archive() {
        let harmless = |text: &str, undressed| {
            is_harmless(&Word { level: "WARNING".into(), id: String::new(), text: text.into() }, undressed)
        };
        let bits = "album: attrs: [Errno 1] Operation not permitted: '/srv/scratch/album'";
        assert_eq!([true, false].map(|undressed| harmless(bits, undressed)), [true, false]);
        assert!(!harmless("a.jpg: open: [Errno 1] Operation not permitted: '/srv/scratch/a.jpg'", true));
    }
}
