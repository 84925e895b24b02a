//! The log: what changed in the library, in order, as write-once objects in the bucket.
//! ```text
//!     segment 41 ──follows──▶ segment 40      segment 41 ──needs──▶ packs 7, 9
//! ```
//! Promises: any prefix of the log is a library that really existed; of two writers one is told it lost.
//! Expects: every pack a segment names is in the bucket already ([`Vault::packs_landed`]).
//! If the power goes: before the PUT nothing changed, after it the library is the new one. Nothing to tidy.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use haven_format::{Lsn, PackId, TxSeq, record, segment::Segment};
use haven_store::{Advice, PutMode, StoreError};
use prost::Message;
use tokio::sync::{Semaphore, mpsc::UnboundedReceiver};

use crate::{
    Result, Vault, VaultError,
    claim::{self, object},
    journal::{self, What},
    packs::FinishedPack,
    vault::Sent,
    world::nanos,
};

/// A segment is cut when its changes are about this long, even if more are waiting.
const SEGMENT_BYTES: usize = 4 << 20;

impl Vault {
    /// Runs a task beside the caller, which may be on a thread that the runtime knows nothing of.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<tokio::task::JoinHandle<()>> {
        self.runtime.as_ref().map(|runtime| runtime.spawn(task))
    }

    /// Waits for something to send, then for company or for somebody in a hurry.
    async fn wait_for_changes(&self) {
        while self.head.lock().unsent.is_empty() {
            self.dirty.notified().await;
        }
        let enough = || self.head.lock().unsent_bytes >= SEGMENT_BYTES;
        let hurried = || self.hurried.load(Ordering::Relaxed) > self.uploaded().0;
        let deadline = tokio::time::Instant::now() + self.options.send_after;
        while !enough() && !hurried() && tokio::time::Instant::now() < deadline {
            let _ = tokio::time::timeout_at(
                deadline.min(tokio::time::Instant::now() + Duration::from_millis(50)),
                self.hurry.notified(),
            )
            .await;
        }
    }

    /// Sends segment after segment, until fenced or closed.
    pub(crate) async fn log_task(self: Arc<Self>, unlisted: Vec<FinishedPack>) {
        if let Err(error) = self.list_again(unlisted).await {
            self.counters.note(format!("packs left by an earlier run can't be entered in the list: {error}"));
        }
        // Packs that an earlier run has left go first.
        self.until_settled(|| self.offer_uploads(&mut self.head.lock(), false)).await;
        loop {
            self.wait_for_changes().await;
            if self.stopped.read().is_some() {
                return;
            }
            let outcome = match self.send_segment().await {
                Err(VaultError::Need(need)) => self.settle(&need).await,
                other => other,
            };
            if let Err(error) = outcome {
                if self.stopped.read().is_some() {
                    return;
                }
                // Local trouble (a full or failing disk): nothing is lost, but people must know.
                if !self.relieve(&error) {
                    self.counters.note(format!("the log can't be sent: {error}"));
                }
                tracing::error!(%error, "the log can't be sent; trying again");
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }

    async fn until_settled(self: &Arc<Self>, call: impl Fn() -> Result<()>) {
        while let Err(error) = call() {
            let settled = match error {
                VaultError::Need(need) => self.settle(&need).await,
                other => Err(other),
            };
            if let Err(error) = settled {
                self.counters.note(format!("packs left by an earlier run can't be sent: {error}"));
                return;
            }
        }
    }

    /// Cuts what is committed so far into one segment and sees it into the bucket.
    async fn send_segment(self: &Arc<Self>) -> Result<()> {
        let (txs, packs) = {
            let mut head = self.head.lock();
            // Under the lock: what is committed names only chunks in packs that are closed now.
            self.offer_uploads(&mut head, true)?;
            let packs = head.packs_due.clone();
            let end = head.cuts.front().copied().unwrap_or(head.seq);
            let mut bytes = 0;
            let fits = |tx: &&record::Tx| {
                bytes += tx.encoded_len();
                tx.seq <= end.0 && bytes < SEGMENT_BYTES * 4
            };
            let mut txs: Vec<_> = head.unsent.iter().take_while(fits).cloned().collect();
            if txs.is_empty() {
                txs.extend(head.unsent.front().cloned());
            }
            (txs, packs)
        };
        self.packs_landed(&packs).await?;
        let Some(last) = txs.last().map(|tx| TxSeq(tx.seq)) else { return Ok(()) };
        let (segment, body) = self.seal_segment(txs, &packs);
        let hash = blake3::hash(&body).as_bytes().to_vec();
        let name = segment.name().expect("the nonce has its length");
        self.put_patiently(&name, body).await?;
        self.check_turn().await?;
        let mark = journal::Sent { segment: name.clone(), tx: last.0 };
        self.acknowledge(Sent { lsn: Lsn(segment.lsn), segment: name, hash, seq: last, behind_since: 0 }, &packs);
        // Trimming first: with the cache at its limit it is what makes room for the note.
        self.trim_journal(last).await?;
        self.journal(&mut self.head.lock(), &[What::Sent(mark).into()])
    }

    /// Removes journal files that are not needed any more. Nobody who commits waits for the disk meanwhile.
    async fn trim_journal(self: &Arc<Self>, sent: TxSeq) -> Result<()> {
        let mut done = self.head.lock().journal.take_done(sent);
        if done.is_empty() {
            return Ok(());
        }
        let vault = self.clone();
        let work = move || {
            // They may hold the only bytes that are on the disk of a pack which is still to be sent.
            let outcome = vault.packs.secure_files().inspect_err(|error| vault.distrust(error));
            let outcome = outcome.and_then(|()| done.remove(&vault.world, &vault.budget));
            vault.head.lock().journal.put_back(done);
            outcome
        };
        self.world.blocking(work).await
    }

    fn seal_segment(&self, txs: Vec<record::Tx>, packs: &[PackId]) -> (Segment, Bytes) {
        let before = self.sent.borrow().clone();
        let turn = self.turn.expect("only a writer sends");
        let segment = Segment {
            lsn: before.lsn.next().0,
            epoch: turn.epoch.0,
            nonce: turn.nonce.0.to_vec(),
            previous: before.segment,
            previous_hash: before.hash,
            packs: packs.iter().map(|pack| pack.0.to_vec()).collect(),
            txs,
            sealed_at: nanos(self.world.clock.now()),
        };
        let body = segment.seal(&self.keys, self.world.dice.roll()).expect("the nonce has its length").into();
        (segment, body)
    }

    /// Returns when all these packs are in the bucket.
    async fn packs_landed(&self, packs: &[PackId]) -> Result<()> {
        loop {
            let landed = self.upload_done.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            self.writable()?;
            if packs.iter().all(|pack| !self.uploading.lock().contains_key(pack)) {
                return Ok(());
            }
            landed.await;
        }
    }

    /// Fenced if another machine has claimed the library.
    pub(crate) async fn check_turn(&self) -> Result<()> {
        let turn = self.turn.expect("only a writer sends");
        loop {
            self.writable()?;
            match claim::rival(&*self.world.store, turn).await {
                Ok(None) => return Ok(()),
                Ok(Some(name)) => {
                    let who = match claim::read(&*self.world.store, &self.keys, &name).await {
                        Ok(claim) => format!("host \"{}\" claimed it (epoch {})", claim.host, claim.epoch),
                        Err(_) => format!("another machine claimed it ({name})"),
                    };
                    let why = format!("{who}; this machine held epoch {}", turn.epoch);
                    self.stop(why.clone(), true);
                    // The other machine's collection does not know them: what is here may be all there is.
                    self.packs.hold(&self.head.lock().packs_due);
                    return Err(VaultError::ReadOnly { why });
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    async fn pause(&self, error: &StoreError) {
        self.counters.trouble(error);
        let wait = match error.advice() {
            Advice::Setting => Duration::from_secs(5),
            _ => Duration::from_secs(1),
        };
        tokio::time::sleep(wait).await;
    }

    /// Puts an object until the store has it. The same bytes under the same name: a lost answer does no harm.
    pub(crate) async fn put_patiently(&self, name: &str, body: Bytes) -> Result<()> {
        let name = object(name);
        loop {
            self.writable()?;
            match self.world.store.put(&name, body.clone(), PutMode::Always).await {
                Ok(()) => {
                    self.counters.worked();
                    return Ok(());
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    fn acknowledge(&self, mut sent: Sent, packs: &[PackId]) {
        let mut head = self.head.lock();
        while head.unsent.front().is_some_and(|tx| tx.seq <= sent.seq.0) {
            let tx = head.unsent.pop_front().expect("just seen");
            head.unsent_bytes = head.unsent_bytes.saturating_sub(tx.encoded_len() + 64);
        }
        if head.unsent.is_empty() {
            head.unsent_bytes = 0;
        }
        while let Some(cut) = head.cuts.front().copied().filter(|cut| *cut <= sent.seq) {
            head.cuts.pop_front();
            if cut == sent.seq {
                head.marks.insert(cut, sent.clone());
            }
        }
        head.packs_due.retain(|pack| !packs.contains(pack));
        sent.behind_since = head.unsent.front().map_or(0, |tx| nanos(tx.time));
        // Waiters first: what is acknowledged is so whatever happens to our own notes.
        self.sent.send_replace(sent);
    }

    /// Uploads packs as they come, several at once.
    pub(crate) async fn upload_task(self: Arc<Self>, mut packs: UnboundedReceiver<FinishedPack>) {
        let slots = Arc::new(Semaphore::new(self.options.uploads));
        while let Some(pack) = packs.recv().await {
            let slot = slots.clone().acquire_owned().await.expect("never closed");
            let vault = self.clone();
            self.spawn(async move {
                vault.upload(pack).await;
                drop(slot);
            });
        }
    }

    async fn upload(self: &Arc<Self>, pack: FinishedPack) {
        while self.stopped.read().is_none() {
            match self.try_upload(&pack).await {
                Ok(()) => break,
                Err(VaultError::ReadOnly { .. }) => return,
                Err(error) => {
                    self.counters.note(format!("pack {} can't be sent: {error}", pack.id));
                    tracing::error!(pack = %pack.id, %error, "a pack can't be sent; trying again");
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
            }
        }
        self.uploading.lock().remove(&pack.id);
        self.upload_done.notify_waiters();
    }

    async fn try_upload(self: &Arc<Self>, pack: &FinishedPack) -> Result<()> {
        let body = {
            let (vault, pack) = (self.clone(), pack.clone());
            self.world.blocking(move || vault.packs.read_staged(&pack)).await?
        };
        self.put_patiently(&haven_format::layout::pack(pack.id), body).await?;
        self.packs.uploaded(pack)?;
        if self.stopped.read().is_some() {
            // It was on its way when what is due was held.
            self.packs.hold(&[pack.id]);
        }
        self.counters.uploaded_bytes.fetch_add(pack.bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Syncs the local disk every now and then, for those who never ask.
    pub(crate) async fn sync_task(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.options.sync_after).await;
            self.budget.ease();
            let vault = self.clone();
            if let Err(error) = self.world.blocking(move || vault.sync_with_notes()).await {
                self.counters.note(format!("the cache directory can't be synced: {error}"));
                tracing::error!(%error, "the cache directory can't be synced");
            }
        }
    }
}
