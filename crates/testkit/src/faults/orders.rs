//! What harm there is, and how it is ordered.

use std::time::Duration;

use haven_store::{StoreError, meter::Verb};

/// One kind of harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Fails without effect: the network, before.
    FailBefore,
    /// Takes effect, and then fails: the answer was lost.
    FailAfter,
    /// Answers rightly, this much later.
    Slow(Duration),
    /// Never answers.
    Hang,
    /// A stray "no such bucket", without effect.
    NoBucket,
    /// A stray "access denied", without effect.
    Denied,
    /// The credentials are refused, without effect.
    Unauthorized,
    /// Over the quota, without effect.
    Full,
    /// "Slow down" with a time to wait, without effect.
    Busy(Duration),
    /// A body loses its end, and nobody says so. (Gets only.)
    CutShort,
    /// A bit of a body is another. (Gets only.)
    FlipByte,
    /// "Not found", though it is there. (Gets and head only.)
    Vanished,
    /// The newest names are missing. (Lists only.)
    StaleList,
}

impl Fault {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::FailBefore => "fail_before",
            Self::FailAfter => "fail_after",
            Self::Slow(_) => "slow",
            Self::Hang => "hang",
            Self::NoBucket => "no_bucket",
            Self::Denied => "denied",
            Self::Unauthorized => "unauthorized",
            Self::Full => "full",
            Self::Busy(_) => "busy",
            Self::CutShort => "cut_short",
            Self::FlipByte => "flip_byte",
            Self::Vanished => "vanished",
            Self::StaleList => "stale_list",
        }
    }

    /// Whether it makes a difference to this verb.
    pub fn fits(&self, verb: Verb) -> bool {
        match self {
            Self::CutShort | Self::FlipByte => matches!(verb, Verb::Get | Verb::GetRange),
            Self::Vanished => matches!(verb, Verb::Get | Verb::GetRange | Verb::Head),
            Self::StaleList => verb == Verb::List,
            _ => true,
        }
    }

    /// The error of a fault that has no effect; `None` for the others.
    pub(super) fn error_before(&self, name: &str) -> Option<StoreError> {
        let detail = "ordered by the test".to_owned();
        Some(match self {
            Self::FailBefore => unavailable("connection refused"),
            Self::NoBucket => StoreError::NoBucket { location: "faulty".into() },
            Self::Denied => StoreError::Denied { detail },
            Self::Unauthorized => StoreError::Unauthorized { detail },
            Self::Full => StoreError::Full { detail },
            Self::Busy(after) => StoreError::Unavailable { detail: "slow down".into(), after: Some(*after) },
            Self::Vanished => StoreError::NotFound { name: name.to_owned() },
            Self::FailAfter | Self::Slow(_) | Self::Hang | Self::CutShort | Self::FlipByte | Self::StaleList => {
                return None;
            }
        })
    }
}

/// A fault for the next requests that fit.
#[derive(Debug, Clone)]
pub struct Order {
    fault: Fault,
    verb: Option<Verb>,
    prefix: String,
    skip: u64,
    times: u64,
}

impl Order {
    /// Once, at the next request that `fault` fits.
    pub fn next(fault: Fault) -> Self {
        Self { fault, verb: None, prefix: String::new(), skip: 0, times: 1 }
    }

    /// Only at this verb.
    pub fn at(mut self, verb: Verb) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Only at names that start so.
    pub fn on(mut self, prefix: &str) -> Self {
        self.prefix = prefix.to_owned();
        self
    }

    /// Lets so many fitting requests pass first.
    pub fn after(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// So many times instead of once.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    fn fits(&self, verb: Verb, name: &str) -> bool {
        self.fault.fits(verb) && self.verb.is_none_or(|v| v == verb) && name.starts_with(&self.prefix)
    }
}

/// The fault of the first order that is due; orders that fit but are not due yet count this request.
pub(super) fn take(orders: &mut Vec<Order>, verb: Verb, name: &str) -> Option<Fault> {
    let mut due = None;
    for (index, order) in orders.iter_mut().enumerate() {
        if !order.fits(verb, name) {
            continue;
        }
        if order.skip > 0 {
            order.skip -= 1;
        } else if due.is_none() {
            due = Some(index);
        }
    }
    let index = due?;
    let fault = orders[index].fault.clone();
    orders[index].times = orders[index].times.saturating_sub(1);
    if orders[index].times == 0 {
        orders.remove(index);
    }
    Some(fault)
}

/// How probable each fault is at a request that it fits, 0 to 1; the sum should stay below 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates {
    pub fail_before: f64,
    pub fail_after: f64,
    pub slow: f64,
    /// How late a slow answer is.
    pub slow_by: Duration,
    pub no_bucket: f64,
    pub denied: f64,
    pub busy: f64,
    pub cut_short: f64,
    pub flip_byte: f64,
    pub vanished: f64,
    pub stale_list: f64,
    /// Every answer takes between the first and the second of these.
    pub latency: (Duration, Duration),
}

impl Rates {
    /// A bad network and nothing worse: what every part of Haven must get over without a word.
    pub fn rough(share: f64) -> Self {
        let part = share / 4.0;
        Self {
            fail_before: part,
            fail_after: part,
            slow: part,
            slow_by: Duration::from_secs(3),
            busy: part,
            latency: (Duration::from_millis(1), Duration::from_millis(50)),
            ..Self::default()
        }
    }

    pub(super) fn delay(&self, dice: f64) -> Duration {
        let (least, most) = self.latency;
        least + most.saturating_sub(least).mul_f64(dice)
    }

    /// The fault that `dice` (0 to 1) falls on.
    pub(super) fn pick(&self, verb: Verb, dice: f64) -> Option<Fault> {
        let table = [
            (self.fail_before, Fault::FailBefore),
            (self.fail_after, Fault::FailAfter),
            (self.slow, Fault::Slow(self.slow_by)),
            (self.no_bucket, Fault::NoBucket),
            (self.denied, Fault::Denied),
            (self.busy, Fault::Busy(Duration::from_secs(1))),
            (self.cut_short, Fault::CutShort),
            (self.flip_byte, Fault::FlipByte),
            (self.vanished, Fault::Vanished),
            (self.stale_list, Fault::StaleList),
        ];
        let mut below = 0.0;
        for (rate, fault) in table {
            below += rate;
            if dice < below {
                return fault.fits(verb).then_some(fault);
            }
        }
        None
    }
}

/// A state of the store that lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Weather {
    #[default]
    Fine,
    /// Every request fails at once.
    Down,
    /// No request is ever answered.
    Hanging,
    /// What writes is denied.
    ReadOnly,
    /// What writes is over the quota.
    Full,
    /// The bucket is gone.
    NoBucket,
    /// The key is no longer accepted.
    BadKey,
}

impl Weather {
    pub(super) async fn pass(self, verb: Verb) -> Result<(), StoreError> {
        let writes = matches!(verb, Verb::Put | Verb::Delete | Verb::Copy);
        let detail = || "so is the weather".to_owned();
        match self {
            Self::ReadOnly if writes => Err(StoreError::Denied { detail: detail() }),
            Self::Full if writes && verb != Verb::Delete => Err(StoreError::Full { detail: detail() }),
            Self::Fine | Self::ReadOnly | Self::Full => Ok(()),
            Self::Down => Err(unavailable("connection refused")),
            Self::Hanging => std::future::pending().await,
            Self::NoBucket => Err(StoreError::NoBucket { location: "faulty".into() }),
            Self::BadKey => Err(StoreError::Unauthorized { detail: detail() }),
        }
    }
}

pub(super) fn unavailable(detail: &str) -> StoreError {
    StoreError::Unavailable { detail: detail.to_owned(), after: None }
}
