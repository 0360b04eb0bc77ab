//! A row: as a caller sees it, and as the walk at open reads it without decoding.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::encoding::{EncodedVector, EncodedView};
use crate::ids::RowId;
pub use crate::ids::RowKey;

/// Metadata of a row: any JSON object.
pub type Metadata = HashMap<String, serde_json::Value>;

/// A persisted vector row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VectorRow {
    /// Row key.
    pub key: RowKey,
    /// The vector as it is stored; the codec is on it.
    pub vector: EncodedVector,
    /// Free-form metadata of the caller.
    pub metadata: Metadata,
    /// Creation time in milliseconds since the Unix epoch. Kept by overwrites.
    pub created_at: u64,
    /// Time of the last write in milliseconds since the Unix epoch. Never before `created_at`,
    /// and never before an earlier write of the same row, whatever the clock does.
    pub updated_at: u64,
}

/// Which parts of a row a read returns. What is left out comes back empty and costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    /// The encoded vector.
    pub vector: bool,
    /// The metadata.
    pub metadata: bool,
}

impl Want {
    /// The whole row.
    pub const ALL: Self = Self {
        vector: true,
        metadata: true,
    };
    /// The vector and the timestamps.
    pub const VECTOR: Self = Self {
        vector: true,
        metadata: false,
    };
    /// The metadata and the timestamps.
    pub const METADATA: Self = Self {
        vector: false,
        metadata: true,
    };
    /// The timestamps alone.
    pub const HEADER: Self = Self {
        vector: false,
        metadata: false,
    };
}

/// A row together with the id its vector was stored under.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Id of the vector; `None` from a backend that does not number its rows.
    pub id: Option<RowId>,
    /// The row, with the parts that were asked for.
    pub row: VectorRow,
}

/// A row as a scan shows it: borrowed, checked, its metadata not parsed.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Id of the vector; `None` from a backend that does not number its rows.
    pub id: Option<RowId>,
    /// Row key.
    pub key: &'a [u8],
    /// The vector as it is stored.
    pub vector: EncodedView<'a>,
    /// Creation time in milliseconds since the Unix epoch.
    pub created_at: u64,
    /// Time of the last write in milliseconds since the Unix epoch.
    pub updated_at: u64,
}
