//! `haven status`: is it mounted, and what is not in the bucket yet?

use std::path::PathBuf;

use haven_mount::control::Request;
use serde_json::Value;

use super::{
    Context,
    ask::{ask, living},
};
use crate::{report::Trouble, words};

/// Tell how a mount is: what is not in the bucket yet and since when, the cache, requests, trouble
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haven status /mnt/photos --json")]
pub struct Args {
    /// The mount point, or anything in it
    #[arg(value_name = "MOUNTPOINT")]
    point: PathBuf,
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let at = living(&args.point)?;
    let status = ask(&at, &Request::new("status"), "asking")?;
    context.answer(&status, &told(&status))
}

/// How far a restore is, behind where it comes from.
fn so_far(restoring: &Value) -> String {
    let heap = |name: &str| Some((restoring[name]["objects"].as_u64()?, restoring[name]["bytes"].as_u64()?));
    match (heap("here"), heap("needed")) {
        (Some((objects, bytes)), Some((all, all_bytes))) => {
            format!(": {objects} of {all} objects ({} of {}) are here", words::bytes(bytes), words::bytes(all_bytes))
        }
        _ => String::new(),
    }
}

fn told(status: &Value) -> String {
    let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| status[name].as_u64().unwrap_or_default();
    let behind = status["recovery_point_seconds"].as_f64().unwrap_or_default();
    let mut rows = vec![
        ("mounted", format!("{} at {}, {}, process {}", text("store"), text("point"), text("state"), number("pid"))),
        ("library", text("library")),
        (
            "writing",
            match (status["writable"].as_bool(), status["stopped"].as_str()) {
                (Some(true), _) => format!("yes (epoch {})", number("epoch")),
                (_, Some(why)) => format!("no: {why}"),
                _ => "no".into(),
            },
        ),
    ];
    rows.push((
        "in bucket",
        if number("unsent_changes") == 0 && number("pending_bytes") == 0 {
            if status["restoring"].is_null() { "everything" } else { "everything that was written here" }.into()
        } else {
            format!(
                "all but {} and {} on the way; the oldest is {behind:.1} s old",
                words::count(number("unsent_changes") as usize, "change"),
                words::bytes(number("pending_bytes")),
            )
        },
    ));
    rows.push(("recovery", format!("the loss of this machine would cost the last {behind:.1} s")));
    rows.push((
        "cache",
        format!(
            "{} of {} used, {} of it could be given up at once; {}",
            words::bytes(number("cache_used")),
            words::bytes(number("cache_limit")),
            words::bytes(number("cache_clean")),
            text("cache"),
        ),
    ));
    rows.push(("requests", format!("{} to the store, {} failed", number("requests"), number("request_errors"))));
    let garbage = &status["garbage"];
    let waiting = garbage["waiting"]["bytes"].as_u64().unwrap_or_default();
    rows.push((
        "kept",
        format!(
            "{}; {} wait for their end",
            words::count(number("snapshots") as usize, "snapshot"),
            words::bytes(waiting)
        ),
    ));
    if let Some(brake) = garbage["brake"].as_str() {
        rows.push(("BRAKE", brake.to_owned()));
        rows.push(("", "haven gc --dry-run tells what would go; haven gc --release lets it go".to_owned()));
    }
    if let Some(of) = status["restoring"]["of"].as_str() {
        rows.push(("RESTORING", format!("from {of}{}", so_far(&status["restoring"]))));
        rows.push(("", "what is not here yet is read from there: keep it until everything has come".to_owned()));
        rows.push(("", format!("haven restore --from {of} --to {}    goes on with it", text("url"))));
    }
    if let Some(trouble) = status["trouble"].as_str() {
        rows.push(("TROUBLE", trouble.to_owned()));
    }
    for damage in status["damage"].as_array().into_iter().flatten() {
        rows.push((
            "DAMAGED",
            format!("{}: {}", damage[0].as_str().unwrap_or_default(), damage[1].as_str().unwrap_or_default()),
        ));
    }
    rows.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect()
}
