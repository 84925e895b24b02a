//! The newest state that a store holds: a root, the log after it, and the records that say what it needs.
//!
//! FORMAT.md, section 5, in the plainest way; what does not open is told and passed over. Roots, segments and shards
//! once read are remembered, so that looking again costs what is new.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use haven_format::{
    Epoch, FormatError, Keys, Lsn, PackId,
    claim::Claim,
    layout,
    record::{Key, Op},
    root::{Root, ShardRef},
    segment::Segment,
    shard::Value,
};
use haven_store::{DynStore, ObjectMeta, StoreError};

use crate::{
    Damage, Position, ReplicaError, Side,
    error::{At, Result},
    look::{Look, Rank, rank},
    names::{list_all, object},
    records::{self, Records},
    verify,
};

/// Requests in flight at once.
const GETS: usize = 16;

/// A root with its own bytes, and the records at its position.
#[derive(Debug)]
pub(crate) struct RootAt {
    pub(crate) name: String,
    pub(crate) root: Root,
    pub(crate) body: Bytes,
    pub(crate) records: Records,
}

impl RootAt {
    pub(crate) fn shards(&self) -> impl Iterator<Item = &ShardRef> {
        self.root.runs.iter().flat_map(|run| &run.shards)
    }

    pub(crate) fn position(&self) -> Position {
        Position { segment: self.root.segment.clone(), tx: self.root.tx, sealed_at: 0 }
    }
}

/// A segment with its own bytes, and what of it matters here.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) body: Bytes,
    pub(crate) previous: String,
    previous_hash: Vec<u8>,
    hash: Vec<u8>,
    pub(crate) packs: Vec<PackId>,
    /// Of the records in [`records`] alone.
    pub(crate) ops: Vec<Op>,
    pub(crate) last_tx: Option<u64>,
    pub(crate) sealed_at: i64,
}

impl Link {
    fn open(keys: &Keys, name: &str, body: Bytes) -> Result<Self, FormatError> {
        let segment = Segment::open(keys, name, &body)?;
        let packs = segment.pack_ids()?;
        let last_tx = segment.seqs().map(|(_, last)| last.0);
        let ops = segment.txs.into_iter().flat_map(|tx| tx.ops).filter(|op| records::wanted(&op.key));
        Ok(Self {
            name: name.to_owned(),
            hash: blake3::hash(&body).as_bytes().to_vec(),
            body,
            previous: segment.previous,
            previous_hash: segment.previous_hash,
            packs,
            // Copied out, so that small records do not hold on to whole segments.
            ops: ops.map(|op| Op { key: own(&op.key), value: op.value.as_ref().map(own) }).collect(),
            last_tx,
            sealed_at: segment.sealed_at,
        })
    }
}

fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A state.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) root: Option<Arc<RootAt>>,
    /// The log after the root, in order.
    pub(crate) links: Vec<Arc<Link>>,
    /// What was passed over.
    pub(crate) damaged: Vec<Damage>,
    /// Ends of the log that rank higher than the state's, and that nothing leads to.
    pub(crate) loose: Vec<String>,
}

impl State {
    pub(crate) fn position(&self) -> Position {
        let base = self.root.as_ref().map(|root| root.position()).unwrap_or_default();
        self.links.iter().fold(base, |before, link| Position {
            segment: link.name.clone(),
            tx: link.last_tx.unwrap_or(before.tx),
            sealed_at: link.sealed_at,
        })
    }

    /// The records after the last link.
    pub(crate) fn records(&self) -> Records {
        let mut records = self.root.as_ref().map(|root| root.records.clone()).unwrap_or_default();
        self.links.iter().for_each(|link| records.apply(&link.ops));
        records
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none() && self.links.is_empty()
    }

    /// The loose ends, as the damage they are.
    pub(crate) fn loose_ends(&self, side: Side) -> impl Iterator<Item = Damage> {
        let told: HashSet<&str> = self.damaged.iter().map(|damage| damage.object.as_str()).collect();
        let loose = self.loose.iter().filter(move |name| !told.contains(name.as_str()));
        loose.map(move |name| Damage::new(side, name, "it ends the log, and what leads to it is missing"))
    }
}

type ShardRecords = Arc<Vec<(Key, Value)>>;

/// Reads states of one store.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) store: DynStore,
    pub(crate) side: Side,
    keys: Keys,
    root: Option<Arc<RootAt>>,
    links: HashMap<String, Arc<Link>>,
    shards: HashMap<Vec<u8>, ShardRecords>,
}

/// Why an object could not be taken.
enum Missed {
    Gone,
    Damaged(FormatError),
}

impl Reader {
    pub(crate) fn new(store: DynStore, side: Side, keys: &Keys) -> Self {
        Self { store, side, keys: keys.clone(), root: None, links: HashMap::new(), shards: HashMap::new() }
    }

    /// From where on the log has to be listed for [`Reader::newest`] to be cheap: the newest root read so far.
    pub(crate) fn base(&self) -> Option<Lsn> {
        self.root.as_ref().map(|root| Lsn(root.root.lsn))
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        match self.store.get(&object(name)).await {
            Ok(body) => Ok(Some(body)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error).at(self.side, format!("{name} can't be read")),
        }
    }

    fn newer(&self, name: &str, error: &FormatError) -> Option<ReplicaError> {
        let newer = matches!(error, FormatError::Newer { .. });
        newer.then(|| ReplicaError::Newer { side: self.side, object: name.to_owned(), source: error.clone() })
    }

    /// The newest state of which everything that `look` lists can be read. `look` lists the log from `listed` on.
    pub(crate) async fn newest(&mut self, look: &Look, listed: Lsn) -> Result<State> {
        let mut state = State::default();
        for name in look.roots.iter().map(|root| root.name.as_str()) {
            match self.root(name).await? {
                Ok(root) => {
                    state.root = Some(root);
                    break;
                }
                Err(damage) => state.damaged.push(damage),
            }
        }
        let base = state.root.as_ref().map_or(Lsn(0), |root| Lsn(root.root.lsn));
        let listing;
        let segments = if listed <= base.next() {
            &look.segments
        } else {
            listing = self.list_log(base.next()).await?;
            &listing
        };
        self.links_after(&mut state, base, segments).await?;
        self.forget(&state);
        Ok(state)
    }

    async fn list_log(&self, from: Lsn) -> Result<Vec<ObjectMeta>> {
        let found = list_all(&*self.store, layout::SEGMENTS, Some(&layout::segments_from(from))).await;
        found.at(self.side, "the list of log segments can't be had")
    }

    /// The root called `name` with its records, or what is wrong with it.
    pub(crate) async fn root(&mut self, name: &str) -> Result<Result<Arc<RootAt>, Damage>> {
        if let Some(root) = self.root.as_ref().filter(|root| root.name == name) {
            return Ok(Ok(root.clone()));
        }
        let (root, body) = match self.bare_root(name).await? {
            Ok(found) => found,
            Err(damage) => return Ok(Err(damage)),
        };
        let records = match self.records_of(&root).await? {
            Ok(records) => records,
            Err(damage) => return Ok(Err(damage)),
        };
        let root = Arc::new(RootAt { name: name.to_owned(), root, body, records });
        if self.root.as_ref().is_none_or(|known| known.root.seq < root.root.seq) {
            self.root = Some(root.clone());
        }
        Ok(Ok(root))
    }

    /// A root without its records.
    pub(crate) async fn bare_root(&self, name: &str) -> Result<Result<(Root, Bytes), Damage>> {
        let Some(body) = self.get(name).await? else {
            return Ok(Err(Damage::new(self.side, name, "it is not there")));
        };
        match Root::open(&self.keys, name, &body) {
            Ok(root) => Ok(Ok((root, body))),
            Err(error) => match self.newer(name, &error) {
                Some(newer) => Err(newer),
                None => Ok(Err(Damage::new(self.side, name, error))),
            },
        }
    }

    async fn records_of(&mut self, root: &Root) -> Result<Result<Records, Damage>> {
        let mut records = Records::default();
        // Oldest first, so that newer runs go over them.
        for shard in root.runs.iter().rev().flat_map(|run| &run.shards).filter(|shard| records::may_hold(shard)) {
            match self.shard(shard).await? {
                Ok(found) => records.cover(found.iter().cloned()),
                Err(damage) => return Ok(Err(damage)),
            }
        }
        Ok(Ok(records))
    }

    async fn shard(&mut self, wanted: &ShardRef) -> Result<Result<ShardRecords, Damage>> {
        if let Some(known) = self.shards.get(&wanted.id) {
            return Ok(Ok(known.clone()));
        }
        let Ok(id) = wanted.shard_id() else {
            return Ok(Err(Damage::new(self.side, "a metadata shard", "the root names it wrongly")));
        };
        let name = layout::shard(id);
        let Some(body) = self.get(&name).await? else {
            return Ok(Err(Damage::new(self.side, &name, "it is not there")));
        };
        if blake3::hash(&body).as_bytes()[..] != wanted.hash {
            return Ok(Err(Damage::new(self.side, &name, verify::Wrong::Changed)));
        }
        match verify::shard_records(&self.keys, &name, &body) {
            Ok(found) => {
                let kept = found.iter().filter(|(key, _)| records::wanted(key));
                let kept: Vec<_> = kept.map(|(key, value)| (own(key), value.as_ref().map(own))).collect();
                let kept = Arc::new(kept);
                self.shards.insert(wanted.id.clone(), kept.clone());
                Ok(Ok(kept))
            }
            Err(error) => match self.newer(&name, &error) {
                Some(newer) => Err(newer),
                None => Ok(Err(Damage::new(self.side, &name, error))),
            },
        }
    }

    async fn links_after(&mut self, state: &mut State, base: Lsn, listed: &[ObjectMeta]) -> Result<()> {
        let after = |name: &&str| layout::parse_segment(name).is_some_and(|(lsn, ..)| lsn > base);
        let names: Vec<&str> = listed.iter().map(|segment| segment.name.as_str()).filter(after).collect();
        let unknown: Vec<&str> = names.iter().copied().filter(|name| !self.links.contains_key(*name)).collect();
        let read: Vec<(&str, Result<Link, Missed>)> =
            stream::iter(unknown).map(|name| self.read_link(name)).buffered(GETS).try_collect().await?;
        for (name, link) in read {
            match link {
                Ok(link) => _ = self.links.insert(name.to_owned(), Arc::new(link)),
                // Removed since it was listed: the log's old end.
                Err(Missed::Gone) => {}
                Err(Missed::Damaged(error)) => state.damaged.push(Damage::new(self.side, name, error)),
            }
        }
        let found: Vec<Arc<Link>> = names.iter().filter_map(|name| self.links.get(*name).cloned()).collect();
        let start = state.root.as_ref().map(|root| (root.root.segment.clone(), root.root.segment_hash.clone()));
        let (segment, hash) = start.unwrap_or_default();
        let reached = reach(&segment, &hash, &found);
        state.damaged.extend(reached.changed.iter().map(|name| {
            let detail = "the segment it follows has another content than when it was written";
            Damage::new(self.side, name, detail)
        }));
        let limits = self.limits(&names, &found, &reached).await?;
        let links = reached.history(&segment, &limits);
        let end = links.last().map_or_else(|| rank(&segment), |link| rank(&link.name));
        state.loose = names.iter().filter(|name| rank(name) > end).map(|name| (*name).to_owned()).collect();
        state.links = links;
        Ok(())
    }

    /// How far what earlier turns wrote can be history, by the turns that came after them. Only those limit it of which
    /// something can't be reached: who takes over builds on the last segment he sees, and what is beside that was given up,
    /// be it there that his own begins or further on.
    async fn limits(&self, names: &[&str], found: &[Arc<Link>], reached: &Reached<'_>) -> Result<BTreeMap<Epoch, Lsn>> {
        let named = found.iter().map(|link| link.previous.as_str()).chain(names.iter().copied());
        let lost = named.filter(|name| !reached.names.contains(name)).filter_map(layout::parse_segment);
        let best = reached.links.iter().map(|link| rank(&link.name).0).max().unwrap_or_default();
        let mut limits: BTreeMap<Epoch, Lsn> = BTreeMap::new();
        for (lsn, epoch, _) in lost.filter(|(_, epoch, _)| *epoch > best) {
            let before = Lsn(lsn.0.saturating_sub(1));
            let limit = limits.entry(epoch).or_insert(before);
            *limit = before.min(*limit);
        }
        if limits.is_empty() {
            return Ok(limits);
        }
        // The first that it wrote may be among what is lost without a trace.
        let claims = list_all(&*self.store, layout::CLAIMS, None).await;
        let mut begun: BTreeMap<Epoch, Lsn> = BTreeMap::new();
        for claim in claims.at(self.side, "the list of claims can't be had")? {
            let name = claim.name.as_str();
            let Some((epoch, _)) = layout::parse_claim(name).filter(|(epoch, _)| limits.contains_key(epoch)) else {
                continue;
            };
            if let Some(claim) = self.claim(name).await? {
                let on = begun.entry(epoch).or_default();
                *on = Lsn(claim.lsn).max(*on);
            }
        }
        for (epoch, on) in begun {
            limits.entry(epoch).and_modify(|limit| *limit = on.min(*limit));
        }
        Ok(limits)
    }

    async fn read_link<'n>(&self, name: &'n str) -> Result<(&'n str, Result<Link, Missed>)> {
        let Some(body) = self.get(name).await? else { return Ok((name, Err(Missed::Gone))) };
        match Link::open(&self.keys, name, body) {
            Ok(link) => Ok((name, Ok(link))),
            Err(error) => match self.newer(name, &error) {
                Some(newer) => Err(newer),
                None => Ok((name, Err(Missed::Damaged(error)))),
            },
        }
    }

    /// One segment, wherever it stands.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<Link>> {
        Ok(self.read_link(name).await?.1.ok())
    }

    pub(crate) async fn claim(&self, name: &str) -> Result<Option<Claim>> {
        Ok(self.get(name).await?.and_then(|body| Claim::open(&self.keys, name, &body).ok()))
    }

    /// Keeps in memory what the next look will need again.
    fn forget(&mut self, state: &State) {
        let names: HashSet<&str> = state.links.iter().map(|link| link.name.as_str()).collect();
        self.links.retain(|name, _| names.contains(name.as_str()));
        if let Some(root) = &state.root {
            let ids: HashSet<&[u8]> = root.shards().map(|shard| &shard.id[..]).collect();
            self.shards.retain(|id, _| ids.contains(&id[..]));
        }
    }
}

/// What can be reached forwards from the end of a root.
#[derive(Debug, Default)]
struct Reached<'a> {
    links: Vec<&'a Arc<Link>>,
    /// Of those, and of the segment that they begin with.
    names: HashSet<&'a str>,
    /// Segments that name another content of what they follow.
    changed: Vec<String>,
}

/// What of `found` can be reached from `segment` on.
fn reach<'a>(segment: &'a str, hash: &'a [u8], found: &'a [Arc<Link>]) -> Reached<'a> {
    let mut children: HashMap<&str, Vec<&Arc<Link>>> = HashMap::new();
    for link in found {
        children.entry(&link.previous).or_default().push(link);
    }
    let mut reached = Reached { names: HashSet::from([segment]), ..Reached::default() };
    let mut open = vec![(segment, hash)];
    while let Some((name, hash)) = open.pop() {
        for link in children.remove(name).unwrap_or_default() {
            if link.previous_hash != hash {
                reached.changed.push(link.name.clone());
                continue;
            }
            reached.links.push(link);
            reached.names.insert(&link.name);
            open.push((&link.name, &link.hash));
        }
    }
    reached
}

impl Reached<'_> {
    /// What leads to the end with the highest rank, in order. An end is none if a later turn has gone on before it.
    fn history(&self, segment: &str, limits: &BTreeMap<Epoch, Lsn>) -> Vec<Arc<Link>> {
        let kept = |(epoch, lsn, _): Rank| limits.range(epoch.next()..).all(|(_, limit)| lsn <= *limit);
        let ends = self.links.iter().filter(|link| kept(rank(&link.name)));
        let by_name: HashMap<&str, &Arc<Link>> = self.links.iter().map(|link| (link.name.as_str(), *link)).collect();
        let mut links = Vec::new();
        let mut next = ends.max_by_key(|link| rank(&link.name)).copied();
        while let Some(link) = next {
            links.push(link.clone());
            next = if link.previous == segment { None } else { by_name.get(link.previous.as_str()).copied() };
        }
        links.reverse();
        links
    }
}
