//! Secrets that unlock a library, and the slots that hold the master key wrapped for each.
//! ```text
//!     passphrase ──Argon2id(salt)──▶ ┐
//!     key file   ──derive──────────▶ ├─ 32 bytes ──derive with kind and salt──▶ slot key ──AES-256-GCM──▶ master key
//!     recovery key (256 bits) ─────▶ ┘
//! ```
//! Every slot wraps the same master key, so secrets come and go without a byte of data being written again.

pub mod kit;
pub mod slot;
pub mod words;

use zeroize::{Zeroize, Zeroizing};

pub use slot::{Argon2Cost, Slot, SlotKind};
pub use words::{RecoveryKey, WordsError};

/// Fewer bytes than this can't hold a key that nobody guesses.
pub const KEY_FILE_MIN: usize = 32;

const KEY_FILE_CONTEXT: &str = "haven 2026-11 key file";
const SLOT_CONTEXT: &str = "haven 2026-11 slot key";

/// What a person or a machine holds to unlock a library. Prints nothing of itself.
#[derive(Clone)]
pub enum Secret {
    Passphrase(Passphrase),
    KeyFile(KeyFile),
    Recovery(RecoveryKey),
}

/// Bytes that somebody chose: never empty.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

/// What became of the content of a key file.
#[derive(Clone)]
pub struct KeyFile(Zeroizing<[u8; 32]>);

/// Why something can't be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    #[error("the key file has {found} bytes; at least {KEY_FILE_MIN} are needed")]
    ShortKeyFile { found: usize },
    #[error(transparent)]
    Words(#[from] WordsError),
}

impl Secret {
    /// A passphrase, taken byte for byte: nothing is trimmed or normalised here.
    pub fn passphrase(bytes: impl Into<Vec<u8>>) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(bytes.into());
        if bytes.is_empty() {
            return Err(SecretError::EmptyPassphrase);
        }
        Ok(Self::Passphrase(Passphrase(bytes)))
    }

    /// The whole content of a key file: any bytes, at least [`KEY_FILE_MIN`], as hard to guess as a key must be.
    pub fn key_file(content: &[u8]) -> Result<Self, SecretError> {
        if content.len() < KEY_FILE_MIN {
            return Err(SecretError::ShortKeyFile { found: content.len() });
        }
        Ok(Self::KeyFile(KeyFile(Zeroizing::new(blake3::derive_key(KEY_FILE_CONTEXT, content)))))
    }

    /// A recovery key as it was written down; see [`RecoveryKey::parse`].
    pub fn recovery(text: &str) -> Result<Self, SecretError> {
        Ok(Self::Recovery(RecoveryKey::parse(text)?))
    }

    /// The slots this secret may open.
    pub fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::KeyFile(_) => SlotKind::KeyFile,
            Self::Recovery(_) => SlotKind::Recovery,
        }
    }

    /// The key of a slot. `cost` counts for passphrases only: the other secrets can't be guessed at any speed.
    fn slot_key(&self, salt: &[u8], cost: Argon2Cost) -> Result<Zeroizing<[u8; 32]>, slot::CostError> {
        let mut seed = match self {
            Self::Passphrase(passphrase) => cost.stretch(&passphrase.0, salt)?,
            Self::KeyFile(file) => *file.0,
            Self::Recovery(key) => *key.bytes(),
        };
        let mut hasher = blake3::Hasher::new_derive_key(SLOT_CONTEXT);
        hasher.update(&[self.kind() as u8]).update(salt).update(&seed);
        seed.zeroize();
        Ok(Zeroizing::new(*hasher.finalize().as_bytes()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.kind().word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_nothing_of_itself() {
        let secrets = [
            Secret::passphrase("correct horse").unwrap(),
            Secret::key_file(&[b'k'; 40]).unwrap(),
            Secret::Recovery(RecoveryKey::new([7; 32])),
        ];
        let printed = secrets.map(|secret| format!("{secret:?}"));
        assert_eq!(printed, ["Secret(passphrase)", "Secret(key file)", "Secret(recovery key)"]);
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused() {
        assert_eq!(Secret::passphrase("").unwrap_err(), SecretError::EmptyPassphrase);
        assert_eq!(Secret::key_file(&[1; 31]).unwrap_err(), SecretError::ShortKeyFile { found: 31 });
    }
}
