//! What is told: a value that every channel renders in its own way.

pub use haven_keeper::findings::Severity;
use serde::{Deserialize, Serialize};

/// Something to be told to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Made by whoever tells it, the same each time the same thing is told: letters, digits and `-`.
    pub id: String,
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// What it means and what to do; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// The end of a log, as it was written; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log: String,
    /// Which machine tells it.
    pub host: String,
    /// The same as [`Message::plain`] for who can show HTML (mail); may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub html: String,
    /// How much what it is about mattered, where that is more than the message itself: who was told that something is
    /// amiss is told that it is well again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Severity>,
}

impl Message {
    /// The first line: sign, title, machine.
    pub fn head(&self) -> String {
        format!("{} {} ({})", self.severity.sign(), self.title, self.host)
    }

    /// All but the log, as plain text.
    pub fn plain(&self) -> String {
        if self.body.is_empty() { self.head() } else { format!("{}\n{}", self.head(), self.body) }
    }
}
