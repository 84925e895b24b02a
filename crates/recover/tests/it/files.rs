//! Folders are copied, go on where they were interrupted, and are never half there; reports can't be forged unseen.

use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::atomic::AtomicBool};

use haven_format::{Keys, LibraryId, crypto::MasterKey};
use haven_point::manifest::Immich;
use haven_recover::{
    lay::{Inventory, lay},
    proof::{self, BrokenAsset, Read, Report},
    sentinels,
};
use jiff::Timestamp;

fn all(from: &Path, to: &Path) -> haven_recover::lay::Laid {
    let inventory = Inventory::of(from, &|_| true).unwrap();
    lay(from, &inventory, to, &AtomicBool::new(false), &|_| true, &|_| ()).unwrap()
}

#[test]
fn a_folder_comes_over_whole_and_the_second_time_nothing_is_copied() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir_all(from.path().join("upload/ab")).unwrap();
    fs::write(from.path().join("upload/ab/1.jpg"), "one").unwrap();
    fs::hard_link(from.path().join("upload/ab/1.jpg"), from.path().join("upload/again.jpg")).unwrap();
    std::os::unix::fs::symlink("ab/1.jpg", from.path().join("upload/link")).unwrap();
    let laid = all(from.path(), to.path());
    assert_eq!((laid.files, laid.bytes, laid.kept, laid.failed.len()), (3, 3, 0, 0));
    assert!(laid.first.is_some());
    let about = |path: &str| fs::metadata(to.path().join(path)).unwrap();
    assert_eq!(about("upload/ab/1.jpg").ino(), about("upload/again.jpg").ino());
    assert_eq!(
        about("upload/ab").mtime_nsec(),
        fs::metadata(from.path().join("upload/ab")).unwrap().mtime_nsec(),
        "times of folders come last"
    );
    assert_eq!(fs::read_link(to.path().join("upload/link")).unwrap(), Path::new("ab/1.jpg"));
    // One that is not as it should be is copied again, the others are not.
    fs::write(to.path().join("upload/ab/1.jpg"), "on").unwrap();
    let laid = all(from.path(), to.path());
    assert_eq!((laid.files, laid.kept), (3, 1));
    assert_eq!(fs::read(to.path().join("upload/again.jpg")).unwrap(), b"one");
    let names: Vec<_> =
        fs::read_dir(to.path().join("upload")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".haven")), "{names:?}");
}

#[test]
fn sentinels_are_put_back_where_they_are_missing_and_nowhere_else() {
    let media = tempfile::tempdir().unwrap();
    fs::create_dir(media.path().join("upload")).unwrap();
    fs::write(media.path().join("upload/.immich"), "1700000000000").unwrap();
    let immich = Immich {
        sentinels: [("library".to_owned(), Some("1795409189123".to_owned())), ("thumbs".to_owned(), None)].into(),
        ..Immich::default()
    };
    let made = sentinels::put_back(media.path(), &immich).unwrap();
    assert_eq!(made, ["encoded-video", "library", "profile", "thumbs", "backups"]);
    let held = |folder: &str| fs::read_to_string(media.path().join(folder).join(".immich")).unwrap();
    assert_eq!((held("upload").as_str(), held("library").as_str()), ("1700000000000", "1795409189123"));
    assert_eq!(held("thumbs").len(), 13);
    assert!(sentinels::put_back(media.path(), &immich).unwrap().is_empty());
}

fn report(copy: &str, proven: &[u8]) -> Report {
    let now: Timestamp = "2026-11-26T21:30:00Z".parse().unwrap();
    Report {
        haven_drill: proof::VERSION,
        level: 1,
        library: String::new(),
        copy: copy.into(),
        kind: "replica".into(),
        of: None,
        point: Some("immich-20261126T210000Z".into()),
        taken: Some(now),
        age_seconds: Some(5),
        started: now,
        finished: now,
        host: "mini".into(),
        haven: "0.1.0".into(),
        ok: false,
        steps: Vec::new(),
        assets: 3,
        proven: 2,
        bytes: 1234,
        seconds_to_first_photo: Some(0.1),
        seconds_to_complete: 1.0 / 3.0,
        broken: vec![BrokenAsset {
            id: "a".into(),
            what: "original".into(),
            path: "/data/a".into(),
            why: "gone".into(),
        }],
        regenerable: 0,
        without_row: 0,
        proven_sha256: proof::sha256(proven),
    }
}

#[test]
fn a_report_is_believed_only_as_it_was_signed() {
    let keys = |byte| Keys::new(LibraryId([1; 16]), &MasterKey([byte; 32]));
    let root = tempfile::tempdir().unwrap();
    let proven = proof::list(vec![[2; 20], [1; 20], [2; 20]]);
    assert_eq!(proven.len(), 40);
    let made = report("far", &proven);
    let path = proof::record(root.path(), &keys(7), &made, &proven).unwrap();
    let read = proof::read_all(root.path(), &keys(7)).unwrap();
    let [Read::Good { name, report: back }] = &read[..] else { panic!("{read:?}") };
    assert_eq!((name.as_str(), &**back), ("20261126T213000Z-L1-far", &made));
    let proves = |sha1: &[u8; 20]| proof::proves(root.path(), name, back, sha1);
    assert_eq!((proves(&[1; 20]), proves(&[3; 20])), (Some(true), Some(false)));

    // A list that was added to proves nothing.
    fs::write(path.with_extension("proven"), [proven.clone(), vec![3; 20]].concat()).unwrap();
    assert_eq!(proof::proves(root.path(), name, back, &[3; 20]), None);
    let bad = |keys: &Keys| matches!(proof::read_all(root.path(), keys).unwrap()[..], [Read::Bad { .. }]);
    assert!(bad(&keys(8)), "another library's key");
    let text = fs::read_to_string(&path).unwrap().replace("\"ok\": false", "\"ok\": true");
    fs::write(&path, text).unwrap();
    assert!(bad(&keys(7)), "a report that was made better");
    fs::remove_file(path.with_extension("mac")).unwrap();
    assert!(bad(&keys(7)), "no signature at all");
    // What can't be read is neither good nor bad.
    fs::create_dir(path.with_extension("mac")).unwrap();
    let read = proof::read_all(root.path(), &keys(7)).unwrap();
    assert!(matches!(&read[..], [Read::Unread { name, .. }] if name == "20261126T213000Z-L1-far"), "{read:?}");
    assert_eq!(proof::names(root.path()).unwrap(), ["20261126T213000Z-L1-far"]);
    let told = proof::named("20261126T213000Z-L1-far").unwrap();
    assert_eq!((told.0.to_string().as_str(), told.1), ("2026-11-26T21:30:00Z", 1));
    assert_eq!(proof::named("a stray file"), None);
    fs::remove_dir_all(root.path().join(proof::FOLDER)).unwrap();
    fs::write(root.path().join(proof::FOLDER), "").unwrap();
    assert!(proof::read_all(root.path(), &keys(7)).is_err(), "what can't be listed is not empty");
}
