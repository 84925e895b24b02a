//! Uploads: their bytes, their early answers, their ends.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::StreamExt;
use haven_immich::{Content, Error, Verdict};
use haven_immich_fake::{Early, Orders};

use crate::{bytes, client, content, fake, no_violations, refused, sum, upload};

const LONG: u64 = 256 << 20;

/// `LONG` zeros, and how many of them were taken.
fn long() -> (Content, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    let counter = taken.clone();
    let piece = Bytes::from(vec![0; 1 << 20]);
    let pieces = futures::stream::iter(0..LONG >> 20).map(move |_| {
        counter.fetch_add(1 << 20, Ordering::Relaxed);
        Ok(piece.clone())
    });
    (Content::new(LONG, pieces), taken)
}

/// A server that has a file answers before it was sent, and then reads on, or hangs up: the answer is taken, and the rest
/// of the file not even read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_its_time_ends_the_upload() {
    for early in [Early::Drain, Early::Close] {
        let fake = fake((3, 1, 0)).await;
        let immich = client(&fake).await;
        let body = bytes(1000, 7);
        let first = immich.upload(upload("a.mp4"), content(&body)).await.expect("uploaded");
        fake.order(Orders { early, ..Orders::default() });
        for _ in 0..20 {
            let (long, taken) = long();
            let mut again = upload("b.mp4");
            again.checksum = Some(sum(&body));
            let answer = immich.upload(again, long).await.expect("an answer");
            assert_eq!((&answer.id, answer.verdict, answer.sent_whole), (&first.id, Verdict::Duplicate, false));
            let taken = taken.load(Ordering::Relaxed);
            assert!(taken < LONG, "{early:?}: {taken} bytes were read");
        }
        assert_eq!(fake.counts().early, 20);
        no_violations(&fake);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_file_arrives_whole() {
    let fake = fake((2, 7, 5)).await;
    let immich = client(&fake).await;
    let (long, _) = long();
    let answer = immich.upload(upload("long.mp4"), long).await.expect("uploaded");
    assert!(answer.sent_whole);
    assert_eq!(fake.state()["assets"][0]["size"], LONG);
    let zeros = Bytes::from(vec![0; LONG as usize]);
    assert_eq!(immich.asset(&answer.id).await.expect("it").checksum, sum(&zeros));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_is_a_source_too() {
    let fake = fake((3, 1, 0)).await;
    let body = bytes(1_000_001, 9);
    let reader = Content::reader(body.len() as u64, io::Cursor::new(body.clone()));
    let immich = client(&fake).await;
    let answer = immich.upload(upload("a.jpg"), reader).await.expect("uploaded");
    assert_eq!(immich.asset(&answer.id).await.expect("it").checksum, sum(&body));
}

/// What can't be read to its end, or is not as long as it was said to be, leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_fails_adds_nothing() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    let piece = || Ok(bytes(300_000, 1));
    let broken = || Err(io::Error::new(io::ErrorKind::InvalidData, "its CRC is wrong"));
    let sources = [
        Content::new(600_000, futures::stream::iter([piece(), broken()])),
        // A sum is wrong only at the end, when all bytes are there.
        Content::new(300_000, futures::stream::iter([piece(), broken()])),
        Content::new(600_000, futures::stream::iter([piece()])),
        Content::new(299_999, futures::stream::iter([piece()])),
        Content::new(300_000, futures::stream::iter([piece(), piece()])),
        Content::new(0, futures::stream::iter([broken()])),
    ];
    for (at, source) in sources.into_iter().enumerate() {
        let error = refused(immich.upload(upload("a.jpg"), source)).await;
        assert!(matches!(error, Error::Source(_)), "{at}: {error}");
    }
    assert_eq!(fake.state()["assets"], serde_json::json!([]));
    assert_eq!(fake.counts().created, 0);
}

/// A source that takes its time is no stall of the network.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_source_is_waited_for() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    let pieces = futures::stream::iter(0..3u8).then(|at| async move {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        Ok(bytes(1000, at))
    });
    let answer = immich.upload(upload("a.jpg"), Content::new(3000, pieces)).await.expect("uploaded");
    assert_eq!(answer.verdict, Verdict::Created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_uploads_at_once_each_get_their_own_answer() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    let uploads = (0..200u8).map(|seed| {
        let immich = &immich;
        async move {
            let body = bytes(20_000 + usize::from(seed), seed);
            let answer = immich.upload(upload(&format!("{seed}.jpg")), content(&body)).await.expect("uploaded");
            (answer.id, sum(&body))
        }
    });
    let done: Vec<_> = futures::stream::iter(uploads).buffer_unordered(32).collect().await;
    let sums: Vec<_> = done.iter().map(|(_, sum)| *sum).collect();
    let answers = immich.bulk_check(&sums).await.expect("answers");
    for ((id, _), answer) in done.iter().zip(answers) {
        assert_eq!(answer, haven_immich::BulkAnswer::Has { id: id.clone(), trashed: false });
    }
}
