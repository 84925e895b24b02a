//! Whole Takeouts, made small.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use haven_takeout::{
    Json, Role, sidecar,
    tree::{Entry, Kind, resolve},
};
use serde_json::Value;

use crate::data::{decided, list, read};

/// The answers for one tree that are not as they should be.
fn judge(case: &Value) -> Vec<String> {
    let id = case["id"].as_str().unwrap();
    let raw = list(&case["entries"]);
    let path = |id: i64| raw[id as usize]["path"].as_str().unwrap();
    let jsons: Vec<_> = raw.iter().map(|e| e.get("json").map(parse)).collect();
    let mut numbers: HashMap<(&str, u64), i64> = HashMap::new();
    let mut contents: HashMap<i64, &str> = HashMap::new();
    let entries: Vec<Entry> = (0..raw.len())
        .map(|at| {
            let kind = match &jsons[at] {
                Some(Json::Photo(photo)) => Kind::Sidecar { title: &photo.title, taken: photo.taken },
                Some(Json::Album(album)) => Kind::Album { title: &album.title },
                Some(Json::Other) => Kind::Other,
                None => {
                    let name = raw[at]["content"].as_str().unwrap();
                    let next = numbers.len() as i64;
                    let content = *numbers.entry((name, raw[at]["size"].as_u64().unwrap())).or_insert(next);
                    contents.insert(content, name);
                    Kind::Media(content)
                }
            };
            Entry { id: at as i64, path: path(at as i64), kind }
        })
        .collect();
    let tree = resolve(&entries, &[]);
    let due = &case["expect"];
    let mut wrong = vec![];
    let mut check = |what: &str, found: &dyn std::fmt::Debug, right: bool| {
        if !right {
            wrong.push(format!("{id}: {what}: {found:?}"));
        }
    };
    for (at, media) in &tree.media {
        let name = path(*at);
        let found = media.sidecar.map(|(sidecar, _, _)| path(sidecar));
        decided("trees", &case["id"], name, found, media.sidecar.map(|(_, rule, confidence)| (rule, confidence)));
        check(name, &found, found == due["sidecar"][name].as_str());
        let (motion, edited) = match media.role {
            Role::Plain => (None, None),
            Role::Motion(still) => (still.map(path), None),
            Role::Edited(original) => (None, original.map(path)),
        };
        check(name, &motion, motion == due["motion"][name].as_str());
        check(name, &edited, edited == due["edited"][name].as_str());
    }
    let albums: BTreeMap<&str, BTreeSet<&str>> = tree
        .albums
        .iter()
        .map(|album| {
            let Some(Json::Album(json)) = &jsons[album.album as usize] else { panic!("{id}: no album's JSON") };
            (json.title.as_str(), album.contents.iter().map(|content| contents[content]).collect())
        })
        .collect();
    let albums_due: BTreeMap<&str, BTreeSet<&str>> = due["albums"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(title, members)| (title.as_str(), list(members).iter().map(|m| m.as_str().unwrap()).collect()))
        .collect();
    check("albums", &albums, albums == albums_due);
    check("contents", &contents.len(), Some(contents.len() as u64) == due["distinct_contents"].as_u64());
    if let Some(orphans) = due["orphan_sidecars"].as_array() {
        let found: BTreeSet<&str> = tree.orphans.iter().map(|at| path(*at)).collect();
        let orphans = orphans.iter().map(|o| o.as_str().unwrap()).collect();
        check("orphans", &found, found == orphans);
    }
    wrong
}

fn parse(json: &Value) -> Json {
    sidecar::parse(&serde_json::to_vec(json).unwrap()).unwrap()
}

#[test]
fn whole_takeouts() {
    let trees = read("trees.json");
    assert!(list(&trees).len() >= 19);
    let wrong: Vec<String> = list(&trees).iter().flat_map(judge).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
