//! Films beside stills of their names: what the files say decides whose half they are, and whether they are any.

use std::sync::Arc;

use haven_import::{Options, Source, report::Bucket, server::Visibility};

use crate::{
    imports::{import, options},
    made,
    memory::{Kept, Memory},
};

#[tokio::test]
async fn a_film_goes_to_the_still_that_says_the_same_or_to_none() {
    let dir = tempfile::tempdir().unwrap();
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let mut files = vec![];
    for n in 1..=4 {
        for (name, id) in [(format!("IMG_{n}.HEIC"), "B"), (format!("IMG_{n}.JPG"), "A")] {
            files.push((year(&name), made::live_jpeg(&name, id)));
            files.push((year(&format!("{name}.json")), made::sidecar(&name, 1_558_173_600, "")));
        }
    }
    files.push((year("IMG_1.MOV"), made::live_mov("one", "a", 2900)));
    files.push((year("IMG_2.MOV"), made::live_mov("two", "", 2900)));
    files.push((year("IMG_3.MOV"), made::live_mov("three", "A", 60_000)));
    // With one still the name is enough.
    files.push((year("IMG_5.JPG"), made::jpeg("five")));
    files.push((year("IMG_5.JPG.json"), made::sidecar("IMG_5.JPG", 1_558_173_600, "")));
    files.push((year("IMG_5.MOV"), made::live_mov("five", "", 2900)));
    let zip = dir.path().join("a.zip");
    made::zip(&zip, &files);
    let server = Arc::new(Memory::default());
    let summary = import(&server, &dir.path().join("j"), std::slice::from_ref(&zip), &options()).await.unwrap();
    assert!(summary.is_whole());
    assert_eq!((summary.count(Bucket::MotionHalf), summary.unmatched), (2, 2), "{summary:#?}");
    let state = server.state();
    let find = |name: &str| state.assets.iter().find(|(_, kept)| kept.upload.name == name).unwrap();
    let joined = |kept: &Kept| kept.upload.live_video.as_ref().map(|video| state.assets[video].upload.name.clone());
    // JPEG by content, so HEIC goes as .jpg.
    assert_eq!(joined(find("IMG_1.JPG").1).as_deref(), Some("IMG_1.MOV"));
    assert_eq!(joined(find("IMG_5.JPG").1).as_deref(), Some("IMG_5.MOV"));
    for name in ["IMG_1.jpg", "IMG_2.jpg", "IMG_2.JPG", "IMG_3.jpg", "IMG_3.JPG", "IMG_4.jpg", "IMG_4.JPG"] {
        assert_eq!(joined(find(name).1), None, "{name}");
    }
    for name in ["IMG_2.MOV", "IMG_3.MOV"] {
        let film = find(name).1;
        assert_eq!(film.upload.visibility, Visibility::Timeline, "{name} is a film of its own");
        assert!(film.upload.xmp.as_deref().unwrap().contains("takeout/unmatched"), "{name}");
    }
}

#[tokio::test]
async fn a_film_that_only_has_a_stills_name_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Pictures");
    std::fs::create_dir_all(&root).unwrap();
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(root.join(name), bytes).unwrap();
    for n in 1..=5 {
        write(&format!("IMG_{n}.JPG"), made::live_jpeg(&n.to_string(), "A"));
    }
    write("IMG_1.MP4", made::live_mov("ten minutes", "", 600_000));
    write("IMG_2.MOV", made::live_mov("another photo's half", "B", 2900));
    write("IMG_3.MOV", made::live_mov("its half", "A", 2900));
    // Nothing can be read of this one; and this one is longer than any half, whatever it says.
    write("IMG_4.MP4", made::mp4("four"));
    write("IMG_5.MP4", made::live_mov("long", "A", 2900));
    std::fs::File::options().write(true).open(root.join("IMG_5.MP4")).unwrap().set_len(33 << 20).unwrap();
    let server = Arc::new(Memory::default());
    let options = Options { source: Source::Folder, takeout_tag: false, ..options() };
    let summary = import(&server, &dir.path().join("j"), &[root], &options).await.unwrap();
    assert!(summary.is_whole(), "{summary:#?}");
    let state = server.state();
    let hidden = state.assets.values().filter(|kept| kept.upload.visibility == Visibility::Hidden);
    let mut hidden: Vec<&str> = hidden.map(|kept| kept.upload.name.as_str()).collect();
    hidden.sort_unstable();
    assert_eq!(hidden, ["IMG_3.MOV", "IMG_4.MP4"]);
}

#[tokio::test]
async fn a_film_whose_own_sidecar_comes_in_a_later_part_is_shown_or_told() {
    let dir = tempfile::tempdir().unwrap();
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let json = |name: &str, taken| (year(&format!("{name}.json")), made::sidecar(name, taken, ""));
    let parts = [1, 2].map(|n| dir.path().join(format!("takeout-20240525T201456Z-00{n}.zip")));
    let first = vec![
        (year("IMG_1.JPG"), made::jpeg("one")),
        json("IMG_1.JPG", 1_558_173_600),
        (year("IMG_1.MP4"), made::live_mov("minutes", "", 600_000)),
        (year("IMG_2.JPG"), made::jpeg("two")),
        json("IMG_2.JPG", 1_558_173_600),
        (year("IMG_2.MP4"), made::mp4("nobody can tell how long")),
    ];
    made::zip(&parts[0], &first);
    made::zip(&parts[1], &[json("IMG_1.MP4", 1_558_260_000), json("IMG_2.MP4", 1_558_260_000)]);
    let (server, state) = (Arc::new(Memory::default()), dir.path().join("j"));
    import(&server, &state, &parts[..1], &options()).await.unwrap();
    let summary = import(&server, &state, &parts[1..], &options()).await.unwrap();
    let shown = |name: &str| {
        let state = server.state();
        state.assets.values().find(|kept| kept.upload.name == name).unwrap().upload.visibility == Visibility::Timeline
    };
    assert!(shown("IMG_1.MP4"));
    let told =
        |name: &str| summary.notes.iter().any(|note| note.example.ends_with(name) && note.why.contains("hidden"));
    assert!(told("IMG_2.MP4") && !told("IMG_1.MP4"), "{summary:#?}");
    let again = import(&server, &state, &parts, &options()).await.unwrap();
    assert_eq!(again.notes, summary.notes);
}
