//! What the page asks, answered from what the keeper knows.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use haven_keeper::ledger::{Filter, Verdict as Ended};
use haven_mount::control::Request;
use haven_page as page;
use haven_page::{
    Action, Answer, Colour, Download, DrillReport, DrillStep, ErrorKind, Event, EventStream, GrowthPoint, Listing,
    Metric, Overview, Run, RunFilter, Snapshot, Source, SourceError, Upcoming,
};
use haven_recover::proof::{self, Read};

use super::{
    super::{Keeper, child, locked, millis, seconds, tell},
    Served, browse,
    copies::copies,
};
use crate::{past::Shown, served::Inside};

/// The newest runs that the first page shows.
const RUNS: usize = 12;
/// The most that are ever shown at once.
const RUNS_MAX: usize = 1000;

fn failed(what: &str, error: &dyn std::fmt::Display) -> SourceError {
    SourceError::new(ErrorKind::Failed, format!("{what}: {error}"))
}

fn away() -> SourceError {
    SourceError::new(ErrorKind::Unavailable, "the library is not mounted just now")
        .next("the overview tells what the keeper waits for")
}

fn finding(one: &haven_keeper::findings::Finding) -> page::Finding {
    page::Finding {
        key: one.key.clone(),
        subject: one.subject.clone(),
        severity: one.severity,
        title: one.title.clone(),
        meaning: one.meaning.clone(),
        next: one.next.clone(),
        since: one.since,
    }
}

/// A report of which nothing is known but its name, and what hindered that.
fn untold(id: String, step: &str, why: String, sealed: Option<bool>) -> DrillReport {
    let (at, level) = proof::named(&id).map_or((0, 0), |(at, level)| (at.as_second(), level));
    DrillReport {
        id,
        at,
        level,
        copy: String::new(),
        point: String::new(),
        good: false,
        seconds: 0.0,
        steps: vec![DrillStep { name: step.to_owned(), good: false, said: why, seconds: 0.0 }],
        sealed,
    }
}

fn run(one: &haven_keeper::ledger::Run) -> Run {
    Run {
        id: one.id,
        kind: one.kind.clone(),
        subject: one.name.clone(),
        started: one.started.div_euclid(1000),
        seconds: one.millis(millis()) as f64 / 1000.0,
        verdict: match one.verdict {
            Ended::Running => page::Verdict::Running,
            Ended::Ok => page::Verdict::Good,
            Ended::Warned => page::Verdict::Warning,
            Ended::Failed => page::Verdict::Failed,
            Ended::Killed => page::Verdict::Interrupted,
            Ended::Missed => page::Verdict::Missed,
        },
        said: one.said.clone(),
        bytes: one.bytes,
    }
}

impl Served {
    fn inside(&self) -> Answer<&Inside> {
        self.keeper.inside().filter(|_| !self.keeper.is_stopping()).ok_or_else(away)
    }

    /// What takes a while, away from who answers.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(failed("this broke off", &error)))
    }

    /// Runs this program with `args`; its answers.
    async fn command(&self, args: Vec<String>) -> Answer<Vec<serde_json::Value>> {
        let config = self.keeper.config().from.clone();
        let folder = tempfile::tempdir().map_err(|error| failed("no temporary folder can be made", &error))?;
        let papers = child::Papers::new(folder.path(), 0, "page")
            .map_err(|error| failed("no temporary file can be made", &error))?;
        let open = |path: &std::path::Path| {
            child::Papers::append(path).map_err(|error| failed("no temporary file can be made", &error))
        };
        let started = child::start(&args, config.as_deref(), open(&papers.out)?, open(&papers.log)?);
        let running = started.map_err(|error| failed("it can't be started", &error))?;
        let status = running.done.await.map_err(std::io::Error::other).and_then(|status| status);
        let said = papers.finish();
        match (status, said.troubles.last()) {
            (Ok(status), _) if status.success() => Ok(said.values),
            (_, Some(trouble)) => {
                let why = trouble.because.iter().map(|why| format!(": {why}")).collect::<String>();
                Err(SourceError::new(ErrorKind::Refused, format!("{}{why}", trouble.what))
                    .meaning(trouble.meaning.clone())
                    .next(trouble.next.join("; ")))
            }
            (Ok(status), None) => Err(failed("it did not go well", &child::ended(status))),
            (Err(error), None) => Err(failed("it did not go well", &error)),
        }
    }
}

#[async_trait]
impl Source for Served {
    async fn overview(&self) -> Answer<Overview> {
        let keeper: &Keeper = &self.keeper;
        let seen = keeper.seen();
        let state = &seen.state;
        // What moves all the time is asked for anew.
        let status = match self.inside() {
            Ok(inside) => {
                let inside = inside.clone();
                self.aside(move || Ok(inside.status())).await?
            }
            Err(_) => serde_json::Value::Null,
        };
        let number = |name: &str| status[name].as_u64().unwrap_or_default();
        let newest = keeper.ledger.runs(&Filter { limit: RUNS, ..Filter::default() });
        let newest = newest.map_err(|error| failed("the ledger can't be read", &error))?;
        let mut upcoming: Vec<Upcoming> = keeper
            .upcoming()
            .into_iter()
            .filter_map(|(job, at)| {
                Some(Upcoming { kind: job.kind, subject: job.name, at: at?, schedule: job.schedule.to_string() })
            })
            .collect();
        upcoming.sort_by_key(|one| one.at);
        let digits = seen.score.iter().flat_map(|score| &score.digits).map(|digit| page::Digit {
            digit: digit.digit.to_string(),
            asks: digit.asks.clone(),
            met: digit.met,
            why: digit.why.clone(),
        });
        let looked = state.now > 0;
        Ok(Overview {
            at: if looked { state.now } else { seconds() },
            library: state.library.as_ref().map_or(state.mount.point.clone(), |place| place.url.clone()),
            safe_sentence: if looked { seen.sentence.clone() } else { "The keeper has just begun to look.".into() },
            colour: match seen.colour.as_str() {
                "ok" => Colour::Green,
                "warning" => Colour::Yellow,
                "critical" => Colour::Red,
                _ => Colour::Unknown,
            },
            score: page::Score { digits: digits.collect() },
            findings: seen.findings.iter().map(finding).collect(),
            copies: copies(state, &seen.findings),
            runs: newest.iter().map(run).collect(),
            mounted: status.is_object(),
            cache: page::Cache {
                place: state.cache.place.clone(),
                used_bytes: number("cache_used"),
                limit_bytes: number("cache_limit"),
                clean_bytes: number("cache_clean"),
                disk_used_bytes: state.cache.disk_bytes.saturating_sub(state.cache.disk_free),
                disk_bytes: state.cache.disk_bytes,
                disk_full_at: haven_keeper::findings::full_in(&state.cache, state.now).map(|left| state.now + left),
            },
            queue: page::Queue {
                changes: number("unsent_changes"),
                bytes: number("pending_bytes"),
                recovery_point_seconds: status["recovery_point_seconds"].as_f64().unwrap_or_default(),
                trouble: status["trouble"].as_str().map(str::to_owned),
            },
            throughput: *locked(&self.flow),
            upcoming,
        })
    }

    async fn runs(&self, filter: RunFilter) -> Answer<Vec<Run>> {
        let limit = if filter.limit == 0 { 200 } else { filter.limit.min(RUNS_MAX) };
        let wanted = Filter {
            kind: filter.kind,
            name: None,
            since: filter.since.map(|at| at.saturating_mul(1000)),
            before: filter.before.map(|at| at.saturating_mul(1000)),
            limit,
        };
        let runs = self.keeper.ledger.runs(&wanted).map_err(|error| failed("the ledger can't be read", &error))?;
        Ok(runs.iter().map(run).collect())
    }

    async fn run_log(&self, id: i64) -> Answer<String> {
        let found = self.keeper.ledger.run(id).map_err(|error| failed("the ledger can't be read", &error))?;
        let found = found.ok_or_else(|| SourceError::new(ErrorKind::Missing, format!("there is no run {id}")))?;
        let read = found.log.as_ref().and_then(|path| std::fs::read(path).ok());
        Ok(read.map_or(found.tail, |bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn snapshots(&self) -> Answer<Vec<Snapshot>> {
        let library = self.inside()?.library();
        let answer = library
            .answer(&Request::new("snapshot list"))
            .await
            .map_err(|error| failed("the snapshots can't be read", &error))?;
        let shown: Vec<Shown> =
            serde_json::from_value(answer).map_err(|error| failed("the snapshots can't be read", &error))?;
        let one = |shown: &Shown| Snapshot {
            name: shown.name.clone(),
            taken: shown.taken_seconds,
            by: if shown.by.is_empty() { shown.host.clone() } else { format!("{} on {}", shown.by, shown.host) },
            note: shown.note.clone(),
            files: shown.inodes,
            bytes: shown.file_bytes,
            protected_until: shown.protected_until,
            point: crate::points::point_of(&shown.name).is_some(),
        };
        let mut all: Vec<Snapshot> = shown.iter().map(one).collect();
        all.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.taken));
        Ok(all)
    }

    async fn browse(&self, snapshot: &str, path: &page::Inside, skip: usize, limit: usize) -> Answer<Listing> {
        let (point, snapshot, path) = (self.inside()?.point().to_owned(), snapshot.to_owned(), path.clone());
        self.aside(move || browse::list(&point, &snapshot, &path, skip, limit)).await
    }

    async fn open(&self, snapshot: &str, path: &page::Inside) -> Answer<Download> {
        let (point, snapshot, path) = (self.inside()?.point().to_owned(), snapshot.to_owned(), path.clone());
        self.aside(move || browse::open(&point, &snapshot, &path)).await
    }

    async fn restore(&self, snapshot: &str, path: &page::Inside) -> Answer<String> {
        let point = self.inside()?.point().to_owned();
        // Looked up by our own rules first: what the command opens is what was shown.
        self.browse(snapshot, &path.parent().unwrap_or_default(), 0, 1).await?;
        let stamp = crate::words::iso(crate::words::now()).replace(':', "");
        let plain: String = snapshot.chars().map(|c| if c == '/' { '_' } else { c }).collect();
        let folder = PathBuf::from("restored").join(format!("{stamp} from {plain}"));
        let (home, target) = (point.join("restored"), point.join(&folder));
        self.aside(move || {
            // The live library is written by others: a link there could lead anywhere.
            if std::fs::symlink_metadata(&home).is_ok_and(|about| !about.is_dir()) {
                return Err(SourceError::new(ErrorKind::Refused, "\"restored\" in the library is no folder")
                    .next("rename what is called so there, and bring it back again"));
            }
            std::fs::create_dir_all(&target).map_err(|error| failed("a folder for it can't be made", &error))
        })
        .await?;
        let args = vec![
            "snapshot".to_owned(),
            "restore".to_owned(),
            "--from".to_owned(),
            snapshot.to_owned(),
            "--to".to_owned(),
            point.join(&folder).display().to_string(),
            // No name is taken for a flag; "--" would swallow the flags that every child is given.
            format!("./{path}"),
        ];
        self.command(args).await?;
        Ok(folder.join(path.name().unwrap_or_default()).display().to_string())
    }

    async fn drills(&self) -> Answer<Vec<DrillReport>> {
        let inside = self.inside()?;
        let (root, keys) = (inside.point().to_owned(), inside.keys().clone());
        let read = self
            .aside(move || proof::read_all(&root, &keys).map_err(|error| failed("the reports can't be read", &error)))
            .await?;
        let one = |read: Read| match read {
            Read::Good { name, report } => DrillReport {
                id: name,
                at: report.finished.as_second(),
                level: report.level,
                copy: report.copy.clone(),
                point: report.point.clone().unwrap_or_default(),
                good: report.ok,
                seconds: report.seconds_to_complete,
                steps: report
                    .steps
                    .iter()
                    .map(|step| DrillStep {
                        name: step.name.clone(),
                        good: step.ok,
                        said: step.said.clone(),
                        seconds: step.seconds,
                    })
                    .collect(),
                sealed: Some(true),
            },
            Read::Bad { name, why } => untold(name, "seal", why, Some(false)),
            Read::Unread { name, why } => untold(name, "reading it", why, None),
        };
        let mut all: Vec<DrillReport> = read.into_iter().map(one).collect();
        all.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.id.cmp(&a.id)));
        Ok(all)
    }

    async fn growth(&self) -> Answer<Vec<GrowthPoint>> {
        let all = self.keeper.ledger.growth(0).map_err(|error| failed("the ledger can't be read", &error))?;
        let price = self.keeper.config().page.price.clone();
        let one = |growth: haven_keeper::ledger::Growth| GrowthPoint {
            at: growth.at,
            file_bytes: growth.file_bytes,
            files: growth.files,
            stored_bytes: growth.stored_bytes,
            cost_month: price.as_ref().map(|price| price.of(growth.stored_bytes)),
            currency: price.as_ref().map(|price| price.currency.clone()).unwrap_or_default(),
        };
        Ok(all.into_iter().map(one).collect())
    }

    async fn act(&self, action: Action) -> Answer<String> {
        match action {
            Action::RunNow { kind, subject } => {
                let key = if subject.is_empty() { kind } else { format!("{kind} {subject}") };
                if self.keeper.ask(&key) {
                    return Ok(format!("{key} begins, as soon as nothing is in its way"));
                }
                Err(SourceError::new(ErrorKind::Refused, format!("{key} is at work already, or is no job")))
            }
            Action::Flush => {
                let inside = self.inside()?.clone();
                match tokio::time::timeout(Duration::from_secs(15), inside.flush()).await {
                    Ok(Ok(())) => Ok("everything is in the bucket".into()),
                    Ok(Err(error)) => Err(SourceError::new(ErrorKind::Unavailable, error.message)),
                    Err(_) => Ok("it is being sent; the queue tells how far it is".into()),
                }
            }
            Action::Hush { key, subject, days } => {
                let id = if subject.is_empty() { key } else { format!("{key}:{subject}") };
                let until = seconds() + i64::from(days.min(365)) * 86_400;
                tell::hush(&self.keeper.ledger, &id, until).map_err(|error| failed("that can't be noted", &error))?;
                Ok(format!("nothing is told of {id} for {days} days; it stays here"))
            }
            Action::AlertTest => {
                let answers = self.command(vec!["alert".into(), "test".into()]).await?;
                let all = answers.first().and_then(|answer| answer["channels"].as_array().cloned()).unwrap_or_default();
                let one = |one: &serde_json::Value| {
                    format!(
                        "{}: {}",
                        one["channel"].as_str().unwrap_or_default(),
                        one["said"].as_str().unwrap_or_default()
                    )
                };
                Ok(all.iter().map(one).collect::<Vec<_>>().join("; "))
            }
        }
    }

    fn events(&self) -> EventStream {
        let (keeper, numbers) = (self.keeper.events(), self.numbers.subscribe());
        let told = futures::stream::unfold(keeper, |mut events| async move {
            loop {
                match events.recv().await {
                    Ok(super::super::Event::Runs) => return Some((Event::Runs, events)),
                    Ok(super::super::Event::Health) => return Some((Event::Health, events)),
                    // What was missed is shown with the next.
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let moved = futures::stream::unfold(numbers, |mut numbers| async move {
            loop {
                match numbers.recv().await {
                    Ok(()) => return Some((Event::Numbers, numbers)),
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        // A run may have taken a snapshot, or been a drill.
        let told = told.flat_map(|event| match event {
            Event::Runs => futures::stream::iter(vec![Event::Runs, Event::Snapshots, Event::Drills]),
            other => futures::stream::iter(vec![other]),
        });
        Box::pin(futures::stream::select(told, moved))
    }

    async fn metrics(&self) -> Answer<Vec<Metric>> {
        let seen = self.keeper.seen();
        let mut all = vec![
            Metric::new("haven_mount_up", f64::from(u8::from(matches!(seen.state.mount.answers, Some(Ok(_)))))),
            Metric::new("haven_keeper_start_timestamp_seconds", self.began as f64),
        ];
        match self.keeper.teller.waiting() {
            Ok(waiting) => all.push(Metric::new("haven_alerts_waiting", waiting as f64)),
            Err(error) => tracing::warn!(%error, "the outbox can't be read"),
        }
        if let Some(inside) = self.keeper.inside() {
            let meter = inside.stack().meter.snapshot();
            for verb in &meter.verbs {
                let word = verb.verb.as_str();
                all.push(Metric::new("haven_store_requests_total", verb.requests as f64).with("verb", word));
                let errors = (verb.errors_retry + verb.errors_setting) as f64;
                all.push(Metric::new("haven_store_request_errors_total", errors).with("verb", word));
            }
            all.push(Metric::new("haven_store_sent_bytes_total", meter.bytes_out() as f64));
            all.push(Metric::new("haven_store_received_bytes_total", meter.bytes_in() as f64));
            let kernel = inside.kernel();
            all.push(Metric::new("haven_mount_read_bytes_total", kernel.read_bytes as f64));
            all.push(Metric::new("haven_mount_written_bytes_total", kernel.written_bytes as f64));
            for op in &kernel.ops {
                all.push(Metric::new("haven_mount_requests_total", op.count as f64).with("operation", op.name));
            }
        }
        Ok(all)
    }

    async fn alive(&self) -> bool {
        // The look is made anew all the time while the keeper lives.
        self.keeper.is_looking()
    }
}
