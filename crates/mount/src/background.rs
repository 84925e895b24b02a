//! Going to the background: the program starts itself once more, and the first one waits for a word from the second,
//! so that a shell sees success only when the mount answers.
//!
//! Starting anew, rather than forking, works whatever threads there are. The word goes through the second one's
//! standard output, what it must be told in secret (a passphrase asked for on the terminal) through its standard
//! input.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio, id},
};

use serde::{Deserialize, Serialize};

/// Holds the first process's id; so a program that merely inherits it is not mistaken for the second.
const MARK: &str = "HAVEN_BACKGROUND_FOR";

#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Ready { point: PathBuf },
    Failed { exit: u8 },
}

/// What became of the process in the background.
#[derive(Debug, PartialEq, Eq)]
pub enum Started {
    /// It serves, and its root has answered.
    Ready { pid: u32 },
    /// It gave up, having said why on standard error.
    Failed { exit: u8 },
}

#[derive(Debug, thiserror::Error)]
pub enum BackgroundError {
    #[error("the program could not be started again")]
    Start { source: io::Error },
    #[error("the process in the background ended without a word ({status})")]
    Silent { status: String },
    #[error("{} does not answer although its process says it is mounted", point.display())]
    NoAnswer { point: PathBuf, source: io::Error },
}

/// Starts this program again with the same arguments, to serve in the background, and waits for its word.
/// `secret` is what its [`Background::take_over`] gives.
pub fn start(secret: &[u8]) -> Result<Started, BackgroundError> {
    let failed = |source| BackgroundError::Start { source };
    let mut child = Command::new("/proc/self/exe")
        .args(env::args_os().skip(1))
        .env(MARK, id().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A child that died has its own word about it, or its silence.
        pipe.write_all(secret).ok();
    }
    let mut line = String::new();
    if let Some(pipe) = child.stdout.take() {
        BufReader::new(pipe).read_line(&mut line).map_err(failed)?;
    }
    match serde_json::from_str(&line) {
        Ok(Word::Ready { point }) => match fs::metadata(&point) {
            Ok(_) => Ok(Started::Ready { pid: child.id() }),
            Err(source) => Err(BackgroundError::NoAnswer { point, source }),
        },
        Ok(Word::Failed { exit }) => Ok(Started::Failed { exit }),
        Err(_) => {
            let status = child.wait().map_err(failed)?;
            Err(BackgroundError::Silent { status: status.to_string() })
        }
    }
}

/// The second process's side. Until [`Background::ready`] its standard error is still the terminal's.
#[derive(Debug)]
#[must_use = "the first process waits for its word"]
pub struct Background {
    word: io::Stdout,
    secret: Vec<u8>,
}

impl Background {
    /// None in a process that was not started by [`start`].
    pub fn take_over() -> io::Result<Option<Self>> {
        let parent = rustix::process::getppid().map(|p| p.as_raw_nonzero().to_string());
        if parent.is_none() || env::var(MARK).ok() != parent {
            return Ok(None);
        }
        // Out of the terminal's reach: its hangup and its Ctrl-C are for others.
        rustix::process::setsid()?;
        let mut secret = Vec::new();
        io::stdin().lock().read_to_end(&mut secret)?;
        let null = fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(null)?;
        Ok(Some(Self { word: io::stdout(), secret }))
    }

    /// What [`start`] was given.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// Lets the first process end with success, and leaves the terminal: from here on standard output and standard
    /// error go to `log`, or nowhere.
    pub fn ready(mut self, point: &Path, log: Option<&Path>) -> io::Result<()> {
        let sink = match log {
            Some(path) => fs::OpenOptions::new().append(true).create(true).open(path)?,
            None => fs::OpenOptions::new().write(true).open("/dev/null")?,
        };
        // A working directory would keep some other mount busy.
        env::set_current_dir("/")?;
        self.say(&Word::Ready { point: point.into() })?;
        rustix::stdio::dup2_stdout(sink.as_fd())?;
        rustix::stdio::dup2_stderr(sink.as_fd())?;
        Ok(())
    }

    /// Lets the first process end with `exit`. Why was said on standard error already.
    pub fn failed(mut self, exit: u8) -> ExitCode {
        self.say(&Word::Failed { exit }).ok();
        ExitCode::from(exit)
    }

    fn say(&mut self, word: &Word) -> io::Result<()> {
        let mut out = self.word.lock();
        serde_json::to_writer(&mut out, word)?;
        out.write_all(b"\n")?;
        out.flush()
    }
}

/// The number of the process that serves, in a file beside its cache; removed when dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    pub fn write(path: &Path) -> io::Result<Self> {
        let fresh = path.with_extension("new");
        fs::write(&fresh, format!("{}\n", id()))?;
        fs::rename(&fresh, path)?;
        Ok(Self(path.into()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}
