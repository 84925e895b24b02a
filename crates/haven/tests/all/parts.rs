//! `haven import` of parts that are missing, damaged, encrypted or not where they are looked for.

use std::fs;

use haven_immich_fake::Options;

use crate::{
    importing::{Home, ended, whole},
    made,
};

#[test]
fn missing_parts_are_told_first() {
    let home = Home::new(Options::default());
    fs::rename(home.part(2), home.machine.path("takeout/takeout-20240525T201456Z-003.zip")).unwrap();
    fs::rename(home.part(1), home.part(2)).unwrap();
    let said = home.import("");
    ended(&said, 10, &["parts 1 are missing", "--allow-missing-parts"]);
    assert!(said.err.lines().next().unwrap().contains("parts 1 are missing"), "{}", said.err);
    assert_eq!(home.assets(), 0, "nothing was sent");
    // What has a sidecar goes, what has none waits, and then goes too.
    ended(&home.import("--allow-missing-parts"), 10, &[]);
    assert_eq!((home.bucket("/a.jpg").0, home.bucket("/alone.jpg").0), ("uploaded".into(), "waiting".into()));
    assert_eq!(home.import("--no-wait").exit, 0);
    assert_eq!(home.bucket("/alone.jpg").0, "uploaded");
}

#[test]
fn a_part_of_films_alone_is_held_until_their_sidecars_come() {
    let home = Home::new(Options::default());
    fs::remove_file(home.part(1)).unwrap();
    let film = "Takeout/Google Photos/Photos from 2019/film.mp4";
    made::zip(&home.part(2), &[(film, made::mp4("film"))]);
    ended(&home.import(""), 10, &["parts 1 are missing", "1 photos have no sidecar"]);
    ended(&home.import("--allow-missing-parts"), 10, &[]);
    assert_eq!((home.bucket("/film.mp4").0, home.assets()), ("waiting".into(), 0));
}

#[test]
fn an_export_of_another_product_is_held_and_told() {
    let home = Home::new(Options::default());
    let drive = home.machine.path("takeout/takeout-20250525T201456Z-001.zip");
    made::zip(&drive, &[("Takeout/Drive/scan.jpg", made::jpeg("scan"))]);
    ended(&home.import(""), 10, &["some files wait for their sidecars", "has a sidecar", "--no-wait"]);
    assert_eq!((home.bucket("/scan.jpg").0, home.assets()), ("waiting".into(), 7));
    whole(&home.import("--no-wait"));
    assert_eq!(home.assets(), 8);
}

#[test]
fn a_part_that_was_not_downloaded_to_its_end_is_told_first() {
    let home = Home::new(Options::default());
    let bytes = fs::read(home.part(2)).unwrap();
    fs::write(home.part(2), &bytes[..bytes.len() / 2]).unwrap();
    let said = home.import("");
    ended(&said, 10, &["002.zip", "was not downloaded to the end", "download those parts again"]);
    assert!(said.err.lines().next().unwrap().contains("002.zip"), "{}", said.err);
    assert_eq!(home.assets(), 0);
}

/// Writes a part with one photo and its sidecar.
fn photo_part(home: &Home, number: u32, name: &str) {
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let json = (year(&format!("{name}.json")), made::sidecar(name, 1_558_173_600, ""));
    made::zip(&home.part(number), &[(year(name), made::jpeg(name)), json]);
}

#[test]
fn a_part_that_no_photo_misses_is_told_at_the_end_too_unless_it_is_meant() {
    let home = Home::new(Options::default());
    photo_part(&home, 1, "a.jpg");
    photo_part(&home, 3, "c.jpg");
    fs::remove_file(home.part(2)).unwrap();
    let said = home.import("");
    let gap = "because  export 20240525T201456Z: parts 2 are missing";
    ended(&said, 10, &[gap, "download those parts again", "--allow-missing-parts"]);
    assert!(said.err.lines().next().unwrap().contains("parts 2 are missing"), "{}", said.err);
    assert!(said.out.contains("parts 2 are missing") && said.out.contains("the last part seen is 3"), "{}", said.out);
    assert_eq!(home.assets(), 2);
    let meant = home.import("--allow-missing-parts");
    whole(&meant);
    assert!(meant.out.contains("parts 2 are missing"), "{}", meant.out);
    photo_part(&home, 2, "b.jpg");
    let said = home.import("");
    whole(&said);
    assert!(!said.out.contains("are missing") && said.out.contains("the last part seen is 3"), "{}", said.out);
    assert_eq!(home.assets(), 3);
}

#[test]
fn what_lies_beside_the_parts_is_read_or_told() {
    let home = Home::new(Options::default());
    photo_part(&home, 1, "a.jpg");
    fs::remove_file(home.part(2)).unwrap();
    let year = home.machine.path("takeout/Takeout/Google Photos/Photos from 2019");
    fs::create_dir_all(&year).unwrap();
    fs::write(year.join("b.jpg"), made::jpeg("b.jpg")).unwrap();
    fs::write(year.join("b.jpg.json"), made::sidecar("b.jpg", 1_558_173_600, "")).unwrap();
    home.machine.write("takeout/ticket.pdf", "%PDF");
    // The journal lies beside the parts.
    let command = format!(
        "import google-photos @takeout --server {} --api-key-file @key --default-zone UTC",
        home.fake.address()
    );
    for _ in 0..2 {
        let said = home.machine.run(&command);
        whole(&said);
        let told = said.err.lines().find(|line| line.contains("is not looked at")).unwrap();
        assert!(told.ends_with("not looked at: [DIR]/takeout/ticket.pdf"), "{told}");
        assert_eq!(home.assets(), 2);
    }
}

#[test]
fn a_damaged_part_is_meant_by_nobody() {
    let home = Home::new(Options::default());
    photo_part(&home, 1, "a.jpg");
    photo_part(&home, 2, "b.jpg");
    let bytes = fs::read(home.part(2)).unwrap();
    fs::write(home.part(2), &bytes[..bytes.len() / 2]).unwrap();
    let part = "because  [DIR]/takeout/takeout-20240525T201456Z-002.zip";
    for allow in ["--allow-missing-parts", "--no-wait"] {
        ended(&home.import(allow), 10, &[part, "was not downloaded to the end", "download those parts again"]);
        assert_eq!(home.assets(), 1);
    }
    fs::write(home.part(2), &bytes).unwrap();
    whole(&home.import(""));
}

#[test]
fn an_encrypted_part_and_an_encrypted_file() {
    let home = Home::new(Options::default());
    let whole_part = fs::read(home.part(1)).unwrap();
    let mut bytes = whole_part.clone();
    made::set_flag(&mut bytes, "", 1);
    fs::write(home.part(1), &bytes).unwrap();
    ended(&home.import(""), 10, &["001.zip", "it is encrypted"]);
    bytes = whole_part;
    made::set_flag(&mut bytes, "/alone.jpg", 1);
    fs::write(home.part(1), &bytes).unwrap();
    ended(&home.import(""), 10, &["it is encrypted"]);
    assert_eq!((home.bucket("/alone.jpg"), home.assets()), (("failed".into(), "it is encrypted".into()), 6));
}

#[test]
fn a_path_that_leads_out_and_a_wrong_sum_fail_alone() {
    let home = Home::new(Options::default());
    let mut bytes = fs::read(home.part(1)).unwrap();
    let name = b"Takeout/Contacts/All/face.jpg";
    for at in 0..bytes.len() - name.len() {
        if bytes[at..].starts_with(name) {
            bytes[at..at + 8].copy_from_slice(b"../../..");
        }
    }
    // The name comes first, the bytes behind it.
    let at = bytes.windows(5).enumerate().filter(|(_, w)| *w == b"alone").map(|(at, _)| at).nth(1).unwrap();
    bytes[at] = b'X';
    fs::write(home.part(1), bytes).unwrap();
    ended(&home.import(""), 10, &["its name leads out", "CRC-32", "only read"]);
    assert_eq!(home.bucket("face.jpg").0, "failed");
    assert!(home.bucket("/alone.jpg").1.contains("CRC-32"));
    assert_eq!(home.assets(), 6, "the others are there");
}
