//! A failed unit of this machine: what systemd knows of it, and the end of that start's log.

use std::process::{Command, Stdio};

use haven_notify::{Message, Severity};
use serde::Serialize;

use super::seconds;
use crate::wire;

/// What is known of a failure. Whatever can't be found out is left empty, and said.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Failed {
    pub unit: String,
    pub description: String,
    /// The start that failed.
    pub invocation: String,
    /// `exit-code`, `signal`, `timeout`, `watchdog`, …
    pub result: String,
    pub status: String,
    pub log: String,
    /// What could not be found out, and why.
    pub unknown: Vec<String>,
}

fn said(program: &str, args: &[&str]) -> Result<String, String> {
    let done = Command::new(program)
        .args(args)
        .env("LC_ALL", "C.UTF-8")
        .env("SYSTEMD_COLORS", "0")
        .stdin(Stdio::null())
        .output();
    let done = done.map_err(|error| format!("{program} can't be run: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&done.stderr);
    Err(format!("{program}: {}", why.lines().next().unwrap_or("it failed and said nothing")))
}

/// Looks `unit` up. Never fails: that it failed must be told even where nothing more can be learned.
pub fn look(unit: &str, lines: usize) -> Failed {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let mut failed = Failed {
        unit: unit.to_owned(),
        // systemd 251 and later tell their OnFailure= helpers.
        invocation: env("MONITOR_INVOCATION_ID"),
        result: env("MONITOR_SERVICE_RESULT"),
        status: env("MONITOR_EXIT_STATUS"),
        ..Failed::default()
    };
    let names = "--property=InvocationID,Result,ExecMainStatus,ExecMainCode,Description";
    match said("systemctl", &["show", names, "--", unit]) {
        Ok(text) => {
            for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
                let place = match name {
                    "InvocationID" => &mut failed.invocation,
                    "Result" => &mut failed.result,
                    "ExecMainStatus" => &mut failed.status,
                    "Description" => &mut failed.description,
                    _ => continue,
                };
                if place.is_empty() {
                    value.clone_into(place);
                }
            }
        }
        Err(why) => failed.unknown.push(why),
    }
    let count = lines.to_string();
    let id = format!("_SYSTEMD_INVOCATION_ID={}", failed.invocation);
    let other = format!("INVOCATION_ID={}", failed.invocation);
    let log = if failed.invocation.is_empty() {
        said("journalctl", &["--no-pager", "--output=cat", "--lines", &count, "--unit", unit])
    } else {
        // What the unit wrote, and what systemd wrote of it.
        said("journalctl", &["--no-pager", "--output=cat", "--lines", &count, &id, "+", &other])
    };
    match log {
        Ok(text) if !text.trim().is_empty() => failed.log = text.trim_end().to_owned(),
        Ok(_) => failed.unknown.push("its log is empty".into()),
        Err(why) => failed.unknown.push(why),
    }
    failed
}

impl Failed {
    /// One for each start that failed: the same failure is not told twice.
    pub fn message(&self) -> Message {
        let start = if self.invocation.is_empty() { seconds().to_string() } else { self.invocation.clone() };
        let plain: String =
            self.unit.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
        let mut body = String::new();
        if !self.description.is_empty() && self.description != self.unit {
            body += &format!("{}. ", self.description);
        }
        let how = match (self.result.as_str(), self.status.as_str()) {
            ("", "") => String::new(),
            (result, "" | "0") => format!("How: {result}. "),
            ("" | "exit-code", status) => format!("It ended with {status}. "),
            (result, status) => format!("How: {result} ({status}). "),
        };
        body += &how;
        for why in &self.unknown {
            body += &format!("(Not known: {why}.) ");
        }
        body += &format!("\n→ systemctl status {0}\n→ journalctl -u {0} -e", self.unit);
        Message {
            id: format!("unit-{plain}-{start}"),
            severity: Severity::Critical,
            title: format!("{} failed", self.unit),
            body,
            log: self.log.clone(),
            host: wire::host(),
            html: String::new(),
            weight: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told_and_what_is_not_is_said() {
        let failed = Failed {
            unit: "borg-offsite.service".into(),
            description: "Borg".into(),
            invocation: "abc".into(),
            result: "exit-code".into(),
            status: "2".into(),
            log: "Connection closed".into(),
            unknown: Vec::new(),
        };
        let message = failed.message();
        assert_eq!(
            (message.id.as_str(), message.title.as_str()),
            ("unit-borg-offsite-service-abc", "borg-offsite.service failed")
        );
        assert!(
            message.body.starts_with("Borg. It ended with 2. ") && message.log == "Connection closed",
            "{message:?}"
        );
        let bare =
            Failed { unit: "x.service".into(), unknown: vec!["systemctl can't be run".into()], ..Failed::default() };
        assert!(bare.message().body.contains("Not known: systemctl can't be run"));
    }

    #[test]
    fn a_unit_nobody_knows_is_told_all_the_same() {
        let failed = look("haven-no-such-unit.service", 15);
        assert_eq!(failed.message().title, "haven-no-such-unit.service failed");
    }
}
