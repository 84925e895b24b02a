//! One run: look, compare, bring what is missing in the order that keeps the replica a library, tidy up.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use haven_format::{
    Keys, Lsn, layout,
    standing::{Role, Standing},
};
use haven_store::{DynStore, ObjectMeta};
use tokio::time::Instant;

use crate::{
    Damage, HeldStanding, Oddity, Options, Position, ProgressFn, ReplicaError, Run, Side, Summary, World,
    carry::Carrier,
    error::{At, Result},
    inventory::Inventory,
    lease::Pin,
    lineage,
    look::{Look, rank},
    names::object,
    needs::{BareRoots, Needed},
    records::Records,
    run::DAY,
    standing,
    state::{Link, Reader, State},
    verify,
};

/// How often the source is looked at anew when what was needed has vanished from it meanwhile.
const TRIES: usize = 4;
/// What could not be had from the source is asked for again after this long.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(600);

/// Keeps one replica. Lives through many runs and remembers what it has seen.
pub struct Replicator {
    pub(crate) source: DynStore,
    pub(crate) replica: DynStore,
    pub(crate) keys: Keys,
    pub(crate) world: World,
    pub(crate) options: Options,
    pub(crate) carrier: Carrier,
    pub(crate) reader: Reader,
    pub(crate) held: HeldStanding,
    /// What is to be noted with the next standing.
    pub(crate) chart: Standing,
    opened: bool,
    listed: bool,
    /// As far as the replica has come.
    reached: Position,
    looked: Option<Look>,
    config: String,
    /// The number of the source's configuration in force: the newest that opens.
    pub(crate) in_force: Option<u64>,
    /// The number of a newer one that the replica has.
    pub(crate) own_config: Option<u64>,
    pin: Pin,
    pub(crate) bad: HashMap<String, (Instant, String)>,
    bare_roots: BareRoots,
    noted: Option<Instant>,
    pub(crate) chores_done: Option<Instant>,
    retry_at: Option<Instant>,
    pub(crate) may_not_delete: Option<String>,
}

impl fmt::Debug for Replicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replicator({:?} -> {:?} at {})", self.source, self.replica, self.reached)
    }
}

impl Replicator {
    /// Touches no store.
    pub fn new(
        source: DynStore,
        replica: DynStore,
        keys: &Keys,
        world: World,
        options: Options,
        progress: Option<ProgressFn>,
    ) -> Self {
        Self {
            carrier: Carrier::new(source.clone(), replica.clone(), keys, progress),
            reader: Reader::new(source.clone(), Side::Source, keys),
            source,
            replica,
            keys: keys.clone(),
            world,
            options,
            held: HeldStanding::default(),
            chart: Standing::default(),
            opened: false,
            listed: false,
            reached: Position::default(),
            looked: None,
            config: String::new(),
            in_force: None,
            own_config: None,
            pin: Pin::default(),
            bad: HashMap::new(),
            bare_roots: BareRoots::new(),
            noted: None,
            chores_done: None,
            retry_at: None,
            may_not_delete: None,
        }
    }

    /// Brings the replica up to the source's newest state.
    ///
    /// # Errors
    /// [`ReplicaError::Odd`] when nothing can be taken from the source: then nothing was changed. Store errors end the
    /// run where it is; the next one goes on from there. Single objects that are damaged are no error here, but in the
    /// summary.
    pub async fn sync(&mut self, run: Run) -> Result<Summary> {
        let begun = Instant::now();
        let before = self.carrier.sent();
        let mut summary = Summary::default();
        let outcome = self.run(run, &mut summary).await;
        let after = self.carrier.sent();
        if !run.dry_run {
            (summary.objects, summary.bytes) = (after.0 - before.0, after.1 - before.1);
        }
        summary.seconds = begun.elapsed().as_secs_f64();
        summary.position = if self.is_bare() { Position::default() } else { self.reached.clone() };
        summary.lag_seconds = lag(&summary.source, &summary.position);
        if let Some(standing) = &self.held.standing {
            summary.brake = standing.brake.clone();
        }
        summary.read_back.verified = self.chart.verified.map(|at| at.seconds);
        summary.read_back.round_began = self.chart.round_began.map(|at| at.seconds);
        if let Some(why) = &self.pin.refused {
            summary.warnings.push(format!(
                "no lease could be written in the source ({why}): what a long run copies may be deleted there meanwhile"
            ));
        }
        outcome.map(|()| summary)
    }

    async fn run(&mut self, run: Run, summary: &mut Summary) -> Result<()> {
        if !self.opened {
            self.held = standing::newest(&self.replica, &self.keys, Side::Replica).await?;
            self.refuse_other_roles()?;
            self.reached = self.held.position();
        }
        let from = self.reader.base().unwrap_or_else(|| self.reached.lsn());
        let look = Look::at(&*self.source, Side::Source, from).await?;
        if self.is_known(&look) {
            summary.source = self.reached.clone();
            return Ok(());
        }
        if !self.opened && !run.dry_run && !run.release_brake && self.nothing_new(&look).await? {
            self.check_source_role().await?;
            self.begin(run).await?;
            summary.source = self.reached.clone();
            self.looked = Some(look);
            self.chores_done = Some(Instant::now());
            return Ok(());
        }
        self.check_config(&look).await?;
        self.check_source_role().await?;
        if self.opened {
            self.heed_others().await?;
        } else {
            self.begin(run).await?;
        }
        self.list_once().await?;
        self.look_at_own_configs(summary).await?;
        let (look, state) = self.bring_newest(look, from, run, summary).await?;
        let Some(state) = state else { return Ok(()) };
        self.retire_configs(&look, summary).await?;
        self.note(run, false).await?;
        if self.chores_are_due(run) {
            self.chores_done = Some(Instant::now());
            self.chores(&state, run, summary).await?;
            self.note(run, !run.continuous).await?;
        }
        self.retry_at = (!summary.damaged.is_empty()).then(|| Instant::now() + ASK_AGAIN);
        self.looked = Some(look);
        Ok(())
    }

    /// Makes sure that the source is a library and the replica's place empty or its replica, and writes there what it is
    /// going to be. Copies nothing.
    pub async fn establish(&mut self) -> Result<()> {
        self.held = standing::newest(&self.replica, &self.keys, Side::Replica).await?;
        self.refuse_other_roles()?;
        let look = Look::at(&*self.source, Side::Source, Lsn(u64::MAX)).await?;
        self.check_config(&look).await?;
        self.check_source_role().await?;
        self.reached = self.held.position();
        self.begin(Run::default()).await?;
        // What was written must be there: the place is one that keeps what it is given.
        let back = standing::newest(&self.replica, &self.keys, Side::Replica).await?;
        match back.standing == self.held.standing {
            true => Ok(()),
            false => Err(ReplicaError::NotKept {
                object: layout::STANDINGS.to_owned(),
                detail: "what was written is not what is read".into(),
            }),
        }
    }

    /// Ends the lease, and notes how far the replica has come. For a replicator that goes away.
    pub async fn finish(&mut self) -> Result<()> {
        self.pin.release(&self.source).await;
        if self.opened { self.note(Run::default(), false).await } else { Ok(()) }
    }

    /// Whether the last run has seen just this, and nothing else is to be done.
    fn is_known(&self, look: &Look) -> bool {
        let retry = self.retry_at.is_some_and(|at| at <= Instant::now());
        self.looked.as_ref().is_some_and(|looked| looked.same_as(look))
            && !retry
            && !self.chores_are_due(Run { continuous: true, ..Run::default() })
    }

    /// A configuration of this very library must be in force, and open.
    async fn check_config(&mut self, look: &Look) -> Result<()> {
        let Some(newest) = look.configs.last() else { return Err(self.without_config().await?.into()) };
        if newest.name.as_str() == self.config && self.looked.is_some() {
            return Ok(());
        }
        let mut damaged = Vec::new();
        let mut other = None;
        self.in_force = None;
        for name in look.configs.iter().rev().map(|config| config.name.as_str()) {
            let body = self.source.get(&object(name)).await.at(Side::Source, format!("{name} can't be read"))?;
            let wrong = match verify::config(&self.keys, name, &body) {
                Ok(()) => {
                    self.config = newest.name.as_str().to_owned();
                    self.in_force = layout::parse_config(name).map(|(seq, _)| seq);
                    return Ok(());
                }
                Err(wrong) => wrong,
            };
            if let Some(source) = wrong.newer() {
                return Err(ReplicaError::Newer { side: Side::Source, object: name.to_owned(), source });
            }
            let library = haven_format::config::LockedConfig::parse(name, &body).ok().map(|config| config.library());
            other = other.or(library.filter(|library| *library != self.keys.library()));
            damaged.push(Damage::new(Side::Source, name, wrong));
        }
        Err(match other {
            Some(found) => Oddity::OtherLibrary { found }.into(),
            None => Oddity::Garbage { damaged }.into(),
        })
    }

    async fn without_config(&self) -> Result<Oddity> {
        let page = self.source.list("", None, 1).await.at(Side::Source, "the list of objects can't be had")?;
        Ok(match page.objects.first() {
            Some(example) => Oddity::NoConfig { example: example.name.to_string() },
            None => Oddity::Empty,
        })
    }

    fn refuse_other_roles(&self) -> Result<()> {
        match &self.held.standing {
            Some(standing) if standing.role() != Role::Replica => {
                Err(ReplicaError::NotAReplica { role: standing.role(), of: standing.of.clone() })
            }
            _ => Ok(()),
        }
    }

    async fn check_source_role(&self) -> Result<()> {
        match standing::newest(&self.source, &self.keys, Side::Source).await {
            Ok(HeldStanding { standing: Some(standing), .. }) => match standing.role() {
                Role::Superseded => Err(Oddity::Superseded { by: standing.of }.into()),
                Role::Restoring => Err(Oddity::Incomplete { of: standing.of }.into()),
                Role::Library | Role::Replica => Ok(()),
            },
            // Damaged there: what matters is verified by itself.
            Ok(_) | Err(ReplicaError::Strange { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The first thing ever put into an empty place is that it is a replica.
    async fn begin(&mut self, run: Run) -> Result<()> {
        if let Some(standing) = &self.held.standing {
            self.chart = standing.clone();
        } else {
            let there = self.replica.list("", None, 1).await.at(Side::Replica, "the list of objects can't be had")?;
            if let Some(example) = there.objects.first() {
                return Err(ReplicaError::Occupied { example: example.name.to_string() });
            }
            self.chart.round_began = Some(self.world.now());
            if !run.dry_run {
                self.write_standing().await?;
            }
        }
        self.opened = !run.dry_run;
        Ok(())
    }

    /// What the replica says of itself, as it would be written now.
    fn standing(&self) -> Standing {
        Standing {
            role: Role::Replica.into(),
            called: self.options.called.clone(),
            of: self.options.of.clone(),
            segment: self.reached.segment.clone(),
            tx: self.reached.tx,
            ..self.chart.clone()
        }
    }

    /// Writes where the replica stands, if that is new or `anyway`; not too often while following continuously.
    async fn note(&mut self, run: Run, anyway: bool) -> Result<()> {
        let news = self.held.standing.as_ref() != Some(&self.standing());
        let soon = run.continuous && self.noted.is_some_and(|at| at.elapsed() < self.options.note_every);
        if run.dry_run || !(anyway || news && !soon) {
            return Ok(());
        }
        self.write_standing().await
    }

    /// Whether the place is still a replica: somebody may have promoted it since we looked. Another replicator's word is
    /// heeded: what it has noted of the brake holds, and ours comes after it.
    pub(crate) async fn heed_others(&mut self) -> Result<()> {
        if self.held.standing.is_none() {
            return Ok(());
        }
        let Some(other) = self.held.displaced(&self.replica, &self.keys, Side::Replica).await? else { return Ok(()) };
        match &other.standing {
            Some(standing) if standing.role() == Role::Replica => {
                self.chart.brake = standing.brake.clone();
                self.chart.released = standing.released;
                self.held = other;
                Ok(())
            }
            Some(standing) => Err(ReplicaError::Displaced { role: standing.role(), of: standing.of.clone() }),
            None => {
                let detail = "it was removed while this replica was being brought up to date";
                Err(ReplicaError::Strange { object: layout::STANDINGS.to_owned(), detail: detail.into() })
            }
        }
    }

    pub(crate) async fn write_standing(&mut self) -> Result<()> {
        self.heed_others().await?;
        let next = self.standing();
        let allowed = self.held.supersede(&self.replica, Side::Replica, &self.keys, &self.world, next).await?;
        if !allowed {
            // Each one stays for ever: fewer of them.
            self.options.note_every = self.options.note_every.max(Duration::from_secs(3600));
        }
        // At the same moment somebody may have promoted it. Who promotes looks again as well, and does not step back.
        if let Some(HeldStanding { standing: Some(other), .. }) =
            self.held.displaced(&self.replica, &self.keys, Side::Replica).await?
            && other.role() != Role::Replica
        {
            self.held.withdraw(&self.replica).await;
            return Err(ReplicaError::Displaced { role: other.role(), of: other.of });
        }
        self.chart = self.held.standing.clone().unwrap_or_default();
        self.noted = Some(Instant::now());
        Ok(())
    }

    /// The short way for a process that has just begun: the replica ends where the source ends, has the same newest root,
    /// and every claim and configuration. What stands at those ends is read, so that rubbish under the right names is
    /// not taken for the library.
    async fn nothing_new(&mut self, theirs: &Look) -> Result<bool> {
        let Some(standing) = &self.held.standing else { return Ok(false) };
        let due =
            (self.options.verify_within / 30).min(DAY).min((self.options.grace / 14).max(Duration::from_secs(60)));
        let since = self.world.now().seconds.saturating_sub(standing.time.seconds);
        if self.reached.segment.is_empty() || !standing.brake.is_empty() || since > due.as_secs() as i64 {
            return Ok(false);
        }
        let ours = Look::at(&*self.replica, Side::Replica, self.reached.lsn()).await?;
        let all = |wanted: &[ObjectMeta], there: &[ObjectMeta]| {
            wanted.iter().all(|one| there.iter().any(|other| (&other.name, other.bytes) == (&one.name, one.bytes)))
        };
        let newest = &theirs.roots[..theirs.roots.len().min(1)];
        if theirs.newest_root() != ours.newest_root()
            || !all(newest, &ours.roots)
            || !all(theirs.configs_in_force(), &ours.configs)
            || ours.configs_in_force().len() < ours.configs.len() && !self.options.keep_configs
            || !all(&theirs.claims, &ours.claims)
        {
            return Ok(false);
        }
        let root = match theirs.newest_root() {
            Some(name) => match self.reader.bare_root(name).await? {
                Ok((root, _)) => Some(root),
                Err(_) => return Ok(false),
            },
            None => None,
        };
        // What led to the root may stand in the source for a while, and never have been needed by the replica.
        let mut after = theirs.clone();
        after.begin_after(root.as_ref().map_or(Lsn(0), |root| Lsn(root.lsn)));
        if !all(&after.segments, &ours.segments) {
            return Ok(false);
        }
        match after.tip() {
            Some(tip) => Ok(tip == self.reached.segment && self.reader.link(tip).await?.is_some()),
            None => Ok(root.is_some_and(|root| root.segment == self.reached.segment)),
        }
    }

    async fn list_once(&mut self) -> Result<()> {
        if !self.listed {
            self.carrier.knows(Inventory::list(&*self.replica, Side::Replica).await?);
            self.listed = true;
        }
        Ok(())
    }

    /// Whether neither a root nor a segment is in the replica: whatever was noted, it stands nowhere.
    fn is_bare(&self) -> bool {
        let none = |there: &mut Inventory| {
            [layout::ROOTS, layout::SEGMENTS].iter().all(|prefix| there.below(prefix).next().is_none())
        };
        self.listed && self.carrier.inventory(none)
    }

    /// The end of the replica's own log: what it was noted to be, or what was put after that was written.
    async fn own_end(&mut self) -> Result<(Position, Option<Link>)> {
        let replica = Reader::new(self.replica.clone(), Side::Replica, &self.keys);
        let mut names: Vec<String> =
            self.carrier.inventory(|inventory| inventory.below(layout::SEGMENTS).map(str::to_owned).collect());
        names.retain(|name| rank(name) > self.reached.rank());
        names.sort_by_key(|name| std::cmp::Reverse(rank(name)));
        // Only what opens was put by a replicator: anybody who may write can make names.
        for name in names {
            if let Some(link) = replica.link(&name).await? {
                let tx = link.last_tx.unwrap_or(self.reached.tx);
                return Ok((Position { segment: name, tx, sealed_at: link.sealed_at }, Some(link)));
            }
        }
        let known = self.carrier.inventory(|inventory| inventory.has(&self.reached.segment));
        let link = if known { replica.link(&self.reached.segment).await? } else { None };
        let sealed_at = link.as_ref().map_or(self.reached.sealed_at, |link| link.sealed_at);
        Ok((Position { sealed_at, ..self.reached.clone() }, link))
    }

    /// Reads the source's newest state and brings it, again where something vanished from under it. `None` after a dry
    /// run.
    async fn bring_newest(
        &mut self,
        mut look: Look,
        mut from: Lsn,
        run: Run,
        summary: &mut Summary,
    ) -> Result<(Look, Option<State>)> {
        let (ours, own) = self.own_end().await?;
        self.reached = ours.clone();
        let mut passed_over: BTreeSet<Damage> = BTreeSet::new();
        let mut without: HashSet<String> = HashSet::new();
        for attempt in 1.. {
            let last = attempt >= TRIES;
            let mut usable = look.clone();
            usable.roots.retain(|root| !without.contains(root.name.as_str()));
            let state = self.reader.newest(&usable, from).await?;
            let again = !state.loose.is_empty() && !last;
            if !again {
                let accepted = self.accept(&state, &ours, own.as_ref()).await;
                match accepted {
                    // With a root that can't be taken over, an older one may not lead anywhere any more.
                    Err(ReplicaError::Odd(_)) if !without.is_empty() => {
                        summary.damaged.extend(passed_over);
                        return Ok((look, None));
                    }
                    accepted => {
                        if accepted? == lineage::Place::Beside {
                            let beside = format!(
                                "{ours}, the end of this replica's log, stands beside the history: another machine has taken \
                                 over before it. It was acknowledged to nobody, unless the source has lost its end"
                            );
                            if !summary.warnings.contains(&beside) {
                                summary.warnings.push(beside);
                            }
                        }
                    }
                }
                passed_over.extend(state.damaged.iter().cloned());
                passed_over.extend(state.loose_ends(Side::Source));
                summary.source = state.position();
                if let Some(root) = state.root.as_ref().filter(|_| !run.dry_run) {
                    self.pin.hold(&self.source, &self.keys, &self.world, &root.name).await;
                }
                let records = state.records();
                let needed = self.needed(&state, &records, false).await?;
                if run.dry_run {
                    (summary.objects, summary.bytes) = self.count_missing(&look, &state, &needed);
                    summary.damaged = passed_over.into_iter().collect();
                    self.chores(&state, run, summary).await?;
                    return Ok((look, None));
                }
                let brought = self.bring(&look, &state, &records, &needed).await?;
                if let Some(reached) = &brought.reached {
                    self.reached = reached.clone();
                }
                summary.delay_seconds = summary.delay_seconds.max(brought.delay_seconds);
                let vanished = !brought.gone.is_empty() && !last;
                if brought.without_root
                    && !vanished
                    && let Some(root) = &state.root
                {
                    without.insert(root.name.clone());
                }
                let at_source = |(name, detail): (&String, &String)| Damage::new(Side::Source, name, detail);
                passed_over.extend(brought.damaged.iter().map(at_source));
                if !vanished && (!brought.without_root || last) {
                    let gone = |name: &String| Damage::new(Side::Source, name, "it is needed, and is not there");
                    passed_over.extend(brought.gone.iter().map(gone));
                    passed_over.extend(needed.lost);
                    summary.damaged = passed_over.into_iter().collect();
                    return Ok((look, Some(state)));
                }
            }
            from = self.reader.base().unwrap_or(from).min(from);
            look = Look::at(&*self.source, Side::Source, from).await?;
            self.check_config(&look).await?;
        }
        unreachable!("the last attempt returns")
    }

    async fn accept(&self, state: &State, ours: &Position, own: Option<&Link>) -> Result<lineage::Place> {
        if state.is_empty() && !state.damaged.is_empty() {
            return Err(Oddity::Garbage { damaged: state.damaged.clone() }.into());
        }
        lineage::check(&self.reader, state, ours, own).await
    }

    /// What `state` needs. With `thorough`, also the shards of snapshots' roots that the replica has already.
    async fn needed(&mut self, state: &State, records: &Records, thorough: bool) -> Result<Needed> {
        let replica = Reader::new(self.replica.clone(), Side::Replica, &self.keys);
        let carrier = self.carrier.clone();
        let skip = |root: &str| !thorough && carrier.inventory(|inventory| inventory.has(root));
        let readers = [&self.reader, &replica];
        let needed = Needed::of(state, records, &readers, &mut self.bare_roots, skip).await?;
        self.bare_roots.retain(|name, _| needed.roots.contains_key(name) || !thorough);
        Ok(needed)
    }

    fn chores_are_due(&self, run: Run) -> bool {
        if !run.continuous {
            return true;
        }
        let every = (self.options.grace / 10).min(self.options.verify_within / 100).min(Duration::from_secs(3600));
        self.chores_done.is_none_or(|at| at.elapsed() >= every.max(Duration::from_secs(5)))
    }

    /// What is not about the newest changes: lost objects, deletions, reading back.
    async fn chores(&mut self, state: &State, run: Run, summary: &mut Summary) -> Result<()> {
        let records = state.records();
        let needed = self.needed(state, &records, true).await?;
        if !run.dry_run && self.looked.is_some() {
            self.check_ends(state).await?;
        }
        if !run.dry_run {
            self.bring_lost(&needed, &records, summary).await?;
            self.heed_others().await?;
        }
        // Only in the state whose records say so: then nothing that it needs can be among them.
        if run.dry_run || self.reached.segment == state.position().segment {
            self.delete_due(state, &records, &needed, run, summary).await?;
        }
        if !run.dry_run {
            self.read_back(&needed, &records, run, summary).await?;
        }
        let strange = self.carrier.inventory(|inventory| inventory.strange.clone());
        summary.strange = (strange.0 > 0).then_some(strange);
        if let Some(collection) = records.collection().filter(|collection| !collection.brake.is_empty()) {
            summary.warnings.push(format!("the library's own garbage collection is held back: {}", collection.brake));
        }
        Ok(())
    }

    /// Whether the objects at the source's ends are still themselves: names alone may hide rubbish.
    async fn check_ends(&mut self, state: &State) -> Result<()> {
        let mut ends: Vec<(&str, &Bytes)> = state.root.iter().map(|root| (root.name.as_str(), &root.body)).collect();
        ends.extend(state.links.last().map(|link| (link.name.as_str(), &link.body)));
        let mut damaged = Vec::new();
        for (name, body) in ends {
            match self.source.get(&object(name)).await {
                Ok(found) if found == *body => {}
                Ok(_) => damaged.push(Damage::new(Side::Source, name, "it is no more what it was")),
                // Superseded and removed since.
                Err(haven_store::StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error).at(Side::Source, format!("{name} can't be read")),
            }
        }
        if damaged.is_empty() { Ok(()) } else { Err(Oddity::Garbage { damaged }.into()) }
    }
}

/// How much older `behind` is, in seconds.
pub(crate) fn lag(ahead: &Position, behind: &Position) -> f64 {
    if ahead.segment == behind.segment || ahead.sealed_at == 0 || behind.sealed_at == 0 {
        return 0.0;
    }
    (ahead.sealed_at - behind.sealed_at).max(0) as f64 / 1e9
}
