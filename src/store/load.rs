//! Loading one table: a walk over its rows, straight into an index, and the linking of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::feed::Feed;
use super::input::check_key;
use super::options::{OnCorrupt, OpenStage};
use super::shared::{StoreCore, TableState};
use crate::encoding::{EncodedVector, EncodedView};
use crate::error::{IndexError, StoreError};
use crate::ids::RowId;
use crate::inner_index::{Index, IndexSpec, Job, Linked};
use crate::inner_storage::TableKey;
use crate::limits;
use crate::row::{RecordView, RowKey};
use crate::schema::TableRecord;

/// Where loading one table stands.
pub(crate) struct Step {
    pub(crate) stage: OpenStage,
    pub(crate) rows: u64,
    pub(crate) rows_total: Option<u64>,
    pub(crate) bytes: u64,
    /// Whether the callback is due however recent the last call was.
    pub(crate) force: bool,
}

/// Rows between two looks at whether the caller wants to hear of progress.
const PROGRESS_ROWS: u64 = 256;

/// Tables below this are walked and loaded by one thread.
const FED_ROWS_MIN: usize = 10_000;

/// What loading one table did.
#[derive(Default)]
pub(crate) struct Walk {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) next_row_id: RowId,
    pub(crate) quarantined: BTreeMap<RowKey, String>,
    pub(crate) walk_seconds: f64,
    pub(crate) link_seconds: f64,
    pub(crate) linked: Linked,
}

/// What is stored of a table beside its record and its rows.
pub(crate) struct Stored {
    pub(crate) next_row_id: RowId,
    /// How many rows there should be, where that is known.
    pub(crate) rows: Option<u64>,
    /// Whether its log of links is to be read.
    pub(crate) hinted: bool,
}

/// Walks the rows of one table once, by up to two of so many threads, straight into `table`, which
/// is empty, and links them. Others may look into the table meanwhile.
///
/// The index depends on what is stored alone, in whatever order the walk meets the rows.
pub(crate) fn load_table(
    core: &StoreCore,
    record: &TableRecord,
    key: &TableKey,
    stored: Stored,
    (threads, table): (usize, &RwLock<TableState>),
    progress: &mut (dyn FnMut(Step) -> Result<(), StoreError> + Send),
) -> Result<Walk, StoreError> {
    let started = Instant::now();
    let next_row_id = stored.next_row_id;
    if next_row_id.get() > limits::ROW_ID_END {
        return Err(StoreError::Backend(format!(
            "table {} promises row ids up to {next_row_id}, and ids end at {}",
            key.name,
            limits::ROW_ID_END
        )));
    }
    let mut walk = walk(core, record, key, stored, (threads, table), progress)?;
    walk.walk_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    walk.linked = core.install(|| link((threads, table), walk.bytes, progress))?;
    if let Some(index) = &mut table.write().index {
        index.publish(walk.next_row_id);
    }
    walk.link_seconds = started.elapsed().as_secs_f64();
    Ok(walk)
}

/// Links the rows that were walked, so many bytes of vectors.
fn link(
    (threads, table): (usize, &RwLock<TableState>),
    bytes: u64,
    progress: &mut (dyn FnMut(Step) -> Result<(), StoreError> + Send),
) -> Result<Linked, StoreError> {
    let cancelled: Mutex<Option<StoreError>> = Mutex::new(None);
    let callback = Mutex::new(progress);
    let report = |done: usize, total: usize| {
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
    };
    let linked = link_index(threads, table, &report);
    match cancelled.into_inner() {
        Some(error) => Err(error),
        None => Ok(linked?),
    }
}

fn link_index(
    threads: usize,
    table: &RwLock<TableState>,
    progress: &(dyn Fn(usize, usize) -> bool + Sync),
) -> Result<Linked, IndexError> {
    let Some(mut job) = begin(threads, table) else {
        return Ok(Linked::default());
    };
    loop {
        let found = match &table.read().index {
            Some(index) => index.find_links(job, progress)?,
            None => return Ok(Linked::default()),
        };
        match &mut table.write().index {
            Some(index) => match index.end_build(found, progress)? {
                Ok(linked) => return Ok(linked),
                Err(next) => job = next,
            },
            None => return Ok(Linked::default()),
        }
    }
}

/// Ends the load. Nothing here waits for the pool, whose threads may be waiting for the lock.
fn begin(threads: usize, table: &RwLock<TableState>) -> Option<Job> {
    let mut state = table.write();
    state.look_up(threads);
    state.index.as_mut().map(Index::begin_build)
}

/// Reads every row once, into an index that is not linked yet.
fn walk(
    core: &StoreCore,
    record: &TableRecord,
    key: &TableKey,
    stored: Stored,
    (threads, table): (usize, &RwLock<TableState>),
    progress: &mut (dyn FnMut(Step) -> Result<(), StoreError> + Send),
) -> Result<Walk, StoreError> {
    let expected = expected(core, record, stored.rows)?;
    make_room(core, record, key, &stored, expected, table)?;
    let next_row_id = stored.next_row_id;
    let threads = if expected < FED_ROWS_MIN { 1 } else { threads };
    let on_corrupt = core.options.on_corrupt;
    std::thread::scope(|scope| {
        let shape = (record.schema.codec, record.schema.dim);
        let mut loader = Loader {
            record,
            feed: Feed::new(scope, table, shape, threads),
            loaded: 0,
            walk: Walk {
                next_row_id,
                ..Walk::default()
            },
            unnumbered: Vec::new(),
        };
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
            if loader.walk.rows.is_multiple_of(PROGRESS_ROWS) {
                progress(loader.step(false))?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        loader.number_the_unnumbered();
        progress(loader.step(true))?;
        loader.feed.finish();
        Ok(loader.walk)
    })
}

/// Makes room for so many rows, and for what the table's log of links tells of them.
fn make_room(
    core: &StoreCore,
    record: &TableRecord,
    key: &TableKey,
    stored: &Stored,
    expected: usize,
    table: &RwLock<TableState>,
) -> Result<(), StoreError> {
    // Aside: searches may be looking into the table, and have the pool's threads.
    let mut state = TableState::empty(record)?;
    // The system takes as long to give memory as the log takes to be read.
    core.install(|| {
        let room = || {
            state.keys.reserve(expected);
            if let Some(index) = &mut state.index {
                index.reserve(expected);
            }
        };
        let read = || match stored.hinted {
            true => hints(core, record, key, expected),
            false => Ok(Vec::new()),
        };
        let ((), hints) = rayon::join(room, read);
        if let Some(index) = &mut state.index {
            index.expect(hints?);
        }
        Ok::<(), StoreError>(())
    })?;
    *table.write() = state;
    Ok(())
}

/// The groups of a table's log of links, without the damaged ones: what they told of is searched
/// for.
fn hints(
    core: &StoreCore,
    record: &TableRecord,
    key: &TableKey,
    rows: usize,
) -> Result<Vec<Vec<u8>>, StoreError> {
    // Twice what full lists of five bytes a link take, on all levels, and room for small tables.
    let params = &record.schema.hnsw;
    let bytes_max = rows
        .saturating_mul(16 + 10 * (params.m0 + params.m))
        .saturating_add(1 << 20);
    let (mut groups, mut bytes) = (Vec::new(), 0);
    core.backend.scan_links(key, &mut |group| {
        match group {
            Ok(group) if bytes + group.len() > bytes_max => {
                tracing::warn!(table = %key.name, "more links than rows can have");
                return Ok(ControlFlow::Break(()));
            }
            Ok(group) => {
                bytes += group.len();
                groups.push(group.to_vec());
            }
            Err(detail) => tracing::warn!(table = %key.name, detail, "links passed over"),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(groups)
}

/// The rows that the backend announces, as far as its size bears them out.
fn expected(
    core: &StoreCore,
    record: &TableRecord,
    announced: Option<u64>,
) -> Result<usize, StoreError> {
    let schema = &record.schema;
    // What a row takes beside its vector: times, checksum, key and their lengths.
    const BESIDE: u64 = 16;
    let row_len = schema.codec.vector_len_min(usize::from(schema.dim)) as u64 + BESIDE;
    let (Some(rows), Some(bytes)) = (announced, core.backend.bytes_on_disk()?) else {
        return Ok(0);
    };
    Ok(usize::try_from(rows.min(bytes / row_len)).unwrap_or(0))
}

/// Takes rows from the walk into the index and the key directory.
struct Loader<'a, 'scope> {
    record: &'a TableRecord,
    feed: Feed<'scope>,
    /// Rows handed to the feed.
    loaded: u64,
    walk: Walk,
    /// Rows of a backend that does not number them, kept until all are known.
    unnumbered: Vec<(RowKey, EncodedVector)>,
}

impl Loader<'_, '_> {
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
            Some(id) if id.get() >= limits::ROW_ID_END => {
                return Err(corrupt(format!("row id {id} was never handed out")));
            }
            Some(id) => self.load(id, row.key, row.vector),
            None => {
                // Such a backend is somebody else's: it has checked nothing for us.
                check_key(row.key).map_err(|e| corrupt(e.to_string()))?;
                row.vector.validate().map_err(|e| corrupt(e.to_string()))?;
                self.unnumbered
                    .push((row.key.to_vec(), row.vector.to_owned()));
            }
        }
        self.walk.rows += 1;
        self.walk.bytes += row.vector.bytes.len() as u64;
        Ok(())
    }

    fn load(&mut self, id: RowId, key: &[u8], vector: EncodedView<'_>) {
        self.feed.load(id, key, vector);
        self.loaded += 1;
        self.walk.next_row_id = self.walk.next_row_id.max(RowId::new(id.get() + 1));
    }

    /// Numbers rows in key order, so that two opens agree.
    fn number_the_unnumbered(&mut self) {
        let mut rows = std::mem::take(&mut self.unnumbered);
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        // Keys are unique in a backend that keeps its contract; of one that does not, one row each.
        rows.dedup_by(|a, b| a.0 == b.0);
        self.walk.rows = rows.len() as u64 + self.loaded;
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
