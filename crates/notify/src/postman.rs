//! Delivers what is in the outbox: five tries a channel, then the next one in the chain, and from the beginning again
//! after a while. A service that asks to be left alone is left alone. Channels don't wait for one another; within one,
//! messages go in order. What can't be told for two weeks is given up, way by way; and what was told otherwise does not wait
//! for channels that the settings have no more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;

use crate::{
    channel::{Channel, Receipt, SendError},
    http::Http,
    message::{Message, Severity},
    outbox::{Delivery, Letter, Outbox, OutboxError},
};

/// Tries with one channel before the next one has its turn.
const TRIES: u32 = 5;
/// Pauses between them.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(60)];
/// After all channels have failed.
const ROUND_PAUSE: Duration = Duration::from_secs(15 * 60);
/// The longest that a service may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// What could not be told on one of its ways for so long is given up there, and that is logged.
const GIVE_UP: Duration = Duration::from_secs(14 * 86_400);
/// The same channel gets no two messages in less.
const SPACING: Duration = Duration::from_millis(1100);

/// Who is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Each of these, and the least weight it is told of.
    pub to: Vec<(String, Severity)>,
    /// In the stead of one that fails, in this order.
    pub otherwise: Vec<String>,
}

impl Route {
    /// The message with the ways it takes. Without any way it is for the log alone.
    pub fn letter(&self, message: Message, now: i64) -> Letter {
        let wanted = self.to.iter().filter(|(_, least)| message.weight.unwrap_or(message.severity) >= *least);
        let deliveries = wanted.map(|(name, _)| {
            let rest = self.otherwise.iter().filter(|other| *other != name).cloned();
            Delivery::new(std::iter::once(name.clone()).chain(rest).collect(), now)
        });
        Letter { deliveries: deliveries.collect(), message, created: now, given_up: false }
    }
}

/// Tells the time in milliseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Delivers. One a process, and by [`Outbox::lock`] one an outbox.
pub struct Postman {
    outbox: Outbox,
    channels: Mutex<Arc<Vec<Channel>>>,
    http: Http,
    clock: Clock,
    writing: Mutex<()>,
    /// Channels that asked to be left alone, or were told just now, and until when.
    resting: Mutex<BTreeMap<String, i64>>,
    spacing: Duration,
}

impl Postman {
    pub fn new(outbox: Outbox, channels: Vec<Channel>, http: Http, clock: Clock) -> Self {
        let channels = Mutex::new(Arc::new(channels));
        Self { outbox, channels, http, clock, writing: Mutex::new(()), resting: Mutex::default(), spacing: SPACING }
    }

    /// With another pause between two messages to one channel.
    pub fn spaced(self, spacing: Duration) -> Self {
        Self { spacing, ..self }
    }

    /// From now on these are the channels.
    pub fn use_channels(&self, channels: Vec<Channel>) {
        *self.channels.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(channels);
    }

    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Tries all that is due. Returns when the next try is due, milliseconds since the epoch.
    pub async fn pump(&self) -> Result<Option<i64>, OutboxError> {
        let now = (self.clock)();
        let mut letters = self.outbox.waiting()?;
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let has = |delivery: &Delivery| delivery.chain.iter().any(|name| channels.iter().any(|one| one.name == *name));
        let mut due: BTreeMap<String, Vec<(String, usize)>> = BTreeMap::new();
        for letter in &mut letters {
            let needless = letter.is_told() || is_old(letter, now);
            for delivery in
                letter.deliveries.iter_mut().filter(|delivery| needless && delivery.is_open() && !has(delivery))
            {
                delivery.dropped = true;
            }
            if !letter.is_open() {
                // Nobody is to be told, or nobody more; or it ended between two notes.
                letter.given_up |= !letter.deliveries.is_empty() && !letter.is_told();
                self.outbox.finish(letter)?;
                continue;
            }
            // The settings may have its channels again tomorrow: where nobody was told, it waits for that.
            for (index, delivery) in letter.deliveries.iter().enumerate().filter(|(_, delivery)| has(delivery)) {
                if delivery.is_open() && has_come(delivery.next, now) {
                    let channel = delivery.chain.get(delivery.turn).cloned().unwrap_or_default();
                    due.entry(channel).or_default().push((letter.message.id.clone(), index));
                }
            }
        }
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        due.retain(|channel, _| resting.get(channel).is_none_or(|until| has_come(*until, now)));
        let rounds = due.into_iter().map(|(channel, list)| self.tour(channel, list));
        join_all(rounds).await.into_iter().collect::<Result<Vec<()>, _>>()?;
        let open = self.outbox.waiting()?;
        let open = open.iter().flat_map(|letter| &letter.deliveries).filter(|one| one.is_open() && has(one));
        Ok(open.map(|delivery| delivery.next.min(now + PAUSE_MAX.as_millis() as i64)).min())
    }

    /// Tries each way of a letter that is due, once, and notes nothing on the disk: for one that the outbox can't take. What
    /// came of it is in the letter.
    pub async fn hand_over(&self, letter: &mut Letter) {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let message = letter.message.clone();
        for delivery in &mut letter.deliveries {
            if !delivery.is_open() || !has_come(delivery.next, (self.clock)()) {
                continue;
            }
            let name = delivery.chain.get(delivery.turn).cloned().unwrap_or_default();
            let sent = self.send(&channels, &name, &message, delivery).await;
            match sent {
                Ok(receipt) => delivery.receipt = Some(receipt),
                Err(error) => failed(delivery, &error, (self.clock)(), &channels),
            }
            tokio::time::sleep(self.spacing).await;
        }
        share(letter);
    }

    async fn send(
        &self,
        channels: &[Channel],
        name: &str,
        message: &Message,
        delivery: &Delivery,
    ) -> Result<Receipt, SendError> {
        let sent = match channels.iter().find(|one| one.name == name) {
            Some(found) => found.send(&self.http, &worded(message, delivery)).await,
            None => Err(SendError::Never { why: "the settings have no such channel any more".into() }),
        };
        match &sent {
            Ok(_) => tracing::info!(message = message.id, channel = name, "told"),
            Err(error) => tracing::warn!(message = message.id, channel = name, %error, "could not be told"),
        }
        sent
    }

    /// One channel's due messages, in order.
    async fn tour(&self, channel: String, list: Vec<(String, usize)>) -> Result<(), OutboxError> {
        for (nth, (id, index)) in list.into_iter().enumerate() {
            if nth > 0 {
                tokio::time::sleep(self.spacing).await;
            }
            let ended = self.attempt(&channel, &id, index).await?;
            // The next look may come at once: the pause holds for it, too.
            let until = (self.clock)() + self.spacing.as_millis() as i64;
            self.resting.lock().unwrap_or_else(PoisonError::into_inner).insert(channel.clone(), until);
            if let Some(SendError::Later { after, .. }) = ended {
                // What it did not take now it won't take for the next message either.
                let until =
                    (self.clock)() + after.unwrap_or_default().min(PAUSE_MAX).max(self.spacing).as_millis() as i64;
                self.resting.lock().unwrap_or_else(PoisonError::into_inner).insert(channel, until);
                break;
            }
        }
        Ok(())
    }

    async fn attempt(&self, channel: &str, id: &str, index: usize) -> Result<Option<SendError>, OutboxError> {
        let Some(letter) = self.note(id, |letter| letter.deliveries[index].in_hand = true, true)? else {
            return Ok(None);
        };
        let delivery = &letter.before;
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = self.send(&channels, channel, &letter.letter.message, &delivery[index]).await;
        let now = (self.clock)();
        let error = sent.as_ref().err().cloned();
        let noted = self.note(
            id,
            |letter| {
                let old = is_old(letter, now);
                let delivery = &mut letter.deliveries[index];
                delivery.in_hand = false;
                match sent {
                    Ok(receipt) => delivery.receipt = Some(receipt),
                    Err(error) => {
                        failed(delivery, &error, now, &channels);
                        delivery.dropped = old;
                    }
                }
                share(letter);
                letter.given_up = !letter.is_open() && !letter.is_told();
            },
            false,
        )?;
        if let Some(Noted { letter, .. }) = noted {
            if letter.given_up {
                tracing::error!(message = id, "given up after two weeks: nobody could be told");
            }
            if !letter.is_open() {
                self.outbox.finish(&letter)?;
            }
        }
        Ok(error)
    }

    /// Changes a letter on the disk. `None`: it is gone.
    fn note(&self, id: &str, change: impl FnOnce(&mut Letter), fresh: bool) -> Result<Option<Noted>, OutboxError> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut letter) = self.outbox.find(id) else { return Ok(None) };
        let before = letter.deliveries.clone();
        change(&mut letter);
        if fresh || letter.deliveries != before || letter.given_up {
            self.outbox.save(&letter)?;
        }
        Ok(Some(Noted { letter, before }))
    }
}

struct Noted {
    letter: Letter,
    before: Vec<Delivery>,
}

/// Whether a time to wait for has come; or can't be meant: the clock was set back since it was reckoned.
fn has_come(at: i64, now: i64) -> bool {
    at <= now || at > now + PAUSE_MAX.as_millis() as i64
}

fn is_old(letter: &Letter, now: i64) -> bool {
    now - letter.created > GIVE_UP.as_millis() as i64
}

/// What goes out: the message, and what its reader should know about its way.
fn worded(message: &Message, delivery: &Delivery) -> Message {
    let mut message = message.clone();
    let mut add = |text: String| {
        message.body = if message.body.is_empty() { text } else { format!("{}\n{text}", message.body) };
    };
    for (channel, why) in delivery.failures.iter().filter(|_| delivery.turn > 0) {
        add(format!("({channel} could not be told: {why})"));
    }
    if delivery.in_hand {
        add("(Perhaps told before: the teller was stopped in the middle of it.)".into());
    }
    message
}

fn failed(delivery: &mut Delivery, error: &SendError, now: i64, channels: &[Channel]) {
    let name = delivery.chain.get(delivery.turn).cloned().unwrap_or_default();
    delivery.failures.retain(|(other, _)| *other != name);
    delivery.failures.push((name, error.to_string()));
    delivery.tries += 1;
    let asked = match error {
        SendError::Later { after, .. } => *after,
        SendError::Never { .. } => None,
    };
    let over = matches!(error, SendError::Never { .. }) || delivery.tries >= TRIES;
    let pause = if !over {
        let usual = PAUSES[(delivery.tries as usize - 1).min(PAUSES.len() - 1)];
        asked.map_or(usual, |asked| asked.clamp(Duration::from_millis(100), PAUSE_MAX))
    } else {
        delivery.tries = 0;
        delivery.turn += 1;
        while delivery.chain.get(delivery.turn).is_some_and(|next| !channels.iter().any(|one| one.name == *next)) {
            delivery.turn += 1;
        }
        if delivery.turn < delivery.chain.len() {
            Duration::ZERO
        } else {
            delivery.turn = 0;
            ROUND_PAUSE
        }
    };
    delivery.next = now + pause.as_millis() as i64;
}

/// A stand-in that was told once need not be told once more in another's stead.
fn share(letter: &mut Letter) {
    let receipts: Vec<_> = letter.deliveries.iter().filter_map(|delivery| delivery.receipt.clone()).collect();
    for delivery in letter.deliveries.iter_mut().filter(|delivery| delivery.is_open() && delivery.turn > 0) {
        let next = delivery.chain.get(delivery.turn);
        delivery.receipt = receipts.iter().find(|receipt| Some(&receipt.channel) == next).cloned();
    }
}
