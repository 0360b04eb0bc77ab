//! What the fault tests share: random operations, the model that says what a store must hold, and
//! the checks of what it holds (INV) as one function.

#![allow(dead_code)]

pub(crate) mod raw;
#[cfg(feature = "testing")]
pub(crate) mod sim;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use vecstash::{
    Codec, Distance, EncodedVector, HnswParams, IndexKind, Metadata, NewRow, Return, RowKey,
    SearchOptions, StoreError, TableOptions, TableSchema, VectorRow, VectorStore, WriteBatch,
};

/// SplitMix64: the same numbers on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// In [-1, 1).
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn vector(&mut self, dim: usize) -> Vec<f32> {
        (0..dim).map(|_| self.float()).collect()
    }
}

/// A seed from the environment (`VECSTASH_SEED`), else the given one. Print it on failure.
pub(crate) fn seed(default: u64) -> u64 {
    number("VECSTASH_SEED", default)
}

/// A count from the environment, else the given one.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

// ---------------------------------------------------------------------------------------------
// The model

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ModelRow {
    pub(crate) vector: EncodedVector,
    pub(crate) metadata: Metadata,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ModelTable {
    pub(crate) schema: TableSchema,
    pub(crate) options: TableOptions,
    pub(crate) rows: BTreeMap<RowKey, ModelRow>,
}

impl ModelTable {
    fn put(&mut self, row: &NewRow) {
        let vector = self
            .schema
            .codec
            .encoder()
            .encode(&row.vector)
            .expect("the generator writes vectors that encode");
        self.rows.insert(
            row.key.clone(),
            ModelRow {
                vector,
                metadata: row.metadata.clone(),
            },
        );
    }
}

/// What a store holds: its tables by name.
pub(crate) type State = BTreeMap<String, ModelTable>;

/// One part of a batch.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Item {
    Upsert(String, NewRow),
    SetMetadata(String, RowKey, Metadata),
    Delete(String, RowKey),
}

/// One change as a caller makes it: one transaction, acknowledged or not.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Op {
    Create(TableSchema, TableOptions),
    Upsert(String, NewRow),
    UpsertMany(String, Vec<NewRow>),
    SetMetadata(String, RowKey, Metadata),
    Delete(String, RowKey),
    DeleteMany(String, Vec<RowKey>),
    Batch(Vec<Item>),
    Drop(String),
    /// Close and open again. Changes nothing; whoever runs operations does it.
    Reopen,
}

impl Op {
    /// Makes the change in the model.
    pub(crate) fn apply(&self, state: &mut State) {
        fn table<'a>(state: &'a mut State, name: &str) -> &'a mut ModelTable {
            state
                .get_mut(name)
                .expect("the generator names tables that exist")
        }
        match self {
            Op::Create(schema, options) => {
                let table = ModelTable {
                    schema: schema.clone(),
                    options: options.clone(),
                    rows: BTreeMap::new(),
                };
                state.insert(schema.name.clone(), table);
            }
            Op::Upsert(name, row) => table(state, name).put(row),
            Op::UpsertMany(name, rows) => {
                let table = table(state, name);
                rows.iter().for_each(|row| table.put(row));
            }
            Op::SetMetadata(name, key, metadata) => {
                table(state, name)
                    .rows
                    .get_mut(key)
                    .expect("the generator names rows that exist")
                    .metadata = metadata.clone();
            }
            Op::Delete(name, key) => {
                table(state, name).rows.remove(key);
            }
            Op::DeleteMany(name, keys) => {
                let table = table(state, name);
                for key in keys {
                    table.rows.remove(key);
                }
            }
            Op::Batch(items) => {
                for item in items {
                    match item.clone() {
                        Item::Upsert(name, row) => Op::Upsert(name, row).apply(state),
                        Item::SetMetadata(name, key, metadata) => {
                            Op::SetMetadata(name, key, metadata).apply(state);
                        }
                        Item::Delete(name, key) => Op::Delete(name, key).apply(state),
                    }
                }
            }
            Op::Drop(name) => {
                state
                    .remove(name)
                    .expect("the generator drops tables that exist");
            }
            Op::Reopen => {}
        }
    }

    /// Makes the change in a store. `Ok` is the acknowledgement.
    pub(crate) fn run(&self, store: &VectorStore) -> Result<(), StoreError> {
        match self {
            Op::Create(schema, options) => {
                if *options == TableOptions::default() {
                    store.create_table(schema.clone())
                } else {
                    store
                        .create_table_with(schema.clone(), options.clone())
                        .map(drop)
                }
            }
            Op::Upsert(name, row) => {
                store.upsert(name, row.key.clone(), &row.vector, row.metadata.clone())
            }
            Op::UpsertMany(name, rows) => store.table(name)?.upsert_many(rows.clone()).map(drop),
            Op::SetMetadata(name, key, metadata) => {
                store.table(name)?.set_metadata(key, metadata.clone())
            }
            Op::Delete(name, key) => store.delete(name, key).map(drop),
            Op::DeleteMany(name, keys) => store.table(name)?.delete_many(keys).map(drop),
            Op::Batch(items) => {
                let mut batch = WriteBatch::new();
                for item in items {
                    match item {
                        Item::Upsert(name, row) => {
                            batch.upsert(name, row.key.clone(), &row.vector, row.metadata.clone())
                        }
                        Item::SetMetadata(name, key, metadata) => {
                            batch.set_metadata(name, key.clone(), metadata.clone())
                        }
                        Item::Delete(name, key) => batch.delete(name, key.clone()),
                    };
                }
                store.write(batch).map(drop)
            }
            Op::Drop(name) => store.drop_table(name),
            Op::Reopen => Ok(()),
        }
    }

    /// A word for messages.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Op::Create(..) => "create",
            Op::Upsert(..) => "upsert",
            Op::UpsertMany(..) => "upsert_many",
            Op::SetMetadata(..) => "set_metadata",
            Op::Delete(..) => "delete",
            Op::DeleteMany(..) => "delete_many",
            Op::Batch(..) => "batch",
            Op::Drop(..) => "drop",
            Op::Reopen => "reopen",
        }
    }
}

/// What a crashed store must hold: everything acknowledged, and at most the one in flight besides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) acked: State,
    pub(crate) in_flight: Option<Op>,
}

// ---------------------------------------------------------------------------------------------
// Random operations

/// A schema for tests: name, dimension, codec, distance.
pub(crate) fn schema(name: &str, dim: u16, codec: Codec, distance: Distance) -> TableSchema {
    TableSchema {
        name: name.to_string(),
        dim,
        codec,
        distance,
        hnsw: HnswParams::default(),
    }
}

/// The tables the generator knows; each name has one description.
pub(crate) fn known_tables() -> Vec<(TableSchema, TableOptions)> {
    let flat = TableOptions::default().index(IndexKind::Flat);
    let mut tables = vec![
        (schema("flat", 4, Codec::F32, Distance::Euclidean), flat),
        (
            schema("int8", 8, Codec::Int8Quantized, Distance::Cosine),
            TableOptions::default(),
        ),
        (
            schema("rows/1", 6, Codec::Fp16, Distance::DotProduct),
            TableOptions::default(),
        ),
    ];
    if cfg!(feature = "turbo") {
        tables.push((
            schema("turbo \u{e9}", 8, Codec::Turbovec4Bit, Distance::Euclidean),
            TableOptions::default(),
        ));
    }
    tables
}

fn random_key(rng: &mut Rng) -> RowKey {
    let n = rng.below(64);
    match n % 8 {
        0 => vec![0, n as u8, 255],
        1 => format!("a longer key, number {n}, {}", "x".repeat(n)).into_bytes(),
        _ => format!("k{n:02}").into_bytes(),
    }
}

fn random_metadata(rng: &mut Rng) -> Metadata {
    let mut metadata = Metadata::new();
    match rng.below(10) {
        0..=2 => {}
        3 => {
            // Beyond the 512 bytes that stay inside a row.
            let len = 600 + rng.below(3_000);
            metadata.insert("answer".into(), json!("y".repeat(len)));
            metadata.insert("n".into(), json!(rng.below(1_000)));
        }
        _ => {
            metadata.insert("n".into(), json!(rng.below(1_000_000)));
            metadata.insert(
                "x".into(),
                json!([f64::from(rng.float()), null, {"b": true}]),
            );
        }
    }
    metadata
}

/// A row for `key`. Few vectors a key, so that the same vector is written again at times.
fn random_row(rng: &mut Rng, dim: u16, key: RowKey) -> NewRow {
    let version = rng.below(6) as u64;
    let of_key = key.iter().fold(17u64, |sum, &byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    NewRow {
        vector: Rng::new(of_key ^ (version << 56)).vector(usize::from(dim)),
        metadata: random_metadata(rng),
        key,
    }
}

fn pick_existing(rng: &mut Rng, table: &ModelTable) -> Option<RowKey> {
    let n = table.rows.len();
    (n > 0).then(|| {
        table
            .rows
            .keys()
            .nth(rng.below(n))
            .cloned()
            .expect("below the length")
    })
}

/// The next operation: a function of the generator and of the keys in `state` alone, so that a
/// parent process can follow its child.
pub(crate) fn random_op(rng: &mut Rng, state: &State, reopens: bool) -> Op {
    let missing: Vec<_> = known_tables()
        .into_iter()
        .filter(|(schema, _)| !state.contains_key(&schema.name))
        .collect();
    let dice = rng.below(100);
    if state.is_empty() || (!missing.is_empty() && dice >= 88) {
        let (schema, options) = missing[rng.below(missing.len())].clone();
        return Op::Create(schema, options);
    }
    let at = rng.below(state.len());
    let (name, table) = state.iter().nth(at).expect("below the length");
    let name = name.clone();
    let dim = table.schema.dim;
    match dice {
        0..=3 => Op::Drop(name),
        4..=6 if reopens => Op::Reopen,
        7..=18 => match pick_existing(rng, table) {
            Some(key) => Op::Delete(name, key),
            None => Op::Delete(name, b"never there".to_vec()),
        },
        19..=22 => {
            let keys: BTreeSet<_> = (0..4).filter_map(|_| pick_existing(rng, table)).collect();
            Op::DeleteMany(name, keys.into_iter().collect())
        }
        23..=34 => match pick_existing(rng, table) {
            Some(key) => Op::SetMetadata(name, key, random_metadata(rng)),
            None => {
                let key = random_key(rng);
                Op::Upsert(name, random_row(rng, dim, key))
            }
        },
        35..=48 => {
            let n = 2 + rng.below(20);
            let mut rows = Vec::new();
            for _ in 0..n {
                // A key may come twice: the last wins.
                let key = random_key(rng);
                rows.push(random_row(rng, dim, key));
            }
            Op::UpsertMany(name, rows)
        }
        49..=62 => {
            let mut items = Vec::new();
            for (name, table) in state.iter().cycle().skip(at).take(2.min(state.len())) {
                let mut used = BTreeSet::new();
                for _ in 0..1 + rng.below(6) {
                    let existing = pick_existing(rng, table);
                    let kind = rng.below(4);
                    let item = match (kind, existing) {
                        (0, Some(key)) if used.insert(key.clone()) => {
                            Item::SetMetadata(name.clone(), key, random_metadata(rng))
                        }
                        (1, Some(key)) if used.insert(key.clone()) => {
                            Item::Delete(name.clone(), key)
                        }
                        _ => {
                            let key = random_key(rng);
                            if !used.insert(key.clone()) {
                                continue;
                            }
                            let row = random_row(rng, table.schema.dim, key);
                            Item::Upsert(name.clone(), row)
                        }
                    };
                    items.push(item);
                }
            }
            Op::Batch(items)
        }
        _ => {
            let key = random_key(rng);
            Op::Upsert(name, random_row(rng, dim, key))
        }
    }
}

/// A workload of `n` operations from an empty store, and the state before each and after all:
/// `states[i]` holds what operations `0..i` left.
pub(crate) fn workload(seed: u64, n: usize, reopens: bool) -> (Vec<Op>, Vec<State>) {
    let mut rng = Rng::new(seed);
    let mut states = vec![State::new()];
    let mut ops = Vec::new();
    for _ in 0..n {
        let mut state = states.last().expect("never empty").clone();
        let op = random_op(&mut rng, &state, reopens);
        op.apply(&mut state);
        ops.push(op);
        states.push(state);
    }
    (ops, states)
}

// ---------------------------------------------------------------------------------------------
// INV

/// A table as a store shows it, timestamps and all.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SeenTable {
    pub(crate) schema: TableSchema,
    pub(crate) options: TableOptions,
    pub(crate) rows: BTreeMap<RowKey, VectorRow>,
}

pub(crate) type Seen = BTreeMap<String, SeenTable>;

/// Every table and row of a store, by its public face.
pub(crate) fn observe(store: &VectorStore) -> Result<Seen, StoreError> {
    let mut seen = Seen::new();
    for schema in store.tables() {
        let table = store.table(&schema.name)?;
        let mut rows = BTreeMap::new();
        let mut after: Option<RowKey> = None;
        loop {
            let page = table.scroll(after.as_deref(), 37, Return::Rows)?;
            for row in page.rows {
                rows.insert(row.key.clone(), row);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let options = table.options().clone();
        seen.insert(
            schema.name.clone(),
            SeenTable {
                schema,
                options,
                rows,
            },
        );
    }
    Ok(seen)
}

/// The model's view of what was seen.
pub(crate) fn as_state(seen: &Seen) -> State {
    seen.iter()
        .map(|(name, table)| {
            let rows = table
                .rows
                .iter()
                .map(|(key, row)| {
                    let row = ModelRow {
                        vector: row.vector.clone(),
                        metadata: row.metadata.clone(),
                    };
                    (key.clone(), row)
                })
                .collect();
            let table = ModelTable {
                schema: table.schema.clone(),
                options: table.options.clone(),
                rows,
            };
            (name.clone(), table)
        })
        .collect()
}

/// The first difference between what a store holds and what it should, in words.
pub(crate) fn difference(seen: &State, want: &State) -> Option<String> {
    for name in want.keys() {
        if !seen.contains_key(name) {
            return Some(format!("table {name:?} is missing"));
        }
    }
    for (name, table) in seen {
        let Some(wanted) = want.get(name) else {
            return Some(format!(
                "table {name:?} should not be there, with {} rows",
                table.rows.len()
            ));
        };
        if table.schema != wanted.schema || table.options != wanted.options {
            return Some(format!(
                "table {name:?} has another schema or other options"
            ));
        }
        for key in wanted.rows.keys() {
            if !table.rows.contains_key(key) {
                let shown = key.escape_ascii();
                return Some(format!("table {name:?}: row \"{shown}\" is missing"));
            }
        }
        for (key, row) in &table.rows {
            let shown = key.escape_ascii();
            match wanted.rows.get(key) {
                None => {
                    return Some(format!(
                        "table {name:?}: row \"{shown}\" should not be there"
                    ));
                }
                Some(wanted) if wanted.vector != row.vector => {
                    return Some(format!(
                        "table {name:?}: row \"{shown}\" has another vector: {:?}, not {:?}",
                        row.vector, wanted.vector
                    ));
                }
                Some(wanted) if wanted.metadata != row.metadata => {
                    return Some(format!(
                        "table {name:?}: row \"{shown}\" has other metadata"
                    ));
                }
                Some(_) => {}
            }
        }
    }
    None
}

/// The distance in f64, from the definition.
pub(crate) fn true_distance(distance: Distance, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let dot: f64 = pairs().map(|(a, b)| a * b).sum();
    match distance {
        Distance::Euclidean => pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
        Distance::Cosine => {
            let norms = pairs().map(|(a, _)| a * a).sum::<f64>().sqrt()
                * pairs().map(|(_, b)| b * b).sum::<f64>().sqrt();
            if norms == 0.0 { 1.0 } else { 1.0 - dot / norms }
        }
        _ => -dot,
    }
}

/// How far a distance computed in f32 may be from the true one. Generous for Euclidean, where
/// `|a|^2 + |b|^2 - 2ab` near zero loses half its digits under the root.
pub(crate) fn tolerance(distance: Distance, a: &[f32], b: &[f32]) -> f64 {
    let square = |v: &[f32]| v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    let scale = square(a).max(square(b));
    match distance {
        Distance::Euclidean => 4e-3 * scale.sqrt() + 1e-6,
        Distance::Cosine => 1e-4,
        _ => 1e-4 * scale + 1e-6,
    }
}

fn decode(vector: &EncodedVector) -> Result<Vec<f32>, String> {
    vector
        .codec
        .encoder()
        .decode(vector)
        .map_err(|error| format!("a stored vector does not decode: {error}"))
}

/// (d): the keys of the index are the keys of the rows, and a search by each sampled stored
/// vector finds it at its own distance.
fn check_index(store: &VectorStore, name: &str, seen: &SeenTable) -> Result<(), String> {
    let fail = |what: &str, error: StoreError| format!("table {name:?}: {what}: {}", error.chain());
    let table = store.table(name).map_err(|error| fail("table", error))?;
    let rows = seen.rows.len();
    let count = table.count().map_err(|error| fail("count", error))?;
    let stats = table.stats().map_err(|error| fail("stats", error))?;
    if count != rows || stats.live_rows != rows || stats.tracked_rows != rows {
        return Err(format!(
            "table {name:?}: {rows} rows by scroll, {count} by count, {} live, {} tracked",
            stats.live_rows, stats.tracked_rows
        ));
    }
    if stats.quarantined_rows != 0 {
        return Err(format!(
            "table {name:?}: {} rows quarantined",
            stats.quarantined_rows
        ));
    }
    let distance = seen.schema.distance;
    let step = (rows / 8).max(1);
    let queries: Vec<Vec<f32>> = if rows == 0 {
        vec![vec![0.5; usize::from(seen.schema.dim)]]
    } else {
        let sampled = seen.rows.values().step_by(step);
        sampled
            .map(|row| decode(&row.vector))
            .collect::<Result<_, _>>()?
    };
    let sampled: Vec<&RowKey> = seen.rows.keys().step_by(step).collect();
    for (at, query) in queries.iter().enumerate() {
        for exact in [true, false] {
            let options = SearchOptions::new(rows + 5)
                .exact(exact)
                .returning(Return::Keys);
            let hits = table
                .search(query, &options)
                .map_err(|error| fail("search", error))?;
            let keys: BTreeSet<&[u8]> = hits.iter().map(|hit| hit.key.as_slice()).collect();
            if keys.len() != hits.len() {
                return Err(format!("table {name:?}: a search returned a key twice"));
            }
            if keys.len() != rows || !seen.rows.keys().all(|key| keys.contains(key.as_slice())) {
                return Err(format!(
                    "table {name:?}: a search for all rows (exact: {exact}) found {} keys of {rows}",
                    keys.len()
                ));
            }
            if hits
                .windows(2)
                .any(|pair| pair[0].distance > pair[1].distance)
            {
                return Err(format!("table {name:?}: hits are not in order of distance"));
            }
            for hit in &hits {
                let stored = decode(&seen.rows[&hit.key].vector)?;
                let want = true_distance(distance, query, &stored);
                let off = (f64::from(hit.distance) - want).abs();
                if off.is_nan() || off > tolerance(distance, query, &stored) {
                    return Err(format!(
                        "table {name:?}: row \"{}\" at distance {}, truly {want} (exact: {exact}, \
                         sampled row \"{}\")",
                        hit.key.escape_ascii(),
                        hit.distance,
                        sampled[at].escape_ascii()
                    ));
                }
            }
        }
    }
    Ok(())
}

/// (g): `check()` is clean, and has read every row.
fn check_clean(store: &VectorStore, rows: usize) -> Result<(), String> {
    let report = store
        .check()
        .map_err(|error| format!("check: {}", error.chain()))?;
    if !report.is_clean() {
        return Err(format!("check found {:?}", report.problems));
    }
    if report.rows != rows as u64 {
        return Err(format!("check read {} rows of {rows}", report.rows));
    }
    Ok(())
}

/// (e): the store takes a write into every table and takes it back; without tables it takes one.
fn check_writable(store: &VectorStore, seen: &Seen) -> Result<(), String> {
    let fail = |what: &str, error: StoreError| format!("not writable: {what}: {}", error.chain());
    const PROBE: &[u8] = b"~probe of the fault tests";
    if seen.is_empty() {
        let probe = schema("~probe", 2, Codec::F32, Distance::Euclidean);
        store
            .create_table(probe)
            .map_err(|error| fail("create", error))?;
        return store
            .drop_table("~probe")
            .map_err(|error| fail("drop", error));
    }
    let mut put = WriteBatch::new();
    let mut take = WriteBatch::new();
    for (name, table) in seen {
        let vector = vec![0.25; usize::from(table.schema.dim)];
        put.upsert(name, PROBE.to_vec(), &vector, Metadata::new());
        take.delete(name, PROBE.to_vec());
    }
    let outcome = store.write(put).map_err(|error| fail("write", error))?;
    if outcome.inserted != seen.len() {
        return Err(format!(
            "a probe row into {} tables: {outcome:?}",
            seen.len()
        ));
    }
    for name in seen.keys() {
        match store.get(name, PROBE) {
            Ok(Some(_)) => {}
            Ok(None) => return Err(format!("table {name:?}: the probe row is not there")),
            Err(error) => return Err(fail("get", error)),
        }
    }
    let outcome = store.write(take).map_err(|error| fail("delete", error))?;
    if outcome.deleted != seen.len() {
        return Err(format!("deleting {} probe rows: {outcome:?}", seen.len()));
    }
    Ok(())
}

/// INV (a) to (d) and (g) on one open store. Returns what it holds.
pub(crate) fn check_inv(store: &VectorStore, model: &Model) -> Result<Seen, String> {
    let seen = observe(store).map_err(|error| format!("cannot read it back: {}", error.chain()))?;
    let state = as_state(&seen);
    if let Some(without) = difference(&state, &model.acked) {
        let Some(op) = &model.in_flight else {
            return Err(format!("not what was acknowledged: {without}"));
        };
        let mut with_flight = model.acked.clone();
        op.apply(&mut with_flight);
        if let Some(with) = difference(&state, &with_flight) {
            return Err(format!(
                "neither without the {} in flight ({without}) nor with the whole of it ({with})",
                op.word()
            ));
        }
    }
    for (name, table) in &seen {
        check_index(store, name, table)?;
    }
    check_clean(store, seen.values().map(|table| table.rows.len()).sum())?;
    Ok(seen)
}

/// The whole of INV: (a) to (g), the second reopen (f) and the writes (e) included. Returns the
/// state the store was found in, which is also the state it is left in.
pub(crate) fn check_inv_fully(
    open: &mut dyn FnMut() -> Result<VectorStore, StoreError>,
    model: &Model,
) -> Result<State, String> {
    let mut reopen =
        |which: &str| open().map_err(|error| format!("the {which} open failed: {}", error.chain()));
    let store = reopen("first")?;
    let first = check_inv(&store, model)?;
    store
        .close()
        .map_err(|error| format!("close: {}", error.chain()))?;
    let store = reopen("second")?;
    let second = observe(&store).map_err(|error| format!("second reading: {}", error.chain()))?;
    if first != second {
        return Err(match difference(&as_state(&second), &as_state(&first)) {
            Some(what) => format!("the second open differs: {what}"),
            None => "the second open differs in timestamps".to_string(),
        });
    }
    check_writable(&store, &first)?;
    let settled = Model {
        acked: as_state(&first),
        in_flight: None,
    };
    let third = check_inv(&store, &settled).map_err(|error| format!("after a probe: {error}"))?;
    if third != first {
        return Err("a probe row left a trace in the timestamps of others".to_string());
    }
    store
        .close()
        .map_err(|error| format!("close: {}", error.chain()))?;
    Ok(settled.acked)
}

// ---------------------------------------------------------------------------------------------
// Small helpers

/// Runs `f` on two threads over `0..n`, every other number each; the first error wins.
pub(crate) fn on_two_threads<T: Send>(
    n: usize,
    f: impl Fn(usize) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    std::thread::scope(|scope| {
        let f = &f;
        let halves: Vec<_> = (0..2)
            .map(|half| {
                scope.spawn(move || (half..n).step_by(2).map(f).collect::<Result<Vec<_>, _>>())
            })
            .collect();
        let mut all = Vec::new();
        for half in halves {
            match half.join() {
                Ok(part) => all.extend(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}

/// A store at `path` with `n` rows in each known table, closed again. Returns what it holds.
pub(crate) fn make_store(path: &std::path::Path, seed: u64, n: usize) -> Result<Seen, StoreError> {
    let store = VectorStore::open_path(path)?;
    fill(&store, seed, n)?;
    let seen = observe(&store)?;
    store.close()?;
    Ok(seen)
}

/// Creates every known table and writes `n` rows into each.
pub(crate) fn fill(store: &VectorStore, seed: u64, n: usize) -> Result<(), StoreError> {
    let mut rng = Rng::new(seed);
    for (schema, options) in known_tables() {
        let dim = schema.dim;
        let table = store.create_table_with(schema, options)?;
        let rows = (0..n)
            .map(|i| random_row(&mut rng, dim, format!("row {i:04}").into_bytes()))
            .collect();
        table.upsert_many(rows)?;
    }
    Ok(())
}
