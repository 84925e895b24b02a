//! `haven claims`: who wrote to the library, and when.

use haven_format::{claim::Claim, layout};
use haven_store::ObjectName;
use serde::Serialize;

use super::{Context, UrlArg};
use crate::{
    library::{self, store_trouble},
    report::{self, Trouble, UNTOUCHED},
    secret::KeyArgs,
    words,
};

/// Show which machines have written to the library, newest first
///
/// Each writable mount claims the library for its machine; the newest claim is the one that may write.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    url: UrlArg,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Serialize)]
struct Shown {
    epoch: u64,
    host: String,
    time: String,
    version: String,
    segment: String,
}

pub async fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let store = library::open_place(&args.url.place(&context.config)?)?.store;
    let found = library::find(&store).await?;
    let open = found.unlock(&args.key.source(&context.config.key).read()?)?;
    let unreadable = |name: &str, error| store_trouble(format!("{name} can't be read"), &error).meaning(UNTOUCHED);
    let names =
        library::list_all(&store, layout::CLAIMS).await.map_err(|error| unreadable("the list of claims", error))?;
    let mut claims = Vec::new();
    for name in names.iter().rev().filter(|name| layout::parse_claim(name).is_some()) {
        let object = ObjectName::new(name.clone()).expect("it was listed");
        let body = store.get(&object).await.map_err(|error| unreadable(name, error))?;
        match Claim::open(open.keys(), name, &body) {
            Ok(claim) => claims.push(claim),
            Err(error) => report::warn(format!("{name} is damaged: {error}")),
        }
    }
    let rows: Vec<_> = claims
        .iter()
        .map(|claim| [claim.epoch.to_string(), claim.host.clone(), words::moment(claim.time), claim.version.clone()])
        .collect();
    let text = if rows.is_empty() {
        "nobody has written to this library yet\n".to_owned()
    } else {
        words::table(["EPOCH", "HOST", "SINCE", "HAVEN"], &rows)
    };
    let shown: Vec<Shown> = claims
        .into_iter()
        .map(|claim| Shown {
            epoch: claim.epoch,
            host: claim.host,
            time: words::iso(claim.time),
            version: claim.version,
            segment: claim.segment,
        })
        .collect();
    context.answer(&serde_json::json!({ "claims": shown }), &text)
}
