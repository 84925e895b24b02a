//! Sidecars that came after their photos: what they say is told to the server, for what we uploaded without one. What the
//! file tells was kept then, so the file need not be here.

use crate::{
    content::ContentRow,
    describe::{Facts, UNMATCHED},
    group::call,
    patience::Stop,
    server::{AssetId, Change, Visibility},
    upload::Shared,
};

/// Photos between two notes in the journal.
const BATCH: usize = 200;

/// Tells all that is due.
pub async fn tell(shared: &Shared) -> Result<(), Stop> {
    let mut after = 0;
    loop {
        let due = due(shared, after)?;
        let Some(last) = due.last() else { return Ok(()) };
        after = *last;
        let mut told = vec![];
        for id in due {
            if let Some((row, asset)) = one(shared, id).await? {
                told.push((row, asset));
            }
        }
        untag(shared, &told).await?;
        note(shared, &told)?;
    }
}

fn due(shared: &Shared, after: i64) -> Result<Vec<i64>, Stop> {
    let db = shared.journal.db();
    let mut query = db.prepare_cached(
        "SELECT c.id FROM content c JOIN item i ON i.entry = c.entry
         WHERE c.id > ?1 AND c.state = 2 AND c.told IS NULL AND c.facts IS NOT NULL AND i.sidecar IS NOT NULL
           AND c.still IS NULL AND c.twin IS NULL AND c.asset IS NOT NULL ORDER BY c.id LIMIT ?2",
    )?;
    Ok(query.query_map([after, BATCH as i64], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

async fn one(shared: &Shared, id: i64) -> Result<Option<(ContentRow, AssetId)>, Stop> {
    let (Some(row), Some(asset)) = (ContentRow::load(&shared.journal, id)?, crate::upload::asset_of(shared, id)) else {
        return Ok(None);
    };
    let kept: String =
        shared.journal.db().query_row("SELECT facts FROM content WHERE id = ?1", [id], |facts| facts.get(0))?;
    let words = shared.telling.words(&row, &Facts::kept(&kept));
    // What the owner wrote into an XMP beside the file went with it, and stays.
    let own = row.xmp.is_some();
    let change = Change {
        favourite: words.favourite.then_some(true),
        visibility: (words.visibility != Visibility::Timeline).then_some(words.visibility),
        taken: words.date.send.filter(|_| !own),
        place: words.place.map(|(latitude, longitude, _)| (latitude, longitude)).filter(|_| !own),
        description: words.description.filter(|_| !own),
        live_video: None,
    };
    if change == Change::default() {
        return Ok(Some((row, asset)));
    }
    match call(shared, async || shared.server.change(std::slice::from_ref(&asset), &change).await).await? {
        Ok(()) => Ok(Some((row, asset))),
        Err(error) => {
            let why = format!("its sidecar came later, and the server does not take what it says: {error}");
            let sql = "UPDATE content SET why = ?2 WHERE id = ?1";
            shared.journal.db().execute(sql, rusqlite::params![id, why])?;
            Ok(None)
        }
    }
}

/// They were called unmatched, and are not.
async fn untag(shared: &Shared, told: &[(ContentRow, AssetId)]) -> Result<(), Stop> {
    if told.is_empty() || !shared.telling.options.takeout_tag {
        return Ok(());
    }
    let ids: Vec<AssetId> = told.iter().map(|(_, asset)| asset.clone()).collect();
    let strange = |error| Stop::Strange(format!("tags: {error}"));
    let tags = call(shared, async || shared.server.tags(&[UNMATCHED.to_owned()]).await).await?.map_err(strange)?;
    let Some(tag) = tags.first() else { return Ok(()) };
    call(shared, async || shared.server.untag_assets(tag, &ids).await).await?.map_err(strange)
}

fn note(shared: &Shared, told: &[(ContentRow, AssetId)]) -> Result<(), Stop> {
    let mut db = shared.journal.db();
    let tx = db.transaction()?;
    for (row, _) in told {
        tx.prepare_cached("UPDATE content SET told = ?2, why = NULL WHERE id = ?1")?
            .execute(rusqlite::params![row.id, row.sidecar])?;
        for tag in shared.telling.tags(row) {
            tx.prepare_cached("INSERT OR IGNORE INTO tagged VALUES(?1, ?2)")?
                .execute(rusqlite::params![row.id, tag])?;
        }
    }
    tx.commit()?;
    Ok(())
}
