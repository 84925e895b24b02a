//! A PostgreSQL of a test's own: real, on a unix socket alone, gone with the test.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::Duration,
};

/// The tables of Immich that say something about files: of v3.1, and of v1.135.
pub const IMMICH_V3: &str = include_str!("immich/v3.sql");
pub const IMMICH_V1: &str = include_str!("immich/v1.sql");

/// An extension that the installed server offers. Its files stay, for every server of this machine looks through their
/// folder: one whose file goes between its name and its content fails a query of somebody else's test. So they are named
/// by what is in them, and there are no more of them than tests know.
pub struct Extension {
    pub name: String,
}

impl Extension {
    /// `control`: more lines of its control file; `sql`: what it is made of. `None`: this user may not add any.
    pub fn offer(control: &str, sql: &str) -> Option<Self> {
        let bin = programs()?;
        let said = Command::new(bin.join("pg_config")).arg("--sharedir").output().ok();
        let told = said.filter(|said| said.status.success());
        let told = told.map(|said| PathBuf::from(String::from_utf8_lossy(&said.stdout).trim()));
        // pg_config comes with another package; Debian's place is known.
        let major = bin.parent()?.file_name()?;
        let share = told.unwrap_or_else(|| Path::new("/usr/share/postgresql").join(major)).join("extension");
        Self::in_folder(&share, control, sql)
    }

    fn in_folder(share: &Path, control: &str, sql: &str) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        (control, sql).hash(&mut hasher);
        let name = format!("haven_test_{:016x}", hasher.finish());
        let control = format!("default_version = '1'\n{control}\n");
        // Offered when it is whole: the control file comes last, and each at once.
        for (end, content) in [("--1.sql", sql), (".control", control.as_str())] {
            let unfinished = share.join(format!("{name}.{}-{:08x}", std::process::id(), rand::random::<u32>()));
            fs::write(&unfinished, content)
                .and_then(|()| fs::rename(&unfinished, share.join(name.clone() + end)))
                .ok()?;
        }
        Some(Self { name })
    }
}

/// A running cluster. Ended and removed when dropped.
pub struct Cluster {
    directory: PathBuf,
    programs: PathBuf,
    server: Child,
    /// Who owns it, where that is not who runs the test.
    owner: Option<(u32, u32)>,
    /// It lets in by who asks.
    peers: AtomicBool,
}

/// The newest installed server's programs.
fn programs() -> Option<PathBuf> {
    let all = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut majors: Vec<u32> = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    majors.sort_unstable();
    let bin = |major: &u32| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    majors.iter().rev().map(bin).find(|bin| bin.join("initdb").exists())
}

/// The numbers of the user that servers run as where the test is root, which they refuse.
fn postgres_user() -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

impl Cluster {
    /// `None`: there is no PostgreSQL here. Where the tests must be complete (CI is set) that is a failure.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("CI").is_none(), "no PostgreSQL: install the package postgresql");
            return None;
        };
        // Short: a socket's path has 107 bytes.
        let directory = PathBuf::from(format!("/tmp/haven-pg-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        fs::create_dir(&directory).unwrap();
        let whom = fs::metadata(&directory).ok().and_then(|about| {
            use std::os::unix::fs::MetadataExt;
            (about.uid() == 0)
                .then(|| postgres_user().expect("a server does not run as root: there is no user postgres"))
        });
        if let Some((user, group)) = whom {
            chown(&directory, Some(user), Some(group)).unwrap();
        }
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            if let Some((user, group)) = whom {
                command.uid(user).gid(group);
            }
            command.current_dir(&directory).stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
            command
        };
        let data = directory.join("data");
        let made = command("initdb")
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data)
            .output();
        let made = made.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = command("postgres");
        // A test's data needs no disk.
        server.arg("-D").arg(&data).arg("-k").arg(&directory).args(["-c", "listen_addresses=", "-F"]);
        let log = fs::File::create(directory.join("log")).unwrap();
        let server = server.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let cluster = Self { directory, programs, server, owner: whom, peers: AtomicBool::new(false) };
        for _ in 0..600 {
            if cluster.try_sql("postgres", "SELECT 1").is_ok() {
                return Some(cluster);
            }
            sleep(Duration::from_millis(50));
        }
        panic!("the server does not answer: {}", fs::read_to_string(cluster.directory.join("log")).unwrap_or_default());
    }

    /// From now on it lets in by who asks, as Debian's does: users of the system as the role of their name. What is asked
    /// here is asked as its owner. False: nobody but root can be somebody else.
    pub fn lets_in_peers_alone(&self) -> bool {
        if self.owner.is_none() {
            return false;
        }
        fs::write(self.directory.join("data/pg_hba.conf"), "local all all peer\n").unwrap();
        self.sql("postgres", "SELECT pg_reload_conf()");
        for _ in 0..600 {
            if self.try_sql("postgres", "SELECT 1").is_err() {
                self.peers.store(true, Ordering::Relaxed);
                return true;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("it still lets everybody in");
    }

    /// Where its programs are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// How libpq reaches a database in it.
    pub fn reach(&self, database: &str) -> String {
        format!("host={} user=postgres dbname={database}", self.directory.display())
    }

    /// Makes a database with these tables.
    pub fn database(&self, name: &str, sql: &str) -> String {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\""));
        self.sql(name, sql);
        self.reach(name)
    }

    /// Runs statements; what they answer, unadorned.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|said| panic!("{said}"))
    }

    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.reach(database), "-c", sql]);
        if let Some((user, group)) = self.owner.filter(|_| self.peers.load(Ordering::Relaxed)) {
            psql.uid(user).gid(group).current_dir(&self.directory);
        }
        let done = psql.output().unwrap();
        if done.status.success() {
            Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&done.stderr).into_owned())
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // At once, and clients are told.
        _ = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        _ = self.server.wait();
        _ = fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_stays_and_is_offered_once() {
        let share = std::env::temp_dir().join(format!("haven-share-{:08x}", rand::random::<u32>()));
        fs::create_dir(&share).unwrap();
        let names = || {
            let all = fs::read_dir(&share).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut all: Vec<String> = all.collect();
            all.sort();
            all
        };
        let first = Extension::in_folder(&share, "schema = a", "SELECT 1").unwrap().name;
        assert_eq!(names(), [format!("{first}--1.sql"), format!("{first}.control")]);
        assert_eq!(Extension::in_folder(&share, "schema = a", "SELECT 1").unwrap().name, first);
        assert_ne!(Extension::in_folder(&share, "schema = b", "SELECT 1").unwrap().name, first);
        assert_eq!(names().len(), 4);
        fs::remove_dir_all(&share).unwrap();
    }
}
