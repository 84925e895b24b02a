//! The mount, the queue, the bucket.

use super::{Finding, Limits, long, size};
use crate::state::{Queue, Scrub, Sight, State};

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
        return behind(queue, state.now, limits).into_iter().collect();
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

/// Seconds that a queue must have been watched before its pace says something.
pub(super) const PACE: i64 = 3600;

/// A queue that moves, and too slowly.
fn behind(queue: &Queue, now: i64, limits: &Limits) -> Option<Finding> {
    let age = now - queue.since.filter(|_| queue.changes > 0)?;
    if age <= limits.queue_behind || empties_soon(queue, now, limits)? {
        return None;
    }
    let title = format!(
        "the upload does not keep up: the oldest of {} changes ({}) has waited for {}",
        queue.changes,
        size(queue.bytes),
        long(age)
    );
    Some(
        Finding::warning("queue-behind", "", title)
            .means(format!(
                "the newest {} of photos are on this machine's disk alone: its loss would cost them",
                long(age)
            ))
            .next("haven status    tells how much is on its way, and how fast the bucket takes it")
            .next("wait, if much was added; else a faster line, or schedule.bandwidth and store.limit in haven.toml"),
    )
}

/// Whether it would be empty soon at the pace of the last hours; none: it was not watched for so long.
fn empties_soon(queue: &Queue, now: i64, limits: &Limits) -> Option<bool> {
    let before = queue.before.filter(|before| now - before.at >= PACE)?;
    // Where all that waits is records, these are counted.
    let (then, left) = match (before.bytes, queue.bytes) {
        (0, 0) => (before.changes, queue.changes),
        bytes => bytes,
    };
    let sent = then.saturating_sub(left);
    Some(sent > 0 && left as f64 * (now - before.at) as f64 / sent as f64 <= limits.queue_behind as f64)
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

/// The share of a library that may be removed or written anew within a day.
const CHANGE: f64 = 0.3;
/// So much is no matter, whatever share it is: files, and bytes.
const CHANGE_FILES: u64 = 100;
const CHANGE_BYTES: u64 = 1_000_000_000;

/// Much of the library is not what it was a day ago. By its sums: that is cheap, and what they can't tell is not said. The brake
/// does not see it, for snapshots keep what was there.
pub fn change(state: &State, _: &Limits) -> Vec<Finding> {
    let Some(then) = &state.day_ago else { return Vec::new() };
    let (was, is) = (&then.sums, &state.sums);
    let share = |part: u64, whole: u64, floor: u64| {
        let share = part as f64 / whole.max(1) as f64;
        (part >= floor && share > CHANGE).then_some((share.min(1.0) * 100.0).round())
    };
    let files = share(was.files.saturating_sub(is.files), was.files, CHANGE_FILES);
    let bytes = share(was.file_bytes.saturating_sub(is.file_bytes), was.file_bytes, CHANGE_BYTES);
    // Content that came to the library without making it larger took the place of other content. What was given up meanwhile,
    // or was there twice, hides some of it.
    let grown = is.file_bytes.saturating_sub(was.file_bytes);
    let anew = is.content_bytes.saturating_sub(was.content_bytes).saturating_sub(grown);
    let anew = share(anew, was.file_bytes, CHANGE_BYTES);
    let said: Vec<String> = [
        files.map(|share| format!("it has {share} % fewer files")),
        bytes.map(|share| format!("it is {share} % smaller")),
        anew.map(|share| format!("at least {share} % was written anew")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if said.is_empty() {
        return Vec::new();
    }
    let title =
        format!("much of the library is not what it was {} ago: {}", long(state.now - then.at), said.join(", "));
    vec![
        Finding::warning("mass-change", "", title)
            .means("a great cleaning-up looks like this, and so do a mistake and ransomware. Snapshots and recovery points still have what was there, until they are pruned; the brake holds back only what nothing keeps any more")
            .next("haven snapshot list    names one from before")
            .next("haven snapshot diff NAME    tells what was removed and changed since")
            .next("haven snapshot protect NAME --until 90d    keeps it, if you did not mean that")
            .next("if you did, nothing is to be done: in a day it is over"),
    ]
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            findings,
            tests::{DAY, HOUR, NOW, ids, well},
        },
        *,
    };
    use crate::state::{Amount, Length, Replica, Restoring, Sums, Then};

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
    fn a_queue_that_moves_and_does_not_keep_up_is_told() {
        const GB: u64 = 1_000_000_000;
        let state = |age, hours: i64, then: u64, left| {
            let mut state = well();
            state.queue = Queue {
                changes: 5000,
                bytes: left * GB,
                since: Some(NOW - age),
                before: Some(Length { at: NOW - hours * HOUR, changes: 11_000, bytes: then * GB }),
                ..Queue::default()
            };
            state
        };
        assert!(ids(&state(5 * HOUR, 6, 10, 10)).is_empty(), "some hours may pass");
        assert_eq!(ids(&state(7 * HOUR, 6, 10, 10)), ["queue-behind"], "it does not shrink");
        assert_eq!(ids(&state(7 * HOUR, 6, 10, 40)), ["queue-behind"], "it grows");
        assert_eq!(ids(&state(7 * HOUR, 6, 500, 480)), ["queue-behind"], "six days at this pace");
        assert!(ids(&state(7 * HOUR, 6, 500, 240)).is_empty(), "it is done soon");
        assert!(ids(&state(7 * HOUR, 2, 500, 370)).is_empty(), "and so after two hours of watching");
        assert!(ids(&state(7 * HOUR, 0, 10, 10)).is_empty(), "nobody has watched it yet");
        let records = state(7 * HOUR, 6, 0, 0);
        assert!(ids(&records).is_empty(), "6000 of 11,000 have gone");
        let mut stuck = state(7 * HOUR, 6, 10, 10);
        stuck.queue.stuck_since = Some(NOW - HOUR);
        assert_eq!(ids(&stuck), ["queue-stuck"]);
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
    fn a_library_of_which_much_was_removed_or_written_anew_is_told_and_one_that_grew_is_not() {
        const GB: u64 = 1_000_000_000;
        let sums = |files, gb: u64, content: u64| Sums {
            files,
            file_bytes: gb * GB,
            stored_bytes: content * GB,
            content_bytes: content * GB,
        };
        let told = |was: Sums, is: Sums| {
            let state = State { sums: is, day_ago: Some(Then { at: NOW - DAY, sums: was }), ..well() };
            findings(&state, &Limits::default()).into_iter().map(|one| one.title).collect::<Vec<_>>().join("\n")
        };
        let was = sums(10_000, 100, 90);
        for usual in [was, sums(30_000, 300, 290), sums(7100, 75, 90), sums(10_000, 100, 119), sums(10_000, 130, 149)] {
            assert_eq!(told(was, usual), "", "{usual:?}");
        }
        let ago = "much of the library is not what it was 24 hours ago: ";
        assert_eq!(told(was, sums(5000, 100, 90)), format!("{ago}it has 50 % fewer files"));
        assert_eq!(told(was, sums(1, 0, 90)), format!("{ago}it has 100 % fewer files, it is 100 % smaller"));
        // Each photo was overwritten by as many bytes.
        assert_eq!(told(was, sums(10_000, 100, 190)), format!("{ago}at least 100 % was written anew"));
        assert_eq!(told(was, sums(10_000, 120, 151)), format!("{ago}at least 41 % was written anew"));
        assert_eq!(told(sums(90, 0, 0), sums(1, 0, 0)), "", "a library that was just begun");
        let state = State { sums: sums(1, 0, 0), ..well() };
        assert!(ids(&state).is_empty(), "nothing is known of the day before");
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
