//! Mending from copies.

use std::sync::Arc;

use haven_format::{layout, record};
use haven_store::{ObjectName, PutMode};
use haven_testkit::{
    faults::{Fault, Faults, Order},
    seed::in_virtual_time,
};
use haven_vault::{
    Options, VaultError,
    check::{CheckOptions, mend_log},
};

use crate::{
    behaviour::{MIB, Machine, bucket, noise, set},
    worlds::{keys, patiently},
};

#[test]
fn a_copy_that_cannot_be_asked_is_an_error_and_never_a_loss() {
    in_virtual_time(async {
        let (bucket, far) = (bucket(), bucket());
        let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        let photo = noise(1, 3000);
        let (id, place) = writer.put(&photo).unwrap();
        set(&writer, "x", b"x").await.unwrap();
        writer.close(true).await.unwrap();
        for object in bucket.list("", None, 1000).await.unwrap().objects {
            far.put(&object.name, bucket.get(&object.name).await.unwrap(), PutMode::Always).await.unwrap();
        }
        let pack = ObjectName::new(layout::pack(place.pack_id().unwrap())).unwrap();
        bucket.put(&pack, "not what it was".into(), PutMode::Always).await.unwrap();

        let vault = Machine::new(&bucket, 2).open(Options::default()).await.unwrap();
        let (faults, handle) = Faults::new(far, 1);
        let copies = vec![("far".to_owned(), Arc::new(faults) as _)];
        let options = CheckOptions { repair: true, copies, ..CheckOptions::default() };
        handle.set_down(true);
        let checked = vault.check(&options).await.unwrap();
        assert!(matches!(&checked.unasked, Some(VaultError::Copy { copy, .. }) if copy == "far"), "{checked:?}");
        assert_eq!(checked.lost_chunks, 0);
        let lost = record::lost_key(id);
        assert_eq!(patiently(&vault, || vault.live().get(&lost)).await.unwrap(), None, "nothing was given up");

        // One that answers makes up for one that does not.
        let (faults, other) = Faults::new(bucket.clone(), 1);
        other.set_down(true);
        handle.set_down(false);
        let mut options = options;
        options.copies.insert(0, ("gone".to_owned(), Arc::new(faults)));
        let checked = vault.check(&options).await.unwrap();
        assert!(checked.unasked.is_none(), "{checked:?}");
        let from: Vec<_> = checked.faults.iter().map(|fault| fault.repaired_from.as_deref()).collect();
        assert_eq!((from, checked.lost_chunks), (vec![Some("far")], 0));
        assert_eq!(patiently(&vault, || vault.chunk(id, Some(&place))).await.unwrap(), photo);
    });
}

#[test]
fn a_copy_that_is_away_keeps_no_other_from_mending_what_it_has() {
    in_virtual_time(async {
        let (bucket, near, far) = (bucket(), bucket(), bucket());
        let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        // Packs of their own.
        let packs = [3000, MIB].map(|length| writer.put(&noise(1, length)).unwrap().1.pack_id().unwrap());
        set(&writer, "x", b"x").await.unwrap();
        writer.close(true).await.unwrap();
        let mut names = packs.map(|pack| ObjectName::new(layout::pack(pack)).unwrap());
        names.sort();
        let good = [bucket.get(&names[0]).await.unwrap(), bucket.get(&names[1]).await.unwrap()];
        for (name, body) in names.iter().zip(&good) {
            far.put(name, body.clone(), PutMode::Always).await.unwrap();
            bucket.put(name, "not what it was".into(), PutMode::Always).await.unwrap();
        }
        near.put(&names[1], good[1].clone(), PutMode::Always).await.unwrap();

        let vault = Machine::new(&bucket, 2).open(Options::default()).await.unwrap();
        let (faults, handle) = Faults::new(far, 1);
        let copies = vec![("near".to_owned(), near), ("far".to_owned(), Arc::new(faults) as _)];
        let options = CheckOptions { repair: true, copies, ..CheckOptions::default() };
        handle.set_down(true);
        let checked = vault.check(&options).await.unwrap();
        assert!(matches!(&checked.unasked, Some(VaultError::Copy { copy, .. }) if copy == "far"), "{checked:?}");
        assert_eq!(checked.lost_chunks, 0);
        assert_eq!(bucket.get(&names[1]).await.unwrap(), good[1]);
        let damage: Vec<_> = vault.status().damage.into_iter().map(|(object, _)| object).collect();
        assert_eq!(damage, [names[0].as_str()]);

        handle.set_down(false);
        let checked = vault.check(&options).await.unwrap();
        assert_eq!((checked.faults[0].repaired_from.as_deref(), checked.lost_chunks), (Some("far"), 0));
        assert_eq!(bucket.get(&names[0]).await.unwrap(), good[0]);
        assert!(vault.status().damage.is_empty());
    });
}

#[test]
fn the_log_is_mended_by_the_copies_that_answer_and_what_none_has_is_told() {
    in_virtual_time(async {
        let (bucket, near) = (bucket(), bucket());
        let writer = Machine::new(&bucket, 1).open(Options::default()).await.unwrap();
        for value in [b"1", b"2"] {
            let seq = set(&writer, "x", value).await.unwrap();
            writer.sync_bucket(seq).await.unwrap();
        }
        writer.close(true).await.unwrap();
        let segments = bucket.list(layout::SEGMENTS, None, 1000).await.unwrap().objects;
        for object in &segments {
            near.put(&object.name, bucket.get(&object.name).await.unwrap(), PutMode::Always).await.unwrap();
        }
        let (faults, handle) = Faults::new(near.clone(), 1);
        // Each time once: asked again it would have everything.
        let away = || handle.order(Order::next(Fault::Denied));
        let copies = [("gone".to_owned(), Arc::new(faults) as _), ("near".to_owned(), near.clone())];
        let broken = async || {
            away();
            for object in &segments[..2] {
                bucket.put(&object.name, "not what it was".into(), PutMode::Always).await.unwrap();
            }
            mend_log(&bucket, &keys(), &copies).await.unwrap()
        };
        let (mended, unasked) = broken().await;
        assert!(mended.iter().all(|(_, from)| from == "near") && mended.len() == 2, "{mended:?}");
        assert!(unasked.is_none(), "the other made up for it: {unasked:?}");
        near.delete(&segments[1].name).await.unwrap();
        let (mended, unasked) = broken().await;
        assert_eq!(mended.len(), 1);
        assert!(matches!(&unasked, Some(VaultError::Copy { copy, .. }) if copy == "gone"), "{unasked:?}");
    });
}
