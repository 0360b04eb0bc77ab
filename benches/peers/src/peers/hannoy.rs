//! hannoy: a graph in LMDB, durable with every commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hannoy::distances::{Cosine, Euclidean};
use hannoy::{Database, Reader, Writer};
use heed::{CommitOrAbort, Env, EnvOpenOptions, RwTxn};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{BytesBy, EF_CONSTRUCTION, M, Searcher};
use crate::common::DataSet;

const M0: usize = 2 * M;
/// Address space, not memory.
const MAP: usize = 64 << 30;

struct Peer<D> {
    path: PathBuf,
    dim: usize,
    env: Option<Env>,
    distance: std::marker::PhantomData<fn() -> D>,
}

/// By squared Euclidean distance.
pub(super) fn euclidean(set: &DataSet, folder: &Path) -> Box<dyn super::Peer> {
    Box::new(Peer::<Euclidean>::new(set, folder))
}

/// By cosine; there is no inner product.
pub(super) fn cosine(set: &DataSet, folder: &Path) -> Box<dyn super::Peer> {
    Box::new(Peer::<Cosine>::new(set, folder))
}

impl<D: hannoy::Distance> Peer<D> {
    fn new(set: &DataSet, folder: &Path) -> Self {
        let path = folder.join("peer.lmdb");
        fs::create_dir_all(&path).expect("a folder");
        Self {
            path,
            dim: set.base.dim(),
            env: None,
            distance: std::marker::PhantomData,
        }
    }

    fn env(&self) -> &Env {
        self.env.as_ref().expect("an open environment")
    }

    fn open(&mut self) {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP);
        // SAFETY: the folder is this process's own, so nobody else changes the mapped file.
        let env = unsafe { options.open(&self.path) };
        self.env = Some(env.expect("an environment"));
    }

    fn database(&self) -> Database<'_, D> {
        let txn = self.env().write_txn().expect("a transaction");
        let opened = self.env().create_databases_and_commit(txn, |opener, txn| {
            let database = opener.create_database(txn, None);
            database.map(CommitOrAbort::<_, ()>::Commit)
        });
        opened.expect("the database").unwrap_commit()
    }

    fn add<'a>(&self, first: usize, rows: impl Iterator<Item = &'a [f32]>) {
        let writer = Writer::<D>::new(self.database(), 0, self.dim);
        let mut txn: RwTxn<'_> = self.env().write_txn().expect("a transaction");
        for (row, vector) in (first..).zip(rows) {
            let row = u32::try_from(row).expect("at most 2^32 rows");
            writer.add_item(&mut txn, row, vector).expect("a row");
        }
        let mut random = StdRng::seed_from_u64(7);
        let mut builder = writer.builder(&mut random);
        let built = builder
            .ef_construction(EF_CONSTRUCTION)
            .build::<M, M0>(&mut txn);
        built.expect("a graph");
        txn.commit().expect("a durable commit");
    }
}

impl<D: hannoy::Distance + 'static> super::Peer for Peer<D> {
    /// On rayon's own pool, which the parent process sized; with the commit.
    fn build(&mut self, set: &DataSet, _threads: usize) -> f64 {
        let started = Instant::now();
        self.open();
        self.add(0, set.base.iter());
        started.elapsed().as_secs_f64()
    }

    fn searcher(&self, effort: usize) -> Searcher<'_> {
        let database = self.database();
        let txn = self.env().read_txn().expect("a transaction");
        let reader = Reader::open(&txn, 0, database).expect("a reader");
        Box::new(move |query, k| {
            let mut search = reader.nns(k);
            let found = search.ef_search(effort).by_vector(&txn, query);
            let found = found.expect("a search").into_nns();
            found.iter().map(|hit| (hit.0 as usize, hit.1)).collect()
        })
    }

    fn bytes(&self) -> BytesBy {
        let bytes = self.env().real_disk_size().expect("the size of the file");
        BytesBy::File(bytes as usize)
    }

    fn save(&mut self) -> Option<f64> {
        Some(0.0)
    }

    fn reopen(&mut self, _set: &DataSet, _threads: usize) -> f64 {
        if let Some(env) = self.env.take() {
            env.prepare_for_closing().wait();
        }
        let started = Instant::now();
        self.open();
        started.elapsed().as_secs_f64()
    }

    fn upsert(&mut self, first: usize, rows: &[&[f32]]) -> bool {
        self.add(first, rows.iter().copied());
        true
    }
}
