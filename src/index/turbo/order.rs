//! Puts loaded codes into the order of row ids, which the walk at open does not have.

use turbovec::TurboQuantIndex;

use super::Turbo;
use crate::error::IndexError;

impl Turbo {
    /// Sorts every row by its id, as if it had been loaded in that order: a code depends on its
    /// own row and the frame alone.
    pub(super) fn sort(&mut self) -> Result<(), IndexError> {
        let mut order: Vec<u32> = (0..self.ids.len() as u32).collect();
        order.sort_unstable_by_key(|&position| self.ids[position as usize]);
        if let Some(codes) = &self.codes {
            let width = self.frame.width();
            let row = width * self.bits / 8;
            let packed = codes.packed_codes();
            let mut sorted = Vec::with_capacity(packed.len());
            for &position in &order {
                let start = position as usize * row;
                sorted.extend_from_slice(&packed[start..start + row]);
            }
            let scales = order
                .iter()
                .map(|&at| codes.scales()[at as usize])
                .collect();
            // The unsorted codes go before the sorted ones are laid out, to spare the memory.
            self.codes = None;
            let (rows, bits) = (order.len(), self.bits);
            let codes = TurboQuantIndex::from_parts(
                Some(width),
                bits,
                rows,
                sorted,
                scales,
                Vec::new(),
                Vec::new(),
            );
            self.codes = Some(codes.map_err(|e| IndexError::Turbo {
                detail: e.to_string(),
            })?);
        }
        self.slots = order.iter().map(|&at| self.slots[at as usize]).collect();
        self.ids = order.iter().map(|&at| self.ids[at as usize]).collect();
        for (position, slot) in self.slots.iter().enumerate() {
            self.positions[slot.index()] = position as u32;
        }
        self.version += 1;
        Ok(())
    }

    /// Lays the codes out for searching and lets go of what only loading needed.
    pub(super) fn settle(&mut self) {
        let width = self.frame.width();
        let Some(codes) = self.codes.as_mut().filter(|codes| !codes.is_empty()) else {
            return;
        };
        codes.prepare();
        // turbovec drops its row-by-row copy of the codes when a row is added, and the scratch of
        // a large batch when the second small one is: so two rows come and go.
        let empty = vec![0.0; width];
        for _ in 0..2 {
            if codes.add_2d(&empty, width).is_ok() {
                codes.swap_remove(codes.len() - 1);
            }
        }
    }
}
