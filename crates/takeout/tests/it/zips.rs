//! Zip parts made by another program, and damaged here. Python writes them: what reads is not checked by what wrote.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
    process::Command,
};

use haven_takeout::zip::{Method, Part, PartError, Refused};

const WRITE: &str = r#"
import sys, zipfile, random
data = random.Random(1).randbytes(300_000)
with zipfile.ZipFile(sys.argv[1], "w") as part:
    part.writestr("Takeout/Google Photos/Photos from 2019/ä 写真.jpg", data)
    part.writestr("Takeout/Google Photos/Photos from 2019/text.json", b"{}" * 50_000, zipfile.ZIP_DEFLATED)
    with part.open(zipfile.ZipInfo("Takeout/big.mp4"), "w", force_zip64=True) as out:
        out.write(data)
    part.writestr("../escape.jpg", b"x")
    part.writestr("Takeout/empty", b"")
    part.writestr("Takeout/odd.jpg", b"abc" * 99, zipfile.ZIP_BZIP2)
    part.mkdir("Takeout/directory")
    part.comment = b"PK\x05\x06 of no meaning"
with zipfile.ZipFile(sys.argv[2], "w") as part:
    for n in range(70_000):
        part.writestr(f"Takeout/{n}.json", b"{}")
"#;

fn parts() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (one, many) = (directory.path().join("1.zip"), directory.path().join("2.zip"));
    let status = Command::new("python3").arg("-c").arg(WRITE).arg(one).arg(many).status().unwrap();
    assert!(status.success());
    directory
}

fn open(path: &Path) -> Result<Part, PartError> {
    Part::open(File::open(path).unwrap())
}

fn read(part: &Part, end: &str) -> std::io::Result<Vec<u8>> {
    let entry = part.entries.iter().find(|entry| entry.path.ends_with(end)).unwrap();
    let mut bytes = vec![];
    part.read(entry)?.read_to_end(&mut bytes).map(|_| bytes)
}

#[test]
fn entries_are_read_where_they_lie() {
    let directory = parts();
    let part = open(&directory.path().join("1.zip")).unwrap();
    assert_eq!(part.entries.len(), 6);
    assert_eq!(part.entries[0].path, "Takeout/Google Photos/Photos from 2019/ä 写真.jpg");
    assert_eq!(part.entries[1].method, Ok(Method::Deflated));
    assert_eq!(read(&part, "text.json").unwrap(), "{}".repeat(50_000).as_bytes());
    let photo = read(&part, "写真.jpg").unwrap();
    assert_eq!(photo.len(), 300_000);
    assert_eq!(read(&part, "big.mp4").unwrap(), photo);
    assert_eq!(read(&part, "empty").unwrap(), b"");
    assert_eq!(part.entries[3].method, Err(Refused::Escapes));
    assert_eq!(part.entries[5].method, Err(Refused::Method(12)));
    assert_eq!(read(&part, "odd.jpg").unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn more_entries_than_the_old_format_can_count() {
    let directory = parts();
    let part = open(&directory.path().join("2.zip")).unwrap();
    assert_eq!(part.entries.len(), 70_000);
    assert_eq!(read(&part, "/69999.json").unwrap(), b"{}");
}

#[test]
fn damage_is_told() {
    let directory = parts();
    let path = directory.path().join("1.zip");
    let whole = std::fs::read(&path).unwrap();
    let part = open(&path).unwrap();

    let mut flipped = whole.clone();
    flipped[part.entries[0].offset as usize + 1000] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let part = open(&path).unwrap();
    assert_eq!(read(&part, "写真.jpg").unwrap_err().kind(), ErrorKind::InvalidData);
    assert!(read(&part, "big.mp4").is_ok(), "the others stay readable");

    // The flag in the central directory of the first entry.
    let mut locked = whole.clone();
    let central = whole.windows(4).position(|four| four == [0x50, 0x4b, 1, 2]).unwrap();
    locked[central + 8] |= 1;
    std::fs::write(&path, &locked).unwrap();
    assert_eq!(open(&path).unwrap().entries[0].method, Err(Refused::Encrypted));

    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(open(&path), Err(PartError::Truncated)), "{length}");
    }
}

/// Whatever byte is wrong, reading ends, and never with other bytes than were written.
#[test]
fn no_damage_is_believed() {
    let directory = parts();
    let path = directory.path().join("1.zip");
    let whole = std::fs::read(&path).unwrap();
    let right = read(&open(&path).unwrap(), "text.json").unwrap();
    let central = whole.windows(4).position(|four| four == [0x50, 0x4b, 1, 2]).unwrap();
    for at in central..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        std::fs::write(&path, &damaged).unwrap();
        let Ok(part) = open(&path) else { continue };
        for entry in part.entries.iter().filter(|entry| entry.path.ends_with("text.json")) {
            let mut bytes = vec![];
            if part.read(entry).and_then(|mut reader| reader.read_to_end(&mut bytes)).is_ok() {
                assert_eq!(bytes, right, "byte {at}");
            }
        }
    }
}
