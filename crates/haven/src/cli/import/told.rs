//! A summary as people read it.

use std::fmt::Write as _;

use haven_import::{Cap, Compared, PartTrouble, ServerFacts, report::Summary};

use crate::words;

/// All of it. `long`: with what a plan needs: examples of each rule.
pub fn summary(summary: &Summary, long: bool) -> String {
    let mut out = String::new();
    _ = writeln!(out, "{:<34}{:>9}  {:>10}", "files", summary.entries, "");
    for (bucket, count) in &summary.buckets {
        _ = writeln!(out, "  {:<32}{:>9}  {:>10}", bucket.word(), count.files, words::bytes(count.bytes));
    }
    _ = writeln!(out, "{:<34}{:>9}", "distinct photos and videos", summary.photos);
    _ = writeln!(out, "{:<34}{:>9}", "Google would show", summary.google_shows);
    if summary.due_bytes > 0 {
        _ = writeln!(out, "{:<34}{:>9}", "still to be sent", words::bytes(summary.due_bytes));
    }
    _ = writeln!(out, "{:<34}{:>9}", "largest file", words::bytes(summary.largest_bytes));
    _ = writeln!(out, "{:<34}{:>9}", "without a sidecar", summary.unmatched);
    if long && !summary.rules.is_empty() {
        _ = writeln!(out, "\nsidecars found by");
        for rule in &summary.rules {
            let weak = if rule.weak > 0 { format!(" ({} doubtful)", rule.weak) } else { String::new() };
            _ = writeln!(out, "  {:<48}{:>7}{weak}", rule.rule, rule.files);
            for example in &rule.examples {
                _ = writeln!(out, "      {example}");
            }
        }
    }
    if !summary.dates.is_empty() {
        _ = writeln!(out, "\ndates from");
        for (source, count) in &summary.dates {
            _ = writeln!(out, "  {source:<48}{count:>7}");
        }
    }
    if !summary.albums.is_empty() {
        _ = writeln!(out, "\nalbums");
        for album in &summary.albums {
            let failed =
                if album.failed > 0 { format!(", {} could not be added", album.failed) } else { String::new() };
            _ = writeln!(out, "  {:<48}{:>7} of {}{failed}", album.title, album.done, album.photos);
        }
    }
    for (title, whys) in [("failed", &summary.failed), ("not wanted", &summary.filtered), ("to know", &summary.notes)] {
        if whys.is_empty() {
            continue;
        }
        _ = writeln!(out, "\n{title}");
        for why in whys {
            _ = writeln!(out, "  {:>7}  {}: {}", why.files, why.why, why.example.trim_start_matches('/'));
        }
    }
    out
}

/// What a server adds to a plan.
pub fn server(server: &ServerFacts, cap: Option<Cap>, compared: &Compared) -> String {
    let mut out = format!("\nserver\n  Immich {}, as {}", server.version, server.user);
    if let Some(assets) = server.assets {
        _ = write!(out, ", who has {assets} photos and videos there");
    }
    out += "\n";
    for (what, left) in [("quota", server.quota_left_bytes), ("disk", server.disk_left_bytes)] {
        if let Some(left) = left {
            _ = writeln!(out, "  its {what} has room for {}", words::bytes(left));
        }
    }
    if !server.lacks.is_empty() {
        _ = writeln!(out, "  the API key lacks {}", server.lacks.join(", "));
    }
    match cap {
        None => _ = writeln!(out, "  the largest file gets through"),
        Some(cap) => {
            _ = writeln!(
                out,
                "  a proxy before it lets files of {} through and not of {}: {} files, {}, would be set aside",
                words::bytes(cap.passes_bytes),
                words::bytes(cap.refused_bytes),
                cap.refused_files,
                words::bytes(cap.refused_sum_bytes)
            );
        }
    }
    _ = writeln!(
        out,
        "  {} of {} files that were read are there already, {}; {} of them in its trash",
        compared.there,
        compared.known,
        words::bytes(compared.there_bytes),
        compared.trashed
    );
    if compared.unread > 0 {
        _ = writeln!(out, "  of {} it is not known: --read-media reads them", compared.unread);
    }
    out
}

/// What is wrong with the parts: the first thing to know.
pub fn parts(gaps: &[String], trouble: &[PartTrouble]) -> Vec<String> {
    let broken = trouble.iter().map(|part| format!("{}: {}", part.path.display(), part.what));
    gaps.iter().cloned().chain(broken).collect()
}
