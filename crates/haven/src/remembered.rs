//! What a store was found to honour, kept on this machine: so that `doctor` can tell when it has changed.

use std::{fs, path::PathBuf};

use haven_format::record::Time;
use haven_store::probe::{Finding, Report, Trait};
use serde::{Deserialize, Serialize};

use crate::{config, words};

/// One probing.
#[derive(Debug, Serialize, Deserialize)]
pub struct Remembered {
    /// The day, as `2026-11-23`.
    pub day: String,
    pub report: Report,
}

impl Remembered {
    /// What was honoured then and is not in `now`.
    pub fn lost(&self, now: &Report) -> Vec<Trait> {
        let honoured = |report: &Report, which| report.findings.get(&which) == Some(&Finding::Honoured);
        Trait::ALL.into_iter().filter(|which| honoured(&self.report, *which) && !honoured(now, *which)).collect()
    }
}

fn file(store: &str) -> Option<PathBuf> {
    let name: String = store.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let directory = config::user_directory("XDG_STATE_HOME", ".local/state")?;
    Some(directory.join(format!("probe-{}.json", &name[..name.len().min(200)])))
}

/// The last probing of the same store, if it was noted here.
pub fn recall(store: &str) -> Option<Remembered> {
    serde_json::from_slice(&fs::read(file(store)?).ok()?).ok()
}

/// Notes a probing. Only a convenience: where it can't be written, nothing is said.
pub fn remember(report: &Report, now: Time) {
    let Some(path) = file(&report.store) else { return };
    let remembered = Remembered { day: words::day(now), report: report.clone() };
    if let (Some(directory), Ok(text)) = (path.parent(), serde_json::to_vec_pretty(&remembered)) {
        let _ = fs::create_dir_all(directory).and_then(|()| fs::write(&path, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_no_longer_honours_is_named() {
        let report = |finding: Finding| Report {
            store: "s3://somewhere".into(),
            findings: [(Trait::ALL[0], finding), (Trait::ALL[1], Finding::NotProbed)].into(),
            clock_skew_seconds: None,
            put_p50_micros: None,
            get_p50_micros: None,
        };
        let before = Remembered { day: "2026-11-23".into(), report: report(Finding::Honoured) };
        assert_eq!(before.lost(&report(Finding::Ignored("it overwrites".into()))), [Trait::ALL[0]]);
        assert_eq!(before.lost(&report(Finding::Honoured)), []);
    }
}
