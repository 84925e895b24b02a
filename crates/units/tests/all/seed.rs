//! Units like those of a hand-made setup that Haven replaces, with each of its mistakes, and what is found in them.

use std::{collections::BTreeSet, path::PathBuf};

use haven_units::{
    Finding, Tree,
    audit::{Scope, audit},
};

fn findings() -> Vec<Finding> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/all/seed");
    audit(&Tree::read(&[directory]).unwrap(), Scope::All)
}

#[track_caller]
fn found(rule: &str, unit: &str, words: &str) {
    let all = findings();
    let hit = all.iter().any(|finding| finding.rule == rule && finding.unit == unit && finding.says.contains(words));
    assert!(hit, "{rule} in {unit} ({words}) is not among\n{all:#?}");
}

#[test]
fn three_timers_do_not_fire_when_they_were_meant_to() {
    found("calendar-shifted", "immich-restart.timer", "fires at 00:03:00, not at 03:00:00");
    found("calendar-shifted", "s3ql-replica.timer", "fires at 00:00:30, not at 00:30:00");
    found("calendar-shifted", "borg-offsite.timer", "fires at 00:00:05, not at 00:05:00");
    found("not-caught-up", "borg-offsite.timer", "");
}

#[test]
fn jobs_run_into_each_other() {
    found("jobs-overlap", "borg-offsite.timer", "neither waits");
    found("jobs-overlap", "immich-database.timer", "neither waits");
}

#[test]
fn a_crashed_mount_looks_alive() {
    found("exit-hidden", "s3ql-mount.service", "exit code 1 leaves the unit \"active (exited)\"");
    found("remains-after-exit", "s3ql-mount.service", "");
    found("kill-mode", "s3ql-mount.service", "KillMode=process");
    found("ready-too-early", "s3ql-mount.service", "Type=simple");
    found("mount-invisible", "s3ql-mount.service", "ProtectSystem, PrivateTmp");
    found("stop-cut-off", "s3ql-mount.service", "90 s");
    found("no-network-yet", "s3ql-mount.service", "Wants=network-online.target is missing");
}

#[test]
fn a_failing_replica_never_fails() {
    found("restart-hides-failure", "s3ql-replica.service", "longer than 40 s");
    found("mirror-by-listing", "s3ql-replica.service", "mc mirror");
}

#[test]
fn immich_goes_on_without_its_library() {
    found("not-bound-to-mount", "immich-server.service", "does not stop with it");
}

#[test]
fn alerts_die_silently_and_tell_their_token() {
    let unit = "telegram@.service";
    found("curl-without-fail", unit, "");
    found("curl-without-limit", unit, "");
    found("telegram-markup", unit, "as markdown");
    found("telegram-too-long", unit, "");
    found("secret-in-argv", unit, "");
    found("no-time-limit", unit, "");
    found("secret-in-environment", unit, "TELEGRAM_TOKEN");
    found("alert-missing", "immich-database.service", "mail@%n.service");
    found("nobody-is-told", "borg-offsite.service", "");
}

#[test]
fn copies_are_none() {
    found("live-copy", "borg-offsite.service", "borg create");
    found("pipe-hides-failure", "immich-database.service", "");
    found("secret-in-environment", "borg-offsite.service", "BORG_PASSPHRASE");
    found("exit-hidden", "borg-offsite.service", "\"-\"");
    found("timer-without-unit", "disk-usage.timer", "disk-usage.service");
    found("unreadable-line", "disk-usage.timer", "");
}

#[test]
fn every_rule_has_a_mistake_that_shows_it_and_every_finding_tells_all_three_things() {
    let all = findings();
    let rules: BTreeSet<&str> = all.iter().map(|finding| finding.rule).collect();
    assert_eq!(
        rules.into_iter().collect::<Vec<_>>(),
        [
            "alert-missing",
            "calendar-shifted",
            "curl-without-fail",
            "curl-without-limit",
            "exit-hidden",
            "jobs-overlap",
            "kill-mode",
            "live-copy",
            "mirror-by-listing",
            "mount-invisible",
            "no-network-yet",
            "no-time-limit",
            "nobody-is-told",
            "not-bound-to-mount",
            "not-caught-up",
            "pipe-hides-failure",
            "ready-too-early",
            "remains-after-exit",
            "restart-hides-failure",
            "secret-in-argv",
            "secret-in-environment",
            "stop-cut-off",
            "telegram-markup",
            "telegram-too-long",
            "timer-without-unit",
            "unreadable-line",
        ]
    );
    for finding in &all {
        assert!(!finding.says.is_empty() && !finding.matters.is_empty() && !finding.instead.is_empty(), "{finding:?}");
    }
}

#[test]
fn no_finding_repeats_a_secret() {
    let told = format!("{:?}", findings());
    assert!(!told.contains("AAEhBP0av28") && !told.contains("hunter2"), "{told}");
}

#[test]
fn of_a_template_that_nobody_uses_nothing_is_said_on_a_machine() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // As postgresql-common lays them down.
    std::fs::write(at("pg_dump@.timer"), "[Timer]\nOnCalendar=weekly\n[Install]\nWantedBy=postgresql@%i.service\n")
        .unwrap();
    let service = "[Service]\nType=oneshot\nExecStart=/usr/bin/pg_backupcluster %i dump\n";
    std::fs::write(at("pg_dump@.service"), service).unwrap();
    let found = || audit(&Tree::read(&[directory.path().to_owned()]).unwrap(), Scope::Photos);
    assert_eq!(found(), []);
    std::fs::create_dir(at("postgresql@15-main.service.wants")).unwrap();
    std::fs::write(at("postgresql@15-main.service.wants/pg_dump@15-main.timer"), "").unwrap();
    let units: BTreeSet<String> = found().into_iter().map(|finding| finding.unit).collect();
    assert!(units.contains("pg_dump@.timer") && units.contains("pg_dump@.service"), "{units:?}");
    assert!(!audit(&Tree::read(&[directory.path().to_owned()]).unwrap(), Scope::All).is_empty());
}
