//! Ids of rows by slot, four bytes each while they are not far from each other.

use super::arena::{bytes_of_vec, grow};
use crate::ids::RowId;
use crate::kernel::prefetch;

/// What four bytes tell apart.
const SPAN: u64 = 1 << 32;

/// A move of the base leaves half of this on either side, so that the next one, which looks at
/// every row as well, is more than a hundred million ids away.
const ROOM_MIN: u64 = 1 << 28;

/// Ids by slot. What a vacant slot has means nothing.
pub(super) enum RowIds {
    /// Each id less a base, which is beyond none of them.
    Near { base: u64, offsets: Vec<u32> },
    /// Ids that were once too far from each other.
    Far(Vec<RowId>),
}

impl Default for RowIds {
    fn default() -> Self {
        let (base, offsets) = (0, Vec::new());
        Self::Near { base, offsets }
    }
}

impl RowIds {
    #[inline]
    pub(super) fn get(&self, slot: usize) -> RowId {
        match self {
            Self::Near { base, offsets } => near(*base, offsets[slot]),
            Self::Far(ids) => ids[slot],
        }
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        match self {
            Self::Near { offsets, .. } => offsets.reserve_exact(rows),
            Self::Far(ids) => ids.reserve_exact(rows),
        }
    }

    /// Asks for what [`Self::get`] will read.
    #[inline]
    pub(super) fn prefetch(&self, slot: usize) {
        match self {
            Self::Near { offsets, .. } => prefetch(offsets.get(slot..=slot).unwrap_or_default()),
            Self::Far(ids) => prefetch(ids.get(slot..=slot).unwrap_or_default()),
        }
    }

    /// Gives a slot its id. `taken` are the slots whose ids still mean something.
    pub(super) fn put(&mut self, slot: usize, id: RowId, taken: impl Iterator<Item = usize>) {
        if !self.fits(id) {
            self.make_fit(id, taken);
        }
        match self {
            Self::Near { base, offsets } => {
                grow(offsets, slot + 1, 0);
                offsets[slot] = (id.get() - *base) as u32;
            }
            Self::Far(ids) => {
                grow(ids, slot + 1, RowId::default());
                ids[slot] = id;
            }
        }
    }

    fn fits(&self, id: RowId) -> bool {
        match self {
            Self::Near { base, .. } => (*base..*base + SPAN).contains(&id.get()),
            Self::Far(_) => true,
        }
    }

    /// Moves the base to where one more id fits, or gives the base up if the ids are too far from
    /// each other.
    fn make_fit(&mut self, id: RowId, taken: impl Iterator<Item = usize>) {
        let Self::Near { base, offsets } = self else {
            return;
        };
        let taken = taken.map(|slot| near(*base, offsets[slot]));
        let (low, high) = taken.fold((id, id), |(low, high), id| (low.min(id), high.max(id)));
        let room = SPAN.saturating_sub(high.get() - low.get() + 1);
        if room < ROOM_MIN {
            let mut ids = Vec::with_capacity(offsets.capacity());
            ids.extend(offsets.iter().map(|&offset| near(*base, offset)));
            *self = Self::Far(ids);
            return;
        }
        let moved = low.get().saturating_sub(room / 2);
        for offset in offsets {
            // What a vacant slot has may wrap.
            let id = near(*base, *offset).get();
            *offset = id.wrapping_sub(moved) as u32;
        }
        *base = moved;
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Near { offsets, .. } => bytes_of_vec(offsets),
            Self::Far(ids) => bytes_of_vec(ids),
        }
    }
}

#[inline]
fn near(base: u64, offset: u32) -> RowId {
    RowId::new(base + u64::from(offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ROW_ID_END;

    /// The widest that ids may be apart, whatever the order they come in.
    const WIDE: u64 = SPAN - ROOM_MIN;

    /// Puts ids into slots from 0 on and gives the bytes of each, all of which must last.
    fn put(ids: &[u64]) -> usize {
        let mut row_ids = RowIds::default();
        row_ids.reserve(ids.len());
        for (slot, &id) in ids.iter().enumerate() {
            row_ids.put(slot, RowId::new(id), 0..slot);
            for (slot, &id) in ids[..=slot].iter().enumerate() {
                assert_eq!(row_ids.get(slot), RowId::new(id));
            }
        }
        row_ids.memory() / ids.len()
    }

    #[test]
    fn ids_take_four_bytes_while_they_span_less_than_32_bits() {
        let last = ROW_ID_END - 1;
        assert_eq!(put(&[0, 5, SPAN - 1]), 4);
        assert_eq!(put(&[SPAN - 1, 5, 0]), 4);
        for first in [7 * SPAN, 7 * SPAN + 9, last + 1 - WIDE] {
            let (above, below) = (first + WIDE - 1, first + 3);
            assert_eq!(put(&[first, above, below]), 4);
            assert_eq!(put(&[above, below, first]), 4);
            assert_eq!(put(&[below, above, below, first]), 4);
        }
        // Beyond the span, and below the base.
        assert_eq!(put(&[0, 5, SPAN, 6]), 8);
        assert_eq!(put(&[9 * SPAN, 9 * SPAN + 7, 8 * SPAN + 6]), 8);
        assert_eq!(put(&[0, last, 0, last]), 8);
    }

    #[test]
    fn ids_that_are_gone_hold_none_back() {
        // A window of 100 rows moves on by more than the span, many times over.
        let mut row_ids = RowIds::default();
        let id_of = |turn: u64| RowId::new(turn * (SPAN / 300));
        for turn in 0..30_000 {
            let slot = (turn % 100) as usize;
            let taken = (0..100.min(turn as usize)).filter(|&other| other != slot);
            row_ids.put(slot, id_of(turn), taken);
            let oldest = turn.saturating_sub(99);
            for turn in [oldest, turn] {
                assert_eq!(row_ids.get((turn % 100) as usize), id_of(turn));
            }
        }
        assert!(matches!(row_ids, RowIds::Near { .. }));
    }
}
