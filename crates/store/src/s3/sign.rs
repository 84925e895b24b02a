//! AWS Signature Version 4, for requests with headers (not query strings).
//!
//! Source: "Authenticating Requests (AWS Signature Version 4)" in the Amazon S3 API Reference.

use aws_lc_rs::{digest, hmac};
use http::{HeaderName, HeaderValue, Request, header};

use super::credentials::Credentials;
use crate::calendar;

/// The hash header's value for a body that is not part of the signature.
pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

const HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Signs `request` (whose URI is absolute and encoded already, with its query in order) as of `now`,
/// in seconds since the epoch. `payload` is the hex SHA-256 of the body, or [`UNSIGNED`].
pub(super) fn sign<B>(
    request: &mut Request<B>,
    credentials: &Credentials,
    region: &str,
    payload: &str,
    now: i64,
) -> Result<(), http::header::InvalidHeaderValue> {
    let stamp = calendar::compact(now);
    let day = &stamp[..8];
    let host = request.uri().authority().map_or("", |a| a.as_str()).to_owned();
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(&host)?);
    headers.insert(HASH, HeaderValue::from_str(payload)?);
    headers.insert(DATE, HeaderValue::from_str(&stamp)?);
    headers.remove(TOKEN);
    if let Some(token) = &credentials.token {
        let mut value = HeaderValue::from_str(token.expose())?;
        value.set_sensitive(true);
        headers.insert(TOKEN, value);
    }

    let (names, canonical) = canonical_request(request, payload);
    let scope = format!("{day}/{region}/s3/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let mut key = format!("AWS4{}", credentials.secret.expose()).into_bytes();
    for part in [day, region, "s3", "aws4_request"] {
        key = hmac_sha256(&key, part.as_bytes());
    }
    let signature = hex(&hmac_sha256(&key, to_sign.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
        credentials.key_id
    );
    let mut value = HeaderValue::from_str(&authorization)?;
    value.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, value);
    Ok(())
}

/// The names of the signed headers, and the canonical form of the request.
fn canonical_request<B>(request: &Request<B>, payload: &str) -> (String, String) {
    let mut signed: Vec<(&str, &[u8])> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .filter(|(name, _)| *name == "host" || *name == "content-md5" || name.starts_with("x-amz-"))
        .collect();
    signed.sort_unstable();
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let uri = request.uri();
    let mut text = format!("{}\n{}\n{}\n", request.method(), uri.path(), uri.query().unwrap_or(""));
    for (name, value) in signed {
        text.push_str(name);
        text.push(':');
        text.push_str(String::from_utf8_lossy(value).trim());
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&names);
    text.push('\n');
    text.push_str(payload);
    (names, text)
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, data).as_ref().to_vec()
}

/// The SHA-256 of `data` in lower-case hex.
pub(super) fn sha256_hex(data: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, data).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    /// The example "GET Bucket Lifecycle" of the S3 API Reference, with its published signature.
    #[test]
    fn the_published_example_has_the_published_signature() {
        let credentials = Credentials {
            key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            token: None,
            expires: None,
        };
        let uri = "https://examplebucket.s3.amazonaws.com/?lifecycle=";
        let mut request = Request::get(uri).body(()).expect("a request");
        let now = calendar::parse_iso("2013-05-24T00:00:00Z").expect("a time");
        sign(&mut request, &credentials, "us-east-1", &sha256_hex(b""), now).expect("plain headers");
        let signed = request.headers()[header::AUTHORIZATION].to_str().expect("text");
        assert!(
            signed.ends_with("Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            "{signed}"
        );
    }
}
