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
    /// Whether there may be more, in records that can't be read.
    pub(super) passed_over: bool,
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
    /// Whether damaged records are passed over, and whether some were.
    tolerant: bool,
    pub(super) passed_over: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(library: &'a Library, view: &'a View) -> Self {
        let range = record::inodes_from(Ino(0));
        let page = Vec::new().into_iter().peekable();
        Self { library, view, range, page, ended: false, tolerant: false, passed_over: false }
    }

    /// As [`Pages::new`], for who wants to know all that can still be known: records that are damaged are passed over.
    pub(super) fn past_damage(library: &'a Library, view: &'a View) -> Self {
        Self { tolerant: true, ..Self::new(library, view) }
    }

    async fn scan(&self, start: &Key, most: usize) -> Result<Vec<(Key, Bytes)>, Refusal> {
        let range = start.clone()..self.range.end.clone();
        self.library.settled(|| self.view.scan(range.clone(), most)).await
    }

    /// Where records can be read again, after one at `range.start` that can't: by doubling the step and then halving it.
    /// A damaged shard has the records of whole inodes, but for its ends.
    async fn beyond(&self) -> Result<Key, Refusal> {
        let at = |ino: u64| record::inodes_from(Ino(ino)).start;
        let from = u64::from_be_bytes(self.range.start[1..9].try_into().expect("a key of the inode space"));
        let readable = async |ino: u64| match self.scan(&at(ino), 1).await {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.code == "damaged" => Ok(false),
            Err(refusal) => Err(refusal),
        };
        let (mut bad, mut step) = (from, 1);
        let mut good = loop {
            let Some(ino) = from.checked_add(step) else { return Ok(self.range.end.clone()) };
            if readable(ino).await? {
                break ino;
            }
            (bad, step) = (ino, step.saturating_mul(2));
        };
        while good - bad > 1 {
            let middle = bad + (good - bad) / 2;
            *(if readable(middle).await? { &mut good } else { &mut bad }) = middle;
        }
        Ok(at(good))
    }

    pub(super) async fn fill(&mut self) -> Result<(), Refusal> {
        let mut most = PAGE;
        while self.page.peek().is_none() && !self.ended {
            let batch = match self.scan(&self.range.start, most).await {
                Err(refusal) if self.tolerant && refusal.code == "damaged" => {
                    self.passed_over = true;
                    if most > 1 {
                        // What comes before the damage can be read.
                        most /= 8;
                        most = most.max(1);
                    } else {
                        self.range.start = self.beyond().await?;
                        most = PAGE;
                    }
                    continue;
                }
                other => other?,
            };
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
    /// The names of `wanted`, and what is needed to tell their paths; of what is damaged, what can be told.
    pub(super) async fn names(&self, view: &View, wanted: &HashSet<u64>) -> Result<Names, Refusal> {
        let mut names = Names::default();
        let mut pages = Pages::past_damage(self, view);
        loop {
            pages.fill().await?;
            let Some((key, value)) = pages.page.next() else {
                names.passed_over = pages.passed_over;
                return Ok(names);
            };
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
