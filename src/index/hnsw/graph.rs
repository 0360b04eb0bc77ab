//! The links of a graph and nothing else: who is whose neighbour on which level.

use rayon::prelude::*;
use xxhash_rust::xxh3::Xxh3Default;

use super::super::arena::{Arena, bytes_of_vec, grow};
use super::bulk::Lists;
use super::list::{Layout, Links, NARROW_NODES};
use super::upper::Upper;
use crate::kernel::prefetch;
use crate::pool;
use crate::schema::HnswParams;

/// Where a walk begins: the node of the highest level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EntryPoint {
    pub(super) node: u32,
    pub(super) level: u8,
}

/// A new list of neighbours for one node on one level.
#[derive(Debug)]
pub(crate) struct ListEdit {
    pub(super) level: u8,
    pub(super) node: u32,
    pub(super) links: Vec<u32>,
}

/// Changes to a graph, worked out aside.
#[derive(Default, Debug)]
pub(crate) struct Edits {
    pub(super) lists: Vec<ListEdit>,
    /// Where walks begin from now on, if that changes.
    pub(super) entry: Option<EntryPoint>,
}

/// Lists that are asked for before they are written to.
const AHEAD: usize = 16;

/// Lists of fixed capacity: all on level 0 by node, the few above it by a number of their own.
pub(crate) struct Graph {
    m: usize,
    m0: usize,
    /// Of the lists of level 0; all levels are as wide.
    layout: Layout,
    level0: Arena<u8>,
    /// Nodes that narrow lists have room for.
    narrow_nodes: usize,
    /// The levels from 1 on.
    uppers: Vec<Upper>,
    /// How many level-0 lists hold a node. Sticks at its maximum, since only 0 and 1 matter;
    /// a node that stuck and still lost its last link is found when reachability is proved.
    in_degrees: Vec<u8>,
    entry: Option<EntryPoint>,
}

impl Graph {
    pub(super) fn new(params: &HnswParams) -> Self {
        Self {
            m: params.m,
            m0: params.m0,
            layout: Layout::new(params.m0, false),
            level0: bottom(Layout::new(params.m0, false)),
            narrow_nodes: NARROW_NODES,
            uppers: Vec::new(),
            in_degrees: Vec::new(),
            entry: None,
        }
    }

    /// Makes room for this many nodes, where there are none yet.
    pub(super) fn reserve(&mut self, nodes: usize) {
        // Some more, since widening lists that are there takes a second for every 16 million.
        self.fit(nodes + nodes / 8);
        self.level0.reserve(nodes);
        self.in_degrees.reserve_exact(nodes);
    }

    /// Makes room for this many nodes of a level above 0, where there are none yet.
    pub(super) fn reserve_level(&mut self, level: u8, nodes: usize) {
        if level > 0 {
            self.upper_mut(level).reserve(nodes);
        }
    }

    /// Says where walks begin.
    pub(super) fn begin_at(&mut self, entry: Option<EntryPoint>) {
        self.entry = entry;
    }

    /// Gives the nodes `ids`, in ascending order, their first lists on a level; `lists` name them by
    /// their places. There are `nodes` of them all on level 0, where no lists are yet.
    pub(super) fn fill(&mut self, level: u8, ids: &[u32], nodes: usize, lists: Lists) {
        self.fit(nodes);
        if level > 0 {
            self.reserve_level(level, ids.len());
            lists.for_each(ids, |node, links| self.set(level, node, links));
            return;
        }
        self.reserve(nodes);
        self.grow(nodes);
        match self.level0.all_mut() {
            Some(rows) => lists.fill(ids, rows, self.layout),
            None => return lists.for_each(ids, |node, links| self.set(level, node, links)),
        }
        self.count_all();
    }

    /// Makes this many nodes exist, without links, on all threads.
    pub(super) fn grow(&mut self, nodes: usize) {
        self.fit(nodes);
        self.level0.touch();
        self.level0.grow(nodes);
        grow(&mut self.in_degrees, nodes, 0);
    }

    /// Gives these nodes lists without links on a level above 0.
    pub(super) fn begin_level(&mut self, level: u8, nodes: &[u32]) {
        self.reserve_level(level, nodes.len());
        for &node in nodes {
            self.set(level, node, &[]);
        }
    }

    /// Adds the other direction of links (level, from, to), where the lists have room and no such
    /// link. To be counted afterwards. Every thread looks at all of them and fills lists of its own.
    pub(super) fn add_back<'a>(
        &mut self,
        links: &(impl Iterator<Item = &'a (u8, u32, u32)> + Clone + Sync),
    ) {
        for &(level, from, to) in links.clone() {
            if level > 0 {
                self.upper_mut(level).add_link(to, from);
            }
        }
        let layout = self.layout;
        let bytes = layout.bytes();
        let share = self.level0.rows().div_ceil(pool::threads()).max(1);
        let Some(lists) = self.level0.all_mut() else {
            return;
        };
        let shares = lists.par_chunks_mut(share * bytes).enumerate();
        shares.for_each(|(nth, lists)| {
            let row = |&(_, _, to): &(u8, u32, u32)| (to as usize).wrapping_sub(nth * share);
            let own = links
                .clone()
                .filter(|link| link.0 == 0 && row(link) < share);
            let mut ahead = own.clone().skip(AHEAD);
            for link in own {
                if let Some(ahead) = ahead.next() {
                    prefetch(&lists[row(ahead) * bytes..][..bytes]);
                }
                layout.add(&mut lists[row(link) * bytes..][..bytes], link.1);
            }
        });
    }

    /// The lists of level 0, one after another, to be filled before they are counted. Nothing
    /// where room was not made for all of them beforehand.
    pub(super) fn bottom_mut(&mut self) -> Option<(Layout, &mut [u8])> {
        let layout = self.layout;
        self.level0.all_mut().map(|lists| (layout, lists))
    }

    /// Counts the links to every node, once the lists have been filled. Every thread looks at all
    /// lists and counts for nodes of its own: one more look at a list costs less than counting
    /// together.
    pub(super) fn count_all(&mut self) {
        let (level0, layout) = (&self.level0, self.layout);
        let share = level0.rows().div_ceil(pool::threads());
        let shares = self.in_degrees.par_chunks_mut(share.max(1));
        shares.enumerate().for_each(|(nth, degrees)| {
            degrees.fill(0);
            let first = (nth * share) as u32;
            for node in 0..level0.rows() {
                for link in layout.links(level0.row(node)).iter() {
                    if let Some(degree) = degrees.get_mut(link.wrapping_sub(first) as usize) {
                        *degree = degree.saturating_add(1);
                    }
                }
            }
        });
    }

    pub(super) fn entry(&self) -> Option<EntryPoint> {
        self.entry
    }

    /// Most links of a list on this level.
    pub(super) fn capacity(&self, level: u8) -> usize {
        if level == 0 { self.m0 } else { self.m }
    }

    /// The neighbours of a node; none where it has no list.
    #[inline]
    pub(super) fn links(&self, level: u8, node: u32) -> Links<'_> {
        match level.checked_sub(1) {
            None if (node as usize) < self.level0.rows() => {
                self.layout.links(self.level0.row(node as usize))
            }
            None => Links::default(),
            Some(above) => {
                let upper = self.uppers.get(usize::from(above));
                upper.map_or(Links::default(), |upper| upper.links(node))
            }
        }
    }

    /// Asks for what reading the neighbours of a node will read.
    #[inline]
    pub(super) fn prefetch(&self, level: u8, node: u32) {
        if level == 0 {
            self.level0.prefetch(node as usize);
        } else if let Some(upper) = self.uppers.get(usize::from(level) - 1) {
            upper.prefetch(node);
        }
    }

    /// A level above 0, which comes into being with those below it.
    fn upper_mut(&mut self, level: u8) -> &mut Upper {
        let levels = self.uppers.len().max(usize::from(level));
        let layout = Layout::new(self.m, self.layout.is_wide());
        self.uppers.resize_with(levels, || Upper::new(layout));
        &mut self.uppers[usize::from(level) - 1]
    }

    pub(super) fn in_degree(&self, node: u32) -> u8 {
        self.in_degrees.get(node as usize).copied().unwrap_or(0)
    }

    /// Puts changes in place.
    pub(super) fn apply(&mut self, edits: Edits) {
        for edit in edits.lists {
            self.set(edit.level, edit.node, &edit.links);
        }
        if edits.entry.is_some() {
            self.entry = edits.entry;
        }
    }

    /// Puts a list in place of another.
    pub(super) fn set(&mut self, level: u8, node: u32, links: &[u32]) {
        let nodes = links.iter().copied().fold(node, u32::max) as usize + 1;
        self.fit(nodes);
        if level == 0 {
            self.level0.grow(node as usize + 1);
            grow(&mut self.in_degrees, nodes, 0);
            self.count(node, links);
            self.layout.write(self.level0.row_mut(node as usize), links);
        } else {
            self.upper_mut(level).set(node, links);
        }
    }

    /// Counts in-links anew for a level-0 list that is about to become `links`.
    fn count(&mut self, node: u32, links: &[u32]) {
        let old = self.layout.links(self.level0.row(node as usize));
        for old in old.iter() {
            let degree = &mut self.in_degrees[old as usize];
            if *degree != u8::MAX {
                *degree = degree.saturating_sub(1);
            }
        }
        for &new in links {
            let degree = &mut self.in_degrees[new as usize];
            *degree = degree.saturating_add(1);
        }
    }

    /// Clears every list of a node of this level, before its number is used again.
    pub(super) fn clear(&mut self, node: u32, level: u8) {
        self.set(0, node, &[]);
        let uppers = self.uppers.iter_mut().take(usize::from(level));
        uppers.for_each(|upper| upper.remove(node));
        // No list holds the node any more; a count that stuck starts again from there.
        self.in_degrees[node as usize] = 0;
    }

    /// Makes lists wide enough for this many nodes.
    fn fit(&mut self, nodes: usize) {
        if nodes <= self.narrow_nodes || self.layout.is_wide() {
            return;
        }
        let (narrow, wide) = (self.layout, self.layout.widened());
        self.layout = wide;
        let old = std::mem::replace(&mut self.level0, bottom(wide));
        widen(narrow, &old, &mut self.level0);
        self.uppers.iter_mut().for_each(Upper::widen);
    }

    /// Level-0 lists, including empty ones of nodes that have none.
    pub(super) fn nodes(&self) -> usize {
        self.level0.rows()
    }

    /// Feeds everything that decides the answers to a hash.
    pub(super) fn fingerprint(
        &self,
        hash: &mut Xxh3Default,
        nodes: impl Iterator<Item = (u32, u8)>,
    ) {
        let entry = self.entry.map(|entry| entry.node);
        hash.update(&entry.unwrap_or(u32::MAX).to_le_bytes());
        for (node, level) in nodes {
            for level in 0..=level {
                let links = self.links(level, node);
                hash.update(&(links.len() as u32).to_le_bytes());
                for link in links.iter() {
                    hash.update(&link.to_le_bytes());
                }
            }
        }
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        let uppers: usize = self.uppers.iter().map(Upper::memory).sum();
        self.level0.memory() + uppers + bytes_of_vec(&self.uppers) + bytes_of_vec(&self.in_degrees)
    }
}

/// No lists, which will be laid out like this.
pub(super) fn bottom(layout: Layout) -> Arena<u8> {
    Arena::new(layout.bytes(), Layout::UNUSED)
}

/// Copies narrow lists into an arena for wide ones that has none yet.
pub(super) fn widen(narrow: Layout, from: &Arena<u8>, to: &mut Arena<u8>) {
    let wide = narrow.widened();
    let mut links = Vec::new();
    to.reserve(from.rows());
    to.grow(from.rows());
    for row in 0..from.rows() {
        narrow.links(from.row(row)).unpack(&mut links);
        wide.write(to.row_mut(row), &links);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Graphs that outgrow narrow lists while lists are set one by one, and when room is made.
    #[test]
    fn lists_stay_what_they_are_when_they_widen() {
        let links = |level: u8, node: u32, nodes: u32| -> Vec<u32> {
            let others = (1..=node % 5).map(|step| (node + step * 37) % nodes);
            others
                .filter(|&other| other % 3 >= u32::from(level))
                .collect()
        };
        for reserved in [0, 50, 600] {
            let mut graph = Graph::new(&HnswParams::default());
            graph.narrow_nodes = 100;
            graph.reserve(reserved);
            for nodes in [90, 300] {
                for node in 0..nodes {
                    graph.set(0, node, &links(0, node, nodes));
                    if node % 3 > 0 {
                        graph.set(1, node, &links(1, node, nodes));
                    }
                }
                assert_eq!(graph.layout.is_wide(), nodes > 100 || reserved > 100);
                let mut degrees = vec![0; nodes as usize];
                for node in 0..nodes {
                    let wanted = links(0, node, nodes);
                    assert_eq!(graph.links(0, node).to_vec(), wanted);
                    let above = (node % 3 > 0).then(|| links(1, node, nodes));
                    assert_eq!(graph.links(1, node).to_vec(), above.unwrap_or_default());
                    wanted.iter().for_each(|&link| degrees[link as usize] += 1);
                }
                assert!((0..nodes).all(|node| graph.in_degree(node) == degrees[node as usize]));
            }
            graph.grow(500);
            assert_eq!(graph.links(0, 299).to_vec(), links(0, 299, 300));
            graph.add_back(&[(0, 299, 400), (1, 299, 1), (0, 299, 400)].iter());
            assert!(graph.links(1, 1).contains(299));
            // Lists of level 0 are filled so where room was made for all of them.
            let wanted: &[u32] = if reserved == 600 { &[299] } else { &[] };
            assert_eq!(graph.links(0, 400).to_vec(), wanted);
        }
    }

    /// A link may be the first to name a node of a high number.
    #[test]
    fn a_link_to_a_high_number_widens_lists() {
        for level in [0, 1] {
            let mut graph = Graph::new(&HnswParams::default());
            graph.narrow_nodes = 100;
            graph.set(level, 7, &[99]);
            assert!(!graph.layout.is_wide());
            graph.set(level, 8, &[3, 100]);
            assert!(graph.layout.is_wide());
            assert_eq!(graph.links(level, 7).to_vec(), [99]);
            assert_eq!(graph.links(level, 8).to_vec(), [3, 100]);
        }
    }
}
