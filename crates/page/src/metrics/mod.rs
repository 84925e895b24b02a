//! Numbers for Prometheus: what they are called, in which unit, and what they mean.
//!
//! Most of them say what the pages say, from the same values; the rest comes from [`Source::metrics`]. Names, units and
//! help stand here and nowhere else; docs/metrics.md is compared with them by a test.

mod known;

use std::fmt::Write as _;

use crate::model::{
    Answer, Colour, Copy, CopyKind, DrillReport, Finding, GrowthPoint, Metric, Overview, Run, RunFilter, Severity,
    Snapshot, Source, Verdict,
};

pub use known::{KNOWN, Kind, Known};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Runs that are looked through for the last of each kind.
const RUNS: usize = 1000;

/// Everything there is to tell.
pub async fn gathered(source: &dyn Source) -> Answer<Vec<Metric>> {
    let overview = source.overview().await?;
    let runs = source.runs(RunFilter { limit: RUNS, ..RunFilter::default() }).await?;
    let mut all = vec![Metric::new("haven_build_info", 1.0).with("version", env!("CARGO_PKG_VERSION"))];
    all.extend(of_overview(&overview));
    all.extend(of_runs(&runs));
    // What can't be told just now is left out: a number that is missing is seen, one that is wrong is not.
    if let Ok(snapshots) = source.snapshots().await {
        all.extend(of_snapshots(&snapshots));
    }
    if let Ok(drills) = source.drills().await {
        all.extend(of_drills(&drills));
    }
    if let Some(last) = source.growth().await.ok().and_then(|points| points.last().cloned()) {
        all.extend(of_growth(&last));
    }
    if let Ok(more) = source.metrics().await {
        all.extend(more);
    }
    Ok(all)
}

fn of_overview(overview: &Overview) -> Vec<Metric> {
    let mut all = Vec::new();
    let mut one = |name, value: f64| all.push(Metric::new(name, value));
    let (cache, queue, flow) = (&overview.cache, &overview.queue, overview.throughput);
    if overview.mounted {
        one("haven_recovery_point_seconds", queue.recovery_point_seconds);
        one("haven_queue_changes", queue.changes as f64);
        one("haven_queue_bytes", queue.bytes as f64);
        one("haven_store_trouble", f64::from(u8::from(queue.trouble.is_some())));
        one("haven_cache_used_bytes", cache.used_bytes as f64);
        one("haven_cache_limit_bytes", cache.limit_bytes as f64);
        one("haven_cache_clean_bytes", cache.clean_bytes as f64);
        one("haven_store_requests_per_second", flow.requests);
    }
    one("haven_cache_disk_used_bytes", cache.disk_used_bytes as f64);
    one("haven_cache_disk_bytes", cache.disk_bytes as f64);
    if let Some(at) = cache.disk_full_at {
        one("haven_cache_disk_full_timestamp_seconds", at as f64);
    }
    let lines = [("up", flow.up), ("down", flow.down), ("read", flow.read), ("write", flow.written)];
    for (direction, rate) in lines.into_iter().filter(|_| overview.mounted) {
        all.push(Metric::new("haven_throughput_bytes_per_second", rate).with("direction", direction));
    }
    let states =
        [(Colour::Green, "green"), (Colour::Unknown, "unknown"), (Colour::Yellow, "yellow"), (Colour::Red, "red")];
    for (colour, word) in states {
        let is = f64::from(u8::from(overview.colour == colour));
        all.push(Metric::new("haven_state", is).with("state", word));
    }
    for digit in &overview.score.digits {
        let met = Metric::new("haven_score_met", f64::from(u8::from(digit.met)));
        all.push(met.with("digit", &digit.digit).with("asks", &digit.asks));
    }
    all.extend(of_findings(&overview.findings, overview.at));
    all.extend(overview.copies.iter().flat_map(of_copy));
    for due in &overview.upcoming {
        all.push(labelled("haven_run_next_timestamp_seconds", due.at as f64, &due.kind, &due.subject));
    }
    all
}

fn labelled(name: &'static str, value: f64, kind: &str, subject: &str) -> Metric {
    Metric::new(name, value).with("kind", kind).with("subject", subject)
}

fn of_findings(findings: &[Finding], now: i64) -> Vec<Metric> {
    let count = |severity: Severity| {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        Metric::new("haven_findings", count as f64).with("severity", severity.word())
    };
    let mut all: Vec<_> = Severity::ALL.into_iter().map(count).collect();
    all.extend(findings.iter().map(|finding| {
        Metric::new("haven_finding_age_seconds", (now - finding.since).max(0) as f64)
            .with("key", &finding.key)
            .with("subject", &finding.subject)
            .with("severity", finding.severity.word())
    }));
    all
}

fn of_copy(copy: &Copy) -> Vec<Metric> {
    let kind = match copy.kind {
        CopyKind::Library => "library",
        CopyKind::Replica => "replica",
        CopyKind::Third => "third",
    };
    let values = [
        ("haven_copy_lag_seconds", copy.lag.map(|lag| lag as f64)),
        ("haven_copy_proven_timestamp_seconds", copy.proven.map(|at| at as f64)),
        ("haven_copy_verified_timestamp_seconds", copy.verified.map(|at| at as f64)),
        ("haven_copy_synced_timestamp_seconds", copy.synced.map(|at| at as f64)),
        ("haven_copy_bytes", copy.bytes.map(|bytes| bytes as f64)),
        ("haven_copy_locked", copy.locked.map(|locked| f64::from(u8::from(locked)))),
    ];
    let told = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
    told.map(|(name, value)| Metric::new(name, value).with("copy", &copy.name).with("kind", kind)).collect()
}

/// The newest of each kind and subject; `runs` has the newest first.
fn of_runs(runs: &[Run]) -> Vec<Metric> {
    let mut all = Vec::new();
    let newest = |wanted: &dyn Fn(&Run) -> bool| {
        let mut seen: Vec<&Run> = Vec::new();
        for run in runs.iter().filter(|run| wanted(run)) {
            if !seen.iter().any(|known| known.kind == run.kind && known.subject == run.subject) {
                seen.push(run);
            }
        }
        seen
    };
    let ended = |run: &Run| !matches!(run.verdict, Verdict::Running);
    for run in newest(&ended) {
        let good = matches!(run.verdict, Verdict::Good | Verdict::Warning);
        all.push(labelled("haven_run_last_good", f64::from(u8::from(good)), &run.kind, &run.subject));
        all.push(labelled("haven_run_last_duration_seconds", run.seconds, &run.kind, &run.subject));
    }
    for run in newest(&|run| matches!(run.verdict, Verdict::Good | Verdict::Warning)) {
        let end = run.started as f64 + run.seconds;
        all.push(labelled("haven_run_last_success_timestamp_seconds", end, &run.kind, &run.subject));
    }
    let running = runs.iter().filter(|run| run.verdict == Verdict::Running).count();
    all.push(Metric::new("haven_runs_running", running as f64));
    all
}

fn of_snapshots(snapshots: &[Snapshot]) -> Vec<Metric> {
    let mut all = Vec::new();
    for (kind, point) in [("snapshot", false), ("point", true)] {
        let these = || snapshots.iter().filter(|snapshot| snapshot.point == point);
        all.push(Metric::new("haven_snapshots", these().count() as f64).with("kind", kind));
        if let Some(newest) = these().map(|snapshot| snapshot.taken).max() {
            all.push(Metric::new("haven_snapshot_newest_timestamp_seconds", newest as f64).with("kind", kind));
        }
    }
    all
}

fn of_drills(drills: &[DrillReport]) -> Vec<Metric> {
    let mut seen: Vec<(&str, u8)> = Vec::new();
    let mut all = Vec::new();
    // What can't be read or believed says nothing of any copy.
    for drill in drills.iter().filter(|drill| !drill.copy.is_empty()) {
        if seen.contains(&(&drill.copy, drill.level)) {
            continue;
        }
        seen.push((&drill.copy, drill.level));
        let with =
            |name, value| Metric::new(name, value).with("copy", &drill.copy).with("level", drill.level.to_string());
        all.push(with("haven_drill_last_timestamp_seconds", drill.at as f64));
        all.push(with("haven_drill_last_good", f64::from(u8::from(drill.good))));
    }
    all
}

fn of_growth(last: &GrowthPoint) -> Vec<Metric> {
    let mut all = vec![
        Metric::new("haven_library_files", last.files as f64),
        Metric::new("haven_library_file_bytes", last.file_bytes as f64),
        Metric::new("haven_library_stored_bytes", last.stored_bytes as f64),
    ];
    if let Some(cost) = last.cost_month {
        all.push(Metric::new("haven_library_cost_per_month", cost).with("currency", &last.currency));
    }
    all
}

/// In Prometheus's text format. What is not [`KNOWN`] is left out, and so is what is no number.
pub fn text(metrics: &[Metric]) -> String {
    let mut out = String::new();
    for known in KNOWN {
        let these: Vec<_> =
            metrics.iter().filter(|metric| metric.name == known.name && metric.value.is_finite()).collect();
        if these.is_empty() {
            continue;
        }
        _ = writeln!(out, "# HELP {} {}", known.name, known.help.replace('\\', "\\\\").replace('\n', "\\n"));
        _ = writeln!(out, "# TYPE {} {}", known.name, known.kind.word());
        for metric in these {
            out += metric.name;
            for (n, (label, value)) in metric.labels.iter().enumerate() {
                out.push(if n == 0 { '{' } else { ',' });
                _ = write!(out, "{label}=\"{}\"", escaped(value));
            }
            if !metric.labels.is_empty() {
                out.push('}');
            }
            _ = writeln!(out, " {}", metric.value);
        }
    }
    out
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = [
            Metric::new("haven_queue_bytes", 1.5),
            Metric::new("haven_copy_lag_seconds", 3.0).with("copy", "a\"b\\c\nd").with("kind", "replica"),
            Metric::new("haven_queue_changes", f64::NAN),
            Metric::new("haven_made_up", 1.0),
        ];
        let text = text(&metrics);
        assert!(text.contains("# TYPE haven_queue_bytes gauge\nhaven_queue_bytes 1.5\n"), "{text}");
        assert!(text.contains("haven_copy_lag_seconds{copy=\"a\\\"b\\\\c\\nd\",kind=\"replica\"} 3\n"), "{text}");
        assert!(!text.contains("NaN") && !text.contains("made_up"), "{text}");
    }

    #[test]
    fn names_have_their_units_and_are_there_once() {
        for (n, known) in KNOWN.iter().enumerate() {
            assert!(known.name.starts_with("haven_") && !known.help.is_empty(), "{}", known.name);
            assert!(!KNOWN[..n].iter().any(|other| other.name == known.name), "{} twice", known.name);
            assert_eq!(known.kind == Kind::Counter, known.name.ends_with("_total"), "{}", known.name);
        }
    }

    #[test]
    fn a_report_that_cannot_be_read_is_no_drill_that_failed() {
        let unread = DrillReport {
            id: "20261126T213000Z-L1-far".into(),
            at: 9,
            level: 1,
            copy: String::new(),
            point: String::new(),
            good: false,
            seconds: 0.0,
            steps: Vec::new(),
            sealed: None,
        };
        let good = DrillReport { copy: "far".into(), good: true, at: 5, ..unread.clone() };
        let all = of_drills(&[unread, good]);
        assert_eq!(all.iter().map(|metric| metric.value).collect::<Vec<_>>(), [5.0, 1.0], "{all:?}");
    }

    #[test]
    fn the_last_run_of_each_kind_counts() {
        let run = |id, kind: &str, verdict| Run {
            id,
            kind: kind.into(),
            subject: String::new(),
            started: id * 100,
            seconds: 10.0,
            verdict,
            said: String::new(),
            bytes: None,
        };
        let runs = [
            run(5, "drill", Verdict::Running),
            run(4, "drill", Verdict::Failed),
            run(3, "drill", Verdict::Good),
            run(2, "copy", Verdict::Good),
        ];
        let all = of_runs(&runs);
        let value = |name: &str, kind: &str| {
            let with = |metric: &&Metric| metric.name == name && metric.labels.iter().any(|(_, value)| value == kind);
            all.iter().find(with).map(|metric| metric.value)
        };
        assert_eq!(value("haven_run_last_good", "drill"), Some(0.0));
        assert_eq!(value("haven_run_last_success_timestamp_seconds", "drill"), Some(310.0));
        assert_eq!(value("haven_run_last_good", "copy"), Some(1.0));
        assert!(all.iter().any(|metric| metric.name == "haven_runs_running" && metric.value == 1.0));
    }
}
