//! From candidates to lists: diverse neighbours, and those that chose a row back.

use std::ops::Range;

use rayon::prelude::*;

use super::super::list::Layout;
use super::super::search::{Near, Rank};
use super::super::select::Selector;
use super::candidates::{Candidates, ROWS};
use super::corpus::Corpus;
use super::pool::Pool;
use crate::pool;

/// Lists of positions, `ROWS` rows a piece: each its length followed by its links.
pub(in super::super) struct Lists {
    stride: usize,
    pieces: Vec<Vec<u32>>,
}

impl Lists {
    /// The lists of the nodes `ids`, which also say which node is at which position.
    pub(in super::super) fn for_each(&self, ids: &[u32], mut take: impl FnMut(u32, &[u32])) {
        let pieces = self.pieces.iter();
        let lists = pieces.flat_map(|piece| piece.chunks_exact(self.stride));
        let mut links = Vec::new();
        for (list, &node) in lists.zip(ids) {
            take(node, named(list, ids, &mut links));
        }
    }

    /// As `for_each`, on all threads, into `rows`, where every node has a list; `ids` ascend.
    /// Memory goes as lists are read.
    pub(in super::super) fn fill(self, ids: &[u32], rows: &mut [u8], layout: Layout) {
        let bytes = layout.bytes();
        let stride = self.stride;
        let mut work = Vec::with_capacity(self.pieces.len());
        let (mut rest, mut begin) = (rows, 0);
        for (piece, own) in self.pieces.into_iter().zip(ids.chunks(ROWS)) {
            let end = own.last().map_or(begin, |&last| last as usize + 1);
            let (rows, behind) = rest.split_at_mut((end - begin) * bytes);
            work.push((piece, own, begin, rows));
            (rest, begin) = (behind, end);
        }
        work.into_par_iter().for_each(|(piece, own, begin, rows)| {
            let mut links = Vec::new();
            for (list, &node) in piece.chunks_exact(stride).zip(own) {
                let row = &mut rows[(node as usize - begin) * bytes..][..bytes];
                layout.write(row, named(list, ids, &mut links));
            }
        });
    }

    fn of(&self, row: usize) -> &[u32] {
        let start = row % ROWS * self.stride;
        let list = &self.pieces[row / ROWS][start..start + self.stride];
        &list[1..=list[0] as usize]
    }
}

/// The neighbours of every row, at most `capacity`. `above` tells those of a row on the level
/// above.
pub(super) fn choose(
    corpus: &Corpus<'_>,
    lift: f32,
    capacity: usize,
    candidates: Candidates,
    above: &(dyn Fn(u32) -> Vec<u32> + Sync),
) -> Lists {
    let stride = capacity + 1;
    let pieces = candidates.pieces.into_par_iter().enumerate();
    let pieces = pieces.map(|(number, piece)| {
        let mut lists = vec![0; piece.rows() * stride];
        let mut pool = Pool::default();
        let mut nears = Vec::new();
        let mut selector = Selector::new(corpus.geometry, lift);
        for (row, list) in lists.chunks_exact_mut(stride).enumerate() {
            let position = (number * ROWS + row) as u32;
            nears.clear();
            nears.extend(piece.of(row).map(Rank::near));
            corpus.prefetch(nears.iter().map(|near| near.node));
            let mut more = above(position);
            more.extend(piece.angular(row));
            more.sort_unstable();
            more.dedup();
            more.retain(|&node| nears.iter().all(|near| near.node != node));
            if !more.is_empty() {
                nears.extend(more.into_iter().map(|node| corpus.near(position, node)));
                nears.sort_unstable_by(Near::order);
            }
            pool.fill(corpus, nears.iter().map(|near| near.node), capacity);
            for (place, near) in nears.iter_mut().enumerate() {
                near.node = place as u32;
            }
            let row = corpus.point(position);
            let taken = selector.select(&pool, row, &nears, capacity);
            write(list, &pool, taken);
        }
        lists
    });
    let forward = Lists {
        stride,
        pieces: pieces.collect(),
    };
    let reverse = Reverse::of(&forward, corpus.len());
    let pieces = forward.pieces.into_par_iter().enumerate();
    let pieces = pieces.map(|(number, mut lists)| {
        let mut merger = Merger::new(corpus, lift);
        for (row, list) in lists.chunks_exact_mut(stride).enumerate() {
            let row = number * ROWS + row;
            merger.merge(list, row as u32, reverse.to(row));
        }
        lists
    });
    Lists {
        stride,
        pieces: pieces.collect(),
    }
}

/// Brings the neighbours of a row and those that chose it together, reusing its buffers.
struct Merger<'a> {
    corpus: &'a Corpus<'a>,
    selector: Selector,
    pool: Pool<'a>,
    links: Vec<u32>,
    nears: Vec<Near>,
}

impl<'a> Merger<'a> {
    fn new(corpus: &'a Corpus<'a>, lift: f32) -> Self {
        Self {
            corpus,
            selector: Selector::new(corpus.geometry, lift),
            pool: Pool::default(),
            links: Vec::new(),
            nears: Vec::new(),
        }
    }

    /// Adds those that chose a row to its list, and chooses again where they are too many.
    fn merge(&mut self, list: &mut [u32], row: u32, choosers: &[u32]) {
        let Self {
            corpus,
            selector,
            pool,
            links,
            nears,
        } = self;
        let (capacity, own) = (list.len() - 1, list[0] as usize);
        links.clear();
        links.extend(&list[1..=own]);
        let fresh = choosers.iter().filter(|from| !list[1..=own].contains(from));
        links.extend(fresh);
        if links.len() <= capacity {
            list[0] = links.len() as u32;
            list[1..=links.len()].copy_from_slice(links);
            return;
        }
        corpus.prefetch(links.iter().copied());
        // By position, so that among equals the order of places is that of positions.
        links.sort_unstable();
        pool.fill(corpus, links.iter().copied().chain([row]), capacity);
        let last = links.len() as u32;
        nears.clear();
        nears.extend((0..last).map(|place| pool.near(corpus, last, place)));
        nears.sort_unstable_by(Near::order);
        let taken = selector.select_again(&*pool, corpus.point(row), nears, capacity);
        write(list, pool, taken);
    }
}

fn write(list: &mut [u32], pool: &Pool<'_>, taken: &[Near]) {
    list[0] = taken.len() as u32;
    for (link, near) in list[1..].iter_mut().zip(taken) {
        *link = pool.position(near.node);
    }
}

/// The links of a list, as the nodes that are at these positions.
fn named<'a>(list: &[u32], ids: &[u32], links: &'a mut Vec<u32>) -> &'a [u32] {
    links.clear();
    let positions = list[1..=list[0] as usize].iter();
    links.extend(positions.map(|&position| ids[position as usize]));
    links
}

/// Most shares: each costs two looks at all lists.
const SHARES_MAX: usize = 32;

/// Who chose a row, in ascending order.
struct Reverse {
    shares: Vec<Share>,
    /// Rows of a share.
    rows: usize,
}

/// Who chose the rows of a share.
struct Share {
    starts: Vec<usize>,
    from: Vec<u32>,
}

impl Reverse {
    /// For every share all lists are looked at, to keep what is about its rows: one more look at a
    /// list costs less than writing together.
    fn of(lists: &Lists, rows: usize) -> Self {
        let share = rows.div_ceil(pool::threads().min(SHARES_MAX)).max(1);
        let firsts: Vec<usize> = (0..rows).step_by(share).collect();
        let shares = firsts.into_par_iter();
        let shares = shares.map(|first| Share::of(lists, rows, first..rows.min(first + share)));
        Self {
            shares: shares.collect(),
            rows: share,
        }
    }

    fn to(&self, row: usize) -> &[u32] {
        let (share, row) = (&self.shares[row / self.rows], row % self.rows);
        &share.from[share.starts[row]..share.starts[row + 1]]
    }
}

impl Share {
    fn of(lists: &Lists, rows: usize, own: Range<usize>) -> Self {
        let place = |link: u32| {
            let place = (link as usize).wrapping_sub(own.start);
            (place < own.len()).then_some(place)
        };
        let mut starts = vec![0; own.len() + 1];
        for row in 0..rows {
            for place in lists.of(row).iter().filter_map(|&link| place(link)) {
                starts[place + 1] += 1;
            }
        }
        for row in 0..own.len() {
            starts[row + 1] += starts[row];
        }
        let mut from = vec![0; starts[own.len()]];
        for row in 0..rows {
            for place in lists.of(row).iter().filter_map(|&link| place(link)) {
                from[starts[place]] = row as u32;
                starts[place] += 1;
            }
        }
        // Each start is now where the next row's begins.
        starts.copy_within(0..own.len(), 1);
        starts[0] = 0;
        Self { starts, from }
    }
}
