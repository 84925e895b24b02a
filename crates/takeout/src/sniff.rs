//! What a file is, by its first bytes: names lie (`.HEIC` that is JPEG, `.jpg` that is WebP or MP4, no extension at all).

/// How many bytes of a file's beginning are looked at.
pub const SNIFF_BYTES: usize = 64;

/// A format of pictures or videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    Gif,
    WebP,
    Heic,
    Avif,
    Mp4,
    QuickTime,
    Avi,
    Matroska,
    MpegPs,
    MpegTs,
    /// TIFF, and the many raw formats made of it.
    Tiff,
    Bmp,
    Jxl,
    /// 3GP of old phones.
    ThreeGp,
    /// Canon's raw format, which is made like a video.
    Cr3,
    Wmv,
}

impl Format {
    /// The extension that tells a server this format, lower case, with its dot.
    pub fn extension(self) -> &'static str {
        self.extensions()[0]
    }

    /// All extensions that files of this format have, the usual one first.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Jpeg => &[".jpg", ".jpeg", ".jpe", ".jfif", ".insp", ".mpo"],
            Self::Png => &[".png"],
            Self::Gif => &[".gif"],
            Self::WebP => &[".webp"],
            Self::Heic => &[".heic", ".heif", ".hif"],
            Self::Avif => &[".avif", ".heic", ".heif"],
            Self::Mp4 => &[".mp4", ".m4v", ".mov", ".insv", ".3gp", ".mp"],
            Self::QuickTime => &[".mov", ".mp4", ".m4v"],
            Self::Avi => &[".avi"],
            Self::Matroska => &[".mkv", ".webm"],
            Self::MpegPs => &[".mpg", ".mpe", ".mpeg", ".vob"],
            Self::MpegTs => &[".mts", ".m2ts", ".ts"],
            Self::Tiff => &[
                ".tif", ".tiff", ".dng", ".nef", ".arw", ".cr2", ".pef", ".srw", ".3fr", ".nrw", ".sr2", ".rw2",
                ".orf", ".iiq", ".erf", ".kdc", ".mef", ".mos", ".ari", ".dcr", ".k25", ".fff", ".raw", ".rwl", ".cap",
            ],
            Self::Bmp => &[".bmp"],
            Self::Jxl => &[".jxl"],
            Self::ThreeGp => &[".3gp", ".3gpp", ".3g2", ".mp4"],
            Self::Wmv => &[".wmv", ".asf"],
            Self::Cr3 => &[".cr3"],
        }
    }

    pub fn is_video(self) -> bool {
        use Format::{Avi, Matroska, Mp4, MpegPs, MpegTs, QuickTime, ThreeGp, Wmv};
        matches!(self, Mp4 | QuickTime | Avi | Matroska | MpegPs | MpegTs | ThreeGp | Wmv)
    }
}

/// The format of a file that begins with `head` (at least [`SNIFF_BYTES`], where the file has them).
pub fn format(head: &[u8]) -> Option<Format> {
    let at = |at: usize, bytes: &[u8]| head.get(at..at + bytes.len()) == Some(bytes);
    if at(4, b"ftyp") {
        return Some(iso(head));
    }
    let known: &[(usize, &[u8], Format)] = &[
        (0, b"\xff\xd8\xff", Format::Jpeg),
        (0, b"\x89PNG\r\n\x1a\n", Format::Png),
        (0, b"GIF8", Format::Gif),
        (8, b"WEBP", Format::WebP),
        (8, b"AVI ", Format::Avi),
        (4, b"moov", Format::QuickTime),
        (4, b"mdat", Format::QuickTime),
        (4, b"wide", Format::QuickTime),
        (0, b"\x1a\x45\xdf\xa3", Format::Matroska),
        (0, b"\x00\x00\x01\xba", Format::MpegPs),
        (0, b"\x00\x00\x01\xb3", Format::MpegPs),
        (0, b"II\x2a\x00", Format::Tiff),
        (0, b"MM\x00\x2a", Format::Tiff),
        (0, b"IIU\x00", Format::Tiff),
        (0, b"IIRO", Format::Tiff),
        (0, b"\x00\x00\x00\x0cJXL ", Format::Jxl),
        (0, b"\xff\x0a", Format::Jxl),
        (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Format::Wmv),
    ];
    let found = known.iter().find(|(place, bytes, _)| at(*place, bytes)).map(|(_, _, format)| *format);
    found.or_else(|| short(head))
}

/// Formats whose mark is two bytes: something else must agree.
fn short(head: &[u8]) -> Option<Format> {
    let reserved = head.get(6..10) == Some(&[0; 4][..]);
    if head.starts_with(b"BM") && reserved {
        return Some(Format::Bmp);
    }
    // The packets of a transport stream are longer than what is looked at: one mark with, and one without a time stamp.
    let stream = head.first() == Some(&0x47) && head.get(1).is_some_and(|b| b & 0x80 == 0) && head.len() >= SNIFF_BYTES;
    let stamped = head.get(4) == Some(&0x47) && head.len() >= SNIFF_BYTES && head[0] & 0xc0 == 0;
    ((stream && head[3] & 0x10 != 0) || stamped).then_some(Format::MpegTs)
}

/// By the brands of an ISO media file: the first one, and where it is general, those it is compatible with.
fn iso(head: &[u8]) -> Format {
    let length = head.get(..4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let brands = head.get(8..length.clamp(12, SNIFF_BYTES).min(head.len())).unwrap_or(&[]);
    let brand = |at: usize| brands.get(at..at + 4).unwrap_or(&[]);
    let all = || [brand(0)].into_iter().chain((8..brands.len()).step_by(4).map(brand));
    let any = |list: &[&[u8]]| all().any(|brand| list.contains(&brand));
    match brand(0) {
        b"qt  " => Format::QuickTime,
        b"crx " => Format::Cr3,
        first if first.starts_with(b"3g") => Format::ThreeGp,
        _ if any(&[b"avif", b"avis"]) => Format::Avif,
        _ if any(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) => Format::Heic,
        _ => Format::Mp4,
    }
}

/// The name under which a server takes the file for what it is: with the right extension where the present one is another
/// format's or none.
pub fn right_name(name: &str, format: Format) -> String {
    let (stem, extension) = crate::names::split_extension(name);
    let lower = extension.to_ascii_lowercase();
    if format.extensions().contains(&lower.as_str()) && lower != ".mp" {
        return name.to_owned();
    }
    let foreign = ALL.iter().any(|other| other.extensions().contains(&lower.as_str()));
    // What is no extension of a format (`IMG.2019`) is part of the name.
    let kept = if foreign || lower.starts_with(".mp~") { stem } else { name };
    format!("{kept}{}", format.extension())
}

/// Every format there is.
pub const ALL: &[Format] = &[
    Format::Jpeg,
    Format::Png,
    Format::Gif,
    Format::WebP,
    Format::Heic,
    Format::Avif,
    Format::Mp4,
    Format::QuickTime,
    Format::Avi,
    Format::Matroska,
    Format::MpegPs,
    Format::MpegTs,
    Format::Tiff,
    Format::Bmp,
    Format::Jxl,
    Format::ThreeGp,
    Format::Wmv,
    Format::Cr3,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_outranks_names() {
        let heic = b"\x00\x00\x00\x24ftypmif1\x00\x00\x00\x00mif1heic";
        assert_eq!(format(heic), Some(Format::Heic));
        assert_eq!(right_name("IMG_1.HEIC", Format::Jpeg), "IMG_1.jpg");
        assert_eq!(right_name("IMG_1.HEIC", Format::Heic), "IMG_1.HEIC");
        assert_eq!(right_name("MVIMG_1", Format::Mp4), "MVIMG_1.mp4");
        assert_eq!(right_name("PXL_1.MP", Format::Mp4), "PXL_1.mp4");
        assert_eq!(right_name("PXL_1.MP~2", Format::Mp4), "PXL_1.mp4");
        assert_eq!(right_name("01.04.12 - 1", Format::Jpeg), "01.04.12 - 1.jpg");
        assert_eq!(format(b"BMw is a car"), None);
        assert_eq!(format(b""), None);
    }
}
