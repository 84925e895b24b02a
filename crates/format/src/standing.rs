//! A standing: what this copy of the library is. One sealed [`envelope`](crate::envelope); the newest counts, and a
//! store without one holds the library itself. Each copy has its own: standings are never copied along.

use prost::Message;

use crate::{FormatError, Keys, Nonce, crypto::NONCE_LEN, envelope, layout, record::Time};

/// What a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Role {
    /// The library: one machine writes here.
    Library = 0,
    /// A copy that follows a library. Nobody writes but the replicator.
    Replica = 1,
    /// A new library whose content is still being fetched from `of`.
    Restoring = 2,
    /// It was the library, and another copy, `of`, has taken its place.
    Superseded = 3,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Standing {
    /// As in the name, where it stands inverted.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub nonce: Vec<u8>,
    #[prost(enumeration = "Role", tag = "3")]
    pub role: i32,
    /// What people call this copy.
    #[prost(string, tag = "4")]
    pub called: String,
    /// The URL, without secrets, of the copy it comes from or has given way to.
    #[prost(string, tag = "5")]
    pub of: String,
    #[prost(message, required, tag = "6")]
    pub time: Time,
    /// The last log segment that is wholly here, and the transaction it ends with.
    #[prost(string, tag = "7")]
    pub segment: String,
    #[prost(uint64, tag = "8")]
    pub tx: u64,
    /// Reading back everything once takes many turns: when this round began, and the name after which it goes on.
    #[prost(message, optional, tag = "9")]
    pub round_began: Option<Time>,
    #[prost(string, tag = "10")]
    pub cursor: String,
    /// When a round last ended with every object right.
    #[prost(message, optional, tag = "11")]
    pub verified: Option<Time>,
    /// Why deletions are held back; empty: they are not.
    #[prost(string, tag = "12")]
    pub brake: String,
    /// When somebody last let deletions go on in spite of it: what was due until then is not counted again.
    #[prost(message, optional, tag = "13")]
    pub released: Option<Time>,
    /// How many objects this round of reading back has found damaged or missing, and nothing could mend.
    #[prost(uint64, tag = "14")]
    pub damaged: u64,
    /// While a library is being restored: what it did not get, as the copy it comes from has not got it or has it damaged.
    #[prost(message, repeated, tag = "15")]
    pub lacks: Vec<Lack>,
}

/// An object that is not there, and why.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Lack {
    #[prost(string, tag = "1")]
    pub object: String,
    #[prost(string, tag = "2")]
    pub detail: String,
}

impl Standing {
    pub fn name(&self) -> Result<String, FormatError> {
        let nonce = Nonce::from_slice(&self.nonce).ok_or(FormatError::Malformed("a nonce has another length"))?;
        Ok(layout::standing(self.seq, nonce))
    }

    pub fn seal(&self, keys: &Keys, nonce: [u8; NONCE_LEN]) -> Result<Vec<u8>, FormatError> {
        Ok(envelope::seal(keys, &self.name()?, envelope::Kind::Standing, nonce, &self.encode_to_vec()))
    }

    pub fn open(keys: &Keys, name: &str, object: &[u8]) -> Result<Self, FormatError> {
        let standing = Self::decode(envelope::open(keys, name, envelope::Kind::Standing, object)?)?;
        if standing.name()? == name {
            Ok(standing)
        } else {
            Err(FormatError::Malformed("the standing belongs under another name"))
        }
    }
}
