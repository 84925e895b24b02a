//! Copies by the real programs, through the commands. What the programs may do wrong is tested where they are driven.

use std::{fs, path::Path};

use crate::{
    mounted::{Mount, can_mount},
    run::{Machine, Said},
};

fn answer(said: &Said) -> serde_json::Value {
    assert_eq!(said.exit, 0, "{}", said.err);
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out))
}

fn same(a: &Path, b: &Path) {
    let done = std::process::Command::new("diff").arg("-r").arg(a).arg(b).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
fn a_library_is_copied_in_both_formats_pruned_missed_and_brought_back() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    machine.write("copy-passphrase", "another one\n");
    let _mount = Mount::new(&machine, "m", "");
    fs::create_dir_all(machine.path("m/2026/07")).unwrap();
    for n in 0..5_u8 {
        fs::write(machine.path(&format!("m/2026/07/{n}.jpg")), vec![n; 3000 + usize::from(n)]).unwrap();
    }
    for (name, format) in [("home", "borg"), ("far", "restic")] {
        let run = |line: &str| machine.run(&line.replace("NAME", name));
        let add = format!("copy add NAME @{format} --format {format} --passphrase-file @copy-passphrase --library @m");
        assert_eq!(run(&add).exit, 0);
        assert_eq!(run(&add).exit, 7, "there is one called so");
        let early = run("copy run NAME");
        assert!(early.exit == 7 && early.err.contains(&format!("haven copy init {name}")), "{}", early.err);
        assert_eq!(run("copy init NAME").exit, 0);
        assert_eq!(run("copy init NAME").exit, 7);
        assert!(run("copy restore NAME --to @nothing").err.contains("there is no archive that is whole"));
        assert!(run("copy run NAME --dry-run").out.contains("nothing yet"));
        let first = answer(&run("copy run NAME --json"));
        assert_eq!(first["missing"].as_array().map(Vec::len), Some(0));
        assert_eq!(first["files"], if name == "home" { 5 } else { 6 }, "{first}");
        assert!(!machine.run("snapshot list -L @m").out.contains("copy-"), "what was taken for it is gone");
        assert_eq!(machine.run(&format!("snapshot create kept-{name} -L @m")).exit, 0);
        fs::write(machine.path(&format!("m/2026/{name}-new.jpg")), "new").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let of_snapshot = format!("copy run NAME --snapshot kept-{name} --json");
        let second = answer(&run(&of_snapshot));
        assert_eq!(run(&of_snapshot).exit, 7, "this state is there already");
        let archive = second["archive"].as_str().unwrap().to_owned();
        // Into the library itself, without the file that came later, and into a directory.
        assert_eq!(run("copy restore NAME --to @m/back").exit, 0);
        same(&machine.path("m/2026/07"), &machine.path("m/back/2026/07"));
        assert!(!machine.path(&format!("m/back/2026/{name}-new.jpg")).exists());
        let again = run("copy restore NAME --to @m/back");
        assert!(again.exit == 7 && again.err.contains("is not empty"), "{}", again.err);
        fs::remove_dir_all(machine.path("m/back")).unwrap();
        assert_eq!(run("copy restore NAME 2026/07/3.jpg --to @one").exit, 0);
        assert_eq!(fs::read(machine.path("one/2026/07/3.jpg")).unwrap(), vec![3; 3003]);
        fs::remove_dir_all(machine.path("one")).unwrap();
        assert_eq!(run("copy restore NAME no/such --to @one").exit, 7);
        assert_eq!(answer(&run("copy check NAME --json"))["archives"], 2);
        assert!(run("copy info NAME").out.contains("archives    2"));
        let nothing = run("copy prune NAME --dry-run");
        assert!(nothing.exit == 2 && nothing.err.contains("no rules were given"), "{}", nothing.err);
        assert_eq!(run("copy prune NAME daily0").exit, 2);
        let listed = || answer(&run("copy list NAME --json"))["archives"].as_array().unwrap().len();
        let mut prune = machine.command(&format!("copy prune {name} --dry-run"));
        assert!(machine.said(prune.arg("last 1")).out.contains("would go"));
        assert_eq!(listed(), 2);
        let mut prune = machine.command(&format!("copy prune {name}"));
        assert_eq!(machine.said(prune.arg("last 1")).exit, 0);
        assert_eq!(listed(), 1);
        let mut prune = machine.command(&format!("copy prune {name}"));
        let all = machine.said(prune.arg("last 0"));
        assert!(all.exit == 2 && all.err.contains("would remove everything"), "{}", all.err);
        // Somebody else deletes what is left.
        let remembered = machine.path(&format!("home/.local/state/haven/copies/{name}/archives.json"));
        let before = fs::read(&remembered).unwrap();
        assert_eq!(run(&format!("copy delete NAME {archive}")).exit, 0);
        assert_eq!(run("copy list NAME").exit, 0);
        fs::write(&remembered, before).unwrap();
        let gone = run("copy list NAME");
        assert!(gone.exit == 10 && gone.err.contains("has been emptied"), "{}", gone.err);
        assert_eq!(run("copy run NAME").exit, 10);
        assert_eq!(run("copy check NAME --accept-missing").exit, 0);
        assert_eq!(run("copy list NAME").exit, 0);
        assert_eq!(run("copy remove NAME").exit, 0);
        assert!(run("copy list NAME").err.contains(&format!("no copy is called {name}")));
    }
}

#[test]
fn of_a_recovery_point_the_files_of_the_instant_and_the_dump_are_copied_as_one() {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    let machine = Machine::with_library();
    machine.write("copy-passphrase", "another one\n");
    let _mount = Mount::new(&machine, "m", "");
    let point = "immich-20261126T213000Z";
    fs::create_dir_all(machine.path("m/.haven/points")).unwrap();
    fs::write(machine.path("m/there.jpg"), "at the instant").unwrap();
    assert_eq!(machine.run(&format!("snapshot create {point} -L @m")).exit, 0);
    fs::remove_file(machine.path("m/there.jpg")).unwrap();
    fs::write(machine.path("m/later.jpg"), "later").unwrap();
    let folder = machine.path("m/.haven/points").join(point);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("database.dump"), "rows").unwrap();
    let manifest = serde_json::json!({
        "haven_point": 1, "name": point, "application": "immich", "kind": "folder", "taken": "2026-11-26T21:30:00Z",
        "finished": "2026-11-26T21:30:01Z", "host": "h", "haven": "0.1.0", "quiesce": { "by": "freeze", "frozen_ms": 1.0, "tries": 1 },
        "files": { "snapshot": point, "folder": "", "inodes": 2, "bytes": 14 },
    });
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    assert_eq!(machine.run(&format!("snapshot create {point}+dump -L @m")).exit, 0);
    for (name, format) in [("home", "borg"), ("far", "restic")] {
        let run = |line: &str| machine.run(&line.replace("NAME", name));
        let add = format!("copy add NAME @{format} --format {format} --passphrase-file @copy-passphrase --library @m");
        assert_eq!((run(&add).exit, run("copy init NAME").exit), (0, 0));
        assert_eq!(answer(&run("copy run NAME --json"))["snapshot"], point);
        assert_eq!(run("copy run NAME").exit, 7, "no newer point is there");
        assert_eq!(run("copy restore NAME --to @back").exit, 0);
        let back = |path: &str| fs::read_to_string(machine.path("back").join(path)).unwrap_or_default();
        assert_eq!(back("there.jpg"), "at the instant");
        assert_eq!(back(&format!(".haven/points/{point}/database.dump")), "rows");
        assert!(!machine.path("back/later.jpg").exists());
        fs::remove_dir_all(machine.path("back")).unwrap();
    }
}
