//! Checking the library, told in files.

use std::collections::{BTreeSet, HashMap, HashSet};

use haven_format::{
    ChunkId, PackId, layout,
    record::{self, Extent},
};
use haven_mount::control::{Refusal, Request};
use haven_vault::{
    View,
    check::{CheckOptions, Checked, Fault},
    collect::Heap,
};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Library,
    names::{Pages, unreadable},
    refusal,
};
use crate::library;

/// A file that damage has reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hit {
    pub path: String,
    /// The snapshot it is in; `None`: the library as it is now.
    pub snapshot: Option<String>,
    /// Whether it can be read again.
    pub mended: bool,
    /// Objects in the bucket that were damaged.
    pub objects: Vec<String>,
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Told {
    objects: u64,
    read_bytes: u64,
    /// Of them those that are still to come from where the library is being restored from: not damaged, and not read.
    to_come: Heap,
    faults: Vec<Fault>,
    files: Vec<Hit>,
    /// There may be more damaged files: records that would tell are damaged themselves.
    files_unknown: bool,
    lost_chunks: u64,
    /// Objects that are damaged after it, and how: those of the faults that were not mended, and those known before that it
    /// could not judge.
    open: Vec<(String, String)>,
    /// Everything that is damaged was mended, or nothing is damaged.
    whole: bool,
    /// Why a copy could not be asked that may have what is not mended.
    unasked: Option<String>,
}

impl Library {
    pub(super) async fn check(&self, request: &Request) -> Result<Value, Refusal> {
        let options = CheckOptions {
            read_data: request.flag("read_data"),
            sample: request.with.get("sample").and_then(Value::as_f64),
            resume: request.flag("resume"),
            repair: request.flag("repair"),
            copies: self.copies(request).await?,
            behind: self.behind.clone(),
            limit: request.with.get("limit").and_then(Value::as_u64),
        };
        let checked = self.vault.check(&options).await.map_err(|error| refusal(&error))?;
        let (files, files_unknown) = match self.files_of(&checked).await {
            // Not even where a state's records are can be read; what is damaged is told object by object.
            Err(refusal) if refusal.code == "damaged" => (Vec::new(), true),
            other => other?,
        };
        let whole = checked.open.is_empty();
        let Checked { objects, read_bytes, to_come, faults, lost_chunks, open, unasked, .. } = checked;
        let unasked = unasked.map(|error| error.to_string());
        let told =
            Told { objects, read_bytes, to_come, faults, files, files_unknown, lost_chunks, open, whole, unasked };
        super::value(told)
    }

    async fn copies(&self, request: &Request) -> Result<Vec<(String, haven_store::DynStore)>, Refusal> {
        let named = request.with.get("copies").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut copies = Vec::new();
        for named in named.iter().filter_map(Value::as_str) {
            let copy = library::copy_at(named, self.vault.keys().library(), &self.config).await;
            copies.push((named.to_owned(), copy.map_err(|why| Refusal::new("copy", why))?));
        }
        Ok(copies)
    }

    /// The files, now and in every snapshot, that have any of the damaged chunks; and whether there may be more.
    async fn files_of(&self, checked: &Checked) -> Result<(Vec<Hit>, bool), Refusal> {
        let bad: HashMap<ChunkId, (PackId, bool)> = checked
            .chunks
            .iter()
            .map(|(id, pack)| (*id, (*pack, false)))
            .chain(checked.mended.iter().map(|(id, pack)| (*id, (*pack, true))))
            .collect();
        // Files whose own records are damaged have no chunks that anybody could name.
        let records = |fault: &Fault| fault.repaired_from.is_none() && !fault.object.starts_with(layout::PACKS);
        let mut unknown = checked.faults.iter().any(records);
        if bad.is_empty() {
            return Ok((Vec::new(), unknown));
        }
        let mut hits = Vec::new();
        let mut look = async |view: &View, name| {
            let (found, passed_over) = self.hits(view, name, &bad).await?;
            hits.extend(found);
            unknown |= passed_over;
            Ok::<_, Refusal>(())
        };
        look(&self.vault.live(), None).await?;
        let snapshots = match self.settled(|| self.vault.snapshots()).await {
            Err(refusal) if refusal.code == "damaged" => Vec::new(),
            other => other?,
        };
        for (name, snapshot) in snapshots {
            let name = String::from_utf8_lossy(&name).into_owned();
            match self.settled(|| self.vault.view_of(&snapshot)).await {
                Ok(view) => look(&view, Some(name)).await?,
                // Its root is damaged, and told of.
                Err(refusal) if refusal.code == "damaged" => {}
                Err(refusal) => return Err(refusal),
            }
        }
        hits.sort();
        Ok((hits, unknown))
    }

    async fn hits(
        &self,
        view: &View,
        snapshot: Option<String>,
        bad: &HashMap<ChunkId, (PackId, bool)>,
    ) -> Result<(Vec<Hit>, bool), Refusal> {
        let mut inodes: HashMap<u64, (BTreeSet<PackId>, bool)> = HashMap::new();
        let mut pages = Pages::past_damage(self, view);
        loop {
            pages.fill().await?;
            let Some((key, value)) = pages.page.next() else { break };
            if record::extent_offset(&key).is_none() {
                continue;
            }
            let chunk = Extent::decode(value).map_err(unreadable)?.chunk_id();
            if let Some((pack, mended)) = chunk.and_then(|id| bad.get(&id))
                && let Some(ino) = record::key_inode(&key)
            {
                let (packs, all) = inodes.entry(ino.0).or_insert((BTreeSet::new(), true));
                packs.insert(*pack);
                *all &= mended;
            }
        }
        let names = self.names(view, &inodes.keys().copied().collect::<HashSet<u64>>()).await?;
        let mut out = Vec::new();
        for (ino, (packs, mended)) in inodes {
            let objects: Vec<String> = packs.into_iter().map(layout::pack).collect();
            let mut paths = names.paths(ino);
            if paths.is_empty() {
                // Without a name, and open when it was seen.
                paths.insert(format!("(inode {ino}, without a name)"));
            }
            let hit = |path| Hit { path, snapshot: snapshot.clone(), mended, objects: objects.clone() };
            out.extend(paths.into_iter().map(hit));
        }
        Ok((out, pages.passed_over || names.passed_over))
    }
}
