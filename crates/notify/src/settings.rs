//! The settings of one channel: the table `[alert.NAME]` of haven.toml.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::credential::Credential;

/// Which service, and what it needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ChannelSettings {
    /// A Telegram bot that writes to a chat.
    Telegram(TelegramSettings),
    /// A topic of ntfy.sh or of an ntfy of one's own.
    Ntfy(NtfySettings),
    /// A mail by SMTP.
    Email(EmailSettings),
    /// A webhook of a Discord channel.
    Discord(HookSettings),
    /// An incoming webhook of Slack, or of what speaks like it (Mattermost, Rocket.Chat).
    Slack(HookSettings),
    /// An application of a Gotify server.
    Gotify(GotifySettings),
    /// JSON to any URL, signed.
    Webhook(WebhookSettings),
    /// A dead-man's switch: tells somebody else when *we* say nothing any more.
    Healthchecks(SwitchSettings),
}

/// The secret `token` is the bot's, as BotFather gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelegramSettings {
    /// The number of the chat, or @name of a channel.
    pub chat: String,
    pub token: Credential,
    #[serde(default = "telegram_url")]
    pub url: String,
}

fn telegram_url() -> String {
    "https://api.telegram.org".into()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NtfySettings {
    #[serde(default = "ntfy_url")]
    pub url: String,
    /// The topic, where it may be known to whoever reads the settings.
    #[serde(default)]
    pub topic: Option<String>,
    /// Else the file that holds it: on ntfy.sh whoever knows a topic can read it.
    #[serde(default)]
    pub topic_secret: Credential,
    /// An access token (tk_…), where the server wants one.
    #[serde(default)]
    pub token: Credential,
}

fn ntfy_url() -> String {
    "https://ntfy.sh".into()
}

/// How a mail server is spoken with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// TLS from the first byte (port 465).
    #[default]
    Implicit,
    /// Begun in the clear and changed to TLS before anything is said (port 587). Never goes on without it.
    Starttls,
    /// In the clear: only to this very machine (port 25).
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailSettings {
    pub server: String,
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: MailTls,
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub password: Credential,
    pub from: String,
    pub to: Vec<String>,
    /// Certificates (PEM) to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// The whole URL of such a webhook is the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookSettings {
    pub hook: Credential,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GotifySettings {
    pub url: String,
    pub token: Credential,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    pub url: String,
    /// What the body is signed with; without it nothing is signed.
    #[serde(default)]
    pub key: Credential,
}

/// The secret is the project's ping key, or lines `RUN UUID`, one for each kind of run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchSettings {
    #[serde(default = "switch_url")]
    pub url: String,
    pub checks: Credential,
    /// What stands before the kind of run in the names of checks, where a ping key is used.
    #[serde(default = "switch_prefix")]
    pub prefix: String,
}

fn switch_url() -> String {
    "https://hc-ping.com".into()
}

fn switch_prefix() -> String {
    "haven".into()
}
