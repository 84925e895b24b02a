//! Which points go: by rule, by name, or because a killed run has left only half of one.

use std::{collections::BTreeSet, fs, path::PathBuf};

use haven_format::{
    record::Time,
    retention::{self, Item, Rules},
};
use haven_point::{FOLDER, Found, Point, application, copies_beside, halves, list, remove_beside};

use super::{Home, config::App, point_of, trouble};
use crate::{
    past::{Judged, Shown},
    report::{Code, Trouble, UNTOUCHED},
    words::{self, causes},
};

/// Clears away what runs for `of` that were killed have left. Nobody else may be at work for it. Tells what it was.
pub fn clear(home: &Home, of: &str) -> Result<Vec<String>, Trouble> {
    let mut cleared = Vec::new();
    let points: BTreeSet<String> =
        list(&home.root).map_err(|error| trouble(&error))?.into_iter().map(|f| f.name).collect();
    let ours = |name: &str| application(name) == Some(of);
    let orphan = |snapshot: &Shown| {
        // A snapshot that is protected was put under protection by somebody who knows why.
        point_of(&snapshot.name).is_some_and(|name| ours(name) && !points.contains(name))
            && snapshot.protected_until.is_none()
    };
    let orphans: Vec<String> = home.snapshots()?.into_iter().filter(orphan).map(|snapshot| snapshot.name).collect();
    home.remove_snapshots(&orphans)?;
    cleared.extend(orphans.into_iter().map(|name| format!("snapshot {name}")));
    for half in halves(&home.root).map_err(|error| trouble(&error))?.into_iter().filter(|half| ours(&half.name)) {
        fs::remove_dir_all(&half.folder).map_err(|error| {
            Trouble::new(Code::Local, format!("{} can't be removed", half.folder.display())).caused_by(&error)
        })?;
        cleared.push(format!("unfinished {}", half.name));
    }
    Ok(cleared)
}

/// Until when a point is protected, seconds since the Unix epoch; 0: it is not.
pub fn protected_until(snapshots: &[Shown], name: &str) -> i64 {
    let both = snapshots.iter().filter(|snapshot| point_of(&snapshot.name) == Some(name));
    both.filter_map(|snapshot| snapshot.protected_until).max().unwrap_or_default()
}

/// What was taken away, or would be.
#[derive(Debug, Default)]
pub struct Removed {
    pub names: Vec<String>,
    /// The copies of their dumps, where the setting `beside` asks for such.
    pub beside: Vec<PathBuf>,
    /// Points that stay, as the copy of their dump can't be taken away; and why.
    pub stay: Vec<(String, String)>,
}

impl Removed {
    /// That some points stay, as trouble.
    pub fn told(&self) -> Result<(), Trouble> {
        if self.stay.is_empty() {
            return Ok(());
        }
        let what = format!("{} can't go: the copy of the dump beside stays", words::count(self.stay.len(), "point"));
        let trouble = Trouble::new(Code::Incomplete, what)
            .meaning("each of them stays with its copy until both can go; no other is kept by that")
            .next("look whether this user may write to the directory that beside in haven.toml names, and try again");
        let some = self.stay.iter().take(3);
        Err(some.fold(trouble, |trouble, (name, why)| trouble.because(format!("{name}: {why}"))))
    }
}

/// The copies of a point's dump beside; taken away, unless it is `dry`.
fn take_beside(apps: &[App], name: &str, dry: bool) -> Result<Vec<PathBuf>, haven_point::Error> {
    let app = apps.iter().find(|app| application(name) == Some(app.name.as_str()));
    match app.and_then(|app| app.own.beside.as_deref()) {
        Some(beside) if dry => copies_beside(beside, name),
        Some(beside) => remove_beside(beside, name),
        None => Ok(Vec::new()),
    }
}

/// Takes points away, whole, with the copies of their dumps beside: from the moment it begins a point is none any more.
pub fn remove(home: &Home, apps: &[App], names: &[String], dry: bool) -> Result<Removed, Trouble> {
    let all = list(&home.root).map_err(|error| trouble(&error))?;
    let snapshots = home.snapshots()?;
    // All or none: a name that is wrong stops it before anything is removed.
    for name in names {
        if !all.iter().any(|found| found.name == *name) {
            return Err(trouble(&haven_point::Error::Missing { name: name.clone() }).meaning(UNTOUCHED));
        }
        let until = protected_until(&snapshots, name);
        if until > words::now().seconds {
            return Err(Trouble::new(Code::Usage, format!("{name} is protected {}", words::lasts(until)))
                .meaning(UNTOUCHED)
                .next(format!("haven backup protect {name} --until never --shorten    takes the protection away")));
        }
    }
    let mut removed = Removed::default();
    for name in names {
        // The copy first: once the point is gone nobody knows of it any more.
        match take_beside(apps, name, dry) {
            Ok(copies) => removed.beside.extend(copies),
            Err(error) => {
                removed.stay.push((name.clone(), causes(&error)));
                continue;
            }
        }
        if !dry {
            remove_one(home, &snapshots, name)?;
        }
        removed.names.push(name.clone());
    }
    Ok(removed)
}

fn remove_one(home: &Home, snapshots: &[Shown], name: &str) -> Result<(), Trouble> {
    let folder = home.root.join(FOLDER).join(name);
    let half = home.root.join(FOLDER).join(format!(".{name}.part"));
    let cannot = |error: &std::io::Error| {
        Trouble::new(Code::Local, format!("{} can't be removed", folder.display()))
            .caused_by(error)
            .next("haven backup list    tells what is still there")
    };
    let there = folder.exists();
    if there {
        fs::rename(&folder, &half).map_err(|error| cannot(&error))?;
    }
    let ours = snapshots.iter().filter(|snapshot| point_of(&snapshot.name) == Some(name));
    home.remove_snapshots(&ours.map(|snapshot| snapshot.name.clone()).collect::<Vec<_>>())?;
    if there {
        fs::remove_dir_all(&half).map_err(|error| cannot(&error))?;
    }
    Ok(())
}

/// Why one stays that no rule keeps.
const LAST: &str = "the newest that is complete always stays";

/// What the rules say of the points of one application. What is broken is none of their business. The newest complete one
/// stays whatever they say: where backups have failed for longer than they reach back, it is all there is.
pub fn judge(all: &[Found], snapshots: &[Shown], of: &str, rules: &Rules) -> Vec<Judged> {
    let points = all.iter().filter(|found| application(&found.name) == Some(of));
    let points: Vec<_> = points.filter_map(|found| found.point.as_ref().ok()).collect();
    let items: Vec<Item<'_>> = points
        .iter()
        .map(|point| Item {
            name: point.name().as_bytes(),
            taken: Time { seconds: point.manifest.taken.as_second(), nanos: 0 },
            protected_until: protected_until(snapshots, point.name()),
        })
        .collect();
    let now = words::now();
    let fates = retention::judge(&items, rules, now, &jiff::tz::TimeZone::system());
    let taken = |point: &Point| point.manifest.taken;
    // One whose clock stood wrong is no reason to let the last good one go.
    let past = points.iter().filter(|point| taken(point).as_second() <= now.seconds).max_by_key(|point| taken(point));
    let last = past.or(points.iter().max_by_key(|point| taken(point))).map(|point| point.name());
    let one = |(point, fate): (&&Point, retention::Fate)| {
        let saved = last == Some(point.name()) && !fate.stays();
        Judged {
            name: point.name().to_owned(),
            taken: words::iso(Time { seconds: point.manifest.taken.as_second(), nanos: 0 }),
            keep: fate.stays() || saved,
            why: if saved { LAST.to_owned() } else { fate.to_string() },
        }
    };
    points.iter().zip(fates).map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use haven_point::{Manifest, manifest};
    use jiff::{Timestamp, ToSpan};

    use super::*;

    fn found(taken: Timestamp) -> Found {
        let name = haven_point::name("immich", taken);
        let manifest = Manifest {
            haven_point: manifest::VERSION,
            name: name.clone(),
            application: "immich".into(),
            kind: manifest::Kind::Folder,
            taken,
            finished: taken,
            host: String::new(),
            haven: String::new(),
            quiesce: manifest::Quiesce { by: "freeze".into(), frozen_ms: 1.0, tries: 1 },
            files: manifest::Files { snapshot: name.clone(), folder: String::new(), inodes: 0, bytes: 0, own: None },
            database: None,
            immich: None,
        };
        let point = Point { manifest, folder: PathBuf::new(), files: None, sealed: true };
        Found { name, point: Ok(point) }
    }

    #[test]
    fn the_newest_point_stays_although_no_rule_keeps_it() {
        let now = Timestamp::now();
        let rules: Rules = "within 1d".parse().unwrap();
        let kept = |hours: &[i64]| -> Vec<(i64, String)> {
            let all: Vec<Found> = hours.iter().map(|hours| found(now - hours.hours())).collect();
            let judged = judge(&all, &[], "immich", &rules).into_iter().zip(hours);
            judged.filter(|(judged, _)| judged.keep).map(|(judged, hours)| (*hours, judged.why)).collect()
        };
        assert_eq!(kept(&[96, 72, 48]), [(48, LAST.to_owned())], "backups have failed for two days");
        let hours = |all: Vec<(i64, String)>| all.into_iter().map(|(hours, _)| hours).collect::<Vec<_>>();
        assert_eq!(hours(kept(&[48, 1])), [1]);
        assert_eq!(hours(kept(&[72, 48, -900])), [48, -900], "one of a time to come stands for no other");
    }
}
