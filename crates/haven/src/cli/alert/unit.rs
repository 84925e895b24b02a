use std::time::Duration;

use serde_json::json;

use crate::{
    cli::Context,
    keeper::{deliver_here, settings::Rooms, unit},
    report::{self, Code, Trouble, UNTOUCHED},
    wire,
};

/// How long a message may take here; what is not told by then is told by the keeper, or the next time.
const PATIENCE: Duration = Duration::from_secs(200);

/// Tell that a unit has failed, with the last lines of its log
///
/// For OnFailure= of any unit of the machine. The lines are those of the failed start alone. What can't be told now waits
/// on the disk, and is told by the keeper or at the next alert.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  OnFailure=haven-alert@%n.service     in the unit of your nightly job")]
pub struct Args {
    /// The unit: borg.service
    unit: String,
    /// So many lines of its log
    #[arg(long, value_name = "NUMBER", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=1000))]
    lines: u16,
    /// Only print what would be told
    #[arg(long, short = 'n')]
    dry_run: bool,
}

pub fn run(context: &Context, args: &Args) -> Result<(), Trouble> {
    let config = &context.config;
    let failed = unit::look(&args.unit, args.lines.into());
    let message = failed.message();
    let value = json!({ "unit": failed, "message": message });
    if args.dry_run {
        return context.answer(&value, &format!("{}\n{}\n", message.plain(), message.log));
    }
    let route = config.route();
    if route.to.is_empty() {
        return Err(Trouble::new(Code::Usage, "haven.toml names nobody to tell")
            .because(message.title)
            .meaning(UNTOUCHED)
            .next("set a table [alert.NAME]; `haven config` shows what it may have"));
    }
    let rooms = Rooms::of(config);
    let outbox =
        haven_notify::Outbox::open(&rooms.outbox()).map_err(|error| crate::keeper::cannot(rooms.root(), &error))?;
    let fresh = outbox
        .put(&route.letter(message.clone(), crate::keeper::millis()))
        .map_err(|error| crate::keeper::cannot(rooms.root(), &error))?;
    if !fresh {
        report::note("this failure was told before");
    }
    let told = wire::runtime()?.block_on(deliver_here(config, &rooms, &message.id, PATIENCE))?;
    context.answer(&value, &format!("{}\n", if told { "told" } else { "on its way" }))?;
    if told {
        return Ok(());
    }
    Err(Trouble::new(Code::Untold, format!("{} failed, and nobody could be told yet", args.unit))
        .meaning("the message waits on the disk, and is told by the keeper or at the next alert")
        .next("haven alert test    tells what is in the way"))
}
