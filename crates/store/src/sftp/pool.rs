//! A few connections, made when they are needed and again when they were cut.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::{config::Target, session::Session, ssh};
use crate::port::{Advice, StoreError};

/// After a failed connection nobody tries again for so long: many wait for one, and a server that counts
/// refused logins must not be asked by each of them.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(3);

/// Connections to one target.
#[derive(Debug)]
pub(super) struct Pool {
    target: Arc<Target>,
    slots: Vec<Slot>,
    failed: Mutex<Option<(Instant, StoreError)>>,
}

#[derive(Debug, Default)]
struct Slot {
    session: AsyncMutex<Option<Arc<Session>>>,
    /// Verbs that use it now.
    users: Arc<AtomicUsize>,
}

/// A connection for one verb.
#[derive(Debug)]
pub(super) struct Lease {
    session: Arc<Session>,
    _user: User,
}

impl Lease {
    pub(super) fn shared(&self) -> Arc<Session> {
        self.session.clone()
    }
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

#[derive(Debug)]
struct User(Arc<AtomicUsize>);

impl User {
    fn of(users: &Arc<AtomicUsize>) -> Self {
        users.fetch_add(1, Relaxed);
        Self(users.clone())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    pub(super) fn new(target: Arc<Target>) -> Self {
        let slots = (0..target.connections).map(|_| Slot::default()).collect();
        Self { target, slots, failed: Mutex::new(None) }
    }

    /// The connection with the fewest users, made if there is none.
    pub(super) async fn lease(&self) -> Result<Lease, StoreError> {
        // There is at least one.
        let (mut slot, mut fewest) = (&self.slots[0], usize::MAX);
        for candidate in &self.slots {
            let users = candidate.users.load(Relaxed);
            if users < fewest {
                (slot, fewest) = (candidate, users);
            }
        }
        let user = User::of(&slot.users);
        let mut held = slot.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| session.is_alive()) {
            return Ok(Lease { session: session.clone(), _user: user });
        }
        if let Some(error) = self.just_failed() {
            return Err(error);
        }
        match ssh::connect(&self.target).await {
            Ok(session) => {
                *self.failed.lock() = None;
                let session = held.insert(Arc::new(session)).clone();
                Ok(Lease { session, _user: user })
            }
            Err(error) => {
                *held = None;
                *self.failed.lock() = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn just_failed(&self) -> Option<StoreError> {
        let failed = self.failed.lock();
        let (at, error) = failed.as_ref()?;
        let pause = if error.advice() == Advice::Setting { PAUSE_AFTER_REFUSAL } else { PAUSE_AFTER_FAILURE };
        (at.elapsed() < pause).then(|| error.clone())
    }
}
