//! `haven replica list` and `status`.

use haven_replica::{Replicator, Run, Side, Summary, newest_standing};
use serde_json::{Value, json};

use super::{Context, Opened, open, replica_trouble, source_of, world};
use crate::{
    report::{Code, Trouble},
    secret::KeyArgs,
    words,
};

/// List the replicas that haven.toml names
#[derive(Debug, clap::Args)]
pub struct ListArgs {}

/// Tell how replicas are: where they stand, how far behind, when last verified, what is wrong
///
/// Looks into the library and into each replica. Nothing is changed. One to which no copy has come to its end yet holds
/// nothing to go on from, and is told as never complete.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 all are well; 10 one is not, or can't be looked at")]
pub struct StatusArgs {
    /// Only this one
    name: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

pub fn list(context: &Context, _: ListArgs) -> Result<(), Trouble> {
    let mut rows = Vec::new();
    let mut shown = Vec::new();
    for (name, one) in &context.config.replicas {
        let from = source_of(&context.config, one.own.from.as_deref()).map(|(url, _)| url).unwrap_or_default();
        let grace = super::add::shown(one.common.grace);
        shown.push(json!({ "name": name, "url": one.own.url, "from": from, "grace": grace }));
        rows.push([name.clone(), one.own.url.clone(), from, grace]);
    }
    let text = if rows.is_empty() {
        "there are no replicas\n".to_owned()
    } else {
        words::table(["NAME", "PLACE", "OF", "GRACE"], &rows)
    };
    context.answer(&json!({ "replicas": shown }), &text)
}

pub async fn status(context: &Context, args: StatusArgs) -> Result<(), Trouble> {
    let names = match args.name {
        Some(name) => vec![name],
        None => context.config.replicas.keys().cloned().collect(),
    };
    let mut all = Vec::new();
    let mut text = String::new();
    for name in &names {
        // A typed passphrase would be asked for each time: the first name's settings are everybody's.
        let value = match open(context, name, &args.key).await {
            Ok(opened) => look(name, &opened).await,
            Err(trouble) if context.config.replicas.contains_key(name) => unseen(name, &trouble),
            Err(trouble) => return Err(trouble),
        };
        text += &told(&value);
        all.push(value);
    }
    if names.is_empty() {
        text = "there are no replicas\n".into();
    }
    let unwell: Vec<String> = all
        .iter()
        .filter(|one| one["well"] != Value::Bool(true))
        .map(|one| one["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    context.answer(&json!({ "replicas": all }), &text)?;
    if unwell.is_empty() {
        return Ok(());
    }
    Err(Trouble::new(Code::Held, format!("not all is well with {}", unwell.join(", ")))
        .meaning("nothing was changed")
        .next(format!("haven replica sync {}    tells more", unwell[0])))
}

fn unseen(name: &str, trouble: &Trouble) -> Value {
    let why = std::iter::once(trouble.what.clone()).chain(trouble.because.clone()).collect::<Vec<_>>().join(": ");
    json!({ "name": name, "well": false, "trouble": why })
}

async fn look(name: &str, opened: &Opened) -> Value {
    let url = &opened.config.own.url;
    let held = match newest_standing(&opened.replica.store, &opened.keys, Side::Replica).await {
        Ok(held) => held,
        Err(error) => return unseen(name, &replica_trouble(name, &error)),
    };
    let Some(standing) = held.standing.clone() else {
        return json!({
            "name": name, "url": url, "well": false, "complete": false, "lag_seconds": null,
            "trouble": "nothing was copied there yet",
        });
    };
    let seconds = |time: Option<haven_format::record::Time>| time.map(|time| time.seconds);
    let mut value = json!({
        "name": name,
        "url": url,
        "from": opened.source_url,
        "noted": standing.time.seconds,
        "round_began": seconds(standing.round_began),
        "verified": seconds(standing.verified),
        "damaged": standing.damaged,
        "brake": standing.brake,
        "position": held.position(),
    });
    let mut replicator = Replicator::new(
        opened.source.store.clone(),
        opened.replica.store.clone(),
        &opened.keys,
        world(),
        opened.options(name),
        None,
    );
    match replicator.sync(Run { dry_run: true, ..Run::default() }).await {
        Ok(summary) => {
            value["position"] = json!(summary.position);
            value["source"] = json!(summary.source);
            value["lag_seconds"] = json!(summary.lag_seconds);
            value["behind_objects"] = json!(summary.objects);
            value["behind_bytes"] = json!(summary.bytes);
            value["kept_bytes"] = json!(summary.deletions.waiting_bytes + summary.deletions.bytes);
            value["strange"] = json!(summary.strange);
            value["complete"] = complete(&summary).into();
            if !complete(&summary) {
                // Of nothing it can't be told how old it is.
                value["lag_seconds"] = Value::Null;
            }
            // What is noted outlives what it speaks of.
            let lost = !complete(&summary) && !standing.segment.is_empty();
            value["lost"] = lost.into();
            let gone = "its log and its roots are gone: nothing would come back from it now".to_owned();
            let missing: Vec<String> =
                lost.then_some(gone).into_iter().chain(summary.damaged.iter().map(ToString::to_string)).collect();
            value["trouble"] = if missing.is_empty() { Value::Null } else { missing.join("; ").into() };
        }
        Err(error) => {
            let trouble = replica_trouble(name, &error);
            value["trouble"] = unseen(name, &trouble)["trouble"].clone();
        }
    }
    let well = value["trouble"].is_null() && standing.brake.is_empty() && standing.damaged == 0;
    value["well"] = (well && value["complete"] == true).into();
    value
}

/// Whether a copy has come to its end, and what says so is there. Without that there is nothing in it to go on from.
fn complete(summary: &Summary) -> bool {
    let empty_library = summary.source.segment.is_empty() && summary.objects == 0;
    empty_library || !summary.position.segment.is_empty()
}

fn told(value: &Value) -> String {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let moment = |name: &str| {
        let seconds = value[name].as_i64();
        seconds.map(|seconds| words::moment(haven_format::record::Time { seconds, nanos: 0 }))
    };
    let mut out = format!("{}\n", text("name"));
    let mut row = |name: &str, value: String| out += &format!("  {name:<10}{value}\n");
    if !text("url").is_empty() {
        row("at", text("url"));
    }
    if let Some(source) = value["source"].as_object() {
        let behind = value["behind_objects"].as_u64().unwrap_or_default();
        let number = |name: &str| source[name].as_u64().unwrap_or_default();
        let left = format!(
            "{}, {}",
            words::count(behind as usize, "object"),
            words::bytes(value["behind_bytes"].as_u64().unwrap_or_default())
        );
        row(
            "behind",
            if value["lost"] == true {
                format!("COMPLETE NO MORE: {left} are still to be copied")
            } else if value["complete"] == false {
                format!("NEVER COMPLETE: {left} are still to be copied")
            } else if behind == 0 {
                format!("nothing: it has everything up to change {}", number("tx"))
            } else {
                format!("{:.0} s, {left}", value["lag_seconds"].as_f64().unwrap_or_default())
            },
        );
    }
    if let Some(noted) = moment("noted") {
        row("noted", noted);
        row("verified", moment("verified").unwrap_or_else(|| "not once through yet".into()));
    }
    if value["kept_bytes"].as_u64().unwrap_or_default() > 0 {
        row(
            "kept yet",
            format!("{} that the library has deleted", words::bytes(value["kept_bytes"].as_u64().unwrap_or(0))),
        );
    }
    for (name, label) in [("brake", "BRAKE"), ("trouble", "TROUBLE")] {
        if !text(name).is_empty() {
            row(label, text(name));
        }
    }
    if value["damaged"].as_u64().unwrap_or_default() > 0 {
        row(
            "DAMAGED",
            format!(
                "{} that nothing could mend",
                words::count(value["damaged"].as_u64().unwrap_or(0) as usize, "object")
            ),
        );
    }
    out
}
