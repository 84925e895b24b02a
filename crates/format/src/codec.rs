//! Compression of a payload before it is sealed. One byte says how:
//! ```text
//!     0 ‖ plain bytes            1 ‖ plain length, u32 LE ‖ zstd frame
//! ```
//! Data that looks like JPEG or video (an entropy probe says so) is not tried.

use std::borrow::Cow;

use bytes::Bytes;

use crate::FormatError;

/// No payload is longer than this when plain; a longer claim is not believed.
pub const PLAIN_MAX: usize = 64 << 20;

const RAW: u8 = 0;
const ZSTD: u8 = 1;
const LEVEL: i32 = 1;
const SAMPLE: usize = 2048;
/// Below this many bytes compression can't save what its header costs.
const WORTHWHILE: usize = 128;
/// Bits per byte above which a sample counts as incompressible.
const NOISE_BITS: f32 = 7.6;

/// A payload that borrows what it need not change.
#[derive(Debug)]
pub enum Payload<'a> {
    Raw(&'a [u8]),
    /// Header and zstd frame.
    Packed(Vec<u8>),
}

impl Payload<'_> {
    /// The payload's bytes, in two runs.
    pub fn parts(&self) -> [&[u8]; 2] {
        match self {
            Self::Raw(plain) => [&[RAW], plain],
            Self::Packed(packed) => [packed, &[]],
        }
    }

    pub fn bytes(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

/// `plain` as a payload, compressed where that is likely to pay and does.
pub fn prepare(plain: &[u8]) -> Payload<'_> {
    let Some(packed) = compress(plain) else { return Payload::Raw(plain) };
    let mut out = Vec::with_capacity(packed.len() + 5);
    out.push(ZSTD);
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    out.extend_from_slice(&packed);
    Payload::Packed(out)
}

/// The same as one run of bytes.
pub fn encode(plain: &[u8]) -> Vec<u8> {
    prepare(plain).parts().concat()
}

/// A zstd frame that saves at least a thirty-second, if one can be had.
fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    if plain.len() < WORTHWHILE || !looks_compressible(plain) {
        return None;
    }
    let packed = zstd::bulk::compress(plain, LEVEL).ok()?;
    (packed.len() + 5 < plain.len() - plain.len() / 32).then_some(packed)
}

/// The plain bytes of a payload made by [`encode`].
pub fn decode(payload: impl Into<Bytes>) -> Result<Bytes, FormatError> {
    let payload = payload.into();
    match unpacked(&payload)? {
        None => Ok(payload.slice(1..)),
        Some(plain) => Ok(plain.into()),
    }
}

/// The same of a payload that is only lent.
pub fn decode_lent(payload: &[u8]) -> Result<Cow<'_, [u8]>, FormatError> {
    match unpacked(payload)? {
        None => Ok(Cow::Borrowed(&payload[1..])),
        Some(plain) => Ok(Cow::Owned(plain)),
    }
}

/// The plain bytes of what is compressed; none: they follow the first byte as they are.
fn unpacked(payload: &[u8]) -> Result<Option<Vec<u8>>, FormatError> {
    match payload.first() {
        Some(&RAW) => Ok(None),
        Some(&ZSTD) if payload.len() >= 5 => {
            let length = u32::from_le_bytes([payload[1], payload[2], payload[3], payload[4]]) as usize;
            if length > PLAIN_MAX {
                return Err(FormatError::Malformed("a payload claims to be too long"));
            }
            let plain = zstd::bulk::decompress(&payload[5..], length)
                .map_err(|_| FormatError::Malformed("a payload does not decompress"))?;
            if plain.len() == length {
                Ok(Some(plain))
            } else {
                Err(FormatError::Malformed("a payload has another length"))
            }
        }
        _ => Err(FormatError::Malformed("a payload of unknown coding")),
    }
}

/// Whether any of four samples has clearly less than eight bits of order-0 entropy a byte.
fn looks_compressible(plain: &[u8]) -> bool {
    samples(plain).any(|sample| entropy_bits(&sample) < NOISE_BITS)
}

fn samples(plain: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let count = if plain.len() <= 4 * SAMPLE { 1 } else { 4 };
    let take = if count == 1 { plain.len() } else { SAMPLE };
    (0..count).map(move |n| {
        let start = (plain.len() - take) / (count.max(2) - 1) * n;
        Cow::Borrowed(&plain[start..start + take])
    })
}

/// Order-0 entropy in bits a byte; short samples are corrected for the bytes they can't all hold.
fn entropy_bits(sample: &[u8]) -> f32 {
    let mut counts = [0u32; 256];
    sample.iter().for_each(|&byte| counts[byte as usize] += 1);
    let total = sample.len() as f32;
    let bits: f32 = counts.iter().filter(|&&n| n > 0).map(|&n| -(n as f32 / total) * (n as f32 / total).log2()).sum();
    // Miller-Madow: uniform noise of n bytes measures low by about (distinct - 1) / 2n nats.
    let distinct = counts.iter().filter(|&&n| n > 0).count() as f32;
    bits + (distinct - 1.0) / (2.0 * total) * std::f32::consts::LOG2_E
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn payloads_come_back() {
        let text = b"<rdf:li>Holiday</rdf:li>".repeat(500);
        for plain in [&b""[..], b"a", &text, &noise(100), &noise(300_000)] {
            assert_eq!(decode(encode(plain)).unwrap(), plain);
        }
        assert!(encode(&text).len() < text.len() / 10);
    }

    #[test]
    fn noise_is_not_tried_and_text_is() {
        for length in [2_000, 20_000, 1 << 20] {
            assert!(!looks_compressible(&noise(length)), "{length}");
        }
        assert!(looks_compressible(&b"{\"title\": \"IMG_0001.jpg\"}".repeat(100)));
    }

    #[test]
    fn a_lying_length_is_refused() {
        let mut payload = encode(&vec![0; 10_000]);
        payload[1] ^= 1;
        assert!(decode(payload.clone()).is_err());
        payload[4] = 0xff;
        assert!(decode(payload).is_err());
    }
}
