//! The way of a message through the outbox: tries, stand-ins, pauses that services ask for, and kills in the middle.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU32, Ordering::SeqCst},
};

use haven_notify::{Channel, Letter, Outbox, Postman, Route, Severity};

use crate::fake::{Answer, Fake, channel, http, message, say};

struct Office {
    folder: tempfile::TempDir,
    time: Arc<AtomicI64>,
}

impl Office {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), time: Arc::new(AtomicI64::new(1_000_000)) }
    }

    /// As after a start of the process: only the disk is the same.
    fn postman(&self, channels: &[Channel]) -> Postman {
        let time = self.time.clone();
        let outbox = Outbox::open(self.folder.path()).unwrap();
        Postman::new(outbox, channels.to_vec(), http(), Arc::new(move || time.load(SeqCst)))
            .spaced(std::time::Duration::ZERO)
    }

    fn outbox(&self) -> Outbox {
        Outbox::open(self.folder.path()).unwrap()
    }

    fn put(&self, route: &Route, id: &str) -> Letter {
        let letter = route.letter(message(id, "log"), self.time.load(SeqCst));
        assert!(self.outbox().put(&letter).unwrap());
        letter
    }
}

fn route(to: &str, otherwise: &[&str]) -> Route {
    Route { to: vec![(to.into(), Severity::Info)], otherwise: otherwise.iter().map(|&name| name.into()).collect() }
}

fn hook(name: &str, fake: &Fake) -> Channel {
    channel(name, &format!(r#"{{"kind": "webhook", "url": "{}"}}"#, fake.url), "")
}

#[tokio::test]
async fn the_first_channel_is_tried_five_times_and_then_the_second_is_told_why() {
    let (bad, good) = (Fake::start(|_| say(503, "down")).await, Fake::start(|_| say(200, "{}")).await);
    let office = Office::new();
    let postman = office.postman(&[hook("bad", &bad), hook("good", &good)]);
    office.put(&route("bad", &["good"]), "m1");
    let mut pauses = Vec::new();
    while let Some(next) = postman.pump().await.unwrap() {
        pauses.push(next - office.time.load(SeqCst));
        office.time.store(next, SeqCst);
    }
    assert_eq!(pauses, [1000, 5000, 15_000, 60_000, 0]);
    assert_eq!((bad.heard().len(), good.heard().len()), (5, 1));
    assert!(good.heard()[0].json()["body"].as_str().unwrap().contains("bad could not be told: status 503: down"));
    let told = office.outbox().told().unwrap();
    assert_eq!(told[0].deliveries[0].receipt.as_ref().unwrap().channel, "good");
    assert!(office.outbox().waiting().unwrap().is_empty());
}

#[tokio::test]
async fn after_a_clock_was_set_back_nobody_waits_for_the_time_that_it_showed() {
    const WEEK: i64 = 7 * 86_400_000;
    let broken = Arc::new(AtomicU32::new(1));
    let down = broken.clone();
    let fake = Fake::start(move |_| if down.load(SeqCst) > 0 { say(503, "down") } else { say(200, "{}") }).await;
    let office = Office::new();
    let postman = office.postman(&[hook("hook", &fake)]);
    office.time.fetch_add(WEEK, SeqCst);
    office.put(&route("hook", &[]), "m1");
    postman.pump().await.unwrap();
    office.time.fetch_sub(WEEK, SeqCst);
    broken.store(0, SeqCst);
    office.put(&route("hook", &[]), "m2");
    let next = postman.pump().await.unwrap();
    assert_eq!((next, office.outbox().told().unwrap().len()), (None, 2));
}

#[tokio::test]
async fn a_wrong_setting_is_not_tried_again_and_a_missing_channel_is_passed_over() {
    let (wrong, good) = (Fake::start(|_| say(404, "no")).await, Fake::start(|_| say(200, "{}")).await);
    let office = Office::new();
    let postman = office.postman(&[hook("wrong", &wrong), hook("good", &good)]);
    office.put(&route("wrong", &["gone", "good"]), "m1");
    postman.pump().await.unwrap();
    postman.pump().await.unwrap();
    assert_eq!((wrong.heard().len(), good.heard().len()), (1, 1));
}

#[tokio::test]
async fn when_nobody_answers_it_begins_again_and_nothing_is_forgotten() {
    let answers = Arc::new(AtomicU32::new(0));
    let up = answers.clone();
    let fake = Fake::start(move |_| if up.load(SeqCst) == 0 { Answer::Drop } else { say(200, "{}") }).await;
    let office = Office::new();
    let postman = office.postman(&[hook("only", &fake)]);
    office.put(&route("only", &[]), "m1");
    for _ in 0..12 {
        let next = postman.pump().await.unwrap().expect("it is not forgotten");
        office.time.store(next, SeqCst);
    }
    answers.store(1, SeqCst);
    assert_eq!(office.postman(&[hook("only", &fake)]).pump().await.unwrap(), None);
    assert_eq!((fake.heard().len(), office.outbox().told().unwrap().len()), (13, 1));
}

#[tokio::test]
async fn a_service_that_asks_for_a_pause_gets_it_for_all_messages() {
    let count = Arc::new(AtomicU32::new(0));
    let fake = Fake::start(move |_| match count.fetch_add(1, SeqCst) {
        0 => Answer::Say(429, "retry-after: 30\r\n", String::new()),
        _ => say(200, "{}"),
    })
    .await;
    let office = Office::new();
    let postman = office.postman(&[hook("only", &fake)]);
    office.put(&route("only", &[]), "m1");
    office.put(&route("only", &[]), "m2");
    for seconds in [0, 1, 29] {
        office.time.store(1_000_000 + seconds * 1000, SeqCst);
        postman.pump().await.unwrap();
        assert_eq!(fake.heard().len(), 1, "after {seconds} s");
    }
    office.time.store(1_030_000, SeqCst);
    assert_eq!(postman.pump().await.unwrap(), None);
    assert_eq!(fake.heard().len(), 3);
}

#[tokio::test]
async fn a_message_is_taken_once_even_after_it_was_told() {
    let fake = Fake::start(|_| say(200, "{}")).await;
    let office = Office::new();
    let letter = office.put(&route("only", &[]), "m1");
    assert!(!office.outbox().put(&letter).unwrap());
    office.postman(&[hook("only", &fake)]).pump().await.unwrap();
    assert!(!office.outbox().put(&letter).unwrap(), "it was told");
    office.postman(&[hook("only", &fake)]).pump().await.unwrap();
    assert_eq!(fake.heard().len(), 1);
}

#[tokio::test]
async fn a_kill_in_the_middle_loses_nothing_and_the_second_try_says_that_it_is_one() {
    let hanging = Fake::start(|_| Answer::Hang).await;
    let office = Office::new();
    office.put(&route("only", &[]), "m1");
    let killed = office.postman(&[hook("only", &hanging)]);
    // Dropped while the request is under way.
    _ = tokio::time::timeout(std::time::Duration::from_millis(200), killed.pump()).await;
    assert_eq!(hanging.heard().len(), 1);
    let fake = Fake::start(|_| say(200, "{}")).await;
    office.postman(&[hook("only", &fake)]).pump().await.unwrap();
    assert!(fake.heard()[0].json()["body"].as_str().unwrap().contains("Perhaps told before"));
}

#[tokio::test]
async fn who_wants_only_grave_things_hears_only_those_and_a_stand_in_hears_once() {
    let good = Fake::start(|_| say(200, "{}")).await;
    let office = Office::new();
    let route = Route {
        to: vec![("a".into(), Severity::Info), ("b".into(), Severity::Critical), ("good".into(), Severity::Info)],
        otherwise: vec!["good".into()],
    };
    let mut mild = message("m1", "");
    mild.severity = Severity::Warning;
    assert_eq!(route.letter(mild, 0).deliveries.len(), 2);
    office.put(&route, "m2");
    let postman = office.postman(&[hook("good", &good)]);
    while postman.pump().await.unwrap().is_some() {}
    assert_eq!(good.heard().len(), 1);
}

const DAY: i64 = 86_400_000;

fn two(a: &str, b: &str) -> Route {
    Route { to: vec![(a.into(), Severity::Info), (b.into(), Severity::Info)], otherwise: Vec::new() }
}

#[tokio::test]
async fn what_somebody_was_told_does_not_wait_for_a_channel_that_is_no_more() {
    let good = Fake::start(|_| say(200, "{}")).await;
    let office = Office::new();
    let postman = office.postman(&[hook("good", &good)]);
    office.put(&two("gone", "good"), "m1");
    office.put(&route("gone", &[]), "m2");
    for _ in 0..3 {
        assert_eq!(postman.pump().await.unwrap(), None, "there is nothing to try");
    }
    let ids = |letters: Vec<Letter>| letters.into_iter().map(|letter| letter.message.id).collect::<Vec<_>>();
    assert_eq!(ids(office.outbox().told().unwrap()), ["m1"]);
    assert_eq!(ids(office.outbox().waiting().unwrap()), ["m2"], "nobody was told, and the channel may come back");
    office.postman(&[hook("gone", &good)]).pump().await.unwrap();
    assert_eq!((good.heard().len(), office.outbox().waiting().unwrap().len()), (2, 0));
}

#[tokio::test]
async fn each_way_is_given_up_after_two_weeks_whoever_was_told_on_another() {
    let (bad, good) = (Fake::start(|_| say(503, "down")).await, Fake::start(|_| say(200, "{}")).await);
    let office = Office::new();
    let postman = office.postman(&[hook("bad", &bad), hook("good", &good)]);
    office.put(&two("bad", "good"), "m1");
    office.put(&route("bad", &[]), "m2");
    office.put(&route("gone", &[]), "m3");
    postman.pump().await.unwrap();
    office.time.fetch_add(13 * DAY, SeqCst);
    postman.pump().await.unwrap();
    assert_eq!(office.outbox().waiting().unwrap().len(), 3);
    office.time.fetch_add(2 * DAY, SeqCst);
    let before = bad.heard().len();
    for _ in 0..3 {
        postman.pump().await.unwrap();
        office.time.fetch_add(2000, SeqCst);
    }
    assert!(bad.heard().len() > before, "it is tried once more before that");
    let mut told = office.outbox().told().unwrap();
    told.sort_by_key(|letter| letter.message.id.clone());
    assert_eq!(told.iter().map(|letter| letter.given_up).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!((good.heard().len(), office.outbox().waiting().unwrap().len()), (1, 0));
}

#[tokio::test]
async fn a_torn_file_stops_nobody_and_a_second_teller_is_refused() {
    let fake = Fake::start(|_| say(200, "{}")).await;
    let office = Office::new();
    office.put(&route("only", &[]), "m1");
    std::fs::write(office.folder.path().join("waiting/torn.json"), "{\"mess").unwrap();
    let first = office.outbox().lock().unwrap();
    assert!(first.is_some() && office.outbox().lock().unwrap().is_none());
    drop(first);
    assert!(office.outbox().lock().unwrap().is_some());
    office.postman(&[hook("only", &fake)]).pump().await.unwrap();
    assert_eq!(fake.heard().len(), 1);
}

#[tokio::test]
async fn what_the_outbox_cannot_take_is_told_all_the_same_once_by_each_way_and_noted_when_it_can() {
    let (good, bad) = (Fake::start(|_| say(200, "{}")).await, Fake::start(|_| say(503, "down")).await);
    let office = Office::new();
    let postman = office.postman(&[hook("good", &good), hook("bad", &bad)]);
    let to = Route { to: vec![("good".into(), Severity::Info), ("bad".into(), Severity::Info)], ..Route::default() };
    let mut letter = to.letter(message("m1", "log"), office.time.load(SeqCst));
    for _ in 0..3 {
        postman.hand_over(&mut letter).await;
    }
    assert_eq!((good.heard().len(), bad.heard().len()), (1, 1), "one was told, the other is given time");
    assert!(letter.is_told() && letter.is_open() && office.outbox().waiting().unwrap().is_empty());
    office.time.fetch_add(1000, SeqCst);
    postman.hand_over(&mut letter).await;
    assert_eq!((good.heard().len(), bad.heard().len()), (1, 2));
    office.outbox().save(&letter).unwrap();
    office.time.fetch_add(5000, SeqCst);
    postman.pump().await.unwrap();
    assert_eq!((good.heard().len(), bad.heard().len()), (1, 3), "the outbox goes on from there");
}
