//! Maintenance mode, and the token that ends it.

use haven_immich::{Advice, MaintenanceToken, Standing};

use crate::{bytes, client, content, fake, no_violations, refused, upload};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_is_ended_by_its_token_only() {
    for version in [(2, 3, 0), (2, 7, 5), (3, 1, 0)] {
        let fake = fake(version).await;
        let immich = client(&fake).await;
        assert!(!immich.maintenance().await.expect("told").active);
        let token = immich.start_maintenance().await.expect("a token");
        assert!(immich.maintenance().await.expect("told").active);
        assert_eq!(immich.standing().await.expect("there"), Standing::Maintenance);
        // What is "not found" now is there later.
        let error = refused(immich.account()).await;
        assert_eq!(error.advice(), Advice::Wait, "{error}");
        let error = refused(immich.upload(upload("a.jpg"), content(&bytes(1000, 1)))).await;
        assert_eq!(error.advice(), Advice::Wait, "{error}");
        assert!(immich.end_maintenance(&MaintenanceToken::kept("another".into())).await.is_err());
        assert!(immich.maintenance().await.expect("told").active);
        // By another process, from where it was kept.
        let kept = MaintenanceToken::kept(token.reveal().to_owned());
        client(&fake).await.end_maintenance(&kept).await.expect("ended");
        assert!(!immich.maintenance().await.expect("told").active);
        immich.upload(upload("a.jpg"), content(&bytes(1000, 1))).await.expect("it serves");
        no_violations(&fake);
    }
}
