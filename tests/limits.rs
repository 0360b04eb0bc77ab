//! Proves that every argument beyond a limit is refused by a typed error that names the value, the
//! limit and the remedy, with nothing changed, and that what is accepted survives a reopen.

mod common_fault;

use std::path::Path;

use common_fault::{Rng, Seen, difference, observe, schema};
use proptest::prelude::*;
use serde_json::{Value, json};
use vecstash::{
    Codec, Distance, HnswParams, IndexKind, Metadata, NewRow, OpenOptions, Return, SearchOptions,
    StoreError, TableOptions, VectorStore, WriteBatch, limits,
};

const DISTANCES: [Distance; 3] = [Distance::Euclidean, Distance::Cosine, Distance::DotProduct];

/// Everything a refused call must leave as it was.
fn snapshot(store: &VectorStore, path: &Path) -> (Seen, Vec<String>, Vec<u8>) {
    let seen = observe(store).expect("observe");
    let stats = seen
        .keys()
        .map(|name| {
            let stats = store.stats(name).expect("stats");
            format!(
                "{name}: {} live, {} tracked, {} dead, {} distinct",
                stats.live_rows, stats.tracked_rows, stats.dead_slots, stats.distinct_vectors
            )
        })
        .collect();
    (seen, stats, std::fs::read(path).expect("read"))
}

/// The call is refused, its text holds each of `words`, and nothing has changed.
fn refused<T: std::fmt::Debug>(
    store: &VectorStore,
    path: &Path,
    what: &str,
    words: &[&str],
    call: impl FnOnce(&VectorStore) -> Result<T, StoreError>,
) -> StoreError {
    let before = snapshot(store, path);
    let error = match call(store) {
        Err(error) => error,
        Ok(value) => panic!("{what}: accepted: {value:?}"),
    };
    let after = snapshot(store, path);
    assert!(before.0 == after.0, "{what}: rows changed");
    assert_eq!(before.1, after.1, "{what}: stats changed");
    assert!(before.2 == after.2, "{what}: the file changed");
    let text = error.chain();
    for word in words {
        // 65,535 and 65535 are both fine.
        let plain = text.replace(',', "");
        assert!(
            text.contains(word) || plain.contains(&word.replace(',', "")),
            "{what}: {word:?} is not named in {text:?}"
        );
    }
    assert!(
        !matches!(
            error,
            StoreError::Storage { .. }
                | StoreError::Failed { .. }
                | StoreError::OutcomeUnknown { .. }
        ),
        "{what}: {error:?}"
    );
    error
}

fn new_store() -> (tempfile::TempDir, std::path::PathBuf, VectorStore) {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("limits.vecstash");
    let store = VectorStore::open_path(&path).expect("open");
    common_fault::fill(&store, 11, 10).expect("fill");
    (dir, path, store)
}

/// Closes, opens again, and compares.
fn survives(store: VectorStore, path: &Path) -> VectorStore {
    let before = observe(&store).expect("observe");
    store.close().expect("close");
    let store = VectorStore::open_path(path).expect("what was accepted opens for ever");
    let after = observe(&store).expect("observe");
    assert!(before == after, "what was accepted changed by a reopen");
    let report = store.check().expect("check");
    assert!(report.is_clean(), "{:?}", report.problems);
    store
}

#[test]
fn any_k_ef_and_rerank_has_a_sane_answer() {
    let (_dir, _path, store) = new_store();
    for (name, table) in observe(&store).expect("observe") {
        let query = vec![0.25; usize::from(table.schema.dim)];
        let handle = store.table(&name).expect("table");
        let rows = table.rows.len();
        for k in [0, 1, rows, rows + 1, 1 << 40, usize::MAX] {
            for ef in [None, Some(0), Some(1), Some(usize::MAX)] {
                match store.search(&name, &query, k, ef) {
                    Ok(hits) => assert_eq!(hits.len(), k.min(rows), "{name}: k {k}, ef {ef:?}"),
                    // ef may have limits of its own, said in words; k has none.
                    Err(StoreError::Limit { value, .. }) => {
                        assert_eq!(Some(value), ef.map(|ef| ef.to_string()), "{name}: k {k}");
                    }
                    Err(error) => panic!("{name}: k {k}, ef {ef:?}: {}", error.chain()),
                }
                for rerank in [0, 1, usize::MAX] {
                    for exact in [false, true] {
                        let mut options = SearchOptions::new(k).rerank(rerank).exact(exact);
                        options.ef = ef;
                        match handle.search(&query, &options) {
                            Ok(hits) => assert_eq!(hits.len(), k.min(rows), "{name}: {options:?}"),
                            Err(StoreError::Limit { .. }) => {}
                            Err(error) => panic!("{name}: {options:?}: {}", error.chain()),
                        }
                    }
                }
            }
        }
        for limit in [0, 1, usize::MAX] {
            let page = handle.scroll(None, limit, Return::Keys).expect("scroll");
            assert_eq!(
                page.rows.len(),
                limit.min(rows),
                "{name}: scroll by {limit}"
            );
        }
        let none: [&[f32]; 0] = [];
        assert!(
            handle
                .search_batch(&none, &SearchOptions::new(3))
                .expect("no queries")
                .is_empty()
        );
        let empty: [&[u8]; 0] = [];
        assert!(handle.get_many(&empty).expect("no keys").is_empty());
        assert_eq!(handle.delete_many(&empty).expect("no keys"), 0);
    }
}

#[test]
fn queries_that_cannot_be_asked() {
    let (_dir, path, store) = new_store();
    for (name, table) in observe(&store).expect("observe") {
        let dim = usize::from(table.schema.dim);
        for len in [0, dim - 1, dim + 1, 65_535, 65_536] {
            let query = vec![0.5; len];
            let words = [name.clone(), dim.to_string(), len.to_string()];
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let error = refused(&store, &path, "query length", &words, |store| {
                store.search(&name, &query, 3, None)
            });
            assert!(matches!(error, StoreError::DimensionMismatch { got, .. } if got == len));
            refused(&store, &path, "batch query length", &words, |store| {
                store
                    .table(&name)?
                    .search_batch(&[&query], &SearchOptions::new(3))
            });
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut query = vec![0.5; dim];
            query[dim - 1] = bad;
            let index = format!("coordinate {}", dim - 1);
            for exact in [false, true] {
                refused(
                    &store,
                    &path,
                    "query value",
                    &[&index, &bad.to_string()],
                    |store| {
                        let options = SearchOptions::new(3).exact(exact);
                        store.table(&name)?.search(&query, &options)
                    },
                );
            }
        }
        // Too large for a distance to stay finite: refused, or answered in order, without NaN.
        let query = vec![f32::MAX; dim];
        if let Ok(hits) = store.search(&name, &query, 3, None) {
            assert!(
                hits.iter().all(|(_, distance)| !distance.is_nan()),
                "{name}"
            );
        }
        let options = SearchOptions::new(3).max_distance(f32::NAN);
        if let Ok(hits) = store.table(&name).expect("table").search(&query, &options) {
            assert!(hits.is_empty(), "{name}: nothing is within NaN");
        }
    }
    for (what, result) in [
        ("search", store.search("absent", &[1.0], 1, None).map(drop)),
        ("get", store.get("absent", b"k").map(drop)),
        ("delete", store.delete("absent", b"k").map(drop)),
        ("stats", store.stats("absent").map(drop)),
        ("drop", store.drop_table("absent")),
        ("table", store.table("absent").map(drop)),
    ] {
        assert!(
            matches!(result, Err(StoreError::UnknownTable(name)) if name == "absent"),
            "{what}"
        );
    }
}

#[test]
fn vectors_that_cannot_be_stored() {
    let (_dir, path, store) = new_store();
    for (name, table) in observe(&store).expect("observe") {
        let dim = usize::from(table.schema.dim);
        let put = |vector: Vec<f32>, what: &str, words: &[&str]| {
            refused(&store, &path, what, words, |store| {
                store.upsert(&name, b"bad".to_vec(), &vector, Metadata::new())
            });
            // In a batch, after a good row: the good row is not written either.
            refused(&store, &path, what, words, |store| {
                let good = NewRow {
                    key: b"good".to_vec(),
                    vector: vec![0.5; dim],
                    metadata: Metadata::new(),
                };
                let bad = NewRow {
                    key: b"bad".to_vec(),
                    vector: vector.clone(),
                    metadata: Metadata::new(),
                };
                store.table(&name)?.upsert_many(vec![good, bad])
            });
        };
        for len in [0, dim - 1, dim + 1, 65_536] {
            let (dim, text) = (dim.to_string(), len.to_string());
            put(vec![0.5; len], "length", &[&name, &dim, &text]);
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for index in [0, dim - 1] {
                let mut vector = vec![0.5; dim];
                vector[index] = bad;
                let at = format!("coordinate {index}");
                put(vector, "not finite", &[&at, &bad.to_string()]);
            }
        }
        for bad in [f32::MAX, -f32::MAX, 1.1e15] {
            let mut vector = vec![0.5; dim];
            vector[1] = bad;
            put(vector, "magnitude", &["coordinate 1", &bad.to_string()]);
        }
        if table.schema.codec == Codec::Fp16 {
            for bad in [65_505.0, 65_520.0, -70_000.0f32] {
                let mut vector = vec![0.5; dim];
                vector[1] = bad;
                put(
                    vector,
                    "fp16 overflow",
                    &["coordinate 1", "65504", &bad.to_string()],
                );
            }
        }
    }
}

/// Zero vectors, subnormals and the largest magnitudes under every codec and distance: stored,
/// found, and the same after a reopen.
#[test]
fn odd_vectors_are_stored_and_found_under_every_distance() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("odd.vecstash");
    let mut store = VectorStore::open_path(&path).expect("open");
    let mut names = Vec::new();
    for codec in Codec::ALL {
        if codec.turbovec_bits().is_some() && !cfg!(feature = "turbo") {
            continue;
        }
        for distance in DISTANCES {
            let name = format!("{codec} {distance}");
            store
                .create_table(schema(&name, 8, codec, distance))
                .expect("create");
            let max = if codec == Codec::Fp16 {
                limits::FP16_MAX
            } else {
                limits::MAGNITUDE_MAX
            };
            let odd: [(&str, Vec<f32>); 7] = [
                ("zero", vec![0.0; 8]),
                ("negative zero", vec![-0.0; 8]),
                ("subnormal", vec![1e-40; 8]),
                ("least", vec![f32::from_bits(1); 8]),
                ("largest", vec![max; 8]),
                (
                    "largest, both signs",
                    vec![max, -max, max, -max, max, -max, max, -max],
                ),
                ("one far", vec![0.0, 0.0, 0.0, max, 0.0, 0.0, 0.0, 1e-30]),
            ];
            for (key, vector) in &odd {
                store
                    .upsert(&name, key.as_bytes().to_vec(), vector, Metadata::new())
                    .unwrap_or_else(|error| panic!("{name}, {key}: {}", error.chain()));
            }
            names.push((name, odd));
        }
    }
    for pass in 0..2 {
        for (name, odd) in &names {
            for (key, vector) in odd {
                let hits = store
                    .search(name, vector, 100, None)
                    .unwrap_or_else(|error| panic!("{name}, {key}: {}", error.chain()));
                assert_eq!(hits.len(), odd.len(), "{name}, {key}, pass {pass}");
                for (row, distance) in &hits {
                    assert!(!distance.is_nan(), "{name}: {key} to {:?} is NaN", row.key);
                    if name.contains("cosine") && *key == "zero" {
                        assert_eq!(*distance, 1.0, "{name}: a zero vector is at 1 from all");
                    }
                }
                assert!(
                    hits.windows(2).all(|pair| pair[0].1 <= pair[1].1),
                    "{name}, {key}"
                );
            }
        }
        store = survives(store, &path);
    }
}

#[test]
fn dimensions_at_their_limits() {
    let (_dir, path, store) = new_store();
    refused(&store, &path, "dim 0", &["dim", "0", "65535"], |store| {
        store.create_table(schema("none", 0, Codec::F32, Distance::Euclidean))
    });
    for (i, distance) in DISTANCES.into_iter().enumerate() {
        let name = format!("wide {i}");
        store
            .create_table(schema(&name, 65_535, Codec::Int8Quantized, distance))
            .expect("65,535 coordinates");
        let vector = Rng::new(i as u64).vector(65_535);
        store
            .upsert(&name, b"wide".to_vec(), &vector, Metadata::new())
            .expect("upsert");
        refused(&store, &path, "65,536", &["65535", "65536"], |store| {
            store.upsert(
                &name,
                b"wider".to_vec(),
                &vec![0.5; 65_536],
                Metadata::new(),
            )
        });
        let hits = store.search(&name, &vector, 5, None).expect("search");
        assert_eq!(hits.len(), 1);
        assert!(hits[0].1.is_finite());
    }
    if cfg!(feature = "turbo") {
        for (distance, max) in [(Distance::Euclidean, 16_383u16), (Distance::Cosine, 16_384)] {
            let (over, limit) = ((max + 1).to_string(), max.to_string());
            refused(
                &store,
                &path,
                "turbo dim",
                &["dim", &over, &limit],
                |store| store.create_table(schema("t", max + 1, Codec::Turbovec4Bit, distance)),
            );
            refused(
                &store,
                &path,
                "turbo dim",
                &["dim", "65535", &limit],
                |store| store.create_table(schema("t", 65_535, Codec::Turbovec2Bit, distance)),
            );
        }
    }
    survives(store, &path);
}

#[test]
fn schemas_that_no_table_can_have() {
    let (_dir, path, store) = new_store();
    let base = HnswParams::default();
    let nonsense: [(&str, &str, HnswParams); 10] = [
        ("hnsw.m", "0", HnswParams { m: 0, ..base }),
        ("hnsw.m", "1", HnswParams { m: 1, ..base }),
        (
            "hnsw.m",
            "257",
            HnswParams {
                m: 257,
                m0: 257,
                ..base
            },
        ),
        (
            "hnsw.m",
            "18446744073709551615",
            HnswParams {
                m: usize::MAX,
                ..base
            },
        ),
        ("hnsw.m0", "15", HnswParams { m0: 15, ..base }),
        ("hnsw.m0", "257", HnswParams { m0: 257, ..base }),
        (
            "hnsw.ef_construction",
            "0",
            HnswParams {
                ef_construction: 0,
                ..base
            },
        ),
        (
            "hnsw.ef_construction",
            "10001",
            HnswParams {
                ef_construction: 10_001,
                ..base
            },
        ),
        (
            "hnsw.ef_search",
            "0",
            HnswParams {
                ef_search: 0,
                ..base
            },
        ),
        (
            "hnsw.ef_search",
            "18446744073709551615",
            HnswParams {
                ef_search: usize::MAX,
                ..base
            },
        ),
    ];
    for (what, value, hnsw) in nonsense {
        for codec in [Codec::F32, Codec::Int8Quantized] {
            let mut bad = schema("bad", 4, codec, Distance::Cosine);
            bad.hnsw = hnsw;
            refused(&store, &path, what, &[what, value, "bad"], |store| {
                store.create_table(bad)
            });
        }
    }
    for (codec, index) in [
        (Codec::F32, IndexKind::Turbo),
        (Codec::Int8Quantized, IndexKind::Turbo),
        (Codec::Turbovec4Bit, IndexKind::Hnsw),
        (Codec::Turbovec2Bit, IndexKind::Flat),
    ] {
        refused(
            &store,
            &path,
            "codec and index",
            &["bad", codec.as_str()],
            |store| {
                let options = TableOptions::default().index(index);
                store
                    .create_table_with(schema("bad", 4, codec, Distance::Cosine), options)
                    .map(drop)
            },
        );
    }
    let error = refused(&store, &path, "a name twice", &["flat"], |store| {
        store.create_table(schema("flat", 9, Codec::F32, Distance::Cosine))
    });
    assert!(matches!(error, StoreError::TableExists(_)));
}

#[test]
fn table_names() {
    let (_dir, path, store) = new_store();
    let long = "x".repeat(256);
    let wide = "\u{e9}".repeat(128); // 256 bytes in 128 characters
    let huge = "y".repeat(1 << 20);
    let bad = [
        "",
        "\0",
        "a\0b",
        "line\nbreak",
        "\u{7f}",
        "tab\t",
        long.as_str(),
        wide.as_str(),
        huge.as_str(),
    ];
    for name in bad {
        let error = refused(&store, &path, "name", &["255"], |store| {
            store.create_table(schema(name, 2, Codec::F32, Distance::Euclidean))
        });
        assert!(
            matches!(error, StoreError::InvalidTableName { .. }),
            "{error:?}"
        );
        assert!(
            error.to_string().len() < 1_000,
            "the name is cut in the message"
        );
        assert!(store.table(name).is_err());
    }
    let longest = "x".repeat(255);
    let good = [
        "__meta",
        "meta",
        "schemas",
        "rows/2",
        "payloads/1",
        "links/1",
        "..",
        "/etc/passwd",
        "\u{65e5}\u{672c}\u{8a9e}",
        "\u{1f980}",
        "e\u{301}",
        "\u{e9}",
        " ",
        "'; drop table x",
        longest.as_str(),
    ];
    for (i, name) in good.into_iter().enumerate() {
        store
            .create_table(schema(name, 2, Codec::F32, Distance::Euclidean))
            .unwrap_or_else(|error| panic!("{name:?}: {}", error.chain()));
        store
            .upsert(name, vec![1], &[i as f32, 1.0], Metadata::new())
            .expect("upsert");
    }
    let store = survives(store, &path);
    for (i, name) in good.into_iter().enumerate() {
        let hits = store
            .search(name, &[i as f32, 1.0], 5, None)
            .expect("search");
        assert_eq!((hits.len(), hits[0].1), (1, 0.0), "{name:?}");
        store.drop_table(name).expect("drop");
    }
    survives(store, &path);
}

#[test]
fn keys() {
    let (_dir, path, store) = new_store();
    for len in [0, limits::KEY_LEN_MAX + 1, 64 << 10, 1 << 20] {
        let key = vec![b'k'; len];
        let text = len.to_string();
        let words: &[&str] = &[&text, "1024"];
        refused(&store, &path, "upsert", words, |store| {
            store.upsert("flat", key.clone(), &[1.0; 4], Metadata::new())
        });
        refused(&store, &path, "upsert_many", words, |store| {
            let row = |key: &[u8]| NewRow {
                key: key.to_vec(),
                vector: vec![1.0; 4],
                metadata: Metadata::new(),
            };
            store
                .table("flat")?
                .upsert_many(vec![row(b"good"), row(&key)])
        });
        refused(&store, &path, "write", words, |store| {
            let mut batch = WriteBatch::new();
            batch.upsert("flat", b"good".to_vec(), &[1.0; 4], Metadata::new());
            batch.upsert("flat", key.clone(), &[1.0; 4], Metadata::new());
            store.write(batch)
        });
        // A key that no row can have: an error in words, or simply not there.
        if let Ok(row) = store.get("flat", &key) {
            assert!(row.is_none());
        }
        if let Ok(was_there) = store.delete("flat", &key) {
            assert!(!was_there);
        }
    }
    for key in [
        vec![0],
        vec![0; 1_024],
        vec![255; 1_024],
        b"\r\n".to_vec(),
        vec![0xc3],
    ] {
        store
            .upsert("flat", key.clone(), &[2.0; 4], Metadata::new())
            .expect("upsert");
        assert_eq!(
            store.get("flat", &key).expect("get").expect("there").key,
            key
        );
    }
    survives(store, &path);
}

fn nested(depth: usize) -> Metadata {
    // The row's own object is the first level.
    let mut value = json!(1);
    for level in 1..depth {
        value = if level % 2 == 0 {
            json!({ "n": value })
        } else {
            json!([value])
        };
    }
    Metadata::from([("n".to_string(), value)])
}

#[test]
fn metadata_depth_and_size() {
    let (_dir, path, store) = new_store();
    for depth in [101, 128, 200] {
        for codec in ["flat", "int8"] {
            let dim = if codec == "flat" { 4 } else { 8 };
            refused(&store, &path, "depth", &["100"], |store| {
                store.upsert(codec, b"deep".to_vec(), &vec![1.0; dim], nested(depth))
            });
        }
        refused(&store, &path, "depth", &["100"], |store| {
            store
                .table("flat")?
                .set_metadata(b"row 0000", nested(depth))
        });
    }
    store
        .upsert("flat", b"deep".to_vec(), &[1.0; 4], nested(100))
        .expect("depth 100");
    let text = |len: usize| Metadata::from([("t".to_string(), json!("z".repeat(len)))]);
    let limit = limits::METADATA_LEN_MAX.to_string();
    for len in [
        limits::METADATA_LEN_MAX,
        limits::METADATA_LEN_MAX + 1,
        5 << 20,
    ] {
        refused(&store, &path, "size", &[&limit], |store| {
            store.upsert("flat", b"big".to_vec(), &[1.0; 4], text(len))
        });
    }
    // {"t":"..."} takes eight bytes beside the text.
    for len in [limits::METADATA_LEN_MAX - 8, 500, 504, 505, 512, 513, 4_096] {
        let key = format!("big {len}").into_bytes();
        store
            .upsert("flat", key, &[1.0; 4], text(len))
            .unwrap_or_else(|error| panic!("{len}: {}", error.chain()));
    }
    let odd = Metadata::from([
        (String::new(), json!(null)),
        ("\0".to_string(), json!("\u{0}\u{ffff}\u{1f980}\"\\")),
        (
            "numbers".to_string(),
            json!([u64::MAX, i64::MIN, 0.1, 1e300, 5e-324, -0.0]),
        ),
    ]);
    store
        .upsert("flat", b"odd".to_vec(), &[1.0; 4], odd.clone())
        .expect("odd metadata");
    refused(&store, &path, "no such row", &["flat", "nobody"], |store| {
        store
            .table("flat")?
            .set_metadata(b"nobody", Metadata::new())
    });
    let store = survives(store, &path);
    let row = store.get("flat", b"odd").expect("get").expect("there");
    assert_eq!(row.metadata, odd);
}

#[test]
fn batches_beyond_the_limit() {
    let (_dir, path, store) = new_store();
    let limit = limits::BATCH_LEN_MAX.to_string();
    let over = (limits::BATCH_LEN_MAX + 1).to_string();
    // Rows without keys and vectors allocate nothing; the length is checked before them.
    refused(&store, &path, "upsert_many", &[&limit, &over], |store| {
        let empty = NewRow {
            key: Vec::new(),
            vector: Vec::new(),
            metadata: Metadata::new(),
        };
        store
            .table("flat")?
            .upsert_many(vec![empty; limits::BATCH_LEN_MAX + 1])
    });
    refused(&store, &path, "delete_many", &[&limit, &over], |store| {
        let keys: Vec<&[u8]> = vec![b"row 0000"; limits::BATCH_LEN_MAX + 1];
        store.table("flat")?.delete_many(&keys)
    });
    refused(&store, &path, "write", &[], |store| {
        let mut batch = WriteBatch::new();
        batch.upsert("flat", b"new".to_vec(), &[1.0; 4], Metadata::new());
        batch.delete("absent", b"k".to_vec());
        store.write(batch)
    });
    let outcome = store.write(WriteBatch::new()).expect("an empty batch");
    assert_eq!(outcome, Default::default());
    assert_eq!(
        store
            .table("flat")
            .expect("table")
            .upsert_many(Vec::new())
            .expect("no rows"),
        Default::default()
    );
}

#[test]
fn a_read_only_store_refuses_every_write() {
    let (_dir, path, store) = new_store();
    store.close().expect("close");
    let before = std::fs::read(&path).expect("read");
    let store = OpenOptions::new()
        .read_only(true)
        .open(&path)
        .expect("read-only");
    let results = [
        (
            "upsert",
            store.upsert("flat", vec![1], &[1.0; 4], Metadata::new()),
        ),
        ("delete", store.delete("flat", b"row 0000").map(drop)),
        (
            "create",
            store.create_table(schema("new", 2, Codec::F32, Distance::Cosine)),
        ),
        ("drop", store.drop_table("flat")),
        (
            "set_metadata",
            store
                .table("flat")
                .expect("table")
                .set_metadata(b"row 0000", Metadata::new()),
        ),
    ];
    for (what, result) in results {
        assert!(
            matches!(result, Err(StoreError::ReadOnly)),
            "{what}: {result:?}"
        );
    }
    match store.search("flat", &[1.0; 4], 3, None) {
        Err(StoreError::NoIndex { table }) => assert_eq!(table, "flat"),
        other => panic!("search without an index: {other:?}"),
    }
    drop(store);
    assert!(
        std::fs::read(&path).expect("read") == before,
        "a read-only open changed the file"
    );
}

// ---------------------------------------------------------------------------------------------
// Row 16: rejected before the write, or works for ever

fn coordinates() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -10.0f32..10.0,
        2 => any::<u32>().prop_map(f32::from_bits),
        1 => prop::sample::select(vec![0.0, -0.0, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e15, 65_504.0, 65_519.0]),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

type Arbitrary = (usize, Vec<u8>, Vec<f32>, Metadata);

fn arbitrary_row() -> impl Strategy<Value = Arbitrary> {
    (
        0usize..4,
        prop_oneof![
            8 => prop::collection::vec(any::<u8>(), 0..12),
            1 => prop::collection::vec(any::<u8>(), 1_000..1_050),
        ],
        prop_oneof![
            2 => prop::collection::vec(-1.0f32..1.0, 8),
            4 => prop::collection::vec(coordinates(), 8),
            1 => prop::collection::vec(coordinates(), 0..12),
        ],
        prop::collection::hash_map(".{0,10}", any_json(), 0..4),
    )
}

fn accepted_or_refused(rows: &[Arbitrary]) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("any.vecstash");
    let store = VectorStore::open_path(&path).expect("open");
    let last = if cfg!(feature = "turbo") {
        Codec::Turbovec4Bit
    } else {
        Codec::F32
    };
    let tables = [
        ("a", Codec::F32, Distance::Euclidean),
        ("b", Codec::Int8Quantized, Distance::Cosine),
        ("c", Codec::Fp16, Distance::DotProduct),
        ("d", last, Distance::Euclidean),
    ];
    let mut want = common_fault::State::new();
    for (name, codec, distance) in tables {
        let op =
            common_fault::Op::Create(schema(name, 8, codec, distance), TableOptions::default());
        op.run(&store).expect("create");
        op.apply(&mut want);
    }
    for (table, key, vector, metadata) in rows {
        let row = NewRow {
            key: key.clone(),
            vector: vector.clone(),
            metadata: metadata.clone(),
        };
        let op = common_fault::Op::Upsert(tables[*table].0.to_string(), row);
        match op.run(&store) {
            Ok(()) => op.apply(&mut want),
            Err(
                StoreError::Encoding(_)
                | StoreError::DimensionMismatch { .. }
                | StoreError::Limit { .. },
            ) => {}
            Err(error) => return Err(TestCaseError::fail(error.chain())),
        }
    }
    let model = common_fault::Model {
        acked: want,
        in_flight: None,
    };
    let seen = observe(&store).expect("observe");
    prop_assert_eq!(
        difference(&common_fault::as_state(&seen), &model.acked),
        None
    );
    store.close().expect("close");
    let store = VectorStore::open_path(&path)
        .map_err(|error| TestCaseError::fail(format!("reopen: {}", error.chain())))?;
    let again = observe(&store).expect("observe");
    prop_assert!(again == seen, "a reopen changed what was accepted");
    let report = store.check().expect("check");
    prop_assert!(report.is_clean(), "{:?}", report.problems);
    for (name, table) in &again {
        for (key, row) in table.rows.iter().step_by(3) {
            let query = row
                .vector
                .codec
                .encoder()
                .decode(&row.vector)
                .expect("decodes");
            let hits = store
                .search(name, &query, usize::MAX, None)
                .expect("search");
            prop_assert_eq!(hits.len(), table.rows.len(), "{} {:?}", name, key);
            prop_assert!(hits.iter().all(|hit| !hit.1.is_nan()));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_rows_are_refused_or_work_for_ever(rows in prop::collection::vec(arbitrary_row(), 1..40)) {
        accepted_or_refused(&rows)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "100,000 rows; cargo test --release --all-features -- --ignored crash_full"]
    fn crash_full_arbitrary_rows(rows in prop::collection::vec(arbitrary_row(), 40..41)) {
        accepted_or_refused(&rows)?;
    }
}

/// Row ids are counted, never chosen by a caller of a store. Whoever writes to a backend may choose
/// them, but none that an open refuses; those near their end must neither panic it nor make rows
/// that the next open refuses.
#[test]
fn row_ids_near_their_end() {
    use vecstash::limits::ROW_ID_END;
    use vecstash::{Backend, Change, Durability, RedbBackend, RowId, TableSchema};

    let dir = tempfile::tempdir().expect("tempdir");
    for (promised, accepted) in [
        (u64::MAX, false),
        (ROW_ID_END + 1, false),
        (ROW_ID_END, true),
        (ROW_ID_END - 10, true),
    ] {
        let path = dir.path().join(format!("{promised}.vecstash"));
        let store = VectorStore::open_path(&path).expect("open");
        let schema = TableSchema {
            name: "t".to_owned(),
            dim: 2,
            codec: Codec::F32,
            distance: Distance::Euclidean,
            hnsw: HnswParams::default(),
        };
        store.create_table(schema).expect("create");
        store.close().expect("close");
        let backend = RedbBackend::open(&path).expect("backend");
        let table = backend.list_tables().expect("tables").tables.remove(0);
        let change = Change::ReserveRowIds {
            table: vecstash::TableKey {
                id: table.record.id,
                name: "t".into(),
            },
            next: RowId::new(promised),
        };
        let committed = backend.commit(&[change], Durability::Immediate);
        match committed {
            Ok(()) => assert!(accepted, "{promised}"),
            Err(StoreError::Limit { what: "row id", .. }) => assert!(!accepted, "{promised}"),
            Err(other) => panic!("{promised}: {other:?}"),
        }
        backend.close().expect("close");

        for _ in 0..2 {
            let store = VectorStore::open_path(&path).expect("open");
            let written = store.upsert("t", b"k".to_vec(), &[1.0, 2.0], Default::default());
            let refused = matches!(written, Err(StoreError::Limit { what: "row id", .. }));
            assert_eq!(refused, accepted, "{promised}: {written:?}");
            store.close().expect("close");
        }
    }
}

#[test]
fn threads_are_bounded() {
    let dir = tempfile::tempdir().expect("tempdir");
    let options = OpenOptions::new().threads(usize::MAX);
    let store = options.open(dir.path().join("t.vecstash")).expect("open");
    assert_eq!(store.open_report().threads, vecstash::limits::THREADS_MAX);
}
