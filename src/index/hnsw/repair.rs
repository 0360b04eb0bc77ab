//! Repairs: every node reachable from the entry point, and lists without dead nodes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use super::Parts;
use super::graph::{Edits, EntryPoint, Graph, ListEdit};
use super::insert::{Space, find_candidates};
use super::nodes::DEAD;
use super::search::Near;
use crate::pool::{self, map};

/// Nodes with rows that a walk over level 0 does not reach from the entry point.
pub(super) fn unreachable(parts: &Parts<'_>, graph: &Graph) -> Vec<u32> {
    match graph.entry() {
        Some(entry) => lost(parts, &reached(parts, graph, entry)),
        None => parts.nodes.live_nodes().collect(),
    }
}

/// The live nodes that are not among those reached.
fn lost(parts: &Parts<'_>, reached: &[bool]) -> Vec<u32> {
    let live = parts.nodes.live_nodes();
    live.filter(|&node| !reached[node as usize]).collect()
}

/// Which nodes are reached. Passes over all lists, which read memory in its order, come first: where
/// links lead to near numbers they leave little for a walk.
fn reached(parts: &Parts<'_>, graph: &Graph, entry: EntryPoint) -> Vec<bool> {
    let nodes = parts.nodes.len() as u32;
    let marks: Vec<AtomicU8> = (0..nodes).map(|_| AtomicU8::new(UNSEEN)).collect();
    marks[entry.node as usize].store(SEEN, Relaxed);
    // Two threads that see a node at once pass it twice at worst.
    let pass = |node: u32, seen: &mut dyn FnMut(u32)| {
        marks[node as usize].store(PASSED, Relaxed);
        for link in graph.links(0, node).iter() {
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
    let mut front: Vec<u32> = (0..nodes).filter(is_waiting).collect();
    while !front.is_empty() {
        let chunks: Vec<&[u32]> = front.chunks(FRONT).collect();
        let seen = map(&chunks, |chunk| {
            let mut seen = Vec::new();
            for (nth, &node) in chunk.iter().enumerate() {
                if let Some(&ahead) = chunk.get(nth + AHEAD) {
                    graph.prefetch(0, ahead);
                }
                pass(node, &mut |link| seen.push(link));
            }
            seen
        });
        front = seen.concat();
    }
    marks
        .into_iter()
        .map(|mark| mark.into_inner() != UNSEEN)
        .collect()
}

/// Nodes that one thread looks at in turn, and how far ahead it asks for their lists.
const FRONT: usize = 1_024;
const AHEAD: usize = 16;

/// How far a node has come in `reached`: to be looked at, and looked at.
const UNSEEN: u8 = 0;
const SEEN: u8 = 1;
const PASSED: u8 = 2;

/// The links that make every live node reachable over level 0.
pub(super) fn reconnect(parts: &Parts<'_>, graph: &Graph) -> Edits {
    reconnect_few(parts, graph, usize::MAX).unwrap_or_default()
}

/// As above, where no more nodes than `most` are unreachable.
pub(super) fn reconnect_few(parts: &Parts<'_>, graph: &Graph, most: usize) -> Option<Edits> {
    let Some(entry) = graph.entry() else {
        return (parts.nodes.live() <= most).then(Edits::default);
    };
    let reached = reached(parts, graph, entry);
    let lost = lost(parts, &reached);
    if lost.len() > most {
        return None;
    }
    let changed = adopt(parts, graph, entry, &lost, reached);
    let mut lists: Vec<ListEdit> = changed
        .into_iter()
        .map(|(node, links)| ListEdit {
            level: 0,
            node,
            links,
        })
        .collect();
    lists.sort_unstable_by_key(|edit| edit.node);
    Some(Edits { lists, entry: None })
}

/// New lists by which all that is lost is reached, each from a near one that is, one of its own
/// neighbours if it can be: by a link where there is room, else in the place of one whose other end
/// the node leads to itself, so that nothing is cut off.
fn adopt(
    parts: &Parts<'_>,
    graph: &Graph,
    entry: EntryPoint,
    lost: &[u32],
    mut reached: Vec<bool>,
) -> HashMap<u32, Vec<u32>> {
    let space = Space::of(parts.nodes);
    let mut lists = Lists {
        graph,
        changed: HashMap::new(),
    };
    for &node in lost {
        // It may be by now, over one before it.
        if reached[node as usize] {
            continue;
        }
        // Dead ones are swept some day, and what they lead to would be lost.
        let is_host = |link: u32| reached[link as usize] && !parts.nodes.is(link, DEAD);
        let own = lists.of(node);
        let own = own.iter().filter(|&&link| is_host(link));
        let mut hosts: Vec<Near> = own.map(|&link| space.near(node, link)).collect();
        if hosts.is_empty() {
            // A descent may end where level 0 alone does not lead.
            hosts = near(parts, graph, node);
            hosts.retain(|near| is_host(near.node));
        }
        hosts.sort_unstable_by(Near::order);
        let takes =
            |host: &&Near| lists.has_room(host.node) || lists.shared(host.node, node).is_some();
        let host = hosts.iter().find(takes).or(hosts.first());
        let any = || {
            parts
                .nodes
                .live_nodes()
                .find(|&other| reached[other as usize])
        };
        let host = host.map(|host| host.node).or_else(any);
        lists.adopt(host.unwrap_or(entry.node), node);
        reached[node as usize] = true;
        let mut stack = vec![node];
        while let Some(node) = stack.pop() {
            for &link in lists.of(node).iter() {
                if !std::mem::replace(&mut reached[link as usize], true) {
                    stack.push(link);
                }
            }
        }
    }
    lists.changed
}

/// The lists of level 0 as they will be.
struct Lists<'a> {
    graph: &'a Graph,
    changed: HashMap<u32, Vec<u32>>,
}

impl Lists<'_> {
    fn of(&self, node: u32) -> Cow<'_, [u32]> {
        match self.changed.get(&node) {
            Some(links) => Cow::Borrowed(links),
            None => Cow::Owned(self.graph.links(0, node).to_vec()),
        }
    }

    fn has_room(&self, node: u32) -> bool {
        self.of(node).len() < self.graph.capacity(0)
    }

    /// Where in the list of `host` the last link is that `node` has as well.
    fn shared(&self, host: u32, node: u32) -> Option<usize> {
        let own = self.of(node);
        self.of(host).iter().rposition(|link| own.contains(link))
    }

    /// Links `host`, which is reached, to `node`, which is not: where the link takes the place of
    /// another, what that led to is reached over `node`.
    fn adopt(&mut self, host: u32, node: u32) {
        let shared = self.shared(host, node);
        let mut list = self.of(host).to_vec();
        if self.has_room(host) {
            list.push(node);
        } else if let Some(place) = shared {
            list[place] = node;
        } else if let Some(last) = list.last_mut() {
            let heir = std::mem::replace(last, node);
            let mut own = self.of(node).to_vec();
            // Nothing that is reached hangs by a link of a node that is not.
            own.truncate(self.graph.capacity(0) - 1);
            own.push(heir);
            self.changed.insert(node, own);
        }
        self.changed.insert(host, list);
    }
}

/// Nodes near a node.
fn near(parts: &Parts<'_>, graph: &Graph, node: u32) -> Vec<Near> {
    let pools = find_candidates(parts, graph, parts.nodes.point(node), 0);
    pools.into_iter().next().unwrap_or_default()
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
    let old = graph.links(level, node).to_vec();
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
    heirs
        .iter()
        .for_each(|&heir| parts.nodes.codes.prefetch(heir));
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
    let own = graph.links(level, node).to_vec();
    let is_dead = |link: u32| parts.nodes.is(link, DEAD);
    let mut walked: Vec<u32> = own.iter().copied().filter(|&link| is_dead(link)).collect();
    let wanted = 4 * graph.capacity(level);
    let mut heirs = Vec::new();
    let mut next = 0;
    // Bounded on both sides: enough heirs, or enough of the dead asked.
    while next < walked.len() && next < wanted && heirs.len() < wanted {
        for link in graph.links(level, walked[next]).iter() {
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

    fn is_lost(index: &Hnsw, node: u32) -> bool {
        let entry = index.graph.as_ref().and_then(Graph::entry).unwrap();
        node.is_multiple_of(7) && node != entry.node
    }

    /// Gives every node the list that `links` tells, and links what is lost again.
    fn reconnected(index: &mut Hnsw, links: impl Fn(u32, &[u32]) -> Vec<u32>) {
        let graph = index.graph.as_ref().unwrap();
        let lists = (0..graph.nodes() as u32).map(|node| ListEdit {
            level: 0,
            node,
            links: links(node, &graph.links(0, node).to_vec()),
        });
        let cut = Edits {
            lists: lists.collect(),
            entry: None,
        };
        index.graph.as_mut().unwrap().apply(cut);
        let graph = index.graph.as_ref().unwrap();
        let lost = unreachable(&index.parts(), graph);
        assert!(lost.len() >= 299, "{}", lost.len());
        let few = reconnect_few(&index.parts(), graph, lost.len() - 1);
        assert!(few.is_none(), "there are more");
        let edits = reconnect(&index.parts(), graph);
        index.graph.as_mut().unwrap().apply(edits);
        assert_eq!(index.check(), [""; 0]);
    }

    #[test]
    fn lost_nodes_are_linked_again() {
        let mut index = index(2_100);
        assert!(index.check().is_empty());
        // Cut every link into each seventh node, and all links among them.
        let lost: Vec<bool> = (0..2_100).map(|node| is_lost(&index, node)).collect();
        reconnected(&mut index, |_, links| {
            let kept = links.iter().filter(|&&link| !lost[link as usize]);
            kept.copied().collect()
        });
    }

    /// What is dead goes some day, with all that it leads to.
    #[test]
    fn lost_nodes_do_not_hang_by_dead_ones() {
        let mut index = index(2_100);
        let lost: Vec<bool> = (0..2_100).map(|node| is_lost(&index, node)).collect();
        let entry = index.graph.as_ref().and_then(Graph::entry).unwrap();
        let dead = |node: u32| node % 7 == 1 && node != entry.node;
        for node in (0..2_100).filter(|&node| dead(node)) {
            index.remove(Slot::from_raw(index.nodes.slots(node)[0]));
        }
        reconnected(&mut index, |node, links| match lost[node as usize] {
            true => vec![node + 1],
            false => {
                let kept = links.iter().filter(|&&link| !lost[link as usize]);
                kept.copied().collect()
            }
        });
        let graph = index.graph.as_ref().unwrap();
        let led_to = index
            .nodes
            .live_nodes()
            .flat_map(|node| graph.links(0, node).iter());
        let led_to: std::collections::HashSet<u32> = led_to.collect();
        let lone = (0..2_100).filter(|node| lost[*node as usize] && !led_to.contains(node));
        assert_eq!(lone.count(), 0);
    }

    /// Lost nodes that know no other ones, that know all, and lists without room.
    #[test]
    fn lost_nodes_are_linked_again_where_lists_are_full() {
        for own in [true, false] {
            let mut index = index(2_100);
            let lost: Vec<bool> = (0..2_100).map(|node| is_lost(&index, node)).collect();
            let full = index.graph.as_ref().unwrap().capacity(0);
            reconnected(&mut index, |node, links| {
                let among = own && lost[node as usize];
                let fits = |link: &u32| *link != node && lost[*link as usize] == among;
                let mut list: Vec<u32> = links.iter().copied().filter(fits).collect();
                let others = (node + 1..2_100).chain(0..node).filter(fits);
                for other in others {
                    if list.len() < full && !list.contains(&other) {
                        list.push(other);
                    }
                }
                assert_eq!(list.len(), full);
                list
            });
        }
    }
}
