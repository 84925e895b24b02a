//! Sidecars that came after their photos: what they say is told to the server, for what we uploaded without one. What the
//! file tells was kept then, so the file need not be here. A copy under another name may have one, too.

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

/// Of a film that was sent as a moving half before it was known that it is none.
const HIDDEN: &str = "it was brought as the moving half of a photo, and is a film of its own: it is hidden behind the photo of its name until \
     the two are unlinked there (Immich: the photo's menu, unlink motion video)";

/// Tells all that is due.
pub async fn tell(shared: &Shared) -> Result<(), Stop> {
    hidden(shared).await?;
    let mut after = 0;
    loop {
        let due = due(shared, after)?;
        let Some(last) = due.last() else { return Ok(()) };
        after = last.id;
        let mut told = vec![];
        for due in due {
            told.extend(one(shared, due).await?);
        }
        untag(shared, &told).await?;
        note(shared, &told)?;
    }
}

/// Films that went with their still's sidecar and are plain now. What became of them the server is asked: the owner may have
/// taken them apart meanwhile, and what is joined there is not ours to take apart.
async fn hidden(shared: &Shared) -> Result<(), Stop> {
    let films: Vec<(i64, String)> = {
        let db = shared.journal.db();
        let mut query = db.prepare(
            "SELECT DISTINCT c.id, c.asset FROM content c JOIN item own ON own.entry = c.entry
             JOIN item o ON o.sidecar = c.told JOIN entry e ON e.id = o.entry
             WHERE c.state = 2 AND c.still IS NULL AND c.twin IS NULL AND own.role = 0 AND own.sidecar IS NOT c.told
               AND o.role = 0 AND e.content <> c.id AND NOT EXISTS(SELECT 1 FROM content t WHERE t.id = e.content AND t.twin = c.id)
               AND c.asset IS NOT NULL ORDER BY c.id",
        )?;
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?
    };
    for (id, asset) in films {
        let Ok(asset) = asset.parse::<AssetId>() else { continue };
        let now = call(shared, async || shared.server.asset(&asset).await).await?;
        let is = now.is_ok_and(|now| now.is_some_and(|now| now.visibility == Visibility::Hidden));
        let sql = "UPDATE content SET why = CASE WHEN ?2 THEN ?3 WHEN why <> ?3 THEN why END WHERE id = ?1";
        shared.journal.db().execute(sql, rusqlite::params![id, is, HIDDEN])?;
    }
    Ok(())
}

/// A content that was uploaded without a sidecar, and the one whose sidecar speaks for it now: itself, or a twin of another name.
struct Due {
    id: i64,
    speaks: i64,
}

/// A content whose sidecar was told, as what speaks for it.
struct Told {
    id: i64,
    row: ContentRow,
    asset: AssetId,
    /// Its sidecar puts it into the trash; that of a twin there puts nothing there that is not there itself.
    trashed: bool,
}

fn due(shared: &Shared, after: i64) -> Result<Vec<Due>, Stop> {
    let db = shared.journal.db();
    let mut query = db.prepare_cached(
        "WITH spoken AS MATERIALIZED (
           SELECT t.twin AS id, t.id AS speaks, row_number() OVER (PARTITION BY t.twin ORDER BY i.strong DESC, t.id) AS n
           FROM content t JOIN item i ON i.entry = t.entry
           WHERE t.twin IS NOT NULL AND t.still IS NULL AND i.sidecar IS NOT NULL)
         SELECT c.id, CASE WHEN i.sidecar IS NULL THEN spoken.speaks ELSE c.id END
         FROM content c JOIN item i ON i.entry = c.entry LEFT JOIN spoken ON spoken.id = c.id AND spoken.n = 1
         WHERE c.id > ?1 AND c.state = 2 AND c.told IS NULL AND c.facts IS NOT NULL AND c.still IS NULL AND c.twin IS NULL
           AND c.asset IS NOT NULL AND (i.sidecar IS NOT NULL OR spoken.speaks IS NOT NULL) ORDER BY c.id LIMIT ?2",
    )?;
    let rows = query.query_map([after, BATCH as i64], |row| Ok(Due { id: row.get(0)?, speaks: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

async fn one(shared: &Shared, Due { id, speaks }: Due) -> Result<Option<Told>, Stop> {
    let row = ContentRow::load(&shared.journal, speaks)?;
    let (Some(row), Some(asset)) = (row, crate::upload::asset_of(shared, id)) else { return Ok(None) };
    let kept: String =
        shared.journal.db().query_row("SELECT facts FROM content WHERE id = ?1", [id], |facts| facts.get(0))?;
    let words = shared.telling.words(&row, &Facts::kept(&kept));
    let trashed = id == speaks && row.is_trashed() && shared.telling.options.trashed;
    // What the owner wrote into an XMP beside the file went with it, and stays.
    let own = match id == speaks {
        true => row.xmp.is_some(),
        false => ContentRow::load(&shared.journal, id)?.is_none_or(|uploaded| uploaded.xmp.is_some()),
    };
    let change = Change {
        favourite: words.favourite.then_some(true),
        visibility: (words.visibility != Visibility::Timeline).then_some(words.visibility),
        taken: words.date.send.filter(|_| !own),
        place: words.place.map(|(latitude, longitude, _)| (latitude, longitude)).filter(|_| !own),
        description: words.description.filter(|_| !own),
        live_video: None,
    };
    if change == Change::default() {
        return Ok(Some(Told { id, row, asset, trashed }));
    }
    match call(shared, async || shared.server.change(std::slice::from_ref(&asset), &change).await).await? {
        Ok(()) => Ok(Some(Told { id, row, asset, trashed })),
        Err(error) => {
            let why = format!("its sidecar came later, and the server does not take what it says: {error}");
            let sql = "UPDATE content SET why = ?2 WHERE id = ?1";
            shared.journal.db().execute(sql, rusqlite::params![id, why])?;
            Ok(None)
        }
    }
}

/// They were called unmatched, and are not.
async fn untag(shared: &Shared, told: &[Told]) -> Result<(), Stop> {
    if told.is_empty() || !shared.telling.options.takeout_tag {
        return Ok(());
    }
    let ids: Vec<AssetId> = told.iter().map(|told| told.asset.clone()).collect();
    let strange = |error| Stop::Strange(format!("tags: {error}"));
    let tags = call(shared, async || shared.server.tags(&[UNMATCHED.to_owned()]).await).await?.map_err(strange)?;
    let Some(tag) = tags.first() else { return Ok(()) };
    call(shared, async || shared.server.untag_assets(tag, &ids).await).await?.map_err(strange)
}

fn note(shared: &Shared, told: &[Told]) -> Result<(), Stop> {
    let mut db = shared.journal.db();
    let tx = db.transaction()?;
    for Told { id, row, trashed, .. } in told {
        // It is put into the trash as if its sidecar had been here, unless another export gave the photo.
        tx.prepare_cached(
            "UPDATE content SET told = ?2, why = NULL, binned = CASE WHEN ?3 AND (
               SELECT count(DISTINCT p.export) FROM entry e JOIN part p ON p.id = e.part WHERE e.content = ?1) = 1
               THEN 2 ELSE binned END WHERE id = ?1",
        )?
        .execute(rusqlite::params![id, row.sidecar, trashed])?;
        for tag in shared.telling.tags(row) {
            tx.prepare_cached("INSERT OR IGNORE INTO tagged VALUES(?1, ?2)")?.execute(rusqlite::params![id, tag])?;
        }
    }
    tx.commit()?;
    Ok(())
}
