//! What is said of a file when it is uploaded: its name, its date, and the XMP sidecar with what the file lacks.

use haven_takeout::{
    dates::{self, Known},
    exif, names, sniff, xmp,
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

/// What every description needs.
pub struct Telling {
    pub options: Options,
    pub zone: TimeZone,
    /// The tag of this import, where one is wanted.
    pub session: Option<String>,
}

/// An upload, and how it came about.
pub struct Described {
    pub upload: Upload,
    pub dated: &'static str,
    pub tags: Vec<String>,
    /// They are in the XMP that goes with it; an owner's own XMP is sent as it is.
    pub tags_in_xmp: bool,
}

impl Telling {
    /// Describes a content from the beginning of its bytes. `own_xmp` is the text of a sidecar that lay beside it.
    pub fn describe(&self, row: &ContentRow, head: &[u8], own_xmp: Option<String>) -> Described {
        let format = sniff::format(head);
        let picture = format.is_none_or(|format| !format.is_video());
        let file = if picture { exif::read(head) } else { exif::Told::default() };
        let told = row.told.as_ref();
        let motion = row.role == MOTION && row.still.is_some();
        let date = dates::decide(
            &Known {
                file,
                taken: told.and_then(|told| told.taken),
                created: told.and_then(|told| told.created),
                place: told.and_then(|told| told.place).map(|(latitude, longitude, _)| (latitude, longitude)),
                sure: row.sure,
                name: &row.name,
                year: year_of(&row.directory),
            },
            &self.zone,
        );
        let moment = date.moment.unwrap_or_else(|| self.last_resort(row));
        let tags = if motion { vec![] } else { self.tags(row) };
        // A doubtful sidecar never outweighs the file.
        let place = told.and_then(|told| told.place).filter(|place| match file.place {
            Some(has) => row.sure && !same_place(has, *place),
            None => true,
        });
        let description = told.and_then(|told| told.description.as_deref().filter(|text| *text != told.title));
        let said = xmp::Said { taken: date.send.as_ref(), place, description, tags: &tags };
        let owner_wrote = own_xmp.is_some();
        let xmp = own_xmp.or_else(|| (!motion).then(|| xmp::document(&said)).flatten());
        let flags = told.map_or(0, |told| told.flags);
        let name = row.name.as_str();
        let title = told.map(|told| told.title.as_str()).filter(|title| {
            !title.is_empty() && row.sure && !motion && row.role != EDITED && names::media_name(title) != name
        });
        let name =
            title.map_or_else(|| name.to_owned(), |title| title.replace(['/', '\\', '\0', '\r', '\n', '"'], "_"));
        let upload = Upload {
            name: format.map_or(name.clone(), |format| sniff::right_name(&name, format)),
            created: moment,
            modified: moment,
            favourite: flags & flag::FAVOURITE != 0 && !motion,
            visibility: self.visibility(flags, motion),
            live_video: None,
            xmp,
            sha1: row.sha1,
            bytes: row.piece.bytes,
            device_asset_id: format!("{}-{:08x}-{}", row.name, row.piece.crc32, row.piece.bytes),
        };
        Described { upload, dated: date.source.word(), tags, tags_in_xmp: !owner_wrote }
    }

    fn visibility(&self, flags: i64, motion: bool) -> Visibility {
        match () {
            () if motion => Visibility::Hidden,
            () if flags & flag::LOCKED != 0 && self.options.locked == Locked::Locked => Visibility::Locked,
            () if flags & (flag::ARCHIVED | flag::LOCKED) != 0 => Visibility::Archive,
            () => Visibility::Timeline,
        }
    }

    fn tags(&self, row: &ContentRow) -> Vec<String> {
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
                tags.push("takeout/unmatched".to_owned());
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
fn year_of(directory: &str) -> Option<i16> {
    let digits = directory.get(directory.len().checked_sub(4)?..)?;
    let year: i16 = digits.parse().ok()?;
    (1800..2100).contains(&year).then_some(year)
}
