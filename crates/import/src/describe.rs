//! What is said of a file when it is uploaded: its name, its date, and the XMP sidecar with what the file lacks.

use haven_takeout::{
    dates::{self, Known},
    exif, film, names, sniff, xmp,
};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    content::ContentRow,
    journal::flag,
    options::{Locked, Options, Partner},
    plan::{EDITED, MOTION},
    server::{Upload, Visibility},
};

/// Places nearer to one another than this, in degrees (some ten metres), are the same.
const SAME_PLACE_DEGREES: f64 = 1e-4;

/// The tag of photos without a sidecar.
pub const UNMATCHED: &str = "takeout/unmatched";

/// What every description needs.
pub struct Telling {
    pub options: Options,
    pub zone: TimeZone,
    /// The tag of this import, where one is wanted.
    pub session: Option<String>,
}

/// What a file tells of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Facts {
    pub format: Option<sniff::Format>,
    pub told: exif::Told,
    /// When a film was made.
    pub film: Option<Timestamp>,
}

impl Facts {
    /// From its first bytes; `more` reads some at a place further on, where that can be done.
    pub fn of(head: &[u8], more: impl FnOnce(u64, usize) -> Option<Vec<u8>>) -> Self {
        let format = sniff::format(head);
        if format.is_none_or(|format| !format.is_video()) {
            return Self { format, told: exif::read(head), film: None };
        }
        let film = match film::made(head) {
            film::Made::Beyond(at) => more(at, film::HEADER_BYTES).map_or(film::Made::Unknown, |m| film::of_header(&m)),
            made => made,
        };
        let film = if let film::Made::At(film) = film { Some(film) } else { None };
        Self { format, told: exif::Told::default(), film }
    }

    /// As kept in the journal: clock, offset in seconds, latitude, longitude, film in seconds since 1970.
    pub fn text(&self) -> String {
        let clock = self.told.taken.map(|taken| taken.to_string());
        let offset = self.told.offset.map(jiff::tz::Offset::seconds);
        let film = self.film.map(Timestamp::as_second);
        serde_json::json!([clock, offset, self.told.place, film]).to_string()
    }

    /// From there. The format is not kept.
    pub fn kept(text: &str) -> Self {
        type Kept = (Option<String>, Option<i32>, Option<(f64, f64)>, Option<i64>);
        let (clock, offset, place, film): Kept = serde_json::from_str(text).unwrap_or_default();
        let told = exif::Told {
            taken: clock.and_then(|clock| clock.parse().ok()),
            offset: offset.and_then(|seconds| jiff::tz::Offset::from_seconds(seconds).ok()),
            place,
        };
        Self { format: None, told, film: film.and_then(|seconds| Timestamp::from_second(seconds).ok()) }
    }
}

/// What is to be said of a file that it does not say itself.
pub struct Words {
    pub date: dates::Date,
    pub place: Option<(f64, f64, Option<f64>)>,
    pub description: Option<String>,
    pub tags: Vec<String>,
    pub favourite: bool,
    pub visibility: Visibility,
}

/// An upload, and how it came about.
pub struct Described {
    pub upload: Upload,
    pub dated: dates::Source,
    pub tags: Vec<String>,
    /// They are in the XMP that goes with it; an owner's own XMP is sent as it is.
    pub tags_in_xmp: bool,
    /// For a sidecar that comes later.
    pub facts: Option<String>,
    pub format: Option<sniff::Format>,
}

impl Telling {
    /// What the sidecar adds to what the file says.
    pub fn words(&self, row: &ContentRow, facts: &Facts) -> Words {
        let told = row.told.as_ref();
        let motion = row.role == MOTION && row.still.is_some();
        let date = dates::decide(
            &Known {
                file: facts.told,
                film: facts.film,
                taken: told.and_then(|told| told.taken),
                created: told.and_then(|told| told.created),
                place: told.and_then(|told| told.place).map(|(latitude, longitude, _)| (latitude, longitude)),
                sure: row.sure,
                name: &row.name,
                year: year_of(&row.directory),
            },
            &self.zone,
        );
        // A doubtful sidecar never outweighs the file.
        let place = told.and_then(|told| told.place).filter(|place| match facts.told.place {
            Some(has) => row.sure && !same_place(has, *place),
            None => true,
        });
        let description = told.and_then(|told| told.description.clone().filter(|text| *text != told.title));
        let flags = told.map_or(0, |told| told.flags);
        Words {
            date,
            place,
            description,
            tags: if motion { vec![] } else { self.tags(row) },
            favourite: flags & flag::FAVOURITE != 0 && !motion,
            visibility: self.visibility(flags, motion),
        }
    }

    /// Describes a content from what its file tells. `own_xmp` is the text of a sidecar that lay beside it.
    pub fn describe(&self, row: &ContentRow, facts: &Facts, own_xmp: Option<String>) -> Described {
        let words = self.words(row, facts);
        let motion = row.role == MOTION && row.still.is_some();
        let moment = self.moment(row, &words);
        let said = xmp::Said {
            taken: words.date.send.as_ref(),
            place: words.place,
            description: words.description.as_deref(),
            tags: &words.tags,
        };
        let owner_wrote = own_xmp.is_some();
        let xmp = own_xmp.or_else(|| (!motion).then(|| xmp::document(&said)).flatten());
        let name = self.name(row, motion);
        let upload = Upload {
            name: facts.format.map_or(name.clone(), |format| sniff::right_name(&name, format)),
            created: moment,
            modified: moment,
            favourite: words.favourite,
            visibility: words.visibility,
            live_video: None,
            xmp,
            sha1: row.sha1,
            bytes: row.piece.bytes,
            device_asset_id: format!("{}-{:08x}-{}", row.name, row.piece.crc32, row.piece.bytes),
        };
        let dated = words.date.source;
        let (format, facts) = (facts.format, row.sidecar.is_none().then(|| facts.text()));
        Described { upload, dated, tags: words.tags, tags_in_xmp: !owner_wrote, facts, format }
    }

    /// When it was taken, as far as anybody knows.
    fn moment(&self, row: &ContentRow, words: &Words) -> Timestamp {
        words.date.moment.unwrap_or_else(|| self.last_resort(row))
    }

    /// Does nobody but the file tell whether it is of the dates asked for? What a sidecar dates is judged by the plan, and a moving
    /// half goes with its still.
    pub fn is_judged_when_read(&self, row: &ContentRow) -> bool {
        let undated = row.told.as_ref().is_none_or(|told| told.taken.is_none());
        self.options.wants_dates() && row.still.is_none() && undated
    }

    /// Is it then of another date, as it would be sent?
    pub fn is_of_other_date(&self, row: &ContentRow, facts: &Facts) -> bool {
        self.is_judged_when_read(row)
            && self.options.is_other_date(self.moment(row, &self.words(row, facts)).as_second())
    }

    /// The title, which is whole where the name was cut; an edited copy keeps its name, which tells it from its original.
    fn name(&self, row: &ContentRow, motion: bool) -> String {
        let title = row.told.as_ref().map(|told| told.title.as_str());
        let title = title.filter(|title| !title.is_empty() && row.sure && !motion && row.role != EDITED);
        let Some(title) = title else { return row.name.clone() };
        let clean = title.replace(['/', '\\', '\0', '\r', '\n', '"'], "_");
        match names::split_extension(&clean).1 {
            "" => format!("{clean}{}", names::split_extension(&row.name).1),
            _ => clean,
        }
    }

    fn visibility(&self, flags: i64, motion: bool) -> Visibility {
        match () {
            () if motion => Visibility::Hidden,
            () if flags & flag::LOCKED != 0 && self.options.locked == Locked::Locked => Visibility::Locked,
            () if flags & (flag::ARCHIVED | flag::LOCKED) != 0 => Visibility::Archive,
            () => Visibility::Timeline,
        }
    }

    /// All tags of a photo.
    pub fn tags(&self, row: &ContentRow) -> Vec<String> {
        let options = &self.options;
        let mut tags = options.tags.clone();
        tags.extend(self.session.clone());
        if options.takeout_tag && !row.export.is_empty() {
            tags.push(format!("takeout/{}", row.export));
        }
        match &row.told {
            Some(told) => {
                if options.people_tags {
                    tags.extend(told.people.iter().map(|name| format!("People/{}", name.replace('/', "_"))));
                }
                if options.partner == Partner::Tag && told.flags & flag::PARTNER != 0 {
                    tags.push("takeout/partner".to_owned());
                }
            }
            None if options.takeout_tag && options.source == crate::options::Source::Takeout => {
                tags.push(UNMATCHED.to_owned());
            }
            None => {}
        }
        tags.sort();
        tags.dedup();
        tags
    }

    /// Of a file that nobody dates: its own time stamp in a folder, the upload to Google, the export.
    fn last_resort(&self, row: &ContentRow) -> Timestamp {
        let mtime = row.piece.mtime_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let created = || row.told.as_ref().and_then(|told| Timestamp::from_second(told.created?).ok());
        let export = || {
            let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &row.export).ok()?;
            date.to_zoned(TimeZone::UTC).ok().map(|date| date.timestamp())
        };
        mtime.or_else(created).or_else(export).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

fn same_place(a: (f64, f64), b: (f64, f64, Option<f64>)) -> bool {
    (a.0 - b.0).abs() < SAME_PLACE_DEGREES && (a.1 - b.1).abs() < SAME_PLACE_DEGREES
}

/// The year at the end of a folder's name, as folders of years have it in every language.
pub(crate) fn year_of(directory: &str) -> Option<i16> {
    let digits = directory.get(directory.len().checked_sub(4)?..)?;
    let year: i16 = digits.parse().ok()?;
    (1800..2100).contains(&year).then_some(year)
}
