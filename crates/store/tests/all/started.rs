//! Real servers for one test each, by the scripts in `scripts/servers/`; they end with the test.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// A running server with everything it keeps in a directory of its own.
#[derive(Debug)]
pub struct Started {
    kind: &'static str,
    folder: tempfile::TempDir,
    pub port: u16,
}

impl Started {
    /// Starts a server of this kind. `flags` go behind the port.
    pub fn new(kind: &'static str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        // Servers that root has started serve as somebody else.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is opened");
        let started = Self { kind, folder, port: free_port() };
        let port = started.port.to_string();
        started.run("up", &[&[port.as_str()], flags].concat());
        started
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("server")
    }

    /// Stops it and cuts its connections.
    pub fn stop(&self) {
        self.run("down", &[]);
    }

    /// Starts it again, the same as before.
    pub fn start_again(&self) {
        self.run("start", &[]);
    }

    fn run(&self, verb: &str, rest: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/servers").join(self.kind);
        let output = Command::new(&script).arg(verb).arg(self.root()).args(rest).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || std::thread::panicking(), "{} {verb}: {said}", script.display());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A small disk in memory, unmounted when this is dropped.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of this size over `folder`; `None` for a user who may not.
    pub fn mount(folder: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0777");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "haven-test"]).arg(folder).output();
        let output = output.expect("mount");
        if output.status.success() {
            return Some(Self(folder.to_owned()));
        }
        let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!root, "no tmpfs could be mounted: {said}");
        eprintln!("not tried: only root may mount ({})", said.trim());
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
