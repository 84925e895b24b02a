//! The command line: one file a command. The doc comments are the help.

mod alert;
pub mod ask;
mod backup;
mod bench;
mod check;
mod claims;
mod config;
pub mod copy;
mod doctor;
pub mod drill;
mod explain;
mod export;
mod flush;
mod gc;
mod health;
pub mod import;
mod init;
mod key;
mod manual;
mod monthly;
mod mount;
pub mod recover;
mod replica;
mod restore;
mod run;
mod runs;
mod salvage;
mod schedule;
mod setup;
mod snapshot;
pub mod stat;
mod status;
mod umount;
mod up;

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use haven_mount::background::Background;
use serde::Serialize;

use crate::{
    config::Config,
    replicas::Place,
    report::{self, Code, EXIT_CODES, Trouble, UNTOUCHED},
};

/// A photo library's safe haven: a folder whose every byte lives in an S3 bucket, deduplicated, compressed, encrypted.
#[derive(Debug, Parser)]
#[command(name = "haven", version, max_term_width = 100, after_help = after_help(), disable_help_subcommand = true)]
pub struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Read settings from FILE [default: the first of ~/.config/haven/haven.toml and /etc/haven/haven.toml]
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "HAVEN_CONFIG",
        hide_env = true,
        help_heading = "Everywhere"
    )]
    pub config: Option<PathBuf>,
    /// Answer in JSON, errors too
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Args),
    Init(init::Args),
    Mount(mount::Args),
    Run(run::Args),
    Umount(umount::Args),
    Status(status::Args),
    Flush(flush::Args),
    Stat(stat::Args),
    Key(key::Args),
    Claims(claims::Args),
    Salvage(salvage::Args),
    Snapshot(snapshot::Args),
    Backup(backup::Args),
    Recover(recover::Args),
    Drill(drill::Args),
    Explain(explain::Args),
    Gc(gc::Args),
    Check(check::Args),
    Replica(replica::Args),
    Copy(copy::Args),
    Restore(restore::Args),
    Export(export::Args),
    Import(import::Args),
    Health(health::Args),
    Schedule(schedule::Args),
    Runs(runs::Args),
    Report(monthly::Args),
    Alert(alert::Args),
    Doctor(doctor::Args),
    Setup(setup::Args),
    Bench(bench::Args),
    Config(config::Args),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

fn after_help() -> String {
    let codes: String = EXIT_CODES.iter().map(|(code, meaning)| format!("  {code}  {meaning}\n")).collect();
    format!(
        "Examples:\n  \
         haven up                                                    a library on this machine, mounted\n  \
         haven init s3://photos/haven --recovery-key-file kit.html   a library in a bucket\n  \
         haven mount s3://photos/haven /mnt/photos                   as a folder\n  \
         haven status /mnt/photos                                    what is not in the bucket yet?\n  \
         haven umount /mnt/photos                                    when all is uploaded\n\n\
         Exit codes:\n{codes}\n\
         With --json an answer is one JSON value on standard output; a command that works on several things gives one a line.\n\
         On standard error each line is one of {{\"error\": …, \"exit\": N}}, {{\"warning\": TEXT}} and {{\"note\": TEXT}}.\n"
    )
}

/// Where the library is.
#[derive(Debug, Clone, clap::Args)]
pub struct UrlArg {
    /// s3://bucket/prefix, sftp:// or webdavs://user@host/path, or file:///path [default: library.url in haven.toml] [env: HAVEN_LIBRARY]
    #[arg(value_name = "URL", env = "HAVEN_LIBRARY", hide_env = true)]
    url: Option<String>,
}

impl UrlArg {
    /// What the command line or the environment names.
    pub fn named(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// A replica may go by its name.
    pub fn place(&self, config: &Config) -> Result<Place, Trouble> {
        self.get(config).map(|named| config.place(&named))
    }

    /// A URL alone: for what makes a library.
    pub fn get(&self, config: &Config) -> Result<String, Trouble> {
        self.url.clone().or_else(|| config.library.url.clone()).map(|url| absolute(&url)).ok_or_else(|| {
            Trouble::new(Code::Usage, "no library was named")
                .meaning(UNTOUCHED)
                .next("name it on the command line, in HAVEN_LIBRARY, or as library.url in haven.toml")
        })
    }
}

/// A relative path would mean another directory to whoever reads it later.
pub fn absolute(url: &str) -> String {
    let relative = url == "." || url.starts_with("./") || url.starts_with("../");
    let here = std::env::current_dir().ok().filter(|_| relative);
    let path = here.map(|here| std::path::absolute(here.join(url)).unwrap_or_else(|_| here.join(url)));
    path.map_or_else(|| url.to_owned(), |path| path.display().to_string())
}

/// What a command is run with.
pub struct Context {
    pub config: Config,
    pub json: bool,
}

impl Context {
    /// One of many answers: JSON on a line of its own, or `text`.
    pub fn line(&self, value: &impl Serialize, text: &str) -> Result<(), Trouble> {
        let json = || serde_json::to_string(value).expect("answers are plain values") + "\n";
        write_out(&if self.json { json() } else { text.to_owned() })
    }

    /// Answers: `value` as JSON for scripts, or `text` for people.
    pub fn answer(&self, value: &impl Serialize, text: &str) -> Result<(), Trouble> {
        let out = if self.json {
            serde_json::to_string_pretty(value).expect("answers are plain values") + "\n"
        } else {
            text.to_owned()
        };
        write_out(&out)
    }
}

fn write_out(out: &str) -> Result<(), Trouble> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()) {
        // Nobody listens any more (`haven … | head`): not our trouble.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Trouble::new(Code::Local, "the answer can't be written").caused_by(&error))
        }
        _ => Ok(()),
    }
}

pub fn main() -> ExitCode {
    crate::keeper::settle_in();
    let args = match Args::try_parse() {
        Ok(args) => args,
        // Help and version are answers, everything else is trouble; clap's own text has the nearest name in it.
        Err(error) => {
            if error.use_stderr() && json_was_asked_for() {
                mistyped(&error).tell(true);
            } else {
                _ = error.print();
            }
            return ExitCode::from(if error.use_stderr() { Code::Usage.exit() } else { 0 });
        }
    };
    let json = args.global.json;
    if json {
        report::speak_json();
    }
    // A mount goes to the background by starting this program again: that second one is told apart here.
    let background = match Background::take_over() {
        Ok(background) => background,
        Err(error) => {
            Trouble::new(Code::Local, "the background can't be reached").caused_by(&error).tell(json);
            return ExitCode::from(Code::Local.exit());
        }
    };
    let mut background = background;
    match run(args, &mut background) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            trouble.tell(json);
            let exit = trouble.code.exit();
            background.map_or(ExitCode::from(exit), |background| background.failed(exit))
        }
    }
}

/// Whether `--json` stands on a command line that nobody could read to its end.
fn json_was_asked_for() -> bool {
    std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json")
}

/// A mistake on the command line, in clap's words.
fn mistyped(error: &clap::Error) -> Trouble {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Trouble::new(Code::Usage, "a command is missing").meaning(UNTOUCHED).next("haven --help");
    }
    let text = error.render().to_string();
    let mut parts = text.split("\n\n").map(str::trim).filter(|part| !part.starts_with("For more information"));
    let what = parts.next().unwrap_or_default();
    let trouble = Trouble::new(Code::Usage, what.strip_prefix("error: ").unwrap_or(what)).meaning(UNTOUCHED);
    parts.fold(trouble, |trouble, part| trouble.next(part))
}

fn run(args: Args, background: &mut Option<Background>) -> Result<(), Trouble> {
    let context = || -> Result<Context, Trouble> {
        Ok(Context { config: Config::load(args.global.config.clone())?, json: args.global.json })
    };
    let args_global = args.global.clone();
    match args.command {
        Command::Up(args) => up::run(&context()?, args, background),
        Command::Init(args) => wait(init::run(&context()?, args)),
        Command::Mount(args) => mount::run(&context()?, args, background),
        Command::Run(args) => run::run(&context()?, args),
        Command::Umount(args) => umount::run(&context()?, args),
        Command::Status(args) => status::run(&context()?, args),
        Command::Flush(args) => flush::run(&context()?, args),
        Command::Stat(args) => stat::run(&context()?, args),
        Command::Key(args) => wait(key::run(&context()?, args)),
        Command::Claims(args) => wait(claims::run(&context()?, args)),
        Command::Salvage(args) => salvage::run(&context()?, args),
        Command::Snapshot(args) => snapshot::run(&context()?, args),
        Command::Backup(args) => backup::run(&context()?, args),
        Command::Recover(args) => recover::run(&context()?, args),
        Command::Drill(args) => drill::run(&context()?, args),
        Command::Explain(args) => explain::run(&context()?, &args),
        Command::Gc(args) => gc::run(&context()?, &args),
        Command::Check(args) => check::run(&context()?, &args),
        Command::Replica(args) => replica::run(&context()?, args),
        Command::Copy(args) => copy::run(&context()?, args),
        Command::Restore(args) => restore::run(&context()?, args),
        Command::Export(args) => export::run(&context()?, args),
        Command::Health(args) => health::run(&context()?, &args),
        Command::Schedule(args) => schedule::run(&context()?, &args),
        Command::Runs(args) => runs::run(&context()?, &args),
        Command::Report(args) => monthly::run(&context()?, &args),
        Command::Alert(args) => alert::run(&context()?, args),
        Command::Doctor(args) => doctor::run(context(), args_global.json, args),
        Command::Setup(args) => setup::run(&context, &args_global, &Args::command(), args),
        Command::Import(args) => import::run(&context()?, args),
        Command::Bench(args) => bench::run(&context()?, args),
        Command::Config(args) => config::run(&context()?, args),
        Command::Completions(args) => manual::completions(args, Args::command()),
        Command::Man(args) => manual::man(args, Args::command()),
    }
}

/// Runs a command that speaks with a store.
pub fn wait<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Trouble::new(Code::Local, "no event loop can be made").caused_by(&error))?;
    runtime.block_on(work)
}
