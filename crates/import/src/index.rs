//! The first pass: what every part holds, into the journal. Of photos in zip parts and folders nothing is read but the first
//! bytes where the name tells nothing; of archives that can't be sought in, everything is read once, and hashed.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
};

use haven_takeout::{
    Json,
    parts::{self, Packed, PartName},
    sniff, tarball,
    zip::{Method, Part, PartEntry, PartError, Refused},
};
use rusqlite::{OptionalExtension, params};

use crate::{
    input::{Input, InputKind},
    journal::{EntryKind, Journal, JournalError},
    progress::Progress,
    raw,
    rows::{Before, Rows},
    sum::Hasher,
    walk,
};

/// More of a JSON file is not read: it tells of no photo.
const JSON_BYTES_MAX: u64 = 16 << 20;
/// Threads that read JSON: more only make a disk seek.
const READERS: usize = 4;

/// Something that a part has, to be told before all else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartTrouble {
    pub path: PathBuf,
    pub what: String,
}

/// What the first pass found.
#[derive(Debug, Clone, Default)]
pub struct Indexed {
    /// Ids of the parts that are here now.
    pub parts: Vec<i64>,
    /// Of parts that can't be read, or not to their end.
    pub trouble: Vec<PartTrouble>,
    /// Parts that were not in the journal before.
    pub new: usize,
    /// Parts that were here twice.
    pub twice: Vec<PathBuf>,
}

/// Why the first pass ended.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{0} can't be read: {1}")]
    Io(PathBuf, #[source] io::Error),
}

impl From<rusqlite::Error> for IndexError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Journal(error.into())
    }
}

/// Reads all inputs that the journal does not know yet. A part that can't be read is told in [`Indexed::trouble`].
pub fn index(journal: &Journal, inputs: &[Input], progress: &Progress) -> Result<Indexed, IndexError> {
    let mut indexed = Indexed::default();
    journal.db().execute("UPDATE part SET here = 0", [])?;
    progress.begin("index", inputs.len() as u64, 0);
    // Folders last: a file there of a length that an archive has is summed, and known as the same.
    let (folders, archives): (Vec<&Input>, Vec<&Input>) =
        inputs.iter().partition(|input| input.kind == InputKind::Folder);
    for input in archives.into_iter().chain(folders) {
        let read = match input.kind {
            InputKind::Archive(Packed::Zip) => zip(journal, input, progress),
            InputKind::Archive(packed) => tar(journal, input, packed, progress),
            InputKind::Folder => folder(journal, input),
        };
        match read {
            Ok((part, _)) if indexed.parts.contains(&part) => indexed.twice.push(input.path.clone()),
            Ok((part, new)) => {
                indexed.parts.push(part);
                indexed.new += usize::from(new);
            }
            Err(Unread::Part(what)) => indexed.trouble.push(PartTrouble { path: input.path.clone(), what }),
            Err(Unread::Stop(error)) => return Err(error),
        }
        progress.done(0);
    }
    Ok(indexed)
}

/// Why one part was not read.
enum Unread {
    /// It is the part's own trouble; the others may be read.
    Part(String),
    Stop(IndexError),
}

impl<E: Into<IndexError>> From<E> for Unread {
    fn from(error: E) -> Self {
        Self::Stop(error.into())
    }
}

fn unreadable(error: impl std::fmt::Display) -> Unread {
    Unread::Part(error.to_string())
}

/// The id of a part that is known already; where it lies now is kept.
fn known(journal: &Journal, fingerprint: &str, path: &Path) -> Result<Option<i64>, IndexError> {
    let db = journal.db();
    let sql = "SELECT id FROM part WHERE fingerprint = ?1";
    let id: Option<i64> = db.query_row(sql, [fingerprint], |row| row.get(0)).optional()?;
    if let Some(id) = id {
        db.execute("UPDATE part SET path = ?2, here = 1 WHERE id = ?1", params![id, path.to_string_lossy()])?;
    }
    Ok(id)
}

fn zip(journal: &Journal, input: &Input, progress: &Progress) -> Result<(i64, bool), Unread> {
    let file = File::open(&input.path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let part = match Part::open(file) {
        Ok(part) => part,
        Err(error @ (PartError::Io(_) | PartError::Truncated | PartError::Damaged(_))) => {
            return Err(unreadable(error));
        }
    };
    let encrypted = |entry: &PartEntry| entry.method == Err(Refused::Encrypted);
    if !part.entries.is_empty() && part.entries.iter().all(encrypted) {
        return Err(Unread::Part("it is encrypted: Google makes no such zips; unpack it with its password".to_owned()));
    }
    let mut hasher = Hasher::new();
    hasher.update(&bytes.to_le_bytes());
    for entry in &part.entries {
        hasher.update(entry.path.as_bytes());
        hasher.update(&entry.crc32.to_le_bytes());
        hasher.update(&entry.bytes.to_le_bytes());
        hasher.update(&entry.offset.to_le_bytes());
    }
    let fingerprint = hex(&hasher.finish().0);
    if let Some(id) = known(journal, &fingerprint, &input.path)? {
        return Ok((id, false));
    }
    let mut db = journal.db();
    let mut rows = Rows::begin(&mut db, input, bytes, &fingerprint)?;
    let mut to_read: Vec<&PartEntry> = vec![];
    for entry in &part.entries {
        match (entry.method, guess(&entry.path)) {
            (Err(refused), _) => {
                rows.zip_entry(entry, EntryKind::Refused, Some(&refused.to_string()))?;
            }
            (Ok(_), Guess::Media) => {
                rows.zip_entry(entry, EntryKind::Media, None)?;
            }
            (Ok(_), Guess::Foreign) => {
                rows.zip_entry(entry, EntryKind::Foreign, None)?;
            }
            (Ok(_), Guess::Xmp) => {
                rows.zip_entry(entry, EntryKind::Xmp, None)?;
            }
            (Ok(_), Guess::Json | Guess::Unknown) => to_read.push(entry),
        }
    }
    to_read.sort_by_key(|entry| entry.offset);
    progress.files_total.fetch_add(to_read.len() as u64, Relaxed);
    read_parallel(&part, &to_read, |entry, seen| {
        progress.done(0);
        let id = rows.zip_entry(entry, seen.kind(), seen.why())?;
        rows.json(id, seen)
    })?;
    Ok((rows.finish(part.entries.len() as u64)?, true))
}

/// What the first look into an entry showed.
pub enum Seen {
    /// What it says, and all of it, packed.
    Json(Result<Json, String>, Vec<u8>),
    Format(Option<sniff::Format>),
    Damaged(String),
}

impl Seen {
    pub fn kind(&self) -> EntryKind {
        match self {
            Self::Json(Ok(Json::Photo(_)), _) => EntryKind::Sidecar,
            Self::Json(Ok(Json::Album(_)), _) => EntryKind::AlbumJson,
            Self::Json(Ok(Json::Other), _) => EntryKind::OtherJson,
            Self::Format(Some(_)) => EntryKind::Media,
            Self::Format(None) => EntryKind::Foreign,
            Self::Json(Err(_), _) | Self::Damaged(_) => EntryKind::Refused,
        }
    }

    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Json(Err(why), _) | Self::Damaged(why) => Some(why),
            _ => None,
        }
    }
}

/// Looks into entries by several threads, and hands them on in their order: the same part gives the same rows. Memory holds
/// only what is between the threads and `take`.
fn read_parallel<'a>(
    part: &Part,
    entries: &[&'a PartEntry],
    mut take: impl FnMut(&'a PartEntry, Seen) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::sync_channel(256);
    std::thread::scope(|scope| {
        for _ in 0..READERS.min(entries.len()) {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                loop {
                    let at = next.fetch_add(1, Relaxed);
                    let Some(entry) = entries.get(at) else { return };
                    if sender.send((at, look(part, entry))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for (at, seen) in receiver {
            early.insert(at, seen);
            while let Some(seen) = early.remove(&due) {
                take(entries[due], seen)?;
                due += 1;
            }
        }
        Ok(())
    })
}

fn look(part: &Part, entry: &PartEntry) -> Seen {
    match part.read(entry) {
        Ok(mut reader) if guess(&entry.path) == Guess::Json => json(&mut reader, entry.bytes),
        Ok(mut reader) => head(&mut reader),
        Err(error) => Seen::Damaged(error.to_string()),
    }
}

pub fn json(reader: &mut dyn Read, bytes: u64) -> Seen {
    if bytes > JSON_BYTES_MAX {
        return Seen::Json(Ok(Json::Other), vec![]);
    }
    let mut text = Vec::with_capacity(bytes as usize + 1);
    match reader.read_to_end(&mut text) {
        Ok(_) => {
            let json = haven_takeout::sidecar::parse(&text).map_err(|error| format!("damaged JSON: {error}"));
            let raw = if json.is_ok() { raw::pack(&text) } else { vec![] };
            Seen::Json(json, raw)
        }
        Err(error) => Seen::Damaged(error.to_string()),
    }
}

pub fn head(reader: &mut dyn Read) -> Seen {
    let mut head = vec![];
    match reader.take(sniff::SNIFF_BYTES as u64).read_to_end(&mut head) {
        Ok(_) => Seen::Format(sniff::format(&head)),
        Err(error) => Seen::Damaged(error.to_string()),
    }
}

fn tar(journal: &Journal, input: &Input, packed: Packed, progress: &Progress) -> Result<(i64, bool), Unread> {
    let file = File::open(&input.path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let fingerprint = archive_fingerprint(&file, bytes).map_err(unreadable)?;
    if let Some(id) = known(journal, &fingerprint, &input.path)? {
        return Ok((id, false));
    }
    let mut db = journal.db();
    let mut rows = Rows::begin(&mut db, input, bytes, &fingerprint)?;
    let (mut entries, mut failed) = (0, None);
    let counted = Counted { file, progress };
    progress.bytes_total.fetch_add(bytes, Relaxed);
    let walked = tarball::walk(counted, packed, |member, reader| {
        entries += 1;
        let mut row = || -> Result<(), Unread> {
            if member.refused {
                rows.member(member, 0, None, EntryKind::Refused, Some("its name leads out of the directory"))?;
                return Ok(());
            }
            let guess = guess(&member.path);
            if guess == Guess::Json {
                let seen = json(reader, member.bytes);
                let id = rows.member(member, 0, None, seen.kind(), seen.why())?;
                return Ok(rows.json(id, seen)?);
            }
            let mut hashed = Hashed { reader, crc: flate2::Crc::new(), sha1: Hasher::new() };
            let seen = head(&mut hashed);
            if let Seen::Damaged(why) = seen {
                return Err(Unread::Part(why));
            }
            io::copy(&mut hashed, &mut io::sink()).map_err(unreadable)?;
            let kind = match guess {
                Guess::Media => EntryKind::Media,
                Guess::Foreign => EntryKind::Foreign,
                Guess::Xmp => EntryKind::Xmp,
                _ => seen.kind(),
            };
            let sha1 = hashed.sha1.finish().0;
            rows.member(member, hashed.crc.sum(), Some(sha1), kind, None)?;
            Ok(())
        };
        match row() {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) => {
                failed = Some(error);
                Ok(ControlFlow::Break(()))
            }
        }
    });
    match (walked, failed) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(Unread::Part(format!("it is damaged or was not downloaded to the end: {error}"))),
        (Ok(_), None) => Ok((rows.finish(entries)?, true)),
    }
}

/// By the beginning, the end and the length: the whole would have to be read.
fn archive_fingerprint(file: &File, bytes: u64) -> io::Result<String> {
    use std::os::unix::fs::FileExt;
    let mut piece = vec![0; bytes.min(1 << 16) as usize];
    let mut hasher = Hasher::new();
    hasher.update(&bytes.to_le_bytes());
    for at in [0, bytes - piece.len() as u64] {
        file.read_exact_at(&mut piece, at)?;
        hasher.update(&piece);
    }
    Ok(hex(&hasher.finish().0))
}

/// Counts the bytes of an archive as they are read.
struct Counted<'a> {
    file: File,
    progress: &'a Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buffer)?;
        self.progress.bytes.fetch_add(got as u64, Relaxed);
        Ok(got)
    }
}

struct Hashed<'a> {
    reader: &'a mut dyn Read,
    crc: flate2::Crc,
    sha1: Hasher,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.crc.update(&buffer[..got]);
        self.sha1.update(&buffer[..got]);
        Ok(got)
    }
}

fn folder(journal: &Journal, input: &Input) -> Result<(i64, bool), Unread> {
    let walked = walk::files(&input.path, &input.below, journal.path());
    let files = walked.map_err(|(path, error)| IndexError::Io(path, error))?;
    let mut hasher = Hasher::new();
    hasher.update(fs::canonicalize(&input.path).map_err(unreadable)?.as_os_str().as_encoded_bytes());
    for file in &files {
        hasher.update(file.path.as_bytes());
        hasher.update(&file.bytes.to_le_bytes());
        hasher.update(&file.mtime_ms.to_le_bytes());
    }
    let fingerprint = hex(&hasher.finish().0);
    if let Some(id) = known(journal, &fingerprint, &input.path)? {
        return Ok((id, false));
    }
    let bytes = files.iter().map(|file| file.bytes).sum();
    let mut db = journal.db();
    let mut rows = Rows::begin(&mut db, input, bytes, &fingerprint)?;
    let mut before: (Option<&str>, HashMap<String, Before>) = (None, HashMap::new());
    let mut same_size = walk::SameSize::new(&files);
    for (number, file) in files.iter().enumerate() {
        let mut crc32 = 0;
        let place = input.path.join(&file.path);
        // What is as it was when this folder was looked at before is not opened again.
        let (directory, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        if before.0 != Some(directory) {
            before = (Some(directory), rows.before(&input.path, directory)?);
        }
        let same = before.1.get(name).filter(|before| {
            let seen = matches!(before.kind, EntryKind::Media | EntryKind::Foreign);
            seen && before.bytes == file.bytes && before.mtime_ms == Some(file.mtime_ms) && file.refused.is_none()
        });
        if let Some(before) = same {
            rows.same_file(file, number, before)?;
            continue;
        }
        let seen = match (&file.refused, guess(&file.path)) {
            (Some(why), _) => Seen::Damaged((*why).to_owned()),
            (None, Guess::Foreign) if file.path.ends_with(".csv") && file.bytes <= JSON_BYTES_MAX => {
                // One of Apple's tables, perhaps. What is not text is none.
                match fs::read_to_string(&place).ok().and_then(|text| haven_takeout::icloud::table(&text)) {
                    Some(table) => {
                        rows.table(file, number, table)?;
                        continue;
                    }
                    None => Seen::Format(None),
                }
            }
            (None, Guess::Foreign) => Seen::Format(None),
            (None, Guess::Xmp) => {
                rows.file(file, number, 0, EntryKind::Xmp, None)?;
                continue;
            }
            (None, guess) => match File::open(&place) {
                Ok(mut open) if guess == Guess::Json => json(&mut open, file.bytes),
                Ok(mut open) => head(&mut open),
                Err(error) => Seen::Damaged(error.to_string()),
            },
        };
        let named = guess(&file.path) == Guess::Media && matches!(seen, Seen::Format(_));
        let kind = if named { EntryKind::Media } else { seen.kind() };
        // Files of one size may be copies of one another; a size that is there once is a content of its own.
        if kind == EntryKind::Media && (same_size.shared(file.bytes) || rows.size_is_known(file.bytes)?) {
            crc32 = match walk::crc32(&place) {
                Ok(crc32) => crc32,
                Err(error) => {
                    rows.file(file, number, 0, EntryKind::Refused, Some(&error.to_string()))?;
                    continue;
                }
            };
        }
        let id = rows.file(file, number, crc32, kind, seen.why())?;
        rows.json(id, seen)?;
    }
    rows.forget_folder(&input.path)?;
    Ok((rows.finish(files.len() as u64)?, true))
}

/// What a name says, before anything is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    Json,
    Media,
    Foreign,
    Xmp,
    Unknown,
}

/// By the extension.
pub fn guess(path: &str) -> Guess {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some((_, extension)) = name.rsplit_once('.') else { return Guess::Unknown };
    let extension = format!(".{}", extension.to_ascii_lowercase());
    let raw = [".crw", ".raf", ".x3f", ".mrw", ".psd", ".jp2", ".svg", ".rwz"];
    let foreign =
        [".html", ".htm", ".csv", ".txt", ".pdf", ".ini", ".db", ".zip", ".vcf", ".ics", ".mbox", ".css", ".js"];
    match extension.as_str() {
        ".json" => Guess::Json,
        ".xmp" => Guess::Xmp,
        // `.MP` is a moving half, and may be anything.
        ".mp" => Guess::Unknown,
        e if raw.contains(&e) || sniff::ALL.iter().any(|format| format.extensions().contains(&e)) => Guess::Media,
        e if foreign.contains(&e) => Guess::Foreign,
        _ => Guess::Unknown,
    }
}

/// Of a part, as kept.
pub fn method_number(method: Method) -> i64 {
    match method {
        Method::Stored => 0,
        Method::Deflated => 8,
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parts that are here and tell no export, where several exports could be theirs.
pub fn homeless(journal: &Journal) -> Result<Vec<String>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare(
        "SELECT path FROM part WHERE here AND export = ''
         AND (SELECT count(DISTINCT export) FROM part WHERE export <> '') > 1 ORDER BY id",
    )?;
    Ok(query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// All exports of which a part was ever seen, in this run or before, for the word on gaps: parts may come and go.
pub fn exports(journal: &Journal, inputs: &[Input]) -> Result<Vec<parts::Export>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare("SELECT export, product, number FROM part WHERE number IS NOT NULL")?;
    let part =
        |row: &rusqlite::Row<'_>| Ok(PartName { export: row.get(0)?, product: row.get(1)?, number: row.get(2)? });
    let known: Vec<PartName> = query.query_map([], part)?.collect::<rusqlite::Result<_>>()?;
    Ok(parts::exports(known.iter().chain(inputs.iter().filter_map(|input| input.part.as_ref()))))
}
