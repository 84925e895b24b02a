//! What a run tells of the library, and what is kept of it for findings: values by job, in the ledger.

use std::collections::BTreeMap;

use haven_keeper::{
    findings::is_ahead,
    ledger::{Filter, Ledger, LedgerError},
    state::{Brake, Drill, Scrub, Sums, Then},
};
use haven_recover::proof::Report;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{child::Said, notes::Note};
use crate::{cli::copy::Remembered, config::Config, points::config::App, report::Trouble, words};

const FIRST_POINT: &str = "first point";

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

/// The newest drill of each copy at each level, of each application: by `LEVEL COPY of APPLICATION`.
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
        let all = format!("{} {}", drill.level, drill.copy);
        let key = match report.application() {
            Some(of) => {
                // Noted when applications were not told apart.
                self.0.remove(&all);
                format!("{all} of {of}")
            }
            None => all,
        };
        self.take_one(key, drill, super::seconds());
    }

    /// A newer one takes the place of what is known, and any that has happened that of one that is to come: the clock was set
    /// back since.
    pub fn take_one(&mut self, key: String, drill: Drill, now: i64) {
        let rank = |drill: &Drill| (!is_ahead(drill.at, now), drill.at);
        if self.0.get(&key).is_none_or(|known| rank(known) <= rank(&drill)) {
            self.0.insert(key, drill);
        }
    }
}

impl DrillFacts {
    /// One for each copy and level: what fails for one application is not mended by another's. Those that are not among
    /// `applications` any more count for nothing.
    pub fn of_all(self, applications: &[App]) -> Vec<Drill> {
        let mut all: BTreeMap<String, Drill> = BTreeMap::new();
        for (key, mut drill) in self.0 {
            let of = key.rsplit_once(" of ").map(|(_, of)| of.to_owned());
            if of.as_ref().is_some_and(|of| !applications.iter().any(|app| app.name == *of)) {
                continue;
            }
            if let Some(of) = of.filter(|_| !drill.ok && applications.len() > 1) {
                drill.why = format!("{of}: {}", drill.why);
            }
            // Proven is as much as the one that was proven longest ago.
            let worse = |known: &Drill| (drill.ok, drill.at) < (known.ok, known.at);
            let one = format!("{} {}", drill.level, drill.copy);
            if all.get(&one).is_none_or(worse) {
                all.insert(one, drill);
            }
        }
        all.into_values().collect()
    }
}

/// The first fault of a drill.
fn fault(report: &Report) -> String {
    let step = report.steps.iter().find(|step| !step.ok).map(|step| format!("{}: {}", step.name, step.said));
    // Paths of photos are not told: alerts go through other people's servers.
    let broken = (!report.broken.is_empty()).then(|| words::count(report.broken.len(), "broken photo"));
    step.or(broken).unwrap_or_default()
}

/// Whether a recovery point of `app` can be in a replica or a copy in a foreign format: it was complete at some time, and
/// not only before the first point was. Where that can't be told it is taken for so: it is looked at rather than not.
pub fn begun(config: &Config, ledger: &Ledger, name: &str, app: &str) -> bool {
    let reaches = |newest: Option<i64>| {
        newest.is_some_and(|newest| first_point(ledger, app).ok().flatten().is_none_or(|first| newest >= first))
    };
    if let Some(copy) = config.copies.get(name) {
        // Where archives say whose they are, another's are no sign of this one's.
        let whose = |name: &String| haven_offsite::series(name, &copy.prefix).to_owned();
        let newest = |known: &Remembered| {
            let told = known.archives.keys().any(|name| !whose(name).is_empty());
            let mine = known.archives.iter().filter(|(name, _)| !told || whose(name) == app);
            mine.map(|(_, taken)| *taken).max().or(known.last_good.filter(|_| !told))
        };
        return Remembered::at(&copy.directory(name)).map_or(true, |known| reaches(newest(&known)));
    }
    read::<ReplicaFacts>(ledger, &replica_key(name)).map_or(true, |known| reaches(known.up_to_date))
}

/// When the first recovery point of `app` that the ledger knows of was complete, in seconds since the epoch. Noted, for its
/// run is forgotten one day.
fn first_point(ledger: &Ledger, app: &str) -> Result<Option<i64>, Unread> {
    let key = format!("{FIRST_POINT} {app}");
    if let Some(noted) = read(ledger, &key)? {
        return Ok(Some(noted));
    }
    let wanted = Filter { kind: Some("backup".into()), name: Some(app.to_owned()), ..Filter::default() };
    let runs = ledger.runs(&wanted)?;
    let first = runs.iter().filter(|run| run.verdict.is_done()).filter_map(|run| run.ended).min();
    let first = first.map(|millis| millis.div_euclid(1000));
    if first.is_some() {
        write(ledger, &key, &first)?;
    }
    Ok(first)
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

/// The run of a job that failed, and that is to be tried again.
pub fn again_key(job: &str) -> String {
    format!("again {job}")
}

pub fn copy_key(name: &str) -> String {
    format!("copy {name}")
}

pub const DRILLS: &str = "drills";
pub const SCRUB: &str = "scrub";
/// What is damaged in the library, and how, by the names of objects: as the mount knew it last.
pub const DAMAGE: &str = "damage";
pub const GC: &str = "gc";
/// When certificates run out.
pub const EXPIRIES: &str = "expiries";
/// How large the library was, hour by hour for a day.
pub const SUMS: &str = "sums";
/// The damaged ledger that was put aside when this one was begun.
pub const ASIDE: &str = "aside";
/// When the ledger was last written for the sake of that alone.
pub const WRITTEN: &str = "written";

/// Keeps what the mount knows to be damaged, for the next one: what is mended or was found right it knows no more. A note
/// that is damaged is left to the next scrub.
pub fn keep_damage(ledger: &Ledger, now: &BTreeMap<String, String>) -> Result<(), Unread> {
    if read::<BTreeMap<String, String>>(ledger, DAMAGE)? != *now {
        write(ledger, DAMAGE, now)?;
    }
    Ok(())
}

/// Keeps what a replica says of itself. `had`: when it last had all that the bucket had, by the keeper's own looks; where that is
/// not known, and no run has told, it is believed that it had when it was noted.
pub fn keep_note(ledger: &Ledger, name: &str, note: &Note, had: Option<i64>, now: i64) -> Result<(), LedgerError> {
    let key = replica_key(name);
    let (mut facts, torn): (ReplicaFacts, _) = known(ledger, &key)?;
    let before = facts.clone();
    if note.tx.is_some() {
        let known = facts.up_to_date.filter(|at| had.is_none() || !is_ahead(*at, now));
        facts.up_to_date = known.max(had).or(Some(note.at));
    }
    facts.brake.clone_from(&note.brake);
    facts.read_back = Some(ReadBackFacts { verified: note.verified, round_began: note.round_began });
    // How the keeper's own last run went is news until somebody has written there since.
    let ours = Filter { kind: Some("replica".into()), name: Some(name.to_owned()), limit: 1, ..Filter::default() };
    let ours = ledger.runs(&ours)?;
    if ours.iter().all(|run| run.ended.is_some_and(|ended| ended < note.at.saturating_mul(1000))) {
        facts.damaged = note.damaged;
        facts.trouble = None;
    }
    // A damaged note is written anew when all of it is known again.
    let nothing_new = if torn { facts.up_to_date.is_none() } else { facts == before };
    if nothing_new { Ok(()) } else { write(ledger, &key, &facts) }
}

/// Seconds after which sums are of a day ago: they are noted once an hour.
const DAY: i64 = 23 * 3600;

/// Notes how large the library is, for the look that will be made in a day.
pub fn keep_sums(ledger: &Ledger, now: i64, sums: Sums) -> Result<(), LedgerError> {
    let (mut all, _): (Vec<Then>, _) = known(ledger, SUMS)?;
    let before = all.len();
    // The clock may have been set back.
    all.retain(|then| then.at <= now);
    if all.last().is_none_or(|last| now - last.at >= 3600) {
        all.push(Then { at: now, sums });
    } else if all.len() == before {
        return Ok(());
    }
    // Of those that are a day old the newest is enough.
    let old = all.iter().filter(|then| now - then.at >= DAY).count();
    all.drain(..old.saturating_sub(1));
    write(ledger, SUMS, &all)
}

/// How large the library was a day ago; longer ago, where nobody has looked since.
pub fn day_ago(ledger: &Ledger, now: i64) -> Result<Option<Then>, Unread> {
    let all: Vec<Then> = read(ledger, SUMS)?;
    Ok(all.into_iter().rev().find(|then| now - then.at >= DAY))
}

/// Keeps what a run told.
pub fn keep(
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
            // What this adds is known to the mount too, and what is over is taken out when that was asked.
            let (mut damage, _): (BTreeMap<String, String>, _) = known(ledger, DAMAGE)?;
            let open = Vec::<(String, String)>::deserialize(&last["open"]);
            let named = open.is_ok();
            damage.extend(open.into_iter().flatten());
            write(ledger, DAMAGE, &damage)?;
            let left = |list: &Value, open: fn(&Value) -> bool| {
                list.as_array().map_or(0, |all| all.iter().filter(|one| open(one)).count() as u64)
            };
            let facts = Scrub {
                at: now,
                whole: last["whole"].as_bool().unwrap_or_default(),
                faults: left(&last["faults"], |fault| fault["repaired_from"].is_null()),
                files: left(&last["files"], |file| file["snapshot"].is_null() && file["mended"] != true),
                named,
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
pub(super) mod tests {
    use haven_keeper::ledger::{Begin, End, Verdict};
    use serde_json::json;

    use super::{super::judge::judge, *};
    use crate::report::{Code, Trouble};

    pub fn ledger() -> (tempfile::TempDir, Ledger) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("l")).unwrap();
        (folder, ledger)
    }

    pub fn said(values: &[Value], trouble: Option<Trouble>) -> Said {
        Said { values: values.to_vec(), troubles: trouble.into_iter().collect(), log: String::new() }
    }

    #[test]
    fn what_is_older_than_the_first_recovery_point_holds_none() {
        let (folder, ledger) = ledger();
        let text = format!(
            "[replica.near]\nurl = '/srv/near'\n[copy.home]\nrepository = '/srv/borg'\ndirectory = '{}'\n",
            folder.path().display()
        );
        let config = Config::from_text(&text, "").unwrap();
        let remembered = config.copies["home"].directory("home").join("archives.json");
        std::fs::create_dir_all(remembered.parent().unwrap()).unwrap();
        let archive = |taken: i64| {
            let text = json!({ "archives": { "a": 50, "b": taken }, "last_good": taken + 500 }).to_string();
            std::fs::write(&remembered, text).unwrap();
        };
        let replica = |at: i64| {
            write(&ledger, &replica_key("near"), &ReplicaFacts { up_to_date: Some(at), ..Default::default() }).unwrap();
        };
        let all = || (begun(&config, &ledger, "near", "immich"), begun(&config, &ledger, "home", "immich"));
        assert_eq!(all(), (false, false), "never made");
        archive(99);
        replica(99);
        assert_eq!(all(), (true, true), "points that this ledger does not know of may be in them");
        let begin = Begin { kind: "backup", name: "immich", planned: None, started: 90_000, tries: 0, token: "" };
        let id = ledger.begin(&begin).unwrap();
        let end = End { ended: 100_900, verdict: Verdict::Ok, exit: Some(0), bytes: None, said: "", tail: "" };
        ledger.end(id, &end).unwrap();
        assert_eq!(all(), (false, false));
        archive(100);
        replica(100);
        assert_eq!(all(), (true, true));
        let key = format!("{FIRST_POINT} immich");
        assert_eq!(read::<Option<i64>>(&ledger, &key).unwrap(), Some(100), "also when the run is forgotten");
        let text = json!({ "archives": { "haven-papers-2026-11-26T21:28:25Z": 200 }, "last_good": 200 }).to_string();
        std::fs::write(&remembered, text).unwrap();
        assert!(begun(&config, &ledger, "home", "papers") && !begun(&config, &ledger, "home", "immich"));
        std::fs::write(&remembered, "{torn").unwrap();
        assert!(begun(&config, &ledger, "home", "immich"), "looked at rather than not");
    }

    #[test]
    fn a_drill_that_failed_for_one_application_is_not_mended_by_anothers() {
        let text = "[backup.immich]\nkind = 'folder'\n[backup.papers]\nkind = 'folder'\n";
        let config = Config::from_text(text, "").unwrap();
        let mut facts = DrillFacts::default();
        let drill = |copy: &str, at, ok| Drill { copy: copy.into(), level: 1, at, ok, why: "gone".into() };
        facts.0.insert("1 home of immich".into(), drill("home", 10, false));
        facts.0.insert("1 home of papers".into(), drill("home", 20, true));
        facts.0.insert("1 home of forgotten".into(), drill("home", 5, false));
        facts.0.insert("1 library of immich".into(), drill("library", 30, true));
        facts.0.insert("1 library of papers".into(), drill("library", 40, true));
        let all = facts.of_all(&config.apps);
        let told: Vec<_> = all.iter().map(|one| (one.copy.as_str(), one.at, one.ok)).collect();
        assert_eq!(told, [("home", 10, false), ("library", 30, true)]);
        assert_eq!(all[0].why, "immich: gone");
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
    fn what_a_replica_says_of_itself_counts_where_no_run_of_ours_knows_better() {
        let (_folder, ledger) = ledger();
        let note = |at: i64, damaged: u64, brake: &str| Note {
            at,
            tx: Some(30),
            damaged,
            brake: brake.into(),
            verified: Some(5),
            round_began: Some(6),
        };
        let facts = || read::<ReplicaFacts>(&ledger, &replica_key("near")).unwrap();
        let keep = |note: &Note, had| keep_note(&ledger, "near", note, had, 1000).unwrap();
        keep(&Note { tx: None, ..note(50, 0, "") }, None);
        assert_eq!(facts().up_to_date, None, "no copy has come to its end");
        keep(&note(100, 0, ""), None);
        assert_eq!(facts().up_to_date, Some(100), "by its own word");
        keep(&note(100, 0, ""), Some(400));
        assert_eq!(facts().up_to_date, Some(400), "nothing has come to the bucket since");
        keep(&note(100, 0, ""), Some(300));
        assert_eq!((facts().up_to_date, facts().read_back.unwrap().verified), (Some(400), Some(5)));
        // A run of ours that found damage, and failed.
        let begin = Begin { kind: "replica", name: "near", started: 500_000, ..Begin::default() };
        let id = ledger.begin(&begin).unwrap();
        let bad = json!({ "position": null, "source": null, "brake": "", "damaged": [1, 2] });
        judge(&ledger, "replica", "near", Some(4), &said(&[bad], Some(Trouble::new(Code::Store, "away"))), 500, 510);
        let end = End { ended: 510_000, verdict: Verdict::Failed, exit: None, bytes: None, said: "", tail: "" };
        ledger.end(id, &end).unwrap();
        keep(&note(505, 0, "30 %"), None);
        assert_eq!((facts().damaged, facts().brake.as_str(), facts().trouble.is_some()), (2, "30 %", true));
        // Somebody has mended it by hand since.
        keep(&note(600, 0, ""), None);
        assert_eq!((facts().damaged, facts().brake.as_str(), facts().trouble), (0, "", None));
        // The clock was set back: what is of a time to come is not newer than what is known now.
        keep(&note(600, 0, ""), Some(5000));
        keep_note(&ledger, "near", &note(600, 0, ""), Some(700), 700).unwrap();
        assert_eq!(facts().up_to_date, Some(700));
    }

    #[test]
    fn how_large_the_library_was_a_day_ago_is_known_after_a_day_and_across_restarts() {
        let (_folder, ledger) = ledger();
        let at = |hour: i64| 1_000_000 + hour * 3600;
        let ago = |hour| day_ago(&ledger, at(hour)).unwrap().map(|then| then.sums.files);
        for hour in 0..50 {
            let files = u64::try_from(hour).unwrap();
            keep_sums(&ledger, at(hour), Sums { files, ..Sums::default() }).unwrap();
            keep_sums(&ledger, at(hour) + 60, Sums { files: 999, ..Sums::default() }).unwrap();
            assert_eq!(ago(hour), (hour >= 23).then_some(files.saturating_sub(23)), "{hour}");
        }
        assert_eq!((ago(200), read::<Vec<Then>>(&ledger, SUMS).unwrap().len()), (Some(49), 24));
        keep_sums(&ledger, at(30), Sums::default()).unwrap();
        assert_eq!(read::<Vec<Then>>(&ledger, SUMS).unwrap().len(), 5, "what is of a time to come is forgotten");
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
    fn a_drill_from_before_the_clock_was_set_back_hides_no_later_one() {
        let drill = |at, ok| Drill { copy: "library".into(), level: 1, at, ok, why: String::new() };
        let mut facts = DrillFacts::default();
        let mut take = |at, ok| {
            facts.take_one("1 library".into(), drill(at, ok), 1000);
            facts.0["1 library"].clone()
        };
        assert_eq!((take(9000, false).at, take(900, true).at, take(9000, false).at), (9000, 900, 900));
        assert_eq!((take(800, false).at, take(1050, false).at), (900, 1050));
    }

    #[test]
    fn scrubs_and_brakes_are_remembered_until_they_are_over() {
        let (_folder, ledger) = ledger();
        let bad = json!({ "objects": 3, "read_bytes": 9, "whole": false, "faults": [{ "object": "p/1", "repaired_from": null }],
                          "open": [["p/1", "cut"], ["p/2", "gone"]],
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
        assert_eq!(scrub, Some(Scrub { at: 50, whole: false, faults: 1, files: 1, named: true }));
        let damage = || read::<BTreeMap<String, String>>(&ledger, DAMAGE).unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(damage(), ["p/1", "p/2"]);
        let good = json!({ "objects": 3, "read_bytes": 9, "whole": true, "faults": [], "files": [], "open": [] });
        assert!(judge(&ledger, "scrub", "", Some(0), &said(&[good], None), 0, 60).said.contains("nothing damaged"));
        assert!(read::<Option<Scrub>>(&ledger, SCRUB).unwrap().unwrap().whole);
        assert_eq!(damage(), ["p/1", "p/2"], "another scrub that did not meet them ends nothing: the mount knows");
        keep_damage(&ledger, &BTreeMap::from([("p/2".to_owned(), "gone".to_owned())])).unwrap();
        assert_eq!(damage(), ["p/2"], "the mount has judged the other");
        judge(
            &ledger,
            "gc",
            "",
            Some(9),
            &said(&[json!({ "brake": "30 %" })], Some(Trouble::new(Code::Held, "asks"))),
            0,
            0,
        );
        assert_eq!(read::<Option<Brake>>(&ledger, GC).unwrap().unwrap().why, "30 %");
        judge(&ledger, "gc", "", Some(0), &said(&[json!({ "brake": null })], None), 0, 0);
        assert_eq!(read::<Option<Brake>>(&ledger, GC).unwrap(), None);
    }
}
