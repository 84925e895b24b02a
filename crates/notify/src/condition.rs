//! What is amiss, from look to look: tells what is new, what got worse, what is still so after days, what has recovered,
//! and nothing twice.
//!
//! Invariants: a condition is told at most once for each weight it reaches, then once in each `remind`; its recovery is
//! told once, only if it was told itself, and only when it has been absent for `calm`: looked for, and not found. A condition that is hushed counts as
//! told by nothing: when nobody hushes it any more, it is told as if it were new, or reminded of if it was told before. The
//! ids of messages depend on the condition and its history alone, so that telling again after a crash makes the same id, and
//! the outbox takes it once. Conditions are the same by their keys alone: titles change with every number in them.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use crate::message::{Message, Severity};

/// Something that is amiss right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What makes it the same condition at the next look.
    pub key: String,
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// What it means and what to do.
    pub body: String,
    /// The end of a log, where there is one.
    pub log: String,
    /// Nobody wants to hear of it now.
    pub hushed: bool,
}

/// How patient to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// What is still so is told again after so long.
    pub remind: Duration,
    /// What is gone must stay gone so long before it counts as recovered.
    pub calm: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// Milliseconds since the epoch.
    since: i64,
    told_at: i64,
    severity: Severity,
    /// Messages about it so far.
    times: u32,
    title: String,
    /// Since when it has not been seen.
    absent_since: Option<i64>,
}

/// The conditions that people know of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    known: BTreeMap<String, Known>,
}

impl Book {
    /// The book at `path`; an empty one where there is none. A torn or foreign file is an error of kind `InvalidData`.
    pub fn load(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Written whole: a power cut leaves the old one or the new one. To be called after the messages are in the outbox.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        crate::outbox::replace(path, &serde_json::to_vec_pretty(self)?)
    }

    /// How many conditions people know of that have not recovered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Compares what is amiss now (`now`: milliseconds since the epoch) with what people know, and returns what there
    /// is to tell them. `judged` tells of a key whether its condition would be among these, were it so: what merely can't be
    /// seen is not over.
    pub fn look(
        &mut self,
        now: i64,
        conditions: &[Condition],
        judged: impl Fn(&str) -> bool,
        manner: &Manner,
        host: &str,
    ) -> Vec<Message> {
        let mut out = Vec::new();
        for condition in conditions {
            out.extend(self.seen(now, condition, manner, host));
        }
        let mut gone = Vec::new();
        for (key, known) in &mut self.known {
            if conditions.iter().any(|condition| condition.key == *key) {
                continue;
            }
            if !judged(key) {
                known.absent_since = None;
                continue;
            }
            let since = *known.absent_since.get_or_insert(now);
            if now - since >= millis(manner.calm) {
                out.push(recovered(key, known, host));
                gone.push(key.clone());
            }
        }
        for key in gone {
            self.known.remove(&key);
        }
        out
    }

    fn seen(&mut self, now: i64, condition: &Condition, manner: &Manner, host: &str) -> Option<Message> {
        let Some(known) = self.known.get_mut(&condition.key) else {
            if condition.hushed {
                return None;
            }
            let known = Known {
                since: now,
                told_at: now,
                severity: condition.severity,
                times: 1,
                title: condition.title.clone(),
                absent_since: None,
            };
            let message = told(condition, &known, host, String::new());
            self.known.insert(condition.key.clone(), known);
            return Some(message);
        };
        known.absent_since = None;
        known.title.clone_from(&condition.title);
        if condition.hushed {
            return None;
        }
        let worse = condition.severity > known.severity;
        // A clock that was set back must not silence anybody for years.
        let due =
            now - known.told_at >= millis(manner.remind) || now < known.told_at - millis(Duration::from_secs(3600));
        if !worse && !due {
            return None;
        }
        let note = if worse { String::new() } else { format!("Still so after {}. ", long(now - known.since)) };
        known.severity = known.severity.max(condition.severity);
        known.told_at = now;
        known.times += 1;
        Some(told(condition, known, host, note))
    }
}

fn told(condition: &Condition, known: &Known, host: &str, note: String) -> Message {
    Message {
        id: id(&condition.key, known, known.times),
        severity: condition.severity,
        title: condition.title.clone(),
        body: note + &condition.body,
        log: condition.log.clone(),
        host: host.to_owned(),
        html: String::new(),
        weight: None,
    }
}

fn recovered(key: &str, known: &Known, host: &str) -> Message {
    let gone = known.absent_since.unwrap_or(known.told_at);
    Message {
        id: id(key, known, known.times + 1),
        severity: Severity::Info,
        title: format!("Recovered: {}", known.title),
        body: format!("It was so for {}.", long(gone - known.since)),
        log: String::new(),
        host: host.to_owned(),
        html: String::new(),
        weight: Some(known.severity),
    }
}

fn id(key: &str, known: &Known, times: u32) -> String {
    let plain: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(80).collect();
    // Two keys may look alike when made plain.
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    let mark = data_encoding::HEXLOWER.encode(&digest.as_ref()[..4]);
    format!("{plain}-{mark}-{}-{times}", known.since)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// `3 days`, `5 hours`, `12 minutes`.
fn long(millis: i64) -> String {
    let minutes = millis.max(0) / 60_000;
    let (number, unit) = match minutes {
        0..=119 => (minutes, "minute"),
        120..=2879 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const DAY: i64 = 1440 * MINUTE;

    fn manner() -> Manner {
        Manner { remind: Duration::from_secs(3 * 86_400), calm: Duration::from_secs(600) }
    }

    fn disk(severity: Severity) -> Condition {
        Condition {
            key: "disk:/x".into(),
            severity,
            title: "disk is full".into(),
            body: "Make room.".into(),
            log: String::new(),
            hushed: false,
        }
    }

    fn titles(book: &mut Book, now: i64, conditions: &[Condition]) -> Vec<String> {
        book.look(now, conditions, |_| true, &manner(), "mini")
            .iter()
            .map(|m| format!("{}|{}", m.title, m.body))
            .collect()
    }

    #[test]
    fn a_condition_is_told_once_then_when_worse_then_after_three_days_then_when_recovered() {
        let mut book = Book::default();
        let (mild, bad) = ([disk(Severity::Warning)], [disk(Severity::Critical)]);
        assert_eq!(titles(&mut book, 0, &mild), ["disk is full|Make room."]);
        assert!(titles(&mut book, MINUTE, &mild).is_empty());
        assert_eq!(titles(&mut book, 2 * MINUTE, &bad).len(), 1, "it got worse");
        assert!(titles(&mut book, 3 * MINUTE, &mild).is_empty(), "better is no news");
        assert!(titles(&mut book, 4 * MINUTE, &bad).is_empty(), "known to be that bad");
        assert_eq!(titles(&mut book, 3 * DAY + 2 * MINUTE, &bad), ["disk is full|Still so after 3 days. Make room."]);
        assert!(titles(&mut book, 4 * DAY, &[]).is_empty(), "it may come back at once");
        assert_eq!(titles(&mut book, 4 * DAY + 10 * MINUTE, &[]), ["Recovered: disk is full|It was so for 4 days."]);
        assert!(book.is_empty() && titles(&mut book, 5 * DAY, &[]).is_empty());
    }

    #[test]
    fn what_is_hushed_is_not_told_and_does_not_count_as_told() {
        let mut book = Book::default();
        let hushed = [Condition { hushed: true, ..disk(Severity::Warning) }];
        let loud = [disk(Severity::Warning)];
        assert!(titles(&mut book, 0, &hushed).is_empty() && titles(&mut book, MINUTE, &[]).is_empty());
        assert!(titles(&mut book, DAY, &[]).is_empty(), "nobody was told, so nobody hears that it is over");
        assert!(titles(&mut book, DAY, &hushed).is_empty());
        assert_eq!(titles(&mut book, 2 * DAY, &loud), ["disk is full|Make room."], "as if it were new");
        assert!(titles(&mut book, 9 * DAY, &hushed).is_empty(), "no reminder");
        let worse = [Condition { hushed: true, ..disk(Severity::Critical) }];
        assert!(titles(&mut book, 10 * DAY, &worse).is_empty());
        assert_eq!(titles(&mut book, 11 * DAY, &loud), ["disk is full|Still so after 9 days. Make room."]);
        assert!(titles(&mut book, 12 * DAY, &hushed).is_empty() && titles(&mut book, 12 * DAY + 1, &[]).is_empty());
        assert_eq!(titles(&mut book, 13 * DAY, &[]).len(), 1, "who was told hears that it is over");
    }

    #[test]
    fn what_flickers_is_told_once_and_recovers_once() {
        let mut book = Book::default();
        let told: usize = (0..100)
            .map(|n| {
                let now: &[Condition] = if n % 2 == 0 { &[disk(Severity::Warning)] } else { &[] };
                titles(&mut book, n * MINUTE, now).len()
            })
            .sum();
        assert_eq!(told, 1);
        assert_eq!(titles(&mut book, 110 * MINUTE, &[]).len(), 1);
    }

    #[test]
    fn what_cannot_be_seen_has_not_recovered() {
        let mut book = Book::default();
        let look = |book: &mut Book, minute, judged| {
            book.look(minute * MINUTE, &[], |key| judged || key != "disk:/x", &manner(), "mini").len()
        };
        titles(&mut book, 0, &[disk(Severity::Warning)]);
        assert_eq!((look(&mut book, 1, true), look(&mut book, 5, true)), (0, 0), "it is gone for a moment");
        assert_eq!((look(&mut book, 6, false), look(&mut book, 600, false)), (0, 0), "nobody can tell");
        assert_eq!(look(&mut book, 601, true), 0, "it may come back now that it can be seen");
        assert!(titles(&mut book, 605, &[disk(Severity::Warning)]).is_empty(), "people know");
        assert_eq!((look(&mut book, 606, true), look(&mut book, 616, true)), (0, 1));
    }

    #[test]
    fn telling_again_from_an_old_book_makes_the_same_ids() {
        let mut book = Book::default();
        book.look(0, &[disk(Severity::Warning)], |_| true, &manner(), "mini");
        let mut old = book.clone();
        let ids = |book: &mut Book, now| {
            book.look(now, &[], |_| true, &manner(), "mini").into_iter().map(|m| m.id).collect::<Vec<_>>()
        };
        assert!(ids(&mut book, DAY).is_empty() && ids(&mut old, DAY + 1).is_empty());
        assert_eq!(ids(&mut book, 2 * DAY), ids(&mut old, 2 * DAY + 7));
    }

    #[test]
    fn a_book_survives_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("told.json");
        assert_eq!(Book::load(&path).unwrap(), Book::default());
        let mut book = Book::default();
        book.look(5, &[disk(Severity::Critical)], |_| true, &manner(), "mini");
        book.save(&path).unwrap();
        assert_eq!(Book::load(&path).unwrap(), book);
    }
}
