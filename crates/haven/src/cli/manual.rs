//! `haven completions` and `haven man`: made from the same definitions as the command line itself.

use std::{fs, path::PathBuf};

use crate::report::{Code, Trouble};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haven completions bash > /etc/bash_completion.d/haven")]
pub struct CompletionsArgs {
    shell: clap_complete::Shell,
}

/// Write manual pages, one for each command
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haven man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// The directory for haven.1, haven-init.1, …
    directory: PathBuf,
}

pub fn completions(args: CompletionsArgs, mut command: clap::Command) -> Result<(), Trouble> {
    // Not straight to standard output: there it panics when nobody listens any more.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "haven", &mut script);
    super::write_out(&String::from_utf8_lossy(&script))
}

pub fn man(args: ManArgs, command: clap::Command) -> Result<(), Trouble> {
    let write = || {
        fs::create_dir_all(&args.directory)?;
        clap_mangen::generate_to(command, &args.directory)
    };
    write().map_err(|error| {
        Trouble::new(Code::Local, format!("manual pages can't be written to {}", args.directory.display()))
            .caused_by(&error)
            .next("name a directory that this user may write to")
    })
}
