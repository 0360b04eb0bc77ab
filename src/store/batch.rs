//! A list of writes over any number of tables, applied together.

use crate::row::{Metadata, RowKey};

/// A list of writes that are applied together: all of them or none.
///
/// Within a batch later writes see earlier ones, and the last write of a key wins.
///
/// ```
/// use vecstash::{Codec, Distance, HnswParams, Metadata, TableSchema, VectorStore, WriteBatch};
/// let store = VectorStore::in_memory();
/// for name in ["questions", "answers"] {
///     store.create_table(TableSchema {
///         name: name.into(),
///         dim: 2,
///         codec: Codec::F32,
///         distance: Distance::Cosine,
///         hnsw: HnswParams::default(),
///     })?;
/// }
/// let mut batch = WriteBatch::new();
/// batch.upsert("questions", b"q1", &[1.0, 0.0], Metadata::new());
/// batch.upsert("answers", b"a1", &[0.0, 1.0], Metadata::new());
/// assert_eq!(store.write(batch)?.inserted, 2);
/// # Ok::<(), vecstash::StoreError>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct WriteBatch {
    pub(crate) writes: Vec<BatchWrite>,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum BatchWrite {
    Upsert(String, RowKey, Vec<f32>, Metadata),
    SetMetadata(String, RowKey, Metadata),
    Delete(String, RowKey),
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Inserts or overwrites a row.
    pub fn upsert(
        &mut self,
        table: &str,
        key: impl Into<RowKey>,
        vector: &[f32],
        metadata: Metadata,
    ) -> &mut Self {
        self.push(BatchWrite::Upsert(
            table.to_string(),
            key.into(),
            vector.to_vec(),
            metadata,
        ))
    }

    /// Replaces the metadata of a row that must exist when the batch gets there.
    pub fn set_metadata(
        &mut self,
        table: &str,
        key: impl Into<RowKey>,
        metadata: Metadata,
    ) -> &mut Self {
        self.push(BatchWrite::SetMetadata(
            table.to_string(),
            key.into(),
            metadata,
        ))
    }

    /// Deletes a row, if it is there.
    pub fn delete(&mut self, table: &str, key: impl Into<RowKey>) -> &mut Self {
        self.push(BatchWrite::Delete(table.to_string(), key.into()))
    }

    /// Number of writes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there are no writes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    fn push(&mut self, write: BatchWrite) -> &mut Self {
        self.writes.push(write);
        self
    }
}
