//! Every byte of the replica is read again and verified within a set time, a part in each run.
//!
//! The standing keeps how far the round is: it goes through the names in their order. What is found damaged or missing
//! is copied again from the source, if it is right there.

use std::time::Duration;

use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};

use crate::{Damage, Replicator, Run, Side, Summary, carry::Outcome, error::Result, needs::Needed, records::Records};

/// A replicator that follows continuously reads no longer than this at a time.
const TURN: Duration = Duration::from_secs(20);
/// A round aims to end when this share of its time is over, so that late runs do no harm.
const EARLY: f64 = 0.9;

/// What was read in one run, and how far the rounds are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReadBack {
    pub objects: u64,
    pub bytes: u64,
    /// The round ended in this run.
    pub round_ended: bool,
    /// When a round last ended with every object right, seconds since the epoch; none: never yet.
    pub verified: Option<i64>,
    /// When the round that goes on began.
    pub round_began: Option<i64>,
}

impl Replicator {
    /// Reads what is due.
    pub(crate) async fn read_back(
        &mut self,
        needed: &Needed,
        records: &Records,
        run: Run,
        summary: &mut Summary,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            let (due, ends) = self.due_for_reading();
            let batch = due.into_iter().take(4 * self.options.parallel.max(1)).collect::<Vec<_>>();
            let Some(last) = batch.last().cloned() else {
                if ends {
                    self.end_round(summary);
                }
                return Ok(());
            };
            for (name, outcome) in self.inspect_all(batch, needed).await? {
                summary.read_back.objects += 1;
                match outcome {
                    Outcome::Done(bytes) => summary.read_back.bytes += bytes,
                    Outcome::Gone => self.mend(&name, "it is not there", needed, records, summary).await?,
                    Outcome::Damaged(detail) => self.mend(&name, &detail, needed, records, summary).await?,
                }
            }
            self.chart.cursor = last;
            if run.continuous && begun.elapsed() > TURN {
                // The next look is not kept waiting; this goes on right after it.
                self.chores_done = None;
                return Ok(());
            }
        }
    }

    /// What should have been read by now, in order; and whether nothing is left of the round.
    fn due_for_reading(&mut self) -> (Vec<String>, bool) {
        let now = self.world.now();
        let began = *self.chart.round_began.get_or_insert(now);
        let within = self.options.verify_within.as_secs_f64().max(1.0) * EARLY;
        let share = ((now.seconds - began.seconds).max(0) as f64 / within).min(1.0);
        self.carrier.inventory(|inventory| {
            let target = share * inventory.bytes() as f64;
            let mut before = 0;
            let mut due = Vec::new();
            for (name, bytes) in inventory.iter() {
                if name > self.chart.cursor.as_str() {
                    if before as f64 >= target && share < 1.0 {
                        return (due, false);
                    }
                    due.push(name.to_owned());
                }
                before += bytes;
            }
            let ends = due.is_empty() && share >= 1.0;
            (due, ends)
        })
    }

    async fn inspect_all(&self, names: Vec<String>, needed: &Needed) -> Result<Vec<(String, Outcome<u64>)>> {
        let mut under_way: JoinSet<Result<(String, Outcome<u64>)>> = JoinSet::new();
        let mut out = Vec::new();
        let mut queue = names.into_iter();
        loop {
            while under_way.len() < self.options.parallel.max(1) {
                let Some(name) = queue.next() else { break };
                let hash = needed.shards.get(&name).map(|(_, hash)| hash.clone());
                let carrier = self.carrier.clone();
                under_way.spawn(async move {
                    let outcome = carrier.inspect(&name, hash.as_deref()).await?;
                    Ok((name, outcome))
                });
            }
            match under_way.join_next().await {
                None => return Ok(out),
                Some(Ok(done)) => out.push(done?),
                Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Some(Err(_)) => {}
            }
        }
    }

    /// Copies a damaged or lost object again.
    async fn mend(
        &mut self,
        name: &str,
        detail: &str,
        needed: &Needed,
        records: &Records,
        summary: &mut Summary,
    ) -> Result<()> {
        let hash = needed.shards.get(name).map(|(_, hash)| hash.clone());
        let why = match self.carrier.carry_read(name, 0, hash.as_deref()).await? {
            Outcome::Done(()) => {
                tracing::warn!(object = name, detail, "an object of the replica was damaged, and is mended");
                summary.mended.push(name.to_owned());
                return Ok(());
            }
            Outcome::Gone => "and the source has it no more".to_owned(),
            Outcome::Damaged(other) => format!("and in the source too ({other})"),
        };
        if records.is_dead(name) {
            // Kept for the grace time only.
            summary.warnings.push(format!("{name}, which the library has deleted, is damaged here: {detail}"));
            return Ok(());
        }
        self.chart.damaged += 1;
        summary.damaged.push(Damage::new(Side::Replica, name, format!("{detail}, {why}")));
        Ok(())
    }

    fn end_round(&mut self, summary: &mut Summary) {
        let now = self.world.now();
        if self.chart.damaged == 0 {
            self.chart.verified = Some(now);
        }
        self.chart.round_began = Some(now);
        self.chart.cursor = String::new();
        self.chart.damaged = 0;
        summary.read_back.round_ended = true;
    }
}
