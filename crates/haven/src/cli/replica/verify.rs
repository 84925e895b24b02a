//! `haven replica verify`: is everything there, and is it right?

use std::collections::BTreeMap;

use haven_format::layout;
use haven_replica::{Depth, examine, mend};
use serde_json::json;

use super::{Context, bar, damage_lines, damaged_trouble, rate, replica_trouble, source_of, world};
use crate::{
    library,
    replicas::ReplicaConfig,
    report::{self, Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    words,
};

/// Look whether a replica is whole, by itself
///
/// Quick, everything that its newest state and its snapshots need is looked for, and has its length. With --read-data all
/// of it is read and verified: every seal is opened and every chunk compared with its id. The library is not asked, unless
/// with --repair: then what is damaged or missing here is put back from it, or from another copy, where that is right.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven replica verify home                            a request for every thousand objects\n  haven replica verify home --read-data --sample 5%    a twentieth of it, another each time\n  haven replica verify home --read-data --repair       from the library\n  haven replica verify home --read-data --repair --copy s3://photos-copy/haven\n  haven replica verify home --read-data --json\n\nExit codes: 0 everything is right, or was put right; 6 something is damaged; 10 no copy to it has ever come to its end"
)]
pub struct VerifyArgs {
    name: String,
    /// Read everything, not only names and lengths
    #[arg(long)]
    read_data: bool,
    /// Read only this share: 5%, chosen anew each time
    #[arg(long, value_name = "SHARE", value_parser = share)]
    sample: Option<f64>,
    /// Put back what the library, or a copy, has
    #[arg(long)]
    repair: bool,
    /// The URL of another copy to repair from, or its name; may be given more than once
    #[arg(long, value_name = "URL|NAME", requires = "repair")]
    copy: Vec<String>,
    #[command(flatten)]
    key: KeyArgs,
}

/// What was damaged and put back while looking: rounds, as behind a damaged root more may come to light.
const ROUNDS: usize = 8;

fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().map_err(|error| error.to_string())?;
    let share = if text.ends_with('%') { number / 100.0 } else { number };
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err("a share is between 0% and 100%".into()) }
}

pub async fn run(context: &Context, args: VerifyArgs) -> Result<(), Trouble> {
    let config = context.config.replica(&args.name)?.clone();
    let stack = library::open_store(&config.own.url, &config.own.store)?;
    let secret = args.key.source(&context.config.key).read()?;
    let there = library::find(&stack.store).await;
    let there = there.map_err(|trouble| match trouble.code {
        Code::NoLibrary => never_complete(&args.name).because(format!("nothing of a library is at {}", config.own.url)),
        _ => trouble,
    })?;
    let keys = there.unlock(&secret)?.keys().clone();
    let depth = match (args.sample, args.read_data) {
        (Some(share), _) => Depth::Sample(share),
        (None, true) => Depth::Everything,
        (None, false) => Depth::Lengths,
    };
    let (bar, progress) = bar("verifying");
    let look = async || {
        let found = examine(&stack.store, &keys, &world(), depth, config.common.parallel, Some(progress.clone())).await;
        found.map_err(|error| replica_trouble(&args.name, &error))
    };
    let mut found = look().await?;
    let mut mended = Vec::new();
    let mut unread: BTreeMap<String, String> = BTreeMap::new();
    if args.repair && !found.damaged.is_empty() {
        let copies = copies(context, &config, &args.copy)?;
        for _ in 0..ROUNDS {
            let round = mend(&stack.store, &copies, &keys, &found.damaged).await;
            let round = round.map_err(|error| replica_trouble(&args.name, &error))?;
            unread.extend(round.unread);
            if round.objects.is_empty() {
                break;
            }
            mended.extend(round.objects);
            found = look().await?;
        }
    }
    bar.finish_and_clear();
    for (copy, why) in &unread {
        report::warn(format!("nothing was put back from {copy}, which can't be read: {why}"));
    }
    let requests = stack.meter.snapshot().requests();
    let mut value = serde_json::to_value(&found).unwrap_or_default();
    let complete = !found.position.segment.is_empty();
    // Its log and its roots together: nothing mends them object by object.
    let gone = found.damaged.iter().any(|damage| damage.object == layout::ROOTS);
    value["complete"] = complete.into();
    value["name"] = args.name.clone().into();
    value["requests"] = requests.into();
    value["mended"] = mended.iter().map(|(object, from)| json!({ "object": object, "from": from })).collect();
    let objects =
        |count: u64, bytes: u64| format!("{}, {}", words::count(count as usize, "object"), words::bytes(bytes));
    let mut text: String = mended.iter().map(|(object, from)| format!("mended    {object}, from {from}\n")).collect();
    text += &damage_lines(&found.damaged);
    text += &format!("{:<10}{}\n", "needed", objects(found.objects, found.bytes));
    let speed = rate(found.bytes_read, found.seconds);
    let read = objects(found.objects_read, found.bytes_read);
    text += &format!("{:<10}{read} in {:.1} s{speed}\n", "read", found.seconds);
    text += &format!("{:<10}{}\n", "kept yet", objects(found.unneeded_objects, found.unneeded_bytes));
    text += &format!(
        "{:<10}{}\n",
        "stands at",
        match (complete, gone) {
            (true, _) => found.position.to_string(),
            (false, true) => "nothing: COMPLETE NO MORE".into(),
            (false, false) => "nothing: NEVER COMPLETE".into(),
        }
    );
    if let Some((count, example)) = &found.strange {
        text += &format!("{:<10}{}, {example} for one\n", "strangers", words::count(*count, "object"));
    }
    context.answer(&json!(value), &text)?;
    if found.damaged.is_empty() {
        return if complete { Ok(()) } else { Err(never_complete(&args.name)) };
    }
    let next = match args.repair {
        _ if gone => format!("haven replica sync {}    brings from the library what is gone", args.name),
        true => format!("haven check -L {} --read-data    names the files that can't be read from it", config.own.url),
        false => format!("haven replica verify {} --read-data --repair    puts back what the library has", args.name),
    };
    let meaning = match mended.len() {
        0 => "nothing was changed".to_owned(),
        some => format!("{} put back; of the rest nobody who was asked has a good one", words::count(some, "object")),
    };
    Err(damaged_trouble(&found.damaged, &meaning, &next))
}

/// What is there may be all right, and is no library that anybody could go on from.
fn never_complete(name: &str) -> Trouble {
    Trouble::new(Code::Incomplete, format!("the replica {name} was never complete: nothing would come back from it"))
        .meaning(UNTOUCHED)
        .next(format!("haven replica sync {name}    goes on with the copy"))
}

/// Whom a replica can be mended from: what it is a copy of, then the others, each with a name for people. Where others are
/// named, what it is a copy of may be gone.
fn copies(
    context: &Context,
    config: &ReplicaConfig,
    others: &[String],
) -> Result<Vec<(String, haven_store::DynStore)>, Trouble> {
    let froms = std::iter::once(config.own.from.as_deref()).chain(others.iter().map(|other| Some(other.as_str())));
    let open = |from: Option<&str>| -> Result<(String, haven_store::DynStore), Trouble> {
        let (url, options) = source_of(&context.config, from)?;
        Ok((url.clone(), library::open_store(&url, &options)?.store))
    };
    let mut copies = Vec::new();
    for (number, from) in froms.enumerate() {
        match open(from) {
            Ok(copy) => copies.push(copy),
            Err(trouble) if number == 0 && !others.is_empty() => {
                let why = std::iter::once(trouble.what).chain(trouble.because).collect::<Vec<_>>().join(": ");
                report::warn(format!("nothing is put back from what this is a replica of: {why}"));
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(copies)
}
