//! Which date a photo gets, of those that the file, Google and the name tell.
//!
//! The file's clock is naive local time unless it says its offset; Google's is UTC. Where both tell the same moment, their
//! difference is the offset. What the file tells right is not sent again.

use jiff::{
    Timestamp, Zoned,
    civil::DateTime,
    tz::{Offset, TimeZone},
};

use crate::{exif::Told, zones};

/// What is known of when a photo was taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// What the file says.
    pub file: Told,
    /// When a film was made, by its own header: UTC, which some cameras get wrong.
    pub film: Option<Timestamp>,
    /// Google's date, seconds since 1970.
    pub taken: Option<i64>,
    /// When Google got it, seconds since 1970: never a date of capture.
    pub created: Option<i64>,
    /// Google's place, degrees.
    pub place: Option<(f64, f64)>,
    /// Does the sidecar surely belong to the file?
    pub sure: bool,
    /// As in the Takeout.
    pub name: &'a str,
    /// Of the folder, where it says one.
    pub year: Option<i16>,
}

/// Where the date comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The file tells it whole, and nothing is sent.
    File,
    /// The file's clock, and an offset that follows from Google's date.
    FileAndOffset,
    /// The file's clock, and the offset of the place or of the default zone.
    FileAndZone,
    /// Google's date, in the zone of the place or the default one.
    Google,
    /// Google's date contradicts the file by more than a day, and the owner corrected it there.
    Corrected,
    /// Google's date contradicts the file, and nothing says that it was corrected: the file's stays.
    Contradicted,
    /// The name of the file.
    Name,
    /// The middle of the folder's year.
    Folder,
    /// Nobody tells.
    Nobody,
}

impl Source {
    /// All, in the order of their numbers in a journal.
    pub const ALL: [Self; 9] = [
        Self::File,
        Self::FileAndOffset,
        Self::FileAndZone,
        Self::Google,
        Self::Corrected,
        Self::Contradicted,
        Self::Name,
        Self::Folder,
        Self::Nobody,
    ];

    /// A word for reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::FileAndOffset => "file, offset by Google's date",
            Self::FileAndZone => "file, zone by place or default",
            Self::Google => "Google",
            Self::Corrected => "Google, corrected by the owner",
            Self::Contradicted => "file, Google contradicts",
            Self::Name => "name",
            Self::Folder => "folder's year",
            Self::Nobody => "none",
        }
    }
}

/// A decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Date {
    pub source: Source,
    /// To be sent, with its offset; none where the file tells it, or nobody does.
    pub send: Option<Zoned>,
    /// The best moment known, for the upload's own field.
    pub moment: Option<Timestamp>,
}

const DAY_SECONDS: i64 = 86_400;
/// Offsets from UTC are multiples of this.
const STEP_SECONDS: i64 = 15 * 60;
const OFFSET_SECONDS_MAX: i64 = 14 * 3600;
/// Cameras' and Google's seconds may be rounded differently.
const SLACK_SECONDS: i64 = 2;

/// Decides. `default_zone` is for what was taken nobody knows where.
pub fn decide(known: &Known<'_>, default_zone: &TimeZone) -> Date {
    let place = known.file.place.or(known.place);
    let zone = || place.and_then(|(latitude, longitude)| zone_at(latitude, longitude)).unwrap_or(default_zone.clone());
    let taken = known.taken.and_then(|seconds| Timestamp::from_second(seconds).ok());
    match (known.file.taken, taken) {
        (Some(clock), Some(taken)) => both(known, clock, taken, &zone()),
        (Some(clock), None) => {
            let offset = known.file.offset.map(|offset| moment(clock, offset));
            kept(Source::File, offset.unwrap_or_else(|| local(clock, &zone())))
        }
        (None, Some(taken)) => match known.film {
            Some(film) if film_stands(known, film, taken) => {
                let source = if is_upload(known) { Source::File } else { Source::Contradicted };
                kept(source, film)
            }
            _ => without_clock(known, taken, &zone()),
        },
        (None, None) => known.film.map_or_else(|| guess(known, &zone()), |film| kept(Source::File, film)),
    }
}

/// Does a film's own date outweigh Google's? Where they differ by more than a day, and Google's is that of the upload or
/// perhaps of another film.
fn film_stands(known: &Known<'_>, film: Timestamp, taken: Timestamp) -> bool {
    let apart = (film.as_second() - taken.as_second()).abs() > DAY_SECONDS;
    apart && (!known.sure || is_upload(known))
}

fn both(known: &Known<'_>, clock: DateTime, taken: Timestamp, zone: &TimeZone) -> Date {
    let guess = match known.file.offset {
        Some(offset) => moment(clock, offset),
        None => local(clock, zone),
    };
    // Without an offset the clock may be fourteen hours off, and still tell the same moment.
    let apart = match known.file.offset {
        Some(_) => (guess.as_second() - taken.as_second()).abs(),
        None => (moment(clock, Offset::UTC).as_second() - taken.as_second()).abs(),
    };
    if apart > DAY_SECONDS {
        return contradiction(known, guess, taken, zone);
    }
    if known.file.offset.is_some() {
        return kept(Source::File, guess);
    }
    if let Some(offset) = offset_between(clock, taken) {
        let moment = moment(clock, offset);
        return sent(Source::FileAndOffset, moment.to_zoned(offset.to_time_zone()));
    }
    sent(Source::FileAndZone, fixed(guess, zone))
}

/// The file and Google differ by more than a day.
fn contradiction(known: &Known<'_>, guess: Timestamp, taken: Timestamp, zone: &TimeZone) -> Date {
    // A date that is no date of upload was put there by the owner; a doubtful sidecar may be another photo's.
    let corrected = known.sure && !is_upload(known);
    if corrected { sent(Source::Corrected, fixed(taken, zone)) } else { kept(Source::Contradicted, guess) }
}

/// Did Google know no date but that of the upload?
fn is_upload(known: &Known<'_>) -> bool {
    matches!((known.taken, known.created), (Some(taken), Some(created)) if (taken - created).abs() <= 60)
}

fn without_clock(known: &Known<'_>, taken: Timestamp, zone: &TimeZone) -> Date {
    match name_date(known.name) {
        Some(clock) => {
            let local = local(clock, zone);
            if is_upload(known) && taken.as_second() - local.as_second() > DAY_SECONDS {
                return sent(Source::Name, fixed(local, zone));
            }
            sent(Source::Google, fixed(taken, zone))
        }
        None => sent(Source::Google, fixed(taken, zone)),
    }
}

fn guess(known: &Known<'_>, zone: &TimeZone) -> Date {
    if let Some(clock) = name_date(known.name) {
        return sent(Source::Name, fixed(local(clock, zone), zone));
    }
    let middle = known.year.and_then(|year| DateTime::new(year, 7, 1, 12, 0, 0, 0).ok());
    match middle {
        Some(middle) => sent(Source::Folder, fixed(local(middle, zone), zone)),
        None => Date { source: Source::Nobody, send: None, moment: None },
    }
}

fn kept(source: Source, moment: Timestamp) -> Date {
    Date { source, send: None, moment: Some(moment) }
}

fn sent(source: Source, date: Zoned) -> Date {
    Date { source, moment: Some(date.timestamp()), send: Some(date) }
}

fn moment(clock: DateTime, offset: Offset) -> Timestamp {
    offset.to_timestamp(clock).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn local(clock: DateTime, zone: &TimeZone) -> Timestamp {
    zone.to_ambiguous_timestamp(clock).compatible().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// With the offset that the zone had then, and no more of it.
fn fixed(moment: Timestamp, zone: &TimeZone) -> Zoned {
    moment.to_zoned(zone.to_offset(moment).to_time_zone())
}

/// The offset at which `clock` shows `taken`, where there is such an offset on earth.
fn offset_between(clock: DateTime, taken: Timestamp) -> Option<Offset> {
    let apart = moment(clock, Offset::UTC).as_second() - taken.as_second();
    let whole = (apart as f64 / STEP_SECONDS as f64).round() as i64 * STEP_SECONDS;
    let fits = (apart - whole).abs() <= SLACK_SECONDS && whole.abs() <= OFFSET_SECONDS_MAX;
    Offset::from_seconds(i32::try_from(whole).ok()?).ok().filter(|_| fits)
}

/// The time zone of a place; none at sea.
pub fn zone_at(latitude: f64, longitude: f64) -> Option<TimeZone> {
    TimeZone::get(zones::name_at(latitude, longitude)?).ok()
}

/// The date in a name as phones, messengers and screenshots write it: `IMG_20190518_123000`, `2019-05-18-12-30-00`,
/// `IMG-20190518-WA0001` (noon, as only the day is known).
pub fn name_date(name: &str) -> Option<DateTime> {
    let bytes = name.as_bytes();
    (0..bytes.len()).filter(|at| *at == 0 || !bytes[at - 1].is_ascii_digit()).find_map(|at| date_at(&bytes[at..]))
}

fn date_at(text: &[u8]) -> Option<DateTime> {
    let (year, rest) = number(text, 4)?;
    let (month, rest) = number(separated(rest), 2)?;
    let (day, rest) = number(separated(rest), 2)?;
    if !(1900..2100).contains(&year) || rest.len() == text.len() {
        return None;
    }
    let date = |h: i16, m: i16, s: i16| {
        DateTime::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?, h as i8, m as i8, s as i8, 0).ok()
    };
    let time = || {
        let (hour, rest) = number(separated(rest), 2)?;
        let (minute, rest) = number(separated(rest), 2)?;
        let (second, _) = number(separated(rest), 2)?;
        (hour < 24 && minute < 60 && second < 60).then(|| date(hour, minute, second))?
    };
    // A run of more than eight digits that is no date with a time is a number.
    let ends = rest.first().is_none_or(|b| !b.is_ascii_digit());
    time().or_else(|| ends.then(|| date(12, 0, 0))?)
}

fn number(text: &[u8], digits: usize) -> Option<(i16, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let all = number.iter().all(u8::is_ascii_digit);
    all.then(|| (number.iter().fold(0, |n, b| n * 10 + i16::from(b - b'0')), rest))
}

/// Without the one character that may stand between two numbers.
fn separated(text: &[u8]) -> &[u8] {
    match text {
        [b'-' | b'_' | b'.' | b' ' | b'T' | b':', rest @ ..] => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn known(clock: Option<DateTime>, taken: Option<i64>) -> Known<'static> {
        let file = Told { taken: clock, ..Told::default() };
        Known { file, taken, sure: true, ..Known::default() }
    }

    fn seconds(clock: DateTime) -> i64 {
        moment(clock, Offset::UTC).as_second()
    }

    fn told(date: &Date) -> String {
        date.send.as_ref().map_or_else(String::new, |z| z.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    }

    #[test]
    fn a_whole_date_in_the_file_is_not_sent_again() {
        let clock = date(2019, 5, 18).at(12, 0, 0, 0);
        let mut known = known(Some(clock), Some(seconds(clock) - 7200));
        known.file.offset = Some(Offset::from_seconds(7200).unwrap());
        assert_eq!(decide(&known, &berlin()).source, Source::File);
        assert_eq!(decide(&known, &berlin()).send, None);
    }

    #[test]
    fn the_offset_is_the_difference_of_the_two_clocks() {
        let clock = date(2019, 5, 18).at(12, 0, 0, 0);
        let date = decide(&known(Some(clock), Some(seconds(clock) - 19_800)), &berlin());
        assert_eq!((date.source, told(&date).as_str()), (Source::FileAndOffset, "2019-05-18T12:00:00+05:30"));
    }

    #[test]
    fn a_camera_whose_clock_was_wrong_keeps_its_time() {
        let clock = date(2019, 5, 18).at(12, 0, 0, 0);
        let date = decide(&known(Some(clock), Some(seconds(clock) - 7200 + 400)), &berlin());
        assert_eq!((date.source, told(&date).as_str()), (Source::FileAndZone, "2019-05-18T12:00:00+02:00"));
    }

    #[test]
    fn a_correction_at_google_wins_and_an_upload_does_not() {
        let clock = date(2002, 1, 1).at(0, 0, 0, 0);
        let taken = seconds(date(2019, 5, 18).at(10, 0, 0, 0));
        let mut known = known(Some(clock), Some(taken));
        let corrected = decide(&known, &berlin());
        assert_eq!((corrected.source, told(&corrected).as_str()), (Source::Corrected, "2019-05-18T12:00:00+02:00"));
        known.created = Some(taken + 5);
        assert_eq!(decide(&known, &berlin()).source, Source::Contradicted);
        known.created = None;
        known.sure = false;
        assert_eq!(decide(&known, &berlin()).send, None);
    }

    #[test]
    fn without_a_clock_the_place_gives_the_zone() {
        let taken = seconds(date(1965, 7, 1).at(10, 0, 0, 0));
        let mut known = known(None, Some(taken));
        assert_eq!(told(&decide(&known, &berlin())), "1965-07-01T11:00:00+01:00");
        known.taken = Some(seconds(date(2019, 7, 1).at(10, 0, 0, 0)));
        known.place = Some((40.7128, -74.006));
        assert_eq!(told(&decide(&known, &berlin())), "2019-07-01T06:00:00-04:00");
    }

    #[test]
    fn a_film_knows_its_date_better_than_its_name_and_than_an_upload() {
        let made = Timestamp::from_second(1_558_173_600).unwrap();
        let mut known = Known { film: Some(made), name: "VID_20200101_000000.mp4", ..known(None, None) };
        assert_eq!(decide(&known, &berlin()), kept(Source::File, made));
        known.taken = Some(1_558_173_600 + 9);
        assert_eq!(decide(&known, &berlin()).source, Source::Google);
        known.taken = Some(1_600_000_000);
        assert_eq!(decide(&known, &berlin()).source, Source::Google);
        known.created = known.taken;
        assert_eq!(decide(&known, &berlin()), kept(Source::File, made));
        (known.created, known.sure) = (None, false);
        assert_eq!(decide(&known, &berlin()), kept(Source::Contradicted, made));
    }

    #[test]
    fn names_and_folders_are_the_last_resort() {
        let mut known = known(None, None);
        known.name = "IMG-20180412-WA0007.jpg";
        assert_eq!(told(&decide(&known, &berlin())), "2018-04-12T12:00:00+02:00");
        known.name = "scan.jpg";
        known.year = Some(1999);
        assert_eq!(decide(&known, &berlin()).source, Source::Folder);
        known.year = None;
        assert_eq!(decide(&known, &berlin()), Date { source: Source::Nobody, send: None, moment: None });
    }

    #[test]
    fn dates_are_read_from_names_and_numbers_are_not() {
        let at = |name: &str| name_date(name).map(|d| d.to_string());
        assert_eq!(at("IMG_20190518_123001.jpg").unwrap(), "2019-05-18T12:30:01");
        assert_eq!(at("Screenshot_2023-04-05-18-07-21-83_abb.jpg").unwrap(), "2023-04-05T18:07:21");
        assert_eq!(at("PXL_20230922_144936660.jpg").unwrap(), "2023-09-22T14:49:36");
        assert_eq!(at("2013-12-23(1).jpg").unwrap(), "2013-12-23T12:00:00");
        assert_eq!(at("IMG_1522315122420.jpg"), None);
        assert_eq!(at("20199999.jpg"), None);
        assert_eq!(at("写真 1.jpg"), None);
    }
}
