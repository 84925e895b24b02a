//! POSIX access control lists, as the kernel passes them (`linux/posix_acl_xattr.h`):
//! ```text
//!     version 2, u32 LE ‖ (tag u16, permissions u16, id u32)*
//! ```
//! The permission bits of the mode and the list tell the same: the owner's entry is the owner's bits, the mask (or,
//! without one, the group's entry) is the group's bits, the others' entry is the others' bits.

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// A valid list: one owner, one group, one others; a mask where there are named users or groups; in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// From the bytes of the extended attribute. `None` if they are no valid list.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk()?;
        if u32::from_le_bytes(*version) != VERSION || rest.len() % 8 != 0 {
            return None;
        }
        let entry = |e: &[u8]| Entry {
            tag: u16::from_le_bytes([e[0], e[1]]),
            perm: u16::from_le_bytes([e[2], e[3]]),
            id: u32::from_le_bytes([e[4], e[5], e[6], e[7]]),
        };
        let acl = Self { entries: rest.chunks_exact(8).map(entry).collect() };
        acl.valid().then_some(acl)
    }

    /// Whether the bytes are a list without entries, which means to have none.
    pub fn is_empty(bytes: &[u8]) -> bool {
        bytes == VERSION.to_le_bytes()
    }

    fn valid(&self) -> bool {
        let count = |tag| self.entries.iter().filter(|e| e.tag == tag).count();
        let named = count(USER) + count(GROUP) > 0;
        count(USER_OBJ) == 1
            && count(GROUP_OBJ) == 1
            && count(OTHER) == 1
            && count(MASK) <= 1
            && (!named || count(MASK) == 1)
            && self.entries.iter().all(|e| e.perm <= 7 && matches!(e.tag, 1 | 2 | 4 | 8 | 0x10 | 0x20))
            && self.entries.iter().all(|e| !matches!(e.tag, USER | GROUP) || e.id != NO_ID)
            && self.entries.is_sorted_by_key(|e| e.tag)
    }

    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(4 + 8 * self.entries.len());
        out.put_u32_le(VERSION);
        for entry in &self.entries {
            out.put_u16_le(entry.tag);
            out.put_u16_le(entry.perm);
            out.put_u32_le(if matches!(entry.tag, USER | GROUP) { entry.id } else { NO_ID });
        }
        out.freeze()
    }

    /// Whether the mode says all that the list says.
    pub fn is_plain(&self) -> bool {
        self.entries.iter().all(|e| matches!(e.tag, USER_OBJ | GROUP_OBJ | OTHER))
    }

    fn group_class(&self) -> u16 {
        if self.entries.iter().any(|e| e.tag == MASK) { MASK } else { GROUP_OBJ }
    }

    fn each_class(&mut self, mut change: impl FnMut(&mut u16, u32)) {
        let group = self.group_class();
        for entry in &mut self.entries {
            match entry.tag {
                USER_OBJ => change(&mut entry.perm, 6),
                tag if tag == group => change(&mut entry.perm, 3),
                OTHER => change(&mut entry.perm, 0),
                _ => {}
            }
        }
    }

    /// `mode` with the permission bits the list gives.
    pub fn mode(&self, mode: u32) -> u32 {
        let mut bits = 0;
        self.clone().each_class(|perm, shift| bits |= u32::from(*perm) << shift);
        mode & !0o777 | bits
    }

    /// As chmod: the list takes the permission bits of `mode`.
    pub fn chmod(&mut self, mode: u32) {
        self.each_class(|perm, shift| *perm = (mode >> shift & 7) as u16);
    }

    /// For a new file under a default list: takes away what `mode` does not have, and gives the mode that results.
    pub fn limit(&mut self, mode: u32) -> u32 {
        self.each_class(|perm, shift| *perm &= (mode >> shift & 7) as u16);
        self.mode(mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Bytes {
        let entries = entries.iter().map(|&(tag, perm, id)| Entry { tag, perm, id }).collect();
        Acl { entries }.to_bytes()
    }

    #[test]
    fn lists_come_back_and_bad_ones_do_not() {
        let good = acl(&[(1, 7, 0), (2, 5, 1000), (4, 5, 0), (16, 5, 0), (32, 0, 0)]);
        assert_eq!(Acl::parse(&good).unwrap().to_bytes(), good);
        for bad in [
            acl(&[(1, 7, 0), (2, 5, 1000), (4, 5, 0), (32, 0, 0)]),
            acl(&[(4, 7, 0), (1, 5, 0), (32, 0, 0)]),
            acl(&[(1, 8, 0), (4, 5, 0), (32, 0, 0)]),
            acl(&[(1, 7, 0), (4, 5, 0)]),
        ] {
            assert_eq!(Acl::parse(&bad), None);
        }
        assert_eq!(Acl::parse(b""), None);
        assert!(Acl::is_empty(&[2, 0, 0, 0]));
    }

    #[test]
    fn the_mask_is_the_groups_bits() {
        let mut list = Acl::parse(&acl(&[(1, 7, 0), (2, 7, 5), (4, 1, 0), (16, 6, 0), (32, 4, 0)])).unwrap();
        assert_eq!(list.mode(0o100000), 0o100764);
        list.chmod(0o751);
        assert_eq!(list.mode(0), 0o751);
        assert_eq!(list.entries[2].perm, 1);
        assert_eq!(list.limit(0o640), 0o640);
        assert!(!list.is_plain());
    }
}
