//! Insertion, Algorithms 1 and 4 of Malkov and Yashunin: find candidates, then link a batch.
//!
//! Nothing here changes a graph. A batch of new nodes, and of old ones that are linked anew, is
//! linked in four steps: each takes the others among its candidates and selects its neighbours;
//! their reverse links are grouped by target; each target's new list is worked out; a guard keeps
//! every node's last in-link. The steps run on the caller's pool and depend on nothing but the graph
//! and the batch.

use std::collections::HashMap;

use super::super::codes::{Codes, Point};
use super::Parts;
use super::descent::Descent;
use super::graph::{Edits, EntryPoint, Graph, ListEdit};
use super::nodes::{DEAD, Nodes};
use super::search::{Near, Scorer, Walk};
use super::select::{Points, Selector};
use crate::pool::map;
use crate::schema::HnswParams;

/// Candidates for a new node's neighbours, by level.
pub(super) type Pools = Vec<Vec<Near>>;

/// A node about to be linked: its list on each of its levels will be a new one.
pub(super) struct Newcomer {
    pub(super) node: u32,
    pub(super) level: u8,
    pub(super) pools: Pools,
}

/// Existing nodes and, numbered behind them, those of a batch that are in no index yet.
pub(super) struct Space<'a> {
    nodes: &'a Nodes,
    batch: Option<&'a Codes>,
    /// Number of the first node of the batch.
    base: u32,
    /// Dead nodes that rows of the batch bring back to life, in ascending order.
    revived: &'a [u32],
    /// See [`Nodes::lift`], with the batch's codes counted in.
    lift: f32,
}

impl<'a> Space<'a> {
    /// Existing nodes alone.
    pub(super) fn of(nodes: &'a Nodes) -> Self {
        Self {
            nodes,
            batch: None,
            base: u32::MAX,
            revived: &[],
            lift: nodes.lift(),
        }
    }

    /// Existing nodes, some of them brought back to life, and a batch.
    pub(super) fn with(nodes: &'a Nodes, batch: &'a Codes, revived: &'a [u32]) -> Self {
        Self {
            nodes,
            batch: Some(batch),
            base: nodes.len() as u32,
            revived,
            lift: (0..batch.len() as u32)
                .map(|code| nodes.lift_of(batch.point(code)))
                .fold(nodes.lift(), f32::max),
        }
    }

    pub(super) fn selector(&self) -> Selector {
        Selector::new(self.nodes.codes.geometry, self.lift)
    }

    #[inline]
    pub(super) fn point(&self, node: u32) -> Point<'a> {
        match (self.batch, node.checked_sub(self.base)) {
            (Some(batch), Some(place)) => batch.point(place),
            _ => self.nodes.point(node),
        }
    }

    #[inline]
    fn between(&self, a: u32, b: u32) -> f32 {
        let geometry = &self.nodes.codes.geometry;
        geometry.between(self.point(a), self.point(b))
    }

    pub(super) fn near(&self, from: u32, node: u32) -> Near {
        Near {
            key: self.between(node, from),
            node,
        }
    }

    fn is_dead(&self, node: u32) -> bool {
        node < self.base && self.nodes.is(node, DEAD) && self.revived.binary_search(&node).is_err()
    }
}

impl<'a> Points<'a> for Space<'a> {
    #[inline]
    fn point(&self, node: u32) -> Point<'a> {
        Space::point(self, node)
    }
}

/// The search part of Algorithm 1: candidates on every level from `level` down.
pub(super) fn candidates(
    graph: &Graph,
    scorer: &Scorer<'_>,
    level: u8,
    ef: usize,
    walk: &mut Walk,
) -> Pools {
    let Some(entry) = graph.entry() else {
        return Vec::new();
    };
    let top = level.min(entry.level);
    let descent = Descent::walk(graph, entry, top, ef, scorer);
    let mut entries = descent.nodes().to_vec();
    let mut pools = vec![Vec::new(); usize::from(top) + 1];
    for level in (0..=top).rev() {
        walk.search_layer(graph, level, &entries, ef, usize::MAX, scorer);
        let pool: Vec<Near> = walk.found().collect();
        if !pool.is_empty() {
            entries = pool.iter().map(|near| near.node).collect();
        }
        pools[usize::from(level)] = pool;
    }
    pools
}

/// Works out every list that changes when `newcomers`, in ascending order, enter the graph.
pub(super) fn link(
    space: &Space<'_>,
    graph: &Graph,
    params: &HnswParams,
    newcomers: &[Newcomer],
) -> Edits {
    let indexes: Vec<usize> = (0..newcomers.len()).collect();
    let forward = map(&indexes, |&index| {
        forward_lists(space, params, newcomers, index)
    });
    let forward: HashMap<(u8, u32), Vec<u32>> = forward.into_iter().flatten().collect();
    let links = forward
        .iter()
        .flat_map(|(&(level, from), links)| links.iter().map(move |&node| (level, node, from)));
    let own = forward.keys().copied();
    let lists = arrive(space, graph, &forward, group(links.collect(), own));
    Edits {
        lists,
        entry: highest(graph.entry(), newcomers),
    }
}

/// Works out the lists in which nodes whose own lists are good, and which few lists hold, are taken
/// up: those of `most` of their neighbours, the nearest, and where there is room before others.
pub(super) fn link_back(space: &Space<'_>, graph: &Graph, nodes: &[u32], most: usize) -> Edits {
    let hosts = map(nodes, |&node| {
        let strangers = graph.links(0, node).iter().filter_map(|link| {
            let list = graph.links(0, link);
            let is_full = list.len() >= graph.capacity(0);
            (!list.contains(node)).then(|| (is_full, space.near(node, link)))
        });
        let mut hosts: Vec<(bool, Near)> = strangers.collect();
        hosts.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.order(&b.1)));
        hosts.truncate(most);
        hosts
    });
    let links = nodes.iter().zip(&hosts).flat_map(|(&node, hosts)| {
        let hosts = hosts.iter().map(|(_, host)| host.node);
        hosts.map(move |host| (0, host, node))
    });
    let incoming = group(links.collect(), std::iter::empty());
    Edits {
        lists: arrive(space, graph, &HashMap::new(), incoming),
        entry: None,
    }
}

/// The neighbours that a newcomer selects on each of its levels.
fn forward_lists(
    space: &Space<'_>,
    params: &HnswParams,
    newcomers: &[Newcomer],
    index: usize,
) -> Vec<((u8, u32), Vec<u32>)> {
    let new = &newcomers[index];
    let mut mates: Vec<(u8, Near)> = Vec::with_capacity(newcomers.len());
    for mate in newcomers.iter().filter(|mate| mate.node != new.node) {
        mates.push((mate.level, space.near(new.node, mate.node)));
    }
    let select = |level: u8| {
        let pool = new.pools.get(usize::from(level));
        // Old nodes among the mates are not taken twice.
        let is_mate = |node: u32| {
            newcomers
                .binary_search_by_key(&node, |new| new.node)
                .is_ok()
        };
        let stays = |near: &Near| !space.is_dead(near.node) && !is_mate(near.node);
        let pool = pool.into_iter().flatten().copied().filter(stays);
        let mates = mates.iter().filter(|(top, _)| *top >= level);
        let mut pool: Vec<Near> = pool.chain(mates.map(|(_, near)| *near)).collect();
        pool.sort_unstable_by(Near::order);
        pool.truncate(params.ef_construction.max(params.m));
        let most = if level == 0 { params.m0 } else { params.m };
        let mut selector = space.selector();
        let taken = selector.select(space, space.point(new.node), &pool, most);
        let links = taken.iter().map(|near| near.node).collect();
        ((level, new.node), links)
    };
    (0..=new.level).map(select).collect()
}

/// Newcomers that chose `node` on `level`, in ascending order.
struct Arrivals {
    level: u8,
    node: u32,
    from: Vec<u32>,
}

/// Links as level, node and newcomer, by the node that they lead to; `own` are lists, by level and
/// node, that change without any arrival as well.
fn group(links: Vec<(u8, u32, u32)>, own: impl Iterator<Item = (u8, u32)>) -> Vec<Arrivals> {
    let links = links
        .into_iter()
        .map(|(level, node, from)| (level, node, Some(from)));
    let mut links: Vec<(u8, u32, Option<u32>)> = links
        .chain(own.map(|(level, node)| (level, node, None)))
        .collect();
    links.sort_unstable();
    let groups = links.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1));
    let arrivals = groups.map(|group| Arrivals {
        level: group[0].0,
        node: group[0].1,
        from: group.iter().filter_map(|link| link.2).collect(),
    });
    arrivals.collect()
}

/// The lists at which newcomers arrive, in the order of `incoming`, with those that they keep.
fn arrive(
    space: &Space<'_>,
    graph: &Graph,
    forward: &HashMap<(u8, u32), Vec<u32>>,
    incoming: Vec<Arrivals>,
) -> Vec<ListEdit> {
    let mut lists = map(&incoming, |arrivals| merge(space, graph, forward, arrivals));
    keep_last_in_links(space, graph, &mut lists);
    lists.into_iter().map(Merged::into_edit).collect()
}

/// A list after its arrivals, and what it let go of for them.
struct Merged {
    level: u8,
    node: u32,
    links: Vec<u32>,
    dropped: Vec<u32>,
}

impl Merged {
    fn into_edit(self) -> ListEdit {
        ListEdit {
            level: self.level,
            node: self.node,
            links: self.links,
        }
    }
}

fn merge(
    space: &Space<'_>,
    graph: &Graph,
    forward: &HashMap<(u8, u32), Vec<u32>>,
    arrivals: &Arrivals,
) -> Merged {
    let &Arrivals { level, node, .. } = arrivals;
    let before = graph.links(level, node).to_vec();
    let (mut links, replaced) = match forward.get(&(level, node)) {
        Some(own) => (own.clone(), before),
        None => (before, Vec::new()),
    };
    let fresh: Vec<u32> = arrivals
        .from
        .iter()
        .copied()
        .filter(|from| !links.contains(from))
        .collect();
    links.extend(fresh);
    let mut dropped = replaced;
    dropped.retain(|link| !links.contains(link));
    let capacity = graph.capacity(level);
    if links.len() > capacity {
        let nears = links.iter().map(|&link| space.near(node, link));
        let mut pool: Vec<Near> = nears.collect();
        pool.sort_unstable_by(Near::order);
        drop_dead(space, &mut pool, capacity);
        let kept = shrink(space, node, &pool, capacity);
        dropped.extend(links.iter().filter(|link| !kept.contains(link)));
        links = kept;
    }
    Merged {
        level,
        node,
        links,
        dropped,
    }
}

/// Takes dead nodes out until `capacity` are left, the farthest first and no more than must: they
/// lead walks on until a sweep puts their heirs in their place.
fn drop_dead(space: &Space<'_>, pool: &mut Vec<Near>, capacity: usize) {
    let mut excess = pool.len().saturating_sub(capacity);
    for place in (0..pool.len()).rev() {
        if excess > 0 && space.is_dead(pool[place].node) {
            pool.remove(place);
            excess -= 1;
        }
    }
}

/// The links that stay, nearest first: all if they fit, else by Algorithm 4.
fn shrink(space: &Space<'_>, node: u32, pool: &[Near], capacity: usize) -> Vec<u32> {
    if pool.len() <= capacity {
        return pool.iter().map(|near| near.node).collect();
    }
    let mut selector = space.selector();
    let taken = selector.select_again(space, space.point(node), pool, capacity);
    taken.iter().map(|near| near.node).collect()
}

/// Takes back a dropped link that was its live target's last: where there is room, or else in place of
/// the last link whose target has others, which is the farthest where a list was chosen again.
fn keep_last_in_links(space: &Space<'_>, graph: &Graph, lists: &mut [Merged]) {
    let lists: Vec<&mut Merged> = lists.iter_mut().filter(|list| list.level == 0).collect();
    let mut gained: HashMap<u32, i64> = HashMap::new();
    for list in &lists {
        let before = graph.links(0, list.node).to_vec();
        for link in list.links.iter().filter(|link| !before.contains(link)) {
            *gained.entry(*link).or_default() += 1;
        }
        for link in list.dropped.iter().filter(|link| before.contains(link)) {
            *gained.entry(*link).or_default() -= 1;
        }
    }
    for list in lists {
        for &lost in &list.dropped {
            let degree = |gained: &HashMap<u32, i64>, node: u32| {
                i64::from(graph.in_degree(node)) + gained.get(&node).copied().unwrap_or(0)
            };
            if space.is_dead(lost) || degree(&gained, lost) > 0 {
                continue;
            }
            if list.links.len() < graph.capacity(0) {
                *gained.entry(lost).or_default() += 1;
                list.links.push(lost);
                continue;
            }
            let spare = list
                .links
                .iter()
                .rposition(|&link| degree(&gained, link) > 1);
            if let Some(place) = spare {
                *gained.entry(list.links[place]).or_default() -= 1;
                *gained.entry(lost).or_default() += 1;
                list.links[place] = lost;
            }
        }
    }
}

/// The entry point once `newcomers` are in, if one of them is above all others.
fn highest(entry: Option<EntryPoint>, newcomers: &[Newcomer]) -> Option<EntryPoint> {
    let mut best = entry;
    for new in newcomers {
        if best.is_none_or(|best| new.level > best.level) {
            best = Some(EntryPoint {
                node: new.node,
                level: new.level,
            });
        }
    }
    best.filter(|_| best != entry)
}

/// What a walk for a new row's neighbours needs: it walks over nodes that are hidden as yet.
pub(super) fn find_candidates(
    parts: &Parts<'_>,
    graph: &Graph,
    point: Point<'_>,
    level: u8,
) -> Pools {
    search_candidates(parts, graph, point, level, parts.params.ef_construction)
}

/// As `find_candidates`, with a pool of this size.
pub(super) fn search_candidates(
    parts: &Parts<'_>,
    graph: &Graph,
    point: Point<'_>,
    level: u8,
    ef: usize,
) -> Pools {
    parts.scratches.lend(|scratch| {
        scratch.probe.aim(point);
        let scorer = Scorer {
            nodes: parts.nodes,
            probe: &scratch.probe,
            skip: parts.nodes.marks(DEAD),
        };
        candidates(graph, &scorer, level, ef, &mut scratch.walk)
    })
}
