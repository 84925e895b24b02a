//! The monthly report: what was kept, how it grew, what ran, what was proven, what is amiss. As text, and as HTML that a
//! mail program shows without fetching anything.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::{Timestamp, tz::TimeZone};

use crate::{
    findings::{Finding, long, size},
    ledger::{Growth, Run, Verdict},
    score::Score,
    state::State,
};

/// What a report is made of.
#[derive(Debug)]
pub struct Report<'a> {
    /// Seconds since the epoch.
    pub from: i64,
    pub to: i64,
    pub zone: &'a TimeZone,
    pub state: &'a State,
    pub sentence: &'a str,
    pub score: &'a Score,
    pub findings: &'a [Finding],
    pub runs: &'a [Run],
    /// Oldest first.
    pub growth: &'a [Growth],
}

/// A title, and the same as text and as HTML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub title: String,
    pub text: String,
    pub html: String,
}

/// A heading with rows: what, and how it is.
struct Section {
    head: &'static str,
    rows: Vec<(String, String)>,
}

impl Report<'_> {
    pub fn write(&self) -> Written {
        let day = |at| self.moment(at, "%-d %B %Y");
        let title = format!("Photo library, {} to {}", day(self.from), day(self.to));
        let sections: Vec<Section> = self.sections().into_iter().filter(|section| !section.rows.is_empty()).collect();
        let mut text = format!("{}\n3-2-1-1-0: {}\n", self.sentence, self.score.shown());
        let mut html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\
             <body style=\"font-family:system-ui,sans-serif;max-width:42em;margin:1em auto;padding:0 1em;color:#1a1a1a;background:#fff\">\
             <h1 style=\"font-size:1.3em\">{title}</h1><p style=\"font-size:1.1em\">{}</p><p>3-2-1-1-0: <b>{}</b></p>",
            escaped(self.sentence),
            self.score.shown(),
            title = escaped(&title),
        );
        for section in &sections {
            _ = write!(text, "\n{}\n", section.head);
            _ = write!(
                html,
                "<h2 style=\"font-size:1.05em\">{}</h2><table style=\"border-collapse:collapse\">",
                escaped(section.head)
            );
            let width = section.rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or_default().min(30);
            for (what, how) in &section.rows {
                _ = writeln!(text, "  {what:<width$}  {how}");
                _ = write!(
                    html,
                    "<tr><th scope=\"row\" style=\"text-align:left;vertical-align:top;padding:.15em 1em .15em 0;font-weight:600\">{}</th><td style=\"padding:.15em 0\">{}</td></tr>",
                    escaped(what),
                    escaped(how)
                );
            }
            html += "</table>";
        }
        let foot =
            format!("{} on {}", self.state.library.as_ref().map_or("", |place| place.url.as_str()), self.state.host);
        _ = write!(text, "\n{foot}\n");
        _ = write!(html, "<p style=\"color:#595959\">{}</p></body></html>", escaped(&foot));
        Written { title, text, html }
    }

    fn moment(&self, at: i64, how: &str) -> String {
        let stamp = Timestamp::from_second(at).unwrap_or_default();
        stamp.to_zoned(self.zone.clone()).strftime(how).to_string()
    }

    fn sections(&self) -> Vec<Section> {
        vec![self.amiss(), self.digits(), self.copies(), self.grown(), self.done(), self.proven()]
    }

    fn amiss(&self) -> Section {
        let row = |finding: &Finding| {
            (finding.severity.word().to_owned(), format!("{}. {}", finding.title, finding.next.join("; ")))
        };
        let mut rows: Vec<_> = self.findings.iter().map(row).collect();
        if rows.is_empty() {
            rows.push(("nothing".into(), "all is as it should be".into()));
        }
        Section { head: "What is amiss", rows }
    }

    fn digits(&self) -> Section {
        let row = |digit: &crate::score::Digit| {
            (
                format!("{} {}", digit.digit, if digit.met { "yes" } else { "NO" }),
                format!("{}: {}", digit.asks, digit.why),
            )
        };
        Section { head: "The score", rows: self.score.digits.iter().map(row).collect() }
    }

    fn copies(&self) -> Section {
        let state = self.state;
        let ago = |at: Option<i64>| at.map_or("never".to_owned(), |at| format!("{} ago", long(state.now - at)));
        let mut rows: Vec<_> = state.library.iter().map(|place| ("library".to_owned(), place.url.clone())).collect();
        rows.extend(state.points.iter().map(|points| {
            (
                format!("points of {}", points.application),
                format!("{}, the newest {}", points.count, ago(points.newest)),
            )
        }));
        rows.extend(state.replicas.iter().map(|one| {
            let read = one.verified.map(|at| format!(", read back whole {}", ago(Some(at)))).unwrap_or_default();
            (format!("replica {}", one.name), format!("{}, up to date {}{read}", one.place.url, ago(one.up_to_date)))
        }));
        rows.extend(state.copies.iter().map(|one| {
            (
                format!("{} {}", one.format, one.name),
                format!("{}, newest archive {}", one.place.url, ago(one.last_good)),
            )
        }));
        Section { head: "What was kept", rows }
    }

    fn grown(&self) -> Section {
        let mut rows = Vec::new();
        if let (Some(first), Some(last)) = (self.growth.first(), self.growth.last()) {
            let change = |before: u64, after: u64| match after.checked_sub(before) {
                Some(more) => format!("{} more", size(more)),
                None => format!("{} less", size(before - after)),
            };
            rows.push((
                "photos".into(),
                format!(
                    "{} files, {} ({})",
                    last.files,
                    size(last.file_bytes),
                    change(first.file_bytes, last.file_bytes)
                ),
            ));
            rows.push((
                "in the bucket".into(),
                format!("{} ({})", size(last.stored_bytes), change(first.stored_bytes, last.stored_bytes)),
            ));
        }
        Section { head: "How it grew", rows }
    }

    fn done(&self) -> Section {
        let mut by: BTreeMap<String, [usize; 4]> = BTreeMap::new();
        let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
        for run in self.runs {
            let key = if run.name.is_empty() { run.kind.clone() } else { format!("{} {}", run.kind, run.name) };
            let column = match run.verdict {
                Verdict::Ok => 0,
                Verdict::Warned => 1,
                Verdict::Failed | Verdict::Killed => 2,
                Verdict::Missed => 3,
                Verdict::Running => continue,
            };
            by.entry(key.clone()).or_default()[column] += 1;
            *bytes.entry(key).or_default() += run.bytes.unwrap_or_default();
        }
        let row = |(key, count): (String, [usize; 4])| {
            let parts = [(count[0], "good"), (count[1], "to look at"), (count[2], "failed"), (count[3], "missed")];
            let mut words: Vec<String> = parts
                .iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, word)| format!("{number} {word}"))
                .collect();
            if let Some(moved) = bytes.get(&key).filter(|moved| **moved > 0) {
                words.push(size(*moved));
            }
            (key, words.join(", "))
        };
        Section { head: "What ran", rows: by.into_iter().map(row).collect() }
    }

    fn proven(&self) -> Section {
        let since = self.from;
        let row = |drill: &crate::state::Drill| {
            let verdict = if drill.ok { "everything came back".to_owned() } else { format!("NOT: {}", drill.why) };
            (
                format!("level {} of {}", drill.level, drill.copy),
                format!("{}: {verdict}", self.moment(drill.at, "%-d %B")),
            )
        };
        let mut rows: Vec<_> = self.state.drills.iter().filter(|drill| drill.at >= since).map(row).collect();
        if rows.is_empty() && self.state.has_points() {
            rows.push(("no drill".into(), "nobody tried whether the photos come back".into()));
        }
        Section { head: "What was proven", rows }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        findings::{
            Limits, findings,
            tests::{DAY, NOW, well},
        },
        score::{score, sentence},
        state::{Drill, Points},
    };

    #[test]
    fn a_report_says_all_of_it_in_text_and_in_html() {
        let mut state = well();
        state.points =
            vec![Points { application: "immich".into(), newest: Some(NOW - 600), count: 30, ..Points::default() }];
        state.drills = vec![Drill { copy: "library".into(), level: 1, at: NOW - DAY, ok: true, why: String::new() }];
        state.library.as_mut().unwrap().url = "s3://<a>&b".into();
        let run = |id, kind: &str, verdict| Run {
            id,
            kind: kind.into(),
            name: String::new(),
            planned: None,
            started: 0,
            ended: Some(5),
            bytes: Some(1_000_000),
            verdict,
            exit: None,
            said: String::new(),
            tail: String::new(),
            log: None,
            tries: 0,
            token: String::new(),
            pid: None,
            pid_started: None,
        };
        let runs = [run(1, "gc", Verdict::Ok), run(2, "gc", Verdict::Failed), run(3, "scrub", Verdict::Missed)];
        let growth = [
            Growth { at: 0, files: 10, file_bytes: 5_000_000, stored_bytes: 4_000_000 },
            Growth { at: 9, files: 12, file_bytes: 7_000_000, stored_bytes: 3_000_000 },
        ];
        let limits = Limits::default();
        let (found, scored) = (findings(&state, &limits), score(&state, &limits));
        let (sentence, _) = sentence(&state, &found, &scored);
        let written = Report {
            from: NOW - 30 * DAY,
            to: NOW,
            zone: &TimeZone::UTC,
            state: &state,
            sentence: &sentence,
            score: &scored,
            findings: &found,
            runs: &runs,
            growth: &growth,
        }
        .write();
        for words in [
            "gc",
            "1 good, 1 failed, 2.0 MB",
            "1 missed",
            "2.0 MB more",
            "1.0 MB less",
            "30, the newest 10 minutes ago",
            "level 1 of library",
        ] {
            assert!(written.text.contains(words) && written.html.contains(words), "{words}\n{}", written.text);
        }
        assert!(written.html.contains("s3://&lt;a&gt;&amp;b") && !written.html.contains("<a>"), "{}", written.html);
        assert!(written.title.starts_with("Photo library, "));
    }
}
