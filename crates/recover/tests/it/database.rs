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
use haven_testkit::postgres::{Cluster, IMMICH_V3};

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
        let mut pg_dump = Command::new(cluster.programs().join("pg_dump"));
        let done = pg_dump.args(["-Fc", "-Z0", "-d", &cluster.reach("immich"), "-f"]).arg(&path).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let file = std::io::BufReader::new(fs::File::open(&path).unwrap());
        let rows = dump::walk(file, |_, _| Ok(())).unwrap().rows;
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
    let directory = own.reach("x").database.split('\'').nth(1).unwrap().to_owned();
    assert!(fs::metadata(&directory).is_ok());
    drop(own);
    assert!(fs::metadata(&directory).is_err());
}
