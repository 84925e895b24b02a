//! The keeper, on real mounts: it does what is due, notes it, tells people, and ends in order or by a kill.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{mounted::can_mount, run::Machine};

/// A keeper under way; ended when dropped.
struct Keeper<'a> {
    machine: &'a Machine,
    child: Child,
}

impl<'a> Keeper<'a> {
    fn start(machine: &'a Machine) -> Self {
        fs::create_dir_all(machine.path("m")).unwrap_or_default();
        let log = fs::OpenOptions::new().create(true).append(true).open(machine.path("keeper.log")).unwrap();
        let child = machine.command("run").stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let keeper = Self { machine, child };
        keeper.until("it is mounted", |machine| machine.run("status @m --json").exit == 0);
        keeper
    }

    fn until(&self, what: &str, mut holds: impl FnMut(&Machine) -> bool) {
        let begun = Instant::now();
        while !holds(self.machine) {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{what}:\n{}\n{}",
                self.log(),
                self.machine.run("runs").out
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.machine.path("keeper.log")).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        let done = std::process::Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
        assert!(done.unwrap().success());
    }

    /// As a service manager ends it; its exit code.
    fn stop(mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().unwrap().code()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        self.machine.run("umount @m --detach");
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"))
}

fn runs(machine: &Machine, kind: &str) -> Vec<Value> {
    json(&machine.run(&format!("runs --all --json --kind {kind}")).out)["runs"].as_array().unwrap().clone()
}

fn done(machine: &Machine, kind: &str) -> usize {
    runs(machine, kind).iter().filter(|run| run["verdict"] == "ok").count()
}

/// What the page answers, all of it.
fn page(port: u16, path: &str, headers: &str) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A library with settings for a keeper that is in a hurry.
fn machine(more: &str) -> Machine {
    let machine = Machine::with_library();
    let text = |name: &str| machine.text(name);
    let page = if more.contains("[page]") { "" } else { "[page]\nlisten = \"off\"\n" };
    let toml = format!(
        "[library]\nurl = {:?}\n[mount]\npoint = {:?}\n[cache]\ndirectory = {:?}\n[store.retry]\npatience = \"200ms\"\n\
         {page}[health]\nevery = \"500ms\"\ndisk_full = 0.999\nlate = 1000\n{}\n",
        text("lib"),
        text("m"),
        text("cache"),
        more.replace("@", &format!("{}/", text("").trim_end_matches('/')))
    );
    machine.write("haven.toml", toml);
    machine
}

const NOTHING: &str = "directory = \"@keeper\"\njitter = \"0s\"\nretry = \"1s\"\nsnapshot = \"off\"\nbackup = \"off\"\nreplica = \"off\"\n\
                       copy = \"off\"\ngc = \"off\"\nscrub = \"off\"\ndrill_0 = \"off\"\ndrill_1 = \"off\"\ndrill_2 = \"off\"\nreport = \"off\"\n";

/// `[schedule]` with nothing but `lines`.
fn schedule(lines: &str) -> String {
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let named: Vec<String> = lines.lines().map(name).collect();
    let rest: String =
        NOTHING.lines().filter(|line| !named.contains(&name(line))).map(|line| format!("{line}\n")).collect();
    format!("[schedule]\n{rest}{lines}\n")
}

#[test]
fn a_keeper_mounts_does_what_is_due_notes_it_and_ends_in_order() {
    if !can_mount() {
        return;
    }
    let times = "snapshot = \"every 2s\"\nreplica = \"every 2s\"\nscrub = \"every 3s\"\nscrub_share = \"100%\"\ngc = \"every 5s\"";
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let more = "metrics_token.file = \"@metrics-token\"\n[replica.near]\nurl = \"@near\"\n";
    let machine = machine(&format!("{}[page]\nlisten = \"127.0.0.1:{port}\"\n{more}", schedule(times)));
    machine.write("metrics-token", "a-token-for-prometheus");
    fs::create_dir(machine.path("near")).unwrap();
    let planned = json(&machine.run("schedule --json").out);
    assert_eq!(planned["jobs"].as_array().unwrap().len(), 4, "{planned}");
    assert_eq!(planned["jobs"][0]["next"].as_array().unwrap().len(), 5);
    let keeper = Keeper::start(&machine);
    fs::write(machine.path("m/IMG_1.jpg"), "a photo").unwrap();
    keeper.until("each was done twice", |machine| {
        ["snapshot", "replica", "scrub"].iter().all(|kind| done(machine, kind) >= 2) && done(machine, "gc") >= 1
    });
    // The page: alive to everybody, and nothing else without a token.
    assert!(page(port, "/healthz", "").starts_with("HTTP/1.1 200"), "{}", keeper.log());
    let shut = page(port, "/metrics", "");
    assert!(shut.starts_with("HTTP/1.1 401") || shut.starts_with("HTTP/1.1 403"), "{shut}");
    let metrics = page(port, "/metrics", "Authorization: Bearer a-token-for-prometheus\r\n");
    assert!(metrics.contains("haven_mount_up 1") && metrics.contains("haven_run_last_good"), "{metrics}");
    let second = machine.run("run");
    assert!(second.exit == 7 && second.err.contains("another keeper"), "{}", second.err);
    let health = json(&machine.run("health --json").out);
    let keys: Vec<_> = health["findings"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert_eq!((&health["by_keeper"], keys), (&true.into(), vec!["shared-fate"]), "both are on one disk: {health}");
    assert_eq!(health["score"]["shown"], "?-?-?-?-?", "two copies on one disk, and nothing tried: {health}");
    let newest = &runs(&machine, "replica")[0];
    let one = machine.run(&format!("runs {}", newest["id"]));
    assert!(one.out.contains("$ haven replica sync near"), "{}", one.out);
    // A changed schedule holds from the next signal on.
    let text = fs::read_to_string(machine.path("haven.toml")).unwrap();
    machine.write("haven.toml", text.replace("snapshot = \"every 2s\"", "snapshot = \"off\""));
    keeper.signal("-HUP");
    keeper.until("it is read again", |_| keeper.log().contains("read again"));
    assert_eq!(keeper.stop(), Some(0));
    assert!(!machine.path("m/IMG_1.jpg").exists(), "it is unmounted");
    let all = json(&machine.run("runs --all --json").out);
    assert!(all["runs"].as_array().unwrap().iter().all(|run| run["verdict"] != "running"), "{all}");
    let away = machine.run("health");
    assert_eq!(away.exit, 12);
    assert!(away.out.contains("not mounted") && away.out.contains("the keeper is not at work"), "{}", away.out);
}

#[test]
fn what_was_at_work_when_the_keeper_was_killed_is_ended_noted_and_done_again() {
    if !can_mount() {
        return;
    }
    let app = "[backup]\nquiesce = \"commands\"\n[backup.papers]\nkind = \"folder\"\nfolder = \"papers\"\nbefore = \"test -e @go || sleep 600\"\nafter = \"true\"\n";
    let machine = machine(&format!("{}{app}", schedule("backup = \"every 2s\"")));
    let keeper = Keeper::start(&machine);
    fs::create_dir(machine.path("m/papers")).unwrap();
    keeper.until("a run is at work", |machine| {
        runs(machine, "backup").iter().any(|run| run["verdict"] == "running" && run["pid"].is_number())
    });
    let run = runs(&machine, "backup")[0].clone();
    let pid = run["pid"].as_i64().unwrap();
    keeper.kill();
    machine.write("go", "");
    let keeper = Keeper::start(&machine);
    let left = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(left.is_empty() || left.contains(") Z "), "the child went with its keeper: {left}");
    let noted = json(&machine.run(&format!("runs {} --json", run["id"])).out);
    assert_eq!(noted["run"]["verdict"], "killed", "{noted}");
    keeper.until("it is done", |machine| done(machine, "backup") >= 1);
    assert_eq!(keeper.stop(), Some(0));
}

#[test]
fn a_ledger_that_is_damaged_keeps_nothing_from_being_mounted_and_done_and_is_told() {
    if !can_mount() {
        return;
    }
    let machine = machine(&schedule("snapshot = \"every 2s\""));
    fs::create_dir(machine.path("keeper")).unwrap();
    machine.write("keeper/ledger.sqlite", "rubbish, and long enough to be looked at as a database");
    let keeper = Keeper::start(&machine);
    keeper.until("a snapshot is taken", |machine| done(machine, "snapshot") >= 1);
    keeper.until("it is told", |machine| {
        let health = json(&machine.run("health --json").out);
        let all = health["findings"].as_array().unwrap();
        health["by_keeper"] == true && all.iter().any(|one| one["key"] == "ledger-damaged")
    });
    assert_eq!(keeper.stop(), Some(0));
}

#[test]
fn damage_is_told_until_it_is_mended_whatever_the_next_scrubs_draw_and_across_restarts() {
    if !can_mount() {
        return;
    }
    // So small a share that no pack is drawn.
    let machine = machine(&schedule("scrub = \"every 2s\"\nscrub_share = \"0.00001%\""));
    let keeper = Keeper::start(&machine);
    fs::write(machine.path("m/IMG_1.jpg"), "a photo".repeat(9999)).unwrap();
    assert_eq!(machine.run("flush @m").exit, 0);
    let mut pack = machine.path("lib/p");
    while pack.is_dir() {
        pack = fs::read_dir(&pack).unwrap().next().unwrap().unwrap().path();
    }
    let whole = fs::read(&pack).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&pack, flipped).unwrap();
    assert_eq!(machine.run("check --library @m --read-data").exit, 6);
    let damaged = |machine: &Machine| {
        let health = json(&machine.run("health --json").out);
        let is = health["findings"].as_array().unwrap().iter().any(|one| one["key"] == "damaged");
        is && health["by_keeper"] == true
    };
    let scrubs = |machine: &Machine| {
        let run = |run: &&Value| run["ended"].is_number();
        runs(machine, "scrub").iter().filter(run).count()
    };
    let after_two_more = |keeper: &Keeper<'_>| {
        let before = scrubs(&machine);
        keeper.until("it was scrubbed twice", |machine| scrubs(machine) >= before + 2);
    };
    keeper.until("it is told", damaged);
    after_two_more(&keeper);
    assert!(damaged(&machine), "no scrub has drawn it: {}", machine.run("runs").out);
    assert_eq!(keeper.stop(), Some(0));
    let keeper = Keeper::start(&machine);
    after_two_more(&keeper);
    assert!(damaged(&machine), "nobody has mended it: {}", machine.run("runs").out);
    fs::write(&pack, whole).unwrap();
    assert_eq!(machine.run("check --library @m").exit, 0, "what is known to be damaged is read again");
    keeper.until("it is over", |machine| !damaged(machine));
    assert_eq!(keeper.stop(), Some(0));
}

/// A webhook that keeps what it is told. `answer` says what it answers to a title that it hears for the nth time; none:
/// nothing, ever.
struct Hook {
    url: String,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    fn start(answer: impl Fn(&str, usize) -> Option<u16> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let heard = Arc::<Mutex<Vec<Value>>>::default();
        let (kept, answer) = (heard.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, answer) = (kept.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream.ok()?);
                    let mut length = 0;
                    loop {
                        let mut line = String::new();
                        stream.read_line(&mut line).ok()?;
                        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                            length = text.trim().parse().ok()?;
                        }
                        if line == "\r\n" {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    stream.read_exact(&mut body).ok()?;
                    let value: Value = serde_json::from_slice(&body).ok()?;
                    let title = value["title"].as_str()?.to_owned();
                    let nth = {
                        let mut kept = kept.lock().unwrap();
                        kept.push(value);
                        kept.iter().filter(|one| one["title"] == title.as_str()).count()
                    };
                    match answer(&title, nth) {
                        Some(status) => {
                            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\n{{}}");
                            stream.get_mut().write_all(text.as_bytes()).ok()?;
                        }
                        None => std::thread::sleep(Duration::from_secs(600)),
                    }
                    Some(())
                });
            }
        });
        Self { url, heard }
    }

    fn titles(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|value| value["title"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_failure_is_told_once_although_the_keeper_is_killed_in_the_middle_of_it_and_so_is_that_it_is_over() {
    if !can_mount() {
        return;
    }
    let hook =
        Hook::start(|title, nth| if nth == 1 && title.starts_with("replica near failed") { None } else { Some(200) });
    let alert = format!(
        "[alert]\ncalm = \"1s\"\n[alert.hook]\nkind = \"webhook\"\nurl = {:?}\n[replica.near]\nurl = \"@near/x\"\n",
        hook.url
    );
    let machine = machine(&format!("{}{alert}", schedule("replica = \"every 2s\"")));
    // A file where the replica's folder should be.
    machine.write("near", "");
    let keeper = Keeper::start(&machine);
    let failures = || hook.titles().iter().filter(|title| title.starts_with("replica near failed")).count();
    keeper.until("it is being told", |_| failures() == 1);
    keeper.kill();
    let keeper = Keeper::start(&machine);
    keeper.until("it is told", |_| failures() >= 2);
    fs::remove_file(machine.path("near")).unwrap();
    fs::create_dir_all(machine.path("near/x")).unwrap();
    keeper
        .until("it is over", |_| hook.titles().iter().any(|title| title.starts_with("Recovered: replica near failed")));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(keeper.stop(), Some(0));
    let heard = hook.heard.lock().unwrap().clone();
    let of = |start: &str| {
        heard.iter().filter(|value| value["title"].as_str().unwrap().starts_with(start)).collect::<Vec<_>>()
    };
    let failed = of("replica near failed");
    assert_eq!((failed.len(), of("Recovered: replica near").len()), (2, 1), "{:?}", hook.titles());
    // The first was never acknowledged: the same message, and it says so.
    assert_eq!(failed[0]["id"], failed[1]["id"]);
    assert!(failed[1]["body"].as_str().unwrap().contains("Perhaps told before"), "{:?}", failed[1]);
    assert!(failed[1]["log"].as_str().unwrap().contains("haven: "), "the end of the log is with it: {:?}", failed[1]);
}

#[test]
fn everybody_who_is_told_can_be_tried_and_says_what_it_answered() {
    let machine = Machine::new();
    let none = machine.run("alert test");
    assert!(none.exit == 2 && none.err.contains("nobody to tell"), "{}", none.err);
    let hook = Hook::start(|_, nth| Some(if nth == 1 { 200 } else { 503 }));
    let toml = format!(
        "[schedule]\ndirectory = {:?}\n[alert.hook]\nkind = \"webhook\"\nurl = {:?}\n[alert.other]\nkind = \"webhook\"\nurl = {:?}\n",
        machine.text("keeper"),
        hook.url,
        hook.url
    );
    machine.write("haven.toml", toml);
    let tried = machine.run("alert test");
    assert_eq!(tried.exit, 4, "{}", tried.err);
    assert!(
        tried.out.contains("hook         took it") && tried.out.contains("other        DID NOT TAKE IT: status 503"),
        "{}",
        tried.out
    );
    assert!(machine.run("alert test nobody").err.contains("[alert.nobody]"));
    let hook = Hook::start(|_, _| Some(200));
    let toml = fs::read_to_string(machine.path("haven.toml")).unwrap();
    let url = json(&format!("{:?}", hook.url));
    machine.write(
        "haven.toml",
        toml.lines()
            .filter(|line| !line.starts_with("url"))
            .collect::<Vec<_>>()
            .join("\n")
            .replace("kind = \"webhook\"", &format!("kind = \"webhook\"\nurl = {url}")),
    );
    let unit = machine.run("alert unit haven-no-such-unit.service");
    assert_eq!(unit.exit, 0, "{}{}", unit.out, unit.err);
    assert_eq!(hook.titles(), ["haven-no-such-unit.service failed"; 2]);
    // One of two that does not answer any more holds nobody up.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let toml = fs::read_to_string(machine.path("haven.toml")).unwrap();
    machine.write("haven.toml", format!("{toml}\n[alert.dead]\nkind = \"webhook\"\nurl = \"http://{dead}/\"\n"));
    let begun = Instant::now();
    for unit in ["first.service", "second.service"] {
        let told = machine.run(&format!("alert unit {unit}"));
        assert_eq!(told.exit, 0, "{}{}", told.out, told.err);
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(hook.titles().len(), 6, "two letters to two channels more");
}
