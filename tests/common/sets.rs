//! Sets of vectors with ground truth, and recall scored by distance.

use std::path::PathBuf;

use vecstash::Distance;

use super::npy;

/// Rows, queries, and for each query its nearest rows by one distance.
#[derive(Clone)]
pub struct Set {
    pub distance: Distance,
    pub base: Vec<Vec<f32>>,
    pub queries: Vec<Vec<f32>>,
    /// Numbers of the nearest rows, nearest first.
    pub gt_ids: Vec<Vec<usize>>,
    /// Their distances.
    pub gt_dist: Vec<Vec<f64>>,
}

impl Set {
    /// A committed fixture with its ground truth.
    pub fn load(name: &str, distance: Distance) -> Self {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures")
            .join(name);
        let metric = match distance {
            Distance::Euclidean => "euclidean",
            Distance::Cosine => "cosine",
            Distance::DotProduct => "ip",
            other => panic!("no ground truth for {other}"),
        };
        let set = Self {
            distance,
            base: npy::floats(&dir.join("base.npy")),
            queries: npy::floats(&dir.join("query.npy")),
            gt_ids: npy::ints(&dir.join(format!("gt_{metric}_ids.npy")))
                .into_iter()
                .map(|row| row.into_iter().map(|id| id as usize).collect())
                .collect(),
            gt_dist: npy::floats(&dir.join(format!("gt_{metric}_dist.npy")))
                .into_iter()
                .map(|row| row.into_iter().map(f64::from).collect())
                .collect(),
        };
        assert_eq!(set.gt_ids.len(), set.queries.len());
        assert_eq!(set.gt_dist.len(), set.queries.len());
        set
    }

    /// Any rows and queries, with the `k` nearest found by comparing all.
    pub fn brute(
        base: Vec<Vec<f32>>,
        queries: Vec<Vec<f32>>,
        distance: Distance,
        k: usize,
    ) -> Self {
        let (mut gt_ids, mut gt_dist) = (Vec::new(), Vec::new());
        for query in &queries {
            let mut all: Vec<(f64, usize)> = base
                .iter()
                .enumerate()
                .map(|(id, row)| (true_distance(distance, query, row), id))
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            all.truncate(k);
            gt_dist.push(all.iter().map(|near| near.0).collect());
            gt_ids.push(all.iter().map(|near| near.1).collect());
        }
        Self {
            distance,
            base,
            queries,
            gt_ids,
            gt_dist,
        }
    }

    /// Only the first `rows` rows and `queries` queries, with ground truth of their own.
    pub fn head(self, rows: usize, queries: usize, k: usize) -> Self {
        let (mut base, mut asked) = (self.base, self.queries);
        base.truncate(rows);
        asked.truncate(queries);
        Self::brute(base, asked, self.distance, k)
    }

    pub fn dim(&self) -> u16 {
        self.base[0].len() as u16
    }

    /// What part of the `k` nearest the `hits` (row numbers) of query number `query` are. A hit
    /// counts when its true distance is not beyond that of the k-th true neighbour: copies and
    /// ties are as good as the row the ground truth happens to name. A row counts once.
    pub fn recall_by_distance(&self, query: usize, hits: &[usize], k: usize) -> f64 {
        let kth = self.gt_dist[query][k - 1];
        let limit = kth + kth.abs() * 1e-5 + 1e-7;
        let mut seen = hits[..hits.len().min(k)].to_vec();
        seen.sort_unstable();
        seen.dedup();
        let good = seen
            .iter()
            .filter(|&&row| {
                true_distance(self.distance, &self.queries[query], &self.base[row]) <= limit
            })
            .count();
        good as f64 / k as f64
    }
}

/// The distance of two vectors, summed in `f64`.
pub fn true_distance(distance: Distance, a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let pairs = || a.iter().zip(b).map(|(&x, &y)| (f64::from(x), f64::from(y)));
    let dot: f64 = pairs().map(|(x, y)| x * y).sum();
    match distance {
        Distance::Euclidean => pairs().map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt(),
        Distance::DotProduct => -dot,
        Distance::Cosine => {
            let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            match norm(a) * norm(b) {
                0.0 => 1.0,
                norms => 1.0 - dot / norms,
            }
        }
        other => panic!("unknown distance {other}"),
    }
}
