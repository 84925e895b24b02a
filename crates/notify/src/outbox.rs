//! Messages on their way, a file each, so that they survive kill -9 and power cuts.
//!
//! ```text
//!     waiting/ID.json     not told to everybody yet
//!     told/ID.json        told, with the receipts; kept for 90 days, so that the same id is never told twice
//!     lock                held by the one process that delivers
//! ```
//! Every file is written whole under another name, fsynced, and renamed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{channel::Receipt, message::Message};

/// How long what was told is remembered, milliseconds.
const REMEMBERED: i64 = 90 * 86_400_000;

#[derive(Debug, thiserror::Error)]
#[error("the outbox at {} can't be used", path.display())]
pub struct OutboxError {
    path: PathBuf,
    source: io::Error,
}

/// One way that a message takes: to a channel, and to others in its stead when that one fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Names of channels, the wanted one first.
    pub chain: Vec<String>,
    /// Which of them has its turn.
    pub turn: usize,
    /// Tries with that one.
    pub tries: u32,
    /// Not before, milliseconds since the epoch.
    pub next: i64,
    /// A try was begun, and its end is not noted yet.
    pub in_hand: bool,
    /// The last failure of each channel that failed.
    pub failures: Vec<(String, String)>,
    pub receipt: Option<Receipt>,
    /// Nobody is told this way any more.
    #[serde(default)]
    pub dropped: bool,
}

impl Delivery {
    pub fn new(chain: Vec<String>, now: i64) -> Self {
        let failures = Vec::new();
        Self { chain, turn: 0, tries: 0, next: now, in_hand: false, failures, receipt: None, dropped: false }
    }

    /// Whether there is something to do yet.
    pub fn is_open(&self) -> bool {
        self.receipt.is_none() && !self.dropped
    }
}

/// A message with the ways it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    pub message: Message,
    /// Milliseconds since the epoch.
    pub created: i64,
    pub deliveries: Vec<Delivery>,
    /// After all tries failed for two weeks: nobody was told.
    #[serde(default)]
    pub given_up: bool,
}

impl Letter {
    pub fn is_open(&self) -> bool {
        self.deliveries.iter().any(Delivery::is_open)
    }

    /// Whether somebody was told.
    pub fn is_told(&self) -> bool {
        self.deliveries.iter().any(|delivery| delivery.receipt.is_some())
    }
}

/// The directory.
#[derive(Debug, Clone)]
pub struct Outbox {
    root: PathBuf,
}

impl Outbox {
    /// Makes the directories where they are missing.
    pub fn open(root: &Path) -> Result<Self, OutboxError> {
        for name in ["waiting", "told"] {
            fs::create_dir_all(root.join(name)).map_err(|source| OutboxError { path: root.into(), source })?;
        }
        Ok(Self { root: root.into() })
    }

    fn error(&self) -> impl Fn(io::Error) -> OutboxError {
        |source| OutboxError { path: self.root.clone(), source }
    }

    fn path(&self, folder: &str, id: &str) -> PathBuf {
        self.root.join(folder).join(format!("{id}.json"))
    }

    /// Takes a letter: when this returns it is on the disk. False: one with this id was taken before.
    pub fn put(&self, letter: &Letter) -> Result<bool, OutboxError> {
        let id = &letter.message.id;
        if self.path("told", id).exists() || self.path("waiting", id).exists() {
            return Ok(false);
        }
        self.save(letter)?;
        Ok(true)
    }

    /// Notes how far a letter is.
    pub fn save(&self, letter: &Letter) -> Result<(), OutboxError> {
        let bytes = serde_json::to_vec_pretty(letter).map_err(io::Error::from).map_err(self.error())?;
        replace(&self.path("waiting", &letter.message.id), &bytes).map_err(self.error())
    }

    /// The letters that are not told yet, oldest first. A file that is no letter is passed over, and logged.
    pub fn waiting(&self) -> Result<Vec<Letter>, OutboxError> {
        self.all("waiting")
    }

    /// The letters that were told, oldest first.
    pub fn told(&self) -> Result<Vec<Letter>, OutboxError> {
        self.all("told")
    }

    fn all(&self, folder: &str) -> Result<Vec<Letter>, OutboxError> {
        let mut letters = Vec::new();
        for entry in fs::read_dir(self.root.join(folder)).map_err(self.error())? {
            let path = entry.map_err(self.error())?.path();
            if path.extension().is_none_or(|kind| kind != "json") {
                continue;
            }
            match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
                Ok(Ok(letter)) => letters.push(letter),
                Ok(Err(error)) => {
                    tracing::warn!(path = %path.display(), %error, "this is no message; it is passed over")
                }
                // Told meanwhile, by another process.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(OutboxError { path, source }),
            }
        }
        letters.sort_by_key(|letter: &Letter| letter.created);
        Ok(letters)
    }

    /// The letter with this id, wherever it is.
    pub fn find(&self, id: &str) -> Option<Letter> {
        ["told", "waiting"]
            .iter()
            .find_map(|folder| serde_json::from_slice(&fs::read(self.path(folder, id)).ok()?).ok())
    }

    /// Puts a letter that needs nothing more among those that were told.
    pub fn finish(&self, letter: &Letter) -> Result<(), OutboxError> {
        self.save(letter)?;
        let (from, to) = (self.path("waiting", &letter.message.id), self.path("told", &letter.message.id));
        fs::rename(&from, &to).map_err(self.error())?;
        for folder in ["told", "waiting"] {
            File::open(self.root.join(folder)).and_then(|folder| folder.sync_all()).map_err(self.error())?;
        }
        Ok(())
    }

    /// Forgets what was told long ago.
    pub fn forget(&self, now: i64) -> Result<(), OutboxError> {
        for letter in self.told()?.into_iter().filter(|letter| letter.created < now - REMEMBERED) {
            fs::remove_file(self.path("told", &letter.message.id)).map_err(self.error())?;
        }
        Ok(())
    }

    /// The right to deliver, until the file is dropped. `None`: another process has it.
    pub fn lock(&self) -> Result<Option<File>, OutboxError> {
        let file =
            fs::OpenOptions::new().create(true).append(true).open(self.root.join("lock")).map_err(self.error())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(self.error()(error)),
        }
    }
}

/// Writes a file whole, or leaves what was there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
