//! A whole graph at once, from leaves: all pairs of near rows, and no searches.
//!
//! After PiPNN (arXiv 2602.21247). Per level, from the highest down:
//!
//! 1. `partition`: every row goes to its few nearest of up to a thousand leaders, and again within
//!    what has come together, until groups are leaves of some hundred rows.
//! 2. `nearest`: a leaf is multiplied with itself on the 8-bit codes, and each row keeps its
//!    nearest mates, of which these hear as well.
//! 3. `candidates`: the nearest of what all leaves found for a row are kept, in bounded memory,
//!    by (key, position).
//! 4. `links`: one pruning by the diversity rule, in which a row's neighbours on the level above
//!    take part; reverse links; a second pruning where a list has become too long.
//!
//! A level of few rows above level 0 takes a shorter way to its candidates: all pairs are compared.
//!
//! Nothing depends on threads or time: work is cut at fixed places and put together in order.

mod candidates;
mod corpus;
mod effort;
mod links;
mod nearest;
mod order;
mod partition;
mod pool;

use rayon::prelude::*;

use self::candidates::{Candidates, Finds, Found};
use self::corpus::{Columns, Corpus, Measure};
use self::effort::{Effort, ROWS_PER_LEADER};
pub(super) use self::links::Lists;
use self::nearest::{Mates, Picks};
use super::graph::{EntryPoint, Graph};
use super::search::Near;
use super::{Parts, repair};
use crate::error::IndexError;

/// One round of leaves looks at this share of the rows, counting a row as often as it is in a
/// leaf: what they find waits in memory until the round ends.
const ROUND_SHARE: usize = 16;
const ROUND_MIN: usize = 1 << 17;

/// Rows that are compared with all others as one piece of parallel work.
const COMPARED_TOGETHER: usize = 32;

/// Links every live node. `progress(done, total)` returning `false` cancels.
pub(super) fn build(
    parts: &Parts<'_>,
    progress: &(dyn Fn(usize, usize) -> bool + Sync),
) -> Result<Graph, IndexError> {
    let levels = levels(parts);
    let lift = parts.nodes.lift();
    let total = parts.nodes.live();
    let mut graph = Graph::new(parts.params);
    for (level, ids) in (0..levels.len() as u8).zip(&levels).rev() {
        let corpus = Corpus::new(&parts.nodes.codes, ids);
        let effort = Effort::new(parts.params, level, ids.len(), corpus.is_angular());
        // The levels above are about a tenth of the work; half of the rest is finding candidates.
        let report = |done: usize| progress(if level == 0 { done / 2 } else { 0 }, total);
        let seed = parts.params.seed ^ u64::from(level) << 32;
        let candidates = find(&corpus, &effort, seed, &report)?;
        if !report(ids.len()) {
            return Err(IndexError::Cancelled);
        }
        let above = |position: u32| {
            let links = graph.links(level + 1, corpus.id(position)).iter();
            links.filter_map(|id| corpus.position(id)).collect()
        };
        let lists = links::choose(&corpus, lift, graph.capacity(level), candidates, &above);
        graph.fill(level, ids, parts.nodes.len(), lists);
    }
    let top = (levels.len() as u8).checked_sub(1);
    graph.begin_at(top.map(|level| EntryPoint {
        node: levels[usize::from(level)][0],
        level,
    }));
    let edits = repair::reconnect(parts, &graph);
    graph.apply(edits);
    if !progress(total, total) {
        return Err(IndexError::Cancelled);
    }
    Ok(graph)
}

/// `ids` in an order in which near ones stand together.
pub(super) fn arrange(parts: &Parts<'_>, ids: &[u32]) -> Vec<u32> {
    let corpus = Corpus::new(&parts.nodes.codes, ids);
    let all: Vec<u32> = (0..ids.len() as u32).collect();
    let mut order = Vec::with_capacity(ids.len());
    order::arrange(&corpus, &all, 0, parts.params.seed, &mut order);
    order
        .iter_mut()
        .for_each(|place| *place = corpus.id(*place));
    order
}

/// The live nodes of every level, in ascending order.
fn levels(parts: &Parts<'_>) -> Vec<Vec<u32>> {
    let mut levels = Vec::new();
    let mut ids: Vec<u32> = parts.nodes.live_nodes().collect();
    while !ids.is_empty() {
        let level = levels.len() as u8 + 1;
        let is_above = |&id: &u32| parts.nodes.level(id) >= level;
        let above = ids.iter().copied().filter(is_above).collect();
        levels.push(std::mem::replace(&mut ids, above));
    }
    levels
}

/// The candidates of every row: from leaves, or from all pairs where rows are few.
fn find(
    corpus: &Corpus<'_>,
    effort: &Effort,
    seed: u64,
    report: &(dyn Fn(usize) -> bool + Sync),
) -> Result<Candidates, IndexError> {
    let rows = corpus.len();
    let all: Vec<u32> = (0..rows as u32).collect();
    let angular = corpus.is_angular();
    let mut measures = vec![(corpus.measure(), false)];
    if angular {
        measures.push((corpus.grouping(), true));
    }
    let candidates = || Candidates::new(corpus.geometry.kernels(), rows, effort.room, angular);
    if rows <= effort.compared_max {
        let mut candidates = candidates();
        for (measure, angular) in measures {
            if !report(0) {
                return Err(IndexError::Cancelled);
            }
            candidates.take(&compare(corpus, effort, measure, &all), angular);
        }
        return Ok(candidates);
    }
    let groups = if rows > effort.leaf_max {
        let leaders = partition::draw(&all, partition::leaders_for(rows, ROWS_PER_LEADER), seed);
        partition::divide(corpus, &leaders, &all, effort.fanouts[0])
    } else {
        vec![all]
    };
    // Not before: dividing needs memory of its own.
    let mut candidates = candidates();
    let memberships: usize = groups.iter().map(Vec::len).sum();
    let mut groups = (1u64..).zip(groups).peekable();
    let mut done = 0;
    while groups.peek().is_some() {
        if !report((rows as u128 * done as u128 / memberships as u128) as usize) {
            return Err(IndexError::Cancelled);
        }
        let mut round = Vec::new();
        let start = done;
        while done - start < ROUND_MIN.max(rows / ROUND_SHARE)
            && let Some(group) = groups.next()
        {
            done += group.1.len();
            round.push(group);
        }
        let divided = round.into_par_iter().map(|(nth, group)| {
            let mut leaves = Vec::new();
            partition::leaves(corpus, effort, group, 1, seed ^ nth << 8, &mut leaves);
            leaves
        });
        let leaves: Vec<Vec<u32>> = divided.flatten_iter().collect();
        for (measure, angular) in &measures {
            let bound = |row: u32| candidates.bound(row, *angular);
            let finds = search(corpus, effort, *measure, &leaves, &bound);
            candidates.take(&finds, *angular);
        }
    }
    Ok(candidates)
}

/// The nearest of all rows for each of them.
fn compare(corpus: &Corpus<'_>, effort: &Effort, measure: Measure, all: &[u32]) -> Vec<Finds> {
    let mut columns = Columns::default();
    corpus.prefetch(all.iter().copied());
    columns.pack(corpus, measure, all);
    let kernels = corpus.geometry.kernels();
    let chunks = all.par_chunks(COMPARED_TOGETHER);
    let finds = chunks.map_init(
        || (columns.fork(), Picks::new(kernels, effort.room + 1)),
        |(columns, picks), rows| {
            let mut found = Vec::with_capacity(rows.len() * effort.room);
            columns.compare(corpus, measure, rows, |nth, keys| {
                let row = rows[nth];
                // One more than there is room for: a row finds itself.
                let nears = picks.nearest(keys).filter(|near| near.node != row);
                found.extend(nears.map(|near| Found { row, near }));
            });
            Finds::new(&found, all.len())
        },
    );
    finds.collect()
}

/// What some leaves find for rows that look for mates nearer than `bound`: the farthest candidate
/// that a row has room for, as the round began.
fn search(
    corpus: &Corpus<'_>,
    effort: &Effort,
    measure: Measure,
    leaves: &[Vec<u32>],
    bound: &(dyn Fn(u32) -> f32 + Sync),
) -> Vec<Finds> {
    let batches = leaves.par_chunks(effort.leaves);
    let finds = batches.map_init(
        || Leaf::new(corpus),
        |leaf, leaves| {
            leaf.found.clear();
            for members in leaves {
                leaf.search(corpus, effort, measure, members, bound);
            }
            Finds::new(&leaf.found, corpus.len())
        },
    );
    finds.collect()
}

/// The buffers of one worker on leaves.
struct Leaf {
    columns: Columns,
    mates: Mates,
    found: Vec<Found>,
}

impl Leaf {
    fn new(corpus: &Corpus<'_>) -> Self {
        Self {
            columns: Columns::default(),
            mates: Mates::new(corpus.geometry.kernels()),
            found: Vec::new(),
        }
    }

    /// Finds each member's nearest mates, and tells both of them.
    fn search(
        &mut self,
        corpus: &Corpus<'_>,
        effort: &Effort,
        measure: Measure,
        members: &[u32],
        bound: &(dyn Fn(u32) -> f32 + Sync),
    ) {
        let Self {
            columns,
            mates,
            found,
        } = self;
        corpus.prefetch(members.iter().copied());
        columns.pack(corpus, measure, members);
        mates.begin(effort.mates, members.iter().map(|&member| bound(member)));
        columns.compare_pairs(corpus, measure, members, |row, keys| mates.offer(row, keys));
        for (row, &member) in members.iter().enumerate() {
            for pick in mates.of(row) {
                let (mate, key) = (members[pick.node as usize], pick.key);
                let mut push = |row, node| {
                    let near = Near { key, node };
                    found.push(Found { row, near });
                };
                push(member, mate);
                if mates.is_news(pick.node as usize, row, key) {
                    push(mate, member);
                }
            }
        }
    }
}
