//! The relay adds its delays, and nothing is lost on the way.

#![cfg(feature = "server")]

use std::time::{Duration, Instant};

use haven_testkit::relay::{Cutter, Delays, run};
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

#[tokio::test]
async fn a_cut_comes_after_the_ordered_byte_and_only_once() {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let cutter = Cutter::start(server.local_addr().expect("its address")).await.expect("a relay");
    let received = tokio::spawn(async move {
        let mut lengths = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = server.accept().await.expect("a connection");
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            lengths.push(bytes.len());
        }
        lengths
    });
    cutter.cut_after(700_000);
    for length in [1_000_000, 900_000] {
        let mut client = TcpStream::connect(("127.0.0.1", cutter.port())).await.expect("a connection");
        let _ = client.write_all(&vec![1; length]).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(received.await.expect("no panic"), [700_000, 900_000]);
    assert_eq!(cutter.cuts(), 1);
}
