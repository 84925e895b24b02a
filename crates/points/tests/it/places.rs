use std::fs;

use haven_point::{
    DUMP, Error, FOLDER, Found, MANIFEST, Manifest, SEAL, ahead, application, halves, list, name, open, open_older,
    open_only, stamp,
};
use tempfile::tempdir;

use crate::common::{TAKEN, lay, lay_folder, manifest};

const OLD: &str = "immich-20261122T213000Z";
const NEW: &str = "immich-20261123T213000Z";

fn states(all: &[Found]) -> Vec<(&str, bool)> {
    all.iter().map(|found| (found.name.as_str(), found.point.is_ok())).collect()
}

#[test]
fn a_name_tells_the_application_and_when() {
    let made = name("my-photos", TAKEN.parse().unwrap());
    assert_eq!((made.as_str(), application(&made)), ("my-photos-20261123T044629Z", Some("my-photos")));
    assert_eq!(stamp(&made).unwrap().to_string(), "2026-11-23T04:46:29Z");
    for none in ["immich", "-20261123T044629Z", "immich-20261123", "immich-20261123T044629Z+dump", "a-2026112xT044629Z"]
    {
        assert_eq!((application(none), stamp(none)), (None, None), "{none}");
    }
}

#[test]
fn what_a_manifest_says_is_read_back_and_names_it_does_not_know_are_passed_over() {
    let folder = tempdir().unwrap();
    let path = folder.path().join(MANIFEST);
    let whole = manifest(NEW, b"dump");
    let mut value: serde_json::Value = serde_json::from_slice(&whole.to_json()).unwrap();
    value["of_later_days"] = serde_json::json!({ "a": [1] });
    value["database"]["too"] = serde_json::json!(1);
    fs::write(&path, value.to_string()).unwrap();
    assert_eq!(Manifest::read(&path).unwrap(), whole);
    assert!(String::from_utf8(whole.to_json()).unwrap().contains("\"taken\": \"2026-11-23T04:46:29.123456Z\""));
    value["haven_point"] = serde_json::json!(2);
    fs::write(&path, value.to_string()).unwrap();
    assert!(matches!(Manifest::read(&path), Err(Error::Newer { version: 2, .. })));
    for text in ["", "{", "[]", "{\"haven_point\": 1}", "{\"name\": \"x\"}"] {
        fs::write(&path, text).unwrap();
        assert!(matches!(Manifest::read(&path), Err(Error::Manifest { .. })), "{text}");
    }
}

#[test]
fn a_manifest_leads_nobody_out_of_the_library() {
    let folder = tempdir().unwrap();
    let path = folder.path().join(MANIFEST);
    for (at, name) in [
        ("/database/dump/file", "../../passwd"),
        ("/files/snapshot", "a/b"),
        ("/files/snapshot", ".."),
        ("/files/folder", "/etc"),
    ] {
        let mut value: serde_json::Value = serde_json::from_slice(&manifest(NEW, b"").to_json()).unwrap();
        *value.pointer_mut(at).unwrap() = name.into();
        fs::write(&path, value.to_string()).unwrap();
        let refused = Manifest::read(&path).unwrap_err().to_string();
        assert!(refused.contains("leads out"), "{at}: {refused}");
    }
}

#[test]
fn points_are_listed_oldest_first_and_the_newest_complete_one_is_chosen() {
    let library = tempdir().unwrap();
    let root = library.path();
    assert!(list(root).unwrap().is_empty());
    assert!(matches!(open(root, None, None), Err(Error::None { .. })));
    lay(root, NEW, b"two");
    lay(root, OLD, b"one");
    assert_eq!(open_only(root).unwrap().name(), NEW);
    lay(root, "a-20261123T000000Z", b"other");
    let refused = open_only(root).unwrap_err().to_string();
    assert_eq!(refused, "which of them? There are recovery points of a and immich");
    let all = list(root).unwrap();
    assert_eq!(states(&all), [(OLD, true), ("a-20261123T000000Z", true), (NEW, true)]);
    let newest = open(root, None, Some("immich")).unwrap();
    assert_eq!((newest.name(), newest.sealed), (NEW, false));
    assert_eq!(newest.media().unwrap(), root.join(".snapshots").join(NEW).join("immich"));
    newest.verify_parts().unwrap();
    assert_eq!(open(root, Some(OLD), None).unwrap().name(), OLD);
    assert!(matches!(open(root, Some("immich-20000101T000000Z"), None), Err(Error::Missing { .. })));
}

#[test]
fn a_point_of_a_time_to_come_stands_in_the_way_of_no_other() {
    let library = tempdir().unwrap();
    let root = library.path();
    let now: jiff::Timestamp = std::time::SystemTime::now().try_into().unwrap();
    let hours = |hours: i64| jiff::SignedDuration::from_hours(hours);
    let lay_at = |taken: jiff::Timestamp| {
        let name = name("immich", taken);
        lay(root, &name, b"dump");
        let path = root.join(FOLDER).join(&name).join(MANIFEST);
        fs::write(path, Manifest { taken, ..manifest(&name, b"dump") }.to_json()).unwrap();
        name
    };
    let later = lay_at(now + hours(24 * 365));
    assert_eq!(open(root, None, None).unwrap().name(), later, "there is no other");
    let good = lay_at(now - hours(1));
    assert_eq!(open(root, None, Some("immich")).unwrap().name(), good);
    assert_eq!(ahead(root, Some("immich")).unwrap(), [later.as_str()]);
    assert_eq!(open(root, Some(&later), None).unwrap().name(), later, "who names it gets it");
    let fresh = lay_at(now + jiff::SignedDuration::from_mins(2));
    assert_eq!(open(root, None, None).unwrap().name(), fresh, "clocks differ a little");
    // In what was brought back from a copy the files are those of the newest that can be meant.
    fs::remove_dir_all(root.join(".snapshots")).unwrap();
    assert!(open(root, None, None).unwrap().files.is_some());
}

type Breaking<'a> = &'a dyn Fn(&std::path::Path);

#[test]
fn what_is_not_complete_is_told_and_never_chosen() {
    let library = tempdir().unwrap();
    let root = library.path();
    let broken: [(&str, Breaking<'_>); 5] = [
        ("its snapshot", &|root| fs::remove_dir_all(root.join(".snapshots").join(NEW)).unwrap()),
        ("2 bytes", &|root| fs::write(root.join(FOLDER).join(NEW).join(DUMP), "du").unwrap()),
        ("can't be read", &|root| fs::remove_file(root.join(FOLDER).join(NEW).join(DUMP)).unwrap()),
        ("can't be read", &|root| fs::remove_file(root.join(FOLDER).join(NEW).join(MANIFEST)).unwrap()),
        ("is that of", &|root| {
            fs::copy(root.join(FOLDER).join(OLD).join(MANIFEST), root.join(FOLDER).join(NEW).join(MANIFEST)).unwrap();
        }),
    ];
    for (why, breaking) in broken {
        lay(root, OLD, b"one");
        lay(root, NEW, b"dump");
        breaking(root);
        let all = list(root).unwrap();
        assert_eq!(states(&all), [(OLD, true), (NEW, false)], "{why}");
        let told = all[1].point.as_ref().unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
        assert_eq!(open(root, None, None).unwrap().name(), OLD);
        fs::remove_dir_all(root.join(".haven")).unwrap();
    }
}

#[test]
fn what_cannot_be_looked_at_is_neither_there_nor_gone() {
    let library = tempdir().unwrap();
    let root = library.path();
    let manifest = |name: &str| root.join(FOLDER).join(name).join(MANIFEST);
    // Reading a folder as a file fails, as a store that is away does: with another error than "not found".
    let hinder = |name: &str| {
        fs::remove_file(manifest(name)).unwrap();
        fs::create_dir(manifest(name)).unwrap();
    };
    lay(root, OLD, b"one");
    lay(root, NEW, b"two");
    hinder(NEW);
    let all = list(root).unwrap();
    assert_eq!(states(&all), [(OLD, true), (NEW, false)]);
    assert!(all[1].point.as_ref().is_err_and(|error| error.is_blind() && error.is_unread()));
    let refused = open(root, None, Some("immich")).unwrap_err();
    assert!(refused.is_unread(), "the older one is not taken for the newest: {refused}");
    assert_eq!(open(root, Some(OLD), None).unwrap().name(), OLD, "who names it gets it");
    assert_eq!(open_older(root, NEW, 0).unwrap().name(), OLD);
    hinder(OLD);
    assert!(open_older(root, NEW, 0).unwrap_err().is_unread(), "not \"there is none\"");
    // Damaged: looked at in vain, and no better at another time.
    fs::remove_dir(manifest(NEW)).unwrap();
    fs::write(manifest(NEW), "{").unwrap();
    let all = list(root).unwrap();
    assert!(all[1].point.as_ref().is_err_and(|error| error.is_blind() && !error.is_unread()));
    fs::remove_file(manifest(NEW)).unwrap();
    assert!(list(root).unwrap()[1].point.as_ref().is_err_and(|error| !error.is_blind()), "it is not complete");
    // The folder of all.
    fs::remove_dir_all(root.join(FOLDER)).unwrap();
    fs::write(root.join(FOLDER), "").unwrap();
    assert!(list(root).is_err());
}

#[test]
fn what_is_half_written_is_no_point() {
    let library = tempdir().unwrap();
    let root = library.path();
    lay_folder(root, &format!(".{NEW}.part"), b"du");
    fs::write(root.join(FOLDER).join("a stray file"), "").unwrap();
    assert!(list(root).unwrap().is_empty());
    let left = halves(root).unwrap();
    assert_eq!(left.iter().map(|half| half.name.as_str()).collect::<Vec<_>>(), [NEW]);
}

#[test]
fn a_sealed_point_outlives_what_happens_to_its_folder() {
    let library = tempdir().unwrap();
    let root = library.path();
    lay(root, NEW, b"dump");
    lay_folder(&root.join(".snapshots").join(format!("{NEW}{SEAL}")), NEW, b"dump");
    fs::remove_dir_all(root.join(FOLDER)).unwrap();
    let point = open(root, None, None).unwrap();
    assert!(point.sealed && point.dump().unwrap().starts_with(root.join(".snapshots")));
}

#[test]
fn a_folder_that_was_brought_back_shows_its_newest_point() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    lay_folder(root, OLD, b"one");
    lay_folder(root, NEW, b"two");
    let point = open(root, None, None).unwrap();
    assert_eq!((point.name(), point.files.as_deref()), (NEW, Some(root)));
    assert_eq!(open(root, Some(OLD), None).unwrap().files, None, "its files are not those there");
}

#[test]
fn a_dump_that_changed_is_found_out() {
    let library = tempdir().unwrap();
    lay(library.path(), NEW, b"dump");
    fs::write(library.path().join(FOLDER).join(NEW).join(DUMP), "DUMP").unwrap();
    let point = open(library.path(), None, None).unwrap();
    assert!(matches!(point.verify_parts(), Err(Error::Damaged { .. })));
}
