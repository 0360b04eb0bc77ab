//! What can be proved about a graph, and its fingerprint.

use xxhash_rust::xxh3::Xxh3Default;

use super::graph::Graph;
use super::{Hnsw, repair};
use crate::ids::Slot;

impl Hnsw {
    /// Proves what can be proved; a sentence for each thing that does not hold.
    pub(crate) fn check(&self) -> Vec<String> {
        let mut wrong = self.nodes.check(&self.rows);
        for node in (0..self.nodes.len() as u32).filter(|&node| !self.nodes.is_mixed(node)) {
            let mut slots = self.nodes.slots(node).iter().copied().map(Slot::from_raw);
            let first = slots.next();
            let alike = |slot| first.is_none_or(|first| self.stored.are_alike(first, slot));
            if !slots.all(alike) {
                wrong.push(format!(
                    "node {node} has rows that differ and no mark of it"
                ));
            }
        }
        let Some(graph) = &self.graph else {
            return wrong;
        };
        let live = (0..self.nodes.len() as u32).filter(|&node| !self.nodes.is_free(node));
        for node in live {
            for level in 0..=self.nodes.level(node) {
                self.check_list(graph, level, node, &mut wrong);
            }
        }
        self.check_in_degrees(graph, &mut wrong);
        match graph.entry() {
            Some(entry) if self.nodes.is_free(entry.node) => {
                wrong.push(format!("the entry point {} is free", entry.node));
            }
            Some(_) => {}
            None => wrong.push("the graph has no entry point".into()),
        }
        for node in repair::unreachable(&self.parts(), graph) {
            wrong.push(format!("node {node} cannot be reached"));
        }
        wrong
    }

    fn check_list(&self, graph: &Graph, level: u8, node: u32, wrong: &mut Vec<String>) {
        let links = graph.links(level, node).to_vec();
        let mut sorted = links.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let valid = |&link: &u32| {
            (link as usize) < self.nodes.len()
                && !self.nodes.is_free(link)
                && self.nodes.level(link) >= level
        };
        let rules = [
            (sorted.len() == links.len(), "names a neighbour twice"),
            (!links.contains(&node), "names its own node"),
            (links.iter().all(valid), "names a node that is not there"),
            (links.len() <= graph.capacity(level), "is too long"),
        ];
        for (_, what) in rules.iter().filter(|(holds, _)| !holds) {
            wrong.push(format!("the list of node {node} on level {level} {what}"));
        }
    }

    fn check_in_degrees(&self, graph: &Graph, wrong: &mut Vec<String>) {
        let mut degrees = vec![0u32; self.nodes.len()];
        for node in 0..graph.nodes() as u32 {
            for link in graph.links(0, node).iter() {
                if let Some(degree) = degrees.get_mut(link as usize) {
                    *degree += 1;
                }
            }
        }
        for (node, &degree) in degrees.iter().enumerate() {
            let counted = graph.in_degree(node as u32);
            if u32::from(counted) != degree && counted != u8::MAX {
                wrong.push(format!(
                    "{degree} lists hold node {node}, where {counted} are counted"
                ));
            }
        }
    }

    /// Everything that decides the answers: equal for equal indexes.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3Default::new();
        for node in self.nodes.live_nodes() {
            hash.update(&node.to_le_bytes());
            hash.update(self.nodes.point(node).bytes);
            for &slot in self.nodes.slots(node) {
                let slot = Slot::from_raw(slot);
                hash.update(&self.rows.id(slot).unwrap_or_default().get().to_le_bytes());
                hash.update(self.stored.bytes(slot));
            }
        }
        if let Some(graph) = &self.graph {
            let nodes = (0..self.nodes.len() as u32).map(|node| (node, self.nodes.level(node)));
            graph.fingerprint(&mut hash, nodes);
        }
        hash.digest()
    }
}
