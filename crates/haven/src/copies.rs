//! The copies in foreign formats that haven.toml names: what holds for all, what for each, and how one is opened.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
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
    cli::copy::ARCHIVES,
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
        chosen(&self.places(name)).to_owned()
    }

    /// Where that may be: what was named, else the usual place, and those that were usual before.
    fn places(&self, name: &str) -> Vec<PathBuf> {
        let bases = match &self.directory {
            Some(named) => vec![std::path::absolute(named).unwrap_or_else(|_| named.clone())],
            None => {
                let root = rustix::process::geteuid().is_root();
                let shared = root.then(|| PathBuf::from(config::MACHINE_STATE));
                let own = config::user_directory("XDG_STATE_HOME", ".local/state");
                let all = [config::state_directory()].into_iter().chain(shared).chain(own);
                all.map(|base| base.join("copies")).collect()
            }
        };
        bases.into_iter().map(|base| base.join(name)).collect()
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
        let places = self.places(name);
        let directory = chosen(&places);
        if self.format == Format::Borg && self.key_file.is_none() {
            bring_keys(directory, &places).map_err(|error| {
                Trouble::new(Code::Local, format!("copy {name}: the key of its repository can't be brought over"))
                    .caused_by(&error)
                    .meaning(UNTOUCHED)
                    .next(format!("let this user write to {}", directory.display()))
            })?;
        }
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

/// The first of `places`, unless another one knows of archives and it does not: a shell of root's and a service once kept
/// each its own, and what was begun at one of them goes on there.
fn chosen(places: &[PathBuf]) -> &Path {
    let knows = |place: &&PathBuf| place.join(ARCHIVES).exists();
    places.iter().find(knows).unwrap_or(&places[0])
}

/// Where Borg keeps the keys of repositories that are locked by a file.
const KEYS: &str = "borg/.config/borg/keys";

/// Without its key nobody opens such a repository: one that lies at another of the places is copied to this one.
fn bring_keys(to: &Path, places: &[PathBuf]) -> io::Result<()> {
    let to = to.join(KEYS);
    for from in places.iter().map(|place| place.join(KEYS)).filter(|from| *from != to) {
        let Ok(keys) = fs::read_dir(from) else { continue };
        for key in keys {
            let key = key?;
            let there = to.join(key.file_name());
            if there.exists() || !key.file_type()?.is_file() {
                continue;
            }
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&to)?;
            // For its owner's eyes alone, and whole or not at all.
            let mut file = tempfile::NamedTempFile::new_in(&to)?;
            io::Write::write_all(&mut file, &Zeroizing::new(fs::read(key.path())?))?;
            file.as_file().sync_all()?;
            file.persist(&there)?;
        }
    }
    Ok(())
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
    fn a_service_and_a_shell_keep_what_they_know_at_one_place_and_leave_no_key_behind() {
        let directory = tempfile::tempdir().unwrap();
        let [service, shell] = ["var/copies/home", "root/copies/home"].map(|place| directory.path().join(place));
        let (as_shell, as_service) =
            ([service.clone(), shell.clone()], [service.clone(), service.clone(), shell.clone()]);
        let both = || [chosen(&as_shell), chosen(&as_service)].map(Path::to_owned);
        assert_eq!(both(), [service.clone(), service.clone()], "where nothing is, the machine's place is taken");
        fs::create_dir_all(&service).unwrap();
        fs::create_dir_all(shell.join(KEYS)).unwrap();
        fs::write(shell.join(KEYS).join("srv_borg"), "BORG_KEY").unwrap();
        fs::write(shell.join(ARCHIVES), "{}").unwrap();
        assert_eq!(both(), [shell.clone(), shell.clone()], "what a shell has begun goes on, in the service too");
        fs::write(service.join(ARCHIVES), "{}").unwrap();
        assert_eq!(both(), [service.clone(), service.clone()], "of two the machine's");
        bring_keys(&service, &as_service).unwrap();
        let key = service.join(KEYS).join("srv_borg");
        assert_eq!(fs::read_to_string(&key).unwrap(), "BORG_KEY");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions()) & 0o777, 0o600);
        fs::write(&key, "another").unwrap();
        bring_keys(&service, &as_service).unwrap();
        assert_eq!(fs::read_to_string(&key).unwrap(), "another", "what is there stays");
        assert!(shell.join(KEYS).join("srv_borg").exists());
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
