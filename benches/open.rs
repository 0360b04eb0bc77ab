//! How long an open takes: every index is rebuilt from the stored rows before it returns.
//!
//! Criterion's groups `open/rows`, `open/dimension` and `open/kind` each vary one thing. The table
//! at the end has the stages of the open report, the median of three opens: `check` proves the
//! file and every page of it, `walk` reads the rows, `link` builds the index. HNSW tables are opened
//! from files without links, which are found again, and with them, which are read. Below it stands, for
//! every series over the number of rows, the exponent: the slope of log time over log rows, 1 for
//! an open that is linear in its rows. Tables of fewer than 2,000 distinct vectors have no graph,
//! so a series that begins below rises where the graph begins.
//!
//! `scan` is what is read and proved in any case: the same file opened by bare redb with its integrity
//! check, and every byte of the rows' values read, once before the opens and once after. With
//! `VECSTASH_BENCH_OUT` set to a folder, a plot of each set is written there.
//!
//! The file is in the system's cache, as after a restart of the process alone. `common/mod.rs`
//! says how to run this on other data: that set is then opened at its full size, a half and a
//! quarter. Opens of more than two seconds are measured for the table and not by criterion.
//!
//! Asserted at every open measured: the rows are all there, and twenty of them find themselves.

mod common;
#[path = "../src/cli/plot.rs"]
mod plot;

use std::path::Path;
use std::time::{Duration, Instant};

use common::truth::distance;
use common::{DataSet, HNSW_INT8, Kind, TABLE, fill, key_of, kinds, median, print_table};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use redb::{Builder, ReadableDatabase, TableDefinition};
use tempfile::TempDir;
use vecstash::{
    Distance, IndexKind, OpenOptions, OpenReport, Return, SearchOptions, Table, VectorStore,
};

const THREADS: [usize; 2] = [1, 2];
/// Opens per line of the table.
const OPENS: usize = 3;
/// Opens that take longer are not repeated.
const REPEATED_SECONDS_MAX: f64 = 20.0;
/// Opens that take longer are not given to criterion, which repeats each eleven times and more.
const CRITERION_SECONDS_MAX: f64 = 2.0;
const PROBES: usize = 20;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// What is opened.
struct Case<'a> {
    set: &'a DataSet,
    rows: usize,
    kind: Kind,
    threads: usize,
    /// Whether the file has links to read.
    links: bool,
}

/// A line of the table.
struct Line {
    set: String,
    rows: usize,
    dim: usize,
    kind: &'static str,
    threads: usize,
    links: &'static str,
    check: f64,
    walk: f64,
    link: f64,
    total: f64,
    scan: f64,
    disk_bytes: f64,
    memory_bytes: f64,
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut lines = Vec::new();
    match DataSet::from_env() {
        Some(set) => {
            let sizes = [set.base.len() / 4, set.base.len() / 2, set.base.len()];
            for kind in kinds() {
                by_rows(&mut criterion, &mut lines, &set, &sizes, kind);
            }
        }
        None => on_fixtures(&mut criterion, &mut lines),
    }
    criterion.final_summary();
    print_lines(&lines);
    print_exponents(&lines);
    if let Some(folder) = std::env::var_os("VECSTASH_BENCH_OUT") {
        write_plots(Path::new(&folder), &lines);
    }
}

fn on_fixtures(criterion: &mut Criterion, lines: &mut Vec<Line>) {
    let sift = DataSet::fixture("sift8k_cc0", Distance::Euclidean);
    let sizes = [1_000, 2_000, 4_000, 8_000];
    by_rows(criterion, lines, &sift, &sizes, HNSW_INT8);

    let mut group = group(criterion, "open/dimension");
    for dim in [64, 256, 768] {
        let set = DataSet::synthetic(4_000, dim);
        measure(&mut group, lines, &set, 4_000, HNSW_INT8, &[2]);
    }
    group.finish();

    let mut group = self::group(criterion, "open/kind");
    let glove = DataSet::fixture("glove4k", Distance::Cosine);
    for kind in kinds() {
        measure(&mut group, lines, &glove, glove.base.len(), kind, &[2]);
    }
    group.finish();
}

fn by_rows(
    criterion: &mut Criterion,
    lines: &mut Vec<Line>,
    set: &DataSet,
    sizes: &[usize],
    kind: Kind,
) {
    let mut group = group(criterion, "open/rows");
    for &rows in sizes {
        measure(&mut group, lines, set, rows, kind, &THREADS);
    }
    group.finish();
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    group
}

/// Writes one file and opens it with each number of threads.
fn measure(
    group: &mut Group<'_>,
    lines: &mut Vec<Line>,
    set: &DataSet,
    rows: usize,
    kind: Kind,
    threads: &[usize],
) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("open.vecstash");
    fill(&path, set, rows, kind);
    let links: &[bool] = match kind.index {
        IndexKind::Hnsw => &[false, true],
        _ => &[false],
    };
    let cases = links
        .iter()
        .flat_map(|&links| threads.iter().map(move |&t| (links, t)));
    for (links, threads) in cases {
        let case = Case {
            set,
            rows,
            kind,
            threads,
            links,
        };
        if links {
            // Writes the links, if the file has none.
            case.open(&path).close().expect("the store closes");
        }
        let line = case.line(&path);
        if line.total <= CRITERION_SECONDS_MAX {
            case.sample(group, &path);
        }
        lines.push(line);
    }
}

impl Case<'_> {
    fn open(&self, path: &Path) -> VectorStore {
        let options = OpenOptions::new()
            .create(false)
            .threads(self.threads)
            .hinted_rows_min(if self.links { 0 } else { usize::MAX });
        options.open(path).expect("the store opens")
    }

    /// Opens the store a few times, asserts what it answers, and takes the medians.
    fn line(&self, path: &Path) -> Line {
        let scan = scan(path, self.rows);
        let mut reports = Vec::new();
        let (mut disk, mut memory) = (0, 0);
        while reports.len() < OPENS {
            let store = self.open(path);
            let report = store.open_report().clone();
            self.assert_answers(&store, &report);
            let stats = store.stats(TABLE).expect("stats of an open table");
            disk = report.file_bytes;
            memory = stats.memory.total();
            let seconds = report.total_seconds;
            reports.push(report);
            store.close().expect("the store closes");
            if seconds > REPEATED_SECONDS_MAX {
                break;
            }
        }
        let of = |stage: fn(&OpenReport) -> f64| median(reports.iter().map(stage).collect());
        Line {
            set: self.set.name.clone(),
            rows: self.rows,
            dim: self.set.base.dim(),
            kind: self.kind.name,
            threads: self.threads,
            links: match (self.kind.index, self.links) {
                (IndexKind::Hnsw, false) => "found",
                (IndexKind::Hnsw, true) => "read",
                _ => "none",
            },
            check: of(|report| report.check_seconds),
            walk: of(|report| report.walk_seconds),
            link: of(|report| report.link_seconds),
            total: of(|report| report.total_seconds),
            scan: scan.min(self::scan(path, self.rows)),
            disk_bytes: disk as f64 / self.rows as f64,
            memory_bytes: memory as f64 / self.rows as f64,
        }
    }

    fn sample(&self, group: &mut Group<'_>, path: &Path) {
        let id = BenchmarkId::new(
            format!(
                "{}/{}{}/{}_threads",
                self.set.name,
                self.kind.name,
                if self.links { "/links" } else { "" },
                self.threads
            ),
            self.rows,
        );
        group.throughput(Throughput::Elements(self.rows as u64));
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|opens| {
                let mut spent = Duration::ZERO;
                for _ in 0..opens {
                    let started = Instant::now();
                    let store = self.open(path);
                    spent += started.elapsed();
                    assert_eq!(store.open_report().rows, self.rows as u64);
                }
                spent
            });
        });
    }

    fn assert_answers(&self, store: &VectorStore, report: &OpenReport) {
        assert_eq!(report.rows, self.rows as u64, "rows in the report");
        assert_eq!(report.threads, self.threads, "threads in the report");
        let table = store.table(TABLE).expect("the table is there");
        assert_eq!(
            table.count().expect("a count"),
            self.rows,
            "rows in the table"
        );
        let probes = PROBES.min(self.rows);
        for probe in 0..probes {
            assert_finds_itself(&table, probe * (self.rows / probes));
        }
    }
}

/// Seconds that bare redb takes to check the file and to read every byte of its rows.
fn scan(path: &Path, rows: usize) -> f64 {
    let started = Instant::now();
    let db = Builder::new()
        .set_check_integrity_on_open(true)
        .set_cache_size(32 << 20)
        .open(path)
        .expect("redb opens the file");
    let txn = db.begin_read().expect("a read transaction");
    let table = TableDefinition::<&[u8], &[u8]>::new("rows/1");
    let table = txn.open_table(table).expect("the first table's rows");
    let (mut read, mut sum) = (0, 0u64);
    for entry in table.range::<&[u8]>(..).expect("a range") {
        let (_, value) = entry.expect("a row");
        read += 1;
        sum += value
            .value()
            .iter()
            .map(|&byte| u64::from(byte))
            .sum::<u64>();
    }
    std::hint::black_box(sum);
    assert_eq!(read, rows, "rows that redb sees");
    started.elapsed().as_secs_f64()
}

/// Searches for the stored form of a row: nothing is nearer than the row, and the hit is the row
/// or one with the same vector. (By inner product a longer vector may be nearer.)
fn assert_finds_itself(table: &Table, row: usize) {
    let key = key_of(row);
    let stored = table.get(&key).expect("a read").expect("the row is there");
    let query = stored.vector.decode().expect("the vector decodes");
    let kind = table.schema().distance;
    let options = SearchOptions::new(1).ef(256).returning(Return::Rows);
    let hits = table.search(&query, &options).expect("a search");
    let [hit] = hits.as_slice() else {
        panic!("row {row}: {} hits where one belongs", hits.len());
    };
    let squared = distance(Distance::DotProduct, &query, &query).abs();
    let (own, room) = match kind {
        Distance::DotProduct => (-squared, 1e-3 * squared),
        Distance::Euclidean => (0.0, 1e-3 * squared.sqrt()),
        _ => (0.0, 1e-4),
    };
    assert!(
        hit.distance <= own + room,
        "row {row}: nearest is at {}, where it is itself at {own}",
        hit.distance
    );
    let same_vector = || {
        hit.row
            .as_ref()
            .is_some_and(|found| found.vector == stored.vector)
    };
    assert!(
        kind == Distance::DotProduct || hit.key == key || same_vector(),
        "row {row}: another row is nearest"
    );
}

fn print_lines(lines: &[Line]) {
    let head = [
        "set",
        "rows",
        "dim",
        "kind",
        "threads",
        "links",
        "check s",
        "walk s",
        "link s",
        "total s",
        "scan s",
        "x scan",
        "rows/s",
        "disk B/row",
        "memory B/row",
    ];
    let cells = lines.iter().map(|line| {
        vec![
            line.set.clone(),
            line.rows.to_string(),
            line.dim.to_string(),
            line.kind.to_string(),
            line.threads.to_string(),
            line.links.to_string(),
            format!("{:.4}", line.check),
            format!("{:.4}", line.walk),
            format!("{:.4}", line.link),
            format!("{:.4}", line.total),
            format!("{:.4}", line.scan),
            format!("{:.2}", line.total / line.scan),
            format!("{:.0}", line.rows as f64 / line.total),
            format!("{:.0}", line.disk_bytes),
            format!("{:.0}", line.memory_bytes),
        ]
    });
    let cells: Vec<_> = cells.collect();
    print_table("Open: seconds by stage, median", &head, &cells);
}

fn print_exponents(lines: &[Line]) {
    let same = |a: &Line, b: &Line| {
        (&a.set, a.kind, a.threads, a.links) == (&b.set, b.kind, b.threads, b.links)
    };
    let mut cells = Vec::new();
    for (i, first) in lines.iter().enumerate() {
        let series: Vec<&Line> = lines.iter().filter(|line| same(line, first)).collect();
        let seen = lines[..i].iter().any(|line| same(line, first));
        if seen || series.len() < 2 {
            continue;
        }
        let slope = |of: fn(&Line) -> f64| {
            let points = series.iter().map(|line| (line.rows as f64, of(line)));
            let exponent = plot::exponent(&points.collect::<Vec<_>>());
            exponent.map_or_else(|| "-".to_string(), |e| format!("{e:.2}"))
        };
        cells.push(vec![
            first.set.clone(),
            first.kind.to_string(),
            first.threads.to_string(),
            first.links.to_string(),
            slope(|line| line.total),
            slope(|line| line.link),
            slope(|line| line.walk),
            slope(|line| line.check),
        ]);
    }
    let head = [
        "set", "kind", "threads", "links", "total", "link", "walk", "check",
    ];
    print_table("Exponent of the rows: seconds ~ rows^e", &head, &cells);
}

fn write_plots(folder: &Path, lines: &[Line]) {
    let mut sets: Vec<(&str, usize)> = Vec::new();
    for line in lines {
        if !sets.contains(&(&line.set, line.dim)) {
            sets.push((&line.set, line.dim));
        }
    }
    for (set, dim) in sets {
        let mut curves: Vec<plot::Curve> = Vec::new();
        for line in lines.iter().filter(|line| line.set == set) {
            let links = match line.links {
                "none" => String::new(),
                links => format!(", links {links}"),
            };
            let name = format!("{}{links}, {} threads", line.kind, line.threads);
            let point = (line.rows as f64, line.total);
            match curves.iter_mut().find(|curve| curve.name == name) {
                Some(curve) => curve.points.push(point),
                None => curves.push(plot::Curve {
                    name,
                    points: vec![point],
                }),
            }
        }
        let title = format!("Open: {set}, {dim} dimensions");
        let svg = plot::svg(&title, ["rows", "seconds"], &curves);
        std::fs::write(folder.join(format!("open-{set}.svg")), svg).expect("a plot is written");
    }
}
