//! Drills: whether what was kept really came back.

use maud::{Markup, html};

use super::{Frame, signs, words::span};
use crate::model::DrillReport;

/// Reports on the page: the newest.
const SHOWN: usize = 60;

pub fn page(frame: &Frame, drills: &[DrillReport]) -> Markup {
    let content = html! {
        h1 { "Drills" }
        p { "A drill brings photos and database back from a copy, to a scratch place, and compares. Level 0 opens and samples, level 1 reads every photo, level 2 brings back all of it with its database." }
        @if drills.is_empty() {
            p class="said warn" { (signs::shape("warn")) " There was none yet. Until one was good, nobody knows whether the copies can be used." }
        }
        @for (n, drill) in drills.iter().take(SHOWN).enumerate() { (one(frame, drill, n)) }
        @if drills.len() > SHOWN { p { "Older reports lie in .haven/drills in the library." } }
    };
    frame.page("Drills", &[], &content)
}

fn one(frame: &Frame, drill: &DrillReport, n: usize) -> Markup {
    let known = !drill.copy.is_empty();
    let state = match (known, drill.good, drill.sealed) {
        (true, true, _) => ("good", "good"),
        (true, false, _) => ("bad", "failed"),
        (false, _, None) => ("unknown", "can't be read"),
        (false, ..) => ("bad", "not believed"),
    };
    html! {
        article class={ "drill " (state.0) } aria-labelledby={ "d-" (n) } {
            h2 id={ "d-" (n) } {
                @if known { "Level " (drill.level) " from " (drill.copy) ", " (frame.tell.at(drill.at)) } @else { (drill.id) }
            }
            p { (signs::badge(state)) @if known { " in " (span(drill.seconds)) }
                @if !drill.point.is_empty() { ", of the point " (drill.point) }
                @match drill.sealed {
                    Some(true) => "; the report's seal holds",
                    Some(false) => strong { "; the report's seal does not hold: somebody has changed it" },
                    None => {}
                }
            }
            @if !drill.steps.is_empty() {
                details open[n == 0 || !drill.good] {
                    summary { "Its steps" }
                    div class="wide" role="region" aria-label={ "Steps of drill " (n + 1) ", table" } tabindex="0" {
                        table {
                            caption { "Steps of this drill, in order" }
                            thead { tr { th scope="col" { "Step" } th scope="col" { "Verdict" } th scope="col" { "What was seen" } th scope="col" { "Took" } } }
                            tbody { @for step in &drill.steps { tr {
                                th scope="row" { (step.name) }
                                td { (signs::badge(if step.good { ("good", "good") } else { ("bad", "failed") })) }
                                td { (step.said) }
                                td class="number" { (span(step.seconds)) }
                            } } }
                        }
                    }
                }
            }
        }
    }
}
