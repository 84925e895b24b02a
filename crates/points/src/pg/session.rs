//! A session that stays open.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;

use super::{
    PgError, Reach,
    peer::{self, Peer},
    programs,
};

/// A psql that is fed through a pipe. Ended, with whatever transaction it has, when dropped or when this process dies.
pub struct Session {
    child: Child,
    into: Option<ChildStdin>,
    lines: Receiver<String>,
    said: Option<JoinHandle<String>>,
}

/// What a line of its own says behind each answer.
const END: &str = "haven: that was all";

impl Session {
    /// Connects. No limit of the server's ends it while it waits, and nothing in it waits for a lock for longer than
    /// `lock_wait`.
    pub fn open(reach: &Reach, lock_wait: Duration) -> Result<Self, PgError> {
        let known = peer::found(reach);
        let said = match Self::begin(reach, known.as_ref(), lock_wait) {
            Err(PgError::Ended { said }) => said,
            other => return other,
        };
        let Some(peer) = peer::wanted(reach, &said).filter(|_| known.is_none()) else {
            return Err(PgError::Ended { said });
        };
        match Self::begin(reach, Some(&peer), lock_wait) {
            Ok(session) => {
                peer::remember(reach, peer);
                Ok(session)
            }
            Err(other) => {
                Err(PgError::Ended { said: format!("{said}; and as the system's user {}: {other}", peer.name) })
            }
        }
    }

    fn begin(reach: &Reach, peer: Option<&Peer>, lock_wait: Duration) -> Result<Self, PgError> {
        let mut command = programs::command_as(reach, peer, "psql", None);
        let database = peer.map_or(&reach.database, |peer| &peer.database);
        command.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d", database]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| PgError::Run { program: "psql".into(), source })?;
        let out = child.stdout.take().map(BufReader::new);
        let (heard, lines) = channel();
        std::thread::spawn(move || {
            for line in out.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
                if heard.send(line).is_err() {
                    break;
                }
            }
        });
        let err = child.stderr.take();
        let said = std::thread::spawn(move || {
            // Enough for any message; the rest is read so that nobody waits.
            let mut said = VecDeque::with_capacity(1 << 12);
            for byte in err.into_iter().flat_map(|err| BufReader::new(err).bytes()).map_while(Result::ok) {
                if said.len() == 1 << 12 {
                    said.pop_front();
                }
                said.push_back(byte);
            }
            String::from_utf8_lossy(said.make_contiguous()).trim().to_owned()
        });
        let into = child.stdin.take();
        let mut session = Self { child, into, lines, said: Some(said) };
        let limits =
            "'statement_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout'";
        session.run(
            &format!(
                "SET client_encoding = 'UTF8';\n\
                 SELECT count(set_config(name, '0', false)) FROM pg_settings WHERE name IN ({limits});\n\
                 SET lock_timeout = {};",
                lock_wait.as_millis()
            ),
            CONNECT,
        )?;
        Ok(session)
    }

    /// Runs statements whose rows nobody wants.
    pub fn run(&mut self, sql: &str, limit: Duration) -> Result<(), PgError> {
        self.lines_of(sql, limit).map(drop)
    }

    /// The rows of one query.
    pub fn rows<T: DeserializeOwned>(&mut self, query: &str, limit: Duration) -> Result<Vec<T>, PgError> {
        let lines = self.lines_of(&format!("SELECT row_to_json(q) FROM ({query}) AS q;"), limit)?;
        let row =
            |line: &String| serde_json::from_str(line).map_err(|error| PgError::Answer(format!("{error}: {line}")));
        lines.iter().map(row).collect()
    }

    /// The one row of a query that has one.
    pub fn row<T: DeserializeOwned>(&mut self, query: &str, limit: Duration) -> Result<T, PgError> {
        let mut rows = self.rows(query, limit)?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(PgError::Answer("not one row".into())),
        }
    }

    fn lines_of(&mut self, sql: &str, limit: Duration) -> Result<Vec<String>, PgError> {
        let until = Instant::now() + limit;
        let text = format!("{sql}\n\\echo {END}\n");
        let written = match &mut self.into {
            Some(into) => into.write_all(text.as_bytes()).and_then(|()| into.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        // What psql had to say about it is in its last words.
        if written.is_err() {
            return Err(self.last_words());
        }
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line == END => return Ok(lines),
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Timeout) => return Err(PgError::Late { limit }),
                Err(RecvTimeoutError::Disconnected) => return Err(self.last_words()),
            }
        }
    }

    fn last_words(&mut self) -> PgError {
        self.into = None;
        _ = self.child.wait();
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        PgError::Ended { said: if said.is_empty() { "it did not say why".into() } else { said } }
    }
}

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(30);

impl Drop for Session {
    fn drop(&mut self) {
        self.into = None;
        // Asked nothing any more it ends by itself; in the middle of a query it does not.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
