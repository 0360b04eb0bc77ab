//! The open journey: prove the file, list the tables, walk each table's rows once, build its
//! index, and only then serve.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::VectorStore;
use super::open_tables::Loading;
use super::options::{OpenOptions, OpenProgress, OpenReport, OpenStage};
use super::serve::load_behind;
use super::shared::StoreCore;
use crate::error::StoreError;
use crate::inner_storage::{Backend, MemoryBackend, RedbBackend, RedbOptions};
use crate::kernel;

impl OpenOptions {
    /// Opens the store in the file at `path`, creating it when it is absent.
    ///
    /// Returns once every table's index is built, so the first search is as good as any.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`], [`StoreError::NewerFormat`], [`StoreError::CorruptFile`],
    /// [`StoreError::CorruptRow`], [`StoreError::AlreadyOpen`], [`StoreError::Io`],
    /// [`StoreError::Cancelled`], [`StoreError::Unsupported`] for a turbo table without the feature
    /// `turbo`, or a failure to write ([`StoreError::Storage`], [`StoreError::StorageFull`]). A
    /// file that is not ours is left byte for byte as it was.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<VectorStore, StoreError> {
        let started = Instant::now();
        self.report_stage(OpenStage::Check, None, 0, started)?;
        let options = RedbOptions::default()
            .create(self.create)
            .read_only(self.read_only)
            .cache_bytes(self.cache_bytes)
            .verify(self.verify);
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
        let report = OpenReport {
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
        let serves = self.serve_while_opening && self.builds_indexes();
        let loading = Loading::prepare(self, catalog.tables, report, started)?;
        let core = Arc::new(core);
        if serves {
            loading.register(&core);
            load_behind(&core, loading)?;
        } else {
            let tables = loading.tables();
            let report = loading.run(&core, &|| true)?;
            tables.into_iter().for_each(|table| core.register(table));
            finish_open(&core, report);
        }
        Ok(VectorStore::from_core(core))
    }

    /// A store that writes always has its indexes; a read-only one only when it is asked to.
    pub(super) fn builds_indexes(&self) -> bool {
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
            left: None,
        })
    }

    pub(super) fn call_progress(&self, progress: &OpenProgress) -> Result<(), StoreError> {
        match &self.progress {
            Some(callback) if callback(progress).is_break() => Err(StoreError::Cancelled),
            _ => Ok(()),
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
        Self::from_core(Arc::new(core))
    }
}

/// Keeps the report of an open that is over.
pub(super) fn finish_open(core: &StoreCore, report: OpenReport) {
    tracing::info!(
        rows = report.rows,
        seconds = report.total_seconds,
        "store open"
    );
    // Set once, here: nobody else has come so far.
    let _ = core.report.set(report);
}
