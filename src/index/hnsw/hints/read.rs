//! From groups of bytes to records, whatever the bytes are.

use super::{BY_PLACE, BY_ROW_ID, HEAD_LEN, unzigzag};
use crate::ids::RowId;

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

/// Goes through the records of a group.
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    before: i64,
    left: u32,
    place: i64,
    by_place: bool,
}

impl<'a> Records<'a> {
    pub(super) fn of(group: &'a [u8], head: &Head) -> Self {
        Self {
            bytes: group.get(HEAD_LEN..).unwrap_or_default(),
            before: 0,
            left: head.records,
            place: head.first.cast_signed(),
            by_place: head.by_place,
        }
    }

    /// The next record: its row and its level, and its lists through `show(level, list)`. `None`
    /// at the end, and where the bytes are no record.
    pub(super) fn next(
        &mut self,
        mut show: impl FnMut(u8, &List),
        list: &mut List,
    ) -> Option<(RowId, u8)> {
        self.left = self.left.checked_sub(1)?;
        let id = self.before.checked_add(unzigzag(self.number()?))?;
        self.before = id;
        let own = if self.by_place { self.place } else { id };
        self.place = self.place.checked_add(1)?;
        let levels = self.number().filter(|&levels| levels <= LEVELS_MAX)?;
        for level in 0..=levels as u8 {
            let mutual = self.number().filter(|&links| links <= LINKS_MAX)?;
            let one_way = self.number().filter(|&links| links <= LINKS_MAX)?;
            list.links.clear();
            self.numbers(own, mutual, &mut list.links)?;
            self.numbers(own, one_way, &mut list.links)?;
            list.mutual = mutual as usize;
            show(level, list);
        }
        Some((RowId::new(u64::try_from(id).ok()?), levels as u8))
    }

    fn numbers(&mut self, own: i64, count: u64, to: &mut Vec<i64>) -> Option<()> {
        let mut before = None;
        for _ in 0..count {
            let number = self.number()?;
            let next = match before {
                None => own.checked_add(unzigzag(number))?,
                Some(before) => i64::checked_add(before, i64::try_from(number).ok()?)?,
            };
            to.push(next);
            before = Some(next);
        }
        Some(())
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for (nth, &byte) in self.bytes.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * nth);
            if byte < 0x80 {
                self.bytes = &self.bytes[nth + 1..];
                return Some(value);
            }
        }
        None
    }
}
