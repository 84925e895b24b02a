//! One call, made from a few random words.

/// Names there are to choose from: few, so that they meet; the last has 255 bytes, one is not UTF-8.
const NAMES: [&[u8]; 8] = [b"a", b"b", b"c", b"d", b"e", b"IMG_0001.jpg", b"\xff\xfe \n", &[b'x'; 255]];

/// Words that [`super::Driver`] makes a call of. What they choose depends on what there is to choose from, so any
/// words make sense, and smaller words mean simpler calls: a failing sequence shrinks by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step(pub [u32; 6]);

/// What to do, by how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Write,
    Read,
    Close,
    Open,
    Mkdir,
    Unlink,
    Rmdir,
    Rename,
    Link,
    Symlink,
    Mknod,
    Nameless,
    Truncate,
    Fsync,
    Flush,
    Allocate,
    Copy,
    Seek,
    Chmod,
    Chown,
    SetXattr,
    RemoveXattr,
    Lookup,
    Forget,
    List,
    Tick,
    FlushAll,
}

const VERBS: [(Verb, u32); 28] = [
    (Verb::Create, 12),
    (Verb::Write, 24),
    (Verb::Read, 8),
    (Verb::Close, 8),
    (Verb::Open, 6),
    (Verb::Mkdir, 6),
    (Verb::Unlink, 6),
    (Verb::Rmdir, 3),
    (Verb::Rename, 10),
    (Verb::Link, 4),
    (Verb::Symlink, 2),
    (Verb::Mknod, 1),
    (Verb::Nameless, 1),
    (Verb::Truncate, 6),
    (Verb::Fsync, 4),
    (Verb::Flush, 2),
    (Verb::Allocate, 6),
    (Verb::Copy, 5),
    (Verb::Seek, 3),
    (Verb::Chmod, 2),
    (Verb::Chown, 1),
    (Verb::SetXattr, 3),
    (Verb::RemoveXattr, 2),
    (Verb::Lookup, 3),
    (Verb::Forget, 4),
    (Verb::List, 2),
    (Verb::Tick, 4),
    (Verb::FlushAll, 1),
];

impl Step {
    /// From a source of random words.
    pub fn roll(mut dice: impl FnMut() -> u32) -> Self {
        Self(std::array::from_fn(|_| dice()))
    }

    pub(super) fn verb(&self) -> Verb {
        let total: u32 = VERBS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.0[0] % total;
        for (verb, weight) in VERBS {
            if at < weight {
                return verb;
            }
            at -= weight;
        }
        Verb::Tick
    }

    /// The word in this place, below `below`.
    pub(super) fn pick(&self, place: usize, below: usize) -> usize {
        self.0[place] as usize % below.max(1)
    }

    pub(super) fn name(&self, place: usize) -> &'static [u8] {
        NAMES[self.pick(place, NAMES.len())]
    }

    /// An offset or size: mostly small, sometimes on a round number, sometimes large.
    pub(super) fn offset(&self, place: usize) -> usize {
        let word = self.0[place] as usize;
        match word % 4 {
            0 => word / 4 % 300,
            1 => word / 4 % 64 * 4096,
            2 => word / 4 % 20_000,
            _ => word / 4 % 400_000,
        }
    }

    pub(super) fn length(&self, place: usize) -> usize {
        let word = self.0[place] as usize;
        1 + match word % 8 {
            0..4 => word / 8 % 100,
            4..6 => word / 8 % 10_000,
            6 => word / 8 % 16 * 4096 + 4095,
            _ => word / 8 % 300_000,
        }
    }

    /// Bytes that depend on the word in this place.
    pub(super) fn bytes(&self, place: usize, len: usize) -> Vec<u8> {
        let mut state = u64::from(self.0[place]).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            out.extend_from_slice(&state.to_le_bytes());
        }
        out.truncate(len);
        out
    }
}
