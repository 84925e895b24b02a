//! What came of a run: by its exit code, its answers and its errors.

use haven_keeper::ledger::{Ledger, Verdict};
use serde_json::Value;

use super::{child::Said, facts};
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

/// Judges a run that ended with `exit` (none: by a signal), and keeps what it told.
pub fn judge(ledger: &Ledger, kind: &str, name: &str, exit: Option<i32>, said: &Said, began: i64, now: i64) -> Outcome {
    let first = said.values.first().cloned().unwrap_or(Value::Null);
    let last = said.values.last().cloned().unwrap_or(Value::Null);
    let trouble = said.troubles.last();
    let number = |value: &Value, key: &str| value[key].as_u64();
    let kept = facts::keep(ledger, kind, name, said, trouble, began, now);
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
        // The point is there, and counts; what else was asked for is not.
        (_, Some(Code::Incomplete)) if kind == "backup" => Verdict::Warned,
        _ => Verdict::Failed,
    };
    let again = match trouble.map(|trouble| trouble.code) {
        Some(
            Code::Usage
            | Code::NoSecret
            | Code::WrongSecret
            | Code::BadSecret
            | Code::Newer
            | Code::NoCopy
            | Code::NoPoint
            // A server that lacks an extension lacks it in an hour, too, and every try fetches all photos again.
            | Code::Unfit
            | Code::Damaged,
        ) => false,
        _ => true,
    };
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::facts::tests::{ledger, said},
        *,
    };

    #[test]
    fn a_point_without_its_copy_beside_counts_and_is_told() {
        let (_folder, ledger) = ledger();
        let beside = Trouble::new(Code::Incomplete, "immich-1 is complete, but not copied beside").because("full");
        let value = json!({ "point": "immich-1", "dump_bytes": 7 });
        let outcome = judge(&ledger, "backup", "immich", Some(10), &said(&[value], Some(beside)), 100, 110);
        assert_eq!((outcome.verdict, outcome.bytes), (Verdict::Warned, Some(7)));
        assert_eq!(outcome.said, "immich-1 is complete, but not copied beside: full");
    }

    #[test]
    fn what_must_be_looked_at_is_no_failure_and_what_a_person_must_change_is_not_tried_again() {
        let (_folder, ledger) = ledger();
        let trouble = |code| Some(Trouble::new(code, "x"));
        let verdict = |kind: &str, exit, code| judge(&ledger, kind, "a", exit, &said(&[], trouble(code)), 0, 0);
        assert_eq!(verdict("replica", Some(10), Code::Held).verdict, Verdict::Warned);
        assert_eq!(verdict("gc", Some(10), Code::Held).verdict, Verdict::Warned);
        assert_eq!(verdict("copy", Some(10), Code::Incomplete).verdict, Verdict::Failed);
        assert_eq!(verdict("copy", Some(7), Code::Occupied).verdict, Verdict::Ok, "nothing new");
        assert!(!verdict("backup", Some(2), Code::Usage).again);
        assert!(!verdict("drill-2", Some(8), Code::Unfit).again && verdict("drill-2", Some(8), Code::Local).again);
        assert!(verdict("copy", Some(8), Code::Local).again);
        assert_eq!(judge(&ledger, "gc", "", None, &said(&[], None), 0, 0).verdict, Verdict::Killed);
    }
}
