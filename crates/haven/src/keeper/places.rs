//! Where the library and its copies are, looked at by who must not be held up by any of them. Of a place that does not answer
//! what was seen of it last stands.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use haven_keeper::state::Place;
use haven_store::StoreOptions;

use super::{owed::Owed, place};
use crate::config::Config;

/// How long a place has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the library's place is called here.
pub const LIBRARY: &str = "the library";

pub fn of_replica(name: &str) -> String {
    format!("the replica {name}")
}

pub fn of_copy(name: &str) -> String {
    format!("the copy {name}")
}

type Look = Box<dyn FnOnce() -> Place + Send>;

/// A place to look at: whose it is, how that names it, and the look.
struct Wanted {
    of: String,
    url: String,
    look: Look,
}

fn wanted(config: &Config) -> Vec<Wanted> {
    let store = |of: String, url: String, options: StoreOptions| {
        let named = url.clone();
        Wanted { of, url, look: Box::new(move || place::of_store(&named, &options)) }
    };
    let library = config.library.url.as_deref().map(crate::cli::absolute);
    let library = library.map(|url| store(LIBRARY.to_owned(), url.clone(), config.store_of(&url)));
    let replicas = &config.replicas;
    let replicas =
        replicas.iter().map(|(name, one)| store(of_replica(name), one.own.url.clone(), one.own.store.clone()));
    let copies = config.copies.iter().map(|(name, one)| {
        let copy = one.clone();
        Wanted { of: of_copy(name), url: one.repository.clone(), look: Box::new(move || place::of_copy(&copy)) }
    });
    library.into_iter().chain(replicas).chain(copies).collect()
}

/// What was seen at one look.
#[derive(Debug, Clone, Default)]
pub struct Places {
    all: BTreeMap<String, Place>,
    /// Whose place could not be looked at, and why.
    pub missed: Vec<(String, String)>,
}

impl Places {
    /// Looks at all of them, however long it takes.
    pub fn now(config: &Config) -> Self {
        let all = wanted(config).into_iter().map(|one| (one.of, (one.look)())).collect();
        Self { all, missed: Vec::new() }
    }

    /// `of`: [`LIBRARY`], [`of_replica`], [`of_copy`].
    pub fn get(&self, of: &str) -> Place {
        self.all.get(of).cloned().unwrap_or_default()
    }

    /// What the settings know by this URL.
    pub fn of_url(&self, url: &str) -> Option<Place> {
        self.all.values().find(|place| place.url == url).cloned()
    }
}

/// Looks again and again.
#[derive(Debug, Default)]
pub struct Eyes {
    /// By whose it is and how that names it: under another URL it is another place.
    owed: BTreeMap<(String, String), Owed<Place>>,
    known: BTreeMap<(String, String), Place>,
}

impl Eyes {
    pub async fn look(&mut self, config: &Config) -> Places {
        self.look_at(wanted(config), PATIENCE).await
    }

    /// All at once: one that does not answer holds up no other.
    async fn look_at(&mut self, wanted: Vec<Wanted>, patience: Duration) -> Places {
        let mut before = std::mem::take(&mut self.owed);
        let looks: Vec<_> = wanted
            .into_iter()
            .map(|Wanted { of, url, look }| {
                let key = (of, url);
                let mut owed = before.remove(&key).unwrap_or_default();
                async move {
                    let seen = owed.get(patience, look).await;
                    (key, owed, seen)
                }
            })
            .collect();
        let mut places = Places::default();
        let mut known = BTreeMap::new();
        for (key, owed, seen) in join_all(looks).await {
            let place = match seen {
                Ok(place) => {
                    known.insert(key.clone(), place.clone());
                    place
                }
                Err(why) => {
                    places.missed.push((key.0.clone(), why));
                    if let Some(place) = self.known.remove(&key) {
                        known.insert(key.clone(), place);
                    }
                    // Of one that was never seen it is not known with what it fails together.
                    let unknown = || Place { url: key.1.clone(), domain: key.0.clone(), ..Place::default() };
                    known.get(&key).cloned().unwrap_or_else(unknown)
                }
            };
            places.all.insert(key.0.clone(), place);
            self.owed.insert(key, owed);
        }
        self.known = known;
        places
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn one(of: &str, look: Look) -> Wanted {
        Wanted { of: of.into(), url: format!("/srv/{of}"), look }
    }

    fn hangs(wait: Receiver<()>) -> Look {
        Box::new(move || {
            _ = wait.recv();
            Place::default()
        })
    }

    fn there(domain: &str) -> Look {
        let domain = domain.to_owned();
        Box::new(move || Place { domain, ..Place::default() })
    }

    #[tokio::test]
    async fn a_place_that_hangs_is_told_as_that_and_is_what_was_seen_of_it_last() {
        let mut eyes = Eyes::default();
        let (soon, long) = (Duration::from_millis(50), Duration::from_secs(30));
        let (go, wait) = channel();
        let seen = eyes.look_at(vec![one("near", there("the disk 8:1")), one("far", hangs(wait))], soon).await;
        assert_eq!(seen.get("near").domain, "the disk 8:1");
        assert_eq!((seen.get("far").domain, seen.get("far").url), ("far".into(), "/srv/far".into()), "never seen");
        assert_eq!(seen.missed, [("far".to_owned(), "no answer within 0 s".to_owned())]);
        let again = eyes.look_at(vec![one("far", there("the disk 8:2"))], soon).await;
        assert_eq!(again.missed.len(), 1, "it still hangs, and is not looked at again");
        drop(go);
        while eyes.look_at(vec![one("far", there("the disk 8:2"))], long).await.get("far").domain != "the disk 8:2" {}
        let (_go, wait) = channel();
        let hung = eyes.look_at(vec![one("far", hangs(wait))], soon).await;
        assert_eq!((hung.get("far").domain.as_str(), hung.missed.len()), ("the disk 8:2", 1), "as it was seen last");
    }

    #[test]
    fn everything_that_the_settings_name_has_a_place() {
        let text = "[library]\nurl = 's3://photos/haven'\n[replica.far]\nurl = 'sftp://me@nas.example.org/x'\n\
                    [copy.home]\nrepository = '/srv/borg'\n";
        let seen = Places::now(&Config::from_text(text, "").unwrap());
        assert_eq!(seen.get(&of_replica("far")).domain, "nas.example.org");
        assert_eq!((seen.get(LIBRARY).kind.as_str(), seen.get(&of_copy("home")).kind.as_str()), ("s3", "borg"));
    }
}
