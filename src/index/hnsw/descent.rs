//! The way down to a level: the descent of Algorithm 5 of Malkov and Yashunin, with a beam.
//!
//! The paper's descent keeps the one nearest node it has seen. Between clusters that lie equally far
//! from each other nothing tells it the way, and where it comes down in a wrong one the walk below
//! finds few links out. So it keeps a few, and each level begins with all of them: more for a walk
//! that will look at more, so that a descent stays a small part of a search.

use super::graph::{EntryPoint, Graph};
use super::search::{Near, Rank, Scorer};

/// A descent keeps one node for so many places in the pool of the walk below, up to a few.
const EF_PER_NODE: usize = 8;
const NODES_MAX: usize = 4;

/// Links that are looked at together.
const LINKS: usize = 64;

/// Nodes that a level remembers to have seen.
const SEEN: usize = 512;

/// The nearest nodes that a descent has seen, nearest first.
pub(super) struct Descent {
    width: usize,
    len: usize,
    ranks: [Rank; NODES_MAX],
    nodes: [u32; NODES_MAX],
    /// Whether the neighbours of each have been looked at.
    expanded: [bool; NODES_MAX],
}

impl Descent {
    /// From the entry point to the nearest nodes of level `target`, for a walk with this `ef`.
    pub(super) fn walk(
        graph: &Graph,
        from: EntryPoint,
        target: u8,
        ef: usize,
        scorer: &Scorer<'_>,
    ) -> Self {
        let mut descent = Self::new((ef / EF_PER_NODE).clamp(1, NODES_MAX));
        scorer.each(&[from.node], |near| descent.offer(near));
        for level in (target + 1..=from.level).rev() {
            descent.expanded = [false; NODES_MAX];
            let mut seen = Seen::new(descent.nodes());
            let mut fresh = [0; LINKS];
            while let Some(node) = descent.next() {
                for links in graph.links(level, node).chunks(LINKS) {
                    let fresh = seen.sift(links.iter(), &mut fresh);
                    scorer.each(fresh, |near| descent.offer(near));
                }
            }
        }
        descent
    }

    fn new(width: usize) -> Self {
        Self {
            width,
            len: 0,
            ranks: [Rank::default(); NODES_MAX],
            nodes: [0; NODES_MAX],
            expanded: [false; NODES_MAX],
        }
    }

    /// Where the walk on the target level begins.
    pub(super) fn nodes(&self) -> &[u32] {
        &self.nodes[..self.len]
    }

    /// The nearest node that was not looked at, which counts as looked at from now on.
    fn next(&mut self) -> Option<u32> {
        let place = self.expanded[..self.len].iter().position(|done| !done)?;
        self.expanded[place] = true;
        Some(self.nodes[place])
    }

    /// Keeps a node that is near enough. One that is offered again is known by its place, or was too
    /// far before.
    fn offer(&mut self, near: Near) {
        let rank = Rank::new(near);
        let place = self.ranks[..self.len].partition_point(|&other| other < rank);
        if place == self.width || (place < self.len && self.ranks[place] == rank) {
            return;
        }
        let end = self.len.min(self.width - 1);
        self.ranks.copy_within(place..end, place + 1);
        self.nodes.copy_within(place..end, place + 1);
        self.expanded.copy_within(place..end, place + 1);
        self.ranks[place] = rank;
        self.nodes[place] = near.node;
        self.expanded[place] = false;
        self.len = end + 1;
    }
}

/// Nodes of a level that were seen, each in the one place it can have: the next one with that place
/// takes it. Who is forgotten is scored again, no more; a set that never forgets would cost more
/// than it saves on so few.
struct Seen([u32; SEEN]);

impl Seen {
    fn new(nodes: &[u32]) -> Self {
        // No level has as many nodes as this number.
        let mut seen = Self([u32::MAX; SEEN]);
        seen.sift(nodes.iter().copied(), &mut [0; LINKS]);
        seen
    }

    /// Those of up to `LINKS` nodes that were not seen, as far as is remembered.
    #[inline]
    fn sift<'a>(
        &mut self,
        nodes: impl Iterator<Item = u32>,
        fresh: &'a mut [u32; LINKS],
    ) -> &'a [u32] {
        let mut kept = 0;
        for node in nodes {
            let place = &mut self.0[node as usize % SEEN];
            fresh[kept] = node;
            kept += usize::from(*place != node);
            *place = node;
        }
        &fresh[..kept]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use xxhash_rust::xxh3::xxh3_64_with_seed;

    use super::super::Hnsw;
    use super::*;
    use crate::distance::Distance;
    use crate::encoding::Codec;
    use crate::ids::{RowId, Slot};
    use crate::inner_index::tests::spec;

    /// As `Descent::walk`, with a set of all that were seen and everything sorted.
    fn plainly(graph: &Graph, from: EntryPoint, width: usize, scorer: &Scorer<'_>) -> Vec<u32> {
        let mut best = Vec::new();
        scorer.each(&[from.node], |near| best.push(near));
        for level in (1..=from.level).rev() {
            let mut seen: HashSet<u32> = best.iter().map(|near| near.node).collect();
            let mut expanded = HashSet::new();
            while let Some(next) = best.iter().find(|near| !expanded.contains(&near.node)) {
                expanded.insert(next.node);
                let links = graph.links(level, next.node).iter();
                let fresh: Vec<u32> = links.filter(|&link| seen.insert(link)).collect();
                scorer.each(&fresh, |near| best.push(near));
                best.sort_by(Near::order);
                best.truncate(width);
            }
        }
        best.iter().map(|near| near.node).collect()
    }

    #[test]
    fn what_is_forgotten_changes_nothing() {
        let mut spec = spec(16, Codec::Int8Quantized, Distance::Euclidean);
        // Levels of many nodes with long lists: more than are looked at together, and than are told.
        (spec.hnsw.m, spec.hnsw.m0) = (100, 100);
        let mut index = Hnsw::new(&spec);
        for row in 0..60_000 {
            let value = |i: u8| xxh3_64_with_seed(&[i], row as u64) as f32 / u64::MAX as f32;
            let vector: Vec<f32> = (0..16).map(value).collect();
            let encoded = Codec::Int8Quantized.encoder().encode(&vector).unwrap();
            index.load(Slot::new(row), RowId::new(row as u64), encoded.view());
        }
        index.build(&|_, _| true).unwrap();
        let graph = index.graph.as_ref().unwrap();
        let entry = graph.entry().unwrap();
        let longest = |level| {
            let nodes = 0..index.nodes.len() as u32;
            nodes.map(|node| graph.links(level, node).len()).max()
        };
        assert!(longest(1) > Some(LINKS), "{:?} links", longest(1));
        for node in (0..60_000).step_by(500) {
            index.scratches.lend(|scratch| {
                scratch.probe.aim(index.nodes.point(node));
                let scorer = Scorer {
                    nodes: &index.nodes,
                    probe: &scratch.probe,
                    skip: 0,
                };
                for (ef, width) in [(1, 1), (16, 2), (31, 3), (64, 4), (200, 4)] {
                    let descent = Descent::walk(graph, entry, 0, ef, &scorer);
                    assert_eq!(descent.nodes(), plainly(graph, entry, width, &scorer));
                }
            });
        }
    }

    fn descent(width: usize, keys: &[f32]) -> Descent {
        let mut descent = Descent::new(width);
        for (node, &key) in (0..).zip(keys) {
            descent.offer(Near { key, node });
        }
        descent
    }

    #[test]
    fn the_nearest_are_kept_in_order_and_looked_at_once() {
        let mut descent = descent(3, &[5.0, 2.0, 9.0, 1.0, 2.0, 7.0]);
        assert_eq!(descent.nodes(), [3, 1, 4]);
        assert_eq!(descent.next(), Some(3));
        // Offered again, or too far: nothing changes.
        descent.offer(Near { key: 1.0, node: 3 });
        descent.offer(Near { key: 9.0, node: 2 });
        assert_eq!(descent.nodes(), [3, 1, 4]);
        assert_eq!(descent.next(), Some(1));
        // A nearer one is next, and the last one leaves.
        descent.offer(Near { key: 0.5, node: 8 });
        assert_eq!(descent.nodes(), [8, 3, 1]);
        assert_eq!((descent.next(), descent.next()), (Some(8), None));
    }

    #[test]
    fn one_place_keeps_the_nearest() {
        let mut descent = descent(1, &[5.0, 6.0, 2.0, 2.0]);
        assert_eq!(descent.nodes(), [2]);
        assert_eq!((descent.next(), descent.next()), (Some(2), None));
    }

    #[test]
    fn nodes_are_fresh_until_their_place_is_taken() {
        let mut fresh = [0; LINKS];
        let mut seen = Seen::new(&[7]);
        assert_eq!(seen.sift([7, 8, 7, 9, 8].into_iter(), &mut fresh), [8, 9]);
        let other = 8 + SEEN as u32;
        assert_eq!(
            seen.sift([other, 9, 8, other].into_iter(), &mut fresh),
            [other, 8, other]
        );
    }
}
