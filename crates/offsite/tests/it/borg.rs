use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    process::Command,
};

use haven_offsite::{
    Cancel, Depth, Kind, Passphrase, Source, ThirdCopy, Wanted,
    borg::{Borg, Options},
    choose, count,
};

use crate::scene::{Scene, Ssh, as_they_were, damage, is_root, noise, quietly, same_tree, streamed, watched};

const DAY: i64 = 86_400;
const T0: i64 = 1_795_000_000;

fn kind<T: std::fmt::Debug>(outcome: Result<T, haven_offsite::Error>) -> Kind {
    outcome.expect_err("it fails").kind
}

fn wanted(archive: &str, paths: &[&str]) -> Wanted {
    let paths = paths.iter().map(|&path| path.to_owned()).collect();
    Wanted { archive: archive.into(), paths, parallel: 3, ..Wanted::default() }
}

#[test]
fn a_copy_is_made_listed_checked_pruned_and_restored() {
    let scene = Scene::new();
    let borg = scene.borg();
    quietly(|w| borg.init(w)).unwrap();
    assert_eq!(kind(quietly(|w| borg.init(w))), Kind::Exists);
    let first = quietly(|w| borg.create(&scene.source(T0), "one", w)).unwrap();
    assert!(first.files == 20 && first.new_bytes > 200_000, "{first:?}");
    fs::write(scene.path("library/new.jpg"), noise(99, 5_000)).unwrap();
    let second = quietly(|w| borg.create(&scene.source(T0 + DAY), "two", w)).unwrap();
    assert!(second.files == 21 && second.new_bytes < 10_000, "{second:?}");
    let list = borg.list().unwrap();
    let seen: Vec<_> = list.iter().map(|a| (a.name.as_str(), a.taken, a.note.as_str(), a.leftover)).collect();
    assert_eq!(seen, [("one", T0, "a word", false), ("two", T0 + DAY, "a word", false)]);
    quietly(|w| borg.check(Depth::Data, w)).unwrap();
    let count = count(
        &choose(&borg.entries("two").unwrap(), &Wanted { paths: vec!["album 1".into()], ..Wanted::default() }).unwrap(),
    );
    assert_eq!(count.files, 10);
    quietly(|w| borg.restore(&wanted("two", &[]), &scene.path("back"), w)).unwrap();
    assert!(same_tree(&scene.path("library"), &scene.path("back")));
    quietly(|w| borg.restore(&wanted("two", &["album 1/3.jpg"]), &scene.path("one"), w)).unwrap();
    assert_eq!(fs::read(scene.path("one/album 1/3.jpg")).unwrap(), noise(4, 10_003));
    assert_eq!(kind(quietly(|w| borg.restore(&wanted("two", &["nowhere"]), &scene.path("no"), w))), Kind::NoArchive);
    assert_eq!(kind(quietly(|w| borg.restore(&wanted("three", &[]), &scene.path("no"), w))), Kind::NoArchive);
    assert_eq!(kind(quietly(|w| borg.restore(&wanted("two", &["../x"]), &scene.path("no"), w))), Kind::NoArchive);
    quietly(|w| borg.delete(&["one".into()], w)).unwrap();
    quietly(|w| borg.compact(w)).unwrap();
    let about = borg.info().unwrap();
    assert_eq!((about.archives, about.leftovers, about.encryption.as_str()), (1, 0, "repokey-blake2"));
}

#[test]
fn a_file_that_cannot_be_read_leaves_no_archive_that_counts() {
    let scene = Scene::new();
    fs::create_dir(scene.path("base")).unwrap();
    let options = if is_root() {
        // Root reads everything: borg runs as nobody here.
        for name in ["library", "passphrase", "base"] {
            let done = Command::new("chown").args(["-R", "65534"]).arg(scene.path(name)).status().unwrap();
            assert!(done.success());
        }
        fs::create_dir(scene.path("place")).unwrap();
        assert!(Command::new("chown").arg("65534").arg(scene.path("place")).status().unwrap().success());
        let program = scene.wrapped("", "setpriv --reuid 65534 --clear-groups");
        let repository = scene.path("place/repository").to_str().unwrap().to_owned();
        Options { program, repository, ..scene.options() }
    } else {
        scene.options()
    };
    let borg = Borg::new(options).unwrap();
    quietly(|w| borg.init(w)).unwrap();
    quietly(|w| borg.create(&scene.source(T0), "good", w)).unwrap();
    assert!(Command::new("chmod").arg("000").arg(scene.path("library/album 1/3.jpg")).status().unwrap().success());
    fs::write(scene.path("library/album 1/5.jpg"), "changed").unwrap();
    let error = quietly(|w| borg.create(&scene.source(T0 + DAY), "bad", w)).unwrap_err();
    assert_eq!(error.kind, Kind::Incomplete);
    assert!(error.to_string().contains("album 1/3.jpg"), "{error}");
    let list = borg.list().unwrap();
    let seen: Vec<_> = list.iter().map(|a| (a.name.as_str(), a.leftover)).collect();
    assert_eq!(seen, [("good", false), ("bad.failed", true)]);
}

#[test]
fn what_stands_in_the_way_is_told_by_its_kind() {
    let scene = Scene::new();
    let borg = scene.borg();
    assert_eq!(kind(borg.list()), Kind::NoRepository);
    assert_eq!(kind(quietly(|w| borg.create(&scene.source(T0), "one", w))), Kind::NoRepository);
    quietly(|w| borg.init(w)).unwrap();
    fs::write(scene.path("wrong"), "something else").unwrap();
    let wrong =
        Borg::new(Options { passphrase: Some(Passphrase::File(scene.path("wrong"))), ..scene.options() }).unwrap();
    assert_eq!(kind(wrong.list()), Kind::Passphrase);
    let gone =
        Borg::new(Options { passphrase: Some(Passphrase::File(scene.path("gone"))), ..scene.options() }).unwrap();
    assert_eq!(kind(gone.list()), Kind::Passphrase);
    let none = Options { program: "no-such-borg".into(), ..scene.options() };
    assert_eq!(kind(Borg::new(none)), Kind::Program);
    // Another borg works on it for a while.
    let mut other = Command::new("borg")
        .args(["with-lock", scene.path("repository").to_str().unwrap(), "sleep", "30"])
        .env("BORG_BASE_DIR", scene.path("base"))
        .env("BORG_PASSCOMMAND", format!("head -n 1 {}", scene.path("passphrase").display()))
        .spawn()
        .unwrap();
    let locked = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        scene.path("repository/lock.exclusive").exists()
    });
    let told = kind(quietly(|w| borg.create(&scene.source(T0), "one", w)));
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(locked);
    assert_eq!(told, Kind::Locked);
    // The dead one's lock is in nobody's way.
    quietly(|w| borg.create(&scene.source(T0), "one", w)).unwrap();
}

#[test]
fn a_run_that_is_ended_or_killed_makes_no_archive_and_the_next_one_does() {
    let scene = Scene::new();
    fs::write(scene.path("library/film.mov"), noise(7, 40_000_000)).unwrap();
    let slow = Options {
        program: scene.wrapped(&format!("echo $$ >'{}'", scene.path("pid").display()), ""),
        compression: "lzma,9".into(),
        ..scene.options()
    };
    let slow = Borg::new(slow).unwrap();
    quietly(|w| slow.init(w)).unwrap();
    let cancel = Cancel::default();
    let ended = watched(
        &cancel,
        &mut |progress| {
            if progress.bytes > 0 {
                cancel.cancel();
            }
        },
        |w| slow.create(&scene.source(T0), "ended", w),
    );
    assert_eq!(kind(ended), Kind::Cancelled);
    let kill = || Command::new("kill").arg("-9").arg(fs::read_to_string(scene.path("pid")).unwrap().trim()).status();
    let mut killed = false;
    let outcome = watched(
        &Cancel::default(),
        &mut |progress| {
            if progress.bytes > 0 && !killed {
                killed = kill().unwrap().success();
            }
        },
        |w| slow.create(&scene.source(T0), "killed", w),
    );
    let error = outcome.unwrap_err();
    assert!(killed && error.to_string().contains("signal 9"), "{error}");
    assert!(scene.borg().list().unwrap().iter().all(|archive| archive.leftover));
    quietly(|w| scene.borg().create(&scene.source(T0), "whole", w)).unwrap();
    quietly(|w| scene.borg().restore(&wanted("whole", &[]), &scene.path("back"), w)).unwrap();
    assert!(same_tree(&scene.path("library"), &scene.path("back")));
}

#[test]
fn what_a_run_has_left_that_ended_before_the_archive_had_its_name_is_in_nobodys_way() {
    let scene = Scene::new();
    let borg = scene.borg();
    quietly(|w| borg.init(w)).unwrap();
    let program = scene.wrapped("case \" $* \" in *' rename '*) exit 2;; esac", "");
    let ended = Borg::new(Options { program, ..scene.options() }).unwrap();
    for _ in 0..2 {
        assert!(quietly(|w| ended.create(&scene.source(T0), "one", w)).is_err());
    }
    let made = quietly(|w| borg.create(&scene.source(T0), "one", w)).unwrap();
    assert!(made.new_bytes < 10_000, "it was sent before: {made:?}");
    let mut states: Vec<_> = borg.list().unwrap().into_iter().map(|a| (a.name, a.leftover)).collect();
    states.sort();
    let states: Vec<_> = states.iter().map(|(name, leftover)| (name.as_str(), *leftover)).collect();
    assert_eq!(states, [("one", false), ("one.2.failed", true), ("one.failed", true)]);
    quietly(|w| borg.restore(&wanted("one", &[]), &scene.path("back"), w)).unwrap();
    assert!(same_tree(&scene.path("library"), &scene.path("back")));
}

#[test]
fn over_ssh_a_cut_is_told_and_an_append_only_server_is_only_added_to() {
    let scene = Scene::new();
    let server = Ssh::new(&scene);
    let options = server.options(&scene);
    let borg = Borg::new(options.clone()).unwrap();
    quietly(|w| borg.init(w)).unwrap();
    quietly(|w| borg.create(&scene.source(T0), "one", w)).unwrap();
    fs::write(scene.path("library/film.mov"), noise(8, 20_000_000)).unwrap();
    let slow = Borg::new(Options { upload_kib: 2_000, ..options.clone() }).unwrap();
    let mut cut = false;
    let outcome = watched(
        &Cancel::default(),
        &mut |progress| {
            if progress.new_bytes > 1_000_000 && !cut {
                server.script("down", &[]);
                cut = true;
            }
        },
        |w| slow.create(&scene.source(T0 + DAY), "two", w),
    );
    assert_eq!(kind(outcome), Kind::Connection);
    assert!(cut);
    assert_eq!(kind(borg.list()), Kind::Connection, "nobody listens there");
    server.script("start", &[]);
    let key = fs::read_to_string(server.directory.join("client_key.pub")).unwrap();
    let forced = format!(
        "command=\"borg serve --append-only --restrict-to-repository {}\",restrict {key}",
        scene.path("repository").display()
    );
    fs::write(server.directory.join("authorized_keys"), forced).unwrap();
    let append =
        Borg::new(Options { append_only: true, lock_wait: std::time::Duration::from_secs(20), ..options.clone() })
            .unwrap();
    quietly(|w| append.create(&scene.source(T0 + DAY), "two", w)).unwrap();
    assert_eq!(kind(quietly(|w| append.delete(&["one".into()], w))), Kind::Refused);
    assert_eq!(kind(quietly(|w| append.compact(w))), Kind::Refused);
    let names: Vec<_> = append.list().unwrap().into_iter().filter(|a| !a.leftover).map(|a| a.name).collect();
    assert_eq!(names, ["one", "two"]);
    let elsewhere = options.repository.replace("/repository", "/other");
    let elsewhere = Borg::new(Options { repository: elsewhere, ..options.clone() }).unwrap();
    assert_eq!(kind(elsewhere.list()), Kind::Refused);
    fs::write(server.directory.join("known_hosts"), "").unwrap();
    assert_eq!(kind(append.list()), Kind::Connection, "an unknown host is not spoken with");
}

#[test]
fn a_full_disk_is_told_and_nothing_counts_that_is_half_there() {
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
    let repository = place.join("repository").to_str().unwrap().to_owned();
    let borg = Borg::new(Options { repository, ..scene.options() }).unwrap();
    let outcome = (|| {
        quietly(|w| borg.init(w))?;
        quietly(|w| borg.create(&scene.source(T0), "one", w))?;
        fs::write(scene.path("library/film.mov"), noise(9, 20_000_000)).unwrap();
        quietly(|w| borg.create(&scene.source(T0 + DAY), "two", w))
    })();
    let list = borg.list();
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    assert_eq!(kind(outcome), Kind::Full);
    let list = list.unwrap();
    assert_eq!(list.iter().filter(|a| !a.leftover).map(|a| a.name.as_str()).collect::<Vec<_>>(), ["one"]);
}

#[test]
fn shown_at_one_place_unchanged_files_are_not_read_again() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let borg = scene.borg();
    quietly(|w| borg.init(w)).unwrap();
    let shown =
        |name: &str| Source { directory: scene.path(name), shown_at: Some(scene.path("fixed")), ..scene.source(T0) };
    quietly(|w| borg.create(&shown("library"), "one", w)).unwrap();
    // The same files under another name, as the next snapshot has them.
    fs::rename(scene.path("library"), scene.path("moved")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let before: Vec<_> = fs::read_dir(scene.path("fixed")).unwrap().collect();
    assert!(before.is_empty(), "what borg was shown is seen by nobody else");
    let again = quietly(|w| borg.create(&shown("moved"), "two", w)).unwrap();
    assert!(again.files == 20 && again.new_bytes < 5_000, "{again:?}");
    // What can't be shown was not read badly.
    assert_eq!(kind(quietly(|w| borg.create(&shown("library"), "three", w))), Kind::Unshown);
}

#[test]
fn what_comes_back_in_parts_is_the_same_as_what_was_there() {
    let scene = Scene::new();
    let library = scene.path("library");
    // Odd names, an empty folder, a link, a second name, permissions and times.
    let odd = std::ffi::OsStr::from_bytes(b"album 0/\xff odd\n .jpg ");
    fs::write(library.join(odd), noise(50, 7_000)).unwrap();
    let odd = library.join(std::ffi::OsStr::from_bytes(b"odd \xfe\xff/what?"));
    fs::create_dir_all(&odd).unwrap();
    fs::write(odd.join("1.jpg"), noise(51, 6_000)).unwrap();
    fs::create_dir_all(library.join("empty/deeper")).unwrap();
    std::os::unix::fs::symlink("album 0/2.jpg", library.join("link")).unwrap();
    fs::hard_link(library.join("album 0/0.jpg"), library.join("album 1/z second name.jpg")).unwrap();
    fs::set_permissions(library.join("album 1"), fs::Permissions::from_mode(0o750)).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for name in ["album 0", "empty/deeper", "empty"] {
        fs::File::open(library.join(name)).unwrap().set_modified(long_ago).unwrap();
    }
    let borg = scene.borg();
    quietly(|w| borg.init(w)).unwrap();
    quietly(|w| borg.create(&scene.source(T0), "one", w)).unwrap();
    let back = scene.path("back");
    let count = quietly(|w| borg.restore(&wanted("one", &[]), &back, w)).unwrap();
    assert_eq!(count.files, 24);
    assert!(same_tree(&library, &back));
    let about = |path: &str| fs::metadata(back.join(path)).unwrap();
    assert_eq!(about("album 0/0.jpg").ino(), about("album 1/z second name.jpg").ino(), "still one file");
    assert_eq!(about("album 1").mode() & 0o777, 0o750);
    assert!(["album 0", "empty/deeper", "empty"].iter().all(|name| about(name).modified().unwrap() == long_ago));
    // A folder as the root, as old archives of a whole machine need it.
    let root = Wanted { root: "album 1".into(), ..wanted("one", &["3.jpg"]) };
    quietly(|w| borg.restore(&root, &scene.path("flat"), w)).unwrap();
    assert_eq!(fs::read(scene.path("flat/3.jpg")).unwrap(), noise(4, 10_003));
    assert_eq!(fs::read_dir(scene.path("flat")).unwrap().count(), 1);
}

#[test]
fn a_restore_that_was_killed_goes_on_with_what_is_not_there_whole() {
    let scene = Scene::new();
    let (library, back) = (scene.path("library"), scene.path("back"));
    fs::write(library.join("film.mov"), noise(7, 40_000_000)).unwrap();
    let borg = scene.borg();
    quietly(|w| borg.init(w)).unwrap();
    quietly(|w| borg.create(&scene.source(T0), "one", w)).unwrap();
    let all = Wanted { parallel: 1, ..wanted("one", &[]) };
    let kill = "case \" $* \" in *' extract '*) borg \"$@\" & for n in $(seq 3000); do [ -s film.mov ] && break; sleep 0.01; \
                done; kill -9 $!; exit 137;; esac";
    let killed = Borg::new(Options { program: scene.wrapped(kill, ""), ..scene.options() }).unwrap();
    assert!(quietly(|w| killed.go_on(&all, &back, w)).is_err());
    let came = as_they_were(&library, &back) as u64;
    let mut told = Vec::new();
    let count =
        watched(&Cancel::default(), &mut |progress| told.push(progress.files), |w| borg.go_on(&all, &back, w)).unwrap();
    assert_eq!((count.files, count.kept), (21, came));
    assert!(told.is_sorted() && told.iter().all(|files| (came..=21).contains(files)), "{told:?}");
    assert!(same_tree(&library, &back));
    assert_eq!(quietly(|w| borg.go_on(&all, &back, w)).unwrap().kept, 21);

    // One that is not there, one that is too short, one of another time; and one that is wrong, which nobody can see.
    let as_old = |name: &str| {
        let time = fs::metadata(library.join(name)).unwrap().modified().unwrap();
        fs::File::open(back.join(name)).unwrap().set_modified(time).unwrap();
    };
    fs::remove_file(back.join("film.mov")).unwrap();
    fs::write(back.join("album 1/3.jpg"), noise(4, 5_000)).unwrap();
    as_old("album 1/3.jpg");
    fs::write(back.join("album 0/2.jpg"), noise(77, 10_002)).unwrap();
    fs::write(back.join("album 0/4.jpg"), noise(77, 10_004)).unwrap();
    as_old("album 0/4.jpg");
    let inode = || fs::metadata(back.join("album 0/4.jpg")).unwrap().ino();
    let before = inode();
    assert_eq!(quietly(|w| borg.go_on(&all, &back, w)).unwrap().kept, 18);
    assert_eq!((inode(), fs::read(back.join("album 0/4.jpg")).unwrap()), (before, noise(77, 10_004)));
    assert_eq!(quietly(|w| borg.restore(&all, &back, w)).unwrap().kept, 0, "where nothing is to stay, all is replaced");
    assert!(same_tree(&library, &back));
}

#[test]
fn an_archive_is_read_without_being_unpacked_and_what_is_damaged_in_it_is_named() {
    let scene = Scene::new();
    fs::hard_link(scene.path("library/album 0/0.jpg"), scene.path("library/album 1/again.jpg")).unwrap();
    let borg = scene.borg();
    quietly(|w| borg.init(w)).unwrap();
    quietly(|w| borg.create(&scene.source(T0), "one", w)).unwrap();
    let all = streamed(&borg, &wanted("one", &[])).unwrap();
    assert_eq!((all.came.len(), all.failed.len()), (20, 0), "a further name of a file is none of its own");
    for (path, bytes) in &all.came {
        assert_eq!(*bytes, fs::read(scene.path("library").join(path)).unwrap(), "{path}");
    }
    let below = Wanted { root: "album 1".into(), ..wanted("one", &["3.jpg", "5.jpg"]) };
    let some: Vec<String> = streamed(&borg, &below).unwrap().came.into_iter().map(|(path, _)| path).collect();
    assert_eq!(some, ["3.jpg", "5.jpg"]);
    assert_eq!(kind(streamed(&borg, &wanted("one", &["nowhere"]))), Kind::NoArchive);
    assert_eq!(
        fs::read_dir(scene.path("base"))
            .unwrap()
            .filter(|e| { e.as_ref().unwrap().file_name().to_string_lossy().starts_with("restoring") })
            .count(),
        0
    );
    damage(&scene.path("repository/data"));
    let hurt = streamed(&borg, &wanted("one", &[])).unwrap();
    assert_eq!((hurt.came.len(), hurt.failed.len()), (19, 1), "{hurt:?}");
}
