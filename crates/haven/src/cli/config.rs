//! `haven config`: the settings there are.

use super::Context;
use crate::{config::DEFAULTS, report::Trouble};

/// Print every setting with its default and what it does
///
/// The output is a whole haven.toml. Copy the lines you change.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(context: &Context, _: Args) -> Result<(), Trouble> {
    let file = context.config.from.as_ref().map(|path| path.display().to_string());
    context.answer(&serde_json::json!({ "defaults": DEFAULTS, "file": file }), DEFAULTS)
}
