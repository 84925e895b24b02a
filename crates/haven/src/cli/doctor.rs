//! `haven doctor`: is everything here that a library needs? Leaves nothing behind.

mod units;

use std::{
    fs,
    path::{Path, PathBuf},
};

use haven_store::probe::{self, ProbeError, Report};
use rustix::fs::Access;
use serde::Serialize;

use super::{Context, UrlArg, wait};
use crate::{
    library, remembered,
    replicas::Place,
    report::{self, Code, Trouble},
    words,
};

/// Check this machine, the store, and systemd's units
///
/// FUSE, the cache directory, the clock; what the bucket really honours, and what the key may do to replicas. With
/// --units: the unit files that mount, copy and tell of trouble, for mistakes by which photos are lost or a loss passes
/// unseen (a timer that fires at 00:03 and not at 3, a restart that hides failures, an alert that is never sent).
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven doctor                      this machine\n  haven doctor s3://photos/haven    and the bucket\n  haven doctor --units              this machine's units that have to do with photos\n  haven doctor --units ./units      all units of a directory"
)]
pub struct Args {
    #[command(flatten)]
    url: UrlArg,
    /// Check this cache directory
    #[arg(long, value_name = "DIR", env = "HAVEN_CACHE", hide_env = true)]
    cache: Option<PathBuf>,
    /// Audit unit files and nothing else: those of DIR, or of this machine
    #[arg(long, value_name = "DIR", num_args = 0..)]
    units: Option<Vec<PathBuf>>,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    says: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    next: String,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, says: impl Into<String>) -> Self {
        Self { check, verdict, says: says.into(), next: String::new() }
    }

    fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, says)
    }

    fn next(mut self, text: impl Into<String>) -> Self {
        self.next = text.into();
        self
    }

    /// A trouble as a finding.
    fn of(check: &'static str, trouble: &Trouble) -> Self {
        let says = std::iter::once(&trouble.what).chain(&trouble.because).cloned().collect::<Vec<_>>().join(": ");
        Self::new(check, Verdict::Fail, says).next(trouble.next.join("; "))
    }
}

pub fn run(context: Result<Context, Trouble>, json: bool, args: Args) -> Result<(), Trouble> {
    if let Some(directories) = &args.units {
        // Units are looked at where settings are wrong, too.
        let context = context.or_else(|_| Ok(Context { config: crate::config::Config::from_text("", "")?, json }))?;
        return units::run(&context, directories);
    }
    let context = context?;
    let config = &context.config;
    if let Some(directory) = args.url.named().map(Path::new).filter(|path| units::holds_units(path)) {
        return units::run(&context, &[directory.to_owned()]);
    }
    let mut findings = vec![Finding::ok(
        "settings",
        match &config.from {
            Some(path) => path.display().to_string(),
            None => "the defaults: there is no haven.toml".into(),
        },
    )];
    findings.extend([device(), helper(), others(config.mount.allow_other)]);
    if let Some(cache) = args.cache.as_deref().or(config.cache.directory.as_deref()) {
        findings.push(cache_directory(cache, config.cache.size));
    }
    if let Ok(place) = args.url.place(config) {
        findings.extend(wait(async { Ok(store(&place).await) })?);
    }
    findings.extend(config.copies.iter().map(|(name, copy)| third_copy(name, copy)));
    for (name, replica) in &config.replicas {
        findings.push(match super::replica::ensure_own(config, name, &replica.own.url, replica.own.from.as_deref()) {
            Ok(()) => wait(async { Ok(copy(name, &replica.own).await) })?,
            Err(trouble) => Finding::of("replica", &Trouble { what: format!("{name}: {}", trouble.what), ..trouble }),
        });
    }
    let text: String = findings.iter().map(line).collect();
    context.answer(&serde_json::json!({ "findings": findings }), &text)?;
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Trouble::new(Code::Local, format!("{} failed", words::count(failed, "check")))
        .next("mend what the list above says"))
}

/// A word in its colour, padded.
fn paint(word: &str) -> String {
    let colour = report::colour(std::io::IsTerminal::is_terminal(&std::io::stdout()));
    let paint = match word {
        "ok" => "\x1b[32m",
        "warn" => "\x1b[33m",
        _ => "\x1b[31m",
    };
    let (on, off) = if colour { (paint, "\x1b[0m") } else { ("", "") };
    format!("{on}{word:<5}{off}")
}

fn line(finding: &Finding) -> String {
    let word = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    let mut out = format!("{} {:<12} {}\n", paint(word), finding.check, finding.says);
    if !finding.next.is_empty() {
        out += &format!("      {:<12} next: {}\n", "", finding.next);
    }
    out
}

/// Whether the program that makes a copy is here and good enough.
fn third_copy(name: &str, copy: &crate::copies::CopyConfig) -> Finding {
    const CHECK: &str = "copy";
    let opened = match copy.open(name, None) {
        Ok(opened) => opened,
        Err(trouble) => return Finding::of(CHECK, &trouble),
    };
    let says = format!("{name}: {} {}", copy.format.word(), opened.version());
    match opened.warnings() {
        [] => Finding::ok(CHECK, says),
        warnings => Finding::new(CHECK, Verdict::Warn, format!("{says}: {}", warnings.join("; ")))
            .next(format!("install a newer {}", copy.format.word())),
    }
}

fn device() -> Finding {
    let opened = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    match opened {
        Ok(_) => Finding::ok("/dev/fuse", "is there, and this user may open it"),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::new("/dev/fuse", Verdict::Fail, "this user may not open it")
                .next("chmod 666 /dev/fuse, or run as root")
        }
        Err(error) => Finding::new("/dev/fuse", Verdict::Fail, format!("can't be opened: {error}"))
            .next("modprobe fuse; for a container: --device /dev/fuse --cap-add SYS_ADMIN"),
    }
}

fn helper() -> Finding {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join("fusermount3")).find(|path| path.is_file());
    match found {
        Some(path) => Finding::ok("fusermount3", path.display().to_string()),
        None if rustix::process::geteuid().is_root() => {
            Finding::new("fusermount3", Verdict::Warn, "is not installed; root can mount without it")
                .next("install the package fuse3")
        }
        None => Finding::new("fusermount3", Verdict::Fail, "is not installed, and only root can mount without it")
            .next("install the package fuse3"),
    }
}

/// Whether other users can be let in.
fn others(wanted: bool) -> Finding {
    const CHECK: &str = "allow_other";
    if rustix::process::geteuid().is_root() {
        return Finding::ok(CHECK, "root may let other users into its mounts");
    }
    let text = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if text.lines().any(|line| line.trim() == "user_allow_other") {
        return Finding::ok(CHECK, "/etc/fuse.conf lets users let others into their mounts");
    }
    let verdict = if wanted { Verdict::Fail } else { Verdict::Ok };
    let finding = Finding::new(CHECK, verdict, "/etc/fuse.conf does not let users let others into their mounts");
    if wanted { finding.next("add the line user_allow_other to /etc/fuse.conf") } else { finding }
}

fn cache_directory(path: &Path, size: u64) -> Finding {
    const CHECK: &str = "cache";
    let shown = path.display();
    // The nearest part that exists decides whether the rest can be made.
    let Some(there) = path.ancestors().find(|part| part.exists()) else {
        return Finding::new(CHECK, Verdict::Fail, format!("{shown} does not exist"));
    };
    if !there.is_dir() {
        return Finding::new(CHECK, Verdict::Fail, format!("{} is not a directory", there.display()))
            .next("name a directory");
    }
    if rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Finding::new(CHECK, Verdict::Fail, format!("{} can't be written to by this user", there.display()))
            .next("change its owner, or name another directory");
    }
    let Ok(space) = rustix::fs::statvfs(there) else {
        return Finding::new(CHECK, Verdict::Warn, format!("{shown}: its free space is not known"));
    };
    let free = space.f_bavail * space.f_frsize;
    if free < size {
        let says = format!("{shown}: {} are free, its limit is {}", words::bytes(free), words::bytes(size));
        return Finding::new(CHECK, Verdict::Warn, says).next("make room, or lower cache.size or --cache-size");
    }
    Finding::ok(CHECK, format!("{shown}: {} are free, its limit is {}", words::bytes(free), words::bytes(size)))
}

async fn store(place: &Place) -> Vec<Finding> {
    let store = match library::open_place(place) {
        Ok(stack) => stack.store,
        Err(trouble) => return vec![Finding::of("store", &trouble)],
    };
    let mut findings = match probe::probe_url(&place.url, &place.store).await {
        Ok(report) => {
            let mut findings = probed(&report);
            findings.extend(unlocked(place, &report));
            if let Some(before) = remembered::recall(&report.store) {
                findings.extend(before.lost(&report).into_iter().map(|lost| {
                    let says = format!("not so any more: {} (on {} it was)", lost.title(), before.day);
                    Finding::new("store", Verdict::Warn, says).next("ask the provider what was changed")
                }));
            }
            remembered::remember(&report, words::now());
            findings
        }
        Err(ProbeError::Store { store, source }) => {
            return vec![Finding::of("store", &library::store_trouble(format!("{store} can't be used"), &source))];
        }
        Err(error) => return vec![Finding::new("store", Verdict::Fail, error.to_string())],
    };
    findings.push(match library::find(&store).await {
        Ok(found) => {
            let keys = found.locked().content().slots.len();
            Finding::ok("library", format!("{} with {}", found.locked().library(), words::count(keys, "key")))
        }
        Err(trouble) if trouble.code == Code::NoLibrary => {
            Finding::new("library", Verdict::Warn, trouble.what).next(trouble.next.join("; "))
        }
        Err(trouble) => Finding::of("library", &trouble),
    });
    findings
}

/// Whether whoever takes this machine over can take the copy away as well.
async fn copy(name: &str, replica: &crate::replicas::Own) -> Finding {
    const CHECK: &str = "replica";
    if replica.url.starts_with("file://") || replica.url.starts_with('/') {
        let says = format!("{name} is on this machine: who can delete the library's cache can delete it");
        return Finding::ok(CHECK, says);
    }
    let report = match probe::probe_url(&replica.url, &replica.store).await {
        Ok(report) => report,
        Err(ProbeError::Store { store, source }) => {
            return Finding::of(CHECK, &library::store_trouble(format!("{name}: {store} can't be used"), &source));
        }
        Err(error) => return Finding::new(CHECK, Verdict::Fail, format!("{name}: {error}")),
    };
    let honoured = |tried| report.findings.get(&tried) == Some(&probe::Finding::Honoured);
    if replica.store.s3.lock.is_some() && honoured(probe::Trait::LockHolds) && honoured(probe::Trait::LockStays) {
        return Finding::ok(CHECK, format!("{name}: what is written there is locked, and this key can't lift that"));
    }
    if !honoured(probe::Trait::DeleteVisible) {
        return Finding::ok(CHECK, format!("{name}: this machine's key can't delete what is there"));
    }
    let hidden =
        if honoured(probe::Trait::VersionsKept) { " (the store keeps versions: it only hides them)" } else { "" };
    Finding::new(CHECK, Verdict::Warn, format!("{name}: this machine's key can delete the replica{hidden}")).next(format!(
        "who takes this machine over takes both: a bucket made with Object Lock and replica.{name}.store.s3.lock = \"30d\", \
         or another copy that pulls from elsewhere"
    ))
}

/// A lock that was asked for and does not hold is worse than none: somebody relies on it.
fn unlocked(place: &Place, report: &Report) -> Option<Finding> {
    place.store.s3.lock.filter(|_| place.url.starts_with("s3://"))?;
    let holds = report.findings.get(&probe::Trait::LockHolds) == Some(&probe::Finding::Honoured);
    let says = "store.s3.lock is set, and this store's locks do not hold: what is written there can be deleted";
    let next = "take a bucket that was made with Object Lock, or remove the setting";
    (!holds).then(|| Finding::new("lock", Verdict::Fail, says).next(next))
}

/// What the store really honours, by experiment.
fn probed(report: &Report) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("store", report.store.clone())];
    for (tried, result) in &report.findings {
        let (verdict, says) = match result {
            probe::Finding::Honoured | probe::Finding::NotProbed => continue,
            probe::Finding::Ignored(what) | probe::Finding::Failed(what) => (
                if tried.is_needed() { Verdict::Fail } else { Verdict::Ok },
                format!("not so: {} ({what})", tried.title()),
            ),
        };
        let finding = Finding::new("store", verdict, says);
        findings.push(if verdict == Verdict::Fail { finding.next("do not keep a library there") } else { finding });
    }
    if !report.conditional_create() {
        findings.push(Finding::ok(
            "fencing",
            "by claims alone; conditional writes are not to be relied on here, and Haven does not need them",
        ));
    }
    if let (Some(put), Some(get)) = (report.put_p50_micros, report.get_p50_micros) {
        let millis = |micros: u64| micros as f64 / 1000.0;
        findings.push(Finding::ok(
            "speed",
            format!("a small write takes {:.1} ms, a small read {:.1} ms", millis(put), millis(get)),
        ));
    }
    if let Some(skew) = report.clock_skew_seconds {
        let apart = skew.unsigned_abs();
        let says = format!("this machine and the store are {apart} s apart");
        findings.push(match apart {
            0..=60 => Finding::ok("clock", says),
            61..=600 => Finding::new("clock", Verdict::Warn, says).next("set the clock (systemd-timesyncd, chrony)"),
            _ => Finding::new("clock", Verdict::Fail, says)
                .next("set the clock: S3 refuses requests more than 15 minutes off"),
        });
    }
    findings
}
