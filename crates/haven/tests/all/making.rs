//! `haven init`: what it makes, and what it refuses to make.

use std::{fs, os::unix::fs::PermissionsExt};

use insta::assert_snapshot;

use crate::run::Machine;

#[test]
fn a_library_is_made_and_its_recovery_key_is_the_owners_alone() {
    let machine = Machine::new();
    assert_snapshot!(machine.run("init file://@lib --recovery-key-file @kit.html").whole(), @r"
    exit 0
    --- out
    made library [ID]
         at file://[DIR]/lib

    The recovery key is in [DIR]/kit.html: print it, keep it away from this machine, delete the file.
    --- err
    ");
    let mode = fs::metadata(machine.path("kit.html")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(fs::read_to_string(machine.path("kit.html")).unwrap().contains("<svg"));
    assert_eq!(machine.configurations().len(), 2, "two copies of the one object without which nothing opens");
}

#[test]
fn without_a_file_the_recovery_key_is_shown_and_opens_the_library() {
    let machine = Machine::new();
    let said = machine.run("init @lib");
    assert!(said.out.contains("Write this down"), "{}", said.out);
    machine.write("words", &said.out);
    let claims = machine.run("claims @lib --recovery-words @words");
    assert_eq!((claims.exit, claims.out.as_str()), (0, "nobody has written to this library yet\n"));
}

#[test]
fn answers_and_errors_are_json_for_scripts() {
    let machine = Machine::new();
    let made: serde_json::Value = serde_json::from_str(&machine.run("init @lib --json").out).unwrap();
    assert_eq!(made["store"], "file://[DIR]/lib");
    assert_eq!(made["recovery_words"].as_str().unwrap().split(' ').count(), 24);
    let refused = machine.run("init @lib --json");
    let error: serde_json::Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!((error["error"]["code"].as_str(), error["exit"].as_u64(), refused.exit), (Some("occupied"), Some(7), 7));
}

#[test]
fn a_second_library_is_not_made_over_the_first() {
    let machine = Machine::with_library();
    let before = machine.configurations();
    assert_snapshot!(machine.run("init @lib").whole(), @r"
    exit 7
    --- out
    --- err
    haven: file://[DIR]/lib already holds a library
      because  library [ID], made on [TODAY]
      meaning  it is untouched; a second init would make its photos unreadable
      next     use it: haven mount [DIR]/lib FOLDER
               or choose another bucket or prefix for a new one
      code     occupied, exit 7
    ");
    assert_eq!(machine.configurations(), before);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let machine = Machine::new();
    fs::create_dir(machine.path("full")).unwrap();
    machine.write("full/my photos.zip", "");
    assert_snapshot!(machine.run("init @full").whole(), @r"
    exit 7
    --- out
    --- err
    haven: file://[DIR]/full is not empty, and what is there is not Haven's
      because  it holds my photos.zip
      meaning  nothing was changed; a library shares its place with nobody
      next     choose an empty directory or bucket, or a prefix of its own: s3://bucket/haven
      code     occupied, exit 7
    ");
}

#[test]
fn no_library_comes_to_be_without_its_recovery_key_on_disk() {
    let machine = Machine::new();
    machine.write("kit.txt", "the key of another library");
    let over = machine.run("init @lib --recovery-key-file @kit.txt");
    assert_snapshot!(over.err, @r"
    haven: the recovery key can't be written to [DIR]/kit.txt
      because  File exists (os error 17)
      meaning  no library or key was made: without its recovery key on paper it would hang on one passphrase
      next     name a file that does not exist: it may be the key of another library
      code     local, exit 8
    ");
    let nowhere = machine.run("init @lib --recovery-key-file @no/such/folder/kit.txt");
    assert_eq!((over.exit, nowhere.exit), (8, 8));
    assert!(!machine.path("lib/cfg").exists(), "nothing was written to the store");
    assert_eq!(fs::read_to_string(machine.path("kit.txt")).unwrap(), "the key of another library");
}

#[test]
fn a_library_that_was_not_made_leaves_no_directory_behind() {
    let machine = Machine::new();
    let said = machine.run("init file://@new/deep/lib --recovery-key-file @no/kit.html");
    assert!(said.exit == 8 && said.err.contains("the recovery key can't be written"), "{}", said.err);
    assert!(!machine.path("new").exists());
    std::fs::create_dir(machine.path("new")).unwrap();
    let mut without = machine.command("init file://@new/deep/lib");
    assert_eq!(machine.said(without.env_remove("HAVEN_PASSPHRASE_FILE")).exit, 3);
    assert!(machine.path("new").exists() && !machine.path("new/deep").exists(), "what was there before stays");
}
