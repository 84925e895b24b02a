//! What is written down about a point: JSON, for programs of any age and for people.
//!
//! Names that a reader does not know it passes over; what changes the meaning of others raises [`VERSION`].

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The version that is written, and the only one that is read.
pub const VERSION: u64 = 1;

/// All that is known about a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub haven_point: u64,
    pub name: String,
    /// What it was taken of: the name of its table `[backup.NAME]` in haven.toml.
    pub application: String,
    pub kind: Kind,
    /// The instant: nothing in the files or the database is later, and nothing earlier is missing.
    pub taken: Timestamp,
    pub finished: Timestamp,
    pub host: String,
    /// The version of Haven that took it.
    pub haven: String,
    pub quiesce: Quiesce,
    pub files: Files,
    /// Absent for a point of files alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// Present for Immich's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immich: Option<Immich>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Immich,
    /// Any other application with a PostgreSQL database.
    Postgres,
    /// Files alone.
    Folder,
}

/// How everything was made to stand still.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quiesce {
    /// As in haven.toml: `freeze`, `maintenance`, `units`, `compose` or `commands`.
    pub by: String,
    /// For how long no file could be changed, milliseconds.
    pub frozen_ms: f64,
    /// How often it was tried, this time included.
    pub tries: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Files {
    /// The snapshot of the library that holds them.
    pub snapshot: String,
    /// The application's folder, relative to the library's root; empty: all of it.
    pub folder: String,
    /// Of the whole snapshot: files, directories and links.
    pub inodes: u64,
    /// Bytes in its files.
    pub bytes: u64,
    /// Of the application's folder alone; absent where that was not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Own>,
}

/// What an application's folder holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Files and links, without directories.
    pub files: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Database {
    pub name: String,
    pub dump: Part,
    /// Absent where they could not be had (only a superuser may read all of them).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Part>,
    pub owner: String,
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// As the server tells it, `15.14 (Debian 15.14-0+deb12u1)`.
    pub server: String,
    /// The same as a number, `150014`: its first part by 10000 is the major version.
    pub server_number: u32,
    /// Of the program that dumped.
    pub pg_dump: String,
    /// Where the write-ahead log stood at the instant, `0/1500790`.
    pub wal: String,
    /// Tells clusters apart.
    pub system: String,
    pub bytes: u64,
    pub extensions: BTreeMap<String, String>,
    /// Rows at the instant, by `schema.table`; counted in the database, and equal in the dump. Of an extension's tables
    /// those that are in the dump, where it has any.
    pub rows: BTreeMap<String, u64>,
}

impl Database {
    pub fn major(&self) -> u32 {
        self.server_number / 10_000
    }
}

/// A file beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub file: String,
    pub bytes: u64,
    /// Hexadecimal.
    pub sha256: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Immich {
    /// As its database tells it, `3.1.0`; empty: it does not.
    pub version: String,
    /// What the paths in the database begin with, `/data`; empty: they are relative.
    pub media_location: String,
    /// Whether the database says that the server is in maintenance mode: to be cleared when it is brought back.
    pub maintenance: bool,
    /// Rows of its table of migrations, and the last one's name.
    pub migrations: u64,
    pub last_migration: String,
    /// Rows of `asset`, or `assets` in older versions.
    pub assets: u64,
    /// What the `.immich` files hold, by folder; `null`: it is not there.
    pub sentinels: BTreeMap<String, Option<String>>,
}

impl Manifest {
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read(path).map_err(Error::read(path))?;
        let broken = |why: String| Error::Manifest { path: path.into(), why };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        match value.get("haven_point").and_then(serde_json::Value::as_u64) {
            Some(VERSION) => {}
            Some(version) if version > VERSION => return Err(Error::Newer { path: path.into(), version }),
            _ => return Err(broken("it does not say haven_point".into())),
        }
        let manifest: Self = serde_json::from_value(value).map_err(|error| broken(error.to_string()))?;
        match manifest.leads_out() {
            Some(name) => Err(broken(format!("it names {name:?}, which leads out of the library"))),
            None => Ok(manifest),
        }
    }

    /// A name in it that a reader must not follow.
    fn leads_out(&self) -> Option<&str> {
        let plain = |name: &&str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        let inside = |path: &str| {
            path.is_empty() || Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
        };
        let names = self.parts().map(|part| part.file.as_str()).chain([self.files.snapshot.as_str()]);
        names
            .into_iter()
            .find(|name| !plain(name))
            .or_else(|| (!inside(&self.files.folder)).then_some(&self.files.folder))
    }

    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("a manifest has plain members");
        text.push(b'\n');
        text
    }

    /// The files that stand beside it.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.database.iter().flat_map(|database| std::iter::once(&database.dump).chain(&database.roles))
    }
}
