//! Checksums that go with a body, so that a store can refuse one that was damaged on the way.

use bytes::Bytes;
use data_encoding::BASE64;
use http::HeaderName;
use md5::{Digest, Md5};

use super::config::Checksum;

/// Longer bodies are summed on another thread.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// The header for `body`, if one is wanted.
pub(super) async fn of(wanted: Checksum, body: &Bytes) -> Option<(HeaderName, String)> {
    if wanted == Checksum::None || body.len() <= INLINE_BYTES_MAX {
        return header(wanted, body);
    }
    let owned = body.clone();
    let summed = tokio::task::spawn_blocking(move || header(wanted, &owned)).await;
    // Without a thread it takes its time here.
    summed.unwrap_or_else(|_| header(wanted, body))
}

pub(super) fn header(wanted: Checksum, body: &[u8]) -> Option<(HeaderName, String)> {
    let (name, sum) = match wanted {
        Checksum::None => return None,
        Checksum::Md5 => ("content-md5", Md5::digest(body).to_vec()),
        Checksum::Crc32c => ("x-amz-checksum-crc32c", crc32c::crc32c(body).to_be_bytes().to_vec()),
        Checksum::Sha256 => {
            let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
            ("x-amz-checksum-sha256", sum.as_ref().to_vec())
        }
    };
    Some((HeaderName::from_static(name), BASE64.encode(&sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn known_sums_come_out() {
        // RFC 1321, RFC 3720 B.4 and FIPS 180-2, in base64.
        let body = Bytes::from_static(b"abc");
        let sums = [
            (Checksum::Md5, "kAFQmDzST7DWlj99KOF/cg=="),
            (Checksum::Sha256, "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="),
            (Checksum::Crc32c, "Nks/tw=="),
        ];
        for (wanted, sum) in sums {
            assert_eq!(of(wanted, &body).await.expect("a header").1, sum, "{wanted:?}");
        }
        assert_eq!(header(Checksum::Crc32c, &[0; 32]).expect("a header").1, "ipE2qg==");
        assert_eq!(of(Checksum::None, &body).await, None);
        let long = Bytes::from(vec![7; INLINE_BYTES_MAX + 1]);
        assert_eq!(of(Checksum::Md5, &long).await, header(Checksum::Md5, &long));
    }
}
