//! The copies in foreign formats that haven.toml names: what holds for all, what for each, and how one is opened.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use haven_offsite::{
    Passphrase, ThirdCopy,
    borg::{self, Borg},
    restic::{self, Restic},
};
use haven_store::human;
use serde::Deserialize;
use toml::{Table, Value};
use toml_edit::{DocumentMut, value};
use zeroize::Zeroizing;

use crate::{
    cli::copy::Remembered,
    config::{self, Config, Size, over},
    report::{Code, Trouble, UNTOUCHED},
    settings_file,
};

/// How often Borg makes what it has sent known to the next run, should this one be cut off.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);

/// One copy: the table `[copy.NAME]`, over what holds for all.
#[derive(Debug, Clone, Deserialize)]
pub struct CopyConfig {
    #[serde(default)]
    pub format: Format,
    pub repository: String,
    pub keep: Option<String>,
    pub prefix: String,
    #[serde(with = "human::duration")]
    pub lock_wait: Duration,
    pub upload_rate_max: Size,
    pub download_rate_max: Size,
    pub parallel: usize,
    pub directory: Option<PathBuf>,
    pub passphrase_file: Option<PathBuf>,
    pub passphrase_command: Option<String>,
    pub environment_file: Option<PathBuf>,
    pub ssh_key: Option<PathBuf>,
    pub known_hosts: Option<PathBuf>,
    pub program: Option<String>,
    pub remote_program: Option<String>,
    pub encryption: Option<String>,
    pub key_file: Option<PathBuf>,
    pub compression: Option<String>,
    #[serde(default)]
    pub append_only: bool,
    pub library: Option<PathBuf>,
}

/// Where a service once kept what it remembers of copies.
const SERVICE: &str = "/var/lib/haven/copies";

/// Where copies are kept when nobody says; what `service` remembers of this one stays there.
fn usual_place(own: Option<PathBuf>, service: &Path, name: &str) -> PathBuf {
    match own {
        Some(own) if !Remembered::file(&service.join(name)).exists() => own,
        _ => service.to_owned(),
    }
}

/// Whose format it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Borg,
    Restic,
}

impl Format {
    pub fn word(self) -> &'static str {
        match self {
            Self::Borg => "borg",
            Self::Restic => "restic",
        }
    }
}

/// Whether a copy can be called so.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match name {
        "" => Err("a name has at least one character"),
        _ if !name.chars().all(plain) => Err("a name has letters, digits, - and _ alone"),
        "keep" | "prefix" | "lock_wait" | "upload_rate_max" | "download_rate_max" | "parallel" | "directory" => {
            Err("this is the name of a setting")
        }
        _ => Ok(()),
    }
}

/// Every name that may stand in the table of one copy. `all` are the names of all settings.
pub fn known(all: &Table) -> Table {
    let (tables, common) = parted(all);
    let own = tables.into_iter().filter_map(|(_, one)| if let Value::Table(one) = one { Some(one) } else { None });
    common.into_iter().chain(own.flatten()).collect()
}

/// The table of each copy in `merged`, with what holds for all of them put below it.
pub fn expanded(merged: &Table) -> Vec<(String, Table)> {
    let (tables, common) = parted(merged);
    let one = |(name, own): (String, Value)| {
        let Value::Table(own) = own else { return None };
        Some((name, over(common.clone(), own)))
    };
    tables.into_iter().filter_map(one).collect()
}

fn parted(all: &Table) -> (Vec<(String, Value)>, Table) {
    let Some(Value::Table(copy)) = all.get("copy") else { return Default::default() };
    let (tables, common): (Vec<_>, Vec<_>) = copy.clone().into_iter().partition(|(_, value)| value.is_table());
    (tables, common.into_iter().collect())
}

impl Config {
    /// The copy called so.
    pub fn copy_called(&self, name: &str) -> Result<&CopyConfig, Trouble> {
        self.copies.get(name).ok_or_else(|| {
            let trouble = Trouble::new(Code::Usage, format!("no copy is called {name}")).meaning(UNTOUCHED);
            let names: Vec<String> = self.copies.keys().cloned().collect();
            let trouble = match config::nearest(name, &names) {
                Some(near) => trouble.next(format!("is it {near}?")),
                None => trouble,
            };
            trouble.next("haven copy list    tells which there are; haven copy add NAME REPOSITORY    makes one")
        })
    }
}

impl CopyConfig {
    /// Where this copy's programs keep what is theirs, and ours beside it.
    pub fn directory(&self, name: &str) -> PathBuf {
        let usual = || {
            let own = config::user_directory("XDG_STATE_HOME", ".local/state");
            // A service of systemd has no HOME, and yet the same place as its user has at a shell: two runs of one copy meet
            // at its lock, and each knows what the other has made.
            let home = || std::env::home_dir().filter(|home| home.is_absolute());
            let own = own.or_else(|| Some(home()?.join(".local/state/haven")));
            usual_place(own.map(|own| own.join("copies")), SERVICE.as_ref(), name)
        };
        let base = self.directory.clone().unwrap_or_else(usual);
        std::path::absolute(&base).unwrap_or(base).join(name)
    }

    fn passphrase(&self, name: &str) -> Result<Option<Passphrase>, Trouble> {
        match (&self.passphrase_file, &self.passphrase_command) {
            (Some(_), Some(_)) => Err(Trouble::new(
                Code::Usage,
                format!("copy.{name} has both a passphrase_file and a passphrase_command"),
            )
            .meaning(UNTOUCHED)
            .next("take one of them out of haven.toml")),
            (Some(file), None) => Ok(Some(Passphrase::File(file.clone()))),
            (None, Some(command)) => Ok(Some(Passphrase::Command(command.clone()))),
            (None, None) => Ok(None),
        }
    }

    /// Whether it was chosen that everybody may read it.
    pub fn open_to_all(&self) -> bool {
        self.format == Format::Borg && self.encryption.as_deref() == Some("none")
    }

    /// Whether there is a passphrase with anything in it.
    pub fn has_secret(&self, name: &str) -> Result<bool, Trouble> {
        let cannot = |what: String, error: &std::io::Error| {
            Trouble::new(Code::BadSecret, what).caused_by(error).meaning(UNTOUCHED)
        };
        let said = match self.passphrase(name)? {
            None => return Ok(false),
            Some(Passphrase::File(file)) => fs::read(&file)
                .map_err(|error| cannot(format!("the passphrase file {} can't be read", file.display()), &error))?,
            Some(Passphrase::Command(command)) => {
                let done = Command::new("/bin/sh").arg("-c").arg(command).stdin(Stdio::null()).output();
                done.map_err(|error| cannot("the passphrase command can't be run".into(), &error))?.stdout
            }
        };
        let said = Zeroizing::new(said);
        Ok(said.first().is_some_and(|first| *first != b'\n' && *first != b'\r'))
    }

    fn environment(&self) -> Result<Vec<(String, String)>, Trouble> {
        let Some(path) = &self.environment_file else { return Ok(Vec::new()) };
        let text = fs::read_to_string(path).map_err(|error| {
            Trouble::new(Code::Usage, format!("the environment file {} can't be read", path.display()))
                .caused_by(&error)
                .meaning(UNTOUCHED)
        })?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pair = |line: &str| {
            let (name, value) = line.split_once('=')?;
            let value = value.trim();
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            Some((name.trim().trim_start_matches("export ").to_owned(), bare.to_owned()))
        };
        lines.map(pair).collect::<Option<_>>().ok_or_else(|| {
            Trouble::new(Code::Usage, format!("{} has a line that is not NAME=VALUE", path.display()))
                .meaning(UNTOUCHED)
        })
    }

    /// Ready to be used. The repository is not touched yet. `limit`: bytes a second, instead of the settings'.
    pub fn open(&self, name: &str, limit: Option<u64>) -> Result<Box<dyn ThirdCopy>, Trouble> {
        let directory = self.directory(name);
        let told = |error| super::cli::copy::trouble(name, &error);
        let kib = |bytes: u64| if bytes == 0 { 0 } else { (bytes / 1024).max(1) };
        let upload_kib = kib(limit.unwrap_or(self.upload_rate_max.0));
        let download_kib = kib(limit.unwrap_or(self.download_rate_max.0));
        let program = self.program.clone().unwrap_or_else(|| self.format.word().into());
        match self.format {
            Format::Borg => Ok(Box::new(
                Borg::new(borg::Options {
                    program,
                    repository: self.repository.clone(),
                    base: directory.join("borg"),
                    passphrase: self.passphrase(name)?,
                    environment: self.environment()?,
                    key_file: self.key_file.clone(),
                    ssh_key: self.ssh_key.clone(),
                    known_hosts: self.known_hosts.clone(),
                    remote_program: self.remote_program.clone(),
                    encryption: self.encryption.clone().unwrap_or_else(|| "repokey-blake2".into()),
                    compression: self.compression.clone().unwrap_or_else(|| "auto,zstd".into()),
                    lock_wait: self.lock_wait,
                    checkpoint_every: CHECKPOINT_EVERY,
                    upload_kib,
                    download_kib,
                    append_only: self.append_only,
                })
                .map_err(told)?,
            )),
            Format::Restic => Ok(Box::new(
                Restic::new(restic::Options {
                    program,
                    repository: self.repository.clone(),
                    base: directory.join("restic"),
                    passphrase: self.passphrase(name)?,
                    environment: self.environment()?,
                    ssh_key: self.ssh_key.clone(),
                    known_hosts: self.known_hosts.clone(),
                    compression: self.compression.clone().unwrap_or_else(|| "auto".into()),
                    lock_wait: self.lock_wait,
                    upload_kib,
                    download_kib,
                    append_only: self.append_only,
                })
                .map_err(told)?,
            )),
        }
    }
}

/// What `haven copy add` writes.
#[derive(Debug, Clone, Default)]
pub struct New {
    pub format: Format,
    pub repository: String,
    pub passphrase_file: Option<PathBuf>,
    pub ssh_key: Option<PathBuf>,
    pub known_hosts: Option<PathBuf>,
    pub append_only: bool,
    pub library: Option<PathBuf>,
}

fn insert(document: &mut DocumentMut, name: &str, new: &New) {
    let mut one = toml_edit::Table::new();
    one["format"] = value(new.format.word());
    one["repository"] = value(&new.repository);
    let paths = [
        ("passphrase_file", &new.passphrase_file),
        ("ssh_key", &new.ssh_key),
        ("known_hosts", &new.known_hosts),
        ("library", &new.library),
    ];
    for (key, path) in paths {
        if let Some(path) = path {
            one[key] = value(path.display().to_string());
        }
    }
    if new.append_only {
        one["append_only"] = value(true);
    }
    settings_file::insert(document, "copy", name, one);
}

/// The lines that make a copy, for people to write themselves.
pub fn lines(name: &str, new: &New) -> String {
    let mut document = DocumentMut::new();
    insert(&mut document, name, new);
    document.to_string()
}

/// Writes a copy's table into the file at `path`, which need not exist.
pub fn write(path: &Path, name: &str, new: &New) -> Result<(), Trouble> {
    settings_file::change(path, |document| insert(document, name, new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_what_holds_for_all_and_over_it_what_is_its_own() {
        let text = "[copy]\nkeep = 'daily 7'\nlock_wait = '1min'\n[copy.home]\nrepository = 'ssh://nas/./x'\nkeep = \
                    'daily 3'\n[copy.far]\nformat = 'restic'\nrepository = 's3:https://h/b'\nupload_rate_max = '1MB'\n";
        let config = Config::from_text(text, "").unwrap();
        let (home, far) = (config.copy_called("home").unwrap(), config.copy_called("far").unwrap());
        assert_eq!((home.keep.as_deref(), far.keep.as_deref()), (Some("daily 3"), Some("daily 7")));
        assert_eq!((home.format, far.format, far.prefix.as_str()), (Format::Borg, Format::Restic, "haven-"));
        assert_eq!((home.lock_wait.as_secs(), far.upload_rate_max.0), (60, 1_000_000));
    }

    #[test]
    fn slips_in_a_copys_table_are_refused_by_name() {
        let refusal = |text: &str| Config::from_text(text, "haven.toml").unwrap_err().render(false);
        assert!(refusal("[copy.near]\nrepositry = '/x'").contains("sets copy.near.repositry"));
        assert!(refusal("[copy.near]\nformat = 'borg'").contains("repository"));
        assert!(refusal("[copy.near]\nformat = 'tar'\nrepository = '/x'").contains("copy.near.format"));
        assert!(refusal("[copy]\nkep = 'x'").contains("is it copy.keep?"));
    }

    #[test]
    fn a_service_and_a_person_keep_a_copy_at_one_place_and_what_is_remembered_stays() {
        let service = tempfile::tempdir().unwrap();
        let own = || Some(PathBuf::from("/root/.local/state/haven/copies"));
        assert_eq!(usual_place(own(), service.path(), "home"), own().unwrap());
        assert_eq!(usual_place(None, service.path(), "home"), service.path());
        fs::create_dir(service.path().join("home")).unwrap();
        fs::write(Remembered::file(&service.path().join("home")), "{}").unwrap();
        assert_eq!(usual_place(own(), service.path(), "home"), service.path());
        assert_eq!(usual_place(own(), service.path(), "far"), own().unwrap());
    }

    #[test]
    fn what_add_writes_can_be_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("haven.toml");
        let new = New { repository: "/srv/borg".into(), append_only: true, ..New::default() };
        write(&path, "near", &new).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, lines("near", &new));
        assert!(Config::from_text(&text, "").unwrap().copy_called("near").unwrap().append_only);
        settings_file::erase(&path, "copy", "near").unwrap();
        assert!(Config::from_text(&fs::read_to_string(&path).unwrap(), "").unwrap().copies.is_empty());
    }
}
