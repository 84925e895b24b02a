//! What a drill looks at, wherever the bytes come from.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, BufReader},
    path::Path,
    time::{Duration, Instant},
};

use haven_point::{
    Folder, Manifest,
    check::{self, Files, Progress},
    immich::{Asset, Catalogue, Paths, Sha1, State, catalogue},
    manifest::Database,
    pg::{PgError, Reach, Session, Stop},
};

use crate::{
    Error,
    cluster::Cluster,
    database::{Goal, amcheck, drop_scratch, literal},
    leftovers,
    proof::{BrokenAsset, Step},
};

const SHORT: Duration = Duration::from_secs(60);

/// What is known of a point's files once its dump was read.
pub struct Known {
    pub catalogue: Catalogue,
    pub paths: Paths,
}

impl Known {
    /// Out of a dump. `manifest` says where Immich's paths begin.
    pub fn read(manifest: &Manifest, dump: &Path) -> Result<Self, Error> {
        let file = fs::File::open(dump).map_err(Error::read(dump))?;
        let catalogue = catalogue(BufReader::with_capacity(1 << 20, file))?;
        let told = manifest.immich.as_ref().map(|immich| immich.media_location.as_str());
        let paths = Paths::of(&catalogue, told);
        Ok(Self { catalogue, paths })
    }

    /// Rows that promise a file here.
    pub fn promised(&self) -> impl Iterator<Item = &Asset> {
        self.catalogue.assets.iter().filter(|asset| matches!(asset.state, State::Kept | State::Trashed))
    }

    /// Where the file of an asset may be, relative to Immich's folder: where its row says, and at both ends of a move.
    pub fn places<'a>(&'a self, asset: &'a Asset) -> impl Iterator<Item = &'a str> {
        let moves = self.catalogue.moves.get(&asset.id).into_iter().flatten();
        let ends =
            moves.filter(|(from, to)| *from == asset.path || *to == asset.path).flat_map(|(from, to)| [to, from]);
        std::iter::once(&asset.path).chain(ends).filter_map(|path| self.paths.inside(path))
    }

    /// Those whose files are not there at all. Only names and lengths are looked at.
    pub fn absent(&self, files: &dyn Files) -> Vec<BrokenAsset> {
        let gone = |asset: &Asset| {
            let mut why = "its path is not in Immich's folder".to_owned();
            for place in self.places(asset) {
                why = match files.length(place) {
                    Ok(Some(_)) => return None,
                    Ok(None) => "it is not there".to_owned(),
                    Err(error) => format!("it can't be looked at: {error}"),
                };
            }
            Some(BrokenAsset { id: asset.id.clone(), what: "original".into(), path: asset.path.clone(), why })
        };
        self.promised().filter_map(gone).collect()
    }

    /// The same with only every so-manieth row: `share` of them, one at least, others each time that `seed` is.
    pub fn sample(&self, share: f64, seed: u64) -> Self {
        let all: Vec<&Asset> = self.promised().collect();
        let wanted = ((all.len() as f64 * share).ceil() as usize).clamp(1, all.len().max(1));
        let mut ranked: Vec<(u64, &Asset)> = all.into_iter().map(|asset| (mixed(seed, &asset.id), asset)).collect();
        ranked.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
        let assets: Vec<Asset> = ranked.into_iter().take(wanted).map(|(_, asset)| asset.clone()).collect();
        let ids: HashSet<&str> = assets.iter().map(|asset| asset.id.as_str()).collect();
        let moves = self.catalogue.moves.iter().filter(|(id, _)| ids.contains(id.as_str()));
        let moves: HashMap<_, _> = moves.map(|(id, ends)| (id.clone(), ends.clone())).collect();
        let catalogue = Catalogue { moves, beside: Vec::new(), assets, ..self.catalogue.clone() };
        Self { catalogue, paths: self.paths.clone() }
    }

    /// Reads every file and compares.
    pub fn check(&self, files: &dyn Files, told: &(dyn Fn(Progress) + Sync)) -> io::Result<check::Report> {
        check::check(&self.catalogue, &self.paths, files, told)
    }

    /// SHA-1s of all that `broken` does not name.
    pub fn proven(&self, broken: &[BrokenAsset]) -> Vec<Sha1> {
        let bad: HashSet<&str> =
            broken.iter().filter(|broken| broken.what == "original").map(|broken| broken.id.as_str()).collect();
        self.promised().filter(|asset| !bad.contains(asset.id.as_str())).filter_map(|asset| asset.sha1).collect()
    }
}

/// Numbers that look as if thrown: FNV-1a, and a last stir.
fn mixed(seed: u64, text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (hash >> 32)
}

/// The steps of a drill, as they go.
#[derive(Debug, Default)]
pub struct Steps(pub Vec<Step>);

impl Steps {
    /// Does a step. What it fails with is noted; the drill is over then.
    pub fn run<T, E: std::error::Error>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<(T, String), E>,
    ) -> Option<T> {
        let begun = Instant::now();
        let outcome = work();
        let seconds = begun.elapsed().as_secs_f64();
        let (value, ok, said) = match outcome {
            Ok((value, said)) => (Some(value), true, said),
            Err(error) => (None, false, chain(&error)),
        };
        self.0.push(Step { name: name.into(), ok, said, seconds });
        value
    }

    pub fn note(&mut self, name: &str, ok: bool, said: impl Into<String>, took: Duration) {
        self.0.push(Step { name: name.into(), ok, said: said.into(), seconds: took.as_secs_f64() });
    }

    pub fn ok(&self) -> bool {
        self.0.iter().all(|step| step.ok)
    }
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        cause = error.source();
    }
    text
}

/// The server that the database of a drill comes back to.
#[derive(Debug, Clone, Copy)]
pub enum Server<'a> {
    /// A cluster of our own, of the programs in that directory, else of those that are found.
    Own(Option<&'a Path>),
    /// One that stays: under a name that is new there.
    There(&'a Reach),
}

/// The database of a point, restored for a look.
pub struct Scratch {
    pub reach: Reach,
    /// Ended with this.
    cluster: Option<Cluster>,
    name: String,
}

impl Scratch {
    /// Restores the dump. What this machine or the server can't do is [`Error::Unfit`], and says nothing of the dump.
    pub fn restore(
        manifest: &Manifest,
        dump: &Path,
        roles: Option<&Path>,
        server: Server<'_>,
        stop: &Stop,
        told: &mut dyn FnMut(&str),
    ) -> Result<(Self, crate::database::Restored), Error> {
        let database = manifest.database.as_ref().ok_or_else(|| Error::Nothing("the point has no database".into()))?;
        let (cluster, reach, name, role) = match server {
            Server::There(reach) => {
                let role = welcome(reach, database).map_err(unfit(
                    "that server can't be drilled on",
                    "see to it, or name another: --database, --within",
                ))?;
                let name = format!("{}{}", leftovers::DRILL, std::process::id());
                // A stranger's server has other roles: there everything belongs to who connects.
                (None, crate::target::with(reach, &name), name, Some(role))
            }
            Server::Own(programs) => {
                told("starting a PostgreSQL");
                let cluster = Cluster::start(database, programs, None).map_err(unfit(
                    "no PostgreSQL can be started here",
                    "see to what it says (an extension that is not installed here?), or name a server: --database",
                ))?;
                let reach = cluster.reach(&database.name);
                (Some(cluster), reach, database.name.clone(), None)
            }
        };
        let goal = Goal { reach: reach.clone(), role, rights: false, jobs: 2 };
        let restored = goal.restore(database, dump, roles, stop, told)?;
        let scratch = Self { reach, cluster, name };
        if let Server::There(reach) = server {
            // So that a later drill knows it, if this one is killed.
            let remark = format!("COMMENT ON DATABASE {} IS {};", scratch.name, literal(&leftovers::drilled()));
            _ = Session::open(reach, SHORT).and_then(|mut session| session.run(&remark, SHORT));
        }
        Ok((scratch, restored))
    }

    /// How many B-trees were looked through, and what is wrong; `None`: it could not be done.
    pub fn amcheck(&self) -> Result<Option<(u64, Vec<String>)>, Error> {
        amcheck(&mut Session::open(&self.reach, SHORT)?)
    }

    /// Drops it, and says why it stays where it can't be dropped: somebody is connected to it, say.
    pub fn end(mut self) -> Result<(), Error> {
        self.leave()
    }

    fn leave(&mut self) -> Result<(), Error> {
        let name = std::mem::take(&mut self.name);
        // A cluster goes with all that is in it.
        if self.cluster.is_some() || name.is_empty() { Ok(()) } else { drop_scratch(&self.reach, &name) }
    }
}

/// Who connects to a server that stays, if the dump can be restored there. Clears away what drills that were killed have left.
fn welcome(reach: &Reach, database: &Database) -> Result<String, Error> {
    #[derive(serde::Deserialize)]
    struct Who {
        name: String,
        everything: bool,
        databases: bool,
    }
    #[derive(serde::Deserialize)]
    struct Name {
        name: String,
    }
    let mut session = Session::open(reach, SHORT)?;
    let who = "SELECT rolname AS name, rolsuper AS everything, rolcreatedb AS databases FROM pg_roles \
               WHERE rolname = current_user";
    let who: Who = session.row(who, SHORT)?;
    if !who.everything && !who.databases {
        return Err(Error::Unfit {
            what: format!("{} may make no database there", who.name),
            next: "connect as one who may (user=postgres, say): --database".into(),
        });
    }
    let names: Vec<String> = database.extensions.keys().map(|name| literal(name)).collect();
    if !who.everything && !names.is_empty() {
        let asked = format!(
            "SELECT DISTINCT name FROM pg_available_extension_versions WHERE superuser AND NOT trusted AND name IN ({})",
            names.join(", ")
        );
        let refused: Vec<Name> = session.rows(&asked, SHORT)?;
        if let Some(Name { name }) = refused.first() {
            return Err(Error::Unfit {
                what: format!("{} may not make the extension {name} there, which the dump needs", who.name),
                next: "connect as a superuser (user=postgres, say): --database".into(),
            });
        }
    }
    for left in leftovers::of_dead_drills(&mut session)? {
        _ = drop_scratch(reach, &left);
    }
    Ok(who.name)
}

/// What a server says before anything is restored is no fault of the dump's.
fn unfit(what: &'static str, next: &'static str) -> impl FnOnce(Error) -> Error {
    move |error| match error {
        Error::Unfit { .. } | Error::Postgres(PgError::Stopped) => error,
        other => Error::Unfit { what: format!("{what}: {}", chain(&other)), next: next.into() },
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = self.leave();
    }
}

/// Files that were restored to a directory.
pub fn folder(path: &Path) -> Folder {
    Folder(path.to_owned())
}
