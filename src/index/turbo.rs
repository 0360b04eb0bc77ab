//! The turbo index: a scan of 2, 3 or 4 bit codes by the `turbovec` crate.
//!
//! Its answers are estimates, re-ranked by the store from the rows on disk. turbovec knows rows by
//! position and fills a hole with its last row; here every position has its row's slot and id.

mod check;
mod copies;
mod frame;
mod order;
#[cfg(test)]
mod tests;

use turbovec::TurboQuantIndex;
use xxhash_rust::xxh3::xxh3_64;

use self::copies::Copies;
pub(crate) use self::frame::FitAccumulator;
use self::frame::Frame;
use super::{Candidate, Entry, IndexSpec, Plan, SearchSpec};
use crate::distance::Distance;
use crate::encoding::EncodedView;
use crate::error::IndexError;
use crate::ids::{RowId, Slot};

/// Rows handed to turbovec at once: the fastest size measured.
const BATCH: usize = 4_096;

/// Up to this many rows every row is a candidate: too few to fit, and quick to read.
const SCAN_MIN: usize = 256;

/// No position: the slot is free.
const FREE: u32 = u32::MAX;

/// A scan of quantised rows.
pub(crate) struct Turbo {
    frame: Frame,
    bits: usize,
    /// `None` where codes could not answer (Euclidean rows without a fit): then every visible row
    /// is a candidate.
    codes: Option<TurboQuantIndex>,
    /// By position, the rows in `loading` last.
    slots: Vec<Slot>,
    ids: Vec<RowId>,
    /// By slot.
    positions: Vec<u32>,
    copies: Copies,
    /// Coordinates of the latest loaded rows, until there are enough to encode.
    loading: Vec<f32>,
    /// Rows at or beyond this id are hidden.
    limit: RowId,
    /// Their ids, ascending.
    hidden: Vec<RowId>,
    version: u64,
    /// Scratch for decoding.
    row: Vec<f32>,
}

/// Rows translated and ready to be encoded.
pub(crate) struct TurboPatch {
    /// Slot, id and hash of the stored vector.
    rows: Vec<(Slot, RowId, u64)>,
    coordinates: Vec<f32>,
}

impl Turbo {
    pub(crate) fn new(spec: &IndexSpec) -> Result<Self, IndexError> {
        let frame = Frame::new(spec.dim, spec.distance, spec.fit.as_ref())?;
        let refused = |detail: String| IndexError::Turbo { detail };
        let bits = spec
            .codec
            .turbovec_bits()
            .ok_or_else(|| refused(format!("codec {} has no turbo codes", spec.codec)))?;
        // Made even where it goes unused, so that an impossible width is refused at once.
        let codes =
            TurboQuantIndex::new(frame.width(), bits).map_err(|e| refused(e.to_string()))?;
        let scanned = spec.fit.is_some() || spec.distance != Distance::Euclidean;
        Ok(Self {
            frame,
            bits,
            codes: scanned.then_some(codes),
            slots: Vec::new(),
            ids: Vec::new(),
            positions: Vec::new(),
            copies: Copies::default(),
            loading: Vec::new(),
            limit: RowId::new(0),
            hidden: Vec::new(),
            version: 0,
            row: vec![0.0; spec.dim],
        })
    }

    pub(crate) fn reserve(&mut self, rows: usize) {
        self.slots.reserve(rows);
        self.ids.reserve(rows);
        self.positions.reserve(rows);
    }

    /// Rows are encoded as they come, a batch at a time: kept as floats until `build` they would
    /// take eight times the memory of their codes and more.
    pub(crate) fn load(&mut self, slot: Slot, id: RowId, vector: EncodedView<'_>) {
        self.enter(slot, id, xxh3_64(vector.bytes));
        if self.codes.is_none() {
            return;
        }
        decode(vector, &mut self.row);
        self.frame.push_row(&self.row, &mut self.loading);
        if self.loading.len() >= BATCH * self.frame.width() {
            self.encode_loaded();
        }
    }

    pub(crate) fn build(
        &mut self,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<(), IndexError> {
        self.encode_loaded();
        self.loading = Vec::new();
        let total = self.ids.len();
        if !progress(0, total) {
            return Err(IndexError::Cancelled);
        }
        if !self.ids.is_sorted() {
            self.sort()?;
        }
        let (positions, ids) = (&self.positions, &self.ids);
        let id_of = |slot: Slot| Some(ids[positions[slot.index()] as usize]);
        self.copies.sort(id_of);
        self.settle();
        if let Some(last) = self.ids.last() {
            self.publish(self.limit.max(RowId::new(last.get().saturating_add(1))));
        }
        if progress(total, total) {
            Ok(())
        } else {
            Err(IndexError::Cancelled)
        }
    }

    /// There is nothing to plan: a row is encoded without looking at any other.
    pub(crate) fn plan(&self, _vector: EncodedView<'_>) -> Option<Plan> {
        None
    }

    pub(crate) fn prepare(&self, entries: Vec<Entry<'_>>) -> TurboPatch {
        let mut patch = TurboPatch {
            rows: Vec::with_capacity(entries.len()),
            coordinates: Vec::new(),
        };
        let mut row = vec![0.0; self.row.len()];
        for entry in entries {
            let hash = xxh3_64(entry.vector.bytes);
            patch.rows.push((entry.slot, entry.id, hash));
            if self.codes.is_some() {
                decode(entry.vector, &mut row);
                self.frame.push_row(&row, &mut patch.coordinates);
            }
        }
        patch
    }

    pub(crate) fn apply(&mut self, patch: TurboPatch) {
        self.encode_loaded();
        for (slot, id, hash) in patch.rows {
            self.enter(slot, id, hash);
            if id >= self.limit {
                debug_assert!(
                    self.hidden.last() < Some(&id),
                    "ids come in ascending order"
                );
                self.hidden.push(id);
            }
        }
        self.encode(&patch.coordinates);
    }

    pub(crate) fn publish(&mut self, limit: RowId) {
        let rises = limit >= self.limit;
        self.limit = limit;
        if rises {
            let shown = self.hidden.partition_point(|&id| id < limit);
            self.hidden.drain(..shown);
            self.version += u64::from(shown > 0);
        } else {
            self.hidden = self.ids.iter().copied().filter(|&id| id >= limit).collect();
            self.hidden.sort_unstable();
            self.version += 1;
        }
    }

    pub(crate) fn remove(&mut self, slot: Slot) {
        self.encode_loaded();
        let Some(position) = self.position(slot) else {
            return;
        };
        let (positions, ids) = (&self.positions, &self.ids);
        let id_of = |other: Slot| Some(ids[positions[other.index()] as usize]);
        self.copies.remove(slot, id_of);
        self.positions[slot.index()] = FREE;
        self.slots.swap_remove(position);
        let id = self.ids.swap_remove(position);
        if let Some(moved) = self.slots.get(position) {
            self.positions[moved.index()] = position as u32;
        }
        if let Some(codes) = &mut self.codes {
            codes.swap_remove(position);
        }
        if let Ok(at) = self.hidden.binary_search(&id) {
            self.hidden.remove(at);
        }
        self.version += 1;
    }

    /// Deleted rows leave nothing behind.
    pub(crate) fn maintain(&self, _budget: usize) -> Option<TurboPatch> {
        None
    }

    pub(crate) fn search(&self, query: &[f32], spec: &SearchSpec) -> Vec<Candidate> {
        let wanted = spec.k.max(spec.rerank);
        let visible = self.ids.len() - self.hidden.len();
        let codes = match &self.codes {
            Some(codes) if self.ids.len() > SCAN_MIN && wanted < visible => codes,
            _ => return self.everything(),
        };
        let query = self.frame.query(query);
        let mask = (!self.hidden.is_empty()).then(|| {
            self.ids
                .iter()
                .map(|&id| id < self.limit)
                .collect::<Vec<_>>()
        });
        let found = codes.try_search_with_mask(&query.coordinates, wanted, mask.as_deref());
        // The frame keeps queries within turbovec's bounds. Should it ever not, the rows decide.
        let Ok(found) = found else {
            return self.everything();
        };
        let mut candidates: Vec<_> = (found.indices.iter().zip(&found.scores))
            .map(|(&position, &score)| Candidate {
                slot: self.slots[position as usize],
                id: self.ids[position as usize],
                distance: self.frame.estimate(&query, score),
                exact: false,
            })
            .collect();
        self.add_copies(&mut candidates, spec.k);
        candidates.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance).then(a.id.cmp(&b.id)));
        candidates.dedup_by_key(|candidate| candidate.id);
        candidates
    }

    /// Adds the first `k` visible rows that equal a candidate: which of its copies the scan names
    /// is chance, and an answer orders equal rows by their ids.
    fn add_copies(&self, candidates: &mut Vec<Candidate>, k: usize) {
        for place in 0..candidates.len() {
            let candidate = candidates[place];
            let copies = self.copies.of(candidate.slot);
            let visible = copies.filter_map(|slot| {
                let id = self.row_id(slot).filter(|&id| id < self.limit)?;
                Some(Candidate {
                    slot,
                    id,
                    ..candidate
                })
            });
            candidates.extend(visible.take(k).collect::<Vec<_>>());
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn row_id(&self, slot: Slot) -> Option<RowId> {
        self.position(slot).map(|position| self.ids[position])
    }

    /// Codes cannot tell.
    pub(crate) fn holds(&self, _slot: Slot, _vector: EncodedView<'_>) -> bool {
        false
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn dead(&self) -> usize {
        0
    }

    /// Equal vectors have a code each, and are counted once.
    pub(crate) fn distinct(&self) -> usize {
        self.copies.distinct()
    }

    fn position(&self, slot: Slot) -> Option<usize> {
        let position = *self.positions.get(slot.index())?;
        (position != FREE).then_some(position as usize)
    }

    /// Gives a row the next position.
    fn enter(&mut self, slot: Slot, id: RowId, hash: u64) {
        if self.positions.len() <= slot.index() {
            self.positions.resize(slot.index() + 1, FREE);
        }
        debug_assert_eq!(self.positions[slot.index()], FREE, "slot taken");
        self.positions[slot.index()] = self.ids.len() as u32;
        self.slots.push(slot);
        self.ids.push(id);
        self.copies.add(slot, hash);
        self.version += 1;
    }

    /// Every visible row, unscored.
    fn everything(&self) -> Vec<Candidate> {
        let mut candidates: Vec<_> = (self.slots.iter().zip(&self.ids))
            .filter(|&(_, &id)| id < self.limit)
            .map(|(&slot, &id)| Candidate {
                slot,
                id,
                distance: 0.0,
                exact: false,
            })
            .collect();
        candidates.sort_unstable_by_key(|candidate| candidate.id);
        candidates
    }

    fn encode_loaded(&mut self) {
        if !self.loading.is_empty() {
            let mut loaded = std::mem::take(&mut self.loading);
            self.encode(&loaded);
            loaded.clear();
            self.loading = loaded;
        }
    }

    fn encode(&mut self, coordinates: &[f32]) {
        let width = self.frame.width();
        for batch in coordinates.chunks(BATCH * width) {
            let Some(codes) = &mut self.codes else { return };
            if codes.add_2d(batch, width).is_err() {
                // The frame keeps rows within turbovec's bounds. Should it ever not, the rows are
                // committed and must be found: without codes every row is a candidate.
                debug_assert!(false, "turbovec refused a row");
                self.codes = None;
            }
        }
    }
}

/// Decodes a row of the table's own codec and dimension, which whoever calls has validated.
fn decode(vector: EncodedView<'_>, row: &mut [f32]) {
    let decoded = vector.decode_into(row);
    debug_assert!(decoded.is_ok(), "{decoded:?}");
}
