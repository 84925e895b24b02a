//! The second pass: every distinct content once, in the order in which the parts hold them.

use std::{
    collections::VecDeque,
    io::{Cursor, Read},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use futures::{StreamExt, stream::FuturesUnordered};
use haven_takeout::{exif, motion, sniff::Format};
use tokio::sync::Semaphore;

use crate::{
    asked::Asked,
    choose::SAYS_NOTHING,
    clock::Clock,
    content::{ContentRow, Linked, Mark, There},
    describe::{Described, Facts, Telling},
    journal::{Journal, JournalError, State, flag},
    lane::Lane,
    patience::{Failed, Patience, Stop},
    progress::Progress,
    server::{About, AssetId, Server, ServerError, Sha1, Upload, Uploaded},
    source::{Held, Piece, Sources, body_from},
};

/// Up to here a file is read into memory, and everything of it is known before its first byte travels.
pub const WHOLE_BYTES_MAX: u64 = 32 << 20;
/// Of all files in memory at once.
const IN_FLIGHT_KIB: u32 = 128 << 10;
/// What a long file costs while it streams.
const STREAM_KIB: u32 = 3 << 10;
/// Long files at once.
const LONG: usize = 3;
/// Of long files that are read for their SHA-1 and not sent yet: when they are read again they are still in the system's memory.
const AHEAD_MIB: u32 = 2 << 10;

/// All that uploads share.
pub struct Shared {
    pub journal: Arc<Journal>,
    pub server: Arc<dyn Server>,
    pub sources: Sources,
    pub telling: Telling,
    pub progress: Arc<Progress>,
    pub patience: Patience,
    pub about: About,
    pub lane: Lane,
    pub memory: Semaphore,
    pub long: Semaphore,
    pub ahead: Semaphore,
    /// The user had nothing there: it is not asked what is there, and a long file is not read for its SHA-1 beforehand.
    pub fresh: bool,
    pub asked: Asked,
    /// Failures after which all stops.
    pub errors_max: Option<u64>,
    pub failures: AtomicU64,
}

impl Shared {
    pub fn memory() -> Semaphore {
        Semaphore::new(IN_FLIGHT_KIB as usize)
    }

    pub fn long() -> Semaphore {
        Semaphore::new(LONG)
    }

    pub fn ahead() -> Semaphore {
        Semaphore::new(AHEAD_MIB as usize)
    }
}

/// Where the bytes of an upload come from.
enum Payload {
    Whole {
        held: Held,
        sha1: Sha1,
        facts: Facts,
    },
    /// Its beginning was read; that and the reader serve the first try, and each further one opens it anew.
    Long {
        sha1: Option<Sha1>,
        facts: Facts,
        begun: Option<(Vec<u8>, Box<dyn Read + Send>)>,
    },
}

impl Payload {
    fn sha1(&self) -> Option<Sha1> {
        match self {
            Self::Whole { sha1, .. } => Some(*sha1),
            Self::Long { sha1, .. } => *sha1,
        }
    }

    fn set_sha1(&mut self, sum: Sha1) {
        if let Self::Long { sha1, .. } = self {
            *sha1 = Some(sum);
        }
    }

    fn facts(&self) -> &Facts {
        match self {
            Self::Whole { facts, .. } | Self::Long { facts, .. } => facts,
        }
    }

    fn held(&self) -> Option<(&Held, &Facts)> {
        if let Self::Whole { held, facts, .. } = self { Some((held, facts)) } else { None }
    }
}

/// Uploads all that is planned and can be read at any place. Short files and long ones have lanes of their own: a video of an
/// hour keeps no photo waiting, and says nothing of how many photos the server takes.
pub async fn upload_all(shared: &Arc<Shared>) -> Result<(), Stop> {
    let (second, first) = planned(&shared.journal)?.into_iter().partition(|due| due.copy);
    upload(shared, first).await?;
    // Those whose bytes another one of more to say may have: it has been sent, or could not be.
    upload(shared, second).await
}

async fn upload(shared: &Arc<Shared>, due: Vec<Due>) -> Result<(), Stop> {
    let mut due = due.into_iter();
    // Long files that were met while as many as may be are under way.
    let mut waiting = VecDeque::new();
    // One task drives all requests; what costs time, reading and hashing, is done by threads.
    let (mut short, mut long) = (FuturesUnordered::new(), FuturesUnordered::new());
    let mut stop = None;
    while stop.is_none() && !shared.patience.is_cancelled() {
        if long.len() < LONG
            && let Some(id) = waiting.pop_front()
        {
            long.push(unit(shared, id));
            continue;
        }
        if short.len() < shared.lane.limit()
            && let Some(next) = due.next()
        {
            match next {
                next if !shared.sources.has(next.part) || shared.sources.is_stream(next.part) => {}
                next if next.bytes > WHOLE_BYTES_MAX => waiting.push_back(next.id),
                next => short.push(unit(shared, next.id)),
            }
            continue;
        }
        if short.is_empty() && long.is_empty() {
            break;
        }
        shared.progress.lanes.store((shared.lane.limit() + LONG) as u64, Relaxed);
        let ended = tokio::select! {
            Some(ended) = short.next(), if !short.is_empty() => ended,
            Some(ended) = long.next(), if !long.is_empty() => ended,
            // Reading a long file may take as long as sending it.
            () = shared.patience.cancelled() => break,
        };
        stop = ended.err();
    }
    // What is still under way is broken off: the server keeps nothing of half a request, and a lost answer is found again.
    drop((short, long));
    match stop {
        Some(stop) => Err(stop),
        None if shared.patience.is_cancelled() => Err(Stop::Cancelled),
        None => Ok(()),
    }
}

/// A content to upload.
pub struct Due {
    pub id: i64,
    pub part: i64,
    pub bytes: u64,
    /// Another one of this length and CRC-32 is due that has more to say: one of two that are sent at once would stand for
    /// both, and which, the server decides.
    pub copy: bool,
}

/// Contents to upload, in the order of reading. Moving halves whose still is planned too go with it.
pub fn planned(journal: &Journal) -> Result<Vec<Due>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare(&format!(
        "SELECT c.id, c.part, c.bytes, row_number() OVER (
           PARTITION BY c.bytes, c.crc32 ORDER BY coalesce(s.flags, 0) & {trashed} <> 0, {SAYS_NOTHING},
           coalesce(i.strong, 0) DESC, c.part, c.place) > 1
         FROM content c JOIN entry e ON e.id = c.entry LEFT JOIN item i ON i.entry = c.entry
         LEFT JOIN sidecar s ON s.entry = i.sidecar WHERE c.state IN (0, 1)
         AND NOT EXISTS(SELECT 1 FROM content s WHERE s.id = c.still AND s.state IN (0, 1) AND s.entry IS NOT NULL)
         ORDER BY c.part, c.place",
        trashed = flag::TRASHED,
    ))?;
    let rows = query.query_map([], |row| {
        let bytes = row.get::<_, i64>(2)? as u64;
        Ok(Due { id: row.get(0)?, part: row.get(1)?, bytes, copy: row.get(3)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Contents that are planned and of which the SHA-1 is not known, in the order of reading.
pub fn unread(journal: &Journal) -> Result<Vec<i64>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare(
        "SELECT id FROM content WHERE state IN (0, 1, 4) AND entry IS NOT NULL AND sha1 IS NULL ORDER BY part, place",
    )?;
    Ok(query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

fn memory_kib(bytes: u64) -> u32 {
    if bytes > WHOLE_BYTES_MAX { STREAM_KIB } else { (bytes >> 10) as u32 + 1 }
}

/// One content, and its moving half before it.
async fn unit(shared: &Arc<Shared>, id: i64) -> Result<(), Stop> {
    let Some(row) = ContentRow::load(&shared.journal, id)? else { return Ok(()) };
    let motion = ContentRow::motion_of(&shared.journal, id)?;
    let wanted = motion.as_ref().filter(|motion| matches!(motion.state, State::Planned | State::Sending));
    // Both at once: two that each hold one half would wait for one another.
    let kib = memory_kib(row.piece.bytes) + wanted.map_or(0, |motion| memory_kib(motion.piece.bytes));
    let Ok(_memory) = shared.memory.acquire_many(kib).await else { return Ok(()) };
    // Read twice where the server may have it: for the SHA-1, and to be sent. One that is longer goes alone.
    let twice = (!shared.fresh || wanted.is_some()) && row.sha1.is_none() && row.piece.bytes > WHOLE_BYTES_MAX;
    let ahead = if twice { AHEAD_MIB.min((row.piece.bytes >> 20) as u32 + 1) } else { 0 };
    let Ok(_ahead) = shared.ahead.acquire_many(ahead).await else { return Ok(()) };
    let Some(mut payload) = read(shared, &row).await? else {
        return match wanted {
            Some(motion) => alone(shared, motion).await,
            None => Ok(()),
        };
    };
    if leave_out(shared, &row, payload.facts())? {
        return Ok(());
    }
    // That a long still is damaged shows when all of it is read: before its half is hidden behind it.
    if let Some(motion) = wanted
        && !sum(shared, &row, &mut payload).await?
    {
        return alone(shared, motion).await;
    }
    let known = known(shared, &row, &mut payload).await?;
    if matches!(known, Known::Failed | Known::Twin) && wanted.is_none() {
        return Ok(());
    }
    let mut video =
        motion.as_ref().filter(|motion| motion.state.is_there()).and_then(|motion| asset_of(shared, motion.id));
    if let Some(motion) = wanted {
        let inside = payload.held().is_some_and(|(held, facts)| {
            let head = || held.head(exif::HEAD_BYTES);
            let at = |at| held.at(at, 8).and_then(|mark| <[u8; 8]>::try_from(mark).ok());
            facts.format == Some(Format::Jpeg) && motion::has_video(&head(), row.piece.bytes, at)
        });
        let there = match &known {
            Known::There(asset) => has_video(shared, asset).await?,
            _ => false,
        };
        if inside || there {
            let why = if inside { "its still holds it inside" } else { "its still on the server has one" };
            Mark(&shared.journal).not(motion.id, State::Embedded, why)?;
            shared.progress.done(motion.piece.bytes);
        } else if shared.sources.has(motion.piece.part)
            && !shared.sources.is_stream(motion.piece.part)
            && let Some(mut payload) = read(shared, motion).await?
        {
            video = match self::known(shared, motion, &mut payload).await? {
                Known::There(asset) => Some(asset),
                Known::Twin => asset_of(shared, motion.id),
                Known::Failed => None,
                Known::New => send(shared, motion, payload, None).await?,
            };
        }
    }
    if matches!(known, Known::New) {
        send(shared, &row, payload, video).await?;
    }
    Ok(())
}

/// The moving half of a still that no copy gives whole: it is good, and comes as a film. When the still comes they are joined.
async fn alone(shared: &Arc<Shared>, motion: &ContentRow) -> Result<(), Stop> {
    if !shared.sources.has(motion.piece.part) || shared.sources.is_stream(motion.piece.part) {
        return Ok(());
    }
    let mut film = ContentRow { still: None, alone: true, ..motion.clone() };
    // The title is the still's name.
    film.told.iter_mut().for_each(|told| told.title.clear());
    let Some(mut payload) = read(shared, &film).await? else { return Ok(()) };
    if leave_out(shared, &film, payload.facts())? {
        return Ok(());
    }
    if matches!(known(shared, &film, &mut payload).await?, Known::New) {
        send(shared, &film, payload, None).await?;
    }
    Ok(())
}

/// How a content is joined that was sent, or there already.
fn linked(row: &ContentRow, state: State, video: bool) -> Linked {
    match () {
        () if row.alone && state == State::Uploaded => Linked::Alone,
        () if video => Linked::Whole,
        () => Linked::No,
    }
}

/// What is known of a content before it is sent.
enum Known {
    /// The server does not have it, or was not asked because it had nothing.
    New,
    There(AssetId),
    /// Another content of the same bytes is there.
    Twin,
    /// It can't be read.
    Failed,
}

/// Reads all of a file for its SHA-1, where that is not known. Returns whether it can be read; that it can't is noted.
async fn sum(shared: &Arc<Shared>, row: &ContentRow, payload: &mut Payload) -> Result<bool, Stop> {
    if payload.sha1().is_none() {
        match hash(shared, &row.piece).await {
            Ok(sha1) => payload.set_sha1(sha1),
            Err(error) => {
                fail(shared, row, &format!("it can't be read: {error}"))?;
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Looks for a content in the journal and on the server, and notes where it is there. What was there before the first try is
/// not ours, and what only came there by one is: so this is asked before the first try is noted.
async fn known(shared: &Arc<Shared>, row: &ContentRow, payload: &mut Payload) -> Result<Known, Stop> {
    if !shared.fresh && !sum(shared, row, payload).await? {
        return Ok(Known::Failed);
    }
    let Some(sha1) = payload.sha1() else { return Ok(Known::New) };
    let mark = Mark(&shared.journal);
    if mark.twin(row.id, sha1)? {
        shared.progress.done(row.piece.bytes);
        return Ok(Known::Twin);
    }
    if shared.fresh {
        return Ok(Known::New);
    }
    let Some(present) = shared.asked.present(shared, sha1).await? else { return Ok(Known::New) };
    let ours = row.tries > 0;
    let state = if ours { State::Uploaded } else { State::Present };
    // An XMP of the owner's went as it was: the tags are still to be told.
    let told = ours && row.xmp.is_none();
    let tags = if told { vec![] } else { shared.telling.describe(row, payload.facts(), None).tags };
    let linked = linked(row, state, false);
    mark.there(row.id, &There { state, asset: present.id.clone(), sha1: Some(sha1), linked, tags })?;
    shared.progress.there.fetch_add(u64::from(!ours), Relaxed);
    shared.progress.done(row.piece.bytes);
    Ok(Known::There(present.id))
}

/// Has a still on the server a moving half?
async fn has_video(shared: &Shared, asset: &AssetId) -> Result<bool, Stop> {
    let server = &*shared.server;
    match shared.patience.call(server, &shared.progress, None, async |_| server.asset(asset).await).await {
        Ok(asset) => Ok(asset.is_some_and(|asset| asset.live_video.is_some())),
        Err(Failed::This(_)) => Ok(false),
        Err(Failed::Stop(stop)) => Err(stop),
    }
}

pub fn asset_of(shared: &Shared, content: i64) -> Option<AssetId> {
    let sql = "SELECT asset FROM content WHERE id = ?1";
    let asset: Option<String> = shared.journal.db().query_row(sql, [content], |row| row.get(0)).ok()?;
    asset?.parse().ok()
}

/// Copies of a content besides the one that is read, in parts that are here.
fn copies(shared: &Shared, content: i64, read: &Piece) -> Result<Vec<Piece>, JournalError> {
    let entries: Vec<i64> = {
        let db = shared.journal.db();
        let mut query = db.prepare_cached("SELECT id FROM entry WHERE content = ?1 ORDER BY id")?;
        query.query_map([content], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
    };
    let mut found = vec![];
    for entry in entries {
        let piece = crate::content::piece_of(&shared.journal, entry)?;
        found.extend(piece.filter(|piece| piece != read && shared.sources.has(piece.part)));
    }
    Ok(found)
}

/// Reads a file, or its beginning where it is long; none where it can't be read, which is then noted. Where one copy of a short
/// one is damaged the others are tried.
async fn read(shared: &Arc<Shared>, row: &ContentRow) -> Result<Option<Payload>, Stop> {
    let (content, piece, reader, sha1) = (row.id, row.piece.clone(), shared.clone(), row.sha1);
    let start = Instant::now();
    let read = tokio::task::spawn_blocking(move || -> std::io::Result<Payload> {
        let sources = &reader.sources;
        if piece.bytes <= WHOLE_BYTES_MAX {
            let (held, sha1) = sources.held(&piece).or_else(|error| {
                let copies = copies(&reader, content, &piece).unwrap_or_default();
                copies.iter().find_map(|copy| sources.held(copy).ok()).ok_or(error)
            })?;
            let facts = Facts::of(&held.head(exif::HEAD_BYTES), |at, bytes| held.at(at, bytes));
            return Ok(Payload::Whole { held, sha1, facts });
        }
        let mut reader = sources.read(&piece)?;
        let mut head = vec![];
        (&mut reader).take(exif::HEAD_BYTES as u64).read_to_end(&mut head)?;
        let facts = Facts::of(&head, |at, bytes| sources.at(&piece, at, bytes));
        Ok(Payload::Long { sha1, facts, begun: Some((head, reader)) })
    });
    let read = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    shared.progress.disk_nanos.fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
    match read {
        Ok(payload) => Ok(Some(payload)),
        Err(error) => {
            fail(shared, row, &format!("it can't be read: {error}"))?;
            Ok(None)
        }
    }
}

/// Leaves out a file that is not of the dates asked for, where only the file tells; and its moving half. Returns whether it did.
pub fn leave_out(shared: &Shared, row: &ContentRow, facts: &Facts) -> Result<bool, Stop> {
    if !shared.telling.is_of_other_date(row, facts) {
        return Ok(false);
    }
    let half = Mark(&shared.journal).other_date(row.id, &facts.text())?;
    [Some(row.piece.bytes), half].into_iter().flatten().for_each(|bytes| shared.progress.done(bytes));
    Ok(true)
}

/// Is it the moving half of a still of which only its bytes will tell whether it is of the dates asked for? It goes with that.
pub fn waits_for_still(shared: &Shared, row: &ContentRow) -> Result<bool, Stop> {
    let Some(still) = row.still.filter(|_| shared.telling.options.wants_dates()) else { return Ok(false) };
    let still = ContentRow::load(&shared.journal, still)?;
    Ok(still.is_some_and(|still| {
        matches!(still.state, State::Planned | State::Sending) && shared.telling.is_judged_when_read(&still)
    }))
}

/// The bytes of a long file in an archive that can't be sought in are gone when they were sent: its next walk has them again.
#[derive(Debug, thiserror::Error)]
#[error("its bytes come by again with the next walk through its archive")]
pub struct Again;

/// Notes that a file failed.
pub fn fail(shared: &Shared, row: &ContentRow, why: &str) -> Result<(), Stop> {
    Mark(&shared.journal).not(row.id, State::Failed, why)?;
    shared.progress.failed.fetch_add(1, Relaxed);
    shared.progress.done(row.piece.bytes);
    let failures = shared.failures.fetch_add(1, Relaxed) + 1;
    match shared.errors_max {
        Some(most) if failures >= most => Err(Stop::Errors(failures)),
        _ => Ok(()),
    }
}

/// The text of the XMP that lies beside a file.
fn own_xmp(shared: &Shared, row: &ContentRow) -> Option<String> {
    let piece = crate::content::piece_of(&shared.journal, row.xmp?).ok()??;
    String::from_utf8(shared.sources.whole(&piece).ok()?).ok()
}

/// Does the server take files of this name?
pub fn takes(about: &About, name: &str) -> bool {
    let extension = haven_takeout::names::split_extension(name).1.to_lowercase();
    about.extensions.is_empty() || about.extensions.contains(&extension)
}

/// The name under which the server takes a file: its own, or with the usual extension of what it is (`meme.jfif` is a JPEG).
fn taken_as(about: &About, name: &str, format: Option<Format>) -> Option<String> {
    if takes(about, name) {
        return Some(name.to_owned());
    }
    let usual = format!("{}{}", haven_takeout::names::split_extension(name).0, format?.extension());
    takes(about, &usual).then_some(usual)
}

async fn send(
    shared: &Arc<Shared>,
    row: &ContentRow,
    payload: Payload,
    video: Option<AssetId>,
) -> Result<Option<AssetId>, Stop> {
    let described = shared.telling.describe(row, payload.facts(), own_xmp(shared, row));
    match payload {
        Payload::Whole { held, sha1, .. } => {
            deliver(shared, row, described, Some(sha1), video, async |upload, clock| {
                Ok((shared.server.upload(upload, clock.body(held.body())).await?, Some(sha1)))
            })
            .await
        }
        Payload::Long { sha1, begun, .. } => {
            let Ok(_long) = shared.long.acquire().await else { return Ok(None) };
            let begun = Mutex::new(begun);
            deliver(shared, row, described, sha1, video, async |upload, clock| {
                let (reader, piece) = (shared.clone(), row.piece.clone());
                let begun = begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                let (body, mut sum) = body_from(move || match begun {
                    Some((head, rest)) => Ok(Box::new(Cursor::new(head).chain(rest)) as Box<dyn Read + Send>),
                    None => reader.sources.read(&piece),
                });
                let uploaded = shared.server.upload(upload, clock.body(body)).await?;
                Ok((uploaded, sha1.or(sum.try_recv().ok())))
            })
            .await
        }
    }
}

async fn hash(shared: &Arc<Shared>, piece: &Piece) -> std::io::Result<Sha1> {
    let (reader, piece) = (shared.clone(), piece.clone());
    let start = Instant::now();
    let hashed = tokio::task::spawn_blocking(move || reader.sources.hash(&piece)).await;
    shared.progress.disk_nanos.fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
    hashed.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Sends a described file with patience, and notes what became of it. `attempt` gives the answer and the SHA-1 of what it sent,
/// and lets the clock watch its body.
pub async fn deliver(
    shared: &Shared,
    row: &ContentRow,
    described: Described,
    sha1: Option<Sha1>,
    video: Option<AssetId>,
    attempt: impl AsyncFn(&Upload, &Clock) -> Result<(Uploaded, Option<Sha1>), ServerError>,
) -> Result<Option<AssetId>, Stop> {
    let Described { mut upload, dated, tags, tags_in_xmp, facts, format } = described;
    let mark = Mark(&shared.journal);
    let Some(name) = taken_as(&shared.about, &upload.name, format) else {
        let why = format!("the server takes no such files: {}", upload.name);
        if format.is_some() {
            // A photo or film it is none the less: without it the import is not whole.
            fail(shared, row, &why)?;
            return Ok(None);
        }
        mark.not(row.id, State::Unsupported, &why)?;
        shared.progress.done(row.piece.bytes);
        return Ok(None);
    };
    upload.name = name;
    upload.sha1 = sha1;
    upload.live_video.clone_from(&video);
    mark.sending(row, &upload.name, dated, facts.as_deref())?;
    let mut earlier = row.tries > 0;
    let clock = Clock::start();
    shared.progress.in_flight.fetch_add(1, Relaxed);
    let server = &*shared.server;
    let answer = shared
        .patience
        .call(server, &shared.progress, Some(&shared.lane), async |tries| {
            earlier |= tries > 0;
            let answer = attempt(&upload, &clock).await;
            clock.answered();
            answer
        })
        .await;
    shared.progress.in_flight.fetch_sub(1, Relaxed);
    let took = clock.stop(&shared.progress);
    match answer {
        Ok((uploaded, sha1)) => {
            // After a lost answer the duplicate is our own.
            let ours = !uploaded.duplicate || earlier;
            let state = if ours { State::Uploaded } else { State::Present };
            let tags = if uploaded.duplicate && !earlier || !tags_in_xmp { tags } else { vec![] };
            let linked = linked(row, state, !uploaded.duplicate && video.is_some());
            mark.there(row.id, &There { state, asset: uploaded.id.clone(), sha1, linked, tags })?;
            if uploaded.duplicate {
                shared.progress.there.fetch_add(u64::from(!ours), Relaxed);
            } else {
                shared.progress.sent.fetch_add(1, Relaxed);
                shared.progress.sent_bytes.fetch_add(row.piece.bytes, Relaxed);
            }
            shared.progress.done(row.piece.bytes);
            if row.piece.bytes <= WHOLE_BYTES_MAX {
                shared.lane.done(row.piece.bytes, took);
            }
            Ok(Some(uploaded.id))
        }
        Err(Failed::Stop(stop)) => Err(stop),
        // It stays under way until then.
        Err(Failed::This(ServerError::Source(error))) if error.get_ref().is_some_and(|error| error.is::<Again>()) => {
            Ok(None)
        }
        Err(Failed::This(error)) => {
            let why = match &error {
                ServerError::TooLarge(what) => format!(
                    "a file of {} MB is not let through: a proxy before the server limits the length of requests \
                     (nginx: client_max_body_size); use the server's own address and port ({what})",
                    row.piece.bytes / 1_000_000
                ),
                other => other.to_string(),
            };
            fail(shared, row, &why)?;
            Ok(None)
        }
    }
}
