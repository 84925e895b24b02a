//! A library that was made up, for tests and for the example: it changes when it is told to.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use haven_page::{
    Action, Answer, Cache, Colour, Copy, CopyKind, Digit, Download, DrillReport, DrillStep, Entry, EntryKind,
    ErrorKind, Event, EventStream, Finding, GrowthPoint, Inside, Listing, Metric, Overview, Queue, Run, RunFilter,
    Score, Severity, Snapshot, Source, SourceError, Throughput, Upcoming, Verdict,
};
use parking_lot::Mutex;
use tokio::sync::broadcast;

pub const DAY: i64 = 86_400;

pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

pub struct Fake {
    pub overview: Mutex<Overview>,
    pub runs: Mutex<Vec<Run>>,
    /// Files of every snapshot by path.
    pub files: BTreeMap<String, Vec<u8>>,
    pub restored: Mutex<Vec<String>>,
    pub acted: Mutex<Vec<Action>>,
    pub alive: AtomicBool,
    pub growing: bool,
    events: broadcast::Sender<Event>,
}

impl Fake {
    pub fn new() -> Self {
        let at = now();
        let runs = runs(at);
        let mut files: BTreeMap<String, Vec<u8>> = [
            ("2019/07/IMG_0001.jpg", 81_234),
            ("2019/07/IMG_0002.jpg", 1_500_000),
            ("2019/07/<b>odd & \"name\".jpg", 17),
            ("2019/08/Straße, am Meer.heic", 4_096),
            ("notes.txt", 12),
        ]
        .into_iter()
        .map(|(name, size)| (name.to_owned(), vec![7; size]))
        .collect();
        files.extend((0..450).map(|n| (format!("many/IMG_{n:04}.jpg"), vec![n as u8; 10])));
        Self {
            overview: Mutex::new(overview(at, &runs)),
            runs: Mutex::new(runs),
            files,
            restored: Mutex::default(),
            acted: Mutex::default(),
            alive: AtomicBool::new(true),
            growing: true,
            events: broadcast::Sender::new(64),
        }
    }

    pub fn tell(&self, event: Event) {
        _ = self.events.send(event);
    }

    /// `red`, `yellow`, `green`: how things are from now on.
    pub fn turn(&self, word: &str) {
        let mut overview = self.overview.lock();
        let (colour, sentence) = match word {
            "red" => (Colour::Red, "The bucket has refused every upload for two hours."),
            "yellow" => (Colour::Yellow, "Your photos are safe; one copy is behind."),
            "unknown" => (Colour::Unknown, "The keeper has just started and has not looked yet."),
            _ => (Colour::Green, "Your photos are in three places, and all were read back."),
        };
        overview.colour = colour;
        overview.safe_sentence = sentence.into();
        match word {
            "red" => overview.findings.push(finding(
                "bucket-errors",
                "",
                Severity::Critical,
                "The bucket refuses uploads",
                now() - 7200,
            )),
            "green" => overview.findings.clear(),
            _ => {}
        }
        drop(overview);
        self.tell(Event::Health);
    }

    /// The numbers that move.
    pub fn tick(&self, n: u64) {
        let mut overview = self.overview.lock();
        overview.at = now();
        overview.queue.bytes = 1_000_000 * (n % 40);
        overview.queue.changes = n % 40;
        overview.queue.recovery_point_seconds = (n % 40) as f64 / 10.0;
        overview.throughput.up = 250_000.0 * (n % 17) as f64;
        drop(overview);
        self.tell(Event::Numbers);
    }

    pub fn ran(&self, run: Run) {
        self.runs.lock().insert(0, run.clone());
        self.overview.lock().runs.insert(0, run);
        self.tell(Event::Runs);
    }

    fn of(&self, snapshot: &str) -> Answer<()> {
        let known = snapshots(now()).iter().any(|known| known.name == snapshot);
        if known { Ok(()) } else { Err(missing()) }
    }
}

fn missing() -> SourceError {
    SourceError::new(ErrorKind::Missing, "there is no such file in this snapshot").next("look at another snapshot")
}

pub fn finding(key: &str, subject: &str, severity: Severity, title: &str, since: i64) -> Finding {
    Finding {
        key: key.into(),
        subject: subject.into(),
        severity,
        title: title.into(),
        meaning: "Should the library be lost now, what was added in the last 26 hours would be in the bucket alone."
            .into(),
        next: vec![
            format!("haven replica status    tells how far {subject} has come"),
            "See whether the machine it is on is switched on and reachable.".into(),
        ],
        since,
    }
}

fn run(id: i64, kind: &str, subject: &str, started: i64, seconds: f64, verdict: Verdict, said: &str) -> Run {
    Run {
        id,
        kind: kind.into(),
        subject: subject.into(),
        started,
        seconds,
        verdict,
        said: said.into(),
        bytes: (verdict != Verdict::Missed).then_some(123_456_789),
    }
}

pub fn runs(at: i64) -> Vec<Run> {
    let mut all = vec![run(1000, "check", "", at - 40, 40.0, Verdict::Running, "12 of 64 packs")];
    for n in 0..7 {
        let then = at - n * DAY;
        let id = 900 - n * 10;
        let replica = if n == 1 { Verdict::Failed } else { Verdict::Good };
        all.push(run(id, "backup", "immich", then - 3600, 42.5, Verdict::Good, "a point of 48 211 photos"));
        all.push(run(id - 1, "replica", "far", then - 7200, 5400.0, replica, "everything is there"));
        let copy = match n {
            0 => Verdict::Missed,
            2 => Verdict::Interrupted,
            _ => Verdict::Good,
        };
        all.push(run(id - 2, "copy", "home", then - 20_000, 610.0, copy, "one archive"));
        all.push(run(id - 3, "drill", "far", then - 30_000, 130.0, Verdict::Good, "level 0"));
    }
    all.push(run(100, "gc", "", at - DAY - 500, 3.0, Verdict::Warning, "the brake holds 2.1 GB back"));
    all.sort_by_key(|run| std::cmp::Reverse(run.started));
    all
}

fn copy(name: &str, kind: CopyKind, place: &str, colour: Colour, lag: u64, proven: Option<i64>) -> Copy {
    Copy {
        name: name.into(),
        kind,
        place: place.into(),
        colour,
        said: if colour == Colour::Green { "up to date".into() } else { "26 h behind".into() },
        lag: Some(lag),
        verified: proven.filter(|_| kind == CopyKind::Replica),
        proven,
        proven_by: "every byte read".into(),
        proof_unseen: false,
        synced: Some(now() - lag as i64),
        bytes: Some(812_000_000_000),
        locked: Some(kind == CopyKind::Replica),
    }
}

fn digit(digit: &str, asks: &str, met: bool, why: &str) -> Digit {
    Digit { digit: digit.into(), asks: asks.into(), met, why: why.into() }
}

fn overview(at: i64, runs: &[Run]) -> Overview {
    Overview {
        at,
        library: "s3://photos/haven, at /mnt/photos".into(),
        safe_sentence: "Your photos are safe; one copy is behind.".into(),
        colour: Colour::Yellow,
        score: Score {
            digits: vec![
                digit("3", "three copies", true, "library, far, home"),
                digit("2", "two kinds of storage", true, "S3 and Borg"),
                digit("1", "one elsewhere", true, "far is in another region"),
                digit("1", "one that nobody can change", false, "no copy is locked: see store.s3.lock"),
                digit("0", "no errors", true, "all was read back within 30 days"),
            ],
        },
        findings: vec![
            finding("replica-lag", "far", Severity::Warning, "The replica far is 26 hours behind", at - 90_000),
            finding("certificate-expiry", "s3", Severity::Info, "A certificate ends in 20 days", at - 3 * DAY),
        ],
        copies: vec![
            copy("library", CopyKind::Library, "s3://photos/haven", Colour::Green, 3, Some(at - 2 * DAY)),
            copy(
                "far",
                CopyKind::Replica,
                "s3://photos-copy-in-another-region/haven",
                Colour::Yellow,
                93_600,
                Some(at - 12 * DAY),
            ),
            copy("home", CopyKind::Third, "ssh://backup@nas.example.org/./photos", Colour::Green, 20_000, None),
        ],
        runs: runs.iter().take(8).cloned().collect(),
        mounted: true,
        cache: Cache {
            place: "/var/cache/haven".into(),
            used_bytes: 21_000_000_000,
            limit_bytes: 30_000_000_000,
            clean_bytes: 20_400_000_000,
            disk_used_bytes: 330_000_000_000,
            disk_bytes: 480_000_000_000,
            disk_full_at: Some(at + 90 * DAY),
        },
        queue: Queue { changes: 12, bytes: 34_000_000, recovery_point_seconds: 2.4, trouble: None },
        throughput: Throughput {
            up: 4_200_000.0,
            down: 120_000.0,
            read: 900_000.0,
            written: 4_100_000.0,
            requests: 3.2,
        },
        upcoming: vec![
            Upcoming { kind: "backup".into(), subject: "immich".into(), at: at + 900, schedule: "hourly".into() },
            Upcoming { kind: "replica".into(), subject: "far".into(), at: at + 4000, schedule: "daily 00:30".into() },
            Upcoming { kind: "drill".into(), subject: "far".into(), at: at + DAY, schedule: "Sun 04:00".into() },
        ],
    }
}

pub fn snapshots(at: i64) -> Vec<Snapshot> {
    let one = |n: i64, name: &str, point| Snapshot {
        name: name.into(),
        taken: at - n * DAY,
        by: "haven@mini".into(),
        note: if point { String::new() } else { "before the <cleanup>".into() },
        files: 48_211,
        bytes: 812_000_000_000,
        protected_until: (n == 2).then_some(at + 30 * DAY),
        point,
    };
    vec![one(0, "immich-newest", true), one(1, "immich-before", true), one(2, "before the cleanup", false)]
}

fn children(files: &BTreeMap<String, Vec<u8>>, folder: &Inside) -> BTreeMap<(EntryKind, String), u64> {
    let before = if folder.is_root() { String::new() } else { format!("{folder}/") };
    let inside = files.iter().filter_map(|(path, content)| Some((path.strip_prefix(&before)?, content.len() as u64)));
    inside
        .map(|(rest, bytes)| match rest.split_once('/') {
            Some((name, _)) => ((EntryKind::Folder, name.to_owned()), 0),
            None => ((EntryKind::File, rest.to_owned()), bytes),
        })
        .collect()
}

#[async_trait]
impl Source for Fake {
    async fn overview(&self) -> Answer<Overview> {
        Ok(self.overview.lock().clone())
    }

    async fn runs(&self, filter: RunFilter) -> Answer<Vec<Run>> {
        let runs = self.runs.lock();
        let fits = |run: &&Run| {
            filter.kind.as_ref().is_none_or(|kind| *kind == run.kind)
                && filter.since.is_none_or(|since| run.started >= since)
                && filter.before.is_none_or(|before| run.started < before)
        };
        let limit = if filter.limit == 0 { usize::MAX } else { filter.limit };
        Ok(runs.iter().filter(fits).take(limit).cloned().collect())
    }

    async fn run_log(&self, id: i64) -> Answer<String> {
        let known = self.runs.lock().iter().any(|run| run.id == id);
        if known {
            Ok(format!("began run {id}\n<script>alert(1)</script>\ndone\n"))
        } else {
            Err(SourceError::new(ErrorKind::Missing, "there is no such run"))
        }
    }

    async fn snapshots(&self) -> Answer<Vec<Snapshot>> {
        Ok(snapshots(now()))
    }

    async fn browse(&self, snapshot: &str, path: &Inside, skip: usize, limit: usize) -> Answer<Listing> {
        self.of(snapshot)?;
        let inside = children(&self.files, path);
        if inside.is_empty() && !path.is_root() {
            return Err(missing());
        }
        let entry = |((kind, name), bytes): (&(EntryKind, String), &u64)| Entry {
            name: name.clone(),
            kind: *kind,
            bytes: *bytes,
            modified: 1_563_000_000,
        };
        Ok(Listing { entries: inside.iter().map(entry).skip(skip).take(limit).collect(), total: inside.len() })
    }

    async fn open(&self, snapshot: &str, path: &Inside) -> Answer<Download> {
        self.of(snapshot)?;
        let content = self.files.get(&path.to_string()).ok_or_else(missing)?.clone();
        let bytes = content.len() as u64;
        let pieces: Vec<_> = content.chunks(64 << 10).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let name = path.name().unwrap_or_default().to_owned();
        Ok(Download { name, bytes, content: stream::iter(pieces).boxed() })
    }

    async fn restore(&self, snapshot: &str, path: &Inside) -> Answer<String> {
        self.of(snapshot)?;
        let known = self.files.keys().any(|file| file.starts_with(&path.to_string()));
        if !known || path.is_root() {
            return Err(missing());
        }
        let at = format!("restored/{snapshot}/{path}");
        self.restored.lock().push(at.clone());
        Ok(at)
    }

    async fn drills(&self) -> Answer<Vec<DrillReport>> {
        let step =
            |name: &str, good, said: &str| DrillStep { name: name.into(), good, said: said.into(), seconds: 4.2 };
        let one = |n: i64, level, good| DrillReport {
            id: format!("d{n}"),
            at: now() - n * DAY,
            level,
            copy: "far".into(),
            point: "immich-newest".into(),
            good,
            seconds: 130.0,
            steps: vec![
                step("opens", true, "the newest point opened in 3.1 s"),
                step("a sample", good, "64 photos by SHA-1, all right"),
            ],
            sealed: Some(true),
        };
        Ok(vec![one(1, 0, true), one(5, 1, false), one(20, 2, true)])
    }

    async fn growth(&self) -> Answer<Vec<GrowthPoint>> {
        if !self.growing {
            return Ok(Vec::new());
        }
        let one = |n: i64| GrowthPoint {
            at: now() - (120 - n) * DAY,
            file_bytes: 600_000_000_000 + n as u64 * 1_700_000_000,
            files: 40_000 + n as u64 * 68,
            stored_bytes: 560_000_000_000 + n as u64 * 1_500_000_000,
            cost_month: Some(3.4 + n as f64 * 0.009),
            currency: "EUR".into(),
        };
        Ok((0..=120).map(one).collect())
    }

    async fn act(&self, action: Action) -> Answer<String> {
        if action == (Action::RunNow { kind: "busy".into(), subject: String::new() }) {
            return Err(SourceError::new(ErrorKind::Refused, "it is running already").next("wait for it"));
        }
        self.acted.lock().push(action);
        Ok("done".into())
    }

    fn events(&self) -> EventStream {
        let receive = self.events.subscribe();
        stream::unfold(receive, |mut receive| async move {
            loop {
                match receive.recv().await {
                    Ok(event) => return Some((event, receive)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }

    async fn metrics(&self) -> Answer<Vec<Metric>> {
        Ok(vec![
            Metric::new("haven_mount_up", 1.0),
            Metric::new("haven_store_requests_total", 12_345.0).with("verb", "put"),
            Metric::new("haven_alerts_waiting", 0.0),
        ])
    }

    async fn alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }
}
