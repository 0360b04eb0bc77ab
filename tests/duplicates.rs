//! Caches are full of copies. They must not take the graph apart: recall holds, `check` is
//! clean, and every single row can be found, before and after a reopen.

mod common;

use std::collections::{HashMap, HashSet};

use common::rng::Rng;
use common::sets::Set;
use common::stores::{
    TempPath, answers, assert_clean, create, fill, fill_some, key_of, recall, remove_some,
};
use vecstash::Codec::{self, F32, Int8Quantized};
use vecstash::Distance::{Cosine, Euclidean};
use vecstash::{IndexKind, Return, SearchOptions, Table};

const K: usize = 10;

/// Three rows in ten are copies of one of 20 vectors.
fn thirty_percent_copies(set: Set) -> Set {
    let mut rng = Rng::new(30);
    let mut base = set.base;
    let copied: Vec<Vec<f32>> = (0..20)
        .map(|_| base[rng.below(base.len())].clone())
        .collect();
    for row in base.iter_mut() {
        if rng.below(10) < 3 {
            row.clone_from(&copied[rng.below(20)]);
        }
    }
    Set::brute(base, set.queries, set.distance, K)
}

/// Every vector ten times, the copies far apart in order.
fn ten_times(set: Set, distinct: usize) -> Set {
    let some = &set.base[..distinct];
    let base: Vec<_> = (0..10).flat_map(|_| some.iter().cloned()).collect();
    let queries = set.queries[..40].to_vec();
    Set::brute(base, queries, set.distance, K)
}

/// For every distinct vector, a search for it finds every one of its copies.
fn every_row_is_found(table: &Table, base: &[Vec<f32>]) {
    let mut copies: HashMap<Vec<u32>, Vec<usize>> = HashMap::new();
    for (row, vector) in base.iter().enumerate() {
        let bits = vector.iter().map(|x| x.to_bits()).collect();
        copies.entry(bits).or_default().push(row);
    }
    let mut lost = Vec::new();
    for rows in copies.values() {
        // Room for a neighbour that the codec cannot tell from these.
        let options = SearchOptions::new(rows.len() + 4).returning(Return::Keys);
        let search = |ef: usize| -> HashSet<Vec<u8>> {
            let hits = table.search(&base[rows[0]], &options.clone().ef(ef));
            hits.unwrap().into_iter().map(|hit| hit.key).collect()
        };
        // A narrow pool may miss a row that is there; a wide one only misses what is cut off.
        let found = |ef: usize| {
            let found = search(ef);
            rows.iter().all(|&row| found.contains(&key_of(row)))
        };
        if !found(64) && !found(1000) {
            lost.push(rows[0]);
        }
    }
    assert!(lost.is_empty(), "rows that no search finds: {lost:?}");
}

fn hold(set: &Set, codec: Codec) {
    let place = TempPath::new();
    let distinct: HashSet<Vec<u32>> = set
        .base
        .iter()
        .map(|row| row.iter().map(|x| x.to_bits()).collect())
        .collect();
    let holds = |table: &Table, state: &str| {
        assert_clean(table);
        let stats = table.stats().unwrap();
        assert_eq!(stats.live_rows, set.base.len());
        // Copies share a place; the codec may not tell a few more rows apart.
        assert!(stats.distinct_vectors <= distinct.len(), "{state}");
        assert!(stats.distinct_vectors > distinct.len() * 9 / 10, "{state}");
        let found = answers(table, &set.queries, &SearchOptions::new(K).ef(64));
        let reached = recall(set, &found, K);
        println!("{} {codec} {state}: {reached:.4}", set.distance);
        assert!(
            reached >= 0.95,
            "{} {codec} {state}: {reached}",
            set.distance
        );
        every_row_is_found(table, &set.base);
    };
    let store = place.open();
    let table = create(&store, set.dim(), codec, set.distance, IndexKind::Hnsw);
    fill(&table, &set.base);
    holds(&table, "built");
    drop(table);
    store.close().unwrap();

    let store = place.open();
    let table = store.table("t").unwrap();
    holds(&table, "reopened");

    // One copy in three leaves and comes back: the others must hold their place.
    let some: Vec<usize> = (0..set.base.len()).filter(|row| row % 3 == 0).collect();
    remove_some(&table, &some);
    assert_clean(&table);
    fill_some(&table, &set.base, &some);
    holds(&table, "a third reinserted");
}

#[test]
fn copies_of_twenty_words() {
    let set = thirty_percent_copies(Set::load("glove4k", Cosine));
    hold(&set, Int8Quantized);
    hold(&set, F32);
}

#[test]
fn copies_of_twenty_descriptors() {
    let set = thirty_percent_copies(Set::load("sift8k_cc0", Euclidean));
    hold(&set, Int8Quantized);
    hold(&set, F32);
}

#[test]
fn every_word_ten_times() {
    let set = ten_times(Set::load("glove4k", Cosine), 2500);
    hold(&set, Int8Quantized);
    hold(&set, F32);
}

#[test]
fn every_descriptor_ten_times() {
    let set = ten_times(Set::load("sift8k_cc0", Euclidean), 2500);
    hold(&set, Int8Quantized);
    hold(&set, F32);
}

/// A table of nothing but copies of one vector.
#[test]
fn one_vector_only() {
    let place = TempPath::new();
    let store = place.open();
    let vector = vec![0.25f32; 16];
    let base = vec![vector.clone(); 3000];
    let table = create(&store, 16, Int8Quantized, Cosine, IndexKind::Hnsw);
    fill(&table, &base);
    assert_eq!(table.stats().unwrap().distinct_vectors, 1);
    assert_clean(&table);
    let all = table.search(&vector, &SearchOptions::new(3000)).unwrap();
    let keys: HashSet<_> = all.iter().map(|hit| &hit.key).collect();
    assert_eq!(keys.len(), 3000);
    let ten = table
        .search(&vector, &SearchOptions::new(10).ef(10))
        .unwrap();
    assert_eq!(ten.len(), 10);
}

/// Rows nearer to each other than a code can tell share a node of the graph, and are still told
/// apart by what is stored of them.
#[test]
fn rows_of_one_code_are_told_apart() {
    let mut rng = Rng::new(5);
    let mut base: Vec<Vec<f32>> = (0..3_000).map(|_| rng.vector(4)).collect();
    let mut fine = || 0.5 + 0.000_75 * (2.0 * rng.unit() - 1.0);
    base.extend((0..3_000).map(|_| vec![0.0, 1.0, fine(), fine()]));
    let queries: Vec<_> = (0..40).map(|i| base[3_000 + 70 * i].clone()).collect();
    let set = Set::brute(base, queries, Euclidean, K);
    let store = vecstash::VectorStore::in_memory();
    let table = create(&store, 4, F32, Euclidean, IndexKind::Hnsw);
    fill(&table, &set.base);
    assert!(table.stats().unwrap().distinct_vectors < 4_000);
    let found = answers(&table, &set.queries, &SearchOptions::new(K).ef(64));
    let found = recall(&set, &found, K);
    assert!(found >= 0.95, "recall {found}");
}

/// Clusters that arrive one after the other, a row at a time, leave islands unless somebody looks.
#[test]
fn rows_written_singly_in_clusters_stay_reachable() {
    let mut rng = Rng::new(6);
    for distance in [Cosine, vecstash::Distance::DotProduct, Euclidean] {
        let store = vecstash::VectorStore::in_memory();
        let table = create(&store, 16, Int8Quantized, distance, IndexKind::Hnsw);
        let mut row = 0;
        for _ in 0..40 {
            let centre: Vec<f32> = rng.vector(16).iter().map(|x| 100.0 * x).collect();
            for _ in 0..100 {
                let near: Vec<f32> = centre.iter().map(|x| x + 0.01 * rng.normal()).collect();
                table
                    .upsert(key_of(row), &near, Default::default())
                    .unwrap();
                row += 1;
            }
            assert_clean(&table);
        }
    }
}

/// A scan of codes picks among equal ones as it likes; which rows are named must not depend on it.
#[test]
#[cfg(feature = "turbo")]
fn turbo_names_the_same_copies_after_a_reopen() {
    let mut rng = Rng::new(7);
    let mut base: Vec<Vec<f32>> = (0..3_000).map(|_| rng.vector(32)).collect();
    let copied = base[0].clone();
    for row in (1..3_000).step_by(2) {
        base[row].clone_from(&copied);
    }
    let place = TempPath::new();
    let store = place.open();
    let table = create(&store, 32, Codec::Turbovec4Bit, Cosine, IndexKind::Turbo);
    fill(&table, &base);
    remove_some(&table, &(0..700).collect::<Vec<_>>());
    let named = |table: &Table, exact: bool| -> Vec<Vec<u8>> {
        let options = SearchOptions::new(K).exact(exact).returning(Return::Keys);
        let hits = table.search(&copied, &options).unwrap();
        hits.into_iter().map(|hit| hit.key).collect()
    };
    let (live, exact) = (named(&table, false), named(&table, true));
    assert_eq!(live, exact);
    assert_clean(&table);
    drop(table);
    store.close().unwrap();
    let table = place.open().table("t").unwrap();
    assert_eq!(named(&table, false), live);
}
