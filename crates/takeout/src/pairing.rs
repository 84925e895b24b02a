//! Which sidecar belongs to which media file of one directory.
//!
//! Two witnesses are heard. The title in each sidecar *predicts* the name of its media file exactly, where all sidecars
//! that share its cut name are there; the names alone give *candidates*. One prediction and no other claim is a strong
//! pair; where the witnesses disagree, or a name could have come about in two ways, the pair is weak.
//!
//! All look-ups are by hash: a directory of n files costs time in proportion to n.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::live::{self, Mark};
use crate::names::{
    self, EDITED_SUFFIXES, MEDIA_UNITS_MAX, SIDECAR_UNITS_MAX, SUPPLEMENT, Scheme, SidecarName, counters, is_heic,
    is_still, is_video, nfc, split_counter, split_extension, units, with_counter,
};

/// A sidecar of a photo, as it lies in a directory.
#[derive(Debug, Clone, Copy)]
pub struct Sidecar<'a> {
    /// With `.json`.
    pub name: &'a str,
    /// The title in it, if it was read.
    pub title: Option<&'a str>,
    /// Of its photo, if it says so.
    pub taken: Option<i64>,
}

/// What decided that a sidecar belongs to a media file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// The media file's name and `.supplemental-metadata`.
    Supplemental,
    /// The media file's name.
    Plain,
    /// The media file's name and a beginning of `.supplemental-metadata`.
    SupplementalCut,
    /// A counter, which moves to the end of the sidecar's name.
    Counter,
    /// The first 46 units of the media file's name.
    Cut,
    /// A counter in the title, and the same behind the sidecar's name.
    CounterTwice,
    /// A title without an extension.
    NoExtension,
    /// The title predicts the media file's name, where names alone would mislead.
    Title,
    /// Google wrote one sidecar for two files whose names were cut to one.
    ForgottenDuplicate,
    /// The sidecar of the original of which this is an edited copy.
    Edited,
    /// The sidecar of the still of which this is the moving half.
    Motion,
    /// A byte-identical copy elsewhere has it.
    Copy,
    /// The only sidecar of that name and counter that no other file claims, in another directory.
    OtherDirectory,
}

/// How sure a pair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// It may be: to be told to the owner, and never to outweigh what the file itself says.
    Weak,
    /// It follows from the rules of the format, and nothing else does.
    Strong,
}

/// What a media file is among its neighbours, which are told by `T`: here their index among the media files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<T = usize> {
    /// A picture or video of its own.
    Plain,
    /// The moving half of a still, where that lies in the directory.
    Motion(Option<T>),
    /// A copy edited in Google Photos: its original, where that lies in the directory.
    Edited(Option<T>),
}

/// A media file with its sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The index of the sidecar.
    pub sidecar: usize,
    pub rule: Rule,
    pub confidence: Confidence,
}

/// What is known of the files of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairing {
    /// For each media file, in the order they were given.
    pub pairs: Vec<Option<Pair>>,
    pub roles: Vec<Role>,
    /// Sidecars of which a newer version for the same file was taken.
    pub superseded: Vec<usize>,
    /// Sidecars that no file claims.
    pub orphans: Vec<usize>,
    /// Media files of which what they say would decide which belong together ([`live`]).
    pub undecided: Vec<usize>,
}

/// Pairs the media files of one directory with its sidecars. `suffixes` of edited copies are tried beside
/// [`EDITED_SUFFIXES`].
pub fn pair_directory(media: &[&str], sidecars: &[Sidecar<'_>], suffixes: &[&str]) -> Pairing {
    pair_marked(media, sidecars, suffixes, &|_| None)
}

/// The same, with what media files say, of those that were looked into.
pub fn pair_marked(
    media: &[&str],
    sidecars: &[Sidecar<'_>],
    suffixes: &[&str],
    marks: &dyn Fn(usize) -> Option<Mark>,
) -> Pairing {
    let directory = Directory::new(media, sidecars, suffixes);
    let mut pairs: Vec<Option<Pair>> = (0..media.len()).map(|at| directory.plain(at)).collect();
    let mut roles = vec![Role::Plain; media.len()];
    for at in 0..media.len() {
        if let Some((pair, original)) = directory.edited(at, &pairs) {
            (pairs[at], roles[at]) = (Some(pair), Role::Edited(original));
        }
    }
    let mut undecided = vec![];
    for at in 0..media.len() {
        if let Some((pair, still)) = directory.motion(at, &pairs, marks, &mut undecided) {
            (pairs[at], roles[at]) = (pair, Role::Motion(still));
        }
    }
    Pairing { undecided, ..directory.finish(pairs, roles) }
}

/// A sidecar, with what its name and title say.
struct Known {
    name: SidecarName,
    title: Option<String>,
    taken: Option<i64>,
    /// The names that its media file can have, by its title; with the counter.
    predicted: Vec<String>,
    /// No other sidecar that may be missing could have changed the prediction.
    certain: bool,
}

struct Directory<'a> {
    media: Vec<String>,
    by_name: HashMap<String, usize>,
    sidecars: Vec<Known>,
    /// By what stands before `.json`, a counter, and a beginning of the supplement.
    by_base: HashMap<(String, u32), Vec<(usize, Rule)>>,
    /// By the name (or, for titles without extension, the stem) of the media file that is predicted.
    by_prediction: HashMap<String, Vec<usize>>,
    suffixes: Vec<&'a str>,
}

impl<'a> Directory<'a> {
    fn new(media: &[&str], sidecars: &[Sidecar<'_>], suffixes: &[&'a str]) -> Self {
        let media: Vec<String> = media.iter().map(|name| nfc(name).into_owned()).collect();
        let by_name = media.iter().enumerate().map(|(at, name)| (name.clone(), at)).collect();
        let sidecars = know(sidecars);
        let mut by_base: HashMap<(String, u32), Vec<(usize, Rule)>> = HashMap::new();
        let mut by_prediction: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, known) in sidecars.iter().enumerate() {
            for (base, rule) in bases(&known.name.base) {
                by_base.entry((base.to_owned(), known.name.counter)).or_default().push((at, rule));
            }
            for name in &known.predicted {
                by_prediction.entry(name.clone()).or_default().push(at);
            }
        }
        for found in by_base.values_mut() {
            found.sort_by_key(|(_, rule)| *rule);
        }
        let suffixes = suffixes.iter().copied().chain(EDITED_SUFFIXES.iter().copied()).collect();
        Self { media, by_name, sidecars, by_base, by_prediction, suffixes }
    }

    /// Sidecars whose name is made of `base` and `counter`, newest scheme first.
    fn find(&self, base: &str, counter: u32) -> &[(usize, Rule)] {
        self.by_base.get(&(base.to_owned(), counter)).map_or(&[], Vec::as_slice)
    }

    /// Sidecars whose name is the cut `base`.
    fn find_cut(&self, base: &str, counter: u32) -> impl Iterator<Item = usize> {
        let cuts = [names::cut(base, SIDECAR_UNITS_MAX), names::cut_short(base, SIDECAR_UNITS_MAX)];
        let cuts = cuts.into_iter().filter(|cut| cut.len() < base.len());
        let found = cuts.flat_map(move |cut| self.find(cut, counter));
        found.filter(|(_, rule)| *rule == Rule::Plain).map(|(at, _)| *at)
    }

    /// By names alone: each sidecar once, with the first rule that finds it.
    fn candidates(&self, name: &str) -> Vec<(usize, Rule)> {
        let mut found: Vec<(usize, Rule)> = self.find(name, 0).to_vec();
        let without = counters(name);
        for (base, n) in &without {
            found.extend(self.find(base, *n).iter().map(|(at, _)| (*at, Rule::Counter)));
            found.extend(self.find_cut(base, *n).map(|at| (at, Rule::Cut)));
        }
        found.extend(self.find_cut(name, 0).filter(|_| !swallows_counter(name)).map(|at| (at, Rule::Cut)));
        for (_, n) in &without {
            found.extend(self.find(name, *n).iter().map(|(at, _)| (*at, Rule::CounterTwice)));
        }
        found.extend(self.without_extension(name));
        let mut seen = HashSet::new();
        found.retain(|(at, _)| seen.insert(*at));
        found
    }

    /// Sidecars of titles without extension, which the media file has none the less.
    fn without_extension(&self, name: &str) -> Vec<(usize, Rule)> {
        let (whole, n) = split_counter(name);
        let (stem, extension) = split_extension(&whole);
        if extension.is_empty() {
            return vec![];
        }
        let fits = |at: &usize| match &self.sidecars[*at].title {
            Some(title) => *title == stem || names::media_name(title) == whole,
            None => true,
        };
        self.find(stem, n).iter().map(|(at, _)| *at).filter(fits).map(|at| (at, Rule::NoExtension)).collect()
    }

    /// The sidecars whose titles predict this media file.
    fn predictions(&self, name: &str) -> Vec<usize> {
        let stem = split_extension(name).0;
        let by_stem = self.by_prediction.get(stem).into_iter().flatten();
        let by_stem =
            by_stem.filter(|at| stem != name && self.sidecars[**at].title.as_deref().is_some_and(no_extension));
        let mut found: Vec<usize> =
            self.by_prediction.get(name).into_iter().flatten().chain(by_stem).copied().collect();
        // The newest scheme first, as in the look-up by names.
        found.sort_by_key(|at| (bases(&self.sidecars[*at].name.base).into_iter().map(|(_, rule)| rule).min(), *at));
        found
    }

    /// Do both tell of the same photo, in two vintages?
    fn same(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.sidecars[a], &self.sidecars[b]);
        let taken = a.taken == b.taken || a.taken.is_none() || b.taken.is_none();
        let titles = a.title == b.title && (a.title.is_some() || a.predicted == b.predicted);
        titles && taken && a.name.counter == b.name.counter
    }

    fn plain(&self, at: usize) -> Option<Pair> {
        let name = &self.media[at];
        let predicted = self.predictions(name);
        let candidates = self.candidates(name);
        match predicted.first() {
            Some(first) => Some(self.predicted(*first, &predicted, &candidates)),
            None => self.by_candidates(name, &candidates).or_else(|| self.forgotten(name)),
        }
    }

    fn predicted(&self, first: usize, predicted: &[usize], candidates: &[(usize, Rule)]) -> Pair {
        let rule = candidates.iter().find(|(at, _)| *at == first).map_or(Rule::Title, |(_, rule)| *rule);
        let agree = predicted.iter().all(|at| self.same(*at, first));
        // A candidate by name that has no other file to go to contradicts.
        let alone = candidates.iter().all(|(at, _)| {
            predicted.contains(at) || self.belongs_elsewhere(*at) || {
                let known = &self.sidecars[*at];
                known.title.is_some() && !known.predicted.is_empty()
            }
        });
        let strong = agree && alone && self.sidecars[first].certain;
        Pair { sidecar: first, rule, confidence: confidence(strong) }
    }

    /// Does the title predict a media file that is there?
    fn belongs_elsewhere(&self, sidecar: usize) -> bool {
        self.sidecars[sidecar].predicted.iter().any(|name| self.by_name.contains_key(name))
    }

    fn by_candidates(&self, name: &str, candidates: &[(usize, Rule)]) -> Option<Pair> {
        let mut free = candidates.iter().filter(|(at, _)| !self.belongs_elsewhere(*at)).filter(|(at, rule)| {
            // A cut name says little: a title that is another's speaks against it.
            *rule != Rule::Cut || self.sidecars[*at].title.as_deref().is_none_or(|title| could_be(title, name))
        });
        let (sidecar, rule) = *free.next()?;
        let alone = free.all(|(at, _)| self.same(*at, sidecar));
        let known = &self.sidecars[sidecar];
        let whole = matches!(rule, Rule::Supplemental | Rule::Plain) && !names::may_be_cut(units(&known.name.base));
        let strong = alone && (known.title.is_none() || whole);
        Some(Pair { sidecar, rule, confidence: confidence(strong) })
    }

    /// Two titles that were cut to one name, and one sidecar for both.
    fn forgotten(&self, name: &str) -> Option<Pair> {
        let (whole, n) = split_counter(name);
        let first = self.find_cut(&whole, 0).next().filter(|_| n > 0)?;
        let fits = self.sidecars[first].title.as_deref().is_none_or(|title| could_be(title, &whole));
        fits.then_some(Pair { sidecar: first, rule: Rule::ForgottenDuplicate, confidence: Confidence::Weak })
    }

    /// The original of an edited copy that has no sidecar of its own.
    fn edited(&self, at: usize, pairs: &[Option<Pair>]) -> Option<(Pair, Option<usize>)> {
        if pairs[at].is_some_and(|pair| pair.rule != Rule::ForgottenDuplicate) {
            return None;
        }
        let (whole, n) = split_counter(&self.media[at]);
        let (stem, extension) = split_extension(&whole);
        let suffix = self.suffix(stem, &whole);
        let kept = suffix.or_else(|| without_tilde(stem))?;
        let same = |n: u32| self.original(&format!("{kept}{extension}"), n, pairs);
        let other = || {
            let extensions = STILL_SPELLINGS.iter().filter(|_| is_still(&whole));
            let mut found = extensions.filter_map(|e| self.original(&format!("{kept}.{e}"), n, pairs));
            found.next().filter(|_| found.next().is_none())
        };
        // An edited copy may be in another format than its original, of which there is then one of that name.
        if let Some((pair, original)) = same(n).or_else(other) {
            let strong = suffix.is_some() && pair.confidence == Confidence::Strong;
            return Some((Pair { rule: Rule::Edited, confidence: confidence(strong), ..pair }, original));
        }
        let (pair, original) = (n > 0).then(|| same(0)).flatten()?;
        Some((Pair { rule: Rule::Edited, confidence: Confidence::Weak, ..pair }, original))
    }

    /// `stem` without the suffix of an edited copy; a suffix is cut only where the whole name had to be.
    fn suffix<'s>(&self, stem: &'s str, whole: &str) -> Option<&'s str> {
        let known = self.suffixes.iter().filter_map(|suffix| stem.strip_suffix(*suffix)).find(|kept| !kept.is_empty());
        let full = units(whole) == MEDIA_UNITS_MAX;
        known.or_else(|| {
            let (kept, end) = stem.rfind('-').filter(|at| full && *at > 0).map(|at| stem.split_at(at))?;
            let cut = units(end) > 1 && self.suffixes.iter().any(|suffix| suffix.starts_with(end));
            cut.then_some(kept)
        })
    }

    /// The sidecar of the file that was called `name`, and the file, if it is there.
    fn original(&self, name: &str, n: u32, pairs: &[Option<Pair>]) -> Option<(Pair, Option<usize>)> {
        let name = with_counter(name, n);
        if let Some(at) = self.by_name.get(&name) {
            return pairs[*at].map(|pair| (pair, Some(*at)));
        }
        self.plain_named(&name).map(|pair| (pair, None))
    }

    fn plain_named(&self, name: &str) -> Option<Pair> {
        let predicted = self.predictions(name);
        let candidates = self.candidates(name);
        match predicted.first() {
            Some(first) => Some(self.predicted(*first, &predicted, &candidates)),
            None => self.by_candidates(name, &candidates),
        }
    }

    /// The still of a moving half, which is known by having no sidecar of its own.
    fn motion(
        &self,
        at: usize,
        pairs: &[Option<Pair>],
        marks: &dyn Fn(usize) -> Option<Mark>,
        undecided: &mut Vec<usize>,
    ) -> Option<(Option<Pair>, Option<usize>)> {
        if pairs[at].is_some() {
            return None;
        }
        let stills = stills_of(&self.media[at]);
        let mut here: Vec<usize> = stills.iter().filter_map(|name| self.by_name.get(name).copied()).collect();
        let mut seen = HashSet::from([at]);
        here.retain(|still| seen.insert(*still));
        let Some(first) = here.first().copied() else {
            let pair = stills.iter().find_map(|name| self.plain_named(name))?;
            return Some((Some(Pair { rule: Rule::Motion, confidence: Confidence::Weak, ..pair }), None));
        };
        let of = |still: usize, sure: bool| {
            let pair = pairs[still].map(|pair| Pair {
                rule: Rule::Motion,
                confidence: if sure { pair.confidence } else { Confidence::Weak },
                ..pair
            });
            Some((pair, Some(still)))
        };
        // Pixels' halves have their still's whole name: of two names one is the likelier.
        if !is_video(&self.media[at]) {
            return of(first, here.len() == 1);
        }
        if here.len() == 1 {
            // The name is enough, unless what they say speaks against it: in a plain folder, and where the film's own sidecar
            // is still to come, any film can lie beside a still of its name.
            let (film, still) = (marks(at), marks(first));
            undecided
                .extend([(at, &film), (first, &still)].iter().filter(|(_, mark)| mark.is_none()).map(|(at, _)| at));
            return live::may_be(film.as_ref(), still.as_ref()).then(|| of(first, true)).flatten();
        }
        let Some(film) = marks(at) else {
            undecided.push(at);
            undecided.extend(&here);
            return of(first, false);
        };
        let told: Vec<Option<Mark>> = here.iter().map(|still| marks(*still)).collect();
        of(here[live::choose(&film, &told)?], true)
    }

    fn finish(&self, pairs: Vec<Option<Pair>>, roles: Vec<Role>) -> Pairing {
        let used: HashSet<usize> = pairs.iter().flatten().map(|pair| pair.sidecar).collect();
        let title = |at: usize| self.sidecars[at].title.as_deref();
        let taken: HashSet<_> = used.iter().flat_map(|at| self.keys(*at).map(move |key| (key, title(*at)))).collect();
        let free = (0..self.sidecars.len()).filter(|at| !used.contains(at));
        let (superseded, orphans) = free.partition(|at| self.keys(*at).any(|key| taken.contains(&(key, title(*at)))));
        Pairing { pairs, roles, superseded, orphans, undecided: vec![] }
    }

    fn keys(&self, at: usize) -> impl Iterator<Item = (&str, u32)> {
        let name = &self.sidecars[at].name;
        bases(&name.base).into_iter().map(|(base, _)| (base, name.counter))
    }
}

const STILL_SPELLINGS: &[&str] = &["HEIC", "heic", "HEIF", "heif", "JPG", "jpg", "JPEG", "jpeg", "PNG", "png"];

fn confidence(strong: bool) -> Confidence {
    if strong { Confidence::Strong } else { Confidence::Weak }
}

fn no_extension(title: &str) -> bool {
    split_extension(title).1.is_empty()
}

/// What a sidecar's name without counter can have been made of, each with its rule.
fn bases(base: &str) -> Vec<(&str, Rule)> {
    let mut found = vec![(base, Rule::Plain)];
    if let Some(dot) = base.rfind('.').filter(|dot| *dot > 0 && SUPPLEMENT.starts_with(&base[*dot..])) {
        let whole = base.len() - dot == SUPPLEMENT.len();
        found.push((&base[..dot], if whole { Rule::Supplemental } else { Rule::SupplementalCut }));
    }
    found
}

/// Would cutting `name` for a sidecar lose the counter at its end?
fn swallows_counter(name: &str) -> bool {
    let (_, n) = split_counter(name);
    n > 0 && units(split_extension(name).0) > SIDECAR_UNITS_MAX
}

/// Can a photo of that title have this name, whatever its counter?
fn could_be(title: &str, name: &str) -> bool {
    let (whole, _) = split_counter(name);
    let full = names::sanitise(&nfc(title));
    let predicted = [names::media_name(title), names::media_name_short(title)];
    predicted.iter().chain([&full]).any(|made| *made == whole || *made == name)
}

/// `stem` without the `~2` that phones put behind copies they edit.
fn without_tilde(stem: &str) -> Option<&str> {
    let (kept, number) = stem.rsplit_once('~')?;
    let plain = !kept.is_empty() && (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    plain.then_some(kept)
}

/// The names that the still of a moving half can have, the likeliest first.
fn stills_of(name: &str) -> Vec<String> {
    let (whole, n) = split_counter(name);
    let (stem, extension) = split_extension(&whole);
    let upper = extension.to_ascii_uppercase();
    let spelled =
        |base: &str| STILL_SPELLINGS.iter().map(|e| with_counter(&format!("{base}.{e}"), n)).collect::<Vec<_>>();
    if upper == ".MP" || upper.starts_with(".MP~") {
        let plain = whole.rsplit_once('~').map(|(kept, _)| kept);
        return [Some(whole.as_str()), plain, Some(stem)].into_iter().flatten().flat_map(spelled).collect();
    }
    if extension.is_empty() && whole.starts_with("MVIMG_") {
        return spelled(&whole);
    }
    let mut found = if is_video(&whole) { spelled(stem) } else { vec![] };
    found.sort_by_key(|still| !is_heic(still));
    found
}

/// Takes sidecars' names apart and predicts their media files.
fn know(sidecars: &[Sidecar<'_>]) -> Vec<Known> {
    let mut known: Vec<Known> = sidecars
        .iter()
        .map(|sidecar| Known {
            name: name_of(sidecar),
            title: sidecar.title.filter(|title| !title.is_empty()).map(|title| nfc(title).into_owned()),
            taken: sidecar.taken,
            predicted: vec![],
            certain: true,
        })
        .collect();
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, sidecar) in known.iter().enumerate() {
        groups.entry(sidecar.name.base.clone()).or_default().push(at);
    }
    for group in groups.values_mut() {
        group.sort_by_key(|at| known[*at].name.counter);
        predict(&mut known, group);
    }
    doubt(&mut known);
    known
}

/// A counter can also be the end of a title without extension: the title tells.
fn name_of(sidecar: &Sidecar<'_>) -> SidecarName {
    let parsed = names::sidecar_name(sidecar.name);
    let parsed = parsed.unwrap_or_else(|| SidecarName { base: nfc(sidecar.name).into_owned(), counter: 0 });
    let whole = SidecarName { base: format!("{}({})", parsed.base, parsed.counter), counter: 0 };
    let made = |title: &str| [Scheme::Old, Scheme::Supplemental, Scheme::Uncut].map(|s| names::sidecar_base(title, s));
    let ends_in_title = parsed.counter > 0 && sidecar.title.is_some_and(|title| made(title).contains(&whole.base));
    if ends_in_title { whole } else { parsed }
}

/// Predicts the media files of the sidecars that share a name but for the counter, in the counters' order. Where the name
/// was cut, several titles can share it, and each of them counts its own files.
fn predict(known: &mut [Known], group: &[usize]) {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut complete = true;
    for (place, at) in group.iter().enumerate() {
        let sidecar = &mut known[*at];
        let Some(title) = sidecar.title.clone() else {
            complete = false;
            continue;
        };
        let cut = names::may_be_cut(units(&sidecar.name.base));
        complete &= sidecar.name.counter as usize == place;
        let media = names::media_name(&title);
        let rank = seen.entry(media.clone()).or_default();
        let n = if cut && complete { *rank } else { sidecar.name.counter };
        *rank += 1;
        sidecar.certain = !cut || complete;
        // A name that is the title's in no scheme was not made by these rules, and predicts nothing.
        if !made_of(&sidecar.name.base, &title) {
            continue;
        }
        let full = names::sanitise(&title);
        let mut wholes = vec![media, names::media_name_short(&title), full];
        wholes.dedup();
        sidecar.predicted = wholes.iter().map(|whole| with_counter(whole, n)).collect();
    }
}

/// Can `base` be the name of the sidecar of a photo of that title?
fn made_of(base: &str, title: &str) -> bool {
    let full = names::sanitise(title);
    let cut = [names::cut(&full, SIDECAR_UNITS_MAX), names::cut_short(&full, SIDECAR_UNITS_MAX)];
    bases(base).into_iter().any(|(plain, _)| plain == full || cut.contains(&plain))
}

/// Takes certainty from names that can have come about in two ways: `photo(1).jpg` is the second of its title, or has
/// that title; and a title without extension gets one that another title has.
fn doubt(known: &mut [Known]) {
    let mut families: HashMap<String, BTreeMap<String, Vec<usize>>> = HashMap::new();
    for (at, sidecar) in known.iter().enumerate() {
        let Some(title) = &sidecar.title else { continue };
        let media = names::media_name(title);
        let mut root = media.clone();
        while let (kept, 1..) = split_counter(&root) {
            root = kept;
        }
        root.truncate(split_extension(&root).0.len());
        families.entry(root).or_default().entry(media).or_default().push(at);
    }
    let doubtful: Vec<usize> = families
        .into_values()
        .filter(|family| family.len() > 1)
        .filter(|family| {
            let bare = family.keys().any(|media| no_extension(media));
            let counted = family.keys().any(|media| split_counter(media).1 > 0);
            bare || counted && family.values().any(|members| members.len() > 1)
        })
        .flat_map(|family| family.into_values().flatten())
        .collect();
    for at in doubtful {
        known[at].certain = false;
    }
}
