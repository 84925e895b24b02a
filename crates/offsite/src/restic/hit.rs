//! Which files the damage of a repository hits, asked of the program itself.
//! ```text
//!     check ──names──▶ packs, blobs, trees ──find──▶ files and folders, and in which snapshots
//! ```
//! A pack holds parts of many files: each part of one that is there is read, and only those that can't be read count.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
};

use serde::Deserialize;

use super::{BATCH, NO_LOCK, Restic, Restics, Snapshot, judge};
use crate::{Cancel, Error, Hit, Kind, Watch, program};

/// Parts that are read one by one: each costs a start of the program. Those beyond count as hit.
const PARTS_MAX: usize = 256;
/// What check says of packs that are not whole.
const GONE: [&str; 2] = ["does not exist", "unexpected file size"];
/// What check says of packs that are no damage.
const HARMLESS: [&str; 3] = ["not referenced in any index", "contained in several indexes", "getting their blobs from"];
/// What `find` says of a snapshot of which not everything can be looked through, in two lines.
const UNABLE: &str = "Unable to load tree ";
const BELONGS: &str = "which belongs to snapshot ";

/// What is damaged, by its ids: whole ones, or their first eight digits.
#[derive(Debug, Default, PartialEq, Eq)]
struct Objects {
    packs: BTreeSet<String>,
    /// Those that are not there, or not to their end: they are asked for again and again, so nothing in them is tried.
    gone: BTreeSet<String>,
    blobs: BTreeSet<String>,
    trees: BTreeSet<String>,
}

/// What the words of a check name.
fn objects<'a>(lines: impl Iterator<Item = &'a str>) -> Objects {
    let mut found = Objects::default();
    for line in lines.filter(|line| !HARMLESS.iter().any(|sign| line.contains(sign))) {
        let words: Vec<&str> =
            line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let named = |sort: &str| -> Vec<String> {
            let pairs = words.iter().zip(words.iter().skip(1));
            pairs
                .filter(|(word, id)| word.eq_ignore_ascii_case(sort) && is_id(id))
                .map(|(_, id)| id.to_string())
                .collect()
        };
        let mut packs = named("pack");
        if line.contains("Pack ID") {
            packs.extend(named("want"));
        }
        if packs.is_empty() {
            found.blobs.extend(named("blob"));
            // The list of a folder is a blob, too.
            found.trees.extend(named("tree").into_iter().chain(named("blob")));
        }
        let gone = GONE.iter().any(|sign| line.contains(sign));
        let there = if gone { &mut found.gone } else { &mut found.packs };
        there.extend(packs);
    }
    found
}

fn is_id(word: &str) -> bool {
    matches!(word.len(), 8 | 64) && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// One answer of `find`.
#[derive(Debug, Deserialize)]
struct Found {
    object_type: String,
    id: String,
    path: String,
    snapshot: String,
}

/// What `find` found; and snapshots that it could not look through.
#[derive(Debug, Default)]
struct Answer {
    found: Vec<Found>,
    blind: Vec<String>,
}

/// Reads an answer: a JSON array, with what it could not look through said in the middle of it.
fn answer(out: &str) -> Result<Answer, Error> {
    let mut answer = Answer::default();
    let (mut json, mut rest) = (String::new(), out);
    while let Some((before, said)) = rest.split_once(UNABLE) {
        json += before;
        rest = said.split_once(BELONGS).map_or("", |(_, after)| {
            let (id, after) = after.split_at(after.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(after.len()));
            answer.blind.push(id.to_owned());
            after
        });
    }
    json += rest;
    if let (Some(first), Some(last)) = (json.find('['), json.rfind(']')) {
        let text = json.get(first..=last).unwrap_or_default();
        answer.found = serde_json::from_str(text).map_err(|error| super::unreadable(error.to_string()))?;
    }
    Ok(answer)
}

/// `error`, which a check has ended with, with the files that its `words` come to.
pub fn told(restic: &Restic, mut error: Error, watch: &mut Watch) -> Error {
    match hits(restic, &objects(error.said.iter().map(String::as_str)), watch) {
        Ok(hit) => {
            error.hit = hit;
            error
        }
        Err(why) => error.because(format!("which files that hits can't be told: {why}")),
    }
}

fn hits(restic: &Restic, objects: &Objects, watch: &mut Watch) -> Result<Vec<Hit>, Error> {
    let names: HashMap<String, String> = restic.snapshots()?.iter().filter_map(named).collect();
    let mut hit: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut take = |path: String, snapshot: &str| {
        let short = snapshot.get(..8).unwrap_or(snapshot);
        let name = names.get(snapshot).cloned().unwrap_or_else(|| short.to_owned());
        hit.entry(path).or_default().insert(name);
    };
    let mut blind = BTreeSet::new();
    let damaged: BTreeSet<String> = objects.packs.difference(&objects.gone).cloned().collect();
    let asked = [
        ("--pack", &damaged, true),
        ("--pack", &objects.gone, false),
        ("--blob", &objects.blobs, false),
        ("--tree", &objects.trees, false),
    ];
    for (sort, ids, tried) in asked {
        let answer = find(restic, sort, ids, watch)?;
        let parts: BTreeSet<&str> = answer.found.iter().map(|found| found.id.as_str()).collect();
        let whole = if tried { readable(restic, &parts, watch)? } else { BTreeSet::new() };
        for found in answer.found.iter().filter(|found| !whole.contains(found.id.as_str())) {
            let folder = if found.object_type == "tree" { "/" } else { "" };
            take(format!("{}{folder}", found.path.trim_matches('/')), &found.snapshot);
        }
        blind.extend(answer.blind);
    }
    // Some folder in it: which one, only the list that is damaged tells.
    blind.iter().for_each(|snapshot| take(String::new(), snapshot));
    Ok(hit.into_iter().map(|(path, archives)| Hit { path, archives: archives.into_iter().collect() }).collect())
}

fn named(snapshot: &Snapshot) -> Option<(String, String)> {
    Some((snapshot.id.clone(), snapshot.archive().ok()?.name))
}

fn find(restic: &Restic, sort: &str, ids: &BTreeSet<String>, watch: &mut Watch) -> Result<Answer, Error> {
    let mut all = Answer::default();
    let ids: Vec<String> = ids.iter().cloned().collect();
    for batch in ids.chunks(BATCH) {
        let args: Vec<String> =
            ["--json".to_owned(), sort.to_owned()].into_iter().chain(batch.iter().cloned()).collect();
        let said = restic.run("find", &args, watch, "looking for the files that are hit", Kind::Other)?;
        let one = answer(&said.out)?;
        all.found.extend(one.found);
        all.blind.extend(one.blind);
    }
    Ok(all)
}

/// Those of `parts` that can be read, and are what they should be.
fn readable<'a>(restic: &Restic, parts: &BTreeSet<&'a str>, watch: &Watch) -> Result<BTreeSet<&'a str>, Error> {
    let mut whole = BTreeSet::new();
    let never = Cancel::default();
    for part in parts.iter().take(PARTS_MAX) {
        let command = restic.command("cat", [NO_LOCK, "blob", *part]);
        let read = |out: &mut dyn io::Read| io::copy(out, &mut io::sink());
        let (said, _) = program::pipe(command, Restics::default(), &[&watch.cancel, &never], read)?;
        match judge(&said, "reading a part of the pack", Kind::Damaged) {
            Ok(()) => _ = whole.insert(*part),
            Err(error) if matches!(error.kind, Kind::Damaged | Kind::Other) => {}
            // The place is away: that says nothing of the part.
            Err(error) => return Err(error),
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "96627e6ef854732469778740b5ba98bbb21036cad3f5a71806c1c2dc452ac04a";
    const B: &str = "d76d32c9c0bb13799b357b4b5d061ee765efc761fca77a598cc8658faec3c792";

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|&id| id.to_owned()).collect()
    }

    #[test]
    fn what_a_check_names_is_found_in_its_words() {
        let lines = [
            format!("Pack ID does not match, want {A}, got {B}"),
            format!("pack {B}: does not exist"),
            "pack 0123abcd contains 1 errors: [blob 89abcdef: ciphertext verification failed]".into(),
            format!("pack {}: not referenced in any index", "f".repeat(64)),
            "Fatal: repository contains errors".into(),
        ];
        let found = objects(lines.iter().map(String::as_str));
        assert_eq!(found, Objects { packs: set(&[A, "0123abcd"]), gone: set(&[B]), ..Objects::default() });
        let lines =
            ["error for tree 34d9482e:", &format!("  decrypting blob {B} failed: ciphertext verification failed")];
        let found = objects(lines.into_iter());
        assert_eq!(found, Objects { blobs: set(&[B]), trees: set(&["34d9482e", B]), ..Objects::default() });
    }

    #[test]
    fn answers_are_read_between_what_else_is_said() {
        let one = |path: &str| {
            format!(
                "{{\"object_type\":\"blob\",\"id\":\"{A}\",\"path\":\"{path}\",\"parent_tree\":\"{A}\",\"snapshot\":\"{B}\",\"time\":\"2026-11-27T14:08:32Z\"}}"
            )
        };
        let said = format!("Unable to load tree {A}\n ... which belongs to snapshot {B}\n");
        let answer = answer(&format!("{said}[{}{said},{}]\n", one("/a/x\\\"y.jpg"), one("/b"))).unwrap();
        let paths: Vec<&str> = answer.found.iter().map(|found| found.path.as_str()).collect();
        assert_eq!((paths, answer.blind), (vec!["/a/x\"y.jpg", "/b"], vec![B.to_owned(), B.to_owned()]));
        assert!(super::answer("[]\n\n").unwrap().found.is_empty());
        assert!(super::answer("").unwrap().found.is_empty());
        assert!(super::answer("[{]").is_err());
    }
}
