//! From candidates to lists: diverse neighbours, and those that chose a row back.

use rayon::prelude::*;

use super::super::search::Near;
use super::super::select::{Points, Selector};
use super::candidates::{Candidates, ROWS};
use super::corpus::Corpus;

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
        let mut pool = Vec::new();
        let mut selector = Selector::new(corpus.geometry, lift);
        for (row, list) in lists.chunks_exact_mut(stride).enumerate() {
            let position = (number * ROWS + row) as u32;
            pool.clear();
            pool.extend(piece.of(row).iter().map(|rank| rank.near()));
            corpus.prefetch(pool.iter().map(|near| near.node));
            let mut more = above(position);
            more.extend(piece.angular(row));
            more.sort_unstable();
            more.dedup();
            more.retain(|&node| pool.iter().all(|near| near.node != node));
            pool.extend(more.into_iter().map(|node| corpus.near(position, node)));
            pool.sort_unstable_by(Near::order);
            let row = corpus.point(position);
            write(list, selector.select(corpus, row, &pool, capacity));
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
        let mut selector = Selector::new(corpus.geometry, lift);
        for (row, list) in lists.chunks_exact_mut(stride).enumerate() {
            let row = number * ROWS + row;
            merge(corpus, &mut selector, list, row as u32, reverse.to(row));
        }
        lists
    });
    Lists {
        stride,
        pieces: pieces.collect(),
    }
}

/// Adds those that chose a row to its list, and chooses again where they are too many.
fn merge(
    corpus: &Corpus<'_>,
    selector: &mut Selector,
    list: &mut [u32],
    row: u32,
    choosers: &[u32],
) {
    let (capacity, own) = (list.len() - 1, list[0] as usize);
    let mut links = list[1..=own].to_vec();
    let fresh = choosers.iter().filter(|from| !list[1..=own].contains(from));
    links.extend(fresh);
    if links.len() <= capacity {
        list[0] = links.len() as u32;
        list[1..=links.len()].copy_from_slice(&links);
        return;
    }
    corpus.prefetch(links.iter().copied());
    let nears = links.iter().map(|&link| corpus.near(row, link));
    let mut pool: Vec<Near> = nears.collect();
    pool.sort_unstable_by(Near::order);
    let row = corpus.point(row);
    write(list, selector.select_again(corpus, row, &pool, capacity));
}

fn write(list: &mut [u32], taken: &[Near]) {
    list[0] = taken.len() as u32;
    for (link, near) in list[1..].iter_mut().zip(taken) {
        *link = near.node;
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
