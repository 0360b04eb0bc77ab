//! The twelve weaknesses of the seed, each with the test that keeps it out of this crate.

mod common;

use std::collections::HashSet;
use std::error::Error;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::backend::SixMethods;
use common::rng::Rng;
use common::sets::{Set, true_distance};
use common::stores::{
    TempPath, answers, assert_clean, common_part, create, error_of, fill, fill_some, key_of,
    metadata, new_row, no_metadata, recall, remove_some, schema,
};
use serde_json::json;
use vecstash::Codec::{self, F32, Fp16, Int8Quantized};
use vecstash::Distance::{Cosine, DotProduct, Euclidean};
use vecstash::{
    EncodingError, HnswParams, IndexKind, Metadata, OpenOptions, Return, SearchOptions, StoreError,
    TableOptions, VectorStore, limits,
};

/// Generous: it ends a test that would hang, and measures nothing.
const HANG: Duration = Duration::from_secs(60);

fn nested(depth: usize) -> Metadata {
    let value = (1..depth).fold(json!(1), |inner, _| json!([inner]));
    metadata("deep", value)
}

#[test]
fn w01_refused_row_never_reaches_disk() {
    let long_key = vec![b'k'; limits::KEY_LEN_MAX + 1];
    let long = "x".repeat(limits::METADATA_LEN_MAX);
    let refused: [(&str, Vec<u8>, Vec<f32>, Metadata); 10] = [
        (
            "NaN",
            b"a".to_vec(),
            vec![0.0, f32::NAN, 0.0],
            no_metadata(),
        ),
        (
            "infinity",
            b"a".to_vec(),
            vec![f32::INFINITY, 0.0, 0.0],
            no_metadata(),
        ),
        (
            "magnitude",
            b"a".to_vec(),
            vec![0.0, 0.0, -2e15],
            no_metadata(),
        ),
        ("short", b"a".to_vec(), vec![0.0, 1.0], no_metadata()),
        ("long", b"a".to_vec(), vec![0.0; 4], no_metadata()),
        ("empty", b"a".to_vec(), vec![], no_metadata()),
        ("empty key", vec![], vec![1.0; 3], no_metadata()),
        ("long key", long_key, vec![1.0; 3], no_metadata()),
        (
            "deep metadata",
            b"a".to_vec(),
            vec![1.0; 3],
            nested(limits::METADATA_DEPTH_MAX + 1),
        ),
        (
            "large metadata",
            b"a".to_vec(),
            vec![1.0; 3],
            metadata("x", long),
        ),
    ];
    for (codec, index) in [
        (Int8Quantized, IndexKind::Hnsw),
        (Fp16, IndexKind::Hnsw),
        (F32, IndexKind::Flat),
        #[cfg(feature = "turbo")]
        (Codec::Turbovec4Bit, IndexKind::Turbo),
    ] {
        for distance in [Euclidean, Cosine, DotProduct] {
            let place = TempPath::new();
            let store = place.open();
            let table = create(&store, 3, codec, distance, index);
            table
                .upsert(*b"good", &[1.0, 2.0, 3.0], no_metadata())
                .unwrap();
            for (what, key, vector, note) in &refused {
                let error = error_of(table.upsert(key.clone(), vector, note.clone()));
                assert!(
                    matches!(
                        error,
                        StoreError::Encoding(_)
                            | StoreError::DimensionMismatch { .. }
                            | StoreError::Limit { .. }
                    ),
                    "{what}: {error:?}"
                );
                // In a batch it takes the good rows around it along.
                let mut bad = new_row(key.clone(), vector);
                bad.metadata = note.clone();
                let batch = vec![new_row(*b"x", &[1.0; 3]), bad, new_row(*b"y", &[1.0; 3])];
                error_of(table.upsert_many(batch));
                assert_eq!(table.count().unwrap(), 1, "{what}");
            }
            error_of(table.set_metadata(b"good", nested(limits::METADATA_DEPTH_MAX + 1)));
            assert_clean(&table);
            drop(table);
            store.close().unwrap();

            let table = place.open().table("t").unwrap();
            assert_eq!(table.count().unwrap(), 1);
            assert!(table.get(b"good").unwrap().unwrap().metadata.is_empty());
            assert!(table.get(b"a").unwrap().is_none());
            assert_clean(&table);
        }
    }
}

/// The limits themselves are allowed.
#[test]
fn w01_what_is_just_allowed_survives_a_reopen() {
    let place = TempPath::new();
    let store = place.open();
    let table = create(&store, 3, F32, Euclidean, IndexKind::Auto);
    let key = vec![b'k'; limits::KEY_LEN_MAX];
    let vector = [
        limits::MAGNITUDE_MAX,
        -limits::MAGNITUDE_MAX,
        f32::MIN_POSITIVE,
    ];
    let note = nested(limits::METADATA_DEPTH_MAX);
    table.upsert(key.clone(), &vector, note.clone()).unwrap();
    drop(table);
    store.close().unwrap();
    let row = place.open().get("t", &key).unwrap().unwrap();
    assert_eq!(row.vector.decode().unwrap(), vector);
    assert_eq!(row.metadata, note);
}

#[test]
#[cfg(feature = "turbo")]
fn w02_euclidean_turbo_ranks_by_true_distance() {
    for codec in [
        Codec::Turbovec2Bit,
        Codec::Turbovec3Bit,
        Codec::Turbovec4Bit,
    ] {
        let store = VectorStore::in_memory();
        let table = create(&store, 16, codec, Euclidean, IndexKind::Turbo);
        // All on one ray: an angle tells none of them apart.
        let ray: Vec<f32> = (1..=16).map(|x| x as f32 / 8.0).collect();
        let at = |length: f32| -> Vec<f32> { ray.iter().map(|x| x * length).collect() };
        let rows: Vec<_> = (0..20).map(|row| at(1.0 + row as f32)).collect();
        fill(&table, &rows);
        for (wanted, row) in rows.iter().enumerate() {
            let query = at(1.2 + wanted as f32);
            let hits = table.search(&query, &SearchOptions::new(1)).unwrap();
            assert_eq!(hits[0].key, key_of(wanted), "{codec}");
            let truth = true_distance(Euclidean, &query, row);
            assert!((f64::from(hits[0].distance) - truth).abs() <= 1e-4 * truth);
        }
    }
    // And among many rows of different norms, more than are ever re-ranked.
    let set = Set::load("glove4k", Euclidean);
    let store = VectorStore::in_memory();
    let table = create(
        &store,
        100,
        Codec::Turbovec4Bit,
        Euclidean,
        IndexKind::Turbo,
    );
    fill(&table, &set.base);
    let found = answers(&table, &set.queries, &SearchOptions::new(10));
    let reached = recall(&set, &found, 10);
    assert!(reached >= 0.98, "{reached}");
    for (query, hits) in set.queries.iter().zip(&found) {
        for (key, bits) in hits {
            let truth = true_distance(Euclidean, query, &set.base[common::stores::row_of(key)]);
            assert!((f64::from(f32::from_bits(*bits)) - truth).abs() <= 1e-4 * truth);
        }
    }
}

#[test]
fn w03_live_and_reopened_rows_have_the_same_distance() {
    for distance in [Euclidean, Cosine, DotProduct] {
        for codec in [Int8Quantized, Fp16, F32] {
            let place = TempPath::new();
            let store = place.open();
            let table = create(&store, 24, codec, distance, IndexKind::Hnsw);
            let mut rng = Rng::new(3);
            let rows: Vec<_> = (0..200).map(|_| rng.vector(24)).collect();
            let queries: Vec<_> = (0..20).map(|_| rng.vector(24)).collect();
            for (row, vector) in rows.iter().enumerate() {
                // One by one: a live insert each.
                table.upsert(key_of(row), vector, no_metadata()).unwrap();
            }
            let options = SearchOptions::new(200);
            let live = answers(&table, &queries, &options);
            drop(table);
            store.close().unwrap();
            let table = place.open().table("t").unwrap();
            let reopened = answers(&table, &queries, &options);
            assert_eq!(common_part(&live, &reopened), 1.0);
            // They are the distances to what was stored, not to what was given.
            for (query, hits) in queries.iter().zip(&reopened) {
                for (key, bits) in hits {
                    let stored = table.get(key).unwrap().unwrap().vector.decode().unwrap();
                    let truth = true_distance(distance, query, &stored);
                    let said = f64::from(f32::from_bits(*bits));
                    assert!(
                        (said - truth).abs() <= 1e-4,
                        "{distance} {codec}: {said}, {truth}"
                    );
                }
            }
        }
    }
}

#[test]
fn w04_churn_never_shortens_an_answer() {
    const ROWS: usize = 3000;
    let mut rng = Rng::new(4);
    let store = VectorStore::in_memory();
    let table = create(&store, 16, Int8Quantized, Euclidean, IndexKind::Hnsw);
    let mut rows = Vec::new();
    // Every row is overwritten four times.
    for _ in 0..5 {
        rows = rng.clustered(ROWS, 16, 50, 0.3);
        fill(&table, &rows);
    }
    let stats = table.stats().unwrap();
    assert_eq!((stats.live_rows, stats.tracked_rows), (ROWS, ROWS));
    assert!(stats.dead_slots <= ROWS, "{} dead places", stats.dead_slots);
    let full = |wanted: usize, live: &[usize]| {
        let live: HashSet<_> = live.iter().map(|&row| key_of(row)).collect();
        for &row in &[0, 7, 1234, 2999] {
            let options = SearchOptions::new(10).ef(10).returning(Return::Keys);
            let hits = table.search(&rows[row], &options).unwrap();
            let keys: HashSet<_> = hits.into_iter().map(|hit| hit.key).collect();
            assert_eq!(keys.len(), wanted);
            assert!(keys.is_subset(&live), "a deleted row was found");
        }
    };
    let mut live: Vec<usize> = (0..ROWS).collect();
    full(10, &live);
    // Then fewer and fewer are left, until k is more than there are.
    for left in [1000, 100, 10, 3] {
        let gone: Vec<_> = live.split_off(left);
        remove_some(&table, &gone);
        full(left.min(10), &live);
        assert_clean(&table);
    }
    // Room is used again: as many rows as before, not as many places again.
    fill_some(&table, &rows, &(3..ROWS).collect::<Vec<_>>());
    let again = table.stats().unwrap();
    assert_eq!(again.live_rows, ROWS);
    assert!(
        again.memory.total() <= stats.memory.total() * 2,
        "{} bytes, then {}",
        stats.memory.total(),
        again.memory.total()
    );
    assert_clean(&table);
}

/// A gate that threads wait at until it is opened.
#[derive(Default)]
struct Gate {
    /// How many have arrived, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn arrive_and_wait(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        let (_state, late) = self
            .changed
            .wait_timeout_while(state, HANG, |state| !state.1)
            .unwrap();
        assert!(!late.timed_out(), "the gate was never opened");
    }

    fn wait_for(&self, arrived: usize) -> bool {
        let state = self.state.lock().unwrap();
        let (_state, late) = self
            .changed
            .wait_timeout_while(state, HANG, |state| state.0 < arrived)
            .unwrap();
        !late.timed_out()
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

#[test]
fn w05_searches_never_wait_for_a_writer() {
    let backend = Arc::new(SixMethods::default());
    let store = VectorStore::open(backend.clone()).unwrap();
    store.create_table(schema("t", 2, F32, Euclidean)).unwrap();
    let table = store.table("t").unwrap();
    for row in 0..50 {
        let vector = [row as f32, 0.0];
        table.upsert(key_of(row), &vector, no_metadata()).unwrap();
    }
    let gate = Arc::new(Gate::default());
    let inside = gate.clone();
    backend.before_put(move || inside.arrive_and_wait());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| table.upsert(key_of(50), &[50.0, 0.0], no_metadata()));
        assert!(gate.wait_for(1), "the writer never reached the backend");
        // The writer now stands in the middle of its write, and stays there.
        let (done, answered) = std::sync::mpsc::channel();
        let reader = table.clone();
        scope.spawn(move || {
            let hits = reader.search(&[7.0, 0.0], &SearchOptions::new(3)).unwrap();
            let row = reader.get(&key_of(7)).unwrap().is_some();
            let found = reader.stats().unwrap().live_rows;
            let unseen = reader.contains(&key_of(50)).unwrap();
            done.send((hits[0].key.clone(), row, found, unseen))
                .unwrap();
        });
        let answer = answered.recv_timeout(HANG);
        gate.open();
        assert_eq!(answer, Ok((key_of(7), true, 50, false)));
        writer.join().unwrap().unwrap();
    });
    assert_eq!(table.count().unwrap(), 51);
}

#[test]
fn w05_readers_run_side_by_side() {
    let backend = Arc::new(SixMethods::default());
    let store = VectorStore::open(backend.clone()).unwrap();
    store.create_table(schema("t", 2, F32, Euclidean)).unwrap();
    let table = store.table("t").unwrap();
    table.upsert(*b"a", &[1.0, 0.0], no_metadata()).unwrap();
    let gate = Arc::new(Gate::default());
    let inside = gate.clone();
    backend.before_get(move || inside.arrive_and_wait());
    std::thread::scope(|scope| {
        // Both read the row of their hit, and neither leaves before the other is there.
        let search = || table.search(&[1.0, 0.0], &SearchOptions::new(1).returning(Return::Rows));
        let both = [scope.spawn(search), scope.spawn(search)];
        let met = gate.wait_for(2);
        gate.open();
        assert!(met, "one reader waited for the other");
        for reader in both {
            assert_eq!(reader.join().unwrap().unwrap().len(), 1);
        }
    });
}

#[test]
fn w06_codecs_save_memory() {
    const ROWS: usize = 2500;
    let mut rng = Rng::new(6);
    let rows = rng.clustered(ROWS, 384, 100, 0.5);
    let float_bytes = ROWS * 384 * 4;
    let codes = |codec: Codec, index: IndexKind| {
        let place = TempPath::new();
        let store = place.open();
        fill(&create(&store, 384, codec, Cosine, index), &rows);
        store.close().unwrap();
        place.open().stats("t").unwrap().memory.codes
    };
    let int8 = codes(Int8Quantized, IndexKind::Hnsw);
    assert!(
        int8 >= ROWS * 384 && int8 <= float_bytes / 3,
        "int8: {int8}"
    );
    let fp16 = codes(Fp16, IndexKind::Hnsw);
    assert!(
        fp16 >= ROWS * 384 && fp16 <= float_bytes * 2 / 3,
        "fp16: {fp16}"
    );
    #[cfg(feature = "turbo")]
    {
        let turbo = codes(Codec::Turbovec4Bit, IndexKind::Turbo);
        assert!(
            turbo >= ROWS * 384 / 2 && turbo <= float_bytes / 4,
            "4 bit: {turbo}"
        );
    }
}

#[test]
fn w07_fp16_refuses_what_would_become_infinity() {
    let store = VectorStore::in_memory();
    let table = create(&store, 2, Fp16, Euclidean, IndexKind::Auto);
    for value in [65_505.0, -65_505.0, 65_520.0, 1e6] {
        match error_of(table.upsert(*b"a", &[0.0, value], no_metadata())) {
            StoreError::Encoding(EncodingError::Magnitude {
                index: 1,
                value: named,
                max,
                ..
            }) => {
                assert_eq!((named, max), (value, limits::FP16_MAX));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(table.get(b"a").unwrap().is_none());
    table
        .upsert(*b"a", &[65_504.0, -65_504.0], no_metadata())
        .unwrap();
    let row = table.get(b"a").unwrap().unwrap();
    assert_eq!(row.vector.decode().unwrap(), [65_504.0, -65_504.0]);
    // A query is not stored, and may be larger.
    let hits = table.search(&[1e6, 0.0], &SearchOptions::new(1)).unwrap();
    assert!(hits[0].distance.is_finite());
}

#[test]
fn w08_lengths_beyond_16_bits_are_told_apart() {
    let store = VectorStore::in_memory();
    for dim in [1u16, 3, u16::MAX] {
        let name = format!("t{dim}");
        store
            .create_table(schema(&name, dim, Int8Quantized, Euclidean))
            .unwrap();
        // As a u16 these lengths are the dimension.
        let wrapped = vec![0.5; usize::from(dim) + 65_536];
        let table = store.table(&name).unwrap();
        let mut batch = vecstash::WriteBatch::new();
        batch.upsert(&name, *b"a", &wrapped, no_metadata());
        for error in [
            error_of(table.upsert(*b"a", &wrapped, no_metadata())),
            error_of(table.upsert_many(vec![new_row(*b"a", &wrapped)])),
            error_of(store.write(batch)),
            error_of(table.search(&wrapped, &SearchOptions::new(1))),
            error_of(table.search_batch(&[&wrapped], &SearchOptions::new(1))),
            error_of(store.search(&name, &wrapped, 1, None)),
        ] {
            match error {
                StoreError::DimensionMismatch {
                    table,
                    expected,
                    got,
                } => {
                    assert_eq!((table, expected, got), (name.clone(), dim, wrapped.len()));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(table.count().unwrap(), 0);
        let fits = vec![0.5; usize::from(dim)];
        table.upsert(*b"a", &fits, no_metadata()).unwrap();
        assert_eq!(
            table.search(&fits, &SearchOptions::new(1)).unwrap().len(),
            1
        );
    }
}

#[test]
fn w09_any_seed_is_good_and_nonsense_parameters_are_refused() {
    let set = Set::load("glove4k", Euclidean).head(2500, 40, 10);
    let measured: Vec<_> = [0, 1, u64::MAX, HnswParams::default().seed]
        .map(|seed| {
            let store = VectorStore::in_memory();
            let mut schema = schema("t", 100, Int8Quantized, Euclidean);
            schema.hnsw.seed = seed;
            store.create_table(schema).unwrap();
            let table = store.table("t").unwrap();
            fill(&table, &set.base);
            assert_clean(&table);
            let found = answers(&table, &set.queries, &SearchOptions::new(10).ef(64));
            let reached = recall(&set, &found, 10);
            assert!(reached >= 0.95, "seed {seed}: {reached}");
            table.stats().unwrap().memory.links
        })
        .into();
    // A level draw that puts every node on the top multiplies the links.
    let (least, most) = (measured.iter().min(), measured.iter().max());
    let (least, most) = (*least.unwrap() as f64, *most.unwrap() as f64);
    assert!(most <= 1.5 * least, "bytes of links by seed: {measured:?}");

    let store = VectorStore::in_memory();
    let good = HnswParams::default();
    let nonsense = [
        ("hnsw.m", HnswParams { m: 0, ..good }),
        ("hnsw.m", HnswParams { m: 1, ..good }),
        (
            "hnsw.m",
            HnswParams {
                m: 257,
                m0: 257,
                ..good
            },
        ),
        (
            "hnsw.m",
            HnswParams {
                m: usize::MAX,
                ..good
            },
        ),
        ("hnsw.m0", HnswParams { m0: 0, ..good }),
        ("hnsw.m0", HnswParams { m0: 15, ..good }),
        ("hnsw.m0", HnswParams { m0: 257, ..good }),
        (
            "hnsw.ef_construction",
            HnswParams {
                ef_construction: 0,
                ..good
            },
        ),
        (
            "hnsw.ef_construction",
            HnswParams {
                ef_construction: 10_001,
                ..good
            },
        ),
        (
            "hnsw.ef_search",
            HnswParams {
                ef_search: 0,
                ..good
            },
        ),
        (
            "hnsw.ef_search",
            HnswParams {
                ef_search: usize::MAX,
                ..good
            },
        ),
    ];
    for (field, hnsw) in nonsense {
        let mut schema = schema("t", 4, Int8Quantized, Euclidean);
        schema.hnsw = hnsw;
        match error_of(store.create_table(schema)) {
            StoreError::InvalidSchema { what, .. } => assert_eq!(what, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    let no_dim = schema("t", 0, Int8Quantized, Euclidean);
    assert!(matches!(
        error_of(store.create_table(no_dim)),
        StoreError::InvalidSchema { what: "dim", .. }
    ));
    for name in [
        "",
        "a\nb",
        "a\0b",
        &"n".repeat(limits::TABLE_NAME_LEN_MAX + 1),
    ] {
        let error = error_of(store.create_table(schema(name, 4, F32, Euclidean)));
        assert!(
            matches!(error, StoreError::InvalidTableName { .. }),
            "{error:?}"
        );
    }
    for (codec, index) in [
        (F32, IndexKind::Turbo),
        (Codec::Turbovec4Bit, IndexKind::Hnsw),
        (Codec::Turbovec2Bit, IndexKind::Flat),
    ] {
        let options = TableOptions::default().index(index);
        let error = error_of(store.create_table_with(schema("t", 4, codec, Euclidean), options));
        assert!(
            matches!(error, StoreError::InvalidSchema { .. }),
            "{error:?}"
        );
    }
    assert!(store.tables().is_empty(), "a refused table was created");
}

#[test]
fn w10_tables_can_be_dropped() {
    let place = TempPath::new();
    let store = place.open();
    for name in ["kept", "dropped"] {
        store.create_table(schema(name, 2, F32, Euclidean)).unwrap();
        store
            .upsert(name, b"a".to_vec(), &[1.0, 2.0], no_metadata())
            .unwrap();
    }
    let handle = store.table("dropped").unwrap();
    store.drop_table("dropped").unwrap();
    assert!(matches!(
        error_of(store.drop_table("dropped")),
        StoreError::UnknownTable(_)
    ));
    // A handle of before must not write into what is not there.
    assert!(matches!(
        error_of(handle.upsert(*b"b", &[1.0, 2.0], no_metadata())),
        StoreError::UnknownTable(_)
    ));
    assert!(matches!(
        error_of(handle.search(&[1.0, 2.0], &SearchOptions::new(1))),
        StoreError::UnknownTable(_)
    ));
    store.clone().close().unwrap();

    let store = place.open();
    let names: Vec<_> = store
        .tables()
        .into_iter()
        .map(|schema| schema.name)
        .collect();
    assert_eq!(names, ["kept"]);
    assert!(matches!(
        error_of(store.get("dropped", b"a")),
        StoreError::UnknownTable(_)
    ));
    assert!(store.get("kept", b"a").unwrap().is_some());
    // The name is free, also for another shape, and nothing of the old table shines through.
    store
        .create_table(schema("dropped", 5, Int8Quantized, Cosine))
        .unwrap();
    assert_eq!(store.stats("dropped").unwrap().live_rows, 0);
    assert!(store.get("dropped", b"a").unwrap().is_none());
    assert!(store.check().unwrap().is_clean());
}

#[test]
fn w11_errors_keep_their_causes_and_mean_one_thing() {
    // A cause of the operating system is there to be downcast, and told once.
    let place = TempPath::new();
    let missing = place.beside("no-such-directory").join("store.vecstash");
    let error = error_of(VectorStore::open_path(&missing));
    let mut cause = error.source();
    let mut io = None;
    while let Some(error) = cause {
        io = io.or(error.downcast_ref::<std::io::Error>());
        cause = error.source();
    }
    let io = io.unwrap_or_else(|| panic!("no std::io::Error behind {error:?}"));
    assert_eq!(io.kind(), std::io::ErrorKind::NotFound);
    assert!(
        !error.to_string().contains(&io.to_string()),
        "told twice: {}",
        error.chain()
    );
    assert!(error.chain().contains(&io.to_string()));

    // A refused vector is a cause too.
    let store = VectorStore::in_memory();
    let table = create(&store, 2, F32, Euclidean, IndexKind::Auto);
    let error = error_of(table.upsert(*b"a", &[f32::NAN, 0.0], no_metadata()));
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<EncodingError>());
    assert!(
        matches!(cause, Some(EncodingError::NotFinite { index: 0, .. })),
        "{error:?}"
    );

    // A user's own backend is quoted, and the row it refused is nowhere.
    let backend = Arc::new(SixMethods::default());
    let own = VectorStore::open(backend.clone()).unwrap();
    own.create_table(schema("t", 2, F32, Euclidean)).unwrap();
    *backend.failure.lock().unwrap() = Some("the wire broke".to_owned());
    let error = error_of(own.upsert("t", b"a".to_vec(), &[1.0, 0.0], no_metadata()));
    assert!(
        error.chain().contains("the wire broke"),
        "{}",
        error.chain()
    );

    // "Empty" is not an error: an empty table has no hits, no rows, no page.
    assert!(
        table
            .search(&[1.0, 0.0], &SearchOptions::new(5))
            .unwrap()
            .is_empty()
    );
    assert!(
        store
            .search("t", &[1.0, 0.0], 5, Some(10))
            .unwrap()
            .is_empty()
    );
    assert!(
        table
            .scroll(None, 10, Return::Rows)
            .unwrap()
            .rows
            .is_empty()
    );
    assert_eq!(table.count().unwrap(), 0);
    // What is an error says which.
    assert!(matches!(
        error_of(table.set_metadata(b"none", no_metadata())),
        StoreError::RowNotFound { table, key } if table == "t" && key == b"none"
    ));
    assert!(
        matches!(error_of(store.stats("none")), StoreError::UnknownTable(name) if name == "none")
    );
    assert!(matches!(
        error_of(store.create_table(schema("t", 2, F32, Euclidean))),
        StoreError::TableExists(name) if name == "t"
    ));
}

/// A rebuild goes in one order whatever order the rows come in, on any number of threads. (What
/// it needs in memory on the way is measured in tests/memory.rs.)
#[test]
fn w12_a_rebuild_does_not_depend_on_map_order_or_threads() {
    let set = Set::load("glove4k", Euclidean).head(2500, 40, 10);
    let mut all = Vec::new();
    for threads in [1, 2, 2] {
        // Each backend is a hash map with an order of its own.
        let backend = Arc::new(SixMethods::default());
        let store = VectorStore::open(backend.clone()).unwrap();
        store
            .create_table(schema("t", 100, Int8Quantized, Euclidean))
            .unwrap();
        for (row, vector) in set.base.iter().enumerate() {
            store
                .upsert("t", key_of(row), vector, no_metadata())
                .unwrap();
        }
        drop(store);
        let store = OpenOptions::new()
            .threads(threads)
            .open_backend(backend)
            .unwrap();
        let table = store.table("t").unwrap();
        assert_clean(&table);
        all.push(answers(
            &table,
            &set.queries,
            &SearchOptions::new(10).ef(20),
        ));
    }
    assert!(all[0] == all[1] && all[1] == all[2]);
}
