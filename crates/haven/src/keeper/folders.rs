//! What lies in a library about itself: its recovery points, and the reports of its drills. What can't be looked at is
//! told as that, and nothing is concluded from it.

use std::{collections::BTreeMap, path::Path};

use haven_format::Keys;
use haven_keeper::{
    findings::is_ahead,
    state::{Sight, Unseen},
};
use haven_point::Found;
use haven_recover::proof::{self, Read};

use super::facts::DrillFacts;
use crate::words::causes;

/// The recovery points of an application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Seconds since the epoch.
    pub newest: Option<i64>,
    pub count: usize,
    /// Those that are not complete.
    pub broken: usize,
}

#[derive(Debug, Clone, Default)]
pub struct Folders {
    /// By application; one that is not here could not be looked at.
    pub points: BTreeMap<String, Seen>,
    pub drills: DrillFacts,
    /// The newest report of a drill that read everything, by its name alone: without a key nothing in it is believed.
    pub unsigned: Option<i64>,
    pub unseen: Vec<Unseen>,
}

/// Looks into the library at `root`, for the recovery points of `applications`.
pub fn list(root: &Path, keys: Option<&Keys>, applications: &[String]) -> Folders {
    let mut folders = Folders::default();
    match haven_point::list(root) {
        Ok(all) => applications.iter().for_each(|name| folders.take_points(name, &all)),
        Err(error) => applications.iter().for_each(|name| folders.miss(Sight::Points(name.clone()), &error)),
    }
    let drills = match keys {
        Some(keys) => proof::read_all(root, keys).map(|all| folders.take_drills(all)),
        None => proof::names(root).map(|names| {
            let thorough = names.iter().filter_map(|name| proof::named(name)).filter(|(_, level)| *level >= 1);
            folders.unsigned = thorough.map(|(at, _)| at.as_second()).max();
        }),
    };
    if let Err(error) = drills {
        folders.miss(Sight::Drills, &error);
    }
    folders
}

impl Folders {
    /// Nothing could be looked at.
    pub fn none(why: &str, applications: &[String]) -> Self {
        let points = applications.iter().map(|name| Sight::Points(name.clone()));
        let one = |what| Unseen { what, why: why.to_owned(), since: None, newest: None };
        Self { unseen: points.chain([Sight::Drills]).map(one).collect(), ..Self::default() }
    }

    fn miss(&mut self, what: Sight, error: &dyn std::error::Error) {
        self.unseen.push(Unseen { what, why: causes(error), since: None, newest: None });
    }

    /// `all`: oldest first.
    fn take_points(&mut self, application: &str, all: &[Found]) {
        let mut seen = Seen::default();
        let mut blind = Vec::new();
        // Taken later than now, by a clock that was set back since: it counts where there is no other.
        let mut ahead: Option<i64> = None;
        let now = super::seconds();
        for found in all.iter().filter(|found| haven_point::application(&found.name) == Some(application)) {
            match &found.point {
                Ok(point) => {
                    seen.count += 1;
                    let taken = point.manifest.taken.as_second();
                    let newest = if is_ahead(taken, now) { &mut ahead } else { &mut seen.newest };
                    *newest = (*newest).max(Some(taken));
                }
                Err(error) if error.is_blind() => blind.push((found.name.as_str(), causes(error))),
                Err(_) => seen.broken += 1,
            }
        }
        seen.newest = seen.newest.or(ahead);
        let newest = blind.iter().filter_map(|(name, _)| Some(haven_point::stamp(name)?.as_second())).max();
        self.points.insert(application.to_owned(), seen);
        self.unseen.extend(some(Sight::Points(application.to_owned()), newest, blind.iter().map(|(_, why)| why)));
    }

    fn take_drills(&mut self, all: Vec<Read>) {
        let mut blind = Vec::new();
        for read in all {
            match read {
                Read::Good { report, .. } => self.drills.take(&report),
                Read::Bad { name, why } | Read::Unread { name, why } => blind.push((name, why)),
            }
        }
        // One that did not read every photo hides none that did.
        let thorough = blind.iter().filter_map(|(name, _)| proof::named(name)).filter(|(_, level)| *level >= 1);
        let newest = thorough.map(|(at, _)| at.as_second()).max().unwrap_or_default();
        let why: Vec<String> = blind.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        self.unseen.extend(some(Sight::Drills, Some(newest), why.iter()));
    }
}

/// Some of many could not be looked at; of `whys` the last is told.
fn some<'a>(what: Sight, newest: Option<i64>, whys: impl ExactSizeIterator<Item = &'a String>) -> Option<Unseen> {
    let more = whys.len().checked_sub(1)?;
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let why = format!("{}{more}", whys.last()?);
    Some(Unseen { what, why, since: None, newest })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use haven_format::{LibraryId, MasterKey};

    use super::*;

    fn look(root: &Path) -> Folders {
        let keys = Keys::new(LibraryId([1; 16]), &MasterKey([7; 32]));
        list(root, Some(&keys), &["immich".to_owned()])
    }

    fn unseen(folders: &Folders) -> Vec<(String, Option<i64>)> {
        folders.unseen.iter().map(|one| (one.what.to_string(), one.newest)).collect()
    }

    #[test]
    fn an_empty_library_is_seen_to_be_empty() {
        let root = tempfile::tempdir().unwrap();
        let folders = look(root.path());
        assert_eq!((folders.points["immich"], unseen(&folders)), (Seen::default(), Vec::new()));
    }

    #[test]
    fn what_cannot_be_listed_or_read_is_not_counted_as_none() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join(".haven");
        // Files where folders should be: listing them fails, and not with "not found".
        fs::create_dir(&own).unwrap();
        fs::write(own.join("points"), "").unwrap();
        fs::write(own.join("drills"), "").unwrap();
        let folders = look(root.path());
        assert_eq!(unseen(&folders), [("recovery points of immich".into(), None), ("drills".into(), None)]);
        assert!(folders.points.is_empty(), "{folders:?}");
        assert!(folders.unseen[0].why.contains("can't be read: "), "the cause is told: {:?}", folders.unseen[0]);
        fs::remove_dir_all(&own).unwrap();

        for name in ["immich-20261120T000000Z", "immich-20261123T213000Z", "papers-20261124T000000Z"] {
            let folder = own.join("points").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(haven_point::MANIFEST), "{").unwrap();
        }
        fs::create_dir_all(own.join("points/immich-20261125T000000Z")).unwrap();
        fs::create_dir_all(own.join("drills")).unwrap();
        fs::write(own.join("drills/20261126T213000Z-L0-far.json"), "{}").unwrap();
        let folders = look(root.path());
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
        assert_eq!(
            unseen(&folders),
            [("recovery points of immich".into(), Some(at("2026-11-23T21:30:00Z"))), ("drills".into(), Some(0))]
        );
        assert!(folders.unseen[0].why.ends_with("; and 1 more"), "{:?}", folders.unseen[0]);
        assert_eq!(folders.points["immich"], Seen { newest: None, count: 0, broken: 1 }, "no manifest: not complete");
        fs::write(own.join("drills/20261125T213000Z-L1-far.json"), "{}").unwrap();
        assert_eq!(look(root.path()).unseen[1].newest, Some(at("2026-11-25T21:30:00Z")));
        let keyless = list(root.path(), None, &[]);
        assert_eq!((keyless.unsigned, keyless.unseen), (Some(at("2026-11-25T21:30:00Z")), Vec::new()));
    }
}
