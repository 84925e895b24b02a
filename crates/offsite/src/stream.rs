//! Reading an archive without writing it anywhere: as tar, through a pipe.

use std::io::{self, Read};

use crate::{Error, Kind, tree::landed};

/// Is handed each file: its path below the root that was wished for, and its bytes. From several threads.
pub type Each<'a> = dyn Fn(&[u8], &mut dyn Read) -> io::Result<()> + Sync + 'a;

/// What came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streamed {
    pub files: u64,
    pub bytes: u64,
    /// Those that the repository could not give, below the root, and why.
    pub failed: Vec<(Vec<u8>, String)>,
}

impl Streamed {
    pub(crate) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.failed.extend(other.failed);
    }
}

/// Hands out the files of a tar. `whole` is told each path as the archive has it, once all of it has come.
pub fn files(from: &mut dyn Read, root: &[u8], each: &Each, whole: &mut dyn FnMut(&[u8])) -> io::Result<Streamed> {
    let mut came = Streamed::default();
    let mut tar = tar::Archive::new(from);
    for file in tar.entries()? {
        let mut file = file?;
        if !file.header().entry_type().is_file() {
            continue;
        }
        let path = file.path_bytes().into_owned();
        let path = path.strip_prefix(b"./").unwrap_or(&path);
        let path: Vec<u8> = path.strip_prefix(b"/").unwrap_or(path).to_vec();
        let length = file.size();
        let mut counted = Counted { from: &mut file, bytes: 0 };
        let below = crate::Entry { path, sort: crate::Sort::File, size: length, modified: None, target: Vec::new() };
        each(landed(&below, root), &mut counted)?;
        // What nobody wanted to see is part of it, too.
        io::copy(&mut counted, &mut io::sink())?;
        if counted.bytes != length {
            let text = format!("it ends after {} of {length} bytes", counted.bytes);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        came.files += 1;
        came.bytes += length;
        whole(&below.path);
    }
    // A tar ends before its padding does, and a program whose pipe closes on that ends by a signal.
    io::copy(&mut tar.into_inner(), &mut io::sink())?;
    Ok(came)
}

struct Counted<'a> {
    from: &'a mut dyn Read,
    bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

/// What a pipe that broke is, where the program itself saw nothing wrong.
pub fn broken(doing: &str, error: &io::Error) -> Error {
    Error::new(Kind::NotRestored, format!("{doing}: not everything could be read")).because(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_read_to_its_end_and_not_only_to_the_tars() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        tar.append_data(&mut header, "a/b.jpg", &b"abc"[..]).unwrap();
        let mut bytes = tar.into_inner().unwrap();
        bytes.extend([0; 64 << 10]);
        let mut from = &bytes[..];
        let came = files(&mut from, b"", &|_, _| Ok(()), &mut |_| {}).unwrap();
        assert_eq!((came.files, came.bytes, from.len()), (1, 3, 0));
    }
}
