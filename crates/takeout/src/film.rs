//! When a film was made, as its own header says (ISO base media: MP4, MOV, 3GP). The header may lie at the file's end.

use jiff::Timestamp;

/// From 1904, from where these films count, to 1970.
const EPOCH_SECONDS: i64 = 2_082_844_800;
/// As much of the header as holds its date.
pub const HEADER_BYTES: usize = 64;

/// What the beginning of a film tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    At(Timestamp),
    /// The header begins there, in bytes from the beginning of the file.
    Beyond(u64),
    /// No date, or no film.
    Unknown,
}

/// Looks for the date in the first bytes of a file.
pub fn made(head: &[u8]) -> Made {
    if head.get(4..8) != Some(b"ftyp") && head.get(4..8) != Some(b"moov") && head.get(4..8) != Some(b"wide") {
        return Made::Unknown;
    }
    let mut at = 0u64;
    // A film has a handful of boxes on top.
    for _ in 0..64 {
        let Some(rest) = usize::try_from(at).ok().and_then(|at| head.get(at..)) else { return Made::Beyond(at) };
        let Some((length, kind, _)) = header(rest) else { return Made::Beyond(at) };
        if kind == *b"moov" {
            return if rest.len() < HEADER_BYTES { Made::Beyond(at) } else { of_header(rest) };
        }
        match at.checked_add(length).filter(|_| length >= 8) {
            Some(next) => at = next,
            None => return Made::Unknown,
        }
    }
    Made::Unknown
}

/// Where a film's header lies, and how long it is; `read` gives some of the film's bytes from a place on.
pub fn place(bytes: u64, mut read: impl FnMut(u64, usize) -> Option<Vec<u8>>) -> Option<(u64, u64)> {
    let mut at = 0u64;
    for _ in 0..64 {
        let (length, kind, _) = header(&read(at, 16)?)?;
        let length = length.min(bytes.checked_sub(at)?);
        if kind == *b"moov" {
            return Some((at, length));
        }
        at = at.checked_add(length).filter(|_| length >= 8)?;
    }
    None
}

/// The date in a header that begins here ([`Made::Beyond`] says where).
pub fn of_header(moov: &[u8]) -> Made {
    date(moov).map_or(Made::Unknown, Made::At)
}

fn date(moov: &[u8]) -> Option<Timestamp> {
    let (_, kind, inner) = header(moov)?;
    let first = moov.get(inner..)?;
    let (_, first_kind, body) = header(first)?;
    if kind != *b"moov" || first_kind != *b"mvhd" {
        return None;
    }
    let fields = first.get(body..)?;
    let seconds = match fields.first()? {
        0 => u64::from(u32::from_be_bytes(fields.get(4..8)?.try_into().ok()?)),
        1 => u64::from_be_bytes(fields.get(4..12)?.try_into().ok()?),
        _ => return None,
    };
    // Cameras without a clock write the beginning of one epoch or the other.
    let seconds = i64::try_from(seconds).ok()?.checked_sub(EPOCH_SECONDS).filter(|seconds| *seconds > 86_400)?;
    Timestamp::from_second(seconds).ok().filter(|at| at.as_second() < 4_102_444_800)
}

/// Length and kind of a box, and where its content begins. A length of 0 reaches to the file's end.
pub(crate) fn header(bytes: &[u8]) -> Option<(u64, [u8; 4], usize)> {
    let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    let kind = bytes.get(4..8)?.try_into().ok()?;
    match length {
        0 => Some((u64::MAX, kind, 8)),
        1 => Some((u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?), kind, 16)),
        length => Some((u64::from(length), kind, 8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn film(mdat: usize, seconds: u32) -> Vec<u8> {
        let boxed = |kind: &[u8], body: Vec<u8>| [&(body.len() as u32 + 8).to_be_bytes()[..], kind, &body].concat();
        let mvhd = boxed(b"mvhd", [&[0; 4][..], &seconds.to_be_bytes(), &[0; 92]].concat());
        let ftyp = boxed(b"ftyp", b"isom\0\0\0\0".to_vec());
        [ftyp, boxed(b"mdat", vec![7; mdat]), boxed(b"moov", mvhd)].concat()
    }

    #[test]
    fn the_header_is_found_wherever_it_lies() {
        let then = Timestamp::from_second(1_558_173_600).unwrap();
        let seconds = (1_558_173_600 + EPOCH_SECONDS) as u32;
        assert_eq!(made(&film(100, seconds)), Made::At(then));
        let long = film(10_000, seconds);
        let Made::Beyond(at) = made(&long[..1000]) else { panic!("it lies behind the picture") };
        assert_eq!(of_header(&long[at as usize..]), Made::At(then));
        let read = |at: u64, bytes: usize| Some(long.get(at as usize..)?.iter().take(bytes).copied().collect());
        assert_eq!(place(long.len() as u64, read), Some((at, 116)));
        assert_eq!(place(long.len() as u64, |_, _| Some(vec![7; 16])), None);
        assert_eq!(made(&film(10, 0)), Made::Unknown);
        assert_eq!(made(b"\xff\xd8\xff"), Made::Unknown);
    }

    #[test]
    fn damage_ends() {
        let whole = film(20, 3_900_000_000);
        for at in 0..whole.len() {
            for byte in [0, 1, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                made(&damaged);
                of_header(&damaged[at..]);
            }
        }
    }
}
