//! The client against a server that checks each request by Immich's own description.

mod faults;
mod maintenance;
mod upload;
mod versions;

use std::time::Duration;

use bytes::Bytes;
use haven_immich::{Content, Error, Immich, Settings, Sha1, Timeouts, Upload, Visibility};
use haven_immich_fake::{ADMIN_KEY, Fake, Options};

/// A server of that version.
async fn fake(version: (u32, u32, u32)) -> Fake {
    Fake::start(Options { version, ..Options::default() }).await.expect("a port")
}

fn settings(fake: &Fake) -> Settings {
    Settings {
        address: fake.address(),
        key: ADMIN_KEY.to_owned().into(),
        ca_file: None,
        timeouts: Timeouts { stall: Duration::from_millis(400), answer: Duration::from_millis(400) },
    }
}

async fn client(fake: &Fake) -> Immich {
    Immich::open(settings(fake)).await.expect("a client")
}

fn upload(name: &str) -> Upload {
    let time = jiff::Timestamp::from_second(1_563_091_872).expect("a time");
    Upload {
        file_name: name.into(),
        created_at: time,
        modified_at: time,
        favourite: false,
        visibility: Visibility::Timeline,
        live_video: None,
        sidecar: None,
        duration_ms: None,
        checksum: None,
        device_asset_id: format!("device-{name}"),
        device_id: "haven".into(),
    }
}

/// Content of that length that says nothing and ends nowhere early.
fn bytes(length: usize, seed: u8) -> Bytes {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect::<Vec<u8>>().into()
}

/// The same in pieces.
fn content(bytes: &Bytes) -> Content {
    let pieces: Vec<_> = bytes.chunks(300_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Content::new(bytes.len() as u64, futures::stream::iter(pieces))
}

fn no_violations(fake: &Fake) {
    assert_eq!(fake.violations(), Vec::<String>::new());
}

async fn refused<T: std::fmt::Debug>(result: impl Future<Output = Result<T, Error>>) -> Error {
    result.await.expect_err("an error")
}

fn sum(bytes: &Bytes) -> Sha1 {
    Sha1::of(bytes)
}
