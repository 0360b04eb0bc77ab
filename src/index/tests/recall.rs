//! Recall, exactness and determinism of an index that was just built.

use super::*;

const CODECS: [Codec; 3] = [Codec::Int8Quantized, Codec::F32, Codec::Fp16];

/// Recall at ef 16, 32, 64 and 256 of a graph built from a fixture.
fn recall_of(name: &str, codec: Codec, distance: Distance) -> [f64; 4] {
    let (base, queries) = fixture(name);
    let bench = Bench::load(spec(base[0].len(), codec, distance), &base);
    bench.assert_sound();
    let found = [16, 32, 64, 256].map(|ef| bench.recall(&queries, ef));
    println!("{name} {codec} {distance}: {found:.4?}");
    found
}

fn assert_recall(name: &str) {
    for codec in CODECS {
        for distance in DISTANCES {
            let [.., at_64, at_256] = recall_of(name, codec, distance);
            assert!(at_64 >= 0.95, "{name} {codec} {distance}: {at_64} at ef 64");
            assert!(
                at_256 >= 0.985,
                "{name} {codec} {distance}: {at_256} at ef 256"
            );
        }
    }
}

#[test]
fn recall_on_words() {
    assert_recall("glove4k");
}

#[test]
fn recall_on_images() {
    assert_recall("sift8k_cc0");
}

#[test]
fn exact_search_finds_the_published_neighbours() {
    let (base, queries) = fixture("minilm2k");
    let bench = Bench::load(spec(384, Codec::F32, Distance::Euclidean), &base[..1_999]);
    let truth = npy::read("minilm2k/gt_euclidean_dist").rows();
    let last = &base[1_999];
    for (query, truth) in queries.iter().zip(truth) {
        let found = bench.search(query, 10, 10);
        let apart: f32 = query.iter().zip(last).map(|(a, b)| (a - b).powi(2)).sum();
        if apart.sqrt() > truth[9] + 1e-3 {
            assert!((found[9].0 - truth[9]).abs() <= 1e-4 * truth[9]);
        }
    }
}

#[test]
fn scans_are_exact() {
    let (base, queries) = fixture("glove4k");
    for codec in CODECS {
        for distance in DISTANCES {
            for (kind, resident) in [
                (IndexKind::Hnsw, Residence::Compact),
                (IndexKind::Hnsw, Residence::Full),
                (IndexKind::Flat, Residence::Compact),
            ] {
                let mut spec = spec(100, codec, distance);
                (spec.kind, spec.resident) = (kind, resident);
                let bench = Bench::load(spec, &base[..1_900]);
                for query in &queries[..20] {
                    let truth = bench.truth(query, 10);
                    assert_eq!(bench.scan(query, 10), truth);
                    assert_eq!(bench.search(query, 10, 50), truth);
                }
                let vector = bench.encode(&base[7]);
                let told = kind == IndexKind::Flat
                    || codec == Codec::Int8Quantized
                    || resident == Residence::Full;
                assert_eq!(bench.index.holds(Slot::new(7), vector.view()), told);
                assert!(!bench.index.holds(Slot::new(8), vector.view()));
            }
        }
    }
}

#[test]
fn estimates_are_few() {
    let (base, queries) = fixture("glove4k");
    let bench = Bench::load(spec(100, Codec::F32, Distance::Cosine), &base);
    let mut most = 0;
    for query in &queries {
        let mut scan = bench.index.scan_start(query, 10).expect("rows in memory");
        bench.index.scan_step(&mut scan, usize::MAX);
        most = most.max(scan.finish().len());
    }
    assert!(most <= 15, "{most} candidates for 10 rows");
}

#[test]
fn a_build_does_not_depend_on_threads_or_load_order() {
    let (base, _) = fixture("glove4k");
    let mut base = base;
    // Some twins, whose order matters.
    base.extend_from_within(..300);
    let straight: Vec<usize> = (0..base.len()).collect();
    let mut prints = Vec::new();
    for (threads, order) in [(1, &straight), (2, &shuffled(base.len())), (8, &straight)] {
        let pool = crate::pool::new(threads).unwrap();
        let spec = spec(100, Codec::Int8Quantized, Distance::Cosine);
        let bench = pool.install(|| Bench::load_in_order(spec, &base, order));
        prints.push(bench.index.fingerprint());
    }
    assert!(
        prints.windows(2).all(|pair| pair[0] == pair[1]),
        "{prints:x?}"
    );
}

#[test]
fn a_cancelled_build_says_so() {
    let (base, _) = fixture("glove4k");
    let spec = spec(100, Codec::Int8Quantized, Distance::Cosine);
    let mut index = Index::new(&spec).unwrap();
    for (slot, vector) in base.iter().enumerate() {
        let encoded = spec.codec.encoder().encode(vector).unwrap();
        index.load(Slot::new(slot), RowId::new(slot as u64), encoded.view());
    }
    let built = index.build(&|done, _| done < 1_000);
    assert!(matches!(built, Err(IndexError::Cancelled)));
}

#[test]
fn a_row_of_384_coordinates_takes_less_than_630() {
    let (base, _) = fixture("minilm2k");
    // Six versions of every row, since 2,000 rows say little about the growth of arenas.
    let mut rows = Vec::new();
    for version in 0..6 {
        let shift = |vector: &Vec<f32>| {
            let moved = vector
                .iter()
                .enumerate()
                .map(|(i, x)| x + (i * version % 7) as f32 * 1e-2);
            moved.collect::<Vec<f32>>()
        };
        rows.extend(base.iter().map(shift));
    }
    let bench = Bench::load(spec(384, Codec::Int8Quantized, Distance::Cosine), &rows);
    let memory = bench.index.memory();
    let per_row = (memory.codes + memory.links + memory.other) as f64 / rows.len() as f64;
    println!(
        "{per_row:.1} bytes a row of {}: {memory:?}",
        bench.index.distinct()
    );
    assert!(per_row <= 630.0, "{per_row} bytes a row");
}

#[test]
fn resident_rows_need_no_estimates() {
    let (base, queries) = fixture("glove4k");
    let mut spec = spec(100, Codec::Fp16, Distance::Euclidean);
    spec.resident = Residence::Full;
    let bench = Bench::load(spec, &base);
    let found = bench.recall(&queries, 64);
    assert!(found >= 0.95, "{found}");
    let spec = SearchSpec {
        k: 10,
        ef: 64,
        rerank: 24,
    };
    let hits = bench.index.search(&queries[0], &spec);
    assert!(hits.len() == 10 && hits.iter().all(|hit| hit.exact));
}
