//! The nearest candidates of every row, kept as leaves find them, in bounded memory.

use rayon::prelude::*;

use super::super::search::{Near, Rank};
use crate::kernel::{Kernels, RANKS, RankLine, prefetch};

/// Rows whose candidates are kept by one worker at a time: their lists stay in its cache.
pub(super) const ROWS: usize = 4_096;

/// How many candidates ahead lists are asked for.
const AHEAD: usize = 6;

/// A candidate found for a row.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) row: u32,
    pub(super) near: Near,
}

/// What some leaves found, by pieces of `ROWS` rows.
pub(super) struct Finds {
    finds: Vec<Found>,
    starts: Vec<u32>,
}

impl Finds {
    /// Sorts by piece, in the order found within each.
    pub(super) fn new(found: &[Found], rows: usize) -> Self {
        let pieces = rows.div_ceil(ROWS);
        let mut starts = vec![0u32; pieces + 1];
        for find in found {
            starts[find.row as usize / ROWS + 1] += 1;
        }
        for piece in 0..pieces {
            starts[piece + 1] += starts[piece];
        }
        let mut next = starts.clone();
        let mut finds = match found.first() {
            Some(&any) => vec![any; found.len()],
            None => Vec::new(),
        };
        for find in found {
            let place = &mut next[find.row as usize / ROWS];
            finds[*place as usize] = *find;
            *place += 1;
        }
        Self { finds, starts }
    }

    fn piece(&self, piece: usize) -> &[Found] {
        &self.finds[self.starts[piece] as usize..self.starts[piece + 1] as usize]
    }
}

/// The candidates of `ROWS` rows.
pub(super) struct Piece {
    nearest: Ranked,
    /// The nearest by Euclidean distance, where that is not what keys order by.
    angular: Option<Ranked>,
}

impl Piece {
    fn new(kernels: &'static Kernels, rows: usize, room: usize, angular: bool) -> Self {
        Self {
            nearest: Ranked::new(kernels, rows, room),
            angular: angular.then(|| Ranked::new(kernels, rows, room)),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.nearest.bounds.len()
    }

    /// The candidates of a row, nearest first.
    pub(super) fn of(&self, row: usize) -> impl Iterator<Item = Rank> + '_ {
        self.nearest.of(row)
    }

    /// The nearest of a row by Euclidean distance, where that is not what keys order by.
    pub(super) fn angular(&self, row: usize) -> impl Iterator<Item = u32> + '_ {
        let ranks = self.angular.iter().flat_map(move |ranked| ranked.of(row));
        ranks.map(Rank::node)
    }
}

/// Sorted lists of fixed room.
struct Ranked {
    kernels: &'static Kernels,
    /// Lines of a list.
    lines: usize,
    /// Bits of ranks; places that nobody has taken come last.
    ranks: Vec<RankLine>,
    /// The key of the last of each list, infinite until it is full: most of what is offered is
    /// farther, and the lists are many times larger.
    bounds: Vec<f32>,
}

impl Ranked {
    /// Room for at least so many candidates of each row.
    fn new(kernels: &'static Kernels, rows: usize, room: usize) -> Self {
        let lines = room.div_ceil(RANKS);
        let nobody = Rank::nobody(f32::INFINITY).bits();
        Self {
            kernels,
            lines,
            ranks: vec![RankLine([nobody; RANKS]); rows * lines],
            bounds: vec![f32::INFINITY; rows],
        }
    }

    fn of(&self, row: usize) -> impl Iterator<Item = Rank> + '_ {
        let lines = self.ranks[row * self.lines..(row + 1) * self.lines].iter();
        let ranks = lines.flat_map(|line| line.0).map(Rank::from_bits);
        ranks.take_while(|rank| rank.node() != u32::MAX)
    }

    /// Asks for the list that a candidate is about to be put into.
    #[inline]
    fn prefetch(&self, row: usize, near: &Near) {
        if near.key <= self.bounds[row] {
            prefetch(&self.ranks[row * self.lines..(row + 1) * self.lines]);
        }
    }

    /// Keeps a candidate if it is among the nearest. A pair has one key whoever finds it, so that
    /// the same candidate found again has the same rank.
    fn offer(&mut self, row: usize, near: Near) {
        if near.key > self.bounds[row] {
            return;
        }
        let list = &mut self.ranks[row * self.lines..(row + 1) * self.lines];
        (self.kernels.insert)(list, Rank::new(near).bits());
        if let Some(&RankLine([.., last])) = list.last() {
            self.bounds[row] = Rank::from_bits(last).near().key;
        }
    }
}

/// The candidates of all rows.
pub(super) struct Candidates {
    pub(super) pieces: Vec<Piece>,
}

impl Candidates {
    /// Room for at least so many candidates of each row, and as many by Euclidean distance if `angular`.
    pub(super) fn new(kernels: &'static Kernels, rows: usize, room: usize, angular: bool) -> Self {
        let pieces = (0..rows.div_ceil(ROWS)).into_par_iter().map(|piece| {
            let rows = ROWS.min(rows - piece * ROWS);
            Piece::new(kernels, rows, room, angular)
        });
        Self {
            pieces: pieces.collect(),
        }
    }

    /// A candidate of this row is not kept if its key is above this.
    pub(super) fn bound(&self, row: u32, angular: bool) -> f32 {
        let piece = &self.pieces[row as usize / ROWS];
        let ranked = match &piece.angular {
            Some(ranked) if angular => ranked,
            _ => &piece.nearest,
        };
        ranked.bounds[row as usize % ROWS]
    }

    /// Takes in what leaves found. What is kept depends on what was found, not on the order.
    pub(super) fn take(&mut self, finds: &[Finds], angular: bool) {
        let pieces = self.pieces.par_iter_mut().enumerate();
        pieces.for_each(|(number, piece)| {
            let ranked = match &mut piece.angular {
                Some(ranked) if angular => ranked,
                _ => &mut piece.nearest,
            };
            for found in finds.iter().map(|finds| finds.piece(number)) {
                for (nth, Found { row, near }) in found.iter().enumerate() {
                    if let Some(Found { row, near }) = found.get(nth + AHEAD) {
                        ranked.prefetch(*row as usize % ROWS, near);
                    }
                    ranked.offer(*row as usize % ROWS, *near);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::kernels;

    #[test]
    fn what_is_kept_does_not_depend_on_the_order() {
        let found: Vec<Found> = (0..600u32)
            .map(|i| Found {
                row: i % 3 * (ROWS as u32 - 1),
                near: Near {
                    key: (i * 7_919 % 101) as f32,
                    node: i % 150,
                },
            })
            .collect();
        let rows = 2 * ROWS;
        let kept = |batches: Vec<Vec<Found>>| -> Vec<Vec<Rank>> {
            let mut candidates = Candidates::new(kernels(), rows, 10, false);
            let finds: Vec<Finds> = batches.iter().map(|b| Finds::new(b, rows)).collect();
            candidates.take(&finds, false);
            let piece = |row: usize| candidates.pieces[row / ROWS].of(row % ROWS).collect();
            [0, ROWS - 1, 2 * ROWS - 2].map(piece).to_vec()
        };
        let straight = kept(vec![found.clone()]);
        let backwards = kept(found.chunks(7).rev().map(<[Found]>::to_vec).collect());
        assert_eq!(straight, backwards);
        for (nth, list) in straight.iter().enumerate() {
            let row = (nth * (ROWS - 1)) as u32;
            let own = found.iter().filter(|find| find.row == row);
            let mut nearest: Vec<Rank> = own.map(|find| Rank::new(find.near)).collect();
            nearest.sort_unstable();
            nearest.dedup();
            nearest.truncate(2 * RANKS);
            assert_eq!(*list, nearest);
        }
    }

    #[test]
    fn a_row_of_few_candidates_keeps_them_all_and_bounds_nothing() {
        let near = |key, node| Near { key, node };
        let found = [near(2.0, 7), near(-1.0, 3), near(2.0, 5), near(2.0, 7)];
        let found = found.map(|near| Found { row: 1, near });
        let mut candidates = Candidates::new(kernels(), 2, 10, false);
        candidates.take(&[Finds::new(&found, 2)], false);
        let kept: Vec<Near> = candidates.pieces[0].of(1).map(Rank::near).collect();
        assert_eq!(kept, [near(-1.0, 3), near(2.0, 5), near(2.0, 7)]);
        assert_eq!(candidates.pieces[0].of(0).count(), 0);
        assert_eq!(candidates.bound(1, false), f32::INFINITY);
    }
}
