//! Stopping an application, and above all starting it again: what is to be done for that is on the disk before it is
//! stopped, so that whoever comes after a killed run can do it.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    config::{App, By},
    maintenance::{self, Debt},
};

/// How long stopping or starting may take.
pub const LIMIT: Duration = Duration::from_secs(300);
/// How often starting is tried.
const TRIES: u32 = 3;

/// What ends the standstill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owed {
    application: String,
    #[serde(default)]
    commands: Vec<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maintenance: Option<Debt>,
}

/// An application that stands still; it goes on when this is dropped.
#[derive(Debug)]
pub struct Still {
    path: PathBuf,
    ended: bool,
}

/// Where it is written down what an application is owed.
fn note(cache: &Path, application: &str) -> PathBuf {
    cache.join(format!("stopped-{application}.json"))
}

impl Still {
    /// Stops the application. `Ok(None)`: the file system's standstill is enough.
    pub fn begin(app: &App, cache: &Path) -> Result<Option<Self>, String> {
        // What is still owed, from a run that was killed or a try that could not end it, must not be written over.
        resume(cache, &app.name)?;
        let words = |words: &[&str], more: &[String]| -> Vec<String> {
            words.iter().map(|word| (*word).to_owned()).chain(more.iter().cloned()).collect()
        };
        let own = &app.own;
        let compose = own.compose.clone().unwrap_or_default().display().to_string();
        let (stop, start) = match app.common.quiesce {
            By::Freeze => return Ok(None),
            By::Maintenance => return Self::maintenance(app, cache).map(Some),
            By::Units => {
                // What did not run before must not run afterwards.
                let active =
                    |unit: &&String| run(&words(&["systemctl", "is-active", "--quiet"], &[(*unit).clone()])).is_ok();
                let running: Vec<String> = own.units.iter().filter(active).cloned().collect();
                if running.is_empty() {
                    return Ok(None);
                }
                (words(&["systemctl", "stop"], &running), words(&["systemctl", "start"], &running))
            }
            By::Compose => (
                words(&["docker", "compose", "-f", &compose, "stop"], &own.services),
                words(&["docker", "compose", "-f", &compose, "start"], &own.services),
            ),
            By::Commands => {
                let shell =
                    |command: &Option<String>| words(&["/bin/sh", "-c"], &[command.clone().unwrap_or_default()]);
                (shell(&own.before), shell(&own.after))
            }
        };
        let still = Self { path: note(cache, &app.name), ended: false };
        let owed = Owed { application: app.name.clone(), commands: vec![start], maintenance: None };
        write(&still.path, &owed)?;
        match run(&stop) {
            Ok(()) => Ok(Some(still)),
            // It may have stopped half of it.
            Err(why) => match still.end() {
                Ok(()) => Err(format!("it can't be stopped: {why}")),
                Err(worse) => Err(format!("it can't be stopped: {why}; and {worse}")),
            },
        }
    }

    fn maintenance(app: &App, cache: &Path) -> Result<Self, String> {
        let mut still = Self { path: note(cache, &app.name), ended: false };
        let keep = |debt: &Debt| {
            let owed = Owed { application: app.name.clone(), commands: Vec::new(), maintenance: Some(debt.clone()) };
            write(&still.path, &owed)
        };
        let Err(not) = maintenance::begin(app, &mut Debt::of(app), &keep) else { return Ok(still) };
        let why = format!("maintenance mode did not begin: {}", not.why);
        if not.unsure {
            return match still.end() {
                Ok(()) => Err(why),
                Err(worse) => Err(format!("{why}; and {worse}")),
            };
        }
        still.ended = true;
        _ = fs::remove_file(&still.path);
        Err(why)
    }

    /// Lets the application go on.
    pub fn end(mut self) -> Result<(), String> {
        self.ended = true;
        settle(&self.path)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        if !self.ended
            && let Err(why) = settle(&self.path)
        {
            tracing::error!(why, "an application still stands still; the next run tries again, or haven backup resume");
        }
    }
}

/// Does what a killed run still owes an application. Says whether there was anything.
pub fn resume(cache: &Path, application: &str) -> Result<bool, String> {
    let path = note(cache, application);
    if !path.exists() {
        return Ok(false);
    }
    settle(&path).map(|()| true)
}

fn settle(path: &Path) -> Result<(), String> {
    let text = fs::read(path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    let owed: Owed =
        serde_json::from_slice(&text).map_err(|error| format!("{} makes no sense: {error}", path.display()))?;
    for command in &owed.commands {
        let mut tried = 0;
        while let Err(why) = run(command) {
            tried += 1;
            if tried == TRIES {
                return Err(format!("{} may still be stopped: {why}", owed.application));
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    if let Some(debt) = &owed.maintenance {
        maintenance::end(debt).map_err(|why| format!("{} may still be stopped: {why}", owed.application))?;
    }
    fs::remove_file(path).map_err(|error| format!("{} can't be removed: {error}", path.display()))
}

/// For its owner's eyes: a token may be in it.
fn write(path: &Path, owed: &Owed) -> Result<(), String> {
    let half = path.with_extension("json.new");
    let written = || {
        _ = fs::remove_file(&half);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
        file.write_all(&serde_json::to_vec(owed)?)?;
        file.sync_all()?;
        fs::rename(&half, path)?;
        // The name itself must outlive a power cut.
        path.parent().map_or(Ok(()), |above| fs::File::open(above)?.sync_all())
    };
    written().map_err(|error: std::io::Error| format!("{} can't be written: {error}", path.display()))
}

/// Runs a command to its end. What it says goes to a file: children it leaves behind may keep that open.
fn run(words: &[String]) -> Result<(), String> {
    let Some((program, rest)) = words.split_first() else { return Ok(()) };
    let shown = words.join(" ");
    let said = tempfile::tempfile().map_err(|error| error.to_string())?;
    let copy = || said.try_clone().map(Stdio::from).map_err(|error| error.to_string());
    let child = Command::new(program).args(rest).stdin(Stdio::null()).stdout(copy()?).stderr(copy()?).spawn();
    let mut child = child.map_err(|error| format!("`{shown}` can't be run: {error}"))?;
    let until = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() > until => {
                _ = child.kill();
                _ = child.wait();
                return Err(format!("`{shown}` was not done within {} s", LIMIT.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(format!("`{shown}`: {error}")),
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut said = said;
    let mut text = String::new();
    _ = std::io::Seek::rewind(&mut said).and_then(|()| std::io::Read::read_to_string(&mut said, &mut text));
    let last = text.trim().lines().last().unwrap_or_default().to_owned();
    Err(format!("`{shown}` ended with {status}{}{last}", if last.is_empty() { "" } else { ": " }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn app(before: &str, after: &str) -> App {
        let text = format!(
            "[backup.a]\nkind = 'folder'\nquiesce = 'commands'\nbefore = '''{before}'''\nafter = '''{after}'''"
        );
        Config::from_text(&text, "").unwrap().app(None).unwrap().clone()
    }

    #[test]
    fn what_was_stopped_is_started_again_however_the_run_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("stopped");
        let app = app(&format!("touch {}", mark.display()), &format!("rm {}", mark.display()));
        let still = Still::begin(&app, folder.path()).unwrap().unwrap();
        assert!(mark.exists());
        drop(still);
        assert!(!mark.exists() && !resume(folder.path(), "a").unwrap());
        // Killed: nothing of the run is left but what it wrote down.
        std::mem::forget(Still::begin(&app, folder.path()).unwrap());
        assert!(mark.exists() && resume(folder.path(), "a").unwrap() && !mark.exists());
    }

    #[test]
    fn an_application_that_will_not_stop_is_started_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("started");
        let app = app("echo no such thing >&2; exit 4", &format!("touch {}", mark.display()));
        let why = Still::begin(&app, folder.path()).unwrap_err();
        assert!(why.contains("no such thing") && why.contains("exit status: 4"), "{why}");
        assert!(mark.exists());
    }

    /// A server that needs a moment for each of its modes, and an application that is backed up in maintenance mode.
    fn immich(folder: &Path) -> (tokio::runtime::Runtime, haven_immich_fake::Fake, App) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let fake = runtime.block_on(haven_immich_fake::Fake::start(Default::default())).unwrap();
        fake.order(haven_immich_fake::Orders { restart_ms: 700, ..Default::default() });
        let key = folder.join("key");
        fs::write(&key, format!("{}\n", haven_immich_fake::ADMIN_KEY)).unwrap();
        let text = format!(
            "[backup.a]\nkind = 'immich'\ndatabase = 'x'\nquiesce = 'maintenance'\nserver = '{}'\napi_key_file = '{}'",
            fake.address(),
            key.display()
        );
        (runtime, fake, Config::from_text(&text, "").unwrap().app(None).unwrap().clone())
    }

    fn in_maintenance(runtime: &tokio::runtime::Runtime, fake: &haven_immich_fake::Fake) -> bool {
        let settings = haven_immich::Settings {
            address: fake.address(),
            key: zeroize::Zeroizing::new(haven_immich_fake::ADMIN_KEY.to_owned()),
            ca_file: None,
            timeouts: Default::default(),
        };
        let asked = runtime.block_on(async { haven_immich::Immich::open(settings).await.unwrap().maintenance().await });
        asked.unwrap().active
    }

    #[test]
    fn maintenance_mode_begins_and_ends_however_the_run_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (runtime, fake, app) = immich(folder.path());
        let still = Still::begin(&app, folder.path()).unwrap().unwrap();
        assert!(in_maintenance(&runtime, &fake));
        let kept = note(folder.path(), "a");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&kept).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "the token is nobody else's");
        still.end().unwrap();
        assert!(!in_maintenance(&runtime, &fake) && !kept.exists());
        // Not ended by a try: the next one ends it first, and begins anew.
        std::mem::forget(Still::begin(&app, folder.path()).unwrap());
        let again = Still::begin(&app, folder.path()).unwrap().unwrap();
        assert!(in_maintenance(&runtime, &fake));
        again.end().unwrap();
        assert!(!in_maintenance(&runtime, &fake) && !kept.exists());
        // Killed: the next run ends it.
        std::mem::forget(Still::begin(&app, folder.path()).unwrap());
        assert!(in_maintenance(&runtime, &fake));
        assert!(resume(folder.path(), "a").unwrap());
        assert!(!in_maintenance(&runtime, &fake) && !kept.exists());
        assert_eq!(fake.violations(), Vec::<String>::new());
    }

    #[test]
    fn maintenance_mode_that_is_refused_or_is_somebody_elses_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (runtime, fake, app) = immich(folder.path());
        fake.order(haven_immich_fake::Orders { deny: vec!["maintenance".into()], ..Default::default() });
        let why = Still::begin(&app, folder.path()).unwrap_err();
        assert!(why.contains("lacks the permission maintenance"), "{why}");
        assert!(!note(folder.path(), "a").exists() && !in_maintenance(&runtime, &fake));
        fake.order(Default::default());
        let still = Still::begin(&app, folder.path()).unwrap().unwrap();
        let other = tempfile::tempdir().unwrap();
        let why = Still::begin(&app, other.path()).unwrap_err();
        assert!(why.contains("already"), "{why}");
        assert!(in_maintenance(&runtime, &fake), "it is not ended behind its owner's back");
        still.end().unwrap();
    }

    #[test]
    fn what_is_owed_stays_written_down_until_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let app = app("true", "false");
        let why = Still::begin(&app, folder.path()).unwrap().unwrap().end().unwrap_err();
        assert!(why.contains("a may still be stopped"), "{why}");
        assert!(note(folder.path(), "a").exists());
    }
}
