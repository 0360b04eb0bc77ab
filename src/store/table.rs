//! A handle on one table: reads, writes and searches without naming the table again.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use rayon::prelude::*;

use super::group::{Operation, WriteOutcome};
use super::input::{check_batch_len, check_key, check_metadata};
use super::options::{Answer, Hit, NewRow, OnCorrupt, Page, Return, SearchOptions};
use super::search::Search;
use super::shared::{Reader, StoreCore, TableCore};
use super::stats::{CheckReport, MemoryStats, TableStats};
use super::write::Unchecked;
use crate::error::StoreError;
use crate::row::{Metadata, RowKey, VectorRow, Want};
use crate::schema::{IndexKind, TableOptions, TableSchema};

/// Most rows of one page, whatever the caller asks.
const SCROLL_LIMIT_MAX: usize = 1 << 20;

/// A table of an open store: cheap to clone, free to share between threads.
///
/// After the table is dropped every read and every write of a row answers
/// [`StoreError::UnknownTable`]; after the store is closed, [`StoreError::Closed`].
#[derive(Clone)]
pub struct Table {
    core: Arc<StoreCore>,
    table: Arc<TableCore>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("name", &self.name()).finish()
    }
}

impl Table {
    pub(crate) fn new(core: Arc<StoreCore>, table: Arc<TableCore>) -> Self {
        Self { core, table }
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.table.key.name
    }

    /// The schema the table was created with.
    #[must_use]
    pub fn schema(&self) -> &TableSchema {
        &self.table.record.schema
    }

    /// The options the table was created with.
    #[must_use]
    pub fn options(&self) -> &TableOptions {
        &self.table.record.options
    }

    /// Inserts or overwrites a row. On return it is durable and every search finds it.
    ///
    /// The same vector again, or new metadata alone, costs no index work.
    ///
    /// # Errors
    ///
    /// [`StoreError::DimensionMismatch`], [`StoreError::Encoding`] or [`StoreError::Limit`] for a
    /// row that cannot be stored, and the failures of the backend. Nothing has then changed,
    /// except after [`StoreError::OutcomeUnknown`]. After that, and where a commit ends in
    /// [`StoreError::Storage`] or [`StoreError::StorageFull`], the store answers
    /// [`StoreError::Failed`] until it is opened again.
    pub fn upsert(
        &self,
        key: impl Into<RowKey>,
        vector: &[f32],
        metadata: Metadata,
    ) -> Result<(), StoreError> {
        self.core.check_writable()?;
        let operation = self.core.prepare_upsert(Unchecked {
            table: Arc::clone(&self.table),
            key: key.into(),
            vector,
            metadata,
        })?;
        self.core.submit(vec![operation]).map(|_| ())
    }

    /// Inserts or overwrites many rows in one transaction: all of them or none. Of a key that
    /// comes twice the last row wins.
    ///
    /// # Errors
    ///
    /// As [`Table::upsert`], for the first row that cannot be stored.
    pub fn upsert_many(&self, rows: Vec<NewRow>) -> Result<WriteOutcome, StoreError> {
        self.core.check_writable()?;
        check_batch_len(rows.len())?;
        let (mut parts, mut vectors) = (Vec::new(), Vec::new());
        for row in rows {
            parts.push((row.key, row.metadata));
            vectors.push(row.vector);
        }
        let unchecked = parts
            .into_iter()
            .zip(&vectors)
            .map(|((key, metadata), vector)| Unchecked {
                table: Arc::clone(&self.table),
                key,
                vector,
                metadata,
            })
            .collect();
        let operations = self.core.check_upserts(unchecked)?;
        drop(vectors);
        self.core.submit(operations)
    }

    /// Replaces the metadata of a row and leaves its vector as it is.
    ///
    /// # Errors
    ///
    /// [`StoreError::RowNotFound`] when the key is not there, and as [`Table::upsert`].
    pub fn set_metadata(&self, key: &[u8], metadata: Metadata) -> Result<(), StoreError> {
        check_key(key)?;
        check_metadata(&metadata)?;
        let operation = Operation::SetMetadata {
            table: Arc::clone(&self.table),
            key: key.to_vec(),
            metadata,
        };
        self.core.submit(vec![operation]).map(|_| ())
    }

    /// The row under `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError::CorruptRow`], or a failure to read.
    pub fn get(&self, key: &[u8]) -> Result<Option<VectorRow>, StoreError> {
        self.check_open()?;
        let record = self.core.reader().read(&self.table.key, key, Want::ALL)?;
        Ok(record.map(|record| record.row))
    }

    /// The rows under `keys`, in their order, as one commit left them.
    ///
    /// # Errors
    ///
    /// As [`Table::get`], for the first row that cannot be read.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
    ) -> Result<Vec<Option<VectorRow>>, StoreError> {
        self.check_open()?;
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let records = self
            .core
            .reader()
            .get_many(&self.table.key, &keys, Want::ALL)?;
        let rows = records
            .into_iter()
            .map(|record| record.map(|record| record.row));
        Ok(rows.collect())
    }

    /// Whether a row is under `key`. Reads no vector and no metadata.
    ///
    /// # Errors
    ///
    /// As [`Table::get`].
    pub fn contains(&self, key: &[u8]) -> Result<bool, StoreError> {
        self.check_open()?;
        let record = self
            .core
            .reader()
            .read(&self.table.key, key, Want::HEADER)?;
        Ok(record.is_some())
    }

    /// Deletes the row under `key`. `true` when it was there.
    ///
    /// # Errors
    ///
    /// As [`Table::upsert`].
    pub fn delete(&self, key: &[u8]) -> Result<bool, StoreError> {
        self.delete_many(&[key]).map(|deleted| deleted == 1)
    }

    /// Deletes many rows in one transaction and returns how many were there.
    ///
    /// # Errors
    ///
    /// As [`Table::upsert`].
    pub fn delete_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<usize, StoreError> {
        check_batch_len(keys.len())?;
        let operations = keys
            .iter()
            .map(|key| Operation::Delete {
                table: Arc::clone(&self.table),
                key: key.as_ref().to_vec(),
            })
            .collect();
        self.core.submit(operations).map(|outcome| outcome.deleted)
    }

    /// The rows nearest to `query`, nearest first; equal distances in the order of their vectors'
    /// arrival.
    ///
    /// ```
    /// use vecstash::{Codec, Distance, HnswParams, Metadata, SearchOptions, TableSchema, VectorStore};
    /// let store = VectorStore::in_memory();
    /// let table = store.create_table_with(
    ///     TableSchema {
    ///         name: "points".into(),
    ///         dim: 2,
    ///         codec: Codec::F32,
    ///         distance: Distance::Euclidean,
    ///         hnsw: HnswParams::default(),
    ///     },
    ///     Default::default(),
    /// )?;
    /// table.upsert(b"near", &[1.0, 1.0], Metadata::new())?;
    /// table.upsert(b"far", &[9.0, 9.0], Metadata::new())?;
    /// let hits = table.search(&[1.0, 0.0], &SearchOptions::new(10).max_distance(1.0))?;
    /// assert_eq!(hits.len(), 1);
    /// assert_eq!((&hits[0].key[..], hits[0].distance), (&b"near"[..], 1.0));
    /// # Ok::<(), vecstash::StoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::DimensionMismatch`], [`StoreError::Encoding`] for a query that is not
    /// finite or beyond what rows may have, [`StoreError::Limit`] for a `max_distance` that is not a
    /// number, [`StoreError::NoIndex`], or a failure to read the hits.
    pub fn search(&self, query: &[f32], options: &SearchOptions) -> Result<Vec<Hit>, StoreError> {
        Search::new(&self.core, &self.table, query, options)?.run()
    }

    /// As [`Table::search`], and says whether rows may be missing from the answer, which happens in
    /// a store opened with
    /// [`OpenOptions::serve_while_opening`](crate::OpenOptions::serve_while_opening) alone.
    ///
    /// # Errors
    ///
    /// As [`Table::search`].
    pub fn answer(&self, query: &[f32], options: &SearchOptions) -> Result<Answer, StoreError> {
        // Asked before: what was complete then stays so. Tables of other kinds are read from the
        // file while they are loaded.
        let partial = self.table.is_opening() && self.table.kind == IndexKind::Hnsw;
        let hits = self.search(query, options)?;
        Ok(Answer { hits, partial })
    }

    /// Searches for many queries on all cores: one list of hits per query, in their order.
    ///
    /// # Errors
    ///
    /// As [`Table::search`], for the first query that fails.
    pub fn search_batch<Q: AsRef<[f32]> + Sync>(
        &self,
        queries: &[Q],
        options: &SearchOptions,
    ) -> Result<Vec<Vec<Hit>>, StoreError> {
        let one = |query: &Q| self.search(query.as_ref(), options);
        match queries {
            [] => self.check_open().map(|()| Vec::new()),
            [query] => Ok(vec![one(query)?]),
            _ => self.core.install(|| queries.par_iter().map(one).collect()),
        }
    }

    /// A page of at most `limit` rows (1,048,576 where it is more) in key order, beginning after the
    /// key `after`. Each row carries what `returning` says, and its timestamps. With a `limit` of 0
    /// there is nothing to go on from.
    ///
    /// # Errors
    ///
    /// [`StoreError::CorruptRow`] at a damaged row (a quarantined one is passed over), or a
    /// failure to read.
    pub fn scroll(
        &self,
        after: Option<&[u8]>,
        limit: usize,
        returning: Return,
    ) -> Result<Page, StoreError> {
        self.check_open()?;
        let want = match returning {
            Return::Keys => Want::HEADER,
            Return::Metadata => Want::METADATA,
            Return::Rows => Want::ALL,
        };
        let limit = limit.min(SCROLL_LIMIT_MAX);
        let mut page = Page::default();
        if limit == 0 {
            return Ok(page);
        }
        let reader = self.core.reader();
        // One key more than the page holds tells whether there is a next page.
        let mut keys = self.keys_after(&reader, after, limit + 1)?;
        let more = keys.len() > limit;
        keys.truncate(limit);
        let refs: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let records = reader.get_many(&self.table.key, &refs, want)?;
        page.rows = records
            .into_iter()
            .flatten()
            .map(|record| record.row)
            .collect();
        page.next = if more { keys.pop() } else { None };
        Ok(page)
    }

    /// The first `count` keys after `after`, in order, without the quarantined ones.
    fn keys_after(
        &self,
        reader: &Reader,
        after: Option<&[u8]>,
        count: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        let mut keys = BTreeSet::new();
        let ordered = matches!(reader, Reader::Snapshot(_));
        reader.scan_after(&self.table.key, after, &mut |row| {
            let key = match row {
                // Whole, and not a row of this table all the same.
                Ok(row) if self.is_listed(row.key) => {
                    return Ok(ControlFlow::Continue(()));
                }
                Ok(row) => row.key.to_vec(),
                Err(StoreError::CorruptRow { key, .. }) if self.is_quarantined(&key) => {
                    return Ok(ControlFlow::Continue(()));
                }
                Err(error) => return Err(error),
            };
            if after.is_none_or(|after| &key[..] > after) {
                keys.insert(key);
            }
            if keys.len() < count {
                return Ok(ControlFlow::Continue(()));
            }
            if ordered {
                return Ok(ControlFlow::Break(()));
            }
            // A backend in no order shows all its rows; the least keys of them are the page.
            if keys.len() > count {
                keys.pop_last();
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(keys.into_iter().collect())
    }

    /// Whether a damaged row is left out. Those of a table that is being loaded are not known yet,
    /// those of one that is never loaded not at all.
    fn is_quarantined(&self, key: &[u8]) -> bool {
        let options = &self.core.options;
        let unknown = self.table.is_opening() || !options.builds_indexes();
        let all = options.on_corrupt == OnCorrupt::Quarantine && unknown;
        all || self.is_listed(key)
    }

    /// Whether the load of the table put a row into quarantine.
    fn is_listed(&self, key: &[u8]) -> bool {
        self.table.quarantined.lock().contains_key(key)
    }

    /// Number of rows that searches can find; while the table is being loaded, of those in the
    /// file.
    ///
    /// # Errors
    ///
    /// A failure to read, in a store that was opened without indexes.
    pub fn count(&self) -> Result<usize, StoreError> {
        self.check_open()?;
        let state = self.table.state.read();
        if state.index.is_some() && !self.table.is_opening() {
            return Ok(state.keys.len());
        }
        drop(state);
        self.count_rows()
    }

    fn count_rows(&self) -> Result<usize, StoreError> {
        let catalog = self.core.backend.list_tables()?;
        let id = self.table.key.id;
        let stored = catalog.tables.iter().find(|stored| stored.record.id == id);
        if let Some(rows) = stored.and_then(|stored| stored.rows) {
            return Ok(usize::try_from(rows).unwrap_or(usize::MAX));
        }
        let mut rows = 0;
        self.core.reader().scan(&self.table.key, &mut |_| {
            rows += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    /// What the table holds and weighs; while it is being loaded, what is loaded so far.
    ///
    /// # Errors
    ///
    /// A failure to ask the backend.
    pub fn stats(&self) -> Result<TableStats, StoreError> {
        let live_rows = self.count()?;
        let bytes_on_disk = self.core.backend.bytes_on_disk()?;
        let schema = self.schema();
        let state = self.table.state.read();
        let index = state.index.as_ref();
        let memory = index
            .map(crate::inner_index::Index::memory)
            .unwrap_or_default();
        Ok(TableStats {
            name: schema.name.clone(),
            dim: schema.dim,
            codec: schema.codec,
            distance: schema.distance,
            live_rows: index.map_or(live_rows, crate::inner_index::Index::len),
            tracked_rows: index.map_or(live_rows, |_| state.keys.len()),
            index: self.table.kind,
            quarantined_rows: self.table.quarantined.lock().len(),
            dead_slots: index.map_or(0, crate::inner_index::Index::dead),
            distinct_vectors: index.map_or(0, crate::inner_index::Index::distinct),
            memory: MemoryStats {
                codes: memory.codes,
                links: memory.links,
                keys: state.keys.memory(),
                other: memory.other,
            },
            bytes_on_disk,
        })
    }

    /// Proves what can be proved about this table: every stored row whole and in the index, the
    /// index sound and every row of it reachable. Writers wait meanwhile. Metadata that is stored
    /// apart from its row is read by the check of the whole store alone.
    ///
    /// # Errors
    ///
    /// A failure to read. What does not hold is in the report.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        self.check_open()?;
        let _seat = self.core.seat.lock();
        // It may have failed to open meanwhile.
        self.check_open()?;
        let mut report = CheckReport::default();
        self.core.check_table(&self.table, &mut report)?;
        Ok(report)
    }

    /// Everything that decides this table's answers, as one number: equal for two opens of one
    /// file with no write between them, on any number of threads. Reads the whole index.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoIndex`].
    pub fn fingerprint(&self) -> Result<u64, StoreError> {
        self.core.opening.wait();
        self.check_open()?;
        let state = self.table.state.read();
        Ok(self.table.index(&state)?.fingerprint())
    }

    fn check_open(&self) -> Result<(), StoreError> {
        self.core.health.check()?;
        self.table.check_live()
    }
}
