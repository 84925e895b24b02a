//! Forwards TCP with a delay, to try a far store on a near machine, or until it is cut ([`Cutter`]).
//!
//! Both sides get TCP_NODELAY, and TCP_QUICKACK before each wait, so that only the ordered delay is
//! added: a server that sends an answer in two writes (Garage) would otherwise wait 40 ms for an
//! acknowledgement. The delay moves bytes later without bounding how many are on their way (up to
//! [`IN_FLIGHT_MAX`] for each direction of a connection).

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

/// The most bytes on their way in one direction of a connection.
pub const IN_FLIGHT_MAX: usize = 32 << 20;

const READ_BYTES: usize = 256 << 10;

/// How late bytes are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delays {
    /// From the client to the server.
    pub up: Duration,
    /// From the server to the client.
    pub down: Duration,
}

/// Forwards every connection that `listener` accepts to `server`, for ever.
pub async fn run(listener: TcpListener, server: SocketAddr, delays: Delays) -> io::Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A refused or broken connection ends as its peers would see it end.
            if let Ok(server) = TcpStream::connect(server).await {
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let up = tokio::spawn(forward(from_client, to_server, delays.up));
                let down = tokio::spawn(forward(from_server, to_client, delays.down));
                let _ = tokio::join!(up, down);
            }
        });
    }
}

async fn forward(mut from: OwnedReadHalf, to: OwnedWriteHalf, delay: Duration) {
    let (send, receive) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let writing = tokio::spawn(write_later(receive, to, room.clone()));
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        buffer.reserve(READ_BYTES);
        // The kernel forgets this with each sending.
        let _ = rustix::net::sockopt::set_tcp_quickack(from.as_ref(), true);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                // A closed semaphore or channel means that the other side is gone.
                let Ok(permit) = room.acquire_many(length as u32).await else { break };
                permit.forget();
                if send.send((Instant::now() + delay, buffer.split().freeze())).is_err() {
                    break;
                }
            }
        }
    }
    drop(send);
    let _ = writing.await;
}

async fn write_later(
    mut receive: mpsc::UnboundedReceiver<(Instant, Bytes)>,
    mut to: OwnedWriteHalf,
    room: Arc<Semaphore>,
) {
    while let Some((due, bytes)) = receive.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&bytes).await.is_err() {
            room.close();
            return;
        }
        room.add_permits(bytes.len());
    }
    let _ = to.shutdown().await;
}

/// Forwards TCP until it is told to cut: for losing a connection at a chosen byte of a request.
/// Ends, and cuts what is open, when it is dropped.
#[derive(Debug)]
pub struct Cutter {
    address: SocketAddr,
    scissors: Arc<Scissors>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Scissors {
    /// How many more bytes clients may send before all is cut, if there is an end to it.
    left: Mutex<Option<u64>>,
    /// Changes when every open connection is to be cut.
    cut: watch::Sender<u64>,
}

impl Cutter {
    /// Forwards a free port of loopback to `server`.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let scissors = Arc::new(Scissors { left: Mutex::new(None), cut: watch::Sender::new(0) });
        let task = tokio::spawn(forward_all(listener, server, scissors.clone()));
        Ok(Self { address, scissors, task })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts every open connection now.
    pub fn cut(&self) {
        self.scissors.cut.send_modify(|times| *times += 1);
    }

    /// Cuts every open connection once, when clients have sent so many bytes more; those arrive.
    pub fn cut_after(&self, bytes: u64) {
        *self.scissors.left.lock() = Some(bytes);
    }

    /// How often it has cut.
    pub fn cuts(&self) -> u64 {
        *self.scissors.cut.borrow()
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn forward_all(listener: TcpListener, server: SocketAddr, scissors: Arc<Scissors>) {
    loop {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        let scissors = scissors.clone();
        tokio::spawn(async move {
            let mut cut = scissors.cut.subscribe();
            let Ok(mut server) = TcpStream::connect(server).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.split();
            // Both ends are dropped as soon as one of these ends.
            tokio::select! {
                _ = cut.changed() => {}
                _ = forward_counted(&mut from_client, &mut to_server, &scissors) => {}
                _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
            }
        });
    }
}

async fn forward_counted(
    from: &mut tokio::net::tcp::ReadHalf<'_>,
    to: &mut tokio::net::tcp::WriteHalf<'_>,
    scissors: &Scissors,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let (passing, last) = {
            let mut left = scissors.left.lock();
            match *left {
                Some(bytes) if bytes <= length as u64 => {
                    *left = None;
                    (bytes as usize, true)
                }
                Some(bytes) => {
                    *left = Some(bytes - length as u64);
                    (length, false)
                }
                None => (length, false),
            }
        };
        to.write_all(&buffer[..passing]).await?;
        if last {
            scissors.cut.send_modify(|times| *times += 1);
            return Ok(());
        }
    }
}
