//! What a run tells of the library, and what is kept of it for findings: values by job, in the ledger.

use std::collections::BTreeMap;

use haven_keeper::{
    ledger::{Ledger, LedgerError, Verdict},
    state::{Brake, Drill, Scrub},
};
use haven_recover::proof::Report;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::child::Said;
use crate::{
    report::{Code, Trouble},
    words,
};

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// A line.
    pub said: String,
    pub bytes: Option<u64>,
    /// Whether another try may end better.
    pub again: bool,
}

/// What is known of a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaFacts {
    /// Seconds since the epoch.
    pub up_to_date: Option<i64>,
    pub damaged: u64,
    pub brake: String,
    pub trouble: Option<String>,
    pub bytes: Option<u64>,
    /// None: no run has told yet.
    pub read_back: Option<ReadBackFacts>,
}

/// How far reading back every byte of a replica is. Seconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBackFacts {
    /// When a round last ended with everything right.
    pub verified: Option<i64>,
    pub round_began: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyFacts {
    pub vanished: usize,
}

/// The newest drill of each copy at each level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillFacts(pub BTreeMap<String, Drill>);

impl DrillFacts {
    pub fn take(&mut self, report: &Report) {
        let drill = Drill {
            copy: report.copy.clone(),
            level: report.level,
            at: report.finished.as_second(),
            ok: report.ok,
            why: fault(report),
        };
        let key = format!("{} {}", drill.level, drill.copy);
        if self.0.get(&key).is_none_or(|known| known.at <= drill.at) {
            self.0.insert(key, drill);
        }
    }
}

/// The first fault of a drill.
fn fault(report: &Report) -> String {
    let step = report.steps.iter().find(|step| !step.ok).map(|step| format!("{}: {}", step.name, step.said));
    // Paths of photos are not told: alerts go through other people's servers.
    let broken = (!report.broken.is_empty()).then(|| words::count(report.broken.len(), "broken photo"));
    step.or(broken).unwrap_or_default()
}

/// Why a note can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("what was noted of it is damaged")]
    Torn(#[from] serde_json::Error),
}

/// A value of the ledger's notes; what is not there is the default.
pub fn read<T: DeserializeOwned + Default>(ledger: &Ledger, key: &str) -> Result<T, Unread> {
    match ledger.note(key)? {
        Some(text) => Ok(serde_json::from_str(&text)?),
        None => Ok(T::default()),
    }
}

/// The same for who writes it anew; whether what was there was damaged, and is given up.
fn known<T: DeserializeOwned + Default>(ledger: &Ledger, key: &str) -> Result<(T, bool), LedgerError> {
    match read(ledger, key) {
        Ok(value) => Ok((value, false)),
        Err(Unread::Ledger(error)) => Err(error),
        Err(Unread::Torn(error)) => {
            tracing::warn!(%error, key, "a note of the ledger is damaged");
            Ok((T::default(), true))
        }
    }
}

pub fn write(ledger: &Ledger, key: &str, value: &impl Serialize) -> Result<(), LedgerError> {
    ledger.set_note(key, &serde_json::to_string(value).unwrap_or_default())
}

pub fn replica_key(name: &str) -> String {
    format!("replica {name}")
}

pub fn copy_key(name: &str) -> String {
    format!("copy {name}")
}

pub const DRILLS: &str = "drills";
pub const SCRUB: &str = "scrub";
pub const GC: &str = "gc";

/// Judges a run that ended with `exit` (none: by a signal), and keeps what it told.
pub fn judge(ledger: &Ledger, kind: &str, name: &str, exit: Option<i32>, said: &Said, began: i64, now: i64) -> Outcome {
    let first = said.values.first().cloned().unwrap_or(Value::Null);
    let last = said.values.last().cloned().unwrap_or(Value::Null);
    let trouble = said.troubles.last();
    let number = |value: &Value, key: &str| value[key].as_u64();
    let kept = keep(ledger, kind, name, said, trouble, began, now);
    if let Err(error) = kept {
        tracing::error!(%error, "what a run told can't be kept");
    }
    let bytes = match kind {
        "backup" => number(&first, "dump_bytes"),
        "replica" => number(&last, "bytes"),
        "copy" => number(&first, "new_bytes"),
        "scrub" => number(&last, "read_bytes"),
        "gc" => last["deleted"]["bytes"].as_u64(),
        _ if kind.starts_with("drill") => {
            Some(said.values.iter().filter_map(|value| value["report"]["bytes"].as_u64()).sum())
        }
        _ => None,
    };
    let verdict = match (exit, trouble.map(|trouble| trouble.code)) {
        (Some(0), _) => Verdict::Ok,
        (None, _) => Verdict::Killed,
        // The newest point was copied before: there is nothing new, and nothing is wrong.
        (_, Some(Code::Occupied)) if kind == "copy" => Verdict::Ok,
        (_, Some(Code::Held)) => Verdict::Warned,
        (_, Some(Code::Unfinished)) if kind == "gc" => Verdict::Warned,
        _ => Verdict::Failed,
    };
    let again = !matches!(
        trouble.map(|trouble| trouble.code),
        Some(
            Code::Usage
                | Code::NoSecret
                | Code::WrongSecret
                | Code::BadSecret
                | Code::Newer
                | Code::NoCopy
                | Code::Damaged
        )
    );
    Outcome { verdict, said: sentence(kind, verdict, exit, &first, &last, said, trouble), bytes, again }
}

fn sentence(
    kind: &str,
    verdict: Verdict,
    exit: Option<i32>,
    first: &Value,
    last: &Value,
    said: &Said,
    trouble: Option<&Trouble>,
) -> String {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let size = |value: &Value, key: &str| words::bytes(value[key].as_u64().unwrap_or_default());
    if let Some(trouble) = trouble.filter(|trouble| trouble.code != Code::Occupied || kind != "copy") {
        let why = trouble.because.first().map(|why| format!(": {}", why.lines().next().unwrap_or_default()));
        return format!("{}{}", trouble.what, why.unwrap_or_default());
    }
    if !verdict.is_done() {
        return match exit {
            Some(code) => format!("it ended with exit code {code} and said nothing"),
            None => "it was ended before its end".into(),
        };
    }
    match kind {
        "snapshot" => text(first, "name"),
        "backup" => format!("{}, {} in the dump", text(first, "point"), size(first, "dump_bytes")),
        "replica" => {
            let objects = last["objects"].as_u64().unwrap_or_default();
            let read = last["read_back"]["objects"].as_u64().unwrap_or_default();
            format!(
                "up to date; {} sent, {}, {read} read back",
                words::count(objects as usize, "object"),
                size(last, "bytes")
            )
        }
        "copy" if first.is_null() => "the newest state is there already".into(),
        "copy" => format!("{}, {} new", text(first, "archive"), size(first, "new_bytes")),
        "scrub" => format!(
            "{} looked at, {} read, nothing damaged",
            words::count(last["objects"].as_u64().unwrap_or_default() as usize, "object"),
            size(last, "read_bytes")
        ),
        "gc" => format!("{} deleted, {} wait", size(&last["deleted"], "bytes"), size(&last["waiting"], "bytes")),
        _ if kind.starts_with("drill") => {
            let one = |value: &Value| {
                let report = &value["report"];
                let number = |key: &str| report[key].as_u64().unwrap_or_default();
                format!("{}: {} of {} photos read and right", text(report, "copy"), number("proven"), number("assets"))
            };
            said.values.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        _ => text(last, "said"),
    }
}

fn keep(
    ledger: &Ledger,
    kind: &str,
    name: &str,
    said: &Said,
    trouble: Option<&Trouble>,
    began: i64,
    now: i64,
) -> Result<(), LedgerError> {
    let last = said.values.last().unwrap_or(&Value::Null);
    match kind {
        "replica" => {
            let key = replica_key(name);
            let (mut facts, torn): (ReplicaFacts, _) = known(ledger, &key)?;
            if last.is_object() {
                // What was there when it began is there now.
                if last["position"]["segment"] == last["source"]["segment"] && !last["position"].is_null() {
                    facts.up_to_date = Some(began);
                }
                facts.damaged = last["damaged"].as_array().map_or(0, |all| all.len() as u64);
                facts.brake = last["brake"].as_str().unwrap_or_default().to_owned();
                if let Ok(read_back) = ReadBackFacts::deserialize(&last["read_back"]) {
                    facts.read_back = Some(read_back);
                }
            }
            facts.trouble = trouble.map(|trouble| {
                std::iter::once(trouble.what.as_str())
                    .chain(trouble.because.first().map(String::as_str))
                    .collect::<Vec<_>>()
                    .join(": ")
            });
            // That it was never up to date is not what a damaged note says: that is told until a run has reached the end.
            if torn && facts.up_to_date.is_none() { Ok(()) } else { write(ledger, &key, &facts) }
        }
        "copy" => {
            let (mut facts, torn): (CopyFacts, _) = known(ledger, &copy_key(name))?;
            match last["missing"].as_array() {
                Some(missing) => facts.vanished = missing.len(),
                None if torn => return Ok(()),
                None => {}
            }
            write(ledger, &copy_key(name), &facts)
        }
        "scrub" if last["whole"].is_boolean() => {
            let left = |list: &Value, open: fn(&Value) -> bool| {
                list.as_array().map_or(0, |all| all.iter().filter(|one| open(one)).count() as u64)
            };
            let facts = Scrub {
                at: now,
                whole: last["whole"].as_bool().unwrap_or_default(),
                faults: left(&last["faults"], |fault| fault["repaired_from"].is_null()),
                files: left(&last["files"], |file| file["snapshot"].is_null() && file["mended"] != true),
            };
            write(ledger, SCRUB, &Some(facts))
        }
        "gc" if last.is_object() => {
            let brake = last["brake"].as_str().map(|why| Brake { of: "library".into(), why: why.to_owned() });
            write(ledger, GC, &brake)
        }
        _ if kind.starts_with("drill") => {
            // The reports in the library tell what a damaged note has lost.
            let (mut facts, _): (DrillFacts, _) = known(ledger, DRILLS)?;
            for report in said.values.iter().filter_map(|value| Report::deserialize(&value["report"]).ok()) {
                facts.take(&report);
            }
            write(ledger, DRILLS, &facts)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("l")).unwrap();
        (folder, ledger)
    }

    fn said(values: &[Value], trouble: Option<Trouble>) -> Said {
        Said { values: values.to_vec(), troubles: trouble.into_iter().collect(), log: String::new() }
    }

    #[test]
    fn a_replica_is_up_to_date_only_when_it_stands_where_its_source_ends() {
        let (_folder, ledger) = ledger();
        let at = |ours: u64| json!({ "position": { "segment": ours }, "source": { "segment": 9 }, "bytes": 5, "objects": 1, "brake": "", "damaged": [] });
        let outcome = judge(&ledger, "replica", "near", Some(0), &said(&[at(9)], None), 100, 110);
        assert_eq!((outcome.verdict, outcome.bytes), (Verdict::Ok, Some(5)));
        let down = Trouble::new(Code::Store, "can't be reached").because("refused");
        let failed = judge(&ledger, "replica", "near", Some(4), &said(&[], Some(down)), 200, 210);
        assert_eq!(
            (failed.verdict, failed.said.as_str(), failed.again),
            (Verdict::Failed, "can't be reached: refused", true)
        );
        judge(&ledger, "replica", "near", Some(0), &said(&[at(8)], None), 300, 310);
        let facts: ReplicaFacts = read(&ledger, &replica_key("near")).unwrap();
        assert_eq!((facts.up_to_date, facts.trouble, facts.read_back), (Some(100), None, None));
        let mut read = at(9);
        read["read_back"] =
            json!({ "objects": 1, "bytes": 5, "round_ended": true, "verified": 340, "round_began": 340 });
        judge(&ledger, "replica", "near", Some(0), &said(&[read], None), 330, 350);
        judge(&ledger, "replica", "near", Some(4), &said(&[], Some(Trouble::new(Code::Store, "away"))), 400, 410);
        let facts: ReplicaFacts = super::read(&ledger, &replica_key("near")).unwrap();
        let known = ReadBackFacts { verified: Some(340), round_began: Some(340) };
        assert_eq!(facts.read_back, Some(known), "a run that failed does not forget it");
    }

    #[test]
    fn a_damaged_note_is_not_taken_for_none_and_is_written_anew_when_all_of_it_is_known_again() {
        let (_folder, ledger) = ledger();
        let key = replica_key("near");
        ledger.set_note(&key, "{torn").unwrap();
        assert!(matches!(read::<ReplicaFacts>(&ledger, &key), Err(Unread::Torn(_))));
        let down = Trouble::new(Code::Store, "can't be reached");
        judge(&ledger, "replica", "near", Some(4), &said(&[], Some(down)), 200, 210);
        assert!(read::<ReplicaFacts>(&ledger, &key).is_err(), "a run that failed does not know when it was up to date");
        let whole = json!({ "position": { "segment": 9 }, "source": { "segment": 9 }, "brake": "", "damaged": [] });
        judge(&ledger, "replica", "near", Some(0), &said(&[whole], None), 300, 310);
        assert_eq!(read::<ReplicaFacts>(&ledger, &key).unwrap().up_to_date, Some(300));
        ledger.set_note(&copy_key("home"), "{torn").unwrap();
        judge(&ledger, "copy", "home", Some(7), &said(&[], Some(Trouble::new(Code::Occupied, "nothing new"))), 0, 0);
        assert!(read::<CopyFacts>(&ledger, &copy_key("home")).is_err(), "it did not look");
        judge(&ledger, "copy", "home", Some(0), &said(&[json!({ "missing": ["a"] })], None), 0, 0);
        assert_eq!(read::<CopyFacts>(&ledger, &copy_key("home")).unwrap().vanished, 1);
    }

    #[test]
    fn what_must_be_looked_at_is_no_failure_and_what_a_person_must_change_is_not_tried_again() {
        let (_folder, ledger) = ledger();
        let trouble = |code| Some(Trouble::new(code, "x"));
        let verdict = |kind: &str, exit, code| judge(&ledger, kind, "a", exit, &said(&[], trouble(code)), 0, 0);
        assert_eq!(verdict("replica", Some(10), Code::Held).verdict, Verdict::Warned);
        assert_eq!(verdict("gc", Some(9), Code::Unfinished).verdict, Verdict::Warned);
        assert_eq!(verdict("copy", Some(10), Code::Incomplete).verdict, Verdict::Failed);
        assert_eq!(verdict("copy", Some(7), Code::Occupied).verdict, Verdict::Ok, "nothing new");
        assert!(!verdict("backup", Some(2), Code::Usage).again);
        assert_eq!(judge(&ledger, "gc", "", None, &said(&[], None), 0, 0).verdict, Verdict::Killed);
    }

    #[test]
    fn scrubs_and_brakes_are_remembered_until_they_are_over() {
        let (_folder, ledger) = ledger();
        let bad = json!({ "objects": 3, "read_bytes": 9, "whole": false, "faults": [{ "object": "p/1", "repaired_from": null }],
                          "files": [{ "path": "a", "snapshot": null, "mended": false }] });
        judge(
            &ledger,
            "scrub",
            "",
            Some(6),
            &said(&[bad], Some(Trouble::new(Code::Damaged, "1 object is damaged"))),
            0,
            50,
        );
        let scrub: Option<Scrub> = read(&ledger, SCRUB).unwrap();
        assert_eq!(scrub, Some(Scrub { at: 50, whole: false, faults: 1, files: 1 }));
        let good = json!({ "objects": 3, "read_bytes": 9, "whole": true, "faults": [], "files": [] });
        assert!(judge(&ledger, "scrub", "", Some(0), &said(&[good], None), 0, 60).said.contains("nothing damaged"));
        assert!(read::<Option<Scrub>>(&ledger, SCRUB).unwrap().unwrap().whole);
        judge(
            &ledger,
            "gc",
            "",
            Some(9),
            &said(&[json!({ "brake": "30 %" })], Some(Trouble::new(Code::Unfinished, "asks"))),
            0,
            0,
        );
        assert_eq!(read::<Option<Brake>>(&ledger, GC).unwrap().unwrap().why, "30 %");
        judge(&ledger, "gc", "", Some(0), &said(&[json!({ "brake": null })], None), 0, 0);
        assert_eq!(read::<Option<Brake>>(&ledger, GC).unwrap(), None);
    }
}
