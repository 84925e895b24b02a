//! How large it was and what it costs, over time.

use maud::{Markup, html};

use super::{
    Frame, Tell,
    plot::{Line, plot},
    words::{bytes, grouped},
};
use crate::model::GrowthPoint;

/// Rows of the table: the newest.
const ROWS: usize = 60;

pub fn page(frame: &Frame, points: &[GrowthPoint]) -> Markup {
    let content = html! {
        h1 { "Growth and cost" }
        @if points.is_empty() {
            p { "Nothing has been measured yet. The first numbers come with the first day." }
        } @else {
            (size(points, &frame.tell))
            (files(points, &frame.tell))
            (cost(points, &frame.tell))
            (table(points, &frame.tell))
        }
    };
    frame.page("Growth and cost", &[], &content)
}

fn line(name: &'static str, points: &[GrowthPoint], value: impl Fn(&GrowthPoint) -> Option<f64>) -> Line {
    Line { name, points: points.iter().filter_map(|point| Some((point.at, value(point)?))).collect() }
}

/// From what to what, in words.
fn said(what: &str, line: &Line, unit: impl Fn(f64) -> String, tell: &Tell) -> String {
    match (line.points.first(), line.points.last()) {
        (Some(first), Some(last)) => format!(
            "{what}: {} on {}, {} on {}.",
            unit(first.1),
            tell.moment(first.0),
            unit(last.1),
            tell.moment(last.0)
        ),
        _ => format!("{what}: not known."),
    }
}

fn size(points: &[GrowthPoint], tell: &Tell) -> Markup {
    let unit = |value: f64| bytes(value as u64);
    let lines = [
        line("as files", points, |point| Some(point.file_bytes as f64)),
        line("in the bucket", points, |point| Some(point.stored_bytes as f64)),
    ];
    let text = format!(
        "{} {}",
        said("Size of the files", &lines[0], unit, tell),
        said("Bytes in the bucket", &lines[1], unit, tell)
    );
    html! { section aria-labelledby="h-size" { h2 id="h-size" { "Size" } (plot(&text, &lines, unit, tell)) } }
}

fn files(points: &[GrowthPoint], tell: &Tell) -> Markup {
    let unit = |value: f64| grouped(value as u64);
    let lines = [line("files", points, |point| Some(point.files as f64))];
    let text = said("Number of files", &lines[0], unit, tell);
    html! { section aria-labelledby="h-files" { h2 id="h-files" { "Files" } (plot(&text, &lines, unit, tell)) } }
}

fn cost(points: &[GrowthPoint], tell: &Tell) -> Markup {
    let lines = [line("a month", points, |point| point.cost_month)];
    let currency = points.last().map(|point| point.currency.clone()).unwrap_or_default();
    let unit = |value: f64| format!("{value:.2} {currency}");
    html! {
        section aria-labelledby="h-cost" {
            h2 id="h-cost" { "Cost" }
            @if lines[0].points.is_empty() {
                p { "No price is known: set what the bucket costs in haven.toml." }
            } @else {
                (plot(&said("Cost of a month", &lines[0], unit, tell), &lines, unit, tell))
            }
        }
    }
}

fn table(points: &[GrowthPoint], tell: &Tell) -> Markup {
    html! {
        details {
            summary { "The numbers as a table" }
            div class="wide" role="region" aria-label="Growth and cost, table" tabindex="0" {
                table {
                    caption { "Size and cost, newest first" }
                    thead { tr {
                        th scope="col" { "When" } th scope="col" { "Files" } th scope="col" { "As files" }
                        th scope="col" { "In the bucket" } th scope="col" { "A month costs" }
                    } }
                    tbody { @for point in points.iter().rev().take(ROWS) { tr {
                        th scope="row" { (tell.at(point.at)) }
                        td class="number" { (grouped(point.files)) }
                        td class="number" { (bytes(point.file_bytes)) }
                        td class="number" { (bytes(point.stored_bytes)) }
                        td class="number" { @if let Some(cost) = point.cost_month { (format!("{cost:.2} {}", point.currency)) } @else { "not known" } }
                    } } }
                }
            }
        }
    }
}
