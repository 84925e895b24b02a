//! A drill of one copy.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::{Duration, Instant},
};

use haven_format::Keys;
use haven_point::{Point, check, manifest::Kind};
use haven_recover::{
    Error,
    drill::{Known, Scratch, Server, Steps, chain},
    lay,
    proof::{self, BrokenAsset, Report},
    scratch, target,
};
use jiff::Timestamp;

use super::Args;
use crate::{
    cli::{Context, ask},
    media::Media,
    origin::{Open, Origin, Pick},
    report::{self, Code, Trouble},
    wire, words,
};

/// What trouble of this machine's means.
const NO_DRILL: &str = "that says nothing about the copy: it is no drill, and is not recorded as one";

/// What came of it.
pub struct Drilled {
    pub report: Report,
    /// The list for beside it.
    pub proven: Vec<u8>,
    pub keys: Option<Keys>,
    /// It could not even be opened, and why.
    pub unreached: bool,
    pub code: Code,
    /// What to do then.
    pub next: Vec<String>,
    /// It has no such point. Whether that is the copy's fault only those who know of the others can tell.
    pub lacks: Option<Trouble>,
    /// The newest point is older than it may be.
    pub late: Option<String>,
    /// Why this machine could not do all of it, where what it did found something.
    pub undone: Option<Trouble>,
}

/// Why there is no report.
pub enum NoDrill {
    /// This machine can't do it, or a setting is wrong: the other copies can be drilled all the same.
    Here(Trouble),
    /// It was interrupted, or nobody has said which point is meant: nothing else is drilled either.
    Over(Trouble),
}

/// What is this machine's own trouble, or a slip of who typed, is no drill: it says nothing about the copy.
fn is_our_own(code: Code) -> bool {
    matches!(code, Code::Usage | Code::Local | Code::Unfit | Code::Mount)
}

/// Drills at `level`, which may be less than what is asked for.
pub fn drill(context: &Context, args: &Args, origin: &Origin, pick: Pick<'_>, level: u8) -> Result<Drilled, NoDrill> {
    let begun = Instant::now();
    let started = Timestamp::now();
    let mut report = Report {
        haven_drill: proof::VERSION,
        level,
        library: String::new(),
        copy: origin.name.clone(),
        kind: origin.kind.to_owned(),
        of: pick.of.map(str::to_owned),
        point: None,
        taken: None,
        age_seconds: None,
        started,
        finished: started,
        host: wire::host(),
        haven: env!("CARGO_PKG_VERSION").to_owned(),
        ok: false,
        steps: Vec::new(),
        assets: 0,
        proven: 0,
        bytes: 0,
        seconds_to_first_photo: None,
        seconds_to_complete: 0.0,
        broken: Vec::new(),
        regenerable: 0,
        without_row: 0,
        proven_sha256: String::new(),
    };
    let runtime = wire::runtime().map_err(NoDrill::Over)?;
    let mut steps = Steps::default();
    let opened = origin.open(context, &runtime, &args.key, pick);
    let (mut unreached, mut code, mut keys, mut proven) = (false, Code::Damaged, None, Vec::new());
    let mut next = Vec::new();
    let (mut lacks, mut late, mut own) = (None, None, None);
    match &opened {
        Err(trouble) if trouble.code == Code::Unfinished => {}
        Err(trouble) if is_our_own(trouble.code) => own = Some(trouble.clone()),
        Err(trouble) => {
            let (home, trouble) = (origin.kind == "library", trouble.clone());
            let trouble = if home { origin.unopened(&context.config, trouble, "haven recover") } else { trouble };
            steps.note("open", false, all_of(&trouble), begun.elapsed());
            (unreached, code) = (trouble.code != Code::NoPoint, trouble.code);
            if unreached {
                next.clone_from(&trouble.next);
            }
            lacks = Some(trouble).filter(|trouble| trouble.code == Code::NoPoint);
        }
        Ok(opened) => {
            // Which point is meant is the one question that no look at a copy answers.
            if pick.is_any()
                && let Err(error @ haven_point::Error::Several { .. }) = opened.point(pick)
            {
                return Err(NoDrill::Over(crate::points::trouble(&error)));
            }
            steps.note("open", true, opened.how(), opened.took);
            keys.clone_from(&opened.keys);
            let stop = opened.stop();
            let (steps, report) = (&mut steps, &mut report);
            let (lacks, late, own) = (&mut lacks, &mut late, &mut own);
            let mut look = Look { context, args, origin, pick, begun, stop, steps, report, lacks, late, own };
            proven = look.through(opened);
        }
    }
    // What was not looked at to its end says nothing of the copy.
    let interrupted = match &opened {
        Ok(opened) => opened.is_stopped(),
        Err(trouble) => trouble.code == Code::Unfinished,
    };
    drop(opened);
    runtime.shutdown_timeout(Duration::from_secs(1));
    if interrupted {
        let trouble = Trouble::new(Code::Unfinished, "interrupted").meaning("nothing is told of the copy");
        return Err(NoDrill::Over(trouble));
    }
    // What was found before this machine could not go on is told, and recorded.
    let found = !steps.ok() || !report.broken.is_empty();
    if !found && let Some(own) = own {
        return Err(NoDrill::Here(own));
    }
    let list = proof::list(proven);
    report.library = keys.as_ref().map(|keys| keys.library().to_string()).unwrap_or_default();
    report.ok = steps.ok() && report.broken.is_empty();
    report.steps = steps.0;
    report.proven_sha256 = proof::sha256(&list);
    report.finished = Timestamp::now();
    report.seconds_to_complete = begun.elapsed().as_secs_f64();
    Ok(Drilled { report, proven: list, keys, unreached, code, next, lacks, late, undone: own })
}

struct Look<'a> {
    context: &'a Context,
    args: &'a Args,
    origin: &'a Origin,
    pick: Pick<'a>,
    begun: Instant,
    stop: Arc<AtomicBool>,
    steps: &'a mut Steps,
    report: &'a mut Report,
    lacks: &'a mut Option<Trouble>,
    late: &'a mut Option<String>,
    /// Why this machine can't drill it.
    own: &'a mut Option<Trouble>,
}

impl Look<'_> {
    /// Everything after the opening; the SHA-1s of what was read and right.
    fn through(&mut self, opened: &Open) -> Vec<haven_point::immich::Sha1> {
        let Some(point) = self.point(opened) else { return Vec::new() };
        let parts = self.steps.run("dump", || point.verify_parts().map(|()| ((), "whole, by its SHA-256".to_owned())));
        if parts.is_none() {
            return Vec::new();
        }
        let Some(media) = opened.media(&point) else {
            self.steps.note("files", false, "the files of this point are not there", Duration::ZERO);
            return Vec::new();
        };
        if point.manifest.kind != Kind::Immich {
            self.plain(&point, &media);
            return Vec::new();
        }
        let Some(dump) = point.dump() else {
            self.steps.note("rows", false, "this point has no database", Duration::ZERO);
            return Vec::new();
        };
        let Some(known) = self.rows(&point, &dump) else { return Vec::new() };
        self.report.assets = known.promised().count() as u64;
        match self.report.level {
            0 => self.sampled(&known, &media),
            1 => self.all(&known, &media),
            _ => self.brought_back(&known, &point, &dump, &media),
        }
    }

    /// Another application than Immich: nothing says what its files should hold, but each can be read, or not.
    fn plain(&mut self, point: &Point, media: &Media) {
        if let (Some(dump), Some(database)) = (point.dump(), &point.manifest.database) {
            let walked = self.steps.run("rows", || {
                let file = std::fs::File::open(&dump).map_err(|source| Error::Read { path: dump.clone(), source })?;
                let file = std::io::BufReader::with_capacity(1 << 20, file);
                let walked = haven_point::dump::walk(file, |_, _| Ok(()))?;
                same_rows(&walked, &database.rows)?;
                Ok::<_, Error>((
                    (),
                    format!("{} in the dump, as many as were counted", walked.rows.values().sum::<u64>()),
                ))
            });
            if walked.is_none() {
                return;
            }
        }
        match self.report.level {
            0 => {
                _ = self.steps.run("walk", || {
                    let (files, bytes) = media.size().map_err(plain)?;
                    Ok::<_, std::io::Error>((
                        (),
                        format!("{}, {}", words::count(files as usize, "file"), words::bytes(bytes)),
                    ))
                })
            }
            1 => {
                let bar = ask::progress_bar("drill");
                let parallel = self.args.parallel;
                let read = self.steps.run("files", || {
                    let read = media.read_all(parallel, &|bytes| bar.set_message(words::bytes(bytes)));
                    let (files, bytes) = read.map_err(plain)?;
                    let said = format!(
                        "{} read to the end, {}; nothing says what they should hold",
                        words::count(files as usize, "file"),
                        words::bytes(bytes)
                    );
                    Ok::<_, std::io::Error>((bytes, said))
                });
                bar.finish_and_clear();
                self.report.bytes += read.unwrap_or_default();
            }
            _ => {
                let Some(scratch) = self.lay(media) else { return };
                if let Some(dump) = point.dump() {
                    self.database(point, &dump, &scratch.files());
                }
            }
        }
    }

    fn point(&mut self, opened: &Open) -> Option<Point> {
        let (args, pick, now, begun) = (self.args, self.pick, Timestamp::now(), Instant::now());
        let found = opened.point(pick);
        if let Err(error @ (haven_point::Error::None { .. } | haven_point::Error::Missing { .. })) = &found {
            let trouble = self.origin.lacks(opened, pick, error);
            self.steps.note("point", false, all_of(&trouble), begun.elapsed());
            // One that is there and is not complete is the copy's fault.
            let fits = |name: &String| pick.of.is_none_or(|of| haven_point::application(name) == Some(of));
            let broken = pick.point.is_none() && pick.older.is_none() && opened.points().iter().any(fits);
            *self.lacks = (!broken).then_some(trouble);
            return None;
        }
        let point = self.steps.run("point", || {
            let point = found?;
            let said = format!("{} is complete{}", point.name(), if point.sealed { " and sealed" } else { "" });
            Ok::<_, haven_point::Error>((point, said))
        })?;
        let age = now.as_second() - point.manifest.taken.as_second();
        self.report.point = Some(point.name().to_owned());
        self.report.taken = Some(point.manifest.taken);
        self.report.age_seconds = Some(age);
        if haven_point::is_ahead(point.manifest.taken, now) {
            let said = format!("it is of a time to come, {} s from now: a clock stood wrong, or does here", -age);
            self.steps.note("age", false, said, Duration::ZERO);
        }
        if let Some(most) = args.max_age.filter(|most| pick.older.is_none() && age > most.as_secs() as i64) {
            *self.late = Some(format!("the newest point is {age} s old, and {} s is what may be", most.as_secs()));
        }
        Some(point)
    }

    fn rows(&mut self, point: &Point, dump: &Path) -> Option<Known> {
        self.steps.run("rows", || {
            let known = Known::read(&point.manifest, dump)?;
            if let Some(database) = &point.manifest.database {
                same_rows(&known.catalogue.walked, &database.rows)?;
            }
            let rows: u64 = known.catalogue.walked.rows.values().sum();
            Ok::<_, Error>((known, format!("{rows} in the dump, as many as were counted")))
        })
    }

    /// Reads and compares; notes what is broken, and when the first photo had come.
    fn compare(&mut self, name: &str, known: &Known, media: &Media) -> Option<check::Report> {
        let bar = ask::progress_bar("drill");
        let (begun, first) = (self.begun, Mutex::new(None));
        let told = |progress: check::Progress| {
            if progress.bytes > 0
                && let Ok(mut first) = first.lock()
            {
                first.get_or_insert_with(|| begun.elapsed().as_secs_f64());
            }
            bar.set_message(format!("{} of {} assets, {}", progress.assets, progress.of, words::bytes(progress.bytes)));
        };
        let parallel = self.args.parallel;
        let report = self.steps.run(name, || {
            let checked = media.check(known, parallel, &told).map_err(plain)?;
            let said = format!("{} compared by SHA-1, {}", checked.assets, words::bytes(checked.bytes));
            Ok::<_, std::io::Error>((checked, said))
        });
        bar.finish_and_clear();
        let report = report?;
        if self.report.seconds_to_first_photo.is_none() {
            self.report.seconds_to_first_photo = first.into_inner().ok().flatten();
        }
        self.report.broken.extend(report.broken.iter().map(BrokenAsset::from));
        self.report.bytes += report.bytes;
        Some(report)
    }

    fn sampled(&mut self, known: &Known, media: &Media) -> Vec<haven_point::immich::Sha1> {
        let absent = self.steps.run("walk", || {
            let absent = known.absent(&*media.files());
            let there = known.promised().count() - absent.len();
            Ok::<_, Error>((absent, format!("{there} of {} have their file", known.promised().count())))
        });
        self.report.broken.extend(absent.unwrap_or_default());
        let seed = Timestamp::now().as_second() as u64;
        let some = known.sample(self.args.sample, seed);
        let before = self.report.broken.len();
        let Some(_) = self.compare("sample", &some, media) else { return Vec::new() };
        // What is not there was told already.
        let new = self.report.broken.split_off(before);
        let unknown = |broken: &BrokenAsset| !self.report.broken.iter().any(|told| told.id == broken.id);
        let new: Vec<BrokenAsset> = new.into_iter().filter(unknown).collect();
        self.report.broken.extend(new);
        let proven = some.proven(&self.report.broken);
        self.report.proven = proven.len() as u64;
        proven
    }

    fn all(&mut self, known: &Known, media: &Media) -> Vec<haven_point::immich::Sha1> {
        let Some(checked) = self.compare("assets", known, media) else { return Vec::new() };
        self.report.regenerable = checked.regenerable.len() as u64;
        self.report.without_row = checked.without_row.len() as u64;
        let proven = known.proven(&self.report.broken);
        self.report.proven = proven.len() as u64;
        proven
    }

    fn brought_back(
        &mut self,
        known: &Known,
        point: &Point,
        dump: &Path,
        media: &Media,
    ) -> Vec<haven_point::immich::Sha1> {
        let Some(scratch) = self.lay(media) else { return Vec::new() };
        let proven = self.all(known, &Media::Folder(scratch.files()));
        self.database(point, dump, &scratch.files());
        proven
    }

    /// Brings the files to a directory that goes with what is returned.
    fn lay(&mut self, media: &Media) -> Option<scratch::Scratch> {
        let stop = self.stop.clone();
        let within = self.args.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let scratch = match scratch::Scratch::new(scratch::DRILL, &within) {
            Ok(scratch) => scratch,
            Err(error) => {
                let own = Trouble::new(Code::Local, format!("nothing can be brought back to {}", within.display()))
                    .caused_by(&error)
                    .meaning(NO_DRILL)
                    .next("--scratch DIR    a directory that this user may write to, with room for the files");
                self.not_done("scratch", own);
                return None;
            }
        };
        self.steps.note("scratch", true, within.display().to_string(), Duration::ZERO);
        let (parallel, before) = (self.args.parallel, self.begun.elapsed());
        let bar = ask::progress_bar("files");
        let mut full = None;
        let laid = self.steps.run("files", || {
            let (_, bytes) = media.size().map_err(|trouble| Error::Nothing(trouble.what))?;
            if lay::room(scratch.path()).is_some_and(|room| room < bytes) {
                let what = format!("{} has no room for {}", within.display(), words::bytes(bytes));
                let next = "--scratch DIR    a directory with more room";
                full = Some(Trouble::new(Code::Local, &what).meaning(NO_DRILL).next(next));
                return Err(Error::Unfit { what, next: next.into() });
            }
            let told = |progress: lay::Progress| {
                bar.set_message(format!("{} of {}", words::bytes(progress.bytes), words::bytes(progress.bytes_total)));
            };
            let laid = media.bring(None, &scratch.files(), parallel, &stop, &told);
            let laid = laid.map_err(|trouble| Error::Nothing(all_of(&trouble)))?;
            let said = format!("{} came back, {}", words::count(laid.files as usize, "file"), words::bytes(laid.bytes));
            Ok((laid, said))
        });
        bar.finish_and_clear();
        if let Some(full) = full {
            self.not_done("files", full);
        }
        let laid = laid?;
        if let Some((name, why)) = laid.failed.first()
            && let Some(step) = self.steps.0.last_mut()
        {
            // What did come is still looked at.
            let count = words::count(laid.failed.len(), "file");
            (step.ok, step.said) = (false, format!("{count} did not come back; the first is {name}: {why}"));
        }
        self.report.seconds_to_first_photo = laid.first.map(|first| (before + first).as_secs_f64());
        Some(scratch)
    }

    /// This machine can't do a step: that is no fault of the copy's, and must not be told as its first one.
    fn not_done(&mut self, name: &str, own: Trouble) {
        self.steps.0.retain(|step| step.name != name);
        self.steps.note(name, true, format!("not done: {}", all_of(&own)), Duration::ZERO);
        *self.own = Some(own);
    }

    fn database(&mut self, point: &Point, dump: &Path, files: &Path) {
        let stop = self.stop.clone();
        let named = self.args.server(self.context, &point.manifest.application);
        let server = named.as_ref().map_or(Server::Own(self.args.programs.as_deref()), Server::There);
        let instead = named.is_none().then(|| self.instead(point));
        let bar = ask::progress_bar("database");
        let mut unfit = None;
        let restored = self.steps.run("database", || {
            let told = &mut |doing: &str| bar.set_message(doing.to_owned());
            let roles = point.roles();
            let back = Scratch::restore(&point.manifest, dump, roles.as_deref(), server, &stop, told);
            let (scratch, restored) = back.inspect_err(|error| {
                if let Error::Unfit { what, next } = error {
                    let own = Trouble::new(Code::Unfit, what).meaning(NO_DRILL).next(next);
                    unfit = Some(instead.into_iter().fold(own, Trouble::next));
                }
            })?;
            let said = format!("{} rows in {} tables, as many as were counted", restored.rows, restored.tables);
            Ok::<_, Error>((scratch, said))
        });
        bar.finish_and_clear();
        let Some(scratch) = restored else {
            if let Some(unfit) = unfit {
                self.not_done("database", unfit);
            }
            return;
        };
        self.steps.run("indexes", || match scratch.amcheck()? {
            None => Ok(((), "not looked at: the server has no amcheck".to_owned())),
            Some((count, broken)) if broken.is_empty() => Ok(((), format!("{count} looked through"))),
            Some((_, broken)) => Err(Error::Nothing(broken.join("; "))),
        });
        if let Some(hook) = &self.args.hook {
            self.hook(hook, point, files, &scratch);
        }
        let name = target::name(&scratch.reach).unwrap_or_default();
        if let Err(error) = scratch.end() {
            report::warn(format!("the drill's database {name} stays on that server: {}", chain(&error)));
        }
    }

    /// What lets the database be restored where this machine can't start a server for it.
    fn instead(&self, point: &Point) -> String {
        let of = &point.manifest.application;
        match self.context.config.apps.iter().find(|app| app.name == *of && app.reach().is_some()) {
            Some(_) => format!(
                "drill_server = \"application\" in [backup.{of}] of haven.toml lets drills use {of}'s own server, beside its \
                 database: that costs it room and work for a while (once: --server application)"
            ),
            None => {
                "--database DATABASE --within 'docker exec -i immich_postgres'    uses a server in a container".into()
            }
        }
    }

    fn hook(&mut self, hook: &str, point: &Point, files: &Path, scratch: &Scratch) {
        let quiet = self.context.json;
        self.steps.run("hook", || {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(hook).env("HAVEN_DRILL_FILES", files).env("HAVEN_DRILL_POINT", point.name());
            command.env("HAVEN_DRILL_DATABASE", &scratch.reach.database);
            command.env("HAVEN_DRILL_DATABASE_NAME", target::name(&scratch.reach).unwrap_or_default());
            command.env("HAVEN_DRILL_WITHIN", scratch.reach.within.join(" "));
            if let Some(programs) = &scratch.reach.programs {
                command.env("HAVEN_DRILL_PROGRAMS", programs);
            }
            if let Some(immich) = &point.manifest.immich {
                command.env("HAVEN_DRILL_IMMICH", &immich.version);
                command.env("HAVEN_DRILL_MEDIA_LOCATION", &immich.media_location);
            }
            // Standard output is for reports.
            command.stdin(Stdio::null()).stdout(if quiet { Stdio::null() } else { Stdio::from(std::io::stderr()) });
            let status = command.status()?;
            if status.success() { Ok(((), status.to_string())) } else { Err(std::io::Error::other(status.to_string())) }
        });
    }
}

/// A trouble as the reason of a step that failed.
fn plain(trouble: Trouble) -> std::io::Error {
    std::io::Error::other(all_of(&trouble))
}

fn all_of(trouble: &Trouble) -> String {
    std::iter::once(&trouble.what).chain(&trouble.because).map(String::as_str).collect::<Vec<_>>().join(": ")
}

fn same_rows(
    walked: &haven_point::dump::Walked,
    counted: &std::collections::BTreeMap<String, u64>,
) -> Result<(), Error> {
    let unlike = walked.rows.iter().find(|(name, rows)| counted.get(*name) != Some(rows));
    unlike.map_or(Ok(()), |(name, rows)| {
        Err(Error::Nothing(format!("{name} has {rows} rows in the dump, and others were counted")))
    })
}
