//! Recovery points, on a real mount and with a real PostgreSQL.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use haven_testkit::postgres::{Cluster, IMMICH_V3};
use serde_json::Value;

use crate::{
    mounted::{Mount, can_mount},
    run::{Machine, Said},
};

/// Immich on a mount: a database, its folder with photos in it, and what haven.toml says.
pub fn immich(more: &str) -> Option<(Machine, Cluster)> {
    if !can_mount() {
        return None;
    }
    let cluster = Cluster::start()?;
    let machine = Machine::with_library();
    let reach = cluster.database("immich", IMMICH_V3);
    let text = format!(
        "[store.retry]\npatience = \"200ms\"\n[backup]\n{more}\n[backup.immich]\nkind = \"immich\"\nfolder = \"immich\"\n\
         database = \"{reach}\"\nprograms = \"{}\"\nbeside = \"{}\"\n",
        machine.text("programs"),
        machine.text("beside")
    );
    machine.write("haven.toml", text);
    fs::create_dir(machine.path("programs")).unwrap();
    for program in ["psql", "pg_dump", "pg_dumpall"] {
        std::os::unix::fs::symlink(cluster.programs().join(program), machine.path("programs").join(program)).unwrap();
    }
    Some((machine, cluster))
}

/// Puts photos there, with their rows.
pub fn upload(machine: &Machine, cluster: &Cluster, numbers: std::ops::Range<u32>) {
    let folder = machine.path("m/immich/upload");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(".immich"), "1795409189123").unwrap();
    for number in numbers {
        let content = format!("photo {number}");
        fs::write(folder.join(format!("{number}.jpg")), &content).unwrap();
        cluster.sql(
            "immich",
            &format!(
                "INSERT INTO asset (\"ownerId\", type, \"originalPath\", \"originalFileName\", checksum) SELECT id, 'IMAGE', \
                 '/data/upload/{number}.jpg', '', '\\x{}' FROM \"user\"",
                sha1(&content)
            ),
        );
    }
}

pub fn sha1(content: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, content.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err))
}

/// Puts a program of the test's own in the place of one of PostgreSQL's.
pub fn replace(machine: &Machine, cluster: &Cluster, program: &str, script: &str) {
    let path = machine.path("programs").join(program);
    fs::remove_file(&path).unwrap();
    let real = cluster.programs().join(program).display().to_string();
    let text =
        format!("#!/bin/sh\n[ \"$1\" != --version ] || exec {real} --version\n{}\n", script.replace("REAL", &real));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A psql that takes its time before what has `word` in it.
fn slow(word: &str, seconds: u32) -> String {
    format!(
        "while IFS= read -r line; do case $line in *\"{word}\"*) sleep {seconds};; esac; printf '%s\\n' \"$line\"; done | REAL \"$@\""
    )
}

fn restore(machine: &Machine, cluster: &Cluster, program: &str) {
    let path = machine.path("programs").join(program);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(cluster.programs().join(program), path).unwrap();
}

/// Nothing of a point is there: no folder, no snapshot.
fn nothing_is_left(machine: &Machine) {
    let left = fs::read_dir(machine.path("m/.haven/points")).map_or(0, Iterator::count);
    let snapshots = json(&machine.run("snapshot list --library @m --json"));
    assert_eq!((left, snapshots["snapshots"].as_array().map(Vec::len)), (0, Some(0)), "{snapshots}");
}

#[test]
fn a_point_is_taken_listed_checked_protected_and_pruned() {
    let Some((machine, cluster)) = immich("") else { return };
    let _mount = Mount::new(&machine, "m", "");
    let absent = machine.run("backup run --library @m --dry-run");
    assert!(absent.exit == 2 && absent.err.contains("no folder immich"), "{}", absent.err);
    upload(&machine, &cluster, 0..20);
    let looked = machine.run("backup run --library @m --dry-run");
    assert!(looked.exit == 0 && looked.out.contains("PostgreSQL"), "{}{}", looked.out, looked.err);
    nothing_is_left(&machine);
    let none = machine.run("backup check --library @m");
    assert!(none.exit == 7 && none.err.contains("haven backup run"), "{}", none.err);

    let taken = json(&machine.run("backup run --library @m --json"));
    assert_eq!(
        (&taken["verdict"], &taken["in_bucket"], &taken["assets"]),
        (&"complete".into(), &true.into(), &20.into())
    );
    assert_eq!(taken["warnings"], serde_json::json!([]));
    let name = taken["point"].as_str().unwrap().to_owned();
    let beside = machine.path("beside").join(&name);
    assert_eq!(fs::read_dir(&beside).unwrap().count(), 3);
    assert_eq!(fs::metadata(machine.path("m/.haven/points").join(&name)).unwrap().permissions().mode() & 0o77, 0);
    // What comes later is not in it.
    upload(&machine, &cluster, 20..22);
    fs::remove_file(machine.path("m/immich/upload/3.jpg")).unwrap();
    let checked = json(&machine.run("backup check --library @m --json"));
    assert_eq!(
        (&checked["good"], &checked["assets"], &checked["point"]),
        (&true.into(), &20.into(), &name.as_str().into())
    );
    let listed = json(&machine.run("backup list --library @m --json"));
    assert_eq!((&listed["points"][0]["complete"], &listed["points"][0]["sealed"]), (&true.into(), &true.into()));
    let sentinels = &listed["points"][0]["manifest"]["immich"]["sentinels"];
    assert_eq!((&sentinels["upload"], &sentinels["thumbs"]), (&"1795409189123".into(), &Value::Null));
    let shown = machine.run("backup show --library @m").out;
    assert!(shown.contains("assets           20") && shown.contains("Immich           3.1.0"), "{shown}");
    // A snapshot's rules know nothing of points.
    let mut prune = machine.command("snapshot prune --library @m");
    assert_eq!(machine.said(prune.arg("last 1")).exit, 0);
    machine.run("snapshot create mine --library @m");

    // The file is gone from the second point: told, with a verdict.
    let second = json(&machine.run("backup run --library @m --json"))["point"].as_str().unwrap().to_owned();
    let checked = machine.run("backup check --library @m");
    assert_eq!(checked.exit, 11, "{}{}", checked.out, checked.err);
    assert!(checked.out.contains("/data/upload/3.jpg: it is missing"), "{}", checked.out);
    assert_eq!(machine.run(&format!("backup check {name} --library @m")).exit, 0);

    assert_eq!(machine.run(&format!("backup protect {name} --until 30d --library @m")).exit, 0);
    let refused = machine.run(&format!("backup remove {name} --library @m"));
    assert!(refused.exit == 2 && refused.err.contains("is protected until"), "{}", refused.err);
    let shorter = machine.run(&format!("backup protect {name} --until never --library @m"));
    assert!(shorter.exit == 2 && shorter.err.contains("only --shorten lets that end sooner"), "{}", shorter.err);
    let mut prune = machine.command("backup prune --library @m --json --dry-run");
    let judged = json(&machine.said(prune.arg("last 1")));
    assert_eq!(judged["points"][0]["why"], "protected");
    assert_eq!(machine.run(&format!("backup protect {name} --until never --shorten --library @m")).exit, 0);
    let mut prune = machine.command("backup prune --library @m --dry-run");
    let would = machine.said(prune.arg("last 1")).out;
    assert!(would.contains(&format!("would go [DIR]/beside/{name}")) && beside.exists(), "{would}");
    let mut prune = machine.command("backup prune --library @m --json");
    let pruned = json(&machine.said(prune.arg("last 1")));
    assert_eq!(pruned["beside"], serde_json::json!([format!("[DIR]/beside/{name}")]));
    assert!(!beside.exists() && machine.path("beside").join(&second).exists());
    let listed = json(&machine.run("backup list --library @m --json"));
    assert_eq!(listed["points"].as_array().unwrap().len(), 1);
    assert_eq!(machine.run(&format!("backup remove {second} --library @m")).exit, 0);
    assert_eq!(fs::read_dir(machine.path("beside")).unwrap().count(), 0);
    let snapshots = json(&machine.run("snapshot list --library @m --json"));
    assert_eq!(snapshots["snapshots"].as_array().unwrap().len(), 1, "the owner's own: {snapshots}");
}

#[test]
fn what_fails_says_why_and_leaves_nothing() {
    let Some((machine, cluster)) = immich("tries = 2") else { return };
    let _mount = Mount::new(&machine, "m", "");
    upload(&machine, &cluster, 0..5);
    let failed = |why: &str| {
        let said = machine.run("backup run --library @m");
        assert!(said.exit == 11 && said.err.contains(why), "{why}: {} {}{}", said.exit, said.out, said.err);
        assert!(said.err.contains("nothing half-finished was kept; there is no recovery point of immich yet"));
        nothing_is_left(&machine);
    };
    // The dump is killed; its file can't grow; the connection is cut; and rows are missing though all ended well.
    replace(&machine, &cluster, "pg_dump", "REAL \"$@\" | head -c 3000; kill -KILL $$");
    failed("signal: 9");
    replace(&machine, &cluster, "pg_dump", "ulimit -f 2; exec REAL \"$@\"");
    failed("pg_dump");
    let reach = cluster.reach("immich");
    let cut = format!(
        "psql -X -q -d '{reach}' -c \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'\" \
         >/dev/null; exec REAL \"$@\""
    );
    replace(&machine, &cluster, "pg_dump", &cut);
    failed("snapshot");
    replace(&machine, &cluster, "pg_dump", "exec REAL --exclude-table-data=kysely_migrations \"$@\"");
    failed("public.kysely_migrations had 2 rows, and is not in the dump");
    replace(&machine, &cluster, "pg_dump", "REAL \"$@\" | head -c -5");
    failed("ends in the middle");
    restore(&machine, &cluster, "pg_dump");
    // Whoever does not answer while everything stands still holds nobody up.
    replace(&machine, &cluster, "psql", &slow("pg_export_snapshot", 4));
    failed("did not answer within 1.5 s");
    restore(&machine, &cluster, "psql");
    cluster.sql("postgres", "ALTER DATABASE immich ALLOW_CONNECTIONS false");
    failed("not currently accepting connections");
    cluster.sql("postgres", "ALTER DATABASE immich ALLOW_CONNECTIONS true");
    assert_eq!(machine.run("backup run --library @m").exit, 0);
}

#[test]
fn a_point_of_a_time_to_come_is_told_and_hides_nothing() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    let settings = format!(
        "[library]\nurl = \"{}\"\n[mount]\npoint = \"{}\"\n[backup.papers]\nkind = \"folder\"\nfolder = \"papers\"\n",
        machine.text("lib"),
        machine.text("m")
    );
    machine.write("haven.toml", settings);
    let _mount = Mount::new(&machine, "m", "");
    fs::create_dir_all(machine.path("m/papers")).unwrap();
    fs::write(machine.path("m/papers/a"), "a paper").unwrap();
    let later = "papers-20991231T000000Z";
    assert_eq!(machine.run(&format!("snapshot create {later} -L @m")).exit, 0);
    let folder = machine.path("m/.haven/points").join(later);
    fs::create_dir_all(&folder).unwrap();
    let manifest = serde_json::json!({
        "haven_point": 1, "name": later, "application": "papers", "kind": "folder", "taken": "2099-12-31T00:00:00Z",
        "finished": "2099-12-31T00:00:01Z", "host": "h", "haven": "0.1.0",
        "quiesce": { "by": "freeze", "frozen_ms": 1.0, "tries": 1 },
        "files": { "snapshot": later, "folder": "papers", "inodes": 2, "bytes": 7 },
    });
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    assert_eq!(machine.run("flush @m").exit, 0);
    let alone = machine.run("drill --json");
    assert!(alone.exit == 6 && alone.err.contains("of a time to come"), "{}{}", alone.out, alone.err);
    let taken = json(&machine.run("backup run --json"));
    let warned = taken["warnings"].as_array().unwrap();
    assert!(warned.len() == 1 && warned[0].as_str().unwrap().contains(later), "{taken}");
    let drilled = machine.run("drill --json");
    assert_eq!((drilled.exit, &json(&drilled)["report"]["point"]), (0, &taken["point"]), "{}", drilled.err);
    assert!(drilled.err.contains(&format!("{later} is of a time to come, and is passed over")), "{}", drilled.err);
    let back = machine.run("recover --to @back --json");
    assert_eq!((back.exit, &json(&back)["point"]), (0, &taken["point"]), "{}", back.err);
}

#[test]
fn a_copy_beside_that_fails_is_told_and_one_that_cannot_go_keeps_its_point() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    let settings = format!(
        "[mount]\npoint = \"{}\"\n[backup.papers]\nkind = \"folder\"\nfolder = \"papers\"\nbeside = \"{}\"\n",
        machine.text("m"),
        machine.text("dumps")
    );
    machine.write("haven.toml", settings);
    let _mount = Mount::new(&machine, "m", "");
    fs::create_dir_all(machine.path("m/papers")).unwrap();
    fs::write(machine.path("m/papers/a"), "a paper").unwrap();
    machine.write("dumps", "a file where the directory should be");
    let failed = machine.run("backup run --json");
    assert_eq!(failed.exit, 10, "{}{}", failed.out, failed.err);
    assert!(failed.err.contains("is complete, but not copied beside"), "{}", failed.err);
    let point = json(&failed)["point"].as_str().unwrap().to_owned();
    assert_eq!(machine.run(&format!("backup check {point}")).exit, 0, "it counts");
    // A directory where a file of Haven's would be can't be taken away as one.
    fs::remove_file(machine.path("dumps")).unwrap();
    let inside = machine.path("dumps").join(&point).join("database.dump");
    fs::create_dir_all(&inside).unwrap();
    let stays = machine.run(&format!("backup remove {point}"));
    assert!(stays.exit == 10 && stays.err.contains("the copy of the dump beside stays"), "{}", stays.err);
    assert_eq!(json(&machine.run("backup list --json"))["points"].as_array().unwrap().len(), 1);
    fs::remove_dir(inside).unwrap();
    assert_eq!(machine.run(&format!("backup remove {point}")).exit, 0);
    assert_eq!(json(&machine.run("backup list --json"))["points"], serde_json::json!([]));
    assert_eq!(fs::read_dir(machine.path("dumps")).unwrap().count(), 0);
}

#[test]
fn a_schema_that_moves_makes_the_point_be_taken_anew() {
    let Some((machine, cluster)) = immich("") else { return };
    let _mount = Mount::new(&machine, "m", "");
    upload(&machine, &cluster, 0..5);
    let (mark, reach) = (machine.text("migrated"), cluster.reach("immich"));
    let script = format!(
        "[ -e {mark} ] || psql -X -q -d '{reach}' -c \"INSERT INTO kysely_migrations VALUES ('1790000000000-More', '')\"\n\
         touch {mark}; exec REAL \"$@\""
    );
    replace(&machine, &cluster, "pg_dump", &script);
    let taken = json(&machine.run("backup run --library @m --json"));
    assert_eq!((&taken["tries"], &taken["verdict"]), (&2.into(), &"complete".into()));
    let listed = json(&machine.run("backup list --library @m --json"));
    assert_eq!(listed["points"].as_array().unwrap().len(), 1);
    assert_eq!(listed["points"][0]["manifest"]["immich"]["migrations"], 3);
}

#[test]
fn a_killed_run_leaves_nothing_that_counts_and_the_next_one_starts_what_it_stopped() {
    let Some((machine, cluster)) = immich("quiesce = \"commands\"") else { return };
    let (stopped, text) = (machine.text("stopped"), fs::read_to_string(machine.path("haven.toml")).unwrap());
    machine.write("haven.toml", format!("{text}before = \"touch {stopped}\"\nafter = \"rm -f {stopped}\"\n"));
    let _mount = Mount::new(&machine, "m", "");
    upload(&machine, &cluster, 0..5);
    let killed = |until: &dyn Fn() -> bool| {
        let mut run = machine.command("backup run --library @m").spawn().unwrap();
        assert!((0..3000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            until()
        }));
        run.kill().unwrap();
        run.wait().unwrap();
    };
    let points = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
    // In the middle of the dump.
    replace(&machine, &cluster, "pg_dump", "exec sleep 3");
    killed(&|| points(&machine.path("m/.haven/points")) == 1);
    assert_eq!(json(&machine.run("backup list --library @m --json"))["points"], serde_json::json!([]));
    // While the application is stopped.
    restore(&machine, &cluster, "pg_dump");
    replace(&machine, &cluster, "psql", &slow("LOCK TABLE", 3));
    killed(&|| Path::new(&stopped).exists());
    restore(&machine, &cluster, "psql");
    assert!(Path::new(&stopped).exists(), "nobody was there to start it");
    let resumed = machine.run("backup resume --library @m");
    assert!(
        resumed.exit == 0 && resumed.out.contains("immich goes on") && !Path::new(&stopped).exists(),
        "{}",
        resumed.err
    );
    let taken = json(&machine.run("backup run --library @m --json"));
    // What the first one left was cleared by the second before it was killed, or is by this one: see what is there.
    assert!(!Path::new(&stopped).exists(), "{taken}");
    let listed = json(&machine.run("backup list --library @m --json"));
    assert_eq!(listed["points"].as_array().unwrap().len(), 1);
    let snapshots = json(&machine.run("snapshot list --library @m --json"));
    assert_eq!(snapshots["snapshots"].as_array().unwrap().len(), 2, "{snapshots}");
}

#[test]
fn a_folder_alone_and_what_was_brought_back_from_a_copy() {
    let Some((machine, cluster)) = immich("") else { return };
    let text = fs::read_to_string(machine.path("haven.toml")).unwrap();
    machine.write("haven.toml", format!("{text}[backup.papers]\nkind = \"folder\"\nfolder = \"papers\"\n"));
    let _mount = Mount::new(&machine, "m", "");
    upload(&machine, &cluster, 0..5);
    fs::create_dir(machine.path("m/papers")).unwrap();
    fs::write(machine.path("m/papers/a"), "a").unwrap();
    let which = machine.run("backup run --library @m");
    assert!(which.exit == 2 && which.err.contains("--all"), "{}", which.err);
    let both = machine.run("backup run --all --library @m");
    assert!(both.exit == 0 && both.out.matches(": complete;").count() == 2, "{}{}", both.out, both.err);
    let checked = machine.run("backup check --of papers --library @m");
    assert!(checked.exit == 0 && checked.out.contains("good"), "{}{}", checked.out, checked.err);
    // As a third copy holds it: the files at the root, and the point's folder among them.
    let point =
        json(&machine.run("backup check --of immich --library @m --json"))["point"].as_str().unwrap().to_owned();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(machine.path("m/.snapshots").join(&point).join("."))
        .arg(machine.path("copy"))
        .status();
    assert!(copied.unwrap().success());
    fs::create_dir_all(machine.path("copy/.haven/points")).unwrap();
    let folder = machine.path("m/.haven/points").join(&point);
    let copied =
        std::process::Command::new("cp").arg("-r").arg(folder).arg(machine.path("copy/.haven/points")).status();
    assert!(copied.unwrap().success());
    assert_eq!(machine.run("backup check --in @copy").exit, 0);
    fs::write(machine.path("copy/immich/upload/2.jpg"), "photo two").unwrap();
    let checked = machine.run("backup check --in @copy");
    assert!(checked.exit == 11 && checked.out.contains("it holds something else"), "{}{}", checked.out, checked.err);
}

#[test]
fn of_several_applications_each_point_is_a_line_and_counts_its_own_files() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    let tables = ["a", "b"].map(|name| format!("[backup.{name}]\nkind = \"folder\"\nfolder = \"{name}\"\n"));
    machine.write("haven.toml", format!("[mount]\npoint = \"{}\"\n{}", machine.text("m"), tables.concat()));
    let _mount = Mount::new(&machine, "m", "");
    for (folder, files) in [("a/deep", 5), ("b", 1), ("elsewhere", 9)] {
        fs::create_dir_all(machine.path("m").join(folder)).unwrap();
        for n in 0..files {
            fs::write(machine.path("m").join(folder).join(n.to_string()), [7; 1000]).unwrap();
        }
    }
    fs::hard_link(machine.path("m/a/deep/0"), machine.path("m/a/again")).unwrap();
    let taken = machine.run("backup run --all --json");
    assert_eq!(taken.exit, 0, "{}", taken.err);
    let lines: Vec<Value> = taken.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |line: &Value| (line["application"].clone(), line["files"].clone(), line["file_bytes"].clone());
    assert_eq!(lines.len(), 2, "{}", taken.out);
    assert_eq!(told(&lines[0]), ("a".into(), 5.into(), 5000.into()));
    assert_eq!(told(&lines[1]), ("b".into(), 1.into(), 1000.into()));
    let shown = machine.run(&format!("backup show {}", lines[0]["point"].as_str().unwrap())).out;
    assert!(shown.contains("5, 5.0 kB") && shown.contains("whole library"), "{shown}");
    assert!(machine.run("backup list").out.contains("  5.0 kB  "), "of the application alone");
}

#[test]
fn a_server_that_lets_in_by_who_asks_is_backed_up_by_root_into_a_mount_of_its_own() {
    let Some((machine, cluster)) = immich("") else { return };
    let _mount = Mount::new(&machine, "m", "");
    upload(&machine, &cluster, 0..3);
    if !cluster.lets_in_peers_alone() {
        return;
    }
    // No role, and the system's own programs: as the manual has it. The test's are in a directory of root's.
    let settings = fs::read_to_string(machine.path("haven.toml")).unwrap().replace(" user=postgres", "");
    let settings: Vec<&str> = settings.lines().filter(|line| !line.starts_with("programs = ")).collect();
    machine.write("haven.toml", settings.join("\n"));
    let taken = json(&machine.run("backup run --library @m --json"));
    assert_eq!((&taken["assets"], taken["warnings"].as_array().map(Vec::len)), (&3.into(), Some(0)), "{taken}");
    let checked = machine.run("backup check --library @m");
    assert_eq!(checked.exit, 0, "{}", checked.err);
}
