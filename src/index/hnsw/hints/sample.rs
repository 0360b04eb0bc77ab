//! A sample of nodes that are looked for: what tells a graph of right links from one of wrong ones.
//!
//! In some tables not every row finds itself, whatever graph there is. So a log tells how many of the
//! sample found themselves in the graph it was written from, and an open asks for nearly as many.

use super::super::Hnsw;
use super::super::graph::Graph;
use super::super::insert::{Space, map, search_candidates};
use super::{HEAD_LEN, SAMPLE};

/// Nodes that are looked for, and how hard.
const NODES: usize = 256;
const EF: usize = 64;

/// How many fewer than were found when the log was written may be found after an open.
const LOST_MAX: usize = NODES / 10;

impl Hnsw {
    /// A group that tells how many of a sample walks over this graph find.
    pub(super) fn sample_group(&self, graph: &Graph) -> Vec<u8> {
        let mut group = Vec::with_capacity(HEAD_LEN);
        group.push(SAMPLE);
        group.extend(self.hint_fingerprint().to_le_bytes());
        group.extend((self.found_of_sample(graph) as u64).to_le_bytes());
        group.extend(0u32.to_le_bytes());
        group
    }

    /// Whether walks lead to what they look for about as often as when the log was written: over
    /// links that look right and are wrong they do not. A log that says nothing, or what cannot be, is
    /// taken to have been of a graph in which all are found.
    pub(super) fn finds_itself(&self, graph: &Graph, said: Option<u16>) -> bool {
        let said = said.map(usize::from).filter(|&said| said <= NODES);
        let wanted = said.unwrap_or(NODES);
        self.found_of_sample(graph) + LOST_MAX >= wanted
    }

    fn found_of_sample(&self, graph: &Graph) -> usize {
        let live: Vec<u32> = self.nodes.live_nodes().collect();
        let sample: Vec<u32> = (0..NODES)
            .filter_map(|nth| live.get(nth * live.len() / NODES).copied())
            .collect();
        let space = Space::of(&self.nodes);
        let found = map(&sample, |&node| {
            let point = self.nodes.point(node);
            let pools = search_candidates(&self.parts(), graph, point, 0, EF);
            let pool = pools.into_iter().next().unwrap_or_default();
            // Under inner products longer rows are nearer to a row than it is itself.
            let own = space.near(node, node).key;
            let nearer = || pool.len() == EF && pool.iter().all(|near| near.key <= own);
            pool.iter().any(|near| near.node == node) || nearer()
        });
        found.into_iter().filter(|&found| found).count()
    }
}

/// What a group of a sample says, if it is one and was written under `fingerprint`.
pub(super) fn said(group: &[u8], fingerprint: u64) -> Option<u16> {
    let (kind, rest) = group.split_first()?;
    let (written_under, rest) = rest.split_first_chunk::<8>()?;
    let found = rest.first_chunk::<8>()?;
    let is_said = *kind == SAMPLE && u64::from_le_bytes(*written_under) == fingerprint;
    let found = u16::try_from(u64::from_le_bytes(*found)).ok()?;
    is_said.then_some(found)
}
