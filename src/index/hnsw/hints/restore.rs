//! From hints to a graph: lists as they were said to be, and searches for the few rows of which
//! too little was said.

use std::collections::HashMap;

use super::super::graph::Graph;
use super::super::insert::{Newcomer, Space, find_candidates, link, link_back};
use super::super::nodes::LEVEL_MAX;
use super::super::{Hnsw, repair};
use super::Linked;
use super::log::{GONE_SHARE, Log, NONE};
use super::told::{Reader, Told};
use crate::error::IndexError;
use crate::pool::map;

/// A node with fewer links is searched for and linked anew.
const LINKS_MIN: usize = 6;

/// A node with fewer links to it gets links from so many of its neighbours.
const IN_LINKS_MIN: u8 = 2;
const HOSTS: usize = 4;

/// One node in so many may be without a hint, or have too few links, or the graph is built anew.
const UNHINTED_SHARE: usize = 10;

/// Heirs that are compared for a list, so many times its places at most.
const HEIRS_SHARE: usize = 8;

/// Nodes whose lists are filled up together.
const INHERITING: usize = 4_096;

/// Nodes that are linked anew together.
const RELINKED: usize = 256;

/// Nodes, some of them more than once, that lost links or links to them.
#[derive(Default)]
struct Lost {
    links: Vec<u32>,
    in_links: Vec<u32>,
}

impl Hnsw {
    /// Takes the levels of nodes from a log, and whether it says enough, and what can be, to link
    /// them by it.
    pub(in super::super) fn take_levels(&mut self, log: &Log) -> bool {
        let total = self.nodes.live();
        let known = log.known();
        let (added, gone) = (total - known, log.records - known);
        if added * UNHINTED_SHARE > total || gone * GONE_SHARE > log.records {
            return false;
        }
        // Lists of levels that nobody draws: somebody else's file.
        let levels: usize = log.levels.iter().map(|&level| usize::from(level)).sum();
        if levels > 2 * log.records + usize::from(LEVEL_MAX) {
            return false;
        }
        self.order_added(known);
        // A node that lives again, or whose first row left, has another level than its first row
        // would be drawn now.
        for (place, &level) in (0..).zip(&log.levels) {
            match log.node(place) {
                NONE => {}
                node => self.nodes.set_level(node, level),
            }
        }
        self.draw_levels(known as u32);
        true
    }

    /// Links every node by a log whose levels were taken; `None` where it says what is wrong.
    pub(in super::super) fn restore(
        &self,
        log: Log,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Option<(Graph, Linked)>, IndexError> {
        let total = self.nodes.live();
        let known = log.known();
        let (added, gone) = (total - known, log.records - known);
        let go_on = |done: usize| match progress(done, total) {
            true => Ok(()),
            false => Err(IndexError::Cancelled),
        };
        go_on(0)?;
        let said = log.sample;
        let (mut graph, lost) = self.fill(log, &go_on)?;
        // Not one of those that nothing leads to yet.
        let entry = repair::best_entry(&self.parts(), 0..known as u32);
        graph.begin_at(entry);
        go_on(total / 4)?;
        // Those that had few links, or few to them, when the graph was whole are well placed so.
        let added_nodes = known as u32..total as u32;
        let is_thin = |node: &u32| graph.links(0, *node).len() < LINKS_MIN.min(self.params.m0);
        let is_lone = |node: &u32| graph.in_degree(*node) < IN_LINKS_MIN && !is_thin(node);
        let thin = lost.links.into_iter().chain(added_nodes);
        let thin = ascending(thin.filter(is_thin));
        let lone = ascending(lost.in_links.into_iter().filter(is_lone));
        // Repairs are for few.
        if (thin.len() + lone.len()) * UNHINTED_SHARE > total {
            return Ok(None);
        }
        // Their own lists are good: no search finds better ones.
        for nodes in lone.chunks(INHERITING) {
            let edits = link_back(&Space::of(&self.nodes), &graph, nodes, HOSTS);
            graph.apply(edits);
            go_on(total / 2)?;
        }
        let unreached = match entry {
            Some(entry) => repair::count_unreached(&self.parts(), &graph, entry),
            None => total,
        };
        if unreached * GONE_SHARE > total {
            return Ok(None);
        }
        go_on(total / 2)?;
        for nodes in thin.chunks(RELINKED) {
            self.relink(&mut graph, nodes);
            go_on(total / 2)?;
        }
        // One that was linked anew may be where walks begin now.
        if unreached > 0 || !thin.is_empty() {
            let edits = repair::reconnect(&self.parts(), &graph);
            graph.apply(edits);
        }
        if !self.finds_itself(&graph, said) {
            return Ok(None);
        }
        go_on(total)?;
        let linked = Linked {
            hinted: total - thin.len(),
            added,
            gone,
            relinked: thin.len(),
            refused: false,
        };
        Ok(Some((graph, linked)))
    }

    /// Brings the nodes that the log says nothing of, behind those it knows, into the order of
    /// their first rows' ids.
    fn order_added(&mut self, known: usize) {
        let mut added: Vec<u32> = (known as u32..self.nodes.len() as u32).collect();
        added.sort_by_cached_key(|&node| self.first_row(node));
        if !added.is_sorted() {
            let order: Vec<u32> = (0..known as u32).chain(added).collect();
            self.renumber(&order);
        }
    }

    /// The graph that a log tells of, and what it lost with what is gone.
    fn fill(
        &self,
        mut log: Log,
        go_on: &impl Fn(usize) -> Result<(), IndexError>,
    ) -> Result<(Graph, Lost), IndexError> {
        let nodes = self.nodes.len();
        let mut graph = Graph::new(&self.params);
        graph.reserve(nodes);
        graph.grow(nodes);
        let all = 0..nodes as u32;
        let above = all.filter(|&node| self.nodes.level(node) > 0);
        let mut above: Vec<u32> = above.collect();
        for level in 1.. {
            above.retain(|&node| self.nodes.level(node) >= level);
            if above.is_empty() {
                break;
            }
            graph.begin_level(level, &above);
        }
        let groups = std::mem::take(&mut log.groups);
        let reader = Reader::of(&log, &self.nodes, &self.params);
        let told = match graph.bottom_mut() {
            None => Vec::new(),
            Some(lists) => reader.read(groups, lists),
        };
        graph.count_all();
        let mut lost = Lost::default();
        for told in &told {
            let mut links = &told.links[..];
            for &(level, node, count) in &told.above {
                let list;
                (list, links) = links.split_at(count);
                graph.set(level, node, list);
            }
            lost.links.extend(&told.bereft);
            lost.in_links.extend(told.led_to_by_gone());
        }
        for &(level, from, to) in told.iter().flat_map(|told| &told.mutual) {
            graph.add(level, to, from);
        }
        self.inherit(&mut graph, &told, go_on)?;
        Ok((graph, lost))
    }

    /// Nodes that lost much of their lists with rows that are gone get what these led to in the
    /// lost ones' places, as in a sweep: no search, and the way it was.
    fn inherit(
        &self,
        graph: &mut Graph,
        told: &[Told],
        go_on: &impl Fn(usize) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let gone: HashMap<u32, &[u32]> = told.iter().flat_map(Told::gone).collect();
        let losers: Vec<(u32, &[u32])> = told.iter().flat_map(Told::losers).collect();
        for losers in losers.chunks(INHERITING) {
            go_on(self.nodes.len() / 4)?;
            let lists = map(losers, |&(node, lost)| {
                let own = graph.links(0, node);
                let heirs = lost
                    .iter()
                    .filter_map(|place| gone.get(place))
                    .flat_map(|links| links.iter().copied())
                    .filter(|&heir| heir != node && !own.contains(&heir))
                    .take(HEIRS_SHARE * self.params.m0);
                let heirs = ascending(heirs);
                let len = (own.len() + lost.len()).min(self.params.m0);
                repair::filled_up(&self.parts(), node, own, &heirs, len)
            });
            for (&(node, _), links) in losers.iter().zip(&lists) {
                graph.set(0, node, links);
            }
        }
        Ok(())
    }

    /// Searches for the neighbours of nodes that are in the graph already.
    fn relink(&self, graph: &mut Graph, nodes: &[u32]) {
        let newcomers = map(nodes, |&node| {
            let level = self.nodes.level(node);
            let mut pools = find_candidates(&self.parts(), graph, self.nodes.point(node), level);
            for pool in &mut pools {
                pool.retain(|near| nodes.binary_search(&near.node).is_err());
            }
            Newcomer { node, level, pools }
        });
        let edits = link(&Space::of(&self.nodes), graph, &self.params, &newcomers);
        graph.apply(edits);
    }
}

/// These nodes in ascending order, each once.
fn ascending(nodes: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut nodes: Vec<u32> = nodes.collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}
