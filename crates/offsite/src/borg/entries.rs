//! What `borg list --json-lines` says of an archive.
//!
//! Bytes of a name that are no UTF-8 come as `?`, each, whatever is asked for ([`MARK`]): what the name really is only
//! the archive knows.

use serde::Deserialize;

use crate::{Entry, Error, Kind, Sort, borg::moment};

/// What stands for a byte that can't be told. It may also be what it is: a question mark.
pub const MARK: char = '?';

#[derive(Deserialize)]
struct Line {
    path: String,
    #[serde(rename = "type")]
    sort: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    linktarget: String,
    #[serde(default)]
    isomtime: String,
    /// `false`: parts of it are lost, and zeros come in their place.
    healthy: Option<bool>,
}

pub fn read(out: &str) -> Result<Vec<Entry>, Error> {
    let unreadable = |error: serde_json::Error| {
        Error::new(Kind::Other, "borg's list of an archive can't be read").because(error.to_string())
    };
    out.lines().filter(|line| !line.is_empty()).map(|line| one(line).map_err(unreadable)).collect()
}

fn one(line: &str) -> serde_json::Result<Entry> {
    let line: Line = serde_json::from_str(line)?;
    let sort = match line.sort.as_str() {
        "d" => Sort::Directory,
        // Another name of a file that is in the archive already has the type of a file, and no size.
        "-" | "h" if !line.linktarget.is_empty() => Sort::Link,
        "-" => Sort::File,
        _ => Sort::Other,
    };
    let size = if sort == Sort::File { line.size } else { 0 };
    let target = if sort == Sort::Link { line.linktarget.into_bytes() } else { Vec::new() };
    let path = if line.path == "." { Vec::new() } else { line.path.into_bytes() };
    let modified = moment(&line.isomtime).map(|time| time.as_nanosecond()).filter(|_| line.healthy != Some(false));
    Ok(Entry { path, sort, size, modified, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_file_or_another_name_of_one() {
        let entry = one(r#"{"type": "-", "size": 3, "path": "a/é.jpg", "linktarget": ""}"#).unwrap();
        assert_eq!((entry.path.as_slice(), entry.sort, entry.size), ("a/é.jpg".as_bytes(), Sort::File, 3));
        let entry = one(r#"{"type": "-", "mode": "hrw-", "size": 0, "path": "b", "linktarget": "a/é.jpg"}"#).unwrap();
        assert_eq!((entry.sort, entry.target.as_slice()), (Sort::Link, "a/é.jpg".as_bytes()));
        assert_eq!(one(r#"{"type": "l", "path": "c", "linktarget": "a"}"#).unwrap().sort, Sort::Other);
        assert_eq!(one(r#"{"type": "d", "path": "."}"#).unwrap().path, b"");
    }

    #[test]
    fn a_file_has_the_time_that_it_will_have_unless_it_comes_with_holes() {
        let modified = |healthy: &str| {
            let line = format!(r#"{{"type": "-", "path": "a", "isomtime": "2020-01-02T03:04:05.123457"{healthy}}}"#);
            one(&line).unwrap().modified
        };
        assert_eq!(modified(r#", "healthy": true"#), Some(1_577_934_245_123_457_000));
        assert_eq!((modified(""), modified(r#", "healthy": false"#)), (modified(r#", "healthy": true"#), None));
    }
}
