//! What a table and a store weigh.

use serde::{Deserialize, Serialize};

use crate::distance::Distance;
use crate::encoding::Codec;
use crate::schema::IndexKind;

/// Snapshot statistics for a table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableStats {
    /// Table name.
    pub name: String,
    /// Number of coordinates.
    pub dim: u16,
    /// Storage codec.
    pub codec: Codec,
    /// Distance.
    pub distance: Distance,
    /// Rows that searches can find.
    pub live_rows: usize,
    /// Rows the key directory knows: the same number, unless something is wrong.
    pub tracked_rows: usize,
    /// Which index the table keeps.
    pub index: IndexKind,
    /// Rows left out at open because their bytes are damaged.
    pub quarantined_rows: usize,
    /// Places in the index held by deleted rows until they are reused.
    pub dead_slots: usize,
    /// Distinct vectors in the index (rows with equal codes share one).
    pub distinct_vectors: usize,
    /// Bytes in memory.
    pub memory: MemoryStats,
    /// Bytes of the file, all tables together; none where there is no file.
    pub bytes_on_disk: Option<u64>,
}

/// Bytes a table takes in memory, by part, allocated capacity included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Vector codes and what belongs to each (ranges, norms, residuals, resident rows).
    pub codes: usize,
    /// Graph links.
    pub links: usize,
    /// Keys and the directory that finds them.
    pub keys: usize,
    /// Row ids, twins, visited marks and all else.
    pub other: usize,
}

impl MemoryStats {
    /// All parts together.
    #[must_use]
    pub fn total(&self) -> usize {
        let Self {
            codes,
            links,
            keys,
            other,
        } = self;
        codes + links + keys + other
    }
}

/// What `check` found. An empty list of problems is a clean store.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// Rows read from the backend and compared with the indexes.
    pub rows: u64,
    /// Tables checked.
    pub tables: usize,
    /// Rows that an open left out (they are reported, and no problem by themselves).
    pub quarantined_rows: u64,
    /// What does not hold, one sentence each; at most 1,000.
    pub problems: Vec<String>,
}

impl CheckReport {
    /// Whether everything holds.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}
