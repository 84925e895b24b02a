//! Of several copies of the same bytes, which one is read and whose sidecar speaks; and which contents are not wanted.

use rusqlite::{Transaction, params};

use crate::{
    content::ContentRow,
    describe::{Facts, Telling},
    journal::{State, flag},
    options::{Locked, Only, Options, Partner, Source},
};

/// Whether nobody but the file says what it is: for items `i` and their entries `e`.
pub const SAYS_NOTHING: &str = "i.sidecar IS NULL AND i.xmp IS NULL
  AND NOT EXISTS(SELECT 1 FROM detail t WHERE t.dir = e.dir AND t.name = e.name)";

/// Chooses a copy of each content: one with a sure sidecar, of the newest export, outside of albums; and one that is read,
/// the same where its part is here. Then which contents are moving halves, and of what.
pub fn contents(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute("UPDATE content SET entry = NULL, source = NULL, still = NULL", [])?;
    // Most contents are there once. `max` and `min` of one row are that row's.
    tx.execute(
        "UPDATE content SET entry = one.entry, source = one.entry, part = one.part, place = one.place FROM (
           SELECT e.content, min(e.id) AS entry, min(e.part) AS part, min(e.place) AS place
           FROM item i JOIN entry e ON e.id = i.entry GROUP BY e.content HAVING count(*) = 1) one
         WHERE one.content = content.id",
        [],
    )?;
    tx.execute(
        &format!(
            "UPDATE content SET entry = best.entry FROM (
               SELECT e.content, e.id AS entry, row_number() OVER (
                 PARTITION BY e.content ORDER BY i.role = 2, {SAYS_NOTHING}, i.strong DESC, p.export DESC,
                 EXISTS(SELECT 1 FROM album a WHERE a.dir = e.dir), e.id) AS n
               FROM item i JOIN entry e ON e.id = i.entry JOIN part p ON p.id = e.part
               JOIN content c ON c.id = e.content WHERE c.entry IS NULL) best
             WHERE best.n = 1 AND best.content = content.id"
        ),
        [],
    )?;
    tx.execute(
        "UPDATE content SET source = near.source, part = near.part, place = near.place FROM (
           SELECT e.content, e.id AS source, e.part, e.place, row_number() OVER (
             PARTITION BY e.content ORDER BY p.here DESC, p.kind IN ('tar', 'tgz'), e.id <> c.entry, e.id) AS n
           FROM item i JOIN entry e ON e.id = i.entry JOIN part p ON p.id = e.part
           JOIN content c ON c.id = e.content WHERE c.source IS NULL AND c.entry IS NOT NULL) near
         WHERE near.n = 1 AND near.content = content.id",
        [],
    )?;
    tx.execute(
        "UPDATE content SET still = e.content FROM item i JOIN entry e ON e.id = i.partner
         WHERE i.entry = content.entry AND i.role = 2 AND e.content <> content.id",
        [],
    )?;
    // A still has one moving half, and is none itself.
    tx.execute(
        "UPDATE content SET still = NULL WHERE still IS NOT NULL AND (
           id NOT IN (SELECT min(id) FROM content WHERE still IS NOT NULL GROUP BY still)
           OR still IN (SELECT id FROM content WHERE still IS NOT NULL))",
        [],
    )?;
    tx.execute(
        "DELETE FROM member WHERE done = 0 AND content IN (SELECT id FROM content WHERE still IS NOT NULL)",
        [],
    )?;
    Ok(())
}

/// Of what is not of the dates asked for: by its sidecar, or by what the file itself tells when it is read.
pub const OTHER_DATE: &str = "it is not of the dates asked for";
/// Of a moving half.
pub const WITHOUT_STILL: &str = "its still is not wanted";

/// Of an export that holds no sidecar at all.
const NO_SIDECARS: &str = "no part of its export that is here has a sidecar: those with Google Photos are missing, or it has none; --no-wait brings \
     it without";

/// Marks what the owner does not want, with the reason, and where parts are `lacking` what waits for them; what is done
/// already stays done. An export of which no sidecar is here lacks parts, whatever the numbers of its parts say: nothing tells
/// its photos from another product's pictures.
pub fn filter(tx: &Transaction<'_>, options: &Options, lacking: bool) -> rusqlite::Result<()> {
    let (planned, filtered) = (State::Planned as i64, State::Filtered as i64);
    tx.execute("UPDATE content SET state = ?1, why = NULL WHERE state IN (5, 6, 8)", [planned])?;
    let mut unwanted: Vec<(i64, State, &'static str)> = vec![];
    let takeout = options.source == Source::Takeout;
    // Those that no sidecar dates, and what an earlier run read in them. What was not read is judged when it is.
    let mut undated: Vec<(i64, String)> = vec![];
    {
        let mut query = tx.prepare(
            "SELECT c.id, e.name, coalesce(s.flags, t.flags, 0), coalesce(s.taken, t.taken),
               i.sidecar IS NULL AND i.xmp IS NULL AND t.name IS NULL, c.bytes, p.export NOT IN (
                 SELECT DISTINCT sp.export FROM entry se JOIN part sp ON sp.id = se.part WHERE se.kind = 1), c.facts
             FROM content c JOIN entry e ON e.id = c.entry JOIN item i ON i.entry = c.entry JOIN part p ON p.id = e.part
             LEFT JOIN sidecar s ON s.entry = i.sidecar LEFT JOIN detail t ON t.dir = e.dir AND t.name = e.name
             WHERE c.state IN (0, 1, 4)",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let name = row.get_ref(1)?.as_str()?;
            let about =
                About { name, flags: row.get(2)?, taken: row.get(3)?, unmatched: row.get(4)?, bytes: row.get(5)? };
            let none = takeout && row.get::<_, bool>(6)?;
            if let Some(why) = unwanted_because(&about, options) {
                unwanted.push((row.get(0)?, State::Filtered, why));
            } else if about.unmatched && (lacking || none) && !options.no_wait {
                let why = match none {
                    true => NO_SIDECARS,
                    false => "its sidecar may lie in a part that is missing; --no-wait brings it without",
                };
                unwanted.push((row.get(0)?, State::Held, why));
            } else if options.wants_dates()
                && about.taken.is_none()
                && let Some(facts) = row.get(7)?
            {
                undated.push((row.get(0)?, facts));
            }
        }
    }
    let telling = Telling { zone: options.zone(), options: options.clone(), session: None };
    for (id, facts) in undated {
        let row = ContentRow::of(tx, id)?;
        if row.is_some_and(|row| telling.is_of_other_date(&row, &Facts::kept(&facts))) {
            unwanted.push((id, State::Filtered, OTHER_DATE));
        }
    }
    let mut mark = tx.prepare("UPDATE content SET state = ?2, why = ?3 WHERE id = ?1")?;
    for (id, state, why) in unwanted {
        mark.execute(params![id, state as i64, why])?;
    }
    if options.only_album.is_some() {
        tx.execute(
            "UPDATE content SET state = ?1, why = 'it is not in the album asked for' WHERE state IN (0, 1, 4)
             AND id NOT IN (SELECT content FROM member)
             AND coalesce(still, 0) NOT IN (SELECT content FROM member)",
            [filtered],
        )?;
    }
    // A moving half without its still would be a stray video.
    tx.execute(
        "UPDATE content SET state = ?1, why = ?2 WHERE state IN (0, 1, 4)
         AND still IN (SELECT id FROM content WHERE state = ?1)",
        params![filtered, WITHOUT_STILL],
    )?;
    Ok(())
}

struct About<'a> {
    name: &'a str,
    flags: i64,
    taken: Option<i64>,
    unmatched: bool,
    bytes: i64,
}

fn unwanted_because(about: &About<'_>, options: &Options) -> Option<&'static str> {
    let has = |flag: i64| about.flags & flag != 0;
    let extension = haven_takeout::names::split_extension(about.name).1.to_lowercase();
    let video = haven_takeout::sniff::ALL
        .iter()
        .any(|format| format.is_video() && format.extensions().contains(&extension.as_str()));
    let why = match () {
        () if about.bytes == 0 => "it is empty",
        () if has(flag::TRASHED) && !options.trashed => "it is in the trash there",
        () if has(flag::LOCKED) && options.locked == Locked::Skip => "it is in the locked folder",
        () if has(flag::ARCHIVED) && !options.archived => "it is archived",
        () if has(flag::PARTNER) && options.partner == Partner::Skip => "it is a partner's",
        () if about.unmatched && !options.unmatched => "it has no sidecar",
        () if about.taken.is_some_and(|taken| options.is_other_date(taken)) => OTHER_DATE,
        () if !options.extensions.is_empty() && !options.extensions.contains(&extension) => {
            "its extension is not asked for"
        }
        () if options.not_extensions.contains(&extension) => "its extension is passed over",
        () if options.only == Some(Only::Image) && video => "it is a video",
        () if options.only == Some(Only::Video) && !video => "it is no video",
        () => return None,
    };
    Some(why)
}
