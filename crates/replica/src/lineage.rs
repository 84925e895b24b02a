//! Whether the source's newest state is the replica's own future.
//!
//! It must hold the segment that the replica ends with, or have a history that goes by it. One exception: of two
//! machines that wrote at once, the one that had lost may have sent one more segment before it noticed, and the replica
//! may have copied that. Such a segment was never acknowledged to anybody, and the history goes on beside it.

use haven_format::{Lsn, layout};

use crate::{
    Oddity, Position,
    error::{At, Result},
    look::rank,
    names::list_all,
    state::{Link, Reader, State},
};

/// Whether the replica's last segment is part of the source's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Within,
    /// One segment too many.
    Beside,
}

/// Refuses a source that is not ahead of `ours`. `own` is the segment the replica ends with, where it could be read.
pub(crate) async fn check(source: &Reader, state: &State, ours: &Position, own: Option<&Link>) -> Result<Place> {
    let theirs = state.position();
    if ours.segment.is_empty() || goes_by(state, &ours.segment) {
        return Ok(Place::Within);
    }
    let refuse = |oddity: fn(Position, Position) -> Oddity| {
        // What could not be read may be just what is missing.
        if state.damaged.is_empty() {
            Err(oddity(theirs.clone(), ours.clone()).into())
        } else {
            Err(Oddity::Garbage { damaged: state.damaged.clone() }.into())
        }
    };
    if theirs.lsn() < ours.lsn() {
        let other = theirs.epoch() > ours.epoch();
        return refuse(if other { |theirs, ours| Oddity::OtherHistory { theirs, ours } } else { rolled_back });
    }
    let from = layout::segments_from(ours.lsn());
    let until = layout::segments_from(ours.lsn().next());
    let there = list_all(&*source.store, layout::SEGMENTS, Some(&from)).await;
    let there = there.at(source.side, "the list of log segments can't be had")?;
    let there = there.iter().map(|segment| segment.name.as_str()).filter(|name| *name < until.as_str());
    let Some(best) = there.max_by_key(|name| rank(name)) else {
        // That part of the log is no longer kept there. A root that is further on was made of acknowledged segments.
        if theirs.tx < ours.tx || theirs.epoch() < ours.epoch() {
            return refuse(rolled_back);
        }
        return match taken_over_at(source, ours).await? {
            Some(base) if base.next() < ours.lsn() => refuse(|theirs, ours| Oddity::OtherHistory { theirs, ours }),
            _ => Ok(Place::Within),
        };
    };
    let base = state.root.as_ref().map_or(0, |root| root.root.lsn);
    if best == ours.segment && ours.lsn().0 <= base {
        return Ok(Place::Within);
    }
    let sibling = source.link(best).await?;
    match (sibling, own) {
        (Some(sibling), Some(own)) if rank(best) > ours.rank() && sibling.previous == own.previous => Ok(Place::Beside),
        _ => refuse(|theirs, ours| Oddity::OtherHistory { theirs, ours }),
    }
}

/// On which segment the machine built that wrote after the one whose segment `ours` is, by its own claim. It may have
/// built on a later one, sent while it was beginning: then this is too strict, which is the lesser evil.
async fn taken_over_at(source: &Reader, ours: &Position) -> Result<Option<Lsn>> {
    let claims = list_all(&*source.store, layout::CLAIMS, None).await;
    let claims = claims.at(source.side, "the list of claims can't be had")?;
    let later = |name: &&str| layout::parse_claim(name).is_some_and(|(epoch, _)| epoch > ours.epoch());
    let Some(name) = claims.iter().map(|claim| claim.name.as_str()).find(later) else { return Ok(None) };
    Ok(source.claim(name).await?.map(|claim| Lsn(claim.lsn)))
}

fn rolled_back(theirs: Position, ours: Position) -> Oddity {
    Oddity::RolledBack { theirs, ours }
}

fn goes_by(state: &State, segment: &str) -> bool {
    state.root.as_ref().is_some_and(|root| root.root.segment == segment)
        || state.links.iter().any(|link| link.name == segment)
}
