//! The indexes of a table in memory. No I/O and no keys: only slots, row ids and codes.
//!
//! Writing is in two steps, so that nothing slow runs under a write lock: `prepare` reads the
//! index and works out a [`Patch`]; `apply` puts it in place and cannot fail. Between the two the
//! index must not change, which the store guarantees by having one writer at a time.

mod arena;
mod codes;
mod exact;
mod flat;
mod hnsw;
mod row_ids;
mod rows;
mod scan;
mod stored;
#[cfg(test)]
mod tests;
mod topk;
#[cfg(feature = "turbo")]
mod turbo;
mod twins;
mod visited;

use self::flat::{Flat, FlatPatch};
pub(crate) use self::hnsw::Linked;
use self::hnsw::{Hnsw, HnswFound, HnswJob, HnswPatch, HnswPlan};
#[cfg(feature = "turbo")]
use self::turbo::{Turbo, TurboPatch};
use crate::distance::Distance;
use crate::encoding::{Codec, EncodedView};
use crate::error::IndexError;
use crate::ids::{RowId, Slot};
use crate::schema::{HnswParams, IndexKind, Residence, TurboFit};

pub(crate) use self::exact::ExactQuery;
pub(crate) use self::scan::Scan;
#[cfg(feature = "turbo")]
pub(crate) use self::turbo::FitAccumulator;

/// What an index is made for.
#[derive(Clone, Debug)]
pub(crate) struct IndexSpec {
    pub(crate) dim: usize,
    pub(crate) codec: Codec,
    pub(crate) distance: Distance,
    pub(crate) hnsw: HnswParams,
    /// Never `Auto`.
    pub(crate) kind: IndexKind,
    pub(crate) resident: Residence,
    // Only turbo tables are fitted.
    #[cfg_attr(not(feature = "turbo"), expect(dead_code))]
    pub(crate) fit: Option<TurboFit>,
}

/// A row about to enter the index.
pub(crate) struct Entry<'a> {
    pub(crate) slot: Slot,
    pub(crate) id: RowId,
    pub(crate) vector: EncodedView<'a>,
    /// A plan made earlier by the caller's own thread; used if it is still good.
    pub(crate) plan: Option<Plan>,
}

/// Where a new row's neighbours were found, ahead of time.
pub(crate) struct Plan(HnswPlan);

/// What is to be found so that loaded rows are linked.
pub(crate) struct Job(Option<HnswJob>);

/// What was found of it.
pub(crate) struct Found(Option<HnswFound>);

/// Changes worked out by `prepare` or `maintain`, ready to be put in place.
pub(crate) struct Patch(Change);

/// The changes of each kind of index.
enum Change {
    Flat(FlatPatch),
    Hnsw(HnswPatch),
    #[cfg(feature = "turbo")]
    Turbo(TurboPatch),
}

/// How to search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SearchSpec {
    pub(crate) k: usize,
    pub(crate) ef: usize,
    /// How many candidates to score exactly, or to return unscored where the index cannot.
    pub(crate) rerank: usize,
}

/// A row the index proposes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Candidate {
    pub(crate) slot: Slot,
    pub(crate) id: RowId,
    /// In the units of the table's distance; an estimate unless `exact`.
    pub(crate) distance: f32,
    /// Whether `distance` was computed from the stored form.
    pub(crate) exact: bool,
}

/// Bytes of an index, allocated capacity included.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct IndexMemory {
    pub(crate) codes: usize,
    pub(crate) links: usize,
    pub(crate) other: usize,
}

/// The one dispatch over kinds of index: bare arms, nothing else in them.
#[allow(clippy::large_enum_variant)] // one per table, never moved in bulk
pub(crate) enum Index {
    Flat(Flat),
    Hnsw(Hnsw),
    #[cfg(feature = "turbo")]
    Turbo(Turbo),
}

/// Calls a method of whichever index this is.
macro_rules! dispatch {
    ($index:expr, $method:ident($($argument:expr),*)) => {
        match $index {
            Index::Flat(flat) => flat.$method($($argument),*),
            Index::Hnsw(hnsw) => hnsw.$method($($argument),*),
            #[cfg(feature = "turbo")]
            Index::Turbo(turbo) => turbo.$method($($argument),*),
        }
    };
}

impl Index {
    /// An empty index.
    pub(crate) fn new(spec: &IndexSpec) -> Result<Self, IndexError> {
        match spec.kind {
            IndexKind::Flat => Ok(Self::Flat(Flat::new(spec))),
            #[cfg(feature = "turbo")]
            IndexKind::Turbo => Turbo::new(spec).map(Self::Turbo),
            _ => Ok(Self::Hnsw(Hnsw::new(spec))),
        }
    }

    /// Makes room for this many rows, before the first is loaded.
    pub(crate) fn reserve(&mut self, rows: usize) {
        dispatch!(self, reserve(rows))
    }

    /// Takes what the hints of an index of these rows tell of them, whatever became of the rows
    /// since, after room was made and before the first is loaded.
    pub(crate) fn expect(&mut self, hints: Vec<Vec<u8>>) {
        if let Self::Hnsw(hnsw) = self {
            hnsw.expect(hints);
        }
    }

    /// Takes in a row without linking it: the walk at open calls this for every row, in any
    /// order, and then `build` once. The vector has been validated and fits the spec. Now and then,
    /// not for every row, `join_twins` is to be called.
    pub(crate) fn load(&mut self, slot: Slot, id: RowId, vector: EncodedView<'_>) {
        dispatch!(self, load(slot, id, vector))
    }

    /// Whether loaded rows of equal codes are to be joined.
    pub(crate) fn has_twins(&self) -> bool {
        matches!(self, Self::Hnsw(_))
    }

    /// Joins loaded rows of equal codes: many together are faster than one after another.
    pub(crate) fn join_twins(&mut self) {
        if let Self::Hnsw(hnsw) = self {
            hnsw.join_twins();
        }
    }

    /// Asks for the memory that loading the row with this id will write. Changes nothing but time.
    #[inline]
    pub(crate) fn foresee(&self, id: RowId) {
        if let Self::Hnsw(hnsw) = self {
            hnsw.foresee(id);
        }
    }

    /// Links every loaded row, as hints say or in the order of row ids, on the current rayon pool.
    /// The result is the same for any number of threads. `progress(done, total)` returning
    /// `false` cancels.
    #[cfg(test)]
    pub(crate) fn build(
        &mut self,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Linked, IndexError> {
        let mut job = self.begin_build();
        loop {
            let found = self.find_links(job, progress)?;
            match self.end_build(found, progress)? {
                Ok(linked) => return Ok(linked),
                Err(next) => job = next,
            }
        }
    }

    /// Ends the load. To link what was loaded, find what the job asks for and put it in place,
    /// until there is no other job: `find_links` takes long and only reads, so that searches,
    /// which scan meanwhile, need not wait for it.
    pub(crate) fn begin_build(&mut self) -> Job {
        match self {
            Self::Hnsw(hnsw) => Job(Some(hnsw.begin_build())),
            _ => Job(None),
        }
    }

    /// Finds what is to be found, on the current rayon pool. The result is the same for any number
    /// of threads. `progress(done, total)` returning `false` cancels.
    pub(crate) fn find_links(
        &self,
        job: Job,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Found, IndexError> {
        match (self, job.0) {
            (Self::Hnsw(hnsw), Some(job)) => Ok(Found(Some(hnsw.find_links(job, progress)?))),
            _ => Ok(Found(None)),
        }
    }

    /// Puts what was found in place; the next job, if there is one, as the inner error.
    pub(crate) fn end_build(
        &mut self,
        found: Found,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Result<Linked, Job>, IndexError> {
        match (self, found.0) {
            (Self::Hnsw(hnsw), Some(found)) => {
                Ok(hnsw.end_build(found).map_err(|job| Job(Some(job))))
            }
            (Self::Hnsw(_), None) => Ok(Ok(Linked::default())),
            (Self::Flat(flat), _) => flat.build(progress).map(|()| Ok(Linked::default())),
            #[cfg(feature = "turbo")]
            (Self::Turbo(turbo), _) => turbo.build(progress).map(|()| Ok(Linked::default())),
        }
    }

    /// Whether there are links that take long to find.
    pub(crate) fn is_linked(&self) -> bool {
        match self {
            Self::Hnsw(hnsw) => hnsw.is_linked(),
            _ => false,
        }
    }

    /// What would help to build this index again, a group of some ten thousand bytes each; none
    /// where nothing would.
    pub(crate) fn hints(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Hnsw(hnsw) => hnsw.hints(),
            _ => Vec::new(),
        }
    }

    /// What to add to earlier hints for these rows.
    pub(crate) fn hints_of(&self, rows: &[(Slot, RowId)]) -> Vec<Vec<u8>> {
        match self {
            Self::Hnsw(hnsw) => hnsw.hints_of(rows),
            _ => Vec::new(),
        }
    }

    /// Finds a new row's neighbours ahead of time; `None` where there is nothing to plan.
    pub(crate) fn plan(&self, vector: EncodedView<'_>) -> Option<Plan> {
        dispatch!(self, plan(vector))
    }

    /// Works out how `entries` (at most a few hundred, in ascending order of row ids, each id
    /// beyond every id in the index) enter the index. Runs on the current rayon pool when there
    /// is more than a handful. Rows are hidden until `publish`.
    pub(crate) fn prepare(&self, entries: Vec<Entry<'_>>) -> Patch {
        Patch(match self {
            Self::Flat(flat) => Change::Flat(flat.prepare(entries)),
            Self::Hnsw(hnsw) => Change::Hnsw(hnsw.prepare(entries)),
            #[cfg(feature = "turbo")]
            Self::Turbo(turbo) => Change::Turbo(turbo.prepare(entries)),
        })
    }

    /// Puts a patch in place, in microseconds a row.
    pub(crate) fn apply(&mut self, patch: Patch) {
        match (self, patch.0) {
            (Self::Flat(flat), Change::Flat(patch)) => flat.apply(patch),
            (Self::Hnsw(hnsw), Change::Hnsw(patch)) => hnsw.apply(patch),
            #[cfg(feature = "turbo")]
            (Self::Turbo(turbo), Change::Turbo(patch)) => turbo.apply(patch),
            _ => debug_assert!(false, "a patch is applied to the index that made it"),
        }
    }

    /// Shows every row below `limit` and hides those from it on.
    pub(crate) fn publish(&mut self, limit: RowId) {
        dispatch!(self, publish(limit))
    }

    /// Forgets the row in this slot; the slot may be used again at once.
    pub(crate) fn remove(&mut self, slot: Slot) {
        dispatch!(self, remove(slot))
    }

    /// Whether `prepare` of so many rows is worth other threads than the caller's.
    pub(crate) fn prepares_at_length(&self, rows: usize) -> bool {
        match self {
            Self::Hnsw(hnsw) => hnsw.prepares_at_length(rows),
            _ => false,
        }
    }

    /// As `prepares_at_length`, of the next `maintain` with this budget.
    pub(crate) fn maintains_at_length(&self, budget: usize) -> bool {
        match self {
            Self::Hnsw(hnsw) => hnsw.maintains_at_length(budget),
            _ => false,
        }
    }

    /// The next slice of clean-up after deletes, worked out read-only; `None` when there is
    /// nothing to do. About `budget` rows are looked at; with `usize::MAX` all there is to do is done,
    /// due or not.
    pub(crate) fn maintain(&self, budget: usize) -> Option<Patch> {
        Some(Patch(match self {
            Self::Flat(flat) => Change::Flat(flat.maintain(budget)?),
            Self::Hnsw(hnsw) => Change::Hnsw(hnsw.maintain(budget)?),
            #[cfg(feature = "turbo")]
            Self::Turbo(turbo) => Change::Turbo(turbo.maintain(budget)?),
        }))
    }

    /// The nearest visible rows by the index, ordered by (distance, row id). With exact
    /// distances: at most `k`. With estimates: what the caller must score to know the best `k`.
    /// `query` is finite and as long as the dimension.
    pub(crate) fn search(&self, query: &[f32], spec: &SearchSpec) -> Vec<Candidate> {
        dispatch!(self, search(query, spec))
    }

    /// Begins an exact scan of everything visible; `None` where rows are not in memory.
    pub(crate) fn scan_start(&self, query: &[f32], k: usize) -> Option<Scan> {
        match self {
            Self::Flat(flat) => Some(flat.scan_start(query, k)),
            Self::Hnsw(hnsw) => Some(hnsw.scan_start(query, k)),
            #[cfg(feature = "turbo")]
            Self::Turbo(_) => None,
        }
    }

    /// Continues a scan over about `rows` more rows; `true` when it has seen all of them.
    /// Rows that entered or left since `scan_start` may or may not be seen.
    pub(crate) fn scan_step(&self, scan: &mut Scan, rows: usize) -> bool {
        match self {
            Self::Flat(flat) => flat.scan_step(scan, rows),
            Self::Hnsw(hnsw) => hnsw.scan_step(scan, rows),
            #[cfg(feature = "turbo")]
            Self::Turbo(_) => true,
        }
    }

    /// Counts changes: the same number twice means nothing entered or left in between.
    pub(crate) fn version(&self) -> u64 {
        dispatch!(self, version())
    }

    /// Id of the visible or hidden row in this slot.
    pub(crate) fn row_id(&self, slot: Slot) -> Option<RowId> {
        dispatch!(self, row_id(slot))
    }

    /// Whether the row in `slot` was stored as exactly this vector, as far as memory can tell
    /// without a doubt; `false` when it cannot tell.
    pub(crate) fn holds(&self, slot: Slot, vector: EncodedView<'_>) -> bool {
        dispatch!(self, holds(slot, vector))
    }

    /// Visible and hidden rows.
    pub(crate) fn len(&self) -> usize {
        dispatch!(self, len())
    }

    /// Places held by deleted vectors.
    pub(crate) fn dead(&self) -> usize {
        dispatch!(self, dead())
    }

    /// Distinct vectors.
    pub(crate) fn distinct(&self) -> usize {
        dispatch!(self, distinct())
    }

    pub(crate) fn memory(&self) -> IndexMemory {
        dispatch!(self, memory())
    }

    /// Proves what can be proved: every row reachable, links valid, counts consistent. One
    /// sentence for each thing that does not hold.
    pub(crate) fn check(&self) -> Vec<String> {
        dispatch!(self, check())
    }

    /// Everything that decides the answers, as bytes: equal for equal indexes.
    pub(crate) fn fingerprint(&self) -> u64 {
        dispatch!(self, fingerprint())
    }
}
