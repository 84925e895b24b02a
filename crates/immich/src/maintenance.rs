//! Maintenance mode: the server stands still, and the database with it.
//!
//! In it the server answers nobody but who has its token; API keys are worth nothing. So the token is kept where a killed
//! process finds it again, before anything else is done.

use aws_lc_rs::hmac;
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::{Method, header};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Error, Immich, Standing, Version, call};

const COOKIE: &str = "immich_maintenance_token";

/// What ends a maintenance; valid for four hours.
#[derive(Clone)]
pub struct MaintenanceToken(Zeroizing<String>);

impl MaintenanceToken {
    /// From where it was kept.
    pub fn kept(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// A new one, from the secret that the server's database holds while the maintenance lasts (`secret` in the value of
    /// `maintenance-mode`, table `system_metadata`): for when the old one is lost, or older than its four hours. `now`:
    /// seconds since the Unix epoch. (The server's src/utils/maintenance.ts: a JWT, HS256, keyed with the secret's text.)
    pub fn minted(secret: &str, now: i64) -> Self {
        let claims = format!(r#"{{"username":"haven","iat":{now},"exp":{}}}"#, now + 4 * 3600);
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let signed = format!("{}.{}", part(r#"{"alg":"HS256"}"#), part(&claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
        Self::kept(format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref())))
    }

    /// To be kept, readable by its owner only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for MaintenanceToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MaintenanceToken(…)")
    }
}

/// How a maintenance stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    pub active: bool,
    /// Why it could not do what it was to do.
    pub error: Option<String>,
}

#[derive(Deserialize)]
struct Told {
    active: bool,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Serialize)]
struct Action {
    action: &'static str,
}

impl Immich {
    /// Asks the server to enter maintenance, which takes it seconds: [`Self::maintenance`] tells when it is in. An
    /// administrator's key is needed.
    pub async fn start_maintenance(&self) -> Result<MaintenanceToken, Error> {
        if !self.version().has_maintenance() {
            let since = Version::new(2, 3, 0);
            return Err(Error::Missing { call: "enter maintenance mode", version: self.version(), since });
        }
        let action = Action { action: "start" };
        let answer = self.tell(call::MAINTENANCE, Method::POST, "/admin/maintenance", Some(&action)).await?;
        let cookies = answer.headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        let token = cookies.filter_map(token_of).next();
        token.map(MaintenanceToken::kept).ok_or_else(|| Error::Garbled {
            call: call::MAINTENANCE.does,
            detail: "it came without the token that ends the maintenance; `immich-admin disable-maintenance-mode` does"
                .into(),
        })
    }

    /// Asks the server to serve again, which takes it seconds too. Harmless where it serves.
    pub async fn end_maintenance(&self, token: &MaintenanceToken) -> Result<(), Error> {
        let body = Bytes::from_static(br#"{"action":"end"}"#);
        let cookie = Zeroizing::new(format!("{COOKIE}={}", token.reveal()));
        let path = "/admin/maintenance";
        let answer = self.wire.with_header(call::MAINTENANCE, Method::POST, path, Some(body), Some(&cookie)).await?;
        answer.good(call::MAINTENANCE, self.wire.connector.address(), 0)?;
        Ok(())
    }

    /// Is the server in maintenance? While it enters or leaves, nobody answers: [`Error::Gone`].
    pub async fn maintenance(&self) -> Result<Maintenance, Error> {
        if self.version().has_maintenance_status() {
            let told: Told = self.get(call::MAINTENANCE_STATUS, "/admin/maintenance/status").await?;
            return Ok(Maintenance { active: told.active, error: told.error });
        }
        Ok(Maintenance { active: self.standing().await? == Standing::Maintenance, error: None })
    }
}

/// The token in a `set-cookie`.
fn token_of(cookie: &str) -> Option<String> {
    let (name, rest) = cookie.split_once('=')?;
    let value = rest.split(';').next()?.trim();
    (name.trim() == COOKIE && !value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_token_is_what_another_library_makes_of_the_same_secret() {
        // Python: hmac.new(b"00ff", b"<header>.<payload>", "sha256"), base64 without padding.
        let token = MaintenanceToken::minted("00ff", 1_795_409_189);
        let parts: Vec<&str> = token.reveal().split('.').collect();
        let plain = |part: &str| String::from_utf8(BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap();
        assert_eq!(plain(parts[0]), r#"{"alg":"HS256"}"#);
        assert_eq!(plain(parts[1]), r#"{"username":"haven","iat":1795409189,"exp":1795423589}"#);
        assert_eq!(parts[2], "WOUkt0MsGZ7y7532CshuPPPGm4S5bdSEbM2adSOWM0o");
    }
}
