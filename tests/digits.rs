//! `Int8Quantized` rows without digits, from a backend of somebody's own or an older
//! file, beside rows with them.

mod common;

use common::rng::Rng;
use common::stores::TempPath;
use vecstash::storage::{Backend, Change, RedbBackend, TableKey, VectorRow};
use vecstash::{
    Codec, Distance, Durability, HnswParams, IndexKind, Metadata, OpenOptions, Return, RowId,
    SearchOptions, TableOptions, TableSchema,
};

const ROWS: usize = 3_000;
const DIM: usize = 33;

fn schema(name: &str, distance: Distance) -> TableSchema {
    TableSchema {
        name: name.to_owned(),
        dim: DIM as u16,
        codec: Codec::Int8Quantized,
        distance,
        hnsw: HnswParams::default(),
    }
}

#[test]
fn rows_without_digits_are_served_as_what_they_are() {
    let mut rng = Rng::new(7);
    let centres: Vec<Vec<f32>> = (0..40).map(|_| rng.vector(DIM)).collect();
    let vectors: Vec<Vec<f32>> = (0..ROWS)
        .map(|row| {
            let near = centres[row % 40].iter();
            near.map(|x| x + 0.1 * rng.normal()).collect()
        })
        .collect();
    for (kind, distance) in [
        (IndexKind::Hnsw, Distance::Euclidean),
        (IndexKind::Hnsw, Distance::Cosine),
        (IndexKind::Hnsw, Distance::DotProduct),
        (IndexKind::Flat, Distance::Cosine),
    ] {
        let place = TempPath::new();
        let store = place.open();
        let options = TableOptions::default().index(kind);
        store
            .create_table_with(schema("t", distance), options)
            .unwrap();
        store.close().unwrap();
        let backend = RedbBackend::open(&place.path).unwrap();
        let record = backend.list_tables().unwrap().tables.remove(0).record;
        let table = TableKey {
            id: record.id,
            name: "t".into(),
        };
        let mut changes = Vec::new();
        for (row, vector) in vectors.iter().enumerate() {
            let mut vector = Codec::Int8Quantized.encoder().encode(vector).unwrap();
            assert!(vector.bytes.len() > DIM);
            // Never the first alone, nor in step with anything.
            if row % 3 != 0 {
                vector.bytes.truncate(DIM);
            }
            changes.push(Change::Put {
                table: table.clone(),
                id: RowId::new(row as u64),
                row: VectorRow {
                    key: format!("{row:05}").into_bytes(),
                    vector,
                    metadata: Metadata::default(),
                    created_at: 1,
                    updated_at: 1,
                },
            });
        }
        changes.push(Change::ReserveRowIds {
            table,
            next: RowId::new(ROWS as u64),
        });
        backend.commit(&changes, Durability::Immediate).unwrap();
        backend.close().unwrap();

        let mut answers = Vec::new();
        for threads in [1, 2] {
            let store = place.open_with(&OpenOptions::new().threads(threads));
            assert_eq!(store.check().unwrap().problems, [""; 0]);
            let table = store.table("t").unwrap();
            let stored: Vec<Vec<f32>> = (0..ROWS)
                .map(|row| {
                    let key = format!("{row:05}").into_bytes();
                    let vector = table.get(&key).unwrap().unwrap().vector;
                    assert_eq!(vector.bytes.len() > DIM, row % 3 == 0);
                    vector.decode().unwrap()
                })
                .collect();
            for (row, centre) in (0..ROWS).step_by(250).zip(&centres) {
                let key = format!("{row:05}").into_bytes();
                let vector = &stored[row];
                let first = table.search(vector, &SearchOptions::new(1)).unwrap();
                assert!(distance == Distance::DotProduct || first[0].key == key);
                let all = SearchOptions::new(10).returning(Return::Keys);
                let exact = table.search(centre, &all.exact(true)).unwrap();
                let nearest: Vec<(usize, f64)> = nearest_of(&stored, centre, distance);
                for (hit, (row, wanted)) in exact.iter().zip(&nearest) {
                    let found = f64::from(hit.distance);
                    assert!((found - wanted).abs() <= 1e-5 * (1.0 + wanted.abs()));
                    let is_tie = (found - nearest[9].1).abs() < 1e-5;
                    let key = format!("{row:05}").into_bytes();
                    assert!(is_tie || exact.iter().any(|hit| hit.key == key), "{row}");
                }
                answers.push((threads, row, exact));
            }
        }
        let (one, two) = answers.split_at(answers.len() / 2);
        for (a, b) in one.iter().zip(two) {
            assert_eq!((a.1, &a.2), (b.1, &b.2));
        }
    }
}

/// The ten nearest of these rows by sums in double precision.
fn nearest_of(rows: &[Vec<f32>], query: &[f32], distance: Distance) -> Vec<(usize, f64)> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    let score = |row: &Vec<f32>| match distance {
        Distance::Euclidean => (dot(row, row) - 2.0 * dot(row, query) + dot(query, query)).sqrt(),
        Distance::Cosine => 1.0 - dot(row, query) / (dot(row, row) * dot(query, query)).sqrt(),
        _ => -dot(row, query),
    };
    let mut all: Vec<(usize, f64)> = rows.iter().map(score).enumerate().collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    all.truncate(10);
    all
}
