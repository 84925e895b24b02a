//! Every chunk that a file needs, read and compared with its hash; and which files those are whose chunks are not.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use haven_format::{
    ChunkId, Ino,
    record::{self, ChunkPlace, Extent, Snapshot},
};
use prost::Message;

use crate::{Library, Records, RescueError, State, library::place, restore};

/// What was read and what was wrong with it.
#[derive(Debug, Default, serde::Serialize)]
pub struct Verified {
    /// Different chunks, and their bytes plain.
    pub chunks: u64,
    pub bytes: u64,
    /// Chunks that are not what their hash says, or not there.
    pub damaged_chunks: BTreeMap<String, String>,
    /// Files that need one of those, with the state they are in: `path`, or `.snapshots/NAME/path`; and other names
    /// that can't be restored, and why.
    pub damaged: Vec<(PathBuf, String)>,
}

/// Reads every chunk that the newest state or one of `snapshots` needs, each once, where the newest chunk index says.
pub async fn verify(
    library: &mut Library,
    newest: &State,
    snapshots: &[(String, Snapshot)],
) -> Result<Verified, RescueError> {
    let mut out = Verified::default();
    let mut needed = BTreeMap::new();
    gather(&newest.records, &newest.records, &mut needed);
    for (_, snapshot) in snapshots {
        gather(&library.past(snapshot).await?.records, &newest.records, &mut needed);
    }
    let mut by_place: Vec<(ChunkPlace, ChunkId)> = Vec::new();
    for (id, place) in needed {
        match place {
            Some(place) => by_place.push((place, id)),
            None => _ = out.damaged_chunks.insert(id.to_string(), "nothing says where it is".into()),
        }
    }
    by_place.sort_by(|(a, _), (b, _)| (&a.pack, a.offset).cmp(&(&b.pack, b.offset)));
    for (place, id) in by_place {
        match library.chunk_at(&place, id).await {
            Ok(plain) => (out.chunks, out.bytes) = (out.chunks + 1, out.bytes + plain.len() as u64),
            Err(error) => _ = out.damaged_chunks.insert(id.to_string(), error.to_string()),
        }
    }
    // Only now are names looked for, and only where something is wrong.
    name_files(&newest.records, Path::new(""), &mut out);
    for (name, snapshot) in snapshots {
        let state = library.past(snapshot).await?;
        name_files(&state.records, &Path::new(".snapshots").join(name), &mut out);
    }
    Ok(out)
}

fn gather(records: &Records, index: &Records, needed: &mut BTreeMap<ChunkId, Option<ChunkPlace>>) {
    for (id, extent) in chunks(records) {
        needed.entry(id).or_insert_with(|| place(index, id).or(extent.place));
    }
}

/// Every extent with a chunk.
pub(crate) fn chunks(records: &Records) -> impl Iterator<Item = (ChunkId, Extent)> {
    extents(records).filter_map(|(_, value)| {
        let extent = Extent::decode(value.clone()).ok()?;
        Some((extent.chunk_id()?, extent))
    })
}

/// The values of all extents, each with the inode it belongs to.
fn extents(records: &Records) -> impl Iterator<Item = (Ino, &Bytes)> {
    records.range(record::inodes_from(Ino(0))).filter_map(|(key, value)| {
        record::extent_offset(key)?;
        Some((record::key_inode(key)?, value))
    })
}

fn name_files(records: &Records, top: &Path, out: &mut Verified) {
    let mut why = HashMap::new();
    for (ino, value) in extents(records) {
        let extent = Extent::decode(value.clone());
        let damage = match extent.as_ref().map(Extent::chunk_id) {
            Ok(Some(id)) => out.damaged_chunks.get(&id.to_string()).cloned(),
            Ok(None) => None,
            Err(_) => Some("a part of it can't be read".to_owned()),
        };
        if let Some(damage) = damage {
            why.entry(ino).or_insert(damage);
        }
    }
    for item in restore::walk(records, top, &mut out.damaged) {
        if let Some(why) = why.get(&item.ino) {
            out.damaged.push((item.path, why.clone()));
        }
    }
}
