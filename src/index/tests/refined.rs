//! Rows of bytes with parts of their steps, beside rows without, and rows that share a code.

use super::*;
use crate::encoding::EncodedView;
use proptest::prelude::*;

const ROWS: usize = 3_000;

/// Some of the rows of a fixture, and queries. Every third row is without digits; every fifth has the
/// code of the row before it, moved by a part of a step in one coordinate.
fn rows(name: &str, count: usize) -> (Vec<EncodedVector>, Vec<Vec<f32>>) {
    let (base, queries) = fixture(name);
    let dim = base[0].len();
    let encode = |vector: &Vec<f32>| Codec::Int8Quantized.encoder().encode(vector).unwrap();
    let mut rows: Vec<EncodedVector> = base[..count].iter().map(encode).collect();
    for row in 1..count {
        if row % 5 == 0 {
            rows[row] = rows[row - 1].clone();
            // The first digit of four or three.
            let base = if dim <= 256 { 4 } else { 3 };
            if let Some(digits) = rows[row].bytes.get_mut(dim) {
                *digits = *digits / base * base + (*digits % base + 1) % base;
                // And one of another coordinate.
                *digits ^= u8::from(base == 4) << 2;
            }
        } else if row % 3 == 0 {
            rows[row].bytes.truncate(dim);
        }
    }
    (rows, queries)
}

/// What an index of these rows answers, by slot and bits of the distance.
fn answers(index: &Index, query: &[f32], k: usize, ef: usize) -> Vec<(usize, u32)> {
    let spec = SearchSpec { k, ef, rerank: ef };
    let hits = index.search(query, &spec).into_iter();
    let hits = hits.map(|hit| {
        assert!(hit.exact, "an estimate");
        (hit.slot.index(), hit.distance.to_bits())
    });
    hits.collect()
}

#[test]
fn distances_are_those_of_the_rows_bit_for_bit() {
    for (name, dim, count) in [("glove4k", 100, ROWS), ("minilm2k", 384, 2_000)] {
        distances_hold(name, dim, count);
    }
}

fn distances_hold(name: &str, dim: usize, count: usize) {
    let (rows, queries) = rows(name, count);
    for (kind, distance) in [IndexKind::Hnsw, IndexKind::Flat]
        .into_iter()
        .flat_map(|kind| DISTANCES.map(|d| (kind, d)))
    {
        let mut spec = spec(dim, Codec::Int8Quantized, distance);
        spec.kind = kind;
        let mut index = Index::new(&spec).unwrap();
        for (slot, row) in rows.iter().enumerate() {
            index.load(Slot::new(slot), RowId::new(slot as u64 + 1), row.view());
        }
        index.build(&|_, _| true).unwrap();
        assert_eq!(index.check(), [""; 0]);
        let (mut found, mut wanted) = (0, 0);
        for query in &queries[..50] {
            let exact = ExactQuery::new(distance, query);
            let score = |row: &EncodedVector| exact.score_view(row.view(), &mut Vec::new());
            let mut all: Vec<(usize, f32)> = rows.iter().map(score).enumerate().collect();
            all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
            let all: Vec<(usize, u32)> = all.iter().map(|hit| (hit.0, hit.1.to_bits())).collect();
            assert_eq!(
                answers(&index, query, 20, count),
                all[..20],
                "{kind:?} {distance}"
            );
            let hits = answers(&index, query, 10, 200);
            found += hits.iter().filter(|hit| all[..10].contains(hit)).count();
            wanted += 10;
            assert!(
                hits.iter().all(|hit| all.contains(hit)),
                "{kind:?} {distance}"
            );
        }
        assert!(
            found * 100 >= wanted * 97,
            "{found} of {wanted}: {kind:?} {distance}"
        );
        for (slot, row) in rows.iter().enumerate() {
            assert!(index.holds(Slot::new(slot), row.view()));
            let next = &rows[(slot + 1) % count];
            let is_twin = (slot + 1) % 5 == 0 && next.bytes == row.bytes;
            assert_eq!(
                index.holds(Slot::new(slot), next.view()),
                is_twin,
                "row {slot}"
            );
        }
    }
}

/// Near-duplicates that a byte a coordinate takes for one another.
#[test]
fn digits_tell_rows_of_one_code_apart() {
    let codec = Codec::Int8Quantized;
    let vector = |part: usize| vec![0.0, 255.0, 100.0 + (part as f32 - 2.0) / 4.0, 7.0];
    let mut index = Index::new(&spec(4, codec, Distance::Euclidean)).unwrap();
    for row in 0..4 {
        let encoded = codec.encoder().encode(&vector(row)).unwrap();
        assert_eq!(encoded.bytes[..4], [0, 255, 100, 7]);
        index.load(Slot::new(row), RowId::new(row as u64 + 1), encoded.view());
    }
    index.build(&|_, _| true).unwrap();
    assert_eq!((index.len(), index.distinct()), (4, 1));
    for row in 0..4 {
        let nearest = answers(&index, &vector(row), 1, 10);
        assert_eq!(nearest, [(row, 0.0f32.to_bits())]);
    }
}

/// Nodes of rows that differ are known as such, whatever joins them and in whatever order.
#[test]
fn rows_of_one_code_are_told_apart_after_a_reopen_from_hints() {
    let (rows, queries) = rows("glove4k", ROWS);
    let spec = spec(100, Codec::Int8Quantized, Distance::Euclidean);
    let load = |order: &mut dyn Iterator<Item = usize>, hints: Vec<Vec<u8>>| {
        let mut index = Index::new(&spec).unwrap();
        index.reserve(ROWS);
        index.expect(hints);
        for (nth, row) in order.enumerate() {
            index.load(Slot::new(row), RowId::new(row as u64 + 1), rows[row].view());
            if nth % 700 == 699 {
                index.join_twins();
            }
        }
        index.build(&|_, _| true).unwrap();
        index
    };
    let built = load(&mut (0..ROWS), Vec::new());
    assert!(built.distinct() < ROWS - 500);
    let hints = built.hints();
    assert!(!hints.is_empty());
    let reopened = load(&mut (0..ROWS).rev(), hints.clone());
    assert_eq!((built.check(), reopened.check()), (Vec::new(), Vec::new()));
    for query in &queries[..50] {
        let wanted = answers(&built, query, 20, ROWS);
        assert_eq!(answers(&reopened, query, 20, ROWS), wanted);
    }
    let fewer = load(&mut (0..ROWS).rev().filter(|row| row % 50 != 4), hints);
    assert_eq!(fewer.check(), [""; 0]);
}

proptest! {
    /// Steps that are small beside the values, so that what codes stand for is rounded.
    #[test]
    fn exact_scans_miss_nothing_far_from_the_origin(
        offset in prop_oneof![Just(0.0f32), Just(1.0), Just(-1_000.0), Just(1e-20), Just(1e14)],
        steps in prop_oneof![256.0f32..320.0, 1.0f32..2_000.0],
        units in proptest::collection::vec(0.0f32..1.0, 1_200),
        dim in prop_oneof![2usize..17, 17usize..80, 257usize..300],
    ) {
        let ulp = (offset.abs().next_up() - offset.abs()).max(1e-24);
        // Pairs that differ least, the one that is asked for behind the other.
        let mut vectors = Vec::new();
        for (nth, units) in units.chunks_exact(dim).enumerate() {
            let mut vector: Vec<f32> =
                units.iter().map(|unit| offset + ulp * (unit * steps).floor()).collect();
            (vector[0], vector[1]) = (offset, offset + ulp * steps.floor());
            let mut near = vector.clone();
            near[nth % dim] += ulp;
            vectors.extend([near, vector]);
        }
        let encode = |vector: &Vec<f32>| Codec::Int8Quantized.encoder().encode(vector).unwrap();
        let rows: Vec<EncodedVector> = vectors.iter().map(encode).collect();
        for distance in DISTANCES {
            let spec = spec(dim, Codec::Int8Quantized, distance);
            let mut index = Index::new(&spec).unwrap();
            for (slot, row) in rows.iter().enumerate() {
                index.load(Slot::new(slot), RowId::new(slot as u64 + 1), row.view());
            }
            index.build(&|_, _| true).unwrap();
            for row in &rows {
                let query = row.decode().unwrap();
                let exact = ExactQuery::new(distance, &query);
                let score = |view: EncodedView<'_>| exact.score_view(view, &mut Vec::new());
                let nearest = rows.iter().map(|row| score(row.view()));
                let nearest = nearest.min_by(f32::total_cmp).unwrap();
                let found = index.search(&query, &SearchSpec { k: 1, ef: 10, rerank: 10 });
                prop_assert_eq!(found[0].distance, nearest, "{} {:?}", distance, query);
            }
        }
    }
}

/// As above: what is looked for is farther from its own code than from the row before it.
#[test]
fn a_row_that_is_far_from_its_code_is_found() {
    // Every one but the first two is a unit off its code.
    let steps = [
        0.0, 300.0, 3.0, 10.0, 17.0, 23.0, 24.0, 30.0, 37.0, 43.0, 44.0, 50.0, 57.0, 63.0, 64.0,
        70.0,
    ];
    let row: Vec<f32> = steps
        .iter()
        .map(|step| 1_000.0 + step * 2f32.powi(-14))
        .collect();
    let mut near = row.clone();
    near[2] = near[2].next_down();
    let spec = spec(steps.len(), Codec::Int8Quantized, Distance::Euclidean);
    let bench = Bench::load(spec, &[near, row.clone()]);
    assert_eq!(bench.index.distinct(), 2);
    for (_, stored) in bench.rows.iter().flatten() {
        let query = stored.decode().unwrap();
        let found = bench.index.search(
            &query,
            &SearchSpec {
                k: 1,
                ef: 10,
                rerank: 10,
            },
        );
        assert_eq!(found[0].distance, 0.0, "{query:?}");
    }
}

/// A row among so many copies of another, of the same code, that only so many of them are scored.
#[test]
fn a_row_behind_copies_of_another_is_found() {
    let vector = |part: usize| vec![0.0, 255.0, 100.0 + (part as f32 - 2.0) / 4.0, 7.0];
    for (loaded, written) in [(60, 1), (0, 61), (61, 0)] {
        let mut rows = vec![vector(1); 60];
        rows.push(vector(2));
        let spec = spec(4, Codec::Int8Quantized, Distance::Euclidean);
        let mut bench = Bench::load(spec, &rows[..loaded]);
        for row in &rows[loaded..loaded + written] {
            bench.insert(std::slice::from_ref(row));
        }
        assert_eq!((bench.index.len(), bench.index.distinct()), (61, 1));
        assert_eq!(bench.index.check(), [""; 0]);
        for _ in 0..2 {
            let nearest = bench.index.search(
                &vector(2),
                &SearchSpec {
                    k: 1,
                    ef: 10,
                    rerank: 1,
                },
            );
            assert_eq!((nearest[0].id, nearest[0].distance), (RowId::new(61), 0.0));
            // Without the first row the mark stays.
            bench.index.remove(Slot::new(0));
        }
    }
}
