//! Wrong tokens are counted: a few a minute from one address, some more from all together.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

const WINDOW: Duration = Duration::from_secs(60);
/// Wrong ones from one address within a minute; then it waits.
pub const WRONG_MAX: usize = 5;
/// And from all of them.
pub const WRONG_MAX_ALL: usize = 60;

#[derive(Debug, Default)]
pub struct Tries {
    wrong: Mutex<HashMap<IpAddr, Vec<Instant>>>,
}

/// An IPv6 network is one household.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((u128::from(six) & !((1_u128 << 64) - 1)).into()),
        four => four,
    }
}

impl Tries {
    /// How long the next try from there has to wait, if it has to.
    pub fn wait(&self, from: IpAddr, now: Instant) -> Option<Duration> {
        let mut wrong = self.wrong.lock();
        wrong.retain(|_, times| {
            times.retain(|time| now.saturating_duration_since(*time) < WINDOW);
            !times.is_empty()
        });
        let left = |oldest: Instant| WINDOW.saturating_sub(now.saturating_duration_since(oldest));
        if let Some(times) = wrong.get(&household(from)).filter(|times| times.len() >= WRONG_MAX) {
            return times.first().map(|oldest| left(*oldest));
        }
        let all: usize = wrong.values().map(Vec::len).sum();
        let oldest = wrong.values().flatten().min();
        oldest.filter(|_| all >= WRONG_MAX_ALL).map(|oldest| left(*oldest))
    }

    pub fn was_wrong(&self, from: IpAddr, now: Instant) {
        self.wrong.lock().entry(household(from)).or_default().push(now);
    }

    pub fn was_right(&self, from: IpAddr) {
        self.wrong.lock().remove(&household(from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_waits_and_others_do_not() {
        let (tries, now) = (Tries::default(), Instant::now());
        let (one, other) = ("192.0.2.1".parse().expect("an address"), "192.0.2.2".parse().expect("an address"));
        for _ in 0..WRONG_MAX {
            assert_eq!(tries.wait(one, now), None);
            tries.was_wrong(one, now);
        }
        assert!(tries.wait(one, now).is_some_and(|wait| wait <= WINDOW));
        assert_eq!(tries.wait("::ffff:192.0.2.1".parse().expect("the same"), now), tries.wait(one, now));
        assert_eq!(tries.wait(other, now), None);
        assert_eq!(tries.wait(one, now + WINDOW), None, "a minute later");
    }

    #[test]
    fn many_addresses_do_not_help() {
        let (tries, now) = (Tries::default(), Instant::now());
        for n in 0..WRONG_MAX_ALL {
            tries.was_wrong(IpAddr::from([10, 0, (n / 250) as u8, (n % 250) as u8]), now);
        }
        assert!(tries.wait("192.0.2.9".parse().expect("an address"), now).is_some());
        let six = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(household(six("2001:db8::1")), household(six("2001:db8::ffff")));
    }
}
