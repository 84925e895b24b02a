//! Each kind of bad input, with what it is answered: what happened, what it means for the photos, what to do.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt};

use insta::assert_snapshot;

use crate::run::{Machine, flip};

#[test]
fn a_wrong_passphrase() {
    let machine = Machine::with_library();
    machine.write("passphrase", "incorrect horse");
    assert_snapshot!(machine.run("claims @lib").whole(), @r"
    exit 3
    --- out
    --- err
    haven: this passphrase does not open the library
      meaning  the library is untouched, and nothing was opened
      next     check for another keyboard layout, a blank at an end, or the passphrase of another library
               `haven key list` shows which keys there are; the recovery key opens it too: --recovery-words FILE
      code     wrong-secret, exit 3
    ");
}

#[test]
fn a_directory_as_passphrase_file() {
    let machine = Machine::with_library();
    fs::remove_file(machine.path("passphrase")).unwrap();
    fs::create_dir(machine.path("passphrase")).unwrap();
    assert_snapshot!(machine.run("claims @lib").err, @r"
    haven: the passphrase file [DIR]/passphrase is a directory
      because  a container gets an empty directory where a file to mount does not exist on the host
      meaning  nothing was changed
      next     make it a file, on the host too if this is a container
      code     bad-secret, exit 3
    ");
}

#[test]
fn a_passphrase_file_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::with_library();
    fs::set_permissions(machine.path("passphrase"), fs::Permissions::from_mode(0o644)).unwrap();
    let said = machine.run("claims @lib");
    assert_eq!((said.exit, said.err.contains("may be read by others (chmod 600 [DIR]/passphrase)")), (0, true));
}

#[test]
fn an_empty_passphrase_and_a_short_key_file() {
    let machine = Machine::with_library();
    machine.write("passphrase", "\n");
    assert_snapshot!(machine.run("claims @lib").err, @r"
    haven: the passphrase is empty
      because  it came from the passphrase file [DIR]/passphrase
      meaning  nothing was changed
      next     write the passphrase there, or name another source
      code     bad-secret, exit 3
    ");
    machine.write("key", "short");
    assert!(
        machine.run("claims @lib --key-file @key").err.contains("the key file has 5 bytes; at least 32 are needed")
    );
}

#[test]
fn recovery_words_with_a_slip() {
    let machine = Machine::with_library();
    let kit = fs::read_to_string(machine.path("kit.txt")).unwrap();
    let first = kit.split(" 1 ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    machine.write("words", kit.replacen(&format!(" 1 {first}"), &format!(" 1 q{first}"), 1));
    let said = machine.run("claims @lib --recovery-words @words");
    assert!(said.err.contains(&format!("word 1 is not in the list of words (is it \"{first}\"?)")), "{}", said.err);
    assert_eq!(said.exit, 3);
}

#[test]
fn no_passphrase_at_all() {
    let machine = Machine::with_library();
    let mut command = machine.command("claims @lib");
    assert_snapshot!(machine.said(command.env_remove("HAVEN_PASSPHRASE_FILE")).err, @r"
    haven: no passphrase was given, and there is no terminal to ask on
      meaning  nothing was changed
      next     set HAVEN_PASSPHRASE_FILE, or use --passphrase-file, --key-file or --passphrase-command
      code     no-secret, exit 3
    ");
}

#[test]
fn a_directory_that_is_missing_and_one_without_a_library() {
    let machine = Machine::new();
    assert_snapshot!(machine.run("claims file://@lib").err, @r"
    haven: file://[DIR]/lib can't be opened: the bucket or directory [DIR]/lib does not exist
      meaning  nothing was changed; if the directory is on a disk or share of its own, that is probably not mounted
      next     mount what belongs at [DIR]/lib, or correct the path
      code     store, exit 4
    ");
    fs::create_dir(machine.path("lib")).unwrap();
    assert_snapshot!(machine.run("claims file://@lib").err, @r"
    haven: there is no library at file://[DIR]/lib
      because  nothing is there
      meaning  nothing was changed
      next     check the URL; haven init makes a library there
      code     no-library, exit 7
    ");
}

#[test]
fn a_place_that_cannot_be_written() {
    let machine = Machine::new();
    // Not even root makes a directory there.
    let said = machine.run("init /proc/haven-library");
    assert_eq!(said.exit, 4, "{}", said.err);
    assert!(said.err.contains("meaning") && said.err.contains("next"), "{}", said.err);
}

#[test]
fn urls_that_cannot_be_meant() {
    let machine = Machine::new();
    assert_snapshot!(machine.run("claims ftp://host/photos").err, @r#"
    haven: stores of the kind "ftp://" are not known
      meaning  nothing was opened and nothing was changed
      next     write s3://bucket/prefix?endpoint=https://host, sftp://user@host/path, webdavs://user@host/path, or file:///path
      code     usage, exit 2
    "#);
    let mut command = machine.command("claims");
    let said = machine.said(command.arg("s3://AKIAEXAMPLE:hunter2@bucket/photos"));
    assert!(said.exit == 2 && !said.err.contains("hunter2"), "{}", said.err);
    assert_eq!(machine.run("claims").exit, 2);
}

#[test]
fn a_newer_format() {
    let machine = Machine::with_library();
    for path in machine.configurations() {
        let mut content = fs::read(&path).unwrap();
        content[7] = 9;
        fs::write(path, content).unwrap();
    }
    assert_snapshot!(machine.run("claims @lib").err, @r"
    haven: a newer version of Haven wrote this library
      because  written in format 9, this version reads up to 1: a newer Haven is needed
      meaning  nothing was opened and nothing was changed; the library is as whole as it was
      next     install the newer Haven here too
      code     newer, exit 6
    ");
}

#[test]
fn one_damaged_configuration_is_warned_of_and_two_are_too_many() {
    let machine = Machine::with_library();
    let copies = machine.configurations();
    flip(&copies[1], 60);
    let said = machine.run("claims @lib");
    assert_eq!(said.exit, 0, "{}", said.err);
    assert!(said.err.contains("is of no use: the configuration object is damaged"), "{}", said.err);
    flip(&copies[0], 60);
    let said = machine.run("claims @lib");
    assert_eq!(said.exit, 6);
    assert!(said.err.contains("haven: the library's configuration can't be read"), "{}", said.err);
}

#[test]
fn names_that_are_not_utf8() {
    let machine = Machine::with_library();
    let odd = machine.path("").join(OsStr::from_bytes(b"pass\xff"));
    fs::copy(machine.path("passphrase"), &odd).unwrap();
    let mut command = machine.command("claims @lib --passphrase-file");
    assert_eq!(machine.said(command.arg(&odd)).exit, 0);
    let mut command = machine.command("claims");
    assert_eq!(machine.said(command.arg(OsStr::from_bytes(b"file:///\xff"))).exit, 2);
}

#[test]
fn settings_with_a_slip() {
    let machine = Machine::with_library();
    machine.write("haven.toml", "[key]\npasphrase_file = \"/etc/haven/passphrase\"\n");
    assert_snapshot!(machine.run("claims @lib").err, @r"
    haven: [DIR]/haven.toml sets key.pasphrase_file, which is no setting of haven's
      meaning  nothing was changed
      next     is it key.passphrase_file? `haven config` prints every setting
      code     usage, exit 2
    ");
}

#[test]
fn cache_directories_that_cannot_be_used() {
    let machine = Machine::with_library();
    fs::create_dir(machine.path("m")).unwrap();
    let nowhere = machine.run("mount @lib @m --cache /proc/haven-cache");
    assert!(
        nowhere.exit == 8 && nowhere.err.contains("the cache directory /proc/haven-cache can't be used"),
        "{}",
        nowhere.err
    );
    fs::create_dir(machine.path("cache")).unwrap();
    machine.write("cache/library", "00112233445566778899aabbccddeeff");
    let foreign = machine.run("mount @lib @m --cache @cache");
    assert!(foreign.exit == 8 && foreign.err.contains("belongs to another library"), "{}", foreign.err);
    let small = machine.run("mount @lib @m --cache @other --cache-size 1MB");
    assert!(small.exit == 8 && small.err.contains("the cache needs at least"), "{}", small.err);
    assert_eq!(machine.run("claims @lib").out, "nobody has written to this library yet\n", "none of these claimed it");
}

#[test]
fn mount_points_that_cannot_be_used() {
    let machine = Machine::with_library();
    assert_snapshot!(machine.run("mount @lib @nowhere").err, @r"
    haven: the mount point [DIR]/nowhere does not exist
      meaning  nothing was mounted; the mount point is as it was
      next     create the directory, or correct the path
      code     mount, exit 8
    ");
    assert!(machine.run("mount @lib @passphrase").err.contains("is not a directory"));
    fs::create_dir(machine.path("full")).unwrap();
    machine.write("full/something", "");
    assert!(machine.run("mount @lib @full").err.contains("is not empty: it holds \"something\""));
    fs::create_dir(machine.path("empty")).unwrap();
    let inside = machine.run("mount @lib @empty --cache @empty/cache");
    assert!(inside.exit == 2 && inside.err.contains("can't be inside the folder it serves"), "{}", inside.err);
    assert_eq!(machine.run("claims @lib").out, "nobody has written to this library yet\n", "none of these claimed it");
    assert_snapshot!(machine.run("status @empty").err, @r"
    haven: no library is mounted at [DIR]/empty
      meaning  nothing was changed
      next     haven mount URL [DIR]/empty
      code     not-mounted, exit 7
    ");
}
