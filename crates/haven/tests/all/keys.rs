//! `haven key`: secrets come and go, and the library stays the same.

use insta::assert_snapshot;

use crate::run::Machine;

#[test]
fn keys_are_listed_without_any() {
    let machine = Machine::with_library();
    let mut command = machine.command("key list @lib");
    let said = machine.said(command.env_remove("HAVEN_PASSPHRASE_FILE"));
    // How wide the columns are hangs on today's name.
    let rows: Vec<String> = said.out.lines().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_snapshot!(rows.join("\n"), @r"
    library [ID]

    ID KIND MADE LABEL
    1 passphrase [TODAY] passphrase
    2 recovery key [TODAY] made at init
    ");
}

#[test]
fn a_changed_passphrase_opens_and_the_old_one_does_not() {
    let machine = Machine::with_library();
    machine.write("new", "a better one");
    let changed = machine.run("key change @lib --new-passphrase-file @new");
    assert_eq!((changed.exit, changed.out.as_str()), (0, "key 3, a passphrase, is in the place of key 1\n"));
    assert_eq!(machine.run("claims @lib").exit, 3);
    assert_eq!(machine.run("claims @lib --passphrase-file @new").exit, 0);
    let left = machine.configurations();
    assert!(left.iter().all(|path| path.to_str().unwrap().contains("0000000000000002-")), "{left:?}");
}

#[test]
fn a_key_file_opens_what_a_passphrase_made_until_it_is_taken_away() {
    let machine = Machine::with_library();
    machine.write("key", [7; 64]);
    assert_eq!(machine.run("key add @lib --new-key-file @key --label nas").exit, 0);
    assert_eq!(machine.run("claims @lib --key-file @key").exit, 0);
    assert_eq!(machine.run("key remove @lib --id 3").out, "key 3 opens nothing any more\n");
    assert_snapshot!(machine.run("claims @lib --key-file @key").err, @r"
    haven: no key file is set up for this library
      meaning  the library is untouched, and nothing was opened
      next     `haven key list` shows which keys there are
      code     wrong-secret, exit 3
    ");
}

#[test]
fn the_last_key_stays_and_giving_up_the_recovery_key_is_warned_of() {
    let machine = Machine::with_library();
    assert_snapshot!(machine.run("key remove @lib --id 2").whole(), @r"
    exit 0
    --- out
    key 2 opens nothing any more
    --- err
    haven: warning: that was the recovery key: if the other keys are lost, nothing opens the library (haven key recovery makes a new one)
    ");
    assert_snapshot!(machine.run("key remove @lib --id 1").whole(), @r"
    exit 7
    --- out
    --- err
    haven: key 1 is the last one: without it nobody could ever open the library
      meaning  the keys are as they were
      next     haven key add    first, then remove this one
      code     key, exit 7
    ");
    assert_eq!(machine.run("claims @lib").exit, 0);
}

#[test]
fn a_new_recovery_key_takes_the_place_of_the_old_one() {
    let machine = Machine::with_library();
    assert_eq!(machine.run("claims @lib --recovery-words @kit.txt").exit, 0);
    assert_eq!(machine.run("key recovery @lib --recovery-key-file @new.txt --recovery-words @kit.txt").exit, 0);
    assert_eq!(machine.run("claims @lib --recovery-words @kit.txt").exit, 3);
    assert_eq!(machine.run("claims @lib --recovery-words @new.txt").exit, 0);
}

#[test]
fn a_passphrase_may_come_from_a_command_the_environment_or_systemd() {
    let machine = Machine::with_library();
    let bare = || {
        let mut command = machine.command("claims @lib");
        command.env_remove("HAVEN_PASSPHRASE_FILE");
        command
    };
    let good = "correct horse battery staple";
    assert_eq!(machine.said(bare().env("HAVEN_PASSPHRASE_COMMAND", format!("echo {good}; echo more"))).exit, 0);
    assert_eq!(machine.said(bare().env("HAVEN_PASSPHRASE", good)).exit, 0);
    std::fs::create_dir(machine.path("credentials")).unwrap();
    machine.write("credentials/haven-passphrase", good);
    assert_eq!(machine.said(bare().env("CREDENTIALS_DIRECTORY", machine.path("credentials"))).exit, 0);
    assert_eq!(machine.said(&mut bare()).exit, 3);
    // A flag goes before the environment.
    machine.write("wrong", "wrong");
    assert_eq!(machine.run("claims @lib --passphrase-file @wrong").exit, 3);
}

#[test]
fn the_key_that_this_machine_opens_the_library_with_is_not_taken_away_by_the_way() {
    let machine = Machine::with_library();
    assert_snapshot!(machine.run("key remove @lib --id 1").whole(), @r"
    exit 7
    --- out
    --- err
    haven: key 1 is what this machine opens the library with
      because  it is in the passphrase file [DIR]/passphrase
      meaning  the keys are as they were; without it the next mount here would fail
      next     haven key change    puts another one in its place
               or name another source in haven.toml first; --although-in-use takes it away all the same
      code     key, exit 7
    ");
    let by_words = machine.run("key remove @lib --id 1 --recovery-words @kit.txt");
    assert_eq!(by_words.exit, 7, "whatever it is asked with: {}", by_words.err);
    assert_eq!(machine.run("claims @lib").exit, 0);
    assert_eq!(machine.run("key remove @lib --id 1 --although-in-use").exit, 0);
    assert_eq!(machine.run("claims @lib").exit, 3);
    assert_eq!(machine.run("claims @lib --recovery-words @kit.txt").exit, 0);
}
