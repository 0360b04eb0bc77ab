//! A reopen changes no answer's distance: the rows are the truth, and the index is built from
//! them alike every time, on any number of threads.

mod common;

use common::rng::Rng;
use common::sets::Set;
use common::stores::{
    Answers, TempPath, answers, assert_clean, common_part, create, fill, fill_some, key_of,
    metadata, no_metadata, recall, remove_some,
};
use vecstash::Codec::{self, F32, Fp16, Int8Quantized};
use vecstash::Distance::{self, Cosine, DotProduct, Euclidean};
use vecstash::{IndexKind, OpenOptions, SearchOptions, Table, WriteBatch};

const K: usize = 10;

/// Rows come and go before the reopen: rows that are overwritten, rows that are deleted, rows
/// whose metadata alone changes. What is left is exactly `set.base` under `key_of(0..)`.
fn live_through(table: &Table, set: &Set) {
    let mut rng = Rng::new(7);
    let rows = set.base.len();
    // A fifth of the rows first hold the vector of another row.
    let mut first = set.base.clone();
    let overwritten: Vec<usize> = (0..rows).filter(|row| row % 5 == 2).collect();
    for &row in &overwritten {
        first[row] = set.base[rng.below(rows)].clone();
    }
    // A tenth more rows are there for a while, near real ones.
    for _ in 0..rows / 10 {
        let near = &set.base[rng.below(rows)];
        first.push(near.iter().map(|x| x + 0.01 * rng.normal().abs()).collect());
    }
    fill(table, &first);
    remove_some(table, &(rows..first.len()).collect::<Vec<_>>());
    fill_some(table, &set.base, &overwritten);
    for row in (0..rows).step_by(97) {
        let note = metadata("note", row);
        table.set_metadata(&key_of(row), note).expect("metadata");
    }
    assert_eq!(table.count().unwrap(), rows);
}

struct Sides {
    live: Answers,
    reopened: Answers,
    exact_live: Answers,
    exact_reopened: Answers,
}

/// Answers of the live table, and of the table after a reopen.
fn both_sides(set: &Set, codec: Codec, index: IndexKind) -> Sides {
    let place = TempPath::new();
    let options = SearchOptions::new(K).ef(64);
    let exact = SearchOptions::new(K).exact(true);
    let store = place.open();
    let table = create(&store, set.dim(), codec, set.distance, index);
    live_through(&table, set);
    assert_clean(&table);
    let live = answers(&table, &set.queries, &options);
    let exact_live = answers(&table, &set.queries, &exact);
    drop(table);
    store.close().expect("a close");

    let store = place.open();
    assert_eq!(store.open_report().rows, set.base.len() as u64);
    let table = store.table("t").unwrap();
    assert_clean(&table);
    assert_eq!(table.stats().unwrap().dead_slots, 0, "a fresh index");
    Sides {
        live,
        reopened: answers(&table, &set.queries, &options),
        exact_live,
        exact_reopened: answers(&table, &set.queries, &exact),
    }
}

#[test]
fn flat_tables_answer_exactly_as_before() {
    for distance in [Euclidean, Cosine, DotProduct] {
        let set = Set::load("glove4k", distance).head(1500, 50, K);
        for codec in [F32, Fp16, Int8Quantized] {
            let sides = both_sides(&set, codec, IndexKind::Flat);
            assert!(sides.live == sides.reopened, "{distance} {codec}");
            assert!(sides.live == sides.exact_reopened, "{distance} {codec}");
        }
    }
}

/// `part` of the live table's hits are there after the reopen, with bit-equal distances; recall
/// is within half a point; an exact search answers exactly as before.
fn nearly_as_before(set: &Set, codec: Codec, index: IndexKind, part: f64) {
    let what = format!("{} {codec} {index:?}", set.distance);
    let sides = both_sides(set, codec, index);
    let common = common_part(&sides.live, &sides.reopened);
    assert!(common >= part, "{what}: {common:.4} in common");
    let before = recall(set, &sides.live, K);
    let after = recall(set, &sides.reopened, K);
    println!("{what}: {common:.4} in common, recall {before:.4} and {after:.4}");
    assert!(
        (before - after).abs() <= 0.005,
        "{what}: {before} and {after}"
    );
    assert!(sides.exact_live == sides.exact_reopened, "{what}: exact");
}

#[test]
fn graphs_answer_nearly_as_before() {
    for (name, distance, codec) in [
        ("glove4k", Euclidean, Int8Quantized),
        ("glove4k", Cosine, Int8Quantized),
        ("glove4k", DotProduct, Int8Quantized),
        ("glove4k", Euclidean, F32),
        ("glove4k", Cosine, Fp16),
        ("sift8k_cc0", Euclidean, Int8Quantized),
    ] {
        let set = Set::load(name, distance);
        nearly_as_before(&set, codec, IndexKind::Hnsw, 0.95);
    }
}

#[test]
#[cfg(feature = "turbo")]
fn turbo_tables_answer_nearly_as_before() {
    use Codec::{Turbovec2Bit, Turbovec3Bit, Turbovec4Bit};
    for (name, distance, codec) in [
        ("minilm2k", Cosine, Turbovec2Bit),
        ("minilm2k", Cosine, Turbovec4Bit),
        ("glove4k", Euclidean, Turbovec4Bit),
        ("glove4k", DotProduct, Turbovec3Bit),
    ] {
        let set = Set::load(name, distance);
        nearly_as_before(&set, codec, IndexKind::Turbo, 0.99);
    }
}

/// Two opens of one file with no write between them agree in every key and every bit, whatever
/// the number of threads.
fn two_opens_agree(set: &Set, codec: Codec, index: IndexKind) {
    let place = TempPath::new();
    let store = place.open();
    let table = create(&store, set.dim(), codec, set.distance, index);
    live_through(&table, set);
    drop(table);
    store.close().unwrap();
    let before = common::stores::bytes_of(&place.path);
    let mut opens = Vec::new();
    for threads in [1, 2, 1, 2] {
        // Read-only, so that the file is the same for every one of them.
        let options = OpenOptions::new().read_only(true).index(true);
        let store = place.open_with(&options.threads(threads));
        assert_eq!(store.open_report().threads, threads);
        let table = store.table("t").unwrap();
        let found: Vec<Answers> = [10, 64, 200]
            .map(|ef| answers(&table, &set.queries, &SearchOptions::new(K).ef(ef)))
            .into();
        opens.push((table.fingerprint().unwrap(), found));
        drop(table);
        store.close().unwrap();
    }
    assert!(
        before == common::stores::bytes_of(&place.path),
        "the file changed"
    );
    for other in &opens[1..] {
        assert!(opens[0] == *other, "{} {codec} {index:?}", set.distance);
    }
}

#[test]
fn two_opens_agree_exactly() {
    let glove = |distance: Distance| Set::load("glove4k", distance);
    two_opens_agree(&glove(Euclidean), Int8Quantized, IndexKind::Hnsw);
    two_opens_agree(&glove(DotProduct), F32, IndexKind::Hnsw);
    two_opens_agree(&glove(Cosine), Fp16, IndexKind::Flat);
}

#[test]
#[cfg(feature = "turbo")]
fn two_opens_of_a_turbo_table_agree_exactly() {
    let set = Set::load("glove4k", Euclidean);
    two_opens_agree(&set, Codec::Turbovec4Bit, IndexKind::Turbo);
    two_opens_agree(&set, Codec::Turbovec2Bit, IndexKind::Turbo);
}

/// A batch of rows and the same rows one by one leave the same file for a reader: the order of
/// arrival decides, not the size of the transactions.
#[test]
fn single_writes_reopen_like_a_batch() {
    let set = Set::load("glove4k", Cosine).head(300, 20, K);
    let mut found = Vec::new();
    for batch in [true, false] {
        let place = TempPath::new();
        let store = place.open_with(&OpenOptions::new().durability(vecstash::Durability::Volatile));
        let table = create(&store, set.dim(), Int8Quantized, Cosine, IndexKind::Hnsw);
        if batch {
            fill(&table, &set.base);
        } else {
            for (row, vector) in set.base.iter().enumerate() {
                table.upsert(key_of(row), vector, no_metadata()).unwrap();
            }
        }
        drop(table);
        store.close().unwrap();
        let table = place.open().table("t").unwrap();
        found.push(answers(&table, &set.queries, &SearchOptions::new(K)));
    }
    assert!(found[0] == found[1]);
}

/// New metadata, and the same vector again, leave the index alone: no new vector, no dead place,
/// the same answers in the same order.
#[test]
fn metadata_alone_costs_no_index_work() {
    let set = Set::load("glove4k", Euclidean).head(2500, 20, K);
    for (codec, index) in [
        (Int8Quantized, IndexKind::Hnsw),
        (F32, IndexKind::Hnsw),
        (F32, IndexKind::Flat),
        #[cfg(feature = "turbo")]
        (Codec::Turbovec4Bit, IndexKind::Turbo),
    ] {
        let place = TempPath::new();
        let store = place.open();
        let table = create(&store, set.dim(), codec, Euclidean, index);
        fill(&table, &set.base);
        let options = SearchOptions::new(K);
        let (stats, found) = (
            table.stats().unwrap(),
            answers(&table, &set.queries, &options),
        );
        let created: Vec<u64> = (0..200)
            .map(|row| table.get(&key_of(row)).unwrap().unwrap().created_at)
            .collect();
        for row in 0..100 {
            let note = metadata("note", format!("number {row}"));
            table.set_metadata(&key_of(row), note).unwrap();
        }
        for row in 100..200 {
            let note = metadata("note", format!("number {row}"));
            table.upsert(key_of(row), &set.base[row], note).unwrap();
        }
        let again: Vec<_> = (200..400)
            .map(|row| common::stores::new_row(key_of(row), &set.base[row]))
            .collect();
        let outcome = table.upsert_many(again).unwrap();
        assert_eq!(outcome.inserted, 0);
        assert_eq!(outcome.unchanged_vectors, 200);

        for reopened in [false, true] {
            let (store, table) = if reopened {
                store.clone().close().unwrap();
                let store = place.open();
                let table = store.table("t").unwrap();
                (store, table)
            } else {
                (store.clone(), table.clone())
            };
            let now = table.stats().unwrap();
            assert_eq!(
                now.distinct_vectors, stats.distinct_vectors,
                "{codec} {index:?}"
            );
            assert_eq!(now.dead_slots, stats.dead_slots, "{codec} {index:?}");
            assert_eq!(now.live_rows, stats.live_rows);
            let later = answers(&table, &set.queries, &options);
            if reopened {
                common_part(&found, &later);
            } else {
                assert!(found == later, "{codec} {index:?}");
            }
            for (row, &created) in created.iter().enumerate() {
                let row_now = table.get(&key_of(row)).unwrap().unwrap();
                assert_eq!(row_now.created_at, created);
                assert!(row_now.updated_at >= created);
                assert_eq!(row_now.metadata["note"], format!("number {row}"));
            }
            assert_clean(&table);
            drop(store);
        }
    }
}

/// Creation times are kept by overwrites, times of writes never run backwards, and both are the
/// same after a reopen.
#[test]
#[cfg(feature = "testing")]
fn timestamps() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    let now = Arc::new(AtomicU64::new(1_000));
    let hand = now.clone();
    let options = OpenOptions::new().clock(move || hand.load(SeqCst));
    let place = TempPath::new();
    let store = place.open_with(&options);
    let table = create(&store, 2, F32, Euclidean, IndexKind::Auto);
    let times = |table: &Table, key: &[u8]| {
        let row = table.get(key).unwrap().unwrap();
        (row.created_at, row.updated_at)
    };
    table.upsert(*b"a", &[1.0, 0.0], no_metadata()).unwrap();
    assert_eq!(times(&table, b"a"), (1_000, 1_000));
    now.store(2_000, SeqCst);
    table.upsert(*b"a", &[2.0, 0.0], no_metadata()).unwrap();
    assert_eq!(times(&table, b"a"), (1_000, 2_000), "a new vector");
    now.store(3_000, SeqCst);
    table.set_metadata(b"a", metadata("x", 1)).unwrap();
    assert_eq!(times(&table, b"a"), (1_000, 3_000), "new metadata");
    now.store(500, SeqCst);
    table.upsert(*b"a", &[3.0, 0.0], no_metadata()).unwrap();
    assert_eq!(
        times(&table, b"a"),
        (1_000, 3_000),
        "the clock ran backwards"
    );
    table.upsert(*b"b", &[3.0, 0.0], no_metadata()).unwrap();
    assert_eq!(times(&table, b"b"), (500, 500));
    now.store(4_000, SeqCst);
    assert!(table.delete(b"b").unwrap());
    table.upsert(*b"b", &[3.0, 0.0], no_metadata()).unwrap();
    assert_eq!(times(&table, b"b"), (4_000, 4_000), "a new row");
    drop(table);
    store.close().unwrap();

    let table = place.open_with(&options).table("t").unwrap();
    assert_eq!(times(&table, b"a"), (1_000, 3_000));
    assert_eq!(times(&table, b"b"), (4_000, 4_000));
    let hits = table.search(&[3.0, 0.0], &SearchOptions::new(1)).unwrap();
    assert_eq!(hits[0].row.as_ref().unwrap().created_at, 1_000);
}

/// The comparison itself: it must see a missing key, and a distance that differs in one bit.
#[test]
fn the_comparison_can_fail() {
    let a: Answers = vec![vec![(b"x".to_vec(), 1), (b"y".to_vec(), 2)]];
    let missing: Answers = vec![vec![(b"x".to_vec(), 1), (b"z".to_vec(), 2)]];
    assert_eq!(common_part(&a, &a), 1.0);
    assert_eq!(common_part(&a, &missing), 0.5);
    let other_bit: Answers = vec![vec![(b"x".to_vec(), 1), (b"y".to_vec(), 3)]];
    assert!(std::panic::catch_unwind(|| common_part(&a, &other_bit)).is_err());
}

#[test]
fn a_large_batch_is_linked_as_an_open_links_it() {
    let set = Set::load("glove4k", Cosine);
    let (place, options) = (TempPath::new(), SearchOptions::new(K).ef(20));
    let store = place.open();
    let table = create(
        &store,
        set.dim(),
        Int8Quantized,
        set.distance,
        IndexKind::Hnsw,
    );
    // Some rows are there before, one of them is overwritten and one deleted by the batch.
    fill_some(&table, &set.base, &(0..500).collect::<Vec<_>>());
    let mut batch = WriteBatch::new();
    for (row, vector) in set.base.iter().enumerate().skip(1) {
        batch.upsert("t", key_of(row), vector, no_metadata());
    }
    for (row, vector) in set.base.iter().enumerate() {
        let near = vector.iter().map(|x| x + 0.001 * (row % 7) as f32);
        let near: Vec<f32> = near.collect();
        batch.upsert("t", key_of(10_000 + row), &near, no_metadata());
    }
    batch.delete("t", key_of(0));
    store.write(batch).expect("a batch");
    assert_clean(&table);
    assert_eq!(table.count().unwrap(), 2 * set.base.len() - 1);
    let live = answers(&table, &set.queries, &options);
    drop(table);
    store.close().expect("a close");
    let store = place.open();
    let table = store.table("t").unwrap();
    assert_eq!(
        answers(&table, &set.queries, &options),
        live,
        "ef 20, key by key"
    );
}
