//! Where passphrases and keys come from. They are never in an argument, never in a message, and cleared when done with.
//!
//! The first of these that says something counts: a flag; `HAVEN_PASSPHRASE_FILE`, `HAVEN_KEY_FILE`,
//! `HAVEN_PASSPHRASE_COMMAND`, `HAVEN_PASSPHRASE`; haven.toml; the systemd credential `haven-passphrase`; a terminal.

use std::{
    fs::File,
    io::{IsTerminal, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use haven_format::keys::{Secret, SecretError};
use zeroize::Zeroizing;

use crate::{
    config::KeyConfig,
    report::{self, Code, Trouble, UNTOUCHED},
};

/// No file of a passphrase or key is longer, in bytes.
const FILE_MAX: u64 = 1 << 20;
const SYSTEMD_NAME: &str = "haven-passphrase";
/// Where haven.service has that from.
const SERVICE_FILE: &str = "/etc/haven/haven-passphrase";

/// How to unlock the library: at most one. Else the environment, haven.toml, the systemd credential
/// haven-passphrase, or the terminal is asked.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(multiple = false)]
pub struct KeyArgs {
    /// The passphrase is in this file; a newline at its end does not count [env: HAVEN_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE", help_heading = "Unlocking")]
    pub passphrase_file: Option<PathBuf>,
    /// The passphrase is the first line this command prints [env: HAVEN_PASSPHRASE_COMMAND]
    #[arg(long, value_name = "COMMAND", help_heading = "Unlocking")]
    pub passphrase_command: Option<String>,
    /// This file, whatever is in it, is a key [env: HAVEN_KEY_FILE]
    #[arg(long, value_name = "FILE", help_heading = "Unlocking")]
    pub key_file: Option<PathBuf>,
    /// The 24 words of the recovery key are in this file
    #[arg(long, value_name = "FILE", help_heading = "Unlocking")]
    pub recovery_words: Option<PathBuf>,
}

/// The new key: at most one. Else a passphrase is asked for on the terminal, twice.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(id = "new", multiple = false)]
pub struct NewKeyArgs {
    /// The new passphrase is in this file; a newline at its end does not count
    #[arg(long, value_name = "FILE", help_heading = "The new key")]
    pub new_passphrase_file: Option<PathBuf>,
    /// The new passphrase is the first line this command prints
    #[arg(long, value_name = "COMMAND", help_heading = "The new key")]
    pub new_passphrase_command: Option<String>,
    /// This file becomes a key: at least 32 bytes that nobody can guess (head -c 64 /dev/urandom > FILE)
    #[arg(long, value_name = "FILE", help_heading = "The new key")]
    pub new_key_file: Option<PathBuf>,
}

/// One place a secret can come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    PassphraseFile(PathBuf),
    PassphraseCommand(String),
    /// `HAVEN_PASSPHRASE`.
    Environment,
    KeyFile(PathBuf),
    RecoveryWords(PathBuf),
    Terminal,
}

impl KeyArgs {
    /// The source that counts, if anything names one.
    pub fn source(&self, config: &KeyConfig) -> Source {
        let flags = [
            self.passphrase_file.clone().map(Source::PassphraseFile),
            self.passphrase_command.clone().map(Source::PassphraseCommand),
            self.key_file.clone().map(Source::KeyFile),
            self.recovery_words.clone().map(Source::RecoveryWords),
        ];
        let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let environment = || {
            [
                env("HAVEN_PASSPHRASE_FILE").map(|path| Source::PassphraseFile(path.into())),
                env("HAVEN_KEY_FILE").map(|path| Source::KeyFile(path.into())),
                env("HAVEN_PASSPHRASE_COMMAND")
                    .map(|command| Source::PassphraseCommand(command.to_string_lossy().into_owned())),
                env("HAVEN_PASSPHRASE").map(|_| Source::Environment),
            ]
        };
        let file = || {
            [
                config.passphrase_file.clone().map(Source::PassphraseFile),
                config.key_file.clone().map(Source::KeyFile),
                config.passphrase_command.clone().map(Source::PassphraseCommand),
            ]
        };
        let systemd = || {
            let path = PathBuf::from(env("CREDENTIALS_DIRECTORY")?).join(SYSTEMD_NAME);
            path.exists().then_some(Source::PassphraseFile(path))
        };
        let mut named = flags.into_iter().flatten();
        named
            .next()
            .or_else(|| environment().into_iter().flatten().next())
            .or_else(|| file().into_iter().flatten().next())
            .or_else(systemd)
            .unwrap_or(Source::Terminal)
    }

    /// What this machine opens the library with when nobody is there: the source that counts without a flag, and what
    /// haven.service is given.
    pub fn standing(config: &KeyConfig) -> Vec<Source> {
        let service = Path::new(SERVICE_FILE);
        let service = service.exists().then(|| Source::PassphraseFile(service.to_owned()));
        let named = Self::default().source(config);
        let mut all: Vec<Source> = Some(named).filter(|named| *named != Source::Terminal).into_iter().collect();
        all.extend(service.filter(|service| !all.contains(service)));
        all
    }
}

impl NewKeyArgs {
    pub fn source(&self) -> Source {
        let named = self.new_passphrase_file.clone().map(Source::PassphraseFile);
        named
            .or_else(|| self.new_passphrase_command.clone().map(Source::PassphraseCommand))
            .or_else(|| self.new_key_file.clone().map(Source::KeyFile))
            .unwrap_or(Source::Terminal)
    }
}

impl Source {
    /// Reads a secret that exists.
    pub fn read(&self) -> Result<Secret, Trouble> {
        match self {
            Self::Terminal => self.typed(self.ask_passphrase()?),
            _ => self.read_quietly(),
        }
    }

    /// Asks for the passphrase of a library, without looking at it yet.
    pub fn ask_passphrase(&self) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        ask("Passphrase of the library: ")
    }

    /// What was typed, as a secret.
    pub fn typed(&self, bytes: Zeroizing<Vec<u8>>) -> Result<Secret, Trouble> {
        self.passphrase(bytes)
    }

    /// Reads a secret that is to be; a person has to type it twice.
    pub fn read_new(&self) -> Result<Secret, Trouble> {
        if *self != Self::Terminal {
            return self.read_quietly();
        }
        let first = ask("New passphrase: ")?;
        let again = ask("The same again: ")?;
        if first != again {
            return Err(bad("the two passphrases differ").next("try again, or write it into a file: --passphrase-file"));
        }
        self.passphrase(first)
    }

    fn read_quietly(&self) -> Result<Secret, Trouble> {
        match self {
            Self::PassphraseFile(path) => self.passphrase(without_newline(read_file(path, "passphrase file")?)),
            Self::PassphraseCommand(command) => self.passphrase(run(command)?),
            Self::Environment => {
                let value = std::env::var_os("HAVEN_PASSPHRASE").unwrap_or_default();
                self.passphrase(Zeroizing::new(std::os::unix::ffi::OsStringExt::into_vec(value)))
            }
            Self::KeyFile(path) => {
                Secret::key_file(&read_file(path, "key file")?).map_err(|error| self.unusable(&error))
            }
            Self::RecoveryWords(path) => {
                let text = read_file(path, "file with the recovery words")?;
                Secret::recovery(&String::from_utf8_lossy(&text)).map_err(|error| self.unusable(&error))
            }
            Self::Terminal => Err(no_secret()),
        }
    }

    fn passphrase(&self, bytes: Zeroizing<Vec<u8>>) -> Result<Secret, Trouble> {
        Secret::passphrase(bytes.to_vec()).map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &SecretError) -> Trouble {
        let trouble = bad(error.to_string()).because(format!("it came from {}", self.words()));
        match error {
            SecretError::EmptyPassphrase => trouble.next("write the passphrase there, or name another source"),
            SecretError::ShortKeyFile { .. } => trouble.next("make one with: head -c 64 /dev/urandom > FILE"),
            SecretError::Words(_) => trouble.next("compare the file with the printed page, word by word"),
        }
    }

    /// Where it comes from, for messages and as the label of a new key.
    pub fn words(&self) -> String {
        match self {
            Self::PassphraseFile(path) => format!("the passphrase file {}", path.display()),
            Self::PassphraseCommand(_) => "the passphrase command".into(),
            Self::Environment => "the environment variable HAVEN_PASSPHRASE".into(),
            Self::KeyFile(path) => format!("the key file {}", path.display()),
            Self::RecoveryWords(path) => format!("the file {}", path.display()),
            Self::Terminal => "the terminal".into(),
        }
    }
}

fn bad(what: impl Into<String>) -> Trouble {
    Trouble::new(Code::BadSecret, what).meaning(UNTOUCHED)
}

fn no_secret() -> Trouble {
    Trouble::new(Code::NoSecret, "no passphrase was given, and there is no terminal to ask on")
        .meaning(UNTOUCHED)
        .next("set HAVEN_PASSPHRASE_FILE, or use --passphrase-file, --key-file or --passphrase-command")
}

fn ask(prompt: &str) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    if !std::io::stdin().is_terminal() {
        return Err(no_secret());
    }
    let typed = rpassword::prompt_password(prompt).map_err(|error| no_secret().caused_by(&error))?;
    Ok(Zeroizing::new(typed.into_bytes()))
}

fn read_file(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let shown = path.display();
    let unreadable = |error: &std::io::Error| {
        bad(format!("the {what} {shown} can't be read")).caused_by(error).next("correct the path, or who may read it")
    };
    let mut file = File::open(path).map_err(|error| unreadable(&error))?;
    let about = file.metadata().map_err(|error| unreadable(&error))?;
    if about.is_dir() {
        return Err(bad(format!("the {what} {shown} is a directory"))
            .because("a container gets an empty directory where a file to mount does not exist on the host")
            .next("make it a file, on the host too if this is a container"));
    }
    if about.is_file() && about.mode() & 0o044 != 0 {
        report::warn(format!("the {what} {shown} may be read by others (chmod 600 {shown})"));
    }
    let mut content = Zeroizing::new(Vec::new());
    file.by_ref().take(FILE_MAX + 1).read_to_end(&mut content).map_err(|error| unreadable(&error))?;
    if content.len() as u64 > FILE_MAX {
        return Err(bad(format!("the {what} {shown} is longer than 1 MiB")).next("name the right file"));
    }
    Ok(content)
}

/// Editors end a file with a newline that nobody means.
fn without_newline(mut content: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if content.last() == Some(&b'\n') {
        content.pop();
        if content.last() == Some(&b'\r') {
            content.pop();
        }
    }
    content
}

fn run(command: &str) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let failed = || bad("the passphrase command failed").next("run it by hand, as this user, and see");
    let done = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed().caused_by(&error))?;
    let printed = Zeroizing::new(done.stdout);
    if !done.status.success() {
        return Err(failed().because(done.status.to_string()));
    }
    let line = printed.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
    Ok(without_newline(Zeroizing::new(line.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_at_the_end_does_not_count() {
        let stripped = |text: &str| without_newline(Zeroizing::new(text.as_bytes().to_vec())).to_vec();
        assert_eq!(stripped("secret\n"), b"secret");
        assert_eq!(stripped("secret\r\n"), b"secret");
        assert_eq!(stripped(" secret \n\n"), b" secret \n");
    }

    #[test]
    fn a_command_gives_its_first_line() {
        assert_eq!(run("printf 'secret\\nuser: me\\n'").unwrap().to_vec(), b"secret");
        assert_eq!(run("false").unwrap_err().code, Code::BadSecret);
    }
}
