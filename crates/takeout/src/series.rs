//! Photos that belong together by their names: bursts, and a raw file beside its JPEG.
//!
//! Of a burst each photo carries the same mark:
//! `00001IMG_00001_BURST20190518123000123_COVER.jpg` (Nexus, early Pixels, Xperia: a time for all of them),
//! `IMG_20190518_123000_BURST001_COVER.jpg` (Huawei: a name for all, and a number for each),
//! `PXL_20230330_184138390.MOTION-01.COVER.jpg` and `….MOTION-02.ORIGINAL.jpg` (Pixels).

use crate::names::{split_counter, split_extension};

/// A name that is one of a burst's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InBurst {
    /// The same for all of a burst, and of no other in the directory.
    pub burst: String,
    /// It stands for the burst.
    pub cover: bool,
}

/// Digits from which on a mark is a time, and not the number of a photo.
const TIME_DIGITS: usize = 14;

/// What a name says of a burst.
pub fn in_burst(name: &str) -> Option<InBurst> {
    let (whole, counter) = split_counter(name);
    let stem = split_extension(&whole).0;
    let (burst, cover) = by_mark(stem).or_else(|| by_pixel(stem))?;
    // A counter is of another photo of that name, and of another burst.
    Some(InBurst { burst: format!("{burst}({counter})"), cover })
}

fn by_mark(stem: &str) -> Option<(String, bool)> {
    let (before, mark) = stem.rsplit_once("_BURST")?;
    let (digits, cover) = mark.strip_suffix("_COVER").map_or((mark, false), |digits| (digits, true));
    if digits.is_empty() || before.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let burst = if digits.len() >= TIME_DIGITS { digits } else { before };
    Some((burst.to_owned(), cover))
}

/// `PXL_20230330_184138390.MOTION-01.COVER`
fn by_pixel(stem: &str) -> Option<(String, bool)> {
    let mut fields = stem.split('.');
    let (base, kind, role) = (fields.next()?, fields.next()?, fields.next()?);
    let (what, number) = kind.rsplit_once('-')?;
    let numbered = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    // A raw file and its JPEG are no burst.
    let known = numbered && what != "RAW" && base.starts_with("PXL_") && fields.next().is_none();
    match role {
        "COVER" if known => Some((format!("{base}.{what}"), true)),
        "ORIGINAL" if known => Some((format!("{base}.{what}"), false)),
        _ => None,
    }
}

/// What a name says of a raw file and its JPEG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfRaw {
    /// The same for both.
    pub shot: String,
    pub raw: bool,
}

const RAW_EXTENSIONS: &[&str] = &[
    "dng", "nef", "nrw", "arw", "sr2", "srf", "cr2", "cr3", "crw", "pef", "srw", "raf", "rw2", "orf", "x3f", "mrw",
    "iiq", "3fr", "fff", "erf", "kdc", "dcr", "mef", "mos", "rwl", "raw",
];

/// Of a raw file and of a JPEG; none of others.
pub fn of_raw(name: &str) -> Option<OfRaw> {
    let (whole, counter) = split_counter(name);
    let (stem, extension) = split_extension(&whole);
    let extension = extension.trim_start_matches('.').to_ascii_lowercase();
    let raw = RAW_EXTENSIONS.contains(&extension.as_str());
    if !raw && !matches!(extension.as_str(), "jpg" | "jpeg") {
        return None;
    }
    // Pixels: `PXL_….RAW-01.COVER.jpg` and `PXL_….RAW-02.ORIGINAL.dng`.
    let pixel = [".RAW-01.COVER", ".RAW-01.MP.COVER", ".RAW-02.ORIGINAL"].iter().find_map(|end| stem.strip_suffix(end));
    Some(OfRaw { shot: format!("{}({counter})", pixel.unwrap_or(stem)), raw })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_known_by_their_marks() {
        let burst = |name: &str| in_burst(name).map(|found| (found.burst, found.cover));
        let mark = |text: &str, cover| Some((text.to_owned(), cover));
        assert_eq!(burst("00001IMG_00001_BURST20190518123000123_COVER.jpg"), mark("20190518123000123(0)", true));
        assert_eq!(burst("00002IMG_00002_BURST20190518123000123.jpg"), mark("20190518123000123(0)", false));
        assert_eq!(burst("00002IMG_00002_BURST20190518123000123(1).jpg"), mark("20190518123000123(1)", false));
        assert_eq!(burst("IMG_20190518_123000_BURST001_COVER.jpg"), mark("IMG_20190518_123000(0)", true));
        assert_eq!(burst("PXL_20230330_184138390.MOTION-01.COVER.jpg"), mark("PXL_20230330_184138390.MOTION(0)", true));
        assert_eq!(
            burst("PXL_20230330_184138390.MOTION-02.ORIGINAL.jpg"),
            mark("PXL_20230330_184138390.MOTION(0)", false)
        );
        for name in ["IMG_BURST.jpg", "_BURST12.jpg", "a_BURSTING12.jpg", "PXL_1.RAW-01.COVER.jpg", "x.MP.jpg", "a.jpg"]
        {
            assert_eq!(burst(name), None, "{name}");
        }
    }

    #[test]
    fn a_raw_file_and_its_jpeg_have_one_stem() {
        let shot = |name: &str| of_raw(name).map(|found| (found.shot, found.raw));
        assert_eq!(shot("DSC_1.NEF"), Some(("DSC_1(0)".to_owned(), true)));
        assert_eq!(shot("DSC_1.jpg"), Some(("DSC_1(0)".to_owned(), false)));
        assert_eq!(shot("DSC_1(1).jpg"), Some(("DSC_1(1)".to_owned(), false)));
        let pixel = Some("PXL_1(0)".to_owned());
        assert_eq!(shot("PXL_1.RAW-01.COVER.jpg").map(|(shot, _)| shot), pixel);
        assert_eq!(shot("PXL_1.RAW-02.ORIGINAL.dng").map(|(shot, _)| shot), pixel);
        assert_eq!(shot("DSC_1.mp4"), None);
    }
}
