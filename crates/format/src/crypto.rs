//! Keys, seal and open.
//!
//! One master key a library; everything else is derived from it by BLAKE3:
//! ```text
//!     master ──derive──▶ hash key    (keyed BLAKE3: the ids of chunks)
//!            ──derive──▶ name key    (keyed BLAKE3: where names stand in a directory)
//!            ──derive──▶ report key  (keyed BLAKE3: that a drill's report is ours)
//!            ──derive──▶ object root ──keyed by object name──▶ one AES-256-GCM key for each object
//! ```
//! A seal binds the library, the object's name and the place inside the object: bytes moved elsewhere do not open.
//! Nonces are random and stored, so sealing the same place twice (after a crash) is harmless.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce as AeadNonce, UnboundKey};
use bytes::Bytes;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{ChunkId, FormatError, Ino, LibraryId};

/// Bytes of a nonce, stored before the sealed bytes.
pub const NONCE_LEN: usize = 12;
/// Bytes of the tag, stored after the sealed bytes.
pub const TAG_LEN: usize = 16;
/// How much longer a seal is than what is in it.
pub const SEAL_OVERHEAD: usize = NONCE_LEN + TAG_LEN;

const HASH_CONTEXT: &str = "haven 2026-11 chunk id";
const NAME_CONTEXT: &str = "haven 2026-11 directory name";
const OBJECT_CONTEXT: &str = "haven 2026-11 object key";
const CONFIG_CONTEXT: &str = "haven 2026-11 config tag";
const REPORT_CONTEXT: &str = "haven 2026-11 drill report";

/// The secret of a library: 256 random bits, made at init, never stored in the clear.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey(pub [u8; 32]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// What an unlocked library can do: hash, seal and open. Prints nothing of itself.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Keys {
    #[zeroize(skip)]
    library: LibraryId,
    hash: [u8; 32],
    name: [u8; 32],
    object: [u8; 32],
    config: [u8; 32],
    report: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.library)
    }
}

impl Keys {
    pub fn new(library: LibraryId, master: &MasterKey) -> Self {
        Self {
            library,
            hash: blake3::derive_key(HASH_CONTEXT, &master.0),
            name: blake3::derive_key(NAME_CONTEXT, &master.0),
            object: blake3::derive_key(OBJECT_CONTEXT, &master.0),
            config: blake3::derive_key(CONFIG_CONTEXT, &master.0),
            report: blake3::derive_key(REPORT_CONTEXT, &master.0),
        }
    }

    pub fn library(&self) -> LibraryId {
        self.library
    }

    /// The id of a chunk with these plain bytes.
    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.hash, plain).as_bytes())
    }

    /// 54 bits that say where `name` stands in directory `parent` (see [`crate::record::cookie_range`]).
    pub fn name_hash(&self, parent: Ino, name: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.name);
        hasher.update(&parent.0.to_be_bytes()).update(name);
        let mut word = [0; 8];
        word.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_be_bytes(word) >> 10
    }

    /// A tag over the unsealed configuration object, so that only a holder of the master key can make one.
    pub fn config_tag(&self, bytes: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.config, bytes).as_bytes()
    }

    /// A tag over the report of a drill, so that only a holder of the master key can make one.
    pub fn report_tag(&self, bytes: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.report, bytes).as_bytes()
    }

    /// The key of the object called `name` (its name in the bucket, without the library's prefix).
    pub fn object(&self, name: &str) -> ObjectKey {
        let mut secret = *blake3::keyed_hash(&self.object, name.as_bytes()).as_bytes();
        let unbound = UnboundKey::new(&AES_256_GCM, &secret).expect("AES-256 takes any 32 bytes");
        secret.zeroize();
        let mut aad = Vec::with_capacity(LibraryId::LEN + 2 + name.len() + 8);
        aad.extend_from_slice(&self.library.0);
        aad.extend_from_slice(&(name.len() as u16).to_le_bytes());
        aad.extend_from_slice(name.as_bytes());
        ObjectKey { key: LessSafeKey::new(unbound), aad }
    }
}

/// Seals and opens the parts of one object.
pub struct ObjectKey {
    key: LessSafeKey,
    aad: Vec<u8>,
}

impl std::fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectKey(..)")
    }
}

impl ObjectKey {
    fn aad(&self, index: u64) -> Aad<Vec<u8>> {
        let mut aad = self.aad.clone();
        aad.extend_from_slice(&index.to_le_bytes());
        Aad::from(aad)
    }

    /// Appends `nonce ‖ ciphertext ‖ tag` of `plain` to `out`. `index` is the part's place in the object.
    pub fn seal(&self, index: u64, nonce: [u8; NONCE_LEN], plain: &[u8], out: &mut Vec<u8>) {
        self.seal_runs(index, nonce, &[plain], out);
    }

    /// The same for plain bytes that lie in several runs.
    pub fn seal_runs(&self, index: u64, nonce: [u8; NONCE_LEN], plain: &[&[u8]], out: &mut Vec<u8>) {
        out.reserve(plain.iter().map(|run| run.len()).sum::<usize>() + SEAL_OVERHEAD);
        out.extend_from_slice(&nonce);
        let start = out.len();
        plain.iter().for_each(|run| out.extend_from_slice(run));
        let tag = self
            .key
            .seal_in_place_separate_tag(AeadNonce::assume_unique_for_key(nonce), self.aad(index), &mut out[start..])
            .expect("a part is far below the cipher's length limit");
        out.extend_from_slice(tag.as_ref());
    }

    /// The plain bytes of a part sealed by [`ObjectKey::seal`] at the same index of the same object.
    pub fn open(&self, index: u64, sealed: &[u8]) -> Result<Vec<u8>, FormatError> {
        self.open_owned(index, sealed.to_vec()).map(Vec::from)
    }

    /// The same into `plain`, whose memory is used again and again and whose former content is lost: a pack is opened part by
    /// part without a copy of each.
    pub fn open_into(&self, index: u64, sealed: &[u8], plain: &mut Vec<u8>) -> Result<(), FormatError> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(FormatError::Seal)?;
        let length = rest.len().checked_sub(SEAL_OVERHEAD - NONCE_LEN).ok_or(FormatError::Seal)?;
        let (text, tag) = rest.split_at(length);
        let nonce = AeadNonce::try_assume_unique_for_key(nonce).map_err(|_| FormatError::Seal)?;
        plain.resize(length, 0);
        let opened = self.key.open_separate_gather(nonce, self.aad(index), text, tag, plain);
        opened.map_err(|_| FormatError::Seal)
    }

    /// The same in the memory of the sealed bytes.
    pub fn open_owned(&self, index: u64, mut sealed: Vec<u8>) -> Result<Bytes, FormatError> {
        if sealed.len() < SEAL_OVERHEAD {
            return Err(FormatError::Seal);
        }
        let (nonce, rest) = sealed.split_at_mut(NONCE_LEN);
        let nonce = AeadNonce::try_assume_unique_for_key(nonce).map_err(|_| FormatError::Seal)?;
        let length = self.key.open_in_place(nonce, self.aad(index), rest).map_err(|_| FormatError::Seal)?.len();
        Ok(Bytes::from(sealed).slice(NONCE_LEN..NONCE_LEN + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new(LibraryId([1; 16]), &MasterKey([2; 32]))
    }

    #[test]
    fn used_memory_takes_the_next_part_whole() {
        let key = keys().object("p/aa/bb");
        let mut plain = Vec::new();
        for (index, content) in
            [(8, &b"a long part of it"[..]), (9, b"photo"), (10, b""), (11, b"and a longer one again")]
        {
            let mut sealed = Vec::new();
            key.seal(index, [3; 12], content, &mut sealed);
            key.open_into(index, &sealed, &mut plain).unwrap();
            assert_eq!(plain, content);
            assert_eq!(key.open_into(index + 1, &sealed, &mut plain), Err(FormatError::Seal));
            *sealed.last_mut().unwrap() ^= 1;
            assert_eq!(key.open_into(index, &sealed, &mut plain), Err(FormatError::Seal));
            assert_eq!(key.open_into(index, &sealed[..SEAL_OVERHEAD - 1], &mut plain), Err(FormatError::Seal));
        }
    }

    #[test]
    fn a_seal_opens_only_in_its_own_place() {
        let mut sealed = Vec::new();
        keys().object("p/aa/bb").seal(8, [3; 12], b"photo", &mut sealed);
        assert_eq!(keys().object("p/aa/bb").open(8, &sealed).unwrap(), b"photo");
        assert_eq!(keys().object("p/aa/bb").open(9, &sealed), Err(FormatError::Seal));
        assert_eq!(keys().object("p/aa/bc").open(8, &sealed), Err(FormatError::Seal));
        let other = Keys::new(LibraryId([9; 16]), &MasterKey([2; 32]));
        assert_eq!(other.object("p/aa/bb").open(8, &sealed), Err(FormatError::Seal));
    }

    #[test]
    fn any_flipped_bit_breaks_the_seal() {
        let mut sealed = Vec::new();
        keys().object("x").seal(0, [7; 12], b"abc", &mut sealed);
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys().object("x").open(0, &damaged), Err(FormatError::Seal));
        }
    }
}
