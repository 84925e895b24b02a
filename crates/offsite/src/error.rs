//! What can go wrong with a third copy: what happened, what it means for the photos, what to do.

use std::fmt;

use serde::Serialize;

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The program is not installed, or of a version that can't be driven.
    Program,
    /// No repository is there.
    NoRepository,
    /// A repository, or an archive of that name, is there already.
    Exists,
    /// No archive is called so, or it has no such path.
    NoArchive,
    /// The passphrase does not open the repository, or can't be read.
    Passphrase,
    /// Somebody else works on it, or a stale lock is left.
    Locked,
    /// The machine with the repository can't be reached, or was lost on the way.
    Connection,
    /// The other machine does not allow it.
    Refused,
    /// No space is left where the repository is, or on this machine.
    Full,
    /// The archive was made and is not whole.
    Incomplete,
    /// Not everything that was wanted came back.
    NotRestored,
    /// The repository is damaged.
    Damaged,
    /// It was asked to end.
    Cancelled,
    /// The library can't be shown to the program at its one place.
    Unshown,
    /// A file or directory of this machine is in the way.
    Local,
    /// Anything else that the program said.
    Other,
}

/// Why something was not done.
#[derive(Debug, Clone)]
pub struct Error {
    pub kind: Kind,
    /// What happened.
    pub what: String,
    /// What the program said, and other reasons.
    pub because: Vec<String>,
    /// Of [`Kind::Damaged`]: what can't come back, as far as it was asked for and can be told.
    pub hit: Vec<Hit>,
    /// Every word of the program, for who reads more from them.
    pub(crate) said: Vec<String>,
}

/// What a damaged repository can't give back whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// From the archive's root on; a folder whose list is damaged, and with it everything in it, ends with `/`. Empty: some
    /// folder, and it can't be told which.
    pub path: String,
    /// In which archives.
    pub archives: Vec<String>,
}

impl Error {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), because: Vec::new(), hit: Vec::new(), said: Vec::new() }
    }

    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.because.push(why.into());
        self
    }

    /// What it means for the photos.
    pub fn meaning(&self) -> &'static str {
        match self.kind {
            Kind::Incomplete => "the new archive misses files and is not counted as a copy; earlier ones are untouched",
            Kind::NotRestored => "what came back stays where it was put; the archive was not touched",
            Kind::Damaged => "some archives may not come back whole; the library itself is untouched",
            Kind::Cancelled | Kind::Connection | Kind::Full => {
                "no new copy was made; what was sent already is found again by the next run"
            }
            _ => "no new copy was made, and nothing was deleted; the library is untouched",
        }
    }

    /// What to do. `name` is what the copy is called.
    pub fn next(&self, name: &str) -> String {
        match self.kind {
            Kind::Program => {
                "install borg 1.2.6 or later, or name it: program in the copy's table of haven.toml".into()
            }
            Kind::NoRepository => format!("correct `repository`, or make one: haven copy init {name}"),
            Kind::Exists => "what is there stays as it is; name another place, or go on with this one".into(),
            Kind::NoArchive => format!("haven copy list {name}    tells which there are"),
            Kind::Passphrase => format!("correct passphrase_file of copy.{name} in haven.toml"),
            Kind::Locked => {
                "wait for the other run to end; if there is none, `borg break-lock` takes a stale lock away".into()
            }
            Kind::Connection => "look whether the machine is up and knows the key, then run it again".into(),
            Kind::Refused => "do it on the machine that has the repository; this key may only add to it".into(),
            Kind::Full => format!("make room there, or keep less: haven copy prune {name}"),
            Kind::Incomplete => "put right what is named above, then run it again".into(),
            Kind::NotRestored => format!(
                "put right what is named above, then restore again; haven copy check {name} tells whether the archive is whole"
            ),
            Kind::Damaged => format!("make a new repository beside it and run once: haven copy init {name}"),
            Kind::Cancelled => format!("haven copy run {name}    goes on"),
            Kind::Unshown => {
                "a service of systemd needs RestrictNamespaces=mnt for it, and unshare and mount (util-linux) in its \
                              PATH: haven setup systemd writes it so, then systemctl daemon-reload and a restart"
                    .into()
            }
            Kind::Local => "put right what is named above, then run it again".into(),
            Kind::Other => "what the program said is above; its manual knows more".into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.because.iter().try_for_each(|why| write!(f, "; {why}"))
    }
}

impl std::error::Error for Error {}
