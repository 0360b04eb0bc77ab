//! Repairs: every node reachable from the entry point, and lists without dead nodes.

use std::collections::HashMap;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use super::Parts;
use super::graph::{Edits, EntryPoint, Graph, ListEdit};
use super::insert::{Space, find_candidates};
use super::nodes::DEAD;
use super::search::Near;
use crate::pool::{self, map};

/// Marks a node that no walk has reached.
const UNREACHED: u32 = u32::MAX;

/// A spanning tree of level 0 from the entry point, and the lists changed to complete it.
struct Tree<'a> {
    graph: &'a Graph,
    /// The node from which each node was first reached.
    parents: Vec<u32>,
    queue: Vec<u32>,
    changed: HashMap<u32, Vec<u32>>,
}

impl<'a> Tree<'a> {
    fn new(graph: &'a Graph, nodes: usize, entry: EntryPoint) -> Self {
        let mut tree = Self {
            graph,
            parents: vec![UNREACHED; nodes],
            queue: Vec::new(),
            changed: HashMap::new(),
        };
        tree.reach(entry.node, entry.node);
        tree
    }

    fn reached(&self, node: u32) -> bool {
        self.parents[node as usize] != UNREACHED
    }

    fn links(&self, node: u32) -> &[u32] {
        let changed = self.changed.get(&node).map(Vec::as_slice);
        changed.unwrap_or_else(|| self.graph.links(0, node))
    }

    /// Reaches a node from another, and everything from there on.
    fn reach(&mut self, from: u32, node: u32) {
        self.parents[node as usize] = from;
        self.queue.push(node);
        while let Some(node) = self.queue.pop() {
            let links = match self.changed.get(&node) {
                Some(links) => links,
                None => self.graph.links(0, node),
            };
            for &link in links {
                if self.parents[link as usize] == UNREACHED {
                    self.parents[link as usize] = node;
                    self.queue.push(link);
                }
            }
        }
    }

    /// Links `from`, which is reached, to `node`: where there is room, else in place of the last
    /// link that is no edge of the tree, without which everything reached stays so. `false` if
    /// all of them are.
    fn adopt(&mut self, from: u32, node: u32) -> bool {
        let mut links = self.links(from).to_vec();
        if links.len() < self.graph.capacity(0) {
            links.push(node);
        } else {
            let spare = |link: &u32| self.parents[*link as usize] != from;
            let Some(place) = links.iter().rposition(spare) else {
                return false;
            };
            links[place] = node;
        }
        self.changed.insert(from, links);
        self.reach(from, node);
        true
    }
}

/// Nodes with rows that a walk over level 0 does not reach from the entry point.
pub(super) fn unreachable(parts: &Parts<'_>, graph: &Graph) -> Vec<u32> {
    match graph.entry() {
        Some(entry) => {
            let tree = Tree::new(graph, parts.nodes.len(), entry);
            let live = parts.nodes.live_nodes();
            live.filter(|&node| !tree.reached(node)).collect()
        }
        None => parts.nodes.live_nodes().collect(),
    }
}

/// How many live nodes are not reached.
pub(super) fn count_unreached(parts: &Parts<'_>, graph: &Graph, entry: EntryPoint) -> usize {
    let reached = reached(parts, graph, entry);
    let live = parts.nodes.live_nodes();
    live.filter(|&node| !reached[node as usize]).count()
}

/// Which nodes are reached. Passes over all lists, which read memory in its order and share the nodes
/// among threads, come first: they leave little for a walk.
fn reached(parts: &Parts<'_>, graph: &Graph, entry: EntryPoint) -> Vec<bool> {
    let nodes = parts.nodes.len() as u32;
    let marks: Vec<AtomicU8> = (0..nodes).map(|_| AtomicU8::new(UNSEEN)).collect();
    marks[entry.node as usize].store(SEEN, Relaxed);
    // Two threads that see a node at once pass it twice at worst.
    let pass = |node: u32, seen: &mut dyn FnMut(u32)| {
        marks[node as usize].store(PASSED, Relaxed);
        for &link in graph.links(0, node) {
            let mark = &marks[link as usize];
            if mark.load(Relaxed) == UNSEEN {
                mark.store(SEEN, Relaxed);
                seen(link);
            }
        }
    };
    let is_waiting = |&node: &u32| marks[node as usize].load(Relaxed) == SEEN;
    for backwards in [false, true] {
        pool::share(nodes, |share| match backwards {
            false => share
                .filter(is_waiting)
                .for_each(|node| pass(node, &mut |_| ())),
            true => {
                let share = share.rev().filter(is_waiting);
                share.for_each(|node| pass(node, &mut |_| ()));
            }
        });
    }
    let mut stack: Vec<u32> = (0..nodes).filter(is_waiting).collect();
    while let Some(node) = stack.pop() {
        pass(node, &mut |link| stack.push(link));
    }
    marks
        .into_iter()
        .map(|mark| mark.into_inner() != UNSEEN)
        .collect()
}

/// How far a node has come in `reached`: to be looked at, and looked at.
const UNSEEN: u8 = 0;
const SEEN: u8 = 1;
const PASSED: u8 = 2;

/// The links that make every live node reachable over level 0.
pub(super) fn reconnect(parts: &Parts<'_>, graph: &Graph) -> Edits {
    let Some(entry) = graph.entry() else {
        return Edits::default();
    };
    let changed = adopt_where_there_is_room(parts, graph, entry)
        .unwrap_or_else(|| adopt_by_tree(parts, graph, entry));
    let mut lists: Vec<ListEdit> = changed
        .into_iter()
        .map(|(node, links)| ListEdit {
            level: 0,
            node,
            links,
        })
        .collect();
    lists.sort_unstable_by_key(|edit| edit.node);
    Edits { lists, entry: None }
}

/// Links every node that is not reached from a near one that is, where none of them has a full list:
/// a link that takes no other's place cuts nothing off. `None` where one has no such neighbour.
fn adopt_where_there_is_room(
    parts: &Parts<'_>,
    graph: &Graph,
    entry: EntryPoint,
) -> Option<HashMap<u32, Vec<u32>>> {
    let mut reached = reached(parts, graph, entry);
    let mut changed: HashMap<u32, Vec<u32>> = HashMap::new();
    for node in parts.nodes.live_nodes() {
        if reached[node as usize] {
            continue;
        }
        let links = |node: u32| {
            let changed = changed.get(&node).map(Vec::as_slice);
            changed.unwrap_or_else(|| graph.links(0, node))
        };
        let mut near = near(parts, graph, node);
        let has_room =
            |other: &u32| reached[*other as usize] && links(*other).len() < graph.capacity(0);
        let host = near.find(has_room)?;
        let mut list = links(host).to_vec();
        list.push(node);
        changed.insert(host, list);
        reached[node as usize] = true;
        let mut stack = vec![node];
        while let Some(node) = stack.pop() {
            // Only lists of nodes that were reached before have changed.
            for &link in graph.links(0, node) {
                if !std::mem::replace(&mut reached[link as usize], true) {
                    stack.push(link);
                }
            }
        }
    }
    Some(changed)
}

/// As above, also in place of links without which everything stays reached.
fn adopt_by_tree(parts: &Parts<'_>, graph: &Graph, entry: EntryPoint) -> HashMap<u32, Vec<u32>> {
    let mut tree = Tree::new(graph, parts.nodes.len(), entry);
    for node in parts.nodes.live_nodes() {
        if tree.reached(node) {
            continue;
        }
        // A descent may end where level 0 alone does not lead, so not all of it is reached.
        let mut near = near(parts, graph, node);
        let mut adopted = near.any(|near| tree.reached(near) && tree.adopt(near, node));
        if !adopted {
            let mut others = parts.nodes.live_nodes();
            adopted = others.any(|other| tree.reached(other) && tree.adopt(other, node));
        }
        debug_assert!(
            adopted,
            "a tree has leaves, and their links are no edges of it"
        );
    }
    tree.changed
}

/// Nodes near a node, the nearest first.
fn near(parts: &Parts<'_>, graph: &Graph, node: u32) -> impl Iterator<Item = u32> + use<> {
    let pools = find_candidates(parts, graph, parts.nodes.point(node), 0);
    let near = pools.into_iter().next().unwrap_or_default();
    near.into_iter().map(|near| near.node)
}

/// New lists for those of `nodes` that link to doomed ones, given in ascending order.
pub(super) fn consolidate(
    parts: &Parts<'_>,
    graph: &Graph,
    nodes: &[u32],
    doomed: &[u32],
) -> Edits {
    let edits = map(nodes, |&node| {
        let levels = 0..=parts.nodes.level(node);
        levels
            .filter_map(|level| refill(parts, graph, level, node, doomed))
            .collect::<Vec<ListEdit>>()
    });
    Edits {
        lists: edits.into_iter().flatten().collect(),
        entry: None,
    }
}

/// A list with its doomed links replaced: it keeps its survivors, among them the dead that may live
/// again, and is filled to its old length with what the dead led to. Choosing all of it anew would
/// cost recall.
fn refill(
    parts: &Parts<'_>,
    graph: &Graph,
    level: u8,
    node: u32,
    doomed: &[u32],
) -> Option<ListEdit> {
    let old = graph.links(level, node);
    let is_doomed = |link: &u32| parts.nodes.is(*link, DEAD) && doomed.binary_search(link).is_ok();
    if !old.iter().any(is_doomed) {
        return None;
    }
    let survivors: Vec<u32> = old
        .iter()
        .copied()
        .filter(|link| !is_doomed(link))
        .collect();
    let heirs = heirs(parts, graph, level, node);
    let links = filled_up(parts, node, &survivors, &heirs, old.len());
    Some(ListEdit { level, node, links })
}

/// The survivors of a list, and the best of their heirs in the places of those that are lost.
pub(super) fn filled_up(
    parts: &Parts<'_>,
    node: u32,
    survivors: &[u32],
    heirs: &[u32],
    len: usize,
) -> Vec<u32> {
    let space = Space::of(parts.nodes);
    let near = |&link: &u32| space.near(node, link);
    let survivors: Vec<Near> = survivors.iter().map(near).collect();
    let mut heirs: Vec<Near> = heirs.iter().map(near).collect();
    heirs.sort_unstable_by(Near::order);
    let mut selector = space.selector();
    let taken = selector.fill_up(&space, &survivors, &heirs, len);
    taken.iter().map(|near| near.node).collect()
}

/// Live nodes, not yet neighbours of `node`, that its dead neighbours lead to, over further dead
/// ones where the nearest are.
fn heirs(parts: &Parts<'_>, graph: &Graph, level: u8, node: u32) -> Vec<u32> {
    let own = graph.links(level, node);
    let is_dead = |link: u32| parts.nodes.is(link, DEAD);
    let mut walked: Vec<u32> = own.iter().copied().filter(|&link| is_dead(link)).collect();
    let wanted = 4 * graph.capacity(level);
    let mut heirs = Vec::new();
    let mut next = 0;
    // Bounded on both sides: enough heirs, or enough of the dead asked.
    while next < walked.len() && next < wanted && heirs.len() < wanted {
        for &link in graph.links(level, walked[next]) {
            if is_dead(link) {
                if !walked.contains(&link) && walked.len() < wanted {
                    walked.push(link);
                }
            } else if link != node && !own.contains(&link) && !heirs.contains(&link) {
                heirs.push(link);
            }
        }
        next += 1;
    }
    heirs
}

/// The node of the highest level among these, all live, where walks should begin.
pub(super) fn best_entry(
    parts: &Parts<'_>,
    nodes: impl IntoIterator<Item = u32>,
) -> Option<EntryPoint> {
    let mut best: Option<EntryPoint> = None;
    for node in nodes {
        let level = parts.nodes.level(node);
        if best.is_none_or(|best| level > best.level) {
            best = Some(EntryPoint { node, level });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64_with_seed;

    use super::super::Hnsw;
    use super::*;
    use crate::distance::Distance;
    use crate::encoding::Codec;
    use crate::ids::{RowId, Slot};
    use crate::inner_index::tests::spec;

    fn index(rows: usize) -> Hnsw {
        let mut index = Hnsw::new(&spec(16, Codec::Int8Quantized, Distance::Euclidean));
        for row in 0..rows {
            let value = |i: u8| xxh3_64_with_seed(&[i], row as u64) as f32 / u64::MAX as f32;
            let vector: Vec<f32> = (0..16).map(value).collect();
            let encoded = Codec::Int8Quantized.encoder().encode(&vector).unwrap();
            index.load(Slot::new(row), RowId::new(row as u64), encoded.view());
        }
        index.build(&|_, _| true).unwrap();
        index
    }

    #[test]
    fn lost_nodes_are_linked_again() {
        let mut index = index(2_100);
        assert!(index.check().is_empty());
        // Cut every link into each seventh node, and all links among them.
        let entry = index.graph.as_ref().and_then(Graph::entry).unwrap();
        let is_lost = |node: u32| node.is_multiple_of(7) && node != entry.node;
        let graph = index.graph.as_ref().unwrap();
        let lists = (0..2_100).map(|node| {
            let links = graph.links(0, node).iter().copied();
            ListEdit {
                level: 0,
                node,
                links: links.filter(|&link| !is_lost(link)).collect(),
            }
        });
        let cut = Edits {
            lists: lists.collect(),
            entry: None,
        };
        index.graph.as_mut().unwrap().apply(cut);
        let lost = unreachable(&index.parts(), index.graph.as_ref().unwrap());
        assert!(lost.len() >= 299, "{}", lost.len());
        let edits = reconnect(&index.parts(), index.graph.as_ref().unwrap());
        index.graph.as_mut().unwrap().apply(edits);
        assert_eq!(index.check(), [""; 0]);
    }
}
