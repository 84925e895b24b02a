//! What was done and when: a lane for each kind, and a table.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{
    Frame, Tell, signs,
    words::{bytes, count, cut, encoded, span},
};
use crate::model::{Overview, Run, RunFilter, Time, Verdict};

pub const PARTS: [&str; 1] = ["timeline"];

/// How far back a page looks: its word in the address, its name, seconds.
pub const SPANS: [(&str, &str, i64); 4] = [
    ("day", "the last day", 86_400),
    ("week", "the last week", 7 * 86_400),
    ("month", "the last month", 31 * 86_400),
    ("year", "the last year", 366 * 86_400),
];

pub fn seconds_of(word: &str) -> i64 {
    SPANS.iter().find(|(known, ..)| *known == word).map_or(SPANS[1].2, |(_, _, seconds)| *seconds)
}

/// `replica far`.
pub fn named(kind: &str, subject: &str) -> String {
    if subject.is_empty() { kind.to_owned() } else { format!("{kind} {subject}") }
}

pub fn page(
    frame: &Frame,
    overview: &Overview,
    runs: &[Run],
    filter: &RunFilter,
    span_word: &str,
    kinds: &[String],
) -> Markup {
    let content = html! {
        h1 { "Runs" }
        form method="get" action="/runs" class="row" {
            label for="kind" { "Kind " }
            select id="kind" name="kind" {
                option value="" selected[filter.kind.is_none()] { "all" }
                @for kind in kinds { option value=(kind) selected[filter.kind.as_ref() == Some(kind)] { (kind) } }
            }
            label for="span" { "From " }
            select id="span" name="span" {
                @for (word, name, _) in SPANS { option value=(word) selected[word == span_word] { (name) } }
            }
            button type="submit" class="quiet" { "Show" }
        }
        div data-part="timeline" { (part(runs, seconds_of(span_word), &frame.tell)) }
        (super::overview::upcoming(&overview.upcoming, &frame.tell))
        @if !frame.read_only { (start_now(frame, overview)) }
    };
    frame.page("Runs", &PARTS, &content)
}

pub fn part(runs: &[Run], length: i64, tell: &Tell) -> Markup {
    html! {
        @if runs.is_empty() { p { "Nothing ran in this time." } }
        @else {
            (timeline(runs, length, tell))
            (table("Runs, newest first", runs.iter(), tell))
        }
    }
}

fn start_now(frame: &Frame, overview: &Overview) -> Markup {
    let mut jobs: Vec<(&str, &str)> =
        overview.upcoming.iter().map(|due| (due.kind.as_str(), due.subject.as_str())).collect();
    jobs.sort_unstable();
    jobs.dedup();
    html! {
        section aria-labelledby="h-start" {
            h2 id="h-start" { "Start something now" }
            div class="row" {
                @for (kind, subject) in jobs {
                    form method="post" action="/act" {
                        (frame.secret())
                        input type="hidden" name="do" value="run-now";
                        input type="hidden" name="kind" value=(kind);
                        input type="hidden" name="subject" value=(subject);
                        button type="submit" class="quiet" { "Run " (named(kind, subject)) }
                    }
                }
                form method="post" action="/act" {
                    (frame.secret())
                    input type="hidden" name="do" value="flush";
                    button type="submit" class="quiet" { "Send everything to the bucket" }
                }
            }
        }
    }
}

const LEFT: f64 = 110.0;
const WIDTH: f64 = 760.0;
const LANE: usize = 30;

fn timeline(runs: &[Run], length: i64, tell: &Tell) -> Markup {
    let mut lanes: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        lanes.entry(&run.kind).or_default().push(run);
    }
    let from = tell.now - length;
    let x = |at: Time| (LEFT + (at - from) as f64 / length as f64 * (WIDTH - LEFT - 12.0)).clamp(LEFT, WIDTH - 12.0);
    let height = lanes.len() * LANE + 30;
    html! {
        svg class="timeline" role="img" aria-label={ "Timeline. " (described(&lanes)) } viewBox={ "0 0 " (WIDTH) " " (height) } {
            @for (n, (kind, runs)) in lanes.iter().enumerate() {
                @let y = n * LANE + 8;
                path class="grid" d={ "M" (LEFT) " " (y + 10) "H" (WIDTH - 12.0) } {}
                text class="mark" x="4" y=(y + 15) { (cut(kind, 14)) }
                @for run in runs {
                    @let class = signs::verdict(run.verdict).0;
                    @let (start, end) = (x(run.started), x(run.started + run.seconds as i64));
                    @if end - start > 20.0 {
                        rect class={ "bar " (class) } x=(format!("{start:.1}")) y=(y + 5) width=(format!("{:.1}", end - start)) height="10" rx="3" {}
                    }
                    svg class={ "sign " (class) } x=(format!("{:.1}", start - 7.0)) y=(y + 3) width="14" height="14" viewBox="0 0 16 16" { (signs::drawn(class)) }
                }
            }
            @for (at, anchor) in [(from, "start"), (from + length / 2, "middle"), (tell.now, "end")] {
                text class="mark" x=(format!("{:.1}", x(at))) y=(height - 6) text-anchor=(anchor) {
                    @if length <= 2 * 86_400 { (tell.clock(at)) } @else { (tell.day(at)) }
                }
            }
        }
        p class="legend" aria-hidden="true" {
            @for verdict in [Verdict::Good, Verdict::Warning, Verdict::Failed, Verdict::Missed, Verdict::Running, Verdict::Interrupted] {
                (signs::badge(signs::verdict(verdict))) " "
            }
        }
    }
}

fn described(lanes: &BTreeMap<&str, Vec<&Run>>) -> String {
    let lane = |(kind, runs): (&&str, &Vec<&Run>)| {
        let bad = runs.iter().filter(|run| matches!(run.verdict, Verdict::Failed | Verdict::Missed)).count();
        let bad = if bad == 0 { "none failed or missed".to_owned() } else { format!("{bad} failed or missed") };
        format!("{kind}: {}, {bad}.", count(runs.len() as u64, "run"))
    };
    lanes.iter().map(lane).collect::<Vec<_>>().join(" ")
}

pub fn table<'a>(caption: &str, runs: impl Iterator<Item = &'a Run>, tell: &Tell) -> Markup {
    html! {
        div class="wide" role="region" aria-label={ (caption) ", table" } tabindex="0" {
            table {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "What" } th scope="col" { "When" } th scope="col" { "How long" }
                    th scope="col" { "Verdict" } th scope="col" { "What came of it" } th scope="col" { "Bytes" }
                } }
                tbody { @for run in runs { tr {
                    th scope="row" { a href={ "/runs/" (run.id) } { (named(&run.kind, &run.subject)) } }
                    td { (tell.when(run.started)) }
                    td class="number" { (span(run.seconds)) }
                    td { (signs::badge(signs::verdict(run.verdict))) }
                    td { (run.said) }
                    td class="number" { @if let Some(moved) = run.bytes { (bytes(moved)) } }
                } } }
            }
        }
    }
}

/// One run with its log.
pub fn one(frame: &Frame, run: Option<&Run>, id: i64, log: &str) -> Markup {
    let title = run.map_or_else(|| format!("Run {id}"), |run| named(&run.kind, &run.subject));
    let content = html! {
        h1 { (title) }
        @if let Some(run) = run {
            dl class="facts" {
                div { dt { "Verdict" } dd { (signs::badge(signs::verdict(run.verdict))) " " (run.said) } }
                div { dt { "Began" } dd { (frame.tell.when(run.started)) } }
                div { dt { "Took" } dd { (span(run.seconds)) } }
                @if let Some(moved) = run.bytes { div { dt { "Bytes" } dd { (bytes(moved)) } } }
            }
        }
        h2 id="h-log" { "Log" }
        @if log.is_empty() { p { "Nothing was kept." } }
        @else { pre role="region" aria-labelledby="h-log" tabindex="0" { (log) } }
        p { a href={ "/runs" @if let Some(run) = run { "?kind=" (encoded(&run.kind)) } } { "Other runs" } }
    };
    frame.page(&title, &[], &content)
}
