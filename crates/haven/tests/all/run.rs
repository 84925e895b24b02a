//! Runs the binary in a directory of its own, with nothing of this machine's settings, and makes what it says the same
//! on every machine and day.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// A person's machine, for one test.
pub struct Machine {
    directory: TempDir,
}

/// What a command said.
pub struct Said {
    pub out: String,
    pub err: String,
    pub exit: i32,
}

impl Machine {
    /// With a passphrase file, and a settings file that asks little patience of a store.
    pub fn new() -> Self {
        let machine = Self { directory: tempfile::tempdir().unwrap() };
        machine.write("passphrase", "correct horse battery staple\n");
        machine.write("haven.toml", "[store.retry]\npatience = \"200ms\"\n");
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file that only its owner may read.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The command, not run yet. Words that begin with `@` are paths in this machine's directory.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haven"));
        command
            .args(line.split_whitespace().map(|word| self.placed(word)))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            // Root's own place is the machine's: every test would share it.
            .env("STATE_DIRECTORY", self.path("home/.local/state/haven"))
            .env("TZ", "UTC")
            .env("HAVEN_CONFIG", self.path("haven.toml"))
            .env("HAVEN_PASSPHRASE_FILE", self.path("passphrase"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    fn placed(&self, word: &str) -> String {
        match word.split_once('@') {
            Some((before, name)) => format!("{before}{}", self.text(name)),
            None => word.to_owned(),
        }
    }

    pub fn run(&self, line: &str) -> Said {
        self.said(&mut self.command(line))
    }

    pub fn said(&self, command: &mut Command) -> Said {
        let done = command.output().unwrap();
        let text = |bytes: &[u8]| self.redacted(&String::from_utf8_lossy(bytes));
        Said { out: text(&done.stdout), err: text(&done.stderr), exit: done.status.code().unwrap_or(-1) }
    }

    /// A library at `@lib`, its recovery key in `@kit.txt`.
    pub fn with_library() -> Self {
        let machine = Self::new();
        let said = machine.run("init @lib --recovery-key-file @kit.txt");
        assert_eq!(said.exit, 0, "{}", said.err);
        machine
    }

    /// The configuration objects of the library at `@lib`, oldest first.
    pub fn configurations(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> =
            fs::read_dir(self.path("lib/cfg")).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn redacted(&self, text: &str) -> String {
        let here = self.directory.path().canonicalize().unwrap();
        let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
        let text = text.replace(here.to_str().unwrap(), "[DIR]");
        let text = text.replace(&now.strftime("%-d %B %Y").to_string(), "[TODAY]");
        without_hex(&text)
    }
}

/// Every run of 16 or more hexadecimal digits as `[ID]`, with zeros kept: sequence numbers tell something. What stands
/// behind a decimal point is no id.
fn without_hex(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() && !c.is_ascii_uppercase() {
            run.push(c);
            continue;
        }
        let id = run.len() >= 16 && !run.starts_with("0000") && !out.ends_with('.');
        out.push_str(if id { "[ID]" } else { &run });
        run.clear();
        out.push(c);
    }
    out.pop();
    out
}

impl Said {
    /// Everything, for a snapshot.
    pub fn whole(&self) -> String {
        format!("exit {}\n--- out\n{}--- err\n{}", self.exit, self.out, self.err)
    }
}

/// Changes one byte of a file.
pub fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}
