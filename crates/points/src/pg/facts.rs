//! What is asked of a database for a point.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{PgError, Session};
use crate::manifest::Immich;

/// For questions that need no looking through tables.
const SHORT: Duration = Duration::from_secs(30);
/// For counting rows.
const LONG: Duration = Duration::from_secs(1800);
/// While everything stands still: less than what the mount grants.
const FROZEN: Duration = Duration::from_millis(1500);

/// A table with rows of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TableName {
    pub schema: String,
    pub name: String,
    /// An extension's: the dump has its rows only if the extension asks for it.
    pub extension: bool,
}

impl TableName {
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    // Doubled backslashes mean the same whatever standard_conforming_strings says.
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The shape of a database: while it changes no dump is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub tables: Vec<TableName>,
    /// By table of migrations: how many rows, and a digest of them.
    migrations: BTreeMap<String, (u64, String)>,
}

/// Where applications note what was done to their schema: Immich's own first, then the usual ones.
const MIGRATIONS: [&str; 7] = [
    "kysely_migrations",
    "migrations",
    "typeorm_migrations",
    "schema_migrations",
    "django_migrations",
    "alembic_version",
    "flyway_schema_history",
];

impl Shape {
    pub fn of(session: &mut Session) -> Result<Self, PgError> {
        let tables: Vec<TableName> = session.rows(
            "SELECT n.nspname AS schema, c.relname AS name, EXISTS (SELECT FROM pg_depend d \
             WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') AS extension \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' \
             AND n.nspname <> 'information_schema' ORDER BY 1, 2",
            SHORT,
        )?;
        #[derive(Deserialize)]
        struct Rows {
            count: u64,
            digest: Option<String>,
        }
        let mut migrations = BTreeMap::new();
        for table in tables.iter().filter(|table| MIGRATIONS.contains(&table.name.as_str())) {
            let query = format!(
                "SELECT count(*) AS count, md5(string_agg(t::text, ',' ORDER BY t::text)) AS digest FROM {} AS t",
                table.quoted()
            );
            let rows: Rows = session.row(&query, SHORT)?;
            migrations.insert(table.full_name(), (rows.count, rows.digest.unwrap_or_default()));
        }
        Ok(Self { tables, migrations })
    }

    /// What changed until `later`, for people.
    pub fn moved(&self, later: &Self) -> Option<String> {
        let names = |shape: &Self| shape.tables.iter().map(TableName::full_name).collect::<Vec<_>>();
        let (before, after) = (names(self), names(later));
        let lost = before.iter().find(|name| !after.contains(name)).map(|name| format!("the table {name} is gone"));
        let new =
            || after.iter().find(|name| !before.contains(name)).map(|name| format!("there is a new table {name}"));
        let migrated = || {
            let changed = |(name, rows): &(&String, &(u64, String))| later.migrations.get(*name) != Some(*rows);
            self.migrations.iter().find(changed).map(|(name, _)| format!("{name} has changed"))
        };
        lost.or_else(new).or_else(migrated)
    }

    fn has(&self, name: &str) -> bool {
        self.tables.iter().any(|table| table.schema == "public" && table.name == name)
    }
}

/// What is known of the instant itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Moment {
    /// For `pg_dump --snapshot`, as long as the session lives.
    pub snapshot: String,
    pub wal: String,
}

/// Begins the transaction that will see one instant, without fixing it yet, and keeps every table from being emptied or
/// rewritten until it ends. Readers and writers are not hindered.
pub fn begin(session: &mut Session, shape: &Shape) -> Result<(), PgError> {
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;", SHORT)?;
    if shape.tables.is_empty() {
        return Ok(());
    }
    // LOCK alone of all statements does not fix what the transaction sees.
    let tables: Vec<String> = shape.tables.iter().map(TableName::quoted).collect();
    session.run(&format!("LOCK TABLE {} IN ACCESS SHARE MODE;", tables.join(", ")), LONG)
}

/// Fixes the instant.
pub fn fix(session: &mut Session) -> Result<Moment, PgError> {
    session.row(
        "SELECT pg_export_snapshot() AS snapshot, (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
         ELSE pg_current_wal_lsn() END)::text AS wal",
        FROZEN,
    )
}

/// What is written down of a database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Facts {
    pub name: String,
    pub owner: String,
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    pub server: String,
    pub server_number: u32,
    pub bytes: u64,
    #[serde(default)]
    pub system: String,
    #[serde(default)]
    pub extensions: BTreeMap<String, String>,
}

impl Facts {
    pub fn of(session: &mut Session) -> Result<Self, PgError> {
        let mut facts: Self = session.row(
            "SELECT datname AS name, pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding, \
             datcollate AS collate, datctype AS ctype, current_setting('server_version') AS server, \
             current_setting('server_version_num')::int AS server_number, pg_database_size(datname) AS bytes \
             FROM pg_database WHERE datname = current_database()",
            SHORT,
        )?;
        #[derive(Deserialize)]
        struct One {
            name: String,
            #[serde(default)]
            version: String,
        }
        let query = "SELECT extname AS name, extversion AS version FROM pg_extension";
        let all: Vec<One> = session.rows(query, SHORT)?;
        facts.extensions = all.into_iter().map(|one| (one.name, one.version)).collect();
        // Not everybody may ask.
        let may = "SELECT has_function_privilege('pg_control_system()', 'execute')::text AS name";
        if session.row::<One>(may, SHORT)?.name == "true" {
            let query = "SELECT system_identifier::text AS name FROM pg_control_system()";
            facts.system = session.row::<One>(query, SHORT)?.name;
        }
        Ok(facts)
    }
}

/// Counts the rows of every table.
pub fn count(session: &mut Session, shape: &Shape) -> Result<BTreeMap<String, u64>, PgError> {
    #[derive(Deserialize)]
    struct Counted {
        name: String,
        rows: u64,
    }
    let query = |table: &TableName| {
        // Its own alone, as a dump has them: those of tables that inherit from it are theirs.
        format!("SELECT {} AS name, count(*) AS rows FROM ONLY {}", literal(&table.full_name()), table.quoted())
    };
    let mut counts = BTreeMap::new();
    for some in shape.tables.chunks(50) {
        let queries: Vec<String> = some.iter().map(query).collect();
        let counted: Vec<Counted> = session.rows(&queries.join(" UNION ALL "), LONG)?;
        counts.extend(counted.into_iter().map(|counted| (counted.name, counted.rows)));
    }
    Ok(counts)
}

/// Where the rows of a dump are not those that were counted at the instant; `None`: they are.
pub fn unlike(shape: &Shape, counted: &BTreeMap<String, u64>, dumped: &BTreeMap<String, u64>) -> Option<String> {
    let must = |name: &str| shape.tables.iter().any(|table| !table.extension && table.full_name() == name);
    for (name, rows) in counted {
        match dumped.get(name) {
            Some(found) if found == rows => {}
            // Which rows of its own a dump is to have, the extension says.
            _ if !must(name) => {}
            Some(found) => return Some(format!("{name} had {rows} rows, and the dump has {found}")),
            None => return Some(format!("{name} had {rows} rows, and is not in the dump")),
        }
    }
    let new = dumped.keys().find(|name| !counted.contains_key(*name));
    new.map(|name| format!("{name} is in the dump, and was not there at the instant"))
}

/// What is written down of `counted`: of an extension's tables what the dump has of them, for that comes back.
pub fn written_down(
    shape: &Shape,
    mut counted: BTreeMap<String, u64>,
    dumped: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    for name in shape.tables.iter().filter(|table| table.extension).map(TableName::full_name) {
        match dumped.get(&name) {
            Some(rows) => counted.insert(name, *rows),
            None => counted.remove(&name),
        };
    }
    counted
}

/// What Immich's database says of itself. `media_location` is what the owner says, or nothing.
pub fn immich(
    session: &mut Session,
    shape: &Shape,
    counted: &BTreeMap<String, u64>,
) -> Result<Option<Immich>, PgError> {
    let Some(assets) = ["public.asset", "public.assets"].iter().find_map(|name| counted.get(*name)) else {
        return Ok(None);
    };
    #[derive(Deserialize)]
    struct Text {
        text: Option<String>,
    }
    let mut ask = |table: &str, query: &str| -> Result<String, PgError> {
        if !shape.has(table) {
            return Ok(String::new());
        }
        let rows: Vec<Text> = session.rows(query, SHORT)?;
        Ok(rows.into_iter().next().and_then(|row| row.text).unwrap_or_default())
    };
    let version =
        ask("version_history", "SELECT version AS text FROM version_history ORDER BY \"createdAt\" DESC LIMIT 1")?;
    let location =
        ask("system_metadata", "SELECT value::text AS text FROM system_metadata WHERE key = 'MediaLocation'")?;
    let maintenance =
        ask("system_metadata", "SELECT value::text AS text FROM system_metadata WHERE key = 'maintenance-mode'")?;
    let last_migration = ask("kysely_migrations", "SELECT max(name) AS text FROM kysely_migrations")?;
    let maintenance: serde_json::Value = serde_json::from_str(&maintenance).unwrap_or_default();
    Ok(Some(Immich {
        version,
        media_location: crate::immich::media_location(&location).unwrap_or_default(),
        maintenance: maintenance["isMaintenanceMode"] == true,
        migrations: counted.get("public.kysely_migrations").copied().unwrap_or_default(),
        last_migration,
        assets: *assets,
        sentinels: BTreeMap::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(tables: &[(&str, bool)], migrations: u64) -> Shape {
        let table = |(name, extension): &(&str, bool)| TableName {
            schema: "public".into(),
            name: (*name).into(),
            extension: *extension,
        };
        let migrations = BTreeMap::from([("public.kysely_migrations".to_owned(), (migrations, String::new()))]);
        Shape { tables: tables.iter().map(table).collect(), migrations }
    }

    fn rows(all: &[(&str, u64)]) -> BTreeMap<String, u64> {
        all.iter().map(|(name, rows)| (format!("public.{name}"), *rows)).collect()
    }

    #[test]
    fn a_dump_with_other_rows_than_the_instant_is_told() {
        let shape = shape(&[("asset", false), ("spatial_ref_sys", true)], 1);
        let counted = rows(&[("asset", 3), ("spatial_ref_sys", 8500)]);
        assert_eq!(unlike(&shape, &counted, &rows(&[("asset", 3)])), None);
        assert_eq!(unlike(&shape, &counted, &counted), None);
        let told = |dumped| unlike(&shape, &counted, &rows(dumped)).unwrap();
        assert_eq!(told(&[("asset", 0)]), "public.asset had 3 rows, and the dump has 0");
        assert_eq!(told(&[]), "public.asset had 3 rows, and is not in the dump");
        assert!(told(&[("asset", 3), ("new", 0)]).contains("public.new"));
        // An extension says which rows of its tables are the owner's: a dump has those alone.
        let some = rows(&[("asset", 3), ("spatial_ref_sys", 1)]);
        assert_eq!(unlike(&shape, &counted, &some), None);
        assert_eq!(written_down(&shape, counted.clone(), &some), some);
        assert_eq!(written_down(&shape, counted.clone(), &rows(&[("asset", 3)])), rows(&[("asset", 3)]));
    }

    #[test]
    fn a_schema_that_moved_is_told() {
        let before = shape(&[("asset", false)], 88);
        assert_eq!(before.moved(&before.clone()), None);
        assert!(before.moved(&shape(&[("asset", false)], 89)).unwrap().contains("kysely_migrations"));
        assert!(before.moved(&shape(&[], 88)).unwrap().contains("public.asset is gone"));
        assert!(before.moved(&shape(&[("asset", false), ("x", false)], 88)).unwrap().contains("new table public.x"));
    }

    #[test]
    fn names_are_quoted_whatever_they_hold() {
        let odd = TableName { schema: "a\"b".into(), name: "c'd\\".into(), extension: false };
        assert_eq!(
            (odd.quoted().as_str(), literal(&odd.full_name()).as_str()),
            ("\"a\"\"b\".\"c'd\\\"", "E'a\"b.c''d\\\\'")
        );
    }
}
