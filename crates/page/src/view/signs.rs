//! Signs: a shape and a word for each state, so that no colour has to be seen.

use maud::{Markup, html};

use crate::model::{Colour, Severity, Verdict};

/// A class of the style, a word for people.
pub fn colour(colour: Colour) -> (&'static str, &'static str) {
    match colour {
        Colour::Green => ("good", "Safe"),
        Colour::Unknown => ("unknown", "Not known yet"),
        Colour::Yellow => ("warn", "Safe, but look"),
        Colour::Red => ("bad", "At risk"),
    }
}

pub fn verdict(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Running => ("running", "running"),
        Verdict::Good => ("good", "good"),
        Verdict::Warning => ("warn", "look at it"),
        Verdict::Failed => ("bad", "failed"),
        Verdict::Missed => ("missed", "missed"),
        Verdict::Interrupted => ("unknown", "interrupted"),
    }
}

pub fn severity(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Info => ("unknown", "good to know"),
        Severity::Warning => ("warn", "see to it"),
        Severity::Critical => ("bad", "urgent"),
    }
}

/// The shape alone, 16 by 16, for beside a word. It says nothing by itself, so readers pass over it.
pub fn shape(class: &str) -> Markup {
    html! {
        svg class={ "sign " (class) } viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false" {
            (drawn(class))
        }
    }
}

/// The same inside another picture.
pub fn drawn(class: &str) -> Markup {
    html! {
        @match class {
            "good" => { circle class="fill" cx="8" cy="8" r="7" {} path class="cut" d="M4.5 8.2l2.4 2.5 4.6-5.2" {} }
            "warn" => { path class="fill" d="M8 1.2 15.4 14.6H.6z" {} path class="cut" d="M8 6v4M8 12v.6" {} }
            "bad" => { path class="fill" d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" {} path class="cut" d="M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6" {} }
            "missed" => { path class="hollow" d="M8 1.5 14.5 8 8 14.5 1.5 8z" {} }
            "running" => { circle class="hollow" cx="8" cy="8" r="6.2" {} path class="fill" d="M6.3 4.8 11.4 8l-5.1 3.2z" {} }
            _ => { circle class="hollow" cx="8" cy="8" r="6.2" {} path class="line" d="M5 8h6" {} }
        }
    }
}

/// Shape and word together.
pub fn badge((class, word): (&'static str, &'static str)) -> Markup {
    html! { span class={ "badge " (class) } { (shape(class)) " " (word) } }
}
