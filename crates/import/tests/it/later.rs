//! Parts that come one by one, folders that grow, copies that are none, and what a server had before.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use haven_import::{
    Options, Progress, Source,
    report::{self, Bucket},
};

use crate::{
    imports::{held, import, index, options, prepare, run},
    made,
    memory::{Fault, Memory},
};

#[tokio::test]
async fn photos_wait_for_a_part_that_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let server = Arc::new(Memory::default());
    let state = dir.path().join("j");
    let (journal, parts) = index(&state, &paths[..1], &options());
    haven_import::plan(&journal, &options(), true).unwrap();
    let first = run(&server, journal, parts, &options(), |_| {}).await.unwrap();
    assert_eq!((first.count(Bucket::Uploaded), first.count(Bucket::Waiting)), (1, 6), "{first:#?}");
    assert!(!first.is_whole());
    let whole = import(&server, &state, &paths, &options()).await.unwrap();
    assert!(whole.is_whole());
    let calm = Arc::new(Memory::default());
    import(&calm, &dir.path().join("calm"), &paths, &options()).await.unwrap();
    assert_eq!(held(&server), held(&calm));
}

#[tokio::test]
async fn a_sidecar_that_comes_later_is_told_to_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let server = Arc::new(Memory::default());
    let state = dir.path().join("j");
    let first = import(&server, &state, &paths[..1], &options()).await.unwrap();
    assert!(first.is_whole() && first.unmatched > 0);
    let bytes = server.state().body_bytes;
    // The first part is away when the second one is there.
    import(&server, &state, &paths[1..], &options()).await.unwrap();
    {
        let state = server.state();
        assert_eq!(state.body_bytes, bytes, "what the second part has was there");
        let find = |name: &str| state.assets.values().find(|kept| kept.upload.name == name).unwrap();
        let a = find("a.jpg");
        assert!(a.said.iter().any(|said| said.contains("2019-05-18T12:00:00+02:00")), "{a:?}");
        assert!(a.said.contains(&"text Sea".to_owned()) && a.tags.contains("People/Ada") && a.upload.favourite);
        assert!(a.untagged.contains("takeout/unmatched"));
        assert_eq!(find("b.jpg").upload.visibility, haven_import::server::Visibility::Archive);
        assert!(find("alone.jpg").said.is_empty());
    }
    let before = held(&server);
    import(&server, &state, &paths, &options()).await.unwrap();
    assert_eq!(held(&server), before, "what was told is not told again");
}

#[tokio::test]
async fn two_photos_of_one_length_and_crc_are_two() {
    let dir = tempfile::tempdir().unwrap();
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let (one, base) = (made::jpeg("one 1234"), made::jpeg("two "));
    let other = made::with_crc_of(&base, &one);
    assert_eq!(one.len(), other.len());
    let files = |second: &'static str| {
        vec![
            (year("one.jpg"), one.clone()),
            (year("one.jpg.json"), made::sidecar("one.jpg", 1_558_173_600, "")),
            (second, other.clone()),
        ]
    };
    let part = |name: &str| dir.path().join(name);
    made::zip(&part("a.zip"), &files(year("two.jpg")));
    let server = Arc::new(Memory::default());
    let summary = import(&server, &part("j1"), &[part("a.zip")], &options()).await.unwrap();
    assert_eq!((summary.count(Bucket::Uploaded), server.state().assets.len()), (2, 2), "the name tells them apart");

    // In another folder it may have the same name: then only reading tells.
    made::zip(&part("b.zip"), &files("Takeout/Google Photos/Trip/one.jpg"));
    let server = Arc::new(Memory::default());
    let (journal, parts) = index(&part("j2"), &[part("b.zip")], &options());
    let read = haven_import::read_copies(&journal, &parts, &Progress::default()).await.unwrap();
    assert_eq!((read.read, read.different.len(), read.unread.len()), (2, 1, 0));
    haven_import::plan(&journal, &options(), false).unwrap();
    run(&server, journal, parts, &options(), |_| {}).await.unwrap();
    assert_eq!(server.state().assets.len(), 2);
}

#[tokio::test]
async fn the_same_bytes_under_two_names_are_one_photo() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Pictures");
    for (folder, name) in [("A", "a.jpg"), ("B", "b.jpg")] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
        std::fs::write(root.join(folder).join(name), made::jpeg("same")).unwrap();
    }
    let server = Arc::new(Memory::default());
    let folders = haven_import::FolderAlbums::Folder;
    let options = Options { source: Source::Folder, folder_albums: folders, takeout_tag: false, ..options() };
    let summary = import(&server, &dir.path().join("j"), &[root], &options).await.unwrap();
    assert_eq!((summary.count(Bucket::Uploaded), summary.count(Bucket::Duplicate)), (1, 1), "{summary:#?}");
    assert_eq!((summary.photos, server.state().assets.len()), (1, 1));
    assert!(server.state().albums.values().all(|(_, members)| members.len() == 1));
}

#[tokio::test]
async fn a_folder_that_grew_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Pictures");
    std::fs::create_dir_all(&root).unwrap();
    for n in 0..5 {
        std::fs::write(root.join(format!("{n}.jpg")), made::jpeg(&format!("photo {n}"))).unwrap();
    }
    let server = Arc::new(Memory::default());
    let options = Options { source: Source::Folder, takeout_tag: false, ..options() };
    let state = dir.path().join("j");
    import(&server, &state, std::slice::from_ref(&root), &options).await.unwrap();
    std::fs::write(root.join("new.jpg"), made::jpeg("photo 9")).unwrap();
    // What is not opened may even be unreadable; root may read everything, so its bytes are changed behind its back.
    let before = std::fs::metadata(root.join("0.jpg")).unwrap().modified().unwrap();
    std::fs::write(root.join("0.jpg"), made::jpeg("photo X")).unwrap();
    std::fs::File::options().write(true).open(root.join("0.jpg")).unwrap().set_modified(before).unwrap();
    let summary = import(&server, &state, std::slice::from_ref(&root), &options).await.unwrap();
    assert_eq!((summary.entries, summary.count(Bucket::Uploaded), server.state().assets.len()), (6, 6, 6));
}

#[tokio::test]
async fn what_was_there_before_a_kill_is_never_called_ours() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    // A phone brought two of the photos before.
    let begun = || {
        let root = dir.path().join("phone");
        // Written once: their time stamps are what dates them.
        if !root.exists() {
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join("a.jpg"), made::jpeg("a")).unwrap();
            std::fs::write(root.join("live.jpg"), made::jpeg("live")).unwrap();
        }
        root
    };
    let phone = Options { source: Source::Folder, takeout_tag: false, ..options() };
    let with_phone = async |state: PathBuf| {
        let server = Arc::new(Memory::default());
        import(&server, &state, &[begun()], &phone).await.unwrap();
        server
    };
    let calm = with_phone(dir.path().join("p")).await;
    let due = import(&calm, &dir.path().join("calm"), &paths, &options()).await.unwrap();
    assert_eq!(due.count(Bucket::AlreadyThere), 2);
    for round in 0..20u64 {
        let server = with_phone(dir.path().join(format!("p{round}"))).await;
        server.state().faults = (0..round % 5).map(|n| if n % 2 == 0 { Fault::After } else { Fault::Before }).collect();
        let state = dir.path().join(format!("j{round}"));
        for part in 1..4 {
            let limit = Duration::from_micros(500 * part * (round + 1));
            _ = tokio::time::timeout(limit, import(&server, &state, &paths, &options())).await;
        }
        let summary = import(&server, &state, &paths, &options()).await.unwrap();
        assert_eq!(summary.buckets, due.buckets, "round {round}");
        assert_eq!(held(&server), held(&calm), "round {round}");
    }
}

#[tokio::test]
async fn a_proxys_limit_is_told_before_the_first_file() {
    let dir = tempfile::tempdir().unwrap();
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let long = |salt: &str, bytes: usize| [made::mp4(salt), vec![0; bytes]].concat();
    let files: Vec<(&str, Vec<u8>)> = vec![
        (year("a.mp4"), long("a", 9 << 20)),
        (year("b.mp4"), long("b", 10 << 20)),
        (year("c.mp4"), long("c", 11 << 20)),
        (year("c.mp4.json"), made::sidecar("c.mp4", 1_558_173_600, "")),
    ];
    made::zip(&dir.path().join("a.zip"), &files);
    let server = Arc::new(Memory::default());
    server.state().body_max = Some((10 << 20) + 500);
    let (journal, parts) = prepare(&dir.path().join("j"), &[dir.path().join("a.zip")], &options());
    let cap = haven_import::cap(&journal, &*server).await.unwrap().unwrap();
    assert_eq!((cap.refused_files, cap.passes_bytes >> 20, cap.refused_bytes >> 20), (2, 9, 10));
    let heard = Arc::new(Mutex::new(String::new()));
    let ear = heard.clone();
    run(&server, journal, parts, &options(), move |text| ear.lock().unwrap().push_str(text)).await.unwrap();
    assert!(heard.lock().unwrap().contains("2 files (0.0 GB) will not get there"), "{heard:?}");
}

#[tokio::test]
async fn a_plan_can_tell_what_the_server_has() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let server = Arc::new(Memory::default());
    import(&server, &dir.path().join("j1"), &paths, &options()).await.unwrap();
    let id = server.state().assets.keys().next().unwrap().clone();
    server.state().assets.get_mut(&id).unwrap().trashed = true;
    let (journal, parts) = prepare(&dir.path().join("j2"), &paths, &options());
    let progress = Progress::default();
    let unread = haven_import::compare(&journal, &*server, &parts, false, &progress).await.unwrap();
    assert_eq!((unread.known, unread.unread), (0, 7));
    let read = haven_import::compare(&journal, &*server, &parts, true, &progress).await.unwrap();
    assert_eq!((read.known, read.there, read.trashed, read.unread), (7, 7, 1, 0));
    let bytes = server.state().body_bytes;
    let summary = run(&server, journal, parts, &options(), |_| {}).await.unwrap();
    assert_eq!((summary.count(Bucket::AlreadyThere), server.state().body_bytes), (6, bytes));
}

#[tokio::test]
async fn the_json_is_kept_as_google_wrote_it() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let (journal, _) = prepare(&dir.path().join("j"), &paths, &options());
    for (path, bytes) in made::files().into_iter().flatten().filter(|(path, _)| path.ends_with(".json")) {
        let kept = haven_import::raw::of(&journal, path).unwrap();
        assert_eq!(kept.as_deref(), std::str::from_utf8(&bytes).ok(), "{path}");
    }
    report::summary(&journal).unwrap();
}

#[tokio::test]
async fn apples_export_brings_dates_favourites_and_albums() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("iCloud Photos Part 1 of 1");
    let write = |path: &str, bytes: &[u8]| {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), bytes).unwrap();
    };
    write("Photos/IMG_1.jpg", &made::jpeg("one"));
    write("Photos/IMG_1.MOV", &made::mp4("one"));
    write("Photos/IMG_2.jpg", &made::jpeg("two"));
    write("Photos/IMG_3.jpg", &made::jpeg("three"));
    write(
        "Photos/Photo Details.csv",
        b"imgName,fileChecksum,favorite,hidden,deleted,originalCreationDate,viewCount,importDate\n\
          IMG_1.jpg,x,yes,no,no,\"Saturday June 4,2022 12:11 PM GMT\",10,\n\
          IMG_2.jpg,x,no,yes,no,\"Saturday June 4,2022 12:11 PM GMT\",10,\n\
          IMG_3.jpg,x,no,no,yes,\"Saturday June 4,2022 12:11 PM GMT\",10,\n",
    );
    write("Albums/Sea.csv", b"Images\nIMG_1.jpg\nIMG_9.jpg\n");
    write("Memories/On This Day.csv", b"imageName\nIMG_2.jpg\n");
    let server = Arc::new(Memory::default());
    let options = Options { source: Source::Folder, takeout_tag: false, ..options() };
    let summary = import(&server, &dir.path().join("j"), &[root], &options).await.unwrap();
    assert_eq!((summary.entries, summary.count(Bucket::Uploaded), summary.count(Bucket::Filtered)), (7, 2, 1));
    let state = server.state();
    let find = |name: &str| state.assets.values().find(|kept| kept.upload.name == name).unwrap();
    assert!(find("IMG_1.jpg").upload.favourite && find("IMG_1.jpg").upload.live_video.is_some());
    assert!(find("IMG_1.jpg").upload.xmp.as_deref().unwrap().contains("2022-06-04T14:11:00+02:00"));
    assert_eq!(find("IMG_2.jpg").upload.visibility, haven_import::server::Visibility::Archive);
    let albums: Vec<_> = state.albums.values().map(|(title, members)| (title.as_str(), members.len())).collect();
    assert_eq!(albums, [("Sea", 1)]);
}
