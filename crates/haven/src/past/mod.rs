//! What is asked of a library's past, by whatever way the asker has reached it: the process of a mount, or a library
//! that a command has opened for itself. Requests and answers are the JSON of the control socket.
//! ```text
//!     {"do": "snapshot create", "name", "note", "by"}     {"do": "snapshot list", "unique": bool}
//!     {"do": "snapshot hold", …}                          see [`hold`]
//!     {"do": "snapshot show", "name"}                     {"do": "snapshot rename", "name", "to"}
//!     {"do": "snapshot remove", "names": […], "dry"}      {"do": "snapshot protect", "name", "until", "shorten"}
//!     {"do": "snapshot prune", "rules", "prefix", "dry"}  {"do": "snapshot diff", "a", "b"}
//!     {"do": "gc", "dry", "release"}
//!     {"do": "check", "read_data", "sample", "resume", "repair", "copies": [url, …]}
//! ```

mod check;
mod diff;
pub mod hold;
mod names;

use std::{sync::Arc, time::Duration};

use haven_format::{
    TxSeq,
    record::Snapshot,
    retention::{self, Item, Rules},
};
use haven_fs::{Fs, FsError};
use haven_mount::{
    Session,
    control::{Refusal, Request},
};
use haven_store::DynStore;
use haven_vault::{Vault, VaultError, collect::CollectRun};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{config::Config, words};

pub use check::Hit;
pub use diff::Difference;

/// Who takes the snapshots that recovery points are made of.
pub const POINT_MAKER: &str = "haven backup";

/// A library that is open in this process.
#[derive(Clone)]
pub struct Library {
    pub vault: Arc<Vault>,
    /// Not needed for looking at records.
    pub fs: Option<Arc<Fs>>,
    /// Where the file system is mounted.
    pub mounted: Option<Session>,
    pub config: Arc<Config>,
    /// What is not here yet is there: it is still being restored.
    pub behind: Option<DynStore>,
}

/// How long the kernel may take to hand over what it holds of written bytes: as long as the store does, when the cache is
/// full.
const GATHER: Duration = Duration::from_secs(60);

/// Returns when what programs have written is the file system's, also what the kernel was to write back later.
pub async fn gather(mounted: &Session) -> Result<(), Refusal> {
    mounted.gather(GATHER).await.map_err(|error| Refusal::new("unfinished", error.to_string()))
}

/// A snapshot as commands tell it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shown {
    pub name: String,
    /// `2026-11-23T04:46:29Z`.
    pub taken: String,
    pub taken_seconds: i64,
    pub host: String,
    pub by: String,
    pub note: String,
    /// Files, directories and links.
    pub inodes: u64,
    pub file_bytes: u64,
    /// Bytes in the bucket that removing it would free, where that was counted.
    pub unique_bytes: Option<u64>,
    /// Seconds since the Unix epoch; `None`: it is not protected.
    pub protected_until: Option<i64>,
    /// The change it was taken after.
    pub seq: u64,
}

impl Shown {
    pub(crate) fn new(name: &[u8], snapshot: &Snapshot, unique: Option<u64>) -> Self {
        let totals = snapshot.totals.unwrap_or_default();
        Self {
            name: String::from_utf8_lossy(name).into_owned(),
            taken: words::iso(snapshot.taken),
            taken_seconds: snapshot.taken.seconds,
            host: snapshot.host.clone(),
            by: snapshot.by.clone(),
            note: snapshot.note.clone(),
            inodes: totals.inodes,
            file_bytes: totals.file_bytes,
            unique_bytes: unique,
            protected_until: (snapshot.protected_until != 0).then_some(snapshot.protected_until),
            seq: snapshot.seq,
        }
    }
}

/// What a rule says of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Judged {
    pub name: String,
    pub taken: String,
    pub keep: bool,
    /// The rule that keeps it, or why it goes.
    pub why: String,
}

/// Why a request about the library was refused: the kind of trouble for programs, the text for people.
pub fn refusal(error: &VaultError) -> Refusal {
    let code = match error {
        VaultError::Refused(_) => "refused",
        VaultError::Damaged { .. } => "damaged",
        VaultError::ReadOnly { .. } | VaultError::Diverged { .. } => "fenced",
        VaultError::Copy { .. } => "copy",
        VaultError::Store(_) => "store",
        VaultError::Local { .. } => "local",
        VaultError::Need(_) => "bug",
    };
    Refusal::new(code, error.to_string())
}

pub(crate) fn fs_refusal(error: &FsError) -> Refusal {
    match error {
        FsError::Vault(error) => refusal(error),
        FsError::ReadOnly { why } => Refusal::new("refused", why.clone()),
        other => Refusal::new("bug", other.to_string()),
    }
}

fn text<'a>(request: &'a Request, name: &str) -> &'a str {
    request.with.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn value(answer: impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(answer).map_err(|error| Refusal::new("bug", error.to_string()))
}

impl Library {
    /// Whether the request is one of those answered here.
    pub fn knows(request: &Request) -> bool {
        ["gc", "check"].contains(&request.verb.as_str()) || request.verb.starts_with("snapshot ")
    }

    /// Whether what is asked for is a change of the library: a copy refuses it, and also to tell what would come of it.
    pub fn is_change(request: &Request) -> bool {
        match request.verb.as_str() {
            "snapshot list" | "snapshot show" | "snapshot diff" => false,
            "check" => request.flag("repair"),
            _ => true,
        }
    }

    /// Whether answering changes the library. Who only wants to be told takes the right to write from nobody.
    pub fn writes(request: &Request) -> bool {
        Self::is_change(request) && !request.flag("dry")
    }

    pub async fn answer(&self, request: &Request) -> Result<Value, Refusal> {
        match request.verb.as_str() {
            "snapshot create" => self.create(request).await,
            "snapshot list" => value(self.list(request.flag("unique")).await?),
            "snapshot show" => self.show(request).await,
            "snapshot rename" => {
                let (from, to) = (text(request, "name"), text(request, "to"));
                self.change(|| self.vault.rename_snapshot(from.as_bytes(), to.as_bytes())).await
            }
            "snapshot remove" => self.remove(request).await,
            "snapshot protect" => {
                let until = request.with.get("until").and_then(Value::as_i64).unwrap_or_default();
                let (name, shorten) = (text(request, "name"), request.flag("shorten"));
                let held = self.settled(|| self.vault.snapshot(name.as_bytes())).await?;
                if let Some(held) = held.filter(|held| until < held.protected_until && !shorten) {
                    let lasts = words::lasts(held.protected_until);
                    let why = format!("{name} is protected {lasts} already: only --shorten lets that end sooner");
                    return Err(Refusal::new("refused", why));
                }
                self.change(|| self.vault.protect_snapshot(name.as_bytes(), until, shorten)).await
            }
            "snapshot prune" => self.prune(request).await,
            "snapshot diff" => value(self.diff(text(request, "a"), text(request, "b")).await?),
            "check" => self.check(request).await,
            "gc" => {
                let run = CollectRun { dry: request.flag("dry"), release: request.flag("release") };
                value(self.vault.collect(run).await.map_err(|error| refusal(&error))?)
            }
            other => Err(Refusal::unknown(other)),
        }
    }

    /// Calls until nothing is missing any more.
    async fn settled<T>(&self, call: impl Fn() -> Result<T, VaultError>) -> Result<T, Refusal> {
        loop {
            match call() {
                Err(VaultError::Need(need)) => self.vault.settle(&need).await.map_err(|error| refusal(&error))?,
                other => return other.map_err(|error| refusal(&error)),
            }
        }
    }

    /// A change of records; on this machine's disk when it is answered.
    async fn change(&self, call: impl Fn() -> Result<TxSeq, VaultError>) -> Result<Value, Refusal> {
        let seq = self.settled(call).await?;
        self.durable(seq).await?;
        Ok(json!({ "seq": seq.0 }))
    }

    pub(crate) async fn durable(&self, seq: TxSeq) -> Result<(), Refusal> {
        let vault = self.vault.clone();
        let synced = tokio::task::spawn_blocking(move || vault.sync(seq)).await;
        synced.map_err(|error| Refusal::new("bug", error.to_string()))?.map_err(|error| refusal(&error))
    }

    /// Before a snapshot, and before anything stands still for it: the kernel's writes come by the way of all others.
    async fn gather(&self) -> Result<(), Refusal> {
        match &self.mounted {
            Some(mounted) => gather(mounted).await,
            None => Ok(()),
        }
    }

    async fn create(&self, request: &Request) -> Result<Value, Refusal> {
        let (name, note, by) = (text(request, "name"), text(request, "note"), text(request, "by"));
        let fs = self.fs.as_ref().ok_or_else(|| Refusal::new("bug", "no file system is open"))?;
        self.gather().await?;
        let snapshot = loop {
            let (fs, name, note, by) = (fs.clone(), name.to_owned(), note.to_owned(), by.to_owned());
            let taken = tokio::task::spawn_blocking(move || fs.snapshot(name.as_bytes(), &note, &by)).await;
            match taken.map_err(|error| Refusal::new("bug", error.to_string()))? {
                Ok(snapshot) => break snapshot,
                Err(error) => match error.need() {
                    Some(need) => self.vault.settle(need).await.map_err(|error| refusal(&error))?,
                    None => return Err(fs_refusal(&error)),
                },
            }
        };
        self.durable(TxSeq(snapshot.seq)).await?;
        value(Shown::new(name.as_bytes(), &snapshot, None))
    }

    async fn list(&self, count: bool) -> Result<Vec<Shown>, Refusal> {
        let snapshots = self.settled(|| self.vault.snapshots()).await?;
        let unique =
            if count { self.vault.unique_bytes().await.map_err(|error| refusal(&error))? } else { Default::default() };
        let shown = |(name, snapshot): &(bytes::Bytes, Snapshot)| {
            Shown::new(name, snapshot, unique.get(&TxSeq(snapshot.seq)).copied())
        };
        Ok(snapshots.iter().map(shown).collect())
    }

    async fn show(&self, request: &Request) -> Result<Value, Refusal> {
        let name = text(request, "name");
        let found = self.list(true).await?.into_iter().find(|shown| shown.name == name);
        value(found.ok_or_else(|| missing(name))?)
    }

    async fn remove(&self, request: &Request) -> Result<Value, Refusal> {
        let names = request.with.get("names").and_then(Value::as_array).cloned().unwrap_or_default();
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        // All or none: a name that is wrong stops it before anything is removed.
        for name in &names {
            let held = self.settled(|| self.vault.snapshot(name.as_bytes())).await?.ok_or_else(|| missing(name))?;
            if held.protected_until > words::now().seconds {
                return Err(Refusal::new("refused", format!("the snapshot {name} is protected, and stays")));
            }
        }
        if request.flag("dry") {
            return Ok(json!({ "removed": names }));
        }
        let mut last = self.vault.head();
        for name in &names {
            last = self.settled(|| self.vault.remove_snapshot(name.as_bytes())).await?;
        }
        self.durable(last).await?;
        Ok(json!({ "removed": names }))
    }

    async fn prune(&self, request: &Request) -> Result<Value, Refusal> {
        let rules: Rules = text(request, "rules")
            .parse()
            .map_err(|error: retention::RulesError| Refusal::new("refused", error.to_string()))?;
        let prefix = text(request, "prefix").as_bytes();
        let mut snapshots = self.settled(|| self.vault.snapshots()).await?;
        // Recovery points have rules of their own: half of one would be none.
        snapshots.retain(|(name, snapshot)| name.starts_with(prefix) && snapshot.by != POINT_MAKER);
        let item = |(name, snapshot): &'_ (bytes::Bytes, Snapshot)| -> (bytes::Bytes, haven_format::record::Time, i64) {
            (name.clone(), snapshot.taken, snapshot.protected_until)
        };
        let owned: Vec<_> = snapshots.iter().map(item).collect();
        let items: Vec<Item<'_>> = owned
            .iter()
            .map(|(name, taken, protected_until)| Item { name, taken: *taken, protected_until: *protected_until })
            .collect();
        let fates = retention::judge(&items, &rules, words::now(), &jiff::tz::TimeZone::system());
        let judged: Vec<Judged> = snapshots
            .iter()
            .zip(&fates)
            .map(|((name, snapshot), fate)| Judged {
                name: String::from_utf8_lossy(name).into_owned(),
                taken: words::iso(snapshot.taken),
                keep: fate.stays(),
                why: fate.to_string(),
            })
            .collect();
        let mut last = self.vault.head();
        for ((name, _), _) in snapshots.iter().zip(&fates).filter(|(_, fate)| !fate.stays() && !request.flag("dry")) {
            last = self.settled(|| self.vault.remove_snapshot(name)).await?;
        }
        self.durable(last).await?;
        value(judged)
    }
}

fn missing(name: &str) -> Refusal {
    Refusal::new("refused", format!("there is no snapshot called {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_wants_to_be_told_writes_nothing() {
        for verb in ["gc", "snapshot remove", "snapshot prune"] {
            let request = |dry: bool| Request::new(verb).with("dry", dry);
            assert!(Library::writes(&request(false)) && !Library::writes(&request(true)), "{verb}");
            assert!(Library::is_change(&request(true)), "{verb}");
        }
        for verb in ["snapshot list", "snapshot show", "snapshot diff", "check"] {
            assert!(!Library::is_change(&Request::new(verb)) && !Library::writes(&Request::new(verb)), "{verb}");
        }
        assert!(Library::writes(&Request::new("check").with("repair", true)));
        assert!(Library::writes(&Request::new("snapshot create")));
    }
}
