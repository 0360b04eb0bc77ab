//! Links kept in the file make the next open short and decide nothing else: whatever became of
//! them, rows and distances are the same, and walks find as much as in a graph built anew.

mod common;

use std::collections::HashSet;
use std::ops::ControlFlow;

use common::rng::Rng;
use common::sets::Set;
use common::stores::{
    Answers, TempPath, answers, assert_clean, create, fill, fill_some, key_of, new_row, recall,
    remove_some,
};
use vecstash::Codec::{F32, Int8Quantized};
use vecstash::Distance::{self, Cosine, DotProduct, Euclidean};
use vecstash::storage::{Backend, Change, Durability, RedbBackend, TableKey};
use vecstash::{IndexKind, OpenOptions, SearchOptions, Table, TableReport, VectorStore};

const K: usize = 10;

fn hinted() -> OpenOptions {
    OpenOptions::new().hinted_rows_min(0)
}

fn unhinted() -> OpenOptions {
    OpenOptions::new().hinted_rows_min(usize::MAX)
}

fn report(store: &VectorStore) -> TableReport {
    store.open_report().tables[0].clone()
}

fn search(table: &Table, set: &Set) -> Answers {
    answers(table, &set.queries, &SearchOptions::new(K).ef(64))
}

/// A closed store of this set, whose log of links is whole.
fn stored(set: &Set, codec: vecstash::Codec) -> TempPath {
    let place = TempPath::new();
    let store = place.open_with(&hinted());
    let table = create(&store, set.dim(), codec, set.distance, IndexKind::Hnsw);
    fill(&table, &set.base);
    drop(table);
    store.close().expect("a close");
    place
}

fn table_key(backend: &RedbBackend) -> TableKey {
    let record = backend
        .list_tables()
        .expect("tables")
        .tables
        .remove(0)
        .record;
    TableKey {
        id: record.id,
        name: record.schema.name.as_str().into(),
    }
}

/// Puts what `change` makes of the log of links in its place.
fn damage(place: &TempPath, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let backend = RedbBackend::open(&place.path).expect("a backend");
    let table = table_key(&backend);
    let mut groups: Vec<Vec<u8>> = Vec::new();
    let mut visit = |group: Result<&[u8], String>| {
        groups.push(group.expect("a good group").to_vec());
        Ok(ControlFlow::Continue(()))
    };
    backend.scan_links(&table, &mut visit).expect("a scan");
    change(&mut groups);
    let change = Change::ReplaceLinks { table, groups };
    backend
        .commit(&[change], Durability::Immediate)
        .expect("a commit");
    backend.close().expect("a close");
}

#[test]
fn an_open_reads_links_instead_of_finding_them() {
    for (name, distance, codec) in [
        ("sift8k_cc0", Euclidean, Int8Quantized),
        ("glove4k", Cosine, F32),
        ("glove4k", DotProduct, Int8Quantized),
    ] {
        let set = Set::load(name, distance);
        let place = stored(&set, codec);
        let store = place.open_with(&unhinted());
        assert_eq!(report(&store).hinted_rows, 0);
        let built = search(&store.table("t").unwrap(), &set);
        store.close().expect("a close");

        let store = place.open_with(&hinted());
        let report = report(&store);
        assert!(!report.hints_refused);
        assert!(report.relinked_rows * 50 <= report.rows, "{report:?}");
        assert!(report.hinted_rows >= report.rows / 10 * 8, "{report:?}");
        let table = store.table("t").unwrap();
        assert_clean(&table);
        let read = search(&table, &set);
        let [before, after] = [&built, &read].map(|found| recall(&set, found, K));
        assert!(
            after >= before - 0.005,
            "{name}: {after} where {before} was"
        );
        drop(table);
        store.close().expect("a close");
        let store = place.open_with(&hinted());
        let again = search(&store.table("t").unwrap(), &set);
        assert_eq!(again, read, "{name}: two opens with no write between them");
    }
}

/// Rows that changed since the links were written, by a crash that kept the log as it was.
#[test]
fn rows_that_changed_since_are_found() {
    let set = Set::load("sift8k_cc0", Euclidean);
    let rows = set.base.len();
    for changed in [rows / 50, rows / 8] {
        let place = TempPath::new();
        let store = place.open_with(&hinted());
        let table = create(&store, set.dim(), Int8Quantized, Euclidean, IndexKind::Hnsw);
        // What is written last is deleted, and the first are missing until then.
        fill_some(&table, &set.base, &(changed..rows).collect::<Vec<_>>());
        let gone: Vec<Vec<f32>> = (0..changed)
            .map(|row| set.base[rows - 1 - row].iter().map(|x| x + 1.0).collect())
            .collect();
        for (row, vector) in gone.iter().enumerate() {
            table
                .upsert(key_of(rows + row), vector, common::stores::no_metadata())
                .unwrap();
        }
        drop(table);
        store.close().expect("a close");
        let store = place.open_with(&hinted());
        let table = store.table("t").unwrap();
        fill_some(&table, &set.base, &(0..changed).collect::<Vec<_>>());
        remove_some(&table, &(rows..rows + changed).collect::<Vec<_>>());
        // The file as a kill would leave it: nothing of a close happens to the copy.
        let copy = TempPath::new();
        store.backup(&copy.path).expect("a backup");
        drop(table);
        store.close().expect("a close");

        let store = copy.open_with(&hinted());
        let table = store.table("t").unwrap();
        assert_clean(&table);
        assert_eq!(table.count().unwrap(), rows);
        let found = recall(&set, &search(&table, &set), K);
        store.close().expect("a close");
        let store = copy.open_with(&unhinted());
        let built = recall(&set, &search(&store.table("t").unwrap(), &set), K);
        assert!(
            found >= built - 0.01,
            "{changed} changed: {found} where {built} was"
        );
    }
}

#[test]
fn damaged_links_cost_time_and_nothing_else() {
    let set = Set::load("glove4k", Cosine);
    let place = stored(&set, Int8Quantized);
    let exact = SearchOptions::new(K).exact(true);
    let store = place.open_with(&unhinted());
    let truth = answers(&store.table("t").unwrap(), &set.queries, &exact);
    let built = recall(&set, &search(&store.table("t").unwrap(), &set), K);
    store.close().expect("a close");

    let mut rng = Rng::new(3);
    type Damage = Box<dyn FnOnce(&mut Vec<Vec<u8>>)>;
    let shuffle = |rng: &mut Rng| {
        let seed = rng.next_u64();
        Box::new(move |groups: &mut Vec<Vec<u8>>| {
            // The links of every record stand at another one: each number is drawn anew.
            let mut rng = Rng::new(seed);
            for group in groups {
                for byte in group.iter_mut().skip(21) {
                    if *byte < 0x80 && rng.below(2) == 0 {
                        *byte = rng.below(0x80) as u8;
                    }
                }
            }
        }) as Damage
    };
    let damages: Vec<(&str, Damage)> = vec![
        ("dropped", Box::new(Vec::clear)),
        (
            "half gone",
            Box::new(|groups| groups.truncate(groups.len() / 2)),
        ),
        (
            "cut off",
            Box::new(|groups| groups.iter_mut().for_each(|g| g.truncate(g.len() / 3))),
        ),
        ("turned round", Box::new(|groups| groups.reverse())),
        ("twice", Box::new(|groups| groups.extend(groups.clone()))),
        ("drawn anew", shuffle(&mut rng)),
        (
            "other parameters",
            Box::new(|groups| groups.iter_mut().for_each(|group| group[3] ^= 1)),
        ),
        (
            "noise",
            Box::new(|groups| {
                let mut rng = Rng::new(5);
                for group in groups {
                    group
                        .iter_mut()
                        .for_each(|byte| *byte = rng.next_u64() as u8);
                }
            }),
        ),
        (
            "places beyond the end",
            Box::new(|groups| groups.iter_mut().for_each(|group| group[9..17].fill(0xff))),
        ),
        (
            "empty",
            Box::new(|groups| groups.iter_mut().for_each(Vec::clear)),
        ),
    ];
    for (what, change) in damages {
        let copy = TempPath::new();
        std::fs::copy(&place.path, &copy.path).expect("a copy");
        damage(&copy, change);
        let store = copy.open_with(&hinted());
        let table = store.table("t").unwrap();
        assert_clean(&table);
        assert_eq!(answers(&table, &set.queries, &exact), truth, "{what}");
        let found = recall(&set, &search(&table, &set), K);
        assert!(found >= built - 0.01, "{what}: {found} where {built} was");
    }
}

/// Rows that come and rows that go.
type Turn = (Vec<usize>, Vec<usize>);

/// Ten times rows come and go and the store is opened again: every other time as a close leaves the
/// file, else as a kill would. Recall stays within `least` of what a build of the same rows has.
fn turns_leave_it_as_good(
    set: &Set,
    mut live: Vec<usize>,
    mut turn: impl FnMut(&[usize]) -> Turn,
    least: f64,
) {
    let mut place = TempPath::new();
    let store = place.open_with(&hinted());
    let table = create(
        &store,
        set.dim(),
        Int8Quantized,
        set.distance,
        IndexKind::Hnsw,
    );
    let all = live.iter().map(|&row| new_row(key_of(row), &set.base[row]));
    table.upsert_many(all.collect()).expect("rows that fit");
    drop(table);
    store.close().expect("a close");
    for round in 0..10 {
        let store = place.open_with(&hinted());
        let table = store.table("t").unwrap();
        let (come, go) = turn(&live);
        // The last few are not in the log when the copy is made.
        let (most, last) = come.split_at(come.len() - 37);
        fill_some(&table, &set.base, most);
        remove_some(&table, &go);
        fill_some(&table, &set.base, last);
        let gone: HashSet<usize> = go.into_iter().collect();
        live.retain(|row| !gone.contains(row));
        // Where so much has changed the log is written anew before the copy is made, and where a
        // thousand rows are full they are logged.
        let is_anew = 4 * (gone.len() + come.len()) > live.len();
        let is_logged = is_anew || come.len().is_multiple_of(1_000);
        live.extend(come);
        drop(table);
        let killed = round % 2 == 1;
        let copy = TempPath::new();
        if killed {
            store.backup(&copy.path).expect("a backup");
        }
        store.close().expect("a close");
        if killed {
            place = copy;
        }

        let store = place.open_with(&hinted());
        let table = store.table("t").unwrap();
        assert_clean(&table);
        let found = recall_of(&table, set, &live);
        let report = report(&store);
        assert!(!report.hints_refused, "round {round}: {report:?}");
        assert!(report.hinted_rows >= report.rows / 10 * 8, "{report:?}");
        let is_whole = is_logged || !killed;
        assert!(is_whole || report.relinked_rows > 0, "{report:?}");
        let hinted_rows = report.hinted_rows;
        drop(table);
        store.close().expect("a close");
        let store = place.open_with(&unhinted());
        let built = recall_of(&store.table("t").unwrap(), set, &live);
        store.close().expect("a close");
        println!("round {round}: {hinted_rows} by links, {found:.4} where {built:.4} was");
        assert!(
            found >= built - least,
            "round {round}: {found} where {built} was"
        );
    }
}

/// A cache that always lets go of its oldest rows: three times all of them in ten turns.
fn sliding(rows: usize, window: usize) -> impl FnMut(&[usize]) -> Turn {
    let step = window * 3 / 10;
    let mut oldest = 0;
    move |_| {
        let numbers = |from: usize| (from..from + step).map(|row| row % rows).collect();
        let turn = (numbers(oldest + window), numbers(oldest));
        oldest += step;
        turn
    }
}

/// One row of twenty goes, any of them, and as many come.
fn drifting(rows: usize) -> impl FnMut(&[usize]) -> Turn {
    let mut rng = Rng::new(11);
    move |live| {
        let step = live.len() / 20;
        let mut draw = |mut from: Vec<usize>| -> Vec<usize> {
            (0..step)
                .map(|_| from.swap_remove(rng.below(from.len())))
                .collect()
        };
        let mut is_live = vec![false; rows];
        live.iter().for_each(|&row| is_live[row] = true);
        let others = (0..rows).filter(|&row| !is_live[row]).collect();
        (draw(others), draw(live.to_vec()))
    }
}

#[test]
fn a_sliding_window_is_as_good_after_ten_reopens() {
    let set = Set::load("sift8k_cc0", Euclidean);
    let (rows, window) = (set.base.len(), set.base.len() / 2);
    turns_leave_it_as_good(&set, (0..window).collect(), sliding(rows, window), 0.01);
}

#[test]
fn rows_that_come_and_go_leave_it_as_good_after_ten_reopens() {
    let set = Set::load("sift8k_cc0", Euclidean);
    let rows = set.base.len();
    turns_leave_it_as_good(&set, (0..rows / 2).collect(), drifting(rows), 0.01);
}

/// So many rows that links are kept unasked, and so many queries that half a point is told apart.
fn large() -> Set {
    let (rows, queries) = (150_000, 1_000);
    let mut base = Rng::new(17).clustered(rows + queries, 128, 1_000, 0.6);
    Set {
        distance: Euclidean,
        queries: base.split_off(rows),
        base,
        gt_ids: Vec::new(),
        gt_dist: Vec::new(),
    }
}

#[test]
#[ignore = "minutes in a release build"]
fn crash_full_a_large_sliding_window() {
    let first = (0..100_000).collect();
    turns_leave_it_as_good(&large(), first, sliding(150_000, 100_000), 0.005);
}

#[test]
#[ignore = "minutes in a release build"]
fn crash_full_a_large_table_whose_rows_come_and_go() {
    let first = (0..100_000).collect();
    turns_leave_it_as_good(&large(), first, drifting(150_000), 0.005);
}

/// Recall at 10 among the rows that are there, by the distances of an exact search.
fn recall_of(table: &Table, set: &Set, live: &[usize]) -> f64 {
    assert_eq!(table.count().unwrap(), live.len());
    let exact = answers(table, &set.queries, &SearchOptions::new(K).exact(true));
    let found = search(table, set);
    common::stores::common_part(&exact, &found)
}

#[test]
fn a_table_below_the_least_keeps_no_links() {
    let set = Set::load("glove4k", Distance::Cosine);
    let place = TempPath::new();
    let store = place.open();
    let table = create(&store, set.dim(), Int8Quantized, Cosine, IndexKind::Hnsw);
    fill(&table, &set.base);
    drop(table);
    store.close().expect("a close");
    let backend = RedbBackend::open(&place.path).expect("a backend");
    let table = table_key(&backend);
    let mut groups = 0;
    let mut count = |_: Result<&[u8], String>| {
        groups += 1;
        Ok(ControlFlow::Continue(()))
    };
    backend.scan_links(&table, &mut count).expect("a scan");
    assert_eq!(groups, 0);
}
