//! The parts of an export by their names: which belong together, and which is missing.
//!
//! `takeout-20240525T201456Z-001.zip` until about 2025, `takeout-20240525T201456Z-3-001.zip` since (group of products, then
//! part). Parts of one time stamp are one export. That the last part is there can't be known from names.

use std::collections::{BTreeMap, BTreeSet};

/// What a part's file name says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartName {
    /// When the export was made, as in the name: it orders exports.
    pub export: String,
    /// The group of products, in newer names.
    pub product: Option<u32>,
    pub number: u32,
}

/// The parts of one export that were seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    pub export: String,
    pub product: Option<u32>,
    pub seen: BTreeSet<u32>,
}

impl Export {
    /// Numbers below the highest one that were not seen.
    pub fn missing(&self) -> Vec<u32> {
        let last = self.seen.last().copied().unwrap_or(0);
        (1..last).filter(|number| !self.seen.contains(number)).collect()
    }
}

/// How a Takeout is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packed {
    Zip,
    Tar,
    /// One gzip stream around it.
    Tgz,
}

/// By a file's name; none where it is no archive.
pub fn packed(file: &str) -> Option<Packed> {
    let lower = file.to_ascii_lowercase();
    let ends = |list: &[&str]| list.iter().any(|end| lower.ends_with(end));
    let tgz = ends(&[".tgz", ".tar.gz"]).then_some(Packed::Tgz);
    tgz.or_else(|| ends(&[".zip"]).then_some(Packed::Zip)).or_else(|| ends(&[".tar"]).then_some(Packed::Tar))
}

/// Takes the name of a part apart. Browsers put ` (1)` or `(1)` behind what they load twice: that is ignored.
pub fn part_name(file: &str) -> Option<PartName> {
    packed(file)?;
    let stem = &file[..file.find('.')?];
    let stem = stem.split_once('(').map_or(stem, |(stem, _)| stem).trim_end();
    let mut fields = stem.strip_prefix("takeout-")?.split('-');
    let export = fields.next().filter(|stamp| is_stamp(stamp))?;
    let numbers = fields.map(|field| field.parse().ok()).collect::<Option<Vec<u32>>>()?;
    let (product, number) = match numbers[..] {
        [number] => (None, number),
        [product, number] => (Some(product), number),
        _ => return None,
    };
    Some(PartName { export: export.to_owned(), product, number })
}

/// `20240525T201456Z`
fn is_stamp(text: &str) -> bool {
    let shape = |(at, b): (usize, u8)| match at {
        8 => b == b'T',
        15 => b == b'Z',
        _ => b.is_ascii_digit(),
    };
    text.len() == 16 && text.bytes().enumerate().all(shape)
}

/// Gathers parts to exports, oldest first.
pub fn exports<'a>(parts: impl IntoIterator<Item = &'a PartName>) -> Vec<Export> {
    let mut found: BTreeMap<(&str, Option<u32>), BTreeSet<u32>> = BTreeMap::new();
    for part in parts {
        found.entry((&part.export, part.product)).or_default().insert(part.number);
    }
    let export = |((export, product), seen): ((&str, _), _)| Export { export: export.to_owned(), product, seen };
    found.into_iter().map(export).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_in_the_numbers_is_a_missing_part() {
        let names = ["takeout-20240525T201456Z-001.zip", "takeout-20240525T201456Z-004.zip"];
        let parts: Vec<PartName> = names.iter().filter_map(|name| part_name(name)).collect();
        let exports = exports(&parts);
        assert_eq!(exports.len(), 1);
        assert_eq!(exports[0].missing(), [2, 3]);
    }

    #[test]
    fn names_of_both_vintages_are_read() {
        let new = part_name("takeout-20251102T100000Z-3-012.tgz").unwrap();
        assert_eq!((new.product, new.number), (Some(3), 12));
        assert_eq!(part_name("takeout-20251102T100000Z-012 (1).zip").unwrap().number, 12);
        assert_eq!(part_name("takeout-20251102T100000Z-012(1).zip").unwrap().number, 12);
        assert!(part_name("holiday.zip").is_none() && part_name("takeout-1-2-3.zip").is_none());
    }
}
