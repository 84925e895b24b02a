//! The questions about others: the database, and who is told.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use haven_point::pg::{self, PgError, Reach, Session};
use serde::Deserialize;
use toml_edit::{Item, TableLike};

use super::{
    asker::{Asker, say},
    finish::haven,
    guided::{Guide, Owner},
};
use crate::report::{Code, Trouble, UNTOUCHED};

/// What a kind of channel is told by, beside its kind.
struct Channel {
    kind: &'static str,
    fields: &'static [Field],
    /// The setting that a secret goes into, and what is asked.
    secret: Option<(&'static str, &'static str)>,
}

struct Field {
    answer: &'static str,
    setting: &'static str,
    question: &'static str,
}

const fn field(answer: &'static str, setting: &'static str, question: &'static str) -> Field {
    Field { answer, setting, question }
}

const CHANNELS: [Channel; 7] = [
    Channel {
        kind: "ntfy",
        fields: &[field("tell.url", "url", "   its server"), field("tell.topic", "topic", "   the topic")],
        secret: None,
    },
    Channel {
        kind: "telegram",
        fields: &[field("tell.chat", "chat", "   the chat's number")],
        secret: Some(("token", "   the bot's token")),
    },
    Channel {
        kind: "email",
        fields: &[
            field("tell.server", "server", "   the mail server"),
            field("tell.tls", "tls", "   implicit, starttls or none"),
            field("tell.user", "user", "   who logs in there"),
            field("tell.from", "from", "   from whom"),
            field("tell.to", "to", "   to whom"),
        ],
        secret: Some(("password", "   the password")),
    },
    Channel { kind: "discord", fields: &[], secret: Some(("hook", "   the webhook's whole URL")) },
    Channel { kind: "slack", fields: &[], secret: Some(("hook", "   the webhook's whole URL")) },
    Channel {
        kind: "gotify",
        fields: &[field("tell.url", "url", "   its server")],
        secret: Some(("token", "   the application's token")),
    },
    Channel {
        kind: "webhook",
        fields: &[field("tell.url", "url", "   its URL")],
        secret: Some(("key", "   the key that signs what is sent")),
    },
];

/// The word for "there is none".
const NONE: &str = "none";
/// The kind of a dead-man's switch, and where most people have theirs.
const SWITCH: &str = "healthchecks";
const HEALTHCHECKS: &str = "https://hc-ping.com";

impl Guide {
    pub fn database(&mut self) -> Result<(), Trouble> {
        let asker = std::mem::replace(&mut self.asker, Asker::Person);
        let result = asker.until(|| self.ask_database(&asker));
        self.asker = asker;
        result
    }

    fn ask_database(&mut self, asker: &Asker) -> Result<(), Trouble> {
        let (within, chosen) = self.ask_container(asker)?;
        let local = Path::new("/run/postgresql").is_dir();
        let before = self.now(&["backup", "immich", "database"]).filter(|_| asker.is_person());
        let usual = match before.as_deref() {
            Some(before) => before,
            None if chosen => "user=postgres dbname=immich",
            None if local && asker.is_person() => "postgresql:///immich?host=/run/postgresql",
            None => NONE,
        };
        let question = "Immich's database, as psql takes it (postgresql://user@host/immich), or none";
        let url = asker.ask("database.url", question, Some(usual))?;
        if url == NONE {
            say("   no database: what is backed up is the files alone.");
            return Ok(());
        }
        if url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).is_some_and(|(who, _)| who.contains(':')) {
            return Err(Trouble::new(Code::Usage, "a password has no place in the database's URL")
                .meaning(UNTOUCHED)
                .next("write it into ~/.pgpass (host:port:database:user:password), mode 600"));
        }
        let reach = Reach { database: url.clone(), within, ..Reach::default() };
        let Asked { kind, version } = asked(&reach)?;
        let folder = asker.ask("database.folder", "   its files: a folder of the library", Some("immich"))?;
        let owner = ask_owner(asker, reach.within.is_empty())?;
        let by = pg::stand_in(&reach).map(|user| format!(" (asked as the system's user {user})")).unwrap_or_default();
        say(&format!(
            "   it answers{by}, and is {}.",
            if kind == "immich" { "Immich's" } else { "not Immich's: it is dumped all the same" }
        ));
        if !haven_recover::cluster::is_here(version / 10_000) {
            say("   drills that restore it start a PostgreSQL, and none that is new enough is here: install one,");
            say("   or see what drill_server under [backup.immich] costs (`haven config` tells).");
        }
        self.set(&["backup", "immich", "kind"], &kind);
        self.set(&["backup", "immich", "folder"], folder.trim_matches('/'));
        self.set(&["backup", "immich", "database"], &url);
        if !reach.within.is_empty() {
            self.set(&["backup", "immich", "within"], reach.within.iter().collect::<toml_edit::Array>());
        } else if let Some(table) = self.table(&["backup", "immich"]) {
            table.remove("within");
        }
        self.owner = owner;
        self.config().map(|_| ())
    }

    /// What goes before each of PostgreSQL's programs, where they run in a container; and whether that is new.
    fn ask_container(&mut self, asker: &Asker) -> Result<(Vec<String>, bool), Trouble> {
        let set = self.table(&["backup", "immich"]).and_then(|table| table.get("within")).and_then(Item::as_array);
        let set: Vec<String> = set.into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect();
        // What somebody wrote there by hand stays, as long as it is not another container.
        let before = match set.last() {
            Some(last) if set.iter().any(|word| word == "exec") => Some(last.clone()),
            last => last.map(|_| set.join(" ")),
        };
        let usual = before.clone().or_else(|| if asker.is_person() { likely_container() } else { None });
        let question = "The container that Immich's database runs in (immich_postgres), or none";
        let container = asker.ask("database.container", question, Some(usual.as_deref().unwrap_or(NONE)))?;
        if before.as_ref() == Some(&container) {
            return Ok((set, false));
        }
        if container.is_empty() || container == NONE {
            return Ok((Vec::new(), false));
        }
        Ok(([engine(), "exec", "-i", &container].map(str::to_owned).to_vec(), true))
    }

    pub fn tell(&mut self) -> Result<(), Trouble> {
        let asker = std::mem::replace(&mut self.asker, Asker::Person);
        let untouched = self.document.clone();
        let result = asker.until(|| {
            self.document = untouched.clone();
            self.ask_tell(&asker)
        });
        self.asker = asker;
        result
    }

    fn ask_tell(&mut self, asker: &Asker) -> Result<(), Trouble> {
        let kinds: Vec<&str> = CHANNELS.iter().map(|channel| channel.kind).collect();
        let question = format!("By what? {}, or none", kinds.join(", "));
        let kind = asker.ask("tell.kind", &question, Some(if asker.is_person() { "ntfy" } else { "none" }))?;
        if kind == "none" {
            say("   nobody. Look at `haven health` now and then, or set [alert] later.");
            return Ok(());
        }
        let Some(channel) = CHANNELS.iter().find(|channel| channel.kind == kind) else {
            return Err(Trouble::new(Code::Usage, format!("nobody can be told by {kind:?}"))
                .meaning(UNTOUCHED)
                .next(format!("one of {}, none", kinds.join(", "))));
        };
        self.make_way_for("owner", &kind);
        self.set(&["alert", "owner", "kind"], &kind);
        for Field { answer: name, setting, question } in channel.fields {
            let default = match (kind.as_str(), *setting) {
                ("ntfy", "url") => Some("https://ntfy.sh"),
                ("email", "tls") => Some("implicit"),
                _ => None,
            };
            let answer = asker.ask(name, question, default)?;
            match *setting {
                "to" => {
                    let all: toml_edit::Array = answer.split([',', ' ']).filter(|to| !to.is_empty()).collect();
                    self.set(&["alert", "owner", "to"], all);
                }
                setting => self.set(&["alert", "owner", setting], &answer),
            }
        }
        if let Some((setting, question)) = channel.secret {
            let given = asker.ask_secret("tell.secret_file", question)?;
            if let Some(given) = given {
                let file = self.keep_secret(&format!("{kind}-{setting}"), &format!("{}\n", *given))?;
                self.set(&["alert", "owner", setting, "file"], file.display().to_string());
            }
        }
        self.add_owner();
        say("   sending a test …");
        self.try_channel("owner", "the test message was not taken")?;
        say("   it was taken. Did it arrive?");
        Ok(())
    }

    /// Who notices when this machine itself falls silent.
    pub fn switch(&mut self) -> Result<(), Trouble> {
        let asker = std::mem::replace(&mut self.asker, Asker::Person);
        let untouched = self.document.clone();
        let result = asker.until(|| {
            self.document = untouched.clone();
            self.ask_switch(&asker)
        });
        self.asker = asker;
        result
    }

    fn ask_switch(&mut self, asker: &Asker) -> Result<(), Trouble> {
        let there = self.now(&["alert", "switch", "kind"]).as_deref() == Some(SWITCH);
        let before = self.now(&["alert", "switch", "url"]).unwrap_or_else(|| HEALTHCHECKS.into());
        let usual = if there && asker.is_person() { before.as_str() } else { NONE };
        let question =
            "And when this machine itself falls silent? Healthchecks (https://hc-ping.com, or yours), or none";
        let url = asker.ask("tell.switch", question, Some(usual))?;
        if url == NONE {
            if !there {
                say("   nobody notices then. Of all settings it is the one that is missed most.");
            }
            return Ok(());
        }
        self.make_way_for("switch", SWITCH);
        self.set(&["alert", "switch", "kind"], SWITCH);
        self.set(&["alert", "switch", "url"], &url);
        let known =
            ["file", "systemd"].into_iter().any(|source| self.now(&["alert", "switch", "checks", source]).is_some());
        match asker.ask_secret("tell.switch_file", "   the project's ping key")? {
            Some(key) => {
                let file = self.keep_secret("ping-key", &format!("{}\n", *key))?;
                let mut checks = toml_edit::InlineTable::new();
                checks.insert("file", file.display().to_string().into());
                self.set(&["alert", "switch", "checks"], checks);
            }
            None if known => {}
            None => {
                return Err(Trouble::new(Code::NoSecret, "Healthchecks knows its checks by a ping key")
                    .meaning(UNTOUCHED)
                    .next("it stands in the project's settings there; answer tell.switch_file"));
            }
        }
        say("   telling it that this machine is alive …");
        self.try_channel("switch", "the switch did not take it")?;
        say("   it has heard that, as it will each minute: give its check haven-alive a period of some minutes.");
        Ok(())
    }

    /// Tries a channel as it was answered, before anything is written.
    fn try_channel(&self, name: &str, failed: &str) -> Result<(), Trouble> {
        self.config()?;
        let trial = tempfile::NamedTempFile::new().map_err(|error| {
            Trouble::new(Code::Local, "no temporary file can be made").caused_by(&error).meaning(UNTOUCHED)
        })?;
        std::fs::write(trial.path(), self.document.to_string()).map_err(|error| {
            Trouble::new(Code::Local, "no temporary file can be written").caused_by(&error).meaning(UNTOUCHED)
        })?;
        haven(trial.path(), &["alert", "test", name], failed).map(drop)
    }
}

impl Guide {
    /// What another kind of channel was told by is nothing that this one knows.
    fn make_way_for(&mut self, channel: &str, kind: &str) {
        let Some(channel) = self.table(&["alert", channel]) else { return };
        if channel.get("kind").and_then(Item::as_str) != Some(kind) {
            let known: Vec<String> = channel.iter().map(|(name, _)| name.to_owned()).collect();
            // How grave it must be is said of any channel.
            known.iter().filter(|name| *name != "least").for_each(|name| _ = channel.remove(name));
        }
    }

    /// The owner is told beside whoever is told already; where nobody is named, everybody is.
    fn add_owner(&mut self) {
        let Some(to) = self.table(&["alert"]).and_then(|alert| alert.get_mut("to")).and_then(Item::as_array_mut) else {
            return;
        };
        if !to.iter().any(|name| name.as_str() == Some("owner")) {
            to.push("owner");
        }
    }

    fn table(&mut self, path: &[&str]) -> Option<&mut dyn TableLike> {
        let mut item = self.document.as_item_mut();
        for name in path {
            item = item.as_table_like_mut()?.get_mut(name)?;
        }
        item.as_table_like_mut()
    }
}

/// Whose the folder of the application's files is to be. `here`: it runs on this machine, and in no container.
fn ask_owner(asker: &Asker, here: bool) -> Result<Option<Owner>, Trouble> {
    let root = rustix::process::geteuid().is_root();
    if !root && asker.is_person() {
        return Ok(None);
    }
    let usual = if here && root && pg::account("immich").is_some() { "immich" } else { NONE };
    let question = "   whose that folder is to be: the user that Immich runs as, or none (a container's is root)";
    let name = asker.ask("database.owner", question, Some(usual))?;
    if name.is_empty() || name == NONE {
        return Ok(None);
    }
    let refused = |what: String| Trouble::new(Code::Usage, what).meaning(UNTOUCHED);
    if !root {
        return Err(refused("only root can give a folder to somebody else".into()).next("run this as root"));
    }
    let number = |text: &str| text.parse::<u32>().ok();
    let numbers = name.split_once(':').and_then(|(user, group)| Some((number(user)?, number(group)?)));
    let (user, group) = numbers.or_else(|| pg::account(&name)).ok_or_else(|| {
        refused(format!("there is no user {name} on this machine")).next("its name, or USER:GROUP in numbers")
    })?;
    Ok(Some(Owner { name, user, group }))
}

/// A container that looks like Immich's database: then only a nod is needed.
fn likely_container() -> Option<String> {
    let mut list = Command::new(engine());
    list.args(["ps", "--format", "{{.Names}}"]).stdin(Stdio::null()).stderr(Stdio::null());
    let said = list.output().ok()?.stdout;
    let names = String::from_utf8_lossy(&said).into_owned();
    names.lines().find(|name| name.contains("immich") && name.contains("postgres")).map(str::to_owned)
}

/// What runs containers here.
fn engine() -> &'static str {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&str| std::env::split_paths(&path).any(|directory| directory.join(name).exists());
    ["docker", "podman"].into_iter().find(there).unwrap_or("docker")
}

/// What a database says of itself.
#[derive(Deserialize)]
struct Asked {
    /// As in haven.toml.
    kind: String,
    /// 150004 for 15.4.
    version: u32,
}

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The kind of application whose database it is. It is asked as a backup will ask it.
fn asked(reach: &Reach) -> Result<Asked, Trouble> {
    let sql = "SELECT CASE WHEN to_regclass('public.asset') IS NULL AND to_regclass('public.assets') IS NULL \
               THEN 'postgres' ELSE 'immich' END AS kind, current_setting('server_version_num')::int AS version";
    let asked = Session::open(reach, PATIENCE).and_then(|mut session| session.row(sql, PATIENCE));
    asked.map_err(|error| match &error {
        PgError::Run { source, .. } => {
            let trouble = Trouble::new(Code::Local, "psql can't be run").caused_by(source).meaning(UNTOUCHED);
            match reach.within.first() {
                Some(engine) => trouble.next(format!("{engine} is what it is run by: is that installed?")),
                None => trouble.next("install the package postgresql-client"),
            }
        }
        _ => Trouble::new(Code::Local, "the database does not answer")
            .because(error.to_string())
            .meaning(UNTOUCHED)
            .next("correct the address; a password belongs into ~/.pgpass; locally pg_hba.conf decides who may"),
    })
}
