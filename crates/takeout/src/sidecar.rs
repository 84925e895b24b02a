//! The JSON beside the photos: what is said of a photo, of an album, and what is neither.
//!
//! The content decides, not the file's name: names of album files are localized.

use serde::Deserialize;
use serde_json::Value;

/// What a JSON file of a Takeout is.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// It tells of one photo or video.
    Photo(Box<Photo>),
    /// It tells of the directory it lies in.
    Album(Album),
    /// Comments, print orders, titles of memories: to be reported, and nothing more.
    Other,
}

/// What Google Photos knew of a photo.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Photo {
    pub title: String,
    pub description: String,
    /// Seconds since 1970, UTC; may be negative. None where Google wrote 0.
    pub taken: Option<i64>,
    /// When it was uploaded: never a date of capture.
    pub created: Option<i64>,
    /// What the owner saw, and may have corrected; else what the file says.
    pub place: Option<Place>,
    pub favourite: bool,
    pub archived: bool,
    pub trashed: bool,
    pub locked: bool,
    /// It came from somebody with whom the library is shared.
    pub partner: bool,
    /// It was saved from an album of somebody else.
    pub from_shared_album: bool,
    pub people: Vec<String>,
    /// The photo's address at Google, which stays the same from export to export.
    pub url: String,
}

/// A place on earth, in degrees, and metres above the sea.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    pub latitude: f64,
    pub longitude: f64,
    pub altitude: Option<f64>,
}

/// What Google Photos knew of an album.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Album {
    /// Empty for albums without a title.
    pub title: String,
    pub description: String,
    pub place: Option<Place>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPhoto {
    title: Value,
    description: Value,
    photo_taken_time: Option<RawTime>,
    creation_time: Option<RawTime>,
    geo_data: Option<RawPlace>,
    geo_data_exif: Option<RawPlace>,
    favorited: bool,
    archived: bool,
    trashed: bool,
    in_locked_folder: bool,
    people: Vec<RawPerson>,
    url: Value,
    google_photos_origin: Value,
}

#[derive(Deserialize)]
struct RawTime {
    #[serde(default)]
    timestamp: Value,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(default)]
#[derive(Default)]
struct RawPlace {
    latitude: f64,
    longitude: f64,
    altitude: f64,
}

#[derive(Deserialize)]
struct RawPerson {
    #[serde(default)]
    name: Value,
}

/// Reads a JSON file of a Takeout. The error is of the JSON itself: what is well formed and unknown is [`Json::Other`].
pub fn parse(bytes: &[u8]) -> Result<Json, serde_json::Error> {
    let value: Value = serde_json::from_slice(bytes)?;
    if value.get("photoTakenTime").and_then(|t| t.get("timestamp")).is_some() {
        return Ok(Json::Photo(Box::new(photo(value)?)));
    }
    let album = value.get("albumData").unwrap_or(&value);
    let foreign = ["externalOrderId", "sharedAlbumComments", "comments"].iter().any(|key| value.get(key).is_some());
    match album.get("title") {
        Some(Value::String(title)) if !foreign => Ok(Json::Album(Album {
            title: title.clone(),
            description: text(album.get("description")),
            place: album.get("geoData").and_then(|p| RawPlace::deserialize(p).ok()).and_then(place),
        })),
        _ => Ok(Json::Other),
    }
}

fn photo(value: Value) -> Result<Photo, serde_json::Error> {
    let raw: RawPhoto = serde_json::from_value(value)?;
    let seconds = |time: &Option<RawTime>| time.as_ref().and_then(|t| seconds(&t.timestamp)).filter(|s| *s != 0);
    let origin = |key: &str| raw.google_photos_origin.get(key).is_some();
    Ok(Photo {
        title: text(Some(&raw.title)),
        description: text(Some(&raw.description)),
        taken: seconds(&raw.photo_taken_time),
        created: seconds(&raw.creation_time),
        place: raw.geo_data.and_then(place).or_else(|| raw.geo_data_exif.and_then(place)),
        favourite: raw.favorited,
        archived: raw.archived,
        trashed: raw.trashed,
        locked: raw.in_locked_folder,
        partner: origin("fromPartnerSharing"),
        from_shared_album: origin("fromSharedAlbum"),
        people: raw.people.iter().map(|p| text(Some(&p.name))).filter(|name| !name.is_empty()).collect(),
        url: text(Some(&raw.url)),
    })
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or("").to_owned()
}

fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// 0/0 is how Google says that there is none.
fn place(raw: RawPlace) -> Option<Place> {
    let somewhere = raw.latitude != 0.0 || raw.longitude != 0.0;
    let on_earth = raw.latitude.abs() <= 90.0 && raw.longitude.abs() <= 180.0;
    (somewhere && on_earth).then_some(Place {
        latitude: raw.latitude,
        longitude: raw.longitude,
        altitude: (raw.altitude != 0.0).then_some(raw.altitude),
    })
}
