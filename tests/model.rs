//! Random sequences of operations against a model that is obviously right: maps of rows, and
//! every distance compared. `check` has to be clean along the way.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use common::rng::Rng;
use common::sets::{Set, true_distance};
use common::stores::{
    Answers, TempPath, answers, assert_clean, error_of, fill, key_of, metadata, new_row,
    no_metadata, row_of, schema,
};
use proptest::prelude::*;
use vecstash::{
    Backend, Codec, Distance, Durability, IndexKind, MemoryBackend, Metadata, OpenOptions, Return,
    SearchOptions, StoreError, Table, TableOptions, VectorStore, WriteBatch,
};

const DIM: usize = 3;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// The shapes a table of the model can have.
fn shapes() -> Vec<(Codec, Distance, IndexKind)> {
    let mut shapes = Vec::new();
    for distance in [Distance::Euclidean, Distance::Cosine, Distance::DotProduct] {
        shapes.push((Codec::F32, distance, IndexKind::Flat));
        shapes.push((Codec::Int8Quantized, distance, IndexKind::Hnsw));
        shapes.push((Codec::Fp16, distance, IndexKind::Hnsw));
        shapes.push((Codec::F32, distance, IndexKind::Auto));
        if cfg!(feature = "turbo") {
            shapes.push((Codec::Turbovec4Bit, distance, IndexKind::Turbo));
            shapes.push((Codec::Turbovec2Bit, distance, IndexKind::Auto));
        }
    }
    shapes
}

type Key = u8;
type Vector = [i8; DIM];

#[derive(Clone, Debug)]
enum Op {
    Create(usize, usize),
    Drop(usize),
    Upsert(usize, Key, Vector, u8),
    /// Repeated keys and all.
    UpsertMany(usize, Vec<(Key, Vector, u8)>),
    /// Over two tables, with deletes in between.
    Batch(Vec<(usize, Key, Option<Vector>)>),
    SetMetadata(usize, Key, u8),
    Delete(usize, Key),
    DeleteMany(usize, Vec<Key>),
    Reopen,
    Exact(usize, Vector, usize),
    Search(usize, Vector, usize, usize),
    Within(usize, Vector, u8),
    Scroll(usize, usize),
    Get(usize, Key),
}

fn op() -> impl Strategy<Value = Op> {
    let table = || 0..NAMES.len();
    // Few keys, so that they meet again, and a coarse grid, so that distances tie.
    let key = || 0..14u8;
    let vector = || prop::array::uniform3(-4..=4i8);
    prop_oneof![
        4 => (table(), 0..shapes().len()).prop_map(|(t, s)| Op::Create(t, s)),
        1 => table().prop_map(Op::Drop),
        12 => (table(), key(), vector(), any::<u8>()).prop_map(|(t, k, v, m)| Op::Upsert(t, k, v, m)),
        8 => (table(), prop::collection::vec((key(), vector(), any::<u8>()), 0..8))
            .prop_map(|(t, rows)| Op::UpsertMany(t, rows)),
        4 => prop::collection::vec((table(), key(), prop::option::of(vector())), 0..6)
            .prop_map(Op::Batch),
        4 => (table(), key(), any::<u8>()).prop_map(|(t, k, m)| Op::SetMetadata(t, k, m)),
        6 => (table(), key()).prop_map(|(t, k)| Op::Delete(t, k)),
        3 => (table(), prop::collection::vec(key(), 0..6)).prop_map(|(t, k)| Op::DeleteMany(t, k)),
        3 => Just(Op::Reopen),
        6 => (table(), vector(), 0..20usize).prop_map(|(t, v, k)| Op::Exact(t, v, k)),
        6 => (table(), vector(), 1..20usize, 1..40usize)
            .prop_map(|(t, v, k, ef)| Op::Search(t, v, k, ef)),
        2 => (table(), vector(), 0..8u8).prop_map(|(t, v, d)| Op::Within(t, v, d)),
        2 => (table(), 1..7usize).prop_map(|(t, n)| Op::Scroll(t, n)),
        3 => (table(), key()).prop_map(|(t, k)| Op::Get(t, k)),
    ]
}

#[derive(Clone)]
struct ModelRow {
    /// What the codec makes of it.
    vector: Vec<f32>,
    metadata: Metadata,
    created_at: Option<u64>,
}

struct ModelTable {
    shape: (Codec, Distance, IndexKind),
    rows: BTreeMap<Vec<u8>, ModelRow>,
}

/// Where the store under test lives.
enum Home {
    Memory(Arc<dyn Backend>),
    File(TempPath, Durability),
}

impl Home {
    fn open(&self) -> VectorStore {
        match self {
            Self::Memory(backend) => VectorStore::open(backend.clone()).expect("it opens"),
            Self::File(place, durability) => {
                place.open_with(&OpenOptions::new().threads(1).durability(*durability))
            }
        }
    }
}

struct Model {
    home: Home,
    store: Option<VectorStore>,
    tables: BTreeMap<&'static str, ModelTable>,
}

fn name_of(key: Key) -> Vec<u8> {
    // Lengths differ, so that the order of keys is not the order of numbers.
    format!("{}{key}", "k".repeat(1 + usize::from(key % 3))).into_bytes()
}

fn floats(vector: Vector) -> Vec<f32> {
    vector.iter().map(|&x| f32::from(x) * 0.5).collect()
}

fn note(m: u8) -> Metadata {
    match m % 4 {
        0 => no_metadata(),
        // Beyond what is stored inside a row.
        1 => metadata("long", "x".repeat(600 + usize::from(m))),
        _ => metadata("m", m),
    }
}

impl Model {
    fn new(home: Home) -> Self {
        let store = Some(home.open());
        Self {
            home,
            store,
            tables: BTreeMap::new(),
        }
    }

    fn store(&self) -> &VectorStore {
        self.store.as_ref().expect("open between operations")
    }

    /// The table's handle, if the model has it; else the store must not have it either.
    fn table(&self, table: usize) -> Option<Table> {
        let handle = self.store().table(NAMES[table]);
        match self.tables.get(NAMES[table]) {
            Some(_) => Some(handle.expect("a table of the model")),
            None => {
                assert!(matches!(error_of(handle), StoreError::UnknownTable(_)));
                None
            }
        }
    }

    fn put(&mut self, table: usize, key: Key, vector: Vector, metadata: Metadata) -> bool {
        let table = self.tables.get_mut(NAMES[table]).expect("checked before");
        let encoder = table.shape.0.encoder();
        let encoded = encoder.encode(&floats(vector)).expect("small numbers");
        let vector = encoder.decode(&encoded).expect("just encoded");
        let old = table.rows.remove(&name_of(key));
        let created_at = old.as_ref().and_then(|row| row.created_at);
        let row = ModelRow {
            vector,
            metadata,
            created_at,
        };
        table.rows.insert(name_of(key), row);
        old.is_none()
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(t, shape) => {
                let shape = shapes()[*shape];
                let schema = schema(NAMES[*t], DIM as u16, shape.0, shape.1);
                let options = TableOptions::default().index(shape.2);
                let created = self.store().create_table_with(schema, options);
                if self.tables.contains_key(NAMES[*t]) {
                    assert!(matches!(error_of(created), StoreError::TableExists(_)));
                } else {
                    created.expect("a shape that fits");
                    let rows = BTreeMap::new();
                    self.tables.insert(NAMES[*t], ModelTable { shape, rows });
                }
            }
            Op::Drop(t) => {
                let dropped = self.store().drop_table(NAMES[*t]);
                match self.tables.remove(NAMES[*t]) {
                    Some(_) => dropped.expect("it was there"),
                    None => drop(error_of(dropped)),
                }
            }
            Op::Upsert(t, key, vector, m) => {
                let Some(table) = self.table(*t) else { return };
                table
                    .upsert(name_of(*key), &floats(*vector), note(*m))
                    .expect("an upsert");
                self.put(*t, *key, *vector, note(*m));
            }
            Op::UpsertMany(t, rows) => {
                let Some(table) = self.table(*t) else { return };
                let batch = rows
                    .iter()
                    .map(|(key, vector, m)| {
                        let mut row = new_row(name_of(*key), &floats(*vector));
                        row.metadata = note(*m);
                        row
                    })
                    .collect();
                let outcome = table.upsert_many(batch).expect("a batch");
                let keys: BTreeSet<_> = rows.iter().map(|row| row.0).collect();
                let mut inserted = 0;
                for (key, vector, m) in rows {
                    inserted += usize::from(self.put(*t, *key, *vector, note(*m)));
                }
                assert_eq!((outcome.inserted, outcome.deleted), (inserted, 0));
                assert_eq!(outcome.inserted + outcome.updated, keys.len());
            }
            Op::Batch(writes) => {
                let mut batch = WriteBatch::new();
                for (t, key, vector) in writes {
                    match vector {
                        Some(vector) => {
                            batch.upsert(NAMES[*t], name_of(*key), &floats(*vector), no_metadata())
                        }
                        None => batch.delete(NAMES[*t], name_of(*key)),
                    };
                }
                assert_eq!(batch.len(), writes.len());
                let written = self.store().write(batch);
                if writes
                    .iter()
                    .any(|write| !self.tables.contains_key(NAMES[write.0]))
                {
                    assert!(matches!(error_of(written), StoreError::UnknownTable(_)));
                    return;
                }
                written.expect("a batch");
                for (t, key, vector) in writes {
                    match vector {
                        Some(vector) => drop(self.put(*t, *key, *vector, no_metadata())),
                        None => {
                            let table = self.tables.get_mut(NAMES[*t]).expect("checked");
                            table.rows.remove(&name_of(*key));
                        }
                    }
                }
                // A delete and an upsert of one key in one batch may or may not keep its time.
                for (t, key, _) in writes {
                    let table = self.tables.get_mut(NAMES[*t]).expect("checked");
                    if let Some(row) = table.rows.get_mut(&name_of(*key)) {
                        row.created_at = None;
                    }
                }
            }
            Op::SetMetadata(t, key, m) => {
                let Some(table) = self.table(*t) else { return };
                let set = table.set_metadata(&name_of(*key), note(*m));
                let model = self.tables.get_mut(NAMES[*t]).expect("checked");
                match model.rows.get_mut(&name_of(*key)) {
                    Some(row) => {
                        set.expect("the row is there");
                        row.metadata = note(*m);
                    }
                    None => assert!(matches!(error_of(set), StoreError::RowNotFound { .. })),
                }
            }
            Op::Delete(t, key) => {
                let Some(table) = self.table(*t) else { return };
                let model = self.tables.get_mut(NAMES[*t]).expect("checked");
                let was = model.rows.remove(&name_of(*key)).is_some();
                assert_eq!(table.delete(&name_of(*key)).expect("a delete"), was);
            }
            Op::DeleteMany(t, keys) => {
                let Some(table) = self.table(*t) else { return };
                let model = self.tables.get_mut(NAMES[*t]).expect("checked");
                let names: Vec<_> = keys.iter().map(|&key| name_of(key)).collect();
                let were = names
                    .iter()
                    .filter(|&key| model.rows.remove(key).is_some())
                    .count();
                assert_eq!(table.delete_many(&names).expect("a delete"), were);
            }
            Op::Reopen => {
                let ask = |store: &VectorStore, name: &str| {
                    let queries = [vec![0.1, 0.2, 0.3], vec![-1.0, 0.5, 2.0]];
                    answers(
                        &store.table(name).expect(name),
                        &queries,
                        &SearchOptions::new(30),
                    )
                };
                let before: Vec<Answers> = self
                    .tables
                    .keys()
                    .map(|name| ask(self.store(), name))
                    .collect();
                let store = self.store.take().expect("open");
                match self.home {
                    // A closed backend stays closed; one that is let go can be opened again.
                    Home::Memory(_) => drop(store),
                    Home::File(..) => store.close().expect("a close"),
                }
                self.store = Some(self.home.open());
                let after: Vec<Answers> = self
                    .tables
                    .keys()
                    .map(|name| ask(self.store(), name))
                    .collect();
                // Tables this small are scanned: keys, bits and the order of ties are kept.
                assert_eq!(before, after);
            }
            Op::Exact(t, vector, k) => {
                let options = SearchOptions::new(*k).exact(true);
                self.search(*t, &floats(*vector), &options);
            }
            Op::Search(t, vector, k, ef) => {
                let options = SearchOptions::new(*k).ef(*ef).returning(Return::Rows);
                self.search(*t, &floats(*vector), &options);
            }
            Op::Within(t, vector, limit) => {
                // Between the steps of the grid, so that rounding decides nothing.
                let limit = f32::from(*limit) * 0.5 + 0.1234;
                let options = SearchOptions::new(30).max_distance(limit);
                self.search(*t, &floats(*vector), &options);
            }
            Op::Scroll(t, limit) => {
                let Some(table) = self.table(*t) else { return };
                let (mut got, mut after) = (Vec::new(), None);
                loop {
                    let page = table
                        .scroll(after.as_deref(), *limit, Return::Metadata)
                        .expect("a page");
                    assert!(page.rows.len() <= *limit);
                    got.extend(page.rows.into_iter().map(|row| (row.key, row.metadata)));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                let model = &self.tables[NAMES[*t]].rows;
                let wanted: Vec<_> = model
                    .iter()
                    .map(|(key, row)| (key.clone(), row.metadata.clone()))
                    .collect();
                assert_eq!(got, wanted);
            }
            Op::Get(t, key) => {
                let Some(table) = self.table(*t) else { return };
                let key = name_of(*key);
                let got = table.get(&key).expect("a get");
                let model = self.tables.get_mut(NAMES[*t]).expect("checked");
                let row = model.rows.get_mut(&key);
                assert_eq!(table.contains(&key).expect("a look"), row.is_some());
                assert_eq!(got.is_some(), row.is_some());
                if let (Some(got), Some(row)) = (got, row) {
                    assert_eq!(got.vector.decode().expect("whole"), row.vector);
                    assert_eq!(got.metadata, row.metadata);
                    assert!(got.updated_at >= got.created_at);
                    let created = *row.created_at.get_or_insert(got.created_at);
                    assert_eq!(got.created_at, created, "overwrites keep it");
                }
            }
        }
    }

    fn search(&self, t: usize, query: &[f32], options: &SearchOptions) {
        let Some(table) = self.table(t) else { return };
        let model = &self.tables[NAMES[t]];
        let distance = model.shape.1;
        let hits = table.search(query, options).expect("a search");
        let far: HashMap<&[u8], f64> = model
            .rows
            .iter()
            .map(|(key, row)| (key.as_slice(), true_distance(distance, query, &row.vector)))
            .collect();
        let mut wanted: Vec<f64> = far.values().copied().collect();
        wanted.sort_by(f64::total_cmp);
        if let Some(limit) = options.max_distance {
            // The limit is on no grid point, but cosines are on no grid.
            if wanted.iter().any(|d| (d - f64::from(limit)).abs() < 1e-4) {
                return;
            }
            wanted.retain(|&d| d <= f64::from(limit));
        }
        wanted.truncate(options.k);
        assert_eq!(hits.len(), wanted.len(), "{:?} {options:?}", model.shape);
        let keys: BTreeSet<_> = hits.iter().map(|hit| &hit.key).collect();
        assert_eq!(keys.len(), hits.len(), "a row came twice");
        for (hit, wanted) in hits.iter().zip(wanted) {
            let said = f64::from(hit.distance);
            let own = far[hit.key.as_slice()];
            assert!(
                (said - own).abs() <= 1e-4,
                "{:?}: {said}, really {own}",
                model.shape
            );
            assert!(
                (said - wanted).abs() <= 1e-4,
                "{:?}: {said}, not {wanted}",
                model.shape
            );
            let row = hit.row.as_ref().expect("metadata at least");
            assert_eq!(row.metadata, model.rows[&hit.key].metadata);
            if options.returning == Return::Rows {
                assert_eq!(
                    row.vector.decode().expect("whole"),
                    model.rows[&hit.key].vector
                );
            }
        }
        assert!(
            hits.windows(2)
                .all(|pair| pair[0].distance <= pair[1].distance)
        );
    }

    /// What must hold at all times.
    fn holds(&self) {
        let names: Vec<_> = self.store().tables().into_iter().map(|s| s.name).collect();
        assert!(names.iter().eq(self.tables.keys()), "{names:?}");
        for (name, model) in &self.tables {
            let table = self.store().table(name).expect("it is listed");
            assert_eq!(table.count().expect("a count"), model.rows.len());
            let stats = table.stats().expect("stats");
            assert_eq!(
                (stats.live_rows, stats.tracked_rows),
                (model.rows.len(), model.rows.len())
            );
        }
        let report = self.store().check().expect("a check");
        assert!(report.is_clean(), "{:#?}", report.problems);
    }

    fn run(home: Home, ops: &[Op]) {
        let mut model = Self::new(home);
        // Something to work on from the start.
        model.apply(&Op::Create(0, 0));
        for (step, op) in ops.iter().enumerate() {
            model.apply(op);
            if step % 7 == 6 {
                model.holds();
            }
        }
        model.apply(&Op::Reopen);
        model.holds();
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn in_memory_it_is_the_model(ops in prop::collection::vec(op(), 60)) {
        Model::run(Home::Memory(Arc::new(MemoryBackend::new())), &ops);
    }

    #[test]
    fn in_a_file_it_is_the_model(ops in prop::collection::vec(op(), 60)) {
        Model::run(Home::File(TempPath::new(), Durability::Volatile), &ops);
    }
}

proptest! {
    // Every commit waits for the disk here.
    #![proptest_config(config(20))]

    #[test]
    fn in_a_durable_file_it_is_the_model(ops in prop::collection::vec(op(), 60)) {
        Model::run(Home::File(TempPath::new(), Durability::Immediate), &ops);
    }
}

/// The same where there is a graph: a long churn over real vectors.
#[test]
fn a_graph_holds_through_a_long_churn() {
    const K: usize = 10;
    let pool = Set::load("glove4k", Distance::Euclidean);
    let queries = &pool.queries[..25];
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let store = VectorStore::open(backend.clone()).unwrap();
    let table = common::stores::create(
        &store,
        pool.dim(),
        Codec::Int8Quantized,
        pool.distance,
        IndexKind::Hnsw,
    );
    fill(&table, &pool.base[..2600]);
    // Which vector of the pool each row holds.
    let mut model: BTreeMap<usize, usize> = (0..2600).map(|row| (row, row)).collect();
    let mut rng = Rng::new(11);
    let holds = |table: &Table, model: &BTreeMap<usize, usize>, round: usize| {
        assert_clean(table);
        assert_eq!(table.count().unwrap(), model.len());
        let live: Vec<_> = model.values().map(|&at| pool.base[at].clone()).collect();
        let truth = Set::brute(live, queries.to_vec(), pool.distance, K);
        let position: HashMap<usize, usize> = model
            .keys()
            .enumerate()
            .map(|(place, &row)| (row, place))
            .collect();
        let reached = |options: SearchOptions| {
            let found = answers(table, queries, &options);
            let sum: f64 = found
                .iter()
                .enumerate()
                .map(|(query, hits)| {
                    let places: Vec<_> =
                        hits.iter().map(|(key, _)| position[&row_of(key)]).collect();
                    assert_eq!(places.len(), K);
                    truth.recall_by_distance(query, &places, K)
                })
                .sum();
            sum / queries.len() as f64
        };
        let exact = reached(SearchOptions::new(K).exact(true));
        let graph = reached(SearchOptions::new(K).ef(64));
        println!(
            "round {round}: {} rows, exact {exact:.3}, graph {graph:.3}",
            model.len()
        );
        assert!(exact >= 0.97, "round {round}: exact {exact}");
        assert!(graph >= 0.95, "round {round}: graph {graph}");
    };
    for round in 0..200 {
        // The table shrinks and grows across the 2,000 rows where graphs begin.
        let grows = round / 40 % 2 == 1;
        let (puts, deletes) = if grows { (45, 10) } else { (15, 35) };
        let mut batch = Vec::new();
        for _ in 0..puts {
            let (row, at) = (rng.below(4000), rng.below(pool.base.len()));
            batch.push(new_row(key_of(row), &pool.base[at]));
            model.insert(row, at);
        }
        table.upsert_many(batch).unwrap();
        let mut gone = BTreeSet::new();
        while gone.len() < deletes {
            let nth = rng.below(model.len());
            gone.insert(*model.keys().nth(nth).unwrap());
        }
        let keys: Vec<_> = gone.iter().map(|&row| key_of(row)).collect();
        assert_eq!(table.delete_many(&keys).unwrap(), keys.len());
        model.retain(|row, _| !gone.contains(row));
        let row = rng.below(4000);
        let known = model.contains_key(&row);
        assert_eq!(table.contains(&key_of(row)).unwrap(), known);
        if round % 40 == 39 {
            holds(&table, &model, round);
        }
    }
    drop((table, store));
    let table = VectorStore::open(backend).unwrap().table("t").unwrap();
    holds(&table, &model, 200);
}
