//! Which contents the server has: asked for many at once, by many who each want to know one.

use std::sync::Mutex;

use tokio::sync::{
    Mutex as Turn,
    oneshot::{self, error::TryRecvError},
};

use crate::{
    patience::{Failed, Stop},
    server::{Present, Sha1},
    upload::Shared,
};

/// Contents in one question.
const BATCH: usize = 1000;

type Waiting = (Sha1, oneshot::Sender<Option<Present>>);

/// Questions that wait. While one request is under way, the next ones gather.
#[derive(Debug, Default)]
pub struct Asked {
    waiting: Mutex<Vec<Waiting>>,
    turn: Turn<()>,
}

impl Asked {
    /// What the server has of a content.
    pub async fn present(&self, shared: &Shared, sha1: Sha1) -> Result<Option<Present>, Stop> {
        let mut answer = self.wait_for(sha1);
        loop {
            let _turn = self.turn.lock().await;
            match answer.try_recv() {
                Ok(present) => return Ok(present),
                Err(TryRecvError::Empty) => {}
                // Who asked for this one was broken off.
                Err(TryRecvError::Closed) => answer = self.wait_for(sha1),
            }
            let batch: Vec<Waiting> = {
                let mut waiting = self.waiting();
                // Who went away meanwhile needs no answer.
                waiting.retain(|(_, sender)| !sender.is_closed());
                let rest = waiting.len().min(BATCH);
                waiting.drain(..rest).collect()
            };
            let sums: Vec<Sha1> = batch.iter().map(|(sha1, _)| *sha1).collect();
            let answers = ask(shared, &sums).await?;
            for ((_, sender), present) in batch.into_iter().zip(answers) {
                // Whoever does not wait any more is not told.
                _ = sender.send(present);
            }
        }
    }

    fn wait_for(&self, sha1: Sha1) -> oneshot::Receiver<Option<Present>> {
        let (sender, answer) = oneshot::channel();
        self.waiting().push((sha1, sender));
        answer
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// One question, with patience.
pub async fn ask(shared: &Shared, sums: &[Sha1]) -> Result<Vec<Option<Present>>, Stop> {
    let server = &*shared.server;
    let asked = shared.patience.call(server, &shared.progress, None, async |_| server.present(sums).await).await;
    match asked {
        Ok(answers) if answers.len() == sums.len() => Ok(answers),
        Ok(_) => Err(Stop::Strange("it answered for other files than were asked about".to_owned())),
        Err(Failed::Stop(stop)) => Err(stop),
        Err(Failed::This(error)) => Err(Stop::Strange(error.to_string())),
    }
}
