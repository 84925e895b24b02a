//! What a picture says of itself: when it was taken, and where.

use std::io::Cursor;

use exif::{Exif, In, Reader, Tag, Value};
use jiff::{civil::DateTime, tz::Offset};

/// How many bytes of a file's beginning hold what cameras write of the picture.
pub const HEAD_BYTES: usize = 1 << 20;

/// What was found. Nothing in it is an answer too: screenshots, scans and messengers' pictures have none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Told {
    /// On the clock of the camera.
    pub taken: Option<DateTime>,
    /// Of that clock from UTC, where the camera wrote it.
    pub offset: Option<Offset>,
    /// Latitude and longitude, degrees.
    pub place: Option<(f64, f64)>,
}

/// Reads the beginning of a picture; of what can't be read nothing is told.
pub fn read(head: &[u8]) -> Told {
    let mut reader = Reader::new();
    reader.continue_on_error(true);
    let read = reader.read_from_container(&mut Cursor::new(head));
    // Cut and damaged lists are told as far as they go.
    match read.or_else(|error| error.distill_partial_result(|_| ())) {
        Ok(exif) => told(&exif),
        Err(_) => Told::default(),
    }
}

fn told(exif: &Exif) -> Told {
    let times = [
        (Tag::DateTimeOriginal, Tag::OffsetTimeOriginal),
        (Tag::DateTimeDigitized, Tag::OffsetTimeDigitized),
        (Tag::DateTime, Tag::OffsetTime),
    ];
    let taken = times.iter().find_map(|(time, offset)| Some((date_time(&text(exif, *time)?)?, *offset)));
    let offset = taken.and_then(|(_, tag)| offset(&text(exif, tag)?));
    Told { taken: taken.map(|(time, _)| time), offset, place: place(exif) }
}

fn text(exif: &Exif, tag: Tag) -> Option<String> {
    match &exif.get_field(tag, In::PRIMARY)?.value {
        Value::Ascii(lines) => Some(String::from_utf8_lossy(lines.first()?).trim().to_owned()),
        _ => None,
    }
}

/// `2019:05:18 12:30:00`; dashes and a `T` are met too. All zeros are how a camera says that its clock was not set.
fn date_time(text: &str) -> Option<DateTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i16>().ok();
    let part = |from: usize, to: usize| i8::try_from(number(from, to)?).ok();
    let year = number(0, 4).filter(|year| *year > 0)?;
    DateTime::new(year, part(5, 7)?, part(8, 10)?, part(11, 13)?, part(14, 16)?, part(17, 19).unwrap_or(0), 0).ok()
}

/// `+02:00`, `-0330`, `Z`
fn offset(text: &str) -> Option<Offset> {
    if text == "Z" {
        return Some(Offset::UTC);
    }
    let (sign, rest) = text.strip_prefix('+').map(|r| (1, r)).or_else(|| text.strip_prefix('-').map(|r| (-1, r)))?;
    let hours: i32 = rest.get(..2)?.parse().ok()?;
    let minutes: i32 = rest.get(2..)?.trim_start_matches(':').parse().unwrap_or(0);
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok().filter(|_| hours <= 14 && minutes < 60)
}

fn place(exif: &Exif) -> Option<(f64, f64)> {
    let degrees = |tag: Tag| match &exif.get_field(tag, In::PRIMARY)?.value {
        Value::Rational(parts) if parts.len() == 3 && parts.iter().all(|part| part.denom != 0) => {
            Some(parts[0].to_f64() + parts[1].to_f64() / 60.0 + parts[2].to_f64() / 3600.0)
        }
        _ => None,
    };
    let signed = |value: f64, tag: Tag, minus: &str| match text(exif, tag) {
        Some(side) if side.eq_ignore_ascii_case(minus) => -value,
        _ => value,
    };
    let latitude = signed(degrees(Tag::GPSLatitude)?, Tag::GPSLatitudeRef, "S");
    let longitude = signed(degrees(Tag::GPSLongitude)?, Tag::GPSLongitudeRef, "W");
    let somewhere = latitude != 0.0 || longitude != 0.0;
    (somewhere && latitude.abs() <= 90.0 && longitude.abs() <= 180.0).then_some((latitude, longitude))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_and_offsets_as_cameras_write_them() {
        assert_eq!(date_time("2019:05:18 12:30:01").unwrap(), jiff::civil::date(2019, 5, 18).at(12, 30, 1, 0));
        assert_eq!(date_time("0000:00:00 00:00:00"), None);
        assert_eq!(date_time("    :  :     :  :  "), None);
        assert_eq!(date_time("ünicode"), None);
        assert_eq!(offset("+05:30").unwrap().seconds(), 19800);
        assert_eq!(offset("-0330").unwrap().seconds(), -12600);
        assert_eq!(offset("   "), None);
    }

    #[test]
    fn what_is_no_picture_tells_nothing() {
        assert_eq!(read(b""), Told::default());
        assert_eq!(read(&[0xff, 0xd8, 0xff, 0xe1, 0xff]), Told::default());
    }
}
