//! A claim: one machine's word that it writes to the library from now on. One sealed [`envelope`](crate::envelope).

use prost::Message;

use crate::{Epoch, FormatError, Keys, Nonce, crypto::NONCE_LEN, envelope, layout, record::Time};

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Claim {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub nonce: Vec<u8>,
    #[prost(string, tag = "3")]
    pub host: String,
    #[prost(message, required, tag = "4")]
    pub time: Time,
    /// The last log segment the claimer had seen; 0 and empty when there was none.
    #[prost(uint64, tag = "5")]
    pub lsn: u64,
    #[prost(string, tag = "6")]
    pub segment: String,
    /// The version of Haven, for people.
    #[prost(string, tag = "7")]
    pub version: String,
}

impl Claim {
    pub fn name(&self) -> Result<String, FormatError> {
        let nonce = Nonce::from_slice(&self.nonce).ok_or(FormatError::Malformed("a nonce has another length"))?;
        Ok(layout::claim(Epoch(self.epoch), nonce))
    }

    pub fn seal(&self, keys: &Keys, nonce: [u8; NONCE_LEN]) -> Result<Vec<u8>, FormatError> {
        Ok(envelope::seal(keys, &self.name()?, envelope::Kind::Claim, nonce, &self.encode_to_vec()))
    }

    pub fn open(keys: &Keys, name: &str, object: &[u8]) -> Result<Self, FormatError> {
        let claim = Self::decode(envelope::open(keys, name, envelope::Kind::Claim, object)?)?;
        if claim.name()? == name {
            Ok(claim)
        } else {
            Err(FormatError::Malformed("the claim belongs under another name"))
        }
    }
}
