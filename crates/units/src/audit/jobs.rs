//! What copies and dumps, and whether that is a copy.

use super::{
    Finding, Look,
    roles::{commands_text, runs},
};

pub fn look(look: Look<'_>, findings: &mut Vec<Finding>) {
    if !look.roles.copiers.contains(&look.unit.name) {
        return;
    }
    let text = commands_text(look.tree, look.unit);
    // What is written at the command itself can be pointed at; what a script says is told of the unit.
    let mut add = |finding: Finding, words: &[&str]| {
        let command = look.unit.commands().into_iter().find(|command| runs(command.line, words));
        findings.push(match command {
            Some(command) => finding.at((command.path, command.setting)),
            None => finding.at_key(look.unit, "ExecStart"),
        });
    };
    if runs(&text, &["mc", "mirror"]) {
        let finding = Finding::fail(
            "mirror-by-listing",
            look.unit,
            "mc mirror ends well on a listing that was cut short",
        )
        .matters(
            "a live bucket that is mirrored by its listing gives a copy whose records name objects that are not \
                 there; with --remove a wiped bucket is wiped on the copy the same night",
        )
        .instead("haven replica add NAME URL, then haven replica sync NAME: a copy that opens at every instant");
        add(finding, &["mc", "mirror"]);
    }
    for program in [&["rclone", "sync"][..], &["s5cmd", "sync"], &["aws", "s3"]] {
        if runs(&text, program) {
            let finding = Finding::warn("mirror-by-listing", look.unit, format!("{} copies a bucket in motion", program.join(" ")))
                .matters("objects that came and went during the run make a copy that may not open; deletions travel the same night")
                .instead("haven replica sync NAME");
            add(finding, program);
        }
    }
    for program in [&["borg", "create"][..], &["restic", "backup"], &["rsync"]] {
        let live = |line: &str| !line.contains(".snapshots");
        if runs(&text, program) && text.lines().filter(|line| runs(line, program)).any(live) {
            let finding = Finding::warn(
                "live-copy",
                look.unit,
                format!("{} reads a library that is being written to", program.join(" ")),
            )
            .matters("files and database are of different moments: after a restore rows name files that are not there")
            .instead("copy a snapshot (MOUNT/.snapshots/NAME), taken at the instant of the dump: haven backup");
            add(finding, program);
        }
    }
    let piped = text.lines().any(|line| {
        runs(line, &["pg_dump"]) && line.contains('|') || runs(line, &["pg_dumpall"]) && line.contains('|')
    });
    if piped && !text.contains("pipefail") {
        let finding = Finding::fail("pipe-hides-failure", look.unit, "a dump that breaks off in a pipe ends well")
            .matters("the exit code is that of the last program: half a dump, compressed without complaint")
            .instead("bash -o pipefail -c '…', or pg_dump -Fc -Z0 into a file, read back by pg_restore --list");
        add(finding, &["pg_dump"]);
    }
}
