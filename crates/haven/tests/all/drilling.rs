//! Drills, on real mounts and with a real PostgreSQL: what they prove, what they find, and what is none.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    mounted::Mount,
    points::json,
    recovering::{folders, json_of, scene, with_point},
    run::{Machine, Said},
};

/// The folder of a point, as a copy in a foreign format brought it back to `to`.
fn brought_back(machine: &Machine, point: &str, folder: &str, to: &str) {
    let copied = |from: String, to: String| {
        fs::create_dir_all(machine.path(&to)).unwrap();
        let done = Command::new("cp").arg("-a").arg(machine.path(&from)).arg(machine.path(&to)).status().unwrap();
        assert!(done.success());
    };
    copied(format!("m/.snapshots/{point}/{folder}"), to.to_owned());
    copied(format!("m/.haven/points/{point}"), format!("{to}/.haven/points"));
}

/// Changes the manifest of a point in a folder that was brought back.
fn change(machine: &Machine, at: &str, point: &str, change: impl FnOnce(&mut Value)) {
    let path = machine.path(&format!("{at}/.haven/points/{point}/manifest.json"));
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::remove_file(&path).unwrap();
    fs::write(&path, manifest.to_string()).unwrap();
}

fn reports(said: &Said) -> Vec<Value> {
    let report = |line: &str| serde_json::from_str::<Value>(line).unwrap()["report"].take();
    said.out.lines().map(report).collect()
}

#[test]
fn drills_prove_what_is_right_and_name_what_is_damaged_deleted_and_swapped() {
    let Some((machine, cluster)) = scene() else { return };
    let _mount = Mount::new(&machine, "m", "");
    let point = with_point(&machine, &cluster);
    for (level, proven) in [(0, 1), (1, 20), (2, 20)] {
        let done = machine.run(&format!("drill --level {level} --json"));
        assert_eq!(done.exit, 0, "{}{}", done.out, done.err);
        let report = &json(&done)["report"];
        assert_eq!(
            (&report["ok"], &report["proven"], &report["point"]),
            (&true.into(), &proven.into(), &point.as_str().into())
        );
    }
    let old = machine.run("drill --max-age 0s --json");
    // It was taken in this very second, or it is too old; what was proven of it is proven.
    assert!([0, 11].contains(&old.exit) && json_of(&old.out)["report"]["ok"] == true, "{}", old.err);

    // The same point as a copy brought it back, with three photos that are not what they were.
    brought_back(&machine, &point, "immich", "copy");
    let good = machine.run("drill --level 1 --copy @copy --json");
    assert_eq!(good.exit, 0, "{}", good.err);
    let file = |number: u32| machine.path(&format!("copy/immich/upload/{number}.jpg"));
    fs::write(file(1), "photo l").unwrap();
    fs::remove_file(file(2)).unwrap();
    fs::write(file(4), "photo 5").unwrap();
    let bad = machine.run("drill --level 1 --copy @copy --json");
    assert_eq!(bad.exit, 6, "{}", bad.err);
    let report = &json(&bad)["report"];
    assert_eq!((&report["ok"], &report["proven"]), (&false.into(), &17.into()));
    let mut broken: Vec<_> =
        report["broken"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap().to_owned()).collect();
    broken.sort();
    assert_eq!(broken, ["/data/upload/1.jpg", "/data/upload/2.jpg", "/data/upload/4.jpg"]);

    let listed = json(&machine.run("drill list --json"));
    let drills = listed["drills"].as_array().unwrap();
    assert!(drills.len() >= 5 && drills.iter().all(|drill| drill["signed"] == true), "{listed}");

    let explained = json(&machine.run("explain @m/immich/upload/5.jpg --json"));
    assert_eq!(explained["points"], serde_json::json!([point]));
    let copies = explained["copies"].as_array().unwrap();
    assert!(copies.len() == 3 && copies.iter().all(|copy| copy["verdict"] == "matches"), "{explained}");
    let damaged = machine.run("explain /data/upload/1.jpg --json");
    assert_eq!(damaged.exit, 6, "{}", damaged.err);
    let unknown = machine.run("explain nobody.jpg");
    assert_eq!(unknown.exit, 7, "{}", unknown.err);
}

#[test]
fn what_is_no_fault_of_a_copys_is_no_drill() {
    let Some((machine, cluster)) = scene() else { return };
    let _mount = Mount::new(&machine, "m", "");
    let recorded = || json(&machine.run("drill list --json"))["drills"].as_array().unwrap().len();
    assert_eq!(machine.run("flush @m").exit, 0);
    let early = machine.run("drill");
    assert_eq!((early.exit, early.out.as_str()), (7, ""), "{}", early.err);
    insta::assert_snapshot!(early.err, @r"
    haven: there is no recovery point yet
      because  looked in library
      meaning  nothing was drilled, and nothing was recorded
      next     haven backup run    takes one
      code     no-point, exit 7
    ");
    let point = with_point(&machine, &cluster);
    assert_eq!(machine.run("flush @m").exit, 0);
    let slip = machine.run("drill --of imich");
    assert_eq!(slip.exit, 2, "{}", slip.err);
    insta::assert_snapshot!(slip.err, @r"
    haven: there is no recovery point of imich
      because  looked in library
               it has points of immich
      meaning  nothing was drilled, and nothing was recorded
      next     is it immich?
      code     usage, exit 2
    ");
    assert_eq!(machine.run("drill --point immich-20200101T000000Z").exit, 7);
    let nowhere = machine.run("drill --level 2 --scratch /proc/nowhere");
    assert!(nowhere.exit == 8 && nowhere.err.contains("is not recorded as one"), "{}", nowhere.err);
    assert_eq!(recorded(), 0);

    // A copy that lacks what the library has is at fault.
    fs::create_dir_all(machine.path("bare/.haven/points")).unwrap();
    let bare = machine.run("drill --copy @bare");
    assert!(bare.exit == 6 && bare.out.contains("has no complete recovery point"), "{}{}", bare.out, bare.err);
    assert_eq!(recorded(), 1);

    // Who has lost something is told where else to look, and not to take a new point.
    let settings = fs::read_to_string(machine.path("haven.toml")).unwrap();
    let near = format!("{settings}\n[replica.near]\nurl = \"{}\"\n", machine.text("near"));
    machine.write("haven.toml", near);
    let lost = machine.run("recover --of nope --to @back");
    insta::assert_snapshot!(lost.err, @r"
    haven: the library has no complete recovery point of nope
      because  it has points of immich
      meaning  nothing was changed
      next     haven recover --from near    looks into another copy: near
      code     no-point, exit 7
    ");
    let lost = machine.run(&format!("recover --point {point}x --to @back"));
    assert!(lost.err.contains(&format!("is it {point}?")), "{}", lost.err);
    assert!(!machine.path("back").exists());
}

#[test]
fn what_this_machine_cannot_do_hides_neither_damage_nor_the_other_copies() {
    let Some((machine, cluster)) = scene() else { return };
    let _mount = Mount::new(&machine, "m", "");
    let point = with_point(&machine, &cluster);
    assert_eq!(machine.run("flush @m").exit, 0);
    for copy in ["unfit", "worse", "good"] {
        brought_back(&machine, &point, "immich", copy);
    }
    for copy in ["unfit", "worse"] {
        change(&machine, copy, &point, |manifest| {
            manifest["database"]["extensions"]["haven_nowhere"] = "1".into();
        });
    }
    fs::write(machine.path("worse/immich/upload/1.jpg"), "photo l").unwrap();

    let bad = machine.run("drill --level 2 --copy @worse --copy @unfit --json");
    assert_eq!(bad.exit, 6, "{}{}", bad.out, bad.err);
    let told = reports(&bad);
    assert_eq!(told.len(), 2, "{}", bad.out);
    assert_eq!((&told[0]["ok"], told[0]["broken"].as_array().unwrap().len()), (&false.into(), 1));
    let steps = told[0]["steps"].as_array().unwrap();
    let database = steps.iter().find(|step| step["name"] == "database").unwrap();
    assert!(database["ok"] == true && database["said"].as_str().unwrap().contains("haven_nowhere"), "{database}");
    // Nothing more is brought back for a database that can't be restored here: the photos are looked at where they are.
    assert_eq!((&told[1]["ok"], &told[1]["level"]), (&true.into(), &1.into()));
    for which in ["worse was not drilled to the end:", "unfit is drilled at level 1:"] {
        assert!(bad.err.contains(which), "{}", bad.err);
    }

    let own = machine.run("drill --level 2 --copy @unfit --copy @good --json");
    assert!(own.exit == 8 && own.err.contains("haven_nowhere"), "{}{}", own.out, own.err);
    assert!(own.err.contains("unfit was not drilled"), "{}", own.err);
    let told = reports(&own);
    assert!(told.len() == 1 && told[0]["ok"] == true, "{}", own.out);
    let listed = json(&machine.run("drill list --json"));
    assert_eq!(listed["drills"].as_array().unwrap().len(), 3, "{listed}");
}

#[test]
fn a_drill_uses_the_applications_own_server_where_that_is_said_and_nowhere_else() {
    let Some((machine, cluster)) = scene() else { return };
    let _mount = Mount::new(&machine, "m", "");
    with_point(&machine, &cluster);
    // What Docker would run in the container, with a note of it.
    let (docker, noted, hooked) = (machine.text("docker"), machine.text("noted"), machine.text("hooked"));
    let script = format!("#!/bin/sh\nshift 3\necho \"$*\" >>{noted}\nexec \"$@\"\n");
    fs::set_permissions(machine.write("docker", script), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(cluster.programs().join("pg_restore"), machine.path("programs/pg_restore")).unwrap();
    let settings = fs::read_to_string(machine.path("haven.toml")).unwrap();
    let inside = format!("folder = \"immich\"\nwithin = [\"{docker}\", \"exec\", \"-i\", \"immich_postgres\"]\n");
    let settings = settings.replace("folder = \"immich\"\n", &inside);
    machine.write("haven.toml", &settings);
    let databases = || cluster.sql("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database");
    let before = databases();

    let alone = machine.run("drill --level 2 --programs @nowhere");
    assert_eq!(alone.exit, 8, "{}{}", alone.out, alone.err);
    assert!(alone.err.contains("drill_server = \"application\" in [backup.immich]"), "{}", alone.err);
    assert!(!Path::new(&noted).exists(), "nobody has said that the application's server may be used");

    machine.write("haven.toml", settings.replace("[backup]\n", "[backup]\ndrill_server = \"application\"\n"));
    // What a drill that was killed has left goes; what somebody else looks at stays.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for (name, host) in [("haven_drill_7", host.trim()), ("haven_drill_8", "elsewhere")] {
        cluster.sql("postgres", &format!("CREATE DATABASE {name}"));
        let remark = format!("haven drill: for a while, by process {} of {host}", u32::MAX);
        cluster.sql("postgres", &format!("COMMENT ON DATABASE {name} IS '{remark}'"));
    }
    let hook = format!("echo \"$HAVEN_DRILL_WITHIN, $HAVEN_DRILL_DATABASE_NAME, $HAVEN_DRILL_PROGRAMS\" >{hooked}");
    let done = machine.said(machine.command("drill --level 2 --json --hook").arg(hook));
    assert_eq!(done.exit, 0, "{}{}", done.out, done.err);
    let report = &json(&done)["report"];
    let step = report["steps"].as_array().unwrap().iter().find(|step| step["name"] == "database").unwrap();
    assert!(step["said"].as_str().unwrap().contains(" rows in "), "{report}");
    let told = fs::read_to_string(&hooked).unwrap();
    assert!(told.starts_with(&format!("{docker} exec -i immich_postgres, haven_drill_")), "{told}");
    assert!(told.contains(&machine.text("programs")), "{told}");
    assert!(fs::read_to_string(&noted).unwrap().contains("pg_restore"));
    cluster.sql("postgres", "DROP DATABASE haven_drill_8");
    assert_eq!(databases(), before);
    assert_eq!(cluster.sql("immich", "SELECT count(*) FROM asset"), "22");

    // Named by hand, whatever the settings say; and one who may not.
    let by_hand = |reach: &str| {
        let mut command = machine.command("drill --level 2 --programs @programs --no-record --json");
        machine.said(command.args(["--within", &format!("{docker} exec -i immich_postgres"), "--database", reach]))
    };
    let named = by_hand(&cluster.reach("postgres"));
    assert_eq!(named.exit, 0, "{}{}", named.out, named.err);
    cluster.sql("postgres", "CREATE ROLE weak LOGIN");
    let weak = by_hand(&cluster.reach("postgres").replace("user=postgres", "user=weak"));
    assert!(weak.exit == 8 && weak.err.contains("weak may make no database there"), "{}{}", weak.out, weak.err);
    let away = by_hand("host=/nowhere user=postgres dbname=postgres");
    assert!(away.exit == 8 && away.err.contains("that server can't be drilled on"), "{}{}", away.out, away.err);
    assert_eq!(databases(), before);
}

#[test]
fn a_drill_that_brings_files_back_fails_for_one_that_cannot_be_read() {
    let Some(machine) = folders(&["papers"]) else { return };
    let _mount = Mount::new(&machine, "m", "");
    fs::create_dir_all(machine.path("m/papers")).unwrap();
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let film: Vec<u8> = (0..6_000_000).map(|_| noise()).collect();
    fs::write(machine.path("m/papers/film.mov"), film).unwrap();
    assert_eq!(machine.run("flush @m").exit, 0);
    fs::write(machine.path("m/papers/small.txt"), "small").unwrap();
    assert_eq!(machine.run("backup run").exit, 0);
    let good = machine.run("drill --level 2 --json");
    assert_eq!(good.exit, 0, "{}{}", good.out, good.err);
    let large = Command::new("find").arg(machine.path("lib")).args(["-type", "f", "-size", "+1000k"]).output().unwrap();
    let large = String::from_utf8(large.stdout).unwrap();
    assert!(large.lines().count() > 0);
    large.lines().for_each(|pack| fs::remove_file(pack).unwrap());
    let bad = machine.run("drill --level 2 --json");
    assert_eq!(bad.exit, 6, "{}{}", bad.out, bad.err);
    let report = &json(&bad)["report"];
    let step = report["steps"].as_array().unwrap().iter().find(|step| step["name"] == "files").unwrap();
    assert!(step["ok"] == false && step["said"].as_str().unwrap().contains("film.mov"), "{report}");
}

#[test]
fn a_copy_that_the_others_have_left_behind_is_not_proven() {
    let Some(machine) = folders(&["papers"]) else { return };
    let _mount = Mount::new(&machine, "m", "");
    fs::create_dir_all(machine.path("m/papers")).unwrap();
    fs::write(machine.path("m/papers/a.txt"), "a paper").unwrap();
    let taken = machine.run("backup run --json");
    assert_eq!(taken.exit, 0, "{}", taken.err);
    let point = json(&taken)["point"].as_str().unwrap().to_owned();
    assert_eq!(machine.run("flush @m").exit, 0);
    brought_back(&machine, &point, "papers", "behind");
    change(&machine, "behind", &point, |manifest| manifest["taken"] = "2020-01-01T00:00:00Z".into());
    let all = machine.run("drill --max-age 1h --copy @behind --copy library --json");
    assert_eq!(all.exit, 6, "{}{}", all.out, all.err);
    let told = reports(&all);
    let verdict = |report: &Value| (report["kind"].as_str().unwrap().to_owned(), report["ok"].as_bool().unwrap());
    let verdicts: Vec<_> = told.iter().map(verdict).collect();
    assert_eq!(verdicts, [("library".to_owned(), true), ("folder".to_owned(), false)]);
    let age = told[1]["steps"].as_array().unwrap().iter().find(|step| step["name"] == "age").unwrap();
    assert!(age["ok"] == false && age["said"].as_str().unwrap().contains("another copy has a newer one"), "{age}");
    // Where no copy has a newer one it is not this one's fault.
    let alone = machine.run("drill --max-age 1h --copy @behind --json");
    assert!(alone.exit == 11 && reports(&alone)[0]["ok"] == true, "{}{}", alone.out, alone.err);
}

#[test]
fn a_drill_that_is_ended_while_it_fetches_a_point_tells_nothing_of_any_copy() {
    let Some(machine) = folders(&["papers"]) else { return };
    let _mount = Mount::new(&machine, "m", "");
    machine.write("copy-passphrase", "another one\n");
    let (mark, program) = (machine.text("fetching"), machine.text("restic"));
    let script =
        format!("#!/bin/sh\ncase \" $* \" in *' restore '*) echo >{mark}; exec sleep 300;; esac\nexec restic \"$@\"\n");
    fs::set_permissions(machine.write("restic", script), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let add = "copy add far @far --format restic --passphrase-file @copy-passphrase";
    assert_eq!(machine.run(add).exit, 0);
    assert_eq!(machine.run("copy init far").exit, 0);
    fs::create_dir_all(machine.path("m/papers")).unwrap();
    fs::write(machine.path("m/papers/a.txt"), "a paper").unwrap();
    assert_eq!(machine.run("backup run").exit, 0);
    let copied = machine.run("copy run far");
    assert_eq!(copied.exit, 0, "{}{}", copied.out, copied.err);
    let settings = fs::read_to_string(machine.path("haven.toml")).unwrap();
    let slow = settings.replace("format = \"restic\"", &format!("format = \"restic\"\nprogram = {program:?}"));
    assert_ne!(slow, settings);
    machine.write("haven.toml", slow);
    let mut command = machine.command("drill --copy far --copy library --json");
    let drill = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = (0..30_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        Path::new(&mark).exists()
    });
    assert!(begun);
    assert!(Command::new("kill").arg(drill.id().to_string()).status().unwrap().success());
    let ended = drill.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((ended.status.code(), text(&ended.stdout).as_str()), (Some(9), ""), "{}", text(&ended.stderr));
    assert_eq!(json(&machine.run("drill list --json"))["drills"], serde_json::json!([]));
}
