//! How the museum in `tests/museum/v1` was made: a small library with a bit of everything, and the same library broken
//! in many ways, each named by what is broken. Every version of Haven, and whoever else reads the format, opens them
//! all; `crates/haven/tests/all/museum.rs` says what is to be found in each.
//! ```text
//!     whole/…                 the library before anything happened to it
//!     <exhibit>/changed/…     objects that are otherwise than in it, or not in it at all
//!     <exhibit>/lost          names of objects that are in it, and not here, a line each
//! ```
//! As with the golden library the files are what counts. `HAVEN_WRITE_GOLDEN=1 cargo test -p haven-format` writes
//! exhibits that are not there yet, never over anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use haven_format::{
    Epoch, Ino, Keys, Lsn, Nonce, PackId, RootSeq, ShardId,
    claim::Claim,
    config::OpenConfig,
    keys::{Argon2Cost, Secret},
    layout,
    lease::Lease,
    pack,
    record::{self, ChunkPlace, Collection, Dead, Entry, Extent, Inode, Key, Op, PackInfo, Snapshot, Totals, Tx},
    root::{Root, Run, ShardRef},
    segment::Segment,
    shard::ShardWriter,
    standing::{Role, Standing},
};
use prost::Message;

use crate::made::{at, inode, noise};
use harm::{EXHIBITS, Harm};

mod harm;

const PASSPHRASE: &str = "museum passphrase";
const FIRST: Nonce = Nonce([0xc1; 8]);
const SECOND: Nonce = Nonce([0xc2; 8]);
/// Photos: made first, removed but in a snapshot (and moved), removed for good, moved to, newest.
const ALBUM: PackId = PackId([0xa1; 16]);
const MOVED: PackId = PackId([0xa2; 16]);
const GONE: PackId = PackId([0xa3; 16]);
const REPACKED: PackId = PackId([0xa4; 16]);
const NEWEST: PackId = PackId([0xa5; 16]);
/// A lease that outlives everybody, and one that has run out: seconds since 1970.
const FAR: u64 = 4_102_444_800;
const PAST: u64 = 1_790_000_100;

type Objects = BTreeMap<String, Vec<u8>>;

pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/museum/v1")
}

/// Writes a library step by step, as a writer would.
struct Maker {
    config: OpenConfig,
    objects: Objects,
    nonces: u32,
    tx: u64,
    /// Not in a segment yet.
    pending: Vec<Tx>,
    /// The last segment: position, name, hash.
    last: (u64, String, Vec<u8>),
    state: BTreeMap<Key, Bytes>,
    since_root: BTreeMap<Key, Option<Bytes>>,
    runs: Vec<Run>,
    shards: u8,
    places: BTreeMap<Vec<u8>, ChunkPlace>,
}

fn set(key: Key, value: &impl Message) -> Op {
    Op { key, value: Some(value.encode_to_vec().into()) }
}

fn remove(key: Key) -> Op {
    Op { key, value: None }
}

fn folder(parent: Ino, entries: u64, folders: u32) -> Inode {
    Inode { nlink: 2 + folders, parent: parent.0, entries, ..inode(0o40755, 0) }
}

impl Maker {
    fn new(master: &str) -> Self {
        let mut dice = blake3::Hasher::new().update(master.as_bytes()).finalize_xof();
        let cost = Argon2Cost { memory_kib: 1024, passes: 2, lanes: 2 };
        let secret = Secret::passphrase(PASSPHRASE).unwrap();
        let config = OpenConfig::create(&secret, "passphrase", cost, at(0), &mut |out| dice.fill(out)).unwrap();
        let objects = [Nonce([0xd1; 8]), Nonce([0xd2; 8])].map(|nonce| config.seal(nonce));
        Self {
            config,
            objects: objects.into(),
            nonces: 0,
            tx: 0,
            pending: Vec::new(),
            last: Default::default(),
            state: BTreeMap::new(),
            since_root: BTreeMap::new(),
            runs: Vec::new(),
            shards: 0,
            places: BTreeMap::new(),
        }
    }

    fn keys(&self) -> Keys {
        self.config.keys().clone()
    }

    fn nonce(&mut self) -> [u8; 12] {
        self.nonces += 1;
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.nonces.to_le_bytes());
        nonce
    }

    fn tx(&mut self, ops: Vec<Op>) {
        self.tx += 1;
        for op in &ops {
            match &op.value {
                Some(value) => _ = self.state.insert(op.key.clone(), value.clone()),
                None => _ = self.state.remove(&op.key),
            }
            self.since_root.insert(op.key.clone(), op.value.clone());
        }
        self.pending.push(Tx { seq: self.tx, time: at(self.tx as i64), ops, next_ino: 30, totals: self.totals() });
    }

    fn totals(&self) -> Totals {
        Totals { inodes: self.state.keys().filter(|key| record::is_inode(key)).count() as u64, ..Totals::default() }
    }

    /// Sends what is pending.
    fn segment(&mut self, epoch: u64, nonce: Nonce, packs: &[PackId]) {
        let (lsn, previous, hash) = self.last.clone();
        let segment = Segment {
            lsn: lsn + 1,
            epoch,
            nonce: nonce.0.into(),
            previous,
            previous_hash: hash,
            packs: packs.iter().map(|pack| pack.0.to_vec()).collect(),
            txs: std::mem::take(&mut self.pending),
            sealed_at: at(self.tx as i64).seconds * 1_000_000_000,
        };
        let object = segment.seal(&self.keys(), self.nonce()).unwrap();
        let name = segment.name().unwrap();
        self.last = (lsn + 1, name.clone(), blake3::hash(&object).as_bytes().to_vec());
        self.objects.insert(name, object);
    }

    fn shard(&mut self, records: &[(Key, Option<Bytes>)]) -> ShardRef {
        self.shards += 1;
        let id = ShardId([0xb0 + self.shards; 16]);
        let mut writer = ShardWriter::new(&self.keys(), id);
        records.iter().for_each(|(key, value)| writer.push(key, value, || self.nonce()));
        let shard = writer.finish(|| self.nonce()).unwrap();
        self.objects.insert(layout::shard(id), shard.object.to_vec());
        ShardRef {
            id: id.0.into(),
            bytes: shard.object.len() as u64,
            first: shard.first,
            last: shard.last,
            records: shard.records,
            hash: blake3::hash(&shard.object).as_bytes().to_vec(),
        }
    }

    /// A root after all that is sent: a run of what changed over the runs there are, or `anew` all in one run of two
    /// shards, inodes and the rest.
    fn root(&mut self, seq: u64, epoch: u64, nonce: Nonce, anew: bool) -> String {
        if anew {
            let all: Vec<_> = self.state.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
            let middle = all.partition_point(|(key, _)| key[0] < 0x20);
            self.runs = vec![Run { shards: vec![self.shard(&all[..middle]), self.shard(&all[middle..])] }];
        } else {
            let changed: Vec<_> = self.since_root.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            let run = Run { shards: vec![self.shard(&changed)] };
            self.runs.insert(0, run);
        }
        self.since_root.clear();
        let (lsn, segment, segment_hash) = self.last.clone();
        let root = Root {
            seq,
            epoch,
            nonce: nonce.0.into(),
            lsn,
            segment,
            segment_hash,
            tx: self.tx,
            made: at(self.tx as i64),
            runs: self.runs.clone(),
            next_ino: 30,
            totals: self.totals(),
        };
        let object = root.seal(&self.keys(), self.nonce()).unwrap();
        self.objects.insert(root.name().unwrap(), object);
        root.name().unwrap()
    }

    /// A pack; returns the records that say so.
    fn pack(&mut self, id: PackId, chunks: &[Vec<u8>]) -> Vec<Op> {
        let keys = self.keys();
        let (mut sealer, head) = pack::begin(&keys, id);
        let mut object = head.to_vec();
        let mut footer = pack::PackFooter::default();
        let mut ops = Vec::new();
        for plain in chunks {
            let part = sealer.append(self.nonce(), plain, &mut object);
            let chunk = keys.chunk_id(plain);
            let place = ChunkPlace::new(id, part, plain.len() as u32);
            footer.chunks.push(pack::PackedChunk {
                id: chunk.0.to_vec(),
                offset: part.offset,
                len: part.len,
                plain_len: plain.len() as u32,
            });
            ops.push(set(record::chunk_key(chunk), &place));
            self.places.insert(plain.clone(), place);
        }
        sealer.finish(self.nonce(), &footer.encode_to_vec(), &mut object);
        let info = PackInfo { bytes: object.len() as u64, chunks: chunks.len() as u32, made: at(4).seconds };
        ops.push(set(record::pack_key(id), &info));
        self.objects.insert(layout::pack(id), object);
        ops
    }

    fn entry(&self, parent: Ino, name: &str, ino: Ino, kind: u32) -> Op {
        let entry = Entry { name: Bytes::copy_from_slice(name.as_bytes()), ino: ino.0, kind };
        set(self.entry_key(parent, name), &entry)
    }

    fn entry_key(&self, parent: Ino, name: &str) -> Key {
        record::entry_key(parent, record::cookie_range(self.keys().name_hash(parent, name.as_bytes())).start)
    }

    fn extent(&self, ino: Ino, offset: u64, plain: &[u8]) -> Op {
        let extent = Extent {
            len: plain.len() as u64,
            chunk: Bytes::copy_from_slice(&self.keys().chunk_id(plain).0),
            skip: 0,
            place: Some(self.places[plain].clone()),
        };
        set(record::extent_key(ino, offset), &extent)
    }

    fn claim(&mut self, epoch: u64, nonce: Nonce) {
        let (lsn, segment, _) = self.last.clone();
        let host = format!("host{epoch}");
        let claim = Claim {
            epoch,
            nonce: nonce.0.into(),
            host,
            time: at(self.tx as i64),
            lsn,
            segment,
            version: "0.1.0".into(),
        };
        let object = claim.seal(&self.keys(), self.nonce()).unwrap();
        self.objects.insert(claim.name().unwrap(), object);
    }

    fn lease(&mut self, until: u64, root: &str) {
        let lease = Lease {
            until,
            nonce: FIRST.0.into(),
            host: "reader".into(),
            purpose: "mount".into(),
            time: at(50),
            root: root.into(),
        };
        let object = lease.seal(&self.keys(), self.nonce()).unwrap();
        self.objects.insert(lease.name().unwrap(), object);
    }
}

const YEAR_26: Ino = Ino(16);
const YEAR_27: Ino = Ino(17);
const PHOTO: Ino = Ino(18);
const SIDECAR: Ino = Ino(19);
const LINK: Ino = Ino(20);
const SECOND_PHOTO: Ino = Ino(21);
const THIRD_PHOTO: Ino = Ino(22);
const FOURTH_PHOTO: Ino = Ino(23);

/// The library before anything happened to it: photos, a sidecar and links in two folders; one photo that only a
/// snapshot has, its chunk moved to another pack since; one removed for good, on record as dead; a second snapshot,
/// younger than the newest root; a log with a lost side branch; leases, claims, a standing.
fn whole() -> Objects {
    let mut maker = Maker::new("museum");
    let halves = [noise("first half", 3000), noise("second half", 2000)];
    let text = b"<x:xmpmeta><rdf:li>Holiday</rdf:li></x:xmpmeta>\n".repeat(40);
    let [second, third, fourth] = ["second", "third", "fourth"].map(|label| noise(label, 2500));

    maker.claim(1, FIRST);
    let mut ops = maker.pack(ALBUM, &[halves[0].clone(), halves[1].clone(), text.clone()]);
    ops.extend([
        set(record::inode_key(Ino::ROOT), &folder(Ino::ROOT, 1, 1)),
        maker.entry(Ino::ROOT, "2026", YEAR_26, 4),
        set(record::inode_key(YEAR_26), &folder(Ino::ROOT, 3, 0)),
        maker.entry(YEAR_26, "IMG_0001.JPG", PHOTO, 8),
        maker.entry(YEAR_26, "IMG_0001.JPG.xmp", SIDECAR, 8),
        maker.entry(YEAR_26, "Titelbild \u{fc}", LINK, 10),
        set(record::inode_key(PHOTO), &inode(0o100644, 6000)),
        maker.extent(PHOTO, 0, &halves[0]),
        maker.extent(PHOTO, 4000, &halves[1]),
        set(record::inode_key(SIDECAR), &Inode { xattrs: 1, ..inode(0o100600, text.len() as u64) }),
        maker.extent(SIDECAR, 0, &text),
        Op { key: record::xattr_key(SIDECAR, b"user.tag"), value: Some(Bytes::from_static(b"beach")) },
        set(record::inode_key(LINK), &Inode { target: Bytes::from_static(b"IMG_0001.JPG"), ..inode(0o120777, 12) }),
    ]);
    maker.tx(ops);
    maker.segment(1, FIRST, &[ALBUM]);

    let mut ops = maker.pack(MOVED, std::slice::from_ref(&second));
    ops.extend([
        set(record::inode_key(Ino::ROOT), &folder(Ino::ROOT, 2, 2)),
        maker.entry(Ino::ROOT, "2027", YEAR_27, 4),
        set(record::inode_key(YEAR_27), &folder(Ino::ROOT, 2, 0)),
        maker.entry(YEAR_27, "again.jpg", PHOTO, 8),
        set(record::inode_key(PHOTO), &Inode { nlink: 2, ..inode(0o100644, 6000) }),
        maker.entry(YEAR_27, "IMG_0002.JPG", SECOND_PHOTO, 8),
        set(record::inode_key(SECOND_PHOTO), &inode(0o100644, 2500)),
        maker.extent(SECOND_PHOTO, 0, &second),
    ]);
    maker.tx(ops);
    let spring = Snapshot {
        seq: 3,
        taken: at(3),
        note: "before the move".into(),
        host: "host1".into(),
        by: "haven snapshot create".into(),
        ..Snapshot::default()
    };
    maker.tx(vec![set(record::snapshot_key(b"spring"), &spring)]);
    maker.segment(1, FIRST, &[MOVED]);
    let root = maker.root(1, 1, FIRST, true);

    maker.tx(vec![set(record::snapshot_key(b"spring"), &Snapshot { root, ..spring })]);
    maker.tx(vec![
        remove(maker.entry_key(YEAR_27, "IMG_0002.JPG")),
        remove(record::inode_key(SECOND_PHOTO)),
        remove(record::extent_key(SECOND_PHOTO, 0)),
        set(record::inode_key(YEAR_27), &folder(Ino::ROOT, 1, 0)),
    ]);
    let mut ops = maker.pack(GONE, std::slice::from_ref(&third));
    ops.extend([
        maker.entry(YEAR_27, "IMG_0003.JPG", THIRD_PHOTO, 8),
        set(record::inode_key(YEAR_27), &folder(Ino::ROOT, 2, 0)),
        set(record::inode_key(THIRD_PHOTO), &inode(0o100644, 2500)),
        maker.extent(THIRD_PHOTO, 0, &third),
    ]);
    maker.tx(ops);
    maker.segment(1, FIRST, &[GONE]);
    maker.tx(vec![
        remove(maker.entry_key(YEAR_27, "IMG_0003.JPG")),
        remove(record::inode_key(THIRD_PHOTO)),
        remove(record::extent_key(THIRD_PHOTO, 0)),
        set(record::inode_key(YEAR_27), &folder(Ino::ROOT, 1, 0)),
        Op { key: record::xattr_key(SIDECAR, b"user.tag"), value: Some(Bytes::from_static(b"mountains")) },
    ]);
    maker.segment(1, FIRST, &[]);
    let leased = maker.root(2, 1, FIRST, false);

    // What a garbage collection would have done.
    let mut ops = maker.pack(REPACKED, std::slice::from_ref(&second));
    let dead = |since: i64, bytes: usize| Dead { since: at(since).seconds, bytes: bytes as u64, ..Dead::default() };
    let (moved, gone) = (layout::pack(MOVED), layout::pack(GONE));
    ops.extend([
        remove(record::pack_key(MOVED)),
        remove(record::pack_key(GONE)),
        remove(record::chunk_key(maker.keys().chunk_id(&third))),
        set(
            record::dead_key(&moved),
            &Dead { moved: true, gone: at(9).seconds, ..dead(8, maker.objects[&moved].len()) },
        ),
        set(record::dead_key(&gone), &dead(8, maker.objects[&gone].len())),
        set(record::dead_key(layout::SEGMENTS), &Dead { below: 3, ..dead(8, 0) }),
        set(record::collection_key(), &Collection { at: at(8), ..Collection::default() }),
    ]);
    maker.tx(ops);
    maker.objects.remove(&moved);
    maker.segment(1, FIRST, &[REPACKED]);
    maker.root(3, 1, FIRST, true);

    // Another machine takes over; what the first one still sends is no history.
    maker.claim(2, SECOND);
    let before = (maker.tx, maker.last.clone(), maker.state.clone(), maker.since_root.clone());
    maker.tx(vec![Op {
        key: record::xattr_key(SIDECAR, b"user.tag"),
        value: Some(Bytes::from_static(b"never happened")),
    }]);
    maker.segment(1, FIRST, &[]);
    (maker.tx, maker.last, maker.state, maker.since_root) = before;
    let mut ops = maker.pack(NEWEST, std::slice::from_ref(&fourth));
    ops.extend([
        maker.entry(YEAR_27, "IMG_0004.JPG", FOURTH_PHOTO, 8),
        set(record::inode_key(YEAR_27), &folder(Ino::ROOT, 2, 0)),
        set(record::inode_key(FOURTH_PHOTO), &inode(0o100644, 2500)),
        maker.extent(FOURTH_PHOTO, 0, &fourth),
    ]);
    maker.tx(ops);
    maker.segment(2, SECOND, &[NEWEST]);
    let summer = Snapshot {
        seq: 10,
        taken: at(10),
        host: "host2".into(),
        by: "nightly".into(),
        protected_until: FAR as i64,
        ..Snapshot::default()
    };
    maker.tx(vec![set(record::snapshot_key(b"summer"), &summer)]);
    maker.tx(vec![
        remove(maker.entry_key(YEAR_26, "IMG_0001.JPG.xmp")),
        maker.entry(YEAR_26, "IMG_0001.xmp", SIDECAR, 8),
        Op { key: record::xattr_key(SIDECAR, b"user.tag"), value: Some(Bytes::from_static(b"sea")) },
    ]);
    maker.segment(2, SECOND, &[]);
    maker.lease(FAR, &leased);
    maker.lease(PAST, "");
    let standing =
        Standing { seq: 1, nonce: SECOND.0.into(), role: Role::Library.into(), time: at(12), ..Standing::default() };
    let object = standing.seal(&maker.keys(), maker.nonce()).unwrap();
    maker.objects.insert(standing.name().unwrap(), object);
    maker.objects
}

fn write(top: &Path, objects: &Objects) {
    for (name, object) in objects {
        let path = top.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, object).unwrap();
    }
}

/// Writes what `harm` makes of the library, as what is different.
fn write_exhibit(top: &Path, harm: Harm) {
    let whole = whole();
    let mut objects = whole.clone();
    harm(&mut objects);
    let lost: String =
        whole.keys().filter(|name| !objects.contains_key(*name)).map(|name| format!("{name}\n")).collect();
    objects.retain(|name, object| whole.get(name) != Some(object));
    write(&top.join("changed"), &objects);
    if !lost.is_empty() {
        write(top, &BTreeMap::from([("lost".to_owned(), lost.into_bytes())]));
    }
}

#[test]
fn every_exhibit_is_there() {
    let wanted: BTreeSet<String> = EXHIBITS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(wanted.len(), EXHIBITS.len(), "a name is given twice");
    let exhibit = |name: &str| directory().join(name);
    if std::env::var_os("HAVEN_WRITE_GOLDEN").is_some() {
        if !exhibit("whole").exists() {
            write(&exhibit("whole"), &whole());
        }
        for (name, harm) in EXHIBITS.iter().filter(|(name, _)| !exhibit(name).exists()) {
            write_exhibit(&exhibit(name), *harm);
        }
    }
    let on_disk = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(on_disk.filter(|name| name != "whole").collect::<BTreeSet<_>>(), wanted);
}
