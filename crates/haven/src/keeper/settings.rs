//! What haven.toml says about the keeper: `[schedule]`, `[alert]` with a table for each channel, `[health]`, `[page]`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use haven_format::retention::Rules as Retention;
use haven_keeper::{
    calendar::{Bandwidth, Hours, Schedule},
    findings::Limits,
    plan::Rules,
};
use haven_notify::{Channel, ChannelSettings, Credential, Manner, Route, Severity};
use haven_store::human;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, de::Error as _};
use toml::{Table, Value};

use crate::{
    config::{self, Config},
    report::{Code, Trouble, UNTOUCHED},
    wire,
};

#[derive(Debug, Clone, Deserialize)]
pub struct ScheduleConfig {
    pub snapshot: Schedule,
    #[serde(deserialize_with = "rules")]
    pub snapshot_keep: String,
    pub backup: Schedule,
    pub replica: Schedule,
    pub copy: Schedule,
    pub gc: Schedule,
    pub scrub: Schedule,
    #[serde(deserialize_with = "share")]
    pub scrub_share: String,
    pub drill_0: Schedule,
    pub drill_1: Schedule,
    pub drill_2: Schedule,
    pub drill_scratch: Option<PathBuf>,
    pub report: Schedule,
    #[serde(default, deserialize_with = "zone")]
    pub timezone: Option<TimeZone>,
    #[serde(with = "human::duration")]
    pub jitter: Duration,
    #[serde(with = "human::duration")]
    pub retry: Duration,
    #[serde(default)]
    pub quiet: Vec<Hours>,
    #[serde(default, deserialize_with = "bandwidth")]
    pub bandwidth: Vec<Bandwidth>,
    pub directory: Option<PathBuf>,
}

fn rules<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    text.parse::<Retention>().map_err(D::Error::custom)?;
    Ok(text)
}

fn share<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let number = text.strip_suffix('%').unwrap_or(&text).parse::<f64>().map_err(D::Error::custom)?;
    let share = if text.ends_with('%') { number / 100.0 } else { number };
    if share > 0.0 && share <= 1.0 { Ok(text) } else { Err(D::Error::custom("a share is between 0% and 100%")) }
}

fn zone<'de, D: Deserializer<'de>>(from: D) -> Result<Option<TimeZone>, D::Error> {
    let Some(name) = Option::<String>::deserialize(from)? else { return Ok(None) };
    TimeZone::get(&name).map(Some).map_err(|_| D::Error::custom(format!("there is no time zone {name}")))
}

fn bandwidth<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Bandwidth>, D::Error> {
    let all = Vec::<String>::deserialize(from)?;
    all.iter().map(|text| Bandwidth::parse(text, human::parse_bytes).map_err(D::Error::custom)).collect()
}

impl ScheduleConfig {
    pub fn zone(&self) -> TimeZone {
        self.timezone.clone().unwrap_or_else(TimeZone::system)
    }

    pub fn rules(&self) -> Rules {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Rules {
            zone: self.zone(),
            machine: wire::host(),
            jitter: seconds(self.jitter),
            quiet: self.quiet.clone(),
            retry: seconds(self.retry).max(1),
        }
    }

    /// Bytes a second that may be sent now, where these hours have a limit.
    pub fn rate_now(&self) -> Option<u64> {
        let now = self.zone().to_datetime(jiff::Timestamp::now());
        Bandwidth::at(&self.bandwidth, now.time())
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct AlertConfig {
    /// `to` of a channel's table is another one.
    pub to: Option<Vec<String>>,
    pub otherwise: Option<Vec<String>>,
    #[serde(with = "human::duration")]
    pub remind: Duration,
    #[serde(with = "human::duration")]
    pub calm: Duration,
}

impl AlertConfig {
    pub fn manner(&self) -> Manner {
        Manner { remind: self.remind, calm: self.calm }
    }
}

/// A channel, and the least that it is told of.
#[derive(Debug, Clone)]
pub struct ChannelConfig {
    pub settings: ChannelSettings,
    pub least: Severity,
}

#[derive(Debug, Clone, Deserialize)]
pub struct HealthConfig {
    #[serde(with = "human::duration")]
    pub every: Duration,
    pub late: f64,
    #[serde(default, deserialize_with = "span")]
    pub replica_lag: Option<Duration>,
    pub disk_full: f64,
    #[serde(with = "human::duration")]
    pub disk_forecast: Duration,
    #[serde(with = "human::duration")]
    pub queue_stuck: Duration,
    #[serde(with = "human::duration")]
    pub queue_behind: Duration,
    #[serde(with = "human::duration")]
    pub store_patience: Duration,
    pub store_errors: f64,
    #[serde(with = "human::duration")]
    pub drill_age: Duration,
    #[serde(with = "human::duration")]
    pub clock_skew: Duration,
    #[serde(with = "human::duration")]
    pub expiry: Duration,
}

fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    human::duration::deserialize(from).map(Some)
}

impl HealthConfig {
    pub fn limits(&self) -> Limits {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Limits {
            late: self.late,
            disk_full: self.disk_full,
            disk_forecast: seconds(self.disk_forecast),
            queue_stuck: seconds(self.queue_stuck),
            queue_behind: seconds(self.queue_behind),
            store_patience: seconds(self.store_patience),
            store_errors: self.store_errors,
            drill_age: seconds(self.drill_age),
            clock_skew: seconds(self.clock_skew),
            expiry: seconds(self.expiry),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct PageConfig {
    pub listen: String,
    pub url: Option<String>,
    #[serde(default)]
    pub token: Credential,
    #[serde(default)]
    pub metrics_token: Credential,
    pub proxy_header: Option<String>,
    #[serde(default)]
    pub proxy_from: Vec<String>,
    pub read_only: bool,
    #[serde(with = "human::duration")]
    pub session: Duration,
    #[serde(default, deserialize_with = "price")]
    pub price: Option<Price>,
}

/// What a GB in the bucket costs in a month.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    pub a_gb: f64,
    pub currency: String,
}

impl Price {
    /// What a month of so many bytes costs.
    pub fn of(&self, bytes: u64) -> f64 {
        bytes as f64 / 1e9 * self.a_gb
    }
}

fn price<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Price>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let (number, currency) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    match number.parse::<f64>() {
        Ok(a_gb) if a_gb.is_finite() && a_gb >= 0.0 => Ok(Some(Price { a_gb, currency: currency.trim().to_owned() })),
        _ => Err(D::Error::custom("a price is a number and a currency: \"0.006 EUR\"")),
    }
}

/// Whether a channel can be called so.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match name {
        "" => Err("a name has at least one character"),
        _ if !name.chars().all(plain) => Err("a name has letters, digits, - and _ alone"),
        "to" | "otherwise" | "remind" | "calm" => Err("this is the name of a setting"),
        _ => Ok(()),
    }
}

/// Every name that may stand in the table of one channel. `all` are the names of all settings.
pub fn known(all: &Table) -> Table {
    match all.get("alert").and_then(|alert| alert.get("NAME")) {
        Some(Value::Table(one)) => one.clone(),
        _ => Table::new(),
    }
}

/// The channels of the settings in `merged`.
pub fn channels(merged: &Table, shown: &str) -> Result<BTreeMap<String, ChannelConfig>, Trouble> {
    let Some(Value::Table(alert)) = merged.get("alert") else { return Ok(BTreeMap::new()) };
    let mut out = BTreeMap::new();
    for (name, value) in alert {
        let Value::Table(table) = value else { continue };
        let above = format!("alert.{name}.");
        for secret in ["token", "topic_secret", "password", "hook", "key", "checks"] {
            if table.get(secret).is_some_and(|value| !value.is_table()) {
                return Err(Trouble::new(
                    Code::Usage,
                    format!("{shown}: {above}{secret} is a secret, and has no place there"),
                )
                .meaning(UNTOUCHED)
                .next(format!(
                    "write it into a file that only its owner may read, and say {secret}.file = \"/etc/haven/…\""
                )));
            }
        }
        let mut table = table.clone();
        let least = match table.remove("least") {
            None => Severity::Warning,
            Some(value) => value.try_into().map_err(|_| {
                Trouble::new(Code::Usage, format!("the setting {above}least in {shown} can't be meant"))
                    .meaning(UNTOUCHED)
                    .next("it is \"info\", \"warning\" or \"critical\"")
            })?,
        };
        out.insert(name.clone(), ChannelConfig { settings: config::read(table, &above, shown)?, least });
    }
    if let Some(Value::Table(alert)) = merged.get("alert") {
        for list in ["to", "otherwise"] {
            let mut names = alert.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            if let Some(name) = names.find(|name| !out.contains_key(*name)) {
                return Err(Trouble::new(
                    Code::Usage,
                    format!("{shown}: alert.{list} names {name}, and there is no table [alert.{name}]"),
                )
                .meaning(UNTOUCHED)
                .next("`haven config` shows what such a table may have"));
            }
        }
    }
    Ok(out)
}

impl Config {
    /// Everybody who can be told, as the postman wants them.
    pub fn channels(&self) -> Vec<Channel> {
        let one =
            |(name, one): (&String, &ChannelConfig)| Channel { name: name.clone(), settings: one.settings.clone() };
        self.channels.iter().map(one).collect()
    }

    /// Who is told of what.
    pub fn route(&self) -> Route {
        let people = |name: &&String| {
            self.channels.get(*name).is_some_and(|one| !matches!(one.settings, ChannelSettings::Healthchecks(_)))
        };
        let otherwise = self.alert.otherwise.clone().unwrap_or_default();
        let all: Vec<String> = match &self.alert.to {
            Some(to) => to.clone(),
            None => self.channels.keys().filter(|name| !otherwise.contains(name)).cloned().collect(),
        };
        let to = all.iter().filter(people).map(|name| (name.clone(), self.channels[name].least)).collect();
        Route { to, otherwise }
    }

    /// Where the keeper keeps what it must not forget.
    pub fn keeper_directory(&self) -> PathBuf {
        if let Some(named) = &self.schedule.directory {
            return std::path::absolute(named).unwrap_or_else(|_| named.clone());
        }
        config::state_directory().join("keeper").join(self.library_mark())
    }

    /// Tells libraries of one machine apart: the end of its URL, and a digest of all of it.
    fn library_mark(&self) -> String {
        let env = || std::env::var("HAVEN_LIBRARY").ok();
        let url = env().or_else(|| self.library.url.clone()).map(|url| crate::cli::absolute(&url)).unwrap_or_default();
        let last = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let plain: String = last.chars().filter(|c| c.is_ascii_alphanumeric()).take(20).collect();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, url.as_bytes());
        format!("{plain}-{}", data_encoding::HEXLOWER.encode(&digest.as_ref()[..4]))
    }
}

/// The files in the keeper's directory.
#[derive(Debug, Clone)]
pub struct Rooms(PathBuf);

impl Rooms {
    pub fn of(config: &Config) -> Self {
        Self(config.keeper_directory())
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn ledger(&self) -> PathBuf {
        self.0.join("ledger.sqlite")
    }

    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    pub fn outbox(&self) -> PathBuf {
        self.0.join("outbox")
    }

    /// What people know of.
    pub fn book(&self) -> PathBuf {
        self.0.join("told.json")
    }

    /// The newest look at everything, for commands.
    pub fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// Held by the keeper that is at work.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Config::from_text(text, "haven.toml").expect_err("it is refused").render(false)
    }

    #[test]
    fn channels_have_names_of_their_owners_choice_and_are_read_by_their_kind() {
        let text = "[alert]\notherwise = ['mail']\n[alert.phone]\nkind = 'ntfy'\ntopic = 'photos'\ntoken.file = '/x'\n\
                    least = 'critical'\n[alert.mail]\nkind = 'email'\nserver = 'localhost'\nfrom = 'a@b.c'\nto = ['a@b.c']\n\
                    [alert.switch]\nkind = 'healthchecks'\nchecks = { systemd = 'haven-ping' }\n";
        let config = Config::from_text(text, "").unwrap();
        assert_eq!(config.channels.keys().collect::<Vec<_>>(), ["mail", "phone", "switch"]);
        let route = config.route();
        assert_eq!(route.to, [("phone".to_owned(), Severity::Critical)], "a switch is no way to tell people");
        assert_eq!(route.otherwise, ["mail"]);
        let config = Config::from_text(&text.replace("otherwise = ['mail']", "to = ['mail']"), "").unwrap();
        assert_eq!(config.route().to, [("mail".to_owned(), Severity::Warning)]);
    }

    #[test]
    fn slips_in_a_channels_table_are_refused_by_name_and_no_secret_is_shown() {
        assert!(refusal("[alert.x]\nkind = 'ntfy'\ntopik = 'a'").contains("alert.x.topik"));
        assert!(refusal("[alert.x]\nkind = 'gotify'\nurl = 'u'\ntoken.file = '/x'\nchat = '1'").contains("chat"));
        assert!(refusal("[alert.x]\nkind = 'pigeon'").contains("alert.x"));
        let told = refusal("[alert.x]\nkind = 'telegram'\nchat = '1'\ntoken = '123:secret'");
        assert!(told.contains("token.file") && !told.contains("123:secret"), "{told}");
        assert!(refusal("[alert]\nto = ['x']").contains("[alert.x]"));
        assert!(refusal("[alert.x]\nkind = 'ntfy'\ntopic = 'a'\nleast = 'loud'").contains("alert.x.least"));
    }

    #[test]
    fn schedules_hours_and_rates_are_refused_by_name() {
        assert!(refusal("[schedule]\nbackup = 'soon'").contains("schedule.backup"));
        assert!(refusal("[schedule]\nquiet = ['8-9']").contains("schedule.quiet"));
        assert!(refusal("[schedule]\nbandwidth = ['08:00..09:00']").contains("schedule.bandwidth"));
        assert!(refusal("[schedule]\ntimezone = 'Mars/Olympus'").contains("schedule.timezone"));
        assert!(refusal("[schedule]\nscrub_share = '200%'").contains("schedule.scrub_share"));
        assert!(refusal("[schedule]\nsnapshot_keep = 'all'").contains("schedule.snapshot_keep"));
        assert!(refusal("[schedule]\nbackups = 'off'").contains("is it schedule.backup?"));
        assert!(refusal("[page]\nprice = 'cheap'").contains("page.price"));
    }

    #[test]
    fn a_price_is_of_a_gb_and_month() {
        let page = |text: &str| Config::from_text(&format!("[page]\n{text}"), "").unwrap().page;
        let price = page("price = '0.006 EUR'").price.unwrap();
        assert_eq!((price.currency.as_str(), price.of(500_000_000_000)), ("EUR", 3.0));
        assert_eq!(page("").price, None);
    }

    #[test]
    fn every_default_schedule_has_a_next_time() {
        let config = Config::from_text("", "").unwrap();
        let all = &config.schedule;
        for schedule in
            [&all.snapshot, &all.backup, &all.replica, &all.copy, &all.gc, &all.scrub, &all.drill_0, &all.report]
        {
            assert!(schedule.next_after(jiff::Timestamp::now(), &TimeZone::UTC).is_some(), "{schedule}");
        }
        assert_eq!(config.health.limits(), Limits::default());
    }
}
