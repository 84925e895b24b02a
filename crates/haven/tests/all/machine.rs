//! The machine around a library: units are written, units are judged, a machine is set up by a file of answers.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

use haven_testkit::postgres::{Cluster, IMMICH_V3};

use crate::{mounted::can_mount, run::Machine};

const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../units/tests/all/seed");

/// A machine whose haven.toml names a library and a folder, with an Immich below `@root`.
fn configured() -> Machine {
    let machine = Machine::new();
    let library = machine.text("lib");
    machine.write("haven.toml", format!("[library]\nurl = \"file://{library}\"\n[mount]\npoint = \"/mnt/photos\"\n"));
    let units = machine.path("root/usr/lib/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("immich-server.service"), "[Service]\nExecStart=/usr/bin/immich\n").unwrap();
    machine
}

#[test]
fn planted_mistakes_in_unit_files_are_told_with_place_reason_and_cure() {
    let machine = Machine::new();
    let said = machine.run(&format!("doctor --units {SEED}"));
    assert_eq!(said.exit, 8, "{}", said.err);
    for words in [
        "immich-restart.timer:3",
        "fires at 00:03:00, not at 03:00:00",
        "OnCalendar=*-*-* 03:00:00",
        "s3ql-mount.service:15",
        "restart-hides-failure",
        "photos can be lost",
    ] {
        assert!((said.out.clone() + &said.err).contains(words), "{words} is not in\n{}{}", said.out, said.err);
    }
    let json = machine.run(&format!("doctor --json {SEED}"));
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert!(value["findings"].as_array().unwrap().len() > 25, "{value:#}");
    assert_eq!(value["findings"][0]["severity"], "warn");
}

#[test]
fn our_own_units_are_written_and_nothing_is_found_in_them() {
    let machine = configured();
    let said = machine.run("setup systemd --root @root");
    assert_eq!(said.exit, 0, "{}", said.err);
    let units = machine.path("root/etc/systemd/system");
    let text = fs::read_to_string(units.join("haven.service")).unwrap();
    assert!(text.contains("Type=notify\n") && text.contains("KillMode=mixed\n"), "{text}");
    assert!(text.contains("LoadCredential=haven-passphrase:/etc/haven/haven-passphrase\n"), "{text}");
    let bound = fs::read_to_string(units.join("immich-server.service.d/haven.conf")).unwrap();
    assert!(bound.contains("BindsTo=haven.service\n") && bound.contains("RequiresMountsFor=/mnt/photos\n"), "{bound}");

    fs::copy(machine.path("root/usr/lib/systemd/system/immich-server.service"), units.join("immich-server.service"))
        .unwrap();
    let judged = machine.run("doctor --units @root/etc/systemd/system");
    // Until this version has alerts there is nobody to tell, and that is all there is to say.
    let tells = machine.run("alert --help").exit == 0;
    let expected = if tells { "nothing found" } else { "0 mistakes, 1 warning" };
    assert!(judged.out.contains(expected) && judged.exit == 0, "{}{}", judged.out, judged.err);

    assert!(machine.run("setup systemd --root @root").out.contains("as it was"), "a second time changes nothing");
}

#[test]
fn the_alert_can_run_where_the_program_and_the_keepers_directory_are() {
    let machine = configured();
    let toml = fs::read_to_string(machine.path("haven.toml")).unwrap();
    machine.write("haven.toml", format!("{toml}\n[schedule]\ndirectory = \"/srv/keeper\"\n"));
    assert_eq!(machine.run("setup systemd --root @root").exit, 0);
    let alert = fs::read_to_string(machine.path("root/etc/systemd/system/haven-alert@.service")).unwrap();
    assert!(alert.contains("\nProtectHome=read-only\n"), "{alert}");
    assert!(alert.contains("\nReadWritePaths=-/srv/keeper\n"), "{alert}");
}

#[test]
fn a_unit_that_somebody_wrote_is_not_lost() {
    let machine = configured();
    let unit = machine.path("root/etc/systemd/system/haven.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(&unit, "[Service]\nExecStart=/my/own\n").unwrap();
    let refused = machine.run("setup systemd --root @root");
    assert_eq!(refused.exit, 7, "{}", refused.err);
    assert!(fs::read_to_string(&unit).unwrap().contains("/my/own"));
    let printed = machine.run("setup systemd --root @root --dry-run");
    assert!(printed.out.contains("Type=notify") && fs::read_to_string(&unit).unwrap().contains("/my/own"));
    assert_eq!(machine.run("setup systemd --root @root --force").exit, 0);
    assert!(fs::read_to_string(unit.with_extension("service.before-haven")).unwrap().contains("/my/own"));
}

#[test]
fn without_settings_no_units_are_written() {
    let machine = Machine::new();
    let said = machine.run("setup systemd --root @root");
    assert_eq!(said.exit, 2, "{}", said.err);
    assert!(said.err.contains("library.url"), "{}", said.err);
    assert!(!machine.path("root").exists());
}

/// Answers, without a mount: more tests of that are under `scripts/`.
fn answers(machine: &Machine, more: &str) -> std::path::PathBuf {
    let text = format!(
        "[bucket]\nurl = \"{}\"\n[keys]\nkit = \"{}\"\n[mount]\npoint = \"{}\"\ncache = \"{}\"\ncache_size = \"1GB\"\n[machine]\ntry_mount = false\nunits = false\n{more}",
        machine.text("photos-bucket"),
        machine.text("kit.html"),
        machine.text("photos"),
        machine.text("cache"),
    );
    machine.write("answers.toml", text)
}

#[test]
fn answers_in_a_file_make_a_library_that_opens() {
    let machine = Machine::new();
    answers(&machine, "");
    let said = machine.run("setup --answers @answers.toml --config @etc/haven.toml");
    assert_eq!(said.exit, 0, "{}", said.err);
    let kit = fs::read_to_string(machine.path("kit.html")).unwrap();
    assert!(kit.contains("<svg") || kit.contains("<html"), "the kit is a page to print");
    let settings = fs::read_to_string(machine.path("etc/haven.toml")).unwrap();
    assert!(settings.contains("passphrase_file"), "{settings}");
    let mut list = machine.command("key list --config @etc/haven.toml");
    list.env_remove("HAVEN_PASSPHRASE_FILE").env_remove("HAVEN_CONFIG");
    let list = machine.said(&mut list);
    assert_eq!(list.exit, 0, "{}", list.err);

    // Once more finds what is there, and makes nothing anew.
    let again = machine.run("setup --answers @answers.toml --config @etc/haven.toml");
    assert_eq!(again.exit, 0, "{}", again.err);
    assert!(again.err.contains("there is a library already"), "{}", again.err);
}

#[test]
fn a_database_that_lets_in_by_who_asks_is_found_by_root() {
    let Some(cluster) = Cluster::start() else { return };
    let reach = cluster.database("immich", IMMICH_V3).replace(" user=postgres", "");
    if !cluster.lets_in_peers_alone() {
        return;
    }
    let machine = Machine::new();
    answers(&machine, &format!("[database]\nurl = \"{reach}\"\n"));
    let said = machine.run("setup --answers @answers.toml --config @etc/haven.toml");
    assert_eq!(said.exit, 0, "{}", said.err);
    assert!(said.err.contains("asked as the system's user postgres), and is Immich's"), "{}", said.err);
    let settings = fs::read_to_string(machine.path("etc/haven.toml")).unwrap();
    assert!(settings.contains(&format!("database = \"{reach}\"")), "{settings}");
}

#[test]
fn a_database_in_a_container_is_asked_there_and_its_files_are_given_to_their_owner() {
    let Some(cluster) = Cluster::start() else { return };
    if !can_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    cluster.database("immich", IMMICH_V3);
    let machine = Machine::new();
    let host = cluster.reach("x").split(' ').next().unwrap().replace("host=", "");
    fs::create_dir(machine.path("bin")).unwrap();
    // An engine with one container, in which this cluster runs.
    let docker = format!(
        "#!/bin/sh\n[ \"$1 $2 $3\" = 'exec -i immich_postgres' ] || exit 1\nshift 3\nexec env PGHOST={host} PATH={}:\"$PATH\" \"$@\"\n",
        cluster.programs().display()
    );
    let program = machine.write("bin/docker", docker);
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let path = format!("{}:{}", machine.text("bin"), std::env::var("PATH").unwrap());
    let set_up = |database: &str| {
        let answers = answers(&machine, &format!("[database]\ncontainer = \"immich_postgres\"\n{database}"));
        let text = fs::read_to_string(&answers).unwrap().replace("try_mount = false", "try_mount = true");
        machine.write("answers.toml", text);
        machine.said(machine.command("setup --answers @answers.toml --config @etc/haven.toml").env("PATH", &path))
    };
    let unknown = set_up("owner = \"no_such_user\"\n");
    assert!(unknown.exit == 2 && unknown.err.contains("there is no user no_such_user"), "{}", unknown.err);
    let said = set_up("owner = \"65534:65534\"\n");
    machine.run("umount @photos");
    assert_eq!(said.exit, 0, "{}", said.err);
    assert!(said.err.contains("/photos/immich is made, and belongs to 65534:65534"), "{}", said.err);
    let settings: toml::Table = fs::read_to_string(machine.path("etc/haven.toml")).unwrap().parse().unwrap();
    let immich = settings["backup"]["immich"].as_table().unwrap();
    assert_eq!(immich["database"].as_str(), Some("user=postgres dbname=immich"));
    let within: Vec<&str> = immich["within"].as_array().unwrap().iter().filter_map(|word| word.as_str()).collect();
    assert_eq!(within, ["docker", "exec", "-i", "immich_postgres"]);
    // Once more, and without a word of it: it stays.
    answers(&machine, "");
    assert_eq!(machine.run("setup --answers @answers.toml --config @etc/haven.toml").exit, 0);
    let again: toml::Table = fs::read_to_string(machine.path("etc/haven.toml")).unwrap().parse().unwrap();
    assert_eq!(again["backup"], settings["backup"]);
}

#[test]
fn a_dead_mans_switch_is_tried_before_it_is_written() {
    let machine = Machine::new();
    let switch = format!("[tell]\nswitch = \"{}\"\n", hook());
    answers(&machine, &switch);
    let keyless = machine.run("setup --answers @answers.toml --config @etc/haven.toml");
    assert!(keyless.exit == 3 && keyless.err.contains("tell.switch_file"), "{}", keyless.err);
    assert!(!machine.path("etc/haven.toml").exists());
    let key = machine.write("my-key", "a1b2c3\n");
    answers(&machine, &format!("{switch}switch_file = {key:?}\n"));
    let said = machine.run("setup --answers @answers.toml --config @etc/haven.toml");
    assert_eq!(said.exit, 0, "{}", said.err);
    let settings: toml::Table = fs::read_to_string(machine.path("etc/haven.toml")).unwrap().parse().unwrap();
    let switch = &settings["alert"]["switch"];
    assert_eq!(switch["kind"].as_str(), Some("healthchecks"));
    assert_eq!(fs::read_to_string(switch["checks"]["file"].as_str().unwrap()).unwrap(), "a1b2c3\n");
}

/// A webhook that takes everything; its URL.
fn hook() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = Vec::new();
            let whole = |asked: &[u8]| {
                let text = String::from_utf8_lossy(asked).to_ascii_lowercase();
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
                Some(body.len() >= length.trim().parse::<usize>().unwrap())
            };
            while whole(&asked) != Some(true) {
                let mut some = [0; 4096];
                match stream.read(&mut some).unwrap() {
                    0 => break,
                    read => asked.extend(&some[..read]),
                }
            }
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
        }
    });
    url
}

#[test]
fn who_is_told_already_is_told_still_and_the_owner_can_choose_another_way() {
    let url = hook();
    let mail = "[alert.mail]\nkind = \"email\"\nserver = \"localhost\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n";
    let was = "[alert.owner]\nkind = \"telegram\"\nchat = \"1\"\ntoken.file = \"/x\"\nleast = \"critical\"\n";
    let set_up = |before: &str| {
        let machine = Machine::new();
        answers(&machine, &format!("[tell]\nkind = \"webhook\"\nurl = \"{url}\"\n"));
        fs::create_dir_all(machine.path("etc")).unwrap();
        machine.write("etc/haven.toml", before);
        let said = machine.run("setup --answers @answers.toml --config @etc/haven.toml");
        assert_eq!(said.exit, 0, "{}", said.err);
        let settings: toml::Table = fs::read_to_string(machine.path("etc/haven.toml")).unwrap().parse().unwrap();
        settings["alert"].clone()
    };
    let everybody = set_up(&format!("{mail}{was}"));
    assert!(everybody.get("to").is_none(), "who is not named is told: {everybody}");
    assert_eq!(everybody["mail"]["kind"].as_str(), Some("email"));
    let owner = everybody["owner"].as_table().unwrap();
    let mut known: Vec<&str> = owner.keys().map(String::as_str).collect();
    known.sort_unstable();
    assert_eq!(known, ["kind", "least", "url"], "{owner:?}");
    let named = set_up(&format!("[alert]\nto = [\"mail\"]\n{mail}"));
    assert_eq!(named["to"].as_array().unwrap().len(), 2, "{named}");
}

#[test]
fn a_wrong_answer_is_told_and_nothing_is_written() {
    let machine = Machine::new();
    let settings = machine.path("etc/haven.toml");
    let refused = |text: &str, words: &str, exit: i32| {
        machine.write("answers.toml", text);
        let said = machine.run("setup --answers @answers.toml --config @etc/haven.toml");
        assert_eq!((said.exit, said.err.contains(words)), (exit, true), "{words}: {}", said.err);
        assert!(!settings.exists());
    };
    refused("[bucket]\nurrl = \"x\"\n", "is it bucket.url?", 2);
    refused("[bucket]\n", "does not answer bucket.url", 2);
    refused("not toml", "is not TOML", 2);
    refused("[bucket]\nurl = \"s3://b/p\"\nendpoint = \"http://127.0.0.1:1\"\n", "does not answer bucket.key_id", 2);
    let occupied = machine.path("full");
    fs::create_dir_all(&occupied).unwrap();
    fs::write(occupied.join("photo.jpg"), "x").unwrap();
    let kit = machine.text("kit.html");
    let bucket = machine.text("b");
    let full = occupied.display();
    let cache = machine.text("c");
    refused(
        &format!(
            "[bucket]\nurl = \"{bucket}\"\n[keys]\nkit = \"{kit}\"\n[mount]\npoint = \"{full}\"\ncache = \"{cache}\"\n"
        ),
        "is not empty",
        8,
    );
    assert!(!Path::new(&kit).exists(), "no library was made");
    let nobody = machine.run("setup --config @etc/haven.toml");
    assert!(nobody.exit == 2 && nobody.err.contains("no terminal"), "{}", nobody.err);
}
