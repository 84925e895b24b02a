//! `haven gc`: giving up what nothing needs.

use haven_mount::control::Request;
use serde_json::Value;

use super::Context;
use crate::{
    reach::Which,
    report::{Code, Trouble},
    words,
};

/// Give up what no file and no snapshot needs any more
///
/// It is done once a day by every mount that may write; this does it now. What is found to be needed no more is put on
/// a list, stays for the grace time (gc.grace in haven.toml), and is deleted by a later run if it is still not needed.
/// Packs that have become half empty are written anew. When far more than usual would go, nothing goes: that is what a
/// mistake or an attack looks like, and --release says that it was meant. --dry-run by the URL of a library takes the right
/// to write from no mount: it looks at what the bucket holds.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven gc --dry-run           what would go, and when\n  haven gc -L /mnt/photos      now\n  haven gc --release           yes, I did delete a third of my photos"
)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Only tell what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Go on although far more than usual would be given up
    #[arg(long)]
    release: bool,
}

pub fn run(context: &Context, args: &Args) -> Result<(), Trouble> {
    let request = Request::new("gc").with("dry", args.dry_run).with("release", args.release);
    let answer = args.which.ask(context, &request, "looking for what is needed")?;
    let brake = answer["brake"].as_str().map(str::to_owned);
    context.answer(&answer, &told(&answer))?;
    match brake {
        Some(why) => Err(Trouble::new(Code::Held, "garbage collection has stopped and asks")
            .because(why)
            .meaning("every photo, and every state that could be read before, still can")
            .next("haven gc --dry-run    tells what would go; haven gc --release    lets it go")),
        None => Ok(()),
    }
}

fn told(answer: &Value) -> String {
    let number = |heap: &str, what: &str| answer[heap][what].as_u64().unwrap_or_default();
    let heap = |name: &str| {
        format!("{}, {}", words::count(number(name, "objects") as usize, "object"), words::bytes(number(name, "bytes")))
    };
    let dry = answer["dry"].as_bool().unwrap_or_default();
    let (would, be) = if dry { ("would be ", "") } else { ("", "") };
    let mut out = String::new();
    let mut row = |name: String, value: String| out += &format!("{name:<34}{value}\n");
    let live = answer["live_bytes"].as_u64().unwrap_or_default();
    let all = answer["pack_bytes"].as_u64().unwrap_or_default();
    row(format!("{would}deleted{be}"), heap("deleted"));
    row(format!("{would}put on the list"), heap("condemned"));
    row("  of files' content".to_owned(), {
        format!(
            "{}, {}",
            words::count(number("chunks", "objects") as usize, "chunk"),
            words::bytes(number("chunks", "bytes"))
        )
    });
    row(format!("{would}written anew"), heap("repacked"));
    let until = answer["waiting_until"].as_i64().map(|seconds| haven_format::record::Time { seconds, nanos: 0 });
    let until = until.map(|until| format!(", the last until {}", words::moment(until))).unwrap_or_default();
    row("waiting for their end".to_owned(), heap("waiting") + &until);
    row("needed".to_owned(), format!("{} in {} of packs", words::bytes(live), words::bytes(all)));
    if let Some(seconds) = answer["as_of"].as_i64() {
        let made = words::moment(haven_format::record::Time { seconds, nanos: 0 });
        row("as of".to_owned(), format!("{made}, the newest root; where it is mounted for writing more can be told"));
    }
    out
}
