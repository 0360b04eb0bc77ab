//! What a turbo index finds among real rows, fresh and after deletes, and how fast.

use super::{FOUR, THREE, TWO, distance, fixture, insert, loaded, search, sound};
use crate::distance::Distance::{self, Cosine, DotProduct, Euclidean};
use crate::ids::{RowId, Slot};
use crate::inner_index::turbo::Turbo;

/// Recall@10 by distance after re-ranking `rerank` candidates, among the rows still there.
fn recall(
    index: &Turbo,
    metric: Distance,
    (rows, dim): &(Vec<f32>, usize),
    queries: &[f32],
    rerank: usize,
) -> f64 {
    let (mut hits, mut total) = (0, 0);
    for query in queries.chunks(*dim) {
        let of = |id: usize| distance(metric, query, &rows[id * dim..(id + 1) * dim]);
        let mut truth: Vec<_> = (0..rows.len() / dim)
            .filter(|&id| index.row_id(Slot::new(id)).is_some())
            .map(of)
            .collect();
        truth.sort_by(f64::total_cmp);
        let mut found: Vec<_> = search(index, query, rerank)
            .iter()
            .map(|candidate| of(candidate.id.get() as usize))
            .collect();
        found.sort_by(f64::total_cmp);
        hits += found
            .iter()
            .take(10)
            .filter(|&&d| d <= truth[9] + 1e-9)
            .count();
        total += 10;
    }
    hits as f64 / f64::from(total)
}

#[test]
fn recall_on_real_rows_with_thirty_re_ranked() {
    let floors = [
        ("minilm2k", Cosine, TWO, 0.98),
        ("minilm2k", Cosine, THREE, 0.99),
        ("minilm2k", Cosine, FOUR, 0.99),
        ("minilm2k", DotProduct, TWO, 0.98),
        ("minilm2k", DotProduct, FOUR, 0.99),
        ("minilm2k", Euclidean, TWO, 0.98),
        ("minilm2k", Euclidean, FOUR, 0.99),
        ("glove4k", Cosine, TWO, 0.96),
        ("glove4k", Cosine, FOUR, 0.99),
        ("glove4k", DotProduct, TWO, 0.96),
        ("glove4k", DotProduct, FOUR, 0.99),
        ("glove4k", Euclidean, TWO, 0.96),
        ("glove4k", Euclidean, THREE, 0.99),
        ("glove4k", Euclidean, FOUR, 0.99),
        ("sift8k_cc0", Cosine, TWO, 0.93),
        ("sift8k_cc0", Cosine, FOUR, 0.99),
        ("sift8k_cc0", Euclidean, TWO, 0.95),
        ("sift8k_cc0", Euclidean, THREE, 0.98),
        ("sift8k_cc0", Euclidean, FOUR, 0.99),
    ];
    for (set, metric, codec, floor) in floors {
        let base = fixture(set, "base");
        let (queries, _) = fixture(set, "query");
        let index = loaded(codec, metric, &base.0, base.1, 1);
        let got = recall(&index, metric, &base, &queries, 30);
        assert!(
            got >= floor,
            "{set} {metric} {codec}: recall {got} under {floor}"
        );
    }
}

#[test]
fn the_ground_truth_of_the_fixtures_is_that_of_these_tests() {
    let (rows, dim) = fixture("glove4k", "base");
    let (queries, _) = fixture("glove4k", "query");
    for (metric, file) in [(Cosine, "gt_cosine_ids"), (Euclidean, "gt_euclidean_ids")] {
        let (truth, k) = fixture("glove4k", file);
        for (query, truth) in queries.chunks(dim).zip(truth.chunks(k)) {
            let mut ids: Vec<_> = (0..rows.len() / dim).collect();
            ids.sort_by_key(|&id| {
                let d = distance(metric, query, &rows[id * dim..(id + 1) * dim]);
                // Both distances are at least 0, where bits order as numbers do.
                d.max(0.0).to_bits()
            });
            assert_eq!(ids[0], truth[0] as usize);
        }
    }
}

#[test]
fn deletes_and_reinserts_keep_recall_and_the_maps() {
    let base = fixture("glove4k", "base");
    let (queries, _) = fixture("glove4k", "query");
    let (rows, dim) = (&base.0, base.1);
    let mut index = loaded(FOUR, Euclidean, rows, dim, 1);
    let whole = index.fingerprint();
    let version = index.version();
    for slot in (0..4_000).filter(|slot| slot % 3 == 0) {
        index.remove(Slot::new(slot));
        assert_eq!(index.row_id(Slot::new(slot)), None);
    }
    index.remove(Slot::new(0));
    sound(&index);
    assert_eq!(index.len(), 2_666);
    assert!(index.version() > version);
    assert!(recall(&index, Euclidean, &base, &queries, 30) >= 0.98);
    for query in queries.chunks(dim) {
        assert!(
            search(&index, query, 30)
                .iter()
                .all(|found| found.id.get() % 3 != 0)
        );
    }
    for slots in (0..4_000).step_by(3).collect::<Vec<_>>().chunks(100) {
        let new: Vec<_> = slots
            .iter()
            .map(|&i| (i, i as u64, &rows[i * dim..(i + 1) * dim]))
            .collect();
        insert(&mut index, FOUR, &new);
    }
    sound(&index);
    assert_eq!(index.fingerprint(), whole);
    assert!(recall(&index, Euclidean, &base, &queries, 30) >= 0.98);
    for slot in 0..4_000 {
        index.remove(Slot::new(slot));
    }
    sound(&index);
    assert_eq!(index.len(), 0);
    assert!(search(&index, &queries[..dim], 30).is_empty());
}

#[test]
fn estimates_are_in_the_units_of_the_table() {
    let (rows, dim) = fixture("sift8k_cc0", "base");
    let (queries, _) = fixture("sift8k_cc0", "query");
    for metric in [Euclidean, Cosine, DotProduct] {
        let index = loaded(FOUR, metric, &rows, dim, 1);
        for query in queries.chunks(dim).take(20) {
            for found in search(&index, query, 30) {
                let id = found.id.get() as usize;
                let exact = distance(metric, query, &rows[id * dim..(id + 1) * dim]);
                let slack = 0.25 * distance(metric, query, &rows[..dim]).abs() + 0.02;
                let error = (f64::from(found.distance) - exact).abs();
                assert!(error <= slack, "{metric}: {} for {exact}", found.distance);
            }
        }
    }
}

#[test]
#[ignore = "a timing, to be read and not judged"]
fn timings() {
    let (rows, dim) = fixture("minilm2k", "base");
    for (metric, codec) in [
        (Cosine, TWO),
        (Cosine, FOUR),
        (Euclidean, TWO),
        (Euclidean, FOUR),
    ] {
        let rows: Vec<f32> = std::iter::repeat_n(&rows, 25)
            .enumerate()
            .flat_map(|(copy, rows)| rows.iter().map(move |x| x + 1e-4 * copy as f32))
            .collect();
        let total = rows.len() / dim;
        for stride in [1, 7_777] {
            let start = std::time::Instant::now();
            let mut index = loaded(codec, metric, &rows, dim, stride);
            println!(
                "{metric} {codec}: {total} rows loaded in {:?}",
                start.elapsed()
            );
            let start = std::time::Instant::now();
            for query in rows.chunks(dim).step_by(1_000) {
                search(&index, query, 30);
            }
            println!("  a search {:?}", start.elapsed() / 50);
            let start = std::time::Instant::now();
            (0..10_000).for_each(|i| index.remove(Slot::new(i * 3)));
            println!("  10,000 removed in {:?}", start.elapsed());
            let new: Vec<_> = (0..10_000)
                .map(|i| (i * 3, (total + i) as u64, &rows[i * dim..(i + 1) * dim]))
                .collect();
            let start = std::time::Instant::now();
            new.chunks(1)
                .take(1_000)
                .for_each(|one| insert(&mut index, codec, one));
            println!("  an insert of one {:?}", start.elapsed() / 1_000);
            let start = std::time::Instant::now();
            new[1_000..]
                .chunks(500)
                .for_each(|some| insert(&mut index, codec, some));
            index.publish(RowId::new(u64::MAX));
            println!("  a row of 500 {:?}", start.elapsed() / 9_000);
        }
    }
}
