//! Whose key it is, what it may do, and what the server takes.

use serde::Deserialize;

use crate::{Error, Id, Immich, call};

/// The user the key belongs to.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    pub id: Id,
    pub email: String,
    pub name: String,
    pub is_admin: bool,
    /// Bytes this user may use; none where there is no limit.
    #[serde(default, rename = "quotaSizeInBytes")]
    pub quota_bytes: Option<u64>,
    #[serde(default, rename = "quotaUsageInBytes")]
    pub used_bytes: Option<u64>,
}

impl Account {
    /// Bytes that still fit into the quota.
    pub fn room(&self) -> Option<u64> {
        Some(self.quota_bytes?.saturating_sub(self.used_bytes.unwrap_or(0)))
    }
}

/// What a key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPermissions(Vec<String>);

impl KeyPermissions {
    /// In the server's words; `all` is everything.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Those of `wanted` the key lacks.
    pub fn lacks<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        let has = |name: &str| self.0.iter().any(|own| own == "all" || own == name);
        wanted.iter().copied().filter(|name| !has(name)).collect()
    }
}

/// Extensions with their dots, in lower case.
#[derive(Debug, Clone, Deserialize)]
pub struct MediaTypes {
    pub image: Vec<String>,
    pub video: Vec<String>,
    pub sidecar: Vec<String>,
}

impl MediaTypes {
    /// Does the server take a file of this name?
    pub fn takes(&self, name: &str) -> bool {
        let Some(dot) = name.rfind('.') else { return false };
        let extension = name[dot..].to_lowercase();
        self.image.iter().chain(&self.video).any(|known| *known == extension)
    }
}

/// The disk under the server's media location.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Storage {
    #[serde(rename = "diskAvailableRaw")]
    pub available_bytes: u64,
    #[serde(rename = "diskSizeRaw")]
    pub size_bytes: u64,
}

#[derive(Deserialize)]
struct Key {
    permissions: Vec<String>,
}

#[derive(Deserialize)]
struct About {
    version: String,
}

impl Immich {
    /// Whose key this is. The first call that fails where the key is wrong.
    pub async fn account(&self) -> Result<Account, Error> {
        self.get(call::ME, "/users/me").await
    }

    /// What the key may do; none where the server is too old to tell.
    pub async fn key_permissions(&self) -> Result<Option<KeyPermissions>, Error> {
        match self.get::<Key>(call::KEY, "/api-keys/me").await {
            Ok(key) => Ok(Some(KeyPermissions(key.permissions))),
            // Where there is no `me`, it is read as the id of a key and refused, for lack of the right to read keys too.
            Err(Error::Refused { status: 400 | 404, .. } | Error::Key { permission: Some(_), .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Which files the server takes.
    pub async fn media_types(&self) -> Result<MediaTypes, Error> {
        self.get(call::MEDIA_TYPES, "/server/media-types").await
    }

    /// How much room the server's disk has.
    pub async fn storage(&self) -> Result<Storage, Error> {
        self.get(call::STORAGE, "/server/storage").await
    }

    /// The build, as the server's own page shows it.
    pub async fn about(&self) -> Result<String, Error> {
        Ok(self.get::<About>(call::ABOUT, "/server/about").await?.version)
    }
}
