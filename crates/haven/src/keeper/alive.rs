//! That the keeper itself does its work: its parts go on, the watchdog is fed, and the dead-man's switch hears the truth.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Keeper, locked, watch};
use crate::manager;

/// How often a dead-man's switch hears that the library is mounted.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How long to wait before a part that broke off is begun again, and how long a dead-man's switch hears of it.
pub const AGAIN: Duration = Duration::from_secs(10);
const BROKEN: Duration = Duration::from_secs(600);
/// How long telling may take at most: many messages, and channels that don't answer.
const TELLING: Duration = Duration::from_secs(3600);

impl Keeper {
    /// Does `work` for as long as the keeper lives. What breaks off is begun again after a pause, and somebody hears of it:
    /// else one mistake would silence every alert for good.
    pub(super) fn keep<F>(
        self: &Arc<Self>,
        part: &'static str,
        pause: Duration,
        work: impl Fn(Arc<Self>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let own = self.clone();
        self.runtime.spawn(async move {
            loop {
                let under_way = tokio::spawn(work(own.clone()));
                let Err(error) = under_way.await else { return };
                if error.is_cancelled() || own.is_stopping() {
                    return;
                }
                own.broke_off(part, &error);
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// A part has broken off: a mistake in Haven.
    pub(super) fn broke_off(&self, part: &str, error: &tokio::task::JoinError) {
        tracing::error!(%error, part, "a part of the keeper broke off; it is begun again");
        *locked(&self.broke) = Some(Instant::now());
        self.teller.tell_broken(&self.config(), part);
    }

    /// Why this keeper can't be relied on to tell of trouble just now; none: it can.
    fn ails(&self) -> Option<String> {
        let (looked, told) = (locked(&self.looked).elapsed(), locked(&self.told).elapsed());
        if looked > self.look_patience() {
            return Some(format!("its last look at everything came to an end {} s ago", looked.as_secs()));
        }
        if told > TELLING {
            return Some(format!("nobody was told anything for {} s: a message, or its disk, hangs", told.as_secs()));
        }
        if let Some(why) = self.teller.trouble() {
            return Some(format!("its messages can't be kept until they are told: {why}"));
        }
        let broke = locked(&self.broke).is_some_and(|at| at.elapsed() < BROKEN);
        broke.then(|| "a part of it broke off: its log says which".to_owned())
    }

    /// Longer than that no look takes that comes to an end.
    fn look_patience(&self) -> Duration {
        self.config().health.every * 5 + Duration::from_secs(120)
    }

    /// Whether looks are made: what is told of trouble hangs on them.
    pub(super) fn is_looking(&self) -> bool {
        locked(&self.looked).elapsed() <= self.look_patience()
    }

    /// The service manager's watchdog hears of this process as long as the mount answers, and nothing else counts there: it
    /// would take the mount along. The dead-man's switch, which tells people, hears that all is well only while the keeper
    /// would tell them itself.
    pub(super) async fn keep_alive(self: Arc<Self>) {
        let fed = manager::watchdog().map(|limit| limit / 3);
        let step = fed.unwrap_or(HEARTBEAT).min(HEARTBEAT);
        let mut beat: Option<Instant> = None;
        let (mut knock, mut probe) = (watch::Knock::default(), watch::Probe::default());
        loop {
            tokio::time::sleep(step).await;
            let Some(inside) = self.inside().filter(|_| !self.is_stopping()) else {
                // Waiting for the store, or ending: whoever does that tells of it.
                continue;
            };
            let mount = knock.at(inside.point().to_owned()).await;
            let store = probe.ask(inside);
            if let (Ok(_), Ok(())) = (&mount, &store) {
                if fed.is_some() {
                    manager::tell("WATCHDOG=1");
                }
            } else {
                tracing::error!(?mount, ?store, "the watchdog is not fed");
            }
            if beat.is_none_or(|beat| beat.elapsed() >= HEARTBEAT) {
                beat = Some(Instant::now());
                let away = mount.err().map(|why| format!("the mount does not answer: {why}"));
                let ails = self.ails().map(|why| format!("the keeper can't be relied on: {why}"));
                if let Some(why) = &ails {
                    tracing::error!("{why}");
                    manager::status(why);
                }
                let (ping, why) = match away.or(ails) {
                    None => (haven_notify::Ping::Success, String::new()),
                    Some(why) => (haven_notify::Ping::Fail, why),
                };
                self.teller.ping(&self.config(), "alive", ping, None, &why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_part_that_breaks_off_is_begun_again_and_somebody_hears_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[library]\nurl = '/srv/x'\n[schedule]\ndirectory = {:?}\n", folder.path());
        let keeper = Keeper::new(&Config::from_text(&text, "").unwrap()).unwrap();
        assert_eq!((keeper.ails(), keeper.is_looking()), (None, true));
        let (begun, mut heard) = tokio::sync::mpsc::unbounded_channel();
        keeper.keep("page", Duration::from_millis(1), move |_| {
            let begun = begun.clone();
            async move {
                if begun.send(()).is_ok() {
                    panic!("a mistake");
                }
            }
        });
        for _ in 0..3 {
            heard.recv().await.unwrap();
        }
        assert!(keeper.ails().unwrap().contains("broke off"));
        assert_eq!(keeper.teller.waiting().unwrap(), 1, "once a day");
        *locked(&keeper.broke) = None;
        assert_eq!(keeper.ails(), None);
        // A look that hangs.
        let long_ago = Instant::now().checked_sub(keeper.look_patience() + Duration::from_secs(1));
        if let Some(long_ago) = long_ago {
            *locked(&keeper.looked) = long_ago;
            assert!(keeper.ails().unwrap().contains("its last look") && !keeper.is_looking());
        }
    }
}
