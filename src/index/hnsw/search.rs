//! Walks over a level of a graph: Algorithm 2 of Malkov and Yashunin.

use super::super::arena::bytes_of_vec;
use super::super::codes::{Coder, Geometry, Point, Probe};
use super::super::visited::Visited;
use super::graph::Graph;
use super::nodes::Nodes;
use crate::kernel::ROWS_MAX;

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
    /// State bits of nodes that are walked through but never found; 0 where no node has them, so
    /// that states need not be read.
    pub(super) skip: u8,
}

impl Scorer<'_> {
    /// The points of up to `ROWS_MAX` nodes, whose bytes are asked for.
    #[inline]
    fn points(&self, nodes: &[u32]) -> [Point<'_>; ROWS_MAX] {
        let mut points = [self.nodes.point(nodes[0]); ROWS_MAX];
        for (point, &node) in points.iter_mut().zip(nodes) {
            *point = self.nodes.point(node);
            point.prefetch();
        }
        points
    }

    /// Scores nodes, in their order.
    ///
    /// Codes are scored a few at a time, and those of the next few are asked for before: reads
    /// from main memory hide behind the scoring.
    #[inline]
    pub(super) fn each(&self, nodes: &[u32], mut take: impl FnMut(Near)) {
        let mut groups = nodes.chunks(ROWS_MAX);
        let Some(mut group) = groups.next() else {
            return;
        };
        let mut points = self.points(group);
        loop {
            let next = groups.next();
            let next = next.map(|next| (next, self.points(next)));
            let keys = self.probe.keys(&points[..group.len()]);
            for (&node, key) in group.iter().zip(keys) {
                take(Near { key, node });
            }
            match next {
                Some(next) => (group, points) = next,
                None => return,
            }
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

/// A key and a node in one number that orders as [`Near::order`] does.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank(u64);

impl Rank {
    #[inline]
    pub(super) fn new(near: Near) -> Self {
        let bits = near.key.to_bits();
        // The total order of floats: negative ones reversed, below the others.
        let ordered = bits ^ ((bits.cast_signed() >> 31).cast_unsigned() | 1 << 31);
        Self(u64::from(ordered) << 32 | u64::from(near.node))
    }

    /// A place in a list for which nothing has been found: whatever is nearer than `key` takes it.
    #[inline]
    pub(super) fn nobody(key: f32) -> Self {
        let node = u32::MAX;
        Self::new(Near { key, node })
    }

    #[inline]
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(super) fn node(self) -> u32 {
        self.0 as u32
    }

    pub(super) fn near(self) -> Near {
        let ordered = (self.0 >> 32) as u32;
        let bits = ordered ^ ((!ordered.cast_signed() >> 31).cast_unsigned() | 1 << 31);
        Near {
            key: f32::from_bits(bits),
            node: self.node(),
        }
    }
}

/// A node in the pool of a walk.
#[derive(Clone, Copy)]
struct Step {
    rank: Rank,
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
    /// Neighbours of the node being expanded that were not visited before.
    fresh: Vec<u32>,
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
        self.fresh.clear();
        self.fresh.extend(entries);
        self.visited.sift(&mut self.fresh);
        self.offer_fresh((graph, level), scorer, ef);
        let mut seen = 0;
        let mut next = 0;
        while let Some(step) = self.pool.get_mut(next) {
            next += 1;
            if step.expanded {
                continue;
            }
            step.expanded = true;
            let node = step.rank.node();
            graph.links(level, node).unpack(&mut self.fresh);
            self.visited.sift(&mut self.fresh);
            seen += self.fresh.len();
            // Unless a nearer one comes up, this is next.
            if let Some(step) = self.pool[next..].iter().find(|step| !step.expanded) {
                graph.prefetch(level, step.rank.node());
            }
            next = next.min(self.offer_fresh((graph, level), scorer, ef));
            if seen > visits {
                return false;
            }
        }
        true
    }

    /// Offers all of `fresh`; returns the first place that one of them took, or the pool's length.
    #[inline]
    fn offer_fresh(
        &mut self,
        (graph, level): (&Graph, u8),
        scorer: &Scorer<'_>,
        ef: usize,
    ) -> usize {
        let fresh = std::mem::take(&mut self.fresh);
        let mut first = usize::MAX;
        scorer.each(&fresh, |near| {
            let place = self.offer(scorer, near, ef);
            if place < first.min(self.pool.len()) {
                // The nearest that comes up is next, if it is nearer than what waits.
                graph.prefetch(level, near.node);
                first = place;
            }
        });
        self.fresh = fresh;
        first.min(self.pool.len())
    }

    /// Puts a node into the pool if it is near enough; returns its place, or the pool's length.
    #[inline]
    fn offer(&mut self, scorer: &Scorer<'_>, near: Near, ef: usize) -> usize {
        let rank = Rank::new(near);
        let full = self.counted >= ef;
        if full && self.pool.last().is_some_and(|last| rank >= last.rank) {
            return self.pool.len();
        }
        let place = self.pool.partition_point(|step| step.rank < rank);
        let counts = scorer.skip == 0 || !scorer.nodes.is(near.node, scorer.skip);
        let step = Step {
            rank,
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
        counted.map(|step| step.rank.near())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_order_as_keys_and_nodes_do_and_give_them_back() {
        let keys = [
            f32::MIN,
            -1.5,
            -1e-40,
            -0.0,
            0.0,
            1e-40,
            1.0,
            1.000_000_1,
            f32::MAX,
        ];
        let nodes = [0, 1, 7, 0x7fff_fffe];
        let all = keys
            .map(|key| nodes.map(|node| Near { key, node }))
            .concat();
        for pair in all.windows(2) {
            assert!(pair[0].order(&pair[1]).is_lt());
            assert!(Rank::new(pair[0]) < Rank::new(pair[1]));
        }
        for near in all {
            let back = Rank::new(near).near();
            assert_eq!(
                (back.key.to_bits(), back.node),
                (near.key.to_bits(), near.node)
            );
        }
    }
}
