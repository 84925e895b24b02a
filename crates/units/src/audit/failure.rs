//! Whether a failure is seen: OnFailure= fires in the state `failed`, and many units never get there.

use super::{Finding, Look};
use crate::span::{self, Span};

/// A unit whose every attempt may last this long, in seconds, and still be counted as failing, is let be.
const ATTEMPT_MIN: f64 = 60.0;
/// systemd's own, where a unit does not say (systemd-system.conf(5)).
const INTERVAL: f64 = 10.0;
const BURST: f64 = 5.0;
const RESTART: f64 = 0.1;

pub fn look(look: Look<'_>, findings: &mut Vec<Finding>) {
    if !look.is_service() || look.unit.settings.iter().all(|(_, setting)| setting.section != "Service") {
        return;
    }
    hidden_exits(look, findings);
    restarts(look, findings);
    kills(look, findings);
    unbounded(look, findings);
    nobody_told(look, findings);
}

fn hidden_exits(look: Look<'_>, findings: &mut Vec<Finding>) {
    let unit = look.unit;
    let remains = unit.is_on("RemainAfterExit");
    let forgiven: Vec<&str> =
        unit.words("SuccessExitStatus").into_iter().filter(|word| !word.starts_with("SIG") && *word != "0").collect();
    if !forgiven.is_empty() {
        let left = if remains { "leaves the unit \"active (exited)\"" } else { "counts as success" };
        findings.push(
            Finding::fail("exit-hidden", unit, format!("an end with exit code {} {left}", forgiven.join(" or ")))
                .at_key(unit, "SuccessExitStatus")
                .matters(
                    "a crash looks like success: no alert, and what needs this unit goes on without it. Where it is the \
                     mount, Immich writes into the bare directory below",
                )
                .instead("remove SuccessExitStatus= (0 is a success anyway), and RemainAfterExit= with it"),
        );
    }
    let lasting = !look.is_oneshot() || look.roles.mounts.contains_key(&unit.name);
    if remains && lasting {
        findings.push(
            Finding::fail("remains-after-exit", unit, "the unit stays active when its process is gone")
                .at_key(unit, "RemainAfterExit")
                .matters("a mount whose process has ended is not noticed by the units that are bound to it")
                .instead("Type=notify and --foreground, without RemainAfterExit="),
        );
    }
    for command in unit.commands().iter().filter(|command| command.forgiving && command.setting.key == "ExecStart") {
        findings.push(
            Finding::fail("exit-hidden", unit, "the \"-\" before the command takes every failure for success")
                .at((command.path, command.setting))
                .matters("it can fail every night, and is green every morning")
                .instead(format!("ExecStart={}", redacted_program(command.line))),
        );
    }
}

/// The program alone: arguments may hold what is nobody's business.
fn redacted_program(line: &str) -> String {
    format!("{} …", line.split_whitespace().next().unwrap_or_default())
}

fn restarts(look: Look<'_>, findings: &mut Vec<Finding>) {
    let unit = look.unit;
    let Some(restart) = unit.value("Restart").filter(|&value| value != "no") else { return };
    let seconds = |keys: &[&str], default: f64| {
        let set = keys.iter().find_map(|key| unit.value(key));
        set.map_or(default, |text| span::parse(text).map_or(default, Span::seconds))
    };
    let interval = seconds(&["StartLimitIntervalSec", "StartLimitInterval"], INTERVAL);
    let burst = unit.value("StartLimitBurst").and_then(|text| text.parse().ok()).unwrap_or(BURST);
    let pause = seconds(&["RestartSec"], RESTART);
    let rule = "restart-hides-failure";
    // The start after `burst` others is refused, and only then is the unit `failed`.
    let longest = if interval == 0.0 { 0.0 } else { interval / burst - pause };
    if longest >= ATTEMPT_MIN {
        return;
    }
    let says = if longest <= 0.0 {
        format!("Restart={restart} starts it again for ever: it never becomes \"failed\"")
    } else {
        format!(
            "Restart={restart} hides every failure that takes longer than {longest:.0} s to show: then it never becomes \"failed\""
        )
    };
    let wanted = (burst * (pause + 600.0) / 3600.0).ceil().max(1.0);
    findings.push(
        Finding::fail(rule, unit, says)
            .at_key(unit, "Restart")
            .matters(
                "OnFailure= fires only in the state \"failed\": the copy is not made, night after night, and nobody is told",
            )
            .instead(format!("StartLimitIntervalSec={wanted:.0}h and StartLimitBurst={burst:.0} under [Unit], or no Restart= for what a timer starts again anyway")),
    );
}

fn kills(look: Look<'_>, findings: &mut Vec<Finding>) {
    let unit = look.unit;
    let Some(mode) = unit.value("KillMode").filter(|mode| ["process", "none"].contains(mode)) else { return };
    findings.push(
        Finding::fail("kill-mode", unit, format!("KillMode={mode} leaves processes behind when the unit is stopped"))
            .at_key(unit, "KillMode")
            .matters(
                "what is left still holds the cache, the mount or the repository's lock, and the next start works \
                 against it (\"not recommended\", says systemd.kill(5))",
            )
            .instead(
                "KillMode=mixed: the main process is asked to end and gets its time, the rest is taken down after it",
            ),
    );
}

fn unbounded(look: Look<'_>, findings: &mut Vec<Finding>) {
    let unit = look.unit;
    if !look.is_oneshot() {
        return;
    }
    let limit = unit.value("TimeoutStartSec").or_else(|| unit.value("TimeoutSec"));
    let endless =
        limit.is_none_or(|text| span::parse(text).is_none_or(|span| span == Span::Infinite || span.seconds() == 0.0));
    if endless && unit.value("RuntimeMaxSec").is_none() {
        let teller = look.roles.tellers.contains(&unit.name);
        let matters = if teller {
            "an alert that hangs is never sent, and no later one of the same name is"
        } else {
            "a job that hangs (a dead network, a lock) hangs for ever: its timer never starts it again, and nothing fails"
        };
        let finding = if teller { Finding::fail } else { Finding::warn };
        findings.push(
            finding("no-time-limit", unit, "a oneshot service has no time limit of its own")
                .at_key(unit, "Type")
                .matters(matters)
                .instead(if teller {
                    "TimeoutStartSec=5min"
                } else {
                    "TimeoutStartSec=6h, or what the longest good run takes twice"
                }),
        );
    }
}

fn nobody_told(look: Look<'_>, findings: &mut Vec<Finding>) {
    let unit = look.unit;
    let matter = look.roles.mounts.contains_key(&unit.name) || look.roles.copiers.contains(&unit.name);
    let told = unit.words("OnFailure");
    if matter && told.is_empty() {
        findings.push(
            Finding::warn("nobody-is-told", unit, "nobody is told when it fails")
                .matters("the day of the disk crash is the day on which you learn of it")
                .instead("OnFailure=haven-alert@%n.service under [Unit]"),
        );
    }
    for name in told {
        // A specifier may stand in what makes the instance; it makes no difference to the template.
        if look.tree.get(name).is_none() {
            findings.push(
                Finding::fail(
                    "alert-missing",
                    unit,
                    format!("OnFailure= names {name}, and there is no such unit here"),
                )
                .at_key(unit, "OnFailure")
                .matters("when it fails, the attempt to tell fails as well")
                .instead("the name of a unit that exists: haven setup systemd writes haven-alert@.service"),
            );
        }
    }
}
