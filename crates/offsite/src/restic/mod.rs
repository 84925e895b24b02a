//! restic's format, by the real program, 0.14 or later: local, SFTP, REST server, S3 and what else it knows.
//!
//! - A snapshot has no name in this format. Ours carry the tags `haven` and `haven:NAME`; until one is whole it has the
//!   tag `haven-unfinished` instead. Snapshots without these tags are somebody else's.
//! - Whole means: the program saw no error, *and* every file of the source is in the new snapshot with its size. That is
//!   looked at here, and not taken on trust.
//! - Its own locks keep others out. A stale one (its process is gone, or it is half an hour old) is taken away by the
//!   program itself when we ask it to.

mod hit;
mod restore;
mod stream;
mod verdict;

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    About, Archive, Cancel, Count, Depth, Each, Entry, Error, Kind, Made, Passphrase, Progress, Recall, Sort, Source,
    Streamed, ThirdCopy, Wanted, Watch,
    program::{self, Said},
    quoted, tree,
};
use verdict::{Restics, judge};

const WHOLE: &str = "haven";
const UNFINISHED: &str = "haven-unfinished";
const NAME: &str = "haven:";
/// What stands for a byte of a name that is no UTF-8.
const MARK: char = '\u{fffd}';
const NO_LOCK: &str = "--no-lock";
/// Ids in one command line.
const BATCH: usize = 200;

/// How a repository is reached.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program: a name or a path.
    pub program: String,
    /// As restic names it: a directory, `sftp:user@host:/path`, `rest:https://host/`, `s3:https://host/bucket`.
    pub repository: String,
    /// The job's own directory for restic's cache; made if it is missing.
    pub base: PathBuf,
    /// Where its passphrase comes from: this format knows no repository without one.
    pub passphrase: Option<Passphrase>,
    /// More of the program's environment, such as keys for a store: names and values.
    pub environment: Vec<(String, String)>,
    /// For `sftp:`. The key to log in with, and the hosts that are known. `None`: what ssh does by itself.
    pub ssh_key: Option<PathBuf>,
    pub known_hosts: Option<PathBuf>,
    /// `auto`, `off` or `max`.
    pub compression: String,
    /// How long a lock of somebody else is waited for.
    pub lock_wait: Duration,
    /// KiB a second; 0 sets no limit.
    pub upload_kib: u64,
    pub download_kib: u64,
    /// The other side only lets snapshots be added: nothing is deleted from here.
    pub append_only: bool,
}

/// A repository of restic's.
#[derive(Debug, Clone)]
pub struct Restic {
    options: Options,
    version: String,
    recall: Recall,
    /// Ids behind names, as they were when they were looked for.
    ids: Arc<Mutex<HashMap<String, String>>>,
    /// No lock can be written here: that is tried once.
    lockless: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct Snapshot {
    id: String,
    time: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    original: Option<String>,
}

impl Snapshot {
    fn has(&self, tag: &str) -> bool {
        self.tags.iter().any(|have| have == tag)
    }

    fn name(&self) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix(NAME))
    }

    fn archive(&self) -> Result<Archive, Error> {
        let taken: Timestamp = self.time.parse().map_err(|error: jiff::Error| unreadable(error.to_string()))?;
        let (whole, unfinished) = (self.has(WHOLE), self.has(UNFINISHED));
        let name = match self.name().filter(|_| whole || unfinished) {
            Some(name) => name.to_owned(),
            None => self.id.get(..8).unwrap_or(&self.id).to_owned(),
        };
        Ok(Archive {
            id: self.id.clone(),
            name,
            taken: taken.as_second(),
            note: String::new(),
            leftover: unfinished && !whole,
            foreign: !(whole || unfinished),
        })
    }
}

fn unreadable(why: String) -> Error {
    Error::new(Kind::Other, "restic's list can't be read").because(why)
}

impl Restic {
    /// Looks whether the program is there and can be driven. The repository is not touched.
    pub fn new(options: Options) -> Result<Self, Error> {
        let missing = |why: String| Error::new(Kind::Program, format!("{} can't be run", options.program)).because(why);
        let said =
            Command::new(&options.program).arg("version").output().map_err(|error| missing(error.to_string()))?;
        let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        let version = said.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let number = [0; 2].map(|zero: u32| numbers.next().unwrap_or(zero));
        if !said.starts_with("restic ") || number < [0, 14] {
            return Err(missing(format!("it says \"{said}\"; Haven drives restic 0.14 and later")));
        }
        if options.passphrase.is_none() {
            return Err(Error::new(Kind::Passphrase, "a repository in restic's format needs a passphrase"));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.base).map_err(|error| {
            Error::new(Kind::Local, format!("{} can't be made", options.base.display())).because(error.to_string())
        })?;
        Ok(Self { options, version, recall: Recall::default(), ids: Arc::default(), lockless: Arc::default() })
    }

    fn dress(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RESTIC_") {
                command.env_remove(name);
            }
        }
        let options = &self.options;
        command
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .env("RESTIC_REPOSITORY", &options.repository)
            .env("RESTIC_CACHE_DIR", options.base.join("cache"))
            // A line a second is enough.
            .env("RESTIC_PROGRESS_FPS", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC");
        if let Some(passphrase) = &options.passphrase {
            command.env("RESTIC_PASSWORD_COMMAND", passphrase.command());
        }
    }

    fn command<S: AsRef<std::ffi::OsStr>>(&self, verb: &str, args: impl IntoIterator<Item = S>) -> Command {
        let options = &self.options;
        let mut command = Command::new(&options.program);
        for (flag, kib) in [("--limit-upload", options.upload_kib), ("--limit-download", options.download_kib)] {
            if kib > 0 {
                command.args([flag.to_owned(), kib.to_string()]);
            }
        }
        if let Some(shell) = self.shell() {
            command.args(["--option".to_owned(), format!("sftp.command={shell}")]);
        }
        command.arg(verb).args(args);
        self.dress(&mut command);
        command
    }

    /// How ssh is called, for SFTP: it never asks, and notices within half a minute that the other side is gone.
    fn shell(&self) -> Option<String> {
        let (host, port) = sftp_host(&self.options.repository)?;
        let mut line =
            "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=10 -o ServerAliveCountMax=3".to_owned();
        if let Some(key) = &self.options.ssh_key {
            line += &format!(" -o IdentitiesOnly=yes -i {}", quoted(key));
        }
        if let Some(hosts) = &self.options.known_hosts {
            let hosts = quoted(format!("UserKnownHostsFile={}", hosts.display()));
            line += &format!(" -o StrictHostKeyChecking=yes -o {hosts}");
        }
        if let Some(port) = port {
            line += &format!(" -p {port}");
        }
        Some(format!("{line} {} -s sftp", quoted(host)))
    }

    fn try_once(
        &self,
        verb: &str,
        args: &[String],
        watch: &mut Watch,
        doing: &str,
        amiss: Kind,
    ) -> Result<Said, Error> {
        let said = program::run(self.command(verb, args), Restics::default(), watch)?;
        judge(&said, doing, amiss)?;
        Ok(said)
    }

    /// Whether it only reads: then it does without a lock of its own where none may be written, with a reader's key. Should
    /// what it reads be pruned meanwhile, it fails, and says so.
    fn reads(verb: &str) -> bool {
        ["cat", "dump", "find", "ls", "restore", "snapshots", "stats"].contains(&verb)
    }

    /// Runs it; where somebody else holds the lock, again and again for as long as may be waited.
    fn run(&self, verb: &str, args: &[String], watch: &mut Watch, doing: &str, amiss: Kind) -> Result<Said, Error> {
        let since = Instant::now();
        let mut unlocked = false;
        let mut args = args.to_vec();
        if Self::reads(verb) && self.lockless.load(Relaxed) {
            args.insert(0, NO_LOCK.into());
        }
        loop {
            let error = match self.try_once(verb, &args, watch, doing, amiss) {
                Err(error) if error.kind == Kind::Locked => error,
                Err(error) if error.kind == Kind::Refused && Self::reads(verb) && !args.contains(&NO_LOCK.into()) => {
                    self.lockless.store(true, Relaxed);
                    args.insert(0, NO_LOCK.into());
                    continue;
                }
                done => return done,
            };
            if !unlocked && !self.options.append_only {
                // Takes away what nobody holds any more, and no other.
                unlocked = true;
                _ = self.try_once("unlock", &[], watch, "taking stale locks away", Kind::Other);
            } else if since.elapsed() >= self.options.lock_wait || watch.cancel.is_cancelled() {
                return Err(error);
            } else {
                std::thread::sleep(Duration::from_secs(2).min(self.options.lock_wait));
            }
        }
    }

    /// A short one, that nobody watches.
    fn ask(&self, verb: &str, args: &[String], doing: &str) -> Result<Said, Error> {
        let mut unseen = |_: &Progress| {};
        self.run(verb, args, &mut Watch { cancel: Cancel::default(), progress: &mut unseen }, doing, Kind::Other)
    }

    fn snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        let said = self.ask("snapshots", &["--json".into()], "listing the snapshots")?;
        let all: Option<Vec<Snapshot>> =
            serde_json::from_str(said.out.trim()).map_err(|error| unreadable(error.to_string()))?;
        let mut all = all.unwrap_or_default();
        // Where nothing may be deleted, the unfinished form of a whole one stays.
        let originals: Vec<String> =
            all.iter().filter(|one| one.has(WHOLE)).filter_map(|one| one.original.clone()).collect();
        all.retain(|one| !one.has(UNFINISHED) || one.has(WHOLE) || !originals.contains(&one.id));
        Ok(all)
    }

    /// The same, asked for once: each question costs the program a start.
    fn id_of(&self, name: &str) -> Result<String, Error> {
        let known = || self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let there = known().get(name).cloned();
        if let Some(id) = there {
            return Ok(id);
        }
        let id = self.find(name)?.id;
        known().insert(name.to_owned(), id.clone());
        Ok(id)
    }

    /// The id behind a name; ids, and their beginnings, are names too.
    fn find(&self, name: &str) -> Result<Snapshot, Error> {
        let mut all = self.snapshots()?;
        let named = |one: &Snapshot| one.archive().is_ok_and(|archive| archive.name == name);
        let by_id = |one: &Snapshot| name.len() >= 8 && one.id.starts_with(name);
        // The whole one, where there is a leftover of the same name.
        let at = all
            .iter()
            .position(|one| named(one) && one.has(WHOLE))
            .or_else(|| all.iter().position(named))
            .or_else(|| all.iter().position(by_id));
        match at {
            Some(at) => Ok(all.swap_remove(at)),
            None => Err(Error::new(Kind::NoArchive, format!("there is no snapshot {name}"))),
        }
    }

    fn may_delete(&self) -> Result<(), Error> {
        match self.options.append_only {
            true => Err(Error::new(Kind::Refused, "nothing is deleted from here: the repository is append-only")),
            false => Ok(()),
        }
    }

    /// Gives a snapshot the tags of a whole one: it is written anew under another id, and the old one is deleted, where
    /// that is allowed.
    fn finish(&self, id: &str, name: &str, watch: &mut Watch) -> Result<(), Error> {
        let args = ["--set", WHOLE, "--set", &format!("{NAME}{name}"), id].map(str::to_owned);
        let outcome = self.run("tag", &args, watch, "naming the snapshot", Kind::Other).map(drop);
        match outcome {
            Err(error) if self.options.append_only => {
                let there = self.snapshots()?.iter().any(|one| one.has(WHOLE) && one.name() == Some(name));
                if there { Ok(()) } else { Err(error) }
            }
            outcome => outcome,
        }
    }
}

/// User and host, and the port, of `sftp:user@host:/path` or `sftp://user@host:port/path`.
fn sftp_host(repository: &str) -> Option<(String, Option<String>)> {
    let rest = repository.strip_prefix("sftp:")?;
    let Some(rest) = rest.strip_prefix("//") else {
        return Some((rest.split_once(':').map_or(rest, |(host, _)| host).to_owned(), None));
    };
    let place = rest.split('/').next().unwrap_or(rest);
    match place.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) && !port.is_empty() => {
            Some((host.to_owned(), Some(port.to_owned())))
        }
        _ => Some((place.to_owned(), None)),
    }
}

impl ThirdCopy for Restic {
    fn version(&self) -> &str {
        &self.version
    }

    fn warnings(&self) -> &[String] {
        &[]
    }

    fn init(&self, watch: &mut Watch) -> Result<(), Error> {
        self.try_once("init", &[], watch, "making the repository", Kind::Other).map(drop)
    }

    fn create(&self, source: &Source, name: &str, watch: &mut Watch) -> Result<Made, Error> {
        let doing = "making the snapshot";
        let begun = Instant::now();
        let taken = Timestamp::from_second(source.taken).unwrap_or_else(|_| Timestamp::now());
        let args = [
            "--json".to_owned(),
            "--compression".into(),
            self.options.compression.clone(),
            "--time".into(),
            taken.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            "--tag".into(),
            format!("{UNFINISHED},{NAME}{name}"),
            ".".into(),
        ];
        // Also waits for locks, before the long work begins.
        if self.snapshots()?.iter().any(|one| one.has(WHOLE) && one.name() == Some(name)) {
            return Err(Error::new(Kind::Exists, format!("{doing}: there is one called {name} already")));
        }
        let command = program::beside(self.command("backup", &args), source, |command| self.dress(command))?;
        let said = program::run(command, Restics::default(), watch)?;
        program::shown(&said)?;
        judge(&said, doing, Kind::Incomplete)?;
        let summary = said
            .out
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["message_type"] == "summary")
            .ok_or_else(|| Error::new(Kind::Other, format!("{doing}: restic's answer has no statistics")))?;
        let id = summary["snapshot_id"].as_str().unwrap_or_default().to_owned();
        let made = self.list_of(&id)?;
        tree::same(&source.directory, source.over.as_ref(), &made, MARK)?;
        self.finish(&id, name, watch)?;
        let number = |name: &str| summary[name].as_u64().unwrap_or_default();
        Ok(Made {
            archive: name.to_owned(),
            files: number("total_files_processed"),
            original_bytes: number("total_bytes_processed"),
            compressed_bytes: 0,
            // From 0.17 on also after compression.
            new_bytes: summary["data_added_packed"].as_u64().unwrap_or_else(|| number("data_added")),
            seconds: begun.elapsed().as_secs_f64(),
            warnings: Vec::new(),
        })
    }

    fn list(&self) -> Result<Vec<Archive>, Error> {
        let mut archives = self.snapshots()?.iter().map(Snapshot::archive).collect::<Result<Vec<_>, _>>()?;
        archives.sort_by(|a, b| (a.taken, &a.name).cmp(&(b.taken, &b.name)));
        Ok(archives)
    }

    fn info(&self) -> Result<About, Error> {
        let archives = self.list()?;
        let json = |verb: &str, args: &[&str]| -> Result<Value, Error> {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            let said = self.ask(verb, &args, "looking at the repository")?;
            serde_json::from_str(said.out.trim()).map_err(|error| unreadable(error.to_string()))
        };
        let config = json("cat", &["config"])?;
        let stored = if archives.is_empty() { Value::Null } else { json("stats", &["--json", "--mode", "raw-data"])? };
        let leftovers = archives.iter().filter(|archive| archive.leftover).count();
        Ok(About {
            location: self.options.repository.clone(),
            id: config["id"].as_str().unwrap_or_default().to_owned(),
            encryption: "AES-256-CTR, Poly1305".into(),
            version: self.version.clone(),
            archives: archives.len() - leftovers,
            leftovers,
            original_bytes: 0,
            stored_bytes: stored["total_size"].as_u64().unwrap_or_default(),
            warnings: Vec::new(),
        })
    }

    fn check(&self, depth: Depth, watch: &mut Watch) -> Result<(), Error> {
        let args: &[String] = if depth == Depth::Data { &["--read-data".into()] } else { &[] };
        match self.run("check", args, watch, "checking the repository", Kind::Damaged) {
            Err(error) if error.kind == Kind::Damaged => Err(hit::told(self, error, watch)),
            outcome => outcome.map(drop),
        }
    }

    fn delete(&self, ids: &[String], watch: &mut Watch) -> Result<(), Error> {
        self.may_delete()?;
        let all = self.snapshots()?;
        // The program takes the beginning of an id, and "latest", for one as well.
        if let Some(id) = ids.iter().find(|id| !all.iter().any(|one| one.id == **id)) {
            return Err(Error::new(Kind::NoArchive, format!("there is no snapshot {id}")));
        }
        for batch in ids.chunks(BATCH) {
            self.run("forget", batch, watch, "deleting snapshots", Kind::Other)?;
        }
        Ok(())
    }

    fn compact(&self, watch: &mut Watch) -> Result<(), Error> {
        self.may_delete()?;
        self.run("prune", &[], watch, "making the space of deleted snapshots free", Kind::Other).map(drop)
    }

    fn entries(&self, archive: &str) -> Result<Arc<Vec<Entry>>, Error> {
        self.recall.or(archive, || self.list_of(&self.id_of(archive)?))
    }

    fn restore(&self, wanted: &Wanted, to: &std::path::Path, watch: &mut Watch) -> Result<Count, Error> {
        restore::run(self, wanted, false, to, watch)
    }

    fn go_on(&self, wanted: &Wanted, to: &std::path::Path, watch: &mut Watch) -> Result<Count, Error> {
        restore::run(self, wanted, true, to, watch)
    }

    fn stream(&self, wanted: &Wanted, each: &Each, watch: &mut Watch) -> Result<Streamed, Error> {
        stream::run(self, wanted, each, watch)
    }
}

impl Restic {
    /// What is in the snapshot with this id. Names that are no UTF-8 are told with U+FFFD for what can't be.
    fn list_of(&self, id: &str) -> Result<Vec<Entry>, Error> {
        #[derive(Deserialize)]
        struct Node {
            #[serde(rename = "type")]
            sort: Option<String>,
            #[serde(default)]
            path: String,
            #[serde(default)]
            size: u64,
            #[serde(default)]
            mtime: String,
        }
        let said = self.ask("ls", &["--json".into(), id.to_owned()], "reading the snapshot")?;
        let mut entries = Vec::new();
        for line in said.out.lines().filter(|line| !line.is_empty()) {
            let node: Node = serde_json::from_str(line).map_err(|error| unreadable(error.to_string()))?;
            let Some(sort) = node.sort else { continue };
            let sort = match sort.as_str() {
                "file" => Sort::File,
                "dir" => Sort::Directory,
                _ => Sort::Other,
            };
            let size = if sort == Sort::File { node.size } else { 0 };
            let path = node.path.trim_matches('/').as_bytes().to_vec();
            let modified = node.mtime.parse::<Timestamp>().ok().map(Timestamp::as_nanosecond);
            entries.push(Entry { path, sort, size, modified, target: Vec::new() });
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_sftp_place_is_found_in_both_ways_of_writing_it() {
        let some = |host: &str, port: Option<&str>| Some((host.to_owned(), port.map(str::to_owned)));
        assert_eq!(sftp_host("sftp:me@nas:/srv/x"), some("me@nas", None));
        assert_eq!(sftp_host("sftp://me@nas:2222//srv/x"), some("me@nas", Some("2222")));
        assert_eq!(sftp_host("sftp://nas/srv"), some("nas", None));
        assert_eq!(sftp_host("/srv/sftp:x"), None);
    }
}
