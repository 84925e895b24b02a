//! Lines over time, as SVG. Lines differ by their dashes and are named where they end, so no colour has to be seen.

use maud::{Markup, html};

use super::{Tell, words::cut};
use crate::model::Time;

/// A line: its name, and its points in the order of time.
pub struct Line {
    pub name: &'static str,
    pub points: Vec<(Time, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 28.0;
/// More points than the picture is wide show nothing more.
const POINTS_MAX: usize = 400;

/// Where the marks of an axis from nothing to `most` are: four or five round numbers.
pub fn marks(most: f64) -> Vec<f64> {
    if most <= 0.0 || !most.is_finite() {
        return vec![0.0, 1.0];
    }
    let rough = most / 4.0;
    let scale = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|n| n * scale).find(|step| *step >= rough).unwrap_or(rough);
    let count = (most / step).ceil() as u32;
    (0..=count).map(|n| f64::from(n) * step).collect()
}

/// Fewer points, the first and the last among them.
fn thinned(points: &[(Time, f64)]) -> Vec<(Time, f64)> {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let mut few: Vec<_> = points.iter().copied().step_by(step).collect();
    if let (Some(last), Some(end)) = (points.last(), few.last())
        && last.0 != end.0
    {
        few.push(*last);
    }
    few
}

/// `said`: the whole in a sentence, for who does not see it. `unit`: a value as text.
pub fn plot(said: &str, lines: &[Line], unit: impl Fn(f64) -> String, tell: &Tell) -> Markup {
    let all = || lines.iter().flat_map(|line| &line.points);
    let (Some(from), Some(to)) = (all().map(|point| point.0).min(), all().map(|point| point.0).max()) else {
        return html! { p { "There is nothing to draw yet." } };
    };
    let marks = marks(all().map(|point| point.1).fold(0.0, f64::max));
    let most = marks.last().copied().unwrap_or(1.0);
    let length = ((to - from) as f64).max(1.0);
    let x = |at: Time| LEFT + (at - from) as f64 / length * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (1.0 - value / most) * (HEIGHT - TOP - BOTTOM);
    let path = |line: &Line| -> String {
        let step = |(n, (at, value)): (usize, &(Time, f64))| {
            format!("{}{:.1} {:.1}", if n == 0 { 'M' } else { 'L' }, x(*at), y(*value))
        };
        thinned(&line.points).iter().enumerate().map(step).collect()
    };
    html! {
        svg class="plot" role="img" aria-label=(said) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } {
            @for mark in &marks {
                path class="grid" d={ "M" (LEFT) " " (format!("{:.1}", y(*mark))) "H" (WIDTH - RIGHT) } {}
                text class="mark" x=(LEFT - 8.0) y=(format!("{:.1}", y(*mark) + 4.0)) text-anchor="end" { (unit(*mark)) }
            }
            @for (n, at) in times(from, to).into_iter().enumerate() {
                @let anchor = ["start", "middle", "end"][n];
                text class="mark" x=(format!("{:.1}", x(at))) y=(HEIGHT - 8.0) text-anchor=(anchor) { (day_or_clock(at, from, to, tell)) }
            }
            @for (n, line) in lines.iter().enumerate() {
                path class={ "line line" (n) } d=(path(line)) {}
                @if let Some((at, value)) = line.points.last() {
                    circle class={ "dot line" (n) } cx=(format!("{:.1}", x(*at))) cy=(format!("{:.1}", y(*value))) r="3.5" {}
                    @let below = if lines.len() > 1 && n > 0 { 22.0 } else { -8.0 };
                    text class={ "label line" (n) } x=(format!("{:.1}", x(*at) - 6.0)) y=(format!("{:.1}", (y(*value) + below).clamp(12.0, HEIGHT - BOTTOM - 4.0))) text-anchor="end" {
                        (cut(line.name, 28))
                    }
                }
            }
        }
    }
}

fn times(from: Time, to: Time) -> Vec<Time> {
    if to - from < 3 { vec![from] } else { vec![from, from + (to - from) / 2, to] }
}

fn day_or_clock(at: Time, from: Time, to: Time, tell: &Tell) -> String {
    if to - from < 2 * 86_400 { tell.clock(at) } else { tell.day(at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers_that_reach_the_top() {
        for most in [0.3, 1.0, 7.0, 99.0, 1234.0, 5.5e12] {
            let marks = marks(most);
            assert!((2..=6).contains(&marks.len()) && marks[0] == 0.0, "{most}: {marks:?}");
            assert!(marks.last().is_some_and(|top| *top >= most), "{most}: {marks:?}");
        }
        assert_eq!(marks(0.0), [0.0, 1.0]);
        assert_eq!(marks(f64::NAN), [0.0, 1.0]);
    }

    #[test]
    fn many_points_are_thinned_and_the_newest_stays() {
        let many: Vec<_> = (0..10_000).map(|n| (n, n as f64)).collect();
        let few = thinned(&many);
        assert!(few.len() <= POINTS_MAX + 1 && few.first() == many.first() && few.last() == many.last());
        assert_eq!(thinned(&many[..1]), many[..1]);
    }

    #[test]
    fn one_point_and_none_are_drawn() {
        let tell = Tell { zone: jiff::tz::TimeZone::UTC, now: 0 };
        let line = |points| [Line { name: "bytes", points }];
        assert!(plot("", &line(Vec::new()), |v| v.to_string(), &tell).into_string().contains("nothing to draw"));
        let text = plot("One", &line(vec![(5, 2.0)]), |v| v.to_string(), &tell).into_string();
        assert!(text.contains("aria-label=\"One\"") && !text.contains("NaN"), "{text}");
    }
}
