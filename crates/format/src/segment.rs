//! A log segment: what changed in the library, in order. One sealed [`envelope`](crate::envelope) with a [`Segment`].

use prost::Message;

use crate::{Epoch, FormatError, Keys, Lsn, Nonce, PackId, TxSeq, crypto::NONCE_LEN, envelope, layout, record::Tx};

#[derive(Clone, PartialEq, Message)]
pub struct Segment {
    #[prost(uint64, tag = "1")]
    pub lsn: u64,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub nonce: Vec<u8>,
    /// The name of the segment it follows; empty for the first.
    #[prost(string, tag = "4")]
    pub previous: String,
    /// BLAKE3 of the whole previous object, 32 bytes; empty for the first.
    #[prost(bytes = "vec", tag = "5")]
    pub previous_hash: Vec<u8>,
    /// Packs that were in the bucket before this segment was, and that no earlier segment names. 16 bytes each.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub packs: Vec<Vec<u8>>,
    /// The changes, with consecutive sequence numbers.
    #[prost(message, repeated, tag = "7")]
    pub txs: Vec<Tx>,
    /// Nanoseconds since the Unix epoch when it was sealed, by the writer's clock.
    #[prost(sint64, tag = "8")]
    pub sealed_at: i64,
}

impl Segment {
    pub fn name(&self) -> Result<String, FormatError> {
        let nonce = Nonce::from_slice(&self.nonce).ok_or(FormatError::Malformed("a nonce has another length"))?;
        Ok(layout::segment(Lsn(self.lsn), Epoch(self.epoch), nonce))
    }

    pub fn pack_ids(&self) -> Result<Vec<PackId>, FormatError> {
        let id =
            |bytes: &Vec<u8>| PackId::from_slice(bytes).ok_or(FormatError::Malformed("a pack id has another length"));
        self.packs.iter().map(id).collect()
    }

    /// First and last transaction in it, if any.
    pub fn seqs(&self) -> Option<(TxSeq, TxSeq)> {
        Some((TxSeq(self.txs.first()?.seq), TxSeq(self.txs.last()?.seq)))
    }

    /// The whole object.
    pub fn seal(&self, keys: &Keys, nonce: [u8; NONCE_LEN]) -> Result<Vec<u8>, FormatError> {
        Ok(envelope::seal(keys, &self.name()?, envelope::Kind::Segment, nonce, &self.encode_to_vec()))
    }

    /// Reads the object called `name`, checking that it is what its name says and that its changes are in order.
    pub fn open(keys: &Keys, name: &str, object: &[u8]) -> Result<Self, FormatError> {
        let segment = Self::decode(envelope::open(keys, name, envelope::Kind::Segment, object)?)?;
        if segment.name()? != name {
            return Err(FormatError::Malformed("the segment belongs under another name"));
        }
        if segment.txs.windows(2).any(|pair| pair[1].seq != pair[0].seq + 1) {
            return Err(FormatError::Malformed("changes are missing inside the segment"));
        }
        Ok(segment)
    }
}
