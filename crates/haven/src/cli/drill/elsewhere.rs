//! What of haven.toml holds on another machine, and what is asked for there: files, commands and credentials of systemd's
//! are this machine's own, and with them keys and passphrases.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use toml::{Table, Value};

use crate::report::{Code, Trouble, UNTOUCHED};

/// Where the other machine has what was asked for, for as long as it takes: in memory.
pub const KEPT: &str = "/run/haven-comes-back";
/// Where it has certificates to trust.
const CERTIFICATES: &str = "/etc/haven/certificates";

/// What stands among the settings of a store and is this machine's own.
const OURS: [&str; 8] =
    ["credentials", "ca_file", "key_file", "agent", "known_hosts", "key_passphrase", "password", "token"];
/// What of the settings of a copy holds anywhere.
const ANYWHERE: [&str; 11] = [
    "format",
    "repository",
    "prefix",
    "lock_wait",
    "upload_rate_max",
    "download_rate_max",
    "parallel",
    "remote_program",
    "encryption",
    "compression",
    "append_only",
];

/// How something is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    Line,
    /// To the end.
    Lines,
    /// Variables of the environment, of these names.
    Variables(Vec<String>),
}

/// Something that is asked for there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its file below [`KEPT`].
    pub file: String,
    pub what: String,
    pub how: How,
}

/// What another machine is given. No secret is in it.
#[derive(Debug, Clone, Default)]
pub struct Elsewhere {
    /// Its haven.toml.
    pub settings: String,
    pub asked: Vec<Asked>,
    /// SSH servers whose keys it does not know: hosts and ports.
    pub servers: BTreeSet<(String, u16)>,
    /// Certificates: their paths there, and what they hold.
    pub certificates: Vec<(String, String)>,
    /// Programs to install.
    pub packages: BTreeSet<&'static str>,
    /// Places that this machine alone reaches.
    pub here: Vec<String>,
}

/// Reads a variable of the environment.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Elsewhere {
    /// What is needed of the settings `owner` for those that are `meant`: "library", replicas and copies by their names, or
    /// URLs; all there are, if none is. `library` is its URL.
    pub fn of(owner: &Table, library: Option<&str>, meant: &[String], env: Environment<'_>) -> Result<Self, Trouble> {
        let mut new = Self::default();
        let mut settings = Table::new();
        let is_meant = |name: &str| meant.is_empty() || meant.iter().any(|one| one == name);
        if let Some(url) = library {
            set(&mut settings, &["library", "url"], url);
        }
        let own = table(owner, "store");
        let mut store = bare(&own);
        let urls = meant.iter().map(String::as_str).filter(|one| one.contains("://"));
        for url in library.filter(|_| is_meant("library")).into_iter().chain(urls) {
            new.store("library", url, &own, &mut store, env)?;
        }
        set(&mut settings, &["store"], store);
        for (name, one) in tables(&table(owner, "replica")).filter(|(name, _)| is_meant(name)) {
            let url = one.get("url").and_then(Value::as_str).unwrap_or_default();
            let own = table(one, "store");
            let mut store = bare(&own);
            new.store(&format!("replica-{name}"), url, &own, &mut store, env)?;
            set(&mut settings, &["replica", name, "url"], url);
            set(&mut settings, &["replica", name, "store"], store);
        }
        let copies = table(owner, "copy");
        let mut copy = anywhere(&copies);
        for (name, one) in tables(&copies).filter(|(name, _)| is_meant(name)) {
            let mut there = anywhere(one);
            new.copy(name, one, &mut there)?;
            set(&mut copy, &[name], there);
        }
        set(&mut settings, &["copy"], copy);
        write(&settings, "", &mut new.settings);
        Ok(new)
    }

    /// Has it asked for; its path there.
    fn ask(&mut self, file: String, what: String, how: How) -> String {
        let path = format!("{KEPT}/{file}");
        self.asked.push(Asked { file, what, how });
        path
    }

    /// What opens the store at `url`, whose settings here are `own` and there `store`.
    fn store(
        &mut self,
        whose: &str,
        url: &str,
        own: &Table,
        store: &mut Table,
        env: Environment<'_>,
    ) -> Result<(), Trouble> {
        let has = |kind: &str, name: &str| own.get(kind).and_then(|one| one.get(name)).is_some();
        let (scheme, rest) = url.split_once("://").unwrap_or(("file", url));
        match scheme {
            "s3" => {
                let what = format!("a key that may read {url}: its id and its secret, with a space between");
                let path = self.ask(format!("{whose}-s3-key"), what, How::Line);
                set(store, &["s3", "credentials", "file"], path);
                let said = [
                    ("endpoint", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
                    ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"]),
                ];
                for (name, variables) in said {
                    let here = variables.into_iter().find_map(env);
                    if let Some(here) = here.filter(|_| !has("s3", name)) {
                        set(store, &["s3", name], here);
                    }
                }
                self.certificate(whose, "s3", own, store)?;
            }
            "sftp" => {
                if !has("sftp", "fingerprint") {
                    self.servers.insert(server(rest));
                }
                if has("sftp", "password") || env("HAVEN_SFTP_PASSWORD").is_some() {
                    let what = format!("the password for {url}");
                    let path = self.ask(format!("{whose}-sftp-password"), what, How::Line);
                    set(store, &["sftp", "password", "file"], path);
                } else {
                    let what = format!("the private SSH key for {url}");
                    let path = self.ask(format!("{whose}-ssh-key"), what, How::Lines);
                    set(store, &["sftp", "key_file"], path);
                    if has("sftp", "key_passphrase") || env("HAVEN_SFTP_KEY_PASSPHRASE").is_some() {
                        let what = format!("the passphrase of the SSH key for {url}");
                        let path = self.ask(format!("{whose}-ssh-passphrase"), what, How::Line);
                        set(store, &["sftp", "key_passphrase", "file"], path);
                    }
                }
            }
            "webdav" | "webdavs" => {
                let token = has("webdav", "token") || env("HAVEN_WEBDAV_TOKEN").is_some();
                let secret = if token { "token" } else { "password" };
                let path = self.ask(format!("{whose}-webdav-{secret}"), format!("the {secret} for {url}"), How::Line);
                set(store, &["webdav", secret, "file"], path);
                self.certificate(whose, "webdav", own, store)?;
            }
            _ => self.here.push(url.to_owned()),
        }
        Ok(())
    }

    /// A certificate to trust is no secret, and goes along.
    fn certificate(&mut self, whose: &str, kind: &str, own: &Table, store: &mut Table) -> Result<(), Trouble> {
        let file = own.get(kind).and_then(|one| one.get("ca_file")).and_then(Value::as_str);
        let Some(file) = file else { return Ok(()) };
        let path = format!("{CERTIFICATES}/{whose}.pem");
        self.certificates.push((path.clone(), read(file, "which servers are to be trusted")?));
        set(store, &[kind, "ca_file"], path);
        Ok(())
    }

    /// What opens a copy in a foreign format, whose settings here are `own` and there `copy`.
    fn copy(&mut self, name: &str, own: &Table, copy: &mut Table) -> Result<(), Trouble> {
        let text = |what: &str| own.get(what).and_then(Value::as_str);
        let repository = text("repository").unwrap_or_default();
        let restic = text("format") == Some("restic");
        self.packages.insert(if restic { "restic" } else { "borgbackup" });
        if text("passphrase_file").or(text("passphrase_command")).is_some() {
            let what = format!("the passphrase of the repository {repository}");
            let path = self.ask(format!("copy-{name}-passphrase"), what, How::Line);
            set(copy, &["passphrase_file"], path);
        }
        if text("key_file").is_some() || text("encryption").is_some_and(|how| how.starts_with("keyfile")) {
            let what = format!("the key of the repository {repository}, as borg key export tells it");
            let path = self.ask(format!("copy-{name}-key"), what, How::Lines);
            set(copy, &["key_file"], path);
        }
        if let Some(file) = text("environment_file") {
            let what = format!("the environment of the copy {name}");
            let lines = read(file, &what)?;
            let lines = lines.lines().map(str::trim).filter(|line| !line.starts_with('#'));
            let names = lines.filter_map(|line| Some(line.split_once('=')?.0.trim().trim_start_matches("export ")));
            let how = How::Variables(names.map(str::to_owned).collect());
            let path = self.ask(format!("copy-{name}-environment"), what, how);
            set(copy, &["environment_file"], path);
        }
        if let Some(server) = ssh_server(repository, restic) {
            self.servers.insert(server);
            let what = format!("the private SSH key for {repository}");
            let path = self.ask(format!("copy-{name}-ssh-key"), what, How::Lines);
            set(copy, &["ssh_key"], path);
        } else if !repository.contains(':') || ["file:", "rclone:"].iter().any(|kind| repository.starts_with(kind)) {
            self.here.push(repository.to_owned());
        }
        Ok(())
    }
}

fn read(file: &str, tells: &str) -> Result<String, Trouble> {
    fs::read_to_string(file).map_err(|error| {
        Trouble::new(Code::Local, format!("{file} can't be read"))
            .caused_by(&error)
            .because(format!("it tells {tells}, and another machine must know it"))
            .meaning(UNTOUCHED)
    })
}

/// Host and port of what stands behind `://`.
fn server(rest: &str) -> (String, u16) {
    let place = rest.split('/').next().unwrap_or(rest);
    let place = place.rsplit_once('@').map_or(place, |(_, host)| host);
    let (host, port) = match place.strip_prefix('[') {
        Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
        None => place.split_once(':').unwrap_or((place, "")),
    };
    (host.to_owned(), port.trim_start_matches(':').parse().unwrap_or(22))
}

/// The SSH server of a repository, as Borg or restic name it.
fn ssh_server(repository: &str, restic: bool) -> Option<(String, u16)> {
    let rest = match restic {
        true => repository.strip_prefix("sftp:")?,
        false => repository.strip_prefix("ssh:").unwrap_or(repository),
    };
    if let Some(rest) = rest.strip_prefix("//") {
        return Some(server(rest));
    }
    // user@host:path.
    let (place, _) = rest.split_once(':').filter(|(place, _)| !place.contains('/') && !rest.contains("://"))?;
    Some((place.rsplit_once('@').map_or(place, |(_, host)| host).to_owned(), 22))
}

fn table(from: &Table, name: &str) -> Table {
    from.get(name).and_then(Value::as_table).cloned().unwrap_or_else(Table::new)
}

fn tables(from: &Table) -> impl Iterator<Item = (&str, &Table)> {
    from.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_table()?)))
}

/// The settings of a store, without what is this machine's own.
fn bare(store: &Table) -> Table {
    let theirs = store.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
    let bare = |value: &Value| value.as_table().map_or_else(|| value.clone(), |table| Value::Table(bare(table)));
    theirs.map(|(name, value)| (name.clone(), bare(value))).collect()
}

/// The settings of a copy, or of all of them, that hold anywhere.
fn anywhere(copy: &Table) -> Table {
    let those = copy.iter().filter(|(name, _)| ANYWHERE.contains(&name.as_str()));
    those.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn set(table: &mut Table, path: &[&str], to: impl Into<Value>) {
    let Some((last, above)) = path.split_last() else { return };
    let mut here = table;
    for name in above {
        let next = here.entry((*name).to_owned()).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(next) = next else { return };
        here = next;
    }
    here.insert((*last).to_owned(), to.into());
}

/// As a file: what a table holds itself before the tables in it.
fn write(table: &Table, above: &str, out: &mut String) {
    for (name, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        _ = writeln!(out, "{name} = {value}");
    }
    for (name, inner) in tables(table) {
        let full = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
        if inner.values().any(|value| !value.is_table()) {
            _ = writeln!(out, "[{full}]");
        }
        write(inner, &full, out);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Config;

    /// As `haven setup` writes it, with replicas and copies added.
    const OLD: &str = r#"
[library]
url = "s3://photos/haven"

[store.s3]
endpoint = "https://s3.example.org"
region = "eu-central-1"

[store.s3.credentials]
file = "/etc/haven/s3-key"

[key]
passphrase_file = "/etc/haven/passphrase"

[mount]
point = "/mnt/photos"
allow_other = true

[cache]
directory = "/var/cache/haven"
size = "100GB"

[backup.immich]
kind = "immich"
folder = "immich"
database = "postgresql:///immich?host=/run/postgresql"

[alert.phone]
kind = "telegram"
chat = "1"
token.file = "/etc/haven/telegram-token"

[schedule]
drill_scratch = "/srv/scratch"

# On the shelf in /mnt/nas once.
[replica.far]
url = "sftp://backup@nas.example.org:2222/haven"
store.sftp.key_file = "/root/.ssh/id_ed25519"
[replica.friend]
url = "webdavs://me@dav.example.org/haven"
[replica.friend.store.webdav.password]
command = "pass show dav"

[copy]
prefix = "photos-"
directory = "/var/lib/haven/copies"
[copy.home]
repository = "ssh://backup@nas.example.org/./photos"
encryption = "keyfile-blake2"
passphrase_file = "/etc/haven/borg"
program = "/opt/borg/borg"
keep = "daily 7"
[copy.deep]
format = "restic"
repository = "sftp:store@deep.example.org:/restic"
passphrase_command = "cat /etc/haven/restic"
library = "/mnt/photos"
"#;

    fn of(text: &str, meant: &[&str]) -> Elsewhere {
        let meant: Vec<String> = meant.iter().map(|&name| name.to_owned()).collect();
        let owner: Table = text.parse().unwrap();
        let library = owner.get("library").and_then(|library| library.get("url")).and_then(Value::as_str);
        Elsewhere::of(&owner, library, &meant, &|_| None).unwrap()
    }

    #[test]
    fn nothing_of_the_old_machine_is_named_on_the_new_one_and_haven_takes_it() {
        let new = of(OLD, &[]);
        for old in ["/etc/haven/", "/root", "/var/", "/mnt", "/srv", "/opt", "pass show", "telegram", "[key]", "#"] {
            assert!(!new.settings.contains(old), "{old}: {}", new.settings);
        }
        let config = Config::from_text(&new.settings, "there").unwrap();
        assert_eq!(config.library.url.as_deref(), Some("s3://photos/haven"));
        assert_eq!(config.store.s3.endpoint.as_deref(), Some("https://s3.example.org"));
        let kept = |file: &str| Some(PathBuf::from(format!("{KEPT}/{file}")));
        assert_eq!(config.store.s3.credentials.file, kept("library-s3-key"));
        assert_eq!(config.replicas["far"].own.store.sftp.key_file, kept("replica-far-ssh-key"));
        assert_eq!(config.replicas["friend"].own.store.webdav.password.file, kept("replica-friend-webdav-password"));
        let home = config.copy_called("home").unwrap();
        assert_eq!((home.prefix.as_str(), &home.program, &home.keep), ("photos-", &None, &None));
        assert_eq!(
            (home.passphrase_file.clone(), home.key_file.clone()),
            (kept("copy-home-passphrase"), kept("copy-home-key"))
        );
        assert_eq!(config.copy_called("deep").unwrap().ssh_key, kept("copy-deep-ssh-key"));
        assert!(config.channels.is_empty() && config.apps.is_empty());
        let servers = [("deep.example.org", 22), ("nas.example.org", 22), ("nas.example.org", 2222)];
        assert_eq!(new.servers, BTreeSet::from(servers.map(|(host, port)| (host.to_owned(), port))));
        assert!(new.packages == BTreeSet::from(["borgbackup", "restic"]) && new.here.is_empty());
    }

    #[test]
    fn only_what_is_meant_is_asked_for() {
        let asked = |meant: &[&str]| of(OLD, meant).asked.into_iter().map(|one| one.file).collect::<Vec<_>>();
        assert_eq!(asked(&["library"]), ["library-s3-key"]);
        assert_eq!(asked(&["far"]), ["replica-far-ssh-key"]);
        assert_eq!(asked(&["deep"]), ["copy-deep-passphrase", "copy-deep-ssh-key"]);
        assert_eq!(asked(&[]).len(), 8);
        let near = of("[library]\nurl = '/srv/library'\n[replica.near]\nurl = 'file:///srv/near'", &["near"]);
        assert!(near.here == ["file:///srv/near"] && near.asked.is_empty());
    }

    #[test]
    fn what_the_environment_says_here_is_written_down_and_certificates_go_along() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let text = format!(
            "[library]\nurl = 's3://b/h'\n[store.s3]\nca_file = '{}'\n[copy.far]\nformat = 'restic'\n\
             repository = 's3:https://h/b'\nenvironment_file = '{}'\n",
            file("ca.pem", "-----BEGIN"),
            file("environment", "# keys\nexport AWS_ACCESS_KEY_ID=x\n\nAWS_SECRET_ACCESS_KEY = \"y\"\n"),
        );
        let owner: Table = text.parse().unwrap();
        let env = |name: &str| (name == "AWS_ENDPOINT_URL").then(|| "https://s3.example.org".to_owned());
        let new = Elsewhere::of(&owner, Some("s3://b/h"), &[], &env).unwrap();
        let config = Config::from_text(&new.settings, "there").unwrap();
        assert_eq!(config.store.s3.endpoint.as_deref(), Some("https://s3.example.org"));
        let certificate = ("/etc/haven/certificates/library.pem".to_owned(), "-----BEGIN".to_owned());
        assert_eq!(config.store.s3.ca_file, Some(PathBuf::from(&certificate.0)));
        assert_eq!(new.certificates, [certificate]);
        let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(str::to_owned).to_vec();
        assert_eq!(new.asked.last().unwrap().how, How::Variables(names));
        assert!(!new.settings.contains(directory.path().to_str().unwrap()), "{}", new.settings);
    }

    #[test]
    fn servers_are_known_however_they_are_written() {
        let of = |text: &str, restic| ssh_server(text, restic).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(of("ssh://me@nas:22022/./x", false).as_deref(), Some("nas 22022"));
        assert_eq!(of("me@nas:x/y", false).as_deref(), Some("nas 22"));
        assert_eq!(of("sftp://me@[::1]:2222//srv/x", true).as_deref(), Some("::1 2222"));
        assert_eq!(of("sftp:nas:/x", true).as_deref(), Some("nas 22"));
        assert_eq!(
            [of("/srv/borg", false), of("file:///srv/borg", false), of("s3:https://h/b", true)],
            [None, None, None]
        );
    }
}
