//! With a real PostgreSQL.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use haven_point::{
    dump::{self, DumpError},
    pg::{self, Ends, PgError, Reach, Session, Shape},
};
use haven_testkit::postgres::{Cluster, Extension, IMMICH_V3};

const WAIT: Duration = Duration::from_millis(500);

fn reach(database: String) -> Reach {
    Reach { database, ..Reach::default() }
}

fn ends(stop: &AtomicBool) -> Ends<'_> {
    Ends { stop, limit: Duration::from_secs(60), lock_wait: Duration::from_secs(10) }
}

/// Takes the instant, and dumps it; the dump as a file.
fn dumped(reach: &Reach, between: impl FnOnce()) -> Result<(BTreeMap<String, u64>, File, Shape), PgError> {
    let mut session = Session::open(reach, WAIT)?;
    let facts = pg::Facts::of(&mut session)?;
    let shape = Shape::of(&mut session)?;
    pg::begin(&mut session, &shape)?;
    let moment = pg::fix(&mut session)?;
    between();
    let counted = pg::count(&mut session, &shape)?;
    let mut file = tempfile::tempfile().unwrap();
    let stop = AtomicBool::new(false);
    pg::dump(reach, facts.server_number / 10_000, &moment.snapshot, &file, ends(&stop), &mut |_| {}, &|| {})?;
    file.rewind().unwrap();
    Ok((counted, file, shape))
}

fn walked(file: &File) -> Result<dump::Walked, DumpError> {
    let mut file = file.try_clone().unwrap();
    file.rewind().unwrap();
    dump::walk(BufReader::new(file), |_, _| Ok(()))
}

const ODD: &str = r#"
CREATE SCHEMA "odd schema";
CREATE TABLE "odd schema"."a (b, ""c"")" ("x, y" text, "q""q" bytea, n int);
INSERT INTO "odd schema"."a (b, ""c"")" SELECT E'tab\tnew\nline\\' || n, decode(repeat('00ff', 3), 'hex'), NULLIF(n, 3) FROM generate_series(1, 5) n;
CREATE TABLE nothing ();
CREATE TABLE empty (a int);
CREATE TABLE big (a text);
INSERT INTO big SELECT repeat(md5(n::text), 20) FROM generate_series(1, 3000) n;
CREATE TABLE parts (a int) PARTITION BY LIST (a);
CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
INSERT INTO parts VALUES (1), (1);
CREATE TABLE parent (a int);
CREATE TABLE child (b int) INHERITS (parent);
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (3, 3), (4, 4), (5, 5);
SELECT lo_from_bytea(0, 'a large object');
"#;

#[test]
fn a_dump_shows_the_instant_and_is_read_without_postgresql() {
    let Some(cluster) = Cluster::start() else { return };
    let reach = reach(cluster.database("odd", ODD));
    let (counted, mut file, shape) = dumped(&reach, || {
        cluster.sql("odd", "INSERT INTO empty VALUES (1); DELETE FROM big");
    })
    .unwrap();
    let mut rows = Vec::new();
    let found = dump::walk(BufReader::new(file.try_clone().unwrap()), |table, row| {
        if table.schema == "odd schema" {
            assert_eq!(table.columns, ["x, y", "q\"q", "n"]);
            rows.push(dump::fields(row).collect::<Vec<_>>());
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(found.database, "odd");
    assert_eq!(pg::unlike(&shape, &counted, &found.rows), None);
    let count = |name: &str| (counted[name], found.rows[name]);
    assert_eq!((count("public.empty"), count("public.big"), count("public.part1")), ((0, 0), (3000, 3000), (2, 2)));
    assert_eq!((count("public.parent"), count("public.child")), ((2, 2), (3, 3)), "each has its own");
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[2], [Some(b"tab\tnew\nline\\3".to_vec()), Some(b"\\x00ff00ff00ff".to_vec()), None]);
    // The program it was made for reads it as well.
    let listed = tempfile::NamedTempFile::new().unwrap();
    file.rewind().unwrap();
    std::io::copy(&mut file, &mut listed.as_file()).unwrap();
    let listing = Command::new(cluster.programs().join("pg_restore")).arg("-l").arg(listed.path()).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    assert_eq!(listing.matches("TABLE DATA").count(), found.rows.len(), "{listing}");
}

#[test]
fn of_an_extensions_tables_what_the_dump_has_is_written_down() {
    // As PostGIS has its reference systems: the dump has those that the owner added.
    let sql = "CREATE TABLE known (n int); INSERT INTO known SELECT generate_series(1, 100);
               SELECT pg_extension_config_dump('known', 'WHERE n > 100');
               CREATE TABLE own (n int); INSERT INTO own VALUES (1);";
    let Some(cluster) = Cluster::start() else { return };
    let Some(extension) = Extension::offer("schema = 'in a place'", sql) else { return };
    let text = format!("CREATE EXTENSION {}; INSERT INTO \"in a place\".known VALUES (101), (102);", extension.name);
    let (counted, file, shape) = dumped(&reach(cluster.database("maps", &text)), || {}).unwrap();
    let found = walked(&file).unwrap().rows;
    assert_eq!((counted["in a place.known"], found["in a place.known"]), (102, 2));
    assert_eq!(pg::unlike(&shape, &counted, &found), None);
    assert_eq!(pg::written_down(&shape, counted, &found), found);
    let mut again = file.try_clone().unwrap();
    again.rewind().unwrap();
    let ground = dump::ground(BufReader::new(again)).unwrap();
    assert_eq!(ground.schemas, ["in a place"]);
    let made = dump::Extension { name: extension.name.clone(), schema: Some("in a place".into()) };
    assert_eq!(ground.extensions, [made]);
}

#[test]
fn a_dump_that_is_cut_anywhere_is_not_taken_for_a_whole_one() {
    let Some(cluster) = Cluster::start() else { return };
    let (_, mut file, _) = dumped(&reach(cluster.database("odd", ODD)), || {}).unwrap();
    let mut whole = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut whole).unwrap();
    let read = |bytes: &[u8]| dump::walk(bytes, |_, _| Ok(()));
    read(&whole).unwrap();
    let (mut at, mut tried) = (0, 0);
    while at < whole.len() {
        assert!(read(&whole[..at]).is_err(), "cut at {at} of {}", whole.len());
        at += 1 + whole.len() / 700;
        tried += 1;
    }
    assert!(tried > 500 && read(&whole[..whole.len() - 1]).is_err());
    assert!(matches!(read(b"-- a plain dump"), Err(DumpError::Foreign)));
    let mut newer = whole.clone();
    newer[6] = 99;
    assert!(matches!(read(&newer), Err(DumpError::Version(1, 99))));
}

#[test]
fn nobody_empties_or_alters_a_table_between_the_instant_and_the_dump() {
    let Some(cluster) = Cluster::start() else { return };
    let reach = reach(cluster.database("immich", IMMICH_V3));
    let tried = |sql: &str| cluster.try_sql("immich", &format!("SET lock_timeout = '200ms'; {sql}"));
    let (counted, file, shape) = dumped(&reach, || {
        for sql in ["TRUNCATE kysely_migrations", "ALTER TABLE asset ADD x int", "DROP TABLE smart_search"] {
            assert!(tried(sql).unwrap_err().contains("lock timeout"), "{sql}");
        }
        tried("INSERT INTO kysely_migrations VALUES ('1790000000000-More', '')").unwrap();
        tried("CREATE TABLE newcomer (a int)").unwrap();
    })
    .unwrap();
    assert_eq!(pg::unlike(&shape, &counted, &walked(&file).unwrap().rows), None);
    // What could not be kept off is noticed.
    let mut session = Session::open(&reach, WAIT).unwrap();
    assert!(shape.moved(&Shape::of(&mut session).unwrap()).unwrap().contains("newcomer"));
    cluster.sql("immich", "DROP TABLE newcomer");
    let moved = shape.moved(&Shape::of(&mut session).unwrap()).unwrap();
    assert!(moved.contains("kysely_migrations"), "{moved}");
    tried("ALTER TABLE asset ADD x int").unwrap();
}

#[test]
fn a_table_that_somebody_else_has_locked_is_waited_for_and_then_told() {
    let Some(cluster) = Cluster::start() else { return };
    let reach = reach(cluster.database("immich", IMMICH_V3));
    let mut migration = Session::open(&reach, WAIT).unwrap();
    migration.run("BEGIN; ALTER TABLE asset ADD y int;", WAIT * 10).unwrap();
    let refused = dumped(&reach, || {}).unwrap_err();
    assert!(matches!(&refused, PgError::Ended { said } if said.contains("lock timeout")), "{refused}");
    drop(migration);
    dumped(&reach, || {}).unwrap();
}

#[test]
fn a_session_that_is_ended_says_why() {
    let Some(cluster) = Cluster::start() else { return };
    let nowhere = reach("host=/nonexistent dbname=x".into());
    let told = Session::open(&nowhere, WAIT).err().unwrap().to_string();
    assert!(told.contains("/nonexistent"), "{told}");
    let told = Session::open(&reach(cluster.reach("nothing")), WAIT).err().unwrap().to_string();
    assert!(told.contains("does not exist"), "{told}");
    let absent = Reach { programs: Some("/nonexistent".into()), ..reach(cluster.reach("postgres")) };
    assert!(matches!(Session::open(&absent, WAIT), Err(PgError::Run { .. })));
    let mut session = Session::open(&reach(cluster.reach("postgres")), WAIT).unwrap();
    assert!(matches!(session.run("SELECT pg_sleep(5);", WAIT), Err(PgError::Late { .. })));
    let mut session = Session::open(&reach(cluster.reach("postgres")), WAIT).unwrap();
    let me: BTreeMap<String, u32> = session.row("SELECT pg_backend_pid() AS pid", WAIT).unwrap();
    cluster.sql("postgres", &format!("SELECT pg_terminate_backend({})", me["pid"]));
    let told = session.run("SELECT 1;", WAIT * 10).unwrap_err().to_string();
    assert!(told.contains("terminating connection") || told.contains("closed the connection"), "{told}");
}

#[test]
fn a_dump_is_ended_when_asked_and_refused_by_a_program_that_is_too_old() {
    let Some(cluster) = Cluster::start() else { return };
    let reach = reach(cluster.database("odd", ODD));
    let file = tempfile::tempfile().unwrap();
    let stop = AtomicBool::new(true);
    let stopped = pg::dump(&reach, 1, "0-0-0", &file, ends(&stop), &mut |_| {}, &|| {});
    // It may have been quicker than we are.
    assert!(matches!(stopped, Err(PgError::Stopped | PgError::Failed { .. })));
    stop.store(false, Ordering::Relaxed);
    let refused = pg::dump(&reach, 1, "00000003-00000001-1", &file, ends(&stop), &mut |_| {}, &|| {}).unwrap_err();
    assert!(refused.to_string().contains("snapshot"), "{refused}");
    let old = Reach { programs: Some(cluster.programs().into()), ..reach };
    assert!(matches!(
        pg::dump(&old, 99, "0", &file, ends(&stop), &mut |_| {}, &|| {}),
        Err(PgError::TooOld { server: 99, .. })
    ));
}

#[test]
fn the_programs_may_run_within_something_else() {
    let Some(cluster) = Cluster::start() else { return };
    let reach = Reach {
        within: vec!["env".into(), "-i".into(), format!("PATH={}", cluster.programs().display())],
        ..reach(cluster.database("odd", ODD))
    };
    let (counted, file, shape) = dumped(&reach, || {}).unwrap();
    assert_eq!(pg::unlike(&shape, &counted, &walked(&file).unwrap().rows), None);
    let mut roles = tempfile::tempfile().unwrap();
    assert_eq!(pg::globals(&reach, 1, &mut roles, ends(&AtomicBool::new(false))).unwrap(), None);
    let mut text = String::new();
    roles.rewind().unwrap();
    roles.read_to_string(&mut text).unwrap();
    assert!(text.contains("CREATE ROLE postgres"));
}

#[test]
fn roles_come_without_passwords_where_these_may_not_be_read() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("postgres", "CREATE ROLE immich LOGIN PASSWORD 'secret'");
    cluster.sql("postgres", "CREATE DATABASE immich OWNER immich");
    let reach = reach(cluster.reach("immich").replace("user=postgres", "user=immich"));
    let mut roles = tempfile::tempfile().unwrap();
    let without = pg::globals(&reach, 1, &mut roles, ends(&AtomicBool::new(false))).unwrap();
    assert!(without.unwrap().contains("pg_authid"));
    let mut text = String::new();
    roles.rewind().unwrap();
    roles.read_to_string(&mut text).unwrap();
    assert!(text.contains("CREATE ROLE immich") && !text.contains("SCRAM"), "{text}");
}

/// How often a file is open in this process and in the programs that it has started.
fn times_open(path: &Path) -> usize {
    let number = |entry: &std::fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    let processes = std::fs::read_dir("/proc").unwrap().flatten().filter(number);
    let fds =
        processes.filter_map(|process| std::fs::read_dir(process.path().join("fd")).ok()).flat_map(|fds| fds.flatten());
    fds.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == path)).count()
}

/// A close waits until all is stored, where a library has room again: what came to nothing must be gone before, also before the
/// way to it that a program was given is closed.
fn told_before_it_is_closed(reach: &Reach) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("dump");
    let file = File::create(&path).unwrap();
    let (stop, told) = (AtomicBool::new(false), Cell::new(None));
    let in_vain = || told.set(Some(times_open(&path)));
    let failed = pg::dump(reach, 1, "00000003-00000FFF-1", &file, ends(&stop), &mut |_| {}, &in_vain).unwrap_err();
    assert!(failed.to_string().contains("snapshot"), "{failed}");
    assert_eq!(told.get(), Some(2), "here, and for the program");
    assert_eq!(times_open(&path), 1);
}

#[test]
fn a_dump_that_came_to_nothing_is_told_before_it_is_closed() {
    let Some(cluster) = Cluster::start() else { return };
    let plain = cluster.database("odd", ODD);
    told_before_it_is_closed(&reach(plain.clone()));
    if cluster.lets_in_peers_alone() {
        let peer = reach(plain.replace(" user=postgres", ""));
        assert_eq!(role(&peer.database).unwrap(), "postgres");
        told_before_it_is_closed(&peer);
    }
}

/// The role that a session has.
fn role(database: &str) -> Result<String, PgError> {
    let mut session = Session::open(&reach(database.into()), WAIT)?;
    let mut row: BTreeMap<String, String> = session.row("SELECT current_user::text AS name", WAIT)?;
    Ok(row.remove("name").unwrap())
}

#[test]
fn where_a_server_lets_in_by_who_asks_root_comes_in_and_nobody_else_becomes_another() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("postgres", "CREATE ROLE nobody LOGIN; CREATE ROLE no_such_user LOGIN; CREATE ROLE later LOGIN");
    cluster.database("odd", ODD);
    let plain = cluster.reach("odd").replace(" user=postgres", "");
    let as_whom = |user: &str| format!("{plain} user={user}");
    assert_eq!(role(&as_whom("later")).unwrap(), "later", "who is let in is who he said");
    if !cluster.lets_in_peers_alone() {
        return;
    }
    assert_eq!(role(&plain).unwrap(), "postgres", "nobody was named");
    assert_eq!(role(&as_whom("nobody")).unwrap(), "nobody", "there is a user of that name");
    assert_eq!(role(&as_whom("no_such_user")).unwrap(), "postgres", "there is none");
    assert_eq!(pg::stand_in(&reach(plain.clone())).as_deref(), Some("postgres"));
    let told = role(&plain.replace("dbname=odd", "dbname=nothing")).unwrap_err().to_string();
    assert!(told.contains("role \"root\"") && told.contains("\"nothing\" does not exist"), "{told}");
    let reach = reach(plain);
    let (counted, file, shape) = dumped(&reach, || {}).unwrap();
    assert_eq!(pg::unlike(&shape, &counted, &walked(&file).unwrap().rows), None);
    let mut roles = tempfile::tempfile().unwrap();
    assert_eq!(pg::globals(&reach, 1, &mut roles, ends(&AtomicBool::new(false))).unwrap(), None);
    let mut text = String::new();
    roles.rewind().unwrap();
    roles.read_to_string(&mut text).unwrap();
    assert!(text.contains("CREATE ROLE nobody"), "{text}");
    // A disk that takes no more is told, and not that the program was cut off.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut session = Session::open(&reach, WAIT).unwrap();
    pg::begin(&mut session, &shape).unwrap();
    let moment = pg::fix(&mut session).unwrap();
    let stop = AtomicBool::new(false);
    let refused = pg::dump(&reach, 1, &moment.snapshot, &full, ends(&stop), &mut |_| {}, &|| {}).unwrap_err();
    assert!(refused.to_string().contains("No space left"), "{refused}");
}
