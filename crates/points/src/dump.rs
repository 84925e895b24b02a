//! Reads what `pg_dump -Fc -Z0` writes, from its beginning to its end, without PostgreSQL.
//! ```text
//!     head │ table of contents │ block │ block │ …      block: kind, whose, then length ‖ bytes … length 0
//! ```
//! Only the little that a check needs is understood: which tables there are, and their rows as text. A block that the
//! contents promise and that never comes is damage, and so is an end in the middle of one.
//! (The format: PostgreSQL's src/bin/pg_dump/pg_backup_archiver.c and pg_backup_custom.c, archive versions 1.12 of
//! PostgreSQL 9 to 1.16 of 17 and 18. The one crate that reads it does so by offsets, which a dump through a pipe has
//! not, and does not notice what is missing.)

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufRead, Read},
};

/// Why a dump can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error("the dump can't be read on")]
    Read(#[from] io::Error),
    #[error("the dump ends in the middle, in {0}")]
    Cut(&'static str),
    #[error("this is no dump in pg_dump's custom format")]
    Foreign,
    #[error("the dump is of version {0}.{1} of its format, which this Haven does not read")]
    Version(u8, u8),
    #[error("the dump is compressed; Haven's own are not, and only they are read here")]
    Compressed,
    #[error("the rows of {0} are not in the dump")]
    Absent(String),
    #[error("the dump makes no sense: {0}")]
    Nonsense(String),
    /// What whoever was handed the rows has to say.
    #[error("{0}")]
    Row(String),
}

type Result<T> = std::result::Result<T, DumpError>;

/// No name or statement is longer, bytes.
const TEXT_MAX: u64 = 256 << 20;

/// A table whose rows are in the dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub schema: String,
    pub name: String,
    /// In the order of the fields of a row.
    pub columns: Vec<String>,
}

impl Table {
    /// `schema.table`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// What a whole dump turned out to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walked {
    pub database: String,
    /// Versions of the server and of pg_dump.
    pub server: String,
    pub pg_dump: String,
    /// Rows, by `schema.table`.
    pub rows: BTreeMap<String, u64>,
}

/// What a dump makes that must be there before its tables: in the order in which it makes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ground {
    pub extensions: Vec<Extension>,
    pub schemas: Vec<String>,
}

/// An extension, as a dump makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    pub name: String,
    /// What its things are in; absent where the dump does not say.
    pub schema: Option<String>,
}

/// Reads the contents of a dump, and none of its rows.
pub fn ground(from: impl BufRead) -> Result<Ground> {
    let mut from = Archive { from, int_size: 0, offset_size: 0, version: 0 };
    from.head()?;
    let mut ground = Ground::default();
    from.contents(&mut |what, name, statement| match what {
        "EXTENSION" => ground.extensions.push(Extension { name: name.into(), schema: schema_in(statement) }),
        "SCHEMA" => ground.schemas.push(name.into()),
        _ => {}
    })?;
    Ok(ground)
}

/// The schema in `CREATE EXTENSION IF NOT EXISTS vectors WITH SCHEMA vectors;`, without the quotes it may have.
fn schema_in(statement: &str) -> Option<String> {
    let name = statement.trim_end().strip_suffix(';')?.rsplit_once(" WITH SCHEMA ")?.1;
    let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    Some(quoted.map_or_else(|| name.to_owned(), |name| name.replace("\"\"", "\"")))
}

/// Reads a dump to its end. `each` is handed every row as the line of text that COPY has for it.
pub fn walk(
    from: impl BufRead,
    mut each: impl FnMut(&Table, &[u8]) -> std::result::Result<(), String>,
) -> Result<Walked> {
    let mut from = Archive { from, int_size: 0, offset_size: 0, version: 0 };
    let mut walked = from.head()?;
    let mut promised = from.contents(&mut |_, _, _| ())?;
    let mut line = Vec::new();
    while let Some(kind) = from.byte_or_end()? {
        let whose = from.int()?;
        match (kind, promised.remove(&whose)) {
            (BLOCK_DATA, Some(Promised::Rows(table))) => {
                let count = from.rows(&table, &mut line, &mut each)?;
                *walked.rows.entry(table.full_name()).or_default() += count;
            }
            (BLOCK_DATA, Some(_)) => while from.chunk()?.is_some() {},
            (BLOCK_BLOBS, Some(_)) => from.blobs()?,
            (kind, _) => return Err(DumpError::Nonsense(format!("a block of kind {kind} for number {whose}"))),
        }
    }
    match promised.into_values().next() {
        None => Ok(walked),
        Some(Promised::Rows(table)) => Err(DumpError::Absent(table.full_name())),
        Some(Promised::Other(what)) => Err(DumpError::Absent(what)),
    }
}

const BLOCK_DATA: u8 = 1;
const BLOCK_BLOBS: u8 = 3;

enum Promised {
    Rows(Table),
    Other(String),
}

struct Archive<R> {
    from: R,
    int_size: usize,
    offset_size: usize,
    /// The second part of the version; the first is 1.
    version: u8,
}

impl<R: BufRead> Archive<R> {
    fn head(&mut self) -> Result<Walked> {
        let mut magic = [0; 5];
        let got = self.exact(&mut magic, "its head");
        if !matches!(got, Ok(())) || &magic != b"PGDMP" {
            return Err(DumpError::Foreign);
        }
        let [major, minor, _revision] = [self.byte()?, self.byte()?, self.byte()?];
        if major != 1 || !(12..=16).contains(&minor) {
            return Err(DumpError::Version(major, minor));
        }
        self.version = minor;
        (self.int_size, self.offset_size) = (self.byte()?.into(), self.byte()?.into());
        if !(1..=8).contains(&self.int_size) || !(1..=8).contains(&self.offset_size) || self.byte()? != 1 {
            return Err(DumpError::Foreign);
        }
        let compression = if minor >= 15 { self.byte()?.into() } else { self.int()? };
        if compression != 0 {
            return Err(DumpError::Compressed);
        }
        // The time it was made, in seven parts.
        for _ in 0..7 {
            self.int()?;
        }
        let mut text = || Ok::<_, DumpError>(self.text()?.unwrap_or_default());
        Ok(Walked { database: text()?, server: text()?, pg_dump: text()?, rows: BTreeMap::new() })
    }

    /// What is to come, by number. `each` is handed what every thing is, its name, and the statement that makes it.
    fn contents(&mut self, each: &mut dyn FnMut(&str, &str, &str)) -> Result<HashMap<i64, Promised>> {
        let count = self.int()?;
        let mut promised = HashMap::new();
        for _ in 0..count {
            let number = self.int()?;
            let has_data = self.int()? != 0;
            let _catalogue = (self.text()?, self.text()?);
            let tag = self.text()?.unwrap_or_default();
            let what = self.text()?.unwrap_or_default();
            self.int()?; // section
            let statement = self.text()?.unwrap_or_default();
            let _undo = self.text()?;
            each(&what, &tag, &statement);
            let copy = self.text()?.unwrap_or_default();
            let schema = self.text()?.unwrap_or_default();
            let _tablespace = self.text()?;
            if self.version >= 14 {
                self.text()?; // access method
            }
            if self.version >= 16 {
                self.int()?; // kind of relation
            }
            let _owner_and_oids = (self.text()?, self.text()?);
            while self.text()?.is_some() {} // dependencies
            let mut offset = [0; 9];
            self.exact(&mut offset[..=self.offset_size], "its contents")?;
            if has_data {
                let entry = match what.as_str() {
                    "TABLE DATA" => Promised::Rows(Table { columns: columns(&copy)?, schema, name: tag }),
                    _ => Promised::Other(format!("{what} {tag}")),
                };
                promised.insert(number, entry);
            }
        }
        Ok(promised)
    }

    /// Hands out the rows of one table and counts them.
    fn rows(
        &mut self,
        table: &Table,
        line: &mut Vec<u8>,
        each: &mut impl FnMut(&Table, &[u8]) -> std::result::Result<(), String>,
    ) -> Result<u64> {
        let (mut count, mut ended) = (0, false);
        line.clear();
        while let Some(length) = self.chunk_length()? {
            let mut left = length;
            while left > 0 {
                let here = self.from.fill_buf()?;
                if here.is_empty() {
                    return Err(DumpError::Cut("the rows of a table"));
                }
                let here = &here[..here.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
                let end = here.iter().position(|byte| *byte == b'\n');
                line.extend_from_slice(&here[..end.unwrap_or(here.len())]);
                let used = end.map_or(here.len(), |end| end + 1);
                self.from.consume(used);
                left -= used as u64;
                if end.is_some() {
                    match (ended, line.as_slice()) {
                        (true, b"") => {}
                        (true, _) => return Err(DumpError::Nonsense("rows after the end of a table".into())),
                        (false, b"\\.") => ended = true,
                        (false, row) => {
                            each(table, row).map_err(DumpError::Row)?;
                            count += 1;
                        }
                    }
                    line.clear();
                }
            }
        }
        if ended && line.is_empty() { Ok(count) } else { Err(DumpError::Cut("the rows of a table")) }
    }

    fn blobs(&mut self) -> Result<()> {
        while self.int()? != 0 {
            while self.chunk()?.is_some() {}
        }
        Ok(())
    }

    /// Passes over a chunk; `None`: it was the last.
    fn chunk(&mut self) -> Result<Option<()>> {
        let Some(length) = self.chunk_length()? else { return Ok(None) };
        let passed = io::copy(&mut self.from.by_ref().take(length), &mut io::sink())?;
        if passed == length { Ok(Some(())) } else { Err(DumpError::Cut("a block")) }
    }

    fn chunk_length(&mut self) -> Result<Option<u64>> {
        match u64::try_from(self.int()?) {
            Ok(0) => Ok(None),
            Ok(length) => Ok(Some(length)),
            Err(_) => Err(DumpError::Nonsense("a length below zero".into())),
        }
    }

    fn exact(&mut self, into: &mut [u8], what: &'static str) -> Result<()> {
        self.from.read_exact(into).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => DumpError::Cut(what),
            _ => error.into(),
        })
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.exact(&mut byte, "its head")?;
        Ok(byte[0])
    }

    fn byte_or_end(&mut self) -> Result<Option<u8>> {
        let first = self.from.fill_buf()?.first().copied();
        self.from.consume(first.map_or(0, |_| 1));
        Ok(first)
    }

    /// A sign, then the number's bytes from the lowest on.
    fn int(&mut self) -> Result<i64> {
        let mut bytes = [0; 9];
        let size = self.int_size;
        self.exact(&mut bytes[..=size], "a number")?;
        let mut number = [0; 8];
        number[..size].copy_from_slice(&bytes[1..=size]);
        let number = i64::from_le_bytes(number);
        Ok(if bytes[0] == 0 { number } else { -number })
    }

    fn text(&mut self) -> Result<Option<String>> {
        let Ok(length) = u64::try_from(self.int()?) else { return Ok(None) };
        if length > TEXT_MAX {
            return Err(DumpError::Nonsense(format!("a text of {length} bytes")));
        }
        let mut bytes = Vec::new();
        self.from.by_ref().take(length).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < length {
            return Err(DumpError::Cut("its contents"));
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// The columns in `COPY public.asset (id, "ownerId") FROM stdin;`.
fn columns(copy: &str) -> Result<Vec<String>> {
    let nonsense = || DumpError::Nonsense(format!("rows that come by {copy:?}"));
    let body = copy.trim_end().strip_suffix(" FROM stdin;").ok_or_else(nonsense)?;
    // A table without columns has no list.
    let Some(body) = body.strip_suffix(')') else { return Ok(Vec::new()) };
    // The list begins at the last bracket that stands in no quotes.
    let (mut quoted, mut open) = (false, None);
    for (at, character) in body.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '(' if !quoted => open = Some(at + 1),
            _ => {}
        }
    }
    let list = &body[open.ok_or_else(nonsense)?..];
    let (mut columns, mut column, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                column.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(std::mem::take(&mut column)),
            ' ' if !quoted => {}
            other => column.push(other),
        }
    }
    if !column.is_empty() {
        columns.push(column);
    }
    Ok(columns)
}

/// The fields of a row; `None` is NULL.
pub fn fields(row: &[u8]) -> impl Iterator<Item = Option<Vec<u8>>> {
    row.split(|byte| *byte == b'\t').map(|field| (field != b"\\N").then(|| plain(field)))
}

/// A field without COPY's escapes.
fn plain(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => other,
                None => b'\\',
            },
            other => other,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_with_their_quotes() {
        let copy = r#"COPY public."odd (table" (id, "ownerId", "a ""b"", c)") FROM stdin;"#;
        assert_eq!(columns(&format!("{copy}\n")).unwrap(), ["id", "ownerId", "a \"b\", c)"]);
        assert_eq!(columns("COPY public.empty  FROM stdin;\n").unwrap(), Vec::<String>::new());
        assert!(columns("INSERT INTO x").is_err());
    }

    #[test]
    fn fields_are_what_was_stored() {
        let row = b"\\\\x00ff\t\\N\ta\\tb\\nc\\\\N\t\t\xc3\xa9";
        let all: Vec<Option<Vec<u8>>> = fields(row).collect();
        let expected: [Option<&[u8]>; 5] = [Some(b"\\x00ff"), None, Some(b"a\tb\nc\\N"), Some(b""), Some(b"\xc3\xa9")];
        assert_eq!(all.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    }
}
