//! The record space: every fact about the library is a key and a value in one sorted space.
//!
//! ```text
//!     10 ino 00              inode                      → [`Inode`]
//!     10 ino 01 offset       content from this offset   → [`Extent`]
//!     10 ino 02 name         extended attribute         → its bytes
//!     10 ino 03 cookie       directory entry            → [`Entry`]
//!     20 chunk id            where a chunk is           → [`ChunkPlace`]
//!     30 pack id             a pack                     → [`PackInfo`]
//!     40 name                a snapshot                 → [`Snapshot`]
//!     50 ino                 an inode without a name, still open somewhere (empty value)
//!     60 object name         an object that is needed no more → [`Dead`]
//!     70                     the last garbage collection → [`Collection`]
//!     80 chunk id            a chunk of which no good copy was found → [`Lost`]
//! ```
//! Numbers in keys are big-endian, so that key order is number order. Values are Protocol Buffers messages.
//! All that belongs to an inode stands together: one block serves its stat, its extents and its entries.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::{ChunkId, FormatError, Ino, PackId, container::Part};

const INODE_SPACE: u8 = 0x10;
const CHUNK_SPACE: u8 = 0x20;
const PACK_SPACE: u8 = 0x30;
const SNAPSHOT_SPACE: u8 = 0x40;
const ORPHAN_SPACE: u8 = 0x50;
const DEAD_SPACE: u8 = 0x60;
const COLLECTION_SPACE: u8 = 0x70;
const LOST_SPACE: u8 = 0x80;

const INODE: u8 = 0;
const EXTENT: u8 = 1;
const XATTR: u8 = 2;
const ENTRY: u8 = 3;

/// A key of the record space.
pub type Key = Bytes;

fn inode_space(ino: Ino, what: u8, rest: &[u8]) -> Key {
    let mut key = BytesMut::with_capacity(10 + rest.len());
    key.put_u8(INODE_SPACE);
    key.put_u64(ino.0);
    key.put_u8(what);
    key.put_slice(rest);
    key.freeze()
}

fn tagged(space: u8, rest: &[u8]) -> Key {
    let mut key = BytesMut::with_capacity(1 + rest.len());
    key.put_u8(space);
    key.put_slice(rest);
    key.freeze()
}

pub fn inode_key(ino: Ino) -> Key {
    inode_space(ino, INODE, &[])
}

/// Every key that belongs to `ino`: inode, extents, attributes, entries.
pub fn whole_inode(ino: Ino) -> std::ops::Range<Key> {
    let mut end = BytesMut::with_capacity(9);
    end.put_u8(INODE_SPACE);
    end.put_u64(ino.0 + 1);
    inode_key(ino).slice(..9)..end.freeze()
}

pub fn extent_key(ino: Ino, offset: u64) -> Key {
    inode_space(ino, EXTENT, &offset.to_be_bytes())
}

/// The offset in the key of an extent.
pub fn extent_offset(key: &[u8]) -> Option<u64> {
    (key.len() == 18 && key[9] == EXTENT).then(|| u64::from_be_bytes(key[10..].try_into().expect("eight bytes")))
}

/// Extents of `ino` that begin at `from` or later.
pub fn extents(ino: Ino, from: u64) -> std::ops::Range<Key> {
    extent_key(ino, from)..inode_space(ino, XATTR, &[])
}

pub fn xattr_key(ino: Ino, name: &[u8]) -> Key {
    inode_space(ino, XATTR, name)
}

pub fn xattrs(ino: Ino) -> std::ops::Range<Key> {
    xattr_key(ino, &[])..inode_space(ino, ENTRY, &[])
}

/// The name in the key of an extended attribute.
pub fn xattr_name(key: &[u8]) -> Option<&[u8]> {
    (key.len() > 10 && key[9] == XATTR).then(|| &key[10..])
}

/// A directory position that stays valid while others come and go. It fits a signed 64-bit offset and is at least 256.
pub type Cookie = u64;

/// The cookies that a name with this [`crate::Keys::name_hash`] may have. Names with equal hashes (54 bits) take the
/// first free of 256: a lookup reads them all.
pub fn cookie_range(name_hash: u64) -> std::ops::Range<Cookie> {
    let first = ((name_hash & ((1 << 54) - 1)) + 1) << 8;
    first..first + 256
}

pub fn entry_key(parent: Ino, cookie: Cookie) -> Key {
    inode_space(parent, ENTRY, &cookie.to_be_bytes())
}

/// Entries of `parent` with cookies in `cookies`.
pub fn entries(parent: Ino, cookies: std::ops::Range<Cookie>) -> std::ops::Range<Key> {
    entry_key(parent, cookies.start)..entry_key(parent, cookies.end)
}

/// The cookie in the key of a directory entry.
pub fn entry_cookie(key: &[u8]) -> Option<Cookie> {
    (key.len() == 18 && key[9] == ENTRY).then(|| u64::from_be_bytes(key[10..].try_into().expect("eight bytes")))
}

pub fn chunk_key(chunk: ChunkId) -> Key {
    tagged(CHUNK_SPACE, &chunk.0)
}

pub fn chunks() -> std::ops::Range<Key> {
    tagged(CHUNK_SPACE, &[])..tagged(CHUNK_SPACE + 1, &[])
}

/// The chunk in the key of its place.
pub fn key_chunk(key: &[u8]) -> Option<ChunkId> {
    (key.first() == Some(&CHUNK_SPACE)).then(|| ChunkId::from_slice(&key[1..])).flatten()
}

pub fn pack_key(pack: PackId) -> Key {
    tagged(PACK_SPACE, &pack.0)
}

pub fn packs() -> std::ops::Range<Key> {
    tagged(PACK_SPACE, &[])..tagged(PACK_SPACE + 1, &[])
}

/// The pack in the key of its record.
pub fn key_pack(key: &[u8]) -> Option<PackId> {
    (key.first() == Some(&PACK_SPACE)).then(|| PackId::from_slice(&key[1..])).flatten()
}

pub fn snapshot_key(name: &[u8]) -> Key {
    tagged(SNAPSHOT_SPACE, name)
}

pub fn snapshots() -> std::ops::Range<Key> {
    tagged(SNAPSHOT_SPACE, &[])..tagged(SNAPSHOT_SPACE + 1, &[])
}

/// The name in the key of a snapshot.
pub fn key_snapshot(key: &[u8]) -> Option<&[u8]> {
    (key.first() == Some(&SNAPSHOT_SPACE)).then(|| &key[1..])
}

/// The record of an object that is needed no more, by its name in the bucket; by [`crate::layout::SEGMENTS`] for the
/// log as far as it is needed no more.
pub fn dead_key(object: &str) -> Key {
    tagged(DEAD_SPACE, object.as_bytes())
}

pub fn dead() -> std::ops::Range<Key> {
    tagged(DEAD_SPACE, &[])..tagged(DEAD_SPACE + 1, &[])
}

/// The object in the key of a [`Dead`] record.
pub fn key_dead(key: &[u8]) -> Option<&str> {
    (key.first() == Some(&DEAD_SPACE)).then(|| std::str::from_utf8(&key[1..]).ok()).flatten()
}

pub fn collection_key() -> Key {
    tagged(COLLECTION_SPACE, &[])
}

pub fn lost_key(chunk: ChunkId) -> Key {
    tagged(LOST_SPACE, &chunk.0)
}

pub fn lost() -> std::ops::Range<Key> {
    tagged(LOST_SPACE, &[])..tagged(LOST_SPACE + 1, &[])
}

/// The chunk in the key of a [`Lost`] record.
pub fn key_lost(key: &[u8]) -> Option<ChunkId> {
    (key.first() == Some(&LOST_SPACE)).then(|| ChunkId::from_slice(&key[1..])).flatten()
}

pub fn orphan_key(ino: Ino) -> Key {
    tagged(ORPHAN_SPACE, &ino.0.to_be_bytes())
}

pub fn orphans() -> std::ops::Range<Key> {
    tagged(ORPHAN_SPACE, &[])..tagged(ORPHAN_SPACE + 1, &[])
}

/// The inode in the key of an orphan.
pub fn key_orphan(key: &[u8]) -> Option<Ino> {
    (key.len() == 9 && key[0] == ORPHAN_SPACE)
        .then(|| Ino(u64::from_be_bytes(key[1..].try_into().expect("eight bytes"))))
}

/// Every inode record and what belongs to it, of all inodes from `from` on.
pub fn inodes_from(from: Ino) -> std::ops::Range<Key> {
    inode_key(from).slice(..9)..tagged(INODE_SPACE + 1, &[])
}

/// The inode a key of the inode space belongs to.
pub fn key_inode(key: &[u8]) -> Option<Ino> {
    (key.len() >= 10 && key[0] == INODE_SPACE)
        .then(|| Ino(u64::from_be_bytes(key[1..9].try_into().expect("eight bytes"))))
}

/// Whether the key is that of an inode record itself.
pub fn is_inode(key: &[u8]) -> bool {
    key.len() == 10 && key[0] == INODE_SPACE && key[9] == INODE
}

/// A moment: seconds since the Unix epoch (negative before 1970) and nanoseconds after that second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct Time {
    #[prost(sint64, tag = "1")]
    pub seconds: i64,
    /// 0 to 999,999,999.
    #[prost(uint32, tag = "2")]
    pub nanos: u32,
}

/// What `stat` tells, and a symlink's target.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Inode {
    /// File type and permission bits, as `st_mode`.
    #[prost(uint32, tag = "1")]
    pub mode: u32,
    #[prost(uint32, tag = "2")]
    pub nlink: u32,
    #[prost(uint32, tag = "3")]
    pub uid: u32,
    #[prost(uint32, tag = "4")]
    pub gid: u32,
    /// Length of the content in bytes (of the target for symlinks, 0 for directories).
    #[prost(uint64, tag = "5")]
    pub size: u64,
    /// Bytes of extents, holes not counted.
    #[prost(uint64, tag = "6")]
    pub allocated: u64,
    /// Device number of device files, as the kernel's `new_encode_dev`.
    #[prost(uint32, tag = "7")]
    pub rdev: u32,
    #[prost(message, required, tag = "8")]
    pub atime: Time,
    #[prost(message, required, tag = "9")]
    pub mtime: Time,
    #[prost(message, required, tag = "10")]
    pub ctime: Time,
    #[prost(message, required, tag = "11")]
    pub btime: Time,
    /// For a directory: the one it stands in. Else 0.
    #[prost(uint64, tag = "12")]
    pub parent: u64,
    /// For a symlink: where it points.
    #[prost(bytes = "bytes", tag = "13")]
    pub target: Bytes,
    /// For a directory: how many entries it has.
    #[prost(uint64, tag = "14")]
    pub entries: u64,
    /// How many extended attributes there are, so that most inodes need no look for them.
    #[prost(uint32, tag = "15")]
    pub xattrs: u32,
}

/// A run of bytes of a file, or space promised to it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Extent {
    /// Bytes of the file it covers.
    #[prost(uint64, tag = "1")]
    pub len: u64,
    /// The chunk that holds the bytes, 32 bytes; empty for allocated zeros.
    #[prost(bytes = "bytes", tag = "2")]
    pub chunk: Bytes,
    /// Where in the plain chunk the run begins.
    #[prost(uint32, tag = "3")]
    pub skip: u32,
    /// Where the chunk was when this was written: saves a look into the chunk index, may be out of date.
    #[prost(message, optional, tag = "4")]
    pub place: Option<ChunkPlace>,
}

impl Extent {
    /// The chunk, or `None` for allocated zeros.
    pub fn chunk_id(&self) -> Option<ChunkId> {
        ChunkId::from_slice(&self.chunk)
    }
}

/// Where a chunk's seal is.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ChunkPlace {
    /// The pack, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pack: Bytes,
    /// Bytes from the start of the pack.
    #[prost(uint32, tag = "2")]
    pub offset: u32,
    /// Bytes of the seal.
    #[prost(uint32, tag = "3")]
    pub len: u32,
    /// Bytes of the chunk when plain.
    #[prost(uint32, tag = "4")]
    pub plain_len: u32,
}

impl ChunkPlace {
    pub fn new(pack: PackId, part: Part, plain_len: u32) -> Self {
        Self { pack: Bytes::copy_from_slice(&pack.0), offset: part.offset, len: part.len, plain_len }
    }

    pub fn pack_id(&self) -> Result<PackId, FormatError> {
        PackId::from_slice(&self.pack).ok_or(FormatError::Malformed("a pack id has another length"))
    }

    pub fn part(&self) -> Part {
        Part { offset: self.offset, len: self.len }
    }
}

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Entry {
    /// 1 to 255 bytes, any but `/` and NUL.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// File type, as `d_type` of readdir(3).
    #[prost(uint32, tag = "3")]
    pub kind: u32,
}

/// What is known of a pack.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PackInfo {
    /// Length of the object in bytes.
    #[prost(uint64, tag = "1")]
    pub bytes: u64,
    #[prost(uint32, tag = "2")]
    pub chunks: u32,
    /// Seconds since the Unix epoch when it was finished.
    #[prost(sint64, tag = "3")]
    pub made: i64,
}

/// A named moment of the library.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Snapshot {
    /// The transaction after which it was taken.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(message, required, tag = "2")]
    pub taken: Time,
    #[prost(string, tag = "3")]
    pub note: String,
    /// The root object that holds it; empty until the next checkpoint has made one.
    #[prost(string, tag = "4")]
    pub root: String,
    /// Seconds since the Unix epoch until which nothing may remove it; 0: not protected.
    #[prost(sint64, tag = "5")]
    pub protected_until: i64,
    /// The host that took it.
    #[prost(string, tag = "6")]
    pub host: String,
    /// What took it: a person's command, or the name of a schedule.
    #[prost(string, tag = "7")]
    pub by: String,
    /// The sums over the library at that moment.
    #[prost(message, optional, tag = "8")]
    pub totals: Option<Totals>,
}

/// An object that nothing in the library needs from some moment on: signed by being a record of it.
///
/// It is deleted after a grace time, and its record stays a while longer, for replicas to follow. A replica deletes
/// what such a record names, and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Dead {
    /// Seconds since the Unix epoch when it was found to be needed no more.
    #[prost(sint64, tag = "1")]
    pub since: i64,
    /// Length of the object; 0 where it is not known.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// Seconds since the Unix epoch when it was deleted; 0: it is still there.
    #[prost(sint64, tag = "3")]
    pub gone: i64,
    /// Of the log alone: segments with a lower number are needed no more.
    #[prost(uint64, tag = "4")]
    pub below: u64,
    /// What of it was needed was written anew elsewhere.
    #[prost(bool, tag = "5")]
    pub moved: bool,
    /// Of what was moved: how many bytes were not, as nothing needed them, and go for good with the object. Not known of
    /// records of older versions.
    #[prost(uint64, optional, tag = "6")]
    pub lost: Option<u64>,
}

impl Dead {
    /// How many of the object's `bytes` go for good with it. Where that is not known: all of them.
    pub fn loss(&self, bytes: u64) -> u64 {
        if self.moved { self.lost.unwrap_or(bytes).min(bytes) } else { bytes }
    }
}

/// A chunk that was found damaged, and no good copy of it anywhere. Goes when the same bytes are stored again.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Lost {
    /// Seconds since the Unix epoch when that was found.
    #[prost(sint64, tag = "1")]
    pub since: i64,
    /// Where it was.
    #[prost(message, optional, tag = "2")]
    pub place: Option<ChunkPlace>,
}

/// How the last garbage collection went.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Collection {
    #[prost(message, required, tag = "1")]
    pub at: Time,
    /// Bytes of objects deleted by it.
    #[prost(uint64, tag = "2")]
    pub freed: u64,
    /// Bytes of objects that wait out their grace.
    #[prost(uint64, tag = "3")]
    pub waiting: u64,
    /// Seconds since the Unix epoch when the last of them may go.
    #[prost(sint64, tag = "4")]
    pub waiting_until: i64,
    /// Bytes of packs that something needs, and of all packs.
    #[prost(uint64, tag = "5")]
    pub live_bytes: u64,
    #[prost(uint64, tag = "6")]
    pub pack_bytes: u64,
    /// Why it stopped before anything was condemned or deleted; empty: it did not.
    #[prost(string, tag = "7")]
    pub brake: String,
    /// The transaction that set this record.
    #[prost(uint64, tag = "8")]
    pub seq: u64,
    /// The brake's memory: seconds since the Unix epoch when a day began, and what was given up since.
    #[prost(sint64, tag = "9")]
    pub window_began: i64,
    #[prost(uint64, tag = "10")]
    pub window_bytes: u64,
}

/// Sums over the whole library, kept with every transaction.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Totals {
    /// Inodes of every kind, the root directory included.
    #[prost(uint64, tag = "1")]
    pub inodes: u64,
    /// Bytes of all files' allocated extents.
    #[prost(uint64, tag = "2")]
    pub file_bytes: u64,
    /// Different chunks, and their bytes plain and sealed.
    #[prost(uint64, tag = "3")]
    pub chunks: u64,
    #[prost(uint64, tag = "4")]
    pub chunk_bytes: u64,
    #[prost(uint64, tag = "5")]
    pub sealed_bytes: u64,
    #[prost(uint64, tag = "6")]
    pub packs: u64,
    #[prost(uint64, tag = "7")]
    pub pack_bytes: u64,
}

/// One atomic change of the record space.
#[derive(Clone, PartialEq, Message)]
pub struct Tx {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(message, required, tag = "2")]
    pub time: Time,
    #[prost(message, repeated, tag = "3")]
    pub ops: Vec<Op>,
    /// The next inode number to hand out, after this change.
    #[prost(uint64, tag = "4")]
    pub next_ino: u64,
    /// The sums after this change.
    #[prost(message, required, tag = "5")]
    pub totals: Totals,
}

/// One record set, or removed where `value` is absent.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Op {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub value: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_an_inode_stands_together_in_order() {
        let range = whole_inode(Ino(7));
        let keys = [
            inode_key(Ino(7)),
            extent_key(Ino(7), 0),
            extent_key(Ino(7), 1 << 40),
            xattr_key(Ino(7), b"user.a"),
            entry_key(Ino(7), 300),
        ];
        assert!(keys.is_sorted());
        assert!(keys.iter().all(|key| range.contains(key)));
        assert!(!range.contains(&inode_key(Ino(8))) && !range.contains(&entry_key(Ino(6), u64::MAX)));
        assert!(extents(Ino(7), 0).contains(&keys[2]) && !extents(Ino(7), 0).contains(&keys[3]));
    }

    #[test]
    fn cookies_fit_a_signed_offset_and_leave_room_below() {
        assert_eq!(cookie_range(0), 256..512);
        assert!(cookie_range(u64::MAX).end <= i64::MAX as u64);
    }
}
