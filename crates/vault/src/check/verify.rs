//! Whether one object is what its name says: by its bytes and the library's keys alone.

use bytes::Bytes;
use haven_format::{
    ChunkId, Keys, PackId,
    claim::Claim,
    config::LockedConfig,
    layout,
    lease::Lease,
    pack::{self, PackFooter},
    root::Root,
    segment::Segment,
    shard,
    standing::Standing,
};
use prost::Message;

/// Reads a whole pack and says what is wrong with it, if anything.
pub fn verify_pack(keys: &Keys, id: PackId, body: &[u8]) -> Result<Vec<ChunkId>, String> {
    let opener = pack::opener(keys, id);
    let footer = opener.whole_footer(body).map_err(|error| error.to_string())?;
    let footer = PackFooter::decode(footer).map_err(|error| error.to_string())?;
    let (mut bad, mut memory) = (Vec::new(), Vec::new());
    for chunk in &footer.chunks {
        let id = chunk.chunk().map_err(|error| error.to_string())?;
        let range = chunk.part().range();
        let sealed = body.get(range.start as usize..range.end as usize);
        let plain = sealed.and_then(|sealed| opener.part_in(chunk.part(), sealed, &mut memory).ok());
        if plain.is_none_or(|plain| pack::verify(keys, id, &plain).is_err()) {
            bad.push(id);
        }
    }
    Ok(bad)
}

/// Whether an object is what its name says, whatever kind it is; what nobody here knows is sound.
pub fn verify_object(keys: &Keys, name: &str, body: &Bytes) -> Result<(), String> {
    let text = |error: haven_format::FormatError| error.to_string();
    if let Some(id) = layout::parse_pack(name) {
        return match verify_pack(keys, id, body)?.len() {
            0 => Ok(()),
            bad => Err(format!("{bad} of its chunks are damaged")),
        };
    }
    if let Some(id) = layout::parse_shard(name) {
        let opener = shard::opener(keys, id);
        let index = opener.whole_footer(body).and_then(shard::index).map_err(text)?;
        for block in &index.blocks {
            let range = block.part().range();
            let sealed = body.get(range.start as usize..range.end as usize).ok_or("it is cut off")?;
            opener.part(block.part(), sealed).and_then(shard::records).map_err(text)?;
        }
        return Ok(());
    }
    match name.split_inclusive('/').next().unwrap_or_default() {
        layout::SEGMENTS => Segment::open(keys, name, body).map(drop).map_err(text),
        layout::ROOTS => Root::open(keys, name, body).map(drop).map_err(text),
        layout::CLAIMS => Claim::open(keys, name, body).map(drop).map_err(text),
        layout::LEASES => Lease::open(keys, name, body).map(drop).map_err(text),
        layout::STANDINGS => Standing::open(keys, name, body).map(drop).map_err(text),
        layout::CONFIGS => LockedConfig::parse(name, body).map(drop).map_err(|error| error.to_string()),
        _ => Ok(()),
    }
}
