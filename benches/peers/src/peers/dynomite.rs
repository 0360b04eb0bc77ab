//! dynomite-vec: its index alone; its store answers with whole rows and opens by rebuilding.

use std::time::Instant;

use dynvec::{HnswIndex, HnswParams};
use vecstash::Distance;

use super::{BytesBy, EF_CONSTRUCTION, M, Searcher};
use crate::common::DataSet;

pub(super) struct Peer {
    index: HnswIndex,
    build_seconds: f64,
}

impl Peer {
    pub(super) fn new(set: &DataSet) -> Self {
        let distance = match set.distance {
            Distance::Euclidean => dynvec::Distance::Euclidean,
            _ => dynvec::Distance::DotProduct,
        };
        let params = HnswParams {
            m: M,
            m0: 2 * M,
            ef_construction: EF_CONSTRUCTION,
            ..HnswParams::default()
        };
        Self {
            index: HnswIndex::new(distance, params),
            build_seconds: 0.0,
        }
    }
}

impl super::Peer for Peer {
    /// On one thread: there is no parallel way.
    fn build(&mut self, set: &DataSet, _threads: usize) -> f64 {
        let started = Instant::now();
        for (row, vector) in set.base.iter().enumerate() {
            let inserted = self.index.insert(row as u64, vector.to_vec());
            inserted.expect("a row");
        }
        self.build_seconds = started.elapsed().as_secs_f64();
        self.build_seconds
    }

    fn searcher(&self, effort: usize) -> Searcher<'_> {
        Box::new(move |query, k| {
            let found = self.index.search(query, k, Some(effort));
            let found = found.expect("a search");
            let hits = found.iter().map(|hit| (hit.id as usize, hit.score));
            hits.collect()
        })
    }

    fn bytes(&self) -> BytesBy {
        BytesBy::Allocator { apart: 0 }
    }

    fn save(&mut self) -> Option<f64> {
        Some(0.0)
    }

    /// `VectorStore::open` inserts every row again: what the build took.
    fn reopen(&mut self, _set: &DataSet, _threads: usize) -> f64 {
        self.build_seconds
    }
}
