//! Shows how an import goes on: one line that changes on a terminal, plain lines otherwise.

use std::{
    io::IsTerminal,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use haven_import::Progress;
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
                let text = line.tell(&progress);
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

/// What is shown, and what the rate is reckoned from.
#[derive(Default)]
struct Line {
    phase: &'static str,
    since: Option<Instant>,
    disk: u64,
    server: u64,
}

impl Line {
    fn tell(&mut self, progress: &Progress) -> String {
        let phase = progress.phase();
        let now = Instant::now();
        if self.phase != phase {
            *self = Self {
                phase,
                since: Some(now),
                disk: progress.disk_nanos.load(Relaxed),
                server: progress.server_nanos.load(Relaxed),
            };
        }
        let since = self.since.unwrap_or(now);
        if let Some(why) = progress.waiting() {
            return format!("{phase}: waiting for the server, which is away: {why}");
        }
        let (files, total) = (progress.files.load(Relaxed), progress.files_total.load(Relaxed));
        let (bytes, bytes_total) = (progress.bytes.load(Relaxed), progress.bytes_total.load(Relaxed));
        let mut text = format!("{phase}: {files} of {total}");
        let seconds = now.duration_since(since).as_secs_f64();
        if bytes_total > 0 {
            text += &format!(", {} of {}", words::bytes(bytes), words::bytes(bytes_total));
            if seconds > 2.0 && bytes > 0 {
                let rate = bytes as f64 / seconds;
                let left = bytes_total.saturating_sub(bytes) as f64 / rate;
                text += &format!(
                    ", {}/s, {:.1} files/s, {} left",
                    words::bytes(rate as u64),
                    files as f64 / seconds,
                    time(left)
                );
            }
        }
        if phase == "upload" {
            let disk = progress.disk_nanos.load(Relaxed).saturating_sub(self.disk);
            let server = progress.server_nanos.load(Relaxed).saturating_sub(self.server);
            let waits = if disk > server { "disk" } else { "server" };
            text += &format!(", {} at once, waiting on the {waits}", progress.in_flight.load(Relaxed));
        }
        for (count, word) in [(progress.retries.load(Relaxed), "retries"), (progress.failed.load(Relaxed), "failed")] {
            if count > 0 {
                text += &format!(", {count} {word}");
            }
        }
        text
    }
}

fn time(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 => "less than a minute".to_owned(),
        1..60 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}
