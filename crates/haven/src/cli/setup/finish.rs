//! What follows the last answer: the settings are written, the library is made and tried, and a first recovery point with
//! its check ends it.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use haven_mount::control::{Found, find};
use serde::Serialize;

use super::{
    asker::say,
    guided::{Guide, Owner, context, write},
    systemd,
};
use crate::{
    cli::{init, wait},
    report::{Code, Trouble},
    secret::Source,
};

#[derive(Debug, Serialize)]
struct Done {
    config: PathBuf,
    library: String,
    point: PathBuf,
    made: bool,
    recovery_kit: Option<PathBuf>,
    mounted: bool,
    units: bool,
    recovery_point: bool,
    next: Vec<String>,
}

pub fn run(guide: Guide, json: bool, exists: bool, source: &Source, kit: &Path) -> Result<(), Trouble> {
    let config = guide.config()?;
    let (url, point) = (config.library.url.clone().unwrap_or_default(), config.mount.point.clone().unwrap_or_default());
    let home = guide.directory().to_owned();
    say(&format!("\nWriting {} …", guide.path.display()));
    fs::create_dir_all(&home).map_err(|error| {
        Trouble::new(Code::Local, format!("{} can't be made", home.display()))
            .caused_by(&error)
            .next("run this as root")
    })?;
    write(&guide)?;
    if !exists {
        say("Making the library …");
        wait(init::make(&url, &config.store, source, Some(kit)))?;
        say(&format!(
            "   the recovery kit is in {}: print it now, keep it away from this machine, delete the file.",
            kit.display()
        ));
    }
    let units = guide.asker.ask_yes(
        "machine.units",
        "Write systemd's units, so that it is mounted at every start?",
        systemd_here(),
    )?;
    let tried = guide.asker.ask_yes("machine.try_mount", "Mount it now, and try it?", true)?;
    let mut mounted = matches!(find(&point), Ok(Found::Mount { .. }));
    if tried && !mounted {
        try_mount(&guide.path, &point)?;
        mounted = true;
    }
    let mut proven = false;
    if mounted && guide.has.backup && config_has_backup(&guide) {
        let wanted = guide.asker.ask_yes("machine.first_point", "Take a first recovery point, and check it?", true)?;
        if wanted {
            first_point(&guide, &point)?;
            proven = true;
        }
    }
    if units {
        let immich = guide.asker.ask(
            "machine.immich",
            "A unit that lives on the library (nothing: those of Immich that are found)",
            Some(""),
        )?;
        // The mount of this trial makes way for the one of the unit.
        if mounted && tried {
            haven(&guide.path, &["umount", &point.display().to_string()], "the trial's mount does not end")?;
            mounted = false;
        }
        systemd::write_all(&context(&guide, json)?, guide.has, &immich)?;
    }
    let next = next_steps(&guide, &point, units, mounted, !exists, proven);
    let done = Done {
        config: guide.path.clone(),
        library: url,
        point,
        made: !exists,
        recovery_kit: (!exists).then(|| kit.to_owned()),
        mounted,
        units,
        recovery_point: proven,
        next: next.clone(),
    };
    let text = format!("\nDone. Next:\n{}", next.iter().map(|line| format!("  {line}\n")).collect::<String>());
    context(&guide, json)?.answer(&done, &text)
}

fn systemd_here() -> bool {
    Path::new("/run/systemd/system").is_dir() && rustix::process::geteuid().is_root()
}

fn config_has_backup(guide: &Guide) -> bool {
    guide.document.get("backup").and_then(|table| table.get("immich")).is_some()
}

/// A file goes in, comes back, and is gone again.
fn try_mount(config: &Path, point: &Path) -> Result<(), Trouble> {
    say(&format!("Mounting {} …", point.display()));
    fs::create_dir_all(point).map_err(|error| {
        Trouble::new(Code::Mount, format!("{} can't be made", point.display()))
            .caused_by(&error)
            .next("run this as root")
    })?;
    haven(config, &["mount"], "the library can't be mounted")?;
    let file = point.join(".haven-setup");
    let written = b"written by haven setup, to see whether it comes back\n";
    let trial = || -> std::io::Result<bool> {
        fs::write(&file, written)?;
        fs::File::open(&file)?.sync_all()?;
        let same = fs::read(&file)? == written;
        fs::remove_file(&file)?;
        Ok(same)
    };
    match trial() {
        Ok(true) => {}
        Ok(false) => return Err(Trouble::new(Code::Bug, "what was written did not come back as it was")),
        Err(error) => {
            return Err(Trouble::new(Code::Mount, "nothing can be written into the library").caused_by(&error));
        }
    }
    haven(config, &["flush", &point.display().to_string()], "what was written does not reach the bucket")?;
    say("   a file went in, came back, and is in the bucket.");
    Ok(())
}

/// The application's folder must be there, and one point of it.
fn first_point(guide: &Guide, point: &Path) -> Result<(), Trouble> {
    say("Taking the first recovery point …");
    let folder = application(guide, point);
    // One that is there keeps its owner.
    if !folder.is_dir() {
        let owner = guide.owner.as_ref();
        let made = fs::create_dir_all(&folder)
            .and_then(|()| owner.map_or(Ok(()), |owner| chown(&folder, Some(owner.user), Some(owner.group))));
        made.map_err(|error| {
            Trouble::new(Code::Mount, format!("{} can't be made", folder.display())).caused_by(&error)
        })?;
        say(&format!(
            "   {} is made, and belongs to {}.",
            folder.display(),
            owner.map_or("who runs this", |owner| owner.name.as_str())
        ));
    }
    haven(&guide.path, &["backup", "run", "immich"], "the first recovery point was not taken")?;
    haven(&guide.path, &["backup", "check"], "the first recovery point is not what it should be")?;
    say("   files and database of one instant are in the bucket, and were checked.");
    Ok(())
}

/// Where the application's files are.
fn application(guide: &Guide, point: &Path) -> PathBuf {
    point.join(guide.now(&["backup", "immich", "folder"]).unwrap_or_default())
}

/// Runs this program again with those settings; what it says when it fails is why this fails.
pub fn haven(config: &Path, args: &[&str], failed: &str) -> Result<String, Trouble> {
    let program = std::env::current_exe().unwrap_or_else(|_| "haven".into());
    let done = Command::new(program)
        .arg("--config")
        .arg(config)
        .args(args)
        .env_remove("HAVEN_LIBRARY")
        .env_remove("HAVEN_MOUNTPOINT")
        .env_remove("HAVEN_PASSPHRASE_FILE")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Trouble::new(Code::Bug, failed).caused_by(&error))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    let code = match done.status.code() {
        Some(3) => Code::WrongSecret,
        Some(4) => Code::Store,
        Some(6) => Code::Damaged,
        Some(10) => Code::Held,
        _ => Code::Local,
    };
    let line = format!("haven --config {} {}", config.display(), args.join(" "));
    Err(Trouble::new(code, failed)
        .because(said)
        .meaning("what was set up until here stays; run haven setup again")
        .next(line))
}

fn next_steps(guide: &Guide, point: &Path, units: bool, mounted: bool, made: bool, proven: bool) -> Vec<String> {
    let mut next = Vec::new();
    if made {
        next.push("print the recovery kit, keep it away from this machine, and delete the file".to_owned());
    }
    if units {
        next.push("systemctl daemon-reload && systemctl enable --now haven.service".to_owned());
    } else if guide.has.keeper {
        let away = if mounted { "    (after haven umount: it mounts by itself)" } else { "" };
        next.push(format!(
            "haven --config {} run    mounts, and does everything on schedule{away}",
            guide.path.display()
        ));
    } else if !mounted {
        next.push(format!("haven --config {} mount", guide.path.display()));
    }
    if config_has_backup(guide) && !proven {
        let folder = application(guide, point);
        let give = |owner: &Owner| format!(" && chown {}:{} {}", owner.user, owner.group, folder.display());
        let give = guide.owner.as_ref().map(give).unwrap_or_default();
        next.push(format!("mkdir -p {}{give}    when it is mounted: for the application's files", folder.display()));
    }
    if guide.has.keeper {
        next.push("haven schedule    tells when it does what; haven health whether the photos are safe".to_owned());
    }
    next.push(format!("haven status {}", point.display()));
    next.push("haven doctor    and haven doctor --units look at the rest".to_owned());
    next
}
