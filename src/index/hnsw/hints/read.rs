//! From groups of bytes to records, whatever the bytes are.

use super::{BY_PLACE, BY_ROW_ID, HEAD_LEN, unzigzag};

/// Most links of each kind that a list of a hint may have: what lists of any schema hold.
const LINKS_MAX: u64 = crate::limits::M_MAX as u64;

/// Most levels above the lowest that a record may have.
const LEVELS_MAX: u64 = super::super::nodes::LEVEL_MAX as u64;

/// What the head of a group says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) by_place: bool,
    pub(super) fingerprint: u64,
    pub(super) first: u64,
    pub(super) records: u32,
}

impl Head {
    /// The head of a group, if it is one.
    pub(super) fn of(group: &[u8]) -> Option<Self> {
        let (kind, rest) = group.split_first()?;
        let (fingerprint, rest) = rest.split_first_chunk::<8>()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let records = rest.first_chunk::<4>()?;
        Some(Self {
            by_place: match *kind {
                BY_PLACE => true,
                BY_ROW_ID => false,
                _ => return None,
            },
            fingerprint: u64::from_le_bytes(*fingerprint),
            first: u64::from_le_bytes(*first),
            records: u32::from_le_bytes(*records),
        })
    }
}

/// A list of a record.
#[derive(Default)]
pub(super) struct List {
    /// Places or row ids, those of mutual links first.
    pub(super) links: Vec<i64>,
    pub(super) mutual: usize,
}

/// Which nodes the records of a group are about.
pub(super) struct Nodes {
    pub(super) ids: Vec<u64>,
    pub(super) levels: Vec<u8>,
    /// Where in the group the lists begin.
    pub(super) lists_at: usize,
}

impl Nodes {
    /// Those of a group; `None` where the bytes do not tell of as many as the head says.
    pub(super) fn of(group: &[u8], head: &Head) -> Option<Self> {
        let mut numbers = Numbers(group.get(HEAD_LEN..)?);
        let mut before = 0;
        // No more than there are bytes for, whatever the head says.
        let room = (head.records as usize).min(group.len() / 2);
        let (mut ids, mut levels) = (Vec::with_capacity(room), Vec::with_capacity(room));
        for _ in 0..head.records {
            before = i64::checked_add(before, unzigzag(numbers.next()?))?;
            ids.push(u64::try_from(before).ok()?);
            levels.push(numbers.next().filter(|&levels| levels <= LEVELS_MAX)? as u8);
        }
        let lists_at = group.len() - numbers.0.len();
        Some(Self {
            ids,
            levels,
            lists_at,
        })
    }
}

/// Goes through the lists of a group.
pub(super) struct Lists<'a>(Numbers<'a>);

impl<'a> Lists<'a> {
    /// `bytes` of a group from where its lists begin.
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(Numbers(bytes))
    }

    /// The next list, of a node that is called `own`; `None` where the bytes are no list.
    #[inline]
    pub(super) fn next(&mut self, own: i64, list: &mut List) -> Option<()> {
        let mutual = self.0.next().filter(|&links| links <= LINKS_MAX)?;
        let one_way = self.0.next().filter(|&links| links <= LINKS_MAX)?;
        list.links.clear();
        self.links(own, mutual, &mut list.links)?;
        self.links(own, one_way, &mut list.links)?;
        list.mutual = mutual as usize;
        Some(())
    }

    #[inline]
    fn links(&mut self, own: i64, count: u64, to: &mut Vec<i64>) -> Option<()> {
        if count == 0 {
            return Some(());
        }
        let mut link = own.checked_add(unzigzag(self.0.next()?))?;
        to.push(link);
        for _ in 1..count {
            let gap = i64::try_from(self.0.next()?).ok()?;
            link = link.checked_add(gap)?;
            to.push(link);
        }
        Some(())
    }
}

/// Numbers of seven bits a byte.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    #[inline]
    fn next(&mut self) -> Option<u64> {
        // Nearly all numbers have one byte or two, and nobody can tell which: so without a branch.
        if let [first, second, ..] = *self.0 {
            let two = first >> 7;
            if two & (second >> 7) == 0 {
                let high = u64::from(second) << 7 & u64::from(two).wrapping_neg();
                self.0 = &self.0[1 + usize::from(two)..];
                return Some(u64::from(first & 0x7f) | high);
            }
        }
        self.long()
    }

    fn long(&mut self) -> Option<u64> {
        let mut value = 0;
        for (nth, &byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * nth);
            if byte < 0x80 {
                self.0 = &self.0[nth + 1..];
                return Some(value);
            }
        }
        None
    }
}
