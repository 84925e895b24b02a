//! What is the matter: what it means, and what to do.

use maud::{Markup, html};

use super::{Frame, Here, overview, signs, words};
use crate::model::{Finding, Overview};

pub const PARTS: [&str; 1] = ["all-findings"];

/// Where a finding is on its page.
pub fn anchor(finding: &Finding) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("{}-{}", finding.key, finding.subject)
        .chars()
        .map(plain)
        .collect::<String>()
        .trim_end_matches('-')
        .to_owned()
}

/// The gravest first, then the oldest.
pub fn by_weight(findings: &[Finding]) -> Vec<&Finding> {
    let mut sorted: Vec<_> = findings.iter().collect();
    sorted.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.since));
    sorted
}

pub fn page(frame: &Frame, overview: &Overview) -> Markup {
    debug_assert_eq!(frame.here, Here::Findings);
    let content = html! {
        h1 { "Findings" }
        div data-part="all-findings" { (part(frame, overview)) }
        @if !frame.read_only {
            section aria-labelledby="h-alerts" {
                h2 id="h-alerts" { "Are alerts heard?" }
                form method="post" action="/act" {
                    (frame.secret())
                    input type="hidden" name="do" value="alert-test";
                    button type="submit" { "Send a test message through every channel" }
                }
            }
        }
    };
    frame.page("Findings", &PARTS, &content)
}

pub fn part(frame: &Frame, overview: &Overview) -> Markup {
    html! {
        @if overview.findings.is_empty() {
            p class="said good" { (signs::shape("good")) " Nothing is the matter." }
        }
        @for finding in by_weight(&overview.findings) { (one(frame, finding)) }
        section { (overview::score(overview)) }
    }
}

fn one(frame: &Frame, finding: &Finding) -> Markup {
    let id = anchor(finding);
    let (class, _) = signs::severity(finding.severity);
    html! {
        article id=(id) class={ "finding " (class) } aria-labelledby={ "t-" (id) } {
            h2 id={ "t-" (id) } { (finding.title) }
            p { (signs::badge(signs::severity(finding.severity))) " since " (frame.tell.when(finding.since)) }
            @if !finding.meaning.is_empty() { h3 { "What it means" } p { (finding.meaning) } }
            @if !finding.next.is_empty() {
                h3 { "What to do" }
                ol class="next" { @for step in &finding.next { li { (command(step)) } } }
            }
            p class="key" { "In the manual and in alerts: " code { (finding.key) }
                @if !finding.subject.is_empty() { ", " (finding.subject) } }
            @if !frame.read_only { (hush(frame, finding, &id)) }
        }
    }
}

/// A step; what is to be typed stands out.
fn command(step: &str) -> Markup {
    match step.split_once("    ") {
        Some((typed, why)) if typed.starts_with("haven ") => html! { code { (typed) } " " (why.trim()) },
        None if step.starts_with("haven ") => html! { code { (step) } },
        _ => html! { (step) },
    }
}

fn hush(frame: &Frame, finding: &Finding, id: &str) -> Markup {
    html! {
        form method="post" action="/act" class="row" {
            (frame.secret())
            input type="hidden" name="do" value="hush";
            input type="hidden" name="key" value=(finding.key);
            input type="hidden" name="subject" value=(finding.subject);
            label for={ "d-" (id) } { "Send no alerts for this, for " }
            select id={ "d-" (id) } name="days" {
                @for (days, text) in [("1", "a day"), ("7", "a week"), ("30", "a month")] { option value=(days) { (text) } }
            }
            button type="submit" class="quiet" aria-describedby={ "t-" (id) } { "Hush" }
        }
    }
}

/// What came of something that a person asked for.
pub fn done(frame: &Frame, title: &str, said: &str, back: &str) -> Markup {
    let content = html! {
        h1 { (title) }
        p class="said good" role="status" { (signs::shape("good")) " " (said) }
        p { a href=(back) { "Back" } }
    };
    frame.page(&words::cut(title, 60), &[], &content)
}
