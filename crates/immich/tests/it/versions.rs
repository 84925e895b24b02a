//! One interface for all versions.

use haven_immich::{
    Advice, AlbumAnswer, BulkAnswer, Change, Error, Id, Immich, Query, QueueName, Verdict, Version, Visibility,
};
use haven_immich_fake::Fake;

use crate::{bytes, client, content, fake, no_violations, refused, settings, sum, upload};

const VERSIONS: [(u32, u32, u32); 4] = [(1, 135, 3), (2, 3, 0), (2, 7, 5), (3, 1, 0)];

/// All that an import does with a server, in one go.
async fn everything(fake: &Fake, immich: &Immich) {
    let me = immich.account().await.expect("me");
    assert_eq!((me.email.as_str(), me.is_admin, me.room()), ("admin@example.org", true, None));
    let key = immich.key_permissions().await.expect("a key").expect("known");
    assert!(key.lacks(&["asset.upload", "album.create"]).is_empty());
    let types = immich.media_types().await.expect("types");
    assert!(types.takes("a.HEIC") && types.takes("b.Mp4") && !types.takes("c.txt") && !types.takes("jpg"));
    immich.about().await.expect("about");
    assert!(immich.storage().await.expect("storage").available_bytes > 0);

    let video = bytes(5000, 1);
    let mut motion = upload("IMG_1.MOV");
    motion.visibility = Visibility::Hidden;
    motion.duration_ms = Some(1500);
    let motion = immich.upload(motion, content(&video)).await.expect("a video");
    let still = bytes(700_000, 2);
    let mut upload_still = upload("Ünïcode \"東京\" 😀.heic");
    upload_still.live_video = Some(motion.id.clone());
    upload_still.sidecar = Some("<x:xmpmeta>ä</x:xmpmeta>".into());
    upload_still.favourite = true;
    upload_still.checksum = Some(sum(&still));
    let first = immich.upload(upload_still, content(&still)).await.expect("a still");
    assert_eq!((first.verdict, first.sent_whole), (Verdict::Created, true));
    let mut others = Vec::new();
    for seed in 10..16 {
        let one = immich.upload(upload(&format!("{seed}.jpg")), content(&bytes(100, seed))).await.expect("a file");
        others.push(one.id);
    }
    let again = immich.upload(upload("again.jpg"), content(&bytes(100, 10))).await.expect("an answer");
    assert_eq!((again.id, again.verdict), (others[0].clone(), Verdict::Duplicate));

    let asset = immich.asset(&first.id).await.expect("an asset");
    assert_eq!((asset.checksum, asset.live_photo_video_id), (sum(&still), Some(motion.id.clone())));
    assert_eq!(asset.original_file_name, "Ünïcode \"東京\" 😀.heic");
    let known = immich.bulk_check(&[sum(&video), sum(&bytes(3, 3)), sum(&still)]).await.expect("answers");
    let has = |id: &Id| BulkAnswer::Has { id: id.clone(), trashed: false };
    assert_eq!(known, [has(&motion.id), BulkAnswer::New, has(&first.id)]);

    let (album, rest) = immich.create_album("Türkei", "viel Sonne", &others[..2]).await.expect("an album");
    assert!(rest.is_empty());
    let stranger: Id = "00000000-0000-4000-8000-000000000000".parse().expect("an id");
    let wanted = [others[1].clone(), others[2].clone(), stranger, others[2].clone()];
    let answers = immich.fill_album(&album.id, &wanted).await.expect("answers");
    let added = AlbumAnswer::Added;
    assert_eq!(answers, [AlbumAnswer::WasIn, added.clone(), AlbumAnswer::Failed("no_permission".into()), added]);
    let albums = immich.albums().await.expect("albums");
    assert_eq!((albums.len(), albums[0].asset_count), (1, 3));
    assert_eq!(immich.album(&album.id).await.expect("the album").description, "viel Sonne");
    let query = Query { album_ids: Some(album.id.clone()), ..Query::default() };
    let members = immich.search(&query, 1).await.expect("members");
    assert_eq!((members.assets.len(), members.next), (3, None));
    let by_sum = Query { checksum: Some(sum(&still)), ..Query::default() };
    assert_eq!(immich.search(&by_sum, 1).await.expect("one").assets[0].id, first.id);

    let tags = immich.upsert_tags(&["People/Anna".into(), "takeout".into()]).await.expect("tags");
    assert_eq!(tags.iter().map(|tag| tag.value.as_str()).collect::<Vec<_>>(), ["People/Anna", "takeout"]);
    let ids: Vec<Id> = tags.into_iter().map(|tag| tag.id).collect();
    assert_eq!(immich.tag_assets(&ids, &others).await.expect("tagged"), 12);
    assert_eq!(immich.tag_assets(&ids, &others).await.expect("tagged"), 0);
    assert_eq!(immich.tags().await.expect("tags").len(), 3);
    immich.stack(&others[3..5]).await.expect("a stack");

    immich.trash(&others[5..]).await.expect("trashed");
    let gone = immich.bulk_check(&[sum(&bytes(100, 15))]).await.expect("an answer");
    assert_eq!(gone, [BulkAnswer::Has { id: others[5].clone(), trashed: true }]);
    assert_eq!(immich.statistics(false).await.expect("counts").total, 6);
    assert_eq!(immich.statistics(true).await.expect("counts").total, 1);
    immich.restore(&others[5..]).await.expect("restored");
    let archive = Change { visibility: Some(Visibility::Archive), ..Change::default() };
    immich.change(&others[..1], archive).await.expect("changed");
    assert_eq!(immich.asset(&others[0]).await.expect("it").visibility, Visibility::Archive);
    assert_eq!(immich.album_members(&album.id).await.expect("members").map(|m| m.len()), Some(3));
    assert_eq!(immich.album_members(&stranger_album()).await.expect("told"), None);
    immich.link_live_video(&others[0], &motion.id).await.expect("linked");

    let name = QueueName::new(QueueName::HEAVY[0]);
    immich.pause_queue(&name, true).await.expect("paused");
    let queues = immich.queues().await.expect("queues");
    assert!(queues.iter().any(|q| q.name == name && q.paused) && queues.iter().any(|q| !q.paused));
    immich.pause_queue(&name, false).await.expect("resumed");
    no_violations(fake);
    assert_eq!(fake.state()["paused"], serde_json::json!([]));
}

fn stranger_album() -> Id {
    "00000000-0000-4000-8000-000000000001".parse().expect("an id")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_is_spoken_to_as_it_wants() {
    for version in VERSIONS {
        let fake = fake(version).await;
        let immich = client(&fake).await;
        assert_eq!(immich.version(), Version::new(version.0, version.1, version.2));
        everything(&fake, &immich).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_not_known_is_refused() {
    let old = fake((1, 134, 0)).await;
    let error = Immich::open(settings(&old)).await.err().expect("refused");
    assert!(error.to_string().contains("v1.135.0 or newer"), "{error}");
    let new = fake((4, 0, 0)).await;
    let error = Immich::open(settings(&new)).await.err().expect("refused");
    assert_eq!(error.advice(), Advice::Stop);
    assert!(error.to_string().contains("v4.0.0: newer"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn albums_longer_than_a_request_are_filled_by_several() {
    let fake = fake((3, 1, 0)).await;
    let immich = client(&fake).await;
    let mut ids = Vec::new();
    for at in 0..620u32 {
        let body = bytes::Bytes::copy_from_slice(&at.to_be_bytes());
        ids.push(immich.upload(upload(&format!("{at}.jpg")), content(&body)).await.expect("a file").id);
    }
    let (album, rest) = immich.create_album("many", "", &ids).await.expect("an album");
    assert_eq!(rest.len(), 120);
    let answers = immich.fill_album(&album.id, &ids).await.expect("answers");
    assert_eq!(answers.iter().filter(|answer| **answer == AlbumAnswer::Added).count(), 120);
    assert_eq!(answers.iter().filter(|answer| **answer == AlbumAnswer::WasIn).count(), 500);
    assert_eq!(immich.album(&album.id).await.expect("it").asset_count, 620);
    let calls = fake.counts().calls["PUT /albums/{id}/assets"];
    assert_eq!(calls, 2);
    no_violations(&fake);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_version_lacks_is_said() {
    let fake = fake((1, 140, 0)).await;
    let error = refused(client(&fake).await.start_maintenance()).await;
    assert!(matches!(error, Error::Missing { .. }) && error.to_string().contains("v2.3.0"), "{error}");
}
