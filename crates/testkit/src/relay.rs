//! Forwards TCP with a delay, to try a far store on a near machine.
//!
//! Both sides get TCP_NODELAY, and TCP_QUICKACK before each wait, so that only the ordered delay is
//! added: a server that sends an answer in two writes (Garage) would otherwise wait 40 ms for an
//! acknowledgement. The delay moves bytes later without bounding how many are on their way (up to
//! [`IN_FLIGHT_MAX`] for each direction of a connection).

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc},
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
