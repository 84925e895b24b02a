//! Every exhibit of the museum of damaged libraries, opened by all who read libraries: this program, read-only;
//! `haven-rescue`; and the reader in Python that was written from FORMAT.md alone. What each finds stands in the
//! snapshots of these tests, and is judged by three rules: what is lost is named, the rest is there, and nobody panics
//! or hangs.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use haven_format::keys::Secret;
use haven_rescue::{Library, State, restore, snapshots};
use haven_testkit::museum::{PASSPHRASE, WHOLE, exhibits, lay_out};
use insta::assert_snapshot;

use crate::run::Machine;

/// Nobody may take longer over a library of a few kilobytes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine with the exhibit at `@lib`.
fn visitor(exhibit: &str) -> Machine {
    let machine = Machine::new();
    lay_out(exhibit, &machine.path("lib")).unwrap();
    machine.write("passphrase", PASSPHRASE);
    machine
}

/// Files below a directory by path, with their contents' hashes; links by their targets.
fn files(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![top.to_owned()];
    while let Some(here) = open.pop() {
        for entry in fs::read_dir(here).into_iter().flatten().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            match (kind.is_dir(), kind.is_symlink()) {
                (true, _) => open.push(path),
                (_, true) => _ = found.insert(name, format!("{:?}", fs::read_link(&path).unwrap())),
                _ => _ = found.insert(name, blake3::hash(&fs::read(&path).unwrap()).to_string()),
            }
        }
    }
    found.retain(|name, _| name != "SHA256SUMS");
    found
}

/// How `found` differs from what there was: a line each, or that all is there.
fn compared(wanted: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for (name, hash) in wanted {
        match found.get(name) {
            Some(same) if same == hash => {}
            Some(_) => writeln!(out, "    {name}: in part").unwrap(),
            None => writeln!(out, "    {name}: not there").unwrap(),
        }
    }
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        writeln!(out, "    {name}: beside it").unwrap();
    }
    if out.is_empty() { "    all is there\n".into() } else { out }
}

/// Runs it, but not for ever.
fn bounded(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{command:?}: {said}");
    output
}

/// Exports a state with this program; what came out, and what it said.
fn exported(machine: &Machine, at: &str) -> (BTreeMap<String, String>, String) {
    let to = format!("out{}", at.len());
    let flags = if at.is_empty() { String::new() } else { format!("--at {at}") };
    let output = bounded(&mut machine.command(&format!("export @lib --to @{to} --json {flags}")));
    let mut said = match output.status.code().unwrap() {
        0 => String::new(),
        exit => format!("    exit {exit}\n"),
    };
    match serde_json::from_slice::<serde_json::Value>(&output.stdout) {
        Ok(summary) => {
            for object in summary["passed_over"].as_array().unwrap() {
                writeln!(said, "    passed over: {}", object.as_str().unwrap()).unwrap();
            }
            for failed in summary["failed"].as_array().unwrap() {
                let (path, why) = (&failed["path"], &failed["why"]);
                writeln!(said, "    told: {}: {}", path.as_str().unwrap(), why.as_str().unwrap()).unwrap();
            }
        }
        Err(_) => {
            let talk = String::from_utf8(output.stderr).unwrap();
            let trouble: serde_json::Value = serde_json::from_str(talk.lines().last().unwrap()).unwrap();
            let trouble = &trouble["error"];
            writeln!(said, "    told: {}", trouble["what"].as_str().unwrap()).unwrap();
            for why in trouble["because"].as_array().into_iter().flatten() {
                writeln!(said, "    because: {}", why.as_str().unwrap()).unwrap();
            }
        }
    }
    (files(&machine.path(&to)), said.replace(&machine.text("lib"), "[LIBRARY]"))
}

/// What there is in the library that nothing happened to: now, and in the snapshot `spring`.
fn originals() -> [BTreeMap<String, String>; 2] {
    let machine = visitor(WHOLE);
    ["", "spring"].map(|at| {
        let (files, said) = exported(&machine, at);
        assert_eq!((said.as_str(), files.len()), ("", 5));
        files
    })
}

#[test]
fn this_program_opens_them_all() {
    let wanted = originals();
    let mut out = String::new();
    for exhibit in exhibits().unwrap() {
        let machine = visitor(&exhibit);
        writeln!(out, "== {exhibit}").unwrap();
        for (at, wanted) in ["", "spring"].into_iter().zip(&wanted) {
            let (files, said) = exported(&machine, at);
            let title = if at.is_empty() { "now" } else { at };
            let found = if files.is_empty() { "    nothing is there\n".into() } else { compared(wanted, &files) };
            write!(out, "  {title}\n{found}{said}").unwrap();
        }
    }
    assert_snapshot!(out);
}

#[test]
fn a_turn_whose_first_segment_is_lost_without_a_trace_is_known_by_its_claim() {
    let both_damaged = visitor("newest-writers-segments-damaged");
    let (files, _) = exported(&both_damaged, "");
    fs::remove_file(both_damaged.path("lib/l/0000000000000006-0000000000000002-c2c2c2c2c2c2c2c2")).unwrap();
    fs::remove_dir_all(both_damaged.path("out0")).unwrap();
    assert_eq!(exported(&both_damaged, "").0, files, "what the machine before it wrote beside it was never kept");
}

#[test]
fn the_last_resort_opens_them_all() {
    let wanted = originals();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut out = String::new();
    for exhibit in exhibits().unwrap() {
        let machine = visitor(&exhibit);
        writeln!(out, "== {exhibit}").unwrap();
        let work = async { tokio::time::timeout(PATIENCE, rescued(&machine, &wanted)).await.expect("it hangs") };
        out += &runtime.block_on(work);
    }
    assert_snapshot!(out);
}

async fn rescued(machine: &Machine, wanted: &[BTreeMap<String, String>; 2]) -> String {
    let store = haven_store::open(&machine.text("lib"), &Default::default()).unwrap();
    let mut library = match Library::open(store, &Secret::passphrase(PASSPHRASE).unwrap()).await {
        Ok(library) => library,
        Err(error) => return format!("  told: {error}\n"),
    };
    let newest = library.newest().await.unwrap();
    let mut out = extracted(machine, &mut library, "now", &newest, &newest, &wanted[0]).await;
    match snapshots(&newest.records).iter().find(|(name, _)| name == "spring") {
        Some((_, snapshot)) => {
            let past = library.past(snapshot).await.unwrap();
            out += &extracted(machine, &mut library, "spring", &past, &newest, &wanted[1]).await;
        }
        None => out += "  spring\n    not known\n",
    }
    for told in &library.passed_over {
        writeln!(out, "  passed over: {told}").unwrap();
    }
    out
}

async fn extracted(
    machine: &Machine,
    library: &mut Library,
    name: &str,
    state: &State,
    newest: &State,
    wanted: &BTreeMap<String, String>,
) -> String {
    let target = machine.path(name);
    fs::create_dir(&target).unwrap();
    let restored = restore(library, &state.records, &newest.records, &target).await.unwrap();
    let mut out = format!("  {name}\n{}", compared(wanted, &files(&target)));
    for (path, why) in restored.damaged.iter().filter(|(_, why)| !why.starts_with("its owner")) {
        writeln!(out, "    told: {}: {why}", path.strip_prefix(&target).unwrap().display()).unwrap();
    }
    out
}

/// A Python with the reader's four packages: `HAVEN_PYTHON`, or the one on the path.
fn python() -> Option<String> {
    let python = std::env::var("HAVEN_PYTHON").unwrap_or_else(|_| "python3".into());
    let modules = ["-c", "import argon2, blake3, cryptography, zstandard"];
    let there = Command::new(&python).args(modules).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    assert!(there || std::env::var_os("CI").is_none(), "the reader's packages are missing: see its first lines");
    there.then_some(python)
}

#[test]
fn the_reader_that_was_written_from_the_page_alone_opens_them_all() {
    let Some(python) = python() else { return };
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/reader.py");
    let read = |exhibit: &str, more: &[&str]| {
        let machine = visitor(exhibit);
        let mut command = Command::new(&python);
        command.arg(&reader).arg(machine.path("lib")).arg(PASSPHRASE).args(more);
        bounded(&mut command)
    };
    let mut out = String::new();
    let states: [&[&str]; 2] = [&[], &["--snapshot", "spring"]];
    let whole = states.map(|state| read(WHOLE, state).stdout);
    for exhibit in exhibits().unwrap() {
        write!(out, "{exhibit:<46}").unwrap();
        for (state, whole) in states.into_iter().zip(&whole) {
            let output = read(&exhibit, state);
            let word = match output.status.code() {
                Some(0) if output.stdout == *whole => "whole",
                Some(0) => "another state",
                // It stops at the first byte that is not as described.
                _ => "refused",
            };
            write!(out, "{}: {word:<15}", if state.is_empty() { "now" } else { "spring" }).unwrap();
        }
        out = out.trim_end().to_owned() + "\n";
    }
    assert_snapshot!(out);
}
