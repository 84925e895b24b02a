//! A dead-man's switch by the protocol of healthchecks (healthchecks.io/docs/http_api): we say that a run began and how
//! it ended; who hears nothing for too long tells people. It lives elsewhere, so it speaks when this machine can't.

use std::time::Duration;

use http::Method;

use crate::{channel::SendError, http::Http, settings::SwitchSettings, text::cut_bytes};

/// A server keeps no more of a log, bytes (its PING_BODY_LIMIT, as it comes).
const LOG_MAX: usize = 10_000;
/// Pauses between tries of one ping. A ping that comes much later says nothing.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(60)];

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    Start,
    Success,
    Fail,
    /// How a program ended: 0 is success.
    Exit(u8),
    /// Words for the log of the check; neither good nor bad.
    Log,
}

/// The switch, with a check for each kind of run.
#[derive(Debug, Clone)]
pub struct Switch {
    pub settings: SwitchSettings,
    pub http: Http,
}

impl Switch {
    /// Says it of the check for `kind`; `run` (a UUID) ties a start to its end. Tries five times, then gives up with
    /// the reason. Kinds that the owner gave no check are passed over.
    pub async fn ping(&self, kind: &str, ping: Ping, run: Option<&str>, log: &str) -> Result<(), SendError> {
        let mut pauses = PAUSES.iter();
        loop {
            let error = match self.once(kind, ping, run, log).await {
                Err(error @ SendError::Later { .. }) => error,
                other => return other,
            };
            let Some(pause) = pauses.next() else { return Err(error) };
            let asked = if let SendError::Later { after, .. } = &error { *after } else { None };
            tokio::time::sleep(asked.unwrap_or(*pause).min(Duration::from_secs(300))).await;
        }
    }

    /// Says it once.
    pub async fn once(&self, kind: &str, ping: Ping, run: Option<&str>, log: &str) -> Result<(), SendError> {
        let secret = self.settings.checks.read().map_err(|why| SendError::never(format!("checks: {why}")))?;
        let Some((check, create)) = check_of(secret.expose(), kind, &self.settings.prefix) else { return Ok(()) };
        let end = match ping {
            Ping::Start => "/start".to_owned(),
            Ping::Success => String::new(),
            Ping::Fail => "/fail".to_owned(),
            Ping::Exit(code) => format!("/{code}"),
            Ping::Log => "/log".to_owned(),
        };
        let mut asked: Vec<String> = run.map(|run| format!("rid={run}")).into_iter().collect();
        if create {
            asked.push("create=1".into());
        }
        let query = if asked.is_empty() { String::new() } else { format!("?{}", asked.join("&")) };
        let url = format!("{}/{check}{end}{query}", self.settings.url.trim_end_matches('/'));
        let clean = |error: SendError| match error {
            SendError::Later { why, after } => SendError::Later { why: why.replace(&check, "(check)"), after },
            SendError::Never { why } => SendError::Never { why: why.replace(&check, "(check)") },
        };
        let body = cut_bytes(log.trim_end(), LOG_MAX);
        let answer = self.http.send(Method::POST, &url, &[], body).await.map_err(clean)?;
        if !answer.status.is_success() {
            return Err(clean(answer.refused()));
        }
        // The service answers 200 to some checks it does not know, with these words.
        match String::from_utf8_lossy(&answer.body).trim() {
            text if text.contains("not found") || text.contains("rate limited") => {
                Err(clean(SendError::never(format!("the service says: {text}"))))
            }
            _ => Ok(()),
        }
    }
}

/// The check's part of the URL, and whether it may be made.
fn check_of(secret: &str, kind: &str, prefix: &str) -> Option<(String, bool)> {
    let mut words = secret.split_whitespace();
    if let (Some(only), None) = (words.next(), words.next()) {
        return Some((format!("{only}/{prefix}-{kind}"), true));
    }
    let line = secret.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut pairs = line.filter_map(|line| line.trim().split_once(char::is_whitespace));
    pairs.find(|(name, _)| name.trim_end_matches(':') == kind).map(|(_, uuid)| (uuid.trim().to_owned(), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_key_names_checks_by_kind_and_a_list_has_one_each() {
        assert_eq!(check_of("key22", "scrub", "haven"), Some(("key22/haven-scrub".into(), true)));
        let list = "# mine\npoint: 5c-1\nscrub 5c-2 # weekly\n";
        assert_eq!(check_of(list, "scrub", "haven"), Some(("5c-2".into(), false)));
        assert_eq!(check_of(list, "point", "haven"), Some(("5c-1".into(), false)));
        assert_eq!(check_of(list, "copy", "haven"), None);
    }
}
