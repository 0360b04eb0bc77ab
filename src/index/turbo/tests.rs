//! Hidden rows, order, extremes and units, with what these tests share with those of recall.

mod recall;

use super::{FitAccumulator, Turbo};
use crate::distance::Distance::{self, Cosine, DotProduct, Euclidean};
use crate::encoding::{Codec, EncodedVector};
use crate::ids::{RowId, Slot};
use crate::inner_index::{Candidate, Entry, IndexSpec, SearchSpec};
use crate::schema::{HnswParams, IndexKind, Residence, TurboFit};

/// The numbers of one fixture file, `dim` to a row.
fn fixture(set: &str, file: &str) -> (Vec<f32>, usize) {
    let path = format!("{}/fixtures/{set}/{file}.npy", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let body = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..body]).unwrap();
    let shape = header.split('(').nth(1).unwrap().split(')').next().unwrap();
    let dim = shape.split(',').nth(1).unwrap().trim().parse().unwrap();
    let body = &bytes[body..];
    let values = match header.split('\'').nth(3).unwrap() {
        "<f4" => body
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect(),
        "<i4" => body
            .as_chunks()
            .0
            .iter()
            .map(|b| i32::from_le_bytes(*b) as f32)
            .collect(),
        "<f2" => body
            .as_chunks()
            .0
            .iter()
            .map(|b| half::f16::from_le_bytes(*b).to_f32())
            .collect(),
        "|u1" => body.iter().map(|&b| f32::from(b)).collect(),
        other => panic!("{path} holds {other}"),
    };
    (values, dim)
}

fn distance(distance: Distance, a: &[f32], b: &[f32]) -> f64 {
    let sum = |term: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter()
            .zip(b)
            .map(|(&x, &y)| term(x.into(), y.into()))
            .sum()
    };
    let dot = sum(&|x, y| x * y);
    match distance {
        Euclidean => sum(&|x, y| (x - y) * (x - y)).sqrt(),
        DotProduct => -dot,
        Cosine => {
            let norms = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
            if norms > 0.0 { 1.0 - dot / norms } else { 1.0 }
        }
    }
}

fn encoded(codec: Codec, row: &[f32]) -> EncodedVector {
    codec.encoder().encode(row).unwrap()
}

fn empty(codec: Codec, distance: Distance, dim: usize, fit: Option<TurboFit>) -> Turbo {
    let hnsw = HnswParams::default();
    let (kind, resident) = (IndexKind::Turbo, Residence::Compact);
    Turbo::new(&IndexSpec {
        dim,
        codec,
        distance,
        hnsw,
        kind,
        resident,
        fit,
    })
    .unwrap()
}

fn fit(distance: Distance, rows: &[f32], dim: usize) -> TurboFit {
    let mut rows_seen = FitAccumulator::new(dim, distance);
    rows.chunks(dim).for_each(|row| rows_seen.add(row));
    rows_seen.finish(1)
}

/// Row `i` in slot `i` with id `i`, loaded in the order `i * stride mod rows`.
fn loaded(codec: Codec, distance: Distance, rows: &[f32], dim: usize, stride: usize) -> Turbo {
    let mut index = empty(codec, distance, dim, Some(fit(distance, rows, dim)));
    let total = rows.len() / dim;
    index.reserve(total);
    for i in (0..total).map(|i| i * stride % total) {
        let row = encoded(codec, &rows[i * dim..(i + 1) * dim]);
        index.load(Slot::new(i), RowId::new(i as u64), row.view());
    }
    index.build(&|_, _| true).unwrap();
    sound(&index);
    index
}

fn sound(index: &Turbo) {
    assert_eq!(index.check(), Vec::<String>::new());
}

fn insert(index: &mut Turbo, codec: Codec, rows: &[(usize, u64, &[f32])]) {
    let vectors: Vec<_> = rows.iter().map(|(_, _, row)| encoded(codec, row)).collect();
    let entries = rows
        .iter()
        .zip(&vectors)
        .map(|(&(slot, id, _), vector)| Entry {
            slot: Slot::new(slot),
            id: RowId::new(id),
            vector: vector.view(),
            plan: None,
        });
    let patch = index.prepare(entries.collect());
    index.apply(patch);
}

fn search(index: &Turbo, query: &[f32], wanted: usize) -> Vec<Candidate> {
    let found = index.search(
        query,
        &SearchSpec {
            k: 1,
            ef: 0,
            rerank: wanted,
        },
    );
    assert!(
        found
            .iter()
            .all(|candidate| !candidate.exact && !candidate.distance.is_nan())
    );
    assert!(found.is_sorted_by(|a, b| (a.distance, a.id) < (b.distance, b.id)));
    found
}

const TWO: Codec = Codec::Turbovec2Bit;
const THREE: Codec = Codec::Turbovec3Bit;
const FOUR: Codec = Codec::Turbovec4Bit;

#[test]
fn two_builds_are_equal_whatever_the_order_of_the_walk() {
    let (rows, dim) = fixture("glove4k", "base");
    let (queries, _) = fixture("glove4k", "query");
    for metric in [Euclidean, Cosine, DotProduct] {
        for codec in [TWO, THREE, FOUR] {
            let one = loaded(codec, metric, &rows, dim, 1);
            let other = loaded(codec, metric, &rows, dim, 1_777);
            assert_eq!(one.fingerprint(), other.fingerprint());
            for query in queries.chunks(dim).take(10) {
                assert_eq!(search(&one, query, 30), search(&other, query, 30));
            }
            assert_ne!(
                one.fingerprint(),
                loaded(codec, metric, &rows[dim..], dim, 1).fingerprint()
            );
        }
    }
}

#[test]
fn rows_are_hidden_until_they_are_published() {
    let (rows, dim) = fixture("glove4k", "base");
    let mut index = loaded(FOUR, Cosine, &rows[..1_000 * dim], dim, 1);
    let row = |i: usize| &rows[i * dim..(i + 1) * dim];
    insert(
        &mut index,
        FOUR,
        &[(1_000, 1_000, row(1_000)), (1_001, 1_001, row(1_001))],
    );
    let best = |index: &Turbo, i: usize| search(index, row(i), 10)[0].id.get();
    assert_ne!(best(&index, 1_000), 1_000);
    assert_eq!(index.len(), 1_002);
    assert_eq!(search(&index, row(0), 2_000).len(), 1_000);
    index.publish(RowId::new(1_001));
    sound(&index);
    assert_eq!(best(&index, 1_000), 1_000);
    assert_ne!(best(&index, 1_001), 1_001);
    index.remove(Slot::new(5));
    sound(&index);
    index.publish(RowId::new(2_000));
    sound(&index);
    assert_eq!(best(&index, 1_001), 1_001);
    index.publish(RowId::new(1_000));
    sound(&index);
    assert_ne!(best(&index, 1_001), 1_001);
    index.remove(Slot::new(1_001));
    sound(&index);
}

#[test]
fn small_tables_and_unfitted_ones_propose_every_visible_row() {
    let (rows, dim) = fixture("glove4k", "base");
    let index = loaded(FOUR, DotProduct, &rows[..256 * dim], dim, 1);
    assert_eq!(search(&index, &rows[..dim], 10).len(), 256);
    let mut index = empty(FOUR, Euclidean, dim, None);
    for (i, row) in rows.chunks(dim).take(300).enumerate() {
        insert(&mut index, FOUR, &[(i, i as u64, row)]);
    }
    assert!(search(&index, &rows[..dim], 10).is_empty());
    index.publish(RowId::new(290));
    sound(&index);
    assert_eq!(search(&index, &rows[..dim], 10).len(), 290);
    let none = empty(TWO, Cosine, dim, None);
    assert!(search(&none, &rows[..dim], 10).is_empty());
    assert_eq!((none.len(), none.dead(), none.distinct()), (0, 0, 0));
}

#[test]
fn any_dimension_any_magnitude() {
    let (source, _) = fixture("glove4k", "base");
    let scales = [1e-12, 1e15, 1.0, 0.0, 1e-42, -1e15, 1e7];
    for dim in [1, 3, 7, 8, 100, 393] {
        for codec in [TWO, THREE, FOUR] {
            for metric in [Euclidean, Cosine, DotProduct] {
                for kinds in 1..=scales.len() {
                    let rows: Vec<f32> = (0..300 * dim)
                        .map(|i| source[i].clamp(-1.0, 1.0) * scales[i / dim % kinds])
                        .collect();
                    let mut index = loaded(codec, metric, &rows[..290 * dim], dim, 7);
                    let row = |i: usize| &rows[i * dim..(i + 1) * dim];
                    for i in 290..300 {
                        insert(&mut index, codec, &[(i, i as u64, row(i))]);
                    }
                    index.publish(RowId::new(300));
                    sound(&index);
                    for i in (0..300).step_by(37) {
                        assert_eq!(search(&index, row(i), 20).len(), 20);
                        assert_eq!(search(&index, row(i), 300).len(), 300);
                    }
                    assert_eq!(search(&index, &vec![f32::MAX; dim], 20).len(), 20);
                    assert_eq!(search(&index, &vec![-0.0; dim], 20).len(), 20);
                }
            }
        }
    }
}

#[test]
fn units_do_not_matter() {
    let base = fixture("glove4k", "base");
    let (queries, dim) = fixture("glove4k", "query");
    for scale in [1e-30, 1e12] {
        let scaled = |values: &[f32]| values.iter().map(|value| value * scale).collect::<Vec<_>>();
        let rows = (scaled(&base.0), dim);
        for metric in [Euclidean, DotProduct, Cosine] {
            let index = loaded(FOUR, metric, &rows.0, dim, 1);
            let got = search(&index, &scaled(&queries[..dim]), 30);
            let plain = search(&loaded(FOUR, metric, &base.0, dim, 1), &queries[..dim], 30);
            let same = got
                .iter()
                .filter(|a| plain.iter().any(|b| a.id == b.id))
                .count();
            assert!(same >= 29, "{metric} at {scale:e}: {same} of 30");
        }
    }
}

#[test]
fn a_fit_is_where_the_rows_are() {
    let rows = [1e6f32, 3.0, 1e6 + 2.0, 5.0];
    let found = fit(Euclidean, &rows, 2);
    assert_eq!((found.rows, found.generation), (2, 1));
    assert_eq!(found.mean, [1e6 + 1.0, 4.0]);
    assert!((f64::from(found.rms) - 2f64.sqrt()).abs() < 1e-6);
    let found = fit(DotProduct, &[3.0, 4.0], 2);
    assert_eq!((found.mean, found.rms), (vec![0.0, 0.0], 5.0));
    let nothing = FitAccumulator::new(2, Euclidean).finish(1);
    assert_eq!((nothing.rows, nothing.rms), (0, 0.0));
    let same = fit(Euclidean, &[7.0; 20], 2);
    assert_eq!((same.mean, same.rms), (vec![7.0, 7.0], 0.0));
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        let fit = TurboFit {
            generation: 1,
            rows: 1,
            mean: vec![0.0; 8],
            rms: bad,
        };
        assert!(super::Frame::new(8, DotProduct, Some(&fit)).is_err());
    }
    let short = TurboFit {
        generation: 1,
        rows: 1,
        mean: vec![0.0; 7],
        rms: 1.0,
    };
    assert!(super::Frame::new(8, Euclidean, Some(&short)).is_err());
}

#[test]
fn memory_is_that_of_the_codes() {
    let (rows, dim) = fixture("minilm2k", "base");
    let index = loaded(FOUR, Cosine, &rows, dim, 1);
    let memory = index.memory();
    let codes = 2_000 * dim / 2;
    assert!(
        (codes..codes + codes / 4).contains(&memory.codes),
        "{}",
        memory.codes
    );
    assert!(memory.other < 64 * 2_000);
}
