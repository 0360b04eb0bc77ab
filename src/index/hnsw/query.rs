//! Searching: walk the graph, then score the best rows from their stored form.

use super::super::exact::ExactQuery;
use super::super::scan::{Scan, Scored};
use super::super::topk::{Estimate, Nearest};
use super::super::{Candidate, SearchSpec};
use super::Hnsw;
use super::descent::Descent;
use super::graph::Graph;
use super::nodes::{DEAD, HIDDEN};
use super::search::{Scorer, Scratch};
use crate::ids::Slot;

/// A walk that meets dead nodes is given up for a scan beyond this many nodes, or beyond
/// `VISITS_PER_EF` for each place in its pool.
const VISITS_MIN: usize = 4_096;
const VISITS_PER_EF: usize = 64;

/// Rows of a node that a walk looks at, at most: a cache may hold any number of one code, and what
/// walks miss of them is as near as the code to within a part of a step.
const LOOKED_AT: usize = 1_024;

impl Hnsw {
    pub(crate) fn search(&self, query: &[f32], spec: &SearchSpec) -> Vec<Candidate> {
        if spec.k == 0 {
            return Vec::new();
        }
        let ef = spec.ef.max(spec.k);
        let exact = ExactQuery::new(self.distance(), query);
        let graph = self.graph.as_ref().filter(|_| ef < self.nodes.live());
        let found = graph.and_then(|graph| self.walk(graph, &exact, ef, spec));
        found.unwrap_or_else(|| {
            let mut scan = Scan::new(exact, spec.k);
            self.scan_step(&mut scan, usize::MAX);
            scan.finish()
        })
    }

    /// What a walk over the graph finds, or nothing where a scan is called for.
    fn walk(
        &self,
        graph: &Graph,
        query: &ExactQuery,
        ef: usize,
        spec: &SearchSpec,
    ) -> Option<Vec<Candidate>> {
        self.scratches.lend(|scratch| {
            let point = scratch.coder.encode_floats(query.coordinates());
            scratch.probe.aim(point);
            let scorer = Scorer {
                nodes: &self.nodes,
                probe: &scratch.probe,
                skip: self.nodes.marks(DEAD | HIDDEN),
            };
            let descent = Descent::walk(graph, graph.entry()?, 0, ef, &scorer);
            let visits = match self.nodes.dead() {
                0 => usize::MAX,
                _ => VISITS_MIN.max(VISITS_PER_EF * ef),
            };
            let walk = &mut scratch.walk;
            let done = walk.search_layer(graph, 0, descent.nodes(), ef, visits, &scorer);
            done.then(|| self.rerank(query, spec, scratch)).flatten()
        })
    }

    /// Scores the rows of the nearest nodes; nothing if they are fewer than there should be.
    fn rerank(
        &self,
        query: &ExactQuery,
        spec: &SearchSpec,
        scratch: &mut Scratch,
    ) -> Option<Vec<Candidate>> {
        let wanted = spec.k.max(spec.rerank);
        let mut nearest = Nearest::new(spec.k);
        let (mut offered, mut spent) = (0, 0);
        // What leads from a node to its rows is asked for all of them together.
        let first = || scratch.walk.found().take(wanted);
        first().for_each(|near| self.nodes.prefetch_slots(near.node));
        for near in first() {
            if let Some(&slot) = self.nodes.slots(near.node).first() {
                self.rows.prefetch(Slot::from_raw(slot));
                self.stored.prefetch(Slot::from_raw(slot));
            }
        }
        for near in scratch.walk.found() {
            if spent >= wanted && offered >= spec.k {
                break;
            }
            let most = wanted.saturating_sub(spent).max(1);
            let many = (most, LOOKED_AT);
            let rows = self.offer_node(near.node, query, many, &mut scratch.floats, &mut nearest);
            offered += rows;
            // Rows that share a code and differ are one candidate of the walk, all of them.
            spent += if self.stored.is_code() { rows } else { 1 };
        }
        (offered >= spec.k.min(self.rows.len())).then(|| nearest.finish())
    }

    /// Offers visible rows of a node and returns how many: the first `most` of every run of rows that
    /// are stored alike, among the first `looked_at`.
    fn offer_node(
        &self,
        node: u32,
        query: &ExactQuery,
        (most, looked_at): (usize, usize),
        floats: &mut Vec<f32>,
        to: &mut Nearest,
    ) -> usize {
        let point = self.nodes.point(node);
        let mixed = self.nodes.is_mixed(node);
        let mut last: Option<(Slot, Estimate)> = None;
        let (mut alike, mut offered) = (0, 0);
        for &slot in self.nodes.slots(node).iter().take(looked_at) {
            let slot = Slot::from_raw(slot);
            // Rows are in the order of their ids, so the hidden ones come last.
            let Some(id) = self.rows.visible(slot) else {
                break;
            };
            let known = last.filter(|(other, _)| !mixed || self.stored.are_alike(*other, slot));
            alike = if known.is_some() { alike + 1 } else { 0 };
            if alike >= most {
                if mixed {
                    continue;
                }
                break;
            }
            let score = || self.stored.score(query, slot, point, floats);
            let estimate = known.map_or_else(score, |(_, estimate)| estimate);
            last = Some((slot, estimate));
            to.push(slot, id, estimate);
            offered += 1;
        }
        offered
    }

    pub(crate) fn scan_start(&self, query: &[f32], k: usize) -> Scan {
        Scan::new(ExactQuery::new(self.distance(), query), k)
    }

    pub(crate) fn scan_step(&self, scan: &mut Scan, rows: usize) -> bool {
        scan.step(self, rows)
    }

    fn distance(&self) -> crate::distance::Distance {
        self.nodes.codes.geometry.distance
    }
}

impl Scored for Hnsw {
    /// Nodes, where their codes tell how far their rows are at least; else slots.
    fn units(&self) -> usize {
        if self.stored.bounds_by_code() {
            self.nodes.len()
        } else {
            self.rows.slots()
        }
    }

    fn offer(&self, unit: usize, query: &ExactQuery, scratch: &mut Vec<f32>, to: &mut Nearest) {
        if self.stored.bounds_by_code() {
            let node = unit as u32;
            if self.nodes.slots(node).is_empty() {
                return;
            }
            // Its rows are elsewhere in memory, and most nodes are too far to look there.
            let estimate = self.stored.bound(query, self.nodes.point(node));
            if !to.is_beyond(estimate) {
                let all = (to.k(), usize::MAX);
                self.offer_node(node, query, all, scratch, to);
            }
            return;
        }
        let slot = Slot::new(unit);
        let row = self.rows.visible(slot).zip(self.rows.node(slot));
        if let Some((id, node)) = row {
            let point = self.nodes.point(node);
            to.push(slot, id, self.stored.score(query, slot, point, scratch));
        }
    }
}
