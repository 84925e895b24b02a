//! A PostgreSQL of our own for an hour: a temporary cluster that listens on a socket in its own directory and nowhere
//! else, and that is ended and deleted when this goes.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use haven_point::{
    manifest::Database,
    pg::{PgError, Reach, Session, account},
};

use crate::{
    Error,
    scratch::{POSTGRES, Scratch},
};

/// How long it may take until it answers, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);
/// Where Debian has the programs of each major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Those that run, for when the process is told to end and nothing is dropped any more.
static LIVE: Mutex<Vec<(u32, PathBuf)>> = Mutex::new(Vec::new());

/// Ends all that run, and deletes what they leave.
pub fn end_all() {
    let all = std::mem::take(&mut *LIVE.lock().unwrap_or_else(PoisonError::into_inner));
    for (id, directory) in all {
        let Some(pid) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) else { continue };
        let until = Instant::now() + PATIENCE / 6;
        _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        // Nobody waits for it as a child here: its directory's lock file goes last.
        while Instant::now() < until && directory.join("data/postmaster.pid").exists() {
            std::thread::sleep(STEP);
        }
        _ = fs::remove_dir_all(&directory);
    }
}

/// A running cluster.
pub struct Cluster {
    server: Child,
    directory: Scratch,
    programs: PathBuf,
}

impl Cluster {
    /// Makes and starts one that can take a dump of `dumped`. `programs`: the directory of `initdb` and `postgres`, else
    /// they are looked for. `within`: where its files are to be.
    pub fn start(dumped: &Database, programs: Option<&Path>, within: Option<&Path>) -> Result<Self, Error> {
        let programs = match programs {
            Some(path) if !is_server(path) => {
                return Err(Error::Unfit {
                    what: format!("{} has no initdb and postgres", path.display()),
                    next: "--programs names the directory that has them: /usr/lib/postgresql/16/bin, say".into(),
                });
            }
            Some(path) => path.to_owned(),
            None => installed(dumped.major())?,
        };
        let directory = Scratch::new(POSTGRES, within.unwrap_or(&std::env::temp_dir()))?;
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(Error::write(path))?;
        let user = other_user()?;
        if let Some((uid, gid)) = user {
            chown(path, Some(uid), Some(gid)).map_err(Error::write(path))?;
        }
        let data = path.join("data");
        let mut make = own(&programs, "initdb", user, path);
        make.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "-D"]).arg(&data);
        let made = make.stdout(Stdio::null()).output();
        let made = made.map_err(|source| PgError::Run { program: "initdb".into(), source })?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            return Err(PgError::Failed { program: "initdb".into(), said }.into());
        }
        let log = fs::File::create(path.join("log")).map_err(Error::write(path))?;
        let mut serve = own(&programs, "postgres", user, path);
        serve.arg("-D").arg(&data).arg("-k").arg(path);
        // Nothing here has to outlive a power cut.
        for setting in
            ["listen_addresses=", "fsync=off", "full_page_writes=off", "synchronous_commit=off", "autovacuum=off"]
        {
            serve.args(["-c", setting]);
        }
        // Code that is made while it runs is refused to a service (MemoryDenyWriteExecute=), and the query with it. (From 11 on.)
        if dumped.major() >= 11 {
            serve.args(["-c", "jit=off"]);
        }
        let preload: Vec<&str> =
            ["vchord", "vectors"].into_iter().filter(|name| dumped.extensions.contains_key(*name)).collect();
        if !preload.is_empty() {
            serve.arg("-c").arg(format!("shared_preload_libraries={}", preload.join(",")));
        }
        let err = log.try_clone().map_err(Error::write(path))?;
        let server = serve.stdin(Stdio::null()).stdout(log).stderr(err).spawn();
        let server = server.map_err(|source| PgError::Run { program: "postgres".into(), source })?;
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).push((server.id(), path.to_owned()));
        let mut cluster = Self { server, directory, programs };
        cluster.wait()?;
        Ok(cluster)
    }

    /// How its database `name` is reached.
    pub fn reach(&self, name: &str) -> Reach {
        let host = self.directory.path().display();
        Reach {
            database: format!(
                "host='{host}' user=postgres dbname='{}'",
                name.replace('\\', "\\\\").replace('\'', "\\'")
            ),
            programs: Some(self.programs.clone()),
            within: Vec::new(),
        }
    }

    fn wait(&mut self) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(_)) = self.server.try_wait() {
                let said = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                let said = said.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>();
                return Err(PgError::Failed { program: "postgres".into(), said: said.join("\n") }.into());
            }
            match Session::open(&self.reach("postgres"), PATIENCE) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(error.into()),
                Err(_) => std::thread::sleep(STEP),
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.server);
        // A fast shutdown; a killed one would leave its children for a while.
        _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let until = Instant::now() + PATIENCE / 6;
        while Instant::now() < until && matches!(self.server.try_wait(), Ok(None)) {
            std::thread::sleep(STEP);
        }
        _ = self.server.kill();
        _ = self.server.wait();
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).retain(|(id, _)| *id != self.server.id());
    }
}

/// PostgreSQL's programs refuse to run as root: then somebody else does.
fn other_user() -> Result<Option<(u32, u32)>, Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    ["postgres", "nobody"].into_iter().find_map(account).map(Some).ok_or_else(|| Error::Unfit {
        what: "there is no user that a temporary PostgreSQL could run as: root may not".into(),
        next: "run this as an ordinary user, or make the user postgres".into(),
    })
}

fn own(programs: &Path, name: impl AsRef<OsStr>, user: Option<(u32, u32)>, directory: &Path) -> Command {
    let mut command = Command::new(programs.join(Path::new(&name)));
    command.current_dir(directory).env("LC_ALL", "C.UTF-8");
    for name in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE"] {
        command.env_remove(name);
    }
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// Whether the programs of a server are in that directory.
fn is_server(path: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| path.join(program).exists())
}

/// Whether one that takes a dump of this version, or an older one, can be started on this machine.
pub fn is_here(major: u32) -> bool {
    installed(major).is_ok()
}

/// The oldest installed version that is not older than the dump's.
fn installed(major: u32) -> Result<PathBuf, Error> {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().filter_map(|entry| {
        let number: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let path = Path::new(DEBIAN).join(number.to_string()).join("bin");
        (number >= major && is_server(&path)).then_some((number, path))
    });
    if let Some((_, path)) = versions.min() {
        return Ok(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|path| is_server(path));
    found.ok_or_else(|| Error::Unfit {
        what: format!("there is no PostgreSQL {major} or newer on this machine to restore into"),
        next: format!(
            "apt install postgresql-{major}, with the extensions that Immich uses; or name a server: --database"
        ),
    })
}
