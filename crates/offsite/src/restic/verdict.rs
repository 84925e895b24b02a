//! What restic says, and what a run of it comes to.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    Error, Kind, Progress,
    program::{Ear, Heard, Said, Word, may_set_bits},
};

/// It goes on trying for a quarter of an hour when its store does not answer. That is long for somebody who waits, and
/// a night has other tries: so long it may.
const PATIENCE: Duration = Duration::from_secs(120);
/// A lock that a store refuses so often is no passing trouble: the key may not write. What it may not delete is another matter:
/// the program goes on without that.
const REFUSALS: usize = 3;

/// Reads its lines: JSON where it has been asked for it and knows how, text else.
#[derive(Default)]
pub struct Restics {
    /// Since when it has been trying again and nothing has moved; and what had been done by then.
    stuck: Option<(Instant, u64)>,
    /// Tries to write a lock that the store has refused, one after the other.
    refusals: usize,
}

impl Ear for Restics {
    const PROGRAM: &'static str = "restic";

    fn out(&mut self, line: &str, progress: &mut Progress) -> Heard {
        // A long list is not read twice.
        if !line.starts_with("{\"message_type\"") {
            return Heard::Answer;
        }
        let Ok(value) = serde_json::from_str::<Value>(line) else { return Heard::Answer };
        match value["message_type"].as_str() {
            Some("status") => {
                let number = |name: &str| value[name].as_u64().unwrap_or_default();
                progress.files = number("files_done").max(number("files_restored"));
                progress.bytes = number("bytes_done").max(number("bytes_restored"));
                progress.percent = value["percent_done"].as_f64().map(|share| (100.0 * share).clamp(0.0, 100.0));
                Heard::Moved
            }
            Some("error" | "exit_error") => Heard::Word(error(&value)),
            _ => Heard::Answer,
        }
    }

    fn err(&mut self, line: &str, progress: &mut Progress) -> Heard {
        let line = line.trim();
        if line.is_empty() {
            return Heard::Nothing;
        }
        if let Ok(value) = serde_json::from_str::<Value>(line)
            && value["message_type"].is_string()
        {
            return Heard::Word(error(&value));
        }
        let word = |level: &str| Word { level: level.into(), id: String::new(), text: line.to_owned() };
        if line.contains("retrying after") {
            let refused = line.starts_with("Save(<lock/")
                && SIGNS.iter().any(|(sign, kind)| *kind == Kind::Refused && line.contains(sign));
            self.refusals = if refused { self.refusals + 1 } else { 0 };
            if self.refusals == REFUSALS {
                return Heard::Hopeless(word("RETRY"));
            }
            let (since, bytes) = *self.stuck.get_or_insert((Instant::now(), progress.bytes));
            if bytes != progress.bytes {
                self.stuck = Some((Instant::now(), progress.bytes));
            } else if since.elapsed() > PATIENCE {
                return Heard::Hopeless(word("RETRY"));
            }
            return Heard::Word(word("RETRY"));
        }
        Heard::Word(word(if line.starts_with("Fatal") { "ERROR" } else { "" }))
    }
}

/// An error of one file: which, and why. Before 0.17 its cause is a structure.
fn error(value: &Value) -> Word {
    if value["message_type"] == "exit_error" {
        let text = value["message"].as_str().unwrap_or_default().to_owned();
        return Word { level: "ERROR".into(), id: String::new(), text };
    }
    let cause = &value["error"];
    let why = cause["message"].as_str().map(str::to_owned).unwrap_or_else(|| match cause["Err"].as_i64() {
        Some(number) => std::io::Error::from_raw_os_error(i32::try_from(number).unwrap_or_default()).to_string(),
        None => cause.to_string(),
    });
    let item = value["item"].as_str().unwrap_or_default();
    Word { level: "FILE".into(), id: String::new(), text: format!("{item}: {why}") }
}

/// What stands in its words, and what that means. The first that is found counts.
const SIGNS: [(&str, Kind); 29] = [
    ("no space left on device", Kind::Full),
    ("quota exceeded", Kind::Full),
    ("Insufficient Storage", Kind::Full),
    ("wrong password or no key found", Kind::Passphrase),
    ("Resolving password failed", Kind::Passphrase),
    ("empty password", Kind::Passphrase),
    ("repository is already locked", Kind::Locked),
    ("config file already exists", Kind::Exists),
    ("ciphertext verification failed", Kind::Damaged),
    ("repository contains errors", Kind::Damaged),
    ("hash does not match", Kind::Damaged),
    ("is damaged", Kind::Damaged),
    ("Connection refused", Kind::Connection),
    ("connection refused", Kind::Connection),
    ("connection reset", Kind::Connection),
    ("connection lost", Kind::Connection),
    ("broken pipe", Kind::Connection),
    ("no such host", Kind::Connection),
    ("no route to host", Kind::Connection),
    ("i/o timeout", Kind::Connection),
    ("Host key verification failed", Kind::Connection),
    ("Permission denied (publickey", Kind::Connection),
    ("unable to start the sftp session", Kind::Connection),
    ("ssh command exited", Kind::Connection),
    ("403 Forbidden", Kind::Refused),
    ("Access Denied", Kind::Refused),
    ("Is there a repository at the following location", Kind::NoRepository),
    ("no matching ID found", Kind::NoArchive),
    ("file already closed", Kind::Connection),
];

fn sentence(kind: Kind, doing: &str) -> String {
    match kind {
        Kind::Locked => format!("{doing}: another run holds the repository's lock"),
        Kind::Passphrase => format!("{doing}: the passphrase does not open the repository"),
        Kind::NoRepository => format!("{doing}: there is no repository at this place"),
        Kind::Exists => format!("{doing}: there is one already"),
        Kind::NoArchive => format!("{doing}: there is no such snapshot"),
        Kind::Connection => format!("{doing}: the connection to the repository was refused or lost"),
        Kind::Refused => format!("{doing}: the other machine does not allow it"),
        Kind::Full => format!("{doing}: no space is left"),
        Kind::Damaged => format!("{doing}: the repository is damaged"),
        Kind::Incomplete => format!("{doing}: not everything could be read"),
        _ => format!("{doing}: restic did not succeed"),
    }
}

/// Whether all that a restore failed with is that permissions could not be set. (0.14 says nothing of that, and ends well.)
fn undressed(said: &Said) -> bool {
    let errors = said.words.iter().filter_map(|word| word.text.strip_prefix("ignoring error for "));
    let bits = errors.clone().filter(|text| text.contains(": chmod ") && text.ends_with(": operation not permitted"));
    let count = errors.count();
    let told = said.words.iter().find_map(|word| word.text.strip_prefix("Fatal: There were ")?.strip_suffix(" errors"));
    count > 0 && bits.count() == count && told.and_then(|told| told.parse().ok()) == Some(count)
}

/// `Ok` if nothing is amiss. `amiss` is what an error means that has no name.
pub fn judge(said: &Said, doing: &str, amiss: Kind) -> Result<(), Error> {
    if said.cancelled {
        return Err(Error::new(Kind::Cancelled, format!("{doing}: it was asked to end")));
    }
    let files: Vec<&Word> = said.words.iter().filter(|word| word.level == "FILE").collect();
    // An error of a file is one, whatever the exit code says.
    if said.status.success() && files.is_empty() {
        return Ok(());
    }
    // A service may not set some of them: a drill by the keeper has not failed for that.
    if amiss == Kind::NotRestored && files.is_empty() && undressed(said) && !may_set_bits() {
        return Ok(());
    }
    let found = SIGNS.iter().find(|(sign, _)| said.words.iter().any(|word| word.text.contains(sign)));
    let by_code = match said.status.code() {
        Some(3) => Some(Kind::Incomplete),
        Some(10) => Some(Kind::NoRepository),
        Some(11) => Some(Kind::Locked),
        Some(12) => Some(Kind::Passphrase),
        _ => None,
    };
    // A fatal error (1) leaves no snapshot, not an incomplete one.
    let unnamed = match said.status.code() {
        Some(1) if amiss == Kind::Incomplete && files.is_empty() => Kind::Other,
        Some(0 | 1) => amiss,
        _ => Kind::Other,
    };
    let kind = by_code.or(found.map(|(_, kind)| *kind)).unwrap_or(unnamed);
    let mut error = Error::new(kind, sentence(kind, doing)).because(said.end());
    error.said = said.words.iter().map(|word| word.text.clone()).collect();
    let told: Vec<&Word> = if files.is_empty() { last(&said.words) } else { files.iter().copied().take(5).collect() };
    let error = told.iter().fold(error, |error, word| error.because(word.text.clone()));
    Err(if files.len() > 5 { error.because(format!("and {} more", files.len() - 5)) } else { error })
}

/// The last few words, each once.
fn last(words: &[Word]) -> Vec<&Word> {
    let mut out: Vec<&Word> = Vec::new();
    for word in words.iter().rev() {
        if out.len() < 4 && !out.iter().any(|have| have.text == word.text) {
            out.push(word);
        }
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

    use super::*;

    #[test]
    fn a_lock_that_is_refused_again_and_again_is_not_waited_for() {
        let mut ear = Restics::default();
        let hears = |line: &str| matches!(ear.err(line, &mut Progress::default()), Heard::Hopeless(_));
        let refused =
            "Save(<lock/7aa6c69e97>) returned error, retrying after 552.33ms: client.PutObject: Access Denied.";
        let away = "Save(<lock/7aa6c69e97>) returned error, retrying after 1.2s: dial tcp: connect: connection refused";
        let kept = "Remove(<snapshot/80c80a5c76>) returned error, retrying after 1.5s: blob not removed, server response: 403 Forbidden";
        let said = [kept, kept, kept, refused, refused, away, refused, refused, refused].map(hears);
        assert_eq!(said, [false, false, false, false, false, false, false, false, true]);
    }

    #[test]
    fn what_a_service_may_not_set_is_all_that_is_passed_over() {
        let judged = |lines: &[&str]| {
            let word = |line: &&str| Word { level: String::new(), id: String::new(), text: (*line).to_owned() };
            undressed(&Said {
                program: "restic",
                status: ExitStatus::from_raw(1 << 8),
                out: String::new(),
                words: lines.iter().map(word).collect(),
                cancelled: false,
            })
        };
        // As 0.18 says it.
        let bits = "ignoring error for /album: chmod /srv/scratch/album: operation not permitted";
        let other = "ignoring error for /a.jpg: ciphertext verification failed";
        assert!(judged(&[bits, "Fatal: There were 1 errors"]));
        assert!(!judged(&[bits, other, "Fatal: There were 2 errors"]));
        assert!(!judged(&[bits, "Fatal: There were 2 errors"]), "one was not told");
        assert!(!judged(&[bits]) && !judged(&["Fatal: There were 0 errors"]));
    }

    #[test]
    fn a_run_is_judged_by_its_words_where_its_code_says_little() {
        let kind = |code: i32, lines: &[&str]| {
            let mut ear = Restics::default();
            let heard = lines.iter().filter_map(|line| match ear.err(line, &mut Progress::default()) {
                Heard::Word(word) => Some(word),
                _ => None,
            });
            let said = Said {
                program: "restic",
                status: ExitStatus::from_raw(code << 8),
                out: String::new(),
                words: heard.collect(),
                cancelled: false,
            };
            judge(&said, "copying", Kind::Incomplete).map_err(|error| error.kind)
        };
        assert!(kind(0, &["using temporary cache"]).is_ok());
        let unread =
            r#"{"message_type":"error","error":{"Op":"open","Path":"a","Err":13},"during":"archival","item":"/a"}"#;
        assert_eq!(kind(3, &[unread]), Err(Kind::Incomplete));
        assert_eq!(kind(1, &["Fatal: wrong password or no key found"]), Err(Kind::Passphrase));
        assert_eq!(kind(12, &[]), Err(Kind::Passphrase));
        assert_eq!(
            kind(1, &["Fatal: unable to save snapshot: Write: sftp: \"Failure\" (SSH_FX_FAILURE)"]),
            Err(Kind::Other)
        );
        let nobody = [
            "Fatal: unable to open config file: dial tcp: connect: connection refused",
            "Is there a repository at the following location?",
        ];
        assert_eq!(kind(1, &nobody), Err(Kind::Connection));
        assert_eq!(
            kind(1, &["unable to create lock in backend: repository is already locked by PID 1"]),
            Err(Kind::Locked)
        );
    }
}
