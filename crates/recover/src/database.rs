//! A database out of a point's dump.
//! ```text
//!     look ─▶ create NAME_haven_… ─▶ extensions, their schemas ─▶ pg_restore ─▶ count ─▶ flag off, analyze ─▶ NAME aside ─▶ rename
//! ```
//! Promises: a database that is there is never written to. It is renamed aside at the very end, when the new one is whole
//! and has the rows that the manifest counted, and only when nobody is connected to it. What an interrupted run has left
//! carries a remark that says so and whose it is, and goes with the next run, together with whoever still fills it. One that
//! has another name than we gave it is somebody's by now, and stays.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufReader, Write},
    path::Path,
    time::{Duration, Instant},
};

use haven_point::{
    dump,
    manifest::Database,
    pg::{Ends, PgError, Reach, Session, Shape, Stop, command, count, given, hand_in, sees_our_files, watch},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    leftovers::{self, Leftover},
    target,
};

pub(crate) const SHORT: Duration = Duration::from_secs(60);
/// For what looks at every row.
const LONG: Duration = Duration::from_secs(6 * 3600);
/// The first version that can end the sessions in a database that it drops.
const FORCES: u32 = 130_000;
/// Longest name of a database, bytes (NAMEDATALEN - 1).
const NAME_MAX: usize = 63;

/// Where a database is to come back.
#[derive(Debug, Clone)]
pub struct Goal {
    /// Its server, and the name it is to have in the end.
    pub reach: Reach,
    /// Whose it is to be; else its owner's when it was dumped.
    pub role: Option<String>,
    /// Also bring back other roles, and what they may do. Else everything belongs to the one role.
    pub rights: bool,
    /// Parts that pg_restore does at once.
    pub jobs: usize,
}

/// What a server is like, before anything is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ground {
    pub name: String,
    pub server: u32,
    /// There is a database of that name.
    pub exists: bool,
    /// Sessions in it.
    pub sessions: u64,
    pub role: String,
    pub role_exists: bool,
    /// What the dump needs and the server does not offer.
    pub missing_extensions: Vec<String>,
    /// Left by runs that were interrupted.
    pub leftovers: Vec<Leftover>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Restored {
    pub database: String,
    /// What the one before is called now.
    pub set_aside: Option<String>,
    pub tables: usize,
    pub rows: u64,
    pub maintenance_cleared: bool,
    /// Made because it was not there.
    pub role_made: bool,
    pub seconds: f64,
    pub warnings: Vec<String>,
}

fn drop_database(name: &str, force: bool) -> String {
    format!("DROP DATABASE IF EXISTS {}{};", ident(name), if force { " WITH (FORCE)" } else { "" })
}

fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[derive(Deserialize)]
struct Text {
    text: Option<String>,
}

#[derive(Deserialize)]
struct Number {
    number: u64,
}

impl Goal {
    fn role<'a>(&'a self, dumped: &'a Database) -> &'a str {
        self.role.as_deref().unwrap_or(&dumped.owner)
    }

    /// A session in a database that is surely there.
    fn upstairs(&self) -> Result<Session, Error> {
        let mut first = None;
        for name in ["postgres", "template1"] {
            match Session::open(&target::with(&self.reach, name), SHORT) {
                Ok(session) => return Ok(session),
                Err(error) => _ = first.get_or_insert(error),
            }
        }
        Err(first.map_or_else(|| Error::Nothing("no database".into()), Error::from))
    }

    /// Looks at the server. Nothing is changed.
    pub fn look(&self, dumped: &Database) -> Result<Ground, Error> {
        let name = target::name(&self.reach).unwrap_or_else(|| dumped.name.clone());
        let mut session = self.upstairs()?;
        let number = |session: &mut Session, query: &str| -> Result<u64, Error> {
            Ok(session.row::<Number>(query, SHORT)?.number)
        };
        let server = number(&mut session, "SELECT current_setting('server_version_num')::int AS number")?;
        let there = format!("SELECT count(*) AS number FROM pg_database WHERE datname = {}", literal(&name));
        // The server's own workers make way by themselves.
        let sessions = format!(
            "SELECT count(*) AS number FROM pg_stat_activity WHERE datname = {} AND backend_type = 'client backend'",
            literal(&name)
        );
        let role = self.role(dumped).to_owned();
        let offered: Vec<Text> = session.rows("SELECT name AS text FROM pg_available_extensions", SHORT)?;
        let offered: Vec<String> = offered.into_iter().filter_map(|row| row.text).collect();
        let missing = dumped.extensions.keys().filter(|name| !offered.contains(*name)).cloned().collect();
        let leftovers = leftovers::leftovers(&mut session, &name)?;
        Ok(Ground {
            exists: number(&mut session, &there)? > 0,
            sessions: number(&mut session, &sessions)?,
            role_exists: has_role(&mut session, &role)?,
            server: server as u32,
            missing_extensions: missing,
            leftovers,
            name,
            role,
        })
    }

    /// Makes the database. `roles`: the file of them that belongs to the point.
    pub fn restore(
        &self,
        dumped: &Database,
        dump: &Path,
        roles: Option<&Path>,
        stop: &Stop,
        told: &mut dyn FnMut(&str),
    ) -> Result<Restored, Error> {
        let begun = Instant::now();
        let ground = self.look(dumped)?;
        ground.fit(dumped)?;
        let mut upstairs = self.upstairs()?;
        let mut restored = Restored { role_made: !ground.role_exists, ..Restored::default() };
        let forces = ground.server >= FORCES;
        for Leftover { name, forsaken } in &ground.leftovers {
            // A session ends with its first error.
            let dropped = self.upstairs()?.run(&drop_database(name, *forsaken && forces), SHORT);
            restored.warnings.extend(dropped.err().map(|error| format!("{name}, left by another run, stays: {error}")));
        }
        if self.rights
            && let Some(roles) = roles
        {
            restored.warnings.extend(self.all_roles(roles)?);
        }
        // Looked for again: it may have been among them.
        if !has_role(&mut upstairs, &ground.role)? {
            make_role(&mut upstairs, &ground.role, roles)?;
        }
        let new = unlike(&ground.name, leftovers::NEW, &mut upstairs)?;
        told("creating the database");
        restored.warnings.extend(create(&mut upstairs, &new, &ground.role, dumped)?);
        // From here on what is left behind is ours to clear away.
        let reach = target::with(&self.reach, &new);
        let outcome = self.fill(&reach, &ground, dumped, dump, stop, told, &mut restored);
        if let Err(error) = outcome {
            if !matches!(error, Error::Differs { .. }) {
                // Best effort: the remark lets the next run find it.
                _ = upstairs.run(&drop_database(&new, forces), SHORT);
            }
            return Err(error);
        }
        told("putting it in its place");
        restored.set_aside = self.put_in_place(&mut upstairs, &ground.name, &new)?;
        restored.database = ground.name;
        restored.seconds = begun.elapsed().as_secs_f64();
        Ok(restored)
    }

    /// The roles of the file that are not there, and who is a member of which. What the server does not take is told.
    fn all_roles(&self, path: &Path) -> Result<Vec<String>, Error> {
        let text = fs::read_to_string(path).map_err(Error::read(path))?;
        let open = || -> Result<Session, Error> {
            let mut session = self.upstairs()?;
            // Who is a member already is no news; and the first thing said is then why it failed.
            session.run("SET client_min_messages = error;", SHORT)?;
            Ok(session)
        };
        let mut session = open()?;
        let have: Vec<Text> = session.rows("SELECT rolname AS text FROM pg_roles", SHORT)?;
        let have: Vec<String> = have.into_iter().filter_map(|row| row.text).collect();
        // Why it failed, if it did: a session ends with its first error.
        let mut attempt = |statement: &str| -> Result<Option<String>, Error> {
            let Err(error) = session.run(statement, SHORT) else { return Ok(None) };
            session = open()?;
            // Of several lines the others may show the statement, which may hold a password's hash.
            Ok(Some(error.to_string().lines().next().unwrap_or_default().to_owned()))
        };
        let mut warnings = Vec::new();
        for line in text.lines() {
            if let Some(role) = role_of(line) {
                // Those that are there stay as they are: their passwords may have changed since.
                if !have.contains(&role)
                    && let Some(why) = attempt(line)?
                {
                    warnings.push(format!("the role {role} is not all that it was: {why}"));
                }
            } else if let Some((role, member)) = membership_of(line) {
                let mut refused = attempt(line)?;
                // Who granted it may not be here, or may not grant it here: then it is whoever restores.
                if refused.is_some()
                    && let Some((granted, _)) = line.rsplit_once(" GRANTED BY ")
                {
                    refused = attempt(&format!("{granted};"))?;
                }
                warnings.extend(refused.map(|why| format!("{member} is no member of {role}: {why}")));
            }
        }
        if !text.contains("CREATE ROLE ") {
            warnings.push("the point's file of roles has none".into());
        }
        Ok(warnings)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one step of `restore`, cut out so that what it leaves can be cleared"
    )]
    fn fill(
        &self,
        reach: &Reach,
        ground: &Ground,
        dumped: &Database,
        dump: &Path,
        stop: &Stop,
        told: &mut dyn FnMut(&str),
        restored: &mut Restored,
    ) -> Result<(), Error> {
        let mut session = Session::open(reach, SHORT)?;
        let file = fs::File::open(dump).map_err(Error::read(dump))?;
        let makes = dump::ground(BufReader::new(file))?;
        let beforehand = Beforehand::of(dumped, &makes, sees_our_files(reach));
        for statement in beforehand.statements(&ground.role) {
            session.run(&statement, SHORT)?;
        }
        told("restoring the database");
        self.pg_restore(reach, ground, dump, &beforehand, stop)?;
        told("counting its rows");
        let rows = compare(&mut session, dumped).map_err(|error| match error {
            Error::Differs { why, .. } => Error::Differs { database: target::name(reach).unwrap_or_default(), why },
            other => other,
        })?;
        (restored.tables, restored.rows) = (rows.len(), rows.values().sum());
        restored.maintenance_cleared = clear_maintenance(&mut session)?;
        told("gathering statistics for its planner");
        session.run("ANALYZE;", LONG)?;
        Ok(())
    }

    fn pg_restore(
        &self,
        reach: &Reach,
        ground: &Ground,
        dump: &Path,
        beforehand: &Beforehand<'_>,
        stop: &Stop,
    ) -> Result<(), Error> {
        let server = Some(ground.server / 10_000);
        let mut run = command(reach, "pg_restore", server);
        run.args(["--exit-on-error", "--no-owner", "-w", "-d", &given(reach)]);
        run.arg(format!("--role={}", ground.role));
        if !self.rights {
            run.arg("--no-privileges");
        }
        let (mut list, mut handed) = (None, None);
        if sees_our_files(reach) {
            // Extensions are there, and belong to who made them; schemas that they need are there too.
            let kept = contents(reach, server, dump, &beforehand.schemas())?;
            let mut file = tempfile::NamedTempFile::new().map_err(Error::write(std::env::temp_dir()))?;
            file.write_all(kept.as_bytes()).map_err(Error::write(file.path()))?;
            run.arg("-L").arg(file.path()).arg(format!("--jobs={}", self.jobs.max(1))).arg(dump);
            list = Some(file);
        } else {
            // In a container there are no files of ours, and somebody else may not open them.
            let dump = fs::File::open(dump).map_err(Error::read(dump))?;
            handed = hand_in(reach, run.arg("--no-comments"), dump)?;
        }
        let done = watch("pg_restore", &mut run, Ends { stop, limit: LONG, lock_wait: SHORT }, &mut || ());
        drop((list, handed));
        done?;
        Ok(())
    }

    fn put_in_place(&self, session: &mut Session, name: &str, new: &str) -> Result<Option<String>, Error> {
        let there = format!("SELECT count(*) AS number FROM pg_database WHERE datname = {}", literal(name));
        let aside = match session.row::<Number>(&there, SHORT)?.number {
            0 => None,
            _ => Some(unlike(name, "before", session)?),
        };
        let rename = |from: &str, to: &str| format!("ALTER DATABASE {} RENAME TO {};", ident(from), ident(to));
        let first = aside.as_ref().map(|old| rename(name, old) + " ").unwrap_or_default();
        let unmark = format!("COMMENT ON DATABASE {} IS NULL;", ident(new));
        // All of it or nothing: there is no moment without a database of that name.
        let swap = format!("BEGIN; {first}{unmark} {} COMMIT;", rename(new, name));
        session.run(&swap, SHORT).map_err(|error| Error::Unfit {
            what: format!(
                "the restored database is whole and is called {new}: it could not be put in the place of {name} ({error})"
            ),
            next: format!("stop what uses {name} and {new}, then, in psql: {swap}"),
        })?;
        Ok(aside)
    }
}

impl Ground {
    /// Whether the dump can be restored here.
    pub fn fit(&self, dumped: &Database) -> Result<(), Error> {
        let unfit = |what: String, next: &str| Err(Error::Unfit { what, next: next.into() });
        if self.server / 10_000 < dumped.major() {
            let what = format!(
                "the dump is of PostgreSQL {}, and the server here is {}: an older one can't read it",
                dumped.major(),
                self.server / 10_000
            );
            return unfit(what, "restore into the same version or a newer one");
        }
        if !self.missing_extensions.is_empty() {
            let what =
                format!("the server has no extension {}, which the dump needs", self.missing_extensions.join(", "));
            return unfit(what, "install it there (Immich's own PostgreSQL image has them all), and try again");
        }
        if self.exists && self.sessions > 0 {
            let what = format!("{} is in use: {} of others", self.name, sessions(self.sessions));
            return unfit(what, "stop Immich and whatever else uses it; it is renamed aside, never written to");
        }
        Ok(())
    }
}

fn sessions(count: u64) -> String {
    format!("{count} session{}", if count == 1 { "" } else { "s" })
}

/// A name beside `name` that no database has yet.
fn unlike(name: &str, word: &str, session: &mut Session) -> Result<String, Error> {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%S").to_string();
    for tried in 0..100 {
        let mut end = format!("_{word}_{stamp}");
        if tried > 0 {
            end += &format!("_{tried}");
        }
        let mut room = NAME_MAX - end.len().min(NAME_MAX);
        while !name.is_char_boundary(room.min(name.len())) {
            room -= 1;
        }
        let whole = format!("{}{end}", &name[..room.min(name.len())]);
        let query = format!("SELECT count(*) AS number FROM pg_database WHERE datname = {}", literal(&whole));
        if session.row::<Number>(&query, SHORT)?.number == 0 {
            return Ok(whole);
        }
    }
    Err(Error::Nothing(format!("there is no free name beside {name}")))
}

fn create(session: &mut Session, name: &str, owner: &str, dumped: &Database) -> Result<Vec<String>, Error> {
    let made = |collate: &str, ctype: &str| {
        format!(
            "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {}{collate}{ctype};",
            ident(name),
            ident(owner),
            literal(&dumped.encoding)
        )
    };
    let known = format!(
        "SELECT count(*) AS number FROM pg_collation WHERE lower(replace(collname, '-', '')) IN ({}, {})",
        literal(&dumped.collate.to_lowercase().replace('-', "")),
        literal(&dumped.ctype.to_lowercase().replace('-', ""))
    );
    let plain = |name: &str| ["C", "POSIX"].contains(&name);
    let there = session.row::<Number>(&known, SHORT)?.number > 0 || (plain(&dumped.collate) && plain(&dumped.ctype));
    let mut warnings = Vec::new();
    if there {
        let (collate, ctype) =
            (format!(" LC_COLLATE {}", literal(&dumped.collate)), format!(" LC_CTYPE {}", literal(&dumped.ctype)));
        session.run(&made(&collate, &ctype), LONG)?;
    } else {
        session.run(&made("", ""), LONG)?;
        warnings.push(format!("the server does not know the collation {}: it has the server's own", dumped.collate));
    }
    let remark = leftovers::remark();
    session.run(&format!("COMMENT ON DATABASE {} IS {};", ident(name), literal(&remark)), SHORT)?;
    Ok(warnings)
}

/// The role as it was, its password's hash too, where the point knows it.
fn make_role(session: &mut Session, role: &str, roles: Option<&Path>) -> Result<(), Error> {
    session.run(&format!("CREATE ROLE {} LOGIN;", ident(role)), SHORT)?;
    let Some(path) = roles else { return Ok(()) };
    let text = fs::read_to_string(path).map_err(Error::read(path))?;
    let bare = format!("ALTER ROLE {role} WITH ");
    let quoted = format!("ALTER ROLE {} WITH ", ident(role));
    if let Some(line) = text.lines().find(|line| line.starts_with(&bare) || line.starts_with(&quoted)) {
        session.run(line, SHORT)?;
    }
    Ok(())
}

fn has_role(session: &mut Session, role: &str) -> Result<bool, Error> {
    let there = format!("SELECT count(*) AS number FROM pg_roles WHERE rolname = {}", literal(role));
    Ok(session.row::<Number>(&there, SHORT)?.number > 0)
}

/// The role that a line of the file makes or alters.
fn role_of(line: &str) -> Option<String> {
    let rest = line.strip_prefix("CREATE ROLE ").or_else(|| line.strip_prefix("ALTER ROLE "))?;
    Some(name_at(rest)?.0)
}

/// Of which role a line makes which one a member. What is granted on something has no `TO` in that place.
fn membership_of(line: &str) -> Option<(String, String)> {
    let (role, rest) = name_at(line.strip_prefix("GRANT ")?)?;
    let (member, _) = name_at(rest.strip_prefix(" TO ")?)?;
    Some((role, member))
}

/// The name that `text` begins with, and what stands behind it.
fn name_at(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([' ', ';'])?;
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    loop {
        let (part, behind) = rest.split_once('"')?;
        name += part;
        match behind.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, behind)),
        }
    }
}

/// The extensions that are made before the dump is restored: who restores may make them, and the dump's owner may not.
struct Beforehand<'a> {
    /// Each with the schema it is to be in, where it does not find that by itself.
    extensions: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Beforehand<'a> {
    /// Without `list` the dump can't be told to leave out schemas that are there: then the extensions in them are left to it.
    fn of(dumped: &'a Database, makes: &'a dump::Ground, list: bool) -> Self {
        // A schema that the dump does not make is made by another extension, or is there from the beginning.
        let schema = |name: &str| {
            let found = makes.extensions.iter().find(|extension| extension.name == name);
            found
                .and_then(|found| found.schema.as_deref())
                .filter(|schema| makes.schemas.iter().any(|one| one == schema))
        };
        let names = in_order(dumped.extensions.keys(), makes).into_iter().filter(|name| *name != "plpgsql");
        let all = names.map(|name| (name, schema(name)));
        Self { extensions: all.filter(|(_, schema)| list || schema.is_none()).collect() }
    }

    fn schemas(&self) -> Vec<&'a str> {
        let mut all: Vec<&str> = self.extensions.iter().filter_map(|(_, schema)| *schema).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn statements(&self, role: &str) -> Vec<String> {
        let schema =
            |name: &&str| format!("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {};", ident(name), ident(role));
        let extension = |(name, schema): &(&str, Option<&str>)| {
            let within = schema.map(|schema| format!(" WITH SCHEMA {}", ident(schema))).unwrap_or_default();
            format!("CREATE EXTENSION IF NOT EXISTS {}{within} CASCADE;", ident(name))
        };
        self.schemas().iter().map(schema).chain(self.extensions.iter().map(extension)).collect()
    }
}

/// What others need comes first: so does the dump have it, and CASCADE sees to the rest.
fn in_order<'a>(names: impl Iterator<Item = &'a String>, makes: &dump::Ground) -> Vec<&'a str> {
    const FIRST: [&str; 3] = ["vector", "vectors", "cube"];
    let mut all: Vec<&str> = names.map(String::as_str).collect();
    let in_dump = |name: &str| makes.extensions.iter().position(|extension| extension.name == name);
    all.sort_by_key(|name| {
        let first = FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len());
        (first, in_dump(name).unwrap_or(usize::MAX))
    });
    all
}

/// The dump's list of contents without what is made beforehand.
fn contents(reach: &Reach, server: Option<u32>, dump: &Path, schemas: &[&str]) -> Result<String, Error> {
    let output = command(reach, "pg_restore", server).arg("-l").arg(dump).output();
    let output = output.map_err(|source| PgError::Run { program: "pg_restore".into(), source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(PgError::Failed { program: "pg_restore".into(), said }.into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // `2; 3079 16385 EXTENSION - vector`
    let made = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().skip(3).collect();
        matches!(
            words[..],
            ["EXTENSION", ..]
                | ["COMMENT", _, "EXTENSION", ..]
                | ["SCHEMA", _, "public", ..]
                | ["COMMENT", _, "SCHEMA", "public", ..]
        )
    };
    // `7; 2615 16384 SCHEMA - vectors postgres`: a name may have spaces, and the owner stands behind it.
    let there = |line: &&str| {
        let name = line.split_once(" SCHEMA - ").map(|(_, rest)| rest);
        name.is_some_and(|name| {
            schemas.iter().any(|schema| name.strip_prefix(schema).is_some_and(|rest| rest.starts_with(' ')))
        })
    };
    Ok(text.lines().filter(|line| !made(line) && !there(line)).map(|line| format!("{line}\n")).collect())
}

/// The rows by table, if they are those that the manifest counted.
pub fn compare(session: &mut Session, dumped: &Database) -> Result<BTreeMap<String, u64>, Error> {
    let shape = Shape::of(session)?;
    let counted = count(session, &shape)?;
    // An extension fills its own tables.
    let own = |name: &str| shape.tables.iter().any(|table| table.extension && table.full_name() == name);
    let differs = |why: String| Err(Error::Differs { database: String::new(), why });
    for (name, rows) in dumped.rows.iter().filter(|(name, _)| !own(name)) {
        match counted.get(name) {
            Some(found) if found == rows => {}
            Some(found) => return differs(format!("{name} had {rows} rows, and has {found}")),
            None => return differs(format!("{name} had {rows} rows, and is not there")),
        }
    }
    Ok(counted)
}

/// A dump that was taken in Immich's maintenance mode would bring that mode back.
fn clear_maintenance(session: &mut Session) -> Result<bool, Error> {
    let there = "SELECT count(*) AS number FROM information_schema.tables \
                 WHERE table_schema = 'public' AND table_name = 'system_metadata'";
    if session.row::<Number>(there, SHORT)?.number == 0 {
        return Ok(false);
    }
    let on = "SELECT count(*) AS number FROM public.system_metadata \
              WHERE key = 'maintenance-mode' AND (value::jsonb)->>'isMaintenanceMode' = 'true'";
    if session.row::<Number>(on, SHORT)?.number == 0 {
        return Ok(false);
    }
    let off =
        "UPDATE public.system_metadata SET value = '{\"isMaintenanceMode\": false}' WHERE key = 'maintenance-mode';";
    session.run(off, SHORT)?;
    Ok(true)
}

/// Looks through every B-tree of the database; what is broken. `None`: the server does not offer amcheck.
pub fn amcheck(session: &mut Session) -> Result<Option<(u64, Vec<String>)>, Error> {
    let offered = "SELECT count(*) AS number FROM pg_available_extensions WHERE name = 'amcheck'";
    if session.row::<Number>(offered, SHORT)?.number == 0 {
        return Ok(None);
    }
    session.run("CREATE EXTENSION IF NOT EXISTS amcheck;", SHORT)?;
    let indexes: Vec<Text> = session.rows(
        "SELECT c.oid::text AS text FROM pg_class c JOIN pg_am a ON a.oid = c.relam JOIN pg_index i ON i.indexrelid = c.oid \
         WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisready AND i.indisvalid",
        SHORT,
    )?;
    let mut broken = Vec::new();
    let oids: Vec<String> = indexes.into_iter().filter_map(|row| row.text).collect();
    for oid in &oids {
        // The session ends with the first error; the next one would have to begin anew.
        if let Err(error) = session.run(&format!("SELECT bt_index_check({oid}::oid::regclass, true) WHERE true;"), LONG)
        {
            broken.push(error.to_string());
            break;
        }
    }
    Ok(Some((oids.len() as u64, broken)))
}

/// Drops a database that was made for a look.
pub fn drop_scratch(reach: &Reach, name: &str) -> Result<(), Error> {
    let goal = Goal { reach: reach.clone(), role: None, rights: false, jobs: 1 };
    Ok(goal.upstairs()?.run(&format!("DROP DATABASE IF EXISTS {};", ident(name)), SHORT)?)
}
