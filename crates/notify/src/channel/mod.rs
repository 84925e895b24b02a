//! The channels, a file each. To add one: its file, its settings, its lines here.

mod discord;
mod email;
mod gotify;
mod ntfy;
mod slack;
mod telegram;
mod webhook;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{http::Http, message::Message, settings::ChannelSettings};

/// What a service gave us for a message that it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The channel's name in the settings.
    pub channel: String,
    /// The service's own number for it; empty where it gives none.
    pub number: String,
    /// What could not be done although the message arrived: the log not attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may be taken later: not before `after`, if the service says so.
    #[error("{why}")]
    Later { why: String, after: Option<Duration> },
    /// It won't ever be: a setting is wrong.
    #[error("{why}")]
    Never { why: String },
}

impl SendError {
    pub(crate) fn later(why: impl Into<String>) -> Self {
        Self::Later { why: why.into(), after: None }
    }

    pub(crate) fn never(why: impl Into<String>) -> Self {
        Self::Never { why: why.into() }
    }

    /// The same without `secret`, wherever it got into the words.
    fn without(self, secret: &str) -> Self {
        let clean = |why: String| if secret.is_empty() { why } else { why.replace(secret, "(secret)") };
        match self {
            Self::Later { why, after } => Self::Later { why: clean(why), after },
            Self::Never { why } => Self::Never { why: clean(why) },
        }
    }
}

/// What a service said to a message it took: its number, and a remark.
pub(crate) type Taken = Result<(String, Option<String>), SendError>;

/// A way to tell people.
#[derive(Debug, Clone)]
pub struct Channel {
    pub name: String,
    pub settings: ChannelSettings,
}

impl Channel {
    /// Whether messages go to it; a dead-man's switch has no use for them.
    pub fn tells_people(&self) -> bool {
        !matches!(self.settings, ChannelSettings::Healthchecks(_))
    }

    /// Hands `message` over, once. Takes no longer than the limits of `http`, and for the log as long again.
    pub async fn send(&self, http: &Http, message: &Message) -> Result<Receipt, SendError> {
        let (number, remark) = match &self.settings {
            ChannelSettings::Telegram(settings) => telegram::send(http, settings, message).await,
            ChannelSettings::Ntfy(settings) => ntfy::send(http, settings, message).await,
            ChannelSettings::Email(settings) => email::send(http, settings, message).await,
            ChannelSettings::Discord(settings) => discord::send(http, settings, message).await,
            ChannelSettings::Slack(settings) => slack::send(http, settings, message).await,
            ChannelSettings::Gotify(settings) => gotify::send(http, settings, message).await,
            ChannelSettings::Webhook(settings) => webhook::send(http, settings, message).await,
            ChannelSettings::Healthchecks(_) => Err(SendError::never("a dead-man's switch takes no messages")),
        }?;
        Ok(Receipt { channel: self.name.clone(), number, remark })
    }
}

/// A secret, or the setting that is wrong.
fn secret(what: &str, credential: &crate::Credential) -> Result<haven_store::secret::Secret, SendError> {
    credential.read().map_err(|why| SendError::never(format!("{what}: {why}")))
}

/// A base URL and what follows it.
fn join(base: &str, path: &str) -> String {
    format!("{}/{path}", base.trim_end_matches('/'))
}

/// The `id` member of an answer, whatever its type.
fn id_of(value: &serde_json::Value) -> String {
    match &value["id"] {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}
