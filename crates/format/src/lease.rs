//! A lease: a reader's word that it needs one state of the library until some moment. One sealed
//! [`envelope`](crate::envelope). Garbage collection deletes nothing that the state needs; the time is in the name, so
//! that one listing shows which leases have run out.

use prost::Message;

use crate::{FormatError, Keys, Nonce, crypto::NONCE_LEN, envelope, layout, record::Time};

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Lease {
    /// Seconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub until: u64,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub nonce: Vec<u8>,
    #[prost(string, tag = "3")]
    pub host: String,
    /// For people: what the reader does.
    #[prost(string, tag = "4")]
    pub purpose: String,
    #[prost(message, required, tag = "5")]
    pub time: Time,
    /// The root whose state is read, and all that comes after it; empty: nothing but the newest.
    #[prost(string, tag = "6")]
    pub root: String,
}

impl Lease {
    pub fn name(&self) -> Result<String, FormatError> {
        let nonce = Nonce::from_slice(&self.nonce).ok_or(FormatError::Malformed("a nonce has another length"))?;
        Ok(layout::lease(self.until, nonce))
    }

    pub fn seal(&self, keys: &Keys, nonce: [u8; NONCE_LEN]) -> Result<Vec<u8>, FormatError> {
        Ok(envelope::seal(keys, &self.name()?, envelope::Kind::Lease, nonce, &self.encode_to_vec()))
    }

    pub fn open(keys: &Keys, name: &str, object: &[u8]) -> Result<Self, FormatError> {
        let lease = Self::decode(envelope::open(keys, name, envelope::Kind::Lease, object)?)?;
        if lease.name()? == name {
            Ok(lease)
        } else {
            Err(FormatError::Malformed("the lease belongs under another name"))
        }
    }
}
