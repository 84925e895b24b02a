//! A directory with photos, and a place for a repository.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use haven_offsite::{
    Cancel, Error, Passphrase, Progress, Source, Watch,
    borg::{Borg, Options},
    restic,
};
use tempfile::TempDir;

pub struct Scene {
    directory: TempDir,
}

/// Bytes that no program makes smaller.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

impl Scene {
    /// With twenty photos in two albums.
    pub fn new() -> Self {
        let scene = Self { directory: tempfile::tempdir().unwrap() };
        fs::set_permissions(scene.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for n in 0..20_usize {
            let path = scene.path(&format!("library/album {}/{n}.jpg", n % 2));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, noise(n as u64 + 1, 10_000 + n)).unwrap();
        }
        fs::write(scene.path("passphrase"), "it's \"secret\" $HOME\nnot this line\n").unwrap();
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn options(&self) -> Options {
        Options {
            program: "borg".into(),
            repository: self.path("repository").to_str().unwrap().to_owned(),
            base: self.path("base"),
            passphrase: Some(Passphrase::File(self.path("passphrase"))),
            environment: Vec::new(),
            key_file: None,
            ssh_key: None,
            known_hosts: None,
            remote_program: None,
            encryption: "repokey-blake2".into(),
            compression: "auto,zstd".into(),
            lock_wait: Duration::from_secs(1),
            checkpoint_every: Duration::from_secs(300),
            upload_kib: 0,
            download_kib: 0,
            append_only: false,
        }
    }

    pub fn restic(&self) -> restic::Options {
        restic::Options {
            program: "restic".into(),
            repository: self.path("restic").to_str().unwrap().to_owned(),
            base: self.path("base/restic"),
            passphrase: Some(Passphrase::File(self.path("passphrase"))),
            environment: Vec::new(),
            ssh_key: None,
            known_hosts: None,
            compression: "auto".into(),
            lock_wait: Duration::from_secs(1),
            upload_kib: 0,
            download_kib: 0,
            append_only: false,
        }
    }

    pub fn borg(&self) -> Borg {
        Borg::new(self.options()).unwrap()
    }

    pub fn source(&self, taken: i64) -> Source {
        Source { directory: self.path("library"), shown_at: None, over: None, taken, note: "a word".into() }
    }

    /// A program that runs `before` in a shell and then is borg.
    pub fn wrapped(&self, before: &str, by: &str) -> String {
        self.wrapped_program("borg", before, by)
    }

    pub fn wrapped_program(&self, program: &str, before: &str, by: &str) -> String {
        let path = self.path("wrapped");
        fs::write(&path, format!("#!/bin/sh\n{before}\nexec {by} {program} \"$@\"\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Runs with nobody watching.
pub fn quietly<T>(work: impl FnOnce(&mut Watch) -> Result<T, Error>) -> Result<T, Error> {
    watched(&Cancel::default(), &mut |_| {}, work)
}

pub fn watched<T>(
    cancel: &Cancel,
    progress: &mut dyn FnMut(&Progress),
    work: impl FnOnce(&mut Watch) -> Result<T, Error>,
) -> Result<T, Error> {
    work(&mut Watch { cancel: cancel.clone(), progress })
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0)
}

/// How many files below `back` are as long and as old as in `library`.
pub fn as_they_were(library: &Path, back: &Path) -> usize {
    let files = |directory: &Path| -> Vec<String> {
        let list = Command::new("find").arg(directory).args(["-type", "f", "-printf", "%P %s %T@\n"]).output().unwrap();
        String::from_utf8(list.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    let library = files(library);
    files(back).iter().filter(|file| library.contains(file)).count()
}

pub fn same_tree(a: &Path, b: &Path) -> bool {
    Command::new("diff").arg("-r").arg(a).arg(b).status().unwrap().success()
}

/// OpenSSH's server on loopback.
pub struct Ssh {
    pub directory: PathBuf,
    pub port: u16,
}

impl Ssh {
    pub fn new(scene: &Scene) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { directory: scene.path("ssh"), port };
        server.script("up", &[&port.to_string()]);
        server
    }

    pub fn script(&self, verb: &str, more: &[&str]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/servers/sftp");
        let done = Command::new(script).arg(verb).arg(&self.directory).args(more).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Logs in there, with the key and the known hosts of this server.
    pub fn options(&self, scene: &Scene) -> Options {
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap();
        let path = scene.path("repository");
        Options {
            repository: format!("ssh://{}@127.0.0.1:{}{}", user.trim(), self.port, path.display()),
            ssh_key: Some(self.directory.join("client_key")),
            known_hosts: Some(self.directory.join("known_hosts")),
            ..scene.options()
        }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/servers/sftp");
        _ = Command::new(script).arg("down").arg(&self.directory).output();
    }
}

/// What a stream gave: names and contents, sorted; and the names of those that failed.
pub fn streamed(copy: &dyn haven_offsite::ThirdCopy, wanted: &haven_offsite::Wanted) -> Result<Came, Error> {
    let came = std::sync::Mutex::new(Vec::new());
    let each = |path: &[u8], from: &mut dyn std::io::Read| {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        came.lock().unwrap().push((String::from_utf8_lossy(path).into_owned(), bytes));
        Ok(())
    };
    let all = quietly(|w| copy.stream(wanted, &each, w))?;
    let failed: Vec<String> = all.failed.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
    let mut came = came.into_inner().unwrap();
    // What was begun and failed was handed out, too.
    came.retain(|(path, _)| !failed.contains(path));
    came.sort();
    assert_eq!(all.files, came.len() as u64);
    assert_eq!(all.bytes, came.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    Ok(Came { came, failed })
}

#[derive(Debug)]
pub struct Came {
    pub came: Vec<(String, Vec<u8>)>,
    pub failed: Vec<String>,
}

/// Writes other bytes into the largest file below `directory`, in its middle.
pub fn damage(directory: &Path) {
    let files = Command::new("find").arg(directory).args(["-type", "f", "-printf", "%s %p\n"]).output().unwrap();
    let text = String::from_utf8(files.stdout).unwrap();
    let (_, path) = text
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(size, path)| (size.parse::<u64>().unwrap(), path)))
        .max()
        .unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8].iter_mut().for_each(|byte| *byte ^= 0xff);
    _ = fs::set_permissions(path, fs::Permissions::from_mode(0o644));
    fs::write(path, bytes).unwrap();
}
