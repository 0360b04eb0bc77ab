//! How many rows a second can be written so that each is durable and searchable on return.
//!
//! Beside it, in the same run and taking turns with it, raw redb: the same keys and row bytes, the
//! same two-phase commits, no index. Read the ratio, not the rates: those are the disk's. The
//! shapes: one row a call on one thread, the same on four threads at once (which share commits),
//! and batches of 1, 10, 100 and 1,000 rows in one transaction. Rows are f32 with about 200 bytes
//! of metadata, go into an HNSW table that has its graph already, and are all new: once the set
//! has been written, its rows come again with noise of a tenth of their length.
//!
//! Last, what links in the file cost: the set is imported in batches of 1,000 into two `Int8Quantized`
//! tables, batch by batch in turns, one of which keeps its links from half of the rows on, so that
//! the links of the first half are written at once. The links' bytes are read from the
//! closed file: a close may have written them anew, which the rates leave out.
//!
//! `common/mod.rs` says how to run this on other data. The files are written under `TMPDIR`.
//!
//! Asserted: every row is there, with its very vector, at the end and again after a reopen.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::synth::near;
use common::{DataSet, HNSW_F32, HNSW_INT8, TABLE, create, key_of, median, print_table};
use criterion::{Criterion, SamplingMode, Throughput};
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    TableError,
};
use tempfile::TempDir;
use vecstash::{Metadata, NewRow, OpenOptions, Table};

const SYNTHETIC: (usize, usize) = (6_000, 384);
/// Rows that are there before anything is measured: enough for a graph.
const ROWS_BEFORE: usize = 3_000;
/// Turns that vecstash and redb take at each shape.
const TURNS: usize = 3;
const RAW: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// The log of links of a file's first table.
const LINKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("links/1");
/// Rows of a transaction where the cost of links is measured.
const IMPORT_BATCH: usize = 1_000;
/// More than vecstash's own default of 2 MiB: a file that nothing else writes gains from it.
const CACHE_BYTES: usize = 32 << 20;
const READ_AT_ONCE: usize = 1_000;
/// Stands for what a row needs beside its vector: ids, timestamps, lengths, checksum.
const RAW_HEAD: [u8; 40] = [0; 40];

/// How rows are handed over.
struct Shape {
    name: &'static str,
    threads: usize,
    /// Rows of one transaction; none where rows are written one at a time.
    batch: Option<usize>,
    /// Calls of each thread in one turn.
    calls: usize,
}

const fn shape(name: &'static str, threads: usize, batch: Option<usize>, calls: usize) -> Shape {
    Shape {
        name,
        threads,
        batch,
        calls,
    }
}

const SHAPES: [Shape; 6] = [
    shape("single", 1, None, 100),
    shape("single_4_threads", 4, None, 100),
    shape("batch_1", 1, Some(1), 100),
    shape("batch_10", 1, Some(10), 40),
    shape("batch_100", 1, Some(100), 10),
    shape("batch_1000", 1, Some(1_000), 2),
];

impl Shape {
    fn rows_of_call(&self) -> usize {
        self.batch.unwrap_or(1)
    }
}

/// New rows without end, each the same whenever it is asked for.
struct Feed<'a> {
    set: &'a DataSet,
    next: AtomicUsize,
}

impl<'a> Feed<'a> {
    fn new(set: &'a DataSet) -> Self {
        Self {
            set,
            next: AtomicUsize::new(0),
        }
    }

    fn vector(&self, row: usize) -> Vec<f32> {
        let base = &self.set.base;
        let vector = base.row(row % base.len());
        if row < base.len() {
            vector.to_vec()
        } else {
            near(vector, row)
        }
    }

    fn take(&self, rows: usize) -> Vec<NewRow> {
        let start = self.next.fetch_add(rows, Ordering::Relaxed);
        let row = |row| NewRow {
            key: key_of(row),
            vector: self.vector(row),
            metadata: metadata(row),
        };
        (start..start + rows).map(row).collect()
    }

    fn taken(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }
}

fn metadata(row: usize) -> Metadata {
    let text = "An answer of the length that a cache of short answers holds: a sentence or two, \
                with the question that led to it and the model that gave it.";
    Metadata::from([
        ("row".to_string(), row.into()),
        ("text".to_string(), text.into()),
    ])
}

/// A place to write to.
trait Target: Sync {
    fn write_one(&self, row: NewRow);
    fn write_batch(&self, rows: Vec<NewRow>);
}

impl Target for Table {
    fn write_one(&self, row: NewRow) {
        self.upsert(row.key, &row.vector, row.metadata)
            .expect("a durable row");
    }

    fn write_batch(&self, rows: Vec<NewRow>) {
        let len = rows.len();
        let outcome = self.upsert_many(rows).expect("a durable batch");
        assert_eq!(outcome.inserted, len, "every row is new");
    }
}

impl Target for Database {
    fn write_one(&self, row: NewRow) {
        self.write_batch(vec![row]);
    }

    fn write_batch(&self, rows: Vec<NewRow>) {
        let mut transaction = self.begin_write().expect("a transaction");
        transaction.set_two_phase_commit(true);
        {
            let mut table = transaction.open_table(RAW).expect("the table");
            for row in rows {
                let bytes = raw_bytes(&row);
                table.insert(&row.key[..], &bytes[..]).expect("an insert");
            }
        }
        transaction.commit().expect("a durable commit");
    }
}

fn raw_bytes(row: &NewRow) -> Vec<u8> {
    let mut bytes = RAW_HEAD.to_vec();
    bytes.extend(row.vector.iter().flat_map(|x| x.to_le_bytes()));
    serde_json::to_writer(&mut bytes, &row.metadata).expect("metadata is JSON");
    bytes
}

/// One of the two that are compared.
struct Side<'a> {
    name: &'static str,
    target: &'a dyn Target,
    feed: Feed<'a>,
}

impl Side<'_> {
    /// How long it takes to make so many calls on each thread, their rows made beforehand.
    fn run(&self, shape: &Shape, calls: usize) -> Duration {
        let work: Vec<Vec<Vec<NewRow>>> = (0..shape.threads)
            .map(|_| {
                (0..calls)
                    .map(|_| self.feed.take(shape.rows_of_call()))
                    .collect()
            })
            .collect();
        let started = Instant::now();
        thread::scope(|scope| {
            for calls in work {
                scope.spawn(move || calls.into_iter().for_each(|rows| self.call(shape, rows)));
            }
        });
        started.elapsed()
    }

    fn call(&self, shape: &Shape, rows: Vec<NewRow>) {
        match shape.batch {
            Some(_) => self.target.write_batch(rows),
            None => rows.into_iter().for_each(|row| self.target.write_one(row)),
        }
    }

    fn rows_per_second(&self, shape: &Shape) -> f64 {
        let rows = shape.threads * shape.calls * shape.rows_of_call();
        rows as f64 / self.run(shape, shape.calls).as_secs_f64()
    }

    fn sample(&self, criterion: &mut Criterion, shape: &Shape) {
        let mut group = criterion.benchmark_group(format!("upsert/{}", shape.name));
        group
            .sample_size(10)
            .sampling_mode(SamplingMode::Flat)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1))
            .throughput(Throughput::Elements(
                (shape.threads * shape.rows_of_call()) as u64,
            ));
        group.bench_function(self.name, |bencher| {
            bencher.iter_custom(|calls| self.run(shape, calls as usize));
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let set = DataSet::from_env();
    let set = set.unwrap_or_else(|| DataSet::synthetic(SYNTHETIC.0, SYNTHETIC.1));
    let folder = TempDir::new().expect("a temporary folder");
    let stash_path = folder.path().join("upsert.vecstash");
    let raw_path = folder.path().join("upsert.redb");
    let (rows, raw_rows) = write(&mut criterion, &set, &stash_path, &raw_path);
    criterion.final_summary();

    let store = OpenOptions::new().create(false).open(&stash_path);
    let store = store.expect("the store opens again");
    let table = store.table(TABLE).expect("the table is there");
    assert_stored(&table, &Feed::new(&set), rows);
    let raw = raw_options().open(&raw_path);
    assert_raw_len(&raw.expect("the database opens again"), raw_rows);
    println!("\n{rows} rows written: all there at the end, and all there after a reopen");
    drop((table, store));
    cost_of_links(&set, folder.path());
}

/// Runs everything on new files and closes them. Returns how many rows each then holds.
fn write(
    criterion: &mut Criterion,
    set: &DataSet,
    stash_path: &Path,
    raw_path: &Path,
) -> (usize, usize) {
    let store = OpenOptions::new().open(stash_path).expect("a new store");
    create(&store, set.base.dim(), set.distance, HNSW_F32);
    let table = store.table(TABLE).expect("the new table");
    let raw = raw_options().create(raw_path).expect("a new database");
    let stash = Side {
        name: "vecstash",
        target: &table,
        feed: Feed::new(set),
    };
    let redb = Side {
        name: "raw_redb",
        target: &raw,
        feed: Feed::new(set),
    };
    for side in [&stash, &redb] {
        side.target.write_batch(side.feed.take(ROWS_BEFORE));
    }
    compare(set, &stash, &redb);
    for shape in &SHAPES {
        stash.sample(criterion, shape);
        redb.sample(criterion, shape);
    }
    assert_stored(&table, &stash.feed, stash.feed.taken());
    assert_raw_len(&raw, redb.feed.taken());
    store.close().expect("every row durable");
    (stash.feed.taken(), redb.feed.taken())
}

/// Lets the two take turns at every shape and prints the medians.
fn compare(set: &DataSet, stash: &Side<'_>, redb: &Side<'_>) {
    let line = |shape: &Shape| {
        let turns = (0..TURNS).map(|_| (stash.rows_per_second(shape), redb.rows_per_second(shape)));
        let (of_stash, of_redb): (Vec<f64>, Vec<f64>) = turns.unzip();
        let (of_stash, of_redb) = (median(of_stash), median(of_redb));
        vec![
            shape.name.to_string(),
            format!("{of_stash:.0}"),
            format!("{of_redb:.0}"),
            format!("{:.2}", of_stash / of_redb),
        ]
    };
    let lines: Vec<_> = SHAPES.iter().map(line).collect();
    let title = format!(
        "Upsert {}: durable rows per second, median of {TURNS}",
        set.name
    );
    let head = ["shape", "vecstash", "raw redb", "ratio"];
    print_table(&title, &head, &lines);
}

/// Imports the set with and without links kept, in turns, and prints both rates.
fn cost_of_links(set: &DataSet, folder: &Path) {
    let rows = set.base.len();
    let import = |name: &'static str, kept_from: usize| {
        let path = folder.join(name);
        let options = OpenOptions::new().hinted_rows_min(kept_from);
        let store = options.open(&path).expect("a new store");
        create(&store, set.base.dim(), set.distance, HNSW_INT8);
        let table = store.table(TABLE).expect("the new table");
        (path, store, table, Feed::new(set), Duration::ZERO)
    };
    let mut sides = [
        import("kept.vecstash", rows / 2),
        import("not_kept.vecstash", usize::MAX),
    ];
    for (turn, start) in (0..rows).step_by(IMPORT_BATCH).enumerate() {
        for side in 0..2 {
            // Whoever comes second finds warmer caches: they take turns at it.
            let (_, _, table, feed, spent) = &mut sides[(turn + side) % 2];
            let batch = feed.take(IMPORT_BATCH.min(rows - start));
            let started = Instant::now();
            table.write_batch(batch);
            *spent += started.elapsed();
        }
    }
    let [kept, not_kept] = sides.map(|(path, store, table, feed, spent)| {
        assert_eq!(table.count().expect("a count"), feed.taken(), "rows");
        drop(table);
        store.close().expect("every row durable");
        (rows as f64 / spent.as_secs_f64(), bytes_of_links(&path))
    });
    let title = format!(
        "Links kept in the file, {}: {rows} rows in batches of {IMPORT_BATCH}",
        set.name
    );
    let head = ["links", "rows/s", "of the rate", "bytes a row in the file"];
    let line = |name: &str, (rate, bytes): (f64, u64)| {
        vec![
            name.to_string(),
            format!("{rate:.0}"),
            format!("{:.3}", rate / not_kept.0),
            format!("{:.1}", bytes as f64 / rows as f64),
        ]
    };
    let lines = [line("kept", kept), line("not kept", not_kept)];
    print_table(&title, &head, &lines);
}

/// Bytes of all groups of links in a file, 0 where it has none.
fn bytes_of_links(path: &Path) -> u64 {
    let file = raw_options().open(path).expect("redb opens the file");
    let transaction = file.begin_read().expect("a transaction");
    let log = match transaction.open_table(LINKS) {
        Ok(log) => log,
        Err(TableError::TableDoesNotExist(_)) => return 0,
        Err(error) => panic!("the log of links: {error}"),
    };
    let groups = log.iter().expect("the groups");
    groups
        .map(|group| group.expect("a group").1.value().len() as u64)
        .sum()
}

fn raw_options() -> Builder {
    let mut options = Database::builder();
    options.set_cache_size(CACHE_BYTES);
    options
}

fn assert_raw_len(raw: &Database, rows: usize) {
    let transaction = raw.begin_read().expect("a transaction");
    let table = transaction.open_table(RAW).expect("the table");
    assert_eq!(table.len().expect("a length"), rows as u64, "rows in redb");
}

/// The table holds the first `rows` rows of the feed, with their vectors, and nothing else.
fn assert_stored(table: &Table, feed: &Feed<'_>, rows: usize) {
    assert_eq!(table.count().expect("a count"), rows, "rows in the table");
    for start in (0..rows).step_by(READ_AT_ONCE) {
        let numbers = start..rows.min(start + READ_AT_ONCE);
        let keys: Vec<Vec<u8>> = numbers.clone().map(key_of).collect();
        let found = table.get_many(&keys).expect("a read");
        for (number, row) in numbers.zip(found) {
            let row = row.unwrap_or_else(|| panic!("row {number} is not there"));
            let vector = row.vector.decode().expect("the vector decodes");
            assert_eq!(vector, feed.vector(number), "row {number}");
        }
    }
}
