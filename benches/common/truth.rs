//! What the right answer is: exact distances in f32 and the recall of a list of hits.
//!
//! Recall is scored by distance: a hit counts when its true distance is not beyond the k-th true
//! distance (with room for rounding), so that duplicates and ties are nobody's mistake.

use vecstash::{Distance, Hit};

use super::{DataSet, K, Rows, row_of};

/// Base rows compared with every query before the next ones are fetched: they stay in the cache.
const BLOCK: usize = 256;
const LANES: usize = 16;

fn sum_by(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_blocks.remainder().iter().zip(b_blocks.remainder());
    let tail: f32 = rest.map(|(&x, &y)| term(x, y)).sum();
    for (x, y) in a_blocks.zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += term(x[lane], y[lane]);
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// Inner product.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_by(a, b, |x, y| x * y)
}

/// The distance between two vectors, from their original coordinates.
pub(crate) fn distance(kind: Distance, a: &[f32], b: &[f32]) -> f32 {
    match kind {
        Distance::Euclidean => sum_by(a, b, |x, y| (x - y) * (x - y)).sqrt(),
        Distance::DotProduct => -dot(a, b),
        _ => {
            let norms = (dot(a, a) * dot(b, b)).sqrt();
            if norms > 0.0 {
                1.0 - dot(a, b) / norms
            } else {
                1.0
            }
        }
    }
}

/// The distance of each query's K-th nearest row: what recall is scored against.
pub(crate) struct Truth {
    kth: Vec<f32>,
}

impl Truth {
    /// From the set's own ground truth where it has one, from an exact scan elsewhere.
    pub(crate) fn of(set: &DataSet) -> Self {
        let kth = match &set.kth_ids {
            Some(ids) => {
                let pairs = set.queries.iter().zip(ids);
                pairs
                    .map(|(query, &id)| distance(set.distance, query, set.base.row(id)))
                    .collect()
            }
            None => {
                let nearest = nearest(&set.base, &set.queries, set.distance);
                nearest.iter().map(|best| best[best.len() - 1]).collect()
            }
        };
        Self { kth }
    }

    /// How many of the K true neighbours of query number `query` are among `hits`, by distance.
    pub(crate) fn found(&self, set: &DataSet, query: usize, hits: &[Hit]) -> usize {
        self.count(set, query, hits.iter().map(|hit| row_of(&hit.key)))
    }

    /// How many of the first K of `rows` are true neighbours of query number `query`, by distance.
    pub(crate) fn count(
        &self,
        set: &DataSet,
        query: usize,
        rows: impl Iterator<Item = usize>,
    ) -> usize {
        let limit = limit(self.kth[query]);
        let vector = set.queries.row(query);
        rows.take(K)
            .filter(|&row| distance(set.distance, vector, set.base.row(row)) <= limit)
            .count()
    }
}

/// How far a true neighbour may be where the k-th is at `kth`: rounding moves nobody out.
pub(crate) fn limit(kth: f32) -> f32 {
    kth + kth.abs() * 1e-5 + 1e-7
}

/// The K smallest distances of every query, in order, on all cores.
pub(crate) fn nearest(base: &Rows, queries: &Rows, kind: Distance) -> Vec<Vec<f32>> {
    let k = K.min(base.len());
    let mut nearest = vec![Vec::with_capacity(k + 1); queries.len()];
    super::on_all_cores(&mut nearest, 1, |first, part| {
        for block in base.blocks(BLOCK) {
            for (i, best) in part.iter_mut().enumerate() {
                for row in block.chunks_exact(base.dim()) {
                    keep(best, k, distance(kind, queries.row(first + i), row));
                }
            }
        }
    });
    nearest
}

/// Keeps the `k` smallest distances seen, in order.
pub(crate) fn keep(best: &mut Vec<f32>, k: usize, distance: f32) {
    if best.len() == k && best[k - 1] <= distance {
        return;
    }
    let at = best.partition_point(|&d| d <= distance);
    best.insert(at, distance);
    best.truncate(k);
}
