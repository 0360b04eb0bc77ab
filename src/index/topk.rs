//! The best of a stream of rows, whether their distances are exact or estimates with a bound.

use std::collections::BinaryHeap;

use super::Candidate;
use crate::ids::{RowId, Slot};

/// A distance and how far it may be from the exact one; 0 where it is exact.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Estimate {
    pub(super) distance: f32,
    pub(super) slack: f32,
}

/// Collects every row that may be among the best `k`.
///
/// A row's lower bound is `distance - slack`, its upper bound `distance + slack`. A row may be
/// among the best `k` if its lower bound does not exceed the `k`-th smallest upper bound. Rows
/// with exact distances have equal bounds, so that the same rule leaves the best `k` and ties.
pub(super) struct Nearest {
    k: usize,
    /// The `k` smallest upper bounds, largest on top.
    uppers: BinaryHeap<Ordered>,
    kept: Vec<(Candidate, f32)>,
    exact: bool,
}

impl Nearest {
    pub(super) fn new(k: usize) -> Self {
        Self {
            k,
            uppers: BinaryHeap::new(),
            kept: Vec::new(),
            exact: true,
        }
    }

    /// How many rows are wanted.
    pub(super) fn k(&self) -> usize {
        self.k
    }

    /// Whether a row with this distance is not among the best `k`, whatever its id.
    pub(super) fn is_beyond(&self, estimate: Estimate) -> bool {
        self.k == 0 || estimate.distance - estimate.slack > self.bound()
    }

    pub(super) fn push(&mut self, slot: Slot, id: RowId, estimate: Estimate) {
        if self.is_beyond(estimate) {
            return;
        }
        let Estimate { distance, slack } = estimate;
        let lower = distance - slack;
        self.raise(distance + slack);
        let exact = slack == 0.0;
        self.exact &= exact;
        let candidate = Candidate {
            slot,
            id,
            distance,
            exact,
        };
        self.kept.push((candidate, lower));
        if self.kept.len() >= 2 * self.k + 1_024 && self.kept.len().is_power_of_two() {
            self.compact();
        }
    }

    /// What was collected, ordered by (distance, row id): at most `k` where all are exact.
    pub(super) fn finish(mut self) -> Vec<Candidate> {
        self.compact();
        let mut found: Vec<Candidate> = self.kept.into_iter().map(|(row, _)| row).collect();
        found.sort_unstable_by(by_distance);
        found
    }

    /// The `k`-th smallest upper bound.
    fn bound(&self) -> f32 {
        match self.uppers.peek() {
            Some(&Ordered(upper)) if self.uppers.len() == self.k => upper,
            _ => f32::INFINITY,
        }
    }

    fn raise(&mut self, upper: f32) {
        if self.uppers.len() == self.k {
            if upper >= self.bound() {
                return;
            }
            self.uppers.pop();
        }
        self.uppers.push(Ordered(upper));
    }

    /// Lets go of what has fallen behind since it was kept.
    fn compact(&mut self) {
        let bound = self.bound();
        self.kept.retain(|&(_, lower)| lower <= bound);
        if self.exact {
            self.kept
                .sort_unstable_by(|(a, _), (b, _)| by_distance(a, b));
            self.kept.truncate(self.k);
        }
    }
}

fn by_distance(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    a.distance.total_cmp(&b.distance).then(a.id.cmp(&b.id))
}

/// A float in its total order.
struct Ordered(f32);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(k: usize, rows: &[(f32, f32)]) -> Vec<u64> {
        let mut nearest = Nearest::new(k);
        for (i, &(distance, slack)) in rows.iter().enumerate() {
            nearest.push(
                Slot::new(i),
                RowId::new(i as u64),
                Estimate { distance, slack },
            );
        }
        nearest.finish().iter().map(|row| row.id.get()).collect()
    }

    #[test]
    fn exact_rows_are_cut_at_k_by_row_id() {
        let rows = [(2.0, 0.0), (1.0, 0.0), (2.0, 0.0), (0.5, 0.0)];
        assert_eq!(collect(3, &rows), [3, 1, 0]);
        assert_eq!(collect(0, &rows), [0u64; 0]);
        assert_eq!(collect(9, &rows), [3, 1, 0, 2]);
    }

    #[test]
    fn estimates_keep_whatever_may_be_best() {
        let rows = [(1.0, 0.1), (1.15, 0.1), (1.3, 0.1), (0.5, 0.1)];
        assert_eq!(collect(2, &rows), [3, 0, 1]);
    }

    #[test]
    fn many_ties_stay_bounded() {
        let rows = vec![(1.0, 0.0); 10_000];
        assert_eq!(collect(2, &rows), [0, 1]);
    }
}
