//! PostgreSQL, spoken to through its own programs.
//!
//! The one session that must stay open is a `psql` that reads from a pipe. So there is one way to reach a database: what
//! libpq knows of sockets, TLS, password and service files holds for the session and the dump alike, and where the
//! server is in a container both are run in it (`docker exec -i …`), which no driver can do.

pub mod address;
mod facts;
mod peer;
mod programs;
mod session;

use std::{path::PathBuf, time::Duration};

pub use facts::{Facts, Moment, Shape, TableName, begin, count, fix, immich, unlike, written_down};
pub use peer::{account, given, sees_our_files, stand_in};
pub use programs::{Carrier, Dumped, Ends, Stop, command, dump, globals, hand_in, watch};
pub use session::Session;

/// How a database is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// As libpq has it: `postgresql:///immich?host=/run/postgresql`, `dbname=immich host=db`, `service=immich`, or a
    /// name. Without a password: it would be seen by every user of this machine.
    pub database: String,
    /// Where the programs are; else the oldest ones installed that fit the server, else those of PATH.
    pub programs: Option<PathBuf>,
    /// What goes before each program, `docker exec -i immich_postgres`.
    pub within: Vec<String>,
}

/// Why PostgreSQL did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    #[error("{program} can't be run")]
    Run { program: String, source: std::io::Error },
    /// What the program said.
    #[error("{program} failed: {said}")]
    Failed { program: String, said: String },
    #[error("the database did not answer within {} s", limit.as_secs_f64())]
    Late { limit: Duration },
    #[error("the session with the database ended: {said}")]
    Ended { said: String },
    #[error("the database answered something else: {0}")]
    Answer(String),
    /// The dump would have had to wait behind whoever wants a table for itself alone, and everybody else behind the dump.
    #[error("somebody empties or alters a table just now, and the dump got no access to it: {said}")]
    Busy { said: String },
    #[error("the dump can't be written")]
    Write(#[source] std::io::Error),
    #[error("it was interrupted")]
    Stopped,
    #[error(
        "the database is PostgreSQL {server}, and the newest pg_dump here is of version {here}; a dump needs one that is \
         not older"
    )]
    TooOld { server: u32, here: u32 },
}

impl Reach {
    /// A password in it would stand in the list of processes.
    pub fn has_password(&self) -> bool {
        let text = self.database.to_ascii_lowercase();
        let in_url = text.split_once("://").is_some_and(|(_, rest)| {
            let user = rest.split_once('@').map_or("", |(user, _)| user);
            user.contains(':')
        });
        in_url || text.replace(' ', "").contains("password=")
    }
}
