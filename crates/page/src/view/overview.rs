//! The first page: is it safe, what is the matter, where are they, what happens.

use maud::{Markup, html};

use super::{Frame, Tell, copies, findings, now, runs, signs};
use crate::model::{Overview, Upcoming};

/// What of it is kept up to date.
pub const PARTS: [&str; 5] = ["safe", "findings", "copies", "now", "recent"];

pub fn page(frame: &Frame, overview: &Overview) -> Markup {
    let content = html! {
        div data-part="safe" class="safe-part" aria-live="polite" aria-atomic="true" { (safe(overview)) }
        div data-part="findings" { (short_findings(overview, &frame.tell)) }
        div data-part="copies" { (where_they_are(overview, &frame.tell)) }
        div data-part="now" { (now::part(overview, &frame.tell)) }
        div data-part="recent" { (recent(overview, &frame.tell)) }
    };
    frame.page(signs::colour(overview.colour).1, &PARTS, &content)
}

/// One of [`PARTS`] anew.
pub fn part(name: &str, overview: &Overview, tell: &Tell) -> Option<Markup> {
    match name {
        "safe" => Some(safe(overview)),
        "findings" => Some(short_findings(overview, tell)),
        "copies" => Some(where_they_are(overview, tell)),
        "now" => Some(now::part(overview, tell)),
        "recent" => Some(recent(overview, tell)),
        _ => None,
    }
}

fn safe(overview: &Overview) -> Markup {
    let (class, word) = signs::colour(overview.colour);
    html! {
        div class={ "safe " (class) } {
            (signs::shape(class))
            div {
                h1 { span class="state" { (word) ": " } (overview.safe_sentence) }
                p class="of" { (overview.library) }
            }
        }
    }
}

fn short_findings(overview: &Overview, tell: &Tell) -> Markup {
    html! {
        section aria-labelledby="h-findings" {
            h2 id="h-findings" { "What is the matter" }
            @if overview.findings.is_empty() {
                p { "Nothing." }
            } @else {
                ul class="findings" {
                    @for finding in findings::by_weight(&overview.findings) {
                        li {
                            (signs::badge(signs::severity(finding.severity))) " "
                            a href={ "/findings#" (findings::anchor(finding)) } { (finding.title) }
                            span class="since" { " since " (tell.when(finding.since)) }
                        }
                    }
                }
            }
            (score(overview))
        }
    }
}

/// The digits of 3-2-1-1-0, and what is missing.
pub fn score(overview: &Overview) -> Markup {
    let digits = &overview.score.digits;
    html! {
        @if !digits.is_empty() {
            h3 { "The 3-2-1-1-0 rule" }
            ol class="score" {
                @for digit in digits {
                    @let (class, word) = if digit.met { ("good", "met") } else { ("bad", "missing") };
                    li class=(class) {
                        span class="digit" { (digit.digit) }
                        span class="asks" { (signs::shape(class)) " " (digit.asks) ": " (word) }
                        span class="why" { (digit.why) }
                    }
                }
            }
        }
    }
}

fn where_they_are(overview: &Overview, tell: &Tell) -> Markup {
    html! {
        section aria-labelledby="h-copies" {
            h2 id="h-copies" { "Where the photos are" }
            (copies::picture(&overview.copies, tell))
            p { a href="/copies" { "All about each copy" } }
        }
    }
}

fn recent(overview: &Overview, tell: &Tell) -> Markup {
    html! {
        section aria-labelledby="h-recent" {
            h2 id="h-recent" { "What was done last" }
            @if overview.runs.is_empty() { p { "Nothing has run yet." } }
            @else { (runs::table("The newest runs", overview.runs.iter().take(8), tell)) }
            p { a href="/runs" { "All runs" } }
        }
        (upcoming(&overview.upcoming, tell))
    }
}

pub fn upcoming(upcoming: &[Upcoming], tell: &Tell) -> Markup {
    html! {
        @if !upcoming.is_empty() {
            section aria-labelledby="h-next" {
                h2 id="h-next" { "What comes next" }
                div class="wide" role="region" aria-label="What comes next, table" tabindex="0" {
                    table {
                        caption { "Runs that are due, soonest first" }
                        thead { tr { th scope="col" { "What" } th scope="col" { "When" } th scope="col" { "Schedule" } } }
                        tbody {
                            @for due in upcoming.iter().take(12) {
                                tr {
                                    th scope="row" { (runs::named(&due.kind, &due.subject)) }
                                    td { (tell.when(due.at)) }
                                    td { (due.schedule) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
