//! Films and stills of one name, thousands of times: with what the files say, no film ever goes to another photo's still.

use std::collections::BTreeMap;

use haven_takeout::{
    Confidence, Role,
    live::{self, Mark},
    names::with_counter,
    pairing::{Sidecar, pair_marked},
};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// A directory in which each stem has one or two stills and perhaps a film of one of them.
struct Made {
    media: Vec<String>,
    sidecars: Vec<String>,
    marks: BTreeMap<usize, Mark>,
    /// Of each film its still, where it has one.
    halves: BTreeMap<usize, Option<usize>>,
}

fn made(rng: &mut ChaCha8Rng) -> Made {
    let mut made = Made { media: vec![], sidecars: vec![], marks: BTreeMap::new(), halves: BTreeMap::new() };
    for stem in 0..rng.random_range(1..6) {
        let counter = rng.random_range(0..3);
        let mut stills = vec![];
        for extension in ["HEIC", "JPG"] {
            if stills.is_empty() || rng.random_bool(0.7) {
                stills.push(made.media.len());
                let name = format!("IMG_{stem}.{extension}");
                made.media.push(with_counter(&name, counter));
                made.sidecars.push(format!("{}.json", if counter == 0 { name } else { format!("{name}({counter})") }));
            }
        }
        let own = rng.random_bool(0.8).then(|| *stills.choose(rng).unwrap());
        let film = made.media.len();
        made.media.push(with_counter(&format!("IMG_{stem}.MOV"), counter));
        made.halves.insert(film, own);
        // Files lose what they said, some never said it.
        let says = |rng: &mut ChaCha8Rng, of: usize| rng.random_bool(0.8).then(|| format!("ID-{stem}-{of}"));
        let millis = if own.is_some() { rng.random_range(1500..3400) } else { rng.random_range(1500..90_000) };
        let identifier = says(rng, own.unwrap_or(usize::MAX));
        made.marks.insert(film, Mark { identifier, millis: rng.random_bool(0.9).then_some(millis) });
        for still in &stills {
            made.marks.insert(*still, Mark { identifier: says(rng, *still), millis: None });
        }
    }
    made
}

/// How many files have the stem of that one: `IMG_0`.
fn of_stem(names: &[&str], name: &str) -> usize {
    names.iter().filter(|other| other[..5] == name[..5]).count()
}

#[test]
fn no_film_is_given_to_another_still() {
    let mut rng = ChaCha8Rng::seed_from_u64(2026);
    let (mut joined, mut chosen, mut left) = (0, 0, 0);
    for _ in 0..4000 {
        let made = made(&mut rng);
        let names: Vec<&str> = made.media.iter().map(String::as_str).collect();
        let sidecars: Vec<Sidecar<'_>> =
            made.sidecars.iter().map(|name| Sidecar { name, title: None, taken: None }).collect();
        let pairing = pair_marked(&names, &sidecars, &[], &|at| made.marks.get(&at).cloned());
        assert_eq!(pairing.undecided, Vec::<usize>::new(), "all were looked into");
        for (film, own) in &made.halves {
            let choice = of_stem(&names, names[*film]) > 2;
            match pairing.roles[*film] {
                Role::Motion(Some(still)) if choice => {
                    assert_eq!(Some(still), *own, "{names:?} {:?}", made.marks);
                    chosen += 1;
                }
                Role::Motion(Some(_)) => {
                    let long = made.marks[film].millis.is_some_and(|millis| millis > live::HALF_MILLIS_MAX);
                    assert!(!long, "too long for a half: {names:?}");
                    joined += 1;
                }
                _ => {
                    assert!(choice || own.is_none(), "with one still the name is enough for its half: {names:?}");
                    assert_eq!(pairing.pairs[*film], None, "it has no sidecar of another photo");
                    left += 1;
                }
            }
        }
        // Without a look into the files all in question are named.
        let blind = pair_marked(&names, &sidecars, &[], &|_| None);
        let asked = made.halves.keys().filter(|film| blind.undecided.contains(film)).count();
        assert_eq!(asked, made.halves.len());
    }
    assert!(joined > 500 && chosen > 1000 && left > 1000, "{joined} {chosen} {left}");
}

#[test]
fn two_vintages_of_one_title_and_two_dates_are_no_sure_pair() {
    let sidecar = |name, taken| Sidecar { name, title: Some("a.jpg"), taken };
    let pair = |dates: [Option<i64>; 2]| {
        let jsons = [sidecar("a.jpg.json", dates[0]), sidecar("a.jpg.supplemental-metadata.json", dates[1])];
        pair_marked(&["a.jpg"], &jsons, &[], &|_| None).pairs[0].unwrap().confidence
    };
    assert_eq!(pair([Some(1), Some(1)]), Confidence::Strong);
    assert_eq!(pair([Some(1), Some(2)]), Confidence::Weak);
}
