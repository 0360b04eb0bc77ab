//! redb without an index: durable rows, and a search that reads them all.

use std::path::{Path, PathBuf};
use std::time::Instant;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use vecstash::Distance;

use super::{BytesBy, Searcher};
use crate::common::{DataSet, key_of, row_of, truth};

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
/// Rows of one transaction of the build.
const BATCH: usize = 5_000;

pub(super) struct Peer {
    path: PathBuf,
    distance: Distance,
    database: Option<Database>,
}

impl Peer {
    pub(super) fn new(set: &DataSet, folder: &Path) -> Self {
        Self {
            path: folder.join("peer.redb"),
            distance: set.distance,
            database: None,
        }
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("an open database")
    }

    fn write<'a>(&self, first: usize, rows: impl Iterator<Item = &'a [f32]>) {
        let txn = self.database().begin_write().expect("a transaction");
        {
            let mut table = txn.open_table(ROWS).expect("the table");
            for (row, vector) in (first..).zip(rows) {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                let inserted = table.insert(key_of(row).as_slice(), bytes.as_slice());
                inserted.expect("a row");
            }
        }
        txn.commit().expect("a durable commit");
    }

    fn scan(&self, query: &[f32], k: usize) -> redb::Result<Vec<(usize, f32)>> {
        let txn = self.database().begin_read().expect("a transaction");
        let table = txn.open_table(ROWS).expect("the table");
        let mut nearest: Vec<(usize, f32)> = Vec::with_capacity(k + 1);
        let mut vector = Vec::with_capacity(query.len());
        for entry in table.iter()? {
            let (key, value) = entry?;
            vector.clear();
            let numbers = value.value().chunks_exact(4);
            vector.extend(numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            let distance = truth::distance(self.distance, query, &vector);
            if nearest.len() == k && nearest[k - 1].1 <= distance {
                continue;
            }
            let at = nearest.partition_point(|hit| hit.1 <= distance);
            nearest.insert(at, (row_of(key.value()), distance));
            nearest.truncate(k);
        }
        Ok(nearest)
    }
}

impl super::Peer for Peer {
    fn build(&mut self, set: &DataSet, _threads: usize) -> f64 {
        let started = Instant::now();
        self.database = Some(Database::create(&self.path).expect("a database"));
        for first in (0..set.base.len()).step_by(BATCH) {
            self.write(first, set.base.iter().skip(first).take(BATCH));
        }
        started.elapsed().as_secs_f64()
    }

    fn searcher(&self, _effort: usize) -> Searcher<'_> {
        Box::new(|query, k| self.scan(query, k).expect("a scan"))
    }

    fn has_effort(&self) -> bool {
        false
    }

    fn bytes(&self) -> BytesBy {
        let file = self.path.metadata().expect("the file");
        BytesBy::File(file.len() as usize)
    }

    fn save(&mut self) -> Option<f64> {
        Some(0.0)
    }

    fn reopen(&mut self, _set: &DataSet, _threads: usize) -> f64 {
        self.database = None;
        let started = Instant::now();
        self.database = Some(Database::open(&self.path).expect("the database"));
        started.elapsed().as_secs_f64()
    }

    fn upsert(&mut self, first: usize, rows: &[&[f32]]) -> bool {
        self.write(first, rows.iter().copied());
        true
    }
}
