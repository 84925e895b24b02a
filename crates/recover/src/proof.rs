//! What a drill found, written down where it can't be forged unseen.
//! ```text
//!     .haven/drills/20261126T213000Z-L1-far.json      the report
//!                                       .proven    SHA-1s of what was read and matched, 20 bytes each, sorted
//!                                       .mac       over the report, with a key of the library's
//! ```
//! The report holds the digest of the list. A report whose MAC is not right is told, and never believed. Whoever can
//! unlock the library could make one; a program that merely writes to the mount can't.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use haven_format::Keys;
use haven_point::{
    check::{self, What, Why},
    immich::Sha1,
};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The folder of all reports, relative to the library's root.
pub const FOLDER: &str = ".haven/drills";
/// `20261126T213000Z`
const STAMP: &str = "%Y%m%dT%H%M%SZ";
/// The version that is written.
pub const VERSION: u64 = 1;

/// A drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub haven_drill: u64,
    /// 0 to 2.
    pub level: u8,
    pub library: String,
    /// What the copy is called: `library`, or its name in haven.toml.
    pub copy: String,
    /// `library`, `replica`, `folder`, `borg` or `restic`.
    pub kind: String,
    /// Whose newest point was wanted, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    pub point: Option<String>,
    /// The point's instant.
    pub taken: Option<Timestamp>,
    pub age_seconds: Option<i64>,
    pub started: Timestamp,
    pub finished: Timestamp,
    pub host: String,
    pub haven: String,
    pub ok: bool,
    pub steps: Vec<Step>,
    /// Rows whose files should be there.
    pub assets: u64,
    /// Of these: those whose bytes were read and had the right SHA-1.
    pub proven: u64,
    /// Bytes read for it.
    pub bytes: u64,
    pub seconds_to_first_photo: Option<f64>,
    pub seconds_to_complete: f64,
    pub broken: Vec<BrokenAsset>,
    /// Files that Immich makes again, and that are not there.
    pub regenerable: u64,
    /// Files no row knows, and that were not touched.
    pub without_row: u64,
    /// Of the list of what was proven.
    pub proven_sha256: String,
}

impl Report {
    /// The application whose point it was, or was to be.
    pub fn application(&self) -> Option<&str> {
        self.point.as_deref().and_then(haven_point::application).or(self.of.as_deref())
    }
}

/// A part of a drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub ok: bool,
    pub said: String,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenAsset {
    /// Of the asset, or of the user whose picture it is.
    pub id: String,
    /// `original`, `sidecar` or `profile`.
    pub what: String,
    pub path: String,
    pub why: String,
}

impl From<&check::Broken> for BrokenAsset {
    fn from(broken: &check::Broken) -> Self {
        let what = match broken.what {
            What::Original => "original",
            What::Sidecar => "sidecar",
            What::Profile => "profile",
        };
        let why = match &broken.why {
            Why::Missing => "it is not there".into(),
            Why::Differs { expected, found, bytes } => {
                format!("it holds something else: {bytes} bytes with SHA-1 {found} instead of {expected}")
            }
            Why::Unreadable { error } => format!("it can't be read: {error}"),
            Why::Outside => "its path is not in Immich's folder".into(),
            Why::NoChecksum => "its row has no SHA-1".into(),
        };
        Self { id: broken.id.clone(), what: what.into(), path: broken.path.clone(), why }
    }
}

/// What became of a report that was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    Good {
        name: String,
        report: Box<Report>,
    },
    /// Not signed by this library's key, or not what was signed.
    Bad {
        name: String,
        why: String,
    },
    /// It could not be read just now, so nothing is known of it.
    Unread {
        name: String,
        why: String,
    },
}

/// When the drill of that name began, and at which level, as the name tells it: nobody has signed that.
pub fn named(name: &str) -> Option<(Timestamp, u8)> {
    let (stamp, rest) = name.split_once("-L")?;
    let level = rest.split('-').next()?.parse().ok()?;
    Some((DateTime::strptime(STAMP, stamp).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(), level))
}

/// The list of what was proven: sorted, each once.
pub fn list(mut proven: Vec<Sha1>) -> Vec<u8> {
    proven.sort_unstable();
    proven.dedup();
    proven.concat()
}

pub fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

/// Writes it down below the root of a mounted library; its name there.
pub fn record(root: &Path, keys: &Keys, report: &Report, proven: &[u8]) -> Result<PathBuf, Error> {
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder).map_err(Error::write(&folder))?;
    let stamp = report.started.strftime(STAMP);
    let plain: String =
        report.copy.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect();
    let base = folder.join(format!("{stamp}-L{}-{plain}", report.level));
    let mut text = serde_json::to_vec_pretty(report).expect("a report has plain members");
    text.push(b'\n');
    let mac = HEXLOWER.encode(&keys.report_tag(&text)) + "\n";
    // The report goes last: with it, all is there.
    for (end, bytes) in [("proven", proven), ("mac", mac.as_bytes()), ("json", text.as_slice())] {
        let path = base.with_extension(end);
        let half = base.with_extension(format!("{end}.part"));
        let write = || {
            let mut file = fs::File::create(&half)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&half, &path)
        };
        write().map_err(Error::write(&path))?;
    }
    Ok(base.with_extension("json"))
}

/// The names of all reports below `root`, oldest first.
pub fn names(root: &Path) -> Result<Vec<String>, Error> {
    let name = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(paths(&root.join(FOLDER))?.iter().map(name).collect())
}

/// All reports below `root`, oldest first.
pub fn read_all(root: &Path, keys: &Keys) -> Result<Vec<Read>, Error> {
    Ok(paths(&root.join(FOLDER))?.iter().map(|path| read(path, keys)).collect())
}

fn paths(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::read(folder)(error)),
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(Error::read(folder))?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    Ok(paths)
}

fn read(path: &Path, keys: &Keys) -> Read {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let bad = |why: String| Read::Bad { name: name.clone(), why };
    let unread = |error: std::io::Error| Read::Unread { name: name.clone(), why: error.to_string() };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => return unread(error),
    };
    let mac = match fs::read(path.with_extension("mac")) {
        Ok(mac) => mac,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return unread(error),
    };
    // The store is not asked, so nobody measures how long this takes.
    if HEXLOWER.decode(mac.trim_ascii()).ok().as_deref() != Some(&keys.report_tag(&text)[..]) {
        return bad("it was not made by this library's drills, or was changed".into());
    }
    match serde_json::from_slice(&text) {
        Ok(report) => Read::Good { name, report: Box::new(report) },
        Err(error) => bad(error.to_string()),
    }
}

/// Whether the drill called `name` has read this content and found it right; `None`: its list is gone or was changed.
pub fn proves(root: &Path, name: &str, report: &Report, sha1: &Sha1) -> Option<bool> {
    let list = fs::read(root.join(FOLDER).join(name).with_extension("proven")).ok()?;
    if sha256(&list) != report.proven_sha256 {
        return None;
    }
    let (all, rest) = list.as_chunks::<20>();
    rest.is_empty().then(|| all.binary_search(sha1).is_ok())
}
