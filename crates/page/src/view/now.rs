//! What moves all the time: the queue, the cache, the lines.

use maud::{Markup, html};

use super::{
    Tell, signs,
    words::{bytes, count, rate, span},
};
use crate::model::Overview;

pub fn part(overview: &Overview, tell: &Tell) -> Markup {
    html! {
        section aria-labelledby="h-now" {
            h2 id="h-now" { "Right now" }
            dl class="facts" {
                @if overview.mounted {
                    (queue(overview))
                    (lines(overview))
                    (cache(overview))
                } @else {
                    (unknown())
                }
                (disk(overview, tell))
            }
        }
    }
}

/// Nobody may take a library that tells nothing for one of which everything is in the bucket.
fn unknown() -> Markup {
    html! {
        div {
            dt { "Not in the bucket yet" }
            dd { strong { "not known" } ": the library is not mounted, or does not answer" }
            dd { "What it had not sent is kept in the cache on this machine, and is sent when it is mounted again." }
        }
    }
}

fn queue(overview: &Overview) -> Markup {
    let queue = &overview.queue;
    html! {
        div {
            dt { "Not in the bucket yet" }
            dd {
                @if queue.changes == 0 && queue.bytes == 0 { strong { "nothing" } }
                @else { strong { (bytes(queue.bytes)) } " in " (count(queue.changes, "change")) }
            }
            dd { "The loss of this machine would cost the last " strong { (span(queue.recovery_point_seconds)) } "." }
            @if let Some(trouble) = &queue.trouble {
                dd class="trouble" { (signs::shape("warn")) " The store: " (trouble) }
            }
        }
    }
}

fn lines(overview: &Overview) -> Markup {
    let flow = overview.throughput;
    html! {
        div {
            dt { "Store" }
            dd { span class="way" { "up " } strong { (rate(flow.up)) } }
            dd { span class="way" { "down " } strong { (rate(flow.down)) } }
            dd { (format!("{:.1}", flow.requests)) " requests a second" }
        }
        div {
            dt { "Programs" }
            dd { span class="way" { "read " } strong { (rate(flow.read)) } }
            dd { span class="way" { "write " } strong { (rate(flow.written)) } }
        }
    }
}

fn cache(overview: &Overview) -> Markup {
    let cache = &overview.cache;
    let full = percent(cache.used_bytes, cache.limit_bytes);
    html! {
        div {
            dt id="t-cache" { "Cache" }
            dd { meter aria-labelledby="t-cache" min="0" max="100" high="95" value=(full) { (full) " %" } }
            dd { strong { (bytes(cache.used_bytes)) } " of " (bytes(cache.limit_bytes)) ", "
                (bytes(cache.clean_bytes)) " of it could go at once" }
        }
    }
}

fn disk(overview: &Overview, tell: &Tell) -> Markup {
    let cache = &overview.cache;
    let disk = percent(cache.disk_used_bytes, cache.disk_bytes);
    html! {
        @if cache.disk_bytes > 0 {
            div {
                dt id="t-disk" { "Disk of the cache" }
                dd { meter aria-labelledby="t-disk" min="0" max="100" high="80" value=(disk) { (disk) " %" } }
                dd { strong { (disk) " %" } " of " (bytes(cache.disk_bytes)) " used"
                    @if let Some(at) = cache.disk_full_at { "; full " (tell.ago(at)) ", if it goes on like this" } }
            }
        }
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 { 0 } else { (u128::from(part) * 100 / u128::from(whole)).min(100) as u64 }
}
