//! What an object is, by its name.

use haven_format::layout;
use haven_store::{ObjectMeta, ObjectName, Store, StoreError};

/// The most names asked for at once.
const PAGE: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Config,
    Claim,
    Segment,
    Shard,
    Pack,
    Root,
    Lease,
    Standing,
}

impl Kind {
    /// `None`: none of the library's.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let parsed = [
            (Self::Config, layout::parse_config(name).is_some()),
            (Self::Claim, layout::parse_claim(name).is_some()),
            (Self::Segment, layout::parse_segment(name).is_some()),
            (Self::Shard, layout::parse_shard(name).is_some()),
            (Self::Pack, layout::parse_pack(name).is_some()),
            (Self::Root, layout::parse_root(name).is_some()),
            (Self::Lease, layout::parse_lease(name).is_some()),
            (Self::Standing, layout::parse_standing(name).is_some()),
        ];
        parsed.into_iter().find_map(|(kind, is)| is.then_some(kind))
    }

    /// Whether each copy has its own, and no other's.
    pub(crate) fn stays(self) -> bool {
        matches!(self, Self::Lease | Self::Standing)
    }
}

pub(crate) fn object(name: &str) -> ObjectName {
    ObjectName::new(name).expect("the layout makes valid names")
}

/// All objects below `prefix` whose names come after `after`.
pub(crate) async fn list_all(
    store: &dyn Store,
    prefix: &str,
    after: Option<&str>,
) -> Result<Vec<ObjectMeta>, StoreError> {
    let mut found: Vec<ObjectMeta> = Vec::new();
    let mut after = after.map(str::to_owned);
    loop {
        let page = store.list(prefix, after.as_deref(), PAGE).await?;
        found.extend(page.objects);
        if !page.more {
            return Ok(found);
        }
        after = found.last().map(|last| last.name.as_str().to_owned());
    }
}
