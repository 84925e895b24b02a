//! What haven.toml says about recovery points: the table `[backup]`, and one `[backup.NAME]` for each application.

use std::{path::PathBuf, time::Duration};

use haven_point::{manifest::Kind, pg::Reach};
use haven_store::human;
use serde::Deserialize;
use toml::{Table, Value};

use crate::{
    config::{self, Config, over},
    report::{Code, Trouble, UNTOUCHED},
};

/// What holds for every application that does not say otherwise.
#[derive(Debug, Clone, Deserialize)]
pub struct Common {
    pub quiesce: By,
    pub keep: Option<String>,
    pub tries: u32,
    #[serde(with = "human::duration")]
    pub lock_wait: Duration,
    #[serde(with = "human::duration")]
    pub dump_limit: Duration,
    #[serde(with = "human::duration")]
    pub bucket_wait: Duration,
    pub drill_server: DrillServer,
}

/// The server that a drill brings the database back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DrillServer {
    /// One that is started for it.
    Own,
    /// The application's, beside its database.
    Application,
}

/// What makes the application stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Nothing but the file system, for some milliseconds.
    Freeze,
    /// Immich's own mode for it.
    Maintenance,
    Units,
    Compose,
    Commands,
}

impl By {
    pub fn word(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Maintenance => "maintenance",
            Self::Units => "units",
            Self::Compose => "compose",
            Self::Commands => "commands",
        }
    }
}

/// An application.
#[derive(Debug, Clone)]
pub struct App {
    pub name: String,
    pub own: Own,
    pub common: Common,
}

/// What no two applications share.
#[derive(Debug, Clone, Deserialize)]
pub struct Own {
    pub kind: Kind,
    #[serde(default)]
    pub folder: String,
    pub database: Option<String>,
    pub programs: Option<PathBuf>,
    #[serde(default)]
    pub within: Vec<String>,
    pub media_location: Option<String>,
    pub beside: Option<PathBuf>,
    pub server: Option<String>,
    pub api_key_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub units: Vec<String>,
    pub compose: Option<PathBuf>,
    #[serde(default)]
    pub services: Vec<String>,
    pub before: Option<String>,
    pub after: Option<String>,
}

impl App {
    /// How its database is reached; `None`: it has none.
    pub fn reach(&self) -> Option<Reach> {
        let own = &self.own;
        let database = own.database.clone().filter(|_| own.kind != Kind::Folder)?;
        Some(Reach { database, programs: own.programs.clone(), within: own.within.clone() })
    }

    /// Settings that do not go together.
    fn check(&self, shown: &str) -> Result<(), Trouble> {
        let table = format!("backup.{}", self.name);
        let refused = |what: String| Err(Trouble::new(Code::Usage, format!("{shown}: {what}")).meaning(UNTOUCHED));
        let inside = |folder: &str| {
            std::path::Path::new(folder).components().all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        match (self.own.kind, self.reach()) {
            (Kind::Immich | Kind::Postgres, None) => {
                return refused(format!("{table} has no database; a kind that has none is \"folder\""));
            }
            (_, Some(reach)) if reach.has_password() => {
                return Err(Trouble::new(
                    Code::Usage,
                    format!("{shown}: the database in {table} has a password in it"),
                )
                .because("every user of this machine would see it in the list of processes")
                .meaning(UNTOUCHED)
                .next("put it into ~/.pgpass, and say passfile=FILE in the database if it is elsewhere"));
            }
            _ => {}
        }
        if !inside(&self.own.folder) {
            return refused(format!("{table}.folder is a path relative to the library's root"));
        }
        match self.common.quiesce {
            By::Maintenance if self.own.kind != Kind::Immich => {
                refused(format!("{table} is no Immich, and has no maintenance mode"))
            }
            By::Maintenance if self.own.server.is_none() || self.own.api_key_file.is_none() => {
                refused(format!("{table} needs both server and api_key_file, an administrator's"))
            }
            By::Units if self.own.units.is_empty() => refused(format!("{table}.units names no unit to stop")),
            By::Compose if self.own.compose.is_none() => refused(format!("{table}.compose names no file")),
            By::Commands if self.own.before.is_none() || self.own.after.is_none() => {
                refused(format!("{table} needs both before and after"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether an application can be called so.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match name {
        "" => Err("a name has at least one character"),
        _ if !name.chars().all(plain) => Err("a name has letters, digits, - and _ alone"),
        "quiesce" | "keep" | "tries" | "lock_wait" | "dump_limit" | "bucket_wait" | "drill_server" => {
            Err("this is the name of a setting")
        }
        _ => Ok(()),
    }
}

/// Every name that may stand in the table of one application. `all` are the names of all settings.
pub fn known(all: &Table) -> Table {
    let Some(Value::Table(backup)) = all.get("backup") else { return Table::new() };
    let (tables, common): (Vec<_>, Vec<_>) = backup.clone().into_iter().partition(|(_, value)| value.is_table());
    let one =
        tables.into_iter().filter_map(|(_, table)| if let Value::Table(table) = table { Some(table) } else { None });
    common.into_iter().chain(one.flatten()).collect()
}

/// The table of each application in `merged`, with what holds for all put below it.
fn expanded(merged: &Table) -> Vec<(String, Table)> {
    let Some(Value::Table(backup)) = merged.get("backup") else { return Vec::new() };
    let (named, common): (Vec<_>, Vec<_>) = backup.clone().into_iter().partition(|(_, value)| value.is_table());
    let common: Table = common.into_iter().collect();
    let one = |(name, own): (String, Value)| match own {
        Value::Table(own) => Some((name, over(common.clone(), own))),
        _ => None,
    };
    named.into_iter().filter_map(one).collect()
}

/// All applications of the settings in `merged`.
pub fn apps(merged: &Table, shown: &str) -> Result<Vec<App>, Trouble> {
    let app = |(name, table): (String, Table)| {
        let above = format!("backup.{name}.");
        let own = config::read(table.clone(), &above, shown)?;
        let app = App { own, common: config::read(table, &above, shown)?, name };
        app.check(shown)?;
        Ok(app)
    };
    expanded(merged).into_iter().map(app).collect()
}

impl Config {
    /// The application called so; without a name the only one there is.
    pub fn app(&self, name: Option<&str>) -> Result<&App, Trouble> {
        let names: Vec<String> = self.apps.iter().map(|app| app.name.clone()).collect();
        match (name, self.apps.as_slice()) {
            (None, [only]) => Ok(only),
            (None, []) => Err(Trouble::new(Code::Usage, "haven.toml names nothing to back up")
                .meaning(UNTOUCHED)
                .next("add a table to it, [backup.immich] say; `haven config` shows what it may have")),
            (None, _) => Err(Trouble::new(Code::Usage, "which of them?")
                .because(format!("haven.toml names {}", names.join(", ")))
                .meaning(UNTOUCHED)
                .next("name one, or all of them with --all")),
            (Some(name), apps) => apps.iter().find(|app| app.name == name).ok_or_else(|| {
                let trouble =
                    Trouble::new(Code::Usage, format!("haven.toml has no table [backup.{name}]")).meaning(UNTOUCHED);
                match config::nearest(name, &names) {
                    Some(near) => trouble.next(format!("is it {near}?")),
                    None => trouble.next("`haven config` shows what such a table may have"),
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[backup]
keep = "daily 7"
[backup.immich]
kind = "immich"
folder = "immich"
database = "postgresql:///immich?host=/run/postgresql"
[backup.papers]
kind = "folder"
folder = "papers"
keep = "weekly 3"
drill_server = "application"
quiesce = "commands"
before = "papers stop"
after = "papers start"
"#;

    #[test]
    fn an_application_has_what_holds_for_all_and_over_it_what_is_its_own() {
        let config = Config::from_text(TEXT, "haven.toml").unwrap();
        let (immich, papers) = (config.app(Some("immich")).unwrap(), config.app(Some("papers")).unwrap());
        assert_eq!((immich.common.quiesce, papers.common.quiesce), (By::Freeze, By::Commands));
        assert_eq!((immich.common.keep.as_deref(), papers.common.keep.as_deref()), (Some("daily 7"), Some("weekly 3")));
        assert!(papers.reach().is_none() && immich.reach().is_some());
        // Nobody's own server is loaded without being asked.
        let servers = [immich, papers].map(|app| app.common.drill_server);
        assert_eq!(servers, [DrillServer::Own, DrillServer::Application]);
        assert!(config.app(None).unwrap_err().render(false).contains("immich, papers"));
        assert!(config.app(Some("imich")).unwrap_err().render(false).contains("is it immich?"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let refusal = |text: &str| Config::from_text(text, "haven.toml").unwrap_err().render(false);
        let with = |line: &str| refusal(&format!("[backup.a]\nkind = 'postgres'\n{line}"));
        assert!(with("databas = 'x'").contains("sets backup.a.databas"));
        assert!(with("").contains("has no database"));
        for password in ["postgresql://me:secret@db/x", "dbname=x password = secret"] {
            let told = with(&format!("database = '{password}'"));
            assert!(told.contains("password") && !told.contains("secret"), "{told}");
        }
        assert!(with("database = 'x'\nfolder = '/immich'").contains("relative"));
        assert!(with("database = 'x'\nfolder = '../x'").contains("relative"));
        assert!(with("database = 'x'\nquiesce = 'units'").contains("no unit"));
        assert!(with("database = 'x'\nquiesce = 'maintenance'").contains("is no Immich"));
        assert!(with("database = 'x'\nquiesce = 'luck'").contains("backup.a.quiesce"));
        assert!(refusal("[backup.a]\nkind = 'mysql'").contains("backup.a.kind"));
        assert!(with("database = 'x'\ndrill_server = 'any'").contains("backup.a.drill_server"));
        let immich = refusal("[backup.a]\nkind = 'immich'\ndatabase = 'x'\nquiesce = 'maintenance'\nserver = 'nas'");
        assert!(immich.contains("both server and api_key_file"), "{immich}");
        assert!(refusal("[backup]\ntrys = 1").contains("is it backup.tries?"));
    }
}
