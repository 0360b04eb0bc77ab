//! The seed's contract: programs written against its names and signatures find them here, and
//! they do what its documentation says.

mod common;

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use common::backend::SixMethods;
use common::stores::{error_of, no_metadata};
use vecstash::distance::Distance;
use vecstash::encoding::{Codec, EncodedVector, Encoder, EncodingError};
use vecstash::index::{HnswParams, NodeId, SearchResult};
use vecstash::storage::{
    Backend, MemoryBackend, RowKey, RowVisitor, StoreError, TableSchema, TableStats, VectorRow,
    VectorStore,
};

/// A schema by its five fields.
fn photos(dim: u16) -> TableSchema {
    TableSchema {
        name: String::from("photos"),
        dim,
        codec: Codec::Int8Quantized,
        distance: Distance::Euclidean,
        hnsw: HnswParams::default(),
    }
}

/// Both ways to come by a store, and a backend of the caller's own.
fn every_store() -> Vec<VectorStore> {
    vec![
        VectorStore::in_memory(),
        VectorStore::open(Arc::new(MemoryBackend::new())).unwrap(),
        VectorStore::open(Arc::new(SixMethods::default())).unwrap(),
    ]
}

#[test]
fn a_created_table_is_listed_and_its_name_is_taken() {
    for store in every_store() {
        assert!(store.tables().is_empty());
        let () = store.create_table(photos(7)).unwrap();
        assert_eq!(store.tables(), [photos(7)]);
        let again = error_of(store.create_table(photos(9)));
        assert!(matches!(again, StoreError::TableExists(name) if name == "photos"));
        assert_eq!(store.tables()[0].dim, 7, "the first one stays");
    }
}

#[test]
fn a_row_goes_in_comes_out_and_leaves() {
    for store in every_store() {
        store.create_table(photos(4)).unwrap();
        let key: RowKey = b"beach".to_vec();
        let note = HashMap::from([("year".to_string(), serde_json::json!(1999))]);
        let vector = [0.5f32, -1.0, 2.0, 0.0];
        store
            .upsert("photos", key.clone(), &vector, note.clone())
            .unwrap();
        let row: VectorRow = store.get("photos", &key).unwrap().expect("just written");
        assert_eq!((&row.key, &row.metadata), (&key, &note));
        assert_eq!(
            (row.vector.codec, row.vector.dim),
            (Codec::Int8Quantized, 4)
        );
        assert!(row.created_at > 0 && row.created_at <= row.updated_at);
        let decoded = Codec::Int8Quantized.encoder().decode(&row.vector).unwrap();
        for (a, b) in vector.iter().zip(&decoded) {
            assert!((a - b).abs() <= 3.0 / 2_040.0 + 1e-6);
        }
        assert!(store.delete("photos", &key).unwrap());
        assert_eq!(store.get("photos", &key).unwrap(), None);
        assert!(!store.delete("photos", &key).unwrap(), "it is gone already");
    }
}

#[test]
fn an_upsert_replaces_the_row_of_its_key() {
    for store in every_store() {
        store.create_table(photos(2)).unwrap();
        for x in 0..5 {
            let vector = [x as f32, 1.0];
            store
                .upsert("photos", b"only".to_vec(), &vector, no_metadata())
                .unwrap();
        }
        assert_eq!(store.stats("photos").unwrap().live_rows, 1);
        let found = store.search("photos", &[0.0, 1.0], 9, None).unwrap();
        assert_eq!(found.len(), 1);
        assert!((found[0].1 - 4.0).abs() < 0.01);
    }
}

#[test]
fn wrong_lengths_and_unknown_tables_are_told() {
    for store in every_store() {
        store.create_table(photos(4)).unwrap();
        for wrong in [0usize, 3, 5] {
            let vector = vec![1.0; wrong];
            for error in [
                error_of(store.upsert("photos", b"a".to_vec(), &vector, no_metadata())),
                error_of(store.search("photos", &vector, 1, None)),
            ] {
                match error {
                    StoreError::DimensionMismatch {
                        table,
                        expected,
                        got,
                    } => {
                        assert_eq!((table.as_str(), expected, got), ("photos", 4, wrong));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        for error in [
            error_of(store.upsert("films", b"a".to_vec(), &[1.0; 4], no_metadata())),
            error_of(store.get("films", b"a")),
            error_of(store.delete("films", b"a")),
            error_of(store.search("films", &[1.0; 4], 1, None)),
            error_of(store.stats("films")),
        ] {
            assert!(matches!(error, StoreError::UnknownTable(name) if name == "films"));
        }
    }
}

#[test]
fn the_nearest_come_first_by_every_distance() {
    let rows: [(&[u8], [f32; 2]); 4] = [
        (b"east", [3.0, 0.0]),
        (b"north", [0.0, 1.0]),
        (b"west", [-1.0, 0.0]),
        (b"far east", [9.0, 0.5]),
    ];
    let wanted: [(Distance, [&[u8]; 4], f32); 3] = [
        (
            Distance::Euclidean,
            [b"east", b"north", b"west", b"far east"],
            1.0,
        ),
        (
            Distance::Cosine,
            [b"east", b"far east", b"north", b"west"],
            0.0,
        ),
        (
            Distance::DotProduct,
            [b"far east", b"east", b"north", b"west"],
            -18.0,
        ),
    ];
    for (distance, order, first) in wanted {
        for store in every_store() {
            store
                .create_table(TableSchema {
                    distance,
                    ..photos(2)
                })
                .unwrap();
            for (key, vector) in rows {
                store
                    .upsert("photos", key.to_vec(), &vector, no_metadata())
                    .unwrap();
            }
            let found = store.search("photos", &[2.0, 0.0], 4, None).unwrap();
            let keys: Vec<_> = found.iter().map(|(row, _)| row.key.as_slice()).collect();
            assert_eq!(keys, order, "{distance}");
            assert!(
                (found[0].1 - first).abs() < 0.05,
                "{distance}: {}",
                found[0].1
            );
            assert!(found.windows(2).all(|pair| pair[0].1 <= pair[1].1));
            let two = store.search("photos", &[2.0, 0.0], 2, Some(64)).unwrap();
            assert_eq!(two, found[..2]);
        }
    }
}

#[test]
fn a_store_opened_again_on_its_backend_has_everything() {
    let backends: [Arc<dyn Backend>; 2] = [
        Arc::new(MemoryBackend::new()),
        Arc::new(SixMethods::default()),
    ];
    for backend in backends {
        let store = VectorStore::open(backend.clone()).unwrap();
        store.create_table(photos(2)).unwrap();
        for row in 0..25u8 {
            let vector = [f32::from(row), -f32::from(row)];
            store
                .upsert("photos", vec![b'p', row], &vector, no_metadata())
                .unwrap();
        }
        store.delete("photos", &[b'p', 20]).unwrap();
        drop(store);
        let store = VectorStore::open(backend).unwrap();
        assert_eq!(store.tables(), [photos(2)]);
        let stats: TableStats = store.stats("photos").unwrap();
        assert_eq!((stats.live_rows, stats.tracked_rows), (24, 24));
        assert_eq!((stats.name.as_str(), stats.dim), ("photos", 2));
        assert_eq!(stats.codec, Codec::Int8Quantized);
        let found = store.search("photos", &[20.0, -20.0], 2, None).unwrap();
        let mut keys: Vec<_> = found.iter().map(|(row, _)| row.key.clone()).collect();
        keys.sort();
        assert_eq!(keys, [[b'p', 19], [b'p', 21]]);
    }
}

/// The memory backend by its own six methods.
#[test]
fn a_memory_backend_is_a_backend() {
    let backend = MemoryBackend::new();
    backend.put_schema(&photos(2)).unwrap();
    assert_eq!(backend.list_schemas().unwrap(), [photos(2)]);
    let row = |key: &[u8]| VectorRow {
        key: key.to_vec(),
        vector: Codec::Int8Quantized.encoder().encode(&[1.0, 2.0]).unwrap(),
        metadata: no_metadata(),
        created_at: 1,
        updated_at: 2,
    };
    backend.put_row("photos", b"a", &row(b"a")).unwrap();
    backend.put_row("photos", b"b", &row(b"b")).unwrap();
    assert_eq!(backend.get_row("photos", b"a").unwrap(), Some(row(b"a")));
    assert_eq!(backend.get_row("photos", b"c").unwrap(), None);
    let mut seen = Vec::new();
    let visitor: &mut RowVisitor<'_> = &mut |key, row| {
        assert_eq!(key, row.key);
        seen.push(key.to_vec());
        Ok(())
    };
    backend.for_each_row("photos", visitor).unwrap();
    seen.sort();
    assert_eq!(seen, [b"a", b"b"]);
    let mut calls = 0;
    let stopped = backend.for_each_row("photos", &mut |_, _| {
        calls += 1;
        Err(StoreError::Backend("enough".to_owned()))
    });
    assert!(matches!(error_of(stopped), StoreError::Backend(text) if text == "enough"));
    assert_eq!(calls, 1);
    assert!(backend.delete_row("photos", b"a").unwrap());
    assert!(!backend.delete_row("photos", b"a").unwrap());
}

#[test]
fn parameters_codecs_and_results_have_the_seeds_shapes() {
    let HnswParams {
        m,
        m0,
        ef_construction,
        ef_search,
        seed,
    } = HnswParams::default();
    assert_eq!((m, m0, ef_construction, ef_search), (16, 32, 200, 50));
    let _: (usize, u64) = (m, seed);
    let id: NodeId = 7u64;
    let result = SearchResult { id, score: 0.5 };
    assert_eq!((result.id, result.score), (7, 0.5));

    let vector = [0.25f32, -0.5, 1.0, 0.0, 3.5];
    for codec in Codec::ALL {
        let encoder: Box<dyn Encoder> = codec.encoder();
        assert_eq!(encoder.codec(), codec);
        let encoded: EncodedVector = encoder.encode(&vector).unwrap();
        let EncodedVector {
            codec: named,
            dim,
            bytes,
            params,
        } = &encoded;
        assert_eq!((*named, *dim), (codec, 5u16));
        assert_eq!(
            (bytes.len(), params.len()),
            (codec.vector_len(5), codec.params_len())
        );
        for (a, b) in vector.iter().zip(encoder.decode(&encoded).unwrap()) {
            assert!(
                (a - b).abs() <= 4.0 / 2_040.0 + 1e-6,
                "{codec}: {a} and {b}"
            );
        }
        let error: EncodingError = encoder.encode(&[f32::NAN]).unwrap_err();
        assert!(matches!(error, EncodingError::NotFinite { index: 0, .. }));
        let other = if codec == Codec::F32 {
            Codec::Fp16
        } else {
            Codec::F32
        };
        let error = other.encoder().decode(&encoded).unwrap_err();
        assert!(matches!(error, EncodingError::CodecMismatch { .. }));
        let name = serde_json::to_value(codec).unwrap();
        assert_eq!(name, codec.as_str(), "the serde name is the name");
        assert_eq!(serde_json::from_value::<Codec>(name).unwrap(), codec);
    }
    for (distance, name) in [
        (Distance::Euclidean, "euclidean"),
        (Distance::Cosine, "cosine"),
        (Distance::DotProduct, "dot_product"),
    ] {
        assert_eq!(serde_json::to_value(distance).unwrap(), name);
    }
    let schema = serde_json::to_string(&photos(3)).unwrap();
    assert_eq!(
        serde_json::from_str::<TableSchema>(&schema).unwrap(),
        photos(3)
    );
}

#[test]
fn errors_and_stores_cross_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<VectorStore>();
    shared::<StoreError>();
    shared::<vecstash::Table>();
    let boxed: Box<dyn Error + Send + Sync> = Box::new(StoreError::Backend("x".to_owned()));
    assert!(boxed.to_string().contains('x'));
}
