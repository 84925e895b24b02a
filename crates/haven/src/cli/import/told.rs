//! A summary as people read it.

use std::fmt::Write as _;

use haven_import::{
    Bound, Cap, Compared, Counted, Estimate, FILES_PER_SECOND, Foreseen, Listed, Outlook, PartTrouble, ServerFacts,
    USUAL_CAP_BYTES, report::Summary,
};

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
    if summary.stacks > 0 {
        _ = writeln!(out, "{:<34}{:>9} of {}", "stacks made", summary.stacked, summary.stacks);
    }
    if let Some(counted) = &summary.counted {
        _ = writeln!(out, "{}", counted_words(counted));
    }
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
    let whys = [
        ("failed", &summary.failed),
        ("waiting", &summary.waiting),
        ("not wanted", &summary.filtered),
        ("to know", &summary.notes),
    ];
    for (title, whys) in whys {
        if whys.is_empty() {
            continue;
        }
        _ = writeln!(out, "\n{title}");
        for why in whys {
            _ = writeln!(out, "  {:>7}  {}: {}", why.files, why.why, why.example.trim_start_matches('/'));
        }
    }
    if !summary.unstacked.is_empty() {
        _ = writeln!(out, "\nstacks that could not be made");
        for one in &summary.unstacked {
            _ = writeln!(out, "  {:>7}  {}: {}", one.stacks, one.why, one.example.trim_start_matches('/'));
        }
    }
    out
}

/// Whether the server counts what was brought.
fn counted_words(counted: &Counted) -> String {
    let Counted { before, brought, hidden, after } = *counted;
    let due = (before + brought).saturating_sub(hidden);
    let rest = match after {
        after if after < due => format!(
            ": {} fewer than that. They may be hidden, locked or deleted there; haven import report --entries tells their ids",
            due - after
        ),
        after if after > before + brought => format!(": {} more came from elsewhere", after - before - brought),
        _ => String::new(),
    };
    format!("the server counts {after} photos and videos, after {before} before and {brought} that were brought{rest}")
}

/// What a plan shows beside the counts.
pub fn outlook(outlook: &Outlook) -> String {
    let mut out = String::new();
    listed(&mut out, "doubtful pairs: what the file says outweighs the sidecar", &outlook.doubtful, |pair| {
        format!("{} ← {} ({})", pair.path, pair.sidecar, pair.rule)
    });
    listed(&mut out, "without a sidecar, and the nearest there are", &outlook.unmatched, |bare| {
        let near = bare.nearest.iter().map(|near| format!("\n      {}: {}", near.sidecar, near.why_not));
        bare.path.clone() + &near.collect::<String>()
    });
    listed(&mut out, "sidecars without a photo", &outlook.orphans, Clone::clone);
    listed(&mut out, "names that lie about what the file is", &outlook.misnamed, |file| {
        format!("{} goes as {}", file.path, file.sent_as)
    });
    dates(&mut out, &outlook.dates);
    if outlook.judged_when_read > 0 {
        _ = writeln!(
            out,
            "\n{} files have no date from a sidecar: whether they are of the dates asked for is seen when they are read",
            outlook.judged_when_read
        );
    }
    if !outlook.largest.is_empty() {
        out += "\nlargest files\n";
        for file in &outlook.largest {
            let passes = if file.passes == Some(false) { ", which a proxy does not let through" } else { "" };
            _ = writeln!(out, "  {:>10}  {}{passes}", words::bytes(file.bytes), file.path);
        }
        if outlook.above_usual_cap.files > 0 && outlook.largest.iter().all(|file| file.passes.is_none()) {
            _ = writeln!(
                out,
                "  {} files, {}, are longer than {}, which is Cloudflare's limit; with --server it is asked what gets there",
                outlook.above_usual_cap.files,
                words::bytes(outlook.above_usual_cap.bytes),
                words::bytes(USUAL_CAP_BYTES)
            );
        }
    }
    estimate(&mut out, &outlook.estimate);
    out
}

fn dates(out: &mut String, dates: &Foreseen) {
    let all = [
        ("the sidecar", dates.sidecar),
        ("the name", dates.name),
        ("the folder's year", dates.folder),
        ("nobody but the file", dates.nobody),
    ];
    if all.iter().all(|(_, files)| *files == 0) {
        return;
    }
    *out += "\ndates from, where a file's own clock does not tell (that is read when it is sent)\n";
    for (source, files) in all.iter().filter(|(_, files)| *files > 0) {
        _ = writeln!(out, "  {source:<48}{files:>7}");
    }
}

fn listed<T>(out: &mut String, title: &str, listed: &Listed<T>, tell: impl Fn(&T) -> String) {
    if listed.files == 0 {
        return;
    }
    _ = writeln!(out, "\n{title}");
    for one in &listed.first {
        _ = writeln!(out, "  {}", tell(one));
    }
    let more = listed.files - listed.first.len() as u64;
    if more > 0 {
        _ = writeln!(out, "  and {more} more");
    }
}

fn estimate(out: &mut String, estimate: &Estimate) {
    if estimate.files == 0 {
        return;
    }
    _ = writeln!(out, "\nhow long\n  {} files, {}, are to be sent", estimate.files, words::bytes(estimate.bytes));
    if let (Some(left), Some(measured)) = (estimate.left(), estimate.measured) {
        let bound = match left.bound {
            Bound::Bytes => "the bytes take the time",
            Bound::Files => "the server's part of each file takes the time",
        };
        _ = writeln!(
            out,
            "  as fast as the last run, which sent {}/s and {:.1} files/s: {}; {bound}",
            words::bytes(measured.bytes_per_second as u64),
            measured.files_per_second,
            words::about(left.time())
        );
        return;
    }
    _ = writeln!(
        out,
        "  nothing was measured yet; reckoned from counts and sizes, the longer of the two holds:\n  \
         the bytes: {} at 1 Gbit/s, {} at 100 Mbit/s\n  the server's part: {}, if it takes {FILES_PER_SECOND} files a second",
        words::about(estimate.over(1_000_000_000)),
        words::about(estimate.over(100_000_000)),
        words::about(estimate.at_server())
    );
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

/// The same as the end of an answer, with how far each export was seen.
pub fn part_lines(trouble: &[String], last_parts: &[String]) -> String {
    let lines: String = trouble.iter().chain(last_parts).map(|line| format!("  {line}\n")).collect();
    if lines.is_empty() { lines } else { format!("\nparts\n{lines}") }
}
