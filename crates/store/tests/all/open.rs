//! From URLs and settings to stores.

use haven_store::{OpenError, PutMode, StoreError, StoreOptions, open};

use crate::name;

fn refusal(url: &str) -> OpenError {
    match open(url, &StoreOptions::default()) {
        Ok(store) => panic!("{url} opened as {store:?}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_memory_url_names_one_store_per_process() {
    let put = open("memory:open-test", &StoreOptions::default()).expect("it opens");
    put.put(&name("a"), "x".into(), PutMode::Always).await.expect("a put");
    let again = open("memory:open-test", &StoreOptions::default()).expect("it opens");
    assert_eq!(again.get(&name("a")).await.expect("a get"), "x");
    let other = open("memory:another", &StoreOptions::default()).expect("it opens");
    assert!(matches!(other.get(&name("a")).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_directory_is_made_only_when_asked_for() {
    let above = tempfile::tempdir().expect("a temporary directory");
    let path = above.path().join("not/yet");
    let url = format!("file://{}", path.display());
    let error = refusal(&url);
    assert!(matches!(error, OpenError::Store { source: StoreError::NoBucket { .. }, .. }), "{error:?}");
    assert!(error.next().contains("mount"), "{}", error.next());
    assert!(!path.exists());
    let made = open(&url, &StoreOptions { create: true, ..StoreOptions::default() }).expect("it is made");
    made.put(&name("a/b"), "x".into(), PutMode::IfAbsent).await.expect("a put");
    let again = open(&path.display().to_string(), &StoreOptions::default()).expect("a bare path will do");
    assert_eq!(again.get(&name("a/b")).await.expect("a get"), "x");
    assert_eq!(again.describe(), url);
}

#[test]
fn what_names_no_store_is_refused_with_the_reason() {
    assert!(matches!(refusal("file://relative/path"), OpenError::Url { .. }));
    assert!(matches!(refusal("relative"), OpenError::Url { .. }));
    assert!(matches!(refusal("gopher://host/x"), OpenError::Scheme { .. }));
}

#[test]
fn settings_are_read_as_people_write_them() {
    let text = r#"{"timeout": {"base": "5s"}, "limit": {"upload_rate_max": "2MB"}, "retry": {"patience": "1h"}}"#;
    let options: StoreOptions = serde_json::from_str(text).expect("it parses");
    assert_eq!(options.timeout.base.as_secs(), 5);
    assert_eq!(options.limit.upload_rate_max, 2_000_000);
    assert_eq!(options.retry.patience.as_secs(), 3600);
    let back = serde_json::to_string(&options).expect("it is written");
    assert_eq!(serde_json::from_str::<StoreOptions>(&back).expect("and read again"), options);
    let unknown = serde_json::from_str::<StoreOptions>(r#"{"retries": 3}"#);
    assert!(unknown.is_err_and(|e| e.to_string().contains("retries")));
}
