//! `haven import` against a server that speaks Immich's API: what goes wrong is told, and what can be brought is brought.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use haven_immich_fake::{ADMIN_KEY, Fail, Fake, Options, Orders, USER_KEY};
use serde_json::Value;

use crate::{
    made,
    run::{Machine, Said},
};

/// A machine with a Takeout in two parts and a key, and a server.
pub struct Home {
    pub machine: Machine,
    pub fake: Fake,
    runtime: tokio::runtime::Runtime,
}

impl Home {
    pub fn new(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let fake = runtime.block_on(Fake::start(options)).unwrap();
        let machine = Machine::new();
        machine.write("key", format!("{USER_KEY}\n"));
        machine.write("admin", format!("{ADMIN_KEY}\n"));
        fs::create_dir(machine.path("takeout")).unwrap();
        made::takeout(&machine.path("takeout"));
        Self { machine, fake, runtime }
    }

    pub fn import(&self, more: &str) -> Said {
        let server = self.fake.address();
        self.machine.run(&format!(
            "import google-photos @takeout --state @journal --server {server} --api-key-file @key --default-zone UTC \
             --admin-api-key-file @admin {more}"
        ))
    }

    fn order(&self, orders: Orders) {
        self.fake.order(orders);
    }

    pub fn part(&self, number: u32) -> std::path::PathBuf {
        self.machine.path(&format!("takeout/takeout-20240525T201456Z-00{number}.zip"))
    }

    /// Returns when that many uploads were begun.
    fn uploads(&self, count: u64) {
        for _ in 0..2000 {
            if self.fake.counts().calls.get("POST /assets").is_some_and(|calls| *calls >= count) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("no upload begins");
    }

    pub fn assets(&self) -> usize {
        self.fake.state()["assets"].as_array().map_or(0, Vec::len)
    }

    /// One line of JSON for each file.
    fn rows(&self) -> Vec<Value> {
        let said = self.machine.run("import report --state @journal --entries -");
        assert_eq!(said.exit, 0, "{}", said.err);
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn bucket(&self, end: &str) -> (String, String) {
        let rows = self.rows();
        let row = rows.iter().find(|row| row["path"].as_str().unwrap().ends_with(end)).unwrap();
        (row["bucket"].as_str().unwrap().to_owned(), row["why"].as_str().unwrap_or("").to_owned())
    }
}

pub fn whole(said: &Said) {
    assert_eq!(said.exit, 0, "{}{}", said.out, said.err);
}

/// How it ended, and words that must be in what was said.
#[track_caller]
pub fn ended(said: &Said, exit: i32, words: &[&str]) {
    assert_eq!(said.exit, exit, "{}{}", said.out, said.err);
    for word in words {
        assert!(said.err.contains(word), "{word:?} is not in:\n{}", said.err);
    }
}

#[test]
fn a_takeout_comes_home_and_a_second_run_changes_nothing() {
    for version in [(1, 135, 3), (2, 7, 5), (3, 1, 0)] {
        let home = Home::new(Options { version, ..Options::default() });
        whole(&home.import(""));
        assert_eq!((home.assets(), home.fake.violations()), (7, vec![]), "{version:?}");
        let (state, counts) = (home.fake.state(), home.fake.counts());
        whole(&home.import(""));
        assert_eq!(home.fake.state(), state);
        assert_eq!(home.fake.counts().media_bytes, counts.media_bytes);
        let told = home.machine.run("import explain a.jpg --state @journal --sidecar");
        assert!(told.out.contains("sure        yes") && told.out.contains("\"description\":\"Sea\""), "{}", told.out);
    }
}

/// Takes no photo, and tells whoever sends one to come again: an import is under way until it is told otherwise, however slow the
/// machine is. An import gives a photo up after seven tries, each `seconds` after the one before.
fn takes_none(seconds: u64) -> Orders {
    let call = "POST /assets".to_owned();
    let fail = Fail {
        call,
        status: 429,
        times: u64::MAX,
        every: 1,
        retry_after: Some(seconds),
        message: "not yet".to_owned(),
    };
    Orders { fail: vec![fail], ..Orders::default() }
}

#[test]
fn a_killed_import_leaves_no_lock_behind() {
    let home = Home::new(Options::default());
    home.order(takes_none(60));
    let mut command = home.machine.command(&format!(
        "import google-photos @takeout --state @journal --server {} --api-key-file @key",
        home.fake.address()
    ));
    let mut process = command.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
    home.uploads(2);
    ended(&home.import(""), 8, &["another import is using the journal"]);
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(home.machine.path("journal.lock").exists());
    home.order(Orders::default());
    whole(&home.import(""));
    assert_eq!(home.assets(), 7);
}

/// Begins an import, sends a signal to it when it sends photos, and waits for its end. `hangup`: what a closed terminal is to it,
/// whatever it is to these tests. No photo is taken before the signal was sent, and before its end only of one that ignores it.
fn signalled(home: &Home, signal: &str, hangup: &str) -> Option<i32> {
    // One that goes on waits for that.
    home.order(takes_none(if hangup.contains("ignore") { 5 } else { 60 }));
    let plain = home.machine.command(&format!(
        "import google-photos @takeout --state @journal --server {} --api-key-file @key --admin-api-key-file @admin",
        home.fake.address()
    ));
    let mut command = Command::new("env");
    command.arg(hangup).arg(plain.get_program()).args(plain.get_args()).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(plain.get_current_dir().unwrap()).stdin(Stdio::null());
    let mut process = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    home.uploads(2);
    let kill = Command::new("kill").args([signal, &process.id().to_string()]).status();
    assert!(kill.unwrap().success());
    if hangup.starts_with("--ignore") {
        home.order(Orders::default());
    }
    let ended = process.wait().unwrap().code();
    home.order(Orders::default());
    ended
}

#[test]
fn a_terminal_that_closes_leaves_no_background_work_paused() {
    let home = Home::new(Options::default());
    assert_eq!(signalled(&home, "-HUP", "--default-signal=HUP"), Some(9));
    assert_eq!(home.fake.state()["paused"], serde_json::json!([]));
    whole(&home.import(""));
    assert_eq!(home.assets(), 7);
    // One that was started to outlive its terminal goes on.
    let home = Home::new(Options::default());
    assert_eq!(signalled(&home, "-HUP", "--ignore-signal=HUP"), Some(0));
    assert_eq!(home.assets(), 7);
}

#[test]
fn what_a_killed_run_paused_is_given_back_whatever_the_next_one_does() {
    let none = serde_json::json!([]);
    let home = Home::new(Options::default());
    assert_eq!(signalled(&home, "-KILL", "--default-signal=HUP"), None);
    assert_ne!(home.fake.state()["paused"], none);
    let said = home.import("--pause-immich-jobs=false");
    whole(&said);
    assert!(said.err.contains("background work that an earlier run paused is resumed"), "{}", said.err);
    assert_eq!(home.fake.state()["paused"], none);
    // Parts that are missing hold the import back, and nothing else.
    let home = Home::new(Options::default());
    assert_eq!(signalled(&home, "-KILL", "--default-signal=HUP"), None);
    assert_ne!(home.fake.state()["paused"], none);
    let bytes = fs::read(home.part(2)).unwrap();
    fs::write(home.machine.path("takeout/takeout-20240525T201456Z-003.zip"), &bytes[..bytes.len() / 2]).unwrap();
    ended(&home.import(""), 10, &["was not downloaded to the end", "is resumed"]);
    assert_eq!(home.fake.state()["paused"], none);
    // Another server's background work is nobody's to resume, and this one's stays noted.
    let (home, other) = (Home::new(Options::default()), Home::new(Options::default()));
    assert_eq!(signalled(&home, "-KILL", "--default-signal=HUP"), None);
    let place = format!("--server {}", home.fake.address());
    for more in ["", "--pause-immich-jobs=false"] {
        let said = home.machine.run(&format!(
            "import google-photos @takeout --state @journal --server {} --api-key-file @key --admin-api-key-file @admin {more}",
            other.fake.address()
        ));
        ended(&said, 2, &["is still paused", &place, "of another import"]);
    }
    assert_ne!(home.fake.state()["paused"], none);
    whole(&home.import(""));
    assert_eq!(home.fake.state()["paused"], none);
}

#[test]
fn a_full_disk_under_the_journal() {
    let home = Home::new(Options::default());
    let small = home.machine.path("small");
    fs::create_dir(&small).unwrap();
    let mount =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=48k", "none"]).arg(&small).output();
    if !mount.is_ok_and(|mount| mount.status.success()) {
        // Only root may mount: continuous integration does.
        assert!(std::env::var_os("CI").is_none(), "no tmpfs can be mounted");
        return;
    }
    let said = home.machine.run(&format!(
        "import google-photos @takeout --state @small/journal --server {} --api-key-file @key",
        home.fake.address()
    ));
    std::process::Command::new("umount").arg(&small).status().unwrap();
    ended(&said, 8, &["the disk of the journal is full", "--state FILE"]);
    assert_eq!(home.assets(), 0);
}

#[test]
fn a_key_that_may_not_is_told_which_permission_it_lacks() {
    let key = |permissions: &[&str]| haven_immich_fake::Key {
        secret: USER_KEY.into(),
        email: "user@example.org".into(),
        admin: false,
        permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
        quota_bytes: None,
    };
    let keys = vec![key(&["asset.upload", "asset.read", "user.read", "album.create", "album.read", "server.about"])];
    let home = Home::new(Options { keys, ..Options::default() });
    let plain = |home: &Home| {
        home.machine.run(&format!(
            "import google-photos @takeout --state @journal --server {} --api-key-file @key --pause-immich-jobs=false",
            home.fake.address()
        ))
    };
    ended(&plain(&home), 3, &["the API key lacks permissions: albumAsset.create"]);
    assert_eq!(home.assets(), 0);
    // One that is taken away in the middle, by its own name.
    let home = Home::new(Options::default());
    home.order(Orders { deny: vec!["asset.upload".into()], ..Orders::default() });
    ended(&plain(&home), 3, &["asset.upload"]);
    home.machine.write("key", "no-such-key\n");
    ended(&plain(&home), 3, &["does not accept the API key"]);
}

#[test]
fn a_wrong_address_an_old_and_a_new_server() {
    let home = Home::new(Options::default());
    let at = |home: &Home, address: &str| {
        home.machine
            .run(&format!("import google-photos @takeout --state @journal --server {address} --api-key-file @key"))
    };
    ended(&at(&home, "http://127.0.0.1:1"), 4, &["does not answer", "http://HOST:2283"]);
    ended(&at(&home, "ftp://nas"), 4, &["must begin with http"]);
    // Another program's page.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let page = "<html>It works!</html>";
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n", page.len());
            // Asked first: an answer to nothing is another mistake than this one.
            _ = stream.and_then(|mut stream| {
                _ = stream.read(&mut [0; 4096])?;
                stream.write_all((head + page).as_bytes())
            });
        }
    });
    ended(&at(&home, &address), 4, &["is not Immich", "It works!"]);
    for (version, word) in [((1, 100, 0), "too old"), ((4, 0, 0), "newer than this program")] {
        let home = Home::new(Options { version, ..Options::default() });
        ended(&at(&home, &home.fake.address()), 4, &[word]);
        assert_eq!(home.assets(), 0);
    }
}

#[test]
fn a_quota_and_a_full_disk_stop_it_and_room_lets_it_go_on() {
    let mut options = Options::default();
    options.keys[0].quota_bytes = Some(60);
    let home = Home::new(options);
    ended(&home.import(""), 4, &["the server has no room left", "quota"]);
    assert!(home.assets() < 7);

    let home = Home::new(Options::default());
    home.order(Orders { disk_bytes: Some(60), ..Orders::default() });
    let said = home.import("");
    ended(&said, 4, &["the server has no room left", "make room on the server", "the server's disk has room for"]);
    assert!(home.assets() < 7);
    home.order(Orders::default());
    whole(&home.import(""));
    assert_eq!(home.assets(), 7);
}

#[test]
fn files_that_the_server_refuses_are_told_and_the_others_are_there() {
    let home = Home::new(Options::default());
    home.order(Orders { refuse_names: vec!["alone.jpg".into()], ..Orders::default() });
    let report = "haven import report --state [DIR]/journal";
    ended(&home.import(""), 10, &["Input file has corrupt header", report, "run the same command again"]);
    assert_eq!((home.bucket("/alone.jpg").0, home.assets()), ("failed".into(), 6));
    ended(&home.import("--on-errors stop"), 10, &["too many files failed"]);
    home.order(Orders::default());
    whole(&home.import(""));
    assert_eq!(home.assets(), 7);
}

#[test]
fn a_proxys_limit_is_named_and_the_others_get_through() {
    let home = Home::new(Options::default());
    let long = [made::mp4("long"), vec![7; 9 << 20]].concat();
    let name = "Takeout/Google Photos/Photos from 2019/long.mp4";
    made::zip(&home.machine.path("takeout/takeout-20240525T201456Z-003.zip"), &[(name, long)]);
    home.order(Orders { body_max: Some(1 << 20), ..Orders::default() });
    let server = home.fake.address();
    let plan = home.machine.run(&format!("import plan @takeout --state @plan --server {server} --api-key-file @key"));
    assert!(plan.out.contains("1 files, 9") && plan.out.contains("Immich 3.1.0"), "{}{}", plan.out, plan.err);
    let told = ["9.4 MB  Takeout/Google Photos/Photos from 2019/long.mp4, which a proxy does not let through"];
    let told = told.into_iter().chain(["clip.jpg goes as clip.mp4", "alone.jpg\n", "orphan.jpg.json", "how long\n"]);
    for words in told {
        assert!(plan.out.contains(words), "{words:?} is not in:\n{}", plan.out);
    }
    let said = home.import("");
    ended(&said, 10, &["lets no request of 9 MB or more through: 1 files", "client_max_body_size"]);
    assert_eq!((home.bucket("/long.mp4").0, home.assets()), ("failed".into(), 7));
}

#[test]
fn a_server_that_is_away_is_waited_out() {
    let home = Home::new(Options::default());
    home.order(Orders { slow_ms: 30, ..Orders::default() });
    thread::scope(|scope| {
        scope.spawn(|| {
            home.uploads(2);
            home.runtime.block_on(async { home.fake.go() });
            thread::sleep(Duration::from_millis(1500));
            home.fake.come_back();
        });
        whole(&home.import(""));
    });
    assert_eq!((home.assets(), home.fake.violations()), (7, vec![]));
}

#[test]
fn what_a_busy_server_does_is_borne() {
    let home = Home::new(Options::default());
    let fail = |call: &str, status| Fail {
        call: call.into(),
        status,
        times: 3,
        every: 2,
        retry_after: None,
        message: String::new(),
    };
    let fail = vec![fail("POST /assets", 429), fail("POST /assets", 500), fail("PUT /albums/{id}/assets", 502)];
    home.order(Orders { fail, lose_every: 3, ..Orders::default() });
    whole(&home.import(""));
    assert_eq!((home.assets(), home.fake.violations()), (7, vec![]));
    let state = home.fake.state();
    assert_eq!(state["albums"].as_array().unwrap().len(), 1);
    assert_eq!(state["albums"][0]["assets"].as_array().unwrap().len(), 2);
    assert_eq!(state["paused"], serde_json::json!([]), "background work goes on again");
}

#[test]
fn stacks_are_made_of_what_is_named() {
    let home = Home::new(Options::default());
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let burst = |name: &str| (year(&format!("{name}.jpg")), made::jpeg(name));
    let more = vec![
        burst("00001IMG_00001_BURST20190518123000123"),
        burst("00002IMG_00002_BURST20190518123000123_COVER"),
        (year("a.dng"), b"II\x2a\0raw".to_vec()),
    ];
    made::zip(&home.machine.path("takeout/takeout-20240525T201456Z-003.zip"), &more);
    whole(&home.import("--stack edited,burst,raw"));
    assert_eq!((home.assets(), home.fake.violations()), (10, vec![]));
    let state = home.fake.state();
    let sha1 = |name: &str| {
        let assets = state["assets"].as_array().unwrap();
        assets.iter().find(|asset| asset["name"] == name).unwrap()["sha1"].clone()
    };
    let mut tops: Vec<Value> = state["stacks"].as_array().unwrap().iter().map(|s| s["primary"].clone()).collect();
    tops.sort_by_key(Value::to_string);
    let mut due = ["00002IMG_00002_BURST20190518123000123_COVER.jpg", "a.jpg", "b-edited.jpg"].map(sha1).to_vec();
    due.sort_by_key(Value::to_string);
    assert_eq!(tops, due);
    let said = home.machine.run("import plan @takeout --state @journal --stack none,wrong");
    assert_eq!(said.exit, 2, "{}", said.err);
}

#[test]
fn a_stack_that_is_refused_is_told_and_counted() {
    let home = Home::new(Options::default());
    let fail = Fail {
        call: "POST /stacks".to_owned(),
        status: 400,
        times: u64::MAX,
        every: 1,
        retry_after: None,
        message: "no stacks here".to_owned(),
    };
    home.order(Orders { fail: vec![fail], ..Orders::default() });
    let said = home.import("--stack edited");
    ended(&said, 10, &["some stacks could not be made", "1 stacks: ", "no stacks here"]);
    assert!(said.out.contains("stacks that could not be made") && said.out.contains("0 of 1"), "{}", said.out);
    let said = home.import("--stack edited --json");
    assert_eq!(said.exit, 10, "{}", said.err);
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&told["summary"]["unstacked"][0]["stacks"], home.assets()), (&Value::from(1), 7));
    home.order(Orders::default());
    whole(&home.import("--stack edited"));
    assert_eq!(home.fake.state()["stacks"].as_array().unwrap().len(), 1);
}

#[test]
fn a_script_is_told_how_it_goes_on() {
    let home = Home::new(Options::default());
    home.order(Orders { slow_ms: 300, ..Orders::default() });
    let said = home.import("--json");
    whole(&said);
    serde_json::from_str::<Value>(&said.out).unwrap();
    let lines: Vec<Value> = said.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["note"].is_string() || line["warning"].is_string()), "{}", said.err);
    let uploading = lines.iter().find(|line| line["progress"]["phase"] == "upload").unwrap();
    assert!(uploading["progress"]["files_total"] == 7 && uploading["progress"]["bytes_total"] != 0, "{uploading}");
    assert!(uploading["note"].as_str().unwrap().starts_with("upload: "), "{uploading}");
}

#[test]
fn who_asks_in_another_directory_is_told_where_the_journal_is() {
    let home = Home::new(Options::default());
    let server = home.fake.address();
    whole(&home.machine.run(&format!("import google-photos @takeout --server {server} --api-key-file @key")));
    let where_it_is =
        ["there is no journal at haven-import.db", "beside the first part", "--state DIR/haven-import.db"];
    ended(&home.machine.run("import report"), 2, &where_it_is);
    ended(&home.machine.run("import explain a.jpg"), 2, &where_it_is);
    whole(&home.machine.run("import report @takeout"));
    whole(&home.machine.run("import explain a.jpg --state @takeout/haven-import.db"));
}

#[test]
fn downloads_are_compared_where_that_is_wanted() {
    let home = Home::new(Options { keep: true, ..Options::default() });
    whole(&home.import("--verify-downloads"));
    assert_eq!(home.fake.counts().calls["GET /assets/{id}/original"], 7);
    whole(&home.import("--verify-downloads"));
    assert_eq!(home.fake.counts().calls["GET /assets/{id}/original"], 7, "once is enough");
    let home = Home::new(Options { keep: true, ..Options::default() });
    home.order(Orders { rot: true, ..Orders::default() });
    ended(&home.import("--verify-downloads"), 10, &["the server gives back other bytes than it got"]);
}

#[test]
fn a_folder_comes_with_its_live_pairs_and_albums() {
    let home = Home::new(Options::default());
    let folder = home.machine.path("pictures/Sea");
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(Path::new(&folder).join(name), bytes).unwrap();
    write("IMG_1.jpg", &made::jpeg("one"));
    write("IMG_1.MP4", &made::mp4("one"));
    write("IMG_2.jpg", &made::jpeg("two"));
    write("IMG_2.jpg.xmp", b"<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"/>");
    let said = home.machine.run(&format!(
        "import folder @pictures --state @journal --server {} --api-key-file @key --folder-as-album folder",
        home.fake.address()
    ));
    whole(&said);
    let state = home.fake.state();
    assert_eq!((home.assets(), home.fake.violations()), (3, vec![]));
    assert_eq!(state["albums"][0]["name"], "Sea");
    assert_eq!(state["albums"][0]["assets"].as_array().unwrap().len(), 2);
}

#[test]
fn a_folders_photos_of_some_dates() {
    let home = Home::new(Options::default());
    fs::create_dir_all(home.machine.path("pictures")).unwrap();
    home.machine.write("pictures/a.jpg", made::dated_jpeg("a", "2019:05:18 12:00:00"));
    home.machine.write("pictures/b.jpg", made::dated_jpeg("b", "2001:05:18 12:00:00"));
    let server = home.fake.address();
    let command = format!(
        "import folder @pictures --state @journal --server {server} --api-key-file @key --date-range 2019 --default-zone UTC"
    );
    let said = home.machine.run(&format!("{command} --dry-run"));
    assert!(said.out.contains("2 files have no date from a sidecar"), "{}{}", said.out, said.err);
    whole(&home.machine.run(&command));
    assert_eq!((home.assets(), home.bucket("a.jpg").0), (1, "uploaded".to_owned()));
    assert_eq!(home.bucket("b.jpg"), ("filtered".to_owned(), "it is not of the dates asked for".to_owned()));
}

#[test]
fn a_takeout_of_which_nothing_can_be_read_is_told_by_the_exit_code() {
    let machine = Machine::new();
    machine.write("takeout-20240525T201456Z-001.zip", "cut off");
    let said = machine.run("import plan @takeout-20240525T201456Z-001.zip --state @journal");
    assert!(said.exit == 10 && said.err.contains("nothing of this Takeout can be read"), "{}{}", said.out, said.err);
}
