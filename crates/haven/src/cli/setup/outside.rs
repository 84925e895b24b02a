//! The questions about others: the database, and who is told.

use std::time::Duration;

use haven_point::pg::{self, PgError, Reach, Session};
use serde::Deserialize;
use toml_edit::{Item, TableLike};

use super::{
    asker::{Asker, say},
    finish::haven,
    guided::Guide,
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

impl Guide {
    pub fn database(&mut self) -> Result<(), Trouble> {
        let asker = std::mem::replace(&mut self.asker, Asker::Person);
        let result = asker.until(|| self.ask_database(&asker));
        self.asker = asker;
        result
    }

    fn ask_database(&mut self, asker: &Asker) -> Result<(), Trouble> {
        let local = std::path::Path::new("/run/postgresql").is_dir();
        let usual = if local && asker.is_person() { "postgresql:///immich?host=/run/postgresql" } else { "none" };
        let question = "Immich's database, as psql takes it (postgresql://user@host/immich), or none";
        let url = asker.ask("database.url", question, Some(usual))?;
        if url == "none" {
            say("   no database: what is backed up is the files alone.");
            return Ok(());
        }
        if url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).is_some_and(|(who, _)| who.contains(':')) {
            return Err(Trouble::new(Code::Usage, "a password has no place in the database's URL")
                .meaning(UNTOUCHED)
                .next("write it into ~/.pgpass (host:port:database:user:password), mode 600"));
        }
        let reach = Reach { database: url.clone(), ..Reach::default() };
        let kind = kind_of(&reach)?;
        let folder = asker.ask("database.folder", "   its files: a folder of the library", Some("immich"))?;
        let asked =
            pg::stand_in(&reach).map(|user| format!(" (asked as the system's user {user})")).unwrap_or_default();
        say(&format!(
            "   it answers{asked}, and is {}.",
            if kind == "immich" { "Immich's" } else { "not Immich's: it is dumped all the same" }
        ));
        self.set(&["backup", "immich", "kind"], &kind);
        self.set(&["backup", "immich", "folder"], folder.trim_matches('/'));
        self.set(&["backup", "immich", "database"], &url);
        self.config().map(|_| ())
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
        self.make_way_for(&kind);
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
        self.config()?;
        say("   sending a test …");
        let trial = tempfile::NamedTempFile::new().map_err(|error| {
            Trouble::new(Code::Local, "no temporary file can be made").caused_by(&error).meaning(UNTOUCHED)
        })?;
        std::fs::write(trial.path(), self.document.to_string()).map_err(|error| {
            Trouble::new(Code::Local, "no temporary file can be written").caused_by(&error).meaning(UNTOUCHED)
        })?;
        haven(trial.path(), &["alert", "test", "owner"], "the test message was not taken")?;
        say("   it was taken. Did it arrive?");
        Ok(())
    }
}

impl Guide {
    /// What another kind of channel was told by is nothing that this one knows.
    fn make_way_for(&mut self, kind: &str) {
        let Some(owner) = self.table(&["alert", "owner"]) else { return };
        if owner.get("kind").and_then(Item::as_str) != Some(kind) {
            let known: Vec<String> = owner.iter().map(|(name, _)| name.to_owned()).collect();
            // How grave it must be is said of any channel.
            known.iter().filter(|name| *name != "least").for_each(|name| _ = owner.remove(name));
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

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The kind of application whose database it is. It is asked as a backup will ask it.
fn kind_of(reach: &Reach) -> Result<String, Trouble> {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let sql = "SELECT CASE WHEN to_regclass('public.asset') IS NULL AND to_regclass('public.assets') IS NULL \
               THEN 'postgres' ELSE 'immich' END AS kind";
    let asked = Session::open(reach, PATIENCE).and_then(|mut session| session.row::<Kind>(sql, PATIENCE));
    asked.map(|row| row.kind).map_err(|error| match &error {
        PgError::Run { source, .. } => Trouble::new(Code::Local, "psql can't be run")
            .caused_by(source)
            .meaning(UNTOUCHED)
            .next("install the package postgresql-client"),
        _ => Trouble::new(Code::Local, "the database does not answer")
            .because(error.to_string())
            .meaning(UNTOUCHED)
            .next("correct the address; a password belongs into ~/.pgpass; locally pg_hba.conf decides who may"),
    })
}
