//! `haven replica sync`: once, or for ever.

use std::time::Duration;

use haven_replica::{ReplicaError, Replicator, Run, Summary};
use haven_store::human;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use super::{Context, Opened, bar, damage_lines, damaged_trouble, open, rate, replica_trouble, warn_all, world};
use crate::{
    report::{self, Code, Trouble},
    secret::KeyArgs,
    words,
};

/// After a failure the next look is put off by so much at most.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Bring a replica up to date
///
/// Copies what is missing, newest state last, so that the replica can be mounted at every moment. Interrupted, it goes on
/// where it was. Each run also reads back a part of what was copied before, and deletes what the library has deleted
/// long enough ago. With --continuous it looks again and again, until it is told to stop.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven replica sync home\n  haven replica sync home --dry-run\n  haven replica sync home --continuous --every 5s --limit 20MB\n\nExit codes: 0 up to date; 6 something in the source or the replica is damaged; 10 the source is not what it was, or\ndeletions are held back"
)]
pub struct SyncArgs {
    name: String,
    /// Go on until told to stop
    #[arg(long, conflicts_with = "dry_run")]
    continuous: bool,
    /// With --continuous: look so often [default: replica.every in haven.toml]
    #[arg(long, value_name = "TIME", value_parser = human::parse_duration)]
    every: Option<Duration>,
    /// With --continuous: say so when the replica is further behind than this [default: replica.lag in haven.toml]
    #[arg(long, value_name = "TIME", value_parser = human::parse_duration)]
    lag: Option<Duration>,
    /// Send no more bytes a second than this: 20MB
    #[arg(long, value_name = "SIZE", value_parser = human::parse_bytes)]
    limit: Option<u64>,
    /// Only tell what would be sent and deleted
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Delete what is due although far more than usual would go
    #[arg(long)]
    release_brake: bool,
    #[command(flatten)]
    key: KeyArgs,
}

pub async fn run(context: &Context, args: SyncArgs) -> Result<(), Trouble> {
    let opened = open(context, &args.name, &args.key).await?;
    if let Some(limit) = args.limit {
        opened.replica.limits.set_upload_rate(limit);
    }
    let (bar, progress) = bar("copying");
    let mut replicator = Replicator::new(
        opened.source.store.clone(),
        opened.replica.store.clone(),
        &opened.keys,
        world(),
        opened.options(&args.name),
        Some(progress),
    );
    let run = Run { release_brake: args.release_brake, dry_run: args.dry_run, continuous: args.continuous };
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let outcome = if args.continuous {
        follow(context, &args, &opened, &mut replicator, run, stop).await
    } else {
        let outcome = tokio::select! {
            outcome = replicator.sync(run) => Some(outcome),
            () = stop => None,
        };
        bar.finish_and_clear();
        match outcome {
            Some(Ok(summary)) => tell(context, &args, &opened, &summary),
            Some(Err(error)) => Err(replica_trouble(&args.name, &error)),
            None => Err(Trouble::new(Code::Unfinished, "told to stop before the replica was up to date")
                .meaning("what was copied is right and stays; the next run goes on from there")),
        }
    };
    // The lease is taken back whatever happened; where that fails, it runs out by itself.
    if let Err(error) = replicator.finish().await
        && outcome.is_ok()
    {
        return Err(replica_trouble(&args.name, &error));
    }
    outcome
}

/// Ends when this process is asked to.
fn stop_signal() -> Result<impl Future<Output = ()>, Trouble> {
    let trouble = |error| Trouble::new(Code::Local, "signals can't be waited for").caused_by(&error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(trouble)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(trouble)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// What a run did, as an answer; and the trouble it found.
fn tell(context: &Context, args: &SyncArgs, opened: &Opened, summary: &Summary) -> Result<(), Trouble> {
    let mut value = serde_json::to_value(summary).unwrap_or_default();
    value["name"] = args.name.clone().into();
    value["requests"] = opened.requests().into();
    value["mib_per_second"] = (summary.bytes as f64 / summary.seconds.max(1e-9) / f64::from(1 << 20)).into();
    context.answer(&value, &told(args, opened, summary))?;
    if !context.json {
        warn_all(&summary.warnings);
    }
    if !summary.damaged.is_empty() {
        let meaning = "the replica was brought as far as that allows; nothing damaged was copied";
        return Err(damaged_trouble(
            &summary.damaged,
            meaning,
            "haven check --repair    in the library puts back what anybody has",
        ));
    }
    if !summary.brake.is_empty() {
        return Err(Trouble::new(Code::Held, format!("deletions on the replica {} are held back", args.name))
            .because(summary.brake.clone())
            .meaning("the replica is up to date and keeps everything: that is what a mistake or an attack looks like")
            .next(format!("haven replica sync {} --release-brake --dry-run    tells how much would go", args.name))
            .next(format!("haven replica sync {} --release-brake    lets it go, if it was meant", args.name)));
    }
    Ok(())
}

fn told(args: &SyncArgs, opened: &Opened, summary: &Summary) -> String {
    let sent = format!("{}, {}", words::count(summary.objects as usize, "object"), words::bytes(summary.bytes));
    let deleted = &summary.deletions;
    let gone = format!("{}, {}", words::count(deleted.objects as usize, "object"), words::bytes(deleted.bytes));
    if args.dry_run {
        return format!("would be sent     {sent}\nwould be deleted  {gone}\n");
    }
    let mut out = damage_lines(&summary.damaged);
    let speed = rate(summary.bytes, summary.seconds);
    let mut row = |name: &str, value: String| out += &format!("{name:<10}{value}\n");
    row("sent", format!("{sent} in {:.1} s{speed}, {} requests", summary.seconds, opened.requests()));
    row("stands at", format!("{}{}", summary.position, behind(summary)));
    if deleted.objects > 0 {
        row("deleted", gone);
    }
    if deleted.waiting_objects > 0 {
        let waiting = words::count(deleted.waiting_objects as usize, "object");
        row("kept yet", format!("{waiting}, {}, that the library has deleted", words::bytes(deleted.waiting_bytes)));
    }
    let read = &summary.read_back;
    if read.objects > 0 {
        let again = words::count(read.objects as usize, "object");
        row("read back", format!("{again}, {}, and right", words::bytes(read.bytes)));
    }
    for name in &summary.mended {
        row("mended", name.clone());
    }
    if let Some((count, example)) = &summary.strange {
        row("strangers", format!("{}, {example} for one: left alone", words::count(*count, "object")));
    }
    out
}

fn behind(summary: &Summary) -> String {
    if summary.position.segment == summary.source.segment {
        return ", where the source ends".into();
    }
    format!("; the source is {:.0} s further, at {}", summary.lag_seconds, summary.source)
}

/// Looks again and again. Ends well when told to stop, and with trouble where looking again would be no use.
async fn follow(
    context: &Context,
    args: &SyncArgs,
    opened: &Opened,
    replicator: &mut Replicator,
    mut run: Run,
    mut stop: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Trouble> {
    let common = &opened.config.common;
    let every = args.every.unwrap_or(common.every);
    let mut watch = Watch { goal: args.lag.unwrap_or(common.lag), well: Instant::now(), late: false };
    let mut failures = 0_u32;
    let mut told = String::new();
    loop {
        let begun = Instant::now();
        let outcome = tokio::select! {
            outcome = replicator.sync(run) => outcome,
            () = &mut stop => return Ok(()),
        };
        let pause = match outcome {
            Ok(summary) => {
                failures = 0;
                run.release_brake = false;
                watch.look(&args.name, begun, &summary);
                note(context, &args.name, &summary, &mut told)?;
                every
            }
            Err(error @ ReplicaError::Store { .. }) => {
                failures += 1;
                report::warn(format!("{error}; looking again"));
                watch.trouble(&args.name);
                every.saturating_mul(1 << failures.min(6)).min(PAUSE_MAX.max(every))
            }
            Err(error) => return Err(replica_trouble(&args.name, &error)),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut stop => return Ok(()),
        }
    }
}

/// Whether the replica is as near as it should be.
struct Watch {
    goal: Duration,
    /// When a look last began that ended with the replica up to date.
    well: Instant,
    late: bool,
}

impl Watch {
    fn look(&mut self, name: &str, begun: Instant, summary: &Summary) {
        if summary.position.segment == summary.source.segment {
            self.well = begun;
            if self.late {
                report::note(format!("the replica {name} has caught up"));
            }
            self.late = false;
        }
        if Duration::try_from_secs_f64(summary.delay_seconds).is_ok_and(|delay| delay > self.goal) {
            report::warn(format!(
                "the replica {name} was {:.0} s behind; it should never be more than {}",
                summary.delay_seconds,
                human::show_duration(self.goal)
            ));
        }
        self.trouble(name);
    }

    fn trouble(&mut self, name: &str) {
        let behind = self.well.elapsed();
        if behind > self.goal && !self.late {
            self.late = true;
            report::warn(format!("the replica {name} has not been up to date for {:.0} s", behind.as_secs_f64()));
        }
    }
}

/// A line for each run that did something; and each new trouble once.
fn note(context: &Context, name: &str, summary: &Summary, told: &mut String) -> Result<(), Trouble> {
    if !summary.idle() {
        let mut value = serde_json::to_value(summary).unwrap_or_default();
        value["name"] = name.into();
        value["time"] = words::iso(words::now()).into();
        let line = format!(
            "{}  {}: {}, {} in {:.1} s; {:.1} s old when it came\n",
            words::moment(words::now()),
            summary.position,
            words::count(summary.objects as usize, "object"),
            words::bytes(summary.bytes),
            summary.seconds,
            summary.delay_seconds,
        );
        context.line(&value, &line)?;
    }
    let mut trouble: Vec<String> = summary.damaged.iter().map(ToString::to_string).collect();
    trouble.extend(summary.warnings.iter().cloned());
    if !summary.brake.is_empty() {
        trouble.push(format!("deletions are held back: {}", summary.brake));
    }
    let trouble = trouble.join("\n");
    if trouble != *told {
        trouble.lines().for_each(report::warn);
        *told = trouble;
    }
    Ok(())
}
