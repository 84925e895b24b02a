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
fn no_repository_is_made_that_everybody_could_read_unless_that_was_chosen() {
    let machine = Machine::with_library();
    let added = machine.run("copy add open @repository --library @m");
    assert!(added.exit == 0 && added.err.contains("haven copy init makes no repository without one"), "{}", added.err);
    insta::assert_snapshot!(machine.run("copy init open").whole(), @r#"
    exit 3
    --- out
    --- err
    haven: copy open has no passphrase: whoever comes by could read it
      because  copy.open in haven.toml has no passphrase_file and no passphrase_command
      meaning  no repository was made
      next     (umask 077; head -c 32 /dev/urandom | base64 > FILE)    makes one; keep a copy of it elsewhere
               then passphrase_file = "FILE" in [copy.open] of haven.toml
               or encryption = "none" there, for Borg, if everybody may read it
      code     no-secret, exit 3
    "#);
    assert!(!machine.path("repository").exists());
    machine.write("nothing", "\nmore\n");
    let with = |lines: &str| {
        let table = format!("[copy.open]\nrepository = \"{}\"\n{lines}\n", machine.text("repository"));
        machine.write("haven.toml", table);
        machine.run("copy init open")
    };
    let empty = with(&format!("passphrase_file = \"{}\"", machine.text("nothing")));
    assert!(empty.exit == 3 && empty.err.contains("[DIR]/nothing is empty"), "{}", empty.err);
    let empty = with("passphrase_command = \"echo\"");
    assert!(empty.exit == 3 && empty.err.contains("prints nothing"), "{}", empty.err);
    let restic = with("format = \"restic\"\nencryption = \"none\"");
    assert!(restic.exit == 3 && !machine.path("repository").exists(), "{}", restic.err);
    let chosen = with("encryption = \"none\"");
    assert!(chosen.exit == 0 && chosen.out.contains("It is not encrypted"), "{}", chosen.whole());
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

#[test]
fn a_leftover_with_the_name_of_a_whole_archive_is_pruned_and_the_whole_one_is_not() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    machine.write("copy-passphrase", "another one\n");
    let _mount = Mount::new(&machine, "m", "");
    let add = "copy add far @restic --format restic --passphrase-file @copy-passphrase --library @m";
    assert_eq!((machine.run(add).exit, machine.run("copy init far").exit), (0, 0));
    let program = machine.write(
        "program",
        format!(
            "#!/bin/sh\ncase \" $* \" in *' tag '*) [ -e {} ] || exit 1;; esac\nexec restic \"$@\"\n",
            machine.text("goes-on")
        ),
    );
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let settings = fs::read_to_string(machine.path("haven.toml")).unwrap();
    let settings = settings.replace("format = \"restic\"", &format!("format = \"restic\"\nprogram = {program:?}"));
    machine.write("haven.toml", settings);
    fs::write(machine.path("m/a.jpg"), "a photo").unwrap();
    assert_eq!(machine.run("snapshot create first -L @m").exit, 0);
    assert_ne!(machine.run("copy run far --snapshot first").exit, 0, "it ends before the archive has its name");
    machine.write("goes-on", "");
    let first = answer(&machine.run("copy run far --snapshot first --json"))["archive"].as_str().unwrap().to_owned();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(machine.run("snapshot create second -L @m").exit, 0);
    let second = answer(&machine.run("copy run far --snapshot second --json"))["archive"].as_str().unwrap().to_owned();
    let which = machine.run(&format!("copy delete far {first}"));
    assert!(which.exit == 2 && which.err.contains("is a leftover"), "{}", which.err);
    let pruned = answer(&machine.said(machine.command("copy prune far --json").arg("last 2")));
    let goes: Vec<_> = pruned["archives"].as_array().unwrap().iter().filter(|one| one["keep"] == false).collect();
    assert!(goes.len() == 1 && goes[0]["name"] == first.as_str() && goes[0]["leftover"] == true, "{pruned}");
    let listed = answer(&machine.run("copy list far --json"));
    let there: Vec<_> =
        listed["archives"].as_array().unwrap().iter().map(|one| (&one["name"], &one["leftover"])).collect();
    assert_eq!(there, [(&first.as_str().into(), &false.into()), (&second.as_str().into(), &false.into())]);
    // Both are still known: a whole one that vanished would be missed.
    let remembered = fs::read_to_string(machine.path("home/.local/state/haven/copies/far/archives.json")).unwrap();
    assert!(remembered.contains(&first) && remembered.contains(&second), "{remembered}");
}
