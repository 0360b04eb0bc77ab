//! hnsw_rs: f32, layer 0 twice as wide as the others.

use std::path::{Path, PathBuf};
use std::time::Instant;

use hnsw_rs::prelude::{AnnT, DistDot, DistL2, Distance, Hnsw, HnswIo};

use super::{BytesBy, EF_CONSTRUCTION, M, Searcher};
use crate::common::DataSet;

const LAYERS: usize = 16;
const FILE: &str = "peer_hnsw_rs";

struct Peer<D: Distance<f32> + Send + Sync> {
    folder: PathBuf,
    graph: Option<Hnsw<'static, f32, D>>,
}

/// By squared Euclidean distance.
pub(super) fn euclidean(folder: &Path) -> Box<dyn super::Peer> {
    boxed::<DistL2>(folder)
}

/// By the inner product of unit vectors.
pub(super) fn dot(folder: &Path) -> Box<dyn super::Peer> {
    boxed::<DistDot>(folder)
}

fn boxed<D: Distance<f32> + Default + Send + Sync + 'static>(
    folder: &Path,
) -> Box<dyn super::Peer> {
    Box::new(Peer::<D> {
        folder: folder.to_path_buf(),
        graph: None,
    })
}

impl<D: Distance<f32> + Default + Send + Sync> Peer<D> {
    fn graph(&self) -> &Hnsw<'static, f32, D> {
        self.graph.as_ref().expect("a built graph")
    }
}

impl<D: Distance<f32> + Default + Send + Sync + 'static> super::Peer for Peer<D> {
    /// On rayon's own pool, which the parent process sized.
    fn build(&mut self, set: &DataSet, _threads: usize) -> f64 {
        let started = Instant::now();
        let mut graph = Hnsw::new(M, set.base.len(), LAYERS, EF_CONSTRUCTION, D::default());
        let rows: Vec<(&[f32], usize)> = set.base.iter().zip(0..).collect();
        graph.parallel_insert_slice(&rows);
        graph.set_searching_mode(true);
        let seconds = started.elapsed().as_secs_f64();
        self.graph = Some(graph);
        seconds
    }

    fn searcher(&self, effort: usize) -> Searcher<'_> {
        let graph = self.graph();
        Box::new(move |query, k| {
            let found = graph.search(query, k, effort);
            found.iter().map(|hit| (hit.d_id, hit.distance)).collect()
        })
    }

    fn bytes(&self) -> BytesBy {
        BytesBy::Allocator { apart: 0 }
    }

    fn save(&mut self) -> Option<f64> {
        let started = Instant::now();
        let dumped = self.graph().file_dump(&self.folder, FILE);
        dumped.expect("a saved graph");
        Some(started.elapsed().as_secs_f64())
    }

    fn reopen(&mut self, _set: &DataSet, _threads: usize) -> f64 {
        self.graph = None;
        let started = Instant::now();
        // The loaded graph borrows its loader; the process ends soon.
        let loader = Box::leak(Box::new(HnswIo::new(&self.folder, FILE)));
        let graph = loader.load_hnsw().expect("a loaded graph");
        let seconds = started.elapsed().as_secs_f64();
        self.graph = Some(graph);
        seconds
    }
}
