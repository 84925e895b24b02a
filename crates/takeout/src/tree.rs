//! A whole Takeout: sidecars that lie in other directories than their photos, albums, and their members.
//!
//! Every photo is in the folder of its year, and again as a byte copy in the folder of each album; but not reliably: some
//! have their only sidecar in an album's folder, and some albums have sidecars and no photos. What a directory is, is told
//! by the JSON in it. Names of folders are localized, and are hints only.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    names::{self, sidecar_name, with_counter},
    pairing::{Confidence, Role, Rule, Sidecar, pair_directory},
};

/// The bytes of a file, as the central directory of a zip tells them: CRC-32 and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Content {
    pub crc32: u32,
    pub bytes: u64,
}

/// A file of the Takeout.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// With `/` between directories.
    pub path: &'a str,
    pub kind: Kind<'a>,
}

/// What a file is, by its content.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    Media(Content),
    /// Of a photo; `taken` in seconds since 1970.
    Sidecar {
        title: &'a str,
        taken: Option<i64>,
    },
    Album {
        title: &'a str,
    },
    Other,
}

/// A media file with what was found for it. All indices are of the entries that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub sidecar: Option<(usize, Rule, Confidence)>,
    pub role: Role,
}

/// An album; two of one title are two albums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// The entry of its JSON.
    pub album: usize,
    pub directory: String,
    /// Sorted, each once. A moving half is never among them.
    pub contents: Vec<Content>,
}

/// What a Takeout holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub media: BTreeMap<usize, Found>,
    pub albums: Vec<Members>,
    pub superseded: Vec<usize>,
    /// Sidecars that serve neither a file nor an album.
    pub orphans: Vec<usize>,
}

/// Pairs all files of a Takeout and gathers its albums. `suffixes`: as for [`pair_directory`].
pub fn resolve(entries: &[Entry<'_>], suffixes: &[&str]) -> Tree {
    let mut tree = Work { entries, media: BTreeMap::new(), superseded: vec![], free: vec![] };
    let directories = by_directory(entries);
    for members in directories.values() {
        tree.pair(members, suffixes);
    }
    tree.free.sort_unstable();
    tree.pair_by_copies();
    let mut used = tree.pair_across_directories();
    let albums = tree.albums(&directories, &mut used);
    let Work { media, superseded, free, .. } = tree;
    let orphans = free.into_iter().filter(|at| !used.contains(at)).collect();
    Tree { media, albums, superseded, orphans }
}

fn by_directory<'a>(entries: &[Entry<'a>]) -> BTreeMap<&'a str, Vec<usize>> {
    let mut directories: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        directories.entry(split_path(entry.path).0).or_default().push(at);
    }
    directories
}

fn split_path(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[derive(Clone, Copy)]
struct Photo<'a> {
    title: &'a str,
    taken: Option<i64>,
}

struct Work<'a> {
    entries: &'a [Entry<'a>],
    media: BTreeMap<usize, Found>,
    superseded: Vec<usize>,
    /// Sidecars that no file of their directory claims.
    free: Vec<usize>,
}

impl<'a> Work<'a> {
    fn photo(&self, at: usize) -> Option<Photo<'a>> {
        match self.entries[at].kind {
            Kind::Sidecar { title, taken } => Some(Photo { title, taken }),
            _ => None,
        }
    }

    fn content(&self, at: usize) -> Option<Content> {
        match self.entries[at].kind {
            Kind::Media(content) => Some(content),
            _ => None,
        }
    }

    fn name(&self, at: usize) -> &'a str {
        split_path(self.entries[at].path).1
    }

    fn pair(&mut self, members: &[usize], suffixes: &[&str]) {
        let media: Vec<usize> = members.iter().copied().filter(|at| self.content(*at).is_some()).collect();
        let jsons: Vec<usize> = members.iter().copied().filter(|at| self.photo(*at).is_some()).collect();
        let names: Vec<&str> = media.iter().map(|at| self.name(*at)).collect();
        let title = |at: usize| self.photo(at).map(|photo| photo.title);
        let sidecars: Vec<_> = jsons.iter().map(|at| Sidecar { name: self.name(*at), title: title(*at) }).collect();
        let pairing = pair_directory(&names, &sidecars, suffixes);
        let entry = |role| match role {
            Role::Plain => Role::Plain,
            Role::Motion(still) => Role::Motion(still.map(|at: usize| media[at])),
            Role::Edited(original) => Role::Edited(original.map(|at: usize| media[at])),
        };
        for (at, (pair, role)) in media.iter().zip(pairing.pairs.iter().zip(pairing.roles)) {
            let sidecar = pair.map(|pair| (jsons[pair.sidecar], pair.rule, pair.confidence));
            self.media.insert(*at, Found { sidecar, role: entry(role) });
        }
        self.superseded.extend(pairing.superseded.iter().map(|at| jsons[*at]));
        self.free.extend(pairing.orphans.iter().map(|at| jsons[*at]));
    }

    /// A file without a sidecar takes that of a byte-identical copy, unless the copies' sidecars differ in the date.
    fn pair_by_copies(&mut self) {
        // Only what is looked for is remembered: most files have a sidecar of their own.
        let bare = self.media.iter().filter(|(_, found)| found.sidecar.is_none());
        let bare: HashSet<Content> = bare.filter_map(|(at, _)| self.content(*at)).collect();
        let mut known: HashMap<Content, (usize, bool)> = HashMap::new();
        for (at, found) in &self.media {
            let content = self.content(*at).filter(|content| bare.contains(content));
            let (Some(content), Some((sidecar, _, Confidence::Strong))) = (content, found.sidecar) else {
                continue;
            };
            let taken = |at: usize| self.photo(at).and_then(|photo| photo.taken);
            let (first, agree) = known.entry(content).or_insert((sidecar, true));
            *agree &= taken(*first) == taken(sidecar);
        }
        let entries = self.entries;
        for (at, found) in self.media.iter_mut().filter(|(_, found)| found.sidecar.is_none()) {
            let Kind::Media(content) = entries[*at].kind else { continue };
            if let Some((sidecar, true)) = known.get(&content) {
                found.sidecar = Some((*sidecar, Rule::Copy, Confidence::Strong));
            }
        }
    }

    /// The name that a sidecar's photo has.
    fn predicted(&self, sidecar: usize) -> Option<String> {
        let photo = self.photo(sidecar).filter(|photo| !photo.title.is_empty())?;
        let counter = sidecar_name(self.name(sidecar))?.counter;
        Some(with_counter(&names::media_name(photo.title), counter))
    }

    /// Photos without a sidecar take one of another directory, if there is one photo and one sidecar of that name and the
    /// year of the folder does not speak against it. Returns the sidecars that were taken.
    fn pair_across_directories(&mut self) -> HashSet<usize> {
        let mut sidecars: HashMap<String, Vec<usize>> = HashMap::new();
        for at in &self.free {
            if let Some(name) = self.predicted(*at) {
                sidecars.entry(name).or_default().push(*at);
            }
        }
        let name = |at: usize| names::nfc(self.name(at)).into_owned();
        let bare = self.media.iter().filter(|(_, found)| found.sidecar.is_none() && found.role == Role::Plain);
        let bare: Vec<(usize, String)> = bare.map(|(at, _)| (*at, name(*at))).collect();
        let mut photos: HashMap<&str, HashSet<Content>> =
            bare.iter().map(|(_, name)| (name.as_str(), HashSet::new())).collect();
        for at in self.media.keys() {
            if let Some(contents) = photos.get_mut(names::nfc(self.name(*at)).as_ref()) {
                contents.extend(self.content(*at));
            }
        }
        let mut used = HashSet::new();
        let mut found = vec![];
        for (at, name) in &bare {
            let (Some([sidecar]), 1) = (sidecars.get(name).map(Vec::as_slice), photos[name.as_str()].len()) else {
                continue;
            };
            let year = year_of(split_path(split_path(self.entries[*at].path).0).1);
            let taken = self.photo(*sidecar).and_then(|photo| photo.taken);
            let Some(confidence) = by_year(year, taken) else { continue };
            found.push((*at, (*sidecar, Rule::OtherDirectory, confidence)));
            used.insert(*sidecar);
        }
        for (at, sidecar) in found {
            self.media.entry(at).and_modify(|media| media.sidecar = Some(sidecar));
        }
        used
    }

    fn albums(&self, directories: &BTreeMap<&str, Vec<usize>>, used: &mut HashSet<usize>) -> Vec<Members> {
        let elsewhere = self.by_sidecar();
        let mut albums = vec![];
        for (directory, members) in directories {
            let Some(album) = self.album_of(directory, members) else { continue };
            let visible = |at: &&usize| self.media.get(at).is_some_and(|f| !matches!(f.role, Role::Motion(_)));
            let mut contents: Vec<Content> =
                members.iter().filter(visible).filter_map(|at| self.content(*at)).collect();
            for at in members.iter().filter(|at| self.free.binary_search(at).is_ok()) {
                let only = self.key(*at).and_then(|key| elsewhere.get(&key)).filter(|contents| contents.len() == 1);
                if let Some(content) = only.and_then(|contents| contents.iter().next()) {
                    contents.push(*content);
                    used.insert(*at);
                }
            }
            contents.sort_unstable();
            contents.dedup();
            albums.push(Members { album, directory: (*directory).to_owned(), contents });
        }
        albums
    }

    /// The JSON that makes a directory an album: one with a title, before one without.
    fn album_of(&self, directory: &str, members: &[usize]) -> Option<usize> {
        let folder = split_path(directory).1;
        let albums = members.iter().filter_map(|at| match self.entries[*at].kind {
            Kind::Album { title } if !is_date(title) && !is_year_folder(folder) => Some((*at, title)),
            _ => None,
        });
        albums.min_by_key(|(at, title)| (title.is_empty(), self.entries[*at].path)).map(|(at, _)| at)
    }

    /// What tells a photo from others of its name.
    fn key(&self, sidecar: usize) -> Option<(String, &'a str, Option<i64>)> {
        let photo = self.photo(sidecar)?;
        Some((self.predicted(sidecar)?, photo.title, photo.taken))
    }

    /// The contents of plain photos by their sidecars.
    fn by_sidecar(&self) -> HashMap<(String, &'a str, Option<i64>), HashSet<Content>> {
        let mut found: HashMap<_, HashSet<Content>> = HashMap::new();
        for (at, media) in self.media.iter().filter(|(_, media)| media.role == Role::Plain) {
            let key = media.sidecar.and_then(|(sidecar, _, _)| self.key(sidecar));
            if let (Some(key), Some(content)) = (key, self.content(*at)) {
                found.entry(key).or_default().insert(content);
            }
        }
        found
    }
}

/// The year at the end of a folder's name.
fn year_of(folder: &str) -> Option<i64> {
    let digits = folder.get(folder.len().checked_sub(4)?..)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Does a date fit the year of a folder? None where it does not. A day of grace at each end: folders go by local time.
fn by_year(year: Option<i64>, taken: Option<i64>) -> Option<Confidence> {
    let (Some(year), Some(taken)) = (year, taken) else { return Some(Confidence::Weak) };
    // Mean years are right to within a day and a half.
    let start = |year: i64| ((year - 1970) as f64 * 365.2425 * 86400.0) as i64;
    let grace = 3 * 86400;
    (start(year) - grace..start(year + 1) + grace).contains(&taken).then_some(Confidence::Strong)
}

/// `2019-05-18` or `2019-05-18 #2`, as folders were called until 2020.
fn is_date(title: &str) -> bool {
    let day = title.split_once(" #").map_or(title, |(day, _)| day);
    let shape = |(at, b): (usize, u8)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() };
    day.len() == 10 && day.bytes().enumerate().all(shape)
}

/// Folders of years hold everything and are no albums, whatever JSON lies in them.
fn is_year_folder(folder: &str) -> bool {
    const BEGINNINGS: &[&str] =
        &["Photos from", "Fotos von", "Photos de", "Fotos de", "Fotos del", "Foto da", "Foto_s van"];
    let named = folder.len().checked_sub(5).and_then(|end| folder.get(..end)).is_some_and(|b| BEGINNINGS.contains(&b));
    is_date(folder) || named && year_of(folder).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_in_its_name_makes_no_year_folder() {
        assert!(
            is_year_folder("Photos from 2019") && is_year_folder("Fotos von 2024") && is_year_folder("2019-05-18 #2")
        );
        assert!(!is_year_folder("Summer 2019") && !is_year_folder("Trip") && !is_year_folder("写真"));
    }

    #[test]
    fn a_date_of_another_year_speaks_against_a_sidecar() {
        assert_eq!(by_year(Some(2011), Some(1_306_886_400)), Some(Confidence::Strong));
        assert_eq!(by_year(Some(2013), Some(1_306_886_400)), None);
        assert_eq!(by_year(None, Some(1_306_886_400)), Some(Confidence::Weak));
    }
}
