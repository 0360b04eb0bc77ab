//! What a turbo index says about itself: its memory, its faults, its fingerprint.

use turbovec::TurboQuantIndex;
use xxhash_rust::xxh3::Xxh3;

use super::{FREE, Turbo};
use crate::ids::{RowId, Slot};
use crate::inner_index::IndexMemory;

/// Rows in one block of turbovec's layout.
const LANES: usize = 32;

impl Turbo {
    /// turbovec does not say what it has allocated: its part follows from its layout, whole
    /// blocks of rows, and an eighth more, which is what it keeps spare as it grows.
    pub(crate) fn memory(&self) -> IndexMemory {
        // Three bits are laid out as four once they are in blocks.
        let row = self.frame.width() / if self.bits == 2 { 4 } else { 2 };
        let codes = self.codes.as_ref().map_or(0, |codes| {
            let tight = codes.len().next_multiple_of(LANES) * row + 4 * codes.len();
            tight + tight / 8
        });
        IndexMemory {
            codes,
            links: 0,
            other: self.copies.memory()
                + size_of::<Slot>() * self.slots.capacity()
                + size_of::<RowId>() * (self.ids.capacity() + self.hidden.capacity())
                + size_of::<u32>() * self.positions.capacity()
                + size_of::<f32>() * (self.loading.capacity() + self.row.capacity()),
        }
    }

    pub(crate) fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let rows = self.ids.len();
        if self.slots.len() != rows {
            faults.push(format!("{rows} ids and {} slots", self.slots.len()));
        }
        if let Some(codes) = &self.codes {
            let held = codes.len() + self.loading.len() / self.frame.width();
            if held != rows {
                faults.push(format!("{held} codes for {rows} rows"));
            }
        }
        for (position, &slot) in self.slots.iter().enumerate() {
            if self.position(slot) != Some(position) {
                faults.push(format!(
                    "slot {} is not at its position {position}",
                    slot.index()
                ));
            }
        }
        let taken = self
            .positions
            .iter()
            .filter(|&&position| position != FREE)
            .count();
        if taken != rows {
            faults.push(format!("{taken} slots taken by {rows} rows"));
        }
        let mut ids = self.ids.clone();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            faults.push(format!("two rows have id {}", pair[0]));
        }
        if self.hidden != ids[ids.partition_point(|&id| id < self.limit)..] {
            faults.push(format!(
                "the hidden rows are not those from id {} on",
                self.limit
            ));
        }
        faults
    }

    /// Independent of positions, which deletes shuffle and answers do not show.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        let blocks = self
            .codes
            .as_ref()
            .map(TurboQuantIndex::codes_blocked_seq)
            .unwrap_or_default();
        let scales = self
            .codes
            .as_ref()
            .map(TurboQuantIndex::scales)
            .unwrap_or_default();
        let row = blocks.len() / self.ids.len().next_multiple_of(LANES).max(1);
        let mut order: Vec<_> = (0..self.ids.len()).collect();
        order.sort_unstable_by_key(|&position| self.ids[position]);
        for position in order {
            hash.update(&self.ids[position].get().to_le_bytes());
            if let Some(scale) = scales.get(position) {
                hash.update(&scale.to_le_bytes());
                // A block holds byte 0 of its 32 rows, then byte 1 of each, and so on.
                let start = position / LANES * LANES * row + position % LANES;
                let bytes = blocks[start..].iter().step_by(LANES).take(row);
                hash.update(&bytes.copied().collect::<Vec<_>>());
            }
        }
        hash.digest()
    }
}
