//! Uploads from archives that can't be sought in: in their order, while they are read.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use haven_takeout::{exif, parts::Packed, tarball};
use tokio::sync::mpsc;

use crate::{
    content::ContentRow,
    describe::Facts,
    patience::Stop,
    server::{Body, ServerError, Sha1},
    source::{body_of, pump},
    upload::{Shared, WHOLE_BYTES_MAX, deliver, fail, planned},
};

/// Files between the archive's reader and the server.
const AHEAD: usize = 2;
/// How often an archive is read when long files in it were broken off.
const WALKS: u32 = 3;

/// A file as it came by.
struct Came {
    content: i64,
    /// All of it, or its beginning where the rest follows in `rest`.
    bytes: Bytes,
    rest: Option<mpsc::Receiver<io::Result<Bytes>>>,
}

/// Uploads all that is planned and lies in streamed archives.
pub async fn upload_streams(shared: &Arc<Shared>) -> Result<(), Stop> {
    for (part, path, packed) in shared.sources.streams() {
        for _ in 0..WALKS {
            let wanted = wanted(shared, part)?;
            if wanted.is_empty() {
                break;
            }
            if let Some(damage) = walk(shared, path.clone(), packed, wanted).await? {
                for id in wanted_ids(shared, part)? {
                    if let Some(row) = ContentRow::load(&shared.journal, id)? {
                        fail(shared, &row, &format!("its archive can't be read to its end: {damage}"))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Planned contents of a part, by their number in the archive.
fn wanted(shared: &Shared, part: i64) -> Result<HashMap<u64, i64>, Stop> {
    let db = shared.journal.db();
    let sql = "SELECT place, id FROM content WHERE state IN (0, 1) AND entry IS NOT NULL AND part = ?1";
    let mut query = db.prepare(sql)?;
    let rows = query.query_map([part], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn wanted_ids(shared: &Shared, part: i64) -> Result<Vec<i64>, Stop> {
    Ok(planned(&shared.journal)?.into_iter().filter(|due| due.part == part).map(|due| due.id).collect())
}

/// Reads an archive once. Returns what was wrong with it.
async fn walk(
    shared: &Arc<Shared>,
    path: PathBuf,
    packed: Packed,
    wanted: HashMap<u64, i64>,
) -> Result<Option<String>, Stop> {
    let (sender, mut came) = mpsc::channel(AHEAD);
    let reader = tokio::task::spawn_blocking(move || {
        tarball::walk(File::open(path)?, packed, |member, reader| match wanted.get(&member.number) {
            Some(content) => hand_on(*content, member.bytes, reader, &sender),
            None => Ok(ControlFlow::Continue(())),
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
        if let Err(error) = take(shared, file).await {
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

async fn take(shared: &Arc<Shared>, file: Came) -> Result<(), Stop> {
    let Some(row) = ContentRow::load(&shared.journal, file.content)? else { return Ok(()) };
    let video = match ContentRow::motion_of(&shared.journal, row.id)? {
        Some(motion) if motion.state.is_there() => crate::upload::asset_of(shared, motion.id),
        _ => None,
    };
    let facts = Facts::of(&file.bytes[..file.bytes.len().min(exif::HEAD_BYTES)], |at, bytes| {
        let at = usize::try_from(at).ok()?;
        Some(file.bytes.get(at..)?.iter().take(bytes).copied().collect())
    });
    let described = shared.telling.describe(&row, &facts, None);
    let sha1: Option<Sha1> = row.sha1;
    let Some(rest) = file.rest else {
        deliver(shared, &row, described, sha1, video, async |upload, clock| {
            Ok((shared.server.upload(upload, clock.body(body_of(&file.bytes))).await?, sha1))
        })
        .await?;
        return Ok(());
    };
    let once = std::sync::Mutex::new(Some(body(file.bytes, rest)));
    deliver(shared, &row, described, sha1, video, async |upload, clock| {
        let body = once.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let again = || io::Error::other("the connection broke while a long file was streamed from an archive");
        let body = body.ok_or_else(|| ServerError::Source(again()))?;
        Ok((shared.server.upload(upload, clock.body(body)).await?, sha1))
    })
    .await?;
    Ok(())
}

fn body(head: Bytes, rest: mpsc::Receiver<io::Result<Bytes>>) -> Body {
    let rest = stream::unfold(rest, |mut rest| async move { Some((rest.recv().await?, rest)) });
    body_of(&head).chain(rest).boxed()
}
