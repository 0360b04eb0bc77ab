//! Every public method in the hands of an application, end to end.

mod common;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use common::backend::SixMethods;
use common::rng::Rng;
use common::stores::{
    TempPath, answers, assert_clean, bytes_of, create, error_of, fill, key_of, metadata, new_row,
    no_metadata, row_of, schema,
};
use serde_json::json;
use vecstash::Codec::{F32, Fp16, Int8Quantized};
use vecstash::Distance::{Cosine, DotProduct, Euclidean};
use vecstash::{
    Codec, Durability, EncodingError, Hit, IndexKind, Metadata, OpenOptions, OpenStage, Residence,
    Return, SearchOptions, StoreError, Table, TableOptions, TableReport, VectorStore, WriteBatch,
};

/// Rows `[row, 0]`, so that the distance of `[q, 0]` to a row can be said without computing.
fn line(store: &VectorStore, rows: usize) -> Table {
    let table = create(store, 2, F32, Euclidean, IndexKind::Auto);
    let vectors: Vec<_> = (0..rows).map(|row| vec![row as f32, 0.0]).collect();
    fill(&table, &vectors);
    table
}

fn keys(hits: &[vecstash::Hit]) -> Vec<usize> {
    hits.iter().map(|hit| row_of(&hit.key)).collect()
}

#[test]
fn a_file_is_created_filled_and_opened_again() {
    let place = TempPath::new();
    assert!(!place.path.exists());
    let error = error_of(OpenOptions::new().create(false).open(&place.path));
    assert!(error.to_string().len() > 10, "{error}");
    assert!(!place.path.exists(), "a refused open left a file");

    let store = place.open();
    assert!(store.tables().is_empty());
    assert_eq!(store.open_report().rows, 0);
    let options = TableOptions::default().resident(Residence::Full);
    let table = store
        .create_table_with(schema("words", 3, Fp16, Cosine), options.clone())
        .unwrap();
    assert_eq!(table.name(), "words");
    assert_eq!(table.schema(), &schema("words", 3, Fp16, Cosine));
    assert_eq!(table.options(), &options);
    store
        .create_table(schema("answers", 2, Int8Quantized, DotProduct))
        .unwrap();
    let note: Metadata = HashMap::from([
        ("text".to_owned(), json!("na\u{ef}ve \u{1f980}")),
        (
            "tags".to_owned(),
            json!(["a", null, {"deep": [1, 2.5, -0.1, true]}]),
        ),
        ("big".to_owned(), json!("x".repeat(5_000))),
        ("integer".to_owned(), json!(u64::MAX)),
    ]);
    table
        .upsert(*b"crab", &[1.0, 0.5, 0.25], note.clone())
        .unwrap();
    store
        .upsert("answers", vec![0, 255, 10], &[1.0, 2.0], no_metadata())
        .unwrap();
    assert!(store.bytes_on_disk().unwrap().unwrap() > 0);
    store.flush().unwrap();
    drop((table, store));

    let store = OpenOptions::new().create(false).open(&place.path).unwrap();
    let names: Vec<_> = store
        .tables()
        .into_iter()
        .map(|schema| schema.name)
        .collect();
    assert_eq!(names, ["answers", "words"], "in order of names");
    let table = store.table("words").unwrap();
    assert_eq!(table.schema(), &schema("words", 3, Fp16, Cosine));
    assert_eq!(table.options(), &options);
    let row = table.get(b"crab").unwrap().unwrap();
    assert_eq!(row.key, b"crab");
    assert_eq!(row.vector.codec, Fp16);
    assert_eq!(row.vector.decode().unwrap(), [1.0, 0.5, 0.25]);
    assert_eq!(row.metadata, note);
    assert!(store.get("answers", &[0, 255, 10]).unwrap().is_some());
    assert!(store.check().unwrap().is_clean());
    assert_eq!(store.check().unwrap().tables, 2);
    assert_eq!(store.check().unwrap().rows, 2);
}

#[test]
fn an_open_reports_and_shows_its_progress() {
    let place = TempPath::new();
    let store = place.open();
    for (name, rows) in [("a", 2500), ("b", 7)] {
        let mut rng = Rng::new(1);
        store
            .create_table(schema(name, 8, Int8Quantized, Euclidean))
            .unwrap();
        let vectors: Vec<_> = (0..rows).map(|_| rng.vector(8)).collect();
        fill(&store.table(name).unwrap(), &vectors);
    }
    store.close().unwrap();

    let seen = Arc::new(Mutex::new(Vec::new()));
    let hand = seen.clone();
    let options = OpenOptions::new().threads(2).progress(move |progress| {
        hand.lock().unwrap().push(progress.clone());
        ControlFlow::Continue(())
    });
    let store = place.open_with(&options);
    let report = store.open_report().clone();
    assert_eq!(report.rows, 2507);
    assert!(report.bytes >= 2507 * 8);
    assert_eq!(
        report.file_bytes,
        std::fs::metadata(&place.path).unwrap().len()
    );
    assert_eq!(report.threads, 2);
    assert!(!report.kernels.is_empty());
    let parts = report.check_seconds + report.walk_seconds + report.link_seconds;
    // Tables are loaded side by side.
    let of_table = |table: &TableReport| table.walk_seconds + table.link_seconds;
    let longest = report.tables.iter().map(of_table).fold(0.0, f64::max);
    assert!(parts > 0.0 && report.total_seconds >= (report.check_seconds + longest) * 0.99);
    let tables: Vec<_> = report
        .tables
        .iter()
        .map(|t| (t.name.as_str(), t.rows))
        .collect();
    assert_eq!(tables, [("a", 2500), ("b", 7)]);
    for table in &report.tables {
        assert_eq!((table.quarantined_rows, table.quarantined.len()), (0, 0));
        assert!(table.bytes >= table.rows * 8);
    }
    let text = serde_json::to_value(&report).expect("a report is data");
    assert_eq!(text["tables"][1]["rows"], 7);

    let seen = seen.lock().unwrap();
    let stages: Vec<_> = seen.iter().map(|p| (p.stage, p.table.clone())).collect();
    for table in ["a", "b"] {
        for stage in [OpenStage::Walk, OpenStage::Link] {
            let wanted = (stage, Some(table.to_owned()));
            assert!(stages.contains(&wanted), "{wanted:?} in {stages:?}");
        }
    }
    assert_eq!(seen[0].stage, OpenStage::Check);
    for pair in seen.windows(2) {
        assert!(pair[0].elapsed <= pair[1].elapsed);
        if pair[0].stage == pair[1].stage && pair[0].table == pair[1].table {
            assert!(pair[0].rows <= pair[1].rows);
        }
    }
    for progress in seen.iter() {
        if let Some(total) = progress.rows_total {
            assert!(progress.rows <= total);
        }
    }
}

#[test]
fn an_open_can_be_cancelled_or_blown_up_at_every_stage() {
    let place = TempPath::new();
    let store = place.open();
    line(&store, 2500);
    store.close().unwrap();
    for stage in [OpenStage::Check, OpenStage::Walk, OpenStage::Link] {
        let cancel = OpenOptions::new().progress(move |progress| {
            if progress.stage == stage {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let error = error_of(cancel.open(&place.path));
        assert!(
            matches!(error, StoreError::Cancelled),
            "{stage:?}: {error:?}"
        );

        let explode = OpenOptions::new().progress(move |progress| {
            assert_ne!(progress.stage, stage, "the callback's own panic");
            ControlFlow::Continue(())
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| explode.open(&place.path).map(drop)));
        assert!(
            !matches!(outcome, Ok(Ok(()))),
            "{stage:?}: the panic was swallowed"
        );

        let store = place.open();
        assert_eq!(store.stats("t").unwrap().live_rows, 2500, "after {stage:?}");
        assert!(store.check().unwrap().is_clean());
        store.close().unwrap();
    }
}

#[test]
fn read_only_changes_nothing() {
    let place = TempPath::new();
    let store = place.open();
    line(&store, 100);
    let read_only = OpenOptions::new().read_only(true);
    assert!(
        matches!(error_of(read_only.open(&place.path)), StoreError::AlreadyOpen { path } if path == place.path),
        "beside a writer"
    );
    store.close().unwrap();
    let before = bytes_of(&place.path);

    let store = place.open_with(&read_only);
    let table = store.table("t").unwrap();
    assert_eq!(table.count().unwrap(), 100);
    assert_eq!(table.stats().unwrap().name, "t");
    assert_eq!(table.get(&key_of(7)).unwrap().unwrap().key, key_of(7));
    assert!(table.contains(&key_of(7)).unwrap());
    assert!(!table.contains(b"none").unwrap());
    assert_eq!(
        table.scroll(None, 1000, Return::Rows).unwrap().rows.len(),
        100
    );
    let query = [1.0, 0.0];
    for error in [
        error_of(table.search(&query, &SearchOptions::new(1))),
        error_of(table.search_batch(&[query], &SearchOptions::new(1))),
        error_of(store.search("t", &query, 1, None)),
    ] {
        assert!(
            matches!(error, StoreError::NoIndex { ref table } if table == "t"),
            "{error:?}"
        );
    }
    assert!(matches!(
        error_of(VectorStore::open_path(&place.path)),
        StoreError::AlreadyOpen { .. }
    ));
    refuses_writes(&store, &table);
    drop(table);
    store.close().unwrap();

    let store = place.open_with(&read_only.clone().index(true));
    let table = store.table("t").unwrap();
    assert_eq!(
        keys(&table.search(&[41.2, 0.0], &SearchOptions::new(2)).unwrap()),
        [41, 42]
    );
    assert_clean(&table);
    refuses_writes(&store, &table);
    drop(table);
    store.close().unwrap();
    assert!(before == bytes_of(&place.path), "the file changed");

    let missing = place.beside("missing");
    error_of(read_only.open(&missing));
    assert!(!missing.exists(), "a read-only open created a file");
}

fn refuses_writes(store: &VectorStore, table: &Table) {
    let mut batch = WriteBatch::new();
    batch.delete("t", key_of(1));
    let errors = [
        error_of(table.upsert(key_of(1), &[0.0, 0.0], no_metadata())),
        error_of(table.upsert_many(vec![new_row(key_of(1), &[0.0, 0.0])])),
        error_of(table.set_metadata(&key_of(1), no_metadata())),
        error_of(table.delete(&key_of(1))),
        error_of(table.delete_many(&[key_of(1)])),
        error_of(store.write(batch)),
        error_of(store.create_table(schema("new", 2, F32, Euclidean))),
        error_of(store.drop_table("t")),
        error_of(store.compact()),
    ];
    for error in errors {
        assert!(matches!(error, StoreError::ReadOnly), "{error:?}");
    }
}

#[test]
fn a_file_has_one_writer() {
    let place = TempPath::new();
    let store = place.open();
    let error = error_of(VectorStore::open_path(&place.path));
    assert!(matches!(error, StoreError::AlreadyOpen { .. }), "{error:?}");
    // A clone is the same store; it opens again when the last of them is gone.
    let clone = store.clone();
    drop(store);
    assert!(matches!(
        error_of(VectorStore::open_path(&place.path)),
        StoreError::AlreadyOpen { .. }
    ));
    drop(clone);
    place.open().close().unwrap();
}

/// Batches of more rows than are linked at a time overwrite, write twice, delete and insert, under
/// slots that were released before, and a reader sees all of each or none.
#[test]
fn a_large_batch_appears_at_once() {
    const FIXED: usize = 2_100;
    const MOVING: usize = 700;
    let place = TempPath::new();
    let store = place.open();
    let table = create(&store, 2, F32, Euclidean, IndexKind::Hnsw);
    let fixed: Vec<Vec<f32>> = (0..FIXED).map(|row| vec![-1.0, row as f32]).collect();
    fill(&table, &fixed);
    let moving = |turn: usize, row: usize| vec![(1_000 * turn) as f32, row as f32];
    // In every turn other rows are there, in number and by key.
    let sizes = [256, 257, MOVING, 1, 600, 512];
    let keys_of = |turn: usize| -> Vec<usize> {
        let first = FIXED + turn * 37;
        (first..first + sizes[turn % sizes.len()]).collect()
    };
    let turns = 1..13;
    // The rows of one turn, all of them and no others.
    let see = |hits: &[Hit]| -> usize {
        let values = |hit: &Hit| hit.row.as_ref().unwrap().vector.decode().unwrap();
        let seen = hits.iter().map(|hit| (row_of(&hit.key), values(hit)));
        let (there, mut seen): (Vec<_>, Vec<_>) = seen.partition(|(row, _)| *row < FIXED);
        assert_eq!(there.len(), FIXED);
        seen.sort_by_key(|(row, _)| *row);
        let turn = seen
            .first()
            .map_or(0, |(_, vector)| vector[0] as usize / 1_000);
        if turn > 0 {
            let wanted = keys_of(turn)
                .into_iter()
                .map(|row| (row, moving(turn, row)));
            assert_eq!(seen, wanted.collect::<Vec<_>>(), "turn {turn}");
        }
        turn
    };
    let everything = SearchOptions::new(FIXED + 2 * MOVING)
        .exact(true)
        .returning(Return::Rows);
    let look = || see(&table.search(&[0.0, 0.0], &everything).unwrap());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = 0;
            while !is_over.load(Ordering::Acquire) {
                let turn = look();
                assert!(turn >= last, "turn {turn} after {last}");
                last = turn;
            }
        });
        for turn in turns.clone() {
            let mut batch = WriteBatch::new();
            let rows: BTreeSet<usize> = keys_of(turn).into_iter().collect();
            for row in keys_of(turn - 1).into_iter().filter(|_| turn > 1) {
                // A row written and deleted at once, or deleted and written.
                batch.delete("t", key_of(row));
                batch.upsert("t", key_of(row), &[0.5, 0.5], no_metadata());
                if !rows.contains(&row) {
                    batch.delete("t", key_of(row));
                }
            }
            for &row in &rows {
                batch.upsert("t", key_of(row), &moving(turn, row), no_metadata());
            }
            store.write(batch).unwrap();
            assert_eq!(look(), turn);
        }
        is_over.store(true, Ordering::Release);
    });
    assert_clean(&table);
    drop(table);
    store.close().unwrap();
    let store = place.open();
    let table = store.table("t").unwrap();
    assert_clean(&table);
    let hits = table.search(&[0.0, 0.0], &everything).unwrap();
    assert_eq!(see(&hits), turns.end - 1);
}

#[test]
fn a_batch_writes_all_or_nothing_over_many_tables() {
    let place = TempPath::new();
    let store = place.open();
    store.create_table(schema("a", 2, F32, Euclidean)).unwrap();
    store
        .create_table(schema("b", 3, Int8Quantized, Cosine))
        .unwrap();
    let mut batch = WriteBatch::new();
    assert!(batch.is_empty());
    batch
        .upsert("a", *b"one", &[1.0, 0.0], no_metadata())
        .upsert("b", *b"one", &[1.0, 0.0, 0.0], no_metadata())
        .upsert("a", *b"two", &[2.0, 0.0], no_metadata());
    assert_eq!(batch.len(), 3);
    let outcome = store.write(batch).unwrap();
    assert_eq!(
        (outcome.inserted, outcome.updated, outcome.deleted),
        (3, 0, 0)
    );

    let mut batch = WriteBatch::new();
    batch
        .upsert("a", *b"two", &[2.5, 0.0], no_metadata())
        .set_metadata("b", *b"one", metadata("x", 1))
        .delete("a", *b"one")
        .delete("a", *b"never there");
    let outcome = store.write(batch).unwrap();
    assert_eq!(
        (outcome.inserted, outcome.updated, outcome.deleted),
        (0, 2, 1)
    );
    assert_eq!(store.get("b", b"one").unwrap().unwrap().metadata["x"], 1);
    assert!(store.get("a", b"one").unwrap().is_none());

    // One bad write takes the others along, wherever it stands.
    let bad: [fn(&mut WriteBatch); 4] = [
        |batch| {
            batch.upsert("b", *b"x", &[1.0], no_metadata());
        },
        |batch| {
            batch.upsert("none", *b"x", &[1.0], no_metadata());
        },
        |batch| {
            batch.set_metadata("b", *b"none", no_metadata());
        },
        |batch| {
            batch.upsert("b", *b"x", &[1.0, f32::NAN, 0.0], no_metadata());
        },
    ];
    for spoil in bad {
        let mut batch = WriteBatch::new();
        batch
            .upsert("a", *b"new", &[9.0, 9.0], no_metadata())
            .delete("a", *b"two");
        spoil(&mut batch);
        batch.upsert("b", *b"new", &[9.0, 9.0, 9.0], no_metadata());
        error_of(store.write(batch));
        assert!(store.get("a", b"new").unwrap().is_none());
        assert!(store.get("b", b"new").unwrap().is_none());
        assert!(store.get("a", b"two").unwrap().is_some());
        let hits = store.search("a", &[9.0, 9.0], 10, None).unwrap();
        assert_eq!(hits.len(), 1);
    }
    let nothing = store.write(WriteBatch::new()).unwrap();
    assert_eq!(
        (nothing.inserted, nothing.updated, nothing.deleted),
        (0, 0, 0)
    );
    store.close().unwrap();

    let store = place.open();
    let row = store.get("a", b"two").unwrap().unwrap();
    assert_eq!(row.vector.decode().unwrap(), [2.5, 0.0]);
    assert_eq!(store.stats("a").unwrap().live_rows, 1);
    assert_eq!(store.stats("b").unwrap().live_rows, 1);
}

#[test]
fn the_last_write_of_a_key_in_a_batch_wins() {
    let store = VectorStore::in_memory();
    let table = create(&store, 2, F32, Euclidean, IndexKind::Auto);
    let mut rows = vec![
        new_row(*b"k", &[1.0, 0.0]),
        new_row(*b"other", &[5.0, 5.0]),
        new_row(*b"k", &[2.0, 0.0]),
        new_row(*b"k", &[3.0, 0.0]),
    ];
    rows[0].metadata = metadata("from", "the first");
    let outcome = table.upsert_many(rows).unwrap();
    assert_eq!((outcome.inserted, outcome.updated), (2, 0));
    assert_eq!(table.count().unwrap(), 2);
    let row = table.get(b"k").unwrap().unwrap();
    assert_eq!(row.vector.decode().unwrap(), [3.0, 0.0]);
    assert!(row.metadata.is_empty(), "a whole row replaces a whole row");
    let hits = table.search(&[1.0, 0.0], &SearchOptions::new(10)).unwrap();
    let found: Vec<_> = hits
        .iter()
        .map(|hit| (&hit.key[..], hit.distance))
        .collect();
    assert_eq!(found[0], (&b"k"[..], 2.0));
    assert_eq!(
        found.len(),
        2,
        "an earlier vector of the batch is found too"
    );

    let mut batch = WriteBatch::new();
    batch
        .upsert("t", *b"k", &[7.0, 0.0], no_metadata())
        .delete("t", *b"k")
        .delete("t", *b"new")
        .upsert("t", *b"new", &[8.0, 0.0], no_metadata());
    store.write(batch).unwrap();
    assert!(table.get(b"k").unwrap().is_none());
    assert!(table.get(b"new").unwrap().is_some());
    // New metadata for a row that the same batch writes.
    let mut batch = WriteBatch::new();
    batch
        .upsert("t", *b"m", &[1.0, 1.0], metadata("x", 1))
        .set_metadata("t", *b"m", metadata("x", 2));
    store.write(batch).unwrap();
    let row = table.get(b"m").unwrap().unwrap();
    assert_eq!(row.metadata["x"], 2);
    assert_eq!(row.vector.decode().unwrap(), [1.0, 1.0]);
    assert_clean(&table);
}

#[test]
fn many_rows_are_read_and_deleted_in_the_order_of_the_keys_given() {
    let store = VectorStore::in_memory();
    let table = line(&store, 20);
    let wanted = [key_of(7), b"none".to_vec(), key_of(3), key_of(7)];
    let rows = table.get_many(&wanted).unwrap();
    let got: Vec<_> = rows
        .iter()
        .map(|row| row.as_ref().map(|row| row_of(&row.key)))
        .collect();
    assert_eq!(got, [Some(7), None, Some(3), Some(7)]);
    assert!(table.get_many::<&[u8]>(&[]).unwrap().is_empty());

    assert_eq!(
        table.delete_many(&wanted).unwrap(),
        2,
        "each key is there once"
    );
    assert_eq!(table.delete_many(&wanted).unwrap(), 0);
    assert_eq!(table.delete_many::<&[u8]>(&[]).unwrap(), 0);
    assert_eq!(table.count().unwrap(), 18);
    assert!(!table.contains(&key_of(7)).unwrap());
    assert!(!table.delete(&key_of(3)).unwrap());
    assert!(table.delete(&key_of(4)).unwrap());
    let hits = table.search(&[7.0, 0.0], &SearchOptions::new(100)).unwrap();
    assert_eq!(hits.len(), 17);
    assert!(!keys(&hits).contains(&7));
}

#[test]
fn scroll_shows_every_row_once_in_key_order() {
    for in_file in [false, true] {
        let place = TempPath::new();
        let store = if in_file {
            place.open()
        } else {
            VectorStore::in_memory()
        };
        let table = create(&store, 2, F32, Euclidean, IndexKind::Auto);
        // Keys of every length and byte, and an order of writing that is not theirs.
        let mut rng = Rng::new(2);
        let mut wanted = BTreeSet::from([vec![0], vec![0, 0], vec![255], vec![255; 3]]);
        while wanted.len() < 237 {
            let len = 1 + rng.below(5);
            wanted.insert((0..len).map(|_| rng.next_u64() as u8).collect());
        }
        let mut shuffled: Vec<_> = wanted.iter().cloned().collect();
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, rng.below(at + 1));
        }
        for key in shuffled {
            table.upsert(key, &[1.0, 2.0], metadata("x", 1)).unwrap();
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        for limit in [1, 10, 236, 237, 238, 100_000] {
            let (mut got, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = table.scroll(after.as_deref(), limit, Return::Keys).unwrap();
                assert!(page.rows.len() <= limit);
                got.extend(page.rows.into_iter().map(|row| row.key));
                pages += 1;
                assert!(pages <= 238, "a scroll that does not end");
                after = match page.next {
                    Some(next) => Some(next),
                    None => break,
                };
            }
            assert_eq!(got, wanted, "limit {limit}");
        }
        // It goes on after a key that is gone.
        table.delete(&wanted[100]).unwrap();
        let page = table
            .scroll(Some(&wanted[100]), 1, Return::Metadata)
            .unwrap();
        assert_eq!(page.rows[0].key, wanted[101]);
        assert_eq!(page.rows[0].metadata["x"], 1);
        assert!(page.rows[0].vector.bytes.is_empty());
        let page = table.scroll(None, 1, Return::Rows).unwrap();
        assert_eq!(page.rows[0].vector.decode().unwrap(), [1.0, 2.0]);
        let page = table.scroll(Some(&[255; 9]), 10, Return::Rows).unwrap();
        assert!(page.rows.is_empty() && page.next.is_none());
    }
}

#[test]
fn a_search_gives_what_was_asked() {
    let store = VectorStore::in_memory();
    let table = line(&store, 50);
    table
        .set_metadata(&key_of(10), metadata("x", "ten"))
        .unwrap();
    let query = [10.25, 0.0];
    let search = |options: SearchOptions| table.search(&query, &options).unwrap();

    let hits = search(SearchOptions::new(3));
    assert_eq!(keys(&hits), [10, 11, 9]);
    let distances: Vec<_> = hits.iter().map(|hit| hit.distance).collect();
    assert_eq!(distances, [0.25, 0.75, 1.25]);
    let row = hits[0].row.as_ref().expect("metadata is the default");
    assert_eq!(row.metadata["x"], "ten");
    assert!(row.vector.bytes.is_empty());
    assert!(row.created_at > 0);
    let rows = search(SearchOptions::new(1).returning(Return::Rows));
    let row = rows[0].row.as_ref().unwrap();
    assert_eq!(row.vector.decode().unwrap(), [10.0, 0.0]);
    assert_eq!(row.metadata["x"], "ten");
    assert!(
        search(SearchOptions::new(1).returning(Return::Keys))[0]
            .row
            .is_none()
    );

    // The threshold is inclusive.
    assert_eq!(
        keys(&search(SearchOptions::new(10).max_distance(0.75))),
        [10, 11]
    );
    assert_eq!(
        keys(&search(SearchOptions::new(10).max_distance(0.7499))),
        [10]
    );
    assert_eq!(
        keys(&search(SearchOptions::new(1).max_distance(100.0))),
        [10]
    );
    assert!(search(SearchOptions::new(10).max_distance(0.2)).is_empty());
    assert!(search(SearchOptions::new(10).max_distance(-1.0)).is_empty());

    assert!(search(SearchOptions::new(0)).is_empty());
    for many in [50, 51, 1_000_000, usize::MAX] {
        assert_eq!(search(SearchOptions::new(many)).len(), 50, "k {many}");
    }
    for ef in [0, 1, 50, usize::MAX] {
        assert_eq!(
            keys(&search(SearchOptions::new(3).ef(ef))),
            [10, 11, 9],
            "ef {ef}"
        );
    }
    for rerank in [0, 1, usize::MAX] {
        assert_eq!(
            keys(&search(SearchOptions::new(3).rerank(rerank))),
            [10, 11, 9]
        );
    }
    assert_eq!(
        keys(&search(SearchOptions::new(3).exact(true))),
        [10, 11, 9]
    );

    // Rows at the same distance come in the order they were written.
    let tied = table.search(&[20.5, 0.0], &SearchOptions::new(2)).unwrap();
    assert_eq!(keys(&tied), [20, 21]);

    // The seed's call gives whole rows.
    let seed = store.search("t", &query, 2, Some(10)).unwrap();
    assert_eq!((row_of(&seed[0].0.key), seed[0].1), (10, 0.25));
    assert_eq!(seed[0].0.vector.decode().unwrap(), [10.0, 0.0]);
    assert_eq!(seed[0].0.metadata["x"], "ten");

    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = error_of(table.search(&[0.0, bad], &SearchOptions::new(1)));
        assert!(
            matches!(
                error,
                StoreError::Encoding(EncodingError::NotFinite { index: 1, .. })
            ),
            "{error:?}"
        );
    }
    let error = error_of(table.search(&[0.0], &SearchOptions::new(1)));
    assert!(matches!(
        error,
        StoreError::DimensionMismatch {
            expected: 2,
            got: 1,
            ..
        }
    ));
}

#[test]
fn zero_vectors_are_at_distance_one_by_cosine() {
    let store = VectorStore::in_memory();
    for codec in [F32, Int8Quantized, Fp16] {
        let name = codec.as_str();
        store.create_table(schema(name, 2, codec, Cosine)).unwrap();
        let table = store.table(name).unwrap();
        table.upsert(*b"zero", &[0.0, 0.0], no_metadata()).unwrap();
        table.upsert(*b"x", &[2.0, 0.0], no_metadata()).unwrap();
        let hits = table.search(&[1.0, 0.0], &SearchOptions::new(2)).unwrap();
        assert_eq!(hits[0].key, b"x");
        assert!(hits[0].distance.abs() <= 1e-6);
        assert_eq!((&hits[1].key[..], hits[1].distance), (&b"zero"[..], 1.0));
        let hits = table.search(&[0.0, 0.0], &SearchOptions::new(2)).unwrap();
        assert!(hits.iter().all(|hit| hit.distance == 1.0));
    }
}

#[test]
fn a_batch_of_searches_is_the_searches() {
    let mut rng = Rng::new(9);
    let rows = rng.clustered(2500, 16, 30, 0.4);
    let queries: Vec<_> = (0..64).map(|_| rng.vector(16)).collect();
    for (codec, index) in [
        (Int8Quantized, IndexKind::Hnsw),
        (F32, IndexKind::Flat),
        #[cfg(feature = "turbo")]
        (Codec::Turbovec4Bit, IndexKind::Turbo),
    ] {
        let store = VectorStore::in_memory();
        let table = create(&store, 16, codec, Euclidean, index);
        fill(&table, &rows);
        for options in [
            SearchOptions::new(10),
            SearchOptions::new(5).exact(true).returning(Return::Rows),
            SearchOptions::new(5)
                .max_distance(3.0)
                .returning(Return::Keys),
        ] {
            let batch = table.search_batch(&queries, &options).unwrap();
            assert_eq!(batch.len(), queries.len());
            for (query, hits) in queries.iter().zip(&batch) {
                assert_eq!(&table.search(query, &options).unwrap(), hits);
            }
        }
        let none: [Vec<f32>; 0] = [];
        assert!(
            table
                .search_batch(&none, &SearchOptions::new(1))
                .unwrap()
                .is_empty()
        );
        let bad = [rng.vector(16), rng.vector(15)];
        error_of(table.search_batch(&bad, &SearchOptions::new(1)));
    }
}

#[test]
fn an_exact_search_is_exact_whatever_the_index() {
    let mut rng = Rng::new(10);
    let rows = rng.clustered(2500, 16, 30, 0.4);
    let queries: Vec<_> = (0..20).map(|_| rng.vector(16)).collect();
    let exact = SearchOptions::new(10).exact(true);
    for distance in [Euclidean, Cosine, DotProduct] {
        let found = |codec: Codec, index: IndexKind| {
            let store = VectorStore::in_memory();
            let table = create(&store, 16, codec, distance, index);
            fill(&table, &rows);
            // A pool as large as the table is an exact scan too.
            let all = SearchOptions::new(10).ef(rows.len());
            let found = answers(&table, &queries, &exact);
            if index == IndexKind::Hnsw {
                assert!(found == answers(&table, &queries, &all));
            }
            found
        };
        let flat = found(F32, IndexKind::Flat);
        assert!(flat == found(F32, IndexKind::Hnsw), "{distance}");
        #[cfg(feature = "turbo")]
        assert!(
            flat == found(Codec::Turbovec2Bit, IndexKind::Turbo),
            "{distance}"
        );
        let int8 = found(Int8Quantized, IndexKind::Flat);
        assert!(int8 == found(Int8Quantized, IndexKind::Hnsw), "{distance}");
    }
}

#[test]
fn stats_count_what_is_there() {
    let place = TempPath::new();
    let store = place.open();
    let table = line(&store, 30);
    let stats = table.stats().unwrap();
    assert_eq!(stats, store.stats("t").unwrap());
    assert_eq!((stats.name.as_str(), stats.dim), ("t", 2));
    assert_eq!((stats.codec, stats.distance), (F32, Euclidean));
    assert_eq!(stats.index, IndexKind::Hnsw, "what Auto stands for");
    assert_eq!((stats.live_rows, stats.tracked_rows), (30, 30));
    assert_eq!((stats.distinct_vectors, stats.quarantined_rows), (30, 0));
    assert!(stats.memory.total() > 0);
    assert!(stats.bytes_on_disk.unwrap() > 0);
    // A copy is a row and no new vector.
    table.upsert(*b"copy", &[7.0, 0.0], no_metadata()).unwrap();
    let stats = table.stats().unwrap();
    assert_eq!((stats.live_rows, stats.distinct_vectors), (31, 30));
    assert_eq!(table.count().unwrap(), 31);
    table.delete(&key_of(7)).unwrap();
    let stats = table.stats().unwrap();
    assert_eq!((stats.live_rows, stats.distinct_vectors), (30, 30));
    let json = serde_json::to_value(&stats).unwrap();
    assert_eq!(json["codec"], "f32");
    assert_eq!(json["distance"], "euclidean");
    assert_eq!(json["index"], "hnsw");
}

#[test]
fn a_table_dropped_and_created_again_is_a_new_table() {
    let place = TempPath::new();
    let store = place.open();
    line(&store, 10);
    store.drop_table("t").unwrap();
    let table = create(&store, 3, Int8Quantized, Cosine, IndexKind::Flat);
    assert_eq!(table.count().unwrap(), 0);
    assert!(table.get(&key_of(1)).unwrap().is_none());
    table
        .upsert(*b"new", &[1.0, 2.0, 3.0], no_metadata())
        .unwrap();
    drop(table);
    store.close().unwrap();
    let store = place.open();
    let table = store.table("t").unwrap();
    assert_eq!(table.schema().dim, 3);
    assert_eq!(table.options().index, IndexKind::Flat);
    assert_eq!(table.count().unwrap(), 1);
    assert!(table.get(&key_of(1)).unwrap().is_none());
    assert_clean(&table);
}

#[test]
fn a_backup_of_an_open_store_is_a_store() {
    let place = TempPath::new();
    let store = place.open();
    let table = line(&store, 300);
    let copy = place.beside("copy.vecstash");
    store.backup(&copy).unwrap();
    // It is of that moment, and the store goes on.
    table.upsert(*b"later", &[1.0, 0.0], no_metadata()).unwrap();
    let taken = bytes_of(&copy);
    let error = error_of(store.backup(&copy));
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    assert!(
        taken == bytes_of(&copy),
        "a refused backup touched the file"
    );

    let other = VectorStore::open_path(&copy).unwrap();
    let rows = |store: &VectorStore| {
        let table = store.table("t").unwrap();
        table.scroll(None, 1000, Return::Rows).unwrap().rows
    };
    assert_eq!(rows(&other).len(), 300);
    table.delete(b"later").unwrap();
    assert_eq!(rows(&other), rows(&store), "keys, vectors, metadata, times");
    assert!(other.check().unwrap().is_clean());
    other
        .upsert("t", b"own".to_vec(), &[0.5, 0.5], no_metadata())
        .unwrap();
    assert!(store.get("t", b"own").unwrap().is_none());
}

#[test]
fn compact_gives_space_back_and_keeps_every_row() {
    let place = TempPath::new();
    let store = place.open();
    let table = create(&store, 256, F32, Euclidean, IndexKind::Flat);
    let mut rng = Rng::new(5);
    let rows: Vec<_> = (0..3000).map(|_| rng.vector(256)).collect();
    fill(&table, &rows);
    let gone: Vec<_> = (100..3000).map(key_of).collect();
    assert_eq!(table.delete_many(&gone).unwrap(), 2900);
    let before = std::fs::metadata(&place.path).unwrap().len();
    assert!(store.compact().unwrap(), "there was much to give back");
    let after = std::fs::metadata(&place.path).unwrap().len();
    assert!(after < before / 2, "{before} bytes, then {after}");
    for (row, vector) in rows[..100].iter().enumerate() {
        let found = table.get(&key_of(row)).unwrap().unwrap();
        assert_eq!(&found.vector.decode().unwrap(), vector);
    }
    table.upsert(*b"after", &rows[0], no_metadata()).unwrap();
    assert_clean(&table);
    drop(table);
    store.close().unwrap();
    assert_eq!(place.open().stats("t").unwrap().live_rows, 101);
}

#[test]
fn a_closed_store_says_so_and_lets_go_of_the_file() {
    let place = TempPath::new();
    let store = place.open();
    let table = line(&store, 10);
    let clone = store.clone();
    store.close().unwrap();
    // Nothing is poisoned: the file opens while handles of before are still around.
    let again = place.open();
    let query = [1.0, 0.0];
    let errors = [
        error_of(table.get(&key_of(1))),
        error_of(table.get_many(&[key_of(1)])),
        error_of(table.upsert(key_of(1), &query, no_metadata())),
        error_of(table.upsert_many(vec![new_row(key_of(1), &query)])),
        error_of(table.set_metadata(&key_of(1), no_metadata())),
        error_of(table.delete(&key_of(1))),
        error_of(table.delete_many(&[key_of(1)])),
        error_of(table.search(&query, &SearchOptions::new(1))),
        error_of(table.search_batch(&[query], &SearchOptions::new(1))),
        error_of(table.scroll(None, 1, Return::Keys)),
        error_of(clone.get("t", &key_of(1))),
        error_of(clone.create_table(schema("new", 2, F32, Euclidean))),
        error_of(clone.drop_table("t")),
        error_of(clone.flush()),
        error_of(clone.backup(place.beside("copy"))),
    ];
    for (number, error) in errors.iter().enumerate() {
        assert!(
            matches!(error, StoreError::Closed),
            "call {number}: {error:?}"
        );
    }
    assert_eq!(again.stats("t").unwrap().live_rows, 10);
}

#[test]
fn weaker_durability_is_whole_after_a_flush_or_a_close() {
    for durability in [Durability::Within(50), Durability::Volatile] {
        let place = TempPath::new();
        let options = OpenOptions::new().durability(durability);
        let store = place.open_with(&options);
        let table = line(&store, 100);
        table.upsert(*b"x", &[0.5, 0.5], no_metadata()).unwrap();
        assert!(table.get(b"x").unwrap().is_some(), "visible at once");
        store.flush().unwrap();
        table.upsert(*b"y", &[0.5, 0.5], no_metadata()).unwrap();
        drop(table);
        store.close().unwrap();
        let store = place.open();
        assert_eq!(store.stats("t").unwrap().live_rows, 102, "{durability:?}");
        assert!(store.check().unwrap().is_clean());
    }
}

#[test]
fn threads_share_a_table() {
    let place = TempPath::new();
    let store = place.open_with(&OpenOptions::new().durability(Durability::Volatile));
    let table = create(&store, 8, Int8Quantized, Euclidean, IndexKind::Hnsw);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let table = table.clone();
            scope.spawn(move || {
                let mut rng = Rng::new(writer);
                for row in 0..200 {
                    let key = key_of(writer as usize * 1000 + row);
                    let vector = rng.vector(8);
                    table.upsert(key.clone(), &vector, no_metadata()).unwrap();
                    // What was acknowledged is found, by everyone, at once.
                    let options = SearchOptions::new(1).exact(true).returning(Return::Keys);
                    assert_eq!(table.search(&vector, &options).unwrap()[0].key, key);
                    if row % 10 == 0 {
                        assert!(table.delete(&key).unwrap());
                        assert!(!table.contains(&key).unwrap());
                    }
                }
            });
        }
    });
    assert_eq!(table.count().unwrap(), 720);
    assert_clean(&table);
    drop(table);
    store.close().unwrap();
    assert_eq!(place.open().stats("t").unwrap().live_rows, 720);
}

#[test]
fn a_backend_of_six_methods_serves_default_tables() {
    let backend = Arc::new(SixMethods::default());
    let store = VectorStore::open(backend.clone()).unwrap();
    store
        .create_table(schema("t", 2, Int8Quantized, Euclidean))
        .unwrap();
    let table = store.table("t").unwrap();
    for row in 0..40 {
        let vector = [row as f32, 1.0];
        table
            .upsert(key_of(row), &vector, metadata("row", row))
            .unwrap();
    }
    table
        .upsert(key_of(3), &[100.0, 1.0], metadata("row", "moved"))
        .unwrap();
    table
        .set_metadata(&key_of(4), metadata("row", "named"))
        .unwrap();
    assert!(table.delete(&key_of(5)).unwrap());
    assert!(!table.delete(&key_of(5)).unwrap());
    let queries: Vec<_> = (0..40).map(|row| vec![row as f32 + 0.2, 1.0]).collect();
    let live = answers(&table, &queries, &SearchOptions::new(5));
    drop((table, store));

    let store = VectorStore::open(backend).unwrap();
    let table = store.table("t").unwrap();
    assert_eq!(table.count().unwrap(), 39);
    assert_eq!(
        common::stores::common_part(&live, &answers(&table, &queries, &SearchOptions::new(5))),
        1.0
    );
    assert_eq!(
        table.get(&key_of(3)).unwrap().unwrap().metadata["row"],
        "moved"
    );
    assert_eq!(
        table.get(&key_of(4)).unwrap().unwrap().metadata["row"],
        "named"
    );
    assert_eq!(
        table
            .get_many(&[key_of(5), key_of(6)])
            .unwrap()
            .iter()
            .flatten()
            .count(),
        1
    );
    let mut seen = HashSet::new();
    let mut after = None;
    loop {
        let page = table.scroll(after.as_deref(), 7, Return::Keys).unwrap();
        seen.extend(page.rows.into_iter().map(|row| row.key));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 39);
    assert_clean(&table);

    let two = || vec![new_row(*b"a", &[1.0, 1.0]), new_row(*b"b", &[1.0, 1.0])];
    let mut batch = WriteBatch::new();
    batch.delete("t", key_of(6)).delete("t", key_of(7));
    let flat = TableOptions::default().index(IndexKind::Flat);
    for error in [
        error_of(table.upsert_many(two())),
        error_of(store.write(batch)),
        error_of(table.delete_many(&[key_of(6), key_of(7)])),
        error_of(store.create_table_with(schema("flat", 2, F32, Euclidean), flat)),
        error_of(store.drop_table("t")),
        error_of(store.compact()),
        error_of(store.backup(TempPath::new().path)),
    ] {
        assert!(matches!(error, StoreError::Unsupported { .. }), "{error:?}");
    }
    assert_eq!(table.count().unwrap(), 39, "nothing changed");
    assert_eq!(store.tables().len(), 1);
    assert_clean(&table);
}
