use haven_format::record::Time;
use haven_point::{Found, Point, application, list as all_points};
use serde_json::json;

use crate::{
    cli::Context,
    points::{Home, tidy::protected_until, trouble},
    reach::Which,
    report::Trouble,
    words,
};

fn moment(stamp: jiff::Timestamp) -> String {
    words::moment(Time { seconds: stamp.as_second(), nanos: 0 })
}

fn protected(until: i64) -> String {
    if until == 0 { String::new() } else { words::ends(until) }
}

pub fn list(context: &Context, which: &Which, of: Option<&str>) -> Result<(), Trouble> {
    let home = Home::of(context, which)?;
    let snapshots = home.snapshots()?;
    let mut all = all_points(&home.root).map_err(|error| trouble(&error))?;
    all.retain(|found| of.is_none_or(|of| application(&found.name) == Some(of)));
    let row = |found: &Found| {
        let until = protected(protected_until(&snapshots, &found.name));
        match &found.point {
            Ok(point) => {
                let manifest = &point.manifest;
                let dump = manifest.database.as_ref().map_or_else(|| "-".into(), |d| words::bytes(d.dump.bytes));
                let state = if point.sealed { "complete" } else { "complete, not sealed" };
                [
                    found.name.clone(),
                    moment(manifest.taken),
                    words::bytes(manifest.files.own.map_or(manifest.files.bytes, |own| own.bytes)),
                    dump,
                    state.into(),
                    until,
                ]
            }
            Err(error) => {
                let none = || "-".to_owned();
                [found.name.clone(), none(), none(), none(), format!("BROKEN: {error}"), until]
            }
        }
    };
    let value = |found: &Found| {
        let until = protected_until(&snapshots, &found.name);
        match &found.point {
            Ok(point) => {
                json!({ "name": found.name, "complete": true, "sealed": point.sealed, "protected_until": until,
                                 "manifest": point.manifest })
            }
            Err(error) => {
                json!({ "name": found.name, "complete": false, "why": error.to_string(), "protected_until": until })
            }
        }
    };
    let values: Vec<_> = all.iter().map(value).collect();
    let text = if all.is_empty() {
        "there are no recovery points; haven backup run takes one\n".to_owned()
    } else {
        let rows: Vec<_> = all.iter().map(row).collect();
        words::table(["NAME", "TAKEN", "FILES", "DUMP", "STATE", "PROTECTED UNTIL"], &rows)
    };
    context.answer(&json!({ "points": values }), &text)
}

pub fn show(context: &Context, which: &Which, name: Option<&str>) -> Result<(), Trouble> {
    let home = Home::of(context, which)?;
    let point = haven_point::open(&home.root, name, None).map_err(|error| trouble(&error))?;
    let text = shown(&point, protected_until(&home.snapshots()?, point.name()));
    let value = json!({ "manifest": point.manifest, "folder": point.folder, "files": point.files, "media": point.media(),
                        "sealed": point.sealed });
    context.answer(&value, &text)
}

fn shown(point: &Point, until: i64) -> String {
    let manifest = &point.manifest;
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            out += &format!("{name:<17}{value}\n");
        }
    };
    row("name", manifest.name.clone());
    row("taken", moment(manifest.taken));
    row("by", format!("Haven {} on {}", manifest.haven, manifest.host));
    let again =
        if manifest.quiesce.tries > 1 { format!(", at the {}th try", manifest.quiesce.tries) } else { String::new() };
    row("stood still", format!("{:.1} ms ({}){again}", manifest.quiesce.frozen_ms, manifest.quiesce.by));
    if let Some(own) = manifest.files.own {
        row("files", format!("{}, {}", own.files, words::bytes(own.bytes)));
    }
    row("whole library", format!("{}, {}", manifest.files.inodes, words::bytes(manifest.files.bytes)));
    row("files in", point.media().map(|path| path.display().to_string()).unwrap_or_default());
    row("dump in", point.folder.display().to_string());
    if let Some(database) = &manifest.database {
        row("database", format!("{} on PostgreSQL {}, owned by {}", database.name, database.server, database.owner));
        row("dump", format!("{}, by pg_dump {}", words::bytes(database.dump.bytes), database.pg_dump));
        row("rows", database.rows.values().sum::<u64>().to_string());
        row("roles", if database.roles.is_some() { "with it".into() } else { "not with it".into() });
        let extensions: Vec<_> =
            database.extensions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        row("extensions", extensions.join(", "));
        row("WAL position", database.wal.clone());
    }
    if let Some(immich) = &manifest.immich {
        row("Immich", immich.version.clone());
        row("assets", immich.assets.to_string());
        row("media location", immich.media_location.clone());
        let missing: Vec<_> =
            immich.sentinels.iter().filter(|(_, held)| held.is_none()).map(|(name, _)| name.clone()).collect();
        row("without .immich", missing.join(", "));
        row(
            "maintenance",
            if immich.maintenance {
                "the database says so; cleared when it is brought back".into()
            } else {
                String::new()
            },
        );
    }
    row("protected until", protected(until));
    row("sealed", if point.sealed { "yes".into() } else { "no: its dump can still be changed".into() });
    out
}
