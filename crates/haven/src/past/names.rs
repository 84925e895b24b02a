//! Records of a state in order, and the paths of inodes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    iter::Peekable,
    vec::IntoIter,
};

use bytes::Bytes;
use haven_format::{
    Ino,
    record::{self, Entry, Key},
};
use haven_mount::control::Refusal;
use haven_vault::View;
use prost::Message;

use super::Library;

const PAGE: usize = 4096;
const DIRECTORY: u32 = 4;

/// Names of the inodes looked for, and all directories.
#[derive(Default)]
pub(super) struct Names {
    directories: HashMap<u64, (u64, Bytes)>,
    of: HashMap<u64, Vec<(u64, Bytes)>>,
}

impl Names {
    fn path(&self, parent: u64, name: &Bytes) -> String {
        let mut parts = vec![name.clone()];
        let mut at = parent;
        while at != Ino::ROOT.0 {
            let Some((above, name)) = self.directories.get(&at) else { break };
            parts.push(name.clone());
            at = *above;
        }
        parts.reverse();
        let text: Vec<_> = parts.iter().map(|part| String::from_utf8_lossy(part)).collect();
        text.join("/")
    }

    pub(super) fn paths(&self, ino: u64) -> BTreeSet<String> {
        self.of.get(&ino).into_iter().flatten().map(|(parent, name)| self.path(*parent, name)).collect()
    }
}

/// Records of a view, in order, a page at a time.
pub(super) struct Pages<'a> {
    library: &'a Library,
    view: &'a View,
    range: std::ops::Range<Key>,
    pub(super) page: Peekable<IntoIter<(Key, Bytes)>>,
    ended: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(library: &'a Library, view: &'a View) -> Self {
        let range = record::inodes_from(Ino(0));
        Self { library, view, range, page: Vec::new().into_iter().peekable(), ended: false }
    }

    pub(super) async fn fill(&mut self) -> Result<(), Refusal> {
        while self.page.peek().is_none() && !self.ended {
            let range = self.range.clone();
            let batch = self.library.settled(|| self.view.scan(range.clone(), PAGE)).await?;
            match batch.last() {
                Some((last, _)) => self.range.start = [&last[..], &[0]].concat().into(),
                None => self.ended = true,
            }
            self.page = batch.into_iter().peekable();
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

pub(super) fn unreadable(_: prost::DecodeError) -> Refusal {
    Refusal::new("damaged", "a record is unreadable")
}

impl Library {
    /// The names of `wanted`, and what is needed to tell their paths.
    pub(super) async fn names(&self, view: &View, wanted: &HashSet<u64>) -> Result<Names, Refusal> {
        let mut names = Names::default();
        let mut pages = Pages::new(self, view);
        loop {
            pages.fill().await?;
            let Some((key, value)) = pages.page.next() else { return Ok(names) };
            if record::entry_cookie(&key).is_none() {
                continue;
            }
            let Some(parent) = record::key_inode(&key) else { continue };
            let entry = Entry::decode(value).map_err(unreadable)?;
            if entry.kind == DIRECTORY {
                names.directories.insert(entry.ino, (parent.0, entry.name.clone()));
            }
            if wanted.contains(&entry.ino) {
                names.of.entry(entry.ino).or_default().push((parent.0, entry.name));
            }
        }
    }
}
