//! The library in a store: found by its configuration, unlocked, and its keys written back.

use std::{fmt::Display, path::Path};

use haven_format::{
    FormatError, LibraryId, Nonce,
    config::{ConfigError, LockedConfig, OpenConfig},
    keys::Secret,
    layout,
};
use haven_store::{DynStore, ObjectName, OpenError, PutMode, Stack, StoreError, StoreOptions};

use crate::{
    config::Config,
    replicas::Place,
    report::{self, Code, Trouble, UNTOUCHED},
    words,
};

/// What whoever begins is told where nothing is. For who has lost a library it is the worst advice there is:
/// `Origin::unopened` takes it back.
pub const TO_BEGIN: [&str; 2] =
    ["check the URL; haven init makes a library there", "make the bucket or directory, or correct the URL"];

/// How many copies of a configuration are written: the one object without which nothing opens.
const COPIES: usize = 2;

/// Opens the store at `url` for a command: tries for a while, says so, and gives up in the end.
pub fn open_store(url: &str, options: &StoreOptions) -> Result<Stack, Trouble> {
    let stack = haven_store::open_stack(url, options).map_err(|error| cannot_open(&error))?;
    let mut trouble = stack.trouble.clone();
    let patience = haven_store::human::show_duration(options.retry.patience);
    tokio::spawn(async move {
        let Ok(found) = trouble.wait_for(Option::is_some).await else { return };
        if let Some(found) = &*found {
            report::note(format!("{}; trying again for up to {patience}", found.last));
        }
    });
    Ok(stack)
}

/// The same, of what somebody named.
pub fn open_place(place: &Place) -> Result<Stack, Trouble> {
    open_store(&place.url, &place.store)
}

fn cannot_open(error: &OpenError) -> Trouble {
    let code = if matches!(error, OpenError::Store { .. }) { Code::Store } else { Code::Usage };
    Trouble::new(code, error.to_string()).meaning(error.meaning()).next(error.next())
}

/// A verb failed. `what` could not be done.
pub fn store_trouble(what: impl Display, error: &StoreError) -> Trouble {
    let next = match error {
        StoreError::NoBucket { .. } => TO_BEGIN[1],
        StoreError::Denied { .. } => {
            "give these credentials, or this user, the right to read, write, list and delete there"
        }
        StoreError::Unauthorized { .. } => {
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or [store.s3.credentials]), the region, and this machine's clock; for SFTP and WebDAV what [store.sftp] or [store.webdav] says"
        }
        StoreError::Untrusted { .. } => {
            "ask the server's owner for its key's fingerprint before you do what the message says"
        }
        StoreError::Full { .. } => "make room or raise the quota",
        StoreError::Unavailable { .. } => "check the endpoint and the network, then try again",
        StoreError::Garbled { .. } => "check that the URL leads to the server and not to a proxy or a login page",
        StoreError::NotFound { .. }
        | StoreError::Exists { .. }
        | StoreError::Changed { .. }
        | StoreError::Unsupported { .. } => "try again; `haven doctor` tells what the store can do",
    };
    Trouble::new(Code::Store, format!("{what}")).because(error.to_string()).next(next)
}

/// A copy of the library to mend from, or why it can't be asked: one that is away is not one that lacks something.
pub async fn copy_at(named: &str, library: LibraryId, config: &Config) -> Result<DynStore, String> {
    let cannot = |why: String| format!("the copy {named} can't be asked: {why}");
    let told = |trouble: Trouble| cannot([vec![trouble.what], trouble.because].concat().join(": "));
    let store = open_place(&config.place(named)).map_err(told)?.store;
    match find(&store).await {
        Ok(found) if found.locked().library() != library => Err(cannot("it is of another library".into())),
        // What else it has may be whole.
        Err(trouble) if trouble.code != Code::Damaged => Err(told(trouble)),
        _ => Ok(store),
    }
}

/// The trouble that such a copy is.
pub fn copy_trouble(what: impl Into<String>) -> Trouble {
    Trouble::new(Code::Store, what)
        .meaning("whether it has what is damaged is not known: nothing was given up for lost because of it")
        .next("see to that copy (is its disk mounted, is the URL right, does it answer?), then run this again")
}

/// The configurations of a library, as found.
#[derive(Debug)]
pub struct Found {
    /// Readable ones, the one in force first.
    readable: Vec<LockedConfig>,
    /// Names and faults of the others.
    damaged: Vec<(String, ConfigError)>,
    /// All names, oldest first.
    names: Vec<String>,
}

fn object(name: &str) -> ObjectName {
    ObjectName::new(name).expect("the layout makes valid names")
}

/// All names below `prefix`.
pub async fn list_all(store: &DynStore, prefix: &str) -> Result<Vec<String>, StoreError> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let page = store.list(prefix, names.last().map(String::as_str), 1000).await?;
        names.extend(page.objects.into_iter().map(|object| object.name.as_str().to_owned()));
        if !page.more {
            return Ok(names);
        }
    }
}

async fn config_names(store: &DynStore) -> Result<Vec<String>, Trouble> {
    let names = list_all(store, layout::CONFIGS)
        .await
        .map_err(|error| store_trouble(format!("{} can't be read", store.describe()), &error).meaning(UNTOUCHED))?;
    Ok(names.into_iter().filter(|name| layout::parse_config(name).is_some()).collect())
}

/// Looks for the library in `store`.
pub async fn find(store: &DynStore) -> Result<Found, Trouble> {
    let names = config_names(store).await?;
    if names.is_empty() {
        return Err(no_library(store).await);
    }
    let mut found = Found { readable: Vec::new(), damaged: Vec::new(), names };
    // Newest first; older ones are looked at only where the newer are of no use.
    for name in found.names.iter().rev() {
        let seq = |name: &str| layout::parse_config(name).map(|(seq, _)| seq);
        let enough = found.readable.first().is_some_and(|config| Some(config.content().seq) != seq(name));
        if enough {
            break;
        }
        let body = match store.get(&object(name)).await {
            Ok(body) => body,
            Err(StoreError::NotFound { .. }) => continue,
            Err(error) => return Err(store_trouble(format!("{name} can't be read"), &error).meaning(UNTOUCHED)),
        };
        match LockedConfig::parse(name, &body) {
            Ok(config) => found.readable.push(config),
            Err(error @ ConfigError::Format(FormatError::Newer { .. })) => return Err(newer(&error)),
            Err(error) => found.damaged.push((name.clone(), error)),
        }
    }
    for (name, error) in &found.damaged {
        report::warn(format!("{name} is of no use: {error}"));
    }
    if found.readable.is_empty() {
        let mut trouble = Trouble::new(Code::Damaged, "the library's configuration can't be read")
            .meaning("the photos may be whole, but without a configuration object nothing can be opened")
            .next("fetch an older version or a copy of cfg/… from a backup or the store's own versioning, and put it back");
        trouble.because = found.damaged.iter().map(|(name, error)| format!("{name}: {error}")).collect();
        return Err(trouble);
    }
    Ok(found)
}

async fn no_library(store: &DynStore) -> Trouble {
    let trouble =
        Trouble::new(Code::NoLibrary, format!("there is no library at {}", store.describe())).meaning(UNTOUCHED);
    match store.list("", None, 1).await.ok().and_then(|page| page.objects.into_iter().next()) {
        Some(other) => trouble
            .because(format!("there are other objects, {} for one", other.name))
            .next("check the prefix in the URL"),
        None => trouble.because("nothing is there").next(TO_BEGIN[0]),
    }
}

fn newer(error: &ConfigError) -> Trouble {
    Trouble::new(Code::Newer, "a newer version of Haven wrote this library")
        .because(error.to_string())
        .meaning("nothing was opened and nothing was changed; the library is as whole as it was")
        .next("install the newer Haven here too")
}

impl Found {
    /// The configuration in force. Not yet believed.
    pub fn locked(&self) -> &LockedConfig {
        &self.readable[0]
    }

    /// Unlocks the library. Where a copy turns out to be forged, the next is tried.
    pub fn unlock(&self, secret: &Secret) -> Result<OpenConfig, Trouble> {
        let mut last = None;
        for config in &self.readable {
            match config.unlock(secret) {
                Ok(open) => return Ok(open),
                Err(ConfigError::Forged) => last = Some(ConfigError::Forged),
                Err(error) => return Err(locked_out(&error)),
            }
        }
        Err(locked_out(&last.unwrap_or(ConfigError::Damaged)))
    }
}

fn locked_out(error: &ConfigError) -> Trouble {
    let trouble = |code: Code| Trouble::new(code, error.to_string());
    let untouched = "the library is untouched, and nothing was opened";
    match error {
        ConfigError::Wrong { .. } => {
            Trouble::new(Code::WrongSecret, error.to_string().split(" (").next().unwrap_or_default())
                .meaning(untouched)
                .next("check for another keyboard layout, a blank at an end, or the passphrase of another library")
                .next("`haven key list` shows which keys there are; the recovery key opens it too: --recovery-words FILE")
        }
        ConfigError::NoSlot { .. } => trouble(Code::WrongSecret)
            .meaning(untouched)
            .next("`haven key list` shows which keys there are"),
        ConfigError::Forged | ConfigError::Cost(_) => trouble(Code::Damaged)
            .meaning("somebody who can write to the store tampered with it; nothing was opened, and nothing in it is believed")
            .next("put cfg/… back from a backup or the store's versioning, and find out who has write access"),
        _ => trouble(Code::Damaged).meaning(untouched),
    }
}

/// Refuses to make a library where anything is.
pub async fn ensure_empty(store: &DynStore, url: &str) -> Result<(), Trouble> {
    let names = config_names(store).await?;
    if let Some(name) = names.last() {
        let trouble = Trouble::new(Code::Occupied, format!("{} already holds a library", store.describe()))
            .meaning("it is untouched; a second init would make its photos unreadable")
            .next(format!("use it: haven mount {url} FOLDER"))
            .next("or choose another bucket or prefix for a new one");
        let body = store.get(&object(name)).await.ok();
        return Err(match body.map(|body| LockedConfig::parse(name, &body)) {
            Some(Ok(config)) => {
                let made = words::day(config.content().created);
                trouble.because(format!("library {}, made on {made}", config.library()))
            }
            Some(Err(error)) => trouble.because(format!("{name}: {error}")),
            None => trouble,
        });
    }
    let list = store.list("", None, 1).await;
    let list = list.map_err(|error| store_trouble(format!("{} can't be listed", store.describe()), &error))?;
    let other = list.objects.into_iter().next().map(|object| object.name.to_string());
    match other.or_else(|| file_in(url)) {
        Some(other) => Err(Trouble::new(
            Code::Occupied,
            format!("{} is not empty, and what is there is not Haven's", store.describe()),
        )
        .because(format!("it holds {other}"))
        .meaning("nothing was changed; a library shares its place with nobody")
        .next("choose an empty directory or bucket, or a prefix of its own: s3://bucket/haven")),
        None => Ok(()),
    }
}

/// In a directory there may be files that could never be objects' names: the store does not list them.
fn file_in(url: &str) -> Option<String> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    let mut entries = std::fs::read_dir(Path::new(path)).ok()?.filter_map(Result::ok);
    let ours = |name: &std::ffi::OsStr| name == "~tmp" || name == "lost+found";
    entries.find(|entry| !ours(&entry.file_name())).map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// Writes `open` to the store: copies of one state, read back, and no rival beside them.
pub async fn write(store: &DynStore, open: &OpenConfig) -> Result<Vec<String>, Trouble> {
    let mut written = Vec::new();
    for _ in 0..COPIES {
        let mut nonce = [0; 8];
        dice(&mut nonce);
        let (name, body) = open.seal(Nonce(nonce));
        let body = bytes::Bytes::from(body);
        let cannot = |what: &str, error: &StoreError| {
            store_trouble(format!("the configuration can't be {what} {}", store.describe()), error)
                .meaning("the keys are as they were, unless an object of cfg/ was written before this")
        };
        store
            .put(&object(&name), body.clone(), PutMode::IfAbsent)
            .await
            .map_err(|error| cannot("written to", &error))?;
        let back = store.get(&object(&name)).await.map_err(|error| cannot("read back from", &error))?;
        if back != body {
            return Err(Trouble::new(
                Code::Store,
                format!("{} gave back other bytes than were written", store.describe()),
            )
            .meaning("a library is not safe there")
            .next("haven doctor"));
        }
        written.push(name);
    }
    let names = config_names(store).await?;
    let seq = open.content().seq;
    let rival =
        names.iter().find(|name| layout::parse_config(name).is_some_and(|(s, _)| s >= seq) && !written.contains(name));
    if let Some(rival) = rival {
        for name in &written {
            // Whoever is left is asked again below; what can't be deleted is told.
            store
                .delete(&object(name))
                .await
                .map_err(|error| store_trouble(format!("{name} can't be deleted"), &error))?;
        }
        return Err(Trouble::new(Code::Key, "another machine wrote a configuration at the same moment")
            .because(format!("{rival} appeared beside ours"))
            .meaning("ours was taken back")
            .next("see what is there now (haven key list), then try again"));
    }
    Ok(written)
}

/// Deletes the configurations before `open`: they still let in whom a later one locks out.
pub async fn delete_older(store: &DynStore, found: &Found, open: &OpenConfig) {
    let older = |name: &&String| layout::parse_config(name).is_some_and(|(seq, _)| seq < open.content().seq);
    for name in found.names.iter().filter(older) {
        if let Err(error) = store.delete(&object(name)).await {
            report::warn(format!("{name} still lets in what was taken away, and can't be deleted: {error}"));
        }
    }
}

/// Randomness from the operating system.
pub fn dice(out: &mut [u8]) {
    use rand::TryRngCore;
    rand::rngs::OsRng.try_fill_bytes(out).expect("the operating system gives randomness");
}
