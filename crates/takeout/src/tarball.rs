//! A Takeout as `.tar` or `.tgz`: read from its beginning to its end, never unpacked.

use std::{
    io::{self, BufReader, Read},
    ops::ControlFlow,
};

use flate2::bufread::MultiGzDecoder;

use crate::{parts::Packed, zip::escapes};

/// A file in an archive, as it comes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Of files, from 0.
    pub number: u64,
    /// Made readable where it is not UTF-8.
    pub path: String,
    pub bytes: u64,
    /// Its path leads out of the directory, or is not UTF-8: it is told and not read.
    pub refused: bool,
}

/// Shows every file of an archive, in its order; `see` need not read it. Directories are left out; so are links and
/// devices, of which Google writes none. Returns whether `see` broke off. Fails where the archive is damaged or cut off: what
/// was seen before stays right.
pub fn walk(
    archive: impl Read,
    packed: Packed,
    mut see: impl FnMut(&Member, &mut dyn Read) -> io::Result<ControlFlow<()>>,
) -> io::Result<ControlFlow<()>> {
    let buffered = BufReader::with_capacity(1 << 18, archive);
    let plain: Box<dyn Read> = match packed {
        Packed::Tgz => Box::new(MultiGzDecoder::new(buffered)),
        _ => Box::new(buffered),
    };
    let mut archive = tar::Archive::new(plain);
    let mut number = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let raw = entry.path_bytes().into_owned();
        let path = String::from_utf8_lossy(&raw).into_owned();
        let refused = std::str::from_utf8(&raw).is_err() || escapes(&path);
        let member = Member { number, path, bytes: entry.size(), refused };
        number += 1;
        if see(&member, &mut entry)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(names: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(vec![]);
        for name in names {
            let mut header = tar::Header::new_gnu();
            // As a hostile archive writes them: the library's own setter refuses such names.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(3);
            header.set_cksum();
            builder.append(&header, &b"abc"[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn what_leads_out_is_told_and_what_is_cut_off_too() {
        let whole = archive(&["Takeout/a.jpg", "../b.jpg"]);
        let mut seen = vec![];
        let mut see = |member: &Member, _: &mut dyn Read| {
            seen.push((member.path.clone(), member.refused));
            Ok(ControlFlow::Continue(()))
        };
        assert!(walk(&whole[..], Packed::Tar, &mut see).unwrap().is_continue());
        assert!(walk(&whole[..700], Packed::Tar, &mut see).is_err());
        assert_eq!(seen[..2], [("Takeout/a.jpg".to_owned(), false), ("../b.jpg".to_owned(), true)]);
    }
}
