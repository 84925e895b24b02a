//! The settings: the compiled-in `haven.toml` says what there is and what holds by default, the owner's file goes over
//! it, the environment over that, and flags over all. Names that are not in the default file are refused.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use haven_store::{StoreOptions, human};
use serde::Deserialize;
use toml::{Table, Value};

use crate::{
    copies::{self, CopyConfig},
    keeper::settings::{self as keeping, AlertConfig, ChannelConfig, HealthConfig, PageConfig, ScheduleConfig},
    points::config::{self as backups, App},
    replicas::{self, Common, ReplicaConfig},
    report::{Code, Trouble, UNTOUCHED},
};

/// The default file.
pub const DEFAULTS: &str = include_str!("haven.toml");

/// All settings. None has a default here: the default file has them.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    pub library: LibraryConfig,
    pub key: KeyConfig,
    pub mount: MountConfig,
    pub cache: CacheConfig,
    pub upload: UploadConfig,
    pub snapshots: SnapshotsConfig,
    pub gc: GcConfig,
    pub replica: Common,
    pub schedule: ScheduleConfig,
    pub alert: AlertConfig,
    pub health: HealthConfig,
    pub page: PageConfig,
    pub log: LogConfig,
    pub store: StoreOptions,
    /// Each replica, with what holds for all of them filled in.
    #[serde(skip)]
    pub replicas: BTreeMap<String, ReplicaConfig>,
    /// Each application that recovery points are taken of.
    #[serde(skip)]
    pub apps: Vec<App>,
    /// Each copy in a foreign format, with what holds for all of them filled in.
    #[serde(skip)]
    pub copies: BTreeMap<String, CopyConfig>,
    /// Each channel that people are told by.
    #[serde(skip)]
    pub channels: BTreeMap<String, ChannelConfig>,
    /// The file that was read over the defaults.
    #[serde(skip)]
    pub from: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct LibraryConfig {
    pub url: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct KeyConfig {
    pub passphrase_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub passphrase_command: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct MountConfig {
    pub point: Option<PathBuf>,
    pub fsync: Fsync,
    pub read_only: bool,
    pub allow_other: bool,
    pub no_atime: bool,
    pub writeback_cache: bool,
    pub list_snapshots: bool,
    #[serde(with = "human::bytes")]
    pub read_ahead: u64,
    #[serde(with = "human::duration")]
    pub stop_patience: Duration,
    pub quota: Option<Size>,
}

/// A number of bytes as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Size(#[serde(with = "human::bytes")] pub u64);

/// What fsync waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// The local disk: a power cut loses nothing.
    Disk,
    /// The bucket: the loss of this machine loses nothing.
    Bucket,
}

#[derive(Debug, Clone, Deserialize)]
pub struct CacheConfig {
    pub directory: Option<PathBuf>,
    #[serde(with = "human::bytes")]
    pub size: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct UploadConfig {
    #[serde(with = "human::duration")]
    pub send_after: Duration,
    #[serde(with = "human::duration")]
    pub sync_after: Duration,
    pub packs_max: usize,
}

#[derive(Debug, Clone, Deserialize)]
pub struct SnapshotsConfig {
    pub keep: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct GcConfig {
    #[serde(with = "human::duration")]
    pub every: Duration,
    #[serde(with = "human::duration")]
    pub grace: Duration,
    #[serde(with = "human::duration")]
    pub remember: Duration,
    pub brake: f64,
    #[serde(with = "human::bytes")]
    pub brake_floor: u64,
    pub waste: f64,
    #[serde(with = "human::bytes")]
    pub pace: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct LogConfig {
    pub level: String,
}

impl Config {
    /// Reads the file at `path`, or the first of the usual ones that exists, over the defaults.
    pub fn load(path: Option<PathBuf>) -> Result<Self, Trouble> {
        let path = match path {
            Some(path) => Some(path),
            None => usual_places().into_iter().find(|path| path.exists()),
        };
        let Some(path) = path else { return Self::from_text("", "haven.toml") };
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Trouble::new(Code::Usage, format!("the settings file {shown} can't be read"))
                .caused_by(&error)
                .meaning(UNTOUCHED)
                .next("correct --config or HAVEN_CONFIG, or make the file readable")
        })?;
        Ok(Self { from: Some(path), ..Self::from_text(&text, &shown)? })
    }

    /// The settings that `text` makes of the defaults. `shown` is what the text is called in messages.
    pub fn from_text(text: &str, shown: &str) -> Result<Self, Trouble> {
        let refused = |what: String| Trouble::new(Code::Usage, what).meaning(UNTOUCHED);
        let owner: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
            refused(format!("{shown}{line} is not TOML"))
                .because(error.message())
                .next("`haven config` prints a whole file with every setting")
        })?;
        refuse_unknown(&owner, &known(), "", shown)?;
        let merged = over(table(DEFAULTS), owner);
        let replicas = replicas::expanded(&merged, &table(DEFAULTS)).into_iter().map(|(name, one)| {
            let above = format!("replica.{name}.");
            let config = ReplicaConfig { own: read(one.clone(), &above, shown)?, common: read(one, &above, shown)? };
            Ok((name, config))
        });
        let replicas = replicas.collect::<Result<_, Trouble>>()?;
        let apps = backups::apps(&merged, shown)?;
        let copies = copies::expanded(&merged).into_iter().map(|(name, one)| {
            let config: CopyConfig = read(one, &format!("copy.{name}."), shown)?;
            Ok((name, config))
        });
        let copies = copies.collect::<Result<_, Trouble>>()?;
        let channels = keeping::channels(&merged, shown)?;
        Ok(Self { replicas, apps, copies, channels, ..read(merged, "", shown)? })
    }
}

/// A table as settings. `above` is what stands before its names in messages.
pub fn read<T: serde::de::DeserializeOwned>(from: Table, above: &str, shown: &str) -> Result<T, Trouble> {
    serde_path_to_error::deserialize(Value::Table(from)).map_err(|error| {
        let name = format!("{above}{}", error.path());
        Trouble::new(Code::Usage, format!("the setting {name} in {shown} can't be meant"))
            .meaning(UNTOUCHED)
            .because(error.into_inner().message())
            .next(format!("`haven config` shows what {name} may be"))
    })
}

/// Where the owner's file is looked for: the user's own first, then the machine's.
fn usual_places() -> Vec<PathBuf> {
    let own = config_directory().map(|directory| directory.join("haven.toml"));
    own.into_iter().chain([PathBuf::from("/etc/haven/haven.toml")]).collect()
}

/// Where this user's settings and keys are.
pub fn config_directory() -> Option<PathBuf> {
    user_directory("XDG_CONFIG_HOME", ".config")
}

/// A directory of haven's own below one of the user's usual ones.
pub fn user_directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    below(variable, below_home, home)
}

/// The same where the environment tells, and nowhere else: what lies there was always looked for so, and must be found again.
pub fn told_directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    below(variable, below_home, told_home)
}

fn below(variable: &str, below_home: &str, home: fn() -> Option<PathBuf>) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = named.or_else(|| Some(home()?.join(below_home)))?;
    Some(base.join("haven"))
}

/// Where this machine keeps what a service and a shell of the same user must both find: systemd gives a service no HOME
/// unless its unit names a user.
pub fn state_directory() -> PathBuf {
    let own = || user_directory("XDG_STATE_HOME", ".local/state");
    let managed = std::env::var_os("STATE_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from);
    let base = managed.or_else(|| if rustix::process::geteuid().is_root() { None } else { own() });
    base.unwrap_or_else(|| PathBuf::from(MACHINE_STATE))
}

/// What is root's, whoever starts it.
pub const MACHINE_STATE: &str = "/var/lib/haven";

/// The user's home directory: the environment's word, else the system's.
pub fn home() -> Option<PathBuf> {
    haven_store::home()
}

/// The user's home directory, if the environment tells.
pub fn told_home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute())
}

fn table(text: &str) -> Table {
    text.parse().expect("the default file is TOML: a test reads it")
}

/// The default file with the settings that have no default put in: every name there is.
fn known() -> Table {
    table(&with_examples(DEFAULTS))
}

/// A file of settings with those that stand there as examples.
fn with_examples(text: &str) -> String {
    let is_setting =
        |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = text.lines().map(|line| if is_setting(line) { &line[1..] } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

pub fn over(mut below: Table, above: Table) -> Table {
    for (name, value) in above {
        let value = match (below.remove(&name), value) {
            (Some(Value::Table(old)), Value::Table(new)) => Value::Table(over(old, new)),
            (_, new) => new,
        };
        below.insert(name, value);
    }
    below
}

fn refuse_unknown(given: &Table, known: &Table, above: &str, shown: &str) -> Result<(), Trouble> {
    for (name, value) in given {
        match (known.get(name), value) {
            (Some(Value::Table(known)), Value::Table(given)) => {
                refuse_unknown(given, known, &format!("{above}{name}."), shown)?;
            }
            (Some(_), _) => {}
            // Replicas have names of their owner's choice.
            (None, Value::Table(given)) if above == "replica." && replicas::check_name(name).is_ok() => {
                refuse_unknown(given, &replicas::known(&self::known()), &format!("{above}{name}."), shown)?;
            }
            // And so have applications.
            (None, Value::Table(given)) if above == "backup." && backups::check_name(name).is_ok() => {
                refuse_unknown(given, &backups::known(&self::known()), &format!("{above}{name}."), shown)?;
            }
            (None, Value::Table(given)) if above == "copy." && copies::check_name(name).is_ok() => {
                refuse_unknown(given, &copies::known(&self::known()), &format!("{above}{name}."), shown)?;
            }
            (None, Value::Table(given)) if above == "alert." && keeping::check_name(name).is_ok() => {
                refuse_unknown(given, &keeping::known(&self::known()), &format!("{above}{name}."), shown)?;
            }
            (None, _) => return Err(unknown(&format!("{above}{name}"), shown)),
        }
    }
    Ok(())
}

fn unknown(name: &str, shown: &str) -> Trouble {
    let trouble =
        Trouble::new(Code::Usage, format!("{shown} sets {name}, which is no setting of haven's")).meaning(UNTOUCHED);
    match nearest(name, &names(&known(), "")) {
        Some(near) => trouble.next(format!("is it {near}? `haven config` prints every setting")),
        None => trouble.next("`haven config` prints every setting"),
    }
}

/// The full names of all settings and tables.
fn names(table: &Table, above: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (name, value) in table {
        let full = format!("{above}{name}");
        if let Value::Table(inner) = value {
            out.extend(names(inner, &format!("{full}.")));
        }
        out.push(full);
    }
    out
}

/// The most likely meant of `candidates`, if any is near. The last part of a name alone may be what was meant.
pub fn nearest<'a>(name: &str, candidates: &'a [String]) -> Option<&'a str> {
    let last = |text: &'a str| text.rsplit('.').next().unwrap_or(text);
    let own_last = name.rsplit('.').next().unwrap_or(name);
    let likeness = |candidate: &'a str| {
        let whole = strsim::jaro_winkler(name, candidate);
        whole.max(strsim::jaro_winkler(own_last, last(candidate)) - 0.02)
    };
    let best = candidates.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.8).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Config::from_text(text, "haven.toml").expect_err("it is refused").render(false)
    }

    #[test]
    fn the_default_file_says_what_the_store_does_by_default() {
        let config = Config::from_text("", "").unwrap();
        assert_eq!(config.store, StoreOptions::default());
        assert_eq!((config.cache.size, config.mount.fsync), (10_000_000_000, Fsync::Disk));
    }

    #[test]
    fn settings_without_a_default_are_settings_too() {
        let everything = known();
        let parsed = serde_path_to_error::deserialize::<_, Config>(Value::Table(everything.clone())).unwrap();
        assert_eq!(parsed.store.s3.region.as_deref(), Some("eu-central-1"));
        assert!(names(&everything, "").len() > names(&table(DEFAULTS), "").len() + 10);
    }

    #[test]
    fn the_files_that_are_packaged_set_what_there_is() {
        let packaging = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
        let read = |name: &str| std::fs::read_to_string(packaging.join(name)).unwrap();
        for name in ["debian/haven.toml", "docker/haven.toml"] {
            let text = read(name);
            for text in [with_examples(&text), text] {
                let config =
                    Config::from_text(&text, name).unwrap_or_else(|trouble| panic!("{}", trouble.render(false)));
                assert!(config.mount.allow_other, "{name}: Immich is somebody else");
            }
        }
        // What the image and the compose file take for granted.
        let (config, compose) =
            (Config::from_text(&read("docker/haven.toml"), "").unwrap(), read("docker/compose.yaml"));
        let point = config.mount.point.clone().unwrap().display().to_string();
        assert!(read("docker/Dockerfile").contains(&format!("PHOTOS={point}\n")), "the health check looks there");
        assert!(config.app(None).unwrap().reach().unwrap().database.contains("host=database "));
        assert!(compose.contains("127.0.0.1:8470:8470") && config.page.listen == "0.0.0.0:8470");
        assert!(compose.contains(&format!("IMMICH_MEDIA_LOCATION: {point}/{}", config.apps[0].own.folder)));
    }

    #[test]
    fn the_owners_file_goes_over_the_defaults() {
        let text = "[cache]\nsize = \"30GB\"\n[store.s3]\nregion = \"mars-1\"";
        let config = Config::from_text(text, "").unwrap();
        assert_eq!((config.cache.size, config.store.s3.region.as_deref()), (30_000_000_000, Some("mars-1")));
        assert_eq!(config.store.retry, StoreOptions::default().retry);
    }

    #[test]
    fn a_slip_is_answered_with_the_nearest_name() {
        insta::assert_snapshot!(refusal("[cache]\nsise = \"30GB\""), @r"
        haven: haven.toml sets cache.sise, which is no setting of haven's
          meaning  nothing was changed
          next     is it cache.size? `haven config` prints every setting
          code     usage, exit 2
        ");
        assert!(refusal("[s3]\nregion = 1").contains("is it store.s3?"));
        assert!(refusal("endpoint = 'x'").contains("is it store.s3.endpoint?"));
        assert!(refusal("zzz = 1").contains("next     `haven config`"));
    }

    #[test]
    fn a_value_that_cannot_be_meant_is_told_by_its_name() {
        insta::assert_snapshot!(refusal("[cache]\nsize = \"much\""), @r#"
        haven: the setting cache.size in haven.toml can't be meant
          because  "much" does not begin with a number
          meaning  nothing was changed
          next     `haven config` shows what cache.size may be
          code     usage, exit 2
        "#);
        assert!(refusal("[mount]\nfsync = \"maybe\"").contains("mount.fsync"));
        assert!(refusal("[cache\nsize = 1").contains("line 1 is not TOML"));
    }
}
