//! Borg 1.2 to 1.4, the real program, on this machine or over SSH.
//!
//! - An archive is called `NAME.failed` until it is whole, then renamed; `NAME.2.failed` and so on, where a run before has
//!   left one that is called so. What that has sent is not sent again.
//! - Its directory of cache, keys and security notes belongs to one job: two jobs would throw each other's memory away.
//! - Files are known again by ctime, size and inode under an absolute path: hence the one fixed place.
//! - Times are told in UTC, whatever the machine's zone.

mod entries;
mod extract;
mod stream;
mod talk;
mod verdict;

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::Value;

use crate::{
    About, Archive, Cancel, Count, Depth, Each, Entry, Error, Kind, Made, Progress, Source, Streamed, ThirdCopy,
    Wanted, Watch,
};
use talk::run;
use verdict::judge;

use crate::{
    Passphrase, Recall,
    program::{self, Said},
    quoted,
};

/// What an archive's name ends with until it is whole.
const UNFINISHED: &str = ".failed";
/// How often another name is tried for an archive that is not whole yet.
const TRIES: u32 = 20;
/// Names in one command line.
const BATCH: usize = 200;

/// How a repository is reached.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program: a name or a path.
    pub program: String,
    /// A directory, or `ssh://user@host[:port]/path`.
    pub repository: String,
    /// The job's own directory for borg's cache and notes; made if it is missing.
    pub base: PathBuf,
    /// Where its passphrase comes from; `None` for a repository without one.
    pub passphrase: Option<Passphrase>,
    /// More of the program's environment: names and values.
    pub environment: Vec<(String, String)>,
    /// Where the key of a `keyfile` repository is.
    pub key_file: Option<PathBuf>,
    /// The key to log in with, and the hosts that are known. `None`: what ssh does by itself.
    pub ssh_key: Option<PathBuf>,
    pub known_hosts: Option<PathBuf>,
    /// What borg is called on the other machine.
    pub remote_program: Option<String>,
    /// For a new repository: `repokey-blake2` and so on.
    pub encryption: String,
    /// `auto,zstd`, `none`, ...
    pub compression: String,
    /// How long a lock of somebody else is waited for.
    pub lock_wait: Duration,
    /// How often a long run makes what it has sent known to the next one.
    pub checkpoint_every: Duration,
    /// KiB a second; 0 sets no limit.
    pub upload_kib: u64,
    pub download_kib: u64,
    /// The other side only lets archives be added: nothing is deleted from here.
    pub append_only: bool,
}

/// A repository of Borg's.
#[derive(Debug, Clone)]
pub struct Borg {
    options: Options,
    version: String,
    warnings: Vec<String>,
    recall: Recall,
}

impl Borg {
    /// Looks whether the program is there and can be driven. The repository is not touched.
    pub fn new(options: Options) -> Result<Self, Error> {
        let missing = |why: String| Error::new(Kind::Program, format!("{} can't be run", options.program)).because(why);
        let said =
            Command::new(&options.program).arg("--version").output().map_err(|error| missing(error.to_string()))?;
        let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        let version = said.rsplit(' ').next().unwrap_or_default().to_owned();
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let three = [0; 3].map(|zero: u32| numbers.next().unwrap_or(zero));
        if !([1, 2, 0]..[2, 0, 0]).contains(&three) {
            return Err(missing(format!("it says \"{said}\"; Haven drives borg 1.2 to 1.4")));
        }
        let mut warnings = Vec::new();
        if three < [1, 2, 6] {
            warnings.push(format!(
                "borg {version} may take forged archives for true ones (CVE-2023-36811): 1.2.6 and later don't"
            ));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.base).map_err(|error| {
            Error::new(Kind::Local, format!("{} can't be made", options.base.display())).because(error.to_string())
        })?;
        Ok(Self { options, version, warnings, recall: Recall::default() })
    }

    fn archive(&self, name: &str) -> String {
        format!("{}::{name}", self.options.repository)
    }

    /// The environment, and what stands before every verb.
    fn dress(&self, command: &mut Command) {
        let options = &self.options;
        let inherited: Vec<_> =
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BORG_")).collect();
        for (name, _) in inherited {
            command.env_remove(name);
        }
        command
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .env("BORG_BASE_DIR", &options.base)
            .env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "no")
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", if options.passphrase.is_some() { "no" } else { "yes" })
            .env("BORG_EXIT_CODES", "modern")
            .env("BORG_RSH", self.shell())
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC");
        match &options.passphrase {
            Some(passphrase) => command.env("BORG_PASSCOMMAND", passphrase.command()),
            // Never asks: a repository that wants one says so.
            None => command.env("BORG_PASSPHRASE", ""),
        };
        if let Some(file) = &options.key_file {
            command.env("BORG_KEY_FILE", file);
        }
        if let Some(program) = &options.remote_program {
            command.env("BORG_REMOTE_PATH", program);
        }
    }

    /// How ssh is called: it never asks, and notices within half a minute that the other side is gone.
    fn shell(&self) -> String {
        let mut line =
            "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=10 -o ServerAliveCountMax=3".to_owned();
        if let Some(key) = &self.options.ssh_key {
            line += &format!(" -o IdentitiesOnly=yes -i {}", quoted(key));
        }
        if let Some(hosts) = &self.options.known_hosts {
            line += &format!(
                " -o StrictHostKeyChecking=yes -o {}",
                quoted(format!("UserKnownHostsFile={}", hosts.display()))
            );
        }
        line
    }

    fn words(&self, verb: &str) -> Vec<String> {
        let options = &self.options;
        let mut words = vec!["--log-json".to_owned(), "--lock-wait".into(), options.lock_wait.as_secs().to_string()];
        for (flag, kib) in [("--upload-ratelimit", options.upload_kib), ("--download-ratelimit", options.download_kib)]
        {
            if kib > 0 {
                words.extend([flag.to_owned(), kib.to_string()]);
            }
        }
        words.push(verb.to_owned());
        words
    }

    fn command<S: AsRef<OsStr>>(&self, verb: &str, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.options.program);
        command.args(self.words(verb)).args(args);
        self.dress(&mut command);
        command
    }

    /// A short one, that nobody watches.
    fn ask(&self, verb: &str, args: &[&str], doing: &str) -> Result<Said, Error> {
        let mut unseen = |_: &Progress| {};
        let said = run(self.command(verb, args), &mut Watch { cancel: Cancel::default(), progress: &mut unseen })?;
        judge(&said, doing, Kind::Other)?;
        Ok(said)
    }

    fn may_delete(&self) -> Result<(), Error> {
        match self.options.append_only {
            true => Err(Error::new(Kind::Refused, "nothing is deleted from here: the repository is append-only")),
            false => Ok(()),
        }
    }

    /// `create`, in the directory that is copied, or at the fixed place where nobody but borg sees it.
    fn creating(&self, source: &Source, unfinished: &str) -> Result<Command, Error> {
        let taken = Timestamp::from_second(source.taken).unwrap_or_else(|_| Timestamp::now());
        let args = [
            "--json".to_owned(),
            "--progress".into(),
            "--checkpoint-interval".into(),
            self.options.checkpoint_every.as_secs().max(1).to_string(),
            "--compression".into(),
            self.options.compression.clone(),
            "--files-cache".into(),
            "ctime,size,inode".into(),
            "--timestamp".into(),
            taken.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            "--comment".into(),
            source.note.clone(),
            self.archive(unfinished),
            ".".into(),
        ];
        program::beside(self.command("create", args), source, |command| self.dress(command))
    }
}

impl ThirdCopy for Borg {
    fn version(&self) -> &str {
        &self.version
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn init(&self, watch: &mut Watch) -> Result<(), Error> {
        let mut args = vec!["--encryption", self.options.encryption.as_str()];
        if self.options.append_only {
            args.push("--append-only");
        }
        args.push(&self.options.repository);
        if !self.options.repository.contains(':') {
            args.insert(0, "--make-parent-dirs");
        }
        let mut command = self.command("init", args);
        // Only said once, to who sets it: a question on the terminal would wait for ever.
        command.env("BORG_DISPLAY_PASSPHRASE", "no");
        judge(&run(command, watch)?, "making the repository", Kind::Other).map(drop)
    }

    fn create(&self, source: &Source, name: &str, watch: &mut Watch) -> Result<Made, Error> {
        let doing = "making the archive";
        let mut unfinished = format!("{name}{UNFINISHED}");
        let mut next = 2..=TRIES;
        let (said, mut warnings) = loop {
            let said = run(self.creating(source, &unfinished)?, watch)?;
            program::shown(&said)?;
            match (judge(&said, doing, Kind::Incomplete), next.next()) {
                (Err(error), Some(n)) if error.kind == Kind::Exists => unfinished = format!("{name}.{n}{UNFINISHED}"),
                (outcome, _) => break (said, outcome?),
            }
        };
        let answer: Value = serde_json::from_str(&said.out).map_err(|error| {
            Error::new(Kind::Other, format!("{doing}: borg's answer can't be read")).because(error.to_string())
        })?;
        let stat = |name: &str| answer.pointer(&format!("/archive/stats/{name}")).and_then(Value::as_u64);
        let Some(files) = stat("nfiles") else {
            return Err(Error::new(Kind::Other, format!("{doing}: borg's answer has no statistics")));
        };
        self.ask("rename", &[&self.archive(&unfinished), name], "naming the archive")?;
        warnings.extend(self.warnings.iter().cloned());
        Ok(Made {
            archive: name.to_owned(),
            files,
            original_bytes: stat("original_size").unwrap_or_default(),
            compressed_bytes: stat("compressed_size").unwrap_or_default(),
            new_bytes: stat("deduplicated_size").unwrap_or_default(),
            seconds: answer.pointer("/archive/duration").and_then(Value::as_f64).unwrap_or_default(),
            warnings,
        })
    }

    fn list(&self) -> Result<Vec<Archive>, Error> {
        let args = ["--json", "--consider-checkpoints", "--format", "{name}{comment}{time}", &self.options.repository];
        let said = self.ask("list", &args, "listing the archives")?;
        let unreadable = |why: String| Error::new(Kind::Other, "borg's list can't be read").because(why);
        let answer: Value = serde_json::from_str(&said.out).map_err(|error| unreadable(error.to_string()))?;
        let archives = answer["archives"].as_array().ok_or_else(|| unreadable("it has no archives".into()))?;
        let mut archives = archives
            .iter()
            .map(|archive| {
                let name = archive["name"].as_str().ok_or_else(|| unreadable("an archive has no name".into()))?;
                let time = archive["time"].as_str().or(archive["start"].as_str()).unwrap_or_default();
                let taken = moment(time).ok_or_else(|| unreadable(format!("{name} is of \"{time}\"")))?.as_second();
                let note = archive["comment"].as_str().unwrap_or_default().to_owned();
                let name = name.to_owned();
                Ok(Archive { id: name.clone(), leftover: is_leftover(&name), name, taken, note, foreign: false })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        archives.sort_by(|a, b| (a.taken, &a.name).cmp(&(b.taken, &b.name)));
        Ok(archives)
    }

    fn info(&self) -> Result<About, Error> {
        let said = self.ask("info", &["--json", &self.options.repository], "looking at the repository")?;
        let answer: Value = serde_json::from_str(&said.out)
            .map_err(|error| Error::new(Kind::Other, "borg's answer can't be read").because(error.to_string()))?;
        let text = |at: &str| answer.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |at: &str| answer.pointer(at).and_then(Value::as_u64).unwrap_or_default();
        let archives = self.list()?;
        let leftovers = archives.iter().filter(|archive| archive.leftover).count();
        Ok(About {
            location: text("/repository/location"),
            id: text("/repository/id"),
            encryption: text("/encryption/mode"),
            version: self.version.clone(),
            archives: archives.len() - leftovers,
            leftovers,
            original_bytes: number("/cache/stats/total_size"),
            stored_bytes: number("/cache/stats/unique_csize"),
            warnings: self.warnings.clone(),
        })
    }

    fn check(&self, depth: Depth, watch: &mut Watch) -> Result<(), Error> {
        let mut args = vec!["--progress"];
        if depth == Depth::Data {
            args.push("--verify-data");
        }
        args.push(&self.options.repository);
        judge(&run(self.command("check", args), watch)?, "checking the repository", Kind::Damaged).map(drop)
    }

    fn delete(&self, ids: &[String], watch: &mut Watch) -> Result<(), Error> {
        self.may_delete()?;
        for batch in ids.chunks(BATCH) {
            let args = [&self.options.repository].into_iter().chain(batch);
            judge(&run(self.command("delete", args), watch)?, "deleting archives", Kind::Other)?;
        }
        Ok(())
    }

    fn compact(&self, watch: &mut Watch) -> Result<(), Error> {
        self.may_delete()?;
        let said = run(self.command("compact", ["--progress", &self.options.repository]), watch)?;
        judge(&said, "making the space of deleted archives free", Kind::Other).map(drop)
    }

    fn entries(&self, archive: &str) -> Result<Arc<Vec<Entry>>, Error> {
        let args = ["--json-lines", "--format", "{type}{size}{path}{linktarget}{isomtime}", &self.archive(archive)];
        self.recall.or(archive, || entries::read(&self.ask("list", &args, "reading the archive")?.out))
    }

    fn restore(&self, wanted: &Wanted, to: &Path, watch: &mut Watch) -> Result<Count, Error> {
        extract::run(self, wanted, false, to, watch)
    }

    fn go_on(&self, wanted: &Wanted, to: &Path, watch: &mut Watch) -> Result<Count, Error> {
        extract::run(self, wanted, true, to, watch)
    }

    fn stream(&self, wanted: &Wanted, each: &Each, watch: &mut Watch) -> Result<Streamed, Error> {
        stream::run(self, wanted, each, watch)
    }
}

/// Left by a run that did not end well: under the name we give it till then, or borg's own.
fn is_leftover(name: &str) -> bool {
    let checkpoint = name.rsplit_once(".checkpoint").is_some_and(|(_, rest)| {
        rest.is_empty() || rest.strip_prefix('.').is_some_and(|n| n.chars().all(|c| c.is_ascii_digit()))
    });
    checkpoint || name.ends_with(UNFINISHED)
}

/// `2026-11-23T14:11:49.000000`, in UTC unless it says otherwise.
fn moment(time: &str) -> Option<Timestamp> {
    if let Ok(stamp) = time.parse::<Timestamp>() {
        return Some(stamp);
    }
    Some(time.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_told_by_their_names() {
        let left = ["a.failed", "a.2.failed", "a.checkpoint", "a.checkpoint.3", "a.failed.checkpoint"];
        assert!(left.iter().all(|name| is_leftover(name)));
        assert!(!["a", "a.failed.b", "a.checkpoint.x", "failed"].iter().any(|name| is_leftover(name)));
    }

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        let seconds = |time| moment(time).map(|time| time.as_second());
        assert_eq!(seconds("2026-11-23T04:46:29.000000"), Some(1_795_409_189));
        assert_eq!(seconds("2026-11-23T05:46:29.000000+01:00"), Some(1_795_409_189));
        assert_eq!(seconds("soon"), None);
    }
}
