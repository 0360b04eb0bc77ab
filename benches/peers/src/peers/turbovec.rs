//! turbovec: a scan of 4-bit codes, not re-ranked.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use turbovec::TurboQuantIndex;

use super::{BytesBy, Searcher};
use crate::common::DataSet;

const BITS: usize = 4;
/// The fastest size measured.
const BATCH: usize = 4_096;

/// It takes multiples of so many coordinates; zeros change no inner product.
const UNIT: usize = 8;

pub(super) struct Peer {
    path: PathBuf,
    dim: usize,
    index: TurboQuantIndex,
}

impl Peer {
    pub(super) fn new(set: &DataSet, folder: &Path) -> Self {
        let dim = set.base.dim();
        let index = TurboQuantIndex::new(dim.next_multiple_of(UNIT), BITS);
        Self {
            dim,
            path: folder.join("peer.turbovec"),
            index: index.expect("an index"),
        }
    }

    /// Rows one after the other, each filled up with zeros.
    fn padded<'a>(&self, rows: &'a [f32]) -> Cow<'a, [f32]> {
        let width = self.dim.next_multiple_of(UNIT);
        if width == self.dim {
            return Cow::Borrowed(rows);
        }
        let mut out = vec![0.0; rows.len() / self.dim * width];
        for (to, from) in out.chunks_exact_mut(width).zip(rows.chunks_exact(self.dim)) {
            to[..self.dim].copy_from_slice(from);
        }
        Cow::Owned(out)
    }
}

impl super::Peer for Peer {
    /// On rayon's own pool, which the parent process sized.
    fn build(&mut self, set: &DataSet, _threads: usize) -> f64 {
        let started = Instant::now();
        for rows in set.base.blocks(BATCH) {
            let rows = self.padded(rows);
            self.index.add(&rows);
        }
        self.index.prepare();
        started.elapsed().as_secs_f64()
    }

    fn searcher(&self, _effort: usize) -> Searcher<'_> {
        Box::new(|query, k| {
            let found = self.index.search(&self.padded(query), k);
            let rows = found.indices.iter().map(|&row| row as usize);
            // Inner products: larger is nearer.
            rows.zip(found.scores.iter().map(|score| -score)).collect()
        })
    }

    fn has_effort(&self) -> bool {
        false
    }

    fn bytes(&self) -> BytesBy {
        BytesBy::Allocator { apart: 0 }
    }

    fn save(&mut self) -> Option<f64> {
        let started = Instant::now();
        self.index.sync(&self.path).expect("a durable file");
        Some(started.elapsed().as_secs_f64())
    }

    fn reopen(&mut self, _set: &DataSet, _threads: usize) -> f64 {
        let started = Instant::now();
        self.index = TurboQuantIndex::load(&self.path).expect("a loaded index");
        started.elapsed().as_secs_f64()
    }

    fn upsert(&mut self, _first: usize, rows: &[&[f32]]) -> bool {
        let rows = rows.concat();
        let rows = self.padded(&rows);
        self.index.add(&rows);
        self.index.sync(&self.path).expect("a durable file");
        true
    }
}
