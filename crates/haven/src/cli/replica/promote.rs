//! `haven replica promote`: a replica takes the library's place.

use haven_replica::{PromoteOptions, promote};
use serde_json::json;

use super::{Context, open_alone, replica_trouble, world};
use crate::{
    report::{self, Trouble},
    secret::KeyArgs,
    words,
};

/// Make a replica the library
///
/// For the day the library's own place is lost, or is to be left. The old library, if it can still be reached, is claimed
/// first, so that a machine that writes there notices and stops; and it says from then on where the library is. Refused
/// as long as the old library has changes that the replica lacks, or can't be asked, unless --accept-loss.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haven replica sync home && haven replica promote home")]
pub struct PromoteArgs {
    name: String,
    /// Go on without the changes that only the old library has, or may have
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    key: KeyArgs,
}

pub async fn run(context: &Context, args: PromoteArgs) -> Result<(), Trouble> {
    let opened = open_alone(context, &args.name, &args.key).await?;
    let url = opened.config.own.url.clone();
    let options = PromoteOptions {
        url: url.clone(),
        accept_loss: args.accept_loss,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let old = match &opened.source {
        Ok(source) => Ok(&source.store),
        Err(trouble) => {
            Err(std::iter::once(&trouble.what).chain(&trouble.because).cloned().collect::<Vec<_>>().join(": "))
        }
    };
    let done = promote(&opened.replica.store, old, &opened.keys, &world(), &options)
        .await
        .map_err(|error| replica_trouble(&args.name, &error))?;
    let mut text = format!("{url} is the library now, from {} on (epoch {})\n", done.position, done.epoch);
    text += &match (&done.old, &done.old_trouble) {
        (Some(old), None) if done.lost_changes > 0 => {
            let lost = words::count(done.lost_changes as usize, "change");
            format!("the old library ended with {old}: {lost} of it are there and nowhere else\n")
        }
        (Some(old), None) => format!("the old library ended with {old}: nothing of it is lost\n"),
        (Some(old), Some(why)) => format!(
            "the old library ended with {old}, {} of it are there and nowhere else; it could not be told ({why}), and a \
             machine that still writes there does not know\n",
            words::count(done.lost_changes as usize, "change")
        ),
        (_, why) => format!(
            "the old library could not be asked ({}): what it had beyond this is not here, and a machine that still \
             writes there does not know\n",
            why.as_deref().unwrap_or("it did not answer")
        ),
    };
    text += &format!(
        "\nMount it:    haven mount {url} MOUNTPOINT\nhaven.toml:  library.url = \"{url}\", and no replica \"{}\" any more\n",
        args.name
    );
    if !done.fenced {
        report::warn("make sure that nobody writes to the old library any more: there would be two");
    }
    context.answer(&json!({ "name": args.name, "url": url, "promoted": done }), &text)
}
