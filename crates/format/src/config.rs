//! The configuration object: who the library is, and every way to its master key. The only object that is not sealed.
//! ```text
//!     head, 8 bytes ‖ Config message ‖ tag, 32 bytes ‖ check, 8 bytes
//!     tag   = keyed BLAKE3 of head and message under the config key: only a holder of the master key makes one
//!     check = the first 8 bytes of BLAKE3 of all before: tells damage from a wrong passphrase, proves nothing
//! ```
//! Read in two steps that types keep apart: a [`LockedConfig`] is what the store says; an [`OpenConfig`] is what a
//! holder of the master key said. Changing keys makes a new object with the next `seq`; no data is written again.

use prost::Message;

use crate::{
    FormatError, Keys, LibraryId, MasterKey, Nonce,
    envelope::{HEAD_LEN, Kind, VERSION},
    keys::{
        Argon2Cost, Secret, Slot, SlotKind,
        slot::{CostError, Dice},
    },
    layout,
    record::Time,
};

const TAG_LEN: usize = 32;
const CHECK_LEN: usize = 8;
/// A configuration object is never longer, in bytes.
pub const OBJECT_MAX: usize = 256 << 10;
/// More slots are not believed: each passphrase slot costs a try of Argon2id.
pub const SLOTS_MAX: usize = 64;

/// What is in a configuration object.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Config {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub library: Vec<u8>,
    /// The format of everything in the library: [`VERSION`] of its writer.
    #[prost(uint32, tag = "2")]
    pub format: u32,
    #[prost(message, required, tag = "3")]
    pub created: Time,
    /// 1 at init, one more with every change of the slots.
    #[prost(uint64, tag = "4")]
    pub seq: u64,
    /// The nonce in the object's name, 8 bytes.
    #[prost(bytes = "vec", tag = "5")]
    pub nonce: Vec<u8>,
    #[prost(message, repeated, tag = "6")]
    pub slots: Vec<Slot>,
    /// The id of the next slot.
    #[prost(uint32, tag = "7")]
    pub next_slot: u32,
}

/// Why a configuration can't be read, unlocked or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Cut short or altered, as its own check says: no secret is to blame.
    #[error("the configuration object is damaged")]
    Damaged,
    /// A secret opened a slot, and yet what stands around the slots was not written by a holder of the master key.
    #[error("the configuration object was altered by somebody who does not hold the library's key")]
    Forged,
    #[error("no {} is set up for this library", kind.word())]
    NoSlot { kind: SlotKind },
    #[error("this {} does not open the library ({tried} tried)", kind.word())]
    Wrong { kind: SlotKind, tried: usize },
    #[error(transparent)]
    Cost(#[from] CostError),
    #[error("there is no key {id}")]
    UnknownSlot { id: u32 },
    #[error("key {id} is the last one: without it nobody could ever open the library")]
    LastSlot { id: u32 },
    #[error("the library has {SLOTS_MAX} keys, the most it can have")]
    TooManySlots,
}

/// A configuration as found in the store: can be shown, is not believed yet.
#[derive(Debug, Clone)]
pub struct LockedConfig {
    config: Config,
    library: LibraryId,
    signed: Vec<u8>,
    tag: [u8; TAG_LEN],
}

impl LockedConfig {
    /// Reads the object called `name`.
    pub fn parse(name: &str, object: &[u8]) -> Result<Self, ConfigError> {
        Kind::Config.check_head(object)?;
        let length = object.len().checked_sub(TAG_LEN + CHECK_LEN).filter(|&length| length >= HEAD_LEN);
        let (Some(length), true) = (length, object.len() <= OBJECT_MAX) else { return Err(ConfigError::Damaged) };
        let (body, check) = object.split_at(length + TAG_LEN);
        if check_of(body) != check {
            return Err(ConfigError::Damaged);
        }
        let config = Config::decode(&object[HEAD_LEN..length])?;
        if config.format > u32::from(VERSION) {
            let found = u8::try_from(config.format).unwrap_or(u8::MAX);
            return Err(FormatError::Newer { found, known: VERSION }.into());
        }
        if config.name()? != name {
            return Err(FormatError::Malformed("the configuration belongs under another name").into());
        }
        if config.slots.is_empty() || config.slots.len() > SLOTS_MAX {
            return Err(FormatError::Malformed("no or too many key slots").into());
        }
        config.slots.iter().try_for_each(Slot::check)?;
        let library = config.library()?;
        let tag = body[length..].try_into().expect("the tag's length");
        Ok(Self { config, library, signed: object[..length].to_vec(), tag })
    }

    pub fn library(&self) -> LibraryId {
        self.library
    }

    /// What it says. Anybody could have written it.
    pub fn content(&self) -> &Config {
        &self.config
    }

    /// Whether a holder of the master key behind `keys` wrote it.
    pub fn is_by(&self, keys: &Keys) -> bool {
        // Not in constant time: the tag is public, and so is everything it is taken of.
        self.library == keys.library() && keys.config_tag(&self.signed) == self.tag
    }

    /// Tries `secret` on the slots of its kind. Takes a good part of a second for each passphrase slot.
    pub fn unlock(&self, secret: &Secret) -> Result<OpenConfig, ConfigError> {
        let kind = secret.kind();
        let mut tried = 0;
        let mut refused = None;
        for slot in self.config.slots.iter().filter(|slot| slot.kind() == kind) {
            tried += 1;
            match slot.unwrap(self.library, secret) {
                Ok(Some(master)) => return self.believe(master, slot.id),
                Ok(None) => {}
                Err(error) => refused = Some(error),
            }
        }
        match (refused, tried) {
            (Some(error), _) => Err(error.into()),
            (None, 0) => Err(ConfigError::NoSlot { kind }),
            (None, tried) => Err(ConfigError::Wrong { kind, tried }),
        }
    }

    fn believe(&self, master: MasterKey, slot: u32) -> Result<OpenConfig, ConfigError> {
        let keys = Keys::new(self.library, &master);
        if !self.is_by(&keys) {
            return Err(ConfigError::Forged);
        }
        Ok(OpenConfig { config: self.config.clone(), base: self.config.seq, master, keys, slot })
    }
}

/// A configuration that a holder of the master key wrote, with that key.
#[derive(Debug, Clone)]
pub struct OpenConfig {
    config: Config,
    /// The seq it was read with; 0 for a new library.
    base: u64,
    master: MasterKey,
    keys: Keys,
    slot: u32,
}

impl OpenConfig {
    /// A new library with its first slot. Id, master key, salt and nonce come from `dice`.
    pub fn create(
        secret: &Secret,
        label: &str,
        cost: Argon2Cost,
        created: Time,
        dice: Dice<'_>,
    ) -> Result<Self, ConfigError> {
        let mut library = LibraryId([0; 16]);
        let mut master = MasterKey([0; 32]);
        dice(&mut library.0);
        dice(&mut master.0);
        let keys = Keys::new(library, &master);
        let config = Config {
            library: library.0.to_vec(),
            format: u32::from(VERSION),
            created,
            seq: 1,
            nonce: Vec::new(),
            slots: Vec::new(),
            next_slot: 1,
        };
        let mut open = Self { config, base: 0, master, keys, slot: 1 };
        open.add(secret, label, cost, created, dice)?;
        Ok(open)
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn library(&self) -> LibraryId {
        self.keys.library()
    }

    /// The slot that was opened.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    pub fn content(&self) -> &Config {
        &self.config
    }

    /// Lets `secret` open the library too. Returns the new slot's id.
    pub fn add(
        &mut self,
        secret: &Secret,
        label: &str,
        cost: Argon2Cost,
        created: Time,
        dice: Dice<'_>,
    ) -> Result<u32, ConfigError> {
        if self.config.slots.len() >= SLOTS_MAX {
            return Err(ConfigError::TooManySlots);
        }
        let id = self.config.next_slot;
        let slot = Slot::wrap(id, (self.library(), &self.master), secret, cost, label, created, dice)?;
        self.config.slots.push(slot);
        self.config.next_slot += 1;
        self.config.seq = self.base + 1;
        Ok(id)
    }

    /// Takes a slot away and returns it. Who used it before may have kept the master key: this locks out those who
    /// learn the secret later.
    pub fn remove(&mut self, id: u32) -> Result<Slot, ConfigError> {
        let at = self.config.slots.iter().position(|slot| slot.id == id).ok_or(ConfigError::UnknownSlot { id })?;
        if self.config.slots.len() == 1 {
            return Err(ConfigError::LastSlot { id });
        }
        self.config.seq = self.base + 1;
        Ok(self.config.slots.remove(at))
    }

    /// Puts `secret` in the place of slot `id`. Returns the new slot's id.
    pub fn change(
        &mut self,
        id: u32,
        secret: &Secret,
        cost: Argon2Cost,
        created: Time,
        dice: Dice<'_>,
    ) -> Result<u32, ConfigError> {
        let old = self.config.slots.iter().find(|slot| slot.id == id).ok_or(ConfigError::UnknownSlot { id })?;
        let label = old.label.clone();
        let kept = self.config.clone();
        // Out first, so that a full set of slots can be changed too.
        self.config.slots.retain(|slot| slot.id != id);
        self.add(secret, &label, cost, created, dice).inspect_err(|_| self.config = kept)
    }

    /// The object to write, and its name. Sealing again under another nonce makes a second copy of the same state.
    pub fn seal(&self, nonce: Nonce) -> (String, Vec<u8>) {
        let config = Config { nonce: nonce.0.to_vec(), ..self.config.clone() };
        let mut object = Kind::Config.head().to_vec();
        config.encode(&mut object).expect("a Vec has room");
        let tag = self.keys.config_tag(&object);
        object.extend_from_slice(&tag);
        let check = check_of(&object);
        object.extend_from_slice(&check);
        (layout::config(config.seq, nonce), object)
    }
}

impl Config {
    fn library(&self) -> Result<LibraryId, FormatError> {
        LibraryId::from_slice(&self.library).ok_or(FormatError::Malformed("the library's id has another length"))
    }

    fn name(&self) -> Result<String, FormatError> {
        let nonce = Nonce::from_slice(&self.nonce).ok_or(FormatError::Malformed("a nonce has another length"))?;
        Ok(layout::config(self.seq, nonce))
    }
}

fn check_of(bytes: &[u8]) -> [u8; CHECK_LEN] {
    blake3::hash(bytes).as_bytes()[..CHECK_LEN].try_into().expect("a hash is longer")
}

impl From<prost::DecodeError> for ConfigError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Format(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::RecoveryKey;

    /// As little work as Argon2id can be asked for: the tests are about slots.
    const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
    const THEN: Time = Time { seconds: 1_800_000_000, nanos: 0 };

    fn dice() -> impl FnMut(&mut [u8]) {
        let mut reader = blake3::Hasher::new().update(b"dice").finalize_xof();
        move |out: &mut [u8]| reader.fill(out)
    }

    fn passphrase(text: &str) -> Secret {
        Secret::passphrase(text).unwrap()
    }

    fn library() -> OpenConfig {
        OpenConfig::create(&passphrase("photos"), "home", CHEAP, THEN, &mut dice()).unwrap()
    }

    fn stored(open: &OpenConfig) -> LockedConfig {
        let (name, object) = open.seal(Nonce([7; 8]));
        LockedConfig::parse(&name, &object).unwrap()
    }

    #[test]
    fn each_of_three_kinds_of_secret_opens_the_same_library() {
        let mut dice = dice();
        let mut open = library();
        let file = Secret::key_file(&[5; 64]).unwrap();
        let recovery = Secret::Recovery(RecoveryKey::new([9; 32]));
        open.add(&file, "nas", CHEAP, THEN, &mut dice).unwrap();
        open.add(&recovery, "paper", CHEAP, THEN, &mut dice).unwrap();
        let found = stored(&open);
        for (n, secret) in [passphrase("photos"), file, recovery].iter().enumerate() {
            let unlocked = found.unlock(secret).unwrap();
            assert_eq!(unlocked.slot() as usize, n + 1);
            assert_eq!(unlocked.keys().chunk_id(b"x"), open.keys().chunk_id(b"x"));
        }
        assert_eq!(found.content().slots[1].cost, None);
    }

    #[test]
    fn a_wrong_secret_and_a_kind_that_was_never_set_up_are_told_apart() {
        let found = stored(&library());
        let wrong = ConfigError::Wrong { kind: SlotKind::Passphrase, tried: 1 };
        assert_eq!(found.unlock(&passphrase("Photos")).unwrap_err(), wrong);
        let none = ConfigError::NoSlot { kind: SlotKind::KeyFile };
        assert_eq!(found.unlock(&Secret::key_file(&[5; 64]).unwrap()).unwrap_err(), none);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_damage_not_a_wrong_passphrase() {
        let (name, object) = library().seal(Nonce([7; 8]));
        for bit in 64..object.len() * 8 {
            let mut damaged = object.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(LockedConfig::parse(&name, &damaged).unwrap_err(), ConfigError::Damaged);
        }
        for length in 8..object.len() {
            assert_eq!(LockedConfig::parse(&name, &object[..length]).unwrap_err(), ConfigError::Damaged);
        }
        let foreign = LockedConfig::parse(&name, b"<html>not found</html>").unwrap_err();
        assert!(matches!(foreign, ConfigError::Format(FormatError::Magic { .. })));
        let mut newer = object;
        newer[7] = VERSION + 1;
        let newer = LockedConfig::parse(&name, &newer).unwrap_err();
        assert!(matches!(newer, ConfigError::Format(FormatError::Newer { .. })));
    }

    #[test]
    fn what_somebody_without_the_key_wrote_is_not_believed() {
        let open = library();
        let mut config = open.content().clone();
        config.slots[0].label = "yours truly".into();
        config.nonce = vec![7; 8];
        let forger = OpenConfig { config, keys: Keys::new(open.library(), &MasterKey([0; 32])), ..open };
        assert_eq!(stored(&forger).unlock(&passphrase("photos")).unwrap_err(), ConfigError::Forged);
    }

    #[test]
    fn a_slot_cannot_ask_for_the_whole_machine() {
        let mut open = library();
        open.config.slots[0].cost = Some(Argon2Cost { memory_kib: 100 << 20, passes: 1, lanes: 1 });
        let error = stored(&open).unlock(&passphrase("photos")).unwrap_err();
        assert!(matches!(error, ConfigError::Cost(CostError { memory_kib: 104_857_600, .. })));
    }

    #[test]
    fn keys_are_changed_and_removed_and_the_last_one_stays() {
        let mut open = stored(&library()).unlock(&passphrase("photos")).unwrap();
        assert_eq!(open.change(1, &passphrase("albums"), CHEAP, THEN, &mut dice()), Ok(2));
        let found = stored(&open);
        assert_eq!(found.content().seq, 2);
        assert!(found.unlock(&passphrase("photos")).is_err());
        assert_eq!(found.unlock(&passphrase("albums")).unwrap().content().slots[0].label, "home");
        assert_eq!(open.remove(2).unwrap_err(), ConfigError::LastSlot { id: 2 });
        assert_eq!(open.remove(1).unwrap_err(), ConfigError::UnknownSlot { id: 1 });
        let id = open.add(&passphrase("second"), "", CHEAP, THEN, &mut dice()).unwrap();
        assert_eq!(open.remove(2).unwrap().id, 2);
        assert_eq!((id, stored(&open).content().seq), (3, 2));
    }

    #[test]
    fn two_copies_of_one_state_differ_in_name_only() {
        let open = library();
        let copies = [Nonce([1; 8]), Nonce([2; 8])].map(|nonce| open.seal(nonce));
        assert_ne!(copies[0].0, copies[1].0);
        for (name, object) in &copies {
            assert!(LockedConfig::parse(name, object).unwrap().unlock(&passphrase("photos")).is_ok());
        }
    }
}
