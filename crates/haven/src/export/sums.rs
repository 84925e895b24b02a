//! Checksums as `sha256sum` writes and checks them.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::Digest;

/// What the list is called.
const LIST: &str = "SHA256SUMS";

/// SHA-256 of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum([u8; 32]);

impl Sum {
    pub fn of(digest: &Digest) -> Self {
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    fn from_hex(text: &[u8]) -> Option<Self> {
        let mut sum = [0; 32];
        (text.len() == 64).then_some(())?;
        for (byte, pair) in sum.iter_mut().zip(text.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(sum))
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the list may be called, the first that no file of the library has.
pub fn list_names() -> impl Iterator<Item = String> {
    std::iter::once(LIST.to_owned()).chain((2..).map(|n| format!("{LIST}.{n}")))
}

/// A line of the list. Names with a backslash or a line's end are written so that a line stays one, as `sha256sum` does.
pub fn line(sum: Sum, path: &Path) -> Vec<u8> {
    let name = path.as_os_str().as_bytes();
    let escapes = name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    let mut line = if escapes { b"\\".to_vec() } else { Vec::new() };
    line.extend_from_slice(sum.to_string().as_bytes());
    line.extend_from_slice(b"  ");
    for byte in name {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            other => line.push(*other),
        }
    }
    line.push(b'\n');
    line
}

/// The sums in a list. Lines that make no sense, as the last one of an interrupted export may, are passed over.
pub fn read(list: &[u8]) -> HashMap<PathBuf, Sum> {
    let parse = |line: &[u8]| {
        let (escaped, line) = line.strip_prefix(b"\\").map_or((false, line), |rest| (true, rest));
        let name = line.get(64..)?.strip_prefix(b"  ")?;
        let name = if escaped { unescaped(name)? } else { name.to_vec() };
        Some((PathBuf::from(OsStr::from_bytes(&name)), Sum::from_hex(&line[..64])?))
    };
    let end = list.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    list[..end].split(|byte| *byte == b'\n').filter_map(parse).collect()
}

fn unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            other => *other,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_back_as_they_were_written_up_to_where_they_were_cut() {
        let names = ["a", "with blank", "back\\slash", "two\nlines", "r\\n", "\u{fc}"];
        let sum = Sum([0xab; 32]);
        let list: Vec<u8> = names.iter().flat_map(|name| line(sum, Path::new(name))).collect();
        let read_back = read(&list);
        assert!(names.iter().all(|name| read_back.get(Path::new(name)) == Some(&sum)));
        assert_eq!(read_back.len(), names.len());
        assert_eq!(read(&list[..list.len() - 1]).len(), names.len() - 1, "its last line may be cut anywhere");
    }
}
