//! Writing in two steps: work out a patch while searches go on, then put it in place.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::super::codes::{Coder, Codes};
use super::super::twins::{CodeHash, Twins};
use super::super::{Entry, Plan};
use super::graph::{Edits, Graph};
use super::insert::{Newcomer, Pools, Space, find_candidates, link};
use super::nodes::DEAD;
use super::search::Near;
use super::{Hnsw, Sweep, bulk, repair};
use crate::encoding::EncodedView;
use crate::ids::{RowId, Slot};
use crate::limits;
use crate::pool::{SEQUENTIAL_MAX, map};

/// A sweep begins when more than one node in `DEAD_SHARE` is dead, and more than `DEAD_MIN` are.
const DEAD_SHARE: f64 = 0.1;
const DEAD_MIN: usize = 64;

/// Reachability is proved again after this much growth: a 64th, and no less than this. A proof
/// looks at every link, so its cost for each row that enters is that of 64 nodes' links.
const UNPROVED_SHARE: usize = 64;
const UNPROVED_MIN: usize = 64;

/// The reachability of tables below this size is proved by the caller alone.
const PROVED_ALONE_MAX: usize = 500_000;

/// What maintenance is due.
enum Due {
    /// The table has become so small that a scan is faster.
    Drop,
    /// More nodes are dead than live.
    Rebuild,
    /// Many are dead, or a sweep is under way.
    Sweep,
    /// Many rows came since every node was last known to be reachable.
    Proof,
}

/// Candidates for a new row on level 0, where 15 of 16 rows end.
pub(crate) struct HnswPlan {
    epoch: u64,
    pool: Vec<Near>,
}

/// Changes to an HNSW index.
pub(crate) enum HnswPatch {
    /// New rows.
    Insert(Box<Insertion>),
    /// The next nodes of a sweep, which begins where `doomed` is given.
    Sweep {
        doomed: Option<Vec<u32>>,
        next: u32,
        edits: Edits,
    },
    /// The end of a sweep: the numbers of the doomed are released.
    Release(Edits),
    /// A graph of the live nodes alone: the numbers of all dead ones are released.
    Anew(Box<Graph>),
    /// Links that make every node reachable.
    Reconnect(Edits),
    /// The table has become so small that a scan is faster.
    DropGraph,
}

/// New rows and the nodes and links they bring.
pub(crate) struct Insertion {
    /// A first graph, over the nodes of before.
    graph: Option<Graph>,
    codes: Codes,
    levels: Vec<u8>,
    rows: Vec<NewRow>,
    edits: Edits,
}

struct NewRow {
    slot: Slot,
    id: RowId,
    node: u32,
    record: Vec<u8>,
}

/// The codes of a batch that no node has yet, numbered from `base` on.
struct Batch {
    codes: Codes,
    twins: Twins,
    levels: Vec<u8>,
    plans: Vec<Option<HnswPlan>>,
    rows: Vec<NewRow>,
    /// Dead nodes that rows of it bring back to life, in ascending order, with their plans.
    revived: BTreeMap<u32, Option<HnswPlan>>,
}

impl Hnsw {
    pub(crate) fn plan(&self, vector: EncodedView<'_>) -> Option<Plan> {
        let graph = self.graph.as_ref()?;
        let mut coder = Coder::new(self.nodes.codes.geometry);
        let point = coder.encode(vector);
        if let Some(known) = self.nodes.find(point)
            && !self.is_forgotten(known)
        {
            return None;
        }
        let pools = find_candidates(&self.parts(), graph, point, 0);
        Some(Plan(HnswPlan {
            epoch: self.epoch,
            pool: pools.into_iter().next()?,
        }))
    }

    pub(crate) fn prepare(&self, entries: Vec<Entry<'_>>) -> HnswPatch {
        let fresh = self.first_graph();
        let Batch {
            codes,
            levels,
            plans,
            mut rows,
            revived,
            ..
        } = self.batch(entries);
        let base = self.nodes.len() as u32;
        let mut edits = Edits::default();
        if let Some(graph) = fresh.as_ref().or(self.graph.as_ref()) {
            let living: Vec<u32> = revived.keys().copied().collect();
            let space = Space::with(&self.nodes, &codes, &living);
            // Where nothing came since, and nothing comes with them, nodes live again links and all.
            let is_alone = plans.is_empty() && !living.iter().any(|&node| self.is_forgotten(node));
            let new = plans.into_iter().zip(&levels).zip(base..);
            let new = new.map(|((plan, &level), node)| (node, level, plan));
            let old = revived
                .into_iter()
                .filter(|_| !is_alone)
                .map(|(node, plan)| (node, self.nodes.level(node), plan));
            let newcomers = self.newcomers(graph, &space, old.chain(new).collect());
            edits = link(&space, graph, &self.params, &newcomers);
        }
        let number = |node: &mut u32| {
            if let Some(nth) = node.checked_sub(base) {
                *node = self.nodes.nth_new(nth as usize);
            }
        };
        rows.iter_mut().for_each(|row| number(&mut row.node));
        edits
            .entry
            .iter_mut()
            .for_each(|entry| number(&mut entry.node));
        for list in &mut edits.lists {
            number(&mut list.node);
            list.links.iter_mut().for_each(number);
        }
        HnswPatch::Insert(Box::new(Insertion {
            graph: fresh,
            codes,
            levels,
            rows,
            edits,
        }))
    }

    /// The graph of a table that has outgrown scans.
    fn first_graph(&self) -> Option<Graph> {
        // A build that is never cancelled cannot fail.
        self.outgrew_scans()
            .then(|| bulk::build(&self.parts(), &|_, _| true).ok())
            .flatten()
    }

    fn outgrew_scans(&self) -> bool {
        self.graph.is_none() && self.nodes.live() >= limits::GRAPH_MIN
    }

    /// Whether working out the patch of so many rows is worth other threads than the caller's.
    pub(crate) fn prepares_at_length(&self, rows: usize) -> bool {
        rows > SEQUENTIAL_MAX || self.outgrew_scans()
    }

    /// As `prepares_at_length`, of the next `maintain` with this budget.
    pub(crate) fn maintains_at_length(&self, budget: usize) -> bool {
        match self.due(budget) {
            Some(Due::Rebuild) => true,
            Some(Due::Proof) => self.nodes.live() >= PROVED_ALONE_MAX,
            Some(Due::Sweep) => budget == usize::MAX,
            Some(Due::Drop) | None => false,
        }
    }

    /// Sorts entries by code: those of existing nodes, twins within the batch, new nodes.
    fn batch(&self, entries: Vec<Entry<'_>>) -> Batch {
        let geometry = self.nodes.codes.geometry;
        let base = self.nodes.len() as u32;
        let mut coder = Coder::new(geometry);
        let mut batch = Batch {
            codes: Codes::new(geometry),
            twins: Twins::default(),
            levels: Vec::new(),
            plans: Vec::new(),
            rows: Vec::with_capacity(entries.len()),
            revived: BTreeMap::new(),
        };
        for entry in entries {
            let point = coder.encode(entry.vector);
            let known = self.nodes.find(point);
            let hash = CodeHash::of(point);
            let mate = || {
                batch
                    .twins
                    .find(&batch.codes, point, hash)
                    .map(|nth| base + nth)
            };
            let plan = entry.plan.map(|plan| plan.0);
            let node = match known.or_else(mate) {
                Some(node) => {
                    if known.is_some() && self.nodes.is(node, DEAD) {
                        let kept = batch.revived.entry(node).or_default();
                        *kept = kept.take().or(plan);
                    }
                    node
                }
                None => {
                    let nth = batch.codes.len() as u32;
                    batch.codes.put(nth, point);
                    batch.twins.insert(&batch.codes, nth, hash);
                    batch.levels.push(self.level_of(entry.id));
                    batch.plans.push(plan);
                    base + nth
                }
            };
            batch.rows.push(NewRow {
                slot: entry.slot,
                id: entry.id,
                node,
                record: self.stored.record(entry.vector, point),
            });
        }
        batch
    }

    /// Whether a dead node must be linked as a new one to live again: links to it are the first to
    /// go where rows arrive, and rows that came meanwhile are not linked to it.
    fn is_forgotten(&self, node: u32) -> bool {
        self.nodes.is(node, DEAD) && !self.intact.contains(&node)
    }

    /// The nodes that are to be linked, given as node, level and plan.
    fn newcomers(
        &self,
        graph: &Graph,
        space: &Space<'_>,
        nodes: Vec<(u32, u8, Option<HnswPlan>)>,
    ) -> Vec<Newcomer> {
        map(&nodes, |(node, level, plan)| {
            let good = plan
                .as_ref()
                .filter(|plan| *level == 0 && plan.epoch == self.epoch);
            let pools: Pools = match good {
                Some(plan) => vec![plan.pool.clone()],
                None => find_candidates(&self.parts(), graph, space.point(*node), *level),
            };
            Newcomer {
                node: *node,
                level: *level,
                pools,
            }
        })
    }

    pub(crate) fn apply(&mut self, patch: HnswPatch) {
        match patch {
            HnswPatch::Insert(insertion) => self.insert(*insertion),
            HnswPatch::Sweep {
                doomed,
                next,
                edits,
            } => {
                self.edit(edits);
                if let Some(doomed) = doomed {
                    self.nodes.doom(&doomed);
                    let end = self.nodes.len() as u32;
                    self.sweep = Some(Sweep { next, end, doomed });
                } else if let Some(sweep) = &mut self.sweep {
                    sweep.next = next;
                }
            }
            HnswPatch::Release(edits) => {
                self.edit(edits);
                self.release();
            }
            HnswPatch::Reconnect(edits) => {
                self.edit(edits);
                self.unproved = 0;
            }
            HnswPatch::Anew(graph) => self.replace_graph(Some(*graph)),
            HnswPatch::DropGraph => self.replace_graph(None),
        }
    }

    fn insert(&mut self, insertion: Insertion) {
        if insertion.graph.is_some() {
            self.graph = insertion.graph;
            self.unproved = 0;
        }
        for (nth, &level) in insertion.levels.iter().enumerate() {
            self.nodes.create(insertion.codes.point(nth as u32), level);
        }
        let dead = self.nodes.dead();
        for row in insertion.rows {
            self.rows.put(row.slot, row.id, row.node);
            self.stored.put(row.slot, &row.record);
            let alike = |a, b| self.stored.are_alike(a, b);
            self.nodes.attach(row.node, row.slot, &self.rows, alike);
            self.intact.remove(&row.node);
        }
        // A proof passes over the dead, so those that live again are as little proved as new ones.
        let entered = insertion.levels.len() + (dead - self.nodes.dead());
        self.unproved = self.unproved.saturating_add(entered);
        self.edit(insertion.edits);
        self.version += 1;
    }

    fn edit(&mut self, edits: Edits) {
        if !edits.lists.is_empty() {
            self.intact = HashSet::new();
        }
        if let Some(graph) = &mut self.graph {
            graph.apply(edits);
        }
    }

    /// Ends a sweep. Plans made so far may name the released nodes, so they are void.
    fn release(&mut self) {
        let doomed = self
            .sweep
            .take()
            .map(|sweep| sweep.doomed)
            .unwrap_or_default();
        if let Some(graph) = &mut self.graph {
            for &node in &doomed {
                graph.clear(node, self.nodes.level(node));
            }
        }
        self.nodes.release(&doomed);
        // Nodes that died meanwhile may have had all their in-links from the doomed: none of them
        // lives again.
        let dead: Vec<u32> = self.nodes.dead_nodes().collect();
        self.nodes.doom(&dead);
        self.intact = HashSet::new();
        self.epoch += 1;
        self.unproved = usize::MAX;
    }

    /// Puts a graph that leads to no dead node in place, or none.
    fn replace_graph(&mut self, graph: Option<Graph>) {
        self.graph = graph;
        *self.best_sample.get_mut() = 0;
        self.sweep = None;
        let dead: Vec<u32> = self.nodes.dead_nodes().collect();
        self.nodes.doom(&dead);
        self.nodes.release(&dead);
        self.intact = HashSet::new();
        self.epoch += 1;
        self.unproved = 0;
    }

    pub(crate) fn maintain(&self, budget: usize) -> Option<HnswPatch> {
        let due = self.due(budget)?;
        let graph = self.graph.as_ref()?;
        Some(match due {
            Due::Drop => HnswPatch::DropGraph,
            Due::Rebuild => {
                // A build that is never cancelled cannot fail.
                let graph = bulk::build(&self.parts(), &|_, _| true).ok()?;
                HnswPatch::Anew(Box::new(graph))
            }
            Due::Sweep => match &self.sweep {
                Some(sweep) => self.sweep_on(graph, sweep, budget),
                None => self.begin_sweep(graph, budget),
            },
            Due::Proof => HnswPatch::Reconnect(repair::reconnect(&self.parts(), graph)),
        })
    }

    /// What is to be done next within this budget, if anything is.
    fn due(&self, budget: usize) -> Option<Due> {
        self.graph.as_ref()?;
        let (live, dead) = (self.nodes.live(), self.nodes.dead());
        if live < limits::GRAPH_MIN / 2 {
            return Some(Due::Drop);
        }
        if dead > live {
            return Some(Due::Rebuild);
        }
        let many = dead > DEAD_MIN && dead as f64 > DEAD_SHARE * (live + dead) as f64;
        if self.sweep.is_some() || many {
            return Some(Due::Sweep);
        }
        let proof = match budget {
            usize::MAX => self.unproved > 0,
            _ => self.unproved > UNPROVED_MIN.max(live / UNPROVED_SHARE),
        };
        proof.then_some(Due::Proof)
    }

    fn begin_sweep(&self, graph: &Graph, budget: usize) -> HnswPatch {
        let doomed: Vec<u32> = self.nodes.dead_nodes().collect();
        let nodes = 0..self.nodes.len() as u32;
        let (next, edits) = self.slice(graph, nodes, &doomed, budget);
        HnswPatch::Sweep {
            doomed: Some(doomed),
            next,
            edits,
        }
    }

    fn sweep_on(&self, graph: &Graph, sweep: &Sweep, budget: usize) -> HnswPatch {
        if sweep.next < sweep.end {
            let nodes = sweep.next..sweep.end;
            let (next, edits) = self.slice(graph, nodes, &sweep.doomed, budget);
            return HnswPatch::Sweep {
                doomed: None,
                next,
                edits,
            };
        }
        let dying = graph
            .entry()
            .is_none_or(|entry| self.nodes.is(entry.node, DEAD));
        HnswPatch::Release(Edits {
            lists: Vec::new(),
            entry: dying
                .then(|| repair::best_entry(&self.parts(), self.nodes.live_nodes()))
                .flatten(),
        })
    }

    /// Takes links to the doomed out of the next lists. The doomed keep theirs, which lead walks on
    /// until the sweep ends.
    fn slice(
        &self,
        graph: &Graph,
        nodes: Range<u32>,
        doomed: &[u32],
        budget: usize,
    ) -> (u32, Edits) {
        let budget = u32::try_from(budget.max(1)).unwrap_or(u32::MAX);
        let end = nodes.start.saturating_add(budget).min(nodes.end);
        let stays = |node: &u32| !self.nodes.is_free(*node) && doomed.binary_search(node).is_err();
        let nodes: Vec<u32> = (nodes.start..end).filter(stays).collect();
        (
            end,
            repair::consolidate(&self.parts(), graph, &nodes, doomed),
        )
    }
}
