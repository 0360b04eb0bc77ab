//! From hints to a graph: lists as they were said to be, and searches for the few rows of which
//! too little was said.

use rayon::prelude::*;

use super::super::graph::Graph;
use super::super::insert::{Newcomer, Space, find_candidates, link, map, search_candidates};
use super::super::list;
use super::super::nodes::LEVEL_MAX;
use super::super::{Hnsw, bulk, repair};
use super::Linked;
use super::read::{Head, List, Records};
use crate::error::IndexError;
use crate::ids::RowId;
use crate::limits;

/// A node with fewer links, or fewer links to it, is searched for and linked anew.
const LINKS_MIN: usize = 6;
const IN_LINKS_MIN: u8 = 2;

/// One node in so many may be without a hint, or have too few links, or the graph is built anew.
const UNHINTED_SHARE: usize = 10;

/// One record in so many may be of a row that is gone.
const GONE_SHARE: usize = 5;

/// Groups that are read side by side.
const GROUPS: usize = 16;

/// Nodes whose lists are filled by one worker.
const BLOCK: usize = 512;

/// Nodes that are linked anew together.
const RELINKED: usize = 256;

/// Nodes that are looked for to see whether walks find what is there, how hard, and how many of
/// them must be found.
const SAMPLE: usize = 256;
const SAMPLE_EF: usize = 64;
const SAMPLE_FOUND: usize = SAMPLE * 9 / 10;

/// No node.
const NONE: u32 = u32::MAX;

impl Hnsw {
    /// As `build`, from hints where they are of use.
    pub(crate) fn build_from(
        &mut self,
        hints: &[Vec<u8>],
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Linked, IndexError> {
        if !hints.is_empty()
            && self.nodes.live() >= limits::GRAPH_MIN
            && let Some(linked) = self.restore(hints, progress)?
        {
            return Ok(linked);
        }
        self.build(progress)?;
        Ok(Linked {
            refused: !hints.is_empty(),
            ..Linked::default()
        })
    }

    /// Links every node by hints; `None` where they say too little or what is wrong.
    fn restore(
        &mut self,
        hints: &[Vec<u8>],
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Option<Linked>, IndexError> {
        let total = self.nodes.live();
        let go_on = |done: usize| match progress(done, total) {
            true => Ok(()),
            false => Err(IndexError::Cancelled),
        };
        go_on(0)?;
        let by_id = ByRowId::of(self);
        let log = Log::read(self, hints, &by_id);
        let (known, gone) = (log.order.len(), log.gone);
        let unhinted = total - known;
        if unhinted * UNHINTED_SHARE > total || log.gone * GONE_SHARE > log.records {
            return Ok(None);
        }
        let mut order = log.order.clone();
        order.extend(
            by_id
                .nodes()
                .filter(|&node| log.number[node as usize] == NONE),
        );
        // A row id twice, or lists of levels that nobody draws: somebody else's file.
        let levels: usize = log.levels.iter().map(|&level| usize::from(level)).sum();
        if order.len() != total || levels > 2 * total + usize::from(LEVEL_MAX) {
            return Ok(None);
        }
        self.number(&order);
        // A node that lives again, or whose first row left, has another level than its first row
        // would be drawn now.
        for (node, &level) in (0..).zip(&log.levels) {
            self.nodes.set_level(node, level);
        }
        go_on(total / 4)?;
        let (mut graph, bereft) = self.fill(&log);
        drop(log);
        go_on(total / 2)?;
        let is_thin = |node: &u32| {
            let links = graph.links(0, *node).len();
            links < LINKS_MIN.min(self.params.m0) || graph.in_degree(*node) < IN_LINKS_MIN
        };
        // Those that had few links when the graph was whole are well placed with them.
        let unhinted = known as u32..total as u32;
        let mut thin: Vec<u32> = bereft.into_iter().chain(unhinted).filter(is_thin).collect();
        thin.sort_unstable();
        thin.dedup();
        if thin.len() * UNHINTED_SHARE > total {
            return Ok(None);
        }
        for nodes in thin.chunks(RELINKED) {
            self.relink(&mut graph, nodes);
            go_on(total / 2)?;
        }
        let edits = repair::reconnect(&self.parts(), &graph);
        graph.apply(edits);
        if !self.finds_itself(&graph) {
            return Ok(None);
        }
        self.graph = Some(graph);
        go_on(total)?;
        Ok(Some(Linked {
            hinted: total - thin.len(),
            added: total - known,
            gone,
            relinked: thin.len(),
            refused: false,
        }))
    }

    /// The graph that a log tells of, over nodes in its order, and the nodes that lost links with
    /// what is gone or told of elsewhere.
    fn fill(&self, log: &Log<'_>) -> (Graph, Vec<u32>) {
        let nodes = self.nodes.len();
        let mut graph = Graph::new(&self.params);
        graph.reserve(nodes);
        graph.grow(nodes);
        for (level, nodes) in (0..).zip(bulk::levels(&self.parts())).skip(1) {
            graph.begin_level(level, &nodes);
        }
        let (mut above, mut bereft) = (Vec::new(), Vec::new());
        let mut lists = graph
            .blocks_mut(BLOCK)
            .map(|blocks| Lists::of(blocks, self.params.m0));
        for groups in log.groups.chunks(GROUPS) {
            let read = groups.par_iter().map(|group| self.links_of(log, group));
            let mut read: Vec<Links> = read.collect();
            for links in &mut read {
                above.append(&mut links.above);
                bereft.append(&mut links.bereft);
            }
            if let Some(lists) = &mut lists {
                lists.add(&read);
            }
        }
        for (level, link) in above {
            graph.add_above(level, link.from, link.to);
            if link.mutual {
                graph.add_above(level, link.to, link.from);
            }
        }
        graph.count_all();
        graph.begin_at(repair::best_entry(&self.parts()));
        (graph, bereft)
    }

    /// The links of a group, those of each node before those that lead to it from later ones.
    fn links_of(&self, log: &Log<'_>, group: &Group<'_>) -> Links {
        let mut links = Links {
            bottom: Vec::with_capacity(group.nodes.len() * self.params.m0 / 2),
            above: Vec::new(),
            bereft: Vec::new(),
        };
        let mut records = Records::of(group.bytes, &group.head);
        let mut list = List::default();
        for &from in &group.nodes {
            let show = |level: u8, list: &List| {
                for (nth, &link) in list.links.iter().enumerate() {
                    let to = log.node(group.head.by_place, link);
                    let (has_from, has_to) = (from != NONE, to != NONE);
                    if !(has_from && has_to) {
                        links
                            .bereft
                            .extend([from, to].iter().filter(|&&node| node != NONE));
                        continue;
                    }
                    if to == from || level > self.nodes.level(from).min(self.nodes.level(to)) {
                        continue;
                    }
                    let mutual = nth < list.mutual;
                    let link = Link { mutual, from, to };
                    match level {
                        0 => links.bottom.push(link),
                        _ => links.above.push((level, link)),
                    }
                }
            };
            if records.next(show, &mut list).is_none() {
                break;
            }
        }
        links
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

    /// Whether walks lead to what they look for: links that look right and are wrong do not.
    fn finds_itself(&self, graph: &Graph) -> bool {
        let nodes = self.nodes.len();
        let sample: Vec<u32> = (0..SAMPLE)
            .map(|nth| (nth * nodes / SAMPLE) as u32)
            .collect();
        let space = Space::of(&self.nodes);
        let found = map(&sample, |&node| {
            let point = self.nodes.point(node);
            let pools = search_candidates(&self.parts(), graph, point, 0, SAMPLE_EF);
            let pool = pools.into_iter().next().unwrap_or_default();
            // Under inner products longer rows are nearer to a row than it is itself.
            let own = space.near(node, node).key;
            let nearer = || pool.len() == SAMPLE_EF && pool.iter().all(|near| near.key <= own);
            pool.iter().any(|near| near.node == node) || nearer()
        });
        found.into_iter().filter(|&found| found).count() >= SAMPLE_FOUND
    }
}

/// A link that a hint tells of.
#[derive(Clone, Copy)]
struct Link {
    mutual: bool,
    from: u32,
    to: u32,
}

/// The links that a group tells of.
struct Links {
    bottom: Vec<Link>,
    /// Those of the levels above, with their level.
    above: Vec<(u8, Link)>,
    /// Nodes that are linked to what is not there.
    bereft: Vec<u32>,
}

/// The lists of level 0 by worker: each has every so-manyeth block, so that workers share what
/// near nodes bring, and every list has one writer, who adds to it in the order of the log.
struct Lists<'a> {
    m0: usize,
    workers: Vec<Vec<&'a mut [u32]>>,
}

impl<'a> Lists<'a> {
    fn of(blocks: impl Iterator<Item = &'a mut [u32]>, m0: usize) -> Self {
        // A power of two, so that finding a block takes no division.
        let count = 1 << rayon::current_num_threads().max(1).ilog2();
        let mut workers: Vec<Vec<&mut [u32]>> = (0..count).map(|_| Vec::new()).collect();
        for (nth, block) in blocks.enumerate() {
            workers[nth % count].push(block);
        }
        Self { m0, workers }
    }

    fn add(&mut self, read: &[Links]) {
        let (shift, m0) = (self.workers.len().trailing_zeros(), self.m0);
        let workers = self.workers.par_iter_mut().enumerate();
        workers.for_each(|(nth, blocks)| {
            let mut add = |from: u32, to: u32| {
                let (block, place) = (from as usize / BLOCK, from as usize % BLOCK);
                if block & ((1 << shift) - 1) == nth {
                    list::add(&mut blocks[block >> shift][place * m0..][..m0], to);
                }
            };
            for link in read.iter().flat_map(|links| &links.bottom) {
                add(link.from, link.to);
                if link.mutual {
                    add(link.to, link.from);
                }
            }
        });
    }
}

/// A group of the log and, by record, the number that its node has in the log's order; `NONE` for
/// what is not there or was told of before.
struct Group<'a> {
    bytes: &'a [u8],
    head: Head,
    nodes: Vec<u32>,
    levels: Vec<u8>,
}

/// What the groups of a log tell of.
struct Log<'a> {
    groups: Vec<Group<'a>>,
    /// Nodes in the order of their records, and their levels.
    order: Vec<u32>,
    levels: Vec<u8>,
    /// The place in `order` of every node.
    number: Vec<u32>,
    /// The place in `order` of the node of every place.
    places: Vec<u32>,
    by_id: &'a ByRowId,
    records: usize,
    /// Records of rows that are not there.
    gone: usize,
}

impl<'a> Log<'a> {
    fn read(index: &Hnsw, hints: &'a [Vec<u8>], by_id: &'a ByRowId) -> Self {
        let fingerprint = index.hint_fingerprint();
        let nodes = index.nodes.len();
        // A log that is mostly of rows that are gone is of no use, and nobody's word for how long
        // it is.
        let places_max = 4 * nodes as u64;
        let groups: Vec<Option<Group<'_>>> = hints
            .par_iter()
            .map(|bytes| {
                let head = Head::of(bytes).filter(|head| head.fingerprint == fingerprint)?;
                let end = head.first.checked_add(u64::from(head.records))?;
                if head.by_place && end > places_max {
                    return None;
                }
                let mut records = Records::of(bytes, &head);
                let mut list = List::default();
                let records = std::iter::from_fn(|| records.next(|_, _| (), &mut list));
                let known = records.map(|(id, level)| (by_id.get(id), level));
                let (nodes, levels) = known.unzip();
                Some(Group {
                    bytes,
                    head,
                    nodes,
                    levels,
                })
            })
            .collect();
        let mut log = Log {
            groups: groups.into_iter().flatten().collect(),
            order: Vec::with_capacity(nodes),
            levels: Vec::with_capacity(nodes),
            number: vec![NONE; nodes],
            places: Vec::new(),
            by_id,
            records: 0,
            gone: 0,
        };
        for group in &mut log.groups {
            log.records += group.nodes.len();
            for (nth, node) in group.nodes.iter_mut().enumerate() {
                if *node == NONE {
                    log.gone += 1;
                    continue;
                }
                let number = &mut log.number[*node as usize];
                if *number != NONE {
                    *node = NONE;
                    continue;
                }
                *number = log.order.len() as u32;
                log.order.push(*node);
                log.levels.push(group.levels[nth]);
                *node = *number;
                if group.head.by_place {
                    let place = group.head.first as usize + nth;
                    let len = log.places.len().max(place + 1);
                    log.places.resize(len, NONE);
                    log.places[place] = *node;
                }
            }
        }
        log
    }

    /// The place in `order` of the node that a link names.
    fn node(&self, by_place: bool, link: i64) -> u32 {
        let Ok(link) = u64::try_from(link) else {
            return NONE;
        };
        if by_place {
            let place = usize::try_from(link).ok();
            let node = place.and_then(|place| self.places.get(place));
            return node.copied().unwrap_or(NONE);
        }
        match self.by_id.get(RowId::new(link)) {
            NONE => NONE,
            node => self.number[node as usize],
        }
    }
}

/// The node of every row that is the first of its node, by the row's id.
enum ByRowId {
    /// Ids that are near each other: by id less the first.
    Dense {
        first: u64,
        nodes: Vec<u32>,
    },
    Sparse(Vec<(u64, u32)>),
}

impl ByRowId {
    fn of(index: &mut Hnsw) -> Self {
        index.nodes.order_rows(&index.rows);
        let index = &*index;
        let nodes = 0..index.nodes.len() as u32;
        let rows = nodes.map(|node| (index.first_row(node).get(), node));
        let (first, last) = rows.clone().fold((u64::MAX, 0), |(first, last), (id, _)| {
            (first.min(id), last.max(id))
        });
        let span = last.saturating_sub(first);
        if span > 16 * index.nodes.len() as u64 {
            let mut rows: Vec<(u64, u32)> = rows.collect();
            rows.sort_unstable();
            return Self::Sparse(rows);
        }
        let mut nodes = vec![NONE; span as usize + 1];
        for (id, node) in rows {
            nodes[(id - first) as usize] = node;
        }
        Self::Dense { first, nodes }
    }

    fn get(&self, id: RowId) -> u32 {
        let found = match self {
            Self::Dense { first, nodes } => {
                let place = id.get().checked_sub(*first);
                let place = place.and_then(|place| usize::try_from(place).ok());
                place.and_then(|place| nodes.get(place)).copied()
            }
            Self::Sparse(rows) => {
                let found = rows.binary_search_by_key(&id.get(), |row| row.0);
                found.ok().map(|place| rows[place].1)
            }
        };
        found.unwrap_or(NONE)
    }

    /// The nodes in the order of their ids.
    fn nodes(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Self::Dense { nodes, .. } => {
                Box::new(nodes.iter().copied().filter(|&node| node != NONE))
            }
            Self::Sparse(rows) => Box::new(rows.iter().map(|row| row.1)),
        }
    }
}
