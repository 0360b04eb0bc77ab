//! Opening a store: tables side by side, serving before it is over, how much is proved first.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tempfile::TempDir;
use vecstash::storage::{
    Backend, Capabilities, Catalog, Change, Durability, LinksVisitor, Record, RecordVisitor,
    RedbBackend, RowVisitor, Snapshot, TableKey, Want,
};
use vecstash::{
    Codec, Distance, HnswParams, Metadata, NewRow, OnCorrupt, OpenOptions, OpenStage, Return,
    SearchOptions, StoreError, TableSchema, VectorRow, VectorStore, Verify,
};

const ROWS: usize = 3_000;
const DIM: usize = 24;

/// A row of ten loose clusters.
fn vector(row: usize) -> Vec<f32> {
    let part = |seed: usize, i: usize| {
        let mut mixed = (seed * 1_000 + i) as u64;
        for _ in 0..3 {
            mixed = (mixed ^ mixed >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (mixed >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..DIM)
        .map(|i| part(1_000_000 + row % 10, i) + 0.3 * part(row, i))
        .collect()
}

fn key(row: usize) -> Vec<u8> {
    format!("row-{row:05}").into_bytes()
}

fn schema(name: &str, codec: Codec) -> TableSchema {
    TableSchema {
        name: name.to_string(),
        dim: DIM as u16,
        codec,
        distance: Distance::Euclidean,
        hnsw: HnswParams::default(),
    }
}

fn fill(store: &VectorStore, name: &str, codec: Codec, rows: usize) {
    store.create_table(schema(name, codec)).unwrap();
    let rows = (0..rows).map(|row| NewRow {
        key: key(row),
        vector: vector(row),
        metadata: Metadata::new(),
    });
    let table = store.table(name).unwrap();
    table.upsert_many(rows.collect()).unwrap();
}

fn stored(rows: usize) -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("opening.vecstash");
    let store = VectorStore::open_path(&path).unwrap();
    fill(&store, "rows", Codec::Int8Quantized, rows);
    store.close().unwrap();
    (folder, path)
}

/// An open that waits at each stage until it is told to go on.
struct Held {
    arrived: Receiver<OpenStage>,
    go_on: Sender<()>,
}

fn held(options: OpenOptions) -> (OpenOptions, Held) {
    let (arrives, arrived) = channel();
    let (go_on, may_go_on) = channel();
    let ends = Mutex::new((arrives, may_go_on, None));
    let options = options.progress(move |progress| {
        let mut ends = ends.lock();
        let (arrives, may_go_on, last) = &mut *ends;
        if progress.stage != OpenStage::Check
            && last.replace(progress.stage) != Some(progress.stage)
        {
            // Who does not listen any more does not hold either.
            if arrives.send(progress.stage).is_ok() {
                let _ = may_go_on.recv();
            }
        }
        ControlFlow::Continue(())
    });
    (options, Held { arrived, go_on })
}

fn serving() -> OpenOptions {
    OpenOptions::new().create(false).serve_while_opening(true)
}

#[test]
fn searches_are_served_while_tables_are_loaded() {
    let (_folder, path) = stored(ROWS);
    let reference = VectorStore::open_path(&path).unwrap();
    let options = SearchOptions::new(5).returning(Return::Keys);
    let exact = options.clone().exact(true);
    let wanted = reference.table("rows").unwrap().search(&vector(7), &exact);
    let wanted = wanted.unwrap();
    reference.close().unwrap();

    let (held_options, held) = held(serving());
    let store = held_options.open(&path).unwrap();
    let table = store.table("rows").unwrap();
    let writer = {
        let table = table.clone();
        std::thread::spawn(move || table.upsert(b"late", &vector(99_999), Metadata::new()))
    };
    assert_eq!(held.arrived.recv().unwrap(), OpenStage::Walk);
    // Reads by key and counts see all of the file; searches what is loaded.
    assert!(store.is_opening());
    assert_eq!(table.count().unwrap(), ROWS);
    assert!(table.get(&key(ROWS - 1)).unwrap().is_some());
    assert_eq!(table.scroll(None, 10, Return::Keys).unwrap().rows.len(), 10);
    assert!(table.answer(&vector(7), &options).unwrap().partial);
    held.go_on.send(()).unwrap();

    assert_eq!(held.arrived.recv().unwrap(), OpenStage::Link);
    let answer = table.answer(&vector(7), &options).unwrap();
    assert!(answer.partial);
    assert_eq!(
        answer.hits, wanted,
        "all rows are loaded, and scanned exactly"
    );
    assert!(!writer.is_finished());
    held.go_on.send(()).unwrap();

    let report = store.wait_until_open().unwrap();
    assert_eq!(report.rows, ROWS as u64);
    writer.join().unwrap().unwrap();
    assert!(!store.is_opening());
    let answer = table.answer(&vector(7), &exact).unwrap();
    assert!(!answer.partial);
    assert_eq!(answer.hits, wanted);
    assert_eq!(table.count().unwrap(), ROWS + 1);
    assert!(store.check().unwrap().is_clean());
}

/// A file whose rows are read slowly, or not beyond some of them until told.
struct Slow {
    file: RedbBackend,
    pace: Arc<Pace>,
}

#[derive(Default)]
struct Pace {
    /// Rows that scans may show.
    allowed: AtomicUsize,
    shown: AtomicUsize,
}

struct SlowSnapshot {
    rows: Arc<dyn Snapshot>,
    pace: Arc<Pace>,
}

impl Snapshot for SlowSnapshot {
    fn read(&self, table: &TableKey, key: &[u8], want: Want) -> Result<Option<Record>, StoreError> {
        self.rows.read(table, key, want)
    }

    fn get_many(
        &self,
        table: &TableKey,
        keys: &[&[u8]],
        want: Want,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        self.rows.get_many(table, keys, want)
    }

    fn scan(
        &self,
        table: &TableKey,
        after: Option<&[u8]>,
        visitor: &mut RecordVisitor<'_>,
    ) -> Result<(), StoreError> {
        self.rows.scan(table, after, &mut |row| {
            let flow = visitor(row);
            let shown = self.pace.shown.fetch_add(1, Ordering::AcqRel) + 1;
            while shown >= self.pace.allowed.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
            flow
        })
    }
}

impl Backend for Slow {
    fn put_row(&self, table: &str, key: &[u8], row: &VectorRow) -> Result<(), StoreError> {
        self.file.put_row(table, key, row)
    }

    fn get_row(&self, table: &str, key: &[u8]) -> Result<Option<VectorRow>, StoreError> {
        self.file.get_row(table, key)
    }

    fn delete_row(&self, table: &str, key: &[u8]) -> Result<bool, StoreError> {
        self.file.delete_row(table, key)
    }

    fn for_each_row(&self, table: &str, f: &mut RowVisitor<'_>) -> Result<(), StoreError> {
        self.file.for_each_row(table, f)
    }

    fn put_schema(&self, schema: &TableSchema) -> Result<(), StoreError> {
        self.file.put_schema(schema)
    }

    fn list_schemas(&self) -> Result<Vec<TableSchema>, StoreError> {
        self.file.list_schemas()
    }

    fn capabilities(&self) -> Capabilities {
        self.file.capabilities()
    }

    fn list_tables(&self) -> Result<Catalog, StoreError> {
        self.file.list_tables()
    }

    fn commit(&self, changes: &[Change], durability: Durability) -> Result<(), StoreError> {
        self.file.commit(changes, durability)
    }

    fn scan_links(
        &self,
        table: &TableKey,
        visitor: &mut LinksVisitor<'_>,
    ) -> Result<(), StoreError> {
        self.file.scan_links(table, visitor)
    }

    fn snapshot(&self) -> Result<Option<Arc<dyn Snapshot>>, StoreError> {
        let slow = |rows| {
            let pace = Arc::clone(&self.pace);
            Arc::new(SlowSnapshot { rows, pace }) as Arc<dyn Snapshot>
        };
        Ok(self.file.snapshot()?.map(slow))
    }

    fn bytes_on_disk(&self) -> Result<Option<u64>, StoreError> {
        self.file.bytes_on_disk()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.file.close()
    }
}

/// A row of many: one in ten is a copy.
fn crowd(row: usize) -> Vec<f32> {
    vector(if row.is_multiple_of(10) {
        row % 1_000
    } else {
        row
    })
}

/// A store of two tables of so many rows, the first one with its links in the file.
fn crowded(path: &Path, rows: usize) {
    let options = OpenOptions::new().hinted_rows_min(0);
    let store = options.open(path).unwrap();
    for (name, codec) in [("codes", Codec::Int8Quantized), ("floats", Codec::F32)] {
        store.create_table(schema(name, codec)).unwrap();
        let rows = (0..rows).map(|row| NewRow {
            key: key(row),
            vector: crowd(row),
            metadata: Metadata::new(),
        });
        let table = store.table(name).unwrap();
        table.upsert_many(rows.collect()).unwrap();
    }
    store.close().unwrap();
}

#[test]
fn half_a_table_is_scanned_exactly() {
    const CROWD: usize = 14_000;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("half.vecstash");
    let store = VectorStore::open_path(&path).unwrap();
    fill(&store, "rows", Codec::Int8Quantized, CROWD);
    store.close().unwrap();
    let pace = Arc::new(Pace::default());
    pace.allowed.store(12_000, Ordering::Release);
    let slow = Slow {
        file: RedbBackend::open(&path).unwrap(),
        pace: Arc::clone(&pace),
    };
    let store = serving().open_backend(Arc::new(slow)).unwrap();
    let table = store.table("rows").unwrap();
    let stop = Instant::now() + Duration::from_secs(30);
    while pace.shown.load(Ordering::Acquire) < 12_000 {
        assert!(
            Instant::now() < stop,
            "the walk comes to the twelve thousandth row"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    // Rows come in by batches, so some of those that were read are waiting still.
    let loaded = table.stats().unwrap().live_rows;
    assert!(
        (5_000..=12_000).contains(&loaded),
        "{loaded} rows are loaded"
    );
    let options = SearchOptions::new(CROWD).returning(Return::Keys);
    let answer = table.answer(&vector(3), &options).unwrap();
    assert!(answer.partial);
    let mut found: Vec<Vec<u8>> = answer.hits.into_iter().map(|hit| hit.key).collect();
    found.sort();
    // The walk is in the order of keys.
    let wanted: Vec<Vec<u8>> = (0..found.len()).map(key).collect();
    assert_eq!(found, wanted);
    assert!(found.len() >= loaded);
    pace.allowed.store(usize::MAX, Ordering::Release);
    store.wait_until_open().unwrap();
    assert_eq!(table.search(&vector(3), &options).unwrap().len(), CROWD);
}

#[test]
fn searches_and_batches_beside_an_opening_are_exact_over_what_is_there() {
    const CROWD: usize = 12_000;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("crowd.vecstash");
    crowded(&path, CROWD);
    let opened = OpenOptions::new().hinted_rows_min(0).open(&path).unwrap();
    assert!(opened.open_report().hinted_rows > 0);
    let distance_of = |name: &str, row: usize| {
        let options = SearchOptions::new(CROWD)
            .exact(true)
            .returning(Return::Keys);
        let hits = opened.table(name).unwrap().search(&vector(row), &options);
        let hits = hits.unwrap().into_iter();
        hits.map(|hit| (hit.key, hit.distance.to_bits()))
            .collect::<std::collections::HashMap<_, _>>()
    };
    let wanted = ["codes", "floats"].map(|name| (name, distance_of(name, 5)));
    let prints = ["codes", "floats"].map(|name| opened.table(name).unwrap().fingerprint().unwrap());
    opened.close().unwrap();
    for threads in [1, 2] {
        let options = serving().hinted_rows_min(0).threads(threads);
        let store = options.open(&path).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (name, wanted) in &wanted {
                let (store, done) = (&store, &done);
                scope.spawn(move || {
                    let table = store.table(name).unwrap();
                    let options = SearchOptions::new(20).returning(Return::Keys);
                    let queries = vec![vector(5); 8];
                    while !done.load(Ordering::Acquire) {
                        let answer = table.answer(&vector(5), &options).unwrap();
                        let batch = table.search_batch(&queries, &options).unwrap();
                        for hits in batch.iter().chain([&answer.hits]) {
                            assert!(hits.is_sorted_by(|a, b| a.distance <= b.distance));
                            for hit in hits {
                                assert_eq!(wanted.get(&hit.key), Some(&hit.distance.to_bits()));
                            }
                        }
                    }
                });
            }
            store.wait_until_open().unwrap();
            done.store(true, Ordering::Release);
        });
        assert!(store.check().unwrap().is_clean());
        let again =
            ["codes", "floats"].map(|name| store.table(name).unwrap().fingerprint().unwrap());
        assert_eq!(again, prints, "{threads} threads");
        store.close().unwrap();
    }
}

#[test]
fn a_close_does_not_wait_for_what_is_being_loaded() {
    let (_folder, path) = stored(ROWS);
    let (options, held) = held(serving());
    let store = options.open(&path).unwrap();
    assert_eq!(held.arrived.recv().unwrap(), OpenStage::Walk);
    let table = store.table("rows").unwrap();
    let closing = std::thread::spawn(move || store.close());
    // The close asks the open to stop, which it does at the next call.
    std::thread::sleep(Duration::from_millis(50));
    held.go_on.send(()).unwrap();
    drop(held);
    closing.join().unwrap().unwrap();
    assert!(matches!(table.count(), Err(StoreError::Closed)));
    let store = VectorStore::open_path(&path).unwrap();
    assert_eq!(store.table("rows").unwrap().count().unwrap(), ROWS);
}

#[test]
fn a_store_that_has_opened_lets_go_of_the_file_at_once() {
    let (_folder, path) = stored(500);
    for _ in 0..20 {
        let store = serving().open(&path).unwrap();
        store.wait_until_open().unwrap();
        drop(store);
    }
    let store = serving().open(&path).unwrap();
    store
        .upsert("rows", b"new".to_vec(), &vector(1), Metadata::new())
        .unwrap();
    drop(store);
    assert!(VectorStore::open_path(&path).is_ok());
}

#[test]
fn a_store_that_is_dropped_while_it_is_loaded_lets_go_of_the_file() {
    let (_folder, path) = stored(ROWS);
    let (options, held) = held(serving());
    let store = options.open(&path).unwrap();
    assert_eq!(held.arrived.recv().unwrap(), OpenStage::Walk);
    drop(store);
    drop(held);
    for _ in 0..500 {
        match VectorStore::open_path(&path) {
            Ok(_) => return,
            Err(StoreError::AlreadyOpen { .. }) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the file stays locked");
}

/// Changes one byte of the stored vector of a row.
fn damage(path: &Path, row: usize) {
    let store = OpenOptions::new().read_only(true).open(path).unwrap();
    let stored = store.get("rows", &key(row)).unwrap().unwrap();
    store.close().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let needle = &stored.vector.bytes[..];
    let places: Vec<usize> = (0..bytes.len() - needle.len())
        .filter(|&at| &bytes[at..at + needle.len()] == needle)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 3] ^= 1;
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_proved_first_is_the_callers_choice() {
    let (_folder, path) = stored(500);
    damage(&path, 77);
    let full = OpenOptions::new().open(&path).unwrap_err();
    assert!(matches!(full, StoreError::CorruptFile { .. }), "{full}");
    // The walk still checks every row.
    let rows_alone = OpenOptions::new().verify(Verify::AfterUncleanClose);
    let error = rows_alone.open(&path).unwrap_err();
    assert!(
        matches!(&error, StoreError::CorruptRow { table, key: named, .. } if table == "rows" && *named == key(77)),
        "{error}"
    );
    let store = rows_alone
        .clone()
        .on_corrupt(OnCorrupt::Quarantine)
        .open(&path)
        .unwrap();
    assert_eq!(store.open_report().quarantined_rows, 1);
    assert_eq!(store.open_report().tables[0].quarantined[0].key, key(77));
    // Left out, listed, and removable by name.
    let table = store.table("rows").unwrap();
    assert_eq!(table.count().unwrap(), 499);
    assert_eq!(store.check().unwrap().quarantined_rows, 1);
    assert!(table.delete(&key(77)).unwrap());
    assert_eq!(table.stats().unwrap().quarantined_rows, 0);
    store.close().unwrap();
    let store = OpenOptions::new().open(&path).unwrap();
    assert_eq!(store.open_report().rows, 499);
}

#[test]
fn what_keeps_a_served_store_from_opening_is_told_once_and_latched() {
    let (_folder, path) = stored(500);
    damage(&path, 5);
    let store = serving()
        .verify(Verify::AfterUncleanClose)
        .open(&path)
        .unwrap();
    let error = store.wait_until_open().unwrap_err();
    assert!(matches!(error, StoreError::CorruptRow { .. }), "{error}");
    let again = store.wait_until_open().unwrap_err();
    assert!(matches!(again, StoreError::Failed { .. }), "{again}");
    let table = store.table("rows");
    assert!(matches!(table, Err(StoreError::Failed { .. })));
    store.close().unwrap();
}

#[test]
fn a_panic_while_tables_are_loaded_lets_nobody_wait() {
    let (_folder, path) = stored(500);
    let store = serving()
        .progress(|progress| match progress.stage {
            OpenStage::Link => panic!("a callback's own"),
            _ => ControlFlow::Continue(()),
        })
        .open(&path)
        .unwrap();
    let error = store.wait_until_open().unwrap_err();
    assert!(matches!(error, StoreError::Failed { .. }), "{error}");
    store.close().unwrap();
    assert_eq!(VectorStore::open_path(&path).unwrap().tables().len(), 1);
}

#[test]
fn tables_are_loaded_side_by_side_and_reported_by_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tables.vecstash");
    let store = VectorStore::open_path(&path).unwrap();
    let sizes = [
        ("delta", 40),
        ("alpha", 2_500),
        ("charlie", 0),
        ("bravo", 700),
    ];
    for (name, rows) in sizes {
        fill(&store, name, Codec::F32, rows);
    }
    store.close().unwrap();
    let mut prints = Vec::new();
    for threads in [1, 2, 8] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let bytes = Arc::clone(&seen);
        let store = OpenOptions::new()
            .threads(threads)
            .progress(move |progress| {
                bytes.lock().push(progress.bytes);
                ControlFlow::Continue(())
            })
            .open(&path)
            .unwrap();
        let report = store.open_report();
        let names: Vec<(&str, u64)> = report
            .tables
            .iter()
            .map(|table| (table.name.as_str(), table.rows))
            .collect();
        let wanted = [
            ("alpha", 2_500),
            ("bravo", 700),
            ("charlie", 0),
            ("delta", 40),
        ];
        assert_eq!(names, wanted);
        assert_eq!(report.rows, 3_240);
        assert_eq!(report.bytes, 3_240 * 4 * DIM as u64);
        assert_eq!(seen.lock().iter().max(), Some(&report.bytes));
        #[cfg(target_os = "linux")]
        assert!(
            report
                .peak_memory_bytes
                .is_some_and(|bytes| bytes > 1 << 20)
        );
        let tables = wanted.map(|(name, _)| store.table(name).unwrap().fingerprint().unwrap());
        prints.push(tables);
        store.close().unwrap();
    }
    assert!(prints.iter().all(|print| *print == prints[0]));

    let cancelled = OpenOptions::new()
        .threads(2)
        .progress(|progress| match progress.stage {
            OpenStage::Link => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .open(&path);
    assert!(matches!(cancelled, Err(StoreError::Cancelled)));
}
