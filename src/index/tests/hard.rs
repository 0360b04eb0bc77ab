//! Sets that are hard for graphs: tight clusters, inner products of rows of very different
//! lengths, and rows that are all replaced again and again.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::*;

/// A standard normal number, the same for the same arguments (Box and Muller).
fn normal(number: usize, seed: u64) -> f32 {
    let uniform = |seed| {
        let hash = xxh3_64_with_seed(&number.to_le_bytes(), seed);
        ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let radius = (-2.0 * uniform(2 * seed).ln()).sqrt();
    (radius * (std::f64::consts::TAU * uniform(2 * seed + 1)).cos()) as f32
}

/// Recall at ef 16, 64 and 256.
fn recalls(bench: &Bench, queries: &[Vec<f32>]) -> [f64; 3] {
    bench.assert_sound();
    [16, 64, 256].map(|ef| bench.recall(queries, ef))
}

fn assert_floors(what: &str, found: [f64; 3], floors: [f64; 3]) {
    println!("{what}: {found:.4?} at ef 16, 64, 256");
    let holds = found
        .iter()
        .zip(floors)
        .all(|(found, floor)| *found >= floor);
    assert!(
        holds,
        "{what}: {found:.4?}, where {floors:?} are the floors"
    );
}

/// Rows of unit length in random directions, a hundredth of noise around each of 100.
fn clusters() -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    const DIM: usize = 48;
    let draw = |row: usize, seed: u64| -> Vec<f32> {
        let centre = row % 100 * DIM;
        let length: f32 = (0..DIM)
            .map(|i| normal(centre + i, 1).powi(2))
            .sum::<f32>()
            .sqrt();
        let coordinate =
            |i: usize| normal(centre + i, 1) / length + 1e-3 * normal(row * DIM + i, seed);
        (0..DIM).map(coordinate).collect()
    };
    let base = (0..5_000).map(|row| draw(row, 2)).collect();
    (base, (0..100).map(|row| draw(row * 7, 3)).collect())
}

#[test]
fn tight_clusters_lead_to_each_other() {
    let (base, queries) = clusters();
    let spec = spec(48, Codec::F32, Distance::Euclidean);
    let mut bench = Bench::load(spec, &base);
    // Codes hardly tell the rows of a cluster apart: all that a walk finds are scored exactly.
    bench.rerank = 256;
    assert_floors(
        "tight clusters",
        recalls(&bench, &queries),
        [0.55, 0.80, 0.95],
    );
}

#[test]
fn inner_products_of_rows_of_very_different_lengths() {
    let (mut base, queries) = fixture("glove4k");
    for (row, vector) in base.iter_mut().enumerate() {
        let length = normal(row, 4).exp();
        vector.iter_mut().for_each(|value| *value *= length);
    }
    for codec in [Codec::Int8Quantized, Codec::F32] {
        let spec = spec(100, codec, Distance::DotProduct);
        let built = recalls(&Bench::load(spec.clone(), &base), &queries);
        assert_floors("lognormal lengths, built", built, [0.94, 0.99, 0.998]);
        let mut live = Bench::new(spec);
        for group in base.chunks(100) {
            live.insert(group);
        }
        live.maintain(usize::MAX);
        let live = recalls(&live, &queries);
        assert_floors("lognormal lengths, live", live, [0.90, 0.97, 0.99]);
    }
}

#[test]
fn cosine_does_not_depend_on_lengths_however_small_or_large() {
    let (mut base, queries) = fixture("glove4k");
    for (row, vector) in base.iter_mut().enumerate() {
        let length = 10f32.powi(row as i32 % 36 - 25);
        vector.iter_mut().for_each(|value| *value *= length);
    }
    let spec = spec(100, Codec::F32, Distance::Cosine);
    let found = recalls(&Bench::load(spec, &base), &queries);
    assert_floors("lengths from 1e-25 to 1e10", found, [0.90, 0.97, 0.99]);
}

/// Rows that no leader tells apart, or hardly any, and a few far away.
#[test]
fn rows_that_are_equally_near_to_all_leaders_are_linked() {
    for (spread, far) in [(0, 0), (1, 0), (1, 300), (3, 2_000)] {
        let rows: Vec<Vec<f32>> = (0..6_000)
            .map(|row: usize| {
                let mut vector = vec![0.0f32; 8];
                // A common range, so that all have one step, and 1e-6 of it apart.
                vector[0] = 1e6;
                for i in 0..spread {
                    vector[1 + i] = (row >> (8 * i) & 0xff) as f32;
                }
                if row < far {
                    vector[7] = 1e6 * row as f32;
                }
                vector
            })
            .collect();
        for distance in DISTANCES {
            let bench = Bench::load(spec_of_f32(distance), &rows);
            bench.assert_sound();
            assert_eq!(bench.search(&rows[5_000], 10, 64).len(), 10);
        }
    }
}

fn spec_of_f32(distance: Distance) -> IndexSpec {
    spec(8, Codec::F32, distance)
}

/// Deletes every row and inserts it again in random order, five times: a group of rows comes back
/// `away` groups after it was deleted, that of the same moment if `away` is 0.
fn turn_over_five_times(group: usize, away: usize) {
    let (mut base, mut queries) = fixture("sift8k_cc0");
    // Five in a thousand are more than chance makes of so many queries.
    queries.extend(base.split_off(base.len() - 500));
    let spec = spec(base[0].len(), Codec::Int8Quantized, Distance::Euclidean);
    let mut bench = Bench::load(spec, &base);
    let fresh = recalls(&bench, &queries);
    let memory = bench.index.memory();
    for turnover in 0..5 {
        let mut order: Vec<usize> = (0..base.len()).collect();
        order.sort_by_key(|&slot| xxh3_64_with_seed(&slot.to_le_bytes(), turnover));
        let mut leaving = order.chunks(group);
        let mut absent = std::collections::VecDeque::new();
        loop {
            let gone = leaving.next();
            absent.extend(gone.map(|slots| -> Vec<Vec<f32>> {
                let rows = slots.iter().map(|&slot| bench.decoded(slot)).collect();
                slots.iter().for_each(|&slot| bench.remove(slot));
                rows
            }));
            if gone.is_none() || absent.len() > away {
                let Some(rows) = absent.pop_front() else {
                    break;
                };
                bench.insert(&rows);
            }
            for _ in 0..group / 5 {
                match bench.index.maintain(256) {
                    Some(patch) => bench.index.apply(patch),
                    None => break,
                }
            }
        }
    }
    bench.maintain(usize::MAX);
    let after = recalls(&bench, &queries);
    println!("{group} rows, away for {away}: fresh {fresh:.4?}, turned over {after:.4?}");
    for (after, fresh) in after.iter().zip(fresh) {
        assert!(
            *after >= fresh - 0.005,
            "{after} where a fresh build has {fresh}"
        );
    }
    let bytes = |m: IndexMemory| (m.codes + m.links + m.other) as f64;
    let growth = bytes(bench.index.memory()) / bytes(memory);
    println!("memory grew {growth:.3} times");
    assert!(growth <= 1.10, "memory grew {growth} times");
}

#[test]
fn five_turnovers_in_random_order_recall_as_a_fresh_build_does() {
    turn_over_five_times(100, 0);
}

/// A fifth of the rows is away at any time. The nodes of most are swept; those that die after the
/// last sweep live again among rows that came meanwhile.
#[test]
fn five_turnovers_of_rows_that_stay_away_recall_as_a_fresh_build_does() {
    turn_over_five_times(300, 5);
}
