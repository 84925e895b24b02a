//! `haven export`: what comes out is what went in, by the tools that everybody has.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, Metadata},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use haven_testkit::museum;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

use crate::{
    mounted::{Mount, can_mount},
    run::{Machine, Said},
};

/// A machine with an exhibit of the museum at `@lib`.
fn visitor(exhibit: &str) -> Machine {
    let machine = Machine::new();
    museum::lay_out(exhibit, &machine.path("lib")).unwrap();
    machine.write("passphrase", museum::PASSPHRASE);
    machine
}

/// All that is told of a tree, by path: type, mode, owner, links, size, times, target, attributes, content.
fn tree(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = Vec::new();
    walk(top, &mut found);
    // All is looked at before anything is read, which changes access times.
    let told = |(path, about): (PathBuf, Metadata)| {
        let mut said = format!(
            "{:o} {}:{} {}.{:09} {}.{:09}",
            about.mode(),
            about.uid(),
            about.gid(),
            about.mtime(),
            about.mtime_nsec(),
            about.atime(),
            about.atime_nsec(),
        );
        if about.is_file() {
            let content = fs::read(&path).unwrap();
            said += &format!(" {} links {} bytes {}", about.nlink(), about.len(), blake3::hash(&content));
        } else if about.is_symlink() {
            said += &format!(" to {:?}", fs::read_link(&path).unwrap());
        } else {
            said += &format!(" {}", about.rdev());
        }
        (path.strip_prefix(top).unwrap().to_owned(), said + &xattrs(&path))
    };
    found.into_iter().map(told).collect()
}

fn walk(here: &Path, found: &mut Vec<(PathBuf, Metadata)>) {
    for entry in fs::read_dir(here).unwrap().map(Result::unwrap) {
        let about = entry.metadata().unwrap();
        let is_folder = about.is_dir();
        found.push((entry.path(), about));
        if is_folder {
            walk(&entry.path(), found);
        }
    }
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut names: Vec<&[u8]> = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    let value = |name: &&[u8]| {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, *name, &mut value[..]).unwrap();
        format!(" {}={:?}", String::from_utf8_lossy(name), &value[..length])
    };
    names.iter().map(value).collect()
}

fn checked(directory: &Path) -> String {
    let said =
        Command::new("sha256sum").args(["-c", "--quiet", "--strict", "SHA256SUMS"]).current_dir(directory).output();
    let said = said.unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    String::from_utf8_lossy(&fs::read(directory.join("SHA256SUMS")).unwrap()).into_owned()
}

fn json(said: &Said) -> serde_json::Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {} {}", said.out, said.err))
}

/// Sets both times of a file, nanoseconds too.
fn set_times(path: &Path, seconds: i64, nanos: i64) {
    let time = |tv_sec| Timespec { tv_sec, tv_nsec: nanos };
    let times = Timestamps { last_access: time(seconds + 7), last_modification: time(seconds) };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Fills a directory with all kinds of things.
fn fill(top: &Path) {
    let long = "a long name with blanks and \u{fc}ml\u{e4}ute, ".repeat(5);
    fs::create_dir_all(top.join("2026").join(&long).join(&long)).unwrap();
    let noise = |seed: u32, length: usize| -> Vec<u8> {
        (0..length as u32).flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).to_le_bytes()).take(length).collect()
    };
    fs::write(top.join("2026/IMG_0001.JPG"), noise(1, 700_000)).unwrap();
    fs::write(top.join("2026/film.mp4"), noise(2, 9_000_001)).unwrap();
    fs::write(top.join("2026/empty"), "").unwrap();
    fs::write(top.join("2026").join(&long).join(&long).join("deep.txt"), "deep\n").unwrap();
    fs::write(top.join(OsStr::from_bytes(b"no \xff text")), "latin\n").unwrap();
    fs::write(top.join("back\\slash and\nline"), "odd\n").unwrap();
    fs::hard_link(top.join("2026/IMG_0001.JPG"), top.join("2026/again.jpg")).unwrap();
    symlink("../somewhere/else", top.join("2026/link")).unwrap();
    symlink("x".repeat(300), top.join("2026/long link")).unwrap();
    // A hole in front, in the middle and at the end.
    let sparse = File::create(top.join("sparse.img")).unwrap();
    sparse.set_len(30_000_000).unwrap();
    sparse.write_all_at(&noise(3, 200_000), 5_000_000).unwrap();
    sparse.write_all_at(b"end", 20_000_000).unwrap();
    File::create(top.join("only holes")).unwrap().set_len(10_000_000).unwrap();
    rustix::fs::mknodat(CWD, top.join("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o640), 0)
        .unwrap();
    let note = top.join("2026/IMG_0001.JPG");
    rustix::fs::setxattr(&note, "user.note", b"sea\0side\n", XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(&note, "user.a=b%c", b"odd name", XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(top.join("2026"), "user.note", b"a year", XattrFlags::empty()).unwrap();
    fs::set_permissions(top.join("2026/film.mp4"), fs::Permissions::from_mode(0o4750)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(top.join("2026/film.mp4"), Some(1234), Some(4_000_000_000)).unwrap();
        fs::set_permissions(top.join("2026/film.mp4"), fs::Permissions::from_mode(0o4750)).unwrap();
        std::os::unix::fs::lchown(top.join("2026/link"), Some(77), Some(78)).unwrap();
    }
    let mut at = -86_400;
    for path in tree(top).keys().rev() {
        at += 40_000_000;
        set_times(&top.join(path), at, 123_456_789);
    }
}

#[test]
fn an_export_is_what_was_written_by_every_tool() {
    if !can_mount() {
        return;
    }
    let machine = Machine::with_library();
    let wanted = {
        let _mount = Mount::new(&machine, "m", "");
        fill(&machine.path("m"));
        assert_eq!(machine.run("flush @m").exit, 0);
        tree(&machine.path("m"))
    };
    let said = machine.run("export @lib --to @out --json");
    assert_eq!(said.exit, 0, "{}", said.err);
    let summary = json(&said);
    assert_eq!((&summary["files"], &summary["hard_links"], &summary["special"]), (&8.into(), &1.into(), &1.into()));
    assert_eq!((&summary["failed"], &summary["incomplete"]), (&serde_json::json!([]), &serde_json::json!([])));
    let mut found = tree(&machine.path("out"));
    assert!(found.remove(Path::new("SHA256SUMS")).is_some());
    compare(&wanted, &found);
    let list = checked(&machine.path("out"));
    assert_eq!(list.lines().count(), 9, "{list}");
    // Holes take no room.
    let blocks = |name: &str| fs::metadata(machine.path("out").join(name)).unwrap().blocks() * 512;
    assert!(blocks("sparse.img") < 2_000_000 && blocks("only holes") == 0);

    let said = machine.run("export @lib --to @all.tar");
    assert_eq!(said.exit, 0, "{}", said.err);
    assert!(fs::metadata(machine.path("all.tar")).unwrap().len() < 11_000_000, "holes take no room in a tar either");
    fs::create_dir(machine.path("tar")).unwrap();
    let tar = ["tar", "-xpf", "all.tar", "-C", "tar", "--xattrs", "--xattrs-include=*", "--atime-preserve"];
    let done = Command::new(tar[0]).args(&tar[1..]).current_dir(machine.path("")).output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(checked(&machine.path("tar")), list);
    fs::remove_file(machine.path("tar/SHA256SUMS")).unwrap();
    // GNU tar brings no access times back.
    compare(&plain(wanted), &plain(tree(&machine.path("tar"))));

    let stream = machine.command("export @lib --to -").stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(stream.status.success());
    let python = "import sys, tarfile, hashlib\n\
        t = tarfile.open(fileobj=sys.stdin.buffer, mode='r|')\n\
        for m in t:\n    if m.isreg(): print(hashlib.sha256(t.extractfile(m).read()).hexdigest(), m.name)";
    machine.write("stream.tar", &stream.stdout);
    let read =
        Command::new("python3").args(["-c", python]).stdin(File::open(machine.path("stream.tar")).unwrap()).output();
    let read = String::from_utf8_lossy(&read.unwrap().stdout).into_owned();
    for name in ["2026/film.mp4", "2026/empty", "sparse.img", "only holes"] {
        let sum = &list.lines().find(|line| line.ends_with(&format!("  {name}"))).unwrap()[..64];
        assert!(read.contains(&format!("{sum} {name}\n")), "{name}: {read}");
    }
}

/// Without the access times, which looking changes.
fn plain(tree: BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    let without = |said: String| {
        let words: Vec<&str> = said.split(' ').collect();
        [&words[..3], &words[4..]].concat().join(" ")
    };
    tree.into_iter().map(|(path, said)| (path, without(said))).collect()
}

fn compare(wanted: &BTreeMap<PathBuf, String>, found: &BTreeMap<PathBuf, String>) {
    assert_eq!(wanted.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for (path, said) in wanted {
        assert_eq!(said, &found[path], "{}", path.display());
    }
}

#[test]
fn an_export_goes_on_where_it_was_interrupted_and_believes_nothing_unread() {
    let machine = visitor("whole");
    assert_eq!(machine.run("export @lib --to @out").exit, 0);
    let whole = tree(&machine.path("out"));
    let list = checked(&machine.path("out"));
    let again = machine.run("export @lib --to @out");
    assert!(again.exit != 0 && again.err.contains("--resume"), "{}", again.err);

    let summary = json(&machine.run("export @lib --to @out --resume --json"));
    assert_eq!((&summary["files"], &summary["kept"]), (&3.into(), &3.into()));
    // One gone, one changed without a trace in its length and time, one that the list does not know.
    fs::remove_file(machine.path("out/2027/IMG_0004.JPG")).unwrap();
    let sidecar = machine.path("out/2026/IMG_0001.xmp");
    let about = fs::metadata(&sidecar).unwrap();
    File::options().write(true).open(&sidecar).unwrap().write_all_at(b"X", 9).unwrap();
    set_times(&sidecar, about.mtime(), about.mtime_nsec());
    let cut: String =
        list.lines().filter(|line| !line.contains("IMG_0001.JPG")).map(|line| format!("{line}\n")).collect();
    fs::write(machine.path("out/SHA256SUMS"), cut + "1234").unwrap();
    let summary = json(&machine.run("export @lib --to @out --resume --json"));
    assert_eq!((&summary["files"], &summary["kept"]), (&3.into(), &0.into()));
    assert_eq!(checked(&machine.path("out")), list);
    let (mut mended, mut whole) = (plain(tree(&machine.path("out"))), plain(whole));
    assert!([&mut mended, &mut whole].map(|tree| tree.remove(Path::new("SHA256SUMS"))).iter().all(Option::is_some));
    compare(&whole, &mended);
}

#[test]
fn a_resumed_export_replaces_nothing_that_no_export_of_this_library_has_left() {
    let machine = visitor("whole");
    fs::create_dir_all(machine.path("home/2026")).unwrap();
    machine.write("home/2026/IMG_0001.xmp", "my own diary");
    let said = machine.run("export @lib --to @home --resume");
    assert!(said.exit == 7 && said.err.contains("no export has left it"), "{}", said.whole());
    // One that was interrupted before it had listed anything goes on.
    fs::create_dir(machine.path("begun")).unwrap();
    machine.write("begun/SHA256SUMS.part", "");
    machine.write("begun/other", "");
    assert_eq!(machine.run("export @lib --to @begun --resume").exit, 0);
    assert!(machine.path("begun/2026/IMG_0001.xmp").exists() && machine.path("begun/other").exists());
    assert_eq!(machine.run("export @lib --to @begun --resume").exit, 0, "its own mark is right");

    // And one of another library does not.
    machine.write("home/SHA256SUMS", "");
    let other = "00112233445566778899aabbccddeeff".as_bytes();
    rustix::fs::setxattr(machine.path("home/SHA256SUMS"), "user.haven.library", other, XattrFlags::empty()).unwrap();
    let said = machine.run("export @lib --to @home --resume");
    assert!(said.exit == 7 && said.err.contains("holds another library"), "{}", said.whole());
    assert_eq!(fs::read(machine.path("home/2026/IMG_0001.xmp")).unwrap(), b"my own diary");
    assert!(!machine.path("home/2027").exists());
}

#[test]
fn a_snapshot_is_exported_as_it_was() {
    let machine = visitor("whole");
    let summary = json(&machine.run("export @lib --to @out --at spring --json"));
    assert_eq!((&summary["files"], &summary["bytes"], &summary["hard_links"]), (&3.into(), &10_420.into(), &1.into()));
    assert!(machine.path("out/2027/IMG_0002.JPG").exists());
    let said = machine.run("export @lib --to @other --at autumn");
    assert!(said.exit == 2 && said.err.contains("is no snapshot and no time"), "{}", said.err);
}

#[test]
fn what_cannot_be_read_is_named_and_stops_nothing() {
    let machine = visitor("pack-with-a-flipped-byte-in-a-chunk");
    for (to, list) in [("@out", "out/SHA256SUMS"), ("@all.tar", "tar/SHA256SUMS")] {
        let said = machine.run(&format!("export @lib --to {to} --json"));
        assert_eq!(said.exit, 6, "{}", said.err);
        let summary = json(&said);
        let [failed] = &summary["failed"].as_array().unwrap()[..] else { panic!("{summary}") };
        assert_eq!(failed["path"], "2026/IMG_0001.JPG");
        if to.ends_with("tar") {
            fs::create_dir(machine.path("tar")).unwrap();
            let tar = ["-xf", "all.tar", "-C", "tar"];
            assert!(Command::new("tar").args(tar).current_dir(machine.path("")).status().unwrap().success());
        }
        let top = machine.path(list.split('/').next().unwrap());
        assert!(!checked(&top).contains("IMG_0001.JPG"));
        assert!(checked(&top).contains("2026/IMG_0001.xmp"));
        // What could be had of it is there: its second chunk, after a hole.
        let photo = fs::read(top.join("2026/IMG_0001.JPG")).unwrap();
        assert!(photo.len() == 6000 && photo[..4000].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_tar_is_never_written_over_something_or_onto_a_terminal() {
    let machine = visitor("whole");
    machine.write("all.tar", "precious");
    let said = machine.run("export @lib --to @all.tar");
    assert!(said.exit != 0 && said.err.contains("is there already"), "{}", said.err);
    assert_eq!(fs::read(machine.path("all.tar")).unwrap(), b"precious");
    let said = machine.run("export @lib --to @other.tar --resume");
    assert!(said.exit == 2 && said.err.contains("only an export to a directory"), "{}", said.err);
}
