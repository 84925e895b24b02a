//! `haven restore`: a new library from a copy.

use haven_format::layout;
use haven_replica::{Oddity, ReplicaError, RestoreOptions, Restored, Restorer};
use haven_store::{StoreOptions, human};
use serde_json::json;

use super::{
    Context, absolute,
    replica::{bar, damage_lines, damaged_trouble, rate, replica_trouble, world},
};
use crate::{
    library,
    report::{self, Code, Trouble},
    secret::KeyArgs,
    wire, words,
};

/// Make a new library from a replica, usable in seconds and complete when everything has come
///
/// First comes what says which files there are; from then on the new library can be mounted, and what is not there yet
/// is read from the replica. The rest follows. Interrupted, the same command goes on; the library may be in use
/// meanwhile.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven restore --from sftp://backup@nas/haven --to s3://photos-new/haven\n  haven restore --from file:///mnt/usb/haven --to file:///srv/haven --limit 50MB\n\nExit codes: 0 the new library is complete; 6 the replica lacks something, or has it\ndamaged: files, or the newest changes"
)]
pub struct Args {
    /// The URL of the replica, or its name in haven.toml
    #[arg(long, value_name = "URL|NAME")]
    from: String,
    /// Where the new library is to be: an empty place
    #[arg(long, value_name = "URL")]
    to: String,
    /// Only make it usable; fetch the rest another time
    #[arg(long)]
    begin_only: bool,
    /// Send no more bytes a second than this: 20MB
    #[arg(long, value_name = "SIZE", value_parser = human::parse_bytes)]
    limit: Option<u64>,
    /// Objects on their way at once [default: replica.parallel in haven.toml]
    #[arg(long, value_name = "NUMBER")]
    parallel: Option<usize>,
    /// Call it complete although the replica lacks something, or has it damaged
    #[arg(long)]
    accept_damage: bool,
    #[command(flatten)]
    key: KeyArgs,
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let runtime = wire::runtime()?;
    runtime.block_on(restore(context, args))
}

async fn restore(context: &Context, args: Args) -> Result<(), Trouble> {
    let (from_url, from_options) = super::replica::source_of(&context.config, Some(&args.from))?;
    let to_url = absolute(&args.to);
    let from = library::open_store(&from_url, &from_options)?;
    let to = library::open_store(&to_url, &StoreOptions { create: true, ..context.config.store_of(&to_url) })?;
    if let Some(limit) = args.limit {
        to.limits.set_upload_rate(limit);
    }
    let secret = args.key.source(&context.config.key).read()?;
    let keys = library::find(&from.store).await?.unlock(&secret)?.keys().clone();
    let options = RestoreOptions {
        of: from_url.clone(),
        parallel: args.parallel.unwrap_or(context.config.replica.parallel),
        accept_damage: args.accept_damage,
    };
    let (bar, progress) = bar("restoring");
    let mut restorer = Restorer::new(from.store.clone(), to.store.clone(), &keys, world(), options, Some(progress));
    let begun = restorer.begin().await.map_err(trouble)?;
    bar.suspend(|| report::note(usable(&begun, &to_url)));
    if args.begin_only {
        bar.finish_and_clear();
        context.answer(&json!({ "begun": begun, "url": to_url }), &damage_lines(&begun.damaged))?;
        return told(&begun);
    }
    let done = restorer.complete().await;
    bar.finish_and_clear();
    let done = done.map_err(trouble)?;
    let mut text = damage_lines(&done.damaged);
    let speed = rate(begun.bytes + done.bytes, begun.seconds + done.seconds);
    text += &format!(
        "{}, {} in {:.1} s{speed}; stands at {}\n",
        words::count((begun.objects + done.objects) as usize, "object"),
        words::bytes(begun.bytes + done.bytes),
        begun.seconds + done.seconds,
        done.position
    );
    text += &match (done.complete, done.damaged.is_empty()) {
        (true, true) => format!("the library at {to_url} is complete\n"),
        (true, false) => format!("the library at {to_url} is taken for complete: it lacks what is named above\n"),
        (false, _) => String::new(),
    };
    context.answer(&json!({ "begun": begun, "done": done, "url": to_url }), &text)?;
    told(&done)
}

/// What is missing or damaged, as trouble.
fn told(done: &Restored) -> Result<(), Trouble> {
    let damaged = &done.damaged;
    if damaged.is_empty() {
        return Ok(());
    }
    // What says which files there are: the log, and the roots that stand for it.
    let state =
        damaged.iter().any(|one| one.object.starts_with(layout::SEGMENTS) || one.object.starts_with(layout::ROOTS));
    let mut meaning = match done.complete {
        true => {
            "the new library is taken for complete, as you said; files with missing content can't be read".to_owned()
        }
        false => "the new library can be used, and reads what it lacks from the replica; it is not complete".to_owned(),
    };
    if state {
        let position = &done.position;
        meaning +=
            &format!(". It stands at {position}: later changes, or snapshots, that the replica has lost are not in it");
    }
    let next = match state {
        true => {
            "mend the replica from another copy (haven replica verify NAME --repair --copy URL) and restore into another \
                 empty place; or take it as it is: --accept-damage"
        }
        false => {
            "bring the missing objects into the replica from another copy, and run this again; or: --accept-damage"
        }
    };
    Err(damaged_trouble(damaged, &meaning, next))
}

fn trouble(error: ReplicaError) -> Trouble {
    let ReplicaError::Odd(oddity) = &error else { return replica_trouble("", &error) };
    let Oddity::Garbage { damaged } = &**oddity else { return replica_trouble("", &error) };
    let trouble = Trouble::new(Code::Damaged, "the copy holds no state that could be restored")
        .meaning("nothing was copied; the photos in it may be whole all the same")
        .next("restore from another copy; or mend this one from it: haven replica verify NAME --repair --copy URL")
        .next("haven-rescue    reads from this one what can still be read");
    damaged.iter().take(3).fold(trouble, |trouble, one| trouble.because(one.to_string()))
}

fn usable(begun: &Restored, url: &str) -> String {
    format!(
        "usable after {:.1} s ({}, {}): haven mount {url} MOUNTPOINT; the rest follows",
        begun.seconds,
        words::count(begun.objects as usize, "object"),
        words::bytes(begun.bytes)
    )
}
