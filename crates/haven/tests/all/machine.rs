//! The machine around a library: units are written, units are judged, a machine is set up by a file of answers.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

use haven_testkit::postgres::{Cluster, IMMICH_V3};

use crate::run::Machine;

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

/// Answers, without a mount: tests of that are under `scripts/`.
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
