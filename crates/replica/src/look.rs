//! A look at what a store lists: enough to tell whether anything is new. Four requests.

use std::fmt;

use haven_format::{Epoch, Lsn, Nonce, layout};
use haven_store::{ObjectMeta, Store};
use serde::Serialize;

use crate::{
    Side,
    error::{At, Result},
    names::{Kind, list_all},
};

/// How many of the newest roots are looked at.
const ROOTS: usize = 16;

/// A position in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Object name of the segment; empty before the first.
    pub segment: String,
    /// The last transaction up to there.
    pub tx: u64,
    /// When the segment was sealed, in nanoseconds since the Unix epoch by the writer's clock; 0: not known.
    pub sealed_at: i64,
}

impl Position {
    pub(crate) fn lsn(&self) -> Lsn {
        layout::parse_segment(&self.segment).map_or(Lsn(0), |(lsn, ..)| lsn)
    }

    pub(crate) fn epoch(&self) -> Epoch {
        layout::parse_segment(&self.segment).map_or(Epoch(0), |(_, epoch, _)| epoch)
    }

    pub(crate) fn rank(&self) -> Rank {
        rank(&self.segment)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match layout::parse_segment(&self.segment) {
            Some((lsn, epoch, _)) => write!(f, "change {} (segment {lsn} of epoch {epoch})", self.tx),
            None => f.write_str("nothing"),
        }
    }
}

/// Of several ends of the log the highest counts.
pub(crate) type Rank = (Epoch, Lsn, Nonce);

pub(crate) fn rank(segment: &str) -> Rank {
    layout::parse_segment(segment).map_or((Epoch(0), Lsn(0), Nonce([0; 8])), |(lsn, epoch, nonce)| (epoch, lsn, nonce))
}

/// What is listed. Names that are none of the library's are left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Look {
    /// Oldest first.
    pub(crate) configs: Vec<ObjectMeta>,
    pub(crate) claims: Vec<ObjectMeta>,
    /// The newest ones, newest first.
    pub(crate) roots: Vec<ObjectMeta>,
    /// From some position on, in order of positions.
    pub(crate) segments: Vec<ObjectMeta>,
}

impl Look {
    /// Lists `store`, the log from position `from` on.
    pub(crate) async fn at(store: &dyn Store, side: Side, from: Lsn) -> Result<Self> {
        let log = layout::segments_from(from);
        let (configs, claims, roots, segments) = futures::try_join!(
            list_all(store, layout::CONFIGS, None),
            list_all(store, layout::CLAIMS, None),
            async { Ok(store.list(layout::ROOTS, None, ROOTS).await?.objects) },
            list_all(store, layout::SEGMENTS, Some(&log)),
        )
        .at(side, "the list of objects can't be had")?;
        let mut look = Self { configs, claims, roots, segments };
        let only = |objects: &mut Vec<ObjectMeta>, kind| {
            objects.retain(|object| Kind::of(object.name.as_str()) == Some(kind));
        };
        only(&mut look.configs, Kind::Config);
        only(&mut look.claims, Kind::Claim);
        only(&mut look.roots, Kind::Root);
        only(&mut look.segments, Kind::Segment);
        look.roots.sort_by_key(|root| std::cmp::Reverse(layout::parse_root(root.name.as_str())));
        Ok(look)
    }

    /// The configurations with the highest number, all copies of it.
    pub(crate) fn configs_in_force(&self) -> &[ObjectMeta] {
        let number = |found: &ObjectMeta| layout::parse_config(found.name.as_str()).map(|(seq, _)| seq);
        let highest = self.configs.last().and_then(number);
        &self.configs[self.configs.partition_point(|found| number(found) < highest)..]
    }

    pub(crate) fn newest_root(&self) -> Option<&str> {
        self.roots.first().map(|root| root.name.as_str())
    }

    /// Leaves out the log up to `lsn`, which a root stands for.
    pub(crate) fn begin_after(&mut self, lsn: Lsn) {
        self.segments.retain(|segment| rank(segment.name.as_str()).1 > lsn);
    }

    /// The end of the log with the highest rank.
    pub(crate) fn tip(&self) -> Option<&str> {
        self.segments.iter().map(|segment| segment.name.as_str()).max_by_key(|name| rank(name))
    }

    /// The same names, whatever else the store says of them.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let same = |a: &[ObjectMeta], b: &[ObjectMeta]| {
            a.iter().map(|object| &object.name).eq(b.iter().map(|object| &object.name))
        };
        same(&self.configs, &other.configs)
            && same(&self.claims, &other.claims)
            && same(&self.roots, &other.roots)
            && same(&self.segments, &other.segments)
    }
}
