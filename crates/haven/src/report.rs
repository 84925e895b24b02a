//! How trouble is told: a value first, then text on a terminal or JSON for a script.
//! ```text
//! haven: this passphrase does not open the library
//!   because  1 key slot of that kind was tried
//!   meaning  the library is untouched; nothing was opened
//!   next     check the passphrase, or use another way in: haven key list URL      code wrong-secret, exit 3
//! ```

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};

/// Kinds of trouble. The word is stable and the exit code belongs to it: scripts may rely on both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Something that should not happen.
    Bug,
    /// The command line or the settings can't be meant.
    Usage,
    /// No passphrase, key file or recovery key was given.
    NoSecret,
    /// The secret given does not open the library.
    WrongSecret,
    /// What was given can't be a secret.
    BadSecret,
    /// The bucket or directory can't be opened, reached, read or written.
    Store,
    /// Another machine writes to the library.
    Fenced,
    /// Bytes in the store are damaged or missing.
    Damaged,
    /// A newer Haven wrote it.
    Newer,
    /// There is no library there.
    NoLibrary,
    /// There is something there already.
    Occupied,
    /// No repository of a copy is there, or no such archive.
    NoCopy,
    /// There is no such recovery point, or none at all.
    NoPoint,
    /// Somebody else works on it.
    Locked,
    /// A copy was made and is not whole.
    Incomplete,
    /// A key can't be added or taken away.
    Key,
    /// Nothing of ours is mounted there.
    NotMounted,
    /// The mount point, FUSE, or the mount itself.
    Mount,
    /// The cache directory, or another file on this machine.
    Local,
    /// A program of this machine, such as its PostgreSQL, is not there or can't do it.
    Unfit,
    /// Interrupted before the end; what was done stays done.
    Unfinished,
    /// Something looks wrong, and nothing goes on before a person has looked.
    Held,
    /// A recovery point could not be taken, or is not good.
    Point,
    /// A channel did not take a message.
    Untold,
    /// The photos are less safe than they should be.
    Unsafe,
}

/// Every exit code there is, and what it means. The help and the manual print this list.
pub const EXIT_CODES: [(u8, &str); 13] = [
    (0, "done"),
    (1, "a bug in Haven, or something it did not foresee"),
    (2, "the command line or haven.toml can't be meant"),
    (3, "no passphrase or key, not the right one, or one that may not do this"),
    (4, "the bucket, directory, photo server or alert channel can't be reached, read or written"),
    (5, "another machine writes to the library"),
    (6, "bytes in the store are damaged, missing, or of a newer format"),
    (7, "not possible as things are: no library or recovery point there, one there already, not mounted, the last key"),
    (8, "this machine is in the way: mount point, FUSE, cache directory, a file"),
    (9, "interrupted before the end; what was done stays done"),
    (
        10,
        "something looks wrong and a person must look: a replica's source, held back deletions, an incomplete copy, an import's failures, findings of haven health",
    ),
    (11, "a recovery point could not be taken, or is not good"),
    (12, "haven health: the photos are less safe than they should be"),
];

impl Code {
    pub fn exit(self) -> u8 {
        match self {
            Self::Bug => 1,
            Self::Usage => 2,
            Self::NoSecret | Self::WrongSecret | Self::BadSecret => 3,
            Self::Store | Self::Untold => 4,
            Self::Fenced => 5,
            Self::Damaged | Self::Newer => 6,
            Self::NoLibrary
            | Self::NoCopy
            | Self::NoPoint
            | Self::Locked
            | Self::Occupied
            | Self::Key
            | Self::NotMounted => 7,
            Self::Mount | Self::Local | Self::Unfit => 8,
            Self::Unfinished => 9,
            Self::Held | Self::Incomplete => 10,
            Self::Point => 11,
            Self::Unsafe => 12,
        }
    }

    fn word(self) -> String {
        serde_json::to_value(self).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// What happened, why, what it means for the photos, what to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trouble {
    pub code: Code,
    pub what: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub meaning: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
}

/// What nearly every command says when it fails before it did anything.
pub const UNTOUCHED: &str = "nothing was changed";

impl Trouble {
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), because: Vec::new(), meaning: String::new(), next: Vec::new() }
    }

    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.because.push(why.into());
        self
    }

    /// The error and its causes, each once, as reasons.
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            if !self.because.iter().any(|told| told.contains(&text)) {
                self.because.push(text);
            }
            cause = error.source();
        }
        self
    }

    pub fn meaning(mut self, text: impl Into<String>) -> Self {
        self.meaning = text.into();
        self
    }

    pub fn next(mut self, text: impl Into<String>) -> Self {
        self.next.push(text.into());
        self
    }

    /// The whole report as text. `colour` makes the first line and the labels stand out.
    pub fn render(&self, colour: bool) -> String {
        let (bold, dim, off) = if colour { ("\x1b[1;31m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        let mut out = format!("{bold}haven:{off} {}\n", self.what);
        let mut line = |label: &str, text: &str| {
            for (n, part) in text.lines().enumerate() {
                let label = if n == 0 { label } else { "" };
                _ = writeln!(out, "  {dim}{label:<9}{off}{part}");
            }
        };
        for (n, why) in self.because.iter().enumerate() {
            line(if n == 0 { "because" } else { "" }, why);
        }
        line("meaning", &self.meaning);
        for (n, step) in self.next.iter().enumerate() {
            line(if n == 0 { "next" } else { "" }, step);
        }
        line("code", &format!("{}, exit {}", self.code.word(), self.code.exit()));
        out
    }

    /// Tells it on stderr: as JSON for scripts, as text otherwise.
    pub fn tell(&self, json: bool) {
        let text = if json {
            serde_json::json!({ "error": self, "exit": self.code.exit() }).to_string() + "\n"
        } else {
            self.render(colour(std::io::stderr().is_terminal()))
        };
        // Where stderr is closed nobody listens.
        _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// Whether what is said beside answers is read by a script.
static JSON: AtomicBool = AtomicBool::new(false);

/// From here on notes and warnings are JSON, too.
pub fn speak_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Whether they are.
pub fn speaks_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// A word to the person that is neither answer nor trouble.
pub fn note(text: impl AsRef<str>) {
    if speaks_json() {
        return json_line("note", text.as_ref());
    }
    _ = writeln!(std::io::stderr(), "haven: {}", text.as_ref());
}

/// Something that went well enough, and that should be put right.
pub fn warn(text: impl AsRef<str>) {
    if speaks_json() {
        return json_line("warning", text.as_ref());
    }
    let (on, off) = if colour(std::io::stderr().is_terminal()) { ("\x1b[33m", "\x1b[0m") } else { ("", "") };
    _ = writeln!(std::io::stderr(), "haven: {on}warning:{off} {}", text.as_ref());
}

fn json_line(what: &str, text: &str) {
    let line = serde_json::json!({ what: text }).to_string() + "\n";
    _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether colours are wanted on a stream that is a terminal or not.
pub fn colour(terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_whole_and_readable_without_colour() {
        let trouble = Trouble::new(Code::Fenced, "this machine may no longer write to the library")
            .because("host \"mini\" claimed it at 12:04")
            .meaning("the mount is now read-only")
            .next("haven claims");
        insta::assert_snapshot!(trouble.render(false), @r#"
        haven: this machine may no longer write to the library
          because  host "mini" claimed it at 12:04
          meaning  the mount is now read-only
          next     haven claims
          code     fenced, exit 5
        "#);
        assert!(trouble.render(true).contains("\x1b["));
    }

    #[test]
    fn every_exit_code_is_in_the_list() {
        let codes = [
            Code::Bug,
            Code::Usage,
            Code::BadSecret,
            Code::Store,
            Code::Fenced,
            Code::Newer,
            Code::Key,
            Code::Local,
            Code::Unfinished,
            Code::Point,
            Code::Unsafe,
        ];
        assert!(codes.iter().all(|code| EXIT_CODES.iter().any(|(exit, _)| *exit == code.exit())));
    }

    #[test]
    fn the_manual_has_the_word_of_every_code_beside_its_exit() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/book/scripts.md");
        let chapter = std::fs::read_to_string(path).unwrap();
        // What is said of a word that is none names all that are.
        let all = serde_json::from_str::<Code>("\"?\"").unwrap_err().to_string();
        let words: Vec<&str> = all.split('`').skip(3).step_by(2).collect();
        assert!(words.len() > 20, "{all}");
        for word in words {
            let code: Code = serde_json::from_value(word.into()).unwrap();
            let row =
                chapter.lines().find(|line| line.starts_with(&format!("| {} | ", code.exit()))).unwrap_or_default();
            assert!(row.contains(&format!("`{word}`")), "{word} is not in the row of {}: {row}", code.exit());
        }
    }
}
