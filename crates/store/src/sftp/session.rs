//! Requests in flight on one connection.
//!
//! Requests go out in the order they are sent, from one queue, and any number of answers may be
//! awaited at once. Who stops waiting is forgotten; a handle that nobody waits for any more is closed.
//! When the connection ends, everybody who waits is told, and the session is dead for good.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect, client};
use tokio::sync::{mpsc, oneshot};

use super::wire::{self, Attributes, Name, PACKET_BYTES_MAX, Reply, Request, code};
use crate::port::StoreError;

/// What every server takes and gives in one packet; who allows more says so.
const DATA_BYTES_DEFAULT: u64 = 32 << 10;

/// Why a request failed.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The server says so.
    Status { code: u32, message: String },
    /// The connection ended before the answer.
    Lost(String),
    /// The answer is none to this request.
    Garbled(&'static str),
}

impl Failure {
    pub(super) fn is(&self, wanted: u32) -> bool {
        matches!(self, Self::Status { code, .. } if *code == wanted)
    }

    /// Where nothing is known but the answer itself.
    pub(super) fn into_error(self, what: &str) -> StoreError {
        match self {
            Self::Status { code: code::NO_SUCH_FILE, .. } => StoreError::NotFound { name: what.to_owned() },
            Self::Status { code: code::PERMISSION_DENIED, message } => {
                StoreError::Denied { detail: format!("{what}: {message}") }
            }
            Self::Status { code: code::UNSUPPORTED | code::BAD_MESSAGE, message } => {
                StoreError::Unsupported { detail: format!("{what}: {message}") }
            }
            Self::Status { message, .. } => {
                let says = |word: &str| message.to_ascii_lowercase().contains(word);
                let detail = format!("{what}: {message}");
                if says("no space") || says("quota") || says("disk full") {
                    return StoreError::Full { detail };
                }
                StoreError::Unavailable { detail, after: None }
            }
            Self::Lost(detail) => StoreError::Unavailable { detail, after: None },
            Self::Garbled(why) => StoreError::Garbled { detail: format!("{what}: {why}") },
        }
    }
}

type Answer = Result<Reply, Failure>;

/// A connection that speaks SFTP.
pub(super) struct Session {
    outgoing: mpsc::UnboundedSender<Bytes>,
    pending: Arc<Mutex<Pending>>,
    extensions: HashSet<String>,
    /// The most bytes of one write.
    pub write_bytes: u32,
    /// The most bytes of one read.
    pub read_bytes: u32,
}

#[derive(Default)]
struct Pending {
    next: u32,
    waiting: HashMap<u32, oneshot::Sender<Answer>>,
    /// Why the connection ended.
    ended: Option<String>,
}

impl Pending {
    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

/// Tells why a connection ended, if anybody knows.
pub(super) type Obituary = Arc<Mutex<Option<String>>>;

impl Session {
    /// Greets the server over the halves of a channel whose subsystem is SFTP already, on `connection`.
    pub(super) async fn greet<H: client::Handler + 'static>(
        mut from: ChannelReadHalf,
        to: ChannelWriteHalf<client::Msg>,
        connection: client::Handle<H>,
        obituary: Obituary,
    ) -> Result<Self, Failure> {
        let mut packets = Packets::default();
        to.data_bytes(wire::init()).await.map_err(|error| Failure::Lost(error.to_string()))?;
        let greeting = packets.next(&mut from).await.ok_or_else(|| {
            let why = obituary.lock().clone();
            Failure::Lost(why.unwrap_or_else(|| "the server ended the connection at once".into()))
        })?;
        let (version, extensions) = wire::parse_version(greeting).ok_or(Failure::Garbled("no greeting of SFTP"))?;
        if version < 3 {
            return Err(Failure::Garbled("an SFTP older than version 3"));
        }
        let pending = Arc::new(Mutex::new(Pending::default()));
        let (outgoing, queue) = mpsc::unbounded_channel();
        tokio::spawn(send_all(queue, to));
        tokio::spawn(receive_all(packets, from, pending.clone(), outgoing.downgrade(), obituary, connection));
        let extensions = extensions.into_iter().collect();
        let small = DATA_BYTES_DEFAULT as u32;
        let mut session = Self { outgoing, pending, extensions, write_bytes: small, read_bytes: small };
        session.ask_limits().await?;
        Ok(session)
    }

    /// How large a packet may be, where the server tells.
    async fn ask_limits(&mut self) -> Result<(), Failure> {
        if !self.knows(wire::LIMITS) {
            return Ok(());
        }
        let Reply::Extended(mut told) = self.send(wire::limits()).await? else { return Ok(()) };
        let mut next = || told.try_get_u64().ok().filter(|bytes| *bytes > 0).unwrap_or(DATA_BYTES_DEFAULT);
        let (_packet, read, write) = (next(), next(), next());
        // Room for the fields around the data.
        let most = u64::from(PACKET_BYTES_MAX - 1024);
        self.read_bytes = read.clamp(1024, most) as u32;
        self.write_bytes = write.clamp(1024, most) as u32;
        Ok(())
    }

    /// Whether the server has an extension.
    pub(super) fn knows(&self, extension: &str) -> bool {
        self.extensions.contains(extension)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.pending.lock().ended.is_none()
    }

    /// Queues a request at once; the answer can be awaited, or not.
    pub(super) fn send(&self, request: Request) -> Awaited {
        let (tell, answer) = oneshot::channel();
        let mut pending = self.pending.lock();
        if let Some(why) = &pending.ended {
            let _ = tell.send(Err(Failure::Lost(why.clone())));
        } else {
            let id = pending.number();
            pending.waiting.insert(id, tell);
            // A closed queue is told by the reader.
            let _ = self.outgoing.send(request.frame(id));
        }
        Awaited { answer, outgoing: self.outgoing.downgrade(), pending: self.pending.clone() }
    }

    /// Sends a request whose answer is success and no more.
    pub(super) async fn done(&self, request: Request) -> Result<(), Failure> {
        self.send(request).done().await
    }

    pub(super) async fn handle(&self, request: Request) -> Result<Bytes, Failure> {
        self.send(request).handle().await
    }

    pub(super) async fn attributes(&self, request: Request) -> Result<Attributes, Failure> {
        self.send(request).attributes().await
    }
}

/// An answer on its way.
pub(super) struct Awaited {
    answer: oneshot::Receiver<Answer>,
    outgoing: mpsc::WeakUnboundedSender<Bytes>,
    pending: Arc<Mutex<Pending>>,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(Reply::Handle(orphan))) = self.answer.try_recv() {
            close_orphan(&self.outgoing, &self.pending, &orphan);
        }
    }
}

impl Future for Awaited {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let gone = |_| Err(Failure::Lost("the connection is gone".into()));
        Pin::new(&mut self.answer).poll(cx).map(|answer| answer.unwrap_or_else(gone))
    }
}

impl Awaited {
    pub(super) async fn done(self) -> Result<(), Failure> {
        match self.await? {
            Reply::Status { code: code::OK, .. } => Ok(()),
            other => Err(unfit(other)),
        }
    }

    pub(super) async fn handle(self) -> Result<Bytes, Failure> {
        match self.await? {
            Reply::Handle(handle) => Ok(handle),
            other => Err(unfit(other)),
        }
    }

    pub(super) async fn attributes(self) -> Result<Attributes, Failure> {
        match self.await? {
            Reply::Attributes(attributes) => Ok(attributes),
            other => Err(unfit(other)),
        }
    }

    /// What was read; `None` at the end of the file.
    pub(super) async fn data(self) -> Result<Option<Bytes>, Failure> {
        match self.await? {
            Reply::Data(data) => Ok(Some(data)),
            Reply::Status { code: code::EOF, .. } => Ok(None),
            other => Err(unfit(other)),
        }
    }

    /// Some of a folder's entries; `None` after the last.
    pub(super) async fn names(self) -> Result<Option<Vec<Name>>, Failure> {
        match self.await? {
            Reply::Names(names) => Ok(Some(names)),
            Reply::Status { code: code::EOF, .. } => Ok(None),
            other => Err(unfit(other)),
        }
    }
}

fn unfit(reply: Reply) -> Failure {
    match reply {
        Reply::Status { code: code::OK, .. } => Failure::Garbled("success where an answer was due"),
        Reply::Status { code, message } if message.is_empty() => {
            Failure::Status { code, message: format!("status {code}") }
        }
        Reply::Status { code, message } => Failure::Status { code, message },
        _ => Failure::Garbled("an answer of another kind"),
    }
}

async fn send_all(mut queue: mpsc::UnboundedReceiver<Bytes>, to: ChannelWriteHalf<client::Msg>) {
    while let Some(frame) = queue.recv().await {
        // Whoever waits is told by the reader, which sees the end as well.
        if to.data_bytes(frame).await.is_err() {
            return;
        }
    }
    let _ = to.close().await;
}

async fn receive_all<H: client::Handler>(
    mut packets: Packets,
    mut from: ChannelReadHalf,
    pending: Arc<Mutex<Pending>>,
    outgoing: mpsc::WeakUnboundedSender<Bytes>,
    obituary: Obituary,
    connection: client::Handle<H>,
) {
    let mut why = None;
    while let Some(packet) = packets.next(&mut from).await {
        let Some((id, reply)) = Reply::parse(packet) else {
            why = Some("the server's answers are not SFTP".to_owned());
            break;
        };
        let waiting = pending.lock().waiting.remove(&id);
        let Some(waiting) = waiting else { continue };
        if let Err(Ok(Reply::Handle(orphan))) = waiting.send(classify(reply)) {
            close_orphan(&outgoing, &pending, &orphan);
        }
    }
    let why = why.or_else(|| obituary.lock().clone());
    let why = why.unwrap_or_else(|| "the connection was cut".into());
    {
        let mut pending = pending.lock();
        for (_, waiting) in pending.waiting.drain() {
            let _ = waiting.send(Err(Failure::Lost(why.clone())));
        }
        pending.ended = Some(why);
    }
    let _ = connection.disconnect(Disconnect::ByApplication, "", "").await;
}

/// Closes a handle that came for somebody who has gone.
fn close_orphan(outgoing: &mpsc::WeakUnboundedSender<Bytes>, pending: &Mutex<Pending>, handle: &[u8]) {
    if let Some(outgoing) = outgoing.upgrade() {
        let id = pending.lock().number();
        let _ = outgoing.send(wire::close(handle).frame(id));
    }
}

/// A status that is an error and was expected by nobody becomes one here; the end of a file is an answer.
fn classify(reply: Reply) -> Answer {
    match reply {
        Reply::Status { code: code::OK | code::EOF, .. } => Ok(reply),
        Reply::Status { .. } => Err(unfit(reply)),
        reply => Ok(reply),
    }
}

/// Puts packets together from what the channel brings.
#[derive(Default)]
struct Packets {
    gathered: BytesMut,
}

impl Packets {
    /// The next packet without its length; `None` when there is no more, or when it can't be one.
    async fn next(&mut self, from: &mut ChannelReadHalf) -> Option<Bytes> {
        loop {
            if self.gathered.len() >= 4 {
                let length = u32::from_be_bytes(self.gathered[..4].try_into().ok()?);
                if length > PACKET_BYTES_MAX {
                    return None;
                }
                let whole = 4 + length as usize;
                if self.gathered.len() >= whole {
                    let mut packet = self.gathered.split_to(whole).freeze();
                    packet.advance(4);
                    return Some(packet);
                }
                self.gathered.reserve(whole - self.gathered.len());
            }
            match from.wait().await? {
                ChannelMsg::Data { data } => self.gathered.extend_from_slice(&data),
                ChannelMsg::Eof | ChannelMsg::Close => return None,
                _ => {}
            }
        }
    }
}
