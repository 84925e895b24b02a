//! A database comes back from its dump, on a real PostgreSQL.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, sync::atomic::AtomicBool};

use haven_point::{
    dump,
    manifest::{Database, Part},
    pg::Reach,
};
use haven_recover::{
    Error,
    database::{Goal, amcheck},
};
use haven_testkit::postgres::{Cluster, Extension, IMMICH_V3};

/// Dumps the Immich of a cluster; the rows of its tables.
fn dumped(cluster: &Cluster, path: &std::path::Path) -> BTreeMap<String, u64> {
    let mut pg_dump = Command::new(cluster.programs().join("pg_dump"));
    let done = pg_dump.args(["-Fc", "-Z0", "-d", &cluster.reach("immich"), "-f"]).arg(path).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let file = std::io::BufReader::new(fs::File::open(path).unwrap());
    dump::walk(file, |_, _| Ok(())).unwrap().rows
}

/// A cluster with an Immich in it, and a dump of that.
struct Scene {
    cluster: Cluster,
    directory: tempfile::TempDir,
    database: Database,
}

impl Scene {
    fn new() -> Option<Self> {
        let cluster = Cluster::start()?;
        cluster.sql("postgres", "CREATE ROLE immich LOGIN");
        cluster.database("immich", IMMICH_V3);
        cluster.sql(
            "immich",
            "INSERT INTO asset (\"ownerId\", type, \"originalPath\", \"originalFileName\", checksum) \
             SELECT '11111111-1111-4111-8111-111111111111', 'IMAGE', '/data/upload/' || n, '', decode(md5(n::text), 'hex') \
             FROM generate_series(1, 500) AS n; \
             INSERT INTO system_metadata VALUES ('maintenance-mode', '{\"isMaintenanceMode\": true, \"secret\": \"x\"}')",
        );
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database.dump");
        let rows = dumped(&cluster, &path);
        let number: u32 = cluster.sql("postgres", "SHOW server_version_num").parse().unwrap();
        let database = Database {
            name: "immich".into(),
            dump: Part {
                file: "database.dump".into(),
                bytes: fs::metadata(&path).unwrap().len(),
                sha256: String::new(),
            },
            roles: None,
            owner: "immich".into(),
            encoding: "UTF8".into(),
            collate: "C.UTF-8".into(),
            ctype: "C.UTF-8".into(),
            server: String::new(),
            server_number: number,
            pg_dump: String::new(),
            wal: String::new(),
            system: String::new(),
            bytes: 0,
            extensions: BTreeMap::from([("plpgsql".to_owned(), "1.0".to_owned())]),
            rows,
        };
        Some(Self { cluster, directory, database })
    }

    fn dump(&self) -> PathBuf {
        self.directory.path().join("database.dump")
    }

    fn goal(&self, name: &str) -> Goal {
        let reach = Reach {
            database: self.cluster.reach(name),
            programs: Some(self.cluster.programs().into()),
            within: vec![],
        };
        Goal { reach, role: None, rights: false, jobs: 2 }
    }

    fn databases(&self) -> Vec<String> {
        let all =
            self.cluster.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'immich%' ORDER BY 1");
        all.lines().map(str::to_owned).collect()
    }

    fn restore(&self, name: &str) -> Result<haven_recover::database::Restored, Error> {
        self.goal(name).restore(&self.database, &self.dump(), None, &AtomicBool::new(false), &mut |_| ())
    }
}

#[test]
fn a_database_comes_back_whole_in_the_place_of_the_one_before_which_is_kept() {
    let Some(scene) = Scene::new() else { return };
    scene.cluster.sql("immich", "DELETE FROM asset");
    let restored = scene.restore("immich").unwrap();
    assert_eq!(restored.rows, scene.database.rows.values().sum::<u64>());
    assert!(restored.maintenance_cleared && !restored.role_made);
    let aside = restored.set_aside.unwrap();
    assert_eq!(scene.databases(), ["immich".to_owned(), aside.clone()]);
    let count = |name: &str| scene.cluster.sql(name, "SELECT count(*) FROM asset");
    assert_eq!((count("immich").as_str(), count(&aside).as_str()), ("500", "0"));
    let flag = "SELECT value FROM system_metadata WHERE key = 'maintenance-mode'";
    assert_eq!(scene.cluster.sql("immich", flag), "{\"isMaintenanceMode\": false}");
    let owner = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(scene.cluster.sql("immich", owner), "immich");
    let mut session =
        haven_point::pg::Session::open(&scene.goal("immich").reach, std::time::Duration::from_secs(10)).unwrap();
    // Where the server has amcheck, which a package of its own may bring.
    if let Some((indexes, broken)) = amcheck(&mut session).unwrap() {
        assert!(indexes > 5 && broken.is_empty(), "{broken:?}");
    }
}

#[test]
fn where_a_server_lets_in_by_who_asks_root_restores_what_root_alone_can_read() {
    let Some(scene) = Scene::new() else { return };
    if !scene.cluster.lets_in_peers_alone() {
        return;
    }
    let restored = scene.restore("back").unwrap();
    assert_eq!(restored.rows, scene.database.rows.values().sum::<u64>());
    assert_eq!(scene.cluster.sql("back", "SELECT count(*) FROM asset"), "500");
    assert_eq!(
        scene.cluster.sql("back", "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"),
        "immich"
    );
}

#[test]
fn where_the_new_database_cannot_be_renamed_the_one_before_keeps_its_name() {
    let Some(scene) = Scene::new() else { return };
    scene.cluster.sql("immich", "DELETE FROM asset");
    let mut other = None;
    let outcome =
        scene.goal("immich").restore(&scene.database, &scene.dump(), None, &AtomicBool::new(false), &mut |doing| {
            if doing.contains("in its place") {
                // Somebody looks into the new one just now.
                let new = scene.databases().into_iter().find(|name| name.starts_with("immich_haven_")).unwrap();
                let reach = Reach { database: scene.cluster.reach(&new), programs: None, within: vec![] };
                other = Some(haven_point::pg::Session::open(&reach, std::time::Duration::from_secs(10)).unwrap());
            }
        });
    let Err(Error::Unfit { what, next }) = outcome else { panic!("{outcome:?}") };
    let new = scene.databases().into_iter().find(|name| name.starts_with("immich_haven_")).unwrap();
    assert_eq!(scene.databases(), ["immich".to_owned(), new.clone()]);
    assert_eq!(scene.cluster.sql("immich", "SELECT count(*) FROM asset"), "0", "the one before");
    assert!(what.contains(&new), "{what}");
    drop(other);
    // What is to be done then does it.
    scene.cluster.sql("postgres", next.split_once("psql: ").unwrap().1);
    assert_eq!(scene.cluster.sql("immich", "SELECT count(*) FROM asset"), "500");
    assert_eq!(scene.databases().len(), 2);
}

#[test]
fn a_dump_that_is_not_what_was_counted_never_takes_the_databases_place() {
    let Some(mut scene) = Scene::new() else { return };
    scene.database.rows.insert("public.asset".into(), 501);
    let error = scene.restore("immich").unwrap_err();
    let Error::Differs { database, why } = &error else { panic!("{error:?}") };
    assert_eq!(why, "public.asset had 501 rows, and has 500");
    assert_eq!(scene.databases(), ["immich".to_owned(), database.clone()], "it stays for a look");
    scene.database.rows.insert("public.asset".into(), 500);
    let restored = scene.restore("immich").unwrap();
    assert_eq!(scene.databases(), ["immich".to_owned(), restored.set_aside.unwrap()], "what was left is gone");
}

#[test]
fn an_extension_in_a_schema_of_its_own_comes_back_in_it() {
    let Some(mut scene) = Scene::new() else { return };
    // As pgvecto.rs has it, which says where it is to be; and as an owner may have any other.
    let sql = "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';";
    let (Some(fixed), Some(free)) = (Extension::offer("schema = vectors", sql), Extension::offer("", sql)) else {
        return;
    };
    let made = format!(
        "CREATE EXTENSION {}; CREATE SCHEMA \"my things\"; CREATE EXTENSION {} SCHEMA \"my things\"; \
         CREATE TABLE \"my things\".mine (n int DEFAULT vectors.one()); INSERT INTO \"my things\".mine VALUES (7); \
         CREATE SCHEMA vectors2; CREATE TABLE vectors2.other (n int); \
         COMMENT ON SCHEMA vectors IS 'of the extension'; GRANT USAGE ON SCHEMA vectors TO immich",
        fixed.name, free.name
    );
    scene.cluster.sql("immich", &made);
    scene.database.rows = dumped(&scene.cluster, &scene.dump());
    for extension in [&fixed, &free] {
        scene.database.extensions.insert(extension.name.clone(), "1".into());
    }
    let restored = scene.restore("immich").unwrap();
    let places = "SELECT string_agg(nspname, ', ' ORDER BY 1) FROM pg_extension e JOIN pg_namespace n ON n.oid = \
                  extnamespace WHERE extname LIKE 'haven_test_%'";
    assert_eq!(scene.cluster.sql("immich", places), "my things, vectors");
    assert_eq!(scene.cluster.sql("immich", "SELECT n + vectors.one() FROM \"my things\".mine"), "8");
    assert_eq!(scene.cluster.sql("immich", "SELECT \"my things\".one() + (SELECT count(*) FROM vectors2.other)"), "1");
    assert!(restored.set_aside.is_some());
}

/// Has a database look as if its restoring had not come to its end.
fn marked(scene: &Scene, name: &str, remark: &str) {
    let remark = format!("COMMENT ON DATABASE \"{name}\" IS 'haven recover: unfinished{remark}'");
    scene.cluster.sql("postgres", &remark);
}

#[test]
fn what_a_run_that_was_killed_has_left_goes_with_whoever_still_fills_it_and_nobody_elses_does() {
    let Some(scene) = Scene::new() else { return };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let left = |name: &str, remark: &str| {
        scene.cluster.sql("postgres", &format!("CREATE DATABASE \"{name}\""));
        marked(&scene, name, remark);
        let reach = Reach { database: scene.cluster.reach(name), programs: None, within: vec![] };
        haven_point::pg::Session::open(&reach, std::time::Duration::from_secs(10)).unwrap()
    };
    let here = |process: u32| format!(", by process {process} of {}", host.trim());
    let (killed, at_work, elsewhere) =
        ("immich_haven_20261101T000001", "immich_haven_20261101T000002", "immich_haven_20261101T000003");
    let _sessions = [
        left(killed, &here(4_194_999)),
        left(at_work, &here(std::os::unix::process::parent_id())),
        left(elsewhere, ", by process 1 of another-machine"),
    ];
    let restored = scene.restore("immich").unwrap();
    let aside = restored.set_aside.unwrap();
    assert_eq!(scene.databases(), ["immich", &aside, at_work, elsewhere]);
    assert!(restored.warnings.iter().any(|told| told.contains(elsewhere)), "{:?}", restored.warnings);
}

#[test]
fn what_somebody_has_renamed_is_in_use_whatever_its_remark_says() {
    let Some(scene) = Scene::new() else { return };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let dead = format!(", by process 4194999 of {}", host.trim());
    scene.cluster.sql("postgres", "CREATE DATABASE immich_mine");
    for name in ["immich", "immich_mine"] {
        marked(&scene, name, &dead);
    }
    // A goal with a name as we give them is no leftover either.
    let goal = "immich_haven_20261101T000001";
    scene.cluster.sql("postgres", &format!("CREATE DATABASE \"{goal}\""));
    marked(&scene, goal, &dead);
    let beside = scene.restore(goal).unwrap();
    let aside = beside.set_aside.unwrap();
    assert_eq!(scene.databases(), ["immich", goal, &aside, "immich_mine"]);
    let restored = scene.restore("immich").unwrap();
    assert!(restored.set_aside.is_some_and(|aside| scene.databases().contains(&aside)));
    assert!(scene.databases().contains(&"immich_mine".to_owned()));
}

#[test]
fn on_a_fresh_server_the_owner_and_the_other_roles_come_back_with_what_each_may_do() {
    let Some(scene) = Scene::new() else { return };
    scene.cluster.sql(
        "immich",
        "ALTER ROLE immich PASSWORD 'secret'; CREATE ROLE readers; CREATE ROLE \"the \"\"Viewer\"\"\" LOGIN; \
         CREATE ROLE granter SUPERUSER; ALTER ROLE \"the \"\"Viewer\"\"\" SET work_mem = '8MB'; \
         GRANT SELECT ON asset TO readers; GRANT pg_read_all_stats TO immich; \
         SET ROLE granter; GRANT readers TO \"the \"\"Viewer\"\"\" WITH ADMIN OPTION",
    );
    dumped(&scene.cluster, &scene.dump());
    let roles = scene.directory.path().join("roles.sql");
    let mut pg_dumpall = Command::new(scene.cluster.programs().join("pg_dumpall"));
    let done = pg_dumpall.args(["--globals-only", "-d", &scene.cluster.reach("postgres"), "-f"]).arg(&roles).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let fresh = Cluster::start().unwrap();
    let reach = Reach { database: fresh.reach("immich"), programs: Some(fresh.programs().into()), within: vec![] };
    let goal = Goal { reach, role: None, rights: true, jobs: 2 };
    let restore =
        || goal.restore(&scene.database, &scene.dump(), Some(&roles), &AtomicBool::new(false), &mut |_| ()).unwrap();
    let restored = restore();
    assert!(restored.role_made && restored.warnings.is_empty(), "{:?}", restored.warnings);
    let owner = "SELECT count(*) FROM pg_authid WHERE rolname = 'immich' AND rolcanlogin AND rolpassword <> ''";
    assert_eq!(fresh.sql("postgres", owner), "1");
    let members = "SELECT string_agg(format('%s in %s, %s', m.rolname, r.rolname, admin_option), '; ' ORDER BY 1) FROM \
                   pg_auth_members JOIN pg_roles r ON r.oid = roleid JOIN pg_roles m ON m.oid = member \
                   WHERE m.rolname IN ('immich', 'the \"Viewer\"')";
    let members = || fresh.sql("postgres", members);
    assert_eq!(members(), "immich in pg_read_all_stats, f; the \"Viewer\" in readers, t");
    let seen = "SET ROLE \"the \"\"Viewer\"\"\"; SELECT count(*) FROM asset";
    assert_eq!(fresh.sql("immich", seen), "500");
    let work_mem = "SELECT rolconfig FROM pg_roles WHERE rolname LIKE 'the %'";
    assert_eq!(fresh.sql("postgres", work_mem), "{work_mem=8MB}");
    // Once more, where all of them are: they stay as they are, and a membership that was lost is there again. Who had granted
    // it is not here any more.
    fresh.sql(
        "postgres",
        "ALTER ROLE immich PASSWORD NULL; REVOKE pg_read_all_stats FROM immich; \
         REVOKE readers FROM \"the \"\"Viewer\"\"\"; DROP ROLE granter",
    );
    fs::write(&roles, fs::read_to_string(&roles).unwrap().replace("CREATE ROLE granter", "-- ")).unwrap();
    let restored = restore();
    assert!(!restored.role_made && restored.set_aside.is_some());
    assert!(restored.warnings.iter().all(|told| told.contains("the role granter")), "{:?}", restored.warnings);
    assert_eq!(members(), "immich in pg_read_all_stats, f; the \"Viewer\" in readers, t");
    assert_eq!(fresh.sql("postgres", owner), "0");
}

#[test]
fn a_server_that_is_not_fit_is_told_before_anything_is_done() {
    let Some(mut scene) = Scene::new() else { return };
    let unfit = |scene: &Scene| match scene.restore("immich") {
        Err(Error::Unfit { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let reach = Reach { database: scene.cluster.reach("immich"), programs: None, within: vec![] };
    let session = haven_point::pg::Session::open(&reach, std::time::Duration::from_secs(10)).unwrap();
    assert!(unfit(&scene).contains("immich is in use: 1 session"), "{}", unfit(&scene));
    drop(session);
    scene.database.extensions.insert("vchord".into(), "0.4".into());
    assert!(unfit(&scene).contains("no extension vchord"));
    scene.database.extensions.clear();
    scene.database.server_number = 990_000;
    assert!(unfit(&scene).contains("PostgreSQL 99"));
    assert_eq!(scene.databases(), ["immich"]);
}

#[test]
fn a_torn_dump_leaves_everything_as_it_was() {
    let Some(scene) = Scene::new() else { return };
    let whole = fs::read(scene.dump()).unwrap();
    fs::write(scene.dump(), &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(scene.restore("immich"), Err(Error::Postgres(_))));
    assert_eq!(scene.databases(), ["immich"]);
}

#[test]
fn a_cluster_of_our_own_takes_a_dump_and_leaves_nothing() {
    let Some(scene) = Scene::new() else { return };
    let own = haven_recover::cluster::Cluster::start(&scene.database, None, None).unwrap();
    let goal = Goal { reach: own.reach("immich"), role: None, rights: false, jobs: 2 };
    let restored = goal.restore(&scene.database, &scene.dump(), None, &AtomicBool::new(false), &mut |_| ()).unwrap();
    assert!(restored.role_made && restored.set_aside.is_none());
    let soon = std::time::Duration::from_secs(10);
    let mut session = haven_point::pg::Session::open(&goal.reach, soon).unwrap();
    let jit: serde_json::Value = session.row("SELECT current_setting('jit') AS jit", soon).unwrap();
    assert_eq!(jit["jit"], "off", "a service may not make code while it runs");
    drop(session);
    let directory = own.reach("x").database.split('\'').nth(1).unwrap().to_owned();
    assert!(fs::metadata(&directory).is_ok());
    drop(own);
    assert!(fs::metadata(&directory).is_err());
}
