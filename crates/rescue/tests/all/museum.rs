//! The museum's whole library has snapshots, leases and a list of the dead: what becomes of them here. What is found in
//! its broken ones stands beside what the vault finds, in the tests of `haven`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use haven_format::keys::Secret;
use haven_rescue::{Audit, Library, Status, audit, restore, snapshots, verify};
use haven_testkit::museum::{PASSPHRASE, lay_out};
use tempfile::TempDir;

/// Three minutes after the last transaction, in seconds since 1970.
const END: i64 = 1_790_000_200;
const DAY: i64 = 86_400;
const FAR: i64 = 4_102_444_800;

struct Exhibit {
    directory: TempDir,
}

impl Exhibit {
    fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        lay_out(name, &directory.path().join("store")).unwrap();
        fs::write(directory.path().join("passphrase"), PASSPHRASE).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn open(&self) -> Library {
        let store = haven_store::open(self.path("store").to_str().unwrap(), &Default::default()).unwrap();
        Library::open(store, &Secret::passphrase(PASSPHRASE).unwrap()).await.unwrap()
    }

    /// Restores a snapshot; names below the target and their lengths, and what was told.
    fn snapshot(&self, name: &str) -> (BTreeMap<String, u64>, Vec<String>) {
        wait(async {
            let mut library = self.open().await;
            let newest = library.newest().await.unwrap();
            let all = snapshots(&newest.records);
            let (_, snapshot) = all.iter().find(|(found, _)| found == name).unwrap();
            let state = library.past(snapshot).await.unwrap();
            assert_eq!(state.tx, snapshot.seq);
            let target = self.path(name);
            fs::create_dir(&target).unwrap();
            let restored = restore(&mut library, &state.records, &newest.records, &target).await.unwrap();
            assert!(restored.damaged.is_empty(), "{:?}", restored.damaged);
            let mut found = BTreeMap::new();
            walk(&target, &target, &mut found);
            (found, library.passed_over)
        })
    }

    fn audit(&self, grace: i64, now: i64) -> Audit {
        wait(async { audit(&mut self.open().await, grace, now).await.unwrap() })
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haven-rescue"));
        command.current_dir(self.directory.path()).args(arguments.split_whitespace());
        command.args(["--passphrase-file", "passphrase"]).output().unwrap()
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn walk(top: &Path, here: &Path, found: &mut BTreeMap<String, u64>) {
    for entry in fs::read_dir(here).unwrap().map(Result::unwrap) {
        let about = entry.metadata().unwrap();
        if about.is_dir() {
            walk(top, &entry.path(), found);
        } else if about.is_file() {
            found.insert(entry.path().strip_prefix(top).unwrap().to_str().unwrap().into(), about.len());
        }
    }
}

fn with(audit: &Audit, status: Status) -> BTreeSet<&str> {
    audit.objects.iter().filter(|object| object.status == status).map(|object| &object.name[..]).collect()
}

fn pack(digit: char) -> String {
    let id = format!("a{digit}").repeat(16);
    format!("p/a{digit}/{id}")
}

#[test]
fn a_snapshot_is_its_own_root_with_the_newest_chunk_index() {
    let whole = Exhibit::new("whole");
    let (found, told) = whole.snapshot("spring");
    let wanted = [
        ("2026/IMG_0001.JPG", 6000),
        ("2026/IMG_0001.JPG.xmp", 1920),
        ("2027/IMG_0002.JPG", 2500),
        ("2027/again.jpg", 6000),
    ];
    assert_eq!((found, told), (wanted.map(|(name, bytes)| (name.to_owned(), bytes)).into(), vec![]));
    let mut second = [0; 2500];
    blake3::Hasher::new().update(b"second").finalize_xof().fill(&mut second);
    // Its pack is gone: only the newest chunk index knows where it was moved to.
    assert!(fs::read(whole.path("spring/2027/IMG_0002.JPG")).unwrap() == second);
    assert!(!whole.path("store").join(pack('2')).exists());
}

#[test]
fn a_snapshot_without_a_root_is_read_from_the_log_up_to_it() {
    let (found, told) = Exhibit::new("whole").snapshot("summer");
    let wanted = ["2026/IMG_0001.JPG", "2026/IMG_0001.JPG.xmp", "2027/IMG_0004.JPG", "2027/again.jpg"];
    assert_eq!((found.into_keys().collect::<Vec<_>>(), told), (wanted.map(str::to_owned).into(), vec![]));
}

#[test]
fn a_snapshot_whose_root_is_lost_is_read_from_the_log() {
    let (found, told) = Exhibit::new("root-of-a-snapshot-missing").snapshot("spring");
    assert_eq!((found.len(), found["2027/IMG_0002.JPG"]), (4, 2500));
    assert!(told.iter().all(|told| told.contains("whole up to change 1")), "{told:?}");
}

#[test]
fn while_roots_are_young_all_of_the_log_is_needed_and_roots_that_nobody_names_are_not() {
    let whole = Exhibit::new("whole");
    let audit = whole.audit(7 * DAY, END);
    assert!(audit.missing.is_empty() && audit.passed_over.is_empty(), "{:?} {:?}", audit.missing, audit.passed_over);
    let gone = pack('3');
    assert_eq!(with(&audit, Status::Waiting), [gone.as_str()].into());
    assert_eq!(with(&audit, Status::Superseded).len(), 2, "the first claim, and a lease that has run out");
    for status in [Status::Due, Status::Deleted, Status::Unlisted, Status::Foreign] {
        assert_eq!(with(&audit, status), BTreeSet::new(), "{status:?}");
    }
    let due = audit.objects.iter().find(|object| object.name == gone).unwrap().due;
    assert_eq!(due, Some(1_790_000_008 + 7 * DAY));
    // Five chunks: three of the first pack, one moved, one new; sealed, none of these smaller than plain.
    let sealed = audit.live_bytes;
    assert!((3000 + 2000 + 2 * 2500..15_000).contains(&sealed), "{sealed}");
}

#[test]
fn later_the_log_is_needed_from_an_old_root_on_and_a_lease_holds_as_long_as_it_says() {
    let whole = Exhibit::new("whole");
    let audit = whole.audit(7 * DAY, END + 30 * DAY);
    let roots = |audit: &Audit, status| {
        with(audit, status).into_iter().filter(|name| name.starts_with("r/")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(roots(&audit, Status::Needed).len(), 3, "newest, snapshot's, lease's");
    let due = [1, 2].map(|lsn| format!("l/{lsn:016x}-0000000000000001-c1c1c1c1c1c1c1c1"));
    assert_eq!(with(&audit, Status::Due), [&due[0], &due[1], &pack('3')].map(String::as_str).into());
    let log: Vec<_> = with(&audit, Status::Unlisted).into_iter().collect();
    assert!(log.len() == 3 && log.iter().all(|name| name.starts_with("l/")), "up to the newest root's: {log:?}");
    let by = |audit: &Audit, name: &str| audit.objects.iter().find(|object| object.name == name).unwrap().by.clone();
    assert_eq!(by(&audit, &pack('4')), ["snapshot spring".to_owned()].into());
    assert!(by(&audit, &pack('1')).contains("lease w/00000000f4865700-c1c1c1c1c1c1c1c1"));

    let audit = whole.audit(7 * DAY, FAR + 1);
    assert_eq!(roots(&audit, Status::Unlisted).len(), 1, "the lease has run out");
    assert!(!by(&audit, &pack('1')).iter().any(|by| by.contains("lease")));
}

#[test]
fn what_is_needed_and_not_there_is_named_with_who_needs_it() {
    let audit = Exhibit::new("pack-missing-that-only-a-snapshot-needs").audit(7 * DAY, END + 30 * DAY);
    let [missing] = &audit.missing[..] else { panic!("{:?}", audit.missing) };
    assert_eq!((&missing.name, missing.by.iter().next().unwrap().as_str()), (&pack('4'), "snapshot spring"));
    let audit = Exhibit::new("foreign-objects").audit(7 * DAY, END);
    assert_eq!(with(&audit, Status::Foreign).len(), 10);
}

#[test]
fn verifying_names_the_files_of_every_state_that_need_a_damaged_chunk() {
    let verified = |name: &str| {
        let exhibit = Exhibit::new(name);
        wait(async {
            let mut library = exhibit.open().await;
            let newest = library.newest().await.unwrap();
            verify(&mut library, &newest, &snapshots(&newest.records)).await
        })
    };
    let whole = verified("whole").unwrap();
    assert_eq!((whole.chunks, whole.bytes), (5, 3000 + 2000 + 1920 + 2 * 2500));
    assert!(whole.damaged.is_empty() && whole.damaged_chunks.is_empty());
    // A flipped byte costs one chunk, and all names of the one file that has it.
    let damaged = verified("pack-with-a-flipped-byte-in-a-chunk").unwrap();
    let names: BTreeSet<_> = damaged.damaged.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    let wanted = ["", ".snapshots/spring/", ".snapshots/summer/"]
        .iter()
        .flat_map(|state| ["2026/IMG_0001.JPG", "2027/again.jpg"].map(|name| format!("{state}{name}")))
        .collect::<Vec<_>>();
    assert_eq!(names, wanted.iter().map(String::as_str).collect());
    assert_eq!((damaged.chunks, damaged.damaged_chunks.len()), (4, 1));
}

#[test]
fn what_has_lost_its_folder_is_put_apart_and_told() {
    let exhibit = Exhibit::new("all-roots-missing-and-the-log-before-them");
    let output = exhibit.run("./store out");
    assert_eq!(output.status.code(), Some(6));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the folder that named it is lost"), "{said}");
    let photo = fs::metadata(exhibit.path("out/haven-lost-and-found/17/IMG_0004.JPG")).unwrap();
    assert_eq!(photo.len(), 2500);
}

#[test]
fn the_program_says_with_its_exit_code_what_it_found() {
    let whole = Exhibit::new("whole");
    let code = |output: Output| {
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (exit, said) = code(whole.run("./store --list-snapshots"));
    assert_eq!(
        (exit, said.lines().filter(|line| line.contains("spring  (before the move)")).count()),
        (0, 1),
        "{said}"
    );
    let (exit, said) = code(whole.run("./store spring --snapshot spring"));
    assert!(exit == 0 && said.contains("3 files with 10420 bytes, 2 folders, 2 links"), "{exit} {said}");
    let (exit, said) = code(whole.run("./store spring"));
    assert!(exit == 1 && said.contains("is not empty"), "{exit} {said}");
    let (exit, said) = code(whole.run("./store other --snapshot autumn"));
    assert!(exit == 1 && said.contains("no snapshot called autumn"), "{exit} {said}");
    assert_eq!(code(whole.run("./store --verify")).0, 0);
    let (exit, said) = code(whole.run("audit ./store --grace 1d --json"));
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((exit, &answer["missing"]), (0, &serde_json::json!([])));
    let broken = Exhibit::new("pack-missing");
    assert_eq!(code(broken.run("./store --verify")).0, 6);
    let (exit, said) = code(broken.run("audit ./store"));
    assert!(exit == 6 && said.contains("MISSING"), "{exit} {said}");
}
