//! Reading an archive with several borgs at once, as [`super::extract`] brings it back. A chunk that is damaged ends a
//! borg: the file it was at is named, and the next borg goes on behind it.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    thread,
};

use crate::{
    Cancel, Each, Entry, Error, Kind, Sort, Streamed, ThirdCopy, Wanted, Watch,
    borg::{
        Borg,
        extract::{Lists, deal, died},
        talk,
        verdict::judge,
    },
    choose, inside, program, stream,
    tree::landed,
};

/// Damaged files in one part, before it is given up.
const DAMAGED_MAX: usize = 100;
const DOING: &str = "reading the archive";

pub fn run(borg: &Borg, wanted: &Wanted, each: &Each, watch: &mut Watch) -> Result<Streamed, Error> {
    let mut entries = choose(&borg.entries(&wanted.archive)?, wanted)?;
    entries.retain(|entry| entry.sort == Sort::File);
    let root = inside(&wanted.root)?;
    let lists = Lists::new(borg)?;
    let parts = deal(&entries, wanted.parallel.max(1));
    // When one fails, the others needn't go on.
    let cancel = watch.cancel.clone();
    let ended = Cancel::default();
    let lists = Mutex::new(lists);
    let outcomes = thread::scope(|scope| {
        let running: Vec<_> = parts
            .into_iter()
            .map(|part| {
                let (lists, ended, cancel, root) = (&lists, &ended, &cancel, &root);
                scope.spawn(move || {
                    let outcome = one(borg, wanted, part, root, lists, each, &[cancel, ended]);
                    if outcome.is_err() {
                        ended.cancel();
                    }
                    outcome
                })
            })
            .collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|_| Err(died()))).collect::<Vec<_>>()
    });
    let mut came = Streamed::default();
    let mut failed: Option<Error> = None;
    for outcome in outcomes {
        match outcome {
            Ok(part) => came.add(part),
            // The one that failed by itself says more than those that were told to end.
            Err(error) if failed.as_ref().is_none_or(|have| have.kind == Kind::Cancelled) => failed = Some(error),
            Err(_) => {}
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let whole = came.files + came.failed.len() as u64;
    if whole != entries.len() as u64 {
        let what = format!("{DOING}: {whole} of {} files came", entries.len());
        return Err(Error::new(Kind::NotRestored, what));
    }
    Ok(came)
}

fn one(
    borg: &Borg,
    wanted: &Wanted,
    mut part: Vec<&Entry>,
    root: &[u8],
    lists: &Mutex<Lists>,
    each: &Each,
    cancels: &[&Cancel; 2],
) -> Result<Streamed, Error> {
    let mut came = Streamed::default();
    loop {
        let list = lists.lock().unwrap_or_else(PoisonError::into_inner).write(&part)?;
        let args = ["--patterns-from".to_owned(), list.to_string_lossy().into_owned()];
        let command = borg.command("export-tar", args.into_iter().chain([borg.archive(&wanted.archive), "-".into()]));
        let mut whole: HashSet<Vec<u8>> = HashSet::new();
        let (said, read) = program::pipe(command, talk::Borgs, cancels, |from| {
            stream::files(from, root, each, &mut |path| _ = whole.insert(path.to_vec()))
        })?;
        let verdict = judge(&said, DOING, Kind::NotRestored);
        let error = match (verdict, read) {
            (Ok(_), Ok(read)) => {
                came.add(read);
                return Ok(came);
            }
            (Ok(_), Err(error)) => return Err(stream::broken(DOING, &error)),
            (Err(error), _) => error,
        };
        came.files += whole.len() as u64;
        came.bytes += part.iter().filter(|entry| whole.contains(&entry.path)).map(|entry| entry.size).sum::<u64>();
        // Borg goes through them in the archive's order, which is that of the part.
        let at = part.iter().position(|entry| !whole.contains(&entry.path));
        let Some(at) = at.filter(|_| error.kind == Kind::Damaged && came.failed.len() < DAMAGED_MAX) else {
            return Err(error);
        };
        came.failed.push((landed(part[at], root).to_vec(), error.to_string()));
        part.drain(..=at);
        part.retain(|entry| !whole.contains(&entry.path));
        if part.is_empty() {
            return Ok(came);
        }
    }
}
