//! The open journey: prove the file, list the tables, walk each table's rows once, build its
//! index, and only then serve.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::VectorStore;
use super::hints::HintLog;
use super::keys::KeyDirectory;
use super::load::{Step, Stored, load_table};
use super::options::{
    OpenOptions, OpenProgress, OpenReport, OpenStage, QuarantinedRow, TableReport,
};
use super::shared::{StoreCore, TableCore, TableState};
use crate::error::StoreError;
use crate::inner_storage::{
    Backend, MemoryBackend, RedbBackend, RedbOptions, StoredTable, TableKey,
};
use crate::kernel;

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
        let hinted = stored.rows.unwrap_or(0) >= self.hinted_rows_min as u64;
        let content = Stored {
            next_row_id,
            rows: stored.rows,
            hints: if hinted {
                hints(core, &key)?
            } else {
                Vec::new()
            },
        };
        let (state, walk) = load_table(core, &record, &key, content, &mut progress)?;
        let next = next_row_id.max(walk.next_row_id);
        let mut table = TableCore::new(record, next, state);
        table.hints = HintLog::opened(&walk.linked, walk.rows as usize);
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
            hinted_rows: walk.linked.hinted as u64,
            relinked_rows: walk.linked.relinked as u64,
            hints_refused: walk.linked.refused,
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

/// The groups of a table's log of links, without the damaged ones: what they told of is searched
/// for.
fn hints(core: &StoreCore, key: &TableKey) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut groups = Vec::new();
    core.backend.scan_links(key, &mut |group| {
        match group {
            Ok(group) => groups.push(group.to_vec()),
            Err(detail) => tracing::warn!(table = %key.name, detail, "links passed over"),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(groups)
}
