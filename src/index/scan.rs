//! The exact scan of everything visible, which can stop and go on.

use super::Candidate;
use super::exact::ExactQuery;
use super::topk::Nearest;

/// An index whose rows can be scored from memory, a unit at a time.
pub(super) trait Scored {
    /// Units there are: slots, or nodes whose rows share a code.
    fn units(&self) -> usize;

    /// Offers the visible rows of a unit.
    fn offer(&self, unit: usize, query: &ExactQuery, scratch: &mut Vec<f32>, to: &mut Nearest);
}

/// An exact scan under way.
pub(crate) struct Scan {
    query: ExactQuery,
    nearest: Nearest,
    next: usize,
    scratch: Vec<f32>,
}

impl Scan {
    pub(super) fn new(query: ExactQuery, k: usize) -> Self {
        Self {
            query,
            nearest: Nearest::new(k),
            next: 0,
            scratch: Vec::new(),
        }
    }

    /// Goes on over this many units; `true` when none is left.
    pub(super) fn step(&mut self, source: &impl Scored, units: usize) -> bool {
        let end = self.next.saturating_add(units).min(source.units());
        for unit in self.next..end {
            source.offer(unit, &self.query, &mut self.scratch, &mut self.nearest);
        }
        self.next = self.next.max(end);
        self.next >= source.units()
    }

    /// What the scan found, ordered by (distance, row id): at most `k` where distances are
    /// exact, else every row that may be among the best `k`.
    pub(crate) fn finish(self) -> Vec<Candidate> {
        self.nearest.finish()
    }
}
