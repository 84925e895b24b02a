//! Ids and checksums as the server writes them.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The id of an asset, an album, a tag, a user: a UUID. One empty or garbled id in a list makes the server refuse the
/// whole list, so there is no way to make one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Id(String);

impl Id {
    /// As the server writes it: 36 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let fits = |(at, byte): (usize, u8)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        };
        if text.len() == 36 && text.bytes().enumerate().all(fits) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(NotAnId(text.chars().take(40).collect()))
        }
    }
}

/// What was to be an id and is none.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an id (a UUID)")]
pub struct NotAnId(String);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// The SHA-1 of a file's content, by which Immich knows it again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha1(pub [u8; 20]);

impl Sha1 {
    /// Of bytes at hand.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
        let mut sum = [0; 20];
        sum.copy_from_slice(digest.as_ref());
        Self(sum)
    }

    /// 40 lower-case digits.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// As the server's answers have it: 28 characters.
    pub fn base64(&self) -> String {
        BASE64.encode(&self.0)
    }
}

impl FromStr for Sha1 {
    type Err = NotASum;

    /// Hex or base64, both of which the server writes and takes.
    fn from_str(text: &str) -> Result<Self, NotASum> {
        let bytes = match text.len() {
            40 => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok(),
            28 => BASE64.decode(text.as_bytes()).ok(),
            _ => None,
        };
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(NotASum)
    }
}

/// What was to be a checksum and is none.
#[derive(Debug, thiserror::Error)]
#[error("not a SHA-1 in hex or base64")]
pub struct NotASum;

impl fmt::Debug for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Serialize for Sha1 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.base64())
    }
}

impl<'de> Deserialize<'de> for Sha1 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_or_nothing() {
        assert!("3fe388e4-2078-44d7-b36c-39d9dee3a657".parse::<Id>().is_ok());
        for garbled in ["", "3fe388e4", "3fe388e4-2078-44d7-b36c-39d9dee3a65g", "3fe388e4+2078-44d7-b36c-39d9dee3a657"]
        {
            assert!(garbled.parse::<Id>().is_err(), "{garbled}");
        }
    }

    #[test]
    fn a_checksum_is_read_in_both_forms() {
        let sum = Sha1::of(b"abc");
        assert_eq!(sum.hex(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(sum.hex().parse::<Sha1>().ok(), Some(sum));
        assert_eq!(sum.base64().parse::<Sha1>().ok(), Some(sum));
        assert!("a9993e36".parse::<Sha1>().is_err());
    }
}
