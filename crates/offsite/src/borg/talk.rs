//! A run of borg: started, listened to, ended.
//!
//! Everything it says on stderr is a JSON line, except what it says before it knows its arguments and what ssh says.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use crate::{Error, Kind, Progress, Watch};

/// How long borg has to tidy up when it is asked to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A word of borg's that is no progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Empty where it is no line of its log.
    pub level: String,
    pub id: String,
    pub text: String,
}

/// What a run said.
#[derive(Debug)]
pub struct Said {
    pub status: ExitStatus,
    pub out: String,
    pub words: Vec<Word>,
    pub cancelled: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    ArchiveProgress {
        #[serde(default)]
        original_size: u64,
        #[serde(default)]
        deduplicated_size: u64,
        #[serde(default)]
        nfiles: u64,
        #[serde(default)]
        finished: bool,
    },
    ProgressMessage {
        #[serde(default)]
        message: String,
    },
    ProgressPercent {
        #[serde(default)]
        current: f64,
        #[serde(default)]
        total: f64,
        #[serde(default)]
        msgid: Option<String>,
    },
    LogMessage {
        message: String,
        levelname: String,
        #[serde(default)]
        msgid: Option<String>,
    },
    #[serde(other)]
    Other,
}

/// Runs `command` to its end, or ends it when asked to. It has a process group of its own: a Ctrl-C reaches it through
/// us alone, and once.
pub fn run(mut command: Command, watch: &mut Watch) -> Result<Said, Error> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .map_err(|error| Error::new(Kind::Program, format!("{program} can't be started")).because(error.to_string()))?;
    let out = child.stdout.take().map(|mut pipe| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    });
    let (send, lines) = mpsc::channel();
    let err = child.stderr.take();
    thread::spawn(move || {
        let lines = err.map(BufReader::new).into_iter().flat_map(|err| err.split(b'\n').map_while(Result::ok));
        for line in lines {
            if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let (words, cancelled) = listen(&child, &lines, watch);
    let status = child.wait().map_err(|error| local("its end can't be waited for", &error))?;
    let out = out.and_then(|out| out.join().ok()).unwrap_or_default();
    Ok(Said { status, out, words, cancelled })
}

fn local(what: &str, error: &std::io::Error) -> Error {
    Error::new(Kind::Local, what).because(error.to_string())
}

/// Until it has nothing more to say.
fn listen(child: &Child, lines: &mpsc::Receiver<String>, watch: &mut Watch) -> (Vec<Word>, bool) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut words = Vec::new();
    let mut progress = Progress::default();
    let mut asked: Option<Instant> = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => take(&line, &mut words, &mut progress, watch),
            Err(mpsc::RecvTimeoutError::Disconnected) => return (words, asked.is_some()),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let Some(group) = group.filter(|_| watch.cancel.is_cancelled()) else { continue };
        match asked {
            None => {
                _ = kill_process_group(group, Signal::TERM);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() > PATIENCE => _ = kill_process_group(group, Signal::KILL),
            Some(_) => {}
        }
    }
}

fn take(line: &str, words: &mut Vec<Word>, progress: &mut Progress, watch: &mut Watch) {
    match serde_json::from_str(line) {
        Ok(Line::ArchiveProgress { finished: true, .. } | Line::Other) => return,
        Ok(Line::ArchiveProgress { original_size, deduplicated_size, nfiles, .. }) => {
            (progress.files, progress.bytes, progress.new_bytes) = (nfiles, original_size, deduplicated_size);
        }
        Ok(Line::ProgressMessage { message }) => progress.doing = message,
        Ok(Line::ProgressPercent { current, total, msgid }) => {
            progress.percent = (total > 0.0).then(|| (100.0 * current / total).clamp(0.0, 100.0));
            progress.doing = msgid.unwrap_or_default();
        }
        Ok(Line::LogMessage { message, levelname, msgid }) => {
            words.push(Word { level: levelname, id: msgid.unwrap_or_default(), text: message });
            return;
        }
        Err(_) if line.trim().is_empty() => return,
        Err(_) => {
            words.push(Word { level: String::new(), id: String::new(), text: line.trim_end().to_owned() });
            return;
        }
    }
    (watch.progress)(progress);
}

impl Said {
    /// How it ended, for people.
    pub fn end(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("borg ended with {code}"),
            (None, Some(signal)) => format!("borg was ended by signal {signal}"),
            (None, None) => "borg ended".into(),
        }
    }
}
