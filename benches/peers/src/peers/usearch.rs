//! usearch, in the type its name ends with.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use usearch::{Index, IndexOptions, MetricKind, ScalarKind};
use vecstash::Distance;

use super::{BytesBy, EF_CONSTRUCTION, M, Searcher};
use crate::common::DataSet;

pub(super) struct Peer {
    options: IndexOptions,
    path: PathBuf,
    index: Option<Index>,
}

impl Peer {
    pub(super) fn new(name: &str, set: &DataSet, folder: &Path) -> Self {
        let quantization = match name {
            "usearch-bf16" => ScalarKind::BF16,
            "usearch-i8" => ScalarKind::I8,
            _ => ScalarKind::F32,
        };
        let metric = match set.distance {
            Distance::Euclidean => MetricKind::L2sq,
            _ => MetricKind::IP,
        };
        let options = IndexOptions {
            dimensions: set.base.dim(),
            metric,
            quantization,
            connectivity: M,
            expansion_add: EF_CONSTRUCTION,
            ..IndexOptions::default()
        };
        Self {
            options,
            path: folder.join("peer.usearch"),
            index: None,
        }
    }

    fn index(&self) -> &Index {
        self.index.as_ref().expect("a built index")
    }

    fn empty(&self, rows: usize, threads: usize) -> Index {
        let index = Index::new(&self.options).expect("an index");
        let reserved = index.reserve_capacity_and_threads(rows, threads + 1);
        reserved.expect("room");
        index
    }
}

impl super::Peer for Peer {
    fn build(&mut self, set: &DataSet, threads: usize) -> f64 {
        let started = Instant::now();
        let index = self.empty(set.base.len(), threads);
        let add = |worker: usize| {
            for row in (worker..set.base.len()).step_by(threads) {
                index.add(row as u64, set.base.row(row)).expect("a row");
            }
        };
        thread::scope(|scope| {
            for worker in 0..threads {
                scope.spawn(move || add(worker));
            }
        });
        let seconds = started.elapsed().as_secs_f64();
        self.index = Some(index);
        seconds
    }

    fn searcher(&self, effort: usize) -> Searcher<'_> {
        let index = self.index();
        // Of the whole index; all searchers at a time have the same.
        index.change_expansion_search(effort);
        Box::new(move |query, k| {
            let found = index.search(query, k).expect("a search");
            let rows = found.keys.iter().map(|&key| key as usize);
            rows.zip(found.distances).collect()
        })
    }

    fn bytes(&self) -> BytesBy {
        BytesBy::Resident
    }

    fn save(&mut self) -> Option<f64> {
        let started = Instant::now();
        let path = self.path.to_str().expect("a path in UTF-8");
        self.index().save(path).expect("a saved index");
        let file = File::open(&self.path).expect("the saved file");
        file.sync_all().expect("a durable file");
        Some(started.elapsed().as_secs_f64())
    }

    fn reopen(&mut self, _set: &DataSet, threads: usize) -> f64 {
        self.index = None;
        let started = Instant::now();
        let index = self.empty(0, threads);
        let path = self.path.to_str().expect("a path in UTF-8");
        index.load(path).expect("a loaded index");
        let seconds = started.elapsed().as_secs_f64();
        self.index = Some(index);
        seconds
    }
}
