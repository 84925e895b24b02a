//! The relay adds its delays, and nothing is lost on the way.

#![cfg(feature = "server")]

use std::time::{Duration, Instant};

use haven_testkit::relay::{Delays, run};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[tokio::test]
async fn an_echo_takes_both_delays_and_comes_back_whole() {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("its address");
    tokio::spawn(async move {
        let (stream, _) = server.accept().await.expect("a connection");
        let (mut read, mut write) = stream.into_split();
        tokio::io::copy(&mut read, &mut write).await.expect("an echo");
    });
    let relay = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let through = relay.local_addr().expect("its address");
    let delays = Delays { up: Duration::from_millis(30), down: Duration::from_millis(20) };
    tokio::spawn(run(relay, address, delays));

    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(|i| (i as u8).to_le_bytes()).collect();
    let begun = Instant::now();
    let (mut read, mut write) = TcpStream::connect(through).await.expect("a connection").into_split();
    let sending = {
        let sent = sent.clone();
        tokio::spawn(async move {
            write.write_all(&sent).await.expect("it is sent");
            write.shutdown().await.expect("and ended");
        })
    };
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.expect("it comes back");
    sending.await.expect("no panic");
    assert!(received == sent, "{} of {} bytes, or other ones", received.len(), sent.len());
    assert!(begun.elapsed() >= Duration::from_millis(50), "{:?}", begun.elapsed());
}
