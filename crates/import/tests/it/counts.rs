//! What is counted: by the server, and of the source.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use haven_import::{Counted, Options, Progress, Source, server::Visibility};

use crate::{
    imports::{import, options, prepare, run_watched, waits},
    made,
    memory::Memory,
};

#[tokio::test]
async fn the_server_counts_what_was_brought_and_what_it_does_not_show_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let server = Arc::new(Memory::default());
    let phone = dir.path().join("phone");
    std::fs::create_dir_all(&phone).unwrap();
    for (name, bytes) in [("x.jpg", made::jpeg("x")), ("a.jpg", made::jpeg("a")), ("live.mp4", made::mp4("live"))] {
        std::fs::write(phone.join(name), bytes).unwrap();
    }
    let plain = Options { source: Source::Folder, takeout_tag: false, ..options() };
    let first = import(&server, &dir.path().join("p"), &[phone], &plain).await.unwrap();
    assert_eq!(first.counted, Some(Counted { before: 0, brought: 3, hidden: 0, after: 3 }));

    // The film of a live photo was shown, and is its hidden half now.
    let state = dir.path().join("j");
    let second = import(&server, &state, &paths, &options()).await.unwrap();
    server.state().assets.values_mut().filter(|kept| kept.upload.name == "live.mp4").for_each(|kept| {
        kept.upload.visibility = Visibility::Hidden;
    });
    let again = import(&server, &state, &paths, &options()).await.unwrap();
    let counted = again.counted.unwrap();
    assert_eq!((counted.before, counted.brought, counted.hidden, counted.lacking()), (3, 5, 1, 0), "{second:#?}");
    assert_eq!(counted.after, 7);

    let hide = server.state().assets.iter().find(|(_, kept)| kept.upload.name == "b.jpg").unwrap().0.clone();
    server.state().assets.get_mut(&hide).unwrap().upload.visibility = Visibility::Hidden;
    let third = import(&server, &state, &paths, &options()).await.unwrap();
    assert_eq!(third.counted.unwrap().lacking(), 1);
}

/// Photos, and a film of more than what is held in memory.
fn pictures(root: &Path) -> (u64, u64) {
    std::fs::create_dir_all(root).unwrap();
    let mut short = 0;
    for n in 0..4 {
        let bytes = [made::jpeg(&n.to_string()), vec![n; 300_000 * usize::from(n)]].concat();
        short += bytes.len() as u64;
        std::fs::write(root.join(format!("{n}.jpg")), bytes).unwrap();
    }
    let long = 33 << 20;
    std::fs::write(root.join("film.mp4"), made::mp4("film")).unwrap();
    std::fs::File::options().write(true).open(root.join("film.mp4")).unwrap().set_len(long).unwrap();
    (short, long)
}

#[tokio::test]
async fn no_file_is_read_more_than_twice_and_into_an_empty_server_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Pictures");
    let (short, long) = pictures(&root);
    let options = Options { source: Source::Folder, takeout_tag: false, ..options() };
    let read = async |server: &Arc<Memory>, state: &str| {
        let (journal, parts) = prepare(&dir.path().join(state), std::slice::from_ref(&root), &options);
        let progress = Arc::new(Progress::default());
        run_watched(server, journal, parts, &options, waits(), progress.clone(), |_| {}).await.unwrap();
        progress.source_bytes.load(Relaxed)
    };
    // A film's date is looked for where it may lie.
    let header = 2 * 64;
    let empty = Arc::new(Memory::default());
    let once = read(&empty, "empty").await;
    assert!((short + long..=short + long + header).contains(&once), "{once} of {}", short + long);
    // Of one that may have them, a photo is read once and a film twice: for its sum, and to be sent.
    let other = Arc::new(Memory::default());
    let stranger = dir.path().join("stranger");
    std::fs::create_dir_all(&stranger).unwrap();
    std::fs::write(stranger.join("y.jpg"), made::jpeg("y")).unwrap();
    import(&other, &dir.path().join("s"), &[stranger], &options).await.unwrap();
    let twice = read(&other, "other").await;
    assert!((short + 2 * long..=short + 2 * long + header).contains(&twice), "{twice} of {}", short + long);
    // What it has is read once, and a film's beginning.
    let there = read(&other, "there").await;
    assert!((short + long..=short + long + (1 << 20) + header).contains(&there), "{there} of {}", short + long);
    let sent = other.state().body_bytes;
    assert_eq!(read(&other, "there").await, 0, "a finished import reads nothing");
    assert_eq!(other.state().body_bytes, sent);
}
