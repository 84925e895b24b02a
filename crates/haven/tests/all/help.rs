//! What the help says, and what comes out of the same definitions.

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
