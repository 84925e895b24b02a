//! Shows how an import goes on: a few lines that change on a terminal, plain ones otherwise, JSON for scripts.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use haven_import::{Bound, Left, Pace, Progress, Seen, WaitsFor};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{report, words};

/// How often a line is written where nobody can watch one change.
const LINE: Duration = Duration::from_secs(30);
/// How often a script is told; and when a phase begins.
const JSON_LINE: Duration = Duration::from_secs(5);
/// Width of the bar, letters.
const BAR: usize = 50;
const TICK: Duration = Duration::from_millis(250);

/// Shows until it is dropped.
pub struct Watch {
    task: tokio::task::JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Watch {
    pub fn start(progress: Arc<Progress>) -> Self {
        let script = report::speaks_json();
        let terminal = std::io::stderr().is_terminal() && !script;
        let bar = terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let (mut last, mut phase, mut pace) = (Instant::now(), None, Pace::default());
            loop {
                tokio::time::sleep(TICK).await;
                let seen = pace.look(&progress, Instant::now());
                match &shown {
                    Some(bar) => bar.set_message(screen(&rows(&progress, seen), share(&progress))),
                    None if script && (phase != Some(progress.phase()) || last.elapsed() >= JSON_LINE) => {
                        (phase, last) = (Some(progress.phase()), Instant::now());
                        // Where standard error is closed nobody listens.
                        _ = writeln!(std::io::stderr(), "{}", value(&progress, seen));
                    }
                    None if !script && last.elapsed() >= LINE => {
                        last = Instant::now();
                        report::note(rows(&progress, seen).join(", "));
                    }
                    None => {}
                }
            }
        });
        Self { task, bar }
    }

    /// Says something without breaking the line.
    pub fn warn(bar: Option<&ProgressBar>, text: &str) {
        match bar {
            Some(bar) => bar.suspend(|| report::warn(text)),
            None => report::warn(text),
        }
    }

    pub fn bar(&self) -> Option<ProgressBar> {
        self.bar.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What is done, how fast, what is left, what is waited for, what came of it: those of which there is something to tell.
fn rows(progress: &Progress, seen: Seen) -> Vec<String> {
    let phase = progress.phase();
    if let Some(why) = progress.waiting() {
        return vec![format!("{phase}: waiting for the server, which is away: {why}")];
    }
    let (files, total) = (progress.files.load(Relaxed), progress.files_total.load(Relaxed));
    let (bytes, bytes_total) = (progress.bytes.load(Relaxed), progress.bytes_total.load(Relaxed));
    let mut rows = vec![format!("{phase}: {files} of {total}")];
    if bytes_total > 0 {
        rows[0] += &format!(", {} of {}", words::bytes(bytes), words::bytes(bytes_total));
        if seen.bytes_per_second > 0.0 {
            let rate = words::bytes(seen.bytes_per_second as u64);
            rows.push(format!("{rate}/s, {:.1} files/s", seen.files_per_second));
        }
        rows.extend(seen.left.map(left_words));
    }
    if phase == "upload" {
        let (in_flight, lanes) = (progress.in_flight.load(Relaxed), progress.lanes.load(Relaxed));
        let waits = match seen.waits_for {
            Some(WaitsFor::Disk) => ", waiting on the disk",
            Some(WaitsFor::Network) => ", waiting on the network",
            Some(WaitsFor::Server) => ", waiting on the server",
            None => "",
        };
        rows.push(format!("{in_flight} in flight (up to {lanes}){waits}"));
    }
    let counts = [
        (&progress.sent, "sent"),
        (&progress.there, "there already"),
        (&progress.retries, "retries"),
        (&progress.failed, "failed"),
    ];
    let counts = counts.map(|(count, word)| (count.load(Relaxed), word));
    let told: Vec<_> = counts.iter().filter(|(count, _)| *count > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if !told.is_empty() {
        rows.push(told.join(", "));
    }
    rows
}

/// The same for a script: the text of a note, and the numbers.
fn value(progress: &Progress, seen: Seen) -> Value {
    let count = |count: &AtomicU64| count.load(Relaxed);
    let away = progress.waiting();
    let waits_for = match seen.waits_for {
        _ if away.is_some() => Some("server"),
        Some(WaitsFor::Disk) => Some("disk"),
        Some(WaitsFor::Network) => Some("network"),
        Some(WaitsFor::Server) => Some("server"),
        None => None,
    };
    json!({
        "note": rows(progress, seen).join(", "),
        "progress": {
            "phase": progress.phase(),
            "files": count(&progress.files),
            "files_total": count(&progress.files_total),
            "bytes": count(&progress.bytes),
            "bytes_total": count(&progress.bytes_total),
            "bytes_per_second": seen.bytes_per_second,
            "files_per_second": seen.files_per_second,
            "seconds_left": seen.left.map(|left| left.time().as_secs()),
            "seconds_left_by_bytes": seen.left.map(|left| left.by_bytes.as_secs()),
            "seconds_left_by_files": seen.left.map(|left| left.by_files.as_secs()),
            "waits_for": waits_for,
            "away": away,
            "in_flight": count(&progress.in_flight),
            "lanes": count(&progress.lanes),
            "sent": count(&progress.sent),
            "there": count(&progress.there),
            "retries": count(&progress.retries),
            "failed": count(&progress.failed),
        },
    })
}

/// How much of the phase is done, 0 to 1, by bytes where there are any; none where nobody knows how much there is.
fn share(progress: &Progress) -> Option<f64> {
    let of = |done: u64, all: u64| (all > 0).then(|| (done as f64 / all as f64).min(1.0));
    let bytes = of(progress.bytes.load(Relaxed), progress.bytes_total.load(Relaxed));
    bytes.or_else(|| of(progress.files.load(Relaxed), progress.files_total.load(Relaxed)))
}

/// The rows below each other, the first with a bar behind it.
fn screen(rows: &[String], share: Option<f64>) -> String {
    let mut out = rows.first().cloned().unwrap_or_default();
    if let Some(share) = share {
        let full = (share * BAR as f64) as usize;
        out += &format!("\n  [{}{}] {:.1} %", "#".repeat(full), "-".repeat(BAR - full), share * 100.0);
    }
    rows.iter().skip(1).for_each(|row| out += &format!("\n  {row}"));
    out
}

/// The time that binds, and what it hangs on; the other one behind it.
fn left_words(left: Left) -> String {
    let (what, other) = match left.bound {
        Bound::Bytes => ("the bytes", format!("{} for the server's part of each file", words::about(left.by_files))),
        Bound::Files => ("the server's part of each file", format!("{} for the bytes", words::about(left.by_bytes))),
    };
    format!("{} left for {what} ({other})", words::about(left.time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_which_of_two_times_binds_and_what_is_waited_for() {
        let (progress, mut pace, start) = (Progress::default(), Pace::default(), Instant::now());
        progress.begin("upload", 100_000, 300_000_000_000);
        progress.lanes.store(8, Relaxed);
        progress.in_flight.store(3, Relaxed);
        assert_eq!(
            rows(&progress, pace.look(&progress, start)).join(", "),
            "upload: 0 of 100000, 0 B of 300.0 GB, 3 in flight (up to 8)"
        );
        progress.files.store(100, Relaxed);
        progress.bytes.store(1_000_000_000, Relaxed);
        progress.server_nanos.store(7, Relaxed);
        progress.retries.store(2, Relaxed);
        progress.there.store(40, Relaxed);
        let seen = pace.look(&progress, start + Duration::from_secs(10));
        let told = rows(&progress, seen);
        assert_eq!(
            told.join(", "),
            "upload: 100 of 100000, 1.0 GB of 300.0 GB, 100.0 MB/s, 10.0 files/s, 2 h 47 min left for the server's part \
             of each file (50 min for the bytes), 3 in flight (up to 8), waiting on the server, 40 there already, 2 retries"
        );
        let screen = screen(&told, share(&progress));
        assert_eq!(screen.lines().count(), 6, "{screen}");
        assert!(screen.lines().all(|line| line.chars().count() < 80), "{screen}");
        assert!(screen.contains("\n  [-----") && screen.contains("] 0.3 %\n  100.0 MB/s"), "{screen}");
        let script = value(&progress, seen);
        assert_eq!(script["note"], told.join(", "));
        let script = &script["progress"];
        assert_eq!((&script["phase"], &script["waits_for"]), (&json!("upload"), &json!("server")), "{script}");
        assert_eq!((&script["bytes"], &script["bytes_total"]), (&json!(1_000_000_000), &json!(300_000_000_000u64)));
        assert_eq!((&script["bytes_per_second"], &script["away"]), (&json!(100_000_000.0), &Value::Null), "{script}");
        assert_eq!((&script["seconds_left"], &script["seconds_left_by_bytes"]), (&json!(9990), &json!(2990)));
        progress.set_waiting(Some("connection refused".to_owned()));
        let seen = pace.look(&progress, start + Duration::from_secs(20));
        assert_eq!(rows(&progress, seen), ["upload: waiting for the server, which is away: connection refused"]);
        assert_eq!(value(&progress, seen)["progress"]["away"], "connection refused");
    }
}
