//! What lies in one stack, and what is on top.

use std::sync::Arc;

use haven_import::{Options, Source, Stacks, report::Bucket};

use crate::{
    imports::{import, options},
    made,
    memory::Memory,
};

const BURST: &str = "BURST20190518123000123";

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let year = |name: &str| -> &'static str { format!("Takeout/Google Photos/Photos from 2019/{name}").leak() };
    let raw = |salt: &str| [b"II\x2a\0", salt.as_bytes()].concat();
    let mut files = vec![(year("DSC_1.dng"), raw("one")), (year("DSC_1-edited.JPG"), made::jpeg("edited"))];
    let burst =
        [(1, ""), (2, "_COVER"), (3, ""), (4, "")].map(|(n, end)| format!("0000{n}IMG_0000{n}_{BURST}{end}.jpg"));
    for name in burst.into_iter().chain(["DSC_1.JPG".to_owned(), "DSC_2.JPG".to_owned()]) {
        files.push((year(&name), made::jpeg(&name)));
        // One of the burst was thrown away at Google.
        let more = if name.starts_with("00004") { r#","trashed":true"# } else { "" };
        files.push((year(&format!("{name}.json")), made::sidecar(&name, 1_558_173_600, more)));
    }
    files
}

/// Stacks by the names in them.
fn stacks(server: &Memory) -> Vec<Vec<String>> {
    let state = server.state();
    let name = |id: &_| state.assets[id].upload.name.replace(BURST, "B");
    state.stacks.iter().map(|ids| ids.iter().map(name).collect()).collect()
}

#[tokio::test]
async fn covers_and_jpegs_and_edits_lie_on_top() {
    let dir = tempfile::tempdir().unwrap();
    let zip = dir.path().join("a.zip");
    made::zip(&zip, &files());
    let all = Stacks { edited: true, burst: true, raw: true };
    let options = |stacks| Options { stacks, trashed: true, ..options() };
    let server = Arc::new(Memory::default());
    // A phone brought one of them before, and threw it away.
    let phone = dir.path().join("phone");
    std::fs::create_dir_all(&phone).unwrap();
    std::fs::write(phone.join("x.jpg"), made::jpeg(&format!("00003IMG_00003_{BURST}.jpg"))).unwrap();
    let plain = Options { source: Source::Folder, takeout_tag: false, ..Options::default() };
    import(&server, &dir.path().join("p"), &[phone], &plain).await.unwrap();
    server.state().assets.values_mut().for_each(|kept| kept.trashed = true);

    import(&server, &dir.path().join("j"), std::slice::from_ref(&zip), &options(all)).await.unwrap();
    let mut due = vec![
        vec!["00002IMG_00002_B_COVER.jpg", "00001IMG_00001_B.jpg"],
        vec!["DSC_1-edited.JPG", "DSC_1.JPG", "DSC_1.dng"],
    ];
    let mut found = stacks(&server);
    found.sort();
    due.sort();
    assert_eq!(found, due);
    import(&server, &dir.path().join("j"), std::slice::from_ref(&zip), &options(all)).await.unwrap();
    assert_eq!(stacks(&server).len(), 2, "once is enough");

    for (wanted, due) in [
        (Stacks::default(), vec![]),
        (Stacks { raw: true, ..Stacks::default() }, vec![vec!["DSC_1.JPG", "DSC_1.dng"]]),
        (Stacks { edited: true, ..Stacks::default() }, vec![vec!["DSC_1-edited.JPG", "DSC_1.JPG"]]),
    ] {
        let server = Arc::new(Memory::default());
        let state = dir.path().join(format!("{wanted:?}").replace(' ', ""));
        import(&server, &state, std::slice::from_ref(&zip), &options(wanted)).await.unwrap();
        assert_eq!(stacks(&server), due, "{wanted:?}");
    }
}

#[tokio::test]
async fn stacks_that_the_server_refuses_are_told_and_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let (zip, state) = (dir.path().join("a.zip"), dir.path().join("j"));
    made::zip(&zip, &files());
    let stacks = Stacks { edited: true, burst: true, raw: true };
    let options = Options { stacks, ..options() };
    let server = Arc::new(Memory::default());
    server.state().refuses_stacks = true;
    let summary = import(&server, &state, std::slice::from_ref(&zip), &options).await.unwrap();
    assert_eq!((summary.stacks, summary.stacked, summary.stack_failures()), (2, 0, 2), "{summary:#?}");
    assert_eq!((summary.count(Bucket::Failed), summary.is_brought(), summary.is_whole()), (0, true, false));
    assert!(summary.unstacked[0].why.contains("no stacks here"), "{:?}", summary.unstacked);
    server.state().refuses_stacks = false;
    let summary = import(&server, &state, std::slice::from_ref(&zip), &options).await.unwrap();
    assert_eq!((summary.stacks, summary.stacked, summary.is_whole()), (2, 2, true), "{summary:#?}");
    assert_eq!(server.state().stacks.len(), 2);
}
