//! What may be deleted, by FORMAT.md section 7 alone: every object in the store, and why it is there.
//!
//! A second opinion on garbage collection, which finds the same by cleverer ways. It reads every state that counts and
//! asks of each object who needs it; it knows no marks, no statistics, and deletes nothing.

use std::collections::{BTreeMap, BTreeSet};

use haven_format::{
    layout,
    lease::Lease,
    record::{self, Dead, Snapshot},
    root::Root,
};
use prost::Message;
use serde::Serialize;

use crate::{Library, Records, RescueError, State, library::place, snapshots, verify::chunks};

/// What stands behind an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Something needs it.
    Needed,
    /// On record as dead; its grace time has not passed.
    Waiting,
    /// On record as dead, and its grace time has passed: it may be deleted.
    Due,
    /// On record as deleted, and still there.
    Deleted,
    /// Of the library and needed by nothing, but not on record as dead: garbage that nobody has found yet, or just made.
    Unlisted,
    /// A configuration, claim, standing or lease that another, or time, has taken the place of. Not collected.
    Superseded,
    /// None of the library's names.
    Foreign,
}

/// An object in the store.
#[derive(Debug, Clone, Serialize)]
pub struct Object {
    pub name: String,
    pub bytes: u64,
    pub status: Status,
    /// Who needs it: `newest`, `snapshot NAME`, `lease …`, `log after …`, `just made …`.
    pub by: BTreeSet<String>,
    /// Seconds since the Unix epoch when it was found dead, and when it may go.
    pub dead_since: Option<i64>,
    pub due: Option<i64>,
}

/// Something that is needed and not there.
#[derive(Debug, Clone, Serialize)]
pub struct Needed {
    pub name: String,
    pub by: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    pub objects: u64,
    pub bytes: u64,
}

/// The whole store.
#[derive(Debug, Default, Serialize)]
pub struct Audit {
    pub objects: Vec<Object>,
    pub missing: Vec<Needed>,
    pub totals: BTreeMap<Status, Sum>,
    /// Bytes in packs of the chunks that something needs.
    pub live_bytes: u64,
    /// What could not be read and was therefore not asked. Where this is not empty, nothing may be concluded from
    /// an object's not being needed.
    pub passed_over: Vec<String>,
}

/// Who needs which object.
#[derive(Debug, Default)]
struct Mark {
    needed: BTreeMap<String, BTreeSet<String>>,
    live_bytes: u64,
}

impl Mark {
    fn need(&mut self, object: impl Into<String>, by: &str) {
        self.needed.entry(object.into()).or_default().insert(by.to_owned());
    }
}

/// Asks of each object who needs it. `grace` in seconds; `now` in seconds since the Unix epoch.
pub async fn audit(library: &mut Library, grace: i64, now: i64) -> Result<Audit, RescueError> {
    let everything = library.everything().await?;
    let names: Vec<&str> = everything.iter().map(|found| found.name.as_str()).collect();
    let newest = library.newest().await?;
    let mut mark = Mark::default();
    in_force(&names, &mut mark);
    let states = roots(library, &newest, grace, now, &mut mark).await?;
    packs(library, &newest, &states, &mut mark).await?;
    just_made(library, &newest, &mut mark).await?;

    let mut out = Audit::default();
    for found in &everything {
        let object = judge(&newest.records, &mark, found.name.as_str(), found.bytes, grace, now);
        let sum = out.totals.entry(object.status).or_default();
        (sum.objects, sum.bytes) = (sum.objects + 1, sum.bytes + found.bytes);
        out.objects.push(object);
    }
    let there: BTreeSet<&str> = names.into_iter().collect();
    let missing = mark.needed.iter().filter(|(name, _)| !there.contains(name.as_str()));
    out.missing = missing.map(|(name, by)| Needed { name: name.clone(), by: by.clone() }).collect();
    out.live_bytes = mark.live_bytes;
    out.passed_over = library.passed_over.clone();
    Ok(out)
}

/// The newest configuration, claim and standing.
fn in_force(names: &[&str], mark: &mut Mark) {
    let kinds: [fn(&str) -> Option<u64>; 3] = [
        |name| layout::parse_config(name).map(|(seq, _)| seq),
        |name| layout::parse_claim(name).map(|(epoch, _)| epoch.0),
        |name| layout::parse_standing(name).map(|(seq, _)| seq),
    ];
    for parse in kinds {
        let newest = names.iter().filter_map(|name| parse(name)).max();
        names
            .iter()
            .filter(|name| newest.is_some() && parse(name) == newest)
            .for_each(|name| mark.need(*name, "newest"));
    }
}

/// Marks roots, their shards and the log; returns the roots of the past whose files' chunks are needed, by who asks.
async fn roots(
    library: &mut Library,
    newest: &State,
    grace: i64,
    now: i64,
    mark: &mut Mark,
) -> Result<Vec<(String, Snapshot)>, RescueError> {
    let mut opened: BTreeMap<String, Root> = BTreeMap::new();
    for name in library.names(layout::ROOTS).await? {
        match library.root(&name).await {
            _ if layout::parse_root(&name).is_none() => {}
            Ok(root) => _ = opened.insert(name, root),
            Err(error) => library.tell(format!("root: {error}")),
        }
    }
    if let Some(name) = &newest.root {
        mark.need(name, "newest");
    }
    let old = opened.iter().filter(|(_, root)| root.made.seconds <= now.saturating_sub(grace));
    let log_from = old.max_by_key(|(_, root)| root.seq).map(|(name, root)| (root.lsn, name.clone()));
    let mut states = Vec::new();
    for (name, snapshot) in snapshots(&newest.records) {
        let by = format!("snapshot {name}");
        if snapshot.root.is_empty() {
            // Its state is read from the newest root not after it, and the log from there.
            let base =
                opened.iter().filter(|(_, root)| root.tx <= snapshot.seq).max_by_key(|(_, root)| (root.tx, root.seq));
            let lsn = base.map_or(0, |(_, root)| root.lsn);
            if let Some((name, root)) = base {
                mark.need(name, &by);
                if root.tx == snapshot.seq {
                    states.push((by, snapshot));
                    continue;
                }
            }
            for (_, segment) in library.history().await?.range(lsn + 1..) {
                mark.need(segment, &by);
                if library.segment(segment).await?.0.seqs().is_some_and(|(_, last)| last.0 >= snapshot.seq) {
                    break;
                }
            }
        } else {
            mark.need(&snapshot.root, &by);
        }
        states.push((by, snapshot));
    }
    for name in library.names(layout::LEASES).await? {
        let Some((until, _)) = layout::parse_lease(&name) else { continue };
        if i64::try_from(until).is_ok_and(|until| until < now) {
            continue;
        }
        let by = format!("lease {name}");
        mark.need(&name, &by);
        match Lease::open(library.keys(), &name, &library.get(&name).await?) {
            Ok(lease) if lease.root.is_empty() => {}
            Ok(lease) => {
                mark.need(&lease.root, &by);
                match opened.get(&lease.root) {
                    Some(root) => {
                        states.push((by, Snapshot { seq: root.tx, root: lease.root, ..Snapshot::default() }));
                    }
                    None => library.tell(format!("{name} asks for a state that can't be read")),
                }
            }
            Err(error) => library.tell(format!("{name}: {error}")),
        }
    }
    for (name, root) in &opened {
        let Some(by) = mark.needed.get(name).cloned() else { continue };
        for shard in root.runs.iter().flat_map(|run| &run.shards).filter_map(|shard| shard.shard_id().ok()) {
            by.iter().for_each(|by| mark.need(layout::shard(shard), by));
        }
    }
    let (lsn, by) = match log_from {
        Some((lsn, root)) => (lsn, format!("log after {root}, which is old enough")),
        None => (0, "log, all roots are young".to_owned()),
    };
    for name in library.names(layout::SEGMENTS).await? {
        if layout::parse_segment(&name).is_some_and(|(found, ..)| found.0 > lsn) {
            mark.need(name, &by);
        }
    }
    Ok(states)
}

/// Marks the packs with chunks that the newest state or one of `states` refers to, by the newest chunk index.
async fn packs(
    library: &mut Library,
    newest: &State,
    states: &[(String, Snapshot)],
    mark: &mut Mark,
) -> Result<(), RescueError> {
    let mut counted = BTreeSet::new();
    let mut of = |records: &Records, by: &str, mark: &mut Mark, library: &mut Library| {
        for (id, extent) in chunks(records) {
            let Some(place) = place(&newest.records, id).or(extent.place) else {
                library.tell(format!("nothing says where chunk {id} is"));
                continue;
            };
            match place.pack_id() {
                Ok(pack) => mark.need(layout::pack(pack), by),
                Err(error) => library.tell(format!("chunk {id}: {error}")),
            }
            if counted.insert(id) {
                mark.live_bytes += u64::from(place.len);
            }
        }
    };
    of(&newest.records, "newest", mark, library);
    for (by, snapshot) in states {
        let records = library.past(snapshot).await?.records;
        of(&records, by, mark, library);
    }
    Ok(())
}

/// Packs that the log after the newest root names: their chunks may be asked for by what is being written right now.
async fn just_made(library: &mut Library, newest: &State, mark: &mut Mark) -> Result<(), RescueError> {
    for name in &newest.segments {
        for pack in library.segment(name).await?.0.pack_ids().unwrap_or_default() {
            let dead = newest.records.contains_key(&record::dead_key(&layout::pack(pack)));
            if !dead {
                mark.need(layout::pack(pack), &format!("just made, named by {name}"));
            }
        }
    }
    Ok(())
}

fn judge(records: &Records, mark: &Mark, name: &str, bytes: u64, grace: i64, now: i64) -> Object {
    let dead = dead(records, name);
    let by = mark.needed.get(name).cloned().unwrap_or_default();
    let due = dead.map(|dead| dead.since.saturating_add(grace));
    let status = match dead {
        _ if !by.is_empty() => Status::Needed,
        Some(dead) if dead.gone != 0 => Status::Deleted,
        Some(_) if due.is_some_and(|due| due <= now) => Status::Due,
        Some(_) => Status::Waiting,
        None => unneeded(name),
    };
    Object { name: name.to_owned(), bytes, status, by, dead_since: dead.map(|dead| dead.since), due }
}

/// The record that says so: of the object, or of the log's end of use.
fn dead(records: &Records, name: &str) -> Option<Dead> {
    let read = |key| records.get(&key).and_then(|value| Dead::decode(value.clone()).ok());
    let of_log = || {
        let (lsn, ..) = layout::parse_segment(name)?;
        read(record::dead_key(layout::SEGMENTS)).filter(|dead| lsn.0 < dead.below)
    };
    read(record::dead_key(name)).or_else(of_log)
}

fn unneeded(name: &str) -> Status {
    let collected = layout::parse_pack(name).is_some()
        || layout::parse_shard(name).is_some()
        || layout::parse_root(name).is_some()
        || layout::parse_segment(name).is_some();
    let passes = layout::parse_config(name).is_some()
        || layout::parse_claim(name).is_some()
        || layout::parse_standing(name).is_some()
        || layout::parse_lease(name).is_some();
    match (collected, passes) {
        (true, _) => Status::Unlisted,
        (_, true) => Status::Superseded,
        _ => Status::Foreign,
    }
}
