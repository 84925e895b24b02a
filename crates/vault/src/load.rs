//! What state the bucket holds: the newest root, and the log from there.
//!
//! A copy of the bucket made while it was written may miss any of the newest objects, so only what hangs together is
//! taken: segments that follow, one the other, from the root on. Of several ends the one with the highest epoch is
//! history, and of that epoch the longest.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use haven_format::{
    Epoch, FormatError, Keys, Lsn, RootSeq, TxSeq,
    claim::Claim,
    layout,
    record::{Totals, Tx},
    root::Root,
    segment::Segment,
};
use haven_store::{Store, StoreError};

use crate::{
    Result, VaultError,
    claim::{list_all, object},
    vault::Sent,
};

/// Requests in flight at once.
const GETS: usize = 16;
/// How many roots are looked at before giving up.
const ROOTS: usize = 16;

/// A state of the library.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) root: Option<Root>,
    /// After the root, in order.
    pub(crate) txs: Vec<Tx>,
    pub(crate) head: Sent,
    /// The log's state at the root and after each segment since.
    pub(crate) ends: Vec<Sent>,
    pub(crate) next_ino: u64,
    pub(crate) totals: Totals,
    pub(crate) next_root: RootSeq,
    /// Segments that are in the bucket but do not hang together with the rest.
    pub(crate) loose_ends: Vec<String>,
    /// Damaged roots that were passed over.
    pub(crate) passed_over: Vec<(String, String)>,
}

pub(crate) fn damaged(name: &str, detail: impl ToString) -> VaultError {
    VaultError::Damaged { object: name.to_owned(), detail: detail.to_string() }
}

/// The newest state.
pub(crate) async fn newest(store: &dyn Store, keys: &Keys) -> Result<Loaded> {
    let (root, passed_over, next_root) = newest_root(store, keys).await?;
    if root.is_none()
        && let Some((name, detail)) = passed_over.first()
    {
        return Err(damaged(name, format!("no root can be read: {detail}")));
    }
    let mut loaded = from_root(root, passed_over, next_root);
    let (segments, loose_ends) = chain(store, keys, &loaded.head).await?;
    loaded.loose_ends = loose_ends;
    for (name, segment, hash) in segments {
        loaded.follow(name, segment, hash)?;
    }
    Ok(loaded)
}

/// The newest state that can be read, for who writes nothing: damaged objects are passed over, and told.
pub(crate) async fn readable(store: &dyn Store, keys: &Keys) -> Result<Loaded> {
    let (root, passed_over, next_root) = newest_root(store, keys).await?;
    let mut loaded = from_root(root, passed_over, next_root);
    let bodies = segments(store, loaded.head.lsn, None).await?;
    let (links, mut faults) = open_where_possible(keys, bodies)?;
    let first = where_begun(store, keys, &links, &faults).await?;
    let (segments, loose_ends) = link(&loaded.head, without_given_up(links, first))?;
    for (name, segment, hash) in segments {
        loaded.follow(name, segment, hash)?;
    }
    let shown =
        format!("what leads to it is not in the bucket: what was changed after {} is not shown", loaded.head.seq);
    loaded.passed_over.append(&mut faults);
    loaded.passed_over.extend(loose_ends.into_iter().map(|name| (name, shown.clone())));
    match loaded.passed_over.first() {
        Some((name, detail)) if loaded.root.is_none() && loaded.head.seq == TxSeq(0) => {
            Err(damaged(name, format!("no root can be read, nor the log from its beginning: {detail}")))
        }
        _ => Ok(loaded),
    }
}

impl Loaded {
    pub(crate) fn follow(&mut self, name: String, segment: Segment, hash: Vec<u8>) -> Result<()> {
        // Of a segment in whose middle a root stands, that has the first changes already.
        let known = self.root.as_ref().map_or(0, |root| root.tx);
        for tx in segment.txs.into_iter().filter(|tx| tx.seq > known) {
            if tx.seq != self.head.seq.next().0 {
                return Err(damaged(&name, format!("change {} follows change {}", tx.seq, self.head.seq)));
            }
            self.head.seq = TxSeq(tx.seq);
            self.next_ino = self.next_ino.max(tx.next_ino);
            self.totals = tx.totals;
            self.txs.push(tx);
        }
        self.head = Sent { lsn: Lsn(segment.lsn), segment: name, hash, ..self.head.clone() };
        self.ends.push(self.head.clone());
        Ok(())
    }
}

/// The newest root that opens; what did not; and the number of the next.
async fn newest_root(store: &dyn Store, keys: &Keys) -> Result<(Option<Root>, Vec<(String, String)>, RootSeq)> {
    let page = store.list(layout::ROOTS, None, ROOTS).await?;
    let mut names: Vec<_> = page
        .objects
        .iter()
        .filter_map(|found| layout::parse_root(found.name.as_str()).map(|id| (id, found.name.as_str().to_owned())))
        .collect();
    names.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    let next = names.first().map_or(RootSeq(1), |((seq, ..), _)| seq.next());
    let mut passed_over = Vec::new();
    for (_, name) in names {
        let opened = match store.get(&object(&name)).await {
            Ok(body) => Root::open(keys, &name, &body).map_err(|error| (error.to_string(), Some(error))),
            Err(error @ StoreError::NotFound { .. }) => Err((error.to_string(), None)),
            Err(error) => return Err(error.into()),
        };
        match opened {
            Ok(root) => return Ok((Some(root), passed_over, next)),
            Err((_, Some(error @ FormatError::Newer { .. }))) => return Err(damaged(&name, error)),
            Err((detail, _)) => passed_over.push((name, detail)),
        }
    }
    Ok((None, passed_over, next))
}

/// The state after the segment called `name`, which the log must still reach from some root.
pub(crate) async fn at(store: &dyn Store, keys: &Keys, name: &str) -> Result<Loaded> {
    let target = layout::parse_segment(name).map_or(Lsn(0), |(lsn, ..)| lsn);
    let mut found = None;
    for root_name in list_all(store, layout::ROOTS, None).await? {
        let Ok(root) = Root::open(keys, &root_name, &store.get(&object(&root_name)).await?) else { continue };
        if root.lsn <= target.0 {
            found = Some(root);
            break;
        }
    }
    let mut loaded = from_root(found, Vec::new(), RootSeq(0));
    let mut back = Vec::new();
    let mut next = name.to_owned();
    while next != loaded.head.segment {
        let body = store.get(&object(&next)).await.map_err(|error| damaged(&next, error))?;
        let segment = Segment::open(keys, &next, &body).map_err(|error| damaged(&next, error))?;
        let before = segment.previous.clone();
        back.push((std::mem::replace(&mut next, before), segment, blake3::hash(&body).as_bytes().to_vec()));
    }
    for (name, segment, hash) in back.into_iter().rev() {
        loaded.follow(name, segment, hash)?;
    }
    Ok(loaded)
}

fn from_root(root: Option<Root>, passed_over: Vec<(String, String)>, next_root: RootSeq) -> Loaded {
    let head = root.as_ref().map_or(Sent::default(), |root| Sent {
        lsn: Lsn(root.lsn),
        segment: root.segment.clone(),
        hash: root.segment_hash.clone(),
        seq: TxSeq(root.tx),
        behind_since: 0,
    });
    Loaded {
        next_ino: root.as_ref().map_or(haven_format::Ino::FIRST.0, |root| root.next_ino),
        totals: root.as_ref().map_or(Totals::default(), |root| root.totals),
        root,
        txs: Vec::new(),
        ends: vec![head.clone()],
        head,
        next_root,
        loose_ends: Vec::new(),
        passed_over,
    }
}

type Link = (String, Segment, Vec<u8>);
/// The name of an object, and what is wrong with it.
type Fault = (String, String);

/// Reads the segments that follow `base`, and names those that do not hang together with it.
pub(crate) async fn chain(store: &dyn Store, keys: &Keys, base: &Sent) -> Result<(Vec<Link>, Vec<String>)> {
    let bodies = segments(store, base.lsn, None).await?;
    link(base, without_given_up(open_all(keys, bodies)?, BTreeMap::new()))
}

/// The segments that follow `base`, as far as they hang together, up to number `until`.
pub(crate) async fn chain_until(store: &dyn Store, keys: &Keys, base: &Sent, until: Option<Lsn>) -> Result<Vec<Link>> {
    let bodies = segments(store, base.lsn, until).await?;
    Ok(link(base, without_given_up(open_all(keys, bodies)?, BTreeMap::new()))?.0)
}

/// Segments after `base`, up to number `until`.
async fn segments(store: &dyn Store, base: Lsn, until: Option<Lsn>) -> Result<Vec<(String, Bytes)>> {
    let from = layout::segments_from(base.next());
    let names = list_all(store, layout::SEGMENTS, Some(&from)).await?;
    let early = |lsn: Lsn| until.is_none_or(|until| lsn <= until);
    let wanted = names.into_iter().filter(|name| layout::parse_segment(name).is_some_and(|(lsn, ..)| early(lsn)));
    let bodies: Vec<(String, Bytes)> = stream::iter(wanted)
        .map(|name| async move {
            match store.get(&object(&name)).await {
                Ok(body) => Ok(Some((name, body))),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .buffered(GETS)
        .try_filter_map(|found| async { Ok(found) })
        .try_collect()
        .await?;
    Ok(bodies)
}

fn open(keys: &Keys, name: &str, body: &Bytes) -> Result<Link, FormatError> {
    let segment = Segment::open(keys, name, body)?;
    Ok((name.to_owned(), segment, blake3::hash(body).as_bytes().to_vec()))
}

fn open_all(keys: &Keys, bodies: Vec<(String, Bytes)>) -> Result<Vec<Link>> {
    bodies.iter().map(|(name, body)| open(keys, name, body).map_err(|error| damaged(name, error))).collect()
}

/// Segments that open, and names and faults of the others.
fn open_where_possible(keys: &Keys, bodies: Vec<(String, Bytes)>) -> Result<(Vec<Link>, Vec<Fault>)> {
    let (mut links, mut faults) = (Vec::new(), Vec::new());
    for (name, body) in &bodies {
        match open(keys, name, body) {
            Ok(link) => links.push(link),
            Err(error @ FormatError::Newer { .. }) => return Err(damaged(name, error)),
            Err(error) => faults.push((name.clone(), error.to_string())),
        }
    }
    Ok((links, faults))
}

/// Where the turns that damaged segments are of began to write: by their names, or by what their claims build on, as the
/// first segment may be lost without a trace.
async fn where_begun(store: &dyn Store, keys: &Keys, links: &[Link], faults: &[Fault]) -> Result<BTreeMap<Epoch, Lsn>> {
    let mut first = BTreeMap::new();
    let damaged = faults.iter().filter_map(|(name, _)| layout::parse_segment(name));
    damaged.for_each(|(lsn, epoch, _)| earliest(&mut first, epoch, lsn));
    let turn = |name: &str| layout::parse_segment(name).map_or(Epoch(0), |(_, epoch, _)| epoch);
    // Of some a segment tells: the first of a turn follows one of an earlier turn.
    let told: HashSet<Epoch> = links
        .iter()
        .map(|(name, segment, _)| (turn(name), turn(&segment.previous)))
        .filter_map(|(own, before)| (before < own).then_some(own))
        .collect();
    if first.keys().all(|epoch| told.contains(epoch)) {
        return Ok(first);
    }
    let mut claimed: BTreeMap<Epoch, Lsn> = BTreeMap::new();
    for name in list_all(store, layout::CLAIMS, None).await? {
        let Some((epoch, _)) = layout::parse_claim(&name) else { continue };
        if !first.contains_key(&epoch) || told.contains(&epoch) {
            continue;
        }
        // Of several that claimed at the same moment all but the last stepped back. One that does not open tells nothing.
        match store.get(&object(&name)).await {
            Ok(body) => {
                if let Ok(claim) = Claim::open(keys, &name, &body) {
                    let on = claimed.entry(epoch).or_default();
                    *on = Lsn(claim.lsn).next().max(*on);
                }
            }
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    claimed.into_iter().for_each(|(epoch, lsn)| earliest(&mut first, epoch, lsn));
    Ok(first)
}

fn earliest(first: &mut BTreeMap<Epoch, Lsn>, epoch: Epoch, lsn: Lsn) {
    let at = first.entry(epoch).or_insert(lsn);
    *at = lsn.min(*at);
}

/// Takes out what an older turn wrote where a newer one did too, be the newer one's segment damaged, or known only from
/// the one that follows it: that branch was given up, and nobody was told that it was kept. `first` is where turns are
/// known to have written beside `links`.
fn without_given_up(mut links: Vec<Link>, mut first: BTreeMap<Epoch, Lsn>) -> Vec<Link> {
    let named = links.iter().flat_map(|(name, segment, _)| [name, &segment.previous]);
    let known: HashSet<_> =
        named.filter_map(|name| layout::parse_segment(name).map(|(lsn, epoch, _)| (epoch, lsn))).collect();
    known.into_iter().for_each(|(epoch, lsn)| earliest(&mut first, epoch, lsn));
    links.retain(|(name, ..)| {
        layout::parse_segment(name)
            .is_none_or(|(lsn, epoch, _)| first.range(epoch.next()..).all(|(_, begun)| lsn < *begun))
    });
    links
}

/// Those that follow `base`, in order, and the names of newer ones that do not hang together with it.
fn link(base: &Sent, links: Vec<Link>) -> Result<(Vec<Link>, Vec<String>)> {
    let mut found: HashMap<String, Link> = HashMap::new();
    let mut children: HashMap<String, Vec<String>> = HashMap::new();
    for link in links {
        children.entry(link.1.previous.clone()).or_default().push(link.0.clone());
        found.insert(link.0.clone(), link);
    }
    // What can be reached from the base, forwards.
    let mut reached = Vec::new();
    let mut open = vec![(base.segment.clone(), base.hash.clone())];
    while let Some((name, hash)) = open.pop() {
        for child in children.remove(&name).unwrap_or_default() {
            let (_, segment, own) = &found[&child];
            if segment.previous_hash != hash {
                return Err(damaged(&child, "the segment it follows has another content than when it was written"));
            }
            open.push((child.clone(), own.clone()));
            reached.push(child);
        }
    }
    let rank = |name: &String| {
        let (lsn, epoch, nonce) =
            layout::parse_segment(name).unwrap_or((Lsn(0), Epoch(0), haven_format::Nonce([0; 8])));
        (epoch, lsn, nonce)
    };
    let mut history = Vec::new();
    let mut next = reached.iter().max_by_key(|name| rank(name)).cloned();
    while let Some(name) = next.take() {
        let link = found.remove(&name).expect("reached names were found");
        if link.1.previous != base.segment {
            next = Some(link.1.previous.clone());
        }
        history.push(link);
    }
    history.reverse();
    let newest = history.last().map(|(name, ..)| rank(name));
    // Side branches of older turns are no loss; anything newer that can't be reached is.
    let mut loose: Vec<String> =
        found.into_keys().filter(|name| newest.is_none_or(|newest| rank(name) > newest)).collect();
    loose.sort();
    Ok((history, loose))
}
