//! Whether every file that Immich's database knows is there, and is the one it knows.

use std::{
    collections::HashSet,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use data_encoding::HEXLOWER;
use rayon::prelude::*;
use serde::Serialize;

use crate::immich::{Asset, Beside, Catalogue, FOLDERS, Paths, Sha1, State};

/// Where files are read from: a folder, an archive, anything. Paths are relative to Immich's folder, `upload/…`.
pub trait Files: Sync {
    /// Bytes of a file and the SHA-1 of its content; `None`: there is no such file.
    fn sha1(&self, path: &str) -> io::Result<Option<(u64, Sha1)>>;
    /// Its length in bytes; `None`: there is no such file.
    fn length(&self, path: &str) -> io::Result<Option<u64>>;
    /// Calls `each` with every file and its length.
    fn walk(&self, each: &mut dyn FnMut(&str, u64)) -> io::Result<()>;
}

impl<F: Files + ?Sized> Files for &F {
    fn sha1(&self, path: &str) -> io::Result<Option<(u64, Sha1)>> {
        (**self).sha1(path)
    }

    fn length(&self, path: &str) -> io::Result<Option<u64>> {
        (**self).length(path)
    }

    fn walk(&self, each: &mut dyn FnMut(&str, u64)) -> io::Result<()> {
        (**self).walk(each)
    }
}

/// What a check came to. A point is *good* when nothing is [`Report::broken`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows whose files were read and compared.
    pub assets: u64,
    /// Of these: in the trash, and in the middle of a move.
    pub trashed: u64,
    pub moving: u64,
    /// Of these: the moving parts of photos.
    pub motion_parts: u64,
    pub bytes: u64,
    /// Rows that promise nothing about this folder: external libraries, and assets being deleted.
    pub external: u64,
    pub deleted: u64,
    pub sidecars: u64,
    pub profiles: u64,
    /// Files that Immich makes by itself.
    pub derived: u64,
    pub broken: Vec<Broken>,
    /// Of those that Immich makes by itself, the ones that are missing: it makes them again when asked.
    pub regenerable: Vec<Missing>,
    /// Originals, sidecars and pictures of users that no row knows. Normal in small numbers: failed uploads, deletions under way.
    pub without_row: Vec<Stray>,
    pub without_row_bytes: u64,
}

impl Report {
    pub fn good(&self) -> bool {
        self.broken.is_empty()
    }
}

/// A file that is not as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Of the asset, or the user.
    pub id: String,
    pub what: What,
    /// As in the database.
    pub path: String,
    #[serde(flatten)]
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Original,
    Sidecar,
    Profile,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Why {
    Missing,
    /// The file holds something else.
    Differs {
        expected: String,
        found: String,
        bytes: u64,
    },
    Unreadable {
        error: String,
    },
    /// The row's path is not in Immich's folder.
    Outside,
    /// The row has no SHA-1 to compare with.
    NoChecksum,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub id: String,
    pub kind: Beside,
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stray {
    /// Relative to Immich's folder.
    pub path: String,
    pub bytes: u64,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub assets: u64,
    pub of: u64,
    pub bytes: u64,
}

/// Compares all there is. `told` is called after each asset, from many threads; as many files are read at a time as
/// the rayon pool that this is called in has threads.
pub fn check(
    catalogue: &Catalogue,
    paths: &Paths,
    files: &dyn Files,
    told: &(dyn Fn(Progress) + Sync),
) -> io::Result<Report> {
    let mut report = Report::default();
    let (done, bytes, of) = (AtomicU64::new(0), AtomicU64::new(0), catalogue.assets.len() as u64);
    let judged: Vec<Judged> = catalogue
        .assets
        .par_iter()
        .map(|asset| {
            let judged = judge(catalogue, paths, files, asset);
            let bytes = bytes.fetch_add(judged.bytes, Ordering::Relaxed) + judged.bytes;
            told(Progress { assets: done.fetch_add(1, Ordering::Relaxed) + 1, of, bytes });
            judged
        })
        .collect();
    for (asset, judged) in catalogue.assets.iter().zip(judged) {
        match asset.state {
            State::External => report.external += 1,
            State::Deleted => report.deleted += 1,
            State::Kept | State::Trashed => {
                report.assets += 1;
                report.trashed += u64::from(asset.state == State::Trashed);
                report.moving += u64::from(judged.moved);
                report.motion_parts += u64::from(asset.path.ends_with("-MP.mp4"));
                report.bytes += judged.bytes;
            }
        }
        report.broken.extend(judged.why.map(|why| Broken {
            id: asset.id.clone(),
            what: What::Original,
            path: asset.path.clone(),
            why,
        }));
    }
    report.look_beside(catalogue, paths, files);
    report.look_for_strays(catalogue, paths, files)?;
    Ok(report)
}

#[derive(Default)]
struct Judged {
    why: Option<Why>,
    /// It was found where `move_history` says it goes.
    moved: bool,
    bytes: u64,
}

fn judge(catalogue: &Catalogue, paths: &Paths, files: &dyn Files, asset: &Asset) -> Judged {
    let bad = |why| Judged { why: Some(why), ..Judged::default() };
    if matches!(asset.state, State::External | State::Deleted) {
        return Judged::default();
    }
    let Some(expected) = asset.sha1 else { return bad(Why::NoChecksum) };
    let mut worst = Why::Outside;
    for (place, path) in places(catalogue, &asset.id, &asset.path).enumerate() {
        let Some(path) = paths.inside(path) else { continue };
        worst = match files.sha1(path) {
            Ok(Some((bytes, found))) if found == expected => return Judged { why: None, moved: place > 0, bytes },
            Ok(Some((bytes, found))) => {
                Why::Differs { expected: HEXLOWER.encode(&expected), found: HEXLOWER.encode(&found), bytes }
            }
            // What was found at the row's own path tells more than that nothing is at another.
            Ok(None) if matches!(worst, Why::Differs { .. } | Why::Unreadable { .. }) => worst,
            Ok(None) => Why::Missing,
            Err(error) => Why::Unreadable { error: error.to_string() },
        };
    }
    bad(worst)
}

/// Where a file may be: where its row says, and at both ends of a move that is under way.
fn places<'a>(catalogue: &'a Catalogue, id: &str, path: &'a str) -> impl Iterator<Item = &'a str> {
    let moves = catalogue.moves.get(id).into_iter().flatten();
    let ends = moves.filter(move |(from, to)| from == path || to == path).flat_map(|(from, to)| [to, from]);
    std::iter::once(path).chain(ends.map(String::as_str).filter(move |end| *end != path))
}

impl Report {
    fn look_beside(&mut self, catalogue: &Catalogue, paths: &Paths, files: &dyn Files) {
        let lost: HashSet<&str> = catalogue
            .assets
            .iter()
            .filter(|asset| matches!(asset.state, State::Deleted | State::External))
            .map(|asset| asset.id.as_str())
            .collect();
        let looked: Vec<Option<Why>> = catalogue
            .beside
            .par_iter()
            .map(|(id, _, path)| {
                let mut worst = Why::Outside;
                for path in places(catalogue, id, path).filter_map(|path| paths.inside(path)) {
                    worst = match files.length(path) {
                        Ok(Some(_)) => return None,
                        Ok(None) => Why::Missing,
                        Err(error) => Why::Unreadable { error: error.to_string() },
                    };
                }
                Some(worst)
            })
            .collect();
        for ((id, kind, path), why) in catalogue.beside.iter().zip(looked) {
            // A sidecar of an external library lies there, and what is being deleted may be gone.
            if lost.contains(id.as_str()) && !kind.derived() {
                continue;
            }
            match kind {
                Beside::Sidecar => self.sidecars += 1,
                Beside::Profile => self.profiles += 1,
                _ => self.derived += 1,
            }
            let Some(why) = why else { continue };
            let what = if *kind == Beside::Profile { What::Profile } else { What::Sidecar };
            if kind.derived() {
                self.regenerable.push(Missing { id: id.clone(), kind: *kind, path: path.clone() });
            } else {
                self.broken.push(Broken { id: id.clone(), what, path: path.clone(), why });
            }
        }
    }

    fn look_for_strays(&mut self, catalogue: &Catalogue, paths: &Paths, files: &dyn Files) -> io::Result<()> {
        let rows = catalogue.assets.iter().flat_map(|asset| places(catalogue, &asset.id, &asset.path));
        let beside = catalogue.beside.iter().flat_map(|(id, _, path)| places(catalogue, id, path));
        let known: HashSet<&str> = rows.chain(beside).filter_map(|path| paths.inside(path)).collect();
        files.walk(&mut |path, bytes| {
            // What Immich makes by itself it also clears away by itself; its own dumps have no rows.
            let ours = FOLDERS.iter().find(|folder| path.starts_with(*folder) && path[folder.len()..].starts_with('/'));
            let counts = matches!(ours, Some(&("upload" | "library" | "profile")));
            if counts && !path.ends_with("/.immich") && !known.contains(path) {
                self.without_row_bytes += bytes;
                self.without_row.push(Stray { path: path.into(), bytes });
            }
        })?;
        self.without_row.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }
}
