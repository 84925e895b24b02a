//! Objects of a single part: log segments, roots, claims, leases and standings.
//! ```text
//!     magic "HAVEN" ‖ kind, 2 letters ‖ version, u8 ‖ sealed payload (index 0)
//! ```
//! The eight bytes of the head are inside the payload too, so they can't be exchanged unnoticed.

use bytes::Bytes;

use crate::{FormatError, Keys, codec, crypto::NONCE_LEN};

pub const HEAD_LEN: usize = 8;
/// The version of every object this program writes, and the newest it reads.
pub const VERSION: u8 = 1;

/// What an object is, in the two letters after "HAVEN".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pack,
    Shard,
    Segment,
    Root,
    Claim,
    Config,
    Journal,
    Lease,
    Standing,
}

impl Kind {
    fn letters(self) -> &'static [u8; 2] {
        match self {
            Self::Pack => b"pk",
            Self::Shard => b"sh",
            Self::Segment => b"sg",
            Self::Root => b"rt",
            Self::Claim => b"cl",
            Self::Config => b"cf",
            Self::Journal => b"jr",
            Self::Lease => b"ls",
            Self::Standing => b"st",
        }
    }

    /// What to call it in a message.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Shard => "metadata shard",
            Self::Segment => "log segment",
            Self::Root => "root",
            Self::Claim => "writer claim",
            Self::Config => "configuration object",
            Self::Journal => "journal",
            Self::Lease => "reader's lease",
            Self::Standing => "note on what this copy is",
        }
    }

    /// The first eight bytes of such an object.
    pub fn head(self) -> [u8; HEAD_LEN] {
        let mut head = *b"HAVEN\0\0\0";
        head[5..7].copy_from_slice(self.letters());
        head[7] = VERSION;
        head
    }

    /// Checks that `bytes` begins as an object of this kind does.
    pub fn check_head(self, bytes: &[u8]) -> Result<(), FormatError> {
        let head = self.head();
        if bytes.len() < HEAD_LEN || bytes[..7] != head[..7] {
            return Err(FormatError::Magic { expected: self.word() });
        }
        match bytes[7] {
            found if found > VERSION => Err(FormatError::Newer { found, known: VERSION }),
            0 => Err(FormatError::Magic { expected: self.word() }),
            _ => Ok(()),
        }
    }
}

/// The whole object `name` of kind `kind` with `content` in it.
pub fn seal(keys: &Keys, name: &str, kind: Kind, nonce: [u8; NONCE_LEN], content: &[u8]) -> Vec<u8> {
    let head = kind.head();
    let mut payload = Vec::with_capacity(content.len() + HEAD_LEN);
    payload.extend_from_slice(&head);
    payload.extend_from_slice(content);
    let mut out = head.to_vec();
    keys.object(name).seal(0, nonce, &codec::encode(&payload), &mut out);
    out
}

/// The content of the object `name`, sealed by [`seal`].
pub fn open(keys: &Keys, name: &str, kind: Kind, bytes: &[u8]) -> Result<Bytes, FormatError> {
    kind.check_head(bytes)?;
    let payload = codec::decode(keys.object(name).open(0, &bytes[HEAD_LEN..])?)?;
    if payload.len() < HEAD_LEN || payload[..HEAD_LEN] != bytes[..HEAD_LEN] {
        return Err(FormatError::Seal);
    }
    Ok(payload.slice(HEAD_LEN..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LibraryId, MasterKey};

    #[test]
    fn an_object_opens_as_its_own_kind_only_and_a_newer_one_says_so() {
        let keys = Keys::new(LibraryId([1; 16]), &MasterKey([2; 32]));
        let mut object = seal(&keys, "r/1", Kind::Root, [3; 12], b"content");
        assert_eq!(open(&keys, "r/1", Kind::Root, &object).unwrap(), &b"content"[..]);
        assert!(matches!(open(&keys, "r/1", Kind::Claim, &object), Err(FormatError::Magic { .. })));
        object[5..7].copy_from_slice(b"cl");
        assert_eq!(open(&keys, "r/1", Kind::Claim, &object), Err(FormatError::Seal));
        object[5..8].copy_from_slice(b"rt\x09");
        assert_eq!(open(&keys, "r/1", Kind::Root, &object), Err(FormatError::Newer { found: 9, known: VERSION }));
    }
}
