//! Shows how an import goes on: one line that changes on a terminal, plain lines otherwise.

use std::{
    io::IsTerminal,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use haven_import::{Bound, Left, Pace, Progress, WaitsFor};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{report, words};

/// How often a line is written where nobody can watch one change.
const LINE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(250);

/// Shows until it is dropped.
pub struct Watch {
    task: tokio::task::JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Watch {
    /// `quiet`: a script reads along, and nothing is shown.
    pub fn start(progress: Arc<Progress>, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
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
            let (mut last, mut line) = (Instant::now(), Line::default());
            loop {
                tokio::time::sleep(TICK).await;
                let text = line.tell(&progress, Instant::now());
                match &shown {
                    Some(bar) => bar.set_message(text),
                    None if !quiet && last.elapsed() >= LINE => {
                        last = Instant::now();
                        report::note(text);
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

/// What is shown, and what it is reckoned from.
#[derive(Default)]
struct Line {
    pace: Pace,
}

impl Line {
    fn tell(&mut self, progress: &Progress, now: Instant) -> String {
        let phase = progress.phase();
        let seen = self.pace.look(progress, now);
        if let Some(why) = progress.waiting() {
            return format!("{phase}: waiting for the server, which is away: {why}");
        }
        let (files, total) = (progress.files.load(Relaxed), progress.files_total.load(Relaxed));
        let (bytes, bytes_total) = (progress.bytes.load(Relaxed), progress.bytes_total.load(Relaxed));
        let mut text = format!("{phase}: {files} of {total}");
        if bytes_total > 0 {
            text += &format!(", {} of {}", words::bytes(bytes), words::bytes(bytes_total));
            if seen.bytes_per_second > 0.0 {
                let rate = words::bytes(seen.bytes_per_second as u64);
                text += &format!(", {rate}/s, {:.1} files/s", seen.files_per_second);
            }
            if let Some(left) = seen.left {
                text += &left_words(left);
            }
        }
        if phase == "upload" {
            let (in_flight, lanes) = (progress.in_flight.load(Relaxed), progress.lanes.load(Relaxed));
            text += &format!(", {in_flight} in flight (up to {lanes})");
            text += match seen.waits_for {
                Some(WaitsFor::Disk) => ", waiting on the disk",
                Some(WaitsFor::Network) => ", waiting on the network",
                Some(WaitsFor::Server) => ", waiting on the server",
                None => "",
            };
        }
        let counts = [(&progress.there, "there already"), (&progress.retries, "retries"), (&progress.failed, "failed")];
        for (count, word) in counts.map(|(count, word)| (count.load(Relaxed), word)) {
            if count > 0 {
                text += &format!(", {count} {word}");
            }
        }
        text
    }
}

/// The time that binds, and what it hangs on; the other one behind it.
fn left_words(left: Left) -> String {
    let (what, other) = match left.bound {
        Bound::Bytes => ("the bytes", format!("{} for the server's part of each file", words::about(left.by_files))),
        Bound::Files => ("the server's part of each file", format!("{} for the bytes", words::about(left.by_bytes))),
    };
    format!(", {} left for {what} ({other})", words::about(left.time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_which_of_two_times_binds_and_what_is_waited_for() {
        let (progress, mut line, start) = (Progress::default(), Line::default(), Instant::now());
        progress.begin("upload", 100_000, 300_000_000_000);
        progress.lanes.store(8, Relaxed);
        progress.in_flight.store(3, Relaxed);
        assert_eq!(line.tell(&progress, start), "upload: 0 of 100000, 0 B of 300.0 GB, 3 in flight (up to 8)");
        progress.files.store(100, Relaxed);
        progress.bytes.store(1_000_000_000, Relaxed);
        progress.server_nanos.store(7, Relaxed);
        progress.retries.store(2, Relaxed);
        progress.there.store(40, Relaxed);
        assert_eq!(
            line.tell(&progress, start + Duration::from_secs(10)),
            "upload: 100 of 100000, 1.0 GB of 300.0 GB, 100.0 MB/s, 10.0 files/s, 2 h 47 min left for the server's part \
             of each file (50 min for the bytes), 3 in flight (up to 8), waiting on the server, 40 there already, 2 retries"
        );
        progress.set_waiting(Some("connection refused".to_owned()));
        let told = line.tell(&progress, start + Duration::from_secs(20));
        assert_eq!(told, "upload: waiting for the server, which is away: connection refused");
    }
}
