//! Loading one table: a walk over its rows, straight into an index, and the linking of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::thread::Scope;
use std::time::Instant;

use parking_lot::Mutex;

use super::feed::Feed;
use super::input::check_key;
use super::keys::KeyDirectory;
use super::options::{OnCorrupt, OpenStage};
use super::shared::{StoreCore, TableState};
use crate::encoding::{EncodedVector, EncodedView};
use crate::error::StoreError;
use crate::ids::RowId;
use crate::inner_index::{Index, IndexSpec, Linked};
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
    /// Groups of its log of links.
    pub(crate) hints: Vec<Vec<u8>>,
}

/// Walks the rows of one table once, straight into a new index, and links them.
///
/// The index depends on what is stored alone, in whatever order the walk meets the rows.
pub(crate) fn load_table(
    core: &StoreCore,
    record: &TableRecord,
    key: &TableKey,
    stored: Stored,
    progress: &mut (dyn FnMut(Step) -> Result<(), StoreError> + Send),
) -> Result<(TableState, Walk), StoreError> {
    let started = Instant::now();
    let Stored {
        next_row_id,
        rows,
        hints,
    } = stored;
    if next_row_id.get() > limits::ROW_ID_END {
        return Err(StoreError::Backend(format!(
            "table {} promises row ids up to {next_row_id}, and ids end at {}",
            key.name,
            limits::ROW_ID_END
        )));
    }
    let walked =
        std::thread::scope(|scope| walk(core, record, key, (next_row_id, rows), scope, progress));
    let (mut index, keys, mut walk) = walked?;
    walk.walk_seconds = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let bytes = walk.bytes;
    let cancelled: Mutex<Option<StoreError>> = Mutex::new(None);
    let callback = Mutex::new(progress);
    let built = core.install(|| {
        index.build_from(&hints, &|done, total| {
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
    walk.linked = built?;
    index.publish(walk.next_row_id);
    walk.link_seconds = started.elapsed().as_secs_f64();
    let state = TableState {
        index: Some(index),
        keys,
    };
    Ok((state, walk))
}

/// Reads every row once, into an index that is not linked yet. `promised` is the next row id and
/// how many rows there should be.
fn walk<'scope, 'env>(
    core: &StoreCore,
    record: &TableRecord,
    key: &TableKey,
    promised: (RowId, Option<u64>),
    scope: &'scope Scope<'scope, 'env>,
    progress: &mut (dyn FnMut(Step) -> Result<(), StoreError> + Send),
) -> Result<(Index, KeyDirectory, Walk), StoreError> {
    let (next_row_id, rows) = promised;
    let expected = expected(core, record, rows)?;
    let mut index = Index::new(&spec(record))?;
    index.reserve(expected);
    let threads = if expected < FED_ROWS_MIN {
        1
    } else {
        core.threads()
    };
    let shape = (record.schema.codec, record.schema.dim);
    let mut loader = Loader {
        record,
        feed: Feed::new(scope, index, shape, threads),
        keys: KeyDirectory::default(),
        walk: Walk {
            next_row_id,
            ..Walk::default()
        },
        unnumbered: Vec::new(),
    };
    loader.keys.reserve(expected);
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
        if loader.walk.rows.is_multiple_of(PROGRESS_ROWS) {
            progress(loader.step(false))?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    loader.number_the_unnumbered();
    progress(loader.step(true))?;
    Ok((loader.feed.finish(), loader.keys, loader.walk))
}

/// The rows that the backend announces, as far as its size bears them out.
fn expected(
    core: &StoreCore,
    record: &TableRecord,
    announced: Option<u64>,
) -> Result<usize, StoreError> {
    let schema = &record.schema;
    let row_len = schema.codec.vector_len(usize::from(schema.dim)) as u64;
    let (Some(rows), Some(bytes)) = (announced, core.backend.bytes_on_disk()?) else {
        return Ok(0);
    };
    Ok(usize::try_from(rows.min(bytes / row_len)).unwrap_or(0))
}

/// Takes rows from the walk into the index and the key directory.
struct Loader<'a, 'scope> {
    record: &'a TableRecord,
    feed: Feed<'scope>,
    keys: KeyDirectory,
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
        let slot = self.keys.allocate(key);
        let bound_before = self.keys.bind(slot);
        debug_assert!(bound_before.is_none(), "a backend shows each key once");
        self.feed.load(slot, id, vector);
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
