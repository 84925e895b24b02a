//! What is asked for in a thread of its own, and may never come back: a network share whose server is off holds whoever looks
//! at it, for ever. Who asks waits for a while, and asks for nothing again while the last answer is still owed: threads that
//! wait for ever would pile up, until nobody here could begin another one.

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};

/// One question, asked again and again.
#[derive(Debug)]
pub struct Owed<T>(Option<JoinHandle<T>>);

impl<T> Default for Owed<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> Owed<T> {
    /// What `ask` answers within `patience`; or why there is no answer, in a line.
    pub async fn get(&mut self, patience: Duration, ask: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        self.get_from(patience, || spawn_blocking(ask)).await
    }

    /// The same of what is begun by `begin`.
    pub async fn get_from(&mut self, patience: Duration, begin: impl FnOnce() -> JoinHandle<T>) -> Result<T, String> {
        // What came when nobody waited any more is old.
        let owed = self.0.take().filter(|owed| !owed.is_finished());
        let mut owed = owed.unwrap_or_else(begin);
        match tokio::time::timeout(patience, &mut owed).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("the look broke off: {error}")),
            Err(_) => {
                self.0 = Some(owed);
                Err(format!("no answer within {} s", patience.as_secs()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn what_hangs_is_not_asked_for_again_and_what_came_too_late_is_old() {
        let (go, wait) = channel::<()>();
        let (soon, long) = (Duration::from_millis(20), Duration::from_secs(30));
        let mut owed = Owed::default();
        let hangs = move || {
            _ = wait.recv();
            1
        };
        assert_eq!(owed.get(soon, hangs).await, Err("no answer within 0 s".to_owned()));
        assert!(owed.get(soon, || 2).await.is_err(), "the first still owes its answer");
        drop(go);
        while owed.0.as_ref().is_some_and(|owed| !owed.is_finished()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(owed.get(long, || 3).await, Ok(3));
        assert_eq!(owed.get(long, || 4).await, Ok(4));
    }

    #[tokio::test]
    async fn what_comes_while_somebody_waits_is_taken() {
        let (go, wait) = channel::<()>();
        let mut owed = Owed::default();
        let hangs = move || {
            _ = wait.recv();
            1
        };
        assert!(owed.get(Duration::from_millis(20), hangs).await.is_err());
        let (answer, ()) = tokio::join!(owed.get(Duration::from_secs(30), || 2), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(go);
        });
        assert_eq!(answer, Ok(1));
    }

    #[tokio::test]
    async fn a_look_that_breaks_off_is_no_answer_and_the_next_one_is_made() {
        let mut owed = Owed::default();
        let breaks = || -> u8 { panic!("a mistake") };
        assert!(owed.get(Duration::from_secs(30), breaks).await.unwrap_err().starts_with("the look broke off"));
        assert_eq!(owed.get(Duration::from_secs(30), || 7).await, Ok(7));
    }
}
