//! One way into the library: the master key, wrapped for one secret.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce as AeadNonce, UnboundKey};
use prost::Message;
use zeroize::{Zeroize, Zeroizing};

use super::Secret;
use crate::{FormatError, LibraryId, MasterKey, crypto::NONCE_LEN, record::Time};

pub const SALT_LEN: usize = 16;
/// A master key and the tag of its seal.
const WRAPPED_LEN: usize = 32 + 16;

/// How a slot is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SlotKind {
    Unknown = 0,
    Passphrase = 1,
    KeyFile = 2,
    Recovery = 3,
}

impl SlotKind {
    /// What to call it in a message.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "key of an unknown kind",
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key file",
            Self::Recovery => "recovery key",
        }
    }
}

/// The work one guess at a passphrase costs. In the slot, so that it can be raised with a new passphrase.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Argon2Cost {
    /// Memory in KiB.
    #[prost(uint32, tag = "1")]
    pub memory_kib: u32,
    /// Passes over the memory.
    #[prost(uint32, tag = "2")]
    pub passes: u32,
    #[prost(uint32, tag = "3")]
    pub lanes: u32,
}

/// A cost that is read from the store and not believed: it would take the machine down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key slot asks for {memory_kib} KiB of memory, {passes} passes, {lanes} lanes of Argon2id")]
pub struct CostError {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Argon2Cost {
    /// RFC 9106, section 4, second recommended option: 64 MiB, 3 passes, 4 lanes.
    pub const RECOMMENDED: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 4 };
    /// The most that is believed: 1 GiB.
    pub const MEMORY_KIB_MAX: u32 = 1 << 20;
    pub const PASSES_MAX: u32 = 32;
    pub const LANES_MAX: u32 = 16;

    pub(super) fn stretch(self, passphrase: &[u8], salt: &[u8]) -> Result<[u8; 32], CostError> {
        let Self { memory_kib, passes, lanes } = self;
        let refused = CostError { memory_kib, passes, lanes };
        if memory_kib > Self::MEMORY_KIB_MAX || passes > Self::PASSES_MAX || lanes > Self::LANES_MAX {
            return Err(refused);
        }
        let params = argon2::Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| refused)?;
        let mut out = [0; 32];
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .hash_password_into(passphrase, salt, &mut out)
            .map_err(|_| refused)?;
        Ok(out)
    }
}

/// The master key, wrapped for one secret. What is in it may be shown to anybody.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Slot {
    /// Counts up from 1 within a library; never used again.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(enumeration = "SlotKind", tag = "2")]
    pub kind: i32,
    /// What its owner calls it.
    #[prost(string, tag = "3")]
    pub label: String,
    #[prost(message, required, tag = "4")]
    pub created: Time,
    /// For passphrases; absent in the other kinds.
    #[prost(message, optional, tag = "5")]
    pub cost: Option<Argon2Cost>,
    #[prost(bytes = "vec", tag = "6")]
    pub salt: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    pub nonce: Vec<u8>,
    /// The sealed master key.
    #[prost(bytes = "vec", tag = "8")]
    pub wrapped: Vec<u8>,
}

/// Fills the bytes it is given with randomness that nobody can foresee.
pub type Dice<'a> = &'a mut dyn FnMut(&mut [u8]);

impl Slot {
    /// Wraps `master` for `secret`.
    pub(crate) fn wrap(
        id: u32,
        (library, master): (LibraryId, &MasterKey),
        secret: &Secret,
        cost: Argon2Cost,
        label: &str,
        created: Time,
        dice: Dice<'_>,
    ) -> Result<Self, CostError> {
        let mut salt = vec![0; SALT_LEN];
        let mut nonce = vec![0; NONCE_LEN];
        dice(&mut salt);
        dice(&mut nonce);
        let kind = secret.kind();
        let key = cipher(&*secret.slot_key(&salt, cost)?);
        let mut wrapped = master.0.to_vec();
        key.seal_in_place_append_tag(nonce_of(&nonce).expect("just made"), aad(library, id, kind), &mut wrapped)
            .expect("32 bytes are below the cipher's length limit");
        Ok(Self {
            id,
            kind: kind as i32,
            label: label.to_owned(),
            created,
            cost: (kind == SlotKind::Passphrase).then_some(cost),
            salt,
            nonce,
            wrapped,
        })
    }

    /// The master key, or `None` if the secret is another.
    pub(crate) fn unwrap(&self, library: LibraryId, secret: &Secret) -> Result<Option<MasterKey>, CostError> {
        let key = cipher(&*secret.slot_key(&self.salt, self.cost.unwrap_or_default())?);
        let Some(nonce) = nonce_of(&self.nonce) else { return Ok(None) };
        let mut buffer = Zeroizing::new(self.wrapped.clone());
        let Ok(plain) = key.open_in_place(nonce, aad(library, self.id, self.kind()), &mut buffer) else {
            return Ok(None);
        };
        let mut bytes: [u8; 32] = plain.try_into().expect("its length was checked when the slot was read");
        let master = MasterKey(bytes);
        bytes.zeroize();
        Ok(Some(master))
    }

    /// Whether all parts have the length they must have.
    pub(crate) fn check(&self) -> Result<(), FormatError> {
        let lengths = [(self.salt.len(), SALT_LEN), (self.nonce.len(), NONCE_LEN), (self.wrapped.len(), WRAPPED_LEN)];
        if self.id == 0 || lengths.iter().any(|(found, wanted)| found != wanted) {
            return Err(FormatError::Malformed("a key slot has parts of other lengths"));
        }
        if self.kind() == SlotKind::Passphrase && self.cost.is_none() {
            return Err(FormatError::Malformed("a passphrase slot does not say what it costs"));
        }
        Ok(())
    }
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes any 32 bytes"))
}

fn nonce_of(bytes: &[u8]) -> Option<AeadNonce> {
    AeadNonce::try_assume_unique_for_key(bytes).ok()
}

fn aad(library: LibraryId, id: u32, kind: SlotKind) -> Aad<Vec<u8>> {
    let mut aad = library.0.to_vec();
    aad.extend_from_slice(&id.to_le_bytes());
    aad.push(kind as u8);
    Aad::from(aad)
}
