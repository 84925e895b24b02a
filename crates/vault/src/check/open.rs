//! What is known to be damaged, from check to check.

use std::sync::Arc;

use haven_format::{ChunkId, layout};

use super::{CheckOptions, Checked, Fault};
use crate::{Result, Vault, VaultError};

impl Vault {
    /// What is damaged, and how, as somebody remembers it from before this library was opened here.
    pub fn remember_damage(&self, known: impl IntoIterator<Item = (String, String)>) {
        let mut damage = self.damage.lock();
        for (object, how) in known {
            damage.entry(object).or_insert(how);
        }
    }

    /// Chunks that were asked for in vain: one that can be had again is damaged no more.
    pub(super) async fn check_chunks(self: &Arc<Self>, report: &mut Checked) -> Result<()> {
        let chunks: Vec<ChunkId> = report.judged.again.iter().filter_map(|name| ChunkId::from_hex(name)).collect();
        for id in chunks {
            match self.when_settled(|| self.chunk(id, None)).await {
                Ok(_) => _ = report.judged.read.insert(id.to_string()),
                Err(VaultError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the alarms that this check may end, and keeps all others.
    pub(super) fn settle_damage(&self, options: &CheckOptions, report: &mut Checked) {
        let base = self.root.lock().as_ref().map_or(0, |root| root.lsn);
        let everything =
            options.read_data && options.sample.is_none() && !options.resume && report.to_come.objects == 0;
        let mut damage = self.damage.lock();
        damage.retain(|object, _| {
            let found = |fault: &&Fault| fault.object == *object;
            match report.faults.iter().rfind(found) {
                Some(fault) => fault.repaired_from.is_none(),
                None => {
                    let judged = &report.judged;
                    // What was come upon meanwhile may have been damaged since it was read here.
                    let known = judged.again.contains(object);
                    let over = judged.read.contains(object)
                        || self.is_unneeded(object, report, base)
                        || (everything && !is_object(object) && !judged.blind);
                    !(known && over)
                }
            }
        });
        for fault in report.faults.iter().filter(|fault| fault.repaired_from.is_none()) {
            damage.insert(fault.object.clone(), fault.what.clone());
        }
        report.open = damage.iter().map(|(object, how)| (object.clone(), how.clone())).collect();
    }

    /// Whether no record names an object any more.
    pub(super) fn is_unneeded(&self, object: &str, report: &Checked, base: u64) -> bool {
        if let Some((lsn, ..)) = layout::parse_segment(object) {
            // One that is still there is still kept for those who stand on an older root.
            return lsn.0 <= base && !report.judged.there.contains(object);
        }
        if let Some(pack) = layout::parse_pack(object) {
            return !report.judged.blind && !report.judged.named.contains(object) && !self.packs.is_staged(pack);
        }
        if layout::parse_shard(object).is_some() || layout::parse_root(object).is_some() {
            return !report.judged.blind && !report.judged.named.contains(object);
        }
        // These come and go.
        let passing = [layout::CLAIMS, layout::LEASES, layout::STANDINGS];
        passing.iter().any(|kind| object.starts_with(kind)) && !report.judged.there.contains(object)
    }
}

/// Whether that is what an object in the bucket is called; other damage is told of by words.
fn is_object(name: &str) -> bool {
    let kinds = [
        layout::CONFIGS,
        layout::CLAIMS,
        layout::SEGMENTS,
        layout::SHARDS,
        layout::PACKS,
        layout::ROOTS,
        layout::LEASES,
        layout::STANDINGS,
    ];
    kinds.iter().any(|kind| name.starts_with(kind))
}
