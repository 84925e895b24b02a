//! The client: opened by address and key, when the server is one whose answers are known.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::{
    Error, Version,
    address::Address,
    answer::Answer,
    call::{self, Call},
    connect::Connector,
    send::Wire,
};

/// How to reach a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://photos.example.org`, `nas:2283`, with or without `/api`.
    pub address: String,
    /// Made on Immich's page of API keys.
    pub key: Zeroizing<String>,
    /// Certificates (PEM) trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    pub timeouts: Timeouts,
}

/// How long nothing may move. Nothing limits how long a whole upload takes.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Without a byte sent or received. 60 s by default.
    pub stall: Duration,
    /// From the last byte of a request to the first of its answer. 300 s by default: the server sums a large file first.
    pub answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { stall: Duration::from_secs(60), answer: Duration::from_secs(300) }
    }
}

/// What a server says without being asked for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Serving,
    /// It answers only to who ends its maintenance.
    Maintenance,
}

/// A server, one of its users, and that user's key. Cheap calls, made from many tasks at once.
pub struct Immich {
    pub(crate) wire: Wire,
    pub(crate) version: Version,
}

#[derive(Deserialize)]
struct Pong {
    res: String,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default, rename = "maintenanceMode")]
    maintenance: bool,
}

impl Immich {
    /// Asks the server for its version. The key is not looked at yet: [`Self::account`] does that.
    pub async fn open(settings: Settings) -> Result<Self, Error> {
        let address = Address::parse(&settings.address)?;
        let connector = Connector::new(address, settings.ca_file.as_deref())?;
        let wire = Wire { connector, key: settings.key, timeouts: settings.timeouts };
        let mut immich = Self { wire, version: Version::OLDEST };
        immich.ping().await?;
        immich.version = immich.get(call::VERSION, "/server/version").await?;
        if immich.version < Version::OLDEST {
            return Err(Error::TooOld { version: immich.version });
        }
        if immich.version.major > Version::NEWEST_MAJOR {
            return Err(Error::TooNew { version: immich.version });
        }
        Ok(immich)
    }

    /// As asked when it was opened; a server that was away may have been upgraded: [`Self::ask_version`].
    pub fn version(&self) -> Version {
        self.version
    }

    /// The version now.
    pub async fn ask_version(&self) -> Result<Version, Error> {
        self.get(call::VERSION, "/server/version").await
    }

    /// The address, without the key.
    pub fn address(&self) -> String {
        self.wire.connector.address().shown()
    }

    /// Is it there, and does it serve? [`Error::Gone`] where it is not; what else went wrong where it is half there.
    pub async fn standing(&self) -> Result<Standing, Error> {
        self.ping().await?;
        let config: Config = self.get(call::CONFIG, "/server/config").await?;
        Ok(if config.maintenance { Standing::Maintenance } else { Standing::Serving })
    }

    async fn ping(&self) -> Result<(), Error> {
        let pong: Result<Pong, Error> = self.get(call::PING, "/server/ping").await;
        match pong {
            Ok(Pong { res }) if res == "pong" => Ok(()),
            Ok(Pong { res }) => Err(self.stranger(format!("it answers {res:?} to a ping"))),
            // Nothing that was sent could be refused by Immich.
            Err(Error::Garbled { detail, .. }) => Err(self.stranger(detail)),
            Err(Error::Refused { status, .. }) => Err(self.stranger(format!("it answers {status} to a ping"))),
            Err(other) => Err(other),
        }
    }

    fn stranger(&self, detail: String) -> Error {
        Error::NotImmich { address: self.address(), detail }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, call: Call, path: &str) -> Result<T, Error> {
        self.ask(call, Method::GET, path, None::<&()>).await
    }

    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        call: Call,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Error> {
        let (answer, sent) = self.answer(call, method, path, body).await?;
        answer.read(call, self.wire.connector.address(), sent)
    }

    /// For calls whose answer is empty.
    pub(crate) async fn tell(
        &self,
        call: Call,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Answer, Error> {
        let (answer, sent) = self.answer(call, method, path, body).await?;
        answer.good(call, self.wire.connector.address(), sent)
    }

    async fn answer(
        &self,
        call: Call,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(Answer, u64), Error> {
        let body = body.map(serde_json::to_vec).transpose();
        let body =
            body.map_err(|error| Error::Garbled { call: call.does, detail: error.to_string() })?.map(Bytes::from);
        let sent = body.as_ref().map_or(0, |body| body.len() as u64);
        let answer = self.wire.json(call, method, path, body).await?;
        if call != call::CONFIG {
            self.serving(answer.status).await?;
        }
        Ok((answer, sent))
    }

    /// In maintenance the server knows few calls; "not found" then means "later".
    pub(crate) async fn serving(&self, status: StatusCode) -> Result<(), Error> {
        if !matches!(status, StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE) {
            return Ok(());
        }
        let config = self.wire.json(call::CONFIG, Method::GET, "/server/config", None).await?;
        match config.read::<Config>(call::CONFIG, self.wire.connector.address(), 0) {
            Ok(Config { maintenance: true }) => Err(Error::Maintenance { address: self.address() }),
            _ => Ok(()),
        }
    }
}
