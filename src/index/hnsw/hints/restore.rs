//! From hints to a graph: lists as they were said to be, and searches for the few rows of which
//! too little was said.

use std::collections::HashMap;

use super::super::graph::Graph;
use super::super::insert::{Newcomer, Space, find_candidates, link, link_back};
use super::super::nodes::LEVEL_MAX;
use super::super::{Hnsw, repair};
use super::log::{GONE_SHARE, Log, NONE};
use super::told::{Reader, Told};
use super::{LINKS_MIN, Linked};
use crate::error::IndexError;
use crate::pool::map;

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

/// To prove so many nodes reachable takes about as long as to search for one.
const PROOF_SHARE: usize = 4_096;

/// Nodes, in ascending order, that have few links, or few links to them: others are gone, or the log
/// says too little of them.
struct Lost {
    thin: Vec<u32>,
    lone: Vec<u32>,
}

impl Hnsw {
    /// Takes the levels of nodes from a log, and whether it says enough, and what can be, to link
    /// them by it.
    pub(in super::super) fn take_levels(&mut self, log: &Log) -> bool {
        let total = self.nodes.live();
        let (known, places) = (log.known(), log.places() as u32);
        let (added, gone) = (total - known, log.records - known);
        if added * UNHINTED_SHARE > total || gone * GONE_SHARE > log.records {
            return false;
        }
        // Lists of levels that nobody draws: somebody else's file.
        let levels: usize = log.levels.iter().map(|&level| usize::from(level)).sum();
        if levels > 2 * log.records + usize::from(LEVEL_MAX) {
            return false;
        }
        self.order_added(places);
        // A node that lives again, or whose first row left, has another level than its first row
        // would be drawn now.
        for (place, &level) in (0..).zip(&log.levels) {
            match log.node(place) {
                NONE => {}
                node => self.nodes.set_level(node, level),
            }
        }
        self.draw_levels(places);
        true
    }

    /// Links every node by a log whose levels were taken; `None` where it says what is wrong.
    pub(in super::super) fn restore(
        &self,
        log: Log,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Option<(Graph, Linked)>, IndexError> {
        let total = self.nodes.live();
        let (known, places) = (log.known(), log.places() as u32);
        let (added, gone) = (total - known, log.records - known);
        let go_on = |done: usize| match progress(done, total) {
            true => Ok(()),
            false => Err(IndexError::Cancelled),
        };
        go_on(0)?;
        let said = log.sample;
        let (mut graph, Lost { thin, lone }) = self.fill(log, &go_on)?;
        // Not one of those that nothing leads to yet.
        let known_nodes = self.nodes.live_nodes().take_while(|&node| node < places);
        graph.begin_at(repair::best_entry(&self.parts(), known_nodes));
        go_on(total / 4)?;
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
        // A graph of which much is lost is not worth the searches.
        let unreached_max = total / GONE_SHARE;
        if thin.len() * PROOF_SHARE > total
            && repair::unreachable(&self.parts(), &graph).len() > unreached_max
        {
            return Ok(None);
        }
        go_on(total / 2)?;
        for nodes in thin.chunks(RELINKED) {
            self.relink(&mut graph, nodes);
            go_on(total / 2)?;
        }
        // All of them, since one that was linked anew may be where walks begin now.
        match repair::reconnect_few(&self.parts(), &graph, unreached_max) {
            Some(edits) => graph.apply(edits),
            None => return Ok(None),
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

    /// Brings the nodes that the log says nothing of, behind its places, into the order of their
    /// first rows' ids, and gives up the free numbers among them, of which there are as many as rows
    /// had to wait for their twins.
    fn order_added(&mut self, places: u32) {
        let mut added: Vec<u32> = (places..self.nodes.len() as u32).collect();
        added.sort_by_cached_key(|&node| (self.nodes.is_free(node), self.first_row(node)));
        if !added.is_sorted() {
            let order: Vec<u32> = (0..places).chain(added).collect();
            self.renumber(&order);
        }
        let behind = places..self.nodes.len() as u32;
        let live = behind.filter(|&node| !self.nodes.is_free(node)).count();
        self.nodes.truncate(places as usize + live);
    }

    /// The graph that a log tells of, and what it lost with what is gone.
    fn fill(
        &self,
        mut log: Log,
        go_on: &impl Fn(usize) -> Result<(), IndexError>,
    ) -> Result<(Graph, Lost), IndexError> {
        let places = log.places() as u32;
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
        for told in &told {
            let mut links = &told.links[..];
            for &(level, node, count) in &told.above {
                let list;
                (list, links) = links.split_at(count);
                graph.set(level, node, list);
            }
        }
        graph.add_back(&told.iter().flat_map(|told| &told.mutual));
        graph.count_all();
        self.inherit(&mut graph, &told, go_on)?;
        let lost = self.lost(&graph, &told, places);
        Ok((graph, lost))
    }

    /// Those of the nodes that lost something which need more, and those behind the log's `places`.
    /// Nodes that had little when the graph was whole are well placed so.
    fn lost(&self, graph: &Graph, told: &[Told], places: u32) -> Lost {
        let thin_max = LINKS_MIN.min(self.params.m0);
        let is_thin = |node: &u32| graph.links(0, *node).len() < thin_max;
        let is_lone = |node: &u32| graph.in_degree(*node) < IN_LINKS_MIN && !is_thin(node);
        let bereft = told.iter().flat_map(|told| told.bereft.iter().copied());
        let added = places..self.nodes.len() as u32;
        let lone = map(told, |told| -> Vec<u32> {
            let led_to = told.led_to_by_gone().iter().copied();
            led_to.filter(is_lone).collect()
        });
        Lost {
            thin: ascending(bereft.chain(added).filter(is_thin)),
            lone: ascending(lone.into_iter().flatten()),
        }
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
            go_on(self.nodes.live() / 4)?;
            let lists = map(losers, |&(node, lost)| {
                let own = &graph.links(0, node).to_vec()[..];
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
            let pools = find_candidates(&self.parts(), graph, self.nodes.point(node), level);
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
