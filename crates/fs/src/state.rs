//! Where the bytes of a file are: in memory, on this machine, or in the bucket and since when.
//!
//! The vault tells how far the bucket has come, as a position among all commits. Kept here is which commit changed an
//! inode last, for those changed in this session; everything else was changed before the session began.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
};

use haven_format::{Ino, TxSeq, record::Time};
use parking_lot::Mutex;

use crate::{Fs, Result, is_past};

/// The extended attribute that tells it, for anybody to read. It is not listed, so that copies don't carry it along.
pub const STATE_ATTRIBUTE: &[u8] = b"user.haven.state";

/// Inodes remembered before those whose changes are in the bucket are dropped.
const REMEMBERED: usize = 100_000;
/// Moments remembered at which the bucket had come further.
const MOMENTS: usize = 4096;

/// Where the newest change of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// Written, not closed, and not yet stored.
    Memory,
    /// On this machine.
    Local,
    /// In the bucket, and when that was first known. Unknown for what was there before the session began.
    Bucket { since: Option<Time> },
}

impl fmt::Display for FileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Local => f.write_str("local"),
            Self::Bucket { since: None } => f.write_str("bucket"),
            Self::Bucket { since: Some(time) } => write!(f, "bucket {}", utc(*time)),
        }
    }
}

/// As `2026-07-01T12:00:00Z`.
fn utc(time: Time) -> String {
    let (days, second) = (time.seconds.div_euclid(86_400), time.seconds.rem_euclid(86_400));
    // Days are counted from 1 March of the year 0, so that a leap day ends its year.
    let since = days + 719_468;
    let (era, day_of_era) = (since.div_euclid(146_097), since.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Which commit changed what, and how far the bucket was when.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The newest commit when the session began.
    before: TxSeq,
    changed: Mutex<HashMap<Ino, TxSeq>>,
    moments: Mutex<Moments>,
}

#[derive(Debug, Default)]
struct Moments {
    /// Positions the bucket had reached, and when that was seen; both grow.
    reached: VecDeque<(TxSeq, Time)>,
    /// Of positions up to here it is not known any more.
    forgotten: TxSeq,
}

impl Progress {
    pub fn new(before: TxSeq, uploaded: TxSeq) -> Self {
        let moments = Moments { reached: VecDeque::new(), forgotten: uploaded.min(before) };
        Self { before, changed: Mutex::default(), moments: Mutex::new(moments) }
    }

    /// `inodes` were changed by commit `seq`.
    pub fn note(&self, inodes: impl Iterator<Item = Ino>, seq: TxSeq) {
        let mut changed = self.changed.lock();
        inodes.for_each(|ino| _ = changed.insert(ino, seq));
    }

    /// The bucket has everything up to `uploaded`.
    pub fn see(&self, uploaded: TxSeq, now: Time) {
        let mut moments = self.moments.lock();
        let last = moments.reached.back().map_or(moments.forgotten, |(seq, _)| *seq);
        if uploaded > last {
            moments.reached.push_back((uploaded, now));
        }
        if moments.reached.len() > MOMENTS
            && let Some((seq, _)) = moments.reached.pop_front()
        {
            moments.forgotten = seq;
        }
        drop(moments);
        let mut changed = self.changed.lock();
        if changed.len() > REMEMBERED {
            changed.retain(|_, seq| *seq > uploaded);
        }
    }

    fn state(&self, ino: Ino, uploaded: TxSeq, now: Time) -> FileState {
        self.see(uploaded, now);
        let known = self.changed.lock().get(&ino).copied();
        let seq = known.unwrap_or(self.before);
        if seq > uploaded {
            return FileState::Local;
        }
        let moments = self.moments.lock();
        let told = known.is_some() || seq > moments.forgotten;
        let since = moments.reached.iter().find(|(reached, _)| *reached >= seq).map(|(_, time)| *time);
        FileState::Bucket { since: since.filter(|_| told && seq > moments.forgotten) }
    }
}

impl Fs {
    /// Where the newest change of `ino` is.
    pub fn file_state(&self, ino: Ino) -> Result<FileState> {
        self.record(ino)?;
        if is_past(ino) {
            // What a snapshot shows was committed before it was taken; its own upload tells nothing of a file.
            return Ok(FileState::Bucket { since: None });
        }
        if self.nodes.find(ino).is_some_and(|node| node.state.read().changed) {
            return Ok(FileState::Memory);
        }
        Ok(self.progress.state(ino, self.vault.uploaded(), self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time { seconds, nanos: 0 }
    }

    #[test]
    fn a_change_is_local_until_the_bucket_has_come_so_far() {
        let progress = Progress::new(TxSeq(10), TxSeq(8));
        let state = |ino, uploaded, now| progress.state(Ino(ino), TxSeq(uploaded), at(now));
        assert_eq!(state(1, 8, 1), FileState::Local, "the last session left something unsent");
        progress.note([Ino(2)].into_iter(), TxSeq(12));
        assert_eq!(state(1, 11, 5), FileState::Bucket { since: Some(at(5)) });
        assert_eq!(state(2, 11, 6), FileState::Local);
        assert_eq!(state(2, 20, 7), FileState::Bucket { since: Some(at(7)) });
        assert_eq!(state(2, 30, 9), FileState::Bucket { since: Some(at(7)) });
        let quiet = Progress::new(TxSeq(10), TxSeq(10));
        assert_eq!(quiet.state(Ino(1), TxSeq(10), at(1)), FileState::Bucket { since: None });
    }

    #[test]
    fn what_is_in_the_bucket_is_forgotten_before_memory_grows() {
        let progress = Progress::new(TxSeq(0), TxSeq(0));
        for n in 0..2 * REMEMBERED as u64 {
            progress.note([Ino(n)].into_iter(), TxSeq(n + 1));
            if n % 10 == 0 {
                progress.see(TxSeq(n), at(n as i64));
            }
        }
        assert!(progress.changed.lock().len() <= REMEMBERED + 20);
        assert!(progress.moments.lock().reached.len() <= MOMENTS + 1);
        let old = progress.state(Ino(3), TxSeq(u64::MAX), at(0));
        assert_eq!(old, FileState::Bucket { since: None });
    }

    #[test]
    fn moments_are_told_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(FileState::Bucket { since: Some(at(seconds)) }.to_string(), format!("bucket {text}"));
        }
    }
}
