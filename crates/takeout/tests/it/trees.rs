//! Whole Takeouts, made small.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use haven_takeout::{
    Json, Role, sidecar,
    tree::{Content, Entry, Kind, resolve},
};
use serde_json::Value;

use crate::data::{list, read};

/// The answers for one tree that are not as they should be.
fn judge(case: &Value) -> Vec<String> {
    let id = case["id"].as_str().unwrap();
    let raw = list(&case["entries"]);
    let path = |at: usize| raw[at]["path"].as_str().unwrap();
    let jsons: Vec<_> = raw.iter().map(|e| e.get("json").map(parse)).collect();
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut contents: HashMap<Content, &str> = HashMap::new();
    let entries: Vec<Entry> = (0..raw.len())
        .map(|at| {
            let kind = match &jsons[at] {
                Some(Json::Photo(photo)) => Kind::Sidecar { title: &photo.title, taken: photo.taken },
                Some(Json::Album(album)) => Kind::Album { title: &album.title },
                Some(Json::Other) => Kind::Other,
                None => {
                    let name = raw[at]["content"].as_str().unwrap();
                    let next = numbers.len() as u32;
                    let crc32 = *numbers.entry(name).or_insert(next);
                    let content = Content { crc32, bytes: raw[at]["size"].as_u64().unwrap() };
                    contents.insert(content, name);
                    Kind::Media(content)
                }
            };
            Entry { path: path(at), kind }
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
        println!("{id} {name}: {media:?}");
        let found = media.sidecar.map(|(sidecar, _, _)| path(sidecar));
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
            let Some(Json::Album(json)) = &jsons[album.album] else { panic!("{id}: no album's JSON") };
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
