//! Takeouts made of a few bytes, whole and damaged.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// A picture by its first bytes, told from others by `salt`.
pub fn jpeg(salt: &str) -> Vec<u8> {
    [b"\xff\xd8\xff\xe0\0\x10JFIF\0", salt.as_bytes(), &[0xff, 0xd9]].concat()
}

/// A picture of which a camera wrote when it was taken: `2019:05:18 12:00:00`.
pub fn dated_jpeg(salt: &str, taken: &str) -> Vec<u8> {
    let text = format!("{taken}\0");
    let field = [&[0x01, 0x32, 0, 2][..], &(text.len() as u32).to_be_bytes(), &26u32.to_be_bytes(), &[0; 4]].concat();
    let tiff = [&b"MM\0\x2a\0\0\0\x08\0\x01"[..], &field, text.as_bytes()].concat();
    let length = (tiff.len() as u16 + 8).to_be_bytes();
    [&b"\xff\xd8\xff\xe1"[..], &length, b"Exif\0\0", &tiff, salt.as_bytes(), b"\xff\xd9"].concat()
}

/// A film whose header says when it was made, in seconds since 1970.
pub fn dated_mp4(salt: &str, made: u32) -> Vec<u8> {
    let boxed = |kind: &[u8], body: &[u8]| [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat();
    let mvhd = [&[0; 4][..], &(made + 2_082_844_800).to_be_bytes(), &[0; 92]].concat();
    let moov = boxed(b"moov", &boxed(b"mvhd", &mvhd));
    [boxed(b"ftyp", b"isom\0\0\0\0"), moov, boxed(b"mdat", salt.as_bytes())].concat()
}

/// A video by its first bytes.
pub fn mp4(salt: &str) -> Vec<u8> {
    [b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", salt.as_bytes()].concat()
}

/// The still of one of Apple's live photos: its notes hold what its film says too.
pub fn live_jpeg(salt: &str, identifier: &str) -> Vec<u8> {
    let field = |tag: u16, kind: u16, count: usize, value: u32| {
        [&tag.to_be_bytes()[..], &kind.to_be_bytes(), &(count as u32).to_be_bytes(), &value.to_be_bytes()].concat()
    };
    let text = format!("{identifier}\0");
    let notes = [b"Apple iOS\0\0\x01MM\0\x01", &field(0x11, 2, text.len(), 32)[..], &[0; 4], text.as_bytes()].concat();
    let list = |fields: Vec<u8>| [&[0, 1][..], &fields, &[0; 4]].concat();
    let (exif, inner) = (list(field(0x8769, 4, 1, 26)), list(field(0x927c, 7, notes.len(), 44)));
    let tiff = [&b"MM\0\x2a\0\0\0\x08"[..], &exif, &inner, &notes].concat();
    let length = (tiff.len() as u16 + 8).to_be_bytes();
    [&b"\xff\xd8\xff\xe1"[..], &length, b"Exif\0\0", &tiff, salt.as_bytes(), b"\xff\xd9"].concat()
}

/// The film of one, of that many milliseconds; an empty identifier is none.
pub fn live_mov(salt: &str, identifier: &str, millis: u32) -> Vec<u8> {
    let boxed = |kind: &[u8], body: &[u8]| [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat();
    let name = b"com.apple.quicktime.content.identifier";
    let keys = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &(name.len() as u32 + 8).to_be_bytes(), b"mdta", name].concat();
    let value = boxed(b"data", &[&[0, 0, 0, 1, 0, 0, 0, 0][..], identifier.as_bytes()].concat());
    let values = boxed(b"ilst", &boxed(&[0, 0, 0, 1], &value));
    let meta = boxed(b"meta", &[boxed(b"hdlr", &[0; 24]), boxed(b"keys", &keys), values].concat());
    let mvhd = [&[0; 12][..], &1000u32.to_be_bytes(), &millis.to_be_bytes(), &[0; 80]].concat();
    let moov = boxed(b"moov", &[boxed(b"mvhd", &mvhd), meta].concat());
    [boxed(b"ftyp", b"qt  \0\0\0\0"), boxed(b"mdat", salt.as_bytes()), moov].concat()
}

/// The JSON of a photo.
pub fn sidecar(title: &str, taken: i64, more: &str) -> Vec<u8> {
    format!(r#"{{"title":"{title}","photoTakenTime":{{"timestamp":"{taken}"}}{more}}}"#).into_bytes()
}

/// A stored zip part of these files, written to `path`.
pub fn zip(path: &Path, files: &[(&str, Vec<u8>)]) {
    let (mut out, mut directory) = (vec![], vec![]);
    for (name, bytes) in files {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let offset = out.len() as u32;
        let mut about = vec![];
        about.extend([20, 0, 0, 8, 0, 0, 0, 0, 0, 0]);
        about.extend(crc.sum().to_le_bytes());
        about.extend((bytes.len() as u32).to_le_bytes());
        about.extend((bytes.len() as u32).to_le_bytes());
        about.extend((name.len() as u16).to_le_bytes());
        about.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&about);
        out.extend(name.as_bytes());
        out.extend(bytes);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&about);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((files.len() as u16).to_le_bytes());
    out.extend((files.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    std::fs::write(path, out).unwrap();
}

/// The same files as one gzipped archive.
pub fn tgz(path: &Path, files: &[(&str, Vec<u8>)]) {
    let mut archive = vec![];
    for (name, bytes) in files {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.extend([0; 1024]);
    let file = std::fs::File::create(path).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packed.write_all(&archive).unwrap();
    packed.finish().unwrap();
}

/// The first and the second part of a small Takeout that has a bit of everything.
pub fn files() -> [Vec<(&'static str, Vec<u8>)>; 2] {
    const YEAR: &str = "Takeout/Google Photos/Photos from 2019";
    let path = |name: &str| -> &'static str { format!("{YEAR}/{name}").leak() };
    let trip = |name: &str| -> &'static str { format!("Takeout/Google Photos/Trip_/{name}").leak() };
    let taken = 1_558_173_600;
    let first = vec![
        (path("a.jpg"), jpeg("a")),
        (path("b.jpg"), jpeg("b")),
        (path("b-edited.jpg"), jpeg("b edited")),
        (path("live.jpg"), jpeg("live")),
        (path("live.MP4"), mp4("live")),
        (path("alone.jpg"), jpeg("alone")),
        (path("gone.jpg"), jpeg("gone")),
        (path("gone.jpg.json"), sidecar("gone.jpg", taken, r#","trashed":true"#)),
        (path("clip.jpg"), mp4("a video that is called a picture")),
        (path("clip.jpg.json"), sidecar("clip.jpg", taken, "")),
        (trip("metadata.json"), br#"{"title":"Trip?"}"#.to_vec()),
        (trip("a.jpg"), jpeg("a")),
        ("Takeout/Contacts/All/face.jpg", jpeg("face")),
        ("Takeout/archive_browser.html", b"<html>".to_vec()),
    ];
    // Sidecars lie in another part than their photos.
    let second = vec![
        (
            path("a.jpg.json"),
            sidecar("a.jpg", taken, r#","favorited":true,"description":"Sea","people":[{"name":"Ada"}]"#),
        ),
        (path("b.jpg.json"), sidecar("b.jpg", taken + 60, r#","archived":true"#)),
        (path("live.jpg.json"), sidecar("live.jpg", taken + 90, "")),
        (path("orphan.jpg.json"), sidecar("orphan.jpg", taken, "")),
        (path("print-subscriptions.json"), b"{}".to_vec()),
        (trip("live.jpg"), jpeg("live")),
        (trip("live.MP4"), mp4("live")),
    ];
    [first, second]
}

/// Four bytes behind `text` that give it the CRC-32 of `like`: two files that only their names and their bytes tell apart.
pub fn with_crc_of(text: &[u8], like: &[u8]) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    };
    let table: Vec<u32> =
        (0..256u32).map(|n| (0..8).fold(n, |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })).collect();
    // Backwards from the sum that is wanted: which four steps lead there?
    let mut state = !crc(like);
    for _ in 0..4 {
        let at = table.iter().position(|entry| entry >> 24 == state >> 24).unwrap_or_default();
        state = ((state ^ table[at]) << 8) | at as u32;
    }
    [text, &(state ^ !crc(text)).to_le_bytes()].concat()
}

/// Sets a flag in the central directory of a zip, for every file in it whose name ends so: the first is that it is encrypted.
pub fn set_flag(zip: &mut [u8], end: &str, flag: u8) {
    for at in 0..zip.len().saturating_sub(46) {
        if zip[at..].starts_with(b"PK\x01\x02") {
            let length = usize::from(u16::from_le_bytes([zip[at + 28], zip[at + 29]]));
            if zip[at + 46..at + 46 + length].ends_with(end.as_bytes()) {
                zip[at + 8] |= flag;
            }
        }
    }
}

/// Writes it as two zip parts.
pub fn takeout(directory: &Path) -> Vec<PathBuf> {
    let names = ["takeout-20240525T201456Z-001.zip", "takeout-20240525T201456Z-002.zip"];
    let paths = names.map(|name| directory.join(name));
    for (path, files) in paths.iter().zip(files()) {
        zip(path, &files);
    }
    paths.to_vec()
}
