//! What objects are called in the bucket. Every name is used once.
//! ```text
//!     cfg/<seq>-<nonce>            configuration: the newest seq is the one in force
//!     e/<epoch>-<nonce>            a writer's claim
//!     l/<lsn>-<epoch>-<nonce>      a log segment
//!     m/<id>                       a metadata shard
//!     p/<xx>/<id>                  a pack; xx = the first two digits of the id
//!     r/<!seq>-<epoch>-<nonce>     a root; !seq = ones' complement, so that the newest is listed first
//!     w/<until>-<nonce>            a reader's lease; until = seconds since 1970
//!     x/<!seq>-<nonce>             what this copy is: the library, a replica, or one being restored
//! ```
//! Numbers are 16 lower-case hexadecimal digits.

use crate::{Epoch, Lsn, Nonce, PackId, RootSeq, ShardId};

pub const CONFIGS: &str = "cfg/";
pub const CLAIMS: &str = "e/";
pub const SEGMENTS: &str = "l/";
pub const SHARDS: &str = "m/";
pub const PACKS: &str = "p/";
pub const ROOTS: &str = "r/";
pub const LEASES: &str = "w/";
pub const STANDINGS: &str = "x/";

pub fn config(seq: u64, nonce: Nonce) -> String {
    format!("{CONFIGS}{seq:016x}-{nonce}")
}

pub fn claim(epoch: Epoch, nonce: Nonce) -> String {
    format!("{CLAIMS}{:016x}-{nonce}", epoch.0)
}

pub fn segment(lsn: Lsn, epoch: Epoch, nonce: Nonce) -> String {
    format!("{SEGMENTS}{:016x}-{:016x}-{nonce}", lsn.0, epoch.0)
}

/// Sorts before every segment at `lsn` and after every earlier one: for listing the log from there.
pub fn segments_from(lsn: Lsn) -> String {
    format!("{SEGMENTS}{:016x}", lsn.0)
}

pub fn shard(id: ShardId) -> String {
    format!("{SHARDS}{id}")
}

pub fn pack(id: PackId) -> String {
    format!("{PACKS}{:02x}/{id}", id.0[0])
}

pub fn root(seq: RootSeq, epoch: Epoch, nonce: Nonce) -> String {
    format!("{ROOTS}{:016x}-{:016x}-{nonce}", !seq.0, epoch.0)
}

/// `until` in seconds since the Unix epoch.
pub fn lease(until: u64, nonce: Nonce) -> String {
    format!("{LEASES}{until:016x}-{nonce}")
}

pub fn standing(seq: u64, nonce: Nonce) -> String {
    format!("{STANDINGS}{:016x}-{nonce}", !seq)
}

fn number(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

pub fn parse_config(name: &str) -> Option<(u64, Nonce)> {
    let (seq, nonce) = name.strip_prefix(CONFIGS)?.split_once('-')?;
    Some((number(seq)?, Nonce::from_hex(nonce)?))
}

pub fn parse_claim(name: &str) -> Option<(Epoch, Nonce)> {
    let (epoch, nonce) = name.strip_prefix(CLAIMS)?.split_once('-')?;
    Some((Epoch(number(epoch)?), Nonce::from_hex(nonce)?))
}

pub fn parse_segment(name: &str) -> Option<(Lsn, Epoch, Nonce)> {
    let mut parts = name.strip_prefix(SEGMENTS)?.splitn(3, '-');
    Some((Lsn(number(parts.next()?)?), Epoch(number(parts.next()?)?), Nonce::from_hex(parts.next()?)?))
}

pub fn parse_root(name: &str) -> Option<(RootSeq, Epoch, Nonce)> {
    let mut parts = name.strip_prefix(ROOTS)?.splitn(3, '-');
    Some((RootSeq(!number(parts.next()?)?), Epoch(number(parts.next()?)?), Nonce::from_hex(parts.next()?)?))
}

pub fn parse_pack(name: &str) -> Option<PackId> {
    let (shard, id) = name.strip_prefix(PACKS)?.split_once('/')?;
    id.starts_with(shard).then(|| PackId::from_hex(id)).flatten()
}

pub fn parse_shard(name: &str) -> Option<ShardId> {
    ShardId::from_hex(name.strip_prefix(SHARDS)?)
}

pub fn parse_lease(name: &str) -> Option<(u64, Nonce)> {
    let (until, nonce) = name.strip_prefix(LEASES)?.split_once('-')?;
    Some((number(until)?, Nonce::from_hex(nonce)?))
}

pub fn parse_standing(name: &str) -> Option<(u64, Nonce)> {
    let (seq, nonce) = name.strip_prefix(STANDINGS)?.split_once('-')?;
    Some((!number(seq)?, Nonce::from_hex(nonce)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_newer_roots_list_first() {
        let nonce = Nonce([0xab; 8]);
        assert_eq!(parse_root(&root(RootSeq(7), Epoch(3), nonce)), Some((RootSeq(7), Epoch(3), nonce)));
        assert_eq!(parse_segment(&segment(Lsn(9), Epoch(3), nonce)), Some((Lsn(9), Epoch(3), nonce)));
        assert_eq!(parse_claim(&claim(Epoch(3), nonce)), Some((Epoch(3), nonce)));
        assert_eq!(parse_config(&config(1, nonce)), Some((1, nonce)));
        assert_eq!(parse_pack(&pack(PackId([5; 16]))), Some(PackId([5; 16])));
        assert_eq!(parse_lease(&lease(1_800_000_000, nonce)), Some((1_800_000_000, nonce)));
        assert_eq!(parse_standing(&standing(4, nonce)), Some((4, nonce)));
        assert!(standing(5, nonce) < standing(4, nonce));
        assert!(root(RootSeq(8), Epoch(3), nonce) < root(RootSeq(7), Epoch(9), nonce));
        assert!(segments_from(Lsn(9)) < segment(Lsn(9), Epoch(0), nonce));
        assert!(segments_from(Lsn(9)) > segment(Lsn(8), Epoch(u64::MAX), nonce));
    }
}
