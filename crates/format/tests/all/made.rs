//! How the library in `tests/golden/v1` was made, once, with fixed keys, nonces and times.
//!
//! The files are what counts, not this: a later compressor may pack the same bytes otherwise, and a later format gets
//! a directory of its own. `HAVEN_WRITE_GOLDEN=1 cargo test -p haven-format` writes what is missing, never over anything.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use haven_format::{
    ChunkId, Epoch, Ino, Lsn, Nonce, PackId, ShardId,
    claim::Claim,
    config::OpenConfig,
    keys::{Argon2Cost, RecoveryKey, Secret},
    layout, pack,
    record::{self, ChunkPlace, Entry, Extent, Inode, Key, Op, PackInfo, Snapshot, Time, Totals, Tx},
    root::{Root, Run, ShardRef},
    segment::Segment,
    shard::ShardWriter,
};
use prost::Message;

pub const PASSPHRASE: &str = "golden passphrase";
pub const PACK: PackId = PackId([0xa1; 16]);
pub const SHARD: ShardId = ShardId([0xb2; 16]);
pub const FIRST_WRITER: Nonce = Nonce([0xc1; 8]);
pub const SECOND_WRITER: Nonce = Nonce([0xc2; 8]);

pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

pub fn key_file() -> Secret {
    Secret::key_file(&(0..64).collect::<Vec<u8>>()).unwrap()
}

pub fn recovery_key() -> RecoveryKey {
    RecoveryKey::new([0x5a; 32])
}

pub fn at(seconds: i64) -> Time {
    Time { seconds: 1_790_000_000 + seconds, nanos: 5 }
}

/// Bytes without pattern, the same each time.
pub fn noise(label: &str, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut out);
    out
}

/// A photo of two chunks, and its sidecar of one.
pub fn photo() -> [Vec<u8>; 2] {
    [noise("first half", 3000), noise("second half", 2000)]
}

pub fn sidecar() -> Vec<u8> {
    b"<x:xmpmeta><rdf:li>Holiday</rdf:li></x:xmpmeta>\n".repeat(40)
}

pub fn inode(mode: u32, size: u64) -> Inode {
    Inode {
        mode,
        nlink: 1,
        uid: 1000,
        gid: 1000,
        size,
        allocated: size,
        atime: at(1),
        mtime: at(2),
        ctime: at(3),
        btime: at(0),
        ..Default::default()
    }
}

fn set(key: Key, value: &impl Message) -> Op {
    Op { key, value: Some(value.encode_to_vec().into()) }
}

/// Objects of a bucket: names and contents.
type Objects = Vec<(String, Vec<u8>)>;

fn configuration(mut dice: impl FnMut(&mut [u8])) -> (OpenConfig, Objects) {
    let cost = Argon2Cost { memory_kib: 1024, passes: 2, lanes: 2 };
    let passphrase = Secret::passphrase(PASSPHRASE).unwrap();
    let mut open = OpenConfig::create(&passphrase, "passphrase", cost, at(0), &mut dice).unwrap();
    open.add(&key_file(), "machine", cost, at(0), &mut dice).unwrap();
    open.add(&Secret::Recovery(recovery_key()), "paper", cost, at(0), &mut dice).unwrap();
    let objects = [Nonce([0xd1; 8]), Nonce([0xd2; 8])].map(|nonce| open.seal(nonce));
    (open, objects.into())
}

struct Maker {
    config: OpenConfig,
    objects: Objects,
    nonces: u8,
}

impl Maker {
    fn nonce(&mut self) -> [u8; 12] {
        self.nonces += 1;
        [self.nonces; 12]
    }

    fn keys(&self) -> haven_format::Keys {
        self.config.keys().clone()
    }

    fn claim(&mut self, epoch: u64, nonce: Nonce, lsn: u64, segment: String, time: Time) {
        let host = format!("host{epoch}");
        let claim = Claim { epoch, nonce: nonce.0.into(), host, time, lsn, segment, version: "0.1.0".into() };
        let object = claim.seal(&self.keys(), self.nonce()).unwrap();
        self.objects.push((claim.name().unwrap(), object));
    }

    /// The pack, and where its chunks are.
    fn pack(&mut self) -> Vec<(ChunkId, ChunkPlace)> {
        let keys = self.keys();
        let (mut sealer, head) = pack::begin(&keys, PACK);
        let mut object = head.to_vec();
        let mut footer = pack::PackFooter::default();
        let [first, second] = photo();
        for plain in [first, second, sidecar()] {
            let part = sealer.append(self.nonce(), &plain, &mut object);
            let id = keys.chunk_id(&plain).0.to_vec();
            footer.chunks.push(pack::PackedChunk {
                id,
                offset: part.offset,
                len: part.len,
                plain_len: plain.len() as u32,
            });
        }
        sealer.finish(self.nonce(), &footer.encode_to_vec(), &mut object);
        self.objects.push((layout::pack(PACK), object));
        let place =
            |chunk: &pack::PackedChunk| (chunk.chunk().unwrap(), ChunkPlace::new(PACK, chunk.part(), chunk.plain_len));
        footer.chunks.iter().map(place).collect()
    }

    /// A directory "2026" in the root with a photo, its sidecar and a symlink; the chunks, the pack, a snapshot.
    fn records(&mut self) -> Vec<Op> {
        let keys = self.keys();
        let chunks = self.pack();
        let (folder, picture, xmp, link) = (Ino(16), Ino(17), Ino(18), Ino(19));
        let entry = |parent: Ino, name: &'static str, ino: Ino, kind: u32| {
            let cookie = record::cookie_range(keys.name_hash(parent, name.as_bytes())).start;
            set(record::entry_key(parent, cookie), &Entry { name: Bytes::from(name), ino: ino.0, kind })
        };
        let extent = |ino: Ino, offset: u64, n: usize| {
            let (id, place) = chunks[n].clone();
            let extent = Extent {
                len: place.plain_len.into(),
                chunk: Bytes::copy_from_slice(&id.0),
                skip: 0,
                place: Some(place),
            };
            set(record::extent_key(ino, offset), &extent)
        };
        let directory = |entries| Inode { nlink: 3, parent: 1, entries, ..inode(0o40755, 0) };
        let mut ops = vec![
            set(record::inode_key(Ino::ROOT), &directory(1)),
            entry(Ino::ROOT, "2026", folder, 4),
            set(record::inode_key(folder), &Inode { nlink: 2, ..directory(3) }),
            entry(folder, "IMG_0001.JPG", picture, 8),
            entry(folder, "IMG_0001.JPG.xmp", xmp, 8),
            entry(folder, "Titelbild \u{fc}", link, 10),
            set(record::inode_key(picture), &inode(0o100644, 6000)),
            extent(picture, 0, 0),
            // A hole of 1000 bytes, then the rest.
            extent(picture, 4000, 1),
            set(record::inode_key(xmp), &Inode { xattrs: 1, ..inode(0o100600, chunks[2].1.plain_len.into()) }),
            extent(xmp, 0, 2),
            Op { key: record::xattr_key(xmp, b"user.tag"), value: Some(Bytes::from_static(b"beach")) },
            set(record::inode_key(link), &Inode { target: Bytes::from_static(b"IMG_0001.JPG"), ..inode(0o120777, 12) }),
            set(
                record::pack_key(PACK),
                &PackInfo { bytes: self.objects.last().unwrap().1.len() as u64, chunks: 3, made: at(4).seconds },
            ),
        ];
        ops.extend(chunks.iter().map(|(id, place)| set(record::chunk_key(*id), place)));
        let snapshot = Snapshot {
            seq: 1,
            taken: at(6),
            note: "before the move".into(),
            root: String::new(),
            protected_until: 0,
            host: "host1".into(),
            ..Snapshot::default()
        };
        ops.push(set(record::snapshot_key(b"first"), &snapshot));
        ops
    }

    /// Adds a segment; returns its name and hash.
    fn segment(
        &mut self,
        (lsn, epoch, nonce): (u64, u64, Nonce),
        previous: &(String, Vec<u8>),
        ops: Vec<Op>,
    ) -> (String, Vec<u8>) {
        let packs = if lsn == 1 { vec![PACK.0.to_vec()] } else { vec![] };
        let tx = Tx { seq: lsn, time: at(10 * lsn as i64), ops, next_ino: 20, totals: totals() };
        let (name, hash) = previous.clone();
        let segment = Segment {
            lsn,
            epoch,
            nonce: nonce.0.into(),
            previous: name,
            previous_hash: hash,
            packs,
            txs: vec![tx],
            sealed_at: at(20).seconds * 1_000_000_000,
        };
        let object = segment.seal(&self.keys(), self.nonce()).unwrap();
        let hash = blake3::hash(&object).as_bytes().to_vec();
        self.objects.push((segment.name().unwrap(), object));
        (segment.name().unwrap(), hash)
    }

    fn root(&mut self, mut ops: Vec<Op>, segment: &(String, Vec<u8>)) {
        let keys = self.keys();
        ops.sort_by(|a, b| a.key.cmp(&b.key));
        // Hides nothing here: a run above another may say that a record is gone.
        ops.push(Op { key: record::orphan_key(Ino(15)), value: None });
        let mut writer = ShardWriter::new(&keys, SHARD);
        ops.iter().for_each(|op| writer.push(&op.key, &op.value, || self.nonce()));
        let shard = writer.finish(|| self.nonce()).unwrap();
        let reference = ShardRef {
            id: SHARD.0.into(),
            bytes: shard.object.len() as u64,
            first: shard.first,
            last: shard.last,
            records: shard.records,
            hash: blake3::hash(&shard.object).as_bytes().to_vec(),
        };
        self.objects.push((layout::shard(SHARD), shard.object.to_vec()));
        let root = Root {
            seq: 1,
            epoch: 1,
            nonce: FIRST_WRITER.0.into(),
            lsn: 1,
            segment: segment.0.clone(),
            segment_hash: segment.1.clone(),
            tx: 1,
            made: at(30),
            runs: vec![Run { shards: vec![reference] }],
            next_ino: 20,
            totals: totals(),
        };
        let object = root.seal(&keys, self.nonce()).unwrap();
        self.objects.push((root.name().unwrap(), object));
    }
}

pub fn totals() -> Totals {
    Totals { inodes: 5, file_bytes: 6920, chunks: 3, chunk_bytes: 6920, sealed_bytes: 5200, packs: 1, pack_bytes: 5500 }
}

/// Every object of the golden library.
fn library() -> Objects {
    let mut dice = blake3::Hasher::new().update(b"golden dice").finalize_xof();
    let (config, objects) = configuration(|out| dice.fill(out));
    let mut maker = Maker { config, objects, nonces: 0 };
    maker.claim(1, FIRST_WRITER, 0, String::new(), at(0));
    let records = maker.records();
    let first = maker.segment((1, 1, FIRST_WRITER), &Default::default(), records.clone());
    maker.root(records, &first);
    let tag = |value: &'static str| {
        vec![Op { key: record::xattr_key(Ino(18), b"user.tag"), value: Some(Bytes::from_static(value.as_bytes())) }]
    };
    let second = maker.segment((2, 1, FIRST_WRITER), &first, tag("mountains"));
    // Another machine takes over at 2; what the first one still wrote after that is no history.
    maker.claim(2, SECOND_WRITER, 2, layout::segment(Lsn(2), Epoch(1), FIRST_WRITER), at(40));
    maker.segment((3, 1, FIRST_WRITER), &second, tag("never happened"));
    maker.segment((3, 2, SECOND_WRITER), &second, tag("sea"));
    maker.objects
}

/// Writes what is missing, if that was asked for.
pub fn write_missing() {
    if std::env::var_os("HAVEN_WRITE_GOLDEN").is_none() {
        return;
    }
    for (name, object) in library() {
        let path = directory().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if !path.exists() {
            fs::write(path, object).unwrap();
        }
    }
}
