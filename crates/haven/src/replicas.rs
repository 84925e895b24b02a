//! The replicas that haven.toml names: what holds for all, what for each, and how one is written there or taken out.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use haven_store::{StoreOptions, human};
use serde::Deserialize;
use toml::{Table, Value};
use toml_edit::{DocumentMut, value};

use crate::{
    cli::absolute,
    config::{self, Config, over},
    report::{Code, Trouble, UNTOUCHED},
    settings_file,
};

/// What holds for every replica that does not say otherwise: the table `[replica]`.
#[derive(Debug, Clone, Deserialize)]
pub struct Common {
    #[serde(with = "human::duration")]
    pub grace: Duration,
    pub brake: f64,
    #[serde(with = "human::bytes")]
    pub brake_floor: u64,
    #[serde(with = "human::duration")]
    pub verify_within: Duration,
    pub parallel: usize,
    #[serde(with = "human::duration")]
    pub every: Duration,
    #[serde(with = "human::duration")]
    pub lag: Duration,
    #[serde(with = "human::duration")]
    pub note_every: Duration,
}

/// One replica: the table `[replica.NAME]`.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    pub own: Own,
    pub common: Common,
}

/// A library or a copy of it, by what somebody typed.
#[derive(Debug, Clone)]
pub struct Place {
    pub url: String,
    /// How its store is opened.
    pub store: StoreOptions,
}

/// What no two replicas share.
#[derive(Debug, Clone, Deserialize)]
pub struct Own {
    pub url: String,
    /// The name of another replica, or a URL; else it is a copy of the library.
    pub from: Option<String>,
    pub store: StoreOptions,
}

/// Whether a replica can be called so.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match name {
        "" => Err("a name has at least one character"),
        _ if !name.chars().all(plain) => Err("a name has letters, digits, - and _ alone"),
        "grace" | "brake" | "brake_floor" | "verify_within" | "parallel" | "every" | "lag" | "note_every" => {
            Err("this is the name of a setting")
        }
        _ => Ok(()),
    }
}

/// Every name that may stand in the table of one replica. `all` are the names of all settings.
pub fn known(all: &Table) -> Table {
    let Some(Value::Table(replica)) = all.get("replica") else { return Table::new() };
    let (tables, common): (Vec<_>, Vec<_>) = replica.clone().into_iter().partition(|(_, value)| value.is_table());
    let one =
        tables.into_iter().filter_map(|(_, table)| if let Value::Table(table) = table { Some(table) } else { None });
    let store = all.get("store").cloned().map(|store| ("store".to_owned(), store));
    common.into_iter().chain(one.flatten()).chain(store).collect()
}

/// The table of each replica in `merged`, with what holds for all of them put below it. Of the library's own store only
/// what holds anywhere is passed on: a copy in the same place under the same key would be none.
pub fn expanded(merged: &Table, defaults: &Table) -> Vec<(String, Table)> {
    let Some(Value::Table(replica)) = merged.get("replica") else { return Vec::new() };
    let (named, common): (Vec<_>, Vec<_>) = replica.clone().into_iter().partition(|(_, value)| value.is_table());
    let common: Table = common.into_iter().collect();
    let table = |from: &Table, name: &str| match from.get(name) {
        Some(Value::Table(table)) => table.clone(),
        _ => Table::new(),
    };
    let anywhere = ["timeout", "retry", "limit"];
    let shared = table(merged, "store").into_iter().filter(|(name, _)| anywhere.contains(&name.as_str())).collect();
    let mut store = over(table(defaults, "store"), shared);
    if let Some(Value::Table(s3)) = store.get_mut("s3") {
        // Costs nothing, and a store that knows it refuses what was damaged on the way.
        s3.insert("checksum".into(), Value::String("crc32c".into()));
    }
    let one = |(name, own): (String, Value)| {
        let Value::Table(own) = own else { return None };
        let mut below = common.clone();
        below.insert("store".into(), Value::Table(store.clone()));
        Some((name, over(below, own)))
    };
    named.into_iter().filter_map(one).collect()
}

impl Config {
    /// The replica called so.
    pub fn replica(&self, name: &str) -> Result<&ReplicaConfig, Trouble> {
        self.replicas.get(name).ok_or_else(|| {
            let trouble = Trouble::new(Code::Usage, format!("no replica is called {name}")).meaning(UNTOUCHED);
            let names: Vec<String> = self.replicas.keys().cloned().collect();
            let trouble = match config::nearest(name, &names) {
                Some(near) => trouble.next(format!("is it {near}?")),
                None => trouble,
            };
            trouble.next("haven replica list    tells which there are; haven replica add NAME URL    makes one")
        })
    }

    /// What is meant: a replica by its name, else a URL.
    pub fn place(&self, named: &str) -> Place {
        match self.replicas.get(named) {
            Some(one) => Place { url: one.own.url.clone(), store: one.own.store.clone() },
            None => {
                let url = absolute(named);
                Place { store: self.store_of(&url), url }
            }
        }
    }

    /// How the store at `url` is to be opened: as a replica, if it is one. The library's own URL means the library, even
    /// where a replica has the same one at another endpoint: that replica goes by its name.
    pub fn store_of(&self, url: &str) -> StoreOptions {
        let library = self.library.url.as_deref().is_some_and(|library| same_url(&absolute(library), url));
        let replica = self.replica_at(url).filter(|_| !library);
        replica.map_or_else(|| self.store.clone(), |(_, one)| one.own.store.clone())
    }

    /// The replica at `url`, and its name.
    pub fn replica_at(&self, url: &str) -> Option<(&str, &ReplicaConfig)> {
        self.replicas.iter().find(|(_, one)| same_url(&one.own.url, url)).map(|(name, one)| (name.as_str(), one))
    }

    /// The file that settings are written to: the one that was read, else the user's own.
    pub fn own_file(&self) -> Option<PathBuf> {
        self.from.clone().or_else(|| config::config_directory().map(|directory| directory.join("haven.toml")))
    }
}

fn same_url(one: &str, other: &str) -> bool {
    let plain = |url: &str| url.strip_prefix("file://").unwrap_or(url).trim_end_matches('/').to_owned();
    plain(one) == plain(other)
}

/// The lines that make a replica, for people to write themselves.
pub fn lines(name: &str, url: &str, from: Option<&str>) -> String {
    let mut document = DocumentMut::new();
    insert(&mut document, name, url, from);
    document.to_string()
}

fn insert(document: &mut DocumentMut, name: &str, url: &str, from: Option<&str>) {
    let mut one = toml_edit::Table::new();
    one["url"] = value(url);
    if let Some(from) = from {
        one["from"] = value(from);
    }
    settings_file::insert(document, "replica", name, one);
}

/// Writes a replica's table into the file at `path`, which need not exist.
pub fn write(path: &Path, name: &str, url: &str, from: Option<&str>) -> Result<(), Trouble> {
    settings_file::change(path, |document| insert(document, name, url, from))
}

/// Takes a replica's table out of the file at `path`.
pub fn erase(path: &Path, name: &str) -> Result<(), Trouble> {
    settings_file::erase(path, "replica", name)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    const TEXT: &str = r#"
# my settings
[store.s3]
region = "mars-1"
[store.retry]
patience = "7s"
[replica]
grace = "3d"
[replica.near]
url = "/srv/near"   # the other disk
brake = 0.5
[replica.far]
url = "s3://far/haven"
from = "near"
[replica.far.store.s3]
region = "venus-2"
[replica.far.store.s3.credentials]
file = "/etc/haven/far-key"
"#;

    #[test]
    fn a_replica_has_what_holds_for_all_and_over_it_what_is_its_own() {
        let config = Config::from_text(TEXT, "haven.toml").unwrap();
        let (near, far) = (config.replica("near").unwrap(), config.replica("far").unwrap());
        assert_eq!((near.common.grace, far.common.grace), (Duration::from_secs(3 * 86_400), near.common.grace));
        assert_eq!((near.common.brake, far.common.brake), (0.5, 0.2));
        assert_eq!(far.own.from.as_deref(), Some("near"));
        assert_eq!(near.own.store.retry.patience, Duration::from_secs(7));
        assert_eq!((near.own.store.s3.region.as_deref(), far.own.store.s3.region.as_deref()), (None, Some("venus-2")));
        assert_eq!(config.store.s3.region.as_deref(), Some("mars-1"));
    }

    #[test]
    fn a_replica_is_opened_as_one_by_its_name_and_by_its_url() {
        let config = Config::from_text(&format!("[library]\nurl = 's3://photos/haven'\n{TEXT}"), "").unwrap();
        let region = |named: &str| config.place(named).store.s3.region;
        for far in ["far", "s3://far/haven", "s3://far/haven/"] {
            assert_eq!(region(far).as_deref(), Some("venus-2"), "{far}");
        }
        assert_eq!(config.place("far").url, "s3://far/haven");
        assert_eq!((region("s3://photos/haven").as_deref(), region("near")), (Some("mars-1"), None));
        assert_eq!(config.replica_at("file:///srv/near/").map(|(name, _)| name), Some("near"));
        // The same bucket's name at another provider: by its URL it is the library.
        let text = TEXT.replace("s3://far/haven", "s3://photos/haven");
        let config = Config::from_text(&format!("[library]\nurl = 's3://photos/haven'\n{text}"), "").unwrap();
        assert_eq!(config.store_of("s3://photos/haven").s3.region.as_deref(), Some("mars-1"));
        assert_eq!(config.place("far").store.s3.region.as_deref(), Some("venus-2"));
    }

    #[test]
    fn slips_in_a_replicas_table_are_refused_by_name() {
        let refusal = |text: &str| Config::from_text(text, "haven.toml").unwrap_err().render(false);
        assert!(refusal("[replica.near]\nulr = '/x'").contains("sets replica.near.ulr"));
        assert!(refusal("[replica.near]\nurl = '/x'\n[replica.near.store.s4]").contains("sets replica.near.store.s4"));
        assert!(refusal("[replica.near]\ngrace = '3d'").contains("url"), "{}", refusal("[replica.near]\ngrace = '3d'"));
        assert!(refusal("[replica.near]\nurl = '/x'\ngrace = 'soon'").contains("replica.near.grace"));
        assert!(refusal("[replica.\"a b\"]\nurl = '/x'").contains("no setting"));
        assert!(refusal("[replica]\nbrke = 1").contains("is it replica.brake?"));
    }

    #[test]
    fn a_file_is_changed_and_keeps_its_comments() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("haven.toml");
        fs::write(&path, TEXT).unwrap();
        write(&path, "third", "/srv/third", None).unwrap();
        erase(&path, "far").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("# my settings") && text.contains("# the other disk"), "{text}");
        let config = Config::from_text(&text, "").unwrap();
        assert_eq!(config.replicas.keys().collect::<Vec<_>>(), ["near", "third"]);
        let fresh = directory.path().join("new/haven.toml");
        write(&fresh, "near", "/srv/near", Some("far")).unwrap();
        assert_eq!(fs::read_to_string(&fresh).unwrap(), lines("near", "/srv/near", Some("far")));
        assert_eq!(fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
