//! Loading the tables of a store, side by side as far as there are threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::hints::HintLog;
use super::load::{Step, Stored, Walk, load_table};
use super::options::{
    OpenOptions, OpenProgress, OpenReport, OpenStage, QuarantinedRow, TableReport,
};
use super::shared::{RowIds, StoreCore, TableCore, TableState};
use crate::error::StoreError;
use crate::inner_storage::{StoredTable, Verify};
use crate::kernel::peak_memory;
use crate::schema::IndexKind;

/// Quarantined rows listed one by one in a report; the rest are counted.
const QUARANTINE_LISTED_MAX: usize = 1_000;

/// Least time between two calls of the progress callback within one stage of a table.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The tables of a store that is being opened, in order of their names.
pub(super) struct Loading {
    options: OpenOptions,
    tables: Vec<(Arc<TableCore>, Option<u64>)>,
    report: OpenReport,
    started: Instant,
}

/// What those who load tables share.
struct Loader<'a> {
    core: &'a StoreCore,
    options: &'a OpenOptions,
    started: Instant,
    /// Threads for each table.
    threads: usize,
    /// Bytes of vectors read so far.
    bytes: AtomicU64,
    /// Set when one table could not be loaded: the others need not be.
    failed: AtomicBool,
    go_on: &'a (dyn Fn() -> bool + Sync),
}

impl Loading {
    /// Tables as stored, still without rows.
    pub(super) fn prepare(
        options: &OpenOptions,
        tables: Vec<StoredTable>,
        report: OpenReport,
        started: Instant,
    ) -> Result<Self, StoreError> {
        let empty = |stored: StoredTable| {
            let state = if options.builds_indexes() {
                stored.record.validate()?;
                TableState::empty(&stored.record)?
            } else {
                TableState::bare()
            };
            let table = TableCore::new(stored.record, stored.next_row_id, state);
            Ok((Arc::new(table), stored.rows))
        };
        Ok(Self {
            options: options.clone(),
            tables: tables
                .into_iter()
                .map(empty)
                .collect::<Result<_, StoreError>>()?,
            report,
            started,
        })
    }

    /// Makes the tables known before they are loaded.
    pub(super) fn register(&self, core: &StoreCore) {
        for table in self.tables() {
            table.opening.store(true, Ordering::Release);
            core.register(table);
        }
    }

    pub(super) fn tables(&self) -> Vec<Arc<TableCore>> {
        let tables = self.tables.iter();
        tables.map(|(table, _)| Arc::clone(table)).collect()
    }

    /// Loads all tables, the largest first, side by side as far as there are threads.
    pub(super) fn run(
        self,
        core: &StoreCore,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<OpenReport, StoreError> {
        let mut report = self.report;
        if self.options.builds_indexes() {
            report.tables = load_all(core, &self.options, self.tables, self.started, go_on)?;
        }
        report.add_up_tables();
        report.peak_memory_bytes = peak_memory();
        report.total_seconds = self.started.elapsed().as_secs_f64();
        Ok(report)
    }
}

fn load_all(
    core: &StoreCore,
    options: &OpenOptions,
    tables: Vec<(Arc<TableCore>, Option<u64>)>,
    started: Instant,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<TableReport>, StoreError> {
    let workers = core.threads().min(tables.len()).max(1);
    let loader = Loader {
        core,
        options,
        started,
        threads: core.threads().div_ceil(workers),
        bytes: AtomicU64::new(0),
        failed: AtomicBool::new(false),
        go_on,
    };
    let count = tables.len();
    let mut waiting: Vec<(usize, _)> = tables.into_iter().enumerate().collect();
    // Taken from the end.
    waiting.sort_by_key(|(_, (_, rows))| *rows);
    let waiting = Mutex::new(waiting);
    let loaded: Mutex<Vec<Option<Result<TableReport, StoreError>>>> =
        Mutex::new((0..count).map(|_| None).collect());
    let work = || {
        loop {
            let next = waiting.lock().pop();
            let Some((nth, (table, rows))) = next else {
                break;
            };
            let report = loader.load(&table, rows);
            loader.failed.fetch_or(report.is_err(), Ordering::AcqRel);
            loaded.lock()[nth] = Some(report);
            if loader.failed.load(Ordering::Acquire) {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            let thread = std::thread::Builder::new().name("vecstash-load".to_owned());
            // Without another thread this one does it all.
            let _ = thread.spawn_scoped(scope, work);
        }
        work();
    });
    all(loaded.into_inner())
}

/// The reports, or the first error that is not the echo of another one.
fn all(
    loaded: Vec<Option<Result<TableReport, StoreError>>>,
) -> Result<Vec<TableReport>, StoreError> {
    let (mut reports, mut cancelled) = (Vec::new(), false);
    for report in loaded.into_iter().flatten() {
        match report {
            Ok(report) => reports.push(report),
            Err(StoreError::Cancelled) => cancelled = true,
            Err(error) => return Err(error),
        }
    }
    if cancelled {
        return Err(StoreError::Cancelled);
    }
    Ok(reports)
}

impl Loader<'_> {
    fn load(&self, table: &TableCore, rows: Option<u64>) -> Result<TableReport, StoreError> {
        let (record, key) = (&table.record, &table.key);
        let next_row_id = table.row_ids.lock().next;
        let content = Stored {
            next_row_id,
            rows,
            hinted: rows.unwrap_or(0) >= self.options.hinted_rows_min as u64,
        };
        let mut pace = Pace::new();
        let mut progress = |step: Step| self.progress(&key.name, rows, &step, &mut pace);
        let walk = if table.kind == IndexKind::Hnsw {
            let how = (self.threads, &table.state);
            load_table(self.core, record, key, content, how, &mut progress)?
        } else {
            // Others cannot be searched before they are whole.
            let state = RwLock::new(TableState::empty(record)?);
            let how = (self.threads, &state);
            let walk = load_table(self.core, record, key, content, how, &mut progress)?;
            *table.state.write() = state.into_inner();
            walk
        };
        self.check_count(rows, &walk)?;
        let report = report_of(&key.name, &walk);
        table.loaded(walk);
        Ok(report)
    }

    /// Where the file's pages were not all proved, a damaged one may hide rows.
    fn check_count(&self, rows: Option<u64>, walk: &Walk) -> Result<(), StoreError> {
        let found = walk.rows + walk.quarantined.len() as u64;
        match rows {
            Some(rows) if self.options.verify != Verify::Full && rows != found => {
                Err(StoreError::Backend(format!(
                    "{found} rows were found where the file counts {rows}: a page is damaged; \
                     open with Verify::Full to see which, or salvage the file"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Tells the caller, a few times a second, and asks whether to go on.
    fn progress(
        &self,
        name: &Arc<str>,
        rows: Option<u64>,
        step: &Step,
        pace: &mut Pace,
    ) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) || !(self.go_on)() {
            return Err(StoreError::Cancelled);
        }
        pace.enter(step.stage);
        if !step.force && pace.told.elapsed() < PROGRESS_EVERY {
            return Ok(());
        }
        pace.told = Instant::now();
        let more = step.bytes - pace.bytes;
        pace.bytes = step.bytes;
        let rows_total = step.rows_total.or(rows);
        self.options.call_progress(&OpenProgress {
            stage: step.stage,
            table: Some(name.to_string()),
            rows: step.rows,
            rows_total,
            bytes: self.bytes.fetch_add(more, Ordering::Relaxed) + more,
            elapsed: self.started.elapsed(),
            left: rows_total.and_then(|total| pace.left(step.rows, total)),
        })
    }
}

/// How fast a stage of a table proceeds.
struct Pace {
    stage: Option<OpenStage>,
    began: Instant,
    told: Instant,
    /// Bytes of this table that have been told of.
    bytes: u64,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            stage: None,
            began: now,
            told: now,
            bytes: 0,
        }
    }

    fn enter(&mut self, stage: OpenStage) {
        if self.stage.replace(stage) != Some(stage) {
            self.began = Instant::now();
        }
    }

    fn left(&self, done: u64, total: u64) -> Option<Duration> {
        let rest = total.saturating_sub(done) as f64;
        let seconds = self.began.elapsed().as_secs_f64() * rest / done as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

fn report_of(name: &str, walk: &Walk) -> TableReport {
    let listed = walk.quarantined.iter().take(QUARANTINE_LISTED_MAX);
    TableReport {
        name: name.to_string(),
        rows: walk.rows,
        bytes: walk.bytes,
        quarantined: listed
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
    }
}

impl TableCore {
    /// Takes over what a walk over the rows has found out.
    fn loaded(&self, walk: Walk) {
        let next = self.row_ids.lock().next.max(walk.next_row_id);
        *self.row_ids.lock() = RowIds {
            next,
            reserved: next,
        };
        #[cfg(feature = "turbo")]
        {
            *self.fitted_below.lock() = next;
        }
        *self.hints.lock() = HintLog::opened(&walk.linked, walk.rows as usize);
        *self.quarantined.lock() = walk.quarantined;
        self.opening.store(false, Ordering::Release);
    }
}

impl OpenReport {
    /// Sums up what was done for each table.
    pub(super) fn add_up_tables(&mut self) {
        for table in &self.tables {
            self.rows += table.rows;
            self.bytes += table.bytes;
            self.walk_seconds += table.walk_seconds;
            self.link_seconds += table.link_seconds;
            self.hinted_rows += table.hinted_rows;
            self.relinked_rows += table.relinked_rows;
            self.quarantined_rows += table.quarantined_rows;
        }
    }
}
