//! Stores and tables as most tests want them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use vecstash::{
    Codec, Distance, HnswParams, IndexKind, Metadata, NewRow, OpenOptions, Return, SearchOptions,
    StoreError, Table, TableOptions, TableSchema, VectorStore,
};

use super::sets::Set;

/// A place for a store's file; gone when dropped.
pub struct TempPath {
    dir: TempDir,
    pub path: PathBuf,
}

impl TempPath {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("store.vecstash");
        Self { dir, path }
    }

    /// Another path in the same directory.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn open(&self) -> VectorStore {
        VectorStore::open_path(&self.path).expect("the store opens")
    }

    pub fn open_with(&self, options: &OpenOptions) -> VectorStore {
        options.open(&self.path).expect("the store opens")
    }
}

pub fn schema(name: &str, dim: u16, codec: Codec, distance: Distance) -> TableSchema {
    TableSchema {
        name: name.to_owned(),
        dim,
        codec,
        distance,
        hnsw: HnswParams::default(),
    }
}

/// Creates the table `t`.
pub fn create(
    store: &VectorStore,
    dim: u16,
    codec: Codec,
    distance: Distance,
    index: IndexKind,
) -> Table {
    store
        .create_table_with(
            schema("t", dim, codec, distance),
            TableOptions::default().index(index),
        )
        .expect("a table that fits")
}

/// The key of row number `row`: its order is the number's.
pub fn key_of(row: usize) -> Vec<u8> {
    format!("row-{row:08}").into_bytes()
}

/// The number of the row with this key.
pub fn row_of(key: &[u8]) -> usize {
    std::str::from_utf8(&key[4..])
        .expect("a key of key_of")
        .parse()
        .expect("a number")
}

pub fn no_metadata() -> Metadata {
    HashMap::new()
}

/// Metadata of one field.
pub fn metadata(name: &str, value: impl serde::Serialize) -> Metadata {
    HashMap::from([(name.to_owned(), json!(value))])
}

pub fn new_row(key: impl Into<Vec<u8>>, vector: &[f32]) -> NewRow {
    NewRow {
        key: key.into(),
        vector: vector.to_vec(),
        metadata: no_metadata(),
    }
}

/// Writes `rows[i]` under `key_of(i)`, a thousand rows a transaction.
pub fn fill(table: &Table, rows: &[Vec<f32>]) {
    let numbers: Vec<usize> = (0..rows.len()).collect();
    fill_some(table, rows, &numbers);
}

/// Writes those rows whose numbers are given.
pub fn fill_some(table: &Table, rows: &[Vec<f32>], numbers: &[usize]) {
    for chunk in numbers.chunks(1000) {
        let batch = chunk
            .iter()
            .map(|&row| new_row(key_of(row), &rows[row]))
            .collect();
        table.upsert_many(batch).expect("rows that fit");
    }
}

/// Deletes those rows whose numbers are given; all of them must be there.
pub fn remove_some(table: &Table, numbers: &[usize]) {
    for chunk in numbers.chunks(1000) {
        let keys: Vec<_> = chunk.iter().map(|&row| key_of(row)).collect();
        assert_eq!(table.delete_many(&keys).expect("a delete"), chunk.len());
    }
}

/// Key and bits of the distance of every hit of every query.
pub type Answers = Vec<Vec<(Vec<u8>, u32)>>;

pub fn answers(table: &Table, queries: &[Vec<f32>], options: &SearchOptions) -> Answers {
    let options = options.clone().returning(Return::Keys);
    queries
        .iter()
        .map(|query| {
            table
                .search(query, &options)
                .expect("a search")
                .into_iter()
                .map(|hit| (hit.key, hit.distance.to_bits()))
                .collect()
        })
        .collect()
}

/// Mean recall@k of `answers` to the queries of `set`.
pub fn recall(set: &Set, answers: &Answers, k: usize) -> f64 {
    assert_eq!(answers.len(), set.queries.len());
    let sum: f64 = answers
        .iter()
        .enumerate()
        .map(|(query, hits)| {
            let rows: Vec<_> = hits.iter().map(|(key, _)| row_of(key)).collect();
            set.recall_by_distance(query, &rows, k)
        })
        .sum();
    sum / answers.len() as f64
}

/// What part of the hits of `a` are among those of `b`. Fails when a hit of both has two
/// distances.
pub fn common_part(a: &Answers, b: &Answers) -> f64 {
    assert_eq!(a.len(), b.len());
    let (mut all, mut common) = (0, 0);
    for (query, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!(a.len(), b.len(), "query {query}: number of hits");
        all += a.len();
        for (key, bits) in a {
            if let Some((_, other)) = b.iter().find(|(found, _)| found == key) {
                common += 1;
                let (x, y) = (f32::from_bits(*bits), f32::from_bits(*other));
                assert_eq!(bits, other, "query {query}, {key:?}: {x:e} and {y:e}");
            }
        }
    }
    assert!(all > 0, "nothing to compare");
    f64::from(common) / all as f64
}

/// Fails with everything that `check` found.
pub fn assert_clean(table: &Table) {
    let report = table.check().expect("a check");
    assert!(report.is_clean(), "{:#?}", report.problems);
}

/// The error of a call that must fail.
pub fn error_of<T>(result: Result<T, StoreError>) -> StoreError {
    match result {
        Err(error) => error,
        Ok(_) => panic!("this had to be refused"),
    }
}

/// The bytes of a file.
pub fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a file")
}
