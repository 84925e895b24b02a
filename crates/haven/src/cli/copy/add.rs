//! `haven copy add`, `init` and `remove`.

use std::path::PathBuf;

use serde_json::json;

use super::{Context, Opened};
use crate::{
    copies::{self, CopyConfig, Format, New},
    report::{self, Code, Trouble, UNTOUCHED},
    settings_file,
};

/// Name a repository for a copy
///
/// Writes a table into haven.toml, or prints it, where the file may not be written. A repository that exists is used as
/// it is, with all that is in it; a new one is made by `haven copy init`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven copy add disk /mnt/usb/borg --passphrase-file /etc/haven/borg\n  haven copy add home ssh://backup@nas/./photos --passphrase-file /etc/haven/borg --ssh-key /etc/haven/id\n  haven copy add far s3:https://s3.example.org/bucket --format restic --passphrase-file /etc/haven/restic"
)]
pub struct AddArgs {
    /// What to call it
    name: String,
    /// Where, as Borg or restic name it
    repository: String,
    /// Whose format
    #[arg(long, value_enum, default_value = "borg")]
    format: Format,
    /// The repository's passphrase is the first line of this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The key to log in with, over SSH
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// Where the keys of servers are, over SSH
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
    /// The other side lets nothing be deleted
    #[arg(long)]
    append_only: bool,
    /// The mount point of the library that is copied [default: mount.point in haven.toml]
    #[arg(long, value_name = "MOUNTPOINT")]
    library: Option<PathBuf>,
}

/// Make a new repository at the place that haven.toml names
///
/// Not without a passphrase: whoever comes by could read it. encryption = "none" in the copy's table says that this is meant.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    name: String,
}

/// Make no more copies there
///
/// Takes its table out of haven.toml. What was copied stays where it is.
#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    name: String,
}

const COPY_PASSPHRASE: &str =
    "(umask 077; head -c 32 /dev/urandom | base64 > FILE)    makes one; keep a copy of it elsewhere";

pub fn add(context: &Context, args: AddArgs) -> Result<(), Trouble> {
    let name = &args.name;
    copies::check_name(name).map_err(|why| {
        Trouble::new(Code::Usage, format!("a copy can't be called {name:?}")).because(why).meaning(UNTOUCHED)
    })?;
    if let Some(known) = context.config.copies.get(name) {
        return Err(Trouble::new(Code::Occupied, format!("there is a copy called {name} already"))
            .because(format!("it is at {}", known.repository))
            .meaning(UNTOUCHED)
            .next(format!("haven copy remove {name}    forgets it")));
    }
    if args.format == Format::Restic && args.passphrase_file.is_none() {
        return Err(Trouble::new(Code::Usage, "a repository in restic's format needs a passphrase")
            .meaning(UNTOUCHED)
            .next("write one into a file and name it: --passphrase-file FILE"));
    }
    let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let repository = if args.repository.contains(':') {
        args.repository.clone()
    } else {
        whole(&PathBuf::from(&args.repository)).display().to_string()
    };
    let new = New {
        format: args.format,
        repository: repository.clone(),
        passphrase_file: args.passphrase_file.as_ref().map(whole),
        ssh_key: args.ssh_key.as_ref().map(whole),
        known_hosts: args.known_hosts.as_ref().map(whole),
        append_only: args.append_only,
        library: args.library.as_ref().map(whole),
    };
    if let Some(file) = new.passphrase_file.as_ref().filter(|file| !file.is_file()) {
        return Err(Trouble::new(Code::Usage, format!("there is no passphrase file {}", file.display()))
            .meaning(UNTOUCHED)
            .next(COPY_PASSPHRASE));
    }
    if new.passphrase_file.is_none() {
        report::warn(format!(
            "no passphrase: haven copy init makes no repository without one, unless copy.{name} says encryption = \"none\""
        ));
    }
    let lines = copies::lines(name, &new);
    let mut told = format!("copy {name} at {repository}\n");
    let file = match context.config.own_file().map(|path| (copies::write(&path, name, &new), path)) {
        Some((Ok(()), path)) => {
            told += &format!("written to {}\n", path.display());
            Some(path)
        }
        other => {
            if let Some((Err(trouble), _)) = other {
                report::warn(format!("{}: {}", trouble.what, trouble.because.join("; ")));
            }
            told += &format!("\nWrite this into haven.toml:\n\n{lines}\n");
            None
        }
    };
    told += &format!("\nA new repository: haven copy init {name}    One that exists: haven copy list {name}\n");
    context.answer(&json!({ "name": name, "repository": repository, "file": file, "lines": lines }), &told)
}

pub async fn init(context: &Context, args: InitArgs) -> Result<(), Trouble> {
    ensure_secret(&args.name, context.config.copy_called(&args.name)?)?;
    let opened = Opened::new(context, &args.name, None)?;
    opened.work("making", |copy, watch| copy.init(watch)).await?;
    let config = &opened.config;
    let mut told = format!("repository made at {}\n", config.repository);
    told += match config.open_to_all() {
        true => "It is not encrypted: whoever can read that place can see every photo.\n",
        false => "Keep its passphrase where a fire in this house does not reach it: without it the copy is lost.\n",
    };
    if config.encryption.as_deref().is_some_and(|how| how.starts_with("keyfile")) {
        told += &format!(
            "Its key is on this machine alone, below {}: keep a copy of that, too.\n",
            config.directory(&args.name).join("borg").display()
        );
    }
    told += &format!("\nhaven copy run {}\n", args.name);
    context.answer(&json!({ "name": args.name, "repository": config.repository, "format": config.format }), &told)
}

/// Borg would take an empty passphrase, and its key lies in the repository: that is no lock.
fn ensure_secret(name: &str, config: &CopyConfig) -> Result<(), Trouble> {
    if config.open_to_all() || config.has_secret(name)? {
        return Ok(());
    }
    let without = match (&config.passphrase_file, &config.passphrase_command) {
        (Some(file), _) => format!("the first line of {} is empty", file.display()),
        (_, Some(_)) => "its passphrase_command prints nothing".into(),
        _ => format!("copy.{name} in haven.toml has no passphrase_file and no passphrase_command"),
    };
    Err(Trouble::new(Code::NoSecret, format!("copy {name} has no passphrase: whoever comes by could read it"))
        .because(without)
        .meaning("no repository was made")
        .next(COPY_PASSPHRASE)
        .next(format!("then passphrase_file = \"FILE\" in [copy.{name}] of haven.toml"))
        .next("or encryption = \"none\" there, for Borg, if everybody may read it"))
}

pub fn remove(context: &Context, args: RemoveArgs) -> Result<(), Trouble> {
    let repository = context.config.copy_called(&args.name)?.repository.clone();
    let path = context.config.own_file().ok_or_else(|| Trouble::new(Code::Local, "there is no settings file"))?;
    settings_file::erase(&path, "copy", &args.name)?;
    let told = format!(
        "No more copies are made to {}. What was copied is still at {repository}: delete it there when you are sure.\n",
        args.name
    );
    context.answer(&json!({ "name": args.name, "repository": repository }), &told)
}
