//! Names and numbers with a meaning. Each says who makes it and how long it lives.

use std::fmt;

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            pub const LEN: usize = $len;

            /// From exactly `LEN` bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// From lower-case hexadecimal, exactly `2 * LEN` digits.
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut out = [0; $len];
                (text.len() == 2 * $len).then_some(())?;
                for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
                }
                Some(Self(out))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The one that follows.
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", stringify!($name), self.0)
            }
        }
    };
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

byte_id!(
    /// A library: random, made at init, in every object's seal. Lives as long as the library.
    LibraryId, 16);
byte_id!(
    /// A pack object: random, made when the pack is begun. Never used again.
    PackId, 16);
byte_id!(
    /// A metadata shard object: random, made when the shard is written.
    ShardId, 16);
byte_id!(
    /// A chunk: the keyed hash of its plain bytes. Equal bytes have equal ids within a library.
    ChunkId, 32);
byte_id!(
    /// Tells apart two sessions that chose the same epoch: random, made at each writable mount.
    Nonce, 8);
number_id!(
    /// A writer's turn: one more than the highest claim seen when it claimed the library.
    Epoch);
number_id!(
    /// The position of a log segment: one more than the segment it follows.
    Lsn);
number_id!(
    /// The position of a transaction: one more for each, across all writers' turns.
    TxSeq);
number_id!(
    /// The position of a root: one more than the root it follows.
    RootSeq);
number_id!(
    /// An inode: handed out in order, never used again. The root directory is 1.
    Ino);

impl Ino {
    /// The root directory of the library.
    pub const ROOT: Self = Self(1);
    /// The first number given to anything else.
    pub const FIRST: Self = Self(16);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_out_and_back_and_refuses_the_rest() {
        let id = PackId([0xa5; 16]);
        assert_eq!(PackId::from_hex(&id.to_string()), Some(id));
        assert_eq!(PackId::from_hex("a5"), None);
        assert_eq!(PackId::from_hex(&"A5".repeat(16)), None);
    }
}
