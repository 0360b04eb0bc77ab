//! From candidates to lists: diverse neighbours, and those that chose a row back.

use rayon::prelude::*;

use super::super::search::Near;
use super::super::select::Selector;
use super::candidates::{Candidates, ROWS};
use super::corpus::Corpus;
use super::pool::Pool;

/// Lists of positions, `ROWS` rows a piece: each its length followed by its links.
pub(in super::super) struct Lists {
    stride: usize,
    pieces: Vec<Vec<u32>>,
}

impl Lists {
    /// The lists in the order of positions, whose memory goes as they are read.
    pub(in super::super) fn for_each(self, mut take: impl FnMut(&[u32])) {
        for piece in self.pieces {
            for list in piece.chunks_exact(self.stride) {
                take(&list[1..=list[0] as usize]);
            }
        }
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
            nears.extend(piece.of(row).iter().map(|rank| rank.near()));
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

/// Who chose a row, in ascending order.
struct Reverse {
    starts: Vec<usize>,
    from: Vec<u32>,
}

impl Reverse {
    fn of(lists: &Lists, rows: usize) -> Self {
        let mut starts = vec![0; rows + 1];
        for row in 0..rows {
            for &link in lists.of(row) {
                starts[link as usize + 1] += 1;
            }
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut from = vec![0; starts[rows]];
        for row in 0..rows {
            for &link in lists.of(row) {
                let place = &mut starts[link as usize];
                from[*place] = row as u32;
                *place += 1;
            }
        }
        // Each start is now where the next row's begins.
        starts.copy_within(0..rows, 1);
        starts[0] = 0;
        Self { starts, from }
    }

    fn to(&self, row: usize) -> &[u32] {
        &self.from[self.starts[row]..self.starts[row + 1]]
    }
}
