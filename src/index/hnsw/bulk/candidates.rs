//! The nearest candidates of every row, kept as leaves find them, in bounded memory.

use rayon::prelude::*;

use super::super::search::{Near, Rank};
use crate::kernel::prefetch;

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
    pub(super) fn rows(&self) -> usize {
        self.nearest.lens.len()
    }

    /// The candidates of a row, nearest first.
    pub(super) fn of(&self, row: usize) -> &[Rank] {
        self.nearest.of(row)
    }

    /// The nearest of a row by Euclidean distance, where that is not what keys order by.
    pub(super) fn angular(&self, row: usize) -> impl Iterator<Item = u32> + '_ {
        let ranks = self.angular.iter().flat_map(move |ranked| ranked.of(row));
        ranks.map(|rank| rank.node())
    }
}

/// Sorted lists of fixed room.
struct Ranked {
    room: usize,
    ranks: Vec<Rank>,
    lens: Vec<u16>,
    /// The key of the last of each full list: most of what is offered is farther, and the lists
    /// are many times larger.
    bounds: Vec<f32>,
}

impl Ranked {
    fn new(rows: usize, room: usize) -> Self {
        Self {
            room,
            ranks: vec![Rank::default(); rows * room],
            lens: vec![0; rows],
            bounds: vec![f32::INFINITY; rows],
        }
    }

    fn of(&self, row: usize) -> &[Rank] {
        &self.ranks[row * self.room..][..usize::from(self.lens[row])]
    }

    /// Asks for the list that a candidate is about to be put into.
    #[inline]
    fn prefetch(&self, row: usize, near: &Near) {
        if near.key <= self.bounds[row] {
            prefetch(&self.ranks[row * self.room..(row + 1) * self.room]);
        }
    }

    /// Keeps a candidate if it is among the nearest. A pair has one key whoever finds it, so that
    /// the same candidate found again has the same rank.
    fn offer(&mut self, row: usize, near: Near) {
        if near.key > self.bounds[row] {
            return;
        }
        let rank = Rank::new(near);
        let len = usize::from(self.lens[row]);
        let list = &mut self.ranks[row * self.room..(row + 1) * self.room];
        if len == self.room && rank >= list[len - 1] {
            return;
        }
        let place = list[..len].partition_point(|&kept| kept < rank);
        if place < len && list[place] == rank {
            return;
        }
        let end = (len + 1).min(self.room);
        list.copy_within(place..end - 1, place + 1);
        list[place] = rank;
        self.lens[row] = end as u16;
        if end == self.room {
            self.bounds[row] = list[end - 1].near().key;
        }
    }
}

/// The candidates of all rows.
pub(super) struct Candidates {
    pub(super) pieces: Vec<Piece>,
}

impl Candidates {
    /// Room for so many candidates of each row, and as many by Euclidean distance if `angular`.
    pub(super) fn new(rows: usize, room: usize, angular: bool) -> Self {
        let starts = (0..rows).step_by(ROWS);
        let pieces = starts.map(|start| {
            let rows = ROWS.min(rows - start);
            Piece {
                nearest: Ranked::new(rows, room),
                angular: angular.then(|| Ranked::new(rows, room)),
            }
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
            let mut candidates = Candidates::new(rows, 10, false);
            let finds: Vec<Finds> = batches.iter().map(|b| Finds::new(b, rows)).collect();
            candidates.take(&finds, false);
            let piece = |row: usize| candidates.pieces[row / ROWS].of(row % ROWS).to_vec();
            [0, ROWS - 1, 2 * ROWS - 2].map(piece).to_vec()
        };
        let straight = kept(vec![found.clone()]);
        let backwards = kept(found.chunks(7).rev().map(<[Found]>::to_vec).collect());
        assert_eq!(straight, backwards);
        for list in straight {
            assert!(list.len() == 10 && list.is_sorted());
        }
    }
}
