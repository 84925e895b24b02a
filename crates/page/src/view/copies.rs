//! The copies as a picture: the library, and an arrow to each place that has one. Twice, for wide screens and for
//! phones; the style shows one of them. What the picture says stands in the table, too.

use maud::{Markup, html};

use super::{
    Frame, Tell, signs,
    words::{bytes, cut, span},
};
use crate::model::{Copy, CopyKind, Overview};

pub const PARTS: [&str; 1] = ["all-copies"];

pub fn page(frame: &Frame, overview: &Overview) -> Markup {
    let content = html! {
        h1 { "Copies" }
        div data-part="all-copies" { (part(frame, overview)) }
    };
    frame.page("Copies", &PARTS, &content)
}

pub fn part(frame: &Frame, overview: &Overview) -> Markup {
    html! {
        (picture(&overview.copies, &frame.tell))
        (table(&overview.copies, &frame.tell))
        section { (super::overview::score(overview)) }
    }
}

fn kind(copy: &Copy) -> &'static str {
    match copy.kind {
        CopyKind::Library => "library",
        CopyKind::Replica => "replica",
        CopyKind::Third => "third copy",
    }
}

fn state(copy: &Copy) -> (&'static str, &'static str) {
    match signs::colour(copy.colour) {
        (class @ "good", _) => (class, "good"),
        (class @ "warn", _) => (class, "look at it"),
        (class @ "bad", _) => (class, "not good"),
        (class, _) => (class, "not known"),
    }
}

fn lag(copy: &Copy) -> String {
    match (copy.kind, copy.lag) {
        (CopyKind::Library, Some(seconds)) => format!("{} not sent yet", span(seconds as f64)),
        (_, Some(0)) => "not behind".into(),
        (_, Some(seconds)) => format!("{} behind", span(seconds as f64)),
        (_, None) => "lag not known".into(),
    }
}

fn proven(copy: &Copy, tell: &Tell) -> String {
    match (copy.proven, copy.proof_unseen) {
        (Some(at), _) => format!("read back {}", tell.ago(at)),
        (None, true) => "last proof not known".into(),
        (None, false) => "never read back".into(),
    }
}

/// The whole in a sentence each, for who does not see it.
fn described(copies: &[Copy], tell: &Tell) -> String {
    let one = |copy: &Copy| {
        let name = if copy.name == kind(copy) { copy.name.clone() } else { format!("{} {}", kind(copy), copy.name) };
        format!(
            "{name}, at {}: {}; {}, {}{}.",
            copy.place,
            state(copy).1,
            lag(copy),
            proven(copy, tell),
            if copy.locked == Some(true) { ", locked" } else { "" },
        )
    };
    copies.iter().map(one).collect::<Vec<_>>().join(" ")
}

pub fn picture(copies: &[Copy], tell: &Tell) -> Markup {
    if copies.is_empty() {
        return html! { p { "No copy is known yet." } };
    }
    let text = described(copies, tell);
    html! {
        div class="picture" {
            (drawn(copies, tell, &text, &WIDE))
            (drawn(copies, tell, &text, &NARROW))
        }
    }
}

/// How the boxes lie.
struct Shape {
    class: &'static str,
    width: u32,
    /// Of a box.
    box_width: u32,
    /// Characters of a line in it.
    letters: usize,
    /// Where boxes of copies begin.
    left: u32,
}

const WIDE: Shape = Shape { class: "wide-only", width: 860, box_width: 350, letters: 42, left: 510 };
const NARROW: Shape = Shape { class: "narrow-only", width: 340, box_width: 300, letters: 36, left: 40 };
const HEIGHT: u32 = 104;
const GAP: u32 = 18;

fn drawn(copies: &[Copy], tell: &Tell, text: &str, shape: &Shape) -> Markup {
    let (libraries, others): (Vec<_>, Vec<_>) = copies.iter().partition(|copy| copy.kind == CopyKind::Library);
    let narrow = shape.width == NARROW.width;
    let row = |n: usize| n as u32 * (HEIGHT + GAP);
    let above = if narrow { row(libraries.len()) } else { 0 };
    let height =
        if narrow { above + row(others.len()) } else { row(others.len().max(libraries.len())) }.max(HEIGHT + GAP);
    let middle = if narrow { 0 } else { (row(others.len().max(1)) - GAP).saturating_sub(HEIGHT) / 2 };
    html! {
        svg class=(shape.class) role="img" aria-label={ "The copies. " (text) }
            viewBox={ "0 0 " (shape.width) " " (height) } {
            @for (n, _) in others.iter().enumerate() {
                @let y = above + row(n) + HEIGHT / 2;
                @if narrow {
                    path class="arrow" d={ "M16 " (HEIGHT) "V" (y) "H" (shape.left - 10) } {}
                    path class="tip" d={ "M" (shape.left - 10) " " (y - 5) "l9 5-9 5z" } {}
                } @else {
                    @let from = middle + HEIGHT / 2;
                    path class="arrow" d={ "M" (shape.box_width + 1) " " (from) "C" (shape.box_width + 90) " " (from) " "
                        (shape.left - 100) " " (y) " " (shape.left - 12) " " (y) } {}
                    path class="tip" d={ "M" (shape.left - 12) " " (y - 5) "l10 5-10 5z" } {}
                }
            }
            @for (n, copy) in libraries.iter().enumerate() { (place(copy, tell, shape, 1, middle + row(n) + 1)) }
            @for (n, copy) in others.iter().enumerate() { (place(copy, tell, shape, shape.left, above + row(n) + 1)) }
        }
    }
}

fn place(copy: &Copy, tell: &Tell, shape: &Shape, x: u32, y: u32) -> Markup {
    let (class, word) = state(copy);
    let line = |n: u32| y + 26 + n * 21;
    let name = if copy.name == kind(copy) { copy.name.clone() } else { format!("{} · {}", copy.name, kind(copy)) };
    let width = shape.box_width - 2;
    html! {
        g class={ "place " (class) } {
            rect x=(x) y=(y) width=(width) height=(HEIGHT - 2) rx="10" {}
            svg class={ "sign " (class) } x=(x + 12) y=(y + 12) width="18" height="18" viewBox="0 0 16 16" { (signs::drawn(class)) }
            text class="name" x=(x + 38) y=(line(0)) { (cut(&name, shape.letters - 6)) ": " (word) }
            text x=(x + 12) y=(line(1)) { (cut(&copy.place, shape.letters)) }
            text x=(x + 12) y=(line(2)) { (cut(&format!("{}{}", lag(copy), if copy.locked == Some(true) { ", locked" } else { "" }), shape.letters)) }
            text x=(x + 12) y=(line(3)) { (cut(&proven(copy, tell), shape.letters)) }
        }
    }
}

fn table(copies: &[Copy], tell: &Tell) -> Markup {
    html! {
        section aria-labelledby="h-each" {
            h2 id="h-each" { "Each of them" }
            div class="wide" role="region" aria-label="Each copy, table" tabindex="0" {
                table {
                    caption { "Copies of the library: where, how far behind, when last read back" }
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "State" } th scope="col" { "Where" } th scope="col" { "Behind" }
                        th scope="col" { "Last took over" } th scope="col" { "Last proof" } th scope="col" { "Size" } th scope="col" { "Locked" }
                    } }
                    tbody { @for copy in copies { tr {
                        th scope="row" { (copy.name) " " span class="kind" { (kind(copy)) } }
                        td { (signs::badge(state(copy))) " " (copy.said) }
                        td class="place" { (copy.place) }
                        td { (lag(copy)) }
                        td { @if let Some(at) = copy.synced { (tell.when(at)) } @else { "never" } }
                        td { @if let Some(at) = copy.proven { (tell.when(at)) @if !copy.proven_by.is_empty() { ", " (copy.proven_by) } } @else if copy.proof_unseen { "not known" } @else { "never" } }
                        td class="number" { @if let Some(count) = copy.bytes { (bytes(count)) } @else { "not known" } }
                        td { (match copy.locked { Some(true) => "yes", Some(false) => "no", None => "not known" }) }
                    } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Colour;

    fn copy(name: &str, kind: CopyKind) -> Copy {
        Copy {
            name: name.into(),
            kind,
            place: "sftp://nas/<haven>".into(),
            colour: Colour::Green,
            said: String::new(),
            lag: Some(0),
            verified: None,
            proven: None,
            proven_by: String::new(),
            proof_unseen: false,
            synced: None,
            bytes: None,
            locked: Some(true),
        }
    }

    #[test]
    fn the_picture_says_in_words_what_it_shows() {
        let tell = Tell { zone: jiff::tz::TimeZone::UTC, now: 1_795_409_189 };
        let copies =
            [copy("library", CopyKind::Library), copy("far", CopyKind::Replica), copy("home", CopyKind::Third)];
        let text = picture(&copies, &tell).into_string();
        assert_eq!(text.matches("role=\"img\"").count(), 2, "one for wide screens, one for phones");
        assert!(
            text.contains("replica far, at sftp://nas/&lt;haven&gt;: good; not behind, never read back, locked."),
            "{text}"
        );
        assert!(!text.contains("<haven>"), "what is named is text");
        let blind = copies.clone().map(|copy| Copy { proof_unseen: true, ..copy });
        let text = picture(&blind, &tell).into_string();
        assert!(text.contains("last proof not known") && !text.contains("never read back"), "{text}");
        assert!(picture(&[], &tell).into_string().contains("No copy is known yet"));
        // A library alone is drawn as well.
        assert!(picture(&copies[..1], &tell).into_string().contains("viewBox=\"0 0 860 122\""));
    }
}
