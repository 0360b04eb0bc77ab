//! What a caller may ask of an open, a search or a page, and what comes back.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::inner_storage::{Durability, Verify};
use crate::row::{Metadata, RowKey, VectorRow};

/// Tables below this are linked anew at every open unless the options say otherwise.
const HINTED_ROWS_MIN: usize = 100_000;

/// What `open` does about a row whose bytes are damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum OnCorrupt {
    /// Fail with [`crate::StoreError::CorruptRow`], naming table and key.
    #[default]
    Fail,
    /// Leave the row out of searches and scrolls, report it, and keep it on disk until it is deleted
    /// or overwritten. Asking for it by its key still fails. A store without indexes reads no row
    /// before it is asked for, so it reports none.
    Quarantine,
}

/// Called during `open`. `Break` cancels it with [`crate::StoreError::Cancelled`].
pub type ProgressFn = dyn Fn(&OpenProgress) -> ControlFlow<()> + Send + Sync;

/// How to open a store. Start from `new()` and set what differs.
///
/// ```
/// use vecstash::{Durability, OpenOptions};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("cache.vecstash");
/// let store = OpenOptions::new()
///     .durability(Durability::Immediate)
///     .threads(1)
///     .open(&path)?;
/// assert_eq!(store.open_report().rows, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct OpenOptions {
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    pub(crate) index: Option<bool>,
    pub(crate) durability: Durability,
    pub(crate) cache_bytes: usize,
    pub(crate) verify: Verify,
    pub(crate) threads: usize,
    pub(crate) on_corrupt: OnCorrupt,
    pub(crate) hinted_rows_min: usize,
    pub(crate) serve_while_opening: bool,
    pub(crate) progress: Option<Arc<ProgressFn>>,
    pub(crate) clock: Option<Arc<dyn Fn() -> u64 + Send + Sync>>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            create: true,
            read_only: false,
            index: None,
            durability: Durability::Immediate,
            cache_bytes: 2 << 20,
            verify: Verify::Full,
            threads: 0,
            on_corrupt: OnCorrupt::Fail,
            hinted_rows_min: HINTED_ROWS_MIN,
            serve_while_opening: false,
            progress: None,
            clock: None,
        }
    }
}

impl std::fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenOptions")
            .field("create", &self.create)
            .field("read_only", &self.read_only)
            .field("index", &self.index)
            .field("durability", &self.durability)
            .field("cache_bytes", &self.cache_bytes)
            .field("verify", &self.verify)
            .field("threads", &self.threads)
            .field("on_corrupt", &self.on_corrupt)
            .field("hinted_rows_min", &self.hinted_rows_min)
            .field("serve_while_opening", &self.serve_while_opening)
            .finish_non_exhaustive()
    }
}

impl OpenOptions {
    /// The defaults: create the file when it is absent, read and write, every commit durable
    /// before it is acknowledged, a small cache, all cores.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a missing file is created. Default `true`.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Opens without the right to write: the file stays byte-identical, even one that a crash
    /// left in need of recovery, and no writer may have it open. Default `false`.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether indexes are built. Default: yes for a store that writes, no for a read-only one,
    /// which then reads rows (by key and by `scroll`), counts, checks and copies at once, and does
    /// not search. A store that writes always builds them.
    #[must_use]
    pub fn index(mut self, index: bool) -> Self {
        self.index = Some(index);
        self
    }

    /// When writes are acknowledged. Default [`Durability::Immediate`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Bytes of file pages kept in memory. Default 2 MiB, which a core's own cache holds: with 32 MiB
    /// an open takes a fifth longer, with a gigabyte several times as long, and reads of rows are no
    /// faster, since the operating system caches the file anyway.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// How much of the file is proved before anything is read. Default [`Verify::Full`].
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// Threads for rebuilds and batches, at most 1,024; 0, the default, for one per core. The
    /// index built is the same for any number.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.min(crate::limits::THREADS_MAX);
        self
    }

    /// What to do about damaged rows. Default [`OnCorrupt::Fail`].
    #[must_use]
    pub fn on_corrupt(mut self, on_corrupt: OnCorrupt) -> Self {
        self.on_corrupt = on_corrupt;
        self
    }

    /// HNSW tables of at least so many rows keep their links in the file, some 55 bytes a row, so
    /// that the next open reads them instead of finding them again. They are hints: an open takes
    /// nothing on trust from them. 0 for every table that has a graph, `usize::MAX` for none.
    /// Default 100,000: below, finding them takes seconds.
    #[must_use]
    pub fn hinted_rows_min(mut self, rows: usize) -> Self {
        self.hinted_rows_min = rows;
        self
    }

    /// Whether an open returns as soon as the file is proved, before the tables are loaded. Reads by
    /// key, scrolls and counts then answer as ever; searches compare exactly what is loaded so far
    /// ([`Table::answer`](crate::Table::answer) says when that is not all of it), or read the file
    /// where a table is not of the HNSW kind; whatever writes, checks or compacts waits until all is
    /// loaded, and must not be called by the progress callback. What keeps tables from being loaded
    /// is told by [`VectorStore::wait_until_open`](crate::VectorStore::wait_until_open), and the
    /// store refuses further work. A close stops the loading; when the last handle goes without one,
    /// it stops by itself, and the file is let go of soon after. Default `false`: everything before
    /// the first request.
    ///
    /// ```
    /// use vecstash::OpenOptions;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("cache.vecstash");
    /// let store = OpenOptions::new().serve_while_opening(true).open(&path)?;
    /// assert_eq!(store.wait_until_open()?.rows, 0);
    /// assert!(!store.is_opening());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn serve_while_opening(mut self, serve: bool) -> Self {
        self.serve_while_opening = serve;
        self
    }

    /// Called as the open proceeds, a few times a second and at every change of stage.
    #[must_use]
    pub fn progress(
        mut self,
        progress: impl Fn(&OpenProgress) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Milliseconds since the Unix epoch from here instead of the system clock.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }
}

/// Which part of an open is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OpenStage {
    /// Proving what the file is, recovering it, checking every page.
    Check,
    /// Reading the rows of one table.
    Walk,
    /// Building the index of one table.
    Link,
}

/// Where an open stands.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct OpenProgress {
    /// The stage.
    pub stage: OpenStage,
    /// The table, in the stages that have one.
    pub table: Option<String>,
    /// Rows done in this stage of this table.
    pub rows: u64,
    /// Rows this stage will do, when known.
    pub rows_total: Option<u64>,
    /// Bytes of vectors read so far, over all tables.
    pub bytes: u64,
    /// Time since the open began.
    pub elapsed: Duration,
    /// Time that this stage of this table will still take at its pace so far, when known.
    pub left: Option<Duration>,
}

/// What an open did for one table.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct TableReport {
    /// Table name.
    pub name: String,
    /// Rows in the index.
    pub rows: u64,
    /// Bytes of encoded vectors read.
    pub bytes: u64,
    /// Rows left out because their bytes are damaged, at most 1,000 of them listed.
    pub quarantined: Vec<QuarantinedRow>,
    /// How many rows were left out.
    pub quarantined_rows: u64,
    /// Seconds reading rows.
    pub walk_seconds: f64,
    /// Seconds building the index.
    pub link_seconds: f64,
    /// Distinct vectors whose links were read from the file instead of being found again.
    pub hinted_rows: u64,
    /// Distinct vectors whose stored links were missing or too few, and that were searched for.
    pub relinked_rows: u64,
    /// Whether the file had links for this table that were of no use, so that the index was built
    /// as if there were none: most rows have changed since, or the links were wrong.
    pub hints_refused: bool,
}

/// A row that an open left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct QuarantinedRow {
    /// Row key.
    pub key: RowKey,
    /// What does not hold.
    pub detail: String,
}

/// What an open did.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct OpenReport {
    /// Rows in all indexes.
    pub rows: u64,
    /// Bytes of encoded vectors read.
    pub bytes: u64,
    /// Bytes of the file, where there is one.
    pub file_bytes: u64,
    /// Threads that built the indexes.
    pub threads: usize,
    /// The kernels in use.
    pub kernels: String,
    /// Seconds proving what the file is, recovering it and checking every page.
    pub check_seconds: f64,
    /// Seconds reading rows, the sum of all tables, which are opened side by side.
    pub walk_seconds: f64,
    /// Seconds building indexes, the sum of all tables.
    pub link_seconds: f64,
    /// Seconds of the whole open.
    pub total_seconds: f64,
    /// Distinct vectors whose links were read from the file, all tables.
    pub hinted_rows: u64,
    /// Distinct vectors whose stored links were missing or too few, all tables.
    pub relinked_rows: u64,
    /// Rows left out because their bytes are damaged, all tables.
    pub quarantined_rows: u64,
    /// The most memory that this process has had resident up to the end of the open, in bytes,
    /// whatever it was for; where the system says so (Linux).
    pub peak_memory_bytes: Option<u64>,
    /// One entry a table, in order of their names.
    pub tables: Vec<TableReport>,
}

/// What a hit carries besides key and distance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Return {
    /// Nothing more: no row is read for it. (Tables whose rows are not whole in memory read those
    /// that may be among the nearest, to score them.)
    Keys,
    /// The metadata and timestamps.
    #[default]
    Metadata,
    /// The whole row, vector included.
    Rows,
}

/// How to search. Start from `new(k)` and set what differs.
///
/// ```
/// use vecstash::{Return, SearchOptions};
/// let options = SearchOptions::new(10).ef(128).max_distance(0.4).returning(Return::Keys);
/// assert_eq!(options.k, 10);
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct SearchOptions {
    /// How many hits at most. More than the table holds means all rows; 0 means none.
    pub k: usize,
    /// Size of the candidate pool, for HNSW tables; `None` for the schema's `ef_search`. Never
    /// less than `k` in effect. A pool as large as the table means an exact scan.
    pub ef: Option<usize>,
    /// Compare every row instead of asking the index.
    pub exact: bool,
    /// Leave out hits farther than this. A hit exactly this far stays.
    pub max_distance: Option<f32>,
    /// How many candidates get an exact distance, at least `k` in effect; `None` for the default
    /// (24 for HNSW tables or a quarter of `ef`, 30 for turbo tables, or `2 k` where that is more).
    pub rerank: Option<usize>,
    /// What a hit carries.
    pub returning: Return,
}

impl SearchOptions {
    /// The `k` nearest rows with their metadata.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self {
            k,
            ef: None,
            exact: false,
            max_distance: None,
            rerank: None,
            returning: Return::default(),
        }
    }

    /// Sets the size of the candidate pool.
    #[must_use]
    pub fn ef(mut self, ef: usize) -> Self {
        self.ef = Some(ef);
        self
    }

    /// Compares every row.
    #[must_use]
    pub fn exact(mut self, exact: bool) -> Self {
        self.exact = exact;
        self
    }

    /// Leaves out hits farther than `distance`.
    #[must_use]
    pub fn max_distance(mut self, distance: f32) -> Self {
        self.max_distance = Some(distance);
        self
    }

    /// Sets how many candidates get an exact distance.
    #[must_use]
    pub fn rerank(mut self, candidates: usize) -> Self {
        self.rerank = Some(candidates);
        self
    }

    /// Sets what a hit carries.
    #[must_use]
    pub fn returning(mut self, returning: Return) -> Self {
        self.returning = returning;
        self
    }
}

/// One row found.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Hit {
    /// Row key.
    pub key: RowKey,
    /// Distance to the query, in the units of the table's [`crate::Distance`]. Computed from the
    /// stored form of the vector: the same before and after a reopen, on every machine.
    pub distance: f32,
    /// The row, as far as [`SearchOptions::returning`] asked; `None` for [`Return::Keys`]. Its
    /// vector is empty unless [`Return::Rows`] was asked.
    pub row: Option<VectorRow>,
}

/// What a search found, and whether it could see every row.
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Answer {
    /// The hits, nearest first.
    pub hits: Vec<Hit>,
    /// Whether the table was still being loaded when the search began, so that rows may be missing.
    pub partial: bool,
}

/// A page of a scroll.
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Page {
    /// The rows, in key order.
    pub rows: Vec<VectorRow>,
    /// Give this to the next call as `after`; `None` when the table is at its end.
    pub next: Option<RowKey>,
}

/// One row to write.
#[derive(Clone, PartialEq, Debug)]
pub struct NewRow {
    /// Row key.
    pub key: RowKey,
    /// The vector, as long as the table's dimension.
    pub vector: Vec<f32>,
    /// Metadata.
    pub metadata: Metadata,
}
