//! What somebody sees and does who was let in.

use haven_page::{Action, metrics::gathered};
use http::StatusCode;

use crate::web::Web;

const PAGES: [&str; 11] = [
    "/",
    "/findings",
    "/copies",
    "/runs",
    "/runs?kind=drill&span=month",
    "/runs/1000",
    "/growth",
    "/snapshots",
    "/browse?snapshot=immich-newest&path=2019/07",
    "/browse?snapshot=before%20the%20cleanup",
    "/drills",
];

#[tokio::test]
async fn every_page_is_whole_and_has_its_landmarks() {
    let web = Web::inside().await;
    for page in PAGES {
        let got = web.get(page).await;
        assert_eq!(got.status, StatusCode::OK, "{page}");
        for part in [
            "<main id=\"main\"",
            "<nav aria-label=\"Main\">",
            "class=\"skip\" href=\"#main\"",
            "lang=\"en\"",
            "<footer>",
        ] {
            assert!(got.text.contains(part), "{page}: {part}");
        }
        assert_eq!(got.text.matches("<h1").count(), 1, "{page}");
        assert_eq!(
            got.text.matches("<table").count(),
            got.text.matches("<caption").count(),
            "{page}: tables have captions"
        );
        // The policy forbids both.
        assert!(
            !got.text.contains("style=\"") && !got.text.contains("<style") && !got.text.contains(" onclick"),
            "{page}"
        );
        assert_eq!(got.text.matches("<script").count(), 1, "{page}: what is in the library is text");
    }
}

#[tokio::test]
async fn what_is_named_is_text_and_never_markup() {
    let web = Web::inside().await;
    let folder = web.get("/browse?snapshot=immich-newest&path=2019/07").await.text;
    assert!(folder.contains("&lt;b&gt;odd &amp; &quot;name&quot;.jpg") && !folder.contains("<b>odd"), "{folder}");
    let log = web.get("/runs/1000").await.text;
    assert!(log.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{log}");
}

#[tokio::test]
async fn the_first_page_says_it_in_a_sentence_with_a_word_and_a_sign() {
    let web = Web::inside().await;
    let text = web.get("/").await.text;
    assert!(text.contains("Safe, but look: </span>Your photos are safe; one copy is behind."), "{text}");
    assert!(
        text.contains("The replica far is 26 hours behind") && text.contains("one that nobody can change: missing")
    );
    web.source.turn("red");
    let text = web.get("/").await.text;
    assert!(text.contains("At risk: </span>The bucket has refused every upload"), "{text}");
    assert!(text.contains("<title>At risk · Haven</title>"));
    let findings = web.get("/findings").await.text;
    let (first, second) = (findings.find("The bucket refuses uploads"), findings.find("The replica far is"));
    assert!(first < second, "the gravest first");
}

#[tokio::test]
async fn folders_are_paged() {
    let web = Web::inside().await;
    let first = web.get("/browse?snapshot=immich-newest&path=many").await.text;
    assert!(first.contains("1 to 200 of 450") && first.contains("IMG_0199.jpg") && !first.contains("IMG_0200.jpg"));
    let last = web.get("/browse?snapshot=immich-newest&path=many&skip=400").await.text;
    assert!(last.contains("401 to 450 of 450") && last.contains("IMG_0449.jpg") && !last.contains("rel=\"next\""));
    assert_eq!(web.get("/browse?snapshot=immich-newest&path=many&skip=-1").await.status, StatusCode::OK);
}

#[tokio::test]
async fn paths_lead_nowhere_else() {
    let web = Web::inside().await;
    let paths = [
        "/browse?snapshot=..&path=etc",
        "/browse?snapshot=immich-newest&path=../../etc",
        "/browse?snapshot=immich-newest&path=2019/../../etc",
        "/browse?snapshot=immich-newest&path=%2e%2e/etc",
        "/download?snapshot=immich-newest&path=..%2f..%2fetc%2fpasswd",
        "/download?snapshot=%2e%2e&path=passwd",
        "/download?snapshot=immich-newest/../..&path=etc/passwd",
        "/download?snapshot=immich-newest&path=notes.txt%00.jpg",
        "/download?snapshot=immich-newest&path=2019",
        "/download?snapshot=nowhere&path=notes.txt",
        "/assets/..%2f..%2fCargo.toml",
        "/runs/..%2f..",
    ];
    for path in paths {
        assert_eq!(web.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let word = web.word().await;
    for path in ["../../etc/passwd", "2019/../..", ""] {
        let got = web.post("/restore", &format!("word={word}&snapshot=immich-newest&path={path}")).await;
        assert_eq!(got.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert!(web.source.restored.lock().is_empty());
}

#[tokio::test]
async fn a_file_is_saved_whole_and_never_shown() {
    let web = Web::inside().await;
    let got = web.get("/download?snapshot=immich-newest&path=2019/07/IMG_0002.jpg").await;
    assert_eq!((got.status, got.text.len()), (StatusCode::OK, 1_500_000));
    assert_eq!(got.header("content-type"), "application/octet-stream");
    assert_eq!(got.header("content-length"), "1500000");
    assert!(got.header("content-disposition").starts_with("attachment; filename=\"IMG_0002.jpg\""));
    let odd = web.get("/download?snapshot=immich-newest&path=2019/08/Stra%C3%9Fe,%20am%20Meer.heic").await;
    assert!(odd.header("content-disposition").contains("filename*=UTF-8''Stra%C3%9Fe%2C%20am%20Meer.heic"));
}

#[tokio::test]
async fn a_file_comes_back_only_by_our_own_form() {
    let web = Web::inside().await;
    let word = web.word().await;
    let form = "snapshot=immich-newest&path=2019/07/IMG_0001.jpg";
    let refused = [
        web.post("/restore", form).await,
        web.post("/restore", &format!("word=abc&{form}")).await,
        web.post_from("http://evil.example", "/restore", &format!("word={word}&{form}")).await,
        web.post_from("", "/restore", &format!("word={word}&{form}")).await,
    ];
    assert!(refused.iter().all(|got| got.status == StatusCode::FORBIDDEN));
    assert!(web.source.restored.lock().is_empty());
    let got = web.post("/restore", &format!("word={word}&{form}")).await;
    assert_eq!(got.status, StatusCode::OK);
    assert!(got.text.contains("restored/immich-newest/2019/07/IMG_0001.jpg") && got.text.contains("is as it was"));
    assert_eq!(*web.source.restored.lock(), ["restored/immich-newest/2019/07/IMG_0001.jpg"]);
    // Another session's word is not ours.
    let mut other = Web { cookie: None, source: web.source.clone(), page: web.page.clone(), peer: web.peer };
    other.login().await;
    assert_eq!(other.post("/restore", &format!("word={word}&{form}")).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_is_asked_for_is_done_once() {
    let web = Web::inside().await;
    let word = web.word().await;
    let forms = [
        "do=run-now&kind=replica&subject=far",
        "do=flush",
        "do=hush&key=replica-lag&subject=far&days=7",
        "do=alert-test",
    ];
    for form in forms {
        assert_eq!(web.post("/act", &format!("word={word}&{form}")).await.status, StatusCode::OK, "{form}");
    }
    let far = || "far".to_owned();
    let expected = [
        Action::RunNow { kind: "replica".into(), subject: far() },
        Action::Flush,
        Action::Hush { key: "replica-lag".into(), subject: far(), days: 7 },
        Action::AlertTest,
    ];
    assert_eq!(*web.source.acted.lock(), expected);
    for form in ["do=format-the-disk", "", "do=hush&key=a&days=100000"] {
        assert_eq!(web.post("/act", &format!("word={word}&{form}")).await.status, StatusCode::CONFLICT, "{form}");
    }
    let busy = web.post("/act", &format!("word={word}&do=run-now&kind=busy")).await;
    assert!(
        busy.status == StatusCode::CONFLICT
            && busy.text.contains("it is running already")
            && busy.text.contains("wait for it")
    );
    assert_eq!(web.source.acted.lock().len(), expected.len());
    let long = format!("word={word}&do=flush&key={}", "a".repeat(20_000));
    assert_eq!(web.post("/act", &long).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_page_that_only_shows_does_nothing() {
    let mut web = Web::with(|settings| settings.read_only = true);
    web.login().await;
    for page in PAGES {
        let text = web.get(page).await.text;
        assert!(!text.contains("action=\"/act\"") && !text.contains("action=\"/restore\""), "{page}");
    }
    let text = web.get("/").await.text;
    let word =
        text.split("name=\"word\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("the way out");
    for (path, form) in [("/act", "do=flush"), ("/restore", "snapshot=immich-newest&path=notes.txt")] {
        assert_eq!(web.post(path, &format!("word={word}&{form}")).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert!(web.source.acted.lock().is_empty() && web.source.restored.lock().is_empty());
    assert_eq!(web.get("/download?snapshot=immich-newest&path=notes.txt").await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_logs_out_is_out() {
    let web = Web::inside().await;
    let word = web.word().await;
    assert_eq!(web.post("/logout", "word=x").await.status, StatusCode::FORBIDDEN);
    let got = web.post("/logout", &format!("word={word}")).await;
    assert!(got.status == StatusCode::SEE_OTHER && got.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(web.get("/").await.status, StatusCode::SEE_OTHER, "the old cookie is worth nothing");
}

#[tokio::test]
async fn of_a_library_that_is_not_mounted_nothing_is_called_zero() {
    let web = Web::inside().await;
    let mounted = web.get("/").await.text;
    assert!(mounted.contains("The loss of this machine would cost") && !mounted.contains("not known"), "{mounted}");
    web.source.overview.lock().mounted = false;
    let page = web.get("/").await.text;
    assert!(page.contains("<strong>not known</strong>: the library is not mounted"), "{page}");
    assert!(!page.contains("The loss of this machine would cost") && !page.contains("requests a second"), "{page}");
    assert!(page.contains("Disk of the cache"), "{page}");
    let names: Vec<_> = gathered(web.source.as_ref()).await.unwrap().into_iter().map(|metric| metric.name).collect();
    for absent in ["haven_queue_changes", "haven_queue_bytes", "haven_recovery_point_seconds", "haven_cache_used_bytes"]
    {
        assert!(!names.contains(&absent), "{absent}");
    }
    assert!(names.contains(&"haven_cache_disk_bytes") && names.contains(&"haven_findings"), "{names:?}");
}
