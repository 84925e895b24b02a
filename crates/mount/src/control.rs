//! How commands speak with the process that serves a mount: a unix socket in the cache directory, its place told by
//! the mount itself through [`XATTR`] on its root. So the mount point is all a command needs to know, and a mount that
//! does not tell is not ours, or dead.
//!
//! One JSON value a line. A request `{"do": "flush"}` may have more members; the answer is any number of
//! `{"progress": …}` and then one `{"done": …}` or `{"refused": {"code": …, "message": …}}`. More requests may follow on the
//! same connection. The server never closes one that it has answered: its end tells that the process has ended.

mod client;
mod server;

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use client::{Client, ClientError, Found, find};
pub use server::{Control, Progress, Server};

/// Extended attribute of a mounted root, answered by the mount and stored nowhere: a [`Locator`] as JSON.
pub const XATTR: &str = "user.haven.control";

/// The socket's name in the cache directory.
pub const SOCKET: &str = "control.sock";

/// Longest request, bytes.
const REQUEST_MAX: usize = 64 << 10;

/// Where a mount's process is to be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locator {
    pub pid: u32,
    pub socket: PathBuf,
    /// The library, without secrets.
    pub url: String,
    pub cache: PathBuf,
    /// The version of the program that serves.
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    #[serde(rename = "do")]
    pub verb: String,
    #[serde(flatten)]
    pub with: Map<String, Value>,
}

impl Request {
    pub fn new(verb: &str) -> Self {
        Self { verb: verb.into(), with: Map::new() }
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.with.insert(name.into(), value.into());
        self
    }

    /// A member that is true or false; false when it is absent.
    pub fn flag(&self, name: &str) -> bool {
        self.with.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Refusal {
    /// Stable, for programs: `unknown`, `busy`, …
    pub code: String,
    /// For people.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Refusal {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// To a verb that this version does not know.
    pub fn unknown(verb: &str) -> Self {
        Self::new("unknown", format!("the mount's process does not know the request {verb:?}; is it an older version?"))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Progress(Value),
    Done(Value),
    Refused(Refusal),
}

/// A path that fits into a socket address (107 bytes), whatever the directory's own: through an open descriptor, which
/// must be kept until the path has been used.
pub fn short_path(socket: &std::path::Path) -> std::io::Result<(PathBuf, Option<std::fs::File>)> {
    if socket.as_os_str().len() < 100 {
        return Ok((socket.into(), None));
    }
    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let dir = std::fs::File::open(dir)?;
    let short = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir));
    Ok((PathBuf::from(short).join(name), Some(dir)))
}
