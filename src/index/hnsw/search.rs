//! Walks over a graph: Algorithm 2 of Malkov and Yashunin, and the descent of Algorithm 5.

use super::super::arena::bytes_of_vec;
use super::super::codes::{Coder, Geometry, Probe};
use super::super::visited::Visited;
use super::graph::{EntryPoint, Graph};
use super::nodes::Nodes;

/// A node and how near it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Near {
    pub(super) key: f32,
    pub(super) node: u32,
}

impl Near {
    /// Nearest first; among equals the lower number, so that every walk has one result.
    pub(super) fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.key
            .total_cmp(&other.key)
            .then(self.node.cmp(&other.node))
    }
}

/// What a walk asks about nodes.
pub(super) struct Scorer<'a> {
    pub(super) nodes: &'a Nodes,
    pub(super) probe: &'a Probe,
    /// State bits of nodes that are walked through but never found.
    pub(super) skip: u8,
}

impl Scorer<'_> {
    #[inline]
    fn near(&self, node: u32) -> Near {
        Near {
            key: self.probe.key(self.nodes.point(node)),
            node,
        }
    }
}

/// The buffers of one walk.
pub(super) struct Scratch {
    pub(super) walk: Walk,
    pub(super) coder: Coder,
    pub(super) probe: Probe,
    pub(super) floats: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            walk: Walk::default(),
            coder: Coder::new(geometry),
            probe: Probe::new(geometry),
            floats: Vec::new(),
        }
    }

    /// Allocated bytes, small buffers left out.
    pub(super) fn memory(&self) -> usize {
        self.walk.visited.memory() + bytes_of_vec(&self.walk.pool)
    }
}

/// A node in the pool of a walk.
#[derive(Clone, Copy)]
struct Step {
    near: Near,
    /// Whether its neighbours have been looked at.
    expanded: bool,
    /// Whether it counts towards `ef`.
    counts: bool,
}

/// The pool of candidates (`C` and `W` of the paper in one sorted list) and the visited set.
#[derive(Default)]
pub(super) struct Walk {
    visited: Visited,
    pool: Vec<Step>,
    /// Steps of the pool that count.
    counted: usize,
}

impl Walk {
    /// Algorithm 2: the `ef` nearest nodes of `level` that a walk from `entries` finds. `false`
    /// when more than `visits` nodes had to be looked at and the walk was given up.
    pub(super) fn search_layer(
        &mut self,
        graph: &Graph,
        level: u8,
        entries: &[u32],
        ef: usize,
        visits: usize,
        scorer: &Scorer<'_>,
    ) -> bool {
        self.visited.begin(scorer.nodes.len());
        self.pool.clear();
        self.counted = 0;
        let mut seen = 0;
        for &entry in entries {
            if self.visited.mark(entry) {
                self.offer(scorer, entry, ef);
            }
        }
        let mut next = 0;
        while next < self.pool.len() {
            if self.pool[next].expanded {
                next += 1;
                continue;
            }
            self.pool[next].expanded = true;
            let node = self.pool[next].near.node;
            next += 1;
            for &neighbour in graph.links(level, node) {
                if self.visited.mark(neighbour) {
                    seen += 1;
                    next = next.min(self.offer(scorer, neighbour, ef));
                }
            }
            if seen > visits {
                return false;
            }
        }
        true
    }

    /// Puts a node into the pool if it is near enough; returns its place, or the pool's length.
    #[inline]
    fn offer(&mut self, scorer: &Scorer<'_>, node: u32, ef: usize) -> usize {
        let near = scorer.near(node);
        let full = self.counted >= ef;
        if full
            && self
                .pool
                .last()
                .is_some_and(|last| near.order(&last.near).is_ge())
        {
            return self.pool.len();
        }
        let place = self
            .pool
            .partition_point(|step| step.near.order(&near).is_lt());
        let counts = !scorer.nodes.is(node, scorer.skip);
        let step = Step {
            near,
            expanded: false,
            counts,
        };
        self.pool.insert(place, step);
        if counts {
            self.counted += 1;
            self.trim(ef);
        }
        place
    }

    /// Ends the pool with the `ef`-th node that counts, once there are as many.
    #[inline]
    fn trim(&mut self, ef: usize) {
        if self.counted > ef {
            self.pool.pop();
            self.counted -= 1;
        }
        if self.counted == ef {
            while self.pool.last().is_some_and(|last| !last.counts) {
                self.pool.pop();
            }
        }
    }

    /// The nodes that the last walk found, nearest first.
    pub(super) fn found(&self) -> impl Iterator<Item = Near> + '_ {
        let counted = self.pool.iter().filter(|step| step.counts);
        counted.map(|step| step.near)
    }
}

/// The greedy descent of Algorithm 5: from the entry point to the nearest node of level
/// `target`, walking the levels above it.
pub(super) fn descend(graph: &Graph, from: EntryPoint, target: u8, scorer: &Scorer<'_>) -> u32 {
    let mut best = scorer.near(from.node);
    for level in (target + 1..=from.level).rev() {
        loop {
            let links = graph.links(level, best.node).iter();
            let nearest = links.map(|&node| scorer.near(node)).min_by(Near::order);
            match nearest {
                Some(near) if near.order(&best).is_lt() => best = near,
                _ => break,
            }
        }
    }
    best.node
}
