//! Points on paper.

use std::{collections::BTreeMap, fs, path::Path};

use haven_point::{
    DUMP, FOLDER, MANIFEST, Manifest,
    manifest::{Database, Files, Immich, Kind, Part, Quiesce},
};

pub const TAKEN: &str = "2026-11-23T04:46:29.123456Z";

/// A manifest whose dump holds `dump`.
pub fn manifest(name: &str, dump: &[u8]) -> Manifest {
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, dump);
    Manifest {
        haven_point: haven_point::manifest::VERSION,
        name: name.into(),
        application: "immich".into(),
        kind: Kind::Immich,
        taken: TAKEN.parse().unwrap(),
        finished: TAKEN.parse().unwrap(),
        host: "mini".into(),
        haven: "0.1.0".into(),
        quiesce: Quiesce { by: "freeze".into(), frozen_ms: 7.5, tries: 1 },
        files: Files { snapshot: name.into(), folder: "immich".into(), inodes: 12, bytes: 3456, own: None },
        database: Some(Database {
            name: "immich".into(),
            dump: Part {
                file: DUMP.into(),
                bytes: dump.len() as u64,
                sha256: data_encoding::HEXLOWER.encode(sha256.as_ref()),
            },
            roles: None,
            owner: "immich".into(),
            encoding: "UTF8".into(),
            collate: "C.UTF-8".into(),
            ctype: "C.UTF-8".into(),
            server: "15.14 (Debian 15.14-0+deb12u1)".into(),
            server_number: 150_014,
            pg_dump: "15.14".into(),
            wal: "0/1500790".into(),
            system: "7577177120110001234".into(),
            bytes: 7_500_000,
            extensions: BTreeMap::from([("vector".into(), "0.8.0".into())]),
            rows: BTreeMap::from([("public.asset".into(), 3)]),
        }),
        immich: Some(Immich {
            version: "3.1.0".into(),
            media_location: "/data".into(),
            sentinels: BTreeMap::from([("upload".into(), Some("1795409189123".into()))]),
            ..Immich::default()
        }),
    }
}

/// A point as it lies in a library whose root is `root`, with its snapshot.
pub fn lay(root: &Path, name: &str, dump: &[u8]) {
    fs::create_dir_all(root.join(".snapshots").join(name).join("immich/upload")).unwrap();
    lay_folder(root, name, dump);
}

pub fn lay_folder(root: &Path, name: &str, dump: &[u8]) {
    let folder = root.join(FOLDER).join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(DUMP), dump).unwrap();
    fs::write(folder.join(MANIFEST), manifest(name, dump).to_json()).unwrap();
}
