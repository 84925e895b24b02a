//! What the help says, and what comes out of the same definitions.

use std::process::Stdio;

use insta::assert_snapshot;

use crate::run::Machine;

#[test]
fn the_whole_help() {
    let machine = Machine::new();
    let mut all = machine.run("--help").out;
    let commands = [
        "up",
        "init",
        "mount",
        "run",
        "umount",
        "status",
        "flush",
        "stat",
        "key",
        "claims",
        "salvage",
        "recover",
        "drill",
        "explain",
        "export",
        "import",
        "replica",
        "copy",
        "restore",
        "health",
        "schedule",
        "runs",
        "report",
        "alert",
        "alert test",
        "alert unit",
        "doctor",
        "setup",
        "setup systemd",
        "bench",
        "config",
        "completions",
        "man",
    ];
    let keys = ["key list", "key add", "key change", "key remove", "key recovery"];
    let replicas = [
        "replica add",
        "replica list",
        "replica sync",
        "replica status",
        "replica verify",
        "replica remove",
        "replica promote",
    ];
    let copies = [
        "copy add",
        "copy init",
        "copy run",
        "copy list",
        "copy info",
        "copy check",
        "copy prune",
        "copy delete",
        "copy restore",
        "copy remove",
    ];
    for command in commands.iter().chain(&keys).chain(&replicas).chain(&copies) {
        let said = machine.run(&format!("{command} --help"));
        assert_eq!(said.exit, 0, "{command}");
        all += &format!("\n======== haven {command}\n{}", said.out);
    }
    assert_snapshot!(all);
}

#[test]
fn every_command_is_completed_and_has_its_page() {
    let machine = Machine::new();
    let completions = machine.run("completions bash");
    assert!(completions.out.contains("salvage") && completions.out.contains("--recovery-key-file"));
    assert_eq!(machine.run("man @pages").exit, 0);
    let page = std::fs::read_to_string(machine.path("pages/haven.1")).unwrap();
    assert!(page.contains("another machine writes to the library"), "the exit codes are in the manual");
    assert!(machine.path("pages/haven-key-recovery.1").exists());
}

#[test]
fn the_settings_that_are_printed_are_settings() {
    let machine = Machine::new();
    let printed = machine.run("config").out;
    machine.write("haven.toml", &printed);
    assert_eq!(machine.run("config").out, printed);
}

#[test]
fn whoever_stops_listening_is_no_trouble() {
    let machine = Machine::new();
    for line in ["completions bash", "completions zsh", "config", "--help", "doctor --json"] {
        let mut child = machine.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Closed before anything comes: as `| head -1`, at its worst.
        drop(child.stdout.take());
        let done = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&done.stderr);
        assert!(!err.contains("panicked") && !err.contains("Broken pipe"), "{line}: {err}");
        assert_ne!(done.status.code(), Some(101), "{line}");
    }
}

#[test]
fn a_script_that_asks_for_json_gets_nothing_else() {
    let machine = Machine::new();
    for line in ["--json mount", "claims --jsno --json", "replica statsu --json", "--json", "backup protect p --json"] {
        let said = machine.run(line);
        assert_eq!((said.exit, said.out.as_str()), (2, ""), "{line}");
        let value: serde_json::Value =
            serde_json::from_str(&said.err).unwrap_or_else(|_| panic!("{line}: {}", said.err));
        assert!(value["error"]["code"] == "usage" && value["exit"] == 2, "{line}: {value}");
        assert!(!value["error"]["what"].as_str().unwrap().is_empty(), "{line}: {value}");
    }
    let near = machine.run("replica statsu --json").err;
    assert!(near.contains("status"), "the nearest name: {near}");
    assert!(machine.run("claims --jsno").err.starts_with("error: "), "for people, as it was");
    let machine = Machine::with_library();
    std::fs::set_permissions(machine.path("passphrase"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let said = machine.run("claims @lib --json");
    assert_eq!(said.exit, 0, "{}", said.err);
    let lines: Vec<serde_json::Value> = said.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["warning"].as_str().unwrap().contains("may be read by others"), "{lines:?}");
}
