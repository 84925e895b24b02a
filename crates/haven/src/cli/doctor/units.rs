//! `haven doctor --units`: the unit files of a machine, and what they do to photos.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use haven_units::{
    Finding, Severity, Tree, TreeError,
    audit::{Scope, audit},
    tree::MACHINE,
};

use super::paint;
use crate::{
    cli::Context,
    report::{Code, Trouble, UNTOUCHED},
    words,
};

/// Audits the units of `named`, or of this machine where nothing was named.
pub fn run(context: &Context, named: &[PathBuf]) -> Result<(), Trouble> {
    let (directories, scope) = match named {
        [] => (MACHINE.iter().map(PathBuf::from).filter(|path| path.is_dir()).collect::<Vec<_>>(), Scope::Photos),
        named => (named.to_vec(), Scope::All),
    };
    let tree = Tree::read(&directories).map_err(|error| unreadable(&error))?;
    if directories.is_empty() || (!named.is_empty() && tree.units.is_empty()) {
        return Err(Trouble::new(Code::Usage, "there are no unit files there")
            .because(format!("looked in {}", shown(&directories)))
            .meaning(UNTOUCHED)
            .next("haven doctor --units DIR    a directory with .service and .timer files"));
    }
    let findings = audit(&tree, scope);
    let systemd = manager_says(&tree, scope);
    let fails = findings.iter().filter(|finding| finding.severity == Severity::Fail).count();
    let mut text: String = findings.iter().map(told).collect();
    for line in &systemd {
        text += &format!("{} systemd: {line}\n", paint("warn"));
    }
    text += &summary(&tree, &directories, fails, findings.len() - fails + systemd.len());
    let value = serde_json::json!({ "findings": findings, "systemd": systemd, "units": tree.units.len() });
    context.answer(&value, &text)?;
    if fails == 0 {
        return Ok(());
    }
    Err(Trouble::new(Code::Local, format!("{} in unit files", words::count(fails, "mistake")))
        .meaning("by these photos can be lost, or a loss can pass unseen")
        .next("write what stands under \"instead\"; haven setup systemd writes a whole set"))
}

/// Whether a directory is one of unit files, and not a library.
pub fn holds_units(path: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    let ends = ["service", "timer", "mount"];
    let is_unit = |path: PathBuf| path.extension().is_some_and(|end| ends.iter().any(|kind| end == *kind));
    entries.flatten().any(|entry| is_unit(entry.path()))
}

fn summary(tree: &Tree, directories: &[PathBuf], fails: usize, warnings: usize) -> String {
    let looked = format!("{} in {}", words::count(tree.units.len(), "unit"), shown(directories));
    match (fails, warnings) {
        (0, 0) => format!("{}  {looked}: nothing found\n", paint("ok")),
        _ => format!("\n{looked}: {}, {}\n", words::count(fails, "mistake"), words::count(warnings, "warning")),
    }
}

fn shown(directories: &[PathBuf]) -> String {
    directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn told(finding: &Finding) -> String {
    let word = if finding.severity == Severity::Fail { "FAIL" } else { "warn" };
    let place = match (&finding.file, finding.line) {
        (Some(file), Some(line)) => format!("{}:{line}", file.display()),
        (Some(file), None) => file.display().to_string(),
        _ => String::new(),
    };
    format!(
        "{} {}: {}\n      {place}  ({})\n      why      {}\n      instead  {}\n",
        paint(word),
        finding.unit,
        finding.says,
        finding.rule,
        finding.matters,
        finding.instead
    )
}

fn unreadable(error: &TreeError) -> Trouble {
    Trouble::new(Code::Usage, error.to_string())
        .because(error.source.to_string())
        .meaning(UNTOUCHED)
        .next("correct the path, or who may read it")
}

/// What systemd itself says of names and values it does not know. It ends well all the same, so its words are read.
fn manager_says(tree: &Tree, scope: Scope) -> Vec<String> {
    if scope == Scope::Photos {
        return Vec::new();
    }
    let paths = tree
        .units
        .values()
        .filter_map(|unit| unit.path.as_deref())
        .filter(|path| !path.display().to_string().contains('@'));
    let done = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--generators=no", "--recursive-errors=no"])
        .args(paths)
        .env("SYSTEMD_LOG_COLOR", "0")
        .env("SYSTEMD_LOG_LEVEL", "warning")
        .output();
    // Without systemd nobody is asked; that is no finding.
    let Ok(done) = done else { return Vec::new() };
    let lines = String::from_utf8_lossy(&done.stderr).lines().map(str::to_owned).collect::<Vec<_>>();
    // What is not installed on the machine that reads a directory may be on the one it is for.
    let about_text = ["Unknown key", "Unknown section", "Failed to parse", "Invalid", "ignoring", "Missing '='"];
    let mut said: Vec<String> =
        lines.into_iter().filter(|line| about_text.iter().any(|words| line.contains(words))).collect();
    said.dedup();
    said
}
