//! Some candidates of one row, compared with each other all at once.

use super::super::super::codes::{Point, Probe};
use super::super::search::Near;
use super::super::select::{Points, hold};
use super::corpus::{Columns, Corpus};

/// All pairs are compared of up to so many candidates for each that is to be chosen, and of so many
/// at all: one is compared with those that were chosen before it alone, so that of many more most
/// keys would never be asked for.
const SHARE_MAX: usize = 3;
const PLACES_MAX: usize = 128;

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
    /// Takes in the candidates at these positions, whose codes have been asked for, in place of all
    /// others, to choose up to `most`.
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
        if places > PLACES_MAX.min(SHARE_MAX * most) {
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
        let key = if self.keys.is_empty() {
            let geometry = &corpus.geometry;
            geometry.between(self.point(place), self.point(from))
        } else {
            self.key(from, place)
        };
        Near { key, node: place }
    }

    #[inline]
    fn key(&self, a: u32, b: u32) -> f32 {
        let (first, last) = (a.min(b) as usize, a.max(b) as usize);
        self.keys[first * self.stride + last]
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
        let mut others = others.iter();
        others.all(|other| rule(other.node, self.key(place, other.node)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::codes::{Coder, Codes, Geometry};
    use super::super::super::select::Selector;
    use super::*;
    use crate::distance::Distance;

    #[test]
    fn what_is_chosen_by_a_table_of_keys_is_chosen_by_comparing_codes() {
        for distance in [Distance::Euclidean, Distance::Cosine, Distance::DotProduct] {
            let geometry = Geometry::new(12, distance);
            let (mut codes, mut coder) = (Codes::new(geometry), Coder::new(geometry));
            for row in 0..60u32 {
                // A few tight groups, two of a kind among them.
                let value = |at: u32| ((row / 2 * 37 + at * 11) % 23 + row % 5 * 40) as f32;
                let vector: Vec<f32> = (0..12).map(value).collect();
                codes.put(row, coder.encode_floats(&vector));
            }
            let ids: Vec<u32> = (0..60).collect();
            let corpus = Corpus::new(&codes, &ids);
            let mut pool = Pool::default();
            // What others left behind is of no account.
            pool.fill(&corpus, 5..45, 32);
            pool.fill(&corpus, 0..60, 1);
            pool.fill(&corpus, (0..59).rev().chain([59]), 32);
            assert_eq!([0, 58, 59].map(|place| pool.position(place)), [58, 0, 59]);
            let mut plain = Pool::default();
            plain.fill(&corpus, (0..59).rev().chain([59]), 1);
            assert!(plain.keys.is_empty() && !pool.keys.is_empty());
            for row in [59, 30] {
                let nears = |pool: &Pool<'_>| -> Vec<Near> {
                    let others = (0..60).filter(|&place| place != row);
                    let mut nears: Vec<Near> =
                        others.map(|place| pool.near(&corpus, row, place)).collect();
                    nears.sort_unstable_by(Near::order);
                    nears
                };
                assert_eq!(nears(&pool), nears(&plain));
                let nears = nears(&pool);
                let mut pruned = false;
                let lift = if distance == Distance::DotProduct {
                    1e6
                } else {
                    0.0
                };
                for most in [1, 4, 12, 32] {
                    let mut selector = Selector::new(geometry, lift);
                    let point = pool.point(row);
                    let by_table = selector.select(&pool, point, &nears, most).to_vec();
                    assert_eq!(by_table, selector.select(&plain, point, &nears, most));
                    let by_table = selector.select_again(&pool, point, &nears, most).to_vec();
                    assert_eq!(by_table, selector.select_again(&plain, point, &nears, most));
                    assert!(!by_table.is_empty() && by_table.len() <= most);
                    pruned |= by_table.len() < most;
                }
                assert!(pruned, "{distance}");
            }
        }
    }
}
