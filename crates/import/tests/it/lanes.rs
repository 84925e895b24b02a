//! What runs beside what.

use std::{sync::Arc, time::Duration};

use haven_import::{Options, Source, Stop, report::Bucket};

use crate::{
    imports::{import, options, prepare, setup},
    made,
    memory::Memory,
};

#[tokio::test]
async fn long_films_keep_no_photo_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Pictures");
    std::fs::create_dir_all(&root).unwrap();
    // More of them than uploads at once, and before the photos. Holes cost nothing; of one length they would be compared.
    for n in 0..9u64 {
        let path = root.join(format!("a{n}.mp4"));
        std::fs::write(&path, made::mp4(&n.to_string())).unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_len((33 << 20) + n).unwrap();
    }
    for n in 0..5 {
        std::fs::write(root.join(format!("z{n}.jpg")), made::jpeg(&n.to_string())).unwrap();
    }
    let server = Arc::new(Memory::default());
    server.state().long_wait_for = Some(5);
    let options = Options { source: Source::Folder, takeout_tag: false, ..options() };
    let state = dir.path().join("j");
    let roots = [root];
    let imported = import(&server, &state, &roots, &options);
    let summary =
        tokio::time::timeout(Duration::from_secs(60), imported).await.expect("films wait for photos").unwrap();
    assert_eq!((summary.count(Bucket::Uploaded), summary.count(Bucket::Failed)), (5, 9));
}

#[tokio::test]
async fn two_albums_are_filled_at_once_and_those_of_one_title_one_after_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = |album: &str, name: &str| -> &'static str { format!("Takeout/Google Photos/{album}/{name}").leak() };
    let part = |titles: &dyn Fn(u32) -> String| {
        let mut files = vec![];
        for n in 0..6 {
            let folder = format!("Album({n})");
            files.push((path(&folder, "metadata.json"), format!(r#"{{"title":"{}"}}"#, titles(n)).into_bytes()));
            files.push((path(&folder, "a.jpg"), made::jpeg(&n.to_string())));
            files.push((path(&folder, "a.jpg.json"), made::sidecar("a.jpg", 1_558_173_600, "")));
        }
        files
    };
    let (own, same) = (|n: u32| format!("Trip {n}"), |_: u32| "Trip".to_owned());
    for (most, files) in [(2, part(&own)), (1, part(&same))] {
        let zip = dir.path().join(format!("{most}.zip"));
        made::zip(&zip, &files);
        let server = Arc::new(Memory::default());
        import(&server, &dir.path().join(format!("j{most}")), &[zip], &options()).await.unwrap();
        let state = server.state();
        assert_eq!((state.albums.len(), state.album_calls_most), (6, most));
        assert!(state.albums.values().all(|(_, members)| members.len() == 1), "{:?}", state.albums);
    }
}

#[tokio::test]
async fn an_owner_who_wants_it_to_end_waits_for_no_upload() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Pictures");
    std::fs::create_dir_all(&root).unwrap();
    for n in 0..4u64 {
        let path = root.join(format!("a{n}.mp4"));
        std::fs::write(&path, made::mp4(&n.to_string())).unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_len((33 << 20) + n).unwrap();
    }
    let server = Arc::new(Memory::default());
    // They stall, whatever comes.
    server.state().long_wait_for = Some(usize::MAX);
    let options = Options { source: Source::Folder, takeout_tag: false, ..options() };
    let (state, roots) = (dir.path().join("j"), [root]);
    let (journal, parts) = prepare(&state, &roots, &options);
    let (cancel, cancelled) = tokio::sync::watch::channel(false);
    let asks = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.send(true).unwrap();
    };
    let running = haven_import::run(setup(&server, journal, parts, &options, cancelled));
    let running = tokio::time::timeout(Duration::from_secs(20), running);
    let ended = tokio::join!(running, asks).0.expect("it waits for the uploads");
    assert!(matches!(ended, Err(Stop::Cancelled)), "{ended:?}");
    assert!(server.state().paused.is_empty(), "background work goes on again");
    // What was broken off is brought by the next run.
    server.state().long_wait_for = None;
    let summary = import(&server, &state, &roots, &options).await.unwrap();
    assert_eq!((summary.count(Bucket::Uploaded), summary.is_whole()), (4, true), "{summary:#?}");
}
