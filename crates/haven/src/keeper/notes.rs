//! Where replicas stand by their own word: the note that whoever brings one up to date leaves in its store. It tells also of what
//! no run of the keeper does: of `haven replica sync --continuous` beside it, and of what a person does by hand.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use futures::future::join_all;
use haven_format::{
    Keys,
    standing::{Role, Standing},
};
use haven_replica::{Side, newest_standing};
use haven_store::{StoreOptions, retry::RetryConfig};

use super::owed::Owed;
use crate::{config::Config, words::causes};

/// How often notes are read: two requests each.
const EVERY: Duration = Duration::from_secs(300);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// For how long it is remembered what the bucket had, seconds: a replica further behind than that is late by any measure.
const BACK: i64 = 7 * 86_400;

/// What a replica says of itself. Times are seconds since the epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// When it was written.
    pub at: i64,
    /// It has everything up to this change; none: no copy has come to its end yet.
    pub tx: Option<u64>,
    pub damaged: u64,
    pub brake: String,
    pub verified: Option<i64>,
    pub round_began: Option<i64>,
}

impl Note {
    fn of(standing: &Standing) -> Self {
        Self {
            at: standing.time.seconds,
            tx: Some(standing.tx).filter(|_| !standing.segment.is_empty()),
            damaged: standing.damaged,
            brake: standing.brake.clone(),
            verified: standing.verified.map(|at| at.seconds),
            round_began: standing.round_began.map(|at| at.seconds),
        }
    }
}

/// What was read, or why not, in a line.
type Read = Result<Note, String>;

#[derive(Debug, Default)]
pub struct Notes {
    owed: BTreeMap<(String, String), Owed<Read>>,
    read: Option<Instant>,
    /// Whose note could not be read when that was last tried, and why.
    pub missed: BTreeMap<String, String>,
    /// What the newest change in the bucket was, and until when it was that, by the keeper's looks. Oldest first.
    had: VecDeque<(i64, u64)>,
}

impl Notes {
    /// The newest change in the bucket is `uploaded`.
    pub fn mark(&mut self, now: i64, uploaded: u64) {
        if self.had.back().is_some_and(|(at, known)| *at > now || *known > uploaded) {
            // The clock was set back, or the library was: what was before can't be compared.
            self.had.clear();
        }
        match self.had.back_mut().filter(|(_, known)| *known == uploaded) {
            Some((at, _)) => *at = now,
            None => self.had.push_back((now, uploaded)),
        }
        while self.had.front().is_some_and(|(at, _)| now - at > BACK) {
            self.had.pop_front();
        }
    }

    /// When a replica last had all that was in the bucket; none: not since that is remembered. Where nobody knows what the
    /// bucket has, its own word is believed.
    pub fn had(&self, note: &Note) -> Option<i64> {
        let tx = note.tx?;
        if self.had.is_empty() {
            return Some(note.at);
        }
        self.had.iter().rev().find(|(_, uploaded)| *uploaded <= tx).map(|(at, _)| *at)
    }

    /// Reads the notes of all replicas, where that is due; by their names.
    pub async fn read(&mut self, config: &Config, keys: &Keys) -> Vec<(String, Note)> {
        if self.read.is_some_and(|at| at.elapsed() < EVERY) {
            return Vec::new();
        }
        self.read = Some(Instant::now());
        let mut before = std::mem::take(&mut self.owed);
        let asked: Vec<_> = config
            .replicas
            .iter()
            .map(|(name, one)| {
                let key = (name.clone(), one.own.url.clone());
                let mut owed = before.remove(&key).unwrap_or_default();
                let (options, keys) = (one.own.store.clone(), keys.clone());
                async move {
                    let url = key.1.clone();
                    let begin = || tokio::spawn(async move { ask(url, options, &keys).await });
                    let read = owed.get_from(PATIENCE, begin).await;
                    (key, owed, read.and_then(|read| read))
                }
            })
            .collect();
        let mut all = Vec::new();
        self.missed.clear();
        for (key, owed, read) in join_all(asked).await {
            match read {
                Ok(note) => all.push((key.0.clone(), note)),
                Err(why) => {
                    tracing::debug!(replica = key.0, why, "its note can't be read");
                    self.missed.insert(key.0.clone(), why);
                }
            }
            self.owed.insert(key, owed);
        }
        all
    }
}

async fn ask(url: String, options: StoreOptions, keys: &Keys) -> Read {
    // The next time comes soon.
    let options = StoreOptions { retry: RetryConfig::never(), create: false, ..options };
    let opened = tokio::task::spawn_blocking(move || haven_store::open(&url, &options)).await;
    let store = opened.map_err(|error| error.to_string())?.map_err(|error| causes(&error))?;
    let held = newest_standing(&store, keys, Side::Replica).await.map_err(|error| causes(&error))?;
    match held.standing.filter(|standing| standing.role() == Role::Replica) {
        Some(standing) => Ok(Note::of(&standing)),
        None => Err("what is there does not say that it is a replica".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use haven_format::{LibraryId, MasterKey, record::Time};
    use haven_replica::{HeldStanding, World};

    use super::*;

    #[test]
    fn how_old_a_replica_is_follows_from_what_the_bucket_had_when() {
        let mut notes = Notes::default();
        let had = |notes: &Notes, tx| notes.had(&Note { at: 70, tx: Some(tx), ..Note::default() });
        assert_eq!((had(&notes, 9), notes.had(&Note::default())), (Some(70), None), "by its own word; never complete");
        for (now, uploaded) in [(100, 10), (160, 10), (220, 10), (280, 30), (340, 40)] {
            notes.mark(now, uploaded);
        }
        assert_eq!(
            [9, 10, 29, 30, 40, 99].map(|tx| had(&notes, tx)),
            [None, Some(220), Some(220), Some(280), Some(340), Some(340)]
        );
        notes.mark(280 + BACK + 1, 50);
        assert_eq!(
            (had(&notes, 30), had(&notes, 40)),
            (None, Some(340)),
            "so long ago nobody wants to know it so exactly"
        );
        notes.mark(200, 60);
        assert_eq!((had(&notes, 50), had(&notes, 60)), (None, Some(200)), "the clock was set back");
    }

    #[tokio::test]
    async fn a_replica_is_asked_where_it_stands_and_one_that_can_not_be_is_told_as_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(path("far")).unwrap();
        let text = format!("[replica.far]\nurl = '{}'\n[replica.gone]\nurl = '{}'\n", path("far"), path("gone"));
        let config = Config::from_text(&text, "").unwrap();
        let keys = Keys::new(LibraryId([1; 16]), &MasterKey([7; 32]));
        let mut notes = Notes::default();
        assert!(notes.read(&config, &keys).await.is_empty());
        assert_eq!(notes.missed.keys().collect::<Vec<_>>(), ["far", "gone"]);
        assert!(notes.missed["far"].contains("does not say"), "{:?}", notes.missed);
        let world = World {
            clock: Arc::new(|| Time { seconds: 1000, nanos: 0 }),
            dice: Arc::new(|out: &mut [u8]| out.fill(3)),
            host: "elsewhere".into(),
        };
        let standing = Standing {
            role: Role::Replica.into(),
            segment: "somewhere".into(),
            tx: 30,
            damaged: 2,
            brake: "30 %".into(),
            verified: Some(Time { seconds: 900, nanos: 0 }),
            ..Standing::default()
        };
        let store = haven_store::open(&path("far"), &StoreOptions::default()).unwrap();
        HeldStanding::default().supersede(&store, Side::Replica, &keys, &world, standing).await.unwrap();
        assert!(notes.read(&config, &keys).await.is_empty(), "it is not asked all the time");
        notes.read = None;
        let told =
            Note { at: 1000, tx: Some(30), damaged: 2, brake: "30 %".into(), verified: Some(900), round_began: None };
        assert_eq!(notes.read(&config, &keys).await, [("far".to_owned(), told)]);
        assert_eq!(notes.missed.keys().collect::<Vec<_>>(), ["gone"]);
    }
}
