//! `haven replica` and `haven restore`, from a real mount to places in directories.

use std::{fs, path::Path};

use insta::assert_snapshot;

use crate::{
    mounted::{Mount, can_mount},
    run::{Machine, flip},
};

/// A library with three files in it, the settings that name it, and nothing mounted.
fn machine() -> Machine {
    let machine = Machine::with_library();
    let settings = format!("[library]\nurl = \"{}\"\n[store.retry]\npatience = \"200ms\"\n", machine.text("lib"));
    machine.write("haven.toml", settings);
    write(&machine, &["one", "two", "three"]);
    machine
}

fn write(machine: &Machine, names: &[&str]) {
    let mount = Mount::new(machine, "m", "");
    for name in names {
        let photo: Vec<u8> = name.bytes().cycle().zip(0_u64..700_000).map(|(a, n)| a ^ ((n * n) >> 7) as u8).collect();
        fs::write(machine.path("m").join(name), photo).unwrap();
    }
    assert_eq!(machine.run("umount @m").exit, 0);
    drop(mount);
}

fn well(machine: &Machine, line: &str) -> String {
    let said = machine.run(line);
    assert_eq!(said.exit, 0, "{line}: {}{}", said.out, said.err);
    said.out
}

fn json(machine: &Machine, line: &str) -> serde_json::Value {
    // Unredacted: times have as many digits as names.
    let done = machine.command(&format!("{line} --json")).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// The files that a mount of the library at `place` shows.
fn files(machine: &Machine, place: &str, flags: &str) -> Vec<(String, Vec<u8>)> {
    let point = format!("look-{}", place.replace('/', "-"));
    fs::create_dir_all(machine.path(&point)).unwrap();
    well(machine, &format!("mount @{place} @{point} --cache @cache-{point} {flags}"));
    let mut out: Vec<_> = fs::read_dir(machine.path(&point))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    out.sort();
    well(machine, &format!("umount @{point}"));
    out
}

#[test]
fn a_replica_is_added_brought_up_to_date_looked_at_verified_and_forgotten() {
    if !can_mount() {
        return;
    }
    let machine = machine();
    assert_snapshot!(machine.run("replica add near @near").whole(), @r"
    exit 0
    --- out
    replica near at file://[DIR]/near
    written to [DIR]/haven.toml

    Nothing is copied yet: haven replica sync near
    --- err
    ");
    assert!(fs::read_to_string(machine.path("haven.toml")).unwrap().contains("[replica.near]"));
    assert!(well(&machine, "replica add near").contains("Nothing is copied yet"), "looked at again");
    assert_eq!(machine.run("replica add near @elsewhere").exit, 7);
    let dry = json(&machine, "replica sync near --dry-run");
    let first = json(&machine, "replica sync near");
    assert_eq!((dry["objects"].as_u64(), first["position"] == first["source"]), (first["objects"].as_u64(), true));
    let idle = json(&machine, "replica sync near");
    assert_eq!(idle["objects"], 0);
    assert!(idle["requests"].as_u64().unwrap() < 20, "{idle}");

    write(&machine, &["four"]);
    let status = json(&machine, "replica status near");
    assert!(status["replicas"][0]["behind_bytes"].as_u64().unwrap() > 100_000, "{status}");
    let said = well(&machine, "replica sync near");
    assert!(said.contains("where the source ends"), "{said}");
    assert_eq!(files(&machine, "near", "--read-only"), files(&machine, "lib", "--read-only"));
    let refused = machine.run("mount @near @m --cache @cache-refused");
    assert_eq!(refused.exit, 5, "{}", refused.err);

    let verified = json(&machine, "replica verify near --read-data");
    assert_eq!(
        (verified["objects"].as_u64(), verified["damaged"].as_array().unwrap().len()),
        (verified["objects_read"].as_u64(), 0)
    );
    flip(&a_pack(&machine.path("near")), 50);
    let said = machine.run("replica verify near --read-data");
    assert!(said.exit == 6 && said.out.contains("damaged  p/"), "{}", said.whole());

    assert!(well(&machine, "replica list").contains("near"));
    well(&machine, "replica remove near");
    assert!(machine.path("near/cfg").exists() && !well(&machine, "replica list").contains("near"));
    assert_eq!(machine.run("replica sync near").exit, 2);
}

fn a_pack(store: &Path) -> std::path::PathBuf {
    let below = |path: &Path| fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
    below(&below(&store.join("p")))
}

#[test]
fn a_wiped_library_leaves_its_replica_alone_and_comes_back_from_it() {
    if !can_mount() {
        return;
    }
    let machine = machine();
    well(&machine, "replica add near @near");
    well(&machine, "replica sync near");
    let before = files(&machine, "near", "--read-only");
    fs::rename(machine.path("lib"), machine.path("stolen")).unwrap();
    fs::create_dir(machine.path("lib")).unwrap();
    let said = machine.run("replica sync near");
    assert_snapshot!(said.err, @r"
    haven: nothing is taken from the source: it is not what it was
      because  it is empty: it was wiped, or this is not the place
      meaning  the replica was not touched: it is whole, and may be the only copy that is
      next     check the URL; find out who has access to the store, and change the keys
               haven restore --from near --to URL    makes a new library of the replica, in a new place
               haven replica promote near --accept-loss    goes on from the replica itself
      code     held, exit 10
    ");
    assert_eq!(said.exit, 10);
    let status = machine.run("replica status");
    assert!(status.exit == 10 && status.out.contains("TROUBLE"), "{}", status.whole());
    assert_eq!(files(&machine, "near", "--read-only"), before);

    let said = machine.run("restore --from near --to @new --begin-only");
    assert!(said.exit == 0 && said.err.contains("usable after"), "{}", said.whole());
    assert!(!machine.path("new/p").exists());
    assert_eq!(files(&machine, "new", ""), before);
    let done = json(&machine, "restore --from near --to @new");
    assert_eq!(done["done"]["complete"], true);
    fs::remove_dir_all(machine.path("near")).unwrap();
    assert_eq!(files(&machine, "new", ""), before);
    assert_eq!(machine.run("restore --from near --to @new").exit, 4);
}

#[test]
fn a_replica_is_promoted_and_the_old_library_says_where_it_went() {
    if !can_mount() {
        return;
    }
    let machine = machine();
    well(&machine, "replica add near @near");
    well(&machine, "replica sync near");
    let before = files(&machine, "near", "--read-only");
    write(&machine, &["late"]);
    let refused = machine.run("replica promote near");
    assert!(refused.exit == 10 && refused.err.contains("that the replica lacks"), "{}", refused.err);
    let done = json(&machine, "replica promote near --accept-loss");
    assert!(done["promoted"]["lost_changes"].as_u64().unwrap() > 0 && done["promoted"]["fenced"] == true, "{done}");
    assert_eq!(files(&machine, "near", ""), before);
    let old = machine.run("mount @lib @m --cache @cache-old");
    assert!(old.exit == 5 && old.err.contains("near"), "{}", old.err);
    let sync = machine.run("replica sync near");
    assert_eq!(sync.exit, 7, "{}", sync.err);
}

#[test]
fn places_that_hold_something_else_are_refused() {
    let machine = Machine::with_library();
    machine.write("haven.toml", format!("[library]\nurl = \"{}\"\n", machine.text("lib")));
    fs::create_dir(machine.path("full")).unwrap();
    machine.write("full/photos.zip", "");
    assert_snapshot!(machine.run("replica add near @full").whole(), @r"
    exit 7
    --- out
    --- err
    haven: the place is not empty, and what is there is not a replica
      because  it holds photos.zip
      meaning  nothing was changed; a replica shares its place with nobody
      next     choose an empty directory or bucket, or a prefix of its own: s3://bucket/haven
      code     occupied, exit 7
    ");
    assert_snapshot!(machine.run("replica add grace @near").whole(), @r#"
    exit 2
    --- out
    --- err
    haven: a replica can't be called "grace"
      because  this is the name of a setting
      meaning  nothing was changed
      code     usage, exit 2
    "#);
    assert_snapshot!(machine.run("replica sync nowhere").err, @r"
    haven: no replica is called nowhere
      meaning  nothing was changed
      next     haven replica list    tells which there are; haven replica add NAME URL    makes one
      code     usage, exit 2
    ");
    assert_eq!(machine.run("replica add near @lib").exit, 2);
    assert!(!fs::read_to_string(machine.path("haven.toml")).unwrap().contains("replica"));
}
