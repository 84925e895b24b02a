//! Whether a place can hold a replica: it has to be nobody else's, and no part of what is copied.
//! ```text
//!     /mnt/photos/replica     in the mounted library: each copy would be copied again by the next
//!     /srv/haven/sub          below the library's own objects, or above them: what is deleted there goes, too
//!     s3://copy/haven         another replica's: two would take each other's objects for their own
//! ```

use std::path::{Component, Path, PathBuf};

use haven_mount::control::{Found, find};

use super::source_of;
use crate::{
    config::Config,
    report::{Code, Trouble, UNTOUCHED},
};

/// Refuses `url` as the place of the replica `name`, where it is somebody else's.
pub fn ensure_own(config: &Config, name: &str, url: &str, from: Option<&str>) -> Result<(), Trouble> {
    let refused = |what: String, why: String| {
        Err(Trouble::new(Code::Usage, what)
            .because(why)
            .meaning(UNTOUCHED)
            .next("name a place of its own: another disk, better another house"))
    };
    let path = directory(url);
    if let Some((path, point)) = path.as_ref().and_then(|path| Some((path, mount_above(config, path)?))) {
        let why = format!("{} is below {}, where a library is mounted", path.display(), point.display());
        return refused("a replica can't be in a library: it would copy itself".into(), why);
    }
    for (who, other) in others(config, name, from) {
        let Some(how) = touch(url, &other) else { continue };
        return refused(format!("a replica can't be where {who} is"), format!("{url} is {how} {other}"));
    }
    Ok(())
}

/// What else there is, and where.
fn others(config: &Config, name: &str, from: Option<&str>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for of in [None, from] {
        all.extend(source_of(config, of).ok().map(|(url, _)| ("the library".to_owned(), url)));
    }
    let replicas = config.replicas.iter().filter(|(other, _)| *other != name);
    all.extend(replicas.map(|(other, one)| (format!("the replica {other}"), one.own.url.clone())));
    all.extend(config.copies.iter().map(|(other, one)| (format!("the copy {other}"), one.repository.clone())));
    all
}

/// How two places touch.
fn touch(ours: &str, theirs: &str) -> Option<&'static str> {
    match (directory(ours), directory(theirs)) {
        (Some(ours), Some(theirs)) if ours == theirs => Some("the same directory as"),
        (Some(ours), Some(theirs)) if ours.starts_with(&theirs) => Some("below"),
        (Some(ours), Some(theirs)) if theirs.starts_with(&ours) => Some("above"),
        _ => (ours.trim_end_matches('/') == theirs.trim_end_matches('/')).then_some("the same place as"),
    }
}

/// The mount point of a library that `path` is below, whether it is mounted or only going to be.
fn mount_above(config: &Config, path: &Path) -> Option<PathBuf> {
    let there = path.ancestors().find(|part| part.exists())?;
    let mounted = match find(there) {
        Ok(Found::Mount { point, .. } | Found::Dead { point, .. }) => Some(point),
        _ => None,
    };
    mounted.or_else(|| config.mount.point.as_deref().map(canonical).filter(|point| path.starts_with(point)))
}

/// The directory that a URL names, if it names one on this machine.
fn directory(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    path.starts_with(['/', '.']).then(|| canonical(Path::new(path)))
}

/// Without links, as far as it exists, and without `..` behind that.
fn canonical(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = whole.ancestors().find_map(|part| Some((part.canonicalize().ok()?, whole.strip_prefix(part).ok()?)));
    let Some((mut real, rest)) = real else { return whole };
    for part in rest.components() {
        match part {
            Component::ParentDir => _ = real.pop(),
            Component::CurDir => {}
            part => real.push(part),
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_touch_whatever_they_are_called() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::create_dir(at("lib")).unwrap();
        std::os::unix::fs::symlink(at("lib"), at("link")).unwrap();
        assert_eq!(touch(&at("link"), &format!("file://{}", at("lib"))), Some("the same directory as"));
        assert_eq!(touch(&at("link/new/deep"), &at("lib/")), Some("below"));
        assert_eq!(touch(&at("no/../lib/x"), &at("lib")), Some("below"));
        assert_eq!(touch(&at(""), &at("lib")), Some("above"));
        assert_eq!(touch(&at("library"), &at("lib")), None);
        assert_eq!(touch("s3://b/p/", "s3://b/p"), Some("the same place as"));
        assert_eq!(touch("s3://b/p?endpoint=x", "s3://b/p?endpoint=y"), None);
    }
}
