//! vecstash: rows on disk, the index rebuilt from them by every open.

use std::path::{Path, PathBuf};

use vecstash::{Metadata, NewRow, OpenOptions, Return, SearchOptions, Table, VectorStore};

use super::{BytesBy, Searcher};
use crate::common::{DataSet, Kind, TABLE, fill, key_of, row_of};

/// So small that the file's pages in memory do not count as index.
const CACHE: usize = 1 << 16;

pub(super) struct Peer {
    path: PathBuf,
    kind: Kind,
    store: Option<(VectorStore, Table)>,
}

impl Peer {
    pub(super) fn new(folder: &Path, kind: Kind) -> Self {
        Self {
            path: folder.join("peer.vecstash"),
            kind,
            store: None,
        }
    }

    fn table(&self) -> &Table {
        &self.store.as_ref().expect("an open store").1
    }

    fn open(&mut self, options: &OpenOptions) -> &VectorStore {
        let store = options.open(&self.path).expect("the store opens");
        let table = store.table(TABLE).expect("the table");
        &self.store.insert((store, table)).0
    }
}

impl super::Peer for Peer {
    /// Writes the rows, which is not timed, and reopens: the figure is the building of the index
    /// from rows in memory.
    fn build(&mut self, set: &DataSet, threads: usize) -> f64 {
        fill(&self.path, set, set.base.len(), self.kind);
        // The links that the file has would be no building at all.
        let options = OpenOptions::new()
            .threads(threads)
            .cache_bytes(CACHE)
            .hinted_rows_min(usize::MAX);
        self.open(&options).open_report().link_seconds
    }

    fn searcher(&self, effort: usize) -> Searcher<'_> {
        let table = self.table();
        Box::new(move |query, k| {
            let options = SearchOptions::new(k).ef(effort).returning(Return::Keys);
            let hits = table.search(query, &options).expect("a search");
            let hits = hits.iter().map(|hit| (row_of(&hit.key), hit.distance));
            hits.collect()
        })
    }

    fn bytes(&self) -> BytesBy {
        let stats = self.table().stats().expect("stats");
        BytesBy::Allocator {
            apart: stats.memory.keys,
        }
    }

    fn save(&mut self) -> Option<f64> {
        Some(0.0)
    }

    /// With the cache that every user has.
    fn reopen(&mut self, _set: &DataSet, threads: usize) -> f64 {
        if let Some((store, table)) = self.store.take() {
            drop(table);
            store.close().expect("a clean end");
        }
        let store = self.open(&OpenOptions::new().threads(threads));
        store.open_report().total_seconds
    }

    fn upsert(&mut self, first: usize, rows: &[&[f32]]) -> bool {
        let rows = rows.iter().enumerate().map(|(i, row)| NewRow {
            key: key_of(first + i),
            vector: row.to_vec(),
            metadata: Metadata::new(),
        });
        let written = self.table().upsert_many(rows.collect());
        written.expect("a durable batch");
        true
    }
}
