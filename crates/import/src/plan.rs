//! Which sidecar speaks for which bytes, which albums there are, and what is not wanted: from the index, without a server.
//!
//! Planning again is always right: what was matched is written anew, and what became of each content stays.

use std::collections::{BTreeMap, HashMap, HashSet};

use haven_takeout::{
    Confidence, Role,
    names::split_extension,
    tree::{Content, Entry, Kind, Tree, resolve},
};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::{
    choose,
    journal::{EntryKind, Journal, JournalError},
    options::{FolderAlbums, Options, Partner, Source},
};

/// A row of the index. Texts lie in one string, so that half a million of them cost little.
struct Row {
    id: i64,
    kind: EntryKind,
    path: (usize, usize),
    title: (usize, usize),
    taken: Option<i64>,
    content: Content,
}

/// Roles as kept.
pub const PLAIN: i64 = 0;
pub const EDITED: i64 = 1;
pub const MOTION: i64 = 2;

/// Matches everything that the journal holds.
pub fn plan(journal: &Journal, options: &Options) -> Result<(), JournalError> {
    let mut db = journal.db();
    let tx = db.transaction()?;
    for table in ["item", "excluded", "used"] {
        tx.execute(&format!("DELETE FROM {table}"), [])?;
    }
    tx.execute("DELETE FROM member WHERE done = 0", [])?;
    tx.execute("DELETE FROM album WHERE server IS NULL AND before IS NULL", [])?;
    tx.execute("DELETE FROM stack WHERE done = 0", [])?;
    let exports = {
        let mut query = tx.prepare("SELECT DISTINCT export FROM part ORDER BY export DESC")?;
        query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?
    };
    // Names mean something within one export only: in another one the same name can be another photo.
    for export in exports {
        plan_export(&tx, &export, options)?;
    }
    choose::contents(&tx)?;
    choose::filter(&tx, options)?;
    whole_albums(&tx, options)?;
    if options.stack_edited {
        tx.execute(
            "INSERT OR IGNORE INTO stack(top, below)
             SELECT c.id, e.content FROM content c JOIN item i ON i.entry = c.entry AND i.role = 1
             JOIN entry e ON e.id = i.partner WHERE e.content <> c.id",
            [],
        )?;
    }
    tx.commit()?;
    drop(db);
    journal.set_meta("options", &serde_json::to_string(options).unwrap_or_default())
}

fn plan_export(tx: &Transaction<'_>, export: &str, options: &Options) -> rusqlite::Result<()> {
    let (text, rows) = load(tx, export)?;
    let path = |row: &Row| &text[row.path.0..row.path.1];
    let roots = roots(&rows, path);
    let mut exclude = tx.prepare("INSERT OR IGNORE INTO excluded VALUES(?1, ?2)")?;
    let mut kept: Vec<&Row> = vec![];
    for row in &rows {
        let banned = options.banned(path(row)).map(|ban| format!("its name is passed over: {ban}"));
        let foreign = options.source == Source::Takeout && !roots.contains(root_of(path(row)));
        let why = banned.or_else(|| foreign.then(|| "no folder of Google Photos".to_owned()));
        match why {
            Some(why) => {
                exclude.execute(params![row.id, why])?;
            }
            None => kept.push(row),
        }
    }
    let entries: Vec<Entry<'_>> = kept
        .iter()
        .map(|row| {
            let title = &text[row.title.0..row.title.1];
            let kind = match row.kind {
                EntryKind::Media => Kind::Media(row.content),
                EntryKind::Sidecar => Kind::Sidecar { title, taken: row.taken },
                EntryKind::AlbumJson => Kind::Album { title },
                _ => Kind::Other,
            };
            Entry { path: path(row), kind }
        })
        .collect();
    let suffixes: Vec<&str> = options.edited_suffixes.iter().map(String::as_str).collect();
    let tree = resolve(&entries, &suffixes);
    let xmp = xmps(&kept, path);
    write_items(tx, &kept, &tree, |row| {
        let stem = split_extension(path(row)).0;
        let of = |name: &str| xmp.get(&name.to_lowercase()).copied();
        of(path(row)).or_else(|| of(stem))
    })?;
    if options.albums {
        write_albums(tx, &kept, &tree, options, |row| &text[row.title.0..row.title.1])?;
    }
    Ok(())
}

fn load(tx: &Transaction<'_>, export: &str) -> rusqlite::Result<(String, Vec<Row>)> {
    let mut query = tx.prepare(
        "SELECT e.id, e.kind, d.path, e.name, e.crc32, e.bytes, coalesce(s.title, a.title, ''), s.taken
         FROM entry e JOIN part p ON p.id = e.part JOIN dir d ON d.id = e.dir
         LEFT JOIN sidecar s ON s.entry = e.id LEFT JOIN album_json a ON a.entry = e.id
         WHERE p.export = ?1 AND e.kind IN (0, 1, 2, 6) ORDER BY e.id",
    )?;
    let mut found = query.query([export])?;
    let (mut text, mut rows) = (String::new(), vec![]);
    while let Some(row) = found.next()? {
        let start = text.len();
        let directory = row.get_ref(2)?.as_str()?;
        text.push_str(directory);
        if !directory.is_empty() {
            text.push('/');
        }
        text.push_str(row.get_ref(3)?.as_str()?);
        let middle = text.len();
        text.push_str(row.get_ref(6)?.as_str()?);
        rows.push(Row {
            id: row.get(0)?,
            kind: EntryKind::of(row.get(1)?),
            path: (start, middle),
            title: (middle, text.len()),
            taken: row.get(7)?,
            content: Content { crc32: row.get(4)?, bytes: row.get::<_, i64>(5)? as u64 },
        });
    }
    Ok((text, rows))
}

/// The folder that holds the folder of a file.
fn root_of(path: &str) -> &str {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    directory.rsplit_once('/').map_or("", |(root, _)| root)
}

/// Folders of Google Photos are those that hold sidecars of photos: a full Takeout has pictures of other products too.
fn roots<'a>(rows: &'a [Row], path: impl Fn(&'a Row) -> &'a str) -> HashSet<&'a str> {
    rows.iter().filter(|row| row.kind == EntryKind::Sidecar).map(|row| root_of(path(row))).collect()
}

/// XMP sidecars by the path, in lower case, that they speak for.
fn xmps<'a>(rows: &[&'a Row], path: impl Fn(&'a Row) -> &'a str) -> HashMap<String, i64> {
    let xmps = rows.iter().filter(|row| row.kind == EntryKind::Xmp);
    xmps.map(|row| (split_extension(path(row)).0.to_lowercase(), row.id)).collect()
}

fn write_items(
    tx: &Transaction<'_>,
    rows: &[&Row],
    tree: &Tree,
    xmp: impl Fn(&Row) -> Option<i64>,
) -> rusqlite::Result<()> {
    let mut insert = tx.prepare("INSERT INTO item VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let mut used = tx.prepare("INSERT OR IGNORE INTO used VALUES(?1)")?;
    for (at, found) in &tree.media {
        let (role, partner) = match found.role {
            Role::Plain => (PLAIN, None),
            Role::Edited(original) => (EDITED, original),
            Role::Motion(still) => (MOTION, still),
        };
        let sidecar = found.sidecar.map(|(sidecar, _, _)| rows[sidecar].id);
        let rule = found.sidecar.map(|(_, rule, _)| rule as i64);
        let strong = found.sidecar.is_some_and(|(_, _, confidence)| confidence == Confidence::Strong);
        let row = rows[*at];
        insert.execute(params![row.id, sidecar, rule, strong, role, partner.map(|at| rows[at].id), xmp(row)])?;
        if let Some(sidecar) = sidecar {
            used.execute([sidecar])?;
        }
    }
    let orphans: HashSet<usize> = tree.orphans.iter().copied().collect();
    let sidecars = rows.iter().enumerate().filter(|(_, row)| row.kind == EntryKind::Sidecar);
    // What is no orphan served a file, an album, or is an older edition of one that did.
    for (_, row) in sidecars.filter(|(at, _)| !orphans.contains(at)) {
        used.execute([row.id])?;
    }
    Ok(())
}

fn write_albums<'a>(
    tx: &Transaction<'_>,
    rows: &[&'a Row],
    tree: &Tree,
    options: &Options,
    title: impl Fn(&'a Row) -> &'a str,
) -> rusqlite::Result<()> {
    for members in &tree.albums {
        let json = rows[members.album];
        let folder = members.directory.rsplit('/').next().unwrap_or_default();
        let title = match title(json) {
            "" if options.untitled_albums => folder,
            title => title,
        };
        if title.is_empty() || options.only_album.as_deref().is_some_and(|only| only != title && only != folder) {
            continue;
        }
        let sql = "SELECT description FROM album_json WHERE entry = ?1";
        let description: String = tx.query_row(sql, [json.id], |row| row.get(0))?;
        let directory = tx.query_row("SELECT id FROM dir WHERE path = ?1", [&members.directory], |row| row.get(0))?;
        let album = album(tx, Some(directory), title, &description)?;
        let mut add = tx.prepare_cached(
            "INSERT OR IGNORE INTO member(album, content) SELECT ?1, id FROM content WHERE bytes = ?2 AND crc32 = ?3",
        )?;
        for content in &members.contents {
            add.execute(params![album, content.bytes as i64, content.crc32])?;
        }
    }
    Ok(())
}

/// The album of a folder, or of that title where no folder stands for it.
fn album(tx: &Transaction<'_>, directory: Option<i64>, title: &str, description: &str) -> rusqlite::Result<i64> {
    let known: Option<i64> = match directory {
        Some(directory) => tx.query_row("SELECT id FROM album WHERE dir = ?1", [directory], |row| row.get(0)),
        None => tx.query_row("SELECT id FROM album WHERE dir IS NULL AND title = ?1", [title], |row| row.get(0)),
    }
    .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    tx.execute(
        "INSERT INTO album(dir, title, description) VALUES(?1, ?2, ?3)",
        params![directory, title, description],
    )?;
    Ok(tx.last_insert_rowid())
}

/// Albums that no JSON makes: of folders, of a partner, of everything.
fn whole_albums(tx: &Transaction<'_>, options: &Options) -> rusqlite::Result<()> {
    let shown = "SELECT ?1, c.id FROM content c JOIN entry e ON e.id = c.entry
                 LEFT JOIN item i ON i.entry = c.entry LEFT JOIN sidecar s ON s.entry = i.sidecar
                 WHERE c.still IS NULL AND c.entry IS NOT NULL";
    let add = |album: i64, and: &str| {
        tx.execute(&format!("INSERT OR IGNORE INTO member(album, content) {shown} {and}"), [album])
    };
    if let Some(title) = &options.into_album {
        add(album(tx, None, title, "")?, "")?;
    }
    if let Partner::Album(title) = &options.partner {
        add(album(tx, None, title, "")?, "AND s.flags & 16")?;
    }
    if options.folder_albums == FolderAlbums::None {
        return Ok(());
    }
    let mut titles: BTreeMap<i64, String> = BTreeMap::new();
    let mut query = tx.prepare(
        "SELECT DISTINCT d.id, d.path, p.path FROM item i JOIN entry e ON e.id = i.entry JOIN dir d ON d.id = e.dir
         JOIN part p ON p.id = e.part WHERE p.kind = 'folder'",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (path, root): (String, String) = (row.get(1)?, row.get(2)?);
        let root = root.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        let whole = if path.is_empty() { root.clone() } else { format!("{root}/{path}") };
        let last = whole.rsplit('/').next().unwrap_or_default().to_owned();
        let title = if options.folder_albums == FolderAlbums::Path { whole.replace('/', " / ") } else { last };
        titles.insert(row.get(0)?, title);
    }
    for (directory, title) in titles {
        let album = album(tx, Some(directory), &title, "")?;
        tx.execute(
            "INSERT OR IGNORE INTO member(album, content)
             SELECT ?1, c.id FROM entry e JOIN content c ON c.id = e.content WHERE e.dir = ?2 AND c.still IS NULL",
            [album, directory],
        )?;
    }
    Ok(())
}
