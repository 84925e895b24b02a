//! The past: snapshots, what lies in them, and the way back of a file.

use maud::{Markup, html};

use super::{
    Frame, signs,
    words::{bytes, count, encoded, grouped},
};
use crate::model::{Entry, EntryKind, Inside, Listing, Snapshot};

/// Names on a page.
pub const PAGE: usize = 200;

pub fn address(snapshot: &str, path: &Inside) -> String {
    format!("/browse?snapshot={}&path={}", encoded(snapshot), encoded(&path.to_string()))
}

pub fn page(frame: &Frame, snapshots: &[Snapshot], skip: usize) -> Markup {
    let shown = snapshots.iter().skip(skip).take(PAGE);
    let content = html! {
        h1 { "Snapshots" }
        p { "Each is the whole library as it was at one instant. Open one to look for a file, to save it, or to bring it back." }
        @if snapshots.is_empty() { p { "There are none yet." } }
        @else {
            div class="wide" role="region" aria-label="Snapshots, table" tabindex="0" {
                table {
                    caption { (count(snapshots.len() as u64, "snapshot")) ", newest first" }
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "Taken" } th scope="col" { "What" } th scope="col" { "Files" }
                        th scope="col" { "Size" } th scope="col" { "By" } th scope="col" { "Note" }
                    } }
                    tbody { @for snapshot in shown { tr {
                        th scope="row" { a href=(address(&snapshot.name, &Inside::default())) { (snapshot.name) } }
                        td { (frame.tell.when(snapshot.taken)) }
                        td { @if snapshot.point { "recovery point" } @else { "snapshot" }
                            @if let Some(until) = snapshot.protected_until.filter(|until| *until > frame.tell.now) {
                                ", protected" @if until < i64::MAX / 2 { " until " (frame.tell.at(until)) } } }
                        td class="number" { (grouped(snapshot.files)) }
                        td class="number" { (bytes(snapshot.bytes)) }
                        td { (snapshot.by) }
                        td { (snapshot.note) }
                    } } }
                }
            }
            (pages("/snapshots?", skip, snapshots.len()))
        }
    };
    frame.page("Snapshots", &[], &content)
}

/// Links to the neighbouring pages.
fn pages(before: &str, skip: usize, total: usize) -> Markup {
    html! {
        @if total > PAGE {
            nav aria-label="Pages" class="row" {
                @if skip > 0 { a rel="prev" href={ (before) "skip=" (skip.saturating_sub(PAGE)) } { "Before" } }
                span { (skip + 1) " to " (total.min(skip + PAGE)) " of " (grouped(total as u64)) }
                @if skip + PAGE < total { a rel="next" href={ (before) "skip=" (skip + PAGE) } { "After" } }
            }
        }
    }
}

pub fn folder(frame: &Frame, snapshot: &str, path: &Inside, listing: &Listing, skip: usize) -> Markup {
    let here = path.name().unwrap_or(snapshot);
    let before = format!("{}&", address(snapshot, path));
    let content = html! {
        nav aria-label="Way to this folder" class="crumbs" {
            ol {
                li { a href="/snapshots" { "Snapshots" } }
                li { a href=(address(snapshot, &Inside::default())) aria-current=[path.is_root().then_some("page")] { (snapshot) } }
                @for step in path.steps() {
                    li { a href=(address(snapshot, &step)) aria-current=[(step == *path).then_some("page")] { (step.name().unwrap_or_default()) } }
                }
            }
        }
        h1 { (here) }
        p { (count(listing.total as u64, "entry").replace("entrys", "entries")) " as of the snapshot " strong { (snapshot) } "." }
        @if !path.is_root() && !frame.read_only { (restore(frame, snapshot, path, "this folder", "b-all")) }
        @if listing.entries.is_empty() { p { "This folder is empty." } }
        @else {
            div class="wide" role="region" aria-label="Contents of this folder, table" tabindex="0" {
                table {
                    caption { "What lies in " (here) }
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "Get it" } th scope="col" { "Size" } th scope="col" { "Kind" }
                        th scope="col" { "Changed" }
                    } }
                    tbody { @for (n, entry) in listing.entries.iter().enumerate() { (row(frame, snapshot, path, entry, skip + n)) } }
                }
            }
            (pages(&before, skip, listing.total))
        }
    };
    frame.page(here, &[], &content)
}

fn row(frame: &Frame, snapshot: &str, folder: &Inside, entry: &Entry, n: usize) -> Markup {
    let id = format!("e-{n}");
    // A name that is not UTF-8 can be shown, and leads nowhere.
    let path = folder.join(&entry.name).ok().filter(|_| !entry.name.contains('\u{fffd}'));
    let save = |path: &Inside| format!("/download?snapshot={}&path={}", encoded(snapshot), encoded(&path.to_string()));
    html! {
        tr {
            th scope="row" id=(id) {
                @match (&path, entry.kind) {
                    (Some(path), EntryKind::Folder) => a href=(address(snapshot, path)) { (entry.name) "/" },
                    _ => (entry.name),
                }
            }
            td { div class="row" {
                @match path {
                    None => "by the command line: its name is not UTF-8",
                    Some(path) => {
                        @if entry.kind == EntryKind::File { a href=(save(&path)) download aria-describedby=(id) { "Save" } }
                        @if !frame.read_only { (restore(frame, snapshot, &path, "", &id)) }
                    }
                }
            } }
            td class="number" { @if entry.kind == EntryKind::File { (bytes(entry.bytes)) } }
            td { (kind(entry.kind)) }
            td { (frame.tell.at(entry.modified)) }
        }
    }
}

fn restore(frame: &Frame, snapshot: &str, path: &Inside, what: &str, id: &str) -> Markup {
    html! {
        form method="post" action="/restore" {
            (frame.secret())
            input type="hidden" name="snapshot" value=(snapshot);
            input type="hidden" name="path" value=(path);
            button type="submit" class="quiet" aria-describedby=[what.is_empty().then_some(id)] {
                "Bring back" @if !what.is_empty() { " " (what) }
            }
        }
    }
}

fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Folder => "folder",
        EntryKind::File => "file",
        EntryKind::Link => "link",
        EntryKind::Other => "other",
    }
}

/// It is back.
pub fn restored(frame: &Frame, snapshot: &str, path: &Inside, at: &str) -> Markup {
    let content = html! {
        h1 { "It is back" }
        p class="said good" role="status" { (signs::shape("good")) " " (path) " of the snapshot " (snapshot) " is now in the library as " strong { (at) } "." }
        p { "What was in the library is as it was." }
        p { a href=(address(snapshot, &path.parent().unwrap_or_default())) { "Back to the folder in the snapshot" } }
    };
    frame.page("It is back", &[], &content)
}
