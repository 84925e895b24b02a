//! JSON as Google wrote it, kept small: sidecars are nearly all alike, and each is packed against what they have in common.
//! What no field of the journal holds today may be wanted tomorrow, when the archives are gone.

use std::cell::RefCell;

use rusqlite::OptionalExtension;
use zstd::bulk::{Compressor, Decompressor};

use crate::journal::{Journal, JournalError};

/// Part of the journal's format: what was packed with it is read only with it.
const COMMON: &[u8] = include_bytes!("common.json");
const LEVEL: i32 = 3;
/// Longer JSON is not kept: it tells of no photo.
const BYTES_MAX: usize = 1 << 20;

thread_local! {
    static PACKER: RefCell<Option<Compressor<'static>>> =
        RefCell::new(Compressor::with_dictionary(LEVEL, COMMON).ok());
}

/// Packs a text; empty where it is not kept.
pub fn pack(text: &[u8]) -> Vec<u8> {
    if text.len() > BYTES_MAX {
        return vec![];
    }
    PACKER.with_borrow_mut(|packer| packer.as_mut().and_then(|packer| packer.compress(text).ok())).unwrap_or_default()
}

/// The JSON at a path of the Takeout, as Google wrote it.
pub fn of(journal: &Journal, path: &str) -> Result<Option<String>, JournalError> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let sql = "SELECT r.packed FROM raw r JOIN entry e ON e.id = r.entry JOIN dir d ON d.id = e.dir
               WHERE d.path = ?1 AND e.name = ?2 ORDER BY e.id LIMIT 1";
    let packed: Option<Vec<u8>> = journal.db().query_row(sql, [directory, name], |row| row.get(0)).optional()?;
    Ok(packed.and_then(|packed| unpack(&packed)))
}

/// The text that was packed.
pub fn unpack(packed: &[u8]) -> Option<String> {
    let bytes = Decompressor::with_dictionary(COMMON).ok()?.decompress(packed, BYTES_MAX).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_is_kept_whole_and_small() {
        let text = String::from_utf8(COMMON.to_vec())
            .unwrap()
            .replace("IMG_20190518_123000", "PXL_20220101_1")
            .replace("1558", "1641");
        let packed = pack(text.as_bytes());
        assert_eq!(unpack(&packed).as_deref(), Some(text.as_str()));
        assert!(packed.len() * 6 < text.len(), "{} of {}", packed.len(), text.len());
        assert_eq!(unpack(b"garbage"), None);
    }
}
