//! What every handle of a store shares: the backend, the tables, the writer's seat.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::commits::Commits;
use super::flusher::Flusher;
use super::group::Queue;
use super::health::Health;
use super::hints::HintLog;
use super::keys::KeyDirectory;
use super::options::{OpenOptions, OpenReport};
use super::serve::Opening;
use crate::encoding::EncodedView;
use crate::error::StoreError;
use crate::ids::{RowId, Slot, TableId};
use crate::inner_index::Index;
use crate::inner_storage::{Backend, Capabilities, RecordVisitor, Snapshot, TableKey};
use crate::pool;
use crate::row::{Record, RowKey, Want};
use crate::schema::{IndexKind, TableRecord};

/// Loaded rows whose keys and twins are looked up together: some for every shard of the largest
/// tables.
const LOOKED_UP: usize = if cfg!(test) { 200 } else { 1 << 19 };

/// The state behind every `VectorStore` and `Table` handle.
///
/// Lock order: `seat`, then `tables`, then one table's `hints`, then its `state`, then its `pinned`, then `latest`;
/// the turn of `commits` is last of all.
pub(crate) struct StoreCore {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) capabilities: Capabilities,
    pub(crate) options: OpenOptions,
    pub(crate) health: Arc<Health>,
    /// Whoever holds the seat is the one writer: of every index, of the registry and, but for flushes,
    /// of the backend.
    pub(crate) seat: Arc<Mutex<Seat>>,
    pub(crate) queue: Queue,
    tables: RwLock<HashMap<String, Arc<TableCore>>>,
    latest: RwLock<Option<Arc<dyn Snapshot>>>,
    pool: OnceLock<Option<rayon::ThreadPool>>,
    pub(crate) report: OnceLock<OpenReport>,
    pub(crate) commits: Arc<Commits>,
    pub(crate) flusher: OnceLock<Flusher>,
    pub(crate) opening: Arc<Opening>,
}

/// What only the writer touches.
#[derive(Default)]
pub(crate) struct Seat {
    pub(crate) next_table_id: TableId,
}

/// One table of an open store.
pub(crate) struct TableCore {
    pub(crate) key: TableKey,
    pub(crate) kind: IndexKind,
    /// The record as created; its `turbo` fit is the one the index was built with at open.
    pub(crate) record: TableRecord,
    /// The latest fit's generation and rows, the writer's business.
    pub(crate) fit: Mutex<Option<crate::schema::TurboFit>>,
    /// The id that came next when that fit was measured, or at open: rows beyond it are not in it.
    #[cfg(feature = "turbo")]
    pub(crate) fitted_below: Mutex<RowId>,
    pub(crate) state: RwLock<TableState>,
    /// While a commit of this table is not yet published: the snapshot before that commit, which
    /// is the one the index agrees with.
    pinned: Mutex<Option<Option<Arc<dyn Snapshot>>>>,
    pub(crate) row_ids: Mutex<RowIds>,
    pub(crate) dropped: AtomicBool,
    /// Whether rows may still be missing from the index.
    pub(crate) opening: AtomicBool,
    pub(crate) hints: Mutex<HintLog>,
    /// Rows left out at open, with what is wrong with them.
    pub(crate) quarantined: Mutex<BTreeMap<RowKey, String>>,
}

/// The index of a table and the keys of its slots: they change together.
pub(crate) struct TableState {
    /// `None` in a read-only store opened without indexes.
    pub(crate) index: Option<Index>,
    pub(crate) keys: KeyDirectory,
}

/// The row ids of a table: the next one, and how far the file promises not to reuse them.
pub(crate) struct RowIds {
    pub(crate) next: RowId,
    pub(crate) reserved: RowId,
}

/// Where a read goes: a snapshot, or whatever a backend without snapshots holds right now.
pub(crate) enum Reader {
    Snapshot(Arc<dyn Snapshot>),
    Live(Arc<dyn Backend>),
}

impl Reader {
    pub(crate) fn read(
        &self,
        table: &TableKey,
        key: &[u8],
        want: Want,
    ) -> Result<Option<Record>, StoreError> {
        match self {
            Self::Snapshot(snapshot) => snapshot.read(table, key, want),
            Self::Live(backend) => backend.read(table, key, want),
        }
    }

    pub(crate) fn get_many(
        &self,
        table: &TableKey,
        keys: &[&[u8]],
        want: Want,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        match self {
            Self::Snapshot(snapshot) => snapshot.get_many(table, keys, want),
            Self::Live(backend) => backend.get_many(table, keys, want),
        }
    }

    pub(crate) fn scan(
        &self,
        table: &TableKey,
        visitor: &mut RecordVisitor<'_>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Snapshot(snapshot) => snapshot.scan(table, None, visitor),
            Self::Live(backend) => backend.scan(table, visitor),
        }
    }

    /// As `scan`, beginning after a key where the source knows an order.
    pub(crate) fn scan_after(
        &self,
        table: &TableKey,
        after: Option<&[u8]>,
        visitor: &mut RecordVisitor<'_>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Snapshot(snapshot) => snapshot.scan(table, after, visitor),
            Self::Live(backend) => backend.scan(table, visitor),
        }
    }
}

impl StoreCore {
    pub(crate) fn new(backend: Arc<dyn Backend>, options: OpenOptions) -> Self {
        let health = Arc::new(Health::default());
        let commits = Commits::new(
            Arc::clone(&backend),
            Arc::clone(&health),
            options.durability,
        );
        Self {
            capabilities: backend.capabilities(),
            backend,
            options,
            health,
            commits: Arc::new(commits),
            seat: Arc::default(),
            queue: Queue::default(),
            tables: RwLock::default(),
            latest: RwLock::default(),
            pool: OnceLock::new(),
            report: OnceLock::new(),
            flusher: OnceLock::new(),
            opening: Arc::default(),
        }
    }

    /// Whether this store may be written.
    pub(crate) fn check_writable(&self) -> Result<(), StoreError> {
        self.health.check()?;
        if self.options.read_only || self.capabilities.read_only {
            return Err(StoreError::ReadOnly);
        }
        Ok(())
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        if let Some(clock) = &self.options.clock {
            return clock();
        }
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
    }

    /// Runs `work` with this store's own threads as rayon's. The pool starts at the first use: a
    /// store of small tables never needs one. Where threads cannot be had, work runs on rayon's.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let pool = self.pool.get_or_init(|| {
            pool::new(self.options.threads)
                .inspect_err(|error| tracing::warn!(%error, "no threads of our own"))
                .ok()
        });
        match pool {
            Some(pool) => pool::install(pool, work),
            None => work(),
        }
    }

    /// How many threads `install` offers.
    pub(crate) fn threads(&self) -> usize {
        match self.options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// The table of this name.
    pub(crate) fn table(&self, name: &str) -> Result<Arc<TableCore>, StoreError> {
        self.health.check()?;
        let found = self.tables.read().get(name).cloned();
        found.ok_or_else(|| StoreError::UnknownTable(name.to_string()))
    }

    /// Every table, in order of their names.
    pub(crate) fn all_tables(&self) -> Vec<Arc<TableCore>> {
        let mut tables: Vec<_> = self.tables.read().values().cloned().collect();
        tables.sort_by(|a, b| a.key.name.cmp(&b.key.name));
        tables
    }

    pub(crate) fn has_table(&self, name: &str) -> bool {
        self.tables.read().contains_key(name)
    }

    pub(crate) fn tables_len(&self) -> usize {
        self.tables.read().len()
    }

    pub(crate) fn register(&self, table: Arc<TableCore>) {
        let name = table.key.name.to_string();
        self.tables.write().insert(name, table);
    }

    pub(crate) fn unregister(&self, name: &str) {
        if let Some(table) = self.tables.write().remove(name) {
            table.dropped.store(true, Ordering::Release);
        }
    }

    pub(crate) fn unregister_all(&self) {
        self.tables.write().clear();
    }

    /// The rows as the last commit left them.
    pub(crate) fn reader(&self) -> Reader {
        self.reader_of(self.latest.read().clone())
    }

    pub(crate) fn reader_of(&self, snapshot: Option<Arc<dyn Snapshot>>) -> Reader {
        match snapshot {
            Some(snapshot) => Reader::Snapshot(snapshot),
            None => Reader::Live(Arc::clone(&self.backend)),
        }
    }

    /// Makes the backend's last commit the one that reads see.
    pub(crate) fn refresh_snapshot(&self) -> Result<(), StoreError> {
        let snapshot = self.backend.snapshot()?;
        *self.latest.write() = snapshot;
        Ok(())
    }

    /// Lets go of the snapshot, so that a compaction or a close can be alone with the file. Reads
    /// go to the backend until the next `refresh_snapshot`.
    pub(crate) fn release_snapshot(&self) {
        *self.latest.write() = None;
    }

    /// Ties `table` to the rows as they are now, until `TableCore::unpin`: called before a commit
    /// that its index will only follow later.
    pub(crate) fn pin(&self, table: &TableCore) {
        let mut pinned = table.pinned.lock();
        *pinned = Some(self.latest.read().clone());
    }

    /// The rows that agree with this table's index. Called with its state lock held, so that no
    /// publication comes in between.
    pub(crate) fn reader_beside(&self, table: &TableCore) -> Reader {
        let pinned = table.pinned.lock();
        match &*pinned {
            Some(snapshot) => self.reader_of(snapshot.clone()),
            None => self.reader(),
        }
    }
}

impl Drop for StoreCore {
    fn drop(&mut self) {
        // Its thread holds the backend: once it is gone, so is the file's lock.
        drop(self.flusher.take());
        // An open that failed or was cancelled leaves the file alone.
        if self.report.get().is_some() && self.health.check().is_ok() {
            let seat = Arc::clone(&self.seat);
            self.complete_all_hints(&mut seat.lock());
        }
        // Writes acknowledged before they were durable survive a clean end of the process.
        if self.health.check().is_ok()
            && let Err(error) = self.commits.flush_unsynced()
        {
            tracing::error!(error = %error.chain(), "the last writes could not be made durable");
        }
    }
}

impl TableCore {
    pub(crate) fn new(record: TableRecord, next_row_id: RowId, state: TableState) -> Self {
        Self {
            key: TableKey {
                id: record.id,
                name: record.schema.name.as_str().into(),
            },
            kind: record.index_kind(),
            fit: Mutex::new(record.turbo.clone()),
            #[cfg(feature = "turbo")]
            fitted_below: Mutex::new(next_row_id),
            record,
            state: RwLock::new(state),
            pinned: Mutex::new(None),
            row_ids: Mutex::new(RowIds {
                next: next_row_id,
                reserved: next_row_id,
            }),
            dropped: AtomicBool::new(false),
            opening: AtomicBool::new(false),
            hints: Mutex::default(),
            quarantined: Mutex::default(),
        }
    }

    /// Whether rows may still be missing from the index.
    pub(crate) fn is_opening(&self) -> bool {
        self.opening.load(Ordering::Acquire)
    }

    /// An error when the table was dropped after its handle was made.
    pub(crate) fn check_live(&self) -> Result<(), StoreError> {
        if self.dropped.load(Ordering::Acquire) {
            return Err(StoreError::UnknownTable(self.key.name.to_string()));
        }
        Ok(())
    }

    /// Ends `StoreCore::pin`. Called with the state's write lock held, together with the
    /// publication that makes index and rows agree again.
    pub(crate) fn unpin(&self) {
        *self.pinned.lock() = None;
    }

    /// The index, in a store that has one.
    pub(crate) fn index<'a>(&self, state: &'a TableState) -> Result<&'a Index, StoreError> {
        state.index.as_ref().ok_or_else(|| StoreError::NoIndex {
            table: self.key.name.to_string(),
        })
    }

    /// An error unless a vector has the table's dimension.
    pub(crate) fn check_dim(&self, vector: &[f32]) -> Result<(), StoreError> {
        if vector.len() == usize::from(self.record.schema.dim) {
            return Ok(());
        }
        Err(StoreError::DimensionMismatch {
            table: self.key.name.to_string(),
            expected: self.record.schema.dim,
            got: vector.len(),
        })
    }

    pub(crate) fn corrupt(&self, key: &[u8], detail: impl Into<String>) -> StoreError {
        StoreError::CorruptRow {
            table: self.key.name.to_string(),
            key: key.to_vec(),
            detail: detail.into(),
        }
    }
}

impl TableState {
    /// A table without rows, made for those of this record.
    pub(crate) fn empty(record: &TableRecord) -> Result<Self, StoreError> {
        Ok(Self {
            index: Some(Index::new(&super::load::spec(record))?),
            keys: KeyDirectory::default(),
        })
    }

    /// A table without an index.
    pub(crate) fn bare() -> Self {
        Self {
            index: None,
            keys: KeyDirectory::default(),
        }
    }

    /// Takes in a row that an open has read, by up to two of so many threads.
    pub(crate) fn load(&mut self, id: RowId, key: &[u8], vector: EncodedView<'_>, threads: usize) {
        let slot = self.keys.allocate(key);
        // A backend shows each key once.
        self.keys.bind_later(slot);
        if let Some(index) = &mut self.index {
            index.load(slot, id, vector);
        }
        if self.keys.unbound() >= LOOKED_UP {
            self.look_up(threads);
        }
    }

    /// Looks keys and twins up, of all rows that were loaded since the last time.
    pub(crate) fn look_up(&mut self, threads: usize) {
        let Self { keys, index } = self;
        std::thread::scope(|scope| {
            let both = index.as_ref().is_some_and(Index::has_twins);
            if threads > 1 && both && keys.unbound() >= LOOKED_UP / 8 {
                let apart = std::thread::Builder::new().name("vecstash-keys".to_owned());
                // Without another thread this one does it all.
                let _ = apart.spawn_scoped(scope, || keys.bind_all());
            }
            if let Some(index) = index {
                index.join_twins();
            }
        });
        self.keys.bind_all();
    }

    /// The slot of a key and the id of the row in it.
    pub(crate) fn find(&self, key: &[u8]) -> Option<(Slot, RowId)> {
        let slot = self.keys.get(key)?;
        let id = self.index.as_ref()?.row_id(slot)?;
        Some((slot, id))
    }
}
