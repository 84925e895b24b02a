//! A job's commands run as children of this same binary, so that whatever goes wrong in one of them (a panic, memory, a
//! program that hangs) can't touch the mount: docs/decisions/0009.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::OnceLock,
};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::report::Trouble;

/// Set for children: the id of the process that they belong to.
const PARENT: &str = "HAVEN_KEEPER";
/// No answer that we look at is longer, bytes.
const ANSWER_MAX: u64 = 16 << 20;
/// How much less of the processors a job gets than programs that people wait for.
const NICE: i32 = 10;

/// What children are given beside the environment of this process.
static GIVEN: OnceLock<Vec<(&'static str, OsString)>> = OnceLock::new();

/// Gives every child these variables: how the library is unlocked, where a flag has said it.
pub fn give(variables: Vec<(&'static str, OsString)>) {
    _ = GIVEN.set(variables);
}

/// To be called first in every process: a child of a keeper ends with it, and gives way to others, where its unit lets it.
pub fn settle_in() {
    let Some(parent) = std::env::var_os(PARENT) else { return };
    // What it starts itself belongs to it, and not to the keeper.
    let parent = parent.to_str().and_then(|text| text.parse::<i32>().ok());
    _ = rustix::process::nice(NICE);
    if rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).is_ok()
        && rustix::process::getppid().map(Pid::as_raw_nonzero).map(std::num::NonZero::get) != parent
    {
        // It was gone before.
        std::process::exit(9);
    }
}

/// A process under way.
pub struct Child {
    pub pid: u32,
    pub done: oneshot::Receiver<io::Result<ExitStatus>>,
}

/// Starts this program with `args`. Its answers go to `out`, what it says to `err`.
pub fn start(args: &[String], config: Option<&Path>, out: File, err: File) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command
        .args(args)
        .arg("--json")
        .envs(GIVEN.get().into_iter().flatten().map(|(name, value)| (*name, value)))
        .env(PARENT, std::process::id().to_string())
        // These are between the service manager and the keeper.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        // So that it can be ended together with what it has started.
        .process_group(0);
    let (told, started) = std::sync::mpsc::channel();
    let (end, done) = oneshot::channel();
    // A thread of its own that lives as long as the child does: the kernel tells a child of the end of the *thread* that
    // started it.
    std::thread::Builder::new().name("job".into()).spawn(move || match command.spawn() {
        Ok(mut child) => {
            _ = told.send(Ok(child.id()));
            _ = end.send(child.wait());
        }
        Err(error) => _ = told.send(Err(error)),
    })?;
    let pid = started.recv().map_err(io::Error::other)??;
    Ok(Child { pid, done })
}

/// Asks a child and what it has started to end.
pub fn end(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        && let Err(error) = rustix::process::kill_process_group(pid, signal)
    {
        tracing::debug!(%error, "a job could not be signalled");
    }
}

/// When a process was started, by the kernel's own count: with its id, that makes it unmistakable.
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let alive = fields.next()? != "Z";
    fields.nth(18)?.parse().ok().filter(|_| alive)
}

/// The files of a run.
#[derive(Debug, Clone)]
pub struct Papers {
    /// What people read.
    pub log: PathBuf,
    /// As it grows.
    pub out: PathBuf,
}

impl Papers {
    pub fn new(folder: &Path, id: i64, key: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let plain: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let base = folder.join(format!("{id}-{plain}"));
        Ok(Self { log: base.with_extension("log"), out: base.with_extension("out") })
    }

    /// Those of a run whose log is at `log`.
    pub fn of(log: &Path) -> Self {
        Self { log: log.to_owned(), out: log.with_extension("out") }
    }

    pub fn append(path: &Path) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt;
        fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)
    }

    /// Whether something can be written there: a blank, which is no answer.
    pub fn tried(self) -> io::Result<Self> {
        use io::Write;
        writeln!(Self::append(&self.out)?)?;
        Ok(self)
    }

    pub fn line(&self, text: &str) -> io::Result<()> {
        use io::Write;
        writeln!(Self::append(&self.log)?, "{text}")
    }

    /// Takes the answers out of the way, and makes of what was said something that people can read: troubles in words.
    pub fn finish(&self) -> Said {
        let answers = text(&self.out);
        _ = fs::remove_file(&self.out);
        let mut troubles = Vec::new();
        let mut log = String::new();
        for line in text(&self.log).lines() {
            let said = line.starts_with("{\"").then(|| serde_json::from_str::<Value>(line).ok()).flatten();
            let word = |what: &str| said.as_ref().and_then(|said| said[what].as_str());
            let trouble = said.as_ref().and_then(|said| serde_json::from_value::<Trouble>(said["error"].clone()).ok());
            match (trouble, word("warning"), word("note")) {
                (Some(trouble), ..) => {
                    log += &trouble.render(false);
                    troubles.push(trouble);
                }
                (None, Some(warning), _) => log += &format!("haven: warning: {warning}\n"),
                (None, None, Some(note)) => log += &format!("haven: {note}\n"),
                _ => log = log + line + "\n",
            }
        }
        let values: Vec<Value> =
            serde_json::Deserializer::from_str(&answers).into_iter::<Value>().map_while(Result::ok).collect();
        for value in &values {
            log += &format!("answer {}\n", short(value));
        }
        if let Err(error) = crate::settings_file::replace(&self.log, &log) {
            tracing::warn!(%error, path = %self.log.display(), "a log can't be written");
        }
        Said { values, troubles, log }
    }
}

/// What a run said.
#[derive(Debug, Default)]
pub struct Said {
    /// Its answers, as JSON.
    pub values: Vec<Value>,
    pub troubles: Vec<Trouble>,
    /// All of it, as text.
    pub log: String,
}

fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    _ = File::open(path).and_then(|file| file.take(ANSWER_MAX).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One line of JSON; long lists are cut.
fn short(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > 4000 {
        let end = (0..=4000).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text += " …";
    }
    text
}

/// How a child ended, in a word for a log.
pub fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        _ => "ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_in_a_log_become_words_and_answers_values() {
        let folder = tempfile::tempdir().unwrap();
        let papers = Papers::new(folder.path(), 7, "replica near").unwrap();
        assert!(papers.log.ends_with("7-replica-near.log"));
        let trouble = Trouble::new(crate::report::Code::Held, "held back").because("30 %");
        let lines = [
            serde_json::json!({ "note": "trying" }),
            serde_json::json!({ "error": trouble, "exit": 10 }),
            serde_json::json!({ "warning": "it is late" }),
        ];
        fs::write(&papers.log, lines.map(|line| format!("{line}\n")).concat() + "{\"odd\n").unwrap();
        fs::write(&papers.out, "{\"a\": 1}\n{\n \"b\": 2\n}\n{\"torn").unwrap();
        let said = papers.finish();
        assert_eq!(said.values.len(), 2);
        assert_eq!(said.troubles[0].what, "held back");
        let log = fs::read_to_string(&papers.log).unwrap();
        assert!(log.contains("haven: held back\n  because  30 %") && log.contains("answer {\"b\":2}"), "{log}");
        assert!(log.starts_with("haven: trying\n") && log.contains("haven: warning: it is late\n{\"odd\n"), "{log}");
        assert!(!papers.out.exists());
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = std::process::id();
        assert!(started(own).is_some_and(|at| started(own) == Some(at)));
        assert_eq!(started(u32::MAX), None);
    }
}
