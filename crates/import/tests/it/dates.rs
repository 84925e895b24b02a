//! Where only some dates are asked for: what no sidecar dates is judged by what it says itself.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use haven_import::{
    Options, Progress, Source,
    report::{Bucket, Summary},
};

use crate::{
    imports::{held, import, options, prepare, run, run_watched, waits},
    made,
    memory::Memory,
};

/// Only what was taken in the year that begins then, in seconds since 1970.
fn year(begins: i64, base: Options) -> Options {
    Options { from: Some(begins), until: Some(begins + 365 * 86_400), ..base }
}

const Y2019: i64 = 1_546_300_800;
const Y2001: i64 = 978_307_200;

/// What was brought, by name.
fn names(server: &Memory) -> Vec<String> {
    let mut names: Vec<String> = server.state().assets.values().map(|kept| kept.upload.name.clone()).collect();
    names.sort();
    names
}

fn why(summary: &Summary, words: &str) -> u64 {
    summary.filtered.iter().filter(|why| why.why.contains(words)).map(|why| why.files).sum()
}

/// Photos and films that date themselves, two live pairs among them, and one that nobody dates.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("camera.jpg", made::dated_jpeg("camera", "2019:05:18 12:00:00")),
        ("old.jpg", made::dated_jpeg("old", "2001:05:18 12:00:00")),
        ("IMG_20190601_120000.jpg", made::jpeg("its name tells")),
        ("film.mp4", made::dated_mp4("film", 1_558_173_600)),
        // Halves come before their stills in an archive.
        ("half.MP4", made::mp4("half")),
        ("half.jpg", made::dated_jpeg("half", "2019:05:18 12:00:00")),
        ("past.MP4", made::mp4("past")),
        ("past.jpg", made::dated_jpeg("past", "2001:05:18 12:00:00")),
        ("nobody.jpg", made::jpeg("nobody tells")),
    ]
}

const OF_2019: [&str; 5] = ["IMG_20190601_120000.jpg", "camera.jpg", "film.mp4", "half.MP4", "half.jpg"];

#[tokio::test]
async fn a_folder_is_judged_by_what_its_files_say() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Pictures");
    std::fs::create_dir_all(&root).unwrap();
    for (name, bytes) in files() {
        std::fs::write(root.join(name), bytes).unwrap();
    }
    let folder = Options { source: Source::Folder, takeout_tag: false, ..options() };
    let (server, state) = (Arc::new(Memory::default()), dir.path().join("j"));
    let roots = [root];
    let (journal, parts) = prepare(&state, &roots, &year(Y2019, folder.clone()));
    assert_eq!(haven_import::outlook(&journal, None).unwrap().judged_when_read, 7, "halves go with their stills");
    let of_2019 = year(Y2019, folder.clone());
    let summary = run(&server, journal, parts, &of_2019, |_| {}).await.unwrap();
    assert_eq!(names(&server), OF_2019, "{summary:#?}");
    assert_eq!((summary.count(Bucket::Filtered), summary.is_whole(), summary.due_bytes), (4, true, 0), "{summary:#?}");
    // The one that nobody dates is of today, as its time stamp says.
    assert_eq!((why(&summary, "not of the dates"), why(&summary, "its still is not wanted")), (3, 1));
    // What was read of them is kept.
    let (journal, parts) = prepare(&state, &roots, &of_2019);
    assert_eq!(haven_import::outlook(&journal, None).unwrap().judged_when_read, 0);
    let progress = Arc::new(Progress::default());
    let again = run_watched(&server, journal, parts, &of_2019, waits(), progress.clone(), |_| {}).await.unwrap();
    assert_eq!((again.buckets, progress.source_bytes.load(Relaxed)), (summary.buckets, 0));
    let summary = import(&server, &state, &roots, &year(Y2001, folder)).await.unwrap();
    assert!(summary.is_whole() && names(&server).contains(&"old.jpg".to_owned()), "{summary:#?}");
    assert!(names(&server).contains(&"past.MP4".to_owned()) && !names(&server).contains(&"nobody.jpg".to_owned()));
}

#[tokio::test]
async fn a_takeouts_photos_without_a_date_are_judged_wherever_they_lie() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> &'static str { format!("Takeout/Google Photos/Camera/{name}").leak() };
    let mut all: Vec<(&str, Vec<u8>)> = files().into_iter().map(|(name, bytes)| (path(name), bytes)).collect();
    let dated = |name: &str, taken| {
        [(path(name), made::jpeg(name)), (path(&format!("{name}.json")), made::sidecar(name, taken, ""))]
    };
    all.extend(dated("google.jpg", Y2019 + 86_400));
    all.extend(dated("google-old.jpg", Y2001 + 86_400));
    // Google knows no date of it.
    all.push((path("zero.jpg"), made::dated_jpeg("zero", "2019:05:18 12:00:00")));
    all.push((path("zero.jpg.json"), made::sidecar("zero.jpg", 0, "")));
    let zip = dir.path().join("takeout-20240525T201456Z-001.zip");
    let tgz = dir.path().join("takeout-20240525T201456Z-001.tgz");
    made::zip(&zip, &all);
    made::tgz(&tgz, &all);
    let wanted = year(Y2019, options());
    let brought = async |paths: &[PathBuf], state: &str| {
        let server = Arc::new(Memory::default());
        let summary = import(&server, &dir.path().join(state), paths, &wanted).await.unwrap();
        assert!(summary.is_whole(), "{summary:#?}");
        assert_eq!((summary.count(Bucket::MotionHalf), summary.count(Bucket::Filtered)), (1, 5), "{summary:#?}");
        server
    };
    let (zips, tars) = (brought(&[zip], "z").await, brought(std::slice::from_ref(&tgz), "t").await);
    let mut due: Vec<&str> = OF_2019.into_iter().chain(["google.jpg", "zero.jpg"]).collect();
    due.sort_unstable();
    assert_eq!(names(&zips), due);
    assert_eq!(held(&tars), held(&zips));
    // What is on the server already and is of another date is left alone, too.
    let server = Arc::new(Memory::default());
    import(&server, &dir.path().join("all"), std::slice::from_ref(&tgz), &options()).await.unwrap();
    let summary = import(&server, &dir.path().join("some"), &[tgz], &wanted).await.unwrap();
    assert_eq!((summary.count(Bucket::AlreadyThere), summary.count(Bucket::Filtered)), (6, 5), "{summary:#?}");
}
