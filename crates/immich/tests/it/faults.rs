//! What goes wrong, and what each error says can be done.

use std::time::{Duration, Instant};

use haven_immich::{Advice, Error, Immich, Space, Standing, Verdict};
use haven_immich_fake::{Fail, Fake, Key, Options, Orders, USER_KEY};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{bytes, client, content, fake, refused, settings, upload};

fn failing(status: u16, retry_after: Option<u64>) -> Orders {
    let fail = Fail { call: "POST /assets".into(), status, times: 1, every: 1, retry_after, message: "no".into() };
    Orders { fail: vec![fail], ..Orders::default() }
}

async fn upload_error(fake: &Fake, immich: &Immich, orders: Orders) -> Error {
    fake.order(orders);
    refused(immich.upload(upload("a.jpg"), content(&bytes(2_000_000, 1)))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_is_tried_again_by_who_called() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    for status in [500, 502, 503, 504, 408, 524] {
        let error = upload_error(&fake, &immich, failing(status, None)).await;
        assert_eq!(error.advice(), Advice::Retry { after: None }, "{status}: {error}");
    }
    let error = upload_error(&fake, &immich, failing(429, Some(3))).await;
    assert_eq!(error.advice(), Advice::Retry { after: Some(Duration::from_secs(3)) });
    let answer = immich.upload(upload("a.jpg"), content(&bytes(2_000_000, 1))).await.expect("now it goes");
    assert_eq!(answer.verdict, Verdict::Created);
}

/// An answer that was lost after the server had done it: the second time it says "duplicate", with the same id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_found_again() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    let error = upload_error(&fake, &immich, Orders { lose_every: 1, ..Orders::default() }).await;
    assert!(matches!(error.advice(), Advice::Retry { .. }), "{error}");
    fake.order(Orders::default());
    let answer = immich.upload(upload("a.jpg"), content(&bytes(2_000_000, 1))).await.expect("an answer");
    assert_eq!(answer.verdict, Verdict::Duplicate);
    assert_eq!(fake.counts().created, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxys_limit_is_named_as_such() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    for _ in 0..20 {
        let error = upload_error(&fake, &immich, Orders { body_max: Some(1_000_000), ..Orders::default() }).await;
        assert_eq!(error.advice(), Advice::TooLarge, "{error}");
        assert!(error.to_string().contains("nginx/1.24.0"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_is_given_up() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    let long = bytes(40_000_000, 1);
    fake.order(Orders { stall_after: Some(1_000_000), ..Orders::default() });
    let started = Instant::now();
    let error = refused(immich.upload(upload("a.mp4"), content(&long))).await;
    assert!(error.to_string().contains("took no byte"), "{error}");
    fake.order(Orders { slow_ms: 60_000, ..Orders::default() });
    let error = refused(immich.account()).await;
    assert!(error.to_string().contains("no answer"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(50), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_says_so() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    let error = upload_error(&fake, &immich, Orders { disk_bytes: Some(1_000_000), ..Orders::default() }).await;
    assert!(matches!(error, Error::Full { space: Space::Disk { available: Some(1_000_000) } }), "{error}");
    assert_eq!(error.advice(), Advice::MakeRoom);

    let mut options = Options::default();
    options.keys[1].quota_bytes = Some(1_500_000);
    let narrow = Fake::start(options).await.expect("a port");
    let immich = client(&narrow).await;
    assert_eq!(immich.account().await.expect("me").room(), Some(1_500_000));
    let error = upload_error(&narrow, &immich, Orders::default()).await;
    assert!(matches!(error, Error::Full { space: Space::Quota }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_the_server_refuses_is_the_only_one_refused() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    let error = refused(immich.upload(upload("a.txt"), content(&bytes(10, 1)))).await;
    assert_eq!(error.advice(), Advice::Refused, "{error}");
    assert!(error.to_string().contains("Unsupported file type a.txt"), "{error}");
    let error = upload_error(&fake, &immich, Orders { refuse_names: vec!["a.jpg".into()], ..Orders::default() }).await;
    assert!(matches!(error, Error::Refused { status: 400, .. }), "{error}");
    immich.upload(upload("b.jpg"), content(&bytes(10, 2))).await.expect("the next one goes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_lacks_something_is_told_what() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    let denied = Orders { deny: vec!["asset.upload".into()], ..Orders::default() };
    let error = upload_error(&fake, &immich, denied).await;
    assert_eq!(error.advice(), Advice::FixKey);
    assert!(error.to_string().contains("asset.upload"), "{error}");

    let mut user = settings(&fake);
    user.key = USER_KEY.to_owned().into();
    let error = refused(Immich::open(user).await.expect("a client").queues()).await;
    assert!(error.to_string().contains("queue.read") && error.to_string().contains("administrator"), "{error}");

    let mut wrong = settings(&fake);
    wrong.key = "wrong".to_owned().into();
    let error = refused(Immich::open(wrong).await.expect("a client").account()).await;
    assert_eq!(error.advice(), Advice::FixKey);
    assert!(error.to_string().contains("Invalid API key"), "{error}");

    let narrow = Key {
        secret: "narrow".into(),
        email: "x@example.org".into(),
        admin: false,
        permissions: vec!["asset.upload".into(), "user.read".into()],
        quota_bytes: None,
    };
    let fake = Fake::start(Options { keys: vec![narrow], ..Options::default() }).await.expect("a port");
    let mut of_narrow = settings(&fake);
    of_narrow.key = "narrow".to_owned().into();
    let immich = Immich::open(of_narrow).await.expect("a client");
    let permissions = immich.key_permissions().await.expect("told").expect("known");
    assert_eq!(permissions.lacks(&["asset.upload", "album.create", "tag.asset"]), ["album.create", "tag.asset"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_waited_for() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    let sending = immich.upload(upload("a.mp4"), content(&bytes(60_000_000, 1)));
    let leaving = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        fake.go();
    };
    let (cut, ()) = tokio::join!(sending, leaving);
    assert!(cut.is_err() || fake.counts().created == 1);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = refused(immich.standing()).await;
    assert_eq!(error.advice(), Advice::Wait, "{error}");
    fake.come_back();
    let deadline = Instant::now() + Duration::from_secs(30);
    while immich.standing().await.is_err() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(immich.standing().await.expect("back"), Standing::Serving);
    immich.upload(upload("b.jpg"), content(&bytes(10, 2))).await.expect("and takes files");
}

/// Something else listens there.
async fn stranger(answer: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_immich_is_told() {
    let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 19\r\nconnection: close\r\n\r\n<h1>My router</h1>\n";
    let moved = "HTTP/1.1 301 Moved\r\nlocation: https://photos/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let absent = "HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\nconnection: close\r\n\r\nnot found";
    let other = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"ok\":true}";
    for (answer, words) in [(page, "web page"), (moved, "https://photos/"), (absent, "404"), (other, "res")] {
        let mut settings = settings(&fake((3, 1, 0)).await);
        settings.address = stranger(answer).await;
        let error = Immich::open(settings).await.err().expect("no Immich");
        assert_eq!(error.advice(), Advice::Stop, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}
