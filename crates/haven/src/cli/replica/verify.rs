//! `haven replica verify`: is everything there, and is it right?

use haven_replica::{Depth, examine};
use serde_json::json;

use super::{Context, bar, damage_lines, damaged_trouble, rate, replica_trouble, world};
use crate::{library, report::Trouble, secret::KeyArgs, words};

/// Look whether a replica is whole, by itself
///
/// Quick, everything that its newest state and its snapshots need is looked for, and has its length. With --read-data all
/// of it is read and verified: every seal is opened and every chunk compared with its id. The library is not asked.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven replica verify home                            a request for every thousand objects\n  haven replica verify home --read-data --sample 5%    a twentieth of it, another each time\n  haven replica verify home --read-data --json"
)]
pub struct VerifyArgs {
    name: String,
    /// Read everything, not only names and lengths
    #[arg(long)]
    read_data: bool,
    /// Read only this share: 5%, chosen anew each time
    #[arg(long, value_name = "SHARE", value_parser = share)]
    sample: Option<f64>,
    #[command(flatten)]
    key: KeyArgs,
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().map_err(|error| error.to_string())?;
    let share = if text.ends_with('%') { number / 100.0 } else { number };
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err("a share is between 0% and 100%".into()) }
}

pub async fn run(context: &Context, args: VerifyArgs) -> Result<(), Trouble> {
    let config = context.config.replica(&args.name)?.clone();
    let stack = library::open_store(&config.own.url, &config.own.store)?;
    let secret = args.key.source(&context.config.key).read()?;
    let keys = library::find(&stack.store).await?.unlock(&secret)?.keys().clone();
    let depth = match (args.sample, args.read_data) {
        (Some(share), _) => Depth::Sample(share),
        (None, true) => Depth::Everything,
        (None, false) => Depth::Lengths,
    };
    let (bar, progress) = bar("verifying");
    let found = examine(&stack.store, &keys, &world(), depth, config.common.parallel, Some(progress)).await;
    bar.finish_and_clear();
    let found = found.map_err(|error| replica_trouble(&args.name, &error))?;
    let requests = stack.meter.snapshot().requests();
    let mut value = serde_json::to_value(&found).unwrap_or_default();
    value["name"] = args.name.clone().into();
    value["requests"] = requests.into();
    let objects =
        |count: u64, bytes: u64| format!("{}, {}", words::count(count as usize, "object"), words::bytes(bytes));
    let mut text = damage_lines(&found.damaged);
    text += &format!("{:<10}{}\n", "needed", objects(found.objects, found.bytes));
    let speed = rate(found.bytes_read, found.seconds);
    let read = objects(found.objects_read, found.bytes_read);
    text += &format!("{:<10}{read} in {:.1} s{speed}\n", "read", found.seconds);
    text += &format!("{:<10}{}\n", "kept yet", objects(found.unneeded_objects, found.unneeded_bytes));
    text += &format!("{:<10}{}\n", "stands at", found.position);
    if let Some((count, example)) = &found.strange {
        text += &format!("{:<10}{}, {example} for one\n", "strangers", words::count(*count, "object"));
    }
    context.answer(&json!(value), &text)?;
    if found.damaged.is_empty() {
        return Ok(());
    }
    let next = format!(
        "haven replica sync {}    copies again what is missing; what is damaged it finds when it reads it back, or: haven check --repair --copy",
        args.name
    );
    Err(damaged_trouble(&found.damaged, "nothing was changed; the library itself was not looked at", &next))
}
