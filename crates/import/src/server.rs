//! What an import asks of a photo server: the port that a client of a real server fills.
//!
//! Each call is one attempt. Waiting, retrying and slowing down are the caller's, who is told by [`ServerError`] which of
//! them may help; a client that retries by itself would hide from the owner what the import waits for.

use std::{fmt, io, str::FromStr, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::{Timestamp, Zoned};

/// SHA-1 of a whole file: what the server knows contents by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha1(pub [u8; 20]);

impl fmt::Display for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! id {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        ///
        /// Made by the server, and never empty: an empty one poisons every request that carries it.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = EmptyId;

            fn from_str(id: &str) -> Result<Self, EmptyId> {
                if id.is_empty() { Err(EmptyId) } else { Ok(Self(id.to_owned())) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A photo or video on the server.
    AssetId
);
id!(
    /// An album on the server.
    AlbumId
);
id!(
    /// A tag on the server.
    TagId
);

/// An id from the server was empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an empty id")]
pub struct EmptyId;

/// What is known of the server and of who speaks with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Major, minor, patch.
    pub version: (u32, u32, u32),
    /// The id of the user whose key it is: assets are known by their content per user.
    pub user_id: String,
    pub user_name: String,
    /// How many assets the user has, trash and all; none where the server does not tell.
    pub assets: Option<u64>,
    /// What the user may still add, in bytes; none where there is no quota.
    pub quota_left_bytes: Option<u64>,
    /// What the server's disk has room for, in bytes; none where the key may not ask.
    pub disk_left_bytes: Option<u64>,
    /// The extensions it takes, lower case, with their dot.
    pub extensions: Vec<String>,
    /// What the key may do, in the server's words; none where the server does not tell. `all` is everything.
    pub permissions: Option<Vec<String>>,
}

/// What the user has: hidden moving halves and the locked folder are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub images: u64,
    pub videos: u64,
    pub trashed: u64,
}

impl Counts {
    pub fn total(self) -> u64 {
        self.images + self.videos + self.trashed
    }
}

/// Where an asset is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    #[default]
    Timeline,
    Archive,
    /// The moving half of a live photo.
    Hidden,
    Locked,
}

/// All that one upload says of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Upload {
    /// With the extension that its content has: the server decides by that.
    pub name: String,
    /// When it was taken, as far as known without the file.
    pub created: Timestamp,
    pub modified: Timestamp,
    pub favourite: bool,
    pub visibility: Visibility,
    /// The moving half, uploaded before its still.
    pub live_video: Option<AssetId>,
    /// The XMP document that goes with it as its sidecar.
    pub xmp: Option<String>,
    /// Where it is known beforehand: the server may then answer before it has read the body.
    pub sha1: Option<Sha1>,
    /// Of the body.
    pub bytes: u64,
    /// The same on each attempt (servers up to v2 want it).
    pub device_asset_id: String,
}

/// The bytes of a file. It fails where the source fails or is not what it should be: the client must then break off, so
/// that the server gets no whole request and keeps nothing.
pub type Body = BoxStream<'static, io::Result<Bytes>>;

/// An answer to an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    pub id: AssetId,
    /// The server had these bytes already; perhaps in its trash. What the upload said of them was ignored.
    pub duplicate: bool,
}

/// What the server has of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    pub id: AssetId,
    pub trashed: bool,
}

/// An asset as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    pub id: AssetId,
    pub sha1: Option<Sha1>,
    pub trashed: bool,
    pub favourite: bool,
    pub visibility: Visibility,
    pub live_video: Option<AssetId>,
}

/// What is to be changed of assets; what is none stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    pub favourite: Option<bool>,
    pub visibility: Option<Visibility>,
    /// The moving half of the one asset that is changed.
    pub live_video: Option<AssetId>,
    /// What is said of the one asset that is changed: when it was taken, latitude and longitude, a text.
    pub taken: Option<Zoned>,
    pub place: Option<(f64, f64)>,
    pub description: Option<String>,
}

/// An album as the server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Album {
    pub id: AlbumId,
    pub title: String,
    /// By the user of the key.
    pub owned: bool,
}

/// What became of one asset of a call about many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Added,
    /// It was so already.
    Already,
    /// In the server's word: `not_found`, `no_permission`, …
    Not(String),
}

/// A queue of background work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub name: String,
    pub paused: bool,
    /// Running and waiting work.
    pub pending: u64,
}

/// Why a call failed, by what may help.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Nobody answers, or a proxy says that nobody does: refused, reset, timed out, 502, 503, 504, 524, maintenance. It may
    /// have taken effect.
    #[error("the server does not answer: {0}")]
    Gone(String),
    /// 408, 429, 5xx: the same again, later and slower. It may have taken effect.
    #[error("the server is too busy: {what}")]
    Busy { what: String, retry_after: Option<Duration> },
    /// 413, from the server or a proxy before it.
    #[error("a request of that size is not let through: {0}")]
    TooLarge(String),
    /// No room left: quota or disk.
    #[error("the server has no room left: {0}")]
    Full(String),
    /// 401: the key is not known.
    #[error("the API key is not accepted: {0}")]
    Unauthorized(String),
    /// 403: the key may not do this; the permission in the server's word, where it is known.
    #[error("the API key may not do this{}: {what}", permission.as_deref().map(|p| format!(" (it lacks {p})")).unwrap_or_default())]
    Forbidden { what: String, permission: Option<String> },
    /// 400, 404, 415, 422 and the like: this request will never be taken.
    #[error("the server refuses this ({status}): {what}")]
    Refused { status: u16, what: String },
    /// It answers in a way that is not understood: no such server there, or too old or too new a one.
    #[error("this is no answer of a photo server that is known: {0}")]
    Strange(String),
    /// The body could not be read to its end; nothing was added.
    #[error("the file can't be read: {0}")]
    Source(io::Error),
}

/// A photo server.
#[async_trait]
pub trait Server: Send + Sync + 'static {
    /// Does it serve, or would it fail whatever it is asked? Cheap.
    async fn ping(&self) -> Result<(), ServerError>;

    async fn about(&self) -> Result<About, ServerError>;

    async fn counts(&self) -> Result<Counts, ServerError>;

    /// For each content, in order: what the server has of it, in its trash too. Up to 1,000 a call.
    async fn present(&self, contents: &[Sha1]) -> Result<Vec<Option<Present>>, ServerError>;

    /// Uploads a file. An answer that comes before the body was read is taken, and the rest is not sent. There is no limit
    /// of the whole time: only a stall (no byte taken for 60 s, no answer for 300 s) ends it, as [`ServerError::Gone`].
    async fn upload(&self, upload: &Upload, body: Body) -> Result<Uploaded, ServerError>;

    /// Does what stands before the server let requests of that length through? Nothing is sent.
    async fn lets_through(&self, bytes: u64) -> Result<bool, ServerError>;

    /// None where it does not exist.
    async fn asset(&self, id: &AssetId) -> Result<Option<Asset>, ServerError>;

    /// The SHA-1 of an asset's bytes, downloaded from the server.
    async fn downloaded(&self, id: &AssetId) -> Result<Sha1, ServerError>;

    async fn change(&self, ids: &[AssetId], change: &Change) -> Result<(), ServerError>;

    /// Puts assets in the trash; never deletes.
    async fn trash(&self, ids: &[AssetId]) -> Result<(), ServerError>;

    /// Takes assets out of the trash.
    async fn restore(&self, ids: &[AssetId]) -> Result<(), ServerError>;

    /// All albums that the user sees.
    async fn albums(&self) -> Result<Vec<Album>, ServerError>;

    async fn create_album(&self, title: &str, description: &str, ids: &[AssetId]) -> Result<AlbumId, ServerError>;

    /// For each asset, in order, what became of it. Up to 500 a call.
    async fn add_to_album(&self, album: &AlbumId, ids: &[AssetId]) -> Result<Vec<Done>, ServerError>;

    /// All members of an album, of any visibility but locked; none where there is no such album.
    async fn album_members(&self, album: &AlbumId) -> Result<Option<Vec<AssetId>>, ServerError>;

    /// Makes the tags that are not there (`a/b` is `b` under `a`); their ids in order.
    async fn tags(&self, names: &[String]) -> Result<Vec<TagId>, ServerError>;

    /// Adds each tag to each asset; having it already is no error.
    async fn tag_assets(&self, tags: &[TagId], ids: &[AssetId]) -> Result<(), ServerError>;

    /// Takes a tag off assets; not having it is no error.
    async fn untag_assets(&self, tag: &TagId, ids: &[AssetId]) -> Result<(), ServerError>;

    /// Stacks at least two assets; the first is on top.
    async fn stack(&self, ids: &[AssetId]) -> Result<(), ServerError>;

    /// The queues of background work. Wants an administrator's key.
    async fn queues(&self) -> Result<Vec<Queue>, ServerError>;

    async fn pause_queue(&self, name: &str, paused: bool) -> Result<(), ServerError>;
}
