//! Whole imports into a server in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use haven_import::{
    Journal, Options, Progress, Setup, Source, Stop, Waits,
    report::{self, Bucket, Summary},
    server::Visibility,
};
use tokio::sync::watch;

use crate::{
    made,
    memory::{Fault, Memory},
};

pub fn waits() -> Waits {
    let short = Duration::from_millis(1);
    Waits { first: short, longest: short, look: short, away: Duration::from_secs(5), tries: 4 }
}

/// Reads and plans.
pub fn prepare(state: &Path, paths: &[PathBuf], options: &Options) -> (Arc<Journal>, Vec<i64>) {
    let (journal, parts) = index(state, paths, options);
    haven_import::plan(&journal, options, false).unwrap();
    if haven_import::settle(&journal, &parts).unwrap() {
        haven_import::plan(&journal, options, false).unwrap();
    }
    (journal, parts)
}

pub fn index(state: &Path, paths: &[PathBuf], options: &Options) -> (Arc<Journal>, Vec<i64>) {
    let inputs = match options.source {
        Source::Takeout => haven_import::takeouts(paths).unwrap().inputs,
        Source::Folder => vec![haven_import::plain(&paths[0]).unwrap()],
    };
    // A thread of an import that was dropped may hold it for a moment.
    let journal = loop {
        match Journal::open(state) {
            Err(haven_import::JournalError::InUse(_)) => std::thread::sleep(Duration::from_millis(1)),
            opened => break opened.unwrap(),
        }
    };
    let indexed = haven_import::index(&journal, &inputs, &Progress::default()).unwrap();
    (Arc::new(journal), indexed.parts)
}

pub async fn import(server: &Arc<Memory>, state: &Path, paths: &[PathBuf], options: &Options) -> Result<Summary, Stop> {
    let (journal, parts) = prepare(state, paths, options);
    run(server, journal, parts, options, |_| {}).await
}

/// Imports what is planned; `warn` hears the warnings.
pub async fn run(
    server: &Arc<Memory>,
    journal: Arc<Journal>,
    parts: Vec<i64>,
    options: &Options,
    warn: impl Fn(&str) + Send + Sync + 'static,
) -> Result<Summary, Stop> {
    run_watched(server, journal, parts, options, waits(), Arc::default(), warn).await
}

/// The same, with other waits, and what it counts.
pub async fn run_watched(
    server: &Arc<Memory>,
    journal: Arc<Journal>,
    parts: Vec<i64>,
    options: &Options,
    waits: Waits,
    progress: Arc<Progress>,
    warn: impl Fn(&str) + Send + Sync + 'static,
) -> Result<Summary, Stop> {
    let (_cancel, cancelled) = watch::channel(false);
    let setup = setup(server, journal.clone(), parts, options, cancelled);
    haven_import::run(Setup { waits, progress, warn: Box::new(warn), ..setup }).await?;
    Ok(report::summary(&journal).unwrap())
}

/// An import that ends when `cancelled` turns true.
pub fn setup(
    server: &Arc<Memory>,
    journal: Arc<Journal>,
    parts: Vec<i64>,
    options: &Options,
    cancelled: watch::Receiver<bool>,
) -> Setup {
    Setup {
        journal,
        server: server.clone(),
        admin: Some(server.clone()),
        address: "memory".to_owned(),
        parts,
        options: options.clone(),
        progress: Arc::default(),
        waits: waits(),
        cancelled,
        tasks_max: 8,
        errors_max: None,
        warn: Box::new(|_| {}),
    }
}

pub fn options() -> Options {
    Options { default_zone: Some("Europe/Berlin".to_owned()), ..Options::default() }
}

/// All that the server holds, without its ids.
pub fn held(server: &Memory) -> Vec<String> {
    let state = server.state();
    let name = |id: &_| state.assets[id].upload.name.clone();
    let assets = state.assets.values().map(|kept| {
        let upload = &kept.upload;
        let video = upload.live_video.as_ref().map(name);
        format!(
            "{} {} {:?} {} {video:?} {} {:?} {:?} {:?}",
            upload.name,
            upload.created,
            upload.visibility,
            upload.favourite,
            kept.trashed,
            kept.tags,
            kept.said,
            upload.xmp
        )
    });
    let album = |(title, members): &(String, BTreeSet<_>)| {
        format!("{title}: {:?}", members.iter().map(name).collect::<BTreeSet<_>>())
    };
    let mut held: Vec<String> = assets.chain(state.albums.values().map(album)).collect();
    held.sort();
    held
}

#[tokio::test]
async fn every_file_ends_in_one_bucket_and_the_server_holds_what_was_planned() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let server = Arc::new(Memory::default());
    let summary = import(&server, &dir.path().join("j"), &paths, &options()).await.unwrap();
    let counts: BTreeMap<Bucket, u64> = summary.buckets.iter().map(|(bucket, count)| (*bucket, count.files)).collect();
    let due = [
        (Bucket::Uploaded, 6),
        (Bucket::Duplicate, 3),
        (Bucket::MotionHalf, 1),
        (Bucket::SidecarUsed, 5),
        (Bucket::SidecarOrphan, 1),
        (Bucket::AlbumJson, 1),
        (Bucket::OtherJson, 1),
        (Bucket::Filtered, 2),
        (Bucket::Unsupported, 1),
    ];
    assert_eq!(counts, due.into_iter().collect(), "{summary:#?}");
    assert!(summary.is_whole());
    {
        let state = server.state();
        assert!(state.paused.is_empty());
        let find = |name: &str| state.assets.iter().find(|(_, kept)| kept.upload.name == name).unwrap();
        let (_, a) = find("a.jpg");
        assert!(a.upload.favourite && a.upload.visibility == Visibility::Timeline);
        let xmp = a.upload.xmp.as_deref().unwrap();
        assert!(xmp.contains("<exif:DateTimeOriginal>2019-05-18T12:00:00+02:00<"), "{xmp}");
        assert!(xmp.contains("Sea") && xmp.contains("People/Ada") && xmp.contains("takeout/20240525T201456Z"));
        assert_eq!(find("b.jpg").1.upload.visibility, Visibility::Archive);
        assert_eq!(find("b-edited.jpg").1.upload.visibility, Visibility::Archive);
        let (video, half) = find("live.MP4");
        assert_eq!(half.upload.visibility, Visibility::Hidden);
        assert_eq!(find("live.jpg").1.upload.live_video.as_ref(), Some(video));
        assert!(find("alone.jpg").1.upload.xmp.as_deref().unwrap().contains("takeout/unmatched"));
        find("clip.mp4");
        let (title, members) = state.albums.values().next().unwrap();
        assert_eq!((title.as_str(), members.len()), ("Trip?", 2));
    }
    let (before, bytes) = (held(&server), server.state().body_bytes);
    let again = import(&server, &dir.path().join("j"), &paths, &options()).await.unwrap();
    assert_eq!((held(&server), server.state().body_bytes), (before, bytes));
    assert_eq!(again.buckets, summary.buckets);
}

#[tokio::test]
async fn an_archive_that_is_streamed_gives_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (zips, tars) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    let paths = made::takeout(dir.path());
    import(&zips, &dir.path().join("j1"), &paths, &options()).await.unwrap();
    let names = ["takeout-20240525T201456Z-001.tgz", "takeout-20240525T201456Z-002.tgz"];
    let paths = names.map(|name| dir.path().join(name));
    for (path, files) in paths.iter().zip(made::files()) {
        made::tgz(path, &files);
    }
    let summary = import(&tars, &dir.path().join("j2"), &paths, &options()).await.unwrap();
    assert!(summary.is_whole(), "{summary:#?}");
    assert_eq!(held(&tars), held(&zips));
}

#[tokio::test]
async fn an_unpacked_takeout_gives_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (zips, folder) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    let options = Options { takeout_tag: false, ..options() };
    import(&zips, &dir.path().join("j1"), &made::takeout(dir.path()), &options).await.unwrap();
    let root = dir.path().join("unpacked");
    for (path, bytes) in made::files().into_iter().flatten() {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    import(&folder, &dir.path().join("j2"), &[root], &options).await.unwrap();
    assert_eq!(held(&folder), held(&zips));
}

#[tokio::test]
async fn lost_answers_and_kills_leave_what_an_undisturbed_run_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let calm = Arc::new(Memory::default());
    import(&calm, &dir.path().join("calm"), &paths, &options()).await.unwrap();
    let due = held(&calm);
    for round in 0..30u64 {
        let server = Arc::new(Memory::default());
        server.state().faults = (0..round % 7).map(|n| if n % 2 == 0 { Fault::After } else { Fault::Before }).collect();
        let state = dir.path().join(format!("j{round}"));
        // Dropped in the middle, as a killed process is.
        for part in 1..4 {
            let limit = Duration::from_micros(400 * part * (round + 1));
            _ = tokio::time::timeout(limit, import(&server, &state, &paths, &options())).await;
        }
        let summary = import(&server, &state, &paths, &options()).await.unwrap();
        assert!(summary.is_whole(), "round {round}: {summary:#?}");
        assert_eq!(held(&server), due, "round {round}");
        assert!(server.state().paused.is_empty());
    }
}

#[tokio::test]
async fn a_damaged_file_fails_alone_and_the_rest_is_brought() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let mut bytes = std::fs::read(&paths[0]).unwrap();
    // The name comes first, the bytes behind it.
    let at = bytes.windows(5).enumerate().filter(|(_, w)| *w == b"alone").map(|(at, _)| at).nth(1).unwrap();
    bytes[at] = b'X';
    std::fs::write(&paths[0], bytes).unwrap();
    let server = Arc::new(Memory::default());
    let summary = import(&server, &dir.path().join("j"), &paths, &options()).await.unwrap();
    assert_eq!((summary.count(Bucket::Failed), summary.count(Bucket::Uploaded)), (1, 5), "{summary:#?}");
    assert!(summary.failed[0].why.contains("CRC-32"), "{:?}", summary.failed);
}

/// Changes a byte in a file in a part: the name comes first, the bytes behind it.
fn damage(part: &Path, text: &str) {
    let mut bytes = std::fs::read(part).unwrap();
    let all = bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text.as_bytes()).map(|(at, _)| at);
    // A picture ends behind its text, and its name goes on.
    let at = all.into_iter().find(|at| bytes[at + text.len()] == 0xff).unwrap();
    bytes[at] = b'X';
    std::fs::write(part, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_still_keeps_its_moving_half_from_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let good = paths.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    // The copy in the album is good.
    damage(&paths[0], "live");
    let server = Arc::new(Memory::default());
    let summary = import(&server, &dir.path().join("j1"), &paths, &options()).await.unwrap();
    assert_eq!((summary.is_whole(), summary.count(Bucket::MotionHalf)), (true, 1), "{summary:#?}");
    damage(&paths[1], "live");
    let (server, state) = (Arc::new(Memory::default()), dir.path().join("j2"));
    let summary = import(&server, &state, &paths, &options()).await.unwrap();
    assert_eq!((summary.count(Bucket::Failed), summary.count(Bucket::MotionHalf)), (1, 0), "{summary:#?}");
    assert!(summary.notes[0].why.contains("its still can't be read"), "{:?}", summary.notes);
    assert_eq!(summary.counted.unwrap().lacking(), 0);
    let film = |server: &Memory| {
        let state = server.state();
        state
            .assets
            .iter()
            .find(|(_, kept)| kept.upload.name == "live.MP4")
            .map(|(id, kept)| (id.clone(), kept.upload.visibility))
    };
    let (id, visibility) = film(&server).unwrap();
    assert_eq!(visibility, Visibility::Timeline);
    let again = import(&server, &state, &paths, &options()).await.unwrap();
    assert_eq!(again.buckets, summary.buckets);
    // Downloaded anew, the still comes, and they are joined.
    paths.iter().zip(good).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    let summary = import(&server, &state, &paths, &options()).await.unwrap();
    assert_eq!(
        (summary.is_whole(), summary.count(Bucket::MotionHalf), summary.notes.len()),
        (true, 1, 0),
        "{summary:#?}"
    );
    let state = server.state();
    let still = state.assets.values().find(|kept| kept.upload.name == "live.jpg").unwrap();
    assert_eq!(still.upload.live_video.as_ref(), Some(&id));
}

#[tokio::test]
async fn a_long_still_that_is_damaged_keeps_its_moving_half_from_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let zip = dir.path().join("a.zip");
    let files = [
        (year("long.jpg"), made::jpeg(&"\0".repeat(33 << 20))),
        (year("long.jpg.json"), made::sidecar("long.jpg", 1_558_173_600, "")),
        (year("long.MP4"), made::mp4("half")),
    ];
    made::zip(&zip, &files);
    // Behind what is read before anything is sent.
    let mut bytes = std::fs::read(&zip).unwrap();
    bytes[20 << 20] = 1;
    std::fs::write(&zip, bytes).unwrap();
    // An empty server is not asked what it has, and a long file not read beforehand.
    for empty in [true, false] {
        let server = Arc::new(Memory::default());
        if !empty {
            import(&server, &dir.path().join("other"), &made::takeout(dir.path()), &options()).await.unwrap();
        }
        let state = dir.path().join(format!("j{empty}"));
        let summary = import(&server, &state, std::slice::from_ref(&zip), &options()).await.unwrap();
        let counts = [Bucket::Failed, Bucket::Uploaded, Bucket::MotionHalf].map(|bucket| summary.count(bucket));
        assert_eq!(counts, [1, 1, 0], "{summary:#?}");
        assert!(summary.notes[0].why.contains("its still can't be read"), "{:?}", summary.notes);
        // What was brought here first has a moving half, which this server counts as an asset that was there.
        assert_eq!(summary.counted.unwrap().lacking(), u64::from(!empty));
        let state = server.state();
        let film = state.assets.values().find(|kept| kept.upload.name == "long.MP4").unwrap();
        assert_eq!(film.upload.visibility, Visibility::Timeline);
    }
}

#[tokio::test]
async fn a_half_that_came_alone_is_told_where_the_answer_was_lost_in_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (paths, state) = (made::takeout(dir.path()), dir.path().join("j"));
    paths.iter().for_each(|path| damage(path, "live"));
    let server = Arc::new(Memory::default());
    server.state().faults = vec![Fault::After; 100];
    let long = Duration::from_secs(3600);
    let (journal, parts) = prepare(&state, &paths, &options());
    let waits = Waits { first: long, longest: long, ..waits() };
    let (options, progress) = (options(), Arc::default());
    let running = run_watched(&server, journal, parts, &options, waits, progress, |_| {});
    let there = async {
        while !server.state().assets.values().any(|kept| kept.upload.name == "live.MP4") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        ended = running => panic!("{ended:?}"),
        () = there => {}
    }
    server.state().faults.clear();
    let summary = import(&server, &state, &paths, &options).await.unwrap();
    assert_eq!((summary.count(Bucket::Failed), summary.count(Bucket::MotionHalf)), (1, 0), "{summary:#?}");
    assert!(summary.notes[0].why.contains("its still can't be read"), "{:?}", summary.notes);
    assert_eq!(summary.counted.unwrap().lacking(), 0);
}

#[tokio::test]
async fn a_truncated_part_is_told_and_the_other_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let bytes = std::fs::read(&paths[1]).unwrap();
    std::fs::write(&paths[1], &bytes[..bytes.len() / 2]).unwrap();
    let inputs = haven_import::takeouts(&paths).unwrap().inputs;
    let journal = Journal::open(&dir.path().join("j")).unwrap();
    let indexed = haven_import::index(&journal, &inputs, &Progress::default()).unwrap();
    assert_eq!((indexed.parts.len(), indexed.trouble.len()), (1, 1));
    assert_eq!(indexed.trouble[0].path, paths[1]);
}

#[tokio::test]
async fn what_the_server_had_is_not_sent_and_still_joins_albums() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let server = Arc::new(Memory::default());
    import(&server, &dir.path().join("j1"), &paths, &options()).await.unwrap();
    server.state().albums.clear();
    let bytes = server.state().body_bytes;
    let summary = import(&server, &dir.path().join("j2"), &paths, &options()).await.unwrap();
    assert_eq!((summary.count(Bucket::AlreadyThere), summary.count(Bucket::Uploaded)), (6, 0));
    assert_eq!(server.state().body_bytes, bytes);
    assert_eq!(server.state().albums.values().next().unwrap().1.len(), 2);
}

#[tokio::test]
async fn a_folder_brings_its_xmp_and_becomes_albums() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Pictures");
    std::fs::create_dir_all(root.join("Sea")).unwrap();
    std::fs::write(root.join("Sea/a.jpg"), made::jpeg("a")).unwrap();
    std::fs::write(root.join("Sea/a.jpg.xmp"), "<x:xmpmeta/>").unwrap();
    std::fs::write(root.join("Sea/copy of a.jpg"), made::jpeg("a")).unwrap();
    std::fs::write(root.join("Sea/notes.txt"), "no photo").unwrap();
    let server = Arc::new(Memory::default());
    let options = Options {
        source: Source::Folder,
        folder_albums: haven_import::FolderAlbums::Folder,
        takeout_tag: false,
        tags: vec!["from/disk".to_owned()],
        ..options()
    };
    let summary = import(&server, &dir.path().join("j"), &[root], &options).await.unwrap();
    assert_eq!((summary.entries, summary.count(Bucket::Uploaded), summary.count(Bucket::Duplicate)), (4, 1, 1));
    let state = server.state();
    let kept = state.assets.values().next().unwrap();
    assert_eq!(kept.upload.xmp.as_deref(), Some("<x:xmpmeta/>"));
    assert!(kept.tags.contains("from/disk"));
    assert_eq!(state.albums.values().next().unwrap().0, "Sea");
}

/// Copies under other names are sent one after the other, and the one with most to say is the first.
#[tokio::test]
async fn of_copies_under_several_names_the_one_with_an_xmp_or_outside_of_the_trash_speaks() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Pictures");
    std::fs::create_dir_all(&root).unwrap();
    for (number, with) in ["0", "7", "9"].into_iter().enumerate() {
        for name in 0..10 {
            std::fs::write(root.join(format!("{name} {number}.jpg")), made::jpeg(&number.to_string())).unwrap();
        }
        std::fs::write(root.join(format!("{with} {number}.jpg.xmp")), format!("<x:xmpmeta n='{number}'/>")).unwrap();
    }
    let server = Arc::new(Memory::default());
    let folder = Options { source: Source::Folder, takeout_tag: false, ..options() };
    let summary = import(&server, &dir.path().join("j"), &[root], &folder).await.unwrap();
    assert_eq!((summary.count(Bucket::Uploaded), summary.count(Bucket::Duplicate)), (3, 27));
    assert!(server.state().assets.values().all(|kept| kept.upload.xmp.is_some()), "{:?}", server.state().assets);

    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let files = vec![
        (year("binned.jpg"), made::jpeg("same")),
        (year("binned.jpg.json"), made::sidecar("binned.jpg", 1_558_173_600, r#", "trashed": true"#)),
        (year("kept.jpg"), made::jpeg("same")),
    ];
    let path = dir.path().join("takeout-20240101T000000Z-001.zip");
    made::zip(&path, &files);
    let server = Arc::new(Memory::default());
    let trashed = Options { trashed: true, ..options() };
    import(&server, &dir.path().join("k"), &[path], &trashed).await.unwrap();
    let state = server.state();
    let kept = state.assets.values().next().unwrap();
    assert!(!kept.trashed && kept.upload.name == "kept.jpg", "{kept:?}");
    assert!(kept.said.iter().any(|said| said.contains("2019-05-18")), "the sidecar of its copy knows when: {kept:?}");
}

#[tokio::test]
async fn what_a_file_is_tells_the_server_where_its_name_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Pictures");
    std::fs::create_dir_all(&root).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(root.join(name), bytes).unwrap();
    write("meme.jfif", &made::jpeg("meme"));
    write("three.mpo", &made::jpeg("two at once"));
    write("phone.3g2", b"\0\0\0\x14ftyp3g2a\0\0\0\x003g2a");
    write("drawing.psd", b"8BPS");
    let server = Arc::new(Memory::default());
    let options = Options { source: Source::Folder, takeout_tag: false, ..options() };
    let state = dir.path().join("j");
    let summary = import(&server, &state, std::slice::from_ref(&root), &options).await.unwrap();
    assert_eq!((summary.count(Bucket::Uploaded), summary.count(Bucket::Unsupported)), (3, 1), "{summary:#?}");
    assert!(summary.is_whole(), "nobody knows what a drawing is");
    let names: BTreeSet<String> = server.state().assets.values().map(|kept| kept.upload.name.clone()).collect();
    assert_eq!(names, ["meme.jpg", "phone.3gp", "three.jpg"].map(str::to_owned).into());
    // A film that it takes under no name is missing there.
    write("old.asf", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11 film");
    let summary = import(&server, &state, &[root], &options).await.unwrap();
    assert_eq!((summary.count(Bucket::Failed), summary.is_whole()), (1, false), "{summary:#?}");
    assert!(summary.failed[0].why.contains("old.asf"), "{:?}", summary.failed);
}

#[test]
fn a_journal_serves_one_import_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("j");
    let _first = Journal::open(&state).unwrap();
    assert!(matches!(Journal::open(&state), Err(haven_import::JournalError::InUse(_))));
}
