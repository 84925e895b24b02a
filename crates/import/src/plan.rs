//! Which sidecar speaks for which bytes, which albums there are, and what is not wanted: from the index, without a server.
//!
//! Planning again is always right: what was matched is written anew, and what became of each content stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use haven_takeout::{
    Confidence, Role, Rule,
    names::split_extension,
    tree::{self, Absent, Copies, Directory, Elsewhere, Entry, Found, Kind},
};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::{
    choose,
    halves::mark_of,
    journal::{EntryKind, Journal, JournalError},
    options::{FolderAlbums, Options, Partner, Source},
    pile::Piles,
};

/// A row of the index.
struct Row {
    id: i64,
    part: i64,
    kind: EntryKind,
    /// Of the directory's texts: the name, and the title in it.
    name: (usize, usize),
    title: (usize, usize),
    taken: Option<i64>,
    content: i64,
}

/// A directory, and the names and titles in it: in one string, so that a hundred thousand of them cost little.
struct Folder {
    path: String,
    text: String,
    rows: Vec<Row>,
}

/// Roles as kept.
pub const PLAIN: i64 = 0;
pub const EDITED: i64 = 1;
pub const MOTION: i64 = 2;

/// Matches everything that the journal holds. `lacking`: parts are missing, so a photo without a sidecar may get one yet.
pub fn plan(journal: &Journal, options: &Options, lacking: bool) -> Result<(), JournalError> {
    let mut db = journal.db();
    let tx = db.transaction()?;
    for table in ["item", "excluded", "orphan", "undecided"] {
        tx.execute(&format!("DELETE FROM {table}"), [])?;
    }
    tx.execute("DELETE FROM member WHERE done = 0", [])?;
    tx.execute("DELETE FROM album WHERE server IS NULL AND before IS NULL", [])?;
    tx.execute("DELETE FROM stack WHERE done = 0", [])?;
    if options.source == Source::Takeout {
        // What was unpacked or renamed tells no export: it is of the one that others tell, where there is one and no other.
        tx.execute(
            "UPDATE part SET export = (SELECT max(export) FROM part) WHERE export = ''
             AND (SELECT count(DISTINCT export) FROM part WHERE export <> '') = 1",
            [],
        )?;
    }
    let exports = {
        let mut query = tx.prepare("SELECT DISTINCT export FROM part ORDER BY export DESC")?;
        query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?
    };
    // Names mean something within one export only: in another one the same name can be another photo.
    let mut piles = Piles::default();
    for export in exports {
        Export { tx: &tx, export: &export, options }.plan(&mut piles)?;
    }
    choose::contents(&tx)?;
    choose::filter(&tx, options, lacking)?;
    if options.albums {
        listed_albums(&tx, options)?;
    }
    whole_albums(&tx, options)?;
    piles.write(&tx)?;
    tx.commit()?;
    drop(db);
    journal.set_meta("options", &serde_json::to_string(options).unwrap_or_default())
}

/// One export, planned directory by directory: what is in memory is one of them, and what was left over in all.
struct Export<'a> {
    tx: &'a Transaction<'a>,
    export: &'a str,
    options: &'a Options,
}

impl Export<'_> {
    fn plan(&self, piles: &mut Piles) -> rusqlite::Result<()> {
        let roots = self.roots()?;
        let (mut copies, mut elsewhere, mut absent) = (Copies::default(), Elsewhere::default(), Absent::default());
        // Sidecars of albums whose photo is not there: album and sidecar.
        let mut wanted: Vec<(i64, i64)> = vec![];
        for (id, path) in self.directories()? {
            let folder = self.load(id, path, &roots)?;
            let found = self.pair(&folder)?;
            for (id, found) in found.media.iter().filter(|(_, found)| found.sidecar.is_none()) {
                let row = folder.row(*id);
                copies.bare(row.content);
                if found.role == Role::Plain {
                    elsewhere.bare(*id, last(&folder.path), folder.name(row));
                }
            }
            self.stack(&folder, &found, piles);
            let album = self.album(id, &folder, &found)?;
            for id in &found.free {
                let row = folder.row(*id);
                elsewhere.free(*id, folder.name(row), folder.title(row), row.taken);
                if let Some(album) = album {
                    absent.want(folder.name(row), folder.title(row), row.taken);
                    wanted.push((album, *id));
                }
            }
        }
        self.take_copies(&mut copies)?;
        self.take_elsewhere(&mut elsewhere)?;
        self.take_absent(absent, &wanted)
    }

    fn directories(&self) -> rusqlite::Result<Vec<(i64, String)>> {
        let mut query = self.tx.prepare(
            "SELECT id, path FROM dir WHERE id IN
               (SELECT e.dir FROM entry e JOIN part p ON p.id = e.part WHERE p.export = ?1) ORDER BY path",
        )?;
        query.query_map([self.export], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    /// Folders of Google Photos are those that hold sidecars of photos: a full Takeout has pictures of other products too. Where
    /// there is none, all sidecars may lie in parts that are not here, and nothing is known to be another product's: all of it waits
    /// ([`choose::filter`]).
    fn roots(&self) -> rusqlite::Result<HashSet<String>> {
        let mut query = self.tx.prepare(
            "SELECT path FROM dir WHERE id IN
               (SELECT e.dir FROM entry e JOIN part p ON p.id = e.part WHERE p.export = ?1 AND e.kind = 1)",
        )?;
        let root = |row: &rusqlite::Row<'_>| Ok(above(row.get_ref(0)?.as_str()?).to_owned());
        query.query_map([self.export], root)?.collect()
    }

    /// The files of a directory that are wanted; what is passed over is noted.
    fn load(&self, directory: i64, path: String, roots: &HashSet<String>) -> rusqlite::Result<Folder> {
        let mut query = self.tx.prepare_cached(
            "SELECT e.id, e.kind, e.name, coalesce(s.title, a.title, ''), s.taken, coalesce(e.content, 0), e.part
             FROM entry e JOIN part p ON p.id = e.part
             LEFT JOIN sidecar s ON s.entry = e.id LEFT JOIN album_json a ON a.entry = e.id
             WHERE e.dir = ?1 AND p.export = ?2 AND e.kind IN (0, 1, 2, 6) ORDER BY e.id",
        )?;
        let mut exclude = self.tx.prepare_cached("INSERT OR IGNORE INTO excluded VALUES(?1, ?2)")?;
        let takeout = self.options.source == Source::Takeout;
        let foreign = takeout && !roots.is_empty() && !roots.contains(above(&path));
        let mut folder = Folder { path, text: String::new(), rows: vec![] };
        let banned = |name: &str| self.options.banned(name).map(|ban| format!("its name is passed over: {ban}"));
        let whole = banned(&folder.path).or_else(|| foreign.then(|| "no folder of Google Photos".to_owned()));
        let mut found = query.query(params![directory, self.export])?;
        while let Some(row) = found.next()? {
            let id: i64 = row.get(0)?;
            let name = row.get_ref(2)?.as_str()?;
            if let Some(why) = whole.clone().or_else(|| banned(name)) {
                exclude.execute(params![id, why])?;
                continue;
            }
            let start = folder.text.len();
            folder.text.push_str(name);
            let middle = folder.text.len();
            folder.text.push_str(row.get_ref(3)?.as_str()?);
            folder.rows.push(Row {
                id,
                kind: EntryKind::of(row.get(1)?),
                name: (start, middle),
                title: (middle, folder.text.len()),
                taken: row.get(4)?,
                content: row.get(5)?,
                part: row.get(6)?,
            });
        }
        Ok(folder)
    }

    /// Pairs a directory by itself, and writes what was found.
    fn pair(&self, folder: &Folder) -> rusqlite::Result<Directory> {
        let found = if folder.is_of_several() { self.part_by_part(folder) } else { self.of(folder, |_| true) };
        // XMP sidecars by the name, in lower case, that they speak for.
        let xmps = folder.rows.iter().filter(|row| row.kind == EntryKind::Xmp);
        let xmps: HashMap<String, i64> =
            xmps.map(|row| (split_extension(folder.name(row)).0.to_lowercase(), row.id)).collect();
        let mut insert = self.tx.prepare_cached("INSERT INTO item VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        for (id, found) in &found.media {
            let (role, partner) = match found.role {
                Role::Plain => (PLAIN, None),
                Role::Edited(original) => (EDITED, original),
                Role::Motion(still) => (MOTION, still),
            };
            let sidecar = found.sidecar.map(|(sidecar, _, _)| sidecar);
            let rule = found.sidecar.map(|(_, rule, _)| rule as i64);
            let strong = found.sidecar.is_some_and(|(_, _, confidence)| confidence == Confidence::Strong);
            let name = folder.name(folder.row(*id));
            let of = |name: &str| xmps.get(&name.to_lowercase()).copied();
            let xmp = if xmps.is_empty() { None } else { of(name).or_else(|| of(split_extension(name).0)) };
            insert.execute(params![id, sidecar, rule, strong, role, partner, xmp])?;
        }
        let mut undecided = self.tx.prepare_cached("INSERT OR IGNORE INTO undecided VALUES(?1)")?;
        for id in &found.undecided {
            undecided.execute([id])?;
        }
        let mut orphan = self.tx.prepare_cached("INSERT OR IGNORE INTO orphan VALUES(?1)")?;
        for id in &found.free {
            orphan.execute([id])?;
        }
        Ok(found)
    }

    /// What those rows of a directory tell by themselves.
    fn of(&self, folder: &Folder, wanted: impl Fn(&Row) -> bool) -> Directory {
        let suffixes: Vec<&str> = self.options.edited_suffixes.iter().map(String::as_str).collect();
        let entry = |row: &Row| -> Entry<'_> {
            let title = folder.title(row);
            let kind = match row.kind {
                EntryKind::Media => Kind::Media(row.content),
                EntryKind::Sidecar => Kind::Sidecar { title, taken: row.taken },
                EntryKind::AlbumJson => Kind::Album { title },
                _ => Kind::Other,
            };
            Entry { id: row.id, path: folder.name(row), kind }
        };
        let entries: Vec<Entry<'_>> = folder.rows.iter().filter(|row| wanted(row)).map(entry).collect();
        // What can't be looked up was not read.
        let mark = |id: i64| mark_of(self.tx, id).ok().flatten();
        tree::directory_marked(last(&folder.path), &entries, &suffixes, &mark)
    }

    /// A directory that several exports seem to have: a part is of one export, so what it tells by itself holds. What then
    /// lacks a sidecar may have one that is left, and that is never sure.
    fn part_by_part(&self, folder: &Folder) -> Directory {
        let parts: BTreeSet<i64> = folder.rows.iter().map(|row| row.part).collect();
        let mut all = Directory { media: vec![], superseded: vec![], free: vec![], album: None, undecided: vec![] };
        for part in parts {
            let one = self.of(folder, |row| row.part == part);
            all.media.extend(one.media);
            all.superseded.extend(one.superseded);
            all.free.extend(one.free);
            all.undecided.extend(one.undecided);
            all.album = all.album.or(one.album);
        }
        let bare = all.media.iter().filter(|(_, found)| found.sidecar.is_none()).map(|(id, _)| *id);
        // A half or an edited copy may lie beside the sidecar of a photo that is in another part.
        let borrowed =
            all.media.iter().filter(|(_, found)| lacks_other(found.role)).filter_map(|(_, found)| found.sidecar);
        let left: HashSet<i64> =
            bare.chain(borrowed.map(|(sidecar, ..)| sidecar)).chain(all.free.iter().copied()).collect();
        let rest = self.of(folder, |row| left.contains(&row.id));
        let rest: HashMap<i64, Found> = rest.media.into_iter().collect();
        let mut used = HashSet::new();
        for (id, found) in all.media.iter_mut().filter(|(_, found)| found.sidecar.is_none()) {
            // Whose half or copy it is is told below.
            let Some(Found { sidecar: Some((sidecar, rule, _)), role }) = rest.get(id).copied() else { continue };
            if other_of(role).is_some() {
                continue;
            }
            *found = Found { sidecar: Some((sidecar, rule, Confidence::Weak)), role };
            used.insert(sidecar);
        }
        all.free.retain(|free| !used.contains(free));
        self.join_over_parts(folder, &mut all);
        all.media.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Halves and edited copies whose still or original lies in another part are found as if all were one export, where both names
    /// are one file's in all parts: of two stills of one name nobody knows which it is.
    fn join_over_parts(&self, folder: &Folder, all: &mut Directory) {
        let sidecars: HashMap<i64, i64> =
            all.media.iter().filter_map(|(id, found)| Some((*id, found.sidecar?.0))).collect();
        let mut names: HashMap<&str, Option<&Row>> = HashMap::new();
        for row in folder.rows.iter().filter(|row| row.kind == EntryKind::Media) {
            let one = names.entry(folder.name(row)).or_insert(Some(row));
            match *one {
                Some(first) if first.content != row.content => *one = None,
                // Of two copies the one that was matched.
                Some(first) if !sidecars.contains_key(&first.id) => *one = Some(row),
                _ => {}
            }
        }
        let once: HashMap<&str, i64> = names.into_iter().filter_map(|(name, row)| Some((name, row?.id))).collect();
        let theirs = once.values().filter_map(|id| sidecars.get(id));
        let sure: HashSet<i64> = once.values().chain(theirs).copied().collect();
        let joined = self.of(folder, |row| sure.contains(&row.id));
        all.undecided.extend(joined.undecided);
        let joined: HashMap<i64, Found> = joined.media.into_iter().collect();
        for (id, found) in all.media.iter_mut().filter(|(_, found)| other_of(found.role).is_none()) {
            if found.sidecar.is_some() && !lacks_other(found.role) {
                continue;
            }
            let own = once.get(folder.name(folder.row(*id))).and_then(|one| joined.get(one)).copied();
            let Some(Found { sidecar, role }) = own.filter(|own| other_of(own.role).is_some()) else { continue };
            // Where it lies beside a sidecar, only the photo that got this one is its other half.
            let theirs = other_of(role).and_then(|other| sidecars.get(&other));
            if found.sidecar.is_some_and(|(beside, ..)| theirs != Some(&beside)) {
                continue;
            }
            let sidecar = sidecar.map(|(sidecar, rule, _)| (sidecar, rule, Confidence::Weak));
            *found = Found { sidecar: sidecar.or(found.sidecar), role };
        }
        // A still that got its sidecar from another part gives it to the half beside it.
        for (_, found) in all.media.iter_mut().filter(|(_, found)| found.sidecar.is_none()) {
            let sidecar = other_of(found.role).and_then(|still| sidecars.get(&still));
            found.sidecar = sidecar.map(|sidecar| (*sidecar, Rule::Motion, Confidence::Weak));
        }
    }

    /// What is to be stacked of a directory.
    fn stack(&self, folder: &Folder, found: &Directory, piles: &mut Piles) {
        let wanted = self.options.stacks;
        if !wanted.any() {
            return;
        }
        let plain = found.media.iter().filter(|(_, found)| found.role == Role::Plain).map(|(id, _)| folder.row(*id));
        piles.directory(wanted, plain.map(|row| (folder.name(row), row.content)));
        for (id, found) in found.media.iter().filter(|_| wanted.edited) {
            let (top, Role::Edited(Some(original))) = (folder.row(*id).content, found.role) else { continue };
            let below = folder.row(original).content;
            if top != below {
                piles.edited(top, below);
            }
        }
    }

    /// The album that a directory is, with the photos that lie in it.
    fn album(&self, directory: i64, folder: &Folder, found: &Directory) -> rusqlite::Result<Option<i64>> {
        let Some(json) = found.album.filter(|_| self.options.albums) else { return Ok(None) };
        let title = match folder.title(folder.row(json)) {
            "" if self.options.untitled_albums => last(&folder.path),
            title => title,
        };
        let only = self.options.only_album.as_deref();
        if title.is_empty() || only.is_some_and(|only| only != title && only != last(&folder.path)) {
            return Ok(None);
        }
        let sql = "SELECT description FROM album_json WHERE entry = ?1";
        let description: String = self.tx.query_row(sql, [json], |row| row.get(0))?;
        let album = album(self.tx, Some(directory), title, &description)?;
        let mut add = self.tx.prepare_cached(ADD_MEMBER)?;
        for (id, _) in found.media.iter().filter(|(_, found)| !matches!(found.role, Role::Motion(_))) {
            add.execute([album, folder.row(*id).content])?;
        }
        Ok(Some(album))
    }

    fn take_copies(&self, copies: &mut Copies) -> rusqlite::Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        let mut query = self.tx.prepare(
            "SELECT e.content, i.sidecar, s.taken FROM item i JOIN entry e ON e.id = i.entry
             JOIN part p ON p.id = e.part JOIN sidecar s ON s.entry = i.sidecar WHERE p.export = ?1 AND i.strong
             ORDER BY i.entry",
        )?;
        let mut rows = query.query([self.export])?;
        while let Some(row) = rows.next()? {
            copies.see(row.get(0)?, row.get(1)?, row.get(2)?);
        }
        let mut query = self.tx.prepare(
            "SELECT i.entry, e.content FROM item i JOIN entry e ON e.id = i.entry JOIN part p ON p.id = e.part
             WHERE p.export = ?1 AND i.sidecar IS NULL",
        )?;
        let bare = query.query_map([self.export], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let bare: Vec<(i64, i64)> = bare.collect::<rusqlite::Result<_>>()?;
        for (entry, content) in bare {
            if let Some(sidecar) = copies.sidecar(content) {
                self.give(entry, sidecar, Rule::Copy, Confidence::Strong)?;
            }
        }
        Ok(())
    }

    fn give(&self, entry: i64, sidecar: i64, rule: Rule, confidence: Confidence) -> rusqlite::Result<()> {
        let sql = "UPDATE item SET sidecar = ?2, rule = ?3, strong = ?4 WHERE entry = ?1 AND sidecar IS NULL";
        let strong = confidence == Confidence::Strong;
        self.tx.prepare_cached(sql)?.execute(params![entry, sidecar, rule as i64, strong])?;
        Ok(())
    }

    fn no_orphan(&self, sidecar: i64) -> rusqlite::Result<()> {
        self.tx.prepare_cached("DELETE FROM orphan WHERE sidecar = ?1")?.execute([sidecar])?;
        Ok(())
    }

    fn take_elsewhere(&self, elsewhere: &mut Elsewhere) -> rusqlite::Result<()> {
        if !elsewhere.narrow() {
            return Ok(());
        }
        let mut query = self.tx.prepare(
            "SELECT e.name, e.content FROM item i JOIN entry e ON e.id = i.entry JOIN part p ON p.id = e.part
             WHERE p.export = ?1",
        )?;
        let mut rows = query.query([self.export])?;
        while let Some(row) = rows.next()? {
            elsewhere.see(row.get_ref(0)?.as_str()?, row.get(1)?);
        }
        for (photo, sidecar, confidence) in elsewhere.found() {
            self.give(photo, sidecar, Rule::OtherDirectory, confidence)?;
            self.no_orphan(sidecar)?;
        }
        Ok(())
    }

    fn take_absent(&self, mut absent: Absent, wanted: &[(i64, i64)]) -> rusqlite::Result<()> {
        if absent.is_empty() {
            return Ok(());
        }
        let mut query = self.tx.prepare(
            "SELECT se.name, s.title, s.taken, e.content FROM item i JOIN entry e ON e.id = i.entry
             JOIN part p ON p.id = e.part JOIN sidecar s ON s.entry = i.sidecar JOIN entry se ON se.id = i.sidecar
             WHERE p.export = ?1 AND i.role = 0",
        )?;
        let mut rows = query.query([self.export])?;
        while let Some(row) = rows.next()? {
            absent.see(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?, row.get(2)?, row.get(3)?);
        }
        let sql = "SELECT e.name, s.title, s.taken FROM sidecar s JOIN entry e ON e.id = s.entry WHERE s.entry = ?1";
        let mut query = self.tx.prepare(sql)?;
        for (album, sidecar) in wanted {
            let content = query.query_row([sidecar], |row| {
                Ok(absent.content(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?, row.get(2)?))
            })?;
            if let Some(content) = content {
                self.tx.prepare_cached(ADD_MEMBER)?.execute([*album, content])?;
                self.no_orphan(*sidecar)?;
            }
        }
        Ok(())
    }
}

/// The still of a half, or the original of an edited copy, where it was found.
fn other_of(role: Role<i64>) -> Option<i64> {
    match role {
        Role::Motion(other) | Role::Edited(other) => other,
        Role::Plain => None,
    }
}

/// Was only its still's or its original's sidecar found?
fn lacks_other(role: Role<i64>) -> bool {
    matches!(role, Role::Motion(None) | Role::Edited(None))
}

const ADD_MEMBER: &str = "INSERT OR IGNORE INTO member(album, content) VALUES(?1, ?2)";

impl Folder {
    fn name(&self, row: &Row) -> &str {
        &self.text[row.name.0..row.name.1]
    }

    fn title(&self, row: &Row) -> &str {
        &self.text[row.title.0..row.title.1]
    }

    /// Do two parts hold files of one name that are not the same? Then they are of different exports, whatever their names say.
    fn is_of_several(&self) -> bool {
        let Some(part) = self.rows.first().map(|row| row.part) else { return false };
        if self.rows.iter().all(|row| row.part == part) {
            return false;
        }
        let says = |row: &Row| (row.content, self.title(row).to_owned(), row.taken);
        let mut seen: HashMap<&str, &Row> = HashMap::new();
        let paired = self.rows.iter().filter(|row| matches!(row.kind, EntryKind::Media | EntryKind::Sidecar));
        paired.into_iter().any(|row| {
            let first = *seen.entry(self.name(row)).or_insert(row);
            first.part != row.part && says(first) != says(row)
        })
    }

    /// Rows are in the order of their ids.
    fn row(&self, id: i64) -> &Row {
        let at = self.rows.binary_search_by_key(&id, |row| row.id).expect("what was found is of this directory");
        &self.rows[at]
    }
}

/// The last name of a path.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// What stands above the last name of a path.
fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
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

/// Albums of which a table lists the names: Apple's. A name that several photos have is nobody's.
fn listed_albums(tx: &Transaction<'_>, options: &Options) -> rusqlite::Result<()> {
    let mut query = tx.prepare(
        "SELECT DISTINCT a.entry, a.title FROM album_json a JOIN listed l ON l.entry = a.entry ORDER BY a.entry",
    )?;
    let albums: Vec<(i64, String)> =
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    for (entry, title) in albums {
        if options.only_album.as_ref().is_some_and(|only| *only != title) {
            continue;
        }
        let album = album(tx, None, &title, "")?;
        tx.execute(
            "INSERT OR IGNORE INTO member(album, content)
             SELECT ?1, min(e.content) FROM listed l JOIN entry e ON e.name = l.name AND e.content IS NOT NULL
             JOIN item i ON i.entry = e.id AND i.role <> 2 JOIN entry own ON own.id = l.entry AND own.part = e.part
             WHERE l.entry = ?2 GROUP BY l.name HAVING count(DISTINCT e.content) = 1",
            [album, entry],
        )?;
    }
    Ok(())
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
