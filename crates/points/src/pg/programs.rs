//! Finding and running pg_dump and its like.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    PgError, Reach,
    peer::{self, Peer},
};

/// Set when everything is to end.
pub type Stop = AtomicBool;

/// What ends a program before it ends by itself.
#[derive(Debug, Clone, Copy)]
pub struct Ends<'a> {
    pub stop: &'a Stop,
    /// How long a dump waits for a table that somebody wants for itself. Meanwhile that somebody's whole queue waits.
    pub lock_wait: Duration,
    /// The longest it may take: where a library can't take more, writers wait, and do not fail.
    pub limit: Duration,
}

/// What a program that dumps turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dumped {
    /// Its version, `15.14`.
    pub version: String,
    /// What it warned of.
    pub said: String,
}

/// Where Debian has the programs of each major version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// How often a program at work is looked at.
const STEP: Duration = Duration::from_millis(20);

/// A program of PostgreSQL's, to be run where the server is, and as whom it lets in. `server`: the major version it must
/// cope with.
pub fn command(reach: &Reach, program: &str, server: Option<u32>) -> Command {
    command_as(reach, peer::found(reach).as_ref(), program, server)
}

pub(super) fn command_as(reach: &Reach, peer: Option<&Peer>, program: &str, server: Option<u32>) -> Command {
    let path = match &reach.programs {
        Some(directory) => directory.join(program),
        None if reach.within.is_empty() => installed(program, server).unwrap_or_else(|| program.into()),
        None => program.into(),
    };
    let mut command = match reach.within.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(path);
            command
        }
        None => Command::new(path),
    };
    // What was set stays set; libpq's own default is to wait for ever.
    if std::env::var_os("PGCONNECT_TIMEOUT").is_none() {
        command.env("PGCONNECT_TIMEOUT", "15");
    }
    // What it says is looked at, and LANGUAGE would go before LC_ALL.
    command.env("PGAPPNAME", "haven backup").env("LC_ALL", "C.UTF-8").env_remove("LANGUAGE").stdin(Stdio::null());
    if let Some(peer) = peer {
        peer.dress(&mut command);
    }
    command
}

/// The oldest installed one that is not older than the server, so that what it writes can be read by most.
fn installed(program: &str, server: Option<u32>) -> Option<PathBuf> {
    let majors = std::fs::read_dir(DEBIAN).ok()?;
    let fits = |major: u32| server.is_none_or(|server| major >= server);
    let majors = majors.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(|major| fits(*major));
    let paths = majors.map(|major| (major, Path::new(DEBIAN).join(major.to_string()).join("bin").join(program)));
    let there = paths.filter(|(_, path)| path.exists());
    // Without a server to fit, the newest: psql speaks with all older ones.
    let best = if server.is_some() { there.min() } else { there.max() };
    best.map(|(_, path)| path)
}

/// `15.14` of `pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn version(reach: &Reach, program: &str, server: u32) -> Result<String, PgError> {
    let mut command = command(reach, program, Some(server));
    let output = command.arg("--version").output();
    let output = output.map_err(|source| PgError::Run { program: program.into(), source })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    number.map(str::to_owned).ok_or_else(|| PgError::Failed {
        program: program.into(),
        said: format!("{text}{}", String::from_utf8_lossy(&output.stderr)).trim().to_owned(),
    })
}

/// Dumps the database as `snapshot` shows it to `to`, in the custom format, not compressed: what changed little since
/// yesterday is found again by the library. `told` is called with the bytes written so far; `in_vain` when nothing came of
/// it and the file is still open here: where a library can take no more, a close would wait until all it has is stored.
pub fn dump(
    reach: &Reach,
    server: u32,
    snapshot: &str,
    to: &File,
    ends: Ends<'_>,
    told: &mut dyn FnMut(u64),
    in_vain: &dyn Fn(),
) -> Result<Dumped, PgError> {
    let version = version(reach, "pg_dump", server)?;
    let major = version.split(['.', 'b', 'r', 'd']).next().and_then(|major| major.parse::<u32>().ok());
    if let Some(here) = major.filter(|major| *major < server) {
        return Err(PgError::TooOld { server, here });
    }
    let mut command = command(reach, "pg_dump", Some(server));
    command.args(["-Fc", "-Z0", "-w", "-d", &peer::given(reach)]);
    command.arg(format!("--lock-wait-timeout={}", ends.lock_wait.as_millis().max(1)));
    command.arg(format!("--snapshot={snapshot}"));
    let mut told = || told(to.metadata().map_or(0, |about| about.len()));
    let said = write_to(reach, "pg_dump", command, to, ends, &mut told, in_vain);
    let said = said.map_err(|error| match error {
        PgError::Failed { said, .. } if said.contains("LOCK TABLE") && said.contains("timeout") => {
            PgError::Busy { said }
        }
        other => other,
    })?;
    Ok(Dumped { version, said })
}

/// Writes down roles and tablespaces to `to`: with the hashes of their passwords, where these may be read.
/// `Ok(Some)` tells what could not be had.
pub fn globals(reach: &Reach, server: u32, to: &mut File, ends: Ends<'_>) -> Result<Option<String>, PgError> {
    let run = |to: &File, more: &[&str]| {
        let mut command = command(reach, "pg_dumpall", Some(server));
        command.args(["--globals-only", "-w", "-d", &peer::given(reach)]).args(more);
        write_to(reach, "pg_dumpall", command, to, ends, &mut || (), &|| ())
    };
    match run(to, &[]) {
        Ok(_) => Ok(None),
        Err(PgError::Failed { said, .. }) => {
            to.set_len(0).and_then(|()| std::io::Seek::rewind(to)).map_err(PgError::Write)?;
            run(to, &["--no-role-passwords"])?;
            Ok(Some(said))
        }
        Err(other) => Err(other),
    }
}

/// Between a file of ours and a program that runs as somebody else: a mount that is open to us alone refuses him even the
/// close of a file that he was handed. Ended when dropped.
pub struct Carrier(Child);

const CARRIER: &str = "cat";

impl Carrier {
    fn spawn(command: &mut Command) -> Result<Child, PgError> {
        command
            .env("LC_ALL", "C")
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| PgError::Run { program: CARRIER.into(), source })
    }

    /// What `command` writes goes into `to`.
    fn behind(command: &mut Command, to: File) -> Result<Self, PgError> {
        let mut child = Self::spawn(Command::new(CARRIER).stdin(Stdio::piped()).stdout(to))?;
        if let Some(pipe) = child.stdin.take() {
            command.stdout(pipe);
        }
        Ok(Self(child))
    }

    /// What `command` reads comes out of `from`.
    fn before(command: &mut Command, from: File) -> Result<Self, PgError> {
        let mut child = Self::spawn(Command::new(CARRIER).stdin(from).stdout(Stdio::piped()))?;
        if let Some(pipe) = child.stdout.take() {
            command.stdin(pipe);
        }
        Ok(Self(child))
    }

    /// All has arrived that a program wrote which ended so; or why not.
    fn ended(mut self, outcome: Result<String, PgError>, ends: Ends<'_>) -> Result<String, PgError> {
        let gave_up = matches!(self.0.try_wait(), Ok(Some(status)) if !status.success());
        match outcome {
            Ok(said) => follow(CARRIER, &mut self.0, ends, &mut || ()).map(|_| said),
            // Who takes nothing any more is the reason that the other failed.
            Err(error) if gave_up => follow(CARRIER, &mut self.0, ends, &mut || ()).and(Err(error)),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Runs it, and what it writes goes into `to`. `in_vain` is called when it failed, before any way to that file is closed.
fn write_to(
    reach: &Reach,
    program: &str,
    mut command: Command,
    to: &File,
    ends: Ends<'_>,
    told: &mut dyn FnMut(),
    in_vain: &dyn Fn(),
) -> Result<String, PgError> {
    let to = to.try_clone().map_err(PgError::Write)?;
    if peer::found(reach).is_none() {
        // A file, not a pipe: then pg_dump notes where each table begins.
        command.stdout(to);
        return watch(program, &mut command, ends, told).inspect_err(|_| in_vain());
    }
    let carrier = Carrier::behind(&mut command, to)?;
    let outcome = watch(program, &mut command, ends, told).inspect_err(|_| in_vain());
    // Then nobody holds the pipe any more, and it comes to its end.
    drop(command);
    let came = outcome.is_ok();
    carrier.ended(outcome, ends).inspect_err(|_| {
        if came {
            in_vain()
        }
    })
}

/// Lets `command` read `from`, whoever it runs as. What comes back is kept until it has ended.
pub fn hand_in(reach: &Reach, command: &mut Command, from: File) -> Result<Option<Carrier>, PgError> {
    if peer::found(reach).is_some() {
        return Carrier::before(command, from).map(Some);
    }
    command.stdin(from);
    Ok(None)
}

/// Runs it to its end; what it says on stderr comes back, or is why it failed.
pub fn watch(program: &str, command: &mut Command, ends: Ends<'_>, told: &mut dyn FnMut()) -> Result<String, PgError> {
    let mut child =
        command.stderr(Stdio::piped()).spawn().map_err(|source| PgError::Run { program: program.into(), source })?;
    follow(program, &mut child, ends, told)
}

fn follow(program: &str, child: &mut Child, ends: Ends<'_>, told: &mut dyn FnMut()) -> Result<String, PgError> {
    let err = child.stderr.take();
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        err.map(|mut err| err.read_to_end(&mut said));
        String::from_utf8_lossy(&said[said.len().saturating_sub(1 << 12)..]).trim().to_owned()
    });
    let began = Instant::now();
    let mut looked = began;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(source) => return Err(PgError::Run { program: program.into(), source }),
        }
        if ends.stop.load(Ordering::Relaxed) {
            end(child);
            return Err(PgError::Stopped);
        }
        if began.elapsed() > ends.limit {
            end(child);
            let said = format!("it was not done within {} s", ends.limit.as_secs());
            return Err(PgError::Failed { program: program.into(), said });
        }
        if looked.elapsed() > STEP * 10 {
            told();
            looked = Instant::now();
        }
        std::thread::sleep(STEP);
    };
    let said = said.join().unwrap_or_default();
    if status.success() {
        return Ok(said);
    }
    let said = if said.is_empty() { status.to_string() } else { format!("{said} ({status})") };
    Err(PgError::Failed { program: program.into(), said })
}

fn end(child: &mut Child) {
    _ = child.kill();
    _ = child.wait();
}
