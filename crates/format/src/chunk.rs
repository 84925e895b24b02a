//! Where a file is cut.
//!
//! Up to 1 MiB a file is one chunk: photos' thumbnails, sidecars and small originals dedup as a whole anyway.
//! Longer content is cut by FastCDC (256 KiB / 1 MiB / 4 MiB), so that an insertion moves few cuts.

use fastcdc::v2020::FastCDC;

/// Content up to this long is one chunk.
pub const WHOLE_MAX: usize = 1 << 20;
/// No chunk is longer.
pub const CHUNK_MAX: usize = 4 << 20;
const CHUNK_MIN: usize = 256 << 10;
const CHUNK_AVG: usize = 1 << 20;

/// The lengths of the chunks of `data`, in order.
///
/// `first` says that a file's content begins here, `last` that it ends here. When more will follow, the end that
/// may still change is left out, so the sum may be less than `data.len()`. Content gets the same cuts whether it
/// comes at once or in pieces that each begin where the cuts of the last ended.
pub fn cut(data: &[u8], first: bool, last: bool) -> Vec<usize> {
    if data.is_empty() {
        return Vec::new();
    }
    if first && last && data.len() <= WHOLE_MAX {
        return vec![data.len()];
    }
    if !last && data.len() <= WHOLE_MAX {
        return Vec::new();
    }
    let mut cuts: Vec<usize> = FastCDC::new(data, CHUNK_MIN, CHUNK_AVG, CHUNK_MAX).map(|chunk| chunk.length).collect();
    if !last {
        cuts.pop();
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        blake3::Hasher::new().update(b"cut").finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn cuts_cover_everything_and_stay_within_bounds() {
        for length in [1, WHOLE_MAX, WHOLE_MAX + 1, 20 << 20] {
            let cuts = cut(&noise(length), true, true);
            assert_eq!(cuts.iter().sum::<usize>(), length);
            assert!(cuts.iter().all(|&n| n > 0 && n <= CHUNK_MAX));
        }
        assert!(cut(&[], true, true).is_empty());
    }

    #[test]
    fn cuts_made_before_the_end_is_known_are_those_made_after() {
        let data = noise(30 << 20);
        let whole = cut(&data, true, true);
        let early = cut(&data[..17 << 20], true, false);
        assert!(early.len() > 5);
        assert_eq!(early, whole[..early.len()]);
        let rest = cut(&data[early.iter().sum()..], false, true);
        assert_eq!(rest, whole[early.len()..]);
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let data = noise(20 << 20);
        let mut changed = data.clone();
        changed.splice(5 << 20..5 << 20, *b"one more sentence");
        let ids = |data: &[u8]| {
            let mut at = 0;
            let take = |n: usize| {
                at += n;
                blake3::hash(&data[at - n..at])
            };
            cut(data, true, true).into_iter().map(take).collect::<std::collections::HashSet<_>>()
        };
        assert!(ids(&changed).difference(&ids(&data)).count() <= 3);
    }
}
