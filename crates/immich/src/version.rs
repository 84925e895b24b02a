//! Versions of the server, and what they differ in.

use std::fmt;

use serde::Deserialize;

/// A released version, as `GET /server/version` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    /// The oldest whose answers this client knows.
    pub const OLDEST: Self = Self::new(1, 135, 0);
    /// The newest major version whose answers it knows.
    pub const NEWEST_MAJOR: u32 = 3;

    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Uploads must carry `deviceAssetId` and `deviceId`, which v3 no longer knows.
    pub fn wants_device_ids(self) -> bool {
        self < Self::new(3, 0, 0)
    }

    /// `/queues`; before that only `/jobs` holds a queue still.
    pub fn has_queues(self) -> bool {
        self >= Self::new(2, 4, 0)
    }

    /// `/admin/maintenance`.
    pub fn has_maintenance(self) -> bool {
        self >= Self::new(2, 3, 0)
    }

    /// `/admin/maintenance/status`, which tells without a key; before that `/server/config` does.
    pub fn has_maintenance_status(self) -> bool {
        self >= Self::new(2, 5, 0)
    }

    /// `GET /albums` is asked for one's own by `isOwned`; before v3 it gives one's own unless asked otherwise.
    pub fn asks_owned(self) -> bool {
        self >= Self::new(3, 0, 0)
    }

    /// A list that names no visibility has all but locked assets; before v3 those of the timeline.
    pub fn lists_all_visibilities(self) -> bool {
        self >= Self::new(3, 0, 0)
    }

    /// The length of a video is sent in milliseconds; before v3 as text, which is left to the server to find.
    pub fn takes_duration(self) -> bool {
        self >= Self::new(3, 0, 0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}
