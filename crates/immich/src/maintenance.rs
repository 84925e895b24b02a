//! Maintenance mode: the server stands still, and the database with it.
//!
//! In it the server answers nobody but who has its token; API keys are worth nothing. So the token is kept where a killed
//! process finds it again, before anything else is done.

use bytes::Bytes;
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
