//! A whole graph at once, from nodes in the order of their numbers.
//!
//! Nodes enter in batches that grow with the graph; every batch is linked as live inserts are,
//! against the graph as it was before the batch. So the result does not depend on threads.

use super::graph::Graph;
use super::insert::{Newcomer, Space, find_candidates, link, map};
use super::{Parts, repair};
use crate::error::IndexError;

/// The first batch finds its neighbours among itself alone.
const SEED_BATCH: usize = 64;

/// Bounds of later batches. A batch is small beside the graph, so that few good neighbours are
/// found only by comparison within the batch, which is quadratic.
const BATCH: std::ops::RangeInclusive<usize> = 8..=512;

/// Links every live node. `progress(done, total)` returning `false` cancels.
pub(super) fn build(
    parts: &Parts<'_>,
    progress: &dyn Fn(usize, usize) -> bool,
) -> Result<Graph, IndexError> {
    let order: Vec<u32> = parts.nodes.live_nodes().collect();
    let mut graph = Graph::new(parts.params);
    let mut linked = 0;
    while linked < order.len() {
        let size = batch_len(linked).min(order.len() - linked);
        let batch = &order[linked..linked + size];
        let newcomers = map(batch, |&node| newcomer(parts, &graph, node));
        let space = Space::of(parts.nodes);
        let edits = link(&space, &graph, parts.params, &newcomers);
        graph.apply(edits);
        linked += size;
        if !progress(linked, order.len()) {
            return Err(IndexError::Cancelled);
        }
    }
    let edits = repair::reconnect(parts, &graph);
    graph.apply(edits);
    Ok(graph)
}

fn batch_len(linked: usize) -> usize {
    if linked == 0 {
        SEED_BATCH
    } else {
        (linked / 8).clamp(*BATCH.start(), *BATCH.end())
    }
}

fn newcomer(parts: &Parts<'_>, graph: &Graph, node: u32) -> Newcomer {
    let level = parts.nodes.level(node);
    Newcomer {
        node,
        level,
        pools: find_candidates(parts, graph, parts.nodes.point(node), level),
    }
}
