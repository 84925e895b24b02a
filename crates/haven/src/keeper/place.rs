//! What a place shares its fate with: a disk, a server, a provider.

use std::path::{Path, PathBuf};

use haven_keeper::state::{Hold, Place};
use haven_store::StoreOptions;

use crate::copies::{CopyConfig, Format};

/// Magic numbers of file systems that are on other machines (linux/magic.h): NFS, SMB, CIFS, Ceph, AFS, 9P.
const NETWORKS: [u32; 6] = [0x6969, 0xfe53_4d42, 0xff53_4d42, 0x00c3_6400, 0x5346_414f, 0x0102_1997];

/// A directory of this machine.
fn directory(url: &str, path: &Path) -> Place {
    use std::os::unix::fs::MetadataExt;
    let there = path.ancestors().find_map(|path| Some((path.metadata().ok()?, rustix::fs::statfs(path).ok()?)));
    let (domain, elsewhere) = match there {
        Some((about, disk)) => {
            let elsewhere = u32::try_from(disk.f_type).is_ok_and(|magic| NETWORKS.contains(&magic));
            let (major, minor) = (rustix::fs::major(about.dev()), rustix::fs::minor(about.dev()));
            let what = if elsewhere { "the network share" } else { "the disk" };
            (format!("{what} {major}:{minor}"), elsewhere)
        }
        None => (format!("the directory {}", path.display()), false),
    };
    Place { url: url.to_owned(), kind: "directory".into(), domain, elsewhere, hold: Hold::Open }
}

fn server(url: &str, kind: &str, host: &str) -> Place {
    let bare = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let name = bare.trim_start_matches('[').split([']', '/']).next().unwrap_or_default();
    let name = if bare.starts_with('[') { name } else { name.split(':').next().unwrap_or_default() };
    let here = matches!(name, "localhost" | "::1" | "0.0.0.0") || name.starts_with("127.");
    let domain = if here { "this machine's own server".to_owned() } else { name.to_owned() };
    Place { url: url.to_owned(), kind: kind.to_owned(), domain, elsewhere: !here, hold: Hold::Open }
}

/// Where a library or a replica is. What its lock is worth is known elsewhere.
pub fn of_store(url: &str, options: &StoreOptions) -> Place {
    match url.split_once("://") {
        Some(("file", path)) => directory(url, Path::new(path)),
        Some(("s3", _)) => {
            let endpoint = options.s3.endpoint.clone().or_else(|| std::env::var("AWS_ENDPOINT_URL").ok());
            match endpoint.as_deref().and_then(|endpoint| endpoint.split_once("://")) {
                Some((_, host)) => server(url, "s3", host),
                None => server(url, "s3", "amazonaws.com"),
            }
        }
        Some((scheme, rest)) => {
            let kind = if scheme.starts_with("webdav") { "webdav" } else { scheme };
            server(url, kind, rest.split('/').next().unwrap_or_default())
        }
        None => directory(url, Path::new(url)),
    }
}

/// Where a copy in a foreign format is, as its program names it.
pub fn of_copy(copy: &CopyConfig) -> Place {
    let repository = copy.repository.as_str();
    let kind = copy.format.word();
    let place = match (copy.format, repository.split_once("://")) {
        (Format::Borg, Some(("ssh", rest))) => server(repository, kind, rest.split('/').next().unwrap_or_default()),
        (Format::Borg, Some(("file", path))) => directory(repository, Path::new(path)),
        (Format::Restic, _) if repository.starts_with("rest:") || repository.starts_with("s3:") => {
            let rest = repository.split_once(':').map_or("", |(_, rest)| rest);
            let host = rest.split_once("://").map_or(rest, |(_, host)| host);
            server(repository, kind, host.split('/').next().unwrap_or_default())
        }
        (Format::Restic, _) if repository.starts_with("sftp:") => {
            let rest = repository.trim_start_matches("sftp:").trim_start_matches("//");
            server(repository, kind, rest.split([':', '/']).next().unwrap_or_default())
        }
        // user@host:path, as scp has it.
        (_, None) if !repository.starts_with('/') && !repository.starts_with('.') && repository.contains(':') => {
            server(repository, kind, repository.split(':').next().unwrap_or_default())
        }
        (_, Some((_, rest))) => server(repository, kind, rest.split('/').next().unwrap_or_default()),
        (_, None) => directory(repository, &PathBuf::from(repository)),
    };
    // Who is root here deletes what is on this machine, and what another one shows here as a directory.
    let said = copy.append_only && place.elsewhere && place.kind != "directory";
    Place { kind: kind.to_owned(), hold: if said { Hold::Said } else { Hold::Open }, ..place }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_fails_together_is_told_by_disks_hosts_and_endpoints() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions::default();
        let (a, b) = (folder.path().join("a/b/c"), folder.path().join("x"));
        let (a, b) =
            (of_store(&format!("file://{}", a.display()), &options), of_store(&b.display().to_string(), &options));
        assert!(a.domain == b.domain && a.domain.starts_with("the disk ") && !a.elsewhere, "{a:?}");
        let mut other = StoreOptions::default();
        other.s3.endpoint = Some("https://s3.example.org:9000".into());
        let s3 = of_store("s3://photos/haven", &other);
        assert_eq!((s3.domain.as_str(), s3.elsewhere), ("s3.example.org", true));
        other.s3.endpoint = Some("http://127.0.0.1:9000".into());
        assert!(!of_store("s3://photos/haven", &other).elsewhere);
        assert_eq!(of_store("sftp://me@nas.example.org:22/x", &options).domain, "nas.example.org");
        assert_eq!(of_store("webdavs://me@dav.example.org/x", &options).kind, "webdav");
    }

    #[test]
    fn foreign_repositories_are_told_apart_as_their_programs_name_them() {
        let of = |format: &str, repository: &str| {
            let text = format!("[copy.x]\nformat = '{format}'\nrepository = '{repository}'\nappend_only = true\n");
            let place = of_copy(Config::from_text(&text, "").unwrap().copy_called("x").unwrap());
            assert_eq!(place.hold, if place.elsewhere { Hold::Said } else { Hold::Open }, "{repository}");
            (place.domain, place.elsewhere)
        };
        for (format, repository) in [
            ("borg", "ssh://me@nas.example.org:22/./photos"),
            ("borg", "me@nas.example.org:photos"),
            ("restic", "sftp:me@nas.example.org:/srv/x"),
            ("restic", "rest:https://nas.example.org:8000/x"),
            ("restic", "s3:https://nas.example.org/bucket"),
        ] {
            assert_eq!(of(format, repository), ("nas.example.org".to_owned(), true), "{repository}");
        }
        assert!(!of("borg", "/srv/borg").1 && of("restic", "/srv/restic").0.starts_with("the disk"));
        assert!(!of("restic", "rest:http://127.0.0.1:8000/").1);
    }
}
