//! Two stills of one name, and a film beside them: only what the files say decides whose half it is.

use std::sync::Arc;

use haven_import::{report::Bucket, server::Visibility};

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
