//! The floor matrix: recall@10 against the ground truth of the original `f32` rows, for every
//! distance x codec x index, as built, after a reopen, and after half of the rows were deleted
//! and inserted again.

mod common;

use common::rng::Rng;
use common::sets::Set;
use common::stores::{
    Answers, TempPath, answers, assert_clean, create, fill, fill_some, recall, remove_some, row_of,
    schema,
};
use vecstash::Codec::{F32, Fp16, Int8Quantized};
#[cfg(feature = "turbo")]
use vecstash::Codec::{Turbovec2Bit, Turbovec3Bit, Turbovec4Bit};
use vecstash::Distance::{Cosine, DotProduct, Euclidean};
use vecstash::{Codec, Distance, IndexKind, SearchOptions, Table};

const K: usize = 10;

/// One line of the matrix.
struct Floor {
    set: &'static str,
    distance: Distance,
    codec: Codec,
    index: IndexKind,
    /// Each search and the recall it must reach.
    floors: Floors,
}

enum Floors {
    /// By the candidate pools 64 and 256.
    Graph { at_64: f64, at_256: f64 },
    /// By the one way such a table is searched, with 30 candidates re-ranked.
    Scan(f64),
}

/// A codec and the floors it is held to.
type CodecFloors = (Codec, fn() -> Floors);

/// Three distances x the codecs given.
fn lines(
    set: &'static str,
    distances: &[Distance],
    index: IndexKind,
    codecs: &[CodecFloors],
) -> Vec<Floor> {
    let mut lines = Vec::new();
    for &distance in distances {
        for &(codec, floors) in codecs {
            lines.push(Floor {
                set,
                distance,
                codec,
                index,
                floors: floors(),
            });
        }
    }
    lines
}

const GRAPH: fn() -> Floors = || Floors::Graph {
    at_64: 0.95,
    at_256: 0.985,
};
const ALL: [Distance; 3] = [Euclidean, Cosine, DotProduct];

#[test]
fn hnsw_on_glove() {
    hold(lines(
        "glove4k",
        &ALL,
        IndexKind::Hnsw,
        &[(Int8Quantized, GRAPH), (Fp16, GRAPH), (F32, GRAPH)],
    ));
}

#[test]
fn hnsw_on_sift() {
    hold(lines(
        "sift8k_cc0",
        &[Euclidean, Cosine],
        IndexKind::Hnsw,
        &[(Int8Quantized, GRAPH), (Fp16, GRAPH), (F32, GRAPH)],
    ));
}

#[test]
fn flat() {
    let codecs: [(Codec, fn() -> Floors); 3] = [
        (F32, || Floors::Scan(1.0)),
        (Fp16, || Floors::Scan(0.995)),
        (Int8Quantized, || Floors::Scan(0.985)),
    ];
    hold(lines("glove4k", &ALL, IndexKind::Flat, &codecs));
    hold(lines("minilm2k", &ALL, IndexKind::Flat, &codecs));
}

#[test]
#[cfg(feature = "turbo")]
fn turbo_on_sentences() {
    hold(lines(
        "minilm2k",
        &ALL,
        IndexKind::Turbo,
        &[
            (Turbovec4Bit, || Floors::Scan(0.99)),
            (Turbovec3Bit, || Floors::Scan(0.98)),
            (Turbovec2Bit, || Floors::Scan(0.97)),
        ],
    ));
}

/// Rows of any norm: what ranks by angle fails here.
#[test]
#[cfg(feature = "turbo")]
fn turbo_on_unnormalised_words() {
    hold(lines(
        "glove4k",
        &ALL,
        IndexKind::Turbo,
        &[
            (Turbovec4Bit, || Floors::Scan(0.98)),
            (Turbovec3Bit, || Floors::Scan(0.95)),
            (Turbovec2Bit, || Floors::Scan(0.85)),
        ],
    ));
}

/// Rows that took the place of others lie where the fit of those does not reach.
#[test]
#[cfg(feature = "turbo")]
fn turbo_after_every_row_was_replaced() {
    let store = vecstash::VectorStore::in_memory();
    let schema = vecstash::TableSchema {
        name: "words".into(),
        dim: 8,
        codec: Turbovec4Bit,
        distance: Euclidean,
        hnsw: vecstash::HnswParams::default(),
    };
    store.create_table(schema).unwrap();
    let table = store.table("words").unwrap();
    let vector = |row: usize, offset: f32| -> Vec<f32> {
        let value = |i: usize| ((row * 7 + i * 131 + row * row * i) % 251) as f32 / 251.0;
        (0..8).map(|i| offset + value(i)).collect()
    };
    for offset in [0.0, 40.0, -3_000.0] {
        let row = |row: usize| vecstash::NewRow {
            key: row.to_be_bytes().to_vec(),
            vector: vector(row, offset),
            metadata: std::collections::HashMap::new(),
        };
        table.upsert_many((0..1_500).map(row).collect()).unwrap();
        let mut found = 0;
        for query in (0..1_500).step_by(50).map(|row| vector(row, offset)) {
            let exact = SearchOptions::new(K).exact(true);
            let last = table.search(&query, &exact).unwrap()[K - 1].distance;
            let hits = table.search(&query, &SearchOptions::new(K)).unwrap();
            found += hits.iter().filter(|hit| hit.distance <= last).count();
        }
        assert!(found >= 285, "offset {offset}: {found} of 300");
    }
}

fn hold(lines: Vec<Floor>) {
    let mut below = Vec::new();
    for line in lines {
        let set = Set::load(line.set, line.distance);
        let place = TempPath::new();
        let store = place.open();
        let table = create(&store, set.dim(), line.codec, line.distance, line.index);
        fill(&table, &set.base);
        line.measure(&set, &table, "built", &mut below);

        drop(table);
        store.close().expect("a close");
        let store = place.open();
        let table = store.table("t").expect("the table");
        line.measure(&set, &table, "reopened", &mut below);

        let half: Vec<usize> = (0..set.base.len()).filter(|row| row % 2 == 1).collect();
        remove_some(&table, &half);
        assert_eq!(table.count().unwrap(), set.base.len() - half.len());
        fill_some(&table, &set.base, &half);
        line.measure(&set, &table, "half reinserted", &mut below);
    }
    assert!(below.is_empty(), "{}", below.join("\n"));
}

impl Floor {
    fn measure(&self, set: &Set, table: &Table, state: &str, below: &mut Vec<String>) {
        assert_clean(table);
        assert_eq!(table.count().unwrap(), set.base.len());
        let mut hold = |what: &str, options: SearchOptions, floor: f64| {
            let found: Answers = answers(table, &set.queries, &options);
            let reached = recall(set, &found, K);
            let line = format!(
                "{:10} {:11} {:14} {:?} {state}, {what}: {reached:.4}, floor {floor}",
                self.set, self.distance, self.codec, self.index
            );
            println!("{line}");
            // Recall is a count of hits divided by their number; no rounding reaches 1e-9.
            if reached < floor - 1e-9 {
                below.push(line);
            }
        };
        let options = SearchOptions::new(K);
        match self.floors {
            Floors::Graph { at_64, at_256 } => {
                hold("ef 64", options.clone().ef(64), at_64);
                hold("ef 256", options.ef(256), at_256);
            }
            Floors::Scan(floor) => hold("scan", options.rerank(30), floor),
        }
    }
}

/// Clusters as far from each other as each from all: nothing tells a walk which way to go, and one
/// that comes down in a wrong cluster stays there. Few links make it hard already on few rows.
#[test]
fn walks_find_the_way_into_clusters_far_apart() {
    const CLUSTERS: usize = 20;
    let mut rng = Rng::new(11);
    let centres: Vec<Vec<f32>> = (0..CLUSTERS).map(|_| rng.vector(64)).collect();
    let mut rows = |count: usize| -> Vec<Vec<f32>> {
        let mut near = |row: usize| {
            let centre = centres[row % CLUSTERS].iter();
            centre.map(|x| x + 0.4 * rng.normal()).collect()
        };
        (0..count).map(&mut near).collect()
    };
    let (base, queries) = (rows(20_000), rows(900));
    let store = vecstash::VectorStore::in_memory();
    let mut schema = schema("t", 64, Int8Quantized, Euclidean);
    (schema.hnsw.m, schema.hnsw.m0) = (4, 8);
    store.create_table(schema).unwrap();
    let table = store.table("t").unwrap();
    fill(&table, &base);
    let found = answers(&table, &queries, &SearchOptions::new(1).ef(64));
    let found = found.iter().map(|hits| row_of(&hits[0].0) % CLUSTERS);
    let right = found
        .enumerate()
        .filter(|(query, found)| query % CLUSTERS == *found);
    // A descent of one node finds the way for 860.
    let right = right.count();
    assert!(right >= 882, "{right} of 900 queries find their cluster");
}

/// The measure itself: it must tell good answers from bad ones.
#[test]
fn the_measure_can_fail() {
    let set = Set::load("glove4k", DotProduct);
    for (query, truth) in set.gt_ids.iter().enumerate() {
        assert_eq!(set.recall_by_distance(query, truth, K), 1.0);
        assert_eq!(set.recall_by_distance(query, &truth[20..30], K), 0.0);
        assert_eq!(set.recall_by_distance(query, &truth[..5], K), 0.5);
        assert_eq!(set.recall_by_distance(query, &[truth[0]; K], K), 0.1);
    }
}

/// The committed ground truth is what an exact scan of the committed rows finds.
#[test]
fn the_ground_truth_is_true() {
    for (name, distance) in [
        ("glove4k", Euclidean),
        ("glove4k", Cosine),
        ("glove4k", DotProduct),
        ("sift8k_cc0", Euclidean),
        ("sift8k_cc0", Cosine),
        ("minilm2k", Euclidean),
        ("minilm2k", Cosine),
        ("minilm2k", DotProduct),
    ] {
        let set = Set::load(name, distance);
        let own = Set::brute(set.base.clone(), set.queries[..10].to_vec(), distance, 100);
        for (query, (own, set)) in own.gt_dist.iter().zip(&set.gt_dist).enumerate() {
            for (a, b) in own.iter().zip(set) {
                assert!(
                    (a - b).abs() <= 2e-5 * a.abs().max(1.0),
                    "{name} {distance} query {query}: {a} and {b}"
                );
            }
        }
    }
}
