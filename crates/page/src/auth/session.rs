//! Who is logged in. Sessions are known to this process alone: a restart, or logging out, ends them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use data_encoding::BASE64URL_NOPAD;
use parking_lot::Mutex;

use super::token::sha256;

/// More than a household has open; the oldest one makes room.
const SESSIONS_MAX: usize = 256;

/// What a browser keeps.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId(String);

impl SessionId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Ids by their digests, so that what is looked up can't be guessed by timing.
#[derive(Debug)]
pub struct Sessions {
    ends: Mutex<HashMap<[u8; 32], Instant>>,
    lasts: Duration,
}

impl Sessions {
    pub fn new(lasts: Duration) -> Self {
        Self { ends: Mutex::default(), lasts }
    }

    pub fn lasts(&self) -> Duration {
        self.lasts
    }

    pub fn open(&self, now: Instant) -> SessionId {
        let id = SessionId(BASE64URL_NOPAD.encode(&random()));
        let mut ends = self.ends.lock();
        ends.retain(|_, end| *end > now);
        if ends.len() >= SESSIONS_MAX
            && let Some(oldest) = ends.iter().min_by_key(|(_, end)| **end).map(|(id, _)| *id)
        {
            ends.remove(&oldest);
        }
        ends.insert(sha256(id.0.as_bytes()), now + self.lasts);
        id
    }

    pub fn holds(&self, id: &str, now: Instant) -> bool {
        self.ends.lock().get(&sha256(id.as_bytes())).is_some_and(|end| *end > now)
    }

    pub fn close(&self, id: &str) {
        self.ends.lock().remove(&sha256(id.as_bytes()));
    }
}

/// 32 bytes nobody can guess.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_itself_and_on_order() {
        let (sessions, now) = (Sessions::new(Duration::from_secs(60)), Instant::now());
        let (one, two) = (sessions.open(now), sessions.open(now));
        assert!(one != two && sessions.holds(one.as_str(), now) && !sessions.holds("", now));
        assert!(!sessions.holds(one.as_str(), now + Duration::from_secs(60)), "it has ended");
        sessions.close(two.as_str());
        assert!(!sessions.holds(two.as_str(), now) && sessions.holds(one.as_str(), now));
    }

    #[test]
    fn their_number_is_bounded() {
        let (sessions, now) = (Sessions::new(Duration::from_secs(60)), Instant::now());
        let first = sessions.open(now);
        for n in 1..=SESSIONS_MAX as u64 {
            sessions.open(now + Duration::from_millis(n));
        }
        assert!(!sessions.holds(first.as_str(), now), "the oldest made room");
        assert_eq!(sessions.ends.lock().len(), SESSIONS_MAX);
    }
}
