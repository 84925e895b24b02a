//! What became of every file: each entry is in exactly one bucket, and the sum is that of the parts' own lists.

use std::collections::BTreeMap;

use haven_takeout::{Rule, dates};
use serde::Serialize;

use crate::{
    counted::{self, Counted},
    journal::{Journal, JournalError},
};

/// Where an entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bucket {
    Uploaded,
    AlreadyThere,
    /// A copy of a file that has a bucket of its own.
    Duplicate,
    MotionHalf,
    SidecarUsed,
    SidecarOrphan,
    AlbumJson,
    OtherJson,
    Filtered,
    Unsupported,
    Failed,
    /// Not brought over yet.
    Waiting,
}

impl Bucket {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::AlreadyThere => "already on the server",
            Self::Duplicate => "copies of those",
            Self::MotionHalf => "moving halves of photos",
            Self::SidecarUsed => "sidecars used",
            Self::SidecarOrphan => "sidecars without a photo",
            Self::AlbumJson => "JSON of albums",
            Self::OtherJson => "other JSON",
            Self::Filtered => "not wanted",
            Self::Unsupported => "no photos or videos",
            Self::Failed => "failed",
            Self::Waiting => "still to come",
        }
    }

    fn of(word: &str) -> Self {
        match word {
            "uploaded" => Self::Uploaded,
            "already-there" => Self::AlreadyThere,
            "duplicate" => Self::Duplicate,
            "motion-half" => Self::MotionHalf,
            "sidecar-used" => Self::SidecarUsed,
            "sidecar-orphan" => Self::SidecarOrphan,
            "album-json" => Self::AlbumJson,
            "other-json" => Self::OtherJson,
            "filtered" => Self::Filtered,
            "unsupported" => Self::Unsupported,
            "failed" => Self::Failed,
            _ => Self::Waiting,
        }
    }
}

/// The one place that decides on buckets. Needs `e` (entry), `x` (excluded), `i` (item), `c` (content), `o` (orphan).
pub const BUCKET: &str = "CASE
  WHEN x.entry IS NOT NULL AND e.kind <> 5 THEN 'filtered'
  WHEN e.kind = 1 THEN CASE WHEN o.sidecar IS NULL THEN 'sidecar-used' ELSE 'sidecar-orphan' END
  WHEN e.kind = 2 THEN 'album-json'
  WHEN e.kind = 3 THEN 'other-json'
  WHEN e.kind = 4 THEN 'unsupported'
  WHEN e.kind = 5 THEN 'failed'
  WHEN e.kind = 6 THEN CASE WHEN EXISTS(SELECT 1 FROM item xi WHERE xi.xmp = e.id)
    THEN 'sidecar-used' ELSE 'sidecar-orphan' END
  WHEN c.twin IS NOT NULL OR c.entry IS NOT NULL AND c.entry <> e.id THEN 'duplicate'
  WHEN c.state = 7 OR (c.still IS NOT NULL AND c.linked <> 2 AND c.state IN (2, 3)) THEN 'motion-half'
  WHEN c.state = 2 THEN 'uploaded'
  WHEN c.state = 3 THEN 'already-there'
  WHEN c.state = 4 THEN 'failed'
  WHEN c.state = 5 THEN 'filtered'
  WHEN c.state = 6 THEN 'unsupported'
  ELSE 'waiting' END";

pub const JOINS: &str = "FROM entry e LEFT JOIN excluded x ON x.entry = e.id LEFT JOIN item i ON i.entry = e.id
  LEFT JOIN content c ON c.id = e.content LEFT JOIN orphan o ON o.sidecar = e.id";

/// Files and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub files: u64,
    pub bytes: u64,
}

/// An album and its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlbumCount {
    pub title: String,
    pub photos: u64,
    pub done: u64,
    pub failed: u64,
}

/// Something that went wrong, and for how many files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    pub why: String,
    pub files: u64,
    pub example: String,
}

/// Why stacks could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unstacked {
    pub why: String,
    pub stacks: u64,
    /// A photo of one of them.
    pub example: String,
}

/// Matches by one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleCount {
    pub rule: &'static str,
    pub files: u64,
    pub weak: u64,
    pub examples: Vec<String>,
}

/// Everything at a glance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub entries: u64,
    pub buckets: BTreeMap<Bucket, Count>,
    pub rules: Vec<RuleCount>,
    /// Media without any sidecar.
    pub unmatched: u64,
    pub dates: BTreeMap<String, u64>,
    pub albums: Vec<AlbumCount>,
    pub failed: Vec<Why>,
    pub filtered: Vec<Why>,
    /// For what files wait; not those that are only not sent yet.
    pub waiting: Vec<Why>,
    /// Things to know that are no failures.
    pub notes: Vec<Why>,
    /// Those that are to be made.
    pub stacks: u64,
    /// Those that are made.
    pub stacked: u64,
    /// Those that the server did not make.
    pub unstacked: Vec<Unstacked>,
    /// Distinct photos and videos that are wanted: moving halves not counted.
    pub photos: u64,
    /// Those without edited copies, which Google shows in place of their originals.
    pub google_shows: u64,
    /// Bytes still to be sent.
    pub due_bytes: u64,
    pub largest_bytes: u64,
    /// What the server itself counted when the last run ended; none where the key may not ask.
    pub counted: Option<Counted>,
}

impl Summary {
    pub fn count(&self, bucket: Bucket) -> u64 {
        self.buckets.get(&bucket).map_or(0, |count| count.files)
    }

    /// Album members that could not be added.
    pub fn album_failures(&self) -> u64 {
        self.albums.iter().map(|album| album.failed).sum()
    }

    /// Stacks that could not be made.
    pub fn stack_failures(&self) -> u64 {
        self.unstacked.iter().map(|unstacked| unstacked.stacks).sum()
    }

    /// Is every wanted file there, and in its albums?
    pub fn is_brought(&self) -> bool {
        self.count(Bucket::Failed) + self.count(Bucket::Waiting) + self.album_failures() == 0
    }

    /// Is every wanted file where it belongs?
    pub fn is_whole(&self) -> bool {
        self.is_brought() && self.stack_failures() == 0
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the parts list {listed} files, and {counted} are accounted for")]
    Sum { listed: u64, counted: u64 },
}

impl From<rusqlite::Error> for ReportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Journal(error.into())
    }
}

/// Sums up. Fails where the sum is not that of the parts' lists: then a file was lost sight of.
pub fn summary(journal: &Journal) -> Result<Summary, ReportError> {
    let listed = journal.count("SELECT coalesce(sum(entries), 0) FROM part")?;
    let buckets = buckets(journal)?;
    let counted = buckets.values().map(|count| count.files).sum();
    if listed != counted {
        return Err(ReportError::Sum { listed, counted });
    }
    let wanted = "FROM content WHERE entry IS NOT NULL AND twin IS NULL AND state NOT IN (5, 6)";
    Ok(Summary {
        entries: listed,
        buckets,
        rules: rules(journal)?,
        unmatched: journal.count("SELECT count(*) FROM item WHERE sidecar IS NULL")?,
        dates: dates(journal)?,
        albums: albums(journal)?,
        failed: whys(journal, "failed")?,
        filtered: whys(journal, "filtered")?,
        waiting: why_rows(journal, "WHERE b = 'waiting' AND w IS NOT NULL")?,
        notes: notes(journal)?,
        stacks: journal.count("SELECT count(DISTINCT pile) FROM stack")?,
        stacked: journal.count("SELECT count(DISTINCT pile) FROM stack WHERE done")?,
        unstacked: unstacked(journal)?,
        photos: journal.count(&format!("SELECT count(*) {wanted} AND still IS NULL"))?,
        google_shows: journal.count(&format!(
            "SELECT count(*) {wanted} AND still IS NULL AND entry NOT IN (SELECT entry FROM item WHERE role = 1)"
        ))?,
        due_bytes: journal
            .count("SELECT coalesce(sum(bytes), 0) FROM content WHERE entry IS NOT NULL AND state IN (0, 1, 4)")?,
        largest_bytes: journal.count(&format!("SELECT coalesce(max(bytes), 0) {wanted}"))?,
        counted: counted::last(journal)?,
    })
}

fn buckets(journal: &Journal) -> Result<BTreeMap<Bucket, Count>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare(&format!("SELECT {BUCKET} AS b, count(*), sum(e.bytes) {JOINS} GROUP BY b"))?;
    let rows = query.query_map([], |row| {
        let count = Count { files: row.get::<_, i64>(1)? as u64, bytes: row.get::<_, i64>(2)? as u64 };
        Ok((Bucket::of(row.get_ref(0)?.as_str()?), count))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// All rules, in the order of their numbers in the journal.
const RULES: [(Rule, &str); 13] = [
    (Rule::Supplemental, "name and .supplemental-metadata"),
    (Rule::Plain, "name"),
    (Rule::SupplementalCut, "name and a beginning of .supplemental-metadata"),
    (Rule::Counter, "counter moved to the end"),
    (Rule::Cut, "first 46 characters of the name"),
    (Rule::CounterTwice, "counter in the title and at the end"),
    (Rule::NoExtension, "title without extension"),
    (Rule::Title, "title in the sidecar"),
    (Rule::ForgottenDuplicate, "one sidecar for two files of one cut name"),
    (Rule::Edited, "sidecar of the original"),
    (Rule::Motion, "sidecar of the still"),
    (Rule::Copy, "sidecar of an identical copy"),
    (Rule::OtherDirectory, "only sidecar of that name, in another folder"),
];

/// A rule as told to people.
pub fn rule_word(number: i64) -> &'static str {
    RULES.iter().find(|(rule, _)| *rule as i64 == number).map_or("unknown", |(_, word)| word)
}

fn rules(journal: &Journal) -> Result<Vec<RuleCount>, JournalError> {
    let db = journal.db();
    let sql = "SELECT rule, count(*), sum(1 - strong) FROM item WHERE rule IS NOT NULL GROUP BY rule ORDER BY rule";
    let mut query = db.prepare(sql)?;
    let counts: Vec<(i64, i64, i64)> =
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<rusqlite::Result<_>>()?;
    let mut examples = db.prepare(
        "SELECT e.name || ' ← ' || s.name FROM item i JOIN entry e ON e.id = i.entry JOIN entry s ON s.id = i.sidecar
         WHERE i.rule = ?1 LIMIT 3",
    )?;
    let mut found = vec![];
    for (rule, files, weak) in counts {
        let examples = examples.query_map([rule], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        found.push(RuleCount { rule: rule_word(rule), files: files as u64, weak: weak as u64, examples });
    }
    Ok(found)
}

fn dates(journal: &Journal) -> Result<BTreeMap<String, u64>, JournalError> {
    let db = journal.db();
    let sql = "SELECT dated, count(*) FROM content WHERE dated IS NOT NULL AND twin IS NULL AND state IN (2, 3) GROUP BY dated";
    let mut query = db.prepare(sql)?;
    let rows = query.query_map([], |row| Ok((dated_word(row.get(0)?).to_owned(), row.get::<_, i64>(1)? as u64)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Where a date comes from, as told to people.
fn dated_word(number: i64) -> &'static str {
    usize::try_from(number).ok().and_then(|at| dates::Source::ALL.get(at)).map_or("unknown", |source| source.word())
}

fn albums(journal: &Journal) -> Result<Vec<AlbumCount>, JournalError> {
    let db = journal.db();
    // Members that are not wanted, or failed themselves, are told there and not here.
    let mut query = db.prepare(
        "SELECT a.title, count(*), sum(m.done > 0), sum(m.done = 0 AND m.why IS NOT NULL)
         FROM album a JOIN member m ON m.album = a.id JOIN content c ON c.id = m.content
         WHERE c.state NOT IN (5, 6) AND c.entry IS NOT NULL GROUP BY a.id ORDER BY a.title, a.id",
    )?;
    let rows = query.query_map([], |row| {
        let number = |at: usize| row.get::<_, i64>(at).map(|n| n as u64);
        Ok(AlbumCount { title: row.get(0)?, photos: number(1)?, done: number(2)?, failed: number(3)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn unstacked(journal: &Journal) -> Result<Vec<Unstacked>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare(
        "SELECT s.why, count(DISTINCT s.pile), min(d.path || '/' || e.name) FROM stack s JOIN content c ON c.id = s.content
         JOIN entry e ON e.id = c.entry JOIN dir d ON d.id = e.dir WHERE NOT s.done AND s.why IS NOT NULL
         GROUP BY s.why ORDER BY count(DISTINCT s.pile) DESC LIMIT 50",
    )?;
    let rows = query.query_map([], |row| {
        Ok(Unstacked { why: row.get(0)?, stacks: row.get::<_, i64>(1)? as u64, example: row.get(2)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn whys(journal: &Journal, bucket: &str) -> Result<Vec<Why>, JournalError> {
    why_rows(journal, &format!("WHERE b = '{bucket}'"))
}

fn notes(journal: &Journal) -> Result<Vec<Why>, JournalError> {
    why_rows(journal, "WHERE b IN ('uploaded', 'already-there') AND w IS NOT NULL")
}

fn why_rows(journal: &Journal, filter: &str) -> Result<Vec<Why>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare(&format!(
        "SELECT coalesce(w, 'no reason is known'), count(*), min(p) FROM (
           SELECT {BUCKET} AS b, coalesce(x.why, e.why, c.why) AS w, d.path || '/' || e.name AS p
           {JOINS} JOIN dir d ON d.id = e.dir) {filter} GROUP BY w ORDER BY count(*) DESC LIMIT 50"
    ))?;
    let rows = query
        .query_map([], |row| Ok(Why { why: row.get(0)?, files: row.get::<_, i64>(1)? as u64, example: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// One entry, as the JSON lines tell it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntryRow {
    pub path: String,
    pub part: String,
    pub bytes: u64,
    pub bucket: Bucket,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sure: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<String>,
    /// The file of which it is a copy, or the moving half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_as: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dated_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Tells every entry, or those whose path ends with `path`.
pub fn rows(journal: &Journal, path: Option<&str>, mut tell: impl FnMut(EntryRow)) -> Result<(), JournalError> {
    let db = journal.db();
    let whole = |dir: &str, entry: &str| {
        format!("CASE {dir}.path WHEN '' THEN {entry}.name ELSE {dir}.path || '/' || {entry}.name END")
    };
    let mut query = db.prepare(&format!(
        "SELECT {path}, p.path, e.bytes, {BUCKET}, i.rule, i.strong,
           (SELECT {side} FROM entry se JOIN dir sd ON sd.id = se.dir WHERE se.id = i.sidecar),
           (SELECT {other} FROM entry oe JOIN dir od ON od.id = oe.dir
            WHERE oe.id = CASE WHEN c.entry <> e.id THEN c.entry ELSE i.partner END),
           c.asset, CASE WHEN c.asset IS NOT NULL THEN coalesce(c.name, (SELECT ce.name FROM entry ce WHERE ce.id = c.entry))
           END, c.dated, coalesce(x.why, e.why, c.why)
         {JOINS} JOIN part p ON p.id = e.part JOIN dir d ON d.id = e.dir
         WHERE ?1 IS NULL OR ({path}) = ?1 OR ({path}) LIKE '%/' || ?1 ORDER BY e.id",
        path = whole("d", "e"),
        side = whole("sd", "se"),
        other = whole("od", "oe"),
    ))?;
    let mut found = query.query([path])?;
    while let Some(row) = found.next()? {
        tell(EntryRow {
            path: row.get(0)?,
            part: row.get(1)?,
            bytes: row.get::<_, i64>(2)? as u64,
            bucket: Bucket::of(row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?),
            rule: row.get::<_, Option<i64>>(4)?.map(rule_word),
            sure: row.get::<_, Option<i64>>(4)?.map(|_| row.get(5)).transpose()?,
            sidecar: row.get(6)?,
            of: row.get(7)?,
            asset: row.get(8)?,
            sent_as: row.get(9)?,
            dated_by: row.get::<_, Option<i64>>(10)?.map(dated_word),
            why: row.get(11)?,
        });
    }
    Ok(())
}
