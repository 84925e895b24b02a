//! What joins photos, when every id is known: live pairs, albums, tags, stacks, and the trash.

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt, stream};

use crate::{
    content::ALONE,
    journal::{JournalError, flag},
    late,
    patience::{Failed, Stop},
    server::{Album, AlbumId, Asset, AssetId, Change, Done, ServerError, Visibility},
    upload::Shared,
};

/// Assets in one call.
const BATCH: usize = 500;

/// All of it, in an order in which nothing needs what comes later.
pub async fn group(shared: &Shared) -> Result<(), Stop> {
    link(shared).await?;
    late::tell(shared).await?;
    tags(shared).await?;
    albums(shared).await?;
    stacks(shared).await?;
    trash(shared).await
}

/// A call with patience; what failed of it alone is given back.
pub async fn call<T>(
    shared: &Shared,
    mut call: impl AsyncFnMut() -> Result<T, ServerError>,
) -> Result<Result<T, ServerError>, Stop> {
    let server = &*shared.server;
    match shared.patience.call(server, &shared.progress, None, async |_| call().await).await {
        Ok(answer) => Ok(Ok(answer)),
        Err(Failed::This(error)) => Ok(Err(error)),
        Err(Failed::Stop(stop)) => Err(stop),
    }
}

fn pairs(shared: &Shared, sql: &str) -> Result<Vec<(i64, AssetId)>, JournalError> {
    let db = shared.journal.db();
    let mut query = db.prepare(sql)?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let rows: Vec<(i64, String)> = rows.collect::<rusqlite::Result<_>>()?;
    // An id that is none never gets into a request.
    Ok(rows.into_iter().filter_map(|(id, asset)| Some((id, asset.parse().ok()?))).collect())
}

/// Stills that were uploaded before their moving halves, or were there already.
async fn link(shared: &Shared) -> Result<(), Stop> {
    let sql = "SELECT s.id, m.asset FROM content s JOIN content m ON m.still = s.id
               WHERE s.linked = 0 AND s.state IN (2, 3) AND m.state IN (2, 3) AND m.asset IS NOT NULL";
    for (still, video) in pairs(shared, sql)? {
        let Some(asset) = crate::upload::asset_of(shared, still) else { continue };
        let now = call(shared, async || shared.server.asset(&asset).await).await?;
        let has = now.as_ref().is_ok_and(|now| now.as_ref().is_some_and(|now| now.live_video.is_some()));
        if !has {
            let change = Change { live_video: Some(video), ..Change::default() };
            if let Err(error) =
                call(shared, async || shared.server.change(std::slice::from_ref(&asset), &change).await).await?
            {
                let why = format!("its moving half could not be joined to it: {error}");
                shared
                    .journal
                    .db()
                    .execute("UPDATE content SET why = ?2 WHERE id = ?1", rusqlite::params![still, why])?;
                continue;
            }
        }
        shared.journal.db().execute("UPDATE content SET linked = 1 WHERE id = ?1", [still])?;
    }
    // Those that came alone, and whose still came after all.
    let sql = "UPDATE content SET linked = 0, why = nullif(why, ?1) WHERE linked = 2
               AND still IN (SELECT id FROM content WHERE linked = 1)";
    shared.journal.db().execute(sql, [ALONE])?;
    Ok(())
}

/// Tags of photos that were there before us: the others have them in their XMP.
async fn tags(shared: &Shared) -> Result<(), Stop> {
    let names: Vec<String> = {
        let db = shared.journal.db();
        let mut query = db.prepare(
            "SELECT DISTINCT t.tag FROM tagged t JOIN content c ON c.id = t.content
             WHERE c.state IN (2, 3) AND c.asset IS NOT NULL ORDER BY t.tag",
        )?;
        query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
    };
    if names.is_empty() {
        return Ok(());
    }
    let made = call(shared, async || shared.server.tags(&names).await).await?;
    let tags = match made {
        Ok(tags) if tags.len() == names.len() => tags,
        Ok(_) => return Err(Stop::Strange("it made other tags than were asked for".to_owned())),
        Err(error) => return Err(Stop::Strange(format!("tags: {error}"))),
    };
    for (name, tag) in names.iter().zip(tags) {
        // One tag's photos at a time: all of them with all their tags may be more than fits in memory.
        let assets: Vec<AssetId> = {
            let db = shared.journal.db();
            let mut query = db.prepare(
                "SELECT c.asset FROM tagged t JOIN content c ON c.id = t.content
                 WHERE t.tag = ?1 AND c.state IN (2, 3) AND c.asset IS NOT NULL ORDER BY c.id",
            )?;
            let rows: Vec<String> = query.query_map([name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            rows.iter().filter_map(|asset| asset.parse().ok()).collect()
        };
        for ids in assets.chunks(BATCH) {
            let tagged = call(shared, async || shared.server.tag_assets(std::slice::from_ref(&tag), ids).await).await?;
            if let Err(error) = tagged {
                return Err(Stop::Strange(format!("tags: {error}")));
            }
        }
        shared.journal.db().execute(
            "DELETE FROM tagged WHERE tag = ?1 AND content IN (SELECT id FROM content WHERE state IN (2, 3))",
            [name],
        )?;
    }
    Ok(())
}

struct ToFill {
    id: i64,
    title: String,
    description: String,
    server: Option<String>,
    /// Albums of that title before ours was made: a request that made it may have lost its answer.
    before: Option<String>,
}

/// Albums at once. Those of one title follow one another: a request whose answer was lost is known by the title of what it made.
const ALBUMS: usize = 2;

async fn albums(shared: &Shared) -> Result<(), Stop> {
    let albums = albums_to_fill(shared)?;
    shared.progress.begin("albums", albums.len() as u64, 0);
    let seen = match albums.iter().any(|album| album.server.is_none()) {
        true => call(shared, async || shared.server.albums().await).await?,
        false => Ok(vec![]),
    };
    let seen = seen.map_err(|error| Stop::Strange(format!("albums: {error}")))?;
    let mut by_title: BTreeMap<&str, Vec<&ToFill>> = BTreeMap::new();
    for album in &albums {
        by_title.entry(&album.title).or_default().push(album);
    }
    let filled = stream::iter(by_title.into_values()).map(|albums| one_after_another(shared, albums, &seen));
    let mut filled = std::pin::pin!(filled.buffer_unordered(ALBUMS));
    while let Some(done) = filled.next().await {
        done?;
    }
    Ok(())
}

async fn one_after_another(shared: &Shared, albums: Vec<&ToFill>, seen: &[Album]) -> Result<(), Stop> {
    for album in albums {
        if shared.patience.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        let sql = format!(
            "SELECT m.content, c.asset FROM member m JOIN content c ON c.id = m.content
             WHERE m.album = {} AND m.done = 0 AND c.state IN (2, 3) AND c.asset IS NOT NULL ORDER BY m.content",
            album.id
        );
        let members = pairs(shared, &sql)?;
        if !members.is_empty() {
            fill(shared, album, &members, seen).await?;
            shared.progress.done(0);
        }
    }
    Ok(())
}

fn albums_to_fill(shared: &Shared) -> Result<Vec<ToFill>, JournalError> {
    let db = shared.journal.db();
    let mut query = db.prepare(
        "SELECT id, title, description, server, before FROM album a
         WHERE EXISTS(SELECT 1 FROM member m WHERE m.album = a.id AND m.done = 0) ORDER BY id",
    )?;
    let rows = query.query_map([], |row| {
        Ok(ToFill {
            id: row.get(0)?,
            title: row.get(1)?,
            description: row.get(2)?,
            server: row.get(3)?,
            before: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

async fn fill(shared: &Shared, album: &ToFill, members: &[(i64, AssetId)], seen: &[Album]) -> Result<(), Stop> {
    let known = album.server.as_deref().and_then(|id| id.parse().ok());
    let id = match known.or(find(shared, album, seen)?) {
        Some(id) => id,
        None => match make(shared, album, seen).await? {
            Ok(id) => id,
            Err(error) => return note(shared, album.id, members, &format!("the album could not be made: {error}")),
        },
    };
    let sql = "UPDATE album SET server = ?2 WHERE id = ?1";
    shared.journal.db().execute(sql, rusqlite::params![album.id, id.as_str()])?;
    for batch in members.chunks(BATCH) {
        add(shared, album.id, &id, batch).await?;
    }
    Ok(())
}

/// The album on the server that ours is: the one that we made and lost sight of, or the only one of its title.
fn find(shared: &Shared, album: &ToFill, seen: &[Album]) -> Result<Option<AlbumId>, JournalError> {
    let db = shared.journal.db();
    let used: HashSet<String> = {
        let mut query = db.prepare("SELECT server FROM album WHERE server IS NOT NULL")?;
        query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
    };
    let mut same = seen.iter().filter(|s| s.owned && s.title == album.title && !used.contains(s.id.as_str()));
    if let Some(before) = &album.before {
        let before: Vec<String> = serde_json::from_str(before).unwrap_or_default();
        return Ok(same.find(|s| !before.iter().any(|id| id == s.id.as_str())).map(|s| s.id.clone()));
    }
    let sql = "SELECT count(*) FROM album WHERE title = ?1";
    let ours: i64 = db.query_row(sql, [&album.title], |row| row.get(0))?;
    let only = same.next().filter(|_| same.next().is_none() && ours == 1);
    Ok(only.map(|s| s.id.clone()))
}

async fn make(shared: &Shared, album: &ToFill, seen: &[Album]) -> Result<Result<AlbumId, ServerError>, Stop> {
    let before: Vec<&str> = seen.iter().filter(|s| s.title == album.title).map(|s| s.id.as_str()).collect();
    let used: Vec<String> = {
        let db = shared.journal.db();
        let mut query = db.prepare("SELECT server FROM album WHERE server IS NOT NULL AND title = ?1")?;
        query.query_map([&album.title], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
    };
    let all: Vec<&str> = before.iter().copied().chain(used.iter().map(String::as_str)).collect();
    let text = serde_json::to_string(&all).unwrap_or_default();
    shared.journal.db().execute("UPDATE album SET before = ?2 WHERE id = ?1", rusqlite::params![album.id, text])?;
    let mut tried = false;
    call(shared, async || {
        // A try whose answer was lost may have made it.
        if std::mem::replace(&mut tried, true) {
            let now = shared.server.albums().await?;
            let found = now.into_iter().find(|s| s.owned && s.title == album.title && !all.contains(&s.id.as_str()));
            if let Some(found) = found {
                return Ok(found.id);
            }
        }
        shared.server.create_album(&album.title, &album.description, &[]).await
    })
    .await
}

/// Adds members; a batch that is refused as a whole is halved until the one is found that it is about.
async fn add(shared: &Shared, album: i64, id: &AlbumId, members: &[(i64, AssetId)]) -> Result<(), Stop> {
    let mut left = vec![members];
    while let Some(batch) = left.pop() {
        let mut ids: Vec<AssetId> = batch.iter().map(|(_, asset)| asset.clone()).collect();
        ids.dedup();
        let answer = call(shared, async || shared.server.add_to_album(id, &ids).await).await?;
        match answer {
            Ok(done) if done.len() == ids.len() => {
                let refused: BTreeMap<&AssetId, &String> = ids
                    .iter()
                    .zip(&done)
                    .filter_map(|(id, done)| match done {
                        Done::Not(why) => Some((id, why)),
                        _ => None,
                    })
                    .collect();
                let mut db = shared.journal.db();
                let tx = db.transaction()?;
                for (content, asset) in batch {
                    let why = refused.get(asset);
                    tx.prepare_cached("UPDATE member SET done = ?3, why = ?4 WHERE album = ?1 AND content = ?2")?
                        .execute(rusqlite::params![album, content, why.is_none(), why])?;
                }
                tx.commit()?;
            }
            Ok(_) => return Err(Stop::Strange("it answered for other photos than were asked about".to_owned())),
            Err(ServerError::Refused { .. }) if batch.len() > 1 => {
                let (first, second) = batch.split_at(batch.len() / 2);
                left.extend([second, first]);
            }
            Err(error) => note(shared, album, batch, &error.to_string())?,
        }
    }
    Ok(())
}

fn note(shared: &Shared, album: i64, members: &[(i64, AssetId)], why: &str) -> Result<(), Stop> {
    let db = shared.journal.db();
    for (content, _) in members {
        let sql = "UPDATE member SET why = ?3 WHERE album = ?1 AND content = ?2";
        db.execute(sql, rusqlite::params![album, content, why])?;
    }
    Ok(())
}

/// Stacks of which a member is not stacked yet. Moving halves, what is in a trash and what only the locked folder shows are left
/// out: a stack would hide them, or show them.
async fn stacks(shared: &Shared) -> Result<(), Stop> {
    let piles: Vec<i64> = {
        let db = shared.journal.db();
        let mut query = db.prepare("SELECT DISTINCT pile FROM stack WHERE done = 0 ORDER BY pile")?;
        query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
    };
    for pile in piles {
        if shared.patience.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        let stacked = match shown_of(shared, members_of(shared, pile)?).await? {
            Ok(ids) if ids.len() < 2 => continue,
            Ok(ids) => call(shared, async || shared.server.stack(&ids).await).await?,
            // Without what can't be asked for it would be another stack.
            Err(error) => Err(error),
        };
        let (done, why) = match stacked {
            Ok(()) => (true, None),
            Err(error) => (false, Some(error.to_string())),
        };
        let there = "SELECT id FROM content WHERE state IN (2, 3) AND asset IS NOT NULL";
        let sql = format!("UPDATE stack SET done = ?2, why = ?3 WHERE pile = ?1 AND content IN ({there})");
        shared.journal.db().execute(&sql, rusqlite::params![pile, done, why])?;
    }
    Ok(())
}

/// The members of a stack that are on the server, the top one first; and whether they were there before us.
fn members_of(shared: &Shared, pile: i64) -> Result<Vec<(bool, AssetId)>, JournalError> {
    let db = shared.journal.db();
    let mut query = db.prepare_cached(
        "SELECT c.state = 3, c.asset FROM stack s JOIN content c ON c.id = s.content
         LEFT JOIN item i ON i.entry = c.entry LEFT JOIN sidecar j ON j.entry = i.sidecar
         WHERE s.pile = ?1 AND c.state IN (2, 3) AND c.asset IS NOT NULL AND c.still IS NULL AND c.binned = 0
           AND coalesce(j.flags, 0) & ?2 = 0 ORDER BY s.rank, (SELECT e.name FROM entry e WHERE e.id = c.entry), c.id",
    )?;
    let rows: Vec<(bool, String)> = query
        .query_map([pile, flag::TRASHED | flag::LOCKED], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(rows.into_iter().filter_map(|(present, asset)| Some((present, asset.parse().ok()?))).collect())
}

/// Those of a stack's members that are shown, each once. Of what was there before us the server is asked what became of it.
async fn shown_of(shared: &Shared, members: Vec<(bool, AssetId)>) -> Result<Result<Vec<AssetId>, ServerError>, Stop> {
    let mut ids = vec![];
    for (present, asset) in members {
        if ids.contains(&asset) {
            continue;
        }
        if present {
            match call(shared, async || shared.server.asset(&asset).await).await? {
                Ok(now) if now.as_ref().is_some_and(is_shown) => {}
                Ok(_) => continue,
                Err(error) => return Ok(Err(error)),
            }
        }
        ids.push(asset);
    }
    Ok(Ok(ids))
}

fn is_shown(asset: &Asset) -> bool {
    !asset.trashed && matches!(asset.visibility, Visibility::Timeline | Visibility::Archive)
}

/// Told of what was brought before the owner put it into the trash there.
const TRASHED_SINCE: &str = "the newest export has it in its trash; here it stays where it is";

/// What was brought as one of the trash goes into the trash here. What was brought before it was thrown away there stays, and
/// is told: an export must not take away what an earlier one gave.
async fn trash(shared: &Shared) -> Result<(), Stop> {
    {
        let db = shared.journal.db();
        db.execute("UPDATE content SET why = NULL WHERE why = ?1", [TRASHED_SINCE])?;
        db.execute(
            "UPDATE content SET why = ?1 WHERE why IS NULL AND id IN (
               SELECT c.id FROM content c JOIN entry e ON e.id = c.entry JOIN item i ON i.entry = c.entry
               LEFT JOIN sidecar s ON s.entry = i.sidecar LEFT JOIN detail t ON t.dir = e.dir AND t.name = e.name
               WHERE c.state IN (2, 3) AND c.binned = 0 AND c.still IS NULL AND coalesce(s.flags, t.flags, 0) & ?2)",
            rusqlite::params![TRASHED_SINCE, flag::TRASHED],
        )?;
    }
    if !shared.telling.options.trashed {
        return Ok(());
    }
    let sql = "SELECT id, asset FROM content WHERE binned = 2 AND state = 2 AND asset IS NOT NULL";
    for batch in pairs(shared, sql)?.chunks(BATCH) {
        let ids: Vec<AssetId> = batch.iter().map(|(_, asset)| asset.clone()).collect();
        if let Err(error) = call(shared, async || shared.server.trash(&ids).await).await? {
            return Err(Stop::Strange(format!("trash: {error}")));
        }
        for (content, _) in batch {
            shared.journal.db().execute("UPDATE content SET binned = 1 WHERE id = ?1", [content])?;
        }
    }
    Ok(())
}
