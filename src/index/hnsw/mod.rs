//! The HNSW index: a graph over 8-bit codes, one node per distinct code.
//!
//! Three parts that know nothing of each other: `nodes` (codes and the rows that share them),
//! `graph` (links only, of `list`s and the `upper` levels) and the rows' stored form. `descent` finds
//! the way down to where `search` walks, `insert` links a batch by the rule in `select`, `load` takes
//! in what an open reads, `bulk` links everything, `hints` keep what it found for the next open,
//! `repair` keeps all of it reachable and free of the dead. Tables with few distinct vectors have no
//! graph and are scanned.

mod bulk;
#[cfg(test)]
mod bytes;
mod check;
mod descent;
mod graph;
mod hints;
mod insert;
mod list;
mod load;
mod nodes;
mod query;
mod repair;
mod search;
mod select;
mod upper;
mod write;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use parking_lot::Mutex;

use self::graph::Graph;
pub(crate) use self::hints::Linked;
use self::load::Load;
pub(crate) use self::load::{HnswFound, HnswJob};
use self::nodes::Nodes;
use self::search::Scratch;
pub(crate) use self::write::{HnswPatch, HnswPlan};
use super::codes::Geometry;
use super::rows::Rows;
use super::stored::Stored;
use super::{IndexMemory, IndexSpec};
use crate::encoding::EncodedView;
use crate::ids::{RowId, Slot};
use crate::schema::HnswParams;

/// Where an index begins to count versions and epochs: far from every other one, so that scans and
/// plans begun on an index that was swapped for a new one see that it is another.
static STARTS: AtomicU64 = AtomicU64::new(0);

/// Rows, their nodes and the graph over them.
pub(crate) struct Hnsw {
    params: HnswParams,
    rows: Rows,
    nodes: Nodes,
    stored: Stored,
    /// None while a scan is faster.
    graph: Option<Graph>,
    /// Counts changes of what is found.
    version: u64,
    /// Counts the times that numbers of nodes were released: plans of before name other nodes.
    epoch: u64,
    sweep: Option<Sweep>,
    /// Dead nodes that are linked as they were when they died: no list has changed since.
    intact: HashSet<u32>,
    /// Nodes linked since every node was last proved reachable.
    unproved: usize,
    /// How many of a sample of nodes walks found at best, since the graph was built.
    best_sample: AtomicU16,
    scratches: Scratches,
    load: Load,
}

/// A pass over all nodes that takes the links to dead ones out.
struct Sweep {
    /// Nodes below this one are done.
    next: u32,
    /// Nodes from this one on came later, and never had links to the doomed.
    end: u32,
    /// Nodes that were dead when the pass began: at its end no link leads to them.
    doomed: Vec<u32>,
}

/// What walks and linking read, without the graph, which may be one that is being made.
struct Parts<'a> {
    nodes: &'a Nodes,
    params: &'a HnswParams,
    scratches: &'a Scratches,
}

impl Hnsw {
    pub(super) fn new(spec: &IndexSpec) -> Self {
        let geometry = Geometry::new(spec.dim, spec.distance);
        let start = STARTS.fetch_add(1 << 40, Ordering::Relaxed);
        Self {
            params: spec.hnsw,
            rows: Rows::default(),
            nodes: Nodes::new(geometry),
            stored: Stored::new(spec),
            graph: None,
            version: start,
            epoch: start,
            sweep: None,
            intact: HashSet::new(),
            unproved: 0,
            best_sample: AtomicU16::new(0),
            scratches: Scratches {
                geometry,
                idle: Mutex::new(Vec::new()),
            },
            load: Load::default(),
        }
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            nodes: &self.nodes,
            params: &self.params,
            scratches: &self.scratches,
        }
    }

    /// The id of a live node's first row, which names the node.
    fn first_row(&self, node: u32) -> RowId {
        let first = self.nodes.slots(node).first();
        let id = first.and_then(|&slot| self.rows.id(Slot::from_raw(slot)));
        id.unwrap_or_default()
    }

    fn level_of(&self, id: RowId) -> u8 {
        Nodes::draw_level(self.params.seed, self.params.m, id)
    }

    pub(super) fn publish(&mut self, limit: RowId) {
        let lowered = limit < self.rows.limit;
        self.rows.limit = limit;
        self.nodes.publish(&self.rows, lowered);
        self.version += 1;
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(node) = self.rows.node(slot) else {
            return;
        };
        self.nodes.detach(node, slot, &self.rows);
        self.rows.take(slot);
        if self.nodes.is(node, nodes::DEAD) {
            if self.graph.is_some() {
                self.intact.insert(node);
            } else {
                // No link leads to it.
                self.nodes.doom(&[node]);
                self.nodes.release(&[node]);
            }
        }
        self.version += 1;
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn row_id(&self, slot: Slot) -> Option<RowId> {
        self.rows.id(slot)
    }

    pub(super) fn holds(&self, slot: Slot, vector: EncodedView<'_>) -> bool {
        let node = self.rows.node(slot);
        node.is_some_and(|node| self.stored.holds(slot, vector, self.nodes.point(node)))
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn dead(&self) -> usize {
        self.nodes.dead()
    }

    pub(super) fn is_linked(&self) -> bool {
        self.graph.is_some()
    }

    pub(super) fn distinct(&self) -> usize {
        self.nodes.live()
    }

    pub(super) fn memory(&self) -> IndexMemory {
        let doomed = self
            .sweep
            .as_ref()
            .map_or(0, |sweep| sweep.doomed.capacity() * 4);
        // A number and a byte of the table itself, an eighth of them vacant.
        let intact = self.intact.capacity() * 8 / 7 * 5;
        let idle = self.scratches.idle.lock();
        let scratches: usize = idle.iter().map(Scratch::memory).sum();
        IndexMemory {
            codes: self.nodes.codes.memory() + self.stored.memory(),
            links: self.graph.as_ref().map_or(0, Graph::memory),
            other: self.rows.memory() + self.nodes.memory() + doomed + intact + scratches,
        }
    }
}

/// Buffers of walks that are not under way.
struct Scratches {
    geometry: Geometry,
    idle: Mutex<Vec<Scratch>>,
}

impl Scratches {
    /// Lends buffers to one walk.
    fn lend<R>(&self, walk: impl FnOnce(&mut Scratch) -> R) -> R {
        let idle = self.idle.lock().pop();
        let mut scratch = idle.unwrap_or_else(|| Scratch::new(self.geometry));
        let result = walk(&mut scratch);
        self.idle.lock().push(scratch);
        result
    }
}
