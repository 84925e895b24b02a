//! Whether the bytes of an object are what its name says: the seal of every part opens, and every chunk has its hash.

use std::collections::BTreeSet;

use haven_format::{
    FormatError, Keys, PackId,
    claim::Claim,
    config::{ConfigError, LockedConfig},
    container::Opener,
    layout,
    pack::{self, PackFooter},
    record::{self, ChunkPlace, Key},
    root::Root,
    segment::Segment,
    shard::{self, Value},
};
use prost::Message;

use crate::names::Kind;

/// Bodies longer than this are verified aside: see [`crate::world::aside`].
pub(crate) const HEAVY: usize = 256 << 10;

/// Why an object is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("{0}")]
    Config(ConfigError),
    #[error("its content is not what the root says of it")]
    Changed,
}

impl Wrong {
    pub(crate) fn newer(&self) -> Option<FormatError> {
        match self {
            Self::Format(error @ FormatError::Newer { .. })
            | Self::Config(ConfigError::Format(error @ FormatError::Newer { .. })) => Some(error.clone()),
            _ => None,
        }
    }
}

impl From<ConfigError> for Wrong {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// What verifying an object brought to light.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// Of a shard: the packs that its chunk records name.
    pub(crate) packs: BTreeSet<PackId>,
}

/// Checks the object called `name`. `hash` is the BLAKE3 of the whole, where that is known from elsewhere.
pub(crate) fn object(keys: &Keys, name: &str, body: &[u8], hash: Option<&[u8]>) -> Result<Content, Wrong> {
    if hash.is_some_and(|hash| blake3::hash(body).as_bytes()[..] != *hash) {
        return Err(Wrong::Changed);
    }
    let mut content = Content::default();
    match Kind::of(name) {
        Some(Kind::Config) => config(keys, name, body)?,
        Some(Kind::Claim) => _ = Claim::open(keys, name, body)?,
        Some(Kind::Segment) => _ = Segment::open(keys, name, body)?,
        Some(Kind::Root) => _ = Root::open(keys, name, body)?,
        Some(Kind::Shard) => content.packs = packs_in(&shard_records(keys, name, body)?),
        Some(Kind::Pack) => whole_pack(keys, name, body)?,
        Some(Kind::Lease | Kind::Standing) | None => {
            return Err(FormatError::Malformed("it is none of a library's objects").into());
        }
    }
    Ok(content)
}

/// The configuration at `name`, if a holder of the library's key wrote it.
pub(crate) fn config(keys: &Keys, name: &str, body: &[u8]) -> Result<(), Wrong> {
    let config = LockedConfig::parse(name, body)?;
    if config.is_by(keys) { Ok(()) } else { Err(ConfigError::Forged.into()) }
}

fn part(body: &[u8], part: haven_format::container::Part) -> Result<&[u8], FormatError> {
    let range = part.range();
    body.get(range.start as usize..range.end as usize).ok_or(FormatError::Seal)
}

/// All records of a shard, in key order.
pub(crate) fn shard_records(keys: &Keys, name: &str, body: &[u8]) -> Result<Vec<(Key, Value)>, FormatError> {
    let id = layout::parse_shard(name).ok_or(FormatError::Malformed("this is no shard's name"))?;
    let opener = shard::opener(keys, id);
    let mut out = Vec::new();
    for block in shard::index(opener.whole_footer(body)?)?.blocks {
        out.extend(shard::records(opener.part(block.part(), part(body, block.part())?)?)?);
    }
    Ok(out)
}

fn packs_in(records: &[(Key, Value)]) -> BTreeSet<PackId> {
    let chunks = records.iter().filter(|(key, _)| record::key_chunk(key).is_some());
    let places = chunks.filter_map(|(_, value)| ChunkPlace::decode(value.clone()?).ok());
    places.filter_map(|place| place.pack_id().ok()).collect()
}

fn whole_pack(keys: &Keys, name: &str, body: &[u8]) -> Result<(), FormatError> {
    let id = layout::parse_pack(name).ok_or(FormatError::Malformed("this is no pack's name"))?;
    let opener: Opener = pack::opener(keys, id);
    let footer = PackFooter::decode(opener.whole_footer(body)?)?;
    let mut memory = Vec::new();
    for chunk in &footer.chunks {
        let plain = opener.part_in(chunk.part(), part(body, chunk.part())?, &mut memory)?;
        pack::verify(keys, chunk.chunk()?, &plain)?;
        if plain.len() != chunk.plain_len as usize {
            return Err(FormatError::Malformed("a chunk has another length than the pack says"));
        }
    }
    Ok(())
}
