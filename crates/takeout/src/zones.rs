//! Which time zone is where, from a table in the binary. Near borders, and where they moved after 2015, it may be wrong.
//!
//! The table's form is told in `data/README.md`. The crate it comes from is not used: it needs an inflater and a base64
//! reader that nobody keeps up. Maintained ones carry borders under a licence (ODbL) that asks for more than ours.

use std::{collections::HashMap, io::Read, sync::OnceLock};

/// Gzipped, 200 KB; about 3 MB once it is read.
static PACKED: &[u8] = include_bytes!("../data/zones.gz");

const LEVELS: u32 = 6;
const LEAVES: usize = 14_110;
const PIXELS_PER_DEGREE: f64 = 32.0;
const SEA: u16 = u16::MAX;

/// What a tile is.
enum Leaf {
    Zone(String),
    /// 8 × 8 bits that choose one of two leaves.
    Two([u16; 2], u64),
    /// 8 × 8 leaves.
    Each(Box<[u16; 64]>),
}

struct Table {
    tiles: HashMap<u32, u16>,
    leaves: Vec<Leaf>,
}

/// The name in the tz database of the zone at a place in degrees; none at sea, and off the earth.
pub fn name_at(latitude: f64, longitude: f64) -> Option<&'static str> {
    static TABLE: OnceLock<Option<Table>> = OnceLock::new();
    let on_earth = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
    let table = TABLE.get_or_init(read).as_ref().filter(|_| on_earth)?;
    let x = (longitude + 180.0) * PIXELS_PER_DEGREE;
    let y = (90.0 - latitude) * PIXELS_PER_DEGREE;
    table.at(x as u32, y as u32)
}

fn read() -> Option<Table> {
    let mut bytes = vec![];
    flate2::read::GzDecoder::new(PACKED).read_to_end(&mut bytes).ok()?;
    let rest = &mut bytes.as_slice();
    let mut tiles = HashMap::new();
    for _ in 0..LEVELS {
        let count = u32::from_be_bytes(take(rest)?);
        for _ in 0..count {
            tiles.insert(u32::from_be_bytes(take(rest)?), u16::from_be_bytes(take(rest)?));
        }
    }
    let mut leaves = Vec::with_capacity(LEAVES);
    while !rest.is_empty() {
        leaves.push(leaf(rest)?);
    }
    (leaves.len() == LEAVES).then_some(Table { tiles, leaves })
}

fn leaf(rest: &mut &[u8]) -> Option<Leaf> {
    match take::<1>(rest)? {
        [b'S'] => {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let name = String::from_utf8(rest[..end].to_vec()).ok()?;
            *rest = &rest[end + 1..];
            Some(Leaf::Zone(name))
        }
        [b'2'] => {
            let two = [u16::from_be_bytes(take(rest)?), u16::from_be_bytes(take(rest)?)];
            Some(Leaf::Two(two, u64::from_be_bytes(take(rest)?)))
        }
        [b'P'] => {
            let mut each = Box::new([SEA; 64]);
            for leaf in each.iter_mut() {
                *leaf = u16::from_be_bytes(take(rest)?);
            }
            Some(Leaf::Each(each))
        }
        _ => None,
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

impl Table {
    /// The zone of a pixel. Large tiles come first.
    fn at(&self, x: u32, y: u32) -> Option<&str> {
        let key = |level: u32| (level << 28) | ((y >> (3 + level)) << 14) | (x >> (3 + level));
        let mut index = (0..LEVELS).rev().find_map(|level| self.tiles.get(&key(level)).copied())?;
        let pixel = (y & 7) * 8 + (x & 7);
        // A leaf of pixels names leaves that are no pixels; a damaged table must end too.
        for _ in 0..4 {
            if index == SEA {
                return None;
            }
            index = match self.leaves.get(usize::from(index))? {
                Leaf::Zone(name) => return Some(name),
                Leaf::Two(two, bits) => two[usize::from(bits >> pixel & 1 == 1)],
                Leaf::Each(each) => each[pixel as usize],
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_the_zones_that_they_have() {
        assert_eq!(name_at(37.7833, -122.4167), Some("America/Los_Angeles"));
        assert_eq!(name_at(-33.8885, 151.1908), Some("Australia/Sydney"));
        assert_eq!(name_at(52.52, 13.405), Some("Europe/Berlin"));
        assert_eq!(name_at(0.0, 0.0), None);
    }

    #[test]
    fn what_is_no_place_has_no_zone() {
        for (latitude, longitude) in [(91.0, 0.0), (0.0, -180.5), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            assert_eq!(name_at(latitude, longitude), None);
        }
        for (latitude, longitude) in [(90.0, 180.0), (-90.0, -180.0), (-90.0, 180.0)] {
            name_at(latitude, longitude);
        }
    }

    /// The pixels that the tests of latlong hold its tables to: tiles of every kind.
    #[test]
    fn pixels_are_those_of_latlong() {
        let table = read().unwrap();
        let due = [
            (9200, 2410, Some("Asia/Phnom_Penh")),
            (9047, 2488, Some("Asia/Phnom_Penh")),
            (9290, 530, Some("Asia/Krasnoyarsk")),
            (9290, 531, Some("Asia/Yakutsk")),
            (2985, 1654, Some("America/Indiana/Vincennes")),
            (2986, 1654, Some("America/Indiana/Marengo")),
            (2986, 1655, Some("America/Indiana/Tell_City")),
            (4000, 2000, None),
            (3687, 1845, Some("Atlantic/Bermuda")),
            (1747, 1486, Some("America/Los_Angeles")),
            (2924, 2316, Some("America/Belize")),
        ];
        for (x, y, name) in due {
            assert_eq!(table.at(x, y), name, "{x} {y}");
        }
    }
}
