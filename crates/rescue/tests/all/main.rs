//! The golden library, read back; and with something missing.

mod museum;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use haven_format::keys::Secret;
use haven_rescue::{Library, RescueError, Restored, restore};
use tempfile::TempDir;

const PACK: &str = "p/a1/a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
const ROOT: &str = "r/fffffffffffffffe-0000000000000001-c1c1c1c1c1c1c1c1";
const NEWEST_SEGMENT: &str = "l/0000000000000003-0000000000000002-c2c2c2c2c2c2c2c2";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &target) } else { _ = fs::copy(entry.path(), target).unwrap() }
    }
}

/// A copy of the golden library to do harm to, and where to restore it.
struct Trial {
    directory: TempDir,
}

impl Trial {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/golden/v1");
        copy(&golden, &directory.path().join("store"));
        Self { directory }
    }

    fn object(&self, name: &str) -> PathBuf {
        self.directory.path().join("store").join(name)
    }

    fn flip(&self, name: &str, at: usize) {
        let mut content = fs::read(self.object(name)).unwrap();
        content[at] ^= 1;
        fs::write(self.object(name), content).unwrap();
    }

    fn out(&self, name: &str) -> PathBuf {
        self.directory.path().join("out").join(name)
    }

    fn run(&self, passphrase: &str) -> Result<(Restored, Vec<String>), RescueError> {
        fs::create_dir_all(self.out("")).unwrap();
        self.run_into(passphrase, &self.out(""))
    }

    fn run_into(&self, passphrase: &str, target: &Path) -> Result<(Restored, Vec<String>), RescueError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url = self.directory.path().join("store");
            let store = haven_store::open(url.to_str().unwrap(), &Default::default()).unwrap();
            let mut library = Library::open(store, &Secret::passphrase(passphrase).unwrap()).await?;
            let records = library.newest().await?.records;
            let restored = restore(&mut library, &records, &records, target).await.unwrap();
            Ok((restored, library.passed_over))
        })
    }

    /// A directory whose path has this many bytes.
    fn deep(&self, length: usize) -> PathBuf {
        let mut path = self.directory.path().join("deep");
        while path.as_os_str().len() + 202 < length {
            path.push("d".repeat(200));
        }
        path.push("e".repeat(length - path.as_os_str().len() - 1));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn tag(&self) -> String {
        let mut value = [0; 100];
        let length = rustix::fs::getxattr(self.out("2026/IMG_0001.JPG.xmp"), "user.tag", &mut value[..]).unwrap();
        String::from_utf8(value[..length].to_vec()).unwrap()
    }
}

#[test]
fn everything_comes_back_as_it_was() {
    let trial = Trial::new();
    let (restored, passed_over) = trial.run("golden passphrase").unwrap();
    assert_eq!((restored.files, restored.folders, restored.links, passed_over.len()), (2, 1, 1, 0));
    // Owners can only be set by root, and whoever runs this may not be; all else is whole.
    assert!(restored.damaged.is_empty(), "{:?}", restored.damaged);
    let photo = fs::read(trial.out("2026/IMG_0001.JPG")).unwrap();
    assert_eq!(photo.len(), 6000);
    let hash = blake3::hash(&photo).to_string();
    assert_eq!(hash, "ae48f63cec427f5b39e335e523ed28529a1444f14a32d50a713ddd38e491c6bb");
    assert_eq!(fs::read_link(trial.out("2026/Titelbild \u{fc}")).unwrap(), Path::new("IMG_0001.JPG"));
    let about = fs::metadata(trial.out("2026/IMG_0001.JPG.xmp")).unwrap();
    assert_eq!((about.mode() & 0o7777, about.mtime(), about.mtime_nsec()), (0o600, 1_790_000_002, 5));
    assert_eq!(trial.tag(), "sea", "the side of the fork that was acknowledged");
}

#[test]
fn without_its_root_a_library_is_read_from_the_log() {
    let trial = Trial::new();
    trial.flip(ROOT, 40);
    let (restored, passed_over) = trial.run("golden passphrase").unwrap();
    assert_eq!((restored.files, passed_over.len()), (2, 1));
    assert!(passed_over[0].contains("the seal is broken"), "{passed_over:?}");
    assert_eq!(trial.tag(), "sea");
}

#[test]
fn a_damaged_end_of_the_log_costs_no_more_than_itself() {
    let trial = Trial::new();
    trial.flip(NEWEST_SEGMENT, 40);
    fs::remove_file(trial.object("l/0000000000000003-0000000000000001-c1c1c1c1c1c1c1c1")).unwrap();
    let (_, passed_over) = trial.run("golden passphrase").unwrap();
    assert_eq!((trial.tag().as_str(), passed_over.len()), ("mountains", 1));
}

#[test]
fn a_damaged_chunk_costs_one_file_and_is_told() {
    let trial = Trial::new();
    trial.flip(PACK, 100);
    let (restored, _) = trial.run("golden passphrase").unwrap();
    let [(path, why)] = &restored.damaged[..] else { panic!("{:?}", restored.damaged) };
    assert!(path.ends_with("2026/IMG_0001.JPG") && why.contains("at 0: chunk"), "{why}");
    assert_eq!(fs::read(trial.out("2026/IMG_0001.JPG.xmp")).unwrap().len(), 1920);
}

#[test]
fn a_name_that_cannot_be_made_costs_no_more_than_itself_and_is_told() {
    const PATH_MAX: usize = 4095;
    let trial = Trial::new();
    let tight = trial.deep(PATH_MAX - "/2026/IMG_0001.JPG".len());
    let (restored, _) = trial.run_into("golden passphrase", &tight).unwrap();
    let [(path, why)] = &restored.damaged[..] else { panic!("{:?}", restored.damaged) };
    assert!(path.ends_with("2026/IMG_0001.JPG.xmp") && why.starts_with("the file can't be made: "), "{why}");
    assert_eq!((restored.files, restored.folders, restored.links), (1, 1, 1));
    assert_eq!(fs::read(tight.join("2026/IMG_0001.JPG")).unwrap().len(), 6000);

    let full = trial.deep(PATH_MAX - "/202".len());
    let (restored, _) = trial.run_into("golden passphrase", &full).unwrap();
    assert_eq!((restored.files, restored.folders, restored.links, restored.damaged.len()), (0, 0, 0, 4));
}

#[test]
fn a_wrong_passphrase_and_an_empty_place_are_told_apart() {
    let trial = Trial::new();
    assert!(matches!(trial.run("silver passphrase"), Err(RescueError::Locked(_))));
    fs::remove_dir_all(trial.object("cfg")).unwrap();
    assert!(matches!(trial.run("golden passphrase"), Err(RescueError::NoLibrary)));
}
