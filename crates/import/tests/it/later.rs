//! Parts that come one by one, folders that grow, copies that are none, and what a server had before.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use haven_import::{
    Options, Progress, Setup, Source, Stop, jobs,
    report::{self, Bucket},
};
use tokio::sync::watch;

use crate::{
    imports::{held, import, index, options, prepare, run, setup},
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

/// In a tar they come in the order of the archive, and in parts in the order of the parts.
#[tokio::test]
async fn a_sidecar_of_a_copy_under_another_name_is_told_though_the_copy_came_first() {
    let dir = tempfile::tempdir().unwrap();
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let without = (year("copy.jpg"), made::jpeg("same"));
    let with = vec![
        (year("one.jpg"), made::jpeg("same")),
        (year("one.jpg.json"), made::sidecar("one.jpg", 1_558_173_600, r#", "favorited": true"#)),
    ];
    let knows = |server: &Memory| {
        let state = server.state();
        assert_eq!(state.assets.len(), 1);
        let kept = state.assets.values().next().unwrap();
        assert_eq!(kept.upload.name, "copy.jpg");
        assert!(kept.said.iter().any(|said| said.contains("2019-05-18")) && kept.upload.favourite, "{kept:?}");
        assert!(!kept.tags.contains("takeout/unmatched") || kept.untagged.contains("takeout/unmatched"), "{kept:?}");
    };
    let tgz = dir.path().join("takeout-20240101T000000Z-001.tgz");
    made::tgz(&tgz, &[vec![without.clone()], with.clone()].concat());
    let server = Arc::new(Memory::default());
    import(&server, &dir.path().join("tar"), std::slice::from_ref(&tgz), &options()).await.unwrap();
    knows(&server);
    let before = held(&server);
    import(&server, &dir.path().join("tar"), std::slice::from_ref(&tgz), &options()).await.unwrap();
    assert_eq!(held(&server), before, "what was told is not told again");

    let parts = [1, 2].map(|number| dir.path().join(format!("takeout-20240101T000000Z-00{number}.zip")));
    made::zip(&parts[0], &[without]);
    made::zip(&parts[1], &with);
    let (server, state) = (Arc::new(Memory::default()), dir.path().join("parts"));
    let alone = Options { no_wait: true, ..options() };
    import(&server, &state, &parts[..1], &alone).await.unwrap();
    assert!(server.state().assets.values().all(|kept| kept.said.is_empty()));
    import(&server, &state, &parts[1..], &alone).await.unwrap();
    knows(&server);
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

#[tokio::test]
async fn a_later_export_puts_nothing_into_the_trash_that_an_earlier_one_gave() {
    let dir = tempfile::tempdir().unwrap();
    let path = |folder: &str, name: &str| -> &'static str { format!("Takeout/Google Photos/{folder}/{name}").leak() };
    let photo = |folder: &str, name: &str, more: &str| {
        let json = format!("{name}.json");
        [(path(folder, name), made::jpeg(name)), (path(folder, &json), made::sidecar(name, 1_558_173_600, more))]
    };
    let (year, trash) = ("Photos from 2019", r#","trashed":true"#);
    let a = dir.path().join("takeout-20240525T201456Z-001.zip");
    made::zip(&a, &[photo(year, "a.jpg", ""), photo(year, "b.jpg", "")].concat());
    let b = dir.path().join("takeout-20250525T201456Z-001.zip");
    made::zip(&b, &[photo("Trash", "a.jpg", trash), photo(year, "b.jpg", ""), photo("Trash", "c.jpg", trash)].concat());
    let server = Arc::new(Memory::default());
    let state = dir.path().join("j");
    let trashed = || {
        let state = server.state();
        let all = state.assets.values().map(|kept| (kept.upload.name.clone(), kept.trashed));
        all.collect::<std::collections::BTreeMap<_, _>>()
    };
    import(&server, &state, &[a], &options()).await.unwrap();
    let summary = import(&server, &state, std::slice::from_ref(&b), &options()).await.unwrap();
    assert!(trashed().values().all(|trashed| !trashed), "{:?}", trashed());
    assert_eq!((trashed().len(), summary.notes.len()), (2, 1), "{summary:#?}");
    assert!(summary.notes[0].why.contains("in its trash") && summary.notes[0].example.ends_with("Trash/a.jpg"));
    // What comes as one of the trash goes there, and nothing else.
    let with = Options { trashed: true, ..options() };
    import(&server, &state, &[b], &with).await.unwrap();
    let due = [("a.jpg", false), ("b.jpg", false), ("c.jpg", true)].map(|(name, trashed)| (name.to_owned(), trashed));
    assert_eq!(trashed(), due.into());
}

#[tokio::test]
async fn a_part_without_any_sidecar_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let paths = [1, 2].map(|n| dir.path().join(format!("takeout-20240525T201456Z-00{n}.zip")));
    let face = ("Takeout/Contacts/All/face.jpg", made::jpeg("face"));
    made::zip(&paths[0], &[(year("a.mp4.json"), made::sidecar("a.mp4", 1_558_173_600, "")), face.clone()]);
    made::zip(&paths[1], &[(year("a.mp4"), made::mp4("a"))]);
    let (server, state) = (Arc::new(Memory::default()), dir.path().join("j"));
    let (journal, parts) = index(&state, &paths[1..], &options());
    haven_import::plan(&journal, &options(), true).unwrap();
    let first = run(&server, journal, parts, &options(), |_| {}).await.unwrap();
    assert_eq!((first.count(Bucket::Waiting), first.unmatched, first.is_whole()), (1, 1, false), "{first:#?}");
    // Where the sidecars are, other products are told apart again.
    let whole = import(&server, &state, &paths, &options()).await.unwrap();
    assert_eq!((whole.count(Bucket::Uploaded), whole.count(Bucket::Filtered), whole.unmatched), (1, 1, 0));
}

#[tokio::test]
async fn an_export_without_any_sidecar_waits_whatever_its_numbers_say() {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = made::takeout(dir.path());
    // Of another day, whole, and of another product.
    paths.push(dir.path().join("takeout-20250525T201456Z-001.zip"));
    made::zip(&paths[2], &[("Takeout/Drive/scan.jpg", made::jpeg("scan")), ("Takeout/Drive/b.txt", b"text".to_vec())]);
    let (server, state) = (Arc::new(Memory::default()), dir.path().join("j"));
    let first = import(&server, &state, &paths, &options()).await.unwrap();
    assert_eq!((first.count(Bucket::Uploaded), first.count(Bucket::Waiting)), (6, 1), "{first:#?}");
    let has = |server: &Memory| server.state().assets.values().any(|kept| kept.upload.name == "scan.jpg");
    assert!(!has(&server) && !first.is_whole());
    assert!(first.waiting[0].why.contains("--no-wait") && first.waiting[0].example.ends_with("Drive/scan.jpg"));
    let whole = import(&server, &state, &paths, &Options { no_wait: true, ..options() }).await.unwrap();
    assert!(has(&server) && whole.is_whole() && whole.waiting.is_empty(), "{whole:#?}");
}

#[tokio::test]
async fn what_an_earlier_run_saw_in_the_trash_is_taken_out_later() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let server = Arc::new(Memory::default());
    import(&server, &dir.path().join("j1"), &paths, &options()).await.unwrap();
    server.state().assets.values_mut().filter(|kept| kept.upload.name == "a.jpg").for_each(|kept| kept.trashed = true);
    let trashed = || server.state().assets.values().filter(|kept| kept.trashed).count();
    let state = dir.path().join("j2");
    let told = import(&server, &state, &paths, &options()).await.unwrap();
    assert_eq!((trashed(), told.notes.len()), (1, 1), "{told:#?}");
    let restore = Options { restore: true, ..options() };
    // One that ends before the server did it has not done it.
    server.state().keeps_trash = true;
    assert!(import(&server, &state, &paths, &restore).await.is_err());
    server.state().keeps_trash = false;
    let restored = import(&server, &state, &paths, &restore).await.unwrap();
    assert_eq!((trashed(), restored.notes.len()), (0, 0), "{restored:#?}");
    // What the owner throws away afterwards is the owner's.
    server.state().assets.values_mut().for_each(|kept| kept.trashed = true);
    import(&server, &state, &paths, &restore).await.unwrap();
    assert_ne!(trashed(), 0);
}

#[tokio::test]
async fn two_unpacked_exports_in_one_call_keep_their_sidecars_apart() {
    let dir = tempfile::tempdir().unwrap();
    let trip = "Takeout/Google Photos/Trip";
    let write = |export: &str, name: &str, bytes: Vec<u8>| {
        let folder = dir.path().join(export).join(trip);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    };
    for (export, taken) in [("A", 1_300_000_000), ("B", 1_500_000_000)] {
        write(export, "IMG_1.jpg", made::jpeg(&format!("one of {export}")));
        write(export, "IMG_1.jpg.json", made::sidecar("IMG_1.jpg", taken, ""));
        write(export, "IMG_2.jpg", made::jpeg(&format!("two of {export}")));
    }
    // Of the second photos one has its sidecar in another part, and nothing tells of which export.
    write("C", "IMG_2.jpg.json", made::sidecar("IMG_2.jpg", 1_300_000_000, ""));
    let server = Arc::new(Memory::default());
    let paths = ["A", "B", "C"].map(|export| dir.path().join(export));
    let (journal, parts) = prepare(&dir.path().join("j"), &paths, &options());
    let mut sure = vec![];
    report::rows(&journal, None, |row| {
        if row.path.ends_with(".jpg") {
            let part = row.part.rsplit('/').next().unwrap_or_default().to_owned();
            sure.push((part, row.path.rsplit('/').next().unwrap_or_default().to_owned(), row.sure));
        }
    })
    .unwrap();
    let is_sure = |part: &str, name: &str| sure.iter().find(|(p, n, _)| p == part && n == name).unwrap().2;
    assert_eq!([is_sure("A", "IMG_1.jpg"), is_sure("B", "IMG_1.jpg")], [Some(true); 2], "{sure:?}");
    assert!(is_sure("A", "IMG_2.jpg") != Some(true) && is_sure("B", "IMG_2.jpg") != Some(true), "{sure:?}");
    run(&server, journal, parts, &options(), |_| {}).await.unwrap();
    let state = server.state();
    let made = |salt: &str| {
        let kept = state.assets.values().find(|kept| {
            kept.upload.bytes == made::jpeg(salt).len() as u64 && kept.sha1 == crate::memory::sha1(&made::jpeg(salt))
        });
        kept.unwrap().upload.created.as_second()
    };
    assert_eq!((made("one of A"), made("one of B")), (1_300_000_000, 1_500_000_000));
}

#[tokio::test]
async fn a_name_that_two_exports_have_parts_no_other_half_from_its_still() {
    let dir = tempfile::tempdir().unwrap();
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let json = |name: &str, taken| (year(&format!("{name}.json")), made::sidecar(name, taken, ""));
    let photo = |name: &str, salt: &str| (year(name), made::jpeg(salt));
    let parts = [
        // Their names tell of no export.
        (
            "a1",
            vec![
                photo("IMG_1.jpg", "one of A"),
                json("IMG_1.jpg", 1_558_173_600),
                photo("IMG_7.jpg", "seven"),
                json("IMG_7.jpg", 1_558_173_600),
                photo("IMG_8.jpg", "eight"),
                photo("IMG_9.jpg", "nine"),
                json("IMG_9.jpg", 1_558_173_600),
                photo("IMG_5.jpg", "five of A"),
                json("IMG_5.jpg", 1_558_173_600),
            ],
        ),
        (
            "a2",
            vec![
                photo("IMG_7-edited.jpg", "seven edited"),
                (year("IMG_8.MP4"), made::live_mov("eight", "", 2900)),
                json("IMG_8.jpg", 1_558_173_600),
                (year("IMG_9.MP4"), made::live_mov("nine", "", 2900)),
                // A film of minutes only has a photo's name.
                (year("IMG_7.MP4"), made::live_mov("minutes", "", 600_000)),
            ],
        ),
        ("b1", vec![photo("IMG_1.jpg", "one of B"), json("IMG_1.jpg", 1_300_000_000)]),
        (
            "b2",
            vec![
                photo("IMG_2.jpg", "two of B"),
                json("IMG_2.jpg", 1_300_000_000),
                // Its still is in a part that is not here; A has another photo of the name.
                (year("IMG_5.MP4"), made::live_mov("five of B", "", 2900)),
                json("IMG_5.jpg", 1_300_000_000),
            ],
        ),
    ];
    let mut paths = vec![];
    for (name, files) in parts {
        paths.push(dir.path().join(format!("{name}.zip")));
        made::zip(paths.last().unwrap(), &files);
    }
    let server = Arc::new(Memory::default());
    let summary = import(&server, &dir.path().join("j"), &paths, &options()).await.unwrap();
    assert_eq!(
        (summary.count(Bucket::MotionHalf), summary.unmatched, summary.is_whole()),
        (2, 1, true),
        "{summary:#?}"
    );
    let state = server.state();
    let find = |name: &str| state.assets.iter().find(|(_, kept)| kept.upload.name == name).unwrap();
    for n in [8, 9] {
        let (half, still) = (find(&format!("IMG_{n}.MP4")), find(&format!("IMG_{n}.jpg")));
        assert_eq!(half.1.upload.visibility, haven_import::server::Visibility::Hidden);
        assert_eq!(
            (still.1.upload.live_video.as_ref(), still.1.upload.created.as_second()),
            (Some(half.0), 1_558_173_600)
        );
    }
    assert_eq!(find("IMG_7-edited.jpg").1.upload.created.as_second(), 1_558_173_600);
    let (half, other) = (find("IMG_5.MP4"), find("IMG_5.jpg"));
    assert_eq!(half.1.upload.created.as_second(), 1_300_000_000);
    assert_eq!(half.1.upload.visibility, haven_import::server::Visibility::Timeline);
    assert_eq!((other.1.upload.created.as_second(), &other.1.upload.live_video), (1_558_173_600, &None));
    assert_eq!(find("IMG_7.MP4").1.upload.visibility, haven_import::server::Visibility::Timeline);
}

#[tokio::test]
async fn an_export_in_mixed_forms_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = made::files();
    // The photos as they were downloaded, twice and by a browser that leaves no blank; their sidecars unpacked.
    let zip = dir.path().join("takeout-20240525T201456Z-001(1).zip");
    made::zip(&zip, &first);
    let unpacked = dir.path().join("unpacked");
    for (path, bytes) in second {
        let path = unpacked.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let (mixed, zips) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    import(&mixed, &dir.path().join("j1"), &[unpacked.clone(), zip.clone()], &options()).await.unwrap();
    import(&zips, &dir.path().join("j2"), &made::takeout(dir.path()), &options()).await.unwrap();
    assert_eq!(held(&mixed), held(&zips));
    // Of two exports nobody knows whose it is.
    let other = dir.path().join("takeout-20250525T201456Z-001.zip");
    made::zip(&other, &first[..2]);
    let (journal, _) = prepare(&dir.path().join("j3"), &[unpacked.clone(), zip, other], &options());
    let homeless = haven_import::homeless(&journal).unwrap();
    assert!(homeless.len() == 1 && homeless[0].ends_with("unpacked"), "{homeless:?}");
}

#[tokio::test]
async fn what_is_unpacked_beside_archives_is_read_with_them_and_the_rest_is_told() {
    let [first, second] = made::files();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    // By hand, and by a program that makes a folder for each archive.
    for folder in ["", "takeout-20240525T201456Z-002"] {
        let dir = tempfile::tempdir().unwrap();
        let downloads = dir.path().join("Downloads");
        let write = |path: &str, bytes: &[u8]| {
            let path = downloads.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        for (path, bytes) in &second {
            write(format!("{folder}/{path}").trim_start_matches('/'), bytes);
        }
        made::zip(&downloads.join("takeout-20240525T201456Z-001.zip"), &first);
        write("Work/site/package.json", br#"{"title":"it tells of no photo"}"#);
        write("ticket.pdf", b"%PDF");
        let found = haven_import::takeouts(std::slice::from_ref(&downloads)).unwrap();
        let passed_over: Vec<String> = found.passed_over.iter().map(name).collect();
        assert_eq!((found.inputs.len(), passed_over.join(", ").as_str()), (2, "Work, ticket.pdf"));
        let (mixed, zips) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
        import(&mixed, &dir.path().join("j1"), std::slice::from_ref(&downloads), &options()).await.unwrap();
        import(&zips, &dir.path().join("j2"), &made::takeout(dir.path()), &options()).await.unwrap();
        assert_eq!(held(&mixed), held(&zips), "{folder}");
        // What is named itself is read once, and as it was before.
        let unpacked = downloads.join(if folder.is_empty() { "Takeout" } else { folder });
        let found = haven_import::takeouts(&[downloads, unpacked.clone()]).unwrap();
        assert_eq!((found.inputs.len(), &found.inputs[1].path, found.inputs[1].below.as_str()), (2, &unpacked, ""));
    }
    // Whatever its name is, a sidecar tells what it is.
    let dir = tempfile::tempdir().unwrap();
    made::zip(&dir.path().join("takeout-20240525T201456Z-001.zip"), &first);
    std::fs::create_dir_all(dir.path().join("Moved/Photos from 2019")).unwrap();
    let json = dir.path().join("Moved/Photos from 2019/a.jpg.json");
    std::fs::write(json, made::sidecar("a.jpg", 1_558_173_600, "")).unwrap();
    let found = haven_import::takeouts(&[dir.path().to_owned()]).unwrap();
    assert_eq!((found.inputs.len(), found.passed_over.len()), (2, 0), "{found:?}");
}

#[tokio::test]
async fn what_was_paused_on_one_server_is_given_back_on_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (paths, state) = (made::takeout(dir.path()), dir.path().join("j"));
    let (server, other) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    other.state().user = " of another one";
    import(&server, &state, &paths, &options()).await.unwrap();
    let (journal, parts) = prepare(&state, &paths, &options());
    // A run that was killed leaves this; on the other server it is the owner's own doing.
    jobs::pause(&journal, &*server, "memory").await.unwrap();
    let paused = BTreeSet::from(["smartSearch", "thumbnailGeneration"].map(str::to_owned));
    assert_eq!(server.state().paused, paused);
    other.state().paused = paused.clone();
    let heard = Arc::new(Mutex::new(String::new()));
    let ear = heard.clone();
    let (_cancel, cancelled) = watch::channel(false);
    let into = setup(&other, journal.clone(), parts.clone(), &options(), cancelled.clone());
    let warn = Box::new(move |text: &str| ear.lock().unwrap().push_str(text));
    let ended = haven_import::run(Setup { address: "elsewhere".to_owned(), warn, ..into }).await;
    assert!(matches!(ended, Err(Stop::OtherServer(_))), "{ended:?}");
    assert!(jobs::resume(&journal, &*other, &*other, "elsewhere").await.is_err());
    assert_eq!((other.state().paused.len(), jobs::leased(&journal).unwrap().len()), (2, 2));
    assert!(heard.lock().unwrap().contains("it was paused on memory"), "{heard:?}");
    // The same server by another address.
    let into = setup(&server, journal.clone(), parts, &options(), cancelled);
    haven_import::run(Setup { address: "by another way".to_owned(), ..into }).await.unwrap();
    assert!(server.state().paused.is_empty() && jobs::leased(&journal).unwrap().is_empty());
}
