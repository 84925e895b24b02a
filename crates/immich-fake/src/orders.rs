//! How to misbehave.

use serde::{Deserialize, Serialize};

/// What the server is to do wrong from now on. The default is a good server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Orders {
    /// What becomes of the body after an early answer.
    pub early: Early,
    /// Answers that say no, before anything else happens.
    pub fail: Vec<Fail>,
    /// Every n-th upload and album call is done, and its answer lost; 0 is none.
    pub lose_every: u64,
    /// A proxy's limit of a request's body, in bytes.
    pub body_max: Option<u64>,
    /// Waits before each answer.
    pub slow_ms: u64,
    /// How long it is away when its maintenance begins or ends: the server starts anew for that.
    pub restart_ms: u64,
    /// Reads no more than this of an upload and then stands still.
    pub stall_after: Option<u64>,
    /// Bytes of all assets that the disk holds.
    pub disk_bytes: Option<u64>,
    /// Names of files that are refused with 400, by their end.
    pub refuse_names: Vec<String>,
    /// Downloads come with one byte changed.
    pub rot: bool,
    /// Permissions that no key has.
    pub deny: Vec<String>,
}

/// What becomes of the rest of a body when the answer came before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Early {
    /// It is read and thrown away, as Node.js does.
    #[default]
    Drain,
    /// The connection is closed, as some proxies do.
    Close,
    /// There is no early answer, as behind a proxy that reads all of a request first.
    Never,
}

/// Some answers that say no.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// `POST /assets`, with the ids left out as in Immich's description: `PUT /albums/{id}/assets`. Empty: all of them.
    #[serde(default)]
    pub call: String,
    pub status: u16,
    /// How many; then it is over.
    pub times: u64,
    /// Only every n-th call of that kind.
    #[serde(default = "one")]
    pub every: u64,
    #[serde(default)]
    pub retry_after: Option<u64>,
    #[serde(default)]
    pub message: String,
}

fn one() -> u64 {
    1
}

impl Orders {
    /// The failure that is due at the `count`-th call of a kind, counted down.
    pub(crate) fn failure(&mut self, call: &str, count: u64) -> Option<Fail> {
        let due = |f: &&mut Fail| {
            f.times > 0 && (f.call.is_empty() || f.call == call) && count.is_multiple_of(f.every.max(1))
        };
        let fail = self.fail.iter_mut().find(due)?;
        fail.times -= 1;
        Some(fail.clone())
    }
}
