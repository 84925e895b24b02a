//! What a plan tells before anything is sent.

use haven_import::{Foreseen, Outlook, Progress};

use crate::{
    imports::{options, prepare, run},
    made,
    memory::Memory,
};

const YEAR: &str = "Takeout/Google Photos/Photos from 2019";

fn year(name: &str) -> &'static str {
    format!("{YEAR}/{name}").leak()
}

#[tokio::test]
async fn doubts_lies_and_the_largest_are_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = made::takeout(dir.path());
    let more = vec![
        (year("c.HEIC"), made::jpeg("no HEIC")),
        (year("c.HEIC.json"), made::sidecar("c.HEIC", 1_558_173_600, "")),
        (year("c~2.HEIC"), made::jpeg("perhaps an edit of it")),
        (year("long.mp4"), [made::mp4("long"), vec![0; 3 << 20]].concat()),
        (year("PXL_1.MP.jpg"), made::jpeg("moving")),
        (year("PXL_1.MP.jpg.json"), made::sidecar("PXL_1.MP.jpg", 1_558_173_600, "")),
        (year("PXL_1.MP"), made::mp4("moving")),
    ];
    paths.push(dir.path().join("takeout-20240525T201456Z-003.zip"));
    made::zip(&paths[2], &more);
    let (journal, parts) = prepare(&dir.path().join("j"), &paths, &options());
    let before = haven_import::outlook(&journal, None).unwrap();
    assert_eq!(before.misnamed.files, 0, "nobody looked into them yet");
    haven_import::peek(&journal, &parts, &Progress::default()).await.unwrap();
    let Outlook { doubtful, unmatched, orphans, misnamed, dates, judged_when_read, largest, above_usual_cap, estimate } =
        haven_import::outlook(&journal, None).unwrap();
    assert_eq!(doubtful.files, 1, "{doubtful:?}");
    assert_eq!(
        (doubtful.first[0].path.as_str(), doubtful.first[0].sidecar.as_str()),
        (year("c~2.HEIC"), "c.HEIC.json")
    );
    let bare: Vec<&str> = unmatched.first.iter().map(|bare| bare.path.as_str()).collect();
    assert_eq!((unmatched.files, bare), (2, vec![year("alone.jpg"), year("long.mp4")]));
    assert!(unmatched.first.iter().all(|bare| bare.nearest.len() == 3), "{unmatched:?}");
    assert_eq!(orphans.first, [year("orphan.jpg.json")]);
    let lies: Vec<(&str, &str)> = misnamed.first.iter().map(|one| (one.path.as_str(), one.sent_as.as_str())).collect();
    assert_eq!(
        lies,
        [(year("clip.jpg"), "clip.mp4"), (year("c.HEIC"), "c.jpg"), (year("c~2.HEIC"), "c~2.jpg")],
        "moving halves are none"
    );
    assert_eq!((largest[0].path.as_str(), largest[0].bytes >> 20, largest[0].passes), (year("long.mp4"), 3, None));
    assert_eq!(dates, Foreseen { sidecar: 8, name: 0, folder: 2, nobody: 0 }, "all but the two moving halves");
    assert_eq!((judged_when_read, largest.len(), above_usual_cap.files), (0, 5, 0));
    assert_eq!((estimate.files, estimate.measured), (12, None));
    let bytes = largest[0].bytes;
    let cap = haven_import::Cap { passes_bytes: 100, refused_bytes: bytes, refused_files: 1, refused_sum_bytes: bytes };
    let asked = haven_import::outlook(&journal, Some(Some(cap))).unwrap();
    assert_eq!(asked.largest.iter().map(|file| file.passes).collect::<Vec<_>>()[..2], [Some(false), Some(true)]);
}

#[tokio::test]
async fn what_is_there_is_not_reckoned_again() {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let server = std::sync::Arc::new(Memory::default());
    let (journal, parts) = prepare(&dir.path().join("j"), &paths, &options());
    let due = haven_import::outlook(&journal, None).unwrap();
    assert_eq!((due.estimate.files, due.largest.is_empty()), (7, false));
    run(&server, journal.clone(), parts, &options(), |_| {}).await.unwrap();
    let done = haven_import::outlook(&journal, None).unwrap();
    assert_eq!((done.estimate.files, done.estimate.bytes, done.largest.len()), (0, 0, 0));
}

#[tokio::test]
async fn where_dates_come_from_is_told_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("takeout-20240525T201456Z-001.zip");
    let undated = made::sidecar("undated.jpg", 0, "");
    made::zip(
        &part,
        &[
            (year("a.jpg"), made::jpeg("a")),
            (year("a.jpg.json"), made::sidecar("a.jpg", 1_558_173_600, "")),
            (year("undated.jpg"), made::jpeg("its sidecar has no date")),
            (year("undated.jpg.json"), undated),
            (year("IMG_20190518_120000.jpg"), made::jpeg("its name has one")),
            ("Takeout/Google Photos/Summer/bare.jpg", made::jpeg("nobody has one")),
            ("Takeout/Google Photos/Summer/other.jpg.json", made::sidecar("other.jpg", 1_558_173_600, "")),
        ],
    );
    let (journal, _) = prepare(&dir.path().join("j"), &[part], &options());
    let dates = haven_import::outlook(&journal, None).unwrap().dates;
    assert_eq!(dates, Foreseen { sidecar: 1, name: 1, folder: 1, nobody: 1 });
}
