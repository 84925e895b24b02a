//! Telling people: findings become conditions, conditions messages, messages letters in the outbox.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use haven_keeper::{
    findings::{Finding, Severity},
    ledger::Ledger,
};
use haven_notify::{Book, ChannelSettings, Condition, Http, Letter, Limits, Message, Outbox, Ping, Postman, Switch};
use tokio::sync::Notify;

use super::{
    locked, millis,
    settings::{ChannelConfig, Rooms},
};
use crate::{
    config::Config,
    report::{Code, Trouble, UNTOUCHED},
    wire,
    words::causes,
};

/// What stands before a finding's id (kind and subject) in the ledger's notes while nobody wants to hear of it.
const HUSH: &str = "hush ";

pub struct Teller {
    postman: Postman,
    http: Http,
    book: Mutex<Book>,
    /// The book knows of what the one on the disk does not.
    ahead: AtomicBool,
    /// Letters that the outbox could not take: they are told without it, and put there when it can take them.
    unkept: Mutex<Vec<Letter>>,
    settling: tokio::sync::Mutex<()>,
    /// Why the outbox can't be used.
    trouble: Mutex<Option<String>>,
    rooms: Rooms,
    wanted: Notify,
    /// The right to deliver, once it was had.
    lock: Mutex<Option<std::fs::File>>,
    runtime: tokio::runtime::Handle,
}

pub fn http() -> Result<Http, Trouble> {
    Http::new(None, Limits::default())
        .map_err(|why| Trouble::new(Code::Local, "nobody can be told by TLS").because(why).meaning(UNTOUCHED))
}

/// What a person reads: what it means, then each step.
fn body(finding: &Finding) -> String {
    let steps: String = finding.next.iter().map(|step| format!("\n→ {step}")).collect();
    format!("{}{steps}", finding.meaning)
}

impl Teller {
    /// To be called on a runtime.
    pub fn new(rooms: &Rooms, config: &Config) -> Result<Self, Trouble> {
        let outbox = Outbox::open(&rooms.outbox()).map_err(|error| super::cannot(rooms.root(), &error))?;
        let book = Book::load(&rooms.book()).unwrap_or_else(|error| {
            // People are told again rather than not at all.
            tracing::warn!(%error, "what people know can't be read; they are told anew");
            Book::default()
        });
        let http = http()?;
        let postman = Postman::new(outbox, config.channels(), http.clone(), Arc::new(millis));
        Ok(Self {
            postman,
            http,
            book: Mutex::new(book),
            ahead: AtomicBool::new(false),
            unkept: Mutex::default(),
            settling: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
            rooms: rooms.clone(),
            wanted: Notify::new(),
            lock: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// Messages that are not told to everybody yet.
    pub fn waiting(&self) -> Result<usize, haven_notify::OutboxError> {
        let kept = self.postman.outbox().waiting()?;
        let more =
            |letter: &&Letter| letter.is_open() && !kept.iter().any(|other| other.message.id == letter.message.id);
        Ok(kept.len() + locked(&self.unkept).iter().filter(more).count())
    }

    /// Why a message may be lost when this process ends; none: it is on the disk until it is told.
    pub fn trouble(&self) -> Option<String> {
        let trouble = locked(&self.trouble).clone();
        trouble.or_else(|| (!locked(&self.unkept).is_empty()).then(|| "the outbox could not take one".to_owned()))
    }

    pub fn use_config(&self, config: &Config) {
        self.postman.use_channels(config.channels());
    }

    /// Returns when there may be something to deliver.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    fn may_deliver(&self) -> bool {
        let mut lock = locked(&self.lock);
        if lock.is_none() {
            *lock = self.postman.outbox().lock().unwrap_or_else(|error| {
                tracing::error!(%error, "the outbox can't be locked");
                *locked(&self.trouble) = Some(causes(&error));
                None
            });
        }
        lock.is_some()
    }

    /// Tries all that is due; when the next try is due, milliseconds since the epoch.
    pub async fn deliver(&self) -> Option<i64> {
        let alone = self.may_deliver();
        if !self.settle().await || !alone {
            return None;
        }
        let pumped = self.postman.pump().await;
        *locked(&self.trouble) = pumped.as_ref().err().map(|error| causes(error));
        pumped.unwrap_or_else(|error| {
            tracing::error!(why = causes(&error), "the outbox can't be used");
            self.adopt();
            None
        })
    }

    /// Puts into the outbox what it could not take before. What it still can't take is told without it. Whether nothing is left.
    async fn settle(&self) -> bool {
        let Ok(_alone) = self.settling.try_lock() else { return false };
        let waiting = locked(&self.unkept).clone();
        for mut letter in waiting {
            let mut kept = self.postman.outbox().save(&letter).is_ok();
            if !kept {
                self.postman.hand_over(&mut letter).await;
                kept = self.postman.outbox().save(&letter).is_ok();
            }
            let mut unkept = locked(&self.unkept);
            match unkept.iter().position(|other| other.message.id == letter.message.id) {
                Some(at) if kept => drop(unkept.remove(at)),
                Some(at) => unkept[at] = letter,
                None => {}
            }
        }
        locked(&self.unkept).is_empty()
    }

    /// What is in an outbox that can't be written is told as if it were not there: how far it is can't be noted in it.
    fn adopt(&self) {
        let Ok(waiting) = self.postman.outbox().waiting() else { return };
        let mut unkept = locked(&self.unkept);
        for letter in waiting {
            if !unkept.iter().any(|other| other.message.id == letter.message.id) {
                unkept.push(letter);
            }
        }
    }

    /// Forgets what was told long ago.
    pub fn forget(&self) {
        if let Err(error) = self.postman.outbox().forget(millis()) {
            tracing::warn!(%error, "messages of long ago can't be forgotten");
        }
    }

    /// Puts a message into the outbox; where that can't be, it is told without it. Whether it is on the disk.
    pub fn put(&self, config: &Config, message: Message) -> bool {
        let letter = config.route().letter(message, millis());
        let put = self.postman.outbox().put(&letter);
        if let Err(error) = &put {
            tracing::error!(why = causes(error), id = letter.message.id, "the outbox can't take a message");
            locked(&self.unkept).push(letter);
        }
        self.wanted.notify_one();
        put.is_ok()
    }

    /// Tells what is new, worse, still so, or well again. `judged` tells of an id whether its finding would be here, were it
    /// so.
    pub fn tell_findings(&self, config: &Config, ledger: &Ledger, findings: &[Finding], judged: impl Fn(&str) -> bool) {
        let now = millis();
        let wanted = findings.iter().filter(|finding| finding.severity >= Severity::Warning);
        let conditions: Vec<Condition> = wanted
            .map(|finding| Condition {
                key: finding.id(),
                severity: finding.severity,
                title: finding.title.clone(),
                body: body(finding),
                log: finding.log.clone(),
                hushed: hushed_until(ledger, &finding.id()).is_some_and(|until| until * 1000 > now),
            })
            .collect();
        let mut book = locked(&self.book);
        let before = book.clone();
        let messages = book.look(now, &conditions, judged, &config.alert.manner(), &wire::host());
        for message in messages {
            tracing::warn!(message = message.id, "{}", message.title);
            self.put(config, message);
        }
        // What is not in the outbox must not be in the book on the disk either: it is told anew after a restart.
        let changed = *book != before || self.ahead.load(Ordering::Relaxed);
        let saved = if !changed {
            Ok(())
        } else if locked(&self.unkept).is_empty() {
            book.save(&self.rooms.book()).map_err(|error| error.to_string())
        } else {
            Err("a message is not on the disk yet".to_owned())
        };
        self.ahead.store(saved.is_err(), Ordering::Relaxed);
        if let Err(why) = saved {
            tracing::error!(why, "what people know can't be noted");
        }
    }

    /// The settings could not be read again.
    pub fn tell_reload(&self, config: &Config, trouble: &Trouble) {
        let message = Message {
            id: format!("reload-{}", millis()),
            severity: Severity::Warning,
            title: format!("the changed settings can't be used: {}", trouble.what),
            body: "What held before goes on holding. → correct haven.toml, and systemctl reload haven".into(),
            log: trouble.render(false),
            host: wire::host(),
            html: String::new(),
            weight: None,
        };
        self.put(config, message);
    }

    /// A part of the keeper broke off and is begun again. Once a day is enough: it may be so at every try.
    pub fn tell_broken(&self, config: &Config, part: &str) {
        let now = millis();
        let message = Message {
            id: format!("keeper-{part}-{}", now.div_euclid(86_400_000)),
            severity: Severity::Warning,
            title: format!("a part of the keeper broke off, and is begun again: {part}"),
            body: "This is a mistake in Haven, and not in your settings; the mount is not touched by it. Until it is mended, what \
                   that part does may be late, or not done: look at `haven health` yourself. → journalctl -u haven -e    says \
                   where it was; please tell the authors"
                .into(),
            log: String::new(),
            host: wire::host(),
            html: String::new(),
            weight: None,
        };
        self.put(config, message);
    }

    /// Tells every dead-man's switch, without waiting for it.
    pub fn ping(&self, config: &Config, kind: &str, ping: Ping, token: Option<&str>, log: &str) {
        for (name, switch) in switches(&config.channels, &self.http) {
            let (kind, token, log) = (kind.to_owned(), token.map(str::to_owned), log.to_owned());
            self.runtime.spawn(async move {
                if let Err(error) = switch.ping(&kind, ping, token.as_deref(), &log).await {
                    tracing::warn!(%error, channel = name, kind, "the dead-man's switch was not told");
                }
            });
        }
    }
}

/// The dead-man's switches among the channels.
pub fn switches(channels: &std::collections::BTreeMap<String, ChannelConfig>, http: &Http) -> Vec<(String, Switch)> {
    let one = |(name, channel): (&String, &ChannelConfig)| match &channel.settings {
        ChannelSettings::Healthchecks(settings) => {
            Some((name.clone(), Switch { settings: settings.clone(), http: http.clone() }))
        }
        _ => None,
    };
    channels.iter().filter_map(one).collect()
}

/// Until when nobody wants to hear of a finding, seconds since the epoch. Where that can't be read, people are told.
pub fn hushed_until(ledger: &Ledger, id: &str) -> Option<i64> {
    let note = ledger.note(&format!("{HUSH}{id}"));
    note.inspect_err(|error| tracing::error!(%error, "what nobody wants to hear of can't be read")).ok()??.parse().ok()
}

pub fn hush(ledger: &Ledger, id: &str, until: i64) -> Result<(), haven_keeper::ledger::LedgerError> {
    ledger.set_note(&format!("{HUSH}{id}"), &until.to_string())
}

/// Delivers what is in the outbox from a process that is not the keeper; leaves it to the keeper that is at work. True:
/// somebody was told of `id`. Who could not be is told later, by the keeper or at the next alert: one channel that is dead
/// holds nobody up.
pub async fn deliver_here(config: &Config, rooms: &Rooms, id: &str, patience: Duration) -> Result<bool, Trouble> {
    let outbox = Outbox::open(&rooms.outbox()).map_err(|error| super::cannot(rooms.root(), &error))?;
    let until = tokio::time::Instant::now() + patience;
    let held = outbox.lock().map_err(|error| super::cannot(rooms.root(), &error))?;
    let postman = Postman::new(outbox.clone(), config.channels(), http()?, Arc::new(millis));
    loop {
        // Where it is not held the keeper has it in hand.
        if held.is_some() {
            postman.pump().await.map_err(|error| super::cannot(rooms.root(), &error))?;
        }
        let Some(letter) = outbox.find(id) else { return Ok(false) };
        if letter.is_told() || !letter.is_open() {
            return Ok(!letter.given_up);
        }
        let next = letter.deliveries.iter().filter(|one| one.is_open()).map(|one| one.next).min();
        let at = next.filter(|_| held.is_some()).unwrap_or_else(|| millis() + 500);
        let pause = Duration::from_millis((at - millis()).clamp(100, 60_000).unsigned_abs());
        if tokio::time::Instant::now() + pause > until {
            return Ok(false);
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_amiss_is_told_once_and_well_again_once_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[schedule]\ndirectory = {:?}\n[alert]\ncalm = '1ms'\n[alert.hook]\nkind = 'webhook'\nurl = 'http://127.0.0.1:1'\n",
            folder.path()
        );
        let config = Config::from_text(&text, "").unwrap();
        let rooms = Rooms::of(&config);
        let ledger = Ledger::open(&rooms.ledger()).unwrap();
        let finding = Finding {
            key: "replica-lag".into(),
            subject: "far".into(),
            severity: Severity::Critical,
            title: "far is behind".into(),
            meaning: "so".into(),
            next: vec!["do".into()],
            log: String::new(),
            since: 0,
        };
        let waiting = || Outbox::open(&rooms.outbox()).unwrap().waiting().unwrap();
        for _ in 0..3 {
            // A keeper that is started anew each time.
            Teller::new(&rooms, &config).unwrap().tell_findings(
                &config,
                &ledger,
                std::slice::from_ref(&finding),
                |_| true,
            );
        }
        assert_eq!(waiting().len(), 1);
        assert_eq!(waiting()[0].message.body, "so\n→ do");
        let teller = Teller::new(&rooms, &config).unwrap();
        teller.tell_findings(&config, &ledger, &[], |_| true);
        tokio::time::sleep(Duration::from_millis(5)).await;
        teller.tell_findings(&config, &ledger, &[], |_| true);
        teller.tell_findings(&config, &ledger, &[], |_| true);
        let all = waiting();
        assert_eq!(all.len(), 2);
        assert!(all[1].message.title.starts_with("Recovered: far"), "{all:?}");
        assert_eq!(all[1].deliveries.len(), 1, "who heard of it hears that it is well again");
        hush(&ledger, "replica-lag:far", super::super::seconds() + 60).unwrap();
        teller.tell_findings(&config, &ledger, &[finding], |_| true);
        assert_eq!(waiting().len(), 2, "nobody wants to hear of it");
    }

    /// A webhook that takes everything; how often it did.
    fn hook() -> (String, Arc<std::sync::atomic::AtomicUsize>) {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let heard = Arc::<std::sync::atomic::AtomicUsize>::default();
        let count = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut text = Vec::new();
                // The body is one object: it ends with its brace.
                while !text.ends_with(b"}") {
                    let mut some = [0; 4096];
                    let more = stream.read(&mut some).unwrap();
                    text.extend_from_slice(&some[..more]);
                    if more == 0 {
                        break;
                    }
                }
                count.fetch_add(1, Ordering::SeqCst);
                stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}").unwrap();
            }
        });
        (url, heard)
    }

    #[tokio::test]
    async fn what_a_full_disk_does_not_take_is_told_once_all_the_same_and_noted_when_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let (url, heard) = hook();
        let text =
            format!("[schedule]\ndirectory = {:?}\n[alert.hook]\nkind = 'webhook'\nurl = '{url}'\n", folder.path());
        let config = Config::from_text(&text, "").unwrap();
        let rooms = Rooms::of(&config);
        let ledger = Ledger::in_memory().unwrap();
        let teller = Teller::new(&rooms, &config).unwrap();
        let heard = || heard.load(Ordering::SeqCst);
        let finding = |key: &str| Finding {
            key: key.into(),
            subject: String::new(),
            severity: Severity::Critical,
            title: "the disk is full".into(),
            meaning: "so".into(),
            next: Vec::new(),
            log: String::new(),
            since: 0,
        };
        // Nothing can be written into a file as into a folder.
        let (waiting, away) = (rooms.outbox().join("waiting"), rooms.outbox().join("away"));
        std::fs::rename(&waiting, &away).unwrap();
        std::fs::write(&waiting, "").unwrap();
        for _ in 0..3 {
            teller.tell_findings(&config, &ledger, &[finding("keeper-disk")], |_| true);
            teller.deliver().await;
        }
        assert_eq!(heard(), 1, "it was told, and not at each look");
        assert!(teller.trouble().is_some() && !rooms.book().exists());
        std::fs::remove_file(&waiting).unwrap();
        std::fs::rename(&away, &waiting).unwrap();
        teller.deliver().await;
        teller.tell_findings(&config, &ledger, &[finding("keeper-disk")], |_| true);
        teller.deliver().await;
        assert_eq!((heard(), teller.waiting().unwrap(), teller.trouble()), (1, 0, None));
        assert!(rooms.book().exists());
        // After a restart it is known that it was told.
        let teller = Teller::new(&rooms, &config).unwrap();
        teller.tell_findings(&config, &ledger, &[finding("keeper-disk")], |_| true);
        assert_eq!(teller.waiting().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_finding_is_hushed_by_its_kind_and_subject_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[schedule]\ndirectory = {:?}\n[alert]\nremind = '1ms'\n[alert.hook]\nkind = 'webhook'\nurl = 'http://127.0.0.1:1'\n",
            folder.path()
        );
        let config = Config::from_text(&text, "").unwrap();
        let rooms = Rooms::of(&config);
        let ledger = Ledger::open(&rooms.ledger()).unwrap();
        let finding = |subject: &str, title: &str| Finding {
            key: "replica-lag".into(),
            subject: subject.into(),
            severity: Severity::Critical,
            title: title.into(),
            meaning: "so".into(),
            next: Vec::new(),
            log: String::new(),
            since: 0,
        };
        let teller = Teller::new(&rooms, &config).unwrap();
        let told = |findings: &[Finding]| {
            let before = Outbox::open(&rooms.outbox()).unwrap().waiting().unwrap().len();
            std::thread::sleep(Duration::from_millis(5));
            teller.tell_findings(&config, &ledger, findings, |_| true);
            Outbox::open(&rooms.outbox()).unwrap().waiting().unwrap().len() - before
        };
        assert_eq!(told(&[finding("far", "the replica is 2 hours behind")]), 1);
        hush(&ledger, &finding("far", "").id(), super::super::seconds() + 60).unwrap();
        assert_eq!(told(&[finding("far", "the replica is 2 hours behind")]), 0);
        assert_eq!(told(&[finding("far", "the replica is 3 hours behind")]), 0, "another number is the same finding");
        let same = "the replica is 3 hours behind";
        assert_eq!(
            told(&[finding("far", same), finding("near", same)]),
            1,
            "another finding of the same title is told"
        );
        hush(&ledger, &finding("far", "").id(), super::super::seconds() - 1).unwrap();
        assert_eq!(told(&[finding("far", same)]), 1, "the time is over");
    }
}
