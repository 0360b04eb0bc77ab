//! The open journey: prove the file, list the tables, walk each table's rows once, build its
//! index, and only then serve.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::VectorStore;
use super::keys::KeyDirectory;
use super::options::{
    OnCorrupt, OpenOptions, OpenProgress, OpenReport, OpenStage, QuarantinedRow, TableReport,
};
use super::shared::{StoreCore, TableCore, TableState};
use crate::encoding::EncodedVector;
use crate::error::StoreError;
use crate::ids::RowId;
use crate::inner_index::{Index, IndexSpec};
use crate::inner_storage::{
    Backend, MemoryBackend, RedbBackend, RedbOptions, StoredTable, TableKey,
};
use crate::kernel;
use crate::row::{RecordView, RowKey};
use crate::schema::TableRecord;

/// Row ids from here on are never handed out: a stored one is damage, and adding to it would
/// overflow.
const ROW_ID_END: u64 = 1 << 62;

/// Quarantined rows listed one by one in a report; the rest are counted.
const QUARANTINE_LISTED_MAX: usize = 1_000;

/// Least time between two calls of the progress callback within one stage.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

impl OpenOptions {
    /// Opens the store in the file at `path`, creating it when it is absent.
    ///
    /// Returns once every table's index is built, so the first search is as good as any.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`], [`StoreError::NewerFormat`], [`StoreError::CorruptFile`],
    /// [`StoreError::CorruptRow`], [`StoreError::AlreadyOpen`], [`StoreError::Io`] or
    /// [`StoreError::Cancelled`]. A file that is not ours is left byte for byte as it was.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<VectorStore, StoreError> {
        let started = Instant::now();
        self.report_stage(OpenStage::Check, None, 0, started)?;
        let options = RedbOptions::default()
            .create(self.create)
            .read_only(self.read_only)
            .cache_bytes(self.cache_bytes);
        let backend = RedbBackend::open_with(path, &options)?;
        self.open_started(Arc::new(backend), started)
    }

    /// Opens the store that `backend` holds.
    ///
    /// # Errors
    ///
    /// Whatever the backend answers, [`StoreError::CorruptRow`] or [`StoreError::Cancelled`].
    pub fn open_backend(&self, backend: Arc<dyn Backend>) -> Result<VectorStore, StoreError> {
        self.open_started(backend, Instant::now())
    }

    fn open_started(
        &self,
        backend: Arc<dyn Backend>,
        started: Instant,
    ) -> Result<VectorStore, StoreError> {
        let core = StoreCore::new(backend, self.clone());
        let mut report = OpenReport {
            threads: core.threads(),
            kernels: kernel::kernels().name.to_string(),
            file_bytes: core.backend.bytes_on_disk()?.unwrap_or(0),
            check_seconds: started.elapsed().as_secs_f64(),
            ..OpenReport::default()
        };
        let mut catalog = core.backend.list_tables()?;
        core.refresh_snapshot()?;
        core.seat.lock().next_table_id = catalog.next_table_id;
        catalog
            .tables
            .sort_by(|a, b| a.record.schema.name.cmp(&b.record.schema.name));
        for stored in catalog.tables {
            let table = self.open_table(&core, stored, &mut report, started)?;
            core.register(Arc::new(table));
        }
        report.total_seconds = started.elapsed().as_secs_f64();
        tracing::info!(
            rows = report.rows,
            seconds = report.total_seconds,
            "store open"
        );
        // Set once, here: nobody else has seen the core yet.
        let _ = core.report.set(report);
        Ok(VectorStore::from_core(core))
    }

    fn open_table(
        &self,
        core: &StoreCore,
        stored: StoredTable,
        report: &mut OpenReport,
        started: Instant,
    ) -> Result<TableCore, StoreError> {
        let StoredTable {
            record,
            next_row_id,
            ..
        } = stored;
        if !self.builds_indexes() {
            return Ok(TableCore::new(record, next_row_id, TableState::bare()));
        }
        record.validate()?;
        let name: Arc<str> = record.schema.name.as_str().into();
        let key = TableKey {
            id: record.id,
            name: Arc::clone(&name),
        };
        let bytes_before = report.bytes;
        let last_call = Mutex::new(Instant::now());
        let mut progress = |step: Step| {
            if !step.force && last_call.lock().elapsed() < PROGRESS_EVERY {
                return Ok(());
            }
            *last_call.lock() = Instant::now();
            self.call_progress(&OpenProgress {
                stage: step.stage,
                table: Some(name.to_string()),
                rows: step.rows,
                rows_total: step.rows_total.or(stored.rows),
                bytes: bytes_before + step.bytes,
                elapsed: started.elapsed(),
            })
        };
        let (state, walk) =
            load_table(core, &record, &key, next_row_id, stored.rows, &mut progress)?;
        let next = next_row_id.max(walk.next_row_id);
        let table = TableCore::new(record, next, state);
        report.rows += walk.rows;
        report.bytes += walk.bytes;
        report.walk_seconds += walk.walk_seconds;
        report.link_seconds += walk.link_seconds;
        report.tables.push(TableReport {
            name: name.to_string(),
            rows: walk.rows,
            bytes: walk.bytes,
            quarantined: walk
                .quarantined
                .iter()
                .take(QUARANTINE_LISTED_MAX)
                .map(|(key, detail)| QuarantinedRow {
                    key: key.clone(),
                    detail: detail.clone(),
                })
                .collect(),
            quarantined_rows: walk.quarantined.len() as u64,
            walk_seconds: walk.walk_seconds,
            link_seconds: walk.link_seconds,
        });
        *table.quarantined.lock() = walk.quarantined;
        Ok(table)
    }

    /// A store that writes always has its indexes; a read-only one only when it is asked to.
    fn builds_indexes(&self) -> bool {
        !self.read_only || self.index == Some(true)
    }

    fn report_stage(
        &self,
        stage: OpenStage,
        table: Option<String>,
        rows: u64,
        started: Instant,
    ) -> Result<(), StoreError> {
        self.call_progress(&OpenProgress {
            stage,
            table,
            rows,
            rows_total: None,
            bytes: 0,
            elapsed: started.elapsed(),
        })
    }

    fn call_progress(&self, progress: &OpenProgress) -> Result<(), StoreError> {
        match &self.progress {
            Some(callback) if callback(progress).is_break() => Err(StoreError::Cancelled),
            _ => Ok(()),
        }
    }
}

impl TableState {
    /// A table without an index.
    fn bare() -> Self {
        Self {
            index: None,
            keys: KeyDirectory::default(),
        }
    }
}

/// Where loading one table stands.
pub(crate) struct Step {
    stage: OpenStage,
    rows: u64,
    rows_total: Option<u64>,
    bytes: u64,
    /// Whether the callback is due however recent the last call was.
    force: bool,
}

/// What loading one table did.
#[derive(Default)]
pub(crate) struct Walk {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) next_row_id: RowId,
    pub(crate) quarantined: BTreeMap<RowKey, String>,
    pub(crate) walk_seconds: f64,
    pub(crate) link_seconds: f64,
}

/// Walks the rows of one table once, straight into a new index, and links them.
///
/// The index depends on what is stored alone: rows are linked in the order of their ids, in
/// whatever order the walk meets them. `rows` is how many there should be, where that is known.
pub(crate) fn load_table(
    core: &StoreCore,
    record: &TableRecord,
    key: &TableKey,
    next_row_id: RowId,
    rows: Option<u64>,
    progress: &mut (dyn FnMut(Step) -> Result<(), StoreError> + Send),
) -> Result<(TableState, Walk), StoreError> {
    let started = Instant::now();
    let mut loader = Loader {
        record,
        index: Index::new(&spec(record))?,
        keys: KeyDirectory::default(),
        walk: Walk {
            next_row_id,
            ..Walk::default()
        },
        unnumbered: Vec::new(),
    };
    loader.reserve(core, rows)?;
    let on_corrupt = core.options.on_corrupt;
    core.reader().scan(key, &mut |row| {
        match row.and_then(|row| loader.take(row)) {
            Ok(()) => {}
            Err(StoreError::CorruptRow { key, detail, .. })
                if on_corrupt == OnCorrupt::Quarantine =>
            {
                tracing::warn!(table = %record.schema.name, detail, "row quarantined");
                loader.walk.quarantined.insert(key, detail);
            }
            Err(error) => return Err(error),
        }
        progress(loader.step(false))?;
        Ok(ControlFlow::Continue(()))
    })?;
    loader.number_the_unnumbered();
    progress(loader.step(true))?;
    let mut walk = std::mem::take(&mut loader.walk);
    walk.walk_seconds = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let mut index = loader.index;
    let bytes = walk.bytes;
    let cancelled: Mutex<Option<StoreError>> = Mutex::new(None);
    let callback = Mutex::new(progress);
    let built = core.install(|| {
        index.build(&|done, total| {
            let step = Step {
                stage: OpenStage::Link,
                rows: done as u64,
                rows_total: Some(total as u64),
                bytes,
                force: done == 0 || done == total,
            };
            match (callback.lock())(step) {
                Ok(()) => true,
                Err(error) => {
                    *cancelled.lock() = Some(error);
                    false
                }
            }
        })
    });
    if let Some(error) = cancelled.into_inner() {
        return Err(error);
    }
    built?;
    index.publish(walk.next_row_id);
    walk.link_seconds = started.elapsed().as_secs_f64();
    let state = TableState {
        index: Some(index),
        keys: loader.keys,
    };
    Ok((state, walk))
}

/// Takes rows from the walk into the index and the key directory.
struct Loader<'a> {
    record: &'a TableRecord,
    index: Index,
    keys: KeyDirectory,
    walk: Walk,
    /// Rows of a backend that does not number them, kept until all are known.
    unnumbered: Vec<(RowKey, EncodedVector)>,
}

impl Loader<'_> {
    /// Makes room for the rows that the backend announces, as far as its size bears them out.
    fn reserve(&mut self, core: &StoreCore, announced: Option<u64>) -> Result<(), StoreError> {
        let schema = &self.record.schema;
        let row_len = schema.codec.vector_len(usize::from(schema.dim)) as u64;
        let (Some(rows), Some(bytes)) = (announced, core.backend.bytes_on_disk()?) else {
            return Ok(());
        };
        let rows = usize::try_from(rows.min(bytes / row_len)).unwrap_or(0);
        self.keys.reserve(rows);
        self.index.reserve(rows);
        Ok(())
    }

    fn take(&mut self, row: RecordView<'_>) -> Result<(), StoreError> {
        let schema = &self.record.schema;
        let corrupt = |detail: String| StoreError::CorruptRow {
            table: schema.name.clone(),
            key: row.key.to_vec(),
            detail,
        };
        if row.vector.codec != schema.codec || row.vector.dim != schema.dim {
            return Err(corrupt(format!(
                "a {} vector of dimension {} in a {} table of dimension {}",
                row.vector.codec, row.vector.dim, schema.codec, schema.dim
            )));
        }
        match row.id {
            Some(id) if id.get() >= ROW_ID_END => {
                return Err(corrupt(format!("row id {id} was never handed out")));
            }
            Some(id) => self.load(id, row.key, row.vector),
            None => {
                // Such a backend is somebody else's: it has checked nothing for us.
                super::write::check_key(row.key).map_err(|e| corrupt(e.to_string()))?;
                row.vector.validate().map_err(|e| corrupt(e.to_string()))?;
                self.unnumbered
                    .push((row.key.to_vec(), row.vector.to_owned()));
            }
        }
        self.walk.rows += 1;
        self.walk.bytes += row.vector.bytes.len() as u64;
        Ok(())
    }

    fn load(&mut self, id: RowId, key: &[u8], vector: crate::encoding::EncodedView<'_>) {
        let slot = self.keys.allocate(key);
        let bound_before = self.keys.bind(slot);
        debug_assert!(bound_before.is_none(), "a backend shows each key once");
        self.index.load(slot, id, vector);
        self.walk.next_row_id = self.walk.next_row_id.max(RowId::new(id.get() + 1));
    }

    /// Numbers rows in key order, so that two opens agree.
    fn number_the_unnumbered(&mut self) {
        let mut rows = std::mem::take(&mut self.unnumbered);
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        // Keys are unique in a backend that keeps its contract; of one that does not, one row each.
        rows.dedup_by(|a, b| a.0 == b.0);
        self.walk.rows = rows.len() as u64 + self.keys.len() as u64;
        for (id, (key, vector)) in (self.walk.next_row_id.get()..).zip(rows) {
            self.load(RowId::new(id), &key, vector.view());
        }
    }

    fn step(&self, force: bool) -> Step {
        Step {
            stage: OpenStage::Walk,
            rows: self.walk.rows,
            rows_total: None,
            bytes: self.walk.bytes,
            force,
        }
    }
}

/// What the index of this table is made for.
pub(crate) fn spec(record: &TableRecord) -> IndexSpec {
    IndexSpec {
        dim: usize::from(record.schema.dim),
        codec: record.schema.codec,
        distance: record.schema.distance,
        hnsw: record.schema.hnsw,
        kind: record.index_kind(),
        resident: record.options.resident,
        fit: record.turbo.clone(),
    }
}

impl VectorStore {
    /// Opens the store that `backend` holds, with default options.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open_backend`].
    pub fn open(backend: Arc<dyn Backend>) -> Result<Self, StoreError> {
        OpenOptions::new().open_backend(backend)
    }

    /// Opens the store in the file at `path` with default options, creating it when it is absent.
    ///
    /// ```
    /// use vecstash::VectorStore;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("cache.vecstash");
    /// let store = VectorStore::open_path(&path)?;
    /// assert!(store.tables().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    pub fn open_path(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        OpenOptions::new().open(path)
    }

    /// An empty store in memory: nothing of it survives.
    #[must_use]
    pub fn in_memory() -> Self {
        let core = StoreCore::new(Arc::new(MemoryBackend::new()), OpenOptions::new());
        let report = OpenReport {
            threads: core.threads(),
            kernels: kernel::kernels().name.to_string(),
            ..OpenReport::default()
        };
        let _ = core.report.set(report);
        core.seat.lock().next_table_id = crate::ids::TableId::new(1);
        // A fresh memory backend always has a snapshot to give.
        if let Err(error) = core.refresh_snapshot() {
            tracing::error!(error = %error.chain(), "no snapshot of an empty memory backend");
        }
        Self::from_core(core)
    }
}
