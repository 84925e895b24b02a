//! What every page has around its own: head, landmarks, the way through.

use maud::{DOCTYPE, Markup, html};

use super::{Tell, words};
use crate::assets;

/// The places of the page, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Here {
    Overview,
    Findings,
    Copies,
    Runs,
    Growth,
    Snapshots,
    Drills,
}

const PLACES: [(Here, &str, &str); 7] = [
    (Here::Overview, "/", "Overview"),
    (Here::Findings, "/findings", "Findings"),
    (Here::Copies, "/copies", "Copies"),
    (Here::Runs, "/runs", "Runs"),
    (Here::Growth, "/growth", "Growth"),
    (Here::Snapshots, "/snapshots", "Snapshots"),
    (Here::Drills, "/drills", "Drills"),
];

/// Who looks, and how.
#[derive(Debug, Clone)]
pub struct Frame {
    pub here: Here,
    pub tell: Tell,
    /// The word that forms must have.
    pub word: String,
    /// Whom a proxy has named.
    pub person: Option<String>,
    pub read_only: bool,
}

impl Frame {
    /// A whole page. `parts`: what of it is kept up to date.
    pub fn page(&self, title: &str, parts: &[&str], content: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                (head(title, true))
                body data-parts=(parts.join(",")) {
                    a class="skip" href="#main" { "Skip to content" }
                    header {
                        p class="brand" { a href="/" { img src=(assets::address("icon.svg")) alt="" width="28" height="28"; "Haven" } }
                        nav aria-label="Main" {
                            ul {
                                @for (here, address, name) in PLACES {
                                    li { a href=(address) aria-current=[(here == self.here).then_some("page")] { (name) } }
                                }
                            }
                        }
                        (self.leave())
                    }
                    main id="main" tabindex="-1" { (content) }
                    footer {
                        p { "Times are in " (self.tell.zone_name()) ". "
                            @if self.read_only { "This page only shows: nothing can be done from here. " } }
                        @if !parts.is_empty() {
                            p id="live" role="status" { "Not live: load the page again for newer numbers." }
                        }
                    }
                }
            }
        }
    }

    fn leave(&self) -> Markup {
        match &self.person {
            Some(person) => html! { p class="person" { "Here as " (words::cut(person, 40)) } },
            None => html! {
                form method="post" action="/logout" class="person" {
                    (self.secret())
                    button type="submit" class="quiet" { "Log out" }
                }
            },
        }
    }

    /// What makes a form ours.
    pub fn secret(&self) -> Markup {
        html! { input type="hidden" name="word" value=(self.word); }
    }
}

fn head(title: &str, script: bool) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · Haven" }
            link rel="icon" href=(assets::address("icon.svg")) type="image/svg+xml";
            link rel="stylesheet" href=(assets::address("page.css"));
            @if script { script src=(assets::address("page.js")) defer {} }
        }
    }
}

/// A page for who is not logged in, or for trouble: no way through.
pub fn bare(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title, false))
            body class="bare" { main id="main" { (content) } }
        }
    }
}

/// The login. It tells nothing but that this is Haven.
pub fn login(next: &str, said: Option<&str>) -> Markup {
    bare(
        "Log in",
        &html! {
            img src=(assets::address("icon.svg")) alt="" width="48" height="48";
            h1 { "Haven" }
            @if let Some(said) = said { p class="said bad" id="said" role="alert" { (said) } }
            form method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                label for="token" { "Token" }
                input id="token" name="token" type="password" autocomplete="current-password" required autofocus
                    aria-invalid=[said.map(|_| "true")] aria-describedby=[said.map(|_| "said")];
                button type="submit" { "Log in" }
            }
        },
    )
}
