//! The flat index: the stored form of every row, scanned.

use xxhash_rust::xxh3::Xxh3Default;

use super::exact::ExactQuery;
use super::rows::Rows;
use super::scan::{Scan, Scored};
use super::stored::Stored;
use super::topk::{Estimate, Nearest};
use super::{Candidate, Entry, IndexMemory, IndexSpec, Plan, SearchSpec};
use crate::distance::Distance;
use crate::encoding::EncodedView;
use crate::error::IndexError;
use crate::ids::{RowId, Slot};

/// Rows and their stored form, by slot.
pub(crate) struct Flat {
    distance: Distance,
    rows: Rows,
    stored: Stored,
    version: u64,
}

/// New rows and their records.
pub(crate) struct FlatPatch {
    rows: Vec<(Slot, RowId, Vec<u8>)>,
}

impl Flat {
    pub(super) fn new(spec: &IndexSpec) -> Self {
        Self {
            distance: spec.distance,
            rows: Rows::default(),
            stored: Stored::new(spec),
            version: 0,
        }
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        self.rows.reserve(rows);
        self.stored.reserve(rows);
    }

    pub(super) fn load(&mut self, slot: Slot, id: RowId, vector: EncodedView<'_>) {
        let record = self.stored.full_record(vector);
        self.rows.put_shown(slot, id, 0);
        self.stored.put(slot, &record);
    }

    fn put(&mut self, slot: Slot, id: RowId, record: &[u8]) {
        // A flat table has no nodes; any number but the vacant one will do.
        self.rows.put(slot, id, 0);
        self.stored.put(slot, record);
    }

    pub(super) fn build(
        &mut self,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<(), IndexError> {
        self.version += 1;
        let rows = self.rows.len();
        if progress(rows, rows) {
            Ok(())
        } else {
            Err(IndexError::Cancelled)
        }
    }

    pub(super) fn plan(&self, _: EncodedView<'_>) -> Option<Plan> {
        None
    }

    pub(super) fn prepare(&self, entries: Vec<Entry<'_>>) -> FlatPatch {
        let record = |entry: Entry<'_>| {
            let record = self.stored.full_record(entry.vector);
            (entry.slot, entry.id, record)
        };
        FlatPatch {
            rows: entries.into_iter().map(record).collect(),
        }
    }

    pub(super) fn apply(&mut self, patch: FlatPatch) {
        for (slot, id, record) in patch.rows {
            self.put(slot, id, &record);
        }
        self.version += 1;
    }

    pub(super) fn publish(&mut self, limit: RowId) {
        self.rows.limit = limit;
        self.version += 1;
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.rows.take(slot);
        self.version += 1;
    }

    pub(super) fn maintain(&self, _: usize) -> Option<FlatPatch> {
        None
    }

    pub(super) fn search(&self, query: &[f32], spec: &SearchSpec) -> Vec<Candidate> {
        let mut scan = self.scan_start(query, spec.k);
        self.scan_step(&mut scan, usize::MAX);
        scan.finish()
    }

    pub(super) fn scan_start(&self, query: &[f32], k: usize) -> Scan {
        Scan::new(ExactQuery::new(self.distance, query), k)
    }

    pub(super) fn scan_step(&self, scan: &mut Scan, rows: usize) -> bool {
        scan.step(self, rows)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn row_id(&self, slot: Slot) -> Option<RowId> {
        self.rows.id(slot)
    }

    pub(super) fn holds(&self, slot: Slot, vector: EncodedView<'_>) -> bool {
        self.rows.id(slot).is_some() && self.stored.holds_full(slot, vector)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn dead(&self) -> usize {
        0
    }

    /// Rows: a flat table does not look for equal vectors.
    pub(super) fn distinct(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn memory(&self) -> IndexMemory {
        IndexMemory {
            codes: self.stored.memory(),
            links: 0,
            other: self.rows.memory(),
        }
    }

    pub(super) fn check(&self) -> Vec<String> {
        let occupied = self.rows.occupied().count();
        if occupied == self.rows.len() {
            return Vec::new();
        }
        let counted = self.rows.len();
        vec![format!(
            "{occupied} slots hold rows, where {counted} are counted"
        )]
    }

    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3Default::new();
        let rows = self.rows.occupied();
        let mut rows: Vec<_> = rows.map(|slot| (self.rows.id(slot), slot)).collect();
        rows.sort_unstable();
        for (id, slot) in rows {
            let id = id.unwrap_or_default();
            hash.update(&id.get().to_le_bytes());
            hash.update(self.stored.bytes(slot));
        }
        hash.digest()
    }
}

impl Scored for Flat {
    fn units(&self) -> usize {
        self.rows.slots()
    }

    fn offer(&self, unit: usize, query: &ExactQuery, scratch: &mut Vec<f32>, to: &mut Nearest) {
        let slot = Slot::new(unit);
        if let Some(id) = self.rows.visible(slot) {
            let distance = self.stored.score_full(query, slot, scratch);
            let slack = 0.0;
            to.push(slot, id, Estimate { distance, slack });
        }
    }
}
