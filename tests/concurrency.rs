//! Proves that readers and writers in parallel see only what was written, that searches go on
//! inside a burst of writes, and that writers share their commits.

mod common_fault;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use common_fault::{
    Model, Rng, as_state, check_inv, check_inv_fully, number, observe, schema, seed, tolerance,
    true_distance,
};
use rayon::prelude::*;
use serde_json::json;
use vecstash::{
    Codec, Distance, Metadata, NewRow, Return, SearchOptions, StoreError, VectorRow, VectorStore,
    WriteBatch,
};

const KEYS: usize = 96;
const DIM: usize = 6;

/// One key's history. The lock is held through a write, so that the order here is the order there.
#[derive(Default)]
struct Key {
    value: Mutex<Option<u64>>,
    /// The number last acknowledged, 0 for none: a later read returns this or a later one.
    floor: AtomicU64,
    /// Deletes begun.
    deletes: AtomicU64,
}

fn key_name(key: usize) -> Vec<u8> {
    format!("key {key:03}").into_bytes()
}

/// The vector that write `n` of `key` stores: both can be read off it.
fn vector_of(key: usize, n: u64) -> Vec<f32> {
    let mut vector = Rng::new(n).vector(DIM);
    vector[0] = key as f32;
    vector[1] = n as f32;
    vector
}

fn metadata_of(n: u64) -> Metadata {
    Metadata::from([("n".to_string(), json!(n))])
}

/// Checks that a row was written as it is, and returns which write it was.
fn read_row(row: &VectorRow, issued: u64) -> u64 {
    let vector = row
        .vector
        .codec
        .encoder()
        .decode(&row.vector)
        .expect("decodes");
    let (key, n) = (vector[0] as usize, vector[1] as u64);
    assert_eq!(row.key, key_name(key), "a row under another row's key");
    assert!(n >= 1 && n < issued, "write {n} was never issued");
    assert_eq!(vector, vector_of(key, n), "a vector that was never written");
    assert_eq!(row.metadata, metadata_of(n), "metadata of another write");
    n
}

fn stress(seed: u64, seconds: u64) {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("stress.vecstash");
    let store = VectorStore::open_path(&path).expect("open");
    store
        .create_table(schema("t", DIM as u16, Codec::F32, Distance::Euclidean))
        .expect("create");
    let keys: Vec<Key> = (0..KEYS).map(|_| Key::default()).collect();
    let next = AtomicU64::new(1);
    let stop = AtomicBool::new(false);
    let (writes, searches, gets) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );

    let write = |rng: &mut Rng| {
        if rng.chance(20) {
            // A batch over several keys, locked in their order.
            let picked: BTreeSet<usize> = (0..2 + rng.below(6)).map(|_| rng.below(KEYS)).collect();
            let mut held: Vec<_> = picked
                .iter()
                .map(|&key| (key, keys[key].value.lock().expect("lock")))
                .collect();
            let mut batch = WriteBatch::new();
            let mut numbers = Vec::new();
            for (key, _) in &held {
                let n = next.fetch_add(1, Ordering::SeqCst);
                batch.upsert("t", key_name(*key), &vector_of(*key, n), metadata_of(n));
                numbers.push(n);
            }
            store.write(batch).expect("batch");
            for ((key, value), n) in held.iter_mut().zip(numbers) {
                **value = Some(n);
                keys[*key].floor.store(n, Ordering::SeqCst);
            }
        } else {
            let key = rng.below(KEYS);
            let mut value = keys[key].value.lock().expect("lock");
            let n = next.fetch_add(1, Ordering::SeqCst);
            store
                .upsert("t", key_name(key), &vector_of(key, n), metadata_of(n))
                .expect("upsert");
            *value = Some(n);
            keys[key].floor.store(n, Ordering::SeqCst);
        }
        writes.fetch_add(1, Ordering::Relaxed);
    };
    let search = |rng: &mut Rng| {
        let key = rng.below(KEYS);
        if rng.chance(30) {
            let floor = keys[key].floor.load(Ordering::SeqCst);
            let deletes = keys[key].deletes.load(Ordering::SeqCst);
            let got = store.get("t", &key_name(key)).expect("get");
            match got {
                Some(row) => {
                    let n = read_row(&row, next.load(Ordering::SeqCst));
                    assert!(
                        n >= floor,
                        "key {key}: read write {n} after {floor} was acknowledged"
                    );
                }
                // Gone: it was never there, or a delete had begun before or meanwhile.
                None => {
                    let now = keys[key].deletes.load(Ordering::SeqCst);
                    assert!(
                        floor == 0 || deletes > 0 || now > 0,
                        "key {key}: write {floor} was acknowledged, and no row is there"
                    );
                }
            }
            gets.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let query = vector_of(key, 1 + rng.below(500) as u64);
        let options = SearchOptions::new(12)
            .exact(rng.chance(30))
            .returning(Return::Rows);
        let hits = store
            .table("t")
            .expect("table")
            .search(&query, &options)
            .expect("search");
        let issued = next.load(Ordering::SeqCst);
        let mut seen = BTreeSet::new();
        for hit in &hits {
            assert!(seen.insert(hit.key.clone()), "a key twice in one answer");
            let row = hit.row.as_ref().expect("rows were asked for");
            assert_eq!(row.key, hit.key);
            let n = read_row(row, issued);
            let vector = vector_of(row_key_number(&hit.key), n);
            let want = true_distance(Distance::Euclidean, &query, &vector);
            let off = (f64::from(hit.distance) - want).abs();
            assert!(
                off <= tolerance(Distance::Euclidean, &query, &vector),
                "distance {} to write {n}, truly {want}",
                hit.distance
            );
        }
        assert!(
            hits.windows(2)
                .all(|pair| pair[0].distance <= pair[1].distance)
        );
        searches.fetch_add(1, Ordering::Relaxed);
    };
    let delete = |rng: &mut Rng| {
        let key = rng.below(KEYS);
        let mut value = keys[key].value.lock().expect("lock");
        keys[key].deletes.fetch_add(1, Ordering::SeqCst);
        let was_there = store.delete("t", &key_name(key)).expect("delete");
        assert_eq!(was_there, value.is_some(), "key {key}");
        *value = None;
    };
    let create_and_drop = |rng: &mut Rng| {
        let name = "other";
        store
            .create_table(schema(name, 4, Codec::Int8Quantized, Distance::Cosine))
            .expect("create");
        let handle = store.table(name).expect("table");
        for i in 0..rng.below(8) as u8 {
            handle
                .upsert(vec![i], &rng.vector(4), Metadata::new())
                .expect("upsert");
        }
        store.search(name, &[1.0; 4], 3, None).expect("search");
        store.drop_table(name).expect("drop");
        match handle.get(&[0]) {
            Err(StoreError::UnknownTable(_)) => {}
            other => panic!("a handle of a dropped table: {other:?}"),
        }
    };

    type Job<'a> = (&'a str, &'a (dyn Fn(&mut Rng) + Sync));
    let jobs: [Job<'_>; 6] = [
        ("writer", &write),
        ("writer", &write),
        ("searcher", &search),
        ("searcher", &search),
        ("deleter", &delete),
        ("creator", &create_and_drop),
    ];
    // A panic anywhere ends the others too.
    struct StopOnDrop<'a>(&'a AtomicBool);
    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    println!("VECSTASH_SEED={seed}");
    let end = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for (i, (_, job)) in jobs.iter().enumerate() {
            let stop = &stop;
            scope.spawn(move || {
                let _guard = StopOnDrop(stop);
                let mut rng = Rng::new(seed.wrapping_add(i as u64));
                while !stop.load(Ordering::SeqCst) && Instant::now() < end {
                    job(&mut rng);
                }
            });
        }
    });
    println!("{writes:?} writes, {searches:?} searches, {gets:?} gets");
    for (what, count) in [("write", &writes), ("search", &searches), ("get", &gets)] {
        assert!(
            count.load(Ordering::SeqCst) > 0,
            "no {what} ever got through"
        );
    }

    // After the threads: what is there is what was acknowledged last, before and after a reopen.
    let seen = observe(&store).expect("observe");
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["t"]);
    for (key, history) in keys.iter().enumerate() {
        let value = *history.value.lock().expect("lock");
        let row = seen["t"].rows.get(&key_name(key));
        let read = row.map(|row| read_row(row, next.load(Ordering::SeqCst)));
        assert_eq!(read, value, "key {key}");
    }
    let model = Model {
        acked: as_state(&seen),
        in_flight: None,
    };
    check_inv(&store, &model).expect("INV");
    store.close().expect("close");
    check_inv_fully(&mut || VectorStore::open_path(&path), &model).expect("INV after a reopen");
}

fn row_key_number(key: &[u8]) -> usize {
    let text = std::str::from_utf8(&key[4..]).expect("text");
    text.parse().expect("a number")
}

#[test]
fn three_seconds_of_everything_at_once() {
    stress(seed(0x5eed_0301), number("VECSTASH_STRESS_SECONDS", 3));
}

#[test]
#[ignore = "a minute of stress; cargo test --release --all-features -- --ignored crash_full"]
fn crash_full_stress() {
    stress(seed(0x5eed_0302), 60);
}

/// Searches that begin inside a burst of batches end inside it.
#[test]
fn searches_progress_inside_a_burst_of_writes() {
    let store = VectorStore::in_memory();
    store
        .create_table(schema("t", 16, Codec::Int8Quantized, Distance::Cosine))
        .expect("create");
    let table = store.table("t").expect("table");
    let rows = |seed: u64| -> Vec<NewRow> {
        let mut rng = Rng::new(seed);
        (0..400u32)
            .map(|i| NewRow {
                key: format!("{seed} {i}").into_bytes(),
                vector: rng.vector(16),
                metadata: Metadata::new(),
            })
            .collect()
    };
    table.upsert_many(rows(0)).expect("first rows");
    let (writing, inside) = (AtomicBool::new(true), AtomicUsize::new(0));
    let ready = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            ready.wait();
            let mut rng = Rng::new(1);
            while writing.load(Ordering::SeqCst) {
                let hits = table
                    .search(&rng.vector(16), &SearchOptions::new(5))
                    .expect("search");
                assert_eq!(hits.len(), 5);
                if writing.load(Ordering::SeqCst) {
                    inside.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        ready.wait();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for batch in 1..20 {
                table.upsert_many(rows(batch)).expect("batch");
            }
        }));
        writing.store(false, Ordering::SeqCst);
        result.expect("the writer");
    });
    let inside = inside.load(Ordering::SeqCst);
    println!("{inside} searches inside 19 batches of 400");
    assert!(inside > 0, "no search ended while batches were written");
}

/// Eight threads of fifty single upserts each: all acknowledged.
fn eight_writers(store: &VectorStore) {
    store
        .create_table(schema("t", 4, Codec::F32, Distance::Euclidean))
        .expect("create");
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let start = &start;
            scope.spawn(move || {
                let mut rng = Rng::new(u64::from(thread));
                start.wait();
                for i in 0..50u8 {
                    store
                        .upsert("t", vec![thread, i], &rng.vector(4), Metadata::new())
                        .expect("upsert");
                }
            });
        }
    });
    assert_eq!(
        store.table("t").expect("table").count().expect("count"),
        400
    );
}

#[test]
fn group_commits_are_all_there_after_a_reopen() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("group.vecstash");
    let store = VectorStore::open_path(&path).expect("open");
    eight_writers(&store);
    let model = Model {
        acked: as_state(&observe(&store).expect("observe")),
        in_flight: None,
    };
    assert_eq!(model.acked["t"].rows.len(), 400);
    store.close().expect("close");
    check_inv_fully(&mut || VectorStore::open_path(&path), &model).expect("INV");
}

/// Shared commits need fewer syncs than two for each of the 400 upserts, and are durable all the
/// same: the image with everything unsynced lost holds every row.
#[cfg(feature = "testing")]
#[test]
fn group_commits_share_their_syncs() {
    let disk = common_fault::sim::Disk::new();
    let store = disk.create().expect("create");
    let before = disk.syncs();
    eight_writers(&store);
    let syncs = disk.syncs() - before;
    println!("{syncs} syncs for 400 upserts");
    assert!(syncs < 800, "{syncs} syncs: no commit was shared");
    let model = Model {
        acked: as_state(&observe(&store).expect("observe")),
        in_flight: None,
    };
    let cut = common_fault::sim::Disk::from_image(disk.lost(disk.operations()));
    drop(store);
    check_inv_fully(&mut || cut.open(), &model).expect("INV after a power cut");
}

#[test]
fn a_search_beside_a_drop_answers_whole_or_not_at_all() {
    let store = VectorStore::in_memory();
    for round in 0..40 {
        store
            .create_table(schema("t", 6, Codec::F32, Distance::Euclidean))
            .unwrap();
        let table = store.table("t").unwrap();
        let rows = (0..200).map(|i| NewRow {
            key: key_name(i),
            vector: vector_of(i, 1),
            metadata: Metadata::new(),
        });
        table.upsert_many(rows.collect()).unwrap();
        let options = SearchOptions::new(20).returning(Return::Rows);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Ok(hits) = table.search(&vector_of(3, 1), &options) {
                        assert_eq!(hits.len(), 20, "round {round}");
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(1));
            store.drop_table("t").unwrap();
        });
    }
}

#[test]
fn a_store_that_flushes_by_itself_lets_go_of_its_file_when_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.vecstash");
    for round in 0..40 {
        let store = vecstash::OpenOptions::new()
            .durability(vecstash::Durability::Within(4))
            .open(&path)
            .unwrap();
        if round == 0 {
            store
                .create_table(schema("t", 6, Codec::F32, Distance::Euclidean))
                .unwrap();
        }
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(3 + round % 7) {
            let vector = vector_of(0, round + 1);
            store
                .upsert("t", key_name(0), &vector, Metadata::new())
                .unwrap();
        }
    }
}

/// A thread of a pool that waits for another pool takes up what else its own has to do. A writer
/// must not: the next write waits for what it holds.
#[test]
fn writers_on_the_threads_of_an_applications_pool_do_not_wait_for_themselves() {
    let (done, all_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4);
        let pool = pool.build().expect("a pool");
        let store = VectorStore::in_memory();
        let schema = schema("t", DIM as u16, Codec::Int8Quantized, Distance::Euclidean);
        store.create_table(schema).expect("create");
        let table = store.table("t").expect("table");
        // On the way the table outgrows scans, and is linked by the store's own pool.
        pool.install(|| {
            (0..3_000u64).into_par_iter().for_each(|n| {
                let (key, vector) = (n.to_le_bytes().to_vec(), vector_of(0, n));
                let written = table.upsert(key, &vector, metadata_of(n));
                written.expect("written");
            });
        });
        assert!(store.check().expect("check").problems.is_empty());
        done.send(table.count().expect("count")).expect("heard");
    });
    let rows = all_done.recv_timeout(Duration::from_secs(120));
    assert_eq!(rows, Ok(3_000));
}
