//! A run of a program: started, listened to, ended.

use std::{
    io::{self, BufRead, BufReader, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, CWD, Mode},
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};

use crate::{Cancel, Error, Kind, Progress, Source, Watch};

/// How long a program has to tidy up when it is asked to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A word of a program's that is no progress.
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
    pub program: &'static str,
    pub status: ExitStatus,
    pub out: String,
    pub words: Vec<Word>,
    pub cancelled: bool,
}

/// What a line comes to.
pub enum Heard {
    /// A word to judge the run by.
    Word(Word),
    /// Progress was taken in.
    Moved,
    /// A line of its answer.
    Answer,
    Nothing,
    /// It will never be done: no use in waiting.
    Hopeless(Word),
}

/// How a program's lines are read.
pub trait Ear {
    const PROGRAM: &'static str;
    /// A line of its standard output.
    fn out(&mut self, line: &str, progress: &mut Progress) -> Heard;
    /// A line of its standard error.
    fn err(&mut self, line: &str, progress: &mut Progress) -> Heard;
}

enum Line {
    Out(String),
    Err(String),
}

/// Runs `command` to its end, or ends it when asked to. It has a process group of its own: a Ctrl-C reaches it through
/// us alone, and once.
pub fn run<E: Ear>(mut command: Command, mut ear: E, watch: &mut Watch) -> Result<Said, Error> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = spawn(&mut command)?;
    let (send, lines) = mpsc::channel();
    read(child.stdout.take(), send.clone(), Line::Out);
    read(child.stderr.take(), send, Line::Err);
    let mut said = Said::new(E::PROGRAM);
    let Watch { cancel, progress } = watch;
    listen(&child, &lines, &mut ear, &|| cancel.is_cancelled(), &mut **progress, &mut said);
    said.status = end_of(&mut child)?;
    Ok(said)
}

/// Runs `command`, and hands what it writes to `take` as it comes. Its words on standard error are heard as ever; any of
/// `cancels` ends it.
pub fn pipe<E: Ear, T: Send>(
    mut command: Command,
    mut ear: E,
    cancels: &[&Cancel; 2],
    take: impl FnOnce(&mut dyn Read) -> io::Result<T> + Send,
) -> Result<(Said, io::Result<T>), Error> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = spawn(&mut command)?;
    let (send, lines) = mpsc::channel();
    read(child.stderr.take(), send, Line::Err);
    let out = child.stdout.take();
    let mut said = Said::new(E::PROGRAM);
    let taken = thread::scope(|scope| {
        let taking = scope.spawn(move || {
            // Dropped at the end of this, so that a program nobody listens to any more ends.
            let mut out = out;
            let out: &mut dyn Read = match &mut out {
                Some(out) => out,
                None => &mut io::empty(),
            };
            take(&mut BufReader::with_capacity(PIECE, out))
        });
        let mut unseen = |_: &Progress| {};
        listen(
            &child,
            &lines,
            &mut ear,
            &|| cancels.iter().any(|cancel| cancel.is_cancelled()),
            &mut unseen,
            &mut said,
        );
        taking.join().unwrap_or_else(|_| Err(io::Error::other("the reader ended without a word")))
    });
    said.status = end_of(&mut child)?;
    Ok((said, taken))
}

/// What is read from a pipe at once.
const PIECE: usize = 1 << 18;

fn spawn(command: &mut Command) -> Result<Child, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let kind = if program == UNSHARE { Kind::Unshown } else { Kind::Program };
    let cannot = |error: io::Error| Error::new(kind, format!("{program} can't be started")).because(error.to_string());
    command.spawn().map_err(cannot)
}

fn end_of(child: &mut Child) -> Result<ExitStatus, Error> {
    let lost = |error: io::Error| Error::new(Kind::Local, "its end can't be waited for").because(error.to_string());
    child.wait().map_err(lost)
}

fn read(pipe: Option<impl Read + Send + 'static>, send: mpsc::Sender<Line>, line: fn(String) -> Line) {
    thread::spawn(move || {
        let lines = pipe.map(BufReader::new).into_iter().flat_map(|pipe| pipe.split(b'\n').map_while(Result::ok));
        for bytes in lines {
            if send.send(line(String::from_utf8_lossy(&bytes).into_owned())).is_err() {
                return;
            }
        }
    });
}

/// Until it has nothing more to say.
fn listen<E: Ear>(
    child: &Child,
    lines: &mpsc::Receiver<Line>,
    ear: &mut E,
    cancelled: &dyn Fn() -> bool,
    moved: &mut dyn FnMut(&Progress),
    said: &mut Said,
) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut progress = Progress::default();
    let mut asked: Option<Instant> = None;
    let mut hopeless = false;
    loop {
        let line = lines.recv_timeout(Duration::from_millis(50));
        let heard = match &line {
            Ok(Line::Out(line)) => ear.out(line, &mut progress),
            Ok(Line::Err(line)) => ear.err(line, &mut progress),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => Heard::Nothing,
        };
        match (heard, line) {
            (Heard::Word(word), _) => said.words.push(word),
            (Heard::Moved, _) => moved(&progress),
            (Heard::Answer, Ok(Line::Out(line) | Line::Err(line))) => {
                said.out += &line;
                said.out.push('\n');
            }
            (Heard::Hopeless(word), _) => {
                said.words.push(word);
                hopeless = true;
            }
            _ => {}
        }
        let end = hopeless || cancelled();
        let Some(group) = group.filter(|_| end) else { continue };
        match asked {
            None => {
                _ = kill_process_group(group, Signal::TERM);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() > PATIENCE => _ = kill_process_group(group, Signal::KILL),
            Some(_) => {}
        }
    }
    said.cancelled = asked.is_some() && !hopeless;
}

impl Said {
    fn new(program: &'static str) -> Self {
        Self { program, status: ExitStatus::default(), out: String::new(), words: Vec::new(), cancelled: false }
    }

    /// How it ended, for people.
    pub fn end(&self) -> String {
        let program = self.program;
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("{program} ended with {code}"),
            (None, Some(signal)) => format!("{program} was ended by signal {signal}"),
            (None, None) => format!("{program} ended"),
        }
    }
}

/// Makes a mount namespace, and is the first of those that show a program its directory.
const UNSHARE: &str = "unshare";

/// Whether the program has come to run at all: what keeps those that show it the directory ([`beside`]) from doing so says
/// nothing of what is in it.
pub fn shown(said: &Said) -> Result<(), Error> {
    let no_mount =
        |text: &str| [": mount: not found", ": mount: command not found"].iter().any(|end| text.ends_with(end));
    // It hints at an fstab that has changed, and mounts all the same.
    let by_mount = |text: &str| text.starts_with("mount: ") && !text.starts_with("mount: (hint)") || no_mount(text);
    let by_unshare = |text: &str| text.starts_with("unshare: ");
    let told = said.words.iter().find(|word| word.level.is_empty() && (by_unshare(&word.text) || by_mount(&word.text)));
    let Some(told) = told.filter(|_| !said.status.success() && !said.cancelled) else { return Ok(()) };
    let why = match by_unshare(&told.text) {
        true => "no mount namespace can be made here",
        false => "it can't be mounted at its place",
    };
    let what = format!("the library can't be shown to {}: {why}", said.program);
    Err(Error::new(Kind::Unshown, what).because(told.text.clone()))
}

/// `command`, in the directory that is copied: where it is, or at the fixed place where nobody but the program sees it.
/// `dress` gives a command its environment.
pub fn beside(command: Command, source: &Source, dress: impl Fn(&mut Command)) -> Result<Command, Error> {
    let Some(place) = &source.shown_at else {
        let mut command = command;
        command.current_dir(&source.directory);
        return Ok(command);
    };
    make(place)?;
    // In a mount namespace of its own: nobody else sees it, and it goes when the program goes, however that is.
    let show = "mount --bind -- \"$0\" \"$1\" && \
                { [ -z \"$2\" ] || mount --bind -- \"$2\" \"$1/$3\"; } && cd -- \"$1\" && shift 3 && exec \"$@\"";
    let (over, at) = source.over.clone().unwrap_or_default();
    let mut placed = Command::new(UNSHARE);
    placed.args(["--mount", "--propagation", "private", "--", "/bin/sh", "-c", show]);
    placed.arg(&source.directory).arg(place).arg(over).arg(at);
    placed.arg(command.get_program()).args(command.get_args());
    dress(&mut placed);
    Ok(placed)
}

/// Whether this process, and so each program of its, may set the set-user-ID and set-group-ID bits: a service is kept from it
/// (systemd's RestrictSUIDSGID=).
pub fn may_set_bits() -> bool {
    // What is refused is the call itself, before anybody looks which file it is for.
    rustix::fs::chmodat(CWD, "", Mode::SGID, AtFlags::empty()) != Err(Errno::PERM)
}

/// Makes a directory, if it is missing.
pub fn make(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|error| {
        Error::new(Kind::Local, format!("{} can't be made", path.display())).because(error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_bits_may_be_set_is_known_before_it_is_tried() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let set = std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o2700));
        assert_eq!(may_set_bits(), set.is_ok());
    }

    #[test]
    fn who_can_not_be_shown_the_library_has_not_failed_to_read_it() {
        let kind = |code: i32, text: &str| {
            let word = Word { level: String::new(), id: String::new(), text: text.into() };
            let status = ExitStatus::from_raw(code << 8);
            shown(&Said { status, words: vec![word], ..Said::new("borg") }).map_err(|error| error.kind)
        };
        assert_eq!(kind(1, "unshare: unshare failed: Operation not permitted"), Err(Kind::Unshown));
        assert_eq!(kind(32, "mount: /srv/copies/home/library: permission denied."), Err(Kind::Unshown));
        // It calls itself by its first argument.
        assert_eq!(kind(127, "/mnt/photos/.snapshots/one: 1: mount: not found"), Err(Kind::Unshown));
        assert_eq!(kind(1, "Remote: sh: 1: borg: not found"), Ok(()));
        assert_eq!(kind(1, "/a: read: [Errno 5] Input/output error"), Ok(()));
        assert_eq!(kind(0, "mount: a word of warning"), Ok(()));
        assert_eq!(kind(1, "mount: (hint) your fstab has been modified, but systemd still uses"), Ok(()));
    }
}
