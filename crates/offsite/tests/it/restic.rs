use std::{
    fs,
    io::Read,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    process::Command,
};

use haven_offsite::{
    Cancel, Depth, Kind, Passphrase, Source, ThirdCopy, Wanted,
    restic::{Options, Restic},
};

use crate::scene::{Scene, Ssh, as_they_were, damage, is_root, noise, quietly, same_tree, streamed, watched};

const DAY: i64 = 86_400;
const T0: i64 = 1_795_000_000;

fn kind<T: std::fmt::Debug>(outcome: Result<T, haven_offsite::Error>) -> Kind {
    outcome.expect_err("it fails").kind
}

fn wanted(archive: &str, paths: &[&str]) -> Wanted {
    let paths = paths.iter().map(|&path| path.to_owned()).collect();
    Wanted { archive: archive.into(), paths, parallel: 1, ..Wanted::default() }
}

/// The program as its owner calls it, without us.
fn by_hand(scene: &Scene, line: &str) -> String {
    let done = Command::new("restic")
        .args(line.split(' '))
        .env("RESTIC_REPOSITORY", scene.path("restic"))
        .env("RESTIC_PASSWORD_COMMAND", format!("head -n 1 {}", scene.path("passphrase").display()))
        .env("RESTIC_CACHE_DIR", scene.path("cache by hand"))
        .current_dir(scene.path("library"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn a_snapshot_is_made_listed_checked_pruned_and_restored_by_both() {
    let scene = Scene::new();
    fs::hard_link(scene.path("library/album 0/0.jpg"), scene.path("library/album 1/again [1].jpg")).unwrap();
    let restic = Restic::new(scene.restic()).unwrap();
    assert_eq!(kind(restic.list()), Kind::NoRepository);
    quietly(|w| restic.init(w)).unwrap();
    assert_eq!(kind(quietly(|w| restic.init(w))), Kind::Exists);
    assert!(restic.list().unwrap().is_empty());
    let first = quietly(|w| restic.create(&scene.source(T0), "one", w)).unwrap();
    assert!(first.files == 21 && first.new_bytes > 200_000, "{first:?}");
    assert_eq!(kind(quietly(|w| restic.create(&scene.source(T0), "one", w))), Kind::Exists);
    // One of somebody else's.
    by_hand(&scene, "backup --quiet .");
    fs::write(scene.path("library/new.jpg"), noise(99, 5_000)).unwrap();
    let second = quietly(|w| restic.create(&scene.source(T0 + DAY), "two", w)).unwrap();
    assert!(second.files == 22 && second.new_bytes < 15_000, "{second:?}");
    let list = restic.list().unwrap();
    let ours: Vec<_> = list.iter().filter(|a| !a.foreign).map(|a| (a.name.as_str(), a.taken, a.leftover)).collect();
    assert_eq!(ours, [("one", T0, false), ("two", T0 + DAY, false)]);
    assert_eq!(list.len(), 3);
    quietly(|w| restic.check(Depth::Data, w)).unwrap();
    quietly(|w| restic.restore(&wanted("two", &[]), &scene.path("back"), w)).unwrap();
    assert!(same_tree(&scene.path("library"), &scene.path("back")));
    let inode = |path: &str| fs::metadata(scene.path("back").join(path)).unwrap().ino();
    assert_eq!(inode("album 0/0.jpg"), inode("album 1/again [1].jpg"));
    quietly(|w| restic.restore(&wanted("two", &["album 1/again [1].jpg"]), &scene.path("one"), w)).unwrap();
    assert_eq!(fs::read(scene.path("one/album 1/again [1].jpg")).unwrap(), noise(1, 10_000));
    let root = Wanted { root: "album 1".into(), ..wanted("two", &["3.jpg"]) };
    quietly(|w| restic.restore(&root, &scene.path("flat"), w)).unwrap();
    assert_eq!(fs::read_dir(scene.path("flat")).unwrap().count(), 1);
    assert_eq!(fs::read(scene.path("flat/3.jpg")).unwrap(), noise(4, 10_003));
    // A run was killed there, and its program still goes on.
    let left = scene.path("flat/.haven-restoring-4194999");
    let alive = scene.path(&format!("flat/.haven-restoring-{}", std::os::unix::process::parent_id()));
    for place in [&left, &alive] {
        fs::create_dir(place).unwrap();
    }
    let mut program = Command::new("sh")
        .args(["-c", "sleep 60 & trap \"kill $!; exit 1\" TERM; echo; wait", "restic", "--target"])
        .arg(&left)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Right after its start its command line can still be empty.
    program.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    quietly(|w| restic.restore(&root, &scene.path("flat"), w)).unwrap();
    assert!(!program.wait().unwrap().success() && !left.exists() && alive.exists());
    for (archive, path) in [("two", "nowhere"), ("three", ""), ("two", "../x")] {
        assert_eq!(kind(quietly(|w| restic.restore(&wanted(archive, &[path]), &scene.path("no"), w))), Kind::NoArchive);
    }
    // By the real program: ours; and theirs by us.
    by_hand(&scene, &format!("restore latest --tag haven:two --target {}", scene.path("by-hand").display()));
    assert!(same_tree(&scene.path("library"), &scene.path("by-hand")));
    let theirs = list.iter().find(|a| a.foreign).unwrap().name.clone();
    quietly(|w| restic.restore(&wanted(&theirs, &["album 0"]), &scene.path("theirs"), w)).unwrap();
    assert!(same_tree(&scene.path("library/album 0"), &scene.path("theirs/album 0")));
    assert_eq!(kind(quietly(|w| restic.delete(&["one".into()], w))), Kind::NoArchive, "only by what no other has");
    let one = list.iter().find(|archive| archive.name == "one").unwrap();
    quietly(|w| restic.delete(std::slice::from_ref(&one.id), w)).unwrap();
    quietly(|w| restic.compact(w)).unwrap();
    let about = restic.info().unwrap();
    assert!((about.archives, about.leftovers) == (2, 0) && about.stored_bytes > 200_000, "{about:?}");
    assert!(by_hand(&scene, "check --read-data").contains("no errors were found"));
}

#[test]
fn a_name_that_means_something_in_patterns_brings_itself_alone() {
    let scene = Scene::new();
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe odd.jpg");
    let names = ["a[1]*.jpg", "a1x.jpg", "w?\\z.jpg", "wx\\z.jpg", "b[!a].jpg", "bb.jpg"];
    for name in names.iter().map(std::ffi::OsStr::new).chain([odd]) {
        fs::write(scene.path("library/album 0").join(name), name.as_bytes()).unwrap();
    }
    let restic = Restic::new(scene.restic()).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    quietly(|w| restic.create(&scene.source(T0), "one", w)).unwrap();
    let alone = |name: &str| {
        let back = scene.path(&format!("back of {name}"));
        quietly(|w| restic.restore(&wanted("one", &[&format!("album 0/{name}")]), &back, w)).unwrap();
        fs::read_dir(back.join("album 0")).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    for name in names {
        assert_eq!(alone(name), [name]);
    }
    assert_eq!(alone("\u{fffd}\u{fffd} odd.jpg"), [odd]);
}

/// A thousand photos beside the others, in three command lines.
fn many(scene: &Scene) -> Wanted {
    let name = |n: usize| format!("album 0/{n:04} {}.jpg", "long".repeat(50));
    let names: Vec<String> = (0..1000).map(name).collect();
    names.iter().enumerate().for_each(|(n, name)| fs::write(scene.path("library").join(name), n.to_string()).unwrap());
    Wanted { paths: names, ..wanted("one", &[]) }
}

#[test]
fn more_files_than_one_command_line_should_hold_come_in_several_runs() {
    let scene = Scene::new();
    let some = many(&scene);
    let log = scene.path("log");
    let note = format!("case \" $* \" in *' restore '*) printf '%s\\n' \"$*\" >>'{}';; esac", log.display());
    let program = scene.wrapped_program("restic", &note, "");
    let restic = Restic::new(Options { program, ..scene.restic() }).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    quietly(|w| restic.create(&scene.source(T0), "one", w)).unwrap();
    let (back, mut told) = (scene.path("back"), Vec::new());
    let count =
        watched(&Cancel::default(), &mut |progress| told.push(progress.files), |w| restic.restore(&some, &back, w));
    assert_eq!(count.unwrap().files, 1000);
    let came = fs::read_dir(back.join("album 0")).unwrap().count();
    assert_eq!((came, fs::read(back.join(&some.paths[999])).unwrap()), (1000, b"999".to_vec()), "and nothing else");
    let lines = fs::read_to_string(&log).unwrap();
    assert!(lines.lines().count() == 3 && lines.lines().all(|line| line.len() < 110_000), "{}", lines.len());
    assert!(told.is_sorted() && told.last() == Some(&1000), "{told:?}");
    // Ended after the first of them.
    let cancel = Cancel::default();
    let ended = watched(
        &cancel,
        &mut |progress| {
            if progress.files > 0 {
                cancel.cancel();
            }
        },
        |w| restic.restore(&some, &scene.path("ended"), w),
    );
    assert_eq!(kind(ended), Kind::Cancelled);
    assert!(fs::read_dir(scene.path("ended/album 0")).unwrap().count() < 1000);
}

#[test]
fn a_restore_that_was_killed_goes_on_with_what_is_not_there_whole() {
    let scene = Scene::new();
    let (library, back) = (scene.path("library"), scene.path("back"));
    let some = many(&scene);
    std::os::unix::fs::symlink("0.jpg", library.join("album 0/link")).unwrap();
    fs::create_dir(library.join("empty")).unwrap();
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::open(library.join("album 0")).unwrap().set_modified(long_ago).unwrap();
    let restic = Restic::new(scene.restic()).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    quietly(|w| restic.create(&scene.source(T0), "one", w)).unwrap();
    // The second of its runs is killed when it has made files.
    let log = scene.path("log");
    let kill = format!(
        "case \" $* \" in *' restore '*) echo >>'{log}'; [ $(wc -l <'{log}') -ne 2 ] || {{ restic \"$@\" & for n in \
         $(seq 3000); do [ -n \"$(ls '{back}'/.haven-restoring-*/'album 0' 2>&-)\" ] && break; sleep 0.01; done; kill -9 $!; \
         exit 137; }};; esac",
        log = log.display(),
        back = back.display()
    );
    let program = scene.wrapped_program("restic", &kill, "");
    let killed = Restic::new(Options { program, ..scene.restic() }).unwrap();
    assert!(quietly(|w| killed.go_on(&some, &back, w)).is_err());
    let came = as_they_were(&library, &back);
    assert!(
        came > 300 && fs::read_dir(back.join("album 0")).unwrap().count() == came,
        "of the first run, and nothing else"
    );
    let count = quietly(|w| killed.go_on(&some, &back, w)).unwrap();
    assert_eq!((count.files, count.kept), (1000, came as u64));
    // And all of it, where a part is there; then where all is. What a link is, is not looked at.
    let all = wanted("one", &[]);
    let whole = || same_tree(&library, &back) && back.join("empty").is_dir() && back.join("album 0/link").is_symlink();
    for (kept, replaced) in [(1000, ""), (1020, ""), (1019, "album 1/3.jpg")] {
        if !replaced.is_empty() {
            fs::write(back.join(replaced), noise(77, 10_003)).unwrap();
        }
        let count = quietly(|w| restic.go_on(&all, &back, w)).unwrap();
        assert_eq!((count.files, count.kept), (1021, kept));
        assert!(whole());
        assert_eq!(fs::metadata(back.join("album 0")).unwrap().modified().unwrap(), long_ago);
    }
    // A file that is wrong and can't be seen to be stays, until nothing is to stay.
    let wrong = back.join("album 1/3.jpg");
    fs::write(&wrong, noise(77, 10_003)).unwrap();
    let time = fs::metadata(library.join("album 1/3.jpg")).unwrap().modified().unwrap();
    fs::File::open(&wrong).unwrap().set_modified(time).unwrap();
    let one = wanted("one", &["album 1"]);
    assert_eq!(quietly(|w| restic.go_on(&one, &back, w)).unwrap().kept, 10);
    assert!(!whole());
    assert_eq!(quietly(|w| restic.restore(&one, &back, w)).unwrap().kept, 0);
    assert!(whole());
}

#[test]
fn a_file_that_cannot_be_read_leaves_no_snapshot_that_counts() {
    let scene = Scene::new();
    let options = if is_root() {
        // Root reads everything: the program runs as nobody here.
        for name in ["base", "place"] {
            fs::create_dir_all(scene.path(name)).unwrap();
        }
        for name in ["library", "passphrase", "base", "place"] {
            let done = Command::new("chown").args(["-R", "65534"]).arg(scene.path(name)).status().unwrap();
            assert!(done.success());
        }
        let program = scene.wrapped_program("restic", "", "setpriv --reuid 65534 --clear-groups");
        let repository = scene.path("place/restic").to_str().unwrap().to_owned();
        Options { program, repository, ..scene.restic() }
    } else {
        scene.restic()
    };
    let restic = Restic::new(options).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    quietly(|w| restic.create(&scene.source(T0), "good", w)).unwrap();
    fs::set_permissions(scene.path("library/album 1/3.jpg"), fs::Permissions::from_mode(0o000)).unwrap();
    // Its ctime tells that it has changed: it is not taken from the snapshot before.
    let error = quietly(|w| restic.create(&scene.source(T0 + DAY), "bad", w)).unwrap_err();
    assert_eq!(error.kind, Kind::Incomplete);
    assert!(error.to_string().contains("album 1/3.jpg"), "{error}");
    let list = restic.list().unwrap();
    let seen: Vec<_> = list.iter().map(|a| (a.name.as_str(), a.leftover)).collect();
    assert_eq!(seen, [("good", false), ("bad", true)]);
}

#[test]
fn a_program_that_passes_a_file_over_in_silence_is_found_out() {
    let scene = Scene::new();
    let restic = Restic::new(scene.restic()).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    let program = scene.path("silent");
    let script =
        "#!/bin/sh\ncase \" $* \" in *' backup '*) exec restic \"$@\" --exclude 3.jpg ;; esac\nexec restic \"$@\"\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let silent = Options { program: program.to_str().unwrap().into(), ..scene.restic() };
    let error = quietly(|w| Restic::new(silent).unwrap().create(&scene.source(T0), "bad", w)).unwrap_err();
    assert!(error.kind == Kind::Incomplete && error.to_string().contains("album 1/3.jpg"), "{error}");
    assert!(restic.list().unwrap().iter().all(|archive| archive.leftover));
}

#[test]
fn a_leftover_with_the_name_of_a_whole_one_is_deleted_and_the_whole_one_stays() {
    let scene = Scene::new();
    let restic = Restic::new(scene.restic()).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    // The run ends between the snapshot and its name.
    let program =
        scene.wrapped_program("restic", "case \" $* \" in *' tag '*) echo 'Fatal: killed' >&2; exit 1;; esac", "");
    let ended = Restic::new(Options { program, ..scene.restic() }).unwrap();
    assert!(quietly(|w| ended.create(&scene.source(T0), "one", w)).is_err());
    quietly(|w| restic.create(&scene.source(T0), "one", w)).unwrap();
    let list = restic.list().unwrap();
    let mut states: Vec<_> = list.iter().map(|a| (a.name.as_str(), a.leftover)).collect();
    states.sort_unstable();
    assert_eq!(states, [("one", false), ("one", true)]);
    let leftover = list.iter().find(|a| a.leftover).unwrap();
    quietly(|w| restic.delete(std::slice::from_ref(&leftover.id), w)).unwrap();
    let states: Vec<_> = restic.list().unwrap().into_iter().map(|a| (a.name, a.leftover)).collect();
    assert_eq!(states, [("one".to_owned(), false)]);
    quietly(|w| restic.restore(&wanted("one", &[]), &scene.path("back"), w)).unwrap();
    assert!(same_tree(&scene.path("library"), &scene.path("back")));
}

#[test]
fn what_stands_in_the_way_is_told_by_its_kind() {
    let scene = Scene::new();
    let restic = Restic::new(scene.restic()).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    fs::write(scene.path("wrong"), "something else").unwrap();
    let with = |name: &str| Options { passphrase: Some(Passphrase::File(scene.path(name))), ..scene.restic() };
    assert_eq!(kind(Restic::new(with("wrong")).unwrap().list()), Kind::Passphrase);
    assert_eq!(kind(Restic::new(with("gone")).unwrap().list()), Kind::Passphrase);
    assert_eq!(kind(Restic::new(Options { passphrase: None, ..scene.restic() })), Kind::Passphrase);
    assert_eq!(kind(Restic::new(Options { program: "no-such-restic".into(), ..scene.restic() })), Kind::Program);
    let away = Options { repository: "rest:http://127.0.0.1:9/x".into(), ..scene.restic() };
    assert_eq!(kind(Restic::new(away).unwrap().list()), Kind::Connection);
    // Another one works on it for a while; then it is dead, and its lock in nobody's way.
    fs::write(scene.path("library/film.mov"), noise(3, 8_000_000)).unwrap();
    let mut other = Command::new("restic")
        .args(["--limit-upload", "100", "backup", "."])
        .env("RESTIC_REPOSITORY", scene.path("restic"))
        .env("RESTIC_PASSWORD_COMMAND", format!("head -n 1 {}", scene.path("passphrase").display()))
        .env("RESTIC_CACHE_DIR", scene.path("cache by hand"))
        .current_dir(scene.path("library"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let locked = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        fs::read_dir(scene.path("restic/locks")).unwrap().next().is_some()
    });
    let told = kind(quietly(|w| restic.compact(w)));
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(locked);
    assert_eq!(told, Kind::Locked);
    quietly(|w| restic.compact(w)).unwrap();
}

#[test]
fn over_sftp_a_copy_is_made_and_a_run_that_is_ended_makes_none() {
    let scene = Scene::new();
    let server = Ssh::new(&scene);
    let user = Command::new("id").arg("-un").output().unwrap();
    let user = String::from_utf8(user.stdout).unwrap();
    let repository = format!("sftp://{}@127.0.0.1:{}/{}", user.trim(), server.port, scene.path("far").display());
    let options = Options {
        repository,
        ssh_key: Some(server.directory.join("client_key")),
        known_hosts: Some(server.directory.join("known_hosts")),
        ..scene.restic()
    };
    let restic = Restic::new(options.clone()).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    fs::write(scene.path("library/film.mov"), noise(8, 20_000_000)).unwrap();
    let slow = Restic::new(Options { upload_kib: 2_000, ..options.clone() }).unwrap();
    let cancel = Cancel::default();
    let ended = watched(
        &cancel,
        &mut |progress| {
            if progress.bytes > 1_000_000 {
                cancel.cancel();
            }
        },
        |w| slow.create(&scene.source(T0), "ended", w),
    );
    assert_eq!(kind(ended), Kind::Cancelled);
    assert!(restic.list().unwrap().is_empty());
    quietly(|w| restic.create(&scene.source(T0), "one", w)).unwrap();
    quietly(|w| restic.restore(&wanted("one", &["album 0"]), &scene.path("back"), w)).unwrap();
    assert!(same_tree(&scene.path("library/album 0"), &scene.path("back/album 0")));
    server.script("down", &[]);
    assert_eq!(kind(restic.list()), Kind::Connection);
}

#[test]
fn a_full_disk_is_told_and_unchanged_files_at_one_place_are_not_read_again() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let place = scene.path("small");
    fs::create_dir(&place).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&place).status().unwrap();
    if !mounted.success() {
        return;
    }
    let repository = place.join("restic").to_str().unwrap().to_owned();
    let restic = Restic::new(Options { repository, ..scene.restic() }).unwrap();
    let shown = |name: &str, at| Source {
        directory: scene.path(name),
        shown_at: Some(scene.path("fixed")),
        ..scene.source(at)
    };
    let outcome = (|| {
        quietly(|w| restic.init(w))?;
        quietly(|w| restic.create(&shown("library", T0), "one", w))?;
        fs::rename(scene.path("library"), scene.path("moved")).unwrap();
        let again = quietly(|w| restic.create(&shown("moved", T0 + DAY), "again", w))?;
        assert!(again.files == 20 && again.new_bytes < 3_000, "{again:?}");
        fs::write(scene.path("moved/film.mov"), noise(9, 20_000_000)).unwrap();
        quietly(|w| restic.create(&shown("moved", T0 + 2 * DAY), "two", w))
    })();
    let list = restic.list();
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    assert_eq!(kind(outcome), Kind::Full);
    assert_eq!(list.unwrap().iter().filter(|a| !a.leftover).count(), 2);
}

#[test]
fn a_snapshot_is_read_without_being_unpacked_and_damage_is_told() {
    let scene = Scene::new();
    let restic = Restic::new(scene.restic()).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    quietly(|w| restic.create(&scene.source(T0), "one", w)).unwrap();
    let all = streamed(&restic, &wanted("one", &[])).unwrap();
    assert_eq!(all.came.len(), 20);
    for (path, bytes) in &all.came {
        assert_eq!(*bytes, fs::read(scene.path("library").join(path)).unwrap(), "{path}");
    }
    let below = Wanted { root: "album 1".into(), ..wanted("one", &["3.jpg", "5.jpg"]) };
    for wanted in [below, Wanted { root: "album 1".into(), ..wanted("one", &[]) }] {
        let some = streamed(&restic, &wanted).unwrap().came;
        assert_eq!(some.iter().find(|(path, _)| path == "3.jpg").unwrap().1, noise(4, 10_003));
        assert_eq!(some.len(), if wanted.paths.is_empty() { 10 } else { 2 });
    }
    assert_eq!(kind(streamed(&restic, &wanted("one", &["nowhere"]))), Kind::NoArchive);
    damage(&scene.path("restic/data"));
    let told = kind(streamed(&restic, &wanted("one", &[])));
    assert!(matches!(told, Kind::Damaged | Kind::NotRestored), "{told:?}");
}

/// The files of a snapshot, as the real program lists them.
fn listed_by_hand(scene: &Scene, snapshot: &str) -> Vec<String> {
    let list = by_hand(scene, &format!("ls --json --tag haven:{snapshot} latest"));
    let nodes = list.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let files = nodes.filter(|node| node["type"] == "file");
    let mut paths: Vec<String> =
        files.map(|node| node["path"].as_str().unwrap().trim_matches('/').to_owned()).collect();
    paths.sort();
    paths
}

/// Those of them that it can't give out whole.
fn unreadable_by_hand(scene: &Scene, snapshot: &str) -> Vec<String> {
    let dumped = |path: &String| {
        let mut program = Command::new("restic");
        program.args(["dump", "--tag", &format!("haven:{snapshot}"), "latest", &format!("/{path}")]);
        program.env("RESTIC_REPOSITORY", scene.path("restic"));
        program.env("RESTIC_PASSWORD_COMMAND", format!("head -n 1 {}", scene.path("passphrase").display()));
        program.env("RESTIC_CACHE_DIR", scene.path("cache by hand"));
        program.output().unwrap().status.success()
    };
    listed_by_hand(scene, snapshot).into_iter().filter(|path| !dumped(path)).collect()
}

#[test]
fn a_check_says_which_files_the_damage_hits_and_in_which_snapshots() {
    let scene = Scene::new();
    let restic = Restic::new(scene.restic()).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    quietly(|w| restic.create(&scene.source(T0), "one", w)).unwrap();
    fs::write(scene.path("library/new.jpg"), noise(99, 5_000)).unwrap();
    quietly(|w| restic.create(&scene.source(T0 + DAY), "two", w)).unwrap();
    damage(&scene.path("restic/data"));
    quietly(|w| restic.check(Depth::Structure, w)).expect("only reading the data finds it");
    let error = quietly(|w| restic.check(Depth::Data, w)).unwrap_err();
    assert_eq!(error.kind, Kind::Damaged, "{error}");
    let paths: Vec<&str> = error.hit.iter().map(|hit| hit.path.as_str()).collect();
    let expected = unreadable_by_hand(&scene, "one");
    assert!(!expected.is_empty() && expected.len() < 20, "the others of the pack are whole: {expected:?}");
    assert_eq!(paths, expected, "{error}");
    assert!(error.hit.iter().all(|hit| hit.archives == ["one", "two"]), "{:?}", error.hit);
}

#[test]
fn a_pack_that_is_gone_hits_every_file_that_has_a_part_in_it() {
    let scene = Scene::new();
    let restic = Restic::new(scene.restic()).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    quietly(|w| restic.create(&scene.source(T0), "one", w)).unwrap();
    let largest = Command::new("sh")
        .args(["-c", "find \"$1\" -type f -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2-", "sh"])
        .arg(scene.path("restic/data"))
        .output()
        .unwrap();
    fs::remove_file(String::from_utf8(largest.stdout).unwrap().trim()).unwrap();
    let error = quietly(|w| restic.check(Depth::Structure, w)).unwrap_err();
    assert_eq!((error.kind, error.hit.len()), (Kind::Damaged, 20), "{error}");
    // Reading one of them by hand would be tried again for a quarter of an hour.
    assert_eq!(error.hit.iter().map(|hit| hit.path.clone()).collect::<Vec<_>>(), listed_by_hand(&scene, "one"));
}

#[test]
fn a_damaged_list_of_a_folder_is_told_with_the_snapshots_that_need_it() {
    let scene = Scene::new();
    let restic = Restic::new(scene.restic()).unwrap();
    quietly(|w| restic.init(w)).unwrap();
    quietly(|w| restic.create(&scene.source(T0), "one", w)).unwrap();
    // The packs of lists are the small ones.
    let small =
        Command::new("find").arg(scene.path("restic/data")).args(["-type", "f", "-size", "-40k"]).output().unwrap();
    for path in String::from_utf8(small.stdout).unwrap().lines() {
        let mut bytes = fs::read(path).unwrap();
        bytes[40] ^= 1;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::remove_dir_all(scene.path("base/restic/cache")).unwrap_or_default();
    let error = quietly(|w| restic.check(Depth::Structure, w)).unwrap_err();
    assert_eq!(error.kind, Kind::Damaged, "{error}");
    assert!(error.hit.iter().any(|hit| hit.archives == ["one"]), "{error} {:?}", error.hit);
}
