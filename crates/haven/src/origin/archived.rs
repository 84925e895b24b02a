//! A recovery point in an archive of Borg's or restic's: which archive it is, and the point's own folder fetched from it.

use std::{fs, path::Path};

use haven_offsite::{Archive, Cancel, Entry, Wanted, Watch};
use haven_point::{FOLDER, MANIFEST, Manifest, application};
use haven_recover::scratch::{self, Scratch};
use jiff::Timestamp;

use super::{Pick, dice};
use crate::{
    cli::{Context, copy::Opened},
    media::Held,
    report::{Code, Trouble, UNTOUCHED},
};

/// Archives that are looked into for a point.
const LOOKED_MAX: usize = 50;

/// Finds the archive that is meant, and fetches its point.
pub fn open(
    context: &Context,
    name: &str,
    wanted: Option<&str>,
    pick: Pick<'_>,
    cancel: Cancel,
) -> Result<(Held, Scratch), Trouble> {
    let copy = Opened::new(context, name, None)?;
    let archives = copy.copy.list().map_err(|error| copy.trouble(&error))?;
    let none = |code: Code, what: String| {
        Trouble::new(code, what)
            .meaning(UNTOUCHED)
            .next(format!("haven copy list {name}    tells which archives there are"))
            .next(format!("haven copy restore {name} --to DIR    brings one back that holds no recovery point"))
    };
    let of = pick.of.or_else(|| application(pick.point.or(pick.older)?));
    let mut candidates: Vec<Archive> = archives.into_iter().filter(|archive| !archive.leftover).rev().collect();
    if let Some(wanted) = wanted {
        candidates.retain(|archive| archive.name == wanted);
    } else if let Some(stamp) = pick.point.and_then(stamp) {
        // A point's name is a little older than its snapshot, of which the archive is.
        candidates.retain(|archive| archive.taken >= stamp && archive.taken < stamp + 3600);
        candidates.reverse();
    } else if let Some(than) = pick.older {
        let than = stamp(than).unwrap_or(i64::MAX);
        candidates.retain(|archive| archive.taken < than && copy.may_be_of(archive, of));
        if !candidates.is_empty() {
            let first = (dice() % candidates.len() as u64) as usize;
            candidates.rotate_left(first);
        }
    }
    // Those that say whose they are come first: looking into one takes its time.
    // One of a time to come is passed over where there are others.
    let now = Timestamp::now();
    let ahead =
        |archive: &Archive| Timestamp::from_second(archive.taken).is_ok_and(|taken| haven_point::is_ahead(taken, now));
    candidates.sort_by_key(|archive| (!copy.may_be_of(archive, of), pick.point.is_none() && ahead(archive)));
    let within = std::env::temp_dir();
    scratch::clear(&[Some(&within)]);
    let directory = Scratch::new(scratch::POINT, &within).map_err(|error| {
        Trouble::new(Code::Local, "there is no room for temporary files")
            .caused_by(&error)
            .meaning(UNTOUCHED)
            .next("set TMPDIR to a directory with some room")
    })?;
    for archive in candidates.iter().take(LOOKED_MAX) {
        let entries = copy.copy.entries(&archive.name).map_err(|error| copy.trouble(&error))?;
        if of.is_none() && pick.older.is_none() && wanted.is_none() {
            let applications = applications(&points(&entries));
            if applications.len() > 1 {
                return Err(crate::points::trouble(&haven_point::Error::Several { applications }));
            }
        }
        let held = Held { copy: copy.clone(), archive: archive.clone(), entries, cancel: cancel.clone() };
        if let Some(point) = point_of(&held, &directory.files(), pick.point, of)? {
            fetch(&held, &directory.files(), &files_of(&held.entries, &point))?;
            return Ok((held, directory));
        }
    }
    let one = of.map_or_else(|| "a recovery point".to_owned(), |of| format!("a recovery point of {of}"));
    Err(match (wanted, pick.point, pick.older) {
        (_, Some(point), _) => none(Code::NoPoint, format!("copy {name}: no archive holds the recovery point {point}")),
        (Some(archive), ..) => {
            none(Code::NoCopy, format!("copy {name}: {archive} is not there, or does not hold {one}"))
        }
        (None, None, Some(than)) => {
            none(Code::NoPoint, format!("copy {name}: no archive holds {one} older than {than}"))
        }
        (None, None, None) => none(Code::NoPoint, format!("copy {name}: no archive holds {one}")),
    })
}

/// Seconds since the Unix epoch that stand in a point's name.
fn stamp(point: &str) -> Option<i64> {
    let stamp = application(point).and(point.rsplit_once('-'))?.1;
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Points whose manifests are among the entries.
fn points(entries: &[Entry]) -> Vec<String> {
    let one = |entry: &Entry| {
        let path = std::str::from_utf8(&entry.path).ok()?;
        let (name, file) = path.strip_prefix(FOLDER)?.strip_prefix('/')?.split_once('/')?;
        (file == MANIFEST && application(name).is_some()).then(|| name.to_owned())
    };
    entries.iter().filter_map(one).collect()
}

fn applications(points: &[String]) -> Vec<String> {
    let mut all: Vec<String> = points.iter().filter_map(|name| application(name)).map(str::to_owned).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The point whose files the archive holds. Older ones lie in it too, and others' points, but their files as they were
/// then do not.
fn point_of(held: &Held, to: &Path, name: Option<&str>, of: Option<&str>) -> Result<Option<String>, Trouble> {
    let whose = held.copy.series(&held.archive);
    let mut names = points(&held.entries);
    names.retain(|name| whose.is_empty() || application(name) == Some(whose));
    if names.is_empty() {
        return Ok(None);
    }
    let manifests: Vec<String> = names.iter().map(|name| format!("{FOLDER}/{name}/{MANIFEST}")).collect();
    fetch(held, to, &manifests)?;
    let read = |name: &String| Manifest::read(&to.join(FOLDER).join(name).join(MANIFEST)).ok();
    let apart = |taken: Timestamp| (taken.as_second() - held.archive.taken).abs();
    let best = names.iter().filter_map(read).min_by_key(|manifest| apart(manifest.taken));
    // Others would be taken for points of this folder.
    for name in &names {
        _ = fs::remove_dir_all(to.join(FOLDER).join(name));
    }
    let fits = |manifest: &Manifest| {
        apart(manifest.taken) <= 60
            && name.is_none_or(|wanted| wanted == manifest.name)
            && of.is_none_or(|wanted| wanted == manifest.application)
    };
    Ok(best.filter(fits).map(|manifest| manifest.name))
}

/// A point's own files: of the folder itself nothing is wanted.
fn files_of(entries: &[Entry], point: &str) -> Vec<String> {
    let folder = format!("{FOLDER}/{point}/");
    let files = entries.iter().filter(|entry| entry.sort == haven_offsite::Sort::File);
    let paths = files.map(|entry| String::from_utf8_lossy(&entry.path).into_owned());
    paths.filter(|path| path.starts_with(&folder)).collect()
}

fn fetch(held: &Held, to: &Path, paths: &[String]) -> Result<(), Trouble> {
    let wanted = Wanted { archive: held.archive.name.clone(), paths: paths.to_vec(), root: String::new(), parallel: 1 };
    let mut unseen = |_: &haven_offsite::Progress| {};
    let mut watch = Watch { cancel: held.cancel.clone(), progress: &mut unseen };
    let fetched = held.copy.copy.restore(&wanted, to, &mut watch);
    fetched.map(drop).map_err(|error| held.copy.trouble(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instant_is_read_from_a_points_name() {
        assert_eq!(stamp("immich-20261123T044629Z"), Some(1_795_409_189));
        assert_eq!(stamp("haven-2026"), None);
    }
}
