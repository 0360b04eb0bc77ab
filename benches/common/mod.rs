//! What the benches share: the data they run on, its ground truth, and tables of it on disk.
//!
//! | variable | meaning |
//! |---|---|
//! | `VECSTASH_BENCH_DATA` | a folder with `base` and `query` (.npy, .fvecs or .bvecs) and, if there is one, `gt_<metric>_ids.npy`; or one file, of which some rows are held out as queries |
//! | `VECSTASH_BENCH_DISTANCE` | `cosine`, `euclidean` or `dot_product`; else that of the ground truth, else cosine for vectors of unit length and euclidean for all others |
//! | `VECSTASH_BENCH_ROWS` | the first so many rows; without a data set: so many synthetic rows |
//! | `VECSTASH_BENCH_DIM` | dimension of synthetic rows, 128 by default |
//! | `VECSTASH_BENCH_KINDS` | only these kinds of table, by name: `hnsw_int8,turbo_4bit,...` |
//!
//! Without any of them the benches run on the committed fixtures. Stores are written under
//! `TMPDIR`: an fsync there should be a real one.
#![allow(dead_code, reason = "each bench needs a different part")]

pub(crate) mod ledger;
pub(crate) mod synth;
pub(crate) mod truth;
#[path = "../../src/cli/vectors.rs"]
pub(crate) mod vectors;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use vecstash::{
    Codec, Distance, Hit, HnswParams, IndexKind, Metadata, NewRow, OpenOptions, Residence,
    TableOptions, TableSchema, VectorStore,
};

use self::synth::{Mixture, QUERY_START, Random};
use self::vectors::{VectorFile, read_npy_i32};

/// Neighbours asked for everywhere: recall is recall@10.
pub(crate) const K: usize = 10;
/// Most queries of a set.
const QUERIES_MAX: usize = 1_000;
/// Rows written in one transaction while a table is filled.
const FILL_BATCH: usize = 250_000;
/// Every bench keeps its rows in one table of this name.
pub(crate) const TABLE: &str = "bench";

/// Vectors of one dimension, one after the other.
pub(crate) struct Rows {
    dim: usize,
    values: Vec<f32>,
}

impl Rows {
    pub(crate) fn new(dim: usize, values: Vec<f32>) -> Self {
        assert!(
            dim > 0 && values.len().is_multiple_of(dim),
            "rows of {dim} numbers"
        );
        Self { dim, values }
    }

    fn read(path: &Path, limit: usize) -> Self {
        let fail = |error| -> ! { panic!("{}: {error}", path.display()) };
        let file = VectorFile::open(path).unwrap_or_else(|error| fail(error));
        let (dim, len) = (file.dim(), file.len().min(limit));
        let mut values = Vec::with_capacity(dim * len);
        for row in file.rows().take(len) {
            values.extend(row.unwrap_or_else(|error| fail(error)));
        }
        Self::new(dim, values)
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..][..self.dim]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim)
    }

    /// The rows in groups of up to `len`, each group as one slice of numbers.
    pub(crate) fn blocks(&self, len: usize) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(len * self.dim)
    }

    fn first(mut self, len: usize) -> Self {
        self.values.truncate(len.saturating_mul(self.dim));
        self
    }

    /// Takes about `count` rows out, evenly spread, and returns the rest and them.
    fn hold_out(self, count: usize) -> (Self, Self) {
        let every = self.len().div_ceil(count.max(1));
        let (mut rest, mut held) = (Vec::new(), Vec::new());
        for (i, row) in self.iter().enumerate() {
            if i % every == 0 { &mut held } else { &mut rest }.extend_from_slice(row);
        }
        (Self::new(self.dim, rest), Self::new(self.dim, held))
    }
}

/// Base rows and queries.
pub(crate) struct DataSet {
    pub(crate) name: String,
    pub(crate) distance: Distance,
    pub(crate) base: Rows,
    pub(crate) queries: Rows,
    /// The row that is K-th nearest to each query, where the set came with its ground truth.
    kth_ids: Option<Vec<usize>>,
}

impl DataSet {
    /// The set that the environment names.
    pub(crate) fn from_env() -> Option<Self> {
        let rows = number("VECSTASH_BENCH_ROWS");
        match env::var_os("VECSTASH_BENCH_DATA") {
            Some(path) => Some(Self::open(
                Path::new(&path),
                distance_from_env(),
                rows.unwrap_or(usize::MAX),
            )),
            None => rows.map(|rows| {
                let dim = number("VECSTASH_BENCH_DIM").unwrap_or(128);
                Self::synthetic(rows, dim)
            }),
        }
    }

    /// A committed fixture.
    pub(crate) fn fixture(name: &str, distance: Distance) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        Self::open(&folder.join(name), Some(distance), usize::MAX)
    }

    /// Clustered synthetic rows.
    pub(crate) fn synthetic(rows: usize, dim: usize) -> Self {
        let mixture = Mixture::new(dim);
        Self {
            name: format!("synthetic{rows}x{dim}"),
            distance: distance_from_env().unwrap_or(Distance::Euclidean),
            base: mixture.rows(0, rows),
            queries: mixture.rows(QUERY_START, (rows / 10).clamp(1, QUERIES_MAX)),
            kth_ids: None,
        }
    }

    /// The set in a folder or one file of vectors: its first `rows_max` rows.
    pub(crate) fn open(path: &Path, distance: Option<Distance>, rows_max: usize) -> Self {
        let name = path.file_stem().unwrap_or(path.as_os_str());
        let name = name.to_string_lossy().into_owned();
        let (base, queries) = if path.is_dir() {
            let queries = Rows::read(&vector_file(path, "query"), QUERIES_MAX);
            (Rows::read(&vector_file(path, "base"), rows_max), queries)
        } else {
            let rows = Rows::read(path, rows_max.saturating_add(QUERIES_MAX));
            let count = (rows.len() / 10).min(QUERIES_MAX);
            let (rest, held) = rows.hold_out(count);
            (rest.first(rows_max), held)
        };
        let distance = distance
            .or_else(|| {
                DISTANCES
                    .into_iter()
                    .find(|d| truth_file(path, *d).exists())
            })
            .unwrap_or_else(|| natural_distance(&base));
        let kth_ids = read_kth_ids(&truth_file(path, distance), queries.len(), base.len());
        Self {
            name,
            distance,
            base,
            queries,
            kth_ids,
        }
    }

    /// Takes about `count` rows out, evenly spread, and returns the set without them and them, in
    /// random order: sets come sorted by topic or by source.
    pub(crate) fn hold_back(self, count: usize) -> (Self, Rows) {
        let (base, held) = self.base.hold_out(count);
        let mut random = Random::new(count as u64);
        let mut rows: Vec<(f64, &[f32])> = held.iter().map(|row| (random.uniform(), row)).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let values = rows.iter().flat_map(|(_, row)| *row).copied().collect();
        let held = Rows::new(held.dim, values);
        let set = Self {
            base,
            kth_ids: None,
            ..self
        };
        (set, held)
    }
}

const DISTANCES: [Distance; 3] = [Distance::Cosine, Distance::Euclidean, Distance::DotProduct];

/// The number above 0 that a variable is set to.
pub(crate) fn number(variable: &str) -> Option<usize> {
    let text = env::var(variable).ok()?;
    let digits = text.replace('_', "");
    let number = digits.parse().ok().filter(|&number| number > 0);
    Some(number.unwrap_or_else(|| panic!("{variable}={text}: a number above 0 belongs there")))
}

fn distance_from_env() -> Option<Distance> {
    let name = env::var("VECSTASH_BENCH_DISTANCE").ok()?;
    let found = DISTANCES.into_iter().find(|d| d.as_str() == name);
    Some(found.unwrap_or_else(|| {
        panic!("VECSTASH_BENCH_DISTANCE={name}: cosine, euclidean or dot_product belongs there")
    }))
}

/// Cosine for rows of unit length (within what half floats can hold), Euclidean for all others.
fn natural_distance(rows: &Rows) -> Distance {
    let unit = |row: &[f32]| (truth::dot(row, row) - 1.0).abs() < 5e-3;
    if rows.iter().take(100).all(unit) {
        Distance::Cosine
    } else {
        Distance::Euclidean
    }
}

fn vector_file(folder: &Path, stem: &str) -> PathBuf {
    ["npy", "fvecs", "bvecs"]
        .map(|extension| folder.join(stem).with_extension(extension))
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{}: no {stem}.npy, .fvecs, .bvecs", folder.display()))
}

fn truth_file(folder: &Path, distance: Distance) -> PathBuf {
    let metric = match distance {
        Distance::DotProduct => "ip",
        other => other.as_str(),
    };
    folder.join(format!("gt_{metric}_ids.npy"))
}

/// Each query's K-th neighbour, unless there is no such file or it is about more rows than ours.
fn read_kth_ids(path: &Path, queries: usize, rows: usize) -> Option<Vec<usize>> {
    if !path.exists() {
        return None;
    }
    let (shape, ids) = read_npy_i32(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let &[len, width] = shape.as_slice() else {
        panic!("{}: the array has {} axes", path.display(), shape.len());
    };
    assert!(
        len >= queries,
        "{}: fewer rows than queries",
        path.display()
    );
    if width < K {
        return None;
    }
    // Rows left out of the base may be neighbours: any such id makes the file somebody else's.
    let ours = |&id: &i32| usize::try_from(id).is_ok_and(|id| id < rows);
    if !ids.iter().all(ours) {
        return None;
    }
    let kth = ids
        .chunks_exact(width)
        .map(|of_query| of_query[K - 1] as usize);
    Some(kth.take(queries).collect())
}

/// Splits `values` into as many parts as there are cores, at multiples of `unit`, and runs `work`
/// on each with the number of its first unit.
pub(crate) fn on_all_cores<T: Send>(
    values: &mut [T],
    unit: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let units = (values.len() / unit).div_ceil(cores).max(1);
    let work = &work;
    thread::scope(|scope| {
        for (i, part) in values.chunks_mut(units * unit).enumerate() {
            scope.spawn(move || work(i * units, part));
        }
    });
}

/// A kind of table.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) codec: Codec,
    pub(crate) index: IndexKind,
    pub(crate) resident: Residence,
}

const fn kind(name: &'static str, codec: Codec, index: IndexKind) -> Kind {
    Kind {
        name,
        codec,
        index,
        resident: Residence::Compact,
    }
}

/// As [`HNSW_F32`], with its rows in memory as well.
pub(crate) const HNSW_F32_FULL: Kind = Kind {
    name: "hnsw_f32_full",
    resident: Residence::Full,
    ..HNSW_F32
};

pub(crate) const HNSW_INT8: Kind = kind("hnsw_int8", Codec::Int8Quantized, IndexKind::Hnsw);
pub(crate) const HNSW_F32: Kind = kind("hnsw_f32", Codec::F32, IndexKind::Hnsw);
const KINDS: [Kind; 7] = [
    HNSW_INT8,
    kind("hnsw_fp16", Codec::Fp16, IndexKind::Hnsw),
    HNSW_F32,
    HNSW_F32_FULL,
    kind("turbo_4bit", Codec::Turbovec4Bit, IndexKind::Turbo),
    kind("turbo_2bit", Codec::Turbovec2Bit, IndexKind::Turbo),
    kind("flat_f32", Codec::F32, IndexKind::Flat),
];

/// The kinds of table that this build has and `VECSTASH_BENCH_KINDS` does not leave out.
pub(crate) fn kinds() -> Vec<Kind> {
    kinds_or(&KINDS)
}

/// As [`kinds`], and `usual` where the variable is not set.
pub(crate) fn kinds_or(usual: &[Kind]) -> Vec<Kind> {
    let built = |kind: &Kind| kind.index != IndexKind::Turbo || cfg!(feature = "turbo");
    let only = env::var("VECSTASH_BENCH_KINDS").ok();
    let asked = |kind: &Kind| match &only {
        Some(names) => names.split(',').any(|name| name.trim() == kind.name),
        None => usual.iter().any(|usual| usual.name == kind.name),
    };
    let kinds: Vec<Kind> = KINDS.into_iter().filter(built).filter(asked).collect();
    assert!(
        !kinds.is_empty(),
        "VECSTASH_BENCH_KINDS names none of {}",
        KINDS.map(|kind| kind.name).join(", ")
    );
    kinds
}

/// The key of row number `row`: 16 bytes.
pub(crate) fn key_of(row: usize) -> Vec<u8> {
    format!("row-{row:012}").into_bytes()
}

/// The number of the row under `key`.
pub(crate) fn row_of(key: &[u8]) -> usize {
    let digits = std::str::from_utf8(&key[4..]).expect("keys are text");
    digits.parse().expect("keys end in the number of the row")
}

/// Creates the bench's table.
pub(crate) fn create(store: &VectorStore, dim: usize, distance: Distance, kind: Kind) {
    let schema = TableSchema {
        name: TABLE.to_string(),
        dim: u16::try_from(dim).expect("at most 65,535 coordinates"),
        codec: kind.codec,
        distance,
        hnsw: HnswParams::default(),
    };
    let options = TableOptions::default()
        .index(kind.index)
        .resident(kind.resident);
    store
        .create_table_with(schema, options)
        .expect("a new table");
}

/// Writes the first `rows` rows of a set into a new store and closes it.
pub(crate) fn fill(path: &Path, set: &DataSet, rows: usize, kind: Kind) {
    let _ = fs::remove_file(path);
    let store = OpenOptions::new().open(path).expect("a new store");
    create(&store, set.base.dim(), set.distance, kind);
    let table = store.table(TABLE).expect("the new table");
    for start in (0..rows).step_by(FILL_BATCH) {
        let batch = (start..rows.min(start + FILL_BATCH)).map(|row| NewRow {
            key: key_of(row),
            vector: set.base.row(row).to_vec(),
            metadata: Metadata::from([("row".to_string(), row.into())]),
        });
        table.upsert_many(batch.collect()).expect("a batch of rows");
    }
    store.close().expect("every row durable");
}

/// The answer of query number `query` has `k` hits, the nearest first.
pub(crate) fn assert_hits(hits: &[Hit], k: usize, query: usize) {
    assert_eq!(hits.len(), k, "query {query}: number of hits");
    let in_order = hits.is_sorted_by(|a, b| a.distance <= b.distance);
    assert!(in_order, "query {query}: hits out of order");
}

/// The 50th and the 99th percentile of seconds, in microseconds.
pub(crate) fn percentiles_us(seconds: &mut [f64]) -> [f64; 2] {
    seconds.sort_by(f64::total_cmp);
    [0.50, 0.99].map(|p| seconds[((seconds.len() - 1) as f64 * p) as usize] * 1e6)
}

/// Prints a table for people.
pub(crate) fn print_table(title: &str, head: &[&str], lines: &[Vec<String>]) {
    println!("\n{title}");
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let width = |column: usize| {
        let cells = lines.iter().chain([&head]).map(|line| line[column].len());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for line in [&head].into_iter().chain(lines) {
        let cells = line.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:>width$}"))
            .collect();
        println!("  {}", cells.join("  "));
    }
}

/// The median of some measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
