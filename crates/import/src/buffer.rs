//! Memory that files pass through: taken from a pool and given back when the last who reads it is done. Fresh memory of this
//! size comes from the kernel page by page, which costs as much as reading the file.

use std::{
    io::{self, Read},
    sync::Mutex,
};

use bytes::Bytes;

/// Bytes are handed on in pieces of this length.
pub const PIECE_BYTES: usize = 256 << 10;
/// Pieces that are kept for the next file.
const KEPT: usize = 256;

static POOL: Mutex<Vec<Box<[u8]>>> = Mutex::new(vec![]);

/// A buffer on loan.
struct Loan {
    bytes: Box<[u8]>,
    filled: usize,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if pool.len() < KEPT {
            pool.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// The next bytes of a reader: a whole piece, or all that is left, or nothing at its end.
pub fn fill(reader: &mut dyn Read) -> io::Result<Bytes> {
    let kept = POOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
    let mut loan = Loan { bytes: kept.unwrap_or_else(|| vec![0; PIECE_BYTES].into()), filled: 0 };
    while loan.filled < PIECE_BYTES {
        match reader.read(&mut loan.bytes[loan.filled..]) {
            Ok(0) => break,
            Ok(got) => loan.filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // A small file does not hold a large buffer while it waits for its turn.
    if loan.filled <= PIECE_BYTES / 8 {
        return Ok(Bytes::copy_from_slice(loan.as_ref()));
    }
    Ok(Bytes::from_owner(loan))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_given_in_whole_pieces_and_its_end_is_nothing() {
        let data: Vec<u8> = (0..PIECE_BYTES * 2 + 77).map(|n| (n % 251) as u8).collect();
        let mut reader = &data[..];
        let mut got = vec![];
        loop {
            let piece = fill(&mut reader).unwrap();
            if piece.is_empty() {
                break;
            }
            got.extend_from_slice(&piece);
        }
        assert_eq!(got, data);
    }
}
