//! Servers that are away for hours, on a clock that waits for nobody.

use std::{sync::Arc, time::Duration};

use haven_import::{
    Stop, Waits,
    report::{Bucket, Summary},
};
use tokio::time::Instant;

use crate::{
    imports::{held, import, options, prepare, run_watched},
    made,
    memory::{Absence, Memory},
};

const HOURS: Duration = Duration::from_secs(3 * 3600);

/// Imports with the waits that an owner's import has, into a server that goes away in the middle.
async fn import_over(absence: Absence, waits: Waits) -> (Arc<Memory>, Result<Summary, Stop>, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let paths = made::takeout(dir.path());
    let server = Arc::new(Memory::default());
    server.state().goes = Some((3, absence));
    let (journal, parts) = prepare(&dir.path().join("j"), &paths, &options());
    let since = Instant::now();
    let ended = run_watched(&server, journal, parts, &options(), waits, Arc::default(), |_| {}).await;
    (server, ended, since.elapsed())
}

/// The pauses between looks whether it is back.
fn pauses(server: &Memory) -> Vec<u64> {
    let state = server.state();
    let since = state.away.unwrap().1;
    let looks: Vec<Instant> = state.pings.iter().copied().filter(|ping| *ping >= since).collect();
    looks.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64().round() as u64).collect()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_for_three_hours_costs_no_file() {
    let (server, ended, took) = import_over(Absence::Stopped(HOURS), Waits::default()).await;
    let summary = ended.unwrap();
    assert!(summary.is_whole(), "{summary:#?}");
    assert_eq!((summary.count(Bucket::Uploaded), summary.count(Bucket::Failed)), (6, 0));
    assert!(took >= HOURS && took < HOURS + Duration::from_secs(180), "{took:?}");
    // One looks for all, at first often and then each minute.
    let pauses = pauses(&server);
    assert_eq!(pauses[..6], [5, 10, 20, 40, 60, 60], "{pauses:?}");
    assert!(pauses.iter().skip(4).filter(|pause| **pause == 60).count() >= 175, "{pauses:?}");
    let dir = tempfile::tempdir().unwrap();
    let calm = Arc::new(Memory::default());
    import(&calm, &dir.path().join("calm"), &made::takeout(dir.path()), &options()).await.unwrap();
    assert_eq!(held(&server), held(&calm));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_its_database_is_waited_out_too() {
    let (_, ended, took) = import_over(Absence::NoDatabase(HOURS), Waits::default()).await;
    let summary = ended.unwrap();
    assert!(summary.is_whole(), "{summary:#?}");
    assert_eq!(summary.count(Bucket::Failed), 0);
    assert!(took >= HOURS && took < HOURS + Duration::from_secs(600), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn one_behind_a_proxy_that_answers_with_a_page_is_waited_out_too() {
    let (server, ended, took) = import_over(Absence::Page(HOURS), Waits::default()).await;
    let summary = ended.unwrap();
    assert!(summary.is_whole(), "{summary:#?}");
    assert_eq!(summary.count(Bucket::Failed), 0);
    assert!(took >= HOURS && took < HOURS + Duration::from_secs(600), "{took:?}");
    // One that serves, and answers one thing in a way that nobody understands, is not waited for.
    let dir = tempfile::tempdir().unwrap();
    server.state().strange_albums = true;
    let since = Instant::now();
    let ended = import(&server, &dir.path().join("j"), &made::takeout(dir.path()), &options()).await;
    assert!(matches!(ended, Err(Stop::Strange(_))) && since.elapsed() < Duration::from_secs(60), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_come_back_is_waited_for_as_long_as_was_said() {
    let waits = Waits { away: Duration::from_secs(3600), ..Waits::default() };
    let (server, ended, took) = import_over(Absence::Stopped(Duration::MAX), waits).await;
    assert!(matches!(ended, Err(Stop::Gone(_))), "{ended:?}");
    assert!(took >= waits.away && took < waits.away + Duration::from_secs(180), "{took:?}");
    assert!(server.state().assets.len() >= 3, "what was sent stays");
}
