//! `haven setup` without a word: five questions, each answer tried for real before the next is asked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use haven_format::keys::Secret;
use toml_edit::{DocumentMut, Item, Table, value};
use zeroize::Zeroizing;

use super::{
    asker::{Asker, say},
    finish,
};
use crate::{
    cli::{Context, init, wait},
    config::{self, Config},
    library::{self, dice},
    report::{Code, Trouble, UNTOUCHED},
    secret::Source,
    settings_file,
};

/// What is being set up.
pub struct Guide {
    pub asker: Asker,
    /// The settings file that is written in the end.
    pub path: PathBuf,
    pub document: DocumentMut,
    /// What this Haven can do.
    pub has: Abilities,
    /// Whose the application's folder is to be, if not of who makes it.
    pub owner: Option<Owner>,
}

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub name: String,
    pub user: u32,
    pub group: u32,
}

/// Commands that some versions lack: what they lack is not asked for.
#[derive(Debug, Clone, Copy)]
pub struct Abilities {
    pub backup: bool,
    pub alert: bool,
    pub keeper: bool,
}

impl Abilities {
    pub fn of(command: &clap::Command) -> Self {
        let has = |name: &str| command.find_subcommand(name).is_some();
        Self { backup: has("backup"), alert: has("alert"), keeper: has("run") }
    }
}

pub fn run(
    command: &clap::Command,
    config: Option<PathBuf>,
    json: bool,
    answers: Option<&Path>,
) -> Result<(), Trouble> {
    let asker = answers.map_or_else(Asker::person, Asker::file)?;
    let path = config.unwrap_or_else(usual_file);
    let path = std::path::absolute(&path).unwrap_or(path);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(cannot(&path, &error)),
    };
    let shown = path.display().to_string();
    // A file that is wrong already is told of before anything is asked.
    Config::from_text(&text, &shown)?;
    let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        Trouble::new(Code::Usage, format!("{shown} is not TOML")).caused_by(&error).meaning(UNTOUCHED)
    })?;
    let has = Abilities::of(command);
    let mut guide = Guide { asker, path, document, has, owner: None };
    say(&format!("Haven is set up in {shown}. Nothing is written there before all answers have been tried.\n"));

    say("1. The bucket: where your photos will live.");
    let exists = guide.bucket()?;
    say("\n2. The keys: what opens the library, and nobody else has.");
    let (source, kit) = guide.keys(exists)?;
    say("\n3. The folder: where programs find the photos.");
    guide.mount()?;
    if has.backup {
        say("\n4. The database: files and rows of one instant make a backup.");
        guide.database()?;
    }
    if has.alert {
        say("\n5. Who is told when something is wrong?");
        guide.tell()?;
        guide.switch()?;
    }
    finish::run(guide, json, exists, &source, &kit)
}

fn usual_file() -> PathBuf {
    let own = || Some(config::config_directory()?.join("haven.toml"));
    if rustix::process::geteuid().is_root() { None } else { own() }.unwrap_or_else(|| "/etc/haven/haven.toml".into())
}

fn cannot(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(Code::Local, format!("{} can't be read or written", path.display()))
        .caused_by(error)
        .meaning(UNTOUCHED)
        .next("run this as root, or name a file of your own: --config FILE")
}

impl Guide {
    /// The directory of the settings, where secrets lie beside them.
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The settings as answered so far.
    pub fn config(&self) -> Result<Config, Trouble> {
        let config = Config::from_text(&self.document.to_string(), &self.path.display().to_string())?;
        Ok(Config { from: Some(self.path.clone()), ..config })
    }

    /// What stands in the settings, where it is a text.
    pub fn now(&self, path: &[&str]) -> Option<String> {
        let mut item: &Item = self.document.as_item();
        for name in path {
            item = item.get(name)?;
        }
        item.as_str().map(str::to_owned)
    }

    pub fn set(&mut self, path: &[&str], to: impl Into<toml_edit::Value>) {
        let (last, tables) = path.split_last().expect("a setting has a name");
        let mut item = self.document.as_item_mut();
        for name in tables {
            let table = item.as_table_like_mut().expect("the file was read as settings");
            let fresh = || {
                let mut fresh = Table::new();
                fresh.set_implicit(true);
                Item::Table(fresh)
            };
            item = table.entry(name).or_insert_with(fresh);
        }
        if let Some(table) = item.as_table_like_mut() {
            table.insert(last, value(to));
        }
    }

    /// A secret in a file of its own beside the settings, for its owner's eyes alone.
    pub fn keep_secret(&self, name: &str, text: &str) -> Result<PathBuf, Trouble> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory().join(name);
        let write = || -> std::io::Result<()> {
            let above = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(above)?;
            let mut file = tempfile::NamedTempFile::new_in(above)?;
            std::io::Write::write_all(&mut file, text.as_bytes())?;
            file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|error| cannot(&path, &error))?;
        Ok(path)
    }

    /// Where the library is or will be. True if there is one already.
    fn bucket(&mut self) -> Result<bool, Trouble> {
        // The asker is borrowed apart from what its answers change.
        let asker = std::mem::replace(&mut self.asker, Asker::Person);
        let result = asker.until(|| self.ask_bucket(&asker));
        self.asker = asker;
        result
    }

    fn ask_bucket(&mut self, asker: &Asker) -> Result<bool, Trouble> {
        let before = self.now(&["library", "url"]);
        let question = "s3://bucket/prefix, sftp://user@host/path, webdavs://user@host/path, or a directory";
        let url = asker.ask("bucket.url", question, before.as_deref())?;
        let url = if url.contains("://") {
            url
        } else {
            format!("file://{}", std::path::absolute(&url).unwrap_or_else(|_| url.clone().into()).display())
        };
        self.set(&["library", "url"], &url);
        if url.starts_with("s3://") {
            self.ask_s3(asker)?;
        }
        let config = self.config()?;
        say("   trying it …");
        wait(async {
            let options = haven_store::StoreOptions { create: true, ..config.store.clone() };
            let store = library::open_store(&url, &options)?.store;
            match library::find(&store).await {
                Ok(_) => {
                    say("   there is a library already: it is used.");
                    Ok(true)
                }
                Err(trouble) if trouble.code == Code::NoLibrary => {
                    library::ensure_empty(&store, &url).await?;
                    init::ensure_fit(&url, &options).await?;
                    say("   it is empty, can be written to, and keeps the promises that a library needs.");
                    Ok(false)
                }
                Err(trouble) => Err(trouble),
            }
        })
    }

    fn ask_s3(&mut self, asker: &Asker) -> Result<(), Trouble> {
        let before = self.now(&["store", "s3", "endpoint"]).unwrap_or_default();
        let endpoint =
            asker.ask("bucket.endpoint", "   its endpoint, https://… (nothing: AWS itself)", Some(&before))?;
        if !endpoint.is_empty() {
            self.set(&["store", "s3", "endpoint"], &endpoint);
        }
        let before = self.now(&["store", "s3", "region"]).unwrap_or_else(|| "us-east-1".into());
        let region = asker.ask("bucket.region", "   its region", Some(&before))?;
        self.set(&["store", "s3", "region"], &region);
        let there = self.now(&["store", "s3", "credentials", "file"]);
        let keep = there.as_ref().map(|_| "as it is");
        let key_id = asker.ask("bucket.key_id", "   the access key's id", keep)?;
        if there.is_some() && key_id == "as it is" {
            return Ok(());
        }
        let secret = asker.ask_secret("bucket.secret_file", "   the access key's secret")?.ok_or_else(|| {
            Trouble::new(Code::NoSecret, "an access key has a secret")
                .meaning(UNTOUCHED)
                .next("answer bucket.secret_file")
        })?;
        let file = self.keep_secret("s3-key", &Zeroizing::new(format!("{key_id} {}\n", *secret)))?;
        self.set(&["store", "s3", "credentials", "file"], file.display().to_string());
        Ok(())
    }

    /// What unlocks the library, and where the recovery kit goes.
    fn keys(&mut self, exists: bool) -> Result<(Source, PathBuf), Trouble> {
        let asker = std::mem::replace(&mut self.asker, Asker::Person);
        let result = asker.until(|| self.ask_keys(&asker, exists));
        self.asker = asker;
        result
    }

    fn ask_keys(&mut self, asker: &Asker, exists: bool) -> Result<(Source, PathBuf), Trouble> {
        let usual = self.directory().join("passphrase").display().to_string();
        let before = self.now(&["key", "passphrase_file"]).unwrap_or(usual);
        let question = "The file with the passphrase: a mount at boot has nobody to ask";
        let path = PathBuf::from(asker.ask("keys.passphrase_file", question, Some(&before))?);
        let path = std::path::absolute(&path).unwrap_or(path);
        if !path.exists() {
            self.new_passphrase(asker, &path, exists)?;
        }
        self.set(&["key", "passphrase_file"], path.display().to_string());
        let source = Source::PassphraseFile(path);
        if exists {
            let (config, secret) = (self.config()?, source.read()?);
            wait(opens(&config, &secret))?;
            say("   it opens the library.");
            return Ok((source, PathBuf::new()));
        }
        let home = config::home().unwrap_or_else(|| "/root".into()).join("haven-recovery-kit.html");
        let question = "The recovery kit, a page to print: the only way in when the passphrase is lost";
        let kit = PathBuf::from(asker.ask("keys.kit", question, Some(&home.display().to_string()))?);
        let kit = std::path::absolute(&kit).unwrap_or(kit);
        if kit.exists() {
            return Err(Trouble::new(Code::Occupied, format!("{} is there already", kit.display()))
                .meaning("it may be the key of another library")
                .next("name a file that does not exist"));
        }
        let above = kit.parent().unwrap_or(Path::new("/"));
        if !above.is_dir() || rustix::fs::access(above, rustix::fs::Access::WRITE_OK).is_err() {
            return Err(Trouble::new(Code::Local, format!("nothing can be written into {}", above.display()))
                .meaning(UNTOUCHED));
        }
        Ok((source, kit))
    }

    fn new_passphrase(&self, asker: &Asker, path: &Path, exists: bool) -> Result<(), Trouble> {
        let question =
            if exists { "   the library's passphrase" } else { "   a passphrase of yours (nothing: one is made)" };
        let typed = if asker.is_person() { asker.ask_secret("", question)? } else { None };
        let text = match typed {
            Some(typed) => typed,
            None if exists => {
                return Err(Trouble::new(Code::NoSecret, format!("{} does not exist", path.display()))
                    .meaning(UNTOUCHED)
                    .next("write the library's passphrase there"));
            }
            None => made_up(),
        };
        let written = self.keep_secret(&path.display().to_string(), &Zeroizing::new(format!("{}\n", *text)))?;
        say(&format!("   it is in {}, for this machine's root or you alone.", written.display()));
        Ok(())
    }

    fn mount(&mut self) -> Result<(), Trouble> {
        let asker = std::mem::replace(&mut self.asker, Asker::Person);
        let result = asker.until(|| self.ask_mount(&asker));
        self.asker = asker;
        result
    }

    fn ask_mount(&mut self, asker: &Asker) -> Result<(), Trouble> {
        let root = rustix::process::geteuid().is_root();
        let usual = || {
            if root {
                "/mnt/photos".into()
            } else {
                config::home().unwrap_or_default().join("Photos").display().to_string()
            }
        };
        let before = self.now(&["mount", "point"]).unwrap_or_else(usual);
        let point = PathBuf::from(asker.ask("mount.point", "The folder, empty or not there yet", Some(&before))?);
        let point = std::path::absolute(&point).unwrap_or(point);
        self.set(&["mount", "point"], point.display().to_string());
        let others = asker.ask_yes(
            "mount.allow_other",
            "   may other users in, by the files' permissions? Immich is one",
            root,
        )?;
        self.set(&["mount", "allow_other"], others);
        let usual = || {
            if root {
                "/var/cache/haven".to_owned()
            } else {
                config::home().unwrap_or_default().join(".cache/haven/photos").display().to_string()
            }
        };
        let before = self.now(&["cache", "directory"]).unwrap_or_else(usual);
        let cache = PathBuf::from(asker.ask(
            "mount.cache",
            "   a directory on a disk of this machine, for what is used and not yet sent",
            Some(&before),
        )?);
        let cache = std::path::absolute(&cache).unwrap_or(cache);
        if cache.starts_with(&point) {
            return Err(Trouble::new(Code::Usage, "the cache can't be inside the folder it serves").meaning(UNTOUCHED));
        }
        self.set(&["cache", "directory"], cache.display().to_string());
        let before = self.now(&["cache", "size"]).unwrap_or_else(|| usual_size(&cache));
        let size = asker.ask("mount.cache_size", "   how much it may take at most", Some(&before))?;
        self.set(&["cache", "size"], &size);
        let size = self.config()?.cache.size;
        fs::create_dir_all(&cache).map_err(|error| cannot(&cache, &error))?;
        let space = rustix::fs::statvfs(&cache).map_err(|error| cannot(&cache, &error.into()))?;
        let free = space.f_bavail * space.f_frsize;
        if free < size.min(1 << 30) {
            return Err(Trouble::new(
                Code::Local,
                format!("only {} are free at {}", crate::words::bytes(free), cache.display()),
            )
            .meaning(UNTOUCHED)
            .next("name another disk, or make room"));
        }
        if !haven_mount::control::find(&point)
            .is_ok_and(|found| matches!(found, haven_mount::control::Found::Mount { .. }))
        {
            let left = fs::read_dir(&point).ok().and_then(|mut entries| entries.next()?.ok());
            if let Some(entry) = left {
                return Err(Trouble::new(Code::Mount, format!("{} is not empty", point.display()))
                    .because(format!("there is {}", entry.file_name().to_string_lossy()))
                    .meaning("it would be hidden below the mount")
                    .next("name another folder, or move what is there into the library later"));
            }
        }
        Ok(())
    }
}

async fn opens(config: &Config, secret: &Secret) -> Result<(), Trouble> {
    let url = config.library.url.clone().unwrap_or_default();
    let store = library::open_store(&url, &config.store)?.store;
    library::find(&store).await?.unlock(secret)?;
    Ok(())
}

/// 160 bits, in groups that can be read out.
fn made_up() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 20]);
    dice(&mut *bytes);
    let hex: Zeroizing<String> = Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    let groups: Vec<&str> = (0..10).map(|n| &hex[4 * n..4 * n + 4]).collect();
    Zeroizing::new(groups.join("-"))
}

/// A third of what is free, 100 GB at most.
fn usual_size(cache: &Path) -> String {
    let there = cache.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let free = rustix::fs::statvfs(there).map_or(30_000_000_000, |space| space.f_bavail * space.f_frsize);
    format!("{}GB", (free / 3_000_000_000).clamp(1, 100))
}

/// Writes the settings, whole or not at all.
pub fn write(guide: &Guide) -> Result<(), Trouble> {
    guide.config()?;
    settings_file::replace(&guide.path, &guide.document.to_string()).map_err(|error| cannot(&guide.path, &error))
}

/// The context that the next commands would have.
pub fn context(guide: &Guide, json: bool) -> Result<Context, Trouble> {
    Ok(Context { config: guide.config()?, json })
}
