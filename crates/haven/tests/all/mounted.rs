//! The wiring, on real mounts: a few turns through everything. What a mount promises in detail is tested where it is made.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::run::Machine;

/// Whether mounts can be made here. Where the tests must be complete (CI is set), that they can't is a failure.
pub fn can_mount() -> bool {
    let here = Path::new("/dev/fuse").exists();
    assert!(here || std::env::var_os("CI").is_none(), "no /dev/fuse: nothing can be mounted");
    here
}

/// Takes the mount off when the test ends early.
pub struct Mount<'a>(&'a Machine, &'a str);

impl<'a> Mount<'a> {
    pub fn new(machine: &'a Machine, point: &'a str, flags: &str) -> Self {
        fs::create_dir_all(machine.path(point)).unwrap();
        let said = machine.run(&format!("mount @lib @{point} --cache @cache-{point} {flags}"));
        assert_eq!(said.exit, 0, "{}", said.err);
        Self(machine, point)
    }

    /// With the cache directory that there is when nobody says.
    pub fn by_default(machine: &'a Machine, what: &str, point: &'a str) -> Self {
        fs::create_dir_all(machine.path(point)).unwrap();
        let said = machine.run(&format!("mount {what} @{point}"));
        assert_eq!(said.exit, 0, "{}", said.err);
        Self(machine, point)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        self.0.run(&format!("umount @{} --detach", self.1));
    }
}

/// Reads the library with the reader that shares nothing with what wrote it; returns how many files it found, all whole.
fn second_opinion(machine: &Machine) -> u64 {
    let secret = haven_format::keys::Secret::passphrase("correct horse battery staple").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = haven_store::open(&machine.text("lib"), &Default::default()).unwrap();
        let mut library = haven_rescue::Library::open(store, &secret).await.unwrap();
        let records = library.newest().await.unwrap().records;
        fs::create_dir(machine.path("rescued")).unwrap();
        let restored = haven_rescue::restore(&mut library, &records, &records, &machine.path("rescued")).await.unwrap();
        assert!(
            restored.damaged.is_empty() && library.passed_over.is_empty(),
            "{restored:?} {:?}",
            library.passed_over
        );
        restored.files
    })
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn what_is_written_is_there_after_the_machine_was_lost() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    let photo: Vec<u8> =
        (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(3_000_000).collect();
    {
        let mount = Mount::new(&machine, "m", "");
        fs::create_dir(machine.path("m/2026")).unwrap();
        fs::write(machine.path("m/2026/IMG_1.jpg"), &photo).unwrap();
        fs::write(machine.path("m/2026/again.jpg"), &photo).unwrap();
        assert_eq!(machine.run("flush @m").exit, 0);
        let status = json(&machine.run("status @m --json").out);
        assert_eq!((status["unsent_changes"].as_u64(), status["trouble"].is_null()), (Some(0), true));
        assert!(machine.run("status @m").out.contains("in bucket  everything"));
        let stat = json(&machine.run("stat @m --json").out);
        assert_eq!(stat["file_bytes"].as_u64(), Some(6_000_000));
        assert!(stat["pack_bytes"].as_u64().unwrap() < 3_200_000, "the second copy costs nothing: {stat}");
        assert_eq!(machine.run("umount @m").exit, 0);
        drop(mount);
    }
    fs::remove_dir_all(machine.path("cache-m")).unwrap();
    assert_eq!(second_opinion(&machine), 2);
    assert_eq!(fs::read(machine.path("rescued/2026/again.jpg")).unwrap(), photo);
    let _mount = Mount::new(&machine, "m", "");
    assert_eq!(fs::read(machine.path("m/2026/again.jpg")).unwrap(), photo);
    assert!(machine.run("claims @lib").out.lines().count() == 3, "two mounts, two claims");
}

#[test]
fn a_whole_snapshot_comes_back_over_nothing_that_is_there_unless_asked_to() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    let _mount = Mount::new(&machine, "m", "");
    fs::create_dir(machine.path("m/2026")).unwrap();
    fs::write(machine.path("m/2026/note"), "old").unwrap();
    assert_eq!(machine.run("snapshot create monday -L @m").exit, 0);
    fs::write(machine.path("m/2026/note"), "new").unwrap();
    let note = |top: &str| fs::read_to_string(machine.path(top).join("2026/note")).unwrap();
    for root in [".", "/", "@m"] {
        let said = machine.run(&format!("snapshot restore {root} --from monday -L @m"));
        assert!(said.exit == 7 && said.err.contains("[DIR]/m is not empty"), "{root}: {}", said.whole());
        assert_eq!(note("m"), "new");
    }
    fs::create_dir(machine.path("m/again")).unwrap();
    assert_eq!(machine.run("snapshot restore . --from monday --to @m/again -L @m").exit, 0);
    assert_eq!(note("m/again"), "old");
    fs::write(machine.path("m/again/2026/note"), "new").unwrap();
    assert_eq!(machine.run("snapshot restore . --from monday --to @m/again -L @m").exit, 7);
    assert_eq!((note("m"), note("m/again")), ("new".to_owned(), "new".to_owned()));
    assert_eq!(machine.run("snapshot restore . --from monday --overwrite -L @m").exit, 0);
    assert_eq!(note("m"), "old");
}

#[test]
fn a_killed_mount_is_told_cleared_away_and_mounted_again_with_all_it_had() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    machine.write("slow.toml", "[upload]\nsend_after = \"1h\"\n");
    let _mount = Mount::new(&machine, "m", "--config @slow.toml");
    let reading = machine.run("mount @lib @empty --read-only --cache @other");
    assert_eq!(reading.exit, 8, "there is no such folder");
    fs::create_dir(machine.path("empty")).unwrap();
    let reading = machine.run("mount @lib @empty --read-only --cache @other");
    assert!(reading.exit == 7 && reading.err.contains("nothing has reached the store yet"), "{}", reading.err);
    fs::write(machine.path("m/photo"), "light").unwrap();
    // The root's attributes are now in the kernel's memory, which answers for the dead.
    fs::metadata(machine.path("m")).unwrap();
    let pid: i32 = fs::read_to_string(machine.path("cache-m/pid")).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    let dead = || {
        let said = machine.run("status @m");
        said.exit == 7 && said.err.contains("is dead: its process is gone")
    };
    assert!((0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        dead()
    }));
    let again = machine.run("mount @lib @m --cache @cache-m");
    assert_eq!(again.exit, 0, "{}", again.err);
    assert_eq!(fs::read_to_string(machine.path("m/photo")).unwrap(), "light");
}

#[test]
fn what_the_kernel_gathered_is_in_the_bucket_after_a_flush_and_in_a_snapshot() {
    use std::io::Write;
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    machine.write("gather.toml", "[mount]\nwriteback_cache = true\n");
    let mount = Mount::new(&machine, "m", "--config @gather.toml");
    let mut open = fs::File::create(machine.path("m/open")).unwrap();
    open.write_all(b"light ").unwrap();
    assert_eq!(machine.run("snapshot create s -L @m").exit, 0);
    assert_eq!(fs::read_to_string(machine.path("m/.snapshots/s/open")).unwrap(), "light ");
    open.write_all(b"and shade").unwrap();
    assert_eq!(machine.run("flush @m").exit, 0);
    let pid: i32 = fs::read_to_string(machine.path("cache-m/pid")).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    drop((open, mount));
    assert_eq!(second_opinion(&machine), 1);
    assert_eq!(fs::read_to_string(machine.path("rescued/open")).unwrap(), "light and shade");
}

#[test]
fn a_mount_in_use_is_not_torn_away_and_a_second_one_is_refused() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    let _mount = Mount::new(&machine, "m", "");
    let open = fs::File::create(machine.path("m/open")).unwrap();
    let busy = machine.run("umount @m");
    assert!(busy.exit == 8 && busy.err.contains("is in use by"), "{}", busy.err);
    let again = machine.run("mount @lib @m --cache @other");
    assert!(again.exit == 8 && again.err.contains("is mounted already"), "{}", again.err);
    fs::create_dir(machine.path("n")).unwrap();
    let same_cache = machine.run("mount @lib @n --cache @cache-m");
    assert!(same_cache.exit == 8 && same_cache.err.contains("in use by another mount"), "{}", same_cache.err);
    drop(open);
    assert_eq!(machine.run("umount @m").exit, 0);
    assert_eq!(machine.run("umount @m").exit, 7);
}

#[test]
fn the_unsent_files_of_a_fenced_machine_are_saved() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    machine.write("slow.toml", "[upload]\nsend_after = \"1h\"\n");
    let old = Mount::new(&machine, "old", "--config @slow.toml");
    fs::create_dir(machine.path("old/2026")).unwrap();
    fs::write(machine.path("old/2026/early"), "early").unwrap();
    assert_eq!(machine.run("flush @old").exit, 0);
    fs::write(machine.path("old/2026/late"), "late").unwrap();
    // Only its content changes: its folder does not.
    fs::write(machine.path("old/2026/early"), "changed").unwrap();
    let new = Mount::new(&machine, "new", "");
    let fenced = machine.run("flush @old");
    assert!(fenced.exit == 5 && fenced.err.contains("claimed it (epoch 2)"), "{}", fenced.err);
    assert_eq!(machine.run("umount @old").exit, 5, "an end with unsent changes is not a good one");
    drop(old);
    let saved = machine.run("salvage --cache @cache-old --to @saved --forget");
    assert_eq!(saved.exit, 0, "{}", saved.err);
    assert_eq!(fs::read_to_string(machine.path("saved/2026/late")).unwrap(), "late");
    assert_eq!(fs::read_to_string(machine.path("saved/2026/early")).unwrap(), "changed");
    assert_eq!(fs::read_to_string(machine.path("new/2026/early")).unwrap(), "early");
    drop(new);
    drop(Mount::new(&machine, "old", ""));
}

#[test]
fn up_makes_a_library_and_the_next_time_only_mounts_it() {
    if !can_mount() {
        return;
    }
    let machine = Machine::new();
    fs::create_dir(machine.path("home")).unwrap();
    let up = || {
        let mut command = machine.command("up --json");
        let said = machine.said(command.env_remove("HAVEN_PASSPHRASE_FILE"));
        assert_eq!(said.exit, 0, "{}", said.err);
        json(&said.out)
    };
    let first = up();
    assert_eq!((first["new"].as_bool(), first["point"].as_str()), (Some(true), Some("[DIR]/home/Haven")));
    fs::write(machine.path("home/Haven/hello"), "hello").unwrap();
    assert_eq!(up()["new"].as_bool(), Some(false));
    assert_eq!(machine.run("umount @home/Haven").exit, 0);
    assert!(fs::read_dir(machine.path("home/Haven")).unwrap().next().is_none());
    assert_eq!(up()["new"].as_bool(), Some(false));
    assert_eq!(fs::read_to_string(machine.path("home/Haven/hello")).unwrap(), "hello");
    assert_eq!(machine.run("umount @home/Haven").exit, 0);
}

#[test]
fn a_mount_is_detached_at_once_although_a_file_in_it_is_open() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    let _mount = Mount::new(&machine, "m", "");
    let open = fs::File::create(machine.path("m/open")).unwrap();
    let pid = fs::read_to_string(machine.path("cache-m/pid")).unwrap();
    let said = machine.run("umount @m --detach");
    assert!(said.exit == 0 && said.err.contains("a file in it is still open"), "{}", said.err);
    assert!(!machine.path("m/open").exists());
    // One that has ended and is not fetched yet has no words any more.
    let alive = || fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|words| !words.is_empty());
    assert!(alive(), "it serves who has the file open");
    drop(open);
    let begun = Instant::now();
    while alive() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it ends with the last file");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends a process that a test has started.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn an_end_that_waits_for_another_mount_namespace_says_who_holds_the_mount() {
    if !can_mount() {
        return;
    }
    if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no mount namespace can be made here");
        return;
    }
    let machine = Machine::with_library();
    let _mount = Mount::new(&machine, "m", "");
    fs::write(machine.path("m/photo"), "light").unwrap();
    let until = |what: &str, holds: &mut dyn FnMut() -> bool| {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let other = Command::new("unshare").args(["--mount", "--propagation", "private", "sleep", "600"]).spawn().unwrap();
    let pid = other.id();
    let other = Ended(other);
    let name = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    until("it has its own mounts", &mut || name().trim() == "sleep");
    let log = fs::File::create(machine.path("umount.log")).unwrap();
    let mut end = Ended(machine.command("umount @m").stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let said = || fs::read_to_string(machine.path("umount.log")).unwrap();
    until("it says who holds it", &mut || said().contains(&format!("still has it: sleep ({pid})")));
    assert!(end.0.try_wait().unwrap().is_none(), "it still waits: {}", said());
    assert!(!machine.path("m/photo").exists(), "it is out of sight");
    drop(other);
    let mut ended = None;
    until("it ends", &mut || {
        ended = end.0.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success(), "{}", said());
    assert_eq!(said().matches("another mount namespace").count(), 1, "said once: {}", said());
}

#[test]
fn who_only_wants_to_be_told_takes_the_right_to_write_from_no_mount() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    let _mount = Mount::new(&machine, "m", "");
    fs::write(machine.path("m/photo"), "light").unwrap();
    assert_eq!(machine.run("snapshot create s -L @m").exit, 0);
    assert!(json(&machine.run("gc --dry-run --json -L @m").out)["as_of"].is_null());
    assert_eq!(machine.run("flush @m").exit, 0);
    let told = machine.run("gc --dry-run --json -L @lib --cache @elsewhere");
    assert!(told.exit == 0 && json(&told.out)["as_of"].is_i64(), "{}", told.whole());
    let told = machine.run("snapshot remove s --dry-run -L @lib --cache @elsewhere");
    assert!(told.exit == 0 && told.out == "would remove s\n", "{}", told.whole());
    let mut prune = machine.command("snapshot prune --dry-run -L @lib --cache @elsewhere");
    assert_eq!(machine.said(prune.arg("last 1")).exit, 0);
    assert_eq!(machine.run("claims @lib").out.lines().count(), 2, "one mount, one claim");
    fs::write(machine.path("m/more"), "light").unwrap();
    assert_eq!(machine.run("flush @m").exit, 0, "it still writes");
    assert_eq!(machine.run("snapshot protect s --until 30d -L @m").exit, 0);
    let told = machine.run("snapshot remove s --dry-run -L @m");
    assert!(told.exit != 0 && told.err.contains("is protected, and stays"), "{}", told.whole());
}

#[test]
fn what_is_protected_for_ever_is_told_so_and_never_is_only_what_takes_a_protection_away() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    let _mount = Mount::new(&machine, "m", "");
    assert_eq!(machine.run("snapshot create s --library @m").exit, 0);
    let slip = machine.run("snapshot protect s --until 99999y --library @m");
    assert!(slip.exit == 2 && slip.err.contains("longer than 1000 years"), "{}", slip.err);
    assert_eq!(machine.run("snapshot protect s --until 900y --library @m").exit, 0);
    let refused = machine.run("snapshot protect s --until never --library @m");
    assert!(refused.exit == 2 && refused.err.contains("s is protected until 2"), "{}", refused.err);
    assert!(refused.err.contains("only --shorten lets that end sooner"), "{}", refused.err);
    // As an older Haven took it.
    let at = haven_mount::control::find(&machine.path("m")).unwrap();
    let haven_mount::control::Found::Mount { at, .. } = at else { panic!("it is mounted") };
    let request = haven_mount::control::Request::new("snapshot protect").with("name", "s").with("until", i64::MAX / 2);
    haven_mount::control::Client::connect(&at).unwrap().ask(&request, |_| {}).unwrap();
    let listed = machine.run("snapshot list --library @m").out;
    assert!(listed.contains("  for ever") && !listed.contains("never"), "{listed}");
    let refused = machine.run("snapshot protect s --until 30d --library @m");
    assert!(refused.err.contains("s is protected for ever already"), "{}", refused.err);
    assert_eq!(machine.run("snapshot protect s --until never --shorten --library @m").exit, 0);
    assert_eq!(machine.run("snapshot remove s --library @m").exit, 0);
}

#[test]
fn a_file_comes_back_from_a_snapshot_to_another_file_system_and_slips_are_told() {
    use std::os::unix::fs::MetadataExt;
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    let _mount = Mount::new(&machine, "m", "");
    fs::create_dir(machine.path("m/2019")).unwrap();
    fs::write(machine.path("m/2019/IMG_1.jpg"), vec![7; 300_000]).unwrap();
    fs::hard_link(machine.path("m/2019/IMG_1.jpg"), machine.path("m/2019/again.jpg")).unwrap();
    assert_eq!(machine.run("snapshot create before-the-cleanup --library @m").exit, 0);
    fs::remove_dir_all(machine.path("m/2019")).unwrap();
    let slip = machine.run("snapshot restore 2019/IMG_1.jpg --from before-the-clenup --library @m");
    insta::assert_snapshot!(slip.whole(), @r"
    exit 2
    --- out
    --- err
    haven: there is no snapshot called before-the-clenup
      meaning  nothing was changed
      next     is it before-the-cleanup?
               haven snapshot list    tells which there are
      code     usage, exit 2
    ");
    let gone = machine.run("snapshot restore 2019/IMG_2.jpg --from before-the-cleanup --library @m");
    assert!(gone.exit == 2 && gone.err.contains("2019/IMG_2.jpg is not in the snapshot"), "{}", gone.err);
    let done = machine.run("snapshot restore 2019 --from before-the-cleanup --to @outside --library @m");
    assert_eq!(done.exit, 0, "{}", done.err);
    assert_eq!(fs::read(machine.path("outside/2019/IMG_1.jpg")).unwrap(), vec![7; 300_000]);
    let ino = |name: &str| fs::metadata(machine.path(name)).unwrap().ino();
    assert_eq!(ino("outside/2019/IMG_1.jpg"), ino("outside/2019/again.jpg"));
    // A file that can't be finished leaves nothing half.
    fs::create_dir_all(machine.path("full/IMG_1.jpg/in-the-way")).unwrap();
    let line = "snapshot restore 2019/IMG_1.jpg --from before-the-cleanup --to @full --overwrite --library @m";
    assert_eq!(machine.run(line).exit, 8);
    assert_eq!(fs::read_dir(machine.path("full")).unwrap().count(), 1);
}
