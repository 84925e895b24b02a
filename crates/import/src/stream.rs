//! Uploads from archives that can't be sought in: in their order, while they are read.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read},
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use haven_takeout::{exif, parts::Packed, tarball};
use tokio::sync::mpsc;

use crate::{
    content::ContentRow,
    describe::Facts,
    journal::State,
    patience::Stop,
    server::{Body, ServerError, Sha1},
    source::{body_of, pump},
    upload::{Again, Shared, WHOLE_BYTES_MAX, deliver, fail, leave_out, waits_for_still},
};

/// Files between the archive's reader and the server.
const AHEAD: usize = 2;

/// A file as it came by.
struct Came {
    content: i64,
    /// All of it, or its beginning where the rest follows in `rest`.
    bytes: Bytes,
    rest: Option<mpsc::Receiver<io::Result<Bytes>>>,
}

/// Long files whose upload was broken off. Their bytes come by once in each walk: they are sent by the next one.
#[derive(Default)]
struct Broken {
    /// In this walk.
    again: HashSet<i64>,
    /// In all walks, while the server was there.
    tries: HashMap<i64, u32>,
}

/// Uploads all that is planned and lies in streamed archives.
pub async fn upload_streams(shared: &Arc<Shared>) -> Result<(), Stop> {
    upload_each(shared).await?;
    // Halves that wait for a still in a later archive.
    if shared.telling.options.wants_dates() { upload_each(shared).await } else { Ok(()) }
}

async fn upload_each(shared: &Arc<Shared>) -> Result<(), Stop> {
    for (part, path, packed) in shared.sources.streams() {
        let mut broken = Broken::default();
        loop {
            let due = wanted(shared, part)?;
            if due.is_empty() {
                break;
            }
            let tried: HashSet<i64> = due.values().copied().collect();
            broken.again.clear();
            if let Some(damage) = walk(shared, path.clone(), packed, due, &mut broken).await? {
                // What came by is not behind the damage.
                let lost = wanted(shared, part)?.into_values().filter(|id| !broken.again.contains(id));
                for id in lost {
                    if let Some(row) = ContentRow::load(&shared.journal, id)? {
                        fail(shared, &row, &format!("its archive can't be read to its end: {damage}"))?;
                    }
                }
            }
            // What did not come by does not come by in another walk either. Halves do whose still was waited for.
            if wanted(shared, part)?.values().all(|id| tried.contains(id) && !broken.again.contains(id)) {
                break;
            }
            let most = broken.again.iter().filter_map(|id| broken.tries.get(id)).max().copied();
            shared.patience.rest(most.unwrap_or(0)).await?;
        }
    }
    Ok(())
}

/// Planned contents of a part that can be sent now, by their number in the archive.
fn wanted(shared: &Shared, part: i64) -> Result<HashMap<u64, i64>, Stop> {
    let due: Vec<(u64, i64, bool)> = {
        let db = shared.journal.db();
        let mut query = db.prepare(
            "SELECT place, id, still IS NOT NULL FROM content
             WHERE state IN (0, 1) AND entry IS NOT NULL AND part = ?1",
        )?;
        let rows = query.query_map([part], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?, row.get(2)?)))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut wanted = HashMap::with_capacity(due.len());
    for (place, id, half) in due {
        let row = if half { ContentRow::load(&shared.journal, id)? } else { None };
        let waits = match row {
            Some(row) => waits_for_still(shared, &row)?,
            None => false,
        };
        if !waits {
            wanted.insert(place, id);
        }
    }
    Ok(wanted)
}

/// Reads an archive once. Returns what was wrong with it.
async fn walk(
    shared: &Arc<Shared>,
    path: PathBuf,
    packed: Packed,
    wanted: HashMap<u64, i64>,
    broken: &mut Broken,
) -> Result<Option<String>, Stop> {
    let (sender, mut came) = mpsc::channel(AHEAD);
    let reader = tokio::task::spawn_blocking(move || {
        let mut left = wanted.len();
        tarball::walk(File::open(path)?, packed, |member, reader| {
            let Some(content) = wanted.get(&member.number) else { return Ok(ControlFlow::Continue(())) };
            left -= 1;
            let handed = hand_on(*content, member.bytes, reader, &sender)?;
            // Behind the last one nothing is read: that may be most of the archive where only a film is sent again.
            Ok(if left == 0 { ControlFlow::Break(()) } else { handed })
        })
    });
    let mut stop = None;
    loop {
        let file = tokio::select! {
            file = came.recv() => file,
            () = shared.patience.cancelled() => {
                stop = Some(Stop::Cancelled);
                break;
            }
        };
        let Some(file) = file else { break };
        if let Err(error) = take(shared, file, broken).await {
            stop = Some(error);
            break;
        }
    }
    // The reader ends when nobody takes any more: at the next file that is wanted, which nobody waits for.
    drop(came);
    if let Some(stop) = stop {
        return Err(stop);
    }
    let read = reader.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    Ok(read.err().map(|error| error.to_string()))
}

fn hand_on(
    content: i64,
    bytes: u64,
    reader: &mut dyn Read,
    sender: &mpsc::Sender<Came>,
) -> io::Result<ControlFlow<()>> {
    let whole = bytes <= WHOLE_BYTES_MAX;
    let mut head = vec![];
    reader.take(if whole { bytes } else { exif::HEAD_BYTES as u64 }).read_to_end(&mut head)?;
    let (pieces, rest) = mpsc::channel(2);
    let file = Came { content, bytes: head.into(), rest: (!whole).then_some(rest) };
    if sender.blocking_send(file).is_err() {
        return Ok(ControlFlow::Break(()));
    }
    if !whole {
        // Where the upload was broken off the rest is passed over.
        pump(reader, &pieces);
    }
    Ok(ControlFlow::Continue(()))
}

async fn take(shared: &Arc<Shared>, file: Came, broken: &mut Broken) -> Result<(), Stop> {
    let Some(row) = ContentRow::load(&shared.journal, file.content)? else { return Ok(()) };
    let video = match ContentRow::motion_of(&shared.journal, row.id)? {
        Some(motion) if motion.state.is_there() => crate::upload::asset_of(shared, motion.id),
        _ => None,
    };
    let facts = Facts::of(&file.bytes[..file.bytes.len().min(exif::HEAD_BYTES)], |at, bytes| {
        let at = usize::try_from(at).ok()?;
        Some(file.bytes.get(at..)?.iter().take(bytes).copied().collect())
    });
    if leave_out(shared, &row, &facts)? {
        return Ok(());
    }
    let described = shared.telling.describe(&row, &facts, None);
    let sha1: Option<Sha1> = row.sha1;
    let Some(rest) = file.rest else {
        deliver(shared, &row, described, sha1, video, async |upload, clock| {
            Ok((shared.server.upload(upload, clock.body(body_of(&file.bytes))).await?, sha1))
        })
        .await?;
        return Ok(());
    };
    let (once, why) = (Mutex::new(Some(body(file.bytes, rest))), Mutex::new(String::new()));
    let returns = shared.patience.returns();
    deliver(shared, &row, described, sha1, video, async |upload, clock| {
        let body = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        let body = body.ok_or_else(|| ServerError::Source(io::Error::other(Again)))?;
        let sent = shared.server.upload(upload, clock.body(body)).await;
        if let Err(error) = &sent {
            *why.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
        }
        Ok((sent?, sha1))
    })
    .await?;
    let now = ContentRow::load(&shared.journal, row.id)?;
    if now.is_none_or(|now| now.state != State::Sending) {
        return Ok(());
    }
    // A server that was away has been waited for, and that is no fault of the file.
    let tries = broken.tries.entry(row.id).or_default();
    *tries += u32::from(shared.patience.returns() == returns);
    if *tries >= shared.patience.tries() {
        return fail(shared, &row, &why.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    broken.again.insert(row.id);
    Ok(())
}

fn body(head: Bytes, rest: mpsc::Receiver<io::Result<Bytes>>) -> Body {
    let rest = stream::unfold(rest, |mut rest| async move { Some((rest.recv().await?, rest)) });
    body_of(&head).chain(rest).boxed()
}
