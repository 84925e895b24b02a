//! Is everything there? The server is asked for each SHA-1, and must name the id that the journal has.

use futures::{StreamExt, stream};

use crate::{
    asked,
    patience::{Failed, Stop},
    server::{AlbumId, AssetId, ServerError, Sha1},
    upload::Shared,
};

/// Contents in one question.
const BATCH: usize = 1000;

/// Told of what is in the server's trash and was not put there by us.
const IN_TRASH: &str = "it is in the server's trash; --restore takes it out";

/// What a look at the server showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    pub checked: u64,
    /// Not there any more, or never: planned again.
    pub missing: u64,
    /// Album members that the album did not have: planned again.
    pub loose: u64,
}

/// Contents that were not looked at since they were sent; and where what is in the trash is to be taken out, those that an
/// earlier look saw there.
fn due(shared: &Shared) -> &'static str {
    match shared.telling.options.restore {
        true => "FROM content WHERE state IN (2, 3) AND verified IN (0, 2)",
        false => "FROM content WHERE state IN (2, 3) AND verified = 0",
    }
}

/// Looks at all that is due.
pub async fn verify(shared: &Shared) -> Result<Verified, Stop> {
    let mut verified = Verified::default();
    // Older versions told it, and took it for done.
    let sql = "UPDATE content SET verified = 2 WHERE verified = 1 AND why = ?1";
    shared.journal.db().execute(sql, [IN_TRASH])?;
    let total = shared.journal.count(&format!("SELECT count(*) {}", due(shared)))?;
    shared.progress.begin("verify", total, 0);
    let mut after = 0;
    loop {
        let batch = unverified(shared, after)?;
        let Some((last, ..)) = batch.last() else { break };
        after = *last;
        check(shared, &batch, &mut verified).await?;
        (0..batch.len()).for_each(|_| shared.progress.done(0));
    }
    albums(shared, &mut verified).await?;
    if shared.telling.options.verify_downloads {
        downloads(shared).await?;
    }
    Ok(verified)
}

type Row = (i64, Option<Sha1>, AssetId);

fn unverified(shared: &Shared, after: i64) -> Result<Vec<Row>, Stop> {
    let db = shared.journal.db();
    let mut query =
        db.prepare_cached(&format!("SELECT id, sha1, asset {} AND id > ?1 ORDER BY id LIMIT ?2", due(shared)))?;
    let rows = query.query_map([after, BATCH as i64], |row| {
        Ok((row.get(0)?, row.get::<_, Option<[u8; 20]>>(1)?, row.get::<_, String>(2)?))
    })?;
    let rows: Vec<(i64, Option<[u8; 20]>, String)> = rows.collect::<rusqlite::Result<_>>()?;
    let row = |(id, sha1, asset): (i64, Option<[u8; 20]>, String)| Some((id, sha1.map(Sha1), asset.parse().ok()?));
    Ok(rows.into_iter().filter_map(row).collect())
}

async fn ask<T>(shared: &Shared, mut ask: impl AsyncFnMut() -> Result<T, ServerError>) -> Result<T, Stop> {
    let server = &*shared.server;
    match shared.patience.call(server, &shared.progress, None, async |_| ask().await).await {
        Ok(answer) => Ok(answer),
        Err(Failed::Stop(stop)) => Err(stop),
        Err(Failed::This(error)) => Err(Stop::Strange(error.to_string())),
    }
}

async fn check(shared: &Shared, batch: &[Row], verified: &mut Verified) -> Result<(), Stop> {
    let sums: Vec<Sha1> = batch.iter().filter_map(|(_, sha1, _)| *sha1).collect();
    let mut answers = asked::ask(shared, &sums).await?.into_iter();
    let mut found = Vec::with_capacity(batch.len());
    for (_, sha1, asset) in batch {
        found.push(match sha1 {
            Some(_) => answers.next().flatten().map(|present| (present.id, present.trashed)),
            None => ask(shared, async || shared.server.asset(asset).await).await?.map(|now| (now.id, now.trashed)),
        });
    }
    let trashed = note(shared, batch, found, verified)?;
    in_trash(shared, &trashed).await
}

/// Notes what was found, for a whole batch at once. Returns what is in the trash and was not put there by us.
fn note(
    shared: &Shared,
    batch: &[Row],
    found: Vec<Option<(AssetId, bool)>>,
    verified: &mut Verified,
) -> Result<Vec<(i64, AssetId)>, Stop> {
    let mut trashed = vec![];
    let mut db = shared.journal.db();
    let tx = db.transaction()?;
    for ((id, _, asset), found) in batch.iter().zip(found) {
        verified.checked += 1;
        match found {
            Some((now, in_trash)) => {
                // What lies in the trash is due again when it is to be taken out, and done when it was.
                let sql = "UPDATE content SET verified = CASE WHEN ?3 AND NOT binned THEN 2 ELSE 1 END, asset = ?2,
                           why = CASE WHEN why <> ?4 THEN why END WHERE id = ?1 RETURNING binned";
                let values = rusqlite::params![id, now.as_str(), in_trash, IN_TRASH];
                let ours: bool = tx.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
                if now != *asset {
                    // The same bytes under another id: what was joined to the old one is joined to this one.
                    tx.execute("UPDATE member SET done = 0 WHERE content = ?1", [id])?;
                    verified.loose += 1;
                }
                if in_trash && !ours {
                    trashed.push((*id, now));
                }
            }
            None => {
                verified.missing += 1;
                let sql = "UPDATE content SET state = 0, asset = NULL, linked = 0, tries = 0, twin = NULL, why = NULL WHERE id = ?1";
                tx.execute(sql, [id])?;
                tx.execute("UPDATE member SET done = 0 WHERE content = ?1", [id])?;
            }
        }
    }
    tx.commit()?;
    Ok(trashed)
}

/// Photos that were in the server's trash when we came: taken out where that is wanted, else told.
async fn in_trash(shared: &Shared, trashed: &[(i64, AssetId)]) -> Result<(), Stop> {
    if trashed.is_empty() {
        return Ok(());
    }
    if shared.telling.options.restore {
        let ids: Vec<AssetId> = trashed.iter().map(|(_, asset)| asset.clone()).collect();
        ask(shared, async || shared.server.restore(&ids).await).await?;
        return note_all(shared, trashed, "UPDATE content SET verified = 1, why = nullif(why, ?2) WHERE id = ?1");
    }
    note_all(shared, trashed, "UPDATE content SET why = ?2 WHERE id = ?1")
}

fn note_all(shared: &Shared, contents: &[(i64, AssetId)], sql: &str) -> Result<(), Stop> {
    let mut db = shared.journal.db();
    let tx = db.transaction()?;
    for (id, _) in contents {
        tx.prepare_cached(sql)?.execute(rusqlite::params![id, IN_TRASH])?;
    }
    tx.commit()?;
    Ok(())
}

/// Downloads what this import uploaded, and compares it: what the server said of it was summed when it arrived.
async fn downloads(shared: &Shared) -> Result<(), Stop> {
    let due =
        "FROM content WHERE state = 2 AND downloaded = 0 AND twin IS NULL AND sha1 IS NOT NULL AND asset IS NOT NULL";
    let (files, bytes) = {
        let db = shared.journal.db();
        let sql = format!("SELECT count(*), coalesce(sum(bytes), 0) {due}");
        db.query_row(&sql, [], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))?
    };
    shared.progress.begin("download", files, bytes);
    let mut after = 0;
    loop {
        let batch: Vec<(i64, [u8; 20], String, i64)> = {
            let db = shared.journal.db();
            let mut query = db.prepare_cached(&format!(
                "SELECT id, sha1, asset, bytes {due} AND id > ?1 ORDER BY id LIMIT {BATCH}"
            ))?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            query.query_map([after], row)?.collect::<rusqlite::Result<_>>()?
        };
        let Some((last, ..)) = batch.last() else { return Ok(()) };
        after = *last;
        let compared = stream::iter(batch).map(|(id, sha1, asset, bytes)| async move {
            let Ok(asset) = asset.parse::<AssetId>() else { return Ok(()) };
            let server = &*shared.server;
            let got = shared.patience.call(server, &shared.progress, None, async |_| server.downloaded(&asset).await);
            let why = match got.await {
                Ok(got) if got == Sha1(sha1) => None,
                Ok(got) => {
                    Some(format!("the server gives back other bytes than it got: SHA-1 {got} and not {}", Sha1(sha1)))
                }
                Err(Failed::This(error)) => Some(format!("it could not be downloaded to be compared: {error}")),
                Err(Failed::Stop(stop)) => return Err(stop),
            };
            shared.progress.done(bytes.max(0) as u64);
            let db = shared.journal.db();
            match why {
                None => db.execute("UPDATE content SET downloaded = 1 WHERE id = ?1", [id])?,
                Some(why) => {
                    db.execute("UPDATE content SET state = 4, why = ?2 WHERE id = ?1", rusqlite::params![id, why])?
                }
            };
            Ok::<(), Stop>(())
        });
        let mut compared = std::pin::pin!(compared.buffer_unordered(4));
        while let Some(done) = compared.next().await {
            done?;
        }
    }
}

/// Do the albums that were filled in this run have all their members?
async fn albums(shared: &Shared, verified: &mut Verified) -> Result<(), Stop> {
    let albums: Vec<(i64, String)> = {
        let db = shared.journal.db();
        let mut query = db.prepare(
            "SELECT DISTINCT a.id, a.server FROM album a JOIN member m ON m.album = a.id
             WHERE a.server IS NOT NULL AND m.done = 1 ORDER BY a.id",
        )?;
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?
    };
    for (album, server) in albums {
        let Ok(id) = server.parse::<AlbumId>() else { continue };
        let members = ask(shared, async || shared.server.album_members(&id).await).await?;
        let mut db = shared.journal.db();
        let tx = db.transaction()?;
        let Some(members) = members else {
            // The album was deleted on the server meanwhile: the owner did that, and it stays so.
            tx.execute(
                "UPDATE member SET done = 2, why = 'the album is not on the server any more' WHERE album = ?1",
                [album],
            )?;
            tx.commit()?;
            continue;
        };
        let has: std::collections::HashSet<&str> = members.iter().map(AssetId::as_str).collect();
        let due: Vec<(i64, String)> = {
            let mut query = tx.prepare(
                "SELECT m.content, c.asset FROM member m JOIN content c ON c.id = m.content
                 WHERE m.album = ?1 AND m.done = 1 AND c.asset IS NOT NULL AND c.binned = 0",
            )?;
            query.query_map([album], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?
        };
        for (content, _) in due.iter().filter(|(_, asset)| !has.contains(asset.as_str())) {
            verified.loose += 1;
            tx.execute("UPDATE member SET done = 0 WHERE album = ?1 AND content = ?2", [album, *content])?;
        }
        // Seen once is enough: what the owner takes out later stays out.
        tx.execute("UPDATE member SET done = 2 WHERE album = ?1 AND done = 1", [album])?;
        tx.commit()?;
    }
    Ok(())
}
