//! What the manual tells scripts: its tables of keys and of exit codes are held against what the program says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use haven_keeper::ledger::{Begin, End, Ledger, Verdict};
use serde_json::Value;

use crate::{
    made,
    mounted::{Mount, can_mount},
    run::{Machine, flip},
};

const CHAPTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/book/scripts.md");
const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../units/tests/all/seed");

/// Rows of cells, by the heading that they stand under.
type Tables = BTreeMap<String, Vec<Vec<String>>>;

/// The tables of the chapter whose first column is called `first`, without their heads.
fn tables(first: &str) -> Tables {
    let text = fs::read_to_string(CHAPTER).unwrap();
    let mut found = Tables::new();
    let (mut heading, mut fenced, mut inside) = (String::new(), false, false);
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        let Some(row) = line.strip_prefix('|').filter(|_| !fenced) else {
            inside = false;
            if let Some(words) = line.strip_prefix('#').filter(|_| !fenced) {
                heading = words.trim_start_matches('#').trim().replace('`', "");
            }
            continue;
        };
        let cells: Vec<String> = row.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        if cells[0] == first {
            inside = true;
        } else if inside && !cells[0].starts_with("--") {
            found.entry(heading.clone()).or_default().push(cells);
        }
    }
    found
}

/// All values that a command answers; and what it says beside them must be JSON, and tell its exit code.
fn answers(machine: &Machine, line: &str) -> Vec<Value> {
    // Unredacted: times have as many digits as names.
    let done = machine.command(&format!("{line} --json")).output().unwrap();
    let err = String::from_utf8_lossy(&done.stderr);
    let said = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| panic!("{line}: {err}"));
    let beside: Vec<Value> = err.lines().map(said).collect();
    let exit = beside.iter().rev().find_map(|one| one["exit"].as_i64()).unwrap_or_default();
    assert_eq!(done.status.code().map(i64::from), Some(exit), "{line}: {err}");
    let out = String::from_utf8_lossy(&done.stdout);
    let read: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&out).into_iter::<Value>().collect();
    let read = read.unwrap_or_else(|error| panic!("{line}: {error}: {out}"));
    assert!(!read.is_empty(), "{line} has no answer: {err}");
    read
}

/// What stands at `path`, `a.b` or `a[].b`: of a list each item, and nothing where there is none.
fn at<'a>(answer: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![answer];
    for part in path.split('.') {
        found = found.into_iter().filter_map(|value| value.get(part.trim_end_matches("[]"))).collect();
        if part.ends_with("[]") {
            found = found.into_iter().filter_map(Value::as_array).flatten().collect();
        }
    }
    found.retain(|value| !value.is_null());
    found
}

/// Whether a value is of a kind as the chapter writes it: `integer`, `string or null`.
fn is_of(value: &Value, kind: &str) -> bool {
    kind.split(" or ").any(|kind| match kind {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "bool" => value.is_boolean(),
        "list" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{other} is no kind of value"),
    })
}

/// An answer has the keys of the table and no others, and inside of it what the table tells of is there.
fn hold(heading: &str, rows: &[Vec<String>], answer: &Value) {
    let mut known = BTreeSet::new();
    for row in rows {
        let (path, kind) = (row[0].trim_matches('`'), row[1].as_str());
        let (plain, maybe) = (kind.split(',').next().unwrap_or_default(), kind.ends_with(", maybe"));
        let (parents, key) = match path.rsplit_once('.') {
            Some((parent, key)) => (at(answer, parent), key),
            None => (vec![answer], path),
        };
        for parent in parents {
            match parent.get(key) {
                Some(value) => assert!(is_of(value, plain), "{heading}: {path} is no {plain}: {value}"),
                None => assert!(maybe, "{heading}: the answer has no {path}: {parent}"),
            }
        }
        if !path.contains('.') {
            known.insert(path);
        }
    }
    let printed = answer.as_object().unwrap().keys();
    let unknown: Vec<&String> = printed.filter(|key| !known.contains(key.as_str())).collect();
    assert!(unknown.is_empty(), "{heading}: the chapter lacks {unknown:?}");
}

/// A library that is mounted at `@m`, with settings for all that commands may be asked of.
fn machine() -> Machine {
    let machine = Machine::with_library();
    machine.write("copy-passphrase", "another one\n");
    let text = |name: &str| machine.text(name);
    let toml = format!(
        "[library]\nurl = {:?}\n[mount]\npoint = {:?}\n[store.retry]\npatience = \"200ms\"\n[schedule]\ndirectory = {:?}\n\
         [replica.near]\nurl = {:?}\n[backup.papers]\nkind = \"folder\"\nfolder = \"papers\"\n\
         [copy.home]\nrepository = {:?}\npassphrase_file = {:?}\n",
        text("lib"),
        text("m"),
        text("keeper"),
        text("near"),
        text("borg"),
        text("copy-passphrase")
    );
    machine.write("haven.toml", toml);
    fs::create_dir(machine.path("near")).unwrap();
    machine
}

/// A run that the keeper has done.
fn noted(machine: &Machine) -> i64 {
    let ledger = Ledger::open(&machine.path("keeper/ledger.sqlite")).unwrap();
    let now = jiff::Timestamp::now().as_millisecond();
    let run = ledger.begin(&Begin { kind: "gc", started: now - 1000, ..Begin::default() }).unwrap();
    let end = End { ended: now, verdict: Verdict::Ok, exit: Some(0), bytes: None, said: "done", tail: "" };
    ledger.end(run, &end).unwrap();
    run
}

#[test]
fn each_answer_has_the_keys_that_the_chapter_tells() {
    if !can_mount() {
        return;
    }
    let machine = machine();
    let _mount = Mount::new(&machine, "m", "");
    fs::create_dir(machine.path("m/papers")).unwrap();
    fs::write(machine.path("m/papers/will"), "all to the cat. ".repeat(9999)).unwrap();
    let run = noted(&machine);
    fs::create_dir(machine.path("takeout")).unwrap();
    made::takeout(&machine.path("takeout"));
    for line in ["copy init home", "import plan @takeout --state @journal"] {
        let said = machine.run(line);
        assert_eq!(said.exit, 0, "{line}: {}", said.err);
    }
    let one_run = format!("runs {run}");
    let units = format!("doctor --units {SEED}");
    let asked = [
        ("haven snapshot create", "snapshot create monday -L @m"),
        ("haven snapshot list", "snapshot list -L @m"),
        ("haven backup run", "backup run"),
        ("haven backup list", "backup list"),
        ("haven backup check", "backup check"),
        ("haven replica sync", "replica sync near"),
        ("haven replica status", "replica status"),
        ("haven copy run", "copy run home --now"),
        ("haven copy list", "copy list"),
        ("haven copy list NAME", "copy list home"),
        ("haven drill", "drill --copy library"),
        ("haven drill list", "drill list"),
        ("haven gc", "gc -L @m"),
        ("haven flush", "flush @m"),
        ("haven status", "status @m"),
        ("haven health", "health"),
        ("haven runs", "runs"),
        ("haven runs NUMBER", one_run.as_str()),
        ("haven schedule", "schedule"),
        ("haven import report", "import report --state @journal"),
        ("haven import report --entries -", "import report --entries - --state @journal"),
        ("haven doctor", "doctor"),
        ("haven doctor --units", units.as_str()),
        ("haven check", "check --read-data -L @m"),
    ];
    let mut left = tables("key");
    for (heading, line) in asked {
        if heading == "haven check" {
            // The last one: what is damaged is told with all its keys.
            let mut pack = machine.path("lib/p");
            while pack.is_dir() {
                pack = fs::read_dir(&pack).unwrap().next().unwrap().unwrap().path();
            }
            flip(&pack, fs::metadata(&pack).unwrap().len() as usize / 2);
        }
        let rows = left.remove(heading).unwrap_or_else(|| panic!("the chapter has no table of {heading}"));
        for answer in answers(&machine, line) {
            hold(heading, &rows, &answer);
        }
    }
    assert!(left.is_empty(), "nobody has asked {:?}", left.keys());
}

#[test]
fn the_exit_codes_of_the_chapter_are_those_of_the_program() {
    let help = Machine::new().run("--help").out;
    let (_, listed) = help.split_once("Exit codes:\n").unwrap();
    let (listed, _) = listed.split_once("\n\n").unwrap();
    let mut codes: Vec<(String, String)> = Vec::new();
    for line in listed.lines() {
        match line.trim().split_once("  ").filter(|(code, _)| code.parse::<u8>().is_ok()) {
            Some((code, meaning)) => codes.push((code.to_owned(), meaning.to_owned())),
            // A long one goes on in the next line.
            None => codes.last_mut().unwrap().1 += &format!(" {}", line.trim()),
        }
    }
    assert!(codes.len() > 10, "{help}");
    let told: Vec<(String, String)> =
        tables("exit")["Exit codes"].iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(told, codes);
}
