//! Which threads a store starts: as many as it was given, and no others.

#![cfg(target_os = "linux")]

use vecstash::encoding::Codec;
use vecstash::{Distance, HnswParams, Metadata, NewRow, OpenOptions, TableSchema};

fn vector(row: usize) -> Vec<f32> {
    let place = |i: usize| (row * 31 + i * 17) as f32 * 0.37;
    (0..24)
        .map(|i| place(i).sin() + (row % 13) as f32)
        .collect()
}

fn key(row: usize) -> Vec<u8> {
    format!("row {row}").into_bytes()
}

/// Names of the threads there are now.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap()
    };
    tasks.map(name).collect()
}

/// The only test of its binary: others would bring threads of their own.
#[test]
fn single_rows_start_no_threads_beside_the_stores_own() {
    let others = threads().len();
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions::new().threads(1);
    let store = options
        .open(folder.path().join("threads.vecstash"))
        .unwrap();
    let schema = TableSchema {
        name: "t".into(),
        dim: 24,
        codec: Codec::Int8Quantized,
        distance: Distance::Euclidean,
        hnsw: HnswParams::default(),
    };
    store.create_table(schema).unwrap();
    let table = store.table("t").unwrap();
    let rows = 3_000;
    let all = (0..rows).map(|row| NewRow {
        key: key(row),
        vector: vector(row),
        metadata: Metadata::default(),
    });
    table.upsert_many(all.collect()).unwrap();
    let before = threads();
    let own = |name: &&String| name.starts_with("vecstash");
    assert_eq!(before.len() - before.iter().filter(own).count(), others);
    // Enough overwrites for sweeps, and enough new keys for a proof.
    for row in 0..700 {
        let (key, vector) = (key(row * 7 % 3_500), vector(rows + row));
        table.upsert(key, &vector, Metadata::default()).unwrap();
    }
    assert_eq!(threads().len(), before.len());
    assert!(store.check().unwrap().problems.is_empty());
}
