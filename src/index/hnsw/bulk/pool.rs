//! Some candidates of one row, compared with each other all at once.

use super::super::super::codes::{Point, Probe};
use super::super::search::Near;
use super::super::select::{Points, hold};
use super::corpus::{Columns, Corpus};

/// All pairs are compared of up to so many candidates for each that is to be chosen: one is
/// compared with those that were chosen before it alone, so that of many more most keys would never
/// be asked for.
const SHARE_MAX: usize = 3;

/// Candidates by *place*, from 0 on, and the keys of all pairs of them.
#[derive(Default)]
pub(super) struct Pool<'a> {
    positions: Vec<u32>,
    points: Vec<Point<'a>>,
    columns: Columns,
    /// The key of places `a < b` at `a * stride + b`; nothing if there are too many of them.
    keys: Vec<f32>,
    stride: usize,
}

impl<'a> Pool<'a> {
    /// Takes in the candidates at these positions in place of all others, to
    /// choose up to `most`.
    pub(super) fn fill(
        &mut self,
        corpus: &Corpus<'a>,
        positions: impl Iterator<Item = u32>,
        most: usize,
    ) {
        self.positions.clear();
        self.positions.extend(positions);
        let points = self.positions.iter().map(|&at| corpus.point(at));
        self.points.clear();
        self.points.extend(points);
        self.keys.clear();
        let places = self.positions.len();
        if places > SHARE_MAX * most {
            return;
        }
        let Self {
            positions,
            columns,
            keys,
            stride,
            ..
        } = self;
        columns.pack(corpus, corpus.measure(), positions);
        *stride = places;
        keys.resize(places * places, 0.0);
        columns.compare_pairs(corpus, corpus.measure(), positions, |row, shown| {
            let behind = row + 1..places;
            keys[row * places..][behind.clone()].copy_from_slice(&shown[behind]);
        });
    }

    /// The position of the candidate at a place.
    pub(super) fn position(&self, place: u32) -> u32 {
        self.positions[place as usize]
    }

    /// How near a candidate is to another one.
    pub(super) fn near(&self, corpus: &Corpus<'_>, from: u32, place: u32) -> Near {
        let key = match self.key(from, place) {
            Some(key) => key,
            None => corpus.geometry.between(self.point(place), self.point(from)),
        };
        Near { key, node: place }
    }

    #[inline]
    fn key(&self, a: u32, b: u32) -> Option<f32> {
        let (first, last) = (a.min(b) as usize, a.max(b) as usize);
        self.keys.get(first * self.stride + last).copied()
    }
}

impl<'a> Points<'a> for Pool<'a> {
    #[inline]
    fn point(&self, place: u32) -> Point<'a> {
        self.points[place as usize]
    }

    #[inline]
    fn hold(
        &self,
        probe: &mut Probe,
        place: u32,
        others: &[Near],
        rule: impl Fn(u32, f32) -> bool,
    ) -> bool {
        if self.keys.is_empty() {
            return hold(self, probe, place, others, rule);
        }
        others.iter().all(|other| {
            let key = self.key(place, other.node);
            key.is_none_or(|key| rule(other.node, key))
        })
    }
}
