//! When timers really fire.

use super::{Finding, Look, Roles, roles::timer_target};
use crate::{
    calendar::{DayTimes, clock, spoken},
    tree::{Tree, Unit},
};

/// Two jobs that begin within this time of each other meet, in seconds: a dump takes seconds, a mirror minutes.
const APART: u32 = 15 * 60;

pub fn look(look: Look<'_>, findings: &mut Vec<Finding>) {
    let unit = look.unit;
    let Some(target) = timer_target(unit) else { return };
    if look.tree.get(&target).is_none() {
        findings.push(
            Finding::fail(
                "timer-without-unit",
                unit,
                format!("this timer starts {target}, and there is no such unit here"),
            )
            .matters("what it was to do every day is never done, and no timer fails for that")
            .instead(format!("write {target}, or name the unit that is meant: Unit=NAME.service")),
        );
    }
    let calendars = unit.all("OnCalendar");
    for (path, setting) in &calendars {
        let Some(times) = DayTimes::parse(&setting.value) else { continue };
        let Some(at) = times.only() else { continue };
        let told = said(look.tree, unit, &target);
        let told_wrong = told.filter(|&told| !times.seconds().contains(&told));
        let meant = times.meant();
        let Some(meant) = told_wrong.filter(|_| meant.is_some()).map(clock).or(meant).or_else(|| told_wrong.map(clock))
        else {
            continue;
        };
        findings.push(
            Finding::fail(
                "calendar-shifted",
                unit,
                format!("OnCalendar={} fires at {at}, not at {meant}", setting.value),
            )
            .at((path, setting))
            .matters(
                "the parts are hour:minute:second. Jobs that were to follow each other now run into each other, and \
                     what stops the application for a backup stops it at another time than the copy is taken",
            )
            .instead(format!("OnCalendar=*-*-* {meant}    (systemd-analyze calendar shows the next times)")),
        );
    }
    if let Some((path, setting)) = calendars.first().filter(|_| !unit.is_on("Persistent")) {
        findings.push(
            Finding::warn("not-caught-up", unit, "a run that is missed while the machine is off is not caught up")
                .at((path, setting))
                .matters("after a night without power the newest backup is two days old, and nobody is told")
                .instead("Persistent=true"),
        );
    }
}

/// The time of day that its words or its comments speak of.
fn said(tree: &Tree, timer: &Unit, target: &str) -> Option<u32> {
    let service = tree.get(target);
    let texts = [Some(timer), service]
        .into_iter()
        .flatten()
        .flat_map(|unit| unit.value("Description").map(str::to_owned).into_iter().chain(unit.comments.iter().cloned()));
    texts.filter_map(|text| spoken(&text)).next()
}

/// Jobs that copy the same library at the same time.
pub fn overlaps(tree: &Tree, roles: &Roles, findings: &mut Vec<Finding>) {
    let mut jobs: Vec<(&Unit, &Unit, Vec<u32>)> = Vec::new();
    for timer in tree.units.values() {
        let Some(service) = timer_target(timer).and_then(|target| tree.get(&target)) else { continue };
        let touches = roles.copiers.contains(&service.name) || stops_immich(service);
        if touches {
            let times = timer.all("OnCalendar").into_iter().filter_map(|(_, setting)| DayTimes::parse(&setting.value));
            jobs.push((timer, service, times.flat_map(|times| times.seconds()).collect()));
        }
    }
    for (n, (timer, service, times)) in jobs.iter().enumerate() {
        for (other_timer, other, other_times) in &jobs[n + 1..] {
            let ordered = |a: &Unit, b: &Unit| {
                ["After", "Before", "Conflicts"].iter().any(|key| a.words(key).contains(&b.name.as_str()))
            };
            if service.name == other.name || ordered(service, other) || ordered(other, service) {
                continue;
            }
            let near = |a: u32, b: u32| a.abs_diff(b).min(86_400 - a.abs_diff(b)) < APART;
            let Some((a, b)) = times.iter().find_map(|&a| other_times.iter().find(|&&b| near(a, b)).map(|&b| (a, b)))
            else {
                continue;
            };
            let finding = Finding::fail(
                "jobs-overlap",
                timer,
                format!(
                    "{} begins at {} and {} at {} ({}), and neither waits for the other",
                    service.name,
                    clock(a),
                    other.name,
                    clock(b),
                    other_timer.name
                ),
            );
            findings.push(
                finding
                    .at_key(timer, "OnCalendar")
                    .matters("each copies what the other is changing: a half-written dump, a bucket in motion")
                    .instead(format!(
                        "one timer and one unit that does both in order, or After={} in {}; or recovery points, which \
                         are one instant: haven backup",
                        service.name, other.name
                    )),
            );
        }
    }
}

/// Whether a job stops the application, which every copy beside it then depends on.
fn stops_immich(unit: &Unit) -> bool {
    let stops = |line: &str| {
        line.contains("immich")
            && ["systemctl stop", "systemctl restart", "docker stop", "docker restart"]
                .iter()
                .any(|verb| line.contains(verb))
    };
    unit.commands().iter().any(|command| stops(command.line))
}
