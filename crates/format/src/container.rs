//! Objects of many parts, read one part at a time: packs (parts are chunks) and shards (parts are blocks).
//! ```text
//!     head, 8 bytes ‖ sealed part ‖ sealed part ‖ … ‖ sealed footer ‖ footer length, u32 LE ‖ "HAVENEND"
//! ```
//! A part's index in its seal is the offset at which it stands, so parts can't be exchanged.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    FormatError, Keys,
    codec::{self, Payload},
    crypto::{NONCE_LEN, ObjectKey},
    envelope::{HEAD_LEN, Kind},
};

pub const TRAILER_LEN: usize = 12;
const END: &[u8; 8] = b"HAVENEND";

/// Where a sealed part stands in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// Bytes from the start of the object.
    pub offset: u32,
    /// Bytes of the seal, overhead included.
    pub len: u32,
}

impl Part {
    /// The bytes to read, end exclusive.
    pub fn range(self) -> std::ops::Range<u64> {
        u64::from(self.offset)..u64::from(self.offset) + u64::from(self.len)
    }
}

/// Seals the parts of one object in order. Holds no bytes: each call returns what to append.
#[derive(Debug)]
pub struct Sealer {
    key: ObjectKey,
    kind: Kind,
    offset: u32,
}

impl Sealer {
    /// A new object `name`; its head is the first thing to write.
    pub fn begin(keys: &Keys, name: &str, kind: Kind) -> (Self, [u8; HEAD_LEN]) {
        (Self { key: keys.object(name), kind, offset: HEAD_LEN as u32 }, kind.head())
    }

    /// Goes on with an object of which `offset` bytes are written.
    pub fn resume(keys: &Keys, name: &str, kind: Kind, offset: u32) -> Self {
        Self { key: keys.object(name), kind, offset }
    }

    /// Bytes written so far, the head included.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Appends the seal of `plain` to `out` and says where it stands.
    pub fn append(&mut self, nonce: [u8; NONCE_LEN], plain: &[u8], out: &mut Vec<u8>) -> Part {
        self.append_payload(nonce, &codec::prepare(plain), out)
    }

    /// The same for a payload that [`codec::prepare`] has made already.
    pub fn append_payload(&mut self, nonce: [u8; NONCE_LEN], payload: &Payload<'_>, out: &mut Vec<u8>) -> Part {
        let before = out.len();
        self.key.seal_runs(u64::from(self.offset), nonce, &payload.parts(), out);
        let part = Part { offset: self.offset, len: (out.len() - before) as u32 };
        self.offset += part.len;
        part
    }

    /// Appends the footer and the trailer; returns the length of the whole object.
    pub fn finish(mut self, nonce: [u8; NONCE_LEN], footer: &[u8], out: &mut Vec<u8>) -> u64 {
        let mut payload = self.kind.head().to_vec();
        payload.extend_from_slice(footer);
        let part = self.append(nonce, &payload, out);
        out.extend_from_slice(&part.len.to_le_bytes());
        out.extend_from_slice(END);
        u64::from(self.offset) + TRAILER_LEN as u64
    }
}

/// Opens parts of one object.
#[derive(Debug)]
pub struct Opener {
    key: ObjectKey,
    kind: Kind,
}

impl Opener {
    pub fn new(keys: &Keys, name: &str, kind: Kind) -> Self {
        Self { key: keys.object(name), kind }
    }

    /// The plain bytes of the part whose sealed bytes are given.
    pub fn part(&self, part: Part, sealed: &[u8]) -> Result<Bytes, FormatError> {
        if sealed.len() != part.len as usize {
            return Err(FormatError::Seal);
        }
        codec::decode(self.key.open(u64::from(part.offset), sealed)?)
    }

    /// The same in `memory`, which is used again for each part.
    pub fn part_in<'a>(
        &self,
        part: Part,
        sealed: &[u8],
        memory: &'a mut Vec<u8>,
    ) -> Result<Cow<'a, [u8]>, FormatError> {
        if sealed.len() != part.len as usize {
            return Err(FormatError::Seal);
        }
        self.key.open_into(u64::from(part.offset), sealed, memory)?;
        codec::decode_lent(memory)
    }

    /// The same in the memory of the sealed bytes.
    pub fn part_owned(&self, part: Part, sealed: Vec<u8>) -> Result<Bytes, FormatError> {
        if sealed.len() != part.len as usize {
            return Err(FormatError::Seal);
        }
        codec::decode(self.key.open_owned(u64::from(part.offset), sealed)?)
    }

    /// Where the footer stands, by the last [`TRAILER_LEN`] bytes of an object of `length` bytes.
    pub fn footer_part(&self, length: u64, trailer: &[u8]) -> Result<Part, FormatError> {
        if trailer.len() != TRAILER_LEN || &trailer[4..] != END {
            return Err(FormatError::Malformed("the object does not end as it should: it may be cut"));
        }
        let len = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]);
        let offset = length
            .checked_sub(TRAILER_LEN as u64 + u64::from(len))
            .filter(|&offset| offset >= HEAD_LEN as u64 && offset <= u64::from(u32::MAX))
            .ok_or(FormatError::Malformed("the footer does not fit the object"))?;
        Ok(Part { offset: offset as u32, len })
    }

    /// The footer's content.
    pub fn footer(&self, part: Part, sealed: &[u8]) -> Result<Bytes, FormatError> {
        let payload = self.part(part, sealed)?;
        let head = payload.get(..HEAD_LEN).ok_or(FormatError::Seal)?;
        self.kind.check_head(head)?;
        Ok(payload.slice(HEAD_LEN..))
    }

    /// The footer of an object that is there as a whole.
    pub fn whole_footer(&self, object: &[u8]) -> Result<Bytes, FormatError> {
        self.kind.check_head(object)?;
        let trailer = object.len().checked_sub(TRAILER_LEN).ok_or(FormatError::Malformed("the object is too short"))?;
        let part = self.footer_part(object.len() as u64, &object[trailer..])?;
        self.footer(part, &object[part.offset as usize..trailer])
    }
}
