//! Archives that can't be sought in: a long file in one comes by once in each walk.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use haven_import::{Waits, report::Bucket};

use crate::{
    imports::{import, options, prepare, run_watched, waits},
    made,
    memory::{Absence, Fault, Memory},
};

/// An archive of a film of more than is held in memory, and where `photo` is true of a photo behind it.
fn archive(directory: &Path, photo: bool) -> PathBuf {
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let json = |name: &str| (year(&format!("{name}.json")), made::sidecar(name, 1_558_173_600, ""));
    let mut film = made::mp4("film");
    film.resize(33 << 20, 7);
    let path = directory.join("takeout-20240525T201456Z-001.tgz");
    let mut files = vec![(year("film.mp4"), film), json("film.mp4")];
    if photo {
        files.extend([(year("z.jpg"), made::jpeg("z")), json("z.jpg")]);
    }
    made::tgz(&path, &files);
    path
}

#[tokio::test]
async fn a_long_film_that_a_busy_server_broke_off_comes_with_the_next_walk() {
    let dir = tempfile::tempdir().unwrap();
    let (path, state) = (archive(dir.path(), true), dir.path().join("j"));
    let server = Arc::new(Memory::default());
    server.state().faults = vec![Fault::Busy];
    let summary = import(&server, &state, std::slice::from_ref(&path), &options()).await.unwrap();
    assert_eq!((summary.count(Bucket::Uploaded), summary.is_whole()), (2, true), "{summary:#?}");
    // One that breaks it off each time is asked as often as for any other file.
    let (server, state) = (Arc::new(Memory::default()), dir.path().join("k"));
    server.state().faults = [vec![Fault::Busy; 100], vec![Fault::Before; 3]].concat();
    let summary = import(&server, &state, std::slice::from_ref(&path), &options()).await.unwrap();
    assert!(summary.failed.iter().any(|why| why.example.ends_with("film.mp4") && why.why.contains("too busy")));
    assert!(!summary.failed.iter().any(|why| why.why.contains("can't be read")), "{summary:#?}");
    server.state().faults.clear();
    let summary = import(&server, &state, std::slice::from_ref(&path), &options()).await.unwrap();
    assert_eq!((summary.count(Bucket::Uploaded), summary.is_whole()), (2, true), "{summary:#?}");
}

#[tokio::test(start_paused = true)]
async fn no_long_film_fails_by_outages_in_the_middle_of_it() {
    const HOURS: Duration = Duration::from_secs(3 * 3600);
    let dir = tempfile::tempdir().unwrap();
    // Faults are for whatever comes.
    let path = archive(dir.path(), false);
    for absence in [Absence::Stopped(HOURS), Absence::NoDatabase(HOURS)] {
        let server = Arc::new(Memory::default());
        let waits = Waits { tries: waits().tries, ..Waits::default() };
        let outages = waits.tries as usize + 2;
        server.state().faults = vec![Fault::Goes(absence); outages];
        let (journal, parts) =
            prepare(&dir.path().join(format!("{absence:?}")), std::slice::from_ref(&path), &options());
        let since = tokio::time::Instant::now();
        let ended = run_watched(&server, journal, parts, &options(), waits, Arc::default(), |_| {}).await;
        let summary = ended.unwrap();
        assert_eq!((summary.count(Bucket::Uploaded), summary.is_whole()), (1, true), "{summary:#?}");
        assert!(since.elapsed() >= HOURS * outages as u32 && server.state().faults.is_empty(), "{absence:?}");
    }
}
