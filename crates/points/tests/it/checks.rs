//! Whether photos are what the database knows, from dumps of real databases.

use std::{collections::BTreeSet, fs, io::BufReader, path::Path, process::Command};

use haven_point::{
    Folder,
    check::{Report, What, Why, check},
    immich::{self, Paths},
};
use haven_testkit::postgres::{Cluster, IMMICH_V1, IMMICH_V3};
use tempfile::TempDir;

/// A database, and Immich's folder.
struct Library {
    cluster: Cluster,
    media: TempDir,
    sql: String,
}

const OWNER: &str = "11111111-1111-4111-8111-111111111111";

impl Library {
    fn new() -> Option<Self> {
        Some(Self { cluster: Cluster::start()?, media: tempfile::tempdir().unwrap(), sql: String::new() })
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.media.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A row of v3, of a file that holds `content`.
    fn asset(&mut self, number: u32, path: &str, content: &str, more: &[(&str, &str)]) {
        let (names, values): (Vec<_>, Vec<_>) =
            more.iter().map(|(name, value)| (format!(", \"{name}\""), format!(", '{value}'"))).unzip();
        self.sql += &format!(
            "INSERT INTO asset (id, \"ownerId\", type, \"originalPath\", \"originalFileName\", checksum{}) \
             VALUES ('{}', '{OWNER}', 'IMAGE', '/data/{path}', 'x.jpg', '\\x{}'{});",
            names.concat(),
            id(number),
            sha1(content),
            values.concat()
        );
    }

    fn file(&mut self, number: u32, kind: &str, path: &str) {
        self.sql += &format!(
            "INSERT INTO asset_file (\"assetId\", type, path) VALUES ('{}', '{kind}', '/data/{path}');",
            id(number)
        );
    }

    fn checked(&self, schema: &str, told: Option<&str>) -> Report {
        let reach = self.cluster.database("immich", &format!("{schema}{}", self.sql));
        let dump = self.media.path().with_extension("dump");
        let made = Command::new(self.cluster.programs().join("pg_dump"))
            .args(["-Fc", "-Z0", "-d", &reach, "-f"])
            .arg(&dump)
            .status();
        assert!(made.unwrap().success());
        let catalogue = immich::catalogue(BufReader::new(fs::File::open(&dump).unwrap())).unwrap();
        fs::remove_file(dump).unwrap();
        let paths = Paths::of(&catalogue, told);
        check(&catalogue, &paths, &Folder(self.media.path().into()), &|_| {}).unwrap()
    }
}

fn id(number: u32) -> String {
    format!("aaaaaaaa-0000-4000-8000-{number:012}")
}

fn sha1(content: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, content.as_bytes());
    data_encoding::HEXLOWER.encode(digest.as_ref())
}

fn numbers(report: &Report) -> BTreeSet<(u32, What)> {
    let number = |id: &str| id.rsplit_once('-').unwrap().1.parse().unwrap();
    report.broken.iter().map(|broken| (number(&broken.id), broken.what)).collect::<BTreeSet<_>>()
}

#[test]
fn every_row_of_a_good_library_has_its_file() {
    let Some(mut library) = Library::new() else { return };
    for (number, path, content, more) in [
        (1, "upload/u/aa/bb/1.jpg", "one", &[][..]),
        (2, "library/admin/2026/été 2.jpg", "two", &[("deletedAt", "2026-11-20"), ("status", "trashed")]),
        (3, "encoded-video/u/aa/3-MP.mp4", "three", &[("visibility", "hidden")]),
    ] {
        library.asset(number, path, content, more);
        library.put(path, content);
    }
    // Nothing is promised of these.
    library.asset(4, "elsewhere/4.jpg", "4", &[("isExternal", "true"), ("libraryId", OWNER)]);
    library.asset(5, "upload/5.jpg", "5", &[("checksumAlgorithm", "sha1-path")]);
    library.asset(6, "upload/6.jpg", "6", &[("status", "deleted"), ("deletedAt", "2026-11-20")]);
    // Renamed, and the row does not say so yet; and the other way round.
    library.asset(7, "upload/u/7.jpg", "seven", &[]);
    library.put("library/admin/7.jpg", "seven");
    library.sql += &format!(
        "INSERT INTO move_history (\"entityId\", \"pathType\", \"oldPath\", \"newPath\") \
         VALUES ('{}', 'original', '/data/upload/u/7.jpg', '/data/library/admin/7.jpg');",
        id(7)
    );
    library.file(1, "sidecar", "upload/u/aa/bb/1.jpg.xmp");
    library.put("upload/u/aa/bb/1.jpg.xmp", "<x/>");
    library.file(1, "thumbnail", "thumbs/u/1.webp");
    library.file(1, "preview", "thumbs/u/1.jpeg");
    library.put("thumbs/u/1.jpeg", "jpeg");
    library.sql += &format!("UPDATE \"user\" SET \"profileImagePath\" = '/data/profile/{OWNER}/p.webp';");
    library.put(&format!("profile/{OWNER}/p.webp"), "me");
    for stray in
        ["upload/u/failed.jpg", "library/admin/orphan.xmp", "thumbs/u/old.webp", "upload/.immich", "backups/x.sql.gz"]
    {
        library.put(stray, "stray");
    }
    let report = library.checked(IMMICH_V3, None);
    assert!(report.good(), "{:?}", report.broken);
    assert_eq!((report.assets, report.trashed, report.moving, report.motion_parts), (4, 1, 1, 1));
    assert_eq!((report.external, report.deleted, report.sidecars, report.profiles, report.derived), (2, 1, 1, 1, 2));
    assert_eq!(report.bytes, "onetwothreeseven".len() as u64);
    let paths = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        report.regenerable.iter().map(|missing| missing.path.clone()).collect::<Vec<_>>(),
        paths(vec!["/data/thumbs/u/1.webp"])
    );
    let strays: Vec<_> = report.without_row.iter().map(|stray| stray.path.clone()).collect();
    assert_eq!(strays, paths(vec!["library/admin/orphan.xmp", "upload/u/failed.jpg"]));
}

#[test]
fn what_is_missing_damaged_swapped_or_elsewhere_is_found() {
    let Some(mut library) = Library::new() else { return };
    for number in 1..=8 {
        let path = format!("upload/u/{number}.jpg");
        library.asset(number, &path, &format!("content {number}"), &[]);
        library.put(&path, &format!("content {number}"));
    }
    library.file(8, "sidecar", "upload/u/8.jpg.xmp");
    fs::remove_file(library.media.path().join("upload/u/1.jpg")).unwrap();
    library.put("upload/u/2.jpg", "content 2, damaged");
    library.put("upload/u/3.jpg", "content 4");
    library.put("upload/u/4.jpg", "content 3");
    fs::remove_file(library.media.path().join("upload/u/5.jpg")).unwrap();
    std::os::unix::fs::symlink("6.jpg", library.media.path().join("upload/u/5.jpg")).unwrap();
    library.sql += &format!("UPDATE asset SET \"originalPath\" = '/other/7.jpg' WHERE id = '{}';", id(7));
    let report = library.checked(IMMICH_V3, None);
    let original = |number| (number, What::Original);
    let expected = [original(1), original(2), original(3), original(4), original(5), original(7), (8, What::Sidecar)];
    assert_eq!(numbers(&report), BTreeSet::from(expected));
    let why = |number: u32| {
        report.broken.iter().find(|broken| broken.id == id(number)).map(|broken| broken.why.clone()).unwrap()
    };
    assert_eq!((why(1), why(5), why(7)), (Why::Missing, Why::Missing, Why::Outside));
    assert_eq!(why(3), Why::Differs { expected: sha1("content 3"), found: sha1("content 4"), bytes: 9 });
}

#[test]
fn a_move_does_not_excuse_another_file() {
    let Some(mut library) = Library::new() else { return };
    library.asset(1, "upload/u/1.jpg", "one", &[]);
    library.put("library/admin/1.jpg", "another");
    library.sql += &format!(
        "INSERT INTO move_history (\"entityId\", \"pathType\", \"oldPath\", \"newPath\") \
         VALUES ('{}', 'original', '/data/upload/u/1.jpg', '/data/library/admin/1.jpg');",
        id(1)
    );
    let report = library.checked(IMMICH_V3, None);
    assert!(matches!(report.broken[0].why, Why::Differs { .. }), "{:?}", report.broken);
}

#[test]
fn the_tables_of_an_old_immich_are_understood() {
    let Some(mut library) = Library::new() else { return };
    for (number, library_id) in [(1, "NULL"), (2, "'11111111-1111-4111-8111-111111111111'"), (3, "NULL")] {
        library.sql += &format!(
            "INSERT INTO assets (\"ownerId\", type, id, \"sidecarPath\", checksum, \"libraryId\", \"originalFileName\", \"originalPath\") \
             VALUES ('{OWNER}', 'IMAGE', '{}', 'upload/upload/u/{number}.xmp', '\\x{}', {library_id}, 'x', 'upload/upload/u/{number}.jpg');",
            id(number),
            sha1(&number.to_string())
        );
    }
    library.put("upload/u/1.jpg", "1");
    library.put("upload/u/1.xmp", "<x/>");
    library.put("upload/u/3.jpg", "not 3");
    library.put("upload/u/3.xmp", "<x/>");
    let report = library.checked(IMMICH_V1, None);
    assert_eq!((report.assets, report.external, report.sidecars), (2, 1, 2));
    assert_eq!(numbers(&report), BTreeSet::from([(3, What::Original)]));
}

#[test]
fn another_database_is_not_taken_for_immichs() {
    let Some(library) = Library::new() else { return };
    let reach = library.cluster.database("other", "CREATE TABLE photos (a int)");
    let dump = library.media.path().join("dump");
    let mut pg_dump = Command::new(library.cluster.programs().join("pg_dump"));
    assert!(pg_dump.args(["-Fc", "-Z0", "-d", &reach, "-f"]).arg(&dump).status().unwrap().success());
    let open = |path: &Path| BufReader::new(fs::File::open(path).unwrap());
    assert!(immich::catalogue(open(&dump)).unwrap_err().to_string().contains("no table of assets"));
    let mut pg_dump = Command::new(library.cluster.programs().join("pg_dump"));
    assert!(pg_dump.args(["-Fc", "-Z6", "-d", &reach, "-f"]).arg(&dump).status().unwrap().success());
    assert!(immich::catalogue(open(&dump)).unwrap_err().to_string().contains("compressed"));
}
