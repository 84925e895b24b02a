//! `haven alert`: telling people.

mod test;
mod unit;

use super::Context;
use crate::report::Trouble;

/// Try who is told, or tell of a failed unit of this machine
///
/// Who is told stands in haven.toml, [alert]: Telegram, ntfy, e-mail, Discord, Slack, Gotify, any webhook, and a dead-man's
/// switch that tells you when this machine says nothing any more.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven alert test                 a message to everybody, and what each answered\n  haven alert test phone\n  haven alert unit borg.service    as OnFailure=haven-alert@%n.service does, for any unit of the machine"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Test(test::Args),
    Unit(unit::Args),
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    match args.command {
        Command::Test(args) => test::run(context, &args),
        Command::Unit(args) => unit::run(context, &args),
    }
}
