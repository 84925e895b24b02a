//! The way back, on real mounts and with a real PostgreSQL: recovery, drills, what is known of a photo, and the way out.

use std::{fs, path::Path, process::Command};

use haven_testkit::postgres::Cluster;
use serde_json::Value;

use crate::{
    mounted::{Mount, can_mount},
    points::{immich, json, replace, sha1, upload},
    run::{Machine, Said},
};

/// An Immich with 20 photos, a point of it, and two photos that came later.
pub fn scene() -> Option<(Machine, Cluster)> {
    let (machine, cluster) = immich("")?;
    let more = format!("[library]\nurl = \"{}\"\n[mount]\npoint = \"{}\"\n", machine.text("lib"), machine.text("m"));
    let settings = fs::read_to_string(machine.path("haven.toml")).unwrap();
    machine.write("haven.toml", settings + &more);
    Some((machine, cluster))
}

pub fn with_point(machine: &Machine, cluster: &Cluster) -> String {
    upload(machine, cluster, 0..20);
    let taken = machine.run("backup run --json");
    assert_eq!(taken.exit, 0, "{}", taken.err);
    upload(machine, cluster, 20..22);
    fs::remove_file(machine.path("m/immich/upload/3.jpg")).unwrap();
    json(&taken)["point"].as_str().unwrap().to_owned()
}

fn run(machine: &Machine, line: &str, database: &str) -> Said {
    machine.said(machine.command(line).args(["--database", database]))
}

fn photos(folder: &Path) -> usize {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    all.filter(|name| name.to_string_lossy().ends_with(".jpg")).count()
}

#[test]
fn a_point_comes_back_from_the_store_alone_and_in_place_and_nothing_is_overwritten() {
    let Some((machine, cluster)) = scene() else { return };
    let _mount = Mount::new(&machine, "m", "");
    let point = with_point(&machine, &cluster);
    let second = cluster.reach("second");

    let planned = json(&run(&machine, "recover --from @lib --to @back --dry-run --json", &second));
    assert_eq!((&planned["files"]["files"], &planned["database"]["impossible"]), (&21.into(), &Value::Null));
    assert!(!machine.path("back").exists());

    let back = run(&machine, "recover --from @lib --to @back --json", &second);
    assert_eq!(back.exit, 0, "{}", back.err);
    let back = json(&back);
    assert_eq!((&back["point"], &back["checked"]["assets"]), (&point.as_str().into(), &20.into()));
    assert_eq!(back["checked"]["broken"], serde_json::json!([]));
    assert_eq!(photos(&machine.path("back/upload")), 20);
    assert_eq!(fs::read_to_string(machine.path("back/upload/3.jpg")).unwrap(), "photo 3");
    assert_eq!(cluster.sql("second", "SELECT count(*) FROM asset"), "20");
    for folder in ["library", "profile", "thumbs", "encoded-video", "backups"] {
        assert!(machine.path("back").join(folder).join(".immich").exists(), "{folder}");
    }
    assert!(!machine.path("back/.haven-recover.json").exists());

    // In the mount, where something is: only beside it.
    let refused = run(&machine, "recover --to @m/immich", &cluster.reach("immich"));
    assert!(refused.exit == 7 && refused.err.contains("--aside"), "{}", refused.err);
    let done = run(&machine, "recover --to @m/immich --aside --json", &cluster.reach("immich"));
    assert_eq!(done.exit, 0, "{}", done.err);
    assert_eq!(photos(&machine.path("m/immich/upload")), 20);
    let aside = json(&done)["set_aside"].as_str().unwrap().replace("[DIR]", &machine.text(""));
    assert_eq!(photos(&Path::new(&aside).join("upload")), 21);
    let old = json(&done)["database"]["set_aside"].as_str().unwrap().to_owned();
    assert_eq!(
        (cluster.sql("immich", "SELECT count(*) FROM asset"), cluster.sql(&old, "SELECT count(*) FROM asset")),
        ("20".into(), "22".into())
    );
}

#[test]
fn nothing_comes_back_below_a_mount_point_at_which_nothing_is_mounted() {
    let Some((machine, _cluster)) = scene() else { return };
    fs::create_dir(machine.path("m")).unwrap();
    let refused = machine.run("recover --from @lib --to @m/immich");
    assert!(refused.exit == 7 && refused.err.contains("nothing is mounted"), "{}", refused.err);
    assert_eq!(fs::read_dir(machine.path("m")).unwrap().count(), 0);
}

#[test]
fn where_the_library_is_gone_the_other_copies_are_named_and_no_new_one_is_advised() {
    let machine = Machine::new();
    fs::create_dir(machine.path("lib")).unwrap();
    let [library, near, home] = ["lib", "near", "home"].map(|name| machine.text(name));
    let settings = format!(
        "[store.retry]\npatience = \"200ms\"\n[library]\nurl = \"{library}\"\n[replica.near]\nurl = \"{near}\"\n\
         [copy.home]\nformat = \"borg\"\nrepository = \"{home}\"\n"
    );
    machine.write("haven.toml", settings);
    let lost = machine.run("recover --to @back");
    insta::assert_snapshot!(lost.err, @r"
    haven: there is no library at file://[DIR]/lib
      because  nothing is there
               if a library was there: the bucket may have been emptied or deleted
      meaning  nothing was changed
      next     check the URL
               haven recover --from near …    a replica
               haven recover --from home …    a copy by borg
      code     no-library, exit 7
    ");
    assert_eq!(machine.run("recover --from library --to @back").err, lost.err);
    let out = machine.run("backup export --to @out");
    assert!(out.exit == 7 && out.err.contains("haven backup export --from near …"), "{}", out.err);
    let drilled = machine.run("drill --copy library");
    assert!(drilled.exit == 7 && drilled.err.contains("haven recover --from home …"), "{}", drilled.err);
    for said in [&out, &drilled] {
        assert!(!said.err.contains("haven init") && !said.err.contains("haven explain"), "{}", said.err);
    }
    // A directory that is away altogether.
    fs::remove_dir(machine.path("lib")).unwrap();
    let away = machine.run("recover --to @back");
    assert!(away.exit == 4 && away.err.contains("haven recover --from near …"), "{}", away.err);
}

#[test]
fn single_photos_come_back_with_their_rows() {
    let Some((machine, cluster)) = scene() else { return };
    let _mount = Mount::new(&machine, "m", "");
    with_point(&machine, &cluster);
    let id = |number: u32| {
        cluster.sql("immich", &format!("SELECT id FROM asset WHERE \"originalPath\" LIKE '%/{number}.jpg'"))
    };
    let three = machine.run(&format!("recover --asset {} --path upload/7.jpg --to @some --json", id(3)));
    assert_eq!(three.exit, 0, "{}", three.err);
    assert_eq!((photos(&machine.path("some/upload")), json(&three)["assets"].as_array().unwrap().len()), (2, 2));
    let rows: Value = serde_json::from_slice(&fs::read(machine.path("some/rows.json")).unwrap()).unwrap();
    assert_eq!(rows["asset"].as_array().unwrap().len(), 2);
    let all = machine.said(machine.command("recover --to @theirs --dry-run --json").args(["--user", "a@example.org"]));
    assert_eq!(json(&all)["files"], 20, "{}", all.err);
    let none = machine.run("recover --album Holidays --to @none");
    assert!(none.exit == 7 && none.err.contains("no album Holidays"), "{}", none.err);
    assert!(!machine.path("none").exists() && !machine.path("theirs").exists());
}

#[test]
fn of_single_photos_a_sidecar_that_is_lost_is_told_as_a_photo_is() {
    let Some((machine, cluster)) = scene() else { return };
    let _mount = Mount::new(&machine, "m", "");
    upload(&machine, &cluster, 0..3);
    let sidecars =
        "INSERT INTO asset_file (\"assetId\", type, path) SELECT id, 'sidecar', \"originalPath\" || '.xmp' FROM asset";
    cluster.sql("immich", sidecars);
    for number in [0, 2] {
        fs::write(machine.path(&format!("m/immich/upload/{number}.jpg.xmp")), "<x/>").unwrap();
    }
    let taken = machine.run("backup run");
    assert_eq!(taken.exit, 0, "{}", taken.err);
    let good = machine.run("recover --path upload/0.jpg --to @good --json");
    assert_eq!((good.exit, &json(&good)["files"]), (0, &2.into()), "{}", good.err);
    let planned = machine.run("recover --path upload/1.jpg --to @lost --dry-run");
    assert!(planned.exit == 6 && planned.out.contains("/data/upload/1.jpg.xmp"), "{}{}", planned.out, planned.err);
    assert!(!machine.path("lost").exists());
    let lost = machine.run("recover --path upload --to @lost");
    assert!(lost.exit == 6 && lost.out.contains("missing   1 file "), "{}{}", lost.out, lost.err);
    assert!(lost.err.contains("/data/upload/1.jpg.xmp: it is not there"), "{}", lost.err);
    // The others are there all the same.
    assert_eq!(photos(&machine.path("lost/upload")), 3);
    assert!(machine.path("lost/upload/2.jpg.xmp").exists());
}

/// A copy by Borg, `home`, and one by restic, `far`, both empty.
fn add_copies(machine: &Machine) {
    machine.write("copy-passphrase", "another one\n");
    for (name, format) in [("home", "borg"), ("far", "restic")] {
        let add = format!("copy add {name} @{format} --format {format} --passphrase-file @copy-passphrase");
        assert_eq!(machine.run(&add).exit, 0);
        assert_eq!(machine.run(&format!("copy init {name}")).exit, 0);
    }
}

#[test]
fn a_point_is_drilled_and_comes_back_straight_from_borg_and_restic() {
    let Some((machine, cluster)) = scene() else { return };
    let _mount = Mount::new(&machine, "m", "");
    add_copies(&machine);
    upload(&machine, &cluster, 0..20);
    let take = || {
        let taken = machine.run("backup run --json");
        assert_eq!(taken.exit, 0, "{}", taken.err);
        let copied = machine.run("copy run home far");
        assert_eq!(copied.exit, 0, "{}{}", copied.out, copied.err);
        json(&taken)["point"].as_str().unwrap().to_owned()
    };
    let older = take();
    upload(&machine, &cluster, 20..22);
    fs::remove_file(machine.path("m/immich/upload/3.jpg")).unwrap();
    cluster.sql("immich", "DELETE FROM asset WHERE \"originalPath\" LIKE '%/3.jpg'");
    // Points and archives are named by the second.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let newest = take();
    for name in ["home", "far"] {
        // Each of these starts the program a few times, and it is not quick to start.
        for (level, proven) in [(0, 1), (2, 21)].into_iter().skip(usize::from(name == "far")) {
            let done = machine.run(&format!("drill --level {level} --copy {name} --json"));
            assert_eq!(done.exit, 0, "{name} {level}: {}{}", done.out, done.err);
            let report = &json(&done)["report"];
            assert_eq!(
                (&report["ok"], &report["proven"], &report["point"]),
                (&true.into(), &proven.into(), &newest.as_str().into()),
                "{name}"
            );
        }
        let both = machine.run(&format!("drill --level 1 --older --copy {name} --json"));
        assert_eq!(both.exit, 0, "{}", both.err);
        let points: Vec<Value> = both.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(points.len(), 2, "{}", both.out);
        assert_eq!(
            (&points[1]["report"]["point"], &points[1]["report"]["proven"]),
            (&older.as_str().into(), &20.into())
        );

        let back = |point: &str| machine.path(&format!("back-{name}-{point}"));
        for (point, photos_then) in [(&older, 20), (&newest, 21)].into_iter().skip(usize::from(name == "far")) {
            let database = format!("{name}{photos_then}");
            let line = format!("recover --from {name} --point {point} --to @back-{name}-{point} --json");
            let done = run(&machine, &line, &cluster.reach(&database));
            assert_eq!(done.exit, 0, "{name} {point}: {}", done.err);
            assert_eq!(json(&done)["checked"]["broken"], serde_json::json!([]));
            assert_eq!(photos(&back(point).join("upload")), photos_then);
            assert!(!back(point).join(".haven").exists() && !back(point).join("immich").exists());
            assert_eq!(cluster.sql(&database, "SELECT count(*) FROM asset"), photos_then.to_string());
        }
        assert!(!back(&newest).join("upload/3.jpg").exists());
        // Its mark is there until it has come to its end: cut off, the same command brings what is missing.
        let to = format!("back-{name}-{newest}");
        machine.write(&format!("{to}/.haven-recover.json"), format!("{{\"point\": \"{newest}\"}}"));
        fs::remove_file(back(&newest).join("upload/7.jpg")).unwrap();
        let again = machine.run(&format!("recover --from {name} --point {newest} --to @{to} --json"));
        assert_eq!(again.exit, 0, "{name}: {}", again.err);
        let files = &json(&again)["files"];
        assert_eq!((&files["files"], &files["kept"]), (&22.into(), &21.into()), "{name}");
        assert_eq!(photos(&back(&newest).join("upload")), 21);
        let one = machine.run(&format!("recover --from {name} --path upload/7.jpg --to @one-{name} --json"));
        assert_eq!(one.exit, 0, "{}", one.err);
        assert_eq!(fs::read_to_string(machine.path(&format!("one-{name}/upload/7.jpg"))).unwrap(), "photo 7");
        let planned = machine.run(&format!("recover --from {name} --to @no-{name} --dry-run --json"));
        assert_eq!((planned.exit, &json(&planned)["files"]["files"]), (0, &22.into()), "{}", planned.err);
        assert!(!machine.path(&format!("no-{name}")).exists());
        let none = machine.run(&format!("recover --from {name} --point immich-20200101T000000Z --to @no-{name}"));
        assert!(none.exit == 7 && none.err.contains("no archive holds"), "{}", none.err);
    }
    let explained = json(&machine.run("explain @m/immich/upload/5.jpg --json"));
    for copy in explained["copies"].as_array().unwrap() {
        let drilled = copy["name"] == "library" || copy["name"] == "home" || copy["name"] == "far";
        assert!(drilled && copy["verdict"] == "matches", "{explained}");
    }
    assert_eq!((&explained["now"], explained["copies"].as_array().unwrap().len()), (&"the same".into(), 3));
}

/// A second user with five photos, and an album with two of hers and three of the first user's.
fn share(cluster: &Cluster, machine: &Machine) {
    let sql = |text: &str| cluster.sql("immich", text);
    sql("CREATE TABLE album (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), \"albumName\" text NOT NULL)");
    sql("CREATE TABLE album_asset (\"albumId\" uuid REFERENCES album, \"assetId\" uuid REFERENCES asset)");
    sql("INSERT INTO \"user\" (email, name) VALUES ('anna@example.org', 'Anna')");
    let folder = machine.path("m/immich/library/anna/2026");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..5 {
        let content = format!("anna's {number}");
        fs::write(folder.join(format!("a photo {number}.jpg")), &content).unwrap();
        sql(&format!(
            "INSERT INTO asset (\"ownerId\", type, \"originalPath\", \"originalFileName\", checksum) SELECT id, 'IMAGE', \
             '/data/library/anna/2026/a photo {number}.jpg', '', '\\x{}' FROM \"user\" WHERE name = 'Anna'",
            sha1(&content)
        ));
    }
    sql("INSERT INTO album (\"albumName\") VALUES ('Holidays, by the sea'), ('Another')");
    sql(
        "INSERT INTO album_asset SELECT album.id, asset.id FROM album, asset WHERE \"albumName\" LIKE 'Holidays%' AND \
         \"originalPath\" ~ '(upload/[123]|photo [34])[.]jpg$'",
    );
    sql("INSERT INTO album_asset SELECT album.id, asset.id FROM album, asset WHERE \"albumName\" = 'Another' AND \
         \"originalPath\" LIKE '%/7.jpg'");
}

/// The SHA-1s of all photos below a folder, sorted.
fn sums(folder: &Path) -> Vec<String> {
    let list = Command::new("find").arg(folder).args(["-name", "*.jpg"]).output().unwrap();
    let files = String::from_utf8(list.stdout).unwrap();
    let mut sums: Vec<String> = files.lines().map(|path| sha1(&fs::read_to_string(path).unwrap())).collect();
    sums.sort();
    sums
}

#[test]
fn an_album_and_the_photos_of_a_user_come_back_from_the_library_from_borg_and_from_restic() {
    let Some((machine, cluster)) = scene() else { return };
    let _mount = Mount::new(&machine, "m", "");
    add_copies(&machine);
    upload(&machine, &cluster, 0..10);
    share(&cluster, &machine);
    for line in ["backup run", "copy run home far"] {
        let done = machine.run(line);
        assert_eq!(done.exit, 0, "{line}: {}{}", done.out, done.err);
    }
    let known = |of: &str| -> Vec<String> {
        let all = cluster.sql("immich", &format!("SELECT encode(checksum, 'hex') FROM asset WHERE {of} ORDER BY 1"));
        all.lines().map(str::to_owned).collect()
    };
    let album = known(
        "id IN (SELECT \"assetId\" FROM album_asset, album WHERE album.id = \"albumId\" AND \"albumName\" LIKE 'Holidays%')",
    );
    let hers = known("\"ownerId\" = (SELECT id FROM \"user\" WHERE name = 'Anna')");
    assert_eq!((album.len(), hers.len()), (5, 5));
    // What they are now does not matter: they come back as they were.
    for folder in ["m/immich/upload", "m/immich/library"] {
        fs::remove_dir_all(machine.path(folder)).unwrap();
    }
    let wishes =
        [("--album", "Holidays, by the sea", &album), ("--user", "anna@example.org", &hers), ("--user", "Anna", &hers)];
    for (n, from) in ["library", "home", "far"].into_iter().enumerate() {
        for (m, (flag, wish, expected)) in wishes.into_iter().enumerate() {
            let to = format!("back-{n}-{m}");
            let line = format!("recover --from {from} --to @{to} --json");
            let done = machine.said(machine.command(&line).args([flag, wish]));
            assert_eq!(done.exit, 0, "{from} {flag}: {}{}", done.out, done.err);
            let told = json(&done);
            assert_eq!(
                (&told["files"], &told["missing"], &told["broken"]),
                (&5.into(), &json_of("[]"), &json_of("[]"))
            );
            assert_eq!(&sums(&machine.path(&to)), expected, "{from} {flag} {wish}");
            let rows: Value = serde_json::from_slice(&fs::read(machine.path(&to).join("rows.json")).unwrap()).unwrap();
            assert_eq!(rows["asset"].as_array().unwrap().len(), 5, "{from} {flag}: {rows}");
            let who = if flag == "--album" { "album" } else { "user" };
            assert_eq!(rows[who].as_array().map(Vec::len), Some(1), "{from} {flag}: {rows}");
        }
        let none =
            machine.said(machine.command(&format!("recover --from {from} --to @none")).args(["--album", "Nobody's"]));
        assert!(none.exit == 7 && none.err.contains("no album Nobody's"), "{from}: {}", none.err);
    }
    // One of them has rotted in a folder that a copy was brought back to: it is told, and the others come.
    assert_eq!(machine.run("copy restore home --to @brought").exit, 0);
    fs::write(machine.path("brought/immich/library/anna/2026/a photo 2.jpg"), "rotten!").unwrap();
    let rotten = machine.run("recover --from @brought --to @rest --user Anna --json");
    assert_eq!((rotten.exit, sums(&machine.path("rest")).len()), (6, 5), "{}", rotten.err);
    assert!(rotten.err.contains("a photo 2.jpg"), "{}", rotten.err);
}

pub fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_way_out_needs_nothing_of_ours() {
    let Some((machine, cluster)) = scene() else { return };
    let _mount = Mount::new(&machine, "m", "");
    with_point(&machine, &cluster);
    let out = machine.run("backup export --to @out --json");
    assert_eq!(out.exit, 0, "{}", out.err);
    let sums =
        Command::new("sha256sum").args(["--quiet", "-c", "SHA256SUMS"]).current_dir(machine.path("out")).status();
    assert!(sums.unwrap().success());
    let list = fs::read_to_string(machine.path("out/SHA256SUMS")).unwrap();
    assert_eq!(list.lines().count(), 25, "20 photos, a sentinel, and what is beside them: {list}");
    cluster.sql("postgres", "CREATE DATABASE plain");
    let sql = machine.path("out/database.sql");
    let mut psql = Command::new(cluster.programs().join("psql"));
    let done = psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &cluster.reach("plain"), "-f"]).arg(sql).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let checksum = "SELECT encode(checksum, 'hex') FROM asset WHERE \"originalPath\" = '/data/upload/9.jpg'";
    assert_eq!(cluster.sql("plain", checksum), sha1("photo 9"));
    let again = machine.run("backup export --to @out");
    assert!(again.exit == 7 && again.err.contains("--resume"), "{}", again.err);

    // Without pg_restore there is all the rest, and what makes SQL of the dump is said.
    let list = || fs::read_to_string(machine.path("bare/SHA256SUMS")).unwrap();
    let bare = machine.run("backup export --to @bare --programs @nowhere");
    assert_eq!(bare.exit, 8, "{}{}", bare.out, bare.err);
    assert!(bare.err.contains("pg_restore --no-owner -f database.sql database.dump"), "{}", bare.err);
    assert_eq!(photos(&machine.path("bare/files/upload")), 20);
    assert!(!machine.path("bare/database.sql").exists() && !list().contains("database.sql"));
    let docker = machine.write("docker", "#!/bin/sh\nshift 3\nexec \"$@\"\n");
    fs::set_permissions(&docker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = machine.command("backup export --to @bare --resume --json --within");
    command.arg(format!("{} exec -i immich_postgres", docker.display())).arg("--programs").arg(cluster.programs());
    let done = machine.said(&mut command);
    assert_eq!(done.exit, 0, "{}{}", done.out, done.err);
    assert!(list().lines().count() == 25 && list().contains("database.sql"), "{}", list());
    let sql = |to: &str| fs::read_to_string(machine.path(&format!("{to}/database.sql"))).unwrap();
    // Newer ones write a word of their own into each file.
    let rows =
        |sql: String| sql.lines().filter(|line| line.contains("/data/upload/")).map(str::to_owned).collect::<Vec<_>>();
    assert!(rows(sql("out")).len() == 20 && rows(sql("bare")) == rows(sql("out")));
}

/// A library with these applications, each a folder of its name.
pub fn folders(names: &[&str]) -> Option<Machine> {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        return None;
    }
    let machine = Machine::with_library();
    let mut settings = format!(
        "[store.retry]\npatience = \"200ms\"\n[library]\nurl = \"{}\"\n[mount]\npoint = \"{}\"\n",
        machine.text("lib"),
        machine.text("m")
    );
    for name in names {
        settings += &format!("[backup.{name}]\nkind = \"folder\"\nfolder = \"{name}\"\n");
    }
    machine.write("haven.toml", settings);
    Some(machine)
}

#[test]
fn of_two_applications_each_comes_back_from_every_copy_and_nobody_guesses_which() {
    let names = ["alpha", "beta"];
    let Some(machine) = folders(&names) else { return };
    let _mount = Mount::new(&machine, "m", "");
    add_copies(&machine);
    let write = |name: &str, text: &str| {
        fs::create_dir_all(machine.path(&format!("m/{name}"))).unwrap();
        fs::write(machine.path(&format!("m/{name}/a.txt")), format!("{name} {text}")).unwrap();
    };
    names.iter().for_each(|name| write(name, "1"));
    let first = machine.run("backup run alpha --json");
    assert_eq!(first.exit, 0, "{}", first.err);
    let first = json(&first)["point"].as_str().unwrap().to_owned();
    assert_eq!(machine.run("copy run home far").exit, 0);
    names.iter().for_each(|name| write(name, "2"));
    // Points and archives are named by the second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(machine.run("backup run alpha").exit, 0);
    // What alpha has at beta's instant is not what it had at its own.
    write("alpha", "3");
    assert_eq!(machine.run("backup run beta").exit, 0);
    for name in ["home", "far"] {
        let made = machine.run(&format!("copy run {name} --json"));
        assert_eq!((made.exit, made.out.lines().count()), (0, 2), "{}{}", made.out, made.err);
        assert_eq!(machine.run(&format!("copy run {name}")).exit, 7, "both are there already");
    }
    for from in ["library", "home", "far"] {
        let which = machine.run(&format!("recover --from {from} --to @none"));
        assert!(which.exit == 2 && which.err.contains("which of them?"), "{from}: {}", which.err);
        let which = machine.run(&format!("drill --copy {from} --json"));
        assert!(which.exit == 2 && which.err.contains("which of them?"), "{from}: {}{}", which.out, which.err);
        for of in names {
            let back = machine.run(&format!("recover --from {from} --of {of} --to @back-{from}-{of}"));
            assert_eq!(back.exit, 0, "{from} {of}: {}", back.err);
            let text = fs::read_to_string(machine.path(&format!("back-{from}-{of}/a.txt"))).unwrap();
            assert_eq!(text, format!("{of} 2"), "{from}");
            let drilled = machine.run(&format!("drill --copy {from} --of {of} --level 1 --json"));
            assert_eq!(drilled.exit, 0, "{from} {of}: {}{}", drilled.out, drilled.err);
            assert_eq!(json(&drilled)["report"]["of"], of);
        }
        // From before there were two.
        let older = machine.run(&format!("recover --from {from} --point {first} --to @first-{from}"));
        assert_eq!(older.exit, 0, "{from}: {}", older.err);
        assert_eq!(fs::read_to_string(machine.path(&format!("first-{from}/a.txt"))).unwrap(), "alpha 1");
    }
    assert!(!machine.path("none").exists());
    let pruned = machine.said(machine.command("copy prune home --dry-run --json").arg("last 1"));
    let judged = json(&pruned);
    let kept = judged["archives"].as_array().unwrap().iter().filter(|one| one["keep"] == true).count();
    assert_eq!(kept, 3, "the newest of alpha, of beta, and of before there were two: {judged}");
}

#[test]
fn a_recovery_that_is_ended_takes_its_programs_along_and_the_same_command_goes_on() {
    let Some((machine, cluster)) = scene() else { return };
    let _mount = Mount::new(&machine, "m", "");
    with_point(&machine, &cluster);
    let (mark, real) = (machine.text("restoring"), cluster.programs().join("pg_restore"));
    std::os::unix::fs::symlink(&real, machine.path("programs/pg_restore")).unwrap();
    // Its list is told at once; the restoring itself takes its time, in a session.
    let script = format!("case \" $* \" in *' -l '*) exec REAL \"$@\";; esac\necho $$ >{mark}; exec sleep 300");
    replace(&machine, &cluster, "pg_restore", &script);
    let line = "recover --programs @programs";
    let mut command = machine.command(line);
    let mut run = command.args(["--database", &cluster.reach("second")]).spawn().unwrap();
    let begun = (0..3000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        fs::read_to_string(&mark).is_ok_and(|text| text.ends_with('\n'))
    });
    assert!(begun);
    assert!(Command::new("kill").arg(run.id().to_string()).status().unwrap().success());
    assert_eq!(run.wait().unwrap().code(), Some(9));
    let program = fs::read_to_string(&mark).unwrap();
    assert!(!Path::new("/proc").join(program.trim()).exists(), "it went with the command");
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'second%'";
    assert_eq!(cluster.sql("postgres", left), "0");
    fs::remove_file(machine.path("programs/pg_restore")).unwrap();
    std::os::unix::fs::symlink(&real, machine.path("programs/pg_restore")).unwrap();
    let done = self::run(&machine, line, &cluster.reach("second"));
    assert_eq!(done.exit, 0, "{}", done.err);
    assert_eq!(cluster.sql("second", "SELECT count(*) FROM asset"), "20");
}
