use std::{fs, os::unix::fs::symlink, path::PathBuf};

use haven_point::{DUMP, MANIFEST, copies_beside, copy_beside, remove_beside};
use tempfile::{TempDir, tempdir};

const NAME: &str = "immich-20261123T044629Z";
const OTHER: &str = "immich-20261124T044629Z";

/// A directory beside, with the copies of two points.
fn two() -> (TempDir, PathBuf, PathBuf) {
    let place = tempdir().unwrap();
    let (point, beside) = (place.path().join("point"), place.path().join("dumps"));
    fs::create_dir(&point).unwrap();
    fs::write(point.join(DUMP), "a dump").unwrap();
    fs::write(point.join(MANIFEST), "{}").unwrap();
    for name in [NAME, OTHER] {
        assert_eq!(copy_beside(&point, &beside, name).unwrap(), beside.join(name));
    }
    (place, point, beside)
}

#[test]
fn a_copy_beside_goes_with_what_a_killed_run_left_of_it_and_nothing_else_does() {
    let (_place, _, beside) = two();
    let half = beside.join(format!(".{NAME}.part"));
    fs::create_dir(&half).unwrap();
    fs::write(half.join(DUMP), "half a du").unwrap();
    fs::write(beside.join("notes.txt"), "mine").unwrap();
    assert_eq!(remove_beside(&beside, NAME).unwrap(), [beside.join(NAME), half]);
    let left: Vec<_> = fs::read_dir(&beside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.len() == 2 && left.contains(&OTHER.into()) && left.contains(&"notes.txt".into()), "{left:?}");
    assert!(remove_beside(&beside, NAME).unwrap().is_empty(), "once");
    assert!(copies_beside(&beside.join("nowhere"), NAME).unwrap().is_empty());
}

#[test]
fn what_haven_did_not_write_stays() {
    let (place, _, beside) = two();
    let folder = beside.join(NAME);
    fs::write(folder.join("why.txt"), "before the great cleaning-up").unwrap();
    assert_eq!(remove_beside(&beside, NAME).unwrap(), std::slice::from_ref(&folder));
    assert!(!folder.join(DUMP).exists() && !folder.join(MANIFEST).exists());
    assert!(folder.join("why.txt").exists());
    // A link by a point's name leads to somebody else's files.
    let own = place.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::write(own.join(DUMP), "of somebody else").unwrap();
    let linked = "immich-20261125T044629Z";
    symlink(&own, beside.join(linked)).unwrap();
    assert!(remove_beside(&beside, linked).unwrap().is_empty() && own.join(DUMP).exists());
    for no_point in ["own", "..", "../own", "", "../immich-20261124T044629Z"] {
        assert!(remove_beside(&beside, no_point).unwrap().is_empty(), "{no_point}");
    }
    assert!(own.join(DUMP).exists() && beside.join(OTHER).join(DUMP).exists());
}

#[test]
fn a_copy_that_fails_leaves_no_half_of_a_dump() {
    let (_place, point, beside) = two();
    // A folder in a point can't be copied as a file.
    fs::create_dir(point.join("z")).unwrap();
    let name = "immich-20261126T044629Z";
    assert!(copy_beside(&point, &beside, name).is_err());
    assert!(copies_beside(&beside, name).unwrap().is_empty());
}
