//! The calls of the API this client makes: what each does, in words, and what the key must be allowed for it.

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// Completes "could not …".
    pub does: &'static str,
    /// As the server names it; empty where it asks for none.
    pub permission: &'static str,
}

/// Names of permissions of an API key, as Immich's page of keys shows them.
pub mod permission {
    pub const ASSET_UPLOAD: &str = "asset.upload";
    pub const ASSET_READ: &str = "asset.read";
    pub const ASSET_UPDATE: &str = "asset.update";
    pub const ASSET_DOWNLOAD: &str = "asset.download";
    pub const ASSET_DELETE: &str = "asset.delete";
    pub const ASSET_STATISTICS: &str = "asset.statistics";
    pub const ALBUM_CREATE: &str = "album.create";
    pub const ALBUM_READ: &str = "album.read";
    pub const ALBUM_ASSET_CREATE: &str = "albumAsset.create";
    pub const TAG_CREATE: &str = "tag.create";
    pub const TAG_READ: &str = "tag.read";
    pub const TAG_ASSET: &str = "tag.asset";
    pub const STACK_CREATE: &str = "stack.create";
    pub const STACK_READ: &str = "stack.read";
    pub const USER_READ: &str = "user.read";
    pub const SERVER_ABOUT: &str = "server.about";
    pub const SERVER_STORAGE: &str = "server.storage";
    pub const QUEUE_READ: &str = "queue.read";
    pub const QUEUE_UPDATE: &str = "queue.update";
    pub const JOB_READ: &str = "job.read";
    pub const JOB_CREATE: &str = "job.create";
    pub const MAINTENANCE: &str = "maintenance";
}
use permission as p;

const fn call(does: &'static str, permission: &'static str) -> Call {
    Call { does, permission }
}

pub(crate) const PING: Call = call("ask whether the server is there", "");
pub(crate) const VERSION: Call = call("ask for the server's version", "");
pub(crate) const CONFIG: Call = call("ask for the server's configuration", "");
pub(crate) const MEDIA_TYPES: Call = call("ask which kinds of files the server takes", "");
pub(crate) const ABOUT: Call = call("ask about the server", p::SERVER_ABOUT);
pub(crate) const STORAGE: Call = call("ask how much room the server has", p::SERVER_STORAGE);
pub(crate) const ME: Call = call("ask whose API key this is", p::USER_READ);
pub(crate) const KEY: Call = call("ask what the API key may", "");
pub(crate) const UPLOAD: Call = call("upload a file", p::ASSET_UPLOAD);
pub(crate) const BULK_CHECK: Call = call("ask which files the server has", p::ASSET_UPLOAD);
pub(crate) const ASSET: Call = call("read an asset", p::ASSET_READ);
pub(crate) const DOWNLOAD: Call = call("download an asset", p::ASSET_DOWNLOAD);
pub(crate) const UPDATE_ASSET: Call = call("change an asset", p::ASSET_UPDATE);
pub(crate) const TRASH: Call = call("move assets to the trash", p::ASSET_DELETE);
pub(crate) const RESTORE: Call = call("take assets out of the trash", p::ASSET_DELETE);
pub(crate) const STATISTICS: Call = call("count assets", p::ASSET_STATISTICS);
pub(crate) const SEARCH: Call = call("list assets", p::ASSET_READ);
pub(crate) const ALBUMS: Call = call("list albums", p::ALBUM_READ);
pub(crate) const CREATE_ALBUM: Call = call("create an album", p::ALBUM_CREATE);
pub(crate) const FILL_ALBUM: Call = call("put photos into an album", p::ALBUM_ASSET_CREATE);
pub(crate) const TAGS: Call = call("list tags", p::TAG_READ);
pub(crate) const CREATE_TAGS: Call = call("create tags", p::TAG_CREATE);
pub(crate) const TAG_ASSETS: Call = call("tag photos", p::TAG_ASSET);
pub(crate) const CREATE_STACK: Call = call("stack photos", p::STACK_CREATE);
pub(crate) const QUEUES: Call = call("ask for the queues of jobs", p::QUEUE_READ);
pub(crate) const PAUSE: Call = call("pause or resume jobs", p::QUEUE_UPDATE);
pub(crate) const JOBS: Call = call("ask for the queues of jobs", p::JOB_READ);
pub(crate) const JOB_COMMAND: Call = call("pause or resume jobs", p::JOB_CREATE);
pub(crate) const MAINTENANCE: Call = call("change maintenance mode", p::MAINTENANCE);
pub(crate) const MAINTENANCE_STATUS: Call = call("ask for maintenance mode", "");
