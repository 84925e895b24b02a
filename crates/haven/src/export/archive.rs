//! A tar file or stream, in the interchange format of POSIX (pax): long names, nanoseconds, extended attributes, and
//! sparse files as GNU tar writes them (version 1.0), which GNU tar, libarchive and Python read.
//!
//! The crate `tar` gives headers and the records of pax; contents are written here, because they come piece by piece.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, Write},
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use haven_format::record::Time;
use haven_fs::Fs;
use tar::{Builder, EntryType, Header};

use super::{
    ExportError, Summary,
    source::{Content, Item, Stream, What, Whole},
    sums::{self, Sum},
};

const BLOCK: u64 = 512;
/// Parts with data begin and end at multiples of this.
const ALIGN: u64 = 4096;
/// Holes of fewer bytes are written as zeros.
const SPARSE_MIN: u64 = 64 << 10;
/// The largest numbers of seven and of eleven octal digits, which a header holds.
const OCTAL_7: u64 = 0o7_777_777;
const OCTAL_11: u64 = 0o77_777_777_777;

/// Where the bytes go.
enum Out {
    /// Under another name until all is there.
    File {
        file: BufWriter<File>,
        part: PathBuf,
        path: PathBuf,
    },
    Stream(Box<dyn Write + Send>),
    /// An archive that was given up gets no end, or it would look whole.
    Nowhere,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { file, .. } => file.write(bytes),
            Self::Stream(stream) => stream.write(bytes),
            Self::Nowhere => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.flush(),
            Self::Stream(stream) => stream.flush(),
            Self::Nowhere => Ok(()),
        }
    }
}

/// A tar that files are written to.
pub struct Archive {
    tar: Builder<Out>,
    /// For messages.
    path: PathBuf,
    list_name: String,
    /// The list of checksums, until it becomes the last file.
    list: BufWriter<File>,
    linked: HashMap<PathBuf, Sum>,
}

impl Archive {
    /// A file that is not there yet.
    pub fn create(path: &Path, list: &str) -> Result<Self, ExportError> {
        let failed = |source| ExportError::Write { path: path.to_owned(), source };
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let file = BufWriter::new(File::create(&part).map_err(failed)?);
        Self::new(Out::File { file, part: part.into(), path: path.to_owned() }, path, list)
    }

    pub fn stream(out: Box<dyn Write + Send>, list: &str) -> Result<Self, ExportError> {
        Self::new(Out::Stream(out), Path::new("the stream"), list)
    }

    fn new(out: Out, path: &Path, list: &str) -> Result<Self, ExportError> {
        let spool = tempfile::tempfile().map_err(|source| ExportError::Write { path: std::env::temp_dir(), source })?;
        Ok(Self {
            tar: Builder::new(out),
            path: path.to_owned(),
            list_name: list.to_owned(),
            list: BufWriter::new(spool),
            linked: Default::default(),
        })
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> ExportError + use<> {
        let path = self.path.clone();
        |source| ExportError::Write { path, source }
    }

    /// Writes one item.
    pub async fn put(&mut self, fs: &Fs, item: Item, content: Content, out: &mut Summary) -> Result<(), ExportError> {
        item.trouble.iter().for_each(|why| out.failed(&item.path, why));
        let name = match (&item.what, item.path.as_os_str().as_bytes()) {
            (What::Folder, path) => [path, b"/"].concat(),
            (_, path) => path.to_vec(),
        };
        let name = if name == b"/" { b"./".to_vec() } else { name };
        let simple = |kind, link: &[u8]| Entry { name: name.clone(), kind, link: link.to_vec(), size: 0, sparse: None };
        let done = match &item.what {
            What::Unreadable => Ok(()),
            What::File => return self.file(fs, &item, name, content, out).await,
            What::Folder => {
                out.folders += 1;
                self.begin(&item, simple(EntryType::Directory, b""), out)
            }
            What::Symlink(target) => {
                out.symlinks += 1;
                self.begin(&item, simple(EntryType::Symlink, target), out)
            }
            What::HardLink(first) => {
                out.hard_links += 1;
                let done = self.begin(&item, simple(EntryType::Link, first.as_os_str().as_bytes()), out);
                match self.linked.get(first).copied() {
                    Some(sum) => done.and_then(|()| self.list.write_all(&sums::line(sum, &item.path))),
                    None => done,
                }
            }
            What::Special => match special(item.attr.mode) {
                Some(kind) => {
                    out.special += 1;
                    self.begin(&item, simple(kind, b""), out)
                }
                None => {
                    out.incomplete(&item.path, "a socket has no place in a tar");
                    Ok(())
                }
            },
        };
        done.map_err(self.failed())
    }

    async fn file(
        &mut self,
        fs: &Fs,
        item: &Item,
        name: Vec<u8>,
        content: Content,
        out: &mut Summary,
    ) -> Result<(), ExportError> {
        let size = item.attr.size;
        let (sum, trouble) = match content {
            Content::Failed(why) => {
                out.failed(&item.path, why);
                return Ok(());
            }
            Content::Whole(Whole { data, sum, trouble }) => {
                let parts = data.iter().map(|(offset, bytes)| *offset..offset + bytes.len() as u64);
                let mut body = self.body(item, name, parts, out).map_err(self.failed())?;
                for (offset, bytes) in &data {
                    body.put(&mut self.tar, *offset, bytes).map_err(self.failed())?;
                }
                body.end(&mut self.tar).map_err(self.failed())?;
                (sum, trouble)
            }
            Content::Large | Content::Nothing | Content::There(_) => {
                let mut stream = match Stream::open(fs, item).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        out.failed(&item.path, error);
                        return Ok(());
                    }
                };
                let parts: Vec<_> = stream.parts.iter().cloned().collect();
                let mut body = self.body(item, name, parts.into_iter(), out).map_err(self.failed())?;
                while let Some((offset, bytes)) = stream.next().await {
                    body.put(&mut self.tar, offset, &bytes).map_err(self.failed())?;
                }
                body.end(&mut self.tar).map_err(self.failed())?;
                stream.close()
            }
        };
        (out.files, out.bytes) = (out.files + 1, out.bytes + size);
        if let Some(why) = trouble {
            out.failed(&item.path, why);
            return Ok(());
        }
        if item.attr.nlink > 1 {
            self.linked.insert(item.path.clone(), sum);
        }
        self.list.write_all(&sums::line(sum, &item.path)).map_err(self.failed())
    }

    /// Begins a file whose data is in `parts`.
    fn body(
        &mut self,
        item: &Item,
        name: Vec<u8>,
        parts: impl Iterator<Item = Range<u64>>,
        out: &mut Summary,
    ) -> io::Result<Body> {
        let size = item.attr.size;
        let parts = aligned(parts, size);
        let data: u64 = parts.iter().map(|part| part.end - part.start).sum();
        let entry = |size, sparse| Entry { name, kind: EntryType::Regular, link: Vec::new(), size, sparse };
        if size - data < SPARSE_MIN {
            self.begin(item, entry(size, None), out)?;
            return Ok(Body { at: 0, parts: std::iter::once(0..size).collect(), written: 0 });
        }
        let map = sparse_map(&parts, size);
        self.begin(item, entry(map.len() as u64 + data, Some(size)), out)?;
        self.tar.get_mut().write_all(&map)?;
        Ok(Body { at: parts.front().map_or(0, |part| part.start), parts, written: 0 })
    }

    /// Writes an entry's header, and before it what a header has no room for.
    fn begin(&mut self, item: &Item, entry: Entry, out: &mut Summary) -> io::Result<()> {
        let attr = &item.attr;
        let mut records = vec![("mtime".to_owned(), time(attr.mtime)), ("atime".to_owned(), time(attr.atime))];
        let mut header = Header::new_ustar();
        let name = match entry.sparse {
            Some(size) => {
                let base = Path::new(OsStr::from_bytes(&entry.name)).file_name().unwrap_or_default();
                for (key, value) in [("major", b"1".to_vec()), ("minor", b"0".to_vec()), ("name", entry.name.clone())] {
                    records.push((format!("GNU.sparse.{key}"), value));
                }
                records.push(("GNU.sparse.realsize".to_owned(), size.to_string().into()));
                [b"GNUSparseFile.0/", base.as_bytes()].concat()
            }
            None => entry.name,
        };
        let fields = header.as_ustar_mut().expect("it was made as one");
        text(&mut fields.name, &name, "path", &mut records);
        text(&mut fields.linkname, &entry.link, "linkpath", &mut records);
        for (value, most, key) in [
            (u64::from(attr.uid), OCTAL_7, "uid"),
            (u64::from(attr.gid), OCTAL_7, "gid"),
            (entry.size, OCTAL_11, "size"),
        ] {
            if value > most {
                records.push((key.to_owned(), value.to_string().into()));
            }
        }
        for (name, value) in &item.xattrs {
            match std::str::from_utf8(name) {
                Ok(name) => records.push((format!("SCHILY.xattr.{}", keyword(name)), value.to_vec())),
                Err(_) => out.incomplete(&item.path, "an attribute whose name is no text has no place in a tar"),
            }
        }
        self.tar.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), &value[..])))?;
        header.set_entry_type(entry.kind);
        header.set_mode(attr.mode & 0o7777);
        header.set_uid(u64::from(attr.uid).min(OCTAL_7));
        header.set_gid(u64::from(attr.gid).min(OCTAL_7));
        header.set_size(entry.size.min(OCTAL_11));
        header.set_mtime(u64::try_from(attr.mtime.seconds).unwrap_or(0).min(OCTAL_11));
        if matches!(entry.kind, EntryType::Char | EntryType::Block) {
            // As the kernel's `new_encode_dev`.
            header.set_device_major((attr.rdev & 0xf_ff00) >> 8)?;
            header.set_device_minor(attr.rdev & 0xff | (attr.rdev >> 12) & 0xf_ff00)?;
        }
        header.set_cksum();
        self.tar.get_mut().write_all(header.as_bytes())
    }

    /// Adds the list of checksums and ends the archive.
    pub fn finish(mut self) -> Result<(), ExportError> {
        let failed = self.failed();
        self.end().map_err(failed)
    }

    fn end(&mut self) -> io::Result<()> {
        let mut list = std::mem::replace(&mut self.list, BufWriter::new(tempfile::tempfile()?)).into_inner()?;
        let mut header = Header::new_ustar();
        header.set_path(&self.list_name)?;
        header.set_mode(0o644);
        header.set_size(list.stream_position()?);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(crate::words::now().seconds).unwrap_or(0));
        header.set_cksum();
        list.rewind()?;
        self.tar.append(&header, Read::by_ref(&mut list))?;
        self.tar.finish()?;
        let out = self.tar.get_mut();
        out.flush()?;
        if let Out::File { file, part, path } = out {
            file.get_ref().sync_all()?;
            fs::rename(part, path)?;
        }
        Ok(())
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        *self.tar.get_mut() = Out::Nowhere;
    }
}

/// What a header needs beside an item.
struct Entry {
    name: Vec<u8>,
    kind: EntryType,
    link: Vec<u8>,
    /// Bytes that follow.
    size: u64,
    /// The file's length, if those are a map and the parts with data.
    sparse: Option<u64>,
}

/// The content of an entry under way.
struct Body {
    /// What is to be written of the file, the part under way first.
    parts: VecDeque<Range<u64>>,
    /// Where in the file the next byte belongs.
    at: u64,
    written: u64,
}

impl Body {
    fn put(&mut self, to: &mut Builder<Out>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        while self.parts.front().is_some_and(|part| part.end <= offset) {
            self.end_part(to)?;
        }
        self.zeros(to, offset)?;
        self.at += bytes.len() as u64;
        self.written += bytes.len() as u64;
        to.get_mut().write_all(bytes)
    }

    /// Zeros up to that place in the file.
    fn zeros(&mut self, to: &mut Builder<Out>, end: u64) -> io::Result<()> {
        let length = end.saturating_sub(self.at);
        (self.at, self.written) = (self.at + length, self.written + length);
        io::copy(&mut io::repeat(0).take(length), to.get_mut()).map(drop)
    }

    fn end_part(&mut self, to: &mut Builder<Out>) -> io::Result<()> {
        if let Some(part) = self.parts.pop_front() {
            self.zeros(to, part.end)?;
        }
        self.at = self.parts.front().map_or(self.at, |part| part.start);
        Ok(())
    }

    fn end(mut self, to: &mut Builder<Out>) -> io::Result<()> {
        while !self.parts.is_empty() {
            self.end_part(to)?;
        }
        let rest = self.written.next_multiple_of(BLOCK) - self.written;
        io::copy(&mut io::repeat(0).take(rest), to.get_mut()).map(drop)
    }
}

/// Parts that touch, or nearly, are one. All but the last end where a block does: GNU tar fills them up to there, and
/// others don't.
fn aligned(parts: impl Iterator<Item = Range<u64>>, size: u64) -> VecDeque<Range<u64>> {
    let mut out: VecDeque<Range<u64>> = VecDeque::new();
    for part in parts {
        let part = part.start / ALIGN * ALIGN..part.end.next_multiple_of(ALIGN).min(size);
        match out.back_mut() {
            Some(last) if last.end >= part.start => last.end = part.end,
            _ => out.push_back(part),
        }
    }
    out
}

/// Numbers, a line each: how many parts, then where each begins and how long it is; filled to a whole block. A hole at
/// the end is told by a part without bytes.
fn sparse_map(parts: &VecDeque<Range<u64>>, size: u64) -> Vec<u8> {
    let tail = (parts.back().is_none_or(|last| last.end < size)).then_some(size..size);
    let parts: Vec<_> = parts.iter().cloned().chain(tail).collect();
    let mut map = format!("{}\n", parts.len());
    for part in parts {
        map += &format!("{}\n{}\n", part.start, part.end - part.start);
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK as usize), 0);
    map
}

/// Fills a field of the header; what is too long or more than ASCII gets a record.
fn text(field: &mut [u8], value: &[u8], key: &str, records: &mut Vec<(String, Vec<u8>)>) {
    if value.len() > field.len() || !value.is_ascii() {
        records.push((key.to_owned(), value.to_vec()));
    }
    for (to, from) in field.iter_mut().zip(value) {
        *to = if from.is_ascii() { *from } else { b'_' };
    }
}

/// Seconds with nine decimals.
fn time(time: Time) -> Vec<u8> {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    format!("{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000).into()
}

/// A name as part of a record's key, which ends at its first `=`.
fn keyword(name: &str) -> String {
    name.replace('%', "%25").replace('=', "%3D")
}

fn special(mode: u32) -> Option<EntryType> {
    match mode & 0o170_000 {
        0o010_000 => Some(EntryType::Fifo),
        0o020_000 => Some(EntryType::Char),
        0o060_000 => Some(EntryType::Block),
        _ => None,
    }
}
