//! Mounts that must not come about, and what they leave behind: nothing.

use std::{fs, path::Path};

use haven_mount::{MountError, MountOptions, mount, mounted_at};

use crate::support::{Mounted, Point, file_system, fuse_here, runtime};

fn refused(point: &Path, options: &MountOptions) -> MountError {
    let runtime = runtime();
    match mount(file_system(), point, options, runtime.handle().clone()) {
        Ok(_) => panic!("mounted at {}", point.display()),
        Err(e) => e,
    }
}

#[test]
fn a_mount_point_that_cannot_be_one_is_named_and_left_alone() {
    if !fuse_here() {
        return;
    }
    let options = MountOptions::new("memory:");
    let point = Point::new();
    let missing = point.path().join("missing");
    assert!(matches!(refused(&missing, &options), MountError::Missing { point } if point == missing));
    assert!(!missing.exists());

    let file = point.path().join("file");
    fs::write(&file, b"mine").unwrap();
    assert!(matches!(refused(&file, &options), MountError::NotADirectory { .. }));
    assert_eq!(fs::read(&file).unwrap(), b"mine");

    let e = refused(&point.path(), &options);
    assert!(matches!(&e, MountError::NotEmpty { example, .. } if example == "file"), "{e}");
    assert!(!e.advice().is_empty());
    assert_eq!(mounted_at(&point.path()).unwrap(), None);

    let options = MountOptions { allow_non_empty: true, ..options };
    let m = Mounted::at(point, &options).unwrap();
    assert!(!m.path("file").exists());
    m.session.unmount(false).unwrap();
    m.session.wait();
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[test]
fn a_second_mount_on_the_same_point_is_refused_and_the_first_goes_on() {
    if !fuse_here() {
        return;
    }
    let m = Mounted::with(&MountOptions::new("s3://first, with a comma"));
    let e = refused(&m.point.path(), &MountOptions::new("second"));
    assert!(matches!(&e, MountError::AlreadyMounted { library, .. } if library == "s3://first, with a comma"), "{e}");
    fs::write(m.path("file"), b"x").unwrap();
}
