//! How fast searches are, and at what recall: a rate without its recall is no figure.
//!
//! For every kind of table one sweep: HNSW over `ef`, turbo over the number of re-ranked
//! candidates, flat once. Recall is recall@10 of the stored form against the original vectors'
//! exact neighbours, scored by distance. `keys/s` are searches per second on one thread that
//! return keys and distances, `p50` and `p99` their microseconds; `rows/s` are searches per second
//! that return whole rows. Tables are measured as an open leaves them. Below: the rate at recall
//! 0.90, 0.95 and 0.99, interpolated between two measured points on the logarithm of the rate
//! (`>=` where the cheapest point is already better, `-` where the sweep ends below); the rate of
//! `search_batch` on two threads beside that of one; and the bytes of a row.
//!
//! `common/mod.rs` says how to run this on other data. Criterion measures one point of each sweep.
//!
//! Asserted: k hits, in order, for every query; the batch answers as single searches do; flat f32
//! finds everything; and on fixtures and MiniLM sets the floors of `floors`.

mod common;

use std::time::{Duration, Instant};

use common::truth::Truth;
use common::{DataSet, K, Kind, TABLE, assert_hits, fill, kinds, percentiles_us, print_table};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tempfile::TempDir;
use vecstash::{Distance, Hit, IndexKind, OpenOptions, Return, SearchOptions, Table, TableStats};

const EFS: [usize; 9] = [16, 24, 32, 48, 64, 96, 128, 192, 256];
const RERANKS: [usize; 4] = [10, 30, 50, 100];
/// The points that criterion and `search_batch` measure.
const EF_SHOWN: usize = 64;
const RERANK_SHOWN: usize = 30;
const TARGETS: [f64; 3] = [0.90, 0.95, 0.99];
const THREADS: usize = 2;
/// Every rate is measured for at least this long.
const SPELL: Duration = Duration::from_millis(150);

/// How one search trades speed for recall.
#[derive(Clone, Copy, PartialEq)]
enum Effort {
    Ef(usize),
    Rerank(usize),
    Scan,
}

impl Effort {
    fn sweep(index: IndexKind) -> Vec<Self> {
        match index {
            IndexKind::Hnsw => EFS.map(Self::Ef).to_vec(),
            IndexKind::Turbo => RERANKS.map(Self::Rerank).to_vec(),
            _ => vec![Self::Scan],
        }
    }

    fn shown(self) -> bool {
        matches!(
            self,
            Self::Ef(EF_SHOWN) | Self::Rerank(RERANK_SHOWN) | Self::Scan
        )
    }

    fn options(self) -> SearchOptions {
        let options = SearchOptions::new(K).returning(Return::Keys);
        match self {
            Self::Ef(ef) => options.ef(ef),
            Self::Rerank(candidates) => options.rerank(candidates),
            Self::Scan => options,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Ef(ef) => format!("ef {ef}"),
            Self::Rerank(candidates) => format!("rerank {candidates}"),
            Self::Scan => "scan".to_string(),
        }
    }
}

/// One point of a sweep.
struct Point {
    effort: Effort,
    recall: f64,
    keys_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    rows_per_second: f64,
}

/// The sweep of one kind of table.
struct Sweep {
    kind: Kind,
    points: Vec<Point>,
    batch_per_second: f64,
    stats: TableStats,
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let sets = match DataSet::from_env() {
        Some(set) => vec![set],
        None => vec![
            DataSet::fixture("minilm2k", Distance::Cosine),
            DataSet::fixture("glove4k", Distance::Euclidean),
            DataSet::fixture("sift8k_cc0", Distance::Euclidean),
        ],
    };
    for set in &sets {
        let truth = Truth::of(set);
        let sweeps: Vec<Sweep> = kinds()
            .into_iter()
            .map(|kind| sweep(&mut criterion, set, &truth, kind))
            .collect();
        print_sweeps(set, &sweeps);
        // After the table, so that a floor that does not hold can be read in its context.
        sweeps.iter().for_each(|sweep| assert_floors(set, sweep));
    }
    criterion.final_summary();
}

fn sweep(criterion: &mut Criterion, set: &DataSet, truth: &Truth, kind: Kind) -> Sweep {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("search.vecstash");
    fill(&path, set, set.base.len(), kind);
    let options = OpenOptions::new().create(false).threads(THREADS);
    let store = options.open(&path).expect("the store opens");
    let table = store.table(TABLE).expect("the table is there");
    assert_eq!(table.count().expect("a count"), set.base.len());

    let efforts = Effort::sweep(kind.index);
    let points = efforts
        .iter()
        .map(|&effort| point(set, truth, &table, effort));
    let points = points.collect();
    let shown = efforts.iter().copied().find(|effort| effort.shown());
    let shown = shown.expect("every sweep has a point to show");
    sample(criterion, set, &table, kind, shown);
    Sweep {
        kind,
        points,
        batch_per_second: batch_rate(set, &table, shown),
        stats: table.stats().expect("stats of an open table"),
    }
}

fn point(set: &DataSet, truth: &Truth, table: &Table, effort: Effort) -> Point {
    let options = effort.options();
    // This pass warms up, too.
    let recall = recall(set, truth, table, &options);
    let (keys_per_second, mut latencies) = rate(set, table, &options);
    let (rows_per_second, _) = rate(set, table, &options.returning(Return::Rows));
    let [p50_us, p99_us] = percentiles_us(&mut latencies);
    Point {
        effort,
        recall,
        keys_per_second,
        p50_us,
        p99_us,
        rows_per_second,
    }
}

fn search(table: &Table, query: &[f32], options: &SearchOptions) -> Vec<Hit> {
    table.search(query, options).expect("a search")
}

fn recall(set: &DataSet, truth: &Truth, table: &Table, options: &SearchOptions) -> f64 {
    let k = K.min(set.base.len());
    let mut found = 0;
    for (number, query) in set.queries.iter().enumerate() {
        let hits = search(table, query, options);
        assert_hits(&hits, k, number);
        found += truth.found(set, number, &hits);
    }
    found as f64 / (k * set.queries.len()) as f64
}

/// Searches per second and the seconds of each, over whole passes of the queries.
fn rate(set: &DataSet, table: &Table, options: &SearchOptions) -> (f64, Vec<f64>) {
    let mut latencies = Vec::new();
    let started = Instant::now();
    while started.elapsed() < SPELL {
        for query in set.queries.iter() {
            let before = Instant::now();
            std::hint::black_box(search(table, query, options));
            latencies.push(before.elapsed().as_secs_f64());
        }
    }
    let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
    (rate, latencies)
}

fn batch_rate(set: &DataSet, table: &Table, effort: Effort) -> f64 {
    let options = effort.options();
    let queries: Vec<&[f32]> = set.queries.iter().collect();
    let batch = || table.search_batch(&queries, &options).expect("a batch");
    for (query, hits) in queries.iter().zip(batch()) {
        assert_eq!(hits, search(table, query, &options), "batch and single");
    }
    let (mut searches, started) = (0, Instant::now());
    while started.elapsed() < SPELL {
        searches += std::hint::black_box(batch()).len();
    }
    searches as f64 / started.elapsed().as_secs_f64()
}

fn sample(criterion: &mut Criterion, set: &DataSet, table: &Table, kind: Kind, effort: Effort) {
    let mut group = criterion.benchmark_group(format!("search/{}", set.name));
    group
        .sample_size(20)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .throughput(Throughput::Elements(1));
    let options = effort.options();
    let mut queries = (0..set.queries.len()).cycle();
    let id = BenchmarkId::new(kind.name, effort.name());
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            let query = queries.next().expect("there are queries");
            search(table, set.queries.row(query), &options)
        });
    });
    group.finish();
}

/// The rate at a recall, between the two points of the sweep that enclose it.
fn rate_at(points: &[Point], target: f64) -> String {
    let Some(first) = points.iter().position(|point| point.recall >= target) else {
        return "-".to_string();
    };
    let above = &points[first];
    let Some(below) = first.checked_sub(1).map(|before| &points[before]) else {
        return format!(">= {:.0}", above.keys_per_second);
    };
    let part = (target - below.recall) / (above.recall - below.recall);
    let (low, high) = (below.keys_per_second.ln(), above.keys_per_second.ln());
    format!("{:.0}", (low + part * (high - low)).exp())
}

fn print_sweeps(set: &DataSet, sweeps: &[Sweep]) {
    let title = format!(
        "Search {}: {} x {}, {}, {} queries",
        set.name,
        set.base.len(),
        set.base.dim(),
        set.distance,
        set.queries.len()
    );
    let head = [
        "kind",
        "effort",
        "recall@10",
        "keys/s",
        "p50 us",
        "p99 us",
        "rows/s",
    ];
    let lines = sweeps.iter().flat_map(|sweep| {
        let line = |point: &Point| {
            vec![
                sweep.kind.name.to_string(),
                point.effort.name(),
                format!("{:.4}", point.recall),
                format!("{:.0}", point.keys_per_second),
                format!("{:.1}", point.p50_us),
                format!("{:.1}", point.p99_us),
                format!("{:.0}", point.rows_per_second),
            ]
        };
        sweep.points.iter().map(line)
    });
    print_table(&title, &head, &lines.collect::<Vec<_>>());
    print_rates(sweeps);
    print_bytes(sweeps);
}

fn print_rates(sweeps: &[Sweep]) {
    let head = [
        "kind",
        "at .90",
        "at .95",
        "at .99",
        "effort",
        "1 thread",
        "2 threads",
        "scaling",
    ];
    let lines = sweeps.iter().map(|sweep| {
        let shown = sweep.points.iter().find(|point| point.effort.shown());
        let shown = shown.expect("every sweep has a point to show");
        let mut line = vec![sweep.kind.name.to_string()];
        line.extend(TARGETS.map(|target| rate_at(&sweep.points, target)));
        line.extend([
            shown.effort.name(),
            format!("{:.0}", shown.keys_per_second),
            format!("{:.0}", sweep.batch_per_second),
            format!("{:.2}", sweep.batch_per_second / shown.keys_per_second),
        ]);
        line
    });
    let title = "Searches per second at a recall, one thread; search_batch on two threads";
    print_table(title, &head, &lines.collect::<Vec<_>>());
}

fn print_bytes(sweeps: &[Sweep]) {
    let head = [
        "kind", "memory", "codes", "links", "keys", "other", "disk", "distinct",
    ];
    let lines = sweeps.iter().map(|sweep| {
        let stats = &sweep.stats;
        let a_row = |bytes: usize| format!("{:.0}", bytes as f64 / stats.live_rows as f64);
        let disk = stats.bytes_on_disk.unwrap_or(0) as usize;
        vec![
            sweep.kind.name.to_string(),
            a_row(stats.memory.total()),
            a_row(stats.memory.codes),
            a_row(stats.memory.links),
            a_row(stats.memory.keys),
            a_row(stats.memory.other),
            a_row(disk),
            stats.distinct_vectors.to_string(),
        ]
    });
    print_table("Bytes per row", &head, &lines.collect::<Vec<_>>());
}

/// The recall that a kind of table reaches with this effort or less, on the sets we know.
fn floors(set: &str, kind: Kind) -> Vec<(Effort, f64)> {
    let minilm = set.starts_with("minilm");
    let glove = set == "glove4k";
    match kind.index {
        IndexKind::Hnsw if minilm || glove || set == "sift8k_cc0" => {
            vec![(Effort::Ef(64), 0.95), (Effort::Ef(256), 0.985)]
        }
        IndexKind::Turbo => match kind.codec.turbovec_bits() {
            Some(4) if minilm => vec![(Effort::Rerank(30), 0.99)],
            Some(2) if minilm => vec![(Effort::Rerank(30), 0.97)],
            Some(4) if glove => vec![(Effort::Rerank(30), 0.98)],
            _ => Vec::new(),
        },
        IndexKind::Flat => vec![(Effort::Scan, 1.0)],
        _ => Vec::new(),
    }
}

fn assert_floors(set: &DataSet, sweep: &Sweep) {
    for (effort, floor) in floors(&set.name, sweep.kind) {
        let last = sweep.points.iter().position(|point| point.effort == effort);
        let last = last.expect("floors name points of the sweep");
        let upto = sweep.points[..=last].iter().map(|point| point.recall);
        let best = upto.fold(0.0, f64::max);
        assert!(
            best >= floor,
            "{} {}: recall {best:.4} up to {}, where {floor} is the floor",
            set.name,
            sweep.kind.name,
            effort.name()
        );
    }
}
