//! The store: every table of one backend, and the order of events when they are opened, read,
//! searched and written.
//!
//! Locks, always taken in this order: the writer's seat, the registry of tables, one table's
//! index. No index lock is held across backend I/O.

mod batch;
mod check;
mod commits;
mod feed;
mod flusher;
mod group;
mod health;
mod hints;
mod input;
mod keys;
mod load;
mod open;
mod open_tables;
mod options;
mod refit;
mod search;
mod serve;
mod shared;
mod stage;
mod stats;
mod table;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::batch::BatchWrite;
pub use self::batch::WriteBatch;
use self::group::Operation;
pub use self::group::WriteOutcome;
use self::input::{check_batch_len, check_key, check_metadata};
pub use self::options::{
    Answer, Hit, NewRow, OnCorrupt, OpenOptions, OpenProgress, OpenReport, OpenStage, Page,
    ProgressFn, QuarantinedRow, Return, SearchOptions, TableReport,
};
use self::shared::{Seat, StoreCore, TableCore};
pub use self::stats::{CheckReport, MemoryStats, TableStats};
pub use self::table::Table;
use self::write::Unchecked;
use crate::error::StoreError;
use crate::ids::{RowId, TableId};
use crate::inner_storage::Change;
use crate::limits;
use crate::row::{Metadata, RowKey, VectorRow};
use crate::schema::{TableOptions, TableRecord, TableSchema};

/// How long `compact` waits for readers to finish before it answers `Busy`.
const COMPACT_PATIENCE: Duration = Duration::from_secs(5);

/// A durable vector store: tables of rows in one backend, each with its index in memory.
///
/// Cheap to clone; clones and [`Table`] handles share one store, and every method but `close`
/// takes `&self`. Searches run in parallel with each other and with writers.
///
/// ```
/// use std::collections::HashMap;
/// use vecstash::{Codec, Distance, HnswParams, TableSchema, VectorStore};
///
/// let store = VectorStore::in_memory();
/// store.create_table(TableSchema {
///     name: "words".to_string(),
///     dim: 3,
///     codec: Codec::Int8Quantized,
///     distance: Distance::Cosine,
///     hnsw: HnswParams::default(),
/// })?;
/// store.upsert("words", b"red".to_vec(), &[1.0, 0.1, 0.0], HashMap::new())?;
/// store.upsert("words", b"blue".to_vec(), &[0.0, 0.1, 1.0], HashMap::new())?;
/// let hits = store.search("words", &[0.9, 0.0, 0.1], 1, None)?;
/// assert_eq!(hits[0].0.key, b"red");
/// # Ok::<(), vecstash::StoreError>(())
/// ```
#[derive(Clone)]
pub struct VectorStore {
    core: Arc<StoreCore>,
}

impl std::fmt::Debug for VectorStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VectorStore")
            .field("tables", &self.core.tables_len())
            .finish_non_exhaustive()
    }
}

impl VectorStore {
    fn from_core(core: Arc<StoreCore>) -> Self {
        flusher::start(&core);
        Self { core }
    }

    /// What the open of this store did, once it is over: of one that failed after the store was in
    /// use, nothing.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        self.core.opening.wait();
        self.core.report.get_or_init(OpenReport::default)
    }

    /// Creates a table with default options.
    ///
    /// # Errors
    ///
    /// [`StoreError::TableExists`] when the name is in use, [`StoreError::InvalidTableName`] or
    /// [`StoreError::InvalidSchema`] for what no table can be, and the failures of the backend.
    pub fn create_table(&self, schema: TableSchema) -> Result<(), StoreError> {
        self.create_table_with(schema, TableOptions::default())
            .map(|_| ())
    }

    /// Creates a table. On return it is durable.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::create_table`], and [`StoreError::Unsupported`] for options that the
    /// backend cannot keep.
    pub fn create_table_with(
        &self,
        schema: TableSchema,
        options: TableOptions,
    ) -> Result<Table, StoreError> {
        let core = &self.core;
        core.check_writable()?;
        let mut seat = core.seat.lock();
        core.check_writable()?;
        let record = TableRecord {
            id: seat.next_table_id,
            schema,
            options,
            turbo: None,
        };
        record.validate()?;
        if core.has_table(&record.schema.name) {
            return Err(StoreError::TableExists(record.schema.name));
        }
        if core.tables_len() >= limits::TABLES_MAX {
            return Err(StoreError::Limit {
                what: "number of tables",
                value: (core.tables_len() + 1).to_string(),
                limit: format!("up to {}", limits::TABLES_MAX),
                remedy: "keep several kinds of rows in one table, told apart by their keys",
            });
        }
        let next = seat.next_table_id.get().checked_add(1);
        let next = next.map(TableId::new).ok_or_else(|| StoreError::Limit {
            what: "table id",
            value: seat.next_table_id.to_string(),
            limit: format!("below {}", u32::MAX),
            remedy: "copy the tables into a new store, which numbers them anew",
        })?;
        // The index is made before the commit: whatever it refuses is refused here.
        let table = TableCore::empty(record.clone())?;
        let changes = [
            Change::ReserveTableIds { next },
            Change::PutTable(Box::new(record)),
        ];
        self.commit_seated(&mut seat, &changes, || {})?;
        seat.next_table_id = next;
        let table = Arc::new(table);
        core.register(Arc::clone(&table));
        Ok(Table::new(Arc::clone(core), table))
    }

    /// Removes a table with all its rows. On return that is durable, and the name is free.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownTable`], [`StoreError::Unsupported`] on a backend that cannot drop,
    /// and the failures of the backend.
    pub fn drop_table(&self, table: &str) -> Result<(), StoreError> {
        self.core.check_writable()?;
        let mut seat = self.core.seat.lock();
        self.core.check_writable()?;
        let key = self.core.table(table)?.key.clone();
        self.commit_seated(&mut seat, &[Change::DropTable(key)], || {
            self.core.unregister(table);
        })
    }

    /// Commits `changes`; `committed` runs before any read can see them.
    fn commit_seated(
        &self,
        _seat: &mut Seat,
        changes: &[Change],
        committed: impl FnOnce(),
    ) -> Result<(), StoreError> {
        let core = &self.core;
        core.commits.commit(changes)?;
        committed();
        core.refresh_snapshot().map_err(|error| {
            core.health.note("snapshot", &error);
            StoreError::OutcomeUnknown {
                source: error.chain().into(),
            }
        })?;
        core.commits.check_acknowledgeable()
    }

    /// The schema of every table, in order of their names.
    #[must_use]
    pub fn tables(&self) -> Vec<TableSchema> {
        let tables = self.core.all_tables();
        tables
            .iter()
            .map(|table| table.record.schema.clone())
            .collect()
    }

    /// A handle on one table.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownTable`].
    pub fn table(&self, table: &str) -> Result<Table, StoreError> {
        let table = self.core.table(table)?;
        Ok(Table::new(Arc::clone(&self.core), table))
    }

    /// Inserts or overwrites a row: [`Table::upsert`].
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownTable`], and as [`Table::upsert`].
    pub fn upsert(
        &self,
        table: &str,
        key: RowKey,
        vector: &[f32],
        metadata: Metadata,
    ) -> Result<(), StoreError> {
        self.table(table)?.upsert(key, vector, metadata)
    }

    /// The row under `key`: [`Table::get`].
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownTable`], and as [`Table::get`].
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<VectorRow>, StoreError> {
        self.table(table)?.get(key)
    }

    /// Deletes the row under `key`: [`Table::delete`].
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownTable`], and as [`Table::delete`].
    pub fn delete(&self, table: &str, key: &[u8]) -> Result<bool, StoreError> {
        self.table(table)?.delete(key)
    }

    /// The `k` whole rows nearest to `query` with their distances, nearest first. `ef` is the
    /// size of an HNSW table's candidate pool; `None` for the schema's. [`Table::search`] has
    /// more to choose from, and reads less.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownTable`], and as [`Table::search`].
    pub fn search(
        &self,
        table: &str,
        query: &[f32],
        k: usize,
        ef: Option<usize>,
    ) -> Result<Vec<(VectorRow, f32)>, StoreError> {
        let mut options = SearchOptions::new(k).returning(Return::Rows);
        options.ef = ef;
        let hits = self.table(table)?.search(query, &options)?;
        let rows = hits
            .into_iter()
            .filter_map(|hit| hit.row.map(|row| (row, hit.distance)));
        Ok(rows.collect())
    }

    /// What one table holds and weighs: [`Table::stats`].
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownTable`], and as [`Table::stats`].
    pub fn stats(&self, table: &str) -> Result<TableStats, StoreError> {
        self.table(table)?.stats()
    }

    /// Applies a batch in one transaction, over any number of tables: all of it or nothing. Each
    /// table's searches see the whole of its part at once.
    ///
    /// # Errors
    ///
    /// As [`Table::upsert`] and [`Table::set_metadata`], for the first write that cannot be done.
    pub fn write(&self, batch: WriteBatch) -> Result<WriteOutcome, StoreError> {
        self.core.check_writable()?;
        check_batch_len(batch.len())?;
        let mut operations = Vec::with_capacity(batch.len());
        for write in batch.writes {
            operations.push(self.check_write(write)?);
        }
        self.core.submit(operations)
    }

    fn check_write(&self, write: BatchWrite) -> Result<Operation, StoreError> {
        match write {
            BatchWrite::Upsert(table, key, vector, metadata) => self.core.check_upsert(Unchecked {
                table: self.core.table(&table)?,
                key,
                vector: &vector,
                metadata,
            }),
            BatchWrite::SetMetadata(table, key, metadata) => {
                check_key(&key)?;
                check_metadata(&metadata)?;
                Ok(Operation::SetMetadata {
                    table: self.core.table(&table)?,
                    key,
                    metadata,
                })
            }
            BatchWrite::Delete(table, key) => Ok(Operation::Delete {
                table: self.core.table(&table)?,
                key,
            }),
        }
    }

    /// Proves what can be proved: every stored row, its metadata and every group of links against
    /// their checksums, every row against its index, every index. The file's pages are proved by an
    /// open, as [`Verify`](crate::Verify) says.
    /// Clean-up of the indexes that is pending is done first. Writers wait meanwhile; readers do
    /// not.
    ///
    /// # Errors
    ///
    /// A failure to read. What does not hold is in the report.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        self.core.health.check()?;
        let _seat = self.core.seat.lock();
        // It may have failed to open meanwhile.
        self.core.health.check()?;
        let mut report = CheckReport {
            problems: self.core.backend.verify()?,
            ..CheckReport::default()
        };
        for table in self.core.all_tables() {
            self.core.check_table(&table, &mut report)?;
        }
        Ok(report)
    }

    /// Makes every acknowledged write durable: for stores opened with a weaker durability.
    ///
    /// # Errors
    ///
    /// [`StoreError::OutcomeUnknown`] when the sync failed; the store then refuses further work.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.core.check_writable()?;
        self.core.commits.flush()
    }

    /// Gives unused space of the file and of the indexes back. `true` when the file had any.
    /// Writers wait meanwhile, and so do reads of rows.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] when searches under way did not end within five seconds, and the
    /// failures of the backend.
    pub fn compact(&self) -> Result<bool, StoreError> {
        let core = &self.core;
        core.check_writable()?;
        let _seat = core.seat.lock();
        core.check_writable()?;
        for table in core.all_tables() {
            core.maintain(&table, usize::MAX);
        }
        // Nothing that was acknowledged waits for the file to be written anew.
        core.commits.flush_unsynced()?;
        core.release_snapshot();
        let started = Instant::now();
        let compacted = loop {
            match core.commits.compact() {
                Err(StoreError::Busy { .. }) if started.elapsed() < COMPACT_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                other => break other,
            }
        };
        core.refresh_snapshot()?;
        compacted
    }

    /// Writes a consistent copy of the store into a new file at `path`, while this one stays
    /// open and in use. The copy appears whole or not at all.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when `path` exists, and the failures of reading and writing.
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<(), StoreError> {
        self.core.health.check()?;
        self.core.backend.backup(path.as_ref())
    }

    /// Bytes of the file; `None` where there is none.
    ///
    /// # Errors
    ///
    /// A failure to ask the file system.
    pub fn bytes_on_disk(&self) -> Result<Option<u64>, StoreError> {
        self.core.health.check()?;
        self.core.backend.bytes_on_disk()
    }

    /// Makes everything durable and releases the file. Clones and [`Table`] handles that are still
    /// around answer [`StoreError::Closed`] from here on. Dropping all of them does the same, but
    /// cannot report an error.
    ///
    /// # Errors
    ///
    /// A failure to make the last writes durable.
    pub fn close(self) -> Result<(), StoreError> {
        let core = &self.core;
        core.opening.stop();
        let mut seat = core.seat.lock();
        if core.health.check().is_ok() {
            core.complete_all_hints(&mut seat);
        }
        let flushed = match core.health.check() {
            Ok(()) => core.commits.flush_unsynced(),
            // A failed flush is not tried again, and what it was to save may be lost.
            Err(error @ StoreError::Failed { .. }) if core.commits.owes_a_flush() => Err(error),
            Err(_) => Ok(()),
        };
        core.commits.close();
        core.unregister_all();
        core.release_snapshot();
        flushed.and(core.backend.close())
    }
}

impl TableCore {
    /// A new table without rows.
    fn empty(record: TableRecord) -> Result<Self, StoreError> {
        let state = self::shared::TableState::empty(&record)?;
        Ok(Self::new(record, RowId::new(1), state))
    }
}
