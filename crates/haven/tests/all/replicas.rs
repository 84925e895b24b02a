//! `haven replica` and `haven restore`, from a real mount to places in directories.

use std::{fs, path::Path};

use haven_testkit::{
    museum::{self, PASSPHRASE, lay_out},
    server::S3Server,
};
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
    // What has not come yet is told, and is no damage.
    let looked = machine.run("check -L @new --read-data --cache @looking");
    assert!(looked.exit == 0 && looked.out.contains("not here yet"), "{}", looked.whole());
    {
        let _mount = Mount::by_default(&machine, "@new --cache @cache-n", "n");
        let told = well(&machine, "status @n");
        assert!(told.contains("RESTORING  from ") && told.contains("everything that was written here"), "{told}");
        assert!(well(&machine, "check -L @n").contains("not here yet"));
        well(&machine, "umount @n");
    }
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
fn what_is_asked_of_a_replica_is_not_answered_by_the_librarys_mount() {
    if !can_mount() {
        return;
    }
    let machine = machine();
    let mount = Mount::by_default(&machine, "@lib", "m");
    well(&machine, "snapshot create keepme -L @m");
    well(&machine, "flush @m");
    well(&machine, "replica add near @near");
    well(&machine, "replica sync near");
    flip(&a_pack(&machine.path("near")), 50);
    let caches = machine.path("home/.cache/haven");
    let cache = fs::read_dir(&caches).unwrap().next().unwrap().unwrap().path();
    let damaged = |asked: &str| {
        let said = machine.run(&format!("check -L {asked} --read-data"));
        assert!(said.exit == 6 && said.out.contains("damaged  p/"), "{asked}: {}", said.whole());
        assert!(said.err.contains("haven replica verify near --read-data --repair"), "{}", said.err);
    };
    for asked in ["near", "@near", "file://@near/", &format!("near --cache {}", cache.display())] {
        damaged(asked);
    }
    for asked in ["@m", "@lib", "file://@lib/"] {
        well(&machine, &format!("check -L {asked} --read-data"));
    }
    let refused = machine.run("snapshot remove keepme -L @near");
    assert!(refused.exit == 5 && refused.err.contains("this is the replica \"near\""), "{}", refused.err);
    // A copy that says nothing of itself can be looked at; what is to be changed there needs a cache of its own.
    assert!(
        std::process::Command::new("cp").arg("-r").args(["lib", "copy"].map(|at| machine.path(at))).status().is_ok()
    );
    assert!(well(&machine, "snapshot list -L @copy").contains("keepme"));
    let refused = machine.run("snapshot remove keepme -L @copy");
    assert!(refused.exit == 8 && refused.err.contains("is of another place"), "{}", refused.err);
    well(&machine, "snapshot remove keepme -L @copy --cache @cache-copy");
    assert!(!well(&machine, "snapshot list -L @copy").contains("keepme"));
    assert!(well(&machine, "snapshot list -L @m").contains("keepme"));

    // Both mounted, each in a directory of its own, whose word stays.
    let look = Mount::by_default(&machine, "near --read-only", "look");
    damaged("near");
    well(&machine, "check -L @lib --read-data");
    let word = || fs::read_to_string(cache.join("mount.json")).unwrap();
    well(&machine, "umount @look");
    well(&machine, "umount @m");
    drop((mount, look));
    assert!(word().contains("/lib\""), "{}", word());
    drop(Mount::by_default(&machine, "near --read-only", "look"));
    assert!(word().contains("/lib\""), "{}", word());
    assert_eq!(fs::read_dir(&caches).unwrap().count(), 1);
}

/// A server that speaks S3 for what is in a directory.
struct Served {
    server: S3Server,
    _runtime: tokio::runtime::Runtime,
}

impl Served {
    fn new(directory: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store = haven_store::open_bare(directory.to_str().unwrap(), &Default::default()).unwrap();
        let server = runtime.block_on(S3Server::start(store, "bucket")).unwrap();
        Self { server, _runtime: runtime }
    }
}

#[test]
fn a_replica_at_another_provider_is_asked_there_by_every_command() {
    let machine = Machine::new();
    museum::lay_out("whole", &machine.path("there/copy")).unwrap();
    fs::create_dir(machine.path("here")).unwrap();
    machine.write("passphrase", museum::PASSPHRASE);
    machine.write("key", "KEY hunter2");
    let servers = ["here", "there"].map(|name| Served::new(&machine.path(name)));
    let at = |above: &str, served: &Served| {
        let (endpoint, key) = (served.server.endpoint(), machine.text("key"));
        format!(
            "[{above}store.s3]\nregion = \"x\"\nstyle = \"path\"\nendpoint = \"{endpoint}\"\ncredentials.file = \"{key}\"\n"
        )
    };
    let names = "[library]\nurl = \"s3://bucket/lib\"\n[replica.far]\nurl = \"s3://bucket/copy\"\n";
    let patience = "[store.retry]\npatience = \"200ms\"\n";
    machine.write("haven.toml", [names, patience, &at("", &servers[0]), &at("replica.far.", &servers[1])].concat());
    for (n, far) in ["far", "s3://bucket/copy"].into_iter().enumerate() {
        well(&machine, &format!("export {far} --to @out-{n}"));
        assert!(machine.path(&format!("out-{n}/2026/IMG_0001.JPG")).exists());
        for line in ["claims FAR", "key list FAR", "stat FAR", "check -L FAR --read-data", "snapshot list -L FAR"] {
            well(&machine, &line.replace("FAR", far));
        }
        if can_mount() {
            let _mount = Mount::by_default(&machine, &format!("{far} --read-only"), "look");
            assert!(machine.path("look/2026/IMG_0001.JPG").exists());
            well(&machine, "umount @look");
        }
    }
    assert!(
        fs::read_dir(machine.path("here")).unwrap().next().is_none_or(|entry| entry.unwrap().file_name() == "~tmp")
    );
}

#[test]
fn a_copy_that_cannot_be_asked_stops_a_repair_before_anything_is_given_up() {
    let machine = Machine::new();
    for (name, exhibit) in [("lib", "pack-with-a-flipped-byte-in-a-chunk"), ("whole", "whole")] {
        museum::lay_out(exhibit, &machine.path(name)).unwrap();
    }
    well(&machine, "init @other --recovery-key-file @kit.txt");
    machine.write("passphrase", museum::PASSPHRASE);
    fs::create_dir(machine.path("empty")).unwrap();
    let spare = format!("[store.retry]\npatience = \"200ms\"\n[replica.spare]\nurl = \"{}\"\n", machine.text("whole"));
    machine.write("haven.toml", spare);
    let claims = || fs::read_dir(machine.path("lib/e")).unwrap().count();
    let before = claims();
    for (copy, why) in [
        ("s3://photos/haven?endpoint=http://127.0.0.1:1&region=x", "127.0.0.1"),
        ("@nowhere", "nowhere"),
        ("@empty", "nothing is there"),
        ("@other", "it is of another library"),
    ] {
        let mut command = machine.command(&format!("check -L @lib --repair --read-data --copy {copy} --copy @whole"));
        let said = machine.said(command.env("AWS_ACCESS_KEY_ID", "k").env("AWS_SECRET_ACCESS_KEY", "s"));
        assert!(
            said.exit == 4 && said.err.contains("can't be asked: ") && said.err.contains(why),
            "{copy}: {}",
            said.err
        );
        assert!(!said.out.contains("lost") && said.err.contains("nothing was given up"), "{}", said.whole());
    }
    assert_eq!(claims(), before, "it was not even opened for writing");
    let said = well(&machine, "check -L @lib --repair --read-data --copy spare");
    assert!(said.contains("put back from spare") && said.contains("mended "), "{said}");
    well(&machine, "check -L @lib --read-data");
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

#[test]
fn a_restore_tells_what_the_copy_has_lost_and_is_not_complete() {
    let visit = |exhibit: &str| {
        let machine = Machine::new();
        lay_out(exhibit, &machine.path("copy")).unwrap();
        machine.write("passphrase", PASSPHRASE);
        machine
    };
    let machine = visit("segment-damaged-in-the-middle");
    for line in ["--begin-only", "", ""] {
        let said = machine.run(&format!("restore --from @copy --to @new {line}"));
        assert!(said.exit == 6 && said.out.contains("damaged  l/"), "{}", said.whole());
        assert!(said.err.contains("It stands at change") && !said.out.contains("is complete"), "{}", said.whole());
    }
    let said = machine.run("restore --from @copy --to @new --accept-damage");
    assert!(said.exit == 6 && said.out.contains("taken for complete"), "{}", said.whole());

    let machine = visit("all-roots-missing-and-the-log-before-them");
    let said = machine.run("restore --from @copy --to @new");
    assert!(said.exit == 6 && said.err.contains("holds no state that could be restored"), "{}", said.whole());
    assert!(!machine.path("new/x").exists(), "nothing was begun");
}

#[test]
fn a_replica_is_promoted_or_mended_when_the_librarys_directory_is_gone() {
    if !can_mount() {
        return;
    }
    let machine = machine();
    for name in ["near", "far"] {
        well(&machine, &format!("replica add {name} @{name}"));
        well(&machine, &format!("replica sync {name}"));
    }
    let before = files(&machine, "near", "--read-only");
    fs::rename(machine.path("lib"), machine.path("stolen")).unwrap();
    flip(&a_pack(&machine.path("near")), 50);
    let said = machine.run("replica verify near --read-data --repair --copy far");
    assert!(said.exit == 0 && said.out.contains("mended    p/"), "{}", said.whole());
    assert!(said.err.contains("nothing is put back from what this is a replica of"), "{}", said.err);
    let refused = machine.run("replica promote near");
    assert!(refused.exit == 10 && refused.err.contains("--accept-loss"), "{}", refused.whole());
    let done = json(&machine, "replica promote near --accept-loss");
    assert_eq!((&done["promoted"]["fenced"], done["promoted"]["old_trouble"].is_string()), (&false.into(), true));
    assert_eq!(files(&machine, "near", ""), before);
}

#[test]
fn a_changed_passphrase_names_the_replicas_that_the_old_one_still_opens() {
    let machine = Machine::with_library();
    machine.write("haven.toml", format!("[library]\nurl = \"{}\"\n", machine.text("lib")));
    well(&machine, "replica add near @near");
    well(&machine, "replica sync near");
    machine.write("new", "a better one");
    assert_snapshot!(machine.run("key change --new-passphrase-file @new").whole(), @r"
    exit 0
    --- out
    key 3, a passphrase, is in the place of key 1

    Until they have been brought up to date, what was taken away still opens the replicas:
        haven replica sync near
    --- err
    ");
    assert_eq!(machine.run("claims @near").exit, 0);
    well(&machine, "replica sync near --passphrase-file @new");
    assert_eq!(machine.run("claims @near").exit, 3);
    assert_eq!(machine.run("claims @near --passphrase-file @new").exit, 0);
}

#[test]
fn a_place_that_is_the_librarys_or_another_replicas_is_refused() {
    if !can_mount() {
        return;
    }
    let machine = machine();
    let _mount = Mount::new(&machine, "m", "");
    assert_snapshot!(machine.run("replica add inside file://@m/replica").whole(), @r"
    exit 2
    --- out
    --- err
    haven: a replica can't be in a library: it would copy itself
      because  [DIR]/m/replica is below [DIR]/m, where a library is mounted
      meaning  nothing was changed
      next     name a place of its own: another disk, better another house
      code     usage, exit 2
    ");
    well(&machine, "replica add near @near");
    std::os::unix::fs::symlink(machine.path("lib"), machine.path("link")).unwrap();
    for (place, says) in [
        ("@m", "where a library is mounted"),
        ("file://@lib/sub", "is below"),
        ("@link/sub", "is below"),
        ("@link", "the same directory as"),
        ("file://@", "is above"),
        ("file://@near/", "where the replica near is"),
    ] {
        let said = machine.run(&format!("replica add second {place}"));
        assert!(said.exit == 2 && said.err.contains(says), "{place}: {}", said.err);
    }
    assert!(!machine.path("m/replica").exists() && !machine.path("lib/sub").exists());
    // One that was written by hand, or by an older Haven.
    let settings = fs::read_to_string(machine.path("haven.toml")).unwrap();
    let inside = format!("{settings}\n[replica.inside]\nurl = \"file://{}\"\n", machine.text("m/replica"));
    machine.write("haven.toml", inside);
    let doctor = machine.run("doctor");
    assert!(doctor.out.contains("inside: a replica can't be in a library"), "{}", doctor.out);
}

#[test]
fn a_replica_to_which_no_copy_has_come_to_its_end_is_told_so() {
    if !can_mount() {
        return;
    }
    let machine = machine();
    well(&machine, "replica add near @near");
    let unwell = |line: &str, exit: i32| {
        let said = machine.run(line);
        assert_eq!(said.exit, exit, "{line}: {}", said.whole());
        said
    };
    let empty = unwell("replica verify near", 10);
    assert!(empty.err.contains("was never complete") && empty.err.contains("haven replica sync near"), "{}", empty.err);
    // As a disk that is full ends the first copy: packs and keys are there, and no log that leads to them.
    let begun = only(&machine.path("near/x"));
    let content = fs::read(&begun).unwrap();
    well(&machine, "replica sync near");
    for folder in ["l", "r", "x"] {
        // There may be no root yet.
        _ = fs::remove_dir_all(machine.path("near").join(folder));
    }
    fs::create_dir(machine.path("near/x")).unwrap();
    fs::write(begun, content).unwrap();
    let half = unwell("replica verify near --read-data", 10);
    assert!(half.out.contains("NEVER COMPLETE") && half.err.contains("was never complete"), "{}", half.whole());
    let status = unwell("replica status near", 10);
    assert!(status.out.contains("NEVER COMPLETE: "), "{}", status.whole());
    let done = machine.command("replica status near --json").output().unwrap();
    assert_eq!(done.status.code(), Some(10));
    let value: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let one = &value["replicas"][0];
    assert!(one["well"] == false && one["complete"] == false && one["lag_seconds"].is_null(), "{one}");

    well(&machine, "replica sync near");
    let one = &json(&machine, "replica status near")["replicas"][0];
    assert!(one["well"] == true && one["complete"] == true && one["lag_seconds"] == 0.0, "{one}");
    assert_eq!(json(&machine, "replica verify near")["complete"], true);
}

fn only(directory: &Path) -> std::path::PathBuf {
    let mut all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let first = all.next().unwrap();
    assert!(all.next().is_none(), "{}", directory.display());
    first
}
