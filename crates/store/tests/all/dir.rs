//! What a directory store does beyond the suite.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use haven_store::{PutMode, Store, StoreError, StoreOptions, dir::Dir};

use crate::name;

fn open(root: &Path) -> Dir {
    Dir::open(root).expect("the directory opens")
}

async fn put(dir: &Dir, text: &str) -> Result<(), StoreError> {
    dir.put(&name(text), "body".into(), PutMode::Always).await
}

#[tokio::test]
async fn an_object_is_a_file_of_its_name() {
    let root = tempfile::tempdir().expect("a temporary directory");
    put(&open(root.path()), "p/3f/3fa9").await.expect("a put");
    assert_eq!(fs::read(root.path().join("p/3f/3fa9")).expect("the file"), b"body");
}

#[tokio::test]
async fn a_missing_root_is_no_bucket_and_is_not_made() {
    let above = tempfile::tempdir().expect("a temporary directory");
    let root = above.path().join("root");
    fs::create_dir(&root).expect("the root");
    let dir = open(&root);
    put(&dir, "a/b").await.expect("a put");
    fs::remove_dir_all(&root).expect("it goes");
    for result in [put(&dir, "a/c").await, dir.delete(&name("a/b")).await, dir.get(&name("a/b")).await.map(drop)] {
        assert!(matches!(result, Err(StoreError::NoBucket { .. })), "{result:?}");
    }
    let listed = dir.list("", None, 10).await;
    assert!(matches!(listed, Err(StoreError::NoBucket { .. })), "{listed:?}");
    assert!(!root.exists());
    assert!(matches!(Dir::open(&root), Err(StoreError::NoBucket { .. })));
}

#[tokio::test]
async fn a_root_made_anew_is_taken_up() {
    let above = tempfile::tempdir().expect("a temporary directory");
    let root = above.path().join("root");
    fs::create_dir(&root).expect("the root");
    let dir = open(&root);
    put(&dir, "a/b").await.expect("a put");
    fs::remove_dir_all(&root).expect("it goes");
    fs::create_dir(&root).expect("it comes back");
    let first = put(&dir, "a/c").await;
    assert!(matches!(first, Ok(()) | Err(StoreError::Unavailable { .. })), "{first:?}");
    put(&dir, "a/c").await.expect("a put");
    assert!(root.join("a/c").is_file());
}

#[tokio::test]
async fn a_folder_removed_by_a_stranger_is_made_again() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = open(root.path());
    put(&dir, "a/b/c").await.expect("a put");
    fs::remove_dir_all(root.path().join("a")).expect("it goes");
    put(&dir, "a/b/d").await.expect("a put");
    assert!(root.path().join("a/b/d").is_file());
}

#[tokio::test]
async fn leftovers_of_dead_puts_are_swept_and_never_listed() {
    let root = tempfile::tempdir().expect("a temporary directory");
    put(&open(root.path()), "kept").await.expect("a put");
    let (old, young) = (root.path().join("~tmp/1-old"), root.path().join("~tmp/2-young"));
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::create(&old).expect("a leftover").set_modified(hour_ago).expect("it ages");
    File::create(&young).expect("one that may be alive");
    let listed = open(root.path()).list("", None, 10).await.expect("a listing");
    assert_eq!(listed.objects.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["kept"]);
    assert!(!old.exists(), "the leftover is still there");
    assert!(young.exists(), "a put that may be under way was broken");
}

#[tokio::test]
async fn strange_files_and_links_are_no_objects() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = open(root.path());
    put(&dir, "a").await.expect("a put");
    fs::write(root.path().join("lost+found"), "x").expect("a file");
    fs::write(root.path().join("with space"), "x").expect("a file");
    std::os::unix::fs::symlink("a", root.path().join("link")).expect("a link");
    fs::create_dir(root.path().join("folder")).expect("a folder");
    let listed = dir.list("", None, 10).await.expect("a listing");
    assert_eq!(listed.objects.len(), 1, "{listed:?}");
    assert!(matches!(dir.get(&name("folder")).await, Err(StoreError::NotFound { .. })));
    assert!(dir.get(&name("link")).await.is_err());
}

#[tokio::test]
async fn an_object_goes_from_directory_to_directory_on_one_file_system() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
    let stack = |path: &Path| {
        let options = StoreOptions { create: true, ..StoreOptions::default() };
        haven_store::open(&path.display().to_string(), &options).expect("it opens")
    };
    let (source, target) = (stack(&from), stack(&to));
    let body = vec![7_u8; 3_000_000];
    source.put(&name("p/1"), body.clone().into(), PutMode::Always).await.expect("a put");
    let place = source.locate().expect("a place");
    assert!(target.copies_from(&place));
    target.copy_from(&place, &name("p/1")).await.expect("a copy");
    assert!(fs::read(to.join("p/1")).expect("the file") == body);
    let missing = target.copy_from(&place, &name("p/2")).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
    // Another file system copies by reading and writing, which is the caller's to do.
    let elsewhere = stack(&Path::new("/dev/shm").join(folder.path().file_name().expect("a name")));
    assert!(!elsewhere.copies_from(&place));
    fs::remove_dir_all(Path::new("/dev/shm").join(folder.path().file_name().expect("a name"))).expect("it goes");
}
