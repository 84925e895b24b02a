//! `haven health`: are the photos safe?

use haven_keeper::findings::{Finding, Severity, long};
use serde_json::json;

use super::Context;
use crate::{
    keeper::{Seen, look_from_outside, look_now_or_then, seconds},
    report::{Code, Trouble},
};

/// Tell whether the photos are safe: what is amiss, what it means, what to do, and the 3-2-1-1-0 score
///
/// The score asks for three copies, of which two do not fail together, one is elsewhere, one keeps what was written
/// last even from this machine's keys, and zero errors: what is there was tried, and comes back. What the keeper saw
/// last is told; where no keeper is at work it is looked at now, as far as that goes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven health\n  haven health --json\n\nExit codes: 0 nothing is amiss; 10 something wants to be looked at (warning); 12 the photos are less safe than they\nshould be (critical)"
)]
pub struct Args {
    /// Look now, and don't ask the keeper
    #[arg(long)]
    now: bool,
}

pub fn run(context: &Context, args: &Args) -> Result<(), Trouble> {
    let (seen, by_keeper) =
        if args.now { (look_from_outside(&context.config), false) } else { look_now_or_then(&context.config) };
    let worst = seen.findings.iter().map(|finding| finding.severity).max();
    let value = json!({
        "at": seen.state.now,
        "by_keeper": by_keeper,
        "sentence": seen.sentence,
        "colour": seen.colour,
        "score": seen.score.as_ref().map(|score| json!({ "shown": score.shown(), "digits": score.digits })),
        "findings": seen.findings,
        "state": seen.state,
    });
    context.answer(&value, &told(&seen))?;
    let (code, what) = match worst {
        None | Some(Severity::Info) => return Ok(()),
        Some(Severity::Warning) => (Code::Held, "something wants to be looked at"),
        Some(Severity::Critical) => (Code::Unsafe, "the photos are less safe than they should be"),
    };
    Err(Trouble::new(code, what).next("each finding above says what to do"))
}

fn told(seen: &Seen) -> String {
    let mut out = format!("{}\n", seen.sentence);
    let now = seconds();
    for finding in &seen.findings {
        out += &one(finding, now);
    }
    if let Some(score) = &seen.score {
        out += &format!("\n3-2-1-1-0   {}\n", score.shown());
        for digit in &score.digits {
            let sign = if digit.met { "yes" } else { "NO " };
            out += &format!("  {}  {sign}  {}: {}\n", digit.digit, digit.asks, digit.why);
        }
    }
    out
}

fn one(finding: &Finding, now: i64) -> String {
    let mut out = format!("\n{}: {}\n", finding.severity.word().to_uppercase(), finding.title);
    let since = now - finding.since;
    if finding.since > 0 && since >= 60 {
        out += &format!("  since    {} ago\n", long(since));
    }
    out += &format!("  meaning  {}\n", finding.meaning);
    for (n, step) in finding.next.iter().enumerate() {
        out += &format!("  {:<8} {step}\n", if n == 0 { "next" } else { "" });
    }
    out
}
