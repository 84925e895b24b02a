//! The collected data: `tests/data/README.md` tells where each comes from.

use std::{collections::BTreeMap, path::Path};

use haven_takeout::{
    Confidence, Json, Pairing, Role, Rule, names,
    pairing::{Sidecar, pair_directory},
    sidecar,
};
use serde_json::Value;

pub fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_album_file(name: &str) -> bool {
    ["metadata.json", "métadonnées.json"].contains(&name)
}

/// The files of a directory, paired: names of media, names of sidecars, the answer.
fn pair<'a>(files: &[&'a str], titles: &BTreeMap<&str, &'a str>) -> (Vec<&'a str>, Vec<&'a str>, Pairing) {
    let (jsons, media): (Vec<&str>, Vec<&str>) = files.iter().partition(|name| name.ends_with(".json"));
    let jsons: Vec<&str> = jsons.into_iter().filter(|name| !is_album_file(name)).collect();
    let sidecars: Vec<_> =
        jsons.iter().map(|name| Sidecar { name, title: titles.get(name).copied(), taken: None }).collect();
    let pairing = pair_directory(&media, &sidecars, &[]);
    (media, jsons, pairing)
}

/// Says which rule decided, for scripts/show/30-import-pairs.
pub fn decided(data: &str, id: &Value, media: &str, sidecar: Option<&str>, rule: Option<(Rule, Confidence)>) {
    let id = id.as_str().unwrap_or_default();
    let rule = rule.map_or("None\tNone".to_owned(), |(rule, confidence)| format!("{rule:?}\t{confidence:?}"));
    println!("DECIDED\t{data}\t{id}\t{media}\t{}\t{rule}", sidecar.unwrap_or("-"));
}

#[test]
fn single_pairs() {
    let mut wrong = vec![];
    for case in list(&read("pairs.json")) {
        let (media, sidecar) = (case["media"].as_str().unwrap(), case["sidecar"].as_str().unwrap());
        let titles = case["title"].as_str().map(|title| (sidecar, title)).into_iter().collect();
        let (_, _, pairing) = pair(&[media, sidecar], &titles);
        let rule = pairing.pairs[0].map(|pair| (pair.rule, pair.confidence));
        decided("pairs", &case["id"], media, rule.map(|_| sidecar), rule);
        if pairing.pairs[0].is_some() != case["match"].as_bool().unwrap() {
            wrong.push(format!("{} {media} ← {sidecar}: {:?}", case["id"], pairing.pairs[0]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn directories() {
    let mut wrong = vec![];
    for case in list(&read("directories.json")) {
        let files: Vec<&str> = list(&case["files"]).iter().map(|f| f.as_str().unwrap()).collect();
        let titles = case["titles"].as_object().into_iter().flatten();
        let titles = titles.map(|(name, title)| (name.as_str(), title.as_str().unwrap())).collect();
        let (media, jsons, pairing) = pair(&files, &titles);
        for (at, name) in media.iter().enumerate() {
            let found = pairing.pairs[at].map(|pair| jsons[pair.sidecar]);
            let rule = pairing.pairs[at].map(|pair| (pair.rule, pair.confidence));
            decided("directories", &case["id"], name, found, rule);
            let (motion, edited) = match pairing.roles[at] {
                Role::Plain => (None, None),
                Role::Motion(still) => (still.map(|s| media[s]), None),
                Role::Edited(original) => (None, original.map(|o| media[o])),
            };
            let right = found == case["expect"][name].as_str()
                && motion == case["motion"][name].as_str()
                && edited == case["edited"][name].as_str();
            if !right {
                wrong.push(format!("{} {name}: {found:?} {motion:?} {edited:?}", case["id"]));
            }
        }
        let mut left: Vec<&str> = pairing.orphans.iter().chain(&pairing.superseded).map(|at| jsons[*at]).collect();
        let mut due: Vec<&str> = list(&case["orphan_sidecars"]).iter().map(|f| f.as_str().unwrap()).collect();
        left.sort_unstable();
        due.sort_unstable();
        if left != due {
            wrong.push(format!("{}: left over {left:?}, due {due:?}", case["id"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_real_export_in_three_parts() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/listings/fr-2024-three-parts.tsv");
    let listing = std::fs::read_to_string(path).unwrap();
    let due = read("listings/fr-2024-three-parts.expected.json");
    let mut directories: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in listing.lines().skip(1) {
        let (directory, name) = line.split('\t').nth(3).unwrap().rsplit_once('/').unwrap();
        directories.entry(directory).or_default().push(name);
    }
    let mut right = 0;
    for (directory, files) in &directories {
        let (media, jsons, pairing) = pair(files, &BTreeMap::new());
        for (at, name) in media.iter().enumerate() {
            let found = pairing.pairs[at].map(|pair| format!("{directory}/{}", jsons[pair.sidecar]));
            let expected = &due[format!("{directory}/{name}")];
            if let Some(expected) = expected.as_str() {
                let rule = pairing.pairs[at].map(|pair| (pair.rule, pair.confidence));
                decided("listing", &Value::Null, &format!("{directory}/{name}"), found.as_deref(), rule);
                assert_eq!(found.as_deref(), Some(expected), "{directory}/{name}");
                right += 1;
            }
        }
    }
    assert_eq!(right, due.as_object().unwrap().len());
}

#[test]
fn json_files() {
    for case in list(&read("sidecars.json")) {
        let due = &case["expect"];
        let bytes = serde_json::to_vec(&case["json"]).unwrap();
        let id = &case["id"];
        match sidecar::parse(&bytes).unwrap() {
            Json::Photo(photo) => {
                assert_eq!(due["kind"], "photo", "{id}");
                assert_eq!(due["title"].as_str(), Some(photo.title.as_str()), "{id}");
                assert_eq!(due["description"].as_str().unwrap_or(""), photo.description, "{id}");
                assert_eq!(due["taken"].as_i64(), photo.taken, "{id}");
                assert_eq!(due["latitude"].as_f64(), photo.place.map(|p| p.latitude), "{id}");
                assert_eq!(due["longitude"].as_f64(), photo.place.map(|p| p.longitude), "{id}");
                let flag = |key: &str| due[key].as_bool().unwrap_or(false);
                assert_eq!(flag("favourite"), photo.favourite, "{id}");
                assert_eq!(flag("archived"), photo.archived, "{id}");
                assert_eq!(flag("trashed"), photo.trashed, "{id}");
                assert_eq!(flag("locked"), photo.locked, "{id}");
                assert_eq!(flag("partner"), photo.partner, "{id}");
            }
            Json::Album(album) => {
                assert_eq!(due["kind"], "album", "{id}");
                assert_eq!(due["title"].as_str(), Some(album.title.as_str()), "{id}");
            }
            Json::Other => assert_eq!(due["kind"], "other", "{id}"),
        }
    }
}

#[test]
fn every_collected_suffix_is_known() {
    for case in list(&read("folders.json")).iter().filter(|case| case["kind"] == "edited-suffix") {
        let suffix = case["name"].as_str().unwrap();
        assert!(names::EDITED_SUFFIXES.contains(&suffix), "{suffix}");
    }
}
