//! `haven setup`: from nothing to a library that mounts by itself.

mod asker;
mod finish;
mod guided;
mod outside;
mod point;
mod systemd;

use std::path::PathBuf;

use super::{Context, Global};
use crate::report::{Code, Trouble, UNTOUCHED};

/// Set everything up: bucket, keys, folder, database, who is told
///
/// Asks what matters, tries each answer for real, writes haven.toml, makes the library with its recovery kit, mounts it,
/// and takes a first recovery point. Run again, it begins with what was answered before. With --answers nobody is asked:
/// what would be typed stands in a TOML file, secrets in files that it names.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven setup                        asks\n  haven setup --answers FILE         for scripts; what is left out has its default:\n    [bucket]   url = \"s3://photos/haven\"   endpoint   region   key_id   secret_file\n    [keys]     passphrase_file   kit = \"/root/kit.html\"\n    [mount]    point = \"/mnt/photos\"   allow_other   cache   cache_size\n    [database] url = \"postgresql:///immich\"   container   folder   owner\n    [tell]     kind = \"ntfy\"   url   topic   (chat, server, tls, user, from, to, secret_file)\n               switch = \"https://hc-ping.com\"   switch_file\n    [machine]  units = true   immich   try_mount   first_point\n  haven setup systemd --dry-run      the units alone"
)]
pub struct Args {
    /// Take the answers from FILE, and ask nobody
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Systemd(systemd::Args),
}

pub fn run(
    context: &dyn Fn() -> Result<Context, Trouble>,
    global: &Global,
    command: &clap::Command,
    args: Args,
) -> Result<(), Trouble> {
    match args.what {
        Some(_) if args.answers.is_some() => Err(Trouble::new(Code::Usage, "--answers is for haven setup alone")
            .meaning(UNTOUCHED)
            .next("haven setup --answers FILE; with units = true under [machine] it writes the units as well")),
        Some(What::Systemd(args)) => systemd::run(&context()?, command, &args),
        None => guided::run(command, global.config.clone(), global.json, args.answers.as_deref()),
    }
}
