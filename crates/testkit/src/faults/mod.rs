//! A store that misbehaves on order.
//!
//! [`Faults`] wraps any store; [`FaultHandle`] gives the orders while the store is in use:
//! - **weather** ([`Weather`]): the store is down, hangs, is full, … until told otherwise;
//! - **orders** ([`Order`]): this fault, at the next request that fits, so many times;
//! - **rates** ([`Rates`]): each fault with a probability, from a seeded generator.
//!
//! Promises: the same seed, orders and sequence of requests give the same faults; time passes only
//! through `tokio::time` (so paused time works); a fault before the effect has no effect, and
//! [`Fault::FailAfter`] has it whole. Damage in an answer (cut, flipped) leaves the object alone.

mod orders;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use haven_store::{DynStore, ListPage, Location, ObjectMeta, ObjectName, PutMode, Store, StoreError, meter::Verb};
pub use orders::{Fault, Order, Rates, Weather};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How many of the newest names a stale listing leaves out.
const STALE_NAMES: usize = 8;

/// A decorator that does harm.
#[derive(Debug)]
pub struct Faults {
    inner: DynStore,
    control: FaultHandle,
}

/// Gives the orders and tells what was done.
#[derive(Debug, Clone)]
pub struct FaultHandle(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    dice: ChaCha8Rng,
    rates: Rates,
    weather: Weather,
    orders: Vec<Order>,
    newest: VecDeque<String>,
    requests: u64,
    done: Vec<Incident>,
}

/// One fault that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// Which request it hit, counted from 1.
    pub request: u64,
    pub verb: Verb,
    /// The object's name, or the prefix of a listing.
    pub name: String,
    pub fault: Fault,
}

impl Faults {
    /// Wraps `inner`; without orders it is as good as `inner`.
    pub fn new(inner: DynStore, seed: u64) -> (Self, FaultHandle) {
        let control = FaultHandle(Arc::new(Mutex::new(State {
            dice: ChaCha8Rng::seed_from_u64(seed),
            rates: Rates::default(),
            weather: Weather::Fine,
            orders: Vec::new(),
            newest: VecDeque::new(),
            requests: 0,
            done: Vec::new(),
        })));
        (Self { inner, control: control.clone() }, control)
    }
}

impl FaultHandle {
    pub fn set_rates(&self, rates: Rates) {
        self.0.lock().rates = rates;
    }

    pub fn set_weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    /// Everything fails, or not, until told otherwise.
    pub fn set_down(&self, down: bool) {
        self.set_weather(if down { Weather::Down } else { Weather::Fine });
    }

    /// Adds an order behind those that wait.
    pub fn order(&self, order: Order) {
        self.0.lock().orders.push(order);
    }

    /// Fine weather, no orders, no rates.
    pub fn calm(&self) {
        let mut state = self.0.lock();
        (state.weather, state.rates) = (Weather::Fine, Rates::default());
        state.orders.clear();
    }

    /// Requests that came so far.
    pub fn requests(&self) -> u64 {
        self.0.lock().requests
    }

    /// Orders not yet used up.
    pub fn waiting(&self) -> usize {
        self.0.lock().orders.len()
    }

    /// Every fault done, in order. (Bad weather is not listed.)
    pub fn incidents(&self) -> Vec<Incident> {
        self.0.lock().done.clone()
    }

    /// How often each fault was done, by [`Fault::as_str`].
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for incident in &self.0.lock().done {
            *counts.entry(incident.fault.as_str()).or_default() += 1;
        }
        counts
    }

    /// What this request meets: a delay, and perhaps a fault. Always the same number of dice.
    fn decide(&self, verb: Verb, name: &str) -> (Duration, Option<Fault>) {
        let state = &mut *self.0.lock();
        state.requests += 1;
        let delay = state.rates.delay(state.dice.random());
        let by_chance = state.rates.pick(verb, state.dice.random());
        let ordered = orders::take(&mut state.orders, verb, name);
        let fault = ordered.or(by_chance);
        if let Some(fault) = &fault {
            let (request, name, fault) = (state.requests, name.to_owned(), fault.clone());
            state.done.push(Incident { request, verb, name, fault });
        }
        (delay, fault)
    }

    /// Waits and fails as the weather, the dice and the orders say; else returns what is left to do.
    async fn meet(&self, verb: Verb, name: &str) -> Result<Option<Fault>, StoreError> {
        let weather = self.0.lock().weather;
        weather.pass(verb).await?;
        let (delay, fault) = self.decide(verb, name);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match fault {
            Some(Fault::Slow(by)) => {
                tokio::time::sleep(by).await;
                Ok(None)
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(fault) => match fault.error_before(name) {
                Some(error) => Err(error),
                None => Ok(Some(fault)),
            },
            None => Ok(None),
        }
    }

    fn damage(&self, fault: Option<&Fault>, body: Bytes) -> Bytes {
        if body.is_empty() {
            return body;
        }
        let at = self.0.lock().dice.random_range(0..body.len());
        match fault {
            Some(Fault::CutShort) => body.slice(..at),
            Some(Fault::FlipByte) => {
                let mut flipped = body.to_vec();
                flipped[at] ^= 1 << (at % 8);
                flipped.into()
            }
            _ => body,
        }
    }

    fn note_put(&self, name: &ObjectName) {
        let newest = &mut self.0.lock().newest;
        newest.push_back(name.to_string());
        if newest.len() > STALE_NAMES {
            newest.pop_front();
        }
    }
}

/// Turns a success into a lost answer where that was the order.
fn after<T>(fault: Option<&Fault>, result: Result<T, StoreError>) -> Result<T, StoreError> {
    match fault {
        Some(Fault::FailAfter) => {
            result?;
            Err(orders::unavailable("the answer was lost"))
        }
        _ => result,
    }
}

#[async_trait]
impl Store for Faults {
    fn describe(&self) -> String {
        format!("faulty {}", self.inner.describe())
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let fault = self.control.meet(Verb::Put, name.as_str()).await?;
        let result = self.inner.put(name, body, mode).await;
        if result.is_ok() {
            self.control.note_put(name);
        }
        after(fault.as_ref(), result)
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let fault = self.control.meet(Verb::Get, name.as_str()).await?;
        let body = after(fault.as_ref(), self.inner.get(name).await)?;
        Ok(self.control.damage(fault.as_ref(), body))
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let fault = self.control.meet(Verb::GetRange, name.as_str()).await?;
        let body = after(fault.as_ref(), self.inner.get_range(name, range).await)?;
        Ok(self.control.damage(fault.as_ref(), body))
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        let fault = self.control.meet(Verb::Head, name.as_str()).await?;
        after(fault.as_ref(), self.inner.head(name).await)
    }

    async fn list(&self, prefix: &str, after_name: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let fault = self.control.meet(Verb::List, prefix).await?;
        let mut page = after(fault.as_ref(), self.inner.list(prefix, after_name, limit).await)?;
        if fault == Some(Fault::StaleList) {
            let newest = self.control.0.lock().newest.clone();
            page.objects.retain(|object| !newest.iter().any(|n| n == object.name.as_str()));
        }
        Ok(page)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let fault = self.control.meet(Verb::Delete, name.as_str()).await?;
        after(fault.as_ref(), self.inner.delete(name).await)
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        let fault = self.control.meet(Verb::Copy, to.as_str()).await?;
        let result = self.inner.copy(from, to).await;
        if result.is_ok() {
            self.control.note_put(to);
        }
        after(fault.as_ref(), result)
    }

    fn locate(&self) -> Option<Location> {
        self.inner.locate()
    }

    fn copies_from(&self, source: &Location) -> bool {
        self.inner.copies_from(source)
    }

    async fn copy_from(&self, source: &Location, name: &ObjectName) -> Result<(), StoreError> {
        let fault = self.control.meet(Verb::Copy, name.as_str()).await?;
        let result = self.inner.copy_from(source, name).await;
        if result.is_ok() {
            self.control.note_put(name);
        }
        after(fault.as_ref(), result)
    }
}
