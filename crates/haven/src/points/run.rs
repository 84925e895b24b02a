//! Takes a recovery point.
//! ```text
//!     session: BEGIN REPEATABLE READ, LOCK every table against being emptied     (application goes on)
//!     mount:   nothing can be changed ─┐
//!     session: pg_export_snapshot()    │ milliseconds: this is the instant
//!     mount:   snapshot, goes on      ─┘
//!     session: counts rows             pg_dump --snapshot, pg_dumpall --globals-only      (application goes on)
//!     the dump is read back, its rows compared with those counted
//!     manifest, rename: now it is a point        second snapshot: now nobody can change it
//! ```
//! Whatever fails before the rename takes all of it away again; what a kill leaves the next run clears away.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use haven_mount::control::Request;
use haven_point::{
    DUMP, Draft, Error, Manifest, ROLES, SEAL, dump,
    dump::DumpError,
    immich::FOLDERS,
    manifest::{Database, Files, Immich, Own, Quiesce, VERSION},
    pg::{self, Ends, Facts, Moment, PgError, Reach, Session, Shape, Stop},
};
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Home,
    config::{App, Common},
    quiesce::{self, Still},
    tidy,
};
use crate::{
    past::{
        POINT_MAKER,
        hold::{HoldError, hold},
    },
    words,
};

/// A point that was taken.
#[derive(Debug, Clone, Serialize)]
pub struct Taken {
    pub application: String,
    pub point: String,
    /// `complete`: nothing else is ever told as one.
    pub verdict: &'static str,
    pub taken: String,
    pub seconds: f64,
    /// For how long no file could be changed, milliseconds.
    pub frozen_ms: f64,
    pub tries: u32,
    /// Of the application's own.
    pub files: u64,
    pub file_bytes: u64,
    pub dump_bytes: u64,
    pub rows: u64,
    /// Rows of Immich's table of assets.
    pub assets: Option<u64>,
    pub beside: Option<PathBuf>,
    /// Why the copy of the dump that was asked for is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_beside: Option<String>,
    /// Whether all of it is in the bucket. `None`: that was not waited for.
    pub in_bucket: Option<bool>,
    /// What runs that were killed had left behind.
    pub cleared: Vec<String>,
    pub warnings: Vec<String>,
}

/// Why a try came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Pg(#[from] PgError),
    #[error(transparent)]
    Point(#[from] Error),
    #[error("the dump can't be read back")]
    Dump(#[from] DumpError),
    #[error("the library did not stand still")]
    Hold(#[source] HoldError<PgError>),
    /// What it does is the only thing that can help: try all of it again.
    #[error("the database changed its shape meanwhile: {0}")]
    Moved(String),
    #[error("{0}")]
    Mount(String),
    #[error("the application was not stopped and started as it should: {0}")]
    Quiesce(String),
    #[error("{0}")]
    Settings(String),
    #[error("it was interrupted")]
    Stopped,
}

impl Failed {
    /// Whether another try may end better.
    fn again(&self) -> bool {
        match self {
            Self::Moved(_) | Self::Hold(_) => true,
            Self::Pg(error) => matches!(
                error,
                PgError::Failed { .. } | PgError::Busy { .. } | PgError::Ended { .. } | PgError::Late { .. }
            ),
            Self::Dump(error) => !matches!(error, DumpError::Version(..)),
            _ => false,
        }
    }
}

/// What a point is taken with.
pub struct Run<'a> {
    pub home: &'a Home,
    pub app: &'a App,
    pub stop: Arc<Stop>,
    pub bar: ProgressBar,
    /// Wait until it is in the bucket.
    pub wait: bool,
}

/// Between one try and the next.
const PAUSE: Duration = Duration::from_secs(2);

impl Run<'_> {
    pub fn take(&self) -> Result<Taken, (Failed, u32)> {
        let started = Instant::now();
        let before = |failed| (failed, 0);
        quiesce::resume(&self.home.at.cache, &self.app.name).map_err(|why| before(Failed::Quiesce(why)))?;
        let cleared = tidy::clear(self.home, &self.app.name).map_err(|why| before(Failed::Mount(why.what)))?;
        let folder = self.home.root.join(&self.app.own.folder);
        if !folder.is_dir() {
            let why = format!("there is no folder {} in the library", self.app.own.folder);
            return Err(before(Failed::Settings(why)));
        }
        haven_point::prepare(&self.home.root).map_err(|error| before(error.into()))?;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.one_try(tries) {
                Ok(mut taken) => {
                    taken.cleared = cleared;
                    taken.seconds = started.elapsed().as_secs_f64();
                    return Ok(taken);
                }
                Err(failed) if self.stop.load(Ordering::Relaxed) => {
                    tracing::debug!(%failed, "interrupted");
                    return Err((Failed::Stopped, tries));
                }
                Err(failed) if failed.again() && tries < self.app.common.tries => {
                    tracing::info!(error = %failed, tries, "a recovery point is tried again");
                    self.bar.set_message(format!("again, for {failed}"));
                    std::thread::sleep(PAUSE);
                }
                Err(failed) => return Err((failed, tries)),
            }
        }
    }

    fn say(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    fn one_try(&self, tries: u32) -> Result<Taken, Failed> {
        let name = self.fresh_name()?;
        let mut left = Left { home: self.home, snapshots: Vec::new() };
        let reach = self.app.reach();
        let mut database = match &reach {
            Some(reach) => {
                self.say("asking the database");
                Some(Opened::new(reach, self.app.common.lock_wait)?)
            }
            None => None,
        };
        let still = Still::begin(self.app, &self.home.at.cache).map_err(Failed::Quiesce)?;
        // The order matters: what the transaction sees must not be fixed before everything stands still.
        if let Some(database) = &mut database {
            pg::begin(&mut database.session, &database.shape)?;
        }
        self.say("taking the snapshot");
        left.snapshots.push(name.clone());
        let note = format!("files of a recovery point of {}", self.app.name);
        let mut fix = || database.as_mut().map(|database| pg::fix(&mut database.session)).transpose();
        let held = hold::<_, PgError>(&self.home.at, &name, &note, || Ok((fix()?, Timestamp::now())));
        if let Some(still) = still {
            still.end().map_err(Failed::Quiesce)?;
        }
        let (held, (moment, taken)) = held.map_err(Failed::Hold)?;
        let draft = Draft::begin(&self.home.root, &name)?;
        let mut warnings = Vec::new();
        let media = self.home.root.join(".snapshots").join(&name).join(&self.app.own.folder);
        let (filled, own) = counted_meanwhile(&media, &self.stop, || match (&reach, database, moment) {
            (Some(reach), Some(database), Some(moment)) => {
                self.fill(&draft, reach, database, &moment, &mut warnings).map(Some)
            }
            _ => Ok(None),
        });
        let (database, mut immich) = filled?.unzip();
        if let Some(Some(immich)) = &mut immich {
            immich.sentinels = sentinels(&media);
            if immich.media_location.is_empty() {
                immich.media_location = self.app.own.media_location.clone().unwrap_or_default();
            }
        }
        let manifest = Manifest {
            haven_point: VERSION,
            name: name.clone(),
            application: self.app.name.clone(),
            kind: self.app.own.kind,
            taken,
            finished: Timestamp::now(),
            host: held.snapshot.host.clone(),
            haven: env!("CARGO_PKG_VERSION").into(),
            quiesce: Quiesce { by: self.app.common.quiesce.word().into(), frozen_ms: held.frozen_ms, tries },
            files: Files {
                snapshot: name.clone(),
                folder: self.app.own.folder.trim_end_matches('/').to_owned(),
                inodes: held.snapshot.inodes,
                bytes: held.snapshot.file_bytes,
                own,
            },
            database,
            immich: immich.flatten(),
        };
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failed::Stopped);
        }
        let folder = draft.commit(&manifest)?;
        left.snapshots.clear();
        warnings.extend(self.out_of_order(&name, taken));
        // From here on it is a point, and nothing that fails makes it none.
        self.say("sealing it");
        warnings.extend(self.seal(&name).err());
        let beside = self.app.own.beside.as_deref().map(|beside| haven_point::copy_beside(&folder, beside, &name));
        let (beside, not_beside) = match beside.transpose() {
            Ok(beside) => (beside, None),
            Err(error) => (None, Some(words::causes(&error))),
        };
        let in_bucket = self.wait.then(|| self.in_bucket(&mut warnings));
        let rows = manifest.database.as_ref().map_or(0, |database| database.rows.values().sum());
        Ok(Taken {
            application: self.app.name.clone(),
            point: name,
            verdict: "complete",
            taken: taken.to_string(),
            seconds: 0.0,
            frozen_ms: held.frozen_ms,
            tries,
            files: own.map_or(manifest.files.inodes, |own| own.files),
            file_bytes: own.map_or(manifest.files.bytes, |own| own.bytes),
            dump_bytes: manifest.database.as_ref().map_or(0, |database| database.dump.bytes),
            rows,
            assets: manifest.immich.as_ref().map(|immich| immich.assets),
            beside,
            not_beside,
            in_bucket,
            cleared: Vec::new(),
            warnings,
        })
    }

    /// Other points that are not earlier, or of a time to come: with them a clock that stood wrong hides what is amiss.
    fn out_of_order(&self, name: &str, taken: Timestamp) -> Vec<String> {
        let all = haven_point::list(&self.home.root).unwrap_or_default();
        let ours =
            all.into_iter().filter(|found| haven_point::application(&found.name) == Some(self.app.name.as_str()));
        let others = ours.filter(|found| found.name != name).filter_map(|found| found.point.ok());
        let wrong = others.filter(|point| point.manifest.taken >= taken);
        let told = |point: haven_point::Point| {
            let (name, then) = (point.name(), point.manifest.taken);
            format!(
                "{name} was there before and is of {then}, which is not earlier: a clock stood wrong then, or does now; \
                 haven backup remove {name} takes it away"
            )
        };
        wrong.map(told).collect()
    }

    /// A second has one name.
    fn fresh_name(&self) -> Result<String, Failed> {
        let snapshots = self.home.snapshots().map_err(|trouble| Failed::Mount(trouble.what))?;
        loop {
            let name = haven_point::name(&self.app.name, Timestamp::now());
            if !snapshots.iter().any(|snapshot| super::point_of(&snapshot.name) == Some(name.as_str())) {
                return Ok(name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Writes down the database into the point, and makes sure that it is what was there at the instant.
    fn fill(
        &self,
        draft: &Draft,
        reach: &Reach,
        mut database: Opened,
        moment: &Moment,
        warnings: &mut Vec<String>,
    ) -> Result<(Database, Option<Immich>), Failed> {
        let session = &mut database.session;
        let Common { dump_limit, lock_wait, .. } = self.app.common;
        let ends = Ends { stop: &self.stop, limit: dump_limit, lock_wait };
        self.say("counting rows");
        let counted = pg::count(session, &database.shape)?;
        let immich = pg::immich(session, &database.shape, &counted)?;
        let major = database.facts.server_number / 10_000;
        let file = draft.file(DUMP)?;
        let told = &mut |bytes| self.say(format!("dumping the database: {}", words::bytes(bytes)));
        // What can't be removed goes with the draft.
        let in_vain = || drop(draft.discard(DUMP));
        let dumped = pg::dump(reach, major, &moment.snapshot, &file, ends, told, &in_vain)?;
        drop(file);
        self.say("writing down roles");
        let mut file = draft.file(ROLES)?;
        let roles = match pg::globals(reach, major, &mut file, ends) {
            Ok(without) => {
                warnings
                    .extend(without.map(|why| format!("passwords of roles can't be read, and are not in it: {why}")));
                Some(draft.finished(ROLES)?)
            }
            Err(error) => {
                draft.discard(ROLES)?;
                if let PgError::Stopped = error {
                    return Err(Failed::Stopped);
                }
                warnings.push(format!("roles can't be read, and are not in it: {error}"));
                None
            }
        };
        self.say("reading the dump back");
        let dump = draft.finished(DUMP)?;
        let path = draft.path(DUMP);
        let file = File::open(&path).map_err(|source| Error::Read { path, source })?;
        let walked = dump::walk(BufReader::with_capacity(1 << 20, file), |_, _| Ok(()))?;
        if let Some(why) = pg::unlike(&database.shape, &counted, &walked.rows) {
            return Err(Failed::Moved(why));
        }
        let later = Shape::of(&mut Session::open(reach, self.app.common.lock_wait)?)?;
        if let Some(why) = database.shape.moved(&later) {
            return Err(Failed::Moved(why));
        }
        let Facts { name, owner, encoding, collate, ctype, server, server_number, bytes, system, extensions } =
            database.facts;
        let database = Database {
            name,
            dump,
            roles,
            owner,
            encoding,
            collate,
            ctype,
            server,
            server_number,
            pg_dump: dumped.version,
            wal: moment.wal.clone(),
            system,
            bytes,
            extensions,
            rows: pg::written_down(&database.shape, counted, &walked.rows),
        };
        Ok((database, immich))
    }

    /// A snapshot that holds the point's folder. That it fails makes the point no less complete.
    fn seal(&self, name: &str) -> Result<(), String> {
        let request = Request::new("snapshot create")
            .with("name", format!("{name}{SEAL}"))
            .with("note", format!("dump of a recovery point of {}", self.app.name))
            .with("by", POINT_MAKER);
        let sealed = self.home.ask(&request, "sealing it");
        sealed
            .map(drop)
            .map_err(|trouble| format!("it could not be sealed, and its dump can still be changed: {}", trouble.what))
    }

    /// Waits until all of it is in the bucket, but not for ever.
    fn in_bucket(&self, warnings: &mut Vec<String>) -> bool {
        self.say("waiting for the bucket");
        let at = self.home.at.clone();
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let asked = haven_mount::control::Client::connect(&at)
                .and_then(|mut client| client.ask(&Request::new("flush"), |_| {}));
            _ = done.send(asked.map_err(|error| error.to_string()));
        });
        let until = Instant::now() + self.app.common.bucket_wait;
        loop {
            match wait.recv_timeout(Duration::from_millis(100)) {
                Ok(Ok(_)) => return true,
                Ok(Err(why)) => {
                    warnings.push(format!("it is on this machine, and not yet in the bucket: {why}"));
                    return false;
                }
                Err(_) if Instant::now() > until || self.stop.load(Ordering::Relaxed) => {
                    warnings.push("it is on this machine, and not yet in the bucket".into());
                    return false;
                }
                Err(_) => {}
            }
        }
    }
}

/// A database before the instant.
struct Opened {
    session: Session,
    shape: Shape,
    facts: Facts,
}

impl Opened {
    fn new(reach: &Reach, lock_wait: Duration) -> Result<Self, Failed> {
        let mut session = Session::open(reach, lock_wait)?;
        let facts = Facts::of(&mut session)?;
        let shape = Shape::of(&mut session)?;
        Ok(Self { session, shape, facts })
    }
}

/// What is taken away when no point comes of a try.
struct Left<'a> {
    home: &'a Home,
    snapshots: Vec<String>,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        for name in &self.snapshots {
            // It may never have come about; and what stays the next run clears away.
            _ = self.home.remove_snapshots(std::slice::from_ref(name));
        }
    }
}

/// Does `work`, and counts meanwhile what an application's folder holds. When the work has failed that matters no more.
fn counted_meanwhile<T, E>(
    folder: &Path,
    stop: &Stop,
    work: impl FnOnce() -> Result<T, E>,
) -> (Result<T, E>, Option<Own>) {
    let failed = Stop::new(false);
    let ends = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let mut own = Own::default();
            count(folder, &mut own, &mut HashSet::new(), &ends).map(|()| own)
        });
        let done = work();
        failed.store(done.is_err(), Ordering::Relaxed);
        (done, counting.join().ok().and_then(Result::ok))
    })
}

/// Adds what is below `folder`; a file with several names once.
fn count(folder: &Path, own: &mut Own, linked: &mut HashSet<u64>, ends: &dyn Fn() -> bool) -> io::Result<()> {
    if ends() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_dir() {
            count(&entry.path(), own, linked, ends)?;
        } else if about.nlink() < 2 || linked.insert(about.ino()) {
            own.files += 1;
            own.bytes += about.len();
        }
    }
    Ok(())
}

/// What is in the files that Immich knows its folders by.
fn sentinels(media: &Path) -> BTreeMap<String, Option<String>> {
    let content = |folder: &&str| fs::read_to_string(media.join(folder).join(".immich")).ok();
    FOLDERS.iter().map(|folder| ((*folder).to_owned(), content(folder).map(|text| text.trim().to_owned()))).collect()
}
