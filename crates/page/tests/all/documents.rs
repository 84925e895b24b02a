//! What stands in documents about metrics is what the code says, and what dashboards and rules ask for exists.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use haven_page::metrics::{KNOWN, Known, gathered, text};

use crate::fake::Fake;

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn row(known: &Known) -> String {
    let labels: Vec<_> = known.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{}` | {} | {} | {} |", known.name, known.kind.word(), labels.join(", "), known.help)
}

/// Every name of ours in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c)).filter(|name| name.starts_with("haven_") && name.len() > 6).collect()
}

fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|known| known.name == name)
}

#[test]
fn the_document_and_the_code_agree() {
    let document = read("docs/metrics.md");
    let missing: Vec<_> = KNOWN.iter().map(row).filter(|row| !document.lines().any(|line| line == row)).collect();
    assert!(missing.is_empty(), "docs/metrics.md lacks these lines:\n{}", missing.join("\n"));
    let unknown: Vec<_> = names(&document).into_iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "docs/metrics.md tells of what is not there: {unknown:?}");
}

#[test]
fn the_dashboard_asks_only_for_what_there_is() {
    let text = read("packaging/grafana/haven.json");
    let board: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    assert!(panels.len() >= 10, "{}", panels.len());
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_i64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has an id of its own");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("{} asks nothing", panel["title"]));
        for target in targets {
            let asked = names(target["expr"].as_str().expect("an expression"));
            assert!(!asked.is_empty() && asked.iter().all(|name| is_known(name)), "{}: {asked:?}", panel["title"]);
        }
    }
}

#[test]
fn the_rules_ask_only_for_what_there_is() {
    let rules = read("packaging/prometheus/haven.rules.yml");
    let asked: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("expr:")).collect();
    assert!(asked.len() >= 8, "{}", asked.len());
    for expression in asked {
        let names = names(expression);
        assert!(names.iter().all(|name| is_known(name)), "{expression}");
        assert!(!names.is_empty() || expression.contains("up{job=\"haven\"}"), "{expression}");
    }
    assert!(!rules.contains('\t'), "YAML has no tabs");
}

#[tokio::test]
async fn what_is_told_has_the_labels_that_are_documented() {
    let source = Arc::new(Fake::new());
    source.turn("red");
    let all = gathered(source.as_ref()).await.expect("metrics");
    for metric in &all {
        let known = KNOWN.iter().find(|known| known.name == metric.name);
        let known = known.unwrap_or_else(|| panic!("{} is not documented", metric.name));
        let labels: Vec<_> = metric.labels.iter().map(|(label, _)| *label).collect();
        assert_eq!(labels, known.labels, "{}", metric.name);
    }
    let text = text(&all);
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(name), "{name} twice");
    }
    assert!(text.contains("haven_state{state=\"red\"} 1") && text.contains("haven_findings{severity=\"critical\"} 1"));
    assert!(text.contains("haven_score_met{digit=\"1\",asks=\"one that nobody can change\"} 0"), "{text}");
}
