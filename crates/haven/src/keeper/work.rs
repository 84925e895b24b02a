//! Jobs at work: begun when they are due, watched, judged, noted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use haven_keeper::{
    ledger::{Begin, End, Ledger, LedgerError, Run, Verdict},
    plan::{Job, Start},
};
use haven_notify::Ping;
use rustix::process::Signal;

use super::{
    Event, Keeper, SLEEP_MAX, WIND_DOWN, Working,
    child::{self, Papers, Said},
    facts, jobs,
    judge::{self, Outcome},
    locked, millis, seconds,
};
use crate::config::Config;

/// How long what an earlier keeper had begun has to end.
const LEFT_OVER: Duration = Duration::from_secs(20);
/// How often logs and runs of long ago are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(86_400);

impl Keeper {
    /// Begins what is due, until the keeper is told to stop.
    pub(super) async fn keep_working(self: Arc<Self>) {
        let mut forgot: Option<Instant> = None;
        let mut stopping = self.stopping.subscribe();
        while !self.is_stopping() {
            let starts = locked(&self.plan).due(seconds());
            for start in starts {
                tokio::spawn(self.clone().see_job_through(start));
            }
            if forgot.is_none_or(|forgot| forgot.elapsed() > FORGET_EVERY) {
                forgot = Some(Instant::now());
                self.forget();
            }
            let wake = locked(&self.plan).wake().map_or(SLEEP_MAX, |at| {
                Duration::from_secs((at - seconds()).max(0).unsigned_abs()).clamp(Duration::from_millis(200), SLEEP_MAX)
            });
            tokio::select! {
                () = tokio::time::sleep(wake) => {}
                () = self.due.notified() => {}
                _ = stopping.changed() => {}
            }
        }
    }

    fn forget(&self) {
        match self.ledger.forget(millis()) {
            Ok(logs) => logs.iter().for_each(|log| _ = std::fs::remove_file(log)),
            Err(error) => tracing::warn!(%error, "old runs can't be forgotten"),
        }
        self.teller.forget();
    }

    /// Does a job. One that broke off is at work no more, and due again: it would stand as running for ever, and hold up
    /// every other of its kind.
    async fn see_job_through(self: Arc<Self>, start: Start) {
        let key = start.key.clone();
        let Err(error) = tokio::spawn(self.clone().do_job(start)).await else { return };
        if let Some(pid) = locked(&self.working).remove(&key).and_then(|working| working.pid) {
            child::end(pid, Signal::TERM);
        }
        if error.is_cancelled() {
            return;
        }
        self.broke_off("job", &error);
        self.close_broken(&key);
        locked(&self.plan).ended(&key, seconds(), Verdict::Failed, true);
    }

    /// Notes the end of a run of the job `key` that nobody sees end.
    fn close_broken(&self, key: &str) {
        let said = "the keeper broke off in the middle of it; it is tried again";
        let end = End { ended: millis(), verdict: Verdict::Failed, exit: None, bytes: None, said, tail: "" };
        let closed = self.ledger.running().and_then(|open| {
            let of = |run: &&Run| [run.kind.as_str(), run.name.as_str()].join(" ").trim_end() == key;
            open.iter().filter(of).try_for_each(|run| self.ledger.end(run.id, &end))
        });
        if let Err(error) = closed {
            tracing::error!(%error, job = key, "how a run ended can't be noted");
        }
    }

    async fn do_job(self: Arc<Self>, start: Start) {
        let Some(job) = locked(&self.plan).job(&start.key).cloned() else { return };
        let config = self.config();
        let token = uuid();
        // As long as it stands here the keeper does not end: how the run ended must be in the ledger first.
        locked(&self.working).insert(start.key.clone(), Working { pid: None, since: seconds() });
        if self.is_stopping() {
            locked(&self.working).remove(&start.key);
            return;
        }
        let begin = Begin {
            kind: &job.kind,
            name: &job.name,
            planned: start.planned.map(|at| at * 1000),
            started: millis(),
            tries: start.tries,
            token: &token,
        };
        // A recovery point that nobody has noted is better than none. That it can't be noted is a finding.
        let unnoted = |error: &LedgerError| tracing::error!(%error, job = start.key, "this run can't be noted");
        let id = self.ledger.begin(&begin).inspect_err(unnoted).ok();
        let began = seconds();
        tracing::info!(job = start.key, run = id, "begun");
        self.teller.ping(&config, &job.kind, Ping::Start, Some(&token), "");
        _ = self.events.send(Event::Runs);
        let (outcome, tail, exit) = self.run(&config, &job, id, began).await;
        let stopped = self.is_stopping() && !outcome.verdict.is_done();
        let outcome = if stopped {
            Outcome {
                verdict: Verdict::Killed,
                said: "it was ended with the keeper, and is done at the next start".into(),
                ..outcome
            }
        } else {
            outcome
        };
        // Before its end: a keeper that is started anew must know.
        if outcome.verdict == Verdict::Failed
            && outcome.again
            && let Some(id) = id
            && let Err(error) = facts::write(&self.ledger, &facts::again_key(&start.key), &Some(id))
        {
            tracing::error!(%error, run = id, "that a run is to be tried again can't be noted");
        }
        let end = End {
            ended: millis(),
            verdict: outcome.verdict,
            exit,
            bytes: outcome.bytes,
            said: &outcome.said,
            tail: &tail,
        };
        if let Some(id) = id
            && let Err(error) = self.ledger.end(id, &end)
        {
            tracing::error!(%error, run = id, "how a run ended can't be noted");
        }
        locked(&self.working).remove(&start.key);
        tracing::info!(job = start.key, run = id, verdict = outcome.verdict.word(), said = outcome.said, "ended");
        locked(&self.plan).ended(&start.key, seconds(), outcome.verdict, outcome.again);
        if !stopped {
            let ping = match (outcome.verdict.is_done(), exit) {
                (true, _) => Ping::Success,
                (false, Some(code)) => Ping::Exit(u8::try_from(code).unwrap_or(1).max(1)),
                (false, None) => Ping::Fail,
            };
            self.teller.ping(&config, &job.kind, ping, Some(&token), &format!("{}\n{tail}", outcome.said));
        }
        _ = self.events.send(Event::Runs);
        self.due.notify_one();
        self.look.notify_one();
    }

    /// Where a run writes. What can't be kept on the keeper's disk goes with the folder that is returned.
    fn papers(&self, id: Option<i64>, key: &str) -> std::io::Result<(Papers, Option<tempfile::TempDir>)> {
        if let Some(id) = id {
            match Papers::new(&self.rooms.logs(), id, key).and_then(Papers::tried) {
                Ok(papers) => return Ok((papers, None)),
                Err(error) => tracing::error!(%error, job = key, "its log can't be kept"),
            }
        }
        // In memory, where there is such a place.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        Ok((Papers::new(folder.path(), id.unwrap_or_default(), key)?, Some(folder)))
    }

    /// Runs the commands of a job; what came of it, the end of the log, and the exit code.
    async fn run(
        &self,
        config: &Arc<Config>,
        job: &Job,
        id: Option<i64>,
        began: i64,
    ) -> (Outcome, String, Option<i32>) {
        let broken = |what: &str, error: &dyn std::error::Error| {
            let said = format!("{what}: {error}");
            (Outcome { verdict: Verdict::Failed, said: said.clone(), bytes: None, again: true }, said, None)
        };
        let (papers, _folder) = match self.papers(id, &job.key()) {
            Ok(papers) => papers,
            Err(error) => return broken("its log can't be written", &error),
        };
        let (mut exit, mut before) = (Some(0), Some(0));
        for step in jobs::steps(config, job, |name, app| facts::begun(config, &self.ledger, name, app)) {
            let started = papers
                .line(&format!("$ haven {}", step.join(" ")))
                .and_then(|()| Ok((Papers::append(&papers.out)?, Papers::append(&papers.log)?)))
                .and_then(|(out, err)| child::start(&step, config.from.as_deref(), out, err));
            let running = match started {
                Ok(running) => running,
                Err(error) => return broken("it can't be started", &error),
            };
            if let Some(working) = locked(&self.working).get_mut(&job.key()) {
                working.pid = Some(running.pid);
            }
            if let Some(id) = id
                && let Err(error) = self.ledger.child(id, running.pid, child::started(running.pid), &papers.log)
            {
                tracing::error!(%error, "a child can't be noted");
            }
            if self.is_stopping() {
                child::end(running.pid, Signal::TERM);
            }
            let status = running.done.await.map_err(std::io::Error::other).and_then(|status| status);
            if let Some(working) = locked(&self.working).get_mut(&job.key()) {
                working.pid = None;
            }
            match status {
                Ok(status) => {
                    exit = status.code();
                    _ = papers.line(&child::ended(status));
                }
                Err(error) => return broken("how it ended is not known", &error),
            }
            // The first that failed is what the job ends with.
            if before != Some(0) {
                exit = before;
            }
            before = exit;
            let go_on = exit.is_some_and(|exit| exit == 0 || jobs::goes_on(&job.kind, exit));
            if !go_on || self.is_stopping() {
                break;
            }
        }
        let papers = papers.clone();
        let said = tokio::task::spawn_blocking(move || papers.finish()).await.unwrap_or_default();
        let outcome = judge::judge(&self.ledger, &job.kind, &job.name, exit, &said, began, seconds());
        (outcome, tail(&said), exit)
    }

    /// Asks all jobs to end, and waits for it; then they are ended.
    pub(super) async fn end_jobs(&self) {
        let begun = Instant::now();
        let mut asked = Vec::new();
        let mut killed = false;
        loop {
            let working: Vec<(String, Option<u32>)> =
                locked(&self.working).iter().map(|(key, working)| (key.clone(), working.pid)).collect();
            if working.is_empty() {
                return;
            }
            for pid in working.iter().filter_map(|(_, pid)| *pid) {
                if !asked.contains(&pid) {
                    tracing::info!(jobs = working.len(), "ending what is at work");
                    child::end(pid, Signal::TERM);
                    asked.push(pid);
                }
            }
            if begun.elapsed() > WIND_DOWN && !killed {
                killed = true;
                for (key, pid) in &working {
                    tracing::warn!(job = key, "it does not end; it is killed");
                    if let Some(pid) = pid {
                        child::end(*pid, Signal::KILL);
                    }
                }
            }
            if begun.elapsed() > WIND_DOWN + Duration::from_secs(5) {
                return;
            }
            crate::manager::busy(&format!(
                "ending {}",
                working.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ")
            ));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The lines that are worth keeping of a log: not the answers, which are values.
fn tail(said: &Said) -> String {
    let lines: Vec<&str> = said.log.lines().filter(|line| !line.starts_with("answer ")).collect();
    haven_keeper::ledger::tail(&lines.join("\n"))
}

/// Random, version 4 (RFC 9562).
fn uuid() -> String {
    let bits = (rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A run that an earlier keeper was at, and that has ended with it.
#[derive(Debug)]
pub struct Unclosed {
    id: i64,
    tail: String,
}

impl Unclosed {
    pub fn close(&self, ledger: &Ledger) -> Result<(), LedgerError> {
        let end = End {
            ended: millis(),
            verdict: Verdict::Killed,
            exit: None,
            bytes: None,
            said: "the keeper was killed while it was at work; it is tried again",
            tail: &self.tail,
        };
        ledger.end(self.id, &end)
    }
}

/// Ends what an earlier keeper had begun and nobody saw end, and notes that. Those are returned whose end can't be noted yet.
pub fn close_what_was_killed(ledger: &Ledger) -> Result<Vec<Unclosed>, LedgerError> {
    let left = ledger.running()?;
    let alive =
        |run: &Run| run.pid.is_some_and(|pid| run.pid_started.is_some() && child::started(pid) == run.pid_started);
    for run in left.iter().filter(|run| alive(run)) {
        if let Some(pid) = run.pid {
            child::end(pid, Signal::TERM);
        }
    }
    let until = Instant::now() + LEFT_OVER;
    while left.iter().any(alive) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut unclosed = Vec::new();
    for run in &left {
        if let Some(pid) = run.pid.filter(|_| alive(run)) {
            child::end(pid, Signal::KILL);
        }
        let said = run.log.as_deref().map(|log| Papers::of(log).finish()).unwrap_or_default();
        let closed = Unclosed { id: run.id, tail: tail(&said) };
        tracing::info!(run = run.id, kind = run.kind, "was at work when the keeper was killed");
        if let Err(error) = closed.close(ledger) {
            tracing::error!(%error, run = run.id, "how a run ended can't be noted");
            unclosed.push(closed);
        }
    }
    Ok(unclosed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_uuids_and_differ() {
        let (a, b) = (uuid(), uuid());
        assert_ne!(a, b);
        assert_eq!((a.len(), &a[14..15]), (36, "4"));
        assert!("89ab".contains(&a[19..20]), "{a}");
    }
}
