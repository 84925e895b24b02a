//! Immich's maintenance mode as a standstill, by its API. In it the server serves nobody, and only who has the token that
//! it gave at the beginning can end it: that is on the disk before anything else is done, and for when it is lost or older
//! than its four hours, another one is made of the secret in Immich's database.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use haven_immich::{Error, Immich, MaintenanceToken, Settings, Timeouts};
use haven_point::pg::{Reach, Session};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{config::App, quiesce::LIMIT};
use crate::cli::import::api_key;

const STEP: Duration = Duration::from_millis(250);
/// A server that was asked to enter maintenance has entered it by then, or never will.
const ENTERS: Duration = Duration::from_secs(45);

/// What is to be ended, and what with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debt {
    server: String,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    /// Absent: the answer with it never came.
    #[serde(default)]
    token: Option<String>,
    asked: Timestamp,
    /// Where the database is that has the secret.
    #[serde(default)]
    database: Option<String>,
    #[serde(default)]
    programs: Option<PathBuf>,
    #[serde(default)]
    within: Vec<String>,
}

/// Why it did not begin.
pub struct NotBegun {
    pub why: String,
    /// Whether the server may enter it all the same.
    pub unsure: bool,
}

impl Debt {
    pub fn of(app: &App) -> Self {
        let own = &app.own;
        Self {
            server: own.server.clone().unwrap_or_default(),
            ca_file: own.ca_file.clone(),
            token: None,
            asked: Timestamp::now(),
            database: own.database.clone(),
            programs: own.programs.clone(),
            within: own.within.clone(),
        }
    }

    async fn open(&self, key: zeroize::Zeroizing<String>) -> Result<Immich, Error> {
        let timeouts = Timeouts { stall: Duration::from_secs(20), answer: Duration::from_secs(60) };
        Immich::open(Settings { address: self.server.clone(), key, ca_file: self.ca_file.clone(), timeouts }).await
    }

    /// A token made of the secret in the database.
    fn minted(&self) -> Result<MaintenanceToken, String> {
        #[derive(Deserialize)]
        struct Row {
            secret: Option<String>,
        }
        let database = self.database.clone().ok_or("no database is known that has the secret")?;
        let reach = Reach { database, programs: self.programs.clone(), within: self.within.clone() };
        let wait = Duration::from_secs(10);
        let mut session = Session::open(&reach, wait).map_err(|error| error.to_string())?;
        let query = "SELECT (value::jsonb)->>'secret' AS secret FROM system_metadata WHERE key = 'maintenance-mode'";
        let rows: Vec<Row> = session.rows(query, wait).map_err(|error| error.to_string())?;
        let secret = rows.into_iter().find_map(|row| row.secret).ok_or("the database holds no secret")?;
        Ok(MaintenanceToken::minted(&secret, Timestamp::now().as_second()))
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

/// Lets the server enter maintenance, and waits until it has. `keep` writes down what is owed: once before it is asked,
/// and again with the token.
pub fn begin(app: &App, debt: &mut Debt, keep: &dyn Fn(&Debt) -> Result<(), String>) -> Result<(), NotBegun> {
    let sure = |why: String| NotBegun { why, unsure: false };
    let key = app.own.api_key_file.as_ref().ok_or_else(|| sure("no api_key_file".into()))?;
    let key = api_key(key).map_err(|trouble| sure([vec![trouble.what], trouble.because].concat().join(": ")))?;
    runtime().map_err(sure)?.block_on(async {
        let told = |error: Error| sure(error.to_string());
        let immich = debt.open(key).await.map_err(told)?;
        if immich.maintenance().await.map_err(told)?.active {
            return Err(sure(format!(
                "the server at {} is in maintenance mode already, and not for this run: end that first",
                immich.address()
            )));
        }
        keep(debt).map_err(sure)?;
        let token = immich.start_maintenance().await.map_err(|error| NotBegun {
            // What was refused was not done; an answer that did not come may have been.
            unsure: !matches!(error, Error::Key { .. } | Error::Refused { .. } | Error::Missing { .. }),
            why: error.to_string(),
        })?;
        let unsure = |why: String| NotBegun { why, unsure: true };
        debt.token = Some(token.reveal().to_owned());
        keep(debt).map_err(unsure)?;
        let until = Instant::now() + LIMIT;
        loop {
            let why = match immich.maintenance().await {
                Ok(told) if told.active => return Ok(()),
                Ok(_) => "it still serves".to_owned(),
                Err(error) => error.to_string(),
            };
            if Instant::now() > until {
                return Err(unsure(format!("it has not entered maintenance mode within {} s: {why}", LIMIT.as_secs())));
            }
            tokio::time::sleep(STEP).await;
        }
    })
}

/// Ends the maintenance, and waits until the server serves.
pub fn end(debt: &Debt) -> Result<(), String> {
    let runtime = runtime()?;
    let until = Instant::now() + LIMIT;
    let mut active = false;
    loop {
        let (standing, why) = match runtime.block_on(step(debt)) {
            Ok(standing) => standing,
            Err(error) => (None, error.to_string()),
        };
        active |= standing == Some(true);
        let age = Timestamp::now().as_second() - debt.asked.as_second();
        // Killed right after it asked: the server may be about to enter it.
        if standing == Some(false) && (active || age > ENTERS.as_secs() as i64) {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!(
                "the server at {} is still in maintenance mode ({why}); `immich-admin disable-maintenance-mode` ends it",
                debt.server
            ));
        }
        std::thread::sleep(STEP);
    }
}

/// Looks once, and asks for the end where it is active. Whether it was, and what went wrong.
async fn step(debt: &Debt) -> Result<(Option<bool>, String), Error> {
    let immich = debt.open(zeroize::Zeroizing::default()).await?;
    if !immich.maintenance().await?.active {
        return Ok((Some(false), String::new()));
    }
    let mut why = "its token never came".to_owned();
    if let Some(token) = &debt.token {
        match immich.end_maintenance(&MaintenanceToken::kept(token.clone())).await {
            Ok(()) => return Ok((Some(true), String::new())),
            Err(error) => why = error.to_string(),
        }
    }
    match debt.minted() {
        Ok(token) => {
            if let Err(error) = immich.end_maintenance(&token).await {
                why = format!("{why}; with another token: {error}");
            }
        }
        Err(error) => why = format!("{why}; another token can't be made: {error}"),
    }
    Ok((Some(true), why))
}
