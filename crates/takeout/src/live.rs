//! Live photos by what their files say: Apple writes the same identifier into a still and its film. It is asked for where names
//! leave a choice.

use std::io::Cursor;

use exif::{In, Reader, Tag, Value};

use crate::film;

/// A film that is longer is no moving half: Apple's last three seconds.
pub const HALF_MILLIS_MAX: u64 = 3500;

/// What a still or a film tells of the other half.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// Apple's content identifier, in upper case.
    pub identifier: Option<String>,
    /// Of a film.
    pub millis: Option<u64>,
}

/// Which of several stills of one name a film belongs to. None where the film is too long for one's half, or nothing proves
/// which: a wrong pair is worse than none.
pub fn choose(film: &Mark, stills: &[Option<Mark>]) -> Option<usize> {
    let own = film.identifier.as_ref().filter(|_| film.millis.is_none_or(|millis| millis <= HALF_MILLIS_MAX))?;
    let mut same = (0..stills.len()).filter(|at| {
        let still = stills[*at].as_ref().and_then(|still| still.identifier.as_ref());
        still == Some(own)
    });
    same.next().filter(|_| same.next().is_none())
}

/// Does nothing that was read speak against a film's being the half of the only still of its name?
pub fn may_be(film: Option<&Mark>, still: Option<&Mark>) -> bool {
    let Some(film) = film else { return true };
    let other = match (&film.identifier, still.and_then(|still| still.identifier.as_ref())) {
        (Some(own), Some(still)) => own != still,
        _ => false,
    };
    !other && film.millis.is_none_or(|millis| millis <= HALF_MILLIS_MAX)
}

/// Reads a picture, or as much of its beginning as holds its notes.
pub fn of_still(picture: &[u8]) -> Mark {
    let mut reader = Reader::new();
    reader.continue_on_error(true);
    let read = reader.read_from_container(&mut Cursor::new(picture));
    let exif = read.or_else(|error| error.distill_partial_result(|_| ()));
    let identifier = exif.ok().and_then(|exif| match &exif.get_field(Tag::MakerNote, In::PRIMARY)?.value {
        Value::Undefined(note, _) => in_note(note),
        _ => None,
    });
    Mark { identifier, millis: None }
}

/// In Apple's own notes: a list of fields as in TIFF, with offsets from its own beginning.
fn in_note(note: &[u8]) -> Option<String> {
    const IDENTIFIER: u16 = 0x11;
    const TEXT: u16 = 2;
    let fields = note.strip_prefix(b"Apple iOS\0")?.get(2..)?.strip_prefix(b"MM")?;
    let count = usize::from(u16::from_be_bytes(fields.get(..2)?.try_into().ok()?));
    let number = |field: &[u8], at: usize| Some(u16::from_be_bytes(field.get(at..at + 2)?.try_into().ok()?));
    let long = |field: &[u8], at: usize| Some(u32::from_be_bytes(field.get(at..at + 4)?.try_into().ok()?) as usize);
    let field = fields.get(2..)?.chunks_exact(12).take(count).find(|field| number(field, 0) == Some(IDENTIFIER))?;
    let (length, at) = (long(field, 4)?, long(field, 8)?);
    let text = note.get(at..at.checked_add(length)?).filter(|_| number(field, 2) == Some(TEXT))?;
    identifier(text)
}

/// A text that identifies: not empty, and printable.
fn identifier(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?.trim_matches(['\0', ' ']);
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_ascii_uppercase())
}

/// Reads a whole film (ISO base media), or its header alone.
pub fn of_film(film: &[u8]) -> Mark {
    let Some(moov) = inner(film, *b"moov") else { return Mark::default() };
    Mark { identifier: inner(moov, *b"meta").and_then(in_meta), millis: inner(moov, *b"mvhd").and_then(millis) }
}

/// The value of QuickTime's key: a list of keys, and values by their numbers in it.
fn in_meta(meta: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"com.apple.quicktime.content.identifier";
    // ISO's box begins with a version, QuickTime's does not.
    let meta = if meta.get(4..8) == Some(b"hdlr") { meta } else { meta.get(4..)? };
    let keys = inner(meta, *b"keys")?.get(8..)?;
    let mut number = 0u32;
    let mut rest = keys;
    let number = loop {
        let (length, name) = (rest.get(..4)?, rest.get(8..)?);
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        number += 1;
        if name.get(..length.checked_sub(8)?)? == KEY {
            break number;
        }
        rest = rest.get(length..)?;
    };
    let data = inner(inner(inner(meta, *b"ilst")?, number.to_be_bytes())?, *b"data")?;
    identifier(data.get(8..)?)
}

fn millis(mvhd: &[u8]) -> Option<u64> {
    let long = |at: usize| Some(u64::from(u32::from_be_bytes(mvhd.get(at..at + 4)?.try_into().ok()?)));
    let (scale, duration) = match mvhd.first()? {
        0 => (long(12)?, long(16)?),
        1 => (long(20)?, u64::from_be_bytes(mvhd.get(24..32)?.try_into().ok()?)),
        _ => return None,
    };
    duration.checked_mul(1000)?.checked_div(scale)
}

/// What is in the first box of a kind.
fn inner(mut bytes: &[u8], wanted: [u8; 4]) -> Option<&[u8]> {
    loop {
        let (length, kind, start) = film::header(bytes)?;
        let end = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        if kind == wanted {
            return bytes.get(start..end);
        }
        bytes = bytes.get(end.max(8)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9";

    fn field(tag: u16, kind: u16, count: usize, value: u32) -> Vec<u8> {
        [&tag.to_be_bytes()[..], &kind.to_be_bytes(), &(count as u32).to_be_bytes(), &value.to_be_bytes()].concat()
    }

    /// A JPEG as a phone writes it, of nothing but its notes.
    fn jpeg(id: &str) -> Vec<u8> {
        let text = format!("{id}\0");
        let head = b"Apple iOS\0\0\x01MM\0\x02";
        let at = head.len() + 2 * 12 + 4;
        let fields = [field(1, 9, 1, 14), field(0x11, 2, text.len(), at as u32), vec![0; 4]].concat();
        let note = [&head[..], &fields, text.as_bytes()].concat();
        let list = |fields: Vec<u8>| [&[0, 1][..], &fields, &[0; 4]].concat();
        let tiff = [
            &b"MM\0\x2a\0\0\0\x08"[..],
            &list(field(0x8769, 4, 1, 26)),
            &list(field(0x927c, 7, note.len(), 44)),
            &note,
        ]
        .concat();
        let length = (tiff.len() as u16 + 8).to_be_bytes();
        [&b"\xff\xd8\xff\xe1"[..], &length, b"Exif\0\0", &tiff, b"\xff\xd9"].concat()
    }

    fn boxed(kind: &[u8], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
    }

    fn mov(id: &str, millis: u32, version: &[u8]) -> Vec<u8> {
        let key = |name: &str| [&(name.len() as u32 + 8).to_be_bytes()[..], b"mdta", name.as_bytes()].concat();
        let keys = [
            &[0, 0, 0, 0, 0, 0, 0, 2][..],
            &key("com.apple.quicktime.make"),
            &key("com.apple.quicktime.content.identifier"),
        ]
        .concat();
        let value = |text: &str| boxed(b"data", &[&[0, 0, 0, 1, 0, 0, 0, 0][..], text.as_bytes()].concat());
        let values = [boxed(&[0, 0, 0, 1], &value("Apple")), boxed(&[0, 0, 0, 2], &value(id))].concat();
        let meta = [version, &boxed(b"hdlr", &[0; 24]), &boxed(b"keys", &keys), &boxed(b"ilst", &values)].concat();
        let mvhd = [&[0; 12][..], &600u32.to_be_bytes(), &(millis * 600 / 1000).to_be_bytes(), &[0; 80]].concat();
        let moov = [boxed(b"mvhd", &mvhd), boxed(b"meta", &meta)].concat();
        [boxed(b"ftyp", b"qt  \0\0\0\0"), boxed(b"mdat", &[7; 100]), boxed(b"moov", &moov)].concat()
    }

    fn mark(id: Option<&str>, millis: Option<u64>) -> Mark {
        Mark { identifier: id.map(str::to_owned), millis }
    }

    #[test]
    fn both_halves_tell_the_same_identifier() {
        assert_eq!(of_still(&jpeg(&ID.to_lowercase())), mark(Some(ID), None));
        assert_eq!(of_film(&mov(ID, 2900, &[])), mark(Some(ID), Some(2900)));
        assert_eq!(of_film(&mov(ID, 2900, &[0; 4])), mark(Some(ID), Some(2900)));
        assert_eq!(of_still(b"\xff\xd8\xff\xd9"), Mark::default());
        assert_eq!(of_film(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"), Mark::default());
    }

    #[test]
    fn only_proof_chooses() {
        let stills = [Some(mark(Some("A"), None)), Some(mark(Some("B"), None)), None, Some(mark(None, None))];
        assert_eq!(choose(&mark(Some("B"), Some(2900)), &stills), Some(1));
        assert_eq!(choose(&mark(Some("B"), None), &stills), Some(1));
        assert_eq!(choose(&mark(Some("B"), Some(60_000)), &stills), None, "too long for a half");
        assert_eq!(choose(&mark(Some("C"), Some(2900)), &stills), None);
        assert_eq!(choose(&mark(None, Some(2900)), &stills), None);
        assert_eq!(choose(&mark(Some("A"), None), &[stills[0].clone(), stills[0].clone()]), None, "two have it");
    }

    #[test]
    fn what_is_read_speaks_against_the_only_still() {
        let (half, long) = (mark(Some("A"), Some(2900)), mark(None, Some(600_000)));
        assert!(may_be(None, None) && may_be(Some(&mark(None, None)), Some(&mark(Some("B"), None))));
        assert!(may_be(Some(&half), None) && may_be(Some(&half), Some(&mark(Some("A"), None))));
        assert!(!may_be(Some(&half), Some(&mark(Some("B"), None))), "they are of two photos");
        assert!(!may_be(Some(&long), None), "too long for a half");
    }

    #[test]
    fn damage_ends() {
        for whole in [jpeg(ID), mov(ID, 2900, &[])] {
            for at in 0..whole.len() {
                for byte in [0, 1, 0xff] {
                    let mut damaged = whole.clone();
                    damaged[at] = byte;
                    of_film(&damaged);
                    of_still(&damaged);
                    of_film(&damaged[..at]);
                    of_still(&damaged[..at]);
                }
            }
        }
    }
}
