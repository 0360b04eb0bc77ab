//! Which candidates become neighbours: Algorithm 4 of Malkov and Yashunin with slack, room for
//! far ones, and a rule of its own for inner products.

use super::super::codes::{Geometry, Point, Probe};
use super::search::Near;
use crate::distance::Distance;
use crate::kernel::ROWS_MAX;

/// How much nearer to a neighbour than to the row a candidate must be to be passed over, in
/// squared distances.
const SLACK: f32 = 1.2;

/// No slack: the rule of the paper.
const STRICT: f32 = 1.0;

/// A candidate whose key is this many times that of the one before it lies beyond a gap.
const GAP: f32 = 4.0;

/// Share of the places that inner products fill by inner product, the others by distance.
const INNER_SHARE: f32 = 0.75;

/// Something that knows the codes behind numbers.
pub(super) trait Points<'a>: Sized {
    fn point(&self, number: u32) -> Point<'a>;

    /// Whether a rule holds for each of `others` and the key from `number` to it.
    #[inline]
    fn hold(
        &self,
        probe: &mut Probe,
        number: u32,
        others: &[Near],
        rule: impl Fn(u32, f32) -> bool,
    ) -> bool {
        hold(self, probe, number, others, rule)
    }
}

/// [`Points::hold`], comparing codes a few at a time.
pub(super) fn hold<'a>(
    points: &impl Points<'a>,
    probe: &mut Probe,
    number: u32,
    others: &[Near],
    rule: impl Fn(u32, f32) -> bool,
) -> bool {
    if others.is_empty() {
        return true;
    }
    let point = points.point(number);
    probe.aim(point);
    others.chunks(ROWS_MAX).all(|group| {
        let mut codes = [point; ROWS_MAX];
        for (code, near) in codes.iter_mut().zip(group) {
            *code = points.point(near.node);
        }
        let keys = probe.keys(&codes[..group.len()]);
        group
            .iter()
            .zip(keys)
            .all(|(near, key)| rule(near.node, key))
    })
}

/// Chooses neighbours, reusing its buffers.
///
/// Slack leaves some links that the strict rule would prune: lists are longer, and walks need
/// fewer of them for the same recall. Where a list overflows, what slack lets in goes first, but
/// under inner products, which have a rule of their own for what is far.
///
/// Where candidates end at a gap (a tight cluster, and then nothing for a long way), up to half
/// of the places are kept for those beyond it, or walks would never leave the cluster.
///
/// Under inner products the nearest are the longest rows, for every row the same few. So some
/// places go to the nearest by Euclidean distance, which keep the graph in one piece and lead
/// walks to the row's surroundings. `lift`, the greatest squared length, makes negated inner
/// products comparable by a factor; where all rows are equally long both rules are one.
pub(super) struct Selector {
    geometry: Geometry,
    lift: f32,
    probe: Probe,
    taken: Vec<Near>,
    rest: Vec<Near>,
}

impl Selector {
    pub(super) fn new(geometry: Geometry, lift: f32) -> Self {
        Self {
            geometry,
            lift,
            probe: Probe::new(geometry),
            taken: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Up to `most` neighbours of `row` out of `pool`, which is sorted.
    pub(super) fn select<'a>(
        &mut self,
        points: &impl Points<'a>,
        row: Point<'a>,
        pool: &[Near],
        most: usize,
    ) -> &[Near] {
        self.taken.clear();
        if self.geometry.distance != Distance::DotProduct {
            self.pick(points, pool, most, SLACK);
            return &self.taken;
        }
        let inner = (most as f32 * INNER_SHARE) as usize;
        self.pick(points, pool, inner, SLACK);
        let row = self.geometry.row_terms(row.terms).own;
        let squared = |near: &Near| {
            let own = self.geometry.row_terms(points.point(near.node).terms).own;
            (row + own + 2.0 * near.key).max(0.0)
        };
        let taken: Vec<u32> = self.taken.iter().map(|near| near.node).collect();
        let mut rest = std::mem::take(&mut self.rest);
        rest.clear();
        rest.extend(pool.iter().filter(|near| !taken.contains(&near.node)));
        rest.iter_mut().for_each(|near| near.key = squared(near));
        rest.sort_unstable_by(Near::order);
        for near in &rest {
            if self.taken.len() == most {
                break;
            }
            if self.is_apart_squared(points, near) {
                self.taken.push(*near);
            }
        }
        self.rest = rest;
        &self.taken
    }

    /// As [`Self::select`], where a list has become too long: those that the strict rule keeps come
    /// before those that slack lets in, however near. Else the farthest would always have to go,
    /// and with it the ways out of a cluster.
    pub(super) fn select_again<'a>(
        &mut self,
        points: &impl Points<'a>,
        row: Point<'a>,
        pool: &[Near],
        most: usize,
    ) -> &[Near] {
        if self.geometry.distance == Distance::DotProduct {
            return self.select(points, row, pool, most);
        }
        self.taken.clear();
        self.pick(points, pool, most, STRICT);
        self.add(points, pool, most, SLACK);
        self.taken.sort_unstable_by(Near::order);
        &self.taken
    }

    /// `kept` and, in the places up to `most` that they leave, neighbours out of `pool`, which is
    /// sorted.
    pub(super) fn fill_up<'a>(
        &mut self,
        points: &impl Points<'a>,
        kept: &[Near],
        pool: &[Near],
        most: usize,
    ) -> &[Near] {
        self.taken.clear();
        self.taken.extend(kept);
        self.add(points, pool, most, STRICT);
        self.add(points, pool, most, SLACK);
        &self.taken
    }

    /// Adds what stands apart in `pool` to those taken, until there are `most`.
    fn add<'a>(&mut self, points: &impl Points<'a>, pool: &[Near], most: usize, slack: f32) {
        for near in pool {
            if self.taken.len() >= most {
                break;
            }
            let is_new = self.taken.iter().all(|taken| taken.node != near.node);
            if is_new && self.is_apart(points, near, slack) {
                self.taken.push(*near);
            }
        }
    }

    /// Adds up to `most` of `pool` to those taken.
    fn pick<'a>(&mut self, points: &impl Points<'a>, pool: &[Near], most: usize, slack: f32) {
        let near_end = self.near_end(pool);
        let far = (pool.len() - near_end).min(most / 2);
        for (pool, most) in [(&pool[..near_end], most - far), (&pool[near_end..], most)] {
            for near in pool {
                if self.taken.len() == most {
                    break;
                }
                if self.is_apart(points, near, slack) {
                    self.taken.push(*near);
                }
            }
        }
    }

    /// Where the near part of a pool ends: at the first gap, or nowhere.
    fn near_end(&self, pool: &[Near]) -> usize {
        let gap = pool.windows(2).position(|pair| {
            let [near, next] = [pair[0].key + self.lift, pair[1].key + self.lift];
            next > GAP * near
        });
        gap.map_or(pool.len(), |at| at + 1)
    }

    /// Whether no neighbour is nearer, by the slack, to this candidate than the row is.
    fn is_apart<'a>(&mut self, points: &impl Points<'a>, near: &Near, slack: f32) -> bool {
        let (lift, limit) = (self.lift, near.key + self.lift);
        let rule = |_, key| slack * (key + lift) >= limit;
        points.hold(&mut self.probe, near.node, &self.taken, rule)
    }

    /// As `is_apart` by squared distances, where keys are negated inner products.
    fn is_apart_squared<'a>(&mut self, points: &impl Points<'a>, near: &Near) -> bool {
        let geometry = self.geometry;
        let own = |number| geometry.row_terms(points.point(number).terms).own;
        let own_of_it = own(near.node);
        let rule = |other, key: f32| {
            let squared = own_of_it + own(other) + 2.0 * key;
            SLACK * squared.max(0.0) >= near.key
        };
        points.hold(&mut self.probe, near.node, &self.taken, rule)
    }
}
