//! The mount, the queue, the bucket.

use super::{Finding, Limits, long, size};
use crate::state::{Scrub, Sight, State};

pub fn mounted(state: &State, _: &Limits) -> Vec<Finding> {
    let point = &state.mount.point;
    match &state.mount.answers {
        Some(Ok(_)) => Vec::new(),
        Some(Err(why)) => vec![
            Finding::critical("not-answering", "", format!("the mount at {point} does not answer: {why}"))
                .means("programs that look there wait or fail; what was written before is on this machine's disk or in the bucket")
                .next("systemctl restart haven")
                .next("journalctl -u haven -e    says what came before"),
        ],
        None if state.unseen(&Sight::Mount).is_some() => Vec::new(),
        None => {
            let where_ = if point.is_empty() { String::new() } else { format!(" at {point}") };
            vec![
                Finding::critical("not-mounted", "", format!("the library is not mounted{where_}"))
                    .means("Immich can't see the photos, nothing is backed up, and nothing is watched; the photos themselves are where they were")
                    .next("systemctl start haven    or haven run")
                    .next("haven doctor    looks at what may be in the way"),
            ]
        }
    }
}

pub fn writable(state: &State, _: &Limits) -> Vec<Finding> {
    let mount = &state.mount;
    if mount.writable || mount.meant_read_only || mount.answers.is_none() {
        return Vec::new();
    }
    let why = mount.stopped.clone().unwrap_or_default();
    let finding = if mount.fenced {
        Finding::critical("fenced", "", "another machine has taken over this library")
            .next("haven claims    tells who writes now")
            .next("haven salvage    saves what was not sent")
    } else {
        Finding::critical("read-only", "", format!("the library can't be written: {why}"))
            .next("haven status    and journalctl -u haven -e say why")
            .next("mount it again when the cause is gone: systemctl restart haven")
    };
    vec![finding.means("new photos are refused here; what is in the library can be read")]
}

pub fn restore(state: &State, _: &Limits) -> Vec<Finding> {
    let Some(restoring) = &state.restoring else { return Vec::new() };
    let from = &restoring.from.url;
    let far = match (restoring.here, restoring.needed) {
        (Some(here), Some(all)) => format!(
            ": {} of {} objects ({} of {}) are here",
            here.objects,
            all.objects,
            size(here.bytes),
            size(all.bytes)
        ),
        _ => String::new(),
    };
    let to = state.library.as_ref().map_or("URL", |place| place.url.as_str());
    vec![
        Finding::warning(
            "restore-unfinished",
            "library",
            format!("the library is still being restored from {from}{far}"),
        )
        .means("what is not here yet is read from that copy, and would be lost with it")
        .next(format!("keep {from} until this is over"))
        .next(format!("haven restore --from {from} --to {to}    goes on with it; nothing else does, after a reboot")),
    ]
}

pub fn queue(state: &State, limits: &Limits) -> Vec<Finding> {
    let queue = &state.queue;
    let Some(since) = queue.stuck_since.filter(|since| state.now - since > limits.queue_stuck) else {
        return Vec::new();
    };
    let (finding, age) = (
        Finding::critical(
            "queue-stuck",
            "",
            format!(
                "nothing has reached the bucket for {}, and {} changes ({}) wait",
                long(state.now - since),
                queue.changes,
                size(queue.bytes)
            ),
        ),
        state.now - queue.since.unwrap_or(since),
    );
    vec![
        finding
            .means(format!(
                "the newest {} of photos are on this machine's disk alone: its loss would cost them",
                long(age)
            ))
            .next("haven status    tells what hinders it")
            .next("haven doctor    tries the bucket and the keys"),
    ]
}

pub fn store(state: &State, limits: &Limits) -> Vec<Finding> {
    let store = &state.store;
    let mut out = Vec::new();
    let lasting = store.trouble_since.is_some_and(|since| state.now - since > limits.store_patience);
    if let Some(trouble) = store.trouble.as_ref().filter(|_| lasting) {
        out.push(
            Finding::critical("bucket-trouble", "", format!("the bucket is in trouble: {trouble}"))
                .means("what is here can be read and written; nothing new is safe against the loss of this machine")
                .next("haven doctor    tries the bucket, the keys and the clock")
                .next("if the provider says that it is down: wait, it goes on by itself"),
        );
    }
    // A handful of failures among a handful of requests says nothing.
    if store.errors >= 5 && store.errors as f64 > store.requests as f64 * limits.store_errors {
        out.push(
            Finding::warning(
                "bucket-errors",
                "",
                format!("{} of the last {} requests to the bucket failed", store.errors, store.requests),
            )
            .means("they are tried again and nothing is lost; if it goes on, uploads fall behind")
            .next("haven status    shows the requests and the last trouble"),
        );
    }
    out
}

pub fn damage(state: &State, _: &Limits) -> Vec<Finding> {
    let mut out = Vec::new();
    let scrub = state.scrub.as_ref().filter(|scrub| !scrub.whole);
    let seen = state.store.damage.len() as u64;
    let faults = scrub.map_or(0, Scrub::nameless).max(seen);
    if faults > 0 {
        let files = scrub.map_or(0, |scrub| scrub.files);
        let mut finding = Finding::critical(
            "damaged",
            "library",
            format!(
                "the library has {faults} object{} that {} damaged or missing",
                if faults == 1 { "" } else { "s" },
                if faults == 1 { "is" } else { "are" }
            ),
        )
        .means(match files {
            0 => "every file as it is now could still be read when it was looked for; older states may not".to_owned(),
            1 => "one file can't be read whole any more, unless a copy has it".to_owned(),
            many => format!("{many} files can't be read whole any more, unless a copy has them"),
        });
        let copies: Vec<String> = state.replicas.iter().map(|one| format!(" --copy {}", one.place.url)).collect();
        finding = finding.next(if copies.is_empty() {
            "haven check --repair    puts back what this machine's cache has".to_owned()
        } else {
            format!("haven check --repair{}", copies.concat())
        });
        out.push(finding.next("haven check    names the files"));
    }
    for replica in state.replicas.iter().filter(|one| one.damaged > 0) {
        out.push(
            Finding::critical(
                "damaged",
                replica.name.clone(),
                format!("{} objects of the replica {} are damaged", replica.damaged, replica.name),
            )
            .means("the library itself is not touched by it; this copy alone would not bring everything back")
            .next(format!("haven replica verify {} --read-data --repair", replica.name)),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{DAY, NOW, ids, well},
        *,
    };
    use crate::state::{Amount, Replica, Restoring};

    #[test]
    fn a_mount_that_is_not_there_and_one_that_does_not_answer_are_told_apart() {
        let mut state = well();
        state.mount.answers = None;
        assert_eq!(ids(&state), ["not-mounted"]);
        state.mount.answers = Some(Err("no answer within 5 s".into()));
        assert_eq!(ids(&state), ["not-answering"]);
    }

    #[test]
    fn a_library_that_turned_read_only_is_told_and_one_that_was_meant_to_is_not() {
        let mut state = well();
        state.mount.writable = false;
        assert_eq!(ids(&state), ["read-only"]);
        state.mount.fenced = true;
        assert_eq!(ids(&state), ["fenced"]);
        state.mount.meant_read_only = true;
        assert!(ids(&state).is_empty());
    }

    #[test]
    fn a_library_that_is_not_complete_yet_is_told_with_what_it_hangs_on() {
        let mut state = well();
        let from = super::super::tests::place("sftp://nas/haven", "nas", true);
        state.restoring = Some(Restoring { from: from.clone(), ..Restoring::default() });
        assert_eq!(ids(&state), ["restore-unfinished:library"]);
        let restoring = state.restoring.as_mut().unwrap();
        restoring.here = Some(Amount { objects: 3, bytes: 1_500_000 });
        restoring.needed = Some(Amount { objects: 12, bytes: 8_000_000 });
        let told = restore(&state, &Limits::default()).remove(0);
        assert!(told.title.ends_with("from sftp://nas/haven: 3 of 12 objects (1.5 MB of 8.0 MB) are here"), "{told:?}");
        assert!(told.next[1].starts_with("haven restore --from sftp://nas/haven --to s3://photos/haven "), "{told:?}");
        // It is no copy of its own before it is complete, and what it comes from is one.
        let names = |state: &State| state.places().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&state), ["what the library is restored from"]);
        state.replicas = vec![Replica { name: "nas".into(), place: from, up_to_date: Some(NOW), ..Replica::default() }];
        assert_eq!(names(&state), ["nas"], "once");
    }

    #[test]
    fn a_queue_that_does_not_shrink_is_told_and_a_long_one_that_does_is_not() {
        let mut state = well();
        state.queue.changes = 5000;
        state.queue.since = Some(NOW - DAY);
        assert!(ids(&state).is_empty(), "it moves");
        state.queue.stuck_since = Some(NOW - 800);
        assert!(ids(&state).is_empty(), "not for long");
        state.queue.stuck_since = Some(NOW - 1000);
        assert_eq!(ids(&state), ["queue-stuck"]);
    }

    #[test]
    fn a_bucket_in_trouble_is_told_when_it_lasts_and_errors_when_they_are_many() {
        let mut state = well();
        (state.store.trouble, state.store.trouble_since) = (Some("503".into()), Some(NOW - 100));
        assert!(ids(&state).is_empty());
        state.store.trouble_since = Some(NOW - 400);
        assert_eq!(ids(&state), ["bucket-trouble"]);
        (state.store.trouble, state.store.requests, state.store.errors) = (None, 1000, 100);
        assert!(ids(&state).is_empty(), "a tenth is tried again");
        state.store.errors = 300;
        assert_eq!(ids(&state), ["bucket-errors"]);
        (state.store.requests, state.store.errors) = (4, 4);
        assert!(ids(&state).is_empty(), "a handful");
    }

    #[test]
    fn damage_is_told_wherever_it_was_seen() {
        let mut state = well();
        let scrub = |whole, faults, named| Some(Scrub { at: NOW, whole, faults, files: faults / 2, named });
        state.scrub = scrub(true, 0, true);
        assert!(ids(&state).is_empty());
        state.scrub = scrub(false, 2, false);
        assert_eq!(ids(&state), ["damaged:library"], "what an older version noted holds until the next scrub");
        state.scrub = scrub(false, 2, true);
        assert!(ids(&state).is_empty(), "mended since, or found right");
        state.store.damage = vec![("p/1".into(), "cut".into())];
        assert_eq!(ids(&state), ["damaged:library"]);
        state.store.damage.clear();
        state.replicas = vec![Replica { name: "far".into(), damaged: 1, ..Replica::default() }];
        assert!(ids(&state).contains(&"damaged:far".to_owned()));
    }
}
