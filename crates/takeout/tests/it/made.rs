//! Random titles are named as Google names them, and must be found again or called doubtful.

use std::collections::HashSet;

use haven_takeout::{
    Confidence, Role, names,
    names::Scheme,
    pairing::{Sidecar, pair_directory},
};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// A photo with the names that its files got.
struct Made {
    title: String,
    media: String,
    sidecar: String,
}

fn title(rng: &mut ChaCha8Rng, hostile: bool) -> String {
    let few = ["a", "IMG_1", "IMG_10", "ü", "写真", "😀", "x.y", "it's", "q?"];
    let mut stem = few.choose(rng).unwrap().to_string();
    // Around the two limits, where names that differ are cut to one.
    if rng.random_bool(0.5) {
        let length = rng.random_range(36..56);
        while names::units(&stem) < length {
            stem.push_str(["a", "_", "0", "é", "😀"].choose(rng).unwrap());
            while names::units(&stem) < length && rng.random_bool(0.9) {
                stem.push('m');
            }
        }
    }
    if hostile && rng.random_bool(0.15) {
        stem.push_str(["(1)", "(2)", "-edited", "~2", ".json"].choose(rng).unwrap());
    }
    let extensions = [".jpg", ".jpg", ".JPG", ".jpeg", ".HEIC", ".png", ".mp4"];
    let extension = if hostile && rng.random_bool(0.08) { "" } else { extensions.choose(rng).unwrap() };
    format!("{stem}{extension}")
}

/// The first free name of `base`, with the counter that `place` puts in.
fn free(taken: &mut HashSet<String>, start: u32, place: impl Fn(u32) -> String) -> String {
    let name = (start..).map(place).find(|name| !taken.contains(name)).unwrap();
    taken.insert(name.clone());
    name
}

fn directory(rng: &mut ChaCha8Rng, hostile: bool) -> Vec<Made> {
    let scheme = *[Scheme::Old, Scheme::Supplemental, Scheme::Uncut].choose(rng).unwrap();
    let (mut media, mut sidecars) = (HashSet::new(), HashSet::new());
    let mut pool: Vec<String> = vec![];
    let mut made = vec![];
    for _ in 0..rng.random_range(1..14) {
        let known = pool.choose(rng).cloned().filter(|_| rng.random_bool(0.3));
        let title = known.unwrap_or_else(|| title(rng, hostile));
        pool.push(title.clone());
        let bare = names::split_extension(&title).1.is_empty();
        let base = names::media_name(&title) + if bare { ".jpg" } else { "" };
        let media = free(&mut media, 0, |n| names::with_counter(&base, n));
        let base = names::sidecar_base(&title, scheme);
        let place = |n: u32| if n == 0 { format!("{base}.json") } else { format!("{base}({n}).json") };
        let sidecar = free(&mut sidecars, 0, place);
        made.push(Made { title, media, sidecar });
    }
    made
}

#[derive(Debug, Default)]
struct Count {
    pairs: u64,
    strong: u64,
    weak: u64,
    weak_wrong: u64,
    none: u64,
}

/// Looks at `cases` photos; `loss` is how likely each file is missing.
fn run(seed: u64, cases: u64, hostile: bool, loss: f64) -> Count {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut count = Count::default();
    while count.pairs < cases {
        let made = directory(&mut rng, hostile);
        let media: Vec<&Made> = made.iter().filter(|_| !rng.random_bool(loss)).collect();
        let kept: Vec<&Made> = made.iter().filter(|_| !rng.random_bool(loss)).collect();
        let names: Vec<&str> = media.iter().map(|m| m.media.as_str()).collect();
        let sidecars: Vec<_> =
            kept.iter().map(|m| Sidecar { name: &m.sidecar, title: Some(&m.title), taken: None }).collect();
        let pairing = pair_directory(&names, &sidecars, &[]);
        for (at, photo) in media.iter().enumerate() {
            count.pairs += 1;
            let Some(pair) = pairing.pairs[at] else {
                count.none += 1;
                continue;
            };
            let right = kept[pair.sidecar].sidecar == photo.sidecar;
            // What is lost can leave a file that looks like an edit or a moving half: told apart by its role.
            let judged = loss == 0.0 || pairing.roles[at] == Role::Plain;
            match pair.confidence {
                Confidence::Strong => {
                    count.strong += 1;
                    let all: Vec<_> = made.iter().map(|m| (&m.title, &m.media, &m.sidecar)).collect();
                    assert!(
                        right || !judged,
                        "{} got {} by {:?}\n{all:#?}",
                        photo.media,
                        kept[pair.sidecar].sidecar,
                        pair.rule
                    );
                }
                Confidence::Weak => {
                    count.weak += 1;
                    count.weak_wrong += u64::from(!right);
                }
            }
        }
    }
    count
}

/// How many photos are looked at: HAVEN_NAME_CASES, or few enough for every day.
fn cases() -> u64 {
    std::env::var("HAVEN_NAME_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20_000)
}

#[test]
fn names_by_the_rules_are_found_again_or_called_doubtful() {
    let count = run(1, cases(), true, 0.0);
    println!("MADE whole {count:?}");
    assert!(count.strong * 10 >= count.pairs * 7, "{count:?}");
}

#[test]
fn a_missing_file_gives_no_wrong_pair() {
    let count = run(2, cases(), false, 0.2);
    println!("MADE losses {count:?}");
    assert!(count.strong * 10 >= count.pairs * 5, "{count:?}");
}

#[test]
#[ignore = "a measurement: scripts/show/30-import-pairs runs it, optimized"]
fn a_directory_of_a_hundred_thousand_files() {
    let names: Vec<String> = (0..100_000).map(|n| format!("IMG_2024{n:08}.jpg")).collect();
    let jsons: Vec<String> =
        names.iter().map(|name| format!("{}.json", names::sidecar_base(name, Scheme::Supplemental))).collect();
    let media: Vec<&str> = names.iter().map(String::as_str).collect();
    let sidecars: Vec<_> =
        jsons.iter().zip(&media).map(|(name, title)| Sidecar { name, title: Some(title), taken: None }).collect();
    let start = std::time::Instant::now();
    let pairing = pair_directory(&media, &sidecars, &[]);
    let took = start.elapsed();
    println!("100000 files paired in {:.3} s", took.as_secs_f64());
    assert!(pairing.pairs.iter().enumerate().all(|(at, pair)| pair.is_some_and(|pair| pair.sidecar == at)));
    assert!(took.as_secs_f64() < 2.0);
}
