//! Where points are, and which of them are complete.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::{Error, Manifest, manifest::Part};

/// The folder of all points, relative to the library's root.
pub const FOLDER: &str = ".haven/points";
pub const MANIFEST: &str = "manifest.json";
pub const DUMP: &str = "database.dump";
pub const ROLES: &str = "roles.sql";
/// What the name of the snapshot that holds a point's folder ends with.
pub const SEAL: &str = "+dump";

/// Where a mounted library shows its snapshots.
const SNAPSHOTS: &str = ".snapshots";
/// `-20261126T213000Z`
const STAMP: &str = "-%Y%m%dT%H%M%SZ";

/// The name of a point of `application` that is taken now.
pub fn name(application: &str, taken: Timestamp) -> String {
    format!("{application}{}", taken.strftime(STAMP))
}

/// The instant in a point's name.
pub fn stamp(name: &str) -> Option<Timestamp> {
    let stamp = &name[application(name)?.len()..];
    Some(DateTime::strptime(STAMP, stamp).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The application in a point's name.
pub fn application(name: &str) -> Option<&str> {
    let (application, stamp) = name.rsplit_once('-')?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let (day, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    (digits(day, 8) && digits(time, 6) && !application.is_empty()).then_some(application)
}

/// A complete point.
#[derive(Debug, Clone)]
pub struct Point {
    pub manifest: Manifest,
    /// Where its manifest and its dump are: in the sealed snapshot, where there is one.
    pub folder: PathBuf,
    /// The library's root as it was at the instant. `None`: an older point in a folder that shows a newer one.
    pub files: Option<PathBuf>,
    /// Whether nobody can change its folder any more.
    pub sealed: bool,
}

impl Point {
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The application's folder at the instant: what the paths in Immich's database are below.
    pub fn media(&self) -> Option<PathBuf> {
        let below = self.manifest.files.folder.as_str();
        self.files.as_ref().map(|root| if below.is_empty() { root.clone() } else { root.join(below) })
    }

    pub fn dump(&self) -> Option<PathBuf> {
        self.manifest.database.as_ref().map(|database| self.folder.join(&database.dump.file))
    }

    pub fn roles(&self) -> Option<PathBuf> {
        let roles = self.manifest.database.as_ref()?.roles.as_ref()?;
        Some(self.folder.join(&roles.file))
    }

    /// Reads what stands beside the manifest, and compares it with what the manifest says.
    pub fn verify_parts(&self) -> Result<(), Error> {
        self.manifest.parts().try_for_each(|part| {
            let path = self.folder.join(&part.file);
            let found = measure(&path)?;
            let same = found.bytes == part.bytes && found.sha256 == part.sha256;
            if same { Ok(()) } else { Err(Error::Damaged { path, why: "its SHA-256 is not the manifest's".into() }) }
        })
    }
}

/// Reads a file of a point, and gives what the manifest is to say of it.
pub(crate) fn measure(path: &Path) -> Result<Part, Error> {
    let mut file = fs::File::open(path).map_err(Error::read(path))?;
    let mut context = digest::Context::new(&digest::SHA256);
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer).map_err(Error::read(path))? {
            0 => break,
            count => {
                context.update(&buffer[..count]);
                bytes += count as u64;
            }
        }
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Part { file: name, bytes, sha256: HEXLOWER.encode(context.finish().as_ref()) })
}

/// How much later than now a point may be, seconds: clocks differ.
const AHEAD: i64 = 600;

/// Whether it is of a time to come: a clock stood wrong when it was taken, or stands wrong here.
pub fn is_ahead(taken: Timestamp, now: Timestamp) -> bool {
    taken.as_second() - now.as_second() > AHEAD
}

/// What was found under a point's name.
#[derive(Debug)]
pub struct Found {
    pub name: String,
    /// The point, or why it is none.
    pub point: Result<Point, Error>,
}

impl Found {
    /// Its instant, as far as it is known.
    fn taken(&self) -> Option<Timestamp> {
        self.point.as_ref().ok().map(|point| point.manifest.taken).or_else(|| stamp(&self.name))
    }

    fn is_ahead(&self, now: Timestamp) -> bool {
        self.taken().is_some_and(|taken| is_ahead(taken, now))
    }
}

/// All points below `root`, which is the root of a mounted library, or a folder into which a copy of a point was brought
/// back: its files, and its folder among them. Oldest first; what is broken is there too.
pub fn list(root: &Path) -> Result<Vec<Found>, Error> {
    let mut names = names_in(&root.join(FOLDER))?;
    names.extend(names_in(&root.join(SNAPSHOTS))?.iter().filter_map(|name| name.strip_suffix(SEAL)).map(str::to_owned));
    names.retain(|name| !name.starts_with('.') && application(name).is_some());
    // By time, not by application.
    let stamp = |name: &str| name.rsplit_once('-').map(|(_, stamp)| stamp.to_owned());
    names.sort_by_key(|name| (stamp(name), name.clone()));
    names.dedup();
    let now = Timestamp::now();
    let past = names.iter().rfind(|name| self::stamp(name).is_none_or(|taken| !is_ahead(taken, now)));
    let newest = past.or(names.last()).cloned();
    let here = |name: &str| newest.as_deref() == Some(name);
    Ok(names.iter().map(|name| Found { name: name.clone(), point: open_one(root, name, here(name)) }).collect())
}

/// The point called `name`, or the newest complete one of `application` (of any, where that is `None`). One of a time to
/// come is passed over where there are others: it would stay the newest for as long as that takes.
///
/// # Errors
/// [`Error::Read`] also where a newer one than the newest complete one can't be read just now: what it is is not known, and
/// an older one in its place would be a loss that nobody sees.
pub fn open(root: &Path, name: Option<&str>, application: Option<&str>) -> Result<Point, Error> {
    let mut all = list(root)?;
    match name {
        Some(name) => {
            let at = all.iter().position(|found| found.name == name);
            at.map(|at| all.swap_remove(at).point).ok_or_else(|| Error::Missing { name: name.into() })?
        }
        None => {
            let fits = |found: &Found| application.is_none_or(|wanted| self::application(&found.name) == Some(wanted));
            let now = Timestamp::now();
            let (ahead, past): (Vec<_>, Vec<_>) =
                all.into_iter().rev().filter(fits).partition(|found| found.is_ahead(now));
            let newest = past.into_iter().chain(ahead).map(|found| found.point);
            let mut known = newest.filter(|point| !matches!(point, Err(error) if !error.is_unread()));
            known.next().unwrap_or_else(|| Err(Error::None { root: root.into() }))
        }
    }
}

/// The same, where nobody says of which application: that of the only one there is.
///
/// # Errors
/// Also [`Error::Several`]: the newest of all is one application's, and would stand in another's place.
pub fn open_only(root: &Path) -> Result<Point, Error> {
    let complete = list(root)?.into_iter().filter(|found| found.point.is_ok());
    let mut applications: Vec<String> =
        complete.filter_map(|found| application(&found.name).map(str::to_owned)).collect();
    applications.sort_unstable();
    applications.dedup();
    if applications.len() > 1 {
        return Err(Error::Several { applications });
    }
    open(root, None, None)
}

/// Complete points of `application` (of any, where that is `None`) that are of a time to come.
pub fn ahead(root: &Path, application: Option<&str>) -> Result<Vec<String>, Error> {
    let now = Timestamp::now();
    let fits = |found: &Found| application.is_none_or(|wanted| self::application(&found.name) == Some(wanted));
    let ahead = list(root)?.into_iter().filter(|found| fits(found) && found.point.is_ok() && found.is_ahead(now));
    Ok(ahead.map(|found| found.name).collect())
}

/// A complete point of the same application as the one called `than`, and older than it; which of them, `dice` says.
pub fn open_older(root: &Path, than: &str, dice: u64) -> Result<Point, Error> {
    let all = list(root)?;
    let before = all.into_iter().take_while(|found| found.name != than);
    let same = before.filter(|found| application(&found.name) == application(than));
    let (mut points, mut unread) = (Vec::new(), None);
    for found in same {
        match found.point {
            Ok(point) => points.push(point),
            Err(error) if error.is_unread() => unread = Some(error),
            Err(_) => {}
        }
    }
    match points.len() as u64 {
        0 => Err(unread.unwrap_or_else(|| Error::None { root: root.into() })),
        count => Ok(points.swap_remove((dice % count) as usize)),
    }
}

/// What a run that was killed has left of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    /// The name it would have got.
    pub name: String,
    pub folder: PathBuf,
}

/// Folders that were begun and never became points.
pub fn halves(root: &Path) -> Result<Vec<Half>, Error> {
    let folder = root.join(FOLDER);
    let half = |name: String| {
        let point = name.strip_prefix('.')?.strip_suffix(".part")?.to_owned();
        Some(Half { folder: folder.join(&name), name: point })
    };
    Ok(names_in(&folder)?.into_iter().filter_map(half).collect())
}

/// Where a point is written before it is one.
pub(crate) fn half(root: &Path, name: &str) -> PathBuf {
    root.join(FOLDER).join(format!(".{name}.part"))
}

fn names_in(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::read(folder)(error)),
    };
    entries
        .map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).map_err(Error::read(folder)))
        .filter_map(Result::transpose)
        .collect()
}

fn open_one(root: &Path, name: &str, newest: bool) -> Result<Point, Error> {
    let below = Path::new(FOLDER).join(name);
    let snapshots = root.join(SNAPSHOTS);
    let seal = snapshots.join(format!("{name}{SEAL}")).join(&below);
    let sealed = there(&seal.join(MANIFEST))?.is_some();
    let folder = if sealed { seal } else { root.join(&below) };
    let manifest = Manifest::read(&folder.join(MANIFEST))?;
    let broken = |why: String| Error::Broken { name: name.into(), why };
    if manifest.name != name {
        return Err(broken(format!("its manifest is that of {}", manifest.name)));
    }
    for part in manifest.parts() {
        let path = folder.join(&part.file);
        let length = fs::metadata(&path).map_err(Error::read(&path))?.len();
        if length != part.bytes {
            return Err(broken(format!("{} has {length} bytes, and {} belong to it", part.file, part.bytes)));
        }
    }
    let files = snapshots.join(&manifest.files.snapshot);
    let folder_there = |path: &Path| Ok::<_, Error>(there(path)?.is_some_and(|about| about.is_dir()));
    let files = match (folder_there(&files)?, folder_there(&snapshots)?) {
        (true, _) => Some(files),
        (false, true) => return Err(broken(format!("its snapshot {} is gone", manifest.files.snapshot))),
        // No library, but what was brought back from a copy: it shows the newest of the points in it.
        (false, false) => newest.then(|| root.to_owned()),
    };
    Ok(Point { manifest, folder, files, sealed })
}

/// What is known of a path; none: nothing is there. That it can't be asked for is an error.
fn there(path: &Path) -> Result<Option<fs::Metadata>, Error> {
    match fs::metadata(path) {
        Ok(about) => Ok(Some(about)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::read(path)(error)),
    }
}
